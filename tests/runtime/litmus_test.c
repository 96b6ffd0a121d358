/* Litmus tests of x86's memory order (TSO; SDM 3A 9.2) between translated code and a device's thread: a thread of this process
 * that reads and writes the guest's RAM with C11 atomics, as the silicon of a device would.
 *
 * No test waits for its partner at each round: rounds write their own numbers, rising, so that what a read saw tells which
 * rounds had happened, and any pair of rounds is a try.  What TSO forbids must never be seen.  That this test can see it is
 * checked by guests that have their two accesses in the wrong order, and by store buffering without fences, whose weak
 * outcome TSO allows.  In the LLVM tiers the loop is checked to have run as a region. */
#define _GNU_SOURCE
#include "runtime/internal.h"
#include "tests/runtime/raw_guest.h"
#include <sched.h>
#include <unistd.h>
#include <stdlib.h>
#include <string.h>

enum { BASE = 0x100000, X = 0x200000, Y = 0x200100, DONE = 0x200400, RECORDS = 0x400000, RAM = 32 << 20, ROUNDS = 400000,
       SLOW_ROUNDS = 10000 /* interpreted */, MOST_HOST_ROUNDS = 1 << 22, TRIES = 30, HOT = 100, COMPILE_US = 40000,
       ENOUGH = 500 /* rounds of the device while the guest runs */, ENOUGH_IRIW = 10 /* values that it saw written */ };

/* Each guest: ECX counts rounds from 1 on; the body may put what it read into EAX and EDX, which are kept for each round.  Its
 * fifth to eighth byte are the number of rounds.  All runs first on other memory (EBX), so that it is translated and hot when it
 * matters; the second OUT to port 0xe9 lets the device begin. */
#define GUEST(name, body) \
    "  .p2align 4\n.globl litmus_" name ", litmus_" name "_end\nlitmus_" name ":\n" \
    "  jmp 1f\n .p2align 2\n .long 0\n" \
    "1: mov $0x600, %eax\n mov %eax, %cr4\n" \
    "  mov $0x800000, %ebx\n mov $0x1400000, %edi\n mov $5000, %ebp\n" \
    "6: out %al, $0xe9\n call 2f\n" \
    "  cmp $0x200000, %ebx\n je 7f\n" \
    "  mov $0x200000, %ebx\n mov $0x400000, %edi\n mov 0x100004, %ebp\n jmp 6b\n" \
    "7: movl $1, 0x200400\n mov $0x501, %edx\n out %al, (%dx)\n5: jmp 5b\n" \
    "2: mov $1, %ecx\n xor %eax, %eax\n xor %edx, %edx\n" \
    "3: " body "\n" \
    "  mov %eax, (%edi)\n mov %edx, 4(%edi)\n add $8, %edi\n inc %ecx\n cmp %ebp, %ecx\n jbe 3b\n" \
    "  ret\nlitmus_" name "_end:\n"
