/* Control, debug and descriptor-table registers, MSRs, time stamp, port I/O, and what else only privileged code
 * does (SDM 3A chapter 2, SDM 4). */
#include "frontend/system.h"
#include <string.h>

/* --- CR0, CR3, CR4, EFER */
#define CR0_DEFINED (0xe005003fu)
#define PDPTE_RESERVED 0x7ff00000000001e6ull

bool sys_load_pdptes(struct x86_cpu *cpu, uint64_t cr3)
{
    uint64_t e[4];
    for (unsigned i = 0; i < 4; i++) {
        e[i] = cpu->bus->phys_read(cpu, ((cr3 & 0xffffffe0) + 8 * i) & cpu->state.a20_mask, 8);
        if (e[i] & 1 && e[i] & (PDPTE_RESERVED | 1ull << 63 | 0x000fff0000000000ull))
            return fault_code(cpu, X86_GP, 0);
    }
    memcpy(cpu->state.pdpte, e, sizeof e);
    return true;
}

static bool pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer) { return cr0 & X86_CR0_PG && cr4 & X86_CR4_PAE && !(efer & X86_EFER_LME); }

static bool cr0_write(struct x86_cpu *cpu, uint64_t v)
{
    struct x86_state *s = &cpu->state;
    uint64_t old = s->cr0;
    bool turns_on = v & X86_CR0_PG && !(old & X86_CR0_PG), turns_off = !(v & X86_CR0_PG) && old & X86_CR0_PG;
    if (v >> 32 || (v & X86_CR0_PG && !(v & X86_CR0_PE)) || (v & X86_CR0_NW && !(v & X86_CR0_CD)))
        return fault_code(cpu, X86_GP, 0);
    if (turns_on && s->efer & X86_EFER_LME && (!(s->cr4 & X86_CR4_PAE) || s->seg_attr[X86_CS] & X86_ATTR_L))
        return fault_code(cpu, X86_GP, 0);
    if (turns_off && (x86_code64(cpu) || s->cr4 & X86_CR4_PCIDE))
        return fault_code(cpu, X86_GP, 0);
    if (pae_paging(v, s->cr4, s->efer) && (v ^ old) & (X86_CR0_PG | X86_CR0_CD | X86_CR0_NW) && !sys_load_pdptes(cpu, s->cr3))
        return false;
    if (turns_on && s->efer & X86_EFER_LME)
        s->efer |= X86_EFER_LMA;
    if (turns_off)
        s->efer &= ~(uint64_t)X86_EFER_LMA;
    s->cr0 = (v & CR0_DEFINED) | X86_CR0_ET;
    if ((v ^ old) & (X86_CR0_PG | X86_CR0_WP | X86_CR0_PE))
        cpu->bus->tlb_flush(cpu, X86_FLUSH_ALL, 0);
    return true;
}

static bool cr3_write(struct x86_cpu *cpu, uint64_t v)
{
    struct x86_state *s = &cpu->state;
    bool keep = s->cr4 & X86_CR4_PCIDE && v >> 63;
    if (s->cr4 & X86_CR4_PCIDE)
        v &= ~(1ull << 63);
    if (s->efer & X86_EFER_LMA && v >> 40)
        return fault_code(cpu, X86_GP, 0);
    if (!(s->efer & X86_EFER_LMA))
        v = (uint32_t)v;
    if (pae_paging(s->cr0, s->cr4, s->efer) && !sys_load_pdptes(cpu, v))
        return false;
    bool same = s->cr3 == v;
    s->cr3 = v;
    if (!(keep && same)) /* translations are not kept by PCID: another address space is always a flush */
        cpu->bus->tlb_flush(cpu, X86_FLUSH_NON_GLOBAL, 0);
    return true;
}

