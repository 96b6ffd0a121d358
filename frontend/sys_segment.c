/* Descriptors, segment registers and stacks, with the checks of SDM 3A chapters 3 and 5. */
#include "frontend/system.h"
#include <string.h>

void sys_ferr_wait(struct x86_cpu *cpu)
{
    cpu->state.ferr = 1;
    if (!cpu->bus->ferr(cpu, true))
        x86_raise(cpu, X86_FREEZE); /* SDM 1 D.2.1.2 */
}

/* FERR# falls when no error is pending; what takes errors away (FNCLEX, FNINIT, loads) ends up here. */
static void ferr_update(struct x86_cpu *cpu)
{
    enum { FSW_ES = 0x80 };
    if (!cpu->state.ferr || cpu->state.fsw & FSW_ES)
        return;
    cpu->state.ferr = 0;
    cpu->bus->ferr(cpu, false);
}

void sys_mode_changed(struct x86_cpu *cpu)
{
    ferr_update(cpu);
    x86_mode_update(cpu);
    cpu->bus->mode_changed(cpu);
}

/* --- Descriptors */
static void desc_parse(struct desc *d)
{
    d->attr = d->high >> 8 & 0xf0ff;
    d->base = (d->low >> 16) | (uint64_t)(d->high & 0xff) << 16 | (d->high & 0xff000000);
    d->limit = (d->low & 0xffff) | (d->high & 0xf0000);
    if (d->attr & X86_ATTR_G)
        d->limit = d->limit << 12 | 0xfff;
}

bool desc_read(struct x86_cpu *cpu, uint16_t selector, uint16_t ext, struct desc *d)
{
    const struct x86_state *s = &cpu->state;
    uint64_t base = selector & 4 ? s->ldtr_base : s->gdtr_base, raw;
    uint32_t limit = selector & 4 ? s->ldtr_limit : s->gdtr_limit, index = selector & ~7u;
    bool usable = !(selector & 4) || (s->ldtr_attr & X86_ATTR_P && !(s->ldtr_attr & X86_ATTR_NULL));
    if (!usable || index + 7 > limit)
        return fault_code(cpu, X86_GP, (selector & 0xfffc) | ext);
    d->where = base + index;
    if (!in_long_mode(s))
        d->where = (uint32_t)d->where;
    if (!x86_mem_read(cpu, d->where, 8, IR_AS_SUPERVISOR, &raw))
        return false;
    d->low = (uint32_t)raw;
    d->high = (uint32_t)(raw >> 32);
    d->selector = selector;
    desc_parse(d);
    return true;
}

bool desc_read_upper(struct x86_cpu *cpu, const struct desc *d, uint16_t ext, uint64_t *upper)
{
    const struct x86_state *s = &cpu->state;
    uint32_t limit = d->selector & 4 ? s->ldtr_limit : s->gdtr_limit;
    if ((d->selector & ~7u) + 15 > limit)
        return fault_code(cpu, X86_GP, (d->selector & 0xfffc) | ext);
    return x86_mem_read(cpu, d->where + 8, 8, IR_AS_SUPERVISOR, upper);
}

static bool set_type(struct x86_cpu *cpu, struct desc *d, uint32_t bits, uint32_t clear)
{
    uint8_t byte = (uint8_t)((d->attr | bits) & ~clear);
    if (((d->attr | bits) & ~clear) == d->attr)
        return true;
    if (!x86_mem_write(cpu, d->where + 5, 1, IR_AS_SUPERVISOR, byte))
        return false;
    d->attr = (d->attr | bits) & ~clear;
    return true;
}

bool desc_set_accessed(struct x86_cpu *cpu, struct desc *d) { return set_type(cpu, d, X86_ATTR_ACCESSED, 0); }
bool desc_set_busy(struct x86_cpu *cpu, struct desc *d, bool busy) { return set_type(cpu, d, busy ? 2 : 0, busy ? 0 : 2); }

/* --- Segment registers */
void segment_set(struct x86_state *s, enum x86_seg seg, uint16_t selector, const struct desc *d)
{
    s->seg_sel[seg] = selector;
    s->seg_base[seg] = d->base;
    s->seg_limit[seg] = d->limit;
    s->seg_attr[seg] = d->attr;
}

void segment_set_null(struct x86_state *s, enum x86_seg seg, uint16_t selector)
{
    s->seg_sel[seg] = selector;
    s->seg_base[seg] = 0;
    s->seg_limit[seg] = 0;
    s->seg_attr[seg] = X86_ATTR_NULL | (seg == X86_SS ? (s->cpl & 3u) << X86_ATTR_DPL_SHIFT : 0);
}

/* Real mode keeps limit and rights as they are (that is how "unreal mode" comes about); VM86 sets them. */
void segment_set_real(struct x86_state *s, enum x86_seg seg, uint16_t selector)
{
    s->seg_sel[seg] = selector;
    s->seg_base[seg] = (uint32_t)selector << 4;
    if (s->eflags & X86_EFLAGS_VM) {
        s->seg_limit[seg] = 0xffff;
        s->seg_attr[seg] = 0xf3;
    } else if (s->seg_attr[seg] & X86_ATTR_NULL) {
        s->seg_limit[seg] = 0xffff;
        s->seg_attr[seg] = 0x93;
    }
}

