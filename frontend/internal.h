/* internal.h - what the files of frontend/ share: the lifter's scratch, the operand API, helpers, features.
 * A lifter function lift_<name>(struct lifter *, int variant) emits the IR of one guest instruction.  The core
 * (lift.c) has already emitted `insn`, and checked: feature, LOCK, notes K (#GP(0) unless CPL 0).
 * Rules: nothing is put or stored before the last operation of the instruction that can fault; a lifter that
 * finds the encoding invalid calls lift_ud and returns. */
#ifndef FRONTEND_INTERNAL_H
#define FRONTEND_INTERNAL_H

#include <Zydis/Zydis.h>
#include <stddef.h>
#include "frontend/frontend.h"

enum x86_helper {
#define HELPER(name, args, reads, writes, faults, memory) X86_HELPER_##name,
#include "frontend/helpers.def"
    X86_HELPER_COUNT
};
#define HELPER(name, args, reads, writes, faults, memory) \
    uint64_t x86_helper_##name(void *cpu, uint64_t a, uint64_t b, uint64_t c, uint64_t d);
#include "frontend/helpers.def"
/* For helpers with unused arguments. */
#define X86_HELPER_FN(name) uint64_t x86_helper_##name(void *cpu __attribute__((unused)), \
    uint64_t a __attribute__((unused)), uint64_t b __attribute__((unused)), \
    uint64_t c __attribute__((unused)), uint64_t d __attribute__((unused)))

enum x86_feature {
    X86_FEATURE_BASE,
#define FEATURE(name, text, leaf, subleaf, reg, bit) X86_FEATURE_##name,
#include "frontend/features.def"
    X86_FEATURE_COUNT
};

/* Of an instruction's fields, X86_RELOC_NONE where they stay. */
struct insn_relocs { enum x86_reloc_kind displacement, immediate; };
void reloc_rule(const ZydisDecodedInstruction *, const ZydisDecodedOperand *, uint64_t pc /* of the instruction */, struct insn_relocs *);
/* What they could be at most, by the instruction's form. */
enum x86_reloc_kind reloc_of_displacement(const ZydisDecodedInstruction *, const ZydisDecodedOperand *);
enum x86_reloc_kind reloc_of_immediate(const ZydisDecodedInstruction *);

struct lifter {
    struct ir_block *b;
    const struct x86_model *model;
    uint32_t mode;               /* enum x86_mode */
    uint64_t pc, linear;         /* of the block's first instruction (for decisions; never put into the code) */
    ZydisDecodedInstruction in;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    uint32_t offset;             /* of this instruction from the block's start */
    unsigned length;             /* of this instruction, bytes */
    unsigned code_bits;          /* 16, 32, 64 */
    unsigned operand_bits, address_bits, stack_bits; /* of this instruction; stack_bits: width of (R|E)SP in use */
    const uint64_t *changing;    /* of struct x86_lift_limits */
    struct insn_relocs relocs;   /* of this instruction */
    unsigned relocs_done;        /* of limits->relocs */
    bool counted;                /* of struct x86_lift_limits: icount */
    bool lock;                   /* has a valid LOCK prefix */
    bool ended;                  /* the block has its last instruction */
    unsigned branches_left;      /* conditional jumps that it may go on after */
    bool helper_stored;          /* a helper of this instruction may have written to memory, code too: the block ends here */
    ir_ref flags;                /* the flags now, IR_NONE: only in the state; use lift_flags_get */
    ir_ref token[ZYDIS_MAX_OPERAND_COUNT]; /* of memory operands translated by this instruction, else IR_NONE */
    bool writable[ZYDIS_MAX_OPERAND_COUNT];/* token was translated for writing too */
};

/* Zydis as the mode and the model's features ask for it; model NULL: all features. */
void lift_decoder_init(ZydisDecoder *, const struct x86_model *, uint32_t mode);

/* Lifter functions, from the rows. */
#define INSN(mnemonic, family, variant, feature, notes) void lift_##family(struct lifter *, int);
#include "frontend/x86.def"
/* One Zydis mnemonic, two instructions: string MOVSD and CMPSD go to lift_string by their category whatever the rows
 * say, so the rows of x86_sse.def are SSE's.  MOV and PUSH/POP with CR, DR or segment operands and the far forms
 * of JMP, CALL, RET are tried here first by the integer rows and handed over to (lift_system.c): */
void lift_mov_cr(struct lifter *, int);      /* MOV r, CRn / CRn, r */
void lift_mov_dr(struct lifter *, int);
void lift_mov_to_seg(struct lifter *, int);  /* MOV Sreg, r/m; MOV r/m, Sreg is done by lift_mov */
void lift_pop_seg(struct lifter *, int);     /* PUSH Sreg is done by lift_push */
void lift_far_jump(struct lifter *, int);
void lift_far_call(struct lifter *, int);
void lift_far_ret(struct lifter *, int);
void lift_string_twin(struct lifter *, int is_movs); /* MOVSD or CMPSD, the string instruction */

