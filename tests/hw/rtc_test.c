/* The clock and CMOS: formats, the calendar, setting, alarm, update and periodic interrupts. */
#include "fake.h"

#define SECOND 1000000000ull
struct rig { struct fake_clock clock; struct fake_line line; struct device *d; };

static void setup(struct rig *r, struct tm start)
{
    *r = (struct rig){.clock = FAKE_CLOCK};
    r->d = rtc_new(&r->clock.clock, FAKE_LINE(&r->line, 0), &start);
}
static void teardown(struct rig *r)
{
    r->d->ops->free(r->d);
    CHECK("alarms left", r->clock.clock.alarms != NULL, 0);
}
static uint8_t get(struct rig *r, unsigned index)
{
    wr(r->d, 0, 1, index);
    return (uint8_t)rd(r->d, 1, 1);
}
static void set(struct rig *r, unsigned index, uint8_t value)
{
    wr(r->d, 0, 1, index);
    wr(r->d, 1, 1, value);
}
/* yymmdd hhmmss as the registers say it, in hexadecimal. */
static uint64_t stamp(struct rig *r)
{
    static const uint8_t registers[] = {0x32, 9, 8, 7, 4, 2, 0};
    uint64_t v = 0;
    for (unsigned i = 0; i < sizeof registers; i++)
        v = v << 8 | get(r, registers[i]);
    return v;
}

static void calendar(void)
{
    static const struct { struct tm start; uint64_t later_s, stamp; uint8_t weekday; } rows[] = {
        /* sec, min, hour, day, month - 1, year - 1900                       after       (Sunday is 1) */
        {{0, 0, 0, 1, 0, 70},      0,        0x19700101000000, 5}, {{59, 59, 23, 31, 11, 99}, 1, 0x20000101000000, 7},
        {{59, 59, 23, 28, 1, 124}, 1,        0x20240229000000, 5}, {{59, 59, 23, 28, 1, 123}, 1, 0x20230301000000, 4},
        {{59, 59, 23, 28, 1, 200}, 1,        0x21000301000000, 2}, {{5, 4, 3, 2, 0, 125},     0, 0x20250102030405, 5},
        {{0, 0, 0, 1, 0, 125},     31536000, 0x20260101000000, 5},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct rig r;
        setup(&r, rows[i].start);
        r.clock.ns += rows[i].later_s * SECOND;
        CHECK("date", stamp(&r), rows[i].stamp);
        CHECK("weekday", get(&r, 6), rows[i].weekday);
        teardown(&r);
    }
}

static const struct tm noon = {.tm_hour = 13, .tm_min = 59, .tm_sec = 58, .tm_mday = 31, .tm_mon = 11, .tm_year = 124};

static void formats_and_setting(void)
{
    struct rig r;
    setup(&r, noon);
    CHECK("BCD, 24 hours", get(&r, 4), 0x13);
    set(&r, 11, 0x06);
    CHECK("binary", get(&r, 4) == 13 && get(&r, 2) == 59 && get(&r, 9) == 24, 1);
    set(&r, 11, 0x00);
    CHECK("12 hours", get(&r, 4), 0x81);
    set(&r, 11, 0x82); /* SET */
    static const uint8_t values[][2] = {{0x32, 0x19}, {9, 0x99}, {8, 0x12}, {7, 0x31}, {4, 0x23}, {2, 0x59}, {0, 0x50}};
    for (unsigned i = 0; i < sizeof values / sizeof *values; i++)
        set(&r, values[i][0], values[i][1]);
    r.clock.ns += 5 * SECOND;
    CHECK("stands still", stamp(&r), 0x19991231235950);
    set(&r, 11, 0x02);
    r.clock.ns += 11 * SECOND;
    CHECK("runs on", stamp(&r), 0x20000101000001);
    set(&r, 0x40, 0x5a);
    rtc_set_cmos(r.d, 0x41, 0xa5);
    rtc_set_cmos(r.d, 0x1234, 0xa5);
    r.d->ops->reset(r.d);
    CHECK("CMOS stays", get(&r, 0x40) == 0x5a && get(&r, 0x41) == 0xa5, 1);
    CHECK("battery", get(&r, 13), 0x80);
    CHECK("index is not readable", rd(r.d, 0, 1), 0xff);
    set(&r, 0x32, 0); /* year 0: no such thing, and no harm */
    set(&r, 9, 0x01);
    CHECK("year 1", stamp(&r) >> 40, 0x0001);
    CHECK("its day of the week is one", get(&r, 6) >= 1 && get(&r, 6) <= 7, 1);
    teardown(&r);
}

static void interrupts(void)
{
    struct rig r;
    setup(&r, noon);
    set(&r, 10, 0x20); /* no periodic rate */
    advance(&r.clock, SECOND / 2);
    CHECK("no update in progress", get(&r, 10), 0x20);
    advance(&r.clock, SECOND / 2 - 100000);
    CHECK("update in progress", get(&r, 10), 0xa0);
    advance(&r.clock, 200000);
    CHECK("UF without interrupt", get(&r, 12), 0x10);
    CHECK("cleared by reading", get(&r, 12), 0);
    set(&r, 11, 0x12);
    advance(&r.clock, SECOND);
    CHECK("update interrupts", r.line.level, 1);
    CHECK("C", get(&r, 12), 0x90);
    CHECK("line falls", r.line.level, 0);
    set(&r, 11, 0x22);
    set(&r, 5, 0xff), set(&r, 3, 0xff), set(&r, 1, 0x05); /* each minute's second 5 */
    rises(&r.line);
    for (unsigned i = 0; i < 180; i++) {
        advance(&r.clock, SECOND);
        if (r.line.level)
            CHECK("AF at second 5", get(&r, 12) & 0xa0 && get(&r, 0) == 0x05, 1);
    }
    CHECK("alarm once a minute", rises(&r.line), 3);
    set(&r, 10, 0x26); /* 1024 Hz */
    set(&r, 11, 0x42);
    unsigned count = 0;
    for (unsigned i = 0; i < 10000; i++) {
        advance(&r.clock, 100000);
        if (r.line.level)
            count += get(&r, 12) >> 6 & 1;
    }
    CHECK("1024 Hz", count >= 1023 && count <= 1025, 1);
    set(&r, 11, 0x02);
    get(&r, 12);
    advance(&r.clock, SECOND);
    CHECK("PF without interrupt", get(&r, 12) & 0xc0, 0x40);
    set(&r, 11, 0x42);
    r.d->ops->reset(r.d);
    CHECK("reset disables", get(&r, 11), 0x02);
    teardown(&r);
}

int main(void)
{
    struct rig r;
    calendar();
    formats_and_setting();
    interrupts();
    setup(&r, noon);
    storm(r.d, &r.clock, 2, 100000);
    teardown(&r);
    return report();
}
