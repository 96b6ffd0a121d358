/* Blocks, as the emulator would make them: the first byte begins one, and so does every place that a jump of a block or the
 * end of one leads to.  They may overlap, as the emulator's do. */
#include "tools/tierce-ir/work.h"
#include <stdlib.h>
#include <string.h>

static bool inside(const struct work *w, uint64_t pc) { return pc - w->pc < w->size; }

static struct block *block_new(struct work *w, uint64_t pc)
{
    for (unsigned i = 0; i < w->block_count; i++)
        if (w->blocks[i].pc == pc)
            return NULL;
    if (w->block_count == w->o.blocks) {
        w->more_blocks = true;
        return NULL;
    }
    w->blocks = checked(realloc(w->blocks, (w->block_count + 1) * sizeof *w->blocks));
    struct block *b = &w->blocks[w->block_count++];
    *b = (struct block){.pc = pc, .bytes = w->bytes ? w->bytes + (pc - w->pc) : NULL};
    ir_block_init(&b->lifted);
    ir_block_init(&b->optimised);
    return b;
}

/* Its guest instructions, from the IR. */
static void find_insns(struct block *b)
{
    b->insn_count = 0;
    b->insns = checked(realloc(b->insns, (b->lifted.count + 1) * sizeof *b->insns));
    for (uint32_t n = 0; n < b->lifted.count; n++) {
        const struct ir_insn *i = &b->lifted.insns[n];
        if (i->op == IR_insn)
            b->insns[b->insn_count++] = (struct guest_insn){.offset = (uint32_t)i->imm, .size = (uint8_t)i->aux};
    }
}

int block_insn_at(const struct block *b, int64_t offset)
{
    for (unsigned i = 0; i < b->insn_count; i++)
        if (b->insns[i].offset == offset)
            return (int)i;
    return -1;
}

static void optimise(struct block *b)
{
    struct ir_block *to = &b->optimised;
    free(to->insns);
    *to = b->lifted;
    to->capacity = to->count;
    to->insns = checked(malloc((to->count + 1) * sizeof *to->insns));
    memcpy(to->insns, b->lifted.insns, to->count * sizeof *to->insns);
    ir_optimise(to, &x86_guest);
}

/* --- From guest bytes.  The decoder wants to see fifteen bytes of an instruction: behind the end there is filling. */
static unsigned fetch(void *ctx, uint64_t linear, unsigned max, uint8_t *to)
{
    const struct work *w = ctx;
    for (unsigned i = 0; i < max; i++)
        to[i] = inside(w, linear + i) ? w->bytes[linear + i - w->pc] : 0xcc;
    return max;
}

/* How many of its instructions are there as a whole. */
static unsigned complete(const struct work *w, const struct block *b)
{
    unsigned n = 0;
    while (n < b->insn_count && b->pc - w->pc + b->insns[n].offset + b->insns[n].size <= w->size)
        n++;
    return n;
}

static void lift(struct work *w, struct block *b, unsigned insns)
{
    const struct x86_fetch f = {.bytes = fetch, .ctx = w};
    const struct x86_lift_limits limits = {.insns = insns, .bytes = 4096, .branches = w->o.branches, .icount = w->o.icount};
    if (!x86_lift(w->model, w->mode, b->pc, b->pc, &f, &limits, &b->lifted) || b->lifted.out_of_memory)
        die(1, "the block at 0x%llx cannot be lifted", (unsigned long long)b->pc);
    find_insns(b);
}

/* Shorter and shorter, until the template backend takes it: as runtime/tb.c does. */
static void make(struct work *w, unsigned index)
{
    struct block *b = &w->blocks[index];
    for (unsigned insns = w->o.insns; insns; insns = (insns < b->insn_count ? insns : b->insn_count) / 2) {
        lift(w, b, insns);
        unsigned whole = complete(w, b);
        if (!whole)
            die(1, "the instruction at 0x%llx is cut off: %llu of its bytes are given", (unsigned long long)b->pc, (unsigned long long)(w->pc + w->size - b->pc));
        if (whole < b->insn_count)
            lift(w, b, whole);
        optimise(b);
        if (tcg_make(w, index))
            return;
    }
}

