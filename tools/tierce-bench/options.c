/* The command line of tierce-bench: one table, from which the help text and the messages come too. */
#define _GNU_SOURCE
#include "tools/tierce-bench/bench.h"
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum option_kind { TEXT_OPTION, NUMBER_OPTION, FLAG_ON, FLAG_OFF, FORMAT_OPTION, ALL_OPTION, HELP_OPTION };
struct option {
    const char *name, *value, *help;
    enum option_kind kind;
    size_t field;
    unsigned low, high;
};
#define FIELD(name) offsetof(struct bench, name)
static const struct option options[] = {
    {"only", "NAMES", "programs or groups to run, with commas (`--only list` lists them)", TEXT_OPTION, FIELD(only)},
    {"rounds", "N", "how often all is measured (default 3)", NUMBER_OPTION, FIELD(rounds), 1, MAX_ROUNDS},
    {"budget", "MS", "milliseconds for one program in one round (default 150; 0: one unit of its work)", NUMBER_OPTION, FIELD(budget_ms), 0, 60000},
    {"tiers", "LIST", "tiers of tierce: tiered, tcg, llvm, interp, or none (default tiered)", TEXT_OPTION, FIELD(tiers)},
    {"native", NULL, "run natively too (the default)", FLAG_ON, FIELD(native)},
    {"no-native", NULL, "do not", FLAG_OFF, FIELD(native)},
    {"qemu", "PATH", "QEMU to compare with, or none (default qemu-system-x86_64, where there is one)", TEXT_OPTION, FIELD(qemu)},
    {"tierce", "PATH", "the emulator (default: beside this program)", TEXT_OPTION, FIELD(tierce)},
    {"kernel", "FILE", "a bzImage, or cloud, amd64 (Debian's), or auto (default auto: cloud)", TEXT_OPTION, FIELD(kernel)},
    {"m", "MIB", "RAM of the guests (default 512)", NUMBER_OPTION, FIELD(memory_mib), 64, 65536},
    {"best", NULL, "judge by the best unit of work of a round, not by the median: steadier on a busy host", FLAG_ON, FIELD(by_best)},
    {"timeout", "S", "seconds after which a program or a boot is given up (default 120)", NUMBER_OPTION, FIELD(timeout_s), 1, 86400},
    {"programs", NULL, "run the programs (the default, where nothing of the following is given)", FLAG_ON, FIELD(with_programs)},
    {"boot", NULL, "measure the time to the shell and to the end of poweroff", FLAG_ON, FIELD(with_boot)},
    {"memory", NULL, "measure resident memory, guest RAM apart, after boot and after the programs", FLAG_ON, FIELD(with_memory)},
    {"state", NULL, "measure saving and restoring a guest at its shell", FLAG_ON, FIELD(with_state)},
    {"translate", NULL, "measure the cost of translation, and say where it goes", FLAG_ON, FIELD(with_translate)},
    {"cache", NULL, "measure the translation cache's store", FLAG_ON, FIELD(with_cache)},
    {"cache-boot", NULL, "measure boots with a translation cache: cold, warm, from the kernel's files, off the disk; and builds of it", FLAG_ON, FIELD(with_cache_boot)},
    {"cache-programs", NULL, "measure brief programs in a guest (gcc, python3, forks) with a cold cache and a warm one", FLAG_ON, FIELD(with_cache_programs)},
    {"build-seconds", "S", "of those, how long each build of a cache may take (default 120)", NUMBER_OPTION, FIELD(build_seconds), 1, 86400},
    {"build-runs", "N", "of those, how often a block ran that is built from a profile (default 500)", NUMBER_OPTION, FIELD(build_runs), 1, 1000000000},
    {"latency", NULL, "measure how long a loop that is new runs before its compiled code does (wants an idle second core)", FLAG_ON, FIELD(with_latency)},
    {"compiler-load", NULL, "measure what a busy guest loses to a compiler that never rests (wants two cores)", FLAG_ON, FIELD(with_load)},
    {"kvm", NULL, "measure the ways to devices on the host's KVM, against QEMU's, and changes between KVM and tcg", FLAG_ON, FIELD(with_kvm)},
    {"all", NULL, "all but --kvm", ALL_OPTION, 0},
    {"format", "NAME", "text, json or html (default text)", FORMAT_OPTION, 0},
    {"compare", "FILE", "print the JSON of a former run beside this one", TEXT_OPTION, FIELD(compare)},
    {"o", "FILE", "write the report there (default: standard output)", TEXT_OPTION, FIELD(output)},
    {"help", NULL, "this text", HELP_OPTION, 0},
};
enum { OPTIONS = sizeof options / sizeof *options };

