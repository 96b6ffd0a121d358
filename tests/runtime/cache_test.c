/* The translation cache of a machine: what one run compiled is run by the next, wherever it lies, and only where the guest's bytes are the
 * same; what is damaged or lies is skipped. */
#define _GNU_SOURCE
#include "runtime/cache.h"
#include "tests/runtime/moving_guest.h"
#include "tests/runtime/store_helper.h"

enum { BASE = 0x100000, RESULT = 0xff000, ROUNDS = 3000000 };
#ifdef TIERCE_NASTY
enum { IN_TIME = false }; /* for a region, before the moving guest ends */
#else
enum { IN_TIME = true };
#endif
struct outcome { uint32_t result; uint64_t hits, puts, changed, damaged, foreign, compiled, moved; };

/* 1: add eax, step; jmp 2f; nop; 2: xor eax, mask; dec ecx; jnz 1b: two blocks, so that the second may differ behind the same first one. */
static void put_loop(struct image *i, uint32_t rounds, uint32_t step, uint32_t mask)
{
    PUT(i, 0xb9), put32(i, rounds);
    while (i->size % 16) /* as far in its page, wherever it is put */
        PUT(i, 0x90);
    PUT(i, 0x05), put32(i, step);
    PUT(i, 0xeb, 0x01, 0x90, 0x35), put32(i, mask);
    PUT(i, 0x49, 0x75, 0xf0);
}

static uint32_t loop_result(uint32_t eax, uint32_t rounds, uint32_t step, uint32_t mask)
{
    while (rounds--)
        eax = (eax + step) ^ mask;
    return eax;
}

/* The tier changes to `then` at its first instruction. */
static struct outcome run_switched(const struct image *i, struct machine_config config, enum tier then)
{
    char error[400];
    int status;
    config.hot_threshold = 100;
    struct machine *m = raw_machine(i, config);
    if (then != config.tier)
        check(machine_tier_set(m, then, error, sizeof error), "the tier is to change", 0);
    machine_run(m, &status);
    for (unsigned n = 0; n < 10000 && (machine_is_compiling(m) || (stat_of(m, "recordings") && !stat_of(m, "cache_puts"))); n++)
        usleep(1000); /* what was recorded is to be kept */
    struct outcome o = {word_at(m, RESULT), stat_of(m, "cache_hits"), stat_of(m, "cache_puts"), stat_of(m, "cache_changed"), stat_of(m, "cache_damaged"),
                        stat_of(m, "cache_foreign"), stat_of(m, "regions"), stat_of(m, "cache_moved")};
    machine_free(m);
    return o;
}

static struct outcome run_with(const struct image *i, struct machine_config config) { return run_switched(i, config, config.tier); }

static struct outcome run(const struct image *i, const char *path)
{
    return run_with(i, (struct machine_config){.tier = TIER_TIERED, .cache = {.path = path, .named = true}});
}

static struct image image_of(uint32_t step, uint32_t mask)
{
    struct image i = {.size = 0};
    PUT(&i, 0x31, 0xc0); /* xor eax, eax */
    put_loop(&i, ROUNDS, step, mask);
    put_end(&i, RESULT);
    return i;
}

/* --- One run after the other */
static void warm(void)
{
    const struct image i = image_of(5, 0x11);
    char path[64];
    snprintf(path, sizeof path, "%s", fresh_path());
    uint32_t wanted = loop_result(0, ROUNDS, 5, 0x11);
    struct outcome cold = run(&i, path), warm = run(&i, path);
    check(cold.result == wanted && warm.result == wanted, "results", warm.result);
    check(!cold.hits && cold.puts, "cold: compiled, and kept", (long)cold.puts);
    check(warm.hits && !warm.compiled, "warm: not compiled again", (long)warm.hits);
    struct outcome elsewhere = run_with(&i, (struct machine_config){.tier = TIER_TIERED, .raw_entry = BASE + 0x7000, .cache = {.path = path, .named = true}});
    check(elsewhere.result == wanted && elsewhere.hits && !elsewhere.compiled, "at another address, as under KASLR", (long)elsewhere.hits);
    struct outcome lockstep = run_with(&i, (struct machine_config){.tier = TIER_TIERED, .check_interp = true, .cache = {.path = path, .named = true}});
    check(lockstep.result == wanted && !lockstep.hits, "counted: other objects", (long)lockstep.hits);
    lockstep = run_with(&i, (struct machine_config){.tier = TIER_TIERED, .check_interp = true, .cache = {.path = path, .named = true}});
    check(lockstep.result == wanted && lockstep.hits, "in lockstep with the interpreter", (long)lockstep.hits);
    struct outcome tcg = run_with(&i, (struct machine_config){.tier = TIER_TCG, .cache = {.path = path, .named = true}});
    check(tcg.result == wanted && !tcg.hits, "not in another tier", (long)tcg.hits);
    struct outcome model = run_with(&i, (struct machine_config){.tier = TIER_TIERED, .cpu = "x86-64-v2,-movbe", .cache = {.path = path, .named = true}});
    check(model.result == wanted && !model.hits, "not for another CPU", (long)model.hits);
    struct outcome layer = run_with(&i, (struct machine_config){.tier = TIER_TIERED, .cache = {.path = fresh_path(), .named = true, .layers = {path}, .layer_count = 1}});
    check(layer.result == wanted && layer.hits && !layer.puts, "from a layer beneath", (long)layer.hits);
}

