/* handover_guest.h - a guest that keeps state everywhere - integer registers, x87, SSE, memory, a timer's interrupts - and says a byte of it again and
 * again, and what those bytes must be; and a run of it during which the tier changes at random moments. */
#ifndef TESTS_RUNTIME_HANDOVER_GUEST_H
#define TESTS_RUNTIME_HANDOVER_GUEST_H

#include "runtime/runtime.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* At 0x100000, in long mode; the generator (EAX, EBX) and the sums (ST(0), XMM0) in ring 3, which may use ports.  The timer's handler in ring 0 has linear 0x400000 lead
 * to another of eight pages each time, notes which at 0x200008, and the pages say which they are. */
__asm__(".pushsection .rodata\n"
        ".code32\n"
        "guest_begin:\n"
        "  mov $0x90000, %esp\n"
        "  movl $0x301007, 0x300000\n movl $0x302007, 0x301000\n" /* four levels: two large pages as they are, and a table of one page */
        "  movl $0x87, 0x302000\n movl $0x200087, 0x302008\n movl $0x303007, 0x302010\n movl $0x280007, 0x303000\n"
        "  mov $0x300000, %eax\n mov %eax, %cr3\n mov %cr4, %eax\n or $0x220, %eax\n mov %eax, %cr4\n"
        "  mov $0xc0000080, %ecx\n rdmsr\n or $0x100, %eax\n wrmsr\n mov %cr0, %eax\n or $0x80000000, %eax\n mov %eax, %cr0\n"
        "  lgdt 0x100000 + guest_gdtr - guest_begin\n ljmp $8, $0x100000 + guest_long - guest_begin\n"
        ".code64\n"
        "guest_long:\n"
        "  mov $0x10, %eax\n mov %eax, %ds\n mov %eax, %es\n mov %eax, %ss\n"
        "  mov $0x100000 + guest_handler - guest_begin, %eax\n"
        "  mov %ax, 0x80200\n movw $8, 0x80202\n movw $0x8e00, 0x80204\n shr $16, %eax\n mov %ax, 0x80206\n"
        "  lidt 0x100000 + guest_idtr - guest_begin\n"
        "  mov $7, %ecx\n 4: mov %ecx, %edi\n shl $12, %edi\n imul $29, %ecx, %eax\n mov %eax, 0x280000(%rdi)\n dec %ecx\n jns 4b\n"
        "  mov $0x11, %al\n out %al, $0x20\n mov $0x20, %al\n out %al, $0x21\n mov $4, %al\n out %al, $0x21\n mov $1, %al\n out %al, $0x21\n"
        "  mov $0xfe, %al\n out %al, $0x21\n"
        "  mov $0x34, %al\n out %al, $0x43\n mov $0x00, %al\n out %al, $0x40\n mov $0x20, %al\n out %al, $0x40\n" /* mode 2, 146 Hz */
        "  fninit\n fldz\n pxor %xmm0, %xmm0\n"
        "  movl $0, 0x200000\n"
        "  mov $1, %eax\n mov $1013904223, %ebx\n"
        "  movl $0x8f000, 0x82004\n mov $0x28, %ecx\n ltr %cx\n" /* RSP0 */
        "  pushq $0x23\n pushq $0x90000\n pushq $0x3202\n pushq $0x1b\n pushq $0x100000 + 1f - guest_begin\n iretq\n" /* IOPL 3 and IF */
        "1: mov $256, %ecx\n"
        "2: imul $1664525, %eax, %eax\n add %ebx, %eax\n dec %ecx\n jnz 2b\n"
        "  fld1\n faddp\n fistl 0x200004\n"
        "  movd %eax, %xmm1\n paddd %xmm1, %xmm0\n movd %xmm0, %edx\n"
        "  xor 0x200004, %edx\n xor %eax, %edx\n"
        "3: mov 0x200008, %esi\n mov 0x400000, %edi\n cmp 0x200008, %esi\n jne 3b\n imul $29, %esi, %esi\n xor %esi, %edi\n xor %edi, %edx\n"
        "  push %rax\n mov %edx, %eax\n out %al, $0xe9\n pop %rax\n"
        "  jmp 1b\n"
        "guest_handler: push %rax\n incl 0x200000\n"
        "  mov 0x200000, %eax\n and $7, %eax\n mov %eax, 0x200008\n shl $12, %eax\n add $0x280007, %eax\n mov %eax, 0x303000\n invlpg 0x400000\n"
        "   mov $0x20, %al\n out %al, $0x20\n pop %rax\n iretq\n"
        ".balign 8\n"
        "guest_gdt: .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00affb000000ffff, 0x00cff3000000ffff, 0x0000890820000067, 0\n"
        "guest_gdtr: .word 55\n .long 0x100000 + guest_gdt - guest_begin\n"
        "guest_idtr: .word 0x20f\n .quad 0x80000\n"
        "guest_end:\n"
        ".popsection\n");
