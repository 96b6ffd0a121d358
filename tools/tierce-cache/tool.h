/* tool.h - what the files of tierce-cache share: the options of all commands, the store, sizes and times in print. */
#ifndef TIERCE_CACHE_TOOL_H
#define TIERCE_CACHE_TOOL_H

#include "runtime/cache.h"
#include "tools/common/common.h"
#include "tools/tierce-cache/discover.h"

enum { MODES_MOST = 16, LAYERS_MOST = 16 };
struct options {
    const char *cache, *cpu, *remote;
    const char *layers[LAYERS_MOST]; unsigned layer_count;
    bool json, with_layers, compress;
    uint64_t max_bytes; bool has_max;                   /* --size */
    /* build */
    const char *initrds[LAYERS_MOST]; unsigned initrd_count;
    uint32_t modes[MODES_MOST]; unsigned mode_count;    /* 0: by what the file is */
    bool profiles, dry_run, list_jobs, list_blocks, quiet;
    unsigned threads, jobs, job; bool has_job;
    unsigned seconds, least, most;                      /* 0: no limit */
    uint64_t runs;                                      /* of a profile's blocks */
    /* verify, show, gc */
    const char *sample;
    bool objects;                                       /* show: the ELF object to standard output */
};
struct command { const char *name, *arguments, *help; int (*run)(struct options *, const char *const *arguments, unsigned count); const struct option_table *table; };
extern const struct command commands[];
extern const unsigned command_count;
extern const struct option_table build_table, read_table, size_table, verify_table, show_table, plain_table;

int build_run(struct options *, const char *const *, unsigned);
int list_run(struct options *, const char *const *, unsigned);
int show_run(struct options *, const char *const *, unsigned);
int stats_run(struct options *, const char *const *, unsigned);
int verify_run(struct options *, const char *const *, unsigned);
int merge_run(struct options *, const char *const *, unsigned);
int export_run(struct options *, const char *const *, unsigned);
int import_run(struct options *, const char *const *, unsigned);
int prune_run(struct options *, const char *const *, unsigned);
int gc_run(struct options *, const char *const *, unsigned);

/* --- modes.c: words that code runs in, by name */
struct mode_row { const char *name; uint32_t mode; const char *meaning; };
extern const struct mode_row mode_rows[];
extern const unsigned mode_row_count;
bool mode_find(const char *text, uint32_t *mode);   /* a name, or a number */
const char *mode_name(uint32_t mode);               /* NULL: it has none */
/* Those that code of an image is compiled for where the user did not say; init: in the kernel's init sections. */
unsigned mode_defaults(const struct image *, bool init, uint32_t modes[MODES_MOST]);
unsigned mode_seldom(const struct image *, bool patched, uint32_t modes[MODES_MOST]); /* others that a kernel's init sections run in, before it changed itself or after */

/* --- store.c */
enum access { READ_ONLY, WRITABLE };
struct store *store_get_open(const struct options *, enum access);
const char *store_path(const struct options *);
const struct x86_model *model_of(const struct options *);       /* dies */
enum { KEY_TEXT = 65 };
void key_text(const struct store_key *, char to[KEY_TEXT]);
/* All objects whose key begins with the prefix, malloc'd and sorted. */
struct store_entry *entries_of(struct store *, const char *prefix, bool with_layers, size_t *count);
void check_prefix(const char *);                                /* dies where it is none */
/* An object as it lies in the store; dies without one. */
bool object_of(struct store *, const struct store_entry *, struct store_object *, struct object_view *, char *error, size_t size);
void size_text(uint64_t bytes, char to[16]);
double seconds_now(void);

/* --- Work: recipes with their keys. */
struct item { struct store_key key; uint8_t *recipe; size_t size; uint64_t weight; uint32_t insns, bytes; };
struct items { struct item *at; size_t count, room; uint64_t insns, bytes; };
void items_add(struct items *, const uint64_t translator[2], const struct recipe *, uint64_t weight, unsigned insns, unsigned bytes);
void items_sort(struct items *);      /* each key once; the most valuable first */
void items_free(struct items *);
struct coverage { char name[256], why[200] /* it was not read; empty: it was */; uint64_t code, found, insns; size_t blocks, refused, bad, tables, regions, patched; };
struct sources { struct items items; struct coverage *files; size_t file_count, file_room; size_t skipped /* files inside of archives that are no programs */; struct template_writer *templates /* NULL: not wanted */; unsigned template_count; uint64_t template_bytes; };
/* templates.c: of all blocks that a run may enter; w: may be NULL. */
void templates_discovered(struct template_writer *w, const struct discovery *, const volatile bool *stop);
/* static.c: from files, and from what initial RAM disks hold. */
void static_collect(struct sources *, const struct options *, const struct x86_model *, const uint64_t translator[2], const char *const *files, unsigned count,
                    const volatile bool *stop);
/* profiles.c: from what runs recorded in the store; returns how many profiles there were. */
unsigned profiles_collect(struct items *, struct store *, const struct options *, const struct x86_model *, const uint64_t translator[2]);
/* work.c: compiles them. */
struct outcome { size_t compiled, present, refused, left; uint64_t insns, bytes, object_bytes, cpu_ns; double seconds; char first_refused[200]; };
void work_run(struct store *, const struct items *, const struct options *, const struct x86_model *, const uint64_t translator[2], volatile bool *stop, struct outcome *);

#endif
