/* internal.h - what the files of backend-llvm/ share: a region while it becomes an LLVM function. */
#ifndef BACKEND_LLVM_INTERNAL_H
#define BACKEND_LLVM_INTERNAL_H

#include "backend-llvm/backend-llvm.h"
#include "backend-llvm/object.h"
#include <llvm-c/Core.h>
#include <llvm-c/DebugInfo.h>

#define CONTEXT(field) ((int64_t)offsetof(struct tcg_context, field) - (int64_t)sizeof(struct tcg_context)) /* from the state */
enum { CC_PRESERVE_NONE = 21, SEGMENT_GS = 256, /* LLVM's number of the address space */
       INTS = 16, VECTORS = 32, VECTOR_STRIDE = 64, ARG_INTS = 8, ARG_VECTORS = 8 };
/* Arguments of a region and of the stubs it leaves through: see backend-tcg/entry.S, which has their registers. */
enum { ARG_PC = 4, ARG_DATA = 5, ARG_STATE = 10, ARG_FIRST_VECTOR = 11, ARGS = 19 };
extern const uint8_t arg_of_int[ARG_INTS], arg_of_vector[ARG_VECTORS];

/* Flags in two groups, each made from its operands only where somebody looks: C, and the others.  `kind` says how, `res` and
 * `b` are the result and second operand of the operation, zero-extended to 64 bits. */
enum flags_kind {
    FLAGS_BIT,     /* C alone: res is 0 or 1 */
    FLAGS_PACKED,  /* the others: res is IR_FLAG_* */
    FLAGS_LOGIC,   /* O and A are 0; Z S P of res */
    FLAGS_GIVEN,   /* Z S P of res; b has O and A as IR_FLAG_*; Z is 0 where b has IR_FLAG_Z */
    FLAGS_ADD, FLAGS_SUB,
    FLAGS_DYNAMIC, /* told by a variable when it runs; res and b too */
};
struct flags_group {
    uint8_t kind, bits;                   /* bits: of the operation */
    LLVMValueRef a, res, b;               /* a: the first operand, or NULL: made from res and b */
    LLVMValueRef tag;                     /* FLAGS_DYNAMIC: FLAGS_TAG(kind, bits) */
};
#define FLAGS_UNKNOWN 0xffff /* no way leads there */
#define FLAGS_TAG(kind, bits) ((kind) | (bits) << 8)
struct flags { struct flags_group c, rest; };

/* A variable that lives in a register of the region as LLVM sees fit: a slot of the guest's. */
struct variable { LLVMValueRef at; LLVMTypeRef type; bool read, written; };

/* Accesses of a block whose addresses differ by constants, `from` to `to` from a root (a + (b << aux), as `lea` has it): memory.c. */
struct access_group {
    ir_ref a, b; uint16_t aux; int64_t from, to;
    unsigned count; bool writes /* for sure, once its first access is reached */, left, whole /* lies in one page, or the region was left */;
    LLVMValueRef host[2], in_page; int64_t at[2];   /* by table: looked up at this offset; all of it lies in one page (i1) */
};
enum { ACCESS_GROUPS = 32 };

/* An address as a + (b << aux) + offset; a may be the PC. */
enum { ROOT_PC = IR_NONE - 1 };
struct root { ir_ref a, b; uint16_t aux; int64_t offset; };

/* A loop of one block (loop.c): accesses whose addresses a round moves by a constant, all within [from, to) of where they begin. */
#define NO_SLOT (-1)
struct stream_part { int64_t slot, step; };
struct stream { struct stream_part a, b; bool pc, write; uint16_t shift; int64_t from, to, step; LLVMValueRef fixed; };
enum { LOOP_STREAMS = 8 };
struct loop {
    ir_ref back; struct flags_in { uint16_t c, rest; } flags; /* where it goes back, and with what */
    struct stream streams[LOOP_STREAMS]; unsigned count;
    struct stream_part counter; LLVMValueRef last;            /* the rounds are over when that slot is this */
    LLVMBasicBlockRef begin, rounds;                          /* rounds: while their copy of the block is built */
};

struct value { LLVMValueRef v, address, entry /* of a token: the sum that it is, or NULL */; struct flags *flags; };

/* The page that accesses by one base were last on: its address, what to add to get to the host, and below which offset an access lies whole
 * on it (0: none yet). */
struct page_cache { uint32_t base; bool write; uint16_t size; uint64_t weight; LLVMValueRef page, addend, limit; };
enum { PAGE_CACHES = 8 };

