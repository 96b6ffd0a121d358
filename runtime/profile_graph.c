/* Regions from a profile: the blocks that ran are lifted for what the code says of where they go, counts say what is hot, and regions are grown
 * from where control comes in from elsewhere: functions, what is behind calls, heads of loops, and the ways out of other regions. */
#include "runtime/internal.h"
#include "runtime/recipe.h"
#include "runtime/region_choose.h"
#include <stdlib.h>
#include <string.h>

enum { MOST_INSNS = 300, SMALL_CALLEE = 40 /* instructions, of a function that goes inside of its callers */, RETURNS = 16 /* of a function, that are looked for */, FUNCTION_BLOCKS = 64, LOOP_ROUNDS = 8, CALL = 0xe8 };
/* A block as a region has it: up to its first jump. */
struct node {
    uint64_t pc, count;
    const uint8_t *bytes;
    uint32_t mode, next;            /* in its hash chain, or NONE */
    uint32_t to[2]; uint8_t to_count; /* nodes; of a call, to[0] is the callee */
    uint32_t behind;                /* of a call: where it returns to, or NONE */
    uint64_t to_pc[2];
    uint16_t size, page_offset, insns, function_insns; /* function_insns: from here to its returns; 0: not known yet */
    uint8_t ending;
    bool refused, wanted /* regions begin here */, reached /* by a jump of some node */;
};
#define NONE UINT32_MAX
struct graph {
    const struct x86_model *model;
    const struct profile *p;
    struct node *nodes; uint32_t count, room;
    uint32_t *hash; uint32_t hash_mask;
    struct todo { uint64_t count; uint32_t node; } *todo; uint32_t todo_count;
    uint64_t least;
    bool out_of_memory;
};

/* --- Nodes */
static uint32_t *chain_of(struct graph *g, uint32_t mode, uint64_t pc)
{
    return &g->hash[((pc ^ (uint64_t)mode << 40) * 0x9e3779b97f4a7c15ull >> 32) & g->hash_mask];
}

/* Of several with that PC, from different address spaces or times, the hottest. */
static uint32_t find(struct graph *g, uint32_t mode, uint64_t pc)
{
    uint32_t best = NONE;
    for (uint32_t n = *chain_of(g, mode, pc); n != NONE; n = g->nodes[n].next)
        if (g->nodes[n].pc == pc && g->nodes[n].mode == mode && (best == NONE || g->nodes[n].count > g->nodes[best].count))
            best = n;
    return best;
}

static uint32_t find_same(struct graph *g, const struct node *like)
{
    uint32_t n = *chain_of(g, like->mode, like->pc);
    while (n != NONE && !(g->nodes[n].pc == like->pc && g->nodes[n].mode == like->mode && g->nodes[n].size == like->size &&
                          !memcmp(g->nodes[n].bytes, like->bytes, like->size)))
        n = g->nodes[n].next;
    return n;
}

static void add(struct graph *g, const struct node *n)
{
    uint32_t same = find_same(g, n), *chain = chain_of(g, n->mode, n->pc);
    if (same != NONE) {
        g->nodes[same].count += n->count;
        return;
    }
    g->nodes[g->count] = *n;
    g->nodes[g->count].next = *chain;
    *chain = g->count++;
}

/* A call that goes to a known place is a jump, to the IR; what pushes its return address is CALL rel. */
static bool is_call(uint32_t mode, const uint8_t *bytes, unsigned size, bool next)
{
    unsigned length = (mode & X86_MODE_CODE) == X86_MODE_CODE16 ? 3 : 5;
    return size >= length && bytes[size - length] == CALL && !next;
}

void code_ways(const struct ir_block *ir, uint32_t mode, uint64_t pc, const uint8_t *bytes, unsigned size, struct code_ways *w)
{
    *w = (struct code_ways){.ending = CODE_GOES_ON};
    for (ir_ref k = 0; k < ir->count; k++) {
        const struct ir_insn *i = &ir->insns[k];
        if ((i->op == IR_exit_if || i->op == IR_jump) && w->count < 2)
            w->to[w->count++] = ir_cut(pc + (uint64_t)i->imm, ir->pc_bits);
        if (i->op == IR_jump && is_call(mode, bytes, size, w->to[w->count - 1] == pc + size))
            w->ending = CODE_CALL;
        if (i->op == IR_jump_to)
            w->ending = i->aux == IR_JUMP_RET ? CODE_RETURN : i->aux == IR_JUMP_CALL ? CODE_CALL_COMPUTED : CODE_COMPUTED;
    }
}

