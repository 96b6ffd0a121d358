/* Integer arithmetic, moves, conversions and flags. */
#include "frontend/internal.h"

enum { READS_ONLY = 0x100 };

static ir_ref op2(struct lifter *l, enum ir_op op, enum ir_type t, ir_ref a, ir_ref b) { return ir_op2(l->b, op, t, a, b); }
static unsigned bits_of(enum ir_type t) { return ir_type_bytes(t) * 8; }

static bool same_register(const struct lifter *l)
{
    return lift_is_reg(l, 0) && lift_is_reg(l, 1) && l->op[0].reg.value == l->op[1].reg.value;
}

/* --- LOCK: the host's own atomic operation; the flags come from the same arithmetic on the old value. */
static void locked_alu(struct lifter *l, enum ir_op op, enum ir_type t, ir_ref b)
{
    static const uint16_t atomic[IR_OP_COUNT] = {[IR_add] = IR_atomic_add, [IR_adc] = IR_atomic_add, [IR_sub] = IR_atomic_add,
        [IR_sbb] = IR_atomic_add, [IR_and] = IR_atomic_and, [IR_or] = IR_atomic_or, [IR_xor] = IR_atomic_xor};
    bool carry = op == IR_adc || op == IR_sbb;
    ir_ref flags = carry ? lift_flags_get(l) : IR_NONE, operand = b;
    ir_ref token = lift_translate(l, 0, ir_type_bytes(t), IR_RW);
    if (carry)
        operand = ir_op3(l->b, IR_adc, t, b, lift_const(l, t, 0), flags);
    if (op == IR_sub || op == IR_sbb)
        operand = ir_op1(l->b, IR_neg, t, operand);
    ir_ref old = op2(l, (enum ir_op)atomic[op], t, token, operand);
    lift_flags_of(l, ir_op3(l->b, op, t, old, b, flags), IR_M_ALL);
}

void lift_alu(struct lifter *l, int variant)
{
    enum ir_op op = (enum ir_op)(variant & 0xff);
    enum ir_type t = lift_type(l, 0);
    bool carry = op == IR_adc || op == IR_sbb, reads_only = variant & READS_ONLY;
    ir_ref a, b, r;
    if (l->lock) {
        locked_alu(l, op, t, lift_read_as(l, 1, t));
        return;
    }
    if (same_register(l) && (op == IR_xor || op == IR_sub)) {
        a = b = lift_const(l, t, 0); /* the idiom for zero: does not depend on the register */
    } else {
        b = lift_read_as(l, 1, t);
        a = reads_only ? lift_read(l, 0) : lift_read_rw(l, 0);
    }
    r = ir_op3(l->b, op, t, a, b, carry ? lift_flags_get(l) : IR_NONE);
    if (!reads_only)
        lift_write(l, 0, r);
    lift_flags_of(l, r, IR_M_ALL);
}

void lift_inc(struct lifter *l, int by)
{
    enum ir_type t = lift_type(l, 0);
    enum ir_op op = by > 0 ? IR_add : IR_sub;
    ir_ref one = lift_const(l, t, 1), old;
    if (l->lock)
        old = op2(l, IR_atomic_add, t, lift_translate(l, 0, ir_type_bytes(t), IR_RW), lift_const(l, t, by));
    else
        old = lift_read_rw(l, 0);
    ir_ref r = op2(l, op, t, old, one);
    if (!l->lock)
        lift_write(l, 0, r);
    lift_flags_of(l, r, IR_M_ALL & ~IR_M_C);
}

void lift_neg(struct lifter *l, int variant)
{
    (void)variant;
    enum ir_type t = lift_type(l, 0);
    ir_ref old = lift_read_rw(l, 0), r = ir_op1(l->b, IR_neg, t, old);
    if (l->lock) {
        /* Where another CPU came between, the instruction starts over. */
        ir_ref seen = ir_op3(l->b, IR_atomic_cas, t, l->token[0], old, r);
        ir_emit(l->b, IR_exit_if, IR_VOID, 0, l->offset, op2(l, IR_ne, t, seen, old), IR_NONE, IR_NONE, IR_NONE);
    } else {
        lift_write(l, 0, r);
    }
    lift_flags_of(l, r, IR_M_ALL);
}