uint64_t x86_cr4_allowed(const struct x86_cpu *cpu)
{
    static const struct { unsigned feature; uint64_t bit; } rows[] = {
        {X86_FEATURE_VME, X86_CR4_VME | X86_CR4_PVI}, {X86_FEATURE_TSC, X86_CR4_TSD}, {X86_FEATURE_DE, X86_CR4_DE},
        {X86_FEATURE_PSE, X86_CR4_PSE}, {X86_FEATURE_PAE, X86_CR4_PAE}, {X86_FEATURE_MCE, X86_CR4_MCE},
        {X86_FEATURE_PGE, X86_CR4_PGE}, {X86_FEATURE_FXSR, X86_CR4_OSFXSR}, {X86_FEATURE_SSE, X86_CR4_OSXMMEXCPT},
        {X86_FEATURE_UMIP, X86_CR4_UMIP}, {X86_FEATURE_FSGSBASE, X86_CR4_FSGSBASE}, {X86_FEATURE_PCID, X86_CR4_PCIDE},
        {X86_FEATURE_XSAVE, X86_CR4_OSXSAVE}, {X86_FEATURE_SMEP, X86_CR4_SMEP}, {X86_FEATURE_SMAP, X86_CR4_SMAP}};
    uint64_t allowed = X86_CR4_PCE;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (x86_model_has(cpu->model, rows[i].feature))
            allowed |= rows[i].bit;
    return allowed;
}

static bool cr4_write(struct x86_cpu *cpu, uint64_t v)
{
    struct x86_state *s = &cpu->state;
    uint64_t old = s->cr4, changed = v ^ old;
    if (v & ~x86_cr4_allowed(cpu) || (s->efer & X86_EFER_LMA && !(v & X86_CR4_PAE)))
        return fault_code(cpu, X86_GP, 0);
    if (v & changed & X86_CR4_PCIDE && (!(s->efer & X86_EFER_LMA) || s->cr3 & 0xfff))
        return fault_code(cpu, X86_GP, 0);
    uint64_t paging = X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_SMEP | X86_CR4_SMAP | X86_CR4_PCIDE;
    if (pae_paging(s->cr0, v, s->efer) && changed & (X86_CR4_PAE | X86_CR4_PSE | X86_CR4_PGE | X86_CR4_SMEP) && !sys_load_pdptes(cpu, s->cr3))
        return false;
    s->cr4 = v;
    if (changed & paging)
        cpu->bus->tlb_flush(cpu, X86_FLUSH_ALL, 0);
    return true;
}

/* a: register number, b: value. */
X86_HELPER_FN(cr_write)
{
    struct x86_cpu *c86 = cpu;
    bool ok = true;
    switch (a) {
    case 0: ok = cr0_write(c86, b); break;
    case 2: c86->state.cr2 = b; break;
    case 3: ok = cr3_write(c86, b); break;
    case 4: ok = cr4_write(c86, b); break;
    case 8:
        if (b & ~15ull)
            return fault_code(c86, X86_GP, 0);
        c86->bus->tpr_write(c86, (uint8_t)b);
        break;
    default: break;
    }
    if (ok)
        sys_mode_changed(c86);
    return 0;
}

X86_HELPER_FN(cr8_read) { return ((struct x86_cpu *)cpu)->bus->tpr_read(cpu); }

X86_HELPER_FN(lmsw)
{
    struct x86_cpu *c86 = cpu;
    uint64_t old = c86->state.cr0, v = (old & ~14ull) | (a & 15); /* LMSW sets PE but never clears it */
    if (cr0_write(c86, v | (old & 1)))
        sys_mode_changed(c86);
    return 0;
}

X86_HELPER_FN(clts)
{
    struct x86_cpu *c86 = cpu;
    c86->state.cr0 &= ~(uint64_t)X86_CR0_TS;
    sys_mode_changed(c86);
    return 0;
}

/* --- Debug registers */
static bool dr_ok(struct x86_cpu *cpu, unsigned *n)
{
    struct x86_state *s = &cpu->state;
    if (*n == 4 || *n == 5) {
        if (s->cr4 & X86_CR4_DE)
            return x86_raise(cpu, X86_UD), false;
        *n += 2;
    }
    if (s->dr[7] & 1 << 13) { /* GD */
        x86_raise(cpu, X86_DB);
        s->fault_dr6 = 1u << 13;
        return false;
    }
    return true;
}