/* Between two accesses in the wrong order, so that it shows. */
#define WAIT "mov $10, %esi\n4: lock incl 0x380(%ebx)\n dec %esi\n jnz 4b\n"
#define PUT_X "mov %ecx, (%ebx)\n"
#define PUT_Y "mov %ecx, 0x100(%ebx)\n"
__asm__(".pushsection .rodata\n.code32\n"
        GUEST("xy", PUT_X PUT_Y)
        GUEST("yx", PUT_Y WAIT PUT_X)
        GUEST("x_xchg_y", PUT_X "mov %ecx, %eax\n xchg %eax, 0x100(%ebx)")
        GUEST("x_add_y", PUT_X "lock incl 0x100(%ebx)")
        GUEST("x_fence_y", PUT_X "mfence\n" PUT_Y)
        GUEST("x_vector_y", PUT_X "movd %ecx, %xmm0\n movd %xmm0, 0x100(%ebx)")
        GUEST("read_y_x", "mov 0x100(%ebx), %eax\n mov (%ebx), %edx")
        GUEST("read_x_y_back", "mov (%ebx), %edx\n" WAIT "mov 0x100(%ebx), %eax")
        GUEST("read_y_fence_x", "mov 0x100(%ebx), %eax\n lfence\n mov (%ebx), %edx")
        GUEST("read_xadd_y_x", "xor %eax, %eax\n lock xadd %eax, 0x100(%ebx)\n mov (%ebx), %edx")
        GUEST("read_vector_y_x", "movd 0x100(%ebx), %xmm0\n mov (%ebx), %edx\n movd %xmm0, %eax")
        GUEST("read_x_x", "mov (%ebx), %eax\n mov (%ebx), %edx")
        GUEST("read_x_x_back", "mov (%ebx), %edx\n" WAIT "mov (%ebx), %eax")
        GUEST("read_x_y", "mov (%ebx), %eax\n mov 0x100(%ebx), %edx\n" WAIT)
        GUEST("read_y_x_back", "mov 0x100(%ebx), %edx\n" WAIT "mov (%ebx), %eax")
        GUEST("x_read_y", PUT_X "mov 0x100(%ebx), %eax")
        GUEST("x_fence_read_y", PUT_X "mfence\n mov 0x100(%ebx), %eax")
        GUEST("x_lock_read_y", PUT_X "lock orl $0, -8(%esp)\n mov 0x100(%ebx), %eax")
        GUEST("xchg_x_read_y", "mov %ecx, %eax\n xchg %eax, (%ebx)\n mov 0x100(%ebx), %eax")
        GUEST("read_x_y_put", "mov (%ebx), %eax\n" PUT_Y)
        GUEST("y_put_read_x", PUT_Y WAIT "mov (%ebx), %eax")
        ".code64\n.popsection\n");

struct host { struct machine *m; uint8_t *ram; uint32_t (*records)[2]; unsigned rounds, bad; atomic_bool stop; };
static _Atomic(uint32_t) *at(struct host *h, unsigned address) { return (_Atomic(uint32_t) *)(void *)(h->ram + address); }
/* A device's accesses: TSO's own order, no more. */
static uint32_t get(struct host *h, unsigned address) { return atomic_load_explicit(at(h, address), memory_order_acquire); }
static void set(struct host *h, unsigned address, uint32_t v) { atomic_store_explicit(at(h, address), v, memory_order_release); }
static bool over(struct host *h) { return get(h, DONE) || atomic_load(&h->stop); }

