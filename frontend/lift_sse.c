/* SSE to SSE4.2, AES, PCLMULQDQ, SHA and MMX: most rows are one vector operation of the IR.  An MMX value is
 * taken as the low half of a v128 whose high half is zero. */
#include "frontend/internal.h"

static ir_ref vop(struct lifter *l, enum ir_op op, unsigned lane, int64_t imm, ir_ref a, ir_ref b) { return ir_emit(l->b, op, IR_V128, lane, imm, a, b, IR_NONE, IR_NONE); }
static enum ir_op op_of(int v) { return (enum ir_op)(v & 0xff); }
static unsigned lane_of(int v) { return (unsigned)v >> 8 & 15; }
static unsigned register_id(const struct lifter *l, unsigned i) { return (unsigned)ZydisRegisterGetId(l->op[i].reg.value); }
static bool is_mmx(const struct lifter *l, unsigned i) { return lift_is_reg(l, i) && ZydisRegisterGetClass(l->op[i].reg.value) == ZYDIS_REGCLASS_MMX; }
static unsigned imm_of(const struct lifter *l, unsigned i) { return (unsigned)(l->op[i].imm.value.u & 0xff); }

/* --- May it run?  (SDM 3A 2.5; 6.15, #NM) */
static bool sse_open(struct lifter *l)
{
    if (lift_fpu_mode(l, X86_MODE_EM) || !lift_fpu_mode(l, X86_MODE_OSFXSR))
        lift_ud(l);
    else if (lift_fpu_mode(l, X86_MODE_TS))
        lift_raise(l, X86_NM, false, 0);
    else
        return true;
    return false;
}

static bool mmx_open(struct lifter *l)
{
    if (lift_fpu_mode(l, X86_MODE_EM))
        lift_ud(l);
    else if (lift_fpu_mode(l, X86_MODE_TS))
        lift_raise(l, X86_NM, false, 0);
    else if (lift_fpu_mode(l, X86_MODE_X87_TRAPS))
        return lift_call(l, IR_VOID, X86_HELPER_x87_check, IR_NONE, IR_NONE, IR_NONE, IR_NONE), true;
    else
        return true;
    return false;
}

/* The XMM form of an instruction whose MMX form is older. */
static bool open_for(struct lifter *l, bool mmx)
{
    if (mmx)
        return mmx_open(l);
    bool integer = ZydisRegisterGetClass(l->op[0].reg.value) == ZYDIS_REGCLASS_XMM && l->in.meta.isa_set == ZYDIS_ISA_SET_SSE2;
    if (integer && !x86_model_has(l->model, X86_FEATURE_SSE2)) {
        lift_ud(l);
        return false;
    }
    return sse_open(l);
}

/* --- Registers and memory */
static int64_t xmm_slot(unsigned n) { return SLOT(vec) + 64 * (int64_t)n; }
static int64_t mmx_slot(unsigned n) { return SLOT(fpr) + 16 * (int64_t)n; }
static ir_ref from_int(struct lifter *l, enum ir_type t, ir_ref v) { return ir_emit(l->b, IR_vfrom_int, IR_V128, t == IR_I64 ? IR_L64 : IR_L32, 0, v, IR_NONE, IR_NONE, IR_NONE); }
static ir_ref to_int(struct lifter *l, enum ir_type t, ir_ref v) { return ir_emit(l->b, IR_vto_int, t, t == IR_I64 ? IR_L64 : IR_L32, 0, v, IR_NONE, IR_NONE, IR_NONE); }

static ir_ref load(struct lifter *l, unsigned i, unsigned bytes, unsigned access)
{
    ir_ref token = lift_translate(l, i, bytes, IR_READ | access);
    if (bytes == 16)
        return lift_load(l, IR_V128, token, 0);
    enum ir_type t = lift_int_type(bytes * 8);
    ir_ref v = lift_load(l, t, token, 0);
    return bytes < 4 ? from_int(l, IR_I32, lift_resize(l, v, t, IR_I32, false)) : from_int(l, t, v);
}

