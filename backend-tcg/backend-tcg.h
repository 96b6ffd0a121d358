/* backend-tcg.h - the template backend: one IR block to host code, in one pass over the block.  Knows nothing
 * of x86 as a guest: it sees IR, slots, helper tables.  Thread: the vCPU's that runs the code. */
#ifndef BACKEND_TCG_BACKEND_TCG_H
#define BACKEND_TCG_BACKEND_TCG_H

#include "ir/ir.h"

/* --- What translated code and the runtime share.  All of it hangs on the state pointer: the runtime places
 * a struct tcg_context right BEFORE the guest state (state - sizeof(struct tcg_context)).
 *
 * softmmu: one flat table a (mode, read|write): entry[page number, bits 12..47 of the address] = host page
 * address - guest page address ("addend"), or 0 where the fast path may not be taken.  The tables are sparse
 * reservations of 2^36 entries, aligned to 64 KiB.  No tag: an address whose bits 48..63 are not the copies of bit 47
 * lands, through the addend, at a non-canonical host address, and the host's SIGSEGV sends it to the slow path. */
#define TCG_TABLE_ENTRIES (1ull << 36)
#define TCG_TABLE_ALIGN (64u << 10)
#define TCG_WRITE_BIAS 0x240c /* write_base - write_table: BEXTR's control for bits 12..47 */
struct tcg_jump { uint64_t tag; void *code; };  /* tag = pc ^ mode_tag; ~0 never matches */
#ifdef TIERCE_NASTY
#define TCG_JUMP_ENTRIES 4u
#else
#define TCG_JUMP_ENTRIES 16384u
#endif
static inline uint64_t tcg_jump_pc(const struct tcg_jump *j) { return (uint64_t)((int64_t)(j->tag << 16) >> 16); } /* sign-extended; of an entry in use */
/* index of a PC in the jump table */
static inline unsigned tcg_jump_hash(uint64_t pc) { return (unsigned)(pc & (TCG_JUMP_ENTRIES - 1)); }

struct tcg_context {
    uint8_t unpinned[11][64];            /* stands for the pinned slots of a guest that has none */
    uint64_t unused, host_gs /* how to set it: tcg_tables_set */, reserved;
    const struct ir_guest *guest;        /* x87: see x87.c */
    const void *x87_move;
    uint64_t x87_in_host;
    int64_t *read_table, *write_table;   /* of the present mode (read also in the host's GS base) */
    /* 128 bytes that are near the state: offsets.h */
    void *pinned_ints, *pinned_vectors;  /* set by tcg_run, as is all up to stub_leave */
    uint64_t write_base;
    /* Slow path, set by the runtime: guest access of `size` at `address`, by the code at host_pc.  Host address, or 0: leave and
     * interpret this instruction (or fault pending). */
    uint64_t (*slow_translate)(void *state, uint64_t address, unsigned size_access, const void *host_pc);
    void (*stub_call)(void), (*stub_slow)(void), (*stub_leave)(void);
    uint64_t exit_site;                  /* out: chainable exit that was taken, or -1 */
    void *block;                         /* out: the user pointer of the block whose chainable exit was taken */
    struct tcg_jump *jumps;              /* TCG_JUMP_ENTRIES; set by the runtime */
    uint64_t mode_tag;                   /* (number of the present mode) << 48; set by the runtime */
    uint64_t reserved_near[5];
} __attribute__((aligned(64)));

/* --- Code buffer: one mapping to write, another to run. */
struct tcg_buffer;
struct tcg_buffer *tcg_buffer_new(size_t size);   /* NULL: errno says why */
void tcg_buffer_free(struct tcg_buffer *);
/* The whole area in run addresses, for signal handlers. */
bool tcg_buffer_contains(const struct tcg_buffer *, const void *host_pc);
size_t tcg_buffer_offset(const struct tcg_buffer *, const void *host_pc);

/* --- Compile */
struct tcg_block {             /* what the runtime keeps of a translation */
    void *entry;               /* run address; enter through tcg_run, or be jumped to by other blocks */
    uint32_t code_size;
    struct tcg_exit {          /* chainable exits, at most TCG_MAX_EXITS */
        uint32_t jump_offset;  /* of the patchable jmp, from entry */
        uint32_t stub_offset;  /* where it goes while it is not chained */
        int32_t pc_offset;     /* target PC - block PC */
        /* Where flags are pending at the exit: a second jmp, behind their storing, for blocks that do not kill them; 0: none. */
        uint32_t late_offset, late_stub;
    } exits[6];
    unsigned exit_count;
    bool kills_flags;          /* overwrites the guest's flags before anything can see them */
    struct tcg_fault_site { uint32_t fast_offset, slow_offset; } *sites; /* SIGSEGV at fast goes to slow; malloc'd, owned by the caller */
    unsigned site_count;
};
#define TCG_MAX_EXITS 6
struct tcg_options {
    const struct ir_guest *guest; uint64_t pc; uint64_t mode_id; void *user; bool icount; const uint8_t *code; /* the guest's bytes, for the operation of that name */
    /* For who looks at the code; may be NULL.  From host offset `host` on stands code of the guest instruction at block PC +
     * guest; cold: code behind the block, of one way out or slow path. */
    void (*line)(void *ctx, uint32_t host, int32_t guest, bool cold); void *line_ctx;
};
enum tcg_result { TCG_OK, TCG_FULL /* no room in [at, limit): evict and retry */, TCG_TOO_COMPLEX /* take a shorter block */ };
/* Compiles `block` into the buffer at offset *at (advanced past the code), never past limit. */
enum tcg_result __attribute__((warn_unused_result))
tcg_compile(struct tcg_buffer *, size_t *at, size_t limit, const struct ir_block *, const struct tcg_options *, struct tcg_block *out);
void tcg_chain(struct tcg_buffer *, const struct tcg_block *from, unsigned exit, const struct tcg_block *to); /* to = NULL: unchain */

/* --- Run.  Returns when a block leaves; *exit_index >= 0 tells which chainable exit of context->block it
 * was, -1 for others.  state.pc is the guest PC to go on at, registers are in the state. */
enum ir_leave tcg_run(void *state, const struct ir_guest *, const void *entry, int *exit_index);
/* Call once per vCPU thread before tcg_run, and after the mode's tables change. */
void tcg_tables_set(struct tcg_context *, int64_t *read_table, int64_t *write_table);
/* From the SIGSEGV handler: where to resume instead, or NULL where host_pc is no known access of this block. */
const void *tcg_fault_resume(const struct tcg_block *, const void *host_pc);

#endif
