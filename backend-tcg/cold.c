/* Ways out of a block, and the cold code behind it: slow paths of accesses, exits that are not chained, leaving to
 * the interpreter.  Each cold entry remembers which flags were pending where its jump stands, and which
 * registers they can be made from. */
#include "backend-tcg/internal.h"

uint64_t pc_at(const struct tcg *t, int64_t offset) { return ir_cut(t->o->pc + (uint64_t)offset, t->b->pc_bits); }

struct cold *cold_new(struct tcg *t, enum cold_kind kind)
{
    if (t->colds == MAX_COLD) {
        t->complex = true;
        t->colds--;
    }
    struct cold *c = &t->cold[t->colds++];
    *c = (struct cold){.kind = (uint8_t)kind, .insn_offset = t->insn_offset, .of = t->insn_offset, .insns = t->insns, .exit = -1, .pending = t->pending, .x87 = t->x87_pointers};
    c->pending.live = t->pending.flags != IR_NONE && t->host_flags == t->pending.flags;
    ir_ref deps[MAX_DEPS];
    for (unsigned n = t->pending.flags == IR_NONE ? 0 : flags_deps(t, t->pending.flags, deps); n-- > 0;)
        c->deps[n] = (struct place){t->v[deps[n]].reg, t->v[deps[n]].spill};
    return c;
}

/* --- To the interpreter at this guest instruction */
void leave_if(struct tcg *t, unsigned cc, enum ir_leave reason)
{
    struct cold *c = cold_new(t, COLD_LEAVE);
    c->reason = (uint8_t)reason;
    c->from = emit_jcc(t, cc);
}

static bool same_way(const struct cold *a, const struct cold *b)
{
    return a->pending.flags == b->pending.flags && a->pending.live == b->pending.live && !memcmp(a->deps, b->deps, sizeof a->deps) &&
           a->x87.known == b->x87.known;
}

unsigned tcg_site_way(struct tcg *t)
{
    struct cold *c = cold_new(t, COLD_LEAVE);
    c->reason = IR_LEAVE_INTERPRET;
    if (t->leave_cold >= 0 && same_way(c, &t->cold[t->leave_cold]))
        t->colds--; /* that one does as well */
    else
        t->leave_cold = (int)(c - t->cold);
    return (unsigned)t->leave_cold;
}

void tcg_site_at(struct tcg *t, unsigned way)
{
    if (t->sites_n == MAX_SITES)
        t->complex = true;
    else
        t->sites[t->sites_n++] = (struct tcg_fault_site){here(t), way};
}

void tcg_site(struct tcg *t) { tcg_site_at(t, tcg_site_way(t)); }

void store_pc(struct tcg *t, int64_t offset)
{
    uint64_t pc = pc_at(t, offset);
    bool one = (int64_t)pc == (int32_t)pc;
    t->fixed |= offset != (int32_t)offset;
    for (unsigned k = 0; k < 2u - one; k++) {
        emit_rm(t, 0, 0xc7, one ? 8 : 4, 0, RBP, (int32_t)t->g->pc_offset + 4 * (int32_t)k);
        put32(t, (uint32_t)(pc >> 32 * k));
        reloc_note(t, here(t) - 4, RELOC_PC, one ? FORM_32S : k ? FORM_HIGH : FORM_LOW, (int32_t)offset);
    }
}

static void icount_give_back(struct tcg *t, unsigned done)
{
    if (t->o->icount && t->b->guest_insns != done)
        emit_alu_mem_imm(t, 0, 8, RBP, (int32_t)t->g->icount_offset, (int32_t)(t->b->guest_insns - done));
}

void emit_leave(struct tcg *t, enum ir_leave reason)
{
    emit_imm(t, RAX, reason);
    emit_rm(t, 0, 0xff, 4, 4, RBP, C_STUB_LEAVE);
}

