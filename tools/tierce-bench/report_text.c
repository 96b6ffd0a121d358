/* The report as text: a line a program, a line a group, the targets, and what else was measured. */
#include "tools/tierce-bench/bench.h"
#include <math.h>
#include <stddef.h>
#include <string.h>

static void print_figures(FILE *out, struct figures f, const char *unit)
{
    char text[64] = "-";
    if (f.count > 1)
        snprintf(text, sizeof text, "%.2f%s (%.2f..%.2f)", f.median, unit, f.min, f.max);
    else if (f.count)
        snprintf(text, sizeof text, "%.2f%s", f.median, unit);
    fprintf(out, " %24s", text);
}

static void print_head(const struct bench *b, FILE *out, int native, int qemu)
{
    fprintf(out, "%-24s", "");
    if (native >= 0)
        fprintf(out, " %10s", "native ms");
    for (unsigned s = 0; s < b->subject_count; s++)
        if ((int)s != native)
            fprintf(out, " %14s %9s", b->subjects[s].name, native >= 0 ? "x native" : "ms");
    for (unsigned s = 0; qemu >= 0 && s < b->subject_count; s++)
        if (b->subjects[s].kind == TIERCE)
            fprintf(out, " %7s %16s", b->subjects[s].name, "faster than QEMU");
    fputc('\n', out);
}

static const char *trouble(const struct bench *b, unsigned program, unsigned subject)
{
    for (unsigned round = 0; round < b->rounds_done; round++) {
        enum outcome o = b->samples[program][subject][round].outcome;
        if (o > GOOD)
            return outcome_names[o];
    }
    return NULL;
}

static void print_program(const struct bench *b, FILE *out, unsigned p, int native, int qemu)
{
    fprintf(out, "%-24s", b->programs[p].name);
    if (native >= 0)
        fprintf(out, " %10.3f", unit_figures(b, p, (unsigned)native).median / 1e6);
    for (unsigned s = 0; s < b->subject_count; s++) {
        if ((int)s == native)
            continue;
        struct figures f = native >= 0 ? ratio_figures(b, p, s, (unsigned)native) : unit_figures(b, p, s);
        if (native < 0)
            f.min /= 1e6, f.median /= 1e6, f.max /= 1e6;
        if (trouble(b, p, s))
            fprintf(out, " %24s", trouble(b, p, s));
        else
            print_figures(out, f, "");
    }
    for (unsigned s = 0; qemu >= 0 && s < b->subject_count; s++)
        if (b->subjects[s].kind == TIERCE)
            print_figures(out, ratio_figures(b, p, (unsigned)qemu, s), "x");
    fputc('\n', out);
}

static void print_group(const struct bench *b, FILE *out, const char *group, int native, int qemu)
{
    fprintf(out, "%-24s", group);
    if (native >= 0)
        fprintf(out, " %10s", "");
    for (unsigned s = 0; s < b->subject_count; s++)
        if ((int)s != native)
            print_figures(out, native >= 0 ? group_figures(b, group, s, (unsigned)native) : (struct figures){NAN, NAN, NAN, 0}, "");
    for (unsigned s = 0; qemu >= 0 && s < b->subject_count; s++)
        if (b->subjects[s].kind == TIERCE)
            print_figures(out, group_figures(b, group, (unsigned)qemu, s), "x");
    fputc('\n', out);
}

static void print_clocks(const struct bench *b, FILE *out)
{
    for (unsigned s = 0; s < b->subject_count; s++) {
        struct figures f = clock_figures(b, s);
        if (b->subjects[s].kind != NATIVE && f.count)
            fprintf(out, "The clock of %s went %.3f (%.3f..%.3f) times as fast as the host's\n", b->subjects[s].name, f.median, f.min, f.max);
    }
}

