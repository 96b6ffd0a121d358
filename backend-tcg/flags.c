/* Flags and conditions.  The flags of an operation are left in EFLAGS and asked for there.  Where something came
 * between, those of the common operations are made once more from the operands ("deferred"), the others were packed
 * into a register at once.  Deferred flags that go to the state are pending: the hot path never stores them, the
 * ways out do (cold.c). */
#include "backend-tcg/internal.h"

const uint8_t alu_digit[IR_OP_COUNT] = {[IR_add] = 0, [IR_or] = 1, [IR_adc] = 2, [IR_sbb] = 3, [IR_and] = 4, [IR_sub] = 5, [IR_xor] = 6};
static const uint8_t shift_digit[IR_OP_COUNT] = {[IR_rol] = 0, [IR_ror] = 1, [IR_rcl] = 2, [IR_rcr] = 3, [IR_shl] = 4, [IR_shr] = 5, [IR_sar] = 7};

static bool is_shift(unsigned op) { return op == IR_shl || op == IR_shr || op == IR_sar || is_rotate(op); }
bool is_rotate(unsigned op) { return op == IR_rol || op == IR_ror || op == IR_rcl || op == IR_rcr; }
bool is_double(unsigned op) { return op == IR_shld || op == IR_shrd; }
ir_ref count_of(const struct ir_insn *i) { return is_double(i->op) ? i->arg[2] : i->arg[1]; }
unsigned count_mask(const struct ir_insn *i) { return i->type == IR_I64 ? 63 : 31; }
bool value_used(const struct tcg *t, ir_ref r) { return t->v[r].uses > t->v[r].flag_uses; }

static const struct ir_insn *producer(const struct tcg *t, ir_ref flags) { return &t->b->insns[t->b->insns[flags].arg[0]]; }

/* AX = packed EFLAGS; RAX was taken. */
static void pack_eflags(struct tcg *t)
{
    emit_rr(t, 0, 0x0f90, 1, 0, RAX); /* seto al */
    put8(t, 0x9f);                    /* lahf */
}

/* --- Deferred flags.  Two kinds stand on flags from before: a shift by a variable count, which keeps them where the count
 * is zero, and an increment or decrement, which keeps the carry. */
static bool by_variable(const struct tcg *t, const struct ir_insn *p)
{
    return (p->op == IR_shl || p->op == IR_shr || p->op == IR_sar) && t->b->insns[p->arg[1]].op != IR_const;
}

static bool keeps_carry(const struct tcg *t, ir_ref flags)
{
    const struct ir_insn *p = producer(t, flags);
    int64_t one;
    return t->b->insns[flags].aux == (IR_M_ALL & ~IR_M_C) && (p->op == IR_add || p->op == IR_sub) && p->arg[0] != p->arg[1] && const_of(t, p->arg[1], &one) && one == 1;
}

static bool stands_on_older(const struct tcg *t, ir_ref flags) { return t->b->insns[flags].arg[1] != IR_NONE; }

bool flags_can_defer(const struct tcg *t, ir_ref flags)
{
    const struct ir_insn *f = &t->b->insns[flags], *p = producer(t, flags);
    ir_ref old = f->arg[1];
    if (p->type > IR_I64)
        return false;
    if (old != IR_NONE)
        return (keeps_carry(t, flags) || (f->aux == IR_M_ALL && by_variable(t, p))) && 
               !(t->v[old].deferred && (stands_on_older(t, old) || producer(t, old)->op == IR_mul /* not in EFLAGS as they are */));
    if (f->aux != IR_M_ALL)
        return false;
    switch (p->op) {
    case IR_add: case IR_sub: case IR_and: case IR_or: case IR_xor: case IR_neg: case IR_mul: return true;
    case IR_shl: case IR_shr: case IR_sar: return !by_variable(t, p);
    default: return false;
    }
}

static bool cancels(const struct ir_insn *p) { return (p->op == IR_xor || p->op == IR_sub) && p->arg[0] == p->arg[1]; }

/* Are they made from the result?  Where that is kept anyway, no operand has to outlive the operation. */
static bool from_result(const struct tcg *t, ir_ref self)
{
    unsigned op = t->b->insns[self].op;
    return value_used(t, self) && !is_shift(op) && op != IR_mul;
}

