/* internal.h - what the files of backend-tcg/ share: the assembler, the register allocator's view of a block. */
#ifndef BACKEND_TCG_INTERNAL_H
#define BACKEND_TCG_INTERNAL_H

#include "backend-tcg/backend-tcg.h"
#include <string.h>

#define CONTEXT(field) ((int32_t)offsetof(struct tcg_context, field) - (int32_t)sizeof(struct tcg_context)) /* from the state */
enum host_reg { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, NO_REG = 0xff };
#define REG_BIT(r) (1u << (r))
/* RBP is the state, RSP the stack; XMM0 and XMM1 are scratch. */
#define GPR_POOL (0xffffu & ~(REG_BIT(RBP) | REG_BIT(RSP)))
#define XMM_POOL 0xfffcu
#define CALLER_SAVED (REG_BIT(RAX) | REG_BIT(RCX) | REG_BIT(RDX) | REG_BIT(RSI) | REG_BIT(RDI) | REG_BIT(R8) | REG_BIT(R9) | REG_BIT(R10) | REG_BIT(R11))

/* The frame that tcg_run sets up, from RSP inside a block ([RSP] is the way out): where cold paths save registers,
 * and where values are spilled. */
enum { FRAME = 1032, SAVE_GPR = 16, SAVE_XMM = SAVE_GPR + 128, SPILL = SAVE_XMM + 256, SPILL_SLOTS = (FRAME - SPILL) / 16, SCRATCH = 8 };

struct value {
    uint8_t reg;              /* host_reg or XMM number, NO_REG */
    uint8_t spill;            /* slot, NO_REG */
    bool clean;               /* i32 in a register whose high half is zero */
    uint16_t last, uses;      /* last instruction that needs it */
    bool lazy;                /* condition that is made where it is used */
    bool flagged;             /* its flags are asked for: made at its exact width */
    bool done;                /* came with an earlier instruction */
};

struct x87_pointers { bool known; uint16_t opcode; uint32_t offset; }; /* of a function: x87.c */

enum cold_kind { COLD_TRANSLATE, COLD_UNALIGNED, COLD_LEAVE, COLD_EXIT, COLD_BACK };
struct cold {
    enum cold_kind kind;
    uint32_t from[2], back;   /* offsets of the jumps' displacements to be bound here; where to go back to */
    uint8_t ea, to;           /* registers */
    uint16_t live, live_xmm;
    uint32_t size_access;
    uint32_t insn_offset; uint16_t insns;  /* guest instruction: offset of its PC, how many are complete */
    enum ir_leave reason;
    int exit;
    struct x87_pointers x87;
};
enum { MAX_COLD = 512 };

struct tcg {
    const struct ir_block *b;
    const struct tcg_options *o;
    const struct ir_guest *g;
    uint8_t *start, *p, *limit;      /* in the writable mapping */
    const uint8_t *run;              /* start's run address */
    struct value *v;
    ir_ref owner[16], owner_xmm[16]; /* IR_NONE: free */
    uint32_t locked, locked_xmm;     /* not to be moved by the allocator now */
    uint64_t spills;                 /* slots in use */
    ir_ref slot_owner[64];
    ir_ref now;                      /* instruction that is being emitted */
    ir_ref host_flags;               /* flagged operation or flags value whose flags are in EFLAGS, IR_NONE */
    int leave_cold;                  /* this guest instruction's way to the interpreter, -1: none yet */
    uint32_t insn_offset; uint16_t insns;
    struct cold cold[MAX_COLD]; unsigned colds;
    struct tcg_block *out;
    struct tcg_fault_site sites[256]; unsigned sites_n;
    bool full, complex;
    uint8_t x87;                     /* where the guest's x87 is: see x87.c */
    struct x87_pointers x87_pointers;/* not stored yet */
};

