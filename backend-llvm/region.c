/* A region as an LLVM function: its entry, its blocks one after the other, and the ways out.  The guest's registers are
 * variables of the function from the entry to each way out; the state's memory is right for them only where a helper
 * looks.  Whatever is rare leaves, with the state as it was at the guest instruction's start. */
#include "backend-llvm/internal.h"
#include <stdlib.h>
#include <string.h>

/* Registers of preserve_none in order: R12 R13 R14 R15 RDI RSI RDX RCX R8 R9 R11, XMM0..7.  So most of the guest's are where
 * template code has them, and entry.S moves few. */
const uint8_t arg_of_int[ARG_INTS] = {8, 9, 6, 7, 0, 1, 2, 3}, arg_of_vector[ARG_VECTORS] = {17, 18, 11, 12, 13, 14, 15, 16};

/* --- Values */
LLVMTypeRef type_of(struct fn *f, enum ir_type t)
{
    switch (t) {
    case IR_I1: return f->i1;
    case IR_I8: return f->i8;
    case IR_I16: return f->i16;
    case IR_I32: case IR_FLAGS: return f->i32;
    case IR_I64: return f->i64;
    case IR_I128: return f->i128;
    case IR_V128: return f->v128;
    default: return f->i64;
    }
}

LLVMValueRef zero_extend(struct fn *f, LLVMValueRef v, LLVMTypeRef t) { return LLVMTypeOf(v) == t ? v : LLVMBuildZExt(f->builder, v, t, ""); }
LLVMValueRef narrow(struct fn *f, LLVMValueRef v, LLVMTypeRef t) { return LLVMTypeOf(v) == t ? v : LLVMBuildTrunc(f->builder, v, t, ""); }

LLVMValueRef operand(struct fn *f, ir_ref n)
{
    struct value *v = &f->v[n];
    if (!v->v && v->flags)
        v->v = flags_packed(f, v->flags);
    return v->v;
}

struct flags *flags_operand(struct fn *f, ir_ref n)
{
    struct value *v = &f->v[n];
    return v->flags ? v->flags : (v->flags = flags_unpacked(f, v->v));
}

LLVMValueRef intrinsic(struct fn *f, const char *name, LLVMTypeRef *overload, unsigned overloads, LLVMValueRef *args, unsigned n)
{
    unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
    LLVMValueRef fn = LLVMGetIntrinsicDeclaration(f->module, id, overload, overloads);
    return LLVMBuildCall2(f->builder, LLVMIntrinsicGetType(f->context, id, overload, overloads), fn, args, n, "");
}

static LLVMAttributeRef attribute(struct fn *f, const char *name, uint64_t value)
{
    return LLVMCreateEnumAttribute(f->context, LLVMGetEnumAttributeKindForName(name, strlen(name)), value);
}

LLVMValueRef assembler(struct fn *f, const char *text, const char *constraints, LLVMTypeRef result, LLVMValueRef *args, unsigned n, bool effects)
{
    LLVMTypeRef params[4];
    for (unsigned k = 0; k < n; k++)
        params[k] = LLVMTypeOf(args[k]);
    LLVMTypeRef type = LLVMFunctionType(result, params, n, 0);
    LLVMValueRef fn = LLVMGetInlineAsm(type, text, strlen(text), constraints, strlen(constraints), effects, 0, LLVMInlineAsmDialectATT, 0);
    LLVMValueRef call = LLVMBuildCall2(f->builder, type, fn, args, n, "");
    LLVMAddCallSiteAttribute(call, LLVMAttributeFunctionIndex, attribute(f, "nounwind", 0));
    if (!effects)
        LLVMAddCallSiteAttribute(call, LLVMAttributeFunctionIndex, attribute(f, "memory", 0));
    return call;
}

/* --- The state */
static void mark(struct fn *f, LLVMValueRef access, LLVMValueRef in, LLVMValueRef out)
{
    LLVMSetMetadata(access, f->metadata_kind[0], in);
    LLVMSetMetadata(access, f->metadata_kind[1], out);
}
void mark_own(struct fn *f, LLVMValueRef access) { mark(f, access, f->scope_own, f->scope_guest); }
void mark_guest(struct fn *f, LLVMValueRef access) { mark(f, access, f->scope_guest, f->scope_own); }

