/* The HPET: counter, one-shot, periodic by the three ways to program it, level, routes, legacy replacement. */
#include "fake.h"

enum { CONFIG = 0x10, STATUS = 0x20, COUNTER = 0xf0, T0 = 0x100, CMP = 8, T1 = 0x120, T2 = 0x140 };
enum { LEVEL = 2, ENABLE = 4, PERIODIC = 8, SET = 0x40, MODE32 = 0x100 };
#define ROUTE(pin) ((pin) << 9)

struct rig { struct fake_clock clock; struct fake_line lines[32]; struct device *d; };
static struct irq_line route(void *ctx, int pin) { return FAKE_LINE(((struct rig *)ctx)->lines, pin); }
static void setup(struct rig *r)
{
    *r = (struct rig){.clock = FAKE_CLOCK};
    r->d = hpet_new(&r->clock.clock, route, r);
}
static void teardown(struct rig *r)
{
    r->d->ops->free(r->d);
    CHECK("alarms left", r->clock.clock.alarms != NULL, 0);
}
/* As an address space splits a 64-bit access. */
static void wr64(struct rig *r, uint32_t at, uint64_t v)
{
    wr(r->d, at, 4, (uint32_t)v);
    wr(r->d, at + 4, 4, (uint32_t)(v >> 32));
}
static uint64_t rd64(struct rig *r, uint32_t at) { return rd(r->d, at, 4) | (uint64_t)rd(r->d, at + 4, 4) << 32; }

static void counter(void)
{
    struct rig r;
    setup(&r);
    CHECK("capabilities", rd64(&r, 0), 10000000ull << 32 | 0x8086a201);
    r.clock.ns += 1000;
    CHECK("stands", rd64(&r, COUNTER), 0);
    wr(r.d, CONFIG, 4, 1);
    r.clock.ns += 1000;
    CHECK("runs at 100 MHz", rd64(&r, COUNTER), 100);
    wr(r.d, CONFIG, 4, 0);
    r.clock.ns += 1000;
    CHECK("stopped", rd64(&r, COUNTER), 100);
    wr64(&r, COUNTER, 0x123456789abcdef0);
    CHECK("written", rd64(&r, COUNTER), 0x123456789abcdef0);
    CHECK("timer 0 can", rd64(&r, T0), 0x00f0000400000030);
    wr(r.d, T0, 4, ROUTE(5) | ENABLE);
    CHECK("no route to pin 5", rd(r.d, T0, 4), ENABLE | 0x30);
    wr(r.d, T0, 4, ROUTE(20) | ENABLE);
    CHECK("route to pin 20", rd(r.d, T0, 4), ROUTE(20) | ENABLE | 0x30);
    teardown(&r);
}

static void one_shot(void)
{
    struct rig r;
    setup(&r);
    wr(r.d, CONFIG, 4, 1);
    wr(r.d, T2, 4, ROUTE(21) | ENABLE | MODE32);
    wr(r.d, T2 + CMP, 4, 1000);
    advance(&r.clock, 9999);
    CHECK("not yet", rises(&r.lines[21]), 0);
    advance(&r.clock, 1);
    CHECK("now", rises(&r.lines[21]), 1);
    CHECK("an edge's line falls", r.lines[21].level, 0);
    advance(&r.clock, 1000000);
    CHECK("once", rises(&r.lines[21]), 0);
    wr(r.d, T2, 4, ROUTE(21) | ENABLE | LEVEL);
    wr64(&r, T2 + CMP, rd64(&r, COUNTER) + 100);
    advance(&r.clock, 2000);
    CHECK("level", r.lines[21].level == 1 && rd(r.d, STATUS, 4) == 4, 1);
    wr(r.d, T2, 4, ROUTE(22) | ENABLE | LEVEL);
    CHECK("the old route is let go", r.lines[21].level == 0 && r.lines[22].level == 1, 1);
    wr(r.d, STATUS, 4, 4);
    CHECK("cleared", r.lines[22].level | (int)rd(r.d, STATUS, 4), 0);
    teardown(&r);
}