/* Any operand as v128.  Memory of 16 bytes must be aligned (SDM 1 10.4.1.1). */
static ir_ref get(struct lifter *l, unsigned i)
{
    if (lift_is_mem(l, i))
        return load(l, i, l->op[i].size / 8, l->op[i].size == 128 ? IR_ALIGNED : 0);
    if (is_mmx(l, i))
        return from_int(l, IR_I64, lift_slot_get(l, IR_I64, mmx_slot(register_id(l, i))));
    return lift_slot_get(l, IR_V128, xmm_slot(register_id(l, i)));
}

static void put_xmm(struct lifter *l, unsigned n, ir_ref v) { lift_slot_put(l, IR_V128, xmm_slot(n), v); }

/* Every MMX instruction leaves TOP 0 and all tags valid (SDM 1 9.6.2). */
static void mmx_state(struct lifter *l, int tags)
{
    lift_slot_put(l, IR_I8, SLOT(fptop), lift_const(l, IR_I8, 0));
    lift_slot_put(l, IR_I8, SLOT(fptag), lift_const(l, IR_I8, tags));
}

static void put_mmx(struct lifter *l, unsigned n, ir_ref v)
{
    lift_slot_put(l, IR_I64, mmx_slot(n), to_int(l, IR_I64, v));
    lift_slot_put(l, IR_I16, mmx_slot(n) + 8, lift_const(l, IR_I16, -1));
    mmx_state(l, 0xff);
}

static void put(struct lifter *l, unsigned i, ir_ref v)
{
    if (is_mmx(l, i))
        put_mmx(l, register_id(l, i), v);
    else
        put_xmm(l, register_id(l, i), v);
}

/* --- Unmasked SSE exceptions: the flags of this one instruction are looked at before its result is kept. */
static ir_ref traps_begin(struct lifter *l, enum ir_op op)
{
    if (!lift_fpu_mode(l, X86_MODE_FP_TRAPS) || !(ir_op_info[op].props & FP))
        return IR_NONE;
    return lift_call(l, IR_I64, X86_HELPER_sse_begin, IR_NONE, IR_NONE, IR_NONE, IR_NONE);
}

static ir_ref lane_bits_of(struct lifter *l, ir_ref v, bool wide, unsigned i)
{
    enum ir_type t = wide ? IR_I64 : IR_I32;
    return lift_resize(l, ir_emit(l->b, IR_vextract, t, wide ? IR_L64 : IR_L32, i, v, IR_NONE, IR_NONE, IR_NONE), t, IR_I64, false);
}

struct rounding { struct lifter *l; ir_ref flags; bool wide, to_wide; };

static void round_lane(struct rounding *r, enum x86_round kind, ir_ref a, unsigned i, ir_ref b, unsigned k)
{
    int64_t what = (int64_t)kind | (r->wide ? X86_ROUND_FROM_DOUBLE : 0) | (r->to_wide ? X86_ROUND_TO_DOUBLE : 0);
    ir_ref x = lane_bits_of(r->l, a, r->wide, i), y = lane_bits_of(r->l, b, r->wide, k);
    r->flags = lift_call(r->l, IR_I64, X86_HELPER_sse_round, lift_const(r->l, IR_I64, what), x, y, r->flags);
}

