/* Every user-mode instruction form of the tables, on random and adversarial operands: the host's own CPU against
 * lift + interpreter, with and without the IR passes, and the template backend.  Registers, flags (less those that the row names as
 * undefined), MXCSR, x87 state, memory, and the exception taken must agree bit for bit.
 * Usage: fuzz_test [seed [cases-per-mnemonic [mnemonic]]] */
#include "frontend/internal.h"
#include "backend-tcg/backend-tcg.h"
#include "tests/silicon/oracle.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct info { const char *name, *notes, *family; uint16_t feature; unsigned done; };
static struct info infos[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
#define INSN(mnemonic, family, variant, feature, notes) [ZYDIS_MNEMONIC_##mnemonic] = {#mnemonic, notes, #family, X86_FEATURE_##feature, 0},
#include "frontend/x86_int.def"
#include "frontend/x86_sse.def"
#include "frontend/x86_x87.def"
#undef INSN
};

static uint64_t seed = 1;
static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed * 0x2545f4914f6cdd1dull;
}

/* --- The interpreter's side: guest memory is ORACLE_DATA, by its alias */
static struct { struct tcg_context tcg; struct x86_cpu cpu; } vcpu;
#define cpu vcpu.cpu
static uint8_t *data, *code;

static uint8_t *place(uint64_t at, unsigned size, unsigned access)
{
    if (at >= ORACLE_DATA && at <= ORACLE_DATA + ORACLE_DATA_SIZE - size)
        return data + (at - ORACLE_DATA);
    if (at >= ORACLE_CODE && at <= ORACLE_CODE + 3 * 4096 - size && !(access & IR_WRITE))
        return code + (at - ORACLE_CODE);
    return NULL;
}

static bool is_canonical(uint64_t a) { return (uint64_t)((int64_t)(a << 16) >> 16) == a; }

static bool probe(struct x86_cpu *c, uint64_t at, unsigned size, unsigned access)
{
    if (access & IR_ALIGNED && at & (size - 1)) {
        x86_raise_error(c, X86_GP, 0);
        return false;
    }
    if (place(at, size, access))
        return true;
    if (!is_canonical(at) || !is_canonical(at + size - 1)) {
        x86_raise_error(c, access & IR_SS ? X86_SS_FAULT : X86_GP, 0);
        return false;
    }
    c->state.fault_address = at;
    x86_raise_error(c, X86_PF, 4);
    return false;
}
static bool bus_read(struct x86_cpu *c, uint64_t at, unsigned size, unsigned access, void *to)
{
    if (!probe(c, at, size, access))
        return false;
    memcpy(to, place(at, size, access), size);
    return true;
}
static bool bus_write(struct x86_cpu *c, uint64_t at, unsigned size, unsigned access, const void *from)
{
    if (!probe(c, at, size, access | IR_WRITE))
        return false;
    memcpy(place(at, size, IR_WRITE), from, size);
    return true;
}
static void *bus_pointer(struct x86_cpu *c, uint64_t at, unsigned *size, unsigned access)
{
    (void)c;
    unsigned room = 4096 - (at & 4095);
    *size = *size < room ? *size : room;
    return place(at, *size, access);
}
static void mode_changed(struct x86_cpu *c) { (void)c; }
static const struct x86_bus bus = {.read = bus_read, .write = bus_write, .probe = probe, .pointer = bus_pointer, .mode_changed = mode_changed};

static bool env_translate(void *s, uint64_t at, unsigned size, unsigned access) { return probe(s, at, size, access); }
static void env_load(void *s, uint64_t at, unsigned size, void *to) { (void)s; memcpy(to, place(at, size, IR_READ), size); }
static void env_store(void *s, uint64_t at, unsigned size, const void *from) { (void)s; memcpy(place(at, size, IR_WRITE), from, size); }
static void env_raise(void *s, unsigned vector, bool has_error, uint64_t error)
{
    if (has_error)
        x86_raise_error(s, vector, (uint32_t)error);
    else
        x86_raise(s, vector);
}

static unsigned fetch(void *ctx, uint64_t at, unsigned max, uint8_t *to)
{
    (void)ctx;
    unsigned room = 4096 - (at & 4095);
    max = max < room ? max : room;
    if (!place(at, max, IR_READ))
        return 0;
    memcpy(to, place(at, max, IR_READ), max);
    return max;
}