static bool load_ss(struct x86_cpu *cpu, uint16_t selector)
{
    struct x86_state *s = &cpu->state;
    unsigned rpl = selector & 3;
    struct desc d;
    if (is_null(selector)) {
        if (!x86_code64(cpu) || s->cpl == 3 || rpl != s->cpl)
            return fault_code(cpu, X86_GP, 0);
        segment_set_null(s, X86_SS, selector);
        return true;
    }
    if (!desc_read(cpu, selector, 0, &d))
        return false;
    if (rpl != s->cpl || !desc_is_stack(&d) || desc_dpl(&d) != s->cpl)
        return fault_code(cpu, X86_GP, selector & 0xfffc);
    if (!desc_present(&d))
        return fault_code(cpu, X86_SS_FAULT, selector & 0xfffc);
    if (!desc_set_accessed(cpu, &d))
        return false;
    segment_set(s, X86_SS, selector, &d);
    return true;
}

static bool load_data(struct x86_cpu *cpu, enum x86_seg seg, uint16_t selector)
{
    struct x86_state *s = &cpu->state;
    struct desc d;
    if (is_null(selector)) {
        segment_set_null(s, seg, selector);
        return true;
    }
    if (!desc_read(cpu, selector, 0, &d))
        return false;
    bool readable = desc_is_segment(&d) && (!(d.attr & X86_ATTR_CODE) || d.attr & X86_ATTR_READABLE);
    unsigned rpl = selector & 3, weakest = rpl > s->cpl ? rpl : s->cpl;
    if (!readable || (!desc_conforming(&d) && weakest > desc_dpl(&d)))
        return fault_code(cpu, X86_GP, selector & 0xfffc);
    if (!desc_present(&d))
        return fault_code(cpu, X86_NP, selector & 0xfffc);
    if (!desc_set_accessed(cpu, &d))
        return false;
    segment_set(s, seg, selector, &d);
    return true;
}

bool x86_segment_load(struct x86_cpu *cpu, enum x86_seg seg, uint16_t selector)
{
    struct x86_state *s = &cpu->state;
    if (!(s->cr0 & X86_CR0_PE) || s->eflags & X86_EFLAGS_VM)
        segment_set_real(s, seg, selector);
    else if (!(seg == X86_SS ? load_ss(cpu, selector) : load_data(cpu, seg, selector)))
        return false;
    sys_mode_changed(cpu);
    return true;
}

void segments_drop_inner(struct x86_state *s)
{
    static const enum x86_seg segs[] = {X86_ES, X86_DS, X86_FS, X86_GS};
    for (unsigned i = 0; i < 4; i++) {
        uint32_t attr = s->seg_attr[segs[i]];
        bool conforming = attr & X86_ATTR_CODE && attr & X86_ATTR_CONFORMING;
        if (attr & X86_ATTR_NULL || conforming || (attr >> X86_ATTR_DPL_SHIFT & 3) >= s->cpl)
            continue;
        segment_set_null(s, segs[i], 0);
    }
}

/* --- Segment checks for helpers that address memory by segment and offset */
static bool seg_fault(struct x86_cpu *cpu, enum x86_seg seg) { return fault_code(cpu, seg == X86_SS ? X86_SS_FAULT : X86_GP, 0); }

static bool in_limit(uint32_t attr, uint32_t limit, uint64_t offset, unsigned size)
{
    uint64_t last = offset + (size ? size - 1 : 0);
    bool down = !(attr & X86_ATTR_CODE) && attr & X86_ATTR_DOWN;
    uint64_t top = attr & X86_ATTR_DB ? 0xffffffff : 0xffff;
    return down ? offset > limit && last <= top : last <= limit;
}

bool x86_seg_linear(struct x86_cpu *cpu, enum x86_seg seg, uint64_t offset, unsigned size, unsigned access, uint64_t *linear)
{
    const struct x86_state *s = &cpu->state;
    uint32_t attr = s->seg_attr[seg];
    if (x86_code64(cpu)) {
        *linear = offset + (seg >= X86_FS ? s->seg_base[seg] : 0);
        if (!x86_is_canonical(*linear) || !x86_is_canonical(*linear + (size ? size - 1 : 0)))
            return seg_fault(cpu, seg);
        return true;
    }
    *linear = (uint32_t)(s->seg_base[seg] + offset);
    if (access & IR_ALIGNED && *linear & (size - 1))
        return fault_code(cpu, X86_GP, 0);
    if (s->cr0 & X86_CR0_PE && !(s->eflags & X86_EFLAGS_VM)) {
        bool code = attr & X86_ATTR_CODE;
        if (attr & X86_ATTR_NULL)
            return seg_fault(cpu, seg);
        if (access & IR_WRITE && (code || !(attr & X86_ATTR_WRITABLE)))
            return seg_fault(cpu, seg);
        if (access & IR_READ && code && !(attr & X86_ATTR_READABLE))
            return seg_fault(cpu, seg);
    }
    return in_limit(attr, s->seg_limit[seg], offset, size) || seg_fault(cpu, seg);
}

