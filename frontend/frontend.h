/* frontend.h - x86 as a guest: architectural state, decoding, lifting to IR, the semantic helpers that lifted
 * code calls, paging, exceptions and interrupts, CPU models.
 * Knows no host and no translator.  What it needs of the machine comes through struct x86_bus.
 * All functions run on the vCPU's own thread and touch only the x86_cpu that they are given. */
#ifndef FRONTEND_FRONTEND_H
#define FRONTEND_FRONTEND_H

#include "ir/ir.h"

struct x86_fpr { uint64_t mantissa; uint16_t exponent; uint16_t pad[3]; } __attribute__((aligned(16)));
struct x86_zmm { uint64_t q[8]; } __attribute__((aligned(64)));
struct x86_state {
#define FIELD(ctype, name, dims, ir_type, state_class, hot, reset) ctype name dims;
#include "frontend/state.def"
};
enum x86_seg { X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS };
enum x86_gpr { X86_RAX, X86_RCX, X86_RDX, X86_RBX, X86_RSP, X86_RBP, X86_RSI, X86_RDI };
enum x86_vector { X86_DE, X86_DB, X86_NMI, X86_BP, X86_OF, X86_BR, X86_UD, X86_NM, X86_DF, X86_TS = 10, X86_NP,
                  X86_SS_FAULT, X86_GP, X86_PF, X86_MF = 16, X86_AC, X86_MC, X86_XM,
                  X86_FREEZE = 256 /* no exception: the CPU waits for an interrupt and runs the instruction again */ };

/* `mode`: all of the state that the lifter specialises a block on.  Two blocks with the same bytes and the
 * same mode mean the same. */
enum x86_mode {
    X86_MODE_CPL = 3,               /* bits 0-1 */
    X86_MODE_CODE16 = 0 << 2, X86_MODE_CODE32 = 1 << 2, X86_MODE_CODE64 = 2 << 2, X86_MODE_CODE = 3 << 2,
    X86_MODE_PE = 1 << 4, X86_MODE_VM = 1 << 5,
    X86_MODE_SS32 = 1 << 6,         /* stack pointer is ESP (ignored in 64-bit code) */
    X86_MODE_LMA = 1 << 7,
    X86_MODE_TF = 1 << 8,           /* #DB after every instruction: blocks of one instruction */
    X86_MODE_SHADOW = 1 << 9,       /* the one-instruction shadow of STI or MOV SS is on: blocks of one instruction */
    X86_MODE_EM = 1 << 10, X86_MODE_TS = 1 << 11, X86_MODE_MP = 1 << 12, X86_MODE_OSFXSR = 1 << 13,
    X86_MODE_FP_TRAPS = 1 << 14,    /* some SSE exception is unmasked in MXCSR: FP goes by the slow, checking way */
    X86_MODE_AC = 1 << 15,          /* alignment checks are on (CPL 3, CR0.AM, EFLAGS.AC) */
    X86_MODE_FLAT_SHIFT = 16,       /* bits 16-21, one a segment (enum x86_seg): base + offset needs no limit, type or
                                       null check for any access that the block makes by it (CS: readable too) */
    X86_MODE_ZERO_SHIFT = 22,       /* bits 22-27: flat and base 0 */
    X86_MODE_IOPL_OK = 1 << 28,     /* CPL <= IOPL: CLI, STI, IN, OUT and the like need no more checks */
    X86_MODE_XSAVE = 1 << 29,       /* CR4.OSXSAVE */
    X86_MODE_DEBUG = 1 << 30,       /* DR7 has an enabled breakpoint (blocks of one instruction, data breakpoints checked), or VIF and VIP are
                                       set where they count: something is looked at before each instruction */
    X86_MODE_X87_TRAPS = 1u << 31,  /* some x87 exception is unmasked: x87 goes by the slow, checking way */
    /* What a block depends on only where the lifter says so (ir_block.whole_mode): those that have to do with no x87, MMX or SSE are the same for all of these. */
    X86_MODE_FPU = X86_MODE_EM | X86_MODE_TS | X86_MODE_MP | X86_MODE_OSFXSR | X86_MODE_FP_TRAPS | X86_MODE_XSAVE | X86_MODE_X87_TRAPS,
};

/* seg_attr bits */
enum x86_attr { X86_ATTR_TYPE = 15, X86_ATTR_ACCESSED = 1, X86_ATTR_WRITABLE = 2 /* data */, X86_ATTR_READABLE = 2 /* code */,
                X86_ATTR_DOWN = 4 /* data */, X86_ATTR_CONFORMING = 4 /* code */, X86_ATTR_CODE = 8, X86_ATTR_S = 16,
                X86_ATTR_DPL_SHIFT = 5, X86_ATTR_P = 1 << 7, X86_ATTR_L = 1 << 13, X86_ATTR_DB = 1 << 14,
                X86_ATTR_G = 1 << 15, X86_ATTR_NULL = 1 << 16 };