void lift_not(struct lifter *l, int variant)
{
    (void)variant;
    enum ir_type t = lift_type(l, 0);
    if (l->lock)
        op2(l, IR_atomic_xor, t, lift_translate(l, 0, ir_type_bytes(t), IR_RW), lift_const(l, t, -1));
    else
        lift_write(l, 0, ir_op1(l->b, IR_not, t, lift_read_rw(l, 0)));
}

void lift_xadd(struct lifter *l, int variant)
{
    (void)variant;
    enum ir_type t = lift_type(l, 0);
    ir_ref b = lift_read(l, 1), old;
    if (l->lock)
        old = op2(l, IR_atomic_add, t, lift_translate(l, 0, ir_type_bytes(t), IR_RW), b);
    else
        old = lift_read_rw(l, 0);
    ir_ref r = op2(l, IR_add, t, old, b);
    lift_write(l, 1, old); /* XADD r, r of one register leaves the sum */
    if (!l->lock)
        lift_write(l, 0, r);
    lift_flags_of(l, r, IR_M_ALL);
}

void lift_cmpxchg(struct lifter *l, int variant)
{
    (void)variant;
    enum ir_type t = lift_type(l, 0);
    unsigned bits = bits_of(t);
    ir_ref source = lift_read(l, 1), expected = lift_reg_get(l, X86_RAX, bits), all = lift_reg_get(l, X86_RAX, 64), old;
    if (lift_is_mem(l, 0) && l->lock)
        old = ir_op3(l->b, IR_atomic_cas, t, lift_translate(l, 0, bits / 8, IR_RW), expected, source);
    else
        old = lift_read_rw(l, 0);
    ir_ref equal = op2(l, IR_eq, t, old, expected);
    /* Equal: all of RAX stays, its high half too. */
    ir_ref other = bits == 64 ? old : bits == 32 ? ir_op1(l->b, IR_zext, IR_I64, old)
                 : ir_emit(l->b, IR_deposit, IR_I64, 0, 0, all, old, IR_NONE, IR_NONE);
    ir_ref rax = ir_op3(l->b, IR_select, IR_I64, equal, all, other);
    ir_ref difference = op2(l, IR_sub, t, expected, old);
    if (l->lock) {
        lift_slot_put(l, IR_I64, SLOT(gpr), rax);
    } else if (t == IR_I32 && lift_is_reg(l, 0)) {
        /* A register that is not equal is not written: its high half stays. */
        ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, l->op[0].reg.value);
        ir_ref value = ir_op3(l->b, IR_select, IR_I64, equal, ir_op1(l->b, IR_zext, IR_I64, source), lift_gpr_get(l, whole));
        lift_slot_put(l, IR_I64, SLOT(gpr), rax);
        lift_gpr_put(l, whole, value);
    } else {
        ir_ref value = ir_op3(l->b, IR_select, t, equal, source, old);
        lift_slot_put(l, IR_I64, SLOT(gpr), rax);
        lift_write(l, 0, value);
    }
    lift_flags_of(l, difference, IR_M_ALL);
}

static ir_ref join(struct lifter *l, unsigned high, unsigned low, unsigned bits)
{
    enum ir_type t = lift_int_type(2 * bits);
    ir_ref r = ir_op1(l->b, IR_zext, t, lift_reg_get(l, low, bits));
    return ir_emit(l->b, IR_deposit, t, bits, 0, r, lift_reg_get(l, high, bits), IR_NONE, IR_NONE);
}

void lift_cmpxchg8b(struct lifter *l, int variant)
{
    (void)variant;
    static const uint8_t registers[] = {X86_RAX, X86_RDX};
    ir_ref expected = join(l, X86_RDX, X86_RAX, 32), desired = join(l, X86_RCX, X86_RBX, 32);
    ir_ref old = ir_op3(l->b, IR_atomic_cas, IR_I64, lift_translate(l, 0, 8, IR_RW), expected, desired);
    ir_ref equal = op2(l, IR_eq, IR_I64, old, expected);
    for (unsigned i = 0; i < 2; i++) {
        ir_ref part = ir_emit(l->b, IR_extract, IR_I32, i * 32, 0, old, IR_NONE, IR_NONE, IR_NONE);
        ir_ref keep = lift_reg_get(l, registers[i], 64);
        lift_slot_put(l, IR_I64, SLOT(gpr) + 8 * registers[i], ir_op3(l->b, IR_select, IR_I64, equal, keep, ir_op1(l->b, IR_zext, IR_I64, part)));
    }
    lift_flag_set(l, IR_M_Z, equal);
}

