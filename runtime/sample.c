/* Two timers that interrupt the vCPU's thread, and it alone, in the middle of anything, so that the handler only adds and notes.
 * --stats: which tier the thread is in, by a timer of its own CPU time: that costs some microseconds a sample, where to count instructions would
 * slow all code.  --sample: the signal makes the accelerator leave the guest, whose PC is then looked at (profile_sample.c); by the time that
 * passes, for timers of CPU time go off at the host's ticks alone, which are rarer than samples are wanted. */
#define _GNU_SOURCE
#include "runtime/internal.h"
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { TIMERS = 2 };
enum timer { BOOKING, GUEST };
struct sampling { timer_t timers[TIMERS]; bool runs[TIMERS]; };
static __thread struct vcpu *sampled;

static void book(struct vcpu *v, const void *pc, unsigned samples)
{
    struct stats *s = &v->stats;
    size_t at = tcg_buffer_contains(v->tbs.buffer, pc) ? tcg_buffer_offset(v->tbs.buffer, pc) : SIZE_MAX, in_area = at - v->tbs.buffer_size;
    if (at == SIZE_MAX)
        *(v->booked == STATS_interpreted ? &s->samples_interp : &s->samples_other) += samples;
    else if (at < v->tbs.buffer_size || in_area >= REGION_AREA)
        s->samples_tcg += samples;
    else {
        s->samples_llvm += samples;
        if (v->regions.samples)
            v->regions.samples[in_area / 64] += samples;
    }
}

static void ask(struct vcpu *v)
{
    if (!v->away)
        return;
    v->sample_due = true;
    v->machine->config.accel->kick(v->machine->accel);
}

static void on_sample(int number, siginfo_t *info, void *context)
{
    const ucontext_t *u = context;
    (void)number;
    if (!sampled || info->si_code != SI_TIMER)
        return;
    if (info->si_value.sival_int == GUEST)
        ask(sampled);
    else /* the kernel looks at such timers at its own ticks: one signal may stand for several */
        book(sampled, (const void *)u->uc_mcontext.gregs[REG_RIP], 1 + (unsigned)info->si_overrun);
}

static void timer_begin(struct sampling *s, enum timer n, clockid_t clock, uint64_t ns)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF, .sigev_value.sival_int = n};
    const struct timespec each = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    const struct itimerspec every = {each, each};
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    s->runs[n] = !timer_create(clock, &event, &s->timers[n]); /* else there are no samples */
    if (s->runs[n])
        timer_settime(s->timers[n], 0, &every, NULL);
}

void sample_begin(struct vcpu *v)
{
    struct sigaction action = {.sa_sigaction = on_sample, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    unsigned hz = v->machine->config.sample_hz;
    sigemptyset(&action.sa_mask);
    if ((!v->measuring && !hz) || !(v->sampling = calloc(1, sizeof *v->sampling)) || sigaction(SIGPROF, &action, NULL))
        return;
    sampled = v;
    if (v->measuring)
        timer_begin(v->sampling, BOOKING, CLOCK_THREAD_CPUTIME_ID, SAMPLE_NS);
    if (hz && v->machine->accel)
        timer_begin(v->sampling, GUEST, CLOCK_MONOTONIC, 1000000000u / hz);
}

void sample_end(struct vcpu *v)
{
    struct sampling *s = v->sampling;
    for (unsigned n = 0; s && n < TIMERS; n++)
        if (s->runs[n])
            timer_delete(s->timers[n]);
    sampled = NULL;
    v->sampling = NULL;
    free(s);
}
