/* The pair of Intel 8259A interrupt controllers of a PC, with the ELCR of PIIX (level or edge by pin).
 * Offsets: 0,1 master, 2,3 slave, 4,5 ELCR. */
#include "hw/hw.h"
#include <stdlib.h>
#include <string.h>

struct chip {
    uint8_t irr, isr, imr, lines, elcr, elcr_mask, base;
    uint8_t icw, icw4;          /* icw: the next initialisation word expected, 0: none */
    uint8_t lowest;             /* priority: lowest + 1 is the highest */
    bool needs_icw4, single, auto_eoi, rotate_auto, special_mask, special_nested, read_isr, poll;
};
struct pic { struct device dev; struct chip chip[2]; struct irq_line output; int level; bool taken; };

static unsigned rank(const struct chip *c, unsigned pin) { return (pin - c->lowest - 1) & 7; }

/* The pin with the highest priority among `set`, 8 where there is none. */
static unsigned highest(const struct chip *c, uint8_t set)
{
    unsigned best = 8;
    for (unsigned pin = 0; pin < 8; pin++)
        if (set >> pin & 1 && (best == 8 || rank(c, pin) < rank(c, best)))
            best = pin;
    return best;
}

static uint8_t requests(const struct pic *p, unsigned which);

/* The pin that this chip would interrupt with, 8 for none. */
static unsigned pending(const struct pic *p, unsigned which)
{
    const struct chip *c = &p->chip[which];
    uint8_t in_service = c->isr;
    if (c->special_mask)
        in_service &= (uint8_t)~c->imr;
    if (c->special_nested && which == 0)
        in_service &= (uint8_t)~(1u << 2); /* the slave may interrupt its own service */
    unsigned request = highest(c, requests(p, which) & (uint8_t)~c->imr), service = highest(c, in_service);
    return request < 8 && (service == 8 || rank(c, request) < rank(c, service)) ? request : 8;
}

static uint8_t requests(const struct pic *p, unsigned which)
{
    const struct chip *c = &p->chip[which];
    uint8_t set = c->irr | (c->lines & c->elcr);
    if (which == 0)
        set = (uint8_t)((set & ~(1u << 2)) | (pending(p, 1) < 8 ? 1u << 2 : 0));
    return set;
}

static void update(struct pic *p)
{
    int level = pending(p, 0) < 8;
    if (level != p->level) {
        p->level = level;
        irq_set(&p->output, level);
    }
}

void pic_set_irq(void *ctx, int irq, int level)
{
    struct pic *p = ctx;
    if (irq < 0 || irq > 15 || irq == 2)
        return;
    struct chip *c = &p->chip[irq >> 3];
    uint8_t bit = (uint8_t)(1u << (irq & 7));
    if (level && !(c->lines & bit) && !(c->elcr & bit) && !p->taken)
        c->irr |= bit;
    if (!level && !(c->elcr & bit))
        c->irr &= (uint8_t)~bit; /* an edge must stay until it is acknowledged, or becomes spurious */
    c->lines = (uint8_t)(level ? c->lines | bit : c->lines & ~bit);
    if (!p->taken)
        update(p);
}

void pic_take(struct device *dev, struct pic_registers *r)
{
    struct pic *p = (struct pic *)dev;
    for (unsigned i = 0; i < 2; i++) {
        const struct chip *c = &p->chip[i];
        r->chip[i] = (struct pic_chip_registers){c->irr, c->isr, c->imr, c->lines, c->elcr, c->base, c->icw, c->lowest, c->needs_icw4, c->auto_eoi, c->rotate_auto,
                                                 c->special_mask, c->special_nested, c->read_isr, c->poll};
    }
    p->taken = true;
}

void pic_give(struct device *dev, const struct pic_registers *r)
{
    struct pic *p = (struct pic *)dev;
    for (unsigned i = 0; i < 2; i++) {
        const struct pic_chip_registers *from = &r->chip[i];
        struct chip *c = &p->chip[i];
        *c = (struct chip){.irr = from->irr, .isr = from->isr, .imr = from->imr, .lines = c->lines, .elcr = from->elcr & c->elcr_mask, .elcr_mask = c->elcr_mask,
                           .base = from->base, .icw = from->icw, .icw4 = c->icw4, .lowest = from->lowest & 7, .needs_icw4 = from->needs_icw4, .single = c->single,
                           .auto_eoi = from->auto_eoi, .rotate_auto = from->rotate_auto, .special_mask = from->special_mask, .special_nested = from->special_nested,
                           .read_isr = from->read_isr, .poll = from->poll};
    }
    p->taken = false;
    update(p);
}

static void end_of(struct chip *c, unsigned pin, bool rotate)
{
    if (pin > 7)
        return;
    c->isr &= (uint8_t)~(1u << pin);
    if (rotate)
        c->lowest = (uint8_t)pin;
}

static unsigned acknowledge(struct pic *p, unsigned which)
{
    struct chip *c = &p->chip[which];
    unsigned pin = pending(p, which);
    if (pin == 8)
        return 8;
    c->irr &= (uint8_t)~(1u << pin);
    if (c->auto_eoi)
        end_of(c, c->rotate_auto ? pin : 8, true);
    else
        c->isr |= (uint8_t)(1u << pin);
    return pin;
}