/* x87 control word: bits that it has, bits that read as one */
enum x86_fcw { X86_FCW_VALID = 0x1f3f, X86_FCW_ONES = 0x40 };
/* EFLAGS and control register bits */
enum x86_eflags_bits { X86_EFLAGS_CF = 1, X86_EFLAGS_PF = 4, X86_EFLAGS_AF = 16, X86_EFLAGS_ZF = 64, X86_EFLAGS_SF = 128,
                X86_EFLAGS_TF = 0x100, X86_EFLAGS_IF = 0x200, X86_EFLAGS_DF = 0x400, X86_EFLAGS_OF = 0x800,
                X86_EFLAGS_IOPL = 0x3000, X86_EFLAGS_NT = 0x4000, X86_EFLAGS_RF = 0x10000, X86_EFLAGS_VM = 0x20000,
                X86_EFLAGS_AC = 0x40000, X86_EFLAGS_VIF = 0x80000, X86_EFLAGS_VIP = 0x100000, X86_EFLAGS_ID = 0x200000 };
enum x86_cr0_bits { X86_CR0_PE = 1, X86_CR0_MP = 2, X86_CR0_EM = 4, X86_CR0_TS = 8, X86_CR0_ET = 16, X86_CR0_NE = 32,
                X86_CR0_WP = 0x10000, X86_CR0_AM = 0x40000, X86_CR0_NW = 0x20000000, X86_CR0_CD = 0x40000000 };
#define X86_CR0_PG 0x80000000u
enum x86_cr4_bits { X86_CR4_VME = 1, X86_CR4_PVI = 2, X86_CR4_TSD = 4, X86_CR4_DE = 8, X86_CR4_PSE = 16, X86_CR4_PAE = 32,
                X86_CR4_MCE = 64, X86_CR4_PGE = 128, X86_CR4_PCE = 256, X86_CR4_OSFXSR = 512, X86_CR4_OSXMMEXCPT = 1024,
                X86_CR4_UMIP = 2048, X86_CR4_FSGSBASE = 0x10000, X86_CR4_PCIDE = 0x20000, X86_CR4_OSXSAVE = 0x40000,
                X86_CR4_SMEP = 0x100000, X86_CR4_SMAP = 0x200000 };
enum x86_efer_bits { X86_EFER_SCE = 1, X86_EFER_LME = 0x100, X86_EFER_LMA = 0x400, X86_EFER_NXE = 0x800 };

struct x86_model;
struct x86_cpu;
enum x86_flush { X86_FLUSH_ALL, X86_FLUSH_NON_GLOBAL, X86_FLUSH_PAGE };
/* What the machine offers its CPU.  ctx is x86_cpu.bus_ctx. */
struct x86_bus {
    /* Guest linear memory, with all rights checked; access = enum ir_access (IR_AS_SUPERVISOR for descriptor
     * tables).  False: a fault is pending in cpu->state and nothing was done. size up to 64. */
    bool (*read)(struct x86_cpu *, uint64_t linear, unsigned size, unsigned access, void *to);
    bool (*write)(struct x86_cpu *, uint64_t linear, unsigned size, unsigned access, const void *from);
    bool (*probe)(struct x86_cpu *, uint64_t linear, unsigned size, unsigned access);
    /* Host pointer to guest RAM for [linear, linear + *size), *size cut to what lies in one page; NULL where it
     * is not plain RAM (then use read/write), or where a fault is pending (state.faulted). For bulk string moves. */
    void *(*pointer)(struct x86_cpu *, uint64_t linear, unsigned *size, unsigned access);
    /* Guest physical memory, for page walks. cas: true where *expected was there and is replaced. */
    uint64_t (*phys_read)(struct x86_cpu *, uint64_t physical, unsigned size);
    bool (*phys_cas)(struct x86_cpu *, uint64_t physical, unsigned size, uint64_t expected, uint64_t desired);
    uint32_t (*io_read)(struct x86_cpu *, uint16_t port, unsigned size);
    void (*io_write)(struct x86_cpu *, uint16_t port, unsigned size, uint32_t value);
    /* Interrupt controller: vector to deliver (acknowledges it), or -1.  */
    int (*interrupt_take)(struct x86_cpu *);
    uint64_t (*apic_read)(struct x86_cpu *, uint32_t msr); /* IA32_APIC_BASE, IA32_TSC_DEADLINE, x2APIC 0x800..: */
    bool (*apic_write)(struct x86_cpu *, uint32_t msr, uint64_t value); /* false: #GP */
    uint8_t (*tpr_read)(struct x86_cpu *); void (*tpr_write)(struct x86_cpu *, uint8_t cr8);
    bool (*ferr)(struct x86_cpu *, bool level); /* FERR#; returns IGNNE# */
    uint64_t (*random)(struct x86_cpu *);/* RDRAND, RDSEED */
    uint64_t (*tsc)(struct x86_cpu *);   /* clock's TSC, before tsc_offset */
    void (*tlb_flush)(struct x86_cpu *, enum x86_flush, uint64_t linear);
    void (*mode_changed)(struct x86_cpu *); /* state.mode is new */
    void (*shutdown)(struct x86_cpu *);  /* triple fault */
    /* Told of each exception and interrupt before it is delivered, CR2 set; may be NULL. */
    void (*delivering)(struct x86_cpu *, unsigned vector, bool soft, bool has_error, uint32_t error);
};
struct x86_cpu {
    struct x86_state state;   /* first: helpers get its address */
    const struct x86_model *model;
    const struct x86_bus *bus;
    void *bus_ctx;
    bool stepped;             /* a debugger steps: REP ends after each element, as with TF */
    uint64_t lacked[16];      /* reserved for counters of #UD by name: see x86_lacked */
};

