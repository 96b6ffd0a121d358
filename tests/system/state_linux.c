/* A Linux of 512 MiB under --icount, saved in the middle of its boot and while its shell works, and restored in other tiers: the console is
 * that of a run that was left alone, byte for byte, and so are RAM and registers at a later instruction.
 *   state_linux KERNEL INITRD */
#define _GNU_SOURCE
#include "runtime/internal.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define MS 1000000ul
enum { OUT = 1 << 17 };
static const char append[] = "console=ttyS0 panic=-1 RUN=\"for i in 1 2 3 4 5 6 7 8; do cat /proc/interrupts /proc/uptime | md5sum; head -c 8 /dev/urandom | hexdump; "
                             "sleep 0.01; done; cat /proc/meminfo; poweroff -f\"";
struct rig { struct machine *m; pthread_t thread; struct alarm alarm; char *out; size_t size; enum machine_end end; int status; };
static unsigned passed, failed;

static bool check(bool good, const char *what)
{
    *(good ? &passed : &failed) += 1;
    if (!good)
        printf("state_linux: %s\n", what);
    return good;
}

static void put(void *ctx, const uint8_t *bytes, size_t size)
{
    struct rig *r = ctx;
    while (size-- && r->size < OUT - 1)
        r->out[r->size++] = (char)*bytes++;
}

static void stop_here(void *ctx)
{
    struct machine *m = ((struct rig *)ctx)->m;
    atomic_fetch_or(&m->requests, REQUEST_STOP);
    vcpu_kick(m);
}

static void *main_loop(void *arg)
{
    struct rig *r = arg;
    r->end = machine_run(r->m, &r->status);
    return NULL;
}

static bool make(struct rig *r, enum tier tier, const char *kernel, const char *initrd, const char *restore)
{
    char error[700] = "";
    bool usage;
    *r = (struct rig){.out = calloc(1, OUT)};
    const struct machine_config config = {.ram_size = 512 << 20, .tier = tier, .icount = true, .hot_threshold = 20000, .kernel = kernel, .initrd = initrd,
        .append = kernel ? append : NULL, .restore = restore, .no_reboot = true, .serial = {{put, r}}};
    r->m = machine_new(&config, error, sizeof error, &usage);
    return check(r->m != NULL, error);
}

static void go(struct rig *r)
{
    if (r->m->vcpu->started)
        machine_continue(r->m);
    else
        pthread_create(&r->thread, NULL, main_loop, r);
}

static void run_to(struct rig *r, uint64_t ns)
{
    pthread_mutex_lock(&r->m->lock);
    alarm_init(&r->alarm, &r->m->clock, stop_here, r);
    alarm_set(&r->alarm, ns);
    pthread_mutex_unlock(&r->m->lock);
    go(r);
    while (!machine_is_stopped(r->m) && !machine_is_ending(r->m))
        usleep(2000);
    machine_stop(r->m);
}

static void run_to_end(struct rig *r)
{
    go(r);
    pthread_join(r->thread, NULL);
    check(r->end == MACHINE_POWER_OFF, "it did not power off");
}

struct moment { uint32_t ram; uint64_t rip, gpr[16]; };
static struct moment moment(const struct rig *r)
{
    const struct x86_state *s = &r->m->vcpu->cpu.state;
    struct moment now = {(uint32_t)crc32_z(0, r->m->ram, r->m->config.ram_size), s->rip, {0}};
    memcpy(now.gpr, s->gpr, sizeof now.gpr);
    return now;
}

static void save(struct rig *r, const char *path)
{
    char error[700] = "";
    struct machine_state_size size = {0};
    struct stat st = {0};
    check(machine_save(r->m, path, &size, error, sizeof error) && stat(path, &st) == 0, error);
    printf("at %lu ms: %lu MiB of RAM are not zero, the file has %lu\n", machine_now(r->m) / MS, size.ram_bytes >> 20, size.bytes >> 20);
    check((uint64_t)st.st_size == size.bytes && size.bytes < size.ram_bytes + (1 << 20) && size.ram_bytes < 256 << 20, "its size");
}

static void drop(struct rig *r)
{
    machine_free(r->m);
    free(r->out);
}

static void compare(struct rig *r, enum tier tier, const char *path, uint64_t later, const struct moment *want, const char *out, size_t from)
{
    if (!make(r, tier, NULL, NULL, path))
        return;
    run_to(r, later);
    struct moment now = moment(r);
    if (!check(!memcmp(&now, want, sizeof now), "RAM or registers differ"))
        printf("  restored in %s: rip %lx, %lx alone; RAM %08x, %08x\n", tier_name(tier), now.rip, want->rip, now.ram, want->ram);
    run_to_end(r);
    if (!check(!strcmp(r->out, out + from), "the console differs"))
        printf("--- restored in %s\n%s\n--- alone\n%s\n", tier_name(tier), r->out, out + from);
    drop(r);
}

int main(int argc, char **argv)
{
    char directory[] = "/tmp/tierce-state-XXXXXX", early[80], late[80];
    struct rig alone, saved, r;
    if (argc != 3 || !mkdtemp(directory))
        return 2;
    snprintf(early, sizeof early, "%s/early", directory);
    snprintf(late, sizeof late, "%s/late", directory);
    if (!make(&alone, TIER_TCG, argv[1], argv[2], NULL) || !make(&saved, TIER_TCG, argv[1], argv[2], NULL))
        return 1;
    run_to(&alone, 1450 * MS);
    struct moment at = moment(&alone);
    run_to_end(&alone);
    check(strstr(alone.out, "tierce guest ready") && strstr(alone.out, "MemTotal") && strstr(alone.out, "Power down"), "the guest did not do its work");
    run_to(&saved, 700 * MS + 123457);
    save(&saved, early);
    size_t from_early = saved.size;
    run_to(&saved, 1400 * MS + 7654321);
    save(&saved, late);
    size_t from_late = saved.size;
    check(from_early > 1000 && from_late > from_early && from_late < alone.size, "the moments are not where they should be");
    check(!strncmp(saved.out, alone.out, from_late), "saving disturbed it");
    machine_quit(saved.m);
    pthread_join(saved.thread, NULL);
    drop(&saved);
    compare(&r, TIER_TCG, early, 1450 * MS, &at, alone.out, from_early);
#ifdef TIERCE_LLVM
    compare(&r, TIER_TIERED, late, 1450 * MS, &at, alone.out, from_late);
#else
    compare(&r, TIER_TCG, late, 1450 * MS, &at, alone.out, from_late);
#endif
    drop(&alone);
    unlink(early);
    unlink(late);
    rmdir(directory);
    printf("state_linux: %u passed, %u failed\n", passed, failed);
    return failed != 0;
}