void lift_cmpxchg16b(struct lifter *l, int variant)
{
    (void)variant;
    lift_call(l, IR_VOID, X86_HELPER_cmpxchg16b, lift_operand_linear(l, 0, 16, IR_RW | IR_ALIGNED), IR_NONE, IR_NONE, IR_NONE);
}

void lift_xchg(struct lifter *l, int variant)
{
    (void)variant;
    unsigned m = lift_is_mem(l, 1) ? 1 : 0, r = 1 - m; /* Zydis may name memory second */
    enum ir_type t = lift_type(l, m);
    ir_ref value = lift_read(l, r);
    if (lift_is_mem(l, m)) { /* locked with or without the prefix (SDM 3A 9.1.2.1) */
        lift_write(l, r, op2(l, IR_atomic_xchg, t, lift_translate(l, m, ir_type_bytes(t), IR_RW), value));
        return;
    }
    ir_ref other = lift_read(l, m);
    lift_write(l, m, value);
    lift_write(l, r, other);
}

/* --- Multiply, divide */
static void put_pair(struct lifter *l, unsigned bits, ir_ref low, ir_ref high)
{
    lift_reg_put(l, X86_RAX, bits, low);
    lift_reg_put(l, X86_RDX, bits, high);
}

/* CF = OF = the high half says something; SF and PF follow the low half as the silicon has it. */
static void mul_flags(struct lifter *l, enum ir_type t, ir_ref low, ir_ref lost)
{
    ir_ref test = op2(l, IR_or, t, low, lift_const(l, t, 0));
    ir_ref flags = ir_emit(l->b, IR_flags_of, IR_FLAGS, IR_M_ALL, 0, test, IR_NONE, IR_NONE, IR_NONE);
    flags = ir_emit(l->b, IR_flags_set, IR_FLAGS, IR_M_C | IR_M_O, 0, flags, lost, IR_NONE, IR_NONE);
    flags = ir_emit(l->b, IR_flags_set, IR_FLAGS, IR_M_Z, 0, flags, lift_const(l, IR_I1, 0), IR_NONE, IR_NONE);
    lift_flags_put(l, flags);
}

static void mul_narrow(struct lifter *l, bool is_signed) /* 8 and 16 bits: in a register of twice the width */
{
    enum ir_type t = lift_type(l, 0), wide = t == IR_I8 ? IR_I16 : IR_I32;
    unsigned bits = bits_of(t);
    ir_ref a = lift_resize(l, lift_read(l, 0), t, wide, is_signed), b = lift_resize(l, lift_reg_get(l, X86_RAX, bits), t, wide, is_signed);
    ir_ref r = op2(l, IR_mul, wide, a, b), low = ir_op1(l->b, IR_trunc, t, r);
    ir_ref lost = op2(l, IR_ne, wide, r, lift_resize(l, low, t, wide, is_signed));
    if (t == IR_I8)
        lift_reg_put(l, X86_RAX, 16, r);
    else
        put_pair(l, 16, low, ir_emit(l->b, IR_extract, IR_I16, 16, 0, r, IR_NONE, IR_NONE, IR_NONE));
    mul_flags(l, t, low, lost);
}

static ir_ref signed_lost(struct lifter *l, enum ir_type t, ir_ref low, ir_ref high)
{
    return op2(l, IR_ne, t, high, op2(l, IR_sar, t, low, lift_const(l, t, bits_of(t) - 1)));
}

static void imul_operands(struct lifter *l) /* IMUL r, r/m[, imm] */
{
    enum ir_type t = lift_type(l, 0);
    bool three = l->in.operand_count_visible == 3;
    ir_ref a = lift_read(l, three ? 1 : 0), b = lift_read_as(l, three ? 2 : 1, t), low = op2(l, IR_mul, t, a, b);
    lift_write(l, 0, low);
    lift_flags_of(l, low, IR_M_ALL);
}

