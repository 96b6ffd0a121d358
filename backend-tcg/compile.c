/* One pass over a block: each IR operation becomes a few host instructions; what is rare waits as cold code behind
 * the block (cold.c).  State slots are written where the IR writes them, in their registers or in memory, so at every
 * way out the state is that of the guest instruction, but for pending flags, which the ways out store. */
#include "backend-tcg/internal.h"
#include <stdlib.h>

/* An operand that is read before the result is written: where it ends here, the result may take its register. */
static unsigned use_ending(struct tcg *t, ir_ref a)
{
    unsigned r = use(t, a);
    if (t->v[a].last <= t->now)
        t->bank[INT].locked &= ~REG_BIT(r);
    return r;
}

/* --- Arithmetic */
static unsigned width(const struct tcg *t, ir_ref self)
{
    unsigned size = size_of((enum ir_type)t->b->insns[self].type);
    return t->v[self].flagged || size > 4 ? size : 4;
}

static bool is_zero_idiom(const struct ir_insn *i) { return (i->op == IR_xor || i->op == IR_sub) && i->arg[0] == i->arg[1]; }

/* Operations whose flags alone are wanted: CMP and TEST. */
static bool do_compare(struct tcg *t, const struct ir_insn *i, ir_ref self, unsigned size)
{
    int64_t c;
    if (value_used(t, self) || (i->op != IR_sub && i->op != IR_and))
        return false;
    if (!small_const(t, i->arg[1], &c)) {
        unsigned b = use(t, i->arg[1]), a = use(t, i->arg[0]);
        emit_rr(t, 0, (i->op == IR_sub ? 0x38 : 0x84) | (size > 1), size, b, a);
    } else {
        unsigned a = use(t, i->arg[0]);
        if (i->op == IR_sub && c) {
            emit_alu_imm(t, 7, size, a, (int32_t)c);
        } else if (i->op == IR_sub) {
            emit_rr(t, 0, 0x84 | (size > 1), size, a, a);
        } else {
            emit_rr(t, 0, 0xf6 | (size > 1), size, 0, a);
            emit_imm_bytes(t, size, c);
        }
    }
    t->host_flags = self;
    return true;
}

static void do_alu(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    unsigned size = width(t, self), b = NO_REG, r;
    int64_t c = 0;
    if (is_zero_idiom(i)) {
        r = def(t, self);
        emit_rr(t, 0, 0x31, 4, r, r);
        t->v[self].clean = true;
        t->host_flags = t->v[self].flagged ? self : IR_NONE;
        return;
    }
    if (t->v[self].flagged && do_compare(t, i, self, size))
        return;
    if (!small_const(t, i->arg[1], &c))
        b = use(t, i->arg[1]);
    bool carries = i->op == IR_adc || i->op == IR_sbb;
    if (carries)
        use(t, i->arg[2]);
    r = def_from(t, self, i->arg[0]);
    if (carries)
        carry_in(t, i->arg[2]);
    if (b == NO_REG)
        emit_alu_imm(t, alu_digit[i->op], size, r, (int32_t)c);
    else
        emit_rr(t, 0, (unsigned)alu_digit[i->op] << 3 | (size > 1), size, b, r);
    t->v[self].clean = size == 4;
    t->host_flags = t->v[self].flagged ? self : IR_NONE;
}

static void do_unary(struct tcg *t, const struct ir_insn *i, ir_ref self, unsigned digit)
{
    unsigned size = width(t, self), r = def_from(t, self, i->arg[0]);
    emit_rr(t, 0, size == 1 ? 0xf6 : 0xf7, size, digit, r);
    t->v[self].clean = size == 4;
    t->host_flags = digit == 3 && t->v[self].flagged ? self : IR_NONE;
}

/* Both halves: RAX and RDX of the one-operand form. */
static void mul_pair(struct tcg *t, const struct ir_insn *high, ir_ref low_self, ir_ref high_self)
{
    gpr_take(t, RAX);
    gpr_take(t, RDX);
    unsigned b = use(t, high->arg[1]);
    use_in(t, high->arg[0], RAX);
    emit_rr(t, 0, 0xf7, size_of((enum ir_type)high->type), high->op == IR_smulh ? 5 : 4, b);
    own(t, low_self, RAX);
    own(t, high_self, RDX);
    t->v[low_self > high_self ? low_self : high_self].done = true;
    t->host_flags = IR_NONE;
}

static void do_mul(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    unsigned size = t->v[self].flagged ? width(t, self) : size_of((enum ir_type)i->type) == 8 ? 8 : 4, r;
    const struct ir_insn *next = &t->b->insns[self + 1];
    int64_t c;
    if ((next->op == IR_umulh || next->op == IR_smulh) && !memcmp(next->arg, i->arg, sizeof i->arg) && next->type == i->type && t->v[self + 1].uses) {
        mul_pair(t, next, self, self + 1);
        return;
    }
    if (small_const(t, i->arg[1], &c)) {
        unsigned a = use_ending(t, i->arg[0]);
        emit_rr(t, 0, 0x69, size, r = def(t, self), a);
        emit_imm_bytes(t, size, c);
    } else {
        unsigned b = use(t, i->arg[1]);
        emit_rr(t, 0, 0x0faf, size, r = def_from(t, self, i->arg[0]), b);
    }
    t->v[self].clean = size == 4;
    t->host_flags = t->v[self].flagged ? self : IR_NONE;
}

/* High halves: RDX of the one-operand form. */
static void do_mul_high(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    unsigned size = size_of((enum ir_type)i->type);
    const struct ir_insn *next = &t->b->insns[self + 1];
    if (next->op == IR_mul && !memcmp(next->arg, i->arg, sizeof i->arg) && next->type == i->type && t->v[self + 1].uses && !t->v[self + 1].flagged) {
        mul_pair(t, i, self + 1, self);
        return;
    }
    gpr_take(t, RAX);
    gpr_take(t, RDX);
    unsigned rb = use(t, i->arg[1]);
    use_in(t, i->arg[0], RAX);
    emit_rr(t, 0, 0xf7, size, i->op == IR_smulh ? 5 : 4, rb);
    own(t, self, RDX);
    t->host_flags = IR_NONE;
}

