/* Figures over the rounds: ratios are taken within a round, because only there the host was the same for both. */
#include "tools/tierce-bench/bench.h"
#include <math.h>
#include <string.h>

const char *const outcome_names[] = {"not run", "good", "WRONG RESULT", "ENDED", "TIMED OUT"};

int subject_of_kind(const struct bench *b, enum kind kind)
{
    for (unsigned s = 0; s < b->subject_count; s++)
        if (b->subjects[s].kind == kind)
            return (int)s;
    return -1;
}

bool in_groups(const char *group, const char *groups)
{
    size_t length = strlen(group);
    for (const char *p = groups; *p;) {
        size_t n = strcspn(p, ",");
        if (n == length && !strncmp(p, group, n))
            return true;
        p += n + (p[n] == ',');
    }
    return !*groups;
}

static double unit(const struct bench *b, unsigned program, unsigned subject, unsigned round)
{
    const struct sample *m = &b->samples[program][subject][round];
    return m->outcome != GOOD || round >= b->rounds_done ? NAN : b->by_best ? m->best : m->unit;
}

struct figures unit_figures(const struct bench *b, unsigned program, unsigned subject)
{
    double v[MAX_ROUNDS];
    for (unsigned round = 0; round < b->rounds_done; round++)
        v[round] = unit(b, program, subject, round);
    return figures_of(v, b->rounds_done);
}

struct figures ratio_figures(const struct bench *b, unsigned program, unsigned subject, unsigned base)
{
    double v[MAX_ROUNDS];
    for (unsigned round = 0; round < b->rounds_done; round++)
        v[round] = unit(b, program, subject, round) / unit(b, program, base, round);
    return figures_of(v, b->rounds_done);
}

/* `translate` counts for its cold programs alone: the others run what is translated. */
static bool counts(const struct program *p, const char *groups)
{
    return in_groups(p->group, groups) && !(strstr(p->name, "_again") && !strcmp(p->group, "translate"));
}

struct figures group_figures(const struct bench *b, const char *groups, unsigned subject, unsigned base)
{
    double means[MAX_ROUNDS], v[MAX_PROGRAMS];
    for (unsigned round = 0; round < b->rounds_done; round++) {
        size_t n = 0;
        for (unsigned p = 0; p < b->program_count; p++)
            if (counts(&b->programs[p], groups))
                v[n++] = unit(b, p, subject, round) / unit(b, p, base, round);
        means[round] = geomean_of(v, n);
    }
    return figures_of(means, b->rounds_done);
}

struct figures clock_figures(const struct bench *b, unsigned subject)
{
    double v[MAX_ROUNDS];
    for (unsigned round = 0; round < b->rounds_done; round++) {
        double guest = 0, host = 0;
        for (unsigned p = 0; p < b->program_count; p++) {
            const struct sample *m = &b->samples[p][subject][round];
            guest += m->outcome == GOOD ? m->elapsed : 0;
            host += m->outcome == GOOD ? m->host : 0;
        }
        v[round] = guest / host;
    }
    return figures_of(v, b->rounds_done);
}

struct figures instruction_figures(const struct bench *b, const char *program, unsigned subject)
{
    double v[MAX_ROUNDS];
    size_t n = 0;
    for (unsigned p = 0; p < b->program_count; p++)
        for (unsigned round = 0; !strcmp(b->programs[p].name, program) && round < b->rounds_done; round++) {
            double instructions = b->samples[p][subject][round].instructions;
            v[n++] = instructions > 0 ? unit(b, p, subject, round) / instructions : NAN;
        }
    return figures_of(v, n);
}

struct figures boot_figures(const struct bench *b, unsigned subject, enum boot_end end)
{
    double v[MAX_ROUNDS];
    for (unsigned r = 0; r < b->boots_done; r++)
        v[r] = (end == TO_SHELL ? b->shell : b->off)[subject][r] / 1e9;
    return figures_of(v, b->boots_done);
}

