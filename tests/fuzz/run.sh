#!/bin/bash
# run.sh PROGRAM NAME FUZZING: the corpus of tests/fuzz/corpus/NAME, then, where PROGRAM is built with libFuzzer,
# FUZZ_SECONDS of new inputs.  A crashing input is left in the working directory and named.
set -eu
corpus=$(cd "$(dirname "$0")" && pwd)/corpus/$2
[ -n "$(ls -A "$corpus" 2>/dev/null)" ] || { echo "run.sh: no corpus in $corpus"; exit 1; }
if [ "$3" != 1 ]; then
  exec "$1" "$corpus"/*
fi
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
seconds=${FUZZ_SECONDS:-5} seed=${FUZZ_SEED:-1} # the same inputs each time, as far as it gets; 0: others each time
# libFuzzer would end with 77 after a crash, which to CTest means that the test was skipped.
options="-seed=$seed -error_exitcode=1 -timeout=20 -rss_limit_mb=3000 -artifact_prefix=$PWD/crash-$2-"
"$1" $options -runs=0 "$corpus" 2>&1 | tail -3
"$1" $options -max_total_time="$seconds" -print_final_stats=1 "$new" "$corpus" > "$new.log" 2>&1 || {
  status=$?
  tail -60 "$new.log"
  rm -f "$new.log"
  exit $status
}
grep -E '^stat::(number_of_executed_units|average_exec_per_sec)|cov:' "$new.log" | tail -3
rm -f "$new.log"
