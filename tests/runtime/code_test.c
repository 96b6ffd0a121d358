/* Translations that come and go: code that another thread writes while it runs; more code than the code buffer holds, of
 * which a part is hot. */
#include "runtime/runtime.h"
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <poll.h>
#include <unistd.h>

enum { BASE = 0x100000, FUNCTIONS = 3000, ROUNDS = 4 };
struct image { uint8_t bytes[1 << 17]; size_t size; };
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

static void put(struct image *i, const void *bytes, size_t size)
{
    memcpy(i->bytes + i->size, bytes, size);
    i->size += size;
}
#define PUT(i, ...) put(i, (const uint8_t[]){__VA_ARGS__}, sizeof (const uint8_t[]){__VA_ARGS__})
static void put32(struct image *i, uint32_t v) { put(i, &v, 4); }

/* mov edx, 0x501; out dx, al; hlt; jmp back: ends with EAX in the machine's RAM at BASE - 4. */
static void put_end(struct image *i)
{
    PUT(i, 0xa3), put32(i, BASE - 4);
    PUT(i, 0xba, 1, 5, 0, 0, 0xee, 0xf4, 0xeb, 0xfd);
}

static struct machine *machine(const struct image *i, enum tier tier, size_t buffer)
{
    char error[256];
    bool usage;
    struct machine_config config = {.ram_size = 16 << 20, .tier = tier, .raw_image = i->bytes, .raw_size = i->size, .raw_entry = BASE,
                                    .raw_mode = 32, .code_buffer_size = buffer};
    struct machine *m = machine_new(&config, error, sizeof error, &usage);
    if (!m) {
        printf("machine_new: %s\n", error);
        exit(1);
    }
    return m;
}

static uint32_t result_of(struct machine *m)
{
    uint32_t eax = 0;
    machine_debug_read(m, BASE - 4, true, &eax, 4);
    return eax;
}

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
    put_end(&i);
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
    put_end(i);
    i->size = 2 * functions;
    for (unsigned n = 0; n < FUNCTIONS; n++)
        PUT(i, 0x05), put32(i, n + 1), PUT(i, 0xc3, 0x90, 0x90);
}

struct counts { uint64_t blocks, evictions; };
static struct counts counts_of(struct machine *m)
{
    char *text = NULL;
    size_t size;
    struct counts c = {0};
    FILE *f = open_memstream(&text, &size);
    machine_stats_print(m, f, false);
    fclose(f);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        sscanf(line, "blocks %lu", &c.blocks);
        sscanf(line, "evictions %lu", &c.evictions);
    }
    free(text);
    return c;
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
    struct counts c = counts_of(m);
#ifndef TIERCE_NASTY /* which evicts all the time */
    if (tier == TIER_TCG) {
        check("some were evicted", tier, c.evictions > FUNCTIONS, buffer != 0);
        /* The call sites and cold functions are made anew each round; the hot function is not, each time it is called. */
        check("the hot one was kept", tier, c.blocks <= ROUNDS * 3 * FUNCTIONS + 20, true);
    }
#else
    (void)c;
#endif
    machine_free(m);
}

int main(void)
{
    for (int tier = TIER_INTERP; tier <= TIER_TCG; tier++) {
        other_thread((enum tier)tier);
        eviction((enum tier)tier, 0);
    }
    eviction(TIER_TCG, 128 << 10);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
