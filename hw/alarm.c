/* Alarms on a virtual clock: a list sorted by deadline, owned by the clock. */
#include "hw/hw.h"

void alarm_init(struct alarm *a, struct clock *clock, void (*fire)(void *), void *ctx)
{
    *a = (struct alarm){.fire = fire, .ctx = ctx, .clock = clock};
}

void alarm_cancel(struct alarm *a)
{
    if (!a->armed)
        return;
    struct alarm **at = &a->clock->alarms;
    while (*at != a)
        at = &(*at)->next;
    *at = a->next;
    a->armed = false;
}

void alarm_set(struct alarm *a, uint64_t deadline_ns)
{
    struct clock *clock = a->clock;
    uint64_t before = clock_next_deadline(clock);
    alarm_cancel(a);
    struct alarm **at = &clock->alarms;
    while (*at && (*at)->deadline_ns <= deadline_ns)
        at = &(*at)->next;
    a->deadline_ns = deadline_ns;
    a->next = *at;
    a->armed = true;
    *at = a;
    if (clock->changed && clock_next_deadline(clock) < before)
        clock->changed(clock);
}

uint64_t clock_next_deadline(const struct clock *clock)
{
    return clock->alarms ? clock->alarms->deadline_ns : UINT64_MAX;
}

/* What an alarm arms anew while it fires runs only if it is due by the time at which we began, so that a guest
 * that asks for a too short period cannot keep us here. */
void clock_run_alarms(struct clock *clock)
{
    uint64_t now = clock_now(clock);
    for (unsigned i = 0; i < 64 && clock->alarms && clock->alarms->deadline_ns <= now; i++) {
        struct alarm *a = clock->alarms;
        alarm_cancel(a);
        a->fire(a->ctx);
    }
}
