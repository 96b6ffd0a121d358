#!/bin/bash
# Installs what is missing, builds, and runs all tests.  --all (or CI=true): with gcc and clang at -Werror.
set -eu
cd "$(dirname "$0")/.."
tools/packages.sh
cmake -S . -B build -DTIERCE_WERROR=ON
cmake --build build -j"$(nproc)"
if [ "${1:-}" = --all ] || [ "${CI:-}" = true ]; then
  cmake -S . -B build-clang -DTIERCE_WERROR=ON -DCMAKE_C_COMPILER=clang
  cmake --build build-clang -j"$(nproc)"
fi
ctest --test-dir build --output-on-failure -j"$(nproc)" </dev/null
