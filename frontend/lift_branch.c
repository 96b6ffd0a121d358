/* Jumps, calls, returns, loops, and the stack instructions. */
#include "frontend/internal.h"

static ir_ref op2(struct lifter *l, enum ir_op op, enum ir_type t, ir_ref a, ir_ref b) { return ir_op2(l->b, op, t, a, b); }
static ir_ref c64(struct lifter *l, int64_t v) { return lift_const(l, IR_I64, v); }
static bool cs_is_flat(const struct lifter *l) { return l->mode >> X86_MODE_FLAT_SHIFT >> X86_CS & 1; }
static bool is_far(const struct lifter *l) { return l->in.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR; }
static unsigned branch_bits(const struct lifter *l) { return lift_is64(l) ? 64 : l->operand_bits; }

static void jump_to(struct lifter *l, ir_ref pc, enum ir_jump kind)
{
    ir_emit(l->b, IR_jump_to, IR_VOID, kind, 0, pc, IR_NONE, IR_NONE, IR_NONE);
    l->ended = true;
}

/* i1: a jump to target faults; IR_NONE: cannot.  The fault is the jump's own (SDM 2A, JMP: #GP(0)). */
static ir_ref target_bad(struct lifter *l, ir_ref target)
{
    if (lift_is64(l)) {
        ir_ref extended = op2(l, IR_sar, IR_I64, op2(l, IR_shl, IR_I64, target, c64(l, 16)), c64(l, 16));
        return op2(l, IR_ne, IR_I64, extended, target);
    }
    if (!cs_is_flat(l))
        return op2(l, IR_ult, IR_I64, ir_op1(l->b, IR_zext, IR_I64, lift_slot_get(l, IR_I32, SLOT(seg_limit) + 4 * X86_CS)), target);
    if (l->code_bits == 16 && l->operand_bits == 32)
        return op2(l, IR_ult, IR_I64, c64(l, 0xffff), target);
    return IR_NONE;
}

static void check_target(struct lifter *l, ir_ref target)
{
    ir_ref bad = target_bad(l, target);
    if (bad != IR_NONE)
        lift_raise_if(l, bad, X86_GP, true, 0);
}

/* --- Relative jumps.  Where the target is a constant distance away that needs no check, the exit can be chained. */
static int64_t target_offset(const struct lifter *l, unsigned operand)
{
    return lift_next_offset(l) + l->op[operand].imm.value.s;
}

/* A jump of nearly 2 GiB may lead further from the block's start than 32 bits can say. */
static bool is_plain(const struct lifter *l)
{
    bool near = target_offset(l, 0) == (int32_t)target_offset(l, 0);
    return lift_is64(l) ? near : cs_is_flat(l) && l->operand_bits == l->code_bits;
}

static ir_ref target_pc(struct lifter *l, unsigned operand)
{
    ir_ref pc = op2(l, IR_add, IR_I64, lift_next_pc(l), c64(l, l->op[operand].imm.value.s));
    return lift_is64(l) ? pc : op2(l, IR_and, IR_I64, pc, c64(l, branch_bits(l) == 16 ? 0xffff : 0xffffffff));
}

static void jump_relative(struct lifter *l, unsigned operand)
{
    if (is_plain(l)) {
        ir_emit(l->b, IR_jump, IR_VOID, 0, target_offset(l, operand), IR_NONE, IR_NONE, IR_NONE, IR_NONE);
        l->ended = true;
        return;
    }
    jump_to(l, target_pc(l, operand), IR_JUMP);
}

/* A conditional jump in two steps: checks before anything is changed, then the jump. */
static void branch_check(struct lifter *l, ir_ref cond)
{
    if (is_plain(l))
        return;
    ir_ref bad = target_bad(l, target_pc(l, 0));
    if (bad != IR_NONE)
        lift_raise_if(l, op2(l, IR_and, IR_I1, bad, cond), X86_GP, true, 0);
}

static void branch_take(struct lifter *l, ir_ref cond)
{
    if (!is_plain(l)) {
        jump_to(l, ir_op3(l->b, IR_select, IR_I64, cond, target_pc(l, 0), lift_next_pc(l)), IR_JUMP);
        return;
    }
    ir_emit(l->b, IR_exit_if, IR_VOID, 0, target_offset(l, 0), cond, IR_NONE, IR_NONE, IR_NONE);
    if (!l->branches_left) {
        lift_end_jump(l);
        return;
    }
    l->branches_left--; /* the block goes on where the jump is not taken */
    if (!l->b->head_bytes)
        l->b->head_bytes = l->offset + l->length;
}