/* The monitor changes the tier of a run that began without a cache. */
static void switched(void)
{
    const struct image i = image_of(5, 0x11);
    uint32_t wanted = loop_result(0, ROUNDS, 5, 0x11);
    char path[64];
    snprintf(path, sizeof path, "%s", fresh_path());
    struct machine_config config = {.tier = TIER_TCG, .cache = {.path = path, .named = true}};
    struct outcome cold = run_switched(&i, config, TIER_TIERED), warm = run_switched(&i, config, TIER_TIERED);
    check(cold.result == wanted && warm.result == wanted, "switched: results", warm.result);
    check(cold.puts && warm.hits && !warm.compiled, "switched: the cache is opened then", (long)warm.hits);
    config.cache.path = "/dev/null";
    struct outcome without = run_switched(&i, config, TIER_TIERED);
    check(without.result == wanted && !without.puts, "switched: a cache that cannot be used is no error then", (long)without.puts);
}

/* The same function twice, as a library in two processes is: one object, two regions. */
static void twice(void)
{
    static struct image i;
    i.size = 0;
    PUT(&i, 0x31, 0xc0);
    put_loop(&i, ROUNDS, 9, 3);
    PUT(&i, 0xe9), put32(&i, 0x3000 - (uint32_t)(i.size + 4)); /* to as far in another page */
    i.size = 0x3002;
    memset(i.bytes + 0x3000, 0x90, 2);
    put_loop(&i, ROUNDS, 9, 3);
    put_end(&i, RESULT);
    char path[64], error[200];
    snprintf(path, sizeof path, "%s", fresh_path());
    uint32_t wanted = loop_result(loop_result(0, ROUNDS, 9, 3), ROUNDS, 9, 3);
    struct outcome cold = run(&i, path), warm = run(&i, path);
    check(cold.result == wanted && warm.result == wanted, "twice: results", warm.result);
    check(warm.hits >= 2 && !warm.compiled, "twice: both hit", (long)warm.hits);
    struct store *s = store_open(&(struct store_options){.path = path}, error, sizeof error);
    struct store_counts counts;
    store_count(s, &counts);
    check(cold.hits ? counts.objects == 1 : counts.objects <= 2, "twice: the second loop of the cold run may hit", (long)counts.objects);
    store_close(s);
}

