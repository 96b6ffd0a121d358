/* The 82093AA I/O APIC: 24 pins, a redirection entry each. */
#include "hw/hw.h"
#include <stdlib.h>
#include <string.h>

enum { PINS = 24, MASKED = 1 << 16, LEVEL = 1 << 15, REMOTE_IRR = 1 << 14, LOGICAL = 1 << 11 };
struct ioapic { struct device dev, *lapic; uint64_t entry[PINS]; uint32_t lines; uint8_t id, select; bool taken; };

static bool send(struct ioapic *io, uint64_t e)
{
    return lapic_deliver_message(io->lapic, (uint32_t)(e >> 56), e & LOGICAL, e >> 8 & 7, e & 0xff, e & LEVEL);
}

static void deliver_level(struct ioapic *io, unsigned pin)
{
    uint64_t e = io->entry[pin];
    if (!(e & LEVEL) || e & (MASKED | REMOTE_IRR) || !(io->lines >> pin & 1))
        return;
    io->entry[pin] |= REMOTE_IRR; /* before delivery: an EOI may come from inside */
    if (!send(io, e))
        io->entry[pin] &= ~(uint64_t)REMOTE_IRR; /* nobody took it */
}

void ioapic_set_irq(void *ctx, int pin, int level)
{
    struct ioapic *io = ctx;
    if (pin < 0 || pin >= PINS)
        return;
    uint32_t bit = 1u << pin;
    bool rises = level && !(io->lines & bit);
    io->lines = level ? io->lines | bit : io->lines & ~bit;
    if (io->taken)
        return;
    if (io->entry[pin] & LEVEL)
        deliver_level(io, (unsigned)pin);
    else if (rises && !(io->entry[pin] & MASKED)) /* an edge at a masked pin is lost (82093AA 3.2.4) */
        send(io, io->entry[pin]);
}

void ioapic_eoi(void *ctx, unsigned vector)
{
    struct ioapic *io = ctx;
    for (unsigned pin = 0; pin < PINS; pin++) {
        uint64_t *e = &io->entry[pin];
        if ((*e & 0xff) != vector || !(*e & LEVEL) || !(*e & REMOTE_IRR))
            continue;
        *e &= ~(uint64_t)REMOTE_IRR;
        deliver_level(io, pin);
    }
}

void ioapic_take(struct device *dev, struct ioapic_registers *r)
{
    struct ioapic *io = (struct ioapic *)dev;
    *r = (struct ioapic_registers){.lines = io->lines, .id = io->id, .select = io->select};
    memcpy(r->entry, io->entry, sizeof r->entry);
    io->taken = true;
}

void ioapic_give(struct device *dev, const struct ioapic_registers *r)
{
    struct ioapic *io = (struct ioapic *)dev;
    memcpy(io->entry, r->entry, sizeof io->entry);
    io->id = r->id & 15;
    io->select = r->select;
    io->taken = false;
    for (unsigned pin = 0; pin < PINS; pin++)
        deliver_level(io, pin);
}

static uint32_t reg_read(const struct ioapic *io)
{
    unsigned n = io->select;
    if (n == 0 || n == 2)
        return (uint32_t)io->id << 24;
    if (n == 1)
        return 0x11 | (PINS - 1) << 16;
    if (n < 0x10 || n >= 0x10 + 2 * PINS)
        return 0;
    return (uint32_t)(io->entry[(n - 0x10) / 2] >> (n & 1 ? 32 : 0));
}

static void entry_write(struct ioapic *io, unsigned n, uint32_t value)
{
    uint64_t *e = &io->entry[n / 2];
    uint32_t read_only = REMOTE_IRR | 1u << 12;
    if (n & 1)
        *e = (uint32_t)*e | (uint64_t)(value & 0xff000000) << 32;
    else
        *e = (*e & ~0xffffffffull) | (value & 0x1ffff & ~read_only) | (*e & read_only);
    if (!(*e & LEVEL))
        *e &= ~(uint64_t)REMOTE_IRR; /* 82093AA 3.2.4: level only; Linux uses it as an explicit EOI */
    deliver_level(io, n / 2);
}

static uint32_t ioapic_read(struct device *dev, uint32_t offset, unsigned size)
{
    struct ioapic *io = (struct ioapic *)dev;
    (void)size;
    return offset == 0 ? io->select : offset == 0x10 ? reg_read(io) : 0;
}

static void ioapic_write(struct device *dev, uint32_t offset, unsigned size, uint32_t value)
{
    struct ioapic *io = (struct ioapic *)dev;
    (void)size;
    if (offset == 0)
        io->select = (uint8_t)value;
    else if (offset == 0x40)
        ioapic_eoi(io, value & 0xff);
    else if (offset == 0x10 && io->select == 0)
        io->id = value >> 24 & 15;
    else if (offset == 0x10 && io->select >= 0x10 && io->select < 0x10 + 2 * PINS)
        entry_write(io, io->select - 0x10u, value);
}

static void ioapic_reset(struct device *dev)
{
    struct ioapic *io = (struct ioapic *)dev;
    for (unsigned pin = 0; pin < PINS; pin++)
        io->entry[pin] = MASKED;
    io->select = 0;
}

static void ioapic_free(struct device *dev) { free(dev); }

static void ioapic_print(struct device *dev, FILE *f)
{
    static const char *const modes[] = {"fixed", "lowest", "SMI", "...", "NMI", "INIT", "...", "ExtINT"};
    const struct ioapic *io = (const struct ioapic *)dev;
    fprintf(f, "ioapic%u: sel=0x%02x lines=%06x\n", io->id, io->select, io->lines);
    for (unsigned pin = 0; pin < PINS; pin++) {
        uint64_t e = io->entry[pin];
        fprintf(f, "  pin %-2u 0x%016llx dest=%-2u vec=%-3u active-%s %s %s %s %s%s\n", pin, (unsigned long long)e, (unsigned)(e >> 56),
                (unsigned)(e & 0xff), e >> 13 & 1 ? "lo" : "hi", e & LEVEL ? "level" : "edge ", e & MASKED ? "masked" : "      ",
                modes[e >> 8 & 7], e & LOGICAL ? "logical" : "physical", e & REMOTE_IRR ? " remote-irr" : "");
    }
}
static const struct state_field ioapic_fields[] = {
    STATE_ARRAY(struct ioapic, entry), STATE(struct ioapic, lines, .most = (1u << PINS) - 1), STATE(struct ioapic, id, .most = 15), STATE(struct ioapic, select),
};
static const struct state_table ioapic_state = STATE_TABLE(1, ioapic_fields);
static const struct device_ops ioapic_ops = {"ioapic", ioapic_read, ioapic_write, ioapic_reset, ioapic_free, ioapic_print, .state = &ioapic_state};

struct device *ioapic_new(struct device *lapic, uint8_t id)
{
    struct ioapic *io = calloc(1, sizeof *io);
    if (!io)
        return NULL;
    io->dev.ops = &ioapic_ops;
    io->lapic = lapic;
    io->id = id;
    ioapic_reset(&io->dev);
    lapic_on_eoi(lapic, ioapic_eoi, io);
    return &io->dev;
}
