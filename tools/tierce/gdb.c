/* gdb's remote serial protocol (gdb manual, appendix E).  One thread, which is the CPU.  What the guest runs is
 * looked at while the machine stands; a packet that lets it go is answered when it stops again. */
#include "tools/tierce/gdb.h"
#include "tools/tierce/monitor.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PACKET = 0x4000 /* bytes of a packet's text, both ways */, SIGINT_GDB = 2, SIGTRAP_GDB = 5 };
enum { STEP_ENABLE = 1, STEP_NO_IRQ = 2, STEP_NO_TIMER = 4 }; /* QEMU's sstep bits */
enum framing { OUTSIDE, INSIDE, SUM_HIGH, SUM_LOW };
struct gdb {
    struct machine *machine;
    struct stream *stream;
    bool is64, running, no_acks, physical;
    unsigned step_bits;
    enum framing framing;
    uint8_t sum, said;
    char in[PACKET + 1]; size_t in_size;
    char out[PACKET + 8]; size_t out_size; /* the last answer, framed, to be sent again */
};

/* --- Hexadecimal */
static const char hex[] = "0123456789abcdef";
static int digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; }

static size_t to_hex(char *to, const void *bytes, size_t size)
{
    const uint8_t *p = bytes;
    for (size_t i = 0; i < size; i++) {
        to[2 * i] = hex[p[i] >> 4];
        to[2 * i + 1] = hex[p[i] & 15];
    }
    return 2 * size;
}

