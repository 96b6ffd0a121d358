/* Helpers of the integer instructions: segment checks, repeated strings, BCD, and the stack instructions of many steps. */
#include "frontend/internal.h"
#include <string.h>

enum { PAGE = 4096 };

X86_HELPER_FN(seg_linear)
{
    uint64_t linear = 0;
    x86_seg_linear(cpu, (enum x86_seg)a, b, (unsigned)c, (unsigned)d, &linear);
    return linear;
}

/* a: offset in CS of an instruction, b: its length */
X86_HELPER_FN(fetch_check)
{
    struct x86_cpu *c86 = cpu;
    if (a + b - 1 > c86->state.seg_limit[X86_CS])
        x86_raise_error(c86, X86_GP, 0);
    return 0;
}

X86_HELPER_FN(access_check)
{
    x86_access_check(cpu, a, (unsigned)b, (unsigned)c);
    return 0;
}

X86_HELPER_FN(debug_access)
{
    x86_debug_data(cpu, a, (unsigned)b, c);
    return 0;
}

X86_HELPER_FN(random)
{
    struct x86_cpu *c86 = cpu;
    return c86->bus->random(c86);
}

/* In plain RAM, at once for all who look: *old becomes what was there.  In assembler, since clang 14 calls a library for it. */
static void exchange_16(void *at, uint64_t old[2], const uint64_t expected[2], const uint64_t desired[2])
{
#ifdef __x86_64__
    unsigned __int128 *target = at;
    memcpy(old, expected, 16);
    __asm__ volatile("lock cmpxchg16b %0" : "+m"(*target), "+a"(old[0]), "+d"(old[1]) : "b"(desired[0]), "c"(desired[1]) : "cc", "memory");
#else
    unsigned __int128 e, d;
    memcpy(&e, expected, 16);
    memcpy(&d, desired, 16);
    __atomic_compare_exchange_n((unsigned __int128 *)at, &e, d, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    memcpy(old, &e, 16);
#endif
}

/* a: linear address */
X86_HELPER_FN(cmpxchg16b)
{
    struct x86_cpu *c86 = cpu;
    struct x86_state *s = &c86->state;
    uint64_t old[2] = {0}, expected[2] = {s->gpr[X86_RAX], s->gpr[X86_RDX]}, desired[2] = {s->gpr[X86_RBX], s->gpr[X86_RCX]};
    unsigned size = 16;
    if (!c86->bus->probe(c86, a, 16, IR_RW | IR_ALIGNED))
        return 0;
    void *ram = c86->bus->pointer(c86, a, &size, IR_RW);
    if (s->faulted)
        return 0;
    if (ram)
        exchange_16(ram, old, expected, desired);
    else if (!c86->bus->read(c86, a, 16, IR_RW | IR_ALIGNED, old))
        return 0;
    bool equal = old[0] == expected[0] && old[1] == expected[1];
    if (!ram && !c86->bus->write(c86, a, 16, IR_RW | IR_ALIGNED, equal ? desired : old)) /* written in either case */
        return 0;
    s->flags = equal ? s->flags | IR_FLAG_Z : s->flags & ~(uint32_t)IR_FLAG_Z;
    if (!equal) {
        s->gpr[X86_RAX] = old[0];
        s->gpr[X86_RDX] = old[1];
    }
    return 0;
}

/* --- BCD.  a: AAA AAS AAD AAM DAA DAS, b: the immediate.  The flags that the manual leaves open are as the silicon has them. */
static uint32_t szp(uint8_t v)
{
    return (v ? 0 : IR_FLAG_Z) | (v & 0x80 ? IR_FLAG_S : 0) | (__builtin_parity(v) ? 0 : IR_FLAG_P);
}

static void ascii_adjust(struct x86_state *s, bool subtract)
{
    uint16_t ax = (uint16_t)s->gpr[X86_RAX];
    bool adjust = (ax & 15) > 9 || s->flags & IR_FLAG_A;
    if (adjust)
        ax = subtract ? (uint16_t)(ax - 0x106) : (uint16_t)(ax + 0x106);
    ax &= 0xff0f;
    s->flags = szp((uint8_t)ax) | (adjust ? IR_FLAG_A | IR_FLAG_C : 0);
    memcpy(&s->gpr[X86_RAX], &ax, 2);
}

static void decimal_adjust(struct x86_state *s, bool subtract)
{
    uint8_t old = (uint8_t)s->gpr[X86_RAX], al = old;
    uint32_t flags = 0;
    bool carry = s->flags & IR_FLAG_C;
    int sign = subtract ? -1 : 1;
    if ((al & 15) > 9 || s->flags & IR_FLAG_A) {
        flags |= IR_FLAG_A;
        if (subtract ? carry || al < 6 : carry || al > 0xf9)
            flags |= IR_FLAG_C;
        al = (uint8_t)(al + 6 * sign);
    }
    if (old > 0x99 || carry) {
        al = (uint8_t)(al + 0x60 * sign);
        flags |= IR_FLAG_C;
    } else if (!subtract) {
        flags &= ~(uint32_t)IR_FLAG_C;
    }
    s->flags = flags | szp(al);
    memcpy(&s->gpr[X86_RAX], &al, 1);
}

X86_HELPER_FN(bcd)
{
    struct x86_cpu *c86 = cpu;
    struct x86_state *s = &c86->state;
    uint8_t al = (uint8_t)s->gpr[X86_RAX], ah = (uint8_t)(s->gpr[X86_RAX] >> 8), base = (uint8_t)b;
    uint16_t ax;
    switch (a) {
    case 0: case 1: ascii_adjust(s, a); return 0;
    case 4: case 5: decimal_adjust(s, a == 5); return 0;
    case 2: ax = (uint8_t)(al + ah * base); break;
    default:
        if (!base) {
            x86_raise(c86, X86_DE);
            return 0;
        }
        ax = (uint16_t)((al / base) << 8 | al % base);
    }
    memcpy(&s->gpr[X86_RAX], &ax, 2);
    s->flags = szp((uint8_t)ax);
    return 0;
}

/* --- Repeated strings */
enum { BATCH = 64 * 1024, SLOW_BATCH = 4096 };   /* bytes, elements: a fixed amount a call, so that counting repeats exactly */

struct rep {
    struct x86_cpu *cpu;
    struct x86_state *s;
    unsigned op, size;
    enum x86_seg seg;
    uint64_t mask;        /* of the address size */
    bool until_equal, down, source, destination, writes;
};

static uint64_t reg_masked(const struct rep *r, unsigned reg) { return r->s->gpr[reg] & r->mask; }

static void reg_set(const struct rep *r, unsigned reg, uint64_t v)
{
    /* 32-bit address size clears the high half, 16-bit keeps it. */
    r->s->gpr[reg] = r->mask == 0xffff ? (r->s->gpr[reg] & ~0xffffull) | (v & 0xffff) : v & r->mask;
}

static struct rep rep_open(struct x86_cpu *cpu, uint64_t what)
{
    unsigned bits = what >> 16 & 0xff, op = what & X86_STRING_OP;
    return (struct rep){.cpu = cpu, .s = &cpu->state, .op = op, .size = what & X86_STRING_SIZE, .seg = (enum x86_seg)(what >> 24 & 7),
        .mask = bits == 64 ? UINT64_MAX : bits == 32 ? UINT32_MAX : UINT16_MAX, .until_equal = what >> 28 & 1,
        .down = cpu->state.eflags & X86_EFLAGS_DF,
        .source = op == X86_STRING_MOVS || op == X86_STRING_LODS || op == X86_STRING_CMPS,
        .destination = op != X86_STRING_LODS, .writes = op == X86_STRING_MOVS || op == X86_STRING_STOS};
}

static void rep_advance(const struct rep *r, uint64_t elements)
{
    uint64_t bytes = elements * r->size, step = r->down ? -bytes : bytes;
    if (r->source)
        reg_set(r, X86_RSI, r->s->gpr[X86_RSI] + step);
    if (r->destination)
        reg_set(r, X86_RDI, r->s->gpr[X86_RDI] + step);
    reg_set(r, X86_RCX, r->s->gpr[X86_RCX] - elements);
}

/* How many of n elements from offset on (downwards: back) lie inside one page and one address space, *low
 * the lowest linear address of them.  Only for segments that the mode knows to need no check. */
static uint64_t run_length(const struct rep *r, enum x86_seg seg, uint64_t offset, uint64_t n, uint64_t *low)
{
    uint32_t mode = r->s->mode;
    bool code64 = x86_code64(r->cpu), flat = mode >> X86_MODE_FLAT_SHIFT >> seg & 1;
    if (!code64 && (!flat || ((mode & X86_MODE_CODE) == X86_MODE_CODE16 && r->mask != 0xffff)))
        return 0;
    uint64_t base = code64 && seg != X86_FS && seg != X86_GS ? 0 : r->s->seg_base[seg], linear = base + offset;
    if (!code64)
        linear = (uint32_t)linear;
    uint64_t in_page = linear & (PAGE - 1), room, space;
    if (r->down) {
        room = in_page + r->size > PAGE ? 0 : in_page / r->size + 1;
        space = offset / r->size + 1;
    } else {
        room = (PAGE - in_page) / r->size;
        space = (r->mask - offset) / r->size; /* the last may wrap: one at a time */
    }
    n = n < room ? n : room;
    n = n < space ? n : space;
    *low = r->down ? linear - (n ? n - 1 : 0) * r->size : linear;
    return n;
}

static uint8_t *run_pointer(const struct rep *r, uint64_t low, uint64_t n, unsigned access)
{
    unsigned size = (unsigned)(n * r->size);
    uint8_t *p = r->cpu->bus->pointer(r->cpu, low, &size, access);
    return p && size >= n * r->size ? p : NULL;
}

/* Fills, with the pattern of one element. */
static void fill(uint8_t *to, uint64_t value, unsigned size, uint64_t n)
{
    switch (size) { /* each a move of that size; of a size that is not known it would be a call */
    case 1: memset(to, (int)value, n); break;
    case 2:
        for (uint64_t i = 0; i < n; i++)
            memcpy(to + 2 * i, &value, 2);
        break;
    case 4:
        for (uint64_t i = 0; i < n; i++)
            memcpy(to + 4 * i, &value, 4);
        break;
    default:
        for (uint64_t i = 0; i < n; i++)
            memcpy(to + 8 * i, &value, 8);
        break;
    }
}

static void copy(uint8_t *to, const uint8_t *from, unsigned size, uint64_t n, bool down)
{
    uint64_t bytes = n * size;
    bool repeats = down ? from > to && from < to + bytes : to > from && to < from + bytes;
    if (!repeats) {
        memmove(to, from, bytes);
        return;
    }
    /* Overlapping so that what was written is read again: element by element, as the CPU does. */
    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = (down ? n - 1 - i : i) * size, v = 0;
        memcpy(&v, from + at, size);
        memcpy(to + at, &v, size);
    }
}

