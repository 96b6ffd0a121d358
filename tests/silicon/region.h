/* region.h - a block as a region of its own, through the LLVM tier's compiler into a code buffer. */
#ifndef TESTS_SILICON_REGION_H
#define TESTS_SILICON_REGION_H

#include "backend-tcg/backend-tcg.h"

#define REGION_ROOM (1u << 20)   /* of the code buffer, from the offset that region_make is given */
/* What to run for the block at that PC; compiled if the last few blocks were others.  NULL: *refused names what no region
 * has, or error says what went wrong. */
const void *region_make(struct tcg_buffer *, size_t offset, const struct ir_block *, const struct ir_guest *, uint64_t pc,
                        const char **refused, char *error, size_t size);
void region_begin(struct tcg_context *);
void region_end(void);
extern unsigned long regions_compiled;

#endif
