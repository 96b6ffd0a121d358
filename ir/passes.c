/* The passes, each one walk over the block:
 *   forward   constants, copies, and state that is known (a get after a put or get of the same slot)
 *   backward  puts that are overwritten unseen, pure operations without a user
 *   compact   takes the removed operations out and renumbers
 * What is removed becomes a `const` of type void until compact; nothing is reordered, so that every fault sees
 * the state that it saw before. */
#include "ir/internal.h"
#include <stdlib.h>
#include <string.h>

#define MAX_OPS 4096u
#define KNOWN 48u

struct known { uint32_t offset; uint8_t size, type, state_class; ir_ref value; };
struct pass {
    struct ir_block *block;
    const struct ir_guest *guest;
    ir_ref same[MAX_OPS];          /* value -> the value that stands for it */
    bool flagged[MAX_OPS];         /* some flags_of names it */
    struct known known[KNOWN]; unsigned known_count;
};

static bool removed(const struct ir_insn *i) { return i->op == IR_const && i->type == IR_VOID; }
static void erase(struct ir_insn *i) { *i = (struct ir_insn){.op = IR_const, .type = IR_VOID, .arg = {IR_NONE, IR_NONE, IR_NONE, IR_NONE}}; }
static bool overlap(uint32_t a, unsigned a_size, uint32_t b, unsigned b_size) { return a < b + b_size && b < a + a_size; }

/* --- What is known of the state */
static uint8_t class_of(const struct ir_guest *g, uint32_t offset)
{
    unsigned low = 0, high = g->slot_count;
    while (low < high) { /* the slots stand in the order of their offsets */
        unsigned middle = (low + high) / 2;
        const struct ir_slot *s = &g->slots[middle];
        if (offset >= s->offset + ir_type_bytes((enum ir_type)s->type))
            low = middle + 1;
        else if (offset < s->offset)
            high = middle;
        else
            return s->state_class;
    }
    return IR_S_ALL;
}

static void forget(struct pass *p, uint32_t offset, unsigned size)
{
    unsigned kept = 0;
    for (unsigned k = 0; k < p->known_count; k++)
        if (!overlap(p->known[k].offset, p->known[k].size, offset, size))
            p->known[kept++] = p->known[k];
    p->known_count = kept;
}

static void forget_classes(struct pass *p, unsigned classes)
{
    unsigned kept = 0;
    for (unsigned k = 0; k < p->known_count; k++)
        if (!(p->known[k].state_class & classes))
            p->known[kept++] = p->known[k];
    p->known_count = kept;
}

static void learn(struct pass *p, const struct ir_insn *i, ir_ref value)
{
    if (p->known_count == KNOWN)
        p->known_count = 0;
    p->known[p->known_count++] = (struct known){(uint32_t)i->imm, (uint8_t)ir_type_bytes((enum ir_type)i->type), i->type,
                                                class_of(p->guest, (uint32_t)i->imm), value};
}

static ir_ref recall(const struct pass *p, const struct ir_insn *i)
{
    for (unsigned k = 0; k < p->known_count; k++)
        if (p->known[k].offset == (uint64_t)i->imm && p->known[k].type == i->type)
            return p->known[k].value;
    return IR_NONE;
}

/* --- Forward */
static bool const_at(const struct ir_block *b, ir_ref r, uint64_t *v)
{
    if (r == IR_NONE || b->insns[r].op != IR_const || removed(&b->insns[r]))
        return false;
    *v = ir_cut((uint64_t)b->insns[r].imm, ir_type_bits((enum ir_type)b->insns[r].type));
    return true;
}

static void become_const(struct ir_insn *i, enum ir_type type, uint64_t v)
{
    *i = (struct ir_insn){.op = IR_const, .type = (uint8_t)type, .imm = (int64_t)v, .arg = {IR_NONE, IR_NONE, IR_NONE, IR_NONE}};
}

static bool foldable(const struct ir_insn *i)
{
    return i->op >= IR_add && i->op <= IR_extract && i->op != IR_select && i->op != IR_adc && i->op != IR_sbb &&
           i->op != IR_rcl && i->op != IR_rcr && i->type <= IR_I64;
}

