/* The command line: a table of options, each with a function that takes its value.  What is QEMU's and not there yet
 * has a row too, so that it is refused with what is accepted instead. */
#include "tools/tierce/options.h"
#include "kvm/kvm.h"
#include "tools/common/cache_path.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#ifdef TIERCE_LLVM
#define DEFAULT_TIER TIER_TIERED
#else
#define DEFAULT_TIER TIER_TCG
#endif

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
static bool take_restore(struct parse *p, const char *value) { p->o->machine.restore = value; return *value || fail(p, value, "a file that savevm wrote"); }
static bool take_loadvm(struct parse *p, const char *value) { p->o->loadvm = value; return true; }
static bool take_state_dir(struct parse *p, const char *value) { p->o->machine.state_dir = value; return *value || fail(p, value, "a directory"); }
static bool take_incoming(struct parse *p, const char *value)
{
    return strncmp(value, "file:", 5) ? fail(p, value, "file:FILE, with a file that savevm wrote") : take_restore(p, value + 5);
}
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

static void set_tier(struct parse *p, enum tier tier)
{
    p->o->machine.tier = tier;
    if (tier == TIER_KVM)
        p->o->machine.accel = &kvm_accel;
}

/* QEMU's words: tcg is whatever translates. */
static void set_accel(struct parse *p, bool kvm)
{
    if (kvm)
        set_tier(p, TIER_KVM);
    else if (p->o->machine.tier == TIER_KVM)
        set_tier(p, DEFAULT_TIER);
}
static bool take_kvm(struct parse *p, const char *value) { (void)value; set_accel(p, true); return true; }

#define IRQCHIP_WORDS "kernel-irqchip=on", "kernel-irqchip=off", "kernel_irqchip=on", "kernel_irqchip=off"
#define IRQCHIP_ACCEPTED "[,kernel-irqchip=on|off] (split is not there: either all interrupt controllers are the kernel's, or none)"
static void set_irqchip(struct parse *p, const char *at, size_t n) { p->o->machine.accel_controllers = at[n - 1] == 'n'; }

