/* The store of TranslationBlocks: found by physical address, PC and mode; made on a miss; invalidated when the
 * very bytes they were made from change; evicted oldest first, one by one, when there is no room. */
#define _GNU_SOURCE
#include "runtime/internal.h"
#include <stdlib.h>
#include <string.h>

#define NO_PAGE (~0ull)
#ifdef TIERCE_NASTY
#define MAX_BLOCKS 5u
#define MAX_INSNS 1u
#else
#define MAX_BLOCKS 60000u
#define MAX_INSNS 64u
#endif

bool tb_store_init(struct vcpu *v, size_t buffer_size)
{
    struct tb_store *s = &v->tbs;
    s->page_count = (v->machine->config.ram_size + PAGE - 1) / PAGE;
    s->pages = calloc(s->page_count, sizeof *s->pages);
    s->max = MAX_BLOCKS;
    s->buffer_size = buffer_size;
    s->buffer = tcg_buffer_new(buffer_size);
    v->jumps = malloc(TCG_JUMP_ENTRIES * sizeof *v->jumps);
    ir_block_init(&s->scratch);
    for (unsigned i = 0; i < TB_SINGLES; i++)
        ir_block_init(&s->singles[i].ir);
    if (!s->pages || !s->buffer || !v->jumps)
        return false;
    v->tcg.jumps = v->jumps;
    tb_jumps_clear(v);
    return true;
}

void tb_jumps_clear(struct vcpu *v)
{
    memset(v->jumps, 0xff, TCG_JUMP_ENTRIES * sizeof *v->jumps);
}

static void tb_free(struct tb *tb)
{
    ir_block_free(&tb->ir);
    free(tb->code.sites);
    free(tb);
}

void tb_reap(struct vcpu *v)
{
    while (v->tbs.dead) {
        struct tb *tb = v->tbs.dead;
        v->tbs.dead = tb->hash_next;
        tb_free(tb);
    }
}

/* --- Chaining */
static void unlink_exit(struct vcpu *v, struct tb_link *l)
{
    if (!l->to)
        return;
    tcg_chain(v->tbs.buffer, &l->from->code, l->exit, NULL);
    if ((*l->prev = l->next))
        l->next->prev = l->prev;
    l->to = NULL;
}

/* A direct chain stays inside one page, so that it holds whatever is remapped; a target that straddles pages
 * depends on a second mapping and is reached through the jump table, which every TLB flush clears. */
void tb_chain(struct vcpu *v, struct tb *from, int exit, struct tb *to)
{
    struct tb_link *l = &from->links[exit];
    if (!from->valid || !to->valid || l->to || to->straddles || from->mode != to->mode ||
        (from->pc ^ to->pc) & PAGE_MASK || (from->phys ^ to->phys) & PAGE_MASK)
        return;
    *l = (struct tb_link){.from = from, .exit = (uint8_t)exit, .to = to, .next = to->incoming, .prev = &to->incoming};
    if (l->next)
        l->next->prev = &l->next;
    to->incoming = l;
    tcg_chain(v->tbs.buffer, &from->code, (unsigned)exit, &to->code);
    v->stats.chains++;
}

/* --- Pages */
static uint64_t chunk_mask(unsigned offset, unsigned size)
{
    unsigned first = offset >> 6, last = (offset + size - 1) >> 6;
    return (last == 63 ? ~0ull : (1ull << (last + 1)) - 1) & ~((1ull << first) - 1);
}

static uint64_t ram_page_of(struct vcpu *v, uint64_t phys)
{
    const uint8_t *host = softmmu_ram(v->machine, phys);
    return host ? softmmu_ram_page(v->machine, host) : NO_PAGE;
}