X86_HELPER_FN(dr_read)
{
    unsigned n = (unsigned)a;
    return dr_ok(cpu, &n) ? ((struct x86_cpu *)cpu)->state.dr[n] : 0;
}

X86_HELPER_FN(dr_write)
{
    struct x86_cpu *c86 = cpu;
    unsigned n = (unsigned)a;
    if (!dr_ok(c86, &n))
        return 0;
    if (n >= 6 && b >> 32)
        return fault_code(c86, X86_GP, 0);
    c86->state.dr[n] = n == 6 ? (b & 0xe00f) | 0xffff0ff0 : n == 7 ? (b & 0xffff2bff) | 0x400 : b;
    sys_mode_changed(c86);
    return 0;
}

/* Kinds of DR7.R/W. */
enum { BREAK_EXECUTE, BREAK_WRITE, BREAK_IO, BREAK_ACCESS };

static unsigned breakpoint_size(uint64_t dr7, unsigned i)
{
    static const uint8_t sizes[] = {1, 2, 8, 4};
    return sizes[dr7 >> (18 + 4 * i) & 3];
}

/* Bits of DR6 for what an access of this kind hits (SDM 3B 17.2.4). */
static uint64_t breakpoint_hits(const struct x86_state *s, uint64_t linear, unsigned size, unsigned kinds, bool *enabled)
{
    uint64_t hits = 0;
    for (unsigned i = 0; i < 4; i++) {
        unsigned kind = s->dr[7] >> (16 + 4 * i) & 3;
        uint64_t mask = breakpoint_size(s->dr[7], i) - 1, at = s->dr[i] & ~mask;
        if (!(kinds >> kind & 1) || linear > at + mask || linear + size - 1 < at)
            continue;
        hits |= 1u << i;
        *enabled |= s->dr[7] >> 2 * i & 3;
    }
    return hits;
}

void x86_debug_data(struct x86_cpu *cpu, uint64_t linear, unsigned size, bool write)
{
    bool enabled = false;
    uint64_t hits = breakpoint_hits(&cpu->state, linear, size, write ? 1 << BREAK_WRITE | 1 << BREAK_ACCESS : 1 << BREAK_ACCESS, &enabled);
    if (enabled)
        cpu->state.debug_hits |= hits;
}

static void debug_io(struct x86_cpu *cpu, uint16_t port, unsigned size)
{
    struct x86_state *s = &cpu->state;
    bool enabled = false;
    if (!(s->mode & X86_MODE_DEBUG) || !(s->cr4 & X86_CR4_DE))
        return;
    uint64_t hits = breakpoint_hits(s, port, size, 1 << BREAK_IO, &enabled);
    if (enabled)
        s->debug_hits |= hits;
}

/* A virtual interrupt and instruction breakpoints, before each instruction in X86_MODE_DEBUG.  a: linear address.  MOV SS holds them off. */
X86_HELPER_FN(debug_insn)
{
    struct x86_cpu *c86 = cpu;
    struct x86_state *s = &c86->state;
    bool enabled = false;
    if (virtual_interrupt_due(s))
        return fault_code(c86, X86_GP, 0);
    uint64_t hits = breakpoint_hits(s, a, 1, 1 << BREAK_EXECUTE, &enabled);
    if (s->eflags & X86_EFLAGS_RF) {
        s->eflags &= ~(uint32_t)X86_EFLAGS_RF;
        return 0;
    }
    if (enabled && s->shadow != 2) {
        x86_raise(c86, X86_DB);
        s->fault_dr6 = hits;
    }
    return 0;
}

