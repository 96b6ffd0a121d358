#!/bin/bash
# A boot during which the tier changes a hundred times at random moments prints what an undisturbed one does: handover.sh TIERCE
# Time is counted (--icount), so that it is to be the same byte for byte, kernel messages with their times and all.
. "$(dirname "$0")/session.sh"
tierce=$1
input kernel cloud; kernel=$input
input initrd busybox; initrd=$input
run='RUN="cat /proc/interrupts; md5sum /bin/busybox; seq 3000 | md5sum; uname -a; poweroff -f"'
# Stays of the interpreter are short: it is slow.
switches=$(awk 'BEGIN { srand(7); for (t = 0.02; n < 100; n++) { tier = n % 3 == 0 ? "interp" : n % 3 == 1 ? "tiered" : "tcg"
  printf " --switch-to=%s@%.6fs", tier, t; t += (tier == "interp" ? 0.001 : 0.016) * (0.2 + rand()) } }')
boot() { # boot FILE [options]
  local status=0
  timeout "$seconds" "$tierce" -m 256 -kernel "$kernel" -initrd "$initrd" -append "console=ttyS0 panic=-1 nokaslr $run" -nographic -no-reboot --icount --tier=tcg \
    "${@:2}" > "$1" 2> "$dir/err" < /dev/null || status=$?
  cp "$1" "$dir/out"
  [ $status = 0 ] || fail "the boot ended with status $status"
  grep -qa "Power down" "$1" || fail "it did not come to its end"
}
boot "$dir/undisturbed"
boot "$dir/changed" --stats=json --hot=2000 $switches
handovers=$(grep -o '"handovers":[0-9]*' "$dir/err" | cut -d: -f2)
[ "$handovers" -ge 80 ] || fail "only $handovers changes of the tier"
if ! cmp "$dir/undisturbed" "$dir/changed"; then
  diff -a "$dir/undisturbed" "$dir/changed" | head -20
  echo "handover.sh: the guest noticed"
  exit 1
fi
echo "handover.sh: $handovers changes of the tier, $(wc -l < "$dir/changed") lines the same: passed"
