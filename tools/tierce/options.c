/* The command line: a table of options, each with a function that takes its value.  What is QEMU's and not there yet
 * has a row too, so that it is refused with what is accepted instead. */
#include "tools/tierce/options.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct parse { struct options *o; const char *name; char *error; size_t size; };
typedef bool take_fn(struct parse *, const char *value);

static bool fail(struct parse *p, const char *value, const char *accepted)
{
    snprintf(p->error, p->size, "-%s: '%s' is not accepted; accepted: %s", p->name, value, accepted);
    return false;
}

/* True where `word` is the first n bytes at `at`. */
static bool is(const char *at, size_t n, const char *word) { return strlen(word) == n && !strncmp(at, word, n); }

/* One of the words. */
static bool among(const char *at, size_t n, const char *const *words)
{
    for (; *words; words++)
        if (is(at, n, *words))
            return true;
    return false;
}
#define AMONG(at, n, ...) among(at, n, (const char *const[]){__VA_ARGS__, NULL})

/* --- The machine */
/* QEMU's sizes: 512, 512M, 1.5G, 0x200k; false: none, or too large. */
static bool parse_size(const char *at, size_t n, uint64_t unit, uint64_t *size)
{
    static const char letters[] = "BKMGTPE";
    char text[32], *end;
    if (!n || n >= sizeof text)
        return false;
    memcpy(text, at, n);
    text[n] = 0;
    double value = text[0] == '-' ? -1 : strtod(text, &end);
    if (!(value >= 0) || end == text)
        return false;
    if (*end) {
        const char *letter = strchr(letters, *end >= 'a' ? *end - 'a' + 'A' : *end);
        if (!letter || end[1])
            return false;
        unit = 1ull << 10 * (letter - letters);
    }
    if (value * (double)unit > (double)(1ull << 62))
        return false;
    *size = (uint64_t)(value * (double)unit);
    return true;
}

static bool take_memory(struct parse *p, const char *value)
{
    static const char accepted[] = "[size=]N from 2M to 256G, in MiB or with a suffix B, K, M, G";
    uint64_t size;
    const char *at = strncmp(value, "size=", 5) ? value : value + 5;
    if (!parse_size(at, strlen(at), 1 << 20, &size) || size < 2u << 20 || size > 256ull << 30)
        return fail(p, value, accepted);
    p->o->machine.ram_size = (size + 8191) & ~8191ull; /* as QEMU rounds */
    return true;
}

static bool take_smp(struct parse *p, const char *value)
{
    for (const char *at = value; ; at++) {
        size_t n = strcspn(at, ",");
        if (!AMONG(at, n, "1", "cpus=1", "maxcpus=1", "sockets=1", "dies=1", "cores=1", "threads=1"))
            return fail(p, value, "1 (more than one CPU is not there yet)");
        if (!*(at += n))
            return true;
    }
}

/* feature=on and feature=off become +feature and -feature; what they are is known to machine_new. */
static bool take_cpu(struct parse *p, const char *value)
{
    char *to = p->o->cpu, *end = to + sizeof p->o->cpu;
    if (!strcmp(value, "help") || !strcmp(value, "?")) {
        p->o->action = DO_CPU_HELP;
        return true;
    }
    for (const char *at = value; ; at++) {
        size_t n = strcspn(at, ",");
        bool on = n > 3 && !strncmp(at + n - 3, "=on", 3), off = n > 4 && !strncmp(at + n - 4, "=off", 4);
        int room = (int)(end - to), length = (int)n - (on ? 3 : off ? 4 : 0);
        int wrote = snprintf(to, (size_t)room, "%s%s%.*s", at == value ? "" : ",", on ? "+" : off ? "-" : "", length, at);
        if (wrote >= room)
            return fail(p, value, "a shorter list");
        to += wrote;
        if (!*(at += n))
            break;
    }
    p->o->machine.cpu = p->o->cpu;
    return true;
}
static bool take_kernel(struct parse *p, const char *value) { p->o->machine.kernel = value; return true; }
static bool take_initrd(struct parse *p, const char *value) { p->o->machine.initrd = value; return true; }
static bool take_append(struct parse *p, const char *value) { p->o->machine.append = value; return true; }
static bool take_nothing(struct parse *p, const char *value) { (void)p; (void)value; return true; }
static bool take_no_reboot(struct parse *p, const char *value) { (void)value; p->o->machine.no_reboot = true; return true; }
static bool take_no_shutdown(struct parse *p, const char *value) { (void)value; p->o->machine.no_shutdown = true; return true; }
static bool take_stopped(struct parse *p, const char *value) { (void)value; p->o->machine.start_stopped = true; return true; }