extern const uint8_t guest_begin[], guest_end[];

struct guest_run {
    struct machine *machine;
    pthread_t thread;
    uint32_t generator, sum, count;      /* what the guest has, by the test's own reckoning */
    atomic_uint bytes, wrong, by_tier[TIER_KVM + 1];
};

static void guest_says(void *ctx, const uint8_t *bytes, size_t size)
{
    struct guest_run *r = ctx;
    for (size_t n = 0; n < size; n++) {
        for (unsigned i = 0; i < 256; i++)
            r->generator = r->generator * 1664525u + 1013904223u;
        r->count++;
        r->sum += r->generator;
        r->wrong += bytes[n] != (uint8_t)(r->sum ^ r->count ^ r->generator);
        r->bytes++;
        r->by_tier[machine_tier(r->machine)]++; /* on the vCPU's thread, whose tier it is */
    }
}

static void *guest_main_loop(void *arg)
{
    struct guest_run *r = arg;
    int status;
    machine_run(r->machine, &status);
    return NULL;
}

static bool guest_start(struct guest_run *r, enum tier tier, const struct accel_ops *accel, bool accel_controllers)
{
    char error[256];
    bool usage;
    const struct machine_config config = {.ram_size = 16 << 20, .tier = tier, .accel = accel, .accel_controllers = accel_controllers, .hot_threshold = 50, .raw_image = guest_begin,
        .raw_size = (size_t)(guest_end - guest_begin), .raw_entry = 0x100000, .raw_mode = 32, .debug_console = {guest_says, r}};
    memset(r, 0, sizeof *r);
    r->generator = 1;
    r->machine = machine_new(&config, error, sizeof error, &usage);
    if (!r->machine)
        printf("machine_new: %s\n", error);
    return r->machine && !pthread_create(&r->thread, NULL, guest_main_loop, r);
}

/* Changes to one of the tiers at `count` random moments, each after the guest has said something in the present one.  Returns the number of failures. */
static unsigned guest_handovers(struct guest_run *r, const enum tier *tiers, unsigned tier_count, unsigned count)
{
    char error[256];
    unsigned failures = 0;
    for (unsigned n = 0, last = 0; n < count && !failures; n++) {
        unsigned before = r->bytes, next = (last + 1 + (unsigned)rand() % (tier_count - 1)) % tier_count;
        for (unsigned waited = 0; r->bytes < before + 1 + (unsigned)rand() % 3 && !failures; waited++) {
            usleep(200);
            failures += waited == 100000;
        }
        if (failures)
            printf("handover %u: the guest says nothing more in %s, after %u bytes\n", n, tier_name(tiers[last]), before);
        usleep((unsigned)rand() % 1000);
        if (!machine_tier_set(r->machine, tiers[next], error, sizeof error)) {
            printf("handover %u: %s\n", n, error);
            failures++;
        }
        last = next;
    }
    uint32_t ticks = 0;
    machine_stop(r->machine);
    machine_debug_read(r->machine, 0x200000, true, &ticks, 4);
    machine_quit(r->machine);
    pthread_join(r->thread, NULL);
    printf("%u bytes, %u wrong, %u timer interrupts; by tier:", (unsigned)r->bytes, (unsigned)r->wrong, ticks);
    for (unsigned i = 0; i < tier_count; i++) {
        printf(" %s %u", tier_name(tiers[i]), (unsigned)r->by_tier[tiers[i]]);
        failures += !r->by_tier[tiers[i]];
    }
    puts("");
    machine_free(r->machine);
    return failures + r->wrong + !ticks;
}

#endif
