/* Everything as one JSON object.  Addresses are strings, as they may have more bits than a JSON number. */
#include "tools/tierce-ir/work.h"
#include <stdlib.h>
#include <string.h>

static void print_pc(FILE *out, uint64_t pc) { fprintf(out, "\"pc\": \"0x%llx\"", (unsigned long long)pc); }

static void print_hex(FILE *out, const uint8_t *bytes, unsigned size)
{
    fputs("\"bytes\": \"", out);
    for (unsigned i = 0; i < size; i++)
        fprintf(out, "%02x", bytes[i]);
    fputc('"', out);
}

static void print_sum(FILE *out, const char *name, const struct host_sum *s)
{
    fprintf(out, "\"%s\": {\"insns\": %u, \"bytes\": %u, \"spill_loads\": %u, \"spill_stores\": %u}", name, s->insns, s->bytes, s->loads, s->stores);
}

static void print_host_count(FILE *out, const char *name, const struct host_count *c)
{
    fprintf(out, ", \"%s\": {", name);
    print_sum(out, "hot", &c->hot);
    fputs(", ", out);
    print_sum(out, "cold", &c->cold);
    fputc('}', out);
}

static void print_count(const struct work *w, FILE *out, const struct count *c)
{
    fprintf(out, "{\"ir_ops\": %u, \"ir_opt_ops\": %u", c->ops, c->ops_opt);
    print_host_count(out, "tcg", &c->tcg);
    if (w->llvm_size)
        print_host_count(out, "llvm", &c->llvm);
    fputc('}', out);
}

static void print_insn(const struct work *w, int block, int insn, FILE *out)
{
    const struct block *b = &w->blocks[block];
    const struct guest_insn *g = &b->insns[insn];
    fputc('{', out);
    print_pc(out, ir_cut(b->pc + g->offset, b->lifted.pc_bits));
    fprintf(out, ", \"length\": %u, ", g->size);
    if (b->bytes) {
        print_hex(out, b->bytes + g->offset, g->size);
        fputs(", \"text\": ", out);
        char *text = insn_text(w, block, insn);
        json_string(out, strchr(text, ' ') ? strchr(text, ' ') + 1 : "");
        free(text);
        fputs(", ", out);
    }
    fputs("\"count\": ", out);
    print_count(w, out, &g->count);
    fputc('}', out);
}

/* One string of the lines. */
static void print_text(const struct work *w, enum stage s, int block, FILE *out)
{
    const struct lines *all = &w->stage[s];
    bool region = STAGE(s) & LLVM_STAGES;
    fprintf(out, ",\n   \"%s\": [", stage_names[s]);
    for (size_t i = 0, n = 0; i < all->count; i++) {
        if (!region && all->at[i].block != block)
            continue;
        fputs(n++ ? ", " : "", out);
        json_string(out, all->at[i].text);
    }
    fputc(']', out);
}

static void print_host(const struct work *w, enum stage s, int block, FILE *out)
{
    const struct lines *all = &w->stage[s];
    bool region = STAGE(s) & LLVM_STAGES;
    fprintf(out, ",\n   \"%s\": [", stage_names[s]);
    for (size_t i = 0, n = 0; i < all->count; i++) {
        const struct line *l = &all->at[i];
        if (!region && l->block != block)
            continue;
        fprintf(out, "%s\n    {\"offset\": %u, ", n++ ? "," : "", l->offset);
        print_hex(out, l->bytes, l->size);
        fputs(", \"text\": ", out);
        json_string(out, l->text);
        if (l->note) {
            fputs(", \"note\": ", out);
            json_string(out, l->note);
        }
        if (region)
            fprintf(out, ", \"region\": %d, \"block\": %d", l->region, l->block);
        fprintf(out, ", \"insn\": %d, \"cold\": %s, \"spill_load\": %s, \"spill_store\": %s}", l->insn, l->cold ? "true" : "false", l->loads ? "true" : "false",
                l->stores ? "true" : "false");
    }
    fputc(']', out);
}

static void print_block(const struct work *w, int block, FILE *out)
{
    const struct block *b = &w->blocks[block];
    struct count sum = count_block(b);
    fputs("  {", out);
    print_pc(out, b->pc);
    fputs(", \"insns\": [", out);
    for (unsigned i = 0; i < b->insn_count; i++) {
        fputs(i ? ",\n    " : "\n    ", out);
        print_insn(w, block, (int)i, out);
    }
    fputs("],\n   \"other\": ", out); /* code that belongs to none of them */
    print_count(w, out, &b->other);
    fputs(",\n   \"total\": ", out);
    print_count(w, out, &sum);
    fprintf(out, ",\n   \"code_size\": %u", b->code_size);
    print_text(w, IR, block, out);
    print_text(w, IR_OPT, block, out);
    print_host(w, OUT_ASM, block, out);
    if (w->llvm_size)
        fprintf(out, ",\n   \"region\": %d", b->region);
    if (b->refused) {
        fputs(",\n   \"llvm_refused\": ", out);
        json_string(out, b->refused);
    }
    fputc('}', out);
}

static void print_regions(const struct work *w, FILE *out)
{
    if (*w->llvm_refused) {
        fputs(" \"llvm_refused\": ", out);
        json_string(out, w->llvm_refused);
        fputs(",\n", out);
    }
    if (!w->llvm_size)
        return;
    fprintf(out, " \"llvm\": {\"code_size\": %u, \"build_ns\": %llu, \"pass_ns\": %llu, \"emit_ns\": %llu, \"side_exits\": %u", w->llvm_size,
            (unsigned long long)w->build_ns, (unsigned long long)w->pass_ns, (unsigned long long)w->emit_ns, w->side_exits);
    print_host_count(out, "other", &w->llvm_other);
    fputs(", \"regions\": [", out);
    for (unsigned i = 0; i < w->region_count; i++) {
        fputs(i ? ", {" : "{", out);
        print_pc(out, w->blocks[w->regions[i].first].pc);
        fprintf(out, ", \"blocks\": %u, \"code_size\": %u}", w->regions[i].block_count, w->regions[i].size);
    }
    fputc(']', out);
    print_text(w, LLVM_IR, -1, out);
    print_text(w, LLVM_OPT, -1, out);
    print_host(w, LLVM_ASM, -1, out);
    fputs("},\n", out);
}

void print_json(const struct work *w, FILE *out)
{
    struct total t = total_of(w);
    fprintf(out, "{\"mode\": %u, \"icount\": %s, \"unreached\": %llu, \"more_blocks\": %s,\n \"blocks\": [\n", w->mode, w->o.icount ? "true" : "false",
            (unsigned long long)w->unreached, w->more_blocks ? "true" : "false");
    for (unsigned i = 0; i < w->block_count; i++) {
        print_block(w, (int)i, out);
        fputs(i + 1 < w->block_count ? ",\n" : "],\n", out);
    }
    print_regions(w, out);
    fprintf(out, " \"guest_insns\": %u, \"guest_bytes\": %u, \"total\": ", t.insns, t.bytes);
    print_count(w, out, &t.count);
    fputs("}\n", out);
}
