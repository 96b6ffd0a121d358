/* The report as one HTML page that needs nothing else: charts as inline SVG, tables, and the JSON of it all.  It is
 * well-formed XML too.  Bars are how many times longer than the base a program takes, on a logarithmic scale; whiskers
 * run from the least to the greatest of the rounds. */
#include "tools/tierce-bench/bench.h"
#include <math.h>
#include <stddef.h>
#include <string.h>

enum { LABEL = 190, PLOT = 620, FIGURES = 110, WIDTH = LABEL + PLOT + FIGURES, BAR = 10, GAP = 10, TOP = 22 };

static const char style[] =
    ":root{--bg:#fcfcfb;--fg:#1d2126;--dim:#666d76;--line:#dfe1e4;--card:#f2f3f4;--c0:#2563c9;--c1:#d9722b;--c2:#6b8f3a;--c3:#8a63b8;"
    "--good:#1f7a3d;--bad:#b3261e}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#15181c;--fg:#e4e6e9;--dim:#969da6;--line:#32373e;--card:#1f2329;--c0:#6aa1f5;"
    "--c1:#f0994f;--c2:#9cc069;--c3:#b795e0;--good:#63c985;--bad:#f2857c}}\n"
    "body{background:var(--bg);color:var(--fg);font:14px/1.45 system-ui,sans-serif;margin:2em auto;max-width:960px;padding:0 1em}\n"
    "h1{font-size:1.5em;margin:0}h2{font-size:1.15em;margin:2em 0 .4em}h3{font-size:1em;margin:1.4em 0 .2em}p{margin:.3em 0}\n"
    ".dim{color:var(--dim)}.good{color:var(--good)}.bad{color:var(--bad)}\n"
    ".cards{display:flex;flex-wrap:wrap;gap:.8em;margin:1em 0}.card{background:var(--card);border-radius:6px;padding:.6em 1em;min-width:12em}\n"
    ".card b{display:block;font-size:1.5em;font-variant-numeric:tabular-nums}\n"
    "svg{display:block;width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:var(--fg)}svg .tick{fill:var(--dim);font-size:11px}\n"
    ".grid{stroke:var(--line)}.base{stroke:var(--dim)}.whisker{stroke:var(--fg);stroke-width:1.2}\n"
    ".s0{fill:var(--c0)}.s1{fill:var(--c1)}.s2{fill:var(--c2)}.s3{fill:var(--c3)}\n"
    ".key span{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin:0 .4em 0 1em}\n"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{padding:.15em .8em;text-align:right;white-space:nowrap;border-bottom:1px solid "
    "var(--line)}th:first-child,td:first-child{text-align:left}th{font-weight:600}td small{color:var(--dim)}\n"
    ".wide{overflow-x:auto}\n";

static void print_escaped(FILE *out, const char *text)
{
    for (const char *p = text; *p; p++)
        switch (*p) {
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '&': fputs("&amp;", out); break;
        default: fputc((unsigned char)*p < 32 ? ' ' : *p, out);
        }
}

/* The subject that bars are relative to: native, else QEMU, else none. */
static int base_of(const struct bench *b)
{
    int native = subject_of_kind(b, NATIVE);
    return native >= 0 ? native : subject_of_kind(b, QEMU);
}

static bool starts_group(const struct bench *b, unsigned p)
{
    return !p || strcmp(b->programs[p].group, b->programs[p - 1].group);
}

/* --- Charts */

struct chart { double low, high; bool logarithmic; const char *unit; };

static double place(const struct chart *c, double value)
{
    double at = c->logarithmic ? log(value / c->low) / log(c->high / c->low) : (value - c->low) / (c->high - c->low);
    return LABEL + PLOT * (at < 0 ? 0 : at > 1 ? 1 : at);
}

static void print_tick(FILE *out, const struct chart *c, double value, int height)
{
    double x = place(c, value);
    fprintf(out, "<line class=\"%s\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/><text class=\"tick\" x=\"%.1f\" y=\"12\" text-anchor=\"middle\">%g%s</text>",
            c->logarithmic && value == 1 ? "base" : "grid", x, x, TOP - 6, height, x, value, c->unit);
}

static void open_chart(FILE *out, const struct chart *c, const char *label, int height)
{
    static const double steps[] = {1, 2, 5};
    fprintf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">", WIDTH, height, label);
    if (c->logarithmic) {
        for (double decade = 0.1; decade <= c->high; decade *= 10)
            for (unsigned i = 0; i < 3; i++)
                if (steps[i] * decade >= c->low * 0.999 && steps[i] * decade <= c->high * 1.001)
                    print_tick(out, c, steps[i] * decade, height);
        return;
    }
    double step = pow(10, floor(log10(c->high)));
    step /= c->high / step < 2 ? 5 : c->high / step < 5 ? 2 : 1;
    for (double v = 0; v <= c->high * 1.001; v += step)
        print_tick(out, c, v, height);
}

