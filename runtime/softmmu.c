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

static int64_t *table_new(void)
{
    void *p = mmap(NULL, TABLE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    madvise(p, TABLE_BYTES, MADV_NOHUGEPAGE);
    madvise(p, TABLE_BYTES, MADV_DONTDUMP);
    return p;
}

static void exec_clear(struct softmmu *mmu)
{
    for (unsigned user = 0; user < 2; user++)
        for (unsigned i = 0; i < 256; i++)
            mmu->exec[user][i].page = NO_PAGE;
}

bool softmmu_init(struct vcpu *v)
{
    struct softmmu *mmu = &v->mmu;
    mmu->fills = malloc(MAX_FILLS * sizeof *mmu->fills);
    if (!mmu->fills)
        return false;
    for (unsigned i = 0; i < MMU_SETS; i++)
        if (!(mmu->read[i] = table_new()) || !(mmu->write[i] = table_new()))
            return false;
    mmu->epoch = 1;
    exec_clear(mmu);
    return true;
}

void softmmu_free(struct vcpu *v)
{
    for (unsigned i = 0; i < MMU_SETS; i++) {
        if (v->mmu.read[i])
            munmap(v->mmu.read[i], TABLE_BYTES);
        if (v->mmu.write[i])
            munmap(v->mmu.write[i], TABLE_BYTES);
    }
    free(v->mmu.fills);
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
    if (v->tcg.read_table != v->mmu.read[set])
        tcg_tables_set(&v->tcg, v->mmu.read[set], v->mmu.write[set]);
}

/* --- Flushing */
static void fill_drop(struct softmmu *mmu, const struct tlb_fill *f)
{
    mmu->read[f->set][INDEX(f->page)] = 0;
    mmu->write[f->set][INDEX(f->page)] = 0;
}

/* Zeroed entries leave their host pages behind: give them back now and then. */
static void tables_trim(struct softmmu *mmu)
{
    for (unsigned i = 0; i < MMU_SETS; i++) {
        madvise(mmu->read[i], TABLE_BYTES, MADV_DONTNEED);
        madvise(mmu->write[i], TABLE_BYTES, MADV_DONTNEED);
    }
    mmu->fill_count = mmu->fills_since_trim = 0;
}

static void flush_fills(struct softmmu *mmu, bool keep_global)
{
    if (mmu->fills_since_trim > 4 * MAX_FILLS) {
        tables_trim(mmu);
        return;
    }
    unsigned kept = 0;
    for (unsigned i = 0; i < mmu->fill_count; i++)
        if (keep_global && mmu->fills[i].global)
            mmu->fills[kept++] = mmu->fills[i];
        else
            fill_drop(mmu, &mmu->fills[i]);
    mmu->fill_count = kept;
}

/* One page; a large page is dropped whole, since its 4 KiB entries do not know their size. */
static void flush_page(struct softmmu *mmu, uint64_t linear)
{
    uint64_t span = mmu->huge_seen ? 1ull << 30 : mmu->large_seen ? 4ull << 20 : PAGE;
    unsigned kept = 0;
    if (span == PAGE) {
        for (unsigned set = 0; set < MMU_SETS; set++) {
            if (mmu->read[set][INDEX(linear)])
                fill_drop(mmu, &(struct tlb_fill){.page = linear, .set = (uint8_t)set});
        }
        return;
    }
    for (unsigned i = 0; i < mmu->fill_count; i++)
        if ((mmu->fills[i].page ^ linear) & ~(span - 1))
            mmu->fills[kept++] = mmu->fills[i];
        else
            fill_drop(mmu, &mmu->fills[i]);
    mmu->fill_count = kept;
}

void softmmu_flush(struct x86_cpu *cpu, enum x86_flush what, uint64_t linear)
{
    struct vcpu *v = vcpu_of(cpu);
    v->stats.tlb_flushes++;
    if (what == X86_FLUSH_PAGE)
        flush_page(&v->mmu, linear);
    else
        flush_fills(&v->mmu, what == X86_FLUSH_NON_GLOBAL);
    if (what == X86_FLUSH_ALL) {
        v->mmu.large_seen = v->mmu.huge_seen = false;
        v->mmu.epoch++; /* no write entry is left at all */
    }
    exec_clear(&v->mmu);
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
    if (v->tbs.pages[ram_page].write_epoch != mmu->epoch)
        return; /* never writable since the last whole flush */
    const uint8_t *host = v->machine->ram + ram_page * PAGE;
    for (unsigned i = 0; i < mmu->fill_count; i++) {
        int64_t *entry = &mmu->write[mmu->fills[i].set][INDEX(mmu->fills[i].page)];
        if (*entry && (uint8_t *)(mmu->fills[i].page + (uint64_t)*entry) == host)
            *entry = 0;
    }
}

/* --- One access inside one page */
struct place { uint8_t *host; uint64_t physical; uint64_t ram_page; bool writable_ram; };

static void fill(struct vcpu *v, uint64_t linear, unsigned set, const struct x86_page *page, const struct place *at)
{
    struct softmmu *mmu = &v->mmu;
    uint64_t base = linear & PAGE_MASK;
    int64_t addend = (int64_t)((uint64_t)(at->host - (linear & (PAGE - 1))) - base);
    bool had = mmu->read[set][INDEX(linear)] || mmu->write[set][INDEX(linear)];
    if (mmu->fill_count == MAX_FILLS) {
        flush_fills(mmu, false);
        had = false;
    }
    mmu->large_seen |= page->page_size > PAGE;
    mmu->huge_seen |= page->page_size > 4ull << 20;
    if (page->readable)
        mmu->read[set][INDEX(linear)] = addend;
    if (page->writable && at->writable_ram && !v->tbs.pages[at->ram_page].tbs) {
        mmu->write[set][INDEX(linear)] = addend;
        v->tbs.pages[at->ram_page].write_epoch = mmu->epoch;
    }
    if (!had) {
        mmu->fills[mmu->fill_count++] = (struct tlb_fill){base, page->global, (uint8_t)set};
        mmu->fills_since_trim++;
    }
    v->stats.tlb_misses++;
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
    const struct debugger *debug = &v->machine->debug;
    if (at->host && !(s->mode & X86_MODE_DEBUG) && !(debug->data && debug_data_page(debug, linear)))
        fill(v, linear, set, &page, at);
    return true;
}

static uint64_t mmio_read(struct vcpu *v, uint64_t physical, unsigned size)
{
    v->stats.mmio++;
    enum stats_clock before = stats_enter(v, STATS_devices);
    pthread_mutex_lock(&v->machine->lock);
    uint64_t value = space_read(pc_memory(v->machine->pc), physical, size);
    pthread_mutex_unlock(&v->machine->lock);
    stats_enter(v, before);
    return value;
}

static void mmio_write(struct vcpu *v, uint64_t physical, unsigned size, uint64_t value)
{
    v->stats.mmio++;
    enum stats_clock before = stats_enter(v, STATS_devices);
    pthread_mutex_lock(&v->machine->lock);
    space_write(pc_memory(v->machine->pc), physical, size, value);
    pthread_mutex_unlock(&v->machine->lock);
    stats_enter(v, before);
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
        if (v->tbs.pages[at->ram_page].tbs)
            tb_written(v, at->ram_page, (unsigned)(at->physical & (PAGE - 1)), size);
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

static bool aligned_ok(struct vcpu *v, uint64_t linear, unsigned size, unsigned access)
{
    if (access & IR_ALIGNED && linear & (size - 1)) {
        x86_raise_error(&v->cpu, X86_GP, 0);
        return false;
    }
    if (v->cpu.state.mode & X86_MODE_AC && v->cpu.state.cpl == 3 && !(access & IR_AS_SUPERVISOR) && size <= 8 && !(size & (size - 1)) && linear & (size - 1)) {
        x86_raise_error(&v->cpu, X86_AC, 0); /* SDM 3A 6.15, interrupt 17 */
        return false;
    }
    return true;
}

bool softmmu_probe(struct x86_cpu *cpu, uint64_t linear, unsigned size, unsigned access)
{
    struct vcpu *v = vcpu_of(cpu);
    struct place at;
    if (!aligned_ok(v, linear, size, access))
        return false;
    if (fast_host(v, linear, size, access))
        return true;
    unsigned first = first_part(linear, size);
    return !watched(v, linear, size, access) && locate(v, linear, access, &at) && (first == size || locate(v, linear + first, access, &at));
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
    unsigned first = first_part(linear, size);
    if (!aligned_ok(v, linear, size, access) || watched(v, linear, size, access) || !locate(v, linear, access, &at[0]) || (first < size && !locate(v, linear + first, access, &at[1])))
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
    if (host) {
        memcpy(host, from, size);
        return true;
    }
    struct place at[2];
    unsigned first = first_part(linear, size);
    if (!aligned_ok(v, linear, size, access) || watched(v, linear, size, access) || !locate(v, linear, access, &at[0]) || (first < size && !locate(v, linear + first, access, &at[1])))
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
    if (host)
        return host;
    struct place at;
    if (v->machine->debug.data && debug_data_page(&v->machine->debug, linear))
        return NULL;
    if (!locate(v, linear, access, &at) || !at.host)
        return NULL;
    if (access & IR_WRITE && (!at.writable_ram || v->tbs.pages[at.ram_page].tbs))
        return NULL;
    return at.host;
}

bool softmmu_fetch_page(struct vcpu *v, uint64_t linear, uint64_t *phys_page)
{
    bool user = v->cpu.state.cpl == 3;
    struct exec_entry *e = &v->mmu.exec[user][linear >> 12 & 255];
    if (e->page != (linear & PAGE_MASK)) {
        struct x86_page page;
        if (!x86_translate(&v->cpu, linear, IR_EXEC, user, &page))
            return false;
        e->page = linear & PAGE_MASK;
        e->phys = page.physical & PAGE_MASK;
    }
    *phys_page = e->phys;
    return true;
}

/* --- Slow path of translated code (struct tcg_context) */
static uint64_t slow_translate(void *state, uint64_t linear, unsigned size_access)
{
    struct vcpu *v = vcpu_of_state(state);
    unsigned size = size_access & 0xff, access = size_access >> 8;
    enum stats_clock before = stats_enter(v, STATS_tlb_fill);
    uint8_t *host = NULL;
    if (softmmu_probe(&v->cpu, linear, size, access))
        host = fast_host(v, linear, size, access); /* NULL: MMIO, code or page edge */
    stats_enter(v, before);
    return (uint64_t)host;
}

void softmmu_slow_paths(struct tcg_context *c)
{
    c->slow_translate = slow_translate;
}
