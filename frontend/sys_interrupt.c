/* Exceptions and interrupts: delivery in all modes, double and triple faults, IRET (SDM 3A chapter 6). */
#include "frontend/system.h"
#include <string.h>

/* --- Pending faults */
void x86_raise(struct x86_cpu *cpu, unsigned vector)
{
    struct x86_state *s = &cpu->state;
    s->faulted = 1;
    s->fault_vector = vector;
    s->fault_error = 0;
    s->fault_has_error = 0;
    s->fault_dr6 = 0;
    s->fault_moved = 0;
}

void x86_raise_error(struct x86_cpu *cpu, unsigned vector, uint32_t error)
{
    x86_raise(cpu, vector);
    cpu->state.fault_error = error;
    cpu->state.fault_has_error = 1;
}

/* --- Delivery */
/* soft: INT n, INT3, INTO: the gate's DPL counts, and no error code has the EXT bit. */
struct event { unsigned vector; bool soft, has_error; uint32_t error; uint64_t rip; uint32_t eflags; uint16_t ext; };

static uint32_t idt_error(const struct event *e) { return e->vector << 3 | 2 | e->ext; }

static bool deliver_real(struct x86_cpu *cpu, const struct event *e)
{
    struct x86_state *s = &cpu->state;
    uint64_t vector;
    struct stack st = stack_current(cpu);
    if (e->vector * 4 + 3 > s->idtr_limit)
        return fault_code(cpu, X86_GP, idt_error(e));
    if (!x86_mem_read(cpu, s->idtr_base + e->vector * 4, 4, IR_AS_SUPERVISOR, &vector) ||
        !stack_push(&st, 2, e->eflags) || !stack_push(&st, 2, s->seg_sel[X86_CS]) || !stack_push(&st, 2, e->rip))
        return false;
    stack_commit(&st);
    x86_eflags_set(s, 0, X86_EFLAGS_IF | X86_EFLAGS_TF | X86_EFLAGS_AC | X86_EFLAGS_RF);
    segment_set_real(s, X86_CS, (uint16_t)(vector >> 16));
    s->rip = vector & 0xffff;
    sys_mode_changed(cpu);
    return true;
}

/* Reads and checks the gate; *upper: bits 63..32 of the target in long mode. */
static bool gate_read(struct x86_cpu *cpu, const struct event *e, struct desc *gate, uint64_t *upper)
{
    struct x86_state *s = &cpu->state;
    unsigned size = in_long_mode(s) ? 16 : 8;
    uint64_t at = s->idtr_base + e->vector * size, raw;
    if (e->vector * size + size - 1 > s->idtr_limit)
        return fault_code(cpu, X86_GP, idt_error(e));
    if (!in_long_mode(s))
        at = (uint32_t)at;
    if (!x86_mem_read(cpu, at, 8, IR_AS_SUPERVISOR, &raw))
        return false;
    if (size == 16 && !x86_mem_read(cpu, at + 8, 8, IR_AS_SUPERVISOR, upper))
        return false;
    gate->low = (uint32_t)raw;
    gate->high = (uint32_t)(raw >> 32);
    gate->attr = gate->high >> 8 & 0xff;
    unsigned type = desc_type(gate);
    bool known = !desc_is_segment(gate) && (type == INT32 || type == TRAP32 || (!in_long_mode(s) && (type == INT16 || type == TRAP16 || type == TASK_GATE)));
    if (!known || (e->soft && desc_dpl(gate) < s->cpl))
        return fault_code(cpu, X86_GP, idt_error(e));
    if (!desc_present(gate))
        return fault_code(cpu, X86_NP, idt_error(e));
    return true;
}

