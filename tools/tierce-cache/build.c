/* tierce-cache build: what is to be compiled is gathered from files or from profiles, cut to one of several jobs, and compiled. */
#define _GNU_SOURCE
#include "tools/tierce-cache/tool.h"
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define TEMPLATES_MOST (768ull << 20)
static volatile bool stop;
static void on_signal(int signal) /* the second one ends the process */
{
    struct sigaction plain = {.sa_handler = SIG_DFL};
    stop = true;
    sigaction(signal, &plain, NULL);
}

static void catch_signals(void)
{
    struct sigaction a = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
}

/* --- Jobs: by key, so that a job is the same whichever the others are. */
static void keep_job(struct items *l, const struct options *o)
{
    size_t kept = 0;
    for (size_t n = 0; n < l->count; n++)
        if (!o->has_job || l->at[n].key.whole[0] % o->jobs == o->job)
            l->at[kept++] = l->at[n];
        else
            free(l->at[n].recipe);
    l->count = kept;
    for (; o->most && l->count > o->most;)
        free(l->at[--l->count].recipe);
}

static void print_quoted(const char *text)
{
    if (*text && !text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=,+-")]) {
        printf(" %s", text);
        return;
    }
    fputs(" '", stdout);
    for (; *text; text++)
        printf(*text == '\'' ? "'\\''" : "%c", *text);
    putchar('\'');
}

/* One command line a job, for a shell. */
static void print_jobs(const struct options *o, const char *const *files, unsigned count)
{
    for (unsigned job = 0; job < o->jobs; job++) {
        printf("%s build --jobs %u --job %u --threads 1 --cache", program_invocation_name, o->jobs, job);
        print_quoted(store_path(o));
        if (o->cpu)
            printf(" --cpu"), print_quoted(o->cpu);
        for (unsigned n = 0; n < o->layer_count; n++)
            printf(" --cache-layer"), print_quoted(o->layers[n]);
        if (o->remote)
            printf(" --cache-remote"), print_quoted(o->remote);
        for (unsigned n = 0; n < o->mode_count; n++)
            printf(" --mode 0x%08x", o->modes[n]);
        if (o->compress)
            printf(" --compress");
        if (o->profiles)
            printf(" --profiles");
        if (o->least > 1)
            printf(" --least %u", o->least);
        if (o->most)
            printf(" --most %u", o->most);
        if (o->seconds)
            printf(" --seconds %u", o->seconds);
        if (o->runs > 1)
            printf(" --runs %" PRIu64, o->runs);
        for (unsigned n = 0; n < o->initrd_count; n++)
            printf(" --initrd"), print_quoted(o->initrds[n]);
        if (count)
            printf(" --");
        for (unsigned n = 0; n < count; n++)
            print_quoted(files[n]);
        putchar('\n');
    }
}

/* --- Reports */
static double percent(uint64_t part, uint64_t whole) { return whole ? 100.0 * (double)part / (double)whole : 0; }
/* Guest bytes in millions for each minute of one CPU. */
static double speed(const struct outcome *r) { return r->cpu_ns ? (double)r->bytes / 1e6 / ((double)r->cpu_ns * 1e-9 / 60) : 0; }

static void print_coverage(const struct sources *s)
{
    char code[16];
    for (size_t n = 0; n < s->file_count; n++) {
        const struct coverage *v = &s->files[n];
        if (*v->why) {
            printf("%s: passed over: %s\n", v->name, v->why);
            continue;
        }
        size_text(v->code, code);
        printf("%s: %s of code, %.1f %% found: %zu blocks, %" PRIu64 " instructions, %zu jump tables, %zu undecodable, %zu for the interpreter alone; %zu regions", v->name,
               code, percent(v->found, v->code), v->blocks, v->insns, v->tables, v->bad, v->refused, v->regions);
        if (v->patched)
            printf("; %zu places patched as at boot", v->patched);
        putchar('\n');
    }
    if (s->skipped)
        printf("%zu other files in initial RAM disks are no programs\n", s->skipped);
    size_text(s->template_bytes, code);
    if (s->template_count)
        printf("template code of %u blocks, %s\n", s->template_count, code);
}

static void print_outcome(const struct outcome *r, const struct options *o)
{
    char object[16];
    size_text(r->object_bytes, object);
    printf("compiled %zu regions: %" PRIu64 " guest instructions, %.3f MB, to objects of %s, in %.1f s on %u thread%s: %.3f guest MB a core-minute\n", r->compiled, r->insns,
           (double)r->bytes / 1e6, object, r->seconds, o->threads, o->threads == 1 ? "" : "s", speed(r));
    if (r->present)
        printf("%zu regions were there already\n", r->present);
    if (r->refused)
        printf("%zu regions were refused; the first: %s\n", r->refused, r->first_refused);
}