LLVMValueRef offset_from(struct fn *f, LLVMValueRef pointer, int64_t offset)
{
    LLVMValueRef by = constant(f, f->i64, (uint64_t)offset);
    return LLVMBuildGEP2(f->builder, f->i8, pointer, &by, 1, "");
}
LLVMValueRef state_at(struct fn *f, int64_t offset) { return offset_from(f, f->state, offset); }

LLVMValueRef state_load(struct fn *f, int64_t offset, LLVMTypeRef t)
{
    LLVMValueRef load = LLVMBuildLoad2(f->builder, t, state_at(f, offset), "");
    LLVMSetAlignment(load, t == f->v128 ? 16 : 1);
    mark_own(f, load);
    return load;
}

void state_store(struct fn *f, int64_t offset, LLVMValueRef v)
{
    LLVMValueRef store = LLVMBuildStore(f->builder, v, state_at(f, offset));
    LLVMSetAlignment(store, LLVMTypeOf(v) == f->v128 ? 16 : 1);
    mark_own(f, store);
}

/* The variable that holds these bytes of the state, NULL: they are in memory alone.  *shift: from which bit of it. */
static struct variable *variable_of(struct fn *f, int64_t offset, enum ir_type t, unsigned *shift)
{
    uint64_t at = (uint64_t)offset - f->pins.ints, in = at % 8;
    if (at < 8 * INTS && in + ir_type_bytes(t) <= 8) {
        *shift = 8 * (unsigned)in;
        return &f->ints_var[at / 8];
    }
    at = (uint64_t)offset - f->pins.vectors, in = at % VECTOR_STRIDE;
    if (at < VECTOR_STRIDE * VECTORS && in + ir_type_bytes(t) <= 16) {
        *shift = 8 * (unsigned)in;
        return &f->vectors_var[at / VECTOR_STRIDE];
    }
    *shift = 0;
    return x87_variable(f, offset);
}

static LLVMValueRef as_int(struct fn *f, LLVMValueRef v) { return LLVMTypeOf(v) == f->v128 ? LLVMBuildBitCast(f->builder, v, f->i128, "") : v; }

LLVMValueRef get_slot(struct fn *f, int64_t offset, enum ir_type t)
{
    unsigned shift;
    struct variable *var = variable_of(f, offset, t, &shift);
    LLVMTypeRef type = type_of(f, t);
    if (!var)
        return state_load(f, offset, type);
    LLVMValueRef whole = LLVMBuildLoad2(f->builder, var->type, var->at, "");
    if (var->type == type)
        return whole;
    whole = as_int(f, whole);
    return narrow(f, LLVMBuildLShr(f->builder, whole, constant(f, LLVMTypeOf(whole), shift), ""), type);
}

void put_slot(struct fn *f, int64_t offset, enum ir_type t, LLVMValueRef v)
{
    unsigned shift;
    struct variable *var = variable_of(f, offset, t, &shift);
    if (!var) {
        state_store(f, offset, v);
        return;
    }
    if (var->type != LLVMTypeOf(v)) {
        LLVMValueRef whole = as_int(f, LLVMBuildLoad2(f->builder, var->type, var->at, ""));
        LLVMTypeRef in = LLVMTypeOf(whole);
        LLVMValueRef hole = LLVMBuildShl(f->builder, zero_extend(f, LLVMConstAllOnes(LLVMTypeOf(v)), in), constant(f, in, shift), "");
        whole = LLVMBuildAnd(f->builder, whole, LLVMBuildNot(f->builder, hole, ""), "");
        v = LLVMBuildOr(f->builder, whole, LLVMBuildShl(f->builder, zero_extend(f, v, in), constant(f, in, shift), ""), "");
        v = in == var->type ? v : LLVMBuildBitCast(f->builder, v, var->type, "");
    }
    LLVMBuildStore(f->builder, v, var->at);
}

uint64_t cut_pc(const struct ir_block *b, int64_t relative) { return ir_cut((uint64_t)relative, b->pc_bits); }

