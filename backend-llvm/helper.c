/* Calls of helpers: C functions that look at the state.  What of it they read or write is in its memory around the call, and in the
 * region's variables (and the host's MXCSR) elsewhere. */
#include "backend-llvm/internal.h"

/* --- MXCSR.  Its control bits are the same in the state and in the host's, where every exception is masked; the sticky flags of
 * what ran since are the host's alone. */
enum { MXCSR_STICKY = 0x3f, MXCSR_MASKS = 0x1f80 };

static void mxcsr_statement(struct fn *f, const char *text)
{
    LLVMValueRef at = state_at(f, CONTEXT(mxcsr));
    mark_own(f, assembler(f, text, "r,~{flags},~{memory}", LLVMVoidTypeInContext(f->context), &at, 1, true));
}

void mxcsr_sync(struct fn *f)
{
    mxcsr_statement(f, "stmxcsr ($0)");
    LLVMValueRef raised = LLVMBuildAnd(f->builder, state_load(f, CONTEXT(mxcsr), f->i32), constant(f, f->i32, MXCSR_STICKY), "");
    state_store(f, f->g->mxcsr_offset, LLVMBuildOr(f->builder, state_load(f, f->g->mxcsr_offset, f->i32), raised, ""));
}

void mxcsr_load(struct fn *f)
{
    LLVMValueRef v = LLVMBuildOr(f->builder, state_load(f, f->g->mxcsr_offset, f->i32), constant(f, f->i32, MXCSR_MASKS), "");
    state_store(f, CONTEXT(mxcsr), v);
    mxcsr_statement(f, "ldmxcsr ($0)");
}

/* --- Classes of state */
static void store_class(struct fn *f, unsigned classes)
{
    for (unsigned n = 0; n < INTS && classes & IR_S_GPR; n++)
        if (f->ints_var[n].at)
            state_store(f, f->pins.ints + 8 * n, LLVMBuildLoad2(f->builder, f->i64, f->ints_var[n].at, ""));
    if (classes & IR_S_FLAGS && f->flags_written)
        state_store(f, f->pins.flags, flags_now(f));
    if (classes & IR_S_FPU)
        x87_pointers_store(f);
    if (!(classes & IR_S_VECTOR))
        return;
    for (unsigned n = 0; n < VECTORS; n++)
        if (f->vectors_var[n].at)
            state_store(f, f->pins.vectors + VECTOR_STRIDE * n, LLVMBuildLoad2(f->builder, f->v128, f->vectors_var[n].at, ""));
    mxcsr_sync(f);
}

static void reload_class(struct fn *f, unsigned classes)
{
    for (unsigned n = 0; n < INTS && classes & IR_S_GPR; n++)
        if (f->ints_var[n].at)
            LLVMBuildStore(f->builder, state_load(f, f->pins.ints + 8 * n, f->i64), f->ints_var[n].at);
    if (classes & IR_S_FLAGS)
        flags_store(f, flags_unpacked(f, state_load(f, f->pins.flags, f->i32)));
    if (classes & IR_S_FPU)
        x87_pointers_reload(f);
    if (!(classes & IR_S_VECTOR))
        return;
    for (unsigned n = 0; n < VECTORS; n++)
        if (f->vectors_var[n].at)
            LLVMBuildStore(f->builder, state_load(f, f->pins.vectors + VECTOR_STRIDE * n, f->v128), f->vectors_var[n].at);
    mxcsr_load(f);
}

/* --- The call */
static LLVMValueRef helper_pointer(struct fn *f, unsigned number)
{
    LLVMValueRef guest = state_load(f, CONTEXT(guest), f->pointer);
    LLVMValueRef table = LLVMBuildLoad2(f->builder, f->pointer, offset_from(f, guest, (int64_t)offsetof(struct ir_guest, helpers)), "");
    mark_own(f, table);
    int64_t at = (int64_t)(number * sizeof(struct ir_helper) + offsetof(struct ir_helper, fn));
    LLVMValueRef fn = LLVMBuildLoad2(f->builder, f->pointer, offset_from(f, table, at), "");
    mark_own(f, fn);
    return fn;
}

void call_helper(struct fn *f, const struct ir_insn *i, ir_ref self)
{
    const struct ir_helper *h = &f->g->helpers[i->imm];
    LLVMTypeRef params[5] = {f->pointer, f->i64, f->i64, f->i64, f->i64}, type = LLVMFunctionType(f->i64, params, 5, 0);
    LLVMValueRef args[5] = {f->state};
    for (unsigned k = 0; k < 4; k++)
        args[k + 1] = i->arg[k] == IR_NONE ? constant(f, f->i64, 0) : zero_extend(f, operand(f, i->arg[k]), f->i64);
    store_class(f, h->reads | h->writes);
    state_store(f, f->g->pc_offset, pc_value(f, f->insn_offset));
    if (f->r->icount)
        state_store(f, f->g->icount_offset, LLVMBuildLoad2(f->builder, f->i64, f->icount.at, ""));
    f->v[self].v = LLVMBuildCall2(f->builder, type, helper_pointer(f, (unsigned)i->imm), args, 5, "");
    reload_class(f, h->writes);
    f->memory_called |= h->memory;
    if (!h->faults)
        return;
    LLVMValueRef faulted = LLVMBuildICmp(f->builder, LLVMIntNE, state_load(f, f->g->faulted_offset, f->i32), constant(f, f->i32, 0), "");
    LLVMBasicBlockRef out = new_block(f), on = new_block(f);
    unlikely(f, LLVMBuildCondBr(f->builder, faulted, out, on));
    LLVMPositionBuilderAtEnd(f->builder, out);
    leave(f, IR_LEAVE_FAULT, pc_value(f, f->insn_offset), LLVM_SIDE_GUARD, f->insns - 1);
    LLVMPositionBuilderAtEnd(f->builder, on);
}
