/* tierce-bench - measures guest programs natively, in each tier, and under QEMU, interleaved in one run.
 * The guests are Linux with an initramfs that holds one program, tests/guests/bench; it runs what we ask for on the serial
 * line.  options.c says what can be asked, find.c what is there, measure.c measures, summary.c and report_*.c tell. */
#define _GNU_SOURCE
#include "tools/tierce-bench/bench.h"
#include "tools/tierce-bench/json.h"
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void clear_progress(void)
{
    if (isatty(2))
        fputs("\r\033[K", stderr);
}

void complain(const char *format, ...)
{
    va_list args;
    clear_progress();
    va_start(args, format);
    fputs("tierce-bench: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

void die(int status, const char *format, ...)
{
    va_list args;
    clear_progress();
    va_start(args, format);
    fputs("tierce-bench: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(status);
}

void progress(const char *format, ...)
{
    va_list args;
    if (!isatty(2))
        return;
    clear_progress();
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
}

double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void measure(struct bench *b)
{
    if (b->program_count && (b->with_programs || b->with_translate))
        measure_programs(b);
    if (b->with_translate)
        measure_stages(b);
    if (b->with_latency)
        measure_latency(b);
    if (b->with_load)
        measure_load(b);
    if (b->with_boot)
        measure_boot(b);
    if (b->with_memory)
        measure_memory(b);
    if (b->with_state)
        measure_state(b);
    if (b->with_cache)
        measure_cache(b);
    if (b->with_cache_boot)
        measure_cache_boot(b);
    if (b->with_cache_programs)
        measure_cache_programs(b);
}

int main(int argc, char **argv)
{
    static void (*const reports[])(const struct bench *, FILE *) = {report_text, report_json, report_html};
    struct bench *b = calloc(1, sizeof *b);
    if (!b)
        die(1, "out of memory");
    options_parse(b, argc, argv);
    setenv("TIERCE_CACHE", "off", 1); /* what a former run compiled is not to be measured */
    if (b->compare)
        b->old = compare_load(b->compare);
    find_all(b);
    FILE *out = b->output ? fopen(b->output, "w") : stdout;
    if (!out)
        die(1, "-o %s: %s; accepted: a file that can be written", b->output, strerror(errno));
    signal(SIGPIPE, SIG_IGN);
    measure(b);
    clear_progress();
    if (b->with_kvm)
        measure_kvm(b, out);
    if (!b->with_kvm || measures_guests(b) || b->with_cache)
        reports[b->format](b, out);
    bool written = !ferror(out) && !fclose(out);
    int status = b->failures || !written;
    json_free(b->old);
    free(b);
    return status;
}