void lift_jcc(struct lifter *l, int cc)
{
    ir_ref cond = lift_cc(l, (enum ir_cond)cc);
    branch_check(l, cond);
    branch_take(l, cond);
}

void lift_jcxz(struct lifter *l, int bits)
{
    enum ir_type t = lift_int_type((unsigned)bits);
    ir_ref cond = op2(l, IR_eq, t, lift_reg_get(l, X86_RCX, (unsigned)bits), lift_const(l, t, 0));
    branch_check(l, cond);
    branch_take(l, cond);
}

void lift_loop(struct lifter *l, int variant) /* 1: while ZF, 2: while not ZF */
{
    enum ir_type t = lift_int_type(l->address_bits);
    ir_ref count = op2(l, IR_sub, t, lift_reg_get(l, X86_RCX, l->address_bits), lift_const(l, t, 1));
    ir_ref cond = op2(l, IR_ne, t, count, lift_const(l, t, 0));
    if (variant)
        cond = op2(l, IR_and, IR_I1, cond, lift_cc(l, variant == 1 ? IR_CC_Z : IR_CC_NZ));
    branch_check(l, cond);
    lift_reg_put(l, X86_RCX, l->address_bits, count);
    branch_take(l, cond);
}

static ir_ref read_target(struct lifter *l)
{
    return lift_resize(l, lift_read(l, 0), lift_type(l, 0), IR_I64, false);
}

void lift_jump(struct lifter *l, int variant)
{
    if (is_far(l)) {
        lift_far_jump(l, variant);
    } else if (lift_is_imm(l, 0)) {
        if (!is_plain(l))
            check_target(l, target_pc(l, 0));
        jump_relative(l, 0);
    } else {
        ir_ref target = read_target(l);
        check_target(l, target);
        jump_to(l, target, IR_JUMP);
    }
}

/* The row is CALL's; lift_call itself is the name of the helper call. */
void lift_near_call(struct lifter *l, int variant)
{
    if (is_far(l)) {
        lift_far_call(l, variant);
        return;
    }
    unsigned bits = branch_bits(l);
    bool relative = lift_is_imm(l, 0);
    ir_ref target = relative ? IR_NONE : read_target(l), next = lift_resize(l, lift_next_pc(l), IR_I64, lift_int_type(bits), false);
    struct lift_push at = lift_push_at(l, bits / 8); /* the stack's fault comes before the target's */
    if (!relative)
        check_target(l, target);
    else if (!is_plain(l))
        check_target(l, target_pc(l, 0));
    lift_push_commit(l, at, next);
    if (relative)
        jump_relative(l, 0);
    else
        jump_to(l, target, IR_JUMP_CALL);
}

static ir_ref sp_plus(struct lifter *l, int64_t bytes)
{
    enum ir_type t = lift_int_type(l->stack_bits);
    ir_ref sp = lift_reg_get(l, X86_RSP, l->stack_bits);
    return lift_resize(l, ir_emit(l->b, IR_lea, t, 0, bytes, sp, IR_NONE, IR_NONE, IR_NONE), t, IR_I64, false);
}

void lift_ret(struct lifter *l, int variant)
{
    if (is_far(l)) {
        lift_far_ret(l, variant);
        return;
    }
    unsigned bits = branch_bits(l);
    int64_t drop = lift_is_imm(l, 0) ? (int64_t)(l->op[0].imm.value.u & 0xffff) : 0;
    ir_ref token = lift_token(l, X86_SS, lift_sp_get(l), bits / 8, IR_READ);
    ir_ref target = lift_resize(l, lift_load(l, lift_int_type(bits), token, 0), lift_int_type(bits), IR_I64, false);
    check_target(l, target);
    lift_sp_put(l, sp_plus(l, bits / 8 + drop));
    jump_to(l, target, IR_JUMP_RET);
}

/* --- Stack */
static bool is_segment(const struct lifter *l)
{
    return lift_is_reg(l, 0) && ZydisRegisterGetClass(l->op[0].reg.value) == ZYDIS_REGCLASS_SEGMENT;
}

