/* --sample: from PCs to a profile, without a KVM: an accelerator that runs nothing and says where the guest is. */
#define _GNU_SOURCE
#include "runtime/cache.h"
#include "tests/runtime/raw_guest.h"
#include "tests/runtime/store_helper.h"
#include <stdatomic.h>
#include <unistd.h>

enum { BASE = 0x100000, HIGH = 0xc0000000 + BASE, TABLES = 0x4000, STACK = 0x5000 }; /* offsets in the image */
/* Where things are in it: */
enum { LOOP = 0x10, AGAIN = 0x15, TAKEN = 0x1c, BACK = 0x20, OUT = 0x23, CALLEE = 0x100, CALLER = 0x208, CALLED = 0x300, CALLED_END = 0x303, COLD = 0x400, LATE = 0x1ffe };
static struct image image;

static void at(unsigned offset)
{
    while (image.size < offset)
        PUT(&image, 0x90);
    if (image.size != offset)
        exit((printf("the image has %zx where %x is said\n", image.size, offset), 1));
}

static void make(void)
{
    at(LOOP), PUT(&image, 0xe8), put32(&image, CALLEE - AGAIN);        /* call callee */
    at(AGAIN), PUT(&image, 0x01, 0xc8, 0xa8, 1, 0x74, 0x05, 0x90);    /* add eax, ecx; test al, 1; jz back; nop */
    at(TAKEN), PUT(&image, 0x01, 0xc8, 0x01, 0xc8);                   /* falls into: */
    at(BACK), PUT(&image, 0x49, 0x75, LOOP - OUT);                    /* dec ecx; jnz loop */
    at(OUT), PUT(&image, 0xe9), put32(&image, LATE - OUT - 5);
    at(CALLEE), PUT(&image, 0x40, 0x40, 0x40, 0xc3);
    at(CALLER - 5), PUT(&image, 0xe8), put32(&image, CALLED - CALLER); /* nothing jumps here: the stack alone tells */
    at(CALLER), PUT(&image, 0xc3);
    at(CALLED), PUT(&image, 0x48, 0x48, 0x48);
    at(CALLED_END), PUT(&image, 0xc3);
    at(COLD), PUT(&image, 0xc3);
    at(LATE), PUT(&image, 0xeb, 0x00, 0x0f, 0xa2, 0xc3);              /* a jump over the page's end; cpuid; ret */
    at(TABLES + 0x300 * 4), put32(&image, 0x83);                      /* 4 MiB at 0xc0000000: physical 0 */
    at(STACK), PUT(&image, 0x78, 0x56, 0x34, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
}

/* --- The accelerator */
static struct x86_state there;
static const struct { uint32_t pc; unsigned times; } script[] = {
    {LOOP, 0}, {AGAIN + 2, 40}, {BACK, 20}, {CALLEE + 1, 20}, {CALLED + 2, 30}, {0x3000000 /* no RAM there */, 3},
};
enum { STEPS = sizeof script / sizeof *script };
static struct { struct machine *machine; uint64_t base; unsigned step, times, looks; atomic_bool kicked; } fake;

static void *fake_new(struct machine *m, struct x86_model *model, char *error, size_t size)
{
    (void)model, (void)error, (void)size;
    fake.machine = m;
    return &fake;
}
static void fake_free(void *accel) { (void)accel; }
static uint64_t fake_tsc_khz(void *accel) { (void)accel; return 1000000; }
static uint64_t fake_tsc_begin(void *accel) { (void)accel; return 0; }
static bool fake_begin(void *accel, struct x86_cpu *cpu) { (void)accel, (void)cpu; return true; }
static bool fake_can_run(void *accel, const struct x86_state *s) { (void)accel, (void)s; return true; }
static void fake_ram_changed(void *accel) { (void)accel; }
static bool fake_put(void *accel, struct x86_cpu *cpu) { (void)accel; there = cpu->state; return true; }
static int fake_get(void *accel, struct x86_cpu *cpu) { (void)accel, (void)cpu; return -1; }
static void fake_kick(void *accel) { (void)accel; fake.kicked = true; }

static void fake_look(void *accel, struct x86_state *s)
{
    (void)accel;
    *s = there;
    s->rip = fake.base + script[fake.step].pc;
    s->cr0 |= fake.base == HIGH ? X86_CR0_PG : 0;
    s->cr4 |= X86_CR4_PSE;
    s->cr3 = BASE + TABLES;
    s->gpr[X86_RSP] = fake.base + STACK;
    fake.looks++;
    fake.times++;
}

/* Until it was looked at often enough. */
static enum accel_left fake_run(void *accel, struct x86_cpu *cpu, unsigned wants)
{
    (void)accel, (void)cpu, (void)wants;
    uint8_t status = 3;
    while (fake.step < STEPS && fake.times >= script[fake.step].times) {
        fake.step++;
        fake.times = 0;
    }
    if (fake.step == STEPS) {
        machine_port(fake.machine, true, 0x501, 1, 1, &status);
        return ACCEL_GO_ON;
    }
    while (!atomic_exchange(&fake.kicked, false))
        usleep(1000);
    return ACCEL_KICKED;
}
static const struct accel_ops ops = {.name = "fake", .new = fake_new, .free = fake_free, .tsc_khz = fake_tsc_khz, .tsc_begin = fake_tsc_begin, .begin = fake_begin, .can_run = fake_can_run, .ram_changed = fake_ram_changed, .put = fake_put, .get = fake_get, .run = fake_run,
                                     .kick = fake_kick, .look = fake_look};

/* --- What the profile says */
static uint64_t runs_at(const struct profile *p, uint32_t pc)
{
    for (unsigned n = 0; n < p->block_count; n++)
        if (p->blocks[n].pc == fake.base + pc)
            return p->blocks[n].count;
    return 0;
}

static const struct profile_block *block_at(const struct profile *p, uint32_t pc)
{
    for (unsigned n = 0; n < p->block_count; n++)
        if (p->blocks[n].pc == fake.base + pc)
            return &p->blocks[n];
    return NULL;
}

static void stack_word(unsigned n, uint64_t word) { memcpy(image.bytes + STACK + 4 * n, &word, 4); }

static bool read_profile(void *ctx, const struct store_file *f)
{
    void **to = ctx;
    uint8_t *bytes;
    size_t got;
    char error[200];
    if (strncmp(f->name, "profile-", 8) || !store_file_get(to[0], f->name, &bytes, &got))
        return true;
    to[1] = profile_read(bytes, got, error, sizeof error);
    free(bytes);
    return false;
}

static struct profile *profile_of(const char *path)
{
    char error[200];
    void *found[2] = {store_open(&(struct store_options){.path = path}, error, sizeof error), NULL};
    if (!found[0])
        exit((printf("store_open: %s\n", error), 1));
    store_file_each(found[0], read_profile, found);
    store_close(found[0]);
    return found[1];
}

static void look_at(const struct profile *p)
{
    /* 10 ms of 1 GHz a sample: AGAIN has three instructions and 40 samples. */
    check(runs_at(p, AGAIN) == 133333333, "behind a call, whose callee was sampled: by its samples", (long)runs_at(p, AGAIN));
    check(runs_at(p, BACK) >= 100000000 && runs_at(p, BACK) <= 133333333, "where two ways meet", (long)runs_at(p, BACK));
    check(runs_at(p, CALLEE) == 133333333, "a function that is called", (long)runs_at(p, CALLEE));
    check(runs_at(p, LOOP) == 133333333, "without a sample of its own: as often as what is behind it", (long)runs_at(p, LOOP));
    check(!runs_at(p, AGAIN + 2) && !runs_at(p, BACK + 1) && !runs_at(p, CALLEE + 1), "no block begins where a sample fell", p->block_count);
    check(runs_at(p, CALLED) == 75000000, "a function that the stack alone tells of", (long)runs_at(p, CALLED));
    check(!runs_at(p, OUT) && !runs_at(p, COLD) && !runs_at(p, LATE), "what is not hot is not told of", p->block_count);
    const struct profile_block *b = block_at(p, AGAIN);
    check(b && b->size == 6 && b->page_offset == AGAIN && !memcmp(b->bytes, image.bytes + AGAIN, 6), "with its bytes, up to the jump", b ? b->size : 0);
    check(b && (b->mode & X86_MODE_CODE) == X86_MODE_CODE32 && !p->icount, "and its mode", b ? (long)b->mode : 0);
}

static void sampled(uint64_t base)
{
    char error[400], path[64];
    bool usage;
    int status = 0;
    snprintf(path, sizeof path, "%s", fresh_path());
    const struct machine_config config = {.ram_size = 16 << 20, .tier = TIER_KVM, .accel = &ops, .raw_image = image.bytes, .raw_size = image.size, .raw_entry = BASE,
                                          .raw_mode = 32, .debug_exit_port = 0x501, .debug_exit_size = 1, .sample_hz = 100, .cache = {.path = path, .named = true}};
    fake.base = base;
    stack_word(1, base + CALLER);
    stack_word(3, base + LOOP + 1); /* not behind a call */
    fake.step = fake.times = fake.looks = 0;
    struct machine *m = machine_new(&config, error, sizeof error, &usage);
    if (!m)
        exit((printf("machine_new: %s\n", error), 1));
    check(machine_run(m, &status) == MACHINE_DEBUG_EXIT && status == 7, "a run", status);
    check(stat_of(m, "samples_guest") == 110 && stat_of(m, "samples_lost") == 3, "samples are counted", (long)stat_of(m, "samples_guest"));
    machine_free(m);
    struct profile *p = profile_of(path);
    if (check(p, "a profile was left", 0))
        look_at(p);
    free(p);
}

int main(void)
{
    make();
    sampled(BASE);
    sampled(HIGH);
    remove_all();
    printf("profile_sample: %d passed, %d failed\n", passed, failed);
    return failed != 0;
}
