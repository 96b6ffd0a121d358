/* A file: a head, an index, then templates of a whole number of 8 bytes each.  The index is read at the start, and so is all of a file that is not too large;
 * of others a template when it is looked at, which takes a system call.  All is in the process's own form, as nobody else than the same translator reads it. */
#define _GNU_SOURCE
#include "runtime/cache_templates.h"
#include "runtime/recipe.h"
#include "runtime/thread.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define MOST_BYTES (56ull << 20)        /* of a file that runs write */
#define MOST_TEMPLATE (1u << 20)
#define HUGE (2u << 20)
enum {
    LEAD = 2 /* bytes by which one is found: a field that moves seldom lies in them */, MOST_COMPARED = 64, MOST_BLOCK = 1024,
    NAME = 64, LEAST_NEW = 64, NEW_SHARE = 16 /* a file is written again for that many new ones, and that part of what is there */,
    WRITER_BUCKETS = 1 << 17,
    RUNS_KEPT = 16 /* that wrote it: what none of them used is dropped */,
};
struct file_head { uint32_t layout, run /* how many wrote it */, count, unused; uint64_t check; };
struct entry {
    uint32_t check;                     /* of the template's bytes */
    uint32_t at, size, mode, used;      /* at: in units of 8 bytes; used: the last run that did; mode: without X86_MODE_FPU where it holds for any */
    uint32_t hash;                      /* of the block's bytes, where none of them move */
    uint16_t bytes, page_offset; uint8_t lead[LEAD], lead_size : 4, any_fpu : 1, moves;
};
enum { FORMAT = 2 };
struct template {
    uint32_t code_size, body;
    uint16_t bytes, insns, head, relocs, sites;
    uint8_t exits, kills_flags, at_64, pc_bits, moving, unused;
};
#define LAYOUT ((uint32_t)(sizeof(struct template) + sizeof(struct entry) + FORMAT) | (uint32_t)sizeof(struct tcg_exit) << 8 | (uint32_t)sizeof(struct tcg_reloc) << 16 | \
                (uint32_t)sizeof(struct tcg_fault_site) << 24)

struct file {
    int fd;                             /* -1: there is none, or what a run left was written by this process */
    uint64_t at, size;                  /* of what the store keeps, in the file */
    uint32_t run, count;
    uint32_t *first, mask;              /* by bucket: where its entries begin, which lie together; one more for the end */
    struct entry *entries;
    uint8_t *data;                      /* all of it; NULL: too large */
};
struct templates {
    struct store *store;
    uint64_t translator[2];
    bool icount;
    pthread_t worker;                   /* reads the files, or writes one */
    bool working;
    atomic_bool ready;
    struct file files[TEMPLATE_SOURCES];
    struct template *read; uint32_t room; /* the one that is looked at */
};

/* --- Where a template's parts are: exits, relocations, sites, what moves in the bytes, the bytes as of PC 0, code */
static const struct tcg_exit *exits_of(const struct template *t) { return (const struct tcg_exit *)(t + 1); }
static const struct tcg_reloc *relocs_of(const struct template *t) { return (const struct tcg_reloc *)(exits_of(t) + t->exits); }
static const struct tcg_fault_site *sites_of(const struct template *t) { return (const struct tcg_fault_site *)(relocs_of(t) + t->relocs); }
static const struct x86_reloc *moving_of(const struct template *t) { return (const struct x86_reloc *)(sites_of(t) + t->sites); }
static const uint8_t *bytes_of(const struct template *t) { return (const uint8_t *)(moving_of(t) + t->moving); }
static const uint8_t *code_of(const struct template *t) { return bytes_of(t) + t->bytes; }
static uint64_t whole_size(const struct template *t)
{
    uint64_t size = sizeof *t + t->exits * sizeof(struct tcg_exit) + t->relocs * sizeof(struct tcg_reloc) + t->sites * sizeof(struct tcg_fault_site);
    return (size + t->moving * sizeof(struct x86_reloc) + t->bytes + t->code_size + 7) & ~7ull;
}

