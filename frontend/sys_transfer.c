/* Far jumps, calls and returns, through segments and gates; SYSCALL and SYSENTER with their returns. */
#include "frontend/system.h"

static uint64_t cut(uint64_t v, unsigned size) { return size == 8 ? v : size == 4 ? (uint32_t)v : (uint16_t)v; }
static bool real_like(const struct x86_state *s) { return !(s->cr0 & X86_CR0_PE) || s->eflags & X86_EFLAGS_VM; }

/* The stack is the target's already: what width its code has tells how the return address is pushed. */
static bool is_code64(const struct x86_state *s, const struct desc *cs) { return in_long_mode(s) && cs->attr & X86_ATTR_L; }

/* --- Direct targets */
static bool direct_code_ok(struct x86_cpu *cpu, uint16_t selector, struct desc *cs)
{
    const struct x86_state *s = &cpu->state;
    unsigned rpl = selector & 3;
    bool fits = desc_conforming(cs) ? desc_dpl(cs) <= s->cpl : rpl <= s->cpl && desc_dpl(cs) == s->cpl;
    bool both = in_long_mode(s) && cs->attr & X86_ATTR_L && cs->attr & X86_ATTR_DB;
    if (!fits || both)
        return fault_code(cpu, X86_GP, selector & 0xfffc);
    if (!desc_present(cs))
        return fault_code(cpu, X86_NP, selector & 0xfffc);
    return desc_set_accessed(cpu, cs);
}

static bool push_return(struct stack *st, unsigned size, uint64_t next)
{
    bool ok = stack_push(st, size, st->cpu->state.seg_sel[X86_CS]) && stack_push(st, size, next);
    if (ok)
        stack_commit(st);
    return ok;
}

static bool far_real(struct x86_cpu *cpu, uint16_t selector, uint64_t offset, unsigned size, bool call, uint64_t next)
{
    struct x86_state *s = &cpu->state;
    struct stack st = stack_current(cpu);
    if (call && !stack_has_room(st, size, 2))
        return false;
    if (cut(offset, size) > s->seg_limit[X86_CS])
        return fault_code(cpu, X86_GP, 0);
    if (call && !push_return(&st, size, next))
        return false;
    segment_set_real(s, X86_CS, selector);
    s->rip = cut(offset, size);
    sys_mode_changed(cpu);
    return true;
}

/* --- Gates */
struct target { uint16_t selector; uint64_t offset; unsigned size, params; };

static bool gate_target(struct x86_cpu *cpu, const struct desc *gate, struct target *t)
{
    struct x86_state *s = &cpu->state;
    uint64_t upper = 0;
    unsigned type = desc_type(gate), rpl = gate->selector & 3;
    if (desc_dpl(gate) < s->cpl || desc_dpl(gate) < rpl)
        return fault_code(cpu, X86_GP, gate->selector & 0xfffc);
    if (!desc_present(gate))
        return fault_code(cpu, X86_NP, gate->selector & 0xfffc);
    if (in_long_mode(s)) {
        if (!desc_read_upper(cpu, gate, 0, &upper))
            return false;
        if (upper >> 40 & 0x1f)
            return fault_code(cpu, X86_GP, gate->selector & 0xfffc);
    }
    t->selector = (uint16_t)gate_selector(gate);
    t->size = in_long_mode(s) ? 8 : type == CALL32 ? 4 : 2;
    t->offset = cut(gate_offset(gate), t->size == 2 ? 2 : 4) | upper << 32;
    t->params = gate->high & 31;
    return true;
}

static bool gate_code(struct x86_cpu *cpu, const struct target *t, struct desc *cs, bool call)
{
    struct x86_state *s = &cpu->state;
    if (is_null(t->selector))
        return fault_code(cpu, X86_GP, 0);
    if (!desc_read(cpu, t->selector, 0, cs))
        return false;
    bool fits = desc_is_code(cs) && (desc_conforming(cs) || call ? desc_dpl(cs) <= s->cpl : desc_dpl(cs) == s->cpl);
    bool long_ok = !in_long_mode(s) || (cs->attr & X86_ATTR_L && !(cs->attr & X86_ATTR_DB));
    if (!fits || !long_ok)
        return fault_code(cpu, X86_GP, t->selector & 0xfffc);
    if (!desc_present(cs))
        return fault_code(cpu, X86_NP, t->selector & 0xfffc);
    return desc_set_accessed(cpu, cs) && code_target_ok(cpu, cs, t->offset);
}

