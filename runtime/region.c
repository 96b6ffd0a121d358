/* Regions that are installed: from the object into the code buffer, entered by patching the entry of the template block at its
 * head, thrown away when bytes or mappings change. */
#include "runtime/job.h"
#include <stdlib.h>
#include <string.h>

struct area_piece { struct area_piece *next, *previous; size_t at, size; }; /* in use, by offset */

/* To compile costs as much as some hundred thousand runs of an instruction save. */
static int32_t threshold(const struct vcpu *v)
{
    uint32_t t = v->machine->config.hot_threshold;
    if (v->machine->config.tier == TIER_LLVM)
        return INT32_MAX; /* compiled before it is entered */
    return (int32_t)(t ? t : v->machine->config.stress ? 1 : 300000);
}

void regions_set(struct vcpu *v)
{
    const struct machine_config *c = &v->machine->config;
    v->regions.on = (c->tier == TIER_LLVM || c->tier == TIER_TIERED) && !(c->trace & TRACE_EACH_BLOCK);
}

void regions_stop_recording(struct vcpu *v)
{
    if (v->regions.recorder)
        profile_drop(v);
}

bool regions_init(struct vcpu *v)
{
    struct regions *r = &v->regions;
    r->random = v->machine->config.stress | 1;
    v->tcg.region_flags = llvm_flags;
    v->tcg.map_epoch[0] = v->tcg.map_epoch[1] = 1;
    cache_translator(v->machine->model, r->translator);
    regions_set(v);
    if (!(r->free_counters = malloc((COUNTERS - 1) * sizeof *r->free_counters)))
        return false;
    while (r->free_count < COUNTERS - 1) {
        r->free_counters[r->free_count] = COUNTERS - 1 - r->free_count;
        r->free_count++;
    }
    return true;
}

/* --- Counters */
void region_counter_set(struct vcpu *v, struct tb *tb, int32_t from)
{
    if (!tb->counter)
        return;
    tb->ran += (uint64_t)((int64_t)tb->counted_from - v->counters[tb->counter]);
    v->counters[tb->counter] = tb->counted_from = from;
}

uint64_t region_ran(const struct vcpu *v, const struct tb *tb)
{
    uint64_t here = tb->counter ? (uint64_t)((int64_t)tb->counted_from - v->counters[tb->counter]) : 0;
    return tb->ran + here + (tb->unit ? tb->unit->data.entries : 0);
}

void region_counter_new(struct vcpu *v, struct tb *tb)
{
    struct regions *r = &v->regions;
    if (!r->on || !r->free_count || v->cpu.state.mode & X86_MODE_SHADOW) /* a shadow ends after its one instruction, wherever that goes on */
        return;
    tb->counter = r->free_counters[--r->free_count];
    if (r->made_ns)
        r->made_ns[tb->counter] = machine_host_ns();
    v->counters[tb->counter] = tb->counted_from = threshold(v);
}

void region_counter_free(struct vcpu *v, uint32_t n)
{
    if (n)
        v->regions.free_counters[v->regions.free_count++] = n;
}

int32_t region_counter_offset(uint32_t n)
{
    return n ? (int32_t)(offsetof(struct vcpu, counters) + n * sizeof(int32_t) - offsetof(struct vcpu, cpu)) : 0;
}

/* --- Room in the code buffer */
/* The first room behind `from`, or at the begin where that is NULL; size 0: none. */
static struct area_piece room_behind(struct vcpu *v, struct area_piece *from, size_t size)
{
    size_t begin = v->tbs.buffer_size, end = begin + REGION_AREA;
    struct area_piece *next = from ? from->next : v->regions.area;
    for (begin = from ? from->at + from->size : begin; next && next->at - begin < size; next = next->next) {
        begin = next->at + next->size;
        from = next;
    }
    return (struct area_piece){next, from, begin, next || end - begin >= size ? size : 0};
}

/* From where the last piece was taken on: there may be thousands. */
static struct area_piece *area_take(struct vcpu *v, size_t size)
{
    struct area_piece *piece = malloc(sizeof *piece), **last = &v->regions.area_last;
    size = (size + 63) & ~(size_t)63;
    struct area_piece found = room_behind(v, *last, size);
    if (!found.size && *last)
        found = room_behind(v, NULL, size);
    if (!found.size || !piece) {
        free(piece);
        return NULL;
    }
    *piece = found;
    if (piece->next)
        piece->next->previous = piece;
    return *last = *(piece->previous ? &piece->previous->next : &v->regions.area) = piece;
}

