#!/bin/bash
# Boots one of Debian's kernels and talks to its shell: boot.sh TIERCE TIER KERNEL INITRD [tierce options]
# KERNEL: as session.sh says.  Passes where the shell answered, Ctrl-C ended the guest's program and power-off the process.
#   BOOT_SAY, BOOT_EXPECT   what more to type, and what must come of it
. "$(dirname "$0")/session.sh"
tierce=$1 tier=$2 kernel=$3 initrd=$4
shift 4
name="boot.sh $kernel $initrd $tier"
if [ "$tier" = kvm ] && ! { [ -r /dev/kvm ] && [ -w /dev/kvm ]; }; then
  echo "$name: skipped: there is no /dev/kvm that may be opened"
  exit 77
fi
start "$tierce" "$kernel" "$initrd" "quiet ${BOOT_APPEND:-}" --tier="$tier" -no-reboot "$@"
talk
if [ -n "${BOOT_SAY:-}" ]; then
  say "$BOOT_SAY"
  wait_for "$BOOT_EXPECT"
fi
say 'sleep 1000'
sleep 1
printf '\003' >&3
say 'echo after $((1 + 1)) sleep'
wait_for "after 2 sleep"
power_off
echo "$name: passed"
