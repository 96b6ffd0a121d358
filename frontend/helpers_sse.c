/* Helpers of SSE and MMX: MXCSR and its exceptions, masked moves, string comparison, FXSAVE and XSAVE areas. */
#include "frontend/system.h"
#include <string.h>

enum { STICKY = 0x3f, MASK_SHIFT = 7, MXCSR_VALID = 0xffff };

/* --- Unmasked exceptions: the sticky flags are set aside, so that those of one instruction can be told. */
X86_HELPER_FN(sse_begin)
{
    struct x86_state *s = &((struct x86_cpu *)cpu)->state;
    uint32_t old = s->mxcsr;
    s->mxcsr &= ~(uint32_t)STICKY;
    return old;
}

/* Overflow, underflow and inexact of one lane, as they are where the first two are unmasked: then a tiny result
 * traps if it is exact too, and both are judged, as inexact is, by the result rounded with an unbounded exponent
 * (SDM 1 4.9.1.5, 11.5.2.5), which no masked operation of the host tells.  The exact value: m * 2^e, and a bit more. */
enum { INVALID = 1, DENORMAL = 2, ZERO_DIVIDE = 4, OVERFLOW = 8, UNDERFLOW = 16, INEXACT = 32, DAZ = 64, FTZ = 0x8000 };
struct exact { unsigned __int128 m; int e; bool negative, more, finite; };
struct format { int fraction, lowest, highest; };
static const struct format formats[2] = {{23, -126, 127}, {52, -1022, 1023}};

static int top_bit(unsigned __int128 m) { return m >> 64 ? 127 - __builtin_clzll((uint64_t)(m >> 64)) : 63 - __builtin_clzll((uint64_t)m); }

static struct exact unpack(uint64_t bits, const struct format *f, bool daz)
{
    int width = f->highest * 2 + 1;
    int exponent = (int)(bits >> f->fraction) & width;
    uint64_t fraction = bits & ((1ull << f->fraction) - 1);
    struct exact x = {.negative = bits >> (f->fraction == 23 ? 31 : 63) & 1, .finite = exponent != width, .e = f->lowest - f->fraction + (exponent ? exponent - 1 : 0)};
    x.m = exponent ? fraction | 1ull << f->fraction : daz ? 0 : fraction;
    return x;
}

/* m's top bit to bit `at`. */
static void normalise(struct exact *x, int at)
{
    int shift = x->m ? at - top_bit(x->m) : 0;
    x->m <<= shift;
    x->e -= shift;
}

static struct exact add(struct exact a, struct exact b)
{
    normalise(&a, 124);
    normalise(&b, 124);
    if (!b.m || (a.m && a.e < b.e)) {
        struct exact t = a;
        a = b;
        b = t;
    }
    if (!a.m)
        return b;
    if (!b.m)
        return a;
    int shift = a.e - b.e;
    bool more = shift > 127 || (b.m & (((unsigned __int128)1 << shift) - 1)) != 0;
    b.m = shift > 127 ? 0 : b.m >> shift;
    if (a.negative == b.negative) {
        a.m += b.m;
    } else {
        a.negative ^= b.m > a.m;
        a.m = b.m > a.m ? b.m - a.m : a.m - b.m - more; /* with more below: b was the smaller by far */
    }
    a.more = more;
    return a;
}

static struct exact divide(struct exact a, struct exact b)
{
    normalise(&a, 126);
    normalise(&b, 60);
    return (struct exact){.m = a.m / b.m, .e = a.e - b.e, .negative = a.negative ^ b.negative, .more = a.m % b.m != 0, .finite = true};
}

/* Is a value that is cut at 2^unit (and was `x`) no longer exact? */
static bool loses(const struct exact *x, int unit)
{
    int cut = unit - x->e;
    return x->more || (cut > 127 ? x->m != 0 : cut > 0 && (x->m & (((unsigned __int128)1 << cut) - 1)) != 0);
}