/* --- State */
enum x86_reset_kind { X86_RESET_POWER, X86_RESET_INIT };
void x86_reset(struct x86_cpu *, enum x86_reset_kind);
void x86_mode_update(struct x86_cpu *);   /* derives state.mode; call after any change it depends on */
uint32_t x86_eflags_get(const struct x86_state *);
void x86_eflags_set(struct x86_state *, uint32_t value, uint32_t mask); /* mask: bits that may change */
/* MOV to a segment register, POP, LDS..: all checks; false: a fault is pending, nothing changed. */
bool x86_segment_load(struct x86_cpu *, enum x86_seg, uint16_t selector);
/* Of a state from outside: NULL, or the name of a field whose value no CPU of the cpu's model can have. */
const char *x86_state_check(const struct x86_cpu *cpu, const struct x86_state *);
void x86_state_print(FILE *, const struct x86_state *); /* `info registers` */
extern const struct ir_guest x86_guest;   /* slots and helpers, for IR consumers */

/* --- Relocations: fields of instructions that change when code is moved as a whole, and how (names as ELF's) */
enum x86_reloc_kind { X86_RELOC_NONE, X86_RELOC_32S /* an address, sign-extended */, X86_RELOC_64, X86_RELOC_PC32 /* the distance to an address that stays */ };
struct x86_reloc { uint8_t at[2] /* from the block's first byte, little-endian: they lie in files so */, kind; };
static inline unsigned x86_reloc_at(const struct x86_reloc *r) { return r->at[0] | (unsigned)r->at[1] << 8; }
static inline unsigned x86_reloc_size(const struct x86_reloc *r) { return r->kind == X86_RELOC_64 ? 8 : 4; }
/* Those that code at pc seems to have, in order: 64-bit code in the upper half has addresses that are near to it, and per-CPU data.  A pure function
 * of its arguments, and for each instruction of its own bytes and PC.  Any thread.  Returns how many were put in `to`. */
unsigned x86_relocs_find(uint32_t mode, uint64_t pc, const uint8_t *bytes, unsigned size, struct x86_reloc *to, unsigned room);
#define X86_RELOCS 128u /* room enough for 64 instructions */
/* Bytes as they lie at `from`, as they would at `to`.  False: an address does not fit its field there; nothing is changed. */
bool x86_relocate(uint8_t *bytes, const struct x86_reloc *, unsigned count, uint64_t from, uint64_t to);

/* --- Decode and lift */
struct x86_fetch {       /* guest bytes; returns how many of max were put in `to` (0: a fault is pending).
                            Called at most for one page at a time. */
    unsigned (*bytes)(void *ctx, uint64_t linear, unsigned max, uint8_t *to);
    void *ctx;
    void (*decoding)(void *ctx, bool begins); /* around the decoder, for who measures it; may be NULL */
};
struct x86_lift_limits {
    unsigned insns, bytes;
    bool icount;                /* instructions that see time (T in x86.def) are blocks of their own, so that the time does not depend on what
                                   else a block holds; behind them and STI, the block leaves to the loop */
    unsigned branches;          /* conditional jumps that a block goes on after, where they are not taken */
    const uint64_t *changing;   /* NULL, or X86_CHANGING bits, one a byte from the block's first: immediates and displacements with such
                                   a byte are read when the block runs (block->code lists them), in blocks inside one page */
    bool relocate;              /* what x86_relocs_find finds in the block is lifted so that the code is right wherever it moves */
    const struct x86_reloc *relocs; unsigned reloc_count; /* the same, for these; the bytes are those of the PC that is lifted for */
};
#define X86_CHANGING 256u
/* Lifts from linear address `linear` (PC `pc` = offset in CS) until a jump, a mode change, a limit, or a page's end
 * (an instruction that straddles is lifted if it is the first).  False: the fetch of the first instruction
 * faulted (pending in the state), or limits->relocs has one where no such field is.  Undecodable bytes lift to #UD.  block->guest_bytes tells how many bytes it depends on. */