/* The part of a block that lies in its first (0) or second (1) page: offset and size there. */
static bool part_of(const struct tb *tb, unsigned part, uint64_t *phys, unsigned *offset, unsigned *size)
{
    unsigned start = (unsigned)(tb->phys & (PAGE - 1));
    if (tb->phys2 == (tb->phys & PAGE_MASK)) { /* both parts in one physical page: listed once, for all of it */
        *phys = tb->phys2;
        *offset = 0;
        *size = (unsigned)PAGE;
        return part == 0;
    }
    unsigned first = start + tb->bytes <= PAGE ? tb->bytes : (unsigned)PAGE - start;
    *phys = part ? tb->phys2 : tb->phys & PAGE_MASK;
    *offset = part ? 0 : start;
    *size = part ? tb->bytes - first : first;
    return *size != 0 && *phys != NO_PAGE;
}

static void page_add(struct vcpu *v, struct tb *tb, unsigned part)
{
    uint64_t phys, page;
    unsigned offset, size;
    if (!part_of(tb, part, &phys, &offset, &size) || (page = ram_page_of(v, phys)) == NO_PAGE)
        return;
    struct code_page *p = &v->tbs.pages[page];
    if (!p->tbs)
        softmmu_protect(v, page);
    tb->page_next[part] = p->tbs;
    p->tbs = tb;
    p->chunks |= chunk_mask(offset, size);
}

static unsigned part_in_page(const struct tb *tb, uint64_t phys_page) { return (tb->phys & PAGE_MASK) == phys_page ? 0 : 1; }

static void page_remove(struct vcpu *v, struct tb *tb, unsigned part)
{
    uint64_t phys, page;
    unsigned offset, size;
    if (!part_of(tb, part, &phys, &offset, &size) || (page = ram_page_of(v, phys)) == NO_PAGE)
        return;
    struct code_page *p = &v->tbs.pages[page];
    uint64_t chunks = 0;
    for (struct tb **at = &p->tbs; *at;) {
        struct tb *t = *at;
        unsigned its = part_in_page(t, phys);
        if (t == tb) {
            *at = t->page_next[part];
            continue;
        }
        uint64_t unused;
        if (part_of(t, its, &unused, &offset, &size))
            chunks |= chunk_mask(offset, size);
        at = &t->page_next[its];
    }
    p->chunks = chunks;
}

static void jump_forget(struct vcpu *v, const struct tb *tb)
{
    struct tcg_jump *j = &v->jumps[tcg_jump_hash(tb->pc)];
    if (j->code == tb->code.entry)
        *j = (struct tcg_jump){~0ull, NULL};
}

/* Takes a block out of every index.  It may still be running: its memory and code stay until tb_reap. */
static void tb_invalidate(struct vcpu *v, struct tb *tb)
{
    if (!tb->valid)
        return;
    tb->valid = false;
    for (unsigned i = 0; i < tb->code.exit_count; i++)
        unlink_exit(v, &tb->links[i]);
    while (tb->incoming)
        unlink_exit(v, tb->incoming);
    jump_forget(v, tb);
    page_remove(v, tb, 0);
    page_remove(v, tb, 1);
    struct tb **at = &v->tbs.hash[tb->hash];
    while (*at != tb)
        at = &(*at)->hash_next;
    *at = tb->hash_next;
    tb->hash_next = NULL;
}

void tb_written(struct vcpu *v, uint64_t ram_page, unsigned offset, unsigned size)
{
    struct code_page *p = &v->tbs.pages[ram_page];
    if (!p->tbs || !(p->chunks & chunk_mask(offset, size)))
        return;
    for (struct tb *t = p->tbs, *next; t; t = next) {
        uint64_t phys;
        unsigned o, n, part = ram_page_of(v, t->phys & PAGE_MASK) != ram_page;
        next = t->page_next[part];
        if (part_of(t, part, &phys, &o, &n) && offset < o + n && o < offset + size) {
            tb_invalidate(v, t);
            v->stats.invalidations++;
        }
    }
}

/* --- Room: blocks lie in the code buffer in the order of their making, so the oldest is also the one that
 * the ring reaches next. */
static void evict_oldest(struct vcpu *v)
{
    struct tb_store *s = &v->tbs;
    struct tb *tb = s->oldest;
    s->oldest = tb->newer;
    if (!s->oldest)
        s->newest = NULL;
    s->count--;
    if (tb->valid)
        v->stats.evictions++;
    tb_invalidate(v, tb);
    tb->hash_next = s->dead;
    s->dead = tb;
}

