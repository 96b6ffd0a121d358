/* The registers that gdb sees: one table, from which the target description is printed too.  The names and order of
 * the standard features are gdb's (gdb/features/i386); system registers are named as QEMU names them. */
#include "tools/tierce/gdb.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum kind { PLAIN, FLAGS, SELECTOR, ST, FCTRL, FSTAT, FTAG, FISEG, FIOFF, FOSEG, FOOFF, FOP };
enum feature { CORE, SSE, SEGMENTS, SYSTEM, FEATURES };
enum { ONLY32 = 1, ONLY64 = 2, WIDE = 4 /* 32 bits on a 32-bit target */ };
struct reg { const char *name, *type; enum feature feature; uint16_t bits; uint8_t kind, index, flags; size_t offset; };
#define S(field) offsetof(struct x86_state, field)
#define GPR64(name, type, n) {name, type, CORE, 64, PLAIN, 0, ONLY64, S(gpr) + 8 * (n)}
#define GPR32(name, type, n) {name, type, CORE, 32, PLAIN, 0, ONLY32, S(gpr) + 8 * (n)}
#define SEG(name, n) {name, "int32", CORE, 32, SELECTOR, n, 0, S(seg_sel) + 2 * (n)}
#define FPR(n) {"st" #n, "i387_ext", CORE, 80, ST, n, 0, 0}
#define CONTROL(name, kind) {name, "int", CORE, 32, kind, 0, 0, 0}
#define XMM(n, flags) {"xmm" #n, "vec128", SSE, 128, PLAIN, 0, flags, S(vec) + 64 * (n)}
#define SYS(name, field, flags) {name, "int", SYSTEM, 64, PLAIN, 0, flags, S(field)}

/* In gdb's order for each target: i386 has EAX ECX EDX EBX, AMD64 has RAX RBX RCX RDX. */
static const struct reg regs[] = {
    GPR32("eax", "int32", X86_RAX), GPR32("ecx", "int32", X86_RCX), GPR32("edx", "int32", X86_RDX), GPR32("ebx", "int32", X86_RBX),
    GPR32("esp", "data_ptr", X86_RSP), GPR32("ebp", "data_ptr", X86_RBP), GPR32("esi", "int32", X86_RSI), GPR32("edi", "int32", X86_RDI),
    GPR64("rax", "int64", X86_RAX), GPR64("rbx", "int64", X86_RBX), GPR64("rcx", "int64", X86_RCX), GPR64("rdx", "int64", X86_RDX),
    GPR64("rsi", "int64", X86_RSI), GPR64("rdi", "int64", X86_RDI), GPR64("rbp", "data_ptr", X86_RBP), GPR64("rsp", "data_ptr", X86_RSP),
    GPR64("r8", "int64", 8), GPR64("r9", "int64", 9), GPR64("r10", "int64", 10), GPR64("r11", "int64", 11),
    GPR64("r12", "int64", 12), GPR64("r13", "int64", 13), GPR64("r14", "int64", 14), GPR64("r15", "int64", 15),
    {"rip", "code_ptr", CORE, 64, PLAIN, 0, ONLY64, S(rip)}, {"eip", "code_ptr", CORE, 32, PLAIN, 0, ONLY32, S(rip)},
    {"eflags", "i386_eflags", CORE, 32, FLAGS, 0, 0, 0},
    SEG("cs", X86_CS), SEG("ss", X86_SS), SEG("ds", X86_DS), SEG("es", X86_ES), SEG("fs", X86_FS), SEG("gs", X86_GS),
    FPR(0), FPR(1), FPR(2), FPR(3), FPR(4), FPR(5), FPR(6), FPR(7),
    CONTROL("fctrl", FCTRL), CONTROL("fstat", FSTAT), CONTROL("ftag", FTAG), CONTROL("fiseg", FISEG), CONTROL("fioff", FIOFF),
    CONTROL("foseg", FOSEG), CONTROL("fooff", FOOFF), CONTROL("fop", FOP),
    XMM(0, 0), XMM(1, 0), XMM(2, 0), XMM(3, 0), XMM(4, 0), XMM(5, 0), XMM(6, 0), XMM(7, 0), XMM(8, ONLY64), XMM(9, ONLY64), XMM(10, ONLY64),
    XMM(11, ONLY64), XMM(12, ONLY64), XMM(13, ONLY64), XMM(14, ONLY64), XMM(15, ONLY64),
    {"mxcsr", "i386_mxcsr", SSE, 32, PLAIN, 0, 0, S(mxcsr)},
    {"fs_base", "int", SEGMENTS, 64, PLAIN, 0, ONLY64, S(seg_base) + 8 * X86_FS}, {"gs_base", "int", SEGMENTS, 64, PLAIN, 0, ONLY64, S(seg_base) + 8 * X86_GS},
    SYS("k_gs_base", kernel_gs_base, ONLY64), SYS("cr0", cr0, WIDE), SYS("cr2", cr2, WIDE), SYS("cr3", cr3, WIDE), SYS("cr4", cr4, WIDE), SYS("efer", efer, ONLY64),
};
enum { REGS = sizeof regs / sizeof *regs };

