#!/bin/bash
# run.sh OPTION COMMAND...: runs a guest program; passes where it says PASS and leaves through isa-debug-exit with 0x10.
# OPTION: reboots (resets go on with the program's next start), ends (it ends by a reset, with status 0), none.
option=$1 wanted=33 reboot=-no-reboot
shift
[ "$option" = ends ] && wanted=0
[ "$option" = reboots ] && reboot=
out=$(timeout "${GUEST_SECONDS:-50}" "$@" -display none -monitor none -serial stdio $reboot -device isa-debug-exit </dev/null 2>&1)
status=$?
echo "$out"
[ $status -eq $wanted ] && ! grep -qE '^FAIL|: got 0x' <<<"$out" && grep -q '^PASS: [1-9][0-9]* checks, 0 failed' <<<"$out" && exit 0
echo "exit status $status, $wanted wanted"
exit 1
