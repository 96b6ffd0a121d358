/* Lockstep: a guest that does some of everything is compared without a difference; a difference that is planted behind its
 * back - in a register, in memory, in code, in what it asks of devices - ends the run, and the report names it. */
#include "runtime/runtime.h"
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* 32 bit, at 0x100000, no paging.  Port 0xe9: one letter a stage, at which the test may plant something. */
__asm__(".pushsection .rodata\n"
        ".code32\n"
        "guest_begin:\n"
        "  mov $7, %ebx\n mov $0xe9, %edx\n"
        "  mov $'a', %al\n out %al, %dx\n"
        /* Loads, stores, flags, a loop that is chained; the result depends on all of it. */
        "  mov $2000, %ecx\n mov $0x200000, %edi\n"
        "1: lea (%ebx,%ecx,2), %eax\n mov %eax, (%edi,%ecx,4)\n adc %eax, %ebx\n ror $3, %ebx\n imul %ecx, %eax\n"
        "  bswap %eax\n xor %eax, %ebx\n dec %ecx\n jnz 1b\n"
        "  mov $'b', %al\n out %al, %dx\n"
        /* Time, random bits of no fixed value, a device's registers, a string. */
        "  rdtsc\n xor %eax, %ebx\n mov 0xfee00030, %eax\n add %eax, %ebx\n mov $0x71, %edx\n in %dx, %al\n add %eax, %ebx\n"
        "  mov $0x200000, %esi\n mov $0x210000, %edi\n mov $3000, %ecx\n cld\n rep movsb\n"
        "  mov $0xe9, %edx\n mov $'c', %al\n out %al, %dx\n"
        /* It changes the operand of its own instruction. */
        "  mov $300, %ecx\n"
        "2: mov %cl, 0x100000 + guest_patched + 1 - guest_begin\n"
        "guest_patched: mov $0, %al\n add %eax, %ebx\n dec %ecx\n jnz 2b\n"
        "  mov $'d', %al\n out %al, %dx\n"
        "  call guest_function\n"
        "  mov $'e', %al\n out %al, %dx\n"
        /* Waits for the main loop to write something. */
        "  cmpl $0, 0x100000 + guest_waits - guest_begin\n jz 4f\n"
        "3: cmpl $0, 0x300000\n jz 3b\n"
        "4: mov $0x501, %edx\n mov $8, %al\n out %al, %dx\n hlt\n jmp 4b\n"
        "guest_waits: .long 0\n"
        ".balign 4096\n" /* where nothing is written */
        "guest_function:\n add $5, %ebx\n .byte 0xc1, 0xe3, 1\n mov $'f', %al\n out %al, $0xe9\n ret\n"
        "guest_end:\n"
        ".code64\n"
        ".popsection\n");
extern const uint8_t guest_begin[], guest_waits[], guest_function[], guest_end[];
enum { BASE = 0x100000, UNTOUCHED = 0x280000, END_STATUS = 8 << 1 | 1 };

struct run;
struct plant {
    const char *what;
    void (*plant)(struct run *); char at;   /* when this letter comes, on the vCPU's thread and in the middle of an interval */
    const char *expected[6];                /* of the report; none: no difference */
    enum tier tier;                         /* 0: TIER_TCG */
};
struct run {
    const struct plant *plant;
    struct machine *machine;
    uint8_t image[8192];
    char *report; size_t report_size;
    char *stats;
    enum machine_end end; int status;
    int fd;                                 /* the main loop writes when it is ready; -1: it does not */
};
static int passed, failed;

static void check(const struct run *r, const char *what, bool good)
{
    if (good) {
        passed++;
        return;
    }
    failed++;
    printf("%s: not %s; end %d, status %d, report:\n%s\n", r->plant->what, what, r->end, r->status, r->report);
}

/* --- What is planted */
static uint8_t *ram(struct run *r, uint64_t physical)
{
    const struct region *region = space_find(machine_memory(r->machine), physical);
    return region->host + (physical - region->base);
}
static void register_changes(struct run *r) { machine_cpu(r->machine)->state.gpr[X86_RBX] ^= 0x10; }
static void vector_changes(struct run *r) { machine_cpu(r->machine)->state.vec[9].q[1] ^= 1; }
static void written_memory_changes(struct run *r) { *ram(r, 0x210004) ^= 1; }
static void other_memory_changes(struct run *r) { *ram(r, UNTOUCHED + 0x18) ^= 1; }
/* Code that was not run before, so that the tier translates it only then. */
static void code_changes(struct run *r) { ram(r, BASE + (uint64_t)(guest_function - guest_begin))[5] = 2; /* SHL's immediate */ }
static void port_changes(struct run *r) { ram(r, BASE + (uint64_t)(guest_function - guest_begin))[9] = 0x80; /* OUT's port */ }

