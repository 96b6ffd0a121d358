/* The CPU that the code is lifted for: its model and mode word. */
#include "tools/tierce-ir/work.h"

void guest_mode(struct work *w)
{
    char error[200];
    unsigned bits = w->o.bits ? w->o.bits : 64;
    w->model = x86_model_find(w->o.cpu ? w->o.cpu : "x86-64-v2", error, sizeof error);
    if (!w->model)
        die(2, "%s", error);
    if (bits == 16 && w->o.cpl != ~0u && w->o.cpl)
        die(2, "--cpl %u: real mode has level 0; accepted with --bits 32 or 64, or by --mode", w->o.cpl);
    w->mode = w->o.has_mode ? (uint32_t)w->o.mode : guest_mode_word(w->model, bits, w->o.cpl == ~0u ? 3 : w->o.cpl);
}
