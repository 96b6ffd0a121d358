#!/bin/bash
# With --icount two runs print the same, byte for byte, kernel messages with their times and all, and so does another tier whose code
# is evicted all the time: icount.sh TIERCE [options]
. "$(dirname "$0")/session.sh"
tierce=$1
shift
input kernel cloud; kernel=$input
input initrd busybox; initrd=$input
run='RUN="cat /proc/uptime /proc/interrupts; head -c 64 /dev/urandom | hexdump; for i in 1 2 3; do sleep 0.3; date +%s; done; poweroff -f"'
for i in 1 2 3; do
  status=0
  [ $i = 3 ] && set -- "$@" --tier=tcg --tb-size=4
  timeout "$seconds" "$tierce" -m 256 -kernel "$kernel" -initrd "$initrd" -append "console=ttyS0 panic=-1 $run" -nographic -no-reboot \
    --icount "$@" > "$dir/out" 2>&1 < /dev/null || status=$?
  [ $status = 0 ] || fail "run $i ended with status $status"
  grep -qa "tierce guest ready" "$dir/out" && grep -qa "ttyS0" "$dir/out" || fail "run $i did not come to its end"
  mv "$dir/out" "$dir/out$i"
  [ $i = 1 ] && sleep 1.1 # the host's clock moves on
done
for i in 2 3; do
  cmp "$dir/out1" "$dir/out$i" && continue
  diff -a "$dir/out1" "$dir/out$i" | head -20
  exit 1
done
echo "icount.sh: three runs, $(wc -c < "$dir/out1") bytes each: passed"