/* What sse_round is told of one lane: the operation, and whether the operands and the result are doubles. */
enum x86_round { X86_ROUND_ADD, X86_ROUND_SUB, X86_ROUND_MUL, X86_ROUND_DIV, X86_ROUND_NARROW, X86_ROUND_FROM_DOUBLE = 0x100, X86_ROUND_TO_DOUBLE = 0x200 };

/* String instructions: variant of a row, and argument of the helpers. */
enum x86_string { X86_STRING_MOVS = 0x100, X86_STRING_STOS = 0x200, X86_STRING_LODS = 0x300, X86_STRING_CMPS = 0x400, X86_STRING_SCAS = 0x500,
                  X86_STRING_OP = 0xf00, X86_STRING_SIZE = 0xf };

/* --- Slots */
#define SLOT(field) ((int64_t)offsetof(struct x86_state, field))
static inline ir_ref lift_slot_get(struct lifter *l, enum ir_type t, int64_t slot) { return ir_emit(l->b, IR_get, t, 0, slot, IR_NONE, IR_NONE, IR_NONE, IR_NONE); }
static inline void lift_slot_put(struct lifter *l, enum ir_type t, int64_t slot, ir_ref v) { ir_emit(l->b, IR_put, t, 0, slot, v, IR_NONE, IR_NONE, IR_NONE); }
static inline ir_ref lift_const(struct lifter *l, enum ir_type t, int64_t v) { return ir_const(l->b, t, v); }
enum ir_type lift_int_type(unsigned bits);                /* 8, 16, 32, 64, 128 -> IR_I* */

/* --- General registers.  Any 8..64 bit ZYDIS_REGISTER_*; AH.. too.  32-bit puts clear the high half. */
ir_ref lift_gpr_get(struct lifter *, ZydisRegister);
void lift_gpr_put(struct lifter *, ZydisRegister, ir_ref value);
/* By number (enum x86_gpr) and width; no high-byte registers. */
ir_ref lift_reg_get(struct lifter *, unsigned number, unsigned bits);
void lift_reg_put(struct lifter *, unsigned number, unsigned bits, ir_ref value);
/* v (integer of type `from`) as an unsigned / signed value of type `to`, or cut to it. */
ir_ref lift_resize(struct lifter *, ir_ref v, enum ir_type from, enum ir_type to, bool is_signed);
bool lift_is_mem(const struct lifter *, unsigned operand);
bool lift_is_reg(const struct lifter *, unsigned operand);
bool lift_is_imm(const struct lifter *, unsigned operand);

/* --- Memory.  size in bytes; access = enum ir_access bits. */
enum x86_seg lift_seg(ZydisRegister segment);             /* ES..GS */
/* Offset in the segment, wrapped to the address size, i64.  extra: i64 added before the wrap, or IR_NONE. */
ir_ref lift_ea_plus(struct lifter *, unsigned operand, ir_ref extra, int64_t displacement);
static inline ir_ref lift_ea(struct lifter *l, unsigned operand) { return lift_ea_plus(l, operand, IR_NONE, 0); }
/* Linear address (i64) of `size` bytes at offset (i64) in seg.  Emits what checks the mode asks for (may fault). */
ir_ref lift_linear(struct lifter *, enum x86_seg, ir_ref offset, unsigned size, unsigned access);
/* Segment checks and translate: a token for ir load/store.  IR_SS is added for SS by itself. */
ir_ref lift_token(struct lifter *, enum x86_seg, ir_ref offset, unsigned size, unsigned access);
ir_ref lift_translate(struct lifter *, unsigned operand, unsigned size, unsigned access);
/* Linear address of a memory operand, checked as `size` bytes, for helpers that go through cpu->bus. */
ir_ref lift_operand_linear(struct lifter *, unsigned operand, unsigned size, unsigned access);
static inline ir_ref lift_load(struct lifter *l, enum ir_type t, ir_ref token, int64_t at) { return ir_emit(l->b, IR_load, t, 0, at, token, IR_NONE, IR_NONE, IR_NONE); }
static inline void lift_store(struct lifter *l, enum ir_type t, ir_ref token, int64_t at, ir_ref v) { ir_emit(l->b, IR_store, t, 0, at, token, v, IR_NONE, IR_NONE); }

/* --- Operands by index: integers of the operand's own size (register, memory, immediate cut or sign-extended to
 * the instruction's operand size).  lift_read_rw translates memory for read and write, so that the later
 * lift_write cannot fault.  lift_write without one before translates for writing. */
enum ir_type lift_type(const struct lifter *, unsigned operand);
ir_ref lift_read(struct lifter *, unsigned operand);
ir_ref lift_read_as(struct lifter *, unsigned operand, enum ir_type); /* immediates: at this type */
ir_ref lift_read_rw(struct lifter *, unsigned operand);
void lift_write(struct lifter *, unsigned operand, ir_ref value);
/* Makes a later lift_write(operand) unable to fault (no-op for registers). */
void lift_prepare_write(struct lifter *, unsigned operand);