/* The flags of rounding that the host's masked operation does not tell; all ones: it tells them all. */
static ir_ref rounding_of(struct lifter *l, enum ir_op op, unsigned lane, ir_ref a, ir_ref b)
{
    static const uint8_t kinds[IR_OP_COUNT] = {[IR_vfsub] = X86_ROUND_SUB, [IR_vfhsub] = X86_ROUND_SUB, [IR_vfmul] = X86_ROUND_MUL, [IR_vfdiv] = X86_ROUND_DIV};
    bool wide = lane == IR_LF64 || lane == IR_LS64, one = lane == IR_LS32 || lane == IR_LS64;
    unsigned count = one ? 1 : wide ? 2 : 4;
    struct rounding r = {l, lift_const(l, IR_I64, 0), wide, wide};
    switch ((unsigned)op) {
    case IR_vfadd: case IR_vfsub: case IR_vfmul: case IR_vfdiv:
        for (unsigned i = 0; i < count; i++)
            round_lane(&r, (enum x86_round)kinds[op], a, i, b, i);
        return r.flags;
    case IR_vfaddsub:
        for (unsigned i = 0; i < count; i++)
            round_lane(&r, i & 1 ? X86_ROUND_ADD : X86_ROUND_SUB, a, i, b, i);
        return r.flags;
    case IR_vfhadd: case IR_vfhsub:
        for (unsigned i = 0; i < 2 * count; i += 2) {
            ir_ref from = i < count ? a : b;
            round_lane(&r, (enum x86_round)kinds[op], from, i % count, from, i % count + 1);
        }
        return r.flags;
    case IR_vcvt_f_f: case IR_vcvt_s_s:
        r.to_wide = false;
        for (unsigned i = 0; wide && i < count; i++)
            round_lane(&r, X86_ROUND_NARROW, op == IR_vcvt_s_s ? b : a, i, op == IR_vcvt_s_s ? b : a, i);
        return wide ? r.flags : lift_const(l, IR_I64, -1);
    default: return lift_const(l, IR_I64, -1);
    }
}

static ir_ref compute(struct lifter *l, enum ir_op op, enum ir_type t, unsigned lane, int64_t imm, ir_ref a, ir_ref b, ir_ref c)
{
    ir_ref old = traps_begin(l, op), r = ir_emit(l->b, op, t, lane, imm, a, b, c, IR_NONE);
    if (old != IR_NONE)
        lift_call(l, IR_VOID, X86_HELPER_sse_check, old, rounding_of(l, op, lane, a, b), IR_NONE, IR_NONE);
    return r;
}

/* --- MMX forms of operations that see more than the low half */
static ir_ref high_half(struct lifter *l, ir_ref v) { return vop(l, IR_vshr_bytes, IR_L8, 8, v, IR_NONE); }
static ir_ref low_half(struct lifter *l, ir_ref v) { return from_int(l, IR_I64, to_int(l, IR_I64, v)); }

static ir_ref mmx_compute(struct lifter *l, enum ir_op op, unsigned lane, ir_ref a, ir_ref b)
{
    ir_ref both;
    switch (op) {
    case IR_vunpack_hi: return high_half(l, vop(l, IR_vunpack_lo, lane, 0, a, b));
    case IR_vpack_s: case IR_vpack_u: case IR_vhadd: case IR_vhsub: case IR_vhadds: case IR_vhsubs:
        both = vop(l, IR_vunpack_lo, IR_L64, 0, a, b);
        return low_half(l, vop(l, op, lane, 0, both, both));
    case IR_vshuffle_bytes: /* the index is 3 bits wide */
        return vop(l, op, lane, 0, a, vop(l, IR_vand, IR_L8, 0, b, from_int(l, IR_I64, lift_const(l, IR_I64, (int64_t)0x8787878787878787u))));
    default: return vop(l, op, lane, 0, a, b);
    }
}

void lift_sse_int(struct lifter *l, int variant) /* a op= b, integer or FP */
{
    bool mmx = is_mmx(l, 0);
    if (!open_for(l, mmx))
        return;
    ir_ref b = get(l, 1), a = get(l, 0);
    put(l, 0, mmx ? mmx_compute(l, op_of(variant), lane_of(variant), a, b) : compute(l, op_of(variant), IR_V128, lane_of(variant), 0, a, b, IR_NONE));
}

void lift_sse_shift(struct lifter *l, int variant)
{
    if (!open_for(l, is_mmx(l, 0)))
        return;
    ir_ref b = lift_is_imm(l, 1) ? from_int(l, IR_I64, lift_const(l, IR_I64, imm_of(l, 1))) : get(l, 1);
    put(l, 0, vop(l, op_of(variant), lane_of(variant), 0, get(l, 0), b));
}

