/* Alarms on a virtual clock: a list sorted by deadline, and where that is equal in the order in which they were set; owned by the clock.
 * And what periodic ones owe. */
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

static bool is_before(const struct alarm *a, const struct alarm *b)
{
    return a->deadline_ns != b->deadline_ns ? a->deadline_ns < b->deadline_ns : a->order < b->order;
}

void alarm_restore(struct alarm *a, bool armed, uint64_t deadline_ns, uint64_t order)
{
    alarm_cancel(a);
    if (!armed)
        return;
    a->deadline_ns = deadline_ns;
    a->order = order;
    struct alarm **at = &a->clock->alarms;
    while (*at && !is_before(a, *at))
        at = &(*at)->next;
    a->next = *at;
    a->armed = true;
    *at = a;
}

void alarm_set(struct alarm *a, uint64_t deadline_ns)
{
    struct clock *clock = a->clock;
    uint64_t before = clock_next_deadline(clock);
    alarm_restore(a, true, deadline_ns, ++clock->order);
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

/* --- Debts */
enum { DEBT_PACE = 8 };
#define DEBT_LEAST_NS 10000u /* as the periods that timers are held to */

static void debt_next(struct debt *d)
{
    if (d->count)
        alarm_set(&d->alarm, clock_now(d->alarm.clock) + d->pace_ns);
}

static void debt_due(void *ctx)
{
    struct debt *d = ctx;
    d->count -= d->count != 0; /* a saved one may be anything */
    d->pay(d->ctx);
    debt_next(d);
}

void debt_init(struct debt *d, struct clock *clock, void (*pay)(void *), void *ctx)
{
    *d = (struct debt){.pay = pay, .ctx = ctx};
    alarm_init(&d->alarm, clock, debt_due, d);
}

void debt_add(struct debt *d, uint64_t interrupts, uint64_t period_ns)
{
    d->count = interrupts < DEBT_MOST - d->count ? d->count + (uint32_t)interrupts : DEBT_MOST;
    d->pace_ns = period_ns / DEBT_PACE > DEBT_LEAST_NS ? period_ns / DEBT_PACE : DEBT_LEAST_NS;
    if (!d->alarm.armed)
        debt_next(d);
}

void debt_cancel(struct debt *d)
{
    d->count = 0;
    alarm_cancel(&d->alarm);
}