static bool take_machine(struct parse *p, const char *value)
{
    if (!strcmp(value, "help") || !strcmp(value, "?")) {
        p->o->action = DO_MACHINE_HELP;
        return true;
    }
    for (const char *at = value; ; at++) {
        size_t n = strcspn(at, ",");
        if (AMONG(at, n, "accel=kvm", "accel=tcg"))
            set_accel(p, is(at, n, "accel=kvm"));
        else if (AMONG(at, n, IRQCHIP_WORDS))
            set_irqchip(p, at, n);
        else if (!AMONG(at, n, "pc", "type=pc"))
            return fail(p, value, "pc[,accel=tcg|kvm]" IRQCHIP_ACCEPTED);
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
        if (AMONG(at, n, "tcg", "accel=tcg", "kvm", "accel=kvm"))
            set_accel(p, AMONG(at, n, "kvm", "accel=kvm"));
        else if (AMONG(at, n, IRQCHIP_WORDS))
            set_irqchip(p, at, n);
        else if (AMONG(at, n, "ring0=on", "ring0=off"))
            p->o->machine.accel_ring0 = is(at, n, "ring0=on");
        else if (!AMONG(at, n, "thread=single", "thread=multi"))
            return fail(p, value, "tcg[,thread=single|multi][,tb-size=MIB], kvm[,ring0=on|off]" IRQCHIP_ACCEPTED);
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
static bool take_check(struct parse *p, const char *value)
{
    struct machine_config *m = &p->o->machine;
    m->check_interp = !strcmp(value, "interp");
    m->check_accel = !strcmp(value, "kvm");
    if (m->check_accel)
        m->accel = &kvm_accel;
    return m->check_interp || m->check_accel || fail(p, value, "interp: lockstep with the interpreter; kvm: with the host's KVM");
}

/* --- The translation cache */
#ifdef TIERCE_LLVM
#define CACHE_ACCEPTED "a directory, or off"
static bool take_cache(struct parse *p, const char *value)
{
    struct machine_cache *c = &p->o->machine.cache;
    c->path = strcmp(value, "off") ? value : NULL;
    c->named = true;
    return *value || fail(p, value, CACHE_ACCEPTED);
}

static bool take_cache_layer(struct parse *p, const char *value)
{
    struct machine_cache *c = &p->o->machine.cache;
    if (c->layer_count == CACHE_LAYERS)
        return fail(p, value, "eight layers, which have been given");
    c->layers[c->layer_count++] = value;
    return *value || fail(p, value, "a directory");
}

static bool take_cache_size(struct parse *p, const char *value)
{
    return (parse_size(value, strlen(value), 1 << 20, &p->o->machine.cache.max_bytes) && p->o->machine.cache.max_bytes >= 1 << 20) ||
           fail(p, value, "N of at least 1, in MiB or with a suffix B, K, M, G");
}

static bool take_cache_remote(struct parse *p, const char *value)
{
    p->o->machine.cache.remote = value;
    return !strncmp(value, "redis://", 8) || fail(p, value, "redis://HOST[:PORT], redis:///PATH/OF/SOCKET");
}

static bool take_sample(struct parse *p, const char *value)
{
    char *end;
    unsigned long n = strtoul(value, &end, 10);
    p->o->machine.sample_hz = (unsigned)n;
    return (*value >= '0' && *value <= '9' && !*end && n >= 1 && n <= 10000) || fail(p, value, "1 to 10000 samples a second");
}

static bool take_cache_preload(struct parse *p, const char *value) { (void)value; p->o->machine.cache.preload = true; return true; }

/* What the environment says is refused as --cache's own value would be; the directory that nobody named is not. */
static void cache_default(struct options *o)
{
    struct machine_cache *c = &o->machine.cache;
    const char *given = getenv("TIERCE_CACHE");
    if (c->named)
        return;
    c->named = given && *given;
    c->path = cache_path_default(o->cache, sizeof o->cache) ? o->cache : NULL;
}
#else
static bool take_cache(struct parse *p, const char *value) { return !strcmp(value, "off") || fail(p, value, "off, in this build without LLVM"); }
static void cache_default(struct options *o) { (void)o; }
#endif

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
#ifdef TIERCE_LLVM
    {"llvm_ir", NULL, TRACE_LLVM_IR, "LLVM IR of each region that is compiled"},
    {"llvm_opt", NULL, TRACE_LLVM_OPT, "its LLVM IR after LLVM's passes"},
    {"llvm_asm", NULL, TRACE_LLVM_ASM, "the host code that LLVM made of it"},
#endif
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

static bool fail_trace(struct parse *p, const char *value)
{
    char accepted[160] = "";
    for (unsigned i = 0; i < TRACES; i++)
        snprintf(accepted + strlen(accepted), sizeof accepted - strlen(accepted), "%s%s", i ? "," : "", traces[i].name);
    snprintf(accepted + strlen(accepted), sizeof accepted - strlen(accepted), "; `-d help` explains them");
    return fail(p, value, accepted);
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
        return fail_trace(p, value);
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

static bool take_perf_map(struct parse *p, const char *value) { (void)value; p->o->machine.perf_map = true; return true; }
static bool take_check_skip(struct parse *p, const char *value)
{
    char *end;
    errno = 0;
    p->o->machine.check_skip = strtoull(value, &end, 10);
    return (!errno && *value >= '0' && *value <= '9' && !*end) || fail(p, value, "a number of instructions that run before the first is compared");
}
#ifdef TIERCE_LLVM
static bool take_compile_again(struct parse *p, const char *value) { (void)value; p->o->machine.compile_again = true; return true; }
static bool take_gdb_jit(struct parse *p, const char *value) { (void)value; p->o->machine.gdb_jit = true; return true; }
#endif
static bool take_jitdump(struct parse *p, const char *value) { p->o->machine.jitdump = value ? value : "."; return true; }

static bool take_symbols(struct parse *p, const char *value)
{
    struct machine_config *m = &p->o->machine;
    if (m->symbol_files == SYMBOL_FILES)
        return fail(p, value, "sixteen files, which have been given");
    m->symbols[m->symbol_files++] = value;
    return true;
}

#define TIERS_ACCEPTED "interp, tcg, llvm, tiered, kvm"
static bool find_tier(const char *at, size_t n, enum tier *tier)
{
    for (*tier = 0; tier_name(*tier); ++*tier)
        if (is(at, n, tier_name(*tier)))
            return true;
    return false;
}

static bool take_tier(struct parse *p, const char *value)
{
    enum tier tier;
    if (!find_tier(value, strlen(value), &tier))
        return fail(p, value, TIERS_ACCEPTED);
    set_tier(p, tier);
    return true;
}

/* 1.5s, 200ms, 3us, 10ns */
static bool parse_time(const char *at, uint64_t *ns)
{
    static const struct { const char *unit; double ns; } units[] = {{"s", 1e9}, {"ms", 1e6}, {"us", 1e3}, {"ns", 1}};
    char *end;
    double value = *at >= '0' && *at <= '9' ? strtod(at, &end) : -1;
    for (unsigned i = 0; i < sizeof units / sizeof *units && value >= 0; i++)
        if (!strcmp(end, units[i].unit) && value * units[i].ns < 9e18) {
            *ns = (uint64_t)(value * units[i].ns);
            return true;
        }
    return false;
}

static bool parse_number(const char *at, uint64_t most, uint64_t *value)
{
    char *end;
    errno = 0;
    *value = strtoull(at, &end, 0);
    return *at >= '0' && *at <= '9' && !*end && !errno && *value <= most;
}

static bool parse_port_write(const char *at, struct machine_handover *h)
{
    char port[24];
    size_t n = strcspn(at, "=");
    uint64_t value = 0;
    if (n >= sizeof port)
        return false;
    memcpy(port, at, n);
    port[n] = 0;
    h->any_value = !at[n];
    bool ok = parse_number(port, 0xffff, &h->at) && (!at[n] || parse_number(at + n + 1, UINT32_MAX, &value));
    h->value = (uint32_t)value;
    return ok;
}

static bool parse_trigger(const char *at, struct machine_handover *h)
{
    if (!strcmp(at, "monitor")) {
        h->kind = HANDOVER_MONITOR;
        return true;
    }
    if (!strncmp(at, "console:", 8)) {
        h->kind = HANDOVER_CONSOLE;
        h->text = at + 8;
        return at[8] && strlen(at + 8) <= 256;
    }
    if (!strncmp(at, "port:", 5)) {
        h->kind = HANDOVER_PORT;
        return parse_port_write(at + 5, h);
    }
    if (!strncmp(at, "pc:", 3)) {
        h->kind = HANDOVER_PC;
        if (at[3] >= '0' && at[3] <= '9')
            return parse_number(at + 3, UINT64_MAX, &h->at);
        h->text = at + 3;
        return at[3];
    }
    return parse_time(at, &h->at);
}

static bool take_switch(struct parse *p, const char *value)
{
    static const char accepted[] = "TIER@TRIGGER, of " TIERS_ACCEPTED "; and a time (1.5s, 200ms), console:TEXT, pc:ADDRESS, pc:FUNCTION, port:PORT, port:PORT=VALUE, monitor";
    struct machine_config *m = &p->o->machine;
    struct machine_handover *h = &p->o->handovers[m->handover_count];
    const char *at = strchr(value, '@');
    if (m->handover_count == MAX_HANDOVERS)
        return fail(p, value, "256 of them, which have been given");
    *h = (struct machine_handover){.kind = HANDOVER_TIME};
    if (!at || !find_tier(value, (size_t)(at - value), &h->tier) || !parse_trigger(at + 1, h))
        return fail(p, value, accepted);
    m->handovers = p->o->handovers;
    m->handover_count++;
    if (h->tier == TIER_KVM)
        m->accel = &kvm_accel;
    return true;
}

static bool take_hot(struct parse *p, const char *value)
{
    char *end;
    unsigned long n = strtoul(value, &end, 10);
    if (end == value || *end || !n || n > 1000000000)
        return fail(p, value, "entries of a block, 1 to 1000000000, before it is compiled by LLVM");
    p->o->machine.hot_threshold = (uint32_t)n;
    return true;
}

static bool take_stress(struct parse *p, const char *value)
{
    char *end;
    unsigned long n = strtoul(value, &end, 10);
    if (end == value || *end || !n || n > UINT32_MAX)
        return fail(p, value, "a seed, 1 to 4294967295");
    p->o->machine.stress = (uint32_t)n;
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
    {"cpu", NULL, take_cpu, "MODEL[,+F|,-F][,vendor=V]", "CPU model, features, maker; `-cpu help` lists them (default x86-64-v2)"},
    {"machine", "M", take_machine, "pc", "machine type"},
    {"accel", NULL, take_accel, "tcg|kvm", "accelerator: translation, or the host's KVM"},
    {"enable-kvm", NULL, take_kvm, NULL, "-accel kvm"},
    {"kernel", NULL, take_kernel, "FILE", "bzImage, ELF or Multiboot kernel to boot"},
    {"initrd", NULL, take_initrd, "FILE", "its initial RAM disk"},
    {"append", NULL, take_append, "TEXT", "its command line"},
    {"restore", NULL, take_restore, "FILE", "go on from a machine that savevm saved there"},
    {"loadvm", NULL, take_loadvm, "NAME", "the same, by its name"},
    {"incoming", NULL, take_incoming, "file:FILE", "the same as -restore"},
    {"state-dir", NULL, take_state_dir, "DIR", "where names of saved machines are (default ~/.local/state/tierce)"},
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
    {"perf-map", NULL, take_perf_map, NULL, "write /tmp/perf-PID.map, by which `perf` names translated code"},
    {"jitdump", NULL, take_jitdump, "[=DIR]", "write DIR/jit-PID.dump for `perf inject --jit`: names, code, guest instructions (default .)"},
#ifdef TIERCE_LLVM
    {"compile-again", NULL, take_compile_again, NULL, "for measurements: the compiler never rests, with the last region where nothing else waits"},
    {"gdb-jit", NULL, take_gdb_jit, NULL, "tell a gdb that debugs the emulator itself the names of LLVM's code"},
#endif
    {"symbols", NULL, take_symbols, "FILE[@OFFSET]", "guest function names of an ELF file or System.map, for -d and --perf-map; OFFSET is added"},
    {"icount", NULL, take_icount, "[=shift=0]", "time counts instructions: runs repeat exactly"},
    {"tier", NULL, take_tier, "NAME", "interp, tcg, llvm, tiered or kvm (default tiered; tcg in a build without LLVM)"},
    {"switch-to", NULL, take_switch, "TIER@TRIGGER", "changes the tier at a time (1.5s), console:TEXT, pc:ADDRESS|FUNCTION, port:PORT[=VALUE], monitor"},
    {"hot", NULL, take_hot, "N", "tiered: entries of a block before its region is compiled by LLVM (default 300000)"},
    {"stress", NULL, take_stress, "SEED", "tiered, llvm: regions of random extent, side exits and regions thrown away at random"},
    {"translate", NULL, take_translate, "RUN", "first or second: at which run code is translated (default second)"},
    {"tb-size", NULL, take_tb_size, "MIB", "code buffer"},
    {"stats", NULL, take_stats, "[=json]", "at the end, where the time went, on standard error"},
    {"cache", NULL, take_cache, "DIR|off", "where translations are kept (default $TIERCE_CACHE, $XDG_CACHE_HOME/tierce/objects, ~/.cache/tierce/objects)"},
#ifdef TIERCE_LLVM
    {"cache-layer", NULL, take_cache_layer, "DIR", "translations that are used, but not added to; may be given again"},
    {"cache-size", NULL, take_cache_size, "SIZE", "of the cache, in MiB or with a suffix; the least recently used goes (default 1G)"},
    {"cache-remote", NULL, take_cache_remote, "URL", "redis://HOST[:PORT]: shared by many hosts"},
    {"sample", NULL, take_sample, "HZ", "kvm: so often a second, where the guest is, for the profile in the cache that `tierce-cache build` compiles"},
    {"cache-preload", NULL, take_cache_preload, NULL, "read the cache into memory while the guest starts"},
#endif
    {"check", NULL, take_check, "TIER", "interp, kvm: lockstep with the interpreter or the host's KVM; the first difference ends the run"},
    {"check-skip", NULL, take_check_skip, "N", "compare nothing of the first N instructions (of a boot, say)"},
    {"version", NULL, take_version, NULL, "the version"},
    {"help", "h", take_help, NULL, "this text"},
    {"bios", NULL, take_firmware, "FILE", NULL}, {"pflash", NULL, take_firmware, "FILE", NULL},
    {"drive", NULL, take_disk, "...", NULL}, {"blockdev", NULL, take_disk, "...", NULL}, {"cdrom", NULL, take_disk, "FILE", NULL},
    {"hda", "hdb", take_disk, "FILE", NULL}, {"hdc", "hdd", take_disk, "FILE", NULL}, {"fda", "fdb", take_disk, "FILE", NULL},
    {"netdev", NULL, take_network, "...", NULL}, {"usb", NULL, take_usb, NULL, NULL}, {"usbdevice", NULL, take_usb, "...", NULL},
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
    else if (o->machine.check_skip && !o->machine.check_interp)
        snprintf(error, size, "-check-skip is only accepted with -check interp");
    else if (o->machine.check_interp && o->machine.tier == TIER_INTERP)
        snprintf(error, size, "-check interp with -tier interp compares the interpreter with itself; accepted: another tier");
    else if (o->loadvm && o->machine.restore)
        snprintf(error, size, "-loadvm '%s' and -restore '%s': accepted: one of them", o->loadvm, o->machine.restore);
    else if (o->machine.icount && o->machine.accel && !o->machine.check_accel)
        snprintf(error, size, "-icount with -tier kvm: KVM does not count instructions; accepted: another tier");
    else if ((o->machine.check_interp || o->machine.check_accel) && o->machine.tier == TIER_KVM)
        snprintf(error, size, "-check with -tier kvm: KVM cannot be stopped at each block; accepted: another tier");
    else if ((o->machine.check_interp || o->machine.check_accel) && o->machine.handover_count)
        snprintf(error, size, "-check with -switch-to: one tier is compared; accepted: one of the two");
    else if (!o->machine.cache.path && (o->machine.cache.layer_count || o->machine.cache.remote || o->machine.cache.preload))
        snprintf(error, size, "-cache-layer, -cache-remote and -cache-preload are not accepted with -cache off");
    else if (o->machine.accel_controllers && (!o->machine.accel || o->machine.check_accel))
        snprintf(error, size, "kernel-irqchip=on is only accepted with -tier kvm or -switch-to kvm@...: the tiers' interrupt controllers are tierce's own");
    else if (o->machine.sample_hz && (!o->machine.accel || o->machine.check_accel))
        snprintf(error, size, "-sample %u is only accepted with -tier kvm or -switch-to kvm@...: the tiers count what runs by themselves", o->machine.sample_hz);
    else if (o->machine.sample_hz && !o->machine.cache.path)
        snprintf(error, size, "-sample %u with -cache off: there is nowhere to write the profile; accepted: -cache DIR", o->machine.sample_hz);
    else if (!o->machine.kernel && !o->machine.restore && !o->loadvm)
        snprintf(error, size, "nothing to run; accepted: -kernel FILE, -restore FILE, -loadvm NAME");
    else
        return true;
    return false;
}

const char *options_parse(struct options *o, int argc, char **argv, char *error, size_t size)
{
    struct parse p = {o, "", error, size};
    memset(o, 0, sizeof *o);
    o->machine.ram_size = 128ull << 20;
    o->machine.tier = DEFAULT_TIER;
    o->machine.interpret_first = true;
    for (int at = 1; at < argc; at++) {
        if (!one(&p, argc, argv, &at))
            return error;
        if (o->action != DO_RUN)
            return NULL; /* as QEMU: the first `help` is all that is done */
    }
    defaults(o);
    cache_default(o);
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
