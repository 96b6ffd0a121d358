/* The report as JSON: everything, with each round as it was measured. */
#include "tools/tierce-bench/bench.h"
#include <math.h>
#include <string.h>

static void print_string(FILE *out, const char *text)
{
    fputc('"', out);
    for (const char *p = text; *p; p++)
        if (strchr("<>&", *p)) /* the HTML report holds this text */
            fprintf(out, "\\u%04x", *p);
        else if (*p == '"' || *p == '\\')
            fprintf(out, "\\%c", *p);
        else
            fprintf(out, (unsigned char)*p < 32 ? "\\u%04x" : "%c", (unsigned char)*p);
    fputc('"', out);
}

static void print_number(FILE *out, double x)
{
    if (isfinite(x))
        fprintf(out, "%.6g", x);
    else
        fputs("null", out);
}

static void print_figures(FILE *out, const char *name, struct figures f)
{
    fprintf(out, "\"%s\":{\"min\":", name);
    print_number(out, f.min);
    fputs(",\"median\":", out);
    print_number(out, f.median);
    fputs(",\"max\":", out);
    print_number(out, f.max);
    fputc('}', out);
}

static void print_values(FILE *out, const char *name, const double *v, unsigned count)
{
    fprintf(out, "\"%s\":[", name);
    for (unsigned i = 0; i < count; i++) {
        fputs(i ? "," : "", out);
        print_number(out, v[i]);
    }
    fputc(']', out);
}

static void print_host(const struct bench *b, FILE *out)
{
    fputs("\"host\":{\"cpu\":", out);
    print_string(out, b->host_cpu);
    fputs(",\"kernel\":", out);
    print_string(out, b->host_kernel);
    fprintf(out, ",\"cpus\":%ld,\"memory_mib\":%ld},\n\"settings\":{\"rounds\":%u,\"budget_ms\":%u,\"guest_memory_mib\":%u,\"statistic\":\"%s\","
                 "\"guest_kernel\":", b->host_cpus, b->host_mib, b->rounds, b->budget_ms, b->memory_mib, b->by_best ? "best" : "median");
    print_string(out, b->kernel_path);
    fputs("},\n\"subjects\":[", out);
    for (unsigned s = 0; s < b->subject_count; s++) {
        fprintf(out, "%s{\"name\":\"%s\",\"program\":", s ? "," : "", b->subjects[s].name);
        print_string(out, b->subjects[s].program[0]);
        fputs(",\"version\":", out);
        print_string(out, b->subjects[s].version);
        fputc('}', out);
    }
    fputs("]", out);
}

static void print_sample(FILE *out, const struct sample *m)
{
    fprintf(out, "{\"outcome\":\"%s\"", outcome_names[m->outcome]);
    if (m->outcome == GOOD || m->outcome == WRONG) {
        fprintf(out, ",\"units\":%u,\"unit_ns\":%.1f,\"best_ns\":%.1f,\"guest_elapsed_ns\":%.0f,\"host_elapsed_ns\":%.0f,\"clock_drift\":%s,\"result\":",
                m->units, m->unit, m->best, m->elapsed, m->host, m->drift ? "true" : "false");
        print_string(out, m->result);
        if (m->instructions > 0)
            fprintf(out, ",\"instructions\":%.0f", m->instructions);
    }
    fputc('}', out);
}

static void print_result(const struct bench *b, FILE *out, unsigned p, unsigned s)
{
    int native = subject_of_kind(b, NATIVE), qemu = subject_of_kind(b, QEMU);
    fprintf(out, "\"%s\":{", b->subjects[s].name);
    print_figures(out, "unit_ns", unit_figures(b, p, s));
    if (native >= 0) {
        fputc(',', out);
        print_figures(out, "times_native", ratio_figures(b, p, s, (unsigned)native));
    }
    if (qemu >= 0) {
        fputc(',', out);
        print_figures(out, "faster_than_qemu", ratio_figures(b, p, (unsigned)qemu, s));
    }
    fputs(",\"rounds\":[", out);
    for (unsigned round = 0; round < b->rounds_done; round++) {
        fputs(round ? "," : "", out);
        print_sample(out, &b->samples[p][s][round]);
    }
    fputs("]}", out);
}

static void print_programs(const struct bench *b, FILE *out)
{
    fputs("\"programs\":[", out);
    for (unsigned p = 0; b->rounds_done && p < b->program_count; p++) {
        fprintf(out, "%s\n{\"name\":\"%s\",\"group\":\"%s\",\"results\":{", p ? "," : "", b->programs[p].name, b->programs[p].group);
        for (unsigned s = 0; s < b->subject_count; s++) {
            fputs(s ? "," : "", out);
            print_result(b, out, p, s);
        }
        fputs("}}", out);
    }
    fputs("],\n\"groups\":[", out);
    int native = subject_of_kind(b, NATIVE), qemu = subject_of_kind(b, QEMU);
    bool first = true;
    for (unsigned p = 0; b->rounds_done && p < b->program_count; p++)
        for (unsigned s = 0; (!p || strcmp(b->programs[p].group, b->programs[p - 1].group)) && s < b->subject_count; s++) {
            fprintf(out, "%s\n{\"name\":\"%s\",\"subject\":\"%s\"", first ? "" : ",", b->programs[p].group, b->subjects[s].name);
            first = false;
            if (native >= 0) {
                fputc(',', out);
                print_figures(out, "times_native", group_figures(b, b->programs[p].group, s, (unsigned)native));
            }
            if (qemu >= 0) {
                fputc(',', out);
                print_figures(out, "faster_than_qemu", group_figures(b, b->programs[p].group, (unsigned)qemu, s));
            }
            fputc('}', out);
        }
    fputc(']', out);
}

