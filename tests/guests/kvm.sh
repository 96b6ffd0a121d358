#!/bin/bash
# kvm.sh OPTION COMMAND...: run.sh on the host's KVM.  Skipped (77), with the reason, where there is no KVM.  A host without VT-x and SVM may
# have a KVM all the same, on a software MMU and with an instruction emulator that lacks much (docs/kvm.md): what fails there is told, and skipped too; what
# passes there must not fail elsewhere.
hardware=1
grep -qE '^flags.*\b(vmx|svm)\b' /proc/cpuinfo || hardware=
[ -n "$hardware" ] || export GUEST_SECONDS=4
out=$("${0%/*}/run.sh" "$@" 2>&1)
status=$?
echo "$out"
[ $status = 0 ] && exit 0
if reason=$(grep -E '^tierce: KVM: ' <<<"$out"); then
  echo "skipped: $reason"
  exit 77
fi
[ -n "$hardware" ] && exit $status
echo "skipped: this host's KVM has neither VT-x nor SVM under it, and does not run this program as the guest's CPU would"
exit 77
