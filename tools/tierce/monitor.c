/* The monitor: `info`, `x`, `xp` and the commands that steer the machine, as in QEMU. */
#include "tools/tierce/monitor.h"
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct context { struct machine *machine; bool *stopped; FILE *out; const char *arguments; };

static void info_registers(struct context *c) { x86_state_print(c->out, &machine_cpu(c->machine)->state); }
static void info_tlb(struct context *c) { machine_print_tlb(c->machine, c->out); }
static void info_jit(struct context *c) { machine_print_jit(c->machine, c->out); }
static void info_status(struct context *c) { fprintf(c->out, "VM status: %s\n", *c->stopped ? "paused" : "running"); }
static void info_version(struct context *c) { fprintf(c->out, "tierce 0.1\n"); }
static void info_mtree(struct context *c)
{
    fprintf(c->out, "memory\n");
    space_print(c->out, machine_memory(c->machine));
    fprintf(c->out, "io\n");
    space_print(c->out, machine_io(c->machine));
}

static const struct { const char *name; void (*run)(struct context *); const char *help; } infos[] = {
    {"registers", info_registers, "CPU registers"}, {"mem", info_tlb, "mapped pages"}, {"tlb", info_tlb, "mapped pages"},
    {"mtree", info_mtree, "memory and I/O map"}, {"jit", info_jit, "translations"}, {"status", info_status, "running or paused"},
    {"version", info_version, "version"},
};

static void command_info(struct context *c)
{
    for (unsigned i = 0; i < sizeof infos / sizeof *infos; i++)
        if (!strcmp(infos[i].name, c->arguments)) {
            infos[i].run(c);
            return;
        }
    fprintf(c->out, "info: '%s' is not known; accepted:", c->arguments);
    for (unsigned i = 0; i < sizeof infos / sizeof *infos; i++)
        fprintf(c->out, " %s", infos[i].name);
    fputc('\n', c->out);
}

/* --- Expressions: numbers and $registers, + - and * from left to right */
static bool term(struct context *c, const char **at, uint64_t *v)
{
    while (isspace((unsigned char)**at))
        ++*at;
    if (**at != '$') {
        char *end;
        *v = strtoull(*at, &end, 0);
        bool ok = end != *at;
        *at = end;
        return ok;
    }
    size_t n = strspn(++*at, "abcdefghijklmnopqrstuvwxyz0123456789_");
    for (unsigned i = 0; i < x86_guest.slot_count; i++) {
        const struct ir_slot *s = &x86_guest.slots[i];
        if (strlen(s->name) != n || strncmp(s->name, *at, n) || ir_type_bytes((enum ir_type)s->type) > 8)
            continue;
        *v = 0;
        memcpy(v, (char *)&machine_cpu(c->machine)->state + s->offset, ir_type_bytes((enum ir_type)s->type));
        *at += n;
        return true;
    }
    return false;
}

static bool expression(struct context *c, const char *at, uint64_t *v)
{
    if (!term(c, &at, v))
        return false;
    for (;;) {
        uint64_t w;
        while (isspace((unsigned char)*at))
            at++;
        char op = *at++;
        if (!op)
            return true;
        if (!strchr("+-*", op) || !term(c, &at, &w))
            return false;
        *v = op == '+' ? *v + w : op == '-' ? *v - w : *v * w;
    }
}

static void command_print(struct context *c)
{
    uint64_t v;
    const char *at = c->arguments;
    if (*at == '/')
        at += strcspn(at, " ");
    if (expression(c, at, &v))
        fprintf(c->out, "0x%" PRIx64 "\n", v);
    else
        fprintf(c->out, "print: '%s' is not an expression of numbers and $registers with + - *\n", c->arguments);
}

/* --- x and xp */
struct format { unsigned count, size; char kind; };

static unsigned size_of(char c) { return c == 'b' ? 1 : c == 'h' ? 2 : c == 'w' ? 4 : 8; }

static bool format_parse(const char *at, size_t n, struct format *f)
{
    for (const char *end = at + n; at < end; at++) {
        if (isdigit((unsigned char)*at)) {
            char *after;
            f->count = (unsigned)strtoul(at, &after, 10);
            at = after - 1;
        } else if (strchr("xduoci", *at)) {
            f->kind = *at;
        } else if (strchr("bhwg", *at)) {
            f->size = size_of(*at);
        } else {
            return false;
        }
    }
    return f->count > 0 && f->count <= 65536;
}

