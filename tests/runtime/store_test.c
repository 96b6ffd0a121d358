/* The store of the translation cache as its header promises it, in one process; and what it refuses or skips. */
#define _GNU_SOURCE
#include "tests/runtime/store_helper.h"
#include <fcntl.h>
#include <pthread.h>
#include <time.h>

enum { OBJECTS = 500 };

static struct store_counts counts_of(struct store *s)
{
    struct store_counts c;
    store_count(s, &c);
    return c;
}

static void test_put_and_get(bool compress)
{
    const char *path = fresh_path();
    struct store *s = open_store(path, (struct store_options){.compress = compress});
    for (unsigned n = 0; n < OBJECTS; n++)
        check(put_object(s, n, 0), "put", n);
    check(count_objects(s, 0, OBJECTS, 0) == OBJECTS, "objects before they are written", 0);
    check(store_flush(s), "flush", 0);
    check(count_objects(s, 0, OBJECTS, 0) == OBJECTS, "objects after they are written", 0);
    check(!has_object(s, OBJECTS, 0), "an object that is not there", 0);
    struct store_counts c = counts_of(s);
    check(c.objects == OBJECTS && c.puts == OBJECTS && c.hits == 2 * OBJECTS && c.misses == 1 && !c.damaged, "counts", (long)c.objects);
    check(compress ? c.stored_bytes < c.bytes * 9 / 10 : c.stored_bytes == c.bytes, "stored bytes", (long)c.stored_bytes);
    for (unsigned n = 0; n < OBJECTS; n += 5)
        check(put_object(s, n, 1), "replacing put", n);
    for (unsigned n = 1; n < OBJECTS; n += 5) {
        struct store_key key = key_of(n);
        check(store_remove(s, &key) && !store_has(s, &key) && !store_remove(s, &key), "remove", n);
    }
    for (unsigned round = 0; round < 3; round++) { /* pending, written, opened again */
        for (unsigned n = 0; n < OBJECTS; n++)
            check(n % 5 == 1 ? !has_object(s, n, 0) : has_object(s, n, n % 5 == 0) == 1, "replaced and removed", n);
        if (round == 0)
            check(store_flush(s), "flush", 1);
        if (round == 1) {
            store_close(s);
            s = open_plain(path);
        }
    }
    check(counts_of(s).objects == OBJECTS * 4 / 5, "objects left", (long)counts_of(s).objects);
    store_close(s);
}

static unsigned heads(struct store *s, unsigned n, unsigned order[8])
{
    struct store_key key = key_of(n);
    struct store_object o;
    unsigned count = 0;
    while (count < 8 && store_get(s, key.head, count, &o, NULL)) {
        memcpy(&order[count++], o.data, 4);
        store_release(&o);
    }
    return count;
}

static void test_heads(void)
{
    unsigned order[8] = {0};
    struct store *s = open_plain(fresh_path());
    put_object(s, 10, 0), put_object(s, 11, 0);
    check(heads(s, 10, order) == 2 && order[0] == 11 && order[1] == 10, "the latest first, pending", order[0]);
    store_flush(s);
    check(heads(s, 10, order) == 2 && order[0] == 11 && order[1] == 10, "the latest first, written", order[0]);
    put_object(s, 10, 1);
    check(heads(s, 10, order) == 2 && order[0] == 10 && order[1] == 11, "the latest first, one of each", order[0]);
    store_flush(s), store_gc(s);
    check(heads(s, 10, order) == 2 && order[0] == 10 && order[1] == 11, "the latest first, after gc", order[0]);
    store_close(s);
}

static void test_refused_puts(void)
{
    struct store *s = open_plain(fresh_path());
    struct store_key key = key_of(1);
    check(!store_put(s, &key, "", 0), "an empty object", 0);
    check(!store_put(s, &key, "", (64u << 20) + 1), "an object too large", 0);
    store_close(s);
}

