/* --sample: from where the guest was found to be, while an accelerator ran it, to the blocks that the profile has of the tiers by their counters.
 * Around a PC that no known block has, code is decoded: what jumps and calls lead to from there, and what the return addresses on the stack tell of
 * calls.  That says where blocks begin.  How often they ran is estimated: by the samples in them, and by where control must have come from. */
#include "runtime/job.h"
#include <stdlib.h>
#include <string.h>

enum { LEAST = 8 /* runs of a block that is told of */, MOST_BLOCKS = 1 << 16, WALK_BLOCKS = 64 /* decoded for one sample */, STACK_WORDS = 64, ROUNDS = 8 };
#define NONE UINT32_MAX
struct way { uint64_t pc, phys; };
struct sampled {
    uint64_t pc, phys; uint32_t mode;
    uint16_t size, insns;
    bool entered;                   /* by a jump or a call; else it begins where a sample fell */
    uint8_t ending, to_count;
    struct way to[2], behind;       /* as struct code_ways; phys ~0: not mapped */
    uint8_t *bytes;
};
/* An instruction; found by open addressing. */
struct place { uint64_t pc, phys; uint32_t mode, block /* the one that begins last of those that have it, plus one; 0: free */, samples; };
struct todo { uint64_t pc; bool entered; };
struct samples {
    struct x86_cpu cpu;             /* as it was found */
    struct machine *machine;
    struct sampled *blocks; uint32_t count, room;
    struct place *places; uint32_t place_count, mask;
    struct todo todo[4 * WALK_BLOCKS]; unsigned todo_count;
    struct ir_block ir;
};

/* --- The guest's memory, as it is mapped where it was found.  Code outside of RAM is of no use: the cache is not asked for it. */
static uint64_t phys_read(struct x86_cpu *cpu, uint64_t physical, unsigned size)
{
    const uint8_t *host = softmmu_ram(cpu->bus_ctx, physical);
    uint64_t value = 0;
    if (host)
        memcpy(&value, host, size);
    return value;
}
static const struct x86_bus bus = {.phys_read = phys_read};

static const uint8_t *ram_at(struct samples *s, uint64_t linear, uint64_t *phys)
{
    const uint8_t *host = x86_translate_debug(&s->cpu, linear, phys) ? softmmu_ram(s->machine, *phys) : NULL;
    return host && softmmu_ram_page(s->machine, host) != ~0ull ? host : NULL;
}

static unsigned fetch(void *ctx, uint64_t linear, unsigned max, uint8_t *to)
{
    uint64_t phys, room = PAGE - (linear & (PAGE - 1));
    unsigned n = max < room ? max : (unsigned)room;
    const uint8_t *host = ram_at(ctx, linear, &phys);
    if (!host)
        return 0;
    memcpy(to, host, n);
    return n;
}

static bool read_all(struct samples *s, uint64_t linear, uint8_t *to, unsigned size)
{
    unsigned first = fetch(s, linear, size, to);
    return first == size || (first && fetch(s, linear + first, size - first, to + first) == size - first);
}

static uint64_t linear_of(struct samples *s, uint64_t pc)
{
    s->cpu.state.rip = pc;
    return tb_linear(&s->cpu.state);
}

static struct way way_to(struct samples *s, uint64_t pc)
{
    struct way w = {pc, ~0ull};
    if (!ram_at(s, linear_of(s, pc), &w.phys))
        w.phys = ~0ull;
    return w;
}

/* --- Instructions */
static struct place *place_of(const struct samples *s, uint64_t pc, uint64_t phys, uint32_t mode)
{
    uint32_t at = (uint32_t)((pc ^ phys << 9 ^ (uint64_t)mode << 40) * 0x9e3779b97f4a7c15ull >> 32) & s->mask;
    while (s->places[at].block && (s->places[at].pc != pc || s->places[at].phys != phys || s->places[at].mode != mode))
        at = (at + 1) & s->mask;
    return &s->places[at];
}

static bool places_grow(struct samples *s)
{
    uint32_t before = s->mask + 1;
    struct place *old = s->places;
    if (!(s->places = calloc(2ull * before, sizeof *s->places))) {
        s->places = old;
        return false;
    }
    s->mask = 2 * before - 1;
    for (uint32_t n = 0; n < before; n++)
        if (old[n].block)
            *place_of(s, old[n].pc, old[n].phys, old[n].mode) = old[n];
    free(old);
    return true;
}

