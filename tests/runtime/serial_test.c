/* Serial input while the main loop is held back: what was typed reaches a guest without FIFO as it reads, in order, a break among it, over
 * a loop-back that the guest makes in between. */
#include "tests/runtime/held_loop.h"
#include "tests/runtime/raw_guest.h"
#include <stdatomic.h>

enum { TYPED = 200 };
struct run { struct machine *machine; char heard[512]; atomic_uint count; };

/* Bytes from COM1 to port 0xe9, a break as '!'; at first, and behind each 'l', it turns loop-back on and off. */
__asm__(".pushsection .rodata\n"
        ".code32\n"
        "echo_begin:\n"
        "1: mov $0x3fc, %edx\n mov $0x10, %al\n out %al, (%dx)\n mov $1000, %ecx\n"
        "2: loop 2b\n"
        "  xor %al, %al\n out %al, (%dx)\n"
        "3: mov $0x3fd, %edx\n in (%dx), %al\n mov %al, %bl\n test $1, %al\n jz 3b\n"
        "  mov $0x3f8, %edx\n in (%dx), %al\n test $0x10, %bl\n jz 4f\n mov $'!', %al\n"
        "4: out %al, $0xe9\n cmp $'l', %al\n je 1b\n jmp 3b\n"
        "echo_end:\n"
        ".code64\n"
        ".popsection\n");
extern const uint8_t echo_begin[], echo_end[];

static void hear(void *ctx, const uint8_t *bytes, size_t size)
{
    struct run *r = ctx;
    for (size_t i = 0; i < size && r->count < sizeof r->heard - 1; i++)
        r->heard[r->count++] = (char)bytes[i];
}

static bool has_heard(void *ctx) { return atomic_load(&((struct run *)ctx)->count) >= TYPED + 2; }

static bool run(enum tier tier)
{
    struct run r = {.count = 0};
    struct held loop;
    struct image image = {.size = 0};
    char typed[TYPED + 1], want[TYPED + 3];
    int status;
    put(&image, echo_begin, (size_t)(echo_end - echo_begin));
    r.machine = raw_machine(&image, (struct machine_config){.tier = tier, .debug_console = {.write = hear, .ctx = &r}});
    for (unsigned i = 0; i < TYPED; i++)
        typed[i] = (char)('a' + i % 26);
    typed[TYPED] = 0;
    snprintf(want, sizeof want, "%s!.", typed);
    held_begin(&loop, r.machine, has_heard, &r);
    machine_io_write(r.machine, 0x3fc, 1, 0x10); /* loop-back, which the guest ends */
    bool ok = machine_serial_input(r.machine, 0, (const uint8_t *)typed, TYPED) == TYPED;
    machine_serial_break(r.machine, 0);
    ok &= machine_serial_input(r.machine, 0, (const uint8_t *)".", 1) == 1;
    machine_run(r.machine, &status);
    machine_free(r.machine);
    held_end(&loop);
    ok &= !strcmp(r.heard, want);
    if (!ok)
        printf("%s: heard \"%s\"\n", tier_name(tier), r.heard);
    return ok;
}

int main(void)
{
    int failed = !run(TIER_INTERP) + !run(TIER_TCG);
    printf("%d passed, %d failed\n", 2 - failed, failed);
    return failed != 0;
}