static void test_layers(void)
{
    char lower[64];
    snprintf(lower, sizeof lower, "%s", fresh_path());
    struct store *s = open_plain(lower);
    put_object(s, 1, 1), put_object(s, 2, 1);
    store_file_put(s, "profile-a", "lower", 5, true);
    store_close(s);
    s = open_store(fresh_path(), (struct store_options){.layers = (const char *[]){lower}, .layer_count = 1});
    put_object(s, 1, 2), put_object(s, 3, 2);
    for (unsigned written = 0; written < 2; written++, store_flush(s)) {
        check(has_object(s, 1, 2) == 1 && has_object(s, 2, 1) == 1 && has_object(s, 3, 2) == 1, "layers", written);
        unsigned order[8] = {0};
        check(heads(s, 2, order) == 2 && order[0] == 3 && order[1] == 2, "the upper layer first", written);
    }
    uint8_t *data;
    size_t size;
    check(store_file_get(s, "profile-a", &data, &size) && size == 5 && !memcmp(data, "lower", 5), "a layer's file", 0);
    free(data);
    struct store_key key = key_of(2);
    check(!store_remove(s, &key), "a layer's object cannot be removed", 0);
    store_close(s);
    s = open_store(lower, (struct store_options){.read_only = true});
    check(has_object(s, 2, 1) == 1 && has_object(s, 3, 2) == 0 && !put_object(s, 4, 0) && !store_file_put(s, "a", "b", 1, true), "read only", 0);
    store_close(s);
    char error[256] = "";
    check(!store_open(&(struct store_options){.path = "/nonexistent/a", .read_only = true}, error, sizeof error) && strstr(error, "/nonexistent/a"), error, 0);
    struct store_options missing = {.path = lower, .layers = (const char *[]){"/nonexistent/b"}, .layer_count = 1};
    check(!store_open(&missing, error, sizeof error) && strstr(error, "/nonexistent/b"), error, 0);
}

static bool note_name(void *ctx, const struct store_file *f)
{
    strcat(strcat(ctx, f->name), f->size ? " " : "!");
    return true;
}

static void test_files(void)
{
    struct store *s = open_plain(fresh_path());
    uint8_t *data, big[5000] = {1, 2, 3};
    size_t size;
    char names[256] = "";
    check(store_file_put(s, "p-1.profile", big, sizeof big, true) && store_file_put(s, "empty", "", 0, false), "files", 0);
    check(store_file_get(s, "p-1.profile", &data, &size) && size == sizeof big && !memcmp(data, big, size), "a file", 0);
    free(data);
    check(store_file_get(s, "empty", &data, &size) && size == 0, "an empty file", 0);
    free(data);
    store_file_each(s, note_name, names);
    check(strlen(names) == 18 && strstr(names, "p-1.profile ") && strstr(names, "empty "), names, 0);
    static const char *const bad[] = {"", "../index", ".", "..", ".hidden", "A", "a/b", "a b", "\n"};
    for (unsigned n = 0; n < sizeof bad / sizeof *bad; n++)
        check(!store_file_put(s, bad[n], "", 0, true) && !store_file_get(s, bad[n], &data, &size) && !store_file_remove(s, bad[n]), "a bad name", n);
    check(store_file_remove(s, "empty") && !store_file_get(s, "empty", &data, &size) && !store_file_remove(s, "empty"), "a removed file", 0);
    store_close(s);
}

/* --- Two handles on one directory, as two processes have them */
static void pause_ms(unsigned ms) { nanosleep(&(struct timespec){ms / 1000, (long)(ms % 1000) * 1000000}, NULL); }

static void test_sharing(void)
{
    const char *path = fresh_path();
    struct store *a = open_plain(path), *b = open_plain(path);
    for (unsigned n = 0; n < 40; n++) { /* packs enough for indexes and merges */
        put_object(a, n, 0);
        check(store_flush(a), "flush", n);
    }
    pause_ms(1100);
    check(count_objects(b, 0, 40, 0) == 40, "what another handle wrote", 0);
    struct store *c = open_plain(path); /* has no pack open */
    store_gc(a);
    check(count_objects(b, 0, 40, 0) == 40, "after another handle's gc", 0);
    check(count_objects(c, 0, 40, 0) == 40, "of packs that are gone", 0);
    store_close(c);
    put_object(b, 100, 0), store_flush(b);
    check(count_objects(a, 0, 40, 0) == 40, "own objects", 0);
    pause_ms(1100);
    check(has_object(a, 100, 0) == 1, "and the other's", 0);
    store_close(a), store_close(b);
}

/* As long ago as that. */
static void make_old(const char *path, const char *name, unsigned days)
{
    char file[200];
    struct timespec then[2] = {{.tv_sec = time(NULL) - days * 86400l}, {.tv_sec = time(NULL) - days * 86400l}};
    snprintf(file, sizeof file, "%s/files/%s", path, name);
    check(!utimensat(AT_FDCWD, file, then, 0), "a file's time", 0);
}

static uint64_t files_of(struct store *s) { return counts_of(s).files; }