/* --- What the device does */
static void host_read_yx(struct host *h) /* message passing, live: y seen means x was written */
{
    for (; !over(h); h->rounds++) {
        uint32_t y = get(h, Y), x = get(h, X);
        h->bad += x < y;
    }
}
static void host_read_xx(struct host *h)
{
    for (; !over(h); h->rounds++) {
        uint32_t first = get(h, X), second = get(h, X);
        h->bad += second < first;
    }
}
static void host_write_xy(struct host *h)
{
    for (; !over(h); h->rounds++) {
        set(h, X, h->rounds + 1);
        set(h, Y, h->rounds + 1);
    }
}
static void host_add_xy(struct host *h) /* the guest's XADD writes y too: a plain store between its halves would be a race of its own */
{
    for (; !over(h); h->rounds++) {
        set(h, X, h->rounds + 1);
        atomic_fetch_add(at(h, Y), 1);
    }
}
static bool host_room(struct host *h) { return !over(h) && h->rounds < MOST_HOST_ROUNDS; }
static void host_write_y_read_x(struct host *h)
{
    for (; host_room(h); h->rounds++) {
        set(h, Y, h->rounds + 1);
        h->records[h->rounds][0] = get(h, X);
    }
}
static void host_write_y_fence_read_x(struct host *h)
{
    for (; host_room(h); h->rounds++) {
        set(h, Y, h->rounds + 1);
        atomic_thread_fence(memory_order_seq_cst);
        h->records[h->rounds][0] = get(h, X);
    }
}
static void host_read_y_write_x(struct host *h)
{
    for (; host_room(h); h->rounds++) {
        h->records[h->rounds][0] = get(h, Y);
        set(h, X, h->rounds + 1);
    }
}
/* Four parties: with fewer cores than that they take turns, and a run tries less than those of two parties. */
static void *iriw_write(struct host *h, unsigned address)
{
    for (uint32_t n = 1; !over(h); n++) {
        set(h, address, n);
        if (n % 16 == 0)
            sched_yield();
    }
    return NULL;
}
static void *iriw_write_x(void *h) { return iriw_write(h, X); }
static void *iriw_write_y(void *h) { return iriw_write(h, Y); }
static void host_iriw(struct host *h) /* two writers; this reads y, then x, where the guest reads x, then y */
{
    pthread_t a, b;
    if (pthread_create(&a, NULL, iriw_write_x, h) || pthread_create(&b, NULL, iriw_write_y, h))
        abort();
    for (uint32_t last = ~0u; host_room(h);) { /* of those that read the same y the first is the one that may differ */
        uint32_t y = get(h, Y), x = get(h, X);
        if (y == last) {
            sched_yield();
            continue;
        }
        h->records[h->rounds][0] = last = y;
        h->records[h->rounds++][1] = x;
    }
    pthread_join(a, NULL);
    pthread_join(b, NULL);
}

/* --- What must not be seen: how often it was.  guest[i]: EAX, EDX of round i + 1. */
struct seen { const uint32_t (*guest)[2]; unsigned count; const struct host *host; };
static unsigned live(const struct seen *s) { return s->host->bad; }
static unsigned second_older(const struct seen *s) /* EAX was read first: y (or x), then x */
{
    unsigned n = 0;
    for (unsigned i = 0; i < s->count; i++)
        n += s->guest[i][1] < s->guest[i][0];
    return n;
}
/* Round i of the guest wrote x and read y; round j of the host wrote y and read x: neither saw the other's. */
static unsigned both_old(const struct seen *s)
{
    unsigned n = 0;
    for (unsigned i = 1; i <= s->count; i++) {
        uint32_t j = s->guest[i - 1][0] + 1; /* the first round that it did not see, which saw the least */
        n += j <= s->host->rounds && s->host->records[j - 1][0] < i;
    }
    return n;
}
/* Round i of the guest read x and wrote y; round j of the host read y and wrote x: each saw the other's, or a later one's. */
static unsigned both_new(const struct seen *s)
{
    unsigned n = 0;
    for (unsigned i = 1; i <= s->count; i++) {
        uint32_t j = s->guest[i - 1][0];
        n += j && j <= s->host->rounds && s->host->records[j - 1][0] >= i;
    }
    return n;
}
/* The guest read x (EAX) and an older y (EDX); the host read that y's successor, and an older x. */
static unsigned orders_differ(const struct seen *s)
{
    unsigned n = 0, j = 0;
    for (unsigned i = 0; i < s->count; i++) {
        while (j < s->host->rounds && s->host->records[j][0] <= s->guest[i][1])
            j++;
        n += j < s->host->rounds && s->host->records[j][1] < s->guest[i][0];
    }
    return n;
}

