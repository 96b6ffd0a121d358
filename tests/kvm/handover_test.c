/* The guest goes from KVM to the tiers and back, a hundred times at random moments, and must not notice: with the interrupt controllers here, and in KVM.  Skipped, with the reason, where the host
 * has no KVM. */
#include "kvm/kvm.h"
#include "tests/runtime/handover_guest.h"

int main(void)
{
    static const enum tier tiers[] = {TIER_KVM, TIER_TCG, TIER_INTERP};
    struct guest_run run;
    char error[256];
    if (!kvm_is_there(error, sizeof error)) {
        printf("skipped: %s\n", error);
        return 77;
    }
    srand(2);
    unsigned failures = 0;
    for (unsigned in_kvm = 0; in_kvm < 2 && !failures; in_kvm++) {
        failures += !guest_start(&run, tiers[0], &kvm_accel, in_kvm);
        failures += failures ? 0 : guest_handovers(&run, tiers, sizeof tiers / sizeof *tiers, 100);
    }
    printf("handover_test: %s\n", failures ? "failed" : "passed");
    return failures != 0;
}
