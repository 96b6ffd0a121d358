/* Task state segments and the hardware task switch (SDM 3A chapter 7). */
#include "frontend/system.h"

/* --- Stacks of inner levels */
bool tss_stack(struct x86_cpu *cpu, unsigned level, uint16_t ext, uint16_t *ss, uint64_t *sp)
{
    const struct x86_state *s = &cpu->state;
    bool wide = s->tr_attr & 8;
    unsigned size = wide ? 4 : 2, at = wide ? 4 + level * 8 : 2 + level * 4;
    uint64_t v;
    if (at + size + 1 > s->tr_limit)
        return fault_code(cpu, X86_TS, (s->tr_sel & 0xfffc) | ext);
    if (!x86_mem_read(cpu, s->tr_base + at, size, IR_AS_SUPERVISOR, sp) ||
        !x86_mem_read(cpu, s->tr_base + at + size, 2, IR_AS_SUPERVISOR, &v))
        return false;
    *ss = (uint16_t)v;
    return true;
}

bool tss_long_stack(struct x86_cpu *cpu, unsigned slot, uint16_t ext, uint64_t *rsp)
{
    const struct x86_state *s = &cpu->state;
    unsigned at = 4 + slot * 8;
    if (at + 7 > s->tr_limit)
        return fault_code(cpu, X86_TS, (s->tr_sel & 0xfffc) | ext);
    if (!x86_mem_read(cpu, s->tr_base + at, 8, IR_AS_SUPERVISOR, rsp))
        return false;
    return x86_is_canonical(*rsp) || fault_code(cpu, X86_SS_FAULT, ext);
}

/* --- The switch */
static const uint8_t seg_order[] = {X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS};
/* Where things stand in a TSS: 32-bit and 16-bit form. */
struct layout { unsigned size, cr3, eip, eflags, gpr, seg, ldt, seg_count, seg_step, limit; };
static const struct layout layout32 = {4, 0x1c, 0x20, 0x24, 0x28, 0x48, 0x60, 6, 4, 0x67};
static const struct layout layout16 = {2, 0, 0x0e, 0x10, 0x12, 0x22, 0x2a, 4, 2, 0x2b};

struct image { uint64_t eip, eflags, gpr[8], seg[6], ldt, cr3; };

static bool save_old(struct x86_cpu *cpu, const struct layout *l, uint64_t next_rip, uint32_t eflags)
{
    struct x86_state *s = &cpu->state;
    uint64_t base = s->tr_base;
    if (!x86_mem_write(cpu, base + l->eip, l->size, IR_AS_SUPERVISOR, next_rip) ||
        !x86_mem_write(cpu, base + l->eflags, l->size, IR_AS_SUPERVISOR, eflags))
        return false;
    for (unsigned i = 0; i < 8; i++)
        if (!x86_mem_write(cpu, base + l->gpr + i * l->size, l->size, IR_AS_SUPERVISOR, s->gpr[i]))
            return false;
    for (unsigned i = 0; i < l->seg_count; i++)
        if (!x86_mem_write(cpu, base + l->seg + i * l->seg_step, 2, IR_AS_SUPERVISOR, s->seg_sel[seg_order[i]]))
            return false;
    return true;
}

static bool load_image(struct x86_cpu *cpu, const struct layout *l, uint64_t base, struct image *im)
{
    *im = (struct image){0};
    if ((l->cr3 && !x86_mem_read(cpu, base + l->cr3, 4, IR_AS_SUPERVISOR, &im->cr3)) ||
        !x86_mem_read(cpu, base + l->eip, l->size, IR_AS_SUPERVISOR, &im->eip) ||
        !x86_mem_read(cpu, base + l->eflags, l->size, IR_AS_SUPERVISOR, &im->eflags) ||
        !x86_mem_read(cpu, base + l->ldt, 2, IR_AS_SUPERVISOR, &im->ldt))
        return false;
    for (unsigned i = 0; i < 8; i++)
        if (!x86_mem_read(cpu, base + l->gpr + i * l->size, l->size, IR_AS_SUPERVISOR, &im->gpr[i]))
            return false;
    for (unsigned i = 0; i < l->seg_count; i++)
        if (!x86_mem_read(cpu, base + l->seg + i * l->seg_step, 2, IR_AS_SUPERVISOR, &im->seg[i]))
            return false;
    return true;
}

static bool load_ldt(struct x86_cpu *cpu, uint16_t selector)
{
    struct x86_state *s = &cpu->state;
    struct desc d;
    s->ldtr_sel = selector;
    s->ldtr_attr = X86_ATTR_NULL;
    if (is_null(selector))
        return true;
    if (selector & 4 || !desc_read(cpu, selector, 0, &d) || desc_is_segment(&d) || desc_type(&d) != LDT || !desc_present(&d))
        return fault_code(cpu, X86_TS, selector & 0xfffc);
    s->ldtr_base = d.base;
    s->ldtr_limit = d.limit;
    s->ldtr_attr = d.attr;
    return true;
}

/* Segments of the new task; what goes wrong here is #TS in the new task (SDM 3A table 7-1). */
static bool load_code(struct x86_cpu *cpu, uint16_t selector)
{
    struct x86_state *s = &cpu->state;
    struct desc d;
    unsigned rpl = selector & 3;
    if (is_null(selector) || !desc_read(cpu, selector, 0, &d))
        return fault_code(cpu, X86_TS, selector & 0xfffc);
    bool fits = desc_is_code(&d) && (desc_conforming(&d) ? desc_dpl(&d) <= rpl : desc_dpl(&d) == rpl);
    if (!fits)
        return fault_code(cpu, X86_TS, selector & 0xfffc);
    if (!desc_present(&d))
        return fault_code(cpu, X86_NP, selector & 0xfffc);
    if (!desc_set_accessed(cpu, &d))
        return false;
    segment_set(s, X86_CS, selector, &d);
    return true;
}

