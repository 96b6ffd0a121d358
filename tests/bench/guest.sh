#!/bin/bash
# Cheap programs in a guest, translated: the guest starts, runs them, gives the right results, and ends; new loops get fast; the same beside a
# compiler that never rests; and a guest is saved and restored.  guest.sh TIERCE-BENCH
set -eu
bench=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
run() { timeout 100 "$bench" --qemu none --rounds 1 --budget 5 --only calls_fib,x87_roots --timeout 90 "$@"; }
run --programs --latency --format json -o "$dir/a.json"
run --programs --compiler-load --format html -o "$dir/a.html"
python3 "$(dirname "$0")/check_report.py" "$dir/a.json" "$dir/a.html" --subjects native,tiered --least 2 --compiler
timeout 100 "$bench" --qemu none --no-native --state --rounds 1 --format json -o "$dir/state.json"
python3 - "$dir/state.json" << 'END'
import json, sys
m = json.load(open(sys.argv[1]))["machines"][0]
names = ["save_ms", "loadvm_ms", "restored_answer_ms", "state_file_mib", "state_ram_mib", "state_resident_mib"]
assert all(m[n][0] is not None and m[n][0] > 0 for n in names), m
assert m["state_file_mib"][0] < m["state_ram_mib"][0] <= m["state_resident_mib"][0] < 512, m
END