/* By a chainable exit: the end is shared by all of the block. */
static void leave_chainable(struct tcg *t, int exit)
{
    emit_imm(t, RAX, (uint64_t)exit);
    if (t->exit_tail) {
        emit_bind(t, emit_jmp(t), t->exit_tail);
        return;
    }
    t->exit_tail = here(t);
    emit_rm(t, 0, 0x89, 8, RAX, RBP, C_EXIT_SITE);
    emit_moving(t, RAX, RELOC_USER, 0);
    emit_rm(t, 0, 0x89, 8, RAX, RBP, CONTEXT(block));
    emit_imm(t, RAX, IR_LEAVE_NEXT);
    put8(t, 0xc3);
}

/* --- Exits */
/* A displacement that will be patched lies in one cache line: a running CPU sees the old or the new one. */
static void align_displacement(struct tcg *t, unsigned opcode_bytes)
{
    while ((((uintptr_t)(t->run + here(t)) + opcode_bytes) & 63) > 60 && !t->full)
        put8(t, 0x90);
}

/* A chained exit must have executed every instruction that its block counts, so with counting on, exits in the
 * middle are not chained: they give back what was not run. */
static void exit_record(struct tcg *t, struct cold *c, int64_t target)
{
    struct tcg_block *out = t->out;
    bool gives_back = t->o->icount && t->b->guest_insns != c->insns;
    c->insn_offset = (int32_t)target;
    if (out->exit_count == TCG_MAX_EXITS || gives_back)
        return; /* not chainable: always by the cold path */
    c->exit = (int)out->exit_count;
    out->exits[out->exit_count++] = (struct tcg_exit){.jump_offset = c->from, .pc_offset = (int32_t)target};
}

static void exit_jump(struct tcg *t, int64_t target, int cc)
{
    struct cold *c = cold_new(t, COLD_EXIT);
    align_displacement(t, cc >= 0 ? 2 : 1);
    c->from = cc >= 0 ? emit_jcc(t, (unsigned)cc) : emit_jmp(t);
    exit_record(t, c, target);
}

/* A loop looks for a request to stop. */
void emit_exit(struct tcg *t, int64_t target, int cc)
{
    if (target > 0) {
        exit_jump(t, target, cc);
        return;
    }
    ir_ref flags = t->host_flags;
    uint32_t over = cc >= 0 ? emit_jcc_short(t, (unsigned)cc ^ 1) : 0;
    emit_alu_mem_imm(t, 7, 4, RBP, (int32_t)t->g->stop_offset, 0);
    t->host_flags = IR_NONE;
    struct cold *c = cold_new(t, COLD_STOP);
    c->insn_offset = (int32_t)target;
    c->from = emit_jcc(t, CC_NZ);
    exit_jump(t, target, -1);
    if (cc >= 0)
        emit_bind_short(t, over);
    t->host_flags = flags;
}

/* --- Cold code */
static void cold_leave(struct tcg *t, const struct cold *c, enum ir_leave reason)
{
    flags_settle_cold(t, c);
    tcg_x87_leave(t, &c->x87);
    store_pc(t, c->insn_offset);
    icount_give_back(t, c->insns - 1u);
    emit_leave(t, reason);
}

/* *none: the jump to the entry that leaves; a pending fault goes out as a fault (tcg_run). */
static void cold_translate(struct tcg *t, const struct cold *c, uint32_t *none)
{
    emit_rm(t, 0, 0x89, 8, c->ea, RSP, F_ADDRESS);
    emit_rm(t, 0, 0xc7, 4, 0, RSP, F_SIZE_ACCESS);
    put32(t, c->size_access);
    emit_rm(t, 0, 0xff, 4, 2, RBP, C_STUB_SLOW);
    emit_rm(t, 0, 0x8b, 8, c->to, RSP, F_RESULT);
    emit_rr(t, 0, 0x85, 8, c->to, c->to);
    *none = emit_jcc(t, CC_Z);
    emit_rr(t, 0, 0x29, 8, c->ea, c->to);
    emit_bind(t, emit_jmp(t), c->back);
}

/* Misaligned: slow only where it straddles pages, and that is the next entry. */
static void cold_unaligned(struct tcg *t, const struct cold *c)
{
    unsigned size = c->size_access & 0xff;
    emit_rm(t, 0, 0x8d, 8, c->to, c->ea, (int32_t)size - 1);
    emit_rr(t, 0, 0x31, 8, c->ea, c->to);
    emit_rr(t, 0, 0xf7, 4, 0, c->to);
    put32(t, 0xfffff000);
    emit_bind(t, emit_jcc(t, CC_Z), c->back);
}