static void area_give(struct vcpu *v, struct area_piece *piece)
{
    if (v->regions.area_last == piece)
        v->regions.area_last = piece->previous;
    if (piece->next)
        piece->next->previous = piece->previous;
    *(piece->previous ? &piece->previous->next : &v->regions.area) = piece->next;
    free(piece);
}

/* --- Going */
static unsigned page_hash(uint64_t linear) { return (unsigned)((linear >> 12) * 0x9e3779b97f4a7c15ull >> 54) % REGION_PAGES; }

void region_page_count(struct vcpu *v, uint64_t linear, int by) { v->regions.pages[page_hash(linear)] = (uint16_t)(v->regions.pages[page_hash(linear)] + by); }

/* Its memory stays until regions_reap: it may be running. */
void region_uninstall(struct vcpu *v, struct llvm_unit *u)
{
    if (!u->head)
        return;
    region_unlink(v, u->head);
    links_drop(v, u);
    tcg_redirect(v->tbs.buffer, &u->head->code, NULL);
    u->head->unit = NULL;
    u->head->ran += u->data.entries;
    region_counter_set(v, u->head, threshold(v));
    if (u->cached)
        cache_lost(v, u->head);
    u->head = NULL;
    for (unsigned n = 0; n < u->watch_count; n++)
        if (u->watches[n]->state == TB_LIVE) {
            u->watches[n]->state = TB_STALE;
            code_pages_deaden(v, u->watches[n]);
        }
    for (unsigned n = 0; n < u->page_count; n++)
        region_page_count(v, u->pages[n].linear, -1);
    if ((*u->prev = u->next))
        u->next->prev = u->prev;
    u->next = v->regions.dead;
    v->regions.dead = u;
    __atomic_store_n(&v->cpu.state.stop, 1, __ATOMIC_SEQ_CST);
    v->stats.regions_dropped++;
}

void regions_drop(struct vcpu *v)
{
    while (v->regions.units)
        region_uninstall(v, v->regions.units);
}

static void count_in(struct vcpu *v, struct llvm_unit *u)
{
    struct llvm_data *d = &u->data;
    uint64_t *to = &v->stats.exits_known;
    region_counted(v, &u->record, d, u->area ? u->area->at : 0, u->area ? u->area->size : 0);
    v->stats.region_entries += d->entries;
    for (unsigned n = 0; n < LLVM_CAUSES; n++)
        to[n] += d->exits[n];
    v->stats.region_run += d->insns;
    v->stats.cache_run += u->cached ? d->insns : 0;
    d->entries = d->insns = 0;
    memset(d->exits, 0, sizeof d->exits);
}

void regions_count(struct vcpu *v)
{
    for (struct llvm_unit *u = v->regions.units; u; u = u->next)
        count_in(v, u);
    cache_count(v);
}

void regions_judge(struct vcpu *v, void (*each)(struct vcpu *, const struct region_record *))
{
    for (struct llvm_unit *u = v->regions.units; u; u = u->next)
        each(v, &u->record);
}

static void unit_free(struct vcpu *v, struct llvm_unit *u)
{
    count_in(v, u);
    region_gone(v, &u->record);
    for (unsigned n = 0; n < u->watch_count; n++)
        tb_unwatch(v, u->watches[n]);
    if (u->area)
        area_give(v, u->area);
    gdb_jit_remove(u->gdb);
    free(u->watches);
    free(u->pages);
    free(u->members);
    free(u->data.links);
    free(u->links);
    free(u);
}

void regions_reap(struct vcpu *v)
{
    while (v->regions.dead) {
        struct llvm_unit *u = v->regions.dead;
        v->regions.dead = u->next;
        unit_free(v, u);
    }
}

void regions_free(struct vcpu *v)
{
    profile_drop(v);
    profile_free(v);
    worker_free(v);
    regions_drop(v);
    regions_reap(v);
}

void regions_end(struct vcpu *v) { free(v->regions.free_counters); }

/* --- Mappings: a region is entered where its head's block is, so that page is right; the others are looked at when a mapping may have
 * changed since they were last. */
void regions_remapped(struct vcpu *v, bool global)
{
    v->tcg.map_epoch[0]++;
    v->tcg.map_epoch[1] += global;
}

void regions_remapped_page(struct vcpu *v, uint64_t linear)
{
    if (v->regions.pages[page_hash(linear)])
        regions_remapped(v, true);
}

