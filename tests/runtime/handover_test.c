/* The tier changes a hundred times while a guest runs that would notice. */
#include "tests/runtime/handover_guest.h"

int main(void)
{
#if defined TIERCE_LLVM && defined TIERCE_NASTY /* where each instruction would be compiled by itself */
    static const enum tier tiers[] = {TIER_INTERP, TIER_TCG, TIER_TIERED};
#elif defined TIERCE_LLVM
    static const enum tier tiers[] = {TIER_INTERP, TIER_TCG, TIER_TIERED, TIER_LLVM};
#else
    static const enum tier tiers[] = {TIER_INTERP, TIER_TCG};
#endif
    struct guest_run run;
    srand(1);
    unsigned failures = !guest_start(&run, tiers[0], NULL, false);
    failures += failures ? 0 : guest_handovers(&run, tiers, sizeof tiers / sizeof *tiers, 100);
    printf("handover_test: %s\n", failures ? "failed" : "passed");
    return failures != 0;
}
