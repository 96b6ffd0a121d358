/* The monitor's looks at memory and ports, and its expressions. */
#include "tools/tierce/monitor_internal.h"
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* --- Registers by name: QEMU's, and all integer fields of the state */
static bool segment_part(const struct x86_state *s, const char *name, size_t n, uint64_t *v)
{
    static const char names[] = "escsssdsfsgs";
    for (unsigned i = 0; i < 6; i++) {
        if (n < 2 || strncmp(name, names + 2 * i, 2))
            continue;
        if (n == 2)
            return *v = s->seg_sel[i], true;
        if (n == 7 && !strncmp(name + 2, ".base", 5))
            return *v = s->seg_base[i], true;
        if (n == 8 && !strncmp(name + 2, ".limit", 6))
            return *v = s->seg_limit[i], true;
        if (n == 7 && !strncmp(name + 2, ".attr", 5))
            return *v = s->seg_attr[i], true;
    }
    return false;
}

static bool slot(const struct x86_state *s, const char *name, size_t n, uint64_t *v)
{
    for (unsigned i = 0; i < x86_guest.slot_count; i++) {
        const struct ir_slot *is = &x86_guest.slots[i];
        if (strlen(is->name) != n || strncmp(is->name, name, n) || ir_type_bytes((enum ir_type)is->type) > 8)
            continue;
        *v = 0;
        memcpy(v, (const char *)s + is->offset, ir_type_bytes((enum ir_type)is->type));
        return true;
    }
    return false;
}

static bool register_value(const struct x86_state *s, const char *name, size_t n, uint64_t *v)
{
    if (n == 6 && !strncmp(name, "eflags", 6))
        return *v = x86_eflags_get(s), true;
    if (n == 2 && !strncmp(name, "pc", 2)) /* linear, so that x/i $pc shows what runs */
        return *v = (s->mode & X86_MODE_CODE) == X86_MODE_CODE64 ? s->rip : (uint32_t)(s->seg_base[X86_CS] + s->rip), true;
    if (n == 3 && !strncmp(name, "eip", 3))
        return *v = s->rip, true;
    if (segment_part(s, name, n, v) || slot(s, name, n, v))
        return true;
    if (n == 3 && name[0] == 'e') { /* EAX for RAX */
        char wide[3] = {'r', name[1], name[2]};
        bool ok = slot(s, wide, 3, v);
        *v &= UINT32_MAX;
        return ok;
    }
    if (n == 3 && (!strncmp(name, "cr", 2) || !strncmp(name, "dr", 2)) && isdigit((unsigned char)name[2]))
        return name[0] == 'd' && name[2] < '8' ? (*v = s->dr[name[2] - '0'], true) : false;
    return false;
}

/* --- Expressions */
static void skip(const char **at) { *at += strspn(*at, " \t"); }
static bool sum(const struct command *, const char **at, uint64_t *v, unsigned depth);

static bool primary(const struct command *c, const char **at, uint64_t *v, unsigned depth)
{
    skip(at);
    char first = **at;
    if (first == '(') {
        ++*at;
        if (depth > 100 || !sum(c, at, v, depth + 1))
            return false;
        skip(at);
        return *(*at)++ == ')';
    }
    if (first == '\'' && (*at)[1] && (*at)[2] == '\'') {
        *v = (uint8_t)(*at)[1];
        *at += 3;
        return true;
    }
    if (first == '$') {
        size_t n = strspn(*at + 1, "abcdefghijklmnopqrstuvwxyz0123456789_.");
        bool ok = register_value(c->state, *at + 1, n, v);
        *at += 1 + n;
        return ok;
    }
    char *end;
    errno = 0;
    *v = strtoull(*at, &end, 0);
    bool ok = isdigit((unsigned char)first) && errno == 0;
    *at = end;
    return ok;
}

static bool unary(const struct command *c, const char **at, uint64_t *v, unsigned depth)
{
    skip(at);
    char op = **at;
    if (op != '-' && op != '+' && op != '~')
        return primary(c, at, v, depth);
    ++*at;
    if (depth > 100 || !unary(c, at, v, depth + 1))
        return false;
    *v = op == '-' ? -*v : op == '~' ? ~*v : *v;
    return true;
}

static bool apply(char op, uint64_t *v, uint64_t w)
{
    switch (op) {
    case '*': *v *= w; return true;
    case '/': return w ? *v /= w, true : false;
    case '%': return w ? *v %= w, true : false;
    case '&': *v &= w; return true;
    case '|': *v |= w; return true;
    case '^': *v ^= w; return true;
    case '+': *v += w; return true;
    default: *v -= w; return true;
    }
}