bool region_is_mapped_so(struct vcpu *v, const struct unit_page *pages, unsigned count)
{
    for (unsigned n = 0; n < count; n++) {
        uint64_t phys;
        if (!softmmu_fetch_page(v, pages[n].linear, &phys)) {
            v->cpu.state.faulted = 0;
            return false;
        }
        if (phys != pages[n].phys)
            return false;
    }
    return true;
}

/* --- Coming */
static void pages_add(struct llvm_unit *u, uint64_t linear, uint64_t phys)
{
    for (unsigned n = 0; n < u->page_count; n++)
        if (u->pages[n].linear == (linear & PAGE_MASK))
            return;
    u->pages[u->page_count++] = (struct unit_page){linear & PAGE_MASK, phys & PAGE_MASK};
}

uint64_t mode_linear(const struct vcpu *v, uint32_t mode, uint64_t pc)
{
    return (mode & X86_MODE_CODE) == X86_MODE_CODE64 ? pc : (uint32_t)(v->cs_base + pc);
}

bool job_same_bytes(struct vcpu *v, const struct job_block *b)
{
    unsigned room = (unsigned)(PAGE - (b->phys & (PAGE - 1))), first = b->bytes < room ? b->bytes : room;
    const uint8_t *one = softmmu_ram(v->machine, b->phys), *two = first < b->bytes ? softmmu_ram(v->machine, b->phys2) : NULL;
    return one && !memcmp(one, b->copy, first) && (first == b->bytes || (two && !memcmp(two, b->copy + first, b->bytes - first)));
}

static bool unit_describe(struct vcpu *v, struct llvm_unit *u, const struct llvm_job *j)
{
    unsigned count = j->recipe.block_count;
    u->mode = j->mode;
    u->global = j->global;
    u->loops = j->loops;
    u->insns = j->compiled.guest_insns;
    u->cs_base = v->cs_base;
    u->watches = calloc(count, sizeof *u->watches);
    u->pages = calloc(2 * count, sizeof *u->pages);
    u->members = calloc(count, sizeof *u->members);
    if (!u->watches || !u->pages || !u->members)
        return false;
    for (unsigned n = 0; n < count; n++) {
        const struct job_block *b = &j->of[n];
        uint64_t linear = job_linear(v, j, b->pc);
        bool same = j->view || job_same_bytes(v, b); /* of the cache: they were compared a moment ago */
        if (!same || !(u->watches[u->watch_count] = tb_watch(v, u, b->pc, b->phys, b->phys2, b->bytes)))
            return false;
        u->watch_count++;
        u->members[u->member_count][0] = b->phys;
        u->members[u->member_count++][1] = b->pc;
        pages_add(u, linear, b->phys);
        if (b->phys2 != ~0ull)
            pages_add(u, linear + b->bytes - 1, b->phys2);
    }
    return true;
}

/* To perf and gdb; the way in, behind the function, is called by its name. */
static void unit_tell(struct vcpu *v, struct llvm_unit *u, const struct llvm_job *j, const struct object_view *view, size_t size)
{
    const struct perf_code code = {"llvm", job_linear(v, j, j->of[0].pc), j->mode, tcg_buffer_runnable(v->tbs.buffer, u->area->at), size,
                                   view->meta.lines, view->meta.line_count};
    char name[256] = "region_";
    perf_code_added(v->machine, &code);
    if (!v->machine->config.gdb_jit)
        return;
    symbols_print(v->machine->symbols, code.linear, name + 7, sizeof name - 7);
    u->gdb = gdb_jit_add(v->machine, j->compiled.elf, j->compiled.elf_size, name, code.code);
}

static bool unit_load(struct vcpu *v, struct llvm_unit *u, const struct llvm_job *j, const struct object_view *view)
{
    size_t size = llvm_entry_at(view) + TCG_REGION_ENTRY;
    bool linkable = links_make(v, u, j, &view->meta);
    while (linkable && !(u->area = area_take(v, size)) && v->regions.units) {
        struct llvm_unit *oldest = v->regions.units;
        while (oldest->next)
            oldest = oldest->next;
        region_uninstall(v, oldest);
        regions_reap(v); /* in the cpu loop: none runs */
    }
    if (u->area) {
        struct tcg_region_entry e = {.pc = j->of[0].pc, .data = &u->data, .valid = u->page_count > 1 ? &u->valid : NULL, .global = u->global};
        u->enter = llvm_place(v->tbs.buffer, u->area->at, view, &v->guest, &e);
        u->code = e.code;
        unit_tell(v, u, j, view, size);
    }
    return u->area;
}

