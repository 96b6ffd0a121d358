/* What a region is made of.  From a block that got hot on, some thousand guest instructions are interpreted block by block, and
 * the recorder notes how often each block ran, where its computed jumps went, and how its memory accesses lie.  The hot part of
 * that, as far as it is reached from the first block, becomes a job. */
#include "runtime/job.h"
#include <stdlib.h>
#include <string.h>

enum { RECORDED_BLOCKS = 256, RECORDED_INSNS = 6000, SETTLED_STEPS = 400, AWAY_STEPS = 5000, EDGES = CHOICE_EDGES };
struct site { uint64_t page; uint16_t runs, moves; bool misaligned; };
struct recorded {
    struct job_block b;
    uint64_t count;
    struct site *sites;
    struct { uint16_t to; uint32_t count; } edges[EDGES]; unsigned edge_count;
    const char *refused;
};
struct recorder {
    struct recorded blocks[RECORDED_BLOCKS]; unsigned count;
    uint32_t mode; bool careful; unsigned foreign_writes;
    unsigned insns, steps_since_new, away;
    bool changed;               /* code did, meanwhile: there will be no region */
    int last, now;              /* blocks; -1: none */
    int16_t place[RECORDED_BLOCKS]; /* struct choice */
    uint64_t hot_ns, first_ns;
    uint64_t delivered;         /* interrupts and exceptions so far: what comes after one is no successor */
};

void profile_begin(struct vcpu *v, struct tb *tb)
{
    struct recorder *r = calloc(1, sizeof *r);
    if (!r)
        return;
    r->mode = tb->mode;
    r->careful = tb->rebuilds;
    r->foreign_writes = v->regions.foreign_writes;
    r->last = -1;
    r->hot_ns = machine_host_ns();
    r->first_ns = v->regions.made_ns && !tb->rebuilds ? v->regions.made_ns[tb->counter] : 0;
    v->regions.recorder = r;
    v->stats.recordings++;
}

static void recorded_free(struct recorded *b)
{
    ir_block_free(&b->b.ir);
    free(b->b.copy);
    free(b->b.seen);
    free(b->sites);
}

void profile_drop(struct vcpu *v)
{
    struct recorder *r = v->regions.recorder;
    v->regions.recorder = NULL;
    for (unsigned n = 0; r && n < r->count; n++)
        recorded_free(&r->blocks[n]);
    free(r);
}

/* --- Blocks */
static bool bytes_copy(struct vcpu *v, struct job_block *b)
{
    unsigned room = (unsigned)(PAGE - (b->phys & (PAGE - 1))), first = b->bytes < room ? b->bytes : room;
    const uint8_t *one = softmmu_ram(v->machine, b->phys), *two = first < b->bytes ? softmmu_ram(v->machine, b->phys2) : NULL;
    if (!one || (first < b->bytes && !two) || !(b->copy = malloc(b->bytes)))
        return false;
    memcpy(b->copy, one, first);
    if (two)
        memcpy(b->copy + first, two, b->bytes - first);
    return true;
}

/* The block at state.rip, lifted and optimised for a region.  False: a fault is pending, or (faulted 0) no memory or no RAM. */
static bool block_make(struct vcpu *v, struct job_block *b, unsigned insns)
{
    ir_block_init(&b->ir);
    if (!tb_lift(v, insns, &b->ir, &b->phys, &b->phys2))
        return false;
    b->pc = v->cpu.state.rip;
    b->bytes = b->ir.guest_bytes;
    return bytes_copy(v, b);
}

static int find(const struct recorder *r, uint64_t pc, uint64_t phys)
{
    for (unsigned n = 0; n < r->count; n++)
        if (r->blocks[n].b.pc == pc && r->blocks[n].b.phys == phys)
            return (int)n;
    return -1;
}

/* Is it what lies there?  Its second page may have been mapped anew too. */
static bool is_current(struct vcpu *v, const struct job_block *b)
{
    uint64_t phys2;
    if (b->phys2 != ~0ull && (!softmmu_fetch_page(v, tb_linear(&v->cpu.state) + b->bytes - 1, &phys2) || phys2 != b->phys2)) {
        v->cpu.state.faulted = 0;
        return false;
    }
    return job_same_bytes(v, b);
}

static unsigned block_insns(struct vcpu *v)
{
    if (!v->machine->config.stress)
        return MAX_INSNS;
    return 1 + (region_random(v) >> 16) % (MAX_INSNS < 12 ? MAX_INSNS : 12);
}

