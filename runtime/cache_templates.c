/* The file: a header, then templates one behind the other, each of a whole number of 8 bytes.  They are in the process's own form, as they
 * are read by nobody else than the same translator's. */
#include "runtime/cache_templates.h"
#include "runtime/thread.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define MOST_BYTES (56u << 20)          /* of a file */
enum {
    BUCKETS = 1 << 16, LEAD = 2 /* bytes by which one is found: a field that moves seldom lies in them */, MOST_COMPARED = 64, MOST_BLOCK = 1024,
    NAME = 64, LEAST_NEW = 64, NEW_SHARE = 16 /* a file is written again for that many new ones, and that part of what is there */,
    RUNS_KEPT = 16 /* that wrote it: what none of them used is dropped */,
};
struct file_head { uint32_t layout, run, count, unused; }; /* run: how many have written it */
struct template {
    uint32_t size;                      /* of all: this, exits, relocations, sites, what moves in the bytes, the bytes as of PC 0, code */
    uint32_t mode, used;                /* used: the last run that did */
    uint32_t code_size, body;
    uint16_t page_offset, bytes, insns, head, relocs, sites;
    uint8_t exits, kills_flags, at_64, pc_bits, moving, unused[3];
};
#define LAYOUT ((uint32_t)(sizeof(struct template) | sizeof(struct tcg_exit) << 8 | sizeof(struct tcg_reloc) << 16 | sizeof(struct tcg_fault_site) << 24))

/* Numbered from 1.  An entry has what most others differ in: templates lie all over some 30 MiB. */
struct entry { uint32_t at, next, mode; uint16_t page_offset; uint8_t lead[LEAD]; };
struct index { uint32_t *first; struct entry *entries; uint32_t count; };
struct templates {
    struct store *store;
    char name[NAME];
    pthread_t reader;
    bool reading;
    atomic_bool ready;
    uint8_t *data;
    size_t size;
    struct index index;
    uint32_t run;
};

/* --- Where its parts are */
static const struct tcg_exit *exits_of(const struct template *t) { return (const struct tcg_exit *)(t + 1); }
static const struct tcg_reloc *relocs_of(const struct template *t) { return (const struct tcg_reloc *)(exits_of(t) + t->exits); }
static const struct tcg_fault_site *sites_of(const struct template *t) { return (const struct tcg_fault_site *)(relocs_of(t) + t->relocs); }
static const struct x86_reloc *moving_of(const struct template *t) { return (const struct x86_reloc *)(sites_of(t) + t->sites); }
static const uint8_t *bytes_of(const struct template *t) { return (const uint8_t *)(moving_of(t) + t->moving); }
static const uint8_t *code_of(const struct template *t) { return bytes_of(t) + t->bytes; }
static size_t size_of_parts(const struct template *t)
{
    return sizeof *t + t->exits * sizeof(struct tcg_exit) + t->relocs * sizeof(struct tcg_reloc) + t->sites * sizeof(struct tcg_fault_site) + t->moving * sizeof(struct x86_reloc) +
           t->bytes + t->code_size;
}
static size_t whole_size(const struct template *t) { return (size_of_parts(t) + 7) & ~(size_t)7; }

/* --- Finding.  Blocks that are shorter than the lead are found by their first byte. */
static uint32_t bucket_of(uint32_t mode, unsigned page_offset, const uint8_t *bytes, unsigned lead)
{
    uint64_t h = (uint64_t)mode << 12 ^ page_offset ^ (uint64_t)lead << 62;
    for (unsigned n = 0; n < lead; n++)
        h ^= (uint64_t)bytes[n] << (32 + 8 * n);
    return (uint32_t)(h * 0x9e3779b97f4a7c15ull >> 48);
}

static unsigned lead_of(const struct template *t) { return t->bytes < LEAD ? 1 : LEAD; }

static bool index_begin(struct index *x, size_t room)
{
    *x = (struct index){.first = calloc(BUCKETS, sizeof *x->first), .entries = malloc((room + 1) * sizeof *x->entries)};
    return x->first && x->entries;
}

static void index_end(struct index *x)
{
    free(x->first);
    free(x->entries);
    *x = (struct index){0};
}

static void index_add(struct index *x, const struct template *t, size_t at)
{
    const uint8_t *bytes = bytes_of(t);
    uint32_t *first = &x->first[bucket_of(t->mode, t->page_offset, bytes, lead_of(t))];
    x->entries[++x->count] = (struct entry){.at = (uint32_t)at, .next = *first, .mode = t->mode, .page_offset = t->page_offset};
    memcpy(x->entries[x->count].lead, bytes, lead_of(t));
    *first = x->count;
}

