/* image.h - a program as static discovery sees it: its bytes by address, and where code is known to begin.  Read from files that
 * are taken for hostile; nothing of it ends the process. */
#ifndef TIERCE_CACHE_IMAGE_H
#define TIERCE_CACHE_IMAGE_H

#include "tools/tierce-cache/unpack.h"

/* A section, or a segment of a file without sections. */
struct part { uint64_t pc; uint8_t *bytes; size_t size; bool code, init /* runs before the others' mode is set up */; char name[24]; };
struct image {
    char name[256];
    unsigned bits;
    enum image_kind { IMAGE_PROGRAM, IMAGE_KERNEL, IMAGE_STUB /* that unpacks a kernel */ } kind;
    struct part *parts; size_t part_count, part_room;          /* sorted by pc, without overlap, after image_finish */
    /* Where code begins for sure; after image_finish sorted, each once, all in code. */
    uint64_t *entries; size_t entry_count, entry_room;
    struct span { uint64_t from, to; } *functions; size_t function_count, function_room; /* code between them; sorted, may overlap */
    size_t patched;                                             /* places changed as the kernel will: image_kernel */
};
bool image_elf(struct image *, const char *name, const uint8_t *, size_t, struct failure *);
bool image_stub(struct image *, const char *name, const struct bzimage *, struct failure *); /* code that unpacks the kernel */
void image_free(struct image *);

bool image_add_part(struct image *, uint64_t pc, const uint8_t *, size_t, bool code, const char *name, struct failure *);
bool image_add_entry(struct image *, uint64_t pc, struct failure *);
bool image_add_function(struct image *, uint64_t from, uint64_t to, struct failure *);
bool image_finish(struct image *, struct failure *);
struct part *image_part(const struct image *, const char *name);   /* NULL: there is none */
const struct part *image_at(const struct image *, uint64_t pc);    /* that holds it, or NULL */
const uint8_t *image_code(const struct image *, uint64_t pc, size_t size); /* so many bytes of code, or NULL */
const struct span *image_function(const struct image *, uint64_t pc);      /* the last to begin at or before pc that holds it, or NULL */

/* kernel.c: what a Linux kernel says of itself without symbols; and what it changes in its text at boot. */
struct x86_model;
bool kernel_is(const struct image *);
bool kernel_entries(struct image *, struct failure *);
void kernel_patch_tracer(struct image *);                    /* as it is soon after its start */
void kernel_patch(struct image *, const struct x86_model *); /* and once its init code has run on one CPU */

#endif
