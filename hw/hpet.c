/* The HPET: a 64-bit counter at 100 MHz and three comparators (IA-PC HPET specification 1.0a). */
#include "hw/hw.h"
#include <stdlib.h>
#include <string.h>

enum { TIMERS = 3, TICK_NS = 10 };
#define MIN_PERIOD_TICKS 1000u  /* 10 us */
enum { T_LEVEL = 1 << 1, T_ENABLE = 1 << 2, T_PERIODIC = 1 << 3, T_CAN_PERIODIC = 1 << 4, T_64 = 1 << 5, T_SET = 1 << 6, T_32 = 1 << 8 };
#define T_WRITABLE (T_LEVEL | T_ENABLE | T_PERIODIC | T_SET | T_32 | 0x3e00u)
#define T_ROUTES (0x00f00004ull << 32)  /* IOAPIC pins 2, 20..23 */

struct hpet;
/* set_high: T_SET covered a write to the comparator's low half; the high half, if it comes next, belongs to it. */
struct timer { struct hpet *hpet; struct alarm alarm; struct debt debt; uint64_t config, comparator, period; unsigned index; bool set_high; };
struct hpet { struct device dev; struct clock *clock; struct irq_line (*route)(void *, int); void *ctx; uint64_t config, status, counter, started_ns; struct timer timer[TIMERS]; };

static uint64_t counter(const struct hpet *h)
{
    return h->config & 1 ? h->counter + (clock_now(h->clock) - h->started_ns) / TICK_NS : h->counter;
}

static bool legacy(const struct hpet *h) { return h->config & 2; }
static bool replaces(const struct timer *t) { return legacy(t->hpet) && t->index < 2; }
static int pin_of(const struct timer *t)
{
    if (replaces(t))
        return t->index ? 8 : 0;    /* route() knows that legacy 0 is IRQ 0 */
    return (int)(t->config >> 9 & 31);
}
static bool routed(const struct timer *t) { return replaces(t) || T_ROUTES >> 32 >> pin_of(t) & 1; }

static void line(struct timer *t, int level)
{
    if (!routed(t))
        return;
    struct irq_line irq = t->hpet->route(t->hpet->ctx, pin_of(t));
    irq_set(&irq, level);
}

static void update_level(struct timer *t)
{
    if (t->config & T_LEVEL)
        line(t, (t->hpet->status >> t->index & 1) && t->config & T_ENABLE);
}

/* Before its route changes: what was held high there is let go. */
static void release(struct timer *t)
{
    if (t->config & T_LEVEL ? t->hpet->status >> t->index & 1 : replaces(t))
        line(t, 0);
}

static uint64_t mask(const struct timer *t) { return t->config & T_32 ? 0xffffffff : ~0ull; }

static void schedule(struct timer *t)
{
    struct hpet *h = t->hpet;
    if (!(h->config & 1)) {
        alarm_cancel(&t->alarm);
        return;
    }
    uint64_t now = counter(h), ticks = (t->comparator - now) & mask(t);
    if (!ticks)
        ticks = mask(t) == ~0ull ? ~0ull : mask(t) + 1;
    uint64_t ns = ticks > UINT64_MAX / TICK_NS / 2 ? UINT64_MAX / 2 : ticks * TICK_NS;
    alarm_set(&t->alarm, clock_now(h->clock) + ns);
}

static void set_anew(struct timer *t)
{
    debt_cancel(&t->debt);
    schedule(t);
}

static void edge(void *ctx)
{
    struct timer *t = ctx;
    line(t, 0);
    line(t, 1);
    if (!replaces(t)) /* an 8259 wants an edge's line high until it is acknowledged (8259A, edge triggered mode) */
        line(t, 0);
}

static void on_alarm(void *ctx)
{
    struct timer *t = ctx;
    struct hpet *h = t->hpet;
    bool by_edge = !(t->config & T_LEVEL);
    if (t->config & T_PERIODIC && t->period) {
        uint64_t step = t->period < MIN_PERIOD_TICKS ? MIN_PERIOD_TICKS : t->period, late = ((counter(h) - t->comparator) & mask(t)) / step;
        t->comparator = (t->comparator + (late + 1) * step) & mask(t);
        if (late && by_edge && t->config & T_ENABLE)
            debt_add(&t->debt, late, step * TICK_NS);
    }
    schedule(t);
    if (!by_edge)
        h->status |= 1u << t->index;
    if (!(t->config & T_ENABLE))
        return;
    if (by_edge)
        edge(t);
    else
        line(t, 1);
}

static uint64_t register_read(const struct hpet *h, uint32_t at)
{
    const struct timer *t = at >= 0x100 && at < 0x100 + 0x20 * TIMERS ? &h->timer[(at - 0x100) / 0x20] : NULL;
    if (t)
        switch (at & 0x1f) {
        case 0: return t->config | T_CAN_PERIODIC | T_64 | T_ROUTES;
        case 8: return t->comparator;
        default: return 0;
        }
    switch (at) {
    case 0: return (uint64_t)TICK_NS * 1000000 << 32 | 0x8086u << 16 | 1 << 15 | 1 << 13 | (TIMERS - 1) << 8 | 1;
    case 0x10: return h->config;
    case 0x20: return h->status;
    case 0xf0: return counter(h);
    default: return 0;
    }
}

