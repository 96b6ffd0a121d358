/* The monitor's line and its table of commands. */
#include "tools/tierce/monitor_internal.h"
#include "tools/tierce/options.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* --- Commands that steer */
static void command_quit(struct command *c) { machine_quit(c->machine); }
static void command_reset(struct command *c) { machine_reset(c->machine); }
static void command_powerdown(struct command *c) { machine_power_button(c->machine); }
static void command_nmi(struct command *c) { machine_nmi(c->machine); }
static void command_stop(struct command *c) { c->stopped = true; }
static void command_cont(struct command *c) { c->stopped = false; }

static void command_log(struct command *c)
{
    unsigned items = 0;
    char wrong[64];
    if (!strcmp(c->arguments, "help") || !*c->arguments)
        options_trace_help(c->out);
    else if (!strcmp(c->arguments, "none") || options_trace_parse(c->arguments, &items, wrong, sizeof wrong))
        machine_trace_set(c->machine, items);
    else
        fprintf(c->out, "log: unknown item '%s'; `log help` lists them\n", wrong);
}

static void command_logfile(struct command *c)
{
    FILE *f = *c->arguments ? fopen(c->arguments, "w") : NULL;
    if (f)
        machine_trace_file(c->machine, f);
    else
        fprintf(c->out, *c->arguments ? "logfile: cannot write '%s'\n" : "logfile: a file name is missing\n", c->arguments);
}

static void command_tier(struct command *c)
{
    char error[200];
    for (enum tier t = 0; tier_name(t); t++)
        if (!strcmp(c->arguments, tier_name(t))) {
            if (!machine_tier_set(c->machine, t, error, sizeof error))
                fprintf(c->out, "%s\n", error);
            return;
        }
    if (!*c->arguments) {
        fprintf(c->out, "%s\n", tier_name(machine_tier(c->machine)));
        return;
    }
    fprintf(c->out, "tier: unknown tier '%s'; accepted:", c->arguments);
    for (enum tier t = 0; tier_name(t); t++)
        fprintf(c->out, " %s", tier_name(t));
    fputc('\n', c->out);
}

