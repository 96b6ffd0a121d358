/* tierce-cache export, import and merge: objects from one store to another, by a file or at once.
 * The file, little-endian: ARCHIVE_MAGIC, then each object as its key (four 64-bit words), its size (64 bits), its object_hash (64 bits) and its
 * bytes; at the end a key of zeros with size 0 and, as checksum, the number of objects.  What comes in is read as hostile: an object is taken only
 * if it opens, and its key is the one that its recipe has with some translator's head. */
#include "tools/tierce-cache/tool.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ARCHIVE_MAGIC "TRCARC1\n"
enum { OBJECT_MOST = 64 << 20 };
struct head { struct store_key key; uint64_t size, sum; };

static void report(const struct options *o, const char *what, size_t count, uint64_t bytes, size_t present, size_t damaged)
{
    char text[16];
    size_text(bytes, text);
    if (o->json)
        printf("{\"objects\": %zu, \"bytes\": %" PRIu64 ", \"present\": %zu, \"damaged\": %zu}\n", count, bytes, present, damaged);
    else
        printf("%s %zu objects, %s; %zu were there already, %zu damaged\n", what, count, text, present, damaged);
}

/* --- export */
int export_run(struct options *o, const char *const *arguments, unsigned count)
{
    size_t entries, damaged = 0, written = 0;
    uint64_t bytes = 0;
    if (!count || count > 2)
        die(2, "export needs the FILE to write (- for standard output), and takes a key prefix behind it");
    bool standard = !strcmp(arguments[0], "-");
    struct store *s = store_get_open(o, READ_ONLY);
    struct store_entry *e = entries_of(s, count > 1 ? arguments[1] : "", o->with_layers, &entries);
    FILE *f = standard ? stdout : fopen(arguments[0], "wb");
    if (!f)
        die(1, "cannot write '%s': %s", arguments[0], strerror(errno));
    bool ok = fwrite(ARCHIVE_MAGIC, 8, 1, f) == 1;
    for (size_t n = 0; ok && n < entries; n++) {
        struct store_object object;
        if (!store_get_key(s, &e[n].key, &object)) {
            damaged++;
            continue;
        }
        const struct head h = {e[n].key, object.size, object_hash(object.data, object.size)};
        ok = fwrite(&h, sizeof h, 1, f) == 1 && fwrite(object.data, object.size, 1, f) == 1;
        bytes += object.size;
        written++;
        store_release(&object);
    }
    const struct head end = {.sum = written};
    ok = ok && fwrite(&end, sizeof end, 1, f) == 1;
    if ((standard ? fflush(f) : fclose(f)) || !ok)
        die(1, "cannot write '%s': %s", arguments[0], strerror(errno));
    if (!standard)
        report(o, "exported", written, bytes, 0, damaged);
    free(e);
    store_close(s);
    return 0;
}

/* --- What comes from elsewhere is held against itself: it opens, its recipe reads, and it names the key that it comes under. */
static bool is_sound(const struct store_key *key, const uint8_t *data, size_t size)
{
    struct object_view v;
    char error[160];
    struct recipe *r = NULL;
    if (!object_open(data, size, &v, error, sizeof error))
        return false;
    bool ok = !memcmp(v.meta.key, key, sizeof v.meta.key) && v.meta.recipe_size && (r = recipe_read(v.meta.recipe, v.meta.recipe_size, error, sizeof error));
    free(r);
    object_close(&v);
    return ok;
}

struct taken { size_t count, present, damaged; uint64_t bytes; };
static void take(struct store *s, const struct store_key *key, const uint8_t *data, size_t size, struct taken *t)
{
    if (store_has(s, key)) {
        t->present++;
    } else if (!is_sound(key, data, size)) {
        t->damaged++;
    } else if (store_put(s, key, data, size) || (store_flush(s) && store_put(s, key, data, size))) {
        t->count++;
        t->bytes += size;
    } else {
        die(1, "the cache cannot be written");
    }
}

/* --- import */
static bool is_end(const struct head *h)
{
    static const struct store_key none;
    return !h->size && !memcmp(&h->key, &none, sizeof none);
}

/* NULL: it was read to its end. */
static const char *read_archive(FILE *f, struct store *s, struct taken *t, uint8_t **room)
{
    char magic[8];
    struct head h;
    size_t have = 0;
    if (fread(magic, sizeof magic, 1, f) != 1 || memcmp(magic, ARCHIVE_MAGIC, sizeof magic))
        return "is no archive that `tierce-cache export` made";
    for (uint64_t n = 0;; n++) {
        if (fread(&h, sizeof h, 1, f) != 1)
            return "ends early; what was read is kept";
        if (is_end(&h))
            return h.sum != n ? "has lost objects; what was read is kept" : getc(f) != EOF ? "goes on behind its end; what was read is kept" : NULL;
        if (!h.size || h.size > OBJECT_MOST)
            return "is damaged: an object of impossible size; what was read is kept";
        if (h.size > have)
            *room = checked(realloc(*room, have = h.size));
        if (fread(*room, h.size, 1, f) != 1)
            return "ends early; what was read is kept";
        if (object_hash(*room, h.size) != h.sum)
            t->damaged++;
        else
            take(s, &h.key, *room, h.size, t);
    }
}