static void test_old_files(void)
{
    const char *path = fresh_path();
    struct store *s = open_plain(path), *reader;
    static const uint8_t bytes[100000] = {1};
    uint8_t *data;
    size_t size;
    uint64_t at, plain_size;
    static const char *const names[] = {"templates-old", "templates-read", "profile-read", "templates-new", "templates-huge"};
    for (unsigned n = 0; n < 5; n++)
        check(store_file_put(s, names[n], bytes, n == 2 ? 1000 : n == 4 ? sizeof bytes : 20000, n == 2), "a file", n);
    for (unsigned n = 0; n < 3; n++)
        make_old(path, names[n], STORE_FILE_DAYS + 1);
    make_old(path, names[3], STORE_FILE_DAYS - 1);
    put_object(s, 1, 0), store_flush(s);
    check(files_of(s) == 5 && counts_of(s).file_bytes > 160000, "files are counted", (long)counts_of(s).file_bytes);
    reader = open_store(path, (struct store_options){.read_only = true});
    close(store_file_plain(reader, names[0], &at, &plain_size)); /* leaves it as old as it is */
    store_close(reader);
    close(store_file_plain(s, names[1], &at, &plain_size));
    check(store_file_get(s, names[2], &data, &size), "a profile", 0);
    free(data);
    check(store_gc(s) > 20000 && files_of(s) == 4 && !store_file_get(s, names[0], &data, &size), "gc removes files that nobody used", (long)files_of(s));
    /* The huge one, though it is new; then the oldest. */
    check(store_prune(s, 100000) == 1 && files_of(s) == 3 && !store_file_get(s, names[4], &data, &size), "a file beyond three quarters of the room", (long)files_of(s));
    check(store_prune(s, 35000) == 1 && files_of(s) == 2 && !store_file_get(s, names[3], &data, &size) && has_object(s, 1, 0) == 1, "the least recently used", (long)files_of(s));
    store_close(s);
    store_close(open_store(path, (struct store_options){.max_bytes = 8000}));
    s = open_plain(path);
    check(files_of(s) == 1 && has_object(s, 1, 0) == 1, "close prunes files", (long)files_of(s));
    check(store_prune(s, 0) == 2 && !files_of(s), "prune to nothing", (long)files_of(s));
    store_close(s);
}

static void test_prune_and_gc(void)
{
    const char *path = fresh_path();
    struct store *s = open_plain(path);
    for (unsigned n = 0; n < 400; n++) {
        put_object(s, n, 0);
        if (n % 5 == 0)
            store_flush(s);
    }
    store_flush(s);
    check(count_packs(path) < 40, "small packs are merged", count_packs(path));
    store_gc(s);
    check(count_packs(path) <= 2, "gc merges small packs", count_packs(path));
    pause_ms(2100); /* times of use are seconds */
    check(count_objects(s, 100, 200, 0) == 100, "use", 0);
    store_flush(s);
    uint64_t before = counts_of(s).stored_bytes, removed = store_prune(s, before / 2);
    struct store_counts c = counts_of(s);
    check(removed > 150 && removed < 250 && c.objects == 400 - removed && c.stored_bytes <= before / 2, "prune", (long)removed);
    check(count_objects(s, 100, 200, 0) == 100, "what was used lately stays", count_objects(s, 100, 200, 0));
    store_close(s);
    s = open_store(path, (struct store_options){.max_bytes = 100000});
    check(count_objects(s, 100, 200, 0) == 100, "and after another opening", 0);
    store_close(s);
    s = open_plain(path);
    c = counts_of(s);
    check(c.stored_bytes <= 100000 && c.objects > 10, "close prunes", (long)c.stored_bytes);
    check(store_prune(s, 0) == c.objects && !counts_of(s).objects && count_packs(path) == 0, "prune to nothing", count_packs(path));
    put_object(s, 1, 0);
    store_close(s);
    s = open_plain(path);
    check(has_object(s, 1, 0) == 1, "and go on", 0);
    store_close(s);
}

struct seen { struct store *store; unsigned count, layers; };
static bool see(void *ctx, const struct store_entry *e)
{
    struct seen *s = ctx;
    struct store_object o;
    if (check(store_get_key(s->store, &e->key, &o) && o.size == e->size && e->used + 60 > (uint64_t)time(NULL), "an entry that is listed", s->count))
        store_release(&o);
    s->layers |= 1u << e->layer;
    return ++s->count < 30;
}