void lift_sse_bytes(struct lifter *l, int op)
{
    if (sse_open(l))
        put(l, 0, vop(l, (enum ir_op)op, IR_L8, imm_of(l, 1), get(l, 0), IR_NONE));
}

void lift_sse_unary(struct lifter *l, int variant)
{
    if (!open_for(l, is_mmx(l, 0)))
        return;
    put(l, 0, compute(l, op_of(variant), IR_V128, lane_of(variant), 0, get(l, 1), IR_NONE, IR_NONE));
}

void lift_sse_unary_imm(struct lifter *l, int variant)
{
    if (!open_for(l, is_mmx(l, 0)))
        return;
    put(l, 0, compute(l, op_of(variant), IR_V128, lane_of(variant), imm_of(l, 2), get(l, 1), IR_NONE, IR_NONE));
}

/* Where an exception is unmasked, a dot product is its steps: the first of them that traps hides the next ones'. */
static ir_ref dot_by_steps(struct lifter *l, unsigned lane, unsigned imm, ir_ref a, ir_ref b)
{
    ir_ref zero = from_int(l, IR_I64, lift_const(l, IR_I64, 0));
    unsigned lanes = lane == IR_LF64 ? 3 : 15;
    a = vop(l, IR_vblend, lane, imm >> 4 & lanes, zero, a);
    b = vop(l, IR_vblend, lane, imm >> 4 & lanes, zero, b);
    ir_ref sum = compute(l, IR_vfmul, IR_V128, lane, 0, a, b, IR_NONE);
    for (unsigned left = lane == IR_LF64 ? 1 : 2; left; left--)
        sum = compute(l, IR_vfhadd, IR_V128, lane, 0, sum, sum, IR_NONE);
    return vop(l, IR_vblend, lane, imm & lanes, zero, sum);
}

void lift_sse_imm(struct lifter *l, int variant)
{
    bool mmx = is_mmx(l, 0);
    unsigned imm = imm_of(l, 2);
    if (!open_for(l, mmx))
        return;
    enum ir_op op = op_of(variant);
    ir_ref b = get(l, 1), a = get(l, 0);
    if (mmx) { /* PALIGNR: 16 bytes of both, shifted */
        ir_ref both = vop(l, IR_vunpack_lo, IR_L64, 0, b, a);
        put(l, 0, low_half(l, vop(l, IR_vshr_bytes, IR_L8, imm, both, IR_NONE)));
        return;
    }
    if (op == IR_vfcmp)
        imm &= 7;
    if (op == IR_vfdot && lift_fpu_mode(l, X86_MODE_FP_TRAPS))
        put(l, 0, dot_by_steps(l, lane_of(variant), imm, a, b));
    else
        put(l, 0, compute(l, op, IR_V128, lane_of(variant), imm, a, b, IR_NONE));
}

void lift_sse_by_xmm0(struct lifter *l, int variant)
{
    if (!sse_open(l))
        return;
    ir_ref b = get(l, 1), mask = lift_slot_get(l, IR_V128, xmm_slot(0));
    put(l, 0, compute(l, op_of(variant), IR_V128, lane_of(variant), 0, get(l, 0), b, mask));
}

void lift_sse_flags(struct lifter *l, int variant)
{
    if (!sse_open(l))
        return;
    ir_ref b = get(l, 1);
    lift_flags_packed(l, compute(l, op_of(variant), IR_I32, lane_of(variant), 0, get(l, 0), b, IR_NONE));
}

void lift_sse_to_int(struct lifter *l, int variant)
{
    if (sse_open(l))
        lift_write(l, 0, compute(l, op_of(variant), lift_type(l, 0), lane_of(variant), 0, get(l, 1), IR_NONE, IR_NONE));
}

void lift_sse_from_int(struct lifter *l, int lane)
{
    if (!sse_open(l))
        return;
    enum ir_op op = l->op[1].size == 64 ? IR_vcvt_from_i64 : IR_vcvt_from_i32;
    ir_ref v = lift_read(l, 1);
    put(l, 0, compute(l, op, IR_V128, (unsigned)lane, 0, get(l, 0), v, IR_NONE));
}