static void do_div(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    unsigned size = size_of((enum ir_type)i->type);
    bool is_signed = i->op == IR_sdivq || i->op == IR_sdivr, quotient = i->op == IR_udivq || i->op == IR_sdivq;
    gpr_take(t, RAX);
    gpr_take(t, RDX);
    unsigned rc = use(t, i->arg[2]);
    use_in(t, i->arg[1], RAX);
    use_in(t, i->arg[0], RDX);
    emit_rr(t, 0, 0xf7, size, is_signed ? 7 : 6, rc);
    own(t, self, quotient ? RAX : RDX);
    const struct ir_insn *next = &t->b->insns[self + 1];
    if (quotient && next->op == i->op + 1 && !memcmp(next->arg, i->arg, sizeof i->arg) && next->type == i->type && t->v[self + 1].uses) {
        own(t, self + 1, RDX); /* the remainder comes with it */
        t->v[self + 1].done = true;
    }
    t->host_flags = IR_NONE;
}

/* --- Shifts */
static void do_shift(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    int64_t c;
    bool fixed = const_of(t, count_of(i), &c);
    if (!fixed) {
        gpr_take(t, RCX);
        use_in(t, count_of(i), RCX);
    }
    if (is_double(i->op)) {
        if (const_of(t, i->arg[1], &c)) { /* rare: no register of its own */
            t->complex = true;
            return;
        }
        use(t, i->arg[1]);
    }
    if (i->op == IR_rcl || i->op == IR_rcr)
        use(t, i->arg[2]);
    unsigned r = def_from(t, self, i->arg[0]);
    if (i->op == IR_rcl || i->op == IR_rcr)
        carry_in(t, i->arg[2]);
    shift_apply(t, i, r);
    t->v[self].clean = size_of((enum ir_type)i->type) == 4 && fixed && c & 31;
    bool all = fixed && const_of(t, count_of(i), &c) && c & count_mask(i) && !is_rotate(i->op);
    t->host_flags = all && t->v[self].flagged ? self : IR_NONE;
}

/* --- Widths, fields */
/* The result is its operand, bit for bit. */
static void same_register(struct tcg *t, ir_ref self, ir_ref a)
{
    unsigned r = t->v[a].reg;
    if (r != NO_REG && r >= FIRST_PINNED_INT)
        pinned_get(t, self, INT, r);
    else
        def_from(t, self, a);
}

static void do_extend(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    enum ir_type from = type_of(t, i->arg[0]);
    bool is_signed = i->op == IR_sext;
    if (from == IR_I1) {
        if (t->v[i->arg[0]].lazy) {
            unsigned cc = condition(t, i->arg[0]), r = def(t, self);
            emit_rr(t, 0, 0x0f90 | cc, 1, 0, r);
            emit_rr(t, 0, 0x0fb6, 1, r, r);
            if (is_signed)
                emit_rr(t, 0, 0xf7, 8, 3, r);
        } else {
            unsigned r = def_from(t, self, i->arg[0]);
            emit_alu_imm(t, 4, 4, r, 1);
            if (is_signed)
                emit_rr(t, 0, 0xf7, 8, 3, r);
        }
        t->v[self].clean = !is_signed;
        t->host_flags = IR_NONE;
        return;
    }
    int64_t c;
    if (const_of(t, i->arg[0], &c)) {
        emit_imm(t, def(t, self), is_signed ? (uint64_t)c : ir_cut((uint64_t)c, ir_type_bits(from)));
        return;
    }
    if (from == IR_I32 && !is_signed && t->v[i->arg[0]].clean) {
        same_register(t, self, i->arg[0]);
        return;
    }
    unsigned a = use_ending(t, i->arg[0]), r = def(t, self);
    switch (from) {
    case IR_I8: emit_rr(t, 0, is_signed ? 0x0fbe : 0x0fb6, is_signed && i->type == IR_I64 ? 8 : 1, r, a); break;
    case IR_I16: emit_rr(t, 0, is_signed ? 0x0fbf : 0x0fb7, is_signed && i->type == IR_I64 ? 8 : 4, r, a); break;
    default:
        if (is_signed)
            emit_rr(t, 0, 0x63, 8, r, a);
        else
            emit_mov32(t, r, a);
    }
    t->v[self].clean = !(is_signed && i->type == IR_I64);
}

static void do_extract(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    unsigned r = def_from(t, self, i->arg[0]);
    if (i->aux)
        emit_shift_imm(t, 5, 8, r, i->aux);
    t->v[self].clean = i->aux == 32;
    t->host_flags = IR_NONE;
}

static void do_deposit(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    enum ir_type from = type_of(t, i->arg[1]);
    unsigned rb = use(t, i->arg[1]), r = def_from(t, self, i->arg[0]);
    if (from == IR_I8 || from == IR_I16) {
        if (i->aux)
            emit_shift_imm(t, 1, 8, r, i->aux);
        emit_rr(t, 0, from == IR_I8 ? 0x88 : 0x89, from == IR_I8 ? 1 : 2, rb, r);
        if (i->aux)
            emit_shift_imm(t, 0, 8, r, i->aux);
    } else if (from == IR_I32 && i->type == IR_I64) {
        unsigned k = gpr_temp(t);
        emit_mov32(t, k, rb);
        if (i->aux == 32) {
            emit_shift_imm(t, 4, 8, k, 32);
            emit_mov32(t, r, r);
        } else {
            emit_shift_imm(t, 5, 8, r, 32);
            emit_shift_imm(t, 4, 8, r, 32);
        }
        emit_rr(t, 0, 0x09, 8, k, r);
        t->complex |= i->aux != 0 && i->aux != 32;
    } else {
        t->complex = true;
    }
    t->host_flags = IR_NONE;
}

