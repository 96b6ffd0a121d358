/* What the parts of tierce-bench share: the subjects that are measured, the programs that they run, what came of it.
 * All times are nanoseconds as double. */
#pragma once
#include "tools/tierce-bench/stats.h"
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

struct json;
enum { MAX_SUBJECTS = 6, MAX_PROGRAMS = 160, MAX_ROUNDS = 50, MAX_ARGUMENTS = 40, MAX_CACHE_ROWS = 32, GRID_ROWS = 8, GRID_COLUMNS = 3, MAX_GRIDS = 2,
       LATENCIES = 5 /* new loops a round */ };

enum outcome { NOT_RUN, GOOD, WRONG, ENDED, TIMED_OUT };

/* One program, run once by one subject. */
struct sample {
    enum outcome outcome;
    double unit, best;       /* of a unit of work, by the subject's own clock: median and best */
    double elapsed, host;    /* of all of it: by the subject's clock, and by ours */
    double instructions;     /* in a unit, or 0 */
    unsigned units;
    bool drift;              /* its clock did not agree with ours: `unit` and `best` are corrected by ours */
    char result[20];
};

enum kind { NATIVE, TIERCE, QEMU };
struct subject {
    enum kind kind;
    char name[16], version[96];
    const char *program[4];  /* what to start, before the options of the machine */
};

struct program { char group[24], name[48]; };

/* A figure of --cache or --cache-boot, one value a round; wanted: NaN, or what it may be at most. */
struct cache_row { const char *name, *unit; double values[MAX_ROUNDS], wanted; unsigned count; };

/* A table of --cache-boot: who did it down, what was measured across; all in seconds, compared with what one row took in the same round. */
struct grid {
    const char *title, *columns[GRID_COLUMNS], *rows[GRID_ROWS];
    unsigned column_count, row_count, base;
    double values[GRID_ROWS][GRID_COLUMNS][MAX_ROUNDS];
    unsigned rounds;
};

struct memory { double ram, rest; };  /* MiB resident: of guest RAM, of all else */

struct saved { double save_ms, load_ms, start_ms /* to the guest's answer */, file, not_zero, touched; /* MiB: file, RAM in it, RAM resident */ };

struct bench {
    /* what was asked for */
    const char *kernel, *tierce, *qemu, *output, *only, *tiers, *compare;
    unsigned rounds, budget_ms, memory_mib, timeout_s, build_seconds, build_runs;
    bool native, with_programs, with_boot, with_memory, with_state, with_translate, with_cache, with_cache_boot, with_cache_programs, with_latency, with_load, with_kvm, by_best;
    enum { TEXT, JSON, HTML } format;
    struct json *old;        /* of --compare */
    /* what was found */
    char guest[4096], linux_sh[4096], initrd[64], shell_initrd[4096], kernel_path[4096], tierce_path[4096], scratch[512];
    char cache_path[4096], gcc_initrd[4096], debian_initrd[4096]; /* of --cache-boot, --cache-programs; cache_path is that of tierce-cache */
    char host_cpu[128], host_kernel[160], date[40];
    long host_cpus, host_mib;
    struct subject subjects[MAX_SUBJECTS];
    unsigned subject_count;
    struct program programs[MAX_PROGRAMS];
    unsigned program_count;
    /* what was measured */
    struct sample samples[MAX_PROGRAMS][MAX_SUBJECTS][MAX_ROUNDS];
    double ready[MAX_SUBJECTS][MAX_ROUNDS], shell[MAX_SUBJECTS][MAX_ROUNDS], off[MAX_SUBJECTS][MAX_ROUNDS];
    struct saved saved[MAX_SUBJECTS][MAX_ROUNDS];
    struct memory after_boot[MAX_SUBJECTS], after_programs[MAX_SUBJECTS];
    double latency[MAX_SUBJECTS][MAX_ROUNDS * LATENCIES], loss[MAX_SUBJECTS][MAX_ROUNDS]; /* ns until a new loop is fast; percent */
    unsigned latencies_done, losses_done; /* rounds */
    char stages[MAX_SUBJECTS][8192]; /* what --stats=json said of the translation programs */
    struct cache_row cache_rows[MAX_CACHE_ROWS];
    unsigned cache_row_count;
    struct grid grids[MAX_GRIDS];
    unsigned grid_count;
    unsigned rounds_done, boots_done, states_done, failures;
};

