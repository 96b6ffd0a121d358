/* The MC146818 real-time clock with 128 bytes of CMOS.  Offsets 0 (index), 1 (data). */
#include "hw/hw.h"
#include <stdlib.h>
#include <string.h>

enum { SECONDS = 0, SECONDS_ALARM = 1, MINUTES = 2, MINUTES_ALARM = 3, HOURS = 4, HOURS_ALARM = 5, WEEKDAY = 6, DAY = 7,
       MONTH = 8, YEAR = 9, A = 10, B = 11, C = 12, D = 13, CENTURY = 0x32 };
enum { A_UIP = 0x80, B_SET = 0x80, B_PIE = 0x40, B_AIE = 0x20, B_UIE = 0x10, B_BINARY = 4, B_24H = 2 };
enum { C_IRQ = 0x80, C_PF = 0x40, C_AF = 0x20, C_UF = 0x10 };
#define NS 1000000000ull
#define UIP_NS 244000u          /* UIP goes up 244 us before the update */
#define MIN_PERIOD_NS 122070u   /* 8192 Hz is the fastest rate there is */

struct rtc { struct device dev; struct clock *clock; struct irq_line irq; struct alarm second, periodic; int64_t base_s, seen_s; uint64_t base_ns, seen_ns; uint8_t cmos[128], index; };

/* --- Calendar: days since 1970-01-01 (Howard Hinnant's public-domain scheme of March-based years) */
static int64_t days_from(int64_t y, unsigned m, unsigned d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    unsigned yoe = (unsigned)(y - era * 400), doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
    return era * 146097 + (int64_t)(yoe * 365 + yoe / 4 - yoe / 100 + doy) - 719468;
}

static void date_of(int64_t z, int64_t *y, unsigned *m, unsigned *d)
{
    z += 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    unsigned doe = (unsigned)(z - era * 146097), yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    *d = doy - (153 * mp + 2) / 5 + 1;
    *m = mp < 10 ? mp + 3 : mp - 9;
    *y = (int64_t)yoe + era * 400 + (*m <= 2);
}

static uint8_t encode(const struct rtc *r, unsigned v) { return (uint8_t)(r->cmos[B] & B_BINARY ? v : v / 10 << 4 | v % 10); }
static unsigned decode(const struct rtc *r, uint8_t v) { return r->cmos[B] & B_BINARY ? v : (v >> 4) * 10u + (v & 15u); }

static int64_t now_s(const struct rtc *r) { return r->base_s + (int64_t)((clock_now(r->clock) - r->base_ns) / NS); }

static uint8_t encode_hour(const struct rtc *r, unsigned hour)
{
    if (r->cmos[B] & B_24H)
        return encode(r, hour);
    return (uint8_t)(encode(r, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? 0x80 : 0));
}

static void to_registers(struct rtc *r)
{
    int64_t s = now_s(r), days = (s < 0 ? s - 86399 : s) / 86400, year; /* rounds down: a guest may set any year */
    unsigned of_day = (unsigned)(s - days * 86400), month, day;
    if (r->cmos[B] & B_SET)
        return;
    date_of(days, &year, &month, &day);
    r->cmos[SECONDS] = encode(r, of_day % 60);
    r->cmos[MINUTES] = encode(r, of_day / 60 % 60);
    r->cmos[HOURS] = encode_hour(r, of_day / 3600);
    r->cmos[WEEKDAY] = encode(r, (unsigned)((days % 7 + 11) % 7) + 1);
    r->cmos[DAY] = encode(r, day);
    r->cmos[MONTH] = encode(r, month);
    r->cmos[YEAR] = encode(r, (unsigned)(year % 100));
    r->cmos[CENTURY] = encode(r, (unsigned)(year / 100));
}

