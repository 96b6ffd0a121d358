/* What ran, for the translation cache: the template tier's blocks and how often they ran, what was sampled in an accelerator, and what was recorded but not compiled.  Taken on the
 * vCPU's thread, or once that has ended; merged with what earlier runs left, and written, on any. */
#define _GNU_SOURCE
#include "runtime/job.h"
#include "runtime/little_endian.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { LEAST = 8 /* runs of a block that is told of */, MOST_BLOCKS = 1 << 16, MOST_RECIPES = 512, CLUSTER = 1 << 18 /* bytes between what moves together */,
       NEIGHBOUR = 64 << 20 /* between what does unless it is known better: a kernel */, DELTAS = 16 };
struct profile_taken { struct profile p; uint8_t *bytes; struct recipe **recipes; };

void profile_taken_free(struct profile_taken *t)
{
    if (!t)
        return;
    for (unsigned n = 0; t->recipes && n < t->p.recipe_count; n++)
        free(t->recipes[n]);
    free(t->recipes);
    free(t->p.blocks);
    free(t->bytes);
    free(t);
}

/* --- Taking */
static bool is_told(const struct tb *tb) { return tb->head && !tb->open_count && tb->parts[0].size + tb->parts[1].size == tb->bytes && recipe_mode_valid(tb->mode); }

static void take_blocks(struct vcpu *v, struct profile_taken *t, uint64_t least)
{
    const struct tb_store *s = &v->tbs;
    const struct tb *tb = s->ahead;
    uint8_t *at = t->bytes;
    for (size_t n = s->count; n; n--, tb = tb->after) {
        uint64_t ran = region_ran(v, tb);
        if (!is_told(tb) || ran < least)
            continue;
        t->p.blocks[t->p.block_count++] = (struct profile_block){.mode = tb->mode, .size = tb->bytes, .page_offset = (uint16_t)(tb->phys & (PAGE - 1)), .bytes = at,
                                                                 .pc = tb->pc, .count = ran};
        at = put_bytes(at, tb->copy, tb->bytes);
    }
}

static void take_recipe(void *ctx, const struct llvm_job *j)
{
    struct profile_taken *t = ctx;
    uint8_t *written;
    size_t size;
    char error[100];
    if (t->p.recipe_count == MOST_RECIPES || j->options.stress || !recipe_write(&j->recipe, &written, &size))
        return;
    if ((t->recipes[t->p.recipe_count] = recipe_read(written, size, error, sizeof error)))
        t->p.recipe_count++;
    free(written);
}

struct profile_taken *profile_take(struct vcpu *v)
{
    struct profile_taken *t = calloc(1, sizeof *t);
    const struct tb_store *s = &v->tbs;
    const struct tb *tb = s->ahead;
    size_t bytes = 0;
    for (size_t n = s->count; n; n--, tb = tb->after)
        bytes += tb->bytes;
    if (!t || !(t->p.blocks = malloc((s->count + profile_sampled_count(v) + 1) * sizeof *t->p.blocks)) || !(t->bytes = malloc(bytes + 1)) || !(t->recipes = calloc(MOST_RECIPES, sizeof *t->recipes))) {
        profile_taken_free(t);
        return NULL;
    }
    t->p.icount = machine_counts(v->machine);
    t->p.recipes = (const struct recipe *const *)t->recipes;
    take_blocks(v, t, LEAST);
    t->p.block_count += profile_sampled(v, t->p.blocks + t->p.block_count);
    worker_each(v, take_recipe, t);
    return t;
}

/* --- Merging.  The same code may lie elsewhere than in an earlier run: blocks of other PCs but the same content say how far it moved. */
struct merge {
    const struct profile *old;
    struct profile_block *blocks; uint64_t *contents /* content_hash, one a block */; uint32_t count;
    uint32_t *by_content, *by_place, mask;                              /* open addressing; an entry is an index plus one */
};

static uint64_t bytes_hash(const struct profile_block *b, const uint8_t *bytes) { return XXH3_64bits_withSeed(bytes, b->size, (uint64_t)b->mode << 16 | b->page_offset); }
static uint64_t place_hash(const struct profile_block *b) { return bytes_hash(b, b->bytes) ^ b->pc * 0x9e3779b97f4a7c15ull; }

/* The same wherever it lies. */
static uint64_t content_hash(const struct profile_block *b)
{
    struct x86_reloc relocs[X86_RELOCS];
    uint8_t unmoved[PAGE];
    unsigned count = x86_relocs_find(b->mode, b->pc, b->bytes, b->size, relocs, X86_RELOCS);
    if (!count)
        return bytes_hash(b, b->bytes);
    memcpy(unmoved, b->bytes, b->size);
    x86_relocate(unmoved, relocs, count, b->pc, 0);
    return bytes_hash(b, unmoved);
}

