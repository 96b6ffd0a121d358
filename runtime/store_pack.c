/* Packs: a header, a table of records, the stored bytes of each object, 8-aligned.  And objects' ways into and out of them. */
#define _GNU_SOURCE
#include "runtime/store_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { OPEN_PACKS = 64 }; /* of a table at once */

uint64_t store_hash(const void *bytes, size_t size, uint64_t seed) { return XXH3_64bits_withSeed(bytes, size, seed); }
uint64_t store_hash_key(const struct store_key *key) { return store_hash(key, sizeof *key, 0); }

uint64_t store_check(const struct store_record *r, const void *stored)
{
    struct store_record plain = *r;
    plain.offset = plain.check = 0;
    return store_hash(stored, r->stored, store_hash(&plain, sizeof plain, 0));
}

void store_pack_name(char name[STORE_NAME], uint64_t hash) { snprintf(name, STORE_NAME, "packs/%016lx.pack", hash); }

bool store_pack_object(struct store_record *r, const void *data, int compress, uint8_t **stored)
{
    uLongf packed = compress ? compressBound(r->size) : 0;
    uint8_t *to = compress ? malloc(packed) : NULL;
    *stored = (uint8_t *)data;
    r->stored = r->size;
    if (compress && !to)
        return false;
    if (compress && compress2(to, &packed, data, r->size, compress) == Z_OK && packed < r->size) {
        r->stored = (uint32_t)packed;
        *stored = to;
    } else {
        free(to);
    }
    r->check = store_check(r, *stored);
    return true;
}

uint8_t *store_unpack_object(const struct store_record *r, uint8_t *stored)
{
    if (store_check(r, stored) != r->check) {
        free(stored);
        return NULL;
    }
    if (r->stored == r->size)
        return stored;
    uLongf size = r->size;
    uint8_t *data = malloc(size ? size : 1);
    bool whole = data && uncompress(data, &size, stored, r->stored) == Z_OK && size == r->size;
    free(stored);
    if (whole)
        return data;
    free(data);
    return NULL;
}

static uint64_t table_check(const struct store_pack_header *h, const struct store_record *table)
{
    struct store_pack_header plain = *h;
    plain.check = 0;
    return store_hash(table, h->count * sizeof *table, store_hash(&plain, sizeof plain, 0));
}

static uint64_t aligned(uint64_t offset) { return (offset + 7) & ~7ull; }

bool store_pack_write(struct store_dir *d, const struct store_item *items, size_t count, struct store_pack_at *pack)
{
    static const uint8_t zeros[8];
    struct store_pack_header header = {.magic = STORE_PACK_MAGIC, .version = STORE_VERSION, .count = (uint32_t)count, .made = {store_now(), (uint64_t)getpid()}};
    struct store_record *table = malloc(count * sizeof *table);
    struct store_writer *w = malloc(sizeof *w);
    uint64_t at = sizeof header + count * sizeof *table;
    char name[STORE_NAME];
    bool written = false;
    for (size_t n = 0; table && n < count; n++) {
        items[n].record->offset = at;
        table[n] = *items[n].record;
        at = aligned(at + items[n].record->stored);
    }
    header.size = at;
    header.check = table ? table_check(&header, table) : 0;
    *pack = (struct store_pack_at){.name = header.check, .size = header.size};
    store_pack_name(name, pack->name);
    if (table && w && store_writer_begin(w, d, name)) {
        store_writer_add(w, &header, sizeof header);
        store_writer_add(w, table, count * sizeof *table);
        for (size_t n = 0; n < count; n++) {
            uint64_t end = table[n].offset + table[n].stored;
            store_writer_add(w, items[n].stored, table[n].stored);
            store_writer_add(w, zeros, aligned(end) - end);
        }
        written = store_writer_end(w);
    }
    int error = errno;
    free(table);
    free(w);
    errno = error;
    return written;
}

bool store_record_fits(const struct store_record *r, uint64_t size)
{
    return !r->size ? !r->stored : r->stored && r->stored <= r->size && r->size <= STORE_MAX_OBJECT && r->offset <= size && r->stored <= size - r->offset;
}

struct store_record *store_pack_table(struct store_dir *d, uint64_t hash, uint32_t *count, uint64_t *size)
{
    struct store_pack_header h;
    struct store_record *table = NULL;
    struct stat s;
    char name[STORE_NAME];
    const char *why = NULL;
    store_pack_name(name, hash);
    int fd = store_file_open(d, name, O_RDONLY, &s);
    if (fd < 0)
        return NULL;
    bool foreign = false;
    if (!store_read(fd, &h, sizeof h, 0) || h.magic != STORE_PACK_MAGIC)
        why = "is not a pack";
    else if ((foreign = h.version != STORE_VERSION))
        why = "has another version's format";
    else if (h.size != (uint64_t)s.st_size || h.count > (h.size - sizeof h) / sizeof *table)
        why = "is truncated";
    else if (!(table = malloc(h.count * sizeof *table + 1)) || !store_read(fd, table, h.count * sizeof *table, sizeof h))
        why = "cannot be read";
    else if (table_check(&h, table) != h.check || h.check != hash)
        why = "has a damaged table";
    close(fd);
    *count = h.count;
    *size = h.size;
    if (!why)
        return table;
    store_complain(d, foreign ? STORE_FOREIGN : STORE_DAMAGED, name, "%s", why);
    free(table);
    errno = EINVAL;
    return NULL;
}

/* -1: errno.  All are closed by the table's owner; one by one here, so that a store of many packs does not take all descriptors. */
static int open_pack(struct store_dir *d, struct store_table *t, struct store_pack *p)
{
    struct stat s;
    char name[STORE_NAME];
    if (p->fd >= 0)
        return p->fd;
    while (t->open_packs >= OPEN_PACKS) {
        struct store_pack *old = &t->packs[t->next_to_close++ % t->pack_count];
        if (old->fd >= 0) {
            close(old->fd);
            old->fd = -1;
            t->open_packs--;
        }
    }
    store_pack_name(name, p->at.name);
    p->fd = store_file_open(d, name, O_RDONLY, &s);
    if (p->fd >= 0) {
        p->file_size = (uint64_t)s.st_size;
        t->open_packs++;
    }
    return p->fd;
}

bool store_at_is_sound(const struct store_table *t, const struct store_at *at)
{
    const struct store_pack_at *p = at->pack < t->pack_count ? &t->packs[at->pack].at : NULL;
    return p && !(p->flags & STORE_PACK_DEAD) && at->record.size && store_record_fits(&at->record, p->size);
}

enum store_fetched store_pack_fetch(struct store_dir *d, struct store_table *t, const struct store_at *at, uint8_t **stored)
{
    const struct store_record *r = &at->record;
    if (!store_at_is_sound(t, at)) {
        store_complain(d, STORE_DAMAGED, "index", "lists an object that is in no pack of its");
        return STORE_BAD;
    }
    struct store_pack *p = &t->packs[at->pack];
    if (open_pack(d, t, p) < 0)
        return errno == ENOENT ? STORE_GONE : STORE_BAD;
    if (!store_record_fits(r, p->file_size))
        return STORE_BAD;
    *stored = malloc(r->stored);
    if (*stored && store_read(p->fd, *stored, r->stored, r->offset))
        return STORE_FETCHED;
    free(*stored);
    return STORE_BAD;
}
