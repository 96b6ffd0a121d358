/* CPU models and CPUID.  A model is a set of features (features.def) and the words that name it; what CPUID
 * shows is made from the set, so nothing is advertised that the tables do not implement. */
#include "frontend/internal.h"
#include <stdlib.h>
#include <string.h>

struct feature { const char *text; uint32_t leaf, subleaf; uint8_t reg, bit; };
static const struct feature features[X86_FEATURE_COUNT] = {
#define FEATURE(name, text, leaf, subleaf, reg, bit) [X86_FEATURE_##name] = {text, leaf, subleaf, reg, bit},
#include "frontend/features.def"
};

#define F(name) X86_FEATURE_##name
/* Features without instructions of their own, or whose instructions are rows of BASE. */
static const uint8_t system_features[] = {F(FPU), F(VME), F(DE), F(PSE), F(PAE), F(MCE), F(APIC), F(MTRR), F(PGE), F(MCA), F(PAT), F(PSE36), F(SS),
    F(PCID), F(X2APIC), F(TSC_DEADLINE), F(HYPERVISOR), F(ARAT), F(TSC_ADJUST), F(SMEP), F(ERMS), F(FSRM), F(UMIP), F(LAHF),
    F(NX), F(PDPE1GB), F(INVARIANT_TSC), F(XGETBV1), F(ZERO_FCS_FDS)};
/* Names that CPUs have for instructions which older rows cover too. */
static const uint16_t row_features[] = {
#define INSN(mnemonic, family, variant, feature, notes) X86_FEATURE_##feature,
#include "frontend/x86.def"
};

#define PENTIUM F(FPU), F(DE), F(PSE), F(TSC), F(MSR), F(MCE), F(CX8)
#define P6 PENTIUM, F(PAE), F(APIC), F(SEP), F(MTRR), F(PGE), F(MCA), F(CMOV), F(PAT), F(PSE36), F(MMX), F(FXSR), F(SSE)
#define V1 P6, F(CLFLUSH), F(SSE2), F(SYSCALL), F(LM), F(NX), F(HYPERVISOR)
#define V2 V1, F(SSE3), F(SSSE3), F(SSE4_1), F(SSE4_2), F(POPCNT), F(CX16), F(LAHF)
static const uint8_t set_486[] = {F(FPU), 0};
static const uint8_t set_pentium3[] = {P6, F(VME), F(HYPERVISOR), 0};
static const uint8_t set_qemu64[] = {V1, F(SSE3), F(CX16), F(LAHF), F(ZERO_FCS_FDS), 0};
static const uint8_t set_v2[] = {V2, F(VME), F(X2APIC), F(TSC_DEADLINE), F(ARAT), F(TSC_ADJUST), F(ZERO_FCS_FDS), F(PCID), F(INVPCID), F(FSGSBASE), F(SMEP), F(SMAP), F(UMIP),
    F(PDPE1GB), F(RDTSCP), F(XSAVE), F(XSAVEOPT), F(XSAVEC), F(XSAVES), F(XGETBV1), F(RDRAND), F(RDSEED), F(ERMS), F(FSRM), F(PREFETCHW), F(MONITOR), F(MOVBE), F(INVARIANT_TSC), 0};

struct base { const char *name, *text, *vendor, *brand; uint32_t signature, max_leaf, max_extended; const uint8_t *set; };
static const struct base bases[] = {
    {"x86-64-v2", "64 bit, to SSE4.2, with what a kernel of today uses (default)", "AuthenticAMD", "Tierce x86-64-v2", 0x00060fb1, 0xd, 0x80000008, set_v2},
    {"qemu64", "64 bit, to SSE3", "AuthenticAMD", "Tierce qemu64", 0x00060fb1, 0xd, 0x80000008, set_qemu64},
    {"pentium3", "32 bit, to SSE", "GenuineIntel", "", 0x0000068a, 3, 0, set_pentium3},
    {"486", "32 bit, with FPU", "GenuineIntel", "", 0x00000480, 1, 0, set_486},
};
enum { BASES = sizeof bases / sizeof *bases };

static const char *const vendors[] = {"AuthenticAMD", "GenuineIntel"};
struct x86_model { const struct base *base; const char *vendor; bool has[X86_FEATURE_COUNT]; };

bool x86_model_is_intel(const struct x86_model *m) { return m->vendor[0] == 'G'; }


bool x86_model_has(const struct x86_model *m, unsigned feature)
{
    return feature == X86_FEATURE_BASE || (feature < X86_FEATURE_COUNT && m->has[feature]);
}