static bool target_read(struct x86_cpu *cpu, const struct event *e, uint16_t selector, struct desc *cs)
{
    struct x86_state *s = &cpu->state;
    if (is_null(selector))
        return fault_code(cpu, X86_GP, e->ext);
    if (!desc_read(cpu, selector, e->ext, cs))
        return false;
    if (!desc_is_code(cs) || desc_dpl(cs) > s->cpl)
        return fault_code(cpu, X86_GP, (selector & 0xfffc) | e->ext);
    if (in_long_mode(s) && (!(cs->attr & X86_ATTR_L) || cs->attr & X86_ATTR_DB))
        return fault_code(cpu, X86_GP, (selector & 0xfffc) | e->ext);
    if (!desc_present(cs))
        return fault_code(cpu, X86_NP, (selector & 0xfffc) | e->ext);
    return desc_set_accessed(cpu, cs);
}

static void enter_handler(struct x86_cpu *cpu, const struct desc *gate, const struct desc *cs, unsigned cpl, uint64_t rip)
{
    struct x86_state *s = &cpu->state;
    bool interrupt = desc_type(gate) == INT16 || desc_type(gate) == INT32;
    x86_eflags_set(s, 0, X86_EFLAGS_TF | X86_EFLAGS_NT | X86_EFLAGS_RF | X86_EFLAGS_VM | (interrupt ? X86_EFLAGS_IF : 0));
    code_set(cpu, cs->selector, cs, cpl, rip);
}

static bool deliver_long(struct x86_cpu *cpu, const struct event *e)
{
    struct x86_state *s = &cpu->state;
    struct desc gate, cs;
    uint64_t upper = 0, rsp = s->gpr[X86_RSP];
    if (!gate_read(cpu, e, &gate, &upper) || !target_read(cpu, e, (uint16_t)gate_selector(&gate), &cs))
        return false;
    unsigned old_cpl = s->cpl, ist = gate.high & 7;
    unsigned cpl = desc_conforming(&cs) ? s->cpl : desc_dpl(&cs);
    if (ist || cpl != old_cpl) {
        if (!tss_long_stack(cpu, ist ? 3 + ist : cpl, e->ext, &rsp))
            return false;
    }
    uint64_t rip = gate_offset(&gate) | upper << 32;
    if (!x86_is_canonical(rip))
        return fault_code(cpu, X86_GP, e->ext);
    uint64_t frame[6] = {e->error, e->rip, s->seg_sel[X86_CS], e->eflags, s->gpr[X86_RSP], s->seg_sel[X86_SS]};
    unsigned count = e->has_error ? 6 : 5;
    rsp = (rsp & ~15ull) - count * 8;
    if (!x86_is_canonical(rsp) || !x86_is_canonical(rsp + count * 8 - 1))
        return fault_code(cpu, X86_SS_FAULT, e->ext);
    s->cpl = (uint8_t)cpl; /* the frame is written with the handler's rights */
    bool ok = cpu->bus->write(cpu, rsp, count * 8, IR_WRITE | IR_SS, e->has_error ? frame : frame + 1);
    s->cpl = (uint8_t)old_cpl;
    if (!ok)
        return false;
    s->gpr[X86_RSP] = rsp;
    if (cpl != old_cpl) {
        s->cpl = (uint8_t)cpl;
        segment_set_null(s, X86_SS, (uint16_t)cpl);
    }
    enter_handler(cpu, &gate, &cs, cpl, rip);
    return true;
}

/* New SS for an inner level: checked as the TSS's (SDM 3A 6.12.1.2: #TS). */
bool inner_stack_segment(struct x86_cpu *cpu, uint16_t selector, unsigned level, uint16_t ext, struct desc *ss)
{
    if (is_null(selector))
        return fault_code(cpu, X86_TS, ext);
    if (!desc_read(cpu, selector, ext, ss)) {
        if (cpu->state.fault_vector == X86_GP)
            cpu->state.fault_vector = X86_TS;
        return false;
    }
    if ((selector & 3u) != level || !desc_is_stack(ss) || desc_dpl(ss) != level)
        return fault_code(cpu, X86_TS, (selector & 0xfffc) | ext);
    if (!desc_present(ss))
        return fault_code(cpu, X86_SS_FAULT, (selector & 0xfffc) | ext);
    return desc_set_accessed(cpu, ss);
}