static void print_value(FILE *out, const struct format *f, uint64_t v)
{
    unsigned bits = f->size * 8;
    int64_t s = bits == 64 ? (int64_t)v : (int64_t)(v << (64 - bits)) >> (64 - bits);
    switch (f->kind) {
    case 'd': fprintf(out, " %" PRId64, s); break;
    case 'u': fprintf(out, " %" PRIu64, v); break;
    case 'o': fprintf(out, " %#" PRIo64, v); break;
    case 'c': fprintf(out, isprint((int)(v & 0xff)) ? " '%c'" : " '\\x%02x'", (int)(v & 0xff)); break;
    default: fprintf(out, " 0x%0*" PRIx64, (int)f->size * 2, v); break;
    }
}

static void dump_code(struct context *c, uint64_t at, unsigned count, bool physical)
{
    uint32_t mode = machine_cpu(c->machine)->state.mode;
    for (; count; count--) {
        uint8_t bytes[16];
        char text[128];
        unsigned have = 15;
        while (have && !machine_debug_read(c->machine, at, physical, bytes, have))
            have--;
        unsigned n = have ? x86_disassemble(mode, at, bytes, have, text, sizeof text) : 0;
        if (!n) {
            fprintf(c->out, "%016" PRIx64 ": %s\n", at, have ? "(bad)" : "cannot read memory");
            return;
        }
        fprintf(c->out, "%016" PRIx64 ": %s\n", at, text);
        at += n;
    }
}

static void dump_values(struct context *c, uint64_t at, const struct format *f, bool physical)
{
    unsigned row = 16 / f->size;
    for (unsigned i = 0; i < f->count; i++, at += f->size) {
        uint64_t v = 0;
        if (i % row == 0)
            fprintf(c->out, "%s%016" PRIx64 ":", i ? "\n" : "", at);
        if (!machine_debug_read(c->machine, at, physical, &v, f->size)) {
            fprintf(c->out, " cannot read memory");
            break;
        }
        print_value(c->out, f, v);
    }
    fputc('\n', c->out);
}

static void dump(struct context *c, bool physical)
{
    struct format f = {1, 4, 'x'};
    const char *at = c->arguments;
    uint64_t address;
    bool ok = true;
    if (*at == '/') {
        size_t n = strcspn(++at, " ");
        ok = format_parse(at, n, &f);
        at += n;
    }
    if (!ok || !expression(c, at, &address)) {
        fprintf(c->out, "usage: x/FMT ADDRESS, FMT = count, one of x d u o c i, one of b h w g; it was '%s'\n", c->arguments);
        return;
    }
    if (f.kind == 'i')
        dump_code(c, address, f.count, physical);
    else
        dump_values(c, address, &f, physical);
}
static void command_x(struct context *c) { dump(c, false); }
static void command_xp(struct context *c) { dump(c, true); }
static void command_quit(struct context *c) { machine_quit(c->machine); }
static void command_reset(struct context *c) { machine_reset(c->machine); }
static void command_stop(struct context *c) { *c->stopped = true; }
static void command_cont(struct context *c) { *c->stopped = false; }
static void command_help(struct context *c);

static const struct { const char *name; void (*run)(struct context *); const char *help; } commands[] = {
    {"help", command_help, "this list"}, {"?", command_help, NULL}, {"info", command_info, "WHAT: registers, mem, tlb, mtree, jit, status, version"},
    {"x", command_x, "/FMT ADDRESS: guest memory by linear address"}, {"xp", command_xp, "/FMT ADDRESS: by physical address"},
    {"print", command_print, "EXPRESSION"}, {"p", command_print, NULL}, {"stop", command_stop, "stop the machine"},
    {"cont", command_cont, "let it run on"}, {"c", command_cont, NULL}, {"system_reset", command_reset, "reset it"},
    {"quit", command_quit, "end"}, {"q", command_quit, NULL},
};

static void command_help(struct context *c)
{
    for (unsigned i = 0; i < sizeof commands / sizeof *commands; i++)
        if (commands[i].help)
            fprintf(c->out, "%-13s %s\n", commands[i].name, commands[i].help);
}

void monitor_command(struct machine *m, const char *line, bool *stopped, FILE *out)
{
    while (isspace((unsigned char)*line))
        line++;
    size_t n = strcspn(line, " /");
    bool was = *stopped;
    if (!*line)
        return;
    for (unsigned i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strlen(commands[i].name) != n || strncmp(commands[i].name, line, n))
            continue;
        struct context c = {m, stopped, out, line + n + strspn(line + n, " ")};
        if (!was)
            machine_stop(m); /* the state is looked at while nothing runs */
        commands[i].run(&c);
        if (!*stopped)
            machine_continue(m);
        return;
    }
    fprintf(out, "unknown command '%s'; `help` lists the commands\n", line);
}
