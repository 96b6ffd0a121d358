/* Model-specific registers (SDM 4), and the segment bases that MSRs and instructions share. */
#include "frontend/system.h"

enum { IA32_TSC = 0x10, IA32_PLATFORM_ID = 0x17, IA32_APIC_BASE = 0x1b, IA32_FEATURE_CONTROL = 0x3a, IA32_TSC_ADJUST = 0x3b,
       IA32_UCODE_WRITE = 0x79, IA32_UCODE_REV = 0x8b, IA32_MTRRCAP = 0xfe, IA32_SYSENTER_CS = 0x174, IA32_SYSENTER_ESP = 0x175,
       IA32_SYSENTER_EIP = 0x176, IA32_MCG_CAP = 0x179, IA32_MCG_STATUS = 0x17a, IA32_PERF_STATUS = 0x198, IA32_MISC_ENABLE = 0x1a0,
       IA32_DEBUGCTL = 0x1d9, IA32_MTRR_PHYS = 0x200, IA32_PAT = 0x277, IA32_MTRR_DEF = 0x2ff, IA32_TSC_DEADLINE = 0x6e0, IA32_XSS = 0xda0,
       APIC_BASE_X2APIC = 1 << 10, X2APIC_FIRST = 0x800, X2APIC_LAST = 0x8ff };
#define EFER 0xc0000080u
#define STAR 0xc0000081u
#define LSTAR 0xc0000082u
#define CSTAR 0xc0000083u
#define SFMASK 0xc0000084u
#define FS_BASE 0xc0000100u
#define GS_BASE 0xc0000101u
#define KERNEL_GS_BASE 0xc0000102u
#define TSC_AUX 0xc0000103u

/* MSRs that are a plain field, with the bits that may be written; `canonical`: checked on writing. */
struct plain { uint32_t msr; uint16_t feature; bool canonical; size_t at; uint64_t writable; };
#define FIELD_AT(name) offsetof(struct x86_state, name)
static const struct plain plain[] = {
    {IA32_SYSENTER_CS,  X86_FEATURE_SEP,     false, FIELD_AT(sysenter_cs),    ~0ull},
    {IA32_SYSENTER_ESP, X86_FEATURE_SEP,     true,  FIELD_AT(sysenter_esp),   ~0ull},
    {IA32_SYSENTER_EIP, X86_FEATURE_SEP,     true,  FIELD_AT(sysenter_eip),   ~0ull},
    {IA32_MCG_STATUS,   X86_FEATURE_MCA,     false, FIELD_AT(mcg_status),     7},
    {IA32_MISC_ENABLE,  X86_FEATURE_BASE,    false, FIELD_AT(misc_enable),    0x4c51889},
    {STAR,              X86_FEATURE_SYSCALL, false, FIELD_AT(star),           ~0ull},
    {LSTAR,             X86_FEATURE_LM,      true,  FIELD_AT(lstar),          ~0ull},
    {CSTAR,             X86_FEATURE_LM,      true,  FIELD_AT(cstar),          ~0ull},
    {SFMASK,            X86_FEATURE_LM,      false, FIELD_AT(sfmask),         0xffffffff},
    {FS_BASE,           X86_FEATURE_LM,      true,  FIELD_AT(seg_base[X86_FS]), ~0ull},
    {GS_BASE,           X86_FEATURE_LM,      true,  FIELD_AT(seg_base[X86_GS]), ~0ull},
    {KERNEL_GS_BASE,    X86_FEATURE_LM,      true,  FIELD_AT(kernel_gs_base), ~0ull},
    {TSC_AUX,           X86_FEATURE_RDTSCP,  false, FIELD_AT(tsc_aux),        0xffffffff},
};

/* MSRs that read as a constant and ignore what is written: Linux asks for them by vendor and family. */
static const struct { uint32_t msr; uint64_t value; } fixed[] = {
    {IA32_PLATFORM_ID, 0}, {IA32_FEATURE_CONTROL, 1}, {IA32_UCODE_REV, 0x01000065}, {IA32_UCODE_WRITE, 0}, {IA32_MCG_CAP, 0},
    {IA32_PERF_STATUS, 0}, {IA32_DEBUGCTL, 0}, {0xc0010010, 0} /* SYSCFG */, {0xc0010015, 1 << 24} /* HWCR: TscFreqSel */,
    {0xc001001f, 0} /* NB_CFG */, {0xc0010055, 0} /* INT_PENDING_MSG: no C1E, which Linux asks of family 0Fh */, {0xc0010112, 0}, {0xc0010113, 0}, {0xc0010114, 0} /* VM_CR */, {0xc0010140, 0}, {0xc0010141, 0} /* OSVW */,
    {0xc0011020, 0}, {0xc0011022, 0}, {0xc0011023, 0}, {0xc0011029, 2} /* DE_CFG: LFENCE serialises */, {0xc001102a, 0},
};

