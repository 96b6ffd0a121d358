/* Is a state one that a CPU of this model can be in?  For states from outside - saved files - whose every bit may lie: what the rest
 * of the emulator relies on is checked here, and no more. */
#include "frontend/system.h"
#include <string.h>

#define BITS(field, allowed) {#field, offsetof(struct x86_state, field), sizeof(((struct x86_state *)0)->field), allowed}
static const struct { const char *name; uint32_t offset, size; uint64_t allowed; } bits[] = {
    BITS(flags, 0xffff), BITS(faulted, 1), BITS(mxcsr, 0xffff), BITS(cr0, 0xe005003f), BITS(dr[7], 0xffffffff), BITS(fault_moved, 1), BITS(fault_has_error, 1),
    BITS(halted, 1), BITS(shadow, 3), BITS(sti, 1), BITS(nmi_masked, 1), BITS(nmi_pending, 1), BITS(ferr, 1), BITS(cpl, 3), BITS(fptop, 7),
    BITS(fsw, 0xc7ff), BITS(eflags, X86_EFLAGS_TF | X86_EFLAGS_IF | X86_EFLAGS_DF | X86_EFLAGS_IOPL | X86_EFLAGS_NT | X86_EFLAGS_RF | X86_EFLAGS_VM |
    X86_EFLAGS_AC | X86_EFLAGS_VIF | X86_EFLAGS_VIP | X86_EFLAGS_ID | 2),
};

static uint64_t xcr0_allowed(const struct x86_cpu *cpu)
{
    uint32_t id[4];
    x86_cpuid(cpu, 0xd, 0, id);
    return id[0] | (uint64_t)id[3] << 32 | 1;
}

const char *x86_state_check(const struct x86_cpu *cpu, const struct x86_state *s)
{
    for (unsigned i = 0; i < sizeof bits / sizeof *bits; i++) {
        uint64_t v = 0;
        memcpy(&v, (const char *)s + bits[i].offset, bits[i].size);
        if (v & ~bits[i].allowed)
            return bits[i].name;
    }
    bool protected = s->cr0 & X86_CR0_PE, paging = s->cr0 & X86_CR0_PG, lma = s->efer & X86_EFER_LMA, vm = s->eflags & X86_EFLAGS_VM;
    if ((paging && !protected) || (s->cr0 & X86_CR0_NW && !(s->cr0 & X86_CR0_CD)))
        return "cr0";
    if (s->cr4 & ~x86_cr4_allowed(cpu) || (lma && !(s->cr4 & X86_CR4_PAE)))
        return "cr4";
    if (s->efer & ~x86_efer_allowed(cpu) || lma != (paging && s->efer & X86_EFER_LME))
        return "efer";
    if (vm && (!protected || lma || s->cpl != 3))
        return "eflags";
    if (!protected && s->cpl)
        return "cpl";
    if (s->xcr0 & ~xcr0_allowed(cpu))
        return "xcr0";
    if (s->a20_mask != ~0ull && s->a20_mask != ~(1ull << 20))
        return "a20_mask";
    if (s->fault_vector > 31 && s->fault_vector != X86_FREEZE)
        return "fault_vector";
    return NULL;
}
