/* Vector and FP operations: the host instruction that ir/host_sse.def names for each. */
#include "backend-tcg/internal.h"

struct host { uint8_t prefix, map, opcode, shape; };
static const struct host table[IR_OP_COUNT - IR_FIRST_VECTOR][8] = {
#define HOST_SSE(op, lane, text, prefix, map, opcode, shape) [IR_##op - IR_FIRST_VECTOR][lane] = {prefix, map, opcode, IR_SHAPE_##shape},
#include "ir/host_sse.def"
};

static uint32_t opcode_of(const struct host *h)
{
    return h->map == 1 ? 0x0f00u | h->opcode : (h->map == 2 ? 0x0f3800u : 0x0f3a00u) | h->opcode;
}

static void rr(struct tcg *t, const struct host *h, unsigned size, unsigned reg, unsigned rm) { emit_rr(t, h->prefix, opcode_of(h), size, reg, rm); }

void tcg_mxcsr_sync(struct tcg *t)
{
    unsigned k = gpr_temp(t);
    emit_rm(t, 0, 0x0fae, 4, 3, RSP, F_SCRATCH); /* stmxcsr */
    emit_rm(t, 0, 0x8b, 4, k, RSP, F_SCRATCH);
    emit_alu_imm(t, 4, 4, k, 0x3f);
    emit_rm(t, 0, 0x09, 4, k, RBP, (int32_t)t->g->mxcsr_offset);
    t->host_flags = IR_NONE;
}

void tcg_mxcsr_load(struct tcg *t)
{
    unsigned k = gpr_temp(t);
    emit_rm(t, 0, 0x8b, 4, k, RBP, (int32_t)t->g->mxcsr_offset);
    emit_alu_imm(t, 1, 4, k, 0x1f80);
    emit_rm(t, 0, 0x89, 4, k, RSP, F_SCRATCH);
    emit_rm(t, 0, 0x0fae, 4, 2, RSP, F_SCRATCH); /* ldmxcsr */
    t->host_flags = IR_NONE;
}

static void flags(struct tcg *t, const struct host *h, const struct ir_insn *i, ir_ref self)
{
    unsigned b = xmm_use(t, i->arg[1]), a = xmm_use(t, i->arg[0]);
    rr(t, h, 4, a, b);
    gpr_take(t, RAX); /* moves alone: the flags stay */
    emit_rr(t, 0, 0x0f90, 1, 0, RAX);
    put8(t, 0x9f);
    emit_rr(t, 0, 0x0fb7, 4, RAX, RAX);
    own(t, self, RAX);
    t->host_flags = IR_NONE;
}

static void extend(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    /* 20..25 sign, 30..35 zero: bw bd bq wd wq dq */
    static const uint8_t codes[3][4] = {{0, 0x20, 0x21, 0x22}, {0, 0, 0x23, 0x24}, {0, 0, 0, 0x25}};
    unsigned code = i->aux < 3 && i->imm < 4 ? codes[i->aux][i->imm] : 0;
    if (!code) {
        t->complex = true;
        return;
    }
    unsigned a = xmm_use(t, i->arg[0]), r = xmm_def(t, self);
    emit_rr(t, 0x66, 0x0f3800u | (code + (i->op == IR_vextend_u ? 0x10 : 0)), 4, r, a);
}

/* AES, CLMUL, SHA on a host that lacks them: a call. */
uint64_t tcg_crypto(void *state, uint64_t op_imm, uint64_t x, uint64_t c, uint64_t d)
{
    (void)state, (void)c, (void)d;
    ir_crypto_eval((enum ir_op)(op_imm & 0xff), (unsigned)(op_imm >> 8), (uint8_t(*)[16])(uintptr_t)x);
    return 0;
}

static void call_crypto(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    for (unsigned k = 0; k < 3; k++)
        if (i->arg[k] != IR_NONE)
            emit_rm(t, 0, 0x0f11, 4, xmm_use(t, i->arg[k]), RSP, F_SAVE_XMM + 16 * (int32_t)k);
    spill_for_call(t, 0);
    gpr_take(t, RSI);
    gpr_take(t, RDX);
    emit_imm(t, RSI, (uint64_t)i->op | (uint64_t)(i->imm & 0xff) << 8);
    emit_rm(t, 0, 0x8d, 8, RDX, RSP, F_SAVE_XMM);
    emit_call(t, CALL_CRYPTO);
    call_done(t, 0);
    emit_rm(t, 0, 0x0f10, 4, xmm_def(t, self), RSP, F_SAVE_XMM);
    t->host_flags = IR_NONE;
}