static bool push_vm86_segments(struct stack *st, const struct x86_state *s, unsigned size)
{
    return stack_push(st, size, s->seg_sel[X86_GS]) && stack_push(st, size, s->seg_sel[X86_FS]) &&
           stack_push(st, size, s->seg_sel[X86_DS]) && stack_push(st, size, s->seg_sel[X86_ES]);
}

static bool deliver_inner(struct x86_cpu *cpu, const struct event *e, const struct desc *gate, const struct desc *cs, unsigned size)
{
    struct x86_state *s = &cpu->state;
    bool vm = s->eflags & X86_EFLAGS_VM;
    unsigned level = desc_dpl(cs), old = s->cpl;
    uint16_t selector;
    uint64_t sp;
    struct desc ss;
    if (!tss_stack(cpu, level, e->ext, &selector, &sp) || !inner_stack_segment(cpu, selector, level, e->ext, &ss))
        return false;
    if (gate_offset(gate) > cs->limit)
        return fault_code(cpu, X86_GP, e->ext);
    struct stack st = stack_of(cpu, &ss, sp, (uint16_t)((selector & 0xfffc) | e->ext));
    s->cpl = (uint8_t)level;
    bool ok = (!vm || push_vm86_segments(&st, s, size)) &&
              stack_push(&st, size, s->seg_sel[X86_SS]) && stack_push(&st, size, s->gpr[X86_RSP]) &&
              stack_push(&st, size, e->eflags) && stack_push(&st, size, s->seg_sel[X86_CS]) &&
              stack_push(&st, size, e->rip) && (!e->has_error || stack_push(&st, size, e->error));
    s->cpl = (uint8_t)old;
    if (!ok)
        return false;
    if (vm)
        for (unsigned i = 0; i < 4; i++)
            segment_set_null(s, (enum x86_seg[]){X86_ES, X86_DS, X86_FS, X86_GS}[i], 0);
    segment_set(s, X86_SS, selector, &ss);
    stack_commit(&st);
    enter_handler(cpu, gate, cs, level, size == 2 ? gate_offset(gate) & 0xffff : gate_offset(gate));
    return true;
}

static bool deliver_same(struct x86_cpu *cpu, const struct event *e, const struct desc *gate, const struct desc *cs, unsigned size)
{
    struct x86_state *s = &cpu->state;
    struct stack st = stack_current(cpu);
    uint64_t rip = size == 2 ? gate_offset(gate) & 0xffff : gate_offset(gate);
    st.error = e->ext;
    if (rip > cs->limit)
        return fault_code(cpu, X86_GP, e->ext);
    if (!stack_push(&st, size, e->eflags) || !stack_push(&st, size, s->seg_sel[X86_CS]) ||
        !stack_push(&st, size, e->rip) || (e->has_error && !stack_push(&st, size, e->error)))
        return false;
    stack_commit(&st);
    enter_handler(cpu, gate, cs, s->cpl, rip);
    return true;
}

static bool deliver_task(struct x86_cpu *cpu, const struct event *e, uint16_t selector)
{
    struct desc tss;
    if (selector & 4 || is_null(selector))
        return fault_code(cpu, X86_GP, (selector & 0xfffc) | e->ext);
    if (!desc_read(cpu, selector, e->ext, &tss))
        return false;
    if (desc_is_segment(&tss) || (desc_type(&tss) != TSS16 && desc_type(&tss) != TSS32))
        return fault_code(cpu, X86_GP, (selector & 0xfffc) | e->ext);
    if (!desc_present(&tss))
        return fault_code(cpu, X86_NP, (selector & 0xfffc) | e->ext);
    return task_switch(cpu, &tss, TASK_EVENT, e->rip, e->has_error, e->error);
}

