/* Random and adversarial states: see cases.h. */
#include "tests/silicon/cases.h"
#include <string.h>

const struct row rows[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
#define INSN(mnemonic, family, variant, feature, notes) [ZYDIS_MNEMONIC_##mnemonic] = {#mnemonic, notes, #family, X86_FEATURE_##feature},
#include "frontend/x86.def"
};

bool is_family(const struct test_case *c, const char *family) { return c->row && !strcmp(c->row->family, family); }

/* --- Values */
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

/* Zeros, ones, infinities, quiet and signalling NaNs with payloads, denormals, the edges of formats and integers. */
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
    f->fsw |= (uint16_t)(rnd() & 0x3f & (rnd() % 16 ? f->fcw : 0x3f)); /* seldom one that is unmasked, and so pends */
    if (f->fsw & ~f->fcw & 0x3f)
        f->fsw |= 0x8080;
    f->ftw = rnd() % 3 ? 0xff : (uint8_t)rnd();
    for (unsigned i = 0; i < 8; i++) {
        f->st[i].low = rnd() % 4 ? value() | 1ull << 63 : value();
        f->st[i].high = rnd() % 2 ? exponents[rnd() % (sizeof exponents / 2)] : (uint16_t)(0x3ff0 + rnd() % 80);
        if (rnd() % 8 == 0)
            f->st[i].low = 1ull << (rnd() & 63);
    }
}

/* Most are well inside; others straddle pages, run into what may not be written or is not mapped, or are anywhere. */
static uint64_t pick_address(unsigned size)
{
    uint64_t r = rnd(), back = size > 1 ? 1 + (r >> 20) % (size - 1) : 0;
    switch (r % 32) {
    case 0: return ORACLE_DATA - back;
    case 1: return ORACLE_DATA + ORACLE_WRITABLE - back;
    case 2: return ORACLE_DATA + ORACLE_WRITABLE + (r >> 32) % (ORACLE_DATA_SIZE - ORACLE_WRITABLE);
    case 3: return ORACLE_DATA + ORACLE_DATA_SIZE - back;
    case 4: case 5: return ORACLE_DATA + 0x1000 * (1 + (r >> 32) % 3) - back;
    case 6: return r & 0x100000000 ? value() : (1ull << 47) - back;
    default: return ORACLE_DATA + 0x200 + ((r >> 32) % (ORACLE_WRITABLE - 0x600) & (r & 0x8000 ? ~0ull : ~15ull));
    }
}

static void random_state(struct test_case *c)
{
    struct oracle_state *s = &c->in;
    memset(s, 0, sizeof *s);
    for (unsigned i = 0; i < 16; i++)
        s->gpr[i] = value();
    static const uint8_t pointers[] = {3, 4, 5, 6, 7};
    for (unsigned i = 0; i < sizeof pointers; i++)
        s->gpr[pointers[i]] = pick_address(64) - oracle_modes[c->mode].seg[X86_DS].base * (oracle_modes[c->mode].bits != 64);
    if (rnd() % 8)
        s->gpr[4] &= ~7ull;
    if (rnd() % 3 == 0)
        s->gpr[1] = rnd() & 0x3f; /* counts */
    s->rflags = 0x202 | (rnd() & 0x8d5) | (rnd() % 4 ? 0 : X86_EFLAGS_DF) | (rnd() % 16 ? 0 : X86_EFLAGS_AC);
    random_x87(&s->fx);
    s->fx.mxcsr = 0x1f80 | (rnd() & 0xe07f & (rnd() % 2 ? 0xffff : 0));
    if (rnd() % 8 == 0)
        s->fx.mxcsr &= ~(uint32_t)(rnd() & 0x1f80);
    for (unsigned i = 0; i < 32; i++)
        s->fx.xmm[i / 2][i & 1] = fp_value();
    if (oracle_modes[c->mode].bits != 64) {
        for (unsigned i = 0; i < 16; i++)
            s->gpr[i] = i < 8 ? (uint32_t)s->gpr[i] : 0;
        memset(s->fx.xmm[8], 0, 8 * sizeof s->fx.xmm[0]);
    }
}

/* --- Putting operands where they make sense */
static uint64_t base_of(const struct test_case *c, ZydisRegister segment)
{
    enum x86_seg seg = lift_seg(segment);
    bool counts = oracle_modes[c->mode].bits != 64 || seg == X86_FS || seg == X86_GS;
    return counts ? oracle_modes[c->mode].seg[seg].base : 0;
}