static void do_lea(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    unsigned size = size_of((enum ir_type)i->type) == 8 ? 8 : 4, index = NO_REG, base = NO_REG;
    int64_t c;
    if (i->imm != (int32_t)i->imm || i->aux > 3) {
        t->complex = true;
        return;
    }
    bool zero = i->arg[1] != IR_NONE && const_of(t, i->arg[0], &c) && !c;
    if (i->arg[1] != IR_NONE)
        index = use(t, i->arg[1]);
    if (!zero)
        base = use(t, i->arg[0]);
    for (unsigned k = 0; k < 2; k++) /* all is read before the result is written */
        if (i->arg[k] != IR_NONE && t->v[i->arg[k]].last <= t->now)
            t->bank[INT].locked &= ~REG_BIT(k ? index : base == NO_REG ? 0 : base);
    emit_mem(t, 0, 0x8d, size, def(t, self), base, index, i->aux, (int32_t)i->imm);
    t->v[self].clean = size == 4;
}

static void do_select(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    if (is_xmm_type((enum ir_type)i->type)) {
        t->complex = true;
        return;
    }
    unsigned cc = condition(t, i->arg[0]);
    ir_ref flags = t->host_flags;
    /* Loads and moves alone from here on: EFLAGS hold the condition. */
    unsigned rb = use(t, i->arg[1]), r = def_from(t, self, i->arg[2]);
    emit_rr(t, 0, 0x0f40 | cc, 8, r, rb);
    t->host_flags = flags;
    t->v[self].clean = false;
}

static void do_count(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    static const uint16_t op[IR_OP_COUNT] = {[IR_clz] = 0xbd, [IR_ctz] = 0xbc, [IR_popcnt] = 0xb8};
    unsigned size = size_of((enum ir_type)i->type), a = use(t, i->arg[0]), r = def(t, self);
    emit_rr(t, 0xf3, 0x0f00u | op[i->op], size, r, a);
    t->v[self].clean = size == 4;
    t->host_flags = IR_NONE;
}

static void do_bswap(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    unsigned size = size_of((enum ir_type)i->type), r = def_from(t, self, i->arg[0]);
    if (size == 2) {
        emit_shift_imm(t, 0, 2, r, 8);
        t->host_flags = IR_NONE;
        return;
    }
    put8(t, 0x40 | (size == 8 ? 8u : 0) | r >> 3);
    put8(t, 0x0f);
    put8(t, 0xc8 | (r & 7));
    t->v[self].clean = size == 4;
}

/* --- What is rare: the evaluator itself */
uint64_t tcg_evaluate(void *state, uint64_t a, uint64_t b, uint64_t c, uint64_t op_type_aux)
{
    const uint64_t arg[3] = {a, b, c};
    (void)state;
    return ir_eval((enum ir_op)(op_type_aux & 0xff), (enum ir_type)(op_type_aux >> 8 & 0xff), op_type_aux >> 16 & 0xffff, 0, arg);
}

/* Argument registers of emit_call. */
static const uint8_t arguments_in[] = {RSI, RDX, RCX, RAX};
static void arguments(struct tcg *t, const ir_ref *args, unsigned count)
{
    for (unsigned k = 0; k < count; k++)
        if (args[k] != IR_NONE)
            gpr_take(t, arguments_in[k]);
    for (unsigned k = 0; k < count; k++)
        if (args[k] != IR_NONE)
            use_in(t, args[k], arguments_in[k]);
}

/* Each value is cut to its width as the evaluator wants it. */
static void do_evaluate(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    spill_for_call(t, 0);
    arguments(t, i->arg, 3);
    for (unsigned k = 0; k < 3; k++) {
        unsigned bits = i->arg[k] == IR_NONE ? 64 : ir_type_bits(type_of(t, i->arg[k]));
        if (bits == 32)
            emit_mov32(t, arguments_in[k], arguments_in[k]);
        else if (bits < 32)
            emit_alu_imm(t, 4, 4, arguments_in[k], (int32_t)ir_cut(~0ull, bits));
    }
    emit_imm(t, RAX, (uint64_t)i->op | (uint64_t)i->type << 8 | (uint64_t)i->aux << 16);
    emit_call(t, CALL_EVALUATE);
    call_done(t, 0);
    own(t, self, RAX);
    t->host_flags = IR_NONE;
}

/* --- State */
static void do_code(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    unsigned size = size_of((enum ir_type)i->type), r = def(t, self);
    emit_imm(t, r, (uint64_t)(t->o->code + i->imm));
    t->fixed = true;
    switch (i->aux) {
    case 1: emit_rm(t, 0, 0x0fbe, size == 8 ? 8 : 4, r, r, 0); break;
    case 2: emit_rm(t, 0, 0x0fbf, size == 8 ? 8 : 4, r, r, 0); break;
    case 4: emit_rm(t, 0, size == 8 ? 0x63 : 0x8b, size == 8 ? 8 : 4, r, r, 0); break;
    case 8: emit_rm(t, 0, 0x8b, 8, r, r, 0); break;
    default: t->complex = true;
    }
    t->v[self].clean = size == 4;
}

/* An access to a part of a pinned slot goes through memory. */
static void pinned_sync(struct tcg *t, int64_t slot, unsigned reg, bool to_state)
{
    bool is_int = (uint64_t)slot - t->pins->ints < 8 * PINNED_INTS;
    uint64_t base = is_int ? t->pins->ints : t->pins->vectors, stride = is_int ? 8 : VECTOR_STRIDE;
    int32_t at = (int32_t)(base + ((uint64_t)slot - base) / stride * stride);
    if (is_int)
        emit_rm(t, 0, to_state ? 0x89 : 0x8b, 8, reg, RBP, at);
    else
        emit_rm(t, 0, to_state ? 0x0f29 : 0x0f28, 4, reg, RBP, at);
}