size_t x86_model_features(const struct x86_model *m, uint8_t *to, size_t room)
{
    for (size_t i = 0; i < room && i < X86_FEATURE_COUNT; i++)
        to[i] = i ? m->has[i] : x86_model_is_intel(m);
    return X86_FEATURE_COUNT;
}

static bool implemented(unsigned feature)
{
    for (unsigned i = 0; i < sizeof system_features; i++)
        if (system_features[i] == feature)
            return true;
    for (unsigned i = 0; i < sizeof row_features / sizeof *row_features; i++)
        if (row_features[i] == feature)
            return true;
    return false;
}

static bool set_word(struct x86_model *m, const char *word, size_t length, char *error, size_t size)
{
    bool on = word[0] == '+';
    for (unsigned i = 1; i < X86_FEATURE_COUNT; i++) {
        if (strlen(features[i].text) != length - 1 || strncmp(features[i].text, word + 1, length - 1))
            continue;
        if (on && !implemented(i))
            return snprintf(error, size, "-cpu: feature '%s' is not implemented; `-cpu help` lists those that are", features[i].text), false;
        m->has[i] = on;
        return true;
    }
    return snprintf(error, size, "-cpu: unknown feature '%.*s'; `-cpu help` lists the features", (int)length - 1, word + 1), false;
}

static bool set_vendor(struct x86_model *m, const char *name, size_t length, char *error, size_t size)
{
    for (unsigned i = 0; i < sizeof vendors / sizeof *vendors; i++)
        if (strlen(vendors[i]) == length && !strncmp(vendors[i], name, length))
            return m->vendor = vendors[i], true;
    return snprintf(error, size, "-cpu: unknown vendor '%.*s'; accepted: AuthenticAMD, GenuineIntel", (int)length, name), false;
}

static bool set_words(struct x86_model *m, const char *spec, char *error, size_t size)
{
    while (*spec == ',') {
        size_t length = strcspn(++spec, ",");
        if (!strncmp(spec, "vendor=", 7)) {
            if (!set_vendor(m, spec + 7, length - 7, error, size))
                return false;
            spec += length;
            continue;
        }
        if (length < 2 || (*spec != '+' && *spec != '-'))
            return snprintf(error, size, "-cpu: '%.*s' is not +feature, -feature or vendor=NAME", (int)length, spec), false;
        if (!set_word(m, spec, length, error, size))
            return false;
        spec += length;
    }
    return true;
}

struct x86_model *x86_model_find(const char *spec, char *error, size_t size)
{
    size_t length = strcspn(spec, ",");
    for (unsigned i = 0; i < BASES; i++) {
        if (strlen(bases[i].name) != length || strncmp(bases[i].name, spec, length))
            continue;
        struct x86_model *m = calloc(1, sizeof *m);
        if (!m)
            return snprintf(error, size, "-cpu: out of memory"), NULL;
        m->base = &bases[i];
        m->vendor = bases[i].vendor;
        for (const uint8_t *f = bases[i].set; *f; f++)
            m->has[*f] = true;
        if (set_words(m, spec + length, error, size))
            return m;
        free(m);
        return NULL;
    }
    snprintf(error, size, "-cpu: unknown model '%.*s'; accepted: x86-64-v2, qemu64, pentium3, 486", (int)length, spec);
    return NULL;
}

void x86_model_restrict(struct x86_model *m, bool (*has)(void *, uint32_t, uint32_t, unsigned, unsigned), void *ctx, char *removed, size_t size)
{
    size_t at = 0;
    if (size)
        *removed = 0;
    for (unsigned i = 1; i < X86_FEATURE_COUNT; i++) {
        const struct feature *f = &features[i];
        if (!m->has[i] || has(ctx, f->leaf, f->subleaf, f->reg, f->bit))
            continue;
        m->has[i] = false;
        int n = at < size ? snprintf(removed + at, size - at, " %s", f->text) : 0;
        at += n > 0 ? (size_t)n : 0;
    }
}

void x86_model_free(const struct x86_model *m) { free((void *)m); }

void x86_model_list(FILE *out)
{
    fputs("Models:\n", out);
    for (unsigned i = 0; i < BASES; i++)
        fprintf(out, "  %-12s %s\n", bases[i].name, bases[i].text);
    fputs("vendor=AuthenticAMD|GenuineIntel: what makers' CPUs do differently\nFeatures (+name, -name):\n ", out);
    unsigned column = 1;
    for (unsigned i = 1; i < X86_FEATURE_COUNT; i++) {
        if (!implemented(i))
            continue;
        column += (unsigned)strlen(features[i].text) + 1;
        if (column > 78) {
            fputs("\n ", out);
            column = 2 + (unsigned)strlen(features[i].text);
        }
        fprintf(out, " %s", features[i].text);
    }
    fputc('\n', out);
}

