/* The guest side of tierce-bench: runs one benchmark program after another as the host asks for them on the console,
 * natively and in every guest alike.
 *   --list           prints `group name` of each program
 *   --exit           ends at once (system_exec starts this)
 *   otherwise        prints BENCH-READY and obeys lines on standard input: `run NAME MILLISECONDS`, `latency`, `quit`
 * `run` prints, before and after the work, so that the host can compare its clock with ours,
 *   BENCH-START name
 *   BENCH-DONE name elapsed-ns units median-ns best-ns total-ns result wrong instructions-per-unit
 * `latency` prints BENCH-LATENCY ns slow-ns fast-ns (latency.c).
 * As process 1 it is /init of a guest, and `quit` switches the guest off. */
#define _GNU_SOURCE
#include "bench.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/reboot.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

const char *bench_self = "/init";

#define PROGRAM(group, name, expected) uint64_t group##_##name(void);
#define TRANSLATE(name, expected) uint64_t translate_##name(void);
#include "programs.def"

static const struct program programs[] = {
#define PROGRAM(group, name, expected) {#group, #group "_" #name, expected, group##_##name, NULL, NULL},
#define TRANSLATE(name, expected) \
    {"translate", "translate_" #name, expected, translate_##name, translate_prepare_##name, translate_instructions},
#include "programs.def"
};
enum { PROGRAMS = sizeof programs / sizeof *programs, MAX_UNITS = 4000, MIN_UNITS = 3 };

struct result { uint64_t total, check, wrong; size_t units; uint64_t time[MAX_UNITS]; };

static uint64_t run_unit(const struct program *p, struct result *r)
{
    if (p->prepare)
        p->prepare();
    uint64_t start = now_ns(), check = p->run(), took = now_ns() - start;
    r->check = check;
    r->wrong += check != p->expected;
    return took;
}

/* At least three units and the time asked for; but where three units would take long, one is enough, as it is for no time. */
static void measure(const struct program *p, uint64_t budget, struct result *r)
{
    for (uint64_t warm = 0; warm < budget / 4;)
        warm += run_unit(p, r) + 1;
    while (!r->units || (r->units < MAX_UNITS && (r->total < budget || (r->units < MIN_UNITS && r->total < 10 * budget)))) {
        r->time[r->units] = run_unit(p, r);
        r->total += r->time[r->units++];
    }
    qsort(r->time, r->units, sizeof *r->time, ascending);
}

static void run(const char *name, uint64_t budget)
{
    static struct result r;
    for (size_t i = 0; i < PROGRAMS; i++) {
        const struct program *p = &programs[i];
        if (strcmp(p->name, name))
            continue;
        memset(&r, 0, sizeof r);
        printf("BENCH-START %s\n", name);
        uint64_t start = now_ns();
        measure(p, budget, &r);
        printf("BENCH-DONE %s %" PRIu64 " %zu %" PRIu64 " %" PRIu64 " %" PRIu64 " %016" PRIx64 " %" PRIu64 " %" PRIu64 "\n", name,
               now_ns() - start, r.units, r.time[r.units / 2], r.time[0], r.total, r.check, r.wrong,
               p->instructions ? p->instructions() : 0);
        return;
    }
    printf("BENCH-UNKNOWN %s\n", name);
}

static void latency(void)
{
    uint64_t slow, fast, ns = latency_measure(&slow, &fast);
    printf("BENCH-LATENCY %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", ns, slow, fast);
}

static void obey(void)
{
    char line[128], name[64];
    unsigned budget;
    printf("BENCH-READY\n");
    while (fgets(line, sizeof line, stdin) && strncmp(line, "quit", 4))
        if (sscanf(line, "run %63s %u", name, &budget) == 2)
            run(name, (uint64_t)budget * 1000000u);
        else if (!strncmp(line, "latency", 7))
            latency();
    printf("BENCH-END\n");
}

static void set_raw(void)
{
    struct termios t;
    if (tcgetattr(0, &t))
        return;
    t.c_lflag &= ~(tcflag_t)ECHO;
    tcsetattr(0, TCSANOW, &t);
}

int main(int argc, char **argv)
{
    static char self[4096];
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1 && !strcmp(argv[1], "--exit"))
        return 0;
    if (argc > 1 && !strcmp(argv[1], "--list")) {
        for (size_t i = 0; i < PROGRAMS; i++)
            printf("%s %s\n", programs[i].group, programs[i].name);
        return 0;
    }
    if (getpid() != 1 && readlink("/proc/self/exe", self, sizeof self - 1) > 0)
        bench_self = self;
    if (getpid() == 1)
        set_raw();
    obey();
    if (getpid() == 1)
        reboot(RB_POWER_OFF);
    return 0;
}