void lift_sse_mask(struct lifter *l, int lane)
{
    if (!open_for(l, is_mmx(l, 1)))
        return;
    bool mmx = is_mmx(l, 1);
    ir_ref v = ir_emit(l->b, IR_vmask, IR_I32, (unsigned)lane, 0, get(l, 1), IR_NONE, IR_NONE, IR_NONE);
    lift_write(l, 0, lift_resize(l, v, IR_I32, lift_type(l, 0), false));
    if (mmx)
        mmx_state(l, 0xff);
}

void lift_sse_extend(struct lifter *l, int variant)
{
    if (!sse_open(l))
        return;
    unsigned from = lane_of(variant), to = (unsigned)variant >> 12;
    put(l, 0, vop(l, op_of(variant), from, to, lift_is_mem(l, 1) ? load(l, 1, 16u >> (to - from), 0) : get(l, 1), IR_NONE));
}

static const uint8_t lane_bits[] = {8, 16, 32, 64};

void lift_sse_insert(struct lifter *l, int lane)
{
    bool mmx = is_mmx(l, 0);
    if (!open_for(l, mmx))
        return;
    unsigned bits = lane_bits[lane], count = (mmx ? 64 : 128) / bits;
    ir_ref v;
    if (lift_is_mem(l, 1))
        v = lift_load(l, lift_int_type(bits), lift_translate(l, 1, bits / 8, IR_READ), 0);
    else
        v = lift_resize(l, lift_read(l, 1), lift_type(l, 1), lift_int_type(bits), false);
    put(l, 0, vop(l, IR_vinsert, (unsigned)lane, imm_of(l, 2) & (count - 1), get(l, 0), v));
}

void lift_sse_extract(struct lifter *l, int lane)
{
    bool mmx = is_mmx(l, 1);
    if (!open_for(l, mmx))
        return;
    unsigned bits = lane_bits[lane], count = (mmx ? 64 : 128) / bits;
    ir_ref v = ir_emit(l->b, IR_vextract, lift_int_type(bits), (unsigned)lane, imm_of(l, 2) & (count - 1), get(l, 1), IR_NONE, IR_NONE, IR_NONE);
    if (lift_is_mem(l, 0))
        lift_store(l, lift_int_type(bits), lift_translate(l, 0, bits / 8, IR_WRITE), 0, v);
    else
        lift_write(l, 0, lift_resize(l, v, lift_int_type(bits), lift_type(l, 0), false));
    if (mmx)
        mmx_state(l, 0xff);
}

void lift_sse_insertps(struct lifter *l, int variant)
{
    (void)variant;
    if (!sse_open(l))
        return;
    unsigned imm = imm_of(l, 2);
    if (lift_is_mem(l, 1)) /* the source lane is that of a register alone */
        imm &= 0x3f;
    ir_ref b = lift_is_mem(l, 1) ? load(l, 1, 4, 0) : get(l, 1);
    put(l, 0, vop(l, IR_vinsert_f32, IR_LF32, imm, get(l, 0), b));
}

/* --- Moves */
void lift_sse_move(struct lifter *l, int aligned)
{
    if (!sse_open(l))
        return;
    if (lift_is_mem(l, 0)) {
        ir_ref token = lift_translate(l, 0, 16, IR_WRITE | (aligned ? IR_ALIGNED : 0));
        lift_store(l, IR_V128, token, 0, get(l, 1));
    } else {
        put(l, 0, lift_is_mem(l, 1) ? load(l, 1, 16, aligned ? IR_ALIGNED : 0) : get(l, 1));
    }
}

void lift_sse_scalar(struct lifter *l, int lane) /* MOVSS, MOVSD */
{
    if (!sse_open(l))
        return;
    unsigned bytes = lane == IR_LF32 ? 4 : 8;
    enum ir_type t = lift_int_type(bytes * 8);
    if (lift_is_mem(l, 0))
        lift_store(l, t, lift_translate(l, 0, bytes, IR_WRITE), 0, to_int(l, t, get(l, 1)));
    else if (lift_is_mem(l, 1))
        put(l, 0, load(l, 1, bytes, 0));
    else
        put(l, 0, vop(l, IR_vblend, (unsigned)lane, 1, get(l, 0), get(l, 1)));
}

