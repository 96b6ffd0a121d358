/* Integer operations.  Each is what ir/eval.c says it is; division and what LLVM would call a library for are the host's
 * own instruction. */
#include "backend-llvm/internal.h"

static LLVMValueRef wide(struct fn *f, LLVMValueRef v, bool is_signed, LLVMTypeRef to)
{
    return is_signed ? LLVMBuildSExt(f->builder, v, to, "") : LLVMBuildZExt(f->builder, v, to, "");
}

/* --- Shifts and rotates: counts are masked to 31, or 63; narrow types shift out all that they have */
static LLVMValueRef masked_count(struct fn *f, LLVMValueRef count, unsigned bits, LLVMTypeRef to)
{
    LLVMValueRef n = LLVMBuildAnd(f->builder, zero_extend(f, count, f->i64), constant(f, f->i64, bits == 64 ? 63 : 31), "");
    return narrow(f, n, to);
}

static LLVMValueRef shift(struct fn *f, const struct ir_insn *i)
{
    unsigned bits = ir_type_bits((enum ir_type)i->type);
    LLVMTypeRef t = type_of(f, (enum ir_type)i->type), in = bits < 32 ? f->i32 : t;
    LLVMValueRef a = wide(f, operand(f, i->arg[0]), i->op == IR_sar, in), n = masked_count(f, operand(f, i->arg[1]), bits, in);
    LLVMOpcode op = i->op == IR_shl ? LLVMShl : i->op == IR_shr ? LLVMLShr : LLVMAShr;
    return narrow(f, LLVMBuildBinOp(f->builder, op, a, n, ""), t);
}

static LLVMValueRef rotate(struct fn *f, const struct ir_insn *i)
{
    unsigned bits = ir_type_bits((enum ir_type)i->type);
    LLVMTypeRef t = type_of(f, (enum ir_type)i->type);
    LLVMValueRef a = operand(f, i->arg[0]), args[3] = {a, a, masked_count(f, operand(f, i->arg[1]), bits, t)}; /* taken modulo the width */
    return intrinsic(f, i->op == IR_rol ? "llvm.fshl" : "llvm.fshr", &t, 1, args, 3);
}

/* carry:v, bits + 1 wide, rotated left by n. */
static LLVMValueRef rotate_carry(struct fn *f, const struct ir_insn *i)
{
    unsigned bits = ir_type_bits((enum ir_type)i->type);
    LLVMTypeRef t = f->i128;
    LLVMBuilderRef b = f->builder;
    LLVMValueRef carry = zero_extend(f, flags_carry(f, flags_operand(f, i->arg[2])), t), size = constant(f, t, bits + 1);
    LLVMValueRef n = LLVMBuildURem(b, masked_count(f, operand(f, i->arg[1]), bits, f->i32), constant(f, f->i32, bits + 1), "");
    n = zero_extend(f, n, t);
    if (i->op == IR_rcr) /* n = 0 becomes the full width, which is taken modulo below */
        n = LLVMBuildSelect(b, LLVMBuildICmp(b, LLVMIntEQ, n, constant(f, t, 0), ""), n, LLVMBuildSub(b, size, n, ""), "");
    LLVMValueRef x = LLVMBuildOr(b, LLVMBuildShl(b, carry, constant(f, t, bits), ""), zero_extend(f, operand(f, i->arg[0]), t), "");
    return LLVMBuildOr(b, LLVMBuildShl(b, x, n, ""), LLVMBuildLShr(b, x, LLVMBuildSub(b, size, n, ""), ""), "");
}

static LLVMValueRef double_shift(struct fn *f, const struct ir_insn *i)
{
    unsigned bits = ir_type_bits((enum ir_type)i->type);
    LLVMTypeRef t = type_of(f, (enum ir_type)i->type);
    LLVMValueRef a = operand(f, i->arg[0]), b = operand(f, i->arg[1]), n = masked_count(f, operand(f, i->arg[2]), bits, t);
    LLVMValueRef args[3] = {i->op == IR_shld ? a : b, i->op == IR_shld ? b : a, n};
    return intrinsic(f, i->op == IR_shld ? "llvm.fshl" : "llvm.fshr", &t, 1, args, 3); /* i16 above 15: undefined (ops.def) */
}