static void do_get(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    int32_t at = (int32_t)i->imm;
    bool whole;
    unsigned pinned = pinned_reg(t, i->imm, (enum ir_type)i->type, &whole);
    if (pinned != NO_REG && whole) {
        pinned_get(t, self, is_xmm_type((enum ir_type)i->type) ? XMM : INT, pinned);
        return;
    }
    if (pinned != NO_REG)
        pinned_sync(t, i->imm, pinned, true);
    if (i->imm == t->g->mxcsr_offset)
        tcg_mxcsr_sync(t);
    if (i->imm == t->pins->flags)
        flags_settle(t);
    if (is_xmm_type((enum ir_type)i->type)) {
        emit_rm(t, 0, 0x0f10, 4, xmm_def(t, self), RBP, at);
        return;
    }
    unsigned r = def(t, self);
    switch (size_of((enum ir_type)i->type)) {
    case 1: emit_rm(t, 0, 0x0fb6, 4, r, RBP, at); break;
    case 2: emit_rm(t, 0, 0x0fb7, 4, r, RBP, at); break;
    case 4: emit_rm(t, 0, 0x8b, 4, r, RBP, at); break;
    case 8: emit_rm(t, 0, 0x8b, 8, r, RBP, at); break;
    default: t->complex = true;
    }
    t->v[self].clean = i->type == IR_I32;
}

/* base + index (or NO_REG) + at; what the value needs was `use`d before. */
static void store_value(struct tcg *t, ir_ref v, unsigned base, unsigned index, int32_t at)
{
    enum ir_type ty = type_of(t, v);
    unsigned size = size_of(ty);
    int64_t c;
    if (is_xmm_type(ty)) {
        emit_mem(t, 0, 0x0f11, 4, xmm_use(t, v), base, index, 0, at);
    } else if (size > 8) {
        t->complex = true;
    } else if (const_of(t, v, &c) && c == (int32_t)c) {
        emit_mem(t, 0, size == 1 ? 0xc6 : 0xc7, size, 0, base, index, 0, at);
        emit_imm_bytes(t, size, c);
    } else {
        emit_mem(t, 0, size == 1 ? 0x88 : 0x89, size, use(t, v), base, index, 0, at);
    }
}

static void do_put(struct tcg *t, const struct ir_insn *i)
{
    bool whole;
    enum ir_type ty = type_of(t, i->arg[0]);
    unsigned pinned = pinned_reg(t, i->imm, ty, &whole);
    enum bank_name bank = (uint64_t)i->imm - t->pins->ints < 8 * PINNED_INTS ? INT : XMM;
    if (pinned != NO_REG && whole) {
        pinned_put(t, i->arg[0], bank, pinned);
        return;
    }
    if (i->imm == t->pins->flags && flags_put(t, i))
        return;
    if (pinned != NO_REG) {
        pinned_evacuate(t, bank, pinned, IR_NONE);
        pinned_sync(t, i->imm, pinned, true);
    }
    store_value(t, i->arg[0], RBP, NO_REG, (int32_t)i->imm);
    if (pinned != NO_REG)
        pinned_sync(t, i->imm, pinned, false);
    if (i->imm == t->g->mxcsr_offset)
        tcg_mxcsr_load(t);
}

/* --- Memory */
static void table_index(struct tcg *t, unsigned r, unsigned ea)
{
    if (t->pins->has_bextr) { /* RBX's low bits are the control: write_base */
        emit_bextr(t, r, ea, RBX);
        return;
    }
    emit_mov(t, r, ea);
    emit_shift_imm(t, 4, 8, r, 16);
    emit_shift_imm(t, 5, 8, r, 28);
}

static void do_translate(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    unsigned size = (unsigned)i->imm, access = i->aux;
    unsigned align = size == 10 ? 16 : size; /* of what never straddles pages */
    if (align > 16 || align & (align - 1)) {
        t->complex = true;
        return;
    }
    unsigned ea = use(t, i->arg[0]), r = def(t, self);
    struct cold *unaligned = NULL;
    t->host_flags = IR_NONE;
    if (size > 1) {
        emit_rr(t, 0, 0xf6, 1, 0, ea);
        put8(t, align - 1);
        unaligned = cold_new(t, access & (IR_ALIGNED | IR_AC) ? COLD_TRANSLATE : COLD_UNALIGNED);
        unaligned->from = emit_jcc(t, CC_NZ);
        unaligned->back = here(t);
    }
    table_index(t, r, ea);
    if (access & IR_WRITE)
        emit_mem(t, 0, 0x8b, 8, r, RBX, r, 3, -TCG_WRITE_BIAS);
    else
        emit_gs_load(t, r, r);
    emit_rr(t, 0, 0x85, 8, r, r);
    struct cold *c = cold_new(t, COLD_TRANSLATE);
    c->from = emit_jcc(t, CC_Z);
    c->back = here(t);
    c->ea = (uint8_t)ea;
    c->to = (uint8_t)r;
    c->size_access = size | access << 8;
    c->way = tcg_site_way(t);
    if (unaligned) {
        unaligned->ea = c->ea;
        unaligned->to = c->to;
        unaligned->size_access = c->size_access;
        if (unaligned->kind == COLD_TRANSLATE) {
            unaligned->back = c->back;
            unaligned->way = c->way;
        }
    }
}

void place_of(struct tcg *t, ir_ref token, unsigned *base, unsigned *index)
{
    *index = NO_REG;
    if (t->b->insns[token].op == IR_translate && !t->v[token].whole) {
        *index = use(t, t->b->insns[token].arg[0]);
        *base = use_addend(t, token);
    } else {
        *base = use(t, token);
    }
}

static void do_load(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    unsigned base, index;
    int32_t at = (int32_t)i->imm;
    place_of(t, i->arg[0], &base, &index);
    unsigned way = tcg_site_way(t);
    if (is_xmm_type((enum ir_type)i->type)) {
        unsigned x = xmm_def(t, self);
        tcg_site_at(t, way);
        emit_mem(t, 0, 0x0f10, 4, x, base, index, 0, at);
        return;
    }
    unsigned size = size_of((enum ir_type)i->type), r = def(t, self);
    tcg_site_at(t, way);
    switch (size) {
    case 1: emit_mem(t, 0, 0x0fb6, 4, r, base, index, 0, at); break;
    case 2: emit_mem(t, 0, 0x0fb7, 4, r, base, index, 0, at); break;
    case 4: case 8: emit_mem(t, 0, 0x8b, size, r, base, index, 0, at); break;
    default: t->complex = true;
    }
    t->v[self].clean = size == 4;
}

