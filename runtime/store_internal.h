/* store_internal.h - what the parts of the translation cache's store share.  On disk (docs/cache.md, "The store"):
 *   packs/<16 hex>.pack  objects, never changed; the name is a hash of the table at its beginning
 *   index                where each object of the packs that it lists is; replaced as a whole.  Packs that it does not list are newer
 *   used                 when objects were last used; a guess that may be lost
 *   files/<name>         named files
 *   lock                 flocked by who replaces the index or removes packs; readers and writers of packs never wait for it
 * Files are read with pread and never mapped: who truncates one under us makes damaged objects, not a SIGBUS.  Nothing that is
 * read is trusted.  Numbers are little-endian.  */
#ifndef RUNTIME_STORE_INTERNAL_H
#define RUNTIME_STORE_INTERNAL_H

#include "runtime/store.h"
#include <pthread.h>
#include <sys/stat.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the store's files are little-endian");
enum { STORE_VERSION = 1, STORE_NAME = 160 };
#define STORE_MAX_OBJECT (64u << 20)
#define STORE_MAX_PLAIN (1u << 30) /* a file that is not compressed */
#define STORE_PACK_SIZE (16u << 20) /* about; packs are not made larger than this and an object */
#define STORE_PACK_MAGIC 0x4b50656372656954ull  /* "TiercePK" */
#define STORE_INDEX_MAGIC 0x5849656372656954ull /* "TierceIX" */
#define STORE_FILE_MAGIC 0x4c46656372656954ull  /* "TierceFL" */

/* --- On disk */
struct store_record {          /* of an object; stored as it is where stored == size, else by zlib; both 0: it was removed */
    struct store_key key;
    uint64_t offset;           /* in its pack */
    uint32_t stored, size;
    uint64_t check;            /* of the stored bytes and of all of this but the offset */
    uint64_t time;             /* ns since 1970 of its put; the latest with a key counts */
};
struct store_pack_header { uint64_t magic; uint32_t version, count; uint64_t size, check /* of the header and the table behind it */, made[2] /* when and by whom: no two packs have one name */, unused[2]; };
struct store_at { struct store_record record; uint32_t pack, unused; };
enum { STORE_PACK_DEAD = 1 };  /* its objects are in other packs; what is left of it is a file to be removed */
struct store_pack_at { uint64_t name, size; uint32_t flags, unused; };
struct store_index_header {    /* then packs, first[(1 << bits) + 1], tags[count], and, 8-aligned, struct store_at[count] */
    uint64_t magic; uint32_t version, bits;
    uint64_t generation, size, check /* of all but the entries */, entries_check, object_bytes, stored_bytes;
    uint32_t count, pack_count;
};
_Static_assert(sizeof(struct store_record) == 64 && sizeof(struct store_pack_header) == 64 && sizeof(struct store_at) == 72, "on disk");
_Static_assert(sizeof(struct store_pack_at) == 24 && sizeof(struct store_index_header) == 72, "on disk");

/* --- In memory */
struct store_pack { struct store_pack_at at; int fd; uint64_t file_size; };
/* Objects in the order of their heads' hashes, those of one head together, the latest first, each key once. */
struct store_table {
    unsigned bits;
    uint32_t count, *first;    /* of those whose hash begins with these bits */
    uint16_t *tags;            /* the hash's lowest bits */
    struct store_at *entries;  /* NULL: they are in the file */
    int fd; uint64_t entries_at;
    struct store_pack *packs; unsigned pack_count, open_packs, next_to_close;
    void *owned;               /* first and tags are in it, where it is not NULL */
    uint64_t generation, entries_check, object_bytes, stored_bytes;
};
struct store_stamp { uint64_t inode; int64_t seconds, ns; bool settled; };
struct store_view { struct store_table index, recent; struct store_stamp index_stamp, packs_stamp; };
struct store_dir {
    struct store *store;
    char *path;
    int fd, packs, files;      /* -1: not there */
    bool writable;
    struct store_view view;
    uint64_t looked;           /* when others' packs were looked for, in ms */
    uint64_t *used; unsigned used_count; /* hashes of the keys of objects that were used since the last flush */
};

enum store_fault { STORE_DAMAGED, STORE_FOREIGN, STORE_TROUBLE, STORE_LOST /* the remote, whose URL is the name */, STORE_DAMAGED_REMOTE };
/* Counts, and warns once for each name and fault. */
__attribute__((format(printf, 4, 5))) void store_complain(struct store_dir *, enum store_fault, const char *name, const char *format, ...);
uint64_t store_now(void);      /* ns since 1970 */
uint64_t store_now_ms(void);   /* of the monotonic clock */
struct store_dir *store_layer(struct store *, unsigned n); /* 0: the store's own; NULL: there are no more */
void store_look_again(struct store *);                     /* what was just changed on disk */

