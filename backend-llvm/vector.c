/* Vector and floating-point operations.  Integer ones are plain LLVM where it has the operation, else the target's intrinsic:
 * both fold loads and constants.  Those that read MXCSR are the host's own instruction as an assembler statement: LLVM's own would
 * be commuted (the payload of NaNs), folded, moved and dropped (sticky flags).  In a region MXCSR's control bits do not change. */
#include "backend-llvm/internal.h"
#include <stdio.h>
#include <string.h>

enum { LANES = 8, VECTOR_OPS = IR_OP_COUNT - IR_FIRST_VECTOR };
#define ROW(op) [IR_##op - IR_FIRST_VECTOR]

/* --- Lanes */
static unsigned lane_bits(unsigned lane)
{
    static const uint8_t bits[LANES] = {[IR_L8] = 8, [IR_L16] = 16, [IR_L32] = 32, [IR_L64] = 64, [IR_LF32] = 32, [IR_LF64] = 64, [IR_LS32] = 32, [IR_LS64] = 64};
    return bits[lane & (LANES - 1)];
}

static unsigned lane_count(unsigned lane) { return 128 / lane_bits(lane); }

static LLVMTypeRef element_type(struct fn *f, unsigned lane)
{
    if (lane < IR_LF32)
        return LLVMIntTypeInContext(f->context, lane_bits(lane));
    return lane_bits(lane) == 32 ? LLVMFloatTypeInContext(f->context) : LLVMDoubleTypeInContext(f->context);
}

static LLVMTypeRef lanes_type(struct fn *f, unsigned lane) { return LLVMVectorType(element_type(f, lane), lane_count(lane)); }
static LLVMValueRef as(struct fn *f, LLVMValueRef v, LLVMTypeRef t) { return LLVMTypeOf(v) == t ? v : LLVMBuildBitCast(f->builder, v, t, ""); }
static LLVMValueRef lanes_of(struct fn *f, ir_ref a, unsigned lane) { return as(f, operand(f, a), lanes_type(f, lane)); }

/* Lanes of a (0..) and b (behind a's) in the order of index: `count` of them. */
static LLVMValueRef shuffle(struct fn *f, LLVMValueRef a, LLVMValueRef b, const unsigned *index, unsigned count)
{
    LLVMValueRef mask[16];
    for (unsigned k = 0; k < count; k++)
        mask[k] = constant(f, f->i32, index[k]);
    return LLVMBuildShuffleVector(f->builder, a, b, LLVMConstVector(mask, count), "");
}

/* An integer cut or extended with zeros. */
static LLVMValueRef resized(struct fn *f, LLVMValueRef v, LLVMTypeRef t) { return LLVMBuildIntCast2(f->builder, v, t, 0, ""); }
static LLVMValueRef index_of(struct fn *f, const struct ir_insn *i) { return constant(f, f->i32, (uint64_t)i->imm & (lane_count(i->aux) - 1)); }