static bool copy_params(struct stack *to, struct stack from, unsigned size, unsigned count)
{
    uint64_t v, top = from.sp;
    for (unsigned i = count; i-- > 0;) {
        from.sp = (top + i * size) & from.mask;
        if (!stack_pop(&from, size, &v) || !stack_push(to, size, v))
            return false;
    }
    return true;
}

static bool call_inner(struct x86_cpu *cpu, const struct target *t, const struct desc *cs, uint64_t next)
{
    struct x86_state *s = &cpu->state;
    unsigned level = desc_dpl(cs), old = s->cpl;
    bool is_long = in_long_mode(s);
    uint16_t selector = (uint16_t)level;
    uint64_t sp;
    struct desc ss;
    struct stack from = stack_current(cpu), st;
    if (is_long) {
        if (!tss_long_stack(cpu, level, 0, &sp))
            return false;
        st = stack_long(cpu, sp);
    } else {
        if (!tss_stack(cpu, level, 0, &selector, &sp) || !inner_stack_segment(cpu, selector, level, 0, &ss))
            return false;
        st = stack_of(cpu, &ss, sp, selector & 0xfffc);
    }
    s->cpl = (uint8_t)level;
    bool ok = stack_push(&st, t->size, s->seg_sel[X86_SS]) && stack_push(&st, t->size, s->gpr[X86_RSP]) &&
              (is_long || copy_params(&st, from, t->size, t->params)) &&
              stack_push(&st, t->size, s->seg_sel[X86_CS]) && stack_push(&st, t->size, next);
    s->cpl = (uint8_t)old;
    if (!ok)
        return false;
    s->cpl = (uint8_t)level;
    if (is_long)
        segment_set_null(s, X86_SS, selector);
    else
        segment_set(s, X86_SS, selector, &ss);
    stack_commit(&st);
    code_set(cpu, t->selector, cs, level, t->offset);
    return true;
}

static bool through_gate(struct x86_cpu *cpu, const struct desc *gate, bool call, uint64_t next)
{
    struct x86_state *s = &cpu->state;
    struct target t;
    struct desc cs;
    if (!gate_target(cpu, gate, &t) || !gate_code(cpu, &t, &cs, call))
        return false;
    if (call && !desc_conforming(&cs) && desc_dpl(&cs) < s->cpl)
        return call_inner(cpu, &t, &cs, next);
    struct stack st = stack_as_in(cpu, is_code64(s, &cs));
    if (call && !push_return(&st, t.size, next))
        return false;
    code_set(cpu, t.selector, &cs, s->cpl, t.offset);
    return true;
}

static bool through_task(struct x86_cpu *cpu, struct desc *d, bool call, uint64_t next)
{
    struct x86_state *s = &cpu->state;
    unsigned rpl = d->selector & 3;
    if (in_long_mode(s) || desc_dpl(d) < s->cpl || desc_dpl(d) < rpl)
        return fault_code(cpu, X86_GP, d->selector & 0xfffc);
    if (!desc_present(d))
        return fault_code(cpu, X86_NP, d->selector & 0xfffc);
    if (desc_type(d) == TASK_GATE) {
        uint16_t selector = (uint16_t)gate_selector(d);
        if (selector & 4 || is_null(selector))
            return fault_code(cpu, X86_GP, selector & 0xfffc);
        if (!desc_read(cpu, selector, 0, d))
            return false;
        if (desc_is_segment(d) || (desc_type(d) != TSS16 && desc_type(d) != TSS32))
            return fault_code(cpu, X86_GP, selector & 0xfffc);
        if (!desc_present(d))
            return fault_code(cpu, X86_NP, selector & 0xfffc);
    }
    return task_switch(cpu, d, call ? TASK_CALL : TASK_JUMP, next, false, 0);
}

static bool far_transfer(struct x86_cpu *cpu, uint16_t selector, uint64_t offset, unsigned size, bool call, uint64_t next)
{
    struct x86_state *s = &cpu->state;
    struct desc d;
    if (real_like(s))
        return far_real(cpu, selector, offset, size, call, next);
    if (is_null(selector))
        return fault_code(cpu, X86_GP, 0);
    if (!desc_read(cpu, selector, 0, &d))
        return false;
    if (desc_is_code(&d)) {
        uint64_t rip = cut(offset, size);
        if (!direct_code_ok(cpu, selector, &d))
            return false;
        struct stack st = stack_as_in(cpu, is_code64(s, &d));
        if ((call && !stack_has_room(st, size, 2)) || !code_target_ok(cpu, &d, rip) || (call && !push_return(&st, size, next)))
            return false;
        code_set(cpu, selector, &d, s->cpl, rip);
        return true;
    }
    switch (desc_is_segment(&d) ? 0 : desc_type(&d)) {
    case CALL16:
        if (in_long_mode(s))
            break;
        return through_gate(cpu, &d, call, next);
    case CALL32: return through_gate(cpu, &d, call, next);
    case TASK_GATE: case TSS16: case TSS32: return through_task(cpu, &d, call, next);
    default: break;
    }
    return fault_code(cpu, X86_GP, selector & 0xfffc);
}

