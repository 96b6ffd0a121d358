/* options.h - the command line of tierce: QEMU's words, one dash or two. */
#ifndef TOOLS_TIERCE_OPTIONS_H
#define TOOLS_TIERCE_OPTIONS_H

#include "tools/tierce/stream.h"

#define TIERCE_VERSION "0.1"
enum { MAX_SERIAL = 2, MAX_MONITORS = 4, MAX_HANDOVERS = 256 };
struct options {
    struct machine_config machine;
    struct stream_spec serial[MAX_SERIAL], monitor[MAX_MONITORS], debugcon, gdb;
    unsigned serials, monitors;
    bool has_debugcon, has_gdb, nographic, no_defaults, stats_json;
    const char *trace_path, *loadvm;
    char cpu[512], cache[4096];
    struct machine_handover handovers[MAX_HANDOVERS];
    enum { DO_RUN, DO_HELP, DO_VERSION, DO_CPU_HELP, DO_TRACE_HELP, DO_MACHINE_HELP, DO_DEVICE_HELP, DO_ACCEL_HELP } action;
};
/* Returns NULL, or one line (in `error`) that says what was wrong, with which value, and what is accepted. */
const char *options_parse(struct options *, int argc, char **argv, char *error, size_t size);
void options_help(FILE *);
/* Items of -d: "in_asm,int".  False: `wrong` gets the first that there is not. */
bool options_trace_parse(const char *items, unsigned *trace, char *wrong, size_t size);
void options_trace_help(FILE *);

#endif