static void from_registers(struct rtc *r)
{
    unsigned hour = r->cmos[B] & B_24H ? decode(r, r->cmos[HOURS]) : decode(r, r->cmos[HOURS] & 0x7f) % 12 + (r->cmos[HOURS] & 0x80 ? 12 : 0);
    unsigned month = decode(r, r->cmos[MONTH]), day = decode(r, r->cmos[DAY]);
    int64_t year = (int64_t)decode(r, r->cmos[CENTURY]) * 100 + decode(r, r->cmos[YEAR]);
    if (month < 1 || month > 12)
        month = 1;
    if (day < 1 || day > 31)
        day = 1;
    r->base_s = days_from(year, month, day) * 86400 + hour * 3600 + decode(r, r->cmos[MINUTES]) * 60 + decode(r, r->cmos[SECONDS]);
    r->base_ns = clock_now(r->clock);
}

static void update_irq(struct rtc *r)
{
    if (r->cmos[C] & r->cmos[B] & (C_PF | C_AF | C_UF))
        r->cmos[C] |= C_IRQ;
    irq_set(&r->irq, r->cmos[C] >> 7);
}

static bool alarm_matches(const struct rtc *r)
{
    static const uint8_t pairs[3][2] = {{SECONDS, SECONDS_ALARM}, {MINUTES, MINUTES_ALARM}, {HOURS, HOURS_ALARM}};
    for (unsigned i = 0; i < 3; i++)
        if (r->cmos[pairs[i][1]] < 0xc0 && r->cmos[pairs[i][1]] != r->cmos[pairs[i][0]])
            return false; /* c0..ff: any value */
    return true;
}

static uint64_t next_second(const struct rtc *r)
{
    uint64_t since = clock_now(r->clock) - r->base_ns;
    return r->base_ns + (since / NS + 1) * NS;
}

/* The second's alarm runs only while something can come of it. */
static void schedule_second(struct rtc *r)
{
    if (r->cmos[B] & B_SET || !(r->cmos[B] & (B_AIE | B_UIE)))
        alarm_cancel(&r->second);
    else
        alarm_set(&r->second, next_second(r));
}

static void on_second(void *ctx)
{
    struct rtc *r = ctx;
    to_registers(r);
    r->cmos[C] |= C_UF | (alarm_matches(r) ? C_AF : 0);
    update_irq(r);
    schedule_second(r);
}

static uint64_t period_ns(const struct rtc *r)
{
    unsigned rate = r->cmos[A] & 15;
    if (!rate || (r->cmos[A] >> 4 & 7) != 2)
        return 0;
    if (rate < 3)
        rate += 7;
    uint64_t ns = NS * (1u << (rate - 1)) / 32768;
    return ns < MIN_PERIOD_NS ? MIN_PERIOD_NS : ns;
}

static void schedule_periodic(struct rtc *r)
{
    uint64_t ns = period_ns(r);
    if (ns && r->cmos[B] & B_PIE)
        alarm_set(&r->periodic, clock_now(r->clock) / ns * ns + ns);
    else
        alarm_cancel(&r->periodic);
}

static void on_periodic(void *ctx)
{
    struct rtc *r = ctx;
    r->cmos[C] |= C_PF;
    update_irq(r);
    schedule_periodic(r);
}

/* The flags of register C are set whether or not they interrupt: what nobody waits for is found out at the read. */
static void catch_up(struct rtc *r)
{
    uint64_t now = clock_now(r->clock), period = period_ns(r);
    if (!r->second.armed && !(r->cmos[B] & B_SET) && now_s(r) != r->seen_s)
        r->cmos[C] |= C_UF;
    if (!r->periodic.armed && period && now / period != r->seen_ns / period)
        r->cmos[C] |= C_PF;
    r->seen_s = now_s(r);
    r->seen_ns = now;
}

