/* The power-management block of PIIX4: PM1 event and control, PM timer, GPE0 (64 bytes of ports). */
#include "hw/hw.h"
#include <stdlib.h>

enum { STATUS = 0, ENABLE = 2, CONTROL = 4, TIMER = 8, GPE_STATUS = 0xc, GPE_ENABLE = 0xe };
enum { TMR = 1, GLOBAL = 1 << 5, POWER_BUTTON = 1 << 8, RTC = 1 << 10, WAKE = 1 << 15 };
#define HZ 3579545ull
#define NS 1000000000ull

struct acpi_pm { struct device dev; struct clock *clock; struct irq_line sci, power_off, suspend; struct alarm overflow; uint16_t status, enable, control, gpe_status, gpe_enable; };

static uint64_t ticks(const struct acpi_pm *p) { return (uint64_t)((unsigned __int128)clock_now(p->clock) * HZ / NS); }

static void update(struct acpi_pm *p)
{
    irq_set(&p->sci, (p->status & p->enable & (TMR | GLOBAL | POWER_BUTTON | RTC)) || p->gpe_status & p->gpe_enable);
}

/* Bit 23 of the 24-bit timer toggles: ACPI 4.8.2.1. */
static void schedule(struct acpi_pm *p)
{
    uint64_t next = (ticks(p) >> 23) + 1;
    if (p->enable & TMR)
        alarm_set(&p->overflow, (uint64_t)(((unsigned __int128)next * NS << 23) / HZ) + 1);
    else
        alarm_cancel(&p->overflow);
}

static void on_overflow(void *ctx)
{
    struct acpi_pm *p = ctx;
    p->status |= TMR;
    update(p);
    schedule(p);
}

void acpi_pm_power_button(struct device *dev)
{
    struct acpi_pm *p = (struct acpi_pm *)dev;
    p->status |= POWER_BUTTON;
    update(p);
}

static void control_write(struct acpi_pm *p, uint16_t v)
{
    p->control = v & 0x1c07 & (uint16_t)~(1u << 2);
    if (!(v & 1 << 13)) /* SLP_EN */
        return;
    if ((v >> 10 & 7) == 0)
        irq_set(&p->power_off, 1);
    else if ((v >> 10 & 7) == 1)
        irq_set(&p->suspend, 1);
}

static uint16_t read16(struct acpi_pm *p, uint32_t at)
{
    switch (at) {
    case STATUS: return p->status;
    case ENABLE: return p->enable;
    case CONTROL: return p->control;
    case TIMER: return (uint16_t)ticks(p);
    case TIMER + 2: return ticks(p) >> 16 & 0xff;
    case GPE_STATUS: return p->gpe_status;
    case GPE_ENABLE: return p->gpe_enable;
    default: return 0;
    }
}

static void write16(struct acpi_pm *p, uint32_t at, uint16_t v, uint16_t bytes)
{
    uint16_t merged = (uint16_t)((read16(p, at) & ~bytes) | (v & bytes));
    switch (at) {
    case STATUS: p->status &= (uint16_t)~(v & bytes); break;
    case ENABLE:
        p->enable = merged;
        schedule(p);
        break;
    case CONTROL: control_write(p, merged); break;
    case GPE_STATUS: p->gpe_status &= (uint16_t)~(v & bytes); break;
    case GPE_ENABLE: p->gpe_enable = merged; break;
    default: break;
    }
    update(p);
}

static uint32_t acpi_pm_read(struct device *dev, uint32_t offset, unsigned size)
{
    struct acpi_pm *p = (struct acpi_pm *)dev;
    if (offset == TIMER && size == 4)
        return ticks(p) & 0xffffff; /* in one look, so that the halves agree */
    uint32_t v = read16(p, offset & ~1u) >> 8 * (offset & 1);
    return size == 4 ? v | (uint32_t)read16(p, (offset & ~1u) + 2) << 16 : v;
}

static void acpi_pm_write(struct device *dev, uint32_t offset, unsigned size, uint32_t value)
{
    struct acpi_pm *p = (struct acpi_pm *)dev;
    unsigned odd = offset & 1;
    write16(p, offset & ~1u, (uint16_t)(value << 8 * odd), size == 1 ? (uint16_t)(0xff << 8 * odd) : 0xffff);
    if (size == 4)
        write16(p, (offset & ~1u) + 2, (uint16_t)(value >> 16), 0xffff);
}

static void acpi_pm_reset(struct device *dev)
{
    struct acpi_pm *p = (struct acpi_pm *)dev;
    p->status = p->enable = p->gpe_status = p->gpe_enable = 0;
    p->control = 1; /* SCI_EN: there is no SMM to hand over from */
    schedule(p);
    update(p);
}

static void acpi_pm_free(struct device *dev)
{
    alarm_cancel(&((struct acpi_pm *)dev)->overflow);
    free(dev);
}
static const struct state_field acpi_pm_fields[] = {
    STATE_ALARM(struct acpi_pm, overflow), STATE(struct acpi_pm, status), STATE(struct acpi_pm, enable), STATE(struct acpi_pm, control),
    STATE(struct acpi_pm, gpe_status), STATE(struct acpi_pm, gpe_enable),
};
static const struct state_table acpi_pm_state = STATE_TABLE(1, acpi_pm_fields);
static const struct device_ops acpi_pm_ops = {"acpi-pm", acpi_pm_read, acpi_pm_write, acpi_pm_reset, acpi_pm_free, .state = &acpi_pm_state};

struct device *acpi_pm_new(struct clock *clock, struct irq_line sci, struct irq_line power_off, struct irq_line suspend)
{
    struct acpi_pm *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->dev.ops = &acpi_pm_ops;
    p->clock = clock;
    p->sci = sci;
    p->power_off = power_off;
    p->suspend = suspend;
    alarm_init(&p->overflow, clock, on_overflow, p);
    acpi_pm_reset(&p->dev);
    return &p->dev;
}
