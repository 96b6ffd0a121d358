/* The 8254: reading and latching, modes, the rate of counter 0's interrupt, port 61h. */
#include "fake.h"

#define TICKS(n) (((n) * 1000000000ull + 1193181) / 1193182)

struct rig { struct fake_clock clock; struct fake_line line; struct device *d, *port61; };
static void setup(struct rig *r)
{
    *r = (struct rig){.clock = FAKE_CLOCK};
    r->d = pit_new(&r->clock.clock, FAKE_LINE(&r->line, 0));
    r->port61 = port61_new(&r->clock.clock, r->d);
}
static void teardown(struct rig *r)
{
    r->port61->ops->free(r->port61);
    r->d->ops->free(r->d);
    CHECK("alarms left", r->clock.clock.alarms != NULL, 0);
}
static void program(struct rig *r, unsigned counter, unsigned mode, unsigned count)
{
    wr(r->d, 3, 1, counter << 6 | 0x30 | mode << 1);
    wr(r->d, counter, 1, count & 0xff);
    wr(r->d, counter, 1, count >> 8);
}
static unsigned count_of(struct rig *r, unsigned counter)
{
    wr(r->d, 3, 1, counter << 6);
    unsigned low = rd(r->d, counter, 1);
    return low | rd(r->d, counter, 1) << 8;
}

static void rates(void)
{
    static const struct { const char *name; unsigned mode, count, ticks, rises; } rows[] = {
        {"mode 2, 1 ms",       2, 1193,  119300,  100}, {"mode 3, 1 ms",  3, 1193, 119300,  100}, {"mode 3, odd",   3, 1001, 100100,  100},
        {"mode 2, whole",      2, 0,     655360,  10},  {"mode 0 once",   0, 1000, 100000,  1},   {"mode 2 of 2",   2, 2,    1200,    100},
        {"mode 4 strobe",      4, 1000,  100000,  1},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct rig r;
        setup(&r);
        program(&r, 0, rows[i].mode, rows[i].count);
        rises(&r.line);
        advance(&r.clock, TICKS(rows[i].ticks) + 10);
        CHECK(rows[i].name, rises(&r.line), rows[i].rises);
        teardown(&r);
    }
}

/* An alarm that comes ten and a half periods late: what was missed is made up for. */
static void debts(void)
{
    for (unsigned mode = 2; mode <= 3; mode++)
        for (unsigned half = 0; half < 2; half++) {
            struct rig r;
            setup(&r);
            program(&r, 0, mode, 1000);
            advance(&r.clock, TICKS(10100 + 500 * half));
            rises(&r.line);
            r.clock.ns += TICKS(10500);
            clock_run_alarms(&r.clock.clock);
            int at_once = rises(&r.line);
            CHECK("one at most at once", at_once <= 1, 1);
            advance(&r.clock, TICKS(1000) / 8 + 1000);
            CHECK("an eighth of a period later", rises(&r.line) >= 1, 1);
            r.clock.ns += TICKS(1000000);
            clock_run_alarms(&r.clock.clock);
            rises(&r.line);
            program(&r, 2, 2, 1000);
            advance(&r.clock, TICKS(1000));
            CHECK("another counter's load does nothing about it", rises(&r.line) > 4, 1);
            program(&r, 0, 2, 1000);
            advance(&r.clock, TICKS(10000) + 10);
            CHECK("a load does", rises(&r.line), 10);
            teardown(&r);
        }
}

/* From the first tick to the last, a counter that was late has interrupted as often as one that was not. */
static void sum_of_late(void)
{
    for (unsigned mode = 2; mode <= 3; mode++)
        for (unsigned late = 100; late < 17000; late += 700) {
            struct rig r;
            setup(&r);
            program(&r, 0, mode, 1000);
            rises(&r.line);
            advance(&r.clock, TICKS(10100));
            r.clock.ns += TICKS(late);
            clock_run_alarms(&r.clock.clock);
            advance(&r.clock, TICKS(30100) - r.clock.ns);
            CHECK("late or not", rises(&r.line), 30);
            teardown(&r);
        }
}

static void reading(void)
{
    struct rig r;
    setup(&r);
    program(&r, 0, 2, 1000);
    advance(&r.clock, TICKS(250));
    wr(r.d, 3, 1, 0x00);
    advance(&r.clock, TICKS(100));
    CHECK("latched, low", rd(r.d, 0, 1), 750 & 0xff);
    CHECK("latched, high", rd(r.d, 0, 1), 750 >> 8);
    CHECK("then it runs on", count_of(&r, 0), 650);
    wr(r.d, 3, 1, 0xc2); /* read back: count and status of counter 0 */
    CHECK("status", rd(r.d, 0, 1), 0x80 | 0x30 | 2 << 1);
    CHECK("count, low", rd(r.d, 0, 1), 650 & 0xff);
    CHECK("count, high", rd(r.d, 0, 1), 650 >> 8);
    program(&r, 0, 3, 1000);
    advance(&r.clock, TICKS(100));
    CHECK("mode 3 counts by two", count_of(&r, 0), 800);
    wr(r.d, 3, 1, 0x31 | 2 << 1); /* BCD */
    wr(r.d, 0, 1, 0x00);
    wr(r.d, 0, 1, 0x10);
    advance(&r.clock, TICKS(1));
    CHECK("BCD", count_of(&r, 0), 0x0999);
    wr(r.d, 3, 1, 0x10); /* low byte alone, mode 0 */
    wr(r.d, 0, 1, 200);
    advance(&r.clock, TICKS(50));
    CHECK("low alone", rd(r.d, 0, 1), 150);
    CHECK("control cannot be read", rd(r.d, 3, 1), 0xff);
    teardown(&r);
}

static void gate(void)
{
    struct rig r;
    setup(&r);
    program(&r, 2, 0, 1000);
    advance(&r.clock, TICKS(500));
    CHECK("gate is shut", count_of(&r, 2), 1000);
    wr(r.port61, 0, 1, 1);
    advance(&r.clock, TICKS(400));
    CHECK("it counts", count_of(&r, 2), 600);
    wr(r.port61, 0, 1, 0);
    advance(&r.clock, TICKS(400));
    CHECK("it waits", count_of(&r, 2), 600);
    CHECK("output low", rd(r.port61, 0, 1) & 0x21, 0);
    wr(r.port61, 0, 1, 1);
    advance(&r.clock, TICKS(601));
    CHECK("output high", rd(r.port61, 0, 1) & 0x21, 0x21);
    unsigned changes = 0, last = rd(r.port61, 0, 1) & 0x10;
    for (unsigned i = 0; i < 100; i++) {
        advance(&r.clock, 5000);
        changes += (rd(r.port61, 0, 1) & 0x10) != last;
        last = rd(r.port61, 0, 1) & 0x10;
    }
    CHECK("refresh toggles every 15 us", changes, 33);
    teardown(&r);
}

int main(void)
{
    struct rig r;
    rates();
    debts();
    sum_of_late();
    reading();
    gate();
    setup(&r);
    storm(r.d, &r.clock, 4, 100000);
    storm(r.port61, &r.clock, 1, 1000);
    teardown(&r);
    return report();
}