static bool there(const struct reg *r, bool is64) { return !(r->flags & (is64 ? ONLY32 : ONLY64)); }
static unsigned bits_of(const struct reg *r, bool is64) { return r->flags & WIDE && !is64 ? 32 : r->bits; }

static const struct reg *find(bool is64, unsigned number)
{
    for (const struct reg *r = regs; r < regs + REGS; r++)
        if (there(r, is64) && number-- == 0)
            return r;
    return NULL;
}

unsigned gdb_register_count(bool is64)
{
    unsigned count = 0;
    for (const struct reg *r = regs; r < regs + REGS; r++)
        count += there(r, is64);
    return count;
}

unsigned gdb_register_size(bool is64, unsigned number)
{
    const struct reg *r = find(is64, number);
    return r ? bits_of(r, is64) / 8 : 0;
}

/* --- Values */
static unsigned physical(const struct x86_state *s, unsigned st) { return (s->fptop + st) & 7; }

/* The tag word as FSTENV stores it (SDM 1 8.1.7): 0 valid, 1 zero, 2 special, 3 empty. */
static unsigned tag_word(const struct x86_state *s)
{
    unsigned word = 0;
    for (unsigned i = 0; i < 8; i++) {
        const struct x86_fpr *f = &s->fpr[i];
        unsigned exponent = f->exponent & 0x7fff;
        unsigned tag = !exponent && !f->mantissa ? 1 : !exponent || exponent == 0x7fff || !(f->mantissa >> 63) ? 2 : 0;
        word |= (s->fptag >> i & 1 ? tag : 3) << 2 * i;
    }
    return word;
}

static uint32_t control(const struct x86_state *s, unsigned kind)
{
    switch (kind) {
    case FLAGS: return x86_eflags_get(s);
    case FCTRL: return s->fcw;
    case FSTAT: return s->fsw | (unsigned)s->fptop << 11;
    case FTAG: return tag_word(s);
    case FISEG: return s->fcs;
    case FIOFF: return (uint32_t)s->fip;
    case FOSEG: return s->fds;
    case FOOFF: return (uint32_t)s->fdp;
    default: return s->fop;
    }
}

static void control_set(struct x86_state *s, unsigned kind, uint32_t v)
{
    switch (kind) {
    case FLAGS: x86_eflags_set(s, v, UINT32_MAX); break;
    case FCTRL: s->fcw = (uint16_t)v; break;
    case FSTAT:
        s->fsw = (uint16_t)(v & ~0x3800u);
        s->fptop = v >> 11 & 7;
        break;
    case FTAG:
        s->fptag = 0;
        for (unsigned i = 0; i < 8; i++)
            s->fptag |= (uint8_t)((v >> 2 * i & 3) != 3) << i;
        break;
    case FISEG: s->fcs = (uint16_t)v; break;
    case FIOFF: s->fip = v; break;
    case FOSEG: s->fds = (uint16_t)v; break;
    case FOOFF: s->fdp = v; break;
    default: s->fop = (uint16_t)v; break;
    }
}

unsigned gdb_register_get(const struct x86_state *s, bool is64, unsigned number, uint8_t value[GDB_REGISTER_BYTES])
{
    const struct reg *r = find(is64, number);
    if (!r)
        return 0;
    memset(value, 0, GDB_REGISTER_BYTES);
    if (r->kind == PLAIN) {
        memcpy(value, (const char *)s + r->offset, bits_of(r, is64) / 8);
    } else if (r->kind == SELECTOR) {
        memcpy(value, (const char *)s + r->offset, 2);
    } else if (r->kind == ST) {
        memcpy(value, &s->fpr[physical(s, r->index)].mantissa, 8);
        memcpy(value + 8, &s->fpr[physical(s, r->index)].exponent, 2);
    } else {
        uint32_t v = control(s, r->kind);
        memcpy(value, &v, 4);
    }
    return bits_of(r, is64) / 8;
}