static uint64_t element(const uint8_t *p, unsigned size)
{
    uint64_t v = 0;
    memcpy(&v, p, size);
    return v;
}

static uint32_t compare_flags(unsigned size, uint64_t x, uint64_t y)
{
    enum ir_type t = size == 1 ? IR_I8 : size == 2 ? IR_I16 : size == 4 ? IR_I32 : IR_I64;
    const uint64_t arg[3] = {x, y, 0};
    return ir_eval_flags(IR_sub, t, arg, ir_eval(IR_sub, t, 0, 0, arg), 0);
}

/* n elements by pointer; returns how many were done, *stop where a comparison ended it. */
static uint64_t run_compare(const struct rep *r, const uint8_t *from, const uint8_t *to, uint64_t n, bool *stop)
{
    uint64_t i, x = r->s->gpr[X86_RAX] & (r->size == 8 ? UINT64_MAX : (1ull << r->size * 8) - 1), y = 0;
    for (i = 0; i < n && !*stop; i++) {
        uint64_t at = (r->down ? n - 1 - i : i) * r->size;
        if (from)
            x = element(from + at, r->size);
        y = element(to + at, r->size);
        *stop = (x == y) == r->until_equal;
    }
    if (i)
        r->s->flags = compare_flags(r->size, x, y);
    return i;
}

