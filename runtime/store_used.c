/* When objects were used: a word for each in the file `used`, found by its key's hash; and what needs it, listing and pruning.  Two objects
 * with one word keep each other alive, and a lost word makes its object as old as its put: both harm nobody. */
#define _GNU_SOURCE
#include "runtime/store_internal.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MIN_WORDS = 1024, MAX_NOTED = 1 << 16, LOCK_WAIT_MS = 2000 };

int store_used_open(struct store_dir *d, int flags)
{
    struct stat s;
    return store_file_open(d, "used", flags, &s);
}

/* Where the word is; UINT64_MAX: there is no file, or nothing in it. */
static uint64_t place(int fd, uint64_t hash)
{
    struct stat s;
    uint64_t words = fd < 0 || fstat(fd, &s) ? 0 : (uint64_t)s.st_size / 4;
    return words ? hash % words * 4 : UINT64_MAX;
}

uint32_t store_used_read(int fd, const struct store_key *key)
{
    uint32_t seconds = 0;
    uint64_t at = place(fd, store_hash_key(key));
    return at != UINT64_MAX && store_read(fd, &seconds, 4, at) ? seconds : 0;
}

void store_used_note(struct store_dir *d, const struct store_key *key)
{
    if (!d->used)
        d->used = malloc(MAX_NOTED * sizeof *d->used);
    if (d->used && d->used_count < MAX_NOTED)
        d->used[d->used_count++] = store_hash_key(key);
}

void store_used_flush(struct store_dir *d, const uint64_t *hashes, unsigned count)
{
    uint32_t seconds = (uint32_t)(store_now() / 1000000000u);
    int fd = count ? store_used_open(d, O_RDWR) : -1;
    for (unsigned n = 0; n < count && fd >= 0; n++) {
        uint64_t at = place(fd, hashes[n]);
        if (at == UINT64_MAX || pwrite(fd, &seconds, 4, (off_t)at) != 4)
            break;
    }
    if (fd >= 0)
        close(fd);
}

bool store_used_rebuild(struct store_dir *d, const struct store_table *t)
{
    struct stat s;
    size_t words = MIN_WORDS;
    while (words < 2 * (size_t)t->count)
        words *= 2;
    int old = store_file_open(d, "used", O_RDONLY, &s);
    uint64_t have = old < 0 ? 0 : (uint64_t)s.st_size / 4;
    bool done = have >= words && have <= words * 16;
    uint32_t *fresh = done ? NULL : calloc(words, sizeof *fresh);
    struct store_writer *w = done ? NULL : malloc(sizeof *w);
    for (uint32_t n = 0; fresh && n < t->count; n++) {
        const struct store_key *key = &t->entries[n].record.key;
        uint32_t seconds = store_used_read(old, key), *word = &fresh[store_hash_key(key) % words];
        *word = seconds > *word ? seconds : *word;
    }
    if (fresh && w && store_writer_begin(w, d, "used")) {
        store_writer_add(w, fresh, words * sizeof *fresh);
        done = store_writer_end(w);
    }
    if (old >= 0)
        close(old);
    free(fresh);
    free(w);
    return done;
}

/* --- Listing and pruning */
struct listing { bool (*each)(void *ctx, const struct store_entry *); void *ctx; unsigned layer; int used; };

static bool list_entry(const struct listing *l, const struct store_record *r)
{
    struct store_entry e = {r->key, r->size, r->stored, r->time / 1000000000u, l->layer};
    uint64_t used = store_used_read(l->used, &r->key);
    e.used = used > e.used ? used : e.used;
    return l->each(l->ctx, &e);
}

static bool list_table(const struct listing *l, const struct store_view *v, const struct store_table *t)
{
    struct store_at batch[256], newer;
    for (uint32_t from = 0, got; (got = store_table_entries(t, from, batch, 256)); from += got)
        for (uint32_t n = 0; n < got; n++) {
            const struct store_record *r = &batch[n].record;
            bool hidden = !r->size || (t == &v->index && store_table_find(&v->recent, &r->key, &newer));
            if (!hidden && !list_entry(l, r))
                return false;
        }
    return true;
}

