/* Short runs of memory that are copied or filled, in line: what the guest's helper for them (ir_guest.moves) is called for most. */
#include "backend-llvm/internal.h"

enum { PAGE = 4096, FEW = 32 /* elements */ };

static LLVMValueRef either(struct fn *f, LLVMValueRef a, LLVMValueRef b) { return LLVMBuildOr(f->builder, a, b, ""); }

/* i1: a side that does not lie on one page with an entry. */
static LLVMValueRef misses(struct fn *f, LLVMValueRef at, LLVMValueRef bytes, bool write, LLVMValueRef *host)
{
    LLVMBuilderRef b = f->builder;
    LLVMValueRef entry, in_page = LLVMBuildAnd(b, at, constant(f, f->i64, PAGE - 1), ""), miss = table_miss(f, at, write, &entry);
    *host = LLVMBuildAdd(b, at, entry, "");
    return either(f, miss, LLVMBuildICmp(b, LLVMIntUGT, LLVMBuildAdd(b, in_page, bytes, ""), constant(f, f->i64, PAGE), ""));
}

static LLVMValueRef element(struct fn *f, LLVMValueRef host, LLVMValueRef offset)
{
    return LLVMBuildIntToPtr(f->builder, LLVMBuildAdd(f->builder, host, offset, ""), f->pointer, "");
}

static void guest_access(struct fn *f, LLVMValueRef access)
{
    LLVMSetVolatile(access, 1);
    LLVMSetAlignment(access, 1);
    mark_guest(f, access);
}

/* One after the other, in the guest's order; from NULL: `value` is stored. */
static void move_all(struct fn *f, LLVMValueRef to, LLVMValueRef from, LLVMValueRef value, unsigned size, LLVMValueRef bytes)
{
    LLVMBuilderRef b = f->builder;
    LLVMTypeRef type = LLVMIntTypeInContext(f->context, 8 * size);
    LLVMBasicBlockRef before = LLVMGetInsertBlock(b), loop = new_block(f), on = new_block(f);
    LLVMBuildBr(b, loop);
    LLVMPositionBuilderAtEnd(b, loop);
    LLVMValueRef offset = LLVMBuildPhi(b, f->i64, ""), v = from ? LLVMBuildLoad2(b, type, element(f, from, offset), "") : narrow(f, value, type);
    if (from)
        guest_access(f, v);
    guest_access(f, LLVMBuildStore(b, v, element(f, to, offset)));
    LLVMValueRef next = LLVMBuildAdd(b, offset, constant(f, f->i64, size), ""), in[2] = {constant(f, f->i64, 0), next};
    LLVMBasicBlockRef ways[2] = {before, loop};
    LLVMAddIncoming(offset, in, ways, 2);
    LLVMBuildCondBr(b, LLVMBuildICmp(b, LLVMIntEQ, next, bytes, ""), on, loop);
    LLVMPositionBuilderAtEnd(b, on);
}

static void advance(struct fn *f, uint32_t slot, LLVMValueRef was, LLVMValueRef by)
{
    put_slot(f, slot, IR_I64, LLVMBuildAdd(f->builder, was, by, ""));
}

bool moves_emit(struct fn *f, const struct ir_insn *i, ir_ref self)
{
    const struct ir_moves *m = &f->g->moves;
    const struct ir_insn *operand = i->arg[0] == IR_NONE ? NULL : &f->b->insns[i->arg[0]];
    if (!m->down || i->imm != m->helper || operand->op != IR_const || !(operand->imm & IR_MOVES_PLAIN) || f->b->pc_bits != 64)
        return false;
    LLVMBuilderRef b = f->builder;
    unsigned size = operand->imm & IR_MOVES_SIZE;
    bool fills = operand->imm & IR_MOVES_FILL;
    LLVMValueRef count = get_slot(f, m->count, IR_I64), to = get_slot(f, m->to, IR_I64), from = get_slot(f, m->from, IR_I64);
    LLVMValueRef bytes = LLVMBuildMul(b, count, constant(f, f->i64, size), ""), host_to, host_from = NULL;
    LLVMValueRef down = LLVMBuildAnd(b, get_slot(f, m->flags, IR_I32), constant(f, f->i32, m->down), "");
    LLVMValueRef rare = LLVMBuildICmp(b, LLVMIntNE, down, constant(f, f->i32, 0), "");
    rare = either(f, rare, LLVMBuildICmp(b, LLVMIntUGE, LLVMBuildSub(b, count, constant(f, f->i64, 1), ""), constant(f, f->i64, FEW), ""));
    rare = either(f, rare, misses(f, to, bytes, true, &host_to));
    if (!fills)
        rare = either(f, rare, misses(f, from, bytes, false, &host_from));
    LLVMBasicBlockRef few = new_block(f), call = new_block(f), on = new_block(f), ways[2];
    LLVMBuildCondBr(b, rare, call, few);
    LLVMPositionBuilderAtEnd(b, few);
    move_all(f, host_to, host_from, fills ? get_slot(f, m->value, IR_I64) : NULL, size, bytes);
    advance(f, m->to, to, bytes);
    if (!fills)
        advance(f, m->from, from, bytes);
    put_slot(f, m->count, IR_I64, constant(f, f->i64, 0));
    ways[0] = LLVMGetInsertBlock(b);
    LLVMBuildBr(b, on);
    LLVMPositionBuilderAtEnd(b, call);
    call_helper(f, i, self);
    ways[1] = LLVMGetInsertBlock(b);
    LLVMBuildBr(b, on);
    LLVMPositionBuilderAtEnd(b, on);
    LLVMValueRef results[2] = {constant(f, f->i64, 0), f->v[self].v};
    f->v[self].v = LLVMBuildPhi(b, f->i64, "");
    LLVMAddIncoming(f->v[self].v, results, ways, 2);
    return true;
}
