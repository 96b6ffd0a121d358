/* terminal.h - the mode of the terminal that standard input is, and the signals that concern it. */
#ifndef TOOLS_TIERCE_TERMINAL_H
#define TOOLS_TIERCE_TERMINAL_H

#include <stdbool.h>

/* To be called first: the mode is put back at exit, by any signal that ends the process, and while it is stopped.
 * Closed standard descriptors are opened to /dev/null, so that no file of ours gets their numbers. */
void terminal_init(void);
/* Raw mode, if standard input is a terminal.  signals: Ctrl-C and the like remain the terminal's, else they are input. */
void terminal_raw(bool signals);
bool terminal_is_raw(void);
void terminal_restore(void); /* async-signal-safe */

#endif
