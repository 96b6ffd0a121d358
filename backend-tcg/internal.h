/* internal.h - what the files of backend-tcg/ share: the assembler, the register allocator's view of a block. */
#ifndef BACKEND_TCG_INTERNAL_H
#define BACKEND_TCG_INTERNAL_H

#include "backend-tcg/backend-tcg.h"
#include "backend-tcg/offsets.h"
#include <string.h>

#define CONTEXT(field) ((int32_t)offsetof(struct tcg_context, field) - (int32_t)sizeof(struct tcg_context)) /* from the state */
enum host_reg { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, NO_REG = 0xff };
#define REG_BIT(r) (1u << (r))
enum { CC_B = 2, CC_AE = 3, CC_Z = 4, CC_NZ = 5, CC_S = 8, CC_L = 12 };

/* Two banks of registers.  In each, some hold the pinned slots of the guest in every block (the state's memory is
 * then out of date), the others hold the values of a block.  RBP is the state, RSP the stack, RBX the base of
 * the write table; XMM0 and XMM1 are scratch. */
enum bank_name { INT, XMM, BANKS };
enum { PINNED_INTS = 8, FIRST_PINNED_INT = R8, PINNED_VECTORS = 10, FIRST_PINNED_VECTOR = 6 };
enum { SPILL_SLOTS = (FRAME - F_SPILL) / 16, MAX_ALIASES = 6, MAX_DEPS = 4 };
_Static_assert(SPILL_SLOTS <= 64, "the slots in use are bits of one word");

struct bank {
    ir_ref owner[16];         /* of the block's registers: whose value it is, IR_NONE: free */
    uint32_t locked;          /* not to be moved by the allocator now; pinned ones: read by the instruction now */
    uint32_t busy;            /* registers with an owner */
    uint32_t aliased;         /* pinned registers with aliases */
    struct { ir_ref value[MAX_ALIASES]; uint8_t count; } alias[16]; /* of pinned ones: values that are in it */
};

struct value {
    uint8_t reg;              /* register of its bank, NO_REG */
    uint8_t spill;            /* slot, NO_REG */
    uint8_t want;             /* pinned register that it is going to be put in next, NO_REG */
    uint16_t last, uses;      /* last instruction that needs it */
    uint16_t flag_uses;       /* of `uses`: for its flags alone */
    bool clean;               /* i32 in a register whose high half is zero */
    bool lazy;                /* condition that is made where it is used */
    bool flagged;             /* its flags are asked for: made at its exact width */
    bool done;                /* came with an earlier instruction */
    bool deferred;            /* flags that are made from operands of their operation when they are asked for */
    bool whole;               /* translate: the register has the host address, not the addend */
};

struct x87_pointers { bool known; uint16_t opcode; uint32_t offset; }; /* of a function: x87.c */

/* Flags that the state has yet to get: they are made from registers, by their operation once more, on the ways out of
 * the block that show them to somebody. */
struct flags_recipe {
    ir_ref flags;             /* IR_NONE: nothing is pending */
    bool live;                /* EFLAGS have them */
};

enum cold_kind { COLD_TRANSLATE, COLD_UNALIGNED, COLD_LEAVE, COLD_EXIT, COLD_STOP, COLD_HOT, COLD_TARGET };
struct place { uint8_t reg, spill; };
struct cold {
    uint8_t kind, reason;     /* enum cold_kind, enum ir_leave */
    uint8_t ea, to;           /* registers */
    uint16_t insns;           /* guest instructions that are complete at insn_offset */
    uint32_t from, back;      /* displacement of the jump to be bound here; where to go back to */
    uint32_t size_access;
    int32_t insn_offset;      /* of the PC to leave with */
    int32_t of;               /* the guest instruction that it belongs to */
    int exit;                 /* chainable exit */
    unsigned way;             /* COLD_TRANSLATE: the entry that leaves, where the slow path cannot do it; COLD_TARGET: where the jump faults */
    struct flags_recipe pending;
    struct place deps[MAX_DEPS]; /* where the pending flags' operands are */
    struct x87_pointers x87;
};
enum { MAX_COLD = 512, MAX_SITES = 256, MAX_RELOCS = 512 };
/* What a relocation adds up, and the form of the field that has it. */
enum reloc_kind { RELOC_PC /* block PC + value */, RELOC_ENTRY, RELOC_ENTRY_CODE /* the jump table's entry for it: offsets */,
                  RELOC_CALL /* enum call, or a helper's index */, RELOC_USER, RELOC_KINDS };