static void print_bar(FILE *out, const struct chart *c, struct figures f, unsigned colour, int y)
{
    double from = place(c, c->logarithmic ? 1 : 0), to = place(c, f.median);
    double left = from < to ? from : to, width = fabs(to - from) < 1 ? 1 : fabs(to - from), middle = y + BAR / 2.0 - 0.5;
    fprintf(out, "<rect class=\"s%u\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"1.5\"/>", colour, left, y, width, BAR - 1);
    if (f.max > f.min)
        fprintf(out, "<path class=\"whisker\" d=\"M%.1f %.1fH%.1fM%.1f %.1fv6M%.1f %.1fv6\"/>", place(c, f.min), middle, place(c, f.max),
                place(c, f.min), middle - 3, place(c, f.max), middle - 3);
    fprintf(out, "<text class=\"tick\" x=\"%.1f\" y=\"%d\">%.2f%s</text>", place(c, f.max > f.median ? f.max : f.median) + 5, y + BAR - 1, f.median,
            c->unit);
}

static void print_key(const struct bench *b, FILE *out, int without)
{
    unsigned colour = 0;
    fputs("<p class=\"key dim\">", out);
    for (unsigned s = 0; s < b->subject_count; s++)
        if ((int)s != without)
            fprintf(out, "<span class=\"s%u\" style=\"background:var(--c%u)\"></span>%s", colour % 4, colour % 4, b->subjects[s].name), colour++;
    fputs("</p>\n", out);
}

/* From where to where a group's figures reach, and at least from 0.5 to 10. */
static struct chart chart_of(const struct bench *b, unsigned first, unsigned end, int base)
{
    struct chart c = {0.5, 10, true, ""};
    for (unsigned p = first; p < end; p++)
        for (unsigned s = 0; s < b->subject_count; s++) {
            struct figures f = ratio_figures(b, p, s, (unsigned)base);
            c.high = f.max > c.high ? f.max : c.high;
            c.low = f.min < c.low ? f.min : c.low;
        }
    return c;
}

static void print_group_chart(const struct bench *b, FILE *out, unsigned first, int base)
{
    const char *group = b->programs[first].group;
    unsigned bars = b->subject_count - 1, end = first;
    while (end < b->program_count && !strcmp(b->programs[end].group, group))
        end++;
    int row = (int)bars * BAR + GAP, y = TOP;
    struct chart c = chart_of(b, first, end, base);
    fprintf(out, "<h3>%s</h3>\n", group);
    open_chart(out, &c, group, TOP + row * (int)(end - first));
    for (unsigned p = first; p < end; p++, y += row) {
        fprintf(out, "\n<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>", LABEL - 10, y + (int)bars * BAR / 2.0 + 4,
                b->programs[p].name + strlen(group) + 1);
        unsigned colour = 0;
        for (unsigned s = 0; s < b->subject_count; s++) {
            if ((int)s == base)
                continue;
            struct figures f = ratio_figures(b, p, s, (unsigned)base);
            if (f.count)
                print_bar(out, &c, f, colour % 4, y + (int)colour * BAR);
            colour++;
        }
    }
    fputs("</svg>\n", out);
}

static void print_charts(const struct bench *b, FILE *out)
{
    int base = base_of(b);
    if (base < 0 || b->subject_count < 2 || !b->rounds_done)
        return;
    fprintf(out, "<h2>Programs</h2><p class=\"dim\">Times the %s time; 1 is as fast, and shorter is better. Median, least and greatest of %u rounds.</p>",
            b->subjects[base].name, b->rounds_done);
    print_key(b, out, base);
    for (unsigned p = 0; p < b->program_count; p++)
        if (starts_group(b, p))
            print_group_chart(b, out, p, base);
}