static command_fn command_help;
static const struct { const char *name, *other; command_fn *run; const char *arguments, *help; } commands[] = {
    {"help", "?", command_help, "[command]", "what there is"},
    {"info", NULL, command_info, "[item]", "about the machine; `info` lists the items"},
    {"x", NULL, command_x, "/fmt addr", "guest memory at a linear address; fmt: count, one of x d u o c i, one of b h w g"},
    {"xp", NULL, command_xp, "/fmt addr", "guest memory at a physical address"},
    {"print", "p", command_print, "/fmt expr", "value of an expression of numbers, $registers, + - * / % & | ^ ~ ( )"},
    {"i", NULL, command_in, "/fmt addr", "reads an I/O port"},
    {"o", NULL, command_out, "/fmt addr value", "writes an I/O port"},
    {"gva2gpa", NULL, command_gva2gpa, "addr", "physical address of a linear one"},
    {"memsave", NULL, command_memsave, "addr size file", "saves memory from a linear address"},
    {"pmemsave", NULL, command_pmemsave, "addr size file", "saves memory from a physical address"},
    {"log", NULL, command_log, "items", "what is traced, as -d; none: nothing"},
    {"logfile", NULL, command_logfile, "file", "where it goes"},
    {"stop", "s", command_stop, "", "stops the machine"},
    {"cont", "c", command_cont, "", "lets it go on"},
    {"savevm", NULL, command_savevm, "[name]", "saves the machine: a name (`info snapshots` lists them) or, with a slash, a path"},
    {"loadvm", NULL, command_loadvm, "name", "goes on from what was saved so"},
    {"delvm", NULL, command_delvm, "name", "deletes it"},
    {"tier", NULL, command_tier, "[name]", "who runs the guest from now on; without a name: who does"},
    {"sendkey", NULL, command_sendkey, "keys", "presses keys: ctrl-alt-delete"},
    {"nmi", NULL, command_nmi, "", "a non-maskable interrupt"},
    {"system_reset", NULL, command_reset, "", "resets the machine"},
    {"system_powerdown", NULL, command_powerdown, "", "presses the power button"},
    {"quit", "q", command_quit, "", "ends the machine"},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static int find(const char *name, size_t length)
{
    for (int i = 0; i < COMMANDS; i++)
        for (unsigned k = 0; k < 2; k++) {
            const char *is = k ? commands[i].other : commands[i].name;
            if (is && strlen(is) == length && !strncmp(is, name, length))
                return i;
        }
    return -1;
}

static void command_help(struct command *c)
{
    int only = *c->arguments ? find(c->arguments, strlen(c->arguments)) : -1;
    if (*c->arguments && only < 0) {
        fprintf(c->out, "unknown command: '%s'\n", c->arguments);
        return;
    }
    for (int i = 0; i < COMMANDS; i++)
        if (only < 0 || only == i)
            fprintf(c->out, "%s%s%s %s -- %s\n", commands[i].name, commands[i].other ? "|" : "", commands[i].other ? commands[i].other : "",
                    commands[i].arguments, commands[i].help);
}

void monitor_command(struct machine *m, const char *line, FILE *out)
{
    line += strspn(line, " \t");
    size_t n = strcspn(line, " \t/");
    if (!*line)
        return;
    int found = find(line, n);
    if (found < 0) {
        fprintf(out, "unknown command: '%.*s'\n", (int)strcspn(line, " \t"), line);
        return;
    }
    if (!*commands[found].arguments && line[n + strspn(line + n, " \t")]) {
        fprintf(out, "%s: extraneous characters at the end of line\n", commands[found].name);
        return;
    }
    bool was = machine_is_stopped(m);
    if (!was)
        machine_stop(m); /* the state is looked at while nothing runs */
    struct command c = {m, &machine_cpu(m)->state, out, line + n + strspn(line + n, " \t"), was};
    commands[found].run(&c);
    if (!c.stopped)
        machine_continue(m);
    else if (!was)
        machine_paused(m);
}

/* --- The line */
enum { LINE = 1024 };
struct monitor { struct machine *machine; struct stream *stream; char line[LINE]; unsigned size; bool cr, escape; };

struct monitor *monitor_new(struct machine *m, struct stream *stream)
{
    struct monitor *new = calloc(1, sizeof *new);
    if (new)
        *new = (struct monitor){.machine = m, .stream = stream};
    return new;
}

void monitor_free(struct monitor *m) { free(m); }

void monitor_prompt(struct monitor *m)
{
    stream_print(m->stream, "(tierce) ");
    if (m->size)
        stream_write(m->stream, m->line, m->size);
}

void monitor_greet(struct monitor *m)
{
    m->size = 0;
    stream_print(m->stream, "tierce " TIERCE_VERSION " monitor - type 'help' for more information\n");
    monitor_prompt(m);
}

static void run(struct monitor *m)
{
    char *text = NULL;
    size_t size = 0;
    m->line[m->size] = 0;
    m->size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return;
    monitor_command(m->machine, m->line, out);
    fclose(out);
    stream_write(m->stream, text, size);
    free(text);
    monitor_prompt(m);
}

static void erase(struct monitor *m, unsigned count)
{
    for (; count && m->size; count--, m->size--)
        if (stream_echoes(m->stream))
            stream_print(m->stream, "\b \b");
}

static unsigned last_word(const struct monitor *m)
{
    unsigned at = m->size;
    while (at && m->line[at - 1] == ' ')
        at--;
    while (at && m->line[at - 1] != ' ')
        at--;
    return m->size - at;
}

void monitor_byte(struct monitor *m, uint8_t byte)
{
    enum { BACKSPACE = 8, CTRL_U = 21, CTRL_W = 23, ESCAPE = 27, DELETE = 127 };
    bool after_cr = m->cr;
    m->cr = byte == '\r';
    if (m->escape) { /* arrow keys and the like: not for us */
        m->escape = byte == '[' || byte == 'O' || isdigit(byte) || byte == ';';
    } else if (byte == '\n' && after_cr) {
        return;
    } else if (byte == '\r' || byte == '\n') {
        if (stream_echoes(m->stream))
            stream_print(m->stream, "\r\n");
        run(m);
    } else if (byte == BACKSPACE || byte == DELETE) {
        erase(m, 1);
    } else if (byte == CTRL_U) {
        erase(m, m->size);
    } else if (byte == CTRL_W) {
        erase(m, last_word(m));
    } else if (byte == ESCAPE) {
        m->escape = true;
    } else if (byte >= ' ' && m->size < LINE - 1) {
        m->line[m->size++] = (char)byte;
        if (stream_echoes(m->stream))
            stream_write(m->stream, &byte, 1);
    }
}