bool tcg_vector_emit(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    if (i->op < IR_FIRST_VECTOR)
        return false;
    if (!ir_host_runs((enum ir_op)i->op)) {
        call_crypto(t, i, self);
        return true;
    }
    if (i->op == IR_vextend_s || i->op == IR_vextend_u) {
        extend(t, i, self);
        return true;
    }
    const struct host *h = &table[i->op - IR_FIRST_VECTOR][i->aux & 7];
    unsigned a, b, r, size;
    switch (h->shape) {
    case IR_SHAPE_R2: case IR_SHAPE_R2I:
        b = xmm_use(t, i->arg[1]);
        r = xmm_def_from(t, self, i->arg[0]);
        rr(t, h, 4, r, b);
        if (h->shape == IR_SHAPE_R2I)
            put8(t, (uint8_t)i->imm);
        return true;
    case IR_SHAPE_R1: case IR_SHAPE_R1I:
        a = xmm_use(t, i->arg[0]);
        r = xmm_def(t, self);
        rr(t, h, 4, r, a);
        if (h->shape == IR_SHAPE_R1I)
            put8(t, (uint8_t)i->imm);
        return true;
    case IR_SHAPE_X0:
        emit_rr(t, 0, 0x0f28, 4, 0, xmm_use(t, i->arg[2]));
        b = xmm_use(t, i->arg[1]);
        r = xmm_def_from(t, self, i->arg[0]);
        rr(t, h, 4, r, b);
        return true;
    case IR_SHAPE_BYTES7: case IR_SHAPE_BYTES3:
        r = xmm_def_from(t, self, i->arg[0]);
        emit_rr(t, 0x66, 0x0f73, 4, h->shape == IR_SHAPE_BYTES7 ? 7 : 3, r);
        put8(t, i->imm > 15 ? 16 : (uint8_t)i->imm);
        return true;
    case IR_SHAPE_TO: case IR_SHAPE_TO32:
        a = xmm_use(t, i->arg[0]);
        r = def(t, self);
        rr(t, h, h->shape == IR_SHAPE_TO && i->type == IR_I64 ? 8 : 4, r, a);
        t->v[self].clean = i->type == IR_I32;
        return true;
    case IR_SHAPE_FLAGS: flags(t, h, i, self); return true;
    case IR_SHAPE_FROM32: case IR_SHAPE_FROM64:
        b = use(t, i->arg[1]);
        r = xmm_def_from(t, self, i->arg[0]);
        rr(t, h, h->shape == IR_SHAPE_FROM64 ? 8 : 4, r, b);
        return true;
    case IR_SHAPE_NEW:
        b = use(t, i->arg[0]);
        r = xmm_def(t, self);
        emit_rr(t, 0x66, 0x0f6e, i->aux == IR_L64 ? 8 : 4, r, b);
        return true;
    case IR_SHAPE_OUT:
        a = xmm_use(t, i->arg[0]);
        r = def(t, self);
        emit_rr(t, 0x66, 0x0f7e, i->type == IR_I64 ? 8 : 4, a, r);
        t->v[self].clean = i->type == IR_I32;
        return true;
    case IR_SHAPE_OUTI:
        a = xmm_use(t, i->arg[0]);
        r = def(t, self);
        rr(t, h, i->aux == IR_L64 ? 8 : 4, a, r);
        put8(t, (uint8_t)i->imm);
        t->v[self].clean = i->type == IR_I32;
        return true;
    case IR_SHAPE_INI:
        b = use(t, i->arg[1]);
        r = xmm_def_from(t, self, i->arg[0]);
        size = i->aux == IR_L64 ? 8 : 4;
        rr(t, h, size, r, b);
        put8(t, (uint8_t)i->imm);
        return true;
    default: return false;
    }
}