/* Another page, or an instruction that may straddle: seldom chained, found by the table. */
static void jump_by_table(struct tcg *t, int32_t offset)
{
    emit_rm(t, 0, 0x8b, 8, RCX, RBP, CONTEXT(jumps));
    emit_moving(t, RSI, RELOC_PC, offset);
    emit_rm_far(t, 0x3b, 8, RSI, RCX, RELOC_ENTRY, offset);
    uint32_t miss = emit_jcc_short(t, CC_NZ);
    emit_rm_far(t, 0xff, 4, 4, RCX, RELOC_ENTRY_CODE, offset);
    emit_bind_short(t, miss);
}

/* The jump table does not know the target: it may be that it has no canonical form. */
static void cold_target(struct tcg *t, const struct cold *c, uint32_t *bad)
{
    emit_mov(t, c->to, c->ea);
    emit_shift_imm(t, 4, 8, c->to, 16);
    emit_shift_imm(t, 7, 8, c->to, 16);
    emit_rr(t, 0, 0x39, 8, c->ea, c->to);
    *bad = emit_jcc(t, CC_NZ);
    emit_rm(t, 0, 0x8d, 8, c->to, RBP, CONTEXT(jumps));
    emit_bind(t, emit_jmp(t), c->back);
}

static void cold_exit(struct tcg *t, const struct cold *c)
{
    uint64_t pc = pc_at(t, c->insn_offset);
    flags_settle_cold(t, c);
    icount_give_back(t, c->insns);
    if (c->exit >= 0 && c->pending.flags != IR_NONE) {
        struct tcg_exit *e = &t->out->exits[c->exit];
        align_displacement(t, 1);
        e->late_offset = emit_jmp(t);
        e->late_stub = here(t);
        emit_bind(t, e->late_offset, e->late_stub);
    }
    if ((pc ^ t->o->pc) & ~0xfffull || (pc & 0xfff) > 0x1000 - 15)
        jump_by_table(t, c->insn_offset);
    store_pc(t, c->insn_offset);
    if (c->exit >= 0)
        leave_chainable(t, c->exit);
    else
        emit_leave(t, IR_LEAVE_NEXT);
}

static void cold_stop(struct tcg *t, const struct cold *c)
{
    flags_settle_cold(t, c);
    icount_give_back(t, c->insns);
    store_pc(t, c->insn_offset);
    emit_leave(t, IR_LEAVE_NEXT);
}

void emit_cold(struct tcg *t)
{
    uint32_t none[MAX_COLD], at[MAX_COLD];
    for (unsigned n = 0; n < t->colds && !t->full; n++) {
        struct cold *c = &t->cold[n];
        at[n] = here(t);
        line_note(t, c->of, true);
        if (c->from)
            emit_bind(t, c->from, at[n]);
        switch ((enum cold_kind)c->kind) {
        case COLD_TRANSLATE: cold_translate(t, c, &none[n]); break;
        case COLD_TARGET: cold_target(t, c, &none[n]); break;
        case COLD_UNALIGNED: cold_unaligned(t, c); break;
        case COLD_LEAVE: cold_leave(t, c, (enum ir_leave)c->reason); break;
        case COLD_STOP: cold_stop(t, c); break;
        case COLD_HOT:
            store_pc(t, 0);
            emit_leave(t, IR_LEAVE_HOT);
            break;
        case COLD_EXIT:
            if (c->exit >= 0)
                t->out->exits[c->exit].stub_offset = at[n];
            cold_exit(t, c);
            break;
        }
    }
    if (t->full)
        return;
    for (unsigned n = 0; n < t->colds; n++)
        if (t->cold[n].kind == COLD_TRANSLATE || t->cold[n].kind == COLD_TARGET)
            emit_bind(t, none[n], at[t->cold[n].way]);
    for (unsigned n = 0; n < t->sites_n; n++)
        t->sites[n].slow_offset = at[t->sites[n].slow_offset];
}