/* As many elements as lie in the pages at hand; 0: none could be done so. */
static uint64_t rep_run(const struct rep *r, uint64_t n, bool *stop)
{
    uint64_t low_from = 0, low_to = 0;
    if (r->s->mode & (X86_MODE_DEBUG | X86_MODE_TF | X86_MODE_AC) || r->cpu->stepped)
        return 0;
    if (n > BATCH / r->size)
        n = BATCH / r->size;
    if (r->source)
        n = run_length(r, r->seg, reg_masked(r, X86_RSI), n, &low_from);
    if (r->destination && n)
        n = run_length(r, X86_ES, reg_masked(r, X86_RDI), n, &low_to);
    if (r->source && n && r->down) /* the other's limit may have cut n: lowest again */
        n = run_length(r, r->seg, reg_masked(r, X86_RSI), n, &low_from);
    if (!n)
        return 0;
    uint8_t *to = r->op == X86_STRING_CMPS ? run_pointer(r, low_to, n, IR_READ) : NULL; /* its fault comes first */
    uint8_t *from = r->source && (to || r->op != X86_STRING_CMPS) ? run_pointer(r, low_from, n, IR_READ) : NULL;
    if (r->source && !from)
        return 0;
    if (r->destination && !to)
        to = run_pointer(r, low_to, n, r->writes ? IR_WRITE : IR_READ);
    if (r->destination && !to)
        return 0;
    switch (r->op) {
    case X86_STRING_MOVS: copy(to, from, r->size, n, r->down); break;
    case X86_STRING_STOS: fill(to, r->s->gpr[X86_RAX], r->size, n); break;
    case X86_STRING_LODS: {
        uint64_t v = element(from + (r->down ? 0 : n - 1) * r->size, r->size);
        if (r->size == 4)
            r->s->gpr[X86_RAX] = v;
        else
            memcpy(&r->s->gpr[X86_RAX], &v, r->size);
        break;
    }
    default: n = run_compare(r, from, to, n, stop);
    }
    rep_advance(r, n);
    return n;
}

