/* Template code ahead of time: of each block at which a run may come in, by jump or call or return, as the template tier cuts it. */
#include "tools/tierce-cache/tool.h"
#include <stdlib.h>
#include <string.h>

/* Does the next block lie behind a conditional jump of this one? */
static bool falls_through(const struct discovery *d, size_t n)
{
    const struct found_block *b = &d->blocks[n];
    return n + 1 < d->count && b->end == END_GOES_ON && b->edge_count > 1 && d->blocks[n + 1].pc == b->pc + b->size;
}

/* What is only reached by falling through a jump that is not taken lies in the middle of another, which ends with the second such. */
static bool *entered_of(const struct discovery *d)
{
    bool *entered = calloc(d->count + 1, 1);
    for (size_t n = 0; entered && n < d->count; n++) {
        const struct found_block *b = &d->blocks[n];
        bool goes_on = b->end == END_GOES_ON;
        entered[n] |= b->starts_function || !n || d->blocks[n - 1].pc + d->blocks[n - 1].size != b->pc || d->blocks[n - 1].end != END_GOES_ON;
        for (uint32_t e = 0; e < b->edge_count; e++) {
            long to = discovery_find(d, d->edges[b->edge + e]);
            if (to >= 0 && !(goes_on && b->edge_count > 1 && d->edges[b->edge + e] == b->pc + b->size))
                entered[to] = true;
        }
    }
    for (size_t n = 0; entered && n + 2 < d->count; n++)
        entered[n + 2] |= entered[n] && falls_through(d, n) && falls_through(d, n + 1);
    return entered;
}

void templates_discovered(struct template_writer *w, const struct discovery *d, const volatile bool *stop)
{
    bool *entered = w ? entered_of(d) : NULL;
    for (size_t n = 0; entered && n < d->count && !*stop; n++) {
        const struct found_block *b = &d->blocks[n];
        unsigned room = 4096 - (b->pc & 4095);
        while (room && !image_code(d->image, b->pc, room))
            room--;
        if (entered[n] && b->size && room)
            template_writer_translate(w, d->model, d->mode, b->pc, image_code(d->image, b->pc, room), room);
    }
    free(entered);
}
