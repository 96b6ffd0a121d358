/* Saved machines.  A guest that counts instructions, takes timer interrupts, prints what time it is and rewrites its own code is stopped at
 * some instruction, saved, and restored in another tier: output, RAM and registers at a later instruction must be those of a run that
 * was left alone.  Files that are damaged, cut off, foreign, newer or of another machine are refused by name and change nothing. */
#define _GNU_SOURCE
#include "runtime/state.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

/* 32 bit, at 0x100000: IDT at 0x10000 with the timer (IRQ 0, vector 20h) and COM1 (IRQ 4, vector 24h); then, ROUNDS times: mixes WORDS words of
 * memory by a routine whose constant it writes anew, and says a sum that holds the interrupts' count and time, and TSC and a random number. */
#ifdef TIERCE_NASTY /* each access by the slow path */
#define ROUNDS 12
#define WORDS 128
#else
#define ROUNDS 48
#define WORDS 4096
#endif
#define TEXT(x) #x
#define NUMBER(x) TEXT(x)
__asm__(".pushsection .rodata\n"
        ".code32\n"
        "guest_begin:\n"
        "  mov $0x80000, %esp\n"
        "  movl $0xffff, 0x30010\n movl $0xcf9b00, 0x30014\n movl $0xffff, 0x30018\n movl $0xcf9300, 0x3001c\n movw $31, 0x20008\n movl $0x30000, 0x2000a\n lgdt 0x20008\n"
        "  mov $(on_timer - guest_begin + 0x100000), %eax\n mov $0x20, %ebx\n call gate\n"
        "  mov $(on_port - guest_begin + 0x100000), %eax\n mov $0x24, %ebx\n call gate\n"
        "  movw $0x7ff, 0x20000\n movl $0x10000, 0x20002\n lidt 0x20000\n"
        "  mov $0x11, %al\n out %al, $0x20\n mov $0x20, %al\n out %al, $0x21\n mov $4, %al\n out %al, $0x21\n mov $1, %al\n out %al, $0x21\n mov $0xee, %al\n out %al, $0x21\n"
        "  mov $0x34, %al\n out %al, $0x43\n mov $60, %al\n out %al, $0x40\n xor %al, %al\n out %al, $0x40\n" /* every 50 us */
        "  mov $0x3fc, %edx\n mov $8, %al\n out %al, (%dx)\n mov $0x3f9, %edx\n mov $2, %al\n out %al, (%dx)\n" /* COM1: transmitter empty interrupts */
        "  xor %ebp, %ebp\n sti\n"
        "round:\n"
        "  mov %ebp, %eax\n mov %eax, 0x100000 + patched + 2 - guest_begin\n" /* ADD's immediate */
        "  mov $0x200000, %edi\n mov $" NUMBER(WORDS) ", %ecx\n"
        "1: mov (%edi), %eax\n rol $5, %eax\n"
        "patched: add $0x11223344, %edx\n add %edx, %eax\n mov %eax, (%edi)\n add $4, %edi\n dec %ecx\n jnz 1b\n"
        "  rdtsc\n add %eax, 0x200000\n mov 0x20010, %eax\n add %eax, 0x200004\n"
        "  mov $0xfee00000, %ebx\n mov 0x390(%ebx), %eax\n add %eax, 0x200008\n" /* APIC: a register of a device in memory */
        "  mov $0x3f8, %edx\n mov $'.', %al\n out %al, (%dx)\n" /* raises IRQ 4 again */
        "  test $7, %ebp\n jnz 2f\n hlt\n"
        "2: mov 0x200000, %eax\n add 0x200004, %eax\n add 0x200008, %eax\n mov $8, %ecx\n"
        "3: rol $4, %eax\n push %eax\n and $15, %al\n add $'a', %al\n out %al, $0xe9\n pop %eax\n loop 3b\n"
        "  inc %ebp\n cmp $" NUMBER(ROUNDS) ", %ebp\n jne round\n"
        "  xor %eax, %eax\n mov $0x501, %edx\n out %al, (%dx)\n"
        "4: hlt\n jmp 4b\n"
        "gate: mov %ax, 0x10000(,%ebx,8)\n mov %cs, 0x10002(,%ebx,8)\n movw $0x8e00, 0x10004(,%ebx,8)\n shr $16, %eax\n mov %ax, 0x10006(,%ebx,8)\n ret\n"
        "on_timer: push %eax\n push %edx\n rdtsc\n xor %eax, 0x20010\n roll $3, 0x20010\n mov $0x20, %al\n out %al, $0x20\n pop %edx\n pop %eax\n iret\n"
        "on_port: push %eax\n push %edx\n mov $0x3fa, %edx\n in (%dx), %al\n addl $0x01010101, 0x20010\n mov $0x20, %al\n out %al, $0x20\n pop %edx\n pop %eax\n iret\n"
        "guest_end:\n"
        ".code64\n"
        ".popsection\n");