static void config_write(struct hpet *h, uint64_t v)
{
    bool was = h->config & 1, is = v & 1;
    if (was && !is)
        h->counter = counter(h);
    if (!was && is)
        h->started_ns = clock_now(h->clock);
    for (unsigned i = 0; i < TIMERS; i++)
        release(&h->timer[i]);
    h->config = v & 3;
    for (unsigned i = 0; i < TIMERS; i++) {
        update_level(&h->timer[i]);
        set_anew(&h->timer[i]);
    }
}

static void timer_config_write(struct timer *t, uint64_t v)
{
    release(t);
    t->config = v & T_WRITABLE;
    if (!routed(t))
        t->config &= ~(uint64_t)0x3e00; /* reads back as not taken (2.3.8) */
    t->comparator &= mask(t);
    t->set_high = false;
    update_level(t);
    set_anew(t);
}

/* In periodic mode a write is to the period, and with T_SET to the comparator as well (2.3.9.2.2). */
static void comparator_write(struct timer *t, uint64_t v, uint64_t bytes)
{
    bool periodic = t->config & T_PERIODIC, low = (uint32_t)bytes, high = bytes >> 32;
    bool set = !periodic || t->config & T_SET || (t->set_high && !low);
    if (set)
        t->comparator = ((t->comparator & ~bytes) | (v & bytes)) & mask(t);
    if (periodic)
        t->period = ((t->period & ~bytes) | (v & bytes)) & mask(t);
    t->set_high = set && periodic && low && !high && !(t->config & T_32);
    t->config &= ~(uint64_t)T_SET;
    set_anew(t);
}

static void timer_write(struct timer *t, uint32_t at, uint64_t v, uint64_t bytes)
{
    if (at == 0)
        timer_config_write(t, v);
    else if (at == 8)
        comparator_write(t, v, bytes);
}

static void register_write(struct hpet *h, uint32_t at, uint64_t v, uint64_t bytes)
{
    if (at >= 0x100 && at < 0x100 + 0x20 * TIMERS) {
        timer_write(&h->timer[(at - 0x100) / 0x20], at & 0x1f, v, bytes);
        return;
    }
    switch (at) {
    case 0x10: config_write(h, v); break;
    case 0x20:
        h->status &= ~v;
        for (unsigned i = 0; i < TIMERS; i++)
            update_level(&h->timer[i]);
        break;
    case 0xf0:
        h->counter = v;
        h->started_ns = clock_now(h->clock);
        for (unsigned i = 0; i < TIMERS; i++)
            set_anew(&h->timer[i]);
        break;
    default: break;
    }
}

static uint32_t hpet_read(struct device *dev, uint32_t offset, unsigned size)
{
    (void)size;
    return (uint32_t)(register_read((struct hpet *)dev, offset & ~7u) >> 8 * (offset & 7));
}

static void hpet_write(struct device *dev, uint32_t offset, unsigned size, uint32_t value)
{
    struct hpet *h = (struct hpet *)dev;
    unsigned shift = 8 * (offset & 7);
    uint64_t bytes = (size >= 4 ? 0xffffffffull : (1ull << 8 * size) - 1) << shift;
    uint64_t old = (offset & ~7u) == 0x20 ? 0 : register_read(h, offset & ~7u);
    register_write(h, offset & ~7u, (old & ~bytes) | ((uint64_t)value << shift & bytes), bytes);
}

static void hpet_reset(struct device *dev)
{
    struct hpet *h = (struct hpet *)dev;
    for (unsigned i = 0; i < TIMERS; i++)
        release(&h->timer[i]);
    h->config = h->status = h->counter = 0;
    for (unsigned i = 0; i < TIMERS; i++) {
        h->timer[i].set_high = false;
        alarm_cancel(&h->timer[i].alarm);
        debt_cancel(&h->timer[i].debt);
        h->timer[i].config = h->timer[i].period = 0;
        h->timer[i].comparator = ~0ull;
    }
}

static void hpet_free(struct device *dev)
{
    struct hpet *h = (struct hpet *)dev;
    for (unsigned i = 0; i < TIMERS; i++) {
        alarm_cancel(&h->timer[i].alarm);
        debt_cancel(&h->timer[i].debt);
    }
    free(h);
}
static const struct state_field hpet_fields[] = {
    STATE(struct hpet, config), STATE(struct hpet, status), STATE(struct hpet, counter), STATE(struct hpet, started_ns), STATE_EACH_ALARM(struct hpet, timer, alarm),
    STATE_EACH(struct hpet, timer, config), STATE_EACH(struct hpet, timer, comparator), STATE_EACH(struct hpet, timer, period), STATE_EACH(struct hpet, timer, set_high),
    STATE_EACH_DEBT(struct hpet, timer, debt, .since = 2),
};
static const struct state_table hpet_state = STATE_TABLE(2, hpet_fields);
static const struct device_ops hpet_ops = {"hpet", hpet_read, hpet_write, hpet_reset, hpet_free, .state = &hpet_state};

struct device *hpet_new(struct clock *clock, struct irq_line (*route)(void *, int), void *ctx)
{
    struct hpet *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    h->dev.ops = &hpet_ops;
    h->clock = clock;
    h->route = route;
    h->ctx = ctx;
    for (unsigned i = 0; i < TIMERS; i++) {
        h->timer[i].hpet = h;
        h->timer[i].index = i;
        alarm_init(&h->timer[i].alarm, clock, on_alarm, &h->timer[i]);
        debt_init(&h->timer[i].debt, clock, edge, &h->timer[i]);
    }
    hpet_reset(&h->dev);
    return &h->dev;
}
