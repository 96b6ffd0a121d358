#!/bin/bash
# Installs what is missing, builds, and boots Debian's cloud kernel to a shell.  Ctrl-A X ends it.
set -eu
cd "$(dirname "$0")/.."
tools/packages.sh
cmake -S . -B build
cmake --build build -j"$(nproc)"
kernel=$(tests/guests/linux.sh kernel cloud)
initrd=$(tests/guests/linux.sh initrd busybox)
exec build/bin/tierce -m 512 -kernel "$kernel" -initrd "$initrd" -append "console=ttyS0 quiet" -nographic
