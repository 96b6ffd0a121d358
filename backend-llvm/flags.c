/* Flags.  Two groups, C and the others, for INC and DEC leave C as it was.  What an operation leaves is kept as its result
 * and second operand, and becomes bits where somebody looks: mostly on a way out, which seldom runs.  Across the blocks of a
 * region these are variables; a walk over the blocks before they are built (flags_flow) says of which operation they are at a block's
 * top, so that a condition there is made as in the block that compared.  Where ways with several of them meet, a tag tells. */
#include "backend-llvm/internal.h"
#include <stdlib.h>

struct flags *flags_new(struct fn *f)
{
    if (f->flags_used == f->flags_room)
        abort(); /* two an instruction at most: region_build made room for so many */
    struct flags *n = &f->flags_pool[f->flags_used++];
    *n = (struct flags){0};
    return n;
}

static LLVMValueRef cut_to(struct fn *f, LLVMValueRef v, unsigned bits)
{
    return bits >= 64 ? v : narrow(f, v, LLVMIntTypeInContext(f->context, bits));
}

static LLVMValueRef bit_if(struct fn *f, LLVMValueRef i1, uint32_t flag)
{
    LLVMValueRef v = zero_extend(f, i1, f->i32);
    unsigned shift = (unsigned)__builtin_ctz(flag);
    return shift ? LLVMBuildShl(f->builder, v, constant(f, f->i32, shift), "") : v;
}

/* --- Where a group's operation is known */
static LLVMValueRef first(struct fn *f, const struct flags_group *g)
{
    if (g->a)
        return g->a;
    LLVMValueRef res = cut_to(f, g->res, g->bits), b = cut_to(f, g->b, g->bits);
    return g->kind == FLAGS_SUB ? LLVMBuildAdd(f->builder, res, b, "") : LLVMBuildSub(f->builder, res, b, "");
}

static LLVMValueRef result(struct fn *f, const struct flags_group *g) { return cut_to(f, g->res, g->bits); }
static LLVMValueRef second(struct fn *f, const struct flags_group *g) { return cut_to(f, g->b, g->bits); }

static LLVMValueRef is_negative(struct fn *f, LLVMValueRef v)
{
    return LLVMBuildICmp(f->builder, LLVMIntSLT, v, LLVMConstNull(LLVMTypeOf(v)), "");
}

static LLVMValueRef has_bit(struct fn *f, LLVMValueRef v, uint64_t mask)
{
    LLVMTypeRef t = LLVMTypeOf(v);
    return LLVMBuildICmp(f->builder, LLVMIntNE, LLVMBuildAnd(f->builder, v, constant(f, t, mask), ""), LLVMConstNull(t), "");
}

static LLVMValueRef carry_of(struct fn *f, const struct flags_group *c)
{
    switch (c->kind) {
    case FLAGS_BIT: return narrow(f, c->res, f->i1);
    case FLAGS_ADD: return LLVMBuildICmp(f->builder, LLVMIntULT, result(f, c), second(f, c), "");
    default: return LLVMBuildICmp(f->builder, LLVMIntULT, first(f, c), second(f, c), "");
    }
}

static LLVMValueRef zero_of(struct fn *f, const struct flags_group *g)
{
    LLVMValueRef r;
    switch (g->kind) {
    case FLAGS_PACKED: return has_bit(f, g->res, IR_FLAG_Z);
    case FLAGS_SUB:
        if (g->a)
            return LLVMBuildICmp(f->builder, LLVMIntEQ, g->a, second(f, g), "");
        /* fall through */
    default:
        r = result(f, g);
        r = LLVMBuildICmp(f->builder, LLVMIntEQ, r, LLVMConstNull(LLVMTypeOf(r)), "");
        if (g->kind == FLAGS_GIVEN)
            r = LLVMBuildAnd(f->builder, r, LLVMBuildNot(f->builder, has_bit(f, g->b, IR_FLAG_Z), ""), "");
        return r;
    }
}

static LLVMValueRef sign_of(struct fn *f, const struct flags_group *g)
{
    return g->kind == FLAGS_PACKED ? has_bit(f, g->res, IR_FLAG_S) : is_negative(f, result(f, g));
}

static LLVMValueRef parity_of(struct fn *f, const struct flags_group *g)
{
    if (g->kind == FLAGS_PACKED)
        return has_bit(f, g->res, IR_FLAG_P);
    LLVMValueRef low = narrow(f, g->res, f->i8), ones = intrinsic(f, "llvm.ctpop", &f->i8, 1, &low, 1);
    return LLVMBuildNot(f->builder, narrow(f, ones, f->i1), "");
}

