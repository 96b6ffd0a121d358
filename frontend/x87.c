/* x87 arithmetic by the host's own x87: the guest's registers, control and status word are loaded, the
 * instruction runs, and all is saved again.  No instruction that could report a pending exception comes before
 * the save, so an exception that the guest has unmasked gives the unmasked response and stays pending in the
 * status word, as on the guest's CPU. */
#include "frontend/internal.h"
#include <string.h>

/* Four bytes of code for each opcode D8 + n and ModRM byte: the instruction and a RET.  Memory forms have
 * their operand at RDX (mod 0, rm 2). */
__asm__(".pushsection .text\n"
        ".p2align 4\n"
        "tierce_x87_stubs:\n"
        ".set tierce_x87_op, 0\n"
        ".rept 8\n"
        ".set tierce_x87_modrm, 0\n"
        ".rept 256\n"
        ".byte 0xd8 + tierce_x87_op, tierce_x87_modrm, 0xc3, 0x90\n"
        ".set tierce_x87_modrm, tierce_x87_modrm + 1\n"
        ".endr\n"
        ".set tierce_x87_op, tierce_x87_op + 1\n"
        ".endr\n"
        ".popsection\n");
extern const uint8_t tierce_x87_stubs[] __attribute__((visibility("hidden")));

/* FNSAVE's image, 32-bit protected format (SDM 1 figure 8-9) */
struct image { uint32_t fcw, fsw, ftw, fip, fcs, fdp, fds; uint8_t st[8][10]; } __attribute__((packed));
enum { FSW_ES = 0x80, FSW_B = 0x8000, FSW_TOP_SHIFT = 11, FSW_TOP = 7 << 11, FLAGS = 0x3f };

static uint16_t tags_wide(const struct x86_state *s)
{
    uint16_t w = 0;
    for (unsigned i = 0; i < 8; i++)
        w |= (uint16_t)(s->fptag >> i & 1 ? 0 : 3 << 2 * i);
    return w;
}

static void image_make(const struct x86_state *s, struct image *m)
{
    *m = (struct image){.fcw = s->fcw, .fsw = (uint32_t)s->fsw | (uint32_t)s->fptop << FSW_TOP_SHIFT, .ftw = tags_wide(s)};
    for (unsigned i = 0; i < 8; i++)
        memcpy(m->st[i], &s->fpr[(s->fptop + i) & 7], 10);
}

static void image_take(struct x86_state *s, const struct image *m)
{
    s->fptop = m->fsw >> FSW_TOP_SHIFT & 7;
    s->fsw = (uint16_t)(m->fsw & ~(uint32_t)FSW_TOP);
    s->fptag = 0;
    for (unsigned i = 0; i < 8; i++)
        s->fptag |= (uint8_t)((m->ftw >> 2 * i & 3) != 3) << i;
    for (unsigned i = 0; i < 8; i++)
        memcpy(&s->fpr[(s->fptop + i) & 7], m->st[i], 10);
}

/* RFLAGS: only the arithmetic ones. */
static uint64_t run(struct image *m, unsigned index, void *operand, uint64_t flags)
{
    const uint8_t *stub = tierce_x87_stubs + 4 * index;
    __asm__ volatile("frstor %[m]\n\t"
                     "leaq -136(%%rsp), %%rsp\n\t"   /* past the red zone */
                     "pushq %[flags]\n\tpopfq\n\t"
                     "call *%[stub]\n\t"
                     "pushfq\n\tpopq %[flags]\n\t"
                     "leaq 136(%%rsp), %%rsp\n\t"
                     "fnsave %[m]"
                     : [m] "+m"(*m), [flags] "+b"(flags)
                     : [stub] "r"(stub), "d"(operand)
                     : "memory", "cc", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)");
    return flags;
}

static bool pending(struct x86_cpu *cpu)
{
    if (!(cpu->state.fsw & FSW_ES))
        return false;
    if (!(cpu->state.cr0 & X86_CR0_NE))
        return false; /* FERR#: see docs/status.md */
    x86_raise(cpu, X86_MF);
    return true;
}

X86_HELPER_FN(x87_check) { return pending(cpu); }

static void pointers(struct x86_state *s, uint64_t what, uint64_t ea)
{
    s->fip = s->rip;
    s->fdp = ea;
    s->fop = (uint16_t)(what & 0x7ff);
    s->fcs = s->fds = 0; /* deprecated: CPUID.7.0:EBX[13] */
}

