/* x87 in C: pending exceptions, and what loads and stores words and areas. */
#include "frontend/system.h"
#include <string.h>

enum { FSW_ES = 0x80, FSW_B = 0x8000, FSW_TOP_SHIFT = 11, FSW_TOP = 7 << 11, FSW_CONDITIONS = 0x4700, FLAGS = 0x3f };

static bool pending(struct x86_cpu *cpu)
{
    if (!(cpu->state.fsw & FSW_ES))
        return false;
    if (cpu->state.cr0 & X86_CR0_NE)
        x86_raise(cpu, X86_MF);
    else
        sys_ferr_wait(cpu);
    return cpu->state.faulted;
}

X86_HELPER_FN(x87_check) { return pending(cpu); }

/* Which memory forms write: by opcode and /digit. */
static bool stores(unsigned function)
{
    static const uint8_t digits[8] = {[1] = 1 << 2 | 1 << 3, [3] = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 7,
                                      [5] = 1 << 1 | 1 << 2 | 1 << 3, [7] = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 7};
    return digits[function >> 8] >> (function >> 3 & 7) & 1;
}

static bool run_memory(struct x86_cpu *cpu, unsigned function, unsigned size, enum x86_seg seg, uint64_t offset)
{
    uint8_t operand[16];
    uint64_t linear;
    if (!x86_seg_linear(cpu, seg, offset, size, stores(function) ? IR_WRITE : IR_READ, &linear))
        return false;
    if (!stores(function)) {
        if (!cpu->bus->read(cpu, linear, size, IR_READ, operand))
            return false;
        ir_x87_run(&cpu->state, &x86_guest, function, operand, 0);
        return true;
    }
    /* AMD's CPUs look at the address of a store that is not made, Intel's do not. */
    if (!cpu->bus->probe(cpu, linear, size, IR_WRITE))
        return false;
    return !ir_x87_store(&cpu->state, &x86_guest, function, size, operand) || cpu->bus->write(cpu, linear, size, IR_WRITE, operand);
}

/* An instruction that found an exception pending.  With CR0.NE clear and IGNNE# it goes on.
 * a: function (ir/ops_x87.def), size of its memory operand << 16, segment << 24; b: its offset */
X86_HELPER_FN(x87_pending)
{
    struct x86_cpu *c86 = cpu;
    struct x86_state *s = &c86->state;
    unsigned function = a & 0x7ff, size = a >> 16 & 0xff;
    if (pending(c86))
        return 0;
    if (!size)
        s->flags = ir_x87_run(s, &x86_guest, function, NULL, s->flags);
    else if (!run_memory(c86, function, size, (enum x86_seg)(a >> 24 & 7), b))
        return 0;
    s->fip = s->rip;
    s->fop = (uint16_t)function;
    if (size)
        s->fdp = b;
    if (!x86_model_has(c86->model, X86_FEATURE_ZERO_FCS_FDS)) {
        s->fcs = s->seg_sel[X86_CS];
        s->fds = size ? s->seg_sel[a >> 24 & 7] : s->fds;
    }
    return 0;
}

/* --- Control: words and areas */
/* After a change of the control or the status word: ES and B follow from both (SDM 1 8.1.3.3), and so does the mode. */
static void masks_changed(struct x86_cpu *cpu)
{
    struct x86_state *s = &cpu->state;
    bool es = s->fsw & ~s->fcw & FLAGS;
    s->fsw = (uint16_t)((s->fsw & ~(FSW_ES | FSW_B)) | (es ? FSW_ES | FSW_B : 0));
    sys_mode_changed(cpu);
}

static uint16_t status(const struct x86_state *s) { return (uint16_t)(s->fsw | s->fptop << FSW_TOP_SHIFT); }

static void init(struct x86_cpu *cpu)
{
    struct x86_state *s = &cpu->state;
    s->fcw = 0x37f;
    s->fsw = s->fop = s->fcs = s->fds = 0;
    s->fip = s->fdp = 0;
    s->fptop = s->fptag = 0;
    masks_changed(cpu);
}

/* The tag word of FSTENV tells zero and special values apart (SDM 1 8.1.7). */
static uint16_t tags_full(const struct x86_state *s)
{
    uint16_t w = 0;
    for (unsigned i = 0; i < 8; i++) {
        const struct x86_fpr *r = &s->fpr[i];
        unsigned e = r->exponent & 0x7fff, tag = 3;
        if (s->fptag >> i & 1)
            tag = e == 0 && !r->mantissa ? 1 : e == 0 || e == 0x7fff || !(r->mantissa >> 63) ? 2 : 0;
        w |= (uint16_t)(tag << 2 * i);
    }
    return w;
}

static bool is_real(const struct x86_cpu *cpu) { return !(cpu->state.mode & X86_MODE_PE) || cpu->state.mode & X86_MODE_VM; }

static void env_put(const struct x86_cpu *cpu, bool narrow, uint8_t *p)
{
    const struct x86_state *s = &cpu->state;
    uint32_t fip = (uint32_t)s->fip, fdp = (uint32_t)s->fdp;
    uint32_t words[7] = {s->fcw, status(s), tags_full(s), fip, s->fcs | (uint32_t)s->fop << 16, fdp, s->fds};
    if (is_real(cpu)) { /* SDM 1 figures 8-10, 8-12: linear addresses, with the opcode beside them */
        fip += (uint32_t)s->fcs << 4;
        fdp += (uint32_t)s->fds << 4;
        words[3] = fip & 0xffff;
        words[4] = narrow ? (fip >> 4 & 0xf000) | s->fop : (fip >> 4 & 0x0ffff000) | s->fop;
        words[5] = fdp & 0xffff;
        words[6] = narrow ? fdp >> 4 & 0xf000 : fdp >> 4 & 0x0ffff000;
    }
    for (unsigned i = 0; i < 7; i++) {
        uint32_t w = narrow ? words[i] & 0xffff : i < 3 || (i == 6 && !is_real(cpu)) ? words[i] | 0xffff0000 : words[i];
        memcpy(p + i * (narrow ? 2 : 4), &w, narrow ? 2 : 4);
    }
}