/* --- Multiplication and division */
static LLVMValueRef mul_high(struct fn *f, const struct ir_insn *i)
{
    unsigned bits = ir_type_bits((enum ir_type)i->type);
    LLVMTypeRef t = type_of(f, (enum ir_type)i->type), w = bits == 64 ? f->i128 : f->i64;
    LLVMValueRef a = wide(f, operand(f, i->arg[0]), i->op == IR_smulh, w), b = wide(f, operand(f, i->arg[1]), i->op == IR_smulh, w);
    return narrow(f, LLVMBuildLShr(f->builder, LLVMBuildMul(f->builder, a, b, ""), constant(f, w, bits), ""), t);
}

/* The host's DIV and IDIV: quotient and remainder.  It was asked before whether it is possible; LLVM does not move an assembler
 * statement to where it would run without being asked for. */
static LLVMValueRef divide(struct fn *f, const struct ir_insn *i)
{
    unsigned bits = ir_type_bits((enum ir_type)i->type);
    bool is_signed = i->op == IR_sdivq || i->op == IR_sdivr;
    LLVMTypeRef t = type_of(f, (enum ir_type)i->type), pair[2] = {t, t};
    LLVMValueRef args[3] = {operand(f, i->arg[2]), operand(f, i->arg[1]), operand(f, i->arg[0])};
    const char *text = bits == 64 ? is_signed ? "idivq $2" : "divq $2" : is_signed ? "idivl $2" : "divl $2";
    LLVMValueRef both = assembler(f, text, "={ax},={dx},r,0,1,~{flags}", LLVMStructTypeInContext(f->context, pair, 2, 0), args, 3, false);
    return LLVMBuildExtractValue(f->builder, both, i->op == IR_udivr || i->op == IR_sdivr, "");
}

static LLVMValueRef udiv_ok(struct fn *f, const struct ir_insn *i)
{
    return LLVMBuildICmp(f->builder, LLVMIntULT, operand(f, i->arg[0]), operand(f, i->arg[2]), ""); /* also no for c = 0 */
}

/* Says no too where the high half is more than the low half's sign: the interpreter, to which raise_if leaves, knows. */
static LLVMValueRef sdiv_ok(struct fn *f, const struct ir_insn *i)
{
    unsigned bits = ir_type_bits(ir_type_of(f, i->arg[0]));
    LLVMBuilderRef b = f->builder;
    LLVMTypeRef t = type_of(f, ir_type_of(f, i->arg[0]));
    LLVMValueRef high = operand(f, i->arg[0]), low = operand(f, i->arg[1]), c = operand(f, i->arg[2]);
    LLVMValueRef plain = LLVMBuildICmp(b, LLVMIntEQ, high, LLVMBuildAShr(b, low, constant(f, t, bits - 1), ""), "");
    LLVMValueRef some = LLVMBuildICmp(b, LLVMIntNE, c, constant(f, t, 0), "");
    LLVMValueRef fits = LLVMBuildOr(b, LLVMBuildICmp(b, LLVMIntNE, c, LLVMConstAllOnes(t), ""),
                                    LLVMBuildICmp(b, LLVMIntNE, low, constant(f, t, 1ull << (bits - 1)), ""), "");
    return LLVMBuildAnd(b, LLVMBuildAnd(b, plain, some, ""), fits, "");
}

/* --- Bits */
static LLVMValueRef count_zeros(struct fn *f, const char *name, const struct ir_insn *i)
{
    LLVMTypeRef t = type_of(f, (enum ir_type)i->type);
    LLVMValueRef args[2] = {operand(f, i->arg[0]), constant(f, f->i1, 0)};
    return intrinsic(f, name, &t, 1, args, 2);
}

static LLVMValueRef one_argument(struct fn *f, const char *name, const struct ir_insn *i)
{
    LLVMTypeRef t = type_of(f, (enum ir_type)i->type);
    LLVMValueRef a = operand(f, i->arg[0]);
    return intrinsic(f, name, &t, 1, &a, 1);
}