static LLVMValueRef overflow_of(struct fn *f, const struct flags_group *g)
{
    LLVMBuilderRef b = f->builder;
    LLVMValueRef x, y, r;
    switch (g->kind) {
    case FLAGS_PACKED: return has_bit(f, g->res, IR_FLAG_O);
    case FLAGS_GIVEN: return has_bit(f, g->b, IR_FLAG_O);
    case FLAGS_LOGIC: return constant(f, f->i1, 0);
    default:
        x = first(f, g), y = second(f, g), r = result(f, g);
        return is_negative(f, LLVMBuildAnd(b, LLVMBuildXor(b, x, r, ""), LLVMBuildXor(b, g->kind == FLAGS_SUB ? x : r, y, ""), ""));
    }
}

static LLVMValueRef auxiliary_of(struct fn *f, const struct flags_group *g)
{
    LLVMBuilderRef b = f->builder;
    switch (g->kind) {
    case FLAGS_PACKED: return has_bit(f, g->res, IR_FLAG_A);
    case FLAGS_GIVEN: return has_bit(f, g->b, IR_FLAG_A);
    case FLAGS_LOGIC: return constant(f, f->i1, 0);
    default: return has_bit(f, LLVMBuildXor(b, LLVMBuildXor(b, first(f, g), second(f, g), ""), result(f, g), ""), 0x10);
    }
}

/* --- Where it is not: a function, which knows all of them */
static uint64_t made(uint64_t tag, uint64_t res, uint64_t b)
{
    unsigned kind = tag & 0xff, bits = tag >> 8 & 0xff;
    uint64_t x[3] = {kind == FLAGS_SUB ? res + b : res - b, b, 0};
    x[0] = ir_cut(x[0], bits);
    enum ir_type type = bits == 8 ? IR_I8 : bits == 16 ? IR_I16 : bits == 32 ? IR_I32 : IR_I64;
    switch (kind) {
    case FLAGS_BIT: return res & 1 ? IR_FLAG_C : 0;
    case FLAGS_PACKED: return res;
    case FLAGS_GIVEN: {
        uint32_t f = ir_eval_flags(IR_or, type, x, res, 0);
        return (b & IR_FLAG_Z ? f & ~(uint32_t)IR_FLAG_Z : f) | (b & (IR_FLAG_O | IR_FLAG_A));
    }
    default: return ir_eval_flags(kind == FLAGS_SUB ? IR_sub : kind == FLAGS_ADD ? IR_add : IR_or, type, x, res, 0);
    }
}

/* A helper for regions: tags of both groups, their results and second operands; packed flags. */
uint64_t llvm_flags(uint64_t tags, uint64_t c_res, uint64_t c_b, uint64_t res, uint64_t b)
{
    return (made(tags & 0xffff, c_res, c_b) & IR_FLAG_C) | (made(tags >> 16, res, b) & (IR_FLAGS_ALL & ~(uint64_t)IR_FLAG_C));
}

static LLVMValueRef tag_of(struct fn *f, const struct flags_group *g)
{
    return g->kind == FLAGS_DYNAMIC ? g->tag : constant(f, f->i64, FLAGS_TAG(g->kind, (unsigned)g->bits));
}

/* Both tags in one word, of which a way to where several meet sets one constant. */
static LLVMValueRef tags_of(struct fn *f, const struct flags *x)
{
    return LLVMBuildOr(f->builder, tag_of(f, &x->c), LLVMBuildShl(f->builder, tag_of(f, &x->rest), constant(f, f->i64, 16), ""), "");
}

static LLVMValueRef packed_by_call(struct fn *f, const struct flags *x)
{
    LLVMTypeRef params[5] = {f->i64, f->i64, f->i64, f->i64, f->i64}, type = LLVMFunctionType(f->i64, params, 5, 0);
    LLVMValueRef none = constant(f, f->i64, 0);
    LLVMValueRef args[5] = {tags_of(f, x), x->c.res, x->c.b ? x->c.b : none, x->rest.res, x->rest.b ? x->rest.b : none};
    LLVMValueRef fn = state_load(f, CONTEXT(region_flags), f->pointer);
    LLVMValueRef call = LLVMBuildCall2(f->builder, type, fn, args, 5, "");
    mark_own(f, call);
    return narrow(f, call, f->i32);
}