extern const uint8_t guest_begin[], guest_end[];

static unsigned passed, failed;
static uint64_t whole; /* ns that the guest takes, when it is left alone */
static bool check(bool good, const char *format, ...)
{
    va_list args;
    *(good ? &passed : &failed) += 1;
    if (good)
        return true;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    return false;
}

/* --- One machine, and its main loop on a thread of its own */
struct rig {
    struct machine *m;
    pthread_t thread;
    struct alarm alarm;
    char out[8 * ROUNDS + 16], serial[ROUNDS + 16]; size_t size, serial_size;
    enum machine_end end; int status;
};

static void put(void *ctx, const uint8_t *bytes, size_t size)
{
    struct rig *r = ctx;
    while (size-- && r->size < sizeof r->out - 1)
        r->out[r->size++] = (char)*bytes++;
}
static void put_serial(void *ctx, const uint8_t *bytes, size_t size)
{
    struct rig *r = ctx;
    while (size-- && r->serial_size < sizeof r->serial - 1)
        r->serial[r->serial_size++] = (char)*bytes++;
}

/* In the middle of a block, or wherever that instruction is. */
static void stop_here(void *ctx)
{
    struct machine *m = ((struct rig *)ctx)->m;
    atomic_fetch_or(&m->requests, REQUEST_STOP);
    vcpu_kick(m);
}

static struct machine_config config_of(struct rig *r, enum tier tier)
{
    return (struct machine_config){
        .ram_size = 4 << 20, .tier = tier, .icount = true, .hot_threshold = 300, .raw_image = guest_begin, .raw_size = (size_t)(guest_end - guest_begin),
        .raw_entry = 0x100000, .debug_exit_port = 0x501, .debug_exit_size = 4, .raw_mode = 32, .debug_console = {put, r}, .serial = {{put_serial, r}},
    };
}

static bool make(struct rig *r, const struct machine_config *config)
{
    char error[400] = "";
    bool usage;
    r->m = machine_new(config, error, sizeof error, &usage);
    return check(r->m != NULL, "machine_new: %s", error);
}

static bool setup(struct rig *r, enum tier tier)
{
    *r = (struct rig){0};
    struct machine_config config = config_of(r, tier);
    return make(r, &config);
}

static void *main_loop(void *arg)
{
    struct rig *r = arg;
    r->end = machine_run(r->m, &r->status);
    return NULL;
}

static void wait_stopped(struct rig *r)
{
    while (!machine_is_stopped(r->m) && !machine_is_ending(r->m))
        usleep(200);
    machine_stop(r->m);
}

/* Runs it to this moment of its time, and there it stands. */
static void run_to(struct rig *r, uint64_t ns)
{
    bool first = !r->m->vcpu->started;
    pthread_mutex_lock(&r->m->lock);
    alarm_init(&r->alarm, &r->m->clock, stop_here, r);
    alarm_set(&r->alarm, ns);
    pthread_mutex_unlock(&r->m->lock);
    if (first)
        pthread_create(&r->thread, NULL, main_loop, r);
    else
        machine_continue(r->m);
    wait_stopped(r);
}

static void run_to_end(struct rig *r)
{
    if (!r->m->vcpu->started)
        pthread_create(&r->thread, NULL, main_loop, r);
    else
        machine_continue(r->m);
    pthread_join(r->thread, NULL);
}

static void drop(struct rig *r, bool running)
{
    if (!r->m)
        return;
    if (running) {
        machine_quit(r->m);
        pthread_join(r->thread, NULL);
    }
    machine_free(r->m);
}