static void register_set(struct test_case *c, ZydisRegister r, uint64_t v)
{
    unsigned bits = c->insn.in.address_width, n = (unsigned)ZydisRegisterGetId(r) & 15;
    uint64_t low = bits == 64 ? v : v & ((1ull << bits) - 1), high = bits == 64 || rnd() % 4 ? 0 : value() << (bits & 63);
    c->in.gpr[n] = oracle_modes[c->mode].bits == 64 ? low | high : (uint32_t)(low | high);
}

static void bytes_put(uint8_t *at, unsigned size, uint64_t v) { memcpy(at, &v, size > 8 ? 8 : size); }

static void fill(uint8_t *before, uint64_t at, unsigned size)
{
    uint64_t v[8];
    for (unsigned i = 0; i < 8; i++)
        v[i] = i % 3 ? fp_value() : value();
    for (unsigned i = 0; i < size; i++)
        if (at + i >= ORACLE_DATA && at + i < ORACLE_DATA + ORACLE_DATA_SIZE)
            before[at + i - ORACLE_DATA] = (uint8_t)(v[i / 8 % 8] >> i % 8 * 8);
}

/* Makes the registers of memory operand o (or its displacement, where it has no base and may be changed) lead to some address. */
static uint64_t aim(struct test_case *c, const ZydisDecodedOperand *o, uint8_t *before, bool keep)
{
    unsigned size = o->size >= 8 ? o->size / 8 : 1;
    uint64_t at = pick_address(size), offset = at - base_of(c, o->mem.segment), index = 0;
    int64_t disp = o->mem.disp.has_displacement ? o->mem.disp.value : 0;
    bool pc_relative = o->mem.base == ZYDIS_REGISTER_RIP || o->mem.base == ZYDIS_REGISTER_EIP;
    if (rnd() % 32 == 0)
        return 0; /* as it falls */
    if (o->mem.index != ZYDIS_REGISTER_NONE && o->mem.index != o->mem.base) {
        index = rnd() % 64 - (rnd() & 16);
        register_set(c, o->mem.index, index);
    }
    offset -= index * (o->mem.scale ? o->mem.scale : 1u);
    if (o->mem.base != ZYDIS_REGISTER_NONE && !pc_relative)
        register_set(c, o->mem.base, offset - (uint64_t)disp);
    else if (keep)
        at = c->memory;
    else if (c->insn.in.raw.disp.size)
        bytes_put(c->insn.bytes + c->insn.in.raw.disp.offset, c->insn.in.raw.disp.size / 8, pc_relative ? offset - c->in.rip - c->insn.in.length : offset);
    fill(before, at - 16, size + 32);
    return at;
}

/* Selectors of all kinds: null, the host's user segments with fit and unfit RPL, the LDT's, hidden ones, beyond a limit. */
static uint16_t selector(void)
{
    static const uint16_t some[] = {0, 3, 0x23, 0x2b, 0x33, 0x20, 0x30, 0x2a, 0x10, 0x18, 0x43, 0x57, 0xfff8, 7, 0xf, 0x17, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x47, 0x4f};
    uint16_t any = (uint16_t)rnd();
    if (rnd() % 16 || any >> 3 == 15) /* entry 15 of Linux's GDT tells the CPU's number, which changes */
        any = some[rnd() % (sizeof some / 2)];
    return any;
}

static void immediates(struct test_case *c)
{
    for (unsigned k = 0; k < 2; k++) {
        const unsigned size = c->insn.in.raw.imm[k].size / 8u, length = c->insn.in.length;
        uint64_t v = rnd() % 4 && size == 1 ? rnd() : value();
        if (!size)
            continue;
        if (k && c->insn.op[0].type == ZYDIS_OPERAND_TYPE_POINTER)
            v = selector();
        if (c->insn.in.mnemonic == ZYDIS_MNEMONIC_ENTER && rnd() % 4) /* a frame that there is room for */
            v = rnd() % (k ? 4 : 64);
        if (c->insn.in.raw.imm[k].is_relative) { /* near by, and not into the instruction itself */
            if (size == 1 || rnd() % 8)
                v = rnd() % 100 + (rnd() & 1 ? -(uint64_t)(100 + length) : 0);
            else if (ir_signed(v, size * 8) < 0 && ir_signed(v, size * 8) >= -(int64_t)length)
                v = 0;
        }
        bytes_put(c->insn.bytes + c->insn.in.raw.imm[k].offset, size, v);
    }
}

static uint64_t code_target(const struct test_case *c)
{
    uint64_t base = oracle_modes[c->mode].bits == 64 ? 0 : oracle_modes[c->mode].seg[X86_CS].base;
    return rnd() % 8 ? ORACLE_CODE - base + 0x100 + rnd() % 0x200 : value();
}

