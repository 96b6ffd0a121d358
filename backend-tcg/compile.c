/* One pass over a block: each IR operation becomes a few host instructions; what is rare waits as cold code behind
 * the block.  State slots are written where the IR writes them, so at every way out the state is that of the
 * guest instruction; a cold path that cannot go on leaves to the interpreter at that instruction. */
#include "backend-tcg/internal.h"
#include <stdlib.h>

enum { CC_B = 2, CC_Z = 4, CC_NZ = 5, CC_L = 12 };

struct cold *cold_new(struct tcg *t, enum cold_kind kind)
{
    if (t->colds == MAX_COLD) {
        t->complex = true;
        t->colds--;
    }
    struct cold *c = &t->cold[t->colds++];
    *c = (struct cold){.kind = kind, .insn_offset = t->insn_offset, .insns = t->insns, .exit = -1, .x87 = t->x87_pointers};
    return c;
}

static uint64_t pc_at(const struct tcg *t, int64_t offset)
{
    return ir_cut(t->o->pc + (uint64_t)offset, t->b->pc_bits);
}

/* --- The cold way to the interpreter at this guest instruction, shared by all that needs it */
static unsigned leave_cold(struct tcg *t)
{
    if (t->leave_cold < 0) {
        struct cold *c = cold_new(t, COLD_LEAVE);
        c->reason = IR_LEAVE_INTERPRET;
        t->leave_cold = (int)(c - t->cold);
    }
    return (unsigned)t->leave_cold;
}

/* A conditional jump there: through a cold jump of its own, so that any number may share it. */
static void leave_if(struct tcg *t, unsigned cc, enum ir_leave reason)
{
    struct cold *c = cold_new(t, COLD_LEAVE);
    c->reason = reason;
    c->from[0] = emit_jcc(t, cc);
}

void tcg_site(struct tcg *t)
{
    if (t->sites_n == sizeof t->sites / sizeof *t->sites) {
        t->complex = true;
        return;
    }
    t->sites[t->sites_n++] = (struct tcg_fault_site){here(t), leave_cold(t)};
}

/* --- Conditions */
static unsigned flags_reg(struct tcg *t, ir_ref f) { return use(t, f); }

/* EFLAGS = packed flags of f, by RAX. */
static void flags_restore(struct tcg *t, ir_ref f)
{
    use_in(t, f, RAX);
    emit_alu_imm(t, 0, 1, RAX, 0x7f);  /* OF from bit 0 */
    put8(t, 0x9e);                     /* sahf */
}

static unsigned cond_flags(struct tcg *t, ir_ref f, unsigned cc)
{
    static const uint16_t bits[16] = {[IR_CC_O] = IR_FLAG_O, [IR_CC_B] = IR_FLAG_C, [IR_CC_Z] = IR_FLAG_Z, [IR_CC_BE] = IR_FLAG_C | IR_FLAG_Z,
                                      [IR_CC_S] = IR_FLAG_S, [IR_CC_P] = IR_FLAG_P};
    if (t->host_flags == f)
        return cc;
    if (bits[cc & ~1u]) {
        unsigned r = flags_reg(t, f);
        emit_rr(t, 0, 0xf7, 4, 0, r);
        put32(t, bits[cc & ~1u]);
        t->host_flags = IR_NONE;
        return cc & 1 ? CC_Z : CC_NZ;
    }
    flags_restore(t, f);
    t->host_flags = f;
    return cc;
}

static void compare(struct tcg *t, ir_ref a, ir_ref b)
{
    unsigned size = size_of(type_of(t, a));
    int64_t c;
    if (const_of(t, b, &c) && c == (int32_t)c) {
        unsigned ra = use(t, a);
        if (c == 0 )
            emit_rr(t, 0, size == 1 ? 0x84 : 0x85, size, ra, ra);
        else
            emit_alu_imm(t, 7, size, ra, (int32_t)c);
    } else {
        unsigned ra = use(t, a), rb = use(t, b);
        emit_rr(t, 0, size == 1 ? 0x38 : 0x39, size, rb, ra);
    }
    t->host_flags = IR_NONE;
}

/* Emits what sets EFLAGS so that the returned condition is the i1 value. */
static unsigned condition(struct tcg *t, ir_ref r)
{
    const struct ir_insn *i = &t->b->insns[r];
    static const uint8_t codes[IR_OP_COUNT] = {[IR_eq] = 4, [IR_ne] = 5, [IR_ult] = 2, [IR_ule] = 6, [IR_slt] = 12, [IR_sle] = 14};
    if (t->v[r].lazy) {
        if (i->op == IR_test_cc)
            return cond_flags(t, i->arg[0], i->aux);
        if (i->op == IR_udiv_ok) { /* the high half is below the divisor */
            compare(t, i->arg[0], i->arg[2]);
            return CC_B;
        }
        compare(t, i->arg[0], i->arg[1]);
        return codes[i->op];
    }
    unsigned reg = use(t, r);
    emit_rr(t, 0, 0xf6, 1, 0, reg);
    put8(t, 1);
    t->host_flags = IR_NONE;
    return CC_NZ;
}

static bool can_be_lazy(const struct ir_insn *i, const struct tcg *t)
{
    switch (i->op) {
    case IR_test_cc: return true;
    case IR_eq: case IR_ne: case IR_ult: case IR_ule: case IR_slt: case IR_sle: case IR_udiv_ok:
        return type_of(t, i->arg[0]) != IR_I1 && type_of(t, i->arg[0]) != IR_I128;
    default: return false;
    }
}