LLVMValueRef region_pc(struct fn *f, const struct ir_block *b, int64_t relative)
{
    LLVMValueRef pc = relative ? LLVMBuildAdd(f->builder, f->base, constant(f, f->i64, (uint64_t)relative), "") : f->base;
    return b->pc_bits == 64 ? pc : LLVMBuildAnd(f->builder, pc, constant(f, f->i64, ir_cut(~0ull, b->pc_bits)), "");
}
LLVMValueRef pc_value(struct fn *f, int64_t offset) { return region_pc(f, f->b, f->block->pc + offset); }

/* --- Ways out */
LLVMBasicBlockRef new_block(struct fn *f) { return LLVMAppendBasicBlockInContext(f->context, f->function, ""); }

LLVMValueRef unlikely(struct fn *f, LLVMValueRef branch)
{
    LLVMMetadataRef w[3] = {LLVMMDStringInContext2(f->context, "branch_weights", 14),
                            LLVMValueAsMetadata(constant(f, f->i32, 1)), LLVMValueAsMetadata(constant(f, f->i32, 4000))};
    LLVMSetMetadata(branch, LLVMGetMDKindIDInContext(f->context, "prof", 4), LLVMMetadataAsValue(f->context, LLVMMDNodeInContext2(f->context, w, 3)));
    return branch;
}

static void add_to(struct fn *f, LLVMValueRef at, LLVMValueRef by)
{
    LLVMValueRef n = LLVMBuildLoad2(f->builder, f->i64, at, "");
    mark_own(f, n);
    mark_own(f, LLVMBuildStore(f->builder, LLVMBuildAdd(f->builder, n, by, ""), at));
}
static void count(struct fn *f, LLVMValueRef at) { add_to(f, at, constant(f, f->i64, 1)); }

/* The instructions that are left, at the entry; and, taken off, at a way out: together, those that ran. */
static void count_left(struct fn *f, bool entry)
{
    LLVMValueRef left = LLVMBuildLoad2(f->builder, f->i64, f->icount.at, "");
    add_to(f, offset_from(f, f->data, (int64_t)offsetof(struct llvm_data, insns)), entry ? left : LLVMBuildNeg(f->builder, left, ""));
}

/* The ends, shared by all ways out, so that each costs little to compile: what differs comes in variables. */
static void write_back(struct fn *f)
{
    for (unsigned n = ARG_INTS; n < INTS; n++)
        if (f->ints_var[n].written)
            state_store(f, f->pins.ints + 8 * n, LLVMBuildLoad2(f->builder, f->i64, f->ints_var[n].at, ""));
    for (unsigned n = ARG_VECTORS; n < VECTORS; n++)
        if (f->vectors_var[n].written)
            state_store(f, f->pins.vectors + VECTOR_STRIDE * n, LLVMBuildLoad2(f->builder, f->v128, f->vectors_var[n].at, ""));
    if (f->r->icount) {
        state_store(f, f->g->icount_offset, LLVMBuildLoad2(f->builder, f->i64, f->icount.at, ""));
        count_left(f, false);
    }
    x87_pointers_store(f);
    LLVMValueRef cause = LLVMBuildLoad2(f->builder, f->i64, f->exit_cause, "");
    count(f, LLVMBuildGEP2(f->builder, f->i64, f->data, &cause, 1, ""));
}

static void tail_call(struct fn *f, LLVMValueRef to, LLVMValueRef data)
{
    LLVMValueRef args[ARGS];
    args[ARG_PC] = LLVMBuildLoad2(f->builder, f->i64, f->exit_pc, "");
    args[ARG_DATA] = data;
    args[ARG_STATE] = f->state;
    for (unsigned n = 0; n < ARG_INTS; n++)
        args[arg_of_int[n]] = LLVMBuildLoad2(f->builder, f->i64, f->ints_var[n].at, "");
    for (unsigned n = 0; n < ARG_VECTORS; n++)
        args[arg_of_vector[n]] = LLVMBuildLoad2(f->builder, f->v128, f->vectors_var[n].at, "");
    LLVMValueRef call = LLVMBuildCall2(f->builder, f->exit_type, to, args, ARGS, "");
    LLVMSetInstructionCallConv(call, CC_PRESERVE_NONE);
    LLVMSetTailCallKind(call, LLVMTailCallKindMustTail);
    LLVMBuildRetVoid(f->builder);
}