/* --- Stack.  lift_push_at: checks and translates; nothing is changed until lift_push_commit. */
ir_ref lift_sp_get(struct lifter *);                      /* i64, cut to stack_bits */
void lift_sp_put(struct lifter *, ir_ref sp);             /* i64; only stack_bits are changed */
struct lift_push { ir_ref sp, token; unsigned bytes; };
struct lift_push lift_push_at(struct lifter *, unsigned bytes);
void lift_push_commit(struct lifter *, struct lift_push, ir_ref value);
void lift_push(struct lifter *, unsigned bytes, ir_ref value);  /* all at once: last faulting operation */

/* --- Flags.  The value of type IR_FLAGS; put stores its packed form in the state too. */
ir_ref lift_flags_get(struct lifter *);
void lift_flags_put(struct lifter *, ir_ref flags);
/* flags_of(op, old) for the mask; all = IR_M_ALL needs no old value. Puts them. */
void lift_flags_of(struct lifter *, ir_ref op, unsigned mask);
void lift_flag_set(struct lifter *, unsigned mask, ir_ref bit /* i1 */);
void lift_flags_packed(struct lifter *, ir_ref packed /* i32, IR_FLAG_* */);
ir_ref lift_cc(struct lifter *, enum ir_cond);            /* i1 */

/* --- Helpers.  Arguments i64 or IR_NONE.  type IR_VOID or IR_I64.  Forgets the cached flags where the row says
 * that it writes them. */
ir_ref lift_call(struct lifter *, enum ir_type, enum x86_helper, ir_ref a, ir_ref b, ir_ref c, ir_ref d);

/* --- Ends.  Each ends the block (sets ended) but lift_raise_if. */
void lift_ud(struct lifter *);
void lift_raise(struct lifter *, unsigned vector, bool has_error, uint32_t error);
void lift_raise_if(struct lifter *, ir_ref condition, unsigned vector, bool has_error, uint32_t error);
/* A #UD because no row or no code covers the instruction: counted for x86_lacked. */
void lift_lacked(struct lifter *);
static inline int64_t lift_next_offset(const struct lifter *l) { return (int64_t)l->offset + l->length; }
ir_ref lift_next_pc(struct lifter *);                     /* i64: PC of the next instruction */
ir_ref lift_this_pc(struct lifter *);
void lift_end_jump(struct lifter *);                      /* jump to the next instruction */
void lift_end_leave(struct lifter *, enum ir_leave);      /* to the cpu loop, PC = next instruction */
/* Goes on at that PC (i64) in the mode that a helper left.  The machine sets `stop` where something is due first: an
 * interrupt that the new flags let in. */
void lift_end_go_on(struct lifter *, ir_ref pc);
/* To the cpu loop with the PC that a helper gave (i64), e.g. far transfers. */
void lift_end_leave_at(struct lifter *, enum ir_leave, ir_ref pc);
static inline unsigned lift_cpl(const struct lifter *l) { return l->mode & X86_MODE_CPL; }
static inline bool lift_is64(const struct lifter *l) { return l->code_bits == 64; }
/* Bits of X86_MODE_FPU, which are looked at in no other way. */
static inline bool lift_fpu_mode(struct lifter *l, uint32_t bits)
{
    l->b->whole_mode = true;
    return l->mode & bits;
}
static inline bool lift_is_protected(const struct lifter *l) { return (l->mode & (X86_MODE_PE | X86_MODE_VM)) == X86_MODE_PE; }

/* --- For helpers written in C.  Both raise the fault and return false. */
/* Segment check: limit, type, null, canonical; *linear gets the address. size may be 0 (no limit check of the end). */
bool x86_seg_linear(struct x86_cpu *, enum x86_seg, uint64_t offset, unsigned size, unsigned access, uint64_t *linear);
bool x86_seg_read(struct x86_cpu *, enum x86_seg, uint64_t offset, unsigned size, void *to);
bool x86_seg_write(struct x86_cpu *, enum x86_seg, uint64_t offset, unsigned size, const void *from);
/* By linear address with the current rights, little endian; false: fault pending. */
static inline bool x86_mem_read(struct x86_cpu *cpu, uint64_t linear, unsigned size, unsigned access, uint64_t *to) { *to = 0; return cpu->bus->read(cpu, linear, size, access | IR_READ, to); }
static inline bool x86_mem_write(struct x86_cpu *cpu, uint64_t linear, unsigned size, unsigned access, uint64_t v) { return cpu->bus->write(cpu, linear, size, access | IR_WRITE, &v); }
static inline bool x86_is_canonical(uint64_t a) { return (uint64_t)((int64_t)(a << 16) >> 16) == a; }
/* A REP ends after one element: a trap is due (SDM 3B 17.3.1.4). */
static inline bool x86_by_elements(const struct x86_cpu *cpu) { return cpu->state.mode & X86_MODE_TF || cpu->state.debug_hits || cpu->stepped; }
static inline bool x86_code64(const struct x86_cpu *cpu) { return (cpu->state.mode & X86_MODE_CODE) == X86_MODE_CODE64; }

#endif
