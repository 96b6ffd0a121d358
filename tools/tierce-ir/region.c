/* The blocks as regions of the LLVM tier: their LLVM IR before and after the passes, and the code of their objects.  Which guest
 * instruction a line comes from, LLVM's own line numbers say.  A region has what direct jumps lead to from its first block; a
 * block that is in none so far, like one behind a call, begins another. */
#include "tools/tierce-ir/work.h"
#ifdef TIERCE_LLVM
#include "backend-llvm/backend-llvm.h"
#include <stdlib.h>
#include <string.h>

struct place { int block, insn; };
static const struct place nowhere = {-1, -1};

/* Of the region that is being made, by its first block's PC.  Where blocks overlap, the first that has it. */
static struct place place_at(const struct work *w, int64_t offset)
{
    int region = (int)w->region_count - 1;
    uint64_t pc = w->blocks[w->regions[region].first].pc + (uint64_t)offset;
    for (unsigned i = 0; i < w->block_count; i++) {
        const struct block *b = &w->blocks[i];
        int insn = b->region == region ? block_insn_at(b, ir_signed(pc - b->pc, b->lifted.pc_bits)) : -1;
        if (insn >= 0)
            return (struct place){(int)i, insn};
    }
    return nowhere;
}

/* --- LLVM IR: `..., !dbg !7` and, at the end, `!7 = !DILocation(line: ...` */
struct locations { uint32_t *line; size_t count; };

static void read_locations(struct locations *l, const char *text)
{
    static const char is[] = " = !DILocation(line: ";
    for (const char *at = text; (at = strstr(at, is)); at += sizeof is) {
        const char *digits = at;
        while (digits > text && digits[-1] >= '0' && digits[-1] <= '9')
            digits--;
        size_t number = strtoul(digits, NULL, 10);
        if (digits == at || number > 10000000)
            continue;
        if (number >= l->count) {
            l->line = checked(realloc(l->line, (number + 1) * sizeof *l->line));
            memset(l->line + l->count, 0, (number + 1 - l->count) * sizeof *l->line);
            l->count = number + 1;
        }
        l->line[number] = (uint32_t)strtoul(at + sizeof is - 1, NULL, 10);
    }
}

static struct place place_of(const struct work *w, const struct locations *l, const char *text)
{
    const char *at = strstr(text, "!dbg !");
    size_t number = at ? strtoul(at + 6, NULL, 10) : 0;
    if (!at || number >= l->count || !l->line[number])
        return nowhere;
    return place_at(w, (int32_t)(l->line[number] - OBJECT_LINE_BASE));
}

/* A label, the lines of a switch but the last: counted to what comes next. */
static bool goes_with_next(const char *text)
{
    size_t n = strlen(text);
    return strncmp(text, "  ", 2) || !strncmp(text, "    ", 4) || text[n - 1] == '[';
}

static void fill_places(struct lines *all, size_t from)
{
    for (size_t i = all->count - 1; i-- > from;) {
        struct line *l = &all->at[i];
        const struct line *next = l + 1;
        if (!l->cold && !next->cold && goes_with_next(l->text))
            l->block = next->block, l->insn = next->insn;
    }
}

/* Cold is what stands outside of functions: types, metadata. */
static void ir_text(struct work *w, enum stage s, const char *text)
{
    struct locations where = {0};
    struct lines *all = &w->stage[s];
    size_t from = all->count;
    bool inside = false;
    read_locations(&where, text);
    while (*text) {
        size_t n = strcspn(text, "\n");
        bool opens = !strncmp(text, "define ", 7), closes = *text == '}';
        struct line *l = lines_add(all, -1, -1, text, n);
        inside |= opens;
        l->cold = !inside;
        l->region = (int)w->region_count - 1;
        struct place p = inside && !opens ? place_of(w, &where, l->text) : nowhere;
        l->block = p.block, l->insn = p.insn;
        inside &= !closes;
        text += n + (text[n] == '\n');
    }
    if (all->count > from)
        fill_places(all, from);
    free(where.line);
}

static void take_text(void *ctx, enum llvm_stage stage, const char *text)
{
    struct work *w = ctx;
    if (stage == LLVM_STAGE_IR)
        ir_text(w, LLVM_IR, text);
    else if (stage == LLVM_STAGE_OPT)
        ir_text(w, LLVM_OPT, text);
}

/* --- The code, from the object as the runtime installs it */
static void attribute(struct work *w, size_t from, const struct object_meta *meta)
{
    unsigned k = 0;
    for (size_t i = from; i < w->stage[LLVM_ASM].count; i++) {
        struct line *l = &w->stage[LLVM_ASM].at[i];
        while (k < meta->line_count && meta->lines[k].host <= meta->entry + l->offset)
            k++;
        struct place p = k ? place_at(w, meta->lines[k - 1].pc) : nowhere;
        l->block = p.block, l->insn = p.insn;
        l->region = (int)w->region_count - 1;
    }
}

