/* Ctrl-A and what it reaches: QEMU's multiplexed console. */
#include "tools/tierce/console.h"
#include "tools/tierce/monitor.h"
#include <stdlib.h>

enum { ESCAPE = 1 /* Ctrl-A */ };
struct console {
    struct machine *machine;
    struct stream *stream;
    struct monitor *monitor;     /* NULL: none */
    int serial_port;
    bool in_monitor, escaped;
};

static void help(struct console *c)
{
    stream_print(c->stream, "\r\nC-a h    this help\r\nC-a x    end the emulator\r\nC-a b    send break\r\n"
                            "C-a c    switch between console and monitor\r\nC-a C-a  send C-a\r\n");
}

/* False: the port has no room; the byte is to be offered again. */
static bool to_serial(struct console *c, uint8_t byte)
{
    return c->serial_port < 0 || machine_serial_input(c->machine, (unsigned)c->serial_port, &byte, 1);
}

static bool escape(struct console *c, uint8_t byte)
{
    switch (byte) {
    case 'x': case 'X':
        stream_print(c->stream, "\r\ntierce: terminated\r\n");
        machine_quit(c->machine);
        return true;
    case 'c': case 'C':
        c->in_monitor = !c->in_monitor;
        stream_print(c->stream, "\r\n");
        if (c->in_monitor)
            monitor_greet(c->monitor);
        return true;
    case 'b': case 'B':
        machine_serial_break(c->machine, (unsigned)c->serial_port);
        return true;
    case 'h': case 'H': case '?':
        help(c);
        return true;
    case ESCAPE: return c->in_monitor || to_serial(c, ESCAPE);
    default: return true;
    }
}

static bool byte_in(struct console *c, uint8_t byte)
{
    bool both = c->monitor && c->serial_port >= 0;
    if (c->escaped) {
        bool done = escape(c, byte);
        c->escaped = !done;
        return done;
    }
    if (byte == ESCAPE && both)
        return c->escaped = true;
    if (!c->in_monitor)
        return to_serial(c, byte);
    monitor_byte(c->monitor, byte);
    return true;
}

static size_t input(void *ctx, const uint8_t *bytes, size_t size)
{
    struct console *c = ctx;
    for (size_t i = 0; i < size; i++)
        if (!byte_in(c, bytes[i]))
            return i;
    return size;
}

static void opened(void *ctx, bool open)
{
    struct console *c = ctx;
    c->escaped = false;
    if (open && c->in_monitor)
        monitor_greet(c->monitor);
}

static void drained(void *ctx)
{
    struct console *c = ctx;
    machine_serial_drained(c->machine, (unsigned)c->serial_port);
}

static void room(void *ctx) { stream_offer(((struct console *)ctx)->stream); }

struct console *console_new(struct machine *m, struct stream *stream, int serial_port, bool with_monitor)
{
    struct console *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    *c = (struct console){.machine = m, .stream = stream, .serial_port = serial_port, .in_monitor = serial_port < 0,
                          .monitor = with_monitor ? monitor_new(m, stream) : NULL};
    if ((!with_monitor || c->monitor) && stream_start(stream, m, input, opened, c)) {
        if (serial_port >= 0) {
            machine_serial_on_room(m, (unsigned)serial_port, room, c);
            stream_on_drained(stream, drained, c);
        }
        return c;
    }
    console_free(c);
    return NULL;
}

void console_free(struct console *c)
{
    if (!c)
        return;
    if (c->monitor)
        monitor_free(c->monitor);
    free(c);
}