static void do_store(struct tcg *t, const struct ir_insn *i)
{
    unsigned base, index;
    int64_t c;
    place_of(t, i->arg[0], &base, &index);
    if (is_xmm_type(type_of(t, i->arg[1]))) {
        xmm_use(t, i->arg[1]);
    } else if (const_of(t, i->arg[1], &c)) {
        if (c != (int32_t)c) {
            unsigned k = use(t, i->arg[1]);
            tcg_site(t);
            emit_mem(t, 0, 0x89, 8, k, base, index, 0, (int32_t)i->imm);
            return;
        }
    } else {
        use(t, i->arg[1]);
    }
    tcg_site(t);
    store_value(t, i->arg[1], base, index, (int32_t)i->imm);
}

static void lock_op(struct tcg *t, uint32_t opcode, unsigned size, unsigned reg, unsigned base)
{
    put8(t, 0xf0);
    emit_rm(t, 0, size == 1 ? opcode - 1 : opcode, size, reg, base, 0);
}

static void do_atomic(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    unsigned size = size_of((enum ir_type)i->type);
    if (size > 8) {
        t->complex = true;
        return;
    }
    flags_settle(t); /* operands are moved before the access that may fault */
    if (i->op == IR_atomic_add || i->op == IR_atomic_xchg) {
        unsigned a = use(t, i->arg[0]), r = def_from(t, self, i->arg[1]);
        tcg_site(t);
        if (i->op == IR_atomic_add)
            lock_op(t, 0x0fc1, size, r, a);
        else
            emit_rm(t, 0, size == 1 ? 0x86 : 0x87, size, r, a, 0);
    } else if (i->op == IR_atomic_cas) {
        gpr_take(t, RAX);
        unsigned a = use(t, i->arg[0]), desired = use(t, i->arg[2]);
        use_in(t, i->arg[1], RAX);
        tcg_site(t);
        lock_op(t, 0x0fb1, size, desired, a);
        own(t, self, RAX);
    } else { /* and, or, xor with the old value wanted: a loop of compare and exchange */
        static const uint8_t opcode[IR_OP_COUNT] = {[IR_atomic_and] = 0x21, [IR_atomic_or] = 0x09, [IR_atomic_xor] = 0x31};
        gpr_take(t, RAX);
        unsigned a = use(t, i->arg[0]), b = use(t, i->arg[1]), k = gpr_temp(t);
        tcg_site(t);
        emit_rm(t, 0, size == 1 ? 0x8a : 0x8b, size, RAX, a, 0);
        uint32_t again = here(t);
        emit_mov(t, k, RAX);
        emit_rr(t, 0, opcode[i->op], 8, b, k);
        lock_op(t, 0x0fb1, size, k, a);
        uint32_t back = emit_jcc(t, CC_NZ);
        emit_bind(t, back, again);
        own(t, self, RAX);
    }
    t->v[self].clean = false;
    t->host_flags = IR_NONE;
}

/* --- Helpers and ends */
static void do_call(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    const struct ir_helper *h = &t->g->helpers[i->imm];
    flags_settle(t);
    spill_for_call(t, h->writes);
    if ((h->reads | h->writes) & IR_S_VECTOR)
        tcg_mxcsr_sync(t); /* needs a register: before the arguments take theirs */
    arguments(t, i->arg, 4);
    store_pc(t, t->insn_offset);
    emit_call(t, (int32_t)i->imm);
    call_done(t, h->writes);
    t->host_flags = IR_NONE;
    if (i->type != IR_VOID && t->v[self].uses)
        own(t, self, RAX);
    if (h->writes & IR_S_VECTOR) {
        t->bank[INT].locked |= REG_BIT(RAX);
        tcg_mxcsr_load(t);
    }
    if (h->faults) {
        emit_alu_mem_imm(t, 7, 4, RBP, (int32_t)t->g->faulted_offset, 0);
        leave_if(t, CC_NZ, IR_LEAVE_FAULT);
    }
    t->v[self].clean = false;
}

/* entry = the jump table's for that PC: tcg_jump_hash */
static void jump_entry(struct tcg *t, unsigned entry, unsigned pc)
{
    emit_rr(t, 0, 0x69, 4, entry, pc);
    put32(t, TCG_JUMP_FACTOR);
    emit_shift_imm(t, 5, 4, entry, TCG_JUMP_SHIFT - JUMP_SIZE_LOG);
    emit_alu_imm(t, 4, 4, entry, JUMP_MASK << JUMP_SIZE_LOG);
    emit_rm(t, 0, 0x03, 8, entry, RBP, CONTEXT(jumps));
    emit_rm(t, 0, 0x3b, 8, pc, entry, 0);
}

/* What the table knows needs no check: it is looked at first, and where the jump is it is known. */
static void do_guard(struct tcg *t, ir_ref self)
{
    unsigned pc = use(t, t->b->insns[t->b->count - 1].arg[0]), entry = gpr_temp(t);
    t->host_flags = IR_NONE;
    jump_entry(t, entry, pc);
    struct cold *c = cold_new(t, COLD_TARGET);
    c->ea = (uint8_t)pc;
    c->to = (uint8_t)entry;
    c->from = emit_jcc(t, CC_NZ);
    c->back = here(t);
    c->way = tcg_site_way(t);
    own(t, self, entry);
}