static void fold(struct pass *p, ir_ref n)
{
    struct ir_block *b = p->block;
    struct ir_insn *i = &b->insns[n];
    uint64_t x[3] = {0};
    if (!foldable(i))
        return;
    for (unsigned k = 0; k < 3; k++)
        if (i->arg[k] != IR_NONE && !const_at(b, i->arg[k], &x[k]))
            return;
    enum ir_type result = ir_result_type(b, n);
    uint64_t v;
    if (i->op == IR_sext)
        v = ir_cut((uint64_t)ir_signed(x[0], ir_type_bits(ir_result_type(b, i->arg[0]))), ir_type_bits(result));
    else
        v = ir_eval((enum ir_op)i->op, (enum ir_type)i->type, i->aux, i->imm, x);
    become_const(i, result, v);
}

/* Operations that yield one of their operands; flags_of needs the producer itself, so they stay where it is asked for. */
static ir_ref identity(const struct ir_block *b, ir_ref n)
{
    const struct ir_insn *i = &b->insns[n];
    uint64_t c;
    switch ((unsigned)i->op) {
    case IR_add: case IR_sub: case IR_or: case IR_xor:
        return const_at(b, i->arg[1], &c) && !c ? i->arg[0] : n;
    case IR_lea:
        return i->arg[1] == IR_NONE && !i->imm ? i->arg[0] : n;
    case IR_trunc: { /* of what was widened from that very type */
        const struct ir_insn *from = &b->insns[i->arg[0]];
        if ((from->op == IR_zext || from->op == IR_sext) && ir_result_type(b, from->arg[0]) == (enum ir_type)i->type)
            return from->arg[0];
        return ir_result_type(b, i->arg[0]) == (enum ir_type)i->type ? i->arg[0] : n;
    }
    case IR_zext: case IR_sext:
        return ir_result_type(b, i->arg[0]) == (enum ir_type)i->type ? i->arg[0] : n;
    case IR_select:
        return i->arg[1] == i->arg[2] ? i->arg[1] : const_at(b, i->arg[0], &c) ? i->arg[c & 1 ? 1 : 2] : n;
    case IR_flags_unpack:
        return b->insns[i->arg[0]].op == IR_flags_pack ? b->insns[i->arg[0]].arg[0] : n;
    default:
        return n;
    }
}

static void state_access(struct pass *p, ir_ref n)
{
    struct ir_insn *i = &p->block->insns[n];
    ir_ref value;
    switch ((unsigned)i->op) {
    case IR_get:
        value = recall(p, i);
        if (value == IR_NONE)
            learn(p, i, n);
        else
            p->same[n] = value;
        break;
    case IR_put:
        forget(p, (uint32_t)i->imm, ir_type_bytes((enum ir_type)i->type));
        learn(p, i, i->arg[0]);
        break;
    case IR_call:
        forget_classes(p, p->guest->helpers[i->imm].writes);
        break;
    default:
        if (ir_op_info[i->op].props & X87)
            forget_classes(p, IR_S_FPU);
        /* FP operations leave their sticky flags in the state. */
        if (i->op >= IR_FIRST_VECTOR && ir_op_info[i->op].props & ~PURE)
            forget(p, p->guest->mxcsr_offset, 4);
    }
}

static void forward(struct pass *p)
{
    struct ir_block *b = p->block;
    p->known_count = 0;
    memset(p->flagged, 0, b->count);
    for (ir_ref n = 0; n < b->count; n++)
        if (b->insns[n].op == IR_flags_of)
            p->flagged[b->insns[n].arg[0]] = true;
    for (ir_ref n = 0; n < b->count; n++) {
        struct ir_insn *i = &b->insns[n];
        p->same[n] = n;
        for (unsigned k = 0; k < 4; k++)
            if (i->arg[k] != IR_NONE && !(i->op == IR_flags_of && k == 0))
                i->arg[k] = p->same[i->arg[k]];
        state_access(p, n);
        if (p->flagged[n])
            continue; /* flags_of needs the operation itself */
        fold(p, n);
        ir_ref same = identity(b, n);
        if (same != n)
            p->same[n] = p->same[same];
    }
}

/* --- Backward */
struct covered { uint32_t offset; uint8_t size; };
struct backward { struct covered covered[KNOWN]; unsigned count; };

