#!/bin/bash
# From reset to power-off in lockstep with the interpreter, without a difference: check.sh TIERCE [options]
# Instructions make the time, so that each run compares the same.
. "$(dirname "$0")/session.sh"
tierce=$1
shift
input kernel cloud; kernel=$input
input initrd busybox; initrd=$input
run='RUN="uname -a; ls -l /proc /bin; cat /proc/cpuinfo; head -c 100000 /dev/urandom | md5sum; ( sleep 1; echo slept ); poweroff -f"'
status=0
timeout "$seconds" "$tierce" -m 256 -kernel "$kernel" -initrd "$initrd" -append "console=ttyS0 quiet panic=-1 $run" -nographic -no-reboot \
  --icount --check=interp --stats=json "$@" > "$dir/out" 2> "$dir/err" < /dev/null || status=$?
cat "$dir/err" >> "$dir/out"
[ $status = 0 ] || fail "ended with status $status"
grep -qa "^slept" "$dir/out" || fail "it did not come to its end"
compared=$(sed -n 's/.*"check_insns":\([0-9]*\).*/\1/p' "$dir/err")
[ "${compared:-0}" -gt 500000000 ] || fail "only ${compared:-no} instructions were compared"
echo "check.sh: $compared instructions, without a difference: passed"