enum expectation { NEVER, MUST_BE_SEEN /* or this test sees nothing */, MAY_BE_SEEN };
struct test { const char *name, *guest; const uint8_t *begin, *end; void (*host)(struct host *); unsigned (*outcome)(const struct seen *); enum expectation expected; };
#define TESTS(T) \
    T("MP, guest writes", xy, host_read_yx, live, NEVER) \
    T("MP, guest writes, XCHG", x_xchg_y, host_read_yx, live, NEVER) \
    T("MP, guest writes, LOCK INC", x_add_y, host_read_yx, live, NEVER) \
    T("MP, guest writes, MFENCE", x_fence_y, host_read_yx, live, NEVER) \
    T("MP, guest writes, MOVD", x_vector_y, host_read_yx, live, NEVER) \
    T("MP, guest writes in the wrong order", yx, host_read_yx, live, MUST_BE_SEEN) \
    T("MP, guest reads", read_y_x, host_write_xy, second_older, NEVER) \
    T("MP, guest reads, LFENCE", read_y_fence_x, host_write_xy, second_older, NEVER) \
    T("MP, guest reads, MOVD", read_vector_y_x, host_write_xy, second_older, NEVER) \
    T("MP, guest reads, LOCK XADD", read_xadd_y_x, host_add_xy, second_older, NEVER) \
    T("MP, guest reads in the wrong order", read_x_y_back, host_write_xy, second_older, MUST_BE_SEEN) \
    T("CoRR, device reads", yx, host_read_xx, live, NEVER) \
    T("CoRR, guest reads", read_x_x, host_write_xy, second_older, NEVER) \
    T("CoRR, guest reads in the wrong order", read_x_x_back, host_write_xy, second_older, MUST_BE_SEEN) \
    T("SB", x_read_y, host_write_y_read_x, both_old, MAY_BE_SEEN) \
    T("SB, MFENCE", x_fence_read_y, host_write_y_fence_read_x, both_old, NEVER) \
    T("SB, LOCK OR", x_lock_read_y, host_write_y_fence_read_x, both_old, NEVER) \
    T("SB, XCHG", xchg_x_read_y, host_write_y_fence_read_x, both_old, NEVER) \
    T("LB", read_x_y_put, host_read_y_write_x, both_new, NEVER) \
    T("LB, guest in the wrong order", y_put_read_x, host_read_y_write_x, both_new, MUST_BE_SEEN) \
    T("IRIW", read_x_y, host_iriw, orders_differ, NEVER) \
    T("IRIW, guest in the wrong order", read_y_x_back, host_iriw, orders_differ, MUST_BE_SEEN)
#define DECLARE(text, guest, host, outcome, expected) extern const uint8_t litmus_##guest[], litmus_##guest##_end[];
#define ROW(text, guest, host, outcome, expected) {text, #guest, litmus_##guest, litmus_##guest##_end, host, outcome, expected},
TESTS(DECLARE)
static const struct test tests[] = {TESTS(ROW)};

static const struct { enum tier tier; bool pauses, regions; } tiers[] = {
    {TIER_INTERP}, {TIER_TCG},
#if defined TIERCE_LLVM && !defined TIERCE_NASTY /* there a region is one instruction; compiling takes most of eight seconds a test */
    {TIER_LLVM, .regions = true}, {TIER_TIERED, .pauses = true, .regions = true},
#endif
};

/* --- One run */
struct run { struct host host; const struct test *test; unsigned pause_us, calls; bool began; atomic_bool runs; pthread_t device; };
static void *device(void *arg)
{
    struct run *r = arg;
    atomic_store(&r->runs, true);
    r->test->host(&r->host);
    return NULL;
}
/* The loop is warm: on the vCPU's thread.  Nothing else in the guest is hot, so that a region is the loop's. */
static void begin(void *ctx, const uint8_t *bytes, size_t size)
{
    struct run *r = ctx;
    (void)bytes, (void)size;
    if (++r->calls != 2)
        return;
    if (r->pause_us)
        usleep(r->pause_us); /* for the compiler's thread */
    r->began = !pthread_create(&r->device, NULL, device, r);
    while (r->began && !atomic_load(&r->runs))
        sched_yield();
}

