/* String instructions: one step inline; with REP, a helper that does many steps at a time and is called again
 * until it is done.  Between calls the registers say how far it got, so an interrupt may come in. */
#include "frontend/internal.h"

static ir_ref op2(struct lifter *l, enum ir_op op, enum ir_type t, ir_ref a, ir_ref b) { return ir_op2(l->b, op, t, a, b); }

static enum x86_seg source_segment(const struct lifter *l)
{
    for (unsigned i = 0; i < l->in.operand_count; i++)
        if (lift_is_mem(l, i) && ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, l->op[i].mem.base) == ZYDIS_REGISTER_RSI)
            return lift_seg(l->op[i].mem.segment);
    return X86_DS;
}

static ir_ref index_get(struct lifter *l, unsigned reg)
{
    return lift_resize(l, lift_reg_get(l, reg, l->address_bits), lift_int_type(l->address_bits), IR_I64, false);
}

/* Moves RSI or RDI on by `size`, or back where DF is set. */
static void advance(struct lifter *l, unsigned reg, unsigned size)
{
    enum ir_type t = lift_int_type(l->address_bits);
    ir_ref df = op2(l, IR_and, IR_I32, lift_slot_get(l, IR_I32, SLOT(eflags)), lift_const(l, IR_I32, X86_EFLAGS_DF));
    ir_ref twice = op2(l, IR_shr, IR_I32, df, lift_const(l, IR_I32, 9 - __builtin_ctz(size)));
    ir_ref step = lift_resize(l, op2(l, IR_sub, IR_I32, lift_const(l, IR_I32, size), twice), IR_I32, t, true);
    lift_reg_put(l, reg, l->address_bits, op2(l, IR_add, t, lift_reg_get(l, reg, l->address_bits), step));
}

static void once(struct lifter *l, unsigned op, unsigned size)
{
    enum ir_type t = lift_int_type(size * 8);
    bool source = op == X86_STRING_MOVS || op == X86_STRING_LODS || op == X86_STRING_CMPS;
    bool destination = op != X86_STRING_LODS, writes = op == X86_STRING_MOVS || op == X86_STRING_STOS;
    ir_ref a, token = IR_NONE;
    if (op == X86_STRING_CMPS) /* the second operand's fault comes first */
        token = lift_token(l, X86_ES, index_get(l, X86_RDI), size, IR_READ);
    if (source)
        a = lift_load(l, t, lift_token(l, source_segment(l), index_get(l, X86_RSI), size, IR_READ), 0);
    else
        a = lift_reg_get(l, X86_RAX, size * 8);
    if (destination && token == IR_NONE)
        token = lift_token(l, X86_ES, index_get(l, X86_RDI), size, writes ? IR_WRITE : IR_READ);
    if (writes)
        lift_store(l, t, token, 0, a);
    if (op == X86_STRING_LODS)
        lift_reg_put(l, X86_RAX, size * 8, a);
    ir_ref difference = destination && !writes ? op2(l, IR_sub, t, a, lift_load(l, t, token, 0)) : IR_NONE;
    if (source)
        advance(l, X86_RSI, size);
    if (destination)
        advance(l, X86_RDI, size);
    if (difference != IR_NONE)
        lift_flags_of(l, difference, IR_M_ALL);
}

/* As IR_MOVES_PLAIN says. */
static bool is_plain(const struct lifter *l, unsigned op)
{
    enum x86_seg seg = source_segment(l);
    bool based = op == X86_STRING_MOVS && (seg == X86_FS || seg == X86_GS);
    return (l->mode & X86_MODE_CODE) == X86_MODE_CODE64 && l->address_bits == 64 && !based && !(l->mode & (X86_MODE_DEBUG | X86_MODE_TF | X86_MODE_AC));
}

void lift_string(struct lifter *l, int variant)
{
    unsigned op = (unsigned)variant & X86_STRING_OP, size = (unsigned)variant & X86_STRING_SIZE;
    bool compares = op == X86_STRING_CMPS || op == X86_STRING_SCAS;
    bool repeats = l->in.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
    if (!repeats) {
        once(l, op, size);
        return;
    }
    /* REPNE before MOVS and the like repeats as REP does. */
    bool until_equal = l->in.attributes & ZYDIS_ATTRIB_HAS_REPNE;
    int64_t what = variant | (int64_t)l->address_bits << 16 | (int64_t)source_segment(l) << 24 | (int64_t)until_equal << 28;
    if (op == X86_STRING_MOVS || op == X86_STRING_STOS)
        what |= (is_plain(l, op) ? IR_MOVES_PLAIN : 0) | (op == X86_STRING_STOS ? IR_MOVES_FILL : 0);
    ir_ref more = lift_call(l, IR_I64, compares ? X86_HELPER_rep_compare : X86_HELPER_rep_move, lift_const(l, IR_I64, what), IR_NONE, IR_NONE, IR_NONE);
    ir_emit(l->b, IR_exit_if, IR_VOID, 0, l->offset, op2(l, IR_ne, IR_I64, more, lift_const(l, IR_I64, 0)), IR_NONE, IR_NONE, IR_NONE);
}

void lift_string_twin(struct lifter *l, int is_movs)
{
    lift_string(l, (is_movs ? X86_STRING_MOVS : X86_STRING_CMPS) | 4);
}