int pic_acknowledge(struct device *dev)
{
    struct pic *p = (struct pic *)dev;
    bool from_slave = pending(p, 0) == 2;
    unsigned pin, which = 0;
    if (from_slave) {
        pin = acknowledge(p, 1);
        struct chip *m = &p->chip[0];
        if (!m->auto_eoi)
            m->isr |= 1u << 2;
        which = 1;
    } else {
        pin = acknowledge(p, 0);
    }
    update(p);
    return p->chip[which].base | (pin == 8 ? 7 : pin); /* 7: spurious (8259A data sheet) */
}

static void write_ocw2(struct chip *c, uint8_t v)
{
    unsigned pin = v & 7, top = highest(c, c->isr);
    switch (v >> 5) {
    case 0: c->rotate_auto = false; break;
    case 1: end_of(c, top, false); break;
    case 3: end_of(c, pin, false); break;
    case 4: c->rotate_auto = true; break;
    case 5: end_of(c, top, true); break;
    case 6: c->lowest = (uint8_t)pin; break;
    case 7: end_of(c, pin, true); break;
    }
}

static void write_ocw3(struct chip *c, uint8_t v)
{
    if (v & 0x40)
        c->special_mask = v & 0x20;
    c->poll = v & 4;
    if (v & 2)
        c->read_isr = v & 1;
}

static void write_icw1(struct chip *c, uint8_t v)
{
    c->irr = c->isr = c->imr = 0;
    c->lowest = 7;
    c->special_mask = c->read_isr = c->poll = c->auto_eoi = c->rotate_auto = c->special_nested = false;
    c->needs_icw4 = v & 1;
    c->single = v & 2;
    c->icw = 2;
}

static void write_data(struct chip *c, uint8_t v)
{
    switch (c->icw) {
    case 2:
        c->base = v & 0xf8;
        c->icw = c->single ? (c->needs_icw4 ? 4 : 0) : 3;
        break;
    case 3: /* the cascade is wired: what the guest says of it changes nothing */
        c->icw = c->needs_icw4 ? 4 : 0;
        break;
    case 4:
        c->auto_eoi = v & 2;
        c->special_nested = v & 0x10;
        c->icw = 0;
        break;
    default:
        c->imr = v;
    }
}

static void pic_write(struct device *dev, uint32_t offset, unsigned size, uint32_t value)
{
    struct pic *p = (struct pic *)dev;
    uint8_t v = (uint8_t)value;
    (void)size;
    if (offset >= 6)
        return;
    struct chip *c = &p->chip[offset < 4 ? offset >> 1 : offset - 4];
    if (offset >= 4)
        c->elcr = v & c->elcr_mask;
    else if (offset & 1)
        write_data(c, v);
    else if (v & 0x10)
        write_icw1(c, v);
    else if (v & 8)
        write_ocw3(c, v);
    else
        write_ocw2(c, v);
    update(p);
}

static uint32_t pic_read(struct device *dev, uint32_t offset, unsigned size)
{
    struct pic *p = (struct pic *)dev;
    (void)size;
    if (offset >= 6)
        return 0xff;
    unsigned which = offset < 4 ? offset >> 1 : offset - 4;
    struct chip *c = &p->chip[which];
    if (offset >= 4)
        return c->elcr;
    if (c->poll) {
        c->poll = false;
        unsigned pin = acknowledge(p, which);
        update(p);
        return pin == 8 ? 0 : 0x80 | pin;
    }
    if (offset & 1)
        return c->imr;
    return c->read_isr ? c->isr : requests(p, which);
}

static void pic_reset(struct device *dev)
{
    struct pic *p = (struct pic *)dev;
    for (unsigned i = 0; i < 2; i++) {
        uint8_t lines = p->chip[i].lines;
        p->chip[i] = (struct chip){.lines = lines, .elcr_mask = i ? 0xde : 0xf8, .lowest = 7};
    }
    update(p);
}

static void pic_free(struct device *dev) { free(dev); }

static void pic_print(struct device *dev, FILE *f)
{
    struct pic *p = (struct pic *)dev;
    for (unsigned i = 0; i < 2; i++) {
        const struct chip *c = &p->chip[i];
        fprintf(f, "pic%u: irr=%02x imr=%02x isr=%02x hprio=%u irq_base=%02x rr_sel=%u elcr=%02x fnm=%u\n", i, c->irr, c->imr, c->isr,
                (c->lowest + 1) & 7, c->base, c->read_isr, c->elcr, c->special_nested);
    }
}
static const struct state_field pic_fields[] = {
    STATE_EACH(struct pic, chip, irr), STATE_EACH(struct pic, chip, isr), STATE_EACH(struct pic, chip, imr), STATE_EACH(struct pic, chip, lines),
    STATE_EACH(struct pic, chip, elcr), STATE_EACH(struct pic, chip, base), STATE_EACH(struct pic, chip, icw, .most = 4), STATE_EACH(struct pic, chip, lowest, .most = 7),
    STATE_EACH(struct pic, chip, needs_icw4), STATE_EACH(struct pic, chip, single), STATE_EACH(struct pic, chip, auto_eoi), STATE_EACH(struct pic, chip, rotate_auto),
    STATE_EACH(struct pic, chip, special_mask), STATE_EACH(struct pic, chip, special_nested), STATE_EACH(struct pic, chip, read_isr), STATE_EACH(struct pic, chip, poll),
    STATE(struct pic, level, .most = 1),
};
static const struct state_table pic_state = STATE_TABLE(1, pic_fields);
static const struct device_ops pic_ops = {"pic", pic_read, pic_write, pic_reset, pic_free, pic_print, .state = &pic_state};

struct device *pic_new(struct irq_line output)
{
    struct pic *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->dev.ops = &pic_ops;
    p->output = output;
    pic_reset(&p->dev);
    return &p->dev;
}
