/* Random bytes as a guest, in real, protected and long mode, as supervisor and as user, with random registers and flags,
 * in each tier.  The emulator must neither crash, nor hang, nor touch host memory that is not the guest's (the sanitizers
 * see that; guard bytes behind the image here do not).  What the guest does meanwhile is its own affair.
 * A small trusted part in the guest handles every exception by starting anew at the next random place; a run ends after some
 * hundred of them, by triple fault, by an alarm on its instruction count, or after a while (REP may take long).
 * Arguments: number of seeds (default 40), the first seed; HOSTILE_VERBOSE=1 names each. */
#include "runtime/internal.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

enum { RANDOM_SIZE = 0x8000, LIMIT_NS = 1000000 /* of --icount: instructions */ };
/* A timer interrupt after each 10 microseconds takes the guest out of endless loops. */
#define TIMER "  mov $0x11, %al\n out %al, $0x20\n mov $0x20, %al\n out %al, $0x21\n mov $4, %al\n out %al, $0x21\n" \
              "  mov $1, %al\n out %al, $0x21\n mov $0xfe, %al\n out %al, $0x21\n" \
              "  mov $0x34, %al\n out %al, $0x43\n mov $12, %al\n out %al, $0x40\n mov $0, %al\n out %al, $0x40\n"
#define END_OF_INTERRUPT "  mov $0x20, %al\n out %al, $0x20\n"

/* Loaded at 1 MiB, entered in flat 32-bit mode; RANDOM_SIZE random bytes follow at 0x110000.  Memory: IDT 0x80000, TSS
 * 0x60000, stack below 0x90000, count of restarts at 0x70000, its limit and the mode (0: 32 bit, 1: 64 bit) in the image. */
__asm__(".pushsection .data\n"
        ".globl hostile_begin, hostile_end, hostile_mode\n"
        ".code32\n"
        "hostile_begin:\n"
        "  jmp 1f\n"
        "  .p2align 2\n"
        "hostile_mode: .long 0\n"
        "1: lgdt 0x100000 + hostile_gdtr - hostile_begin\n"
        "  mov $0x90000, %esp\n"
        "  cmpl $0, 0x100000 + hostile_mode - hostile_begin\n"
        "  jne long_setup\n"
        /* 32 bit: 256 gates to handler32; the TSS has the supervisor's stack */
        "  mov $0x80000, %edi\n mov $256, %ecx\n"
        "2: movl $handler32 - hostile_begin + 0x100000, (%edi)\n movl $0x00108e00, 4(%edi)\n"
        "  movw $0x10, 2(%edi)\n add $8, %edi\n loop 2b\n"
        "  movl $0x90000, 0x60004\n movl $0x18, 0x60008\n"
        "  lidt 0x100000 + hostile_idtr32 - hostile_begin\n"
        "  mov $0x30, %eax\n ltr %ax\n"
        "  mov %cr4, %eax\n or $0x600, %eax\n mov %eax, %cr4\n fninit\n"
        TIMER
        "handler32:\n"
        "  mov $0x18, %eax\n mov %eax, %ss\n mov %eax, %ds\n mov %eax, %es\n mov $0x90000, %esp\n"
        END_OF_INTERRUPT
        "  incl 0x70000\n mov 0x70000, %esi\n cmp $60, %esi\n jae hostile_exit\n"
        "  imul $107, %esi, %edi\n and $0x7fff, %edi\n add $0x110000, %edi\n"
        "  test $1, %esi\n jz 3f\n"
        "  push $0x2b\n push $0x8f000\n pushl 64(%edi)\n andl $0x244fd5, (%esp)\n orl $0x200, (%esp)\n push $0x23\n push %edi\n"
        "  mov $0x2b, %eax\n mov %eax, %ds\n mov %eax, %es\n jmp 4f\n"
        "3: pushl 64(%edi)\n andl $0x244fd5, (%esp)\n orl $0x200, (%esp)\n push $0x10\n push %edi\n"
        "4: mov 32(%edi), %eax\n mov 36(%edi), %ebx\n mov 40(%edi), %ecx\n mov 44(%edi), %edx\n mov 48(%edi), %ebp\n mov 56(%edi), %esi\n"
        "  iretl\n"
        "hostile_exit: mov $1, %al\n mov $0x501, %edx\n out %al, (%dx)\n jmp hostile_exit\n"
        /* 64 bit: a page directory of 2 MiB pages for 1 GiB, which users may use too */
        "long_setup:\n"
        "  movl $0x51007, 0x50000\n movl $0x52007, 0x51000\n mov $0x52000, %edi\n mov $0x87, %eax\n mov $512, %ecx\n"
        "2: mov %eax, (%edi)\n add $0x200000, %eax\n add $8, %edi\n loop 2b\n"
        "  mov $0x50000, %eax\n mov %eax, %cr3\n mov %cr4, %eax\n or $0x620, %eax\n mov %eax, %cr4\n"
        "  mov $0xc0000080, %ecx\n rdmsr\n or $0x901, %eax\n wrmsr\n mov %cr0, %eax\n or $0x80000000, %eax\n mov %eax, %cr0\n"
        "  ljmp $0x40, $0x100000 + long_begin - hostile_begin\n"
        ".code64\n"
        "long_begin:\n"
        "  mov $0x80000, %edi\n mov $256, %ecx\n"
        "2: movl $handler64 - hostile_begin + 0x100000, (%rdi)\n movl $0x00108e00, 4(%rdi)\n movw $0x40, 2(%rdi)\n movq $0, 8(%rdi)\n"
        "  add $16, %rdi\n loop 2b\n"
        "  movl $0x90000, 0x60004\n"
        "  lidt 0x100000 + hostile_idtr64 - hostile_begin\n"
        "  mov $0x30, %eax\n ltr %ax\n fninit\n"
        TIMER
        "handler64:\n"
        "  mov $0x18, %eax\n mov %eax, %ss\n mov $0x90000, %esp\n"
        END_OF_INTERRUPT
        "  incl 0x70000\n mov 0x70000, %esi\n cmp $60, %esi\n jae 5f\n"
        "  imul $107, %esi, %edi\n and $0x7fff, %edi\n add $0x110000, %edi\n"
        "  test $1, %esi\n jz 3f\n"
        "  pushq $0x2b\n pushq $0x8f000\n pushq 64(%rdi)\n andq $0x244fd5, (%rsp)\n orq $0x200, (%rsp)\n pushq $0x4b\n push %rdi\n jmp 4f\n"
        "3: pushq $0x18\n pushq $0x8e000\n pushq 64(%rdi)\n andq $0x244fd5, (%rsp)\n orq $0x200, (%rsp)\n pushq $0x40\n push %rdi\n"
        "4: mov 24(%rdi), %rax\n mov 32(%rdi), %rbx\n mov 40(%rdi), %rcx\n mov 48(%rdi), %rdx\n mov 56(%rdi), %r8\n mov 72(%rdi), %r15\n"
        "  movl 80(%rdi), %esi\n"
        "  iretq\n"
        "5: mov $1, %al\n mov $0x501, %edx\n out %al, (%dx)\n jmp 5b\n"
        "  .p2align 3\n"
        "hostile_gdt: .quad 0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00cffb000000ffff, 0x00cff3000000ffff, 0x0000890600000067, 0, 0x00af9b000000ffff, 0x00affb000000ffff\n"
        "hostile_gdtr: .word 79\n .long 0x100000 + hostile_gdt - hostile_begin\n"
        "hostile_idtr32: .word 0x7ff\n .long 0x80000\n"
        "hostile_idtr64: .word 0xfff\n .quad 0x80000\n"
        "hostile_end:\n"
        ".popsection\n");