/* The block that begins there; NONE: none is known. */
static uint32_t block_at(const struct samples *s, const struct way *w, uint32_t mode)
{
    const struct place *p = place_of(s, w->pc, w->phys, mode);
    return p->block && s->blocks[p->block - 1].pc == w->pc ? p->block - 1 : NONE;
}

/* A block that is entered has its instructions before one that begins earlier, and before what only a sample began. */
static bool takes_over(const struct sampled *b, const struct sampled *from) { return b->entered && (!from->entered || from->pc <= b->pc); }

static bool own(struct samples *s, uint32_t n, uint64_t offset)
{
    const struct sampled *b = &s->blocks[n];
    if (s->place_count > s->mask / 2 && !places_grow(s))
        return false;
    struct place *p = place_of(s, b->pc + offset, b->phys + offset, b->mode);
    if (p->block && !takes_over(b, &s->blocks[p->block - 1]))
        return true;
    s->place_count += !p->block;
    *p = (struct place){b->pc + offset, b->phys + offset, b->mode, n + 1, p->samples};
    return true;
}

static bool own_all(struct samples *s, uint32_t n)
{
    bool ok = true;
    for (ir_ref k = 0; k < s->ir.count && ok; k++)
        if (s->ir.insns[k].op == IR_insn)
            ok = own(s, n, (uint64_t)s->ir.insns[k].imm);
    return ok;
}

/* --- Blocks */
static void want(struct samples *s, uint64_t pc, bool entered)
{
    if (s->todo_count < sizeof s->todo / sizeof *s->todo)
        s->todo[s->todo_count++] = (struct todo){pc, entered};
}

/* In the page that it begins in, which has all but the rest of an instruction that straddles. */
static bool is_current(const struct samples *s, const struct sampled *b)
{
    uint64_t room = PAGE - (b->phys & (PAGE - 1));
    return !memcmp(b->bytes, softmmu_ram(s->machine, b->phys), b->size < room ? b->size : room);
}

static bool is_known(const struct samples *s, const struct way *w, bool entered)
{
    uint32_t n = block_at(s, w, s->cpu.state.mode);
    return n != NONE && s->blocks[n].entered >= entered && is_current(s, &s->blocks[n]);
}

static struct sampled *block_new(struct samples *s)
{
    if (s->count == s->room) {
        uint32_t room = s->room ? 2 * s->room : 1024;
        struct sampled *more = room <= MOST_BLOCKS ? realloc(s->blocks, room * sizeof *more) : NULL;
        if (!more)
            return NULL;
        s->blocks = more;
        s->room = room;
    }
    return &s->blocks[s->count];
}

static bool block_fill(struct samples *s, struct sampled *b, const struct way *at, bool entered)
{
    uint64_t linear = linear_of(s, at->pc);
    struct code_ways ways;
    *b = (struct sampled){.pc = at->pc, .phys = at->phys, .mode = s->cpu.state.mode, .entered = entered, .size = (uint16_t)s->ir.guest_bytes,
                          .insns = (uint16_t)s->ir.guest_insns, .behind.phys = ~0ull};
    if (!(b->bytes = malloc(b->size)) || !read_all(s, linear, b->bytes, b->size)) {
        free(b->bytes);
        return false;
    }
    code_ways(&s->ir, b->mode, b->pc, b->bytes, b->size, &ways);
    b->ending = (uint8_t)ways.ending;
    b->to_count = (uint8_t)ways.count;
    for (unsigned n = 0; n < ways.count; n++)
        b->to[n] = way_to(s, ways.to[n]);
    if (ways.ending == CODE_CALL || ways.ending == CODE_CALL_COMPUTED)
        b->behind = way_to(s, ir_cut(b->pc + b->size, x86_pc_bits(b->mode)));
    return true;
}

/* False: no memory, or too many blocks. */
static bool block_make(struct samples *s, const struct way *at, bool entered)
{
    const struct x86_fetch from = {.bytes = fetch, .ctx = s};
    const struct x86_lift_limits limits = {.insns = RECIPE_INSNS, .bytes = (unsigned)PAGE, .icount = machine_counts(s->machine)};
    struct sampled *b = block_new(s);
    ir_block_clear(&s->ir);
    if (!b)
        return false;
    if (!x86_lift(s->machine->model, s->cpu.state.mode, at->pc, linear_of(s, at->pc), &from, &limits, &s->ir) || !s->ir.guest_bytes)
        return true;
    if (s->ir.out_of_memory || !block_fill(s, b, at, entered))
        return false;
    s->count++;
    for (unsigned n = 0; n < b->to_count; n++)
        want(s, b->to[n].pc, true);
    if (b->behind.phys != ~0ull)
        want(s, b->behind.pc, true);
    return own_all(s, s->count - 1);
}

