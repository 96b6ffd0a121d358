/* The command line: a table of options, each with a function that takes its value. */
#include "tools/tierce/options.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct parse { struct options *o; const char *name; char *error; size_t size; };
typedef bool take_fn(struct parse *, const char *value);

static bool fail(struct parse *p, const char *value, const char *accepted)
{
    snprintf(p->error, p->size, "-%s: '%s' is not accepted; %s", p->name, value, accepted);
    return false;
}

static bool take_memory(struct parse *p, const char *value)
{
    const char *digits = strncmp(value, "size=", 5) ? value : value + 5;
    char *end;
    uint64_t n = strtoull(digits, &end, 10), unit = 1 << 20;
    if (*end == 'G' || *end == 'g')
        unit = 1 << 30;
    else if (*end == 'k' || *end == 'K')
        unit = 1 << 10;
    if (*end && strchr("GgMmKk", *end))
        end++;
    if (end == digits || *end || !n || n > (1ull << 40) / unit || n * unit < 2 << 20)
        return fail(p, value, "a size from 2M up to 1024G: N, NM or NG");
    p->o->machine.ram_size = n * unit;
    return true;
}

static bool take_smp(struct parse *p, const char *value)
{
    const char *n = strncmp(value, "cpus=", 5) ? value : value + 5;
    return !strcmp(n, "1") || fail(p, value, "1: more than one CPU is not there yet");
}

static bool take_cpu(struct parse *p, const char *value)
{
    if (!strcmp(value, "help"))
        p->o->action = DO_CPU_HELP;
    p->o->machine.cpu = value;
    return true;
}
static bool take_kernel(struct parse *p, const char *value) { p->o->machine.kernel = value; return true; }
static bool take_initrd(struct parse *p, const char *value) { p->o->machine.initrd = value; return true; }
static bool take_append(struct parse *p, const char *value) { p->o->machine.append = value; return true; }
static bool take_nothing(struct parse *p, const char *value) { (void)p; (void)value; return true; }
static bool take_nographic(struct parse *p, const char *value) { (void)value; p->o->nographic = true; return true; }
static bool take_no_reboot(struct parse *p, const char *value) { (void)value; p->o->machine.no_reboot = true; return true; }
static bool take_stopped(struct parse *p, const char *value) { (void)value; p->o->machine.start_stopped = true; return true; }
static bool take_icount(struct parse *p, const char *value) { (void)value; p->o->machine.icount = true; return true; }
static bool take_help(struct parse *p, const char *value) { (void)value; p->o->action = DO_HELP; return true; }
static bool take_version(struct parse *p, const char *value) { (void)value; p->o->action = DO_VERSION; return true; }
static bool take_trace_file(struct parse *p, const char *value) { p->o->trace_path = value; return true; }
static bool take_later(struct parse *p, const char *value)
{
    snprintf(p->error, p->size, "-%s%s%s: not there yet; see docs/status.md for what is", p->name, value ? " " : "", value ? value : "");
    return false;
}

static bool take_serial(struct parse *p, const char *value)
{
    struct options *o = p->o;
    if (o->serials == 2)
        return fail(p, value, "there are two serial ports");
    enum serial_kind *kind = &o->serial[o->serials];
    if (!strcmp(value, "stdio"))
        *kind = SERIAL_STDIO;
    else if (!strcmp(value, "mon:stdio"))
        *kind = SERIAL_MON_STDIO;
    else if (!strcmp(value, "none") || !strcmp(value, "null"))
        *kind = SERIAL_NONE;
    else if (!strncmp(value, "file:", 5) && value[5]) {
        *kind = SERIAL_FILE;
        o->serial_file[o->serials] = value + 5;
    } else {
        return fail(p, value, "stdio, mon:stdio, file:PATH, null or none");
    }
    o->serials++;
    return true;
}

static bool take_monitor(struct parse *p, const char *value)
{
    if (strcmp(value, "stdio") && strcmp(value, "none") && strcmp(value, "null"))
        return fail(p, value, "stdio or none");
    p->o->monitor_stdio = !strcmp(value, "stdio");
    return true;
}

static bool take_debugcon(struct parse *p, const char *value)
{
    if (strcmp(value, "stdio") && (strncmp(value, "file:", 5) || !value[5]))
        return fail(p, value, "stdio or file:PATH");
    p->o->debugcon = !strcmp(value, "stdio") ? value : value + 5;
    return true;
}

static bool take_device(struct parse *p, const char *value)
{
    size_t n = strcspn(value, ",");
    if (n != strlen("isa-debug-exit") || strncmp(value, "isa-debug-exit", n))
        return fail(p, value, "isa-debug-exit alone so far");
    const char *base = strstr(value, "iobase=");
    if (base && strtoul(base + 7, NULL, 0) != 0x501)
        return fail(p, value, "iobase=0x501");
    p->o->debug_exit = true;
    return true;
}