/* a: selector, b: offset, c: operand size in bytes | call << 8, d: PC of the next instruction. */
X86_HELPER_FN(far_transfer)
{
    far_transfer(cpu, (uint16_t)a, b, c & 0xff, c >> 8, d);
    return 0;
}

static bool far_return(struct x86_cpu *cpu, unsigned size, unsigned release)
{
    struct x86_state *s = &cpu->state;
    struct stack st = stack_current(cpu);
    uint64_t rip, cs_sel, sp, ss_sel;
    struct desc cs, ss;
    bool null_ss = false;
    if (!stack_pop(&st, size, &rip) || !stack_pop(&st, size, &cs_sel))
        return false;
    if (real_like(s)) {
        if (rip > s->seg_limit[X86_CS])
            return fault_code(cpu, X86_GP, 0);
        st.sp += release;
        stack_commit(&st);
        segment_set_real(s, X86_CS, (uint16_t)cs_sel);
        s->rip = rip;
        sys_mode_changed(cpu);
        return true;
    }
    if (!return_target(cpu, (uint16_t)cs_sel, &cs))
        return false;
    unsigned rpl = cs_sel & 3;
    bool outer = rpl != s->cpl;
    st.sp = (st.sp + release) & st.mask;
    if (outer && (!stack_pop(&st, size, &sp) || !stack_pop(&st, size, &ss_sel) ||
                  !return_stack(cpu, (uint16_t)ss_sel, rpl, in_long_mode(s) && cs.attr & X86_ATTR_L, &ss, &null_ss)))
        return false;
    if (!code_target_ok(cpu, &cs, rip))
        return false;
    if (outer) {
        return_commit_outer(cpu, (uint16_t)cs_sel, &cs, rip, (uint16_t)ss_sel, &ss, null_ss, sp + release);
    } else {
        stack_commit(&st);
        code_set(cpu, (uint16_t)cs_sel, &cs, s->cpl, rip);
    }
    return true;
}

/* a: operand size in bytes, b: bytes to release. */
X86_HELPER_FN(far_ret)
{
    far_return(cpu, (unsigned)a, (unsigned)b);
    return 0;
}

/* --- SYSCALL and SYSENTER */
static void flat_segment(struct x86_state *s, enum x86_seg seg, uint16_t selector, uint32_t attr)
{
    s->seg_sel[seg] = selector;
    s->seg_base[seg] = 0;
    s->seg_limit[seg] = 0xffffffff;
    s->seg_attr[seg] = attr;
}
enum { CODE32 = 0xc09b, CODE64 = 0xa09b, DATA = 0xc093, DPL3 = 0x60 };

static void flat_pair(struct x86_cpu *cpu, uint16_t cs, uint32_t cs_attr, uint16_t ss, unsigned cpl)
{
    struct x86_state *s = &cpu->state;
    uint32_t dpl = cpl == 3 ? DPL3 : 0;
    flat_segment(s, X86_CS, cs, cs_attr | dpl);
    flat_segment(s, X86_SS, ss, DATA | dpl);
    s->cpl = (uint8_t)cpl;
}

void x86_syscall_segments(struct x86_cpu *cpu)
{
    uint16_t selector = cpu->state.star >> 32 & 0xfffc;
    flat_pair(cpu, selector, CODE64, selector + 8, 0);
}

