/* What a Linux kernel without symbols says of its code: the tables of the ORC unwinder, exported symbols, exception fixups; and what it
 * writes over in its own text before it gets hot, as far as the file tells: returns, hooks of the function tracer, alternatives, LOCK
 * prefixes.  What it decides when it runs (static calls and branches, the mitigation of a CPU's faults) and the addresses that KASLR moves are not known. */
#include "tools/tierce-cache/image.h"
#include "frontend/frontend.h"
#include <string.h>

static int32_t s32_at(const struct part *p, size_t at) { int32_t v; memcpy(&v, p->bytes + at, 4); return v; }
static uint64_t u64_at(const struct part *p, size_t at) { uint64_t v; memcpy(&v, p->bytes + at, 8); return v; }

bool kernel_is(const struct image *m) { return image_part(m, "__ksymtab") && image_part(m, "__ex_table") && image_part(m, ".init.text"); }

/* --- Entries.  Words of 32 bits that are distances from their own places, one or more a row. */
static bool add_relative(struct image *m, const char *name, unsigned row, unsigned at, struct failure *f)
{
    const struct part *p = image_part(m, name);
    for (size_t n = 0; p && n + row <= p->size; n += row)
        if (!image_add_entry(m, p->pc + n + at + (uint64_t)(int64_t)s32_at(p, n + at), f))
            return false;
    return true;
}

/* ORC: where the stack is as a call left it, a function may begin; and a row says where the one before ends.
 * struct orc_entry: sp_offset (16), bp_offset (16), sp_reg:4, bp_reg:4, type:2 ... (arch/x86/include/asm/orc_types.h) */
enum { ORC_ROW = 6, SP_REG_UNDEFINED = 0, SP_REG_SP = 5 };
static bool add_orc(struct image *m, struct failure *f)
{
    const struct part *ips = image_part(m, ".orc_unwind_ip"), *rows = image_part(m, ".orc_unwind");
    if (!ips || !rows || ips->size / 4 != rows->size / ORC_ROW)
        return true;
    size_t count = ips->size / 4;
    bool ended = true;
    for (size_t n = 0; n < count; n++) {
        uint64_t ip = ips->pc + 4 * n + (uint64_t)(int64_t)s32_at(ips, 4 * n);
        const uint8_t *row = rows->bytes + n * ORC_ROW;
        int16_t sp;
        memcpy(&sp, row, 2);
        unsigned reg = row[4] & 15;
        bool begins = reg == SP_REG_SP && sp == 8;
        if (begins && (ended || !(ip & 15)) && !image_add_entry(m, ip, f))
            return false;
        ended = reg == SP_REG_UNDEFINED;
    }
    return true;
}

/* The sorted list of calls of __fentry__, the hook of the function tracer: the longest run of rising addresses of calls that go to one place.  Nearly each
 * function begins with one. */
struct tracer { const struct part *in; size_t at, count; };
static struct tracer tracer_find(const struct image *m)
{
    struct tracer best = {.in = image_part(m, ".init.data")};
    size_t count = 0, from = 0;
    uint64_t callee = 0, before = 0;
    for (size_t n = 0; best.in && n + 8 <= best.in->size; n += 8) {
        uint64_t pc = u64_at(best.in, n);
        const uint8_t *at = image_code(m, pc, 5);
        bool call = at && *at == 0xe8;
        uint64_t to = call ? pc + 5 + (uint64_t)(int64_t)(int32_t)(at[1] | at[2] << 8 | at[3] << 16 | (uint32_t)at[4] << 24) : 0;
        if (!call || (count && (to != callee || pc <= before)))
            count = 0;
        if (call && !count++)
            from = n, callee = to;
        before = pc;
        if (count > best.count)
            best.at = from, best.count = count;
    }
    if (best.count < 100)
        best.count = 0;
    return best;
}

static bool add_traced(struct image *m, struct failure *f)
{
    const struct tracer t = tracer_find(m);
    for (size_t n = 0; n < t.count; n++)
        if (!image_add_entry(m, u64_at(t.in, t.at + 8 * n), f))
            return false;
    return true;
}

bool kernel_entries(struct image *m, struct failure *f)
{
    /* kernel_symbol: value, name, namespace; exception_table_entry: insn, fixup, data */
    return add_relative(m, "__ksymtab", 12, 0, f) && add_relative(m, "__ksymtab_gpl", 12, 0, f) && add_relative(m, "__ex_table", 12, 4, f) && add_orc(m, f) && add_traced(m, f);
}

/* --- What it writes over */
static uint8_t *text_at(struct image *m, uint64_t pc, size_t size) { return (uint8_t *)(uintptr_t)image_code(m, pc, size); }