static bool same_place(const struct profile_block *a, const struct profile_block *b)
{
    return a->pc == b->pc && a->mode == b->mode && a->page_offset == b->page_offset && a->size == b->size && !memcmp(a->bytes, b->bytes, a->size);
}

static uint32_t *place_of(const struct merge *m, const struct profile_block *b)
{
    uint32_t at = (uint32_t)(place_hash(b) >> 20) & m->mask;
    while (m->by_place[at] && !same_place(&m->blocks[m->by_place[at] - 1], b))
        at = (at + 1) & m->mask;
    return &m->by_place[at];
}

static uint32_t *content_of(const struct merge *m, uint64_t hash)
{
    uint32_t at = (uint32_t)(hash >> 20) & m->mask;
    while (m->by_content[at] && m->contents[m->by_content[at] - 1] != hash)
        at = (at + 1) & m->mask;
    return &m->by_content[at];
}

static void add(struct merge *m, const struct profile_block *b)
{
    uint64_t hash = content_hash(b);
    uint32_t *place = place_of(m, b), *content = content_of(m, hash);
    if (*place) {
        m->blocks[*place - 1].count += b->count;
        return;
    }
    m->contents[m->count] = hash;
    m->blocks[m->count++] = *b;
    *place = m->count;
    if (!*content)
        *content = m->count;
}

/* By how much these blocks moved.  Short ones are found in many places, so there are many distances; what a tenth of them have in common keeps its
 * place among the counters (Misra and Gries). */
struct vote { uint64_t delta; unsigned count; };
static void vote(struct vote votes[DELTAS], uint64_t delta)
{
    struct vote *unused = NULL;
    for (struct vote *v = votes; v < votes + DELTAS; v++) {
        if (v->count && v->delta == delta) {
            v->count++;
            return;
        }
        unused = v->count ? unused : v;
    }
    if (unused)
        *unused = (struct vote){delta, 1};
    for (struct vote *v = votes; v < votes + DELTAS && !unused; v++)
        v->count--;
}

/* False: too few say so, for it to be more than chance. */
static bool moved_by(const struct merge *m, const struct profile_block *b, unsigned count, uint64_t *delta)
{
    struct vote votes[DELTAS] = {{0}}, best = {0};
    unsigned known = 0;
    for (unsigned n = 0; n < count; n++) {
        uint32_t old = *content_of(m, content_hash(&b[n]));
        known += old != 0;
        if (old)
            vote(votes, b[n].pc - m->blocks[old - 1].pc);
    }
    for (unsigned k = 0; k < DELTAS; k++)
        best = votes[k].count > best.count ? votes[k] : best;
    if (!best.count || best.count < known / 4 || best.count < count / 8)
        return false;
    *delta = best.delta;
    return true;
}

static int by_pc(const void *a, const void *b)
{
    const struct profile_block *x = a, *y = b;
    return x->pc < y->pc ? -1 : x->pc > y->pc;
}

static int by_count(const void *a, const void *b)
{
    const struct profile_block *x = a, *y = b;
    return x->count != y->count ? (x->count < y->count ? 1 : -1) : place_hash(x) < place_hash(y) ? -1 : 1;
}

static struct profile_block moved(const struct profile_block *from, uint64_t delta, uint8_t *bytes)
{
    struct x86_reloc relocs[X86_RELOCS];
    struct profile_block b = *from;
    b.pc = ir_cut(b.pc - delta, x86_pc_bits(b.mode));
    x86_relocate(bytes, relocs, delta ? x86_relocs_find(b.mode, from->pc, bytes, b.size, relocs, X86_RELOCS) : 0, from->pc, b.pc);
    return b;
}

/* Adds what ran to what ran before; returns how many blocks are new. */
static uint32_t merge(struct merge *m, struct profile *p)
{
    for (unsigned n = 0; m->old && n < m->old->block_count; n++)
        add(m, &m->old->blocks[n]);
    uint32_t before = m->count;
    uint64_t delta = 0;
    qsort(p->blocks, p->block_count, sizeof *p->blocks, by_pc);
    for (unsigned from = 0, end; from < p->block_count; from = end) {
        for (end = from + 1; end < p->block_count && p->blocks[end].pc - p->blocks[end - 1].pc < CLUSTER;)
            end++;
        bool goes_with_last = from && p->blocks[from].pc - p->blocks[from - 1].pc < NEIGHBOUR;
        if (!moved_by(m, &p->blocks[from], end - from, &delta) && !goes_with_last)
            delta = 0;
        for (unsigned n = from; n < end; n++) {
            struct profile_block b = moved(&p->blocks[n], delta, (uint8_t *)(uintptr_t)p->blocks[n].bytes); /* profile_taken's, which are not needed where they were */
            add(m, &b);
        }
    }
    return m->count - before;
}

