/* gdb.h - gdb's remote serial protocol over a stream.  Main loop's thread. */
#ifndef TOOLS_TIERCE_GDB_H
#define TOOLS_TIERCE_GDB_H

#include "tools/tierce/stream.h"

/* The machine stops when gdb connects, and goes on, without breakpoints, when it leaves. */
struct gdb;
struct gdb *gdb_new(struct machine *, struct stream *); /* NULL: out of memory or descriptors */
void gdb_exited(struct gdb *, int status);              /* the machine has ended */
void gdb_free(struct gdb *);                            /* NULL: nothing */

/* --- Registers as gdb numbers them (gdb_registers.c).  A value is at most 16 bytes, little endian. */
enum { GDB_REGISTER_BYTES = 16 };
unsigned gdb_register_count(bool is64);
unsigned gdb_register_get(const struct x86_state *, bool is64, unsigned number, uint8_t value[GDB_REGISTER_BYTES]); /* its size, 0: there is none */
unsigned gdb_register_size(bool is64, unsigned number);
bool gdb_register_set(struct machine *, bool is64, unsigned number, const uint8_t *value); /* false: it cannot be written so */
/* The target description, as text to be freed; NULL: out of memory. */
char *gdb_description(bool is64);

#endif