/* --- Assembler.  size: operand bytes 1, 2, 4, 8. */
static inline void put8(struct tcg *t, unsigned v) { if (t->p < t->limit) *t->p++ = (uint8_t)v; else t->full = true; }
static inline void put32(struct tcg *t, uint32_t v) { for (unsigned i = 0; i < 4; i++) put8(t, v >> 8 * i); }
static inline void put64(struct tcg *t, uint64_t v) { put32(t, (uint32_t)v); put32(t, (uint32_t)(v >> 32)); }
static inline uint32_t here(const struct tcg *t) { return (uint32_t)(t->p - t->start); }
/* opcode: up to three bytes, the first highest; 0x0f.. included.  prefix: 0, 0x66, 0xf2, 0xf3 */
void emit_rr(struct tcg *, unsigned prefix, uint32_t opcode, unsigned size, unsigned reg, unsigned rm);
void emit_rm(struct tcg *, unsigned prefix, uint32_t opcode, unsigned size, unsigned reg, unsigned base, int32_t disp);
/* index scaled by 8; gs: segment override */
void emit_rx(struct tcg *, bool gs, uint32_t opcode, unsigned reg, int base, unsigned index);
void emit_mov(struct tcg *, unsigned to, unsigned from);      /* 64 bits */
void emit_mov32(struct tcg *, unsigned to, unsigned from);
void emit_imm(struct tcg *, unsigned to, uint64_t v);         /* flags stay */
void emit_alu_imm(struct tcg *, unsigned digit, unsigned size, unsigned rm, int32_t imm); /* 81 /digit */
void emit_alu_mem_imm(struct tcg *, unsigned digit, unsigned size, unsigned base, int32_t disp, int32_t imm);
void emit_shift_imm(struct tcg *, unsigned digit, unsigned size, unsigned rm, unsigned count);
uint32_t emit_jcc(struct tcg *, unsigned cc);                 /* returns the displacement's offset */
uint32_t emit_jmp(struct tcg *);
void emit_bind(struct tcg *, uint32_t displacement, uint32_t target);
void emit_call(struct tcg *, const void *fn);

/* --- Allocator */
bool is_xmm_type(enum ir_type);
unsigned gpr_alloc(struct tcg *, ir_ref owner);                /* a free register, locked for this instruction */
unsigned gpr_temp(struct tcg *);
void gpr_take(struct tcg *, unsigned reg);                    /* frees that very register and locks it */
unsigned use(struct tcg *, ir_ref);                           /* the value in some register, locked */
unsigned use_in(struct tcg *, ir_ref, unsigned reg);          /* a copy in that register, which is free otherwise */
unsigned def(struct tcg *, ir_ref);                           /* register for the result */
/* Result register that starts as a copy of a (taken over where a ends here). */
unsigned def_from(struct tcg *, ir_ref self, ir_ref a);
unsigned xmm_use(struct tcg *, ir_ref);
unsigned xmm_def(struct tcg *, ir_ref);
unsigned xmm_def_from(struct tcg *, ir_ref self, ir_ref a);
bool const_of(const struct tcg *, ir_ref, int64_t *value);
void spill_for_call(struct tcg *);
uint32_t live_gprs(const struct tcg *);
uint32_t live_xmms(const struct tcg *);
static inline enum ir_type type_of(const struct tcg *t, ir_ref r) { return ir_result_type(t->b, r); }
static inline unsigned size_of(enum ir_type ty) { return ir_type_bytes(ty); }

void tcg_site(struct tcg *);           /* the next host instruction accesses guest memory */
bool tcg_vector_emit(struct tcg *, const struct ir_insn *, ir_ref self);
bool tcg_x87_emit(struct tcg *, const struct ir_insn *, ir_ref self);
void tcg_x87_before(struct tcg *, const struct ir_insn *); /* brings the x87 into the state where the operation looks at it */
void tcg_x87_leave(struct tcg *, const struct x87_pointers *); /* in cold code */
void tcg_x87_begin(void *state, const struct ir_guest *);
void tcg_x87_end(void *state);
void tcg_mxcsr_sync(struct tcg *);    /* sticky flags of the host's MXCSR into the state's */
void tcg_mxcsr_load(struct tcg *);    /* the guest's MXCSR, all exceptions masked, into the host's */
void tcg_mxcsr_words(struct tcg *);
bool tcg_buffer_place(struct tcg_buffer *, size_t at, uint8_t **write, const uint8_t **run);
struct cold *cold_new(struct tcg *, enum cold_kind);

#endif