static void describe(struct node *n, const struct ir_block *ir)
{
    struct code_ways w;
    code_ways(ir, n->mode, n->pc, n->bytes, n->size, &w);
    memcpy(n->to_pc, w.to, sizeof n->to_pc);
    n->to_count = (uint8_t)w.count;
    n->ending = (uint8_t)w.ending;
    n->insns = (uint16_t)ir->guest_insns;
    n->refused = llvm_refuses(ir);
}

/* A block of the profile is one of the template tier: it may go on behind a jump that is not taken. */
static void split(struct graph *g, const struct profile_block *b)
{
    struct ir_block ir;
    ir_block_init(&ir);
    for (unsigned at = 0; at < b->size && g->count < g->room;) {
        struct node n = {.pc = b->pc + at, .count = at ? b->count / 2 : b->count, .bytes = b->bytes + at, .mode = b->mode, .behind = NONE, .to = {NONE, NONE},
                         .page_offset = (uint16_t)((b->page_offset + at) % PAGE)};
        struct recipe_block r = {.size = (uint16_t)(b->size - at), .page_offset = n.page_offset, .bytes = n.bytes};
        if (!recipe_lift(g->model, n.mode, g->p->icount, &r, &ir) || !ir.guest_bytes || ir.guest_bytes > r.size)
            break;
        n.size = (uint16_t)ir.guest_bytes;
        describe(&n, &ir);
        add(g, &n);
        at += n.size;
    }
    g->out_of_memory |= ir.out_of_memory;
    ir_block_free(&ir);
}

static void connect(struct graph *g)
{
    for (uint32_t k = 0; k < g->count; k++) {
        struct node *n = &g->nodes[k];
        unsigned kept = 0;
        for (unsigned e = 0; e < n->to_count; e++) {
            uint32_t to = find(g, n->mode, n->to_pc[e]);
            if (to != NONE)
                n->to[kept++] = to;
            if (to != NONE && n->ending != CODE_CALL)
                g->nodes[to].reached = true;
        }
        n->to_count = (uint8_t)kept;
        if (n->ending == CODE_CALL || n->ending == CODE_CALL_COMPUTED)
            n->behind = find(g, n->mode, ir_cut(n->pc + n->size, x86_pc_bits(n->mode)));
    }
}

/* --- Functions: from which blocks one goes back, and how large it is. */
static unsigned returns_of(const struct graph *g, uint32_t function, uint32_t to[RETURNS], unsigned *insns)
{
    uint32_t list[FUNCTION_BLOCKS] = {function};
    unsigned count = 1, found = 0;
    *insns = 0;
    for (unsigned k = 0; k < count; k++) {
        const struct node *n = &g->nodes[list[k]];
        bool call = n->ending == CODE_CALL || n->ending == CODE_CALL_COMPUTED;
        *insns += n->insns;
        if (n->ending == CODE_RETURN && found < RETURNS)
            to[found++] = list[k];
        for (unsigned e = 0; e < (call ? 1u : n->to_count); e++) {
            uint32_t next = call ? n->behind : n->to[e];
            unsigned at = 0;
            while (at < count && list[at] != next)
                at++;
            if (next != NONE && at == count && count < FUNCTION_BLOCKS)
                list[count++] = next;
        }
    }
    return found;
}

static bool goes_inside(const struct graph *g, uint32_t function)
{
    uint32_t returns[RETURNS];
    unsigned insns;
    struct node *n = &g->nodes[function];
    if (!n->function_insns) {
        returns_of(g, function, returns, &insns);
        n->function_insns = (uint16_t)(insns < UINT16_MAX ? insns : UINT16_MAX);
    }
    return n->function_insns <= SMALL_CALLEE;
}