/* Exponent of x rounded to the format's precision. */
static int rounded_exponent(const struct exact *x, const struct format *f, unsigned control)
{
    int top = top_bit(x->m), drop = top - f->fraction;
    if (drop <= 0)
        return x->e + top;
    unsigned __int128 kept = x->m >> drop, half = (unsigned __int128)1 << (drop - 1), low = x->m & (2 * half - 1);
    bool up = control == 0 ? low > half || (low == half && (x->more || kept & 1)) : control != 3 && x->negative == (control == 1) && (low || x->more);
    return x->e + top + (up && kept + 1 == (unsigned __int128)2 << f->fraction);
}

static uint32_t rounding_flags(const struct exact *x, const struct format *f, uint32_t mxcsr)
{
    if (!x->finite || (!x->m && !x->more))
        return 0;
    int top = x->e + top_bit(x->m), exponent = rounded_exponent(x, f, mxcsr >> 13 & 3);
    uint32_t inexact = loses(x, top - f->fraction) ? INEXACT : 0;
    if (exponent > f->highest)
        return OVERFLOW | (mxcsr & OVERFLOW << MASK_SHIFT ? INEXACT : inexact);
    if (exponent >= f->lowest)
        return inexact;
    if (!(mxcsr & UNDERFLOW << MASK_SHIFT))
        return UNDERFLOW | inexact;
    return mxcsr & FTZ || loses(x, f->lowest - f->fraction) ? UNDERFLOW | INEXACT : 0;
}

/* a: enum x86_round, b, c: operands, d: flags of the lanes before */
X86_HELPER_FN(sse_round)
{
    const struct x86_state *s = &((struct x86_cpu *)cpu)->state;
    const struct format *from = &formats[!!(a & X86_ROUND_FROM_DOUBLE)], *to = &formats[!!(a & X86_ROUND_TO_DOUBLE)];
    struct exact x = unpack(b, from, s->mxcsr & DAZ), y = unpack(c, from, s->mxcsr & DAZ), r = x;
    unsigned kind = a & 0xff;
    if (!x.finite || (kind != X86_ROUND_NARROW && !y.finite) || (kind == X86_ROUND_DIV && !y.m))
        return d;
    switch (kind) {
    case X86_ROUND_ADD: r = add(x, y); break;
    case X86_ROUND_SUB:
        y.negative ^= 1;
        r = add(x, y);
        break;
    case X86_ROUND_MUL:
        r.m = x.m * y.m;
        r.e = x.e + y.e;
        r.negative ^= y.negative;
        break;
    case X86_ROUND_DIV: r = x.m ? divide(x, y) : x; break;
    default: break;
    }
    return d | rounding_flags(&r, to, s->mxcsr);
}

/* a: MXCSR before, b: what sse_round says of overflow, underflow and inexact, or all ones */
X86_HELPER_FN(sse_check)
{
    struct x86_cpu *c86 = cpu;
    struct x86_state *s = &c86->state;
    uint32_t raised = s->mxcsr & STICKY;
    if (b != ~0ull)
        raised = (raised & 7) | (uint32_t)b;
    uint32_t unmasked = raised & ~((uint32_t)a >> MASK_SHIFT) & STICKY;
    /* Invalid, denormal and divide come before the result's exceptions and hide them (SDM 1 11.5.2). */
    if (unmasked & 7)
        raised &= 7;
    s->mxcsr = (uint32_t)a | raised;
    if (unmasked)
        x86_raise(c86, s->cr4 & X86_CR4_OSXMMEXCPT ? X86_XM : X86_UD);
    return 0;
}

static void mxcsr_set(struct x86_cpu *cpu, uint32_t v)
{
    bool changed = (cpu->state.mxcsr ^ v) & STICKY << MASK_SHIFT;
    cpu->state.mxcsr = v;
    if (changed)
        sys_mode_changed(cpu);
}

X86_HELPER_FN(ldmxcsr)
{
    if (a & ~(uint64_t)MXCSR_VALID)
        return fault_code(cpu, X86_GP, 0);
    mxcsr_set(cpu, (uint32_t)a);
    return 0;
}