static void print_programs(const struct bench *b, FILE *out)
{
    int native = subject_of_kind(b, NATIVE), qemu = subject_of_kind(b, QEMU);
    if (!b->program_count || !b->rounds_done)
        return;
    fprintf(out, "\nThe %s unit of work of each round; ratios within a round: median (min..max) of %u rounds\n",
            b->by_best ? "best" : "median", b->rounds_done);
    print_head(b, out, native, qemu);
    for (unsigned p = 0; p < b->program_count; p++)
        print_program(b, out, p, native, qemu);
    fprintf(out, "\nGeometric means\n");
    print_head(b, out, native, qemu);
    for (unsigned p = 0; p < b->program_count; p++)
        if (!p || strcmp(b->programs[p].group, b->programs[p - 1].group))
            print_group(b, out, b->programs[p].group, native, qemu);
    print_clocks(b, out);
}

static void print_goals(const struct bench *b, FILE *out)
{
    struct goal goals[MAX_GOALS];
    unsigned n = goals_of(b, goals);
    if (n)
        fprintf(out, "\nWhat %s must hold\n", b->subjects[subject_of_kind(b, TIERCE)].name);
    for (unsigned i = 0; i < n; i++)
        fprintf(out, "  %-28s %8.2f (%.2f..%.2f), wanted %g %s: %s\n", goals[i].label, goals[i].got.median, goals[i].got.min, goals[i].got.max,
                goals[i].wanted, goals[i].unit, goals[i].reached ? "reached" : "NOT reached");
}

static void print_boot(const struct bench *b, FILE *out)
{
    if (!b->boots_done)
        return;
    fprintf(out, "\nBoot, seconds from the start of the process: median (min..max) of %u\n%-24s %24s %24s\n", b->boots_done, "",
            "to the shell", "to the end of poweroff");
    for (unsigned s = 0; s < b->subject_count; s++) {
        if (b->subjects[s].kind == NATIVE)
            continue;
        fprintf(out, "%-24s", b->subjects[s].name);
        print_figures(out, boot_figures(b, s, TO_SHELL), "");
        print_figures(out, boot_figures(b, s, TO_POWEROFF), "");
        fputc('\n', out);
    }
}

static void print_memory(const struct bench *b, FILE *out)
{
    if (!b->with_memory)
        return;
    fprintf(out, "\nResident MiB of a guest with %u MiB (wanted of all but guest RAM: under 150)\n%-24s %14s %10s %20s %10s\n", b->memory_mib,
            "", "boot: RAM", "rest", "programs: RAM", "rest");
    for (unsigned s = 0; s < b->subject_count; s++)
        if (b->subjects[s].kind != NATIVE)
            fprintf(out, "%-24s %14.1f %10.1f %20.1f %10.1f\n", b->subjects[s].name, b->after_boot[s].ram, b->after_boot[s].rest,
                    b->after_programs[s].ram, b->after_programs[s].rest);
}

static void print_state(const struct bench *b, FILE *out)
{
    static const struct { const char *name; size_t field; } columns[] = {
        {"save, ms", offsetof(struct saved, save_ms)}, {"loadvm, ms", offsetof(struct saved, load_ms)}, {"start to answer, ms", offsetof(struct saved, start_ms)},
        {"file, MiB", offsetof(struct saved, file)}, {"RAM not zero", offsetof(struct saved, not_zero)}, {"RAM resident", offsetof(struct saved, touched)}};
    if (!b->states_done)
        return;
    fprintf(out, "\nA guest with %u MiB at its shell, saved and restored: median (min..max) of %u\n%-24s", b->memory_mib, b->states_done, "");
    for (unsigned i = 0; i < sizeof columns / sizeof *columns; i++)
        fprintf(out, " %24s", columns[i].name);
    for (unsigned s = 0; s < b->subject_count; s++) {
        if (b->subjects[s].kind != TIERCE)
            continue;
        fprintf(out, "\n%-24s", b->subjects[s].name);
        for (unsigned i = 0; i < sizeof columns / sizeof *columns; i++)
            print_figures(out, saved_figures(b, s, columns[i].field), "");
    }
    fputc('\n', out);
}

