/* stream.h - the user's end of a serial port, monitor, debug console or gdb: the terminal, a file, a
 * pseudo-terminal, a socket, or nothing.  QEMU's words for them.  Main loop's thread, but for stream_write. */
#ifndef TOOLS_TIERCE_STREAM_H
#define TOOLS_TIERCE_STREAM_H

#include "runtime/runtime.h"

enum stream_kind { STREAM_NULL, STREAM_STDIO, STREAM_FILE, STREAM_PTY, STREAM_TCP, STREAM_UNIX };
struct stream_spec {
    enum stream_kind kind;
    char path[256];             /* file or socket; host of a TCP address, "" = any */
    char port[16];
    bool server, wait, telnet;
    bool mux;                   /* mon: a monitor shares it */
};
#define STREAM_ACCEPTED "[mon:]stdio, null, none, pty, file:PATH, tcp:[HOST]:PORT[,server[,nowait]], telnet:..., unix:PATH[,server[,nowait]]"
/* "mon:stdio", "file:x", ...; false: it is none of STREAM_ACCEPTED. */
bool stream_parse(const char *text, struct stream_spec *);

/* Opens, connects or listens (and waits for the peer, where the spec says so).  label: for messages, kept.
 * NULL: error has one line. */
struct stream;
struct stream *stream_open(const struct stream_spec *, const char *label, char *error, size_t error_size);
void stream_close(struct stream *); /* NULL: nothing */
/* How many of the bytes were taken; the others are offered again soon. */
typedef size_t stream_input_fn(void *ctx, const uint8_t *bytes, size_t size);
typedef void stream_opened_fn(void *ctx, bool open);
/* From now on input is read.  opened (may be NULL) is called when a peer comes and goes, and at once where one is there. */
bool stream_start(struct stream *, struct machine *, stream_input_fn *, stream_opened_fn *opened, void *ctx);
/* What was not taken is offered again at once.  Any thread. */
void stream_offer(struct stream *);
/* Never blocks: what a slow reader has no room for waits, and follows when it has; stream_close waits for it, for a while.  Without a peer nothing.
 * Any thread. */
void stream_write(struct stream *, const void *bytes, size_t size);
/* For who does not call stream_start: what waits is written by the main loop. */
bool stream_attach(struct stream *, struct machine *); /* false: no room for more descriptors */
void stream_print(struct stream *, const char *text);
/* For a device's output.  It is full while much waits; where the device goes on all the same, the guest is stalled. */
struct chardev stream_chardev(struct stream *);
void stream_on_drained(struct stream *, void (*drained)(void *ctx), void *ctx); /* it was full, and is no more; main loop's thread */
bool stream_echoes(const struct stream *); /* what is typed is not shown by the other side */
bool stream_is_stdio(const struct stream *);

#endif
