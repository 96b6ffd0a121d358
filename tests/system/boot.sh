#!/bin/bash
# Boots one of Debian's kernels and talks to its shell: boot.sh TIERCE TIER KERNEL INITRD [tierce options]
# KERNEL: a name of tests/guests/linux.sh, or vmlinux:NAME for the ELF kernel.  Exit status 0: the shell answered and
# power-off ended the process with status 0.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tierce=$1 tier=$2 name=$3 initrd=$4
shift 4
linux=$here/../guests/linux.sh
case $name in
  vmlinux:*) kernel=$("$linux" vmlinux "${name#*:}");;
  *) kernel=$("$linux" kernel "$name");;
esac
initrd=$("$linux" initrd "$initrd")
seconds=${BOOT_SECONDS:-120}
dir=$(mktemp -d)
trap 'kill $pid 2>/dev/null || :; rm -rf "$dir"' EXIT
mkfifo "$dir/in"
: > "$dir/out"
"$tierce" -m 512 -kernel "$kernel" -initrd "$initrd" -append "console=ttyS0 panic=-1 quiet" -nographic -no-reboot \
  --tier="$tier" "$@" < "$dir/in" > "$dir/out" 2>&1 &
pid=$!
exec 3> "$dir/in"

fail() { echo "boot.sh: $name, $tier: $1; the last output was:"; tail -c 1500 "$dir/out"; exit 1; }
wait_for() {
  local until=$((SECONDS + seconds))
  until grep -qaF -- "$1" "$dir/out"; do
    kill -0 $pid 2>/dev/null || fail "the process ended before '$1' came"
    [ $SECONDS -lt $until ] || fail "no '$1' in $seconds s"
    sleep 0.1
  done
}
wait_for "tierce guest ready"
sleep 0.5
echo 'echo answer: $((6 * 7)) $(uname -m)' >&3
wait_for "answer: 42"
if [ -n "${BOOT_SAY:-}" ]; then # what more to type, and what must come of it
  echo "$BOOT_SAY" >&3
  wait_for "$BOOT_EXPECT"
fi
# Ctrl-C is the guest's: it ends the guest's sleep, not this process.
echo 'sleep 1000' >&3
sleep 1
printf '\003' >&3
echo 'echo after $((1 + 1)) sleep' >&3
wait_for "after 2 sleep"
echo 'poweroff -f' >&3
for i in $(seq $((seconds * 10))); do
  kill -0 $pid 2>/dev/null || break
  sleep 0.1
done
status=0
wait $pid || status=$?
[ $status = 0 ] || fail "power-off gave status $status"
echo "boot.sh: $name, $tier: passed"
