/* A small guest on the host's KVM: ports, strings, device memory, a timer's interrupt that wakes it from HLT, its own code written over, stop
 * and go on from outside, a reset, and an end by isa-debug-exit; with the interrupt controllers here, and in KVM.  Skipped, with the reason, where the host has no KVM. */
#include "kvm/kvm.h"
#include "tests/runtime/raw_guest.h"
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* 32 bit, flat, at 0x100000. */
__asm__(".pushsection .rodata\n"
        ".code32\n"
        "guest_begin:\n"
        "  mov $0x90000, %esp\n"
        "  mov $0x100000 + guest_text - guest_begin, %esi\n mov $6, %ecx\n mov $0xe9, %dx\n cld\n rep outsb\n"
        "  mov $0xfee000f0, %ebx\n movl $0x1ff, (%ebx)\n mov (%ebx), %eax\n cmp $0x1ff, %eax\n jne 9f\n" /* the local APIC's spurious vector register */
        "  mov $0x3fd, %dx\n in (%dx), %al\n test $0x20, %al\n jz 9f\n"
        "  mov $'d', %al\n out %al, $0xe9\n"
        "  movb $'c', 0x100000 + guest_patched + 1 - guest_begin\n"
        "guest_patched: mov $'?', %al\n out %al, $0xe9\n"
        "  mov $0x100000 + guest_handler - guest_begin, %eax\n" /* IDT entry 20h, in RAM at 0x80000 */
        "  mov %ax, 0x80100\n movw $0x10, 0x80102\n movw $0x8e00, 0x80104\n shr $16, %eax\n mov %ax, 0x80106\n"
        "  lgdt 0x100000 + guest_gdtr - guest_begin\n"
        "  lidt 0x100000 + guest_idtr - guest_begin\n"
        "  mov $0x11, %al\n out %al, $0x20\n mov $0x20, %al\n out %al, $0x21\n mov $4, %al\n out %al, $0x21\n mov $1, %al\n out %al, $0x21\n"
        "  mov $0xfe, %al\n out %al, $0x21\n"                     /* the timer alone */
        "  mov $0x30, %al\n out %al, $0x43\n mov $0x00, %al\n out %al, $0x40\n mov $0x10, %al\n out %al, $0x40\n" /* mode 0, 3.4 ms */
        "  xor %edi, %edi\n sti\n"
        "1: hlt\n test %edi, %edi\n jz 1b\n cli\n"
        "  mov $'t', %al\n out %al, $0xe9\n"
        "  incb 0x200000\n cmpb $2, 0x200000\n je 3f\n"
        "  mov $'w', %al\n out %al, $0xe9\n"                      /* the first time: waits to be stopped, looked at, and reset */
        "2: mov $0x12345678, %eax\n incl 0x200004\n jmp 2b\n"
        "3: mov $1000, %ecx\n 5: out %al, $0x80\n loop 5b\n"       /* where nothing is */
        "  mov $'e', %al\n out %al, $0xe9\n mov $0x21, %al\n mov $0x501, %dx\n out %al, (%dx)\n"
        "4: hlt\n jmp 4b\n"
        "9: mov $'!', %al\n out %al, $0xe9\n mov $1, %al\n mov $0x501, %dx\n out %al, (%dx)\n jmp 9b\n"
        "guest_handler: push %eax\n inc %edi\n mov $0x20, %al\n out %al, $0x20\n pop %eax\n iret\n"
        ".balign 8\n"
        "guest_gdt: .quad 0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff\n"
        "guest_gdtr: .word 31\n .long 0x100000 + guest_gdt - guest_begin\n"
        "guest_idtr: .word 0x17f\n .long 0x80000\n"
        "guest_text: .ascii \"string\"\n"
        "guest_end:\n"
        ".code64\n"
        ".popsection\n");
extern const uint8_t guest_begin[], guest_end[];

static char said[64];
static atomic_uint said_count;
static void say(void *ctx, const uint8_t *bytes, size_t size)
{
    (void)ctx;
    for (size_t i = 0; i < size && said_count < sizeof said - 1; i++)
        said[said_count] = (char)bytes[i], said_count++; /* in this order: others look */
}

static enum machine_end end;
static int status;
static atomic_bool ended;
static void *main_loop(void *m)
{
    end = machine_run(m, &status);
    ended = true;
    return NULL;
}

static unsigned failures;
static void check_at(int line, const char *what, bool good)
{
    failures += !good;
    if (!good)
        printf("run_test.c:%d: %s; said '%s'\n", line, what, said);
}
#define CHECK(what, good) check_at(__LINE__, what, good)

static bool waits_for(unsigned count, unsigned seconds)
{
    for (unsigned i = 0; i < seconds * 1000 && said_count < count && !ended; i++)
        usleep(1000);
    return said_count >= count;
}

static void look(struct machine *m)
{
    uint32_t before = 0, after = 0;
    machine_stop(m);
    const struct x86_state *s = &machine_cpu(m)->state;
    CHECK("a stopped machine's registers are there", (s->gpr[X86_RAX] & 0xffffffff) == 0x12345678 && s->seg_sel[X86_CS] == 0x10 && s->cr0 & X86_CR0_PE);
    CHECK("EDI was counted by the handler", (uint32_t)s->gpr[X86_RDI] == 1);
    machine_debug_read(m, 0x200004, true, &before, 4);
    usleep(20000);
    machine_debug_read(m, 0x200004, true, &after, 4);
    CHECK("it stands still", before == after);
    machine_continue(m);
    for (unsigned i = 0; i < 5000 && after == before; i++) {
        usleep(1000);
        machine_stop(m);
        machine_debug_read(m, 0x200004, true, &after, 4);
        machine_continue(m);
    }
    CHECK("it goes on", before != after);
}

static bool run(bool controllers)
{
    char error[256];
    bool usage;
    pthread_t thread;
    said_count = 0;
    memset(said, 0, sizeof said);
    ended = false;
    const struct machine_config config = {.accel_controllers = controllers, .accel_ring0 = true, .ram_size = 16 << 20, .tier = TIER_KVM, .accel = &kvm_accel, .raw_image = guest_begin,
        .raw_size = (size_t)(guest_end - guest_begin), .raw_entry = 0x100000, .debug_exit_port = 0x501, .debug_exit_size = 4, .raw_mode = 32, .debug_console = {say, NULL}};
    struct machine *m = machine_new(&config, error, sizeof error, &usage);
    if (!m) {
        printf("machine_new: %s\n", error);
        return false;
    }
    pthread_create(&thread, NULL, main_loop, m);
    CHECK("it says all and waits", waits_for(10, 20) && !strcmp(said, "stringdctw"));
    if (!ended && !failures) {
        look(m);
        machine_reset(m);
        CHECK("it starts anew and ends", waits_for(20, 20) && !strcmp(said, "stringdctwstringdcte"));
    }
    for (unsigned i = 0; i < 5000 && !ended; i++)
        usleep(1000);
    CHECK("isa-debug-exit ended it", ended);
    machine_quit(m);
    pthread_join(thread, NULL);
    CHECK("with its status", end == MACHINE_DEBUG_EXIT && status == 0x43);
    CHECK("writes of port 80h are told of, whether each is an exit or not", stat_of(m, "port_io") >= 1000);
    machine_free(m);
    return true;
}

int main(void)
{
    char error[256];
    if (!kvm_is_there(error, sizeof error)) {
        printf("skipped: %s\n", error);
        return 77;
    }
    for (unsigned controllers = 0; controllers < 2; controllers++)
        failures += !run(controllers);
    printf("run_test: %s\n", failures ? "failed" : "passed");
    return failures != 0;
}
