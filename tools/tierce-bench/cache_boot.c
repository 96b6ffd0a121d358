/* --cache-boot and --cache-programs: guests that run with a translation cache.  A first boot records and leaves a cache; tierce-cache builds others from its
 * profile and from the kernel's files.  Each measured boot gets a copy of its own, which lies in the page cache unless it is to come from the disk, so that
 * no boot finds what another measured one added.  All ways are boots of the same guest by turns, a round after the other. */
#define _GNU_SOURCE
#include "tools/tierce-bench/json.h"
#include "tools/tierce-bench/measure.h"
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOTHING ""            /* an empty cache */
#define FIRST   "first"       /* what a first boot left */
#define BUILT   "built"       /* and what was built of its profile */
#define STATIC  "static"      /* built of the kernel's and the initramfs's files */
#define COUNTED "counted"     /* as BUILT, with instructions counted */
enum { MIB = 1024 /* of guests with a compiler in their initramfs, at least */, LONG_LINE = 1 << 16 };

/* One way to boot. */
struct way { const char *name; enum kind kind; const char *tier, *cache /* what it is a copy of; NULL: off */; bool boots_only, from_disk, preload; };
static const struct way ways[] = {
    {"qemu", QEMU, NULL, NULL, false, false, false},
    {"tcg", TIERCE, "--tier=tcg", NULL, false, false, false},
    {"cold", TIERCE, "--tier=tiered", NOTHING, false, false, false},
    {"second boot", TIERCE, "--tier=tiered", FIRST, false, false, false},
    {"warm", TIERCE, "--tier=tiered", BUILT, false, false, false},
    {"static", TIERCE, "--tier=tiered", STATIC, true, false, false},
    {"warm, disk", TIERCE, "--tier=tiered", BUILT, true, true, false},
    {"warm, preload", TIERCE, "--tier=tiered", BUILT, true, true, true},
};
enum { WAYS = sizeof ways / sizeof *ways, COLD = 2 };
_Static_assert((int)WAYS <= (int)GRID_ROWS, "a row each");

/* A guest: its initramfs, and a directory of its name for its caches. */
struct place { const char *name, *initrd, *speed, *regions; bool large; };

/* What is run at the shell; its marks are put together by the shell, so that the echo of what is typed has none. */
static const struct brief { const char *guest, *name, *before, *command; } briefs[] = {
    {"gcc", "gcc", "printf '%s\\n' '#include <stdio.h>' 'int main(void) { return puts(\"hello\") < 0; }' > /tmp/h.c", "gcc -O2 -o /tmp/h /tmp/h.c && /tmp/h"},
    {"debian", "python3", ":", "python3 -c 'print(1)'"},
    {"gcc", "200 forks", ":", "i=0; while [ $i -lt 200 ]; do /bin/busybox true || break; i=$((i + 1)); done; [ $i = 200 ]"},
};
enum { BRIEFS = sizeof briefs / sizeof *briefs };
_Static_assert((int)BRIEFS <= (int)GRID_COLUMNS, "a column each");

static double number_of(const char *text, const char *name)
{
    size_t at;
    struct json *j = json_parse(text, &at);
    const struct json *m = json_member(j, name);
    double value = m && m->type == JSON_NUMBER ? m->number : NAN;
    json_free(j);
    return value;
}

static void path_of(struct bench *b, const struct place *p, const char *cache, char path[640])
{
    snprintf(path, 640, "%s/%s%s%s", scratch(b), p->name, cache ? "/" : "", cache ? cache : "");
}

static void must_run(const char *const argv[])
{
    if (!run_command(argv, NULL, 0))
        die(1, "%s %s %s failed", argv[0], argv[1], argv[2]);
}

/* --- The host's page cache */
struct pages { size_t all, resident; };
static struct pages pages_seen; /* nftw has no argument to hand on */

static int drop_file(const char *path, const struct stat *s, int kind, struct FTW *f)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), count = ((size_t)s->st_size + page - 1) / page;
    int fd = kind == FTW_F && s->st_size ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    unsigned char *in = calloc(count + 1, 1);
    (void)f;
    if (fd >= 0 && in) {
        fsync(fd); /* dirty pages stay */
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        void *map = mmap(NULL, (size_t)s->st_size, PROT_READ, MAP_SHARED, fd, 0);
        bool known = map != MAP_FAILED && !mincore(map, (size_t)s->st_size, in);
        for (size_t n = 0; n < count; n++)
            pages_seen.resident += !known || in[n] & 1;
        pages_seen.all += count;
        if (map != MAP_FAILED)
            munmap(map, (size_t)s->st_size);
    }
    if (fd >= 0)
        close(fd);
    free(in);
    return 0;
}

