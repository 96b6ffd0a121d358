/* The guest's state, from struct x86_state to KVM's structures and back.  Pure functions: nothing here asks a KVM.
 * What KVM has no place for (FCS and FDS, FERR#, A20M#) stays where it is. */
#include "kvm/internal.h"
#include <stddef.h>
#include <string.h>

#define ROW(number, field) {number, offsetof(struct x86_state, field), #field}
#define MTRR(n) ROW(0x200 + n, mtrr_var[n])
/* The TSC is the caller's: it is time. */
const struct kvm_msr_row kvm_msrs[] = {
    ROW(0x174, sysenter_cs), ROW(0x175, sysenter_esp), ROW(0x176, sysenter_eip), ROW(0xc0000081, star), ROW(0xc0000082, lstar),
    ROW(0xc0000083, cstar), ROW(0xc0000084, sfmask), ROW(0xc0000102, kernel_gs_base), ROW(0x3b, tsc_adjust), ROW(0xc0000103, tsc_aux),
    ROW(0x277, pat), ROW(0x1a0, misc_enable), ROW(0x2ff, mtrr_def_type),
    ROW(0x250, mtrr_fixed[0]), ROW(0x258, mtrr_fixed[1]), ROW(0x259, mtrr_fixed[2]), ROW(0x268, mtrr_fixed[3]), ROW(0x269, mtrr_fixed[4]),
    ROW(0x26a, mtrr_fixed[5]), ROW(0x26b, mtrr_fixed[6]), ROW(0x26c, mtrr_fixed[7]), ROW(0x26d, mtrr_fixed[8]), ROW(0x26e, mtrr_fixed[9]),
    ROW(0x26f, mtrr_fixed[10]),
    MTRR(0), MTRR(1), MTRR(2), MTRR(3), MTRR(4), MTRR(5), MTRR(6), MTRR(7),
    MTRR(8), MTRR(9), MTRR(10), MTRR(11), MTRR(12), MTRR(13), MTRR(14), MTRR(15), ROW(0x17a, mcg_status),
};
const unsigned kvm_msr_count = sizeof kvm_msrs / sizeof *kvm_msrs;
_Static_assert(sizeof kvm_msrs / sizeof *kvm_msrs <= KVM_MSRS, "a value a row");

/* --- Integer registers: KVM's order begins RAX RBX RCX RDX RSI RDI RSP RBP */
static const uint8_t order[16] = {X86_RAX, X86_RBX, X86_RCX, X86_RDX, X86_RSI, X86_RDI, X86_RSP, X86_RBP, 8, 9, 10, 11, 12, 13, 14, 15};
_Static_assert(offsetof(struct kvm_regs, rip) == 16 * 8, "sixteen registers come first");

static void integers_of(const struct x86_state *s, struct kvm_regs *r)
{
    uint64_t values[16];
    for (unsigned i = 0; i < 16; i++)
        values[i] = s->gpr[order[i]];
    memcpy(r, values, sizeof values);
    r->rip = s->rip;
    r->rflags = x86_eflags_get(s);
}

static void integers_to(const struct kvm_regs *r, struct x86_state *s)
{
    uint64_t values[16];
    memcpy(values, r, sizeof values);
    for (unsigned i = 0; i < 16; i++)
        s->gpr[order[i]] = values[i];
    s->rip = r->rip;
    x86_eflags_set(s, (uint32_t)r->rflags, ~0u);
}

/* --- Segments */
static struct kvm_segment segment_of(uint16_t selector, uint64_t base, uint32_t limit, uint32_t attr)
{
    bool unusable = attr & X86_ATTR_NULL || !(attr & X86_ATTR_P);
    return (struct kvm_segment){.base = base, .limit = limit, .selector = selector, .type = attr & X86_ATTR_TYPE, .present = !unusable && attr & X86_ATTR_P,
        .dpl = attr >> X86_ATTR_DPL_SHIFT & 3, .db = (attr & X86_ATTR_DB) != 0, .s = (attr & X86_ATTR_S) != 0, .l = (attr & X86_ATTR_L) != 0,
        .g = (attr & X86_ATTR_G) != 0, .avl = attr >> 12 & 1, .unusable = unusable};
}

