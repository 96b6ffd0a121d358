/* What is done under the lock: a new index, small packs merged, packs that are mostly dead rewritten.  The order makes a kill harmless: new
 * packs, then the index that lists them and calls the old ones dead, then the old ones' end. */
#define _GNU_SOURCE
#include "runtime/store_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SMALL_PACK = 1 << 20, SMALL_PACKS = 16 };
/* All that lives, with packs numbered over both tables of a view. */
struct all {
    struct store_dir *dir;
    struct store_view view;
    struct store_at *entries; size_t count;
    struct store_pack *packs; unsigned pack_count, packs_of_view; /* each view's pack has the number n or index.pack_count + n */
    uint64_t *live;                                               /* bytes of each pack of the view: records and objects */
    bool *rewrite;
};

static bool is_victim(const struct store_key *victims, size_t count, const struct store_key *key)
{
    return count && bsearch(key, victims, count, sizeof *key, store_key_compare);
}

static bool collect(struct all *a, const struct store_key *victims, size_t victim_count)
{
    const struct store_table *index = &a->view.index, *recent = &a->view.recent;
    a->packs_of_view = a->pack_count = index->pack_count + recent->pack_count;
    a->entries = malloc(((size_t)index->count + recent->count) * sizeof *a->entries + 1);
    a->packs = malloc(a->pack_count * sizeof *a->packs + 1);
    a->live = calloc(a->pack_count + 1, sizeof *a->live);
    a->rewrite = calloc(a->pack_count + 1, sizeof *a->rewrite);
    if (!a->entries || !a->packs || !a->live || !a->rewrite)
        return false;
    for (unsigned n = 0; n < a->pack_count; n++)
        a->packs[n] = n < index->pack_count ? index->packs[n] : recent->packs[n - index->pack_count];
    for (const struct store_table *t = recent; t; t = t == recent ? index : NULL) {
        size_t from = a->count;
        if (store_table_entries(t, 0, a->entries + from, t->count) != t->count)
            return false;
        for (size_t n = from; n < from + t->count; n++) {
            struct store_at at = a->entries[n], newer;
            bool hidden = t == index && store_table_find(recent, &at.record.key, &newer);
            if (hidden || !store_at_is_sound(t, &at) ||
                is_victim(victims, victim_count, &at.record.key))
                continue;
            at.pack += t == recent ? index->pack_count : 0;
            a->live[at.pack] += sizeof at.record + ((at.record.stored + 7ull) & ~7ull);
            a->entries[a->count++] = at;
        }
    }
    return true;
}

static bool is_small(const struct store_pack_at *p) { return !(p->flags & STORE_PACK_DEAD) && p->size < SMALL_PACK; }

/* Packs of which nothing lives end; STORE_GC also takes those of which a quarter is dead.  Small ones are merged where they are many. */
static bool choose(struct all *a, enum store_work work)
{
    unsigned small = 0, chosen = 0;
    for (unsigned n = 0; n < a->packs_of_view; n++)
        small += is_small(&a->packs[n].at);
    for (unsigned n = 0; n < a->packs_of_view; n++) {
        const struct store_pack_at *p = &a->packs[n].at;
        uint64_t live = a->live[n] + sizeof(struct store_pack_header);
        bool merge = is_small(p) && small >= (work == STORE_GC ? 2 : SMALL_PACKS);
        a->rewrite[n] = !(p->flags & STORE_PACK_DEAD) && (merge || !a->live[n] || (work == STORE_GC && live < p->size - p->size / 4));
        chosen += a->rewrite[n];
    }
    return chosen;
}

static int by_place(const void *a, const void *b)
{
    const struct store_at *x = a, *y = b;
    if (x->pack != y->pack)
        return x->pack < y->pack ? -1 : 1;
    return x->record.offset < y->record.offset ? -1 : x->record.offset > y->record.offset;
}

/* The stored bytes, checked as if they were to be used; NULL: gone or damaged, and left out from now on. */
static uint8_t *fetch(struct all *a, const struct store_at *at)
{
    struct store_table *index = &a->view.index, *recent = &a->view.recent;
    bool is_recent = at->pack >= index->pack_count;
    struct store_at in = *at;
    uint8_t *stored;
    in.pack -= is_recent ? index->pack_count : 0;
    if (store_pack_fetch(a->dir, is_recent ? recent : index, &in, &stored) != STORE_FETCHED)
        return NULL;
    if (store_check(&at->record, stored) == at->record.check)
        return stored;
    free(stored);
    return NULL;
}

struct batch { struct store_item *items; struct store_at **entries; size_t count, bytes; };

static bool write_batch(struct all *a, struct batch *b)
{
    struct store_pack_at at;
    struct store_pack *packs = realloc(a->packs, (a->pack_count + 1) * sizeof *packs);
    if (packs)
        a->packs = packs;
    bool written = !b->count || (packs && store_pack_write(a->dir, b->items, b->count, &at));
    for (size_t n = 0; n < b->count; n++) {
        b->entries[n]->pack = a->pack_count;
        free((void *)b->items[n].stored);
    }
    if (written && b->count)
        a->packs[a->pack_count++] = (struct store_pack){.at = at, .fd = -1};
    b->count = b->bytes = 0;
    return written;
}

