/* The softmmu: flat page-addend tables (backend-tcg.h) that are filled on a miss from the guest's page tables,
 * and the slow paths behind them.  A write entry exists only for RAM pages without translated code.
 * A set of tables for each way in which rights are judged: user, supervisor, supervisor with EFLAGS.AC. */
#define _GNU_SOURCE
#include "runtime/internal.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define TABLE_BYTES (TCG_TABLE_ENTRIES * sizeof(int64_t))
#define INDEX(linear) ((linear) >> 12 & (TCG_TABLE_ENTRIES - 1))
#define NO_PAGE (~0ull)
#define NO_FILL (~0u)

static int64_t *table_new(void)
{
    char *p = mmap(NULL, TABLE_BYTES + TCG_TABLE_ALIGN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    char *table = (char *)(((uintptr_t)p + TCG_TABLE_ALIGN - 1) & ~(uintptr_t)(TCG_TABLE_ALIGN - 1));
    if (table > p)
        munmap(p, (size_t)(table - p));
    if (table + TABLE_BYTES < p + TABLE_BYTES + TCG_TABLE_ALIGN)
        munmap(table + TABLE_BYTES, (size_t)(p + TCG_TABLE_ALIGN - table));
    if (mprotect(table, TABLE_BYTES, PROT_READ | PROT_WRITE)) {
        munmap(table, TABLE_BYTES);
        return NULL;
    }
    madvise(table, TABLE_BYTES, MADV_NOHUGEPAGE);
    madvise(table, TABLE_BYTES, MADV_DONTDUMP);
    return (int64_t *)(void *)table;
}

static void guarded_clear(struct softmmu *mmu)
{
    for (unsigned i = 0; i < sizeof mmu->guarded / sizeof *mmu->guarded; i++)
        mmu->guarded[i].page = NO_PAGE;
}

bool softmmu_init(struct vcpu *v)
{
    struct softmmu *mmu = &v->mmu;
    for (unsigned i = 0; i < FILLS; i++) {
        mmu->fills[i].epoch = mmu->exec_epoch[i] = 1;
        if (!(mmu->fills[i].fills = malloc(MAX_FILLS * sizeof *mmu->fills[i].fills)))
            return false;
    }
    for (unsigned i = 0; i < MMU_SETS; i++) {
        mmu->read[i] = NASTY && i ? mmu->read[0] : table_new(); /* nasty: none is ever filled, one does for all */
        mmu->write[i] = NASTY ? mmu->read[0] : table_new();
        if (!mmu->read[i] || !mmu->write[i])
            return false;
    }
    mmu->writers = calloc((v->machine->config.ram_size + PAGE - 1) / PAGE, sizeof *mmu->writers);
    guarded_clear(mmu);
    return mmu->writers;
}

void softmmu_free(struct vcpu *v)
{
    for (unsigned i = 0; i < (NASTY ? 1 : MMU_SETS); i++) {
        if (v->mmu.read[i])
            munmap(v->mmu.read[i], TABLE_BYTES);
        if (v->mmu.write[i] && !NASTY)
            munmap(v->mmu.write[i], TABLE_BYTES);
    }
    for (unsigned i = 0; i < FILLS; i++)
        free(v->mmu.fills[i].fills);
    free(v->mmu.writers);
}

static unsigned set_of(const struct x86_state *s, unsigned access)
{
    bool supervisor = access & IR_AS_SUPERVISOR;
    if (s->cpl == 3 && !supervisor)
        return MMU_USER;
    bool smap = s->cr4 >> 21 & 1, ac = s->eflags >> 18 & 1;
    return smap && ac && !supervisor ? MMU_KERNEL_AC : MMU_KERNEL;
}

void softmmu_mode(struct vcpu *v)
{
    unsigned set = set_of(&v->cpu.state, 0);
    if (v->machine->config.tier == TIER_INTERP)
        return; /* translated code alone needs them; the host's GS base may be another vCPU's */
    if (v->tcg.read_table != v->mmu.read[set])
        tcg_tables_set(&v->tcg, v->mmu.read[set], v->mmu.write[set]);
}

/* --- Flushing */
static void entry_drop(int64_t *entry)
{
    if (*entry) /* looked at first: most of the reservation was never touched */
        *entry = 0;
}

static void page_drop(struct softmmu *mmu, uint64_t linear, unsigned set)
{
    entry_drop(&mmu->read[set][INDEX(linear)]);
    entry_drop(&mmu->write[set][INDEX(linear)]);
}

static void fills_forget(struct tlb_fills *f)
{
    f->count = 0;
    f->epoch++;
}

/* Zeroed entries leave their host pages behind: give them back now and then. */
static void tables_trim(struct softmmu *mmu)
{
    for (unsigned i = 0; i < MMU_SETS; i++) {
        madvise(mmu->read[i], TABLE_BYTES, MADV_DONTNEED);
        madvise(mmu->write[i], TABLE_BYTES, MADV_DONTNEED);
    }
    for (unsigned i = 0; i < FILLS; i++)
        fills_forget(&mmu->fills[i]);
    mmu->fills_since_trim = 0;
}

static void fills_drop(struct softmmu *mmu, struct tlb_fills *f)
{
    if (mmu->fills_since_trim > 4 * MAX_FILLS) {
        tables_trim(mmu);
        return;
    }
    for (unsigned i = 0; i < f->count; i++)
        page_drop(mmu, f->fills[i].page, f->fills[i].set);
    fills_forget(f);
}

/* --- Large pages: their 4 KiB entries do not know their size, so all of them go with any one. */
static uint64_t *large_word(struct softmmu *mmu, uint64_t linear, uint64_t *bit)
{
    uint64_t hash = (linear >> 21) * 0x9e3779b97f4a7c15ull >> 49;
    *bit = 1ull << (hash & 63);
    return &mmu->large[hash >> 6];
}

static bool may_be_large(struct softmmu *mmu, uint64_t linear)
{
    uint64_t bit;
    return mmu->huge_seen || *large_word(mmu, linear, &bit) & bit;
}

static void large_note(struct softmmu *mmu, uint64_t linear, uint64_t page_size)
{
    uint64_t bit;
    if (page_size <= PAGE)
        return;
    *large_word(mmu, linear, &bit) |= bit;
    mmu->huge_seen |= page_size > 4ull << 20;
}

static void flush_large(struct vcpu *v, uint64_t linear)
{
    struct softmmu *mmu = &v->mmu;
    uint64_t span = mmu->huge_seen ? 1ull << 30 : 4ull << 20;
    for (unsigned k = 0; k < FILLS; k++) {
        const struct tlb_fills *f = &mmu->fills[k];
        for (unsigned i = 0; i < f->count; i++)
            if (!((f->fills[i].page ^ linear) & ~(span - 1)))
                page_drop(mmu, f->fills[i].page, f->fills[i].set);
        mmu->exec_epoch[k]++;
    }
    tb_jumps_clear(v);
}

static void flush_page(struct vcpu *v, uint64_t linear)
{
    struct softmmu *mmu = &v->mmu;
    if (may_be_large(mmu, linear)) {
        flush_large(v, linear);
        return;
    }
    for (unsigned set = 0; set < MMU_SETS; set++)
        page_drop(mmu, linear, set);
    for (unsigned user = 0; user < 2; user++)
        mmu->exec[user][linear >> 12 & (EXEC_ENTRIES - 1)].page = NO_PAGE;
    tb_jumps_clear_page(v, linear);
}

void softmmu_flush(struct x86_cpu *cpu, enum x86_flush what, uint64_t linear)
{
    struct vcpu *v = vcpu_of(cpu);
    struct softmmu *mmu = &v->mmu;
    v->stats.tlb_flushes++;
    if (v->machine->config.trace & TRACE_MMU)
        trace_flush(v, what, linear);
    guarded_clear(mmu);
    if (what == X86_FLUSH_PAGE) {
        flush_page(v, linear);
        regions_remapped_page(v, linear);
        return;
    }
    regions_remapped(v, what != X86_FLUSH_NON_GLOBAL);
    fills_drop(mmu, &mmu->fills[FILLS_LOCAL]);
    mmu->exec_epoch[FILLS_LOCAL]++;
    if (what == X86_FLUSH_NON_GLOBAL) {
        tb_jumps_clear_local(v);
        return;
    }
    fills_drop(mmu, &mmu->fills[FILLS_GLOBAL]);
    mmu->exec_epoch[FILLS_GLOBAL]++;
    memset(mmu->large, 0, sizeof mmu->large);
    mmu->huge_seen = false;
    tb_jumps_clear(v);
}

/* --- Physical memory */
uint8_t *softmmu_ram(struct machine *m, uint64_t physical)
{
    const struct region *r = space_find(pc_memory(m->pc), physical);
    return r && r->kind != REGION_DEVICE ? r->host + (physical - r->base) : NULL;
}

uint64_t softmmu_ram_page(struct machine *m, const uint8_t *host)
{
    return host >= m->ram && host < m->ram + m->config.ram_size ? (uint64_t)(host - m->ram) >> 12 : NO_PAGE;
}

void softmmu_protect(struct vcpu *v, uint64_t ram_page)
{
    struct softmmu *mmu = &v->mmu;
    struct tlb_writers *w = &mmu->writers[ram_page];
    const uint8_t *host = v->machine->ram + ram_page * PAGE;
    for (unsigned k = 0; k < FILLS; k++) {
        const struct tlb_fills *f = &mmu->fills[k];
        for (uint32_t i = w->epoch[k] == f->epoch ? w->first[k] : NO_FILL; i != NO_FILL; i = f->fills[i].next) {
            int64_t *entry = &mmu->write[f->fills[i].set][INDEX(f->fills[i].page)];
            if (*entry && (uint8_t *)(f->fills[i].page + (uint64_t)*entry) == host) /* not another page's by now */
                *entry = 0;
        }
        w->first[k] = NO_FILL;
    }
}

void softmmu_close(struct vcpu *v, uint64_t linear, unsigned set) { entry_drop(&v->mmu.write[set][INDEX(linear)]); }

/* --- One access inside one page */
struct place { uint8_t *host; uint64_t physical; uint64_t ram_page; bool writable_ram; };

static void writer_add(struct vcpu *v, uint64_t ram_page, unsigned kind, uint32_t fill)
{
    struct tlb_writers *w = &v->mmu.writers[ram_page];
    struct tlb_fills *f = &v->mmu.fills[kind];
    f->fills[fill].next = w->epoch[kind] == f->epoch ? w->first[kind] : NO_FILL;
    w->first[kind] = fill;
    w->epoch[kind] = f->epoch;
}

static struct tlb_guarded *guarded_slot(struct softmmu *mmu, uint64_t linear, unsigned set)
{
    return &mmu->guarded[(linear >> 12 ^ set) % (sizeof mmu->guarded / sizeof *mmu->guarded)];
}

static void fill(struct vcpu *v, uint64_t linear, unsigned set, const struct x86_page *page, const struct place *at)
{
    struct softmmu *mmu = &v->mmu;
    uint64_t base = linear & PAGE_MASK;
    uint8_t *host = at->host - (linear & (PAGE - 1));
    int64_t addend = (int64_t)((uint64_t)host - base);
    unsigned kind = page->global ? FILLS_GLOBAL : FILLS_LOCAL;
    struct tlb_fills *f = &mmu->fills[kind];
    bool writable = page->writable && at->writable_ram;
    if (f->count == MAX_FILLS)
        fills_drop(mmu, f);
    large_note(mmu, linear, page->page_size);
    if (page->readable)
        mmu->read[set][INDEX(linear)] = addend;
    f->fills[f->count] = (struct tlb_fill){base, NO_FILL, (uint8_t)set};
    if (writable && code_page_live(v, at->ram_page)) {
        *guarded_slot(mmu, linear, set) = (struct tlb_guarded){base, host, at->ram_page, (uint8_t)set};
    } else if (writable) {
        mmu->write[set][INDEX(linear)] = addend;
        atomic_store_explicit(&v->machine->ram_changed, true, memory_order_relaxed); /* from now on it may, without passing here */
        writer_add(v, at->ram_page, kind, f->count);
        if (v->machine->check)
            check_opened(v, base, set);
        check_page(v, at->ram_page);
    }
    f->count++;
    mmu->fills_since_trim++;
    v->stats.tlb_misses++;
    if (v->machine->config.trace & TRACE_MMU)
        trace_fill(v, linear, page, set == MMU_USER, mmu->write[set][INDEX(linear)] != 0);
}

static bool locate(struct vcpu *v, uint64_t linear, unsigned access, struct place *at)
{
    struct x86_state *s = &v->cpu.state;
    unsigned set = set_of(s, access);
    struct x86_page page;
    if (!x86_translate(&v->cpu, linear, access, set == MMU_USER, &page))
        return false;
    const struct region *r = space_find(pc_memory(v->machine->pc), page.physical);
    at->physical = page.physical;
    at->host = r && r->kind != REGION_DEVICE ? r->host + (page.physical - r->base) : NULL;
    at->ram_page = at->host ? softmmu_ram_page(v->machine, at->host) : NO_PAGE;
    at->writable_ram = at->host && r->kind == REGION_RAM && at->ram_page != NO_PAGE;
    if (access & IR_WRITE)
        atomic_store_explicit(&v->machine->ram_changed, true, memory_order_relaxed);
    const struct debugger *debug = &v->machine->debug;
    if (at->host && !NASTY && !(s->mode & X86_MODE_DEBUG) && !(debug->data && debug_data_page(debug, linear)))
        fill(v, linear, set, &page, at);
    return true;
}

uint64_t softmmu_device_read(struct vcpu *v, uint64_t physical, unsigned size)
{
    v->stats.mmio++;
    enum stats_clock before = stats_enter(v, STATS_devices);
    machine_access_begin(v->machine);
    uint64_t value = space_read(pc_memory(v->machine->pc), physical, size);
    machine_access_end(v->machine);
    stats_enter(v, before);
    return value;
}

void softmmu_device_write(struct vcpu *v, uint64_t physical, unsigned size, uint64_t value)
{
    v->stats.mmio++;
    enum stats_clock before = stats_enter(v, STATS_devices);
    machine_access_begin(v->machine);
    space_write(pc_memory(v->machine->pc), physical, size, value);
    machine_access_end(v->machine);
    stats_enter(v, before);
}

static uint64_t mmio_read(struct vcpu *v, uint64_t physical, unsigned size)
{
    return (v->machine->check ? check_device_read : softmmu_device_read)(v, physical, size);
}

static void mmio_write(struct vcpu *v, uint64_t physical, unsigned size, uint64_t value)
{
    (v->machine->check ? check_device_write : softmmu_device_write)(v, physical, size, value);
}

/* Devices see the largest naturally aligned pieces. */
static unsigned piece(uint64_t physical, unsigned size)
{
    unsigned n = 8;
    while (n > size || physical & (n - 1))
        n >>= 1;
    return n;
}

static void place_read(struct vcpu *v, const struct place *at, unsigned size, uint8_t *to)
{
    if (at->host) {
        memcpy(to, at->host, size);
        return;
    }
    for (unsigned done = 0, n; done < size; done += n) {
        n = piece(at->physical + done, size - done);
        uint64_t value = mmio_read(v, at->physical + done, n);
        memcpy(to + done, &value, n);
    }
}

static void place_write(struct vcpu *v, const struct place *at, unsigned size, const uint8_t *from)
{
    if (at->writable_ram) {
        check_page(v, at->ram_page);
        tb_written(v, at->ram_page, (unsigned)(at->physical & (PAGE - 1)), size, NULL);
        memcpy(at->host, from, size);
        return;
    }
    if (at->host)
        return; /* ROM */
    for (unsigned done = 0, n; done < size; done += n) {
        uint64_t value = 0;
        n = piece(at->physical + done, size - done);
        memcpy(&value, from + done, n);
        mmio_write(v, at->physical + done, n, value);
    }
}

static bool debug_hit(struct vcpu *v, uint64_t linear, unsigned size, unsigned access)
{
    if (v->cpu.state.mode & X86_MODE_DEBUG && !(access & IR_AS_SUPERVISOR))
        x86_debug_data(&v->cpu, linear, size, access & IR_WRITE);
    if (v->machine->debug.data)
        debug_data_access(&v->machine->debug, linear, size, access & IR_WRITE);
    return false;
}

/* A debugger's watchpoint that is hit inside a block: the instruction is to be run alone. */
static bool watched(struct vcpu *v, uint64_t linear, unsigned size, unsigned access)
{
    const struct debugger *d = &v->machine->debug;
    if (!d->data || !v->in_block)
        return false;
    if (!(access & IR_WRITE && debug_data_hits(d, linear, size, true)) && !(access & IR_READ && debug_data_hits(d, linear, size, false)))
        return false;
    v->cpu.state.faulted = SOFTMMU_INTERPRET;
    return true;
}

/* Splits an access at the page's end. */
static unsigned first_part(uint64_t linear, unsigned size)
{
    uint64_t room = PAGE - (linear & (PAGE - 1));
    return size < room ? size : (unsigned)room;
}

/* With counting: a device inside a block, for the time that it sees is not the block's: the instruction is to be run alone. */
static bool counted_device(struct vcpu *v, const struct place *at)
{
    if (at->host || !v->in_block || !v->machine->config.icount)
        return false;
    v->cpu.state.faulted = SOFTMMU_INTERPRET;
    return true;
}

/* Where an access may be made: one place, or two where it goes over a page's end.  False: a fault is pending, or the
 * instruction is to be run alone. */
static bool places(struct vcpu *v, uint64_t linear, unsigned size, unsigned access, struct place at[2], unsigned *first)
{
    *first = first_part(linear, size);
    if (watched(v, linear, size, access) || !locate(v, linear, access, &at[0]) || counted_device(v, &at[0]))
        return false;
    return *first == size || (locate(v, linear + *first, access, &at[1]) && !counted_device(v, &at[1]));
}

static uint8_t *fast_host(struct vcpu *v, uint64_t linear, unsigned size, unsigned access)
{
    if ((linear & (PAGE - 1)) + size > PAGE || v->cpu.state.mode & (X86_MODE_DEBUG | X86_MODE_AC))
        return NULL;
    if ((uint64_t)((int64_t)(linear << 16) >> 16) != linear)
        return NULL;
    unsigned set = set_of(&v->cpu.state, access);
    int64_t addend = (access & IR_WRITE ? v->mmu.write : v->mmu.read)[set][INDEX(linear)];
    return addend ? (uint8_t *)(linear + (uint64_t)addend) : NULL;
}

/* A store inside a page that was found to have live code; NULL: not known, go the long way. */
static const struct tlb_guarded *guarded_find(struct vcpu *v, uint64_t linear, unsigned size, unsigned access)
{
    unsigned set = set_of(&v->cpu.state, access);
    const struct tlb_guarded *g = guarded_slot(&v->mmu, linear, set);
    bool found = access & IR_WRITE && g->page == (linear & PAGE_MASK) && g->set == set && first_part(linear, size) == size &&
                 !(v->cpu.state.mode & (X86_MODE_DEBUG | X86_MODE_AC)) && code_page_live(v, g->ram_page);
    return found ? g : NULL;
}

/* Its host address, once the blocks of these bytes are set aside.  host_pc, *running: as of tb_written. */
static uint8_t *guarded_host(struct vcpu *v, uint64_t linear, unsigned size, unsigned access, const void *host_pc, bool *running)
{
    const struct tlb_guarded *g = guarded_find(v, linear, size, access);
    unsigned offset = (unsigned)(linear & (PAGE - 1));
    if (!g)
        return NULL;
    check_page(v, g->ram_page);
    bool hit = tb_written(v, g->ram_page, offset, size, host_pc);
    if (running)
        *running = hit;
    return g->host + offset;
}

/* Alignment checks of what helpers access at CPL 3; lifted code asks for them by itself. */
static bool address_ok(struct vcpu *v, uint64_t linear, unsigned size, unsigned access)
{
    if (v->cpu.state.mode & X86_MODE_AC && v->cpu.state.cpl == 3 && !(access & IR_AS_SUPERVISOR) && size <= 8 && !(size & (size - 1)))
        access |= IR_AC;
    return x86_access_check(&v->cpu, linear, size, access);
}

bool softmmu_probe(struct x86_cpu *cpu, uint64_t linear, unsigned size, unsigned access)
{
    struct vcpu *v = vcpu_of(cpu);
    struct place at[2];
    unsigned first;
    if (!address_ok(v, linear, size, access))
        return false;
    return fast_host(v, linear, size, access) || guarded_find(v, linear, size, access) || places(v, linear, size, access, at, &first);
}

bool softmmu_read(struct x86_cpu *cpu, uint64_t linear, unsigned size, unsigned access, void *to)
{
    struct vcpu *v = vcpu_of(cpu);
    const uint8_t *host = fast_host(v, linear, size, access);
    if (host) {
        memcpy(to, host, size);
        return true;
    }
    struct place at[2];
    unsigned first;
    if (!address_ok(v, linear, size, access) || !places(v, linear, size, access, at, &first))
        return false;
    place_read(v, &at[0], first, to);
    if (first < size)
        place_read(v, &at[1], size - first, (uint8_t *)to + first);
    debug_hit(v, linear, size, access);
    return true;
}

bool softmmu_write(struct x86_cpu *cpu, uint64_t linear, unsigned size, unsigned access, const void *from)
{
    struct vcpu *v = vcpu_of(cpu);
    uint8_t *host = fast_host(v, linear, size, access);
    if (!host)
        host = guarded_host(v, linear, size, access, NULL, NULL);
    if (host) {
        memcpy(host, from, size);
        return true;
    }
    struct place at[2];
    unsigned first;
    if (!address_ok(v, linear, size, access) || !places(v, linear, size, access, at, &first))
        return false;
    place_write(v, &at[0], first, from);
    if (first < size)
        place_write(v, &at[1], size - first, (const uint8_t *)from + first);
    debug_hit(v, linear, size, access);
    return true;
}

void *softmmu_pointer(struct x86_cpu *cpu, uint64_t linear, unsigned *size, unsigned access)
{
    struct vcpu *v = vcpu_of(cpu);
    if (cpu->state.mode & (X86_MODE_DEBUG | X86_MODE_AC))
        return NULL;
    *size = first_part(linear, *size);
    uint8_t *host = fast_host(v, linear, *size, access);
    if (!host)
        host = guarded_host(v, linear, *size, access, NULL, NULL);
    if (host)
        return host;
    struct place at;
    if (v->machine->debug.data && debug_data_page(&v->machine->debug, linear))
        return NULL;
    if (!locate(v, linear, access, &at) || !at.host || (access & IR_WRITE && !at.writable_ram))
        return NULL;
    if (access & IR_WRITE) {
        check_page(v, at.ram_page);
        tb_written(v, at.ram_page, (unsigned)(at.physical & (PAGE - 1)), *size, NULL);
    }
    return at.host;
}

const struct exec_entry *softmmu_fetch(struct vcpu *v, uint64_t linear)
{
    bool user = v->cpu.state.cpl == 3;
    struct exec_entry *e = &v->mmu.exec[user][linear >> 12 & (EXEC_ENTRIES - 1)];
    if (e->page != (linear & PAGE_MASK) || e->epoch != v->mmu.exec_epoch[e->global]) {
        struct x86_page page;
        if (!x86_translate(&v->cpu, linear, IR_EXEC, user, &page))
            return NULL;
        large_note(&v->mmu, linear, page.page_size);
        *e = (struct exec_entry){linear & PAGE_MASK, page.physical & PAGE_MASK, v->mmu.exec_epoch[page.global], page.global};
    }
    return e;
}

bool softmmu_fetch_page(struct vcpu *v, uint64_t linear, uint64_t *phys_page)
{
    const struct exec_entry *e = softmmu_fetch(v, linear);
    if (e)
        *phys_page = e->phys;
    return e;
}

/* --- Slow path of translated code (struct tcg_context) */
/* A load over a page's end, both in memory: its bytes, side by side.  An instruction has few loads, so a few places are
 * enough to keep them until it is done. */
static uint8_t *bounce(struct vcpu *v, uint64_t linear, unsigned size, unsigned access)
{
    unsigned first = first_part(linear, size);
    if (access & IR_WRITE || first == size)
        return NULL;
    const uint8_t *one = fast_host(v, linear, first, access), *two = fast_host(v, linear + first, size - first, access);
    if (!one || !two)
        return NULL;
    uint8_t *to = v->mmu.bounce[v->mmu.bounce_next++ % 4];
    memcpy(to, one, first);
    memcpy(to + first, two, size - first);
    return to;
}

/* The nasty build's whole slow path: a page walk for each access. */
static uint8_t *walked_host(struct vcpu *v, uint64_t linear, unsigned size, unsigned access, const void *host_pc, bool *running)
{
    struct place at;
    if (first_part(linear, size) < size || v->cpu.state.mode & (X86_MODE_DEBUG | X86_MODE_AC) || !locate(v, linear, access, &at))
        return NULL;
    if (access & IR_WRITE && !at.writable_ram)
        return NULL;
    if (access & IR_WRITE) {
        check_page(v, at.ram_page);
        *running = tb_written(v, at.ram_page, (unsigned)(linear & (PAGE - 1)), size, host_pc);
    }
    return at.host;
}

/* NULL with no fault pending: MMIO, a store over a page's end, or one that changes the block that makes it. */
static uint8_t *slow_host(struct vcpu *v, uint64_t linear, unsigned size, unsigned access, const void *host_pc)
{
    bool running = false;
    uint8_t *host = guarded_host(v, linear, size, access, host_pc, &running);
    if (!host) {
        if (!softmmu_probe(&v->cpu, linear, size, access))
            return NULL;
        if (NASTY)
            host = walked_host(v, linear, size, access, host_pc, &running);
        else if (!(host = fast_host(v, linear, size, access)) && !(host = guarded_host(v, linear, size, access, host_pc, &running)))
            host = bounce(v, linear, size, access);
    }
    return running ? NULL : host;
}

static uint64_t slow_translate(void *state, uint64_t linear, unsigned size_access, const void *host_pc)
{
    struct vcpu *v = vcpu_of_state(state);
    enum stats_clock before = stats_enter(v, STATS_tlb_fill);
    uint8_t *host = slow_host(v, linear, size_access & 0xff, size_access >> 8, host_pc);
    stats_enter(v, before);
    return (uint64_t)host;
}

void softmmu_slow_paths(struct tcg_context *c)
{
    c->slow_translate = slow_translate;
}