static bool take_action(struct parse *p, const char *value)
{
    for (const char *at = value; ; at++) {
        size_t n = strcspn(at, ",");
        if (AMONG(at, n, "reboot=reset", "reboot=shutdown"))
            p->o->machine.no_reboot = is(at, n, "reboot=shutdown");
        else if (AMONG(at, n, "shutdown=poweroff", "shutdown=pause"))
            p->o->machine.no_shutdown = is(at, n, "shutdown=pause");
        else
            return fail(p, value, "reboot=reset|shutdown,shutdown=poweroff|pause");
        if (!*(at += n))
            return true;
    }
}

static bool take_machine(struct parse *p, const char *value)
{
    if (!strcmp(value, "help") || !strcmp(value, "?")) {
        p->o->action = DO_MACHINE_HELP;
        return true;
    }
    for (const char *at = value; ; at++) {
        size_t n = strcspn(at, ",");
        if (!AMONG(at, n, "pc", "type=pc", "accel=tcg"))
            return fail(p, value, "pc[,accel=tcg]");
        if (!*(at += n))
            return true;
    }
}

static bool take_tb_size(struct parse *p, const char *value)
{
    char *end;
    unsigned long n = strtoul(value, &end, 10);
    if (end == value || *end || n < 1 || n > 2047)
        return fail(p, value, "a code buffer of 1 to 2047 MiB");
    p->o->machine.code_buffer_size = (size_t)n << 20;
    return true;
}

static bool take_accel(struct parse *p, const char *value)
{
    if (!strcmp(value, "help") || !strcmp(value, "?")) {
        p->o->action = DO_ACCEL_HELP;
        return true;
    }
    for (const char *at = value; ; at++) {
        size_t n = strcspn(at, ",");
        if (!strncmp(at, "tb-size=", 8) && !at[n])
            return take_tb_size(p, at + 8);
        if (!AMONG(at, n, "tcg", "accel=tcg", "thread=single", "thread=multi"))
            return fail(p, value, "tcg[,thread=single|multi][,tb-size=MIB]");
        if (!*(at += n))
            return true;
    }
}

/* Ports of isa-debug-exit: any number that strtoul takes, up to the last port. */
static bool parse_port(const char *at, size_t n, unsigned long *to)
{
    char *end;
    *to = strtoul(at, &end, 0);
    return end != at && end == at + n && *to <= 0xffff;
}

static bool take_device(struct parse *p, const char *value)
{
    static const char accepted[] = "isa-debug-exit[,iobase=PORT][,iosize=1|2|4] (other devices are not there yet)";
    unsigned long base = 0x501, size = 2; /* QEMU's defaults */
    size_t n = strcspn(value, ",");
    if (is(value, n, "help") || is(value, n, "?")) {
        p->o->action = DO_DEVICE_HELP;
        return true;
    }
    if (!is(value, n, "isa-debug-exit"))
        return fail(p, value, accepted);
    for (const char *at = value + n; *at == ','; at += n) {
        n = strcspn(++at, ",");
        bool ok = !strncmp(at, "iobase=", 7) ? parse_port(at + 7, n - 7, &base) : !strncmp(at, "iosize=", 7) ? parse_port(at + 7, n - 7, &size) : !strncmp(at, "id=", 3);
        if (!ok)
            return fail(p, value, accepted);
    }
    if (size != 1 && size != 2 && size != 4)
        return fail(p, value, accepted);
    p->o->machine.debug_exit_port = (uint16_t)base;
    p->o->machine.debug_exit_size = (uint16_t)size;
    return true;
}

static bool take_word(struct parse *p, const char *value, const char *word)
{
    return !strcmp(value, word) || fail(p, value, word);
}
static bool take_none(struct parse *p, const char *value) { return take_word(p, value, "none"); }
static bool take_rtc(struct parse *p, const char *value) { return take_word(p, value, "base=utc"); }

