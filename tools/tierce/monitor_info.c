/* `info`: what the monitor says about the machine. */
#include "tools/tierce/monitor_internal.h"
#include "tools/tierce/options.h"
#include <inttypes.h>
#include <string.h>

static void info_registers(struct command *c) { x86_state_print(c->out, c->state); }
static void info_softmmu(struct command *c) { machine_print_tlb(c->machine, c->out); }
static void info_jit(struct command *c) { machine_print_jit(c->machine, c->out); }
static void info_profile(struct command *c) { machine_print_profile(c->machine, c->out); }
static void info_pic(struct command *c) { machine_print_pic(c->machine, c->out); }
static void info_irq(struct command *c) { machine_print_irq(c->machine, c->out); }
static void info_qtree(struct command *c) { machine_print_devices(c->machine, c->out); }
static void info_status(struct command *c) { fprintf(c->out, "VM status: %s\n", c->stopped ? "paused" : "running"); }
static void info_version(struct command *c) { fprintf(c->out, TIERCE_VERSION "\n"); }
static void info_cpus(struct command *c) { fprintf(c->out, "* CPU #0: pc=0x%016" PRIx64 "%s\n", c->state->rip, c->state->halted ? " (halted)" : ""); }
static void info_mtree(struct command *c)
{
    fprintf(c->out, "memory\n");
    space_print(c->out, machine_memory(c->machine));
    fprintf(c->out, "I/O\n");
    space_print(c->out, machine_io(c->machine));
}

/* --- The guest's page tables, walked anew (SDM 3A 4.3 to 4.5) */
enum { PRESENT = 1, WRITABLE = 2, USER = 4, ACCESSED = 0x20, DIRTY = 0x40, LARGE = 0x80, GLOBAL = 0x100 };
#define NO_EXECUTE (1ull << 63)
#define ADDRESS 0x000ffffffffff000ull
struct shape { unsigned levels, entry_size, shifts[4]; uint64_t root; bool pae_root; /* PDPTEs grant no rights */ };
struct mapping { uint64_t linear, physical, size, entry, rights; };
typedef void mapping_fn(void *ctx, const struct mapping *);

static bool shape_of(const struct x86_state *s, struct shape *p)
{
    bool pae = s->cr4 >> 5 & 1, lma = s->efer >> 10 & 1;
    if (!(s->cr0 >> 31 & 1))
        return false;
    if (lma)
        *p = (struct shape){4, 8, {39, 30, 21, 12}, s->cr3 & ADDRESS, false};
    else if (pae)
        *p = (struct shape){3, 8, {30, 21, 12}, s->cr3 & 0xffffffe0, true};
    else
        *p = (struct shape){2, 4, {22, 12}, s->cr3 & 0xfffff000, false};
    return true;
}

static bool may_be_large(const struct command *c, const struct shape *p, unsigned level)
{
    if (p->entry_size == 4)
        return level == 0 && c->state->cr4 >> 4 & 1;
    return p->shifts[level] == 21 || (p->shifts[level] == 30 && p->levels == 4);
}

static uint64_t frame(const struct shape *p, uint64_t entry, unsigned shift, bool large)
{
    if (p->entry_size == 4)
        return large ? (entry & 0xffc00000) | (entry & 0x1fe000) << 19 : entry & 0xfffff000;
    return entry & ADDRESS & ~((1ull << shift) - 1);
}