static LLVMValueRef own_pointer(struct fn *f, LLVMValueRef at, int64_t offset)
{
    LLVMValueRef load = LLVMBuildLoad2(f->builder, f->pointer, offset_from(f, at, offset), "");
    mark_own(f, load);
    return load;
}

/* Where the link leads.  Cycles over several regions have links in them: these look for a request too. */
static void link_follow(struct fn *f)
{
    LLVMValueRef links = own_pointer(f, f->data, (int64_t)offsetof(struct llvm_data, links)), by = LLVMBuildLoad2(f->builder, f->i64, f->exit_link, "");
    LLVMValueRef link = LLVMBuildGEP2(f->builder, f->i8, links, &by, 1, "");
    LLVMValueRef code = own_pointer(f, link, (int64_t)offsetof(struct tcg_link, code)), data = own_pointer(f, link, (int64_t)offsetof(struct tcg_link, data));
    code = LLVMBuildSelect(f->builder, stop_asked(f), state_load(f, CONTEXT(stub_region_go), f->pointer), code, "");
    tail_call(f, code, data);
}

static void make_ends(struct fn *f)
{
    if (f->di_scope)
        LLVMSetCurrentDebugLocation2(f->builder, NULL);
    LLVMPositionBuilderAtEnd(f->builder, f->go_end);
    if (f->flags_written)
        state_store(f, f->pins.flags, LLVMBuildLoad2(f->builder, f->i32, f->exit_flags, ""));
    write_back(f);
    link_follow(f);
    LLVMPositionBuilderAtEnd(f->builder, f->leave_end);
    if (f->flags_written)
        state_store(f, f->pins.flags, flags_untold(f));
    write_back(f);
    state_store(f, CONTEXT(region_left), f->data);
    tail_call(f, state_load(f, CONTEXT(stub_region_leave), f->pointer), LLVMBuildIntToPtr(f->builder, LLVMBuildLoad2(f->builder, f->i64, f->exit_reason, ""), f->pointer, ""));
}

static void leave_by(struct fn *f, LLVMValueRef pc, enum llvm_cause cause, unsigned done, LLVMBasicBlockRef end)
{
    LLVMBuildStore(f->builder, pc, f->exit_pc);
    LLVMBuildStore(f->builder, constant(f, f->i64, 1 + cause), f->exit_cause);
    if (f->r->icount && f->b->guest_insns != done) {
        LLVMValueRef left = LLVMBuildLoad2(f->builder, f->i64, f->icount.at, "");
        LLVMBuildStore(f->builder, LLVMBuildAdd(f->builder, left, constant(f, f->i64, f->b->guest_insns - done), ""), f->icount.at);
    }
    LLVMBuildBr(f->builder, end);
}

static void go_by(struct fn *f, LLVMValueRef pc, enum llvm_cause cause, unsigned link)
{
    if (f->flags_written)
        LLVMBuildStore(f->builder, flags_now(f), f->exit_flags);
    LLVMBuildStore(f->builder, constant(f, f->i64, link * sizeof(struct tcg_link)), f->exit_link);
    leave_by(f, pc, cause, f->insns, f->go_end);
}

void go(struct fn *f, LLVMValueRef pc) { go_by(f, pc, LLVM_EXIT_COMPUTED, 0); }

/* One number for all ways to that PC. */
static unsigned exit_number(struct fn *f, int64_t pc)
{
    for (unsigned n = 0; n < f->exit_count; n++)
        if (f->exits[n].pc == pc)
            return n;
    if (f->exit_count == f->exit_room) {
        struct object_exit *more = realloc(f->exits, (f->exit_room += 32) * sizeof *more);
        if (!more) {
            f->refused = "out of memory";
            f->exit_room = f->exit_count;
            return 0;
        }
        f->exits = more;
    }
    f->exits[f->exit_count] = (struct object_exit){pc, LLVM_EXIT};
    return f->exit_count++;
}