static const struct plant plants[] = {
    {"nothing", NULL, 0, {NULL}},
    {"a register", register_changes, 'b', {"gpr[3]", "do not differ when the interval is repeated"}},
    {"a vector register", vector_changes, 'c', {"vec[9]", NULL}},
    {"memory that is written to", written_memory_changes, 'c', {"RAM at offset", NULL}},
    {"memory that is not", other_memory_changes, 'a', {"RAM at offset 0x280018 differs", NULL}},
    {"a port", port_changes, 'd', {"asked of the machine: OUT at 0x80, 1 bytes, value 0x66", "interpreter: OUT at 0xe9", "shortest run that differs"}},
    /* Found again when the interval is repeated, and narrowed down to the block. */
    {"code", code_changes, 'd', {"gpr[3]", "shortest run that differs", "shl ebx, 0x02", "\nOUT: ", "the instruction at 101003 is the first that is wrong"}},
#ifdef TIERCE_LLVM
    {"code of a region", code_changes, 'd', {"gpr[3]", "shortest run that differs", "The region at 101000", "\nOUT: region", "the instruction at 101003 is the first that is wrong"}, TIER_LLVM},
#endif
};

/* --- A run */
static void put(void *ctx, const uint8_t *bytes, size_t size)
{
    struct run *r = ctx;
    for (size_t i = 0; i < size; i++)
        if (r->plant->plant && bytes[i] == (uint8_t)r->plant->at)
            r->plant->plant(r);
}

static void write_memory(void *ctx, short events)
{
    struct run *r = ctx;
    static int calls;
    const uint32_t one = 1;
    (void)events;
    usleep(1000);
    machine_debug_write(r->machine, 0x300010 + 4 * (uint64_t)(calls % 64), true, &one, 4);
    if (++calls == 50) {
        machine_watch(r->machine, r->fd, 0, NULL, NULL);
        machine_debug_write(r->machine, 0x300000, true, &one, 4);
    }
}

static char *stats_of(struct machine *m)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    machine_stats_print(m, f, false);
    fclose(f);
    return text;
}

static uint64_t stat_of(const struct run *r, const char *name)
{
    uint64_t value = 0;
    const char *at = strstr(r->stats, name);
    if (at)
        sscanf(at + strlen(name), "%lu", &value);
    return value;
}

static void run(struct run *r, bool icount)
{
    char error[256] = "";
    bool usage;
    FILE *report = open_memstream(&r->report, &r->report_size);
    memcpy(r->image, guest_begin, (size_t)(guest_end - guest_begin));
    r->image[guest_waits - guest_begin] = r->fd >= 0;
    struct machine_config config = {
        .ram_size = 16 << 20, .tier = r->plant->tier ? r->plant->tier : TIER_TCG, .check_interp = true, .icount = icount, .interpret_first = !r->plant->tier, .raw_image = r->image,
        .raw_size = (size_t)(guest_end - guest_begin), .raw_entry = BASE, .raw_mode = 32, .debug_console = {put, r}, .trace_file = report,
        .debug_exit_port = 0x501, .debug_exit_size = 1,
    };
    r->machine = machine_new(&config, error, sizeof error, &usage);
    if (!r->machine) {
        printf("machine_new: %s\n", error);
        exit(1);
    }
    if (r->fd >= 0)
        machine_watch(r->machine, r->fd, POLLIN, write_memory, r);
    r->end = machine_run(r->machine, &r->status);
    r->stats = stats_of(r->machine);
    machine_free(r->machine);
    fclose(report);
}

static void run_free(struct run *r)
{
    free(r->report);
    free(r->stats);
}

static void expect_equal(const struct run *r)
{
    check(r, "ended as it should", r->end == MACHINE_DEBUG_EXIT && r->status == END_STATUS && !r->report_size);
    check(r, "compared all of it", stat_of(r, "check_insns") > 15000 && stat_of(r, "check_pages") > 10);
}

static void expect_difference(const struct run *r)
{
    check(r, "ended in failure", r->end == MACHINE_ERROR && r->status == 1);
    for (unsigned i = 0; i < 6 && r->plant->expected[i]; i++)
        check(r, r->plant->expected[i], strstr(r->report, r->plant->expected[i]) != NULL);
}

int main(void)
{
    for (unsigned i = 0; i < sizeof plants / sizeof *plants; i++)
        for (int icount = 0; icount < 2; icount++) {
            struct run r = {.plant = &plants[i], .fd = -1};
            run(&r, icount);
            (plants[i].plant ? expect_difference : expect_equal)(&r);
            run_free(&r);
        }
    struct run r = {.plant = &plants[0], .fd = eventfd(1, EFD_CLOEXEC)};
    run(&r, false);
    expect_equal(&r);
    check(&r, "written to by the main loop", stat_of(&r, "check_foreign") > 1);
    run_free(&r);
    close(r.fd);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
