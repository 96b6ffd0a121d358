/* Lockstep with KVM: a guest is compared without a difference, nearly all of its instructions by KVM; one that is planted behind its back, in a register,
 * is found.  Skipped, with the reason, where the host has no KVM. */
#include "kvm/kvm.h"
#include <stdlib.h>
#include <string.h>

/* 32 bit, flat, at 0x100000: arithmetic, memory, strings, ports, device memory, code that is written over. */
__asm__(".pushsection .rodata\n"
        ".code32\n"
        "guest_begin:\n"
        "  mov $0x90000, %esp\n mov $7, %ebx\n"
        "  mov $'a', %al\n out %al, $0xe9\n"
        "  mov $600, %ecx\n mov $0x200000, %edi\n"
        "1: lea (%ebx,%ecx,2), %eax\n mov %eax, (%edi,%ecx,4)\n adc %eax, %ebx\n ror $1, %ebx\n sub %ecx, %eax\n"
        "  bswap %eax\n xor %eax, %ebx\n push %ebx\n pop %edx\n dec %ecx\n jnz 1b\n"
        "  mov 0xfee00030, %eax\n add %eax, %ebx\n in $0x61, %al\n and $0x0f, %al\n add %al, %bl\n"
        "  mov $'b', %al\n out %al, $0xe9\n"
        "  mov $0x200000, %esi\n mov $0x210000, %edi\n mov $300, %ecx\n cld\n rep movsb\n"
        "  mov $100, %ecx\n"
        "2: mov %cl, 0x100000 + guest_patched + 1 - guest_begin\n"
        "guest_patched: mov $0, %al\n add %eax, %ebx\n dec %ecx\n jnz 2b\n"
        "  mov $'c', %al\n out %al, $0xe9\n"
        "  mov $0x501, %edx\n mov $8, %al\n out %al, %dx\n"
        "3: hlt\n jmp 3b\n"
        "guest_end:\n"
        ".code64\n"
        ".popsection\n");
extern const uint8_t guest_begin[], guest_end[];

struct run { struct machine *machine; char plant_at; };
static unsigned failures;
#define CHECK(what, good) do { if (!(good)) { failures++; printf("check_test.c:%d: %s\n", __LINE__, what); } } while (0)

static void say(void *ctx, const uint8_t *bytes, size_t size)
{
    struct run *r = ctx;
    for (size_t i = 0; i < size; i++)
        if (bytes[i] == (uint8_t)r->plant_at)
            machine_cpu(r->machine)->state.gpr[X86_RSI] ^= 4; /* on the vCPU's thread, in the middle of an interval */
}

static uint64_t count(const char *stats, const char *name)
{
    const char *at = strstr(stats, name);
    return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static void run(char plant_at, enum machine_end wanted)
{
    struct run r = {.plant_at = plant_at};
    char error[256], *report = NULL, *stats = NULL;
    size_t report_size, stats_size;
    bool usage;
    int status = 0;
    FILE *trace = open_memstream(&report, &report_size);
    const struct machine_config config = {.ram_size = 4 << 20, .tier = TIER_TCG, .accel = &kvm_accel, .check_accel = true, .trace_file = trace, .raw_image = guest_begin,
        .raw_size = (size_t)(guest_end - guest_begin), .raw_entry = 0x100000, .debug_exit_port = 0x501, .debug_exit_size = 4, .raw_mode = 32, .debug_console = {say, &r}};
    r.machine = machine_new(&config, error, sizeof error, &usage);
    CHECK(error, r.machine);
    if (!r.machine)
        return;
    enum machine_end end = machine_run(r.machine, &status);
    FILE *f = open_memstream(&stats, &stats_size);
    machine_stats_print(r.machine, f, true);
    fclose(f);
    machine_free(r.machine);
    fclose(trace);
    CHECK("it ends as it should", end == wanted);
    if (end != wanted)
        printf("%s\n", report);
    if (wanted == MACHINE_ERROR) {
        CHECK("the difference is told", strstr(report, "the tier and kvm differ") && strstr(report, "gpr[6]"));
    } else {
        uint64_t all = count(stats, "\"check_insns\":"), by_kvm = count(stats, "\"check_accel_insns\":");
        printf("%llu of %llu instructions by KVM\n", (unsigned long long)by_kvm, (unsigned long long)all);
        CHECK("KVM ran nearly all", all > 5000 && by_kvm > all - all / 10);
    }
    free(report);
    free(stats);
}

int main(void)
{
    char error[256];
    if (!kvm_is_there(error, sizeof error)) {
        printf("skipped: %s\n", error);
        return 77;
    }
    run(0, MACHINE_DEBUG_EXIT);
    run('b', MACHINE_ERROR);
    printf("check_test: %s\n", failures ? "failed" : "passed");
    return failures != 0;
}