static void branch_target(struct test_case *c, uint64_t memory, uint8_t *before)
{
    uint64_t target = code_target(c);
    const ZydisDecodedOperand *o = c->insn.op;
    if (o->type == ZYDIS_OPERAND_TYPE_REGISTER && c->insn.in.operand_count_visible)
        c->in.gpr[(unsigned)ZydisRegisterGetId(o->reg.value) & 15] = oracle_modes[c->mode].bits == 64 ? target : (uint32_t)target;
    else if (memory >= ORACLE_DATA && memory <= ORACLE_DATA + ORACLE_DATA_SIZE - 8)
        bytes_put(before + (memory - ORACLE_DATA), 8, target);
}

static bool is_far(const struct test_case *c) { return c->insn.in.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR; }

static void stack_put(const struct test_case *c, uint8_t *before, unsigned n, uint64_t v)
{
    bool wide = oracle_modes[c->mode].bits == 64;
    unsigned size = c->insn.in.operand_width / 8u;
    uint64_t sp = wide ? c->in.gpr[4] : oracle_modes[c->mode].bits == 32 ? (uint32_t)c->in.gpr[4] : (uint16_t)c->in.gpr[4];
    uint64_t at = sp + (wide ? 0 : oracle_modes[c->mode].seg[X86_SS].base) + n * size;
    if (at >= ORACLE_DATA && at <= ORACLE_DATA + ORACLE_DATA_SIZE - 8)
        bytes_put(before + (at - ORACLE_DATA), size, v);
}

/* Far pointers, frames and selectors where the instruction looks for them. */
static void descriptors(struct test_case *c, uint64_t memory, uint8_t *before)
{
    const ZydisDecodedOperand *o = c->insn.op;
    ZydisMnemonic m = c->insn.in.mnemonic;
    unsigned size = c->insn.in.operand_width / 8u;
    bool pointer = (is_far(c) && o->type == ZYDIS_OPERAND_TYPE_MEMORY) || is_family(c, "load_far_pointer");
    if (pointer && memory >= ORACLE_DATA && memory <= ORACLE_DATA + ORACLE_DATA_SIZE - 16) {
        bytes_put(before + (memory - ORACLE_DATA), size, code_target(c));
        bytes_put(before + (memory - ORACLE_DATA) + size, 2, selector());
    }
    if (is_family(c, "iret") || (m == ZYDIS_MNEMONIC_RET && is_far(c))) {
        const uint64_t frame[] = {code_target(c), selector(), (c->in.rflags ^ (rnd() & 0x8d5)) & ~0x100ull, pick_address(8) & ~7ull, selector()};
        bool flags = is_family(c, "iret");
        for (unsigned i = 0; i < 5; i++)
            stack_put(c, before, i, frame[i < 2 || flags ? i : i + 1 < 5 ? i + 1 : 4]);
    }
    for (unsigned i = 0; i < c->insn.in.operand_count_visible; i++) {
        bool takes = is_family(c, "query") || is_family(c, "arpl") || m == ZYDIS_MNEMONIC_MOV;
        if (takes && o[i].type == ZYDIS_OPERAND_TYPE_REGISTER && ZydisRegisterGetClass(o[i].reg.value) != ZYDIS_REGCLASS_SEGMENT && (m != ZYDIS_MNEMONIC_MOV || ZydisRegisterGetClass(o[0].reg.value) == ZYDIS_REGCLASS_SEGMENT) && rnd() % 8) {
            uint64_t *r = &c->in.gpr[(unsigned)ZydisRegisterGetId(o[i].reg.value) & 15];
            *r = (*r & ~0xffffull) | selector();
        }
    }
    if (memory >= ORACLE_DATA && memory <= ORACLE_DATA + ORACLE_DATA_SIZE - 8 && (is_family(c, "query") || (m == ZYDIS_MNEMONIC_MOV && ZydisRegisterGetClass(o[0].reg.value) == ZYDIS_REGCLASS_SEGMENT)))
        bytes_put(before + (memory - ORACLE_DATA), 2, selector());
    if (m == ZYDIS_MNEMONIC_POP && o->type == ZYDIS_OPERAND_TYPE_REGISTER && ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_SEGMENT)
        stack_put(c, before, 0, selector());
}

