/* The CPU that code is lifted for: its mode word, as an operating system with flat segments has it. */
#include "tools/common/common.h"

static void mode_changed(struct x86_cpu *cpu) { (void)cpu; }

/* CR0 to EFER as Linux sets them; what the lifter cares for of them goes into the mode. */
static void protected_mode(struct x86_state *s, unsigned bits, unsigned cpl)
{
    uint32_t dpl = cpl << 5;
    s->cr0 = 0x80050033;
    s->cr4 = 0x620; /* PAE, OSFXSR, OSXMMEXCPT */
    s->efer = bits == 64 ? 0x501 : 0;
    for (unsigned i = 0; i < 6; i++) {
        s->seg_base[i] = 0;
        s->seg_limit[i] = 0xffffffff;
        s->seg_attr[i] = 0xc093 | dpl;
    }
    s->seg_attr[X86_CS] = (bits == 64 ? 0xa09b : 0xc09b) | dpl;
    s->cpl = (uint8_t)cpl;
}

uint32_t guest_mode_word(const struct x86_model *model, unsigned bits, unsigned cpl)
{
    static const struct x86_bus bus = {.mode_changed = mode_changed};
    struct x86_cpu cpu = {.model = model, .bus = &bus};
    x86_reset(&cpu, X86_RESET_POWER);
    cpu.state.seg_base[X86_CS] = 0;
    cpu.state.fcw = 0x37f; /* all exceptions masked, as FNINIT leaves it */
    cpu.state.mxcsr = 0x1f80;
    if (bits != 16)
        protected_mode(&cpu.state, bits, cpl);
    x86_mode_update(&cpu);
    return cpu.state.mode;
}