/* A kernel that holds addresses of its own, loaded elsewhere: what they are, not what they were, is what the region computes with. */
static void moved(void)
{
    enum { ADD = 2 /* of the guest's relocations: in the loop's first block; a recording begins with the second */ };
    static const int64_t places[] = {0, MOVING_PAGE, 24ll * MOVING_PAGE, 300ll * MOVING_PAGE, -7ll * MOVING_PAGE};
    char path[64];
    snprintf(path, sizeof path, "%s", fresh_path());
    const struct machine_cache cache = {.path = path, .named = true};
    for (unsigned n = 0; n < sizeof places / sizeof *places; n++) {
        struct image i = moving_image(places[n]);
        struct outcome o = run(&i, path);
        check(o.result == moving_result(places[n], 0), "moved: result", (long)n);
        check(!IN_TIME || (n ? o.hits && o.moved && !o.compiled && !o.changed : o.puts && !o.hits), "moved: the first run's region", (long)n);
        i.bytes[moving_relocs[ADD].at] ^= 4; /* one does not move with the rest */
        struct outcome wrong = run_with(&i, (struct machine_config){.tier = TIER_TIERED, .cache = {.path = fresh_path(), .named = true, .layers = {path}, .layer_count = 1}});
        check(wrong.result == moving_result(places[n], 1), "moved, but for one: result", (long)n);
        check(!wrong.hits && (!IN_TIME || wrong.changed), "moved, but for one: compared", (long)wrong.changed);
    }
    if (!IN_TIME)
        return;
    const struct image i = moving_image(places[2]);
    struct outcome o;
    for (unsigned n = 0; n < 2; n++) /* counted: the first makes its objects */
        o = run_with(&i, (struct machine_config){.tier = TIER_TIERED, .check_interp = true, .cache = cache});
    check(o.result == moving_result(places[2], 0) && o.moved, "moved: in lockstep with the interpreter", (long)o.moved);
    struct image other = moving_image(places[3]);
    o = run_with(&other, (struct machine_config){.tier = TIER_TIERED, .check_interp = true, .cache = cache});
    check(o.result == moving_result(places[3], 0) && o.moved && !o.compiled, "moved again: in lockstep with the interpreter", (long)o.moved);
}

/* --- Other bytes */
static void changed(void)
{
    char path[64];
    snprintf(path, sizeof path, "%s", fresh_path());
    struct image i = image_of(5, 0x11);
    run(&i, path);
    i = image_of(6, 0x11);
    struct outcome one = run(&i, path);
    check(one.result == loop_result(0, ROUNDS, 6, 0x11) && !one.hits, "another block", one.result);
    i = image_of(5, 0x12);
    struct outcome o = run(&i, path);
    check(o.result == loop_result(0, ROUNDS, 5, 0x12) && !o.hits, "another block", o.result);
    check(one.changed + o.changed, "one of which is not the region's first: it was compared", (long)o.changed);
    struct outcome again = run(&i, path);
    check(again.result == o.result && again.hits && !again.compiled, "each has an object of its own", (long)again.hits);
}

/* The loop's second instruction is written between two runs of it: mov [mask], new. */
static void self_modifying(void)
{
    struct image i = {.size = 0};
    char path[64];
    snprintf(path, sizeof path, "%s", fresh_path());
    PUT(&i, 0x31, 0xc0, 0xbb, 4, 0, 0, 0); /* xor eax, eax; mov ebx, 4 */
    size_t begin = i.size;
    put_loop(&i, ROUNDS / 4, 5, 0x11);
    PUT(&i, 0x83, 0x05), put32(&i, BASE + (uint32_t)i.size - 2 - 7), PUT(&i, 1);       /* add dword [mask], 1 */
    PUT(&i, 0x4b, 0x0f, 0x85), put32(&i, (uint32_t)(begin - (i.size + 4)));             /* dec ebx; jnz */
    put_end(&i, RESULT);
    uint32_t wanted = 0;
    for (uint32_t n = 0; n < 4; n++)
        wanted = loop_result(wanted, ROUNDS / 4, 5, 0x11 + n);
    for (unsigned n = 0; n < 3; n++) {
        struct outcome o = run(&i, path);
        check(o.result == wanted, "code that changes", (long)n);
        check(!n || o.hits, "code that changes: the first version hits", (long)o.hits);
    }
}

/* --- Objects that are the same, or are not what they should be */
struct all { struct store *one, *other; unsigned same, count; };
static bool compare(void *ctx, const struct store_entry *e)
{
    struct all *a = ctx;
    struct store_object mine = {0}, theirs = {0};
    a->count++;
    if (store_get_key(a->one, &e->key, &mine) && store_get_key(a->other, &e->key, &theirs))
        a->same += mine.size == theirs.size && !memcmp(mine.data, theirs.data, mine.size);
    store_release(&mine);
    store_release(&theirs);
    return true;
}

static void identical(void)
{
    const struct image i = image_of(5, 0x11);
    char path[2][64], error[200];
    struct store *s[2];
    struct all all = {0};
    for (unsigned n = 0; n < 2; n++) {
        snprintf(path[n], sizeof path[n], "%s", fresh_path());
        run(&i, path[n]);
        s[n] = store_open(&(struct store_options){.path = path[n]}, error, sizeof error);
    }
    all.one = s[0];
    all.other = s[1];
    store_each(s[0], false, compare, &all);
    check(all.count && all.same == all.count, "two runs, the same keys and bytes", (long)all.same);
    store_close(s[0]);
    store_close(s[1]);
}

