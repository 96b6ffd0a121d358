/* --stats: what each region cost and what it gave.  A region has paid when the time that it saved is more than the CPU time of its
 * compilation; the number of entries by which it has is compile_ns / (saved_ns / entries).  Where instructions are counted (--icount, --check),
 * saved_ns = its instructions * (ns an instruction in template code - ns an instruction in regions), both of this run, by samples; else
 * saved_ns = the time in it, by samples, * (GAIN - 1). */
#include "runtime/internal.h"
#include <stdlib.h>

enum { GAIN = 2, /* how many times longer template code takes, where this run does not tell */ CHUNK = 64 };

bool region_stats_begin(struct vcpu *v)
{
    struct regions *r = &v->regions;
    r->samples = calloc(REGION_AREA / CHUNK, sizeof *r->samples);
    r->made_ns = calloc(COUNTERS, sizeof *r->made_ns);
    return r->samples && r->made_ns;
}

void region_stats_end(struct vcpu *v)
{
    free(v->regions.samples);
    free(v->regions.made_ns);
    free(v->regions.records);
}

void region_counted(struct vcpu *v, struct region_record *r, const struct llvm_data *d, size_t area_at, size_t area_size)
{
    uint32_t *samples = v->regions.samples;
    r->entries += d->entries;
    r->insns += d->insns;
    for (size_t n = 0; samples && n < area_size / CHUNK; n++) {
        uint32_t *of = &samples[(area_at - v->tbs.buffer_size) / CHUNK + n];
        r->samples += *of;
        *of = 0;
    }
}

void region_gone(struct vcpu *v, const struct region_record *r)
{
    struct regions *to = &v->regions;
    if (!v->measuring || !r->compile_ns)
        return;
    if (to->record_count == to->record_room) {
        size_t room = to->record_room ? 2 * to->record_room : 64;
        struct region_record *records = realloc(to->records, room * sizeof *records);
        if (!records)
            return;
        to->records = records;
        to->record_room = room;
    }
    to->records[to->record_count++] = *r;
}

/* --- Break-even */
static double ns_each(uint64_t samples, uint64_t insns) { return insns ? (double)samples * SAMPLE_NS / (double)insns : 0; }

static double saved_ns(const struct vcpu *v, const struct region_record *r)
{
    const struct stats *s = &v->stats;
    if (!machine_counts(v->machine))
        return (double)r->samples * SAMPLE_NS * (GAIN - 1);
    return (double)r->insns * (ns_each(s->samples_tcg, s->insns_tcg) - ns_each(s->samples_llvm, s->region_run));
}

static void judge(struct vcpu *v, const struct region_record *r)
{
    double saved = saved_ns(v, r), cost = (double)r->compile_ns;
    if (saved <= 0 || !cost)
        return;
    v->stats.regions_paid += saved >= cost;
    stats_value(v, SPREAD_region_even, cost * (double)r->entries / saved);
}

void regions_break_even(struct vcpu *v)
{
    v->stats.regions_paid = 0;
    v->spreads[SPREAD_region_even].count = 0;
    for (size_t n = 0; n < v->regions.record_count; n++)
        judge(v, &v->regions.records[n]);
    regions_judge(v, judge);
}
