/* The commands of tierce-cache and the options of each, from which parser, messages and help texts come. */
#include "tools/tierce-cache/tool.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define FIELD(name) offsetof(struct options, name)

static void list_add(const char *list[], unsigned *count, const struct option *row, const char *value)
{
    if (*count == LAYERS_MOST)
        die(2, "--%s '%s': accepted are up to %u", row->name, value, LAYERS_MOST);
    list[(*count)++] = value;
}

static void add_layer(void *all, const struct option *row, const char *value)
{
    struct options *o = all;
    list_add(o->layers, &o->layer_count, row, value);
}

static void add_initrd(void *all, const struct option *row, const char *value)
{
    struct options *o = all;
    list_add(o->initrds, &o->initrd_count, row, value);
}

static void add_mode(void *all, const struct option *row, const char *value)
{
    struct options *o = all;
    if (o->mode_count == MODES_MOST)
        die(2, "--%s '%s': accepted are up to %u", row->name, value, MODES_MOST);
    if (mode_find(value, &o->modes[o->mode_count++]))
        return;
    char names[300] = "";
    for (unsigned n = 0; n < mode_row_count; n++)
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s, ", mode_rows[n].name);
    die(2, "--%s '%s': accepted are %sand a word 0x...", row->name, value, names);
}

/* As the emulator's -m: a number with K, M, G or T behind it. */
static void set_size(void *all, const struct option *row, const char *value)
{
    static const char units[] = "KMGT";
    struct options *o = all;
    char *end;
    unsigned long long n = strtoull(value, &end, 10);
    const char *unit = *end ? strchr(units, *end & ~32) : NULL;
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    if (*value < '0' || *value > '9' || (*end && (!unit || end[1])) || n > UINT64_MAX >> shift)
        die(2, "--%s '%s': accepted is a number of bytes, with K, M, G or T behind it", row->name, value);
    o->max_bytes = n << shift;
    o->has_max = true;
}

#define CACHE_ROWS() \
    {"cache", "DIR", "the cache (default: $TIERCE_CACHE, $XDG_CACHE_HOME/tierce/objects, ~/.cache/tierce/objects)", OPTION_TEXT, FIELD(cache)}, \
    {"cache-layer", "DIR", "a read-only cache under it; may be repeated", OPTION_OWN, .set = add_layer}, \
    {"cache-remote", "URL", "a cache that hosts share: redis://HOST[:PORT]", OPTION_TEXT, FIELD(remote)}, \
    {"json", NULL, "print as JSON", OPTION_YES, FIELD(json)}, \
    {"help", NULL, "this text", OPTION_HELP}
#define LAYERS_ROW {"layers", NULL, "those of --cache-layer too", OPTION_YES, FIELD(with_layers)}
#define CPU_ROW {"cpu", "MODEL", "guest CPU, as the emulator's -cpu (default x86-64-v2)", OPTION_TEXT, FIELD(cpu)}

static const struct option build_rows[] = {
    {"initrd", "FILE", "all programs in an initial RAM disk; may be repeated", OPTION_OWN, .set = add_initrd},
    {"mode", "MODE", "mode that the code runs in: a name below, or a word; may be repeated (default: by what the file is)", OPTION_OWN, .set = add_mode},
    {"profiles", NULL, "from profiles that runs left in the cache (default without files)", OPTION_YES, FIELD(profiles)},
    {"runs", "N", "of profiles: blocks that ran so often (default 1)", OPTION_WIDE, FIELD(runs)},
    {"least", "N", "of files: regions that begin where code is worth N; 8 for each loop around it (default 1: all)", OPTION_NUMBER, FIELD(least), 0, 0, 1 << 30},
    {"most", "N", "so many regions, the most valuable ones", OPTION_NUMBER, FIELD(most), 0, 1, 1 << 30},
    {"seconds", "N", "stop after this time; the most valuable regions come first", OPTION_NUMBER, FIELD(seconds), 0, 1, 1 << 30},
    {"threads", "N", "compile on so many threads (default: one a CPU)", OPTION_NUMBER, FIELD(threads), 0, 1, 1024},
    {"jobs", "COUNT", "split the build into so many jobs", OPTION_NUMBER, FIELD(jobs), 0, 1, 1000000},
    {"job", "N", "do the Nth of them, from 0 on", OPTION_NUMBER, FIELD(job), FIELD(has_job), 0, 1000000},
    {"list-jobs", NULL, "print the command of each job", OPTION_YES, FIELD(list_jobs)},
    {"compress", NULL, "store objects compressed", OPTION_YES, FIELD(compress)},
    {"dry-run", NULL, "print what was found, compile nothing", OPTION_YES, FIELD(dry_run)},
    {"list-blocks", NULL, "print the blocks that were found (mode, PC, bytes, instructions), compile nothing", OPTION_YES, FIELD(list_blocks)},
    {"quiet", NULL, "no progress, no coverage", OPTION_YES, FIELD(quiet)},
    CPU_ROW, CACHE_ROWS()};
