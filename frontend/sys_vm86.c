/* Virtual-8086 mode extensions (SDM 3B 20.3): INT n that the TSS's bitmap redirects to the 8086 program's own vectors,
 * and a virtual interrupt flag where IOPL is below 3. */
#include "frontend/system.h"

enum { REDIRECTION_BYTES = 32, IO_MAP_BASE = 102 };

static bool has_iopl(const struct x86_state *s) { return (s->eflags >> 12 & 3) == 3; }
static bool has_vme(const struct x86_state *s) { return s->cr4 & X86_CR4_VME; }

/* FLAGS as the 8086 program sees them: with IOPL below 3, IF is VIF and IOPL reads as 3. */
static uint32_t flags_image(const struct x86_state *s)
{
    uint32_t v = x86_eflags_get(s);
    if (has_iopl(s))
        return v;
    v = (v & ~(uint32_t)X86_EFLAGS_IF) | X86_EFLAGS_IOPL;
    return s->eflags & X86_EFLAGS_VIF ? v | X86_EFLAGS_IF : v;
}

/* Takes FLAGS from the program, IOPL below 3; false: #GP(0), for the monitor to see (SDM 2B, POPF; 2A, IRET). */
static bool flags_take(struct x86_cpu *cpu, uint32_t v)
{
    struct x86_state *s = &cpu->state;
    if (v & X86_EFLAGS_TF || (v & X86_EFLAGS_IF && s->eflags & X86_EFLAGS_VIP))
        return fault_code(cpu, X86_GP, 0);
    x86_eflags_set(s, v, 0xffff & ~(uint32_t)(X86_EFLAGS_IF | X86_EFLAGS_IOPL));
    x86_eflags_set(s, v & X86_EFLAGS_IF ? X86_EFLAGS_VIF : 0, X86_EFLAGS_VIF);
    return true;
}

/* PUSHF of 16 bits with IOPL below 3. */
X86_HELPER_FN(vm86_flags_read)
{
    struct x86_cpu *c86 = cpu;
    return has_vme(&c86->state) ? flags_image(&c86->state) : (uint64_t)fault_code(c86, X86_GP, 0);
}

/* POPF of 16 bits with IOPL below 3.  a: the value. */
X86_HELPER_FN(vm86_flags_write)
{
    struct x86_cpu *c86 = cpu;
    if (!has_vme(&c86->state))
        return fault_code(c86, X86_GP, 0);
    if (flags_take(c86, (uint32_t)a))
        sys_mode_changed(c86);
    return 0;
}

bool vm86_iret(struct x86_cpu *cpu, unsigned size)
{
    struct x86_state *s = &cpu->state;
    struct stack st = stack_current(cpu);
    uint64_t rip, cs, flags;
    if (!has_vme(s) || size != 2)
        return fault_code(cpu, X86_GP, 0);
    if (!stack_pop(&st, 2, &rip) || !stack_pop(&st, 2, &cs) || !stack_pop(&st, 2, &flags) || !flags_take(cpu, (uint32_t)flags))
        return false;
    stack_commit(&st);
    segment_set_real(s, X86_CS, (uint16_t)cs);
    s->rip = rip;
    sys_mode_changed(cpu);
    return true;
}

/* The bit of a vector in the map below the I/O permission map; 1: a protected-mode handler's. */
static bool redirection_bit(struct x86_cpu *cpu, unsigned vector, bool *bit)
{
    const struct x86_state *s = &cpu->state;
    uint64_t map, byte;
    if (!(s->tr_attr & 8) || s->tr_limit < IO_MAP_BASE + 1)
        return fault_code(cpu, X86_GP, 0);
    if (!x86_mem_read(cpu, s->tr_base + IO_MAP_BASE, 2, IR_AS_SUPERVISOR, &map))
        return false;
    uint64_t at = map - REDIRECTION_BYTES + vector / 8;
    if (at > s->tr_limit)
        return fault_code(cpu, X86_GP, 0);
    if (!x86_mem_read(cpu, s->tr_base + at, 1, IR_AS_SUPERVISOR, &byte))
        return false;
    *bit = byte >> (vector & 7) & 1;
    return true;
}

static bool deliver_in_vm86(struct x86_cpu *cpu, unsigned vector, uint64_t next)
{
    struct x86_state *s = &cpu->state;
    struct stack st = stack_current(cpu);
    uint64_t target;
    if (!x86_mem_read(cpu, vector * 4, 4, 0, &target) || !stack_push(&st, 2, flags_image(s)) ||
        !stack_push(&st, 2, s->seg_sel[X86_CS]) || !stack_push(&st, 2, next))
        return false;
    stack_commit(&st);
    x86_eflags_set(s, 0, X86_EFLAGS_TF | X86_EFLAGS_RF | (has_iopl(s) ? X86_EFLAGS_IF : X86_EFLAGS_VIF));
    segment_set_real(s, X86_CS, (uint16_t)(target >> 16));
    s->rip = target & 0xffff;
    sys_mode_changed(cpu);
    return true;
}

enum vm86_int vm86_int(struct x86_cpu *cpu, unsigned vector, uint64_t next)
{
    struct x86_state *s = &cpu->state;
    bool monitors = true;
    if (has_vme(s) && !redirection_bit(cpu, vector, &monitors))
        return VM86_INT_FAULT;
    if (!monitors)
        return deliver_in_vm86(cpu, vector, next) ? VM86_INT_DONE : VM86_INT_FAULT;
    if (has_iopl(s))
        return VM86_INT_GATE;
    fault_code(cpu, X86_GP, 0);
    return VM86_INT_FAULT;
}
