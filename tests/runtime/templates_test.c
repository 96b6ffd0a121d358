/* Template code in the translation cache: what one run translated is placed by the next, wherever it lies and only where the guest's bytes are the
 * same; a file that is damaged or lies is not used. */
#define _GNU_SOURCE
#include "runtime/cache_templates.h"
#include "runtime/store.h"
#include "tests/runtime/moving_guest.h"
#include "tests/runtime/store_helper.h"
#include <dirent.h>

enum { BASE = 0x100000, RESULT = 0xff000, BOOTS = 0xfe000, BLOCKS = 150, ROUNDS = 50 };
struct outcome { uint32_t result; uint64_t hits, blocks; };
/* The nasty build has five blocks at a time: too few to be kept.  Its results are right all the same. */
#define FOUND(condition) (NASTY || (condition))

/* Blocks of all kinds of ways out, in a loop of few rounds: no region comes of them.  resets: that often, all begins anew; cr4: bits to set before. */
struct kind { uint32_t changed; uint8_t resets; uint32_t cr4; };
static struct image image_of(struct kind k)
{
    struct image i = {.size = 0};
    PUT(&i, 0x0f, 0x20, 0xe0, 0x0d), put32(&i, k.cr4), PUT(&i, 0x0f, 0x22, 0xe0); /* mov eax, cr4; or eax, k.cr4; mov cr4, eax */
    PUT(&i, 0x31, 0xc0, 0xbb), put32(&i, ROUNDS);   /* xor eax, eax; mov ebx, ROUNDS */
    PUT(&i, 0xbc, 0, 0, 9, 0);                      /* mov esp, 0x90000 */
    size_t begin = i.size;
    for (uint32_t n = 0; n < BLOCKS; n++) {
        PUT(&i, 0x05), put32(&i, n * 0x1010101 + (n == k.changed)); /* add eax, n */
        PUT(&i, 0x69, 0xc0), put32(&i, 2 * n + 3);                  /* imul eax, eax, 2n+3 */
        switch (n % 4) {
        case 0: PUT(&i, 0x72, 1, 0x40); break;                      /* jb +1; inc eax */
        case 1: PUT(&i, 0xe8, 1, 0, 0, 0, 0x90, 0x59, 0x29, 0xc8, 0x01, 0xc8); break; /* call +1; nop; pop ecx; sub eax, ecx; add eax, ecx */
        case 2: PUT(&i, 0xeb, 0x00); break;                         /* jmp +0 */
        default: PUT(&i, 0xd1, 0xc0, 0x73, 2, 0x0f, 0xc8); break;   /* rol eax, 1; jae +2; bswap eax */
        }
    }
    PUT(&i, 0x4b, 0x0f, 0x85), put32(&i, (uint32_t)(begin - (i.size + 4))); /* dec ebx; jnz begin */
    PUT(&i, 0x80, 0x3d), put32(&i, BOOTS), PUT(&i, k.resets, 0x74, 15);     /* cmp byte [BOOTS], resets; je end */
    PUT(&i, 0xfe, 0x05), put32(&i, BOOTS);                                  /* inc byte [BOOTS] */
    PUT(&i, 0x66, 0xba, 0xf9, 0x0c, 0xb0, 6, 0xee, 0xeb, 0xfe);             /* mov dx, 0xcf9; mov al, 6; out dx, al; jmp . */
    put_end(&i, RESULT);
    return i;
}

static const struct kind plain = {.changed = ~0u};

static struct outcome run_with(const struct image *i, struct machine_config config)
{
    int status;
    config.cache.named = true;
    struct machine *m = raw_machine(i, config);
    usleep(100000); /* the file is read on a thread of its own, and the host may be busy */
    machine_run(m, &status);
    struct outcome o = {word_at(m, RESULT), stat_of(m, "templates_hit"), stat_of(m, "blocks")};
    machine_free(m);
    return o;
}

static struct outcome run(const struct image *i, const char *path) { return run_with(i, (struct machine_config){.tier = TIER_TIERED, .cache = {.path = path}}); }

static uint32_t wanted(const struct image *i) { return run_with(i, (struct machine_config){.tier = TIER_INTERP}).result; }

