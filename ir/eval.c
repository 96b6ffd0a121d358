/* What the pure scalar operations mean: values and flags.  The flags are those of x86 hardware, also where a
 * manual leaves them undefined but the silicon gives one answer (AF of logic is 0; OF of a shift by more than one
 * follows the same formula on the last bit moved).  Left open: double shifts of 16 bits by more than 15. */
#include "ir/internal.h"

const struct ir_op_info ir_op_info[IR_OP_COUNT] = {
#define IR_OP(name, out, in, aux, imm, props, meaning) [IR_##name] = {#name, in, aux, imm, meaning, #out[0], props},
#include "ir/ops.def"
};

uint32_t ir_mask_to_packed(unsigned mask)
{
    return (mask & IR_M_O ? IR_FLAG_O : 0) | (mask & IR_M_C ? IR_FLAG_C : 0) | (mask & IR_M_P ? IR_FLAG_P : 0) |
           (mask & IR_M_A ? IR_FLAG_A : 0) | (mask & IR_M_Z ? IR_FLAG_Z : 0) | (mask & IR_M_S ? IR_FLAG_S : 0);
}

bool ir_eval_cond(enum ir_cond cond, uint32_t f)
{
    bool o = f & IR_FLAG_O, c = f & IR_FLAG_C, p = f & IR_FLAG_P, z = f & IR_FLAG_Z, s = f & IR_FLAG_S, r = false;
    switch (cond & ~1u) {
    case IR_CC_O: r = o; break;
    case IR_CC_B: r = c; break;
    case IR_CC_Z: r = z; break;
    case IR_CC_BE: r = c || z; break;
    case IR_CC_S: r = s; break;
    case IR_CC_P: r = p; break;
    case IR_CC_L: r = s != o; break;
    case IR_CC_LE: r = z || s != o; break;
    }
    return r != (cond & 1);
}

/* --- Counts: how the hardware masks them (SDM 2B SAL, RCL, SHLD) */
static unsigned masked(uint64_t count, unsigned bits) { return (unsigned)count & (bits == 64 ? 63 : 31); }
static unsigned rotate_count(uint64_t count, unsigned bits) { return masked(count, bits) % bits; }
static unsigned carry_rotate_count(uint64_t count, unsigned bits) { return masked(count, bits) % (bits + 1); }

static uint64_t rotate_left(uint64_t v, unsigned n, unsigned bits)
{
    return n ? ir_cut(v << n | v >> (bits - n), bits) : v;
}

/* carry:v as bits+1 wide, rotated left by n; returns v, *carry */
static uint64_t rotate_carry_left(uint64_t v, unsigned n, unsigned bits, bool *carry)
{
    unsigned __int128 x = (unsigned __int128)*carry << bits | v, all = ((unsigned __int128)1 << (bits + 1)) - 1;
    if (n)
        x = (x << n | x >> (bits + 1 - n)) & all;
    *carry = x >> bits & 1;
    return ir_cut((uint64_t)x, bits);
}

/* The 2 * bits wide value that SHLD and SHRD shift; for 16 bits with counts above 16 the hardware goes on
 * with the destination's own bits. */
static uint64_t shld(uint64_t a, uint64_t b, unsigned n, unsigned bits, bool *carry)
{
    if (!n)
        return a;
    unsigned __int128 wide = bits == 16 ? (unsigned __int128)(a << 32 | b << 16 | a) : (unsigned __int128)a << bits | b;
    unsigned top = bits == 16 ? 48 : 2 * bits;
    *carry = (uint64_t)(wide >> (top - n)) & 1;
    return ir_cut((uint64_t)(wide >> (top - bits - n)), bits);
}

static uint64_t shrd(uint64_t a, uint64_t b, unsigned n, unsigned bits, bool *carry)
{
    if (!n)
        return a;
    unsigned __int128 wide = bits == 16 ? (unsigned __int128)(a << 32 | b << 16 | a) : (unsigned __int128)b << bits | a;
    *carry = (uint64_t)(wide >> (n - 1)) & 1;
    return ir_cut((uint64_t)(wide >> n), bits);
}