static size_t room_end(const struct tb_store *s)
{
    return s->oldest && s->oldest->code_at >= s->at ? s->oldest->code_at : s->buffer_size;
}

static enum tcg_result emit(struct vcpu *v, struct tb *tb, const struct ir_block *ir)
{
    struct tb_store *s = &v->tbs;
    struct tcg_options options = {.guest = &v->guest, .pc = tb->pc, .mode_id = v->mode_id, .user = tb, .icount = v->machine->config.icount};
    for (;;) {
        size_t at = s->at;
        enum tcg_result result = tcg_compile(s->buffer, &at, room_end(s), ir, &options, &tb->code);
        if (result != TCG_FULL) {
            tb->code_at = s->at;
            tb->code_end = s->at = at;
            return result;
        }
        if (room_end(s) != s->buffer_size) {
            for (unsigned i = 0; i < 16 && s->oldest && s->oldest->code_at >= s->at; i++)
                evict_oldest(v);
        } else if (s->at == 0) {
            return TCG_TOO_COMPLEX;
        } else {
            /* Wrap: what lies at the buffer's end stays, and is older than nothing that is made now. */
            while (s->oldest && s->oldest->code_at >= s->at)
                evict_oldest(v);
            s->at = 0;
        }
    }
}

/* --- Making */
static unsigned fetch_bytes(void *ctx, uint64_t linear, unsigned max, uint8_t *to)
{
    struct vcpu *v = ctx;
    uint64_t phys;
    if (!softmmu_fetch_page(v, linear, &phys))
        return 0;
    uint64_t room = PAGE - (linear & (PAGE - 1));
    unsigned n = max < room ? max : (unsigned)room;
    phys |= linear & (PAGE - 1);
    const uint8_t *host = softmmu_ram(v->machine, phys);
    if (host)
        memcpy(to, host, n);
    else
        memset(to, 0xff, n); /* code in MMIO: an undefined bus */
    return n;
}

uint64_t tb_linear(const struct x86_state *s)
{
    if ((s->mode & X86_MODE_CODE) == X86_MODE_CODE64)
        return s->rip;
    return (uint32_t)(s->seg_base[X86_CS] + s->rip);
}

static void decoding(void *ctx, bool begins) { stats_enter(ctx, begins ? STATS_decode : STATS_lift); }

static bool lift(struct vcpu *v, unsigned insns, struct ir_block *block)
{
    struct x86_state *s = &v->cpu.state;
    struct x86_fetch fetch = {.bytes = fetch_bytes, .ctx = v, .decoding = v->measuring ? decoding : NULL};
    struct x86_lift_limits limits = {.insns = insns, .bytes = (unsigned)PAGE, .icount = v->machine->config.icount};
    enum stats_clock before = stats_enter(v, STATS_lift);
    if (v->machine->debug.code)
        limits.bytes = (unsigned)debug_code_room(&v->machine->debug, tb_linear(s), PAGE);
    ir_block_clear(block);
    bool ok = x86_lift(v->cpu.model, s->mode, s->rip, tb_linear(s), &fetch, &limits, block);
    stats_enter(v, before);
    return ok;
}

/* --- Single instructions for the interpreter, kept: the same few do MMIO, write to code or are stepped over again and
 * again.  The bytes are compared, so that nothing needs to be forgotten. */
static unsigned single_slot(const struct vcpu *v, uint64_t phys)
{
    return (unsigned)((phys ^ phys >> 8 ^ (uint64_t)v->cpu.state.mode * 0x9e3779b1u >> 16) % TB_SINGLES);
}

static bool single_matches(const struct tb_single *e, const struct x86_state *s, const uint8_t *host)
{
    return e->size && host && e->pc == s->rip && e->mode == s->mode && !memcmp(e->bytes, host, e->size);
}