static void again(void)
{
    const struct image i = image_of(plain), other = image_of((struct kind){.changed = 40}), with_sse = image_of((struct kind){.changed = ~0u, .cr4 = 0x600});
    char path[64];
    snprintf(path, sizeof path, "%s", fresh_path());
    struct outcome cold = run(&i, path), warm = run(&i, path);
    check(cold.result == wanted(&i) && !cold.hits, "cold", (long)cold.hits);
    check(warm.result == cold.result && FOUND(warm.hits > BLOCKS && warm.hits + 8 > warm.blocks), "warm: nearly all from there", (long)warm.hits);
    struct outcome changed = run(&other, path);
    check(changed.result == wanted(&other) && changed.result != cold.result, "one block is another", changed.result);
    check(FOUND(changed.hits > BLOCKS && changed.hits < changed.blocks), "and is translated", (long)(changed.blocks - changed.hits));
    struct outcome elsewhere = run_with(&i, (struct machine_config){.tier = TIER_TIERED, .raw_entry = BASE + 0x7000, .cache = {.path = path}});
    check(elsewhere.result == cold.result && FOUND(elsewhere.hits > BLOCKS), "at another address", (long)elsewhere.hits);
    struct outcome sse = run(&with_sse, path);
    check(sse.result == cold.result && FOUND(sse.hits > BLOCKS), "with SSE, which none of them has", (long)sse.hits);
    struct outcome lockstep = {0};
    for (unsigned n = 0; n < 2; n++)
        lockstep = run_with(&i, (struct machine_config){.tier = TIER_TIERED, .check_interp = true, .cache = {.path = path}});
    check(lockstep.result == cold.result && FOUND(lockstep.hits > BLOCKS), "in lockstep with the interpreter", (long)lockstep.hits);
    struct outcome model = run_with(&i, (struct machine_config){.tier = TIER_TIERED, .cpu = "x86-64-v2,-movbe", .cache = {.path = path}});
    check(model.result == cold.result && !model.hits, "not for another CPU", (long)model.hits);
    struct outcome traced = run_with(&i, (struct machine_config){.tier = TIER_TIERED, .trace = TRACE_IN_ASM, .trace_file = fopen("/dev/null", "w"), .cache = {.path = path}});
    check(traced.result == cold.result && !traced.hits, "not where each translation is to be seen", (long)traced.hits);
}

/* Each boot but the first has what those before translated, and so has the next run. */
static void resetting(void)
{
    const struct image i = image_of((struct kind){.changed = ~0u, .resets = 2}), once = image_of(plain);
    char path[64];
    snprintf(path, sizeof path, "%s", fresh_path());
    struct outcome cold = run(&i, path);
    check(cold.result == wanted(&once) && FOUND(cold.hits > 2 * BLOCKS && cold.blocks < cold.hits + 2 * BLOCKS), "after resets", (long)cold.hits);
    struct outcome warm = run(&once, path);
    check(warm.result == cold.result && FOUND(warm.hits > BLOCKS && warm.hits + 8 > warm.blocks), "and after the run", (long)warm.hits);
}

/* --- Files that are not what they should be */
static char name[300];
static bool note(void *ctx, const struct store_file *f)
{
    (void)ctx;
    if (strstr(f->name, "templates-"))
        snprintf(name, sizeof name, "%s", f->name);
    return true;
}

/* 32-bit words of the file's head and of its first template, by turns: what a reader would go by. */
static void lying(void)
{
    const struct image i = image_of(plain);
    char path[64], error[200];
    uint8_t *data, *changed;
    size_t size;
    snprintf(path, sizeof path, "%s", fresh_path());
    uint32_t right = run(&i, path).result;
    struct store *s = store_open(&(struct store_options){.path = path}, error, sizeof error);
    store_file_each(s, note, NULL);
    if (!check(store_file_get(s, name, &data, &size) && size > 4096 && (changed = malloc(size)), "the file", (long)size))
        return;
    for (unsigned n = 0; n < 24; n++) { /* its head, and of the first entries what says where a template is and how large */
        static const uint32_t values[] = {0, 1, 0xffffffff, 0x10000};
        memcpy(changed, data, size);
        memcpy(changed + 4 * n, &values[n / 4 % 4], 4);
        store_file_put(s, name, changed, size, false);
        struct outcome o = run_with(&i, (struct machine_config){.tier = TIER_TIERED, .cache = {.path = fresh_path(), .layers = {path}, .layer_count = 1}});
        check(o.result == right, "a file that lies", (long)n);
    }
    store_file_put(s, name, data, size / 2, false);
    struct outcome half = run(&i, path);
    check(half.result == right && half.hits < BLOCKS, "half of a file", (long)half.hits);
    free(changed);
    free(data);
    store_close(s);
}

int main(void)
{
    again();
    resetting();
    if (!NASTY)
        lying();
    remove_all();
    printf("templates: %d passed, %d failed\n", passed, failed);
    return failed != 0;
}
