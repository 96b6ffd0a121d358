/* store.h - the translation cache on disk: objects by key, one directory, any number of processes.
 * It knows nothing of what an object holds; that its bytes are those which were put is the store's promise (checksum), that they
 * fit the guest is the caller's to check (runtime/cache.h).
 * Threads: one struct store may be used by any number of threads.  store_get, _has, _put, _remove and store_release neither write to the disk nor
 * wait for another process on the caller's thread; only store_prune and store_gc wait (two seconds at most) for another process that does the same. */
#ifndef RUNTIME_STORE_H
#define RUNTIME_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct store;
/* head: what can be known where a region would begin (translator, mode, bytes of its first block); whole: all that it was made from.
 * Any number of objects may have the same head. */
struct store_key { uint64_t head[2], whole[2]; };
struct store_options {
    const char *path;                     /* made (0700) where it is not there, unless read_only */
    const char *const *layers; unsigned layer_count; /* read-only stores looked at after `path`, in this order */
    bool read_only;
    bool compress;                        /* objects that are put: a third of the size on disk, several times slower to load (docs/cache.md) */
    uint64_t max_bytes;                   /* of objects and files: store_close prunes to this; 0: 1 GiB */
    const char *remote;                   /* NULL, or "redis://HOST[:PORT]" or "redis:///path/of/socket" */
    void (*warn)(void *ctx, const char *line); void *ctx; /* one line for what was skipped, once for each file; any thread; not to use the store */
};
/* NULL: error has one line: what is wrong with which directory (not ours, writable by others, no directory, ...).  A directory that
 * cannot be written is used read-only, with a warning. */
struct store *store_open(const struct store_options *, char *error, size_t size);
void store_close(struct store *);         /* flushes */

struct store_object { struct store_key key; const uint8_t *data; size_t size; void *owned; };
/* The nth object with that head, the latest first; layers after the store, the remote last.  False: there is no such, or it was damaged
 * and is counted and skipped (*damaged, may be NULL).  Data is aligned to 8 bytes, and stays until store_release. */
bool store_get(struct store *, const uint64_t head[2], unsigned nth, struct store_object *, bool *damaged);
bool store_has(struct store *, const struct store_key *);
void store_release(struct store_object *);
/* Kept in memory and written by store_flush, or by the store's own thread some seconds later.  What has the same key is replaced.
 * False: out of memory (or too much waits to be written), the store is read-only, or size is 0 or above 64 MiB. */
bool store_put(struct store *, const struct store_key *, const void *data, size_t size);
bool store_flush(struct store *);         /* false: it could not be written, which was warned of; the objects stay in memory */

struct store_counts { uint64_t objects, bytes, stored_bytes, files, file_bytes, hits, misses, damaged, foreign, puts, remote_hits, remote_errors; };
void store_count(struct store *, struct store_counts *);
/* Each object of `path` (with_layers: of all), after a flush.  `each` may use the store; it returns false to stop. */
struct store_entry { struct store_key key; uint64_t size, stored_size, used /* seconds since 1970 */; unsigned layer; };
void store_each(struct store *, bool with_layers, bool (*each)(void *ctx, const struct store_entry *), void *ctx);
bool store_get_key(struct store *, const struct store_key *, struct store_object *);
bool store_remove(struct store *, const struct store_key *);  /* written by the next flush */
/* Removes the least recently used objects and named files until at most max_bytes are stored, files larger than three quarters of that before all others; returns how
 * many; 0 too where another process holds the lock for long. */
uint64_t store_prune(struct store *, uint64_t max_bytes);
/* Rewrites packs that are mostly dead, removes temporary files of dead processes, and named files that nobody used for STORE_FILE_DAYS: a translator that is gone
 * left them, or a guest that is.  Returns the bytes gained. */
enum { STORE_FILE_DAYS = 30 };
uint64_t store_gc(struct store *);

/* Named files beside the objects (profiles, templates): a name is [0-9a-z.-]+.  Atomic as the objects are; each is checksummed, and compressed where
 * that is asked for.  At most 64 MiB, 1 GiB where it is not compressed. */
bool store_file_put(struct store *, const char *name, const void *data, size_t size, bool compress);
bool store_file_get(struct store *, const char *name, uint8_t **data, size_t *size); /* malloc'd */
/* One that is not compressed, to be read in parts: a descriptor, which the caller closes, and where its bytes are; -1: there is none.  What is read is not
 * checked. */
int store_file_plain(struct store *, const char *name, uint64_t *at, uint64_t *size);
struct store_file { const char *name; uint64_t size, used /* seconds since 1970: put, or read by a store that may be written */; };
void store_file_each(struct store *, bool (*each)(void *ctx, const struct store_file *), void *ctx);
bool store_file_remove(struct store *, const char *name);

#endif
