/* The architectural state: reset, EFLAGS, the mode word derived from it, its printout, and what IR consumers
 * know of it. */
#include "frontend/system.h"
#include <string.h>

/* --- Slots and helpers for IR consumers */
static const char *const gpr_names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};

struct field { const char *name; uint32_t offset, size, element; uint8_t type, state_class, hot; };
static const struct field fields[] = {
#define FIELD(ctype, name, dims, ir_type, state_class, hot, reset) \
    {#name, offsetof(struct x86_state, name), sizeof(((struct x86_state *)0)->name), sizeof(ctype), ir_type, state_class, hot},
#include "frontend/state.def"
};

enum { MAX_SLOTS = 256, NAME = 20 };
static struct ir_slot slots[MAX_SLOTS];
static char slot_names[MAX_SLOTS][NAME];

static const struct ir_helper helpers[] = {
#define HELPER(name, args, reads, writes, faults, memory) {#name, x86_helper_##name, args, reads, writes, faults, memory},
#include "frontend/helpers.def"
};


/* The slots are filled before main() and constant from then on: an array field gives a slot an element. */
const struct ir_guest x86_guest = {.slots = slots, .slot_count = 0
#define FIELD(ctype, name, dims, ir_type, state_class, hot, reset) + (ir_type == IR_VOID ? 0 : sizeof(((struct x86_state *)0)->name) / sizeof(ctype))
#include "frontend/state.def"
    , .helpers = helpers, .helper_count = sizeof helpers / sizeof *helpers,
    .state_size = sizeof(struct x86_state), .pc_offset = offsetof(struct x86_state, rip),
    .faulted_offset = offsetof(struct x86_state, faulted), .stop_offset = offsetof(struct x86_state, stop),
    .icount_offset = offsetof(struct x86_state, icount), .mxcsr_offset = offsetof(struct x86_state, mxcsr),
    .moves = {.helper = X86_HELPER_rep_move, .to = offsetof(struct x86_state, gpr[X86_RDI]), .from = offsetof(struct x86_state, gpr[X86_RSI]),
              .value = offsetof(struct x86_state, gpr[X86_RAX]), .count = offsetof(struct x86_state, gpr[X86_RCX]),
              .flags = offsetof(struct x86_state, eflags), .down = X86_EFLAGS_DF},
    .x87 = {.control = offsetof(struct x86_state, fcw), .status = offsetof(struct x86_state, fsw), .top = offsetof(struct x86_state, fptop),
            .tags = offsetof(struct x86_state, fptag),
            .pc = offsetof(struct x86_state, fip), .opcode = offsetof(struct x86_state, fop), .registers = offsetof(struct x86_state, fpr)}};

__attribute__((constructor)) static void slots_fill(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < sizeof fields / sizeof *fields; i++) {
        const struct field *f = &fields[i];
        unsigned count = f->size / f->element;
        for (unsigned k = 0; k < count && n < MAX_SLOTS && f->type != IR_VOID; k++, n++) {
            if (!strcmp(f->name, "gpr"))
                snprintf(slot_names[n], NAME, "%s", gpr_names[k]);
            else if (count > 1)
                snprintf(slot_names[n], NAME, "%s%u", f->name, k);
            else
                snprintf(slot_names[n], NAME, "%s", f->name);
            slots[n] = (struct ir_slot){slot_names[n], f->offset + k * f->element, f->type, f->state_class, (uint8_t)(f->hot ? f->hot + k : 0)};
        }
    }
}

/* --- Reset (SDM 3A table 10-1) */
static void reset_values(struct x86_state *s)
{
    memset(s, 0, sizeof *s);
#define FIELD(ctype, name, dims, ir_type, state_class, hot, reset) { \
        static const ctype value = reset; \
        for (size_t i = 0; i < sizeof s->name; i += sizeof value) \
            memcpy((char *)&s->name + i, &value, sizeof value); }
#include "frontend/state.def"
    s->seg_sel[X86_CS] = 0xf000;
    s->seg_base[X86_CS] = 0xffff0000;
    s->seg_attr[X86_CS] = 0x9b;
    s->dr[6] = 0xffff0ff0;
    s->dr[7] = 0x400;
}