static void walk(struct command *c, const struct shape *p, unsigned level, uint64_t table, uint64_t linear, uint64_t rights, mapping_fn *each, void *ctx)
{
    unsigned shift = p->shifts[level], count = p->pae_root && level == 0 ? 4 : 4096 / p->entry_size;
    uint8_t entries[4096];
    if (!machine_debug_read(c->machine, table, true, entries, (size_t)count * p->entry_size))
        return;
    for (unsigned i = 0; i < count; i++) {
        uint64_t e = 0, at = linear | (uint64_t)i << shift;
        memcpy(&e, entries + i * p->entry_size, p->entry_size);
        if (!(e & PRESENT))
            continue;
        if (p->levels == 4 && level == 0 && i >= 256)
            at |= 0xffffull << 48;
        uint64_t both = p->pae_root && level == 0 ? rights : (rights & e & (WRITABLE | USER)) | ((rights | e) & NO_EXECUTE);
        bool large = may_be_large(c, p, level) && e & LARGE;
        if (!large && level + 1 < p->levels)
            walk(c, p, level + 1, frame(p, e, 12, false), at, both, each, ctx);
        else
            each(ctx, &(struct mapping){at, frame(p, e, shift, large), 1ull << shift, large ? e : e & ~(uint64_t)LARGE, both});
    }
}

static void walk_all(struct command *c, mapping_fn *each, void *ctx)
{
    struct shape p;
    if (shape_of(c->state, &p))
        walk(c, &p, 0, p.root, 0, WRITABLE | USER, each, ctx);
    else
        fprintf(c->out, "PG disabled\n");
}

static void print_mapping(void *ctx, const struct mapping *m)
{
    static const struct { char letter; uint64_t bit; } flags[] = {{'X', NO_EXECUTE}, {'G', GLOBAL}, {'P', LARGE}, {'D', DIRTY}, {'A', ACCESSED},
        {'C', 0x10}, {'T', 8}, {'U', USER}, {'W', WRITABLE}};
    FILE *out = ctx;
    fprintf(out, "%016" PRIx64 ": %016" PRIx64 " ", m->linear, m->physical);
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++)
        fputc(m->entry & flags[i].bit ? flags[i].letter : '-', out);
    fputc('\n', out);
}
static void info_tlb(struct command *c) { walk_all(c, print_mapping, c->out); }

/* Neighbours of equal rights in one line. */
struct range { FILE *out; uint64_t from, to, rights; };

static void print_range(const struct range *r)
{
    if (r->to != r->from)
        fprintf(r->out, "%016" PRIx64 "-%016" PRIx64 " %016" PRIx64 " %cr%c\n", r->from, r->to, r->to - r->from,
                r->rights & USER ? 'u' : '-', r->rights & WRITABLE ? 'w' : '-');
}

static void join(void *ctx, const struct mapping *m)
{
    struct range *r = ctx;
    uint64_t rights = m->rights & (USER | WRITABLE);
    if (r->to != m->linear || r->rights != rights || r->to == r->from) {
        print_range(r);
        r->from = m->linear;
        r->rights = rights;
    }
    r->to = m->linear + m->size;
}

static void info_mem(struct command *c)
{
    struct range r = {.out = c->out};
    walk_all(c, join, &r);
    print_range(&r);
}

static const struct { const char *name; command_fn *run; const char *help; } infos[] = {
    {"registers", info_registers, "the CPU's registers"}, {"cpus", info_cpus, "the CPUs"}, {"mem", info_mem, "what the guest's page tables map, in ranges"},
    {"tlb", info_tlb, "each page that they map"}, {"softmmu", info_softmmu, "what is cached of it"}, {"mtree", info_mtree, "memory and I/O map"},
    {"pic", info_pic, "interrupt controllers"}, {"irq", info_irq, "how often each interrupt line rose"}, {"jit", info_jit, "translations"},
    {"qtree", info_qtree, "the state of each device"}, {"snapshots", info_snapshots, "saved machines"},
    {"profile", info_profile, "hot loops and the paths through them"},
    {"status", info_status, "running or paused"}, {"version", info_version, "version"},
};

void command_info(struct command *c)
{
    for (unsigned i = 0; i < sizeof infos / sizeof *infos; i++)
        if (!strcmp(infos[i].name, c->arguments)) {
            infos[i].run(c);
            return;
        }
    if (*c->arguments)
        fprintf(c->out, "info: unknown item '%s'; accepted:\n", c->arguments);
    for (unsigned i = 0; i < sizeof infos / sizeof *infos; i++)
        fprintf(c->out, "info %s -- %s\n", infos[i].name, infos[i].help);
}