static bool deliver_protected(struct x86_cpu *cpu, const struct event *e)
{
    struct x86_state *s = &cpu->state;
    struct desc gate, cs;
    uint64_t unused;
    if (!gate_read(cpu, e, &gate, &unused))
        return false;
    uint16_t selector = (uint16_t)gate_selector(&gate);
    if (desc_type(&gate) == TASK_GATE)
        return deliver_task(cpu, e, selector);
    if (!target_read(cpu, e, selector, &cs))
        return false;
    unsigned size = desc_type(&gate) >= INT32 ? 4 : 2;
    if (!desc_conforming(&cs) && desc_dpl(&cs) < s->cpl) {
        if (s->eflags & X86_EFLAGS_VM && desc_dpl(&cs))
            return fault_code(cpu, X86_GP, (selector & 0xfffc) | e->ext);
        return deliver_inner(cpu, e, &gate, &cs, size);
    }
    if (s->eflags & X86_EFLAGS_VM)
        return fault_code(cpu, X86_GP, (selector & 0xfffc) | e->ext);
    return deliver_same(cpu, e, &gate, &cs, size);
}

bool event_deliver(struct x86_cpu *cpu, unsigned vector, bool soft, bool has_error, uint32_t error, uint64_t rip)
{
    struct x86_state *s = &cpu->state;
    struct event e = {vector, soft, has_error, error, rip, x86_eflags_get(s), soft ? 0 : 1};
    if (cpu->bus->delivering)
        cpu->bus->delivering(cpu, vector, soft, has_error, error);
    if (!(s->cr0 & X86_CR0_PE))
        return deliver_real(cpu, &e);
    return in_long_mode(s) ? deliver_long(cpu, &e) : deliver_protected(cpu, &e);
}

/* --- Faults while faults are delivered (SDM 3A table 6-5) */
static bool contributory(unsigned v) { return v == X86_DE || (v >= X86_TS && v <= X86_GP); }
static bool makes_double(unsigned first, unsigned second)
{
    return (contributory(first) && contributory(second)) || (first == X86_PF && (contributory(second) || second == X86_PF));
}

static void deliver_chain(struct x86_cpu *cpu, unsigned vector, bool has_error, uint32_t error, uint64_t rip)
{
    struct x86_state *s = &cpu->state;
    for (unsigned tries = 0; tries < 16; tries++) {
        s->faulted = 0;
        if (event_deliver(cpu, vector, false, has_error, error, rip))
            return;
        unsigned second = s->fault_vector;
        rip = s->fault_moved ? s->fault_rip : rip;
        if (second == X86_PF)
            s->cr2 = s->fault_address;
        if (vector == X86_DF) {
            s->faulted = 0;
            cpu->bus->shutdown(cpu);
            return;
        }
        if (makes_double(vector, second)) {
            vector = X86_DF;
            has_error = true;
            error = 0;
        } else {
            vector = second;
            has_error = s->fault_has_error;
            error = s->fault_error | (second == X86_PF ? 0 : 1);
        }
    }
    s->faulted = 0;
    cpu->bus->shutdown(cpu); /* benign faults without an end: no real machine gets out of it either */
}

void x86_deliver_fault(struct x86_cpu *cpu)
{
    struct x86_state *s = &cpu->state;
    unsigned vector = s->fault_vector;
    if (vector == X86_FREEZE) {
        s->faulted = 0;
        s->halted = 1;
        return;
    }
    bool has_error = s->fault_has_error && (s->cr0 & X86_CR0_PE);
    if (vector == X86_PF)
        s->cr2 = s->fault_address;
    if (vector == X86_DB) {
        s->dr[6] |= s->fault_dr6;
        s->dr[7] &= ~(1ull << 13); /* GD */
    }
    /* Faults push RF set, so that an instruction breakpoint does not hit again (SDM 3B 17.3.1.1). */
    bool is_fault = vector != X86_DB && vector != X86_BP && vector != X86_OF && vector != X86_DF;
    if (is_fault)
        s->eflags |= X86_EFLAGS_RF;
    s->shadow = 0;
    s->halted = 0;
    deliver_chain(cpu, vector, has_error, s->fault_error, s->fault_moved ? s->fault_rip : s->rip);
}

