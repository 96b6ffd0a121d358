/* The 16550A UART.  Bytes leave at once; the line's rate matters only for the receive time-out.  While the other side takes no more, the
 * transmitter is not empty; what a guest writes all the same is not lost. */
#include "hw/hw.h"
#include <stdlib.h>
#include <string.h>

enum { FIFO = 16 };
enum { IER_RX = 1, IER_TX = 2, IER_LINE = 4, IER_MODEM = 8 };
enum { LSR_DR = 1, LSR_OE = 2, LSR_BI = 16, LSR_THRE = 32, LSR_TEMT = 64 };
enum { MCR_OUT2 = 8, MCR_LOOP = 16 };
#define CHARACTER_NS 86806u /* ten bits at 115200 baud */

struct uart {
    struct device dev;
    struct clock *clock;
    struct irq_line irq;
    struct chardev out;
    struct alarm timeout;
    void (*room)(void *); void *room_ctx;
    uint8_t rx[FIFO]; unsigned rx_at, rx_count;
    uint8_t ier, fcr, lcr, mcr, lsr, msr, scratch;
    uint16_t divisor;
    bool thre_pending, timed_out;
    int level;
};

static bool fifo_on(const struct uart *u) { return u->fcr & 1; }
static unsigned trigger(const struct uart *u)
{
    static const uint8_t levels[] = {1, 4, 8, 14};
    return fifo_on(u) ? levels[u->fcr >> 6] : 1;
}

/* The highest pending interrupt as IIR says it; 1 for none. */
static uint8_t pending(const struct uart *u)
{
    if (u->ier & IER_LINE && u->lsr & (LSR_OE | LSR_BI))
        return 6;
    if (u->ier & IER_RX && u->rx_count >= trigger(u))
        return 4;
    if (u->ier & IER_RX && u->timed_out && u->rx_count)
        return 12;
    if (u->ier & IER_TX && u->thre_pending)
        return 2;
    if (u->ier & IER_MODEM && u->msr & 15)
        return 0;
    return 1;
}

static void update(struct uart *u)
{
    int level = pending(u) != 1 && (u->mcr & MCR_OUT2 || u->mcr & MCR_LOOP);
    if (level != u->level) {
        u->level = level;
        irq_set(&u->irq, level);
    }
}

static void on_timeout(void *ctx)
{
    struct uart *u = ctx;
    u->timed_out = u->rx_count != 0;
    update(u);
}

static unsigned capacity(const struct uart *u) { return fifo_on(u) ? FIFO : 1; }
bool uart_has_room(struct device *dev)
{
    struct uart *u = (struct uart *)dev;
    return u->rx_count < capacity(u) && !(u->mcr & MCR_LOOP);
}

static void put(struct uart *u, uint8_t byte)
{
    if (u->rx_count == capacity(u)) {
        u->lsr |= LSR_OE;
        return;
    }
    u->rx[(u->rx_at + u->rx_count++) % FIFO] = byte;
    u->lsr |= LSR_DR;
    u->timed_out = false;
    if (fifo_on(u))
        alarm_set(&u->timeout, clock_now(u->clock) + 4 * CHARACTER_NS);
}

size_t uart_receive(struct device *dev, const uint8_t *bytes, size_t size)
{
    struct uart *u = (struct uart *)dev;
    size_t n = 0;
    while (n < size && uart_has_room(dev))
        put(u, bytes[n++]);
    update(u);
    return n;
}

/* A NUL that LSR.BI marks (PC16550D, 8.4). */
void uart_break(struct device *dev)
{
    struct uart *u = (struct uart *)dev;
    put(u, 0);
    u->lsr |= LSR_BI;
    update(u);
}

void uart_on_room(struct device *dev, void (*room)(void *), void *ctx)
{
    struct uart *u = (struct uart *)dev;
    u->room = room;
    u->room_ctx = ctx;
}

static uint8_t take(struct uart *u)
{
    if (!u->rx_count)
        return 0;
    uint8_t byte = u->rx[u->rx_at];
    u->rx_at = (u->rx_at + 1) % FIFO;
    u->timed_out = false;
    if (--u->rx_count == 0) {
        u->lsr &= (uint8_t)~LSR_DR;
        alarm_cancel(&u->timeout);
    } else if (fifo_on(u)) {
        alarm_set(&u->timeout, clock_now(u->clock) + 4 * CHARACTER_NS);
    }
    if (u->room)
        u->room(u->room_ctx);
    return byte;
}

static void transmit(struct uart *u, uint8_t byte)
{
    if (u->mcr & MCR_LOOP)
        put(u, byte);
    else if (u->out.write)
        u->out.write(u->out.ctx, &byte, 1);
    if (!(u->mcr & MCR_LOOP) && u->out.is_full && u->out.is_full(u->out.ctx))
        u->lsr &= (uint8_t)~(LSR_THRE | LSR_TEMT);
    u->thre_pending = u->lsr & LSR_THRE; /* empty again at once: an edge */
}

void uart_drained(struct device *dev)
{
    struct uart *u = (struct uart *)dev;
    if (u->lsr & LSR_THRE)
        return;
    u->lsr |= LSR_THRE | LSR_TEMT;
    u->thre_pending = true;
    update(u);
}

static void msr_write(struct uart *u, uint8_t lines)
{
    uint8_t changed = (uint8_t)((lines ^ u->msr) >> 4 & 11);
    if (u->msr & 0x40 && !(lines & 0x40))
        changed |= 4; /* ring indicator: trailing edge alone */
    u->msr = (uint8_t)(lines | (u->msr & 15) | changed);
}

