/* Text, stage after stage, and the table of counts.  All that is not IR begins with `;`, a comment of the IR's text form: what
 * --stage ir prints is what --ir reads. */
#include "tools/tierce-ir/work.h"
#include <stdlib.h>
#include <string.h>

char *insn_text(const struct work *w, int block, int insn)
{
    const struct block *b = &w->blocks[block];
    const struct guest_insn *g = &b->insns[insn];
    char text[160];
    int n = snprintf(text, sizeof text, "0x%llx", (unsigned long long)ir_cut(b->pc + g->offset, b->lifted.pc_bits));
    for (size_t i = 0; i < w->stage[IN_ASM].count; i++) {
        const struct line *l = &w->stage[IN_ASM].at[i];
        if (l->block == block && l->insn == insn)
            snprintf(text + n, sizeof text - (size_t)n, " %s", l->text);
    }
    return checked(strdup(text));
}

static void print_bytes(FILE *out, const uint8_t *bytes, unsigned size, unsigned room)
{
    for (unsigned i = 0; i < size; i++)
        fprintf(out, "%02x", bytes[i]);
    fprintf(out, "%*s", size < room ? (int)(2 * (room - size)) : 0, "");
}

static void print_in_asm(const struct work *w, const struct line *l, FILE *out)
{
    const struct block *b = &w->blocks[l->block];
    fprintf(out, "0x%llx:  ", (unsigned long long)(b->pc + l->offset));
    print_bytes(out, b->bytes + l->offset, l->size, 8);
    fprintf(out, "  %s\n", l->text);
}

/* Where the guest instruction changes, it is named. */
static void print_host(const struct work *w, const struct line *l, const struct line *before, FILE *out)
{
    if (!before || before->region != l->region || before->block != l->block || before->insn != l->insn || before->cold != l->cold) {
        char *text = l->block >= 0 && l->insn >= 0 ? insn_text(w, l->block, l->insn) : NULL;
        if (text || before)
            fprintf(out, "; %s%s\n", l->cold ? "cold: " : "", text ? text : "of no guest instruction");
        free(text);
    }
    fprintf(out, "  %4x:  ", l->offset);
    print_bytes(out, l->bytes, l->size, 9);
    fprintf(out, l->note ? "  %-44s ; %s\n" : "  %s\n", l->text, l->note);
}

static void print_line(const struct work *w, enum stage s, const struct line *l, const struct line *before, FILE *out)
{
    if (s == IN_ASM)
        print_in_asm(w, l, out);
    else if (s == OUT_ASM || s == LLVM_ASM)
        print_host(w, l, before, out);
    else
        fprintf(out, "%s\n", l->text);
}

static void print_region_head(const struct work *w, enum stage s, int region, FILE *out)
{
    const struct region *r = &w->regions[region];
    fprintf(out, "%s; %s of region %d at 0x%llx, %u block%s\n", region ? "\n" : "", stage_names[s], region, (unsigned long long)w->blocks[r->first].pc, r->block_count,
            r->block_count == 1 ? "" : "s");
}

static void print_stage(const struct work *w, enum stage s, int block, FILE *out)
{
    const struct lines *all = &w->stage[s];
    const struct line *before = NULL;
    bool region = STAGE(s) & LLVM_STAGES;
    if (!region)
        fprintf(out, "; %s of block %d at 0x%llx\n", stage_names[s], block, (unsigned long long)w->blocks[block].pc);
    if (s == OUT_ASM && !w->blocks[block].code_size)
        fprintf(out, "; too complex for the template backend: it is interpreted\n");
    for (size_t i = 0; i < all->count; i++) {
        const struct line *l = &all->at[i];
        if ((!region && l->block != block) || (l->cold && w->o.hot))
            continue;
        if (region && (!before || before->region != l->region)) {
            print_region_head(w, s, l->region, out);
            before = NULL;
        }
        print_line(w, s, l, before, out);
        before = l;
    }
    fputc('\n', out);
}

void print_stages(const struct work *w, FILE *out)
{
    for (unsigned b = 0; b < w->block_count; b++)
        for (unsigned s = 0; s < STAGES; s++)
            if (w->o.stages & STAGE(s) & ~LLVM_STAGES)
                print_stage(w, s, (int)b, out);
    for (unsigned s = 0; s < STAGES; s++)
        if (w->o.stages & STAGE(s) & LLVM_STAGES)
            print_stage(w, s, -1, out);
}

/* --- The table */
/* Instructions are cut to what the numbers leave of the width. */
enum { NAME_MOST = 44, NAME_LEAST = 16, NUMBERS = 58, LLVM_NUMBERS = 37 };
static int name_width(const struct work *w)
{
    int room = (int)print_width(&w->o) - NUMBERS - (w->llvm_size ? LLVM_NUMBERS : 0);
    return room < NAME_LEAST ? NAME_LEAST : room > NAME_MOST ? NAME_MOST : room;
}

