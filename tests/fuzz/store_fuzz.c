/* Files of the translation cache's store that lie, and a remote server that does.  Nothing crashes; what is found has passed its checksum and is
 * what the store says it is, before and after gc, which must not make it worse.
 * Input: a byte of flags (below), then 16 bits: the size of what follows as the index; the rest is a pack, a named file or a reply of the
 * server.  Checksums are mended where the flags say so, since no fuzzer finds them. */
#define _GNU_SOURCE
#include "runtime/store_remote.h"
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MEND_INDEX = 1, MEND_PACK = 2, MEND_OBJECTS = 4, NAMED_FILE = 8, REPLY = 16, COLLECT = 32 };
const unsigned replay_mutations = 60;
static char base[64];

static void must(int ok)
{
    if (!ok)
        abort();
}

static void warn(void *ctx, const char *line)
{
    (void)ctx;
    must(*line && !strchr(line, '\n'));
}

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *f)
{
    (void)s, (void)kind;
    return f->level ? remove(path) : 0;
}

static void empty(void) { nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

static void remove_base(void)
{
    empty();
    rmdir(base);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    snprintf(base, sizeof base, "%s/store-fuzz-XXXXXX", access("/dev/shm", W_OK | X_OK) ? "/tmp" : "/dev/shm");
    must(mkdtemp(base) != NULL);
    atexit(remove_base);
    return 0;
}

static void save(const char *name, const uint8_t *bytes, size_t size)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", base, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    must(fd >= 0 && write(fd, bytes, size) == (ssize_t)size && !close(fd));
}

/* --- Mending */
static void mend_index(uint8_t *bytes, size_t size)
{
    struct store_index_header h;
    if (size < sizeof h)
        return;
    memcpy(&h, bytes, sizeof h);
    h.size = size;
    size_t head = sizeof h + (size_t)h.pack_count * sizeof(struct store_pack_at) + (((size_t)1 << (h.bits & 31)) + 1) * 4 + (size_t)h.count * 2;
    size_t entries = (head + 7) & ~(size_t)7;
    if (head > size)
        return;
    h.entries_check = entries <= size ? store_hash(bytes + entries, size - entries, 0) : 0;
    h.check = 0;
    h.check = store_hash(bytes + sizeof h, head - sizeof h, store_hash(&h, sizeof h, 0));
    memcpy(bytes, &h, sizeof h);
}

static void mend_pack(uint8_t *bytes, size_t size, bool objects)
{
    struct store_pack_header h;
    if (size < sizeof h)
        return;
    memcpy(&h, bytes, sizeof h);
    h.size = size;
    if (h.count > (size - sizeof h) / sizeof(struct store_record))
        return;
    for (uint32_t n = 0; objects && n < h.count; n++) {
        struct store_record r;
        memcpy(&r, bytes + sizeof h + n * sizeof r, sizeof r);
        if (r.offset <= size && r.stored <= size - r.offset)
            r.check = store_check(&r, bytes + r.offset);
        memcpy(bytes + sizeof h + n * sizeof r, &r, sizeof r);
    }
    h.check = 0;
    h.check = store_hash(bytes + sizeof h, h.count * sizeof(struct store_record), store_hash(&h, sizeof h, 0));
    memcpy(bytes, &h, sizeof h);
}

/* --- Using */
static void read_all(const void *data, size_t size)
{
    uint64_t hash = store_hash(data, size, 0);
    __asm__ volatile("" : : "r"(hash));
}

enum { MOST = 64 };
struct use { struct store *store; unsigned listed, found; struct store_key keys[MOST]; unsigned key_count; bool twice; /* a key is: an index whose checksums are right can say so */ };
static bool note_key(void *ctx, const struct store_entry *e)
{
    struct use *u = ctx;
    for (unsigned n = 0; n < u->key_count; n++)
        u->twice |= !store_key_compare(&u->keys[n], &e->key);
    u->keys[u->key_count++] = e->key;
    return u->key_count < MOST;
}