static void print_translation(const struct bench *b, FILE *out)
{
    static const char *const shapes[] = {"straight", "branchy"};
    bool any = false;
    for (unsigned s = 0; s < b->subject_count; s++)
        for (unsigned i = 0; i < 2; i++) {
            char cold[48], again[48];
            snprintf(cold, sizeof cold, "translate_%s", shapes[i]);
            snprintf(again, sizeof again, "translate_%s_again", shapes[i]);
            struct figures first = instruction_figures(b, cold, s), second = instruction_figures(b, again, s);
            if (!first.count)
                continue;
            if (!any)
                fprintf(out, "\nTranslation, ns an executed guest instruction\n%-24s %24s %24s\n", "", "code that runs once", "the same again");
            any = true;
            fprintf(out, "%-10s %-13s", b->subjects[s].name, shapes[i]);
            print_figures(out, first, "");
            print_figures(out, second, "");
            fputc('\n', out);
        }
    for (unsigned s = 0; s < b->subject_count; s++)
        if (b->stages[s][0])
            fprintf(out, "%s --stats=json, boot and both programs: %s\n", b->subjects[s].name, b->stages[s]);
}

static void print_cache(const struct bench *b, FILE *out)
{
    if (b->cache_row_count)
        fprintf(out, "\nTranslation cache: median (min..max) of the rounds\n");
    for (unsigned n = 0; n < b->cache_row_count; n++) {
        const struct cache_row *r = &b->cache_rows[n];
        struct figures f = figures_of(r->values, r->count);
        fprintf(out, "  %-36s %8.2f (%.2f..%.2f) %s", r->name, f.median, f.min, f.max, r->unit);
        if (isnan(r->wanted))
            fputc('\n', out);
        else
            fprintf(out, ", wanted at most %g: %s\n", r->wanted, f.median <= r->wanted ? "reached" : "NOT reached");
    }
}

static void print_grid(const struct grid *g, FILE *out)
{
    fprintf(out, "\n%s, and times as long as %s: median (min..max) of %u\n%-24s", g->title, g->rows[g->base], g->rounds, "");
    for (unsigned c = 0; c < g->column_count; c++)
        fprintf(out, " %24s %7s", g->columns[c], "times");
    for (unsigned r = 0; r < g->row_count; r++) {
        fprintf(out, "\n%-24s", g->rows[r]);
        for (unsigned c = 0; c < g->column_count; c++) {
            print_figures(out, grid_figures(g, r, c), "");
            fprintf(out, " %7.2f", grid_ratios(g, r, c).median);
        }
    }
    fputc('\n', out);
}

static void print_compiler(const struct bench *b, FILE *out)
{
    if (!b->latencies_done && !b->losses_done)
        return;
    fprintf(out, "\nThe compiler: ms until a new loop runs in its code, and %% that a guest in steady state loses to one that never rests\n%-24s %24s %24s\n", "",
            "latency, ms", "loss, %");
    for (unsigned s = 0; s < b->subject_count; s++) {
        if (b->subjects[s].kind != TIERCE)
            continue;
        fprintf(out, "%-24s", b->subjects[s].name);
        print_figures(out, latency_figures(b, s), "");
        print_figures(out, loss_figures(b, s), "");
        fputc('\n', out);
    }
}

void report_text(const struct bench *b, FILE *out)
{
    fprintf(out, "tierce-bench, %s: %s, %ld CPUs, %ld MiB, %s\n", b->date, b->host_cpu, b->host_cpus, b->host_mib, b->host_kernel);
    for (unsigned s = 0; s < b->subject_count; s++)
        if (b->subjects[s].kind != NATIVE)
            fprintf(out, "  %-8s %s\n", b->subjects[s].name, b->subjects[s].version);
    print_programs(b, out);
    print_translation(b, out);
    print_compiler(b, out);
    print_boot(b, out);
    print_memory(b, out);
    print_state(b, out);
    print_cache(b, out);
    for (unsigned n = 0; n < b->grid_count; n++)
        print_grid(&b->grids[n], out);
    print_goals(b, out);
    if (b->old)
        compare_text(b, b->old, out);
}