#define KEEP(name) memcpy(&s->name, &old.name, sizeof s->name)
static void reset_init(struct x86_state *s)
{
    struct x86_state old = *s;
    reset_values(s);
    KEEP(vec), KEEP(opmask), KEEP(mxcsr), KEEP(xcr0);
    KEEP(fpr), KEEP(fptop), KEEP(fptag), KEEP(fcw), KEEP(fsw), KEEP(fop), KEEP(fcs), KEEP(fds), KEEP(fip), KEEP(fdp);
    KEEP(star), KEEP(lstar), KEEP(cstar), KEEP(sfmask), KEEP(kernel_gs_base);
    KEEP(sysenter_cs), KEEP(sysenter_esp), KEEP(sysenter_eip);
    KEEP(tsc_offset), KEEP(tsc_adjust), KEEP(tsc_aux), KEEP(pat), KEEP(misc_enable);
    KEEP(mtrr_def_type), KEEP(mtrr_fixed), KEEP(mtrr_var), KEEP(mcg_status);
    KEEP(stop), KEEP(icount), KEEP(a20_mask), KEEP(ferr);
    s->cr0 |= old.cr0 & (X86_CR0_CD | X86_CR0_NW);
}

void x86_reset(struct x86_cpu *cpu, enum x86_reset_kind kind)
{
    struct x86_state *s = &cpu->state;
    uint32_t id[4];
    if (kind == X86_RESET_INIT)
        reset_init(s);
    else
        reset_values(s);
    x86_cpuid(cpu, 1, 0, id);
    s->gpr[X86_RDX] = id[0];
    x86_mode_update(cpu);
}

/* --- EFLAGS: OSZAPC live packed in `flags`, the rest in `eflags`. */
static const struct { uint32_t eflags, packed; } pairs[] = {
    {X86_EFLAGS_CF, IR_FLAG_C}, {X86_EFLAGS_PF, IR_FLAG_P}, {X86_EFLAGS_AF, IR_FLAG_A},
    {X86_EFLAGS_ZF, IR_FLAG_Z}, {X86_EFLAGS_SF, IR_FLAG_S}, {X86_EFLAGS_OF, IR_FLAG_O}};

uint32_t x86_eflags_get(const struct x86_state *s)
{
    uint32_t v = s->eflags | 2;
    for (unsigned i = 0; i < 6; i++)
        v |= s->flags & pairs[i].packed ? pairs[i].eflags : 0;
    return v;
}

void x86_eflags_set(struct x86_state *s, uint32_t value, uint32_t mask)
{
    uint32_t arithmetic = 0;
    for (unsigned i = 0; i < 6; i++) {
        arithmetic |= pairs[i].eflags;
        if (mask & pairs[i].eflags)
            s->flags = value & pairs[i].eflags ? s->flags | pairs[i].packed : s->flags & ~pairs[i].packed;
    }
    mask &= ~arithmetic & 0x3f7fd7u;
    s->eflags = (s->eflags & ~mask) | (value & mask) | 2;
}

/* --- The mode word */
static bool data_is_plain(uint32_t attr)
{
    uint32_t want = X86_ATTR_P | X86_ATTR_S | X86_ATTR_WRITABLE;
    return (attr & (want | X86_ATTR_CODE | X86_ATTR_DOWN | X86_ATTR_NULL)) == want;
}

static bool code_is_plain(uint32_t attr)
{
    uint32_t want = X86_ATTR_P | X86_ATTR_S | X86_ATTR_READABLE | X86_ATTR_CODE;
    return (attr & (want | X86_ATTR_NULL)) == want || data_is_plain(attr); /* real mode runs from data segments */
}

static uint32_t segment_bits(const struct x86_state *s, uint32_t code)
{
    if (code == X86_MODE_CODE64)
        return 0x3fu << X86_MODE_FLAT_SHIFT | 0xfu << X86_MODE_ZERO_SHIFT;
    uint32_t bits = 0, limit = code == X86_MODE_CODE16 ? 0xffff : 0xffffffff;
    for (unsigned i = 0; i < 6; i++) {
        bool plain = i == X86_CS ? code_is_plain(s->seg_attr[i]) : data_is_plain(s->seg_attr[i]);
        if (!plain || s->seg_limit[i] != limit)
            continue;
        bits |= 1u << (X86_MODE_FLAT_SHIFT + i);
        if (!s->seg_base[i])
            bits |= 1u << (X86_MODE_ZERO_SHIFT + i);
    }
    return bits;
}

