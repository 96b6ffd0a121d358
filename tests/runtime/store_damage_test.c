/* What others did to a store's files: truncated, bits flipped, of another version, not files at all, cut off while they are read.
 * What is found is right or not found, each file is warned of once, and gc mends what can be mended. */
#define _GNU_SOURCE
#include "tests/runtime/store_helper.h"
#include <dirent.h>
#include <fcntl.h>

#define STRANGE "00000000000000a" /* how the names of strange files begin */
enum { OBJECTS = 24 };
struct image { char path[160]; uint8_t *bytes; size_t size; };

static void save(const struct image *i, const uint8_t *bytes, size_t size)
{
    FILE *f = fopen(i->path, "wb");
    if (!f || fwrite(bytes, 1, size, f) != size || fclose(f))
        abort();
}

static struct image image_of(const char *path)
{
    struct image i = {.bytes = malloc(1 << 20)};
    snprintf(i.path, sizeof i.path, "%s", path);
    FILE *f = fopen(path, "rb");
    if (!f || !i.bytes)
        abort();
    i.size = fread(i.bytes, 1, 1 << 20, f);
    fclose(f);
    return i;
}

/* The one pack of a store that gc has been through. */
static struct image pack_of(const char *path)
{
    char name[80], whole[160] = "";
    snprintf(name, sizeof name, "%s/packs", path);
    DIR *list = opendir(name);
    for (struct dirent *e; list && (e = readdir(list));)
        if (strlen(e->d_name) == 21 && strncmp(e->d_name, STRANGE, strlen(STRANGE)))
            snprintf(whole, sizeof whole, "%s/%.21s", name, e->d_name);
    closedir(list);
    return image_of(whole);
}

static struct image index_of(const char *path)
{
    char name[80];
    snprintf(name, sizeof name, "%s/index", path);
    return image_of(name);
}

