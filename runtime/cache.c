/* The translation cache of a running machine: what is looked up when a block is translated, and what is kept of what was compiled.  Files are
 * the store's; what an object and its recipe promise is held against the guest's memory here, before the code runs. */
#include "runtime/cache_templates.h"
#include "runtime/job.h"
#include <stdlib.h>
#include <string.h>

enum { LOOKS = 6 /* at one place, for a region whose pages are not all mapped, further and further apart */, FIRST_LOOK = 100 };
struct cache {
    struct store *store;
    struct templates *templates;
    atomic_ullong puts;
    unsigned ticks; uint64_t told_ns; /* when what ran was last written */
    pthread_t teller; bool telling, saved; atomic_bool told;
    struct profile_taken *taken;
    pthread_t preloader; bool preloading; atomic_bool end; size_t preloaded;
    const uint64_t *translator;
    struct job_block of[RECIPE_BLOCKS]; /* of the region that is being installed */
};

static void warn(void *ctx, const char *line)
{
    (void)ctx;
    fprintf(stderr, "tierce: cache: %s\n", line);
}

/* --- Objects are read once, so that the host has them in memory when the guest asks. */
#define PRELOAD_BYTES (256u << 20)
static bool preload_one(void *ctx, const struct store_entry *e)
{
    struct cache *c = ctx;
    struct store_object o;
    if (store_get_key(c->store, &e->key, &o)) {
        c->preloaded += o.size;
        store_release(&o);
    }
    return !atomic_load(&c->end) && c->preloaded < PRELOAD_BYTES;
}

static void *preload(void *arg)
{
    struct cache *c = arg;
    store_each(c->store, true, preload_one, c);
    return NULL;
}

static void preload_end(struct cache *c)
{
    atomic_store(&c->end, true);
    if (c->preloading)
        pthread_join(c->preloader, NULL);
    c->preloading = false;
}

bool cache_open(struct machine *m, char *error, size_t size)
{
    const struct machine_cache *c = &m->config.cache;
    const struct store_options options = {.path = c->path, .layers = c->layers, .layer_count = c->layer_count, .max_bytes = c->max_bytes,
                                          .remote = c->remote, .warn = warn};
    char why[300];
    if (m->cache || !c->path || (m->config.tier != TIER_TIERED && !m->config.handover_count && !m->config.sample_hz) || m->config.stress)
        return true;
    struct cache *cache = calloc(1, sizeof *cache);
    if (cache && (cache->store = store_open(&options, why, sizeof why))) {
        cache->told_ns = machine_host_ns();
        cache->translator = m->vcpu->regions.translator;
        cache->templates = templates_begin(cache->store, cache->translator, machine_counts(m));
        cache->preloading = c->preload && thread_without_signals(&cache->preloader, preload, cache);
        m->cache = cache; /* the worker may run already */
        return true;
    }
    if (!cache)
        snprintf(why, sizeof why, "out of memory");
    free(cache);
    if (c->named)
        snprintf(error, size, "--cache: %s", why);
    else
        fprintf(stderr, "tierce: cache: %s; going on without\n", why);
    return !c->named;
}

void cache_enter(struct machine *m)
{
    char error[400];
    if (!cache_open(m, error, sizeof error))
        fprintf(stderr, "tierce: %s; going on without\n", error);
}

/* --- What ran */
enum { TICKS = 4096, TELL_AFTER_S = 30 };
static void *tell(void *arg)
{
    struct cache *c = arg;
    profile_keep(c->store, c->translator, c->taken);
    atomic_store(&c->told, true);
    return NULL;
}

static void tell_end(struct cache *c)
{
    if (!c->telling)
        return;
    pthread_join(c->teller, NULL);
    profile_taken_free(c->taken);
    c->taken = NULL;
    c->telling = false;
}

static void tell_begin(struct vcpu *v, struct cache *c)
{
    if (c->telling && !atomic_load(&c->told))
        return;
    tell_end(c);
    c->told_ns = machine_host_ns();
    if (!(c->taken = profile_take(v)))
        return;
    atomic_store(&c->told, false);
    c->telling = thread_without_signals(&c->teller, tell, c);
    if (!c->telling) {
        profile_taken_free(c->taken);
        c->taken = NULL;
    }
}

void cache_tick(struct vcpu *v)
{
    struct cache *c = v->machine->cache;
    if (c && !(++c->ticks % TICKS) && machine_host_ns() - c->told_ns > TELL_AFTER_S * 1000000000ull)
        tell_begin(v, c);
}