void x86_mode_update(struct x86_cpu *cpu)
{
    struct x86_state *s = &cpu->state;
    bool pe = s->cr0 & X86_CR0_PE, vm = s->eflags & X86_EFLAGS_VM, lma = s->efer & X86_EFER_LMA;
    uint32_t code = lma && !vm && s->seg_attr[X86_CS] & X86_ATTR_L ? X86_MODE_CODE64
                  : s->seg_attr[X86_CS] & X86_ATTR_DB ? X86_MODE_CODE32 : X86_MODE_CODE16;
    unsigned iopl = s->eflags >> 12 & 3;
    uint32_t m = code | s->cpl | segment_bits(s, code);
    m |= (pe ? X86_MODE_PE : 0) | (vm ? X86_MODE_VM : 0) | (lma ? X86_MODE_LMA : 0);
    m |= code != X86_MODE_CODE64 && s->seg_attr[X86_SS] & X86_ATTR_DB ? X86_MODE_SS32 : 0;
    m |= s->eflags & X86_EFLAGS_TF ? X86_MODE_TF : 0;
    m |= s->shadow ? X86_MODE_SHADOW : 0;
    m |= (s->cr0 & X86_CR0_EM ? X86_MODE_EM : 0) | (s->cr0 & X86_CR0_TS ? X86_MODE_TS : 0) | (s->cr0 & X86_CR0_MP ? X86_MODE_MP : 0);
    m |= (s->cr4 & X86_CR4_OSFXSR ? X86_MODE_OSFXSR : 0) | (s->cr4 & X86_CR4_OSXSAVE ? X86_MODE_XSAVE : 0);
    m |= (s->mxcsr & 0x1f80) != 0x1f80 ? X86_MODE_FP_TRAPS : 0;
    m |= (s->fcw & 0x3f) != 0x3f ? X86_MODE_X87_TRAPS : 0;
    m |= s->cpl == 3 && s->cr0 & X86_CR0_AM && s->eflags & X86_EFLAGS_AC ? X86_MODE_AC : 0;
    m |= s->cpl <= iopl ? X86_MODE_IOPL_OK : 0;
    m |= s->dr[7] & 0xff || virtual_interrupt_due(s) ? X86_MODE_DEBUG : 0;
    s->mode = m;
}

/* --- `info registers`, in the form that QEMU gives it */
#define U(v) ((unsigned long long)(v))
static const char *system_type(unsigned type, bool lma)
{
    static const char *const legacy[16] = {"Reserved", "TSS16-avl", "LDT", "TSS16-busy", "CallGate16", "TaskGate", "IntGate16", "TrapGate16",
        "Reserved", "TSS32-avl", "Reserved", "TSS32-busy", "CallGate32", "Reserved", "IntGate32", "TrapGate32"};
    static const char *const wide[16] = {[2] = "LDT", [9] = "TSS64-avl", [11] = "TSS64-busy", [12] = "CallGate64", [14] = "IntGate64", [15] = "TrapGate64"};
    return !lma ? legacy[type] : wide[type] ? wide[type] : "Reserved";
}

static void print_rights(FILE *out, const struct x86_state *s, uint32_t attr)
{
    bool lma = s->mode & X86_MODE_LMA;
    fprintf(out, " DPL=%u ", attr >> X86_ATTR_DPL_SHIFT & 3);
    if (!(attr & X86_ATTR_S))
        fprintf(out, "%s", system_type(attr & X86_ATTR_TYPE, lma));
    else if (attr & X86_ATTR_CODE)
        fprintf(out, "%s [%c%c%c]", attr & X86_ATTR_L ? "CS64" : attr & X86_ATTR_DB ? "CS32" : "CS16", attr & X86_ATTR_CONFORMING ? 'C' : '-',
                attr & X86_ATTR_READABLE ? 'R' : '-', attr & X86_ATTR_ACCESSED ? 'A' : '-');
    else
        fprintf(out, "%s [%c%c%c]", attr & X86_ATTR_DB || lma ? "DS  " : "DS16", attr & X86_ATTR_DOWN ? 'E' : '-',
                attr & X86_ATTR_WRITABLE ? 'W' : '-', attr & X86_ATTR_ACCESSED ? 'A' : '-');
}

/* Addresses are as wide as the code. */
static int width(const struct x86_state *s) { return (s->mode & X86_MODE_CODE) == X86_MODE_CODE64 ? 16 : 8; }

