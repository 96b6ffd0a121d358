/* ir.h - the intermediate representation: what a block of guest instructions means, independent of guest
 * and host.  Built by frontend/, rewritten by the passes here, run by the interpreter here or compiled by a
 * backend.  Depends on libc alone.  Nothing here is shared between threads: a block belongs to its builder.
 *
 * A block is one list of instructions without inner control flow: it is entered at the top and left at its
 * last instruction, at a side exit (exit_if), or by a fault (translate, raise_if, call).  The value of an
 * instruction is named by the instruction's index (SSA).  It is position-independent: the guest PC of its
 * first instruction is a parameter.
 *
 * Guest state is one struct that the IR knows as byte offsets ("slots").  Rule for precise exceptions:
 * inside one guest instruction (from `insn` to the next `insn`) no put and no store comes before the last
 * operation that can fault, except for operations that the guest restarts harmlessly.  A fault leaves the
 * state as it was at the `insn`. */
#ifndef IR_IR_H
#define IR_IR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum ir_type {
    IR_VOID, IR_I1, IR_I8, IR_I16, IR_I32, IR_I64, IR_I128,
    IR_F32, IR_F64, IR_F80, IR_V128, IR_V256, IR_V512, IR_FLAGS, IR_TYPE_COUNT
};

enum ir_op {
#define IR_OP(name, out, in, aux, imm, props, meaning) IR_##name,
#include "ir/ops.def"
    IR_OP_COUNT
};

enum ir_props {
    PURE = 1, COMMUTES = 2, FAULTS = 4, READS_MEM = 8, WRITES_MEM = 16,
    READS_STATE = 32, WRITES_STATE = 64, ENDS = 128, FLAGGED = 256,
    FP = 512 /* reads MXCSR, sets its sticky flags */, X87 = 1024 /* reads and writes ir_guest.x87 */
};

struct ir_op_info {
    const char *name, *in, *aux, *imm, *meaning;
    char out;
    uint16_t props;
};
extern const struct ir_op_info ir_op_info[IR_OP_COUNT];

/* Packed flags: LAHF's byte in bits 8..15, OF in bit 0 - the form that x86 hosts pack most cheaply. */
enum ir_flag {
    IR_FLAG_O = 1 << 0, IR_FLAG_C = 1 << 8, IR_FLAG_P = 1 << 10, IR_FLAG_A = 1 << 12,
    IR_FLAG_Z = 1 << 14, IR_FLAG_S = 1 << 15,
    IR_FLAGS_ALL = IR_FLAG_O | IR_FLAG_C | IR_FLAG_P | IR_FLAG_A | IR_FLAG_Z | IR_FLAG_S
};
/* The mask in `aux` (8 bits): one bit a flag. */
enum ir_mask { IR_M_O = 1, IR_M_C = 2, IR_M_P = 4, IR_M_A = 8, IR_M_Z = 16, IR_M_S = 32, IR_M_ALL = 63 };
uint32_t ir_mask_to_packed(unsigned mask);

/* Conditions of test_cc, numbered so that bit 0 negates (the hardware's own numbers). */
enum ir_cond { IR_CC_O, IR_CC_NO, IR_CC_B, IR_CC_AE, IR_CC_Z, IR_CC_NZ, IR_CC_BE, IR_CC_A,
               IR_CC_S, IR_CC_NS, IR_CC_P, IR_CC_NP, IR_CC_L, IR_CC_GE, IR_CC_LE, IR_CC_G };

enum ir_access { IR_READ = 1, IR_WRITE = 2, IR_RW = 3, IR_EXEC = 4,
                 IR_AS_SUPERVISOR = 8, /* rights of CPL 0 whatever the mode (descriptor tables) */
                 IR_ALIGNED = 16,      /* a misaligned address raises #GP (SSE) */
                 IR_SS = 32,           /* a non-canonical address raises #SS, not #GP */
                 IR_AC = 64,           /* a misaligned address raises #AC */
                 IR_TOP = 128          /* bytes that would wrap at 4 GiB raise #GP, or #SS */ };
enum ir_jump { IR_JUMP, IR_JUMP_CALL, IR_JUMP_RET,
               IR_JUMP_MODE /* a helper may have changed mode or mapping: the successor is looked up in the mode of now */ };
enum ir_leave { IR_LEAVE_NEXT,   /* mode or mapping may have changed: look the next block up afresh */
                IR_LEAVE_HALT, IR_LEAVE_SINGLE, IR_LEAVE_FAULT, IR_LEAVE_INTERRUPT, IR_LEAVE_INTERPRET, IR_LEAVE_EXIT,
                IR_LEAVE_HOT /* counted down: struct tcg_options */ };
enum ir_lane { IR_L8, IR_L16, IR_L32, IR_L64, IR_LF32, IR_LF64, IR_LS32, IR_LS64 /* scalar FP: lowest lane */ };

#define IR_NONE 0xffff
typedef uint16_t ir_ref; /* index of the instruction that defines the value */

struct ir_insn {
    uint8_t op, type;
    uint16_t aux;
    ir_ref arg[4];
    int64_t imm;
};