/* --- Intrinsics of the target, by operation and lane; the instruction's immediate, if it has one, is the last argument */
static const char *const targets[VECTOR_OPS][LANES] = {
    ROW(vavg_u) = {[IR_L8] = "llvm.x86.sse2.pavg.b", [IR_L16] = "llvm.x86.sse2.pavg.w"},
    ROW(vmul_hi_s)[IR_L16] = "llvm.x86.sse2.pmulh.w",
    ROW(vmul_hi_u)[IR_L16] = "llvm.x86.sse2.pmulhu.w",
    ROW(vmul_hi_rs)[IR_L16] = "llvm.x86.ssse3.pmul.hr.sw.128",
    ROW(vmul_add)[IR_L16] = "llvm.x86.sse2.pmadd.wd",
    ROW(vmul_add_us)[IR_L8] = "llvm.x86.ssse3.pmadd.ub.sw.128",
    ROW(vsad)[IR_L8] = "llvm.x86.sse2.psad.bw",
    ROW(vsign) = {[IR_L8] = "llvm.x86.ssse3.psign.b.128", [IR_L16] = "llvm.x86.ssse3.psign.w.128", [IR_L32] = "llvm.x86.ssse3.psign.d.128"},
    ROW(vhadd) = {[IR_L16] = "llvm.x86.ssse3.phadd.w.128", [IR_L32] = "llvm.x86.ssse3.phadd.d.128"},
    ROW(vhsub) = {[IR_L16] = "llvm.x86.ssse3.phsub.w.128", [IR_L32] = "llvm.x86.ssse3.phsub.d.128"},
    ROW(vhadds)[IR_L16] = "llvm.x86.ssse3.phadd.sw.128",
    ROW(vhsubs)[IR_L16] = "llvm.x86.ssse3.phsub.sw.128",
    ROW(vshl) = {[IR_L16] = "llvm.x86.sse2.psll.w", [IR_L32] = "llvm.x86.sse2.psll.d", [IR_L64] = "llvm.x86.sse2.psll.q"},
    ROW(vshr) = {[IR_L16] = "llvm.x86.sse2.psrl.w", [IR_L32] = "llvm.x86.sse2.psrl.d", [IR_L64] = "llvm.x86.sse2.psrl.q"},
    ROW(vsar) = {[IR_L16] = "llvm.x86.sse2.psra.w", [IR_L32] = "llvm.x86.sse2.psra.d"},
    ROW(vpack_s) = {[IR_L16] = "llvm.x86.sse2.packsswb.128", [IR_L32] = "llvm.x86.sse2.packssdw.128"},
    ROW(vpack_u) = {[IR_L16] = "llvm.x86.sse2.packuswb.128", [IR_L32] = "llvm.x86.sse41.packusdw"},
    ROW(vshuffle_bytes)[IR_L8] = "llvm.x86.ssse3.pshuf.b.128",
    ROW(vblend_by) = {[IR_L8] = "llvm.x86.sse41.pblendvb", [IR_LF32] = "llvm.x86.sse41.blendvps", [IR_LF64] = "llvm.x86.sse41.blendvpd"},
    ROW(vinsert_f32)[IR_LF32] = "llvm.x86.sse41.insertps",
    ROW(vmin_pos)[IR_L16] = "llvm.x86.sse41.phminposuw",
    ROW(vmpsad)[IR_L8] = "llvm.x86.sse41.mpsadbw",
    ROW(vaesenc)[IR_L8] = "llvm.x86.aesni.aesenc",
    ROW(vaesenclast)[IR_L8] = "llvm.x86.aesni.aesenclast",
    ROW(vaesdec)[IR_L8] = "llvm.x86.aesni.aesdec",
    ROW(vaesdeclast)[IR_L8] = "llvm.x86.aesni.aesdeclast",
    ROW(vaesimc)[IR_L8] = "llvm.x86.aesni.aesimc",
    ROW(vaeskeygen)[IR_L8] = "llvm.x86.aesni.aeskeygenassist",
    ROW(vclmul)[IR_L64] = "llvm.x86.pclmulqdq",
    ROW(vsha1rnds4)[IR_L32] = "llvm.x86.sha1rnds4",
    ROW(vsha1nexte)[IR_L32] = "llvm.x86.sha1nexte",
    ROW(vsha1msg1)[IR_L32] = "llvm.x86.sha1msg1",
    ROW(vsha1msg2)[IR_L32] = "llvm.x86.sha1msg2",
    ROW(vsha256rnds2)[IR_L32] = "llvm.x86.sha256rnds2",
    ROW(vsha256msg1)[IR_L32] = "llvm.x86.sha256msg1",
    ROW(vsha256msg2)[IR_L32] = "llvm.x86.sha256msg2",
    ROW(vmask) = {[IR_L8] = "llvm.x86.sse2.pmovmskb.128", [IR_LF32] = "llvm.x86.sse.movmsk.ps", [IR_LF64] = "llvm.x86.sse2.movmsk.pd"},
};

static LLVMValueRef target(struct fn *f, const char *name, const struct ir_insn *i)
{
    unsigned id = LLVMLookupIntrinsicID(name, strlen(name)), n = 0;
    LLVMTypeRef params[4];
    LLVMValueRef args[4];
    LLVMGetParamTypes(LLVMIntrinsicGetType(f->context, id, NULL, 0), params);
    for (; n < 3 && i->arg[n] != IR_NONE; n++)
        args[n] = as(f, operand(f, i->arg[n]), params[n]);
    if (*ir_op_info[i->op].imm != '-')
        args[n++] = constant(f, f->i8, (uint64_t)i->imm & 0xff);
    return intrinsic(f, name, NULL, 0, args, n);
}

/* --- LLVM's own, lane by lane */
static const char *const lanewise[VECTOR_OPS] = {
    ROW(vadds_s) = "llvm.sadd.sat", ROW(vadds_u) = "llvm.uadd.sat", ROW(vsubs_s) = "llvm.ssub.sat", ROW(vsubs_u) = "llvm.usub.sat",
    ROW(vmin_s) = "llvm.smin", ROW(vmin_u) = "llvm.umin", ROW(vmax_s) = "llvm.smax", ROW(vmax_u) = "llvm.umax",
};