/* --- The index.  Blocks that are shorter than the lead are found by their first byte, and blocks that have nothing to do with the FPU in any mode of it. */
struct place { uint32_t mode; unsigned page_offset; const uint8_t *bytes; unsigned lead; bool any_fpu; };
static uint32_t hash_of(struct place p)
{
    uint64_t h = (uint64_t)p.mode << 12 ^ p.page_offset ^ (uint64_t)p.lead << 62 ^ (uint64_t)p.any_fpu << 61;
    for (unsigned n = 0; n < p.lead; n++)
        h ^= (uint64_t)p.bytes[n] << (32 + 8 * n);
    return (uint32_t)(h * 0x9e3779b97f4a7c15ull >> 32);
}

static bool is_at(const struct entry *e, struct place p)
{
    return e->mode == p.mode && e->page_offset == p.page_offset && e->lead_size == p.lead && e->any_fpu == p.any_fpu && !memcmp(e->lead, p.bytes, p.lead);
}

static uint32_t bytes_hash(const uint8_t *bytes, unsigned size) { return (uint32_t)XXH3_64bits(bytes, size); }

static uint32_t entry_hash(const struct entry *e) { return hash_of((struct place){e->mode, e->page_offset, e->lead, e->lead_size, e->any_fpu}); }

/* So many buckets as there are entries, or up to twice as many. */
static uint32_t mask_for(uint32_t count)
{
    uint32_t mask = (1 << 12) - 1;
    while (mask < count)
        mask = mask * 2 + 1;
    return mask;
}

static void file_end(struct file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    free(f->first);
    free(f->entries);
    free(f->data);
    *f = (struct file){.fd = -1};
}

/* --- Reading.  Nothing is believed that could lead out of a template. */
/* A displacement that is patched: inside of the code, and of one cache line. */
static bool is_patchable(const struct template *t, uint32_t at) { return at <= t->code_size && t->code_size - at >= 4 && ((t->at_64 + at) & 63) <= 60; }

static bool exits_are_sound(const struct template *t)
{
    for (unsigned n = 0; n < t->exits; n++) {
        const struct tcg_exit *e = &exits_of(t)[n];
        if (!is_patchable(t, e->jump_offset) || (e->late_offset && !is_patchable(t, e->late_offset)) || e->stub_offset > t->code_size || e->late_stub > t->code_size)
            return false;
    }
    return true;
}

static bool is_sound(const struct template *t, const struct entry *e)
{
    if (t->exits > TCG_MAX_EXITS || t->code_size > MOST_TEMPLATE || whole_size(t) != e->size)
        return false;
    if (!t->bytes || t->bytes > MOST_BLOCK || e->bytes != t->bytes || e->moves != (t->moving != 0) || e->page_offset + t->bytes > PAGE || t->head > t->bytes || e->lead_size != (t->bytes < LEAD ? 1 : LEAD))
        return false;
    if ((t->at_64 & ~48) || t->body > t->code_size || (t->body && t->code_size < 16) || (t->pc_bits != 16 && t->pc_bits != 32 && t->pc_bits != 64))
        return false;
    for (unsigned n = 0; n < t->moving; n++) {
        const struct x86_reloc *r = &moving_of(t)[n];
        if (r->kind < X86_RELOC_32S || r->kind > X86_RELOC_PC32 || x86_reloc_at(r) + x86_reloc_size(r) > t->bytes)
            return false;
    }
    for (unsigned n = 0; n < t->sites; n++)
        if (sites_of(t)[n].slow_offset > t->code_size)
            return false;
    return exits_are_sound(t);
}

static bool read_at(const struct file *f, void *to, size_t size, uint64_t at)
{
    bool within = at <= f->size && size <= f->size - at;
    if (within && f->data)
        memcpy(to, f->data + at, size);
    return within && (f->data || pread(f->fd, to, size, (off_t)(f->at + at)) == (ssize_t)size);
}

static bool read_room(struct templates *ts, uint32_t size)
{
    if (size <= ts->room)
        return true;
    free(ts->read);
    ts->room = (ts->read = malloc(size * 2)) ? size * 2 : 0;
    return ts->read;
}

/* NULL: damaged, or out of memory. */
static const struct template *read_template(struct templates *ts, const struct file *f, const struct entry *e)
{
    const struct template *t = NULL;
    if (e->size < sizeof *t || e->size > MOST_TEMPLATE)
        return NULL;
    if (f->data && 8ull * e->at <= f->size && e->size <= f->size - 8ull * e->at)
        t = (const struct template *)(const void *)(f->data + 8ull * e->at);
    else if (!f->data && read_room(ts, e->size) && read_at(f, ts->read, e->size, 8ull * e->at))
        t = ts->read;
    return t && (uint32_t)XXH3_64bits(t, e->size) == e->check && is_sound(t, e) ? t : NULL;
}