/* Are these its bytes, where it lies at pc? */
static bool same_bytes(const struct template *t, uint64_t pc, const uint8_t *bytes)
{
    uint8_t moved[MOST_BLOCK];
    if (!t->moving)
        return !memcmp(bytes_of(t), bytes, t->bytes);
    memcpy(moved, bytes_of(t), t->bytes);
    return x86_relocate(moved, moving_of(t), t->moving, 0, pc) && !memcmp(moved, bytes, t->bytes);
}

static struct template *find(const struct index *x, uint8_t *data, uint32_t mode, uint64_t pc, const uint8_t *bytes, unsigned room, unsigned lead)
{
    unsigned page_offset = (unsigned)(pc & (PAGE - 1)), compared = 0;
    if (room < lead)
        return NULL;
    for (uint32_t n = x->first[bucket_of(mode, page_offset, bytes, lead)]; n && compared < MOST_COMPARED; n = x->entries[n].next, compared++) {
        const struct entry *e = &x->entries[n];
        struct template *t = (struct template *)(void *)(data + e->at);
        if (e->mode == mode && e->page_offset == page_offset && !memcmp(e->lead, bytes, lead) && lead_of(t) == lead && t->bytes <= room && same_bytes(t, pc, bytes))
            return t;
    }
    return NULL;
}

static struct template_found found(const struct template *t)
{
    struct template_found f = {
        .block = {.code_size = t->code_size, .body = t->body, .kills_flags = t->kills_flags, .pc_bits = t->pc_bits, .exit_count = t->exits, .site_count = t->sites},
        .moved = {.code = code_of(t), .at_64 = t->at_64, .relocs = relocs_of(t), .reloc_count = t->relocs},
        .bytes = t->bytes, .insns = t->insns, .head = t->head, .sites = sites_of(t),
    };
    memcpy(f.block.exits, exits_of(t), t->exits * sizeof *f.block.exits);
    return f;
}

bool templates_find(struct templates *ts, uint32_t mode, uint64_t pc, const uint8_t *host, struct template_found *to)
{
    unsigned room = (unsigned)(PAGE - (pc & (PAGE - 1)));
    if (!atomic_load_explicit(&ts->ready, memory_order_acquire))
        return false;
    struct template *t = find(&ts->index, ts->data, mode, pc, host, room, LEAD);
    if (!t && !(t = find(&ts->index, ts->data, mode, pc, host, room, 1)))
        return false;
    *to = found(t);
    t->used = ts->run;
    return true;
}

/* --- Reading.  The store has verified the checksum; nothing is believed that could lead out of a template. */
/* A displacement that is patched: inside of the code, and of one cache line. */
static bool is_patchable(const struct template *t, uint32_t at) { return at <= t->code_size && t->code_size - at >= 4 && ((t->at_64 + at) & 63) <= 60; }

static bool moving_is_sound(const struct template *t)
{
    for (unsigned n = 0; n < t->moving; n++) {
        const struct x86_reloc *r = &moving_of(t)[n];
        if (r->kind < X86_RELOC_32S || r->kind > X86_RELOC_PC32 || x86_reloc_at(r) + x86_reloc_size(r) > t->bytes)
            return false;
    }
    return true;
}

static bool is_sound(const struct template *t, size_t left)
{
    if (left < sizeof *t || t->size > left || t->size < sizeof *t || t->exits > TCG_MAX_EXITS || t->code_size > MOST_BYTES || whole_size(t) != t->size)
        return false;
    if (!t->bytes || t->bytes > MOST_BLOCK || t->page_offset + t->bytes > PAGE || !moving_is_sound(t) || t->head > t->bytes || t->at_64 > 63 || (t->at_64 & 15) || t->body > t->code_size || (t->body && t->code_size < 16))
        return false;
    if (t->pc_bits != 16 && t->pc_bits != 32 && t->pc_bits != 64)
        return false;
    for (unsigned n = 0; n < t->exits; n++) {
        const struct tcg_exit *e = &exits_of(t)[n];
        if (!is_patchable(t, e->jump_offset) || (e->late_offset && !is_patchable(t, e->late_offset)) || e->stub_offset > t->code_size || e->late_stub > t->code_size)
            return false;
    }
    for (unsigned n = 0; n < t->sites; n++)
        if (sites_of(t)[n].slow_offset > t->code_size)
            return false;
    return true;
}