const struct ir_block *tb_single(struct vcpu *v)
{
    struct x86_state *s = &v->cpu.state;
    uint64_t linear = tb_linear(s), phys, room = PAGE - (linear & (PAGE - 1));
    if (!softmmu_fetch_page(v, linear, &phys))
        return NULL;
    const uint8_t *host = softmmu_ram(v->machine, phys | (linear & (PAGE - 1)));
    struct tb_single *e = &v->tbs.singles[single_slot(v, phys | (linear & (PAGE - 1)))];
    if (single_matches(e, s, host))
        return &e->ir;
    e->size = 0;
    if (!lift(v, 1, &e->ir))
        return NULL;
    if (host && e->ir.guest_bytes <= sizeof e->bytes && e->ir.guest_bytes <= room) {
        e->pc = s->rip;
        e->mode = s->mode;
        e->size = (uint8_t)e->ir.guest_bytes;
        memcpy(e->bytes, host, e->size);
    }
    return &e->ir;
}

static uint32_t hash_of(uint64_t phys, uint64_t pc, uint32_t mode)
{
    uint64_t h = (phys ^ pc << 7 ^ (uint64_t)mode << 20) * 0x9e3779b97f4a7c15ull;
    return (uint32_t)(h >> 40) & (TB_HASH - 1);
}

static void optimise(struct vcpu *v, struct ir_block *block)
{
    enum stats_clock before = stats_enter(v, STATS_passes);
    ir_optimise(block, &x86_guest);
    stats_enter(v, before);
}

static bool keep_ir(struct tb *tb, struct tb_store *s)
{
    tb->code_at = tb->code_end = s->at;
    tb->ir = s->scratch;
    tb->ir.insns = malloc(s->scratch.count * sizeof *tb->ir.insns);
    if (!tb->ir.insns)
        return false;
    memcpy(tb->ir.insns, s->scratch.insns, s->scratch.count * sizeof *tb->ir.insns);
    tb->ir.capacity = tb->ir.count;
    return true;
}

/* Translates at state.rip: lift, optimise, emit; shorter and shorter blocks where the backend finds it too complex. */
static bool translate(struct vcpu *v, struct tb *tb)
{
    struct tb_store *s = &v->tbs;
    const struct machine_config *config = &v->machine->config;
    for (unsigned insns = MAX_INSNS; insns; insns /= 2) {
        if (!lift(v, insns, &s->scratch))
            return false;
        tb->bytes = (uint16_t)s->scratch.guest_bytes;
        tb->insns = (uint16_t)s->scratch.guest_insns;
        if (config->trace & (TRACE_IN_ASM | TRACE_IR))
            trace_block(v, config->trace & (TRACE_IN_ASM | TRACE_IR), &s->scratch);
        optimise(v, &s->scratch);
        if (config->trace & TRACE_IR_OPT)
            trace_block(v, TRACE_IR_OPT, &s->scratch);
        if (config->tier == TIER_INTERP)
            return keep_ir(tb, s);
        enum stats_clock before = stats_enter(v, STATS_emit);
        enum tcg_result result = emit(v, tb, &s->scratch);
        stats_enter(v, before);
        if (result == TCG_OK) {
            v->stats.code_bytes += tb->code.code_size;
            if (config->trace & TRACE_OUT_ASM)
                trace_out(v, tb);
            return true;
        }
    }
    return keep_ir(tb, s); /* one instruction that is too much for the backend: interpreted */
}

static void append(struct tb_store *s, struct tb *tb)
{
    if (s->newest)
        s->newest->newer = tb;
    else
        s->oldest = tb;
    s->newest = tb;
    s->count++;
}

static struct tb *tb_make(struct vcpu *v, uint64_t phys, uint64_t linear)
{
    struct tb_store *s = &v->tbs;
    struct tb *tb = calloc(1, sizeof *tb);
    if (!tb)
        return NULL;
    tb->pc = v->cpu.state.rip;
    tb->mode = v->cpu.state.mode;
    tb->phys = phys;
    tb->phys2 = NO_PAGE;
    while (s->count >= s->max)
        evict_oldest(v);
    if (!translate(v, tb)) {
        tb_free(tb);
        return NULL;
    }
    uint64_t end = linear + tb->bytes - 1;
    if (tb->bytes && (end ^ linear) & PAGE_MASK) {
        tb->straddles = true;
        if (!softmmu_fetch_page(v, end, &tb->phys2))
            v->cpu.state.faulted = 0; /* the lifter read it a moment ago, or lifted its fault */
    }
    tb->valid = true;
    tb->hash = hash_of(tb->phys, tb->pc, tb->mode);
    tb->hash_next = s->hash[tb->hash];
    s->hash[tb->hash] = tb;
    page_add(v, tb, 0);
    page_add(v, tb, 1);
    append(s, tb);
    v->stats.blocks++;
    v->stats.block_insns += tb->insns;
    v->stats.block_bytes += tb->bytes;
    return tb;
}

