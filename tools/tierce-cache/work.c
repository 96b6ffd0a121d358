/* Recipes to be compiled, and the threads that do it. */
#define _GNU_SOURCE
#include "tools/tierce-cache/tool.h"
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* --- Lists */
void items_add(struct items *l, const uint64_t translator[2], const struct recipe *r, uint64_t weight, unsigned insns, unsigned bytes)
{
    checked(grown((void **)&l->at, &l->room, l->count, sizeof *l->at));
    struct item *i = &l->at[l->count++];
    *i = (struct item){.weight = weight, .insns = insns, .bytes = bytes};
    cache_key(translator, r, &i->key);
    if (!recipe_write(r, &i->recipe, &i->size))
        die(1, "out of memory");
}

static int by_key(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    int order = memcmp(&x->key, &y->key, sizeof x->key);
    return order ? order : (x->weight < y->weight) - (x->weight > y->weight);
}
static int by_weight(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->weight != y->weight)
        return x->weight < y->weight ? 1 : -1;
    return memcmp(&x->key, &y->key, sizeof x->key);
}

void items_sort(struct items *l)
{
    size_t kept = 0;
    if (!l->count)
        return;
    qsort(l->at, l->count, sizeof *l->at, by_key);
    for (size_t n = 0; n < l->count; n++)
        if (kept && !memcmp(&l->at[kept - 1].key, &l->at[n].key, sizeof l->at[n].key))
            free(l->at[n].recipe);
        else
            l->at[kept++] = l->at[n];
    l->count = kept;
    qsort(l->at, l->count, sizeof *l->at, by_weight);
    l->insns = l->bytes = 0;
    for (size_t n = 0; n < l->count; n++) {
        l->insns += l->at[n].insns;
        l->bytes += l->at[n].bytes;
    }
}

void items_free(struct items *l)
{
    for (size_t n = 0; n < l->count; n++)
        free(l->at[n].recipe);
    free(l->at);
    *l = (struct items){0};
}

/* --- Compiling */
struct pool {
    struct store *store; const struct items *items; const struct options *o; const struct x86_model *model; const uint64_t *translator;
    volatile bool *stop;
    atomic_size_t next, done;
    atomic_uint running;
    pthread_mutex_t lock;         /* of what follows */
    struct outcome *out;
    double begin;
};

static uint64_t thread_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

enum made { PRESENT, COMPILED, REFUSED, NOT_STORED };
static enum made make(struct pool *p, const struct item *i, size_t *object, char *error, size_t size)
{
    struct llvm_compiled c = {0};
    if (store_has(p->store, &i->key))
        return PRESENT;
    struct recipe *r = recipe_read(i->recipe, i->size, error, size);
    bool ok = r && recipe_compile(p->model, p->translator, r, &c, error, size);
    free(r);
    if (!ok)
        return REFUSED;
    bool put = store_put(p->store, &i->key, c.elf, c.elf_size);
    if (!put && store_flush(p->store)) /* too much waited to be written */
        put = store_put(p->store, &i->key, c.elf, c.elf_size);
    *object = c.elf_size;
    free(c.elf);
    return put ? COMPILED : NOT_STORED;
}

static void note(struct pool *p, const struct item *i, enum made made, size_t object, uint64_t ns, const char *error)
{
    struct outcome *out = p->out;
    pthread_mutex_lock(&p->lock);
    out->present += made == PRESENT;
    out->compiled += made == COMPILED;
    out->refused += made == REFUSED;
    if (made == COMPILED) {
        out->insns += i->insns;
        out->bytes += i->bytes;
        out->object_bytes += object;
    }
    if (made == REFUSED && !*out->first_refused)
        snprintf(out->first_refused, sizeof out->first_refused, "%s", error);
    if (made == NOT_STORED)
        *p->stop = true;
    out->cpu_ns += ns;
    pthread_mutex_unlock(&p->lock);
}

static bool time_is_up(const struct pool *p) { return p->o->seconds && seconds_now() - p->begin >= p->o->seconds; }

static void *worker(void *arg)
{
    struct pool *p = arg;
    while (!*p->stop && !time_is_up(p)) {
        size_t n = atomic_fetch_add(&p->next, 1), object = 0;
        char error[200] = "";
        if (n >= p->items->count)
            break;
        uint64_t before = thread_ns();
        enum made made = make(p, &p->items->at[n], &object, error, sizeof error);
        note(p, &p->items->at[n], made, object, thread_ns() - before, error);
        atomic_fetch_add(&p->done, 1);
    }
    atomic_fetch_sub(&p->running, 1);
    return NULL;
}

/* --- Progress: a bar on a terminal, a line now and then elsewhere. */
static void print_bar(const struct pool *p, size_t done, double rate, double left)
{
    char bar[31] = "";
    size_t full = p->items->count ? done * 30 / p->items->count : 30;
    for (size_t n = 0; n < 30; n++)
        bar[n] = n < full ? '#' : '.';
    fprintf(stderr, "\r[%s] %zu/%zu regions, %.2f MB/min, %d:%02d left \033[K", bar, done, p->items->count, rate, (int)left / 60, (int)left % 60);
    fflush(stderr);
}

static void progress(struct pool *p, double *next_line)
{
    size_t done = atomic_load(&p->done);
    double now = seconds_now() - p->begin;
    pthread_mutex_lock(&p->lock);
    double rate = now > 0 ? (double)p->out->bytes / 1e6 / now * 60 : 0;
    pthread_mutex_unlock(&p->lock);
    double left = done && now > 0 ? (double)(p->items->count - done) * now / (double)done : 0;
    if (isatty(STDERR_FILENO))
        print_bar(p, done, rate, left);
    else if (now >= *next_line) {
        fprintf(stderr, "%zu of %zu regions, %.2f MB/min, %.0f s left\n", done, p->items->count, rate, left);
        *next_line = now + 10;
    }
}

void work_run(struct store *store, const struct items *items, const struct options *o, const struct x86_model *model, const uint64_t translator[2], volatile bool *stop,
              struct outcome *out)
{
    struct pool p = {.store = store, .items = items, .o = o, .model = model, .translator = translator, .stop = stop, .out = out, .begin = seconds_now()};
    unsigned threads = o->threads, started = 0;
    pthread_t *thread = checked(calloc(threads, sizeof *thread));
    double next_line = 10;
    *out = (struct outcome){0};
    pthread_mutex_init(&p.lock, NULL);
    atomic_store(&p.running, threads);
    while (started < threads && !pthread_create(&thread[started], NULL, worker, &p))
        started++;
    if (!started)
        die(1, "no thread can be started");
    atomic_fetch_sub(&p.running, threads - started);
    while (atomic_load(&p.running)) {
        usleep(items->count < 50 ? 5000 : 100000);
        if (!o->quiet)
            progress(&p, &next_line);
    }
    for (unsigned n = 0; n < started; n++)
        pthread_join(thread[n], NULL);
    if (!o->quiet && isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
    free(thread);
    pthread_mutex_destroy(&p.lock);
    out->seconds = seconds_now() - p.begin;
    out->left = items->count - atomic_load(&p.done);
}
