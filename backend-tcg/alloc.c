/* Registers: a value lives in one register from its definition to its last use, or in a spill slot where registers
 * run out; constants live nowhere until they are needed.  A pinned slot of the guest lives in its register
 * always: reading it gives a value that is an alias of that register, and a value that is going to be put
 * there is made there, where nothing stands against it. */
#include "backend-tcg/internal.h"

bool is_xmm_type(enum ir_type ty) { return ty == IR_V128; }
static bool is_pinned(const struct tcg *t, const struct bank *b, unsigned reg)
{
    return b == &t->bank[INT] ? reg >= FIRST_PINNED_INT : reg >= FIRST_PINNED_VECTOR;
}

bool const_of(const struct tcg *t, ir_ref r, int64_t *value)
{
    const struct ir_insn *i = &t->b->insns[r];
    if (i->op != IR_const)
        return false;
    *value = ir_signed((uint64_t)i->imm, ir_type_bits((enum ir_type)i->type));
    return true;
}

bool small_const(const struct tcg *t, ir_ref r, int64_t *value) { return const_of(t, r, value) && *value == (int32_t)*value; }

/* --- Moves; none touches EFLAGS */
static void move(struct tcg *t, const struct bank *b, unsigned to, unsigned from)
{
    if (b == &t->bank[INT])
        emit_mov(t, to, from);
    else if (to != from)
        emit_rr(t, 0, 0x0f28, 4, to, from);
}

static int32_t slot_at(const struct value *v) { return F_SPILL + 16 * v->spill; }

static void fill(struct tcg *t, const struct bank *b, const struct value *v, unsigned reg)
{
    if (b == &t->bank[INT])
        emit_rm(t, 0, 0x8b, 8, reg, RSP, slot_at(v));
    else
        emit_rm(t, 0, 0x0f28, 4, reg, RSP, slot_at(v));
}

static void spill(struct tcg *t, const struct bank *b, ir_ref self, unsigned reg)
{
    struct value *v = &t->v[self];
    if (v->spill != NO_REG)
        return;
    if (t->spills == ~0ull >> (64 - SPILL_SLOTS)) {
        t->complex = true;
        return;
    }
    v->spill = (uint8_t)__builtin_ctzll(~t->spills);
    t->spills |= 1ull << v->spill;
    t->slot_owner[v->spill] = self;
    if (b == &t->bank[INT])
        emit_rm(t, 0, 0x89, 8, reg, RSP, slot_at(v));
    else
        emit_rm(t, 0, 0x0f29, 4, reg, RSP, slot_at(v));
}

/* --- The block's own registers */
static void set_owner(struct tcg *t, struct bank *b, ir_ref self, unsigned reg)
{
    b->owner[reg] = self;
    b->busy |= REG_BIT(reg);
    b->locked |= REG_BIT(reg);
    t->v[self].reg = (uint8_t)reg;
}

static void drop_owner(struct tcg *t, struct bank *b, unsigned reg)
{
    t->v[b->owner[reg]].reg = NO_REG;
    b->owner[reg] = IR_NONE;
    b->busy &= ~REG_BIT(reg);
}

/* Least likely to be wanted for a fixed purpose first. */
static const uint8_t order[BANKS][6] = {{RSI, RDI, RDX, RCX, RAX, NO_REG}, {2, 3, 4, 5, NO_REG, NO_REG}};

static unsigned pick(struct tcg *t, struct bank *b)
{
    unsigned best = NO_REG;
    for (const uint8_t *r = order[b - t->bank]; *r != NO_REG; r++) {
        if (b->locked & REG_BIT(*r))
            continue;
        if (!(b->busy & REG_BIT(*r)))
            return *r;
        if (best == NO_REG || t->v[b->owner[*r]].last > t->v[b->owner[best]].last)
            best = *r;
    }
    if (best == NO_REG) {
        t->complex = true;
        return order[b - t->bank][0];
    }
    spill(t, b, b->owner[best], best);
    drop_owner(t, b, best);
    return best;
}

static unsigned alloc(struct tcg *t, struct bank *b, ir_ref owner)
{
    unsigned r = pick(t, b);
    set_owner(t, b, owner, r);
    return r;
}

unsigned gpr_temp(struct tcg *t)
{
    unsigned r = pick(t, &t->bank[INT]);
    t->bank[INT].locked |= REG_BIT(r);
    return r;
}

