/* discover.h - static discovery: the blocks of an image, found from its entries by following what they lead to, cut as the runtime cuts
 * them for regions; and regions grown over them.  Nothing of it ends the process. */
#ifndef TIERCE_CACHE_DISCOVER_H
#define TIERCE_CACHE_DISCOVER_H

#include "frontend/frontend.h"
#include "tools/tierce-cache/image.h"

enum block_end {
    END_GOES_ON,       /* known successors: edges */
    END_CALL,          /* a known callee: the first edge; comes back behind itself */
    END_CALL_COMPUTED, /* comes back behind itself */
    END_RETURN, END_COMPUTED /* edges: of a jump table, where one was found */,
    END_SYSTEM,        /* leaves for the cpu loop, goes on behind itself: SYSCALL, HLT, CPUID */
    END_STOPS,         /* nothing follows */
};
struct found_block {
    uint64_t pc;
    uint16_t size; uint8_t insns, end;
    bool refused;                      /* LLVM's regions do not take it */
    bool starts_function, is_called, starts_loop;
    bool in_region;
    uint8_t depth;                     /* loops around it, at most MAX_DEPTH */
    uint32_t edge, edge_count;         /* in .edges */
    uint32_t function;                 /* index of the block that it is reached from without calls; itself: none */
};
enum { MAX_DEPTH = 5, NO_BLOCK = -1 };
struct discovery {
    const struct image *image; const struct x86_model *model; uint32_t mode;
    struct found_block *blocks; size_t count, room;     /* sorted by pc once it is done */
    uint64_t *edges; size_t edge_count, edge_room;      /* PCs that blocks lead to */
    uint32_t *hash; size_t hash_size;                   /* by pc: index + 1 */
    uint64_t *pending; size_t pending_count, pending_room;
    uint64_t *guesses; size_t guess_count, guess_room;  /* what may be addresses of code, for when there is nothing else */
    struct ir_block ir;
    uint64_t *table; size_t table_count, table_room;    /* constants of the block at hand that may be addresses of tables */
    struct hint { uint64_t pc; unsigned entries; } *hints; size_t hint_count, hint_room;         /* of blocks to come: tables.c */
    struct near { uint64_t pc, value; } *nears; size_t near_count, near_room;                     /* constants in the blocks so far that are addresses of data */
    uint64_t code_bytes, found_bytes, insns;            /* of code parts; of them in blocks; instructions in blocks */
    size_t refused, bad, tables, guessed;               /* blocks for the interpreter alone; not decodable; jump tables; guesses that were taken */
};
/* wanted: which parts (NULL: all code).  `stop` is looked at now and then. */
bool discover(struct discovery *, const struct image *, const struct x86_model *, uint32_t mode, bool (*wanted)(const struct part *), const volatile bool *stop,
              struct failure *);
void discovery_free(struct discovery *);
long discovery_find(const struct discovery *, uint64_t pc); /* index of the block that begins there, or NO_BLOCK */

bool discovery_edge(struct discovery *, struct found_block *, uint64_t to);  /* of the latest block; false: out of memory, or too many */
/* tables.c, of the block whose optimised IR is in d->ir.  False: as discovery_edge. */
bool discovery_hint(struct discovery *, const struct found_block *);  /* what it says of a table that the block behind it may use */
bool discovery_near(struct discovery *, uint64_t pc);                  /* notes the constants in d->table */
bool discovery_table(struct discovery *, struct found_block *);       /* edges of its computed jump */
bool discovery_loops(struct discovery *);  /* fills in depth, once the functions are known; false: out of memory */

struct recipe;
/* Regions over the blocks, in no order.  weight: how much they are worth by what the code says of itself.  `each` returns false to stop. */
struct region_limits { unsigned blocks, insns, stretch /* of one without loops */; unsigned least; /* weight of what begins one */ };
bool discovery_regions(struct discovery *, const struct region_limits *, bool (*each)(void *ctx, const struct recipe *, uint64_t weight, unsigned insns, unsigned bytes), void *ctx,
                       struct failure *);

#endif
