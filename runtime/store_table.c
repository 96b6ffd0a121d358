/* Tables of objects, found by head: in the index file, of which the small part by which entries are found is read at once and the entries
 * one by one; and in memory, for packs that are newer than the index. */
#define _GNU_SOURCE
#include "runtime/store_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_BITS = 26, PER_BUCKET = 4, BATCH = 8 };

static uint64_t hash_head(const uint64_t head[2]) { return store_hash(head, 16, 0); }
static bool same_head(const struct store_at *at, const uint64_t head[2]) { return !memcmp(at->record.key.head, head, 16); }

static uint32_t bucket(const struct store_table *t, uint64_t hash) { return t->bits ? (uint32_t)(hash >> (64 - t->bits)) : 0; }

void store_table_seek(const struct store_table *t, const uint64_t head[2], struct store_cursor *c)
{
    *c = (struct store_cursor){0};
    if (!t->count)
        return;
    uint64_t hash = hash_head(head);
    uint32_t b = bucket(t, hash), next = t->first[b], end = t->first[b + 1];
    if (next <= end && end <= t->count)
        *c = (struct store_cursor){next, end, (uint16_t)hash};
}

uint32_t store_table_entries(const struct store_table *t, uint32_t from, struct store_at *to, uint32_t count)
{
    if (from >= t->count)
        return 0;
    if (count > t->count - from)
        count = t->count - from;
    if (t->entries)
        memcpy(to, t->entries + from, count * sizeof *to);
    else if (!store_read(t->fd, to, count * sizeof *to, t->entries_at + (uint64_t)from * sizeof *to))
        return 0;
    return count;
}

bool store_table_next(const struct store_table *t, const uint64_t head[2], struct store_cursor *c, struct store_at *at)
{
    for (; c->next < c->end; c->next++)
        if (t->tags[c->next] == c->tag && store_table_entries(t, c->next, at, 1) && same_head(at, head)) {
            c->next++;
            return true;
        }
    return false;
}

bool store_table_find(const struct store_table *t, const struct store_key *key, struct store_at *at)
{
    struct store_cursor c;
    store_table_seek(t, key->head, &c);
    while (store_table_next(t, key->head, &c, at))
        if (!memcmp(&at->record.key, key, sizeof *key))
            return true;
    return false;
}

void store_table_free(struct store_table *t)
{
    for (unsigned n = 0; n < t->pack_count; n++)
        if (t->packs[n].fd >= 0)
            close(t->packs[n].fd);
    if (t->fd >= 0)
        close(t->fd);
    if (t->owned) {
        free(t->owned);
    } else {
        free(t->first);
        free(t->tags);
    }
    free(t->entries);
    free(t->packs);
    *t = (struct store_table){.fd = -1};
}

/* --- Made in memory */
int store_key_compare(const void *a, const void *b) { return memcmp(a, b, sizeof(struct store_key)); }

static int by_time(const struct store_record *a, const struct store_record *b) { return a->time > b->time ? -1 : a->time < b->time; }

static int by_key(const void *a, const void *b)
{
    const struct store_at *x = a, *y = b;
    int order = store_key_compare(&x->record.key, &y->record.key);
    return order ? order : by_time(&x->record, &y->record);
}

static int by_hash(const void *a, const void *b)
{
    const struct store_at *x = a, *y = b;
    uint64_t xh = hash_head(x->record.key.head), yh = hash_head(y->record.key.head);
    if (xh != yh)
        return xh < yh ? -1 : 1;
    int order = memcmp(x->record.key.head, y->record.key.head, 16);
    order = order ? order : by_time(&x->record, &y->record);
    return order ? order : store_key_compare(&x->record.key, &y->record.key);
}

static size_t drop_older(struct store_at *entries, size_t count, bool keep_removed)
{
    size_t kept = 0;
    for (size_t n = 0; n < count; n++) /* kept <= n: the one before is still where it was */
        if ((!n || store_key_compare(&entries[n].record.key, &entries[n - 1].record.key)) && (entries[n].record.size || keep_removed))
            entries[kept++] = entries[n];
    return kept;
}

bool store_table_build(struct store_table *t, struct store_at *entries, size_t count, bool keep_removed)
{
    qsort(entries, count, sizeof *entries, by_key);
    count = drop_older(entries, count, keep_removed);
    qsort(entries, count, sizeof *entries, by_hash);
    t->bits = 0;
    while (t->bits < MAX_BITS && ((size_t)PER_BUCKET << t->bits) < count)
        t->bits++;
    size_t buckets = (size_t)1 << t->bits;
    t->entries = entries;
    t->fd = -1;
    t->count = (uint32_t)count;
    t->first = malloc((buckets + 1) * sizeof *t->first);
    t->tags = malloc(count * sizeof *t->tags + 1);
    t->object_bytes = t->stored_bytes = 0;
    if (!t->first || !t->tags)
        return false;
    uint32_t b = 0;
    t->first[0] = 0;
    for (uint32_t n = 0; n < count; n++) {
        uint64_t hash = hash_head(entries[n].record.key.head);
        t->tags[n] = (uint16_t)hash;
        while (b < bucket(t, hash))
            t->first[++b] = n;
        t->object_bytes += entries[n].record.size;
        t->stored_bytes += entries[n].record.stored;
    }
    while (b < buckets)
        t->first[++b] = (uint32_t)count;
    return true;
}

