/* The thread that compiles.  Jobs wait by priority; one whose head a job of higher priority covers is dropped.  What is done is taken by
 * the vCPU's thread, which never waits for this one. */
#define _GNU_SOURCE
#include "runtime/job.h"
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

struct worker {
    struct machine *machine;
    pthread_t thread; bool started;
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct llvm_job *waiting, *running, *done;
    uint8_t *again; size_t again_size; /* compile_again: the last recipe */
    bool end;
    atomic_uint done_count;
};

void job_free(struct llvm_job *j)
{
    for (unsigned n = 0; n < j->recipe.block_count; n++) {
        ir_block_free(&j->of[n].ir);
        free(j->of[n].copy);
        free(j->of[n].seen);
        free(j->of[n].unmoved);
    }
    free(j->compiled.elf);
    free(j->of);
    free(j->recipe.blocks);
    free(j);
}

static void print_stage(void *ctx, enum llvm_stage stage, const char *text)
{
    struct llvm_job *j = ctx;
    trace_llvm(j->machine, j->of[0].pc, stage, text);
}

void job_compile(struct llvm_job *j)
{
    unsigned trace = j->machine->config.trace;
    j->options.stages = (trace & TRACE_LLVM_IR ? LLVM_STAGE_IR : 0) | (trace & TRACE_LLVM_OPT ? LLVM_STAGE_OPT : 0) | (trace & TRACE_LLVM_ASM ? LLVM_STAGE_ASM : 0);
    j->options.lines = j->machine->config.jitdump;
    j->options.print = print_stage;
    j->options.ctx = j;
    uint8_t *written;
    size_t size;
    j->ok = recipe_write(&j->recipe, &written, &size);
    if (!j->ok)
        return;
    j->ok = recipe_compile_written(j->machine->model, j->machine->vcpu->regions.translator, &j->recipe, written, size, &j->options, &j->compiled, j->error, sizeof j->error);
    recipe_key(j->machine->vcpu->regions.translator, &j->recipe, written, &j->key);
    free(written);
}

/* --- compile_again */
static void again_keep(struct worker *w, const struct llvm_job *j)
{
    if (!j->machine->config.compile_again)
        return;
    free(w->again);
    if (!recipe_write(&j->recipe, &w->again, &w->again_size))
        w->again = NULL;
}

static void compile_again(const struct worker *w)
{
    const struct llvm_options options = {0};
    struct llvm_compiled compiled = {0};
    char error[160];
    struct recipe *r = recipe_read(w->again, w->again_size, error, sizeof error);
    if (r && recipe_compile_written(w->machine->model, w->machine->vcpu->regions.translator, r, w->again, w->again_size, &options, &compiled, error, sizeof error))
        free(compiled.elf);
    free(r);
}

static void *worker_thread(void *arg)
{
    struct worker *w = arg;
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 1); /* this thread's own: a guest on the same core goes first */
    pthread_mutex_lock(&w->lock);
    while (!w->end) {
        struct llvm_job *j = w->waiting;
        if (!j && w->again) {
            pthread_mutex_unlock(&w->lock);
            compile_again(w);
            pthread_mutex_lock(&w->lock);
            continue;
        }
        if (!j) {
            pthread_cond_wait(&w->work, &w->lock);
            continue;
        }
        w->waiting = j->next;
        w->running = j;
        pthread_mutex_unlock(&w->lock);
        job_compile(j);
        cache_keep(j);
        again_keep(w, j);
        pthread_mutex_lock(&w->lock);
        w->running = NULL;
        j->next = w->done;
        w->done = j;
        atomic_fetch_add(&w->done_count, 1);
        vcpu_kick(j->machine);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static bool covers(const struct llvm_job *j, uint64_t phys, uint64_t pc, uint32_t mode)
{
    for (unsigned n = 0; n < j->recipe.block_count && j->mode == mode; n++)
        if (j->of[n].phys == phys && j->of[n].pc == pc)
            return true;
    return false;
}

static struct worker *worker_of(struct vcpu *v)
{
    struct worker *w = v->regions.worker;
    if (w)
        return w;
    if (!(w = calloc(1, sizeof *w)))
        return NULL;
    w->machine = v->machine;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->work, NULL);
    w->started = thread_without_signals(&w->thread, worker_thread, w);
    return v->regions.worker = w;
}

