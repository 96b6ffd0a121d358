/* Named files of the store: a header and the bytes, compressed or not. */
#define _GNU_SOURCE
#include "runtime/store_internal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_NAME = 128 };
struct header { uint64_t magic; uint32_t version, unused; struct store_record record; };

static bool name_is_good(const char *name)
{
    size_t length = strlen(name);
    return length && length <= MAX_NAME && *name != '.' && strspn(name, "0123456789abcdefghijklmnopqrstuvwxyz.-") == length;
}

static void path_of(const char *name, char path[STORE_NAME]) { snprintf(path, STORE_NAME, "files/%.*s", MAX_NAME, name); }

/* The checksum covers the name: a file cannot stand in for another. */
static struct store_key key_of(const char *name)
{
    return (struct store_key){{store_hash(name, strlen(name), 1), store_hash(name, strlen(name), 2)}, {0, 0}};
}

/* Written when a run ends: quickly. */
bool store_file_put(struct store *s, const char *name, const void *data, size_t size, bool compress)
{
    struct store_dir *d = store_layer(s, 0);
    if (!d->writable || !name_is_good(name) || size > (compress ? STORE_MAX_OBJECT : STORE_MAX_PLAIN))
        return false;
    struct header h = {.magic = STORE_FILE_MAGIC, .version = STORE_VERSION,
                       .record = {.key = key_of(name), .offset = sizeof h, .size = (uint32_t)size, .time = store_now()}};
    struct store_writer *w = malloc(sizeof *w);
    uint8_t *stored = NULL;
    char path[STORE_NAME];
    path_of(name, path);
    bool written = w && store_pack_object(&h.record, data, compress ? 1 : 0, &stored) && store_writer_begin(w, d, path);
    if (written) {
        store_writer_add(w, &h, sizeof h);
        store_writer_add(w, stored, h.record.stored);
        written = store_writer_end(w);
    }
    if (!written)
        store_complain(d, STORE_TROUBLE, path, "cannot be written: %s", strerror(errno));
    if (stored != data)
        free(stored);
    free(w);
    return written;
}

/* -1: not there, or why says what is wrong with it. */
static int open_file(struct store_dir *d, const char *name, struct header *h, const char **why, bool *foreign)
{
    struct stat s;
    char path[STORE_NAME];
    path_of(name, path);
    *why = NULL;
    *foreign = false;
    int fd = store_file_open(d, path, O_RDONLY, &s);
    if (fd < 0)
        return -1;
    if (!store_read(fd, h, sizeof *h, 0) || h->magic != STORE_FILE_MAGIC)
        *why = "is not a file of the store";
    else if ((*foreign = h->version != STORE_VERSION))
        *why = "has another version's format";
    else if (h->record.size > (h->record.stored < h->record.size ? STORE_MAX_OBJECT : STORE_MAX_PLAIN) || h->record.stored > h->record.size || (uint64_t)s.st_size != sizeof *h + h->record.stored)
        *why = "is truncated";
    return fd;
}

/* The file's time says when it was last used. */
static void note_use(const struct store_dir *d, int fd)
{
    if (d->writable)
        futimens(fd, NULL);
}

int store_file_plain(struct store *s, const char *name, uint64_t *at, uint64_t *size)
{
    struct header h;
    const char *why;
    bool foreign;
    for (unsigned n = 0; name_is_good(name) && store_layer(s, n); n++) {
        struct store_dir *d = store_layer(s, n);
        int fd = open_file(d, name, &h, &why, &foreign);
        struct store_key key = key_of(name);
        if (fd >= 0 && !why && (store_key_compare(&h.record.key, &key) || h.record.stored != h.record.size))
            why = "is damaged";
        *at = sizeof h;
        *size = h.record.size;
        if (fd >= 0 && !why) {
            note_use(d, fd);
            return fd;
        }
        if (fd >= 0) {
            char path[STORE_NAME];
            path_of(name, path);
            store_complain(d, foreign ? STORE_FOREIGN : STORE_DAMAGED, path, "%s", why);
            close(fd);
        }
    }
    return -1;
}

/* NULL: not there, or skipped with a warning. */
static uint8_t *read_file(struct store_dir *d, const char *name, size_t *size)
{
    struct header h;
    char path[STORE_NAME];
    const char *why;
    uint8_t *stored = NULL, *data = NULL;
    bool foreign;
    path_of(name, path);
    int fd = open_file(d, name, &h, &why, &foreign);
    if (fd < 0)
        return NULL;
    if (!why && (!(stored = malloc(h.record.stored + 1)) || !store_read(fd, stored, h.record.stored, sizeof h)))
        why = "cannot be read";
    struct store_key key = key_of(name);
    if (why || store_key_compare(&h.record.key, &key))
        free(stored);
    else
        data = store_unpack_object(&h.record, stored);
    if (!why && !data)
        why = "is damaged";
    if (why)
        store_complain(d, foreign ? STORE_FOREIGN : STORE_DAMAGED, path, "%s", why);
    else
        note_use(d, fd);
    *size = h.record.size;
    close(fd);
    return data;
}

bool store_file_get(struct store *s, const char *name, uint8_t **data, size_t *size)
{
    *data = NULL;
    for (unsigned n = 0; name_is_good(name) && !*data && store_layer(s, n); n++)
        *data = read_file(store_layer(s, n), name, size);
    return *data;
}

void store_file_each(struct store *s, bool (*each)(void *ctx, const struct store_file *), void *ctx)
{
    struct store_dir *d = store_layer(s, 0);
    int copy = d->files < 0 ? -1 : openat(d->files, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy < 0 ? NULL : fdopendir(copy);
    struct stat st;
    if (!list && copy >= 0)
        close(copy);
    for (struct dirent *e; list && (e = readdir(list));)
        if (name_is_good(e->d_name) && !fstatat(d->files, e->d_name, &st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st.st_mode) &&
            !each(ctx, &(struct store_file){e->d_name, (uint64_t)st.st_size, (uint64_t)st.st_mtim.tv_sec}))
            break;
    if (list)
        closedir(list);
}

static bool add_size(void *ctx, const struct store_file *f)
{
    struct store_counts *c = ctx;
    c->files++;
    c->file_bytes += f->size;
    return true;
}

void store_files_count(struct store *s, struct store_counts *c)
{
    c->files = c->file_bytes = 0;
    store_file_each(s, add_size, c);
}

struct unused { struct store *store; uint64_t before, gained; };
static bool remove_unused(void *ctx, const struct store_file *f)
{
    struct unused *u = ctx;
    if (f->used < u->before && store_file_remove(u->store, f->name))
        u->gained += f->size;
    return true;
}

uint64_t store_files_gc(struct store *s)
{
    struct unused u = {.store = s, .before = store_now() / 1000000000u - STORE_FILE_DAYS * 86400u};
    store_file_each(s, remove_unused, &u);
    return u.gained;
}

bool store_file_remove(struct store *s, const char *name)
{
    struct store_dir *d = store_layer(s, 0);
    char path[STORE_NAME];
    path_of(name, path);
    return d->writable && name_is_good(name) && store_file_unlink(d, path);
}
