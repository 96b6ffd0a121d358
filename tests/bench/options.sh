#!/bin/bash
# What tierce-bench says to wrong arguments: one line that names the value, and the exit status.  options.sh TIERCE-BENCH
set -u
bench=$1 passed=0 failed=0
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# expect STATUS TEXT ARGUMENTS...
expect() {
  local status=$1 text=$2 got out
  shift 2
  out=$("$bench" "$@" 2>&1 >"$dir/stdout" </dev/null)
  got=$?
  if [ $got = "$status" ] && [ "$(printf '%s\n' "$out" | wc -l)" = 1 ] && [[ $out == "tierce-bench: "*"$text"* ]] && [ ! -s "$dir/stdout" ]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "tierce-bench $*: status $got, wanted $status; wanted text: $text; said: $out"
  fi
}
expect 2 "unknown option --nonsense" --nonsense
expect 2 "unknown option integer" integer
expect 2 "--rounds needs a value" --rounds
expect 2 "--rounds 0: accepted is a number from 1" --rounds 0
expect 2 "--rounds -1" --rounds -1
expect 2 "--rounds 3x" --rounds 3x
expect 2 "--rounds 99999999999999999999" --rounds 99999999999999999999
expect 2 "--budget 60001" --budget 60001
expect 2 "--m 1" -m 1
expect 2 "--tiers kvm: accepted are tiered, tcg, llvm and interp" --tiers kvm
expect 2 "--tiers tcg,foo" --tiers tcg,foo
expect 2 "--format xml: accepted are text, json, html" --format xml
expect 2 "--format needs a value" --format
expect 2 "--kvm goes with --format text" --kvm --format json
expect 2 "--only nosuch: no program and no group" --only nosuch --qemu none --tiers none
expect 2 "--only integer_has: no program" --only integer_crc,integer_has --qemu none --tiers none
expect 2 "leaves nothing to measure" --no-native --tiers none --qemu none
expect 2 "--tiers none does not go with them" --cache-boot --tiers none
expect 2 "--build-seconds 0: accepted is a number from 1" --build-seconds 0
expect 2 "--build-runs x: accepted" --build-runs x
ln -s "$(dirname "$bench")/tierce" "$dir/tierce"
expect 1 "$dir/tierce-cache: No such file or directory; --cache-boot and --cache-programs need it" --cache-boot --tierce "$dir/tierce" --qemu none
expect 1 "--qemu /no/such/qemu: it does not start" --qemu /no/such/qemu --tiers none
expect 1 "--tierce /no/such/tierce: it does not start" --tierce /no/such/tierce --qemu none
expect 1 "--kernel /no/such/kernel: No such file" --kernel /no/such/kernel --qemu none
expect 1 "-o /no/such/folder/x: No such file" -o /no/such/folder/x --qemu none --only integer_crc
expect 1 "--compare /no/such/file: No such file" --compare /no/such/file --tiers none --qemu none
echo '{"a":1' > "$dir/broken"
expect 1 "not JSON at byte" --compare "$dir/broken" --tiers none --qemu none
echo '{"a":1}' > "$dir/other"
expect 1 "not a report of tierce-bench" --compare "$dir/other" --tiers none --qemu none
expect 2 "--compare goes with --format text" --compare "$dir/other" --format json

"$bench" --help > "$dir/help" && grep -q '^usage: tierce-bench' "$dir/help" && grep -q -- '--translate' "$dir/help" ||
  { echo "--help is not as it should be"; failed=$((failed + 1)); }
"$bench" --only list > "$dir/list" && [ "$(wc -l < "$dir/list")" -ge 50 ] && grep -q '^fp  *fp_nbody$' "$dir/list" ||
  { echo "--only list is not as it should be"; failed=$((failed + 1)); }
echo "options: $passed passed, $failed failed"
[ $failed = 0 ]