static void env_get(struct x86_cpu *cpu, bool narrow, const uint8_t *p)
{
    struct x86_state *s = &cpu->state;
    uint32_t w[7] = {0};
    for (unsigned i = 0; i < 7; i++)
        memcpy(&w[i], p + i * (narrow ? 2 : 4), narrow ? 2 : 4);
    s->fcw = (w[0] & X86_FCW_VALID) | X86_FCW_ONES;
    s->fptop = w[1] >> FSW_TOP_SHIFT & 7;
    s->fsw = (uint16_t)(w[1] & ~(uint32_t)FSW_TOP);
    s->fptag = 0;
    for (unsigned i = 0; i < 8; i++)
        s->fptag |= (uint8_t)((w[2] >> 2 * i & 3) != 3) << i;
    if (is_real(cpu)) {
        s->fip = (w[3] & 0xffff) | (narrow ? (w[4] & 0xf000) << 4 : (w[4] & 0x0ffff000) << 4);
        s->fdp = (w[5] & 0xffff) | (narrow ? (w[6] & 0xf000) << 4 : (w[6] & 0x0ffff000) << 4);
        s->fop = w[4] & 0x7ff;
        s->fcs = s->fds = 0;
    } else {
        s->fip = w[3];
        s->fcs = (uint16_t)w[4];
        s->fop = narrow ? 0 : w[4] >> 16 & 0x7ff;
        s->fdp = w[5];
        s->fds = (uint16_t)w[6];
    }
    masks_changed(cpu);
}

enum { ENV = 28, ENV16 = 14, REGISTERS = 80 };

static bool area_read(struct x86_cpu *cpu, uint64_t at, unsigned size, uint8_t *p)
{
    for (unsigned i = 0; i < size; i += 2)
        if (!cpu->bus->read(cpu, at + i, 2, IR_READ, p + i))
            return false;
    return true;
}

static bool area_write(struct x86_cpu *cpu, uint64_t at, unsigned size, const uint8_t *p)
{
    if (!cpu->bus->probe(cpu, at, 2, IR_WRITE) || !cpu->bus->probe(cpu, at + size - 2, 2, IR_WRITE))
        return false;
    for (unsigned i = 0; i < size; i += 2)
        if (!cpu->bus->write(cpu, at + i, 2, IR_WRITE, p + i))
            return false;
    return true;
}

/* seen: the area's control word as the block has read and judged it, SEEN with it; memory may have changed since. */
enum { SEEN = 1 << 16 };
static void load_area(struct x86_cpu *cpu, uint64_t at, bool narrow, bool registers, uint64_t seen)
{
    struct x86_state *s = &cpu->state;
    unsigned env = narrow ? ENV16 : ENV;
    uint8_t p[ENV + REGISTERS];
    if (!area_read(cpu, at, env + (registers ? REGISTERS : 0), p))
        return;
    if (seen & SEEN)
        memcpy(p, &seen, 2);
    env_get(cpu, narrow, p);
    for (unsigned i = 0; i < 8 && registers; i++)
        memcpy(&s->fpr[(s->fptop + i) & 7], p + env + 10 * i, 10);
}

static void store_area(struct x86_cpu *cpu, uint64_t at, bool narrow, bool registers)
{
    struct x86_state *s = &cpu->state;
    unsigned env = narrow ? ENV16 : ENV;
    uint8_t p[ENV + REGISTERS];
    env_put(cpu, narrow, p);
    for (unsigned i = 0; i < 8 && registers; i++)
        memcpy(p + env + 10 * i, &s->fpr[(s->fptop + i) & 7], 10);
    if (!area_write(cpu, at, env + (registers ? REGISTERS : 0), p))
        return;
    if (registers) {
        init(cpu);
    } else {
        s->fcw |= FLAGS; /* FSTENV masks all exceptions (SDM 2A) */
        masks_changed(cpu);
    }
}


/* a: function, bit 28: 16-bit operand size; b: linear address; c: see load_area */
X86_HELPER_FN(x87_control)
{
    struct x86_cpu *c86 = cpu;
    struct x86_state *s = &c86->state;
    bool narrow = a >> 28 & 1;
    uint64_t v;
    switch (a & (0x700 | ((a & 0xc0) == 0xc0 ? 0xff : 0x38))) { /* of memory: /digit alone */
    case 0x120: load_area(c86, b, narrow, false, c); break;   /* FLDENV */
    case 0x128:                                               /* FLDCW */
        if (x86_mem_read(c86, b, 2, 0, &v)) {
            s->fcw = (v & X86_FCW_VALID) | X86_FCW_ONES;
            masks_changed(c86);
        }
        break;
    case 0x130: store_area(c86, b, narrow, false); break;     /* FNSTENV */
    case 0x520: load_area(c86, b, narrow, true, c); break;    /* FRSTOR */
    case 0x530: store_area(c86, b, narrow, true); break;      /* FNSAVE */
    case 0x3e2:                                               /* FNCLEX */
        s->fsw &= FSW_CONDITIONS;
        masks_changed(c86);
        break;
    case 0x3e3: init(c86); break;                             /* FNINIT */
    default: break;
    }
    return 0;
}
