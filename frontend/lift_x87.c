/* x87: each function is an x87 operation of the IR.  Where an exception is unmasked (X86_MODE_X87_TRAPS) one may be pending:
 * that is looked for first, and a helper deals with it. */
#include "frontend/internal.h"

enum { MASKS = 0x3f };

static bool x87_open(struct lifter *l, uint32_t not_available)
{
    if (!lift_fpu_mode(l, not_available))
        return true;
    lift_raise(l, X86_NM, false, 0);
    return false;
}

static bool traps(struct lifter *l) { return lift_fpu_mode(l, X86_MODE_X87_TRAPS); }
static ir_ref emit(struct lifter *l, enum ir_op op, enum ir_type t, unsigned function, unsigned size, ir_ref a) { return ir_emit(l->b, op, t, function, size, a, IR_NONE, IR_NONE, IR_NONE); }

/* Memory operand of an x87 instruction. */
static unsigned memory_at(const struct lifter *l) { return lift_is_mem(l, 0) ? 0 : 1; }
static bool has_memory(const struct lifter *l) { return lift_is_mem(l, 0) || lift_is_mem(l, 1); }
static unsigned size_of(const struct lifter *l) { return has_memory(l) ? l->op[memory_at(l)].size / 8u : 0; }
static bool stores(const struct lifter *l) { return l->op[memory_at(l)].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE; }

/* The function's number (ir/ops_x87.def), which is FOP's value. */
static unsigned function_of(const struct lifter *l)
{
    return (l->in.opcode & 7u) << 8 | (unsigned)l->in.raw.modrm.mod << 6 | (unsigned)l->in.raw.modrm.reg << 3 | l->in.raw.modrm.rm;
}

/* Pointers (SDM 1 8.1.8) are those of the last instruction that is no control instruction; FDP of the last with an operand in
 * memory.  FCS and FDS are 0 where CPUID says that they are deprecated. */
static void data_pointer(struct lifter *l, ir_ref ea)
{
    bool selectors = !x86_model_has(l->model, X86_FEATURE_ZERO_FCS_FDS);
    if (selectors)
        lift_slot_put(l, IR_I16, SLOT(fcs), lift_slot_get(l, IR_I16, SLOT(seg_sel) + 2 * X86_CS));
    if (ea == IR_NONE)
        return;
    lift_slot_put(l, IR_I64, SLOT(fdp), ea);
    if (selectors)
        lift_slot_put(l, IR_I16, SLOT(fds), lift_slot_get(l, IR_I16, SLOT(seg_sel) + 2 * lift_seg(l->op[memory_at(l)].mem.segment)));
}

static void on_registers(struct lifter *l)
{
    switch (l->in.mnemonic) {
    case ZYDIS_MNEMONIC_FCOMI: case ZYDIS_MNEMONIC_FCOMIP: case ZYDIS_MNEMONIC_FUCOMI: case ZYDIS_MNEMONIC_FUCOMIP:
        lift_flags_packed(l, emit(l, IR_x87_flags, IR_I32, function_of(l), 0, IR_NONE));
        break;
    case ZYDIS_MNEMONIC_FCMOVB: case ZYDIS_MNEMONIC_FCMOVBE: case ZYDIS_MNEMONIC_FCMOVE: case ZYDIS_MNEMONIC_FCMOVU:
    case ZYDIS_MNEMONIC_FCMOVNB: case ZYDIS_MNEMONIC_FCMOVNBE: case ZYDIS_MNEMONIC_FCMOVNE: case ZYDIS_MNEMONIC_FCMOVNU:
        emit(l, IR_x87_move_if, IR_VOID, function_of(l), 0, lift_flags_get(l));
        break;
    default:
        emit(l, IR_x87, IR_VOID, function_of(l), 0, IR_NONE);
    }
}

static void on_memory(struct lifter *l)
{
    ir_ref token = lift_translate(l, memory_at(l), size_of(l), stores(l) ? IR_WRITE : IR_READ);
    emit(l, stores(l) ? IR_x87_store : IR_x87_load, IR_VOID, function_of(l), size_of(l), token);
}

/* Arguments of the helpers: what it is, the operand's linear address. */
static ir_ref what(struct lifter *l)
{
    unsigned segment = has_memory(l) ? lift_seg(l->op[memory_at(l)].mem.segment) : 0;
    return lift_const(l, IR_I64, (int64_t)function_of(l) | (int64_t)size_of(l) << 16 | (int64_t)segment << 24 | (int64_t)(l->operand_bits == 16) << 28);
}

static ir_ref linear(struct lifter *l)
{
    return has_memory(l) ? lift_operand_linear(l, memory_at(l), size_of(l), stores(l) ? IR_WRITE : IR_READ) : IR_NONE;
}

/* Is an exception pending? (i1) */
static ir_ref pending(struct lifter *l)
{
    enum { ES = 0x80 };
    ir_ref es = ir_op2(l->b, IR_and, IR_I16, emit(l, IR_x87_status, IR_I16, 0, 0, IR_NONE), lift_const(l, IR_I16, ES));
    return ir_op2(l->b, IR_ne, IR_I16, es, lift_const(l, IR_I16, 0));
}