struct fn {
    const struct llvm_region *r;
    const struct llvm_options *o;
    const struct ir_guest *g;
    LLVMContextRef context; LLVMModuleRef module; LLVMBuilderRef builder;
    LLVMValueRef function, state, data, base /* PC of blocks[0] */;
    LLVMTypeRef i1, i8, i16, i32, i64, i128, v128, pointer, gs_pointer, exit_type;
    struct tcg_pins pins;                 /* where template code's pinned slots and the flags are: regions take them over */
    struct variable ints_var[INTS], vectors_var[VECTORS], flags_tags /* c, and rest << 16 */, flags_var[2][2] /* c, rest: res, b */, icount;
    bool flags_written;
    bool x87_used; struct variable x87_pc, x87_opcode; /* pointers to the last function: x87.c */
    LLVMBasicBlockRef *heads;             /* one a block; the last is the first block as it is entered from outside */
    struct flags_in *flags_in, *flags_out; /* FLAGS_TAG at a block's top and end, FLAGS_DYNAMIC */
    bool *back;                           /* [from * blocks + to]: the edge goes back, so that it looks for a request of the cpu loop */
    LLVMValueRef write_table, looked_up /* entry */;
    struct page_cache caches[PAGE_CACHES]; unsigned cache_count;
    unsigned metadata_kind[3];
    LLVMValueRef scope_guest, scope_own;  /* alias.scope lists */
    LLVMMetadataRef di_scope;
    /* The block that is being built: */
    const struct llvm_block *block; const struct ir_block *b; unsigned index;
    struct value *v;
    int64_t insn_offset; unsigned insns;
    LLVMBasicBlockRef leave[4];           /* of this guest instruction, by cause */
    struct access_group groups[ACCESS_GROUPS]; unsigned group_count;
    ir_ref here; struct loop loop;        /* loop.count: streams, 0: it is no such loop */
    enum x87_place { X87_UNKNOWN, X87_HOST, X87_STATE } x87_place;
    bool memory_called;                   /* a helper of this block may have written to code */
    bool jumped_early;                    /* its computed jump's targets were dealt with */
    struct flags *flags_pool; unsigned flags_used, flags_room;
    unsigned side_exits;
    LLVMBasicBlockRef go_end, leave_end;
    LLVMValueRef exit_pc, exit_cause, exit_reason, exit_flags, exit_link;  /* variables */
    struct object_exit *exits; unsigned exit_count, exit_room;  /* to known successors */
    const char *refused;
    uint32_t random;
};

static inline const char *region_name(const struct llvm_region *r) { return r->name ? r->name : "region"; }

/* --- Values */
LLVMTypeRef type_of(struct fn *, enum ir_type);
LLVMValueRef operand(struct fn *, ir_ref);             /* as its type; flags: packed, i32 */
struct flags *flags_operand(struct fn *, ir_ref);
static inline enum ir_type ir_type_of(const struct fn *f, ir_ref r) { return ir_result_type(f->b, r); }
static inline LLVMValueRef constant(struct fn *f, LLVMTypeRef t, uint64_t v) { (void)f; return LLVMConstInt(t, v, 0); }
LLVMValueRef zero_extend(struct fn *, LLVMValueRef, LLVMTypeRef);
LLVMValueRef narrow(struct fn *, LLVMValueRef, LLVMTypeRef);
LLVMValueRef intrinsic(struct fn *, const char *name, LLVMTypeRef *overload, unsigned overloads, LLVMValueRef *args, unsigned n);
/* An assembler statement (AT&T) with a result of that type.  effects: it is kept, in order with the others. */
LLVMValueRef assembler(struct fn *, const char *text, const char *constraints, LLVMTypeRef result, LLVMValueRef *args, unsigned n, bool effects);
/* State at a byte offset from the state pointer (negative: the context), by a plain access that guest memory does not alias. */
LLVMValueRef state_load(struct fn *, int64_t offset, LLVMTypeRef);
void state_store(struct fn *, int64_t offset, LLVMValueRef);
LLVMValueRef state_at(struct fn *, int64_t offset);
LLVMValueRef offset_from(struct fn *, LLVMValueRef pointer, int64_t offset);
void mark_own(struct fn *, LLVMValueRef access);   /* of the state or the tables */
void mark_guest(struct fn *, LLVMValueRef access); /* of guest memory */
LLVMValueRef get_slot(struct fn *, int64_t offset, enum ir_type);
void put_slot(struct fn *, int64_t offset, enum ir_type, LLVMValueRef);
LLVMValueRef region_pc(struct fn *, const struct ir_block *, int64_t relative);
/* Which block of the region stands at that offset from the block's start; false: none. */
bool target_block(const struct fn *, const struct llvm_block *, int64_t offset, unsigned *to);
uint64_t cut_pc(const struct ir_block *, int64_t relative);
LLVMValueRef pc_value(struct fn *, int64_t offset);  /* offset: from the block's start */