static uint32_t ram_sum(const struct machine *m) { return (uint32_t)crc32_z(0, m->ram, m->config.ram_size); }

/* --- Where the files are */
static char directory[] = "/tmp/tierce-state-XXXXXX", file[80], other[80];

static bool save(struct rig *r, const char *path)
{
    char error[400] = "";
    return check(machine_save(r->m, path, NULL, error, sizeof error), "machine_save: %s", error);
}

static const enum tier tiers[] = {
    TIER_TCG, TIER_INTERP,
#if defined TIERCE_LLVM && !defined TIERCE_NASTY /* where a region is one instruction, each compiled by itself */
    TIER_TIERED, TIER_LLVM,
#endif
};
enum { TIERS = sizeof tiers / sizeof *tiers };

/* --- Continuation */
#define LATER (whole * 9 / 10)
struct seen { char out[8 * ROUNDS + 16], serial[ROUNDS + 16]; uint32_t ram; uint64_t end_ns; struct x86_state cpu; };

static void alone(struct seen *s)
{
    struct rig r;
    if (!setup(&r, TIER_TCG))
        return;
    run_to_end(&r);
    whole = machine_now(r.m);
    drop(&r, false);
    if (!setup(&r, TIER_TCG))
        return;
    run_to(&r, LATER);
    s->ram = ram_sum(r.m);
    s->cpu = r.m->vcpu->cpu.state;
    run_to_end(&r);
    check(r.end == MACHINE_DEBUG_EXIT && r.status == 1, "the guest ended with %d, status %d", r.end, r.status);
    check(strlen(r.out) == 8 * ROUNDS && strlen(r.serial) == ROUNDS, "the guest said %zu and %zu bytes", strlen(r.out), strlen(r.serial));
    strcpy(s->out, r.out);
    strcpy(s->serial, r.serial);
    s->end_ns = machine_now(r.m);
    drop(&r, false);
}

static void move(const struct seen *s, enum tier from, enum tier to, uint64_t ns)
{
    struct rig a, b;
    char error[400] = "";
    if (!setup(&a, from) || !setup(&b, to))
        return;
    run_to(&a, ns);
    check(machine_now(a.m) == ns, "stopped at %lu, not %lu", machine_now(a.m), ns);
    save(&a, file);
    strcpy(b.out, a.out), strcpy(b.serial, a.serial);
    b.size = a.size, b.serial_size = a.serial_size;
    uint32_t sum = ram_sum(a.m);
    drop(&a, true);
    if (ns & 1) /* into one that has run, and has blocks and times of its own */
        run_to(&b, ns / 2);
    check(machine_restore(b.m, file, error, sizeof error), "restore: %s", error);
    b.size = a.size, b.serial_size = a.serial_size; /* what it said before is forgotten */
    memset(b.out + b.size, 0, sizeof b.out - b.size);
    memset(b.serial + b.serial_size, 0, sizeof b.serial - b.serial_size);
    check(ram_sum(b.m) == sum && machine_now(b.m) == ns, "RAM or time differ after the restore");
    run_to(&b, LATER);
    const struct x86_state *x = &b.m->vcpu->cpu.state;
    bool same = ram_sum(b.m) == s->ram && x->rip == s->cpu.rip && !memcmp(x->gpr, s->cpu.gpr, sizeof x->gpr) && !((x->flags ^ s->cpu.flags) & IR_FLAGS_ALL);
    check(same, "saved at %lu in %s, restored in %s: RAM or registers differ at %lu", ns, tier_name(from), tier_name(to), LATER);
    run_to_end(&b);
    check(b.end == MACHINE_DEBUG_EXIT && !strcmp(b.out, s->out) && !strcmp(b.serial, s->serial), "saved at %lu in %s, restored in %s: the output differs:\n%s\n%s", ns,
          tier_name(from), tier_name(to), b.out, s->out);
    check(machine_now(b.m) == s->end_ns, "it ended at %lu, not %lu", machine_now(b.m), s->end_ns);
    drop(&b, false);
}

static void test_continuation(void)
{
    static const unsigned percent[] = {2, 23, 36, 57, 86};
    struct seen *s = aligned_alloc(64, sizeof *s);
    memset(s, 0, sizeof *s);
    alone(s);
    for (unsigned a = 0; a < TIERS; a++)
        for (unsigned b = 0; b < TIERS; b++)
            move(s, tiers[a], tiers[b], whole * percent[(a * TIERS + b) % 5] / 100 + 7 * a + b);
    free(s);
}