static bool observes_state(const struct ir_insn *i) { return i->op == IR_call || i->op == IR_exit_if || ir_op_info[i->op].props & (FAULTS | ENDS); }

/* The instruction before this one stores: it may change the block, and who runs it then leaves here (struct ir_env's stop). */
static bool may_be_left_at(const struct ir_block *b, uint32_t insn)
{
    for (uint32_t n = insn; n-- > 0 && b->insns[n].op != IR_insn;)
        if (ir_op_info[b->insns[n].op].props & WRITES_MEM)
            return true;
    return false;
}

static bool unseen_put(struct backward *w, const struct ir_insn *i)
{
    uint32_t offset = (uint32_t)i->imm;
    unsigned size = ir_type_bytes((enum ir_type)i->type);
    for (unsigned k = 0; k < w->count; k++)
        if (w->covered[k].offset <= offset && offset + size <= w->covered[k].offset + w->covered[k].size)
            return true;
    if (w->count < KNOWN)
        w->covered[w->count++] = (struct covered){offset, (uint8_t)size};
    return false;
}

static void seen(struct backward *w, const struct ir_insn *i)
{
    unsigned kept = 0;
    for (unsigned k = 0; k < w->count; k++)
        if (!overlap(w->covered[k].offset, w->covered[k].size, (uint32_t)i->imm, ir_type_bytes((enum ir_type)i->type)))
            w->covered[kept++] = w->covered[k];
    w->count = kept;
}

/* An x87 operation looks at the x87's slots alone. */
static void seen_x87(struct backward *w, const struct ir_x87 *x)
{
    unsigned kept = 0;
    for (unsigned k = 0; k < w->count; k++) {
        uint32_t at = w->covered[k].offset;
        if (at != x->control && at != x->status && at != x->top && at != x->tags && at - x->registers >= 8 * 16)
            w->covered[kept++] = w->covered[k];
    }
    w->count = kept;
}

static void backward(struct ir_block *b, const struct ir_guest *g, uint8_t *used)
{
    struct backward w = {.count = 0};
    memset(used, 0, b->count);
    for (uint32_t n = b->count; n-- > 0;) {
        struct ir_insn *i = &b->insns[n];
        unsigned props = ir_op_info[i->op].props;
        if (observes_state(i) || (i->op == IR_insn && may_be_left_at(b, n)))
            w.count = 0;
        if (props & X87)
            seen_x87(&w, &g->x87);
        if (i->op == IR_get && used[n])
            seen(&w, i);
        bool dead = i->op == IR_put ? unseen_put(&w, i) : !used[n] && (props == (props & (PURE | COMMUTES | FLAGGED)) ? props & PURE : i->op == IR_get);
        if (dead) {
            erase(i);
            continue;
        }
        for (unsigned k = 0; k < 4; k++)
            if (i->arg[k] != IR_NONE)
                used[i->arg[k]] = 1;
    }
}

static void compact(struct pass *p)
{
    struct ir_block *b = p->block;
    uint32_t kept = 0;
    for (uint32_t n = 0; n < b->count; n++) {
        struct ir_insn *i = &b->insns[n];
        if (removed(i))
            continue;
        for (unsigned k = 0; k < 4; k++)
            if (i->arg[k] != IR_NONE)
                i->arg[k] = p->same[i->arg[k]];
        p->same[n] = (ir_ref)kept;
        b->insns[kept++] = *i;
    }
    b->count = kept;
}

/* In debug builds what goes in and what comes out is verified. */
static void verify(const struct ir_block *b, const struct ir_guest *g)
{
#ifndef NDEBUG
    char error[200];
    if (ir_verify(b, g, error, sizeof error)) {
        fprintf(stderr, "ir_optimise: %s in\n", error);
        ir_print(stderr, b, g);
        abort();
    }
#else
    (void)b;
    (void)g;
#endif
}

void ir_optimise(struct ir_block *b, const struct ir_guest *g)
{
    struct pass p;
    uint8_t used[MAX_OPS];
    if (b->count > MAX_OPS || b->out_of_memory)
        return; /* only slower code */
    verify(b, g);
    p.block = b;
    p.guest = g;
    forward(&p);
    backward(b, g, used);
    compact(&p);
    verify(b, g);
}