static void print_segment(FILE *out, const struct x86_state *s, const char *name, uint16_t sel, uint64_t base, uint32_t limit, uint32_t attr)
{
    uint32_t limit_bits = (attr & X86_ATTR_G ? limit >> 12 : limit) & 0xf0000; /* the descriptor's second word has them too */
    fprintf(out, "%-3s=%04x %0*llx %08x %08x", name, sel, width(s), U(base), limit, (attr << 8 & 0x00f0ff00) | limit_bits);
    if (s->mode & X86_MODE_PE && attr & X86_ATTR_P && !(attr & X86_ATTR_NULL))
        print_rights(out, s, attr);
    fputc('\n', out);
}

static void print_integers(FILE *out, const struct x86_state *s)
{
    static const char names[16][4] = {"AX", "BX", "CX", "DX", "SI", "DI", "BP", "SP", "8 ", "9 ", "10", "11", "12", "13", "14", "15"};
    static const uint8_t order[16] = {0, 3, 1, 2, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15};
    static const struct { char letter; uint32_t bit; } flags[] = {{'D', X86_EFLAGS_DF}, {'O', X86_EFLAGS_OF}, {'S', X86_EFLAGS_SF}, {'Z', X86_EFLAGS_ZF},
        {'A', X86_EFLAGS_AF}, {'P', X86_EFLAGS_PF}, {'C', X86_EFLAGS_CF}};
    bool wide = width(s) == 16;
    uint64_t mask = wide ? UINT64_MAX : UINT32_MAX;
    uint32_t eflags = x86_eflags_get(s);
    for (unsigned i = 0; i < (wide ? 16 : 8); i++)
        fprintf(out, "%c%s=%0*llx%c", wide ? 'R' : 'E', names[i], width(s), U(s->gpr[order[i]] & mask), i % 4 == 3 ? '\n' : ' ');
    fprintf(out, "%s=%0*llx %s=%08x [", wide ? "RIP" : "EIP", width(s), U(s->rip & mask), wide ? "RFL" : "EFL", eflags);
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++)
        fputc(eflags & flags[i].bit ? flags[i].letter : '-', out);
    fprintf(out, "] CPL=%u II=%d A20=%u SMM=0 HLT=%u\n", s->cpl, s->shadow != 0, (unsigned)(s->a20_mask >> 20 & 1), s->halted);
}

static void print_system(FILE *out, const struct x86_state *s)
{
    fprintf(out, "GDT=     %0*llx %08x\nIDT=     %0*llx %08x\n", width(s), U(s->gdtr_base), s->gdtr_limit, width(s), U(s->idtr_base), s->idtr_limit);
    fprintf(out, "CR0=%08llx CR2=%0*llx CR3=%0*llx CR4=%08llx\n", U(s->cr0), width(s), U(s->cr2), width(s), U(s->cr3), U(s->cr4));
    for (unsigned i = 0; i < 4; i++)
        fprintf(out, "DR%u=%016llx%c", i, U(s->dr[i]), i == 3 ? '\n' : ' ');
    fprintf(out, "DR6=%016llx DR7=%016llx\nEFER=%016llx mode=%08x\n", U(s->dr[6]), U(s->dr[7]), U(s->efer), s->mode);
}

static void print_vectors(FILE *out, const struct x86_state *s)
{
    fprintf(out, "FCW=%04x FSW=%04x [ST=%u] FTW=%02x MXCSR=%08x\n", s->fcw, s->fsw, s->fptop, s->fptag, s->mxcsr);
    for (unsigned i = 0; i < 8; i++)
        fprintf(out, "FPR%u=%016llx %04x%c", i, U(s->fpr[i].mantissa), s->fpr[i].exponent, i % 2 ? '\n' : ' ');
    for (unsigned i = 0; i < (width(s) == 16 ? 16 : 8); i++)
        fprintf(out, "XMM%02u=%016llx %016llx%c", i, U(s->vec[i].q[1]), U(s->vec[i].q[0]), i % 2 ? '\n' : ' ');
}

void x86_state_print(FILE *out, const struct x86_state *s)
{
    static const char *const segs[] = {"ES", "CS", "SS", "DS", "FS", "GS"};
    print_integers(out, s);
    for (unsigned i = 0; i < 6; i++)
        print_segment(out, s, segs[i], s->seg_sel[i], s->seg_base[i], s->seg_limit[i], s->seg_attr[i]);
    print_segment(out, s, "LDT", s->ldtr_sel, s->ldtr_base, s->ldtr_limit, s->ldtr_attr);
    print_segment(out, s, "TR", s->tr_sel, s->tr_base, s->tr_limit, s->tr_attr);
    print_system(out, s);
    print_vectors(out, s);
}
