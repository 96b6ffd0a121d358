/* monitor.h - the monitor: QEMU's commands to look at a machine and to steer it.  Main loop's thread. */
#ifndef TOOLS_TIERCE_MONITOR_H
#define TOOLS_TIERCE_MONITOR_H

#include "tools/tierce/stream.h"

/* Runs one line; what it says goes to `out`.  For gdb's `monitor` too. */
void monitor_command(struct machine *, const char *line, FILE *out);

/* A monitor that is typed to. */
struct monitor;
struct monitor *monitor_new(struct machine *, struct stream *);
void monitor_free(struct monitor *);
void monitor_greet(struct monitor *);
void monitor_prompt(struct monitor *);
void monitor_byte(struct monitor *, uint8_t);

#endif