static bool from_hex(uint8_t *to, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        int high = digit(text[2 * i]), low = high < 0 ? -1 : digit(text[2 * i + 1]);
        if (low < 0)
            return false;
        to[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* A number and the character behind it. */
static bool number(const char **at, char after, uint64_t *v)
{
    const char *start = *at;
    for (*v = 0; digit(**at) >= 0; ++*at)
        *v = *v << 4 | (unsigned)digit(**at);
    if (*at == start || **at != after)
        return false;
    *at += after != 0;
    return true;
}

/* --- Answers */
static void answer_bytes(struct gdb *g, const char *text, size_t size)
{
    uint8_t sum = 0;
    if (size > PACKET)
        size = PACKET;
    g->out[0] = '$';
    memcpy(g->out + 1, text, size);
    for (size_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + (uint8_t)text[i]);
    g->out[1 + size] = '#';
    to_hex(g->out + 2 + size, &sum, 1);
    g->out_size = size + 4;
    stream_write(g->stream, g->out, g->out_size);
}
static void answer(struct gdb *g, const char *text) { answer_bytes(g, text, strlen(text)); }
static void ok(struct gdb *g, bool success) { answer(g, success ? "OK" : "E22"); }

static void stopped_by(struct gdb *g, unsigned signal)
{
    char text[32];
    snprintf(text, sizeof text, "T%02xthread:01;", signal);
    answer(g, text);
}

static void on_stop(void *ctx, const struct machine_stop *stop)
{
    static const char *const watches[] = {[MACHINE_WATCH_WRITE] = "watch", [MACHINE_WATCH_READ] = "rwatch", [MACHINE_WATCH_ACCESS] = "awatch"};
    struct gdb *g = ctx;
    char text[64];
    if (!g->running)
        return;
    g->running = false;
    if (stop->reason != MACHINE_STOP_WATCH) {
        stopped_by(g, stop->reason == MACHINE_STOP_PAUSE ? SIGINT_GDB : SIGTRAP_GDB);
        return;
    }
    snprintf(text, sizeof text, "T%02xthread:01;%s:%" PRIx64 ";", SIGTRAP_GDB, watches[stop->watch], stop->address);
    answer(g, text);
}

static void interrupt(struct gdb *g)
{
    if (!g->running)
        return;
    machine_stop(g->machine);
    g->running = false;
    stopped_by(g, SIGINT_GDB);
}

/* --- Registers and memory */
static void get_all(struct gdb *g)
{
    char text[PACKET];
    uint8_t value[GDB_REGISTER_BYTES];
    size_t at = 0;
    for (unsigned i = 0, n = gdb_register_count(g->is64); i < n; i++)
        at += to_hex(text + at, value, gdb_register_get(&machine_cpu(g->machine)->state, g->is64, i, value));
    answer_bytes(g, text, at);
}

static bool set_one(struct gdb *g, unsigned n, const char *text, size_t length)
{
    uint8_t value[GDB_REGISTER_BYTES] = {0};
    unsigned size = gdb_register_size(g->is64, n);
    return size && length >= 2 * (size_t)size && from_hex(value, text, size) && gdb_register_set(g->machine, g->is64, n, value);
}

static void set_all(struct gdb *g, const char *text)
{
    size_t length = strlen(text);
    bool good = true;
    for (unsigned i = 0, n = gdb_register_count(g->is64); i < n && length; i++) {
        size_t size = 2 * (size_t)gdb_register_size(g->is64, i);
        good &= set_one(g, i, text, length);
        text += size < length ? size : length;
        length -= size < length ? size : length;
    }
    machine_cpu_changed(g->machine);
    ok(g, good);
}

static void get_one(struct gdb *g, const char *text)
{
    uint64_t n;
    uint8_t value[GDB_REGISTER_BYTES];
    char hexed[2 * GDB_REGISTER_BYTES];
    unsigned size = number(&text, 0, &n) && n < 1000 ? gdb_register_get(&machine_cpu(g->machine)->state, g->is64, (unsigned)n, value) : 0;
    if (size)
        answer_bytes(g, hexed, to_hex(hexed, value, size));
    else
        ok(g, false);
}

static void set_one_packet(struct gdb *g, const char *text)
{
    uint64_t n;
    bool good = number(&text, '=', &n) && n < 1000 && set_one(g, (unsigned)n, text, strlen(text));
    machine_cpu_changed(g->machine);
    ok(g, good);
}

static void read_memory(struct gdb *g, const char *text)
{
    uint64_t at, size;
    uint8_t bytes[PACKET / 2];
    char hexed[PACKET];
    if (!number(&text, ',', &at) || !number(&text, 0, &size) || size > sizeof bytes)
        ok(g, false);
    else if (!machine_debug_read(g->machine, at, g->physical, bytes, size))
        answer(g, "E14");
    else
        answer_bytes(g, hexed, to_hex(hexed, bytes, size));
}

static void write_memory(struct gdb *g, const char *text, bool binary, const char *end)
{
    uint64_t at, size;
    uint8_t bytes[PACKET];
    bool good = number(&text, ',', &at) && number(&text, ':', &size) && size <= sizeof bytes && (uint64_t)(end - text) == (binary ? size : 2 * size);
    if (good && binary)
        memcpy(bytes, text, size);
    else if (good)
        good = from_hex(bytes, text, size);
    if (good && !machine_debug_write(g->machine, at, g->physical, bytes, size))
        answer(g, "E14");
    else
        ok(g, good);
}

/* Z0 and Z1 are one: a breakpoint changes nothing in memory. */
static void breakpoint(struct gdb *g, const char *text, bool add)
{
    static const enum machine_break kinds[] = {MACHINE_BREAK_CODE, MACHINE_BREAK_CODE, MACHINE_WATCH_WRITE, MACHINE_WATCH_READ, MACHINE_WATCH_ACCESS};
    uint64_t type, at, size;
    if (!number(&text, ',', &type) || !number(&text, ',', &at) || (!number(&text, 0, &size) && *text != ';') || type >= sizeof kinds / sizeof *kinds) {
        answer(g, type > 4 ? "" : "E22");
        return;
    }
    size = kinds[type] == MACHINE_BREAK_CODE ? 1 : size;
    ok(g, add ? machine_break_add(g->machine, kinds[type], at, size) : machine_break_remove(g->machine, kinds[type], at, size));
}

/* --- Running */
static void go(struct gdb *g, bool step)
{
    g->running = true;
    if (!step)
        machine_continue(g->machine);
    else
        machine_step(g->machine, (g->step_bits & STEP_NO_IRQ ? MACHINE_STEP_NO_INTERRUPTS : 0) | (g->step_bits & STEP_NO_TIMER ? MACHINE_STEP_NO_TIME : 0));
}

/* c, s, C, S: from an address, where there is one. */
static void go_from(struct gdb *g, const char *text, bool step, bool with_signal)
{
    uint64_t at;
    if (with_signal)
        text += strcspn(text, ";") + (strchr(text, ';') != NULL);
    if (number(&text, 0, &at)) {
        machine_cpu(g->machine)->state.rip = at;
        machine_cpu_changed(g->machine);
    }
    go(g, step);
}

/* vCont;ACTION[:THREAD]...: there is one thread, so that the first action is meant. */
static void v_cont(struct gdb *g, const char *text)
{
    char action = text[0] == ';' ? text[1] : 0;
    if (text[0] == '?')
        answer(g, "vCont;c;C;s;S");
    else if (action && strchr("cCsS", action))
        go(g, action == 's' || action == 'S');
    else
        ok(g, false);
}

static void leave(struct gdb *g)
{
    machine_break_clear(g->machine);
    g->running = true;
    machine_continue(g->machine);
}

/* --- Queries */
static void transfer(struct gdb *g, const char *text)
{
    uint64_t from, size;
    char *description, part[PACKET];
    if (strncmp(text, "target.xml:", 11) || (text += 11, !number(&text, ',', &from)) || !number(&text, 0, &size)) {
        answer(g, "E00");
        return;
    }
    description = gdb_description(g->is64);
    size_t all = description ? strlen(description) : 0, left = from < all ? all - from : 0;
    size_t n = size < left ? size : left;
    if (n > PACKET - 1)
        n = PACKET - 1;
    part[0] = n < left ? 'm' : 'l';
    if (description)
        memcpy(part + 1, description + (all - left), n);
    free(description);
    answer_bytes(g, part, 1 + n);
}

/* `monitor ...`: the output in O packets, then OK. */
static void remote_command(struct gdb *g, const char *text)
{
    char line[PACKET / 2 + 1], *said = NULL, packet[PACKET];
    size_t length = strlen(text) / 2, size = 0;
    FILE *out = from_hex((uint8_t *)line, text, length) ? open_memstream(&said, &size) : NULL;
    if (!out) {
        ok(g, false);
        return;
    }
    line[length] = 0;
    monitor_command(g->machine, line, out);
    fclose(out);
    for (size_t at = 0; at < size; at += PACKET / 2 - 1) {
        size_t n = size - at < PACKET / 2 - 1 ? size - at : PACKET / 2 - 1;
        packet[0] = 'O';
        answer_bytes(g, packet, 1 + to_hex(packet + 1, said + at, n));
    }
    free(said);
    ok(g, true);
    if (!machine_is_stopped(g->machine))
        g->running = true; /* `monitor cont` */
}

static bool begins(const char **text, const char *word)
{
    size_t n = strlen(word);
    if (strncmp(*text, word, n))
        return false;
    *text += n;
    return true;
}

static void query(struct gdb *g, const char *text)
{
    char said[96];
    if (begins(&text, "Supported")) {
        snprintf(said, sizeof said, "PacketSize=%x;qXfer:features:read+;vContSupported+;QStartNoAckMode+", PACKET);
        answer(g, said);
    } else if (begins(&text, "Xfer:features:read:")) {
        transfer(g, text);
    } else if (begins(&text, "Rcmd,")) {
        remote_command(g, text);
    } else if (begins(&text, "fThreadInfo")) {
        answer(g, "m01");
    } else if (begins(&text, "sThreadInfo")) {
        answer(g, "l");
    } else if (begins(&text, "ThreadExtraInfo")) {
        const char *state = machine_cpu(g->machine)->state.halted ? "CPU#0 [halted]" : "CPU#0 [running]";
        answer_bytes(g, said, to_hex(said, state, strlen(state)));
    } else if (begins(&text, "Attached")) {
        answer(g, "1");
    } else if (begins(&text, "qemu.PhyMemMode")) {
        answer(g, g->physical ? "1" : "0");
    } else if (begins(&text, "qemu.sstepbits")) {
        answer(g, "ENABLE=1,NOIRQ=2,NOTIMER=4");
    } else if (begins(&text, "qemu.sstep")) {
        snprintf(said, sizeof said, "0x%x", g->step_bits);
        answer(g, said);
    } else if (!strcmp(text, "C")) {
        answer(g, "QC01");
    } else {
        answer(g, "");
    }
}

static void set(struct gdb *g, const char *text)
{
    if (begins(&text, "qemu.PhyMemMode:")) {
        g->physical = *text == '1';
        ok(g, true);
    } else if (begins(&text, "qemu.sstep=")) {
        unsigned long bits = strtoul(text, NULL, 16);
        g->step_bits = (unsigned)bits & (STEP_ENABLE | STEP_NO_IRQ | STEP_NO_TIMER);
        ok(g, bits <= 7);
    } else if (begins(&text, "StartNoAckMode")) {
        ok(g, true);
        g->no_acks = true;
    } else {
        answer(g, "");
    }
}

static void v_packet(struct gdb *g, const char *text)
{
    if (begins(&text, "Cont"))
        v_cont(g, text);
    else if (begins(&text, "Kill"))
        ok(g, true), machine_quit(g->machine);
    else
        answer(g, "");
}

static void packet(struct gdb *g)
{
    const char *text = g->in + 1;
    switch (g->in[0]) {
    case '?': stopped_by(g, SIGTRAP_GDB); break;
    case 'g': get_all(g); break;
    case 'G': set_all(g, text); break;
    case 'p': get_one(g, text); break;
    case 'P': set_one_packet(g, text); break;
    case 'm': read_memory(g, text); break;
    case 'M': write_memory(g, text, false, g->in + g->in_size); break;
    case 'X': write_memory(g, text, true, g->in + g->in_size); break;
    case 'Z': breakpoint(g, text, true); break;
    case 'z': breakpoint(g, text, false); break;
    case 'c': case 'C': go_from(g, text, false, g->in[0] == 'C'); break;
    case 's': case 'S': go_from(g, text, true, g->in[0] == 'S'); break;
    case 'v': v_packet(g, text); break;
    case 'H': case 'T': ok(g, true); break;
    case 'q': query(g, text); break;
    case 'Q': set(g, text); break;
    case 'D':
        ok(g, true);
        leave(g);
        break;
    case 'k': machine_quit(g->machine); break;
    default: answer(g, ""); break;
    }
}

/* --- Framing: $text#sum, acknowledged with + or -; } before a byte that was XORed with 0x20 */
static void unescape(struct gdb *g)
{
    size_t to = 0;
    for (size_t at = 0; at < g->in_size; at++) {
        bool escaped = g->in[at] == '}' && at + 1 < g->in_size;
        g->in[to++] = escaped ? (char)(g->in[++at] ^ 0x20) : g->in[at];
    }
    g->in_size = to;
    g->in[to] = 0;
}

static void complete(struct gdb *g)
{
    bool good = g->said == g->sum;
    if (!g->no_acks)
        stream_print(g->stream, good ? "+" : "-");
    if (!good)
        return;
    interrupt(g); /* a packet while the guest runs: out of turn, and answered all the same */
    unescape(g);
    packet(g);
}

static void byte_in(struct gdb *g, char c)
{
    switch (g->framing) {
    case OUTSIDE:
        if (c == '$') {
            g->framing = INSIDE;
            g->in_size = g->sum = 0;
        } else if (c == 3) {
            interrupt(g);
        } else if (c == '-') {
            stream_write(g->stream, g->out, g->out_size);
        }
        return;
    case INSIDE:
        if (c == '#') {
            g->framing = SUM_HIGH;
        } else if (g->in_size < PACKET) {
            g->in[g->in_size++] = c;
            g->sum = (uint8_t)(g->sum + (uint8_t)c);
        } else {
            g->framing = OUTSIDE; /* longer than we said */
        }
        return;
    case SUM_HIGH:
        g->said = (uint8_t)((digit(c) & 15) << 4);
        g->framing = SUM_LOW;
        return;
    case SUM_LOW:
        g->said |= (uint8_t)(digit(c) & 15);
        g->framing = OUTSIDE;
        complete(g);
        return;
    }
}

static size_t input(void *ctx, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        byte_in(ctx, (char)bytes[i]);
    return size;
}

static void opened(void *ctx, bool open)
{
    struct gdb *g = ctx;
    if (!open) {
        leave(g);
        return;
    }
    if (!machine_is_stopped(g->machine))
        machine_stop(g->machine);
    g->running = g->no_acks = g->physical = false;
    g->framing = OUTSIDE;
    g->step_bits = STEP_ENABLE | STEP_NO_IRQ | STEP_NO_TIMER;
    g->out_size = 0;
}

struct gdb *gdb_new(struct machine *m, struct stream *stream)
{
    struct gdb *g = calloc(1, sizeof *g);
    uint32_t id[4];
    if (!g)
        return NULL;
    x86_cpuid(machine_cpu(m), 0x80000001, 0, id);
    *g = (struct gdb){.machine = m, .stream = stream, .is64 = id[3] >> 29 & 1};
    machine_on_stop(m, on_stop, g);
    if (stream_start(stream, m, input, opened, g))
        return g;
    gdb_free(g);
    return NULL;
}

void gdb_exited(struct gdb *g, int status)
{
    char text[16];
    snprintf(text, sizeof text, "W%02x", status & 0xff);
    if (g->running)
        answer(g, text);
}

void gdb_free(struct gdb *g) { free(g); }
