/* fake.h - what a device's test gives it: a clock that the test moves, lines that remember, and a count of checks. */
#ifndef TESTS_HW_FAKE_H
#define TESTS_HW_FAKE_H

#include "hw/hw.h"
#include <stdlib.h>
#include <string.h>

static unsigned long passed, failed;

/* One check: got must be want. */
#define CHECK(what, got, want) check(__FILE__, __LINE__, what, (uint64_t)(got), (uint64_t)(want))
__attribute__((unused)) static bool check(const char *file, int line, const char *what, uint64_t got, uint64_t want)
{
    if (got == want) {
        passed++;
        return true;
    }
    failed++;
    printf("%s:%d: %s: 0x%llx, expected 0x%llx\n", file, line, what, (unsigned long long)got, (unsigned long long)want);
    return false;
}
__attribute__((unused)) static int report(void)
{
    printf("%lu passed, %lu failed\n", passed, failed);
    return failed != 0;
}

/* --- Clock */
struct fake_clock { struct clock clock; uint64_t ns; };
__attribute__((unused)) static uint64_t fake_now(struct clock *c) { return ((struct fake_clock *)c)->ns; }
#define FAKE_CLOCK {{fake_now}, 0}
/* Stops at each deadline on the way, as a machine that is never late. */
__attribute__((unused)) static void advance(struct fake_clock *c, uint64_t ns)
{
    uint64_t end = c->ns + ns;
    while (clock_next_deadline(&c->clock) <= end) {
        if (clock_next_deadline(&c->clock) > c->ns)
            c->ns = clock_next_deadline(&c->clock);
        clock_run_alarms(&c->clock);
    }
    c->ns = end;
}

/* --- Lines: level, and how often it rose */
struct fake_line { int level, rises, calls; };
__attribute__((unused)) static void fake_set(void *ctx, int pin, int level)
{
    struct fake_line *l = (struct fake_line *)ctx + pin;
    l->rises += level && !l->level;
    l->level = level;
    l->calls++;
}
#define FAKE_LINE(lines, pin) ((struct irq_line){fake_set, lines, pin})
__attribute__((unused)) static int rises(struct fake_line *l)
{
    int n = l->rises;
    l->rises = 0;
    return n;
}

/* --- Characters */
struct fake_out { char text[256]; size_t size; };
__attribute__((unused)) static void fake_put(void *ctx, const uint8_t *bytes, size_t size)
{
    struct fake_out *o = ctx;
    for (size_t i = 0; i < size && o->size < sizeof o->text - 1; i++)
        o->text[o->size++] = (char)bytes[i];
}

/* --- Registers */
__attribute__((unused)) static void wr(struct device *d, uint32_t offset, unsigned size, uint32_t value) { d->ops->write(d, offset, size, value); }
__attribute__((unused)) static uint32_t rd(struct device *d, uint32_t offset, unsigned size) { return d->ops->read(d, offset, size); }

/* A script of register accesses: R checks what is read, W writes. */
struct step { char what; uint32_t offset; unsigned size; uint32_t value; };
#define R(offset, size, value) {'R', offset, size, value}
#define W(offset, size, value) {'W', offset, size, value}
__attribute__((unused)) static void play(const char *name, struct device *d, const struct step *steps, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char what[80];
        snprintf(what, sizeof what, "%s, step %u, offset 0x%x", name, i, steps[i].offset);
        if (steps[i].what == 'W')
            wr(d, steps[i].offset, steps[i].size, steps[i].value);
        else
            CHECK(what, rd(d, steps[i].offset, steps[i].size), steps[i].value);
    }
}
#define PLAY(name, d, steps) play(name, d, steps, sizeof(steps) / sizeof *(steps))

/* No access of any size and value at any offset may do harm (run with sanitizers); the lines may do what they want. */
__attribute__((unused)) static void storm(struct device *d, struct fake_clock *clock, uint32_t offsets, unsigned count)
{
    uint32_t x = 2463534242u;
    for (unsigned i = 0; i < count; i++) {
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        unsigned size = 1u << (x >> 8) % 3;
        uint32_t offset = (x >> 12) % offsets & ~(size - 1);
        if (x & 1)
            wr(d, offset, size, x & 2 ? x * 2654435761u : x >> 24);
        else
            (void)rd(d, offset, size);
        if (clock && !(x & 0x70))
            clock->ns += x >> 4, clock_run_alarms(&clock->clock);
    }
    passed++;
}

#endif
