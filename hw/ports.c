/* The one-register devices of a PC: port 92h (fast A20 and reset), port F0h (the FPU's errors), port CF9h (reset
 * control), the debug console at E9h, and isa-debug-exit. */
#include "hw/hw.h"
#include <stdlib.h>

struct port { struct device dev; struct irq_line reset_line, a20; struct chardev out; void (*exit)(void *, int); void *ctx; uint8_t value; };

static void no_reset(struct device *dev) { ((struct port *)dev)->value = 0; }
static void port_free(struct device *dev) { free(dev); }

static struct device *port_new(const struct device_ops *ops, struct port init)
{
    struct port *p = malloc(sizeof *p);
    if (!p)
        return NULL;
    *p = init;
    p->dev.ops = ops;
    return &p->dev;
}

static const struct state_field value_fields[] = {STATE(struct port, value)};
static const struct state_table value_state = STATE_TABLE(1, value_fields);

static uint32_t value_read(struct device *dev, uint32_t offset, unsigned size)
{
    (void)offset, (void)size;
    return ((struct port *)dev)->value;
}

static void port92_write(struct device *dev, uint32_t offset, unsigned size, uint32_t value)
{
    struct port *p = (struct port *)dev;
    (void)offset, (void)size;
    bool rises = value & 1 && !(p->value & 1);
    p->value = (uint8_t)value;
    irq_set(&p->a20, value >> 1 & 1);
    if (rises)
        irq_set(&p->reset_line, 1);
}
static void port92_reset(struct device *dev) { ((struct port *)dev)->value = 2; }
static const struct device_ops port92_ops = {"port92", value_read, port92_write, port92_reset, port_free, .state = &value_state};
struct device *port92_new(struct irq_line reset_line, struct irq_line a20)
{
    return port_new(&port92_ops, (struct port){.reset_line = reset_line, .a20 = a20, .value = 2});
}

/* FERR# of the CPU pulls IRQ 13 until port F0h is written, which also raises IGNNE# for as long as FERR# stays. */
struct portf0 { struct device dev; struct irq_line irq; bool ferr, ignne; };
static void portf0_write(struct device *dev, uint32_t offset, unsigned size, uint32_t value)
{
    struct portf0 *p = (struct portf0 *)dev;
    (void)offset, (void)size, (void)value;
    irq_set(&p->irq, 0);
    p->ignne = p->ferr;
}
static uint32_t portf0_read(struct device *dev, uint32_t offset, unsigned size)
{
    (void)dev, (void)offset, (void)size;
    return 0xffffffff;
}
static void portf0_reset(struct device *dev)
{
    struct portf0 *p = (struct portf0 *)dev;
    p->ferr = p->ignne = false;
    irq_set(&p->irq, 0);
}
static const struct state_field portf0_fields[] = {STATE(struct portf0, ferr), STATE(struct portf0, ignne)};
static const struct state_table portf0_state = STATE_TABLE(1, portf0_fields);
static const struct device_ops portf0_ops = {"portf0", portf0_read, portf0_write, portf0_reset, port_free, .state = &portf0_state};
struct device *portf0_new(struct irq_line irq13)
{
    struct portf0 *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->dev.ops = &portf0_ops;
    p->irq = irq13;
    return &p->dev;
}
bool portf0_ferr(struct device *dev, bool level)
{
    struct portf0 *p = (struct portf0 *)dev;
    if (level && !p->ferr)
        irq_set(&p->irq, 1);
    p->ferr = level;
    p->ignne &= level;
    return p->ignne;
}

static void portcf9_write(struct device *dev, uint32_t offset, unsigned size, uint32_t value)
{
    struct port *p = (struct port *)dev;
    (void)offset, (void)size;
    bool rises = value & 4 && !(p->value & 4);
    p->value = value & 0xe;
    if (rises)
        irq_set(&p->reset_line, 1);
}
static const struct device_ops portcf9_ops = {"portcf9", value_read, portcf9_write, no_reset, port_free, .state = &value_state};
struct device *portcf9_new(struct irq_line reset_line) { return port_new(&portcf9_ops, (struct port){.reset_line = reset_line}); }

static uint32_t debugcon_read(struct device *dev, uint32_t offset, unsigned size)
{
    (void)dev, (void)offset, (void)size;
    return 0xe9; /* says that it is there */
}
static void debugcon_write(struct device *dev, uint32_t offset, unsigned size, uint32_t value)
{
    struct port *p = (struct port *)dev;
    uint8_t byte = (uint8_t)value;
    (void)offset, (void)size;
    if (p->out.write)
        p->out.write(p->out.ctx, &byte, 1);
}
static const struct device_ops debugcon_ops = {"debugcon", debugcon_read, debugcon_write, no_reset, port_free};
struct device *debugcon_new(struct chardev out) { return port_new(&debugcon_ops, (struct port){.out = out}); }

static uint32_t debugexit_read(struct device *dev, uint32_t offset, unsigned size)
{
    (void)dev, (void)offset, (void)size;
    return 0;
}
static void debugexit_write(struct device *dev, uint32_t offset, unsigned size, uint32_t value)
{
    struct port *p = (struct port *)dev;
    (void)offset, (void)size;
    p->exit(p->ctx, (int)(value << 1 | 1) & 0xff);
}
static const struct device_ops debugexit_ops = {"isa-debug-exit", debugexit_read, debugexit_write, no_reset, port_free};
struct device *debugexit_new(void (*exit)(void *, int), void *ctx)
{
    return port_new(&debugexit_ops, (struct port){.exit = exit, .ctx = ctx});
}
