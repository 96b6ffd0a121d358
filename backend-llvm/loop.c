/* Loops of one block whose addresses go up or down by constants: streams.  Where the block has gone round once, it is found how many rounds all
 * streams stay on the pages where they are, and as many run in a copy of the block, the rounds, whose accesses in streams have no
 * checks: nothing of theirs can leave.  Then it is found anew, and a request to stop is looked for.  Where that is no whole
 * round - a page that has no entry, an access over a page's end - the next one has each access checked. */
#include "backend-llvm/internal.h"
#include <string.h>

enum { PAGE = 4096, FARTHEST_STEP = PAGE / 4, FARTHEST_APART = 512, LEAST_TRIPS = 16, LEAST_RUNS = 16 };

/* --- What moves, and how */
static bool overlaps(const struct ir_block *b, const struct ir_insn *put, int64_t slot)
{
    return put->imm < slot + 8 && slot < put->imm + (int64_t)ir_type_bytes(ir_result_type(b, put->arg[0]));
}

/* The value of a slot as a round begins with it. */
static bool is_first(const struct ir_block *b, ir_ref n)
{
    const struct ir_insn *get = &b->insns[n];
    if (get->op != IR_get || get->type != IR_I64)
        return false;
    for (ir_ref k = 0; k < n; k++)
        if (b->insns[k].op == IR_put && overlaps(b, &b->insns[k], get->imm))
            return false;
    return true;
}

/* By how much a round changes it.  False: not by a constant. */
static bool step_of(const struct fn *f, int64_t slot, ir_ref back, int64_t *step)
{
    const struct ir_block *b = f->b;
    *step = 0;
    ir_ref last = IR_NONE;
    for (ir_ref n = 0; n < back; n++)
        if (b->insns[n].op == IR_put && overlaps(b, &b->insns[n], slot)) {
            last = n;
            if (b->insns[n].imm != slot)
                return false;
        }
    if (last == IR_NONE)
        return true;
    if (ir_result_type(b, b->insns[last].arg[0]) != IR_I64)
        return false;
    struct root r = root_of(b, b->insns[last].arg[0]);
    *step = r.offset;
    return r.a != ROOT_PC && r.b == IR_NONE && is_first(b, r.a) && b->insns[r.a].imm == slot;
}

static bool part_of(const struct fn *f, ir_ref n, ir_ref back, struct stream_part *p)
{
    *p = (struct stream_part){.slot = NO_SLOT};
    if (n == IR_NONE || n == ROOT_PC)
        return true;
    p->slot = f->b->insns[n].imm;
    return is_first(f->b, n) && step_of(f, p->slot, back, &p->step);
}

/* The stream of an access, of itself alone.  False: it is in none. */
static bool stream_one(const struct fn *f, ir_ref n, ir_ref back, const struct root *r, struct stream *s)
{
    const struct ir_insn *i = &f->b->insns[n];
    *s = (struct stream){.pc = r->a == ROOT_PC, .shift = r->aux, .from = r->offset, .to = r->offset + i->imm, .write = i->aux & IR_WRITE};
    if (!part_of(f, r->a, back, &s->a) || !part_of(f, r->b, back, &s->b))
        return false;
    s->step = s->a.step + (int64_t)((uint64_t)s->b.step << r->aux);
    bool aligned = i->aux & (IR_ALIGNED | IR_AC) && !(i->imm & (i->imm - 1)); /* as it was in the round before */
    return s->step >= -FARTHEST_STEP && s->step <= FARTHEST_STEP && !(aligned && s->step & (i->imm - 1));
}

static bool same_root(const struct stream *x, const struct stream *y)
{
    return x->pc == y->pc && x->a.slot == y->a.slot && x->b.slot == y->b.slot && x->shift == y->shift;
}

static struct stream *stream_find(struct loop *l, const struct stream *one, bool extend)
{
    for (unsigned k = 0; k < l->count; k++) {
        struct stream *s = &l->streams[k];
        int64_t from = one->from < s->from ? one->from : s->from, to = one->to > s->to ? one->to : s->to;
        if (!same_root(s, one) || (extend ? to - from > FARTHEST_APART : from < s->from || to > s->to || one->write > s->write))
            continue;
        s->from = from, s->to = to;
        s->write |= extend && one->write;
        return s;
    }
    return NULL;
}

