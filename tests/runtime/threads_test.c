/* A machine and the threads around it: while a guest takes timer interrupts and echoes its serial port, other threads
 * stop it, continue it, look into it, type, and reset it.  Built for ThreadSanitizer; what was typed must come back. */
#include "runtime/runtime.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Echoes COM1 to port 0xe9 and halts between 1 kHz timer interrupts; 'q' ends with status 3. */
__asm__(".pushsection .rodata\n"
        ".code32\n"
        "guest_begin:\n"
        "  lgdt 0x100000 + guest_gdtr - guest_begin\n"
        "  lidt 0x100000 + guest_idtr - guest_begin\n"
        "  mov $0x90000, %esp\n"
        "  movl $guest_tick - guest_begin, %eax\n" /* gate 0x20: selector 0x10, offset 0x0010xxxx */
        "  andl $0xffff, %eax\n"
        "  orl $0x00100000, %eax\n"
        "  movl %eax, 0x80100\n"
        "  movl $0x00108e00, 0x80104\n"
        "  mov $0x11, %al\n out %al, $0x20\n mov $0x20, %al\n out %al, $0x21\n mov $4, %al\n out %al, $0x21\n"
        "  mov $1, %al\n out %al, $0x21\n mov $0xfe, %al\n out %al, $0x21\n"
        "  mov $0x34, %al\n out %al, $0x43\n mov $0xa9, %al\n out %al, $0x40\n mov $4, %al\n out %al, $0x40\n"
        "  sti\n"
        "1: mov $0x3fd, %edx\n in (%dx), %al\n test $1, %al\n jz 2f\n"
        "  mov $0x3f8, %edx\n in (%dx), %al\n cmp $'q', %al\n je 3f\n out %al, $0xe9\n jmp 1b\n"
        "2: hlt\n jmp 1b\n"
        "3: mov $1, %al\n mov $0x501, %edx\n out %al, (%dx)\n jmp 2b\n"
        "guest_tick:\n"
        "  push %eax\n incl 0x70000\n mov $0x20, %al\n out %al, $0x20\n pop %eax\n iret\n"
        "  .p2align 3\n"
        "guest_gdt: .quad 0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff\n"
        "guest_gdtr: .word 31\n .long 0x100000 + guest_gdt - guest_begin\n"
        "guest_idtr: .word 0x107\n .long 0x80000\n"
        "guest_end:\n"
        ".code64\n"
        ".popsection\n");
extern const uint8_t guest_begin[], guest_end[];

struct run { struct machine *machine; char out[4096]; atomic_uint count; atomic_bool over; unsigned sent; };

static void put(void *ctx, const uint8_t *bytes, size_t size)
{
    struct run *r = ctx;
    for (size_t i = 0; i < size && r->count < sizeof r->out - 1; i++)
        r->out[r->count++] = (char)bytes[i];
}

static void nothing(void *ctx, const uint8_t *bytes, size_t size) { (void)ctx; (void)bytes; (void)size; }

/* Stands still, is looked into, goes on. */
static void look(struct run *r)
{
    char *text = NULL;
    size_t size;
    uint32_t ticks;
    FILE *f = open_memstream(&text, &size);
    machine_stop(r->machine);
    x86_state_print(f, &machine_cpu(r->machine)->state);
    machine_print_jit(r->machine, f);
    machine_print_tlb(r->machine, f);
    machine_debug_read(r->machine, 0x70000, true, &ticks, sizeof ticks);
    machine_continue(r->machine);
    fclose(f);
    free(text);
}

static void type(struct run *r, char c)
{
    unsigned before = atomic_load(&r->count);
    while (!machine_serial_input(r->machine, 0, (const uint8_t *)&c, 1))
        usleep(100);
    for (unsigned i = 0; i < 20000 && c != 'q' && atomic_load(&r->count) == before; i++)
        usleep(100);
    r->sent++;
}

static void *meddle(void *arg)
{
    struct run *r = arg;
    for (unsigned i = 0; i < 40; i++) {
        type(r, (char)('a' + i % 10));
        if (i % 3 == 0)
            look(r);
    }
    machine_reset(r->machine);
    while (!atomic_load(&r->over)) { /* the reset may swallow what is typed */
        char q = 'q';
        machine_serial_input(r->machine, 0, (const uint8_t *)&q, 1);
        usleep(1000);
    }
    return NULL;
}

static bool run(enum tier tier)
{
    struct run r = {.count = 0};
    char error[256] = "", want[64];
    bool usage;
    int status = 0;
    pthread_t thread;
    struct machine_config config = {
        .ram_size = 16 << 20, .tier = tier, .raw_image = guest_begin, .raw_size = (size_t)(guest_end - guest_begin),
        .raw_entry = 0x100000, .debug_exit_port = 0x501, .debug_exit_size = 4, .raw_mode = 32, .debug_console = {put, &r}, .serial = {{nothing, NULL}, {nothing, NULL}},
    };
    r.machine = machine_new(&config, error, sizeof error, &usage);
    if (!r.machine) {
        printf("machine_new: %s\n", error);
        return false;
    }
    pthread_create(&thread, NULL, meddle, &r);
    enum machine_end end = machine_run(r.machine, &status);
    atomic_store(&r.over, true);
    pthread_join(thread, NULL);
    machine_free(r.machine);
    for (unsigned i = 0; i < 40; i++)
        want[i] = (char)('a' + i % 10);
    want[40] = 0;
    bool ok = end == MACHINE_DEBUG_EXIT && status == 3 && !strcmp(r.out, want);
    if (!ok)
        printf("tier %d: end %d status %d, echoed \"%s\"\n", tier, end, status, r.out);
    return ok;
}

int main(void)
{
    int passed = 0, failed = 0;
    for (int tier = TIER_INTERP; tier <= TIER_TCG; tier++)
        run((enum tier)tier) ? passed++ : failed++;
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