/* --- What QEMU has and tierce has not yet */
static bool later(struct parse *p, const char *value, const char *what, const char *instead)
{
    snprintf(p->error, p->size, "-%s%s%s: %s not there yet; accepted: %s", p->name, value ? " " : "", value ? value : "", what, instead);
    return false;
}
static bool take_disk(struct parse *p, const char *value) { return later(p, value, "disks are", "-kernel FILE -initrd FILE"); }
static bool take_firmware(struct parse *p, const char *value) { return later(p, value, "firmware is", "-kernel FILE, which boots without"); }
static bool take_network(struct parse *p, const char *value)
{
    return !strcmp(value, "none") || later(p, value, "network is", "none");
}
static bool take_usb(struct parse *p, const char *value) { return later(p, value, "USB is", "the PS/2 keyboard and mouse"); }
static bool take_kvm(struct parse *p, const char *value) { return later(p, value, "KVM is", "-accel tcg"); }
static bool take_cache(struct parse *p, const char *value)
{
    return !strcmp(value, "off") || later(p, value, "the translation cache is", "off");
}
static bool take_check(struct parse *p, const char *value) { return later(p, value, "lockstep is", "--tier=interp or --tier=tcg alone"); }

/* --- Where serial ports, monitors and gdb are */
static bool take_stream(struct parse *p, const char *value, struct stream_spec *to)
{
    return stream_parse(value, to) || fail(p, value, STREAM_ACCEPTED);
}

static bool take_serial(struct parse *p, const char *value)
{
    if (p->o->serials == MAX_SERIAL)
        return fail(p, value, "two serial ports, which have been given");
    return take_stream(p, value, &p->o->serial[p->o->serials++]);
}

static bool take_monitor(struct parse *p, const char *value)
{
    if (p->o->monitors == MAX_MONITORS)
        return fail(p, value, "four monitors, which have been given");
    return take_stream(p, value, &p->o->monitor[p->o->monitors++]);
}

static bool take_debugcon(struct parse *p, const char *value)
{
    p->o->has_debugcon = true;
    return take_stream(p, value, &p->o->debugcon);
}

static bool take_gdb(struct parse *p, const char *value)
{
    struct stream_spec *s = &p->o->gdb;
    p->o->has_gdb = strcmp(value, "none");
    if (!stream_parse(value, s) || s->mux || s->telnet || s->kind == STREAM_FILE)
        return fail(p, value, "tcp:[HOST]:PORT, unix:PATH, pty, stdio, none");
    s->server = s->kind == STREAM_TCP || s->kind == STREAM_UNIX;
    s->wait = false;
    return true;
}
static bool take_gdb_default(struct parse *p, const char *value) { (void)value; return take_gdb(p, "tcp::1234"); }
static bool take_nographic(struct parse *p, const char *value) { (void)value; p->o->nographic = true; return true; }
static bool take_no_defaults(struct parse *p, const char *value) { (void)value; p->o->no_defaults = true; return true; }

/* --- What is seen of a run */
static const struct { const char *name, *other; unsigned bit; const char *meaning; } traces[] = {
    {"in_asm", NULL, TRACE_IN_ASM, "guest instructions of each block when it is translated"},
    {"ir", "op", TRACE_IR, "its IR as lifted"},
    {"ir_opt", "op_opt", TRACE_IR_OPT, "its IR after the passes"},
    {"out_asm", NULL, TRACE_OUT_ASM, "the host code made of it"},
    {"int", NULL, TRACE_INT, "interrupts and exceptions"},
    {"exec", NULL, TRACE_EXEC, "each block before it runs (they are not chained then)"},
    {"cpu", NULL, TRACE_CPU, "CPU state before each block (they are not chained then)"},
    {"mmu", NULL, TRACE_MMU, "TLB fills, page faults and TLB flushes"},
    {"nochain", NULL, TRACE_NOCHAIN, "does not chain blocks, so that `exec` and `cpu` show all"},
};
enum { TRACES = sizeof traces / sizeof *traces };

bool options_trace_parse(const char *items, unsigned *trace, char *wrong, size_t size)
{
    for (const char *at = items; ; at++) {
        size_t n = strcspn(at, ","), i = 0;
        while (i < TRACES && !is(at, n, traces[i].name) && !(traces[i].other && is(at, n, traces[i].other)))
            i++;
        if (i == TRACES) {
            snprintf(wrong, size, "%.*s", (int)n, at);
            return false;
        }
        *trace |= traces[i].bit;
        if (!*(at += n))
            return true;
    }
}

void options_trace_help(FILE *out)
{
    for (unsigned i = 0; i < TRACES; i++)
        fprintf(out, "%-8s %s%s%s%s\n", traces[i].name, traces[i].meaning, traces[i].other ? " (also: " : "",
                traces[i].other ? traces[i].other : "", traces[i].other ? ")" : "");
}