/* Returns that go by __x86_return_thunk are plain where the CPU needs no such care. */
static void patch_returns(struct image *m)
{
    const struct part *p = image_part(m, ".return_sites");
    for (size_t n = 0; p && n + 4 <= p->size; n += 4) {
        uint8_t *at = text_at(m, p->pc + n + (uint64_t)(int64_t)s32_at(p, n), 5);
        if (!at || *at != 0xe9)
            continue;
        memcpy(at, "\xc3\xcc\xcc\xcc\xcc", 5);
        m->patched++;
    }
}

void kernel_patch_tracer(struct image *m)
{
    const struct tracer t = tracer_find(m);
    for (size_t n = 0; n < t.count; n++) {
        memcpy(text_at(m, u64_at(t.in, t.at + 8 * n), 5), "\x0f\x1f\x44\0\0", 5);
        m->patched++;
    }
}

/* Alternatives: struct alt_instr of Linux 6.1 (12 bytes): instr, repl (32 bits each), cpuid (16), lengths.  Which features the CPU has is asked by CPUID, in the
 * kernel's words: 32 a word.  Those that the kernel makes up (words 3, 7, 8, 11) are not known here. */
static bool cpu_has(const struct x86_cpu *cpu, unsigned feature, bool *known)
{
    static const struct { uint32_t leaf, subleaf; uint8_t reg; } words[] = {[0] = {1, 0, 3}, [1] = {0x80000001, 0, 3}, [4] = {1, 0, 2}, [6] = {0x80000001, 0, 2},
                                                                           [9] = {7, 0, 1}, [10] = {0xd, 1, 0}, [16] = {7, 0, 2}, [18] = {7, 0, 3}};
    unsigned word = feature / 32;
    uint32_t r[4];
    *known = word < sizeof words / sizeof *words && words[word].leaf;
    if (!*known)
        return false;
    x86_cpuid(cpu, words[word].leaf, words[word].subleaf, r);
    return r[words[word].reg] >> feature % 32 & 1;
}

static void nops(uint8_t *at, size_t size)
{
    static const uint8_t nop[9][8] = {{0}, {0x90}, {0x66, 0x90}, {0x0f, 0x1f, 0}, {0x0f, 0x1f, 0x40, 0}, {0x0f, 0x1f, 0x44, 0, 0}, {0x66, 0x0f, 0x1f, 0x44, 0, 0},
                                      {0x0f, 0x1f, 0x80, 0, 0, 0, 0}, {0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0}};
    while (size) {
        size_t n = size < 8 ? size : 8;
        memcpy(at, nop[n], n);
        at += n;
        size -= n;
    }
}

static void patch_alternative(struct image *m, const struct part *replacements, uint64_t pc, uint64_t with, unsigned length, unsigned with_length)
{
    uint8_t *at = text_at(m, pc, length);
    uint64_t offset = with - replacements->pc;
    int32_t distance;
    if (!at || with_length > length || offset > replacements->size || with_length > replacements->size - offset)
        return;
    const uint8_t *from = replacements->bytes + offset;
    memcpy(at, from, with_length);
    if (with_length == 5 && (*from == 0xe8 || *from == 0xe9)) { /* its distance is from where it stands */
        memcpy(&distance, from + 1, 4);
        distance += (int32_t)(with - pc);
        memcpy(at + 1, &distance, 4);
    }
    nops(at + with_length, length - with_length);
    m->patched++;
}

static void mode_changed(struct x86_cpu *cpu) { (void)cpu; }

static void patch_alternatives(struct image *m, const struct x86_model *model)
{
    const struct part *p = image_part(m, ".altinstructions"), *replacements = image_part(m, ".altinstr_replacement");
    static const struct x86_bus bus = {.mode_changed = mode_changed};
    struct x86_cpu cpu = {.model = model, .bus = &bus};
    x86_reset(&cpu, X86_RESET_POWER);
    for (size_t n = 0; p && replacements && n + 12 <= p->size; n += 12) {
        uint16_t feature;
        bool known;
        memcpy(&feature, p->bytes + n + 8, 2);
        bool inverted = feature & 0x8000, has = cpu_has(&cpu, feature & 0x7fff, &known);
        if (known && has != inverted)
            patch_alternative(m, replacements, p->pc + n + (uint64_t)(int64_t)s32_at(p, n), p->pc + n + 4 + (uint64_t)(int64_t)s32_at(p, n + 4), p->bytes[n + 10],
                              p->bytes[n + 11]);
    }
}

/* LOCK prefixes, on a machine of one CPU. */
static void patch_locks(struct image *m)
{
    const struct part *p = image_part(m, ".smp_locks");
    for (size_t n = 0; p && n + 4 <= p->size; n += 4) {
        uint8_t *at = text_at(m, p->pc + n + (uint64_t)(int64_t)s32_at(p, n), 1);
        if (!at || *at != 0xf0)
            continue;
        *at = 0x3e;
        m->patched++;
    }
}

void kernel_patch(struct image *m, const struct x86_model *model)
{
    patch_returns(m);
    patch_alternatives(m, model);
    patch_locks(m);
}
