/* The one-register devices of a PC: port 92h (fast A20 and reset), port CF9h (reset control), the debug
 * console at E9h, and isa-debug-exit. */
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
static const struct device_ops port92_ops = {"port92", value_read, port92_write, port92_reset, port_free};
struct device *port92_new(struct irq_line reset_line, struct irq_line a20)
{
    return port_new(&port92_ops, (struct port){.reset_line = reset_line, .a20 = a20, .value = 2});
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
static const struct device_ops portcf9_ops = {"portcf9", value_read, portcf9_write, no_reset, port_free};
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