static int block_here(struct vcpu *v, struct recorder *r)
{
    uint64_t linear = tb_linear(&v->cpu.state), phys;
    if (!softmmu_fetch_page(v, linear, &phys))
        return -1;
    int n = find(r, v->cpu.state.rip, phys | (linear & (PAGE - 1)));
    r->steps_since_new++;
    if (n >= 0 && !is_current(v, &r->blocks[n].b)) {
        r->changed = true;
        return -1;
    }
    if (n >= 0 || r->count == RECORDED_BLOCKS)
        return n;
    struct recorded *b = &r->blocks[r->count];
    if (!block_make(v, &b->b, block_insns(v)) || !(b->sites = calloc(b->b.ir.count, sizeof *b->sites))) {
        recorded_free(b);
        *b = (struct recorded){0};
        return -1;
    }
    b->refused = llvm_refuses(&b->b.ir);
    r->steps_since_new = 0;
    return (int)r->count++;
}

void profile_access(struct vcpu *v, uint64_t address, unsigned size)
{
    struct recorder *r = v->regions.recorder;
    if (r->now < 0)
        return;
    struct site *s = &r->blocks[r->now].sites[*v->interpreted_at];
    if (s->runs < 0xffff) {
        s->moves += s->runs++ && s->page != address >> 12;
        s->page = address >> 12;
    }
    s->misaligned |= size & (size - 1) ? (address & (PAGE - 1)) + size > PAGE : (address & (size - 1)) != 0;
}

static void edge_note(struct recorded *from, unsigned to)
{
    unsigned k = 0;
    while (k < from->edge_count && from->edges[k].to != to)
        k++;
    if (k == from->edge_count) {
        if (k == EDGES)
            return;
        from->edges[from->edge_count++].to = (uint16_t)to;
    }
    from->edges[k].count++;
}

static bool settled(const struct recorder *r)
{
    return r->insns >= RECORDED_INSNS || (r->steps_since_new > SETTLED_STEPS && r->blocks[0].count > 32);
}

bool profile_goes_on(struct vcpu *v)
{
    struct recorder *r = v->regions.recorder;
    bool here = v->cpu.state.mode == r->mode;
    if (r->changed || settled(r) || (!here && ++r->away > AWAY_STEPS)) {
        profile_end(v);
        return false;
    }
    return here; /* else an interrupt's handler runs, or a system call */
}

enum ir_leave profile_step(struct vcpu *v)
{
    struct recorder *r = v->regions.recorder;
    struct x86_state *s = &v->cpu.state;
    struct ir_block other;
    uint64_t delivered = v->stats.interrupts + v->stats.faults, phys, phys2;
    tb_mode_changed(v);
    r->now = block_here(v, r);
    if (s->faulted)
        return IR_LEAVE_FAULT;
    if (r->now < 0) { /* no room for it: it is run all the same */
        ir_block_init(&other);
        bool ok = tb_lift(v, MAX_INSNS, &other, &phys, &phys2);
        bool too_long = ok && machine_counts(v->machine) && s->icount < other.guest_insns;
        enum ir_leave leave = !ok ? IR_LEAVE_FAULT : too_long ? IR_LEAVE_EXIT : vcpu_run_once(v, &other);
        ir_block_free(&other);
        r->last = -1;
        r->insns += MAX_INSNS;
        return leave;
    }
    struct recorded *b = &r->blocks[r->now];
    if (machine_counts(v->machine) && s->icount < b->b.ir.guest_insns)
        return IR_LEAVE_EXIT;
    if (r->last >= 0 && r->delivered == delivered)
        edge_note(&r->blocks[r->last], (unsigned)r->now);
    b->count++;
    r->insns += b->b.ir.guest_insns;
    r->last = r->now;
    r->delivered = delivered;
    enum ir_leave leave = vcpu_run_once(v, &b->b.ir);
    r->now = -1;
    if (leave != IR_LEAVE_NEXT)
        r->last = -1;
    return leave;
}

/* --- From the recording to a job */
static uint64_t block_pc(const struct ir_block *b, uint64_t pc, int64_t offset) { return ir_cut(pc + (uint64_t)offset, b->pc_bits); }

/* In a loop, what runs in one of some rounds; else a stretch of code, which is worth little and gets little. */
enum { LOOP = 4, STRETCH_INSNS = 60 };
static bool loops(const struct recorder *r) { return r->blocks[0].count >= LOOP; }
static void recorded_block(void *ctx, const struct choice *c, uint32_t n, struct choice_block *b)
{
    const struct recorder *r = ctx;
    const struct recorded *from = &r->blocks[n];
    (void)c;
    *b = (struct choice_block){.count = from->count, .insns = from->b.ir.guest_insns, .refused = from->refused, .edge_count = from->edge_count};
    for (unsigned e = 0; e < from->edge_count; e++)
        b->edges[e] = from->edges[e].to;
}