static bool load_segments(struct x86_cpu *cpu, const struct image *im, bool vm)
{
    struct x86_state *s = &cpu->state;
    if (vm) {
        for (unsigned i = 0; i < 6; i++)
            segment_set_real(s, seg_order[i], (uint16_t)im->seg[i]);
        s->cpl = 3;
        return true;
    }
    s->cpl = im->seg[1] & 3;
    if (!load_code(cpu, (uint16_t)im->seg[1]))
        return false;
    static const uint8_t data[] = {2, 0, 3, 4, 5}; /* SS first */
    for (unsigned i = 0; i < 5; i++)
        if (!x86_segment_load(cpu, seg_order[data[i]], (uint16_t)im->seg[data[i]])) {
            if (s->fault_vector == X86_GP)
                s->fault_vector = X86_TS;
            return false;
        }
    return true;
}

static void take_registers(struct x86_cpu *cpu, const struct image *im, const struct layout *l)
{
    struct x86_state *s = &cpu->state;
    for (unsigned i = 0; i < 8; i++)
        s->gpr[i] = l->size == 4 ? im->gpr[i] : (s->gpr[i] & 0xffff0000) | im->gpr[i];
    s->rip = im->eip;
    x86_eflags_set(s, (uint32_t)im->eflags, l->size == 4 ? 0x3f7fd5 : 0x7fd5);
    for (unsigned i = 0; i < 6; i++) { /* selectors first, all unusable until they are loaded */
        s->seg_sel[seg_order[i]] = (uint16_t)im->seg[i];
        s->seg_attr[seg_order[i]] = X86_ATTR_NULL;
    }
    s->dr[7] &= ~0x55ull; /* local breakpoints */
}

static bool push_error(struct x86_cpu *cpu, const struct layout *l, uint32_t error)
{
    struct stack st = stack_current(cpu);
    if (!stack_push(&st, l->size, error))
        return false;
    stack_commit(&st);
    return true;
}

/* Leaves the old task; from here on faults belong to the new one. */
static bool leave_old(struct x86_cpu *cpu, struct desc *tss, enum task_kind kind, uint64_t next_rip)
{
    struct x86_state *s = &cpu->state;
    uint32_t eflags = x86_eflags_get(s);
    struct desc old;
    if (kind == TASK_IRET)
        eflags &= ~(uint32_t)X86_EFLAGS_NT;
    if (!save_old(cpu, s->tr_attr & 8 ? &layout32 : &layout16, next_rip, eflags))
        return false;
    if ((kind == TASK_JUMP || kind == TASK_IRET) && (!desc_read(cpu, s->tr_sel, 0, &old) || !desc_set_busy(cpu, &old, false)))
        return false;
    if (kind == TASK_CALL || kind == TASK_EVENT)
        if (!x86_mem_write(cpu, tss->base, 2, IR_AS_SUPERVISOR, s->tr_sel))
            return false;
    return kind == TASK_IRET || desc_set_busy(cpu, tss, true);
}

/* From here on faults are the new task's, at its EIP. */
static bool new_task_fault(struct x86_cpu *cpu)
{
    cpu->state.fault_moved = 1;
    cpu->state.fault_rip = cpu->state.rip;
    return false;
}

bool task_switch(struct x86_cpu *cpu, struct desc *tss, enum task_kind kind, uint64_t next_rip, bool has_error, uint32_t error)
{
    struct x86_state *s = &cpu->state;
    const struct layout *l = desc_type(tss) & 8 ? &layout32 : &layout16;
    struct image im;
    uint64_t trap = 0;
    if (tss->limit < l->limit)
        return fault_code(cpu, X86_TS, tss->selector & 0xfffc);
    if (!load_image(cpu, l, tss->base, &im) || (l->size == 4 && !x86_mem_read(cpu, tss->base + 0x64, 2, IR_AS_SUPERVISOR, &trap)))
        return false;
    if (!leave_old(cpu, tss, kind, next_rip))
        return false;
    if (kind == TASK_CALL || kind == TASK_EVENT)
        im.eflags |= X86_EFLAGS_NT;
    s->tr_sel = tss->selector;
    s->tr_base = tss->base;
    s->tr_limit = tss->limit;
    s->tr_attr = tss->attr | 2;
    s->cr0 |= X86_CR0_TS;
    if (l->size == 4 && s->cr0 & X86_CR0_PG && s->cr3 != im.cr3) {
        s->cr3 = im.cr3;
        if (s->cr4 & X86_CR4_PAE && !sys_load_pdptes(cpu, im.cr3)) {
            s->rip = im.eip;
            return new_task_fault(cpu);
        }
        cpu->bus->tlb_flush(cpu, X86_FLUSH_NON_GLOBAL, 0);
    }
    take_registers(cpu, &im, l);
    bool ok = load_ldt(cpu, (uint16_t)im.ldt) && load_segments(cpu, &im, l->size == 4 && im.eflags & X86_EFLAGS_VM);
    sys_mode_changed(cpu);
    if (!ok)
        return new_task_fault(cpu);
    if (s->rip > s->seg_limit[X86_CS]) {
        fault_code(cpu, X86_GP, 0);
        return new_task_fault(cpu);
    }
    if (has_error && !push_error(cpu, l, error))
        return new_task_fault(cpu);
    if (trap & 1) {
        x86_raise(cpu, X86_DB);
        s->fault_dr6 = 1u << 15; /* BT */
        return new_task_fault(cpu);
    }
    return true;
}