/* --- The fast way, for guests that mask all exceptions: only the operands are loaded.  Where a register is empty that
 * should not be, or full, nothing is changed and the exact way runs instead.  (An unmasked underflow is raised by
 * exact tiny results too, which the masked one is not: such guests get the exact way alone.) */
enum { C1 = 0x200, PHYSICAL = 7 };

static struct x86_fpr *st(struct x86_state *s, unsigned i) { return &s->fpr[(s->fptop + i) & PHYSICAL]; }
static bool is_full(const struct x86_state *s, unsigned i) { return s->fptag >> ((s->fptop + i) & PHYSICAL) & 1; }

/* Runs the stub at `index` on ST(0) = a, ST(1) = b; ST(0) afterwards to *r0, and the next to *r1 where wanted. Every
 * form leaves `deep` registers (1 or 2). Returns the status word. */
static unsigned run_fast(unsigned fcw, unsigned index, const struct x86_fpr *a, const struct x86_fpr *b, void *operand, unsigned deep,
                         struct x86_fpr *r0, struct x86_fpr *r1)
{
    const uint8_t *stub = tierce_x87_stubs + 4 * index;
    uint16_t cw = (uint16_t)fcw, host = 0x37f, sw;
    __asm__ volatile("fldcw %0" : : "m"(cw));
    if (b)
        __asm__ volatile("fldt %0" : : "m"(*b));
    if (a)
        __asm__ volatile("fldt %0" : : "m"(*a));
    __asm__ volatile("leaq -136(%%rsp), %%rsp\n\tcall *%[stub]\n\tleaq 136(%%rsp), %%rsp\n\tfnstsw %%ax"
                     : "=a"(sw) : [stub] "r"(stub), "d"(operand) : "memory", "cc");
    if (deep >= 1)
        __asm__ volatile("fstpt %0" : "=m"(*r0));
    if (deep >= 2)
        __asm__ volatile("fstpt %0" : "=m"(*r1));
    __asm__ volatile("fnclex\n\tfldcw %0" : : "m"(host));
    return sw;
}

static bool all_masked(const struct x86_state *s) { return (s->fcw & FLAGS) == FLAGS; }

static void flags_keep(struct x86_state *s, unsigned sw) { s->fsw = (uint16_t)((s->fsw & ~C1) | (sw & (C1 | FLAGS))); }

static void put_st(struct x86_state *s, unsigned i, const struct x86_fpr *v) { memcpy(st(s, i), v, 10); }

static void pop(struct x86_state *s)
{
    s->fptag &= (uint8_t)~(1u << s->fptop);
    s->fptop = (s->fptop + 1) & PHYSICAL;
}

static void push(struct x86_state *s, const struct x86_fpr *v)
{
    s->fptop = (s->fptop - 1) & PHYSICAL;
    s->fptag |= (uint8_t)(1u << s->fptop);
    put_st(s, 0, v);
}

/* FADD and its kind on two registers: D8 to ST(0), DC to ST(i), DE with a pop. */
static bool fast_arithmetic(struct x86_state *s, unsigned index)
{
    unsigned op = index >> 8, digit = index >> 3 & 7, i = index & 7;
    struct x86_fpr r0 = {0}, r1 = {0};
    if ((op != 0 && op != 4 && op != 6) || digit == 2 || digit == 3 || i == 0 || !is_full(s, 0) || !is_full(s, i))
        return false;
    unsigned sw = run_fast(s->fcw, (index & ~7u) | 1, st(s, 0), st(s, i), NULL, op == 6 ? 1 : 2, &r0, &r1);
    flags_keep(s, sw);
    put_st(s, op == 0 ? 0 : i, op == 4 ? &r1 : &r0);
    if (op == 6)
        pop(s);
    return true;
}

static bool fast_moves(struct x86_state *s, unsigned index)
{
    unsigned i = index & 7;
    struct x86_fpr v;
    switch (index & ~7u) {
    case 0x1c0: /* FLD ST(i) */
        if (!is_full(s, i) || is_full(s, 7))
            return false;
        v = *st(s, i);
        push(s, &v);
        break;
    case 0x1c8: /* FXCH */
        if (!is_full(s, 0) || !is_full(s, i))
            return false;
        v = *st(s, 0);
        put_st(s, 0, st(s, i));
        put_st(s, i, &v);
        break;
    case 0x5d8: /* FSTP ST(i) */
        if (!is_full(s, 0))
            return false;
        put_st(s, i, st(s, 0));
        s->fptag |= (uint8_t)(1u << ((s->fptop + i) & PHYSICAL));
        pop(s);
        break;
    default:
        if ((index != 0x1e0 && index != 0x1e1) || !is_full(s, 0))
            return false;
        st(s, 0)->exponent = (uint16_t)(index == 0x1e0 ? st(s, 0)->exponent ^ 0x8000 : st(s, 0)->exponent & 0x7fff); /* FCHS, FABS */
    }
    s->fsw &= (uint16_t)~C1;
    return true;
}