static void test_each(void)
{
    struct store *s = open_plain(fresh_path());
    struct seen seen = {.store = s};
    for (unsigned n = 0; n < 25; n++)
        put_object(s, n, 0);
    store_each(s, true, see, &seen);
    check(seen.count == 25 && seen.layers == 1, "each", seen.count);
    for (unsigned n = 25; n < 50; n++)
        put_object(s, n, 0);
    seen.count = 0;
    store_each(s, true, see, &seen);
    check(seen.count == 30, "each, stopped", seen.count);
    store_close(s);
}

/* --- Threads on one store */
enum { THREADS = 4, OF_EACH = 150 };
struct work { struct store *store; unsigned number; pthread_t thread; unsigned wrong; };

static void *work(void *arg)
{
    struct work *w = arg;
    unsigned own = w->number * 1000;
    for (unsigned n = 0; n < OF_EACH; n++) {
        struct store_key key = key_of(own + n);
        w->wrong += !put_object(w->store, own + n, 0) || has_object(w->store, own + n, 0) != 1;
        w->wrong += has_object(w->store, (w->number + 1) % THREADS * 1000 + n, 0) < 0; /* another's, perhaps */
        w->wrong += !store_has(w->store, &key);
        if (n % 40 == w->number)
            w->wrong += !store_flush(w->store);
        if (n % 50 == w->number)
            store_gc(w->store);
        if (n % 3 == 0)
            w->wrong += !store_remove(w->store, &key) || has_object(w->store, own + n, 0) != 0;
    }
    return NULL;
}

static void test_threads(void)
{
    struct store *s = open_plain(fresh_path());
    struct work of[THREADS];
    for (unsigned n = 0; n < THREADS; n++) {
        of[n] = (struct work){.store = s, .number = n};
        if (pthread_create(&of[n].thread, NULL, work, &of[n]))
            abort();
    }
    for (unsigned n = 0; n < THREADS; n++) {
        pthread_join(of[n].thread, NULL);
        check(!of[n].wrong, "threads", of[n].wrong);
    }
    store_flush(s);
    check(counts_of(s).objects == THREADS * OF_EACH * 2 / 3, "objects of all threads", (long)counts_of(s).objects);
    store_close(s);
}

/* --- What is refused */
static void must_refuse(const char *path, const char *because)
{
    char error[512] = "";
    struct store *s = store_open(&(struct store_options){.path = path, .warn = on_warning}, error, sizeof error);
    check(!s && strstr(error, because) && strstr(error, path) && !strchr(error, '\n'), error, 0);
    store_close(s);
}

static void make_store(const char *path, unsigned objects)
{
    struct store *s = open_plain(path);
    for (unsigned n = 0; n < objects; n++)
        put_object(s, n, 0);
    store_close(s);
}

static void test_refused(void)
{
    char path[64], inner[96], other[96];
    snprintf(path, sizeof path, "%s", fresh_path());
    make_store(path, 3);
    chmod(path, 0770);
    must_refuse(path, "others may write to it");
    chmod(path, 0702);
    must_refuse(path, "others may write to it");
    chmod(path, 0700);
    snprintf(inner, sizeof inner, "%s/packs", path);
    chmod(inner, 0777);
    must_refuse(path, "others may write to it");
    chmod(inner, 0700);
    snprintf(other, sizeof other, "%s/elsewhere", path);
    check(!rename(inner, other) && !symlink("elsewhere", inner), "a link", 0);
    must_refuse(path, "symbolic link");
    unlink(inner);
    fclose(fopen(inner, "w"));
    must_refuse(path, "packs");
    unlink(inner);
    rename(other, inner);
    fclose(fopen(other, "w"));
    must_refuse(other, "directory");
    if (geteuid() == 0) {
        check(!chown(path, 4711, 0), "chown", 0);
        must_refuse(path, "belongs to user 4711");
        check(!chown(path, 0, 0) && !chown(inner, 4711, 0), "chown", 0);
        must_refuse(path, "belongs to user 4711");
        check(!chown(inner, 0, 0), "chown", 0);
    } else {
        printf("not tested without root: a directory of another user's\n");
    }
    struct store *s = open_plain(path);
    check(count_objects(s, 0, 3, 0) == 3, "after all that", 0);
    store_close(s);
}

int main(void)
{
    test_put_and_get(false);
    test_put_and_get(true);
    test_heads();
    test_refused_puts();
    test_layers();
    test_files();
    test_old_files();
    test_sharing();
    test_prune_and_gc();
    test_each();
    test_threads();
    test_refused();
    check(atomic_load(&warnings) == 0, "no warnings", atomic_load(&warnings));
    return finish();
}
