/* Random guest programs (tiers_program.h) in every tier: each must leave the registers, the memory, and the record of
 * exceptions that the interpreter leaves.  An input is the program's recipe.
 * --seeds N [first]: N programs made from random recipes.  --one FILE: that input alone, without mutations.  TIERS_PRINT=1:
 * each program is printed first. */
#include "tests/fuzz/tiers_program.h"
#include "runtime/internal.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RAM = 4 << 20, TOO_LONG = 20, PATIENCE = 3 /* seconds */, PAUSE = 30000 /* us */ };
/* compiles: each version of changing code, on the vCPU's thread: a program that changes its code thousands of times is given up
 * after PATIENCE.  pauses: gives the compiler's thread time, where the program asks for it (port 0xe9).  hot: a threshold that
 * programs reach early.  stress: regions of random extent, side exits at random. */
static const struct { const char *name; enum tier tier; bool compiles, pauses; uint32_t hot, stress; } tiers[] = {
    {"interp", TIER_INTERP}, {"tcg", TIER_TCG},
#ifdef TIERCE_LLVM
    {"llvm", TIER_LLVM, .compiles = true}, {"tiered", TIER_TIERED, .pauses = true, .hot = 20},
    {"stress", TIER_LLVM, .compiles = true, .hot = 1, .stress = 0x5eed},
#endif
};
enum { TIERS = sizeof tiers / sizeof *tiers };
struct result { struct x86_state state; uint8_t *ram; enum machine_end end; };

static unsigned long given_up;
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);
extern const unsigned replay_mutations;
const unsigned replay_mutations = 0;

/* By the clock's alarm: signals are libFuzzer's. */
static void too_long(void *m) { machine_end_with(m, MACHINE_QUIT, 0); }
/* On the vCPU's thread. */
struct console { struct machine *m; bool pauses; };
static void console_put(void *ctx, const uint8_t *bytes, size_t size)
{
    struct console *c = ctx;
    (void)bytes, (void)size;
    if (c->pauses && c->m->vcpu->stats.recordings)
        usleep(PAUSE);
}
static void nothing(void *ctx, const uint8_t *bytes, size_t size) { (void)ctx; (void)bytes; (void)size; }

static void run(const struct program *p, unsigned which, struct result *to)
{
    enum tier tier = tiers[which].tier;
    char error[256] = "";
    bool usage;
    int status;
    struct console console = {.pauses = tiers[which].pauses};
    struct machine_config config = {
        .ram_size = RAM, .tier = tier, .hot_threshold = tiers[which].hot, .stress = tiers[which].stress, .cpu = "x86-64-v2,+lzcnt,+bmi1,+aes", .raw_image = p->image, .raw_size = sizeof p->image, .raw_entry = p->base,
        .debug_exit_port = 0x501, .debug_exit_size = 4, .raw_mode = p->mode == PROGRAM_16 ? 16 : 32, .debug_console = {console_put, &console}, .serial = {{nothing, NULL}, {nothing, NULL}}, .no_reboot = true,
        .code_buffer_size = 4 << 20};
    const char *prefix = getenv("TIERS_TRACE");
    if (prefix) {
        char name[200];
        snprintf(name, sizeof name, "%s%s", prefix, tiers[which].name);
        config.trace = TRACE_CPU | TRACE_EXEC;
        config.trace_file = fopen(name, "w");
    }
    struct machine *m = machine_new(&config, error, sizeof error, &usage);
    if (!m) {
        fprintf(stderr, "machine_new: %s\n", error);
        abort();
    }
    console.m = m;
    struct alarm alarm;
    alarm_init(&alarm, &m->clock, too_long, m);
    alarm_set(&alarm, (tiers[which].compiles ? PATIENCE : TOO_LONG) * 1000000000ull);
    to->end = machine_run(m, &status);
    alarm_cancel(&alarm);
    to->state = *(&m->vcpu->cpu.state);
    memcpy(to->ram, m->ram, RAM);
    if (getenv("TIERS_PRINT"))
        fprintf(stderr, "%s: end %d, %u exceptions, %lu regions\n", tiers[which].name, to->end, *(uint32_t *)(void *)(m->ram + p->base + PROGRAM_CONTROL + CONTROL_COUNT), m->vcpu->stats.regions);
    machine_free(m);
}