static void help(void)
{
    printf("usage: tierce-bench [options]\nRuns benchmark programs natively, in the tiers of tierce and under QEMU, by turns, and "
           "prints how they compare.\n");
    for (unsigned i = 0; i < OPTIONS; i++)
        printf("  --%-14s %-6s %s\n", options[i].name, options[i].value ? options[i].value : "", options[i].help);
    printf("Exit status: 0 all ran and gave the right results, 1 something did not, 2 usage.\n");
}

static const struct option *find(const char *argument)
{
    const char *name = argument + (argument[0] == '-') + (argument[0] == '-' && argument[1] == '-');
    if (!strcmp(argument, "-h"))
        name = "help";
    for (unsigned i = 0; name != argument && i < OPTIONS; i++)
        if (!strcmp(options[i].name, name))
            return &options[i];
    die(2, "unknown option %s; `tierce-bench --help` lists what is accepted", argument);
}

static unsigned number(const struct option *o, const char *text)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno || *end || end == text || *text == '-' || value < o->low || value > o->high)
        die(2, "--%s %s: accepted is a number from %u to %u", o->name, text, o->low, o->high);
    return (unsigned)value;
}

static void set(struct bench *b, const struct option *o, const char *value)
{
    char *field = (char *)b + o->field;
    switch (o->kind) {
    case TEXT_OPTION: *(const char **)(void *)field = value; break;
    case NUMBER_OPTION: *(unsigned *)(void *)field = number(o, value); break;
    case FLAG_ON: *(bool *)field = true; break;
    case FLAG_OFF: *(bool *)field = false; break;
    case ALL_OPTION: b->with_programs = b->with_boot = b->with_memory = b->with_state = b->with_translate = b->with_cache = b->with_cache_boot = b->with_cache_programs = b->with_latency = b->with_load = true; break;
    case FORMAT_OPTION:
        if (strcmp(value, "text") && strcmp(value, "json") && strcmp(value, "html"))
            die(2, "--format %s: accepted are text, json, html", value);
        b->format = *value == 't' ? TEXT : *value == 'j' ? JSON : HTML;
        break;
    case HELP_OPTION:
        help();
        exit(0);
    }
}

/* Each element of a comma list must be one of `accepted`. */
static void check_tiers(const char *list)
{
    for (const char *p = list; *p;) {
        size_t n = strcspn(p, ",");
        static const char *const accepted[] = {"tiered", "tcg", "llvm", "interp"};
        bool known = !strcmp(list, "none");
        for (size_t k = 0; k < sizeof accepted / sizeof *accepted; k++)
            known |= strlen(accepted[k]) == n && !strncmp(p, accepted[k], n);
        if (!known)
            die(2, "--tiers %s: accepted are tiered, tcg, llvm and interp, with commas between, or none", list);
        p += n + (p[n] == ',');
    }
}

void options_parse(struct bench *b, int argc, char **argv)
{
    b->rounds = 3, b->budget_ms = 150, b->memory_mib = 512, b->timeout_s = 120, b->build_seconds = 120, b->build_runs = 500;
    b->tiers = "tiered", b->kernel = "auto", b->native = true;
    for (int i = 1; i < argc; i++) {
        const struct option *o = find(argv[i]);
        const char *value = o->value || o->kind == FORMAT_OPTION ? argv[++i] : NULL;
        if (o->value && i >= argc)
            die(2, "--%s needs a value: %s", o->name, o->help);
        set(b, o, value);
    }
    check_tiers(b->tiers);
    if (b->compare && b->format != TEXT)
        die(2, "--compare goes with --format text");
    if (b->with_kvm && b->format != TEXT)
        die(2, "--kvm goes with --format text");
    if (!b->with_kvm && !measures_guests(b) && !b->with_cache)
        b->with_programs = true;
    if ((b->with_cache_boot || b->with_cache_programs) && !strcmp(b->tiers, "none"))
        die(2, "--cache-boot and --cache-programs measure tierce: --tiers none does not go with them");
}