static bool fast_sqrt(struct x86_state *s, unsigned index)
{
    struct x86_fpr r = {0};
    if (index != 0x1fa || !is_full(s, 0))
        return false;
    flags_keep(s, run_fast(s->fcw, index, st(s, 0), NULL, NULL, 1, &r, NULL));
    put_st(s, 0, &r);
    return true;
}

/* Memory arithmetic (D8, DC; DA, DE integers) and loads. */
static bool fast_memory(struct x86_state *s, unsigned index, void *operand)
{
    unsigned op = index >> 8, digit = index >> 3 & 7;
    bool arithmetic = !(op & 1) && digit != 2 && digit != 3;
    bool load = (op & 1 && digit == 0) || (op == 3 && digit == 5) || (op == 7 && digit == 5);
    struct x86_fpr r = {0};
    if ((!arithmetic && !load) || (arithmetic ? !is_full(s, 0) : is_full(s, 7)))
        return false;
    unsigned sw = run_fast(s->fcw, index | 2, arithmetic ? st(s, 0) : NULL, NULL, operand, 1, &r, NULL);
    flags_keep(s, sw);
    if (arithmetic)
        put_st(s, 0, &r);
    else
        push(s, &r);
    return true;
}

/* Stores: 1 done, 0 to be done the exact way, -1 a fault is pending. */
static int fast_store(struct x86_cpu *cpu, unsigned index, unsigned size, uint64_t linear)
{
    struct x86_state *s = &cpu->state;
    unsigned op = index >> 8, digit = index >> 3 & 7;
    uint8_t operand[16];
    struct x86_fpr r;
    bool pops = digit == 3 || (op == 3 && digit == 7) || (op == 7 && digit == 7);
    if (!is_full(s, 0) || digit == 1 || digit == 6)
        return 0;
    unsigned sw = run_fast(s->fcw, index | 2, st(s, 0), NULL, operand, pops ? 0 : 1, &r, NULL);
    if (!cpu->bus->write(cpu, linear, size, IR_WRITE, operand))
        return -1;
    flags_keep(s, sw);
    if (pops)
        pop(s);
    return 1;
}

static const struct { uint32_t eflags, packed; } pairs[] = {
    {X86_EFLAGS_CF, IR_FLAG_C}, {X86_EFLAGS_PF, IR_FLAG_P}, {X86_EFLAGS_AF, IR_FLAG_A},
    {X86_EFLAGS_ZF, IR_FLAG_Z}, {X86_EFLAGS_SF, IR_FLAG_S}, {X86_EFLAGS_OF, IR_FLAG_O}};

/* a: (opcode & 7) << 8 | ModRM */
X86_HELPER_FN(x87_reg)
{
    struct x86_cpu *c86 = cpu;
    struct x86_state *s = &c86->state;
    struct image m;
    if (pending(c86))
        return 0;
    unsigned index = a & 0x7ff;
    if (all_masked(s) && (fast_arithmetic(s, index) || fast_moves(s, index) || fast_sqrt(s, index))) {
        pointers(s, a, s->fdp);
        return 0;
    }
    image_make(s, &m);
    uint64_t flags = x86_eflags_get(s) & (X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF | X86_EFLAGS_ZF | X86_EFLAGS_SF | X86_EFLAGS_OF);
    flags = run(&m, a & 0x7ff, NULL, flags | 2);
    image_take(s, &m);
    pointers(s, a, s->fdp);
    uint32_t packed = 0;
    for (unsigned i = 0; i < 6; i++)
        packed |= flags & pairs[i].eflags ? pairs[i].packed : 0;
    s->flags = packed;
    return 0;
}

/* Which memory forms write: by opcode and /digit. */
static bool stores(unsigned index)
{
    static const uint8_t digits[8] = {[1] = 1 << 2 | 1 << 3, [3] = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 7,
                                      [5] = 1 << 1 | 1 << 2 | 1 << 3, [7] = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 7};
    return digits[index >> 8] >> (index >> 3 & 7) & 1;
}

