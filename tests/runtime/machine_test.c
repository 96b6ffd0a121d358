/* Machines beside each other in one process: they differ in tier, CPU model, guest and mode, all are alive at the same
 * moment (each has spoken and waits), one ends and is freed and another is made while the others wait, and each must
 * find its own memory, registers and devices untouched by the others. */
#include "runtime/runtime.h"
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

/* 32 bit, at 0x100000.  Says the letter at `letter`, waits for a byte on COM1, adds the letter 1500 times to memory
 * that all machines use, rewrites its own code on the way, says the letter again if all is right, ends with the letter. */
__asm__(".pushsection .rodata\n"
        ".code32\n"
        "count_begin:\n"
        "  movzbl 0x100000 + count_letter - count_begin, %ebx\n"
        "  mov %ebx, %eax\n out %al, $0xe9\n"
        "  movl $0, 0x200000\n"
        "1: mov $0x3fd, %edx\n in (%dx), %al\n test $1, %al\n jz 1b\n"
        "  mov $1500, %ecx\n"
        "2: add %ebx, 0x200000\n"
        "  mov %cl, 0x100000 + count_patched + 1 - count_begin\n" /* MOV AL's operand: rewritten each time */
        "count_patched: mov $0, %al\n"
        "  cmp %cl, %al\n jne 3f\n"
        "  dec %ecx\n jnz 2b\n"
        "  imul $1500, %ebx, %eax\n cmp %eax, 0x200000\n jne 3f\n"
        "  mov %ebx, %eax\n jmp 4f\n"
        "3: mov $'!', %al\n"
        "4: out %al, $0xe9\n mov %ebx, %eax\n mov $0x501, %edx\n out %al, (%dx)\n"
        "5: hlt\n jmp 5b\n"
        "count_letter: .byte 0\n"
        "count_end:\n"
        /* 16 bit, at 0x10000, in real mode: says its letter, waits, says it again, ends. */
        ".code16\n"
        "real_begin:\n"
        "  mov %cs:real_letter - real_begin, %al\n out %al, $0xe9\n"
        "1: mov $0x3fd, %dx\n in (%dx), %al\n test $1, %al\n jz 1b\n"
        "  mov %cs:real_letter - real_begin, %al\n out %al, $0xe9\n mov $0x501, %dx\n out %al, (%dx)\n"
        "2: hlt\n jmp 2b\n"
        "real_letter: .byte 0\n"
        "real_end:\n"
        ".code64\n"
        ".popsection\n");
extern const uint8_t count_begin[], count_letter[], count_end[], real_begin[], real_letter[], real_end[];

struct guest { const uint8_t *begin, *letter, *end; uint64_t at; int mode; };
static const struct guest count = {count_begin, count_letter, count_end, 0x100000, 32};
static const struct guest real = {real_begin, real_letter, real_end, 0x10000, 16};

struct run {
    const struct guest *guest;
    enum tier tier; const char *cpu;
    char letter, out[16]; atomic_uint said;
    uint8_t image[512];
    struct machine *machine;
    pthread_t thread;
    atomic_bool ended;
    enum machine_end end; int status;
};

static void put(void *ctx, const uint8_t *bytes, size_t size)
{
    struct run *r = ctx;
    for (size_t i = 0; i < size && r->said < sizeof r->out - 1; i++)
        r->out[r->said++] = (char)bytes[i];
}

static void *main_loop(void *arg)
{
    struct run *r = arg;
    r->end = machine_run(r->machine, &r->status);
    r->ended = true;
    return NULL;
}

static bool start(struct run *r)
{
    char error[256] = "";
    bool usage;
    const struct guest *g = r->guest;
    memcpy(r->image, g->begin, (size_t)(g->end - g->begin));
    r->image[g->letter - g->begin] = (uint8_t)r->letter;
    struct machine_config config = {
        .ram_size = 16 << 20, .tier = r->tier, .cpu = r->cpu, .raw_image = r->image, .raw_size = (size_t)(g->end - g->begin),
        .raw_entry = g->at, .debug_exit_port = 0x501, .debug_exit_size = 4, .raw_mode = g->mode, .debug_console = {put, r},
    };
    r->machine = machine_new(&config, error, sizeof error, &usage);
    if (!r->machine)
        printf("machine_new: %s\n", error);
    return r->machine && pthread_create(&r->thread, NULL, main_loop, r) == 0;
}

static bool waits(const struct run *r)
{
    for (unsigned i = 0; i < 20000 && r->said != 1; i++)
        usleep(1000);
    return r->said == 1 && !r->ended;
}

/* Lets it go on, and sees how it ended. */
static bool finish(struct run *r)
{
    static const uint8_t byte = 'x';
    machine_serial_input(r->machine, 0, &byte, 1);
    pthread_join(r->thread, NULL);
    char want[3] = {r->letter, r->letter, 0};
    bool good = r->end == MACHINE_DEBUG_EXIT && r->status == (r->letter << 1 | 1) && !strcmp(r->out, want);
    if (!good)
        printf("machine %c: end %d status %d console \"%s\"\n", r->letter, r->end, r->status, r->out);
    machine_free(r->machine);
    return good;
}

int main(void)
{
    struct run runs[] = {
        {.guest = &count, .tier = TIER_TCG, .letter = 'A'}, {.guest = &count, .tier = TIER_INTERP, .letter = 'B', .cpu = "pentium3"},
        {.guest = &real, .tier = TIER_TCG, .letter = 'C', .cpu = "486"}, {.guest = &count, .tier = TIER_TCG, .letter = 'D', .cpu = "qemu64"},
    };
    enum { FIRST = 3, ALL = sizeof runs / sizeof *runs };
    int failed = 0;
    for (unsigned i = 0; i < FIRST; i++)
        if (!start(&runs[i]))
            return 1;
    for (unsigned i = 0; i < FIRST; i++)
        failed += !waits(&runs[i]); /* all of them, at the same time */
    failed += !finish(&runs[0]);
    if (!start(&runs[FIRST])) /* one more, beside those that wait */
        return 1;
    failed += !waits(&runs[FIRST]);
    for (unsigned i = 1; i < ALL; i++)
        failed += runs[i].ended;
    for (unsigned i = 1; i < ALL; i++)
        failed += !finish(&runs[i]);
    printf("%d passed, %d failed\n", 2 * ALL + 3 - failed, failed);
    return failed != 0;
}