static void print_host_count(FILE *out, const struct host_count *c)
{
    fprintf(out, " | %5u %5u %4u %4u %5u %5u", c->hot.insns, c->hot.bytes, c->hot.loads, c->hot.stores, c->cold.insns, c->cold.bytes);
}

static void print_row(const struct work *w, FILE *out, const char *name, unsigned bytes, const struct count *c)
{
    int width = name_width(w);
    fprintf(out, "; %-*.*s %5u | %5u %5u", width, width, name, bytes, c->ops, c->ops_opt);
    print_host_count(out, &c->tcg);
    if (w->llvm_size)
        print_host_count(out, &c->llvm);
    fputc('\n', out);
}

static bool is_zero(const struct count *c)
{
    static const struct count zero;
    return !memcmp(c, &zero, sizeof zero);
}

static void print_block_rows(const struct work *w, unsigned block, FILE *out)
{
    const struct block *b = &w->blocks[block];
    if (w->block_count > 1)
        fprintf(out, "; --- block %u\n", block);
    for (unsigned i = 0; i < b->insn_count; i++) {
        char *text = insn_text(w, (int)block, (int)i);
        print_row(w, out, text, b->insns[i].size, &b->insns[i].count);
        free(text);
    }
    if (!is_zero(&b->other))
        print_row(w, out, "(of none)", 0, &b->other);
}

static void print_ratio_host(FILE *out, const struct host_count *c, double insns)
{
    fprintf(out, " | %5.1f %5.1f %4.1f %4.1f %5.1f %5.1f", c->hot.insns / insns, c->hot.bytes / insns, c->hot.loads / insns, c->hot.stores / insns,
            c->cold.insns / insns, c->cold.bytes / insns);
}

static void print_ratios(const struct work *w, FILE *out, const struct total *t)
{
    double insns = t->insns ? t->insns : 1;
    fprintf(out, "; %-*.*s %5.1f | %5.1f %5.1f", name_width(w), name_width(w), "per guest instruction", t->bytes / insns, t->count.ops / insns, t->count.ops_opt / insns);
    print_ratio_host(out, &t->count.tcg, insns);
    if (w->llvm_size)
        print_ratio_host(out, &t->count.llvm, insns);
    fputc('\n', out);
}

static void print_remarks(const struct work *w, FILE *out)
{
    if (w->llvm_size)
        fprintf(out, "; LLVM: %u region%s, IR built in %.2f ms, passes %.2f ms, emission %.2f ms, %u side exits\n", w->region_count, w->region_count == 1 ? "" : "s", (double)w->build_ns / 1e6, (double)w->pass_ns / 1e6,
                (double)w->emit_ns / 1e6, w->side_exits);
    if (*w->llvm_refused)
        fprintf(out, "; LLVM: %s\n", w->llvm_refused);
    for (unsigned i = 0; i < w->block_count; i++)
        if (w->blocks[i].refused)
            fprintf(out, "; LLVM: no region has block %u, for `%s`\n", i, w->blocks[i].refused);
    if (w->unreached && !w->more_blocks)
        fprintf(out, "; %llu bytes belong to no block: no direct jump leads there\n", (unsigned long long)w->unreached);
    if (w->more_blocks)
        fprintf(out, "; there are more than %u blocks: --blocks\n", w->o.blocks);
}

void print_summary(const struct work *w, FILE *out)
{
    struct total t = total_of(w);
    int width = name_width(w);
    fprintf(out, "; %-*s %5s | %-11s | %-32s%s\n", width, "", "guest", "IR ops", "template code: hot, spills, cold", w->llvm_size ? " | LLVM code: hot, spills, cold" : "");
    fprintf(out, "; %-*.*s %5s | %5s %5s | %5s %5s %4s %4s %5s %5s", width, width, "guest instruction", "bytes", "lift", "opt", "insns", "bytes", "ld", "st", "insns", "bytes");
    fprintf(out, w->llvm_size ? " | insns bytes   ld   st insns bytes\n" : "\n");
    for (unsigned i = 0; i < w->block_count; i++)
        print_block_rows(w, i, out);
    struct count region = {.llvm = w->llvm_other};
    if (!is_zero(&region))
        print_row(w, out, "(of the region)", 0, &region);
    char name[64];
    snprintf(name, sizeof name, "total: %u guest instruction%s, %u block%s", t.insns, t.insns == 1 ? "" : "s", w->block_count, w->block_count == 1 ? "" : "s");
    print_row(w, out, name, t.bytes, &t.count);
    print_ratios(w, out, &t);
    print_remarks(w, out);
}
