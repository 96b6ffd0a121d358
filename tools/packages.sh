#!/bin/bash
# Installs what building and testing need.  An index that cannot be fetched does not stop it, as long as every
# package is found.
set -eu
export DEBIAN_FRONTEND=noninteractive
wanted="build-essential cmake clang libclang-rt-dev libzydis-dev llvm-19-dev libelf-dev libdw-dev zlib1g-dev liblzma-dev libzstd-dev liblz4-dev libxxhash-dev libhiredis-dev redis-server busybox-static cpio gzip xz-utils bzip2 zstd lz4 file binutils python3 gdb parallel"
missing=
for p in $wanted "$@"; do
  dpkg -s "$p" >/dev/null 2>&1 || missing="$missing $p"
done
[ -z "$missing" ] && exit 0
apt-get update -q || echo "packages.sh: an index could not be fetched; going on with the others" >&2
apt-get install -y -q --no-install-recommends $missing