/* IR_JUMP_MODE needs no more: the mode's entries are found by the context, and each helper call loads the tables' base anew. */
static void do_jump_to(struct tcg *t, const struct ir_insn *i)
{
    uint32_t stop, none = 0;
    unsigned entry = RCX;
    flags_settle(t);
    use_in(t, i->arg[0], RSI);
    if (t->guard != IR_NONE)
        entry = use(t, t->guard);
    emit_alu_mem_imm(t, 7, 4, RBP, (int32_t)t->g->stop_offset, 0);
    stop = emit_jcc_short(t, CC_NZ);
    if (t->guard == IR_NONE) {
        jump_entry(t, entry, RSI);
        none = emit_jcc_short(t, CC_NZ);
    }
    emit_rm(t, 0, 0xff, 4, 4, entry, offsetof(struct tcg_jump, code));
    if (none)
        emit_bind_short(t, none);
    emit_bind_short(t, stop);
    emit_rm(t, 0, 0x89, 8, RSI, RBP, (int32_t)t->g->pc_offset);
    emit_leave(t, IR_LEAVE_NEXT);
}

static void do_leave(struct tcg *t, const struct ir_insn *i)
{
    flags_settle(t);
    if (i->arg[0] != IR_NONE)
        emit_rm(t, 0, 0x89, 8, use(t, i->arg[0]), RBP, (int32_t)t->g->pc_offset);
    else
        store_pc(t, i->imm);
    emit_leave(t, (enum ir_leave)i->aux);
}

/* --- One instruction */
/* A distance that no relocation has is rare. */
static void do_pc(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    unsigned r = def(t, self);
    if (i->imm == (int32_t)i->imm) {
        emit_moving(t, r, RELOC_PC, (int32_t)i->imm);
        return;
    }
    emit_imm(t, r, pc_at(t, i->imm));
    t->fixed = true;
}

static void alias(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    int64_t c;
    bool clean = t->v[i->arg[0]].clean && type_of(t, i->arg[0]) == IR_I32 && i->type == IR_I32;
    if (const_of(t, i->arg[0], &c))
        emit_imm(t, def(t, self), ir_cut((uint64_t)c, ir_type_bits((enum ir_type)i->type)));
    else
        same_register(t, self, i->arg[0]);
    t->v[self].clean = clean;
}

static void emit_one(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    tcg_x87_before(t, i);
    t->bank[INT].locked = 0;
    switch ((enum ir_op)i->op) {
    case IR_insn:
        t->insn_offset = (uint32_t)i->imm;
        t->insns++;
        t->leave_cold = -1;
        line_note(t, t->insn_offset, false);
        break;
    case IR_const: break;
    case IR_pc: do_pc(t, i, self); break;
    case IR_code: do_code(t, i, self); break;
    case IR_get: do_get(t, i, self); break;
    case IR_put: do_put(t, i); break;
    case IR_add: case IR_sub: case IR_adc: case IR_sbb: case IR_and: case IR_or: case IR_xor: do_alu(t, i, self); break;
    case IR_neg: do_unary(t, i, self, 3); break;
    case IR_not: do_unary(t, i, self, 2); break;
    case IR_mul: do_mul(t, i, self); break;
    case IR_umulh: case IR_smulh: do_mul_high(t, i, self); break;
    case IR_udivq: case IR_udivr: case IR_sdivq: case IR_sdivr: do_div(t, i, self); break;
    case IR_shl: case IR_shr: case IR_sar: case IR_rol: case IR_ror: case IR_rcl: case IR_rcr: case IR_shld: case IR_shrd: do_shift(t, i, self); break;
    case IR_clz: case IR_ctz: case IR_popcnt:
        if (ir_host_runs((enum ir_op)i->op))
            do_count(t, i, self);
        else
            do_evaluate(t, i, self);
        break;
    case IR_bswap: do_bswap(t, i, self); break;
    case IR_sdiv_ok: case IR_pdep: case IR_pext: case IR_crc32:
        if (!tcg_bits_emit(t, i, self))
            do_evaluate(t, i, self);
        break;
    case IR_lea: do_lea(t, i, self); break;
    case IR_eq: case IR_ne: case IR_ult: case IR_ule: case IR_slt: case IR_sle: case IR_udiv_ok: case IR_test_cc:
        if (!can_be_lazy(i, t))
            t->complex = true;
        else
            make_condition(t, self);
        break;
    case IR_select: do_select(t, i, self); break;
    case IR_zext: case IR_sext: do_extend(t, i, self); break;
    case IR_trunc: case IR_flags_pack: case IR_flags_unpack: alias(t, i, self); break;
    case IR_extract: do_extract(t, i, self); break;
    case IR_deposit: do_deposit(t, i, self); break;
    case IR_flags_of: do_flags_of(t, i, self); break;
    case IR_flags_set: do_flags_set(t, i, self); break;
    case IR_translate: do_translate(t, i, self); break;
    case IR_load: do_load(t, i, self); break;
    case IR_store: do_store(t, i); break;
    case IR_atomic_add: case IR_atomic_and: case IR_atomic_or: case IR_atomic_xor: case IR_atomic_xchg: case IR_atomic_cas: do_atomic(t, i, self); break;
    case IR_fence: put8(t, 0x0f); put8(t, 0xae); put8(t, 0xf0); break;
    case IR_call: do_call(t, i, self); break;
    case IR_raise_if: case IR_divert_if:
        if (self == t->guard)
            do_guard(t, self);
        else
            leave_if(t, condition(t, i->arg[0]), IR_LEAVE_INTERPRET);
        break;
    case IR_exit_if: emit_exit(t, i->imm, (int)condition(t, i->arg[0])); break;
    case IR_jump: emit_exit(t, i->imm, -1); break;
    case IR_jump_to: do_jump_to(t, i); break;
    case IR_leave: do_leave(t, i); break;
    default: t->complex |= !tcg_x87_emit(t, i, self) && !tcg_vector_emit(t, i, self); break;
    }
}