/* Period 10000 ticks (100 us), first at 20000, written in the ways that guests use. */
static void periodic(void)
{
    static const struct { const char *name; uint32_t mode; bool wide; } rows[] = {{"32 bit, two writes", MODE32, false}, {"64 bit, split", 0, true}};
    for (unsigned i = 0; i < 2; i++) {
        struct rig r;
        setup(&r);
        wr(r.d, T0, 4, ROUTE(2) | ENABLE | PERIODIC | SET | rows[i].mode);
        if (rows[i].wide) {
            wr64(&r, T0 + CMP, 20000);
            wr64(&r, T0 + CMP, 10000);
        } else {
            wr(r.d, T0 + CMP, 4, 20000);
            wr(r.d, T0 + CMP, 4, 10000);
        }
        CHECK(rows[i].name, rd64(&r, T0 + CMP), 20000);
        CHECK("SET is gone", rd(r.d, T0, 4) & SET, 0);
        wr(r.d, CONFIG, 4, 1);
        advance(&r.clock, 199990);
        CHECK(rows[i].name, rises(&r.lines[2]), 0);
        advance(&r.clock, 10);
        CHECK(rows[i].name, rises(&r.lines[2]), 1);
        advance(&r.clock, 1000000);
        CHECK(rows[i].name, rises(&r.lines[2]), 10);
        r.clock.ns += 1000000; /* ten periods late: what was missed is made up for, not all at once */
        clock_run_alarms(&r.clock.clock);
        CHECK("late", rises(&r.lines[2]), 1);
        advance(&r.clock, 12500);
        CHECK("an eighth of a period later", rises(&r.lines[2]), 1);
        advance(&r.clock, 987500);
        CHECK("and all that is owed", rises(&r.lines[2]), 8 + 10);
        r.clock.ns += 100000000;
        clock_run_alarms(&r.clock.clock);
        advance(&r.clock, 1000000);
        CHECK("not more than that", rises(&r.lines[2]), 1 + DEBT_MOST + 10);
        r.clock.ns += 1000000;
        clock_run_alarms(&r.clock.clock);
        wr(r.d, T0, 4, PERIODIC);
        advance(&r.clock, 1000000);
        CHECK("disabled, with its debts", rises(&r.lines[2]), 1);
        teardown(&r);
    }
}

static void one_write(void)
{
    struct rig r;
    setup(&r);
    wr(r.d, CONFIG, 4, 1);
    wr(r.d, T0, 4, ROUTE(2) | ENABLE | PERIODIC | SET | MODE32);
    wr(r.d, T0 + CMP, 4, 10000); /* comparator and period */
    advance(&r.clock, 1000000);
    CHECK("one write sets both", rises(&r.lines[2]), 10);
    wr(r.d, T0, 4, ROUTE(2) | ENABLE | PERIODIC | SET | MODE32);
    wr(r.d, T0 + CMP, 4, 10);
    advance(&r.clock, 50000000);
    CHECK("a short period is held", rises(&r.lines[2]) < 5100, 1);
    teardown(&r);
}

static void legacy(void)
{
    struct rig r;
    setup(&r);
    wr(r.d, CONFIG, 4, 3);
    wr(r.d, T0, 4, ENABLE | MODE32);
    wr(r.d, T1, 4, ENABLE | MODE32 | ROUTE(20));
    wr(r.d, T2, 4, ENABLE | MODE32);
    for (unsigned i = 0; i < 3; i++)
        wr(r.d, T0 + 0x20 * i + CMP, 4, 1000);
    advance(&r.clock, 100000);
    CHECK("0 is IRQ 0", rises(&r.lines[0]), 1);
    CHECK("1 is IRQ 8", rises(&r.lines[8]), 1);
    CHECK("not by its route", rises(&r.lines[20]), 0);
    CHECK("an edge stays for the 8259", r.lines[0].level & r.lines[8].level, 1);
    wr(r.d, CONFIG, 4, 1);
    CHECK("and is let go", r.lines[0].level | r.lines[8].level, 0);
    wr(r.d, T0 + CMP, 4, rd(r.d, COUNTER, 4) + 100);
    advance(&r.clock, 100000);
    CHECK("no route, no interrupt", rises(&r.lines[0]), 0);
    teardown(&r);
}

int main(void)
{
    struct rig r;
    counter();
    one_shot();
    periodic();
    one_write();
    legacy();
    setup(&r);
    storm(r.d, &r.clock, 0x400, 100000);
    teardown(&r);
    return report();
}