static void state_in(const struct oracle_state *o)
{
    struct x86_state *s = &cpu.state;
    memcpy(s->gpr, o->gpr, sizeof s->gpr);
    s->rip = o->rip;
    x86_eflags_set(s, (uint32_t)o->rflags, 0xcd5);
    s->fcw = o->fx.fcw;
    s->fptop = o->fx.fsw >> 11 & 7;
    s->fsw = o->fx.fsw & ~0x3800;
    s->fptag = o->fx.ftw;
    for (unsigned i = 0; i < 8; i++) {
        s->fpr[(s->fptop + i) & 7].mantissa = o->fx.st[i].low;
        s->fpr[(s->fptop + i) & 7].exponent = o->fx.st[i].high;
    }
    s->fip = s->fdp = s->fop = s->fcs = s->fds = 0;
    s->mxcsr = o->fx.mxcsr;
    for (unsigned i = 0; i < 16; i++)
        memcpy(&s->vec[i], o->fx.xmm[i], 16);
    s->faulted = 0;
    x86_mode_update(&cpu);
}

static void state_out(struct oracle_state *o)
{
    const struct x86_state *s = &cpu.state;
    memcpy(o->gpr, s->gpr, sizeof s->gpr);
    o->rip = s->rip;
    o->rflags = x86_eflags_get(s);
    o->trap = s->faulted ? (int)s->fault_vector : 3;
    o->error = s->faulted && s->fault_has_error ? s->fault_error : 0;
    o->fx.fcw = s->fcw;
    o->fx.fsw = (uint16_t)(s->fsw | s->fptop << 11);
    o->fx.ftw = s->fptag;
    for (unsigned i = 0; i < 8; i++) {
        o->fx.st[i].low = s->fpr[(s->fptop + i) & 7].mantissa;
        o->fx.st[i].high = s->fpr[(s->fptop + i) & 7].exponent;
    }
    o->fx.mxcsr = s->mxcsr;
    for (unsigned i = 0; i < 16; i++)
        memcpy(o->fx.xmm[i], &s->vec[i], 16);
}

/* --- The template backend's side */
static struct tcg_buffer *buffer;
static struct tcg_block translated;
static unsigned by_tcg, not_by_tcg;

static uint64_t slow_translate(void *s, uint64_t at, unsigned size_access)
{
    unsigned size = size_access & 0xff;
    return probe(s, at, size, size_access >> 8) ? (uint64_t)place(at, size, size_access >> 8) : 0;
}

static const void *resume(const void *pc) { return tcg_fault_resume(&translated, pc); }