/* --- store_dir.c: the directory, and files in it that are safe to open and whole when they appear */
bool store_dir_open(struct store_dir *, bool make, char *error, size_t size);
void store_dir_close(struct store_dir *);
/* Names are as "index" or "packs/<...>.pack": the descriptor that the last part is relative to. */
int store_at_name(const struct store_dir *, const char **name);
/* -1: errno; one that others may write to, or that is none, is complained of (EPERM). */
int store_file_open(struct store_dir *, const char *name, int flags /* O_RDONLY or O_RDWR */, struct stat *);
bool store_file_unlink(struct store_dir *, const char *name);
bool store_read(int fd, void *to, size_t size, uint64_t offset);
struct store_writer { int at, fd, error; uint64_t size; size_t held; char temporary[48], name[STORE_NAME]; uint8_t buffer[1 << 14]; };
bool store_writer_begin(struct store_writer *, struct store_dir *, const char *name);
void store_writer_add(struct store_writer *, const void *, size_t);
bool store_writer_end(struct store_writer *); /* false: errno; nothing is left of it */
void store_writer_drop(struct store_writer *);
int store_lock(struct store_dir *, unsigned wait_ms);           /* -1: somebody else holds it */
uint64_t store_remove_temporaries(struct store_dir *);

/* --- store_files.c */
void store_files_count(struct store *, struct store_counts *);  /* files and file_bytes alone */
uint64_t store_files_gc(struct store *);                        /* the bytes gained */

/* --- store_pack.c */
uint64_t store_hash(const void *, size_t, uint64_t seed);
uint64_t store_hash_key(const struct store_key *);
uint64_t store_check(const struct store_record *, const void *stored);
void store_pack_name(char name[STORE_NAME], uint64_t);      /* packs/<16 hex>.pack */
/* compress: zlib's level, 0: not.  *stored is `data` or malloc'd. */
bool store_pack_object(struct store_record *, const void *data, int compress, uint8_t **stored);
/* malloc'd and checked; takes `stored`.  NULL: damaged. */
uint8_t *store_unpack_object(const struct store_record *, uint8_t *stored);
struct store_item { struct store_record *record; const uint8_t *stored; };
/* Writes offsets into the records.  False: errno. */
bool store_pack_write(struct store_dir *, const struct store_item *, size_t count, struct store_pack_at *);
bool store_record_fits(const struct store_record *, uint64_t pack_size); /* what is true of each object, and of what stands for a removed one */
/* The table of a pack, malloc'd; NULL: it is damaged or foreign, which was complained of, or gone (ENOENT). */
struct store_record *store_pack_table(struct store_dir *, uint64_t name, uint32_t *count, uint64_t *size);
bool store_at_is_sound(const struct store_table *, const struct store_at *); /* an object, in a pack that lives and is long enough */
enum store_fetched { STORE_FETCHED, STORE_GONE, STORE_BAD };
/* The stored bytes, malloc'd, not yet checked. */
enum store_fetched store_pack_fetch(struct store_dir *, struct store_table *, const struct store_at *, uint8_t **stored);

/* --- store_table.c */
struct store_cursor { uint32_t next, end; uint16_t tag; };
void store_table_seek(const struct store_table *, const uint64_t head[2], struct store_cursor *);
bool store_table_next(const struct store_table *, const uint64_t head[2], struct store_cursor *, struct store_at *);
bool store_table_find(const struct store_table *, const struct store_key *, struct store_at *);
uint32_t store_table_entries(const struct store_table *, uint32_t from, struct store_at *to, uint32_t count); /* how many were read */
void store_table_free(struct store_table *);
/* Sorts `entries` and takes them (and keeps them); removed ones stay where `keep_removed`.  Packs are set by the caller. */
bool store_table_build(struct store_table *, struct store_at *entries, size_t count, bool keep_removed);
bool store_index_whole(struct store_dir *, const struct store_table *); /* false: its entries are damaged, which was complained of */
bool store_index_load(struct store_dir *, struct store_table *);
bool store_index_write(struct store_dir *, const struct store_table *, uint64_t generation); /* false: errno */

/* --- store_view.c: both tables as they are on disk now */
bool store_view_load(struct store_dir *, struct store_view *);
bool store_view_load_recent(struct store_dir *, struct store_view *); /* all packs that the view's index does not list */
void store_view_free(struct store_view *);
void store_view_refresh(struct store_dir *, struct store_view *); /* where files changed */
bool store_view_find(const struct store_view *, const struct store_key *, struct store_at *, const struct store_table **);

/* --- store_gc.c: what is done under the lock */
enum store_work { STORE_INDEX, STORE_GC };
/* Writes a new index; merges small packs; STORE_GC: rewrites packs that are mostly dead.  Objects of `victims` (sorted) are left out. */
bool store_maintain(struct store_dir *, enum store_work, unsigned wait_ms, const struct store_key *victims, size_t victim_count, uint64_t *gained);
int store_key_compare(const void *, const void *);

/* --- store_used.c */
void store_used_note(struct store_dir *, const struct store_key *);
void store_used_flush(struct store_dir *, const uint64_t *hashes, unsigned count);
int store_used_open(struct store_dir *, int flags);             /* -1: there is none */
uint32_t store_used_read(int fd, const struct store_key *);     /* seconds, or 0 */
bool store_used_rebuild(struct store_dir *, const struct store_table *);

#endif