static uint8_t read_register(struct rtc *r, unsigned index)
{
    uint8_t v;
    if (index < A || index == CENTURY)
        to_registers(r);
    switch (index) {
    case A:
        v = next_second(r) - clock_now(r->clock) < UIP_NS && !(r->cmos[B] & B_SET) ? A_UIP : 0;
        return r->cmos[A] | v;
    case C:
        catch_up(r);
        v = r->cmos[C];
        r->cmos[C] = 0;
        update_irq(r);
        return v;
    case D: return 0x80; /* the battery is good */
    default: return r->cmos[index];
    }
}

static void write_register(struct rtc *r, unsigned index, uint8_t v)
{
    bool is_time = index <= YEAR && index != SECONDS_ALARM && index != MINUTES_ALARM && index != HOURS_ALARM;
    if (index == C || index == D)
        return;
    if (is_time || index == CENTURY)
        to_registers(r);
    if (index == B && v & B_SET)
        to_registers(r);
    bool was_set = r->cmos[B] & B_SET;
    r->cmos[index] = index == A ? v & 0x7f : v;
    if (index == B && v & B_SET)
        r->cmos[B] &= (uint8_t)~B_UIE; /* MC146818: SET clears UIE */
    if ((is_time || index == CENTURY) && !was_set)
        from_registers(r);
    if (index == B && was_set && !(v & B_SET))
        from_registers(r);
    if (index == A || index == B) {
        schedule_second(r);
        schedule_periodic(r);
        update_irq(r);
    }
}

static uint32_t rtc_read(struct device *dev, uint32_t offset, unsigned size)
{
    struct rtc *r = (struct rtc *)dev;
    (void)size;
    return offset == 1 ? read_register(r, r->index) : 0xff; /* the index cannot be read */
}

static void rtc_write(struct device *dev, uint32_t offset, unsigned size, uint32_t value)
{
    struct rtc *r = (struct rtc *)dev;
    (void)size;
    if (offset == 0)
        r->index = value & 0x7f;
    else if (offset == 1)
        write_register(r, r->index, (uint8_t)value);
}

/* CMOS and time outlive a reset; the interrupt enables do not. */
static void rtc_reset(struct device *dev)
{
    struct rtc *r = (struct rtc *)dev;
    r->cmos[B] &= (uint8_t)~(B_PIE | B_AIE | B_UIE);
    r->cmos[C] = 0;
    r->index = 0;
    schedule_second(r);
    schedule_periodic(r);
    update_irq(r);
}

static void rtc_free(struct device *dev)
{
    struct rtc *r = (struct rtc *)dev;
    alarm_cancel(&r->second);
    alarm_cancel(&r->periodic);
    free(r);
}
static const struct state_field rtc_fields[] = {
    STATE_ALARM(struct rtc, second), STATE_ALARM(struct rtc, periodic), STATE(struct rtc, base_s), STATE(struct rtc, seen_s), STATE(struct rtc, base_ns),
    STATE(struct rtc, seen_ns), STATE_ARRAY(struct rtc, cmos), STATE(struct rtc, index, .most = 127),
};
static const struct state_table rtc_state = STATE_TABLE(1, rtc_fields);
static const struct device_ops rtc_ops = {"rtc", rtc_read, rtc_write, rtc_reset, rtc_free, .state = &rtc_state};

void rtc_set_cmos(struct device *dev, unsigned index, uint8_t value)
{
    if (index < 128)
        ((struct rtc *)dev)->cmos[index] = value;
}

struct device *rtc_new(struct clock *clock, struct irq_line irq8, const struct tm *start)
{
    struct rtc *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->dev.ops = &rtc_ops;
    r->clock = clock;
    r->irq = irq8;
    r->cmos[A] = 0x26;
    r->cmos[B] = B_24H;
    r->base_s = days_from(start->tm_year + 1900, (unsigned)start->tm_mon + 1, (unsigned)start->tm_mday) * 86400 +
                start->tm_hour * 3600 + start->tm_min * 60 + start->tm_sec;
    r->base_ns = clock_now(clock);
    alarm_init(&r->second, clock, on_second, r);
    alarm_init(&r->periodic, clock, on_periodic, r);
    return &r->dev;
}