enum reloc_form { FORM_32 /* zero-extended */, FORM_32S /* sign-extended */, FORM_64, FORM_LOW, FORM_HIGH /* halves */, RELOC_FORMS };
enum call { CALL_EVALUATE = -1, CALL_CRYPTO = -2 };
enum { COUNTER_AT = 2 /* in a block that counts: its counter's offset from the state */ };

struct tcg {
    const struct ir_block *b;
    const struct tcg_options *o;
    const struct ir_guest *g;
    const struct tcg_pins *pins;
    uint8_t *start, *p, *limit;      /* in the writable mapping */
    const uint8_t *run;              /* start's run address */
    struct value *v;
    struct bank bank[BANKS];
    uint64_t spills;                 /* slots in use */
    ir_ref now;                      /* instruction that is being emitted */
    ir_ref host_flags;               /* flagged operation or flags value whose flags are in EFLAGS, IR_NONE */
    struct flags_recipe pending;
    ir_ref guard;                    /* the check of the jump's target that is made where the table has no entry alone, IR_NONE; its register: the entry */
    int leave_cold;                  /* this guest instruction's way to the interpreter, -1: none yet */
    int32_t insn_offset; uint16_t insns;
    unsigned colds, sites_n;
    uint32_t exit_tail;              /* 0: not emitted yet */
    struct tcg_block *out;
    bool full, complex, fixed;       /* fixed: cannot be moved */
    unsigned relocs_n;
    uint8_t x87;                     /* where the guest's x87 is: see x87.c */
    struct x87_pointers x87_pointers;/* not stored yet */
    /* Not cleared from block to block: */
    bool shifts_differ;              /* the host's OF after a shift by more than one is not what all tiers say: flags.c */
    ir_ref slot_owner[64];
    struct cold cold[MAX_COLD];
    struct tcg_fault_site sites[MAX_SITES];
    struct tcg_reloc relocs[MAX_RELOCS];
};