/* Counts that end, divisors that fit, areas that may be loaded: for most cases. */
static void sensible(struct test_case *c, uint64_t memory, uint8_t *before)
{
    uint64_t *gpr = c->in.gpr;
    uint8_t *area = memory >= ORACLE_DATA && memory <= ORACLE_DATA + ORACLE_DATA_SIZE - 576 ? before + (memory - ORACLE_DATA) : NULL;
    if (c->insn.in.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE) && rnd() % 8)
        gpr[1] = rnd() % 3 ? rnd() % 20 : rnd() % 400;
    if ((is_family(c, "loop") || is_family(c, "jcxz")) && rnd() % 2)
        gpr[1] = rnd() % 3;
    if (!is_far(c) && (is_family(c, "jump") || is_family(c, "near_call") || is_family(c, "ret")))
        branch_target(c, is_family(c, "ret") ? gpr[4] + (oracle_modes[c->mode].bits == 64 ? 0 : oracle_modes[c->mode].seg[X86_SS].base) : memory, before);
    descriptors(c, memory, before);
    if (is_family(c, "div") && rnd() % 4) {
        gpr[2] = rnd() % 2 ? 0 : rnd() % 2 ? gpr[2] >> 48 : (uint64_t)((int64_t)gpr[0] >> 63);
        if (c->insn.in.operand_width == 8)
            gpr[0] &= ~0xff00ull;
    }
    if (is_family(c, "bit") && c->insn.op[1].type == ZYDIS_OPERAND_TYPE_REGISTER && rnd() % 4)
        gpr[(unsigned)ZydisRegisterGetId(c->insn.op[1].reg.value) & 15] = rnd() % 256;
    if (is_family(c, "xsave_area")) { /* components that the guest's XCR0 has; see differences.def */
        gpr[0] = rnd() & 3;
        gpr[2] = 0;
        if (area) {
            memset(area + 512, 0, 64);
            area[512] = (uint8_t)(rnd() & 3);
        }
    }
    if (area && rnd() % 4) /* MXCSR of an FXRSTOR or XRSTOR area */
        if (c->insn.op[0].size >= 4096)
            memcpy(area + 24, &c->in.fx.mxcsr, 4);
}

/* --- The place of the code */
#define MIDDLE (ORACLE_CODE + 0x1400)

static uint64_t pick_place(unsigned length)
{
    uint64_t r = rnd();
    unsigned before_end = 1 + (unsigned)(r >> 32) % length;
    switch (r % 32) {
    case 0: return ORACLE_CODE + ORACLE_CODE_SIZE - before_end;   /* the fetch faults, unless all of it is there */
    case 1: case 2: return ORACLE_CODE + 0x2000 - before_end;
    default: return MIDDLE;
    }
}

static void place_code(const struct test_case *c)
{
    static unsigned last;
    uint64_t base = oracle_modes[c->mode].bits == 64 ? 0 : oracle_modes[c->mode].seg[X86_CS].base;
    unsigned at = (unsigned)(c->in.rip + base - ORACLE_CODE), room = ORACLE_CODE_SIZE - at;
    memset(oracle_code() + last, 0xcc, last + 16 < ORACLE_CODE_SIZE ? 16 : ORACLE_CODE_SIZE - last);
    unsigned length = c->insn.valid ? c->insn.in.length : 15;
    memcpy(oracle_code() + at, c->insn.bytes, length < room ? length : room);
    last = at;
}

static uint64_t aim_all(struct test_case *c, uint8_t *before, bool keep)
{
    uint64_t memory = 0;
    for (unsigned k = 0; k < c->insn.in.operand_count; k++)
        if (c->insn.op[k].type == ZYDIS_OPERAND_TYPE_MEMORY) {
            uint64_t at = aim(c, &c->insn.op[k], before, keep);
            memory = k == 0 || !memory ? at : memory;
        }
    return memory;
}

void case_again(struct test_case *c, uint8_t *before)
{
    uint64_t rip = c->in.rip;
    random_state(c);
    c->in.rip = rip;
    if (!c->insn.valid)
        return;
    uint64_t memory = aim_all(c, before, true);
    sensible(c, memory, before);
    c->memory = memory;
}

void case_make(struct test_case *c, const struct form *f, const struct x86_model *model, uint8_t *before)
{
    uint64_t memory = 0;
    uint32_t bits = f->mode == ORACLE_64 ? X86_MODE_CODE64 : f->mode == ORACLE_16 ? X86_MODE_CODE16 | X86_MODE_PE : X86_MODE_CODE32 | X86_MODE_PE | X86_MODE_SS32;
    c->mode = (enum oracle_mode_id)f->mode;
    memcpy(c->insn.bytes, f->bytes, sizeof f->bytes);
    insn_decode(&c->insn, model, bits);
    c->row = c->insn.valid && rows[c->insn.in.mnemonic].name ? &rows[c->insn.in.mnemonic] : NULL;
    c->memory = 0;
    random_state(c);
    c->in.rip = (c->insn.valid ? pick_place(c->insn.in.length) : MIDDLE) - (c->mode == ORACLE_64 ? 0 : oracle_modes[c->mode].seg[X86_CS].base);
    if (c->insn.valid) {
        immediates(c);
        memory = aim_all(c, before, false);
        insn_decode(&c->insn, model, bits);
        sensible(c, memory, before);
        c->memory = memory;
    }
    place_code(c);
}
