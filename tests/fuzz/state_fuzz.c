/* Saved machines that lie.  What is refused has one line of reason and changes nothing; what is accepted runs for a while, with its
 * interrupts and alarms, and whatever its registers hold must do no harm.
 * Input: a byte, odd: sums, numbers and lengths are made right before the file is read; the rest is the file. */
#define _GNU_SOURCE
#include "runtime/state.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { RAM_SIZE = 2 << 20, HEAD = 16, SECTION_HEAD = 40 };
static const uint8_t code[] = {0xfa, 0x90, 0xeb, 0xfd}; /* CLI; NOP; a loop */
static struct machine *m;
static uint8_t *good; static size_t good_size;

static void must(bool ok)
{
    if (!ok)
        abort();
}

static bool restore(const uint8_t *bytes, size_t size, char error[700])
{
    FILE *f = fmemopen((void *)(uintptr_t)bytes, size, "r");
    must(f != NULL);
    bool ok = machine_restore_from(m, f, error, 700);
    fclose(f);
    return ok;
}

static void setup(void)
{
    char error[700], path[] = "/tmp/tierce-fuzz-XXXXXX";
    bool usage;
    const struct machine_config config = {.ram_size = RAM_SIZE, .tier = TIER_INTERP, .icount = true, .raw_image = code, .raw_size = sizeof code, .raw_entry = 0x10000, .raw_mode = 32};
    m = machine_new(&config, error, sizeof error, &usage);
    int fd = mkstemp(path);
    must(m && fd >= 0 && machine_save(m, path, NULL, error, sizeof error));
    FILE *f = fopen(path, "r");
    good = malloc(1 << 20);
    must(f && good);
    good_size = fread(good, 1, 1 << 20, f);
    fclose(f);
    close(fd);
    unlink(path);
    if (getenv("STATE_FUZZ_SEED")) { /* writes an input that is accepted */
        f = fopen(getenv("STATE_FUZZ_SEED"), "w");
        must(f && fputc(1, f) != EOF && fwrite(good, 1, good_size, f) == good_size && !fclose(f));
    }
}

static void put(uint8_t *at, uint64_t v, size_t size) { memcpy(at, &v, size); }

/* So that what lies below the sums is reached. */
static void seal(uint8_t *bytes, size_t size)
{
    if (size < HEAD)
        return;
    memcpy(bytes, good, 12);
    put(bytes + 12, crc32_z(0, bytes, 12), 4);
    uint32_t number = 0;
    for (size_t at = HEAD, n; at + SECTION_HEAD <= size; at += SECTION_HEAD + n) {
        uint64_t length;
        memcpy(&length, bytes + at + 24, 8);
        n = size - at - SECTION_HEAD;
        if (length < n)
            n = (size_t)length;
        put(bytes + at + 20, number++, 4);
        put(bytes + at + 24, n, 8);
        put(bytes + at + 32, crc32_z(0, bytes + at + SECTION_HEAD, n), 4);
        put(bytes + at + 36, crc32_z(0, bytes + at, 36), 4);
    }
}

static void run_on(void)
{
    struct vcpu *v = m->vcpu;
    struct x86_state *s = &v->cpu.state;
    for (unsigned i = 0; i < 30; i++) {
        m->icount_ns += 100000;
        pthread_mutex_lock(&m->lock);
        clock_run_alarms(&m->clock);
        pthread_mutex_unlock(&m->lock);
        int vector = s->eflags & 1 << 9 && !s->faulted && atomic_load(&m->interrupt_level) ? pc_interrupt_take(m->pc) : -1;
        if (s->faulted)
            vcpu_deliver(v, VCPU_FAULT, 0);
        else if (vector >= 0)
            vcpu_deliver(v, VCPU_INTERRUPT, (unsigned)vector);
        vcpu_run(v, 100, false);
        s->icount = 0;
    }
    atomic_fetch_and(&m->requests, 0u);
    m->ended = false;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char error[700] = "";
    if (!m)
        setup();
    if (size < 2)
        return 0;
    uint8_t *copy = malloc(size - 1);
    must(copy != NULL);
    memcpy(copy, bytes + 1, size - 1);
    if (bytes[0] & 1)
        seal(copy, size - 1);
    uint32_t ram = (uint32_t)crc32_z(0, m->ram, RAM_SIZE);
    struct x86_state cpu = m->vcpu->cpu.state;
    if (restore(copy, size - 1, error)) {
        run_on();
        must(restore(good, good_size, error));
    } else {
        must(*error && !strchr(error, '\n'));
        must(ram == crc32_z(0, m->ram, RAM_SIZE) && !memcmp(&cpu, &m->vcpu->cpu.state, sizeof cpu));
    }
    free(copy);
    return 0;
}
