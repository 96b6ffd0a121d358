/* --compare: the JSON of a former run beside this one.  What is compared is times native, because that a different host or
 * load leaves more or less as it was; without a native run on both sides, the time itself. */
#include "tools/tierce-bench/bench.h"
#include "tools/tierce-bench/json.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static char *read_text(const char *path)
{
    FILE *f = fopen(path, "r");
    size_t have = 0, room = 1 << 16;
    char *text = f ? malloc(room) : NULL;
    if (!text)
        die(1, "--compare %s: %s; accepted: a file that --format json wrote", path, strerror(errno));
    for (size_t n; (n = fread(text + have, 1, room - have - 1, f)) > 0;) {
        have += n;
        if (have + 1 < room)
            continue;
        text = realloc(text, room *= 2);
        if (!text)
            die(1, "out of memory");
    }
    fclose(f);
    text[have] = 0;
    return text;
}

struct json *compare_load(const char *path)
{
    char *text = read_text(path);
    size_t at;
    struct json *j = json_parse(text, &at);
    const struct json *tool = json_member(j, "tool");
    free(text);
    if (!j)
        die(1, "--compare %s: not JSON at byte %zu; accepted: a file that --format json wrote", path, at);
    if (!tool || tool->type != JSON_STRING || strcmp(tool->text, "tierce-bench") || !json_member(j, "programs"))
        die(1, "--compare %s: not a report of tierce-bench; accepted: a file that --format json wrote", path);
    return j;
}

static double median(const struct json *result, const char *figures)
{
    const struct json *m = json_member(json_member(result, figures), "median");
    return m && m->type == JSON_NUMBER ? m->number : NAN;
}

static const struct json *old_result(const struct json *old, const char *program, const char *subject)
{
    for (const struct json *p = json_member(old, "programs")->child; p; p = p->next) {
        const struct json *name = json_member(p, "name");
        if (name && name->type == JSON_STRING && !strcmp(name->text, program))
            return json_member(json_member(p, "results"), subject);
    }
    return NULL;
}

static void compare_subject(const struct bench *b, const struct json *old, unsigned s, FILE *out)
{
    int native = subject_of_kind(b, NATIVE);
    double changes[MAX_PROGRAMS];
    size_t n = 0;
    for (unsigned p = 0; p < b->program_count; p++) {
        const struct json *result = old_result(old, b->programs[p].name, b->subjects[s].name);
        double before = median(result, "times_native"), now = native >= 0 ? ratio_figures(b, p, s, (unsigned)native).median : NAN;
        const char *unit = "x";
        if (!isfinite(before) || !isfinite(now)) {
            unit = " ms";
            before = median(result, "unit_ns") / 1e6;
            now = unit_figures(b, p, s).median / 1e6;
        }
        if (!isfinite(before) || !isfinite(now))
            continue;
        changes[n++] = before / now;
        fprintf(out, "%-24s %-8s %12.3f%s %12.3f%s %8.2f\n", b->programs[p].name, b->subjects[s].name, before, unit, now, unit, before / now);
    }
    if (n)
        fprintf(out, "%-24s %-8s %39.2f\n", "geometric mean", b->subjects[s].name, geomean_of(changes, n));
}

void compare_text(const struct bench *b, const struct json *old, FILE *out)
{
    fprintf(out, "\nAgainst %s (x: times native)\n%-24s %-8s %13s %13s %9s\n", b->compare, "", "", "then", "now", "faster");
    for (unsigned s = 0; s < b->subject_count; s++)
        if (b->subjects[s].kind != NATIVE)
            compare_subject(b, old, s, out);
}