void lift_sse_half(struct lifter *l, int high)
{
    if (!sse_open(l))
        return;
    if (lift_is_mem(l, 0)) {
        ir_ref v = ir_emit(l->b, IR_vextract, IR_I64, IR_L64, high, get(l, 1), IR_NONE, IR_NONE, IR_NONE);
        lift_store(l, IR_I64, lift_translate(l, 0, 8, IR_WRITE), 0, v);
        return;
    }
    ir_ref v = lift_load(l, IR_I64, lift_translate(l, 1, 8, IR_READ), 0);
    put(l, 0, vop(l, IR_vinsert, IR_L64, high, get(l, 0), v));
}

void lift_sse_movhlps(struct lifter *l, int variant)
{
    (void)variant;
    if (sse_open(l))
        put(l, 0, vop(l, IR_vunpack_hi, IR_L64, 0, get(l, 1), get(l, 0)));
}

void lift_sse_double(struct lifter *l, int variant)
{
    (void)variant;
    if (!sse_open(l))
        return;
    ir_ref v = lift_is_mem(l, 1) ? load(l, 1, 8, 0) : get(l, 1);
    put(l, 0, vop(l, IR_vunpack_lo, IR_L64, 0, v, v));
}

void lift_sse_dup(struct lifter *l, int control)
{
    if (sse_open(l))
        put(l, 0, vop(l, IR_vshuffle, IR_L32, control, get(l, 1), IR_NONE));
}

/* MOVD, MOVQ: between a vector register and memory, a general register or another vector register. */
static ir_ref movd_source(struct lifter *l, unsigned i, enum ir_type t)
{
    if (lift_is_reg(l, i) && !is_mmx(l, i) && ZydisRegisterGetClass(l->op[i].reg.value) != ZYDIS_REGCLASS_XMM)
        return lift_resize(l, lift_read(l, i), lift_type(l, i), t, false);
    return lift_is_mem(l, i) ? lift_load(l, t, lift_translate(l, i, ir_type_bytes(t), IR_READ), 0) : to_int(l, t, get(l, i));
}

void lift_sse_movd(struct lifter *l, int variant)
{
    (void)variant;
    bool mmx = is_mmx(l, 0) || is_mmx(l, 1);
    unsigned bits = l->op[0].size < l->op[1].size ? l->op[0].size : l->op[1].size;
    enum ir_type t = bits == 32 ? IR_I32 : IR_I64;
    if (!mmx && !x86_model_has(l->model, X86_FEATURE_SSE2)) {
        lift_ud(l);
        return;
    }
    if (!(mmx ? mmx_open(l) : sse_open(l)))
        return;
    ir_ref v = movd_source(l, 1, t);
    bool to_vector = lift_is_reg(l, 0) && (is_mmx(l, 0) || ZydisRegisterGetClass(l->op[0].reg.value) == ZYDIS_REGCLASS_XMM);
    if (to_vector)
        put(l, 0, from_int(l, t, v));
    else if (lift_is_mem(l, 0))
        lift_store(l, t, lift_translate(l, 0, bits / 8, IR_WRITE), 0, v);
    else
        lift_write(l, 0, v);
    if (mmx && !to_vector)
        mmx_state(l, 0xff);
}

void lift_mmx_to_xmm(struct lifter *l, int variant)
{
    (void)variant;
    if (!sse_open(l) || !mmx_open(l))
        return;
    put(l, 0, get(l, 1));
    mmx_state(l, 0xff);
}

void lift_xmm_to_mmx(struct lifter *l, int variant)
{
    (void)variant;
    if (sse_open(l) && mmx_open(l))
        put(l, 0, get(l, 1));
}

void lift_sse_movnti(struct lifter *l, int variant)
{
    (void)variant;
    lift_write(l, 0, lift_read(l, 1));
}

