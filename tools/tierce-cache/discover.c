/* Recursive descent.  A block is lifted as the runtime lifts it for a region, so that what is found are the blocks that run; where it leads is read
 * from its IR, and from the bytes of its last instruction.  What is behind a call is code too, unless the function ends there. */
#include "tools/tierce-cache/discover.h"
#include "backend-llvm/backend-llvm.h"
#include <stdlib.h>
#include <string.h>

enum { BLOCK_INSNS = 64 /* RECIPE_INSNS of runtime/recipe.h */, LONGEST = 15, MOST_BLOCKS = 1 << 24 };

/* --- Blocks by PC */
static size_t slot_of(const struct discovery *d, uint64_t pc)
{
    size_t at = (size_t)(pc * 0x9e3779b97f4a7c15ull >> 20) & (d->hash_size - 1);
    while (d->hash[at] && d->blocks[d->hash[at] - 1].pc != pc)
        at = (at + 1) & (d->hash_size - 1);
    return at;
}

long discovery_find(const struct discovery *d, uint64_t pc)
{
    return d->hash_size ? (long)d->hash[slot_of(d, pc)] - 1 : NO_BLOCK;
}

static bool rehash(struct discovery *d, size_t size)
{
    free(d->hash);
    d->hash_size = size;
    if (!(d->hash = calloc(size, sizeof *d->hash))) {
        d->hash_size = 0;
        return false;
    }
    for (size_t n = 0; n < d->count; n++)
        d->hash[slot_of(d, d->blocks[n].pc)] = (uint32_t)n + 1;
    return true;
}

static struct found_block *block_new(struct discovery *d, uint64_t pc)
{
    if ((d->count + 1) * 2 > d->hash_size && !rehash(d, d->hash_size ? d->hash_size * 2 : 1 << 12))
        return NULL;
    if (!grown((void **)&d->blocks, &d->room, d->count, sizeof *d->blocks))
        return NULL;
    d->hash[slot_of(d, pc)] = (uint32_t)d->count + 1;
    struct found_block *b = &d->blocks[d->count++];
    *b = (struct found_block){.pc = pc, .edge = (uint32_t)d->edge_count};
    return b;
}

static bool pend(struct discovery *d, uint64_t pc)
{
    if (!image_code(d->image, pc, 1) || discovery_find(d, pc) >= 0)
        return true;
    if (!grown((void **)&d->pending, &d->pending_room, d->pending_count, sizeof *d->pending))
        return false;
    d->pending[d->pending_count++] = pc;
    return true;
}

/* A file could make each of its blocks lead to a whole table. */
bool discovery_edge(struct discovery *d, struct found_block *b, uint64_t to)
{
    if (d->edge_count >= 4 * d->code_bytes + 65536)
        return false;
    if (!grown((void **)&d->edges, &d->edge_room, d->edge_count, sizeof *d->edges))
        return false;
    d->edges[d->edge_count++] = to;
    b->edge_count++;
    return true;
}

/* --- One block.  The decoder looks at fifteen bytes of an instruction; behind the end of a part there is filling. */
static unsigned fetch(void *ctx, uint64_t linear, unsigned max, uint8_t *to)
{
    const struct discovery *d = ctx;
    const struct part *p = image_at(d->image, linear);
    size_t have = p && p->code ? p->size - (linear - p->pc) : 0;
    memset(to, 0xcc, max);
    if (have)
        memcpy(to, p->bytes + (linear - p->pc), have < max ? have : max);
    return max;
}

/* Its last instruction, without prefixes; *length: what is left of it. */
static const uint8_t *last_insn(const struct discovery *d, const struct found_block *b, unsigned offset, unsigned *length)
{
    const uint8_t *at = image_code(d->image, b->pc + offset, b->size - offset);
    *length = b->size - offset;
    while (*length > 1 && (strchr("\x66\x67\x2e\x3e\x26\x36\x64\x65\xf2\xf3", *at) || (d->image->bits == 64 && (*at & 0xf0) == 0x40)))
        at++, --*length;
    return at;
}

