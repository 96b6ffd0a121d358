#!/bin/bash
# Each benchmark program gives its expected result on this CPU, and the reports are what they claim.  native.sh TIERCE-BENCH
set -eu
bench=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
run() { "$bench" --tiers none --qemu none --rounds 2 --budget 1 "$@"; }
run --format json -o "$dir/a.json"
run --only calls_fib,fp --format html -o "$dir/a.html"
run --only calls_fib,fp --compare "$dir/a.json" > "$dir/a.txt"
grep -q '^fp_nbody ' "$dir/a.txt"
python3 "$(dirname "$0")/check_report.py" "$dir/a.json" "$dir/a.html" --subjects native --least 50