static bool returns_from(const struct graph *g, uint32_t function, uint32_t block)
{
    uint32_t returns[RETURNS];
    unsigned insns, count = returns_of(g, function, returns, &insns);
    while (count && returns[count - 1] != block)
        count--;
    return count;
}

static void edge(struct choice_block *b, uint32_t to)
{
    if (b->edge_count < CHOICE_EDGES)
        b->edges[b->edge_count++] = to;
}

/* Calls that are inside already, and return from there: to behind them.  By count. */
static void return_edges(const struct graph *g, const struct choice *c, uint32_t block, struct choice_block *b)
{
    for (unsigned k = 0; k < c->count; k++) {
        const struct node *n = &g->nodes[c->order[k]];
        bool may = n->ending == CODE_CALL && n->behind != NONE && n->to_count && c->place[n->to[0]] != NOT_CHOSEN;
        if (!may || !returns_from(g, n->to[0], block))
            continue;
        unsigned at = b->edge_count < CHOICE_EDGES ? b->edge_count++ : CHOICE_EDGES - 1;
        for (; at && g->nodes[b->edges[at - 1]].count < g->nodes[n->behind].count; at--)
            b->edges[at] = b->edges[at - 1];
        b->edges[at] = n->behind;
    }
}

static void graph_block(void *ctx, const struct choice *c, uint32_t k, struct choice_block *b)
{
    const struct graph *g = ctx;
    const struct node *n = &g->nodes[k];
    uint32_t returns[RETURNS];
    unsigned insns;
    *b = (struct choice_block){.count = n->count, .insns = n->insns, .refused = n->refused};
    for (unsigned e = 0; e < n->to_count; e++)
        if (n->ending != CODE_CALL || goes_inside(g, n->to[e]))
            edge(b, n->to[e]);
    if (n->ending == CODE_RETURN)
        return_edges(g, c, k, b);
    if (n->ending != CODE_CALL || n->behind == NONE || !b->edge_count)
        return;
    for (unsigned r = returns_of(g, n->to[0], returns, &insns); r--;) /* its function was there before */
        if (c->place[returns[r]] != NOT_CHOSEN) {
            edge(b, n->behind);
            break;
        }
}

/* --- Where regions begin */
static void want(struct graph *g, uint32_t n)
{
    if (n == NONE || g->nodes[n].wanted || g->nodes[n].refused || g->nodes[n].count < g->least)
        return;
    g->nodes[n].wanted = true;
    g->todo[g->todo_count++] = (struct todo){g->nodes[n].count, n};
}

static void want_first(struct graph *g)
{
    for (uint32_t k = 0; k < g->count; k++) {
        const struct node *n = &g->nodes[k];
        if (!n->reached)
            want(g, k);
        if (n->ending == CODE_CALL && n->to_count)
            want(g, n->to[0]);
        want(g, n->behind);
        for (unsigned e = 0; e < n->to_count; e++) { /* a loop is begun in the middle of where the region of its function was left */
            const struct node *to = &g->nodes[n->to[e]];
            if (n->ending != CODE_CALL && to->pc <= n->pc && n->pc - to->pc < PAGE && to->count >= LOOP_ROUNDS * g->least)
                want(g, n->to[e]);
        }
    }
}

static void want_exits(struct graph *g, const struct choice *c)
{
    for (unsigned k = 0; k < c->count; k++) {
        const struct node *n = &g->nodes[c->order[k]];
        for (unsigned e = 0; e < n->to_count; e++)
            if (c->place[n->to[e]] == NOT_CHOSEN)
                want(g, n->to[e]);
    }
}

/* --- As a recipe */
static uint64_t rounded(uint64_t count) { return count ? 1ull << (63 - __builtin_clzll(count)) : 0; }

