/* Shifts, rotates, single bits, bit counts, BMI1, BMI2, ADX. */
#include "frontend/internal.h"

static ir_ref op2(struct lifter *l, enum ir_op op, enum ir_type t, ir_ref a, ir_ref b) { return ir_op2(l->b, op, t, a, b); }
static unsigned bits_of(enum ir_type t) { return ir_type_bytes(t) * 8; }

static ir_ref count_of(struct lifter *l, unsigned operand, enum ir_type t)
{
    if (lift_is_imm(l, operand))
        return lift_const(l, t, (int64_t)(l->op[operand].imm.value.u & 0xff));
    return lift_resize(l, lift_read(l, operand), lift_type(l, operand), t, false);
}

void lift_shift(struct lifter *l, int op)
{
    enum ir_type t = lift_type(l, 0);
    bool rotate = op == IR_rol || op == IR_ror || op == IR_rcl || op == IR_rcr, through = op == IR_rcl || op == IR_rcr;
    ir_ref count = count_of(l, 1, t), a = lift_read_rw(l, 0);
    ir_ref r = ir_op3(l->b, (enum ir_op)op, t, a, count, through ? lift_flags_get(l) : IR_NONE);
    lift_write(l, 0, r);
    lift_flags_of(l, r, rotate ? IR_M_C | IR_M_O : IR_M_ALL);
}

/* 16 bits by more than 16: CPUs differ, so it is made of wider steps that every tier and host does alike.  The
 * destination comes in again behind the source. */
static void double_shift16(struct lifter *l, bool left)
{
    const enum ir_type t = IR_I16, wide = IR_I64;
    ir_ref n = op2(l, IR_and, wide, count_of(l, 2, wide), lift_const(l, wide, 31)), source = lift_resize(l, lift_read(l, 1), t, wide, false);
    ir_ref old = ir_op1(l->b, IR_flags_pack, IR_I32, lift_flags_get(l)), a = lift_resize(l, lift_read_rw(l, 0), t, wide, false);
    ir_ref all = op2(l, IR_or, wide, op2(l, IR_shl, wide, a, lift_const(l, wide, 32)), op2(l, IR_or, wide, op2(l, IR_shl, wide, source, lift_const(l, wide, 16)), a));
    /* Left: the result in bits 32 to 47, the carry above.  Right: the carry in bit 0, the result above. */
    ir_ref moved = left ? op2(l, IR_shl, wide, all, n) : op2(l, IR_shr, wide, op2(l, IR_shl, wide, all, lift_const(l, wide, 1)), n);
    ir_ref r = ir_op1(l->b, IR_trunc, t, op2(l, IR_shr, wide, moved, lift_const(l, wide, left ? 32 : 1)));
    ir_ref carry = ir_op1(l->b, IR_trunc, IR_I1, left ? op2(l, IR_shr, wide, moved, lift_const(l, wide, 48)) : moved);
    ir_ref top = ir_op1(l->b, IR_trunc, IR_I1, op2(l, IR_shr, t, r, lift_const(l, t, 15)));
    ir_ref other = left ? carry : ir_op1(l->b, IR_trunc, IR_I1, op2(l, IR_shr, t, r, lift_const(l, t, 14)));
    ir_ref flags = ir_emit(l->b, IR_flags_of, IR_FLAGS, IR_M_ALL, 0, op2(l, IR_or, t, r, lift_const(l, t, 0)), IR_NONE, IR_NONE, IR_NONE);
    flags = ir_emit(l->b, IR_flags_set, IR_FLAGS, IR_M_C, 0, flags, carry, IR_NONE, IR_NONE);
    flags = ir_emit(l->b, IR_flags_set, IR_FLAGS, IR_M_O, 0, flags, op2(l, IR_xor, IR_I1, top, other), IR_NONE, IR_NONE);
    ir_ref none = op2(l, IR_eq, wide, n, lift_const(l, wide, 0));
    lift_write(l, 0, r);
    lift_flags_packed(l, ir_op3(l->b, IR_select, IR_I32, none, old, ir_op1(l->b, IR_flags_pack, IR_I32, flags)));
}

void lift_double_shift(struct lifter *l, int op)
{
    enum ir_type t = lift_type(l, 0);
    if (t == IR_I16 && !(lift_is_imm(l, 2) && (l->op[2].imm.value.u & 31) < 16)) {
        double_shift16(l, op == IR_shld);
        return;
    }
    ir_ref count = count_of(l, 2, t), b = lift_read(l, 1), a = lift_read_rw(l, 0);
    ir_ref r = ir_op3(l->b, (enum ir_op)op, t, a, b, count);
    lift_write(l, 0, r);
    lift_flags_of(l, r, IR_M_ALL);
}

void lift_shift_plain(struct lifter *l, int op) /* no flags: RORX, SARX, SHLX, SHRX */
{
    enum ir_type t = lift_type(l, 0);
    ir_ref count = count_of(l, 2, t);
    lift_write(l, 0, op2(l, (enum ir_op)op, t, lift_read(l, 1), count));
}