static bool index_all(struct templates *ts)
{
    const struct file_head *h = (const struct file_head *)(const void *)ts->data;
    size_t at = sizeof *h;
    if (ts->size < sizeof *h || h->layout != LAYOUT || h->count > ts->size / sizeof(struct template) || !index_begin(&ts->index, h->count))
        return false;
    ts->run = h->run + 1;
    for (uint32_t n = 0; n < h->count; n++) {
        const struct template *t = (const struct template *)(const void *)(ts->data + at);
        if (at > ts->size || !is_sound(t, ts->size - at))
            return false;
        index_add(&ts->index, t, at);
        at += t->size;
    }
    return at == ts->size;
}

static void *read_them(void *arg)
{
    struct templates *ts = arg;
    if (!store_file_get(ts->store, ts->name, &ts->data, &ts->size))
        return NULL;
    if (index_all(ts)) {
        atomic_store_explicit(&ts->ready, true, memory_order_release);
        return NULL;
    }
    fprintf(stderr, "tierce: cache: files/%s: is no file of templates; it is not used\n", ts->name);
    index_end(&ts->index);
    free(ts->data);
    ts->data = NULL;
    ts->run = 0;
    return NULL;
}

uint32_t templates_layout(void) { return LAYOUT; }

void templates_name(const uint64_t translator[2], bool icount, char name[64])
{
    snprintf(name, NAME, "templates-%016" PRIx64 "-%c", translator[0], icount ? 'c' : 'n');
}

struct templates *templates_begin(struct store *s, const uint64_t translator[2], bool icount)
{
    struct templates *ts = calloc(1, sizeof *ts);
    if (!ts)
        return NULL;
    ts->store = s;
    templates_name(translator, icount, ts->name);
    ts->reading = thread_without_signals(&ts->reader, read_them, ts);
    return ts;
}

void templates_wait(struct templates *ts)
{
    if (ts->reading)
        pthread_join(ts->reader, NULL);
    ts->reading = false;
}

void templates_end(struct templates *ts)
{
    if (!ts)
        return;
    templates_wait(ts);
    index_end(&ts->index);
    free(ts->data);
    free(ts);
}

/* --- Writing */
struct out { uint8_t *data; size_t size, room; struct index index; };

static struct template *out_new(struct out *o, size_t size)
{
    if (o->size + size > MOST_BYTES)
        return NULL;
    if (o->size + size > o->room) {
        size_t room = o->room * 2 > o->size + size ? o->room * 2 : o->size + size + (4u << 20);
        uint8_t *data = realloc(o->data, room);
        if (!data)
            return NULL;
        o->data = data;
        o->room = room;
    }
    return (struct template *)(void *)(o->data + o->size);
}

/* PC 0 but for the place in the page: so its bytes are compared as they are. */
static bool out_has(const struct out *o, const struct template *t)
{
    uint32_t n = o->index.first[bucket_of(t->mode, t->page_offset, bytes_of(t), lead_of(t))];
    for (; n; n = o->index.entries[n].next) {
        const struct template *have = (const struct template *)(const void *)(o->data + o->index.entries[n].at);
        if (have->mode == t->mode && have->page_offset == t->page_offset && have->bytes == t->bytes && have->moving == t->moving &&
            !memcmp(moving_of(have), moving_of(t), t->moving * sizeof(struct x86_reloc) + t->bytes))
            return true;
    }
    return false;
}

static void out_add(struct out *o, const struct template *t)
{
    struct template *to = out_new(o, t->size);
    if (!to || out_has(o, t))
        return;
    memcpy(to, t, t->size);
    index_add(&o->index, to, o->size);
    o->size += t->size;
}

static bool is_kept(const struct tb *tb)
{
    return tb->code.relocs && tb->code.reloc_count <= UINT16_MAX && tb->code.site_count <= UINT16_MAX && !tb->straddles && tb->parts[0].size == tb->bytes && tb->bytes &&
           tb->bytes <= MOST_BLOCK && !tb->open_count;
}