static void choose(struct vcpu *v, struct recorder *r, struct choice *c)
{
    unsigned most = REGION_BLOCKS, most_insns = loops(r) ? REGION_INSNS : STRETCH_INSNS;
    if (v->machine->config.stress)
        most = 1 + (region_random(v) >> 16) % 12;
    c->place = r->place;
    memset(r->place, 0xff, sizeof r->place);
    choice_make(c, 0, most, most_insns, recorded_block, r);
}

static void seen_make(struct recorded *b)
{
    if (!(b->b.seen = calloc(b->b.ir.count, 1)))
        return; /* nothing is known, then */
    for (unsigned n = 0; n < b->b.ir.count; n++) {
        const struct site *s = &b->sites[n];
        if (s->runs)
            b->b.seen[n] = (uint8_t)(LLVM_SEEN | (s->misaligned ? LLVM_SEEN_MISALIGNED : 0) | (s->moves * 16u > s->runs ? LLVM_SEEN_OTHER_PAGE : 0));
        else
            b->b.seen[n] = LLVM_SEEN_MISALIGNED;
    }
}

/* What counts say is as good by their highest bit, and the recipe is the same more often. */
static uint64_t rounded(uint64_t count) { return count ? 1ull << (63 - __builtin_clzll(count)) : 0; }

static void targets_make(const struct recorded *b, const struct choice *c, struct recipe_block *to)
{
    for (unsigned e = 0; e < b->edge_count; e++) {
        int place = c->place[b->edges[e].to];
        if (place < 0)
            continue;
        unsigned at = to->target_count;
        if (at == sizeof to->targets / sizeof *to->targets)
            break;
        for (; at && to->targets[at - 1].count < b->edges[e].count; at--)
            to->targets[at] = to->targets[at - 1];
        to->targets[at] = (struct llvm_target){(uint32_t)place, (uint32_t)rounded(b->edges[e].count)};
        to->target_count++;
    }
}

static struct llvm_job *job_new(struct vcpu *v, unsigned blocks, uint32_t mode)
{
    struct llvm_job *j = calloc(1, sizeof *j);
    if (!j || !(j->recipe.blocks = calloc(blocks, sizeof *j->recipe.blocks)) || !(j->of = calloc(blocks, sizeof *j->of))) {
        if (j)
            free(j->recipe.blocks);
        free(j);
        return NULL;
    }
    j->machine = v->machine;
    j->mode = mode;
    j->foreign_writes = v->regions.foreign_writes;
    return j;
}

static void job_finish(struct vcpu *v, struct llvm_job *j, unsigned count)
{
    uint64_t offset;
    j->global = true;
    for (unsigned n = 0; n < count; n++) {
        struct job_block *b = &j->of[n];
        struct recipe_block *r = &j->recipe.blocks[n];
        r->pc = ir_signed(b->pc - j->of[0].pc, b->ir.pc_bits);
        r->size = (uint16_t)b->bytes;
        r->page_offset = (uint16_t)(b->phys & (PAGE - 1));
        r->bytes = b->copy;
        recipe_block_unmoved(r, j->mode, b->pc, &b->unmoved); /* without memory it holds where the code lies now */
        r->seen = b->seen;
        r->seen_count = b->seen ? b->ir.count : 0;
        const struct exec_entry *e = softmmu_fetch(v, job_linear(v, j, b->pc));
        v->cpu.state.faulted = 0;
        j->global &= e && e->global;
        ir_block_free(&b->ir); /* it is lifted from the recipe again */
    }
    j->recipe.mode = j->mode;
    j->recipe.icount = machine_counts(v->machine);
    j->recipe.block_count = count;
    j->recipe.name = symbols_find(v->machine->symbols, job_linear(v, j, j->of[0].pc), &offset);
    if (v->machine->config.stress)
        j->options.stress = region_random(v) | 1;
}

static struct llvm_job *job_from(struct vcpu *v, struct recorder *r)
{
    struct choice c;
    if (!r->count || r->blocks[0].refused)
        return NULL;
    choose(v, r, &c);
    struct llvm_job *j = job_new(v, c.count, r->mode);
    if (!j)
        return NULL;
    for (unsigned n = 0; n < c.count; n++) {
        struct recorded *b = &r->blocks[c.order[n]];
        seen_make(b);
        targets_make(b, &c, &j->recipe.blocks[n]);
        j->recipe.blocks[n].count = rounded(b->count);
        j->priority += b->count * b->b.ir.guest_insns;
        j->of[n] = b->b;
        b->b = (struct job_block){0}; /* the job's now */
        ir_block_init(&b->b.ir);
    }
    j->priority = j->priority * 16 / c.insns; /* how often it runs what has to be compiled */
    job_finish(v, j, c.count);
    j->recipe.careful = r->careful;
    j->loops = loops(r);
    j->foreign_writes = r->foreign_writes;
    j->hot_ns = r->hot_ns;
    j->first_ns = r->first_ns;
    return j;
}