static bool chain(const struct command *c, const char **at, uint64_t *v, unsigned depth, unsigned level)
{
    static const char *const operators[] = {"*/%", "&|^", "+-"};
    uint64_t w;
    if (!(level ? chain(c, at, v, depth, level - 1) : unary(c, at, v, depth)))
        return false;
    for (;;) {
        skip(at);
        char op = **at;
        if (!op || !strchr(operators[level], op))
            return true;
        ++*at;
        if (!(level ? chain(c, at, &w, depth, level - 1) : unary(c, at, &w, depth)) || !apply(op, v, w))
            return false;
    }
}
static bool sum(const struct command *c, const char **at, uint64_t *v, unsigned depth) { return chain(c, at, v, depth, 2); }
bool expression(const struct command *c, const char **at, uint64_t *v) { return sum(c, at, v, 0); }

/* --- Formats: /COUNT LETTERS */
struct format { unsigned count, size; char kind; };

static bool format_parse(const char **at, struct format *f)
{
    if (**at != '/')
        return true;
    for (++*at; **at && !isspace((unsigned char)**at); ++*at) {
        char *after, letter = **at;
        if (isdigit((unsigned char)letter)) {
            unsigned long count = strtoul(*at, &after, 10);
            f->count = count > 1u << 20 ? 1u << 20 : (unsigned)count;
            *at = after - 1;
        } else if (strchr("xduoci", letter)) {
            f->kind = letter;
        } else if (strchr("bhwg", letter)) {
            f->size = letter == 'b' ? 1 : letter == 'h' ? 2 : letter == 'w' ? 4 : 8;
        } else {
            return false;
        }
    }
    if (f->kind == 'c')
        f->size = 1;
    return true;
}

/* The whole of the arguments: format, expression, and what follows it. */
static bool arguments(struct command *c, struct format *f, uint64_t *value, const char **rest)
{
    const char *at = c->arguments;
    if (!format_parse(&at, f)) {
        fprintf(c->out, "invalid char in format: '%c'\n", *at);
        return false;
    }
    skip(&at);
    if (!*at || !expression(c, &at, value)) {
        fprintf(c->out, "%s: '%s'\n", *at || c->arguments[0] ? "invalid expression" : "an address or value is missing", c->arguments);
        return false;
    }
    skip(&at);
    if (rest)
        *rest = at;
    else if (*at)
        fprintf(c->out, "extraneous characters at the end of line: '%s'\n", at);
    return rest || !*at;
}

static int64_t as_signed(uint64_t v, unsigned size) { return (int64_t)(v << (64 - 8 * size)) >> (64 - 8 * size); }

static void print_char(FILE *out, int c)
{
    if (c == '\'' || c == '\\')
        fprintf(out, "'\\%c'", c);
    else if (c == '\n' || c == '\r')
        fprintf(out, "'\\%c'", c == '\n' ? 'n' : 'r');
    else
        fprintf(out, c >= 32 && c < 127 ? "'%c'" : "'\\x%02x'", c);
}

/* width: columns are aligned, as in a dump. */
static void print_value(FILE *out, const struct format *f, uint64_t v, bool width)
{
    int bits = (int)f->size * 8, decimal = width ? (bits * 10 + 32) / 33 : 0;
    switch (f->kind) {
    case 'd': fprintf(out, "%*" PRId64, decimal, as_signed(v, f->size)); break;
    case 'u': fprintf(out, "%*" PRIu64, decimal, v); break;
    case 'o': fprintf(out, "%#*" PRIo64, width ? (bits + 2) / 3 : 0, v); break;
    case 'c': print_char(out, (int)(v & 0xff)); break;
    default: fprintf(out, "0x%0*" PRIx64, width ? bits / 4 : 1, v); break;
    }
}

/* --- x, xp */
static void dump_code(struct command *c, uint64_t at, unsigned count, bool physical)
{
    for (; count; count--) {
        uint8_t bytes[16];
        char text[128];
        unsigned have = 15;
        while (have && !machine_debug_read(c->machine, at, physical, bytes, have))
            have--;
        unsigned n = have ? x86_disassemble(c->state->mode, at, bytes, have, text, sizeof text) : 0;
        if (!have) {
            fprintf(c->out, "0x%08" PRIx64 ":  Cannot access memory\n", at);
            return;
        }
        fprintf(c->out, "0x%08" PRIx64 ":  %s\n", at, n ? text : "(bad)");
        at += n ? n : 1;
    }
}