/* --- Descriptor tables */
X86_HELPER_FN(table_load) /* a: 0 GDT 1 IDT, b: linear address of the operand, c: bytes of base */
{
    struct x86_cpu *c86 = cpu;
    struct x86_state *s = &c86->state;
    uint64_t limit, base;
    if (!x86_mem_read(c86, b, 2, 0, &limit) || !x86_mem_read(c86, b + 2, c == 3 ? 4 : (unsigned)c, 0, &base))
        return 0;
    if (c == 3)
        base &= 0xffffff;
    if (c == 8 && !x86_is_canonical(base))
        return fault_code(c86, X86_GP, 0);
    *(a ? &s->idtr_base : &s->gdtr_base) = base;
    *(a ? &s->idtr_limit : &s->gdtr_limit) = (uint32_t)limit;
    return 0;
}

X86_HELPER_FN(table_store) /* as above */
{
    struct x86_cpu *c86 = cpu;
    struct x86_state *s = &c86->state;
    uint8_t image[10];
    uint16_t limit = (uint16_t)(a ? s->idtr_limit : s->gdtr_limit);
    uint64_t base = a ? s->idtr_base : s->gdtr_base;
    memcpy(image, &limit, 2);
    memcpy(image + 2, &base, 8);
    c86->bus->write(c86, b, 2 + (unsigned)c, IR_WRITE, image);
    return 0;
}

static bool system_desc(struct x86_cpu *cpu, uint16_t selector, struct desc *d, uint64_t *upper)
{
    *upper = 0;
    if (selector & 4)
        return fault_code(cpu, X86_GP, selector & 0xfffc);
    if (!desc_read(cpu, selector, 0, d))
        return false;
    if (!in_long_mode(&cpu->state))
        return true;
    if (!desc_read_upper(cpu, d, 0, upper))
        return false;
    if (*upper >> 40 & 0x1f)
        return fault_code(cpu, X86_GP, selector & 0xfffc);
    d->base |= *upper << 32;
    return x86_is_canonical(d->base) || fault_code(cpu, X86_GP, selector & 0xfffc);
}

X86_HELPER_FN(lldt)
{
    struct x86_cpu *c86 = cpu;
    struct x86_state *s = &c86->state;
    struct desc ds;
    uint64_t upper;
    if (is_null((uint16_t)a)) {
        s->ldtr_sel = (uint16_t)a;
        s->ldtr_attr = X86_ATTR_NULL;
        return 0;
    }
    if (!system_desc(c86, (uint16_t)a, &ds, &upper))
        return 0;
    if (desc_is_segment(&ds) || desc_type(&ds) != LDT)
        return fault_code(c86, X86_GP, a & 0xfffc);
    if (!desc_present(&ds))
        return fault_code(c86, X86_NP, a & 0xfffc);
    s->ldtr_sel = (uint16_t)a;
    s->ldtr_base = ds.base;
    s->ldtr_limit = ds.limit;
    s->ldtr_attr = ds.attr;
    return 0;
}

X86_HELPER_FN(ltr)
{
    struct x86_cpu *c86 = cpu;
    struct x86_state *s = &c86->state;
    struct desc ds;
    uint64_t upper;
    if (is_null((uint16_t)a))
        return fault_code(c86, X86_GP, 0);
    if (!system_desc(c86, (uint16_t)a, &ds, &upper))
        return 0;
    if (desc_is_segment(&ds) || (desc_type(&ds) != TSS32 && (in_long_mode(s) || desc_type(&ds) != TSS16)))
        return fault_code(c86, X86_GP, a & 0xfffc);
    if (!desc_present(&ds))
        return fault_code(c86, X86_NP, a & 0xfffc);
    if (!desc_set_busy(c86, &ds, true))
        return 0;
    s->tr_sel = (uint16_t)a;
    s->tr_base = ds.base;
    s->tr_limit = ds.limit;
    s->tr_attr = ds.attr;
    return 0;
}

/* a: segment, b: selector. */
X86_HELPER_FN(segment_load)
{
    x86_segment_load(cpu, (enum x86_seg)a, (uint16_t)b);
    return 0;
}