void lift_mul(struct lifter *l, int is_signed)
{
    enum ir_type t = lift_type(l, 0);
    if (l->in.operand_count_visible > 1) {
        imul_operands(l);
        return;
    }
    if (t == IR_I8 || t == IR_I16) {
        mul_narrow(l, is_signed);
        return;
    }
    unsigned bits = bits_of(t);
    ir_ref a = lift_read(l, 0), b = lift_reg_get(l, X86_RAX, bits);
    ir_ref low = op2(l, IR_mul, t, a, b), high = op2(l, is_signed ? IR_smulh : IR_umulh, t, a, b);
    put_pair(l, bits, low, high);
    mul_flags(l, t, low, is_signed ? signed_lost(l, t, low, high) : op2(l, IR_ne, t, high, lift_const(l, t, 0)));
}

void lift_mulx(struct lifter *l, int variant)
{
    (void)variant;
    enum ir_type t = lift_type(l, 0);
    ir_ref a = lift_read(l, 2), b = lift_reg_get(l, X86_RDX, bits_of(t));
    ir_ref high = op2(l, IR_umulh, t, a, b);
    lift_write(l, 1, op2(l, IR_mul, t, a, b));
    lift_write(l, 0, high); /* one register for both gets the high half */
}

static ir_ref not_bit(struct lifter *l, ir_ref bit) { return op2(l, IR_xor, IR_I1, bit, lift_const(l, IR_I1, 1)); }

static void div_narrow(struct lifter *l, bool is_signed)
{
    enum ir_type t = lift_type(l, 0);
    ir_ref divisor = lift_resize(l, lift_read(l, 0), t, IR_I32, is_signed), low;
    if (t == IR_I8)
        low = lift_resize(l, lift_reg_get(l, X86_RAX, 16), IR_I16, IR_I32, is_signed);
    else
        low = join(l, X86_RDX, X86_RAX, 16);
    ir_ref high = is_signed ? op2(l, IR_sar, IR_I32, low, lift_const(l, IR_I32, 31)) : lift_const(l, IR_I32, 0);
    ir_ref ok = ir_op3(l->b, is_signed ? IR_sdiv_ok : IR_udiv_ok, IR_I32, high, low, divisor);
    lift_raise_if(l, not_bit(l, ok), X86_DE, false, 0);
    ir_ref q = ir_op3(l->b, is_signed ? IR_sdivq : IR_udivq, IR_I32, high, low, divisor);
    ir_ref r = ir_op3(l->b, is_signed ? IR_sdivr : IR_udivr, IR_I32, high, low, divisor);
    ir_ref q_low = ir_op1(l->b, IR_trunc, t, q), r_low = ir_op1(l->b, IR_trunc, t, r);
    lift_raise_if(l, op2(l, IR_ne, IR_I32, q, lift_resize(l, q_low, t, IR_I32, is_signed)), X86_DE, false, 0);
    if (t == IR_I8)
        lift_reg_put(l, X86_RAX, 16, ir_emit(l->b, IR_deposit, IR_I16, 8, 0, ir_op1(l->b, IR_zext, IR_I16, q_low), r_low, IR_NONE, IR_NONE));
    else
        put_pair(l, 16, q_low, r_low);
}

void lift_div(struct lifter *l, int is_signed)
{
    enum ir_type t = lift_type(l, 0);
    if (t == IR_I8 || t == IR_I16) {
        div_narrow(l, is_signed);
        return;
    }
    unsigned bits = bits_of(t);
    ir_ref divisor = lift_read(l, 0), low = lift_reg_get(l, X86_RAX, bits), high = lift_reg_get(l, X86_RDX, bits);
    lift_raise_if(l, not_bit(l, ir_op3(l->b, is_signed ? IR_sdiv_ok : IR_udiv_ok, t, high, low, divisor)), X86_DE, false, 0);
    ir_ref q = ir_op3(l->b, is_signed ? IR_sdivq : IR_udivq, t, high, low, divisor);
    ir_ref r = ir_op3(l->b, is_signed ? IR_sdivr : IR_udivr, t, high, low, divisor);
    put_pair(l, bits, q, r);
}