LLVMValueRef flags_packed(struct fn *f, const struct flags *x)
{
    LLVMBuilderRef b = f->builder;
    if (x->c.kind == FLAGS_DYNAMIC || x->rest.kind == FLAGS_DYNAMIC)
        return packed_by_call(f, x);
    LLVMValueRef p = bit_if(f, carry_of(f, &x->c), IR_FLAG_C);
    const struct flags_group *g = &x->rest;
    if (g->kind == FLAGS_PACKED)
        return LLVMBuildOr(b, p, LLVMBuildAnd(b, narrow(f, g->res, f->i32), constant(f, f->i32, IR_FLAGS_ALL & ~IR_FLAG_C), ""), "");
    p = LLVMBuildOr(b, p, bit_if(f, zero_of(f, g), IR_FLAG_Z), "");
    p = LLVMBuildOr(b, p, bit_if(f, sign_of(f, g), IR_FLAG_S), "");
    p = LLVMBuildOr(b, p, bit_if(f, parity_of(f, g), IR_FLAG_P), "");
    if (g->kind == FLAGS_GIVEN)
        return LLVMBuildOr(b, p, LLVMBuildAnd(b, narrow(f, g->b, f->i32), constant(f, f->i32, IR_FLAG_O | IR_FLAG_A), ""), "");
    p = LLVMBuildOr(b, p, bit_if(f, overflow_of(f, g), IR_FLAG_O), "");
    return LLVMBuildOr(b, p, bit_if(f, auxiliary_of(f, g), IR_FLAG_A), "");
}

/* The same, with both groups known. */
static struct flags known(struct fn *f, const struct flags *x)
{
    if (x->c.kind != FLAGS_DYNAMIC && x->rest.kind != FLAGS_DYNAMIC)
        return *x;
    return *flags_unpacked(f, packed_by_call(f, x));
}

LLVMValueRef flags_carry(struct fn *f, const struct flags *x)
{
    struct flags k = x->c.kind == FLAGS_DYNAMIC ? known(f, x) : *x;
    return carry_of(f, &k.c);
}

/* --- Conditions */
static bool is_comparison(const struct flags *x)
{
    return x->c.kind == FLAGS_SUB && x->rest.kind == FLAGS_SUB && x->c.bits == x->rest.bits && x->c.b == x->rest.b && x->c.res == x->rest.res;
}

static LLVMValueRef compared(struct fn *f, const struct flags *x, LLVMIntPredicate p)
{
    return LLVMBuildICmp(f->builder, p, first(f, &x->rest), second(f, &x->rest), "");
}

LLVMValueRef flags_condition(struct fn *f, const struct flags *given, unsigned cond)
{
    LLVMBuilderRef b = f->builder;
    bool carry_alone = (cond & ~1u) == IR_CC_B, both = (cond & ~1u) == IR_CC_BE;
    bool unknown = (carry_alone || both ? given->c.kind == FLAGS_DYNAMIC : false) || (!carry_alone && given->rest.kind == FLAGS_DYNAMIC);
    struct flags k = unknown ? known(f, given) : *given, *x = &k;
    const struct flags_group *g = &x->rest;
    bool comparison = is_comparison(x), logic = g->kind == FLAGS_LOGIC;
    LLVMValueRef r;
    switch (cond & ~1u) {
    case IR_CC_O: r = overflow_of(f, g); break;
    case IR_CC_B: r = carry_of(f, &x->c); break;
    case IR_CC_Z: r = zero_of(f, g); break;
    case IR_CC_BE: r = comparison ? compared(f, x, LLVMIntULE) : LLVMBuildOr(b, carry_of(f, &x->c), zero_of(f, g), ""); break;
    case IR_CC_S: r = sign_of(f, g); break;
    case IR_CC_P: r = parity_of(f, g); break;
    case IR_CC_L:
        r = g->kind == FLAGS_SUB ? compared(f, x, LLVMIntSLT) : logic ? sign_of(f, g) : LLVMBuildXor(b, sign_of(f, g), overflow_of(f, g), "");
        break;
    default:
        r = g->kind == FLAGS_SUB ? compared(f, x, LLVMIntSLE)
                                 : LLVMBuildOr(b, zero_of(f, g), logic ? sign_of(f, g) : LLVMBuildXor(b, sign_of(f, g), overflow_of(f, g), ""), "");
    }
    return cond & 1 ? LLVMBuildNot(b, r, "") : r;
}

/* --- What operations leave */
struct flags *flags_unpacked(struct fn *f, LLVMValueRef packed)
{
    struct flags *x = flags_new(f);
    LLVMValueRef carry = LLVMBuildAnd(f->builder, LLVMBuildLShr(f->builder, packed, constant(f, f->i32, 8), ""), constant(f, f->i32, 1), "");
    x->c = (struct flags_group){.kind = FLAGS_BIT, .res = zero_extend(f, carry, f->i64)};
    x->rest = (struct flags_group){.kind = FLAGS_PACKED, .bits = 32, .res = zero_extend(f, packed, f->i64)};
    return x;
}