void gpr_take(struct tcg *t, unsigned reg)
{
    struct bank *b = &t->bank[INT];
    ir_ref o = b->owner[reg];
    uint32_t locked = b->locked & REG_BIT(reg);
    b->locked |= REG_BIT(reg);
    if (o == IR_NONE)
        return;
    unsigned to = NO_REG;
    for (const uint8_t *r = order[INT]; *r != NO_REG && to == NO_REG; r++)
        if (!((b->busy | b->locked) & REG_BIT(*r)))
            to = *r;
    if (to == NO_REG) {
        spill(t, b, o, reg);
        drop_owner(t, b, reg);
        return;
    }
    emit_mov(t, to, reg);
    drop_owner(t, b, reg);
    uint32_t before = b->locked;
    set_owner(t, b, o, to);
    if (!locked)
        b->locked = before;
}

void own(struct tcg *t, ir_ref self, unsigned reg)
{
    set_owner(t, &t->bank[INT], self, reg);
    t->v[self].clean = true;
}

/* --- Pinned slots */
/* entry.S takes the slots of an array to lie at even distances. */
static uint32_t array_of(const struct ir_guest *g, enum ir_type ty, unsigned count, uint32_t stride)
{
    for (unsigned n = 0; n + count <= g->slot_count; n++) {
        const struct ir_slot *first = &g->slots[n], *last = first + count - 1;
        if (first->hot == 1 && first->type == ty && last->hot == count && last->offset == first->offset + stride * (count - 1))
            return first->offset;
    }
    return TCG_NO_SLOT;
}

void tcg_pins_make(struct tcg_pins *p, const struct ir_guest *g)
{
    *p = (struct tcg_pins){.guest = g, .has_bextr = __builtin_cpu_supports("bmi"), .flags = TCG_NO_SLOT};
    p->ints = array_of(g, IR_I64, PINNED_INTS, 8);
    p->vectors = array_of(g, IR_V512, PINNED_VECTORS, VECTOR_STRIDE);
    for (unsigned n = 0; n < g->slot_count; n++)
        if (g->slots[n].state_class == IR_S_FLAGS && g->slots[n].type == IR_I32)
            p->flags = g->slots[n].offset;
}

unsigned pinned_reg(const struct tcg *t, int64_t slot, enum ir_type ty, bool *whole)
{
    uint64_t at = (uint64_t)slot - t->pins->ints;
    if (at < 8 * PINNED_INTS) {
        *whole = !(at & 7) && ty == IR_I64;
        return FIRST_PINNED_INT + (unsigned)at / 8;
    }
    at = (uint64_t)slot - t->pins->vectors;
    if (at < VECTOR_STRIDE * PINNED_VECTORS && at % VECTOR_STRIDE < 16) {
        *whole = !(at % VECTOR_STRIDE) && ty == IR_V128;
        return FIRST_PINNED_VECTOR + (unsigned)at / VECTOR_STRIDE;
    }
    return NO_REG;
}

static void alias_add(struct tcg *t, struct bank *b, ir_ref self, unsigned reg)
{
    if (b->alias[reg].count == MAX_ALIASES) { /* one register too many is only slower */
        move(t, b, alloc(t, b, self), reg);
        return;
    }
    b->alias[reg].value[b->alias[reg].count++] = self;
    b->aliased |= REG_BIT(reg);
    t->v[self].reg = (uint8_t)reg;
}

static bool alias_lives(const struct tcg *t, const struct bank *b, unsigned reg)
{
    for (unsigned k = 0; k < b->alias[reg].count; k++)
        if (t->v[b->alias[reg].value[k]].last > t->now)
            return true;
    return false;
}

static void aliases_clear(struct tcg *t, struct bank *b, unsigned reg, ir_ref but)
{
    for (unsigned k = 0; k < b->alias[reg].count; k++)
        if (b->alias[reg].value[k] != but)
            t->v[b->alias[reg].value[k]].reg = NO_REG;
    b->alias[reg].count = 0;
    b->aliased &= ~REG_BIT(reg);
}

/* Before the register changes: aliases that are wanted later get registers of their own. */
void pinned_evacuate(struct tcg *t, enum bank_name name, unsigned reg, ir_ref but)
{
    struct bank *b = &t->bank[name];
    ir_ref late[MAX_ALIASES];
    unsigned n = 0;
    bool stays = false;
    for (unsigned k = 0; k < b->alias[reg].count; k++) {
        ir_ref a = b->alias[reg].value[k];
        if (a == but)
            stays = true;
        else if (t->v[a].last > t->now)
            late[n++] = a;
    }
    aliases_clear(t, b, reg, but);
    for (unsigned k = 0; k < n; k++)
        move(t, b, alloc(t, b, late[k]), reg);
    if (stays)
        alias_add(t, b, but, reg);
}

void pinned_get(struct tcg *t, ir_ref self, enum bank_name name, unsigned reg) { alias_add(t, &t->bank[name], self, reg); }

