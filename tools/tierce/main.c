/* tierce: boots a guest on the emulated PC.  Parses the command line, wires the terminal to the serial ports and
 * the monitor, and runs the machine until it ends.
 * Exit status: 0 power-off or quit, 1 failure, 2 usage, or what the guest gave isa-debug-exit. */
#define _GNU_SOURCE
#include "tools/tierce/monitor.h"
#include "tools/tierce/options.h"
#include "tools/tierce/terminal.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { ESCAPE = 1 /* Ctrl-A */, BUFFER = 4096, LINE = 256 };
struct console {
    struct machine *machine;
    int serial_port;              /* whose input standard input is; -1: none */
    bool shares_monitor;          /* Ctrl-A C switches */
    bool in_monitor, escaped, stopped;
    uint8_t pending[BUFFER]; size_t pending_size;
    int retry_fd;                 /* timer: the UART was full */
    char line[LINE]; unsigned line_size;
};

/* The signal handlers' way to the machine. */
static struct machine *running;
static void quit_signal(int sig)
{
    (void)sig;
    if (running)
        machine_quit(running);
}

static void say(const char *text) { terminal_write(STDOUT_FILENO, text, strlen(text)); }
static void watch_input(struct console *c, bool on);

/* --- Monitor lines */
static void monitor_run(struct console *c)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return;
    c->line[c->line_size] = 0;
    c->line_size = 0;
    monitor_command(c->machine, c->line, &c->stopped, out);
    fclose(out);
    terminal_write(STDOUT_FILENO, text, size);
    free(text);
    say(MONITOR_PROMPT);
}

static void monitor_byte(struct console *c, uint8_t byte)
{
    bool echo = terminal_is_raw();
    if (byte == '\r' || byte == '\n') {
        if (echo)
            say("\n");
        monitor_run(c);
    } else if (byte == 8 || byte == 127) {
        if (c->line_size && echo)
            say("\b \b");
        c->line_size -= c->line_size > 0;
    } else if (byte >= 32 && c->line_size < LINE - 1) {
        c->line[c->line_size++] = (char)byte;
        if (echo)
            terminal_write(STDOUT_FILENO, &byte, 1);
    }
}

/* --- Input */
static void flush_pending(struct console *c)
{
    size_t n = c->serial_port < 0 ? c->pending_size : machine_serial_input(c->machine, (unsigned)c->serial_port, c->pending, c->pending_size);
    memmove(c->pending, c->pending + n, c->pending_size -= n);
    if (c->pending_size) {
        struct itimerspec soon = {.it_value = {.tv_nsec = 1000000}};
        timerfd_settime(c->retry_fd, 0, &soon, NULL);
    }
    watch_input(c, !c->pending_size);
}

static void retry(void *ctx, short events)
{
    uint64_t count;
    (void)events;
    struct console *c = ctx;
    if (read(c->retry_fd, &count, sizeof count) > 0)
        flush_pending(c);
}

static void escape(struct console *c, uint8_t byte)
{
    switch (byte) {
    case 'x': case 'X':
        say("\ntierce: terminated\n");
        machine_quit(c->machine);
        break;
    case 'c': case 'C':
        c->in_monitor = !c->in_monitor;
        if (c->in_monitor)
            say("\n" MONITOR_PROMPT);
        break;
    case ESCAPE: c->pending[c->pending_size++] = ESCAPE; break;
    case 'h': case 'H': case '?':
        say("\nC-a h  this help\nC-a x  end\nC-a c  monitor and back\nC-a C-a  send C-a\n");
        break;
    default: break;
    }
}

static void input_byte(struct console *c, uint8_t byte)
{
    if (c->escaped) {
        c->escaped = false;
        escape(c, byte);
    } else if (byte == ESCAPE && c->shares_monitor) {
        c->escaped = true;
    } else if (c->in_monitor) {
        monitor_byte(c, byte);
    } else {
        c->pending[c->pending_size++] = byte;
    }
}

static void input(void *ctx, short events)
{
    struct console *c = ctx;
    uint8_t bytes[BUFFER / 2];
    (void)events;
    ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            machine_watch(c->machine, STDIN_FILENO, 0, NULL, NULL); /* its end: the guest goes on without */
        return;
    }
    for (ssize_t i = 0; i < n; i++)
        input_byte(c, bytes[i]);
    if (c->pending_size)
        flush_pending(c);
}

