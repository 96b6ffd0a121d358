#!/bin/bash
# With --icount two runs print the same, byte for byte, kernel messages with their times and all: icount.sh TIERCE [options]
. "$(dirname "$0")/session.sh"
tierce=$1
shift
input kernel cloud; kernel=$input
input initrd busybox; initrd=$input
run='RUN="cat /proc/uptime /proc/interrupts; head -c 64 /dev/urandom | hexdump; for i in 1 2 3; do sleep 0.3; date +%s; done; poweroff -f"'
for i in 1 2; do
  status=0
  timeout "$seconds" "$tierce" -m 256 -kernel "$kernel" -initrd "$initrd" -append "console=ttyS0 panic=-1 $run" -nographic -no-reboot \
    --icount "$@" > "$dir/out" 2>&1 < /dev/null || status=$?
  [ $status = 0 ] || fail "run $i ended with status $status"
  grep -qa "tierce guest ready" "$dir/out" && grep -qa "ttyS0" "$dir/out" || fail "run $i did not come to its end"
  mv "$dir/out" "$dir/out$i"
  [ $i = 1 ] && sleep 1.1 # the host's clock moves on
done
if ! cmp "$dir/out1" "$dir/out2"; then
  diff -a "$dir/out1" "$dir/out2" | head -20
  exit 1
fi
echo "icount.sh: two runs, $(wc -c < "$dir/out1") bytes each: passed"