void cache_forgetting(struct vcpu *v)
{
    if (!v->machine->cache)
        return;
    tell_begin(v, v->machine->cache);
    if (v->machine->cache->templates)
        templates_keep(v->machine->cache->templates, v);
}

void machine_cache_save(struct machine *m)
{
    struct cache *c = m->cache;
    if (!c || c->saved)
        return;
    tell_end(c);
    if ((c->taken = profile_take(m->vcpu)))
        profile_keep(c->store, c->translator, c->taken);
    profile_taken_free(c->taken);
    c->taken = NULL;
    if (c->templates)
        templates_keep(c->templates, m->vcpu);
    c->saved = true;
    store_flush(c->store);
    if (c->templates)
        templates_wait(c->templates);
}

void cache_close(struct machine *m)
{
    if (!m->cache)
        return;
    preload_end(m->cache);
    templates_end(m->cache->templates);
    store_close(m->cache->store);
    free(m->cache);
    m->cache = NULL;
}

/* With lines (--jitdump) an object has more than its key says. */
void cache_keep(struct llvm_job *j)
{
    struct cache *c = j->machine->cache;
    if (c && j->ok && !j->options.lines && store_put(c->store, &j->key, j->compiled.elf, j->compiled.elf_size))
        atomic_fetch_add(&c->puts, 1);
}

void cache_count(struct vcpu *v)
{
    const struct tb *tb = v->tbs.ahead;
    if (!v->machine->cache)
        return;
    v->stats.cache_puts = atomic_load(&v->machine->cache->puts);
    v->stats.templates_run = 0;
    for (size_t n = v->tbs.count; n; n--, tb = tb->after)
        v->stats.templates_run += tb->cached ? region_ran(v, tb) * tb->insns : 0;
}

/* --- Does it fit what lies there? */
enum fit { FITS, CHANGED, NOT_MAPPED, FOREIGN };

static bool page_of(struct vcpu *v, uint64_t linear, uint64_t *phys, bool *global)
{
    const struct exec_entry *e = softmmu_fetch(v, linear);
    if (!e) {
        v->cpu.state.faulted = 0;
        return false;
    }
    *phys = e->phys | (linear & (PAGE - 1));
    *global &= e->global;
    return true;
}

/* room: for its bytes, where they are moved. */
static enum fit block_fits(struct vcpu *v, struct llvm_job *j, unsigned n, uint64_t pc, uint8_t *room)
{
    const struct recipe_block *r = &j->recipe.blocks[n];
    struct job_block *b = &j->of[n];
    uint64_t linear;
    *b = (struct job_block){.pc = ir_cut(pc + (uint64_t)r->pc, x86_pc_bits(j->mode)), .phys2 = ~0ull, .bytes = r->size};
    b->copy = (uint8_t *)(uintptr_t)recipe_block_moved(r, b->pc, room);
    linear = job_linear(v, j, b->pc);
    if (!b->copy || (linear & (PAGE - 1)) != r->page_offset)
        return CHANGED;
    if (!page_of(v, linear, &b->phys, &j->global))
        return NOT_MAPPED;
    uint64_t end = linear + r->size - 1;
    if ((end ^ linear) & PAGE_MASK) {
        if (!page_of(v, end, &b->phys2, &j->global))
            return NOT_MAPPED;
        b->phys2 &= PAGE_MASK;
    }
    return job_same_bytes(v, b) ? FITS : CHANGED;
}

static size_t moved_bytes(const struct recipe *r)
{
    size_t size = 0;
    for (unsigned n = 0; n < r->block_count; n++)
        size += r->blocks[n].reloc_count ? r->blocks[n].size : 0;
    return size;
}

static enum fit fits(struct vcpu *v, struct llvm_job *j, const struct tb *tb, uint8_t *room)
{
    enum fit fit = FITS;
    for (unsigned n = 0; n < j->recipe.block_count && fit == FITS; n++) {
        fit = block_fits(v, j, n, tb->pc, room);
        room += j->recipe.blocks[n].reloc_count ? j->recipe.blocks[n].size : 0;
    }
    return fit;
}

/* What the object says of itself must be what its key says. */
static bool is_what_it_says(struct vcpu *v, const struct store_object *o, const struct object_view *view, const struct recipe *r)
{
    struct store_key key;
    uint8_t bytes[32];
    recipe_key(v->regions.translator, r, view->meta.recipe, &key);
    recipe_key_put(&key, bytes);
    return !memcmp(&key, &o->key, sizeof key) && !memcmp(bytes, view->meta.key, sizeof bytes) && r->icount == machine_counts(v->machine);
}