struct ir_block {
    struct ir_insn *insns;
    uint32_t count, capacity;
    uint32_t guest_bytes, guest_insns;
    uint32_t head_bytes;  /* up to the first conditional jump behind which the block goes on; 0: there is none */
    uint8_t pc_bits;      /* 16, 32 or 64: a PC wraps at this width */
    bool whole_mode;      /* the frontend's word for who keeps translations: it depends on what in the guest's mode most blocks do not */
    bool out_of_memory;   /* a builder call failed; the block is not to be used */
    struct ir_code { uint16_t offset; uint8_t size; } code[32]; unsigned code_count; /* guest bytes that `code` alone reads */
};

/* --- Helpers: C functions that translated code calls.  The table belongs to the caller. */
enum ir_state_class { IR_S_GPR = 1, IR_S_FLAGS = 2, IR_S_SYSTEM = 4, IR_S_FPU = 8, IR_S_VECTOR = 16, IR_S_ALL = 31 };
typedef uint64_t ir_helper_fn(void *state, uint64_t a, uint64_t b, uint64_t c, uint64_t d);
struct ir_helper {
    const char *name;
    ir_helper_fn *fn;     /* signals a guest fault by making *(uint32_t *)(state + faulted_offset) nonzero */
    uint8_t args;
    uint8_t reads, writes; /* enum ir_state_class */
    bool faults, memory;   /* may fault; may access guest memory */
};
enum ir_moves_operand {
    IR_MOVES_SIZE = 15,      /* bytes of an element */
    IR_MOVES_PLAIN = 1 << 29, /* from and to are linear addresses, of 64 bits, and nothing else is to be heeded */
    IR_MOVES_FILL = 1 << 30, /* value is stored; from is not looked at */
};
/* What every consumer of IR must know of the guest state. */
struct ir_slot { const char *name; uint32_t offset; uint8_t type, state_class, hot; /* hot: 1 = first to be kept in a host register, 0 = never */ };
struct ir_guest {
    const struct ir_slot *slots; unsigned slot_count;
    const struct ir_helper *helpers; unsigned helper_count;
    uint32_t state_size;
    uint32_t pc_offset;      /* u64: guest PC, written when a block is left */
    uint32_t faulted_offset; /* u32: nonzero once a guest fault is pending */
    uint32_t stop_offset;    /* u32: nonzero asks translated code to return to the cpu loop soon */
    uint32_t icount_offset;  /* i64: instructions left before the block must return (only with counting on) */
    uint32_t mxcsr_offset;   /* u32: FP control and sticky flags in the host's format */
    /* The helper that copies or fills runs of memory, its operand a being enum ir_moves_operand, and the slots (u64; flags: u32) that tell it the
     * rest; it leaves them behind the run.  It goes down where flags has that bit.  A backend may do short runs in line.  down 0: there is none. */
    struct ir_moves { uint32_t helper, to, from, value, count, flags, down; } moves;
    struct ir_x87 {          /* offsets; status without TOP, tags: bit r set where register r is in use */
        uint32_t control, status, opcode /* u16 */, top, tags /* u8 */, pc /* u64 */, registers /* f80 [8], physical */;
    } x87;
};

/* --- Builder.  Each returns the new value (IR_NONE for ops without one); never fails visibly: check
 * out_of_memory once at the end. */
void ir_block_init(struct ir_block *);
void ir_block_free(struct ir_block *);
void ir_block_clear(struct ir_block *); /* empties, keeps the memory */
ir_ref ir_emit(struct ir_block *, enum ir_op, enum ir_type, unsigned aux, int64_t imm,
               ir_ref a, ir_ref b, ir_ref c, ir_ref d);
static inline ir_ref ir_const(struct ir_block *b, enum ir_type t, int64_t v) { return ir_emit(b, IR_const, t, 0, v, IR_NONE, IR_NONE, IR_NONE, IR_NONE); }
static inline ir_ref ir_op1(struct ir_block *b, enum ir_op op, enum ir_type t, ir_ref x) { return ir_emit(b, op, t, 0, 0, x, IR_NONE, IR_NONE, IR_NONE); }
static inline ir_ref ir_op2(struct ir_block *b, enum ir_op op, enum ir_type t, ir_ref x, ir_ref y) { return ir_emit(b, op, t, 0, 0, x, y, IR_NONE, IR_NONE); }
static inline ir_ref ir_op3(struct ir_block *b, enum ir_op op, enum ir_type t, ir_ref x, ir_ref y, ir_ref z) { return ir_emit(b, op, t, 0, 0, x, y, z, IR_NONE); }
unsigned ir_type_bytes(enum ir_type); /* 1 for i1; 16 for f80; 4 for flags */
static inline unsigned ir_type_bits(enum ir_type t) { return t == IR_I1 ? 1 : ir_type_bytes(t) * 8; }
static inline uint64_t ir_cut(uint64_t v, unsigned bits) { return bits >= 64 ? v : v & ((1ull << bits) - 1); }
static inline int64_t ir_signed(uint64_t v, unsigned bits) { return bits >= 64 ? (int64_t)v : (int64_t)(v << (64 - bits)) >> (64 - bits); }
#define IR_FIRST_VECTOR IR_vand   /* this op and all after it are ops_vector.def's */
/* The result type of an instruction: i1 for comparisons, flags for flag ops, i64 for translate, ... */
enum ir_type ir_result_type(const struct ir_block *, ir_ref);