static bool is_call(const uint8_t *i, unsigned n) { return *i == 0xe8 || (*i == 0xff && n > 1 && ((i[1] >> 3 & 7) == 2 || (i[1] >> 3 & 7) == 3)) || *i == 0x9a; }
/* Behind which nothing follows: JMP, RET, RETF, IRET, and those of system calls. */
static bool is_last(const uint8_t *i, unsigned n)
{
    if (*i == 0x0f && n > 1)
        return i[1] == 0x07 || i[1] == 0x35; /* SYSRET, SYSEXIT */
    return *i == 0xe9 || *i == 0xeb || *i == 0xea || (*i & 0xf6) == 0xc2 || *i == 0xcf || (*i == 0xff && n > 1 && ((i[1] >> 3 & 7) == 4 || (i[1] >> 3 & 7) == 5));
}
static bool is_ud2(const uint8_t *i, unsigned n) { return *i == 0x0f && n > 1 && i[1] == 0x0b; }

static enum block_end end_of(const struct discovery *d, const struct found_block *b, const struct ir_insn *end, unsigned last)
{
    unsigned n;
    const uint8_t *i = last_insn(d, b, last, &n);
    bool kernel = d->image->kind == IMAGE_KERNEL;
    if (end->op == IR_jump)
        return is_call(i, n) ? END_CALL : END_GOES_ON;
    if (end->op == IR_jump_to && end->aux == IR_JUMP_RET)
        return END_RETURN;
    if (is_call(i, n))
        return END_CALL_COMPUTED;
    if (end->op == IR_jump_to && end->aux == IR_JUMP)
        return END_COMPUTED;
    if (is_last(i, n) || (is_ud2(i, n) && !kernel)) /* the kernel's WARN is a UD2 that it comes back from */
        return END_STOPS;
    bool same_place = end->op == IR_leave && end->arg[0] == IR_NONE && end->imm == last; /* #UD, or #GP */
    return same_place && !is_ud2(i, n) ? END_STOPS : END_SYSTEM;
}

/* Constants that may be a table's address, or that of code: RIP-relative ones, and others that lie in the image. */
static bool note_constants(struct discovery *d, uint64_t pc)
{
    d->table_count = 0;
    for (uint32_t n = 0; n < d->ir.count; n++) {
        const struct ir_insn *i = &d->ir.insns[n];
        uint64_t value = (uint64_t)i->imm + (i->op == IR_pc ? pc : 0);
        if ((i->op != IR_pc && i->op != IR_const && i->op != IR_lea && i->op != IR_load) || !image_at(d->image, value = ir_cut(value, d->ir.pc_bits)))
            continue;
        if (!grown((void **)&d->table, &d->table_room, d->table_count, sizeof *d->table))
            return false;
        d->table[d->table_count++] = value;
    }
    return true;
}

/* Addresses of functions that only stand in code or data: kept for later. */
static bool guess(struct discovery *d, uint64_t pc)
{
    if (!image_code(d->image, pc, 1))
        return true;
    if (!grown((void **)&d->guesses, &d->guess_room, d->guess_count, sizeof *d->guesses))
        return false;
    d->guesses[d->guess_count++] = pc;
    return true;
}

static bool guess_constants(struct discovery *d)
{
    bool ok = true;
    for (size_t n = 0; ok && n < d->table_count; n++)
        ok = guess(d, d->table[n]);
    return ok;
}

static bool guess_words(struct discovery *d)
{
    unsigned each = d->image->bits / 8;
    bool ok = true;
    for (size_t n = 0; ok && n < d->image->part_count; n++) {
        const struct part *p = &d->image->parts[n];
        for (size_t at = -p->pc & (each - 1); ok && !p->code && at + each <= p->size; at += each) {
            uint64_t word = 0;
            memcpy(&word, p->bytes + at, each);
            ok = guess(d, word);
        }
    }
    return ok;
}

/* The stub jumps to where it copied itself: addresses in it are offsets. */
static bool stub_edges(struct discovery *d, struct found_block *b)
{
    bool ok = true;
    for (size_t n = 0; ok && n < d->table_count; n++)
        if (d->table[n] > 0x200 && image_code(d->image, d->table[n], 1))
            ok = discovery_edge(d, b, d->table[n]);
    return ok;
}

