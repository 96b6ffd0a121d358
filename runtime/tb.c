/* The store of TranslationBlocks: found by physical address, PC and mode; made on a miss.  A block whose very bytes are
 * written is kept aside and compared with them when it is next needed: code that comes back, or was written over
 * with the same, is not translated again. */
#define _GNU_SOURCE
#include "runtime/cache_templates.h"
#include <stdlib.h>
#include <string.h>

#define NO_PAGE (~0ull)
/* Of the bytes at one place, how many versions are kept; from how many on the operands that differ between them are read
 * when the block runs, so that it does not matter any more; and from how many on, if that was of no use, blocks are
 * made short, so that what changes takes little with it. */
#define MAX_VERSIONS 8u
#define OPEN_FROM 2u
#define SHORT_FROM 5u
#define SHORT_INSNS 4u

bool tb_store_init(struct vcpu *v, size_t buffer_size)
{
    if (!regions_init(v))
        return false;
    struct tb_store *s = &v->tbs;
    bool kind = v->machine->config.ram_size > KIND_RAM;
    size_t most = kind ? KIND_CODE_BUFFER : MAX_CODE_BUFFER;
    s->page_count = (v->machine->config.ram_size + PAGE - 1) / PAGE;
    s->pages = calloc(s->page_count, sizeof *s->pages);
    s->max = kind ? KIND_BLOCKS : MAX_BLOCKS;
    ir_block_init(&s->scratch);
    for (unsigned i = 0; i < TB_SINGLES; i++)
        ir_block_init(&s->singles[i].ir);
    if (!code_ring_init(s, buffer_size < most ? buffer_size : most, regions_are_built() ? REGION_AREA : 0) || !s->pages)
        return false;
    tb_jumps_clear(v);
    return true;
}

/* --- The jump table.  Flushes are frequent and the table is large: a CR3 write takes away the entries that were listed
 * for that; INVLPG looks for those of its page where there may be one. */
#define MANY_LOCAL (sizeof ((struct jump_flush *)0)->local / sizeof *((struct jump_flush *)0)->local + 1)

static struct jump_page *jump_page(struct vcpu *v, uint64_t pc) { return &v->jump_flush.pages[(pc >> 12) * 0x9e3779b97f4a7c15ull >> 51]; }

static void jump_clear(struct vcpu *v, struct tcg_jump *j)
{
    if (j->pc != TCG_NO_JUMP)
        jump_page(v, j->pc)->entries--;
    tcg_jumps_clear(j, 1);
}

static void unlink_exit(struct vcpu *v, struct tb_link *l)
{
    if (!l->to)
        return;
    tcg_chain(v->tbs.buffer, &l->from->code, l->exit, NULL);
    if ((*l->prev = l->next))
        l->next->prev = l->prev;
    if (l->far_prev && (*l->far_prev = l->far_next))
        l->far_next->far_prev = l->far_prev;
    l->to = NULL;
}

static void far_links_clear(struct vcpu *v, struct jump_page *page, uint64_t linear)
{
    for (struct tb_link *l = page->links, *next; l; l = next) {
        next = l->far_next;
        if (!((l->to->pc ^ linear) & PAGE_MASK))
            unlink_exit(v, l);
    }
}

static void table_clear(struct vcpu *v)
{
    struct jump_flush *f = &v->jump_flush;
    tcg_jumps_clear(v->jumps, TCG_JUMP_ROOM);
    f->local_count = 0;
    for (unsigned i = 0; i < JUMP_PAGES; i++)
        f->pages[i].entries = 0;
}

void tb_jumps_clear(struct vcpu *v)
{
    table_clear(v);
    for (unsigned i = 0; i < JUMP_PAGES; i++)
        while (v->jump_flush.pages[i].links)
            unlink_exit(v, v->jump_flush.pages[i].links);
}

void tb_jumps_clear_local(struct vcpu *v)
{
    struct jump_flush *f = &v->jump_flush;
    if (f->local_count == MANY_LOCAL) {
        table_clear(v);
        return;
    }
    for (unsigned i = 0; i < f->local_count; i++)
        jump_clear(v, &v->jumps[f->local[i]]);
    f->local_count = 0;
}

static void jump_clear_if(struct vcpu *v, unsigned index, uint64_t page)
{
    if (index < TCG_JUMP_ROOM && v->jumps[index].pc != TCG_NO_JUMP && !((v->jumps[index].pc ^ page) & PAGE_MASK))
        jump_clear(v, &v->jumps[index]);
}

