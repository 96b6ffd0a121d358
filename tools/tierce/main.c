/* tierce: boots a guest on the emulated PC.  Parses the command line, wires streams to serial ports, monitors and gdb,
 * and runs the machine until it ends.
 * Exit status: 0 power-off or quit, 1 failure, 2 usage, or what the guest gave isa-debug-exit. */
#define _GNU_SOURCE
#include "tools/tierce/console.h"
#include "tools/tierce/gdb.h"
#include "tools/tierce/options.h"
#include "tools/tierce/snapshots.h"
#include "tools/tierce/terminal.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* All that hangs on a run, beside the machine. */
struct run {
    struct options *options;
    struct machine *machine;
    struct stream *serial[MAX_SERIAL], *monitor[MAX_MONITORS], *debugcon, *gdb_stream;
    struct console *consoles[MAX_SERIAL + MAX_MONITORS]; unsigned console_count;
    struct gdb *gdb;
    bool abandoned;                 /* the machine, at the end */
    char path[4352], error[5000];
};

/* The signal handlers' way to the machine. */
static struct machine *running;
static void quit_signal(int sig)
{
    static const char text[] = "tierce: terminating on a signal\n";
    (void)sig;
    if (!running || machine_is_ending(running))
        return;
    int before = errno; /* whoever was interrupted may be about to look at it */
    machine_quit(running);
    bool room = poll(&(struct pollfd){STDERR_FILENO, POLLOUT, 0}, 1, 0) != 0; /* it may be what nobody reads */
    ssize_t said = room ? write(STDERR_FILENO, text, sizeof text - 1) : 0;
    (void)said;
    errno = before;
}