/* --- LAR, LSL, VERR, VERW: a selector's descriptor, without faults; 0 where it is not visible */
enum query { LAR, LSL, VERR, VERW };

static bool query_type_ok(const struct x86_cpu *cpu, const struct desc *d, enum query q)
{
    static const uint16_t lar32 = 1 << TSS16 | 1 << LDT | 1 << TSS16_BUSY | 1 << CALL16 | 1 << TASK_GATE | 1 << TSS32 | 1 << TSS32_BUSY | 1 << CALL32;
    static const uint16_t lsl32 = 1 << TSS16 | 1 << LDT | 1 << TSS16_BUSY | 1 << TSS32 | 1 << TSS32_BUSY;
    static const uint16_t lar64 = 1 << LDT | 1 << TSS32 | 1 << TSS32_BUSY | 1 << CALL32, lsl64 = 1 << LDT | 1 << TSS32 | 1 << TSS32_BUSY;
    if (desc_is_segment(d))
        return true;
    if (q >= VERR)
        return false;
    bool is_long = in_long_mode(&cpu->state);
    return (q == LAR ? (is_long ? lar64 : lar32) : is_long ? lsl64 : lsl32) >> desc_type(d) & 1;
}

/* ARPL to memory.  a: segment, b: offset, c: the other selector.  Returns whether it changed. */
X86_HELPER_FN(arpl)
{
    uint16_t selector = 0, rpl = c & 3;
    if (!x86_seg_read(cpu, (enum x86_seg)a, b, 2, &selector) || (selector & 3) >= rpl)
        return 0;
    selector = (uint16_t)((selector & ~3u) | rpl);
    return x86_seg_write(cpu, (enum x86_seg)a, b, 2, &selector);
}

/* a: query, b: selector.  Returns the value | 1 << 32 where ZF becomes 1. */
X86_HELPER_FN(query)
{
    struct x86_cpu *c86 = cpu;
    struct desc ds;
    uint16_t selector = (uint16_t)b;
    unsigned rpl = selector & 3;
    if (is_null(selector))
        return 0;
    if (!desc_read(c86, selector, 0, &ds)) {
        if (c86->state.fault_vector == X86_GP)
            c86->state.faulted = 0; /* outside the table: ZF = 0; a page fault stays */
        return 0;
    }
    if (!query_type_ok(c86, &ds, (enum query)a))
        return 0;
    if (!desc_conforming(&ds) && (desc_dpl(&ds) < c86->state.cpl || desc_dpl(&ds) < rpl))
        return 0;
    bool code = desc_is_code(&ds);
    if (a == VERR && code && !(ds.attr & X86_ATTR_READABLE))
        return 0;
    if (a == VERW && (code || !(ds.attr & X86_ATTR_WRITABLE)))
        return 0;
    return (a == LAR ? ds.high & 0x00ffff00 /* bits 16 to 19 as the silicon has them */ : ds.limit) | 1ull << 32;
}

/* --- Time and identification */
static bool tsd(struct x86_cpu *cpu)
{
    struct x86_state *s = &cpu->state;
    return s->cr4 & X86_CR4_TSD && s->cpl && (s->cr0 & X86_CR0_PE) && !fault_code(cpu, X86_GP, 0);
}

static uint64_t tsc(struct x86_cpu *cpu) { return cpu->bus->tsc(cpu) + cpu->state.tsc_offset; }

X86_HELPER_FN(rdtsc) { return tsd(cpu) ? 0 : tsc(cpu); }

X86_HELPER_FN(cpuid)
{
    struct x86_cpu *c86 = cpu;
    static const uint8_t to[] = {X86_RAX, X86_RBX, X86_RCX, X86_RDX};
    uint32_t out[4];
    x86_cpuid(c86, (uint32_t)c86->state.gpr[X86_RAX], (uint32_t)c86->state.gpr[X86_RCX], out);
    for (unsigned i = 0; i < 4; i++)
        c86->state.gpr[to[i]] = out[i];
    return 0;
}

