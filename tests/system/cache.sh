#!/bin/bash
# What one boot compiled is run by the next, under KASLR at another address: cache.sh TIERCE [options]
. "$(dirname "$0")/session.sh"
tierce=$1
shift
stat() { sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p" "$dir/out" | tail -1; }
for boot in cold warm; do
  start "$tierce" cloud busybox quiet -no-reboot --cache="$dir/cache" --hot=10000 --stats=json "$@"
  talk
  power_off
  ! grep -a "tierce: cache:" "$dir/out" || fail "$boot: a warning"
  echo "$boot: $(stat cache_puts) objects kept, $(stat cache_hits) hit, $(stat regions) regions compiled"
  eval "${boot}_puts=$(stat cache_puts) ${boot}_hits=$(stat cache_hits)"
done
[ "$cold_puts" -gt 0 ] || fail "the first boot kept nothing"
[ "$warm_hits" -gt 0 ] || fail "the second boot hit nothing"
echo "cache.sh: passed"
