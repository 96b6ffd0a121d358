/* --stats: where the time of a run went, from stats.def. */
#include "runtime/internal.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* --- Helpers, timed: the same table with a function in front of each. */
enum {
#define HELPER(name, ...) HELPER_##name,
#include "frontend/helpers.def"
    HELPER_COUNT
};
static uint64_t timed(unsigned helper, void *state, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    struct vcpu *v = vcpu_of_state(state);
    enum stats_clock before = stats_enter(v, STATS_helpers);
    uint64_t result = x86_guest.helpers[helper].fn(state, a, b, c, d);
    stats_enter(v, before);
    return result;
}
#define HELPER(name, ...) \
    static uint64_t timed_##name(void *state, uint64_t a, uint64_t b, uint64_t c, uint64_t d) \
    { \
        return timed(HELPER_##name, state, a, b, c, d); \
    }
#include "frontend/helpers.def"

bool stats_begin(struct vcpu *v)
{
    static ir_helper_fn *const fns[] = {
#define HELPER(name, ...) timed_##name,
#include "frontend/helpers.def"
    };
    v->guest = x86_guest;
    v->measuring = v->machine->config.stats;
    v->booked = STATS_dispatch;
    if (!v->measuring)
        return true;
    v->timed_helpers = malloc(sizeof *v->timed_helpers * HELPER_COUNT);
    if (!v->timed_helpers)
        return false;
    for (unsigned i = 0; i < HELPER_COUNT; i++) {
        v->timed_helpers[i] = x86_guest.helpers[i];
        v->timed_helpers[i].fn = fns[i];
    }
    v->guest.helpers = v->timed_helpers;
    return region_stats_begin(v);
}

void stats_free(struct vcpu *v)
{
    region_stats_end(v);
    for (unsigned n = 0; n < SPREADS; n++)
        free(v->spreads[n].of);
    free(v->timed_helpers);
}

void stats_value(struct vcpu *v, enum stats_spread which, double value)
{
    struct stats_values *s = &v->spreads[which];
    if (!v->measuring)
        return;
    if (s->count == s->room) {
        size_t room = s->room ? 2 * s->room : 64;
        double *of = realloc(s->of, room * sizeof *of);
        if (!of)
            return;
        s->of = of;
        s->room = room;
    }
    s->of[s->count++] = value;
}

void stats_thread_begin(struct vcpu *v)
{
    v->started_ns = machine_host_ns();
    v->started_cycles = v->booked_since = cycles();
}

void stats_thread_end(struct vcpu *v)
{
    stats_enter(v, STATS_dispatch);
    v->stats.total = cycles() - v->started_cycles;
    v->ran_ns = machine_host_ns() - v->started_ns;
}

/* --- Printing */
struct print { FILE *file; const char *separator; };

static void print_lacked_json(void *ctx, const char *name, uint32_t count)
{
    struct print *p = ctx;
    fprintf(p->file, "%s\"%s\":%" PRIu32, p->separator, name, count);
    p->separator = ",";
}

static void print_lacked(void *ctx, const char *name, uint32_t count)
{
    struct print *p = ctx;
    fprintf(p->file, "%s%-14s %12" PRIu32 "\n", p->separator, name, count);
    p->separator = "";
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

struct shape { size_t count; double least, median, most; };
static struct shape shape_of(struct stats_values *s)
{
    if (!s->count)
        return (struct shape){0};
    qsort(s->of, s->count, sizeof *s->of, ascending);
    return (struct shape){s->count, s->of[0], s->of[s->count / 2], s->of[s->count - 1]};
}

static void print_spread_json(FILE *f, const char *name, struct shape s)
{
    fprintf(f, "\"%s\":{\"count\":%zu,\"min\":%.3f,\"median\":%.3f,\"max\":%.3f},", name, s.count, s.least, s.median, s.most);
}

static void print_json(const struct stats *s, struct stats_values *spreads, double cycles_per_ms, FILE *f)
{
    fprintf(f, "{");
#define PRINT_cycles(name) fprintf(f, "\"%s_ms\":%.3f,", #name, (double)s->name / cycles_per_ms);
#define PRINT_count(name) fprintf(f, "\"%s\":%" PRIu64 ",", #name, s->name);
#define COUNTER(name, unit, meaning) PRINT_##unit(name)
#include "runtime/stats.def"
#undef PRINT_cycles
#undef PRINT_count
#define SPREAD(name, meaning) print_spread_json(f, #name, shape_of(&spreads[SPREAD_##name]));
#include "runtime/stats.def"
    struct print p = {f, ""};
    fprintf(f, "\"lacked\":{");
    x86_lacked(print_lacked_json, &p);
    fprintf(f, "}}\n");
}

static void print_spread(FILE *f, const char *name, struct shape s, const char *meaning)
{
    fprintf(f, "%-14s %12zu: min %.3f, median %.3f, max %.3f  %s\n", name, s.count, s.least, s.median, s.most, meaning);
}

static void print_text(const struct stats *s, struct stats_values *spreads, double cycles_per_ms, FILE *f)
{
#define PRINT_cycles(name, meaning) \
    fprintf(f, "%-14s %12.3f ms %5.1f %%  %s\n", #name, (double)s->name / cycles_per_ms, s->total ? 100.0 * (double)s->name / (double)s->total : 0, meaning);
#define PRINT_count(name, meaning) fprintf(f, "%-14s %12" PRIu64 "             %s\n", #name, s->name, meaning);
#define COUNTER(name, unit, meaning) PRINT_##unit(name, meaning)
#include "runtime/stats.def"
#undef PRINT_cycles
#undef PRINT_count
#define SPREAD(name, meaning) print_spread(f, #name, shape_of(&spreads[SPREAD_##name]), meaning);
#include "runtime/stats.def"
    struct print p = {f, "instructions that are lacking (lifted to #UD):\n"};
    x86_lacked(print_lacked, &p);
}

void machine_stats_print(struct machine *m, FILE *f, bool json)
{
    struct vcpu *v = m->vcpu;
    regions_count(v);
    v->stats.insns_tcg = machine_counts(m) ? v->stats.insns - v->stats.insns_interp - v->stats.region_run : 0;
    regions_break_even(v);
    double ms = (double)v->ran_ns / 1e6, cycles_per_ms = ms > 0 && v->stats.total ? (double)v->stats.total / ms : 1;
    (json ? print_json : print_text)(&v->stats, v->spreads, cycles_per_ms, f);
}