/* --- BT and its like.  A memory operand with a bit number in a register is a string of bits, from -2^(n-1) on. */
static ir_ref bit_string_token(struct lifter *l, enum ir_type t, ir_ref number, unsigned access)
{
    unsigned bits = bits_of(t);
    ir_ref wide = lift_resize(l, number, t, IR_I64, true);
    ir_ref word = op2(l, IR_sar, IR_I64, wide, lift_const(l, IR_I64, __builtin_ctz(bits)));
    ir_ref bytes = op2(l, IR_shl, IR_I64, word, lift_const(l, IR_I64, __builtin_ctz(bits / 8)));
    return lift_token(l, lift_seg(l->op[0].mem.segment), lift_ea_plus(l, 0, bytes, 0), bits / 8, access);
}

void lift_bit(struct lifter *l, int atomic)
{
    enum ir_type t = lift_type(l, 0);
    unsigned bits = bits_of(t);
    ir_ref number = count_of(l, 1, t), old;
    unsigned access = atomic ? IR_RW : IR_READ;
    if (lift_is_mem(l, 0)) {
        l->token[0] = lift_is_imm(l, 1) ? lift_translate(l, 0, bits / 8, access) : bit_string_token(l, t, number, access);
        l->writable[0] = atomic != 0;
    }
    ir_ref low = op2(l, IR_and, t, number, lift_const(l, t, bits - 1));
    ir_ref mask = op2(l, IR_shl, t, lift_const(l, t, 1), low);
    if (atomic == IR_atomic_and)
        mask = ir_op1(l->b, IR_not, t, mask);
    if (l->lock) {
        old = op2(l, (enum ir_op)atomic, t, l->token[0], mask);
    } else {
        static const uint8_t plain[3] = {IR_and, IR_or, IR_xor};
        old = lift_is_mem(l, 0) ? lift_load(l, t, l->token[0], 0) : lift_read(l, 0);
        if (atomic)
            lift_write(l, 0, op2(l, (enum ir_op)plain[atomic - IR_atomic_and], t, old, mask));
    }
    ir_ref bit = op2(l, IR_shr, t, old, low);
    lift_flag_set(l, IR_M_C, ir_op1(l->b, IR_trunc, IR_I1, bit));
}

/* Source 0: the destination stays, all 64 bits of it, and ZF is set. */
void lift_bit_scan(struct lifter *l, int op)
{
    enum ir_type t = lift_type(l, 0);
    unsigned bits = bits_of(t);
    ir_ref a = lift_read(l, 1), r = ir_op1(l->b, (enum ir_op)op, t, a);
    ir_ref zero = op2(l, IR_eq, t, a, lift_const(l, t, 0));
    if (op == IR_clz)
        r = op2(l, IR_sub, t, lift_const(l, t, bits - 1), r);
    ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, l->op[0].reg.value);
    ir_ref old = lift_gpr_get(l, whole);
    ir_ref wide = bits == 16 ? ir_emit(l->b, IR_deposit, IR_I64, 0, 0, old, r, IR_NONE, IR_NONE) : lift_resize(l, r, t, IR_I64, false);
    lift_gpr_put(l, whole, ir_op3(l->b, IR_select, IR_I64, zero, old, wide));
    lift_flag_set(l, IR_M_Z, zero);
}

void lift_bit_count(struct lifter *l, int op)
{
    enum ir_type t = lift_type(l, 0);
    ir_ref a = lift_read(l, 1), r = ir_op1(l->b, (enum ir_op)op, t, a);
    lift_write(l, 0, r);
    lift_flag_set(l, IR_M_C, op2(l, IR_eq, t, a, lift_const(l, t, 0)));
    lift_flag_set(l, IR_M_Z, op2(l, IR_eq, t, r, lift_const(l, t, 0)));
}

void lift_popcnt(struct lifter *l, int variant)
{
    (void)variant;
    enum ir_type t = lift_type(l, 0);
    ir_ref a = lift_read(l, 1);
    lift_write(l, 0, ir_op1(l->b, IR_popcnt, t, a));
    ir_ref zero = op2(l, IR_eq, t, a, lift_const(l, t, 0));
    ir_ref none = ir_op1(l->b, IR_flags_unpack, IR_FLAGS, lift_const(l, IR_I32, 0));
    lift_flags_put(l, ir_emit(l->b, IR_flags_set, IR_FLAGS, IR_M_Z, 0, none, zero, IR_NONE, IR_NONE));
}

void lift_crc32(struct lifter *l, int variant)
{
    (void)variant;
    unsigned bytes = l->op[1].size / 8;
    ir_ref b = lift_resize(l, lift_read(l, 1), lift_type(l, 1), IR_I64, false);
    ir_ref a = lift_resize(l, lift_read(l, 0), lift_type(l, 0), IR_I32, false);
    ir_ref r = ir_emit(l->b, IR_crc32, IR_I32, bytes, 0, a, b, IR_NONE, IR_NONE);
    lift_write(l, 0, lift_resize(l, r, IR_I32, lift_type(l, 0), false));
}

