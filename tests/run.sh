#!/bin/bash
# Installs what is missing, builds, and runs all tests.  Needs neither a terminal nor input.
#   --all, or CI=true   also: clang; unit tests, guests, fuzzers (their corpora, and FUZZ_SECONDS of new inputs each, 5: to look for long is for a developer's machine) and a boot under AddressSanitizer and
#                       UBSan; the nasty build; ThreadSanitizer; all with -Werror; a missing input is a failure
set -eu
cd "$(dirname "$0")/.."
[ "${1:-}" = --all ] && export CI=true
exec < /dev/null
jobs=$(nproc) stages=
stage() { # stage NAME COMMAND...: runs it, notes its time
  local name=$1 start=$SECONDS status=0
  shift
  echo "=== $name"
  "$@" || status=$?
  stages="$stages$(printf '%5d s  %s' $((SECONDS - start)) "$name")"$'\n'
  [ $status = 0 ] || { printf '%s' "$stages"; echo "tests/run.sh: $name failed with status $status"; exit $status; }
}
build() { # build DIRECTORY [options]
  cmake -S . -B "$@" -DTIERCE_WERROR=ON > "$1.log" 2>&1 && cmake --build "$1" -j"$jobs" >> "$1.log" 2>&1 || { tail -50 "$1.log"; return 1; }
}
tests() { # tests DIRECTORY [ctest options]
  ctest --test-dir "$1" --output-on-failure --no-tests=error -j"$jobs" "${@:2}"
}

stage packages tools/packages.sh
mkdir -p build
stage "build, gcc" build build
if [ "${CI:-}" = true ]; then
  export FUZZ_SECONDS=${FUZZ_SECONDS:-5}
  # Our SIGSEGV handler is part of how translated code works (runtime/signal.c).
  export ASAN_OPTIONS=handle_segv=0:allow_user_segv_handler=1:use_sigaltstack=0:detect_stack_use_after_return=0
  export UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=handle_segv=0:history_size=4
  stage "build, clang" build build-clang -DCMAKE_C_COMPILER=clang
  stage "build, sanitizers" build build-asan -DCMAKE_C_COMPILER=clang -DTIERCE_SANITIZE=address
  stage "build, nasty" build build-nasty -DTIERCE_NASTY=ON
  stage "build, threads" build build-tsan -DTIERCE_SANITIZE=thread
  stage "tests, clang" tests build-clang -LE "system|silicon|bench|fuzz|tools|slow"
  stage "tests, sanitizers" tests build-asan -LE "system|bench|slow"
  stage "boot, sanitizers" tests build-asan -R "^system/cloud$"
  # string_64, and paging_64 with regions, take minutes there
  stage "tests, threads" tests build-tsan -R "^(runtime/.*|guests/.*_64-(tcg|tiered))$" -E "^guests/(string_64|paging_64-tiered)"
  stage "tests, nasty" tests build-nasty -LE "system|silicon|bench|fuzz|tools|slow"
  stage "boot, nasty" tests build-nasty -R "^system/cloud-pvh$"
fi
# The tests come last, so that CTest has the last word; the times before them.
[ -z "$stages" ] || printf '%s' "$stages"
ctest --test-dir build --output-on-failure --no-tests=error -j"$jobs"