static bool merge_begin(struct merge *m, const struct profile *old, const struct profile *p)
{
    size_t room = (old ? old->block_count : 0) + (size_t)p->block_count + 1;
    *m = (struct merge){.old = old, .mask = 1023};
    while (m->mask < 2 * room)
        m->mask = m->mask * 2 + 1;
    m->blocks = malloc(room * sizeof *m->blocks);
    m->contents = malloc(room * sizeof *m->contents);
    m->by_content = calloc(m->mask + 1, sizeof *m->by_content);
    m->by_place = calloc(m->mask + 1, sizeof *m->by_place);
    return m->blocks && m->contents && m->by_content && m->by_place;
}

static void merge_end(struct merge *m)
{
    free(m->blocks);
    free(m->contents);
    free(m->by_content);
    free(m->by_place);
}

/* --- In the store: one file for each translator and way of counting, named by its content; where two processes wrote at once, two. */
enum { NAME = 64 };
struct earlier { char prefix[40], names[8][NAME]; unsigned count; };
static bool note_earlier(void *ctx, const struct store_file *f)
{
    struct earlier *e = ctx;
    if (!strncmp(f->name, e->prefix, strlen(e->prefix)) && strlen(f->name) < NAME)
        strcpy(e->names[e->count++], f->name);
    return e->count < sizeof e->names / sizeof *e->names;
}

static struct profile *earlier_read(struct store *s, const char *name)
{
    uint8_t *bytes;
    size_t size;
    char error[100];
    if (!store_file_get(s, name, &bytes, &size))
        return NULL;
    struct profile *p = profile_read(bytes, size, error, sizeof error);
    free(bytes);
    return p;
}

static bool write_merged(struct store *s, const struct profile *p, const char *prefix, char name[NAME])
{
    uint8_t *bytes;
    size_t size;
    if (!profile_write(p, &bytes, &size))
        return false;
    snprintf(name, NAME, "%s%016" PRIx64, prefix, (uint64_t)XXH3_64bits(bytes, size));
    bool ok = store_file_put(s, name, bytes, size, true);
    free(bytes);
    return ok;
}

/* What the store has an object of by now needs not be told of. */
static unsigned recipes_gather(struct store *s, const uint64_t translator[2], const struct profile *old, const struct profile *p, const struct recipe **to)
{
    unsigned count = 0;
    for (unsigned n = 0; n < p->recipe_count + (old ? old->recipe_count : 0) && count < MOST_RECIPES; n++) {
        const struct recipe *r = n < p->recipe_count ? p->recipes[n] : old->recipes[n - p->recipe_count];
        struct store_key key;
        cache_key(translator, r, &key);
        if (!store_has(s, &key))
            to[count++] = r;
    }
    return count;
}

static bool merge_into(struct store *s, const uint64_t translator[2], struct profile *p, const struct earlier *e, const struct profile *old, char name[NAME])
{
    struct merge m;
    const struct recipe *recipes[MOST_RECIPES];
    bool written = false;
    if (merge_begin(&m, old, p)) {
        uint32_t fresh = merge(&m, p);
        struct profile all = {.icount = p->icount, .blocks = m.blocks, .block_count = m.count, .recipes = recipes};
        all.recipe_count = recipes_gather(s, translator, old, p, recipes);
        if (fresh > m.count / 64 || all.recipe_count || e->count > 1) { /* else it was known */
            qsort(m.blocks, m.count, sizeof *m.blocks, by_count);
            all.block_count = m.count < MOST_BLOCKS ? m.count : MOST_BLOCKS;
            written = write_merged(s, &all, e->prefix, name);
        }
    }
    merge_end(&m);
    return written;
}

void profile_keep(struct store *s, const uint64_t translator[2], struct profile_taken *t)
{
    struct earlier e = {.count = 0};
    char name[NAME];
    snprintf(e.prefix, sizeof e.prefix, "profile-%016" PRIx64 "-%c-", translator[0], t->p.icount ? 'c' : 'n');
    store_file_each(s, note_earlier, &e);
    struct profile *old = e.count ? earlier_read(s, e.names[0]) : NULL;
    bool written = merge_into(s, translator, &t->p, &e, old, name);
    if (written && e.count && strcmp(e.names[0], name))
        store_file_remove(s, e.names[0]); /* it is in the new one; another, of a process that wrote at the same time, is merged next time */
    free(old);
}
