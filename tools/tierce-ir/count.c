/* Adding up: IR operations, host instructions, bytes and spills of each guest instruction. */
#include "tools/tierce-ir/work.h"

static struct count *count_of(struct block *b, int insn) { return insn < 0 ? &b->other : &b->insns[insn].count; }

static void count_ir(struct block *b, const struct ir_block *ir, bool optimised)
{
    int insn = -1;
    for (uint32_t n = 0; n < ir->count; n++) {
        if (ir->insns[n].op == IR_insn) { /* a mark, no work */
            insn = block_insn_at(b, ir->insns[n].imm);
            continue;
        }
        struct count *c = count_of(b, insn);
        ++*(optimised ? &c->ops_opt : &c->ops);
    }
}

static void count_line(struct host_count *c, const struct line *l)
{
    struct host_sum *s = l->cold ? &c->cold : &c->hot;
    s->insns++;
    s->bytes += l->size;
    s->loads += l->loads;
    s->stores += l->stores;
}

void count_all(struct work *w)
{
    for (unsigned i = 0; i < w->block_count; i++) {
        count_ir(&w->blocks[i], &w->blocks[i].lifted, false);
        count_ir(&w->blocks[i], &w->blocks[i].optimised, true);
    }
    for (size_t i = 0; i < w->stage[OUT_ASM].count; i++) {
        const struct line *l = &w->stage[OUT_ASM].at[i];
        count_line(&count_of(&w->blocks[l->block], l->insn)->tcg, l);
    }
    for (size_t i = 0; i < w->stage[LLVM_ASM].count; i++) {
        const struct line *l = &w->stage[LLVM_ASM].at[i];
        count_line(l->block < 0 ? &w->llvm_other : &count_of(&w->blocks[l->block], l->insn)->llvm, l);
    }
}

static void add_sum(struct host_sum *to, const struct host_sum *s)
{
    to->insns += s->insns, to->bytes += s->bytes, to->loads += s->loads, to->stores += s->stores;
}

static void add_host(struct host_count *to, const struct host_count *c)
{
    add_sum(&to->hot, &c->hot);
    add_sum(&to->cold, &c->cold);
}

void count_add(struct count *to, const struct count *c)
{
    to->ops += c->ops, to->ops_opt += c->ops_opt;
    add_host(&to->tcg, &c->tcg);
    add_host(&to->llvm, &c->llvm);
}

struct count count_block(const struct block *b)
{
    struct count sum = b->other;
    for (unsigned i = 0; i < b->insn_count; i++)
        count_add(&sum, &b->insns[i].count);
    return sum;
}

struct total total_of(const struct work *w)
{
    struct total t = {0};
    for (unsigned i = 0; i < w->block_count; i++) {
        struct count c = count_block(&w->blocks[i]);
        count_add(&t.count, &c);
        t.insns += w->blocks[i].insn_count;
        for (unsigned k = 0; k < w->blocks[i].insn_count; k++)
            t.bytes += w->blocks[i].insns[k].size;
    }
    add_host(&t.count.llvm, &w->llvm_other);
    return t;
}