static uint64_t head_check(struct file_head h, const struct entry *entries)
{
    h.check = 0;
    return XXH3_64bits_withSeed(entries, h.count * sizeof *entries, XXH3_64bits(&h, sizeof h));
}

static bool read_index(struct file *f)
{
    struct file_head h;
    if (!read_at(f, &h, sizeof h, 0) || h.layout != LAYOUT || h.count > f->size / sizeof *f->entries)
        return false;
    f->entries = malloc(h.count * sizeof *f->entries + 1);
    f->mask = mask_for(h.count);
    f->first = malloc((f->mask + 2ull) * sizeof *f->first);
    if (!f->entries || !f->first || !read_at(f, f->entries, h.count * sizeof *f->entries, sizeof h) || head_check(h, f->entries) != h.check)
        return false;
    f->run = h.run + 1;
    f->count = h.count;
    uint32_t bucket = 0;
    for (uint32_t n = 0; n < h.count; n++) {
        uint32_t of = f->entries[n].lead_size > LEAD ? 0 : entry_hash(&f->entries[n]) & f->mask;
        if (f->entries[n].lead_size > LEAD || of + 1 < bucket)
            return false;
        while (bucket <= of)
            f->first[bucket++] = n;
    }
    while (bucket <= f->mask + 1)
        f->first[bucket++] = h.count;
    return true;
}

static void read_all(struct file *f)
{
    void *data;
    if (f->size > MOST_BYTES * 5 / 4 || posix_memalign(&data, f->size < HUGE ? 64 : HUGE, f->size))
        return;
    if (f->size >= HUGE)
        madvise(data, f->size, MADV_HUGEPAGE);
    if (read_at(f, data, f->size, 0))
        f->data = data;
    else
        free(data);
}

static void *read_them(void *arg)
{
    struct templates *ts = arg;
    char name[NAME];
    for (unsigned n = 0; n < TEMPLATE_SOURCES; n++) {
        struct file *f = &ts->files[n];
        templates_name(ts->translator, ts->icount, n, name);
        if ((f->fd = store_file_plain(ts->store, name, &f->at, &f->size)) < 0)
            continue;
        read_all(f);
        if (!read_index(f)) {
            fprintf(stderr, "tierce: cache: files/%s: is no file of templates; it is not used\n", name);
            file_end(f);
        }
    }
    atomic_store_explicit(&ts->ready, true, memory_order_release);
    return NULL;
}

void templates_mend(uint8_t *file, size_t size)
{
    struct file_head h;
    struct entry *entries = (struct entry *)(void *)(file + sizeof h);
    if (size < sizeof h)
        return;
    memcpy(&h, file, sizeof h);
    h.layout = LAYOUT;
    if (h.count > (size - sizeof h) / sizeof *entries)
        h.count = (uint32_t)((size - sizeof h) / sizeof *entries);
    for (uint32_t n = 0; n < h.count; n++)
        if (8ull * entries[n].at <= size && entries[n].size <= size - 8ull * entries[n].at)
            entries[n].check = (uint32_t)XXH3_64bits(file + 8ull * entries[n].at, entries[n].size);
    h.check = head_check(h, entries);
    memcpy(file, &h, sizeof h);
}

void templates_name(const uint64_t translator[2], bool icount, enum template_source source, char name[64])
{
    snprintf(name, NAME, "templates-%016" PRIx64 "-%c-%s", translator[0], icount ? 'c' : 'n', source == TEMPLATES_OF_RUNS ? "runs" : "files");
}

struct templates *templates_begin(struct store *s, const uint64_t translator[2], bool icount)
{
    struct templates *ts = calloc(1, sizeof *ts);
    if (!ts)
        return NULL;
    *ts = (struct templates){.store = s, .translator = {translator[0], translator[1]}, .icount = icount};
    for (unsigned n = 0; n < TEMPLATE_SOURCES; n++)
        ts->files[n].fd = -1;
    ts->working = thread_without_signals(&ts->worker, read_them, ts);
    return ts;
}

void templates_wait(struct templates *ts)
{
    if (ts->working)
        pthread_join(ts->worker, NULL);
    ts->working = false;
}