static void load_into(struct tcg *t, struct bank *b, ir_ref r, unsigned reg);

void pinned_put(struct tcg *t, ir_ref value, enum bank_name name, unsigned reg)
{
    struct bank *b = &t->bank[name];
    struct value *v = &t->v[value];
    int64_t c;
    if (v->reg == reg)
        return; /* made there */
    if (v->deferred && v->reg == NO_REG)
        use(t, value);
    pinned_evacuate(t, name, reg, IR_NONE);
    load_into(t, b, value, reg);
    if (const_of(t, value, &c) || v->last <= t->now)
        return;
    /* From here on the value is an alias, and its register free. */
    if (v->reg != NO_REG && !is_pinned(t, b, v->reg)) {
        drop_owner(t, b, v->reg);
        alias_add(t, b, value, reg);
    } else if (v->reg == NO_REG) {
        alias_add(t, b, value, reg);
    }
}

/* The pinned register that the result is going to be put in, if it may be made there already. */
static unsigned wanted(struct tcg *t, struct bank *b, ir_ref self)
{
    unsigned reg = t->v[self].want;
    if (reg == NO_REG || b->locked & REG_BIT(reg) || alias_lives(t, b, reg))
        return NO_REG;
    return reg;
}

static unsigned take_wanted(struct tcg *t, struct bank *b, ir_ref self, unsigned reg)
{
    aliases_clear(t, b, reg, IR_NONE);
    alias_add(t, b, self, reg);
    b->locked |= REG_BIT(reg);
    return reg;
}

/* --- Uses and definitions */
static void load_into(struct tcg *t, struct bank *b, ir_ref r, unsigned reg)
{
    struct value *v = &t->v[r];
    int64_t c;
    if (const_of(t, r, &c) && b == &t->bank[INT])
        emit_imm(t, reg, ir_cut((uint64_t)c, ir_type_bits(type_of(t, r))));
    else if (v->reg != NO_REG)
        move(t, b, reg, v->reg);
    else if (v->spill != NO_REG)
        fill(t, b, v, reg);
    else
        t->complex = true;
}

static unsigned use_any(struct tcg *t, struct bank *b, ir_ref r)
{
    struct value *v = &t->v[r];
    if (v->reg == NO_REG) {
        unsigned reg = pick(t, b);
        load_into(t, b, r, reg);
        set_owner(t, b, r, reg);
    }
    b->locked |= REG_BIT(v->reg);
    return v->reg;
}

/* A translation's register holds the addend; who wants a plain address gets the sum. */
static void make_whole(struct tcg *t, ir_ref r)
{
    unsigned reg = use_any(t, &t->bank[INT], r), ea = use(t, t->b->insns[r].arg[0]);
    emit_mem(t, 0, 0x8d, 8, reg, reg, ea, 0, 0);
    t->v[r].whole = true;
    if (t->v[r].spill != NO_REG) { /* the slot has the addend still */
        t->spills &= ~(1ull << t->v[r].spill);
        t->v[r].spill = NO_REG;
    }
}

unsigned use_addend(struct tcg *t, ir_ref translate) { return use_any(t, &t->bank[INT], translate); }

unsigned use(struct tcg *t, ir_ref r)
{
    int64_t c;
    if (const_of(t, r, &c)) {
        unsigned reg = gpr_temp(t);
        load_into(t, &t->bank[INT], r, reg);
        return reg;
    }
    if (t->v[r].deferred && t->v[r].reg == NO_REG && t->v[r].spill == NO_REG)
        flags_pack(t, r);
    if (t->b->insns[r].op == IR_translate && !t->v[r].whole)
        make_whole(t, r);
    return use_any(t, &t->bank[INT], r);
}

unsigned use_in(struct tcg *t, ir_ref r, unsigned reg)
{
    struct bank *b = &t->bank[INT];
    int64_t c;
    if (!const_of(t, r, &c) && t->v[r].reg == NO_REG && t->v[r].spill == NO_REG)
        use(t, r); /* deferred flags; what is spilled comes straight into the register */
    if (t->b->insns[r].op == IR_translate && !t->v[r].whole)
        make_whole(t, r);
    if (b->owner[reg] == r && t->v[r].last <= t->now) {
        drop_owner(t, b, reg); /* ends here: the register is the caller's */
        b->locked |= REG_BIT(reg);
        return reg;
    }
    gpr_take(t, reg); /* a value that is wanted later is kept elsewhere */
    load_into(t, b, r, reg);
    return reg;
}

