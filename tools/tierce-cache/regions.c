/* Regions from what the code says of itself: loops, functions by who calls them from which loops.  A region begins
 * where control comes from outside - at functions, behind calls - and at loops, and has what is reached from there by jumps
 * and by calls of small functions, as far as the limits allow. */
#include "tools/tierce-cache/discover.h"
#include "runtime/cache.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BLOCKS = 96, SMALL_CALLEE = 40 /* instructions */, LEVELS = 4, ROUNDS = 3, MOST_CALLERS = 1000, LEAST_INSNS = 5 /* to look for less takes longer than to run it */, COUNT_ONCE = 16, TARGETS = 8 };

/* By function (index of its first block). */
struct function { uint32_t insns; uint16_t callers /* places, at most MOST_CALLERS */; uint8_t level; bool calls; };
struct grower {
    struct discovery *d;
    struct function *functions;
    const struct region_limits *limits;
    uint32_t order[MOST_BLOCKS]; unsigned count, insns, most_insns;
    const struct found_block *loop; /* whose rounds alone are wanted, by the block that it starts with; or NULL */
    bool loops, cold;
    uint32_t sites[MOST_BLOCKS]; unsigned site_count;   /* blocks that call a function inside */
};

static uint64_t power(unsigned level) { return 1ull << (3 * level); }

/* --- What the code says of itself */
static void mark_starts(struct discovery *d)
{
    for (size_t n = 0; n < d->image->entry_count; n++) {
        long at = discovery_find(d, d->image->entries[n]);
        if (at >= 0)
            d->blocks[at].starts_function = true;
    }
    for (size_t n = 0; n < d->count; n++) {
        const struct found_block *b = &d->blocks[n];
        long to = b->end == END_CALL && b->edge_count ? discovery_find(d, d->edges[b->edge]) : NO_BLOCK;
        if (to >= 0)
            d->blocks[to].starts_function = d->blocks[to].is_called = true;
    }
    uint32_t function = 0;
    for (size_t n = 0; n < d->count; n++) {
        if (d->blocks[n].starts_function || (n && d->blocks[n].pc - (d->blocks[n - 1].pc + d->blocks[n - 1].size) < 1ull << 63 &&
                                             d->blocks[n].pc > d->blocks[n - 1].pc + d->blocks[n - 1].size + 4096))
            function = (uint32_t)n;
        d->blocks[n].function = function;
    }
}

static void mark_levels(struct grower *g)
{
    struct discovery *d = g->d;
    for (size_t n = 0; n < d->count; n++) {
        struct function *f = &g->functions[d->blocks[n].function];
        f->insns += d->blocks[n].insns;
        f->calls |= d->blocks[n].end == END_CALL || d->blocks[n].end == END_CALL_COMPUTED;
    }
    for (size_t n = 0; n < d->count; n++) {
        const struct found_block *b = &d->blocks[n];
        long to = b->end == END_CALL && b->edge_count ? discovery_find(d, d->edges[b->edge]) : NO_BLOCK;
        if (to >= 0 && g->functions[d->blocks[to].function].callers < MOST_CALLERS)
            g->functions[d->blocks[to].function].callers++;
    }
    for (unsigned round = 0; round < ROUNDS; round++)
        for (size_t n = 0; n < d->count; n++) {
            const struct found_block *b = &d->blocks[n];
            long to = b->end == END_CALL && b->edge_count ? discovery_find(d, d->edges[b->edge]) : NO_BLOCK;
            unsigned level = g->functions[b->function].level / 2u + b->depth;
            if (to >= 0 && g->functions[d->blocks[to].function].level < level)
                g->functions[d->blocks[to].function].level = (uint8_t)(level < LEVELS ? level : LEVELS);
        }
}

static uint64_t weight_of(const struct grower *g, const struct found_block *b) { return power(b->depth + g->functions[b->function].level); }

/* Of what is worth the same, that comes first which is called from many places: a kernel's memset. */
static uint64_t order_of(const struct grower *g, const struct found_block *b)
{
    return weight_of(g, b) * (1u + g->functions[b->function].callers) * (g->d->image->kind == IMAGE_STUB ? MOST_CALLERS : 1u);
}

/* --- Growing */
static int place(const struct grower *g, uint32_t block)
{
    for (unsigned n = 0; n < g->count; n++)
        if (g->order[n] == block)
            return (int)n;
    return -1;
}

