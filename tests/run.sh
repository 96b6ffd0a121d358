#!/bin/bash
# Installs what is missing, builds, and runs all tests.  --all (or CI=true): with gcc and clang at -Werror.
set -eu
cd "$(dirname "$0")/.."
export DEBIAN_FRONTEND=noninteractive
for p in build-essential cmake clang libzydis-dev; do
  dpkg -s "$p" >/dev/null 2>&1 || missing="${missing:-} $p"
done
if [ -n "${missing:-}" ]; then
  apt-get update -q && apt-get install -y -q --no-install-recommends $missing
fi
cmake -S . -B build -DTIERCE_WERROR=ON
cmake --build build -j"$(nproc)"
if [ "${1:-}" = --all ] || [ "${CI:-}" = true ]; then
  cmake -S . -B build-clang -DTIERCE_WERROR=ON -DCMAKE_C_COMPILER=clang
  cmake --build build-clang -j"$(nproc)"
fi
ctest --test-dir build --output-on-failure -j"$(nproc)"