static bool take_word(struct parse *p, const char *value, const char *const *words)
{
    size_t n = strcspn(value, ",");
    for (const char *const *w = words; *w; w++)
        if (strlen(*w) == n && !strncmp(*w, value, n))
            return true;
    char accepted[100] = "accepted:";
    for (const char *const *w = words; *w; w++)
        snprintf(accepted + strlen(accepted), sizeof accepted - strlen(accepted), " %s", *w);
    return fail(p, value, accepted);
}
static bool take_machine(struct parse *p, const char *value) { return take_word(p, value, (const char *const[]){"pc", "type=pc", NULL}); }
static bool take_accel(struct parse *p, const char *value) { return take_word(p, value, (const char *const[]){"tcg", NULL}); }
static bool take_none(struct parse *p, const char *value) { return take_word(p, value, (const char *const[]){"none", NULL}); }
static bool take_rtc(struct parse *p, const char *value) { return take_word(p, value, (const char *const[]){"base=utc", NULL}); }

static bool take_tier(struct parse *p, const char *value)
{
    if (!strcmp(value, "llvm") || !strcmp(value, "tiered") || !strcmp(value, "kvm"))
        return fail(p, value, "that tier is not there yet; accepted: interp, tcg");
    if (strcmp(value, "interp") && strcmp(value, "tcg"))
        return fail(p, value, "accepted: interp, tcg");
    p->o->machine.tier = !strcmp(value, "tcg") ? TIER_TCG : TIER_INTERP;
    return true;
}

static bool take_stats(struct parse *p, const char *value)
{
    if (value && strcmp(value, "json"))
        return fail(p, value, "accepted: --stats, --stats=json");
    p->o->machine.stats = true;
    p->o->stats_json = value != NULL;
    return true;
}

static const struct { const char *name; unsigned bit; const char *meaning; } traces[] = {
    {"in_asm", TRACE_IN_ASM, "guest instructions of each block when it is translated"},
    {"ir", TRACE_IR, "its IR as lifted"},
    {"ir_opt", TRACE_IR_OPT, "its IR after the passes"},
    {"out_asm", TRACE_OUT_ASM, "the host code made of it"},
    {"int", TRACE_INT, "exceptions and interrupts"},
    {"exec", TRACE_EXEC, "each block before it runs (no chaining)"},
    {"cpu", TRACE_CPU, "CPU state before each block (no chaining)"},
    {"mmu", TRACE_MMU, "page walks"},
};

static bool take_trace(struct parse *p, const char *value)
{
    if (!strcmp(value, "help")) {
        p->o->action = DO_TRACE_HELP;
        return true;
    }
    for (const char *at = value; *at;) {
        size_t n = strcspn(at, ","), i = 0;
        while (i < sizeof traces / sizeof *traces && (strlen(traces[i].name) != n || strncmp(traces[i].name, at, n)))
            i++;
        if (i == sizeof traces / sizeof *traces)
            return fail(p, value, "items: in_asm,ir,ir_opt,out_asm,int,exec,cpu,mmu; `-d help` explains them");
        p->o->machine.trace |= traces[i].bit;
        at += n + (at[n] == ',');
    }
    return true;
}

static bool take_tb_size(struct parse *p, const char *value)
{
    char *end;
    unsigned long n = strtoul(value, &end, 10);
    if (end == value || *end || n < 1 || n > 2047)
        return fail(p, value, "MiB, 1 to 2047");
    p->o->machine.code_buffer_size = (size_t)n << 20;
    return true;
}

