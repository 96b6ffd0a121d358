/* What Linux' perf is told of translated code: /tmp/perf-PID.map, names alone, and the jitdump file that `perf inject --jit` reads:
 * with the code's bytes, the time, and line numbers, for which a file is written that has a guest instruction in each line.
 * All of it is written on the vCPU's thread. */
#define _GNU_SOURCE
#include "runtime/internal.h"
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* The guest instruction that was last seen at an address, and its line; tables grow by doubling. */
struct insn { uint64_t linear; uint32_t line /* 0: none */, mode; uint8_t size, bytes[15]; };
struct perf {
    FILE *map;
    FILE *dump; void *marker; uint64_t code_index;
    FILE *guest; char *guest_path; uint32_t guest_lines;
    struct insn *insns; size_t insn_count, insn_room;
    struct object_line *lines; unsigned line_count, line_room; /* of the block that is being compiled */
};

/* --- The jitdump file, as tools/perf/Documentation/jitdump-specification.txt has it. */
enum { JIT_CODE_LOAD = 0, JIT_CODE_DEBUG_INFO = 2, JIT_CODE_CLOSE = 3 };
struct jit_header { uint32_t magic, version, size, machine, padding, pid; uint64_t time, flags; };
struct jit_record { uint32_t id, size; uint64_t time; };
struct jit_load { struct jit_record record; uint32_t pid, tid; uint64_t vma, address, size, index; /* name, code */ };
struct jit_lines { struct jit_record record; uint64_t address, count; /* jit_line, name; ... */ };
struct jit_line { uint64_t address; uint32_t line, discriminator; };
_Static_assert(sizeof(struct jit_header) == 40 && sizeof(struct jit_load) == 56 && sizeof(struct jit_lines) == 32 && sizeof(struct jit_line) == 16,
               "as in the file");

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static struct jit_record record(uint32_t id, size_t size) { return (struct jit_record){id, (uint32_t)size, now_ns()}; }

static void dump_load(struct perf *p, const struct perf_code *code, const char *name)
{
    size_t name_size = strlen(name) + 1;
    uint64_t address = (uint64_t)code->code;
    struct jit_load load = {record(JIT_CODE_LOAD, sizeof load + name_size + code->size), (uint32_t)getpid(), (uint32_t)gettid(),
                            address, address, code->size, ++p->code_index};
    fwrite(&load, sizeof load, 1, p->dump);
    fwrite(name, name_size, 1, p->dump);
    fwrite(code->code, code->size, 1, p->dump);
}

/* --- Guest instructions: those of one address that differ, as code or processes change, get a line each. */
static struct insn *insn_slot(struct insn *table, size_t room, uint64_t linear)
{
    size_t i = linear * 0x9e3779b97f4a7c15ull >> 32 & (room - 1);
    while (table[i].line && table[i].linear != linear)
        i = (i + 1) & (room - 1);
    return &table[i];
}

static bool insns_grow(struct perf *p)
{
    size_t room = p->insn_room ? 2 * p->insn_room : 1 << 14;
    struct insn *table = calloc(room, sizeof *table);
    if (!table)
        return false;
    for (size_t i = 0; i < p->insn_room; i++)
        if (p->insns[i].line)
            *insn_slot(table, room, p->insns[i].linear) = p->insns[i];
    free(p->insns);
    p->insns = table;
    p->insn_room = room;
    return true;
}

static struct insn *insn_at(struct perf *p, uint64_t linear)
{
    if (2 * p->insn_count >= p->insn_room && !insns_grow(p))
        return NULL;
    return insn_slot(p->insns, p->insn_room, linear);
}

/* Writes a line, unless the instruction is the one that was there before. */
static void insn_write(struct machine *m, struct insn *at, uint64_t linear, uint32_t mode)
{
    struct perf *p = m->perf;
    struct insn now = {.linear = linear, .mode = mode & X86_MODE_CODE};
    char text[128], name[240];
    unsigned size = sizeof now.bytes, room = (unsigned)(PAGE - (linear & (PAGE - 1)));
    if (!machine_debug_read(m, linear, false, now.bytes, size) && (room >= size || !machine_debug_read(m, linear, false, now.bytes, size = room)))
        size = 0;
    now.size = (uint8_t)x86_disassemble(mode, linear, now.bytes, size, text, sizeof text);
    if (at->line && at->size == now.size && at->mode == now.mode && !memcmp(at->bytes, now.bytes, now.size))
        return;
    symbols_print(m->symbols, linear, name, sizeof name);
    fprintf(p->guest, "0x%08" PRIx64 " <%s>  %s\n", linear, name, now.size ? text : "(bad)");
    p->insn_count += !at->line;
    now.line = ++p->guest_lines;
    *at = now;
}

static uint64_t line_linear(const struct perf_code *code, const struct object_line *line)
{
    uint64_t linear = code->linear + (uint64_t)line->pc;
    return (code->mode & X86_MODE_CODE) == X86_MODE_CODE64 ? linear : (uint32_t)linear;
}

/* What lies there now is what the code was made of. */
static void insns_look(struct machine *m, const struct perf_code *code)
{
    for (unsigned i = 0; i < code->line_count; i++) {
        uint64_t linear = line_linear(code, &code->lines[i]);
        struct insn *at = insn_at(m->perf, linear);
        if (at)
            insn_write(m, at, linear, code->mode);
    }
}

static uint32_t insn_line(struct machine *m, const struct perf_code *code, const struct object_line *line)
{
    uint64_t linear = line_linear(code, line);
    struct insn *at = insn_at(m->perf, linear);
    if (at && !at->line)
        insn_write(m, at, linear, code->mode);
    return at ? at->line : 1;
}

