#!/bin/bash
# Dynamically linked programs of Debian run as they are: debian.sh TIERCE
. "$(dirname "$0")/session.sh"
BOOT_MEMORY=768
start "$1" cloud debian quiet -no-reboot
talk
say "bash -c 'for i in {1..3}; do echo bash \$((i * i)); done'"
wait_for "bash 9"
say "python3 -c 'import hashlib, json; print(6 ** 20, 2 ** 0.5, hashlib.sha256(b\"tierce\").hexdigest()[:8], json.dumps([1.5, None]))'"
wait_for "3656158440062976 1.4142135623730951 $(printf tierce | sha256sum | head -c 8) [1.5, null]"
say "perl -e 'print join(q(-), map { \$_ ** 3 } 1 .. 5), qq(\\n)'"
wait_for "1-8-27-64-125"
power_off
echo "debian.sh: passed"