static void disassemble(const struct work *w, const struct block *b, unsigned insn, char *text, size_t size)
{
    const struct guest_insn *g = &b->insns[insn];
    if (!x86_disassemble(w->mode, b->pc + g->offset, b->bytes + g->offset, g->size, text, size))
        snprintf(text, size, "(bad)");
    text_shorten(text);
}

/* Instructions after which the next one is not reached; what CALL leads to is another function. */
static bool is_one_of(const char *text, const char *const *words)
{
    size_t n = strcspn(text, " ");
    for (; *words; words++)
        if (strlen(*words) == n && !strncmp(text, *words, n))
            return true;
    return false;
}

static void follow(struct work *w, unsigned index)
{
    static const char *const last[] = {"jmp", "ret", "iret", "iretd", "iretq", "sysret", "sysexit", "ud2", "(bad)", NULL}, *const calls[] = {"call", NULL};
    const struct block b = w->blocks[index]; /* the array moves */
    const struct guest_insn *end = &b.insns[b.insn_count - 1];
    char text[128];
    disassemble(w, &b, b.insn_count - 1, text, sizeof text);
    bool call = is_one_of(text, calls);
    for (uint32_t n = 0; n < b.lifted.count; n++) {
        const struct ir_insn *i = &b.lifted.insns[n];
        bool direct = i->op == IR_exit_if || (i->op == IR_jump && !call) || (i->op == IR_leave && i->arg[0] == IR_NONE);
        if (direct && inside(w, b.pc + (uint64_t)i->imm))
            block_new(w, b.pc + (uint64_t)i->imm);
    }
    if (!is_one_of(text, last) && inside(w, b.pc + end->offset + end->size))
        block_new(w, b.pc + end->offset + end->size);
}

static void count_unreached(struct work *w)
{
    uint8_t *reached = checked(calloc(w->size, 1));
    for (unsigned i = 0; i < w->block_count; i++)
        for (unsigned k = 0; k < w->blocks[i].insn_count; k++)
            memset(reached + (w->blocks[i].pc - w->pc) + w->blocks[i].insns[k].offset, 1, w->blocks[i].insns[k].size);
    for (uint64_t i = 0; i < w->size; i++)
        w->unreached += !reached[i];
    free(reached);
}

/* --- From IR text: `block` begins one; `; ... at 0x<pc>` before it says where. */
static bool read_place(const char *line, size_t length, uint64_t *pc)
{
    char text[100], *at;
    if (*line != ';' || length >= sizeof text)
        return false;
    memcpy(text, line, length);
    text[length] = 0;
    if (!(at = strstr(text, " at 0x")))
        return false;
    *pc = strtoull(at + 4, NULL, 16);
    return true;
}

/* Parses text[from..to), lines counted from the whole text's first. */
static void parse_block(struct work *w, struct block *b, size_t from, size_t to)
{
    char error[200], *part = checked(malloc(to + 1));
    for (size_t i = 0; i < from; i++)
        part[i] = w->text[i] == '\n' ? '\n' : ' ';
    memcpy(part + from, w->text + from, to - from);
    part[to] = 0;
    const char *wrong = ir_parse(&b->lifted, part, &x86_guest, error, sizeof error);
    if (!wrong && b->lifted.out_of_memory)
        wrong = "out of memory";
    if (!wrong)
        wrong = ir_verify(&b->lifted, &x86_guest, error, sizeof error);
    if (wrong)
        die(1, "'%s': %s", w->o.ir, wrong);
    free(part);
    find_insns(b);
    b->lifted.guest_insns = b->insn_count; /* the header may be missing, or lie */
    for (unsigned i = 0; i < b->insn_count; i++)
        if (i && b->insns[i].offset < b->insns[i - 1].offset + b->insns[i - 1].size)
            die(1, "'%s': guest instructions of the block at 0x%llx overlap", w->o.ir, (unsigned long long)b->pc);
    for (uint32_t n = 0; n < b->lifted.count; n++)
        if (b->lifted.insns[n].op == IR_code)
            die(1, "'%s': `code` reads guest bytes, which IR text does not have", w->o.ir);
}