static bool note_edges(struct discovery *d, struct found_block *b)
{
    for (uint32_t n = 0; n < d->ir.count; n++) {
        const struct ir_insn *i = &d->ir.insns[n];
        if ((i->op == IR_exit_if || i->op == IR_jump) && !discovery_edge(d, b, ir_cut(b->pc + (uint64_t)i->imm, d->ir.pc_bits)))
            return false;
    }
    return true;
}

static unsigned last_offset(const struct ir_block *ir)
{
    unsigned at = 0;
    for (uint32_t n = 0; n < ir->count; n++)
        if (ir->insns[n].op == IR_insn)
            at = (unsigned)ir->insns[n].imm;
    return at;
}

static bool is_decodable(const struct discovery *d, uint64_t pc, unsigned size)
{
    char text[128];
    const uint8_t *at = image_code(d->image, pc, size);
    return at && x86_disassemble(d->mode, pc, at, size, text, sizeof text);
}

/* Lifts what begins at pc.  False: out of memory. */
static bool block_make(struct discovery *d, uint64_t pc)
{
    const struct x86_fetch from = {.bytes = fetch, .ctx = d};
    const struct x86_lift_limits limits = {.insns = BLOCK_INSNS, .bytes = 4096};
    struct found_block *b = block_new(d, pc);
    if (!b)
        return false;
    if (!x86_lift(d->model, d->mode, pc, pc, &from, &limits, &d->ir) || d->ir.out_of_memory)
        return !d->ir.out_of_memory;
    unsigned last = last_offset(&d->ir);
    b->end = END_STOPS;
    if (!image_code(d->image, pc, d->ir.guest_bytes) || !is_decodable(d, pc + last, d->ir.guest_bytes - last)) {
        d->bad++;
        return true;
    }
    b->size = (uint16_t)d->ir.guest_bytes;
    b->insns = (uint8_t)d->ir.guest_insns;
    b->end = (uint8_t)end_of(d, b, &d->ir.insns[d->ir.count - 1], last);
    if (!note_edges(d, b) || !note_constants(d, pc) || !discovery_near(d, pc) || (d->image->kind == IMAGE_PROGRAM && !guess_constants(d)))
        return false;
    if (d->image->kind == IMAGE_STUB && (b->end == END_COMPUTED || b->end == END_STOPS) && !stub_edges(d, b))
        return false;
    ir_optimise(&d->ir, &x86_guest);
    if (d->image->kind != IMAGE_STUB && !(b->end == END_COMPUTED ? discovery_table(d, b) : discovery_hint(d, b)))
        return false;
    b->refused = llvm_refuses(&d->ir);
    d->refused += b->refused;
    return true;
}

/* Does code go on behind it? */
static bool comes_back(const struct discovery *d, const struct found_block *b)
{
    const struct span *s = image_function(d->image, b->pc);
    return (b->end == END_CALL || b->end == END_CALL_COMPUTED || b->end == END_SYSTEM) && (!s || b->pc + b->size < s->to);
}

/* --- All of them: depth first, so that the block before is mostly the one that leads here. */
static bool follow(struct discovery *d, size_t index)
{
    struct found_block b = d->blocks[index];
    if (comes_back(d, &b) && !pend(d, b.pc + b.size))
        return false;
    for (uint32_t n = b.edge_count; n-- > 0;)
        if (!pend(d, d->edges[b.edge + n]))
            return false;
    return true;
}

static bool run(struct discovery *d, const volatile bool *stop, struct failure *f)
{
    while (d->pending_count) {
        uint64_t pc = d->pending[--d->pending_count];
        if (discovery_find(d, pc) >= 0)
            continue;
        if (d->count >= MOST_BLOCKS)
            return fail(f, "has more than %d blocks", MOST_BLOCKS);
        if (!block_make(d, pc) || !follow(d, d->count - 1))
            return fail(f, "out of memory, or more jumps in it than there is code");
        if (stop && *stop)
            return fail(f, "interrupted");
    }
    return true;
}