/* Every object of one store goes into another, changed. */
enum lie { OTHER_KEY, OTHER_CODE_SIZE, NO_RECIPE, CUT_SHORT, NOTHING };
struct liar { struct store *from, *to; enum lie lie; unsigned count; };
static bool lie(void *ctx, const struct store_entry *e)
{
    struct liar *l = ctx;
    struct store_object o;
    struct store_key key = e->key;
    if (!store_get_key(l->from, &e->key, &o))
        return true;
    uint8_t *copy = memcpy(malloc(o.size), o.data, o.size);
    size_t size = o.size;
    uint8_t *recipe = memmem(copy, size, "TRC2", 4);
    switch (l->lie) {
    case OTHER_KEY: key.whole[1] ^= 1; break;
    case OTHER_CODE_SIZE: recipe[4] ^= 0x10; break;
    case NO_RECIPE: memset(recipe, 0, 4); break;
    case CUT_SHORT: size /= 2; break;
    case NOTHING: break;
    }
    l->count += store_put(l->to, &key, copy, size);
    free(copy);
    store_release(&o);
    return true;
}

static void lying(void)
{
    const struct image i = image_of(5, 0x11);
    char path[64], error[200];
    snprintf(path, sizeof path, "%s", fresh_path());
    run(&i, path);
    for (enum lie n = OTHER_KEY; n <= NOTHING; n++) {
        char other[64];
        snprintf(other, sizeof other, "%s", fresh_path());
        struct liar l = {store_open(&(struct store_options){.path = path}, error, sizeof error),
                         store_open(&(struct store_options){.path = other}, error, sizeof error), n, 0};
        store_each(l.from, false, lie, &l);
        store_close(l.from);
        store_close(l.to);
        struct outcome o = run(&i, other);
        check(l.count && o.result == loop_result(0, ROUNDS, 5, 0x11), "an object that lies", (long)n);
        check(n == NOTHING ? o.hits && !o.foreign : !o.hits && o.foreign, "is skipped and counted", (long)n);
    }
}

/* A byte of each pack changed. */
static int damage(const char *path, const struct stat *s, int kind, struct FTW *f)
{
    (void)f;
    if (kind != FTW_F || !strstr(path, ".pack"))
        return 0;
    FILE *file = fopen(path, "r+");
    fseek(file, s->st_size / 2, SEEK_SET);
    int c = fgetc(file);
    fseek(file, s->st_size / 2, SEEK_SET);
    fputc(c ^ 0x40, file);
    fclose(file);
    return 0;
}

static void damaged(void)
{
    const struct image i = image_of(5, 0x11);
    char path[64];
    snprintf(path, sizeof path, "%s", fresh_path());
    run(&i, path);
    nftw(path, damage, 16, FTW_PHYS);
    struct outcome o = run(&i, path);
    check(o.result == loop_result(0, ROUNDS, 5, 0x11) && !o.hits, "damaged", (long)o.hits);
    check(o.damaged, "counted", (long)o.damaged);
}

/* --- Directories that cannot be used */
static void refused(void)
{
    const struct image i = image_of(5, 0x11);
    char error[400] = "";
    bool usage;
    struct machine_config config = {.ram_size = 16 << 20, .tier = TIER_TIERED, .raw_image = i.bytes, .raw_size = i.size, .raw_entry = BASE, .raw_mode = 32,
                                    .cache = {.path = "/dev/null", .named = true}};
    check(!machine_new(&config, error, sizeof error, &usage) && !usage && strstr(error, "/dev/null") && !strchr(error, '\n'), "named: an error", 0);
    config.cache.named = false;
    struct machine *m = machine_new(&config, error, sizeof error, &usage);
    check(m, "the default: a warning", 0);
    if (m)
        machine_free(m);
}

int main(void)
{
    warm();
    switched();
    twice();
    moved();
    changed();
    self_modifying();
    identical();
    lying();
    damaged();
    refused();
    remove_all();
    printf("cache: %d passed, %d failed\n", passed, failed);
    return failed != 0;
}