static struct flags_group bit_group(struct fn *f, LLVMValueRef i1)
{
    return (struct flags_group){.kind = FLAGS_BIT, .res = zero_extend(f, i1, f->i64)};
}

static uint32_t shift_auxiliary(void)
{
    const uint64_t x[3] = {1, 1, 0};
    return ir_eval_flags(IR_shl, IR_I32, x, 2, 0) & IR_FLAG_A;
}

static unsigned count_mask(unsigned bits) { return bits == 64 ? 63 : 31; }

static LLVMValueRef bit_at(struct fn *f, LLVMValueRef v, LLVMValueRef n) /* i1: bit n of v, n below its width */
{
    return narrow(f, LLVMBuildLShr(f->builder, v, n, ""), f->i1);
}

/* The last bit that a shift moved out, for counts from 1 on. */
static LLVMValueRef shifted_out(struct fn *f, const struct ir_insn *i, unsigned bits, LLVMValueRef n)
{
    LLVMBuilderRef b = f->builder;
    LLVMTypeRef w = f->i64;
    LLVMValueRef a = operand(f, i->arg[0]), one = constant(f, w, 1);
    n = zero_extend(f, n, w);
    LLVMValueRef before = LLVMBuildAnd(b, LLVMBuildSub(b, n, one, ""), constant(f, w, 63), "");
    switch ((enum ir_op)i->op) {
    case IR_shl: /* bit (bits - n): of a shifted left by n, in 64 bits, bit `bits`; in two steps, as that may be 64 */
        a = LLVMBuildShl(b, zero_extend(f, a, w), before, "");
        return bit_at(f, a, constant(f, w, bits - 1));
    case IR_shr: return bit_at(f, zero_extend(f, a, w), before);
    case IR_sar: return bit_at(f, bits == 64 ? a : LLVMBuildSExt(b, a, w, ""), before);
    case IR_shld:
        if (bits == 16) { /* a:b:a, and counts to 31 */
            a = LLVMBuildOr(b, LLVMBuildShl(b, zero_extend(f, a, w), constant(f, w, 16), ""), zero_extend(f, operand(f, i->arg[1]), w), "");
            a = LLVMBuildShl(b, a, before, "");
            return bit_at(f, a, constant(f, w, 31));
        }
        a = LLVMBuildShl(b, zero_extend(f, a, w), before, "");
        return bit_at(f, a, constant(f, w, bits - 1));
    default: /* shrd */
        if (bits == 16)
            a = LLVMBuildOr(b, zero_extend(f, a, w), LLVMBuildShl(b, zero_extend(f, operand(f, i->arg[1]), w), constant(f, w, 16), ""), "");
        return bit_at(f, zero_extend(f, a, w), before);
    }
}

static LLVMValueRef top(struct fn *f, LLVMValueRef v) { return is_negative(f, v); }
static LLVMValueRef below_top(struct fn *f, LLVMValueRef v)
{
    return is_negative(f, LLVMBuildShl(f->builder, v, constant(f, LLVMTypeOf(v), 1), ""));
}

/* n: the masked count, in the operand's type or i64. */
static struct flags shift_flags(struct fn *f, const struct ir_insn *i, unsigned bits, LLVMValueRef r, LLVMValueRef n)
{
    LLVMBuilderRef b = f->builder;
    LLVMValueRef carry = shifted_out(f, i, bits, n), overflow;
    switch ((enum ir_op)i->op) {
    case IR_shl: case IR_shld: overflow = LLVMBuildXor(b, carry, top(f, r), ""); break;
    case IR_shr: overflow = LLVMBuildAnd(b, LLVMBuildICmp(b, LLVMIntEQ, n, constant(f, LLVMTypeOf(n), 1), ""), top(f, operand(f, i->arg[0])), ""); break;
    case IR_shrd: overflow = LLVMBuildXor(b, top(f, r), below_top(f, r), ""); break;
    default: overflow = constant(f, f->i1, 0);
    }
    LLVMValueRef given = LLVMBuildOr(b, bit_if(f, overflow, IR_FLAG_O), constant(f, f->i32, shift_auxiliary()), "");
    return (struct flags){bit_group(f, carry), {.kind = FLAGS_GIVEN, .bits = (uint8_t)bits, .res = zero_extend(f, r, f->i64), .b = zero_extend(f, given, f->i64)}};
}

