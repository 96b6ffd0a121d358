/* Host code: that of the template backend is made here; both backends' is disassembled, and what it does with its stack frame
 * is told from the text. */
#include "tools/tierce-ir/work.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* --- Reading the disassembler's text */
/* Displacement of the operand [reg], [reg+0x..] or [reg-0x..]; false: there is none. */
static bool operand_of(const char *text, const char *reg, int64_t *disp, const char **at)
{
    char open[8];
    snprintf(open, sizeof open, "[%s", reg);
    if (!(*at = strstr(text, open)))
        return false;
    const char *sign = *at + strlen(open);
    if (*sign != ']' && *sign != '+' && *sign != '-')
        return false;
    *disp = *sign == ']' ? 0 : (int64_t)strtoull(sign + 1, NULL, 16) * (*sign == '-' ? -1 : 1);
    return *sign == ']' || !strncmp(sign + 1, "0x", 2);
}

static bool begins(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (!strncmp(text, *words, strlen(*words)))
            return true;
    return false;
}

/* Does the instruction load or store a value that is kept in the frame at `spills` or above? */
static void find_spill(struct line *l, uint32_t spills)
{
    static const char *const none[] = {"lea", "call", "jmp", "nop", NULL}, *const reads[] = {"cmp", "test", "bt ", "push", "comis", "ucomis", "ptest", NULL},
                      *const writes[] = {"mov", "vmov", "set", "vextract", "pextr", "vpextr", "pop", NULL};
    int64_t disp;
    const char *at;
    if (!operand_of(l->text, "rsp", &disp, &at) || disp < spills || begins(l->text, none))
        return;
    bool first = !memchr(l->text, ',', (size_t)(at - l->text));
    l->loads = !first || begins(l->text, reads) || !begins(l->text, writes);
    l->stores = first && !begins(l->text, reads);
}

/* [rbp+..] is guest state in template code, and before it lies the context. */
#define CONTEXT(field) {#field, (int64_t)offsetof(struct tcg_context, field) - (int64_t)sizeof(struct tcg_context)}
static const struct { const char *name; int64_t disp; } context[] = {
    CONTEXT(write_base), CONTEXT(slow_translate), CONTEXT(stub_call), CONTEXT(stub_slow), CONTEXT(stub_leave), CONTEXT(exit_site), CONTEXT(block), CONTEXT(jumps),
    CONTEXT(miss)};

static void name_slot(struct line *l)
{
    int64_t disp;
    const char *at;
    if (!operand_of(l->text, "rbp", &disp, &at))
        return;
    for (unsigned i = 0; !l->note && i < sizeof context / sizeof *context; i++)
        if (context[i].disp == disp)
            l->note = checked(strdup(context[i].name));
    for (unsigned i = 0; !l->note && i < x86_guest.slot_count; i++)
        if (x86_guest.slots[i].offset == disp)
            l->note = checked(strdup(x86_guest.slots[i].name));
}

/* The address of a helper, which differs from run to run. */
static void name_helper(struct line *l)
{
    const char *at = strncmp(l->text, "mov ", 4) ? NULL : strstr(l->text, ", 0x");
    uint64_t value = at ? strtoull(at + 2, NULL, 16) : 0;
    for (unsigned i = 0; value && !l->note && i < x86_guest.helper_count; i++)
        if ((uint64_t)(uintptr_t)x86_guest.helpers[i].fn == value)
            l->note = checked(strdup(x86_guest.helpers[i].name));
}

/* Instructions from `code` on; l->insn is filled in by who knows. */
void host_lines(struct work *w, enum stage s, int block, const uint8_t *code, uint32_t size, uint32_t spills)
{
    for (uint32_t at = 0; at < size;) {
        char text[128];
        unsigned n = x86_disassemble(X86_MODE_CODE64 | X86_MODE_PE, at, code + at, size - at, text, sizeof text);
        if (!n)
            snprintf(text, sizeof text, "(bad) %02x", code[at]);
        text_shorten(text);
        struct line *l = lines_add(&w->stage[s], block, -1, text, strlen(text));
        l->offset = at;
        l->bytes = code + at;
        l->size = (uint8_t)(n ? n : 1);
        find_spill(l, spills);
        at += l->size;
    }
}

/* --- The template backend */
struct mark { uint32_t host; int32_t guest; bool cold; };
struct marks { struct mark *at; size_t count; };

static void note_line(void *ctx, uint32_t host, int32_t guest, bool cold)
{
    struct marks *m = ctx;
    m->at = checked(realloc(m->at, (m->count + 1) * sizeof *m->at));
    m->at[m->count++] = (struct mark){host, guest, cold};
}

static void name_exits(struct line *l, const struct block *b, const struct tcg_block *code)
{
    for (unsigned i = 0; i < code->exit_count; i++) {
        const struct tcg_exit *e = &code->exits[i];
        char text[64];
        uint32_t displacement = l->offset + l->size - 4; /* the instruction's last bytes */
        if (displacement != e->jump_offset && (!e->late_offset || displacement != e->late_offset))
            continue;
        snprintf(text, sizeof text, "to guest 0x%llx, once chained", (unsigned long long)ir_cut(b->pc + (uint64_t)(int64_t)e->pc_offset, b->lifted.pc_bits));
        free(l->note);
        l->note = checked(strdup(text));
    }
}

static void attribute(struct work *w, int block, const struct tcg_block *code, const struct marks *m)
{
    const struct block *b = &w->blocks[block];
    struct lines *all = &w->stage[OUT_ASM];
    size_t k = 0;
    for (size_t i = 0; i < all->count; i++) {
        struct line *l = &all->at[i];
        if (l->block != block)
            continue;
        while (k < m->count && m->at[k].host <= l->offset)
            k++;
        l->insn = k ? block_insn_at(b, m->at[k - 1].guest) : -1;
        l->cold = k && m->at[k - 1].cold;
        name_slot(l);
        name_helper(l);
        name_exits(l, b, code);
    }
}

bool tcg_make(struct work *w, unsigned index)
{
    struct block *b = &w->blocks[index];
    struct marks marks = {0};
    struct tcg_block code;
    const struct tcg_options options = {.guest = &x86_guest, .pc = b->pc, .icount = w->o.icount, .code = b->bytes, .line = note_line, .line_ctx = &marks};
    enum tcg_result result = tcg_compile(w->buffer, &w->buffer_at, 64 << 20, &b->optimised, &options, &code);
    if (result == TCG_FULL)
        die(1, "the code of so many blocks does not fit the buffer: --blocks");
    b->code_size = result == TCG_OK ? code.code_size : 0;
    if (result == TCG_OK) {
        host_lines(w, OUT_ASM, (int)index, code.entry, code.code_size, TCG_SPILLS);
        attribute(w, (int)index, &code, &marks);
        free(code.sites);
    }
    free(marks.at);
    return result == TCG_OK;
}