/* --- The index file */
struct layout { size_t packs, first, tags, head, entries, end; };
static struct layout layout_of(const struct store_index_header *h)
{
    struct layout l = {.packs = sizeof *h};
    l.first = l.packs + h->pack_count * sizeof(struct store_pack_at);
    l.tags = l.first + (((size_t)1 << h->bits) + 1) * sizeof(uint32_t);
    l.head = l.tags + h->count * sizeof(uint16_t);
    l.entries = (l.head + 7) & ~(size_t)7;
    l.end = l.entries + h->count * sizeof(struct store_at);
    return l;
}

static uint64_t index_check(const struct store_index_header *h, const uint8_t *rest, size_t size)
{
    struct store_index_header plain = *h;
    plain.check = 0;
    return store_hash(rest, size, store_hash(&plain, sizeof plain, 0));
}

static bool take_packs(struct store_table *t, const uint8_t *from, uint32_t count)
{
    t->packs = malloc(count * sizeof *t->packs + 1);
    for (uint32_t n = 0; t->packs && n < count; n++) {
        t->packs[n] = (struct store_pack){.fd = -1};
        memcpy(&t->packs[n].at, from + n * sizeof t->packs[n].at, sizeof t->packs[n].at);
        t->pack_count = n + 1;
    }
    return t->packs;
}

static const char *load(struct store_table *t, int fd, uint64_t size, bool *foreign)
{
    struct store_index_header h;
    if (!store_read(fd, &h, sizeof h, 0) || h.magic != STORE_INDEX_MAGIC)
        return "is not an index";
    if ((*foreign = h.version != STORE_VERSION))
        return "has another version's format";
    if (h.size != size || h.bits > MAX_BITS || h.count > size / sizeof(struct store_at) || h.pack_count > size / sizeof(struct store_pack_at) ||
        layout_of(&h).end != size)
        return "is truncated";
    struct layout l = layout_of(&h);
    uint8_t *head = malloc(l.head);
    if (!(t->owned = head) || !store_read(fd, head, l.head, 0))
        return "cannot be read";
    if (index_check(&h, head + sizeof h, l.head - sizeof h) != h.check)
        return "is damaged";
    if (!take_packs(t, head + l.packs, h.pack_count))
        return "cannot be read";
    t->first = (uint32_t *)(head + l.first);
    t->tags = (uint16_t *)(head + l.tags);
    t->bits = h.bits;
    t->count = h.count;
    t->entries_at = l.entries;
    t->generation = h.generation;
    t->entries_check = h.entries_check;
    t->object_bytes = h.object_bytes;
    t->stored_bytes = h.stored_bytes;
    return NULL;
}

bool store_index_load(struct store_dir *d, struct store_table *t)
{
    struct stat s;
    bool foreign = false;
    *t = (struct store_table){.fd = -1};
    int fd = store_file_open(d, "index", O_RDONLY, &s);
    if (fd < 0)
        return errno == ENOENT;
    const char *why = load(t, fd, (uint64_t)s.st_size, &foreign);
    t->fd = fd;
    if (!why)
        return true;
    store_table_free(t);
    store_complain(d, foreign ? STORE_FOREIGN : STORE_DAMAGED, "index", "%s; the packs' own tables are read instead", why);
    return false;
}

bool store_index_whole(struct store_dir *d, const struct store_table *t)
{
    size_t size = t->count * sizeof(struct store_at);
    void *entries = malloc(size + 1);
    bool whole = !t->count || (entries && store_read(t->fd, entries, size, t->entries_at) && store_hash(entries, size, 0) == t->entries_check);
    free(entries);
    if (!whole)
        store_complain(d, STORE_DAMAGED, "index", "has damaged entries; the packs' own tables are read instead");
    return whole;
}

bool store_index_write(struct store_dir *d, const struct store_table *t, uint64_t generation)
{
    struct store_index_header h = {.magic = STORE_INDEX_MAGIC, .version = STORE_VERSION, .bits = t->bits, .generation = generation,
        .object_bytes = t->object_bytes, .stored_bytes = t->stored_bytes, .count = t->count, .pack_count = t->pack_count};
    struct layout l = layout_of(&h);
    struct store_writer *w = malloc(sizeof *w);
    uint8_t *head = calloc(1, l.entries);
    bool written = false;
    h.size = l.end;
    if (head && w && store_writer_begin(w, d, "index")) {
        for (unsigned n = 0; n < t->pack_count; n++)
            memcpy(head + l.packs + n * sizeof t->packs[n].at, &t->packs[n].at, sizeof t->packs[n].at);
        memcpy(head + l.first, t->first, l.tags - l.first);
        memcpy(head + l.tags, t->tags, l.head - l.tags);
        h.entries_check = store_hash(t->entries, t->count * sizeof *t->entries, 0);
        h.check = index_check(&h, head + sizeof h, l.head - sizeof h);
        memcpy(head, &h, sizeof h);
        store_writer_add(w, head, l.entries);
        store_writer_add(w, t->entries, t->count * sizeof *t->entries);
        written = store_writer_end(w);
    }
    int error = errno;
    free(head);
    free(w);
    errno = error;
    return written;
}