/* The files' pages go; where that cannot be had (a tmpfs, say) all pages of the host, which only root may ask for. */
static bool drop_pages(const char *path)
{
    for (unsigned n = 0; n < 2; n++) {
        pages_seen = (struct pages){0, 0};
        nftw(path, drop_file, 16, FTW_PHYS);
        if (pages_seen.resident * 100 <= pages_seen.all)
            return true;
        FILE *all = fopen("/proc/sys/vm/drop_caches", "w");
        if (all) {
            fputs("1\n", all);
            fclose(all);
        }
    }
    complain("%s: %zu of %zu pages stay in the page cache: nothing is read from the disk; accepted is a TMPDIR on a disk", path, pages_seen.resident, pages_seen.all);
    return false;
}

/* --- Booting */
static struct subject subject_of(const struct bench *b, const struct way *w)
{
    struct subject s = {.kind = w->kind, .program = {b->tierce_path, w->tier}};
    int qemu = subject_of_kind(b, QEMU);
    if (w->kind == QEMU)
        s = b->subjects[qemu];
    snprintf(s.name, sizeof s.name, "%s", w->name);
    return s;
}

static bool is_there(const struct bench *b, const struct way *w) { return w->kind != QEMU || subject_of_kind(b, QEMU) >= 0; }

/* To the shell, with this cache (NULL: none). */
static bool start_cached(struct bench *b, const struct place *p, const struct way *w, const char *cache, struct session *s)
{
    struct subject who = subject_of(b, w);
    char option[700];
    const char *more[5] = {NULL};
    unsigned n = 0;
    snprintf(option, sizeof option, "--cache=%s", cache ? cache : "off");
    if (p->large && b->memory_mib < MIB)
        more[n++] = "-m", more[n++] = "1024";
    if (w->kind == TIERCE)
        more[n++] = option;
    if (w->preload)
        more[n++] = "--cache-preload";
    return start_guest(b, &who, p->initrd, more, s);
}

/* To the shell, with a copy of its cache. */
static bool start_way(struct bench *b, const struct place *p, const struct way *w, struct session *s)
{
    char from[640], to[640];
    if (!w->cache)
        return start_cached(b, p, w, NULL, s);
    path_of(b, p, w->cache, from);
    path_of(b, p, "copy", to);
    must_run((const char *const[]){"rm", "-rf", to, NULL});
    if (*w->cache)
        must_run((const char *const[]){"cp", "-a", from, to, NULL});
    return (!w->from_disk || drop_pages(to)) && start_cached(b, p, w, to, s);
}

/* CPU time in seconds, or NAN: it was told. */
static double power_off(struct bench *b, const struct way *w, struct session *s)
{
    session_send(s, "poweroff -f\n");
    int status = session_finish(s, b->timeout_s, NULL, 0);
    if (!status)
        return s->cpu;
    complain("%s: power-off did not end it within %u s, or not well; its last line: %s", w->name, b->timeout_s, s->last);
    b->failures += w->kind != QEMU;
    return NAN;
}

/* --- Brief programs */
static bool run_brief(struct bench *b, const struct way *w, const struct brief *p, struct session *s, double *seconds)
{
    struct subject who = subject_of(b, w);
    char text[600], line[64] = "";
    *seconds = NAN;
    snprintf(text, sizeof text, "%s; echo BRIEF-''BEGIN; %s; echo BRIEF-''END $?\n", p->before, p->command);
    session_send(s, text);
    enum session_result r = session_expect(s, "BRIEF-BEGIN", b->timeout_s);
    double begin = now_ns();
    if (r == SESSION_OK)
        r = session_line(s, "BRIEF-END", b->timeout_s, line, sizeof line);
    double took = (now_ns() - begin) / 1e9;
    if (r == SESSION_OK)
        r = session_expect(s, "/ # ", b->timeout_s);
    if (r != SESSION_OK) {
        failed(b, &who, s, p->name, r);
        return false;
    }
    if (strncmp(line, "BRIEF-END 0", 11)) {
        complain("%s: %s ended with status %s", w->name, p->name, line + 9);
        b->failures += w->kind != QEMU;
    } else
        *seconds = took;
    return true;
}