void lift_mmx_movntq(struct lifter *l, int variant)
{
    (void)variant;
    if (!mmx_open(l))
        return;
    lift_store(l, IR_I64, lift_translate(l, 0, 8, IR_WRITE), 0, to_int(l, IR_I64, get(l, 1)));
    mmx_state(l, 0xff);
}

void lift_sse_maskmov(struct lifter *l, int bytes)
{
    if (bytes == 8 ? !mmx_open(l) : !sse_open(l))
        return;
    enum x86_seg seg = X86_DS;
    for (unsigned i = 0; i < l->in.operand_count; i++)
        if (lift_is_mem(l, i))
            seg = lift_seg(l->op[i].mem.segment);
    enum ir_type t = lift_int_type(l->address_bits);
    ir_ref offset = lift_resize(l, lift_reg_get(l, X86_RDI, l->address_bits), t, IR_I64, false);
    unsigned first = bytes == 8 ? 0 : 0, second = 1;
    for (unsigned i = 0, seen = 0; i < l->in.operand_count; i++) /* the data and the mask, in the order of the manual */
        if (lift_is_reg(l, i) && (is_mmx(l, i) || ZydisRegisterGetClass(l->op[i].reg.value) == ZYDIS_REGCLASS_XMM))
            *(seen++ ? &second : &first) = i;
    int64_t numbers = (int64_t)register_id(l, first) | (int64_t)register_id(l, second) << 8 | (int64_t)bytes << 16;
    lift_call(l, IR_VOID, X86_HELPER_mask_move, lift_const(l, IR_I64, seg), offset, lift_const(l, IR_I64, numbers), IR_NONE);
}

void lift_mmx_emms(struct lifter *l, int variant)
{
    (void)variant;
    if (mmx_open(l))
        mmx_state(l, 0);
}

void lift_mmx_cvt_from(struct lifter *l, int variant)
{
    bool single = lane_of(variant) == IR_L32, mmx = is_mmx(l, 1);
    if (!sse_open(l) || (mmx && !mmx_open(l)))
        return;
    ir_ref v = compute(l, op_of(variant), IR_V128, lane_of(variant), 0, lift_is_mem(l, 1) ? load(l, 1, 8, 0) : get(l, 1), IR_NONE, IR_NONE);
    put(l, 0, single ? vop(l, IR_vinsert, IR_L64, 0, get(l, 0), to_int(l, IR_I64, v)) : v);
    if (mmx)   /* a memory operand leaves the x87 state alone, on the silicon */
        mmx_state(l, 0xff);
}

void lift_mmx_cvt_to(struct lifter *l, int variant)
{
    if (!sse_open(l) || !mmx_open(l))
        return;
    bool single = lane_of(variant) == IR_LF32;
    ir_ref v = lift_is_mem(l, 1) ? load(l, 1, single ? 8 : 16, single ? 0 : IR_ALIGNED) : get(l, 1);
    if (single) /* the high lanes may not raise flags */
        v = low_half(l, v);
    put(l, 0, compute(l, op_of(variant), IR_V128, lane_of(variant), 0, v, IR_NONE, IR_NONE));
}

/* PCMPESTRM, PCMPESTRI, PCMPISTRM, PCMPISTRI */
void lift_sse_strings(struct lifter *l, int kind)
{
    if (!sse_open(l))
        return;
    ir_ref b = lift_is_mem(l, 1) ? load(l, 1, 16, 0) : get(l, 1);
    ir_ref high = ir_emit(l->b, IR_vextract, IR_I64, IR_L64, 1, b, IR_NONE, IR_NONE, IR_NONE);
    bool wide_lengths = l->in.attributes & ZYDIS_ATTRIB_HAS_REX && l->in.raw.rex.W;
    int64_t what = kind | (int64_t)register_id(l, 0) << 8 | (int64_t)imm_of(l, 2) << 16 | (int64_t)wide_lengths << 24;
    lift_call(l, IR_VOID, X86_HELPER_sse_strings, lift_const(l, IR_I64, what), to_int(l, IR_I64, b), high, IR_NONE);
}