bool x86_lift(const struct x86_model *, uint32_t mode, uint64_t pc, uint64_t linear, const struct x86_fetch *,
              const struct x86_lift_limits *, struct ir_block *);
unsigned x86_pc_bits(uint32_t mode); /* a PC wraps at this width */
/* Disassembles one instruction to text (Intel syntax); returns its length, 0 where undecodable. */
unsigned x86_disassemble(uint32_t mode, uint64_t pc, const uint8_t *bytes, unsigned size, char *text, size_t text_size);
void x86_lacked(void (*each)(void *ctx, const char *name, uint32_t count), void *ctx); /* instructions that no table row covers and that were met */

/* --- Exceptions and interrupts.  All leave state.rip and everything else as the manual says. */
void x86_raise(struct x86_cpu *, unsigned vector);                    /* makes a fault pending */
void x86_raise_error(struct x86_cpu *, unsigned vector, uint32_t error);
void x86_deliver_fault(struct x86_cpu *);   /* delivers the pending fault; double and triple faults included */
void x86_deliver_interrupt(struct x86_cpu *, unsigned vector); /* external; wakes from HLT */
void x86_deliver_nmi(struct x86_cpu *);
#define X86_DR6_BS (1u << 14)
void x86_debug_trap(struct x86_cpu *, uint64_t dr6); /* after an instruction: #DB for single-step (BS) or data breakpoints */
#define X86_DEBUG_NO_STEP (1ull << 63) /* in state.debug_hits: no single-step trap after this instruction (INT n, SYSCALL) */

/* Data breakpoints: to be called for each access in X86_MODE_DEBUG; pends #DB (a trap) on a hit. */
void x86_debug_data(struct x86_cpu *, uint64_t linear, unsigned size, bool write);

/* --- Paging.  The walk reads and sets A/D bits through the bus. */
struct x86_page {
    uint64_t physical;      /* of the byte asked for */
    uint64_t page_size;     /* 4096, 2 MiB, 4 MiB, 1 GiB */
    uint8_t readable, writable, executable; /* for the access's privilege, as things stand now; writable only once D is set */
    bool global, user;
};
/* access: enum ir_access; user: CPL 3 rights (unless IR_AS_SUPERVISOR).  False: #PF (or #GP/#SS non-canonical) pending. */
bool x86_translate(struct x86_cpu *, uint64_t linear, unsigned access, bool user, struct x86_page *);
/* What an access asks of its address whatever the pages say: alignment (IR_ALIGNED, IR_AC), canonical form, no wrap at
 * 4 GiB (IR_TOP).  False: #GP, #SS or #AC pending. */
bool x86_access_check(struct x86_cpu *, uint64_t linear, unsigned size, unsigned access);
/* Is code at `linear` inside of CS's limit?  For fetches.  False: #GP pending. */
bool x86_fetch_check(struct x86_cpu *, uint64_t linear);
/* For debuggers: no faults, no A/D, no rights; false where unmapped. */
bool x86_translate_debug(struct x86_cpu *, uint64_t linear, uint64_t *physical);

/* --- CPU models */
struct x86_model *x86_model_find(const char *spec, char *error, size_t size); /* "x86-64-v2,+aes,-cx16,vendor=GenuineIntel"; caller frees with x86_model_free; NULL: error says why */
void x86_model_free(const struct x86_model *);
void x86_model_list(FILE *);
/* All of the model that the lifter looks at: a byte (0 or 1) a feature, the first for the maker; returns how many there are. */
size_t x86_model_features(const struct x86_model *, uint8_t *to, size_t room);
/* Takes away the features that `has` says no to; their words, with a space before each, go to `removed`. */
void x86_model_restrict(struct x86_model *, bool (*has)(void *ctx, uint32_t leaf, uint32_t subleaf, unsigned reg, unsigned bit), void *ctx,
                        char *removed, size_t size);
bool x86_model_is_intel(const struct x86_model *); /* else AMD's */
bool x86_model_has(const struct x86_model *, unsigned feature); /* enum in frontend/internal.h */
void x86_cpuid(const struct x86_cpu *, uint32_t leaf, uint32_t subleaf, uint32_t out[4]); /* EAX EBX ECX EDX */
/* RDMSR, WRMSR; false: #GP. */
bool x86_msr_read(struct x86_cpu *, uint32_t msr, uint64_t *value);
bool x86_msr_write(struct x86_cpu *, uint32_t msr, uint64_t value);
void x86_syscall_segments(struct x86_cpu *); /* CS, SS and CPL as SYSCALL in long mode leaves them; mode is left to x86_mode_update */

#endif
