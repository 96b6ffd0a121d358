#!/bin/bash
# Debian's gcc compiles and links a program inside the guest, which runs: gcc.sh TIERCE
. "$(dirname "$0")/session.sh"
BOOT_MEMORY=1024
start "$1" cloud gcc quiet -no-reboot
talk
say "bash -c 'printf \"%s\\n\" \"#include <stdio.h>\" \"int main(int n, char **v) { printf(\\\"hello %d from %s\\\\n\\\", 41 + n, v[0]); return 7; }\" > /tmp/hello.c'"
say 'gcc -O2 -Wall -o /tmp/hello /tmp/hello.c; echo gcc says $?; /tmp/hello; echo status $?'
wait_for "gcc says 0"
wait_for "hello 42 from /tmp/hello"
wait_for "status 7"
power_off
echo "gcc.sh: passed"
