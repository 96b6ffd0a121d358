#!/bin/bash
# Boots and programs with translation caches, in a guest that only looks like one (tests/tools/guests/shell.S): all ways run, the warm one runs what was built,
# reports have it all, and no cache but the bench's own is touched.  cache.sh TIERCE-BENCH GUEST
set -eu
bench=$1 guest=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/tmp"
run() {
  TMPDIR=$dir/tmp TIERCE_CACHE=$dir/mine timeout 100 "$bench" --kernel "$guest" --no-native --qemu none -m 64 --timeout 20 --rounds 2 --build-seconds 2 --build-runs 1000 \
    --cache-boot --cache-programs "$@" 2> "$dir/said" || { cat "$dir/said"; exit 1; }
}
run --format json -o "$dir/a.json"
run --format html -o "$dir/a.html"
[ ! -e "$dir/mine" ] || { echo "TIERCE_CACHE was used"; exit 1; }
[ -z "$(ls "$dir/tmp")" ] || { echo "left behind: $(ls "$dir/tmp")"; exit 1; }
python3 - "$dir/a.json" "$dir/a.html" "$(cat "$dir/said")" << 'END'
import json, sys, xml.etree.ElementTree as ET
report, said = json.load(open(sys.argv[1])), sys.argv[3]
rows = {r["name"]: r["values"] for r in report["cache"]}
assert rows["of these in cached regions"][0] > 50, rows
assert all(rows[f"{what} from {whose}"][0] > 0 for what in ("built", "regions") for whose in ("a boot's profile", "the kernel's files", "gcc's profile")), rows
boots, programs = report["cache_guests"]
assert [r["name"] for r in boots["rows"]] == ["tcg", "cold", "second boot", "warm", "static", "warm, disk", "warm, preload"], boots
assert [r["name"] for r in programs["rows"]] == ["tcg", "cold", "second boot", "warm"], programs
assert [c["name"] for c in programs["rows"][0]["columns"]] == ["gcc", "python3", "200 forks"], programs
for table in boots, programs:
    assert table["compared_with"] == "cold", table
    for row in table["rows"]:
        for column in row["columns"]:
            v = column["values"]
            if "disk" in row["name"] + "preload" and None in v:
                assert "page cache" in said, (row, said)  # where the directory for temporary files is on no disk
            else:
                assert len(v) == 2 and all(x > 0 for x in v) and column["times"]["min"] > 0, row
    cold = table["rows"][1]
    assert all(c["times"] == {"min": 1, "median": 1, "max": 1} for c in cold["columns"]), cold
page = ET.fromstring(open(sys.argv[2]).read().removeprefix("<!DOCTYPE html>"))
assert {boots["title"], programs["title"]} <= {h.text for h in page.iter("h2")}
END
