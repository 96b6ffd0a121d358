/* work.h - what the files of tierce-ir share: what was asked, the blocks, and the lines of each stage, every line with the
 * guest instruction that it came from.  A run makes one struct work, fills it stage by stage and prints it. */
#ifndef TIERCE_IR_WORK_H
#define TIERCE_IR_WORK_H

#include "backend-tcg/backend-tcg.h"
#include "frontend/frontend.h"
#include "tools/common/common.h"

/* Named as the emulator's -d; the order is that of a block's way. */
enum stage { IN_ASM, IR, IR_OPT, OUT_ASM, LLVM_IR, LLVM_OPT, LLVM_ASM, STAGES };
extern const char *const stage_names[STAGES];
#define STAGE(s) (1u << (s))
#define LLVM_STAGES (STAGE(LLVM_IR) | STAGE(LLVM_OPT) | STAGE(LLVM_ASM))

struct options {
    const char *hex, *file, *elf, *symbol, *ir; /* where the code is: exactly one, but for symbol */
    uint64_t offset, size;                      /* of --file; size 0: to its end */
    const char *cpu;
    unsigned bits, cpl;                         /* bits 0: not said */
    uint64_t pc, mode; bool has_pc, has_mode;
    unsigned insns, branches, blocks;           /* limits: of a block, of a block, of the run */
    bool icount;
    enum accesses { ALIGNED, MOVING, MISALIGNED, UNKNOWN } accesses; /* what the LLVM tier is told that was seen of them */
    unsigned stages;
    bool side_by_side, json, hot, summary;
    unsigned width;                             /* 0: the terminal's */
};

struct line {
    int block, insn;            /* whose; -1: no one's */
    int region;                 /* of the LLVM stages */
    bool cold;                  /* template code: behind the block; LLVM's code: loops.c; LLVM IR: outside of the function */
    bool loads, stores;         /* of a spill slot */
    uint32_t offset; uint8_t size; /* host code: from its block's or region's first byte */
    const uint8_t *bytes;       /* of host code */
    char *text, *note;          /* note: what an operand or a jump stands for; NULL: nothing */
};
struct lines { struct line *at; size_t count, room; };

struct count { unsigned ops, ops_opt; struct host_count { struct host_sum { unsigned insns, bytes, loads, stores; } hot, cold; } tcg, llvm; };
struct guest_insn { uint32_t offset; uint8_t size; struct count count; };
struct block {
    uint64_t pc;
    const uint8_t *bytes;       /* NULL: it came as IR text */
    struct ir_block lifted, optimised;
    struct guest_insn *insns; unsigned insn_count;
    uint32_t code_size;         /* of its template code; 0: there is none */
    struct count other;         /* what belongs to none of them */
    const char *refused;        /* operation for which the LLVM tier takes it into no region, or NULL */
    int region;                 /* its number; -1: none */
};

struct work {
    struct options o;
    uint8_t *bytes; uint64_t size;  /* guest code that starts at pc; NULL: IR text */
    char *text;                     /* the IR text */
    uint64_t pc;
    uint32_t mode;
    const struct x86_model *model;
    struct tcg_buffer *buffer;
    size_t buffer_at;
    struct block *blocks; unsigned block_count;
    bool more_blocks;               /* than --blocks were found */
    uint64_t unreached;             /* bytes that no block holds */
    struct lines stage[STAGES];
    struct region { unsigned first /* block */, block_count; uint32_t size; uint8_t *object; } *regions; unsigned region_count;
    uint32_t llvm_size;             /* of all regions' code; 0: there is none */
    char llvm_refused[300];         /* why not, or why one is missing */
    struct host_count llvm_other;   /* what belongs to no block */
    uint64_t build_ns, pass_ns, emit_ns;
    unsigned side_exits;
};

void options_parse(struct options *, int argc, char **argv);
void input_read(struct work *);     /* bytes, pc, bits */
void input_elf(struct work *);
void guest_mode(struct work *);     /* mode and model */

void blocks_make(struct work *);    /* lifted and optimised, and the template code of each */
int block_insn_at(const struct block *, int64_t offset); /* index, or -1 */
struct line *lines_add(struct lines *, int block, int insn, const char *text, size_t length);
void lines_free(struct lines *);
void host_lines(struct work *, enum stage, int block, const uint8_t *code, uint32_t size, uint32_t spills);
bool tcg_make(struct work *, unsigned index); /* false: too complex for a template block */
void loops_find(struct line *code, uint32_t count); /* which of it is cold */
void regions_make(struct work *);   /* the LLVM stages */
void count_all(struct work *);
struct count count_block(const struct block *); /* the sum */
struct total { unsigned insns, bytes; struct count count; } total_of(const struct work *); /* of all blocks */
void count_add(struct count *to, const struct count *);

char *insn_text(const struct work *, int block, int insn); /* malloc'd: of the guest instruction, where its bytes are known */
void print_stages(const struct work *, FILE *);
size_t print_width(const struct options *);  /* characters in a line */
void print_columns(const struct work *, FILE *);
void print_summary(const struct work *, FILE *);
void print_json(const struct work *, FILE *);

#endif