static struct flags rotate_flags(struct fn *f, const struct ir_insn *i, ir_ref from, LLVMValueRef r, const struct flags *old)
{
    LLVMBuilderRef b = f->builder;
    LLVMValueRef carry, overflow;
    switch ((enum ir_op)i->op) {
    case IR_rol: carry = narrow(f, r, f->i1), overflow = LLVMBuildXor(b, top(f, r), carry, ""); break;
    case IR_ror: carry = top(f, r), overflow = LLVMBuildXor(b, carry, below_top(f, r), ""); break;
    case IR_rcl: carry = carry_of(f, &f->v[from].flags->c), overflow = LLVMBuildXor(b, top(f, r), carry, ""); break;
    default: carry = carry_of(f, &f->v[from].flags->c), overflow = LLVMBuildXor(b, top(f, r), below_top(f, r), "");
    }
    LLVMValueRef rest = LLVMBuildAnd(b, flags_packed(f, old), constant(f, f->i32, IR_FLAGS_ALL & ~IR_FLAG_O), "");
    rest = LLVMBuildOr(b, rest, bit_if(f, overflow, IR_FLAG_O), "");
    return (struct flags){bit_group(f, carry), {.kind = FLAGS_PACKED, .bits = 32, .res = zero_extend(f, rest, f->i64)}};
}

/* Where the count is zero, all flags are the old ones. */
static struct flags unless_zero(struct fn *f, LLVMValueRef n, const struct flags *x, const struct flags *old)
{
    LLVMValueRef zero = LLVMBuildICmp(f->builder, LLVMIntEQ, n, LLVMConstNull(LLVMTypeOf(n)), "");
    return *flags_unpacked(f, LLVMBuildSelect(f->builder, zero, flags_packed(f, old), flags_packed(f, x), ""));
}

static struct flags counted_flags(struct fn *f, const struct ir_insn *i, ir_ref from, unsigned bits, LLVMValueRef r, const struct flags *old)
{
    ir_ref count = i->op == IR_shld || i->op == IR_shrd ? i->arg[2] : i->arg[1];
    LLVMValueRef n = LLVMBuildAnd(f->builder, zero_extend(f, operand(f, count), f->i64), constant(f, f->i64, count_mask(bits)), "");
    bool constant_count = LLVMIsAConstantInt(n), rotates = i->op == IR_rol || i->op == IR_ror || i->op == IR_rcl || i->op == IR_rcr;
    if (constant_count && !LLVMConstIntGetZExtValue(n))
        return *old;
    struct flags x = rotates ? rotate_flags(f, i, from, r, old) : shift_flags(f, i, bits, r, n);
    return constant_count ? x : unless_zero(f, n, &x, old);
}

static struct flags mul_flags(struct fn *f, const struct ir_insn *i, unsigned bits, LLVMValueRef r)
{
    LLVMTypeRef t = LLVMTypeOf(r);
    LLVMValueRef args[2] = {operand(f, i->arg[0]), operand(f, i->arg[1])}, both = intrinsic(f, "llvm.smul.with.overflow", &t, 1, args, 2);
    LLVMValueRef over = LLVMBuildExtractValue(f->builder, both, 1, "");
    LLVMValueRef given = LLVMBuildOr(f->builder, bit_if(f, over, IR_FLAG_O), constant(f, f->i32, IR_FLAG_Z), "");
    return (struct flags){bit_group(f, over), {.kind = FLAGS_GIVEN, .bits = (uint8_t)bits, .res = zero_extend(f, r, f->i64), .b = zero_extend(f, given, f->i64)}};
}

/* Addition and subtraction with carry, where r, a and b alone do not tell the carry: the adder's bit vectors. */
static struct flags carried_flags(struct fn *f, const struct ir_insn *i, unsigned bits, LLVMValueRef r)
{
    LLVMBuilderRef b = f->builder;
    LLVMValueRef x = operand(f, i->arg[0]), y = operand(f, i->arg[1]), out, over;
    if (i->op == IR_adc) {
        out = LLVMBuildOr(b, LLVMBuildAnd(b, x, y, ""), LLVMBuildAnd(b, LLVMBuildOr(b, x, y, ""), LLVMBuildNot(b, r, ""), ""), "");
        over = LLVMBuildAnd(b, LLVMBuildXor(b, x, r, ""), LLVMBuildXor(b, y, r, ""), "");
    } else {
        out = LLVMBuildOr(b, LLVMBuildAnd(b, LLVMBuildNot(b, x, ""), y, ""),
                          LLVMBuildAnd(b, LLVMBuildNot(b, LLVMBuildXor(b, x, y, ""), ""), r, ""), "");
        over = LLVMBuildAnd(b, LLVMBuildXor(b, x, y, ""), LLVMBuildXor(b, x, r, ""), "");
    }
    LLVMValueRef aux = has_bit(f, LLVMBuildXor(b, LLVMBuildXor(b, x, y, ""), r, ""), 0x10);
    LLVMValueRef given = LLVMBuildOr(b, bit_if(f, is_negative(f, over), IR_FLAG_O), bit_if(f, aux, IR_FLAG_A), "");
    return (struct flags){bit_group(f, is_negative(f, out)), {.kind = FLAGS_GIVEN, .bits = (uint8_t)bits, .res = zero_extend(f, r, f->i64), .b = zero_extend(f, given, f->i64)}};
}

