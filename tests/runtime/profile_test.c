/* Profiles: written and read, regions formed of them, and a run's merged with what earlier ones left. */
#define _GNU_SOURCE
#include "runtime/cache.h"
#include "tests/runtime/moving_guest.h"
#include "tests/runtime/store_helper.h"

enum { FLAT = 0x3f << X86_MODE_FLAT_SHIFT | 0x3f << X86_MODE_ZERO_SHIFT, MODE = X86_MODE_CODE64 | X86_MODE_PE | X86_MODE_LMA | X86_MODE_OSFXSR | FLAT };
enum { MAIN = 0x401000, CALLEE = 0x402020 };
/* 1: call CALLEE; dec ecx; jnz 1b; ret.  CALLEE: add rax, rdx; jz 2f; inc rax; 2: ret.  The template tier's blocks go on behind a jump. */
static const uint8_t call[] = {0xe8, 0x1b, 0x10, 0, 0}, after[] = {0xff, 0xc9, 0x75, 0xf7, 0xc3}, callee[] = {0x48, 0x01, 0xd0, 0x74, 0x03, 0x48, 0xff, 0xc0, 0xc3}, ret[] = {0xc3};
static struct profile_block blocks[] = {
    {MODE, sizeof after, 5, after, MAIN + 5, 1000}, {MODE, sizeof call, 0, call, MAIN, 1000}, {MODE, sizeof callee, 0x20, callee, CALLEE, 1000},
    {MODE, sizeof ret, 0x28, ret, CALLEE + 8, 700}, {MODE, sizeof ret, 0x600, ret, 0x777600, 3 /* cold */},
};
static const struct profile profile = {.blocks = blocks, .block_count = 5};
static const struct x86_model *model;

struct formed { unsigned count; uint16_t first[16], blocks[16]; bool loop_returns, compiled; };
static bool take(void *ctx, const struct recipe *r)
{
    struct formed *f = ctx;
    uint64_t translator[2] = {1, 2};
    struct llvm_compiled c;
    char error[200] = "";
    f->compiled &= recipe_compile(model, translator, r, &c, error, sizeof error);
    if (*error)
        printf("%s\n", error);
    free(c.elf);
    f->first[f->count] = r->blocks[0].page_offset;
    f->blocks[f->count++] = (uint16_t)r->block_count;
    for (unsigned n = 0; r->blocks[0].page_offset == 0 && n < r->block_count; n++) /* of the region of the loop: the callee's RET knows where it goes */
        for (unsigned t = 0; t < r->blocks[n].target_count; t++)
            f->loop_returns |= r->blocks[n].page_offset == 0x28 && r->blocks[r->blocks[n].targets[t].block].pc == 5;
    return f->count < 16;
}

static void forming(void)
{
    struct formed f = {.compiled = true};
    check(profile_recipes(model, &profile, 100, take, &f) && f.compiled, "regions are formed, and can be compiled", f.count);
    check(f.loop_returns, "a loop with a call in it is one region, through the return", f.count);
    bool main_begins = false, callee_begins = false, cold = false;
    for (unsigned n = 0; n < f.count; n++) {
        main_begins |= f.first[n] == 0;
        callee_begins |= f.first[n] == 0x20;
        cold |= f.first[n] == 0x600;
    }
    check(main_begins && callee_begins && !cold, "they begin at functions that are hot", f.count);
    struct formed g = {.compiled = true};
    check(profile_recipes(model, &profile, 5000, take, &g) && !g.count, "not where nothing is hot", g.count);
}

static void bytes(void)
{
    uint8_t *out, *again;
    size_t size, again_size;
    char error[200] = "";
    struct recipe_block b = {0, sizeof after - 1, 5, after, 9, {{0}}, 0, NULL, 0};
    const struct recipe r = {.mode = MODE, .block_count = 1, .blocks = &b, .name = "f"}, *const list[] = {&r, &r};
    struct profile p = profile;
    p.recipes = list;
    p.recipe_count = 2;
    p.icount = true;
    if (!check(profile_write(&p, &out, &size), "written", 0))
        return;
    struct profile *read = profile_read(out, size, error, sizeof error);
    if (!check(read, error, 0))
        return;
    check(read->icount && read->block_count == 5 && read->recipe_count == 2 && !strcmp(read->recipes[1]->name, "f") && read->blocks[4].pc == 0x777600 &&
          !memcmp(read->blocks[2].bytes, callee, sizeof callee), "read", 0);
    check(profile_write(read, &again, &again_size) && again_size == size && !memcmp(out, again, size), "and written, the same", (long)again_size);
    for (size_t n = 0; n < size; n++) {
        uint8_t *cut = memcpy(malloc(n + 1), out, n);
        struct profile *none = profile_read(cut, n, error, sizeof error);
        check(!none && !strchr(error, '\n'), "cut short", (long)n);
        free(none);
        free(cut);
    }
    free(read);
    free(out);
    free(again);
}