/* a: PC of the next instruction. */
X86_HELPER_FN(syscall)
{
    struct x86_cpu *c86 = cpu;
    struct x86_state *s = &c86->state;
    if (!(s->efer & X86_EFER_SCE) || !(s->cr0 & X86_CR0_PE) || s->eflags & X86_EFLAGS_VM)
        return x86_raise(c86, X86_UD), 0;
    if (in_long_mode(s)) {
        s->gpr[X86_RCX] = a;
        s->gpr[11] = x86_eflags_get(s) & ~(uint32_t)X86_EFLAGS_RF;
        s->rip = x86_code64(c86) ? s->lstar : s->cstar;
        x86_eflags_set(s, 0, (uint32_t)s->sfmask | X86_EFLAGS_RF);
        x86_syscall_segments(c86);
    } else {
        uint16_t selector = s->star >> 32 & 0xfffc;
        s->gpr[X86_RCX] = (uint32_t)a;
        s->rip = (uint32_t)s->star;
        x86_eflags_set(s, 0, X86_EFLAGS_IF | X86_EFLAGS_RF | X86_EFLAGS_VM);
        flat_pair(c86, selector, CODE32, selector + 8, 0);
    }
    if (s->mode & X86_MODE_TF && !(s->eflags & X86_EFLAGS_TF)) /* single-step goes by TF as SFMASK left it (APM 3, SYSCALL) */
        s->debug_hits |= X86_DEBUG_NO_STEP;
    sys_mode_changed(c86);
    return 0;
}

#define SYSRET_FLAGS (0x3c7fd7u & ~(uint32_t)(X86_EFLAGS_RF | X86_EFLAGS_VM | 2))

/* a: 1 for the 64-bit form (REX.W). */
X86_HELPER_FN(sysret)
{
    struct x86_cpu *c86 = cpu;
    struct x86_state *s = &c86->state;
    if (!(s->efer & X86_EFER_SCE) || !(s->cr0 & X86_CR0_PE))
        return x86_raise(c86, X86_UD), 0;
    if (s->cpl)
        return fault_code(c86, X86_GP, 0);
    uint16_t base = s->star >> 48 & 0xffff;
    /* AMD's CPUs return and find out when they fetch there, in ring 3 (APM 3, SYSRET). */
    if (a && x86_model_is_intel(c86->model) && !x86_is_canonical(s->gpr[X86_RCX]))
        return fault_code(c86, X86_GP, 0);
    if (in_long_mode(s))
        x86_eflags_set(s, (uint32_t)s->gpr[11] & ~(uint32_t)X86_EFLAGS_RF, SYSRET_FLAGS | X86_EFLAGS_RF);
    else
        x86_eflags_set(s, X86_EFLAGS_IF, X86_EFLAGS_IF);
    s->rip = a ? s->gpr[X86_RCX] : (uint32_t)s->gpr[X86_RCX];
    flat_pair(c86, (uint16_t)((base + (a ? 16 : 0)) | 3), a ? CODE64 : CODE32, (uint16_t)((base + 8) | 3), 3);
    sys_mode_changed(c86);
    return 0;
}

X86_HELPER_FN(sysenter)
{
    struct x86_cpu *c86 = cpu;
    struct x86_state *s = &c86->state;
    uint16_t cs = s->sysenter_cs & 0xfffc;
    bool is_long = in_long_mode(s);
    if (!(s->cr0 & X86_CR0_PE) || !cs)
        return fault_code(c86, X86_GP, 0);
    x86_eflags_set(s, 0, X86_EFLAGS_IF | X86_EFLAGS_VM | X86_EFLAGS_RF);
    s->rip = is_long ? s->sysenter_eip : (uint32_t)s->sysenter_eip;
    s->gpr[X86_RSP] = is_long ? s->sysenter_esp : (uint32_t)s->sysenter_esp;
    flat_pair(c86, cs, is_long ? CODE64 : CODE32, cs + 8, 0);
    sys_mode_changed(c86);
    return 0;
}

/* a: 1 for the 64-bit form. */
X86_HELPER_FN(sysexit)
{
    struct x86_cpu *c86 = cpu;
    struct x86_state *s = &c86->state;
    uint16_t cs = s->sysenter_cs & 0xfffc;
    if (!(s->cr0 & X86_CR0_PE) || !cs || s->cpl)
        return fault_code(c86, X86_GP, 0);
    uint64_t rip = s->gpr[X86_RDX], rsp = s->gpr[X86_RCX];
    if (a && (!x86_is_canonical(rip) || !x86_is_canonical(rsp)))
        return fault_code(c86, X86_GP, 0);
    s->rip = a ? rip : (uint32_t)rip;
    s->gpr[X86_RSP] = a ? rsp : (uint32_t)rsp;
    flat_pair(c86, (uint16_t)((cs + (a ? 32 : 16)) | 3), a ? CODE64 : CODE32, (uint16_t)((cs + (a ? 40 : 24)) | 3), 3);
    sys_mode_changed(c86);
    return 0;
}
