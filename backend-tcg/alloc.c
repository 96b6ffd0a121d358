/* Registers: a value lives in one register from its definition to its last use, or in a spill slot where
 * registers run out; constants live nowhere until they are needed. */
#include "backend-tcg/internal.h"

bool is_xmm_type(enum ir_type ty) { return ty == IR_V128; }

bool const_of(const struct tcg *t, ir_ref r, int64_t *value)
{
    const struct ir_insn *i = &t->b->insns[r];
    if (i->op != IR_const)
        return false;
    *value = ir_signed((uint64_t)i->imm, ir_type_bits((enum ir_type)i->type));
    return true;
}

static void spill_slot(struct tcg *t, struct value *v)
{
    ir_ref self = (ir_ref)(v - t->v);
    for (unsigned i = 0; i < SPILL_SLOTS; i++)
        if (!(t->spills >> i & 1)) {
            t->spills |= 1ull << i;
            t->slot_owner[i] = self;
            v->spill = (uint8_t)i;
            return;
        }
    t->complex = true;
    v->spill = 0;
}

static int32_t slot_at(const struct value *v) { return SPILL + 16 * v->spill; }

/* Stores a register's value and gives the register up. MOV alone: EFLAGS stay. */
static void evict(struct tcg *t, unsigned reg)
{
    struct value *v = &t->v[t->owner[reg]];
    if (v->spill == NO_REG) {
        spill_slot(t, v);
        emit_rm(t, 0, 0x89, 8, reg, RSP, slot_at(v));
    }
    v->reg = NO_REG;
    t->owner[reg] = IR_NONE;
}

static void evict_xmm(struct tcg *t, unsigned reg)
{
    struct value *v = &t->v[t->owner_xmm[reg]];
    if (v->spill == NO_REG) {
        spill_slot(t, v);
        emit_rm(t, 0, 0x0f29, 4, reg, RSP, slot_at(v));
    }
    v->reg = NO_REG;
    t->owner_xmm[reg] = IR_NONE;
}

/* Least likely to be wanted for a fixed purpose first. */
static const uint8_t order[] = {RBX, R12, R13, R14, R15, RSI, RDI, R8, R9, R10, R11, RDX, RCX, RAX};

static unsigned pick(struct tcg *t)
{
    unsigned best = NO_REG, furthest = 0;
    for (unsigned i = 0; i < sizeof order; i++) {
        unsigned r = order[i];
        if (t->locked & REG_BIT(r))
            continue;
        if (t->owner[r] == IR_NONE)
            return r;
        if (best == NO_REG || t->v[t->owner[r]].last > furthest) {
            best = r;
            furthest = t->v[t->owner[r]].last;
        }
    }
    if (best == NO_REG) {
        t->complex = true;
        return RBX;
    }
    evict(t, best);
    return best;
}

unsigned gpr_alloc(struct tcg *t, ir_ref owner)
{
    unsigned r = pick(t);
    t->owner[r] = owner;
    t->v[owner].reg = (uint8_t)r;
    t->locked |= REG_BIT(r);
    return r;
}

unsigned gpr_temp(struct tcg *t)
{
    unsigned r = pick(t);
    t->locked |= REG_BIT(r);
    return r;
}

void gpr_take(struct tcg *t, unsigned reg)
{
    ir_ref o = t->owner[reg];
    if (o != IR_NONE) {
        uint32_t before = t->locked;
        t->locked |= REG_BIT(reg);
        unsigned to = NO_REG;
        for (unsigned i = 0; i < sizeof order && to == NO_REG; i++)
            if (t->owner[order[i]] == IR_NONE && !(t->locked & REG_BIT(order[i])))
                to = order[i];
        if (to == NO_REG) {
            evict(t, reg);
        } else {
            emit_mov(t, to, reg);
            t->owner[to] = o;
            t->v[o].reg = (uint8_t)to;
            t->owner[reg] = IR_NONE;
            if (before & REG_BIT(reg))
                t->locked |= REG_BIT(to);
        }
    }
    t->locked |= REG_BIT(reg);
}

static void load_into(struct tcg *t, ir_ref r, unsigned reg)
{
    struct value *v = &t->v[r];
    int64_t c;
    if (const_of(t, r, &c))
        emit_imm(t, reg, ir_cut((uint64_t)c, ir_type_bits(type_of(t, r))));
    else if (v->reg != NO_REG)
        emit_mov(t, reg, v->reg);
    else if (v->spill != NO_REG)
        emit_rm(t, 0, 0x8b, 8, reg, RSP, slot_at(v));
    else
        t->complex = true; /* nothing defined it: not a block that the verifier lets through */
}