static void count_new(struct vcpu *v, const struct llvm_job *j, const struct object_view *view)
{
    if (j->view) {
        v->stats.cache_hits++;
        v->stats.cache_insns += view->meta.guest_insns;
        v->stats.cache_bytes += view->text_size;
        return;
    }
    v->stats.regions++;
    v->stats.region_insns += view->meta.guest_insns;
    v->stats.region_bytes += view->text_size;
}

static struct tb *install(struct vcpu *v, const struct llvm_job *j, const struct object_view *view)
{
    struct tb *head = j->foreign_writes == v->regions.foreign_writes ? tb_live(v, j->of[0].phys, j->of[0].phys2, j->of[0].pc, j->mode) : NULL;
    struct llvm_unit *u;
    if (!head || !head->code.body || !(u = calloc(1, sizeof *u)))
        return NULL;
    if (head->unit)
        region_uninstall(v, head->unit);
    u->cached = j->view;
    if (!unit_describe(v, u, j) || !unit_load(v, u, j, view)) {
        u->page_count = 0;
        unit_free(v, u);
        return NULL;
    }
    u->head = head;
    head->unit = u;
    for (unsigned n = 0; n < u->page_count; n++)
        region_page_count(v, u->pages[n].linear, 1);
    if ((u->next = v->regions.units))
        u->next->prev = &u->next;
    u->prev = &v->regions.units;
    v->regions.units = u;
    tcg_redirect(v->tbs.buffer, &head->code, u->enter);
    region_unlink(v, head); /* what led to the block shall lead here */
    count_new(v, j, view);
    u->record.compile_ns = j->compiled.build_ns + j->compiled.pass_ns + j->compiled.emit_ns;
    if (j->hot_ns)
        stats_value(v, SPREAD_region_wait_ms, (double)(machine_host_ns() - j->hot_ns) / 1e6);
    if (j->first_ns)
        stats_value(v, SPREAD_region_first_ms, (double)(machine_host_ns() - j->first_ns) / 1e6);
    return head;
}

/* The template block at the head is there, or the region is not worth it: nothing runs there any more. */
struct tb *region_install(struct vcpu *v, struct llvm_job *j)
{
    struct object_view view;
    char error[120];
    if (j->view)
        return install(v, j, j->view);
    v->stats.regions_failed += !j->ok;
    v->stats.region_build_ns += j->compiled.build_ns;
    v->stats.region_pass_ns += j->compiled.pass_ns;
    v->stats.region_emit_ns += j->compiled.emit_ns;
    if (!j->ok || !object_open(j->compiled.elf, j->compiled.elf_size, &view, error, sizeof error))
        return NULL;
    struct tb *head = install(v, j, &view);
    object_close(&view);
    return head;
}

bool region_covers(const struct vcpu *v, const struct tb *tb)
{
    for (const struct llvm_unit *u = v->regions.units; u; u = u->next)
        for (unsigned n = 1; n < u->member_count && u->mode == tb->mode; n++)
            if (u->members[n][0] == tb->phys && u->members[n][1] == tb->pc)
                return true;
    return false;
}

void regions_mark(struct vcpu *v)
{
    for (struct llvm_unit *u = v->regions.units; u; u = u->next)
        u->marked = u->data.entries;
}

static bool has_member(const struct llvm_unit *u, uint64_t pc)
{
    for (unsigned n = 0; n < u->member_count; n++)
        if (u->members[n][1] == pc)
            return true;
    return false;
}

bool regions_trace(struct vcpu *v, uint64_t pc, FILE *f)
{
    bool any = false;
    for (struct llvm_unit *u = v->regions.units; u; u = u->next) {
        if (u->data.entries == u->marked)
            continue;
        fprintf(f, "The region at %lx, of %u blocks, was entered %lu times.\n", u->members[0][1], u->member_count, u->data.entries - u->marked);
        if (!has_member(u, pc))
            continue;
        any = true;
        trace_host(v, "region", u->members[0][1], tcg_buffer_runnable(v->tbs.buffer, u->area->at), u->area->size);
    }
    return any;
}

bool region_entered(const struct vcpu *v, uint64_t phys, uint64_t pc, uint32_t mode, uint64_t *entries)
{
    for (const struct llvm_unit *u = v->regions.units; u; u = u->next)
        if (u->members[0][0] == phys && u->members[0][1] == pc && u->mode == mode) {
            *entries = u->record.entries + u->data.entries;
            return true;
        }
    return false;
}

