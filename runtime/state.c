/* A machine's state, saved and restored: which sections there are, what must be equal on both sides, and the one moment at which a
 * restored state becomes the machine's - after all of it was read and found good, so that a bad file changes nothing. */
#define _GNU_SOURCE
#include "runtime/state.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- The CPU: the rows of frontend/state.def.  Structs (x87 and vector registers) are words of 8 bytes. */
#define WORD(ctype) (sizeof(ctype) > 8 ? 8 : sizeof(ctype))
static const struct state_field cpu_fields[] = {
#define FIELD(ctype, name_, dims, ir_type, state_class, hot, reset) \
    {.name = #name_, .offset = offsetof(struct x86_state, name_), .size = WORD(ctype), .elements = sizeof(((struct x86_state *)0)->name_) / WORD(ctype), .count = 1},
#include "frontend/state.def"
};
static const struct state_table cpu_table = STATE_TABLE(1, cpu_fields);

/* --- What else is the machine's own */
struct rest { uint64_t now_ns, alarm_order, random; uint32_t interrupt_level; uint64_t tsc_khz, tsc_base; };
static const struct state_field rest_fields[] = {
    STATE(struct rest, now_ns, .most = INT64_MAX), STATE(struct rest, alarm_order), STATE(struct rest, random), STATE(struct rest, interrupt_level, .most = 1),
    STATE(struct rest, tsc_khz, .since = 2, .least = 1000, .most = 100000000), STATE(struct rest, tsc_base, .since = 3),
};
static const struct state_table rest_table = STATE_TABLE(3, rest_fields);

/* --- The configuration, as names and values: what must be equal, and what is told of a file */
enum { VALUE = 1024 };
struct item { const char *name; void (*value)(struct machine *, char to[VALUE]); const char *hint; /* NULL: need not be equal */ };

static void ram_value(struct machine *m, char to[VALUE]) { snprintf(to, VALUE, "%" PRIu64, m->config.ram_size); }
static void tier_value(struct machine *m, char to[VALUE]) { snprintf(to, VALUE, "%s", tier_name(m->config.tier)); }
static void time_value(struct machine *m, char to[VALUE]) { snprintf(to, VALUE, "%" PRIu64, machine_now(m)); }
static void date_value(struct machine *m, char to[VALUE]) { (void)m; snprintf(to, VALUE, "%lld", (long long)time(NULL)); }
static void exit_value(struct machine *m, char to[VALUE])
{
    const struct machine_config *c = &m->config;
    if (c->debug_exit_size)
        snprintf(to, VALUE, "0x%x, %u ports", c->debug_exit_port, c->debug_exit_size);
    else
        snprintf(to, VALUE, "none");
}

static void devices_value(struct machine *m, char to[VALUE])
{
    struct pc_part part;
    size_t n = 0;
    *to = 0;
    for (unsigned i = 0; pc_part(m->pc, i, &part) && n < VALUE; i++)
        n += (size_t)snprintf(to + n, VALUE - n, "%s%s", i ? "," : "", part.name);
}

static bool is_in_cpuid(void *cpu, uint32_t leaf, uint32_t subleaf, unsigned reg, unsigned bit)
{
    uint32_t id[4];
    x86_cpuid(cpu, leaf, subleaf, id);
    return id[reg] >> bit & 1;
}

/* -cpu as it would have to be given: an accelerator may have taken features away. */
static void cpu_name(struct machine *m, struct x86_cpu *cpu, char to[VALUE])
{
    const char *asked = m->config.cpu ? m->config.cpu : "x86-64-v2";
    char error[200], removed[512] = "";
    struct x86_model *whole = x86_model_find(asked, error, sizeof error);
    if (whole)
        x86_model_restrict(whole, is_in_cpuid, cpu, removed, sizeof removed);
    x86_model_free(whole);
    size_t n = (size_t)snprintf(to, VALUE, "%.300s", asked);
    for (const char *at = removed; *at; at++)
        n += (size_t)snprintf(to + n, VALUE - n, *at == ' ' ? ",-" : "%c", *at);
}

/* What a guest sees of the model is CPUID; a sum of that is compared. */
static void cpu_value(struct machine *m, char to[VALUE])
{
    static const struct { uint32_t leaf, subleaf; } leaves[] = {{0, 0}, {1, 0}, {5, 0}, {6, 0}, {7, 0}, {0xd, 0}, {0xd, 1}, {0x80000001, 0}, {0x80000007, 0}, {0x80000008, 0}};
    struct x86_cpu blank = {.model = m->model};
    uint32_t sum = 2166136261u, id[4];
    for (unsigned i = 0; i < sizeof leaves / sizeof *leaves; i++) {
        x86_cpuid(&blank, leaves[i].leaf, leaves[i].subleaf, id);
        for (unsigned k = 0; k < 4; k++)
            sum = (sum ^ id[k]) * 16777619u;
    }
    cpu_name(m, &blank, to);
    snprintf(to + strlen(to), VALUE - strlen(to), " (CPUID %08x)", sum);
}

static const struct item items[] = {
    {"ram", ram_value, "; -m must be as it was"}, {"cpu", cpu_value, "; -cpu must be as it was"}, {"devices", devices_value, "; they must be as they were"},
    {"isa-debug-exit", exit_value, "; -device isa-debug-exit must be as it was"}, {"tier", tier_value, NULL}, {"time", time_value, NULL}, {"date", date_value, NULL},
};
enum { ITEMS = sizeof items / sizeof *items };

/* Of the CPU the names may differ. */
static const char *compared(const char *value)
{
    const char *sum = strstr(value, "(CPUID ");
    return sum ? sum : value;
}

/* Pairs of strings, each with its 0.  Returns the value; NULL: there is none. */
static const char *config_find(const struct state_section *s, const char *name)
{
    const char *at = (const char *)s->bytes, *end = at + s->size;
    while (at < end) {
        const char *value = at + strnlen(at, (size_t)(end - at)) + 1;
        if (value >= end || !memchr(value, 0, (size_t)(end - value)))
            return NULL;
        if (!strcmp(at, name))
            return value;
        at = value + strlen(value) + 1;
    }
    return NULL;
}

static bool config_check(struct machine *m, const struct state_reader *in, const struct state_section *s)
{
    char here[VALUE];
    if (strcmp(s->name, "config") || s->version != 1)
        return state_fail(in, "its first section is %s, version %u; accepted: config, version 1", s->name, s->version);
    for (unsigned i = 0; i < ITEMS; i++) {
        const char *value = config_find(s, items[i].name);
        if (!items[i].hint)
            continue;
        items[i].value(m, here);
        if (!value)
            return state_fail(in, "section config: '%s' is missing", items[i].name);
        if (strcmp(compared(value), compared(here)))
            return state_fail(in, "it was saved with %s %s, this machine has %s%s", items[i].name, value, here, items[i].hint);
    }
    return true;
}

/* --- Saving */
static void table_write(struct state_writer *w, struct state_out *o, const char *name, const struct state_table *table, const void *object)
{
    o->size = 0;
    state_write(o, table, object);
    state_section(w, name, table->version, o->bytes, o->size);
}

static void config_write(struct state_writer *w, struct state_out *o, struct machine *m)
{
    char value[VALUE];
    o->size = 0;
    for (unsigned i = 0; i < ITEMS; i++) {
        items[i].value(m, value);
        state_bytes(o, items[i].name, strlen(items[i].name) + 1);
        state_bytes(o, value, strlen(value) + 1);
    }
    state_section(w, "config", 1, o->bytes, o->size);
}

static bool sections_write(struct state_writer *w, struct machine *m, uint64_t *pages)
{
    struct state_out o = {0};
    struct pc_part part;
    const struct rest rest = {machine_now(m), m->clock.order, m->random, (uint32_t)atomic_load(&m->interrupt_level), m->tsc_khz, m->tsc_base};
    config_write(w, &o, m);
    table_write(w, &o, "cpu", &cpu_table, &m->vcpu->cpu.state);
    table_write(w, &o, "machine", &rest_table, &rest);
    for (unsigned i = 0; pc_part(m->pc, i, &part); i++)
        if (part.table)
            table_write(w, &o, part.name, part.table, part.object);
    free(o.bytes);
    return !o.failed && state_ram_write(w, m, pages);
}

bool machine_save(struct machine *m, const char *path, struct machine_state_size *size, char *error, size_t error_size)
{
    struct state_writer w;
    uint64_t pages;
    if (!state_writer_open(&w, path, error, error_size))
        return false;
    pthread_mutex_lock(&m->lock);
    bool ok = sections_write(&w, m, &pages);
    pthread_mutex_unlock(&m->lock);
    if (!ok)
        snprintf(error, error_size, "out of memory");
    if (!state_writer_close(&w, ok, error, error_size))
        return false;
    if (size)
        *size = (struct machine_state_size){.bytes = w.size, .ram_bytes = pages * PAGE};
    return true;
}

/* --- Restoring: all of it is read and checked, */
enum { MAX_SECTIONS = 64 };
struct loading { struct machine *m; struct state_reader in; struct state_ram ram; struct state_section sections[MAX_SECTIONS]; unsigned count; };

static const struct state_section *section_find(const struct loading *l, const char *name)
{
    for (unsigned i = 0; i < l->count; i++)
        if (!strcmp(l->sections[i].name, name))
            return &l->sections[i];
    return NULL;
}

static bool keep(struct loading *l, const struct state_section *s)
{
    const char *why = l->count == MAX_SECTIONS ? "there are too many" : section_find(l, s->name) ? "it is there twice" : NULL;
    if (!why)
        l->sections[l->count++] = *s;
    return !why || state_fail(&l->in, "section %s: %s", s->name, why);
}

static bool sections_read(struct loading *l)
{
    struct state_section s;
    for (;;) {
        if (!state_next(&l->in, &s))
            return false;
        bool end = !strcmp(s.name, "end"), ram = !strcmp(s.name, "ram"), ok;
        if (!l->count)
            ok = config_check(l->m, &l->in, &s) && keep(l, &s);
        else if (ram)
            ok = state_ram_read(&l->ram, &l->in, &s);
        else
            ok = end || keep(l, &s);
        if (!ok || ram || end)
            free(s.bytes);
        if (!ok || end)
            return ok && state_reader_end(&l->in);
    }
}

static bool table_check(const struct loading *l, const char *name, const struct state_table *table)
{
    const struct state_section *s = section_find(l, name);
    char why[300];
    if (!s)
        return state_fail(&l->in, "section %s is missing", name);
    return state_check(table, s->version, s->bytes, s->size, why, sizeof why) || state_fail(&l->in, "section %s: %s", name, why);
}

static bool cpu_check(const struct loading *l)
{
    struct x86_state *s = aligned_alloc(_Alignof(struct x86_state), sizeof *s);
    const struct state_section *from = section_find(l, "cpu");
    if (!s)
        return state_fail(&l->in, "out of memory");
    memset(s, 0, sizeof *s);
    state_read(&cpu_table, from->version, from->bytes, s);
    const char *wrong = x86_state_check(&l->m->vcpu->cpu, s);
    if (wrong)
        state_fail(&l->in, "section cpu: field %s has a value that the CPU model does not have", wrong);
    free(s);
    return !wrong;
}

static struct rest rest_of(const struct loading *l)
{
    const struct state_section *s = section_find(l, "machine");
    struct rest rest = {.tsc_khz = TSC_KHZ};
    state_read(&rest_table, s->version, s->bytes, &rest);
    return rest;
}

/* Without an accelerator the TSC runs as the guest knows it; an accelerator's is the host's. */
static bool rest_check(const struct loading *l)
{
    uint64_t khz = rest_of(l).tsc_khz;
    return !l->m->config.accel || khz == l->m->tsc_khz ||
           state_fail(&l->in, "section machine: the guest's TSC runs at %" PRIu64 " kHz, that of %s at %" PRIu64, khz, l->m->config.accel->name, l->m->tsc_khz);
}

static bool sections_check(const struct loading *l)
{
    struct pc_part part;
    unsigned expected = 3;
    if (!table_check(l, "cpu", &cpu_table) || !cpu_check(l) || !table_check(l, "machine", &rest_table) || !rest_check(l))
        return false;
    for (unsigned i = 0; pc_part(l->m->pc, i, &part); i++) {
        expected += part.table != NULL;
        if (part.table && !table_check(l, part.name, part.table))
            return false;
    }
    return l->count == expected || state_fail(&l->in, "it has %u sections that this tierce does not know", l->count - expected);
}

/* and then made the machine's; nothing fails any more. */
static void table_read(const struct loading *l, const char *name, const struct state_table *table, void *object)
{
    const struct state_section *s = section_find(l, name);
    state_read(table, s->version, s->bytes, object);
}

static void clock_set(struct machine *m, uint64_t now)
{
    m->icount_ns = now;
    m->clock_base = (m->paused ? m->paused_at : machine_host_ns()) - now;
}

static void cpu_read(const struct loading *l)
{
    struct vcpu *v = l->m->vcpu;
    struct x86_state *s = &v->cpu.state;
    table_read(l, "cpu", &cpu_table, s);
    s->icount = v->icount_slice = 0;
    s->stop = 1;
    x86_mode_update(&v->cpu);
    softmmu_flush(&v->cpu, X86_FLUSH_ALL, 0);
    v->mode_id = 0; /* the vCPU's thread sets its tables anew */
    v->regions.foreign_writes++;
    tb_flush_all(v);
}

static void commit(const struct loading *l)
{
    struct machine *m = l->m;
    struct pc_part part;
    struct rest rest = rest_of(l);
    m->tsc_khz = rest.tsc_khz;
    m->tsc_base = rest.tsc_base;
    clock_set(m, rest.now_ns);
    pc_reset(m->pc);
    cpu_read(l);
    for (unsigned i = 0; pc_part(m->pc, i, &part); i++)
        if (part.table)
            table_read(l, part.name, part.table, part.object);
    m->clock.order = rest.alarm_order;
    m->random = rest.random;
    m->written_count = 0;
    pc_loaded(m->pc);
    atomic_store(&m->interrupt_level, (int)rest.interrupt_level);
    if (m->check)
        check_stale(m->check);
    clock_alarms_due(m);
    vcpu_kick(m);
}

static bool load(struct loading *l, FILE *file, char *error, size_t size)
{
    struct machine *m = l->m;
    if (!state_reader_begin(&l->in, file, error, size))
        return false;
    if (!state_ram_begin(&l->ram, m))
        return state_fail(&l->in, "no room for %" PRIu64 " MiB of guest RAM beside the present one: %s", m->config.ram_size >> 20, strerror(errno));
    if (!sections_read(l) || !sections_check(l))
        return false;
    pthread_mutex_lock(&m->lock);
    bool ok = state_ram_commit(&l->ram, m);
    if (ok)
        commit(l);
    pthread_mutex_unlock(&m->lock);
    machine_wake_main(m);
    return ok || state_fail(&l->in, "cannot put its RAM in place: %s", strerror(errno));
}

bool machine_restore_from(struct machine *m, FILE *file, char *error, size_t size)
{
    struct loading *l = calloc(1, sizeof *l);
    if (!l) {
        snprintf(error, size, "out of memory");
        return false;
    }
    l->m = m;
    bool ok = load(l, file, error, size);
    state_ram_end(&l->ram);
    while (l->count)
        free(l->sections[--l->count].bytes);
    free(l);
    return ok;
}

static FILE *open_state(const char *path, char *error, size_t size)
{
    FILE *file = fopen(path, "re");
    if (!file)
        snprintf(error, size, "cannot read %s: %s", path, strerror(errno));
    return file;
}

bool machine_restore(struct machine *m, const char *path, char *error, size_t size)
{
    char why[2 * VALUE + 200];
    FILE *file = open_state(path, error, size);
    if (!file)
        return false;
    bool ok = machine_restore_from(m, file, why, sizeof why);
    fclose(file);
    if (!ok)
        snprintf(error, size, "%s: %s", path, why);
    return ok;
}

/* --- What a file says of itself */
bool machine_state_info(const char *path, struct machine_state_info *info, char *error, size_t size)
{
    struct state_reader in;
    struct state_section s = {0};
    char why[640] = "its first section is not config";
    FILE *file = open_state(path, error, size);
    if (!file)
        return false;
    bool ok = state_reader_begin(&in, file, why, sizeof why) && state_next(&in, &s) && !strcmp(s.name, "config");
    if (ok) {
        const char *values[4];
        static const char *const names[4] = {"ram", "time", "date", "tier"};
        for (unsigned i = 0; i < 4; i++)
            values[i] = config_find(&s, names[i]) ? config_find(&s, names[i]) : "0";
        *info = (struct machine_state_info){strtoull(values[0], NULL, 10), strtoull(values[1], NULL, 10), strtoll(values[2], NULL, 10)};
        snprintf(info->tier, sizeof info->tier, "%s", values[3]);
    } else {
        snprintf(error, size, "%s: %s", path, why);
    }
    free(s.bytes);
    fclose(file);
    return ok;
}