static int by_pc(const void *a, const void *b)
{
    const struct found_block *x = a, *y = b;
    return (x->pc > y->pc) - (x->pc < y->pc);
}

/* Bytes of code in blocks, which may overlap. */
static void count_bytes(struct discovery *d)
{
    uint64_t end = 0;
    for (size_t n = 0; n < d->count; n++) {
        const struct found_block *b = &d->blocks[n];
        uint64_t from = b->pc > end ? b->pc : end, to = b->pc + b->size;
        d->found_bytes += to > from ? to - from : 0;
        end = to > end ? to : end;
        d->insns += b->insns;
    }
}

/* Where the file does not say of each function where it begins: constants and words of data that lie in code which no function and no block has. */
static int by_number(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static bool covered(const struct discovery *d, uint64_t pc)
{
    if (image_function(d->image, pc) || discovery_find(d, pc) >= 0)
        return true;
    for (uint64_t at = pc; pc - at < 256 && at; at--) { /* blocks are short */
        long n = discovery_find(d, at);
        if (n >= 0 && pc - at < d->blocks[n].size)
            return true;
    }
    return false;
}

static bool run_guesses(struct discovery *d, const volatile bool *stop, struct failure *f)
{
    bool ok = d->image->kind == IMAGE_STUB || guess_words(d) || fail(f, "out of memory");
    while (ok && d->guess_count) {
        uint64_t *now = d->guesses;
        size_t count = d->guess_count;
        d->guesses = NULL; /* what is found has guesses of its own */
        d->guess_count = d->guess_room = 0;
        qsort(now, count, sizeof *now, by_number);
        for (size_t n = 0; ok && n < count; n++)
            if ((!n || now[n] != now[n - 1]) && !covered(d, now[n])) {
                d->guessed++;
                ok = (pend(d, now[n]) || fail(f, "out of memory")) && run(d, stop, f);
            }
        free(now);
    }
    return ok;
}

/* Stretches of one byte, up to the next page or the next part of a section, are no code. */
static uint64_t filling(const struct part *p)
{
    enum { LEAST = 64 };
    uint64_t sum = 0;
    for (size_t at = 0, next; at < p->size; at = next) {
        for (next = at + 1; next < p->size && p->bytes[next] == p->bytes[at];)
            next++;
        if (next - at >= LEAST)
            sum += next - at;
    }
    return sum;
}

bool discover(struct discovery *d, const struct image *m, const struct x86_model *model, uint32_t mode, bool (*wanted)(const struct part *), const volatile bool *stop,
              struct failure *f)
{
    *d = (struct discovery){.image = m, .model = model, .mode = mode};
    ir_block_init(&d->ir);
    for (size_t n = 0; n < m->part_count; n++)
        if (m->parts[n].code && (!wanted || wanted(&m->parts[n])))
            d->code_bytes += m->parts[n].size - filling(&m->parts[n]);
    for (size_t n = m->entry_count; n-- > 0;)
        if ((!wanted || wanted(image_at(m, m->entries[n]))) && !pend(d, m->entries[n]))
            return fail(f, "out of memory");
    if (!run(d, stop, f) || !run_guesses(d, stop, f))
        return false;
    size_t kept = 0;
    for (size_t n = 0; n < d->count; n++)
        if (d->blocks[n].size && (!wanted || wanted(image_at(m, d->blocks[n].pc))))
            d->blocks[kept++] = d->blocks[n];
    d->count = kept;
    if (kept)
        qsort(d->blocks, kept, sizeof *d->blocks, by_pc);
    count_bytes(d);
    return rehash(d, d->hash_size ? d->hash_size : 1 << 4) || fail(f, "out of memory");
}

void discovery_free(struct discovery *d)
{
    free(d->blocks);
    free(d->edges);
    free(d->hash);
    free(d->pending);
    free(d->guesses);
    free(d->hints);
    free(d->nears);
    free(d->table);
    ir_block_free(&d->ir);
    *d = (struct discovery){0};
}