/* What is there stays, hidden part and all: gdb writes all registers to change one. */
static bool selector_set(struct machine *m, enum x86_seg segment, uint16_t selector)
{
    return selector == machine_cpu(m)->state.seg_sel[segment] || machine_segment_load(m, segment, selector);
}

bool gdb_register_set(struct machine *m, bool is64, unsigned number, const uint8_t *value)
{
    struct x86_state *s = &machine_cpu(m)->state;
    const struct reg *r = find(is64, number);
    uint32_t low;
    if (!r)
        return false;
    memcpy(&low, value, 4);
    if (r->kind == SELECTOR)
        return selector_set(m, r->index, (uint16_t)low);
    if (r->kind == PLAIN) {
        memcpy((char *)s + r->offset, value, bits_of(r, is64) / 8);
        s->mxcsr &= 0xffff;
    } else if (r->kind == ST) {
        memcpy(&s->fpr[physical(s, r->index)].mantissa, value, 8);
        memcpy(&s->fpr[physical(s, r->index)].exponent, value + 8, 2);
    } else {
        control_set(s, r->kind, low);
    }
    return true;
}

/* --- Description */
struct bit { const char *name; unsigned at; };
static const struct bit eflags_bits[] = {{"CF", 0}, {"", 1}, {"PF", 2}, {"AF", 4}, {"ZF", 6}, {"SF", 7}, {"TF", 8}, {"IF", 9}, {"DF", 10}, {"OF", 11},
    {"NT", 14}, {"RF", 16}, {"VM", 17}, {"AC", 18}, {"VIF", 19}, {"VIP", 20}, {"ID", 21}, {NULL, 0}};
static const struct bit mxcsr_bits[] = {{"IE", 0}, {"DE", 1}, {"ZE", 2}, {"OE", 3}, {"UE", 4}, {"PE", 5}, {"DAZ", 6}, {"IM", 7}, {"DM", 8}, {"ZM", 9},
    {"OM", 10}, {"UM", 11}, {"PM", 12}, {"FZ", 15}, {NULL, 0}};
static const char vectors[] =
    "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/><vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
    "<vector id=\"v16i8\" type=\"int8\" count=\"16\"/><vector id=\"v8i16\" type=\"int16\" count=\"8\"/>"
    "<vector id=\"v4i32\" type=\"int32\" count=\"4\"/><vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"
    "<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/><field name=\"v2_double\" type=\"v2d\"/>"
    "<field name=\"v16_int8\" type=\"v16i8\"/><field name=\"v8_int16\" type=\"v8i16\"/><field name=\"v4_int32\" type=\"v4i32\"/>"
    "<field name=\"v2_int64\" type=\"v2i64\"/><field name=\"uint128\" type=\"uint128\"/></union>";
static const struct { const char *name, *types, *flags; const struct bit *bits; } features[FEATURES] = {
    [CORE] = {"org.gnu.gdb.i386.core", "", "i386_eflags", eflags_bits}, [SSE] = {"org.gnu.gdb.i386.sse", vectors, "i386_mxcsr", mxcsr_bits},
    [SEGMENTS] = {"org.gnu.gdb.i386.segments", "", NULL, NULL}, [SYSTEM] = {"tierce.i386.system", "", NULL, NULL},
};

static void begin_feature(FILE *f, enum feature feature)
{
    fprintf(f, "<feature name=\"%s\">%s", features[feature].name, features[feature].types);
    if (!features[feature].flags)
        return;
    fprintf(f, "<flags id=\"%s\" size=\"4\">", features[feature].flags);
    for (const struct bit *b = features[feature].bits; b->name; b++)
        fprintf(f, "<field name=\"%s\" start=\"%u\" end=\"%u\"/>", b->name, b->at, b->at);
    fprintf(f, "</flags>");
}

/* The table has each feature's rows together, so that gdb's numbers are ours. */
char *gdb_description(bool is64)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return NULL;
    fprintf(f, "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target version=\"1.0\"><architecture>%s</architecture>",
            is64 ? "i386:x86-64" : "i386");
    int open = -1;
    for (const struct reg *r = regs; r < regs + REGS; r++) {
        if (!there(r, is64))
            continue;
        if (open >= 0 && (int)r->feature != open)
            fprintf(f, "</feature>");
        if ((int)r->feature != open)
            begin_feature(f, r->feature);
        open = (int)r->feature;
        fprintf(f, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\"%s/>", r->name, bits_of(r, is64), r->type,
                r->kind >= FCTRL ? " group=\"float\"" : r->feature == SYSTEM ? " group=\"system\"" : "");
    }
    fprintf(f, "</feature></target>");
    fclose(f);
    return text;
}