static const struct option read_rows[] = {LAYERS_ROW, CACHE_ROWS()};
static const struct option show_rows[] = {{"object", NULL, "the ELF object itself, to standard output, for readelf and objdump", OPTION_YES, FIELD(objects)}, LAYERS_ROW, CACHE_ROWS()};
static const struct option verify_rows[] = {{"sample", "N", "so many objects, or all (default 20)", OPTION_TEXT, FIELD(sample)}, CPU_ROW, LAYERS_ROW, CACHE_ROWS()};
static const struct option size_rows[] = {{"size", "SIZE", "what may be left, as 500M (default 1G)", OPTION_OWN, .set = set_size}, CACHE_ROWS()};
static const struct option plain_rows[] = {{"compress", NULL, "store objects compressed", OPTION_YES, FIELD(compress)}, CACHE_ROWS()};

#define TABLE(name) \
    static void name##_help(void); \
    const struct option_table name##_table = {name##_rows, sizeof name##_rows / sizeof *name##_rows, "tierce-cache COMMAND", name##_help}
TABLE(build);
TABLE(read);
TABLE(show);
TABLE(verify);
TABLE(size);
TABLE(plain);

const struct command commands[] = {
    {"build", "[FILE...]", "compile: ELF programs and libraries, kernels, initial RAM disks, or profiles", build_run, &build_table},
    {"list", "[PREFIX]", "list objects, or those whose key begins with PREFIX", list_run, &read_table},
    {"show", "KEY", "print an object: its guest code, host code and figures", show_run, &show_table},
    {"stats", "", "print what the cache holds", stats_run, &read_table},
    {"verify", "[PREFIX]", "compile objects again and compare the bytes", verify_run, &verify_table},
    {"merge", "DIR...", "take the objects and profiles of other caches", merge_run, &plain_table},
    {"export", "FILE [PREFIX]", "write objects to one file", export_run, &read_table},
    {"import", "FILE", "take the objects of such a file", import_run, &plain_table},
    {"prune", "", "remove the least recently used objects, profiles and files of templates", prune_run, &size_table},
    {"gc", "", "give room back that dead objects, dead processes and files that nobody used for 30 days hold", gc_run, &plain_table},
};
const unsigned command_count = sizeof commands / sizeof *commands;

static void help(const struct option_table *t)
{
    for (unsigned n = 0; n < command_count; n++)
        if (commands[n].table == t)
            printf("usage: tierce-cache %s [options] %s\n    %s\n", commands[n].name, commands[n].arguments, commands[n].help);
    options_print(t, stdout);
}
static void build_help(void)
{
    help(&build_table);
    puts("Modes:");
    for (unsigned n = 0; n < mode_row_count; n++)
        printf("  %-14s 0x%08x  %s\n", mode_rows[n].name, mode_rows[n].mode, mode_rows[n].meaning);
    puts("Regions that are in the cache are passed over, so a build that was stopped goes on where it was.");
}
static void read_help(void) { help(&read_table); }
static void show_help(void) { help(&show_table); }
static void verify_help(void) { help(&verify_table); }
static void size_help(void) { help(&size_table); }
static void plain_help(void) { help(&plain_table); }