/* One element, with every check; false: a fault is pending and nothing was done. */
static bool rep_step(const struct rep *r, bool *stop)
{
    uint64_t x = r->s->gpr[X86_RAX], y = 0;
    if (r->destination && !r->writes && !x86_seg_read(r->cpu, X86_ES, reg_masked(r, X86_RDI), r->size, &y))
        return false; /* CMPS: before the first operand's */
    if (r->source) {
        x = 0;
        if (!x86_seg_read(r->cpu, r->seg, reg_masked(r, X86_RSI), r->size, &x))
            return false;
    } else if (r->size < 8) {
        x &= (1ull << r->size * 8) - 1;
    }
    if (r->writes) {
        if (!x86_seg_write(r->cpu, X86_ES, reg_masked(r, X86_RDI), r->size, &x))
            return false;
    } else if (r->destination) {
        r->s->flags = compare_flags(r->size, x, y);
        *stop = (x == y) == r->until_equal;
    } else if (r->size == 4) {
        r->s->gpr[X86_RAX] = x;
    } else {
        memcpy(&r->s->gpr[X86_RAX], &x, r->size);
    }
    rep_advance(r, 1);
    return true;
}

/* Few elements, each moved by itself in order; from NULL: `value` is stored.  (volatile: else it becomes calls, and longer.) */
static inline void move_few(uint8_t *to, const uint8_t *from, uint64_t value, unsigned size, uint64_t n)
{
#define MOVE(type)                                                                \
    for (uint64_t i = 0; i < n; i++)                                              \
        ((volatile type *)(void *)to)[i] = from ? ((const volatile type *)(const void *)from)[i] : (type)value
    switch (size) {
    case 1: MOVE(uint8_t); break;
    case 2: MOVE(uint16_t); break;
    case 4: MOVE(uint32_t); break;
    default: MOVE(uint64_t); break;
    }
#undef MOVE
}

/* What most are (but LODS): few elements, upwards, in 64-bit code without anything special, each side on one page.  False: it is for rep_run. */
static bool rep_few(struct x86_cpu *cpu, uint64_t what)
{
    enum { FEW = 32 };
    struct x86_state *s = &cpu->state;
    unsigned size = what & X86_STRING_SIZE;
    uint64_t n = s->gpr[X86_RCX], from = s->gpr[X86_RSI], to = s->gpr[X86_RDI];
    bool moves = !(what & IR_MOVES_FILL);
    if (n - 1 >= FEW || !(what & IR_MOVES_PLAIN) || s->eflags & X86_EFLAGS_DF || cpu->stepped)
        return false;
    unsigned bytes = (unsigned)n * size, got = bytes;
    if ((to & (PAGE - 1)) + bytes > PAGE || (moves && (from & (PAGE - 1)) + bytes > PAGE))
        return false;
    const uint8_t *source = moves ? cpu->bus->pointer(cpu, from, &got, IR_READ) : NULL;
    uint8_t *p = moves && !source ? NULL : cpu->bus->pointer(cpu, to, &got, IR_WRITE);
    if (!p)
        return false;
    move_few(p, source, s->gpr[X86_RAX], size, n);
    s->gpr[X86_RSI] += moves ? bytes : 0;
    s->gpr[X86_RDI] += bytes;
    s->gpr[X86_RCX] = 0;
    return true;
}