/* --- Refusals.  A machine that stands in the midst of its work is offered all kinds of files. */
static uint8_t *content(const char *path, size_t *size)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    uint8_t *bytes = fd >= 0 && fstat(fd, &st) == 0 ? malloc((size_t)st.st_size + 1) : NULL;
    *size = bytes ? (size_t)read(fd, bytes, (size_t)st.st_size) : 0;
    close(fd);
    return bytes;
}

static void refused(struct rig *r, const uint8_t *bytes, size_t size, const char *word)
{
    char error[700] = "";
    uint32_t ram = ram_sum(r->m);
    struct x86_state cpu = r->m->vcpu->cpu.state;
    uint64_t now = machine_now(r->m);
    FILE *f = fmemopen((void *)(uintptr_t)bytes, size, "r");
    bool ok = machine_restore_from(r->m, f, error, sizeof error);
    fclose(f);
    check(!ok && strstr(error, word) && !strchr(error, '\n'), "accepted %d: '%s', expected '%s'", ok, error, word);
    check(ram == ram_sum(r->m) && now == machine_now(r->m) && !memcmp(&cpu, &r->m->vcpu->cpu.state, sizeof cpu), "what was refused for '%s' changed the machine", word);
}

/* Sums made right again after a change, so that what is below them is tried. */
struct section { char name[16]; uint32_t version, sequence; uint64_t size; uint32_t bytes_crc, crc; } __attribute__((packed));
static uint32_t sum(const void *bytes, size_t size) { return (uint32_t)crc32_z(0, bytes, size); }
static struct section *section_at(uint8_t *bytes, size_t size, const char *name)
{
    for (size_t at = 16; at + sizeof(struct section) <= size;) {
        struct section *s = (struct section *)(void *)(bytes + at);
        if (!strncmp(s->name, name, 16))
            return s;
        at += sizeof *s + s->size;
    }
    return NULL;
}
static void seal(struct section *s)
{
    s->bytes_crc = sum(s + 1, s->size);
    s->crc = sum(s, offsetof(struct section, crc));
}
/* The value of a field, behind its name, size and count. */
static uint8_t *field_of(struct section *s, const char *name)
{
    uint8_t *at = memmem(s + 1, s->size, name, strlen(name));
    return at ? at + strlen(name) + 5 : NULL;
}

static void with_field(struct rig *r, const uint8_t *good, size_t size, const char *section, const char *field, uint8_t value, const char *word)
{
    uint8_t *bytes = memcpy(malloc(size), good, size);
    struct section *s = section_at(bytes, size, section);
    uint8_t *at = s ? field_of(s, field) : NULL;
    if (check(at, "no %s in %s", field, section)) {
        *at = value;
        seal(s);
        refused(r, bytes, size, word);
    }
    free(bytes);
}

static void with_section(struct rig *r, const uint8_t *good, size_t size, const char *section, void (*change)(struct section *), const char *word)
{
    uint8_t *bytes = memcpy(malloc(size), good, size);
    struct section *s = section_at(bytes, size, section);
    if (check(s, "no section %s", section)) {
        change(s);
        refused(r, bytes, size, word);
    }
    free(bytes);
}

static void newer(struct section *s) { s->version = 9, seal(s); }
static void renamed(struct section *s) { memcpy(s->name, "uarr", 4), seal(s); }
static void doubled(struct section *s) { memcpy(s->name, "pic\0", 4), seal(s); }
static void out_of_order(struct section *s) { s->sequence++, seal(s); }
static void huge(struct section *s) { s->size = 1ull << 40, s->crc = sum(s, offsetof(struct section, crc)); }
static void word_put(struct section *s, unsigned n, uint32_t v) { memcpy((uint8_t *)(s + 1) + 4 * n, &v, 4), seal(s); }
static void far_page(struct section *s) { word_put(s, 1, 1024); }
static void backwards(struct section *s) { word_put(s, 2, 0); }
static void no_pages(struct section *s) { word_put(s, 0, 0); }
static void bad_stream(struct section *s) { ((uint8_t *)(s + 1))[s->size - 6] ^= 0x40, seal(s); }