static void read_blocks(struct work *w)
{
    struct block *b = NULL;
    size_t from = 0;
    uint64_t pc = w->pc;
    for (size_t at = 0; w->text[at];) {
        size_t n = strcspn(w->text + at, "\n");
        bool header = !strncmp(w->text + at, "block ", 6), place = read_place(w->text + at, n, &pc);
        if (header && b) {
            parse_block(w, b, from, at);
            if (pc == b->pc) /* nothing says where the next one is */
                pc += b->lifted.guest_bytes;
        }
        if (header || (!b && !place && n && w->text[at] != ';')) {
            from = at;
            if (!(b = block_new(w, pc)))
                die(1, "'%s': %s", w->o.ir, w->more_blocks ? "more blocks than --blocks allows" : "two blocks at one PC");
        }
        at += n + (w->text[at + n] == '\n');
    }
    if (!b)
        die(1, "'%s': there is no block in it", w->o.ir);
    parse_block(w, b, from, strlen(w->text));
}

/* --- Lines */
struct line *lines_add(struct lines *l, int block, int insn, const char *text, size_t length)
{
    if (l->count == l->room)
        l->at = checked(realloc(l->at, (l->room = l->room * 2 + 64) * sizeof *l->at));
    struct line *line = &l->at[l->count++];
    *line = (struct line){.block = block, .insn = insn, .text = checked(strndup(text, length))};
    return line;
}

void lines_free(struct lines *l)
{
    for (size_t i = 0; i < l->count; i++) {
        free(l->at[i].text);
        free(l->at[i].note);
    }
    free(l->at);
}

static void ir_lines(struct work *w, enum stage s, int block, const struct ir_block *ir)
{
    char *text = NULL;
    size_t size;
    FILE *f = checked(open_memstream(&text, &size));
    ir_print(f, ir, &x86_guest);
    fclose(f);
    const char *at = checked(text);
    int insn = -1;
    for (uint32_t n = 0; *at; n++) {
        size_t length = strcspn(at, "\n");
        if (n && ir->insns[n - 1].op == IR_insn) /* the first line is the block's header */
            insn = block_insn_at(&w->blocks[block], ir->insns[n - 1].imm);
        lines_add(&w->stage[s], block, insn, at, length);
        at += length + 1;
    }
    free(text);
}

static void in_asm_lines(struct work *w, int block)
{
    const struct block *b = &w->blocks[block];
    for (unsigned i = 0; i < b->insn_count; i++) {
        char text[128];
        disassemble(w, b, i, text, sizeof text);
        struct line *l = lines_add(&w->stage[IN_ASM], block, (int)i, text, strlen(text));
        l->offset = b->insns[i].offset;
        l->size = b->insns[i].size;
    }
}

static int by_pc(const void *a, const void *b)
{
    uint64_t x = ((const struct block *)a)->pc, y = ((const struct block *)b)->pc;
    return (x > y) - (x < y);
}

void blocks_make(struct work *w)
{
    w->buffer = checked(tcg_buffer_new(64 << 20));
    if (w->bytes) {
        block_new(w, w->pc);
        for (unsigned i = 0; i < w->block_count; i++) {
            make(w, i);
            follow(w, i);
        }
        count_unreached(w);
        qsort(w->blocks + 1, w->block_count - 1, sizeof *w->blocks, by_pc);
    } else {
        read_blocks(w);
        for (unsigned i = 0; i < w->block_count; i++)
            optimise(&w->blocks[i]);
    }
    w->buffer_at = 0;
    lines_free(&w->stage[OUT_ASM]); /* of the attempts */
    w->stage[OUT_ASM] = (struct lines){0};
    for (unsigned i = 0; i < w->block_count; i++) {
        tcg_make(w, i);
        if (w->bytes)
            in_asm_lines(w, (int)i);
        ir_lines(w, IR, (int)i, &w->blocks[i].lifted);
        ir_lines(w, IR_OPT, (int)i, &w->blocks[i].optimised);
    }
}
