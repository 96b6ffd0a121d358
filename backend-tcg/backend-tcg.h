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
/* The jump table.  A mode's entries lie as many places further on as its number says (context->jumps), so that one that has the PC is of the
 * mode, too.  Where there is none, PC ~0 leads back to the cpu loop. */
struct tcg_jump { uint64_t pc; const void *code; };
#ifdef TIERCE_NASTY
#define TCG_JUMP_ENTRIES 4u
#else
#define TCG_JUMP_ENTRIES 16384u
#endif
#define TCG_JUMP_MODES 1024u
#define TCG_JUMP_ROOM (TCG_JUMP_ENTRIES + TCG_JUMP_MODES)
#define TCG_NO_JUMP (~0ull)
void tcg_jumps_clear(struct tcg_jump *, size_t count);
/* Index of a PC in the jump table, of mode 0: its low bits and the page's number, since functions begin at multiples of 16.  As this is a multiplication, a shift
 * and a mask in translated code; a page's entries are neighbours. */
enum { TCG_JUMP_FACTOR = 4097, TCG_JUMP_SHIFT = 12 };
static inline unsigned tcg_jump_hash(uint64_t pc) { return (uint32_t)pc * TCG_JUMP_FACTOR >> TCG_JUMP_SHIFT & (TCG_JUMP_ENTRIES - 1); }

struct tcg_context {
    uint8_t unpinned[11][64];            /* stands for the pinned slots of a guest that has none */
    struct tcg_link *link;               /* out: that was asked for, as it is not linked; for whoever calls tcg_run to clear before */
    uint64_t reserved[2];
    uint64_t mxcsr;                      /* what a region loads the host's from, or stores it to */
    void *region_left;                   /* out: data of the region that left; for whoever calls tcg_run to clear before */
    void (*x87_moved)(void *state);      /* for C and regions; set by tcg_run */
    uint64_t x87_control;                /* what a region loads the control word from */
    uint64_t host_gs;                    /* how to set it: tcg_tables_set */
    /* Changes when a mapping of code may have: any (0), or one of a global page (1).  Set by the runtime. */
    uint64_t map_epoch[2];
    const struct ir_guest *guest;        /* x87: see x87.c */
    const void *x87_move;
    uint64_t x87_in_host;
    void *stop_slot;                     /* set by tcg_run */
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
    const struct tcg_jump *jumps;        /* in a table of TCG_JUMP_ROOM, of the present mode; set by the runtime */
    void (*miss)(void);                  /* with `jumps` an entry that leads to the cpu loop; set by tcg_run */
    /* Regions of blocks (backend-llvm/): how they are entered and left, for entry.S; the flags they did not need. */
    void (*stub_region_enter)(void), (*stub_region_go)(void), (*stub_region_leave)(void);
    uint64_t (*region_flags)(uint64_t tags, uint64_t c_result, uint64_t c_second, uint64_t result, uint64_t second); /* set by the runtime */
    void *pc_slot;                       /* set by tcg_run */
} __attribute__((aligned(64)));

/* --- Which slots are pinned, from the guest's table; made once for a buffer. */
#define TCG_NO_SLOT 0xf0000000u /* beyond every state */
struct tcg_pins {
    const struct ir_guest *guest;
    uint32_t ints, vectors;          /* offset of the first */
    uint32_t flags;                  /* of the slot of packed flags */
    bool has_bextr;                  /* BMI1 */
};
void tcg_pins_make(struct tcg_pins *, const struct ir_guest *);

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
    uint64_t counting;         /* its first eight bytes, where it counts */
    uint32_t body;             /* offset of what follows the counting; 0: nothing is counted */
    bool kills_flags;          /* overwrites the guest's flags before anything can see them */
    struct tcg_fault_site { uint32_t fast_offset, slow_offset; } *sites; /* SIGSEGV at fast goes to slow; malloc'd, owned by the caller */
    unsigned site_count;
    struct tcg_reloc *relocs;  /* where it was asked for (tcg_options.moves); NULL: the block cannot be moved.  malloc'd, owned by the caller */
    unsigned reloc_count, pc_bits;
};
#define TCG_MAX_EXITS 6
/* What in a block's code depends on where in the guest it is, and on the process: what is added up, and the form of the field. */
struct tcg_reloc { uint32_t at : 24, kind : 4, form : 4; int32_t value; };
struct tcg_options {
    const struct ir_guest *guest; uint64_t pc; void *user; bool icount; const uint8_t *code; /* the guest's bytes, for the operation of that name */
    bool moves;                          /* its relocations are wanted */
    int32_t counter;                     /* offset from the state of an i32 that is counted down at each entry; below zero the block is left before it
                                            begins, with IR_LEAVE_HOT.  0: none */
    /* For who looks at the code; may be NULL.  From host offset `host` on stands code of the guest instruction at block PC +
     * guest; cold: code behind the block, of one way out or slow path. */
    void (*line)(void *ctx, uint32_t host, int32_t guest, bool cold); void *line_ctx;
};
#define TCG_SPILLS 144 /* of the block's frame: values that found no register are at [RSP + TCG_SPILLS] and above */
enum tcg_result { TCG_OK, TCG_FULL /* no room in [at, limit): evict and retry */, TCG_TOO_COMPLEX /* take a shorter block */ };
/* Compiles `block` into the buffer at offset *at (advanced past the code), never past limit. */
enum tcg_result __attribute__((warn_unused_result))
tcg_compile(struct tcg_buffer *, size_t *at, size_t limit, const struct ir_block *, const struct tcg_options *, struct tcg_block *out);
/* A block's code as it was compiled, without links and redirection: code_size bytes, to be placed by tcg_place. */
void tcg_copy(const struct tcg_block *, uint8_t *code);
/* Places code that tcg_copy gave, for another PC, user and counter, of the same `icount`: as tcg_compile does.  `out` is the block but for entry, counting, sites and
 * relocs.  at_64: its old entry's address modulo 64.  TCG_TOO_COMPLEX: it does not fit there, or a relocation is none of ours; it is to be compiled. */
