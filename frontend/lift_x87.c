/* x87: every instruction is a helper call that runs the host's own x87 (x87.c). */
#include "frontend/internal.h"

static bool x87_open(struct lifter *l, uint32_t not_available)
{
    if (!(l->mode & not_available))
        return true;
    lift_raise(l, X86_NM, false, 0);
    return false;
}

void lift_x87(struct lifter *l, int control)
{
    if (!x87_open(l, X86_MODE_EM | X86_MODE_TS))
        return;
    bool memory = lift_is_mem(l, 0) || lift_is_mem(l, 1);
    unsigned at = lift_is_mem(l, 0) ? 0 : 1;
    /* A memory form is told by its /digit alone. */
    unsigned modrm = memory ? (unsigned)l->in.raw.modrm.reg << 3 : 0xc0u | (unsigned)l->in.raw.modrm.reg << 3 | l->in.raw.modrm.rm;
    unsigned size = memory ? l->op[at].size / 8 : 0;
    int64_t what = (int64_t)((l->in.opcode & 7u) << 8 | modrm) | (int64_t)size << 16 | (int64_t)(l->operand_bits == 16) << 28;
    ir_ref w = lift_const(l, IR_I64, what), linear = IR_NONE, ea = IR_NONE;
    if (memory) {
        ea = lift_ea(l, at);
        linear = lift_operand_linear(l, at, size, l->op[at].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE ? IR_WRITE : IR_READ);
    }
    if (control == 1)
        lift_call(l, IR_VOID, X86_HELPER_x87_check, IR_NONE, IR_NONE, IR_NONE, IR_NONE);
    if (control)
        lift_call(l, IR_VOID, X86_HELPER_x87_control, w, linear, ea, IR_NONE);
    else if (memory)
        lift_call(l, IR_VOID, X86_HELPER_x87_mem, w, linear, ea, IR_NONE);
    else
        lift_call(l, IR_VOID, X86_HELPER_x87_reg, w, IR_NONE, IR_NONE, IR_NONE);
}

void lift_x87_wait(struct lifter *l, int variant)
{
    (void)variant;
    if ((l->mode & (X86_MODE_MP | X86_MODE_TS)) == (X86_MODE_MP | X86_MODE_TS))
        x87_open(l, X86_MODE_TS);
    else
        lift_call(l, IR_VOID, X86_HELPER_x87_check, IR_NONE, IR_NONE, IR_NONE, IR_NONE);
}