static void make_store(const char *path)
{
    struct store *s = open_plain(path);
    for (unsigned n = 0; n < OBJECTS; n++)
        put_object(s, n, 0);
    store_flush(s);
    store_gc(s);
    store_file_put(s, "profile", "some bytes that compress: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 66, true);
    store_close(s);
}

/* How many are found; all that is found must be right. */
static unsigned found_in(struct store *s, const char *what, long of)
{
    unsigned found = 0;
    for (unsigned n = 0; n < OBJECTS; n++) {
        struct store_key key = key_of(n);
        struct store_object o;
        int by_key = has_object(s, n, 0);
        check(by_key >= 0, what, of);
        for (unsigned nth = 0; nth < 3; nth++)
            if (store_get(s, key.head, nth, &o, NULL)) {
                check(is_object(&o, n / 2 * 2, 0) || is_object(&o, n / 2 * 2 + 1, 0), what, of);
                store_release(&o);
            }
        found += by_key == 1;
    }
    return found;
}

/* Opens it, finds what there is, puts and collects; then all but `lost` must be there again. */
static void use(const char *path, const char *what, long of, unsigned lost)
{
    unsigned before = atomic_load(&warnings);
    struct store *s = open_plain(path);
    unsigned found = found_in(s, what, of);
    struct store_counts c;
    store_count(s, &c);
    check(c.damaged + c.foreign > 0 || found == OBJECTS || atomic_load(&warnings) == before, what, of);
    put_object(s, 1000, 0);
    store_flush(s);
    store_gc(s);
    check(found_in(s, what, of) + lost >= OBJECTS, what, of);
    store_close(s);
}

static uint32_t next(uint32_t *x) { return *x ^= *x << 13, *x ^= *x >> 17, *x ^= *x << 5; }

/* Each run has a store of its own files: gc makes new ones. */
static void test_bits(bool of_index)
{
    const char *path = fresh_path();
    make_store(path);
    struct image index = index_of(path), pack = pack_of(path), *i = of_index ? &index : &pack;
    uint8_t *bytes = malloc(i->size);
    uint32_t random = 88172645;
    for (unsigned round = 0; round < 150; round++) {
        size_t at = round * 8 < i->size && round < 100 ? round * 8 + next(&random) % 8 : next(&random) % i->size; /* headers and tables more often */
        memcpy(bytes, i->bytes, i->size);
        bytes[at] ^= 1u << next(&random) % 8;
        remove_tree(path);
        struct store *s = open_plain(path); /* the directories */
        store_close(s);
        save(&index, of_index ? bytes : index.bytes, index.size);
        save(&pack, of_index ? pack.bytes : bytes, pack.size);
        if (of_index && at < index.size - 72 * OBJECTS) { /* before the entries */
            s = open_store(path, (struct store_options){.read_only = true});
            check(found_in(s, "a bit of the index's head", (long)at) == OBJECTS, "a bit of the index's head", (long)at);
            store_close(s);
        }
        use(path, of_index ? "a bit of the index" : "a bit of a pack", (long)at, of_index ? 0 : 1);
    }
    free(bytes), free(index.bytes), free(pack.bytes);
}

static void test_truncated(bool of_index)
{
    const char *path = fresh_path();
    make_store(path);
    struct image index = index_of(path), pack = pack_of(path), *i = of_index ? &index : &pack;
    for (unsigned part = 0; part < 16; part++) {
        size_t size = i->size * part / 16;
        save(&index, index.bytes, of_index ? size : index.size);
        save(&pack, pack.bytes, of_index ? pack.size : size);
        use(path, of_index ? "a truncated index" : "a truncated pack", (long)size, of_index ? 0 : OBJECTS);
        remove_tree(path);
        struct store *s = open_plain(path);
        store_close(s);
    }
    free(index.bytes), free(pack.bytes);
}

/* --- What a kill in the middle of gc leaves: new packs with the old index, or the new index with the old packs still there. */
static void copy_tree(const char *from, const char *to)
{
    char command[256];
    snprintf(command, sizeof command, "mkdir -p -m 700 %s && cp -a %s/. %s", to, from, to);
    if (system(command))
        abort();
}

static void must_be_whole(const char *path, const char *what)
{
    for (unsigned round = 0; round < 3; round++) {
        struct store *s = open_plain(path);
        for (unsigned n = 0; n < 40; n++)
            check(n % 8 == 7 ? !has_object(s, n, 0) : has_object(s, n, n % 4 == 0) == 1, what, n);
        store_gc(s);
        store_close(s);
    }
    check(count_packs(path) == 1, what, count_packs(path));
}

static void test_interrupted_gc(void)
{
    char before[64], after[64], index[160], old_index[160];
    snprintf(before, sizeof before, "%s", fresh_path());
    struct store *s = open_plain(before);
    for (unsigned n = 0; n < 40; n++) {
        put_object(s, n, 0);
        if (n % 4 == 3) {
            struct store_key key = key_of(n);
            put_object(s, n - 3, 1);
            if (n % 8 == 7)
                store_remove(s, &key);
            store_flush(s);
        }
    }
    store_close(s);
    check(count_packs(before) == 10, "packs", count_packs(before));
    snprintf(after, sizeof after, "%s", fresh_path());
    copy_tree(before, after);
    store_gc(s = open_plain(after));
    store_close(s);
    for (unsigned with_index = 0; with_index < 2; with_index++) {
        const char *path = fresh_path();
        copy_tree(before, path);
        copy_tree(after, path);
        snprintf(index, sizeof index, "%s/index", path);
        snprintf(old_index, sizeof old_index, "%s/index", before);
        if (!with_index)
            unlink(index); /* there was none before */
        check(count_packs(path) == 11 && access(old_index, F_OK), "old and new packs", count_packs(path));
        must_be_whole(path, with_index ? "killed before the old packs ended" : "killed before the index was written");
    }
}

/* While it is open: nothing is mapped, so nothing is lost but the objects. */
static void test_truncated_under_us(void)
{
    for (unsigned which = 0; which < 2; which++) {
        const char *path = fresh_path();
        make_store(path);
        struct image i = which ? index_of(path) : pack_of(path);
        struct store *s = open_plain(path);
        check(has_object(s, 3, 0) == 1, "before", which);
        int fd = open(i.path, O_WRONLY | O_CLOEXEC);
        check(fd >= 0 && !ftruncate(fd, which ? 100 : 2000), "ftruncate", which);
        close(fd);
        check(found_in(s, "truncated while it is open", which) < OBJECTS, "truncated while it is open", which);
        store_close(s);
        free(i.bytes);
    }
}

static void test_one_warning(void)
{
    const char *path = fresh_path();
    make_store(path);
    struct image pack = pack_of(path);
    size_t objects = 64 + 64 * OBJECTS;
    for (size_t n = objects; n < pack.size; n += 40)
        pack.bytes[n] ^= 1;
    save(&pack, pack.bytes, pack.size);
    unsigned before = atomic_load(&warnings);
    struct store *s = open_plain(path);
    struct store_key key = key_of(5);
    struct store_object o;
    bool damaged = false;
    check(!store_get(s, key.head, 0, &o, &damaged) && damaged, "a damaged object is told from none", 0);
    check(!store_get(s, key.head, 2, &o, &damaged) && !damaged, "and none from a damaged one", 0);
    check(found_in(s, "all objects damaged", 0) == 0, "all objects damaged", 0);
    struct store_counts c;
    store_count(s, &c);
    check(c.damaged > OBJECTS && atomic_load(&warnings) == before + 1, "one warning, all counted", (long)c.damaged);
    put_object(s, 5, 0);
    check(has_object(s, 5, 0) == 1, "a damaged object is replaced", 0);
    store_flush(s);
    check(has_object(s, 5, 0) == 1, "a damaged object is replaced, written", 0);
    store_close(s);
    free(pack.bytes);
}

static void test_foreign(void)
{
    char name[96];
    const char *path = fresh_path();
    make_store(path);
    struct image index = index_of(path), pack = pack_of(path);
    index.bytes[8] = pack.bytes[8] = 99;
    save(&index, index.bytes, index.size);
    unsigned before = atomic_load(&warnings);
    struct store *s = open_plain(path);
    struct store_counts c;
    check(found_in(s, "a foreign index", 0) == OBJECTS, "a foreign index", 0);
    store_count(s, &c);
    check(c.foreign == 1 && !c.damaged && atomic_load(&warnings) == before + 1, "a foreign index is counted", (long)c.foreign);
    store_close(s);
    save(&pack, pack.bytes, pack.size);
    before = atomic_load(&warnings);
    s = open_plain(path);
    check(found_in(s, "a foreign pack", 0) == 0, "a foreign pack", 0);
    store_count(s, &c);
    check(c.foreign == 2 && !c.damaged && atomic_load(&warnings) == before + 2, "a foreign pack is counted", (long)c.foreign);
    store_close(s);
    snprintf(name, sizeof name, "%s/files/profile", path);
    struct image file = image_of(name);
    uint8_t *data;
    size_t size;
    for (size_t at = 0; at < file.size; at++) {
        file.bytes[at] ^= 4;
        save(&file, file.bytes, file.size);
        s = open_plain(path);
        before = atomic_load(&warnings);
        bool whole = store_file_get(s, "profile", &data, &size);
        check(whole ? (at >= 12 && at < 16) || (at >= 48 && at < 56) : atomic_load(&warnings) == before + 1, "a bit of a named file", (long)at); /* unused bytes, offset */
        free(data);
        store_close(s);
        file.bytes[at] ^= 4;
    }
    save(&file, file.bytes, file.size / 2);
    s = open_plain(path);
    check(!store_file_get(s, "profile", &data, &size), "half of a named file", 0);
    snprintf(name, sizeof name, "%s/files/other", path);
    save(&file, file.bytes, file.size);
    rename(file.path, name);
    check(!store_file_get(s, "other", &data, &size), "a named file under another's name", 0);
    store_close(s);
    free(index.bytes), free(pack.bytes), free(file.bytes);
}

static void test_strange_files(void)
{
    char name[128];
    const char *path = fresh_path();
    make_store(path);
    struct image real = pack_of(path);
    for (unsigned kind = 0; kind < 4; kind++) {
        snprintf(name, sizeof name, "%s/packs/" STRANGE "%u.pack", path, kind);
        switch (kind) {
        case 0: check(!mkfifo(name, 0600), "mkfifo", 0); break;
        case 1: check(!mkdir(name, 0700), "mkdir", 0); break;
        case 2: check(!symlink(strrchr(real.path, '/') + 1, name), "symlink", 0); break;
        case 3: check(!link(real.path, name), "link", 0); break; /* its name is not its hash */
        }
    }
    unsigned before = atomic_load(&warnings);
    struct store *s = open_plain(path);
    check(atomic_load(&warnings) == before + 4, "each strange file has a warning", atomic_load(&warnings) - before);
    check(found_in(s, "strange files", 0) == OBJECTS, "strange files", 0);
    store_gc(s);
    store_close(s);
    free(real.bytes);
    real = pack_of(path);
    chmod(real.path, 0660);
    s = open_plain(path);
    check(found_in(s, "a pack that others may write to", 0) == 0 && strstr(last_warning, "others may write to it"), "a pack that others may write to", 0);
    store_close(s);
    free(real.bytes);
}

int main(void)
{
    test_bits(true);
    test_bits(false);
    test_truncated(true);
    test_truncated(false);
    test_truncated_under_us();
    test_interrupted_gc();
    test_one_warning();
    test_foreign();
    test_strange_files();
    return finish();
}