static void make_condition(struct tcg *t, ir_ref self)
{
    t->v[self].lazy = true; /* for condition() */
    unsigned cc = condition(t, self);
    t->v[self].lazy = false;
    unsigned r = def(t, self);
    emit_rr(t, 0, 0x0f90 | cc, 1, 0, r);
    emit_rr(t, 0, 0x0fb6, 1, r, r);
}

/* --- Arithmetic */
static const uint8_t alu_digit[IR_OP_COUNT] = {[IR_add] = 0, [IR_or] = 1, [IR_adc] = 2, [IR_sbb] = 3, [IR_and] = 4, [IR_sub] = 5, [IR_xor] = 6};

static unsigned width(const struct tcg *t, ir_ref self)
{
    unsigned size = size_of((enum ir_type)t->b->insns[self].type);
    return t->v[self].flagged || size > 4 ? size : 4;
}

static void carry_in(struct tcg *t, ir_ref f)
{
    unsigned r = flags_reg(t, f);
    emit_rr(t, 0, 0x0fba, 4, 4, r); /* bt r, 8 */
    put8(t, 8);
}

static void alu_apply(struct tcg *t, const struct ir_insn *i, unsigned size, unsigned to)
{
    unsigned digit = alu_digit[i->op];
    int64_t c;
    if (const_of(t, i->arg[1], &c) && c == (int32_t)c) {
        emit_alu_imm(t, digit, size, to, (int32_t)c);
    } else {
        unsigned rb = t->v[i->arg[1]].reg;
        emit_rr(t, 0, digit << 3 | (size > 1), size, rb, to);
    }
}

static bool needs_register(const struct tcg *t, ir_ref b)
{
    int64_t c;
    return !(const_of(t, b, &c) && c == (int32_t)c);
}

