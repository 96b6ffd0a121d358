#!/bin/bash
# Runs a guest program: run.sh COMMAND...; passes where the guest says PASS and leaves through isa-debug-exit with 0x10.
out=$(timeout "${GUEST_SECONDS:-50}" "$@" -display none -monitor none -serial stdio -no-reboot -device isa-debug-exit </dev/null 2>&1)
status=$?
echo "$out"
[ $status -eq 33 ] && grep -q '^PASS: [1-9][0-9]* checks, 0 failed' <<<"$out" && exit 0
echo "exit status $status, 33 wanted"
exit 1
