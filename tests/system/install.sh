#!/bin/bash
# cmake --install puts programs in PREFIX/bin that work from there, away from the build: install.sh TIERCE BUILD
. "$(dirname "$0")/session.sh"
prefix=$dir/prefix
cmake --install "$2" --prefix "$prefix" > "$dir/out" 2>&1 || fail "cmake --install failed"
for program in "$2"/bin/*; do
  [ -x "$prefix/bin/$(basename "$program")" ] || fail "$(basename "$program") is not installed"
done
cd /
"$prefix/bin/tierce" -version > "$dir/out" || fail "the installed tierce does not start"
grep -q tierce "$dir/out" || fail "the installed tierce does not say what it is"
"$prefix/bin/tierce-bench" --help > "$dir/out" 2>&1 || fail "the installed tierce-bench does not start"
start "$prefix/bin/tierce" vmlinux:cloud busybox quiet -no-reboot
talk
power_off
echo "install.sh: passed"