void go_known(struct fn *f, int64_t offset)
{
    go_by(f, pc_value(f, offset), LLVM_EXIT, 1 + exit_number(f, ir_signed(cut_pc(f->b, f->block->pc + offset), f->b->pc_bits)));
}

void leave(struct fn *f, enum ir_leave reason, LLVMValueRef pc, enum llvm_cause cause, unsigned done)
{
    LLVMBuildStore(f->builder, constant(f, f->i64, reason), f->exit_reason);
    leave_by(f, pc, cause, done, f->leave_end);
}

LLVMBasicBlockRef leave_block(struct fn *f, enum llvm_cause cause)
{
    LLVMBasicBlockRef *at = &f->leave[cause - LLVM_SIDE_ACCESS], here = LLVMGetInsertBlock(f->builder);
    if (*at)
        return *at;
    *at = new_block(f);
    f->side_exits++;
    LLVMPositionBuilderAtEnd(f->builder, *at);
    leave(f, IR_LEAVE_INTERPRET, pc_value(f, f->insn_offset), cause, f->insns - 1);
    LLVMPositionBuilderAtEnd(f->builder, here);
    return *at;
}

void side_exit_if(struct fn *f, LLVMValueRef i1, enum llvm_cause cause)
{
    if (LLVMIsAConstantInt(i1) && !LLVMConstIntGetZExtValue(i1))
        return;
    LLVMBasicBlockRef out = leave_block(f, cause), on = new_block(f);
    unlikely(f, LLVMBuildCondBr(f->builder, i1, out, on));
    LLVMPositionBuilderAtEnd(f->builder, on);
}

/* --- Instructions */
static void get(struct fn *f, const struct ir_insn *i, ir_ref self)
{
    if (i->imm == f->g->mxcsr_offset)
        mxcsr_sync(f);
    if ((uint64_t)i->imm == f->pins.flags)
        f->v[self].flags = flags_current(f); /* packed where somebody wants it so */
    else
        f->v[self].v = get_slot(f, i->imm, (enum ir_type)i->type);
}

static void put(struct fn *f, const struct ir_insn *i)
{
    if ((uint64_t)i->imm == f->pins.flags)
        flags_store(f, f->b->insns[i->arg[0]].op == IR_flags_pack ? flags_operand(f, i->arg[0]) : flags_unpacked(f, operand(f, i->arg[0])));
    else
        put_slot(f, i->imm, ir_type_of(f, i->arg[0]), operand(f, i->arg[0]));
    if (i->imm == f->g->mxcsr_offset)
        mxcsr_load(f);
}

static uint32_t next_random(struct fn *f)
{
    f->random ^= f->random << 13;
    f->random ^= f->random >> 17;
    return f->random ^= f->random << 5;
}

static void begin_insn(struct fn *f, const struct ir_insn *i)
{
    f->insn_offset = (uint32_t)i->imm;
    f->insns++;
    memset(f->leave, 0, sizeof f->leave);
    if (f->di_scope)
        LLVMSetCurrentDebugLocation2(f->builder, LLVMDIBuilderCreateDebugLocation(f->context, (unsigned)(f->block->pc + f->insn_offset + OBJECT_LINE_BASE), 0, f->di_scope, NULL));
}

/* Only where the operation could leave the region too: elsewhere state that nothing sees may be missing. */
static void force_exit(struct fn *f, const struct ir_insn *i)
{
    bool may_leave = i->op == IR_translate || i->op == IR_raise_if || i->op == IR_divert_if;
    if (!f->o->stress || !may_leave || next_random(f) % 4)
        return;
    LLVMValueRef entries = LLVMBuildLoad2(f->builder, f->i64, f->data, ""); /* at some of its runs */
    mark_own(f, entries);
    entries = LLVMBuildAnd(f->builder, entries, constant(f, f->i64, 3), "");
    side_exit_if(f, LLVMBuildICmp(f->builder, LLVMIntEQ, entries, constant(f, f->i64, next_random(f) & 3), ""), LLVM_SIDE_FORCED);
}