/* --- Before: who is used where, and what is going to be put into pinned registers */
static void mark(struct tcg *t, ir_ref a, ir_ref at)
{
    if (a == IR_NONE)
        return;
    struct value *v = &t->v[a];
    const struct ir_insn *i = &t->b->insns[a];
    if (v->last < at)
        v->last = at;
    if (i->op == IR_translate) { /* accesses add the address up themselves */
        mark(t, i->arg[0], at);
    } else if (v->deferred && i->op == IR_flags_of) {
        ir_ref deps[MAX_DEPS];
        for (unsigned n = flags_deps(t, a, deps); n-- > 0;)
            mark(t, deps[n], at);
    } else if (v->lazy || v->deferred) {
        for (unsigned k = 0; k < 4; k++)
            mark(t, i->arg[k], at);
    }
}

/* Conditions with one user are made there, if that user branches on them. */
static bool takes_condition(const struct ir_insn *user, unsigned k)
{
    switch (user->op) {
    case IR_exit_if: case IR_raise_if: case IR_select: return k == 0;
    case IR_zext: return k == 0;
    case IR_flags_set: return k == 1;
    default: return false;
    }
}

static bool may_leave(const struct ir_insn *i)
{
    unsigned props = ir_op_info[i->op].props;
    return props & (FAULTS | ENDS | READS_MEM | WRITES_MEM) || i->op == IR_exit_if;
}

static void count_uses(struct tcg *t)
{
    const struct ir_block *b = t->b;
    for (ir_ref n = 0; n < b->count; n++) {
        const struct ir_insn *i = &b->insns[n];
        t->v[n] = (struct value){.reg = NO_REG, .spill = NO_REG, .want = NO_REG, .last = n};
        for (unsigned k = 0; k < 4; k++) {
            ir_ref a = i->arg[k];
            if (a == IR_NONE)
                continue;
            t->v[a].uses++;
            t->v[a].lazy = t->v[a].uses == 1 && takes_condition(i, k) && can_be_lazy(&b->insns[a], t);
        }
        if (i->op == IR_flags_of) {
            t->v[i->arg[0]].flagged = true;
            t->v[i->arg[0]].flag_uses++;
            t->v[n].deferred = flags_can_defer(t, n);
        } else if (i->op == IR_flags_pack) {
            t->v[n].deferred = t->v[i->arg[0]].deferred;
        } else {
            for (unsigned k = 0; k < 4; k++) /* packed for more than the state's slot */
                if (i->arg[k] != IR_NONE && b->insns[i->arg[k]].op == IR_flags_pack && !(i->op == IR_put && i->imm == t->pins->flags))
                    t->v[i->arg[k]].deferred = false;
        }
    }
}

/* The value that is put at n, and what it is a mere widening of, may be made in the slot's register, if nothing from
 * there on leaves the block or reads the slot as it was. */
static void want_pinned(struct tcg *t, ir_ref n, unsigned reg, int32_t floor)
{
    ir_ref a = t->b->insns[n].arg[0];
    for (;;) {
        const struct ir_insn *i = &t->b->insns[a];
        if ((int32_t)a < floor || i->op == IR_get || i->op == IR_const || t->v[a].want != NO_REG)
            return;
        t->v[a].want = (uint8_t)reg;
        if (i->op != IR_zext || i->type != IR_I64 || type_of(t, i->arg[0]) != IR_I32)
            return;
        a = i->arg[0];
    }
}

/* target << 16 >> 16, with signs */
static bool is_canonical_form(const struct tcg *t, ir_ref form, ir_ref target)
{
    const struct ir_insn *i = &t->b->insns[form], *shifted = &t->b->insns[i->arg[0]];
    int64_t right, left;
    return i->op == IR_sar && t->v[form].uses == 1 && const_of(t, i->arg[1], &right) && right == 16 && shifted->op == IR_shl &&
           t->v[i->arg[0]].uses == 1 && shifted->arg[0] == target && const_of(t, shifted->arg[1], &left) && left == 16;
}

static void find_guard(struct tcg *t)
{
    const struct ir_block *b = t->b;
    ir_ref end = b->count - 1, target = b->insns[end].arg[0];
    int64_t c;
    t->guard = IR_NONE;
    for (ir_ref n = end; b->insns[end].op == IR_jump_to && !const_of(t, target, &c) && n-- > target;) {
        const struct ir_insn *i = &b->insns[n], *bad = &b->insns[i->arg[0]];
        if (i->op != IR_raise_if || bad->op != IR_ne || t->v[i->arg[0]].uses != 1 || bad->arg[1] != target || !is_canonical_form(t, bad->arg[0], target))
            continue;
        t->v[b->insns[bad->arg[0]].arg[0]].done = t->v[bad->arg[0]].done = t->v[i->arg[0]].done = true;
        t->v[n].last = end;
        t->guard = n;
        return;
    }
}

static void analyse(struct tcg *t)
{
    const struct ir_block *b = t->b;
    int32_t left = 0, touched[BANKS][16] = {{0}};
    ir_ref pending = IR_NONE;
    count_uses(t);
    find_guard(t);
    for (ir_ref n = 0; n < b->count; n++) {
        const struct ir_insn *i = &b->insns[n];
        bool whole;
        for (unsigned k = 0; k < 4; k++) {
            mark(t, i->arg[k], n);
            if (i->op == IR_flags_of && k == 0 && !t->v[n].deferred)
                for (unsigned j = 0; j < 4; j++)
                    mark(t, b->insns[i->arg[0]].arg[j], n);
        }
        if (may_leave(i) && pending != IR_NONE)
            mark(t, pending, n);
        if (i->op == IR_get || i->op == IR_put) {
            enum ir_type ty = i->op == IR_get ? (enum ir_type)i->type : type_of(t, i->arg[0]);
            unsigned reg = pinned_reg(t, i->imm, ty, &whole);
            unsigned bank = (uint64_t)i->imm - t->pins->ints < 8 * PINNED_INTS ? INT : XMM;
            if (reg != NO_REG && i->op == IR_put && whole)
                want_pinned(t, n, reg, left > touched[bank][reg] ? left : touched[bank][reg]);
            if (reg != NO_REG)
                touched[bank][reg] = n + 1;
            if (i->op == IR_put && i->imm == t->pins->flags)
                pending = t->v[i->arg[0]].deferred ? b->insns[i->arg[0]].arg[0] : IR_NONE;
        }
        if (may_leave(i))
            left = i->op == IR_load ? n : n + 1;
    }
}