static void take_code(struct work *w, struct region *r, const struct llvm_compiled *c)
{
    struct lines *all = &w->stage[LLVM_ASM];
    size_t from = all->count;
    struct object_view view;
    char error[200];
    r->object = c->elf;
    if (!object_open(c->elf, c->elf_size, &view, error, sizeof error))
        die(1, "the region's object: %s", error);
    r->size = (uint32_t)view.code_size;
    w->llvm_size += r->size;
    w->build_ns += c->build_ns;
    w->pass_ns += c->pass_ns;
    w->emit_ns += c->emit_ns;
    w->side_exits += c->side_exits;
    host_lines(w, LLVM_ASM, -1, view.text + view.meta.entry, r->size, 0);
    attribute(w, from, &view.meta);
    loops_find(all->at + from, (uint32_t)(all->count - from));
    object_close(&view);
}

/* --- Which blocks make a region */
/* The block's way into one that is in no region yet. */
static int next_block(const struct work *w, const struct block *from)
{
    for (uint32_t n = 0; n < from->optimised.count; n++) {
        const struct ir_insn *i = &from->optimised.insns[n];
        for (unsigned k = 0; (i->op == IR_exit_if || i->op == IR_jump) && k < w->block_count; k++)
            if (w->blocks[k].region < 0 && !w->blocks[k].refused && w->blocks[k].pc == ir_cut(from->pc + (uint64_t)i->imm, from->lifted.pc_bits))
                return (int)k;
    }
    return -1;
}

static unsigned grow(struct work *w, unsigned first)
{
    int region = (int)w->region_count - 1;
    unsigned count = 1;
    w->blocks[first].region = region;
    for (unsigned i = 0; i < w->block_count;) {
        int next = w->blocks[i].region == region ? next_block(w, &w->blocks[i]) : -1;
        if (next < 0) {
            i++;
            continue;
        }
        w->blocks[next].region = region;
        count++;
        i = (unsigned)next < i ? (unsigned)next : i;
    }
    return count;
}

/* What a profile would say of every access of the block; NULL: nothing. */
static uint8_t *seen_of(const struct work *w, const struct ir_block *ir)
{
    static const uint8_t seen[] = {[ALIGNED] = LLVM_SEEN, [MOVING] = LLVM_SEEN | LLVM_SEEN_OTHER_PAGE, [MISALIGNED] = LLVM_SEEN | LLVM_SEEN_MISALIGNED};
    return w->o.accesses == UNKNOWN ? NULL : memset(checked(malloc(ir->count + 1)), seen[w->o.accesses], ir->count + 1);
}

static void compile(struct work *w, struct region *r)
{
    struct llvm_block *blocks = checked(calloc(r->block_count, sizeof *blocks));
    struct llvm_compiled compiled;
    const struct block *first = &w->blocks[r->first];
    char name[40], error[256];
    unsigned count = 0;
    blocks[count++] = (struct llvm_block){.ir = &first->optimised, .seen = seen_of(w, &first->optimised)};
    for (unsigned i = 0; i < w->block_count; i++) {
        const struct block *b = &w->blocks[i];
        if (b->region == first->region && b != first)
            blocks[count++] = (struct llvm_block){.ir = &b->optimised, .pc = ir_signed(b->pc - first->pc, b->lifted.pc_bits), .seen = seen_of(w, &b->optimised)};
    }
    snprintf(name, sizeof name, "region_%llx", (unsigned long long)first->pc);
    const struct llvm_region region = {.guest = &x86_guest, .blocks = blocks, .block_count = count, .name = name, .icount = w->o.icount};
    const struct llvm_options options = {.stages = LLVM_STAGE_IR | LLVM_STAGE_OPT, .print = take_text, .ctx = w, .lines = true};
    if (llvm_compile(&region, &options, &compiled, error, sizeof error))
        take_code(w, r, &compiled);
    else
        snprintf(w->llvm_refused, sizeof w->llvm_refused, "no %s: %s", name, error);
    while (count)
        free((void *)blocks[--count].seen);
    free(blocks);
}

void regions_make(struct work *w)
{
    w->regions = checked(calloc(w->block_count, sizeof *w->regions));
    for (unsigned i = 0; i < w->block_count; i++) {
        w->blocks[i].region = -1;
        w->blocks[i].refused = llvm_refuses(&w->blocks[i].optimised);
    }
    for (unsigned i = 0; i < w->block_count; i++) {
        if (w->blocks[i].region >= 0 || w->blocks[i].refused)
            continue;
        struct region *r = &w->regions[w->region_count++];
        r->first = i;
        r->block_count = grow(w, i);
        compile(w, r);
    }
    if (!w->region_count)
        snprintf(w->llvm_refused, sizeof w->llvm_refused, "no region: its first block has `%s`", w->blocks[0].refused);
}
#else
void regions_make(struct work *w) { (void)w; } /* options.c lets nobody ask */
#endif