static void json_coverage(const struct sources *s)
{
    fputs("\"files\": [", stdout);
    for (size_t n = 0; n < s->file_count; n++) {
        const struct coverage *v = &s->files[n];
        fputs(n ? ", {\"name\": " : "{\"name\": ", stdout);
        json_string(stdout, v->name);
        if (*v->why) {
            fputs(", \"passed_over\": ", stdout);
            json_string(stdout, v->why);
        }
        printf(", \"code_bytes\": %" PRIu64 ", \"found_bytes\": %" PRIu64 ", \"instructions\": %" PRIu64 ", \"blocks\": %zu, \"refused_blocks\": %zu, \"undecodable\": %zu, "
               "\"jump_tables\": %zu, \"regions\": %zu, \"patched\": %zu}", v->code, v->found, v->insns, v->blocks, v->refused, v->bad, v->tables, v->regions, v->patched);
    }
    printf("], \"other_files\": %zu, \"templates\": %u, \"template_bytes\": %" PRIu64, s->skipped, s->template_count, s->template_bytes);
}

static void json_outcome(const struct outcome *r, const struct options *o)
{
    printf(", \"compiled\": %zu, \"present\": %zu, \"refused\": %zu, \"left\": %zu, \"instructions\": %" PRIu64 ", \"guest_bytes\": %" PRIu64 ", \"object_bytes\": %" PRIu64
           ", \"threads\": %u, \"seconds\": %.3f, \"cpu_seconds\": %.3f, \"guest_mb_per_core_minute\": %.4f", r->compiled, r->present, r->refused, r->left, r->insns, r->bytes,
           r->object_bytes, o->threads, r->seconds, (double)r->cpu_ns * 1e-9, speed(r));
}

/* --- The command */
static void report_left(const struct outcome *r, const struct options *o)
{
    if (!r->left)
        return;
    if (stop)
        fprintf(stderr, "%s: stopped with %zu regions left; what is done is kept, and the same command goes on from here\n", tool_name, r->left);
    else if (!o->quiet)
        fprintf(stderr, "%s: the %u seconds are up with %zu regions left; the same command goes on from here\n", tool_name, o->seconds, r->left);
}

static int compile(struct options *o, struct sources *s, struct store *store, const struct x86_model *model, const uint64_t translator[2])
{
    struct outcome r;
    work_run(store, &s->items, o, model, translator, &stop, &r);
    bool written = store_flush(store);
    store_close(store);
    if (o->json)
        json_outcome(&r, o), puts("}");
    else
        print_outcome(&r, o);
    report_left(&r, o);
    if (!written)
        die(1, "the cache '%s' cannot be written", store_path(o));
    return stop ? 1 : 0;
}

static void check(const struct options *o, bool files)
{
    if (o->has_job && !o->jobs)
        die(2, "--job needs --jobs COUNT");
    if (o->has_job && o->job >= o->jobs)
        die(2, "--job '%u': accepted is a number from 0 to %u, one less than --jobs", o->job, o->jobs - 1);
    if (o->list_jobs && !o->jobs)
        die(2, "--list-jobs needs --jobs COUNT");
    if (o->profiles && files)
        die(2, "--profiles goes without files: accepted is one of them");
    if (o->list_blocks && !files)
        die(2, "--list-blocks needs files to look at");
}

/* Written before anything is compiled by LLVM: it takes seconds, and a build may be cut short. */
static void templates_put(struct sources *s, const struct options *o, struct store *store, const uint64_t translator[2])
{
    if (!s->templates)
        return;
    s->template_count = template_writer_count(s->templates, &s->template_bytes);
    if (!template_writer_put(s->templates, store, translator, false, TEMPLATES_OF_FILES))
        die(1, "the cache '%s' cannot be written", store_path(o));
    template_writer_free(s->templates);
    s->templates = NULL;
}

int build_run(struct options *o, const char *const *files, unsigned count)
{
    struct sources s = {0};
    uint64_t translator[2];
    bool from_files = count || o->initrd_count;
    check(o, from_files);
    if (o->list_jobs) {
        print_jobs(o, files, count);
        return 0;
    }
    catch_signals();
    const struct x86_model *model = model_of(o);
    bool only_look = o->dry_run || o->list_blocks;
    struct store *store = only_look && from_files ? NULL : store_get_open(o, only_look ? READ_ONLY : WRITABLE);
    cache_translator(model, translator);
    if (from_files && !only_look && (!o->has_job || !o->job) && (s.templates = template_writer_new(TEMPLATES_MOST)))
        template_writer_take(s.templates, store, translator, false, TEMPLATES_OF_FILES);
    if (from_files)
        static_collect(&s, o, model, translator, files, count, &stop);
    else if (!profiles_collect(&s.items, store, o, model, translator))
        die(1, "'%s' has no profiles: run `tierce --cache=%s ...` first, or name files to translate", store_path(o), store_path(o));
    if (!stop)
        templates_put(&s, o, store, translator);
    if (stop)
        die(1, "interrupted while it looked for code; nothing was compiled");
    items_sort(&s.items);
    keep_job(&s.items, o);
    if (o->json)
        putchar('{'), json_coverage(&s);
    else if (!o->quiet && !o->list_blocks)
        print_coverage(&s);
    int status = 0;
    if (!only_look)
        status = compile(o, &s, store, model, translator);
    else if (o->json)
        printf(", \"to_compile\": %zu}\n", s.items.count);
    else if (!o->list_blocks)
        printf("%zu regions to compile: %" PRIu64 " guest instructions\n", s.items.count, s.items.insns);
    if (only_look && store)
        store_close(store);
    items_free(&s.items);
    free(s.files);
    x86_model_free(model);
    return status;
}
