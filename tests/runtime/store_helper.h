/* What the store's tests share: a directory that goes away, objects that can be told from each other, warnings that are counted. */
#pragma once
#include "runtime/store.h"
#include <dirent.h>
#include <ftw.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int passed, failed;
static atomic_uint warnings;
static char last_warning[512], store_path[64];

static inline bool check(bool good, const char *what, long of)
{
    good ? passed++ : failed++;
    if (!good)
        printf("failed: %s (%ld); last warning: %s\n", what, of, last_warning);
    return good;
}

static inline void on_warning(void *ctx, const char *line)
{
    (void)ctx;
    if (!atomic_fetch_add(&warnings, 1) || !strchr(line, '\n'))
        snprintf(last_warning, sizeof last_warning, "%s", line);
    if (strchr(line, '\n'))
        printf("failed: a warning of several lines: %s\n", line), failed++;
}

static inline int remove_one(const char *path, const struct stat *s, int kind, struct FTW *f)
{
    (void)s, (void)kind, (void)f;
    return remove(path);
}
static inline void remove_tree(const char *path) { nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

/* A new path that is not there. */
static inline const char *fresh_path(void)
{
    static unsigned n;
    static char base[32];
    if (!*base) {
        snprintf(base, sizeof base, "%s/store-XXXXXX", access("/dev/shm", W_OK | X_OK) ? "/tmp" : "/dev/shm"); /* where fsync takes no time */
        if (!mkdtemp(base))
            abort();
    }
    snprintf(store_path, sizeof store_path, "%s/%u", base, n++);
    return store_path;
}

static inline void remove_all(void)
{
    if (strrchr(store_path, '/'))
        *strrchr(store_path, '/') = 0;
    if (*store_path)
        remove_tree(store_path);
}

static inline struct store *open_store(const char *path, struct store_options o)
{
    char error[256] = "";
    o.path = path;
    o.warn = on_warning;
    struct store *s = store_open(&o, error, sizeof error);
    if (!check(s != NULL, error, 0))
        exit(1);
    return s;
}
static inline struct store *open_plain(const char *path) { return open_store(path, (struct store_options){0}); }

/* The object of a number: its size and bytes follow from it and a version. */
static inline struct store_key key_of(unsigned n) { return (struct store_key){{n / 2, 7}, {n, 9}}; } /* two to a head */
static inline size_t object_of(unsigned n, unsigned version, uint8_t bytes[8192])
{
    uint32_t x = n * 2654435761u + version * 40503u + 1;
    size_t size = 8 + x % 5000;
    for (size_t i = 0; i < size; i++)
        bytes[i] = i % 3 ? (uint8_t)(x = x * 1103515245u + 12345u) >> 4 : 0; /* compresses somewhat */
    memcpy(bytes, &n, 4);
    memcpy(bytes + 4, &version, 4);
    return size;
}
static inline bool put_object(struct store *s, unsigned n, unsigned version)
{
    uint8_t bytes[8192];
    struct store_key key = key_of(n);
    size_t size = object_of(n, version, bytes);
    return store_put(s, &key, bytes, size);
}
static inline bool is_object(const struct store_object *o, unsigned n, unsigned version)
{
    uint8_t bytes[8192];
    struct store_key key = key_of(n);
    return o->size == object_of(n, version, bytes) && !memcmp(o->data, bytes, o->size) && !memcmp(&o->key, &key, sizeof key) && !((uintptr_t)o->data & 7);
}
/* 1: it is there and right; 0: it is not there; -1: what is there is wrong. */
static inline int has_object(struct store *s, unsigned n, unsigned version)
{
    struct store_key key = key_of(n);
    struct store_object o;
    if (!store_get_key(s, &key, &o))
        return 0;
    int right = is_object(&o, n, version) ? 1 : -1;
    store_release(&o);
    return right;
}
static inline unsigned count_objects(struct store *s, unsigned from, unsigned to, unsigned version)
{
    unsigned found = 0;
    for (unsigned n = from; n < to; n++)
        found += has_object(s, n, version) == 1;
    return found;
}
static inline unsigned count_packs(const char *path)
{
    char name[128];
    unsigned count = 0;
    snprintf(name, sizeof name, "%s/packs", path);
    DIR *list = opendir(name);
    for (struct dirent *e; list && (e = readdir(list));)
        count += e->d_name[0] != '.';
    closedir(list);
    return count;
}
static inline int finish(void)
{
    remove_all();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