/* Of rounds alone: the stream that this access is of, NULL: none. */
static struct stream *stream_of(struct fn *f, ir_ref n, struct root *r)
{
    struct stream one;
    *r = root_of(f->b, f->b->insns[n].arg[0]);
    return f->loop.rounds && n < f->loop.back && stream_one(f, n, f->loop.back, r, &one) ? stream_find(&f->loop, &one, false) : NULL;
}

bool loop_has_stream(struct fn *f, ir_ref n)
{
    struct root r;
    return stream_of(f, n, &r);
}

/* --- Which blocks */
/* Its one way to itself, IR_NONE: there is none, or it does what no round may. */
static ir_ref way_back(const struct fn *f, unsigned index)
{
    ir_ref back = IR_NONE;
    unsigned to;
    for (ir_ref n = 0; n < f->b->count; n++) {
        const struct ir_insn *i = &f->b->insns[n];
        if (i->op == IR_call && back == IR_NONE)
            return IR_NONE;
        if ((i->op == IR_exit_if || i->op == IR_jump) && target_block(f, f->block, i->imm, &to) && to == index) {
            if (back != IR_NONE)
                return IR_NONE;
            back = n;
        }
    }
    return back;
}

static bool goes_round(const struct llvm_block *block, unsigned index)
{
    if (!block->count)
        return true; /* nobody knows */
    for (unsigned k = 0; k < block->target_count; k++)
        if (block->targets[k].block == index)
            return block->count >= LEAST_RUNS && (block->count - block->targets[k].count) * LEAST_TRIPS <= block->count;
    return false;
}

static void add_stream(struct loop *l, const struct stream *one)
{
    if (!stream_find(l, one, true) && l->count < LOOP_STREAMS)
        l->streams[l->count++] = *one;
}

/* The register that tells when the rounds are over: one that all of them move. */
static void choose_counter(struct loop *l)
{
    for (unsigned k = 0; k < l->count && !l->counter.step; k++)
        if (l->streams[k].step)
            l->counter = l->streams[k].a.step ? l->streams[k].a : l->streams[k].b;
}

bool loop_find(struct fn *f, unsigned index)
{
    struct loop *l = &f->loop;
    *l = (struct loop){0};
    if (f->b->pc_bits != 64 || index == f->r->block_count || !goes_round(f->block, index) || (l->back = way_back(f, index)) == IR_NONE)
        return false;
    for (ir_ref n = 0; n < l->back; n++) {
        struct stream one;
        struct root r;
        if (f->b->insns[n].op != IR_translate)
            continue;
        r = root_of(f->b, f->b->insns[n].arg[0]);
        if (stream_one(f, n, l->back, &r, &one))
            add_stream(l, &one);
    }
    choose_counter(l);
    if (!l->counter.step)
        l->count = 0;
    return l->count;
}

/* --- How many rounds */
static LLVMValueRef slot_value(struct fn *f, const struct stream_part *p) { return p->slot == NO_SLOT ? constant(f, f->i64, 0) : get_slot(f, p->slot, IR_I64); }
static LLVMValueRef either(struct fn *f, LLVMValueRef a, LLVMValueRef b) { return LLVMBuildOr(f->builder, a, b, ""); }
static LLVMValueRef above(struct fn *f, LLVMValueRef v, uint64_t most) { return LLVMBuildICmp(f->builder, LLVMIntUGT, v, constant(f, f->i64, most), ""); }