void templates_end(struct templates *ts)
{
    if (!ts)
        return;
    templates_wait(ts);
    for (unsigned n = 0; n < TEMPLATE_SOURCES; n++)
        file_end(&ts->files[n]);
    free(ts->read);
    free(ts);
}

/* --- Finding */
/* Are these its bytes, where it lies at pc? */
static bool same_bytes(const struct template *t, uint64_t pc, const uint8_t *bytes)
{
    uint8_t moved[MOST_BLOCK];
    if (!t->moving)
        return !memcmp(bytes_of(t), bytes, t->bytes);
    memcpy(moved, bytes_of(t), t->bytes);
    return x86_relocate(moved, moving_of(t), t->moving, 0, pc) && !memcmp(moved, bytes, t->bytes);
}

static const struct template *find(struct templates *ts, struct file *f, uint64_t pc, struct place p)
{
    unsigned room = (unsigned)PAGE - p.page_offset, compared = 0;
    if (!f->entries || room < p.lead)
        return NULL;
    uint32_t bucket = hash_of(p) & f->mask;
    for (uint32_t n = f->first[bucket]; n < f->first[bucket + 1] && compared < MOST_COMPARED; n++) {
        struct entry *e = &f->entries[n];
        if (!is_at(e, p) || e->bytes > room || (!e->moves && bytes_hash(p.bytes, e->bytes) != e->hash))
            continue;
        const struct template *t = read_template(ts, f, e);
        compared++;
        if (t && same_bytes(t, pc, p.bytes)) {
            e->used = f->run;
            return t;
        }
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
    const uint32_t any = mode & ~(uint32_t)X86_MODE_FPU;
    const unsigned offset = (unsigned)(pc & (PAGE - 1));
    const struct place places[] = {{any, offset, host, LEAD, true}, {mode, offset, host, LEAD, false}, {any, offset, host, 1, true}}; /* the most likely first */
    const struct template *t = NULL;
    if (!atomic_load_explicit(&ts->ready, memory_order_acquire))
        return false;
    for (unsigned n = 0; n < TEMPLATE_SOURCES; n++)
        for (unsigned k = 0; k < sizeof places / sizeof *places && !t; k++)
            t = find(ts, &ts->files[n], pc, places[k]);
    if (t)
        *to = found(t);
    return t;
}

void templates_each(struct templates *ts, bool (*each)(void *ctx, uint32_t mode, unsigned page_offset, const struct template_found *), void *ctx)
{
    templates_wait(ts);
    for (unsigned k = 0; k < TEMPLATE_SOURCES; k++)
        for (uint32_t n = 0; n < ts->files[k].count; n++) {
            const struct entry *e = &ts->files[k].entries[n];
            const struct template *t = read_template(ts, &ts->files[k], e);
            struct template_found f = t ? found(t) : (struct template_found){.bytes = 0};
            if (t && !each(ctx, e->mode, e->page_offset, &f))
                return;
        }
}

/* --- Writing */
struct template_writer {
    struct entry *entries;
    uint32_t count, room, first[WRITER_BUCKETS], *next; /* lists, numbered from 1 */
    uint8_t *data;
    uint64_t size, most, data_room;
    struct tcg_buffer *buffer;          /* of template_writer_translate, as the next */
    struct ir_block ir;
};
struct source_block { uint32_t mode; bool whole_mode; uint64_t pc; const uint8_t *bytes; unsigned size, insns, head; const struct tcg_block *code; };

void template_writer_free(struct template_writer *w)
{
    if (!w)
        return;
    free(w->entries);
    free(w->next);
    tcg_buffer_free(w->buffer);
    ir_block_free(&w->ir);
    free(w->data);
    free(w);
}

struct template_writer *template_writer_new(uint64_t most_bytes)
{
    struct template_writer *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->most = most_bytes;
    ir_block_init(&w->ir);
    return w;
}

unsigned template_writer_count(const struct template_writer *w, uint64_t *bytes)
{
    *bytes = w->size;
    return w->count;
}

/* Room behind the last; NULL: there is none. */
static struct template *room_for(struct template_writer *w, uint64_t size)
{
    if (w->count == w->room) {
        uint32_t room = w->room ? w->room * 2 : 4096;
        struct entry *entries = realloc(w->entries, room * sizeof *entries);
        w->entries = entries ? entries : w->entries;
        uint32_t *next = entries ? realloc(w->next, room * sizeof *next) : NULL;
        w->next = next ? next : w->next;
        if (!next)
            return NULL;
        w->room = room;
    }
    if (size > MOST_TEMPLATE || w->size + size > w->most)
        return NULL;
    if (w->size + size > w->data_room) {
        uint64_t room = w->data_room * 2 > w->size + size ? w->data_room * 2 : w->size + size + (4u << 20);
        uint8_t *data = realloc(w->data, room);
        if (!data)
            return NULL;
        w->data = data;
        w->data_room = room;
    }
    return memset(w->data + w->size, 0, size);
}

/* A block's place in the index, and its bytes as they would be at PC 0. */
struct unmoved { struct entry e; struct x86_reloc moving[X86_RELOCS]; unsigned moves; uint8_t bytes[MOST_BLOCK]; };
static bool unmoved_of(struct unmoved *u, const struct source_block *b)
{
    unsigned page_offset = (unsigned)(b->pc & (PAGE - 1));
    if (!b->size || b->size > MOST_BLOCK || page_offset + b->size > PAGE)
        return false;
    u->moves = x86_relocs_find(b->mode, b->pc, b->bytes, b->size, u->moving, X86_RELOCS);
    memcpy(u->bytes, b->bytes, b->size);
    if (!x86_relocate(u->bytes, u->moving, u->moves, b->pc, 0))
        return false;
    u->e = (struct entry){.mode = b->whole_mode ? b->mode : b->mode & ~(uint32_t)X86_MODE_FPU, .any_fpu = !b->whole_mode, .page_offset = (uint16_t)page_offset,
                          .bytes = (uint16_t)b->size, .lead_size = b->size < LEAD ? 1 : LEAD, .moves = u->moves != 0, .hash = bytes_hash(u->bytes, b->size)};
    memcpy(u->e.lead, u->bytes, u->e.lead_size);
    return true;
}

static bool is_there(const struct template_writer *w, const struct entry *e, const struct x86_reloc *moving, unsigned moves, const uint8_t *bytes)
{
    for (uint32_t n = w->first[entry_hash(e) % WRITER_BUCKETS]; n; n = w->next[n - 1]) {
        const struct entry *have = &w->entries[n - 1];
        const struct template *there = (const struct template *)(const void *)(w->data + 8ull * have->at);
        if (have->mode == e->mode && have->any_fpu == e->any_fpu && have->page_offset == e->page_offset && have->hash == e->hash && there->bytes == e->bytes && there->moving == moves &&
            !memcmp(moving_of(there), moving, moves * sizeof *moving) && !memcmp(bytes_of(there), bytes, e->bytes))
            return true;
    }
    return false;
}

/* The template lies in the room already. */
static void enter(struct template_writer *w, struct entry e, const struct template *t)
{
    e.size = (uint32_t)whole_size(t);
    e.at = (uint32_t)(w->size / 8);
    e.check = (uint32_t)XXH3_64bits(t, e.size);
    uint32_t *first = &w->first[entry_hash(&e) % WRITER_BUCKETS];
    w->entries[w->count] = e;
    w->next[w->count] = *first;
    *first = ++w->count;
    w->size += e.size;
}

static bool add(struct template_writer *w, const struct source_block *b, struct unmoved *u, uint32_t run)
{
    const struct tcg_block *code = b->code;
    if (!code->relocs || code->reloc_count > UINT16_MAX || code->site_count > UINT16_MAX)
        return false;
    const struct template head = {
        .code_size = code->code_size, .body = code->body, .bytes = (uint16_t)b->size, .insns = (uint16_t)b->insns, .head = (uint16_t)b->head,
        .relocs = (uint16_t)code->reloc_count, .sites = (uint16_t)code->site_count, .exits = (uint8_t)code->exit_count, .kills_flags = code->kills_flags,
        .at_64 = (uintptr_t)code->entry & 63, .pc_bits = (uint8_t)code->pc_bits, .moving = (uint8_t)u->moves,
    };
    struct template *t = room_for(w, whole_size(&head));
    if (!t)
        return false;
    *t = head;
    memcpy((void *)(uintptr_t)exits_of(t), code->exits, t->exits * sizeof *code->exits);
    memcpy((void *)(uintptr_t)relocs_of(t), code->relocs, t->relocs * sizeof *code->relocs);
    if (t->sites)
        memcpy((void *)(uintptr_t)sites_of(t), code->sites, t->sites * sizeof *code->sites);
    memcpy((void *)(uintptr_t)moving_of(t), u->moving, u->moves * sizeof *u->moving);
    memcpy((void *)(uintptr_t)bytes_of(t), u->bytes, b->size);
    tcg_copy(code, (uint8_t *)(uintptr_t)code_of(t));
    u->e.used = run;
    enter(w, u->e, t);
    return true;
}

/* A block that is new: false where there is one of the same bytes. */
static bool add_new(struct template_writer *w, const struct source_block *b, uint32_t run)
{
    struct unmoved u;
    return unmoved_of(&u, b) && !is_there(w, &u.e, u.moving, u.moves, u.bytes) && add(w, b, &u, run);
}

/* --- Ahead of time */
bool template_writer_translate(struct template_writer *w, const struct x86_model *model, uint32_t mode, uint64_t pc, const uint8_t *bytes, unsigned room)
{
    enum { BUFFER = 1 << 20 };
    struct code_bytes from = {pc, bytes, room};
    const struct x86_fetch fetch = {.bytes = code_bytes_fetch, .ctx = &from};
    const struct x86_lift_limits limits = {.insns = MAX_INSNS, .bytes = PAGE, .branches = MAX_BRANCHES, .relocate = true};
    /* What is relocated has only to have a place, and blocks of their own kind count (region_counter_new). */
    const struct tcg_options options = {.guest = &x86_guest, .pc = pc, .user = w, .counter = mode & X86_MODE_SHADOW ? 0 : 64, .moves = true};
    struct tcg_block code;
    struct unmoved u;
    size_t at = 0;
    if (!w->buffer && !(w->buffer = tcg_buffer_new(BUFFER)))
        return false;
    ir_block_clear(&w->ir);
    if (!x86_lift(model, mode, pc, pc, &fetch, &limits, &w->ir) || w->ir.out_of_memory || w->ir.guest_bytes > room)
        return false;
    unsigned head = w->ir.head_bytes ? w->ir.head_bytes : w->ir.guest_bytes;
    const struct source_block block = {mode, w->ir.whole_mode, pc, bytes, w->ir.guest_bytes, w->ir.guest_insns, head, &code};
    if (!unmoved_of(&u, &block) || is_there(w, &u.e, u.moving, u.moves, u.bytes))
        return false;
    ir_optimise(&w->ir, &x86_guest);
    if (tcg_compile(w->buffer, &at, BUFFER, &w->ir, &options, &code) != TCG_OK)
        return false;
    bool added = add(w, &block, &u, 0);
    free(code.sites);
    free(code.relocs);
    return added;
}

/* The entries by their buckets, each where its template is in the file. */
static bool entries_sorted(const struct template_writer *w, struct entry *to, uint32_t before)
{
    uint32_t mask = mask_for(w->count), *first = calloc(mask + 2ull, sizeof *first);
    if (!first)
        return false;
    for (uint32_t n = 0; n < w->count; n++)
        first[(entry_hash(&w->entries[n]) & mask) + 1]++;
    for (uint32_t n = 0; n <= mask; n++)
        first[n + 1] += first[n];
    for (uint32_t n = 0; n < w->count; n++) {
        struct entry *e = &to[first[entry_hash(&w->entries[n]) & mask]++];
        *e = w->entries[n];
        e->at += before;
    }
    free(first);
    return true;
}

/* malloc'd; NULL: out of memory, or too much. */
static uint8_t *file_of(const struct template_writer *w, uint32_t run, uint64_t *size)
{
    uint64_t front = sizeof(struct file_head) + w->count * sizeof(struct entry);
    struct file_head h = {.layout = LAYOUT, .run = run, .count = w->count};
    uint8_t *all = front + w->size <= UINT32_MAX ? malloc(front + w->size) : NULL;
    struct entry *entries = (struct entry *)(void *)(all + sizeof h);
    if (!all || !entries_sorted(w, entries, (uint32_t)(front / 8))) {
        free(all);
        return NULL;
    }
    h.check = head_check(h, entries);
    memcpy(all, &h, sizeof h);
    if (w->size)
        memcpy(all + front, w->data, w->size);
    *size = front + w->size;
    return all;
}

bool template_writer_put(struct template_writer *w, struct store *s, const uint64_t translator[2], bool icount, enum template_source source)
{
    char name[NAME];
    uint64_t size;
    uint8_t *all = file_of(w, 0, &size);
    templates_name(translator, icount, source, name);
    bool done = all && store_file_put(s, name, all, size, false);
    free(all);
    return done;
}

/* --- At the end of a run, and where the guest begins anew */
static bool is_kept(const struct tb *tb) { return tb->code.relocs && !tb->straddles && tb->parts[0].size == tb->bytes && !tb->open_count; }

static unsigned count_fresh(const struct tb_store *s)
{
    const struct tb *tb = s->ahead;
    unsigned count = 0;
    for (size_t n = s->count; n; n--, tb = tb->after)
        count += is_kept(tb);
    return count;
}

static void add_fresh(struct template_writer *w, const struct tb_store *s, uint32_t run)
{
    const struct tb *tb = s->ahead;
    for (size_t n = s->count; n; n--, tb = tb->after)
        if (is_kept(tb))
            add_new(w, &(struct source_block){tb->mode, tb->whole_mode, tb->pc, tb->copy, tb->bytes, tb->insns, tb->head, &tb->code}, run);
}

static void take(struct template_writer *w, struct templates *ts, const struct file *f, const struct entry *e)
{
    const struct template *t = read_template(ts, f, e);
    if (!t || is_there(w, e, moving_of(t), t->moving, bytes_of(t)))
        return;
    struct template *to = room_for(w, e->size);
    if (to)
        enter(w, *e, memcpy(to, t, e->size));
}

/* Those of earlier runs: what this one used, or what it did not. */
static void add_earlier(struct template_writer *w, struct templates *ts, bool used)
{
    const struct file *f = &ts->files[TEMPLATES_OF_RUNS];
    for (uint32_t n = 0; n < f->count; n++)
        if ((f->entries[n].used == f->run) == used && f->run - f->entries[n].used < RUNS_KEPT)
            take(w, ts, f, &f->entries[n]);
}

void template_writer_take(struct template_writer *w, struct store *s, const uint64_t translator[2], bool icount, enum template_source source)
{
    struct templates *ts = templates_begin(s, translator, icount);
    if (!ts)
        return;
    templates_wait(ts);
    for (uint32_t n = 0; n < ts->files[source].count; n++)
        take(w, ts, &ts->files[source], &ts->files[source].entries[n]);
    templates_end(ts);
}

/* With those of earlier runs, as a file.  NULL: there is too little that is new, or no memory. */
static uint8_t *gathered(struct templates *ts, struct vcpu *v, uint64_t *size)
{
    unsigned fresh = count_fresh(&v->tbs);
    const struct file *f = &ts->files[TEMPLATES_OF_RUNS];
    uint64_t cap = v->machine->config.cache.max_bytes, most = cap && cap / 4 < MOST_BYTES ? cap / 4 : MOST_BYTES; /* objects have to have room, too */
    struct template_writer *w = fresh >= LEAST_NEW && fresh > f->count / NEW_SHARE ? template_writer_new(most) : NULL;
    if (!w)
        return NULL;
    add_fresh(w, &v->tbs, f->run);
    add_earlier(w, ts, true);
    add_earlier(w, ts, false);
    uint8_t *all = file_of(w, f->run, size);
    template_writer_free(w);
    return all;
}

static void *write_runs(void *arg)
{
    struct templates *ts = arg;
    const struct file *f = &ts->files[TEMPLATES_OF_RUNS];
    char name[NAME];
    templates_name(ts->translator, ts->icount, TEMPLATES_OF_RUNS, name);
    store_file_put(ts->store, name, f->data, f->size, false);
    return NULL;
}

/* The file is read where it lies in memory from now on, and written on the thread. */
void templates_keep(struct templates *ts, struct vcpu *v)
{
    uint64_t size;
    templates_wait(ts);
    uint8_t *all = gathered(ts, v, &size);
    if (!all)
        return;
    file_end(&ts->files[TEMPLATES_OF_RUNS]);
    ts->files[TEMPLATES_OF_RUNS] = (struct file){.fd = -1, .data = all, .size = size};
    if (!read_index(&ts->files[TEMPLATES_OF_RUNS])) { /* out of memory */
        file_end(&ts->files[TEMPLATES_OF_RUNS]);
        return;
    }
    if (!(ts->working = thread_without_signals(&ts->worker, write_runs, ts)))
        write_runs(ts);
}