static void dump_lines(struct machine *m, const struct perf_code *code)
{
    struct perf *p = m->perf;
    size_t path_size = strlen(p->guest_path) + 1;
    uint64_t address = (uint64_t)code->code;
    struct jit_lines lines = {record(JIT_CODE_DEBUG_INFO, sizeof lines + code->line_count * (sizeof(struct jit_line) + path_size)), address, code->line_count};
    if (!code->line_count)
        return;
    fwrite(&lines, sizeof lines, 1, p->dump);
    for (unsigned i = 0; i < code->line_count; i++) { /* what is before the first instruction's code is called its */
        struct jit_line line = {address + (i ? code->lines[i].host : 0), insn_line(m, code, &code->lines[i]), 0};
        fwrite(&line, sizeof line, 1, p->dump);
        fwrite(p->guest_path, path_size, 1, p->dump);
    }
    fflush(p->guest);
}

/* --- Code */
void perf_code_added(struct machine *m, const struct perf_code *code)
{
    struct perf *p = m->perf;
    char name[256];
    if (!p)
        return;
    int n = snprintf(name, sizeof name, "%s:", code->tier);
    symbols_print(m->symbols, code->linear, name + n, sizeof name - (size_t)n);
    if (p->map)
        fprintf(p->map, "%" PRIx64 " %zx %s\n", (uint64_t)code->code, code->size, name);
    if (p->dump) {
        dump_lines(m, code); /* before the code that they are of */
        dump_load(p, code, name);
        fflush(p->dump);
    }
}

void perf_block_added(struct vcpu *v, const struct tb *tb)
{
    struct perf *p = v->machine->perf;
    struct perf_code code = {"tcg", tb_linear(&v->cpu.state), tb->mode, tb->code.entry, tb->code.code_size, p->lines, p->line_count};
    if (p->dump)
        insns_look(v->machine, &code);
    perf_code_added(v->machine, &code);
}

/* The block's first instruction: it is compiled, perhaps once more after an attempt for which there was no room. */
void perf_line(void *perf, uint32_t host, int32_t guest, bool cold)
{
    struct perf *p = perf;
    if (!guest && !cold)
        p->line_count = 0;
    if (!p->dump || (p->line_count && p->lines[p->line_count - 1].pc == guest))
        return;
    if (p->line_count == p->line_room) {
        unsigned room = p->line_room ? 2 * p->line_room : 256;
        struct object_line *more = realloc(p->lines, room * sizeof *more);
        if (!more)
            return;
        p->lines = more;
        p->line_room = room;
    }
    p->lines[p->line_count++] = (struct object_line){.host = host, .pc = guest};
}

/* --- Files.  No link is followed: /tmp is everybody's. */
static FILE *create(const char *option, const char *path, char *error, size_t size)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    if (!f) {
        snprintf(error, size, "--%s: cannot write '%s': %s", option, path, strerror(errno));
        if (fd >= 0)
            close(fd);
    }
    return f;
}

static bool map_begin(struct perf *p, char *error, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/perf-%d.map", getpid());
    if (!(p->map = create("perf-map", path, error, size)))
        return false;
    setvbuf(p->map, NULL, _IOLBF, 1 << 12); /* `perf top` looks at once */
    return true;
}

/* perf learns of the file by seeing that it is mapped to be executed. */
static bool dump_mark(struct perf *p, const char *path, char *error, size_t size)
{
    struct jit_header header = {0x4a695444, 1, sizeof header, EM_X86_64, 0, (uint32_t)getpid(), now_ns(), 0};
    fwrite(&header, sizeof header, 1, p->dump);
    fflush(p->dump);
    p->marker = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fileno(p->dump), 0);
    if (p->marker != MAP_FAILED)
        return true;
    snprintf(error, size, "--jitdump: cannot map '%s' to be executed: %s", path, strerror(errno));
    return false;
}

static bool dump_begin(struct perf *p, const char *given, char *error, size_t size)
{
    char *dir = realpath(given, NULL), *path = NULL;
    bool ok = dir && asprintf(&path, "%s/jit-%d.dump", dir, getpid()) > 0 && asprintf(&p->guest_path, "%s/jit-%d-guest.s", dir, getpid()) > 0;
    if (!ok)
        snprintf(error, size, "--jitdump: cannot write into '%s': %s; accepted: a directory", given, strerror(errno));
    ok = ok && (p->dump = create("jitdump", path, error, size)) && (p->guest = create("jitdump", p->guest_path, error, size)) &&
         dump_mark(p, path, error, size);
    free(path);
    free(dir);
    return ok;
}

bool perf_new(struct machine *m, char *error, size_t size)
{
    const struct machine_config *c = &m->config;
    if (!c->perf_map && !c->jitdump)
        return true;
    if (!(m->perf = calloc(1, sizeof *m->perf))) {
        snprintf(error, size, "out of memory");
        return false;
    }
    m->perf->marker = MAP_FAILED;
    return (!c->perf_map || map_begin(m->perf, error, size)) && (!c->jitdump || dump_begin(m->perf, c->jitdump, error, size));
}

void perf_free(struct perf *p)
{
    if (!p)
        return;
    if (p->marker != MAP_FAILED) {
        struct jit_record close = record(JIT_CODE_CLOSE, sizeof close);
        fwrite(&close, sizeof close, 1, p->dump);
        munmap(p->marker, PAGE);
    }
    if (p->map)
        fclose(p->map);
    if (p->dump)
        fclose(p->dump);
    if (p->guest)
        fclose(p->guest);
    free(p->guest_path);
    free(p->insns);
    free(p->lines);
    free(p);
}
