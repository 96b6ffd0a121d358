/* What a process sees of a directory: the index, and a table of the packs that it does not list.  Both are looked for again when
 * their files changed. */
#define _GNU_SOURCE
#include "runtime/store_internal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ATTEMPTS = 20 };

static struct store_stamp stamp(int at, const char *name)
{
    struct stat s;
    if (at < 0 || fstatat(at, name, &s, AT_SYMLINK_NOFOLLOW))
        return (struct store_stamp){.settled = true};
    /* Two changes within a tick of the kernel's have one time: what is that new is looked at again. */
    bool settled = (uint64_t)s.st_mtim.tv_sec * 1000000000u + (uint64_t)s.st_mtim.tv_nsec + 50000000u < store_now();
    return (struct store_stamp){s.st_ino, s.st_mtim.tv_sec, s.st_mtim.tv_nsec, settled};
}

static bool is_same(const struct store_stamp *a, const struct store_stamp *b) { return a->inode == b->inode && a->seconds == b->seconds && a->ns == b->ns; }

static int by_name(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static bool pack_of_name(const char *name, uint64_t *hash)
{
    char *end, again[STORE_NAME];
    *hash = strtoull(name, &end, 16);
    store_pack_name(again, *hash);
    return !strcmp(name, strchr(again, '/') + 1);
}

/* Sorted and malloc'd; NULL: out of memory, or the directory cannot be read. */
static uint64_t *list_packs(struct store_dir *d, size_t *count)
{
    size_t room = 64;
    uint64_t *names = malloc(room * sizeof *names);
    int copy = d->packs < 0 ? -1 : openat(d->packs, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy < 0 ? NULL : fdopendir(copy);
    *count = 0;
    if (!list && copy >= 0)
        close(copy);
    for (struct dirent *e; names && list && (e = readdir(list));) {
        uint64_t name;
        if (!pack_of_name(e->d_name, &name))
            continue;
        if (*count == room) {
            uint64_t *more = realloc(names, (room *= 2) * sizeof *names);
            if (!more)
                break;
            names = more;
        }
        names[(*count)++] = name;
    }
    if (list)
        closedir(list);
    if (names)
        qsort(names, *count, sizeof *names, by_name);
    return names;
}

static uint64_t *listed_packs(const struct store_table *index)
{
    uint64_t *names = malloc(index->pack_count * sizeof *names + 1);
    for (unsigned n = 0; names && n < index->pack_count; n++)
        names[n] = index->packs[n].at.name;
    if (names)
        qsort(names, index->pack_count, sizeof *names, by_name);
    return names;
}

struct gathering { struct store_at *entries; size_t count, room; struct store_pack *packs; unsigned pack_count; bool gone; };

static bool gather(struct store_dir *d, struct gathering *g, uint64_t name)
{
    uint32_t count;
    uint64_t size;
    struct store_record *table = store_pack_table(d, name, &count, &size);
    if (!table) { /* the others are as good as before */
        g->gone |= errno == ENOENT;
        return true;
    }
    struct store_pack *packs = realloc(g->packs, (g->pack_count + 1) * sizeof *packs);
    if (packs)
        g->packs = packs;
    if (g->count + count > g->room) {
        size_t room = g->room * 2 > g->count + count ? g->room * 2 : g->count + count;
        struct store_at *entries = realloc(g->entries, room * sizeof *entries);
        if (entries)
            g->entries = entries, g->room = room;
    }
    bool fits = packs && g->count + count <= g->room, sound = true;
    for (uint32_t n = 0; fits && n < count; n++)
        if (store_record_fits(&table[n], size))
            g->entries[g->count++] = (struct store_at){.record = table[n], .pack = g->pack_count};
        else
            sound = false;
    if (!sound) {
        char path[STORE_NAME];
        store_pack_name(path, name);
        store_complain(d, STORE_DAMAGED, path, "lists objects that are not in it");
    }
    if (fits)
        g->packs[g->pack_count++] = (struct store_pack){.at = {.name = name, .size = size}, .fd = -1};
    free(table);
    return fits;
}

/* Everything that is in a pack which the index does not list.  STORE_GONE: one ended meanwhile. */
static enum store_fetched load_recent(struct store_dir *d, struct store_view *v)
{
    struct gathering g = {0};
    size_t count = 0;
    v->packs_stamp = stamp(d->packs, ".");
    uint64_t *names = list_packs(d, &count), *listed = listed_packs(&v->index);
    bool done = names && listed;
    for (size_t n = 0; n < count && done; n++)
        if (!bsearch(&names[n], listed, v->index.pack_count, sizeof *listed, by_name))
            done = gather(d, &g, names[n]);
    free(names);
    free(listed);
    v->recent = (struct store_table){.fd = -1, .packs = g.packs, .pack_count = g.pack_count};
    if (done && g.entries)
        done = store_table_build(&v->recent, g.entries, g.count, true);
    else
        free(g.entries);
    if (!done)
        store_table_free(&v->recent);
    return !done ? STORE_BAD : g.gone ? STORE_GONE : STORE_FETCHED;
}

bool store_view_load_recent(struct store_dir *d, struct store_view *v) { return load_recent(d, v) != STORE_BAD; }

/* Whoever merges packs writes the index before they end: one that is still the same has missed none. */
static bool is_whole(struct store_dir *d, const struct store_view *v, enum store_fetched recent)
{
    struct store_stamp index = stamp(d->fd, "index");
    return recent == STORE_BAD || (recent == STORE_FETCHED && is_same(&index, &v->index_stamp));
}

bool store_view_load(struct store_dir *d, struct store_view *v)
{
    enum store_fetched recent = STORE_BAD;
    for (unsigned attempt = 0; attempt < ATTEMPTS; attempt++) {
        v->index_stamp = stamp(d->fd, "index");
        store_index_load(d, &v->index);
        recent = load_recent(d, v);
        if (is_whole(d, v, recent))
            break;
        if (attempt + 1 < ATTEMPTS)
            store_view_free(v);
    }
    return recent != STORE_BAD;
}

void store_view_free(struct store_view *v)
{
    store_table_free(&v->index);
    store_table_free(&v->recent);
}

void store_view_refresh(struct store_dir *d, struct store_view *v)
{
    struct store_stamp index = stamp(d->fd, "index"), packs = stamp(d->packs, ".");
    bool same_index = v->index_stamp.settled && is_same(&index, &v->index_stamp);
    if (same_index && v->packs_stamp.settled && is_same(&packs, &v->packs_stamp))
        return;
    if (same_index) {
        store_table_free(&v->recent);
        if (is_whole(d, v, load_recent(d, v)))
            return;
    }
    store_view_free(v);
    store_view_load(d, v);
}

bool store_view_find(const struct store_view *v, const struct store_key *key, struct store_at *at, const struct store_table **in)
{
    *in = &v->recent;
    if (store_table_find(&v->recent, key, at))
        return at->record.size;
    *in = &v->index;
    return store_table_find(&v->index, key, at);
}
