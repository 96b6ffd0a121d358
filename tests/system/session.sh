# Sourced by the tests here: one guest, its console in a file, its keyboard a pipe.
#   BOOT_SECONDS   how long to wait for anything (120)
#   BOOT_MEMORY    -m (512)
# A kernel or initrd that cannot be had skips the test (77); with CI=true it fails.
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=$(basename "$0" .sh)
seconds=${BOOT_SECONDS:-120}
pid=
dir=$(mktemp -d)
cleanup() {
  [ -z "$pid" ] || kill $pid 2>/dev/null || :
  rm -rf "$dir"
}
trap cleanup EXIT

fail() {
  echo "$name: $1; the last output was:"
  tail -c 2000 "$dir/out"
  exit 1
}

# input KIND NAME: the path that tests/guests/linux.sh prints, in $input
input() {
  input=$("$here/../guests/linux.sh" "$@" 2> "$dir/why") && return
  echo "$name: no $*: $(tail -n 2 "$dir/why")"
  [ "${CI:-}" = true ] && exit 1
  exit 77
}

# start TIERCE KERNEL INITRD COMMAND-LINE [options]: KERNEL is a name of linux.sh, or vmlinux:NAME, vmlinux-entry:NAME
start() {
  local tierce=$1 kernel=$2 initrd=$3 append=$4
  shift 4
  case $kernel in
    *:*) input "${kernel%%:*}" "${kernel#*:}";;
    *) input kernel "$kernel";;
  esac
  kernel=$input
  input initrd "$initrd"
  initrd=$input
  [ -p "$dir/in" ] || mkfifo "$dir/in"
  : > "$dir/out"
  "$tierce" -m "${BOOT_MEMORY:-512}" -kernel "$kernel" -initrd "$initrd" -append "console=ttyS0 panic=-1 $append" -nographic "$@" \
    < "$dir/in" > "$dir/out" 2>&1 &
  pid=$!
  exec 3> "$dir/in"
}

say() { echo "$1" >&3; }

# wait_for TEXT [COUNT]: until the console has it in COUNT lines (1)
wait_for() {
  local until=$((SECONDS + seconds))
  until [ "$(grep -caF -- "$1" "$dir/out")" -ge "${2:-1}" ]; do
    kill -0 $pid 2>/dev/null || [ "$(grep -caF -- "$1" "$dir/out")" -ge "${2:-1}" ] || fail "the process ended before '$1' came"
    [ $SECONDS -lt $until ] || fail "no '$1' in $seconds s"
    sleep 0.1
  done
}

# The shell reads: what it is told comes back calculated.
talk() {
  wait_for "tierce guest ready"
  sleep 0.5
  say 'echo answer: $((6 * 7)) $(uname -m)'
  wait_for "answer: 42"
}

# ended WHAT: the process ends by itself, with status 0
ended() {
  local i status=0
  for i in $(seq $((seconds * 10))); do
    kill -0 $pid 2>/dev/null || break
    sleep 0.1
  done
  kill -0 $pid 2>/dev/null && fail "$1 did not end the process in $seconds s"
  wait $pid || status=$?
  pid=
  exec 3>&-
  [ $status = 0 ] || fail "$1 gave status $status"
}

power_off() {
  say 'poweroff -f'
  ended power-off
}