static void do_alu(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    unsigned size = width(t, self), rb = NO_REG;
    if (needs_register(t, i->arg[1]))
        rb = use(t, i->arg[1]);
    int64_t c;
    bool big_const = const_of(t, i->arg[1], &c) && rb != NO_REG;
    if (i->op == IR_adc || i->op == IR_sbb)
        flags_reg(t, i->arg[2]);
    unsigned r = def_from(t, self, i->arg[0]);
    if (i->op == IR_adc || i->op == IR_sbb)
        carry_in(t, i->arg[2]);
    if (big_const)
        emit_rr(t, 0, (unsigned)alu_digit[i->op] << 3 | (size > 1), size, rb, r);
    else
        alu_apply(t, i, size, r);
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

static void do_mul(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    unsigned size = size_of((enum ir_type)i->type) == 8 ? 8 : 4, rb = use(t, i->arg[1]), r = def_from(t, self, i->arg[0]);
    emit_rr(t, 0, 0x0faf, size, r, rb);
    t->v[self].clean = size == 4;
    t->host_flags = IR_NONE;
}

static void own(struct tcg *t, ir_ref self, unsigned reg)
{
    t->owner[reg] = self;
    t->v[self].reg = (uint8_t)reg;
    t->v[self].clean = true;
}

/* High halves: RDX of the one-operand form. */
static void do_mul_high(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    unsigned size = size_of((enum ir_type)i->type);
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
static const uint8_t shift_digit[IR_OP_COUNT] = {[IR_rol] = 0, [IR_ror] = 1, [IR_rcl] = 2, [IR_rcr] = 3, [IR_shl] = 4, [IR_shr] = 5, [IR_sar] = 7};

static bool is_shift(unsigned op) { return op == IR_shl || op == IR_shr || op == IR_sar || op == IR_rol || op == IR_ror || op == IR_rcl || op == IR_rcr; }
static bool is_rotate(unsigned op) { return op == IR_rol || op == IR_ror || op == IR_rcl || op == IR_rcr; }
static bool is_double(unsigned op) { return op == IR_shld || op == IR_shrd; }

static ir_ref count_of(const struct ir_insn *i) { return is_double(i->op) ? i->arg[2] : i->arg[1]; }

/* The shift itself on register r; a variable count is in CL. */
static void shift_apply(struct tcg *t, const struct ir_insn *i, unsigned r)
{
    unsigned size = size_of((enum ir_type)i->type);
    int64_t c;
    bool fixed = const_of(t, count_of(i), &c);
    if (is_double(i->op)) {
        unsigned rb = t->v[i->arg[1]].reg;
        emit_rr(t, 0, (i->op == IR_shld ? 0x0fa4u : 0x0facu) | !fixed, size, rb, r);
        if (fixed)
            put8(t, (uint8_t)c);
    } else if (fixed) {
        emit_shift_imm(t, shift_digit[i->op], size, r, (uint8_t)c);
    } else {
        emit_rr(t, 0, size == 1 ? 0xd2 : 0xd3, size, shift_digit[i->op], r);
    }
}

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
        flags_reg(t, i->arg[2]);
    unsigned r = def_from(t, self, i->arg[0]);
    if (i->op == IR_rcl || i->op == IR_rcr)
        carry_in(t, i->arg[2]);
    shift_apply(t, i, r);
    t->v[self].clean = size_of((enum ir_type)i->type) == 4 && fixed && c & 31;
    bool all = fixed && const_of(t, count_of(i), &c) && c & (i->type == IR_I64 ? 63 : 31) && !is_rotate(i->op);
    t->host_flags = all && t->v[self].flagged ? self : IR_NONE;
}

/* --- Flags */
/* Makes EFLAGS those of operation p once more; for shifts on top of `old`. */
static void flags_again(struct tcg *t, const struct ir_insn *p, ir_ref old)
{
    unsigned size = size_of((enum ir_type)p->type);
    int64_t c;
    if (is_shift(p->op) || is_double(p->op)) {
        if (!const_of(t, count_of(p), &c)) {
            gpr_take(t, RCX);
            use_in(t, count_of(p), RCX);
        }
        gpr_take(t, RAX);
        if (is_double(p->op))
            use(t, p->arg[1]);
        unsigned r = gpr_temp(t), a = use(t, p->arg[0]);
        emit_mov(t, r, a);
        if (p->op == IR_rcl || p->op == IR_rcr)
            flags_reg(t, p->arg[2]);
        if (old != IR_NONE)
            flags_restore(t, old);
        if (p->op == IR_rcl || p->op == IR_rcr)
            carry_in(t, p->arg[2]);
        shift_apply(t, p, r);
        return;
    }
    if (p->op == IR_neg) {
        unsigned a = use(t, p->arg[0]), r = gpr_temp(t);
        emit_mov(t, r, a);
        emit_rr(t, 0, size == 1 ? 0xf6 : 0xf7, size, 3, r);
        return;
    }
    unsigned rb = NO_REG;
    bool imm = !needs_register(t, p->arg[1]);
    if (!imm)
        rb = use(t, p->arg[1]);
    unsigned a = use(t, p->arg[0]), r = gpr_temp(t);
    emit_mov(t, r, a);
    if (p->op == IR_adc || p->op == IR_sbb)
        carry_in(t, p->arg[2]);
    if (imm)
        alu_apply(t, p, size, r);
    else
        emit_rr(t, 0, (unsigned)alu_digit[p->op] << 3 | (size > 1), size, rb, r);
}

static void do_flags_of(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    const struct ir_insn *p = &t->b->insns[i->arg[0]];
    bool live = t->host_flags == i->arg[0], merge = i->aux != IR_M_ALL && !is_rotate(p->op);
    if (!live)
        flags_again(t, p, i->arg[1]);
    gpr_take(t, RAX);
    emit_rr(t, 0, 0x0f90, 1, 0, RAX);  /* seto al */
    put8(t, 0x9f);                     /* lahf */
    emit_rr(t, 0, 0x0fb7, 4, RAX, RAX);
    own(t, self, RAX);
    t->host_flags = self;
    if (!merge)
        return;
    uint32_t mask = ir_mask_to_packed(i->aux);
    unsigned old = flags_reg(t, i->arg[1]), r = gpr_temp(t);
    emit_mov32(t, r, old);
    emit_alu_imm(t, 4, 4, RAX, (int32_t)mask);
    emit_alu_imm(t, 4, 4, r, (int32_t)(IR_FLAGS_ALL & ~mask));
    emit_rr(t, 0, 0x09, 4, r, RAX);
    t->host_flags = IR_NONE;
}

static void do_flags_set(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    uint32_t mask = ir_mask_to_packed(i->aux);
    int64_t c;
    if (const_of(t, i->arg[1], &c)) {
        unsigned r = def_from(t, self, i->arg[0]);
        emit_alu_imm(t, c & 1 ? 1 : 4, 4, r, (int32_t)(c & 1 ? mask : ~mask));
    } else {
        unsigned cc = condition(t, i->arg[1]), bit = gpr_temp(t);
        emit_rr(t, 0, 0x0f90 | cc, 1, 0, bit);
        emit_rr(t, 0, 0x0fb6, 1, bit, bit);
        emit_rr(t, 0, 0xf7, 4, 3, bit);
        emit_alu_imm(t, 4, 4, bit, (int32_t)mask);
        unsigned r = def_from(t, self, i->arg[0]);
        emit_alu_imm(t, 4, 4, r, (int32_t)~mask);
        emit_rr(t, 0, 0x09, 4, bit, r);
    }
    t->host_flags = IR_NONE;
}

/* --- Widths, fields */
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
        def_from(t, self, i->arg[0]);
        return;
    }
    unsigned a = use(t, i->arg[0]), r;
    if (t->v[i->arg[0]].last <= t->now) {
        t->locked &= ~REG_BIT(a);
        r = def_from(t, self, i->arg[0]);
    } else {
        r = def(t, self);
    }
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
    unsigned size = size_of((enum ir_type)i->type) == 8 ? 8 : 4;
    int64_t ca, imm = i->imm;
    bool wide = imm != (int32_t)imm;
    if (i->arg[1] != IR_NONE) {
        unsigned a = use(t, i->arg[0]), x = use(t, i->arg[1]), r = def(t, self);
        emit_mov(t, r, x);
        if (i->aux)
            emit_shift_imm(t, 4, size, r, i->aux);
        emit_rr(t, 0, 0x01, size, a, r);
        if (imm && !wide)
            emit_alu_imm(t, 0, size, r, (int32_t)imm);
        t->host_flags = IR_NONE;
        (void)ca;
    } else {
        unsigned a = use(t, i->arg[0]);
        if (t->v[i->arg[0]].last <= t->now)
            t->locked &= ~REG_BIT(a);
        unsigned r = t->v[i->arg[0]].last <= t->now && t->v[i->arg[0]].reg != NO_REG ? def_from(t, self, i->arg[0]) : def(t, self);
        if (!wide)
            emit_rm(t, 0, 0x8d, size, r, a, (int32_t)imm);
    }
    if (wide)
        t->complex = true;
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
static uint64_t evaluate(uint64_t op_type_aux, uint64_t a, uint64_t b, uint64_t c)
{
    const uint64_t arg[3] = {a, b, c};
    return ir_eval((enum ir_op)(op_type_aux & 0xff), (enum ir_type)(op_type_aux >> 8 & 0xff), op_type_aux >> 16 & 0xffff, 0, arg);
}