static void test_damage(struct rig *r, const uint8_t *good, size_t size)
{
    uint8_t *bytes = malloc(size + 1);
    for (size_t n = 0; n < size; n += 1 + n / 7)
        refused(r, good, n + !n, n < 16 ? "it is no saved state of tierce" : "it is cut off at byte ");
    for (size_t at = 0; at < size; at += 1 + at / 5) {
        memcpy(bytes, good, size);
        bytes[at] ^= 0x10;
        refused(r, bytes, size, at < 8 ? "no saved state" : "damaged (checksum)");
    }
    memcpy(bytes, good, size);
    refused(r, bytes, size + 1, "something follows its end");
    bytes[8] = 2;
    uint32_t crc = sum(bytes, 12);
    memcpy(bytes + 12, &crc, 4);
    refused(r, bytes, size, "its format has version 2; accepted: 1");
    free(bytes);
}

static void test_contents(struct rig *r, const uint8_t *good, size_t size)
{
    with_section(r, good, size, "uart", newer, "section uart: its version is 9; accepted: 1 to 1");
    with_section(r, good, size, "ram", newer, "section ram: its version is 9");
    with_section(r, good, size, "uart", renamed, "section uart is missing");
    with_section(r, good, size, "uart", doubled, "section pic: it is there twice");
    with_section(r, good, size, "uart", out_of_order, "its head is no section's");
    with_section(r, good, size, "uart", huge, "its head is no section's");
    with_section(r, good, size, "config", renamed, "its first section is uarrig");
    with_section(r, good, size, "ram", far_page, "page 1024 where 0 to 1023 may follow");
    with_section(r, good, size, "ram", backwards, "section ram (number ");
    with_section(r, good, size, "ram", no_pages, "0 pages in ");
    with_section(r, good, size, "ram", bad_stream, "do not decompress");
    with_field(r, good, size, "uart", "rx_at", 16, "section uart: field rx_at: 16 is not accepted; accepted: 0 to 15");
    with_field(r, good, size, "pit", "counter.mode", 6, "section pit: field counter.mode: 6");
    with_field(r, good, size, "cpu", "fptop", 8, "section cpu: field fptop");
    with_field(r, good, size, "cpu", "cpl", 4, "section cpu: field cpl");
    with_field(r, good, size, "cpu", "xcr0", 0xff, "section cpu: field xcr0");
    with_field(r, good, size, "cpu", "fault_vector", 99, "section cpu: field fault_vector");
    with_field(r, good, size, "machine", "interrupt_level", 2, "section machine: field interrupt_level: 2");
}

static void test_other_machines(const uint8_t *good, size_t size)
{
    struct rig r = {0};
    struct machine_config config = config_of(&r, TIER_TCG);
    config.ram_size = 2 << 20;
    if (make(&r, &config))
        refused(&r, good, size, "it was saved with ram 4194304, this machine has 2097152; -m must be as it was");
    drop(&r, false);
    config = config_of(&r, TIER_TCG);
    config.cpu = "qemu64";
    if (make(&r, &config))
        refused(&r, good, size, "it was saved with cpu x86-64-v2 (CPUID ");
    drop(&r, false);
    config = config_of(&r, TIER_TCG);
    config.debug_exit_port = 0xf4, config.debug_exit_size = 4;
    if (make(&r, &config))
        refused(&r, good, size, "it was saved with isa-debug-exit 0x501, 4 ports, this machine has 0xf4, 4 ports");
    drop(&r, false);
}

static void test_refusals(void)
{
    struct rig r, from;
    size_t size;
    if (!setup(&from, TIER_TCG) || !setup(&r, TIER_TCG))
        return;
    run_to(&from, whole / 2 | 1);
    save(&from, file);
    drop(&from, true);
    run_to(&r, whole / 3 | 1);
    uint8_t *good = content(file, &size);
    test_damage(&r, good, size);
    test_contents(&r, good, size);
    run_to_end(&r);
    check(r.end == MACHINE_DEBUG_EXIT && strlen(r.out) == 8 * ROUNDS, "after all that, it does not go on");
    drop(&r, false);
    test_other_machines(good, size);
    free(good);
}