/* --- State */
void lift_sse_ldmxcsr(struct lifter *l, int variant)
{
    (void)variant;
    if (!sse_open(l))
        return;
    ir_ref v = lift_resize(l, lift_read(l, 0), IR_I32, IR_I64, false);
    lift_call(l, IR_VOID, X86_HELPER_ldmxcsr, v, IR_NONE, IR_NONE, IR_NONE);
    lift_end_go_on(l, lift_next_pc(l)); /* unmasking changes the mode */
}

void lift_sse_stmxcsr(struct lifter *l, int variant)
{
    (void)variant;
    if (sse_open(l))
        lift_write(l, 0, lift_slot_get(l, IR_I32, SLOT(mxcsr)));
}

/* FXSAVE, FXRSTOR: no #UD for a clear OSFXSR, only the XMM part depends on it. */
void lift_fx_area(struct lifter *l, int variant)
{
    if (lift_fpu_mode(l, X86_MODE_EM | X86_MODE_TS)) {
        lift_raise(l, X86_NM, false, 0);
        return;
    }
    ir_ref at = lift_operand_linear(l, 0, 512, (variant & 0xff) == X86_HELPER_fxsave ? IR_WRITE : IR_READ);
    lift_call(l, IR_VOID, (enum x86_helper)(variant & 0xff), at, lift_const(l, IR_I64, variant >> 8), IR_NONE, IR_NONE);
    if ((variant & 0xff) == X86_HELPER_fxrstor)
        lift_end_go_on(l, lift_next_pc(l));
}

void lift_xsave_area(struct lifter *l, int variant)
{
    if (!lift_fpu_mode(l, X86_MODE_XSAVE)) {
        lift_ud(l);
        return;
    }
    if (lift_fpu_mode(l, X86_MODE_TS)) {
        lift_raise(l, X86_NM, false, 0);
        return;
    }
    enum x86_helper h = (enum x86_helper)(variant & 0xff);
    bool restores = h == X86_HELPER_xrstor || h == X86_HELPER_xrstors;
    ir_ref at = lift_operand_linear(l, 0, 64, restores ? IR_READ : IR_WRITE);
    lift_call(l, IR_VOID, h, at, lift_const(l, IR_I64, variant >> 8), IR_NONE, IR_NONE);
    if (restores)
        lift_end_go_on(l, lift_next_pc(l));
}

void lift_xgetbv(struct lifter *l, int variant)
{
    (void)variant;
    if (!lift_fpu_mode(l, X86_MODE_XSAVE)) {
        lift_ud(l);
        return;
    }
    ir_ref v = lift_call(l, IR_I64, X86_HELPER_xgetbv, IR_NONE, IR_NONE, IR_NONE, IR_NONE);
    lift_reg_put(l, X86_RAX, 32, lift_resize(l, v, IR_I64, IR_I32, false));
    lift_reg_put(l, X86_RDX, 32, ir_emit(l->b, IR_extract, IR_I32, 32, 0, v, IR_NONE, IR_NONE, IR_NONE));
}

void lift_xsetbv(struct lifter *l, int variant)
{
    (void)variant;
    if (!lift_fpu_mode(l, X86_MODE_XSAVE)) {
        lift_ud(l);
        return;
    }
    if (lift_cpl(l)) {
        lift_raise(l, X86_GP, true, 0);
        return;
    }
    lift_call(l, IR_VOID, X86_HELPER_xsetbv, IR_NONE, IR_NONE, IR_NONE, IR_NONE);
    lift_end_leave(l, IR_LEAVE_NEXT);
}

void lift_fence(struct lifter *l, int variant)
{
    (void)variant;
    ir_emit(l->b, IR_fence, IR_VOID, 0, 0, IR_NONE, IR_NONE, IR_NONE, IR_NONE);
}

void lift_cache_line(struct lifter *l, int variant) /* CLFLUSH and the like check as a byte's read does */
{
    (void)variant;
    lift_translate(l, 0, 1, IR_READ);
}