enum { VALUE = 1, OPTIONAL = 2 /* only as --name=value */ };
static const struct option { const char *name; int value; take_fn *take; const char *help; } table[] = {
    {"m", VALUE, take_memory, "SIZE         guest RAM: N or NM in MiB, NG (default 128M)"},
    {"smp", VALUE, take_smp, "1            CPUs"},
    {"cpu", VALUE, take_cpu, "MODEL[,+f]   CPU model; `-cpu help` lists them"},
    {"kernel", VALUE, take_kernel, "FILE         bzImage or ELF kernel to boot"},
    {"initrd", VALUE, take_initrd, "FILE         its initial RAM disk"},
    {"append", VALUE, take_append, "TEXT         its command line"},
    {"nographic", 0, take_nographic, "             serial port and monitor on the terminal"},
    {"serial", VALUE, take_serial, "DEV          stdio, mon:stdio, file:PATH, none (twice: COM1, COM2)"},
    {"monitor", VALUE, take_monitor, "DEV          stdio or none"},
    {"debugcon", VALUE, take_debugcon, "DEV          port 0xe9 to stdio or file:PATH"},
    {"device", VALUE, take_device, "NAME         isa-debug-exit"},
    {"no-reboot", 0, take_no_reboot, "             end where the guest reboots"},
    {"S", 0, take_stopped, "             start stopped"},
    {"d", VALUE, take_trace, "ITEMS        trace; `-d help` lists the items"},
    {"D", VALUE, take_trace_file, "FILE         where the trace goes (default: standard error)"},
    {"tier", VALUE, take_tier, "NAME         interp or tcg (default tcg)"},
    {"icount", 0, take_icount, "             time counts instructions: runs repeat exactly"},
    {"stats", OPTIONAL, take_stats, "[=json]      counts and times at the end"},
    {"tb-size", VALUE, take_tb_size, "MIB          code buffer"},
    {"machine", VALUE, take_machine, "pc"}, {"M", VALUE, take_machine, "pc"}, {"accel", VALUE, take_accel, "tcg"},
    {"display", VALUE, take_none, "none"}, {"vga", VALUE, take_none, "none"}, {"net", VALUE, take_none, "none"}, {"nic", VALUE, take_none, "none"},
    {"rtc", VALUE, take_rtc, "base=utc"}, {"name", VALUE, take_nothing, "TEXT         ignored"},
    {"bios", VALUE, take_later, NULL}, {"drive", VALUE, take_later, NULL}, {"hda", VALUE, take_later, NULL}, {"cdrom", VALUE, take_later, NULL},
    {"s", 0, take_later, NULL}, {"gdb", VALUE, take_later, NULL}, {"cache", VALUE, take_later, NULL}, {"check", VALUE, take_later, NULL},
    {"version", 0, take_version, "             print the version"}, {"help", 0, take_help, "             this text"}, {"h", 0, take_help, NULL},
};

static const struct option *find(const char *name, size_t length)
{
    for (unsigned i = 0; i < sizeof table / sizeof *table; i++)
        if (strlen(table[i].name) == length && !strncmp(table[i].name, name, length))
            return &table[i];
    return NULL;
}

static bool one(struct parse *p, int argc, char **argv, int *at)
{
    const char *word = argv[*at], *name = word + 1 + (word[1] == '-');
    size_t length = strcspn(name, "=");
    const struct option *o = word[0] == '-' ? find(name, length) : NULL;
    if (!o) {
        snprintf(p->error, p->size, "%s '%s'; `tierce -help` lists what is accepted", word[0] == '-' ? "unknown option" : "stray argument", word);
        return false;
    }
    p->name = o->name;
    const char *value = name[length] == '=' ? name + length + 1 : NULL;
    if (o->value == VALUE && !value) {
        if (*at + 1 >= argc) {
            snprintf(p->error, p->size, "-%s: a value is missing", o->name);
            return false;
        }
        value = argv[++*at];
    }
    if (!o->value && value) {
        snprintf(p->error, p->size, "-%s takes no value, but has '%s'", o->name, value);
        return false;
    }
    return o->take(p, value);
}

static void defaults(struct options *o)
{
    if (o->nographic && !o->serials)
        o->serial[0] = SERIAL_MON_STDIO;
    else if (!o->serials && !o->monitor_stdio)
        o->serial[0] = SERIAL_MON_STDIO; /* there is no display yet */
}

const char *options_parse(struct options *o, int argc, char **argv, char *error, size_t size)
{
    struct parse p = {o, "", error, size};
    memset(o, 0, sizeof *o);
    o->machine.ram_size = 128ull << 20;
    o->machine.tier = TIER_TCG;
    for (int at = 1; at < argc; at++)
        if (!one(&p, argc, argv, &at))
            return error;
    unsigned on_stdio = o->monitor_stdio;
    for (unsigned i = 0; i < 2; i++)
        on_stdio += o->serial[i] == SERIAL_STDIO || o->serial[i] == SERIAL_MON_STDIO;
    if (on_stdio > 1)
        return snprintf(error, size, "stdio is used %u times; it can have one user (mon:stdio shares it with the monitor)", on_stdio), error;
    if (o->action == DO_RUN && !o->machine.kernel)
        return snprintf(error, size, "nothing to run: give -kernel FILE"), error;
    if (o->machine.initrd && !o->machine.kernel)
        return snprintf(error, size, "-initrd needs -kernel"), error;
    defaults(o);
    return NULL;
}

void options_help(FILE *out)
{
    fputs("usage: tierce -kernel FILE [-initrd FILE] [-append TEXT] [-m SIZE] [-nographic] ...\n", out);
    for (unsigned i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].help)
            fprintf(out, "  -%-10s %s\n", table[i].name, table[i].help);
    fputs("Ctrl-A X ends, Ctrl-A C switches to the monitor and back, Ctrl-A H helps.\n", out);
}

void options_trace_help(FILE *out)
{
    for (unsigned i = 0; i < sizeof traces / sizeof *traces; i++)
        fprintf(out, "%-8s %s\n", traces[i].name, traces[i].meaning);
}