static LLVMValueRef by_lane(struct fn *f, const char *name, const struct ir_insn *i)
{
    LLVMTypeRef t = lanes_type(f, i->aux);
    LLVMValueRef args[2] = {lanes_of(f, i->arg[0], i->aux), lanes_of(f, i->arg[1], i->aux)};
    return intrinsic(f, name, &t, 1, args, 2);
}

static LLVMValueRef absolute(struct fn *f, const struct ir_insn *i)
{
    LLVMTypeRef t = lanes_type(f, i->aux);
    LLVMValueRef args[2] = {lanes_of(f, i->arg[0], i->aux), constant(f, f->i1, 0) /* of the least: itself */};
    return intrinsic(f, "llvm.abs", &t, 1, args, 2);
}

static LLVMValueRef binary(struct fn *f, LLVMOpcode op, const struct ir_insn *i)
{
    return LLVMBuildBinOp(f->builder, op, lanes_of(f, i->arg[0], i->aux), lanes_of(f, i->arg[1], i->aux), "");
}

static LLVMValueRef bitwise(struct fn *f, LLVMOpcode op, const struct ir_insn *i)
{
    LLVMValueRef a = operand(f, i->arg[0]);
    return LLVMBuildBinOp(f->builder, op, i->op == IR_vandn ? LLVMBuildNot(f->builder, a, "") : a, operand(f, i->arg[1]), "");
}

static LLVMValueRef compare(struct fn *f, LLVMIntPredicate p, const struct ir_insn *i)
{
    LLVMValueRef r = LLVMBuildICmp(f->builder, p, lanes_of(f, i->arg[0], i->aux), lanes_of(f, i->arg[1], i->aux), "");
    return LLVMBuildSExt(f->builder, r, lanes_type(f, i->aux), "");
}

/* The even lanes of 32 bits, extended to 64. */
static LLVMValueRef even(struct fn *f, ir_ref a, bool is_signed)
{
    LLVMValueRef v = operand(f, a), by[2] = {constant(f, f->i64, 32), constant(f, f->i64, 32)}, n = LLVMConstVector(by, 2);
    v = LLVMBuildShl(f->builder, v, n, "");
    return is_signed ? LLVMBuildAShr(f->builder, v, n, "") : LLVMBuildLShr(f->builder, v, n, "");
}

static LLVMValueRef multiply_even(struct fn *f, const struct ir_insn *i)
{
    bool is_signed = i->op == IR_vmul_even_s;
    return LLVMBuildMul(f->builder, even(f, i->arg[0], is_signed), even(f, i->arg[1], is_signed), "");
}

/* --- Moves of lanes */
static LLVMValueRef shift_bytes(struct fn *f, const struct ir_insn *i)
{
    unsigned index[16], by = i->imm > 15 || i->imm < 0 ? 16 : (unsigned)i->imm;
    LLVMValueRef a = lanes_of(f, i->arg[0], IR_L8);
    for (unsigned k = 0; k < 16; k++) /* 16..31: zero */
        index[k] = i->op == IR_vshr_bytes ? k + by : 16 + k - by;
    return i->op == IR_vshr_bytes ? shuffle(f, a, LLVMConstNull(LLVMTypeOf(a)), index, 16) : shuffle(f, LLVMConstNull(LLVMTypeOf(a)), a, index, 16);
}

static LLVMValueRef align(struct fn *f, const struct ir_insn *i)
{
    unsigned index[16], by = (unsigned)i->imm & 0xff;
    LLVMValueRef a = lanes_of(f, i->arg[0], IR_L8), b = lanes_of(f, i->arg[1], IR_L8), none = LLVMConstNull(LLVMTypeOf(a));
    bool low = by < 16;
    for (unsigned k = 0; k < 16; k++)
        index[k] = k + (low ? by : by < 32 ? by - 16 : 16);
    return low ? shuffle(f, b, a, index, 16) : shuffle(f, a, none, index, 16);
}

static LLVMValueRef unpack(struct fn *f, const struct ir_insn *i)
{
    unsigned index[16], count = lane_count(i->aux), from = i->op == IR_vunpack_hi ? count / 2 : 0;
    for (unsigned k = 0; k < count; k++)
        index[k] = from + k / 2 + (k & 1 ? count : 0);
    return shuffle(f, lanes_of(f, i->arg[0], i->aux), lanes_of(f, i->arg[1], i->aux), index, count);
}