/* --- TLB */
X86_HELPER_FN(invlpg)
{
    ((struct x86_cpu *)cpu)->bus->tlb_flush(cpu, X86_FLUSH_PAGE, a);
    return 0;
}

/* a: type, b: linear address of the descriptor. */
X86_HELPER_FN(invpcid)
{
    struct x86_cpu *c86 = cpu;
    uint64_t pcid, address;
    if (!x86_mem_read(c86, b, 8, 0, &pcid) || !x86_mem_read(c86, b + 8, 8, 0, &address))
        return 0;
    bool needs_pcide = a <= 1 && pcid && !(c86->state.cr4 & X86_CR4_PCIDE);
    if (a > 3 || pcid >> 12 || needs_pcide || (a == 0 && !x86_is_canonical(address)))
        return fault_code(c86, X86_GP, 0);
    if (a == 0)
        c86->bus->tlb_flush(c86, X86_FLUSH_PAGE, address);
    else
        c86->bus->tlb_flush(c86, a == 2 ? X86_FLUSH_ALL : X86_FLUSH_NON_GLOBAL, 0);
    return 0;
}

/* --- Flags */
/* a: new value, b: mask of the bits that POPF or the like may change. */
X86_HELPER_FN(eflags_write)
{
    struct x86_cpu *c86 = cpu;
    x86_eflags_set(&c86->state, (uint32_t)a, (uint32_t)b);
    sys_mode_changed(c86);
    return 0;
}

X86_HELPER_FN(eflags_read) { return x86_eflags_get(&((struct x86_cpu *)cpu)->state); }

/* CLAC, STAC at CPL 0.  a: AC. */
X86_HELPER_FN(set_ac)
{
    struct x86_cpu *c86 = cpu;
    struct x86_state *s = &c86->state;
    s->eflags = a ? s->eflags | X86_EFLAGS_AC : s->eflags & ~(uint32_t)X86_EFLAGS_AC;
    c86->bus->mode_changed(c86);
    return 0;
}

/* a: 1 STI, 0 CLI; b: PC of the next instruction. */
X86_HELPER_FN(set_if)
{
    struct x86_cpu *c86 = cpu;
    struct x86_state *s = &c86->state;
    bool was = s->eflags & X86_EFLAGS_IF;
    if (s->cr0 & X86_CR0_PE && s->cpl > (s->eflags >> 12 & 3)) {
        if (!if_is_virtual(s) || (a && s->eflags & X86_EFLAGS_VIP))
            return fault_code(c86, X86_GP, 0);
        s->eflags = a ? s->eflags | X86_EFLAGS_VIF : s->eflags & ~(uint32_t)X86_EFLAGS_VIF;
        return 0;
    }
    s->eflags = a ? s->eflags | X86_EFLAGS_IF : s->eflags & ~(uint32_t)X86_EFLAGS_IF;
    if (a && !was) {
        s->sti = 1;
        s->sti_pc = b;
        c86->bus->mode_changed(c86); /* an interrupt may wait */
    }
    return 0;
}

/* The shadow after MOV SS and POP SS. */
X86_HELPER_FN(shadow_ss)
{
    struct x86_cpu *c86 = cpu;
    c86->state.shadow = 2;
    sys_mode_changed(c86);
    return 0;
}

/* --- Port I/O */
static bool io_allowed(struct x86_cpu *cpu, uint16_t port, unsigned size)
{
    const struct x86_state *s = &cpu->state;
    uint64_t at, bits;
    bool vm = s->eflags & X86_EFLAGS_VM;
    if (!(s->cr0 & X86_CR0_PE) || (!vm && s->cpl <= (s->eflags >> 12 & 3)))
        return true;
    if (!(s->tr_attr & 8) || s->tr_limit < 103)
        return fault_code(cpu, X86_GP, 0);
    if (!x86_mem_read(cpu, s->tr_base + 102, 2, IR_AS_SUPERVISOR, &at))
        return false;
    at += port / 8;
    if (at + 1 > s->tr_limit)
        return fault_code(cpu, X86_GP, 0);
    if (!x86_mem_read(cpu, s->tr_base + at, 2, IR_AS_SUPERVISOR, &bits))
        return false;
    return !(bits >> (port & 7) & ((1u << size) - 1)) || fault_code(cpu, X86_GP, 0);
}