/* a: opcode and /digit, size << 16; b: linear address; c: offset */
X86_HELPER_FN(x87_mem)
{
    struct x86_cpu *c86 = cpu;
    struct x86_state *s = &c86->state;
    unsigned index = a & 0x7ff, size = a >> 16 & 0xff;
    uint8_t operand[16], canary[2] = {0x55, 0xaa};
    struct image m, before;
    bool writes = stores(index), written = false;
    if (pending(c86) || (!writes && !c86->bus->read(c86, b, size, IR_READ, operand)))
        return 0;
    int done = !all_masked(s) ? 0 : writes ? fast_store(c86, index, size, b) : fast_memory(s, index, operand);
    if (done) {
        if (done > 0)
            pointers(s, a, c);
        return 0;
    }
    image_make(s, &m);
    before = m;
    /* An unmasked exception may leave memory as it was, and then it is not looked at: no page fault.  What is
     * still the canary, with either, was not written. */
    for (unsigned i = 0; i < (writes ? 2u : 1u) && !written; i++) {
        m = before;
        if (writes)
            memset(operand, canary[i], sizeof operand);
        run(&m, index | 2, operand, 2);
        for (unsigned k = 0; k < size; k++)
            written |= operand[k] != canary[i];
    }
    if (writes && written && !c86->bus->write(c86, b, size, IR_WRITE, operand))
        return 0;
    image_take(s, &m);
    pointers(s, a, c);
    return 0;
}

/* --- Control: words and areas */
static void update_pending(struct x86_state *s)
{
    bool es = s->fsw & ~s->fcw & FLAGS;
    s->fsw = (uint16_t)((s->fsw & ~(FSW_ES | FSW_B)) | (es ? FSW_ES | FSW_B : 0));
}

static uint16_t status(const struct x86_state *s) { return (uint16_t)(s->fsw | s->fptop << FSW_TOP_SHIFT); }

static void init(struct x86_state *s)
{
    s->fcw = 0x37f;
    s->fsw = s->fop = s->fcs = s->fds = 0;
    s->fip = s->fdp = 0;
    s->fptop = s->fptag = 0;
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
    s->fcw = (w[0] & 0x1f3f) | 0x40;
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
    update_pending(s);
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

static void load_area(struct x86_cpu *cpu, uint64_t at, bool narrow, bool registers)
{
    struct x86_state *s = &cpu->state;
    unsigned env = narrow ? ENV16 : ENV;
    uint8_t p[ENV + REGISTERS];
    if (!area_read(cpu, at, env + (registers ? REGISTERS : 0), p))
        return;
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
        init(s);
    } else {
        s->fcw |= FLAGS; /* FSTENV masks all exceptions (SDM 2A) */
        update_pending(s);
    }
}

static void store_word(struct x86_cpu *cpu, uint64_t at, uint16_t v) { cpu->bus->write(cpu, at, 2, IR_WRITE, &v); }

/* a: opcode and ModRM, bit 28: 16-bit operand size; b: linear address */
X86_HELPER_FN(x87_control)
{
    struct x86_cpu *c86 = cpu;
    struct x86_state *s = &c86->state;
    bool narrow = a >> 28 & 1;
    uint64_t v;
    switch (a & 0x7ff) {
    case 0x120: load_area(c86, b, narrow, false); break;      /* FLDENV */
    case 0x128:                                               /* FLDCW */
        if (x86_mem_read(c86, b, 2, 0, &v)) {
            s->fcw = (v & 0x1f3f) | 0x40;
            update_pending(s);
        }
        break;
    case 0x130: store_area(c86, b, narrow, false); break;     /* FNSTENV */
    case 0x138: store_word(c86, b, s->fcw); break;            /* FNSTCW */
    case 0x520: load_area(c86, b, narrow, true); break;       /* FRSTOR */
    case 0x530: store_area(c86, b, narrow, true); break;      /* FNSAVE */
    case 0x538: store_word(c86, b, status(s)); break;         /* FNSTSW m16 */
    case 0x7e0: v = status(s); memcpy(&s->gpr[X86_RAX], &v, 2); break; /* FNSTSW AX */
    case 0x3e2: s->fsw &= 0x7f00; break;                      /* FNCLEX */
    case 0x3e3: init(s); break;                               /* FNINIT */
    default: break;                                           /* FENI, FDISI, FSETPM: nothing since the 387 */
    }
    return 0;
}
