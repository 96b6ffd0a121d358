/* console.h - a stream with a serial port, a monitor, or both behind it, and Ctrl-A to switch between them.
 * Main loop's thread. */
#ifndef TOOLS_TIERCE_CONSOLE_H
#define TOOLS_TIERCE_CONSOLE_H

#include "tools/tierce/stream.h"

struct console;
/* serial_port: 0, 1, or -1 for none.  With both, Ctrl-A commands are taken out of the input. */
struct console *console_new(struct machine *, struct stream *, int serial_port, bool with_monitor); /* NULL: out of memory or descriptors */
void console_free(struct console *);

#endif
