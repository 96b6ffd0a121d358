/* Growing a region in a graph of blocks with counts. */
#include "runtime/region_choose.h"

enum { WORTH = 16 };
static void take(struct choice *c, uint32_t n, unsigned insns)
{
    c->place[n] = (int16_t)c->count;
    c->order[c->count++] = n;
    c->insns += insns;
}

void choice_make(struct choice *c, uint32_t head, unsigned most, unsigned most_insns, void (*block)(void *ctx, const struct choice *, uint32_t, struct choice_block *), void *ctx)
{
    struct choice_block first, b, to;
    c->count = c->insns = 0;
    block(ctx, c, head, &first);
    take(c, head, first.insns);
    for (unsigned k = 0; k < c->count; k++) {
        block(ctx, c, c->order[k], &b);
        for (unsigned e = 0; e < b.edge_count && c->count < most; e++) {
            if (c->place[b.edges[e]] != NOT_CHOSEN)
                continue;
            block(ctx, c, b.edges[e], &to);
            if (!to.refused && to.count * WORTH >= first.count && c->insns + to.insns <= most_insns)
                take(c, b.edges[e], to.insns);
        }
    }
}

void choice_end(struct choice *c)
{
    while (c->count)
        c->place[c->order[--c->count]] = NOT_CHOSEN;
}
