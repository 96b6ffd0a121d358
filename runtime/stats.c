/* --stats: where the time of a run went, from stats.def. */
#include "runtime/internal.h"
#include <inttypes.h>
#include <string.h>

/* The host TSC's rate, from two clocks over the whole run. */
static double cycles_per_ms(const struct machine *m, const struct stats *s)
{
    double ms = (double)(machine_now((struct machine *)m)) / 1e6;
    return m->config.icount || ms <= 0 || !s->total ? 2e6 : (double)s->total / ms;
}

void machine_stats_print(struct machine *m, FILE *f, bool json)
{
    const struct stats *s = &m->vcpu->stats;
    double rate = cycles_per_ms(m, s);
    const char *separator = json ? "{" : "";
#define COUNTER(name, unit, meaning) \
    if (json && !strcmp(#unit, "cycles")) \
        fprintf(f, "%s\"%s_ms\":%.3f", separator, #name, (double)s->name / rate); \
    else if (json) \
        fprintf(f, "%s\"%s\":%" PRIu64, separator, #name, s->name); \
    else if (!strcmp(#unit, "cycles")) \
        fprintf(f, "%-14s %12.3f ms  %s\n", #name, (double)s->name / rate, meaning); \
    else \
        fprintf(f, "%-14s %12" PRIu64 "     %s\n", #name, s->name, meaning); \
    separator = json ? "," : "";
#include "runtime/stats.def"
    if (json)
        fprintf(f, "}\n");
    else
        x86_lacked_print(f);
}