static bool use_entry(void *ctx, const struct store_entry *e)
{
    struct use *u = ctx;
    struct store_object o;
    must(e->size > 0);
    u->listed++;
    if (store_get_key(u->store, &e->key, &o)) {
        must((u->twice || o.size == e->size) && !memcmp(&o.key, &e->key, sizeof o.key) && !((uintptr_t)o.data & 7));
        read_all(o.data, o.size);
        u->found++;
        store_release(&o);
    }
    for (unsigned nth = 0; nth < 3; nth++)
        if (store_get(u->store, e->key.head, nth, &o, NULL)) {
            must(!memcmp(o.key.head, e->key.head, sizeof o.key.head));
            read_all(o.data, o.size);
            store_release(&o);
        }
    return u->listed < MOST;
}

static struct store *open_base(bool read_only)
{
    char error[256] = "";
    struct store *s = store_open(&(struct store_options){.path = base, .read_only = read_only, .warn = warn}, error, sizeof error);
    must(s != NULL);
    return s;
}

static void use_store(bool collect)
{
    struct use before = {.store = open_base(!collect)};
    struct store_counts c;
    store_each(before.store, false, note_key, &before);
    store_each(before.store, false, use_entry, &before);
    store_count(before.store, &c);
    if (collect)
        store_gc(before.store);
    store_close(before.store);
    if (!collect)
        return;
    struct use after = {.store = open_base(true)};
    store_each(after.store, false, note_key, &after);
    store_each(after.store, false, use_entry, &after);
    must(after.listed >= MOST || before.listed >= MOST || before.twice || after.found >= before.found);
    store_close(after.store);
}

static void use_file(const uint8_t *bytes, size_t size)
{
    uint8_t *data;
    size_t data_size;
    save("files/profile", bytes, size);
    struct store *s = open_base(true);
    if (store_file_get(s, "profile", &data, &data_size))
        read_all(data, data_size);
    free(data);
    store_close(s);
}

static void use_reply(const uint8_t *bytes, size_t size)
{
    struct store_redis r = {.fd = -1};
    const uint64_t head[2] = {0x1111, 0x2222};
    void *reply = NULL;
    must(store_redis_reader(&r));
    redisReaderFeed(r.reader, (const char *)bytes, size);
    while (redisReaderGetReply(r.reader, &reply) == REDIS_OK && reply) {
        struct store_taken *taken;
        unsigned damaged;
        size_t count = store_remote_take(head, reply, &taken, &damaged);
        for (size_t n = 0; n < count; n++) {
            must(!memcmp(taken[n].record.key.head, head, sizeof head));
            read_all(taken[n].data, taken[n].record.size);
            free(taken[n].data);
        }
        free(taken);
        freeReplyObject(reply);
    }
    store_redis_close(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size < 3)
        return 0;
    uint8_t flags = bytes[0], *copy = malloc(size);
    size_t index = bytes[1] | bytes[2] << 8, rest;
    struct store_pack_header h = {0};
    char name[STORE_NAME];
    must(copy != NULL);
    size -= 3;
    index = index < size ? index : size;
    rest = size - index;
    memcpy(copy, bytes + 3, size);
    if (flags & REPLY) {
        use_reply(copy + index, rest);
    } else {
        char dir[80];
        empty();
        for (unsigned n = 0; n < 2; n++) {
            snprintf(dir, sizeof dir, "%s/%s", base, n ? "files" : "packs");
            must(!mkdir(dir, 0700));
        }
        if (flags & NAMED_FILE) {
            use_file(copy + index, rest);
        } else {
            if (flags & MEND_INDEX)
                mend_index(copy, index);
            if (flags & MEND_PACK)
                mend_pack(copy + index, rest, flags & MEND_OBJECTS);
            if (index)
                save("index", copy, index);
            memcpy(&h, copy + index, rest < sizeof h ? rest : sizeof h);
            store_pack_name(name, h.check);
            save(name, copy + index, rest);
            use_store(flags & COLLECT);
        }
    }
    free(copy);
    return 0;
}