/* RF is cleared by the first instruction that ends (SDM 3B 17.3.1.1); only blocks that look at breakpoints do so,
 * for the others it is made good where the flags are stored. */
static void rf_settle(struct x86_state *s)
{
    if (!(s->mode & X86_MODE_DEBUG))
        s->eflags &= ~(uint32_t)X86_EFLAGS_RF;
}

void x86_deliver_interrupt(struct x86_cpu *cpu, unsigned vector)
{
    cpu->state.halted = 0;
    rf_settle(&cpu->state);
    deliver_chain(cpu, vector, false, 0, cpu->state.rip);
}

void x86_deliver_nmi(struct x86_cpu *cpu)
{
    cpu->state.halted = 0;
    rf_settle(&cpu->state);
    deliver_chain(cpu, X86_NMI, false, 0, cpu->state.rip);
    cpu->state.nmi_masked = 1;
}

void x86_debug_trap(struct x86_cpu *cpu, uint64_t dr6)
{
    x86_raise(cpu, X86_DB);
    cpu->state.fault_dr6 = dr6;
    rf_settle(&cpu->state);
    x86_deliver_fault(cpu);
}

/* --- IRET */
#define FLAGS_COMMON (X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF | X86_EFLAGS_ZF | X86_EFLAGS_SF | X86_EFLAGS_TF | \
                      X86_EFLAGS_DF | X86_EFLAGS_OF | X86_EFLAGS_NT)
#define FLAGS_WIDE (X86_EFLAGS_RF | X86_EFLAGS_AC | X86_EFLAGS_ID)

static uint32_t popped_mask(const struct x86_state *s, unsigned size, unsigned cpl)
{
    uint32_t mask = FLAGS_COMMON | (size > 2 ? FLAGS_WIDE : 0);
    if (cpl <= (s->eflags >> 12 & 3))
        mask |= X86_EFLAGS_IF;
    if (cpl == 0)
        mask |= X86_EFLAGS_IOPL | (size > 2 ? X86_EFLAGS_VIF | X86_EFLAGS_VIP : 0);
    return mask;
}

static bool iret_real(struct x86_cpu *cpu, unsigned size)
{
    struct x86_state *s = &cpu->state;
    struct stack st = stack_current(cpu);
    uint64_t rip, cs, flags;
    bool vm = s->eflags & X86_EFLAGS_VM;
    if (vm && (s->eflags >> 12 & 3) < 3)
        return vm86_iret(cpu, size);
    if (!stack_pop(&st, size, &rip) || !stack_pop(&st, size, &cs) || !stack_pop(&st, size, &flags))
        return false;
    if (rip > s->seg_limit[X86_CS])
        return fault_code(cpu, X86_GP, 0);
    stack_commit(&st);
    segment_set_real(s, X86_CS, (uint16_t)cs);
    s->rip = rip;
    uint32_t mask = FLAGS_COMMON | X86_EFLAGS_IF | (vm ? 0 : X86_EFLAGS_IOPL) | (size > 2 ? FLAGS_WIDE : 0);
    x86_eflags_set(s, (uint32_t)flags, mask);
    sys_mode_changed(cpu);
    return true;
}