static void mcr_write(struct uart *u, uint8_t v)
{
    bool hears_again = u->mcr & MCR_LOOP && !(v & MCR_LOOP);
    u->mcr = v & 0x1f;
    if (v & MCR_LOOP)
        msr_write(u, (uint8_t)((v & 2) << 3 | (v & 1) << 5 | (v & 4) << 4 | (v & 8) << 4));
    else
        msr_write(u, 0xb0); /* CTS, DSR, DCD: somebody listens */
    if (hears_again && u->room)
        u->room(u->room_ctx);
}

static void fcr_write(struct uart *u, uint8_t v)
{
    bool toggled = (v ^ u->fcr) & 1;
    if (toggled || v & 2) {
        u->rx_count = u->rx_at = 0;
        u->lsr &= (uint8_t)~LSR_DR;
        u->timed_out = false;
        alarm_cancel(&u->timeout);
    }
    u->fcr = v & 1 ? v & 0xc9 : 0;
    if (u->room && (toggled || v & 2))
        u->room(u->room_ctx);
}

static void uart_write(struct device *dev, uint32_t offset, unsigned size, uint32_t value)
{
    struct uart *u = (struct uart *)dev;
    uint8_t v = (uint8_t)value;
    bool dlab = u->lcr & 0x80;
    (void)size;
    switch (offset) {
    case 0:
        if (dlab)
            u->divisor = (uint16_t)((u->divisor & 0xff00) | v);
        else
            transmit(u, v);
        break;
    case 1:
        if (dlab) {
            u->divisor = (uint16_t)((u->divisor & 0xff) | v << 8);
        } else {
            if (v & IER_TX && !(u->ier & IER_TX) && u->lsr & LSR_THRE)
                u->thre_pending = true; /* enabling it with an empty register interrupts at once */
            u->ier = v & 15;
        }
        break;
    case 2: fcr_write(u, v); break;
    case 3: u->lcr = v; break;
    case 4: mcr_write(u, v); break;
    case 7: u->scratch = v; break;
    default: break;
    }
    update(u);
}

static uint32_t uart_read(struct device *dev, uint32_t offset, unsigned size)
{
    struct uart *u = (struct uart *)dev;
    bool dlab = u->lcr & 0x80;
    uint8_t v = 0xff;
    (void)size;
    switch (offset) {
    case 0: v = dlab ? (uint8_t)u->divisor : take(u); break;
    case 1: v = dlab ? (uint8_t)(u->divisor >> 8) : u->ier; break;
    case 2:
        v = (uint8_t)(pending(u) | (fifo_on(u) ? 0xc0 : 0));
        if ((v & 15) == 2)
            u->thre_pending = false;
        break;
    case 3: v = u->lcr; break;
    case 4: v = u->mcr; break;
    case 5:
        v = u->lsr;
        u->lsr &= (uint8_t)~(LSR_OE | LSR_BI);
        break;
    case 6:
        v = u->msr;
        u->msr &= 0xf0;
        break;
    case 7: v = u->scratch; break;
    default: break;
    }
    update(u);
    return v;
}

static void uart_reset(struct device *dev)
{
    struct uart *u = (struct uart *)dev;
    alarm_cancel(&u->timeout);
    u->rx_at = u->rx_count = 0;
    u->ier = u->fcr = u->lcr = u->mcr = u->scratch = 0;
    u->lsr = LSR_THRE | LSR_TEMT;
    u->msr = 0xb0;
    u->divisor = 12;
    u->thre_pending = u->timed_out = false;
    update(u);
}

static void uart_free(struct device *dev)
{
    alarm_cancel(&((struct uart *)dev)->timeout);
    free(dev);
}
/* Who waits for room, to type or to print, may have waited for that of another state. */
static void uart_loaded(struct device *dev)
{
    struct uart *u = (struct uart *)dev;
    if (!u->out.is_full || !u->out.is_full(u->out.ctx))
        uart_drained(dev);
    if (u->room && uart_has_room(dev))
        u->room(u->room_ctx);
}
static const struct state_field uart_fields[] = {
    STATE_ALARM(struct uart, timeout), STATE_ARRAY(struct uart, rx), STATE(struct uart, rx_at, .most = FIFO - 1), STATE(struct uart, rx_count, .most = FIFO),
    STATE(struct uart, ier), STATE(struct uart, fcr), STATE(struct uart, lcr), STATE(struct uart, mcr), STATE(struct uart, lsr), STATE(struct uart, msr),
    STATE(struct uart, scratch), STATE(struct uart, divisor), STATE(struct uart, thre_pending), STATE(struct uart, timed_out), STATE(struct uart, level, .most = 1),
};
static const struct state_table uart_state = STATE_TABLE(1, uart_fields);
static const struct device_ops uart_ops = {"uart", uart_read, uart_write, uart_reset, uart_free, .state = &uart_state, .loaded = uart_loaded};

struct device *uart_new(struct clock *clock, struct irq_line irq, struct chardev out)
{
    struct uart *u = calloc(1, sizeof *u);
    if (!u)
        return NULL;
    u->dev.ops = &uart_ops;
    u->clock = clock;
    u->irq = irq;
    u->out = out;
    alarm_init(&u->timeout, clock, on_timeout, u);
    uart_reset(&u->dev);
    return &u->dev;
}