static void print_boot(const struct bench *b, FILE *out)
{
    struct chart c = {0, 1, false, " s"};
    int native = subject_of_kind(b, NATIVE);
    if (!b->boots_done)
        return;
    for (unsigned s = 0; s < b->subject_count; s++) {
        struct figures f = boot_figures(b, s, TO_POWEROFF);
        c.high = f.max > c.high ? f.max : c.high;
    }
    int bars = (int)b->subject_count - (native >= 0), row = bars * BAR + GAP;
    fputs("<h2>Boot</h2><p class=\"dim\">Seconds from the start of the process.</p>", out);
    print_key(b, out, native);
    open_chart(out, &c, "boot", TOP + 2 * row);
    for (int which = 0; which < 2; which++) {
        unsigned colour = 0;
        int y = TOP + which * row;
        fprintf(out, "\n<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>", LABEL - 10, y + bars * BAR / 2.0 + 4,
                which ? "end of poweroff" : "shell");
        for (unsigned s = 0; s < b->subject_count; s++) {
            if ((int)s == native)
                continue;
            struct figures f = boot_figures(b, s, which ? TO_POWEROFF : TO_SHELL);
            if (f.count)
                print_bar(out, &c, f, colour % 4, y + (int)colour * BAR);
            colour++;
        }
    }
    fputs("</svg>\n", out);
}

/* --- Tables */

static void print_cell(FILE *out, struct figures f, const char *unit)
{
    if (!f.count)
        fputs("<td>-</td>", out);
    else if (f.count == 1)
        fprintf(out, "<td>%.2f%s</td>", f.median, unit);
    else
        fprintf(out, "<td>%.2f%s <small>%.2f to %.2f</small></td>", f.median, unit, f.min, f.max);
}

static bool bad(const struct bench *b, unsigned p, unsigned s, FILE *out)
{
    for (unsigned r = 0; r < b->rounds_done; r++)
        if (b->samples[p][s][r].outcome > GOOD) {
            fprintf(out, "<td class=\"bad\">%s</td>", outcome_names[b->samples[p][s][r].outcome]);
            return true;
        }
    return false;
}

static void print_row(const struct bench *b, FILE *out, unsigned p, int base, int qemu)
{
    fprintf(out, "<tr><td>%s</td>", b->programs[p].name);
    for (unsigned s = 0; s < b->subject_count; s++) {
        struct figures ms = unit_figures(b, p, s);
        if (bad(b, p, s, out))
            continue;
        if ((int)s == base || base < 0)
            fprintf(out, "<td>%.3f ms</td>", ms.median / 1e6);
        else
            print_cell(out, ratio_figures(b, p, s, (unsigned)base), "");
    }
    for (unsigned s = 0; qemu >= 0 && s < b->subject_count; s++)
        if (b->subjects[s].kind == TIERCE)
            print_cell(out, ratio_figures(b, p, (unsigned)qemu, s), "x");
    fputs("</tr>\n", out);
}

static void print_mean(const struct bench *b, FILE *out, const char *group, int base, int qemu)
{
    fprintf(out, "<tr><th>%s, geometric mean</th>", group);
    for (unsigned s = 0; s < b->subject_count; s++)
        if ((int)s == base || base < 0)
            fputs("<td></td>", out);
        else
            print_cell(out, group_figures(b, group, s, (unsigned)base), "");
    for (unsigned s = 0; qemu >= 0 && s < b->subject_count; s++)
        if (b->subjects[s].kind == TIERCE)
            print_cell(out, group_figures(b, group, (unsigned)qemu, s), "x");
    fputs("</tr>\n", out);
}

static void print_table(const struct bench *b, FILE *out)
{
    int base = base_of(b), qemu = subject_of_kind(b, QEMU);
    if (!b->rounds_done || !b->program_count)
        return;
    fputs("<h2>Figures</h2><div class=\"wide\"><table><thead><tr><th>program</th>", out);
    for (unsigned s = 0; s < b->subject_count; s++)
        fprintf(out, (int)s == base || base < 0 ? "<th>%s</th>" : "<th>%s, times %s</th>", b->subjects[s].name, base < 0 ? "" : b->subjects[base].name);
    for (unsigned s = 0; qemu >= 0 && s < b->subject_count; s++)
        if (b->subjects[s].kind == TIERCE)
            fprintf(out, "<th>%s, faster than QEMU</th>", b->subjects[s].name);
    fputs("</tr></thead><tbody>\n", out);
    for (unsigned p = 0; p < b->program_count; p++) {
        print_row(b, out, p, base, qemu);
        if (p + 1 == b->program_count || starts_group(b, p + 1))
            print_mean(b, out, b->programs[p].group, base, qemu);
    }
    fputs("</tbody></table></div>\n", out);
}