static uint32_t attr_to(const struct kvm_segment *k)
{
    uint32_t dpl = (uint32_t)(k->dpl & 3) << X86_ATTR_DPL_SHIFT;
    if (k->unusable || !k->present)
        return X86_ATTR_NULL | dpl;
    return (k->type & 15u) | (k->s ? X86_ATTR_S : 0) | dpl | X86_ATTR_P | (k->avl ? 1u << 12 : 0) | (k->l ? X86_ATTR_L : 0) |
           (k->db ? X86_ATTR_DB : 0) | (k->g ? X86_ATTR_G : 0);
}

/* In the order of enum x86_seg. */
static const size_t segment_at[6] = {offsetof(struct kvm_sregs2, es), offsetof(struct kvm_sregs2, cs), offsetof(struct kvm_sregs2, ss),
    offsetof(struct kvm_sregs2, ds), offsetof(struct kvm_sregs2, fs), offsetof(struct kvm_sregs2, gs)};

static void segments_of(const struct x86_state *s, struct kvm_sregs2 *k)
{
    for (unsigned i = 0; i < 6; i++) {
        struct kvm_segment seg = segment_of(s->seg_sel[i], s->seg_base[i], s->seg_limit[i], s->seg_attr[i]);
        if (i == X86_SS)
            seg.dpl = s->cpl; /* where KVM has the CPL */
        memcpy((char *)k + segment_at[i], &seg, sizeof seg);
    }
    k->ldt = segment_of(s->ldtr_sel, s->ldtr_base, s->ldtr_limit, s->ldtr_attr);
    k->tr = segment_of(s->tr_sel, s->tr_base, s->tr_limit, s->tr_attr);
    k->gdt = (struct kvm_dtable){.base = s->gdtr_base, .limit = (uint16_t)s->gdtr_limit};
    k->idt = (struct kvm_dtable){.base = s->idtr_base, .limit = (uint16_t)s->idtr_limit};
}

static void segments_to(const struct kvm_sregs2 *k, struct x86_state *s)
{
    for (unsigned i = 0; i < 6; i++) {
        struct kvm_segment seg;
        memcpy(&seg, (const char *)k + segment_at[i], sizeof seg);
        s->seg_sel[i] = seg.selector;
        s->seg_base[i] = seg.base;
        s->seg_limit[i] = seg.limit;
        s->seg_attr[i] = attr_to(&seg) & ~(i == X86_SS || !seg.unusable ? 0u : 3u << X86_ATTR_DPL_SHIFT);
    }
    s->ldtr_sel = k->ldt.selector;
    s->ldtr_base = k->ldt.base;
    s->ldtr_limit = k->ldt.limit;
    s->ldtr_attr = attr_to(&k->ldt);
    s->tr_sel = k->tr.selector;
    s->tr_base = k->tr.base;
    s->tr_limit = k->tr.limit;
    s->tr_attr = attr_to(&k->tr);
    s->gdtr_base = k->gdt.base;
    s->gdtr_limit = k->gdt.limit;
    s->idtr_base = k->idt.base;
    s->idtr_limit = k->idt.limit;
    s->cpl = s->eflags & X86_EFLAGS_VM ? 3 : s->cr0 & X86_CR0_PE ? k->ss.dpl & 3 : 0;
}

/* --- Control registers */
static bool has_pdptes(const struct x86_state *s) { return s->cr0 & X86_CR0_PG && s->cr4 & X86_CR4_PAE && !(s->efer & X86_EFER_LMA); }

static void controls_of(const struct x86_state *s, struct kvm_sregs2 *k)
{
    k->cr0 = s->cr0;
    k->cr2 = s->cr2;
    k->cr3 = s->cr3;
    k->cr4 = s->cr4;
    k->efer = s->efer;
    k->flags = has_pdptes(s) ? KVM_SREGS2_FLAGS_PDPTRS_VALID : 0;
    for (unsigned i = 0; i < 4 && k->flags; i++)
        k->pdptrs[i] = s->pdpte[i];
}

static void controls_to(const struct kvm_sregs2 *k, struct x86_state *s)
{
    s->cr0 = k->cr0;
    s->cr2 = k->cr2;
    s->cr3 = k->cr3;
    s->cr4 = k->cr4;
    s->efer = k->efer;
    for (unsigned i = 0; i < 4 && k->flags & KVM_SREGS2_FLAGS_PDPTRS_VALID; i++)
        s->pdpte[i] = k->pdptrs[i];
}