unsigned use(struct tcg *t, ir_ref r)
{
    struct value *v = &t->v[r];
    int64_t c;
    if (const_of(t, r, &c)) {
        unsigned reg = gpr_temp(t);
        load_into(t, r, reg);
        return reg;
    }
    if (v->reg == NO_REG) {
        unsigned reg = pick(t);
        load_into(t, r, reg);
        v->reg = (uint8_t)reg;
        t->owner[reg] = r;
    }
    t->locked |= REG_BIT(v->reg);
    return v->reg;
}

unsigned use_in(struct tcg *t, ir_ref r, unsigned reg)
{
    if (t->v[r].reg != reg || t->owner[reg] != r)
        gpr_take(t, reg);
    else if (t->v[r].last > t->now)
        gpr_take(t, reg); /* it is wanted later: keep the value elsewhere */
    else {
        t->owner[reg] = IR_NONE; /* ends here: the register is the caller's */
        t->v[r].reg = NO_REG;
        t->locked |= REG_BIT(reg);
        return reg;
    }
    load_into(t, r, reg);
    return reg;
}

unsigned def(struct tcg *t, ir_ref self) { return gpr_alloc(t, self); }

unsigned def_from(struct tcg *t, ir_ref self, ir_ref a)
{
    struct value *v = &t->v[a];
    int64_t c;
    if (!const_of(t, a, &c) && v->reg != NO_REG && v->last <= t->now && !(t->locked & REG_BIT(v->reg))) {
        unsigned reg = v->reg;
        v->reg = NO_REG;
        t->owner[reg] = self;
        t->v[self].reg = (uint8_t)reg;
        t->locked |= REG_BIT(reg);
        return reg;
    }
    unsigned reg = gpr_alloc(t, self);
    load_into(t, a, reg);
    return reg;
}

/* --- XMM */
static unsigned pick_xmm(struct tcg *t)
{
    unsigned best = NO_REG, furthest = 0;
    for (unsigned r = 2; r < 16; r++) {
        if (t->locked_xmm & REG_BIT(r))
            continue;
        if (t->owner_xmm[r] == IR_NONE)
            return r;
        if (best == NO_REG || t->v[t->owner_xmm[r]].last > furthest) {
            best = r;
            furthest = t->v[t->owner_xmm[r]].last;
        }
    }
    if (best == NO_REG) {
        t->complex = true;
        return 2;
    }
    evict_xmm(t, best);
    return best;
}

unsigned xmm_def(struct tcg *t, ir_ref self)
{
    unsigned r = pick_xmm(t);
    t->owner_xmm[r] = self;
    t->v[self].reg = (uint8_t)r;
    t->locked_xmm |= REG_BIT(r);
    return r;
}

unsigned xmm_use(struct tcg *t, ir_ref a)
{
    struct value *v = &t->v[a];
    if (v->reg == NO_REG) {
        unsigned r = pick_xmm(t);
        if (v->spill == NO_REG)
            t->complex = true;
        else
            emit_rm(t, 0, 0x0f28, 4, r, RSP, slot_at(v));
        v->reg = (uint8_t)r;
        t->owner_xmm[r] = a;
    }
    t->locked_xmm |= REG_BIT(v->reg);
    return v->reg;
}

unsigned xmm_def_from(struct tcg *t, ir_ref self, ir_ref a)
{
    struct value *v = &t->v[a];
    if (v->reg != NO_REG && v->last <= t->now && !(t->locked_xmm & REG_BIT(v->reg))) {
        unsigned r = v->reg;
        v->reg = NO_REG;
        t->owner_xmm[r] = self;
        t->v[self].reg = (uint8_t)r;
        t->locked_xmm |= REG_BIT(r);
        return r;
    }
    unsigned from = xmm_use(t, a), r = xmm_def(t, self);
    emit_rr(t, 0, 0x0f28, 4, r, from);
    return r;
}

/* --- Around calls */
void spill_for_call(struct tcg *t)
{
    for (unsigned r = 0; r < 16; r++) {
        if (CALLER_SAVED & REG_BIT(r) && t->owner[r] != IR_NONE) {
            if (t->v[t->owner[r]].last > t->now)
                evict(t, r);
        }
        if (t->owner_xmm[r] != IR_NONE)
            evict_xmm(t, r);
    }
}

uint32_t live_gprs(const struct tcg *t)
{
    uint32_t m = 0;
    for (unsigned r = 0; r < 16; r++)
        m |= t->owner[r] != IR_NONE ? REG_BIT(r) : 0;
    return m;
}

uint32_t live_xmms(const struct tcg *t)
{
    uint32_t m = 0;
    for (unsigned r = 0; r < 16; r++)
        m |= t->owner_xmm[r] != IR_NONE ? REG_BIT(r) : 0;
    return m;
}