static bool take_trace(struct parse *p, const char *value)
{
    char wrong[64];
    p->o->machine.trace = 0; /* the last -d counts */
    if (!strcmp(value, "help") || !strcmp(value, "?"))
        p->o->action = DO_TRACE_HELP;
    else if (!options_trace_parse(value, &p->o->machine.trace, wrong, sizeof wrong))
        return fail(p, value, "in_asm,ir,ir_opt,out_asm,int,exec,cpu,mmu,nochain; `-d help` explains them");
    return true;
}
static bool take_trace_file(struct parse *p, const char *value) { p->o->trace_path = value; return true; }

/* FROM..TO, FROM+SIZE or FROM-SIZE, as QEMU has them; a comma between. */
static bool parse_range(const char **at, struct trace_range *r)
{
    char *end;
    errno = 0;
    uint64_t first = strtoull(*at, &end, 0);
    const char *op = end;
    bool dots = op[0] == '.' && op[1] == '.';
    if (end == *at || errno || (!dots && *op != '+' && *op != '-'))
        return false;
    const char *number = op + (dots ? 2 : 1);
    uint64_t second = strtoull(number, &end, 0);
    *at = end;
    if (end == number || errno || (!dots && !second) || (dots && second < first))
        return false;
    *r = dots ? (struct trace_range){first, second} : *op == '+' ? (struct trace_range){first, first + second - 1} : (struct trace_range){first - second + 1, first};
    return r->first <= r->last;
}

static bool take_filter(struct parse *p, const char *value)
{
    struct machine_config *m = &p->o->machine;
    m->trace_ranges = 0;
    for (const char *at = value; ; at++) {
        if (m->trace_ranges == TRACE_RANGES || !parse_range(&at, &m->trace_range[m->trace_ranges++]) || (*at && *at != ','))
            return fail(p, value, "up to eight ranges FROM..TO, FROM+SIZE or FROM-SIZE, with commas between");
        if (!*at)
            return true;
    }
}

static bool take_tier(struct parse *p, const char *value)
{
    if (!strcmp(value, "llvm") || !strcmp(value, "tiered") || !strcmp(value, "kvm"))
        return later(p, value, "that tier is", "interp, tcg");
    if (strcmp(value, "interp") && strcmp(value, "tcg"))
        return fail(p, value, "interp, tcg");
    p->o->machine.tier = !strcmp(value, "tcg") ? TIER_TCG : TIER_INTERP;
    return true;
}

static bool take_stats(struct parse *p, const char *value)
{
    if (value && strcmp(value, "json") && strcmp(value, "text"))
        return fail(p, value, "--stats, --stats=text, --stats=json");
    p->o->machine.stats = true;
    p->o->stats_json = value && !strcmp(value, "json");
    return true;
}

static bool take_icount(struct parse *p, const char *value)
{
    if (value && strcmp(value, "shift=0") && strcmp(value, "0"))
        return fail(p, value, "--icount, or shift=0: an instruction takes 1 ns");
    p->o->machine.icount = true;
    return true;
}
static bool take_translate(struct parse *p, const char *value)
{
    if (strcmp(value, "first") && strcmp(value, "second"))
        return fail(p, value, "first or second: the run of a piece of code at which it is translated");
    p->o->machine.interpret_first = !strcmp(value, "second");
    return true;
}
static bool take_help(struct parse *p, const char *value) { (void)value; p->o->action = DO_HELP; return true; }
static bool take_version(struct parse *p, const char *value) { (void)value; p->o->action = DO_VERSION; return true; }

/* --- The table.  argument: NULL, the option has none; "[=...]": it may follow `=`; else it is needed.  help: NULL, not
 * listed. */