static void push_segment(struct lifter *l)
{
    unsigned bytes = l->operand_bits / 8;
    ir_ref v = lift_slot_get(l, IR_I16, SLOT(seg_sel) + 2 * (int64_t)lift_seg(l->op[0].reg.value));
    if (bytes != 4) {
        lift_push(l, bytes, lift_resize(l, v, IR_I16, lift_int_type(bytes * 8), false));
        return;
    }
    /* Of 32 bits the silicon writes 16 (SDM 2B, PUSH). */
    ir_ref sp = sp_plus(l, -4);
    lift_store(l, IR_I16, lift_token(l, X86_SS, sp, 2, IR_WRITE), 0, v);
    lift_sp_put(l, sp);
}

void lift_push_value(struct lifter *l, int variant)
{
    (void)variant;
    if (is_segment(l)) {
        push_segment(l);
        return;
    }
    unsigned bits = l->operand_bits;
    lift_push(l, bits / 8, lift_read_as(l, 0, lift_int_type(bits)));
}

static bool base_is_sp(const struct lifter *l, unsigned i)
{
    return ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, l->op[i].mem.base) == ZYDIS_REGISTER_RSP;
}

void lift_pop(struct lifter *l, int variant)
{
    if (is_segment(l)) {
        lift_pop_seg(l, variant);
        return;
    }
    unsigned bytes = l->operand_bits / 8;
    enum ir_type t = lift_int_type(l->operand_bits);
    ir_ref v = lift_load(l, t, lift_token(l, X86_SS, lift_sp_get(l), bytes, IR_READ), 0), sp = sp_plus(l, bytes);
    if (lift_is_mem(l, 0)) { /* an address by (R|E)SP is made after the increment (SDM 2B, POP) */
        ir_ref ea = lift_ea_plus(l, 0, IR_NONE, base_is_sp(l, 0) ? bytes : 0);
        ir_ref token = lift_token(l, lift_seg(l->op[0].mem.segment), ea, bytes, IR_WRITE);
        lift_store(l, t, token, 0, v);
        lift_sp_put(l, sp);
    } else {
        lift_sp_put(l, sp);
        lift_write(l, 0, v);
    }
}

void lift_push_all(struct lifter *l, int bytes)
{
    lift_call(l, IR_VOID, X86_HELPER_push_all, c64(l, bytes), IR_NONE, IR_NONE, IR_NONE);
}

void lift_pop_all(struct lifter *l, int bytes)
{
    lift_call(l, IR_VOID, X86_HELPER_pop_all, c64(l, bytes), IR_NONE, IR_NONE, IR_NONE);
}

void lift_enter(struct lifter *l, int variant)
{
    (void)variant;
    lift_call(l, IR_VOID, X86_HELPER_enter, c64(l, (int64_t)(l->op[0].imm.value.u & 0xffff)),
              c64(l, (int64_t)(l->op[1].imm.value.u & 31)), c64(l, l->operand_bits / 8), IR_NONE);
}

void lift_leave(struct lifter *l, int variant)
{
    (void)variant;
    unsigned bits = l->operand_bits, stack = l->stack_bits;
    enum ir_type t = lift_int_type(stack);
    ir_ref bp = lift_reg_get(l, X86_RBP, stack), at = lift_resize(l, bp, t, IR_I64, false);
    ir_ref v = lift_load(l, lift_int_type(bits), lift_token(l, X86_SS, at, bits / 8, IR_READ), 0);
    lift_reg_put(l, X86_RSP, stack, ir_emit(l->b, IR_lea, t, 0, bits / 8, bp, IR_NONE, IR_NONE, IR_NONE));
    lift_reg_put(l, X86_RBP, bits, v);
}

void lift_bound(struct lifter *l, int variant)
{
    (void)variant;
    enum ir_type t = lift_type(l, 0);
    unsigned bytes = ir_type_bytes(t);
    ir_ref index = lift_read(l, 0), low = lift_load(l, t, lift_translate(l, 1, bytes, IR_READ), 0);
    ir_ref token = lift_token(l, lift_seg(l->op[1].mem.segment), lift_ea_plus(l, 1, IR_NONE, bytes), bytes, IR_READ);
    ir_ref high = lift_load(l, t, token, 0);
    ir_ref out = op2(l, IR_or, IR_I1, op2(l, IR_slt, t, index, low), op2(l, IR_slt, t, high, index));
    lift_raise_if(l, out, X86_BR, false, 0);
}
