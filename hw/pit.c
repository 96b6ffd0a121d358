/* The Intel 8254 interval timer of a PC: three counters at 1193182 Hz, and port 61h that gates counter 2. */
#include "hw/hw.h"
#include <stdlib.h>
#include <string.h>

#define HZ 1193182ull
#define NS 1000000000ull
#define MIN_TICKS 12u   /* a faster periodic interrupt is held to about 10 us */

struct counter {
    uint64_t loaded_ns;         /* when the count began */
    uint32_t count;             /* 1..65536 (BCD: 10000) */
    uint16_t latch;
    uint8_t status, low, mode, access;  /* access: 1 low, 2 high, 3 low then high */
    uint8_t read_high, write_high, latched; /* latched: bytes still to be read */
    bool bcd, gate, status_latched, loaded, triggered;
    uint64_t stopped_ticks;     /* ticks done when the gate closed (modes 0, 4) */
};
struct pit { struct device dev; struct clock *clock; struct irq_line output; struct alarm alarm; struct debt debt; struct counter counter[3]; int level; bool taken; };

static uint64_t ticks_of(uint64_t ns) { return (uint64_t)((unsigned __int128)ns * HZ / NS); }
static uint64_t ns_of(uint64_t ticks) { return (uint64_t)(((unsigned __int128)ticks * NS + HZ - 1) / HZ); }

static bool periodic(const struct counter *c) { return c->mode == 2 || c->mode == 3; }
static bool by_trigger(const struct counter *c) { return c->mode == 1 || c->mode == 5; }

static uint64_t elapsed(const struct pit *p, const struct counter *c)
{
    if (!c->loaded || (by_trigger(c) && !c->triggered))
        return 0;
    if (!c->gate && !by_trigger(c))
        return c->stopped_ticks;
    return ticks_of(clock_now(p->clock) - c->loaded_ns);
}

static uint16_t to_bcd(uint32_t v) { return (uint16_t)(v % 10 | v / 10 % 10 << 4 | v / 100 % 10 << 8 | v / 1000 % 10 << 12); }
static uint32_t from_bcd(uint16_t v) { return (v & 15u) + (v >> 4 & 15u) * 10 + (v >> 8 & 15u) * 100 + (v >> 12 & 15u) * 1000; }

static uint16_t current(const struct pit *p, const struct counter *c)
{
    uint64_t done = elapsed(p, c), modulus = c->bcd ? 10000 : 65536;
    uint32_t v;
    if (c->mode == 3)
        v = c->count - (uint32_t)(2 * done % c->count); /* counts by two, twice a period */
    else if (c->mode == 2)
        v = c->count - (uint32_t)(done % c->count);
    else
        v = (uint32_t)((c->count + modulus - done % modulus) % modulus);
    return c->bcd ? to_bcd(v % 10000) : (uint16_t)v;
}

static int out(const struct pit *p, const struct counter *c)
{
    uint64_t done = elapsed(p, c);
    if (!c->loaded)
        return c->mode != 0;
    switch (c->mode) {
    case 0: return done >= c->count;
    case 1: return !c->triggered || done >= c->count;
    case 2: return !c->gate || done % c->count != c->count - 1;
    case 3: return !c->gate || done % c->count < (c->count + 1) / 2;
    default: return done != c->count;
    }
}

/* Too fast to be followed: it interrupts every MIN_TICKS instead. */
static bool held(const struct counter *c) { return periodic(c) && c->count < MIN_TICKS; }

/* The next tick (from the load) at which OUT of counter 0 changes, in mode 2 rises; 0: never. */
static uint64_t next_change(const struct counter *c, uint64_t done)
{
    uint64_t n = held(c) ? MIN_TICKS : c->count;
    if (!c->loaded || !c->gate)
        return 0;
    if (c->mode == 3 && !held(c) && done % n < (n + 1) / 2)
        return done - done % n + (n + 1) / 2;
    if (periodic(c))
        return done - done % n + n;
    return done < n ? n : done == n && c->mode >= 4 ? n + 1 : 0;
}

static void update(struct pit *p)
{
    struct counter *c = &p->counter[0];
    if (p->taken)
        return;
    int level = out(p, c);
    if (level != p->level) {
        p->level = level;
        irq_set(&p->output, level);
    }
    uint64_t at = next_change(c, elapsed(p, c));
    if (at)
        alarm_set(&p->alarm, c->loaded_ns + ns_of(at));
    else
        alarm_cancel(&p->alarm);
}

/* One that is owed; its level stays until the next change. */
static void pay(void *ctx)
{
    struct pit *p = ctx;
    irq_set(&p->output, 0);
    irq_set(&p->output, p->level = 1);
}

/* Periods that ended since the last alarm, which came in time. */
static uint64_t ended(const struct pit *p, const struct counter *c)
{
    uint64_t seen = ticks_of(p->alarm.deadline_ns - c->loaded_ns) - 1;
    return elapsed(p, c) / c->count - seen / c->count;
}