/* --- x87 and SSE.  Both forms have ST(0) to ST(7), not the physical registers.  struct fxsave: SDM 1, table 10-2. */
struct fxsave { uint16_t fcw, fsw; uint8_t ftw, zero; uint16_t fop; uint64_t fip, fdp; uint32_t mxcsr, mxcsr_mask; uint8_t st[8][16], xmm[16][16]; };
enum { XSTATE_BV = 512, XSTATE_X87 = 1, XSTATE_SSE = 2 };
_Static_assert(offsetof(struct fxsave, xmm) == 160, "as FXSAVE64 has it");

static void fxsave_of(const struct x86_state *s, struct fxsave *f)
{
    *f = (struct fxsave){.fcw = s->fcw, .fsw = (uint16_t)(s->fsw | s->fptop << 11), .ftw = s->fptag, .fop = s->fop, .fip = s->fip, .fdp = s->fdp, .mxcsr = s->mxcsr};
    for (unsigned i = 0; i < 8; i++)
        memcpy(f->st[i], &s->fpr[(s->fptop + i) & 7], 10);
    for (unsigned i = 0; i < 16; i++)
        memcpy(f->xmm[i], &s->vec[i], 16);
}

static void x87_to(const struct fxsave *f, struct x86_state *s)
{
    s->fcw = f->fcw;
    s->fptop = f->fsw >> 11 & 7;
    s->fsw = (uint16_t)(f->fsw & ~(7u << 11));
    s->fptag = f->ftw;
    s->fop = f->fop;
    s->fip = f->fip;
    s->fdp = f->fdp;
    s->fcs = s->fds = 0;
    for (unsigned i = 0; i < 8; i++)
        memcpy(&s->fpr[(s->fptop + i) & 7], f->st[i], 10);
}

static void sse_to(const struct fxsave *f, struct x86_state *s)
{
    s->mxcsr = f->mxcsr;
    for (unsigned i = 0; i < 16; i++)
        memcpy(&s->vec[i], f->xmm[i], 16);
}

static void fpu_of(const struct fxsave *f, struct kvm_fpu *k)
{
    *k = (struct kvm_fpu){.fcw = f->fcw, .fsw = f->fsw, .ftwx = f->ftw, .last_opcode = f->fop, .last_ip = f->fip, .last_dp = f->fdp, .mxcsr = f->mxcsr};
    memcpy(k->fpr, f->st, sizeof k->fpr);
    memcpy(k->xmm, f->xmm, sizeof k->xmm);
}

static void fpu_to(const struct kvm_fpu *k, struct fxsave *f)
{
    *f = (struct fxsave){.fcw = k->fcw, .fsw = k->fsw, .ftw = k->ftwx, .fop = k->last_opcode, .fip = k->last_ip, .fdp = k->last_dp, .mxcsr = k->mxcsr};
    memcpy(f->st, k->fpr, sizeof f->st);
    memcpy(f->xmm, k->xmm, sizeof f->xmm);
}

static void floats_of(const struct x86_state *s, struct kvm_image *k)
{
    struct fxsave f;
    uint64_t components = XSTATE_X87 | XSTATE_SSE;
    fxsave_of(s, &f);
    fpu_of(&f, &k->fpu);
    memset(k->xsave, 0, sizeof k->xsave);
    memcpy(k->xsave, &f, sizeof f);
    memcpy(k->xsave + XSTATE_BV, &components, sizeof components);
}

/* A component that XSTATE_BV lacks is as after FNINIT (SDM 1, 13.6); MXCSR is there all the same. */
static void floats_to(const struct kvm_image *k, bool with_xsave, struct x86_state *s)
{
    static const struct fxsave initial = {.fcw = 0x37f, .mxcsr = 0x1f80};
    struct fxsave f;
    uint64_t components = XSTATE_X87 | XSTATE_SSE;
    if (with_xsave) {
        memcpy(&f, k->xsave, sizeof f);
        memcpy(&components, k->xsave + XSTATE_BV, sizeof components);
    } else {
        fpu_to(&k->fpu, &f);
    }
    x87_to(components & XSTATE_X87 ? &f : &initial, s);
    sse_to(components & XSTATE_SSE ? &f : &initial, s);
    if (!(components & XSTATE_SSE) && f.mxcsr)
        s->mxcsr = f.mxcsr;
}