/* How often the outcome was seen; -1: it could not be run.  *rounds: of the device. */
static long run(const struct test *t, unsigned tier, unsigned pause_us, unsigned *rounds, uint64_t *entries)
{
    static uint32_t records[MOST_HOST_ROUNDS][2];
    uint8_t image[512] = {0};
    char error[256];
    bool usage;
    int status;
    uint32_t count = tiers[tier].tier == TIER_INTERP || NASTY ? SLOW_ROUNDS : ROUNDS;
    struct run r = {.test = t, .pause_us = tiers[tier].pauses ? pause_us : 0, .host.records = records};
    memcpy(image, t->begin, (size_t)(t->end - t->begin));
    memcpy(image + 4, &count, 4);
    struct machine_config config = {.ram_size = RAM, .tier = tiers[tier].tier, .hot_threshold = HOT, .raw_image = image, .raw_size = sizeof image,
                                    .raw_entry = BASE, .debug_exit_port = 0x501, .debug_exit_size = 4, .raw_mode = 32, .no_reboot = true, .debug_console = {begin, &r}, .code_buffer_size = 4 << 20};
    struct machine *m = machine_new(&config, error, sizeof error, &usage);
    if (!m) {
        printf("machine_new: %s\n", error);
        return -1;
    }
    r.host.m = m;
    r.host.ram = space_find(machine_memory(m), 0)->host;
    enum machine_end end = machine_run(m, &status);
    atomic_store(&r.host.stop, true);
    if (r.began)
        pthread_join(r.device, NULL);
    *rounds = r.host.rounds;
    *entries = stat_of(m, "region_entries");
    struct seen s = {(const uint32_t (*)[2])(void *)(r.host.ram + RECORDS), count, &r.host};
    long n = end == MACHINE_DEBUG_EXIT && r.began ? (long)t->outcome(&s) : -1;
    machine_free(m);
    return n;
}

/* Tried again where the two did not run at the same time (others use the cores too) or the compiler was late, and where what must be
 * seen was not. */
static bool try(const struct test *t, unsigned tier)
{
    unsigned rounds = 0, tries = 0, enough = t->host == host_iriw ? ENOUGH_IRIW : ENOUGH;
    uint64_t entries = 0;
    long n;
    bool again, wants_region = tiers[tier].regions;
    do {
        n = run(t, tier, COMPILE_US << (tries < 5 ? tries : 5), &rounds, &entries);
        again = n == 0 && (rounds < enough || (wants_region && !entries) || t->expected == MUST_BE_SEEN);
    } while (again && ++tries < TRIES);
    bool good = n >= 0 && (t->expected == NEVER ? n == 0 : t->expected == MUST_BE_SEEN ? n > 0 : true);
    const char *void_for = n > 0 ? "" : rounds < enough ? ": the two did not run at the same time" : wants_region && !entries ? ": no region of the loop ran" : "";
    if (!good || *void_for || getenv("LITMUS_VERBOSE"))
        printf("%s, %s: %s %ld times (tries: %u, the device's rounds: %u, region entries: %lu)%s\n", t->name, tier_name(tiers[tier].tier),
               t->expected == NEVER ? "must never be seen, was" : t->expected == MUST_BE_SEEN ? "must be seen, was" : "may be seen, was", n, tries + 1, rounds,
               (unsigned long)entries, void_for);
    return good && !*void_for;
}

int main(void)
{
    cpu_set_t cores;
    unsigned passed = 0, failed = 0;
#ifdef __SANITIZE_THREAD__
    printf("skipped: ThreadSanitizer takes the interpreter's accesses, which are plain ones, for races\n");
    return 77;
#endif
    if (sched_getaffinity(0, sizeof cores, &cores) || CPU_COUNT(&cores) < 2) {
        printf("skipped: litmus tests need a second core, this process has %d\n", CPU_COUNT(&cores));
        return 77;
    }
    for (unsigned tier = 0; tier < sizeof tiers / sizeof *tiers; tier++)
        for (unsigned i = 0; i < sizeof tests / sizeof *tests; i++)
            try(&tests[i], tier) ? passed++ : failed++;
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
