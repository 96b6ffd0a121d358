/* Timers whose main loop is held back, as on a host that has no CPU for it: a guest that spins without a look at any device has its interrupts all the
 * same, and one that reads a counter past its end finds the interrupt pending.  And the main loop runs the timers where the host has none for us. */
#include "tests/runtime/held_loop.h"
#include <stdatomic.h>
#include <sys/resource.h>

/* 32 bit, at 0x100000.  `spin`: 50 ticks of 1 kHz, then 'y'.  `ask`: 2000 times one shot of the PIT, whose output is high when the PIC is asked. */
#define LATCHES "  mov $0x11, %al\n out %al, $0x20\n mov $0x20, %al\n out %al, $0x21\n mov $4, %al\n out %al, $0x21\n" \
                "  mov $1, %al\n out %al, $0x21\n mov $0xfe, %al\n out %al, $0x21\n"
__asm__(".pushsection .rodata\n"
        ".code32\n"
        "spin_begin:\n"
        "  lgdt 0x100000 + spin_gdtr - spin_begin\n"
        "  lidt 0x100000 + spin_idtr - spin_begin\n"
        "  mov $0x90000, %esp\n"
        "  movl $spin_tick - spin_begin, %eax\n" /* gate 0x20: selector 0x10, offset 0x0010xxxx */
        "  andl $0xffff, %eax\n"
        "  orl $0x00100000, %eax\n"
        "  movl %eax, 0x80100\n"
        "  movl $0x00108e00, 0x80104\n" LATCHES
        "  movl $0, 0x70000\n"
        "  mov $0x34, %al\n out %al, $0x43\n mov $0xa9, %al\n out %al, $0x40\n mov $4, %al\n out %al, $0x40\n"
        "  sti\n"
        "1: cmpl $50, 0x70000\n jb 1b\n"
        "  mov $'y', %al\n out %al, $0xe9\n"
        "2: hlt\n jmp 2b\n"
        "spin_tick:\n"
        "  push %eax\n incl 0x70000\n mov $0x20, %al\n out %al, $0x20\n pop %eax\n iret\n"
        "  .p2align 3\n"
        "spin_gdt: .quad 0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff\n"
        "spin_gdtr: .word 31\n .long 0x100000 + spin_gdt - spin_begin\n"
        "spin_idtr: .word 0x107\n .long 0x80000\n"
        "spin_end:\n"
        "ask_begin:\n"
        "  mov $2000, %ecx\n"
        "1:\n" LATCHES
        "  mov $0x30, %al\n out %al, $0x43\n mov $30, %al\n out %al, $0x40\n xor %al, %al\n out %al, $0x40\n" /* mode 0, 25 us */
        "2: mov $0xe2, %al\n out %al, $0x43\n in $0x40, %al\n test $0x80, %al\n jz 2b\n"
        "  mov $0x0a, %al\n out %al, $0x20\n in $0x20, %al\n test $1, %al\n jz 3f\n"
        "  dec %ecx\n jnz 1b\n"
        "  mov $'y', %al\n jmp 4f\n"
        "3: mov $'n', %al\n"
        "4: out %al, $0xe9\n"
        "5: hlt\n jmp 5b\n"
        "ask_end:\n"
        ".code64\n"
        ".popsection\n");
extern const uint8_t spin_begin[], spin_end[], ask_begin[], ask_end[];

struct run { struct machine *machine; bool held; atomic_int said; };

static void put(void *ctx, const uint8_t *bytes, size_t size)
{
    struct run *r = ctx;
    (void)size;
    atomic_store(&r->said, bytes[0]);
    if (!r->held)
        machine_quit(r->machine);
}

static bool has_said(void *ctx) { return atomic_load(&((struct run *)ctx)->said); }

static bool run(const char *name, enum tier tier, const uint8_t *begin, const uint8_t *end, bool held)
{
    struct run r = {.held = held};
    struct held loop;
    char error[256] = "";
    bool usage;
    int status;
    struct machine_config config = {
        .ram_size = 16 << 20, .tier = tier, .raw_image = begin, .raw_size = (size_t)(end - begin), .raw_entry = 0x100000, .raw_mode = 32, .debug_console = {put, &r},
    };
    r.machine = machine_new(&config, error, sizeof error, &usage);
    if (!r.machine)
        exit((printf("%s: %s\n", name, error), 1));
    if (held)
        held_begin(&loop, r.machine, has_said, &r);
    machine_run(r.machine, &status);
    machine_free(r.machine);
    if (held)
        held_end(&loop);
    bool ok = r.said == 'y';
    if (!ok)
        printf("%s, %s: %s\n", name, tier_name(tier), r.said ? "the interrupt was not pending" : "no interrupts came");
    return ok;
}

int main(void)
{
#if defined TIERCE_LLVM && !defined TIERCE_NASTY /* which compiles each instruction by itself */
    static const enum tier tiers[] = {TIER_INTERP, TIER_TCG, TIER_TIERED, TIER_LLVM};
#else
    static const enum tier tiers[] = {TIER_INTERP, TIER_TCG};
#endif
    enum { TIERS = sizeof tiers / sizeof *tiers };
    int failed = 0, count = 0;
    alarm(120); /* a guest that never speaks would leave its main loop asleep */
#ifndef TIERCE_LATE_SIGNALS
    for (unsigned i = 0; i < TIERS; i++)
        failed += !run("spin", tiers[i], spin_begin, spin_end, true), count++;
#endif
    setrlimit(RLIMIT_SIGPENDING, &(struct rlimit){0, 0}); /* from here on there is no timer to be had */
    for (unsigned i = 0; i < TIERS; i++)
        failed += !run("ask", tiers[i], ask_begin, ask_end, true), count++;
    failed += !run("spin without a timer", TIER_TCG, spin_begin, spin_end, false), count++;
    printf("%d passed, %d failed\n", count - failed, failed);
    return failed != 0;
}
