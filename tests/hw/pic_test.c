/* The 8259A pair: initialisation, priorities, both kinds of end of interrupt, level and edge, spurious, poll. */
#include "fake.h"

static const struct step init[] = {
    W(0, 1, 0x11), W(1, 1, 0x20), W(1, 1, 0x04), W(1, 1, 0x01), W(2, 1, 0x11), W(3, 1, 0x28), W(3, 1, 0x02), W(3, 1, 0x01),
};

/* What happens, in order: `line` set (+) or cleared (-), a register written, or an acknowledgement with its vector. */
struct event { enum { UP, DOWN, WRITE, ACK, READ, INTR } what; int a, b; };
struct story { const char *name; struct event events[24]; };
static const struct story stories[] = {
    {"one edge", {{INTR, 0}, {UP, 4}, {INTR, 1}, {ACK, 0x24}, {INTR, 0}, {WRITE, 0, 0x20}, {INTR, 0}, {DOWN, 4}, {UP, 4}, {INTR, 1}}},
    {"an edge that goes away is spurious", {{UP, 3}, {DOWN, 3}, {INTR, 0}, {ACK, 0x27}, {WRITE, 0, 0x0b}, {READ, 0, 0}}},
    {"masked", {{WRITE, 1, 0x10}, {UP, 4}, {INTR, 0}, {READ, 1, 0x10}, {READ, 0, 0x10}, {WRITE, 1, 0}, {INTR, 1}, {ACK, 0x24}}},
    {"priority", {{UP, 5}, {UP, 1}, {ACK, 0x21}, {INTR, 0}, {WRITE, 0, 0x20}, {INTR, 1}, {ACK, 0x25}}},
    {"a higher one nests", {{UP, 5}, {ACK, 0x25}, {UP, 1}, {INTR, 1}, {ACK, 0x21}, {WRITE, 0, 0x0b}, {READ, 0, 0x22}, {WRITE, 0, 0x20}, {READ, 0, 0x20}}},
    {"specific end", {{UP, 5}, {ACK, 0x25}, {UP, 1}, {ACK, 0x21}, {WRITE, 0, 0x65}, {WRITE, 0, 0x0b}, {READ, 0, 0x02}}},
    {"slave through pin 2", {{UP, 12}, {INTR, 1}, {ACK, 0x2c}, {WRITE, 0, 0x0b}, {READ, 0, 4}, {WRITE, 2, 0x0b}, {READ, 2, 0x10},
                             {WRITE, 2, 0x20}, {WRITE, 0, 0x20}, {READ, 0, 0}, {INTR, 0}}},
    {"slave stands between 1 and 3", {{UP, 3}, {UP, 8}, {ACK, 0x28}, {WRITE, 2, 0x20}, {WRITE, 0, 0x20}, {ACK, 0x23}}},
    {"level", {{WRITE, 5, 0x02}, {UP, 9}, {ACK, 0x29}, {WRITE, 2, 0x20}, {WRITE, 0, 0x20}, {INTR, 1}, {ACK, 0x29}, {DOWN, 9}, {WRITE, 2, 0x20},
               {WRITE, 0, 0x20}, {INTR, 0}}},
    {"ELCR's fixed bits", {{WRITE, 4, 0xff}, {READ, 4, 0xf8}, {WRITE, 5, 0xff}, {READ, 5, 0xde}}},
    {"rotation", {{UP, 3}, {ACK, 0x23}, {WRITE, 0, 0xa0}, {UP, 4}, {DOWN, 3}, {UP, 3}, {ACK, 0x24}, {WRITE, 0, 0x20}, {ACK, 0x23}}},
    {"set priority", {{WRITE, 0, 0xc4}, {UP, 4}, {UP, 5}, {ACK, 0x25}}},
    {"special mask", {{UP, 1}, {ACK, 0x21}, {WRITE, 1, 0x02}, {WRITE, 0, 0x68}, {UP, 5}, {INTR, 1}, {ACK, 0x25}}},
    {"poll", {{UP, 6}, {WRITE, 0, 0x0c}, {READ, 0, 0x86}, {INTR, 0}, {WRITE, 0, 0x0c}, {READ, 0, 0}}},
    {"automatic end", {{WRITE, 0, 0x11}, {WRITE, 1, 0x20}, {WRITE, 1, 4}, {WRITE, 1, 3}, {UP, 1}, {ACK, 0x21}, {WRITE, 0, 0x0b}, {READ, 0, 0}}},
    {"initialising forgets", {{UP, 4}, {WRITE, 0, 0x11}, {INTR, 0}, {WRITE, 1, 0x40}, {WRITE, 1, 4}, {WRITE, 1, 1}, {DOWN, 4}, {UP, 4}, {ACK, 0x44}}},
    {"pin 2 is no input", {{UP, 2}, {INTR, 0}}},
};

static void tell(const struct story *s)
{
    struct fake_line line = {0};
    struct device *d = pic_new(FAKE_LINE(&line, 0));
    PLAY("init", d, init);
    for (unsigned i = 0; i < sizeof s->events / sizeof *s->events; i++) {
        const struct event *e = &s->events[i];
        char what[100];
        snprintf(what, sizeof what, "%s, event %u", s->name, i);
        switch (e->what) {
        case UP: if (e->a) pic_set_irq(d, e->a, 1); break; /* an empty row is UP 0 */
        case DOWN: pic_set_irq(d, e->a, 0); break;
        case WRITE: wr(d, (uint32_t)e->a, 1, (uint32_t)e->b); break;
        case READ: CHECK(what, rd(d, (uint32_t)e->a, 1), e->b); break;
        case ACK: CHECK(what, pic_acknowledge(d), e->a); break;
        case INTR: CHECK(what, line.level, e->a); break;
        }
    }
    d->ops->free(d);
}

int main(void)
{
    for (unsigned i = 0; i < sizeof stories / sizeof *stories; i++)
        tell(&stories[i]);
    struct fake_line line = {0};
    struct device *d = pic_new(FAKE_LINE(&line, 0));
    for (int pin = -3; pin < 20; pin++)
        pic_set_irq(d, pin, 1);
    storm(d, NULL, 8, 50000);
    d->ops->reset(d);
    CHECK("reset", line.level, 0);
    d->ops->free(d);
    return report();
}