static void dump_values(struct command *c, uint64_t at, const struct format *f, bool physical)
{
    unsigned row = (f->kind == 'c' ? 8 : 16) / f->size;
    for (unsigned i = 0; i < f->count; i++, at += f->size) {
        uint64_t v = 0;
        if (i % row == 0)
            fprintf(c->out, "%s%016" PRIx64 ":", i ? "\n" : "", at);
        if (!machine_debug_read(c->machine, at, physical, &v, f->size)) {
            fprintf(c->out, " Cannot access memory\n");
            return;
        }
        fputc(' ', c->out);
        print_value(c->out, f, v, true);
    }
    if (f->count)
        fputc('\n', c->out);
}

static void dump(struct command *c, bool physical)
{
    struct format f = {1, 4, 'x'};
    uint64_t address;
    if (!arguments(c, &f, &address, NULL))
        return;
    if (f.kind == 'i')
        dump_code(c, address, f.count, physical);
    else
        dump_values(c, address, &f, physical);
}
void command_x(struct command *c) { dump(c, false); }
void command_xp(struct command *c) { dump(c, true); }

void command_print(struct command *c)
{
    struct format f = {1, 8, 'x'};
    uint64_t value;
    if (!arguments(c, &f, &value, NULL))
        return;
    print_value(c->out, &f, value, false);
    fputc('\n', c->out);
}

void command_gva2gpa(struct command *c)
{
    struct format f = {1, 8, 'x'};
    uint64_t linear, physical;
    if (!arguments(c, &f, &linear, NULL))
        return;
    if (x86_translate_debug(machine_cpu(c->machine), linear, &physical))
        fprintf(c->out, "gpa: %#" PRIx64 "\n", physical);
    else
        fprintf(c->out, "Unmapped\n");
}

/* --- Ports */
static bool port(struct command *c, struct format *f, uint64_t *at, const char **rest)
{
    if (!arguments(c, f, at, rest))
        return false;
    if (f->size <= 4 && *at <= 0xffff)
        return true;
    fprintf(c->out, "ports are 0 to 0xffff, of sizes b, h and w\n");
    return false;
}

void command_in(struct command *c)
{
    struct format f = {1, 1, 'x'};
    uint64_t at;
    if (!port(c, &f, &at, NULL))
        return;
    fprintf(c->out, "port%c[0x%04" PRIx64 "] = 0x%0*" PRIx32 "\n", f.size == 1 ? 'b' : f.size == 2 ? 'w' : 'l', at, (int)f.size * 2,
            machine_io_read(c->machine, (uint16_t)at, f.size));
}

void command_out(struct command *c)
{
    struct format f = {1, 1, 'x'};
    uint64_t at, value;
    const char *rest;
    if (!port(c, &f, &at, &rest))
        return;
    if (expression(c, &rest, &value) && !rest[strspn(rest, " \t")])
        machine_io_write(c->machine, (uint16_t)at, f.size, (uint32_t)value);
    else
        fprintf(c->out, "the value to write is missing or wrong\n");
}

/* --- memsave, pmemsave */
static void save_to(struct command *c, uint64_t at, uint64_t size, bool physical, FILE *file)
{
    uint8_t page[4096];
    while (size) {
        size_t n = size < sizeof page ? size : sizeof page;
        if (!machine_debug_read(c->machine, at, physical, page, n)) {
            fprintf(c->out, "Invalid addr 0x%016" PRIx64 "/size %" PRIu64 " specified\n", at, size);
            return;
        }
        fwrite(page, 1, n, file);
        at += n;
        size -= n;
    }
}

/* The file's name is the last word: a '/' in it is no division. */
static void save(struct command *c, bool physical)
{
    char numbers[256];
    const char *name = strrchr(c->arguments, ' '), *at = numbers;
    uint64_t from, size;
    snprintf(numbers, sizeof numbers, "%.*s", name ? (int)(name - c->arguments) : 0, c->arguments);
    if (!expression(c, &at, &from) || !expression(c, &at, &size) || at[strspn(at, " ")]) {
        fprintf(c->out, "usage: addr size file\n");
        return;
    }
    FILE *file = fopen(name + 1, "w");
    if (file)
        save_to(c, from, size, physical, file);
    if (!file || fclose(file))
        fprintf(c->out, "cannot write '%s': %s\n", name + 1, strerror(errno));
}
void command_memsave(struct command *c) { save(c, false); }
void command_pmemsave(struct command *c) { save(c, true); }
