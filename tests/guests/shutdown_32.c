/* With -no-reboot a triple fault ends the machine, with status 0.
 * guest-option: ends */
#include "lib/guest.h"

void guest_main(void)
{
    struct table none = {0, 0};
    CHECK_EQ("CR0.PE", get_cr0() & CR0_PE, CR0_PE);
    print("PASS: %u checks, 0 failed\n", checks); /* if the machine ends now */
    asm volatile("lidt %0; int3" :: "m"(none));
    print("FAIL: the triple fault did not end the machine\n");
    outl(0x501, 1);
}