static bool iret_to_vm86(struct x86_cpu *cpu, struct stack *st, uint64_t rip, uint64_t cs, uint64_t flags)
{
    static const enum x86_seg order[] = {X86_SS, X86_ES, X86_DS, X86_FS, X86_GS};
    struct x86_state *s = &cpu->state;
    uint64_t sp, sel[5];
    if (!stack_pop(st, 4, &sp))
        return false;
    for (unsigned i = 0; i < 5; i++)
        if (!stack_pop(st, 4, &sel[i]))
            return false;
    x86_eflags_set(s, (uint32_t)flags, popped_mask(s, 4, 0) | X86_EFLAGS_VM | X86_EFLAGS_IF);
    s->cpl = 3;
    segment_set_real(s, X86_CS, (uint16_t)cs);
    for (unsigned i = 0; i < 5; i++)
        segment_set_real(s, order[i], (uint16_t)sel[i]);
    s->gpr[X86_RSP] = (uint32_t)sp;
    s->rip = rip & 0xffff;
    sys_mode_changed(cpu);
    return true;
}

/* The code segment that a return goes to. */
bool return_target(struct x86_cpu *cpu, uint16_t selector, struct desc *cs)
{
    unsigned rpl = selector & 3;
    if (is_null(selector))
        return fault_code(cpu, X86_GP, 0);
    if (!desc_read(cpu, selector, 0, cs))
        return false;
    bool fits = desc_conforming(cs) ? desc_dpl(cs) <= rpl : desc_dpl(cs) == rpl;
    bool both = in_long_mode(&cpu->state) && cs->attr & X86_ATTR_L && cs->attr & X86_ATTR_DB;
    if (!desc_is_code(cs) || rpl < cpu->state.cpl || !fits || both)
        return fault_code(cpu, X86_GP, selector & 0xfffc);
    if (!desc_present(cs))
        return fault_code(cpu, X86_NP, selector & 0xfffc);
    return desc_set_accessed(cpu, cs);
}

/* The stack segment that a return to an outer level (or IRETQ) loads; *null: it is a null selector in 64-bit mode. */
bool return_stack(struct x86_cpu *cpu, uint16_t selector, unsigned rpl, bool to64, struct desc *ss, bool *null)
{
    *null = is_null(selector) && to64 && rpl != 3;
    if (*null)
        return (selector & 3u) == rpl || fault_code(cpu, X86_GP, selector & 0xfffc);
    if (is_null(selector))
        return fault_code(cpu, X86_GP, 0);
    if (!desc_read(cpu, selector, 0, ss))
        return false;
    if ((selector & 3u) != rpl || !desc_is_stack(ss) || desc_dpl(ss) != rpl)
        return fault_code(cpu, X86_GP, selector & 0xfffc);
    if (!desc_present(ss))
        return fault_code(cpu, X86_SS_FAULT, selector & 0xfffc);
    return desc_set_accessed(cpu, ss);
}

/* Takes the outer stack, cs, and what an outer level may not keep. */
void return_commit_outer(struct x86_cpu *cpu, uint16_t cs_selector, const struct desc *cs, uint64_t rip,
                         uint16_t ss_selector, const struct desc *ss, bool null_ss, uint64_t sp)
{
    struct x86_state *s = &cpu->state;
    bool outer = (cs_selector & 3u) != s->cpl;
    s->cpl = cs_selector & 3;
    if (null_ss)
        segment_set_null(s, X86_SS, ss_selector);
    else
        segment_set(s, X86_SS, ss_selector, ss);
    bool to64 = in_long_mode(s) && cs->attr & X86_ATTR_L;
    uint64_t mask = to64 ? ~0ull : !null_ss && ss->attr & X86_ATTR_DB ? 0xffffffff : 0xffff;
    s->gpr[X86_RSP] = mask == 0xffff ? (s->gpr[X86_RSP] & ~mask) | (sp & mask) : sp & mask;
    if (outer)
        segments_drop_inner(s);
    code_set(cpu, cs_selector, cs, s->cpl, rip);
}

