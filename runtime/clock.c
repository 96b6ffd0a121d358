/* Virtual time: the host's monotonic clock less the time spent stopped, or instructions under --icount. */
#include "runtime/internal.h"
#include <unistd.h>

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
}

static uint64_t now(struct clock *clock)
{
    return machine_now((struct machine *)((char *)clock - offsetof(struct machine, clock)));
}

static void changed(struct clock *clock)
{
    struct machine *m = (struct machine *)((char *)clock - offsetof(struct machine, clock));
    uint64_t one = 1;
    if (m->config.icount) /* the slice that runs may be too long now */
        vcpu_kick(m);
    else if (write(m->wake_fd, &one, sizeof one) < 0)
        return; /* the counter is full: the main loop is awake */
}

void machine_clock_init(struct machine *m)
{
    m->clock = (struct clock){.now = now, .changed = changed};
    m->clock_base = machine_host_ns();
}
