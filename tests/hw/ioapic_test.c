/* The I/O APIC with a local APIC behind it: edges, levels and their EOI, masks, destinations. */
#include "fake.h"

struct rig { struct fake_clock clock; struct fake_line line; struct device *lapic, *d; };

static void setup(struct rig *r)
{
    *r = (struct rig){.clock = FAKE_CLOCK};
    r->lapic = lapic_new(&r->clock.clock, 0, FAKE_LINE(&r->line, 0));
    r->d = ioapic_new(r->lapic, 3);
    wr(r->lapic, 0xf0, 4, 0x1ff);
}
static void teardown(struct rig *r)
{
    r->d->ops->free(r->d);
    r->lapic->ops->free(r->lapic);
}
static void set(struct rig *r, unsigned reg, uint32_t value)
{
    wr(r->d, 0, 4, reg);
    wr(r->d, 0x10, 4, value);
}
static uint32_t get(struct rig *r, unsigned reg)
{
    wr(r->d, 0, 4, reg);
    return rd(r->d, 0x10, 4);
}
static int take(struct rig *r, bool eoi)
{
    int vector = lapic_acknowledge(r->lapic);
    if (eoi)
        wr(r->lapic, 0xb0, 4, 0);
    return vector;
}

static void registers(struct rig *r)
{
    static const struct { const char *name; unsigned reg; uint32_t write, read; } rows[] = {
        {"id", 0, 0xff000000, 0x0f000000}, {"version", 1, ~0u, 0x00170011}, {"masked at first", 0x10, 0x10000, 0x10000},
        {"read-only bits", 0x12, 0xfffef040, 0x0000a040 & ~0x5000u}, {"destination", 0x13, 0xffffffff, 0xff000000}, {"behind the end", 0x40, ~0u, 0}, {"gap", 5, ~0u, 0},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        set(r, rows[i].reg, rows[i].write);
        CHECK(rows[i].name, get(r, rows[i].reg), rows[i].read);
    }
    r->d->ops->reset(r->d);
}

static void edges(struct rig *r)
{
    ioapic_set_irq(r->d, 4, 1);
    set(r, 0x18, 0x34);
    CHECK("an edge while masked is lost", take(r, false), -1);
    ioapic_set_irq(r->d, 4, 1);
    CHECK("no edge", take(r, false), -1);
    ioapic_set_irq(r->d, 4, 0);
    ioapic_set_irq(r->d, 4, 1);
    CHECK("edge", take(r, true), 0x34);
    CHECK("once", take(r, false), -1);
    set(r, 0x19, 0x05000000);
    ioapic_set_irq(r->d, 4, 0);
    ioapic_set_irq(r->d, 4, 1);
    CHECK("to another CPU", take(r, false), -1);
    ioapic_set_irq(r->d, 4, 0);
}

static void levels(struct rig *r)
{
    enum { REMOTE = 0x4000 };
    set(r, 0x22, 0x8045); /* pin 9 */
    ioapic_set_irq(r->d, 9, 1);
    CHECK("remote IRR", get(r, 0x22), 0x8045 | REMOTE);
    CHECK("level", take(r, true), 0x45);
    CHECK("again while it is high", take(r, false), 0x45);
    ioapic_set_irq(r->d, 9, 0);
    wr(r->lapic, 0xb0, 4, 0);
    CHECK("low", take(r, false), -1);
    CHECK("remote IRR gone", get(r, 0x22), 0x8045);
    set(r, 0x22, 0x18045);
    ioapic_set_irq(r->d, 9, 1);
    CHECK("masked", take(r, false), -1);
    set(r, 0x22, 0x8045);
    CHECK("a level waits for the mask", take(r, false), 0x45);
    ioapic_set_irq(r->d, 9, 0);
    set(r, 0x22, 0x0045);
    CHECK("to edge: remote IRR is cleared", get(r, 0x22), 0x0045);
    wr(r->lapic, 0xb0, 4, 0);
    set(r, 0x22, 0x8046);
    set(r, 0x23, 0x07000000);
    ioapic_set_irq(r->d, 9, 1);
    CHECK("nobody took it", get(r, 0x22), 0x8046);
    set(r, 0x23, 0);
    set(r, 0x22, 0x8046);
    CHECK("the right one does", take(r, false), 0x46);
    wr(r->d, 0x40, 4, 0x46);
    ioapic_set_irq(r->d, 9, 0);
}

int main(void)
{
    struct rig r;
    setup(&r);
    registers(&r);
    edges(&r);
    levels(&r);
    for (int pin = -2; pin < 40; pin++)
        ioapic_set_irq(r.d, pin, 1);
    storm(r.d, NULL, 0x44, 50000);
    teardown(&r);
    return report();
}
