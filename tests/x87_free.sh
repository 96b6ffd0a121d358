#!/bin/sh
# x87_free.sh PROGRAM: while translated code runs, the guest's x87 is in the host's (backend-tcg/x87.c), so no C code but
# that which moves or asks it may touch x87 or MMX registers.
uses=$(objdump -d --no-show-raw-insn "$1" | awk '
  /^[0-9a-f]+ <.*>:$/ { fn = substr($2, 2, length($2) - 3); next }
  $2 ~ /^(f[a-z0-9]+|emms)$/ && $2 !~ /^fxsave|^fxrstor/ || / %mm[0-7]/ { print fn }' | sort -u)
[ -n "$uses" ] || { echo "$1: not even the x87's own functions were found"; exit 1; }
bad=$(echo "$uses" | grep -v -x -e tierce_x87_stubs -e ir_x87_run -e ir_x87_enter -e ir_x87_leave -e 'ir_x87_run\..*')
[ -z "$bad" ] || { echo "these use the x87:" $bad; exit 1; }
echo "x87_free: 1 passed, 0 failed"