void emit_one(struct fn *f, const struct ir_insn *i, ir_ref self)
{
    x87_before(f, i);
    force_exit(f, i);
    switch ((enum ir_op)i->op) {
    case IR_insn: begin_insn(f, i); break;
    case IR_pc: f->v[self].v = narrow(f, pc_value(f, i->imm), type_of(f, (enum ir_type)i->type)); break;
    case IR_get: get(f, i, self); break;
    case IR_put: put(f, i); break;
    case IR_flags_of: flags_of(f, i, self); break;
    case IR_flags_set: flags_set(f, i, self); break;
    case IR_flags_pack: case IR_flags_unpack: f->v[self].flags = flags_operand(f, i->arg[0]); break;
    case IR_test_cc: f->v[self].v = flags_condition(f, flags_operand(f, i->arg[0]), i->aux); break;
    case IR_call:
        if (!moves_emit(f, i, self))
            call_helper(f, i, self);
        break;
    case IR_raise_if: case IR_divert_if: side_exit_if(f, operand(f, i->arg[0]), LLVM_SIDE_GUARD); break;
    case IR_exit_if: exit_if(f, i); break;
    case IR_jump: jump(f, i->imm); break;
    case IR_jump_to: jump_to(f, i, NULL); break;
    case IR_leave:
        leave(f, (enum ir_leave)i->aux, i->arg[0] == IR_NONE ? pc_value(f, i->imm) : operand(f, i->arg[0]), LLVM_EXIT_LEAVE, f->insns);
        break;
    default:
        if (!int_emit(f, i, self) && !memory_emit(f, i, self) && !vector_emit(f, i, self) && !x87_emit(f, i, self))
            f->refused = ir_op_info[i->op].name;
        break;
    }
}

static void count_instructions(struct fn *f)
{
    if (!f->r->icount)
        return;
    LLVMValueRef left = LLVMBuildLoad2(f->builder, f->i64, f->icount.at, "");
    LLVMValueRef then = LLVMBuildSub(f->builder, left, constant(f, f->i64, f->b->guest_insns), "");
    LLVMBasicBlockRef out = new_block(f), on = new_block(f);
    unlikely(f, LLVMBuildCondBr(f->builder, LLVMBuildICmp(f->builder, LLVMIntSLT, then, constant(f, f->i64, 0), ""), out, on));
    LLVMPositionBuilderAtEnd(f->builder, out);
    leave(f, IR_LEAVE_EXIT, pc_value(f, 0), LLVM_SIDE_ICOUNT, f->b->guest_insns);
    LLVMPositionBuilderAtEnd(f->builder, on);
    LLVMBuildStore(f->builder, then, f->icount.at);
}

/* Where the builder is, with these flags in the variables. */
static void emit_body(struct fn *f, struct flags_in flags)
{
    f->insns = 0;
    f->insn_offset = 0;
    f->memory_called = f->jumped_early = false;
    f->x87_place = X87_UNKNOWN;
    memory_begin(f);
    f->flags_out[f->index] = flags;
    memset(f->v, 0, f->b->count * sizeof *f->v);
    f->flags_used = 0;
    count_instructions(f);
    for (f->here = 0; f->here < f->b->count && !f->refused; f->here++) {
        jump_early(f, f->here);
        emit_one(f, &f->b->insns[f->here], f->here);
    }
}

static void emit_block(struct fn *f, unsigned index)
{
    if (f->flags_in[index].c == FLAGS_UNKNOWN) { /* no way leads there */
        LLVMPositionBuilderAtEnd(f->builder, f->heads[index]);
        LLVMBuildUnreachable(f->builder);
        return;
    }
    f->index = index;
    f->block = &f->r->blocks[index == f->r->block_count ? 0 : index];
    f->b = f->block->ir;
    if (loop_find(f, index))
        f->loop.begin = new_block(f);
    LLVMPositionBuilderAtEnd(f->builder, f->heads[index]);
    emit_body(f, f->flags_in[index]);
    if (!f->loop.count || f->refused)
        return;
    loop_begin_rounds(f, f->heads[index]);
    emit_body(f, f->loop.flags);
}