/* All programs of a guest, one after the other.  False: the guest is gone. */
static bool run_briefs(struct bench *b, const struct place *p, const struct way *w, struct session *s)
{
    double ignored;
    for (unsigned n = 0; n < BRIEFS; n++)
        if (!strcmp(briefs[n].guest, p->name) && !run_brief(b, w, &briefs[n], s, &ignored))
            return false;
    return true;
}

/* --- What was recorded is built */
static void build(struct bench *b, const struct place *p, const char *cache, const char *const *what, const char *speed, const char *regions)
{
    char path[640], seconds[16], *said = malloc(LONG_LINE);
    const char *argv[MAX_ARGUMENTS] = {b->cache_path, "build", "--cache", path, "--seconds", seconds, "--quiet", "--json"};
    unsigned n = 8;
    if (!said)
        die(1, "out of memory");
    while (*what)
        argv[n++] = *what++;
    path_of(b, p, cache, path);
    snprintf(seconds, sizeof seconds, "%u", b->build_seconds);
    progress("%s: building for %s s at most", cache, seconds);
    if (!run_command(argv, said, LONG_LINE))
        die(1, "%s build --cache %s: it failed", b->cache_path, path);
    if (speed) {
        cache_row_add(b, speed, "guest MB/core-minute", NAN, number_of(said, "guest_mb_per_core_minute"));
        cache_row_add(b, regions, "regions", NAN, number_of(said, "compiled"));
    }
    free(said);
}

static void build_profile(struct bench *b, const struct place *p, const char *cache, const char *speed, const char *regions)
{
    char runs[16];
    snprintf(runs, sizeof runs, "%u", b->build_runs);
    build(b, p, cache, (const char *const[]){"--runs", runs, NULL}, speed, regions);
}

/* A first boot, in which the programs run, and what is built of what it left. */
static bool prepare(struct bench *b, const struct place *p, struct session *s)
{
    char first[640], built[640];
    path_of(b, p, NULL, first);
    if (mkdir(first, 0700))
        die(1, "%s: %s", first, strerror(errno));
    path_of(b, p, FIRST, first);
    path_of(b, p, BUILT, built);
    progress("%s: a first boot", p->name);
    if (!start_cached(b, p, &ways[COLD], first, s) || !run_briefs(b, p, &ways[COLD], s) || isnan(power_off(b, &ways[COLD], s)))
        return false;
    must_run((const char *const[]){"cp", "-a", first, built, NULL});
    build_profile(b, p, BUILT, p->speed, p->regions);
    return true;
}

/* --- The share of instructions: of runs that count them, which have objects and profiles of their own, to power-off. */
static double counted_boot(struct bench *b, const struct place *p, double *cached)
{
    struct way w = ways[COLD];
    struct subject who = subject_of(b, &w);
    struct session *s = calloc(1, sizeof *s);
    struct command c;
    char path[640], option[700], stats[8192] = "";
    path_of(b, p, COUNTED, path);
    snprintf(option, sizeof option, "--cache=%s", path);
    command_guest(b, &who, p->initrd, (const char *const[]){"-append", KERNEL_OPTIONS " RUN=\"poweroff -f\"", "--icount", "--stats=json", option, NULL}, &c);
    if (!s || !session_start(s, c.argv))
        die(1, "cannot start a process for a counted boot");
    int status = session_finish(s, b->timeout_s, stats, sizeof stats);
    double all = number_of(stats, "insns");
    *cached = number_of(stats, "cache_run");
    if (status || isnan(all)) {
        complain("a counted boot did not end well within %u s; its last line: %s", b->timeout_s, s->last);
        b->failures++;
    }
    free(s);
    return status ? NAN : all;
}

static void measure_share(struct bench *b, const struct place *p)
{
    double cached;
    progress("counting instructions");
    if (isnan(counted_boot(b, p, &cached)))
        return;
    build_profile(b, p, COUNTED, NULL, NULL);
    double all = counted_boot(b, p, &cached);
    cache_row_add(b, "instructions of a counted warm boot", "million", NAN, all / 1e6);
    cache_row_add(b, "of these in cached regions", "%", NAN, 100 * cached / all);
}