/* Argument registers of a C call; each value is cut to its width as the evaluator wants it. */
static void arguments(struct tcg *t, const ir_ref *args, unsigned count, const uint8_t *regs)
{
    for (unsigned k = 0; k < count; k++)
        if (args[k] != IR_NONE)
            gpr_take(t, regs[k]);
    for (unsigned k = 0; k < count; k++)
        if (args[k] != IR_NONE)
            use_in(t, args[k], regs[k]);
}

static void do_evaluate(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    static const uint8_t regs[] = {RSI, RDX, RCX};
    spill_for_call(t);
    arguments(t, i->arg, 3, regs);
    for (unsigned k = 0; k < 3; k++) {
        unsigned bits = i->arg[k] == IR_NONE ? 64 : ir_type_bits(type_of(t, i->arg[k]));
        if (bits == 32)
            emit_mov32(t, regs[k], regs[k]);
        else if (bits < 32)
            emit_alu_imm(t, 4, 4, regs[k], (int32_t)ir_cut(~0ull, bits));
    }
    emit_imm(t, RDI, (uint64_t)i->op | (uint64_t)i->type << 8 | (uint64_t)i->aux << 16);
    emit_call(t, (const void *)evaluate);
    own(t, self, RAX);
    t->host_flags = IR_NONE;
}

/* --- State */
static void do_code(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    unsigned size = size_of((enum ir_type)i->type), r = def(t, self);
    emit_imm(t, r, (uint64_t)(t->o->code + i->imm));
    switch (i->aux) {
    case 1: emit_rm(t, 0, 0x0fbe, size == 8 ? 8 : 4, r, r, 0); break;
    case 2: emit_rm(t, 0, 0x0fbf, size == 8 ? 8 : 4, r, r, 0); break;
    case 4: emit_rm(t, 0, size == 8 ? 0x63 : 0x8b, size == 8 ? 8 : 4, r, r, 0); break;
    case 8: emit_rm(t, 0, 0x8b, 8, r, r, 0); break;
    default: t->complex = true;
    }
    t->v[self].clean = size == 4;
}