int import_run(struct options *o, const char *const *arguments, unsigned count)
{
    struct taken t = {0};
    uint8_t *room = NULL;
    if (count != 1)
        die(2, "import needs the FILE to read (- for standard input)");
    FILE *f = strcmp(arguments[0], "-") ? fopen(arguments[0], "rb") : stdin;
    if (!f)
        die(1, "cannot read '%s': %s", arguments[0], strerror(errno));
    struct store *s = store_get_open(o, WRITABLE);
    const char *wrong = read_archive(f, s, &t, &room);
    free(room);
    if (f != stdin)
        fclose(f);
    bool written = store_flush(s);
    store_close(s);
    if (!written)
        die(1, "the cache '%s' cannot be written", store_path(o));
    if (!wrong)
        report(o, "imported", t.count, t.bytes, t.present, t.damaged);
    else
        die(1, "'%s' %s (%zu objects)", arguments[0], wrong, t.count);
    return t.damaged ? 1 : 0;
}

/* --- merge */
static void merge_one(struct store *to, struct store *from, bool with_layers, struct taken *t)
{
    size_t entries;
    struct store_entry *e = entries_of(from, "", with_layers, &entries);
    for (size_t n = 0; n < entries; n++) {
        struct store_object object;
        if (store_has(to, &e[n].key)) {
            t->present++;
        } else if (!store_get_key(from, &e[n].key, &object)) {
            t->damaged++;
        } else {
            take(to, &e[n].key, object.data, object.size, t);
            store_release(&object);
        }
    }
    free(e);
}

struct copying { struct store *from, *to; };
static bool copy_file(void *ctx, const struct store_file *f)
{
    struct copying *c = ctx;
    uint8_t *data, *have;
    size_t size, have_size;
    if (store_file_get(c->to, f->name, &have, &have_size)) {
        free(have);
        return true;
    }
    if (store_file_get(c->from, f->name, &data, &size)) {
        store_file_put(c->to, f->name, data, size, strncmp(f->name, "templates-", 10));
        free(data);
    }
    return true;
}

int merge_run(struct options *o, const char *const *arguments, unsigned count)
{
    struct taken t = {0};
    if (!count)
        die(2, "merge needs the directories whose objects are to come into the cache");
    struct store *to = store_get_open(o, WRITABLE);
    for (unsigned n = 0; n < count; n++) {
        struct options other = *o;
        other.cache = arguments[n];
        other.layer_count = 0;
        other.remote = NULL;
        struct store *from = store_get_open(&other, READ_ONLY);
        struct copying c = {from, to};
        merge_one(to, from, false, &t);
        store_file_each(from, copy_file, &c);
        store_close(from);
    }
    bool written = store_flush(to);
    store_close(to);
    if (!written)
        die(1, "the cache '%s' cannot be written", store_path(o));
    report(o, "merged", t.count, t.bytes, t.present, t.damaged);
    return 0;
}

/* --- prune and gc */
int prune_run(struct options *o, const char *const *arguments, unsigned count)
{
    struct store_counts c;
    char text[16];
    if (count)
        die(2, "prune takes no argument, but has '%s'", arguments[0]);
    struct store *s = store_get_open(o, WRITABLE);
    uint64_t removed = store_prune(s, o->has_max ? o->max_bytes : (uint64_t)1 << 30);
    store_count(s, &c);
    size_text(c.stored_bytes + c.file_bytes, text);
    if (o->json)
        printf("{\"removed\": %" PRIu64 ", \"objects\": %" PRIu64 ", \"stored_bytes\": %" PRIu64 ", \"files\": %" PRIu64 ", \"file_bytes\": %" PRIu64 "}\n", removed,
               c.objects, c.stored_bytes, c.files, c.file_bytes);
    else
        printf("removed %" PRIu64 "; %" PRIu64 " objects and %" PRIu64 " files are left, %s\n", removed, c.objects, c.files, text);
    store_close(s);
    return 0;
}

int gc_run(struct options *o, const char *const *arguments, unsigned count)
{
    char text[16];
    if (count)
        die(2, "gc takes no argument, but has '%s'", arguments[0]);
    struct store *s = store_get_open(o, WRITABLE);
    uint64_t gained = store_gc(s);
    size_text(gained, text);
    if (o->json)
        printf("{\"gained_bytes\": %" PRIu64 "}\n", gained);
    else
        printf("gained %s\n", text);
    store_close(s);
    return 0;
}