/* --- MASKMOVQ, MASKMOVDQU.  a: segment, b: offset, c: data register | mask register << 8 | bytes << 16 */
X86_HELPER_FN(mask_move)
{
    struct x86_cpu *c86 = cpu;
    struct x86_state *s = &c86->state;
    unsigned from = c & 0xff, by = c >> 8 & 0xff, bytes = c >> 16 & 0xff;
    const uint8_t *data = bytes == 8 ? (const void *)&s->fpr[from] : (const void *)&s->vec[from];
    const uint8_t *mask = bytes == 8 ? (const void *)&s->fpr[by] : (const void *)&s->vec[by];
    for (int pass = 0; pass < 2; pass++) /* all checks before the first byte */
        for (unsigned i = 0; i < bytes; i++) {
            uint64_t linear;
            if (!(mask[i] & 0x80))
                continue;
            if (!x86_seg_linear(c86, (enum x86_seg)a, b + i, 1, IR_WRITE, &linear) ||
                !(pass ? c86->bus->write(c86, linear, 1, IR_WRITE, &data[i]) : c86->bus->probe(c86, linear, 1, IR_WRITE)))
                return 0;
        }
    if (bytes == 8) {
        s->fptop = 0;
        s->fptag = 0xff;
    }
    return 0;
}

/* --- PCMPxSTRx (SDM 2B 4.1) */
struct strings { int32_t v[2][16]; unsigned length[2], count; uint8_t imm; };

static unsigned implicit_length(const int32_t *v, unsigned count)
{
    unsigned n = 0;
    while (n < count && v[n])
        n++;
    return n;
}

static unsigned explicit_length(uint64_t v, bool wide, unsigned count)
{
    int64_t n = wide ? (int64_t)v : (int32_t)v;
    if (n < 0)
        n = -(uint64_t)n > INT64_MAX ? INT64_MAX : -n;
    return n > (int64_t)count ? count : (unsigned)n;
}

static void elements(int32_t *to, const uint8_t *from, uint8_t imm)
{
    for (unsigned i = 0; i < (imm & 1 ? 8u : 16u); i++) {
        uint16_t w;
        memcpy(&w, from + i * 2 % 16, 2);
        if (imm & 1)
            to[i] = imm & 2 ? (int16_t)w : w;
        else
            to[i] = imm & 2 ? (int8_t)from[i] : from[i];
    }
}

/* One bit of the comparison matrix, with what elements past the end count as (table 4-7). */
static bool matrix(const struct strings *s, unsigned i, unsigned j)
{
    bool valid_a = i < s->length[0], valid_b = j < s->length[1];
    unsigned kind = s->imm >> 2 & 3;
    if (valid_a && valid_b) {
        if (kind == 1)
            return i & 1 ? s->v[0][i] >= s->v[1][j] : s->v[0][i] <= s->v[1][j];
        return s->v[0][i] == s->v[1][j];
    }
    if (kind < 2)
        return false;
    if (kind == 2)
        return !valid_a && !valid_b;
    return !valid_a;
}

static uint32_t aggregate(const struct strings *s)
{
    uint32_t r = 0;
    for (unsigned j = 0; j < s->count; j++) {
        bool bit = false;
        switch (s->imm >> 2 & 3) {
        case 0: for (unsigned i = 0; i < s->count; i++) bit |= matrix(s, i, j); break;
        case 1: for (unsigned i = 0; i < s->count; i += 2) bit |= matrix(s, i, j) && matrix(s, i + 1, j); break;
        case 2: bit = matrix(s, j, j); break;
        default:
            bit = true;
            for (unsigned i = 0; i + j < s->count; i++)
                bit &= matrix(s, i, i + j);
        }
        r |= (uint32_t)bit << j;
    }
    return r;
}