static void walk(struct samples *s)
{
    bool ok = true;
    for (unsigned n = 0, made = 0; ok && n < s->todo_count && made < WALK_BLOCKS; n++) {
        const struct todo *t = &s->todo[n];
        struct way at = way_to(s, t->pc);
        if (at.phys == ~0ull || is_known(s, &at, t->entered))
            continue;
        made++;
        ok = block_make(s, &at, t->entered);
    }
    s->todo_count = 0;
}

/* --- What the stack tells: a word behind a CALL is where that returns to, and where the CALL went a function begins. */
static void want_call(struct samples *s, uint64_t back)
{
    enum { CALL = 0xe8, GROUP5 = 0xff };
    uint8_t code[5];
    bool small = (s->cpu.state.mode & X86_MODE_CODE) == X86_MODE_CODE16;
    unsigned length = small ? 3 : 5;
    uint64_t at = ir_cut(back - length, x86_pc_bits(s->cpu.state.mode));
    if (!read_all(s, linear_of(s, at), code, length))
        return;
    if (code[0] == CALL) {
        int32_t by = small ? (int16_t)(code[1] | code[2] << 8) : (int32_t)(code[1] | code[2] << 8 | code[3] << 16 | (uint32_t)code[4] << 24);
        want(s, ir_cut(back + (uint64_t)(int64_t)by, x86_pc_bits(s->cpu.state.mode)), true);
        want(s, back, true);
    } else if ((code[length - 2] == GROUP5 && (code[length - 1] & 0xf8) == 0xd0) || (code[length - 3] == GROUP5 && (code[length - 2] & 0xf8) == 0x50)) {
        want(s, back, true); /* CALL reg, CALL [reg + disp8] */
    }
}

static void want_callers(struct samples *s)
{
    const struct x86_state *c = &s->cpu.state;
    unsigned width = x86_pc_bits(c->mode) / 8;
    bool flat = (c->mode & X86_MODE_CODE) == X86_MODE_CODE64;
    uint64_t sp = flat ? c->gpr[X86_RSP] : (uint32_t)(c->seg_base[X86_SS] + (c->mode & X86_MODE_SS32 ? (uint32_t)c->gpr[X86_RSP] : (uint16_t)c->gpr[X86_RSP]));
    for (unsigned n = 0; n < STACK_WORDS; n++) {
        uint64_t word = 0;
        if (!read_all(s, flat ? sp + n * width : (uint32_t)(sp + n * width), (uint8_t *)&word, width))
            return;
        if (word)
            want_call(s, word);
    }
}

/* --- A sample */
static struct samples *samples_of(struct vcpu *v)
{
    struct samples *s = v->samples;
    if (s || !v->machine->cache)
        return s;
    s = calloc(1, sizeof *s);
    if (!s || !(s->places = calloc(4096, sizeof *s->places))) {
        free(s);
        return NULL;
    }
    s->mask = 4095;
    s->machine = v->machine;
    ir_block_init(&s->ir);
    return v->samples = s;
}

static void look(struct samples *s, struct vcpu *v)
{
    s->cpu = v->cpu;
    s->cpu.bus = &bus;
    s->cpu.bus_ctx = v->machine;
    v->machine->config.accel->look(v->machine->accel, &s->cpu.state);
    s->cpu.state.shadow = 0; /* code does not run alone for it the next time */
    x86_mode_update(&s->cpu);
}

static bool count(struct samples *s, const struct way *at)
{
    struct place *p = place_of(s, at->pc, at->phys, s->cpu.state.mode);
    if (!p->block || !is_current(s, &s->blocks[p->block - 1]))
        return false;
    p->samples++;
    return true;
}

void profile_sample(struct vcpu *v)
{
    struct samples *s = samples_of(v);
    if (!s)
        return;
    look(s, v);
    if (s->cpu.state.halted)
        return;
    struct way at = way_to(s, s->cpu.state.rip);
    bool may = recipe_mode_valid(s->cpu.state.mode) && at.phys != ~0ull, known = may && count(s, &at);
    if (may && !known) {
        want(s, at.pc, false);
        want_callers(s);
        walk(s);
        known = count(s, &at);
    }
    v->stats.samples_guest += known;
    v->stats.samples_lost += !known;
    cache_tick(v);
}