static struct flags all_flags(struct fn *f, ir_ref from, const struct flags *old)
{
    const struct ir_insn *i = &f->b->insns[from];
    unsigned bits = ir_type_bits((enum ir_type)i->type);
    LLVMValueRef r = f->v[from].v, res = zero_extend(f, r, f->i64);
    struct flags_group g = {.bits = (uint8_t)bits, .res = res};
    switch ((enum ir_op)i->op) {
    case IR_add: case IR_sub:
        g.kind = i->op == IR_add ? FLAGS_ADD : FLAGS_SUB;
        g.a = operand(f, i->arg[0]);
        g.b = zero_extend(f, operand(f, i->arg[1]), f->i64);
        return (struct flags){g, g};
    case IR_neg:
        g.kind = FLAGS_SUB;
        g.a = LLVMConstNull(LLVMTypeOf(r));
        g.b = zero_extend(f, operand(f, i->arg[0]), f->i64);
        return (struct flags){g, g};
    case IR_and: case IR_or: case IR_xor:
        g.kind = FLAGS_LOGIC;
        return (struct flags){bit_group(f, constant(f, f->i1, 0)), g};
    case IR_adc: case IR_sbb: return carried_flags(f, i, bits, r);
    case IR_mul: return mul_flags(f, i, bits, r);
    default: return counted_flags(f, i, from, bits, r, old);
    }
}

static struct flags_group mixed(struct fn *f, const struct flags *x, const struct flags *old, unsigned mask)
{
    LLVMBuilderRef b = f->builder;
    uint32_t taken = ir_mask_to_packed(mask);
    LLVMValueRef kept = LLVMBuildAnd(b, flags_packed(f, old), constant(f, f->i32, ~taken), "");
    LLVMValueRef r = LLVMBuildOr(b, kept, LLVMBuildAnd(b, flags_packed(f, x), constant(f, f->i32, taken), ""), "");
    return (struct flags_group){.kind = FLAGS_PACKED, .bits = 32, .res = zero_extend(f, r, f->i64)};
}

#define REST_MASK (IR_M_ALL & ~IR_M_C)
void flags_of(struct fn *f, const struct ir_insn *i, ir_ref self)
{
    const struct flags *old = i->arg[1] == IR_NONE ? NULL : flags_operand(f, i->arg[1]);
    struct flags all = all_flags(f, i->arg[0], old), *x = flags_new(f);
    unsigned rest = i->aux & REST_MASK;
    const struct ir_insn *from = &f->b->insns[i->arg[0]];
    bool rotates = from->op == IR_rol || from->op == IR_ror || from->op == IR_rcl || from->op == IR_rcr; /* took the others over already */
    x->c = i->aux & IR_M_C || !old ? all.c : old->c;
    x->rest = rest == REST_MASK || !old || (rotates && rest == IR_M_O) ? all.rest : !rest ? old->rest : mixed(f, &all, old, rest);
    f->v[self].flags = x;
}

void flags_set(struct fn *f, const struct ir_insn *i, ir_ref self)
{
    const struct flags *old = flags_operand(f, i->arg[0]);
    LLVMValueRef bit = operand(f, i->arg[1]);
    struct flags *x = flags_new(f);
    *x = *old;
    if (i->aux & IR_M_C)
        x->c = bit_group(f, bit);
    if (i->aux & REST_MASK) {
        LLVMValueRef mask = constant(f, f->i32, ir_mask_to_packed(i->aux & REST_MASK)), packed = flags_packed(f, old);
        LLVMValueRef off = LLVMBuildAnd(f->builder, packed, LLVMBuildNot(f->builder, mask, ""), "");
        packed = LLVMBuildSelect(f->builder, bit, LLVMBuildOr(f->builder, off, mask, ""), off, "");
        x->rest = (struct flags_group){.kind = FLAGS_PACKED, .bits = 32, .res = zero_extend(f, packed, f->i64)};
    }
    f->v[self].flags = x;
}