static void strings_put(struct x86_state *s, const struct strings *t, uint32_t bits, unsigned kind)
{
    if (kind & 1) { /* the index, to ECX */
        unsigned index = !bits ? t->count : t->imm & 0x40 ? 31u - (unsigned)__builtin_clz(bits) : (unsigned)__builtin_ctz(bits);
        s->gpr[X86_RCX] = index;
    } else if (!(t->imm & 0x40)) {
        s->vec[0].q[0] = bits;
        s->vec[0].q[1] = 0;
    } else {
        uint8_t mask[16];
        for (unsigned i = 0; i < 16; i++)
            mask[i] = bits >> (t->imm & 1 ? i / 2 : i) & 1 ? 0xff : 0;
        memcpy(&s->vec[0], mask, 16);
    }
}

/* a: instruction | register << 8 | imm << 16 | 64-bit lengths << 24; b, c: the second operand */
X86_HELPER_FN(sse_strings)
{
    struct x86_state *s = &((struct x86_cpu *)cpu)->state;
    struct strings t = {.imm = (uint8_t)(a >> 16), .count = a >> 16 & 1 ? 8 : 16};
    unsigned kind = a & 3;
    uint64_t second[2] = {b, c};
    elements(t.v[0], (const uint8_t *)&s->vec[a >> 8 & 15], t.imm);
    elements(t.v[1], (const uint8_t *)second, t.imm);
    for (unsigned i = 0; i < 2; i++)
        t.length[i] = kind < 2 ? explicit_length(s->gpr[i ? X86_RDX : X86_RAX], a >> 24 & 1, t.count) : implicit_length(t.v[i], t.count);
    uint32_t bits = aggregate(&t), all = (1u << t.count) - 1;
    if (t.imm & 0x10) /* negative; masked: of valid elements of the second alone */
        bits ^= t.imm & 0x20 ? (1u << t.length[1]) - 1 : all;
    strings_put(s, &t, bits, kind);
    s->flags = (bits ? IR_FLAG_C : 0) | (t.length[1] < t.count ? IR_FLAG_Z : 0) | (t.length[0] < t.count ? IR_FLAG_S : 0) | (bits & 1 ? IR_FLAG_O : 0);
    return 0;
}

/* --- FXSAVE, XSAVE: the legacy area of 512 bytes (SDM 1 table 10-2) */
enum { LEGACY = 512, USED = 416, PIECE = 32, FPU_END = 160, XMM_AT = 160 };
enum { XF_X87 = 1, XF_SSE = 2 };

static void legacy_put(const struct x86_state *s, uint8_t *p, bool wide)
{
    uint16_t fsw = (uint16_t)(s->fsw | s->fptop << 11);
    memcpy(p, &s->fcw, 2);
    memcpy(p + 2, &fsw, 2);
    p[4] = s->fptag;
    memcpy(p + 6, &s->fop, 2);
    memcpy(p + 8, &s->fip, 8);
    memcpy(p + 16, &s->fdp, 8);
    if (!wide) {
        memcpy(p + 12, (uint16_t[2]){s->fcs, 0}, 4);
        memcpy(p + 20, (uint16_t[2]){s->fds, 0}, 4);
    }
    for (unsigned i = 0; i < 8; i++)
        memcpy(p + 32 + 16 * i, &s->fpr[(s->fptop + i) & 7], 10);
}

static void mxcsr_put(const struct x86_state *s, uint8_t *p)
{
    uint32_t mask = MXCSR_VALID;
    memcpy(p + 24, &s->mxcsr, 4);
    memcpy(p + 28, &mask, 4);
}

static unsigned xmm_count(const struct x86_cpu *cpu) { return x86_code64(cpu) ? 16 : 8; }

static void xmm_put(const struct x86_cpu *cpu, uint8_t *p)
{
    for (unsigned i = 0; i < xmm_count(cpu); i++)
        memcpy(p + XMM_AT + 16 * i, &cpu->state.vec[i], 16);
}