/* Those of the page of `from` that lead to `count` addresses from there on, of all modes. */
static void jumps_clear_run(struct vcpu *v, uint64_t from, unsigned count)
{
    const struct jump_page *page = jump_page(v, from);
    unsigned first = tcg_jump_hash(from);
    for (unsigned i = first; i < first + count + v->tbs.mode_count && page->entries; i++) {
        jump_clear_if(v, i, from);
        if (i >= TCG_JUMP_ENTRIES) /* or at the table's begin, by the mode's number further on */
            jump_clear_if(v, i - TCG_JUMP_ENTRIES, from);
    }
}

void tb_jumps_clear_page(struct vcpu *v, uint64_t linear)
{
    uint64_t page = linear & PAGE_MASK;
    if (v->cs_base) { /* PCs are not linear addresses: rare enough */
        tb_jumps_clear(v);
        return;
    }
    jumps_clear_run(v, page - 15, 15); /* of a block that straddles the first instruction does */
    jumps_clear_run(v, page, PAGE);
    far_links_clear(v, jump_page(v, page), page);
}

static void jump_set(struct vcpu *v, const struct tb *tb, bool global)
{
    struct jump_flush *f = &v->jump_flush;
    unsigned index = tcg_jump_hash(tb->pc) + tb->mode_id;
    jump_clear(v, &v->jumps[index]);
    v->jumps[index] = (struct tcg_jump){tb->pc, tb->code.entry};
    jump_page(v, tb->pc)->entries++;
    if ((!global || tb->straddles) && f->local_count < MANY_LOCAL && ++f->local_count < MANY_LOCAL)
        f->local[f->local_count - 1] = (uint16_t)index;
}

static void tb_free(struct vcpu *v, struct tb *tb)
{
    struct arena *a = &v->tbs.arena;
    if (tb->ir)
        ir_block_free(tb->ir);
    free(tb->ir);
    arena_free(a, tb->links, tb->code.exit_count * sizeof *tb->links);
    free(tb->open);
    free(tb->code.sites);
    free(tb->code.relocs);
    region_counter_free(v, tb->counter);
    arena_free(a, tb, sizeof *tb + tb->copied);
}

void tb_reap(struct vcpu *v)
{
    while (v->tbs.dead) {
        struct tb *tb = v->tbs.dead;
        v->tbs.dead = tb->hash_next;
        tb_free(v, tb);
    }
}

/* --- Chaining */
/* The nasty build lets half of the blocks, by their address, end in the cpu loop each time. */
bool tb_may_chain(const struct tb *tb) { return !NASTY || tb->pc & 16; }

bool tb_is_flat(uint32_t mode)
{
    uint32_t size = mode & X86_MODE_CODE;
    return size == X86_MODE_CODE64 || (size == X86_MODE_CODE32 && mode >> (X86_MODE_ZERO_SHIFT + X86_CS) & 1);
}

/* The page that state.rip was found on a moment ago stays mapped so when CR3 is written. */
static bool is_global(struct vcpu *v, const struct tb *tb)
{
    const struct exec_entry *e = tb_is_flat(tb->mode) ? softmmu_fetch(v, tb->pc) : NULL;
    v->cpu.state.faulted = 0;
    return e && e->global;
}

/* A chain inside one page holds whatever is remapped.  One to another page, if that is global, is taken back where the jump table's
 * entry for it would be; other pages are remapped too often, and so is the second of a target that straddles: these are reached through the table. */
void tb_chain(struct vcpu *v, struct tb *from, int exit, struct tb *to)
{
    struct tb_link *l = &from->links[exit];
    bool far = (from->pc ^ to->pc) & PAGE_MASK || (from->phys ^ to->phys) & PAGE_MASK;
    if (from->state != TB_LIVE || to->state != TB_LIVE || l->to || to->straddles || from->mode != to->mode || !tb_may_chain(from) ||
        (far && !is_global(v, to)))
        return;
    *l = (struct tb_link){.from = from, .exit = (uint8_t)exit, .to = to, .next = to->incoming, .prev = &to->incoming};
    if (l->next)
        l->next->prev = &l->next;
    to->incoming = l;
    if (far) {
        l->far_prev = &jump_page(v, to->pc)->links;
        if ((l->far_next = *l->far_prev))
            l->far_next->far_prev = &l->far_next;
        *l->far_prev = l;
    }
    tcg_chain(v->tbs.buffer, &from->code, (unsigned)exit, &to->code);
    v->stats.chains++;
}

