/* options.h - the command line of tierce: QEMU's words, one dash or two. */
#ifndef TOOLS_TIERCE_OPTIONS_H
#define TOOLS_TIERCE_OPTIONS_H

#include "runtime/runtime.h"

enum serial_kind { SERIAL_UNSET, SERIAL_NONE, SERIAL_STDIO, SERIAL_MON_STDIO, SERIAL_FILE };
struct options {
    struct machine_config machine;
    enum serial_kind serial[2]; const char *serial_file[2]; unsigned serials;
    const char *debugcon, *trace_path;   /* debugcon: "stdio" or a path */
    bool monitor_stdio, nographic, stats_json, debug_exit;
    enum { DO_RUN, DO_HELP, DO_VERSION, DO_CPU_HELP, DO_TRACE_HELP } action;
};
/* Returns NULL, or one line (in `error`) that says what was wrong, with which value, and what is accepted. */
const char *options_parse(struct options *, int argc, char **argv, char *error, size_t size);
void options_help(FILE *);
void options_trace_help(FILE *);

#endif