/* --- Wide division */
static bool udivide(unsigned bits, const uint64_t *x, uint64_t *q, uint64_t *r)
{
    if (!x[2] || x[0] >= x[2])
        return false;
    unsigned __int128 n = (unsigned __int128)x[0] << bits | x[1];
    *q = (uint64_t)(n / x[2]);
    *r = (uint64_t)(n % x[2]);
    return true;
}

static bool sdivide(unsigned bits, const uint64_t *x, uint64_t *q, uint64_t *r)
{
    __int128 n = (__int128)((unsigned __int128)(__int128)ir_signed(x[0], bits) << bits | x[1]), d = ir_signed(x[2], bits);
    __int128 lowest = -((__int128)1 << (bits - 1));
    if (!d || (d == -1 && (n > -lowest || n <= lowest - 1)))
        return false;
    __int128 quotient = n / d;
    if (quotient < lowest || quotient > -lowest - 1)
        return false;
    *q = ir_cut((uint64_t)quotient, bits);
    *r = ir_cut((uint64_t)(n % d), bits);
    return true;
}

static uint64_t divided(enum ir_op op, unsigned bits, const uint64_t *x)
{
    uint64_t q = 0, r = 0;
    bool is_signed = op == IR_sdivq || op == IR_sdivr || op == IR_sdiv_ok;
    bool ok = is_signed ? sdivide(bits, x, &q, &r) : udivide(bits, x, &q, &r);
    if (op == IR_udiv_ok || op == IR_sdiv_ok)
        return ok;
    return !ok ? 0 : op == IR_udivq || op == IR_sdivq ? q : r;
}

/* --- Bits */
static uint64_t deposit_bits(uint64_t v, uint64_t mask)
{
    uint64_t r = 0;
    for (; mask; mask &= mask - 1, v >>= 1)
        if (v & 1)
            r |= mask & -mask;
    return r;
}

static uint64_t extract_bits(uint64_t v, uint64_t mask)
{
    uint64_t r = 0;
    for (unsigned n = 0; mask; mask &= mask - 1, n++)
        if (v & mask & -mask)
            r |= 1ull << n;
    return r;
}

