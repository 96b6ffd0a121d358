#!/bin/bash
# Standard input may be a file, /dev/null or closed: input.sh TIERCE
. "$(dirname "$0")/session.sh"
input kernel cloud; kernel=$input
input initrd busybox; initrd=$input
run() { # run WHAT COMMAND-LINE: its input is this function's
  local status=0
  timeout "$seconds" "$tierce" -m 256 -kernel "$kernel" -initrd "$initrd" -append "console=ttyS0 panic=-1 quiet $2" -nographic \
    -no-reboot > "$dir/out" 2>&1 || status=$?
  [ $status = 0 ] || fail "with $1 it ended with status $status"
  grep -qaF "answer: 42" "$dir/out" || fail "with $1 no answer came"
}
tierce=$1
# What comes before the guest's driver has set the port up is lost, as on a PC.
{ for i in $(seq 100); do echo '# nothing'; done; echo 'echo answer: $((6 * 7))'; echo 'poweroff -f'; } > "$dir/script"
run "a file" "" < "$dir/script"
auto='RUN="echo answer: $((6*7)); poweroff -f"'
run "/dev/null" "$auto" < /dev/null
run "closed input" "$auto" <&-
echo "input.sh: 3 passed"