static void legacy_get(struct x86_cpu *cpu, const uint8_t *p, bool wide)
{
    struct x86_state *s = &cpu->state;
    uint16_t fsw;
    memcpy(&fsw, p + 2, 2);
    memcpy(&s->fcw, p, 2);
    s->fcw = (s->fcw & X86_FCW_VALID) | X86_FCW_ONES;
    s->fptop = fsw >> 11 & 7;
    s->fsw = fsw & ~0x3800;
    s->fptag = p[4];
    memcpy(&s->fop, p + 6, 2);
    s->fop &= 0x7ff;
    memcpy(&s->fip, p + 8, 8);
    memcpy(&s->fdp, p + 16, 8);
    if (!wide) {
        s->fcs = (uint16_t)(s->fip >> 32);
        s->fds = (uint16_t)(s->fdp >> 32);
        s->fip = (uint32_t)s->fip;
        s->fdp = (uint32_t)s->fdp;
    }
    for (unsigned i = 0; i < 8; i++)
        memcpy(&s->fpr[(s->fptop + i) & 7], p + 32 + 16 * i, 10);
    /* ES and B follow from the flags and their masks (SDM 1 8.1.3.3) */
    bool pending = s->fsw & ~s->fcw & 0x3f;
    s->fsw = (uint16_t)((s->fsw & ~0x8080) | (pending ? 0x8080 : 0));
    sys_mode_changed(cpu);
}

static void xmm_get(struct x86_cpu *cpu, const uint8_t *p)
{
    for (unsigned i = 0; i < xmm_count(cpu); i++)
        memcpy(&cpu->state.vec[i], p + XMM_AT + 16 * i, 16);
}

static bool area_read(struct x86_cpu *cpu, uint64_t at, unsigned size, uint8_t *to)
{
    for (unsigned i = 0; i < size; i += PIECE)
        if (!cpu->bus->read(cpu, at + i, PIECE, IR_READ, to + i))
            return false;
    return true;
}

static bool area_probe(struct x86_cpu *cpu, uint64_t at, unsigned size)
{
    return cpu->bus->probe(cpu, at, 1, IR_WRITE) && cpu->bus->probe(cpu, at + size - 1, 1, IR_WRITE);
}

static void area_write(struct x86_cpu *cpu, uint64_t at, unsigned from, unsigned to, const uint8_t *bytes)
{
    for (unsigned i = from; i < to; i += PIECE)
        cpu->bus->write(cpu, at + i, to - i < PIECE ? to - i : PIECE, IR_WRITE, bytes + i);
}

/* a: linear address, b: 64-bit form */
X86_HELPER_FN(fxsave)
{
    struct x86_cpu *c86 = cpu;
    bool sse = c86->state.cr4 & X86_CR4_OSFXSR;
    uint8_t p[LEGACY] = {0};
    if (a & 15)
        return fault_code(c86, X86_GP, 0);
    if (!area_probe(c86, a, LEGACY))
        return 0;
    legacy_put(&c86->state, p, b);
    mxcsr_put(&c86->state, p);
    if (sse)
        xmm_put(c86, p);
    area_write(c86, a, 0, sse ? XMM_AT + 16 * xmm_count(c86) : FPU_END, p);
    return 0;
}

X86_HELPER_FN(fxrstor)
{
    struct x86_cpu *c86 = cpu;
    uint8_t p[LEGACY];
    uint32_t mxcsr;
    if (a & 15)
        return fault_code(c86, X86_GP, 0);
    if (!area_read(c86, a, LEGACY, p))
        return 0;
    memcpy(&mxcsr, p + 24, 4);
    bool sse = c86->state.cr4 & X86_CR4_OSFXSR;
    if (sse && mxcsr & ~(uint32_t)MXCSR_VALID)
        return fault_code(c86, X86_GP, 0);
    legacy_get(c86, p, b);
    if (sse) {
        xmm_get(c86, p);
        mxcsr_set(c86, mxcsr);
    }
    return 0;
}

static uint64_t requested(const struct x86_state *s)
{
    return ((uint64_t)(uint32_t)s->gpr[X86_RDX] << 32 | (uint32_t)s->gpr[X86_RAX]) & s->xcr0;
}

