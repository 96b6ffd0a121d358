/* Jump tables: how a block makes the target of its computed jump, and what the table holds.  Two shapes are known, as compilers make them: the target is
 * loaded from a table of addresses, or it is a base plus a signed 32-bit distance that is loaded from a table.  Base and table are mostly one, which
 * may have been put into a register somewhere before.  The block in front compares the index with the table's last, without which nobody knows where a table
 * ends: tables stand one behind the other, and each one's distances are from its own beginning. */
#include "tools/tierce-cache/discover.h"
#include <string.h>

enum { TABLE_MOST = 4096 /* entries */, LOOK_BACK = 2000 /* constants */ };
struct shape { bool known_table, known_base, same /* base and table, whatever they are */, distances; uint64_t table, base; unsigned size, entries; };

static const struct ir_insn *insn(const struct ir_block *b, ir_ref r) { return r == IR_NONE || r >= b->count ? NULL : &b->insns[r]; }

static const struct ir_insn *without_extensions(const struct ir_block *b, ir_ref r)
{
    const struct ir_insn *i = insn(b, r);
    while (i && (i->op == IR_zext || i->op == IR_trunc))
        i = insn(b, i->arg[0]);
    return i;
}

/* The constant part of a load's address; *index: the operand of it that is not known, IR_NONE: there is none. */
static bool address(const struct ir_block *b, const struct ir_insn *load, uint64_t pc, bool *known, uint64_t *at, ir_ref *base)
{
    const struct ir_insn *t = insn(b, load->arg[0]), *a = t && t->op == IR_translate ? without_extensions(b, t->arg[0]) : NULL;
    if (!a || (a->op != IR_lea && a->op != IR_add))
        return false;
    const struct ir_insn *first = insn(b, a->arg[0]);
    *base = a->arg[0];
    *known = first && (first->op == IR_pc || first->op == IR_const);
    *at = (*known ? (uint64_t)first->imm + (first->op == IR_pc ? pc : 0) : 0) + (uint64_t)load->imm + (a->op == IR_lea ? (uint64_t)a->imm : 0);
    return true;
}

static bool find_shape(const struct ir_block *b, uint64_t pc, struct shape *s)
{
    const struct ir_insn *jump = &b->insns[b->count - 1], *target = jump->op == IR_jump_to ? without_extensions(b, jump->arg[0]) : NULL;
    ir_ref index;
    *s = (struct shape){0};
    if (target && target->op == IR_load) {
        s->size = ir_type_bytes(target->type);
        return address(b, target, pc, &s->known_table, &s->table, &index);
    }
    for (unsigned n = 0; target && target->op == IR_add && n < 2; n++) {
        const struct ir_insn *distance = insn(b, target->arg[n]), *base = insn(b, target->arg[1 - n]);
        const struct ir_insn *load = distance && distance->op == IR_sext ? insn(b, distance->arg[0]) : NULL;
        if (!load || load->op != IR_load || load->type != IR_I32 || !address(b, load, pc, &s->known_table, &s->table, &index))
            continue;
        s->distances = true;
        s->size = 4;
        s->known_base = base && base->op == IR_pc;
        s->base = s->known_base ? pc + (uint64_t)base->imm : 0;
        s->same = index == target->arg[1 - n];
        return true;
    }
    return false;
}

/* In the same function, or, where functions are not known, near by; and what is rare in it stands elsewhere. */
static bool is_near(const struct discovery *d, uint64_t from, uint64_t to)
{
    const struct span *s = image_function(d->image, from);
    return s ? to >= s->from && to < s->to : to - from + 0x4000 < 0x8000;
}

static bool entry(const struct discovery *d, const struct shape *s, unsigned n, uint64_t *to)
{
    const struct part *p = image_at(d->image, s->table);
    uint64_t room = p && !p->code ? p->size - (s->table - p->pc) : 0;
    *to = 0;
    if ((n + 1) * s->size > room)
        return false;
    memcpy(to, p->bytes + (s->table - p->pc) + n * s->size, s->size);
    if (s->distances)
        *to = s->base + (uint64_t)(int64_t)(int32_t)*to;
    return image_code(d->image, *to, 1);
}