/* --- Across blocks: variables for the tags, and for result and second operand of either group */
static struct flags_group current_group(struct fn *f, uint16_t tag, const struct variable *var)
{
    struct flags_group g = {.kind = (uint8_t)(tag & 0xff), .bits = (uint8_t)(tag >> 8)};
    LLVMValueRef tags = LLVMBuildLoad2(f->builder, f->i64, f->flags_tags.at, "");
    g.tag = var == f->flags_var[0] ? LLVMBuildAnd(f->builder, tags, constant(f, f->i64, 0xffff), "") : LLVMBuildLShr(f->builder, tags, constant(f, f->i64, 16), "");
    g.res = LLVMBuildLoad2(f->builder, f->i64, var[0].at, "");
    g.b = LLVMBuildLoad2(f->builder, f->i64, var[1].at, "");
    return g;
}

struct flags *flags_current(struct fn *f)
{
    struct flags *x = flags_new(f);
    const struct flags_in *in = &f->flags_out[f->index]; /* what the block has come to */
    x->c = current_group(f, in->c, f->flags_var[0]);
    x->rest = current_group(f, in->rest, f->flags_var[1]);
    return x;
}

static void store_group(struct fn *f, const struct flags_group *g, const struct variable *var)
{
    LLVMBuildStore(f->builder, g->res, var[0].at);
    LLVMBuildStore(f->builder, g->b ? g->b : LLVMGetUndef(f->i64), var[1].at);
}

static void store_groups(struct fn *f, const struct flags *x)
{
    LLVMBuildStore(f->builder, tags_of(f, x), f->flags_tags.at);
    store_group(f, &x->c, f->flags_var[0]);
    store_group(f, &x->rest, f->flags_var[1]);
}

static uint16_t tag_in_block(const struct flags_group *g) { return g->kind == FLAGS_DYNAMIC ? FLAGS_DYNAMIC : (uint16_t)FLAGS_TAG(g->kind, g->bits); }

void flags_store(struct fn *f, const struct flags *x)
{
    store_groups(f, x);
    f->flags_out[f->index] = (struct flags_in){tag_in_block(&x->c), tag_in_block(&x->rest)};
}

void flags_begin(struct fn *f)
{
    f->flags_tags = (struct variable){.at = LLVMBuildAlloca(f->builder, f->i64, ""), .type = f->i64};
    for (unsigned g = 0; g < 2; g++)
        for (unsigned k = 0; k < 2; k++)
            f->flags_var[g][k] = (struct variable){.at = LLVMBuildAlloca(f->builder, f->i64, ""), .type = f->i64};
    struct flags *x = flags_unpacked(f, state_load(f, f->pins.flags, f->i32));
    store_groups(f, x);
}

LLVMValueRef flags_now(struct fn *f) { return flags_packed(f, flags_current(f)); }

LLVMValueRef flags_untold(struct fn *f)
{
    struct flags x;
    x.c = current_group(f, FLAGS_DYNAMIC, f->flags_var[0]);
    x.rest = current_group(f, FLAGS_DYNAMIC, f->flags_var[1]);
    return packed_by_call(f, &x);
}

/* --- Which operation's they are at a block's top */
enum { UNKNOWN = FLAGS_UNKNOWN, THROUGH = 0xfffe };
static uint16_t meet(uint16_t a, uint16_t b) { return a == UNKNOWN ? b : b == UNKNOWN || a == b ? a : FLAGS_DYNAMIC; }