static uint64_t xsave_write(struct x86_cpu *cpu, uint64_t at, bool wide, bool compact)
{
    uint64_t parts = requested(&cpu->state), header[8] = {0};
    uint8_t p[LEGACY] = {0};
    if (at & 63)
        return fault_code(cpu, X86_GP, 0);
    if (!area_probe(cpu, at, LEGACY + 64))
        return 0;
    if (!compact && !cpu->bus->read(cpu, at + LEGACY, 8, IR_READ, header))
        return 0;
    if (parts & XF_X87) {
        legacy_put(&cpu->state, p, wide);
        area_write(cpu, at, 0, 24, p);
        area_write(cpu, at, 32, FPU_END, p);
    }
    if (parts & XF_SSE) {
        mxcsr_put(&cpu->state, p);
        xmm_put(cpu, p);
        area_write(cpu, at, 24, 32, p);
        area_write(cpu, at, XMM_AT, XMM_AT + 16 * xmm_count(cpu), p);
    }
    header[0] = compact ? parts : (header[0] & ~requested(&cpu->state)) | parts;
    header[1] = compact ? 1ull << 63 | parts : 0;
    cpu->bus->write(cpu, at + LEGACY, compact ? 16 : 8, IR_WRITE, header);
    return 0;
}

X86_HELPER_FN(xsave) { return xsave_write(cpu, a, b, false); }
X86_HELPER_FN(xsavec) { return xsave_write(cpu, a, b, true); }

static bool header_ok(const struct x86_state *s, const uint64_t *h)
{
    bool compact = h[1] >> 63;
    if (h[0] & ~s->xcr0 || (compact && h[1] << 1 >> 1 & ~s->xcr0) || (!compact && h[1]))
        return false;
    for (unsigned i = compact ? 2 : 1; i < (compact ? 8 : 3); i++)
        if (h[i])
            return false;
    return !compact || !(h[0] & ~h[1]);
}

static uint64_t xsave_read(struct x86_cpu *c86, uint64_t a, bool b, bool compact)
{
    uint8_t p[LEGACY + 64];
    uint64_t header[8], parts = requested(&c86->state);
    uint32_t mxcsr;
    static const uint8_t initial[LEGACY] = {0x7f, 0x03};
    if (a & 63)
        return fault_code(c86, X86_GP, 0);
    if (!area_read(c86, a, sizeof p, p))
        return 0;
    memcpy(header, p + LEGACY, 64);
    memcpy(&mxcsr, p + 24, 4);
    if ((compact && !(header[1] >> 63)) || !header_ok(&c86->state, header) || (parts & XF_SSE && mxcsr & ~(uint32_t)MXCSR_VALID))
        return fault_code(c86, X86_GP, 0);
    if (parts & XF_X87)
        legacy_get(c86, header[0] & XF_X87 ? p : initial, b);
    if (parts & XF_SSE) {
        xmm_get(c86, header[0] & XF_SSE ? p : initial);
        mxcsr_set(c86, header[1] >> 63 && !(header[0] & XF_SSE) ? 0x1f80 : mxcsr);
    }
    return 0;
}

X86_HELPER_FN(xrstor) { return xsave_read(cpu, a, b, false); }
/* There is no supervisor state (IA32_XSS is 0): XRSTORS differs in that it takes the compact form alone. */
X86_HELPER_FN(xrstors) { return xsave_read(cpu, a, b, true); }

X86_HELPER_FN(xgetbv)
{
    struct x86_cpu *c86 = cpu;
    uint32_t index = (uint32_t)c86->state.gpr[X86_RCX];
    if (index == 0 || (index == 1 && x86_model_has(c86->model, X86_FEATURE_XGETBV1)))
        return c86->state.xcr0; /* 1: XINUSE; all that is on counts as in use */
    return fault_code(c86, X86_GP, 0);
}

X86_HELPER_FN(xsetbv)
{
    struct x86_cpu *c86 = cpu;
    struct x86_state *s = &c86->state;
    uint64_t v = (uint64_t)(uint32_t)s->gpr[X86_RDX] << 32 | (uint32_t)s->gpr[X86_RAX];
    if ((uint32_t)s->gpr[X86_RCX] || !(v & XF_X87) || v & ~(uint64_t)(XF_X87 | XF_SSE))
        return fault_code(c86, X86_GP, 0);
    s->xcr0 = v;
    return 0;
}
