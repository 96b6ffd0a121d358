/* tiers_gen.h - what the files that make random guest programs share: a program in the making, its encoder, the statements. */
#ifndef TESTS_FUZZ_TIERS_GEN_H
#define TESTS_FUZZ_TIERS_GEN_H

#include "tests/fuzz/tiers_program.h"

enum { AX, CX, DX, BX, SP, BP, SI, DI, HIGH = 16 /* | 4..7: AH CH DH BH */, NONE = -1 };
enum { PAGE_SIZE = 0x1000, HOLE = 12, RIGID = 13, TWIN = 14, MOVING = 10,
       BASE_AT = 0x1800, BASE2_AT = 0x2f00, COUNTERS = -0xe0, SLOT = -0x40 /* from EBX */, SCRATCH = 64 };
enum { MOST_INSNS = 300000, MOST_IN_FUNCTION = 4000, MOST_CODE = PROGRAM_CODE_SIZE - 0x600, NEST = 3, SITES = 16 };
enum { CC_NZ = 5, CC_A = 7, ALWAYS = -1 };
enum function_kind { RETURNS, DROPS, SKIPS, RET_IMM, FUNCTION_KINDS };

struct operand { bool memory, rip; int8_t reg, index; uint8_t scale, segment; int32_t disp; };
struct site { unsigned at; uint8_t size; };
struct function { enum function_kind kind; unsigned at; uint64_t cost; };
struct gen {
    struct program *p;
    const uint8_t *in, *end; ptrdiff_t share; /* of the input, for one function */
    uint8_t *code; unsigned at, begun; /* begun: the present instruction's start */
    bool wide, real, user, biased;
    unsigned word;                   /* bytes of a push */
    uint32_t locked;                 /* registers that are not to be written */
    unsigned depth;                  /* bytes pushed since the frame was made */
    uint64_t insns, most, times;     /* estimated so far; the limit; how often what is emitted now runs */
    int nest; struct { int middle; unsigned breaks[4], break_count; struct operand counter; unsigned count; int pointer; } loops[NEST + 1];
    struct function functions[4]; unsigned function_count;
    struct site imms[SITES], ops[SITES]; unsigned imm_count, op_count;
};
struct insn { unsigned size; uint8_t prefix; uint32_t opcode; unsigned reg; struct operand rm; unsigned imm_size; uint64_t imm; bool byte_reg; /* reg is a byte register */ };

/* --- tiers_encode.c: the input, bytes, instructions, and what they may take as operands */
unsigned take(struct gen *g, unsigned below);
bool one_in(struct gen *g, unsigned n);
uint32_t take32(struct gen *g);
bool is_over(const struct gen *g);
uint64_t number(struct gen *g);
void byte(struct gen *g, unsigned v);
void little(struct gen *g, uint64_t v, unsigned size);
void insn_begin(struct gen *g);
void insn_end(struct gen *g);
unsigned near_size(const struct gen *g);
uint32_t code_address(const struct gen *g, unsigned at);
void little_at(struct gen *g, unsigned at, uint64_t v, unsigned size);
struct operand reg(unsigned r);
struct operand based(int base, int32_t disp);
struct operand data_at(const struct gen *g, uint32_t offset);
struct operand system_at(const struct gen *g, uint32_t offset);
struct operand code_at(const struct gen *g, unsigned at, bool alias);
void emit(struct gen *g, struct insn i);
unsigned imm_size(unsigned size);
void set_reg(struct gen *g, unsigned r, uint64_t v);
void store_imm(struct gen *g, struct operand to, uint32_t v);
void push_imm(struct gen *g, uint32_t v);
void push(struct gen *g, unsigned r);
void pop(struct gen *g, unsigned r);
void move_stack(struct gen *g, int by, bool flags_too);
unsigned jump_on(struct gen *g, int cc);
void land(struct gen *g, unsigned from);
void jump_back(struct gen *g, int cc, unsigned to);
void call(struct gen *g, unsigned to);
unsigned dst(struct gen *g);
unsigned src(struct gen *g);
unsigned dst_of(struct gen *g, unsigned size);
unsigned src_of(struct gen *g, unsigned size);
unsigned size_of(struct gen *g);
unsigned wide_size(struct gen *g);
struct operand mem(struct gen *g, unsigned width);
struct operand mem_or_reg(struct gen *g, unsigned size, bool written);

#define INSN(g, ...) insn_bytes(g, (const uint8_t[]){__VA_ARGS__}, sizeof(const uint8_t[]){__VA_ARGS__})
void insn_bytes(struct gen *g, const uint8_t *bytes, size_t size);

/* --- tiers_insns.c: one instruction or a few, of a kind */
void integer(struct gen *g);
void vectors(struct gen *g);
void rounding(struct gen *g);
void x87(struct gen *g);

/* --- tiers_statements.c */
void function(struct gen *g);
void rounds(struct gen *g);

#endif