/* --- The bytes that a block depends on */
static void parts_find(struct vcpu *v, struct tb *tb)
{
    unsigned offset = (unsigned)(tb->phys & (PAGE - 1)), room = (unsigned)PAGE - offset, first = tb->bytes < room ? tb->bytes : room;
    const uint64_t phys[2] = {tb->phys & PAGE_MASK, tb->phys2};
    tb->parts[0].offset = (uint16_t)offset;
    tb->parts[0].size = (uint16_t)first;
    tb->parts[1].size = (uint16_t)(tb->bytes - first);
    for (unsigned i = 0; i < 2; i++) {
        const uint8_t *host = phys[i] == NO_PAGE ? NULL : softmmu_ram(v->machine, phys[i]);
        uint64_t page = host ? softmmu_ram_page(v->machine, host) : NO_PAGE;
        if (page == NO_PAGE)
            tb->parts[i].size = 0; /* ROM and MMIO are not watched */
        else
            tb->parts[i].page = (uint32_t)page;
    }
}

static const uint8_t *part_bytes(const struct vcpu *v, const struct tb_part *part)
{
    return v->machine->ram + part->page * PAGE + part->offset;
}

static void copy_bytes(const struct vcpu *v, struct tb *tb)
{
    memcpy(tb->copy, part_bytes(v, &tb->parts[0]), tb->parts[0].size);
    memcpy(tb->copy + tb->parts[0].size, part_bytes(v, &tb->parts[1]), tb->parts[1].size);
}

/* Straddling blocks are open nowhere. */
static bool same_closed_bytes(const struct vcpu *v, const struct tb *tb)
{
    const uint8_t *now = part_bytes(v, &tb->parts[0]);
    unsigned at = 0;
    for (unsigned i = 0; i < tb->open_count; i++) {
        if (memcmp(tb->copy + at, now + at, tb->open[i].offset - at))
            return false;
        at = tb->open[i].offset + tb->open[i].size;
    }
    return !memcmp(tb->copy + at, now + at, tb->bytes - at);
}

static bool same_bytes(const struct vcpu *v, const struct tb *tb)
{
    if (tb->distrusted)
        return false;
    if (tb->open_count)
        return same_closed_bytes(v, tb);
    return !memcmp(tb->copy, part_bytes(v, &tb->parts[0]), tb->parts[0].size) &&
           !memcmp(tb->copy + tb->parts[0].size, part_bytes(v, &tb->parts[1]), tb->parts[1].size);
}

/* --- Leaving the indices */
static void jump_forget(struct vcpu *v, const struct tb *tb)
{
    struct tcg_jump *j = &v->jumps[tcg_jump_hash(tb->pc) + tb->mode_id];
    if (j->code == tb->code.entry)
        jump_clear(v, j);
}

void tb_isolate(struct vcpu *v, struct tb *tb)
{
    while (tb->incoming)
        unlink_exit(v, tb->incoming);
    region_unlink(v, tb);
    jump_forget(v, tb);
}

/* Where it jumps to itself stays chained: that is right again when it is. */
void tb_suspect(struct vcpu *v, struct tb *tb)
{
    if (tb->unit)
        region_uninstall(v, tb->unit);
    if (tb->state != TB_LIVE)
        return; /* a watch: it went with the region */
    tb->state = TB_STALE;
    if (tb == v->interpreted)
        *v->interpreted_stop = true;
    tb_isolate(v, tb);
    code_pages_deaden(v, tb);
    v->stats.invalidations++;
}

static void tb_revive(struct vcpu *v, struct tb *tb)
{
    tb->state = TB_LIVE;
    code_pages_enliven(v, tb);
    v->stats.revivals++;
}

static void tb_forget(struct vcpu *v, struct tb *tb)
{
    if (tb->state == TB_GONE)
        return;
    if (tb->unit)
        region_uninstall(v, tb->unit);
    tb_isolate(v, tb);
    for (unsigned i = 0; i < tb->code.exit_count; i++)
        unlink_exit(v, &tb->links[i]);
    if (tb->state == TB_LIVE)
        code_pages_deaden(v, tb);
    code_pages_remove(v, tb);
    if ((*tb->hash_prev = tb->hash_next))
        tb->hash_next->hash_prev = tb->hash_prev;
    tb->state = TB_GONE;
    tb->asked_for = false;
}

void tb_evict(struct vcpu *v, struct tb *tb)
{
    struct tb_store *s = &v->tbs;
    if (tb->state != TB_GONE)
        v->stats.evictions++;
    tb_forget(v, tb);
    code_ring_remove(s, tb);
    tb->hash_next = s->dead;
    s->dead = tb;
}

