/* The meaning of the flag-setting operations against the host CPU: values and all six flags, at every width, on
 * random and adversarial operands. */
#include "ir/ir.h"
#include <stdlib.h>

static unsigned long passed, failed;

static uint32_t pack(uint64_t eflags)
{
    return (uint32_t)((eflags & 0xd5) << 8 | (eflags >> 11 & 1));
}

/* a OP b with the carry flag set as asked; eflags after it. */
#define NATIVE(name, suffix, type, reg, text) \
    static uint64_t native_##name##suffix(uint64_t a, uint64_t b, uint64_t c, uint64_t *flags) \
    { \
        type x = (type)a, y = (type)b; \
        uint64_t f = *flags; \
        (void)c; \
        __asm__ volatile("push %[f]; popf; " text "; pushf; pop %[f]" \
                         : [x] "+r"(x), [f] "+&r"(f) : [y] "r"(y), [c] "c"((uint8_t)c) : "cc", "memory"); \
        *flags = f; \
        return x; \
    }
#define WIDTHS(name, two) \
    NATIVE(name, 8, uint8_t, b, #name "b " two) NATIVE(name, 16, uint16_t, w, #name "w " two) \
    NATIVE(name, 32, uint32_t, k, #name "l " two) NATIVE(name, 64, uint64_t, q, #name "q " two)
#define DOUBLE(name) \
    NATIVE(name, 16, uint16_t, w, #name "w %%cl, %[y], %[x]") NATIVE(name, 32, uint32_t, k, #name "l %%cl, %[y], %[x]") \
    NATIVE(name, 64, uint64_t, q, #name "q %%cl, %[y], %[x]")
WIDTHS(add, "%[y], %[x]") WIDTHS(sub, "%[y], %[x]") WIDTHS(adc, "%[y], %[x]") WIDTHS(sbb, "%[y], %[x]")
WIDTHS(and, "%[y], %[x]") WIDTHS(or, "%[y], %[x]") WIDTHS(xor, "%[y], %[x]") WIDTHS(neg, "%[x]")
WIDTHS(shl, "%%cl, %[x]") WIDTHS(shr, "%%cl, %[x]") WIDTHS(sar, "%%cl, %[x]") WIDTHS(rol, "%%cl, %[x]")
NATIVE(imul, 16, uint16_t, w, "imulw %[y], %[x]") NATIVE(imul, 32, uint32_t, k, "imull %[y], %[x]") NATIVE(imul, 64, uint64_t, q, "imulq %[y], %[x]")
WIDTHS(ror, "%%cl, %[x]") WIDTHS(rcl, "%%cl, %[x]") WIDTHS(rcr, "%%cl, %[x]") DOUBLE(shld) DOUBLE(shrd)

enum kind { BINARY, CARRY, UNARY, SHIFT, ROTATE, CARRY_ROTATE, DOUBLE_SHIFT };
struct native { enum ir_op op; enum kind kind; uint64_t (*run[4])(uint64_t, uint64_t, uint64_t, uint64_t *); };
#define ROW(name, kind) {IR_##name, kind, {native_##name##8, native_##name##16, native_##name##32, native_##name##64}}
static const struct native natives[] = {
    ROW(add, BINARY), ROW(sub, BINARY), ROW(adc, CARRY), ROW(sbb, CARRY), ROW(and, BINARY), ROW(or, BINARY),
    ROW(xor, BINARY), ROW(neg, UNARY), ROW(shl, SHIFT), ROW(shr, SHIFT), ROW(sar, SHIFT), ROW(rol, ROTATE),
    ROW(ror, ROTATE), ROW(rcl, CARRY_ROTATE), ROW(rcr, CARRY_ROTATE),
    {IR_mul, BINARY, {NULL, native_imul16, native_imul32, native_imul64}},
    {IR_shld, DOUBLE_SHIFT, {NULL, native_shld16, native_shld32, native_shld64}},
    {IR_shrd, DOUBLE_SHIFT, {NULL, native_shrd16, native_shrd32, native_shrd64}},
};

static uint64_t operand(uint64_t seed)
{
    static const uint64_t edges[] = {0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000,
                                     0xffffffff, 0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff, 0x5555555555555555};
    uint64_t x = seed * 0x9e3779b97f4a7c15ull;
    x ^= x >> 31;
    return seed % 3 ? edges[x % 16] : x * 0xbf58476d1ce4e5b9ull;
}

/* Bits that the manual leaves undefined and in which makers differ (SDM 2B, AND, SHL, SHLD, RCL): AF after logic and
 * shifts, OF after a shift by more than one, CF after a shift by more than the width. */
static uint32_t undefined(const struct native *n, unsigned count, unsigned bits)
{
    uint32_t f = 0;
    if (n->op == IR_mul)
        f |= IR_FLAG_S | IR_FLAG_Z | IR_FLAG_P | IR_FLAG_A;
    if (n->op == IR_and || n->op == IR_or || n->op == IR_xor)
        f |= IR_FLAG_A;
    if ((n->kind == SHIFT || n->kind == DOUBLE_SHIFT) && count)
        f |= IR_FLAG_A;
    if (n->kind == DOUBLE_SHIFT && bits == 16 && count > 16)
        f |= IR_FLAGS_ALL;
    if (n->kind == SHIFT && count > bits)
        f |= IR_FLAG_C;
    if ((n->kind == SHIFT || n->kind == DOUBLE_SHIFT) && count > 1)
        f |= IR_FLAG_O;
    if ((n->kind == ROTATE || n->kind == CARRY_ROTATE) && count > 1)
        f |= IR_FLAG_O;
    return f;
}

static void check(const struct native *n, unsigned width, uint64_t seed)
{
    static const enum ir_type types[] = {IR_I8, IR_I16, IR_I32, IR_I64};
    unsigned bits = 8u << width;
    uint64_t mask = bits == 64 ? ~0ull : (1ull << bits) - 1;
    uint64_t a = operand(seed) & mask, b = operand(seed + 1) & mask, c = operand(seed + 2) & 0xff, old = seed & 1 ? 0x8d5 : 0;
    bool by_count = n->kind == SHIFT || n->kind == ROTATE || n->kind == CARRY_ROTATE, has_carry = n->kind == CARRY || n->kind == CARRY_ROTATE;
    uint64_t count = c & (bits == 64 ? 63 : 31);
    uint64_t x[3] = {a, by_count ? c & mask : b, has_carry ? pack(old) : c}, flags = old | 2;
    if (n->kind == DOUBLE_SHIFT && bits == 16 && count > 16)
        return; /* the result itself is undefined */
    uint64_t want = n->run[width](a, b, c, &flags);
    uint64_t got = ir_eval(n->op, types[width], 0, 0, x);
    uint32_t got_flags = ir_eval_flags(n->op, types[width], x, got, pack(old)), want_flags = pack(flags);
    uint32_t compared = n->kind == ROTATE || n->kind == CARRY_ROTATE ? IR_FLAG_C | IR_FLAG_O : IR_FLAGS_ALL;
    compared &= ~undefined(n, (unsigned)count, bits);
    bool ok = got == want && !((got_flags ^ want_flags) & compared);
    ok ? passed++ : failed++;
    if (!ok && failed < 20)
        printf("%s.%u %lx, %lx, count %lu, flags %lx: %lx flags %x, the CPU gives %lx flags %x\n", ir_op_info[n->op].name, bits,
               a, b, c, old, got, got_flags, want, want_flags);
}

int main(void)
{
    for (size_t i = 0; i < sizeof natives / sizeof *natives; i++)
        for (unsigned width = 0; width < 4; width++)
            for (uint64_t seed = 1; natives[i].run[width] && seed < 20000; seed++)
                check(&natives[i], width, seed);
    printf("%lu passed, %lu failed\n", passed, failed);
    return failed != 0;
}
