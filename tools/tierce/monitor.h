/* monitor.h - the monitor's commands.  Main thread. */
#ifndef TOOLS_TIERCE_MONITOR_H
#define TOOLS_TIERCE_MONITOR_H

#include "runtime/runtime.h"

#define MONITOR_PROMPT "(tierce) "
/* Runs one line; its output goes to `out`. *stopped: whether the user has stopped the machine. */
void monitor_command(struct machine *, const char *line, bool *stopped, FILE *out);

#endif
