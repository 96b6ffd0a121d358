#!/bin/bash
# Every way in which Linux resets a PC starts the kernel again; with -no-reboot it ends the process: reboot.sh TIERCE
. "$(dirname "$0")/session.sh"
boots=1
start "$1" cloud busybox quiet
wait_for "tierce guest ready" 1
# The keyboard controller, ACPI's reset register, port 0xcf9, and a triple fault; then a panic with panic=-1.
for way in "echo kbd > /sys/kernel/reboot/type" "echo acpi > /sys/kernel/reboot/type" \
           "echo pci > /sys/kernel/reboot/type; echo 1 > /sys/kernel/reboot/cf9_force" "echo triple > /sys/kernel/reboot/type"; do
  sleep 0.5
  say "$way; reboot -f"
  boots=$((boots + 1))
  wait_for "tierce guest ready" $boots
done
sleep 0.5
say "echo c > /proc/sysrq-trigger"
wait_for "tierce guest ready" $((boots + 1))
sleep 0.5
power_off
for way in "reboot -f" "echo triple > /sys/kernel/reboot/type; reboot -f" "echo c > /proc/sysrq-trigger"; do
  start "$1" cloud busybox quiet -no-reboot
  wait_for "tierce guest ready"
  sleep 0.5
  say "$way"
  ended "'$way' with -no-reboot"
done
echo "reboot.sh: $((boots + 1)) boots in one process, 3 ends: passed"