/* Where all of it lead to code, and some near by; *found says so.  False: out of memory. */
static bool read_table(struct discovery *d, struct found_block *b, const struct shape *s, bool *found)
{
    uint64_t to;
    bool near = false;
    *found = true;
    for (unsigned n = 0; *found && n < s->entries; n++) {
        *found = entry(d, s, n, &to);
        near |= is_near(d, b->pc, to);
    }
    *found &= near;
    for (unsigned n = 0; *found && n < s->entries; n++)
        if (!entry(d, s, n, &to) || !discovery_edge(d, b, to))
            return false;
    d->tables += *found;
    return true;
}

/* --- From the block before */
bool discovery_hint(struct discovery *d, const struct found_block *b)
{
    const struct ir_block *ir = &d->ir;
    const struct ir_insn *end = &ir->insns[ir->count - 1], *exit = ir->count > 1 ? end - 1 : NULL;
    const struct ir_insn *test = exit && exit->op == IR_exit_if && end->op == IR_jump ? insn(ir, exit->arg[0]) : NULL;
    const struct ir_insn *flags = test && test->op == IR_test_cc && (test->aux == IR_CC_A || test->aux == IR_CC_BE) ? insn(ir, test->arg[0]) : NULL;
    const struct ir_insn *compare = flags && flags->op == IR_flags_of ? insn(ir, flags->arg[0]) : NULL, *last = compare && compare->op == IR_sub ? insn(ir, compare->arg[1]) : NULL;
    if (!last || last->op != IR_const || (uint64_t)last->imm >= TABLE_MOST)
        return true;
    if (!grown((void **)&d->hints, &d->hint_room, d->hint_count, sizeof *d->hints))
        return false;
    d->hints[d->hint_count++] = (struct hint){ir_cut(b->pc + (uint64_t)(test->aux == IR_CC_A ? end : exit)->imm, ir->pc_bits), (unsigned)last->imm + 1};
    return true;
}

bool discovery_near(struct discovery *d, uint64_t pc)
{
    for (size_t n = 0; n < d->table_count; n++) {
        if (image_code(d->image, d->table[n], 1))
            continue;
        if (!grown((void **)&d->nears, &d->near_room, d->near_count, sizeof *d->nears))
            return false;
        d->nears[d->near_count++] = (struct near){pc, d->table[n]};
    }
    return true;
}

/* Depth first, so it is one of the latest. */
static const struct hint *hint_for(const struct discovery *d, uint64_t pc)
{
    for (size_t n = d->hint_count; n && d->hint_count - n < 1000; n--)
        if (d->hints[n - 1].pc == pc)
            return &d->hints[n - 1];
    return NULL;
}

bool discovery_table(struct discovery *d, struct found_block *b)
{
    struct shape s;
    const struct hint *h = hint_for(d, b->pc);
    bool ok = true, found = false;
    if (!h || !find_shape(&d->ir, b->pc, &s) || (s.size != 4 && s.size != 8))
        return true;
    s.entries = h->entries;
    s.table = ir_cut(s.table, d->ir.pc_bits);
    if (s.known_table && (!s.distances || s.known_base))
        return read_table(d, b, &s, &found);
    const struct span *f = image_function(d->image, b->pc);
    for (size_t n = d->near_count; ok && !found && s.distances && (s.same || s.known_table != s.known_base) && n && d->near_count - n < LOOK_BACK; n--) {
        const struct near *c = &d->nears[n - 1];
        if (f ? c->pc < f->from || c->pc >= f->to : c->pc > b->pc || b->pc - c->pc > 4096)
            continue;
        struct shape guess = s;
        guess.base = s.known_base ? s.base : c->value;
        guess.table = s.known_table ? s.table : c->value;
        ok = read_table(d, b, &guess, &found);
    }
    return ok;
}