static bool rewrite(struct all *a)
{
    struct batch b = {.items = malloc(a->count * sizeof *b.items + 1), .entries = malloc(a->count * sizeof *b.entries + 1)};
    bool done = b.items && b.entries;
    qsort(a->entries, a->count, sizeof *a->entries, by_place);
    for (size_t n = 0; done && n < a->count; n++) {
        struct store_at *at = &a->entries[n];
        if (at->pack >= a->packs_of_view || !a->rewrite[at->pack])
            continue;
        uint8_t *stored = fetch(a, at);
        if (!stored) {
            at->record.size = at->record.stored = 0;
            continue;
        }
        b.items[b.count] = (struct store_item){&at->record, stored};
        b.entries[b.count++] = at;
        b.bytes += at->record.stored;
        if (b.bytes >= STORE_PACK_SIZE)
            done = write_batch(a, &b);
    }
    done = done && write_batch(a, &b);
    for (size_t n = 0; n < b.count; n++)
        free((void *)b.items[n].stored);
    free(b.items);
    free(b.entries);
    return done;
}

/* Dead packs stay listed until their files are gone, so that nobody takes them for new ones. */
static void drop_gone_packs(struct all *a)
{
    unsigned kept = 0, *number = malloc(a->pack_count * sizeof *number + 1);
    if (!number)
        return;
    for (unsigned n = 0; n < a->pack_count; n++) {
        char name[STORE_NAME];
        struct stat s;
        const char *last = name;
        store_pack_name(name, a->packs[n].at.name);
        int at = store_at_name(a->dir, &last);
        number[n] = kept;
        if (!(a->packs[n].at.flags & STORE_PACK_DEAD) || !fstatat(at, last, &s, AT_SYMLINK_NOFOLLOW))
            a->packs[kept++] = a->packs[n];
    }
    for (size_t n = 0; n < a->count; n++)
        a->entries[n].pack = number[a->entries[n].pack];
    a->pack_count = kept;
    free(number);
}

static uint64_t unlink_dead(struct all *a)
{
    uint64_t gained = 0;
    for (unsigned n = 0; n < a->pack_count; n++) {
        char name[STORE_NAME];
        store_pack_name(name, a->packs[n].at.name);
        if (a->packs[n].at.flags & STORE_PACK_DEAD && store_file_unlink(a->dir, name))
            gained += a->packs[n].at.size;
    }
    return gained;
}

static bool write_index(struct all *a)
{
    struct store_table t = {.fd = -1};
    for (unsigned n = 0; n < a->packs_of_view; n++)
        a->packs[n].at.flags |= a->rewrite[n] ? STORE_PACK_DEAD : 0;
    drop_gone_packs(a);
    bool written = store_table_build(&t, a->entries, a->count, false);
    t.packs = a->packs;
    t.pack_count = a->pack_count;
    written = written && store_used_rebuild(a->dir, &t) && store_index_write(a->dir, &t, a->view.index.generation + 1);
    free(t.first);
    free(t.tags);
    return written;
}

/* The entries are what the new index is made of, so they are checked, as they are not when one is looked up. */
static bool load(struct all *a)
{
    if (!store_view_load(a->dir, &a->view))
        return false;
    if (store_index_whole(a->dir, &a->view.index))
        return true;
    store_view_free(&a->view);
    return store_view_load_recent(a->dir, &a->view);
}

/* What was made for an index that could not be written: on a full disk it would be in the way. */
static void drop(struct all *a, const struct store_pack *packs, size_t count)
{
    int error = errno;
    for (size_t n = 0; n < count; n++) {
        char name[STORE_NAME];
        store_pack_name(name, packs[n].at.name);
        store_file_unlink(a->dir, name);
    }
    errno = error;
}

static bool maintain(struct all *a, enum store_work work, const struct store_key *victims, size_t victim_count, uint64_t *gained)
{
    if (!load(a) || !collect(a, victims, victim_count))
        return false;
    bool written = !choose(a, work) || rewrite(a);
    uint64_t added = 0;
    size_t count = a->pack_count - a->packs_of_view;
    struct store_pack *fresh = malloc(count * sizeof *fresh + 1);
    for (size_t n = 0; fresh && n < count; n++) {
        fresh[n] = a->packs[a->packs_of_view + n];
        added += fresh[n].at.size;
    }
    written = written && fresh && write_index(a);
    if (!written && fresh)
        drop(a, fresh, count);
    free(fresh);
    if (!written)
        return false;
    uint64_t freed = unlink_dead(a);
    if (work == STORE_GC)
        freed += store_remove_temporaries(a->dir);
    *gained = freed > added ? freed - added : 0;
    return true;
}

bool store_maintain(struct store_dir *d, enum store_work work, unsigned wait_ms, const struct store_key *victims, size_t victim_count, uint64_t *gained)
{
    struct all a = {.dir = d, .view = {.index.fd = -1, .recent.fd = -1}};
    int lock = store_lock(d, wait_ms), error;
    bool done = lock >= 0 && maintain(&a, work, victims, victim_count, gained);
    error = errno;
    store_view_free(&a.view);
    free(a.entries);
    free(a.packs);
    free(a.live);
    free(a.rewrite);
    if (lock >= 0)
        close(lock);
    errno = error;
    return done;
}