unsigned use_copy_in(struct tcg *t, ir_ref r, unsigned reg)
{
    int64_t c;
    if (!const_of(t, r, &c) && t->v[r].reg == NO_REG && t->v[r].spill == NO_REG)
        use(t, r);
    gpr_take(t, reg);
    load_into(t, &t->bank[INT], r, reg);
    return reg;
}

static unsigned def_any(struct tcg *t, struct bank *b, ir_ref self)
{
    unsigned reg = wanted(t, b, self);
    return reg != NO_REG ? take_wanted(t, b, self, reg) : alloc(t, b, self);
}

static unsigned def_from_any(struct tcg *t, struct bank *b, ir_ref self, ir_ref a)
{
    struct value *v = &t->v[a];
    unsigned reg = wanted(t, b, self);
    if (reg != NO_REG) {
        load_into(t, b, a, reg);
        return take_wanted(t, b, self, reg);
    }
    reg = v->reg;
    if (reg != NO_REG && !is_pinned(t, b, reg) && b->owner[reg] == a && v->last <= t->now && !(b->locked & REG_BIT(reg))) {
        drop_owner(t, b, reg);
        set_owner(t, b, self, reg);
        return reg;
    }
    reg = alloc(t, b, self);
    load_into(t, b, a, reg);
    return reg;
}

unsigned def(struct tcg *t, ir_ref self) { return def_any(t, &t->bank[INT], self); }
unsigned def_from(struct tcg *t, ir_ref self, ir_ref a)
{
    int64_t c;
    if (!const_of(t, a, &c) && t->v[a].reg == NO_REG && t->v[a].spill == NO_REG)
        use(t, a); /* deferred flags */
    return def_from_any(t, &t->bank[INT], self, a);
}
unsigned xmm_def(struct tcg *t, ir_ref self) { return def_any(t, &t->bank[XMM], self); }
unsigned xmm_use(struct tcg *t, ir_ref a) { return use_any(t, &t->bank[XMM], a); }
unsigned xmm_def_from(struct tcg *t, ir_ref self, ir_ref a) { return def_from_any(t, &t->bank[XMM], self, a); }

/* --- Around calls and after instructions */
static void spill_bank(struct tcg *t, enum bank_name name, bool pinned_too)
{
    struct bank *b = &t->bank[name];
    for (uint32_t m = b->busy; m; m &= m - 1) {
        unsigned r = (unsigned)__builtin_ctz(m);
        if (t->v[b->owner[r]].last > t->now) {
            spill(t, b, b->owner[r], r);
            drop_owner(t, b, r);
        }
    }
    for (uint32_t m = pinned_too ? b->aliased : 0; m; m &= m - 1) {
        unsigned r = (unsigned)__builtin_ctz(m);
        for (unsigned k = 0; k < b->alias[r].count; k++)
            if (t->v[b->alias[r].value[k]].last > t->now)
                spill(t, b, b->alias[r].value[k], r);
    }
}

void spill_for_call(struct tcg *t, unsigned writes)
{
    spill_bank(t, INT, writes & IR_S_GPR);
    spill_bank(t, XMM, writes & IR_S_VECTOR);
}

void call_done(struct tcg *t, unsigned writes)
{
    for (unsigned name = 0; name < BANKS; name++) {
        struct bank *b = &t->bank[name];
        while (b->busy)
            drop_owner(t, b, (unsigned)__builtin_ctz(b->busy));
        b->locked = 0;
        while (b->aliased && writes & (name == INT ? IR_S_GPR : IR_S_VECTOR))
            aliases_clear(t, b, (unsigned)__builtin_ctz(b->aliased), IR_NONE);
    }
}

void release(struct tcg *t)
{
    for (struct bank *b = t->bank; b < t->bank + BANKS; b++) {
        for (uint32_t m = b->busy; m; m &= m - 1) {
            unsigned r = (unsigned)__builtin_ctz(m);
            if (t->v[b->owner[r]].last <= t->now)
                drop_owner(t, b, r);
        }
        for (uint32_t m = b->aliased; m; m &= m - 1) {
            unsigned r = (unsigned)__builtin_ctz(m), kept = 0;
            for (unsigned k = 0; k < b->alias[r].count; k++) {
                ir_ref a = b->alias[r].value[k];
                if (t->v[a].last > t->now)
                    b->alias[r].value[kept++] = a;
                else
                    t->v[a].reg = NO_REG;
            }
            b->alias[r].count = (uint8_t)kept;
            if (!kept)
                b->aliased &= ~REG_BIT(r);
        }
        b->locked = 0;
    }
    for (uint64_t s = t->spills; s; s &= s - 1) {
        unsigned k = (unsigned)__builtin_ctzll(s);
        if (t->v[t->slot_owner[k]].last <= t->now)
            t->spills &= ~(1ull << k);
    }
}