X86_HELPER_FN(in) /* a: port, b: size */
{
    struct x86_cpu *c86 = cpu;
    if (!io_allowed(c86, (uint16_t)a, (unsigned)b))
        return 0;
    debug_io(c86, (uint16_t)a, (unsigned)b);
    return c86->bus->io_read(c86, (uint16_t)a, (unsigned)b);
}

X86_HELPER_FN(out) /* a: port, b: size, c: value */
{
    struct x86_cpu *c86 = cpu;
    if (!io_allowed(c86, (uint16_t)a, (unsigned)b))
        return 0;
    debug_io(c86, (uint16_t)a, (unsigned)b);
    c86->bus->io_write(c86, (uint16_t)a, (unsigned)b, (uint32_t)c);
    return 0;
}

static uint64_t index_mask(unsigned bits) { return bits == 64 ? ~0ull : bits == 32 ? 0xffffffff : 0xffff; }
static void index_put(uint64_t *r, uint64_t v, unsigned bits)
{
    *r = bits == 16 ? (*r & ~0xffffull) | (v & 0xffff) : bits == 32 ? (uint32_t)v : v;
}

/* One element of INS or OUTS; false: a fault is pending and nothing moved. */
static bool io_string_once(struct x86_cpu *cpu, bool out, unsigned size, unsigned bits, enum x86_seg seg)
{
    struct x86_state *s = &cpu->state;
    uint64_t *index = &s->gpr[out ? X86_RSI : X86_RDI], linear, value = 0;
    uint64_t offset = *index & index_mask(bits);
    uint16_t port = (uint16_t)s->gpr[X86_RDX];
    if (!x86_seg_linear(cpu, out ? seg : X86_ES, offset, size, out ? IR_READ : IR_WRITE, &linear))
        return false;
    if (out) {
        if (!x86_mem_read(cpu, linear, size, 0, &value))
            return false;
        cpu->bus->io_write(cpu, port, size, (uint32_t)value);
    } else {
        if (!cpu->bus->probe(cpu, linear, size, IR_WRITE))
            return false; /* before the port is read: reading may have an effect */
        value = cpu->bus->io_read(cpu, port, size);
        x86_mem_write(cpu, linear, size, 0, value);
    }
    debug_io(cpu, port, size);
    index_put(index, *index + (s->eflags & X86_EFLAGS_DF ? -(uint64_t)size : size), bits);
    return true;
}

/* a: 1 OUTS, b: element size | address bits << 8 | segment << 16 | REP << 24.  Returns 1 where it is not at its end yet. */
X86_HELPER_FN(io_string)
{
    struct x86_cpu *c86 = cpu;
    struct x86_state *s = &c86->state;
    unsigned size = b & 0xff, bits = b >> 8 & 0xff, batch = 512; /* a fixed number, so that counting repeats exactly */
    bool rep = b >> 24;
    uint64_t *count = &s->gpr[X86_RCX];
    if (!io_allowed(c86, (uint16_t)s->gpr[X86_RDX], size))
        return 0;
    if (!rep)
        return io_string_once(c86, a, size, bits, (enum x86_seg)(b >> 16 & 0xff)), 0;
    while (*count & index_mask(bits)) {
        if (!batch--)
            return 1;
        if (!io_string_once(c86, a, size, bits, (enum x86_seg)(b >> 16 & 0xff)))
            return 0;
        index_put(count, *count - 1, bits);
        if (x86_by_elements(c86))
            return (*count & index_mask(bits)) != 0;
    }
    return 0;
}
