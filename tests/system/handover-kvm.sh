#!/bin/bash
# A boot that goes to the host's KVM and back fifty times at random moments comes to the same end as one that stays in translated code:
# handover-kvm.sh TIERCE.  Time is the host's, so what the programs print is compared, and what the kernel must not say.
. "$(dirname "$0")/session.sh"
tierce=$1
input kernel cloud; kernel=$input
input initrd busybox; initrd=$input
# A host without VT-x and SVM may have a KVM all the same, whose emulator has user code enter the kernel with a user's rights now and then: what goes wrong
# there is told, and skipped.
wrong() {
  [ "$kvm" = 1 ] && ! grep -qE '^flags.*\b(vmx|svm)\b' /proc/cpuinfo || fail "$1"
  tail -5 "$dir/out"
  echo "handover-kvm.sh: skipped: $1; this host's KVM has neither VT-x nor SVM under it"
  exit 77
}
kvm=
run='RUN="md5sum /bin/busybox; seq 3000 | md5sum; uname -a; poweroff -f"'
switches=$(awk 'BEGIN { srand(5); for (t = 0.4; n < 50; n++) { t += 0.02 + 0.03 * rand(); printf " --switch-to=kvm@%.6fs", t
  t += 0.004 + 0.016 * rand(); printf " --switch-to=tcg@%.6fs", t } }')
boot() { # boot FILE [options]
  local status=0
  timeout "$seconds" "$tierce" -m 512 -kernel "$kernel" -initrd "$initrd" -append "console=ttyS0 panic=-1 no_timer_check $run" -nographic -no-reboot --tier=tcg \
    "${@:2}" > "$1" 2> "$dir/err" < /dev/null || status=$?
  cp "$1" "$dir/out"
  if reason=$(grep -E '^tierce: KVM: ' "$dir/err"); then
    echo "handover-kvm.sh: skipped: $reason"
    exit 77
  fi
  [ $status = 0 ] || wrong "the boot ended with status $status"
  grep -qa "Power down" "$1" || wrong "it did not come to its end"
  ! grep -aE "BUG:|Oops|WARNING:|stall" "$1" || wrong "the kernel complains"
}
said() { grep -aE '^[0-9a-f]{32} |^Linux |^tierce guest' "$1"; }
boot "$dir/undisturbed" --switch-to=kvm@monitor # the same CPU
kvm=1
boot "$dir/changed" --stats=json $switches
handovers=$(grep -o '"handovers":[0-9]*' "$dir/err" | cut -d: -f2)
exits=$(grep -o '"accel_exits":[0-9]*' "$dir/err" | cut -d: -f2)
[ "$handovers" -ge 50 ] || fail "only $handovers changes of the tier"
[ "$exits" -ge 1 ] || fail "KVM never ran"
[ "$(said "$dir/undisturbed" | wc -l)" -ge 4 ] || fail "the programs said too little"
diff -a <(said "$dir/undisturbed") <(said "$dir/changed") || wrong "the programs say something else"
echo "handover-kvm.sh: $handovers changes of the tier, $exits exits of KVM: passed"