static LLVMValueRef two_arguments(struct fn *f, const char *name, const struct ir_insn *i)
{
    LLVMValueRef args[2] = {operand(f, i->arg[0]), operand(f, i->arg[1])};
    return intrinsic(f, name, NULL, 0, args, 2);
}

static LLVMValueRef crc(struct fn *f, const struct ir_insn *i)
{
    LLVMValueRef args[2] = {operand(f, i->arg[0]), operand(f, i->arg[1])};
    switch (i->aux) {
    case 1: args[1] = narrow(f, args[1], f->i8); return intrinsic(f, "llvm.x86.sse42.crc32.32.8", NULL, 0, args, 2);
    case 2: args[1] = narrow(f, args[1], f->i16); return intrinsic(f, "llvm.x86.sse42.crc32.32.16", NULL, 0, args, 2);
    case 4: args[1] = narrow(f, args[1], f->i32); return intrinsic(f, "llvm.x86.sse42.crc32.32.32", NULL, 0, args, 2);
    default: args[0] = zero_extend(f, args[0], f->i64); return narrow(f, intrinsic(f, "llvm.x86.sse42.crc32.64.64", NULL, 0, args, 2), f->i32);
    }
}

static LLVMValueRef extract(struct fn *f, const struct ir_insn *i)
{
    LLVMValueRef a = operand(f, i->arg[0]);
    return narrow(f, LLVMBuildLShr(f->builder, a, constant(f, LLVMTypeOf(a), i->aux), ""), type_of(f, (enum ir_type)i->type));
}

static LLVMValueRef deposit(struct fn *f, const struct ir_insn *i)
{
    unsigned bits = ir_type_bits(ir_type_of(f, i->arg[1]));
    LLVMTypeRef t = type_of(f, (enum ir_type)i->type);
    LLVMValueRef hole = constant(f, t, ~(ir_cut(~0ull, bits) << i->aux));
    LLVMValueRef put = LLVMBuildShl(f->builder, zero_extend(f, operand(f, i->arg[1]), t), constant(f, t, i->aux), "");
    return LLVMBuildOr(f->builder, LLVMBuildAnd(f->builder, operand(f, i->arg[0]), hole, ""), put, "");
}

static LLVMValueRef lea(struct fn *f, const struct ir_insn *i)
{
    LLVMTypeRef t = type_of(f, (enum ir_type)i->type);
    LLVMValueRef r = operand(f, i->arg[0]);
    if (i->arg[1] != IR_NONE)
        r = LLVMBuildAdd(f->builder, r, LLVMBuildShl(f->builder, operand(f, i->arg[1]), constant(f, t, i->aux), ""), "");
    return i->imm ? LLVMBuildAdd(f->builder, r, constant(f, t, (uint64_t)i->imm), "") : r;
}

static LLVMValueRef compare(struct fn *f, const struct ir_insn *i)
{
    static const LLVMIntPredicate predicate[IR_OP_COUNT] = {
        [IR_eq] = LLVMIntEQ, [IR_ne] = LLVMIntNE, [IR_ult] = LLVMIntULT, [IR_ule] = LLVMIntULE, [IR_slt] = LLVMIntSLT, [IR_sle] = LLVMIntSLE};
    return LLVMBuildICmp(f->builder, predicate[i->op], operand(f, i->arg[0]), operand(f, i->arg[1]), "");
}

static LLVMValueRef with_carry(struct fn *f, const struct ir_insn *i)
{
    LLVMTypeRef t = type_of(f, (enum ir_type)i->type);
    LLVMValueRef carry = zero_extend(f, flags_carry(f, flags_operand(f, i->arg[2])), t), a = operand(f, i->arg[0]), b = operand(f, i->arg[1]);
    if (i->op == IR_adc)
        return LLVMBuildAdd(f->builder, LLVMBuildAdd(f->builder, a, b, ""), carry, "");
    return LLVMBuildSub(f->builder, LLVMBuildSub(f->builder, a, b, ""), carry, "");
}