static void drop_covered(struct vcpu *v, struct worker *w, const struct llvm_job *by)
{
    for (struct llvm_job **at = &w->waiting, *j; (j = *at);) {
        if (!covers(by, j->of[0].phys, j->of[0].pc, j->mode) || j->recipe.block_count > by->recipe.block_count) {
            at = &j->next;
            continue;
        }
        *at = j->next;
        job_free(j);
        v->stats.jobs_dropped++;
    }
}

static void enqueue(struct worker *w, struct llvm_job *j)
{
    struct llvm_job **at = &w->waiting;
    while (*at && (*at)->priority >= j->priority)
        at = &(*at)->next;
    j->next = *at;
    *at = j;
}

void worker_submit(struct vcpu *v, struct llvm_job *j)
{
    struct worker *w = worker_of(v);
    if (!w || !w->started) {
        job_free(j);
        return;
    }
    pthread_mutex_lock(&w->lock);
    drop_covered(v, w, j);
    enqueue(w, j);
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->lock);
}

struct llvm_job *worker_done(struct vcpu *v)
{
    struct worker *w = v->regions.worker;
    if (!w || !atomic_load(&w->done_count))
        return NULL;
    pthread_mutex_lock(&w->lock);
    struct llvm_job *j = w->done;
    if (j) {
        w->done = j->next;
        atomic_fetch_sub(&w->done_count, 1);
    }
    pthread_mutex_unlock(&w->lock);
    return j;
}

/* What is asked for again while it waits goes before others. */
static void urge(struct worker *w, uint64_t phys, uint64_t pc, uint32_t mode)
{
    for (struct llvm_job **at = &w->waiting, *j; (j = *at); at = &j->next)
        if (covers(j, phys, pc, mode)) {
            *at = j->next;
            j->priority *= 2;
            enqueue(w, j);
            return;
        }
}

bool worker_has(struct vcpu *v, uint64_t phys, uint64_t pc, uint32_t mode)
{
    struct worker *w = v->regions.worker;
    bool has = false;
    if (!w)
        return false;
    pthread_mutex_lock(&w->lock);
    urge(w, phys, pc, mode);
    has = w->running && covers(w->running, phys, pc, mode);
    for (const struct llvm_job *j = w->waiting; j && !has; j = j->next)
        has = covers(j, phys, pc, mode);
    for (const struct llvm_job *j = w->done; j && !has; j = j->next)
        has = covers(j, phys, pc, mode);
    pthread_mutex_unlock(&w->lock);
    return has;
}

bool machine_is_compiling(struct machine *m)
{
    struct worker *w = m->vcpu ? m->vcpu->regions.worker : NULL;
    if (!w)
        return false;
    pthread_mutex_lock(&w->lock);
    bool busy = w->running;
    pthread_mutex_unlock(&w->lock);
    return busy;
}

void worker_each(struct vcpu *v, void (*each)(void *ctx, const struct llvm_job *), void *ctx)
{
    struct worker *w = v->regions.worker;
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    for (const struct llvm_job *j = w->waiting; j; j = j->next)
        each(ctx, j);
    pthread_mutex_unlock(&w->lock);
}

static void jobs_free(struct llvm_job *j)
{
    while (j) {
        struct llvm_job *next = j->next;
        job_free(j);
        j = next;
    }
}

void worker_free(struct vcpu *v)
{
    struct worker *w = v->regions.worker;
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->end = true;
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->lock);
    if (w->started)
        pthread_join(w->thread, NULL);
    free(w->again);
    jobs_free(w->waiting);
    jobs_free(w->done);
    pthread_cond_destroy(&w->work);
    pthread_mutex_destroy(&w->lock);
    free(w);
    v->regions.worker = NULL;
}
