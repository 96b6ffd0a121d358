#!/bin/sh
# A folder may include its own headers and <other>/<other>.h of the folders that stand below it; a program in tools/ its own,
# those of all folders, runtime's of the translation cache, and those of tools/common/.  Zydis is seen by frontend/ alone, a host's intrinsics by
# neither frontend/ nor hw/.
allowed() { case $1 in
ir) echo ir;;
frontend) echo "frontend ir";;
backend-tcg) echo "backend-tcg ir";;
backend-llvm) echo "backend-llvm backend-tcg ir";;
hw) echo hw;;
runtime) echo "runtime frontend ir hw backend-tcg backend-llvm";;
kvm) echo "kvm runtime frontend ir hw";;
esac; }
status=0
for dir in ir frontend backend-tcg backend-llvm hw runtime kvm; do
  for f in "$dir"/*.[chS] "$dir"/*.def; do
    [ -e "$f" ] || continue
    for inc in $(sed -n 's/^#include "\([^"]*\)".*/\1/p' "$f"); do
      to=${inc%%/*}
      case " $(allowed "$dir") " in *" $to "*) ;; *) echo "$f includes $inc: not below $dir"; status=1;; esac
      case "$dir $inc" in
        "$to "*) ;;
        *" ir/ops.def"|*" ir/ops_vector.def"|*" ir/host_sse.def"|*" frontend/state.def"|*" frontend/helpers.def") ;;
        *" $to/$to.h") ;;
        *) echo "$f includes the private $inc"; status=1;;
      esac
    done
  done
done
for f in tools/*/*.[ch]; do
  own=${f%/*}
  for inc in $(sed -n 's/^#include "\([^"]*\)".*/\1/p' "$f"); do
    to=${inc%%/*}
    case "$inc" in
      "$own"/*|"$to/$to.h"|runtime/store.h|runtime/cache.h|tools/common/*.h|*.def) ;;
      */*) echo "$f includes the private $inc"; status=1;;
    esac
  done
done
for f in $(grep -l '#include <Zydis' ir/* backend-tcg/* backend-llvm/* hw/* runtime/* kvm/* tools/*/* 2>/dev/null); do
  echo "$f includes Zydis: only frontend/ may"; status=1
done
for f in $(grep -lE '#include <(.*intrin|cpuid)\.h>' frontend/* hw/* ir/ir.h 2>/dev/null); do
  echo "$f includes a host's intrinsics"; status=1
done
[ $status = 0 ] && echo "layering: 1 passed, 0 failed"
exit $status
