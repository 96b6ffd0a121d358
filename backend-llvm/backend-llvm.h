/* backend-llvm.h - regions of IR blocks to host code, by LLVM; the result is an ELF object that needs no relocation.  Knows
 * nothing of x86 as a guest: it sees IR, slots, helper tables.
 * Threads: compilation may run on any thread, with one struct llvm_region at a time; it reads the region and the guest's
 * tables and touches no vCPU.  Everything of LLVM's belongs to one compilation and is freed with it. */
#ifndef BACKEND_LLVM_BACKEND_LLVM_H
#define BACKEND_LLVM_BACKEND_LLVM_H

#include "backend-llvm/object.h"
#include "backend-tcg/backend-tcg.h"
#include "ir/ir.h"

/* --- What to compile: blocks, each entered at its top from others of the region; blocks[0] from outside.  Where an exit
 * (exit_if, jump) names the PC of a block of the region, control goes on there; else it leaves the region. */
struct llvm_block {
    const struct ir_block *ir;
    int64_t pc;                /* its PC less that of blocks[0], sign-extended from the block's pc_bits */
    uint64_t count;            /* how often it was seen to run; 0: not known */
    /* Where its computed jump (jump_to) was seen to go: blocks of the region, most frequent first. */
    struct llvm_target { uint32_t block; uint32_t count; } targets[8]; unsigned target_count;
    const uint8_t *seen;       /* enum llvm_seen, one byte an IR instruction (of translate); NULL: not known */
};
enum { LLVM_MOST_BLOCKS = 256 };
enum llvm_seen { LLVM_SEEN = 1, LLVM_SEEN_MISALIGNED = 2, LLVM_SEEN_OTHER_PAGE = 4 /* than at its last run, often */ };
struct llvm_region {
    const struct ir_guest *guest;
    const struct llvm_block *blocks; unsigned block_count;
    const char *name;          /* of the function; NULL: "region", as where objects are to be the same wherever the code was */
    const struct object_meta *about; /* its key, mode, ranges and recipe are the object's; NULL: none */
    bool icount;               /* counts instructions as the template backend does with the option of that name */
    bool careful;              /* accesses left an earlier version too often: nothing is taken for aligned */
};

/* What the code keeps outside of the vCPU: its address is the region's `data` argument. */
enum llvm_cause {
    LLVM_EXIT,          /* a known successor that is not in the region */
    LLVM_EXIT_COMPUTED, /* a computed jump to what is not in the region */
    LLVM_EXIT_STOP,     /* the cpu loop asked */
    LLVM_SIDE_ACCESS,   /* of memory: no entry in the table (a first access, MMIO, code that is written to, a fault), misaligned where it was
                           taken for aligned, or over the end of a page */
    LLVM_SIDE_GUARD,    /* an exception's condition, or what only the interpreter does */
    LLVM_SIDE_FORCED,   /* by --stress */
    LLVM_SIDE_ICOUNT,   /* the instructions left do not suffice */
    LLVM_EXIT_LEAVE,    /* the block leaves for the cpu loop by itself */
    LLVM_CAUSES
};
struct llvm_data {
    uint64_t entries, exits[LLVM_CAUSES], insns; /* that it ran, where they are counted */
    struct tcg_link *links;    /* [0]: TCG_LINK_TABLE, always; [1 + n]: of exit n in the object's metadata */
};

enum llvm_stage { LLVM_STAGE_IR = 1, LLVM_STAGE_OPT = 2, LLVM_STAGE_ASM = 4 };
struct llvm_options {
    /* Called with the text of a stage (enum llvm_stage bits in `stages`) on the compiling thread. */
    unsigned stages; void (*print)(void *ctx, enum llvm_stage, const char *text); void *ctx;
    bool lines;                /* keep the map from host offsets to guest PC offsets in the object */
    uint32_t stress;           /* nonzero: seed of side exits forced at random (--stress) */
};

/* --- The object: see object.h for its sections. */
struct llvm_compiled {
    uint8_t *elf; size_t elf_size;       /* malloc'd */
    uint64_t build_ns, pass_ns, emit_ns; /* CPU time of the stages */
    unsigned guest_insns, side_exits;
};
/* Copies an object's function to that offset of the code buffer, and behind it, at llvm_entry_at from there, the way in, of at most
 * TCG_REGION_ENTRY bytes.  Returns what template code is to be sent to; the entry's `code` is filled in.  On the thread that runs the code. */
size_t llvm_entry_at(const struct object_view *);
const void *llvm_place(struct tcg_buffer *, size_t offset, const struct object_view *, const struct ir_guest *, struct tcg_region_entry *);
/* For tcg_context.region_flags. */
uint64_t llvm_flags(uint64_t tags, uint64_t c_result, uint64_t c_second, uint64_t result, uint64_t second);
/* All of this host and this LLVM that what it makes depends on, as text; malloc'd, NULL: out of memory. */
char *llvm_fingerprint(void);
/* Why a block cannot be part of a region: its operation, or NULL. */
const char *llvm_refuses(const struct ir_block *);
/* False: error has one line. */
bool llvm_compile(const struct llvm_region *, const struct llvm_options *, struct llvm_compiled *, char *error, size_t size);

#endif