/* A period that ended since the last look gave an edge, even where the level is the same again. */
static void on_alarm(void *ctx)
{
    struct pit *p = ctx;
    const struct counter *c = &p->counter[0];
    bool pulse = c->mode == 2 || held(c);
    if (periodic(c)) {
        bool rises = pulse || out(p, c);
        uint64_t periods = held(c) ? 0 : ended(p, c);
        if (pulse || p->level)
            irq_set(&p->output, p->level = 0);
        if (rises)
            irq_set(&p->output, p->level = 1);
        if (periods > rises)
            debt_add(&p->debt, periods - rises, ns_of(c->count));
    }
    update(p);
}

static void load(struct pit *p, struct counter *c, uint16_t value)
{
    uint32_t v = c->bcd ? from_bcd(value) : value;
    if (c == p->counter)
        debt_cancel(&p->debt);
    c->count = v ? v : c->bcd ? 10000 : 65536;
    c->loaded = true;
    c->loaded_ns = clock_now(p->clock);
    c->stopped_ticks = 0;
}

static void latch_count(const struct pit *p, struct counter *c)
{
    if (c->latched)
        return;
    c->latch = current(p, c);
    c->latched = c->access == 3 ? 2 : 1;
}

static void read_back(struct pit *p, uint8_t v)
{
    for (unsigned n = 0; n < 3; n++) {
        struct counter *c = &p->counter[n];
        if (!(v >> (n + 1) & 1))
            continue;
        if (!(v & 0x20))
            latch_count(p, c);
        if (!(v & 0x10) && !c->status_latched) {
            c->status = (uint8_t)(out(p, c) << 7 | !c->loaded << 6 | c->access << 4 | c->mode << 1 | c->bcd);
            c->status_latched = true;
        }
    }
}

static void control(struct pit *p, uint8_t v)
{
    if (v >> 6 == 3) {
        read_back(p, v);
        return;
    }
    struct counter *c = &p->counter[v >> 6];
    if (!(v >> 4 & 3)) {
        latch_count(p, c);
        return;
    }
    uint8_t mode = v >> 1 & 7;
    bool gate = c->gate;
    *c = (struct counter){.gate = gate, .access = v >> 4 & 3, .mode = mode > 5 ? mode - 4 : mode, .bcd = v & 1, .count = 65536};
    if (c == p->counter)
        debt_cancel(&p->debt);
    update(p);
}

static void pit_write(struct device *dev, uint32_t offset, unsigned size, uint32_t value)
{
    struct pit *p = (struct pit *)dev;
    (void)size;
    if (offset == 3)
        control(p, (uint8_t)value);
    if (offset >= 3)
        return;
    struct counter *c = &p->counter[offset];
    if (c->access == 3 && !c->write_high) {
        c->low = (uint8_t)value;
        c->write_high = 1;
        if (c->mode == 0)
            c->loaded = false; /* the first byte stops the count */
        return;
    }
    c->write_high = 0;
    load(p, c, c->access == 1 ? value & 0xff : c->access == 2 ? (value & 0xff) << 8 : c->low | (value & 0xff) << 8);
    update(p);
}

static uint32_t pit_read(struct device *dev, uint32_t offset, unsigned size)
{
    struct pit *p = (struct pit *)dev;
    (void)size;
    if (offset >= 3)
        return 0xff; /* the control word cannot be read */
    struct counter *c = &p->counter[offset];
    if (c->status_latched) {
        c->status_latched = false;
        return c->status;
    }
    uint16_t v = c->latched ? c->latch : current(p, c);
    bool high = c->access == 2 || (c->access == 3 && c->read_high);
    if (c->access == 3)
        c->read_high ^= 1;
    if (c->latched)
        c->latched--;
    return high ? v >> 8 : v & 0xff;
}

static void gate_set(struct pit *p, unsigned n, bool gate)
{
    struct counter *c = &p->counter[n];
    if (gate == c->gate)
        return;
    if (!gate)
        c->stopped_ticks = elapsed(p, c);
    c->gate = gate;
    uint64_t now = clock_now(p->clock);
    if (gate && by_trigger(c))
        c->triggered = true;
    if (gate)
        c->loaded_ns = c->mode == 0 || c->mode == 4 ? now - ns_of(c->stopped_ticks) : now;
}

/* --- Another one in its place */
void pit_take(struct device *dev, struct pit_registers *r)
{
    struct pit *p = (struct pit *)dev;
    for (unsigned n = 0; n < 3; n++) {
        const struct counter *c = &p->counter[n];
        r->counter[n] = (struct pit_counter_registers){ns_of(elapsed(p, c)), c->count, c->latch, c->status, c->low, c->mode, c->access, c->latched, c->read_high, c->write_high,
                                                       c->bcd, c->gate, c->status_latched, c->loaded};
    }
    alarm_cancel(&p->alarm);
    debt_cancel(&p->debt);
    irq_set(&p->output, p->level = 0); /* the other one's output comes in its place */
    p->taken = true;
}