static void print_translation(const struct bench *b, FILE *out)
{
    static const char *const programs[] = {"translate_straight", "translate_straight_again", "translate_branchy", "translate_branchy_again"};
    bool any = false;
    for (unsigned s = 0; s < b->subject_count; s++) {
        if (!instruction_figures(b, programs[0], s).count)
            continue;
        if (!any)
            fputs("<h2>Translation</h2><p class=\"dim\">Nanoseconds an executed guest instruction, of code that is executed for the first time, and again."
                  "</p><table><tr><th></th><th>straight</th><th>again</th><th>branchy</th><th>again</th></tr>\n", out);
        any = true;
        fprintf(out, "<tr><td>%s</td>", b->subjects[s].name);
        for (unsigned i = 0; i < 4; i++)
            print_cell(out, instruction_figures(b, programs[i], s), "");
        fputs("</tr>\n", out);
    }
    fputs(any ? "</table>\n" : "", out);
}

static void print_memory(const struct bench *b, FILE *out)
{
    if (!b->with_memory)
        return;
    fprintf(out, "<h2>Memory</h2><p class=\"dim\">Resident MiB of a guest with %u MiB.</p><table><tr><th></th><th>guest RAM after boot</th><th>all else"
                 "</th><th>guest RAM after the programs</th><th>all else</th></tr>\n", b->memory_mib);
    for (unsigned s = 0; s < b->subject_count; s++)
        if (b->subjects[s].kind != NATIVE)
            fprintf(out, "<tr><td>%s</td><td>%.1f</td><td>%.1f</td><td>%.1f</td><td>%.1f</td></tr>\n", b->subjects[s].name, b->after_boot[s].ram,
                    b->after_boot[s].rest, b->after_programs[s].ram, b->after_programs[s].rest);
    fputs("</table>\n", out);
}

static void print_cache(const struct bench *b, FILE *out)
{
    if (!b->cache_row_count)
        return;
    fputs("<h2>Translation cache</h2><table><tr><th></th><th>median</th><th>min</th><th>max</th><th>unit</th><th>wanted at most</th></tr>\n", out);
    for (unsigned n = 0; n < b->cache_row_count; n++) {
        const struct cache_row *r = &b->cache_rows[n];
        struct figures f = figures_of(r->values, r->count);
        fprintf(out, "<tr><td>%s</td><td>%.2f</td><td>%.2f</td><td>%.2f</td><td>%s</td><td>", r->name, f.median, f.min, f.max, r->unit);
        if (!isnan(r->wanted))
            fprintf(out, "%g: %s", r->wanted, f.median <= r->wanted ? "reached" : "not reached");
        fputs("</td></tr>\n", out);
    }
    fputs("</table>\n", out);
}

static void print_grid(const struct grid *g, FILE *out)
{
    fprintf(out, "<h2>%s</h2><p class=\"dim\">And times as long as %s in the same round.</p><div class=\"wide\"><table><tr><th></th>", g->title, g->rows[g->base]);
    for (unsigned c = 0; c < g->column_count; c++)
        fprintf(out, "<th>%s</th><th>times</th>", g->columns[c]);
    fputs("</tr>\n", out);
    for (unsigned r = 0; r < g->row_count; r++) {
        fprintf(out, "<tr><td>%s</td>", g->rows[r]);
        for (unsigned c = 0; c < g->column_count; c++) {
            print_cell(out, grid_figures(g, r, c), "");
            print_cell(out, grid_ratios(g, r, c), "");
        }
        fputs("</tr>\n", out);
    }
    fputs("</table></div>\n", out);
}