extern uint8_t hostile_begin[], hostile_end[];

/* Real mode: loaded at 0x10000; every vector leads to the handler, which starts anew. */
__asm__(".pushsection .data\n"
        ".code16\n"
        ".globl real_begin, real_end\n"
        "real_begin:\n"
        "  xor %ax, %ax\n mov %ax, %es\n xor %di, %di\n mov $256, %cx\n"
        "1: movw $real_handler - real_begin, %es:(%di)\n movw $0x1000, %es:2(%di)\n add $4, %di\n loop 1b\n"
        TIMER
        "real_handler:\n"
        "  cli\n mov $0x3000, %ax\n mov %ax, %ss\n mov $0xff00, %sp\n mov $0x1000, %ax\n mov %ax, %ds\n mov %ax, %es\n"
        END_OF_INTERRUPT
        "  incw 0x400\n mov 0x400, %si\n cmp $60, %si\n jae 2f\n"
        "  imul $107, %si, %di\n and $0x3fff, %di\n add $0x800, %di\n"
        "  pushw 32(%di)\n mov %sp, %bp\n orw $0x200, (%bp)\n pushw $0x1000\n pushw %di\n"
        "  mov 16(%di), %eax\n mov 20(%di), %ebx\n mov 24(%di), %ecx\n mov 28(%di), %edx\n mov 36(%di), %esi\n mov 40(%di), %ebp\n iret\n"
        "2: mov $1, %al\n mov $0x501, %dx\n out %al, (%dx)\n jmp 2b\n"
        "real_end:\n"
        ".code64\n"
        ".popsection\n");
extern uint8_t real_begin[], real_end[];

enum mode { REAL, PROTECTED, LONG, MODES };
static const char *const mode_names[] = {"real", "protected", "long"};

static uint64_t next(uint64_t *x)
{
    *x ^= *x << 13, *x ^= *x >> 7, *x ^= *x << 17;
    return *x * 0x2545f4914f6cdd1dull;
}