static void do_get(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    int32_t at = (int32_t)i->imm;
    if (i->imm == t->g->mxcsr_offset)
        tcg_mxcsr_sync(t);
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

static void store_imm(struct tcg *t, unsigned size, unsigned base, int32_t at, int64_t c)
{
    emit_rm(t, 0, size == 1 ? 0xc6 : 0xc7, size, 0, base, at);
    put8(t, (uint8_t)c);
    if (size >= 2)
        put8(t, (uint8_t)(c >> 8));
    if (size >= 4) {
        put8(t, (uint8_t)(c >> 16));
        put8(t, (uint8_t)(c >> 24));
    }
}

static void store_value(struct tcg *t, ir_ref v, unsigned base, int32_t at)
{
    enum ir_type ty = type_of(t, v);
    unsigned size = size_of(ty);
    int64_t c;
    if (is_xmm_type(ty))
        emit_rm(t, 0, 0x0f11, 4, xmm_use(t, v), base, at);
    else if (size > 8)
        t->complex = true;
    else if (const_of(t, v, &c) && c == (int32_t)c)
        store_imm(t, size, base, at, c);
    else
        emit_rm(t, 0, size == 1 ? 0x88 : 0x89, size, use(t, v), base, at);
}

static void do_put(struct tcg *t, const struct ir_insn *i)
{
    store_value(t, i->arg[0], RBP, (int32_t)i->imm);
    if (i->imm == t->g->mxcsr_offset)
        tcg_mxcsr_load(t);
}

/* --- Memory */
static void do_translate(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    unsigned size = (unsigned)i->imm, access = i->aux;
    unsigned align = size == 10 ? 16 : size; /* of what never straddles pages */
    if (align > 16 || align & (align - 1)) {
        t->complex = true;
        return;
    }
    unsigned ea = use(t, i->arg[0]), r = def(t, self);
    int unaligned = -1;
    if (size > 1) {
        emit_rr(t, 0, 0xf6, 1, 0, ea);
        put8(t, align - 1);
        struct cold *u = cold_new(t, access & (IR_ALIGNED | IR_AC) ? COLD_TRANSLATE : COLD_UNALIGNED);
        u->from[0] = emit_jcc(t, CC_NZ);
        u->ea = (uint8_t)ea;
        u->to = (uint8_t)r;
        u->size_access = size | access << 8;
        unaligned = (int)(u - t->cold);
    }
    uint32_t fast = here(t);
    emit_mov(t, r, ea);
    emit_shift_imm(t, 4, 8, r, 16);
    emit_shift_imm(t, 5, 8, r, 28);
    if (access & IR_WRITE) {
        unsigned k = gpr_temp(t);
        emit_rm(t, 0, 0x8b, 8, k, RBP, CONTEXT(write_table));
        emit_rx(t, false, 0x8b, r, (int)k, r);
    } else {
        emit_rx(t, true, 0x8b, r, -1, r);
    }
    emit_rr(t, 0, 0x85, 8, r, r);
    struct cold *c = cold_new(t, COLD_TRANSLATE);
    c->from[0] = emit_jcc(t, CC_Z);
    emit_rr(t, 0, 0x01, 8, ea, r);
    c->ea = (uint8_t)ea;
    c->to = (uint8_t)r;
    c->size_access = size | access << 8;
    c->back = here(t);
    c->live = (uint16_t)(live_gprs(t) & ~REG_BIT(r));
    c->live_xmm = (uint16_t)live_xmms(t);
    if (unaligned >= 0) {
        struct cold *u = &t->cold[unaligned];
        u->back = u->kind == COLD_UNALIGNED ? fast : c->back;
        u->live = c->live;
        u->live_xmm = c->live_xmm;
        if (u->kind == COLD_UNALIGNED)
            u->exit = (int)(c - t->cold);
    }
    t->host_flags = IR_NONE;
}

static void do_load(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    unsigned a = use(t, i->arg[0]);
    int32_t at = (int32_t)i->imm;
    if (is_xmm_type((enum ir_type)i->type)) {
        unsigned x = xmm_def(t, self);
        tcg_site(t);
        emit_rm(t, 0, 0x0f10, 4, x, a, at);
        return;
    }
    unsigned size = size_of((enum ir_type)i->type), r = def(t, self);
    tcg_site(t);
    switch (size) {
    case 1: emit_rm(t, 0, 0x0fb6, 4, r, a, at); break;
    case 2: emit_rm(t, 0, 0x0fb7, 4, r, a, at); break;
    case 4: case 8: emit_rm(t, 0, 0x8b, size, r, a, at); break;
    default: t->complex = true;
    }
    t->v[self].clean = size == 4;
}

static void do_store(struct tcg *t, const struct ir_insn *i)
{
    unsigned a = use(t, i->arg[0]);
    int64_t c;
    if (is_xmm_type(type_of(t, i->arg[1])))
        xmm_use(t, i->arg[1]);
    else if (!const_of(t, i->arg[1], &c) || c != (int32_t)c)
        if (!const_of(t, i->arg[1], &c))
            use(t, i->arg[1]);
    if (const_of(t, i->arg[1], &c) && c != (int32_t)c) {
        unsigned k = use(t, i->arg[1]);
        tcg_site(t);
        emit_rm(t, 0, 0x89, 8, k, a, (int32_t)i->imm);
        return;
    }
    tcg_site(t);
    store_value(t, i->arg[1], a, (int32_t)i->imm);
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
    static const uint8_t regs[] = {RSI, RDX, RCX, R8};
    const struct ir_helper *h = &t->g->helpers[i->imm];
    spill_for_call(t);
    arguments(t, i->arg, 4, regs);
    if ((h->reads | h->writes) & IR_S_VECTOR)
        tcg_mxcsr_sync(t);
    emit_imm(t, RAX, pc_at(t, t->insn_offset));
    emit_rm(t, 0, 0x89, 8, RAX, RBP, (int32_t)t->g->pc_offset);
    emit_mov(t, RDI, RBP);
    emit_call(t, (const void *)h->fn);
    for (unsigned r = 0; r < 16; r++) /* arguments that ended here */
        if (CALLER_SAVED & REG_BIT(r) && t->owner[r] != IR_NONE) {
            t->v[t->owner[r]].reg = NO_REG;
            t->owner[r] = IR_NONE;
        }
    if (i->type != IR_VOID && t->v[self].uses)
        own(t, self, RAX);
    if (h->writes & IR_S_VECTOR) {
        t->locked |= REG_BIT(RAX);
        tcg_mxcsr_load(t);
    }
    if (h->faults) {
        emit_alu_mem_imm(t, 7, 4, RBP, (int32_t)t->g->faulted_offset, 0);
        leave_if(t, CC_NZ, IR_LEAVE_FAULT);
    }
    t->v[self].clean = false;
    t->host_flags = IR_NONE;
}

static void align_displacement(struct tcg *t, unsigned opcode_bytes)
{
    while (((uintptr_t)(t->run + here(t)) + opcode_bytes) & 3 && !t->full)
        put8(t, 0x90);
}

static void exit_record(struct tcg *t, struct cold *c, int64_t target, uint32_t displacement)
{
    struct tcg_block *out = t->out;
    bool gives_back = t->o->icount && t->b->guest_insns != c->insns;
    c->insn_offset = (uint32_t)target;
    if (out->exit_count == TCG_MAX_EXITS || gives_back)
        return; /* not chainable: always by the cold path */
    c->exit = (int)out->exit_count;
    out->exits[out->exit_count++] = (struct tcg_exit){.jump_offset = displacement, .pc_offset = (int32_t)target};
}

static void exit_to(struct tcg *t, int64_t target, int cc)
{
    bool back = target <= 0;
    if (back) { /* a loop: look for a request to stop */
        struct cold *c = cold_new(t, COLD_BACK);
        c->insn_offset = (uint32_t)target;
        c->from[0] = cc >= 0 ? emit_jcc(t, (unsigned)cc) : emit_jmp(t);
        return;
    }
    struct cold *c = cold_new(t, COLD_EXIT);
    align_displacement(t, cc >= 0 ? 2 : 1);
    c->from[0] = cc >= 0 ? emit_jcc(t, (unsigned)cc) : emit_jmp(t);
    exit_record(t, c, target, c->from[0]);
}

static void icount_give_back(struct tcg *t, unsigned done)
{
    if (t->o->icount && t->b->guest_insns != done)
        emit_alu_mem_imm(t, 0, 8, RBP, (int32_t)t->g->icount_offset, (int32_t)(t->b->guest_insns - done));
}

static void leave_with(struct tcg *t, enum ir_leave reason, int exit)
{
    emit_rm(t, 0, 0xc7, 8, 0, RBP, CONTEXT(exit_site));
    put32(t, (uint32_t)exit);
    emit_imm(t, RAX, (uint64_t)t->o->user);
    emit_rm(t, 0, 0x89, 8, RAX, RBP, CONTEXT(block));
    emit_imm(t, RAX, reason);
    put8(t, 0xc3);
}

static void store_pc(struct tcg *t, uint64_t pc)
{
    emit_imm(t, RAX, pc);
    emit_rm(t, 0, 0x89, 8, RAX, RBP, (int32_t)t->g->pc_offset);
}

static void do_jump_to(struct tcg *t, const struct ir_insn *i)
{
    use_in(t, i->arg[0], RSI);
    uint32_t out[2];
    emit_alu_mem_imm(t, 7, 4, RBP, (int32_t)t->g->stop_offset, 0);
    out[0] = emit_jcc(t, CC_NZ);
    emit_mov(t, RCX, RSI);
    emit_shift_imm(t, 5, 8, RCX, 12);
    emit_rr(t, 0, 0x31, 4, RSI, RCX);
    emit_alu_imm(t, 4, 4, RCX, TCG_JUMP_ENTRIES - 1);
    emit_shift_imm(t, 4, 4, RCX, 4);
    emit_rm(t, 0, 0x03, 8, RCX, RBP, CONTEXT(jumps));
    emit_imm(t, RDX, t->o->mode_id << 48);
    emit_rr(t, 0, 0x31, 8, RSI, RDX);
    emit_rm(t, 0, 0x3b, 8, RDX, RCX, 0);
    out[1] = emit_jcc(t, CC_NZ);
    emit_rm(t, 0, 0xff, 4, 4, RCX, 8);
    for (unsigned k = 0; k < 2; k++)
        emit_bind(t, out[k], here(t));
    emit_rm(t, 0, 0x89, 8, RSI, RBP, (int32_t)t->g->pc_offset);
    leave_with(t, IR_LEAVE_NEXT, -1);
}

static void do_leave(struct tcg *t, const struct ir_insn *i)
{
    if (i->arg[0] != IR_NONE) {
        unsigned r = use(t, i->arg[0]);
        emit_rm(t, 0, 0x89, 8, r, RBP, (int32_t)t->g->pc_offset);
    } else {
        store_pc(t, pc_at(t, i->imm));
    }
    leave_with(t, (enum ir_leave)i->aux, -1);
}

/* --- One instruction */
static void alias(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    int64_t c;
    bool clean = t->v[i->arg[0]].clean && type_of(t, i->arg[0]) == IR_I32 && i->type == IR_I32;
    if (const_of(t, i->arg[0], &c))
        emit_imm(t, def(t, self), ir_cut((uint64_t)c, ir_type_bits((enum ir_type)i->type)));
    else
        def_from(t, self, i->arg[0]);
    t->v[self].clean = clean;
}

static void emit_one(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    tcg_x87_before(t, i);
    switch ((enum ir_op)i->op) {
    case IR_insn:
        t->insn_offset = (uint32_t)i->imm;
        t->insns++;
        t->leave_cold = -1;
        break;
    case IR_const: break;
    case IR_pc: emit_imm(t, def(t, self), pc_at(t, i->imm)); break;
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
    case IR_clz: case IR_ctz: case IR_popcnt: do_count(t, i, self); break;
    case IR_bswap: do_bswap(t, i, self); break;
    case IR_sdiv_ok: case IR_pdep: case IR_pext: case IR_crc32: do_evaluate(t, i, self); break;
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
    case IR_raise_if: case IR_divert_if: leave_if(t, condition(t, i->arg[0]), IR_LEAVE_INTERPRET); break;
    case IR_exit_if: exit_to(t, i->imm, (int)condition(t, i->arg[0])); break;
    case IR_jump: exit_to(t, i->imm, -1); break;
    case IR_jump_to: do_jump_to(t, i); break;
    case IR_leave: do_leave(t, i); break;
    default: t->complex |= !tcg_x87_emit(t, i, self) && !tcg_vector_emit(t, i, self); break;
    }
}

/* --- Before: who is used where */
static void mark(struct tcg *t, ir_ref a, ir_ref at)
{
    if (a == IR_NONE)
        return;
    struct value *v = &t->v[a];
    const struct ir_insn *i = &t->b->insns[a];
    if (v->last < at)
        v->last = at;
    if (v->lazy)
        for (unsigned k = 0; k < 4; k++)
            mark(t, i->arg[k], at);
}

/* Conditions with one user are made there, if that user branches on them. */
static bool takes_condition(const struct ir_insn *user, unsigned k)
{
    switch (user->op) {
    case IR_exit_if: case IR_raise_if: case IR_divert_if: case IR_select: return k == 0;
    case IR_zext: return k == 0;
    case IR_flags_set: return k == 1;
    default: return false;
    }
}

static void analyse(struct tcg *t)
{
    const struct ir_block *b = t->b;
    for (ir_ref n = 0; n < b->count; n++) {
        t->v[n] = (struct value){.reg = NO_REG, .spill = NO_REG, .last = n};
        for (unsigned k = 0; k < 4; k++) {
            ir_ref a = b->insns[n].arg[k];
            if (a == IR_NONE)
                continue;
            t->v[a].uses++;
            t->v[a].lazy = t->v[a].uses == 1 && takes_condition(&b->insns[n], k) && can_be_lazy(&b->insns[a], t);
        }
        if (b->insns[n].op == IR_flags_of)
            t->v[b->insns[n].arg[0]].flagged = true;
    }
    for (ir_ref n = 0; n < b->count; n++)
        for (unsigned k = 0; k < 4; k++) {
            ir_ref a = b->insns[n].arg[k];
            mark(t, a, n);
            if (b->insns[n].op == IR_flags_of && k == 0)
                for (unsigned j = 0; j < 4; j++)
                    mark(t, b->insns[a].arg[j], n);
        }
}

static bool is_dead(const struct tcg *t, ir_ref n)
{
    const struct ir_insn *i = &t->b->insns[n];
    bool pure = ir_op_info[i->op].props & PURE || i->op == IR_get;
    return t->v[n].done || t->v[n].lazy || (pure && !t->v[n].uses);
}

static void release(struct tcg *t)
{
    for (unsigned r = 0; r < 16; r++) {
        if (t->owner[r] != IR_NONE && t->v[t->owner[r]].last <= t->now) {
            t->v[t->owner[r]].reg = NO_REG;
            t->owner[r] = IR_NONE;
        }
        if (t->owner_xmm[r] != IR_NONE && t->v[t->owner_xmm[r]].last <= t->now) {
            t->v[t->owner_xmm[r]].reg = NO_REG;
            t->owner_xmm[r] = IR_NONE;
        }
    }
    for (uint64_t s = t->spills; s; s &= s - 1) {
        unsigned k = (unsigned)__builtin_ctzll(s);
        if (t->v[t->slot_owner[k]].last <= t->now)
            t->spills &= ~(1ull << k);
    }
}

/* --- After: cold code */
static void save_restore(struct tcg *t, const struct cold *c, bool save)
{
    for (unsigned r = 0; r < 16; r++) {
        if (c->live & CALLER_SAVED & REG_BIT(r))
            emit_rm(t, 0, save ? 0x89 : 0x8b, 8, r, RSP, SAVE_GPR + 8 * (int32_t)r);
        if (c->live_xmm & REG_BIT(r))
            emit_rm(t, 0, save ? 0x0f29 : 0x0f28, 4, r, RSP, SAVE_XMM + 16 * (int32_t)r);
    }
}

static void cold_leave(struct tcg *t, const struct cold *c, enum ir_leave reason)
{
    tcg_x87_leave(t, &c->x87);
    store_pc(t, pc_at(t, (int32_t)c->insn_offset));
    icount_give_back(t, c->insns - 1u);
    leave_with(t, reason, -1);
}

static void cold_translate(struct tcg *t, const struct cold *c)
{
    save_restore(t, c, true);
    if (c->ea != RSI)
        emit_mov(t, RSI, c->ea);
    /* A page walk may fault: the helper sees this instruction's PC. */
    store_pc(t, pc_at(t, (int32_t)c->insn_offset));
    emit_mov(t, RDI, RBP);
    emit_imm(t, RDX, c->size_access);
    emit_rm(t, 0, 0xff, 4, 2, RBP, CONTEXT(slow_translate));
    emit_rr(t, 0, 0x85, 8, RAX, RAX);
    uint32_t none = emit_jcc(t, CC_Z);
    emit_mov(t, c->to, RAX);
    struct cold rest = *c;
    rest.live &= (uint16_t)~REG_BIT(c->to);
    save_restore(t, &rest, false);
    emit_bind(t, emit_jmp(t), c->back);
    emit_bind(t, none, here(t));
    /* A pending fault goes out as a fault, nothing pending to the interpreter. */
    emit_alu_mem_imm(t, 7, 4, RBP, (int32_t)t->g->faulted_offset, 0);
    uint32_t fault = emit_jcc(t, CC_NZ);
    cold_leave(t, c, IR_LEAVE_INTERPRET);
    emit_bind(t, fault, here(t));
    cold_leave(t, c, IR_LEAVE_FAULT);
}

static void cold_unaligned(struct tcg *t, const struct cold *c, uint32_t *slow)
{
    unsigned size = c->size_access & 0xff;
    emit_rm(t, 0, 0x8d, 8, c->to, c->ea, (int32_t)size - 1);
    emit_rr(t, 0, 0x31, 8, c->ea, c->to);
    emit_rr(t, 0, 0xf7, 4, 0, c->to);
    put32(t, 0xfffff000);
    emit_bind(t, emit_jcc(t, CC_Z), c->back);
    *slow = emit_jmp(t);
}

static void cold_exit(struct tcg *t, const struct cold *c)
{
    int64_t target = (int32_t)c->insn_offset;
    uint64_t pc = pc_at(t, target);
    icount_give_back(t, c->insns);
    /* Another page, or an instruction that may straddle: never chained, found by the table. */
    if ((pc ^ t->o->pc) & ~0xfffull || (pc & 0xfff) > 0x1000 - 15) {
        emit_rm(t, 0, 0x8b, 8, RCX, RBP, CONTEXT(jumps));
        emit_imm(t, RDX, pc ^ t->o->mode_id << 48);
        emit_rm(t, 0, 0x3b, 8, RDX, RCX, (int32_t)(tcg_jump_hash(pc) * sizeof(struct tcg_jump)));
        uint32_t miss = emit_jcc(t, CC_NZ);
        emit_rm(t, 0, 0xff, 4, 4, RCX, (int32_t)(tcg_jump_hash(pc) * sizeof(struct tcg_jump)) + 8);
        emit_bind(t, miss, here(t));
    }
    store_pc(t, pc);
    leave_with(t, IR_LEAVE_NEXT, c->exit);
}

static void cold_back(struct tcg *t, const struct cold *c)
{
    int64_t target = (int32_t)c->insn_offset;
    emit_alu_mem_imm(t, 7, 4, RBP, (int32_t)t->g->stop_offset, 0);
    uint32_t stop = emit_jcc(t, CC_NZ);
    struct cold exit = *c;
    align_displacement(t, 1);
    uint32_t jump = emit_jmp(t);
    exit_record(t, &exit, target, jump);
    uint32_t stub = here(t);
    emit_bind(t, jump, stub);
    if (exit.exit >= 0)
        t->out->exits[exit.exit].stub_offset = stub;
    cold_exit(t, &exit);
    emit_bind(t, stop, here(t));
    icount_give_back(t, c->insns);
    store_pc(t, pc_at(t, target));
    leave_with(t, IR_LEAVE_NEXT, -1);
}

static void emit_cold(struct tcg *t)
{
    uint32_t slow[MAX_COLD], at[MAX_COLD];
    for (unsigned n = 0; n < t->colds; n++) {
        struct cold *c = &t->cold[n];
        at[n] = here(t);
        if (c->from[0])
            emit_bind(t, c->from[0], at[n]);
        switch (c->kind) {
        case COLD_TRANSLATE: cold_translate(t, c); break;
        case COLD_UNALIGNED: cold_unaligned(t, c, &slow[n]); break;
        case COLD_LEAVE: cold_leave(t, c, c->reason); break;
        case COLD_BACK: cold_back(t, c); break;
        case COLD_EXIT:
            if (c->exit >= 0)
                t->out->exits[c->exit].stub_offset = at[n];
            cold_exit(t, c);
            break;
        }
    }
    for (unsigned n = 0; n < t->colds; n++)
        if (t->cold[n].kind == COLD_UNALIGNED)
            emit_bind(t, slow[n], at[t->cold[n].exit]);
    for (unsigned n = 0; n < t->sites_n; n++)
        t->sites[n].slow_offset = at[t->sites[n].slow_offset];
}

/* A chained exit must have executed every instruction that its block counts, so with counting on, exits in the
 * middle are not chained: they give back what was not run. */
static void emit_block(struct tcg *t)
{
    if (t->o->icount) {
        emit_alu_mem_imm(t, 5, 8, RBP, (int32_t)t->g->icount_offset, (int32_t)t->b->guest_insns);
        struct cold *c = cold_new(t, COLD_LEAVE);
        c->reason = IR_LEAVE_EXIT;
        c->insns = 1;
        c->from[0] = emit_jcc(t, 8);
    }
    for (ir_ref n = 0; n < t->b->count && !t->full && !t->complex; n++) {
        t->now = n;
        t->locked = t->locked_xmm = 0;
        if (!is_dead(t, n))
            emit_one(t, &t->b->insns[n], n);
        release(t);
    }
    emit_cold(t);
}

enum tcg_result tcg_compile(struct tcg_buffer *buffer, size_t *at, size_t limit, const struct ir_block *b,
                            const struct tcg_options *o, struct tcg_block *out)
{
    uint8_t *write, *end;
    const uint8_t *run, *unused;
    size_t start = (*at + 15) & ~(size_t)15;
    if (start + 64 > limit)
        return TCG_FULL;
    if (b->count > 4000 || b->out_of_memory)
        return TCG_TOO_COMPLEX;
    struct tcg *t = calloc(1, sizeof *t);
    struct value *v = malloc(b->count * sizeof *v);
    enum tcg_result result = TCG_TOO_COMPLEX;
    if (t && v) {
        tcg_buffer_place(buffer, start, &write, &run);
        tcg_buffer_place(buffer, limit, &end, &unused);
        *out = (struct tcg_block){0};
        *t = (struct tcg){.b = b, .o = o, .g = o->guest, .start = write, .p = write, .limit = end, .run = run, .v = v,
                          .host_flags = IR_NONE, .out = out, .leave_cold = -1};
        memset(t->owner, 0xff, sizeof t->owner);
        memset(t->owner_xmm, 0xff, sizeof t->owner_xmm);
        analyse(t);
        emit_block(t);
        result = t->complex ? TCG_TOO_COMPLEX : t->full ? TCG_FULL : TCG_OK;
    }
    if (result == TCG_OK && t->sites_n) {
        out->sites = malloc(t->sites_n * sizeof *out->sites);
        if (out->sites)
            memcpy(out->sites, t->sites, t->sites_n * sizeof *out->sites);
        else
            result = TCG_TOO_COMPLEX;
        out->site_count = t->sites_n;
    }
    if (result == TCG_OK) {
        out->entry = (void *)run;
        out->code_size = here(t);
        *at = start + out->code_size;
    }
    free(v);
    free(t);
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
