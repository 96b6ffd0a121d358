/* state.h - a saved machine as a file: a head, then sections, each with a name, a version, its length and checksums, the last one
 * "end" (docs/state.md).  Here: writing and reading sections; what is in them is state.c's and state_ram.c's. */
#ifndef RUNTIME_STATE_H
#define RUNTIME_STATE_H

#include "runtime/internal.h"

#define STATE_VERSION 1u          /* of the head and of sections as such; each section has one of its own */
#define STATE_SECTION_MAX (4u << 20) /* bytes of one */
enum { STATE_NAME = 16 };

/* --- Writing: to a temporary file beside `path`, which gets its name when all is on the disk. */
struct state_writer { FILE *file; const char *path; char *temporary; uint32_t sequence; uint64_t size; int error; /* errno of the first failure */ };
bool state_writer_open(struct state_writer *, const char *path, char *error, size_t size);
void state_section(struct state_writer *, const char *name, unsigned version, const void *bytes, size_t size); /* a failure is told by close */
bool state_writer_close(struct state_writer *, bool keep, char *error, size_t size); /* keep false: nothing is left of it */

/* --- Reading, from start to end: any file, a pipe too. */
struct state_section { char name[STATE_NAME + 1]; unsigned version; uint8_t *bytes; size_t size; }; /* bytes: free() */
struct state_reader { FILE *file; uint32_t sequence; uint64_t at; char *error; size_t error_size; };
bool state_reader_begin(struct state_reader *, FILE *, char *error, size_t size); /* the head; false: error has one line, as with the next */
bool state_next(struct state_reader *, struct state_section *);
bool state_reader_end(struct state_reader *);  /* nothing follows "end" */
__attribute__((format(printf, 2, 3))) bool state_fail(const struct state_reader *, const char *format, ...); /* false */

/* --- RAM (state_ram.c): sections "ram" of up to 256 pages, those that are zero left out. */
bool state_ram_write(struct state_writer *, const struct machine *, uint64_t *pages); /* false: out of memory */
struct state_ram { uint8_t *bytes, *piece; uint64_t size, next_page, pages; };
bool state_ram_begin(struct state_ram *, const struct machine *); /* room for all of it, beside the machine's; false: out of memory */
bool state_ram_read(struct state_ram *, const struct state_reader *, const struct state_section *);
bool state_ram_commit(struct state_ram *, struct machine *);      /* becomes the machine's.  False: nothing has happened */
void state_ram_end(struct state_ram *);

#endif
