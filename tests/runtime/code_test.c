/* Translations that come and go: code that another thread writes while it runs; more code than the code buffer holds, of
 * which a part is hot, or has regions that are linked to it; a loop that comes to take another way. */
#include "tests/runtime/raw_guest.h"
#include <sys/eventfd.h>
#include <poll.h>
#include <unistd.h>

enum { BASE = 0x100000, FUNCTIONS = 3000, ROUNDS = 4 };
static int passed, failed;

static void check(const char *what, enum tier tier, uint64_t got, uint64_t wanted)
{
    if (got == wanted) {
        passed++;
        return;
    }
    failed++;
    printf("%s, tier %d: got %#lx, wanted %#lx\n", what, tier, got, wanted);
}

static struct machine *machine(const struct image *i, enum tier tier, size_t buffer)
{
    char error[256];
    bool usage;
    struct machine_config config = {.ram_size = 16 << 20, .tier = tier, .raw_image = i->bytes, .raw_size = i->size, .raw_entry = BASE,
                                    .debug_exit_port = 0x501, .debug_exit_size = 4, .raw_mode = 32, .code_buffer_size = buffer, .hot_threshold = tier == TIER_TIERED ? 50 : 0};
    struct machine *m = machine_new(&config, error, sizeof error, &usage);
    if (!m) {
        printf("machine_new: %s\n", error);
        exit(1);
    }
    return m;
}

static uint32_t result_of(struct machine *m) { return word_at(m, BASE - 4); }

/* 1: mov eax, imm; test eax, eax; jz 1b.  The main loop writes the immediate some time later. */
struct writer { struct machine *m; int fd, calls; };
static void write_code(void *ctx, short events)
{
    struct writer *w = ctx;
    const uint32_t value = 0x1234567;
    (void)events;
    usleep(1000);
    if (++w->calls == 20) {
        machine_watch(w->m, w->fd, 0, NULL, NULL);
        machine_debug_write(w->m, BASE + 1, true, &value, 4);
    }
}

static void other_thread(enum tier tier)
{
    struct image i = {.size = 0};
    struct writer w = {.fd = eventfd(1, EFD_CLOEXEC)};
    int status;
    PUT(&i, 0xb8, 0, 0, 0, 0, 0x85, 0xc0, 0x74, 0xf7);
    put_end(&i, BASE - 4);
    w.m = machine(&i, tier, 0);
    machine_watch(w.m, w.fd, POLLIN, write_code, &w);
    machine_run(w.m, &status);
    check("code written by another thread", tier, result_of(w.m), 0x1234567);
    machine_free(w.m);
    close(w.fd);
}

/* FUNCTIONS of `add eax, n; ret`, all called in turn, ROUNDS times; after each the hot one, function 0, again. */
static void put_functions(struct image *i)
{
    size_t loop, functions = 9 * FUNCTIONS + 512;
    PUT(i, 0x31, 0xc0, 0xbb, ROUNDS, 0, 0, 0);               /* xor eax, eax; mov ebx, ROUNDS */
    loop = i->size;
    for (unsigned n = 0; n < 2 * FUNCTIONS; n++) {
        unsigned which = n & 1 ? 0 : n / 2;
        PUT(i, 0xe8), put32(i, (uint32_t)(2 * functions + 8 * which - (i->size + 4)));
    }
    PUT(i, 0x4b, 0x0f, 0x85), put32(i, (uint32_t)(loop - (i->size + 4))); /* dec ebx; jnz */
    put_end(i, BASE - 4);
    i->size = 2 * functions;
    for (unsigned n = 0; n < FUNCTIONS; n++)
        PUT(i, 0x05), put32(i, n + 1), PUT(i, 0xc3, 0x90, 0x90);
}

static void eviction(enum tier tier, size_t buffer)
{
    static struct image i;
    int status;
    i.size = 0;
    put_functions(&i);
    struct machine *m = machine(&i, tier, buffer);
    machine_run(m, &status);
    uint32_t sum = FUNCTIONS * (FUNCTIONS + 1) / 2 + FUNCTIONS;
    check("sum", tier, result_of(m), ROUNDS * sum);
#ifndef TIERCE_NASTY /* which evicts all the time */
    if (tier == TIER_TCG) {
        check("some were evicted", tier, stat_of(m, "evictions") > FUNCTIONS, buffer != 0);
        /* The call sites and cold functions are made anew each round; the hot function is not, each time it is called. */
        check("the hot one was kept", tier, stat_of(m, "blocks") <= ROUNDS * 3 * FUNCTIONS + 20, true);
    }
#endif
    machine_free(m);
}

