/* --kvm: how fast a guest on the host's KVM gets to a device and back, through tierce's loop and through QEMU's, by turns; and what a change of the tier costs.
 * The guest is a few instructions (Multiboot, 32 bit, no paging) that write to a port without a device, read the HPET's registers, which
 * both have outside of the kernel, or write to port 80h, which tierce has KVM coalesce; now and then it says so on the serial port, by which we count. */
#define _GNU_SOURCE
#include "tools/tierce-bench/bench.h"
#include "tools/tierce-bench/session.h"
#include <math.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__asm__(".pushsection .rodata\n"
        ".code32\n"
        ".balign 4\n"
        "kvm_guest_begin:\n"
        "  .long 0x1badb002, 0x10000, -(0x1badb002 + 0x10000)\n"  /* Multiboot, with addresses */
        "  .long 0x100000, 0x100000, 0x100000 + kvm_guest_end - kvm_guest_begin, 0, 0x100000 + 1f - kvm_guest_begin\n"
        "1: mov $0x3f8, %edx\n"
        "2: mov $'~', %al\n out %al, %dx\n"
        "  mov 0x100000 + kvm_guest_rounds - kvm_guest_begin, %ecx\n"
        "  cmpl $1, 0x100000 + kvm_guest_way - kvm_guest_begin\n je 4f\n ja 5f\n"
        "3: out %al, $0xe0\n dec %ecx\n jnz 3b\n jmp 2b\n"
        "4: mov 0xfed000f0, %eax\n dec %ecx\n jnz 4b\n jmp 2b\n" /* the counter */
        "5: out %al, $0x80\n dec %ecx\n jnz 5b\n jmp 2b\n"
        "kvm_guest_rounds: .long 0\n"
        "kvm_guest_way: .long 0\n"
        "kvm_guest_end:\n"
        ".code64\n"
        ".popsection\n");
extern const uint8_t kvm_guest_begin[], kvm_guest_rounds[], kvm_guest_way[], kvm_guest_end[];

enum { PORT, DEVICE, DELAY, WAYS, HANDOVERS = 100, AT_ONCE = 2000 };
static const char *const way_names[WAYS] = {"port writes", "device reads", "port 80h"};

static void write_guest(char *path, uint32_t way)
{
    size_t size = (size_t)(kvm_guest_end - kvm_guest_begin);
    uint8_t image[512];
    const uint32_t rounds = AT_ONCE;
    memcpy(image, kvm_guest_begin, size);
    memcpy(image + (kvm_guest_rounds - kvm_guest_begin), &rounds, sizeof rounds);
    memcpy(image + (kvm_guest_way - kvm_guest_begin), &way, sizeof way);
    int fd = mkstemp(path);
    if (fd < 0 || write(fd, image, size) != (ssize_t)size)
        die(1, "%s: cannot be written", path);
    close(fd);
}

static bool next_mark(const struct session *s, double until, char *mark)
{
    struct pollfd p = {s->from, POLLIN, 0};
    double left = until - now_ns();
    return left > 0 && poll(&p, 1, (int)(left / 1e6) + 1) > 0 && read(s->from, mark, 1) == 1;
}

/* Round trips a second from the second mark on, for so long as the budget says; 0: there were not two. */
static double measure_one(const struct bench *b, const char *const argv[])
{
    struct session s;
    double first = 0, last = 0, until = now_ns() + b->timeout_s * 1e9;
    unsigned marks = 0;
    char mark;
    if (!session_start(&s, argv))
        return 0;
    while (next_mark(&s, until, &mark)) {
        if (mark != '~')
            continue; /* a message */
        last = now_ns();
        if (++marks == 2)
            first = last;
        if (marks > 3 && last > first + 1e6 * b->budget_ms)
            break;
    }
    session_finish(&s, 0, NULL, 0);
    return marks > 2 ? (marks - 2) * (double)AT_ONCE / (last - first) * 1e9 : 0;
}