/* --- Regions that do not keep what they promised */
enum { SIDE_EXITS = 512 /* so many are looked at together */, REBUILDS = 3, REGROWN = 2 };

/* After a side exit: a region that leaves so for every few entries is thrown away, and what runs there is recorded anew; after some
 * times it is left to template code. */
void region_side_exit(struct vcpu *v, bool missed)
{
    struct llvm_data *d = v->tcg.region_left;
    if (!d)
        return; /* it was template code that left */
    struct llvm_unit *u = (struct llvm_unit *)((char *)d - offsetof(struct llvm_unit, data));
    u->excused += missed;
    uint64_t side = d->exits[LLVM_SIDE_ACCESS] + d->exits[LLVM_SIDE_GUARD] - u->excused;
    if (!u->head || side < u->looked_at + SIDE_EXITS)
        return;
    bool many = side - u->looked_at > (d->entries - u->entries_then) / 16;
    u->looked_at = side;
    u->entries_then = d->entries;
    if (!many || v->machine->config.tier != TIER_TIERED)
        return;
    struct tb *head = u->head;
    region_uninstall(v, u);
    head->rebuilds++;
    v->stats.regions_rebuilt++;
    region_counter_set(v, head, head->rebuilds > REBUILDS ? INT32_MAX : threshold(v));
}

/* A loop that is left for this block more often than not: what runs has changed since it was recorded. */
static struct llvm_unit *outgrown(const struct tb *tb)
{
    for (const struct region_link *l = tb->region_links; l; l = l->next) {
        struct llvm_unit *u = l->from;
        if (u->loops && u->insns < REGION_INSNS / 2 && u->data.exits[LLVM_EXIT] > u->data.entries / 2 && u->head->regrown < REGROWN)
            return u;
    }
    return NULL;
}

/* It is recorded anew, which ends with what it has now, or more. */
static void regrow(struct vcpu *v, struct llvm_unit *u)
{
    struct tb *head = u->head;
    region_uninstall(v, u);
    head->regrown++;
    head->covered = true; /* whatever other region has it inside */
    v->stats.regions_regrown++;
}

/* --- Entries that are not plain */
static const void *revalidated(struct vcpu *v, struct tb *tb)
{
    struct llvm_unit *u = tb->unit;
    if (u->cs_base == v->cs_base && region_is_mapped_so(v, u->pages, u->page_count)) {
        u->valid = v->tcg.map_epoch[u->global];
        u->strangers = 0;
        return u->enter;
    }
    if (++u->strangers > 1000)
        region_uninstall(v, u);
    return tcg_body(&tb->code);
}

const void *region_hot(struct vcpu *v)
{
    struct tb *tb = tb_here(v);
    if (!tb)
        return NULL;
    if (tb->unit)
        return revalidated(v, tb);
    region_counter_set(v, tb, threshold(v));
    if (tb->look_later)
        cache_look(v, tb);
    if (tb->unit)
        return revalidated(v, tb);
    if (tb->look_later || v->regions.recorder)
        return tcg_body(&tb->code);
    struct llvm_unit *left = outgrown(tb);
    if (left) {
        regrow(v, left);
        return tcg_body(&tb->code);
    }
    bool pending = worker_has(v, tb->phys, tb->pc, tb->mode);
    if (pending || (!tb->covered && region_covers(v, tb))) { /* that may be enough; where it is not, it comes by again */
        tb->covered = !pending;
        region_counter_set(v, tb, 4 * threshold(v));
        return tcg_body(&tb->code);
    }
    profile_begin(v, tb);
    return v->regions.recorder ? NULL : tcg_body(&tb->code);
}

void region_make_now(struct vcpu *v, struct tb *tb)
{
    struct llvm_job *j;
    if (v->machine->config.tier != TIER_LLVM || tb->covered || tb->unit || !tb->code.body)
        return;
    tb->covered = true; /* tried once */
    if (!(j = profile_static(v, tb)))
        return;
    enum stats_clock before = stats_enter(v, STATS_emit);
    job_compile(j);
    stats_enter(v, before);
    region_install(v, j);
    job_free(j);
}

void regions_serve(struct vcpu *v)
{
    struct llvm_job *j;
    if (!v->regions.on)
        return;
    if (v->machine->config.stress && v->regions.units && (region_random(v) >> 16) % 4096 == 0)
        region_uninstall(v, v->regions.units); /* thrown away at random */
    cache_tick(v);
    if (v->regions.dead)
        regions_reap(v);
    while ((j = worker_done(v))) {
        region_install(v, j);
        job_free(j);
    }
}