/* Four lanes from `first` on are chosen by two bits each, the others stay. */
static LLVMValueRef choose_four(struct fn *f, const struct ir_insn *i, unsigned first)
{
    unsigned index[16], count = lane_count(i->aux);
    LLVMValueRef a = lanes_of(f, i->arg[0], i->aux);
    for (unsigned k = 0; k < count; k++)
        index[k] = k - first < 4 ? first + ((unsigned)i->imm >> 2 * (k - first) & 3) : k;
    return shuffle(f, a, a, index, count);
}

static LLVMValueRef choose_two(struct fn *f, const struct ir_insn *i)
{
    unsigned index[4], count = lane_count(i->aux), bits = count == 4 ? 2 : 1;
    for (unsigned k = 0; k < count; k++)
        index[k] = ((unsigned)i->imm >> bits * k & (count - 1)) + (k >= count / 2 ? count : 0);
    return shuffle(f, lanes_of(f, i->arg[0], i->aux), lanes_of(f, i->arg[1], i->aux), index, count);
}

static LLVMValueRef blend(struct fn *f, const struct ir_insn *i)
{
    unsigned index[16], count = lane_count(i->aux);
    for (unsigned k = 0; k < count; k++)
        index[k] = k + ((unsigned)i->imm >> k & 1 ? count : 0);
    return shuffle(f, lanes_of(f, i->arg[0], i->aux), lanes_of(f, i->arg[1], i->aux), index, count);
}

static LLVMValueRef extend(struct fn *f, const struct ir_insn *i)
{
    unsigned index[16], to = (unsigned)i->imm, count = lane_count(to);
    LLVMValueRef a = lanes_of(f, i->arg[0], i->aux);
    for (unsigned k = 0; k < count; k++)
        index[k] = k;
    a = shuffle(f, a, a, index, count);
    return i->op == IR_vextend_s ? LLVMBuildSExt(f->builder, a, lanes_type(f, to), "") : LLVMBuildZExt(f->builder, a, lanes_type(f, to), "");
}

/* --- Between lanes and integers */
static LLVMValueRef from_int(struct fn *f, const struct ir_insn *i)
{
    unsigned lane = i->aux == IR_L32 ? IR_L32 : IR_L64;
    LLVMValueRef v = resized(f, operand(f, i->arg[0]), element_type(f, lane));
    return LLVMBuildInsertElement(f->builder, LLVMConstNull(lanes_type(f, lane)), v, constant(f, f->i32, 0), "");
}

static LLVMValueRef insert(struct fn *f, const struct ir_insn *i)
{
    LLVMValueRef v = resized(f, operand(f, i->arg[1]), element_type(f, i->aux));
    return LLVMBuildInsertElement(f->builder, lanes_of(f, i->arg[0], i->aux), v, index_of(f, i), "");
}

static LLVMValueRef extract(struct fn *f, const struct ir_insn *i)
{
    return resized(f, LLVMBuildExtractElement(f->builder, lanes_of(f, i->arg[0], i->aux), index_of(f, i), ""), type_of(f, (enum ir_type)i->type));
}

static LLVMValueRef to_int(struct fn *f, const struct ir_insn *i)
{
    unsigned lane = i->type == IR_I64 ? IR_L64 : IR_L32;
    LLVMValueRef v = LLVMBuildExtractElement(f->builder, lanes_of(f, i->arg[0], lane), constant(f, f->i32, 0), "");
    return resized(f, v, type_of(f, (enum ir_type)i->type));
}

/* PTEST: Z of a & b, C of ~a & b; packed. */
static LLVMValueRef test(struct fn *f, const struct ir_insn *i)
{
    LLVMValueRef args[2] = {operand(f, i->arg[0]), operand(f, i->arg[1])};
    LLVMValueRef z = intrinsic(f, "llvm.x86.sse41.ptestz", NULL, 0, args, 2), c = intrinsic(f, "llvm.x86.sse41.ptestc", NULL, 0, args, 2);
    z = LLVMBuildShl(f->builder, z, constant(f, f->i32, (uint64_t)__builtin_ctz(IR_FLAG_Z)), "");
    c = LLVMBuildShl(f->builder, c, constant(f, f->i32, (uint64_t)__builtin_ctz(IR_FLAG_C)), "");
    return LLVMBuildOr(f->builder, z, c, "");
}