static void block_fill(const struct graph *g, const struct choice *c, unsigned k, struct recipe_block *to)
{
    const struct node *n = &g->nodes[c->order[k]], *head = &g->nodes[c->order[0]];
    struct choice_block b;
    *to = (struct recipe_block){.pc = ir_signed(n->pc - head->pc, x86_pc_bits(n->mode)), .size = n->size, .page_offset = n->page_offset, .bytes = n->bytes,
                                .count = rounded(n->count)};
    if (n->ending != CODE_RETURN)
        return;
    graph_block((void *)(uintptr_t)g, c, c->order[k], &b);
    for (unsigned e = 0; e < b.edge_count && to->target_count < 8; e++)
        if (c->place[b.edges[e]] != NOT_CHOSEN)
            to->targets[to->target_count++] = (struct llvm_target){(uint32_t)c->place[b.edges[e]], (uint32_t)rounded(g->nodes[b.edges[e]].count)};
}

static bool emit(struct graph *g, const struct choice *c, bool (*each)(void *ctx, const struct recipe *), void *ctx)
{
    struct recipe_block blocks[CHOICE_BLOCKS];
    void *made[CHOICE_BLOCKS];
    const struct recipe r = {.mode = g->nodes[c->order[0]].mode, .icount = g->p->icount, .block_count = c->count, .blocks = blocks};
    for (unsigned k = 0; k < c->count; k++) {
        block_fill(g, c, k, &blocks[k]);
        g->out_of_memory |= !recipe_block_unmoved(&blocks[k], r.mode, g->nodes[c->order[k]].pc, &made[k]);
    }
    bool go_on = each(ctx, &r);
    for (unsigned k = 0; k < c->count; k++)
        free(made[k]);
    return go_on;
}

static int by_count(const void *a, const void *b)
{
    const struct todo *x = a, *y = b;
    return x->count != y->count ? (x->count < y->count ? 1 : -1) : x->node < y->node ? -1 : x->node > y->node;
}

static bool all_regions(struct graph *g, struct choice *c, bool (*each)(void *ctx, const struct recipe *), void *ctx)
{
    bool go_on = true;
    want_first(g);
    for (uint32_t from = 0; from < g->todo_count && go_on;) { /* what the ways out add is colder than what they are ways out of, as a rule */
        uint32_t end = g->todo_count;
        qsort(g->todo + from, end - from, sizeof *g->todo, by_count);
        for (; from < end && go_on; from++) {
            choice_make(c, g->todo[from].node, CHOICE_BLOCKS, MOST_INSNS, graph_block, g);
            want_exits(g, c);
            go_on = emit(g, c, each, ctx);
            choice_end(c);
        }
    }
    return go_on;
}

bool profile_recipes(const struct x86_model *model, const struct profile *p, uint64_t least, bool (*each)(void *ctx, const struct recipe *), void *ctx)
{
    struct graph g = {.model = model, .p = p, .least = least ? least : 1, .hash_mask = 1023};
    struct choice c = {0};
    size_t room = 0;
    for (unsigned n = 0; n < p->recipe_count; n++)
        if (!each(ctx, p->recipes[n]))
            return true;
    for (unsigned n = 0; n < p->block_count; n++)
        room += p->blocks[n].size; /* a block has a byte at least */
    while (g.hash_mask < p->block_count * 2 && g.hash_mask < UINT32_MAX / 4)
        g.hash_mask = g.hash_mask * 2 + 1;
    room = room < 4 * (size_t)p->block_count ? room : 4 * (size_t)p->block_count;
    g.nodes = malloc((room + 1) * sizeof *g.nodes);
    g.hash = malloc((g.hash_mask + 1ull) * sizeof *g.hash);
    g.todo = malloc((room + 1) * sizeof *g.todo);
    c.place = malloc((room + 1) * sizeof *c.place);
    g.room = (uint32_t)room;
    bool ok = g.nodes && g.hash && g.todo && c.place;
    if (ok) {
        memset(g.hash, 0xff, (g.hash_mask + 1ull) * sizeof *g.hash);
        memset(c.place, 0xff, (room + 1) * sizeof *c.place);
        for (unsigned n = 0; n < p->block_count; n++)
            split(&g, &p->blocks[n]);
        connect(&g);
        all_regions(&g, &c, each, ctx);
    }
    free(g.nodes);
    free(g.hash);
    free(g.todo);
    free(c.place);
    return ok && !g.out_of_memory;
}