/* --- Entry */
static void note_uses(struct fn *f)
{
    for (unsigned n = 0; n < ARG_INTS; n++)
        f->ints_var[n].read = true;
    for (unsigned n = 0; n < ARG_VECTORS; n++)
        f->vectors_var[n].read = true;
    for (unsigned k = 0; k < f->r->block_count; k++) {
        const struct ir_block *b = f->r->blocks[k].ir;
        for (ir_ref n = 0; n < b->count; n++) {
            const struct ir_insn *i = &b->insns[n];
            unsigned shift;
            bool written = i->op == IR_put;
            x87_note(f, i);
            if (i->op == IR_get || written) {
                struct variable *var = variable_of(f, i->imm, written ? ir_result_type(b, i->arg[0]) : (enum ir_type)i->type, &shift);
                if (var)
                    var->read = true, var->written |= written;
                f->flags_written |= written && (uint64_t)i->imm == f->pins.flags;
            } else if (i->op == IR_call && f->g->helpers[i->imm].writes & IR_S_GPR) {
                for (unsigned r = 0; r < INTS; r++)
                    f->ints_var[r].read = f->ints_var[r].written = true;
            }
            f->flags_written |= i->op == IR_call && f->g->helpers[i->imm].writes & IR_S_FLAGS;
        }
    }
}

static void make_variable(struct fn *f, struct variable *var, LLVMTypeRef t, LLVMValueRef argument, int64_t offset)
{
    if (!var->read)
        return;
    var->type = t;
    var->at = LLVMBuildAlloca(f->builder, t, "");
    LLVMBuildStore(f->builder, argument ? argument : state_load(f, offset, t), var->at);
}

static void make_entry(struct fn *f)
{
    f->state = LLVMGetParam(f->function, ARG_STATE);
    f->data = LLVMGetParam(f->function, ARG_DATA);
    f->base = LLVMGetParam(f->function, ARG_PC);
    for (unsigned n = 0; n < INTS; n++)
        make_variable(f, &f->ints_var[n], f->i64, n < ARG_INTS ? LLVMGetParam(f->function, arg_of_int[n]) : NULL, f->pins.ints + 8 * n);
    for (unsigned n = 0; n < VECTORS; n++)
        make_variable(f, &f->vectors_var[n], f->v128, n < ARG_VECTORS ? LLVMGetParam(f->function, arg_of_vector[n]) : NULL, f->pins.vectors + VECTOR_STRIDE * n);
    f->icount.read = f->r->icount;
    make_variable(f, &f->icount, f->i64, NULL, f->g->icount_offset);
    make_variable(f, &f->x87_pc, f->i64, NULL, f->g->x87.pc);
    make_variable(f, &f->x87_opcode, f->i16, NULL, f->g->x87.opcode);
    f->write_table = state_load(f, CONTEXT(write_table), f->pointer);
    flags_begin(f);
    caches_begin(f);
    count(f, f->data);
    if (f->r->icount)
        count_left(f, true);
    LLVMValueRef *const exits[] = {&f->exit_pc, &f->exit_cause, &f->exit_reason, &f->exit_link};
    for (unsigned n = 0; n < sizeof exits / sizeof *exits; n++)
        *exits[n] = LLVMBuildAlloca(f->builder, f->i64, "");
    f->exit_flags = LLVMBuildAlloca(f->builder, f->i32, "");
    LLVMBuildBr(f->builder, f->heads[f->r->block_count]);
}

static void make_types(struct fn *f)
{
    f->i1 = LLVMInt1TypeInContext(f->context);
    f->i8 = LLVMInt8TypeInContext(f->context);
    f->i16 = LLVMInt16TypeInContext(f->context);
    f->i32 = LLVMInt32TypeInContext(f->context);
    f->i64 = LLVMInt64TypeInContext(f->context);
    f->i128 = LLVMInt128TypeInContext(f->context);
    f->v128 = LLVMVectorType(f->i64, 2);
    f->pointer = LLVMPointerTypeInContext(f->context, 0);
    f->gs_pointer = LLVMPointerTypeInContext(f->context, SEGMENT_GS);
    LLVMTypeRef params[ARGS];
    for (unsigned n = 0; n < ARGS; n++)
        params[n] = n >= ARG_FIRST_VECTOR ? f->v128 : n == ARG_STATE || n == ARG_DATA ? f->pointer : f->i64;
    f->exit_type = LLVMFunctionType(LLVMVoidTypeInContext(f->context), params, ARGS, 0);
}