struct figures saved_figures(const struct bench *b, unsigned subject, size_t field)
{
    double v[MAX_ROUNDS];
    for (unsigned r = 0; r < b->states_done; r++)
        memcpy(&v[r], (const char *)&b->saved[subject][r] + field, sizeof v[r]);
    return figures_of(v, b->states_done);
}

struct figures latency_figures(const struct bench *b, unsigned subject)
{
    double v[MAX_ROUNDS * LATENCIES];
    for (unsigned n = 0; n < b->latencies_done * LATENCIES; n++)
        v[n] = b->latency[subject][n] / 1e6;
    return figures_of(v, b->latencies_done * LATENCIES);
}

struct figures loss_figures(const struct bench *b, unsigned subject) { return figures_of(b->loss[subject], b->losses_done); }

struct figures grid_figures(const struct grid *g, unsigned row, unsigned column) { return figures_of(g->values[row][column], g->rounds); }

struct figures grid_ratios(const struct grid *g, unsigned row, unsigned column)
{
    double v[MAX_ROUNDS];
    for (unsigned r = 0; r < g->rounds; r++)
        v[r] = g->values[row][column][r] / g->values[g->base][column][r];
    return figures_of(v, g->rounds);
}

static struct figures boot_ratios(const struct bench *b, unsigned subject, unsigned base)
{
    double v[MAX_ROUNDS];
    for (unsigned r = 0; r < b->boots_done; r++)
        v[r] = b->off[subject][r] / b->off[base][r];
    return figures_of(v, b->boots_done);
}

/* How many times faster than QEMU's TCG each must be. */
static const struct { const char *label, *groups; double wanted; } speeds[] = {
    {"integer programs", "integer,branches,calls", 2},
    {"floating point and SIMD", "fp,simd,x87", 10},
    {"code that changes", "code", 5},
    {"translation", "translate", 1},
};
enum { SPEEDS = sizeof speeds / sizeof *speeds, MOST_MIB = 150, MOST_LATENCY_MS = 100, MOST_LOSS = 5 };

unsigned goals_of(const struct bench *b, struct goal goals[MAX_GOALS])
{
    int tierce = subject_of_kind(b, TIERCE), qemu = subject_of_kind(b, QEMU);
    unsigned n = 0;
    for (unsigned i = 0; tierce >= 0 && qemu >= 0 && i < SPEEDS; i++)
        goals[n++] = (struct goal){speeds[i].label, "times faster than QEMU",
                                   group_figures(b, speeds[i].groups, (unsigned)qemu, (unsigned)tierce), speeds[i].wanted, false};
    if (tierce >= 0 && qemu >= 0)
        goals[n++] = (struct goal){"boot to the end of poweroff", "times faster than QEMU", boot_ratios(b, (unsigned)qemu, (unsigned)tierce), 1, false};
    for (unsigned i = 0; i < n; i++)
        goals[i].reached = goals[i].got.median >= goals[i].wanted;
    if (tierce >= 0 && b->with_memory) {
        const double rest[] = {b->after_boot[tierce].rest, b->after_programs[tierce].rest};
        struct figures f = figures_of(rest, 2);
        goals[n++] = (struct goal){"memory beside guest RAM", "MiB at most", f, MOST_MIB, f.max < MOST_MIB};
    }
    struct figures latency = tierce >= 0 ? latency_figures(b, (unsigned)tierce) : (struct figures){0};
    struct figures loss = tierce >= 0 ? loss_figures(b, (unsigned)tierce) : (struct figures){0};
    goals[n++] = (struct goal){"a new loop runs in compiled code", "ms at most", latency, MOST_LATENCY_MS, latency.median < MOST_LATENCY_MS};
    goals[n++] = (struct goal){"lost to a busy compiler", "% at most", loss, MOST_LOSS, loss.median <= MOST_LOSS};
    unsigned kept = 0;
    for (unsigned i = 0; i < n; i++)
        if (goals[i].got.count)
            goals[kept++] = goals[i];
    return kept;
}
