/* The 16550A: output, FIFO and its trigger levels, the interrupt's causes in their order, loop-back, scratch. */
#include "fake.h"

enum { DATA, IER, IIR, FCR = 2, LCR, MCR, LSR, MSR, SCR };
struct rig { struct fake_clock clock; struct fake_line line; struct fake_out out; struct device *d; unsigned rooms; };
static void on_room(void *ctx) { ((struct rig *)ctx)->rooms++; }
static void setup(struct rig *r)
{
    *r = (struct rig){.clock = FAKE_CLOCK};
    r->d = uart_new(&r->clock.clock, FAKE_LINE(&r->line, 0), (struct chardev){fake_put, &r->out});
    uart_on_room(r->d, on_room, r);
}
static void teardown(struct rig *r)
{
    r->d->ops->free(r->d);
    CHECK("alarms left", r->clock.clock.alarms != NULL, 0);
}
static size_t type(struct rig *r, const char *text) { return uart_receive(r->d, (const uint8_t *)text, strlen(text)); }

static void registers(struct rig *r)
{
    static const struct step steps[] = {
        R(IIR, 1, 1), R(LSR, 1, 0x60), R(MSR, 1, 0xb0), W(SCR, 1, 0x5a), R(SCR, 1, 0x5a), W(LCR, 1, 0x83), R(LCR, 1, 0x83), W(DATA, 1, 0x34), W(IER, 1, 0x12),
        R(DATA, 1, 0x34), R(IER, 1, 0x12), W(LCR, 1, 3), R(IER, 1, 0), W(IER, 1, 0xff), R(IER, 1, 15), W(IER, 1, 0), W(FCR, 1, 1), R(IIR, 1, 0xc1),
        W(FCR, 1, 0), R(IIR, 1, 1), W(MCR, 1, 0xff), R(MCR, 1, 0x1f), W(MCR, 1, 0),
    };
    PLAY("registers", r->d, steps);
    wr(r->d, DATA, 1, 'h');
    wr(r->d, DATA, 1, 'i');
    CHECK("out", r->out.size == 2 && !memcmp(r->out.text, "hi", 2), 1);
    CHECK("empty again", rd(r->d, LSR, 1), 0x60);
}

static void receive(struct rig *r)
{
    CHECK("one without FIFO", type(r, "ab"), 1);
    CHECK("ready", rd(r->d, LSR, 1), 0x61);
    CHECK("no room", uart_has_room(r->d), 0);
    CHECK("it", rd(r->d, DATA, 1), 'a');
    CHECK("room is told", r->rooms > 0 && uart_has_room(r->d), 1);
    wr(r->d, FCR, 1, 0x81); /* trigger at 8 */
    wr(r->d, MCR, 1, 8);
    wr(r->d, IER, 1, 1);
    CHECK("seven", type(r, "1234567"), 7);
    CHECK("below the trigger", r->line.level, 0);
    advance(&r->clock, 400000);
    CHECK("time-out", r->line.level == 1 && rd(r->d, IIR, 1) == 0xcc, 1);
    CHECK("first", rd(r->d, DATA, 1), '1');
    CHECK("time-out over", rd(r->d, IIR, 1), 0xc1);
    CHECK("the FIFO is 16", type(r, "89abcdefghijklmn"), 10);
    CHECK("trigger", rd(r->d, IIR, 1), 0xc4);
    for (unsigned i = 0; i < 9; i++)
        CHECK("in order", rd(r->d, DATA, 1), "23456789a"[i]);
    CHECK("below again", rd(r->d, IIR, 1), 0xc1);
    wr(r->d, FCR, 1, 0x83);
    CHECK("FIFO cleared", rd(r->d, LSR, 1), 0x60);
    wr(r->d, FCR, 1, 0);
}

static bool is_full(void *ctx) { return ((struct fake_out *)ctx)->size >= 4; }