static void take(struct grower *g, long block, const struct found_block *from)
{
    const struct found_block *b = block >= 0 ? &g->d->blocks[block] : NULL;
    if (!b || b->refused || (b->in_region && g->cold) || (g->loop && b->function == g->loop->function && b->depth < g->loop->depth))
        return;
    if (place(g, (uint32_t)block) >= 0) {
        g->loops |= from && b->pc <= from->pc;
        return;
    }
    if (g->count == g->limits->blocks || g->insns + b->insns > g->most_insns)
        return;
    g->order[g->count++] = (uint32_t)block;
    g->insns += b->insns;
}

static bool goes_inside(const struct grower *g, long callee)
{
    const struct function *f = callee >= 0 ? &g->functions[g->d->blocks[callee].function] : NULL;
    return f && f->insns <= SMALL_CALLEE && !f->calls && !g->d->blocks[callee].refused;
}

enum growth { ALL, COLD /* nothing that others have */, ROUNDS_ONLY /* of the loop that it begins at */ };
static void grow(struct grower *g, uint32_t head, enum growth growth, unsigned insns)
{
    struct discovery *d = g->d;
    g->count = g->insns = g->site_count = 0;
    g->loops = g->cold = false;
    g->loop = NULL;
    g->most_insns = insns;
    take(g, (long)head, NULL);
    g->cold = growth == COLD;
    g->loop = growth == ROUNDS_ONLY ? &d->blocks[head] : NULL;
    for (unsigned k = 0; k < g->count; k++) {
        const struct found_block *b = &d->blocks[g->order[k]];
        for (uint32_t e = 0; e < b->edge_count && (b->end == END_GOES_ON || b->end == END_COMPUTED); e++)
            take(g, discovery_find(d, d->edges[b->edge + e]), b);
        long callee = b->end == END_CALL && b->edge_count ? discovery_find(d, d->edges[b->edge]) : NO_BLOCK;
        if (b->end != END_CALL || !goes_inside(g, callee))
            continue;
        take(g, callee, NULL);
        take(g, discovery_find(d, b->pc + b->size), b);
        g->sites[g->site_count++] = g->order[k];
    }
}

/* --- As a recipe */
static void targets_fill(const struct grower *g, const struct found_block *b, struct recipe_block *to)
{
    const struct discovery *d = g->d;
    uint64_t at;
    int n;
    for (uint32_t e = 0; b->end == END_COMPUTED && e < b->edge_count && to->target_count < TARGETS; e++) {
        long block = discovery_find(d, d->edges[b->edge + e]);
        bool have = false;
        if (block < 0 || (n = place(g, (uint32_t)block)) < 0)
            continue;
        for (unsigned k = 0; k < to->target_count; k++)
            have |= to->targets[k].block == (uint32_t)n;
        if (!have)
            to->targets[to->target_count++] = (struct llvm_target){(uint32_t)n, 1};
    }
    for (unsigned s = 0; b->end == END_RETURN && s < g->site_count && to->target_count < TARGETS; s++) {
        const struct found_block *site = &d->blocks[g->sites[s]];
        long callee = discovery_find(d, d->edges[site->edge]), back = discovery_find(d, at = site->pc + site->size);
        if (callee < 0 || back < 0 || d->blocks[callee].function != b->function || (n = place(g, (uint32_t)back)) < 0)
            continue;
        to->targets[to->target_count++] = (struct llvm_target){(uint32_t)n, 1};
    }
}

/* What the limits cut off may have been the only way to a block. */
static void drop_unreached(struct grower *g)
{
    bool reached[MOST_BLOCKS] = {true};
    for (bool more = true; more;) {
        more = false;
        for (unsigned k = 0; k < g->count; k++) {
            const struct found_block *b = &g->d->blocks[g->order[k]];
            struct recipe_block r = {0};
            targets_fill(g, b, &r);
            for (unsigned t = 0; reached[k] && t < r.target_count; t++)
                more |= !reached[r.targets[t].block], reached[r.targets[t].block] = true;
            for (uint32_t e = 0; reached[k] && e < b->edge_count && b->end != END_COMPUTED; e++) {
                long to = discovery_find(g->d, g->d->edges[b->edge + e]);
                int n = to < 0 ? -1 : place(g, (uint32_t)to);
                if (n >= 0 && !reached[n])
                    more = reached[n] = true;
            }
        }
    }
    unsigned kept = 0;
    for (unsigned k = 0; k < g->count; k++)
        if (reached[k])
            g->order[kept++] = g->order[k];
    g->count = kept;
}

struct sink { bool (*each)(void *, const struct recipe *, uint64_t, unsigned, unsigned); void *ctx; bool stopped, out_of_memory; };

