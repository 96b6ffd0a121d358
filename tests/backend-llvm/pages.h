/* pages.h - for the tests of memory accesses: pages in a row in the guest, which lie apart in the host, some without an entry in a table;
 * and how the interpreter sees them. */
#ifndef TESTS_BACKEND_LLVM_PAGES_H
#define TESTS_BACKEND_LLVM_PAGES_H

#include "tests/backend-llvm/guest.h"
#include <stdlib.h>
#include <sys/mman.h>

enum { PAGES = 24, PAGE = 4096, BASE = 0x40000, ROOTS = 4 };

static uint8_t host[2 * PAGES][PAGE] __attribute__((aligned(PAGE)));
static int64_t *tables[2];
static bool present[2][PAGES], block_writes /* what is read near may be looked up as written */, may_leave; /* by table: read, write; what the interpreter saw says that the region may leave */

static inline uint8_t *byte_at(uint64_t at) { return at >= BASE && at < BASE + PAGES * PAGE ? &host[2 * (PAGES - 1 - (at - BASE) / PAGE)][at % PAGE] : NULL; }
static inline bool env_translate(void *s, uint64_t at, unsigned size, unsigned access)
{
    (void)s;
    uint64_t page = (at - BASE) / PAGE;
    may_leave |= at / PAGE != (at + size - 1) / PAGE || page >= PAGES || !present[0][page] || ((access & IR_WRITE || block_writes) && !present[1][page]);
    return byte_at(at) && byte_at(at + size - 1);
}
static inline void env_load(void *s, uint64_t at, unsigned size, void *to)
{
    (void)s;
    for (unsigned n = 0; n < size; n++)
        ((uint8_t *)to)[n] = *byte_at(at + n);
}
static inline void env_store(void *s, uint64_t at, unsigned size, const void *from)
{
    (void)s;
    for (unsigned n = 0; n < size; n++)
        *byte_at(at + n) = ((const uint8_t *)from)[n];
}

static inline void random_tables(void)
{
    for (unsigned page = 0; page < PAGES; page++) {
        present[0][page] = rnd() % 12;
        present[1][page] = present[0][page] && rnd() % 12; /* who may write may read */
        uint64_t guest_page = BASE + page * PAGE;
        for (unsigned t = 0; t < 2; t++)
            tables[t][guest_page / PAGE] = present[t][page] ? (int64_t)(uintptr_t)byte_at(guest_page) - (int64_t)guest_page : 0;
    }
}

static inline int64_t *table_new(void)
{
    int64_t *p = mmap(NULL, TCG_TABLE_ENTRIES * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static inline bool tables_begin(void)
{
    tables[0] = table_new(), tables[1] = table_new();
    if (!tables[0] || !tables[1])
        return false;
    tcg_tables_set(&vcpu.tcg, tables[0], tables[1]);
    return true;
}

/* [SEED [HOW-MANY]]; ends with 77, a skip, where there is no room. */
static inline struct tcg_buffer *test_begin(int argc, char **argv, unsigned *how_many)
{
    struct tcg_buffer *buffer = tcg_buffer_new(ROOM);
    *how_many = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : *how_many;
    seed = argc > 1 ? strtoull(argv[1], NULL, 0) * 2 + 1 : seed;
    if (!buffer || !tables_begin()) {
        printf("no room for the tables of softmmu\n");
        exit(77);
    }
    return buffer;
}

static inline ir_ref emit(struct ir_block *b, enum ir_op op, enum ir_type t, unsigned aux, int64_t imm, ir_ref x, ir_ref y) { return ir_emit(b, op, t, aux, imm, x, y, IR_NONE, IR_NONE); }

#endif