/* --- Runs */
#ifndef TIERCE_NASTY /* whose few blocks are evicted before they are told of */
enum { BASE = 0x100000, FAR = 0x500000, RESULT = 0xff000 };
/* Loops of 500 rounds, each in a page of its own: too cold to be compiled.  They add numbers from `first` on. */
static void make(struct image *i, unsigned loops, unsigned first)
{
    i->size = 0;
    PUT(i, 0x31, 0xc0);
    for (unsigned n = 0; n < loops && n < 25; n++) {
        PUT(i, 0xb9), put32(i, 500 + n);
        PUT(i, 0x05), put32(i, first + n);
        PUT(i, 0x49, 0x75, 0xf8);
        PUT(i, 0xe9), put32(i, 4096 - (uint32_t)(i->size % 4096) - 4);
        while (i->size % 4096)
            PUT(i, 0x90);
    }
    put_end(i, RESULT);
}

static void run(const struct image *i, const char *path, uint64_t entry, bool counted)
{
    int status;
    struct machine *m = raw_machine(i, (struct machine_config){.tier = TIER_TIERED, .raw_entry = entry, .icount = counted, .cache = {.path = path, .named = true}});
    machine_run(m, &status);
    machine_free(m);
}

struct files { struct store *s; unsigned count, loops, high /* blocks in the upper half, */, far /* loops beyond FAR */; uint64_t runs; bool icount; };
static bool look(void *ctx, const struct store_file *file)
{
    struct files *f = ctx;
    uint8_t *bytes;
    size_t got;
    char error[200];
    if (strncmp(file->name, "profile-", 8) || !store_file_get(f->s, file->name, &bytes, &got))
        return true;
    struct profile *p = profile_read(bytes, got, error, sizeof error);
    free(bytes);
    f->count++;
    f->loops = f->high = f->far = 0;
    f->runs = 0;
    for (unsigned n = 0; p && n < p->block_count; n++) {
        f->loops += p->blocks[n].bytes[0] == 0x05;
        f->far += p->blocks[n].bytes[0] == 0x05 && p->blocks[n].pc >= FAR;
        f->high += p->blocks[n].pc >> 63;
        f->runs += p->blocks[n].bytes[0] == 0x05 ? p->blocks[n].count : 0;
    }
    f->icount = p && p->icount;
    free(p);
    return true;
}

static struct files files_of(const char *path)
{
    char error[200];
    struct files f = {.s = store_open(&(struct store_options){.path = path}, error, sizeof error)};
    store_file_each(f.s, look, &f);
    store_close(f.s);
    return f;
}

static void runs(void)
{
    static struct image i;
    char path[64];
    snprintf(path, sizeof path, "%s", fresh_path());
    make(&i, 10, 0);
    run(&i, path, BASE, false);
    struct files f = files_of(path);
    check(f.count == 1 && f.loops == 10, "a run tells of its loops", f.loops);
    check(f.runs > 4000 && f.runs < 6000, "and how often they ran", (long)f.runs);
    make(&i, 20, 0);
    run(&i, path, BASE + 0x40000, false);
    f = files_of(path);
    check(f.count == 1 && f.loops == 20, "another, elsewhere, with more of them: one file, each loop once", f.loops);
    check(f.runs > 13000 && f.runs < 17000, "and counts added", (long)f.runs);
    run(&i, path, BASE, true);
    f = files_of(path);
    check(f.count == 2, "a counted run has a file of its own", f.count);
}

/* One loop of many is like one from before: they did not move for that. */
static void by_chance(void)
{
    static struct image i;
    char path[64];
    snprintf(path, sizeof path, "%s", fresh_path());
    make(&i, 10, 0);
    run(&i, path, BASE, false);
    make(&i, 25, 8);
    run(&i, path, FAR, false);
    struct files f = files_of(path);
    check(f.loops == 35 && f.far == 25, "a likeness by chance moves nothing", f.far);
}

/* A kernel that has addresses of its own in its code. */
static void moved(void)
{
    char path[64];
    snprintf(path, sizeof path, "%s", fresh_path());
    struct image i = moving_image(0);
    run(&i, path, MOVING_AT, true);
    struct files first = files_of(path);
    i = moving_image(60ll * MOVING_PAGE);
    run(&i, path, MOVING_AT, true);
    struct files both = files_of(path);
    check(first.high && both.high == first.high, "moved as a whole: each block once", both.high);
}
#endif

int main(void)
{
    char error[200];
    model = x86_model_find("x86-64-v2", error, sizeof error);
    forming();
    bytes();
#ifndef TIERCE_NASTY
    runs();
    by_chance();
    moved();
#endif
    x86_model_free(model);
    remove_all();
    printf("profile: %d passed, %d failed\n", passed, failed);
    return failed != 0;
}
