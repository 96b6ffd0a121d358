/* recipe.h - for the files of the translation cache alone: parts of cache.h's functions. */
#ifndef RUNTIME_RECIPE_H
#define RUNTIME_RECIPE_H

#include "runtime/cache.h"

enum { RECIPE_BLOCKS = 256, RECIPE_INSNS = 64 /* of a block */ };
/* recipe_read without copying: NULL, or what is wrong.  The bytes, behind which is a 0, stay as long as the recipe; `blocks` has room for
 * recipe_block_count, which is 0 for what is no recipe. */
unsigned recipe_block_count(const uint8_t *bytes, size_t size);
const char *recipe_read_at(struct recipe *, struct recipe_block *blocks, const uint8_t *bytes, size_t size);
bool recipe_mode_valid(uint32_t mode);
/* Code to be lifted that is nobody's memory: `size` bytes at `linear`.  What lies behind is looked at and not decoded, or the block is longer than the bytes. */
struct code_bytes { uint64_t linear; const uint8_t *bytes; unsigned size; };
unsigned code_bytes_fetch(void *code_bytes, uint64_t linear, unsigned max, uint8_t *to); /* of struct x86_fetch */
/* Of a block's bytes, at most so many as `size` says, into a block that is made empty; not optimised.  False: out of memory. */
bool recipe_lift(const struct x86_model *, uint32_t mode, bool icount, const struct recipe_block *, struct ir_block *);
/* Where a block's code goes, as far as it says (profile_graph.c); of a call, to[0] is the callee. */
enum code_ending { CODE_GOES_ON, CODE_CALL, CODE_CALL_COMPUTED, CODE_RETURN, CODE_COMPUTED };
struct code_ways { uint64_t to[2]; unsigned count; enum code_ending ending; };
void code_ways(const struct ir_block *, uint32_t mode, uint64_t pc, const uint8_t *bytes, unsigned size, struct code_ways *);
/* What recipe_write wrote, without the name behind it: the key is made of that. */
size_t recipe_key_size(const uint8_t *written);
void recipe_key(const uint64_t translator[2], const struct recipe *, const uint8_t *written, struct store_key *);
void recipe_key_put(const struct store_key *, uint8_t to[32]); /* as an object has it */
/* recipe_compile, with options; the object's key is `written`'s (recipe_write), and the recipe in it that.  What options change of an object
 * is not part of its key. */
bool recipe_compile_written(const struct x86_model *, const uint64_t translator[2], const struct recipe *, const uint8_t *written, size_t written_size,
                            const struct llvm_options *, struct llvm_compiled *, char *error, size_t size);

#endif