static int64_t *table_new(void)
{
    int64_t *p = mmap(NULL, TCG_TABLE_ENTRIES * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    for (unsigned i = 0; i < ORACLE_DATA_SIZE / 4096; i += 2) /* every other page is left to the slow path */
        p[(ORACLE_DATA >> 12) + i] = (int64_t)(uintptr_t)data - (int64_t)ORACLE_DATA;
    return p;
}

static bool tcg_init(void)
{
    int64_t *read = table_new(), *write = table_new();
    buffer = tcg_buffer_new(1 << 20);
    static struct tcg_jump jumps[TCG_JUMP_ENTRIES];
    memset(jumps, 0xff, sizeof jumps);
    vcpu.tcg.jumps = jumps;
    vcpu.tcg.slow_translate = slow_translate;
    oracle_resume = resume;
    if (read && write)
        tcg_tables_set(&vcpu.tcg, read, write);
    return read && write && buffer;
}

/* Runs a block in translated code; false: it left to the interpreter, or the backend refused it. */
static bool run_translated(const struct ir_block *b, uint64_t pc)
{
    struct tcg_options options = {.guest = &x86_guest, .pc = pc, .mode_id = 1};
    size_t at = 0;
    int exit;
    if (tcg_compile(buffer, &at, 1 << 20, b, &options, &translated) != TCG_OK) {
        not_by_tcg++;
        return false;
    }
    enum ir_leave leave = tcg_run(&cpu.state, &x86_guest, translated.entry, &exit);
    free(translated.sites);
    translated.sites = NULL;
    if (leave == IR_LEAVE_INTERPRET)
        return false;
    by_tcg++;
    return true;
}

enum variant { RAW, OPTIMISED, TRANSLATED, VARIANTS };
static const char *const variant_names[] = {"", " (optimised)", " (tcg)"};

static const char *interpret(struct oracle_state *o, enum variant variant, struct ir_block *b)
{
    static char error[200];
    bool optimise = variant != RAW;
    const struct x86_fetch f = {fetch, NULL};
    const struct x86_lift_limits limits = {.insns = 1, .bytes = 4096};
    unsigned insns;
    state_in(o);
    for (unsigned again = 0; ; again++) { /* REP and the like may come back to themselves */
        struct ir_env env = {.state = &cpu.state, .guest = &x86_guest, .pc = cpu.state.rip, .translate = env_translate,
                             .load = env_load, .store = env_store, .raise = env_raise};
        if (!x86_lift(cpu.model, cpu.state.mode, o->rip, o->rip, &f, &limits, b))
            return "fetch fault";
        const char *wrong = ir_verify(b, &x86_guest, error, sizeof error);
        if (wrong)
            return wrong;
        if (optimise)
            ir_optimise(b, &x86_guest);
        if (optimise && (wrong = ir_verify(b, &x86_guest, error, sizeof error)))
            return wrong;
        if (variant != TRANSLATED || !run_translated(b, o->rip))
            ir_interpret(b, &env, &insns);
        if (cpu.state.faulted || cpu.state.rip != o->rip || again > 100)
            break;
    }
    state_out(o);
    return NULL;
}

/* --- Random states */
static const uint64_t interesting[] = {0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 63, 64, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000,
    0xffffffff, 0x100000000, 0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff, 0x5555555555555555, 0x0f0f0f0f0f0f0f0f};
static uint64_t value(void)
{
    uint64_t v = rnd();
    switch (rnd() % 4) {
    case 0: return interesting[v % (sizeof interesting / sizeof *interesting)];
    case 1: return v >> (rnd() & 63);
    default: return v;
    }
}

static const uint32_t floats[] = {0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7fa00001, 0xffc12345, 1, 0x007fffff, 0x00800000, 0x7f7fffff, 0x4f000000, 0x5f000000, 0xcf000000, 0x3f000000, 0x3fc00000, 0x40200000};
static const uint64_t doubles[] = {0, 0x8000000000000000, 0x3ff0000000000000, 0xbff0000000000000, 0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000, 0x7ff4000000000001, 0xfff8123456789abc,
    1, 0x000fffffffffffff, 0x0010000000000000, 0x7fefffffffffffff, 0x41e0000000000000, 0x43e0000000000000, 0xc3e0000000000000, 0x3fe0000000000000, 0x3ff8000000000000, 0x4004000000000000, 0x47efffffe0000000, 0x36a0000000000000};

static uint64_t fp_value(void)
{
    switch (rnd() % 4) {
    case 0: return floats[rnd() % (sizeof floats / 4)] | (uint64_t)floats[rnd() % (sizeof floats / 4)] << 32;
    case 1: return doubles[rnd() % (sizeof doubles / 8)];
    case 2: return rnd() & 0xbfffffffbfffffff;
    default: return value();
    }
}

static void random_x87(struct oracle_fx *f)
{
    static const uint16_t exponents[] = {0, 1, 0x3fff, 0x3ffe, 0x4000, 0x403e, 0x7ffe, 0x7fff, 0xbfff, 0xffff, 0x8000, 0x3f81, 0x43fe, 0x3c01};
    f->fcw = 0x37f;
    if (rnd() % 2)
        f->fcw = (uint16_t)((rnd() & 0xf00) | 0x40 | (rnd() % 4 ? 0x3f : rnd() & 0x3f));
    f->fsw = (uint16_t)(rnd() & 0x7f00);
    f->fsw |= (uint16_t)(rnd() & 0x3f & f->fcw); /* masked ones alone: nothing pends */
    f->ftw = rnd() % 3 ? 0xff : (uint8_t)rnd();
    for (unsigned i = 0; i < 8; i++) {
        f->st[i].low = rnd() % 4 ? value() | 1ull << 63 : value();
        f->st[i].high = rnd() % 2 ? exponents[rnd() % (sizeof exponents / 2)] : (uint16_t)(0x3ff0 + rnd() % 80);
        if (rnd() % 8 == 0)
            f->st[i].low = 1ull << (rnd() & 63);
    }
}

static void random_state(struct oracle_state *s)
{
    memset(s, 0, sizeof *s);
    for (unsigned i = 0; i < 16; i++)
        s->gpr[i] = value();
    static const uint8_t pointers[] = {3, 4, 5, 6, 7};
    for (unsigned i = 0; i < sizeof pointers; i++)
        s->gpr[pointers[i]] = ORACLE_DATA + 0x1000 + (rnd() & 0x1fff & (rnd() % 2 ? ~15ull : ~0ull));
    s->gpr[4] &= ~7ull;
    if (rnd() % 3 == 0)
        s->gpr[1] = rnd() & 0x3f; /* counts */
    s->rflags = 0x202 | (rnd() & 0x8d5) | (rnd() % 4 ? 0 : 0x400);
    random_x87(&s->fx);
    s->fx.mxcsr = 0x1f80 | (rnd() & 0xe07f & (rnd() % 2 ? 0xffff : 0));
    if (rnd() % 8 == 0) /* overflow and underflow stay masked: see docs/status.md */
        s->fx.mxcsr &= ~(uint32_t)(rnd() & 0x1380);
    for (unsigned i = 0; i < 32; i++)
        s->fx.xmm[i / 2][i & 1] = fp_value();
}

/* --- Random instructions: opcode maps with every byte, prefixes, ModRM that keeps memory near RBX, RBP, RSI or RDI */
static unsigned random_insn(uint8_t *p)
{
    unsigned n = 0, map = (unsigned)(rnd() % 8);
    static const uint8_t prefixes[] = {0x66, 0xf2, 0xf3, 0xf0};
    bool vex = map == 7;
    if (!vex) {
        while (rnd() % 3 == 0 && n < 3)
            p[n++] = prefixes[rnd() % (rnd() % 4 ? 3 : 4)];
        if (rnd() % 2)
            p[n++] = (uint8_t)(0x40 | (rnd() & 15));
    } else {
        uint8_t r = (uint8_t)rnd();
        p[n++] = 0xc4;
        p[n++] = (uint8_t)((r & 0xe0) | (rnd() % 3 + 1));
        p[n++] = (uint8_t)(rnd() & 0xfb); /* L = 0 */
    }
    if (map >= 2 && !vex)
        p[n++] = 0x0f;
    if (map == 5)
        p[n++] = 0x38;
    if (map == 6)
        p[n++] = 0x3a;
    p[n++] = (uint8_t)(map == 1 ? 0xd8 + rnd() % 8 : rnd());
    uint64_t tail = rnd();
    if (rnd() % 2) { /* memory: [reg + disp8] or an immediate */
        static const uint8_t bases[] = {3, 5, 6, 7};
        p[n++] = (uint8_t)(0x40 | (tail & 0x38) | bases[rnd() % 4]);
        p[n++] = (uint8_t)rnd();
    } else {
        p[n++] = (uint8_t)(0xc0 | tail);
    }
    tail = value();
    memcpy(p + n, &tail, 8);
    return n + 8;
}

static bool is_wanted(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *op)
{
    static const char *const never[] = {"jump", "near_call", "ret", "rdrand", "xgetbv", "xsetbv", "cache_line", "xsave_area"};
    const struct info *f = &infos[in->mnemonic];
    if (!f->name || !x86_model_has(cpu.model, f->feature))
        return false;
    for (unsigned i = 0; i < sizeof never / sizeof *never; i++)
        if (!strcmp(f->family, never[i]) && !(i == 0 && op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE))
            return false;
    for (unsigned i = 0; i < in->operand_count; i++) {
        ZydisRegisterClass c = op[i].type == ZYDIS_OPERAND_TYPE_REGISTER ? ZydisRegisterGetClass(op[i].reg.value) : 0;
        if (c == ZYDIS_REGCLASS_SEGMENT || c == ZYDIS_REGCLASS_CONTROL || c == ZYDIS_REGCLASS_DEBUG || c == ZYDIS_REGCLASS_YMM)
            return false;
        if (op[i].type == ZYDIS_OPERAND_TYPE_MEMORY && (op[i].mem.segment == ZYDIS_REGISTER_FS || op[i].mem.segment == ZYDIS_REGISTER_GS))
            return false;
        if (op[i].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && op[i].imm.is_relative && (op[i].imm.value.s < -100 || op[i].imm.value.s > 100 || (op[i].imm.value.s < 0 && op[i].imm.value.s >= -15)))
            return false;
    }
    return true;
}

static uint64_t undefined_flags(const char *notes)
{
    const char *u = strchr(notes, 'U');
    uint64_t m = 0;
    for (; u && *u; u++)
        m |= *u == 'C' ? 1 : *u == 'P' ? 4 : *u == 'A' ? 16 : *u == 'Z' ? 64 : *u == 'S' ? 128 : *u == 'O' ? 0x800 : 0;
    return m;
}

static const char *compare(const struct oracle_state *want, const struct oracle_state *have, uint64_t undefined)
{
    static char text[160];
    if (want->trap != have->trap)
        return snprintf(text, sizeof text, "exception: silicon %d, here %d", want->trap, have->trap), text;
    if (want->rip != have->rip)
        return snprintf(text, sizeof text, "rip: silicon %llx, here %llx", (unsigned long long)want->rip, (unsigned long long)have->rip), text;
    for (unsigned i = 0; i < 16; i++)
        if (want->gpr[i] != have->gpr[i])
            return snprintf(text, sizeof text, "gpr %u: silicon %016llx, here %016llx", i, (unsigned long long)want->gpr[i], (unsigned long long)have->gpr[i]), text;
    uint64_t mask = 0xcd5 & ~undefined;
    if ((want->rflags ^ have->rflags) & mask)
        return snprintf(text, sizeof text, "flags: silicon %llx, here %llx", (unsigned long long)(want->rflags & mask), (unsigned long long)(have->rflags & mask)), text;
    if (want->fx.mxcsr != have->fx.mxcsr)
        return snprintf(text, sizeof text, "mxcsr: silicon %x, here %x", want->fx.mxcsr, have->fx.mxcsr), text;
    for (unsigned i = 0; i < 16; i++)
        if (memcmp(want->fx.xmm[i], have->fx.xmm[i], 16))
            return snprintf(text, sizeof text, "xmm%u: silicon %016llx%016llx, here %016llx%016llx", i, (unsigned long long)want->fx.xmm[i][1], (unsigned long long)want->fx.xmm[i][0],
                            (unsigned long long)have->fx.xmm[i][1], (unsigned long long)have->fx.xmm[i][0]), text;
    if (want->fx.fcw != have->fx.fcw || want->fx.fsw != have->fx.fsw || want->fx.ftw != have->fx.ftw)
        return snprintf(text, sizeof text, "x87 fcw fsw ftw: silicon %x %x %x, here %x %x %x", want->fx.fcw, want->fx.fsw, want->fx.ftw, have->fx.fcw, have->fx.fsw, have->fx.ftw), text;
    for (unsigned i = 0; i < 8; i++)
        if (want->fx.st[i].low != have->fx.st[i].low || want->fx.st[i].high != have->fx.st[i].high)
            return snprintf(text, sizeof text, "st%u: silicon %04x:%016llx, here %04x:%016llx", i, want->fx.st[i].high, (unsigned long long)want->fx.st[i].low,
                            have->fx.st[i].high, (unsigned long long)have->fx.st[i].low), text;
    return NULL;
}

static uint8_t before[ORACLE_DATA_SIZE], after[ORACLE_DATA_SIZE];
static unsigned passed, failed, failed_by[ZYDIS_MNEMONIC_MAX_VALUE + 1];

static void report(unsigned mnemonic, const uint8_t *insn, unsigned length, const char *what, const struct oracle_state *in, int variant)
{
    failed++;
    if (failed_by[mnemonic]++ >= 2)
        return;
    char text[128] = "";
    x86_disassemble(X86_MODE_CODE64, in->rip, insn, 15, text, sizeof text);
    fprintf(stderr, "FAIL %s%s: %s  [", text, variant_names[variant], what);
    for (unsigned i = 0; i < length; i++)
        fprintf(stderr, "%02x", insn[i]);
    fprintf(stderr, "] rax %llx rcx %llx rdx %llx flags %llx mxcsr %x fcw %x fsw %x ftw %x\n", (unsigned long long)in->gpr[0], (unsigned long long)in->gpr[1],
            (unsigned long long)in->gpr[2], (unsigned long long)in->rflags, in->fx.mxcsr, in->fx.fcw, in->fx.fsw, in->fx.ftw);
}

static void run_case(const uint8_t *insn, unsigned length, unsigned mnemonic, struct ir_block *b)
{
    struct oracle_state in, silicon, here;
    random_state(&in);
    in.rip = ORACLE_CODE + 4096 + 1024;
    for (unsigned i = 0; i < ORACLE_DATA_SIZE; i += 8) {
        uint64_t v = i % 24 ? value() : fp_value();
        memcpy(before + i, &v, 8);
    }
    memset(code + 4096 + 1024 - 160, 0xcc, 340);
    memcpy(code + 4096 + 1024, insn, length);
    silicon = in;
    memcpy(data, before, sizeof before);
    oracle_run(&silicon);
    memcpy(after, data, sizeof after);
    const struct info *f = &infos[mnemonic];
    for (int variant = 0; variant < VARIANTS; variant++) {
        here = in;
        memcpy(data, before, sizeof before);
        const char *wrong = interpret(&here, (enum variant)variant, b);
        /* An address outside of the guest's data that happens to be this process's own. */
        if (!wrong && here.trap == X86_PF && silicon.trap != X86_PF && !place(cpu.state.fault_address, 1, IR_WRITE))
            break;
        /* Makers differ in whether a store that an unmasked exception suppresses looks at its address. */
        if (!wrong && !strcmp(f->family, "x87") && silicon.trap == 3 && here.trap != 3 && silicon.fx.fsw & 0x80)
            break;
        bool random_flags = silicon.trap != 3;
        if (!wrong)
{
            /* A store of an MMX register that faults has reset TOP already on the silicon; here the fault comes first. */
            if (silicon.trap != 3 && strncmp(f->family, "x87", 3))
                here.fx.fsw = silicon.fx.fsw, here.fx.ftw = silicon.fx.ftw, memcpy(here.fx.st, silicon.fx.st, sizeof here.fx.st);
            wrong = compare(&silicon, &here, random_flags ? 0xcd5 : undefined_flags(f->notes));
        }
        if (!wrong && memcmp(after, data, sizeof after))
{
            static char text[100];
            unsigned i = 0;
            while (after[i] == data[i])
                i++;
            snprintf(text, sizeof text, "memory differs at byte %u from RBX %d: silicon %02x%02x%02x%02x here %02x%02x%02x%02x", i, (int)(ORACLE_DATA + i - in.gpr[3]),
                     after[i+3], after[i+2], after[i+1], after[i], data[i+3], data[i+2], data[i+1], data[i]);
            wrong = text;
        }
        if (wrong)
            report(mnemonic, insn, length, wrong, &in, variant);
        else
            passed++;
    }
}

int main(int argc, char **argv)
{
    char error[200];
    if (argc > 1)
        seed = strtoull(argv[1], NULL, 0) | 1;
    unsigned each = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 40;
    cpu.model = x86_model_find("x86-64-v2,+bmi1,+bmi2,+adx,+lzcnt,+aes,+pclmulqdq,+sha", error, sizeof error);
    cpu.bus = &bus;
    if (!cpu.model || !oracle_init()) {
        fprintf(stderr, "cannot set up: %s\n", cpu.model ? "mmap or sigaction" : error);
        return 1;
    }
    code = oracle_code();
    data = oracle_data();
    if (!tcg_init()) {
        fprintf(stderr, "cannot set up the backend\n");
        return 1;
    }
    x86_reset(&cpu, X86_RESET_POWER);
    struct x86_state *s = &cpu.state;
    s->cr0 = 0x80050033;
    s->cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE;
    s->efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE;
    s->seg_attr[X86_CS] = 0xa0fb;
    s->cpl = 3;
    s->eflags = 0x202;
    s->xcr0 = 3;
    ZydisDecoder decoder;
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    struct ir_block b;
    ir_block_init(&b);
    memset(code, 0xcc, 3 * 4096);
    unsigned idle = 0;
    for (uint64_t tries = 0; tries < 40000000 && idle < 400000; tries++) {
        uint8_t insn[24];
        ZydisDecodedInstruction in;
        ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
        unsigned n = random_insn(insn);
        idle++;
        if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, insn, n < 15 ? n : 15, &in, op)) || !is_wanted(&in, op))
            continue;
        if (infos[in.mnemonic].done >= each || (argc > 3 && strcmp(infos[in.mnemonic].name, argv[3])))
            continue;
        infos[in.mnemonic].done++;
        idle = 0;
        run_case(insn, in.length, in.mnemonic, &b);
    }
    unsigned never = 0, rows = 0;
    for (unsigned i = 0; i <= ZYDIS_MNEMONIC_MAX_VALUE; i++) {
        if (infos[i].name)
            rows++;
        if (failed_by[i])
            fprintf(stderr, "%s: %u of %u failed\n", infos[i].name, failed_by[i], VARIANTS * infos[i].done);
        if (infos[i].name && !infos[i].done && argc <= 3) {
            never++;
            printf("not met: %s\n", infos[i].name);
        }
    }
    printf("silicon: %u mnemonics, %u not met; %u cases ran translated, %u blocks the backend left to the interpreter\n%u passed, %u failed\n", rows, never, by_tcg, not_by_tcg, passed, failed);
    ir_block_free(&b);
    x86_model_free(cpu.model);
    return failed != 0;
}