static void add_block(struct out *o, const struct tb *tb, uint32_t run)
{
    struct x86_reloc moving[X86_RELOCS];
    uint8_t bytes[MOST_BLOCK];
    unsigned moves = x86_relocs_find(tb->mode, tb->pc, tb->copy, tb->bytes, moving, X86_RELOCS);
    memcpy(bytes, tb->copy, tb->bytes);
    if (!x86_relocate(bytes, moving, moves, tb->pc, 0))
        return;
    struct template head = {
        .mode = tb->mode, .used = run, .code_size = tb->code.code_size, .body = tb->code.body, .page_offset = (uint16_t)(tb->phys & (PAGE - 1)), .bytes = tb->bytes,
        .insns = tb->insns, .head = tb->head, .relocs = (uint16_t)tb->code.reloc_count, .sites = (uint16_t)tb->code.site_count, .exits = (uint8_t)tb->code.exit_count,
        .kills_flags = tb->code.kills_flags, .at_64 = (uintptr_t)tb->code.entry & 63, .pc_bits = (uint8_t)tb->code.pc_bits, .moving = (uint8_t)moves,
    };
    head.size = (uint32_t)whole_size(&head);
    struct template *t = out_new(o, head.size);
    if (!t)
        return;
    memset((char *)t + head.size - 8, 0, 8);
    *t = head;
    memcpy((void *)(uintptr_t)exits_of(t), tb->code.exits, t->exits * sizeof *tb->code.exits);
    memcpy((void *)(uintptr_t)relocs_of(t), tb->code.relocs, t->relocs * sizeof *tb->code.relocs);
    memcpy((void *)(uintptr_t)sites_of(t), tb->code.sites, t->sites * sizeof *tb->code.sites);
    memcpy((void *)(uintptr_t)moving_of(t), moving, moves * sizeof *moving);
    memcpy((void *)(uintptr_t)bytes_of(t), bytes, tb->bytes);
    tcg_copy(&tb->code, (uint8_t *)(uintptr_t)code_of(t));
    if (out_has(o, t))
        return;
    index_add(&o->index, t, o->size);
    o->size += t->size;
}

static unsigned count_fresh(const struct tb_store *s)
{
    const struct tb *tb = s->ahead;
    unsigned count = 0;
    for (size_t n = s->count; n; n--, tb = tb->after)
        count += is_kept(tb);
    return count;
}

static const struct template *nth(const struct templates *ts, uint32_t n) { return (const struct template *)(const void *)(ts->data + ts->index.entries[n].at); }

void templates_each(struct templates *ts, bool (*each)(void *ctx, uint32_t mode, unsigned page_offset, const struct template_found *), void *ctx)
{
    templates_wait(ts);
    for (uint32_t n = 1; n <= ts->index.count; n++) {
        struct template_found f = found(nth(ts, n));
        if (!each(ctx, nth(ts, n)->mode, nth(ts, n)->page_offset, &f))
            return;
    }
}

/* The latest used first: where there is no room for all, the others go. */
static void add_earlier(struct out *o, const struct templates *ts)
{
    for (uint32_t n = 1; n <= ts->index.count; n++)
        if (nth(ts, n)->used == ts->run)
            out_add(o, nth(ts, n));
    for (uint32_t n = 1; n <= ts->index.count; n++)
        if (nth(ts, n)->used != ts->run && ts->run - nth(ts, n)->used < RUNS_KEPT)
            out_add(o, nth(ts, n));
}

static bool write_all(struct templates *ts, const struct tb_store *s, unsigned fresh)
{
    struct out o = {.size = sizeof(struct file_head)};
    const struct tb *tb = s->ahead;
    bool written = false;
    if (index_begin(&o.index, (size_t)fresh + ts->index.count) && out_new(&o, 0)) {
        for (size_t n = s->count; n; n--, tb = tb->after)
            if (is_kept(tb))
                add_block(&o, tb, ts->run);
        if (ts->data)
            add_earlier(&o, ts);
        memcpy(o.data, &(struct file_head){.layout = LAYOUT, .run = ts->run, .count = o.index.count}, sizeof(struct file_head));
        written = store_file_put(ts->store, ts->name, o.data, o.size, false);
    }
    index_end(&o.index);
    free(o.data);
    return written;
}

unsigned templates_keep(struct templates *ts, struct vcpu *v)
{
    if (!ts)
        return 0;
    templates_wait(ts);
    unsigned fresh = count_fresh(&v->tbs);
    bool worth = fresh >= LEAST_NEW && fresh > ts->index.count / NEW_SHARE;
    return worth && write_all(ts, &v->tbs, fresh) ? fresh : 0;
}
