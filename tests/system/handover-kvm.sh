#!/bin/bash
# A Linux that goes to the host's KVM and back fifty times at random moments comes to the same end as one that stays in translated code:
# handover-kvm.sh TIERCE.  Time is the host's, so what the programs print is compared, and what the kernel must not say.
# It begins once the kernel knows its CPU: a KVM without VT-x and SVM may add features of the host's to what CPUID says there.
. "$(dirname "$0")/session.sh"
tierce=$1
input kernel cloud; kernel=$input
input initrd busybox; initrd=$input
run='RUN="n=0; while [ $n -lt 120 ]; do n=$((n+1)); seq 3000 | md5sum; done; md5sum /bin/busybox; uname -a; poweroff -f"'
boot() { # boot FILE: the monitor's commands come from descriptor 3
  local status=0
  timeout "$seconds" "$tierce" -m 512 -kernel "$kernel" -initrd "$initrd" -append "console=ttyS0 panic=-1 no_timer_check $run" -display none -serial "file:$1" -monitor stdio \
    -no-reboot --tier=tcg --switch-to=kvm@monitor --stats=json 2> "$dir/err" > "$dir/monitor" <&3 || status=$?
  cp "$1" "$dir/out"
  if reason=$(grep -E '^tierce: KVM: ' "$dir/err"); then
    echo "handover-kvm.sh: skipped: $reason"
    exit 77
  fi
  [ $status = 0 ] || fail "the boot ended with status $status"
  grep -qa "Power down" "$1" || fail "it did not come to its end"
  ! grep -aE "BUG:|Oops|WARNING:|stall|segfault" "$1" || fail "the kernel complains"
}
changes() {
  until grep -qa "SMP alternatives" "$dir/changed" 2> /dev/null; do sleep 0.02; done
  for ((n = 0; n < 50; n++)); do
    echo "tier kvm"; sleep "0.0$((RANDOM % 16 + 10))"
    echo "tier tcg"; sleep "0.0$((RANDOM % 30 + 20))"
  done
}
said() { grep -aE '^[0-9a-f]{32} |^Linux |^tierce guest' "$1"; }
RANDOM=5
mkfifo "$dir/commands"
exec 3< /dev/null
boot "$dir/undisturbed"
changes > "$dir/commands" 2> /dev/null &
pid=$!
exec 3< "$dir/commands"
boot "$dir/changed"
handovers=$(grep -o '"handovers":[0-9]*' "$dir/err" | cut -d: -f2)
exits=$(grep -o '"accel_exits":[0-9]*' "$dir/err" | cut -d: -f2)
[ "$handovers" -ge 50 ] || fail "only $handovers changes of the tier"
[ "$exits" -ge 1 ] || fail "KVM never ran"
[ "$(said "$dir/undisturbed" | wc -l)" -ge 123 ] || fail "the programs said too little"
diff -a <(said "$dir/undisturbed") <(said "$dir/changed") || fail "the programs say something else"
echo "handover-kvm.sh: $handovers changes of the tier, $exits exits of KVM: passed"