/* What is compared of the state: all that programs can see; not where in the end's loop it was. */
static const char *state_difference(const struct program *p, const struct x86_state *want, const struct x86_state *have)
{
    static const char *const unseen[] = {"rip", "icount", "stop", "faulted", "halted", "fip", "fdp", "fop", "fcs", "fds"};
    static char text[200];
    uint32_t flags = IR_FLAGS_ALL & ~(p->flags_defined ? 0u : IR_FLAG_A);
    for (unsigned i = 0; i < x86_guest.slot_count; i++) {
        const struct ir_slot *slot = &x86_guest.slots[i];
        unsigned size = ir_type_bytes((enum ir_type)slot->type);
        const uint8_t *w = (const uint8_t *)want + slot->offset, *h = (const uint8_t *)have + slot->offset;
        uint64_t a = 0, b = 0;
        bool skip = !memcmp(w, h, size);
        for (unsigned k = 0; k < sizeof unseen / sizeof *unseen; k++)
            skip |= !strcmp(slot->name, unseen[k]);
        memcpy(&a, w, size < 8 ? size : 8);
        memcpy(&b, h, size < 8 ? size : 8);
        if (skip || (slot->state_class == IR_S_FLAGS && !((a ^ b) & flags)))
            continue;
        if (size > 8 && a == b)
            memcpy(&a, w + 8, 8), memcpy(&b, h + 8, 8);
        snprintf(text, sizeof text, "%s: %llx, should be %llx", slot->name, (unsigned long long)b, (unsigned long long)a);
        return text;
    }
    return NULL;
}
static const char *memory_difference(const struct program *p, const uint8_t *want, const uint8_t *have)
{
    static char text[200];
    unsigned at = 0, log = p->base + PROGRAM_CONTROL + CONTROL_LOG;
    if (!memcmp(want, have, RAM))
        return NULL;
    for (unsigned i = 1; i <= CONTROL_MOST; i++)
        if (memcmp(want + log + 16 * i, have + log + 16 * i, 16)) {
            uint32_t w[4], h[4];
            memcpy(w, want + log + 16 * i, 16);
            memcpy(h, have + log + 16 * i, 16);
            snprintf(text, sizeof text, "exception %u: vector %x at %x, flags %x, registers %x, should be vector %x at %x, flags %x, registers %x", i, h[0], h[1], h[2], h[3], w[0], w[1], w[2], w[3]);
            return text;
        }
    while (want[at] == have[at])
        at++;
    snprintf(text, sizeof text, "byte %x of the program's memory: %02x, should be %02x", at - p->base, have[at], want[at]);
    return text;
}

static const char *difference(const struct program *p, const struct result *want, const struct result *have)
{
    static const char *const ends[] = {"power off", "reset", "did not end", "end", "error"};
    static char text[100];
    if (want->end != have->end) {
        snprintf(text, sizeof text, "%s, should be: %s", ends[have->end], ends[want->end]);
        return text;
    }
    const char *wrong = state_difference(p, &want->state, &have->state);
    const char *memory = memory_difference(p, want->ram, have->ram); /* exceptions come first: they say where */
    return memory && (!wrong || !strncmp(memory, "exception", 9)) ? memory : wrong;
}

/* Under a name that says what is in it. */
static void save(const uint8_t *bytes, size_t size)
{
    char name[64];
    uint32_t hash = 2166136261;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 16777619;
    snprintf(name, sizeof name, "failed-tiers-%08x", hash);
    FILE *f = fopen(name, "wb");
    bool saved = f && fwrite(bytes, 1, size, f) == size;
    if (f && fclose(f))
        saved = false;
    fprintf(stderr, "the input is %s%s\n", saved ? "in " : "lost: cannot write ", name);
}

/* Compared with the first; by bits of `which`, from the second tier on. */
static void compare_tiers(const uint8_t *bytes, size_t size, unsigned which)
{
    static struct program p;
    static struct result results[2];
    program_make(&p, bytes, size);
    if (getenv("TIERS_PRINT"))
        program_print(stderr, &p);
    for (unsigned i = 0; i < 2; i++)
        if (!results[i].ram && !(results[i].ram = malloc(RAM)))
            abort();
    for (unsigned i = 0; i < TIERS; i++) {
        if (i && !(which & 1u << i))
            continue;
        struct result *r = &results[i != 0];
        run(&p, i, r);
        if (tiers[i].compiles && r->end == MACHINE_QUIT) {
            given_up++;
            continue;
        }
        const char *wrong = i ? difference(&p, &results[0], r) : r->end != MACHINE_DEBUG_EXIT ? "does not end as programs should" : NULL;
        if (!wrong)
            continue;
        program_print(stderr, &p);
        fprintf(stderr, "tier %s: %s\n", tiers[i].name, wrong);
        save(bytes, size);
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    compare_tiers(bytes, size, ~0u);
    return 0;
}

/* Half of them short: one difference is easier to see there.  LLVM takes its time: each program runs in one of its tiers. */
static void run_seeds(unsigned long count, unsigned long first)
{
    static uint8_t bytes[1500];
    for (unsigned long seed = first; seed < first + count; seed++) {
        uint64_t x = seed * 0x9e3779b97f4a7c15ull | 1;
        for (unsigned i = 0; i < sizeof bytes; i++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            bytes[i] = (uint8_t)(x * 0x2545f4914f6cdd1dull >> 56);
        }
        size_t size = 100 + bytes[sizeof bytes - 1] * (seed & 1 ? 1 : 5);
        uint8_t *copy = malloc(size); /* of just the size, for sanitizers */
        if (!copy)
            abort();
        memcpy(copy, bytes, size);
        compare_tiers(copy, size, 1u << TIER_TCG | (TIERS > 2 ? 1u << (2 + seed / 2 % (TIERS - 2)) : 0));
        free(copy);
    }
    printf("%lu passed, 0 failed; of their runs %lu took too long to compile\n", count, given_up);
}

/* A file as it is, without replay.c's mutations. */
static void run_file(const char *path)
{
    static uint8_t bytes[1 << 16];
    FILE *f = fopen(path, "rb");
    if (!f) {
        fprintf(stderr, "%s: cannot be read\n", path);
        exit(1);
    }
    size_t size = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    LLVMFuzzerTestOneInput(bytes, size);
    printf("%s: all tiers agree\n", path);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    char **a = *argv;
    if (*argc >= 3 && !strcmp(a[1], "--seeds"))
        run_seeds(strtoul(a[2], NULL, 0), *argc > 3 ? strtoul(a[3], NULL, 0) : 1);
    else if (*argc == 3 && !strcmp(a[1], "--one"))
        run_file(a[2]);
    else
        return 0;
    exit(0);
}