#ifdef TIERCE_NASTY
enum { ALWAYS_EVICTS = 1 };
#else
enum { ALWAYS_EVICTS = 0 };
#endif
#ifdef TIERCE_LLVM
/* A loop that is a region, linked to template code behind it that gets evicted between its runs: FAR calls of code that never gets hot. */
enum { FAR = 24, RUNS = 8, FAR_INSNS = 40, FAR_BYTES = 512 };
struct counts { uint64_t regions, links; };
static struct counts linked(size_t buffer, uint32_t rounds)
{
    static struct image i;
    int status;
    i.size = 0;
    PUT(&i, 0x31, 0xc0, 0xbb, RUNS, 0, 0, 0);                /* xor eax, eax; mov ebx, RUNS */
    size_t again = i.size, loop, functions = 16384;
    PUT(&i, 0xb9), put32(&i, rounds);                        /* mov ecx, rounds */
    loop = i.size;
    PUT(&i, 0x40, 0x49, 0x0f, 0x85), put32(&i, (uint32_t)(loop - (i.size + 4))); /* inc eax; dec ecx; jnz loop */
    for (unsigned n = 0; n < FAR; n++) {
        PUT(&i, 0xe8), put32(&i, (uint32_t)(functions + FAR_BYTES * n - (i.size + 4)));
    }
    PUT(&i, 0x4b, 0x0f, 0x85), put32(&i, (uint32_t)(again - (i.size + 4))); /* dec ebx; jnz again */
    put_end(&i, BASE - 4);
    for (unsigned n = 0; n < FAR; n++) {
        i.size = functions + FAR_BYTES * n;
        for (unsigned k = 0; k < FAR_INSNS; k++)
            PUT(&i, 0x0f, 0xae, 0x05), put32(&i, BASE - 4096); /* fxsave */
        PUT(&i, 0x40, 0xc3);                                 /* inc eax; ret */
    }
    struct machine *m = machine(&i, TIER_TIERED, buffer);
    machine_run(m, &status);
    check("sum with links", TIER_TIERED, result_of(m), RUNS * (rounds + FAR));
    const struct counts c = {stat_of(m, "regions"), stat_of(m, "region_links")};
    if (!ALWAYS_EVICTS)
        check("some were evicted", TIER_TIERED, stat_of(m, "evictions") > FAR, buffer != 0);
    machine_free(m);
    return c;
}

/* The first phase is to last until the loop's region is there; how long that takes the host knows. */
static bool regrown(uint32_t rounds)
{
    struct image i = {.size = 0};
    int status;
    PUT(&i, 0x31, 0xc0, 0x31, 0xd2);                         /* xor eax, eax; xor edx, edx */
    PUT(&i, 0xb9), put32(&i, rounds);                        /* again: mov ecx, rounds */
    PUT(&i, 0x85, 0xd2, 0x75, 16);                           /* loop: test edx, edx; jnz other */
    PUT(&i, 0x49, 0x75, 0xf9);                               /* on: dec ecx; jnz loop */
    PUT(&i, 0x42, 0xb9), put32(&i, rounds / 8);              /* inc edx; mov ecx, rounds / 8 */
    PUT(&i, 0x83, 0xfa, 2, 0x75, 0xee, 0xeb, 3);             /* cmp edx, 2; jne loop; jmp end */
    PUT(&i, 0x40, 0xeb, 0xed);                               /* other: inc eax; jmp on */
    put_end(&i, BASE - 4);
    struct machine *m = machine(&i, TIER_TIERED, 0);
    machine_run(m, &status);
    check("rounds of the second phase", TIER_TIERED, result_of(m), rounds / 8);
    bool regrown = stat_of(m, "regions_regrown");
    machine_free(m);
    return regrown;
}
#endif

/* Functions at the same place of their pages, called by turns: each is looked up once, not at each call for the other's sake. */
static void neighbours(void)
{
    enum { CALLS = 2000 };
    struct image i = {.size = 0};
    int status;
    PUT(&i, 0x31, 0xc0, 0xbb), put32(&i, CALLS);             /* xor eax, eax; mov ebx, CALLS */
    PUT(&i, 0xe8), put32(&i, 0x8040 - (uint32_t)(i.size + 4)); /* again: call one; call other; dec ebx; jnz again */
    PUT(&i, 0xe8), put32(&i, 0xc040 - (uint32_t)(i.size + 4));
    PUT(&i, 0x4b, 0x75, 0xf3);
    put_end(&i, BASE - 4);
    for (i.size = 0x8040; i.size < 0x10000; i.size += 0x4000 - 2)
        PUT(&i, 0x40, 0xc3);                                 /* inc eax; ret */
    struct machine *m = machine(&i, TIER_TCG, 0);
    machine_run(m, &status);
    check("calls", TIER_TCG, result_of(m), 2 * CALLS);
    if (!ALWAYS_EVICTS)
        check("few lookups", TIER_TCG, stat_of(m, "lookups") < 100, true);
    machine_free(m);
}

int main(void)
{
    neighbours();
    for (int tier = TIER_INTERP; tier <= TIER_TCG; tier++) {
        other_thread((enum tier)tier);
        eviction((enum tier)tier, 0);
    }
    eviction(TIER_TCG, 128 << 10);
#ifdef TIERCE_LLVM
    uint32_t rounds = 1 << 23;
    while (!ALWAYS_EVICTS && !regrown(rounds) && rounds < 1u << 30)
        rounds *= 2;
    check("the loop was recorded anew", TIER_TIERED, rounds < 1u << 30, true);
    struct counts kept = {0}, evicted = {0};
    rounds = 1 << 20;
    while (!ALWAYS_EVICTS && evicted.links <= kept.links && rounds < 1u << 28) { /* until the region is there early */
        kept = linked(0, rounds);
        evicted = linked(64 << 10, rounds);
        rounds *= 4;
    }
    check("regions, and linked", TIER_TIERED, ALWAYS_EVICTS || (kept.regions && kept.links), true);
    check("linked anew after evictions", TIER_TIERED, ALWAYS_EVICTS || evicted.links > kept.links, true);
#endif
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