/* The other side has room for four bytes. */
static void busy_line(void)
{
    struct rig r = {.clock = FAKE_CLOCK};
    struct device *d = r.d = uart_new(&r.clock.clock, FAKE_LINE(&r.line, 0), (struct chardev){fake_put, &r.out, is_full});
    wr(d, MCR, 1, 8);
    wr(d, IER, 1, 2);
    for (unsigned i = 0; i < 3; i++) {
        CHECK("empty at once", rd(d, IIR, 1), 2);
        wr(d, DATA, 1, 'a' + i);
    }
    CHECK("empty", rd(d, LSR, 1), 0x60);
    wr(d, DATA, 1, 'd');
    CHECK("not empty", rd(d, LSR, 1), 0);
    CHECK("no interrupt", r.line.level == 0 && rd(d, IIR, 1) == 1, 1);
    wr(d, IER, 1, 0);
    wr(d, IER, 1, 2);
    CHECK("nor by asking for it", r.line.level, 0);
    wr(d, DATA, 1, 'e');
    CHECK("what comes all the same is not lost", r.out.size == 5 && !memcmp(r.out.text, "abcde", 5), 1);
    r.out.size = 0;
    uart_drained(d);
    CHECK("empty again, and says so", r.line.level == 1 && rd(d, LSR, 1) == 0x60 && rd(d, IIR, 1) == 2, 1);
    uart_drained(d);
    CHECK("once", r.line.level, 0);
    teardown(&r);
}

static void breaks(struct rig *r)
{
    wr(r->d, MCR, 1, 8);
    wr(r->d, IER, 1, 4);
    uart_break(r->d);
    CHECK("line status interrupt", r->line.level == 1 && (rd(r->d, IIR, 1) & 15) == 6, 1);
    CHECK("break, with a NUL", rd(r->d, LSR, 1), 0x71);
    CHECK("the NUL", rd(r->d, DATA, 1), 0);
    CHECK("over", r->line.level == 0 && rd(r->d, LSR, 1) == 0x60, 1);
    wr(r->d, IER, 1, 0);
}

static void causes(struct rig *r)
{
    wr(r->d, IER, 1, 0);
    wr(r->d, IER, 1, 2);
    CHECK("THRE as it is enabled", r->line.level == 1 && rd(r->d, IIR, 1) == 2, 1);
    CHECK("taken by reading IIR", r->line.level == 0 && rd(r->d, IIR, 1) == 1, 1);
    wr(r->d, DATA, 1, 'x');
    CHECK("THRE after a byte", rd(r->d, IIR, 1), 2);
    wr(r->d, IER, 1, 15);
    wr(r->d, MCR, 1, 0x18); /* loop-back: OUT2 to DCD */
    rd(r->d, MSR, 1);
    wr(r->d, DATA, 1, 'a');
    wr(r->d, DATA, 1, 'b');
    CHECK("overrun first", rd(r->d, IIR, 1), 6);
    CHECK("LSR", rd(r->d, LSR, 1), 0x63);
    CHECK("then data", rd(r->d, IIR, 1), 4);
    CHECK("looped", rd(r->d, DATA, 1), 'a');
    CHECK("then THRE", rd(r->d, IIR, 1), 2);
    wr(r->d, MCR, 1, 0x1a); /* RTS to CTS */
    CHECK("then modem", rd(r->d, IIR, 1), 0);
    CHECK("MSR", rd(r->d, MSR, 1), 0x91);
    CHECK("delta is cleared", rd(r->d, MSR, 1), 0x90);
    CHECK("nothing", rd(r->d, IIR, 1), 1);
    wr(r->d, MCR, 1, 0);
    wr(r->d, IER, 1, 0);
    wr(r->d, IER, 1, 2);
    CHECK("OUT2 gates the line", r->line.level, 0);
    wr(r->d, MCR, 1, 8);
    CHECK("and opens it", r->line.level, 1);
    r->d->ops->reset(r->d);
    CHECK("reset", r->line.level, 0);
}

int main(void)
{
    struct rig r;
    setup(&r);
    registers(&r);
    receive(&r);
    breaks(&r);
    causes(&r);
    busy_line();
    storm(r.d, &r.clock, 8, 100000);
    teardown(&r);
    return report();
}
