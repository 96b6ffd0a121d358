/* object.h - the ELF object that a region becomes: an ELF64 relocatable for x86-64 with
 *   .text           code and constants of one function, position-independent, without any relocation left
 *   .tierce.region  what the runtime must know of it (struct object_meta), in the encoding below
 *   .tierce.recipe  what it was made from, where that was given: bytes that are handed through (runtime/recipe.c)
 *   .symtab         the function, typed and sized; and where there are constants, an object of that name, which covers them
 * It is what `readelf` lists and `objdump -d` disassembles, and what the translation cache keeps.
 *
 * .tierce.region is, little-endian and without padding: OBJECT_MAGIC (32 bits), the 32 bytes of the key, the words mode,
 * guest_insns, block_count, range_count, exit_count, line_count (32 bits each), then that many ranges (pc 64, hash 64,
 * size 32 bits), exits (pc 64, cause 32) and lines (host 32, pc 64), and nothing behind them.  The name and the entry
 * are the symbol's. */
#ifndef BACKEND_LLVM_OBJECT_H
#define BACKEND_LLVM_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    OBJECT_MAGIC = 0x31475254,  /* "TRG1"; another encoding gets another number */
    OBJECT_TEXT_ALIGN = 64,     /* what the address of .text must be a multiple of */
    OBJECT_MAX_TEXT = 16 << 20, OBJECT_MAX_NAME = 4095, OBJECT_MAX_RANGES = 1 << 12, OBJECT_MAX_RANGE_SIZE = 1 << 20,
    OBJECT_MAX_EXITS = 1 << 16, OBJECT_MAX_LINES = 1 << 20, OBJECT_MAX_RECIPE = 4 << 20,
};
#define OBJECT_LINE_BASE 0x40000000u /* DWARF line number of guest PC offset 0 */

/* A stretch of guest code that the region was made from; PCs are relative to the region's first block. */
struct object_range { int64_t pc; uint32_t size; uint64_t hash; /* of its bytes: object_hash */ };
struct object_exit { int64_t pc; uint32_t cause; };   /* side exits and ways out: enum llvm_exit; index = order of .exits */
/* From this offset in .text on: guest instruction at pc.  Hosts ascend, each once; code in front of the first is of none. */
struct object_line { uint32_t host; int64_t pc; };
struct object_meta {
    uint8_t key[32];            /* of the translation cache; zeros: none */
    uint32_t mode, guest_insns, block_count;
    const char *name;           /* of the function: not empty, no control characters */
    uint32_t entry;             /* offset in .text; object_link sets it */
    const struct object_range *ranges; unsigned range_count;
    const struct object_exit *exits; unsigned exit_count;
    const struct object_line *lines; unsigned line_count;
    const uint8_t *recipe; size_t recipe_size; /* 0: none */
};
uint64_t object_hash(const void *bytes, size_t size);

/* From what LLVM emitted (an ELF relocatable in memory) and the metadata: lays .text and its read-only constants out as one
 * .text, resolves the relocations inside of it, refuses any other.  .eh_frame is dropped.  The function is the one named
 * meta->name or, where there is a single one, that; it gets meta->name.
 * Where the input has DWARF lines (.debug_line), meta->lines comes from them: line number n stands for guest PC offset
 * (int32_t)(n - OBJECT_LINE_BASE); code of line 0, the compiler's own, is counted to what stands before it.
 * LLVM gives a function's prologue the subprogram's scopeLine, which should be OBJECT_LINE_BASE therefore.
 * The same input gives the same bytes.  *out is malloc'd.  False: error has one line.  Any thread. */
bool object_link(const void *llvm_elf, size_t size, const struct object_meta *, uint8_t **out, size_t *out_size, char *error, size_t error_size);
/* Reads one back, trusting nothing of it; what `view` points to lies in `elf` or in view->owned, freed by object_close.
 * True: meta.entry and each line's host lie in text, the name is terminated, the counts are those of the arrays and within the
 * limits above.  What PCs, hashes, causes, mode and the code itself are worth is not known here.  False: view is zero. */
struct object_view {
    struct object_meta meta;
    const uint8_t *text; size_t text_size;
    size_t code_size;           /* of the function, from meta.entry on; the rest is constants */
    void *owned;
};
bool object_open(const void *elf, size_t size, struct object_view *view, char *error, size_t error_size);
void object_close(struct object_view *);

#endif