static void print_compiler(const struct bench *b, FILE *out)
{
    if (!b->latencies_done && !b->losses_done)
        return;
    fputs("<h2>The compiler</h2><p class=\"dim\">How long a loop that is new runs before its compiled code does; what a guest in steady state loses to "
          "a compiler that never rests.</p><table><tr><th></th><th>latency, ms</th><th>loss, %</th></tr>\n", out);
    for (unsigned s = 0; s < b->subject_count; s++) {
        if (b->subjects[s].kind != TIERCE)
            continue;
        fprintf(out, "<tr><td>%s</td>", b->subjects[s].name);
        print_cell(out, latency_figures(b, s), "");
        print_cell(out, loss_figures(b, s), "");
        fputs("</tr>\n", out);
    }
    fputs("</table>\n", out);
}

static void print_state(const struct bench *b, FILE *out)
{
    if (!b->states_done)
        return;
    fprintf(out, "<h2>Saved machines</h2><p class=\"dim\">A guest of %u MiB at its shell; medians.</p><table><tr><th></th><th>save, ms</th><th>restore, ms</th>"
                 "<th>start of a process to the guest's answer, ms</th><th>file, MiB</th><th>RAM not zero, MiB</th></tr>\n", b->memory_mib);
    for (unsigned s = 0; s < b->subject_count; s++)
        if (b->subjects[s].kind == TIERCE)
            fprintf(out, "<tr><td>%s</td><td>%.0f</td><td>%.0f</td><td>%.0f</td><td>%.1f</td><td>%.1f</td></tr>\n", b->subjects[s].name,
                    saved_figures(b, s, offsetof(struct saved, save_ms)).median, saved_figures(b, s, offsetof(struct saved, load_ms)).median,
                    saved_figures(b, s, offsetof(struct saved, start_ms)).median, saved_figures(b, s, offsetof(struct saved, file)).median,
                    saved_figures(b, s, offsetof(struct saved, not_zero)).median);
    fputs("</table>\n", out);
}

static void print_cards(const struct bench *b, FILE *out)
{
    struct goal goals[MAX_GOALS];
    unsigned n = goals_of(b, goals);
    if (!n)
        return;
    fprintf(out, "<h2>What %s must hold</h2><div class=\"cards\">", b->subjects[subject_of_kind(b, TIERCE)].name);
    for (unsigned i = 0; i < n; i++)
        fprintf(out, "<div class=\"card\">%s<b class=\"%s\">%.2f</b><span class=\"dim\">wanted %g %s: %s</span></div>\n", goals[i].label,
                goals[i].reached ? "good" : "bad", goals[i].got.median, goals[i].wanted, goals[i].unit, goals[i].reached ? "reached" : "not reached");
    fputs("</div>\n", out);
}

void report_html(const struct bench *b, FILE *out)
{
    fprintf(out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta name=\"viewport\" content=\"width=device-width\"/>"
                 "<title>tierce-bench %s</title>\n<style>%s</style></head><body>\n<h1>tierce-bench</h1>\n<p class=\"dim\">%s · ", b->date, style, b->date);
    print_escaped(out, b->host_cpu);
    fprintf(out, ", %ld CPUs, %ld MiB · ", b->host_cpus, b->host_mib);
    print_escaped(out, b->host_kernel);
    fputs("</p>\n<p class=\"dim\">", out);
    for (unsigned s = 0; s < b->subject_count; s++)
        if (b->subjects[s].kind != NATIVE) {
            fprintf(out, "%s%s: ", s && b->subjects[s - 1].kind != NATIVE ? " · " : "", b->subjects[s].name);
            print_escaped(out, b->subjects[s].version);
        }
    fprintf(out, "</p>\n<p class=\"dim\">%u rounds, %u ms for a program, the %s unit of work, guests with %u MiB, ", b->rounds, b->budget_ms,
            b->by_best ? "best" : "median", b->memory_mib);
    print_escaped(out, b->kernel_path);
    fputs("</p>\n", out);
    print_cards(b, out);
    print_charts(b, out);
    print_boot(b, out);
    print_translation(b, out);
    print_compiler(b, out);
    print_memory(b, out);
    print_state(b, out);
    print_cache(b, out);
    for (unsigned n = 0; n < b->grid_count; n++)
        print_grid(&b->grids[n], out);
    print_table(b, out);
    fputs("<script type=\"application/json\" id=\"data\">\n", out);
    report_json(b, out);
    fputs("</script>\n</body></html>\n", out);
}