static bool alignment_ok(struct x86_cpu *cpu, uint64_t linear, unsigned size)
{
    return !(cpu->state.mode & X86_MODE_AC) || size > 8 || size & (size - 1) || x86_access_check(cpu, linear, size, IR_AC);
}

bool x86_seg_read(struct x86_cpu *cpu, enum x86_seg seg, uint64_t offset, unsigned size, void *to)
{
    uint64_t linear;
    return x86_seg_linear(cpu, seg, offset, size, IR_READ, &linear) && alignment_ok(cpu, linear, size) &&
           cpu->bus->read(cpu, linear, size, IR_READ | (seg == X86_SS ? IR_SS : 0), to);
}

bool x86_seg_write(struct x86_cpu *cpu, enum x86_seg seg, uint64_t offset, unsigned size, const void *from)
{
    uint64_t linear;
    return x86_seg_linear(cpu, seg, offset, size, IR_WRITE, &linear) && alignment_ok(cpu, linear, size) &&
           cpu->bus->write(cpu, linear, size, IR_WRITE | (seg == X86_SS ? IR_SS : 0), from);
}

/* --- Stacks */
struct stack stack_current(struct x86_cpu *cpu) { return stack_as_in(cpu, x86_code64(cpu)); }

struct stack stack_as_in(struct x86_cpu *cpu, bool code64)
{
    struct x86_state *s = &cpu->state;
    if (code64)
        return stack_long(cpu, s->gpr[X86_RSP]);
    bool big = s->seg_attr[X86_SS] & X86_ATTR_DB;
    return (struct stack){cpu, s->seg_base[X86_SS], s->gpr[X86_RSP], big ? 0xffffffff : 0xffff, s->seg_limit[X86_SS], s->seg_attr[X86_SS], 0, false};
}

struct stack stack_of(struct x86_cpu *cpu, const struct desc *ss, uint64_t sp, uint16_t error)
{
    return (struct stack){cpu, ss->base, sp, ss->attr & X86_ATTR_DB ? 0xffffffff : 0xffff, ss->limit, ss->attr, error, false};
}

struct stack stack_long(struct x86_cpu *cpu, uint64_t sp) { return (struct stack){.cpu = cpu, .sp = sp, .mask = ~0ull, .flat64 = true}; }

static bool stack_linear(struct stack *st, uint64_t offset, unsigned size, uint64_t *linear)
{
    if (st->flat64) {
        *linear = offset;
        return x86_is_canonical(offset) || fault_code(st->cpu, X86_SS_FAULT, st->error);
    }
    *linear = (uint32_t)(st->base + offset);
    if (st->attr & X86_ATTR_NULL) /* none could be loaded in a task switch */
        return fault_code(st->cpu, X86_SS_FAULT, st->error);
    return in_limit(st->attr, st->limit, offset, size) || fault_code(st->cpu, X86_SS_FAULT, st->error);
}

bool stack_has_room(struct stack st, unsigned size, unsigned count)
{
    uint64_t linear;
    for (; count; count--) {
        st.sp = (st.sp - size) & st.mask;
        if (!stack_linear(&st, st.sp, size, &linear) || !st.cpu->bus->probe(st.cpu, linear, size, IR_WRITE | IR_SS))
            return false;
    }
    return true;
}

bool stack_push(struct stack *st, unsigned size, uint64_t value)
{
    uint64_t linear, sp = (st->sp - size) & st->mask;
    if (!stack_linear(st, sp, size, &linear) || !x86_mem_write(st->cpu, linear, size, IR_SS, value))
        return false;
    st->sp = sp;
    return true;
}

bool stack_pop(struct stack *st, unsigned size, uint64_t *value)
{
    uint64_t linear, sp = st->sp & st->mask;
    if (!stack_linear(st, sp, size, &linear) || !x86_mem_read(st->cpu, linear, size, IR_SS, value))
        return false;
    st->sp = (sp + size) & st->mask;
    return true;
}

void stack_commit(struct stack *st)
{
    uint64_t *rsp = &st->cpu->state.gpr[X86_RSP];
    *rsp = (*rsp & ~st->mask) | (st->sp & st->mask);
    if (st->mask == 0xffffffff)
        *rsp = st->sp & st->mask;
}

/* --- Code */
bool code_target_ok(struct x86_cpu *cpu, const struct desc *cs, uint64_t rip)
{
    bool to64 = in_long_mode(&cpu->state) && cs->attr & X86_ATTR_L;
    if (to64 ? !x86_is_canonical(rip) : rip > cs->limit)
        return fault_code(cpu, X86_GP, 0);
    return true;
}

void code_set(struct x86_cpu *cpu, uint16_t selector, const struct desc *cs, unsigned cpl, uint64_t rip)
{
    struct x86_state *s = &cpu->state;
    segment_set(s, X86_CS, (uint16_t)((selector & ~3u) | cpl), cs);
    s->cpl = (uint8_t)cpl;
    s->rip = rip;
    sys_mode_changed(cpu);
}
