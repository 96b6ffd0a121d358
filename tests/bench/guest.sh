#!/bin/bash
# One cheap program in a guest, translated: the guest starts, runs it, gives the right result, and ends.  guest.sh TIERCE-BENCH
set -eu
bench=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
run() { timeout 100 "$bench" --qemu none --rounds 1 --budget 5 --only calls_fib,x87_roots --timeout 90 "$@"; }
run --format json -o "$dir/a.json"
run --format html -o "$dir/a.html"
python3 "$(dirname "$0")/check_report.py" "$dir/a.json" "$dir/a.html" --subjects native,tcg --least 2