/* --- Assembler.  size: operand bytes 1, 2, 4, 8. */
static inline void put8(struct tcg *t, unsigned v) { if (t->p < t->limit) *t->p++ = (uint8_t)v; else t->full = true; }
static inline void put32(struct tcg *t, uint32_t v)
{
    if (t->limit - t->p >= 4) {
        memcpy(t->p, &v, 4);
        t->p += 4;
    } else {
        t->full = true;
    }
}
static inline void put64(struct tcg *t, uint64_t v) { put32(t, (uint32_t)v); put32(t, (uint32_t)(v >> 32)); }
static inline uint32_t here(const struct tcg *t) { return (uint32_t)(t->p - t->start); }
static inline void line_note(const struct tcg *t, int32_t guest, bool cold) { if (t->o->line) t->o->line(t->o->line_ctx, here(t), guest, cold); }
/* opcode: up to three bytes, the first highest; 0x0f.. included.  prefix: 0, 0x66, 0xf2, 0xf3 */
void emit_rr(struct tcg *, unsigned prefix, uint32_t opcode, unsigned size, unsigned reg, unsigned rm);
void emit_rm(struct tcg *, unsigned prefix, uint32_t opcode, unsigned size, unsigned reg, unsigned base, int32_t disp);
/* base or index may be NO_REG, not both; shift: of the index */
void emit_mem(struct tcg *, unsigned prefix, uint32_t opcode, unsigned size, unsigned reg, unsigned base, unsigned index, unsigned shift, int32_t disp);
void emit_gs_load(struct tcg *, unsigned reg, unsigned index);  /* reg = gs:[index * 8] */
void emit_bextr(struct tcg *, unsigned reg, unsigned from, unsigned control);
void emit_mov(struct tcg *, unsigned to, unsigned from);      /* 64 bits */
void emit_mov32(struct tcg *, unsigned to, unsigned from);
void emit_imm(struct tcg *, unsigned to, uint64_t v);         /* flags stay */
void emit_alu_imm(struct tcg *, unsigned digit, unsigned size, unsigned rm, int32_t imm); /* 81 /digit */
void emit_alu_mem_imm(struct tcg *, unsigned digit, unsigned size, unsigned base, int32_t disp, int32_t imm);
void emit_imm_bytes(struct tcg *, unsigned size, int64_t imm);        /* behind an instruction of that size: 4 bytes at most */
void emit_shift_imm(struct tcg *, unsigned digit, unsigned size, unsigned rm, unsigned count);
uint32_t emit_jcc(struct tcg *, unsigned cc);                 /* returns the displacement's offset */
uint32_t emit_jmp(struct tcg *);
static inline void bind(uint8_t *code, uint32_t displacement, uint32_t target)
{
    uint32_t d = target - (displacement + 4);
    memcpy(code + displacement, &d, 4);
}
void emit_bind(struct tcg *, uint32_t displacement, uint32_t target);
uint32_t emit_jcc_short(struct tcg *, unsigned cc);
void emit_bind_short(struct tcg *, uint32_t displacement);    /* to here */
void emit_rm_far(struct tcg *, uint32_t opcode, unsigned size, unsigned reg, unsigned base, enum reloc_kind, int32_t value); /* the displacement is one, of 32 bits */
void emit_moving(struct tcg *, unsigned to, enum reloc_kind, int32_t value); /* emit_imm of what a relocation gives */
/* Calls fn(state, RSI, RDX, RCX, RAX), all pinned slots in memory; spill_for_call came before.  which: enum call, or a helper's index. */
void emit_call(struct tcg *, int32_t which);
/* --- What moves with the block (move.c) */
uint64_t reloc_value(const struct tcg_options *, unsigned pc_bits, enum reloc_kind, int32_t value);
void reloc_note(struct tcg *, uint32_t at, enum reloc_kind, enum reloc_form, int32_t value);
uint64_t tcg_evaluate(void *state, uint64_t a, uint64_t b, uint64_t c, uint64_t op_type_aux);
uint64_t tcg_crypto(void *state, uint64_t op_imm, uint64_t x, uint64_t c, uint64_t d);

/* --- Allocator.  Registers that these give are locked until the instruction is done. */
bool is_xmm_type(enum ir_type);
unsigned gpr_temp(struct tcg *);
void gpr_take(struct tcg *, unsigned reg);                    /* frees that very register and locks it */
unsigned use(struct tcg *, ir_ref);                           /* the value in some register; not to be written */
unsigned use_addend(struct tcg *, ir_ref translate);          /* host address less guest address */
unsigned use_in(struct tcg *, ir_ref, unsigned reg);          /* a copy in that register, which is free otherwise */
unsigned use_copy_in(struct tcg *, ir_ref, unsigned reg);      /* the same, and the value stays known even where it ends here */
unsigned def(struct tcg *, ir_ref);                           /* register for the result */
/* Result register that starts as a copy of a (taken over where a ends here). */
unsigned def_from(struct tcg *, ir_ref self, ir_ref a);
void own(struct tcg *, ir_ref self, unsigned reg);            /* the result is in that register, which was taken */
unsigned xmm_use(struct tcg *, ir_ref);
unsigned xmm_def(struct tcg *, ir_ref);
unsigned xmm_def_from(struct tcg *, ir_ref self, ir_ref a);
bool const_of(const struct tcg *, ir_ref, int64_t *value);
bool small_const(const struct tcg *, ir_ref, int64_t *value);  /* one that fits an immediate of 32 bits */
/* Values that are wanted after the call leave the registers that it spoils. writes: enum ir_state_class of the helper. */
void spill_for_call(struct tcg *, unsigned writes);
void call_done(struct tcg *, unsigned writes);
void release(struct tcg *);                                   /* after an instruction */
/* Pinned slots.  Register, or NO_REG where the slot is in memory; *whole: it is that slot at its full width. */
unsigned pinned_reg(const struct tcg *, int64_t slot, enum ir_type, bool *whole);
void pinned_get(struct tcg *, ir_ref self, enum bank_name, unsigned reg);
void pinned_put(struct tcg *, ir_ref value, enum bank_name, unsigned reg);
void pinned_evacuate(struct tcg *, enum bank_name, unsigned reg, ir_ref but);
static inline enum ir_type type_of(const struct tcg *t, ir_ref r) { return ir_result_type(t->b, r); }
static inline unsigned size_of(enum ir_type ty) { return ir_type_bytes(ty); }

