#!/bin/bash
# Benchmark programs in lockstep with the interpreter, one unit of work each, in regions as far as they get hot: no difference, and regions
# that did run.  lockstep.sh TIERCE-BENCH TIERCE [NAMES]: all programs, or these.
# Instructions make the time; the kernel's way to the first program is not compared (tests/system/check.sh does that).
set -eu
bench=$1 tierce=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat > "$dir/tierce" <<END
#!/bin/bash
case " \$* " in *" -version "*) exec "$tierce" -version;; esac
exec "$tierce" "\$@" --icount --check=interp --check-skip=1300000000 --hot=2000 --stats=json 2> "$dir/err"
END
chmod +x "$dir/tierce"
status=0
timeout 500 "$bench" --no-native --qemu none --tiers tiered --rounds 1 --budget 0 --timeout 400 --tierce "$dir/tierce" ${3:+--only "$3"} > "$dir/out" 2>&1 || status=$?
counted() { sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p" "$dir/err"; }
said() { echo "lockstep.sh: $1; tierce-bench and tierce said:"; grep -v "clock said" "$dir/out" | tail -n 30; head -c 20000 "$dir/err"; exit 1; }
[ $status = 0 ] || said "status $status"
least=${3:+20000000}
compared=$(counted check_insns) in_regions=$(counted region_run) regions=$(counted regions)
[ "${compared:-0}" -gt "${least:-300000000}" ] || said "only ${compared:-no} instructions were compared"
[ "${regions:-0}" -ge 10 ] && [ "${in_regions:-0}" -gt $((compared / 50)) ] || said "${regions:-no} regions ran ${in_regions:-no} of $compared instructions"
echo "lockstep.sh: $compared instructions, $in_regions of them in $regions regions, without a difference: passed"