static bool matches(struct vcpu *v, const struct tb *tb, uint64_t phys, uint64_t linear)
{
    if (tb->phys != phys || tb->pc != v->cpu.state.rip || tb->mode != v->cpu.state.mode)
        return false;
    if (!tb->straddles)
        return true;
    uint64_t second;
    if (!softmmu_fetch_page(v, (linear & PAGE_MASK) + PAGE, &second)) {
        v->cpu.state.faulted = 0; /* a fresh block reaches the fault at the right instruction */
        return false;
    }
    return second == tb->phys2;
}

/* Modes get small numbers, so that mode and PC fit one tag. */
static void mode_number(struct vcpu *v)
{
    struct x86_state *st = &v->cpu.state;
    struct tb_store *s = &v->tbs;
    if (v->mode_id && v->mode == st->mode)
        return;
    unsigned i = 0;
    while (i < s->mode_count && s->modes[i] != st->mode)
        i++;
    if (i == sizeof s->modes / sizeof *s->modes) { /* never seen: begin again, without any block */
        while (s->oldest)
            evict_oldest(v);
        i = s->mode_count = 0;
        tb_jumps_clear(v);
    }
    if (i == s->mode_count)
        s->modes[s->mode_count++] = st->mode;
    v->mode = st->mode;
    v->mode_id = i + 1;
    softmmu_mode(v);
}

struct tb *tb_find(struct vcpu *v)
{
    struct x86_state *s = &v->cpu.state;
    uint64_t linear = tb_linear(s), phys, base = linear - s->rip;
    v->stats.lookups++;
    if (base != v->cs_base) { /* the jump table knows PCs alone */
        v->cs_base = base;
        tb_jumps_clear(v);
    }
    mode_number(v);
    if (!softmmu_fetch_page(v, linear, &phys))
        return NULL;
    phys |= linear & (PAGE - 1);
    struct tb *tb = v->tbs.hash[hash_of(phys, s->rip, s->mode)];
    while (tb && !matches(v, tb, phys, linear))
        tb = tb->hash_next;
    if (!tb && !(tb = tb_make(v, phys, linear)))
        return NULL;
    /* Not in a shadow, which must end after the one block. */
    if (tb->code.entry && !(s->mode & X86_MODE_SHADOW) && !(v->machine->config.trace & (TRACE_EXEC | TRACE_CPU)))
        v->jumps[tcg_jump_hash(tb->pc)] = (struct tcg_jump){tb->pc ^ v->mode_id << 48, tb->code.entry};
    return tb;
}

struct tb *tb_at_host(struct vcpu *v, const void *host_pc)
{
    for (struct tb *tb = v->tbs.oldest; tb; tb = tb->newer) {
        const char *start = tb->code.entry;
        if (start && (const char *)host_pc >= start && (const char *)host_pc < start + (tb->code_end - tb->code_at))
            return tb;
    }
    return NULL;
}

void tb_flush_all(struct vcpu *v)
{
    while (v->tbs.oldest)
        evict_oldest(v);
    tb_jumps_clear(v);
}

void tb_store_free(struct vcpu *v)
{
    if (v->tbs.pages && v->jumps)
        tb_flush_all(v);
    tb_reap(v);
    free(v->tbs.pages);
    free(v->jumps);
    ir_block_free(&v->tbs.scratch);
    for (unsigned i = 0; i < TB_SINGLES; i++)
        ir_block_free(&v->tbs.singles[i].ir);
    if (v->tbs.buffer)
        tcg_buffer_free(v->tbs.buffer);
}
