#!/bin/bash
# The files for state_linux.c: state_linux.sh TIERCE STATE_LINUX
. "$(dirname "$0")/session.sh"
input kernel cloud; kernel=$input
input initrd busybox; initrd=$input
"$2" "$kernel" "$initrd"
