#!/bin/bash
# A booted Linux is saved by the monitor, and another process goes on with it in another tier, without kernel or initrd; it takes typed
# input, its time goes on, and what it says of a wrong restore is one line: state.sh TIERCE
. "$(dirname "$0")/session.sh"
tierce=$1
states=$dir/states
monitor() { printf '\001c%s\n\001c' "$1" >&3; }

# again TIER [options]: a new process goes on with it
again() {
  local tier=$1
  shift
  exec 3>&-
  : > "$dir/out"
  "$tierce" -m "${BOOT_MEMORY:-512}" -nographic --tier="$tier" --state-dir "$states" "$@" < "$dir/in" > "$dir/out" 2>&1 &
  pid=$!
  exec 3> "$dir/in"
}

start "$tierce" cloud busybox quiet --tier=tcg --state-dir "$states"
talk
say 'x=$((40 + 2)); (while :; do sleep 1; echo tick; done) & cat /proc/uptime'
wait_for tick
monitor "savevm shell"
wait_for "saved $states/shell.state: "
sed -n 's/.*\(saved .*\)/\1/p' "$dir/out" | tail -1
say 'x=$((x + 1)); echo lost: $x'
wait_for "lost: 43"
monitor "loadvm shell"
wait_for "restored $states/shell.state in "
say 'echo then: $x'
wait_for "then: 42"
monitor "savevm other"
wait_for "saved $states/other.state: "
monitor "info snapshots"
wait_for "512M  tcg" 2
monitor quit
ended quit
for tier in interp tiered; do
  [ $tier = tiered ] && ! "$tierce" --tier=tiered -version > /dev/null 2>&1 && continue
  again $tier -loadvm shell
  say 'echo here: $x $(uname -m)'
  wait_for "here: 42 x86_64"
  wait_for tick 2
  [ $tier = tiered ] || { monitor quit; ended quit; }
done
monitor "savevm $dir/path"
wait_for "saved $dir/path: "
monitor "delvm other"
monitor "loadvm other"
wait_for "loadvm: cannot read $states/other.state: No such file"
head -c 3000000 "$dir/path" > "$states/short.state"
monitor "loadvm short"
wait_for "loadvm: $states/short.state: it is cut off at byte 3000000"
say 'echo still: $x'
wait_for "still: 42"
power_off
refuse() { # refuse TEXT options: one line, status 1
  local status=0 text=$1
  shift
  "$tierce" -nographic "$@" > "$dir/out" 2>&1 < /dev/null || status=$?
  [ $status = 1 ] && [ "$(wc -l < "$dir/out")" = 1 ] && grep -qF -- "$text" "$dir/out" || fail "status $status, expected '$text'"
}
refuse "it was saved with ram 536870912, this machine has 134217728; -m must be as it was" --restore "$dir/path"
refuse "it was saved with cpu x86-64-v2" -m 512 -cpu qemu64 --restore "$dir/path"
refuse "it is no saved state of tierce" -m 512 --restore "$0"
# What was saved reboots only with a kernel.
again tcg -m 512 --restore "$dir/path" -no-shutdown
say 'echo here: $x'
wait_for "here: 42"
say 'reboot -f'
wait_for "a restored guest without -kernel FILE has nothing to boot"
wait $pid && fail "it ended with status 0"
pid=
echo "state.sh: passed"