static void print_goals(const struct bench *b, FILE *out)
{
    struct goal goals[MAX_GOALS];
    unsigned n = goals_of(b, goals);
    fputs("\"goals\":[", out);
    for (unsigned i = 0; i < n; i++) {
        fprintf(out, "%s\n{\"label\":\"%s\",\"unit\":\"%s\",\"wanted\":%g,\"reached\":%s,", i ? "," : "", goals[i].label, goals[i].unit,
                goals[i].wanted, goals[i].reached ? "true" : "false");
        print_figures(out, "got", goals[i].got);
        fputc('}', out);
    }
    fputc(']', out);
}

static void print_memory_of(FILE *out, const char *name, struct memory m)
{
    fprintf(out, "\"%s\":{\"guest_ram_mib\":", name);
    print_number(out, m.ram);
    fputs(",\"rest_mib\":", out);
    print_number(out, m.rest);
    fputc('}', out);
}

static void print_saved(const struct bench *b, unsigned subject, FILE *out)
{
    static const struct { const char *name; size_t field; } values[] = {
        {"save_ms", offsetof(struct saved, save_ms)}, {"loadvm_ms", offsetof(struct saved, load_ms)}, {"restored_answer_ms", offsetof(struct saved, start_ms)},
        {"state_file_mib", offsetof(struct saved, file)}, {"state_ram_mib", offsetof(struct saved, not_zero)}, {"state_resident_mib", offsetof(struct saved, touched)}};
    for (unsigned i = 0; i < sizeof values / sizeof *values; i++) {
        double v[MAX_ROUNDS];
        for (unsigned r = 0; r < b->states_done; r++)
            memcpy(&v[r], (const char *)&b->saved[subject][r] + values[i].field, sizeof v[r]);
        fputc(',', out);
        print_values(out, values[i].name, v, b->states_done);
    }
}

/* What belongs to a guest as a whole. */
static void print_machines(const struct bench *b, FILE *out)
{
    bool first = true;
    fputs("\"machines\":[", out);
    for (unsigned s = 0; s < b->subject_count; s++) {
        if (b->subjects[s].kind == NATIVE)
            continue;
        fprintf(out, "%s\n{\"subject\":\"%s\",", first ? "" : ",", b->subjects[s].name);
        first = false;
        print_figures(out, "clock", clock_figures(b, s));
        fputc(',', out);
        print_values(out, "programs_ready_ns", b->ready[s], b->rounds_done);
        fputc(',', out);
        print_values(out, "boot_shell_ns", b->shell[s], b->boots_done);
        fputc(',', out);
        print_values(out, "boot_poweroff_ns", b->off[s], b->boots_done);
        if (b->latencies_done) {
            fputc(',', out);
            print_figures(out, "latency_ms", latency_figures(b, s));
        }
        if (b->losses_done) {
            fputc(',', out);
            print_figures(out, "compiler_loss_percent", loss_figures(b, s));
        }
        if (b->with_memory) {
            fputc(',', out);
            print_memory_of(out, "memory_after_boot", b->after_boot[s]);
            fputc(',', out);
            print_memory_of(out, "memory_after_programs", b->after_programs[s]);
        }
        if (b->states_done && b->subjects[s].kind == TIERCE)
            print_saved(b, s, out);
        if (b->stages[s][0] == '{')
            fprintf(out, ",\"translate_stats\":%s", b->stages[s]);
        fputc('}', out);
    }
    fputc(']', out);
}

static void print_cache(const struct bench *b, FILE *out)
{
    fputs("\"cache\":[", out);
    for (unsigned n = 0; n < b->cache_row_count; n++) {
        const struct cache_row *r = &b->cache_rows[n];
        fprintf(out, "%s\n{\"name\":\"%s\",\"unit\":\"%s\",\"wanted_at_most\":", n ? "," : "", r->name, r->unit);
        print_number(out, r->wanted);
        fputc(',', out);
        print_values(out, "values", r->values, r->count);
        fputc('}', out);
    }
    fputc(']', out);
}

static void print_grid(const struct grid *g, FILE *out)
{
    fprintf(out, "{\"title\":\"%s\",\"compared_with\":\"%s\",\"rows\":[", g->title, g->rows[g->base]);
    for (unsigned r = 0; r < g->row_count; r++) {
        fprintf(out, "%s\n{\"name\":\"%s\",\"columns\":[", r ? "," : "", g->rows[r]);
        for (unsigned c = 0; c < g->column_count; c++) {
            fprintf(out, "%s{\"name\":\"%s\",", c ? "," : "", g->columns[c]);
            print_values(out, "values", g->values[r][c], g->rounds);
            fputc(',', out);
            print_figures(out, "times", grid_ratios(g, r, c));
            fputc('}', out);
        }
        fputs("]}", out);
    }
    fputs("]}", out);
}

void report_json(const struct bench *b, FILE *out)
{
    fprintf(out, "{\"tool\":\"tierce-bench\",\"format\":1,\"date\":\"%s\",\n", b->date);
    print_host(b, out);
    fputs(",\n", out);
    print_programs(b, out);
    fputs(",\n", out);
    print_goals(b, out);
    fputs(",\n", out);
    print_machines(b, out);
    fputs(",\n", out);
    print_cache(b, out);
    fputs(",\n\"cache_guests\":[", out);
    for (unsigned n = 0; n < b->grid_count; n++) {
        fputs(n ? ",\n" : "", out);
        print_grid(&b->grids[n], out);
    }
    fputs("]}\n", out);
}