/* --- Making */
static unsigned fetch_bytes(void *ctx, uint64_t linear, unsigned max, uint8_t *to)
{
    struct vcpu *v = ctx;
    uint64_t phys;
    if (!x86_fetch_check(&v->cpu, linear) || !softmmu_fetch_page(v, linear, &phys))
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

static bool lift_block(struct vcpu *v, struct x86_lift_limits limits, struct ir_block *block)
{
    struct x86_state *s = &v->cpu.state;
    struct x86_fetch fetch = {.bytes = fetch_bytes, .ctx = v, .decoding = v->measuring ? decoding : NULL};
    enum stats_clock before = stats_enter(v, STATS_lift);
    if (v->most_insns && limits.insns > v->most_insns)
        limits.insns = v->most_insns;
    limits.bytes = (unsigned)PAGE;
    limits.icount = machine_counts(v->machine);
    if (v->machine->debug.code)
        limits.bytes = (unsigned)debug_code_room(&v->machine->debug, tb_linear(s), PAGE);
    ir_block_clear(block);
    bool ok = x86_lift(v->cpu.model, s->mode, s->rip, tb_linear(s), &fetch, &limits, block);
    stats_enter(v, before);
    return ok;
}

static bool lift(struct vcpu *v, unsigned insns, const uint64_t *changing, struct ir_block *block)
{
    return lift_block(v, (struct x86_lift_limits){.insns = insns, .branches = MAX_BRANCHES, .changing = changing, .relocate = !changing && cache_keeps_templates(v)}, block);
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
    if (!lift(v, 1, NULL, &e->ir))
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
    tb->code_at = tb->code_end = (uint32_t)s->at;
    tb->code = (struct tcg_block){0}; /* whatever the backend came to before it gave up */
    if (!(tb->ir = malloc(sizeof *tb->ir)))
        return false;
    *tb->ir = s->scratch;
    tb->ir->insns = malloc(s->scratch.count * sizeof *tb->ir->insns);
    if (!tb->ir->insns)
        return false;
    memcpy(tb->ir->insns, s->scratch.insns, s->scratch.count * sizeof *tb->ir->insns);
    tb->ir->capacity = tb->ir->count;
    return true;
}

/* A block that is to be made. */
static struct tb *tb_new(struct vcpu *v, uint64_t phys, unsigned bytes)
{
    struct tb *tb = arena_new(&v->tbs.arena, sizeof *tb + bytes);
    if (!tb)
        return NULL;
    tb->copied = (uint16_t)bytes;
    tb->pc = v->cpu.state.rip;
    tb->mode = v->cpu.state.mode;
    tb->mode_id = (uint16_t)(v->mode_id - 1);
    tb->phys = phys;
    tb->phys2 = NO_PAGE;
    region_counter_new(v, tb);
    return tb;
}

static bool lift_traced(struct vcpu *v, unsigned insns, const uint64_t *changing, struct ir_block *ir)
{
    unsigned trace = v->machine->config.trace;
    if (!lift(v, insns, changing, ir))
        return false;
    if (trace & (TRACE_IN_ASM | TRACE_IR))
        trace_block(v, trace & (TRACE_IN_ASM | TRACE_IR), ir);
    return true;
}

static void optimise_traced(struct vcpu *v, struct ir_block *ir)
{
    if (!v->machine->is_reference) /* so that the passes are under test, too */
        optimise(v, ir);
    if (v->machine->config.trace & TRACE_IR_OPT)
        trace_block(v, TRACE_IR_OPT, ir);
}

static bool emit(struct vcpu *v, struct tb *tb, const struct ir_block *ir, const struct tcg_moved *moved)
{
    enum stats_clock before = stats_enter(v, STATS_emit);
    enum tcg_result result = code_ring_emit(v, tb, ir, moved);
    stats_enter(v, before);
    if (result != TCG_OK || (tb->code.exit_count && !(tb->links = arena_new(&v->tbs.arena, tb->code.exit_count * sizeof *tb->links))))
        return false;
    v->stats.code_bytes += tb->code.code_size;
    if (v->machine->config.trace & TRACE_OUT_ASM)
        trace_out(v, tb);
    if (v->machine->perf)
        perf_block_added(v, tb);
    return true;
}

/* Sorted: an instruction's immediate may have been read before its displacement. */
static bool open_keep(struct tb *tb, const struct ir_block *ir)
{
    if (ir->code_count && !(tb->open = malloc(ir->code_count * sizeof *tb->open)))
        return false;
    for (; tb->open_count < ir->code_count; tb->open_count++) {
        unsigned at = tb->open_count;
        for (; at && tb->open[at - 1].offset > ir->code[tb->open_count].offset; at--)
            tb->open[at] = tb->open[at - 1];
        tb->open[at] = ir->code[tb->open_count];
    }
    return true;
}

/* --- The IR of what was interpreted at its first run, for its translation; some thousand blocks' are kept. */
static struct tb_first *first_slot(struct vcpu *v, uint64_t phys)
{
    const struct x86_state *s = &v->cpu.state;
    return &v->tbs.first[(phys ^ s->rip << 7 ^ (uint64_t)s->mode << 20) * 0x9e3779b97f4a7c15ull >> 52];
}

static void first_drop(struct tb_first *f)
{
    ir_block_free(&f->ir);
    free(f->bytes);
    f->bytes = NULL;
}

static void first_keep(struct vcpu *v, uint64_t phys, const struct ir_block *ir)
{
    const uint8_t *host = softmmu_ram(v->machine, phys);
    struct tb_first *f = first_slot(v, phys);
    first_drop(f);
    if (!host || (phys & (PAGE - 1)) + ir->guest_bytes > PAGE || !(f->bytes = malloc(ir->guest_bytes)))
        return;
    f->ir = *ir;
    f->ir.capacity = ir->count;
    if (!(f->ir.insns = malloc(ir->count * sizeof *ir->insns))) {
        first_drop(f);
        return;
    }
    memcpy(f->ir.insns, ir->insns, ir->count * sizeof *ir->insns);
    memcpy(f->bytes, host, ir->guest_bytes);
    f->pc = v->cpu.state.rip;
    f->phys = phys;
    f->mode = v->cpu.state.mode;
    f->relocates = cache_keeps_templates(v);
}

/* Into `to`, which has room for the longest block that was ever lifted.  False: not kept, or of other bytes. */
static bool first_take(struct vcpu *v, uint64_t phys, struct ir_block *to)
{
    struct tb_first *f = first_slot(v, phys);
    if (!f->bytes || f->phys != phys || f->pc != v->cpu.state.rip || f->mode != v->cpu.state.mode || f->relocates != cache_keeps_templates(v))
        return false;
    bool same = !memcmp(f->bytes, softmmu_ram(v->machine, phys), f->ir.guest_bytes) && f->ir.count <= to->capacity;
    if (same) {
        struct ir_insn *insns = to->insns;
        uint32_t capacity = to->capacity;
        *to = f->ir;
        to->insns = insns;
        to->capacity = capacity;
        memcpy(insns, f->ir.insns, f->ir.count * sizeof *insns);
    }
    first_drop(f);
    return same;
}

/* Translates at state.rip: lift, optimise, emit; shorter and shorter blocks where the backend finds it too complex; one
 * instruction that still is will be interpreted.  NULL: a fault is pending, or no memory. */
static struct tb *translate(struct vcpu *v, uint64_t phys, unsigned insns, const uint64_t *changing)
{
    struct ir_block *ir = &v->tbs.scratch;
    bool interpret = v->machine->config.tier == TIER_INTERP, done = false;
    /* With breakpoints blocks end before one, as those of before may not. */
    bool lifted = insns == MAX_INSNS && !changing && !v->machine->debug.code && first_take(v, phys, ir);
    struct tb *tb = NULL;
    for (; insns && !done; insns /= 2, lifted = false) {
        if ((!lifted && !lift_traced(v, insns, changing, ir)) || (!tb && !(tb = tb_new(v, phys, ir->guest_bytes))))
            break;
        tb->bytes = (uint16_t)ir->guest_bytes;
        tb->insns = (uint16_t)ir->guest_insns;
        tb->whole_mode = ir->whole_mode;
        tb->head = (uint16_t)(changing ? 0 : ir->head_bytes ? ir->head_bytes : ir->guest_bytes);
        optimise_traced(v, ir);
        done = !interpret && emit(v, tb, ir, NULL);
        if (!done && (interpret || insns == 1))
            done = keep_ir(tb, &v->tbs);
    }
    if (done && open_keep(tb, ir))
        return tb;
    if (tb)
        tb_free(v, tb);
    return NULL;
}

static void tb_index(struct vcpu *v, struct tb *tb)
{
    struct tb_store *s = &v->tbs;
    tb->hash = hash_of(tb->phys, tb->pc, tb->mode);
    tb->hash_prev = &s->hash[tb->hash];
    if ((tb->hash_next = *tb->hash_prev))
        tb->hash_next->hash_prev = &tb->hash_next;
    *tb->hash_prev = tb;
    code_ring_add(s, tb);
}

/* Into the indices.  NULL: out of memory. */
static struct tb *tb_enter(struct vcpu *v, struct tb *tb, uint64_t linear)
{
    uint64_t end = linear + tb->bytes - 1;
    if (tb->bytes && (end ^ linear) & PAGE_MASK) {
        tb->straddles = true;
        if (!softmmu_fetch_page(v, end, &tb->phys2))
            v->cpu.state.faulted = 0; /* the lifter read it a moment ago, or lifted its fault */
    }
    parts_find(v, tb);
    copy_bytes(v, tb);
    if (!code_pages_add(v, tb)) {
        tb_free(v, tb);
        return NULL;
    }
    code_pages_enliven(v, tb);
    tb_index(v, tb);
    v->stats.blocks++;
    v->stats.block_insns += tb->insns;
    v->stats.block_bytes += tb->bytes;
    cache_look(v, tb);
    return tb;
}

static void make_room(struct vcpu *v)
{
    while (v->tbs.count >= v->tbs.max)
        code_ring_give_way(v);
}

static struct tb *tb_make(struct vcpu *v, uint64_t phys, uint64_t linear, unsigned insns, const uint64_t *changing)
{
    make_room(v);
    struct tb *tb = translate(v, phys, insns, changing);
    return tb ? tb_enter(v, tb, linear) : NULL;
}

/* Out of the translation cache; NULL: there is none. */
static struct tb *tb_cached(struct vcpu *v, uint64_t phys, uint64_t linear)
{
    struct template_found f;
    if (linear != v->cpu.state.rip || !cache_template(v, phys, &f))
        return NULL;
    make_room(v);
    struct tb *tb = tb_new(v, phys, f.bytes);
    if (!tb)
        return NULL;
    tb->bytes = (uint16_t)f.bytes;
    tb->insns = (uint16_t)f.insns;
    tb->head = (uint16_t)f.head;
    tb->code = f.block;
    tb->cached = true;
    if (f.block.site_count && (tb->code.sites = malloc(f.block.site_count * sizeof *f.sites)))
        memcpy(tb->code.sites, f.sites, f.block.site_count * sizeof *f.sites);
    if ((f.block.site_count && !tb->code.sites) || !emit(v, tb, NULL, &f.moved)) {
        tb_free(v, tb);
        return NULL;
    }
    v->stats.templates_hit++;
    return tb_enter(v, tb, linear);
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

/* Modes get small numbers, for the jump table.  A number that is given anew takes its blocks with it. */
static void mode_forget(struct vcpu *v, uint32_t mode)
{
    const struct tb_store *s = &v->tbs;
    struct tb *tb = s->ahead;
    for (size_t n = s->count; n; n--, tb = tb->after)
        if (tb->mode == mode)
            tb_forget(v, tb);
}

static void mode_number(struct vcpu *v)
{
    struct x86_state *st = &v->cpu.state;
    struct tb_store *s = &v->tbs;
    if (v->mode_id && v->mode == st->mode)
        return;
    uint16_t *hint = &s->mode_hint[st->mode * 0x9e3779b1u >> 26];
    unsigned i = *hint;
    if (i >= s->mode_count || s->modes[i] != st->mode)
        for (i = 0; i < s->mode_count && s->modes[i] != st->mode;)
            i++;
    if (i == MAX_MODES) {
        i = s->mode_next++ % MAX_MODES;
        mode_forget(v, s->modes[i]);
    }
    s->mode_count += i == s->mode_count;
    s->modes[i] = st->mode;
    *hint = (uint16_t)i;
    v->mode = st->mode;
    v->mode_id = (uint16_t)(i + 1);
    v->tcg.jumps = v->jumps + i;
    softmmu_mode(v);
}

/* Among the versions of this place, the one whose bytes lie there now; NULL: none, and there is room for one. */
static struct tb *tb_look_up(struct vcpu *v, uint64_t phys, uint64_t linear, unsigned *versions)
{
    struct tb *tb = v->tbs.hash[hash_of(phys, v->cpu.state.rip, v->cpu.state.mode)], *oldest = NULL;
    *versions = 0;
    for (; tb; tb = tb->hash_next) {
        if (!matches(v, tb, phys, linear))
            continue;
        if (tb->state == TB_LIVE)
            return tb;
        if (same_bytes(v, tb)) {
            tb_revive(v, tb);
            return tb;
        }
        oldest = tb;
        ++*versions;
    }
    if (*versions >= MAX_VERSIONS)
        tb_forget(v, oldest);
    return NULL;
}

/* Marks the bytes in which the versions of this place differ from what lies there now. */
static void changing_find(struct vcpu *v, uint64_t phys, uint64_t linear, uint64_t changing[X86_CHANGING / 64])
{
    const struct tb *tb = v->tbs.hash[hash_of(phys, v->cpu.state.rip, v->cpu.state.mode)];
    for (; tb; tb = tb->hash_next) {
        const uint8_t *now = part_bytes(v, &tb->parts[0]);
        if (!matches(v, tb, phys, linear))
            continue;
        for (unsigned i = 0; i < tb->parts[0].size && i < X86_CHANGING; i++)
            changing[i / 64] |= (uint64_t)(tb->copy[i] != now[i]) << i % 64;
    }
}

static struct tb *tb_remake(struct vcpu *v, uint64_t phys, uint64_t linear, unsigned versions)
{
    uint64_t changing[X86_CHANGING / 64] = {0};
    if (versions < OPEN_FROM)
        return tb_make(v, phys, linear, MAX_INSNS, NULL);
    changing_find(v, phys, linear, changing);
    return tb_make(v, phys, linear, versions < SHORT_FROM ? MAX_INSNS : SHORT_INSNS, changing);
}

/* --- For regions */
struct tb *tb_live(struct vcpu *v, uint64_t phys, uint64_t phys2, uint64_t pc, uint32_t mode)
{
    struct tb *tb = v->tbs.hash[hash_of(phys, pc, mode)];
    while (tb && !(tb->state == TB_LIVE && tb->phys == phys && tb->phys2 == phys2 && tb->pc == pc && tb->mode == mode))
        tb = tb->hash_next;
    return tb;
}

struct tb *tb_here(struct vcpu *v)
{
    const struct x86_state *s = &v->cpu.state;
    uint64_t linear = tb_linear(s), phys;
    if (!softmmu_fetch_page(v, linear, &phys)) {
        v->cpu.state.faulted = 0;
        return NULL;
    }
    phys |= linear & (PAGE - 1);
    struct tb *tb = v->tbs.hash[hash_of(phys, s->rip, s->mode)];
    while (tb && !(tb->state == TB_LIVE && matches(v, tb, phys, linear)))
        tb = tb->hash_next;
    return tb;
}

bool tb_lift(struct vcpu *v, unsigned insns, struct ir_block *ir, uint64_t *phys, uint64_t *phys2)
{
    uint64_t linear = tb_linear(&v->cpu.state);
    *phys2 = NO_PAGE;
    if (!softmmu_fetch_page(v, linear, phys) || !lift_block(v, (struct x86_lift_limits){.insns = insns, .relocate = true}, ir))
        return false;
    *phys |= linear & (PAGE - 1);
    uint64_t end = linear + ir->guest_bytes - 1;
    if (ir->guest_bytes && (end ^ linear) & PAGE_MASK && !softmmu_fetch_page(v, end, phys2))
        v->cpu.state.faulted = 0;
    optimise(v, ir);
    return true;
}

struct tb *tb_watch(struct vcpu *v, struct llvm_unit *unit, uint64_t pc, uint64_t phys, uint64_t phys2, unsigned bytes)
{
    struct tb *tb = arena_new(&v->tbs.arena, sizeof *tb);
    if (!tb)
        return NULL;
    *tb = (struct tb){.pc = pc, .phys = phys, .phys2 = phys2, .bytes = (uint16_t)bytes, .unit = unit};
    parts_find(v, tb);
    if (!code_pages_add(v, tb)) {
        arena_free(&v->tbs.arena, tb, sizeof *tb);
        return NULL;
    }
    code_pages_enliven(v, tb);
    return tb;
}

void tb_unwatch(struct vcpu *v, struct tb *tb)
{
    if (tb->state == TB_LIVE)
        code_pages_deaden(v, tb);
    code_pages_remove(v, tb);
    arena_free(&v->tbs.arena, tb, sizeof *tb);
}

void tb_mode_changed(struct vcpu *v)
{
    const struct x86_state *s = &v->cpu.state;
    uint64_t base = (s->mode & X86_MODE_CODE) == X86_MODE_CODE64 ? 0 : (uint32_t)s->seg_base[X86_CS];
    if (base != v->cs_base) { /* the jump table knows PCs alone */
        v->cs_base = base;
        tb_jumps_clear(v);
        regions_remapped(v, true);
    }
    mode_number(v);
}

/* Has this code come by here?  A bit for each place and its first eight bytes, of which some fall together and are translated at their first run.  None is ever
 * lost for another's sake: two blocks that did that to each other by turns would be interpreted for ever. */
static bool seen_before(struct vcpu *v, uint64_t phys)
{
    struct tb_store *s = &v->tbs;
    const unsigned bits = 64 * sizeof s->seen / sizeof *s->seen;
    const uint8_t *host = softmmu_ram(v->machine, phys);
    uint64_t code = 0;
    if (host && (phys & (PAGE - 1)) <= PAGE - sizeof code)
        memcpy(&code, host, sizeof code);
    uint64_t h = (phys ^ v->cpu.state.rip << 7 ^ (uint64_t)v->cpu.state.mode << 20 ^ code * 0xbf58476d1ce4e5b9ull) * 0x9e3779b97f4a7c15ull;
    uint64_t *word = &s->seen[(h >> 32) % bits / 64], bit = 1ull << (h >> 32) % 64;
    if (*word & bit)
        return true;
    if (++s->seen_count > bits / 8) { /* begin again, before most are taken for seen */
        memset(s->seen, 0, sizeof s->seen);
        s->seen_count = 1;
    }
    *word |= bit;
    return false;
}

/* Half of all code runs once: to interpret it costs less than to optimise it and emit host code. */
static bool interpret_first(struct vcpu *v, uint64_t phys)
{
    const struct machine_config *c = &v->machine->config;
    return c->interpret_first && tier_translates(c->tier) && !machine_counts(v->machine) && !c->trace && !seen_before(v, phys);
}

struct tb *tb_find(struct vcpu *v, const struct ir_block **once)
{
    struct x86_state *s = &v->cpu.state;
    uint64_t linear = tb_linear(s), phys;
    unsigned versions;
    v->stats.lookups++;
    tb_mode_changed(v);
    const struct exec_entry *e = softmmu_fetch(v, linear);
    if (!e)
        return NULL;
    bool global = e->global;
    phys = e->phys | (linear & (PAGE - 1));
    struct tb *tb = tb_look_up(v, phys, linear, &versions);
    if (!tb && !versions)
        tb = tb_cached(v, phys, linear);
    if (!tb && !versions && interpret_first(v, phys)) {
        if (lift(v, MAX_INSNS, NULL, &v->tbs.scratch)) {
            *once = &v->tbs.scratch;
            first_keep(v, phys, *once);
        }
        return NULL;
    }
    if (!tb && !(tb = tb_remake(v, phys, linear, versions)))
        return NULL;
    tb->asked_for = true;
    /* Not in a shadow, which must end after the one block. */
    if (tb->code.entry && tb_may_chain(tb) && !(s->mode & X86_MODE_SHADOW) && !(v->machine->config.trace & TRACE_EACH_BLOCK))
        jump_set(v, tb, global);
    return tb;
}

/* Code segments with a base: where the block's bytes are is not known any more. */
static bool may_hold(const struct tb *tb, uint64_t linear)
{
    return !tb_is_flat(tb->mode) || linear - tb->pc < tb->bytes;
}

void tb_evict_at(struct vcpu *v, uint64_t linear)
{
    struct tb *tb = v->tbs.ahead, *after;
    regions_drop(v); /* some may have it in the middle */
    for (size_t n = v->tbs.count; n; n--, tb = after) {
        after = tb->after;
        if (may_hold(tb, linear))
            tb_evict(v, tb);
    }
}

void tb_first_drop(struct vcpu *v)
{
    for (unsigned i = 0; i < sizeof v->tbs.first / sizeof *v->tbs.first; i++)
        first_drop(&v->tbs.first[i]);
}

void tb_flush_all(struct vcpu *v)
{
    tb_first_drop(v);
    while (v->tbs.ahead)
        tb_evict(v, v->tbs.ahead);
    regions_drop(v);
    tb_jumps_clear(v);
}

void tb_suspect_all(struct vcpu *v)
{
    const struct tb *first = v->tbs.ahead;
    tb_first_drop(v);
    v->regions.foreign_writes++;
    for (struct tb *tb = v->tbs.ahead; tb; tb = tb->after == first ? NULL : tb->after)
        if (tb->state == TB_LIVE)
            tb_suspect(v, tb);
    regions_drop(v);
}

void tb_store_free(struct vcpu *v)
{
    regions_free(v);
    if (v->tbs.pages)
        tb_flush_all(v);
    tb_reap(v);
    regions_end(v);
    arena_end(&v->tbs.arena);
    free(v->tbs.pages);
    ir_block_free(&v->tbs.scratch);
    for (unsigned i = 0; i < TB_SINGLES; i++)
        ir_block_free(&v->tbs.singles[i].ir);
    code_ring_free(&v->tbs);
}