static enum fit install(struct vcpu *v, struct tb *tb, const struct store_object *o)
{
    struct object_view view;
    char error[200];
    enum fit fit = FOREIGN;
    if (!object_open(o->data, o->size, &view, error, sizeof error))
        return FOREIGN;
    struct recipe *r = recipe_read(view.meta.recipe, view.meta.recipe_size, error, sizeof error);
    if (r && r->mode == tb->mode && is_what_it_says(v, o, &view, r)) {
        struct llvm_job j = {.machine = v->machine, .mode = tb->mode, .global = true, .foreign_writes = v->regions.foreign_writes, .recipe = *r,
                             .of = v->machine->cache->of, .compiled = {.elf = (uint8_t *)(uintptr_t)o->data, .elf_size = o->size}, .view = &view};
        size_t moved = moved_bytes(r);
        uint8_t *room = malloc(moved + 1);
        fit = room ? fits(v, &j, tb, room) : CHANGED;
        if (fit == FITS && !region_install(v, &j))
            fit = CHANGED;
        v->stats.cache_moved += fit == FITS && moved;
        free(room);
    }
    free(r);
    object_close(&view);
    return fit;
}

/* --- Template code.  What runs under a debugger, a trace or a profiler of ours is translated anew. */
bool cache_keeps_templates(const struct vcpu *v)
{
    const struct machine *m = v->machine;
    return m->cache && m->cache->templates && m->config.tier == TIER_TIERED && !m->config.trace && !m->perf && !m->debug.code && !v->most_insns;
}

bool cache_template(struct vcpu *v, uint64_t phys, struct template_found *to)
{
    const uint8_t *host;
    if (!cache_keeps_templates(v) || !(host = softmmu_ram(v->machine, phys)) || softmmu_ram_page(v->machine, host) == ~0ull)
        return false;
    enum stats_clock before = stats_enter(v, STATS_cache);
    bool found = templates_find(v->machine->cache->templates, v->cpu.state.mode, v->cpu.state.rip, host, to);
    stats_enter(v, before);
    return found;
}

/* --- Looking up */
static void look_later(struct vcpu *v, struct tb *tb)
{
    if ((tb->look_later = tb->counter && tb->looks < LOOKS))
        region_counter_set(v, tb, FIRST_LOOK << 2 * tb->looks++);
}

static void look(struct vcpu *v, struct tb *tb)
{
    struct store *s = v->machine->cache->store;
    struct store_object o;
    struct recipe_block first = {.size = tb->head, .page_offset = (uint16_t)(tb->phys & (PAGE - 1)), .bytes = tb->copy};
    uint64_t head[2];
    bool damaged, later = false;
    void *made;
    tb->look_later = false;
    v->stats.cache_lookups++;
    if (!recipe_block_unmoved(&first, tb->mode, tb->pc, &made))
        return;
    cache_head(v->regions.translator, tb->mode, machine_counts(v->machine), &first, head);
    free(made);
    for (unsigned n = 0; !tb->unit; n++) {
        if (!store_get(s, head, n, &o, &damaged)) {
            v->stats.cache_damaged += damaged;
            if (damaged)
                continue;
            break;
        }
        enum fit fit = install(v, tb, &o);
        store_release(&o);
        v->stats.cache_changed += fit == CHANGED;
        v->stats.cache_later += fit == NOT_MAPPED;
        v->stats.cache_foreign += fit == FOREIGN;
        later |= fit == NOT_MAPPED;
    }
    if (!tb->unit && later)
        look_later(v, tb);
}

void cache_look(struct vcpu *v, struct tb *tb)
{
    bool in_ram = tb->parts[0].size + tb->parts[1].size == tb->bytes; /* else there is no copy of its bytes */
    if (!v->machine->cache || v->machine->config.tier != TIER_TIERED || !v->regions.on || !tb->head || !tb->code.body || !tb->counter || tb->open_count || !in_ram)
        return;
    enum stats_clock before = stats_enter(v, STATS_cache);
    v->tcg.region_left = NULL; /* it may be freed, for room */
    look(v, tb);
    stats_enter(v, before);
}

void cache_lost(struct vcpu *v, struct tb *tb) { look_later(v, tb); }