static const struct plain *plain_find(const struct x86_cpu *cpu, uint32_t msr)
{
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (plain[i].msr == msr && x86_model_has(cpu->model, plain[i].feature))
            return &plain[i];
    return NULL;
}

static const uint64_t *fixed_find(uint32_t msr)
{
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (fixed[i].msr == msr)
            return &fixed[i].value;
    return NULL;
}

/* MTRRs: kept, without an effect on a machine without caches. */
static uint64_t *mtrr(struct x86_state *s, uint32_t msr)
{
    static const uint16_t fixed_numbers[] = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f};
    if (msr >= IA32_MTRR_PHYS && msr < IA32_MTRR_PHYS + 16)
        return &s->mtrr_var[msr - IA32_MTRR_PHYS];
    for (unsigned i = 0; i < 11; i++)
        if (msr == fixed_numbers[i])
            return &s->mtrr_fixed[i];
    return msr == IA32_MTRR_DEF ? &s->mtrr_def_type : NULL;
}

static bool is_apic(const struct x86_cpu *cpu, uint32_t msr)
{
    unsigned needs = msr == IA32_APIC_BASE ? X86_FEATURE_APIC : msr == IA32_TSC_DEADLINE ? X86_FEATURE_TSC_DEADLINE
                   : msr >= X2APIC_FIRST && msr <= X2APIC_LAST ? X86_FEATURE_X2APIC : X86_FEATURE_COUNT;
    return x86_model_has(cpu->model, needs);
}

/* The features of which one at least must be there for an MSR of x86_msr_read's and x86_msr_write's own. */
static bool own_msr(const struct x86_cpu *cpu, uint32_t msr)
{
    static const struct { uint32_t msr; uint8_t features[3]; } rows[] = {
        {IA32_TSC, {X86_FEATURE_TSC}}, {IA32_TSC_ADJUST, {X86_FEATURE_TSC_ADJUST}}, {IA32_MTRRCAP, {X86_FEATURE_MTRR}}, {IA32_PAT, {X86_FEATURE_PAT}}, {IA32_XSS, {X86_FEATURE_XSAVES}},
        {EFER, {X86_FEATURE_SYSCALL, X86_FEATURE_LM, X86_FEATURE_NX}}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (unsigned k = 0; k < 3 && rows[i].msr == msr; k++)
            if (rows[i].features[k] && x86_model_has(cpu->model, rows[i].features[k]))
                return true;
    return false;
}

static uint64_t tsc_now(struct x86_cpu *cpu) { return cpu->bus->tsc(cpu) + cpu->state.tsc_offset; }

bool x86_msr_read(struct x86_cpu *cpu, uint32_t msr, uint64_t *v)
{
    struct x86_state *s = &cpu->state;
    const struct plain *p = plain_find(cpu, msr);
    const uint64_t *constant = fixed_find(msr);
    if (p)
        *v = *(const uint64_t *)(const void *)((const char *)s + p->at);
    else if (constant)
        *v = *constant;
    else if (is_apic(cpu, msr))
        *v = cpu->bus->apic_read(cpu, msr);
    else if (mtrr(s, msr) && x86_model_has(cpu->model, X86_FEATURE_MTRR))
        *v = *mtrr(s, msr);
    else if (!own_msr(cpu, msr))
        return false;
    else
        switch (msr) {
        case IA32_TSC: *v = tsc_now(cpu); break;
        case IA32_TSC_ADJUST: *v = s->tsc_adjust; break;
        case IA32_MTRRCAP: *v = 0x508; break; /* eight variable, fixed, write combining */
        case IA32_PAT: *v = s->pat; break;
        case IA32_XSS: *v = 0; break; /* no supervisor state */
        case EFER: *v = s->efer; break;
        default: return false;
        }
    return true;
}

uint64_t x86_efer_allowed(const struct x86_cpu *cpu)
{
    return (x86_model_has(cpu->model, X86_FEATURE_SYSCALL) ? X86_EFER_SCE : 0) |
           (x86_model_has(cpu->model, X86_FEATURE_LM) ? X86_EFER_LME | X86_EFER_LMA : 0) |
           (x86_model_has(cpu->model, X86_FEATURE_NX) ? X86_EFER_NXE : 0);
}

static bool efer_write(struct x86_cpu *cpu, uint64_t v)
{
    struct x86_state *s = &cpu->state;
    if (v & ~x86_efer_allowed(cpu) || ((v ^ s->efer) & X86_EFER_LME && s->cr0 & X86_CR0_PG))
        return false;
    bool nx_changed = (v ^ s->efer) & X86_EFER_NXE;
    s->efer = (v & ~(uint64_t)X86_EFER_LMA) | (s->efer & X86_EFER_LMA);
    if (nx_changed)
        cpu->bus->tlb_flush(cpu, X86_FLUSH_ALL, 0);
    return true;
}

static bool pat_write(struct x86_state *s, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++) {
        uint8_t type = v >> 8 * i & 0xff;
        if (type > 7 || type == 2 || type == 3)
            return false;
    }
    s->pat = v;
    return true;
}