/* Leaves in `fixed` what is added to the parts that move.  Returns whether something forbids a round; *room: bytes to the page's end. */
static LLVMValueRef begin_stream(struct fn *f, struct stream *s, LLVMValueRef *room)
{
    LLVMBuilderRef b = f->builder;
    LLVMValueRef a = s->pc ? pc_value(f, 0) : slot_value(f, &s->a), by = LLVMBuildShl(b, slot_value(f, &s->b), constant(f, f->i64, s->shift), "");
    LLVMValueRef at = LLVMBuildAdd(b, a, by, ""), low = LLVMBuildAdd(b, at, constant(f, f->i64, (uint64_t)s->from), ""), entry;
    LLVMValueRef bad = table_miss(f, low, s->write, &entry), in_page = LLVMBuildAnd(b, low, constant(f, f->i64, PAGE - 1), "");
    uint64_t last = (uint64_t)(PAGE - (s->to - s->from)); /* where all of it lies in the page */
    bad = either(f, bad, above(f, in_page, last));
    *room = s->step > 0 ? LLVMBuildSub(b, constant(f, f->i64, last), in_page, "") : in_page;
    s->fixed = entry;
    if (!s->a.step)
        s->fixed = LLVMBuildAdd(b, s->fixed, a, "");
    if (!s->b.step)
        s->fixed = LLVMBuildAdd(b, s->fixed, by, "");
    return bad;
}

static LLVMValueRef least(struct fn *f, LLVMValueRef a, LLVMValueRef b)
{
    LLVMValueRef args[2] = {a, b};
    return a ? intrinsic(f, "llvm.umin", &f->i64, 1, args, 2) : b;
}

/* Streams of the same stride share a division. */
static LLVMValueRef count_rounds(struct fn *f, LLVMValueRef *bad)
{
    struct loop *l = &f->loop;
    LLVMValueRef room[LOOP_STREAMS], rounds = NULL;
    for (unsigned k = 0; k < l->count; k++)
        *bad = either(f, *bad, begin_stream(f, &l->streams[k], &room[k]));
    for (unsigned k = 0; k < l->count; k++) {
        uint64_t stride = (uint64_t)(l->streams[k].step < 0 ? -l->streams[k].step : l->streams[k].step);
        LLVMValueRef bytes = room[k];
        if (!stride || !room[k])
            continue;
        for (unsigned j = k + 1; j < l->count; j++)
            if (l->streams[j].step == l->streams[k].step || l->streams[j].step == -l->streams[k].step)
                bytes = least(f, bytes, room[j]), room[j] = NULL;
        rounds = least(f, rounds, LLVMBuildUDiv(f->builder, bytes, constant(f, f->i64, stride), ""));
    }
    return LLVMBuildAdd(f->builder, rounds, constant(f, f->i64, 1), "");
}

/* To the rounds, or to `slow`. */
void loop_begin_rounds(struct fn *f, LLVMBasicBlockRef slow)
{
    struct loop *l = &f->loop;
    l->rounds = LLVMAppendBasicBlockInContext(f->context, f->function, "");
    LLVMPositionBuilderAtEnd(f->builder, l->begin);
    LLVMValueRef bad = constant(f, f->i1, 0), rounds = count_rounds(f, &bad);
    LLVMValueRef by = LLVMBuildMul(f->builder, rounds, constant(f, f->i64, (uint64_t)l->counter.step), "");
    l->last = LLVMBuildAdd(f->builder, slot_value(f, &l->counter), by, "");
    unlikely(f, LLVMBuildCondBr(f->builder, bad, slow, l->rounds));
    LLVMPositionBuilderAtEnd(f->builder, l->rounds);
}

/* The way back: of rounds straight on, until they are over. */
void loop_round_ends(struct fn *f)
{
    struct loop *l = &f->loop;
    LLVMBasicBlockRef over = LLVMAppendBasicBlockInContext(f->context, f->function, "");
    unlikely(f, LLVMBuildCondBr(f->builder, LLVMBuildICmp(f->builder, LLVMIntEQ, slot_value(f, &l->counter), l->last, ""), over, l->rounds));
    LLVMPositionBuilderAtEnd(f->builder, over);
}

LLVMValueRef loop_address(struct fn *f, ir_ref n)
{
    struct root r;
    struct stream *s = stream_of(f, n, &r);
    if (!s)
        return NULL;
    LLVMValueRef host = s->fixed;
    if (s->a.step)
        host = LLVMBuildAdd(f->builder, host, operand(f, r.a), "");
    if (s->b.step)
        host = LLVMBuildAdd(f->builder, host, LLVMBuildShl(f->builder, operand(f, r.b), constant(f, f->i64, s->shift), ""), "");
    return LLVMBuildAdd(f->builder, host, constant(f, f->i64, (uint64_t)r.offset), "");
}