void lift_x87(struct lifter *l, int variant)
{
    (void)variant;
    if (!x87_open(l, X86_MODE_EM | X86_MODE_TS))
        return;
    ir_ref ea = has_memory(l) ? lift_ea(l, memory_at(l)) : IR_NONE;
    if (traps(l)) /* before the operand is looked at (SDM 3A table 6-2: #MF, #AC) */
        ir_emit(l->b, IR_divert_if, IR_VOID, 0, X86_HELPER_x87_pending, pending(l), what(l), ea, IR_NONE);
    if (has_memory(l))
        on_memory(l);
    else
        on_registers(l);
    data_pointer(l, ea);
}

/* --- Control */

/* The control word that begins the operand; one that unmasks an exception changes the mode, and the block ends there. */
static ir_ref masking_control(struct lifter *l)
{
    ir_ref v = lift_load(l, IR_I16, lift_translate(l, memory_at(l), 2, IR_READ), 0);
    ir_ref masks = ir_op2(l->b, IR_and, IR_I16, v, lift_const(l, IR_I16, MASKS));
    ir_ref unmasks = ir_op2(l->b, IR_ne, IR_I16, masks, lift_const(l, IR_I16, MASKS));
    ir_emit(l->b, IR_divert_if, IR_VOID, 0, X86_HELPER_x87_control, unmasks, what(l), linear(l), IR_NONE);
    return v;
}

static void load_control(struct lifter *l)
{
    ir_ref v = masking_control(l);
    v = ir_op2(l->b, IR_and, IR_I16, v, lift_const(l, IR_I16, X86_FCW_VALID));
    lift_slot_put(l, IR_I16, SLOT(fcw), ir_op2(l->b, IR_or, IR_I16, v, lift_const(l, IR_I16, X86_FCW_ONES)));
    emit(l, IR_x87_control, IR_VOID, 0, 0, IR_NONE);
}

/* The helper, and the end of the block where it may have changed the mode.  seen: a control word that does not, or IR_NONE. */
static void control_area(struct lifter *l, bool ends, ir_ref seen)
{
    lift_call(l, IR_VOID, X86_HELPER_x87_control, what(l), linear(l), seen, IR_NONE);
    if (ends)
        lift_end_go_on(l, lift_next_pc(l));
}

static void load_area(struct lifter *l)
{
    enum { SEEN = 1 << 16 };
    ir_ref seen = traps(l) ? lift_const(l, IR_I64, 0) : ir_op2(l->b, IR_or, IR_I64, ir_op1(l->b, IR_zext, IR_I64, masking_control(l)), lift_const(l, IR_I64, SEEN));
    control_area(l, traps(l), seen);
}

void lift_x87_control(struct lifter *l, int waits)
{
    if (!x87_open(l, X86_MODE_EM | X86_MODE_TS))
        return;
    if (waits && traps(l))
        lift_call(l, IR_VOID, X86_HELPER_x87_check, IR_NONE, IR_NONE, IR_NONE, IR_NONE);
    switch (l->in.mnemonic) {
    case ZYDIS_MNEMONIC_FLDCW:
        if (traps(l))
            control_area(l, true, IR_NONE);
        else
            load_control(l);
        break;
    case ZYDIS_MNEMONIC_FNSTCW: lift_write(l, 0, lift_slot_get(l, IR_I16, SLOT(fcw))); break;
    case ZYDIS_MNEMONIC_FNSTSW:
        lift_prepare_write(l, 0);
        lift_write(l, 0, emit(l, IR_x87_status, IR_I16, 0, 0, IR_NONE));
        break;
    case ZYDIS_MNEMONIC_FNCLEX:
        if (traps(l)) /* FERR# may fall */
            control_area(l, true, IR_NONE);
        else
            emit(l, IR_x87_clear, IR_VOID, 0, 0, IR_NONE);
        break;
    case ZYDIS_MNEMONIC_FNINIT: case ZYDIS_MNEMONIC_FNSAVE: case ZYDIS_MNEMONIC_FNSTENV: control_area(l, traps(l), IR_NONE); break;
    case ZYDIS_MNEMONIC_FLDENV: case ZYDIS_MNEMONIC_FRSTOR: load_area(l); break;
    default: break; /* FENI, FDISI, FSETPM: nothing since the 387 */
    }
}

void lift_x87_wait(struct lifter *l, int variant)
{
    (void)variant;
    if (lift_fpu_mode(l, X86_MODE_MP) && lift_fpu_mode(l, X86_MODE_TS))
        x87_open(l, X86_MODE_TS);
    else if (traps(l))
        ir_emit(l->b, IR_divert_if, IR_VOID, 0, X86_HELPER_x87_check, pending(l), IR_NONE, IR_NONE, IR_NONE);
}
