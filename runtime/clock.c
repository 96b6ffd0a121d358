/* Virtual time: the host's monotonic clock less the time spent stopped, or instructions under --icount.  Its alarms are run by the vCPU's
 * thread, so that no guest sees a device that is behind the time because another thread has to wait for a CPU: with --icount at exact
 * instructions, else when the guest asks a device for something, when it waits, halted, and when a timer of the host's interrupts
 * that thread, whatever it runs.  Where there can be no such timer, the main loop runs them. */
#define _GNU_SOURCE
#include "runtime/internal.h"
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif
#define FAR (1ull << 62) /* deadlines that the host's timer cannot have */

uint64_t machine_host_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t machine_now(struct machine *m)
{
    if (m->config.icount)
        return vcpu_icount_now(m);
    return (m->paused ? m->paused_at : machine_host_ns()) - m->clock_base;
}

void machine_clock_pause(struct machine *m, bool pause)
{
    if (pause == m->paused)
        return;
    uint64_t now = machine_host_ns();
    if (pause)
        m->paused_at = now;
    else
        m->clock_base += now - m->paused_at;
    m->paused = pause;
    if (!pause)
        clock_alarms_due(m);
}

static struct machine *machine_of(struct clock *clock) { return (struct machine *)((char *)clock - offsetof(struct machine, clock)); }

static uint64_t now(struct clock *clock)
{
    struct machine *m = machine_of(clock);
    return m->access_ns ? m->access_ns : machine_now(m);
}

/* --- The host's timer */
static int timer_signal(void) { return SIGRTMIN + 5; }
static __thread struct machine *ticking;

void clock_alarms_due(struct machine *m)
{
    atomic_store(&m->alarms_due, true);
    __atomic_store_n(&m->vcpu->cpu.state.stop, 1, __ATOMIC_SEQ_CST);
    if (m->accel)
        m->config.accel->kick(m->accel);
}

static void on_timer(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    if (ticking && info->si_code == SI_TIMER)
        clock_alarms_due(ticking);
}

/* One that goes off too early does no harm: it is set anew then. */
static void timer_set(struct machine *m)
{
    uint64_t deadline = clock_next_deadline(&m->clock), at = deadline < FAR ? deadline + m->clock_base : FAR;
    if (!m->has_timer || m->paused || deadline == UINT64_MAX || at >= m->timer_at)
        return;
    const struct itimerspec once = {.it_value = {(time_t)(at / 1000000000u), (long)(at % 1000000000u)}};
    m->timer_at = at;
    timer_settime(m->timer, TIMER_ABSTIME, &once, NULL);
}

static void changed(struct clock *clock)
{
    struct machine *m = machine_of(clock);
    if (m->config.icount) /* the slice that runs may be too long now */
        vcpu_kick(m);
    else if (m->has_timer)
        timer_set(m);
    else
        machine_wake_main(m);
}

void machine_clock_init(struct machine *m)
{
    m->clock = (struct clock){.now = now, .changed = changed};
    m->clock_base = machine_host_ns();
    m->timer_at = UINT64_MAX;
}

#ifdef TIERCE_LATE_SIGNALS /* a signal is kept until the thread calls into libc, which translated code need not do */
enum { SIGNALS_COME = 0 };
#else
enum { SIGNALS_COME = 1 };
#endif

void clock_timer_begin(struct machine *m)
{
    struct sigaction action = {.sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = timer_signal()};
    sigset_t ours;
    sigemptyset(&action.sa_mask);
    sigemptyset(&ours);
    sigaddset(&ours, timer_signal());
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    ticking = m;
    pthread_sigmask(SIG_UNBLOCK, &ours, NULL);
    pthread_mutex_lock(&m->lock);
    m->has_timer = SIGNALS_COME && !m->config.icount && !sigaction(timer_signal(), &action, NULL) && !timer_create(CLOCK_MONOTONIC, &event, &m->timer);
    clock_alarms_due(m);
    pthread_mutex_unlock(&m->lock);
}

void clock_timer_end(struct machine *m)
{
    pthread_mutex_lock(&m->lock);
    if (m->has_timer)
        timer_delete(m->timer);
    m->has_timer = false;
    pthread_mutex_unlock(&m->lock);
    ticking = NULL;
}

/* --- Who runs alarms */
static void run_due(struct machine *m)
{
    if (!m->config.icount && !m->paused)
        clock_run_alarms(&m->clock);
}

void clock_serve(struct machine *m)
{
    if (!atomic_exchange(&m->alarms_due, false))
        return;
    pthread_mutex_lock(&m->lock);
    run_due(m);
    m->timer_at = UINT64_MAX;
    timer_set(m);
    pthread_mutex_unlock(&m->lock);
}

/* Time stands still as long as the access takes: the halves of a 64-bit counter belong together, and a count past an alarm's time, with the
 * alarm not gone off, is nothing that a guest may see. */
void machine_access_begin(struct machine *m)
{
    pthread_mutex_lock(&m->lock);
    if (m->config.icount || m->paused)
        return;
    m->access_ns = machine_now(m);
    clock_run_alarms(&m->clock);
}

void machine_access_end(struct machine *m)
{
    m->access_ns = 0;
    pthread_mutex_unlock(&m->lock);
}