/* --- BMI */
void lift_andn(struct lifter *l, int variant)
{
    (void)variant;
    enum ir_type t = lift_type(l, 0);
    ir_ref b = lift_read(l, 2), r = op2(l, IR_and, t, ir_op1(l->b, IR_not, t, lift_read(l, 1)), b);
    lift_write(l, 0, r);
    lift_flags_of(l, r, IR_M_ALL);
}

void lift_lowest_bit(struct lifter *l, int variant)
{
    static const uint8_t ops[] = {IR_and, IR_and, IR_xor};
    enum ir_type t = lift_type(l, 0);
    ir_ref a = lift_read(l, 1), zero = op2(l, IR_eq, t, a, lift_const(l, t, 0));
    ir_ref other = variant ? op2(l, IR_sub, t, a, lift_const(l, t, 1)) : ir_op1(l->b, IR_neg, t, a);
    ir_ref r = op2(l, (enum ir_op)ops[variant], t, a, other);
    lift_write(l, 0, r);
    lift_flags_of(l, r, IR_M_ALL);
    lift_flag_set(l, IR_M_C, variant ? zero : op2(l, IR_xor, IR_I1, zero, lift_const(l, IR_I1, 1)));
}

/* (1 << n) - 1, all ones from n = width on; n: 0..255 of type t. */
static ir_ref low_mask(struct lifter *l, enum ir_type t, ir_ref n)
{
    ir_ref bits = lift_const(l, t, bits_of(t));
    ir_ref ones = op2(l, IR_sub, t, op2(l, IR_shl, t, lift_const(l, t, 1), n), lift_const(l, t, 1));
    return ir_op3(l->b, IR_select, t, op2(l, IR_ult, t, n, bits), ones, lift_const(l, t, -1));
}

void lift_bextr(struct lifter *l, int variant)
{
    (void)variant;
    enum ir_type t = lift_type(l, 0);
    ir_ref control = lift_read(l, 2), a = lift_read(l, 1);
    ir_ref start = op2(l, IR_and, t, control, lift_const(l, t, 0xff));
    ir_ref length = op2(l, IR_and, t, op2(l, IR_shr, t, control, lift_const(l, t, 8)), lift_const(l, t, 0xff));
    ir_ref in_range = op2(l, IR_ult, t, start, lift_const(l, t, bits_of(t)));
    ir_ref field = ir_op3(l->b, IR_select, t, in_range, op2(l, IR_shr, t, a, start), lift_const(l, t, 0));
    ir_ref r = op2(l, IR_and, t, field, low_mask(l, t, length));
    lift_write(l, 0, r);
    lift_flags_of(l, r, IR_M_ALL);
}

void lift_bzhi(struct lifter *l, int variant)
{
    (void)variant;
    enum ir_type t = lift_type(l, 0);
    ir_ref n = op2(l, IR_and, t, lift_read(l, 2), lift_const(l, t, 0xff)), a = lift_read(l, 1);
    ir_ref r = op2(l, IR_and, t, a, low_mask(l, t, n));
    lift_write(l, 0, r);
    lift_flags_of(l, r, IR_M_ALL);
    lift_flag_set(l, IR_M_C, op2(l, IR_ule, t, lift_const(l, t, bits_of(t)), n));
}

void lift_pdep(struct lifter *l, int op)
{
    enum ir_type t = lift_type(l, 0);
    ir_ref mask = lift_read(l, 2);
    lift_write(l, 0, op2(l, (enum ir_op)op, t, lift_read(l, 1), mask));
}

void lift_adx(struct lifter *l, int cond)
{
    enum ir_type t = lift_type(l, 0);
    unsigned mask = cond == IR_CC_B ? IR_M_C : IR_M_O;
    ir_ref b = lift_read(l, 1), in = lift_cc(l, (enum ir_cond)cond);
    ir_ref carry = ir_op1(l->b, IR_flags_unpack, IR_FLAGS, lift_const(l, IR_I32, 0));
    carry = ir_emit(l->b, IR_flags_set, IR_FLAGS, IR_M_C, 0, carry, in, IR_NONE, IR_NONE);
    ir_ref r = ir_op3(l->b, IR_adc, t, lift_read(l, 0), b, carry);
    ir_ref flags = ir_emit(l->b, IR_flags_of, IR_FLAGS, IR_M_ALL, 0, r, IR_NONE, IR_NONE, IR_NONE);
    ir_ref out = ir_emit(l->b, IR_test_cc, IR_I1, IR_CC_B, 0, flags, IR_NONE, IR_NONE, IR_NONE);
    lift_write(l, 0, r);
    lift_flag_set(l, mask, out);
}
