/* terminal.h - standard input and output as the user's side of the serial ports and the monitor.  Main thread,
 * but for output, which any thread may write. */
#ifndef TOOLS_TIERCE_TERMINAL_H
#define TOOLS_TIERCE_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Raw mode, if standard input is a terminal (signals off: Ctrl-C is the guest's).  Restored at exit, and on any
 * signal that ends or stops the process. */
void terminal_raw(void);
bool terminal_is_raw(void);
void terminal_restore(void);
/* All of it, however long the reader takes. */
void terminal_write(int fd, const void *bytes, size_t size);

#endif
