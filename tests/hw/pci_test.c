/* Configuration mechanism 1, the three functions, PIRQ routing, and where the PM block is told to be. */
#include "fake.h"
#include "hw/pc.h"

struct rig { struct fake_line irqs[16]; struct device *d; uint16_t pm; bool pm_on; };
static void on_irq(void *ctx, int irq, int level) { fake_set(((struct rig *)ctx)->irqs, irq, level); }
static void on_pm(void *ctx, uint16_t base, bool on)
{
    ((struct rig *)ctx)->pm = base;
    ((struct rig *)ctx)->pm_on = on;
}
static void select_at(struct rig *r, unsigned device, unsigned function, unsigned offset)
{
    wr(r->d, 0, 4, 0x80000000 | device << 11 | function << 8 | (offset & 0xfc));
}
static uint32_t get(struct rig *r, unsigned device, unsigned function, unsigned offset, unsigned size)
{
    select_at(r, device, function, offset);
    return rd(r->d, 4 + (offset & 3), size);
}
static void set(struct rig *r, unsigned device, unsigned function, unsigned offset, unsigned size, uint32_t value)
{
    select_at(r, device, function, offset);
    wr(r->d, 4 + (offset & 3), size, value);
}

static void identity(struct rig *r)
{
    static const struct { const char *name; uint8_t device, function, offset, size; uint32_t write, read; } rows[] = {
        {"440FX",                0, 0, 0x00, 4, ~0u,        0x12378086}, {"PIIX3 ISA",            1, 0, 0x00, 4, ~0u,        0x70008086},
        {"PIIX4 PM",             1, 3, 0x00, 4, ~0u,        0x71138086}, {"IDE's place is empty", 1, 1, 0x00, 4, 0,          0xffffffff},
        {"no device",            5, 0, 0x00, 2, 0,          0xffff},     {"host bridge's class",  0, 0, 0x08, 4, ~0u,        0x06000002},
        {"ISA bridge's class",   1, 0, 0x0a, 2, 0,          0x0601},     {"multi-function",       1, 0, 0x0e, 1, 0xff,       0x80},
        {"no BAR",               0, 0, 0x10, 4, ~0u,        0},          {"PMBA's bits",          1, 3, 0x40, 4, ~0u,        0x0000ffc1},
        {"PIRQ's bits",          1, 0, 0x60, 1, 0x7f,       0x0f},       {"PAM",                  0, 0, 0x59, 1, 0x33,       0x33},
        {"interrupt line",       1, 3, 0x3c, 4, 0xffffffff, 0x1ff},      {"last byte",            0, 0, 0xff, 1, 0xff,       0},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].write)
            set(r, rows[i].device, rows[i].function, rows[i].offset, rows[i].size, rows[i].write);
        CHECK(rows[i].name, get(r, rows[i].device, rows[i].function, rows[i].offset, rows[i].size), rows[i].read);
    }
    wr(r->d, 0, 4, 0);
    CHECK("not enabled", rd(r->d, 4, 4), 0xffffffff);
    wr(r->d, 0, 4, 0x80010000);
    CHECK("another bus", rd(r->d, 4, 4), 0xffffffff);
    wr(r->d, 0, 1, 0x55);
    CHECK("address only by 32 bits", rd(r->d, 0, 4), 0x80010000);
    CHECK("reserved bits", (wr(r->d, 0, 4, ~0u), rd(r->d, 0, 4)), 0x80fffffc);
    r->d->ops->reset(r->d);
}

static void routing(struct rig *r)
{
    pci_firmware_setup(r->d);
    CHECK("PM block", r->pm_on == 1 && r->pm == PC_PM_BASE, 1);
    pci_set_pirq(r->d, 0, 1);
    CHECK("PIRQA to 10", r->irqs[10].level, 1);
    pci_set_pirq(r->d, 1, 1);
    pci_set_pirq(r->d, 0, 0);
    CHECK("shared with B", r->irqs[10].level, 1);
    set(r, 1, 0, 0x61, 1, 5);
    CHECK("B moved to 5", r->irqs[10].level == 0 && r->irqs[5].level == 1, 1);
    set(r, 1, 0, 0x61, 1, 0x85);
    CHECK("B disabled", r->irqs[5].level, 0);
    pci_set_pirq(r->d, 2, 1);
    CHECK("C to 11", r->irqs[11].level, 1);
    set(r, 1, 3, 0x40, 2, 0xb001);
    CHECK("PM block moved", r->pm, 0xb000);
    set(r, 1, 3, 0x80, 1, 0);
    CHECK("PM block off", r->pm_on, 0);
    r->d->ops->reset(r->d);
    CHECK("reset lets go", r->irqs[11].level, 0);
}

int main(void)
{
    static struct address_space memory, io;
    struct rig r = {.d = pci_host_new(&memory, &io)};
    pci_host_pirq(r.d, on_irq, &r);
    pci_host_pm(r.d, on_pm, &r);
    identity(&r);
    routing(&r);
    storm(r.d, NULL, 8, 100000);
    r.d->ops->free(r.d);
    return report();
}