static const struct option { const char *name, *other; take_fn *take; const char *argument, *help; } table[] = {
    {"m", NULL, take_memory, "SIZE", "guest RAM: N or NM in MiB, NG, NK (default 128M)"},
    {"smp", NULL, take_smp, "1", "how many CPUs"},
    {"cpu", NULL, take_cpu, "MODEL[,+F|,-F]", "CPU model and features; `-cpu help` lists them (default x86-64-v2)"},
    {"machine", "M", take_machine, "pc", "machine type"},
    {"accel", NULL, take_accel, "tcg", "accelerator"},
    {"kernel", NULL, take_kernel, "FILE", "bzImage, ELF or Multiboot kernel to boot"},
    {"initrd", NULL, take_initrd, "FILE", "its initial RAM disk"},
    {"append", NULL, take_append, "TEXT", "its command line"},
    {"serial", NULL, take_serial, "DEV", "where COM1 is, then COM2 (default mon:stdio)"},
    {"monitor", NULL, take_monitor, "DEV", "a monitor there"},
    {"debugcon", NULL, take_debugcon, "DEV", "where port 0xe9 goes"},
    {"nographic", NULL, take_nographic, NULL, "serial port and monitor on the terminal"},
    {"nodefaults", NULL, take_no_defaults, NULL, "no serial port or monitor that was not asked for"},
    {"display", NULL, take_none, "none", "there is no display yet"},
    {"vga", NULL, take_none, "none", NULL},
    {"nic", "net", take_network, "none", "there is no network yet"},
    {"device", NULL, take_device, "NAME[,...]", "isa-debug-exit,iobase=PORT,iosize=SIZE"},
    {"rtc", NULL, take_rtc, "base=utc", "the clock's time"},
    {"name", NULL, take_nothing, "TEXT", "a name, of no effect"},
    {"no-reboot", NULL, take_no_reboot, NULL, "end where the guest reboots"},
    {"no-shutdown", NULL, take_no_shutdown, NULL, "stop where the guest powers off"},
    {"action", NULL, take_action, "WHAT=HOW,...", "the same: reboot=reset|shutdown, shutdown=poweroff|pause"},
    {"S", NULL, take_stopped, NULL, "start stopped; `cont` in the monitor or gdb lets it go"},
    {"s", NULL, take_gdb_default, NULL, "-gdb tcp::1234"},
    {"gdb", NULL, take_gdb, "DEV", "wait for gdb there: tcp:[HOST]:PORT, unix:PATH, pty, stdio"},
    {"d", NULL, take_trace, "ITEMS", "trace; `-d help` lists the items"},
    {"D", NULL, take_trace_file, "FILE", "where the trace goes (default: standard error)"},
    {"dfilter", NULL, take_filter, "RANGES", "trace code at these guest addresses alone: FROM..TO, FROM+SIZE"},
    {"icount", NULL, take_icount, "[=shift=0]", "time counts instructions: runs repeat exactly"},
    {"tier", NULL, take_tier, "NAME", "interp or tcg (default tcg)"},
    {"translate", NULL, take_translate, "RUN", "first or second: at which run code is translated (default second)"},
    {"tb-size", NULL, take_tb_size, "MIB", "code buffer"},
    {"stats", NULL, take_stats, "[=json]", "at the end, where the time went, on standard error"},
    {"cache", NULL, take_cache, "off", NULL},
    {"check", NULL, take_check, "TIER", NULL},
    {"version", NULL, take_version, NULL, "the version"},
    {"help", "h", take_help, NULL, "this text"},
    {"bios", NULL, take_firmware, "FILE", NULL}, {"pflash", NULL, take_firmware, "FILE", NULL},
    {"drive", NULL, take_disk, "...", NULL}, {"blockdev", NULL, take_disk, "...", NULL}, {"cdrom", NULL, take_disk, "FILE", NULL},
    {"hda", "hdb", take_disk, "FILE", NULL}, {"hdc", "hdd", take_disk, "FILE", NULL}, {"fda", "fdb", take_disk, "FILE", NULL},
    {"netdev", NULL, take_network, "...", NULL}, {"usb", NULL, take_usb, NULL, NULL}, {"usbdevice", NULL, take_usb, "...", NULL},
    {"enable-kvm", NULL, take_kvm, NULL, NULL},
};
enum { OPTIONS = sizeof table / sizeof *table };

static const struct option *find(const char *name, size_t length)
{
    for (unsigned i = 0; i < OPTIONS; i++)
        if (is(name, length, table[i].name) || (table[i].other && is(name, length, table[i].other)))
            return &table[i];
    return NULL;
}

static bool one(struct parse *p, int argc, char **argv, int *at)
{
    const char *word = argv[*at], *name = word + (word[0] == '-') + (word[0] == '-' && word[1] == '-');
    size_t length = strcspn(name, "=");
    const struct option *o = word[0] == '-' ? find(name, length) : NULL;
    if (!o) {
        snprintf(p->error, p->size, word[0] == '-' ? "%s: invalid option; `tierce -help` lists what is accepted" :
                 "'%s': disk images are not there yet; accepted: -kernel FILE", word);
        return false;
    }
    p->name = o->name;
    const char *value = name[length] == '=' ? name + length + 1 : NULL;
    bool optional = o->argument && o->argument[0] == '[';
    if (optional && !value && o->take == take_icount && *at + 1 < argc && !strncmp(argv[*at + 1], "shift=", 6))
        value = argv[++*at]; /* QEMU's -icount has its value in the next word */
    if (o->argument && !optional && !value) {
        if (*at + 1 >= argc) {
            snprintf(p->error, p->size, "-%s: requires an argument: %s", o->name, o->argument);
            return false;
        }
        value = argv[++*at];
    }
    if (!o->argument && value) {
        snprintf(p->error, p->size, "-%s: takes no argument, but has '%s'", o->name, value);
        return false;
    }
    return o->take(p, value);
}