struct tcg_moved { const uint8_t *code; unsigned at_64; const struct tcg_reloc *relocs; unsigned reloc_count; };
enum tcg_result __attribute__((warn_unused_result))
tcg_place(struct tcg_buffer *, size_t *at, size_t limit, const struct tcg_moved *, const struct tcg_options *, struct tcg_block *out);
void tcg_chain(struct tcg_buffer *, const struct tcg_block *from, unsigned exit, const struct tcg_block *to); /* to = NULL: unchain */

/* Where a block that counts goes instead of counting: to that run address, which it does not return from; NULL: it counts (again). */
void tcg_redirect(struct tcg_buffer *, const struct tcg_block *, const void *target);
const void *tcg_body(const struct tcg_block *); /* run address behind the counting */
/* Code from elsewhere, in an area of the buffer that no block is compiled to: the two views of an offset. */
uint8_t *tcg_buffer_writable(struct tcg_buffer *, size_t offset);
const void *tcg_buffer_runnable(const struct tcg_buffer *, size_t offset);
/* The way from template code into a region (backend-llvm/): TCG_REGION_ENTRY bytes at most, at that offset.  Where *valid is not the context's
 * map_epoch[global], it leaves with IR_LEAVE_HOT instead; valid: NULL: never. */
enum { TCG_REGION_ENTRY = 128 };
struct tcg_region_entry { uint64_t pc; const void *code; void *data; const uint64_t *valid; bool global; };
void tcg_region_enter(struct tcg_buffer *, size_t offset, const struct ir_guest *, const struct tcg_region_entry *);

/* A region's way out to a known successor, and where it leads now.  Changed on the thread that runs the code. */
struct tcg_link {
    const void *code; void *data;     /* where the region goes on, and what it hands over there */
    const void *to; void *to_data;    /* the same, behind the check */
    uint64_t valid; uint64_t global;  /* checked: leads there while `valid` is the context's map_epoch[global], else it asks */
    void *user;
};
enum tcg_link_to {
    TCG_LINK_TABLE,  /* by the jump table */
    TCG_LINK_ASK,    /* to the cpu loop, with context->link set */
    TCG_LINK_BLOCK,  /* to template code: `code` is a block's entry */
    TCG_LINK_REGION, /* to a region's function and its data */
};
void tcg_link(struct tcg_link *, enum tcg_link_to, const void *code, void *data, bool checked);

/* --- Run.  Returns when a block leaves; *exit_index >= 0 tells which chainable exit of context->block it
 * was, -1 for others.  state.pc is the guest PC to go on at, registers are in the state. */
enum ir_leave tcg_run(void *state, const struct ir_guest *, const void *entry, int *exit_index);
/* Call once per vCPU thread before tcg_run, and after the mode's tables change. */
void tcg_tables_set(struct tcg_context *, int64_t *read_table, int64_t *write_table);
/* From the SIGSEGV handler: where to resume instead, or NULL where host_pc is no known access of this block. */
const void *tcg_fault_resume(const struct tcg_block *, const void *host_pc);

#endif