/* --- Moves */
static ZydisRegisterClass class_of(const struct lifter *l, unsigned i)
{
    return lift_is_reg(l, i) ? ZydisRegisterGetClass(l->op[i].reg.value) : ZYDIS_REGCLASS_INVALID;
}

static void mov_from_segment(struct lifter *l)
{
    ir_ref v = lift_slot_get(l, IR_I16, SLOT(seg_sel) + 2 * (int64_t)lift_seg(l->op[1].reg.value));
    if (lift_is_mem(l, 0))
        lift_store(l, IR_I16, lift_translate(l, 0, 2, IR_WRITE), 0, v);
    else
        lift_write(l, 0, lift_resize(l, v, IR_I16, lift_type(l, 0), false));
}

void lift_mov(struct lifter *l, int variant)
{
    ZydisRegisterClass to = class_of(l, 0), from = class_of(l, 1);
    if (to == ZYDIS_REGCLASS_CONTROL || from == ZYDIS_REGCLASS_CONTROL)
        lift_mov_cr(l, variant);
    else if (to == ZYDIS_REGCLASS_DEBUG || from == ZYDIS_REGCLASS_DEBUG)
        lift_mov_dr(l, variant);
    else if (to == ZYDIS_REGCLASS_TEST || from == ZYDIS_REGCLASS_TEST)
        lift_ud(l);
    else if (to == ZYDIS_REGCLASS_SEGMENT)
        lift_mov_to_seg(l, variant);
    else if (from == ZYDIS_REGCLASS_SEGMENT)
        mov_from_segment(l);
    else
        lift_write(l, 0, lift_read_as(l, 1, lift_type(l, 0)));
}

void lift_extend(struct lifter *l, int is_signed)
{
    lift_write(l, 0, lift_resize(l, lift_read(l, 1), lift_type(l, 1), lift_type(l, 0), is_signed));
}

void lift_movbe(struct lifter *l, int variant)
{
    (void)variant;
    lift_write(l, 0, ir_op1(l->b, IR_bswap, lift_type(l, 0), lift_read(l, 1)));
}

void lift_bswap(struct lifter *l, int variant)
{
    (void)variant;
    /* Of 16 bits: undefined in the manual; the silicon clears them. */
    enum ir_type t = lift_type(l, 0);
    lift_write(l, 0, t == IR_I16 ? lift_const(l, t, 0) : ir_op1(l->b, IR_bswap, t, lift_read(l, 0)));
}

void lift_lea(struct lifter *l, int variant)
{
    (void)variant;
    lift_write(l, 0, lift_resize(l, lift_ea(l, 1), IR_I64, lift_type(l, 0), false));
}

void lift_widen(struct lifter *l, int from)
{
    lift_reg_put(l, X86_RAX, 2 * (unsigned)from, ir_op1(l->b, IR_sext, lift_int_type(2 * (unsigned)from), lift_reg_get(l, X86_RAX, (unsigned)from)));
}

void lift_spread(struct lifter *l, int bits)
{
    enum ir_type t = lift_int_type((unsigned)bits);
    lift_reg_put(l, X86_RDX, (unsigned)bits, op2(l, IR_sar, t, lift_reg_get(l, X86_RAX, (unsigned)bits), lift_const(l, t, bits - 1)));
}

void lift_xlat(struct lifter *l, int variant)
{
    (void)variant;
    unsigned bits = l->address_bits;
    enum x86_seg seg = X86_DS;
    for (unsigned i = 0; i < l->in.operand_count; i++)
        if (lift_is_mem(l, i))
            seg = lift_seg(l->op[i].mem.segment);
    enum ir_type t = lift_int_type(bits);
    ir_ref index = ir_op1(l->b, IR_zext, t, lift_reg_get(l, X86_RAX, 8));
    ir_ref ea = lift_resize(l, op2(l, IR_add, t, lift_reg_get(l, X86_RBX, bits), index), t, IR_I64, false);
    lift_reg_put(l, X86_RAX, 8, lift_load(l, IR_I8, lift_token(l, seg, ea, 1, IR_READ), 0));
}