/* --- Parts: each emits one instruction; false: not its kind, or (refused set) impossible. */
bool int_emit(struct fn *, const struct ir_insn *, ir_ref self);
void caches_begin(struct fn *);                    /* at the function's entry */
bool memory_emit(struct fn *, const struct ir_insn *, ir_ref self);
void memory_begin(struct fn *);                                /* a block */
struct root root_of(const struct ir_block *, ir_ref address);
/* i1: whether an address has no entry in the table of reads or writes, or is none; *entry: to be added to it.  Has no way out. */
LLVMValueRef table_miss(struct fn *, LLVMValueRef address, bool write, LLVMValueRef *entry);
bool moves_emit(struct fn *, const struct ir_insn *, ir_ref self); /* a call; false: it is not that helper's */
bool loop_find(struct fn *, unsigned index);                   /* fills in f->loop for the block */
void loop_begin_rounds(struct fn *, LLVMBasicBlockRef slow);
void loop_round_ends(struct fn *);
bool loop_has_stream(struct fn *, ir_ref translate);           /* of rounds: it has no checks */
LLVMValueRef loop_address(struct fn *, ir_ref translate);      /* of rounds: in the host; NULL: it is in no stream */
bool vector_emit(struct fn *, const struct ir_insn *, ir_ref self);
bool x87_emit(struct fn *, const struct ir_insn *, ir_ref self);
void x87_before(struct fn *, const struct ir_insn *);          /* any operation: brings the x87 to the state where it looks at it */
void x87_note(struct fn *, const struct ir_insn *);            /* of all blocks, before anything is built */
void x87_pointers_store(struct fn *);                         /* variables to the state, and back */
void x87_pointers_reload(struct fn *);
struct variable *x87_variable(struct fn *, int64_t offset);    /* NULL: it is none of the pointers */
bool vector_refuses(const struct ir_insn *);
void call_helper(struct fn *, const struct ir_insn *, ir_ref self);
void mxcsr_sync(struct fn *);                      /* sticky flags of the host's into the state's */
void mxcsr_load(struct fn *);                      /* the state's, with every exception masked, into the host's */

/* --- Flags */
struct flags *flags_new(struct fn *);
void flags_of(struct fn *, const struct ir_insn *, ir_ref self);
void flags_set(struct fn *, const struct ir_insn *, ir_ref self);
struct flags *flags_unpacked(struct fn *, LLVMValueRef packed);
struct flags *flags_current(struct fn *);          /* of the variables */
void flags_store(struct fn *, const struct flags *); /* into the variables */
LLVMValueRef flags_packed(struct fn *, const struct flags *);
LLVMValueRef flags_carry(struct fn *, const struct flags *); /* i1 */
LLVMValueRef flags_condition(struct fn *, const struct flags *, unsigned cond);
void flags_flow(struct fn *);                      /* flags_in and flags_out of all blocks */
void flags_begin(struct fn *);                     /* at the function's entry: from the state */
LLVMValueRef flags_now(struct fn *);               /* packed, for the state */
LLVMValueRef flags_untold(struct fn *);            /* the same where all ways come together */

/* --- Ways from block to block (flow.c) */
void back_edges_find(struct fn *);
void jump(struct fn *, int64_t offset);
void exit_if(struct fn *, const struct ir_insn *);
void jump_to(struct fn *, const struct ir_insn *, const struct ir_insn *tail /* what is done first where it goes on in the region; NULL: nothing */);
void jump_early(struct fn *, ir_ref n);            /* before instruction n of the block */

/* --- Ways out (region.c) */
LLVMBasicBlockRef new_block(struct fn *);
void emit_one(struct fn *, const struct ir_insn *, ir_ref self);
/* On in template code, or another region: by the jump table, or by a link of this way out. */
void go(struct fn *, LLVMValueRef pc);
void go_known(struct fn *, int64_t offset /* from the block's PC */);
LLVMValueRef stop_asked(struct fn *);
/* done: guest instructions of this block that are complete. */
void leave(struct fn *, enum ir_leave, LLVMValueRef pc, enum llvm_cause, unsigned done);
LLVMBasicBlockRef leave_block(struct fn *, enum llvm_cause);
void side_exit_if(struct fn *, LLVMValueRef i1, enum llvm_cause); /* to the interpreter at this instruction */
LLVMValueRef unlikely(struct fn *, LLVMValueRef branch);
const char *region_build(struct fn *);             /* NULL, or why not */

#endif
