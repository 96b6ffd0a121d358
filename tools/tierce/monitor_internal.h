/* monitor_internal.h - what the files of the monitor share. */
#ifndef TOOLS_TIERCE_MONITOR_INTERNAL_H
#define TOOLS_TIERCE_MONITOR_INTERNAL_H

#include "tools/tierce/monitor.h"

/* One command as it runs: the machine stands still. */
struct command {
    struct machine *machine; struct x86_state *state; FILE *out;
    const char *arguments;
    bool stopped;               /* in: before the command; out: after it */
};
typedef void command_fn(struct command *);

/* monitor_memory.c */
command_fn command_x, command_xp, command_print, command_in, command_out, command_gva2gpa, command_memsave, command_pmemsave;
/* Numbers, 'c', $registers, ( ), unary + - ~, and * / % before & | ^ before + -, as in QEMU.  Moves *at behind it. */
bool expression(const struct command *, const char **at, uint64_t *value);

/* monitor_state.c */
command_fn command_savevm, command_loadvm, command_delvm, info_snapshots;

/* monitor_keys.c */
command_fn command_sendkey;

/* monitor_info.c */
command_fn command_info;

#endif