unsigned flags_deps(const struct tcg *t, ir_ref flags, ir_ref *deps)
{
    ir_ref self = t->b->insns[flags].arg[0], old = t->b->insns[flags].arg[1];
    const struct ir_insn *p = &t->b->insns[self];
    bool result = from_result(t, self);
    unsigned n = 0;
    if (cancels(p))
        return 0;
    deps[n++] = result ? self : p->arg[0];
    if (by_variable(t, p) || (old == IR_NONE && (p->op == IR_add || p->op == IR_sub || p->op == IR_mul)) ||
        (!result && (p->op == IR_and || p->op == IR_or || p->op == IR_xor)))
        deps[n++] = p->arg[1];
    if (old == IR_NONE)
        return n;
    if (t->v[old].deferred)
        return n + flags_deps(t, old, deps + n);
    deps[n++] = old;
    return n;
}

/* --- OF of shifts by more than one.  Undefined (SDM 2B SAL, RCL, SHLD), but what the interpreter says is what all tiers
 * say, on any host (ir/eval.c): that of the last of so many steps of one bit.  AMD's CPUs give that.  Intel's give
 * that of the first, and with an immediate ROL and ROR leave OF alone; there it is made. */
#define DIFFERS(op, text)                                                                                      \
    do {                                                                                                       \
        uint32_t r = a, overflow;                                                                              \
        const uint64_t x[3] = {a, is_double(IR_##op) ? b : 2, is_double(IR_##op) ? 2 : 0};                     \
        __asm__("xorl %%eax, %%eax\n\t" text "\n\tseto %%al" : "=&a"(overflow), "+r"(r) : "r"(b) : "cc");     \
        differs |= overflow != (ir_eval_flags(IR_##op, IR_I32, x, r, 0) & IR_FLAG_O ? 1 : 0);                  \
    } while (0)

bool flags_shifts_differ(void)
{
    static const uint32_t samples[] = {0x80000000, 0x40000000, 0x20000000, 0xa0000001, 6, 9};
#ifdef TIERCE_NASTY
    bool differs = true; /* the code for such hosts is tried on all */
#else
    bool differs = false;
#endif
    for (unsigned i = 0; i < sizeof samples / sizeof *samples; i++) {
        uint32_t a = samples[i], b = ~a;
        DIFFERS(shl, "shll $2, %1");
        DIFFERS(shr, "shrl $2, %1");
        DIFFERS(sar, "sarl $2, %1");
        DIFFERS(rol, "roll $2, %1");
        DIFFERS(ror, "rorl $2, %1");
        DIFFERS(rcl, "rcll $2, %1");
        DIFFERS(rcr, "rcrl $2, %1");
        DIFFERS(shld, "shldl $2, %2, %1");
        DIFFERS(shrd, "shrdl $2, %2, %1");
    }
    return differs;
}

/* Does the host give p's flags with an OF of its own? */
static bool own_overflow(const struct tcg *t, const struct ir_insn *p)
{
    int64_t c;
    if (!t->shifts_differ || !(is_shift(p->op) || is_double(p->op)) || p->op == IR_sar)
        return false;
    return !const_of(t, count_of(p), &c) || ((uint64_t)c & count_mask(p)) > 1;
}

/* RCX, which is the caller's, holds p's count: less what the host does not look at, so that overflow_make sees whether it is zero. */
static void overflow_prepare(struct tcg *t, const struct ir_insn *p)
{
    int64_t c;
    if (own_overflow(t, p) && !const_of(t, count_of(p), &c))
        emit_alu_imm(t, 4, 4, RCX, (int32_t)count_mask(p));
}

/* Behind shift_apply on a register where EFLAGS are asked for: one bit back and forth through the carry changes OF alone. */
static void overflow_make(struct tcg *t, const struct ir_insn *p, unsigned r)
{
    bool left = p->op == IR_shl || p->op == IR_shld || p->op == IR_rol || p->op == IR_rcl;
    unsigned size = size_of((enum ir_type)p->type);
    uint32_t none = 0;
    int64_t c;
    if (!own_overflow(t, p))
        return;
    bool variable = !const_of(t, count_of(p), &c);
    if (variable) {
        put8(t, 0xe3); /* jrcxz */
        put8(t, 0);
        none = here(t) - 1;
    }
    emit_shift_imm(t, left ? 3 : 2, size, r, 1);
    emit_shift_imm(t, left ? 2 : 3, size, r, 1);
    if (variable)
        emit_bind_short(t, none);
}

static void alu(struct tcg *t, unsigned digit, unsigned size, unsigned to, unsigned reg, int64_t imm)
{
    if (reg == NO_REG)
        emit_alu_imm(t, digit, size, to, (int32_t)imm);
    else
        emit_rr(t, 0, digit << 3 | (size > 1), size, reg, to);
}

/* CF and OF of a product are the host's, sign and parity are those of its low half (ir/ops.def). AX gets them packed;
 * EFLAGS are right for CF and OF alone. */
static void pack_mul(struct tcg *t, unsigned size, unsigned product, unsigned scratch)
{
    emit_rr(t, 0, 0x0f90, 1, 0, scratch);
    emit_rr(t, 0, 0x0fb6, 1, scratch, scratch);
    emit_rr(t, 0, 0x85, size, product, product);
    put8(t, 0x9f);
    emit_alu_imm(t, 4, 4, RAX, IR_FLAG_S | IR_FLAG_P);
    emit_rr(t, 0, 0x69, 4, scratch, scratch);
    put32(t, IR_FLAG_O | IR_FLAG_C);
    emit_rr(t, 0, 0x09, 4, scratch, RAX);
}

static void make_mul(struct tcg *t, unsigned size, unsigned a, unsigned b, int64_t imm, unsigned scratch)
{
    if (b != NO_REG) {
        emit_mov(t, scratch, a);
        emit_rr(t, 0, 0x0faf, size, scratch, b);
        return;
    }
    emit_rr(t, 0, 0x69, size, scratch, a);
    emit_imm_bytes(t, size, imm);
}

/* EFLAGS = flags of p. a, b: registers of the deps (b NO_REG: imm); scratch may be a where a need not survive. */
static void flags_make(struct tcg *t, ir_ref self, unsigned a, unsigned b, int64_t imm, unsigned scratch)
{
    const struct ir_insn *p = &t->b->insns[self];
    unsigned size = size_of((enum ir_type)p->type), digit = alu_digit[p->op];
    bool result = from_result(t, self);
    if (cancels(p)) {
        emit_rr(t, 0, 0x31, 4, scratch, scratch);
    } else if (p->op == IR_add || p->op == IR_sub) {
        if (p->op == IR_sub && !result) {
            alu(t, 7, size, a, b, imm);
            return;
        }
        emit_mov(t, scratch, a);
        if (result) /* back to the first operand */
            alu(t, p->op == IR_sub ? 0 : 5, size, scratch, b, imm);
        alu(t, p->op == IR_sub ? 7 : 0, size, scratch, b, imm);
    } else if (p->op == IR_neg) {
        emit_mov(t, scratch, a);
        for (int times = result ? 2 : 1; times--;)
            emit_rr(t, 0, size == 1 ? 0xf6 : 0xf7, size, 3, scratch);
    } else if (is_shift(p->op)) {
        emit_mov(t, scratch, a);
        shift_apply(t, p, scratch);
        overflow_make(t, p, scratch);
    } else if (p->op == IR_mul) {
        make_mul(t, size, a, b, imm, scratch);
    } else if (result) {
        emit_rr(t, 0, size == 1 ? 0x84 : 0x85, size, a, a);
    } else if (p->op == IR_and && b != NO_REG) {
        emit_rr(t, 0, size == 1 ? 0x84 : 0x85, size, b, a);
    } else {
        emit_mov(t, scratch, a);
        alu(t, digit, size, scratch, b, imm);
    }
}

static void flags_restore(struct tcg *t, ir_ref f);

/* INC or DEC of the operand again, on top of the carry in EFLAGS. */
static void step_apply(struct tcg *t, ir_ref self, unsigned scratch, unsigned a)
{
    const struct ir_insn *p = &t->b->insns[self];
    unsigned size = size_of((enum ir_type)p->type);
    if (from_result(t, self))
        emit_rm(t, 0, 0x8d, 8, scratch, a, p->op == IR_add ? -1 : 1);
    else
        emit_mov(t, scratch, a);
    emit_rr(t, 0, size == 1 ? 0xfe : 0xff, size, p->op == IR_sub, scratch);
}

static unsigned flags_again_deferred(struct tcg *t, ir_ref flags)
{
    ir_ref deps[MAX_DEPS], self = t->b->insns[flags].arg[0], old = t->b->insns[flags].arg[1];
    unsigned n = flags_deps(t, flags, deps), a = NO_REG, b = NO_REG, scratch;
    int64_t imm = 0;
    if (old != IR_NONE) {
        bool variable = by_variable(t, &t->b->insns[self]);
        if (variable) {
            use_copy_in(t, deps[1], RCX);
            overflow_prepare(t, &t->b->insns[self]);
        }
        uint32_t locked = t->bank[INT].locked;
        if (t->v[old].deferred && t->v[old].reg == NO_REG && t->v[old].spill == NO_REG)
            flags_again_deferred(t, old);
        else
            flags_restore(t, old);
        t->bank[INT].locked = locked;
        scratch = gpr_temp(t);
        a = use(t, deps[0]);
        if (variable) {
            emit_mov(t, scratch, a);
            shift_apply(t, &t->b->insns[self], scratch);
            overflow_make(t, &t->b->insns[self], scratch);
        } else {
            step_apply(t, self, scratch, a);
        }
    } else {
        if (n > 1 && !small_const(t, deps[1], &imm))
            b = use(t, deps[1]);
        if (n)
            a = use(t, deps[0]);
        scratch = gpr_temp(t);
        flags_make(t, self, a, b, imm, scratch);
    }
    t->host_flags = flags;
    return scratch;
}

/* AX = the packed form; RAX is taken. */
static void deferred_to_ax(struct tcg *t, ir_ref flags)
{
    const struct ir_insn *p = producer(t, flags);
    if (p->op == IR_mul) { /* the product is asked for, too */
        unsigned product = flags_again_deferred(t, flags), size = size_of((enum ir_type)p->type);
        t->bank[INT].locked |= REG_BIT(product);
        if (product == RAX) {
            emit_mov(t, product = gpr_temp(t), RAX);
        } else {
            gpr_take(t, RAX);
        }
        pack_mul(t, size, product, gpr_temp(t));
        t->host_flags = IR_NONE;
        t->bank[INT].locked |= REG_BIT(RAX);
        return;
    }
    if (t->host_flags != flags || own_overflow(t, p))
        flags_again_deferred(t, flags);
    gpr_take(t, RAX);
    pack_eflags(t);
}

void flags_pack(struct tcg *t, ir_ref flags)
{
    deferred_to_ax(t, flags);
    emit_rr(t, 0, 0x0fb7, 4, RAX, RAX);
    own(t, flags, RAX);
}

bool flags_put(struct tcg *t, const struct ir_insn *put)
{
    t->pending.flags = IR_NONE;
    if (!t->v[put->arg[0]].deferred)
        return false;
    t->pending.flags = t->b->insns[put->arg[0]].arg[0];
    return true;
}

void flags_settle(struct tcg *t)
{
    ir_ref f = t->pending.flags;
    if (f == IR_NONE)
        return;
    t->pending.flags = IR_NONE;
    if (t->v[f].reg != NO_REG) {
        emit_rm(t, 0, 0x89, 2, t->v[f].reg, RBP, (int32_t)t->pins->flags);
        return;
    }
    deferred_to_ax(t, f);
    emit_rm(t, 0, 0x89, 2, RAX, RBP, (int32_t)t->pins->flags);
    t->bank[INT].locked = 0;
}

/* On a way out no register of the block is wanted any more, so the operands are laid down in the frame and taken from
 * there.  fetch: moves alone. */
static void cold_fetch(struct tcg *t, unsigned reg, ir_ref dep, unsigned k)
{
    int64_t c;
    if (const_of(t, dep, &c))
        emit_imm(t, reg, (uint64_t)c);
    else
        emit_rm(t, 0, 0x8b, 8, reg, RSP, F_SAVE + 8 * (int32_t)k);
}

static void cold_lay_down(struct tcg *t, const struct cold *c, const ir_ref *deps, unsigned n)
{
    for (unsigned k = 0; k < n; k++)
        if (c->deps[k].reg != NO_REG)
            emit_rm(t, 0, 0x89, 8, c->deps[k].reg, RSP, F_SAVE + 8 * (int32_t)k);
    for (unsigned k = 0; k < n; k++)
        if (c->deps[k].reg == NO_REG && t->b->insns[deps[k]].op != IR_const) {
            emit_rm(t, 0, 0x8b, 8, RAX, RSP, F_SPILL + 16 * c->deps[k].spill);
            emit_rm(t, 0, 0x89, 8, RAX, RSP, F_SAVE + 8 * (int32_t)k);
        }
}

/* Flags that stand on no older ones: a and b where they are if they are in registers. Returns the scratch register. */
static unsigned cold_make(struct tcg *t, ir_ref f, const ir_ref *deps, unsigned n, const struct place *at, unsigned first)
{
    unsigned reg[2] = {NO_REG, NO_REG};
    static const uint8_t into[2] = {RSI, RDI};
    int64_t imm = 0;
    for (unsigned k = 0; k < n; k++) {
        if (k && small_const(t, deps[k], &imm))
            continue;
        reg[k] = at ? at[k].reg : NO_REG;
        if (reg[k] == NO_REG)
            cold_fetch(t, reg[k] = at && at[!k].reg == into[k] ? into[!k] : into[k], deps[k], first + k);
    }
    unsigned scratch = reg[0] != RDX && reg[1] != RDX ? RDX : reg[0] != RCX && reg[1] != RCX ? RCX : RAX;
    flags_make(t, t->b->insns[f].arg[0], reg[0], reg[1], imm, scratch);
    return scratch;
}

static void cold_on_older(struct tcg *t, ir_ref f, const ir_ref *deps, unsigned n)
{
    ir_ref self = t->b->insns[f].arg[0], old = t->b->insns[f].arg[1];
    bool variable = by_variable(t, &t->b->insns[self]);
    unsigned own = variable ? 2 : 1;
    if (variable) {
        cold_fetch(t, RCX, deps[1], 1);
        overflow_prepare(t, &t->b->insns[self]);
    }
    if (t->v[old].deferred) {
        cold_make(t, old, deps + own, n - own, NULL, own);
    } else {
        cold_fetch(t, RAX, old, own);
        emit_alu_imm(t, 0, 1, RAX, 0x7f); /* OF from bit 0 */
        put8(t, 0x9e);                    /* sahf */
    }
    cold_fetch(t, RDX, deps[0], 0);
    if (variable) {
        shift_apply(t, &t->b->insns[self], RDX);
        overflow_make(t, &t->b->insns[self], RDX);
    } else {
        step_apply(t, self, RDX, RDX);
    }
}

void flags_settle_cold(struct tcg *t, const struct cold *c)
{
    ir_ref f = c->pending.flags, deps[MAX_DEPS];
    if (f == IR_NONE)
        return;
    const struct ir_insn *p = producer(t, f);
    unsigned n = flags_deps(t, f, deps), scratch = RDX;
    bool live = c->pending.live && !own_overflow(t, p);
    if (stands_on_older(t, f) && !live) {
        cold_lay_down(t, c, deps, n);
        cold_on_older(t, f, deps, n);
    } else if (!live || p->op == IR_mul) {
        bool spilled = false;
        for (unsigned k = 0; k < n; k++)
            spilled |= c->deps[k].reg == NO_REG && t->b->insns[deps[k]].op != IR_const;
        if (spilled)
            cold_lay_down(t, c, deps, n);
        scratch = cold_make(t, f, deps, n, spilled ? NULL : c->deps, 0);
    }
    if (p->op == IR_mul) {
        if (scratch == RAX)
            emit_mov(t, scratch = RDX, RAX);
        pack_mul(t, size_of((enum ir_type)p->type), scratch, scratch == RCX ? RDX : RCX);
    } else {
        pack_eflags(t);
    }
    emit_rm(t, 0, 0x89, 2, RAX, RBP, (int32_t)t->pins->flags);
}

/* --- Flags that are packed at once */
/* EFLAGS = packed flags of f, by RAX. */
static void flags_restore(struct tcg *t, ir_ref f)
{
    use_copy_in(t, f, RAX); /* a way out at this instruction may want it, too */
    emit_alu_imm(t, 0, 1, RAX, 0x7f);  /* OF from bit 0 */
    put8(t, 0x9e);                     /* sahf */
}

void carry_in(struct tcg *t, ir_ref f)
{
    unsigned r = use(t, f);
    emit_rr(t, 0, 0x0fba, 4, 4, r); /* bt r, 8 */
    put8(t, 8);
}

/* The shift itself on register r; a variable count is in CL, a second operand in its register. */
void shift_apply(struct tcg *t, const struct ir_insn *i, unsigned r)
{
    unsigned size = size_of((enum ir_type)i->type);
    int64_t c;
    bool fixed = const_of(t, count_of(i), &c);
    if (is_double(i->op)) {
        emit_rr(t, 0, (i->op == IR_shld ? 0x0fa4u : 0x0facu) | !fixed, size, t->v[i->arg[1]].reg, r);
        if (fixed)
            put8(t, (uint8_t)c);
    } else if (fixed) {
        emit_shift_imm(t, shift_digit[i->op], size, r, (uint8_t)c);
    } else {
        emit_rr(t, 0, size == 1 ? 0xd2 : 0xd3, size, shift_digit[i->op], r);
    }
}

static void shift_again(struct tcg *t, const struct ir_insn *p, ir_ref old)
{
    bool through_carry = p->op == IR_rcl || p->op == IR_rcr;
    int64_t c;
    if (!const_of(t, count_of(p), &c)) {
        gpr_take(t, RCX);
        use_in(t, count_of(p), RCX);
        overflow_prepare(t, p);
    }
    gpr_take(t, RAX);
    if (is_double(p->op))
        use(t, p->arg[1]);
    unsigned r = gpr_temp(t);
    use_in(t, p->arg[0], r);
    if (old != IR_NONE)
        flags_restore(t, old);
    if (through_carry) { /* by RAX: there is no register to spare */
        use_in(t, p->arg[2], RAX);
        emit_rr(t, 0, 0x0fba, 4, 4, RAX); /* bt eax, 8 */
        put8(t, 8);
    }
    shift_apply(t, p, r);
    overflow_make(t, p, r);
}

/* Makes EFLAGS those of operation p once more; for shifts on top of `old`. */
static void flags_again(struct tcg *t, const struct ir_insn *p, ir_ref old)
{
    unsigned size = size_of((enum ir_type)p->type), b = NO_REG;
    int64_t imm = 0;
    if (is_shift(p->op) || is_double(p->op)) {
        shift_again(t, p, old);
        return;
    }
    if (p->op != IR_neg && !small_const(t, p->arg[1], &imm))
        b = use(t, p->arg[1]);
    unsigned a = use(t, p->arg[0]), r = gpr_temp(t);
    emit_mov(t, r, a);
    if (p->op == IR_neg) {
        emit_rr(t, 0, size == 1 ? 0xf6 : 0xf7, size, 3, r);
        return;
    }
    if (p->op == IR_adc || p->op == IR_sbb)
        carry_in(t, p->arg[2]);
    alu(t, alu_digit[p->op], size, r, b, imm);
}

void do_flags_of(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    const struct ir_insn *p = &t->b->insns[i->arg[0]];
    bool live = t->host_flags == i->arg[0] && (t->v[self].deferred || !own_overflow(t, p)), merge = i->aux != IR_M_ALL && !is_rotate(p->op);
    if (t->v[self].deferred) {
        if (live && !stands_on_older(t, self))
            t->host_flags = self;
        return;
    }
    if (!live)
        flags_again(t, p, i->arg[1]);
    gpr_take(t, RAX);
    pack_eflags(t);
    emit_rr(t, 0, 0x0fb7, 4, RAX, RAX);
    own(t, self, RAX);
    t->bank[INT].locked = REG_BIT(RAX);
    t->host_flags = self;
    if (!merge)
        return;
    uint32_t mask = ir_mask_to_packed(i->aux);
    unsigned old = use(t, i->arg[1]), r = gpr_temp(t);
    emit_mov32(t, r, old);
    emit_alu_imm(t, 4, 4, RAX, (int32_t)mask);
    emit_alu_imm(t, 4, 4, r, (int32_t)(IR_FLAGS_ALL & ~mask));
    emit_rr(t, 0, 0x09, 4, r, RAX);
    t->host_flags = IR_NONE;
}

void do_flags_set(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    uint32_t mask = ir_mask_to_packed(i->aux);
    int64_t c;
    if (const_of(t, i->arg[1], &c)) {
        unsigned r = def_from(t, self, i->arg[0]);
        emit_alu_imm(t, c & 1 ? 1 : 4, 4, r, (int32_t)(c & 1 ? mask : ~mask));
    } else {
        unsigned cc = condition(t, i->arg[1]);
        t->bank[INT].locked = 0;
        unsigned bit = gpr_temp(t);
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

/* --- Conditions */
/* Do EFLAGS as they are now, or as the operation makes them once more, answer for this condition of deferred flags? */
static bool by_eflags(const struct tcg *t, ir_ref f, unsigned cc)
{
    bool overflow_or_carry = (cc & ~1u) == IR_CC_O || (cc & ~1u) == IR_CC_B;
    return t->b->insns[t->b->insns[f].arg[0]].op != IR_mul || overflow_or_carry;
}

static bool asks_carry(unsigned cc) { return (cc & ~1u) == IR_CC_B || (cc & ~1u) == IR_CC_BE; }

static bool asks_overflow(unsigned cc) { return (cc & ~1u) == IR_CC_O || (cc & ~1u) == IR_CC_L || (cc & ~1u) == IR_CC_LE; }

static unsigned cond_flags(struct tcg *t, ir_ref f, unsigned cc)
{
    static const uint16_t bits[16] = {[IR_CC_O] = IR_FLAG_O, [IR_CC_B] = IR_FLAG_C, [IR_CC_Z] = IR_FLAG_Z, [IR_CC_BE] = IR_FLAG_C | IR_FLAG_Z,
                                      [IR_CC_S] = IR_FLAG_S, [IR_CC_P] = IR_FLAG_P};
    if (t->v[f].deferred && by_eflags(t, f, cc)) {
        bool live = t->host_flags == f || (t->host_flags == t->b->insns[f].arg[0] && !asks_carry(cc));
        if (live && !(asks_overflow(cc) && own_overflow(t, producer(t, f))))
            return cc;
        if (t->v[f].reg == NO_REG) {
            flags_again_deferred(t, f);
            return cc;
        }
    } else if (t->host_flags == f && !t->v[f].deferred) {
        return cc;
    }
    if (bits[cc & ~1u]) {
        unsigned r = use(t, f);
        emit_rr(t, 0, 0xf7, 4, 0, r);
        put32(t, bits[cc & ~1u]);
        t->host_flags = IR_NONE;
        return cc & 1 ? CC_Z : CC_NZ;
    }
    flags_restore(t, f);
    t->host_flags = f;
    return cc;
}

void compare(struct tcg *t, ir_ref a, ir_ref b)
{
    unsigned size = size_of(type_of(t, a));
    int64_t c;
    if (small_const(t, b, &c)) {
        unsigned ra = use(t, a);
        if (c == 0)
            emit_rr(t, 0, size == 1 ? 0x84 : 0x85, size, ra, ra);
        else
            emit_alu_imm(t, 7, size, ra, (int32_t)c);
    } else {
        unsigned ra = use(t, a), rb = use(t, b);
        emit_rr(t, 0, size == 1 ? 0x38 : 0x39, size, rb, ra);
    }
    t->host_flags = IR_NONE;
}

unsigned condition(struct tcg *t, ir_ref r)
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

bool can_be_lazy(const struct ir_insn *i, const struct tcg *t)
{
    switch (i->op) {
    case IR_test_cc: return true;
    case IR_eq: case IR_ne: case IR_ult: case IR_ule: case IR_slt: case IR_sle: case IR_udiv_ok:
        return type_of(t, i->arg[0]) != IR_I1 && type_of(t, i->arg[0]) != IR_I128;
    default: return false;
    }
}

void make_condition(struct tcg *t, ir_ref self)
{
    t->v[self].lazy = true; /* for condition() */
    unsigned cc = condition(t, self);
    t->v[self].lazy = false;
    unsigned r = def(t, self);
    emit_rr(t, 0, 0x0f90 | cc, 1, 0, r);
    emit_rr(t, 0, 0x0fb6, 1, r, r);
}