static bool is_dead(const struct tcg *t, ir_ref n)
{
    const struct ir_insn *i = &t->b->insns[n];
    bool pure = ir_op_info[i->op].props & PURE || i->op == IR_get;
    return t->v[n].done || t->v[n].lazy || (pure && !t->v[n].uses) || (i->op == IR_flags_pack && t->v[n].deferred);
}

/* Are the flags overwritten before anything can see them? */
static bool kills_flags(const struct tcg *t)
{
    for (ir_ref n = 0; n < t->b->count && !t->o->icount; n++) {
        const struct ir_insn *i = &t->b->insns[n];
        if (i->op == IR_put && i->imm == t->pins->flags)
            return true;
        if (may_leave(i) || (i->op == IR_get && i->imm == t->pins->flags))
            return false;
    }
    return false;
}

/* Flags that an operation takes packed get a register before it names any of its own. */
static void pack_operands(struct tcg *t, const struct ir_insn *i)
{
    if (i->op == IR_test_cc || i->op == IR_flags_pack || (i->op == IR_flags_of && t->v[t->now].deferred))
        return;
    for (unsigned k = i->op == IR_flags_of; k < 4; k++)
        if (i->arg[k] != IR_NONE && t->b->insns[i->arg[k]].op == IR_flags_of && t->v[i->arg[k]].deferred)
            use(t, i->arg[k]);
    t->bank[INT].locked = 0; /* what the packing needed is done with */
}

/* In a form of which the first eight bytes can be written over at once: see tcg_redirect. */
static void emit_counting(struct tcg *t)
{
    if (!t->o->counter)
        return;
    put8(t, 0x83); /* sub dword [rbp + disp32], 1 */
    put8(t, 0xad);
    put32(t, (uint32_t)t->o->counter);
    put8(t, 1);
    struct cold *c = cold_new(t, COLD_HOT);
    c->from = emit_jcc(t, CC_S);
    t->out->body = here(t);
}

static void emit_block(struct tcg *t)
{
    emit_counting(t);
    if (t->o->icount) {
        emit_alu_mem_imm(t, 5, 8, RBP, (int32_t)t->g->icount_offset, (int32_t)t->b->guest_insns);
        struct cold *c = cold_new(t, COLD_LEAVE);
        c->reason = IR_LEAVE_EXIT;
        c->insns = 1;
        c->from = emit_jcc(t, 8);
    }
    for (ir_ref n = 0; n < t->b->count && !t->full && !t->complex; n++) {
        t->now = n;
        if (!is_dead(t, n)) {
            pack_operands(t, &t->b->insns[n]);
            emit_one(t, &t->b->insns[n], n);
        }
        release(t);
    }
    if (!t->full && !t->complex)
        emit_cold(t);
}

enum tcg_result tcg_compile(struct tcg_buffer *buffer, size_t *at, size_t limit, const struct ir_block *b,
                            const struct tcg_options *o, struct tcg_block *out)
{
    uint8_t *write, *end;
    const uint8_t *run, *unused;
    struct value *values;
    const struct tcg_pins *pins;
    size_t start = (*at + 15) & ~(size_t)15;
    if (start + 64 > limit)
        return TCG_FULL;
    if (b->count > 4000 || b->out_of_memory)
        return TCG_TOO_COMPLEX;
    struct tcg *t = tcg_buffer_scratch(buffer, o->guest, b->count, &values, &pins);
    if (!t)
        return TCG_TOO_COMPLEX;
    tcg_buffer_populate(buffer, start);
    tcg_buffer_place(buffer, start, &write, &run);
    tcg_buffer_place(buffer, limit, &end, &unused);
    *out = (struct tcg_block){0};
    memset(t, 0, offsetof(struct tcg, shifts_differ));
    t->b = b;
    t->o = o;
    t->g = o->guest;
    t->pins = pins;
    t->start = t->p = write;
    t->limit = end;
    t->run = run;
    t->v = values;
    t->host_flags = t->pending.flags = IR_NONE;
    t->out = out;
    t->leave_cold = -1;
    for (unsigned bank = 0; bank < BANKS; bank++)
        memset(t->bank[bank].owner, 0xff, sizeof t->bank[bank].owner);
    analyse(t);
    out->kills_flags = kills_flags(t);
    emit_block(t);
    enum tcg_result result = t->complex ? TCG_TOO_COMPLEX : t->full ? TCG_FULL : TCG_OK;
    if (result == TCG_OK && t->sites_n) {
        out->sites = malloc(t->sites_n * sizeof *out->sites);
        if (!out->sites)
            return TCG_TOO_COMPLEX;
        memcpy(out->sites, t->sites, t->sites_n * sizeof *out->sites);
        out->site_count = t->sites_n;
    }
    out->pc_bits = t->b->pc_bits;
    if (result == TCG_OK && o->moves && !t->fixed && (out->relocs = malloc(t->relocs_n * sizeof *out->relocs + 1))) {
        memcpy(out->relocs, t->relocs, t->relocs_n * sizeof *out->relocs);
        out->reloc_count = t->relocs_n;
    }
    if (result == TCG_OK) {
        out->entry = (void *)run;
        if (out->body)
            memcpy(&out->counting, t->start, sizeof out->counting);
        out->code_size = here(t);
        *at = start + out->code_size;
    }
    return result;
}

const void *tcg_fault_resume(const struct tcg_block *b, const void *host_pc)
{
    uintptr_t offset = (uintptr_t)host_pc - (uintptr_t)b->entry;
    for (unsigned i = 0; i < b->site_count; i++)
        if (b->sites[i].fast_offset == offset)
            return (const char *)b->entry + b->sites[i].slow_offset;
    return NULL;
}