/* --- Writing */
static void not_saved(struct rig *r, const char *path, const char *word)
{
    char error[400] = "";
    bool ok = machine_save(r->m, path, NULL, error, sizeof error);
    check(!ok && strstr(error, word), "saved %d: '%s', expected '%s'", ok, error, word);
}

static unsigned files_in(const char *path)
{
    char command[128], line[32] = "0";
    snprintf(command, sizeof command, "ls -A %s | wc -l", path);
    FILE *f = popen(command, "r");
    if (!f || !fgets(line, sizeof line, f))
        line[0] = 0;
    if (f)
        pclose(f);
    return (unsigned)atoi(line);
}

static void test_writing(void)
{
    struct rig r;
    struct machine_state_size size;
    struct machine_state_info info;
    struct stat st;
    char error[400] = "", blocked[120];
    if (!setup(&r, TIER_TCG))
        return;
    run_to(&r, whole / 5);
    check(machine_save(r.m, file, &size, error, sizeof error) && stat(file, &st) == 0 && (uint64_t)st.st_size == size.bytes, "its size is told: %s", error);
    check(size.ram_bytes >= 5 * PAGE && size.ram_bytes < 1 << 20 && size.bytes < size.ram_bytes, "%lu bytes of file for %lu of RAM", size.bytes, size.ram_bytes);
    check(machine_state_info(file, &info, error, sizeof error) && info.ram_size == 4 << 20 && info.now_ns == whole / 5 && !strcmp(info.tier, "tcg") && info.date > 1700000000,
          "what it says of itself: %s", error);
    check(!machine_state_info("/dev/null", &info, error, sizeof error) && !strcmp(error, "/dev/null: it is no saved state of tierce"), "of nothing: %s", error);
    not_saved(&r, "/nowhere/at/all", "cannot write /nowhere/at/all: No such file or directory");
    not_saved(&r, directory, "is no regular file");
    not_saved(&r, "/dev/null", "is no regular file");
    /* A disk that is full in the midst of it: what was there before stays, and nothing else does. */
    snprintf(blocked, sizeof blocked, "%s/full", directory);
    struct rlimit old, small = {8192, RLIM_INFINITY};
    unsigned before = files_in(directory);
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    not_saved(&r, blocked, "full: File too large");
    not_saved(&r, file, "File too large");
    setrlimit(RLIMIT_FSIZE, &old);
    check(stat(file, &st) == 0 && (uint64_t)st.st_size == size.bytes && stat(blocked, &st) < 0 && files_in(directory) == before, "a failed save left something");
    drop(&r, true);
}

/* From a pipe, and at the start instead of a kernel. */
static void test_start(void)
{
    struct rig r, b = {0};
    char command[400];
    char error[400];
    bool usage;
    if (!setup(&r, TIER_TCG))
        return;
    run_to(&r, whole * 3 / 4 | 1);
    save(&r, file);
    run_to_end(&r);
    snprintf(command, sizeof command, "rm -f %s; mkfifo %s; cat %s > %s &", other, other, file, other);
    check(system(command) == 0, "no pipe");
    struct machine_config config = config_of(&b, TIER_TCG);
    config.raw_image = NULL;
    config.restore = other;
    if (make(&b, &config)) {
        run_to_end(&b);
        size_t n = strlen(b.out);
        check(b.end == MACHINE_DEBUG_EXIT && n && n < 8 * ROUNDS && !strcmp(b.out, r.out + 8 * ROUNDS - n), "it goes on from a pipe: %s", b.out);
        drop(&b, false);
    }
    drop(&r, false);
    config.restore = "/dev/null";
    check(!machine_new(&config, error, sizeof error, &usage) && !usage && !strcmp(error, "/dev/null: it is no saved state of tierce"), "start from nothing: %s", error);
    config.restore = "/nowhere";
    check(!machine_new(&config, error, sizeof error, &usage) && !strcmp(error, "cannot read /nowhere: No such file or directory"), "start from nowhere: %s", error);
}

int main(void)
{
    if (!mkdtemp(directory))
        return 1;
    snprintf(file, sizeof file, "%s/state", directory);
    snprintf(other, sizeof other, "%s/other", directory);
    test_continuation();
    test_refusals();
    test_writing();
    test_start();
    unlink(file);
    unlink(other);
    rmdir(directory);
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