/* Bytes alone are mostly faults: half of them begin with opcodes that are rarely hit, prefixes, or small numbers. */
static void randomise(uint8_t *to, size_t size, uint64_t seed)
{
    static const uint8_t liked[] = {0x0f, 0x66, 0xf3, 0xf2, 0x48, 0x67, 0x0f, 0x01, 0x20, 0x22, 0x30, 0x32, 0xcf, 0xcb, 0x9d, 0x8e, 0xae, 0xc7,
                                    0xa4, 0xab, 0xff, 0xd9, 0xdd, 0xdb, 0xcd, 0x9a, 0xea, 0xe6, 0xee, 0xf4, 0xfb, 0xfa, 0x38, 0x3a, 0xf0, 0x00};
    uint64_t x = seed * 0x9e3779b97f4a7c15ull | 1;
    for (size_t i = 0; i < size; i++) {
        uint64_t r = next(&x) >> 20;
        to[i] = r & 1 ? liked[(r >> 8) % sizeof liked] : (uint8_t)(r >> 8);
    }
}

static void nothing(void *ctx, const uint8_t *bytes, size_t size) { (void)ctx; (void)bytes; (void)size; }
static void enough(void *ctx)
{
    machine_end_with(ctx, MACHINE_QUIT, 0); /* on the vCPU's thread, with the lock held */
}

static struct machine *running;
static volatile sig_atomic_t hurried;
static void too_long(int sig)
{
    (void)sig;
    hurried++;
    if (running)
        machine_quit(running);
}
static void watch(struct machine *m)
{
    running = m;
    setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {.tv_usec = m ? 500000 : 0}}, NULL);
}

/* False: it could not be run at all. */
static bool run(enum mode mode, enum tier tier, uint64_t seed, unsigned *ends, unsigned long *restarts)
{
    static uint8_t image[0x10000 + RANDOM_SIZE];
    char error[256] = "";
    bool usage, real = mode == REAL;
    int status = 0;
    struct alarm alarm;
    const uint8_t *code = real ? real_begin : hostile_begin;
    size_t code_size = (size_t)(real ? real_end - real_begin : hostile_end - hostile_begin), random_at = real ? 0x800 : 0x10000;
    memset(image, 0, sizeof image);
    memcpy(image, code, code_size);
    if (!real)
        image[4] = mode == LONG;
    randomise(image + random_at, real ? 0x4000 : RANDOM_SIZE, seed);
    struct machine_config config = {
        .ram_size = 16 << 20, .tier = tier, .raw_image = image, .raw_size = random_at + RANDOM_SIZE, .raw_entry = real ? 0x10000 : 0x100000,
        .debug_exit_port = 0x501, .debug_exit_size = 4, .raw_mode = real ? 16 : 32, .debug_console = {nothing, NULL}, .serial = {{nothing, NULL}, {nothing, NULL}}, .no_reboot = true,
        .icount = true, .code_buffer_size = 1 << 20};
    struct machine *m = machine_new(&config, error, sizeof error, &usage);
    if (!m) {
        printf("machine_new: %s\n", error);
        return false;
    }
    alarm_init(&alarm, &m->clock, enough, m);
    alarm_set(&alarm, LIMIT_NS);
    watch(m);
    enum machine_end end = machine_run(m, &status);
    watch(NULL);
    if (end < 5)
        ends[end]++;
    *restarts += m->ram[real ? 0x10400 : 0x70000];
    alarm_cancel(&alarm);
    machine_free(m);
    return true;
}

int main(int argc, char **argv)
{
    static const char *const end_names[] = {"powered off", "triple fault or reset", "instruction limit", "all restarts", "error"};
    unsigned long seeds = argc > 1 ? strtoul(argv[1], NULL, 0) : 40, first = argc > 2 ? strtoul(argv[2], NULL, 0) : 1, ran = 0, failed = 0;
    signal(SIGALRM, too_long);
    for (enum mode mode = REAL; mode < MODES; mode++)
        for (int tier = TIER_INTERP; tier <= TIER_TCG; tier++) {
            unsigned ends[5] = {0};
            unsigned long restarts = 0;
            for (uint64_t seed = first; seed < first + seeds; seed++) {
                if (getenv("HOSTILE_VERBOSE"))
                    fprintf(stderr, "%s mode, tier %d, seed %lu\n", mode_names[mode], tier, (unsigned long)seed);
                run(mode, (enum tier)tier, seed, ends, &restarts) ? ran++ : failed++;
            }
            printf("%s mode, %s: %lu random places;", mode_names[mode], tier == TIER_TCG ? "tcg" : "interp", restarts);
            for (unsigned i = 0; i < 5; i++)
                printf(" %s %u;", end_names[i], ends[i]);
            printf(" %d of these by time\n", (int)hurried);
            hurried = 0;
            failed += restarts < 3 * seeds; /* the guest's own part does not work */
        }
    printf("%lu passed, %lu failed\n", ran, failed);
    return failed != 0;
}
