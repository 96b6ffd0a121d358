/* cache.h - what the translation cache keeps: recipes of regions, their objects, profiles; shared by the runtime and tools/tierce-cache.
 * A recipe is all that a region is compiled from, without addresses: the same recipe gives the same object, bit for bit.  The recorder
 * makes them while a guest runs, static discovery from files; an object carries its own, so that its guest bytes can be compared before
 * it runs and that `tierce-cache verify` can compile it again. */
#ifndef RUNTIME_CACHE_H
#define RUNTIME_CACHE_H

#include "backend-llvm/backend-llvm.h"
#include "runtime/store.h"

struct x86_model;
struct x86_reloc;
struct recipe_block {
    int64_t pc;                    /* less that of blocks[0] */
    uint16_t size, page_offset;    /* bytes; where in its page it begins: blocks end at pages' ends */
    const uint8_t *bytes;          /* as they would lie at PC 0: what `relocs` says was moved */
    uint64_t count;                /* how often it ran; 0: not known */
    struct llvm_target targets[8]; unsigned target_count;
    const uint8_t *seen; unsigned seen_count; /* enum llvm_seen, one an IR instruction; none: not known */
    const struct x86_reloc *relocs; unsigned reloc_count; /* in order */
};
struct recipe {
    uint32_t mode;                 /* enum x86_mode */
    bool icount, careful;
    unsigned block_count; struct recipe_block *blocks; /* blocks[0] is where it is entered */
    const char *name;              /* of its function in the guest; NULL: none.  Not part of the key */
};
/* The translator: a hash of its sources, LLVM's version, the host CPU's features and the guest CPU's model; part of every key. */
void cache_translator(const struct x86_model *, uint64_t id[2]);
/* What looks a region up where it would begin; and the whole key.  Any thread. */
void cache_head(const uint64_t translator[2], uint32_t mode, bool icount, const struct recipe_block *first, uint64_t head[2]);
void cache_key(const uint64_t translator[2], const struct recipe *, struct store_key *);
/* Of a block whose bytes lie at `pc`: what moves is found (x86_relocs_find), and the bytes are moved to PC 0.  *made is to be freed when the block
 * is not needed any more; NULL: nothing moves.  False: out of memory; the block is as it was. */
bool recipe_block_unmoved(struct recipe_block *, uint32_t mode, uint64_t pc, void **made);
/* Its bytes as they lie at pc, in `room` where they are others than the block's.  NULL: it cannot lie there. */
const uint8_t *recipe_block_moved(const struct recipe_block *, uint64_t pc, uint8_t *room);
/* Recipes as bytes: little-endian, checked when read.  malloc'd.  False/NULL: out of memory, or (read) damaged: error has one line. */
bool recipe_write(const struct recipe *, uint8_t **out, size_t *size);
struct recipe *recipe_read(const uint8_t *, size_t, char *error, size_t error_size); /* freed with free(): one piece */
/* Lifts its bytes and compiles them; the object has the key, the ranges with their hashes, and the recipe (section .tierce.recipe).
 * Any thread.  False: error has one line (a block that LLVM regions refuse, bytes that do not lift to their size, ...). */
bool recipe_compile(const struct x86_model *, const uint64_t translator[2], const struct recipe *, struct llvm_compiled *, char *error, size_t size);

/* A profile: what ran in a run, as a graph of blocks; regions are formed of it later (profile_recipes).  Blocks are the template tier's: one may
 * go on behind a jump that is not taken.  Where they go, their code says. */
struct profile_block { uint32_t mode; uint16_t size, page_offset; const uint8_t *bytes; uint64_t pc, count; };
struct profile { bool icount; struct profile_block *blocks; unsigned block_count; const struct recipe *const *recipes; unsigned recipe_count; /* recorded in detail */ };
bool profile_write(const struct profile *, uint8_t **out, size_t *size);
struct profile *profile_read(const uint8_t *, size_t, char *error, size_t error_size); /* freed with free() */
/* Regions for all blocks that ran at least `least` times: the recorded ones, and what is grown from the graph around the others.
 * `each` gets a recipe that is valid during the call only; the hottest first; it returns false to end it.  False: out of memory. */
bool profile_recipes(const struct x86_model *, const struct profile *, uint64_t least, bool (*each)(void *ctx, const struct recipe *), void *ctx);

/* Files of template code (runtime/cache_templates.h): what runs translated, and what is translated ahead of time.  One thread a writer. */
enum template_source { TEMPLATES_OF_RUNS, TEMPLATES_OF_FILES, TEMPLATE_SOURCES };
struct template_writer;
struct template_writer *template_writer_new(uint64_t most_bytes);     /* NULL: out of memory */
void template_writer_free(struct template_writer *);
/* Translates what begins at pc, as a run would that comes by; `room` bytes of code are there.  False: it straddles pages, or is too complex; or there is no
 * memory, or no room for more. */
bool template_writer_translate(struct template_writer *, const struct x86_model *, uint32_t mode, uint64_t pc, const uint8_t *bytes, unsigned room);
/* What the store's file of that source has is taken too, where there is no other for the same bytes. */
void template_writer_take(struct template_writer *, struct store *, const uint64_t translator[2], bool icount, enum template_source);
unsigned template_writer_count(const struct template_writer *, uint64_t *bytes);
bool template_writer_put(struct template_writer *, struct store *, const uint64_t translator[2], bool icount, enum template_source);

#endif