static bool write_plain(struct x86_state *s, const struct plain *p, uint64_t v)
{
    if (p->canonical && !x86_is_canonical(v))
        return false;
    if (p->writable == 0xffffffff && v >> 32)
        return false;
    *(uint64_t *)(void *)((char *)s + p->at) = v & p->writable;
    return true;
}

bool x86_msr_write(struct x86_cpu *cpu, uint32_t msr, uint64_t v)
{
    struct x86_state *s = &cpu->state;
    const struct plain *p = plain_find(cpu, msr);
    if (p)
        return write_plain(s, p, v);
    if (fixed_find(msr))
        return true;
    if (msr == IA32_APIC_BASE && v & APIC_BASE_X2APIC && !x86_model_has(cpu->model, X86_FEATURE_X2APIC))
        return false;
    if (is_apic(cpu, msr))
        return cpu->bus->apic_write(cpu, msr, v);
    if (mtrr(s, msr) && x86_model_has(cpu->model, X86_FEATURE_MTRR)) {
        *mtrr(s, msr) = v;
        return true;
    }
    if (!own_msr(cpu, msr))
        return false;
    switch (msr) {
    case IA32_TSC:
        s->tsc_adjust += v - tsc_now(cpu);
        s->tsc_offset = v - cpu->bus->tsc(cpu);
        return true;
    case IA32_TSC_ADJUST:
        s->tsc_offset += v - s->tsc_adjust;
        s->tsc_adjust = v;
        return true;
    case IA32_PAT: return pat_write(s, v);
    case IA32_XSS: return !v;
    case EFER: return efer_write(cpu, v);
    default: return false;
    }
}

/* a: MSR.  Returns its value. */
X86_HELPER_FN(rdmsr)
{
    uint64_t v = 0;
    struct x86_cpu *c86 = cpu;
    if (!x86_msr_read(c86, (uint32_t)a, &v))
        x86_raise_error(c86, X86_GP, 0);
    return v;
}

/* a: MSR, b: value. */
X86_HELPER_FN(wrmsr)
{
    struct x86_cpu *c86 = cpu;
    if (!x86_msr_write(c86, (uint32_t)a, b))
        return fault_code(c86, X86_GP, 0);
    sys_mode_changed(c86);
    return 0;
}

/* WRFSBASE and the like: a: segment, b: base. */
X86_HELPER_FN(base_write)
{
    struct x86_cpu *c86 = cpu;
    if (!x86_is_canonical(b))
        return fault_code(c86, X86_GP, 0);
    c86->state.seg_base[a == X86_GS ? X86_GS : X86_FS] = b;
    return 0;
}

X86_HELPER_FN(swapgs)
{
    struct x86_state *s = &((struct x86_cpu *)cpu)->state;
    uint64_t base = s->seg_base[X86_GS];
    s->seg_base[X86_GS] = s->kernel_gs_base;
    s->kernel_gs_base = base;
    return 0;
}