/* --- Debug registers */
static void debug_of(const struct x86_state *s, struct kvm_debugregs *k)
{
    *k = (struct kvm_debugregs){.dr6 = s->dr[6], .dr7 = s->dr[7]};
    memcpy(k->db, s->dr, sizeof k->db);
}

static void debug_to(const struct kvm_debugregs *k, struct x86_state *s)
{
    memcpy(s->dr, k->db, sizeof k->db);
    s->dr[6] = k->dr6;
    s->dr[7] = k->dr7;
}

/* --- Events.  x86_state.shadow: 1 STI, 2 MOV SS; KVM's bits are the other way round. */
enum { SHADOW_STI = 1, SHADOW_MOV_SS = 2, KVM_SHADOW_MOV_SS = 1, KVM_SHADOW_STI = 2 };

static void events_of(const struct x86_state *s, struct kvm_vcpu_events *k)
{
    *k = (struct kvm_vcpu_events){.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW};
    k->interrupt.shadow = s->shadow == SHADOW_MOV_SS ? KVM_SHADOW_MOV_SS : s->shadow ? KVM_SHADOW_STI : 0;
    k->nmi.pending = s->nmi_pending;
    k->nmi.masked = s->nmi_masked;
}

/* INT3 and INTO are traps of instructions that KVM has not passed yet: they run again. */
static bool is_soft(unsigned vector) { return vector == X86_BP || vector == X86_OF; }

static void exception_to(const struct kvm_vcpu_events *k, struct x86_state *s)
{
    bool payload = k->flags & KVM_VCPUEVENT_VALID_PAYLOAD && k->exception_has_payload;
    s->faulted = 1;
    s->fault_vector = k->exception.nr;
    s->fault_has_error = k->exception.has_error_code;
    s->fault_error = k->exception.error_code;
    s->fault_address = payload && k->exception.nr == X86_PF ? k->exception_payload : s->cr2;
    s->fault_dr6 = payload && k->exception.nr == X86_DB ? k->exception_payload & 0x1e00fu : 0;
    s->fault_moved = 0;
}

static int events_to(const struct kvm_vcpu_events *k, struct x86_state *s)
{
    s->faulted = 0;
    s->shadow = k->interrupt.shadow & KVM_SHADOW_MOV_SS ? SHADOW_MOV_SS : k->interrupt.shadow & KVM_SHADOW_STI ? SHADOW_STI : 0;
    s->sti = 0;
    s->nmi_masked = k->nmi.masked && !k->nmi.injected;
    if (k->nmi.injected || k->nmi.pending)
        s->nmi_pending = 1;
    if ((k->exception.injected || k->exception.pending) && !is_soft(k->exception.nr))
        exception_to(k, s);
    else if (k->interrupt.injected && !k->interrupt.soft)
        return k->interrupt.nr;
    return -1;
}

/* --- The whole */
void kvm_image_of(const struct x86_state *s, struct kvm_image *k)
{
    integers_of(s, &k->regs);
    segments_of(s, &k->sregs);
    controls_of(s, &k->sregs);
    floats_of(s, k);
    debug_of(s, &k->debug);
    events_of(s, &k->events);
    k->xcrs = (struct kvm_xcrs){.nr_xcrs = 1, .xcrs[0] = {.xcr = 0, .value = s->xcr0}};
    for (unsigned i = 0; i < kvm_msr_count; i++)
        memcpy(&k->msr[i], (const char *)s + kvm_msrs[i].offset, sizeof k->msr[i]);
}

int kvm_image_to(const struct kvm_image *k, bool with_xsave, struct x86_state *s)
{
    integers_to(&k->regs, s);
    controls_to(&k->sregs, s);
    segments_to(&k->sregs, s); /* CPL hangs on EFLAGS.VM and CR0.PE */
    floats_to(k, with_xsave, s);
    debug_to(&k->debug, s);
    if (k->xcrs.nr_xcrs)
        s->xcr0 = k->xcrs.xcrs[0].value;
    for (unsigned i = 0; i < kvm_msr_count; i++)
        memcpy((char *)s + kvm_msrs[i].offset, &k->msr[i], sizeof k->msr[i]);
    s->debug_hits = 0;
    return events_to(&k->events, s);
}