static void signals(void)
{
    static const int ending[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = quit_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    for (unsigned i = 0; i < sizeof ending / sizeof *ending; i++)
        sigaction(ending[i], &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* --- Before the machine: files, sockets, terminals */
static bool open_one(struct run *r, const struct stream_spec *spec, const char *label, struct stream **to)
{
    return (*to = stream_open(spec, label, r->error, sizeof r->error)) != NULL;
}

static bool open_streams(struct run *r)
{
    static const char *const labels[MAX_SERIAL] = {"serial0", "serial1"};
    struct options *o = r->options;
    for (unsigned i = 0; i < o->serials; i++) {
        if (!open_one(r, &o->serial[i], labels[i], &r->serial[i]))
            return false;
        o->machine.serial[i] = stream_chardev(r->serial[i]);
    }
    for (unsigned i = 0; i < o->monitors; i++)
        if (!open_one(r, &o->monitor[i], "monitor", &r->monitor[i]))
            return false;
    if (o->has_debugcon) {
        if (!open_one(r, &o->debugcon, "debugcon", &r->debugcon))
            return false;
        o->machine.debug_console = stream_chardev(r->debugcon);
    }
    return !o->has_gdb || open_one(r, &o->gdb, "gdb", &r->gdb_stream);
}

static bool open_trace(struct run *r)
{
    struct machine_config *m = &r->options->machine;
    m->trace_file = r->options->trace_path ? fopen(r->options->trace_path, "w") : stderr;
    if (m->trace_file) {
        setvbuf(m->trace_file, NULL, _IOLBF, 1 << 16); /* what was said before a crash is what counts */
        return true;
    }
    snprintf(r->error, sizeof r->error, "-D: cannot write '%s': %s", r->options->trace_path, strerror(errno));
    return false;
}

/* --- After it: who gets the input */
static bool add_console(struct run *r, struct stream *stream, int port, bool with_monitor)
{
    struct console *c = console_new(r->machine, stream, port, with_monitor);
    if (!c)
        snprintf(r->error, sizeof r->error, "out of memory for the consoles");
    else
        r->consoles[r->console_count++] = c;
    return c != NULL;
}

static bool attach(struct run *r)
{
    const struct options *o = r->options;
    bool terminal = false, signals_too = true;
    for (unsigned i = 0; i < o->serials; i++) {
        terminal |= stream_is_stdio(r->serial[i]);
        signals_too &= !(stream_is_stdio(r->serial[i]) && (o->serial[i].mux || o->nographic));
    }
    for (unsigned i = 0; i < o->monitors; i++)
        terminal |= stream_is_stdio(r->monitor[i]);
    if (terminal)
        terminal_raw(signals_too); /* Ctrl-C is the guest's, but where the terminal is a serial port or monitor alone */
    for (unsigned i = 0; i < o->serials; i++)
        if (!add_console(r, r->serial[i], (int)i, o->serial[i].mux))
            return false;
    for (unsigned i = 0; i < o->monitors; i++)
        if (!add_console(r, r->monitor[i], -1, true))
            return false;
    if (r->debugcon && !stream_attach(r->debugcon, r->machine)) {
        snprintf(r->error, sizeof r->error, "-debugcon: too many descriptors are watched");
        return false;
    }
    if (!r->gdb_stream || (r->gdb = gdb_new(r->machine, r->gdb_stream)))
        return true;
    snprintf(r->error, sizeof r->error, "out of memory for gdb");
    return false;
}

static void close_all(struct run *r)
{
    for (unsigned i = 0; i < r->console_count; i++)
        console_free(r->consoles[i]);
    gdb_free(r->gdb);
    if (r->machine && !r->abandoned)
        machine_free(r->machine);
    for (unsigned i = 0; i < MAX_SERIAL; i++)
        stream_close(r->serial[i]);
    for (unsigned i = 0; i < MAX_MONITORS; i++)
        stream_close(r->monitor[i]);
    stream_close(r->debugcon);
    stream_close(r->gdb_stream);
    FILE *trace = r->options->machine.trace_file;
    if (trace && trace != stderr)
        fclose(trace);
}

static int fail(struct run *r, int status)
{
    terminal_restore();
    fprintf(stderr, "tierce: %s\n", r->error);
    close_all(r);
    return status;
}

static int run(struct options *o)
{
    struct run r = {.options = o};
    bool usage;
    int status = 0;
    if (!open_streams(&r) || !open_trace(&r))
        return fail(&r, 1);
    if (o->loadvm && !snapshot_path(o->machine.state_dir, o->loadvm, false, r.path, sizeof r.path, r.error, sizeof r.error))
        return fail(&r, 2);
    o->machine.restore = o->loadvm ? r.path : o->machine.restore;
    r.machine = machine_new(&o->machine, r.error, sizeof r.error, &usage);
    if (!r.machine)
        return fail(&r, usage ? 2 : 1);
    running = r.machine;
    signals();
    if (!attach(&r))
        return fail(&r, 1);
    enum machine_end end = machine_run(r.machine, &status);
    int code = end == MACHINE_DEBUG_EXIT ? status & 0xff : end == MACHINE_ERROR ? 1 : 0;
    if (r.gdb)
        gdb_exited(r.gdb, code);
    terminal_restore();
    if (o->machine.stats)
        machine_stats_print(r.machine, stderr, o->stats_json);
    running = NULL;
    /* Nobody waits for code that will not run any more; a file of perf's has its end to get. */
    r.abandoned = machine_is_compiling(r.machine) && !o->machine.jitdump && !o->machine.perf_map && !o->machine.trace;
    if (r.abandoned)
        machine_cache_save(r.machine);
    close_all(&r);
    if (r.abandoned) {
        fflush(NULL);
        _exit(code);
    }
    return code;
}

int main(int argc, char **argv)
{
    struct options o;
    char error[400];
    terminal_init();
    if (options_parse(&o, argc, argv, error, sizeof error)) {
        fprintf(stderr, "tierce: %s\n", error);
        return 2;
    }
    switch (o.action) {
    case DO_HELP: options_help(stdout); return 0;
    case DO_VERSION: puts("tierce " TIERCE_VERSION); return 0;
    case DO_CPU_HELP: x86_model_list(stdout); return 0;
    case DO_TRACE_HELP: options_trace_help(stdout); return 0;
    case DO_MACHINE_HELP: puts("Supported machines are:\npc  i440FX and PIIX3, as QEMU's pc (default)"); return 0;
    case DO_DEVICE_HELP: puts("name \"isa-debug-exit\", bus ISA: iobase=PORT (default 0x501), iosize=1|2|4 (default 2)"); return 0;
    case DO_ACCEL_HELP: puts("Accelerators supported:\ntcg\nkvm"); return 0;
    case DO_RUN: break;
    }
    return run(&o);
}
