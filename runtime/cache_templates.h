/* cache_templates.h - template code that outlives the run: what was translated is kept with its bytes and relocations, and is placed again where the same
 * bytes lie at the same offset of a page, in the same mode; bytes that moved with the code (x86_relocs_find) are the same.  Two named files
 * (runtime/store.h) a translator and way of counting: one that runs write, one that `tierce-cache build FILE` does. */
#ifndef RUNTIME_CACHE_TEMPLATES_H
#define RUNTIME_CACHE_TEMPLATES_H

#include "runtime/cache.h"
#include "runtime/internal.h"

struct templates;
/* Reads the files' indices, on a thread of its own: until that is done nothing is found.  NULL: out of memory. */
struct templates *templates_begin(struct store *, const uint64_t translator[2], bool icount);
void templates_wait(struct templates *); /* for that thread, or for that which writes */
void templates_end(struct templates *);
/* Code for what lies at `host`, the RAM of `pc`, and how to place it; false: there is none.  It stays until the next is found.  vCPU's thread. */
struct template_found { struct tcg_block block; struct tcg_moved moved; unsigned bytes, insns, head; const struct tcg_fault_site *sites; };
bool templates_find(struct templates *, uint32_t mode, uint64_t pc, const uint8_t *host, struct template_found *);
/* All of them, until `each` returns false. */
void templates_each(struct templates *, bool (*each)(void *ctx, uint32_t mode, unsigned page_offset, const struct template_found *), void *ctx);
/* Keeps what was translated beside what runs had left, where that is enough to be worth it: it is found from now on, and written on a thread of its own.
 * The vCPU is between two blocks, or has ended. */
void templates_keep(struct templates *, struct vcpu *);

/* For tests: a file's name, and its checksums as they should be. */
void templates_name(const uint64_t translator[2], bool icount, enum template_source, char name[64]);
void templates_mend(uint8_t *file, size_t size);

#endif
