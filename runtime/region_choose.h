/* region_choose.h - which blocks of a graph become a region: for what was recorded, and for profiles. */
#ifndef RUNTIME_REGION_CHOOSE_H
#define RUNTIME_REGION_CHOOSE_H

#include <stdbool.h>
#include <stdint.h>

enum { CHOICE_BLOCKS = 96, CHOICE_EDGES = 16, NOT_CHOSEN = -1 };
struct choice_block { uint64_t count; unsigned insns; bool refused; unsigned edge_count; uint32_t edges[CHOICE_EDGES]; };
struct choice {
    uint32_t order[CHOICE_BLOCKS]; unsigned count, insns; /* blocks of the graph; [0]: the head */
    int16_t *place;                 /* by block of the graph: its index in `order`, or NOT_CHOSEN */
};
/* From order[0] on, what is reached and runs in one of 16 of the head's rounds.  `block` tells of one, whose edges may depend on what is chosen
 * so far.  place: NOT_CHOSEN throughout before; choice_end makes it so again. */
void choice_make(struct choice *, uint32_t head, unsigned most, unsigned most_insns, void (*block)(void *ctx, const struct choice *, uint32_t, struct choice_block *), void *ctx);
void choice_end(struct choice *);

#endif
