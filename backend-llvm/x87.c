/* x87.  As in template code (backend-tcg/x87.c) the guest's x87 may live in the host's while translated code runs, and the same
 * rule holds in both, so that each may go on where the other left: context.x87_in_host says where it is; every block begins
 * without knowing; the first x87 operation brings it to the host, where a function is one instruction; a slot that is part of
 * it, or a helper that looks at it, brings it back; so does the end of tcg_run.  LLVM itself never touches the x87, and no C code that a region calls
 * does.  The pointers to the last function are variables of the region, which reach the state where it is left. */
#include "backend-llvm/internal.h"
#include <stdio.h>

enum { MASKS = 0x3f, INACCESSIBLE_READ_WRITE = 3 << 2 };

static void only_inaccessible(struct fn *f, LLVMValueRef call)
{
    unsigned memory = LLVMGetEnumAttributeKindForName("memory", 6);
    LLVMAddCallSiteAttribute(call, LLVMAttributeFunctionIndex, LLVMCreateEnumAttribute(f->context, memory, INACCESSIBLE_READ_WRITE));
}

static LLVMValueRef statement(struct fn *f, const char *text, const char *constraints, LLVMTypeRef result, LLVMValueRef *args, unsigned n)
{
    LLVMValueRef call = assembler(f, text, constraints, result, args, n, true);
    only_inaccessible(f, call);
    return call;
}

/* --- Where it is */
static void place(struct fn *f, enum x87_place where)
{
    if (f->x87_place == where)
        return;
    f->x87_place = where;
    LLVMBasicBlockRef move = LLVMAppendBasicBlockInContext(f->context, f->function, ""), on = LLVMAppendBasicBlockInContext(f->context, f->function, "");
    LLVMIntPredicate elsewhere = where == X87_HOST ? LLVMIntEQ : LLVMIntNE;
    LLVMValueRef in_host = state_load(f, CONTEXT(x87_in_host), f->i64);
    unlikely(f, LLVMBuildCondBr(f->builder, LLVMBuildICmp(f->builder, elsewhere, in_host, constant(f, f->i64, 0), ""), move, on));
    LLVMPositionBuilderAtEnd(f->builder, move);
    LLVMTypeRef type = LLVMFunctionType(LLVMVoidTypeInContext(f->context), &f->pointer, 1, 0);
    LLVMBuildCall2(f->builder, type, state_load(f, CONTEXT(x87_moved), f->pointer), &f->state, 1, "");
    LLVMBuildBr(f->builder, on);
    LLVMPositionBuilderAtEnd(f->builder, on);
}

void x87_before(struct fn *f, const struct ir_insn *i)
{
    const struct ir_x87 *x = &f->g->x87;
    uint64_t at = (uint64_t)i->imm;
    if (i->op == IR_call && (f->g->helpers[at].reads | f->g->helpers[at].writes) & IR_S_FPU)
        place(f, X87_STATE);
    if (i->op != IR_get && i->op != IR_put)
        return;
    if (x->registers && (at == x->status || at == x->top || at == x->tags || at - x->registers < 8 * 16))
        place(f, X87_STATE);
}

struct variable *x87_variable(struct fn *f, int64_t offset)
{
    if (!f->x87_used)
        return NULL;
    return offset == f->g->x87.pc ? &f->x87_pc : offset == f->g->x87.opcode ? &f->x87_opcode : NULL;
}

void x87_pointers_store(struct fn *f)
{
    if (!f->x87_used)
        return;
    state_store(f, f->g->x87.pc, LLVMBuildLoad2(f->builder, f->i64, f->x87_pc.at, ""));
    state_store(f, f->g->x87.opcode, LLVMBuildLoad2(f->builder, f->i16, f->x87_opcode.at, ""));
}

void x87_pointers_reload(struct fn *f)
{
    if (!f->x87_used)
        return;
    LLVMBuildStore(f->builder, state_load(f, f->g->x87.pc, f->i64), f->x87_pc.at);
    LLVMBuildStore(f->builder, state_load(f, f->g->x87.opcode, f->i16), f->x87_opcode.at);
}