/* --- Text.  The printer's output is the parser's input.  `%5 = add.i32 %3, %4`; aux as `!n`, imm as `#n`. */
void ir_print(FILE *, const struct ir_block *, const struct ir_guest * /* names slots and helpers; may be NULL */);
/* Returns NULL, or a message (static or in `error`, size bytes) that names the line. */
const char *ir_parse(struct ir_block *, const char *text, const struct ir_guest *, char *error, size_t size);

/* --- Verifier.  Returns NULL where the block is well formed, else what is wrong (in `error`). */
const char *ir_verify(const struct ir_block *, const struct ir_guest *, char *error, size_t size);

/* --- Passes, in place.  ir_optimise runs them all in their order. */
void ir_optimise(struct ir_block *, const struct ir_guest *);
/* Value of a pure scalar operation on constants (result cut to the type); used by the folder and the interpreter. */
uint64_t ir_eval(enum ir_op, enum ir_type, unsigned aux, int64_t imm, const uint64_t arg[3]);
/* Packed flags that FLAGGED op leaves for operands arg (carry in: arg[2] packed), all bits; *valid gets the defined mask (enum ir_mask). */
uint32_t ir_eval_flags(enum ir_op, enum ir_type, const uint64_t arg[3], uint64_t result, uint32_t old);
bool ir_eval_cond(enum ir_cond, uint32_t packed_flags);

/* --- x87 by the host's own.  A function (see ops_x87.def) on the x87 of the state, whatever the control word masks: what
 * is unmasked gets the unmasked response and stays pending in the status word.  operand: 16 bytes to read or write;
 * flags: packed, in and out. */
uint32_t ir_x87_run(void *state, const struct ir_guest *, unsigned function, void *operand, uint32_t flags);
/* The same for a function that writes `size` bytes; false: an unmasked exception left memory as it was. */
bool ir_x87_store(void *state, const struct ir_guest *, unsigned function, unsigned size, void *operand);
/* The state's x87 into the host's; and back, which leaves the host's as a process starts with it.  The control word's slot stays valid throughout. */
void ir_x87_enter(const void *state, const struct ir_guest *);
void ir_x87_leave(void *state, const struct ir_guest *);

/* How the operands of a row of ir/host_sse.def, which explains them, are laid out. */
enum ir_host_shape {
    IR_SHAPE_NONE, IR_SHAPE_R2, IR_SHAPE_R2I, IR_SHAPE_R1, IR_SHAPE_R1I, IR_SHAPE_X0, IR_SHAPE_BYTES7, IR_SHAPE_BYTES3, IR_SHAPE_TO,
    IR_SHAPE_TO32, IR_SHAPE_FLAGS, IR_SHAPE_FROM32, IR_SHAPE_FROM64, IR_SHAPE_NEW, IR_SHAPE_OUT, IR_SHAPE_OUTI, IR_SHAPE_INI
};
/* Has this host the instruction that ir/host_sse.def, or the op's name, stands for?  Where not, AES, CLMUL and SHA are
 * done by ir_crypto_eval: x are a, b, c; the result comes in x[0]. */
bool ir_host_runs(enum ir_op);
void ir_crypto_eval(enum ir_op, unsigned imm, uint8_t x[3][16]);

/* --- Interpreter: the reference for every op. */
union ir_value { uint64_t u64; unsigned __int128 u128; uint8_t u8[64]; uint16_t u16[32]; uint32_t u32[16]; uint64_t q[8]; float f32[16]; double f64[8]; long double f80; };
struct ir_env {
    void *state;
    const struct ir_guest *guest;
    uint64_t pc;           /* guest PC of the block's first instruction */
    const uint8_t *code;   /* its bytes, for blocks with `code` */
    /* Checks that `size` bytes at linear address may be accessed so; false leaves a fault pending in state.
     * Later load and store of these bytes inside the same guest instruction cannot fault. */
    bool (*translate)(void *state, uint64_t address, unsigned size, unsigned access);
    void (*load)(void *state, uint64_t address, unsigned size, void *to);
    void (*store)(void *state, uint64_t address, unsigned size, const void *from);
    /* raise_if: makes vector pending in the state; has_error as the op says. */
    void (*raise)(void *state, unsigned vector, bool has_error, uint64_t error);
    ir_ref at;             /* out: the translate that asks */
    bool stop;             /* may become true meanwhile: leave before the next guest instruction, as by a jump to it */
};
/* Runs one block and sets the PC slot.  On a fault returns IR_LEAVE_FAULT with the PC slot at the faulting
 * instruction.  *insns gets the number of guest instructions that were completed. */
enum ir_leave ir_interpret(const struct ir_block *, struct ir_env *, unsigned *insns);

#endif