/* Returns 1 where the instruction is to be run again. */
static uint64_t rep(struct x86_cpu *cpu, uint64_t what)
{
    struct rep r = rep_open(cpu, what);
    bool stop = false;
    uint64_t bytes = 0;
    unsigned slow = 0;
    while (reg_masked(&r, X86_RCX) && !stop) {
        if (bytes >= BATCH || slow >= SLOW_BATCH)
            return 1;
        uint64_t n = rep_run(&r, reg_masked(&r, X86_RCX), &stop);
        bytes += n * r.size;
        if (n)
            continue;
        if (cpu->state.faulted || !rep_step(&r, &stop))
            return 0;
        slow++;
        if (x86_by_elements(cpu))
            return reg_masked(&r, X86_RCX) && !stop;
    }
    return 0;
}

X86_HELPER_FN(rep_move)
{
    struct x86_cpu *c86 = cpu;
    return rep_few(c86, a) || c86->state.faulted ? 0 : rep(c86, a);
}
X86_HELPER_FN(rep_compare) { return rep(cpu, a); }

/* --- Stack instructions of many steps */
static uint64_t stack_mask(const struct x86_cpu *cpu)
{
    return x86_code64(cpu) ? UINT64_MAX : cpu->state.mode & X86_MODE_SS32 ? UINT32_MAX : UINT16_MAX;
}

static void masked_set(uint64_t *reg, uint64_t v, uint64_t mask)
{
    *reg = mask == UINT32_MAX ? v & mask : (*reg & ~mask) | (v & mask);
}

X86_HELPER_FN(push_all)
{
    struct x86_cpu *c86 = cpu;
    uint64_t sp = c86->state.gpr[X86_RSP], mask = stack_mask(c86);
    for (unsigned i = 0; i < 8; i++)
        if (!x86_seg_write(c86, X86_SS, (sp - (i + 1) * a) & mask, (unsigned)a, &c86->state.gpr[i]))
            return 0;
    masked_set(&c86->state.gpr[X86_RSP], sp - 8 * a, mask);
    return 0;
}

X86_HELPER_FN(pop_all)
{
    struct x86_cpu *c86 = cpu;
    uint64_t sp = c86->state.gpr[X86_RSP], mask = stack_mask(c86), v[8] = {0};
    for (unsigned i = 0; i < 8; i++)
        if (!x86_seg_read(c86, X86_SS, (sp + i * a) & mask, (unsigned)a, &v[i]))
            return 0;
    for (unsigned i = 0; i < 8; i++)
        if (7 - i != X86_RSP)
            masked_set(&c86->state.gpr[7 - i], v[i], a == 2 ? UINT16_MAX : UINT32_MAX);
    masked_set(&c86->state.gpr[X86_RSP], sp + 8 * a, mask);
    return 0;
}

/* a: bytes to allocate, b: nesting level, c: operand bytes (SDM 2A, ENTER) */
X86_HELPER_FN(enter)
{
    struct x86_cpu *c86 = cpu;
    struct x86_state *s = &c86->state;
    uint64_t mask = stack_mask(c86), sp = (s->gpr[X86_RSP] - c) & mask, bp = s->gpr[X86_RBP], v, linear;
    uint64_t frame = (s->gpr[X86_RSP] & ~mask) | sp; /* ESP, also where SP is the stack pointer */
    if (!x86_seg_write(c86, X86_SS, sp, (unsigned)c, &bp))
        return 0;
    for (unsigned i = 1; i < b; i++) {
        v = 0;
        bp -= c;
        sp = (sp - c) & mask;
        if (!x86_seg_read(c86, X86_SS, bp & mask, (unsigned)c, &v) || !x86_seg_write(c86, X86_SS, sp, (unsigned)c, &v))
            return 0;
    }
    if (b) {
        sp = (sp - c) & mask;
        if (!x86_seg_write(c86, X86_SS, sp, (unsigned)c, &frame))
            return 0;
    }
    sp = (sp - a) & mask;
    /* The new top of the stack must be writable. */
    if (!x86_seg_linear(c86, X86_SS, sp, (unsigned)c, IR_WRITE, &linear) || !c86->bus->probe(c86, linear, (unsigned)c, IR_WRITE | IR_SS | (s->mode & X86_MODE_AC ? IR_AC : 0)))
        return 0;
    masked_set(&s->gpr[X86_RSP], sp, mask);
    masked_set(&s->gpr[X86_RBP], frame, c == 8 ? UINT64_MAX : c == 4 ? UINT32_MAX : UINT16_MAX);
    return 0;
}