static uint32_t crc32c(uint32_t crc, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        crc ^= (uint8_t)(v >> 8 * i);
        for (unsigned k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return crc;
}

static uint64_t reversed(uint64_t v, unsigned bits) { return __builtin_bswap64(v) >> (64 - bits); }

uint64_t ir_eval(enum ir_op op, enum ir_type type, unsigned aux, int64_t imm, const uint64_t x[3])
{
    unsigned bits = ir_type_bits(type);
    bool carry = (op == IR_adc || op == IR_sbb || op == IR_rcl || op == IR_rcr) && x[2] & IR_FLAG_C;
    uint64_t a = x[0], b = x[1], r = 0;
    switch ((unsigned)op) {
    case IR_const: r = (uint64_t)imm; break;
    case IR_add: r = a + b; break;
    case IR_sub: r = a - b; break;
    case IR_adc: r = a + b + carry; break;
    case IR_sbb: r = a - b - carry; break;
    case IR_and: r = a & b; break;
    case IR_or: r = a | b; break;
    case IR_xor: r = a ^ b; break;
    case IR_neg: r = -a; break;
    case IR_not: r = ~a; break;
    case IR_mul: r = a * b; break;
    case IR_umulh: r = (uint64_t)((unsigned __int128)a * b >> bits); break;
    case IR_smulh: r = (uint64_t)((__int128)ir_signed(a, bits) * ir_signed(b, bits) >> bits); break;
    case IR_udiv_ok: case IR_udivq: case IR_udivr:
    case IR_sdiv_ok: case IR_sdivq: case IR_sdivr: return divided(op, bits, x);
    case IR_shl: r = masked(b, bits) < bits ? a << masked(b, bits) : 0; break;
    case IR_shr: r = masked(b, bits) < bits ? a >> masked(b, bits) : 0; break;
    case IR_sar: r = (uint64_t)(ir_signed(a, bits) >> masked(b, bits)); break;
    case IR_rol: r = rotate_left(a, rotate_count(b, bits), bits); break;
    case IR_ror: r = rotate_left(a, (bits - rotate_count(b, bits)) % bits, bits); break;
    case IR_rcl: r = rotate_carry_left(a, carry_rotate_count(b, bits), bits, &carry); break;
    case IR_rcr: r = rotate_carry_left(a, (bits + 1 - carry_rotate_count(b, bits)) % (bits + 1), bits, &carry); break;
    case IR_shld: r = shld(a, b, masked(x[2], bits), bits, &carry); break;
    case IR_shrd: r = shrd(a, b, masked(x[2], bits), bits, &carry); break;
    case IR_clz: r = a ? (unsigned)__builtin_clzll(a) - (64 - bits) : bits; break;
    case IR_ctz: r = a ? (unsigned)__builtin_ctzll(a) : bits; break;
    case IR_popcnt: r = (unsigned)__builtin_popcountll(a); break;
    case IR_bswap: r = reversed(a, bits); break;
    case IR_pdep: r = deposit_bits(a, b); break;
    case IR_pext: r = extract_bits(a, b); break;
    case IR_crc32: r = crc32c((uint32_t)a, b, aux); break;
    case IR_lea: r = a + (b << aux) + (uint64_t)imm; break;
    case IR_eq: return a == b;
    case IR_ne: return a != b;
    case IR_ult: return a < b;
    case IR_ule: return a <= b;
    case IR_slt: return ir_signed(a, bits) < ir_signed(b, bits);
    case IR_sle: return ir_signed(a, bits) <= ir_signed(b, bits);
    case IR_select: r = a ? b : x[2]; break;
    case IR_zext: case IR_trunc: case IR_flags_pack: r = a; break;
    case IR_extract: r = a >> aux; break;
    default: break; /* sext and deposit need their operand's type: the interpreter has it */
    }
    return ir_cut(r, bits);
}

/* --- Flags */
static uint32_t sign_zero_parity(uint64_t r, unsigned bits)
{
    return (r >> (bits - 1) & 1 ? IR_FLAG_S : 0) | (r ? 0 : IR_FLAG_Z) | (__builtin_parity((unsigned)r & 0xff) ? 0 : IR_FLAG_P);
}

/* AF after a shift: undefined, one on some makers' CPUs and zero on others'.  Compiled code has the host's, so all tiers do. */
static uint32_t shift_auxiliary(void)
{
#ifdef __x86_64__
    uint32_t packed, one = 1;
    __asm__("xorl %%eax, %%eax\n\tshll $1, %1\n\tlahf" : "=&a"(packed), "+r"(one) : : "cc");
    return packed & IR_FLAG_A;
#else
    return 0;
#endif
}

static uint32_t flag(bool on, uint32_t f) { return on ? f : 0; }

/* CF, OF of an addition or subtraction from its carries: bit vectors as in the adder. */
static uint32_t adder_flags(uint64_t a, uint64_t b, uint64_t r, unsigned bits, bool subtract)
{
    uint64_t carries = subtract ? (~a & b) | (~(a ^ b) & r) : (a & b) | ((a | b) & ~r);
    uint64_t overflow = subtract ? (a ^ b) & (a ^ r) : (a ^ r) & (b ^ r);
    return sign_zero_parity(r, bits) | flag(carries >> (bits - 1) & 1, IR_FLAG_C) |
           flag(overflow >> (bits - 1) & 1, IR_FLAG_O) | flag((a ^ b ^ r) >> 4 & 1, IR_FLAG_A);
}

static uint32_t shift_flags(enum ir_op op, const uint64_t *x, uint64_t r, unsigned bits)
{
    unsigned n = masked(x[1], bits);
    bool top = x[0] >> (bits - 1) & 1, carry;
    switch ((unsigned)op) {
    case IR_shl:
        carry = n <= bits && x[0] >> (bits - n) & 1;
        return sign_zero_parity(r, bits) | flag(carry, IR_FLAG_C) | flag(carry != (r >> (bits - 1) & 1), IR_FLAG_O);
    case IR_shr:
        carry = n <= bits && x[0] >> (n - 1) & 1;
        return sign_zero_parity(r, bits) | flag(carry, IR_FLAG_C) | flag(n == 1 ? top : false, IR_FLAG_O);
    default:
        carry = ir_signed(x[0], bits) >> (n - 1) & 1;
        return sign_zero_parity(r, bits) | flag(carry, IR_FLAG_C);
    }
}

static uint32_t rotate_flags(enum ir_op op, const uint64_t *x, uint64_t r, unsigned bits)
{
    bool top = r >> (bits - 1) & 1, second = r >> (bits - 2) & 1, carry = x[2] & IR_FLAG_C;
    switch ((unsigned)op) {
    case IR_rol: return flag(r & 1, IR_FLAG_C) | flag(top != (r & 1), IR_FLAG_O);
    case IR_ror: return flag(top, IR_FLAG_C) | flag(top != second, IR_FLAG_O);
    case IR_rcl:
        rotate_carry_left(x[0], carry_rotate_count(x[1], bits), bits, &carry);
        return flag(carry, IR_FLAG_C) | flag(top != carry, IR_FLAG_O);
    default:
        rotate_carry_left(x[0], (bits + 1 - carry_rotate_count(x[1], bits)) % (bits + 1), bits, &carry);
        return flag(carry, IR_FLAG_C) | flag(top != second, IR_FLAG_O);
    }
}

static uint32_t double_shift_flags(enum ir_op op, const uint64_t *x, uint64_t r, unsigned bits)
{
    bool carry = false;
    unsigned n = masked(x[2], bits);
    if (op == IR_shld)
        shld(x[0], x[1], n, bits, &carry);
    else
        shrd(x[0], x[1], n, bits, &carry);
    bool overflow = op == IR_shld ? carry != (r >> (bits - 1) & 1) : (r >> (bits - 1) ^ r >> (bits - 2)) & 1;
    return sign_zero_parity(r, bits) | flag(carry, IR_FLAG_C) | flag(overflow, IR_FLAG_O);
}

uint32_t ir_eval_flags(enum ir_op op, enum ir_type type, const uint64_t x[3], uint64_t r, uint32_t old)
{
    unsigned bits = ir_type_bits(type);
    switch ((unsigned)op) {
    case IR_add: case IR_adc: return adder_flags(x[0], x[1], r, bits, false);
    case IR_sub: case IR_sbb: return adder_flags(x[0], x[1], r, bits, true);
    case IR_neg: return adder_flags(0, x[0], r, bits, true);
    case IR_and: case IR_or: case IR_xor: return sign_zero_parity(r, bits);
    case IR_mul:
        return (sign_zero_parity(r, bits) & ~(uint32_t)IR_FLAG_Z) |
               ((__int128)ir_signed(x[0], bits) * ir_signed(x[1], bits) != ir_signed(r, bits) ? IR_FLAG_C | IR_FLAG_O : 0);
    case IR_shl: case IR_shr: case IR_sar: return masked(x[1], bits) ? shift_flags(op, x, r, bits) | shift_auxiliary() : old;
    case IR_rol: case IR_ror: case IR_rcl: case IR_rcr: return masked(x[1], bits) ? rotate_flags(op, x, r, bits) : old;
    case IR_shld: case IR_shrd: return masked(x[2], bits) ? double_shift_flags(op, x, r, bits) | shift_auxiliary() : old;
    default: return old;
    }
}