/* --- The host's own instruction (ir/host_sse.def) */
struct host { const char *mnemonic; uint8_t shape; };
static const struct host hosts[VECTOR_OPS][LANES] = {
#define HOST_SSE(op, lane, text, prefix, map, opcode, shape) ROW(op)[lane] = {text, IR_SHAPE_##shape},
#include "ir/host_sse.def"
};

/* Of all memory a statement that reads and writes MXCSR touches only what nobody else can see: so it is kept, in order with the
 * others, and does not keep LLVM from moving loads of the state and the tables past it. */
static LLVMValueRef statement(struct fn *f, const char *text, const char *constraints, LLVMTypeRef result, LLVMValueRef *args, unsigned n, bool fp)
{
    enum { INACCESSIBLE_READ_WRITE = 3 << 2 };
    LLVMValueRef call = assembler(f, text, constraints, result, args, n, fp);
    unsigned memory = LLVMGetEnumAttributeKindForName("memory", 6), returns = LLVMGetEnumAttributeKindForName("willreturn", 10);
    if (fp)
        LLVMAddCallSiteAttribute(call, LLVMAttributeFunctionIndex, LLVMCreateEnumAttribute(f->context, memory, INACCESSIBLE_READ_WRITE));
    LLVMAddCallSiteAttribute(call, LLVMAttributeFunctionIndex, LLVMCreateEnumAttribute(f->context, returns, 0));
    return call;
}

/* C, Z and P, as LAHF has them; the comparisons clear the others. */
static LLVMValueRef comparison(struct fn *f, const char *mnemonic, const char *v, LLVMValueRef args[2])
{
    char text[48];
    snprintf(text, sizeof text, "%s%s $2, $1\n\tlahf", v, mnemonic);
    LLVMValueRef r = statement(f, text, "={ax},v,v,~{flags}", f->i32, args, 2, true);
    return LLVMBuildAnd(f->builder, r, constant(f, f->i32, IR_FLAG_C | IR_FLAG_Z | IR_FLAG_P), "");
}

/* LLVM's assembler exchanges the sources of these where that saves a byte, and with them which NaN comes out. */
static bool is_exchanged(enum ir_op op) { return op == IR_vfadd || op == IR_vfmul; }

/* May it use XMM16..31, where the host has them?  (EVEX forms: SDM 2A 2.7) */
static bool is_evex(enum ir_op op)
{
    switch ((unsigned)op) {
    case IR_vfadd: case IR_vfmul: /* {vex3} */
    case IR_vfcmp: case IR_vfhadd: case IR_vfhsub: case IR_vfaddsub: case IR_vfround: case IR_vfround_s: case IR_vfdot:
    case IR_vfrcp: case IR_vfrcp_s: case IR_vfrsqrt: case IR_vfrsqrt_s: return false;
    default: return true;
    }
}

/* The operands' constraints by shape: destination, a, b; b is an integer for FROM, the destination one for TO. */
static const char *constraints_of(unsigned shape, bool vex, bool evex)
{
    switch (shape) {
    case IR_SHAPE_R1: case IR_SHAPE_R1I: return evex ? "=v,v" : "=x,x";
    case IR_SHAPE_TO: return "=r,v";
    case IR_SHAPE_FROM32: case IR_SHAPE_FROM64: return vex ? "=v,v,r" : "=x,0,r";
    default: return !vex ? "=x,0,x" : evex ? "=v,v,v" : "=x,x,x";
    }
}

static LLVMValueRef host_instruction(struct fn *f, const struct ir_insn *i)
{
    const struct host *h = &hosts[i->op - IR_FIRST_VECTOR][i->aux & (LANES - 1)];
    bool vex = __builtin_cpu_supports("avx"), fp = ir_op_info[i->op].props & FP, one = false, imm = false;
    LLVMValueRef args[2] = {operand(f, i->arg[0]), i->arg[1] == IR_NONE ? NULL : operand(f, i->arg[1])};
    char text[64], number[8] = "";
    switch (h->shape) {
    case IR_SHAPE_R2: break;
    case IR_SHAPE_R2I: imm = true; break;
    case IR_SHAPE_R1: case IR_SHAPE_TO: one = true; break;
    case IR_SHAPE_R1I: one = imm = true; break;
    case IR_SHAPE_FLAGS: return comparison(f, h->mnemonic, vex ? "v" : "", args);
    case IR_SHAPE_FROM32: args[1] = resized(f, args[1], f->i32); break;
    case IR_SHAPE_FROM64: args[1] = resized(f, args[1], f->i64); break;
    default: return NULL;
    }
    if (imm)
        snprintf(number, sizeof number, "$$%u, ", (unsigned)i->imm & 0xff);
    const char *v = !vex ? "" : is_exchanged((enum ir_op)i->op) ? "{vex3} v" : "v";
    snprintf(text, sizeof text, "%s%s %s%s", v, h->mnemonic, number, one ? "$1, $0" : vex ? "$2, $1, $0" : "$2, $0");
    return statement(f, text, constraints_of(h->shape, vex, is_evex((enum ir_op)i->op)), type_of(f, (enum ir_type)i->type), args, one ? 1 : 2, fp);
}