void store_each(struct store *s, bool with_layers, bool (*each)(void *ctx, const struct store_entry *), void *ctx)
{
    bool more = true;
    store_flush(s);
    for (unsigned n = 0; more && store_layer(s, n) && (!n || with_layers); n++) {
        struct store_dir *d = store_layer(s, n);
        struct store_view v = {.index.fd = -1, .recent.fd = -1}; /* its own, so that `each` may use the store */
        struct listing l = {each, ctx, n, store_used_open(d, O_RDONLY)};
        more = store_view_load(d, &v) && list_table(&l, &v, &v.recent) && list_table(&l, &v, &v.index);
        store_view_free(&v);
        if (l.used >= 0)
            close(l.used);
    }
}

/* name: of a file; NULL: an object. */
struct age { uint64_t used, size; struct store_key key; char *name; };
struct ages { struct age *of; size_t count, room; uint64_t size, huge /* files above this */; };

static bool add(struct ages *a, struct age age)
{
    if (a->count == a->room) {
        size_t room = a->room ? a->room * 2 : 1024;
        struct age *more = realloc(a->of, room * sizeof *more);
        if (!more)
            return false;
        a->of = more;
        a->room = room;
    }
    a->of[a->count++] = age;
    a->size += age.size;
    return true;
}

static bool add_object(void *ctx, const struct store_entry *e) { return add(ctx, (struct age){.used = e->used, .size = e->stored_size, .key = e->key}); }

/* One that takes more than three quarters of all room would have all objects go, at each end of a run. */
static bool add_file(void *ctx, const struct store_file *f)
{
    struct ages *a = ctx;
    char *name = strdup(f->name);
    if (name && add(a, (struct age){.used = f->size > a->huge ? 0 : f->used, .size = f->size, .name = name}))
        return true;
    free(name);
    return false;
}

static int by_use(const void *a, const void *b)
{
    const struct age *x = a, *y = b;
    return x->used < y->used ? -1 : x->used > y->used;
}

/* Of the first `count`; returns how many went. */
static uint64_t remove_oldest(struct store *s, const struct ages *a, size_t count)
{
    struct store_key *keys = malloc(count * sizeof *keys + 1);
    size_t objects = 0;
    uint64_t gained, removed;
    for (size_t n = 0; keys && n < count; n++)
        if (!a->of[n].name)
            keys[objects++] = a->of[n].key;
    qsort(keys, objects, sizeof *keys, store_key_compare);
    bool done = keys && (!objects || store_maintain(store_layer(s, 0), STORE_GC, LOCK_WAIT_MS, keys, objects, &gained));
    removed = done ? objects : 0;
    for (size_t n = 0; done && n < count; n++)
        removed += a->of[n].name && store_file_remove(s, a->of[n].name);
    free(keys);
    return removed;
}

uint64_t store_prune(struct store *s, uint64_t max_bytes)
{
    struct ages a = {.huge = max_bytes - max_bytes / 4};
    size_t victims = 0;
    store_each(s, false, add_object, &a);
    store_file_each(s, add_file, &a);
    qsort(a.of, a.count, sizeof *a.of, by_use);
    for (; victims < a.count && a.size > max_bytes; victims++)
        a.size -= a.of[victims].size;
    uint64_t removed = remove_oldest(s, &a, victims);
    store_look_again(s);
    for (size_t n = 0; n < a.count; n++)
        free(a.of[n].name);
    free(a.of);
    return removed;
}

uint64_t store_gc(struct store *s)
{
    uint64_t gained = 0;
    store_flush(s);
    if (!store_layer(s, 0)->writable || !store_maintain(store_layer(s, 0), STORE_GC, LOCK_WAIT_MS, NULL, 0, &gained))
        return 0;
    gained += store_files_gc(s);
    store_look_again(s);
    return gained;
}