void lift_cmov(struct lifter *l, int cond)
{
    enum ir_type t = lift_type(l, 0);
    ir_ref v = lift_read(l, 1), old = lift_read(l, 0);
    lift_write(l, 0, ir_op3(l->b, IR_select, t, lift_cc(l, (enum ir_cond)cond), v, old));
}

void lift_setcc(struct lifter *l, int cond)
{
    lift_prepare_write(l, 0);
    lift_write(l, 0, ir_op1(l->b, IR_zext, IR_I8, lift_cc(l, (enum ir_cond)cond)));
}

/* --- Flags.  LAHF's byte is the packed form's bits 8 to 15, but for bit 1, which reads as one. */
void lift_lahf(struct lifter *l, int variant)
{
    (void)variant;
    if (lift_is64(l) && !x86_model_has(l->model, X86_FEATURE_LAHF)) {
        lift_ud(l);
        return;
    }
    ir_ref packed = ir_op1(l->b, IR_flags_pack, IR_I32, lift_flags_get(l));
    ir_ref ah = ir_emit(l->b, IR_extract, IR_I8, 8, 0, packed, IR_NONE, IR_NONE, IR_NONE);
    lift_gpr_put(l, ZYDIS_REGISTER_AH, op2(l, IR_or, IR_I8, ah, lift_const(l, IR_I8, 2)));
}

void lift_sahf(struct lifter *l, int variant)
{
    (void)variant;
    if (lift_is64(l) && !x86_model_has(l->model, X86_FEATURE_LAHF)) {
        lift_ud(l);
        return;
    }
    ir_ref packed = ir_op1(l->b, IR_flags_pack, IR_I32, lift_flags_get(l));
    ir_ref ah = op2(l, IR_and, IR_I8, lift_gpr_get(l, ZYDIS_REGISTER_AH), lift_const(l, IR_I8, (IR_FLAGS_ALL >> 8) & 0xff));
    ir_ref kept = op2(l, IR_and, IR_I32, packed, lift_const(l, IR_I32, IR_FLAG_O));
    lift_flags_packed(l, ir_emit(l->b, IR_deposit, IR_I32, 8, 0, kept, ah, IR_NONE, IR_NONE));
}

void lift_carry(struct lifter *l, int variant)
{
    ir_ref bit = variant == 2 ? lift_cc(l, IR_CC_AE) : lift_const(l, IR_I1, variant);
    lift_flag_set(l, IR_M_C, bit);
}

void lift_direction(struct lifter *l, int set)
{
    ir_ref old = lift_slot_get(l, IR_I32, SLOT(eflags));
    ir_ref v = set ? op2(l, IR_or, IR_I32, old, lift_const(l, IR_I32, X86_EFLAGS_DF))
                   : op2(l, IR_and, IR_I32, old, lift_const(l, IR_I32, (int32_t)~X86_EFLAGS_DF));
    lift_slot_put(l, IR_I32, SLOT(eflags), v);
}

void lift_salc(struct lifter *l, int variant)
{
    (void)variant;
    ir_ref cf = ir_op1(l->b, IR_zext, IR_I8, lift_cc(l, IR_CC_B));
    lift_reg_put(l, X86_RAX, 8, ir_op1(l->b, IR_neg, IR_I8, cf));
}

void lift_bcd(struct lifter *l, int kind)
{
    ir_ref imm = lift_const(l, IR_I64, lift_is_imm(l, 0) ? (int64_t)(l->op[0].imm.value.u & 0xff) : 10);
    lift_call(l, IR_VOID, X86_HELPER_bcd, lift_const(l, IR_I64, kind), imm, IR_NONE, IR_NONE);
}

void lift_no_operation(struct lifter *l, int variant) { (void)l; (void)variant; }

void lift_rdrand(struct lifter *l, int variant)
{
    (void)variant;
    enum ir_type t = lift_type(l, 0);
    ir_ref v = lift_call(l, IR_I64, X86_HELPER_random, IR_NONE, IR_NONE, IR_NONE, IR_NONE);
    lift_write(l, 0, lift_resize(l, v, IR_I64, t, false));
    lift_flags_packed(l, lift_const(l, IR_I32, IR_FLAG_C));
}