/* --- What is kept to be printed (profile_print.c) */
enum { MOST_LOOPS = 1024 };

static void place_make(const struct recorded *b, uint64_t linear, const int16_t *place, struct profile_place *p)
{
    enum { MOST = sizeof p->edges / sizeof *p->edges };
    *p = (struct profile_place){.linear = linear, .count = b->count, .insns = (uint16_t)b->b.ir.guest_insns, .refused = b->refused};
    for (unsigned e = 0; e < b->edge_count && p->edge_count < MOST; e++)
        if (place[b->edges[e].to] >= 0)
            p->edges[p->edge_count++] = (struct profile_edge){(uint16_t)place[b->edges[e].to], b->edges[e].count};
}

static struct profile_loop **loop_slot(struct regions *to, const struct job_block *head, uint32_t mode)
{
    for (unsigned n = 0; n < to->loop_count; n++)
        if (to->loops[n]->pc == head->pc && to->loops[n]->phys == head->phys && to->loops[n]->mode == mode)
            return &to->loops[n];
    if (!to->loops && !(to->loops = calloc(MOST_LOOPS, sizeof *to->loops)))
        return NULL;
    return to->loop_count < MOST_LOOPS ? &to->loops[to->loop_count] : NULL;
}

static void keep(struct vcpu *v, const struct recorder *r)
{
    int16_t place[RECORDED_BLOCKS];
    unsigned count = 0;
    memset(place, 0xff, sizeof place);
    for (unsigned n = 0; n < r->count; n++)
        if (r->blocks[n].count * 16 >= r->blocks[0].count)
            place[n] = (int16_t)count++;
    struct profile_loop **at = count ? loop_slot(&v->regions, &r->blocks[0].b, r->mode) : NULL, *l;
    if (!at || !(l = calloc(1, sizeof *l + count * sizeof *l->places)))
        return;
    *l = (struct profile_loop){.pc = r->blocks[0].b.pc, .phys = r->blocks[0].b.phys, .mode = r->mode, .times = *at ? (*at)->times + 1 : 1, .insns = r->insns, .place_count = count};
    for (unsigned n = 0; n < r->count; n++)
        if (place[n] >= 0)
            place_make(&r->blocks[n], mode_linear(v, r->mode, r->blocks[n].b.pc), place, &l->places[place[n]]);
    v->regions.loop_count += !*at;
    free(*at);
    *at = l;
}

void profile_free(struct vcpu *v)
{
    for (unsigned n = 0; n < v->regions.loop_count; n++)
        free(v->regions.loops[n]);
    free(v->regions.loops);
    v->regions.loops = NULL;
    v->regions.loop_count = 0;
}

void profile_end(struct vcpu *v)
{
    struct recorder *r = v->regions.recorder;
    if (!r)
        return;
    if (!r->changed)
        keep(v, r);
    struct llvm_job *j = r->changed ? NULL : job_from(v, r);
    profile_drop(v);
    if (j)
        worker_submit(v, j);
}

/* --- From what the code says alone: its known successors, on pages that are mapped */
static void successors(const struct ir_block *b, uint64_t pc, uint64_t *to, unsigned *count)
{
    for (ir_ref n = 0; n < b->count; n++)
        if ((b->insns[n].op == IR_exit_if || b->insns[n].op == IR_jump) && *count < 64)
            to[(*count)++] = block_pc(b, pc, b->insns[n].imm);
}

struct llvm_job *profile_static(struct vcpu *v, struct tb *tb)
{
    enum { MOST = 24 };
    struct x86_state *s = &v->cpu.state;
    uint64_t todo[64 + 64] = {tb->pc}, rip = s->rip;
    unsigned todo_count = 1, count = 0;
    struct llvm_job *j = job_new(v, MOST, tb->mode);
    for (unsigned k = 0; j && k < todo_count && count < MOST; k++) {
        bool have = false;
        for (unsigned n = 0; n < count; n++)
            have |= j->of[n].pc == todo[k];
        s->rip = todo[k];
        struct job_block *b = &j->of[count];
        if (have)
            continue;
        if (!block_make(v, b, block_insns(v)) || llvm_refuses(&b->ir)) {
            s->faulted = 0;
            ir_block_free(&b->ir);
            free(b->copy);
            *b = (struct job_block){0};
            if (!count)
                break;
            continue;
        }
        if (todo_count < 64)
            successors(&b->ir, b->pc, todo, &todo_count);
        count++;
    }
    s->rip = rip;
    if (!j)
        return NULL;
    j->recipe.block_count = count;
    if (count) {
        job_finish(v, j, count);
        return j;
    }
    job_free(j);
    return NULL;
}