static void counter_give(struct pit *p, struct counter *c, const struct pit_counter_registers *r)
{
    uint64_t now = clock_now(p->clock);
    *c = (struct counter){.loaded_ns = now > r->elapsed_ns ? now - r->elapsed_ns : 0, .count = r->count, .latch = r->latch, .status = r->status, .low = r->low, .mode = r->mode,
                          .access = r->access, .read_high = r->read_high, .write_high = r->write_high, .latched = r->latched, .bcd = r->bcd, .gate = r->gate,
                          .status_latched = r->status_latched, .loaded = r->loaded};
    c->triggered = by_trigger(c) && r->gate;
    c->stopped_ticks = ticks_of(r->elapsed_ns);
}

void pit_give(struct device *dev, const struct pit_registers *r)
{
    struct pit *p = (struct pit *)dev;
    for (unsigned n = 0; n < 3; n++)
        counter_give(p, &p->counter[n], &r->counter[n]);
    p->taken = false;
    p->level = out(p, &p->counter[0]); /* what rose before was the other one's */
    irq_set(&p->output, p->level);
    update(p);
}

static void pit_reset(struct device *dev)
{
    struct pit *p = (struct pit *)dev;
    for (unsigned n = 0; n < 3; n++)
        p->counter[n] = (struct counter){.gate = n != 2, .access = 3, .mode = 3, .count = 65536};
    alarm_cancel(&p->alarm);
    debt_cancel(&p->debt);
    update(p);
}

static void pit_free(struct device *dev)
{
    alarm_cancel(&((struct pit *)dev)->alarm);
    debt_cancel(&((struct pit *)dev)->debt);
    free(dev);
}
static const struct state_field pit_fields[] = {
    STATE_ALARM(struct pit, alarm), STATE_EACH(struct pit, counter, loaded_ns), STATE_EACH(struct pit, counter, count, .least = 1, .most = 65536),
    STATE_EACH(struct pit, counter, latch), STATE_EACH(struct pit, counter, status), STATE_EACH(struct pit, counter, low), STATE_EACH(struct pit, counter, mode, .most = 5),
    STATE_EACH(struct pit, counter, access, .most = 3), STATE_EACH(struct pit, counter, read_high, .most = 1), STATE_EACH(struct pit, counter, write_high, .most = 1),
    STATE_EACH(struct pit, counter, latched, .most = 2), STATE_EACH(struct pit, counter, bcd), STATE_EACH(struct pit, counter, gate),
    STATE_EACH(struct pit, counter, status_latched), STATE_EACH(struct pit, counter, loaded), STATE_EACH(struct pit, counter, triggered),
    STATE_EACH(struct pit, counter, stopped_ticks), STATE(struct pit, level, .most = 1), STATE_DEBT(struct pit, debt, .since = 2),
};
static const struct state_table pit_state = STATE_TABLE(2, pit_fields);
static const struct device_ops pit_ops = {"pit", pit_read, pit_write, pit_reset, pit_free, .state = &pit_state};

struct device *pit_new(struct clock *clock, struct irq_line output)
{
    struct pit *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->dev.ops = &pit_ops;
    p->clock = clock;
    p->output = output;
    alarm_init(&p->alarm, clock, on_alarm, p);
    debt_init(&p->debt, clock, pay, p);
    pit_reset(&p->dev);
    return &p->dev;
}

/* --- Port 61h: gate and output of counter 2, speaker, the refresh toggle */
struct port61 { struct device dev; struct clock *clock; struct pit *pit; uint8_t bits; };

static uint32_t port61_read(struct device *dev, uint32_t offset, unsigned size)
{
    struct port61 *s = (struct port61 *)dev;
    (void)offset, (void)size;
    uint32_t refresh = clock_now(s->clock) / 15085 & 1; /* the DRAM refresh request: every 15.085 us */
    return (s->bits & 14u) | s->pit->counter[2].gate | refresh << 4 | (uint32_t)out(s->pit, &s->pit->counter[2]) << 5;
}

static void port61_write(struct device *dev, uint32_t offset, unsigned size, uint32_t value)
{
    struct port61 *s = (struct port61 *)dev;
    (void)offset, (void)size;
    s->bits = value & 0xf;
    gate_set(s->pit, 2, value & 1);
}

static void port61_reset(struct device *dev) { port61_write(dev, 0, 1, 0); }
static void port61_free(struct device *dev) { free(dev); }
static const struct state_field port61_fields[] = {
    STATE(struct port61, bits, .most = 15),
};
static const struct state_table port61_state = STATE_TABLE(1, port61_fields);
static const struct device_ops port61_ops = {"port61", port61_read, port61_write, port61_reset, port61_free, .state = &port61_state};

struct device *port61_new(struct clock *clock, struct device *pit)
{
    struct port61 *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->dev.ops = &port61_ops;
    s->clock = clock;
    s->pit = (struct pit *)pit;
    return &s->dev;
}