/* --- CPUID */
static void feature_bits(const struct x86_model *m, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    for (unsigned i = 1; i < X86_FEATURE_COUNT; i++)
        if (m->has[i] && features[i].leaf == leaf && features[i].subleaf == subleaf)
            out[features[i].reg] |= 1u << features[i].bit;
}

static void text_leaf(uint32_t out[4], const char *text, unsigned from)
{
    char all[48] = {0};
    memcpy(all, text, strnlen(text, 47));
    memcpy(out, all + from, 16);
}

static void leaf_1(const struct x86_cpu *cpu, uint32_t out[4])
{
    bool clflush = x86_model_has(cpu->model, X86_FEATURE_CLFLUSH);
    out[0] = cpu->model->base->signature;
    out[1] = 1u << 16 | (clflush ? 8u << 8 : 0);
    if (cpu->state.cr4 & X86_CR4_OSXSAVE)
        out[2] |= 1u << 27;
}

static void leaf_xsave(const struct x86_cpu *cpu, uint32_t subleaf, uint32_t out[4])
{
    if (!x86_model_has(cpu->model, X86_FEATURE_XSAVE)) {
        memset(out, 0, 16);
        return;
    }
    if (subleaf == 0) {
        out[0] = 3; /* x87 and SSE */
        out[1] = out[2] = 576;
    } else if (subleaf == 1) {
        out[1] = 576;
    }
}

/* The AMD copies of leaf 1's EDX bits (APM 3, E.3.6). */
#define AMD_COPIES 0x0183f3ffu

static void leaf_extended_1(const struct x86_cpu *cpu, uint32_t out[4])
{
    uint32_t first[4] = {0};
    out[0] = cpu->model->base->signature;
    feature_bits(cpu->model, 1, 0, first);
    out[3] |= first[3] & AMD_COPIES;
}

static void leaf_topology(uint32_t subleaf, uint32_t out[4])
{
    out[1] = subleaf < 2 ? 1 : 0;
    out[2] = subleaf | (subleaf == 0 ? 0x100 : subleaf == 1 ? 0x200 : 0);
}

static void leaf_vendor(const struct x86_model *m, uint32_t max, uint32_t out[4])
{
    out[0] = max;
    memcpy(&out[1], m->vendor, 4);
    memcpy(&out[3], m->vendor + 4, 4);
    memcpy(&out[2], m->vendor + 8, 4);
}

void x86_cpuid(const struct x86_cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    const struct base *b = cpu->model->base;
    memset(out, 0, 16);
    if (leaf >= 0x40000000 && leaf <= 0x4fffffff && x86_model_has(cpu->model, X86_FEATURE_HYPERVISOR)) {
        if (leaf == 0x40000000) {
            static const char signature[] = "TierceTierce";
            out[0] = leaf;
            memcpy(&out[1], signature, 12);
        }
        return;
    }
    if (leaf >= 0x80000000 ? leaf > b->max_extended : leaf > b->max_leaf)
        return; /* beyond the last leaf: zeros, as AMD has it */
    /* ECX counts for these leaves alone. */
    feature_bits(cpu->model, leaf, leaf == 7 || leaf == 0xd ? subleaf : 0, out);
    switch (leaf) {
    case 0: leaf_vendor(cpu->model, b->max_leaf, out); break;
    case 1: leaf_1(cpu, out); break;
    case 5:
        if (x86_model_has(cpu->model, X86_FEATURE_MONITOR)) {
            out[0] = out[1] = 64;
            out[2] = 3;
        }
        break;
    case 0xb:
        if (x86_model_has(cpu->model, X86_FEATURE_X2APIC))
            leaf_topology(subleaf, out);
        break;
    case 0xd: leaf_xsave(cpu, subleaf, out); break;
    case 0x80000000: leaf_vendor(cpu->model, b->max_extended, out); break;
    case 0x80000001: leaf_extended_1(cpu, out); break;
    case 0x80000002: case 0x80000003: case 0x80000004: text_leaf(out, b->brand, (leaf - 0x80000002) * 16); break;
    case 0x80000005: out[2] = out[3] = 0x20080140; break; /* L1: 32 KiB, 8 ways, lines of 64 bytes */
    case 0x80000006: out[2] = 0x02006140; break;          /* L2: 512 KiB, 8 ways */
    case 0x80000008: out[0] = 40 | 48 << 8; break;        /* physical, linear bits; 40 as paging.c has it */
    default: break;
    }
}