static bool iret_task(struct x86_cpu *cpu, uint64_t next_rip)
{
    struct x86_state *s = &cpu->state;
    struct desc tss;
    uint64_t link;
    if (!x86_mem_read(cpu, s->tr_base, 2, IR_AS_SUPERVISOR, &link))
        return false;
    if (link & 4 || is_null((uint16_t)link) || !desc_read(cpu, (uint16_t)link, 0, &tss))
        return fault_code(cpu, X86_TS, link & 0xfffc);
    if (desc_is_segment(&tss) || (desc_type(&tss) != TSS16_BUSY && desc_type(&tss) != TSS32_BUSY))
        return fault_code(cpu, X86_TS, link & 0xfffc);
    if (!desc_present(&tss))
        return fault_code(cpu, X86_NP, link & 0xfffc);
    return task_switch(cpu, &tss, TASK_IRET, next_rip, false, 0);
}

static bool iret_protected(struct x86_cpu *cpu, unsigned size, uint64_t next_rip)
{
    struct x86_state *s = &cpu->state;
    struct stack st = stack_current(cpu);
    uint64_t rip, cs_sel, flags, sp = 0, ss_sel = 0;
    struct desc cs, ss;
    bool null_ss = false, from64 = x86_code64(cpu);
    if (s->eflags & X86_EFLAGS_NT && !in_long_mode(s))
        return iret_task(cpu, next_rip);
    if (s->eflags & X86_EFLAGS_NT)
        return fault_code(cpu, X86_GP, 0);
    if (!stack_pop(&st, size, &rip) || !stack_pop(&st, size, &cs_sel) || !stack_pop(&st, size, &flags))
        return false;
    if (flags & X86_EFLAGS_VM && size == 4 && !s->cpl && !in_long_mode(s))
        return iret_to_vm86(cpu, &st, rip, cs_sel, flags);
    if (!return_target(cpu, (uint16_t)cs_sel, &cs))
        return false;
    unsigned rpl = cs_sel & 3, old_cpl = s->cpl;
    bool with_stack = from64 || rpl != s->cpl, to64 = in_long_mode(s) && cs.attr & X86_ATTR_L;
    if (with_stack && (!stack_pop(&st, size, &sp) || !stack_pop(&st, size, &ss_sel) ||
                       !return_stack(cpu, (uint16_t)ss_sel, rpl, to64, &ss, &null_ss)))
        return false;
    if (!code_target_ok(cpu, &cs, rip))
        return false;
    x86_eflags_set(s, (uint32_t)flags, popped_mask(s, size, old_cpl));
    if (with_stack) {
        return_commit_outer(cpu, (uint16_t)cs_sel, &cs, rip, (uint16_t)ss_sel, &ss, null_ss, sp);
    } else {
        stack_commit(&st);
        code_set(cpu, (uint16_t)cs_sel, &cs, s->cpl, rip);
    }
    return true;
}

/* a: operand size in bytes, b: PC of the next instruction. */
X86_HELPER_FN(iret)
{
    struct x86_cpu *c86 = cpu;
    c86->state.nmi_masked = 0; /* whether it faults or not (SDM 3A 6.7.1) */
    if (!(c86->state.cr0 & X86_CR0_PE) || c86->state.eflags & X86_EFLAGS_VM)
        iret_real(c86, (unsigned)a);
    else
        iret_protected(c86, (unsigned)a, b);
    return 0;
}

/* a: vector, b: PC of the next instruction, c: 1 for INT n (which VM86 guards and redirects).  INT1 is delivered as
 * if it came from outside: no DPL counts (SDM 2A, INT). */
X86_HELPER_FN(int)
{
    struct x86_cpu *c86 = cpu;
    struct x86_state *s = &c86->state;
    bool stepping = s->mode & X86_MODE_TF;
    enum vm86_int how = c && s->eflags & X86_EFLAGS_VM ? vm86_int(c86, (unsigned)a, b) : VM86_INT_GATE;
    if (how == VM86_INT_FAULT)
        return 0;
    rf_settle(s);
    if ((how == VM86_INT_DONE || event_deliver(c86, (unsigned)a, c || a != X86_DB, false, 0, b)) && stepping)
        s->debug_hits |= X86_DEBUG_NO_STEP;
    return 0;
}