static void watch_input(struct console *c, bool on)
{
    machine_watch(c->machine, STDIN_FILENO, on ? POLLIN : 0, input, c);
}

/* --- Output */
static void out_fd(void *ctx, const uint8_t *bytes, size_t size) { terminal_write((int)(intptr_t)ctx, bytes, size); }
static void out_nothing(void *ctx, const uint8_t *bytes, size_t size) { (void)ctx; (void)bytes; (void)size; }

static bool open_output(const char *path, struct chardev *to)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        fprintf(stderr, "tierce: cannot write '%s': %s\n", path, strerror(errno));
        return false;
    }
    *to = (struct chardev){out_fd, (void *)(intptr_t)fd};
    return true;
}

static bool wire(struct options *o, struct console *c)
{
    struct chardev standard = {out_fd, (void *)(intptr_t)STDOUT_FILENO}, nothing = {out_nothing, NULL};
    c->serial_port = -1;
    for (unsigned i = 0; i < 2; i++) {
        o->machine.serial[i] = nothing;
        if (o->serial[i] == SERIAL_STDIO || o->serial[i] == SERIAL_MON_STDIO) {
            o->machine.serial[i] = standard;
            c->serial_port = (int)i;
            c->shares_monitor = o->serial[i] == SERIAL_MON_STDIO;
        } else if (o->serial[i] == SERIAL_FILE && !open_output(o->serial_file[i], &o->machine.serial[i])) {
            return false;
        }
    }
    c->in_monitor = o->monitor_stdio;
    o->machine.debug_console = nothing;
    if (o->debugcon && !strcmp(o->debugcon, "stdio"))
        o->machine.debug_console = standard;
    else if (o->debugcon && !open_output(o->debugcon, &o->machine.debug_console))
        return false;
    o->machine.trace_file = stderr;
    if (o->trace_path && !(o->machine.trace_file = fopen(o->trace_path, "w"))) {
        fprintf(stderr, "tierce: cannot write '%s': %s\n", o->trace_path, strerror(errno));
        return false;
    }
    return true;
}

static int run(struct options *o)
{
    struct console c = {0};
    char error[300];
    bool usage;
    int status = 0;
    if (!wire(o, &c))
        return 1;
    c.machine = machine_new(&o->machine, error, sizeof error, &usage);
    if (!c.machine) {
        fprintf(stderr, "tierce: %s\n", error);
        return usage ? 2 : 1;
    }
    c.stopped = o->machine.start_stopped;
    c.retry_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    machine_watch(c.machine, c.retry_fd, POLLIN, retry, &c);
    running = c.machine;
    signal(SIGINT, quit_signal);
    signal(SIGTERM, quit_signal);
    signal(SIGPIPE, SIG_IGN);
    if ((c.serial_port >= 0 || c.in_monitor) && fcntl(STDIN_FILENO, F_GETFD) >= 0) {
        terminal_raw();
        watch_input(&c, true);
    }
    if (c.in_monitor)
        say(MONITOR_PROMPT);
    enum machine_end end = machine_run(c.machine, &status);
    running = NULL;
    terminal_restore();
    if (o->machine.stats)
        machine_stats_print(c.machine, stderr, o->stats_json);
    machine_free(c.machine);
    if (o->machine.trace_file != stderr)
        fclose(o->machine.trace_file);
    return end == MACHINE_DEBUG_EXIT ? status & 0xff : end == MACHINE_ERROR ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct options o;
    char error[300];
    if (options_parse(&o, argc, argv, error, sizeof error)) {
        fprintf(stderr, "tierce: %s\n", error);
        return 2;
    }
    switch (o.action) {
    case DO_HELP: options_help(stdout); return 0;
    case DO_VERSION: puts("tierce 0.1"); return 0;
    case DO_CPU_HELP: x86_model_list(stdout); return 0;
    case DO_TRACE_HELP: options_trace_help(stdout); return 0;
    case DO_RUN: break;
    }
    return run(&o);
}