/* Guest memory on one side, the state and the tables on the other: neither aliases the other. */
static LLVMValueRef scope(struct fn *f, const char *name, LLVMMetadataRef domain)
{
    LLVMMetadataRef parts[2] = {LLVMMDStringInContext2(f->context, name, strlen(name)), domain};
    LLVMMetadataRef one = LLVMMDNodeInContext2(f->context, parts, 2);
    return LLVMMetadataAsValue(f->context, LLVMMDNodeInContext2(f->context, &one, 1));
}

static void make_scopes(struct fn *f)
{
    LLVMMetadataRef name = LLVMMDStringInContext2(f->context, "tierce", 6), domain = LLVMMDNodeInContext2(f->context, &name, 1);
    f->metadata_kind[0] = LLVMGetMDKindIDInContext(f->context, "alias.scope", 11);
    f->metadata_kind[1] = LLVMGetMDKindIDInContext(f->context, "noalias", 7);
    f->metadata_kind[2] = LLVMGetMDKindIDInContext(f->context, "invariant.load", 14);
    f->scope_guest = scope(f, "guest memory", domain);
    f->scope_own = scope(f, "state and tables", domain);
}

const char *region_build(struct fn *f)
{
    unsigned blocks = f->r->block_count;
    f->g = f->r->guest;
    f->random = f->o->stress * 0x9e3779b1u | 1;
    f->heads = calloc(blocks + 1, sizeof *f->heads); /* the first block stands twice: entered from outside, and from inside */
    f->flags_in = calloc(blocks + 1, sizeof *f->flags_in);
    f->flags_out = calloc(blocks + 1, sizeof *f->flags_out);
    f->back = calloc((size_t)(blocks + 1) * blocks, sizeof *f->back);
    unsigned longest = 0;
    for (unsigned n = 0; n < blocks; n++)
        longest = f->r->blocks[n].ir->count > longest ? f->r->blocks[n].ir->count : longest;
    f->flags_room = 16 * longest + 64;
    f->v = malloc(longest * sizeof *f->v);
    f->flags_pool = malloc(f->flags_room * sizeof *f->flags_pool);
    if (!f->heads || !f->flags_in || !f->flags_out || !f->back || !f->v || !f->flags_pool)
        f->refused = "out of memory";
    make_types(f);
    make_scopes(f);
    tcg_pins_make(&f->pins, f->g);
    f->function = LLVMAddFunction(f->module, region_name(f->r), f->exit_type);
    LLVMSetFunctionCallConv(f->function, CC_PRESERVE_NONE);
    LLVMAddAttributeAtIndex(f->function, LLVMAttributeFunctionIndex, attribute(f, "nounwind", 0));
    if (!f->refused) {
        note_uses(f);
        flags_flow(f);
        back_edges_find(f);
        LLVMBasicBlockRef entry = new_block(f);
        for (unsigned n = 0; n <= blocks; n++)
            f->heads[n] = new_block(f);
        f->go_end = new_block(f);
        f->leave_end = new_block(f);
        LLVMPositionBuilderAtEnd(f->builder, entry);
        make_entry(f);
    }
    for (unsigned n = 0; n <= blocks && !f->refused; n++)
        emit_block(f, n);
    if (!f->refused)
        make_ends(f);
    free(f->heads);
    free(f->flags_in);
    free(f->flags_out);
    free(f->back);
    free(f->v);
    free(f->flags_pool);
    return f->refused;
}

/* --- What no region has */
const char *llvm_refuses(const struct ir_block *b)
{
    if (b->code_count || b->out_of_memory)
        return "code";
    for (ir_ref n = 0; n < b->count; n++) {
        const struct ir_insn *i = &b->insns[n];
        if (i->op == IR_code || vector_refuses(i) || !ir_host_runs((enum ir_op)i->op))
            return ir_op_info[i->op].name;
    }
    return NULL;
}
