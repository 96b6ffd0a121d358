/* Which tier the vCPU's thread is in, sampled by a timer of its own CPU time: that costs some microseconds a sample, where to count
 * instructions would slow all code.  The signal comes to that thread alone, in the middle of anything, so the handler only adds. */
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

static void on_sample(int number, siginfo_t *info, void *context)
{
    const ucontext_t *u = context;
    (void)number;
    if (sampled && info->si_code == SI_TIMER) /* the kernel looks at such timers at its own ticks: one signal may stand for several */
        book(sampled, (const void *)u->uc_mcontext.gregs[REG_RIP], 1 + (unsigned)info->si_overrun);
}

void sample_begin(struct vcpu *v)
{
    struct sigaction action = {.sa_sigaction = on_sample, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF};
    const struct itimerspec every = {{0, SAMPLE_NS}, {0, SAMPLE_NS}};
    timer_t *timer = v->measuring ? malloc(sizeof *timer) : NULL;
    if (!timer)
        return;
    sigemptyset(&action.sa_mask);
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    if (sigaction(SIGPROF, &action, NULL) || timer_create(CLOCK_THREAD_CPUTIME_ID, &event, timer)) {
        free(timer); /* no samples, then */
        return;
    }
    sampled = v;
    v->sampling = timer;
    timer_settime(*timer, 0, &every, NULL);
}

void sample_end(struct vcpu *v)
{
    timer_t *timer = v->sampling;
    if (!timer)
        return;
    timer_delete(*timer);
    sampled = NULL;
    v->sampling = NULL;
    free(timer);
}