static void emit(struct grower *g, struct sink *s)
{
    struct discovery *d = g->d;
    struct recipe_block blocks[MOST_BLOCKS] = {{0}};
    void *made[MOST_BLOCKS];
    const struct found_block *head = &d->blocks[g->order[0]];
    char name[300];
    unsigned bytes = 0, insns = 0, least_depth = MAX_DEPTH;
    for (unsigned n = 0; n < g->count; n++)
        if (d->blocks[g->order[n]].depth < least_depth)
            least_depth = d->blocks[g->order[n]].depth;
    for (unsigned n = 0; n < g->count; n++) {
        struct found_block *b = &d->blocks[g->order[n]];
        blocks[n] = (struct recipe_block){.pc = ir_signed(b->pc - head->pc, d->image->bits), .size = b->size, .page_offset = b->pc & 4095,
                                          .bytes = image_code(d->image, b->pc, b->size), .count = COUNT_ONCE * power(b->depth - least_depth)};
        s->out_of_memory |= !recipe_block_unmoved(&blocks[n], d->mode, b->pc, &made[n]);
        targets_fill(g, b, &blocks[n]);
        b->in_region = true;
        bytes += b->size;
        insns += b->insns;
    }
    snprintf(name, sizeof name, "%s+0x%llx", d->image->name, (unsigned long long)head->pc);
    const struct recipe r = {.mode = d->mode, .blocks = blocks, .block_count = g->count, .name = name};
    s->stopped = !s->each(s->ctx, &r, order_of(g, head), insns, bytes);
    for (unsigned n = 0; n < g->count; n++)
        free(made[n]);
}

/* Also where another region has the loop inside: that one may be left in the middle of it. */
static void loop_at(struct grower *g, uint32_t head, struct sink *s)
{
    const struct found_block *b = &g->d->blocks[head];
    if (s->stopped || b->refused || weight_of(g, b) < g->limits->least)
        return;
    grow(g, head, ROUNDS_ONLY, g->limits->insns);
    drop_unreached(g);
    emit(g, s);
}

/* behind: a call, or what no other region has; such heads are many, and each has half of its function before it. */
static void region_at(struct grower *g, uint32_t head, bool behind, struct sink *s)
{
    const struct found_block *b = &g->d->blocks[head];
    if (s->stopped || b->refused || weight_of(g, b) < g->limits->least)
        return;
    if (!behind || b->depth)
        grow(g, head, ALL, behind ? 2 * g->limits->stretch : g->limits->insns);
    if ((behind && !b->depth) || !g->loops)
        grow(g, head, COLD, g->limits->stretch);
    drop_unreached(g);
    if (g->loops || g->insns >= LEAST_INSNS)
        emit(g, s);
}

/* --- Where they begin */
static bool is_behind_call(const struct discovery *d, size_t n)
{
    const struct found_block *b = &d->blocks[n], *before = n ? b - 1 : NULL;
    return before && before->pc + before->size == b->pc && (before->end == END_CALL || before->end == END_CALL_COMPUTED || before->end == END_SYSTEM);
}

static void regions_all(struct grower *g, struct sink *s)
{
    struct discovery *d = g->d;
    for (uint32_t n = 0; n < d->count; n++)
        if (d->blocks[n].starts_loop)
            loop_at(g, n, s);
    for (uint32_t n = 0; n < d->count; n++)
        if (d->blocks[n].starts_function)
            region_at(g, n, false, s);
    for (uint32_t n = 0; n < d->count; n++)
        if (!d->blocks[n].starts_function && is_behind_call(d, n) && (!d->blocks[n].in_region || d->blocks[n].depth))
            region_at(g, n, true, s);
    for (uint32_t n = 0; n < d->count; n++) /* what is reached by computed jumps, or beyond the limits of the others */
        if (!d->blocks[n].in_region)
            region_at(g, n, true, s);
}

bool discovery_regions(struct discovery *d, const struct region_limits *limits, bool (*each)(void *, const struct recipe *, uint64_t, unsigned, unsigned), void *ctx,
                       struct failure *f)
{
    struct grower *g = calloc(1, sizeof *g);
    struct sink s = {.each = each, .ctx = ctx};
    struct region_limits within = *limits;
    if (within.blocks > MOST_BLOCKS)
        within.blocks = MOST_BLOCKS;
    bool ok = g && (g->functions = calloc(d->count + 1, sizeof *g->functions));
    if (ok) {
        g->d = d;
        g->limits = &within;
        mark_starts(d);
        if ((ok = discovery_loops(d))) {
            mark_levels(g);
            regions_all(g, &s);
            ok = !s.out_of_memory;
        }
    }
    if (g)
        free(g->functions);
    free(g);
    return ok || fail(f, "out of memory");
}