/* --- Flags (flags.c) */
bool is_rotate(unsigned op);
bool is_double(unsigned op);
ir_ref count_of(const struct ir_insn *);
unsigned count_mask(const struct ir_insn *);   /* of a shift: what is looked at */
bool flags_shifts_differ(void);                /* asks the host's CPU */
bool flags_can_defer(const struct tcg *, ir_ref flags);
unsigned flags_deps(const struct tcg *, ir_ref flags, ir_ref *deps /* MAX_DEPS */); /* values that deferred flags are made from */
bool can_be_lazy(const struct ir_insn *, const struct tcg *);
unsigned condition(struct tcg *, ir_ref);      /* sets EFLAGS so that the returned condition is the i1 value */
void make_condition(struct tcg *, ir_ref self);
void compare(struct tcg *, ir_ref a, ir_ref b);
void carry_in(struct tcg *, ir_ref flags);     /* CF; packed flags, in a register already */
bool value_used(const struct tcg *, ir_ref);   /* for more than its flags */
void do_flags_of(struct tcg *, const struct ir_insn *, ir_ref self);
void do_flags_set(struct tcg *, const struct ir_insn *, ir_ref self);
void flags_pack(struct tcg *, ir_ref flags);   /* deferred flags get a register */
bool flags_put(struct tcg *, const struct ir_insn *put); /* true: they are pending now, nothing is to be stored */
void flags_settle(struct tcg *);               /* pending flags are stored; before the instruction locks any register */
void flags_settle_cold(struct tcg *, const struct cold *);
void shift_apply(struct tcg *, const struct ir_insn *, unsigned reg);
extern const uint8_t alu_digit[IR_OP_COUNT];

/* --- Cold code (cold.c) */
struct cold *cold_new(struct tcg *, enum cold_kind);
void leave_if(struct tcg *, unsigned cc, enum ir_leave);
/* The next host instruction accesses guest memory; where it faults, it is left to the interpreter.  In two steps where
 * the result's register is named between: pending flags may be made from a value that ends there. */
/* Where a translate's token points to: base, and index or NO_REG. */
void place_of(struct tcg *, ir_ref token, unsigned *base, unsigned *index);
void tcg_site(struct tcg *);
unsigned tcg_site_way(struct tcg *);
void tcg_site_at(struct tcg *, unsigned way);
void emit_exit(struct tcg *, int64_t target, int cc);
void emit_leave(struct tcg *, enum ir_leave);
void store_pc(struct tcg *, int64_t offset); /* of the block's PC */
void emit_cold(struct tcg *);
uint64_t pc_at(const struct tcg *, int64_t offset);
bool tcg_x87_emit(struct tcg *, const struct ir_insn *, ir_ref self);
void tcg_x87_before(struct tcg *, const struct ir_insn *); /* brings the x87 into the state where the operation looks at it */
void tcg_x87_leave(struct tcg *, const struct x87_pointers *); /* in cold code */
void tcg_x87_begin(void *state, const struct ir_guest *);
void tcg_x87_end(void *state);
bool tcg_bits_emit(struct tcg *, const struct ir_insn *, ir_ref self); /* false: the host lacks the instruction */
bool tcg_vector_emit(struct tcg *, const struct ir_insn *, ir_ref self);
void tcg_mxcsr_sync(struct tcg *);    /* sticky flags of the host's MXCSR into the state's */
void tcg_mxcsr_load(struct tcg *);    /* the guest's MXCSR, all exceptions masked, into the host's */
void tcg_buffer_populate(struct tcg_buffer *, size_t at); /* where code is about to be written */
bool tcg_buffer_place(struct tcg_buffer *, size_t at, uint8_t **write, const uint8_t **run);
/* The buffer's own scratch: a struct tcg and room for `values`; NULL: out of memory. */
struct tcg *tcg_buffer_scratch(struct tcg_buffer *, const struct ir_guest *, unsigned values, struct value **, const struct tcg_pins **);

#endif