/* Whether anything is asked for that the reports tell of and that guests run for. */
static inline bool measures_guests(const struct bench *b)
{
    return b->with_programs || b->with_boot || b->with_memory || b->with_state || b->with_translate || b->with_cache_boot || b->with_cache_programs ||
           b->with_latency || b->with_load;
}

/* Prints one line to standard error and ends with `status`. */
__attribute__((format(printf, 2, 3), noreturn)) void die(int status, const char *format, ...);
/* Prints a line to standard error, clear of the progress line. */
__attribute__((format(printf, 1, 2))) void complain(const char *format, ...);
/* Shows what is going on, where standard error is a terminal. */
__attribute__((format(printf, 1, 2))) void progress(const char *format, ...);
double now_ns(void);

/* options.c: what the command line says; ends the process where it is wrong. */
void options_parse(struct bench *b, int argc, char **argv);

/* find.c: finds programs, kernels and versions, and makes the initramfs. */
void find_all(struct bench *b);
/* Runs a command, whose words are given apart: no shell reads them.  True: it ended with status 0; `line`, if not NULL, has the first line that it
 * printed, or is "". */
bool run_command(const char *const argv[], char *line, size_t size);

/* scratch.c: a private directory for what a run leaves behind; it goes with the process. */
const char *scratch(struct bench *b);

/* measure.c: the measurements, each interleaved over all subjects. */
void measure_programs(struct bench *b);
void measure_boot(struct bench *b);
void measure_memory(struct bench *b);
void measure_stages(struct bench *b);
/* cache.c */
void measure_cache(struct bench *b);
void cache_row_add(struct bench *b, const char *name, const char *unit, double wanted, double value);
/* cache_boot.c */
void measure_cache_boot(struct bench *b);
void measure_cache_programs(struct bench *b);
/* state.c */
void measure_state(struct bench *b);
void measure_latency(struct bench *b);
void measure_load(struct bench *b);

/* kvm.c: measures, and says at once what came of it. */
void measure_kvm(struct bench *b, FILE *out);

/* summary.c: figures over the rounds. */
int subject_of_kind(const struct bench *b, enum kind kind); /* -1: none */
bool in_groups(const char *group, const char *groups);      /* whether the comma list names it, or is "" */
struct figures unit_figures(const struct bench *b, unsigned program, unsigned subject);
/* How many times longer `subject` takes than `base`; taken within each round, then over the rounds. */
struct figures ratio_figures(const struct bench *b, unsigned program, unsigned subject, unsigned base);
/* The geometric mean of that over the programs of some groups. */
struct figures group_figures(const struct bench *b, const char *groups, unsigned subject, unsigned base);
/* The time that a subject's clock said for the programs of a round, as a part of what ours said. */
struct figures clock_figures(const struct bench *b, unsigned subject);
/* Nanoseconds an executed guest instruction, of a program that counts them. */
struct figures instruction_figures(const struct bench *b, const char *program, unsigned subject);
/* Times of boots in seconds: to the shell, or to the end of poweroff. */
enum boot_end { TO_SHELL, TO_POWEROFF };
struct figures boot_figures(const struct bench *b, unsigned subject, enum boot_end end);
struct figures saved_figures(const struct bench *b, unsigned subject, size_t field /* offset in struct saved */);
/* Milliseconds until a loop that is new runs in code that was compiled for it; percent of a busy guest's speed that a compiler which never
 * rests takes. */
struct figures latency_figures(const struct bench *b, unsigned subject);
struct figures loss_figures(const struct bench *b, unsigned subject);
/* Seconds of a row, and how many times as long as the base's they are. */
struct figures grid_figures(const struct grid *g, unsigned row, unsigned column);
struct figures grid_ratios(const struct grid *g, unsigned row, unsigned column);
/* What the first tier of tierce must hold against QEMU, as far as it was measured; returns how many. */
enum { MAX_GOALS = 8 };
struct goal { const char *label, *unit; struct figures got; double wanted; bool reached; };
unsigned goals_of(const struct bench *b, struct goal goals[MAX_GOALS]);
extern const char *const outcome_names[];

/* report_*.c: three ways to say it. */
void report_text(const struct bench *b, FILE *out);
void report_json(const struct bench *b, FILE *out);
void report_html(const struct bench *b, FILE *out);
/* compare.c: a former run's JSON beside this one.  Loading ends the process where that is not what it should be. */
struct json *compare_load(const char *path);
void compare_text(const struct bench *b, const struct json *old, FILE *out);