/* 100 changes between KVM and tcg of a guest of the size asked for; the figures are tierce's own. */
static void report_handover(struct bench *b, const char *guest, FILE *out)
{
    char memory[16], options[HANDOVERS][40], text[8192], *at;
    const char *argv[HANDOVERS + 26] = {b->tierce_path, "-m", memory, "-kernel", guest, "-accel", "kvm,ring0=on", "--tier=tcg", "-display", "none", "-serial", "null", "-monitor", "stdio", "--stats=json"};
    unsigned n = 15;
    snprintf(memory, sizeof memory, "%u", b->memory_mib);
    for (unsigned i = 0; i < HANDOVERS; i++) {
        snprintf(options[i], sizeof options[i], "--switch-to=%s@%ums", i % 2 ? "tcg" : "kvm", 100 + 10 * i);
        argv[n++] = options[i];
    }
    struct session s;
    size_t size = 0;
    if (!session_start(&s, argv))
        return;
    usleep(100000 + HANDOVERS * 10000 + 300000);
    if (write(s.to, "quit\n", 5) < 0)
        complain("--kvm: tierce ended early");
    for (ssize_t got; size < sizeof text - 1 && (got = read(s.from, text + size, sizeof text - 1 - size)) > 0; size += (size_t)got)
        ;
    text[size] = 0;
    session_finish(&s, 0, NULL, 0);
    double count = (at = strstr(text, "\"handovers\":")) ? strtod(at + 12, NULL) : 0, all = (at = strstr(text, "\"handover_ns\":")) ? strtod(at + 14, NULL) : 0,
           most = (at = strstr(text, "\"handover_most_ns\":")) ? strtod(at + 19, NULL) : 0;
    b->failures += count < HANDOVERS;
    fprintf(out, "changes between KVM and tcg, %u MiB: %.0f, %.3f ms each, the longest %.3f ms\n", b->memory_mib, count, count > 0 ? all / count / 1e6 : 0, most / 1e6);
}

static void measure_way(struct bench *b, unsigned way, const char *guest, FILE *out)
{
    const char *const ours[] = {b->tierce_path, "-m", "16", "-kernel", guest, "-accel", "kvm,ring0=on", "-display", "none", "-monitor", "none", "-serial", "stdio", NULL};
    const char *const theirs[] = {b->qemu ? b->qemu : "qemu-system-x86_64", "-accel", "kvm", "-m", "16", "-kernel", guest, "-display", "none", "-monitor", "none", "-serial", "stdio", NULL};
    const char *const *argv[2] = {ours, theirs};
    double rates[2][MAX_ROUNDS], ratios[MAX_ROUNDS];
    for (unsigned round = 0; round < b->rounds; round++) {
        for (unsigned who = 0; who < 2; who++) {
            progress("KVM, %s, round %u of %u", way_names[way], round + 1, b->rounds);
            rates[who][round] = who && subject_of_kind(b, QEMU) < 0 ? NAN : measure_one(b, argv[who]);
            if (rates[who][round] == 0) {
                complain("--kvm: %s gave no figures; is there a /dev/kvm that may be opened?", argv[who][0]);
                b->failures++;
                rates[who][round] = NAN;
            }
        }
        ratios[round] = rates[0][round] / rates[1][round];
    }
    struct figures a = figures_of(rates[0], b->rounds), q = figures_of(rates[1], b->rounds), r = figures_of(ratios, b->rounds);
    fprintf(out, "%-14s %12.0f %12.0f   %.2f times QEMU's (%.2f to %.2f)\n", way_names[way], a.median, q.median, r.median, r.min, r.max);
}

void measure_kvm(struct bench *b, FILE *out)
{
    fprintf(out, "KVM, round trips a second (median of %u rounds, by turns)\n%-14s %12s %12s\n", b->rounds, "", "tierce", "QEMU");
    for (unsigned way = 0; way < WAYS; way++) {
        char guest[] = "/tmp/tierce-bench-kvm-XXXXXX";
        write_guest(guest, way);
        measure_way(b, way, guest, out);
        if (way == PORT && !b->failures)
            report_handover(b, guest, out);
        unlink(guest);
    }
}