/* --- The tables */
static struct grid *grid_new(struct bench *b, const char *title, const char *const *columns, unsigned column_count, const char *base, bool boots)
{
    struct grid *g = &b->grids[b->grid_count++];
    g->title = title;
    for (g->column_count = 0; g->column_count < column_count; g->column_count++)
        g->columns[g->column_count] = columns[g->column_count];
    for (unsigned w = 0; w < WAYS; w++)
        if (is_there(b, &ways[w]) && (boots || !ways[w].boots_only)) {
            g->base = strcmp(ways[w].name, base) ? g->base : g->row_count;
            g->rows[g->row_count++] = ways[w].name;
        }
    for (unsigned r = 0; r < GRID_ROWS; r++)
        for (unsigned c = 0; c < GRID_COLUMNS; c++)
            for (unsigned n = 0; n < MAX_ROUNDS; n++)
                g->values[r][c][n] = NAN;
    return g;
}

static const struct way *way_of(const struct grid *g, unsigned row)
{
    unsigned w = 0;
    while (strcmp(ways[w].name, g->rows[row]))
        w++;
    return &ways[w];
}

void measure_cache_boot(struct bench *b)
{
    const struct place p = {"boot", b->shell_initrd, "built from a boot's profile", "regions from a boot's profile", false};
    struct session *s = calloc(1, sizeof *s);
    if (!s || !prepare(b, &p, s)) {
        free(s);
        return;
    }
    build(b, &p, STATIC, (const char *const[]){b->kernel_path, "--initrd", b->shell_initrd, NULL}, "built from the kernel's files", "regions from the kernel's files");
    measure_share(b, &p);
    static const char *const columns[] = {"to the shell", "CPU time to the end"};
    struct grid *g = grid_new(b, "Boots with a translation cache, seconds", columns, 2, subject_of_kind(b, QEMU) < 0 ? "cold" : "qemu", true);
    for (unsigned round = 0; round < b->rounds; round++) {
        for (unsigned i = 0; i < g->row_count; i++) {
            unsigned row = (i + round) % g->row_count;
            const struct way *w = way_of(g, row);
            progress("cache: boot %u of %u: %s", round + 1, b->rounds, w->name);
            if (!start_way(b, &p, w, s))
                continue;
            g->values[row][0][round] = (now_ns() - s->started) / 1e9;
            g->values[row][1][round] = power_off(b, w, s);
        }
        g->rounds = round + 1;
    }
    free(s);
}

/* Each program in a guest that has just booted: in one that has run another, much of what it needs would be translated, cold cache or not. */
static void measure_brief(struct bench *b, const struct place *p, const struct way *w, const struct brief *brief, struct session *s, double *seconds)
{
    if (start_way(b, p, w, s) && run_brief(b, w, brief, s, seconds))
        power_off(b, w, s);
}

void measure_cache_programs(struct bench *b)
{
    const struct place places[] = {{"gcc", b->gcc_initrd, "built from gcc's profile", "regions from gcc's profile", true},
                                   {"debian", b->debian_initrd, "built from python3's profile", "regions from python3's profile", true}};
    enum { PLACES = sizeof places / sizeof *places };
    const char *columns[BRIEFS];
    struct session *s = calloc(1, sizeof *s);
    bool ready[PLACES];
    for (unsigned n = 0; n < BRIEFS; n++)
        columns[n] = briefs[n].name;
    for (unsigned n = 0; s && n < PLACES; n++)
        ready[n] = prepare(b, &places[n], s);
    struct grid *g = grid_new(b, "Brief programs in a guest that has just booted, seconds by its console", columns, BRIEFS, "cold", false);
    for (unsigned round = 0; s && round < b->rounds; round++) {
        for (unsigned i = 0; i < g->row_count * BRIEFS; i++) {
            unsigned n = i / g->row_count, row = (i + round) % g->row_count, place = 0;
            const struct way *w = way_of(g, row);
            while (strcmp(briefs[n].guest, places[place].name))
                place++;
            progress("cache: programs, round %u of %u: %s, %s", round + 1, b->rounds, briefs[n].name, w->name);
            if (ready[place])
                measure_brief(b, &places[place], w, &briefs[n], s, &g->values[row][n][round]);
        }
        g->rounds = round + 1;
    }
    free(s);
}