/* --- How often the blocks ran */
struct estimate { uint64_t *runs; uint32_t *insns /* that the block has for itself */; uint32_t *before /* the only block that is known to jump there, or NONE */; };
enum { SEVERAL = NONE - 1 };

/* The guest is taken to run an instruction a cycle of its TSC. */
static void estimate_samples(const struct samples *s, struct estimate *e)
{
    uint64_t cycles_each = s->machine->tsc_khz * 1000 / s->machine->config.sample_hz;
    for (uint32_t n = 0; n <= s->mask; n++)
        if (s->places[n].block) {
            e->runs[s->places[n].block - 1] += s->places[n].samples;
            e->insns[s->places[n].block - 1]++;
        }
    for (uint32_t n = 0; n < s->count; n++)
        e->runs[n] = e->insns[n] ? e->runs[n] * cycles_each / e->insns[n] : 0;
}

static void raise(uint64_t *to, uint64_t by) { *to = *to < by ? by : *to; }

static void note_before(struct estimate *e, uint32_t to, uint32_t from)
{
    if (to != NONE && to != from)
        e->before[to] = e->before[to] == NONE ? from : SEVERAL;
}

/* A function's callers are not all known. */
static void find_before(const struct samples *s, struct estimate *e)
{
    memset(e->before, 0xff, s->count * sizeof *e->before);
    for (uint32_t n = 0; n < s->count; n++) {
        const struct sampled *b = &s->blocks[n];
        for (unsigned k = 0; k < b->to_count && b->ending != CODE_CALL; k++)
            note_before(e, block_at(s, &b->to[k], b->mode), n);
        note_before(e, block_at(s, &b->behind, b->mode), n);
    }
}

/* What ran goes on somewhere; what has one way in was come to by it.  guess: where it may go two ways and neither is known to run so often, by halves. */
static void estimate_flow(const struct samples *s, struct estimate *e, uint32_t n, bool guess)
{
    const struct sampled *b = &s->blocks[n];
    uint32_t to[2], behind = block_at(s, &b->behind, b->mode);
    uint64_t there = 0;
    unsigned known = 0;
    for (unsigned k = 0; k < b->to_count; k++)
        if ((to[known] = block_at(s, &b->to[k], b->mode)) != NONE)
            there += e->runs[to[known++]];
    if (behind != NONE)
        raise(&e->runs[behind], e->runs[n]);
    for (unsigned k = 0; k < known && known == b->to_count && (known == 1 || guess) && there < e->runs[n]; k++)
        e->runs[to[k]] += (e->runs[n] - there) / known;
    if (e->before[n] < SEVERAL)
        raise(&e->runs[e->before[n]], e->runs[n]);
}

static unsigned tell(const struct samples *s, const struct estimate *e, struct profile_block *to)
{
    unsigned told = 0;
    for (uint32_t n = 0; n < s->count; n++) {
        const struct sampled *b = &s->blocks[n];
        if (b->entered && e->runs[n] >= LEAST)
            to[told++] = (struct profile_block){.mode = b->mode, .size = b->size, .page_offset = (uint16_t)(b->phys & (PAGE - 1)), .bytes = b->bytes, .pc = b->pc,
                                                .count = e->runs[n]};
    }
    return told;
}

unsigned profile_sampled_count(const struct vcpu *v) { return v->samples ? v->samples->count : 0; }

unsigned profile_sampled(const struct vcpu *v, struct profile_block *to)
{
    const struct samples *s = v->samples;
    unsigned told = 0;
    if (!s || !s->count)
        return 0;
    struct estimate e = {calloc(s->count, sizeof *e.runs), calloc(s->count, sizeof *e.insns), calloc(s->count, sizeof *e.before)};
    if (e.runs && e.insns && e.before) {
        estimate_samples(s, &e);
        find_before(s, &e);
        for (unsigned k = 0; k < ROUNDS; k++)
            for (uint32_t n = 0; n < s->count; n++)
                estimate_flow(s, &e, n, k >= ROUNDS / 2);
        told = tell(s, &e, to);
    }
    free(e.runs);
    free(e.insns);
    free(e.before);
    return told;
}

void profile_sample_free(struct vcpu *v)
{
    struct samples *s = v->samples;
    for (uint32_t n = 0; s && n < s->count; n++)
        free(s->blocks[n].bytes);
    if (s) {
        ir_block_free(&s->ir);
        free(s->blocks);
        free(s->places);
    }
    free(s);
    v->samples = NULL;
}