void x87_note(struct fn *f, const struct ir_insn *i)
{
    if (!(ir_op_info[i->op].props & X87))
        return;
    f->x87_used = true;
    f->x87_pc.read = f->x87_pc.written = f->x87_opcode.read = f->x87_opcode.written = true;
}

/* --- Functions */
static void pointers(struct fn *f, const struct ir_insn *i)
{
    LLVMBuildStore(f->builder, pc_value(f, f->insn_offset), f->x87_pc.at);
    LLVMBuildStore(f->builder, constant(f, f->i16, i->aux), f->x87_opcode.at);
}

/* The bytes of a function, its operand (if that is in memory) at RDX, between other instructions. */
static void write_text(char *text, size_t size, const char *before, const struct ir_insn *i, bool memory, const char *behind)
{
    unsigned modrm = memory ? (i->aux & 0x38u) | 2 : i->aux & 0xffu;
    snprintf(text, size, "%s.byte %u, %u%s", before, 0xd8u | i->aux >> 8, modrm, behind);
}

static void function(struct fn *f, const struct ir_insn *i)
{
    char text[64];
    write_text(text, sizeof text, "", i, false, "");
    statement(f, text, "~{flags}", LLVMVoidTypeInContext(f->context), NULL, 0);
    pointers(f, i);
}

static LLVMValueRef flags(struct fn *f, const struct ir_insn *i)
{
    char text[64];
    write_text(text, sizeof text, "", i, false, "\n\tseto %al\n\tlahf");
    LLVMValueRef r = statement(f, text, "={ax},~{flags}", f->i32, NULL, 0);
    pointers(f, i);
    return LLVMBuildAnd(f->builder, r, constant(f, f->i32, IR_FLAGS_ALL), "");
}

static void move_if(struct fn *f, const struct ir_insn *i)
{
    LLVMValueRef packed = operand(f, i->arg[0]);
    char text[64];
    write_text(text, sizeof text, "sahf\n\t", i, false, ""); /* none of these functions looks at OF */
    statement(f, text, "{ax},~{flags}", LLVMVoidTypeInContext(f->context), &packed, 1);
    pointers(f, i);
}

/* Guest memory: not the state, and in order with the other accesses. */
static void memory(struct fn *f, const struct ir_insn *i)
{
    LLVMValueRef at = LLVMBuildIntToPtr(f->builder, operand(f, i->arg[0]), f->pointer, "");
    char text[64];
    write_text(text, sizeof text, "", i, true, "");
    mark_guest(f, assembler(f, text, "{dx},~{flags},~{memory}", LLVMVoidTypeInContext(f->context), &at, 1, true));
    pointers(f, i);
}

static void control(struct fn *f)
{
    LLVMValueRef word = LLVMBuildOr(f->builder, state_load(f, f->g->x87.control, f->i16), constant(f, f->i16, MASKS), "");
    LLVMValueRef at = state_at(f, CONTEXT(x87_control));
    state_store(f, CONTEXT(x87_control), word);
    mark_own(f, assembler(f, "fldcw ($0)", "r,~{flags},~{memory}", LLVMVoidTypeInContext(f->context), &at, 1, true));
}

bool x87_emit(struct fn *f, const struct ir_insn *i, ir_ref self)
{
    if (!(ir_op_info[i->op].props & X87))
        return false;
    place(f, X87_HOST);
    switch ((unsigned)i->op) {
    case IR_x87: function(f, i); break;
    case IR_x87_flags: f->v[self].v = flags(f, i); break;
    case IR_x87_move_if: move_if(f, i); break;
    case IR_x87_load: case IR_x87_store: memory(f, i); break;
    case IR_x87_status: f->v[self].v = statement(f, "fnstsw %ax", "={ax},~{flags}", f->i16, NULL, 0); break;
    case IR_x87_control: control(f); break;
    case IR_x87_clear: statement(f, "fnclex", "~{flags}", LLVMVoidTypeInContext(f->context), NULL, 0); break;
    default: return false;
    }
    return true;
}