/* From i32 to f64 nothing is rounded and no flag is set. */
static LLVMValueRef exact_conversion(struct fn *f, const struct ir_insn *i)
{
    static const unsigned low[2] = {0, 1};
    LLVMTypeRef one = LLVMDoubleTypeInContext(f->context);
    if (i->op == IR_vcvt_i_f) {
        LLVMValueRef a = lanes_of(f, i->arg[0], IR_L32);
        return LLVMBuildSIToFP(f->builder, shuffle(f, a, a, low, 2), LLVMVectorType(one, 2), "");
    }
    LLVMValueRef x = LLVMBuildSIToFP(f->builder, resized(f, operand(f, i->arg[1]), f->i32), one, "");
    return LLVMBuildInsertElement(f->builder, lanes_of(f, i->arg[0], IR_LF64), x, constant(f, f->i32, 0), "");
}

static bool is_exact(const struct ir_insn *i)
{
    return (i->op == IR_vcvt_i_f && i->aux == IR_L64) || (i->op == IR_vcvt_from_i32 && i->aux == IR_LS64);
}

/* --- All of them */
static LLVMValueRef make(struct fn *f, const struct ir_insn *i)
{
    const char *name = lanewise[i->op - IR_FIRST_VECTOR];
    if (name)
        return by_lane(f, name, i);
    if ((name = targets[i->op - IR_FIRST_VECTOR][i->aux & (LANES - 1)]))
        return target(f, name, i);
    switch ((unsigned)i->op) {
    case IR_vand: case IR_vandn: return bitwise(f, LLVMAnd, i);
    case IR_vor: return bitwise(f, LLVMOr, i);
    case IR_vxor: return bitwise(f, LLVMXor, i);
    case IR_vadd: return binary(f, LLVMAdd, i);
    case IR_vsub: return binary(f, LLVMSub, i);
    case IR_vmul: return binary(f, LLVMMul, i);
    case IR_vmul_even_u: case IR_vmul_even_s: return multiply_even(f, i);
    case IR_vcmp_eq: return compare(f, LLVMIntEQ, i);
    case IR_vcmp_gt: return compare(f, LLVMIntSGT, i);
    case IR_vabs: return absolute(f, i);
    case IR_vshl_bytes: case IR_vshr_bytes: return shift_bytes(f, i);
    case IR_vunpack_lo: case IR_vunpack_hi: return unpack(f, i);
    case IR_vshuffle: case IR_vshuffle_lo: return choose_four(f, i, 0);
    case IR_vshuffle_hi: return choose_four(f, i, 4);
    case IR_vshuffle_two: return choose_two(f, i);
    case IR_valign: return align(f, i);
    case IR_vblend: return blend(f, i);
    case IR_vextend_s: case IR_vextend_u: return extend(f, i);
    case IR_vtest: return test(f, i);
    case IR_vfrom_int: return from_int(f, i);
    case IR_vto_int: return to_int(f, i);
    case IR_vextract: return extract(f, i);
    case IR_vinsert: return insert(f, i);
    default: return is_exact(i) ? exact_conversion(f, i) : host_instruction(f, i);
    }
}

/* What the host has no instruction for; the interpreter and the template backend have code of their own (ir/crypto.c). */
bool vector_refuses(const struct ir_insn *i)
{
    return i->op >= IR_FIRST_VECTOR && !ir_host_runs((enum ir_op)i->op);
}

bool vector_emit(struct fn *f, const struct ir_insn *i, ir_ref self)
{
    if (i->op < IR_FIRST_VECTOR)
        return false;
    LLVMValueRef r = vector_refuses(i) ? NULL : make(f, i);
    if (!r) {
        f->refused = ir_op_info[i->op].name;
        return true;
    }
    f->v[self].v = i->type == IR_V128 ? as(f, r, f->v128) : r;
    return true;
}