static bool on_stdio(const struct stream_spec *specs, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (specs[i].kind == STREAM_STDIO)
            return true;
    return false;
}

/* QEMU's defaults, for a machine without display: the first serial port on standard input and output, with the
 * monitor behind Ctrl-A; each of them alone where the other was placed elsewhere. */
static void defaults(struct options *o)
{
    bool taken = on_stdio(o->serial, o->serials) || on_stdio(o->monitor, o->monitors) || (o->has_debugcon && o->debugcon.kind == STREAM_STDIO) ||
                 (o->has_gdb && o->gdb.kind == STREAM_STDIO);
    if (o->no_defaults || taken)
        return;
    if (!o->serials)
        o->serial[o->serials++] = (struct stream_spec){.kind = STREAM_STDIO, .mux = !o->monitors};
    else if (!o->monitors && o->nographic)
        o->monitor[o->monitors++] = (struct stream_spec){.kind = STREAM_STDIO};
}

static bool check(const struct options *o, char *error, size_t size)
{
    const struct stream_spec *all[MAX_SERIAL + MAX_MONITORS + 2];
    unsigned count = 0, stdio = 0;
    for (unsigned i = 0; i < o->serials; i++)
        all[count++] = &o->serial[i];
    for (unsigned i = 0; i < o->monitors; i++)
        all[count++] = &o->monitor[i];
    if (o->has_debugcon)
        all[count++] = &o->debugcon;
    if (o->has_gdb)
        all[count++] = &o->gdb;
    for (unsigned i = 0; i < count; i++)
        stdio += all[i]->kind == STREAM_STDIO;
    if (stdio > 1)
        snprintf(error, size, "stdio is used %u times by -serial, -monitor, -debugcon and -gdb; accepted: once (mon:stdio has serial port and monitor)", stdio);
    else if (o->machine.initrd && !o->machine.kernel)
        snprintf(error, size, "-initrd '%s' is only accepted with -kernel FILE", o->machine.initrd);
    else if (o->machine.append && !o->machine.kernel)
        snprintf(error, size, "-append '%s' is only accepted with -kernel FILE", o->machine.append);
    else if (!o->machine.kernel)
        snprintf(error, size, "nothing to run; accepted: -kernel FILE");
    else
        return true;
    return false;
}

const char *options_parse(struct options *o, int argc, char **argv, char *error, size_t size)
{
    struct parse p = {o, "", error, size};
    memset(o, 0, sizeof *o);
    o->machine.ram_size = 128ull << 20;
    o->machine.tier = TIER_TCG;
    o->machine.interpret_first = true;
    for (int at = 1; at < argc; at++) {
        if (!one(&p, argc, argv, &at))
            return error;
        if (o->action != DO_RUN)
            return NULL; /* as QEMU: the first `help` is all that is done */
    }
    defaults(o);
    return check(o, error, size) ? NULL : error;
}

void options_help(FILE *out)
{
    fputs("usage: tierce -kernel FILE [-initrd FILE] [-append TEXT] [-m SIZE] [-nographic] ...\n", out);
    for (unsigned i = 0; i < OPTIONS; i++) {
        const struct option *o = &table[i];
        char left[64];
        if (!o->help)
            continue;
        bool optional = o->argument && o->argument[0] == '[';
        snprintf(left, sizeof left, "-%s%s%s%s%s", o->name, o->other ? "|-" : "", o->other ? o->other : "", o->argument && !optional ? " " : "",
                 o->argument ? o->argument : "");
        fprintf(out, "  %-24s %s\n", left, o->help);
    }
    fputs("DEV: " STREAM_ACCEPTED "\n"
          "Ctrl-A X ends, Ctrl-A C switches to the monitor and back, Ctrl-A H helps.\n"
          "Exit status: 0 power-off or quit, 1 failure, 2 wrong usage, or what the guest gives isa-debug-exit.\n", out);
}