static void choose(struct fn *f, const struct ir_insn *i, ir_ref self)
{
    LLVMValueRef r = LLVMBuildSelect(f->builder, operand(f, i->arg[0]), operand(f, i->arg[1]), operand(f, i->arg[2]), "");
    if (i->type == IR_FLAGS)
        f->v[self].flags = flags_unpacked(f, r);
    else
        f->v[self].v = r;
}

bool int_emit(struct fn *f, const struct ir_insn *i, ir_ref self)
{
    static const LLVMOpcode plain[IR_OP_COUNT] = {
        [IR_add] = LLVMAdd, [IR_sub] = LLVMSub, [IR_and] = LLVMAnd, [IR_or] = LLVMOr, [IR_xor] = LLVMXor, [IR_mul] = LLVMMul};
    LLVMBuilderRef b = f->builder;
    LLVMTypeRef t = type_of(f, (enum ir_type)i->type);
    LLVMValueRef *r = &f->v[self].v;
    switch ((enum ir_op)i->op) {
    case IR_const: *r = i->type == IR_V128 ? LLVMConstNull(t) : constant(f, t, (uint64_t)i->imm); break;
    case IR_add: case IR_sub: case IR_and: case IR_or: case IR_xor: case IR_mul:
        *r = LLVMBuildBinOp(b, plain[i->op], operand(f, i->arg[0]), operand(f, i->arg[1]), "");
        break;
    case IR_adc: case IR_sbb: *r = with_carry(f, i); break;
    case IR_neg: *r = LLVMBuildNeg(b, operand(f, i->arg[0]), ""); break;
    case IR_not: *r = LLVMBuildNot(b, operand(f, i->arg[0]), ""); break;
    case IR_umulh: case IR_smulh: *r = mul_high(f, i); break;
    case IR_udiv_ok: *r = udiv_ok(f, i); break;
    case IR_sdiv_ok: *r = sdiv_ok(f, i); break;
    case IR_udivq: case IR_udivr: case IR_sdivq: case IR_sdivr: *r = divide(f, i); break;
    case IR_shl: case IR_shr: case IR_sar: *r = shift(f, i); break;
    case IR_rol: case IR_ror: *r = rotate(f, i); break;
    case IR_rcl: case IR_rcr: { /* the carry that comes out is kept for flags_of */
        struct flags *out = flags_new(f);
        LLVMValueRef x = rotate_carry(f, i), bit = LLVMBuildLShr(b, x, constant(f, f->i128, ir_type_bits((enum ir_type)i->type)), "");
        *r = narrow(f, x, t);
        out->c = (struct flags_group){.kind = FLAGS_BIT, .res = zero_extend(f, narrow(f, bit, f->i1), f->i64)};
        f->v[self].flags = out;
        break;
    }
    case IR_shld: case IR_shrd: *r = double_shift(f, i); break;
    case IR_clz: *r = count_zeros(f, "llvm.ctlz", i); break;
    case IR_ctz: *r = count_zeros(f, "llvm.cttz", i); break;
    case IR_popcnt: *r = one_argument(f, "llvm.ctpop", i); break;
    case IR_bswap: *r = one_argument(f, "llvm.bswap", i); break;
    case IR_pdep: *r = two_arguments(f, i->type == IR_I64 ? "llvm.x86.bmi.pdep.64" : "llvm.x86.bmi.pdep.32", i); break;
    case IR_pext: *r = two_arguments(f, i->type == IR_I64 ? "llvm.x86.bmi.pext.64" : "llvm.x86.bmi.pext.32", i); break;
    case IR_crc32: *r = crc(f, i); break;
    case IR_lea: *r = lea(f, i); break;
    case IR_eq: case IR_ne: case IR_ult: case IR_ule: case IR_slt: case IR_sle: *r = compare(f, i); break;
    case IR_select: choose(f, i, self); break;
    case IR_zext: *r = zero_extend(f, operand(f, i->arg[0]), t); break;
    case IR_sext: *r = LLVMBuildSExt(b, operand(f, i->arg[0]), t, ""); break;
    case IR_trunc: *r = narrow(f, operand(f, i->arg[0]), t); break;
    case IR_extract: *r = extract(f, i); break;
    case IR_deposit: *r = deposit(f, i); break;
    default: return false;
    }
    return true;
}