/* What `flags` value n of the block is as far as kinds go; THROUGH: that of the top. */
static struct flags_in kinds_of(const struct ir_block *b, ir_ref n)
{
    const struct ir_insn *i = &b->insns[n];
    const struct flags_in packed = {FLAGS_TAG(FLAGS_BIT, 0), FLAGS_TAG(FLAGS_PACKED, 32)}, through = {THROUGH, THROUGH};
    switch ((enum ir_op)i->op) {
    case IR_flags_unpack: return b->insns[i->arg[0]].op == IR_get ? through : packed;
    case IR_flags_set: {
        struct flags_in in = kinds_of(b, i->arg[0]);
        if (i->aux & IR_M_C)
            in.c = FLAGS_TAG(FLAGS_BIT, 0);
        if (i->aux & REST_MASK)
            in.rest = FLAGS_TAG(FLAGS_PACKED, 32);
        return in;
    }
    case IR_flags_of: break;
    default: return packed;
    }
    const struct ir_insn *from = &b->insns[i->arg[0]];
    unsigned bits = ir_type_bits((enum ir_type)from->type);
    struct flags_in old = i->arg[1] == IR_NONE ? packed : kinds_of(b, i->arg[1]), all = packed;
    ir_ref count = IR_NONE;
    switch ((enum ir_op)from->op) {
    case IR_add: all.c = all.rest = (uint16_t)FLAGS_TAG(FLAGS_ADD, bits); break;
    case IR_sub: case IR_neg: all.c = all.rest = (uint16_t)FLAGS_TAG(FLAGS_SUB, bits); break;
    case IR_and: case IR_or: case IR_xor: all.rest = (uint16_t)FLAGS_TAG(FLAGS_LOGIC, bits); break;
    case IR_adc: case IR_sbb: case IR_mul: all.rest = (uint16_t)FLAGS_TAG(FLAGS_GIVEN, bits); break;
    case IR_shl: case IR_shr: case IR_sar: count = from->arg[1]; break;
    case IR_shld: case IR_shrd: count = from->arg[2]; break;
    default: /* rotates */
        count = from->arg[1];
        if (b->insns[count].op == IR_const && !((uint64_t)b->insns[count].imm & count_mask(bits)))
            return old;
        count = IR_NONE;
    }
    if (count != IR_NONE && b->insns[count].op == IR_const) {
        if (!((uint64_t)b->insns[count].imm & count_mask(bits)))
            return old;
        all.rest = (uint16_t)FLAGS_TAG(FLAGS_GIVEN, bits);
    }
    unsigned rest = i->aux & REST_MASK;
    return (struct flags_in){i->aux & IR_M_C || i->arg[1] == IR_NONE ? all.c : old.c,
                             rest == REST_MASK || i->arg[1] == IR_NONE ? all.rest : !rest ? old.rest : FLAGS_TAG(FLAGS_PACKED, 32)};
}

static bool flow_into(struct flags_in *in, struct flags_in from)
{
    struct flags_in n = {meet(in->c, from.c), meet(in->rest, from.rest)};
    bool changed = n.c != in->c || n.rest != in->rest;
    *in = n;
    return changed;
}

static struct flags_in after(struct flags_in now, struct flags_in put)
{
    return (struct flags_in){put.c == THROUGH ? now.c : put.c, put.rest == THROUGH ? now.rest : put.rest};
}

/* Puts inside of the block name values of its own, whose `through` means the last put or the top: each get is of the last put, as
 * the passes forward it, so that one pass in order suffices. */
static bool flow_block(struct fn *f, unsigned index)
{
    const struct llvm_block *block = &f->r->blocks[index == f->r->block_count ? 0 : index];
    const struct ir_block *b = block->ir;
    struct flags_in now = f->flags_in[index];
    bool changed = false;
    unsigned to;
    if (now.c == UNKNOWN)
        return false;
    for (ir_ref n = 0; n < b->count; n++) {
        const struct ir_insn *i = &b->insns[n];
        if (i->op == IR_put && (uint64_t)i->imm == f->pins.flags) {
            const struct ir_insn *value = &b->insns[i->arg[0]];
            now = value->op == IR_flags_pack ? after(now, kinds_of(b, value->arg[0])) : (struct flags_in){FLAGS_TAG(FLAGS_BIT, 0), FLAGS_TAG(FLAGS_PACKED, 32)};
        }
        if (i->op == IR_call && f->g->helpers[i->imm].writes & IR_S_FLAGS)
            now = (struct flags_in){FLAGS_TAG(FLAGS_BIT, 0), FLAGS_TAG(FLAGS_PACKED, 32)};
        if ((i->op == IR_jump || i->op == IR_exit_if) && target_block(f, block, i->imm, &to))
            changed |= flow_into(&f->flags_in[to], now);
        if (i->op == IR_jump_to)
            for (unsigned k = 0; k < block->target_count; k++)
                changed |= flow_into(&f->flags_in[block->targets[k].block], now);
    }
    return changed;
}

void flags_flow(struct fn *f)
{
    unsigned blocks = f->r->block_count;
    for (unsigned n = 0; n < blocks; n++)
        f->flags_in[n] = (struct flags_in){UNKNOWN, UNKNOWN};
    f->flags_in[blocks] = (struct flags_in){FLAGS_TAG(FLAGS_BIT, 0), FLAGS_TAG(FLAGS_PACKED, 32)};
    for (bool changed = true; changed;) {
        changed = false;
        for (unsigned n = 0; n <= blocks; n++)
            changed |= flow_block(f, n);
    }
}
