/* A machine: its memory, its PC, its vCPU thread and its main loop. */
#define _GNU_SOURCE
#include "runtime/internal.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

#define CODE_BUFFER (48u << 20)

/* --- The CPU's side of the machine (struct x86_bus) */
static struct machine *machine_of(struct x86_cpu *cpu) { return cpu->bus_ctx; }

static uint64_t bus_phys_read(struct x86_cpu *cpu, uint64_t physical, unsigned size)
{
    struct machine *m = machine_of(cpu);
    uint64_t value = 0;
    uint8_t *host = softmmu_ram(m, physical);
    if (host) {
        memcpy(&value, host, size);
        return value;
    }
    pthread_mutex_lock(&m->lock);
    value = space_read(pc_memory(m->pc), physical, size);
    pthread_mutex_unlock(&m->lock);
    return value;
}

static bool bus_phys_cas(struct x86_cpu *cpu, uint64_t physical, unsigned size, uint64_t expected, uint64_t desired)
{
    struct machine *m = machine_of(cpu);
    uint8_t *host = softmmu_ram(m, physical);
    if (!host)
        return true; /* page tables in MMIO or ROM: A and D bits are lost */
    uint64_t page = softmmu_ram_page(m, host);
    if (page == ~0ull)
        return true;
    if (m->check)
        check_walked(m->vcpu, page * PAGE + (physical & (PAGE - 1)));
    check_page(m->vcpu, page);
    tb_written(m->vcpu, page, (unsigned)(physical & (PAGE - 1)), size, NULL);
    if (size == 8)
        return __atomic_compare_exchange_n((uint64_t *)(void *)host, &expected, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    uint32_t expected32 = (uint32_t)expected;
    return __atomic_compare_exchange_n((uint32_t *)(void *)host, &expected32, (uint32_t)desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static uint32_t bus_io_read(struct x86_cpu *cpu, uint16_t port, unsigned size)
{
    struct machine *m = machine_of(cpu);
    uint32_t value = 0;
    machine_port(m, false, port, size, 1, &value);
    return value;
}

static void bus_io_write(struct x86_cpu *cpu, uint16_t port, unsigned size, uint32_t value)
{
    struct machine *m = machine_of(cpu);
    machine_port(m, true, port, size, 1, &value);
}

static int bus_interrupt_take(struct x86_cpu *cpu)
{
    struct machine *m = machine_of(cpu);
    pthread_mutex_lock(&m->lock);
    int vector = pc_interrupt_take(m->pc);
    pthread_mutex_unlock(&m->lock);
    return vector;
}

static uint64_t bus_apic_read(struct x86_cpu *cpu, uint32_t msr)
{
    struct machine *m = machine_of(cpu);
    uint64_t value = 0;
    machine_access_begin(m);
    if (!lapic_msr_read(pc_lapic(m->pc), msr, &value))
        x86_raise_error(cpu, X86_GP, 0);
    machine_access_end(m);
    return value;
}

static bool bus_apic_write(struct x86_cpu *cpu, uint32_t msr, uint64_t value)
{
    struct machine *m = machine_of(cpu);
    machine_access_begin(m);
    bool ok = lapic_msr_write(pc_lapic(m->pc), msr, value);
    machine_access_end(m);
    if (ok && msr == 0x1b) /* IA32_APIC_BASE: the registers may lie elsewhere now */
        softmmu_flush(cpu, X86_FLUSH_ALL, 0);
    return ok;
}

static uint8_t bus_tpr_read(struct x86_cpu *cpu)
{
    struct machine *m = machine_of(cpu);
    pthread_mutex_lock(&m->lock);
    uint8_t tpr = lapic_tpr_get(pc_lapic(m->pc));
    pthread_mutex_unlock(&m->lock);
    return tpr >> 4;
}

static void bus_tpr_write(struct x86_cpu *cpu, uint8_t cr8)
{
    struct machine *m = machine_of(cpu);
    pthread_mutex_lock(&m->lock);
    lapic_tpr_set(pc_lapic(m->pc), (uint8_t)(cr8 << 4));
    pthread_mutex_unlock(&m->lock);
}

static bool bus_ferr(struct x86_cpu *cpu, bool level)
{
    struct machine *m = machine_of(cpu);
    pthread_mutex_lock(&m->lock);
    bool ignne = pc_ferr(m->pc, level);
    pthread_mutex_unlock(&m->lock);
    return ignne;
}

static uint64_t bus_tsc(struct x86_cpu *cpu)
{
    struct machine *m = machine_of(cpu);
    uint64_t now = machine_now(m);
    return m->tsc_base + (m->tsc_khz == TSC_KHZ ? now : (uint64_t)((unsigned __int128)now * m->tsc_khz / 1000000u));
}
/* From the host; a counted run, which must repeat exactly, draws from a generator of its own (splitmix64). */
static uint64_t bus_random(struct x86_cpu *cpu)
{
    struct machine *m = machine_of(cpu);
    uint64_t v;
    if (!m->config.icount && getrandom(&v, sizeof v, 0) == sizeof v)
        return v;
    v = m->random += 0x9e3779b97f4a7c15ull;
    v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9ull;
    v = (v ^ v >> 27) * 0x94d049bb133111ebull;
    return v ^ v >> 31;
}

static uint64_t tsc_to_ns(void *ctx, uint64_t tsc)
{
    struct machine *m = ctx;
    uint64_t ticks = tsc - m->vcpu->cpu.state.tsc_offset - m->tsc_base;
    return m->tsc_khz == TSC_KHZ ? ticks : (uint64_t)(((unsigned __int128)ticks * 1000000u + m->tsc_khz - 1) / m->tsc_khz);
}

/* Translated code may go on without the cpu loop: what the loop would do first is asked for by `stop`. */
static void bus_mode_changed(struct x86_cpu *cpu)
{
    struct x86_state *s = &cpu->state;
    struct machine *m = machine_of(cpu);
    tb_mode_changed(vcpu_of(cpu));
    softmmu_mode(vcpu_of(cpu));
    if ((s->eflags & 1 << 9 && atomic_load(&m->interrupt_level)) || (s->nmi_pending && !s->nmi_masked) || (m->config.tier == TIER_KVM && accel_is_due(vcpu_of(cpu))))
        __atomic_store_n(&s->stop, 1, __ATOMIC_SEQ_CST);
}
static void bus_shutdown(struct x86_cpu *cpu)
{
    struct machine *m = machine_of(cpu);
    trace_shutdown(m->vcpu);
    pthread_mutex_lock(&m->lock);
    if (m->config.no_reboot)
        machine_end_with(m, MACHINE_RESET_END, 0);
    else
        atomic_fetch_or(&m->requests, REQUEST_RESET);
    vcpu_kick(m);
    pthread_mutex_unlock(&m->lock);
    cpu->state.halted = 1;
}

const struct x86_bus machine_bus = {
    .read = softmmu_read, .write = softmmu_write, .probe = softmmu_probe, .pointer = softmmu_pointer,
    .phys_read = bus_phys_read, .phys_cas = bus_phys_cas, .io_read = bus_io_read, .io_write = bus_io_write,
    .interrupt_take = bus_interrupt_take, .apic_read = bus_apic_read, .apic_write = bus_apic_write,
    .tpr_read = bus_tpr_read, .tpr_write = bus_tpr_write, .ferr = bus_ferr, .random = bus_random, .tsc = bus_tsc, .tlb_flush = softmmu_flush,
    .mode_changed = bus_mode_changed, .shutdown = bus_shutdown, .delivering = trace_delivery,
};

/* --- The PC's side: lines that come from the devices, with the lock held */
void machine_wake_main(struct machine *m)
{
    uint64_t one = 1;
    if (write(m->wake_fd, &one, sizeof one) < 0)
        return;
}

void machine_end_with(struct machine *m, enum machine_end end, int status)
{
    if (!m->ended) {
        __atomic_store_n(&m->ended, true, __ATOMIC_SEQ_CST); /* read without the lock */
        m->end = end;
        m->exit_status = status;
    }
    atomic_fetch_or(&m->requests, REQUEST_QUIT);
    vcpu_kick(m);
    machine_wake_main(m);
}

static void line_interrupt(void *ctx, int pin, int level)
{
    struct machine *m = ctx;
    (void)pin;
    atomic_store(&m->interrupt_level, level);
    if (level)
        vcpu_kick(m);
}
static void line_nmi(void *ctx, int pin, int level)
{
    struct machine *m = ctx;
    (void)pin;
    if (level && m->vcpu) {
        m->vcpu->cpu.state.nmi_pending = 1;
        vcpu_kick(m);
    }
}
/* Pulled by the guest's own port writes, so on the vCPU's thread. */
static void line_a20(void *ctx, int pin, int level)
{
    struct machine *m = ctx;
    uint64_t mask = level ? ~0ull : ~(1ull << 20);
    (void)pin;
    if (!m->vcpu || m->vcpu->cpu.state.a20_mask == mask)
        return;
    m->vcpu->cpu.state.a20_mask = mask;
    softmmu_flush(&m->vcpu->cpu, X86_FLUSH_ALL, 0);
}
static void line_reset(void *ctx, int pin, int level)
{
    struct machine *m = ctx;
    (void)pin;
    if (!level)
        return;
    if (m->config.no_reboot) {
        machine_end_with(m, MACHINE_RESET_END, 0);
        return;
    }
    atomic_fetch_or(&m->requests, REQUEST_RESET);
    vcpu_kick(m);
}
static void line_shutdown(void *ctx, int pin, int level)
{
    struct machine *m = ctx;
    (void)pin;
    if (level && !m->config.no_shutdown) {
        machine_end_with(m, MACHINE_POWER_OFF, 0);
    } else if (level) {
        m->debug.untold = true;
        m->debug.told = (struct machine_stop){.reason = MACHINE_STOP_PAUSE};
        atomic_fetch_or(&m->requests, REQUEST_STOP);
        machine_clock_pause(m, true);
        vcpu_kick(m);
    }
}
static void debug_exit(void *ctx, int status) { machine_end_with(ctx, MACHINE_DEBUG_EXIT, status); }

/* --- Devices that write to RAM.  A device's registers are written on the vCPU's thread; what the main loop's alarms and
 * descriptors write is noted, and the vCPU sees to it before it runs another block. */
static void page_written(struct machine *m, uint64_t page, uint64_t offset, uint64_t size)
{
    tb_written(m->vcpu, page, (unsigned)offset, (unsigned)size, NULL);
}

void machine_ram_noted(struct machine *m)
{
    atomic_fetch_and(&m->requests, ~REQUEST_RAM);
    tb_first_drop(m->vcpu);
    m->vcpu->regions.foreign_writes++;
    if (m->written_count > sizeof m->written_pages / sizeof *m->written_pages) {
        for (uint64_t page = 0; page < m->vcpu->tbs.page_count; page++)
            tb_written_elsewhere(m->vcpu, page);
    } else {
        for (unsigned i = 0; i < m->written_count; i++)
            tb_written_elsewhere(m->vcpu, m->written_pages[i]);
    }
    m->written_count = 0;
}

static void note_written(struct machine *m, uint64_t page)
{
    const unsigned room = sizeof m->written_pages / sizeof *m->written_pages;
    if (m->written_count < room)
        m->written_pages[m->written_count] = page;
    m->written_count += m->written_count <= room;
    atomic_fetch_or(&m->requests, REQUEST_RAM);
    vcpu_kick(m);
}

void machine_ram_written(void *machine, const uint8_t *host, uint64_t size)
{
    struct machine *m = machine;
    atomic_store(&m->ram_changed, true);
    if (m->vcpu->away)
        return; /* what is translated is all looked at again when the tiers go on */
    for (uint64_t n; size; host += n, size -= n) {
        uint64_t page = softmmu_ram_page(m, host), offset = (uint64_t)(host - m->ram) & (PAGE - 1);
        n = PAGE - offset < size ? PAGE - offset : size;
        if (page == ~0ull)
            continue;
        bool elsewhere = m->vcpu->started && !pthread_equal(pthread_self(), m->vcpu->thread);
        if (m->check)
            check_device_wrote(m->check, page * PAGE + offset, (uint32_t)n, !elsewhere);
        if (elsewhere)
            note_written(m, page);
        else
            page_written(m, page, offset, n);
    }
}

/* --- Making */
static bool read_file(const char *what, const char *path, uint8_t **bytes, size_t *size, char *error, size_t error_size)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        snprintf(error, error_size, "%s %s: %s", what, path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return false;
    }
    if (!S_ISREG(st.st_mode)) {
        snprintf(error, error_size, "%s %s: not a regular file", what, path);
        close(fd);
        return false;
    }
    *size = (size_t)st.st_size;
    *bytes = malloc(*size + 1);
    size_t done = 0;
    ssize_t n = 0;
    while (*bytes && done < *size && (n = read(fd, *bytes + done, *size - done)) > 0)
        done += (size_t)n;
    close(fd);
    if (*bytes && done == *size)
        return true;
    snprintf(error, error_size, "%s %s: cannot read it: %s", what, path, n < 0 ? strerror(errno) : "it became shorter");
    return false;
}

static bool load_files(struct machine *m, char *error, size_t size)
{
    const struct machine_config *c = &m->config;
    return (!c->kernel || read_file("kernel", c->kernel, &m->kernel.bytes, &m->kernel.size, error, size)) &&
           (!c->initrd || read_file("initrd", c->initrd, &m->initrd.bytes, &m->initrd.size, error, size));
}

#define ICOUNT_START_TIME 1767225600 /* 2026-01-01: a counted run must not depend on the host's date */
/* A counted run may not depend on who reads its output: its transmitters are always empty, and all of it waits (machine_output_stall). */
static struct chardev serial_of(const struct machine_config *c, unsigned n)
{
    struct chardev out = c->serial[n];
    if (c->icount)
        out.is_full = NULL;
    return out;
}

static struct pc_config pc_config_of(struct machine *m)
{
    const struct machine_config *c = &m->config;
    return (struct pc_config){
        .ram_size = c->ram_size, .ram = m->ram, .clock = &m->clock,
        .cpu_interrupt = {line_interrupt, m}, .cpu_nmi = {line_nmi, m},
        /* The only CPU is the bootstrap processor: an INIT starts it at the reset vector (SDM 3A 9.4.2), in the firmware, which begins anew. */
        .cpu_init = {line_reset, m}, .cpu_a20 = {line_a20, m},
        .reset_request = {line_reset, m}, .shutdown_request = {line_shutdown, m},
        .debug_exit = debug_exit, .debug_exit_ctx = m, .debug_exit_port = c->debug_exit_port, .debug_exit_size = c->debug_exit_size,
        .serial = {serial_of(c, 0), serial_of(c, 1)}, .debug_console = c->debug_console,
        .tsc_to_ns = tsc_to_ns, .tsc_ctx = m,
        .kernel = {m->kernel.bytes, m->kernel.size}, .initrd = {m->initrd.bytes, m->initrd.size},
        .cmdline = c->append ? c->append : "",
        .start_time = c->icount ? ICOUNT_START_TIME : 0,
    };
}

/* Puts the kernel (or a test's raw image) in RAM and the CPU before its first instruction. */
static bool load_guest(struct machine *m, char *error, size_t size)
{
    const struct machine_config *c = &m->config;
    struct boot_entry entry = {0};
    if (!c->raw_image && !c->kernel) {
        snprintf(error, size, "a restored guest without -kernel FILE has nothing to boot");
        return false;
    }
    if (c->raw_image) {
        if (c->raw_entry + c->raw_size > c->ram_size) {
            snprintf(error, size, "the image does not fit in RAM");
            return false;
        }
        memcpy(m->ram + c->raw_entry, c->raw_image, c->raw_size);
        entry.protocol = c->raw_mode == 16 ? BOOT_REAL16 : BOOT_PVH;
        entry.entry = c->raw_entry;
        entry.stack = c->raw_entry;
    } else {
        struct pc_config pc = pc_config_of(m);
        uint32_t id[4];
        x86_cpuid(&m->vcpu->cpu, 0x80000001, 0, id);
        if (!(id[3] >> 29 & 1)) /* no long mode: boot_load is told so */
            entry.protocol = BOOT_LINUX32;
        char why[256];
        if (!boot_load(&pc, &entry, why, sizeof why)) {
            snprintf(error, size, "kernel %s: %s", m->config.kernel, why);
            return false;
        }
    }
    x86_reset(&m->vcpu->cpu, X86_RESET_POWER);
    start_state(m, &entry);
    return true;
}

static void typed_go(struct typed *t)
{
    struct device *uart = pc_serial(t->machine->pc, t->port);
    for (; t->count; t->count--, t->at = (t->at + 1) % TYPED) {
        uint8_t byte = (uint8_t)t->bytes[t->at];
        if (!uart_has_room(uart))
            break;
        if (t->bytes[t->at] == TYPED_BREAK)
            uart_break(uart);
        else
            uart_receive(uart, &byte, 1);
    }
}

static void on_room(void *typed)
{
    struct typed *t = typed;
    typed_go(t);
    if (t->room && t->count <= TYPED / 2)
        t->room(t->ctx);
}

static void typed_begin(struct machine *m)
{
    for (unsigned port = 0; port < 2; port++) {
        m->typed[port] = (struct typed){.machine = m, .port = port};
        uart_on_room(pc_serial(m->pc, port), on_room, &m->typed[port]);
    }
}

void machine_reset_now(struct machine *m)
{
    char error[256];
    pc_reset(m->pc);
    for (unsigned port = 0; port < 2; port++)
        typed_go(&m->typed[port]);
    if (!load_guest(m, error, sizeof error)) {
        fprintf(stderr, "tierce: reset: %s\n", error);
        machine_end_with(m, MACHINE_ERROR, 1);
    }
    softmmu_flush(&m->vcpu->cpu, X86_FLUSH_ALL, 0);
    cache_forgetting(m->vcpu);
    tb_flush_all(m->vcpu); /* RAM was loaded afresh */
    if (m->check)
        check_stale(m->check);
    softmmu_mode(m->vcpu);
    clock_alarms_due(m); /* what asked the vCPU to stop for them was reset */
}

static struct vcpu *vcpu_new(struct machine *m)
{
    struct vcpu *v;
    const size_t huge = 2 << 20; /* look-ups go all over it: better under one host TLB entry */
    if (posix_memalign((void **)&v, huge, (sizeof *v + huge - 1) & ~(huge - 1)))
        return NULL;
    madvise(v, (sizeof *v + huge - 1) & ~(huge - 1), MADV_HUGEPAGE);
    memset(v, 0, sizeof *v);
    v->machine = m;
    v->cpu.model = m->model;
    v->cpu.bus = &machine_bus;
    v->cpu.bus_ctx = m;
    softmmu_slow_paths(&v->tcg);
    m->vcpu = v;
    return stats_begin(v) ? v : NULL;
}

static bool memory_new(struct machine *m, char *error, size_t size)
{
    m->ram = mmap(NULL, m->config.ram_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (m->ram == MAP_FAILED) {
        m->ram = NULL;
        snprintf(error, size, "cannot reserve %lu MiB of guest RAM: %s", m->config.ram_size >> 20, strerror(errno));
        return false;
    }
    return true;
}

#ifndef TIERCE_LLVM
bool machine_is_compiling(struct machine *m) { (void)m; return false; }
void machine_cache_save(struct machine *m) { (void)m; }
#endif

const char *tier_name(enum tier t)
{
    static const char *const names[] = {[TIER_INTERP] = "interp", [TIER_TCG] = "tcg", [TIER_LLVM] = "llvm", [TIER_TIERED] = "tiered", [TIER_KVM] = "kvm"};
    return (unsigned)t < sizeof names / sizeof *names ? names[t] : NULL;
}

static bool build(struct machine *m, char *error, size_t size, bool *usage)
{
    const struct machine_config *c = &m->config;
    *usage = true;
    m->model = x86_model_find(c->cpu ? c->cpu : "x86-64-v2", error, size);
    if (!m->model)
        return false;
#ifndef TIERCE_LLVM
    if (c->tier == TIER_LLVM || c->tier == TIER_TIERED) {
        snprintf(error, size, "--tier=%s: this tierce was built without LLVM (-DTIERCE_LLVM=OFF); accepted: interp, tcg", tier_name(c->tier));
        return false;
    }
#endif
    *usage = false;
    if (c->symbol_files && !(m->symbols = symbols_new(c->symbols, c->symbol_files, error, size)))
        return false;
    if (!perf_new(m, error, size) || !load_files(m, error, size) || !memory_new(m, error, size))
        return false;
    if (!handovers_new(m)) {
        snprintf(error, size, "out of memory");
        return false;
    }
    struct pc_config pc = pc_config_of(m);
    m->tsc_khz = TSC_KHZ;
    m->translated_for = c->tier;
    if (!vcpu_new(m)) {
        snprintf(error, size, "out of memory");
        return false;
    }
    /* It may take features from the model, which all that follows goes by. */
    if (c->accel && !(m->accel = c->accel->new(m, m->model, error, size)))
        return false;
    if (m->accel) {
        m->tsc_khz = c->accel->tsc_khz(m->accel);
        m->tsc_base = c->accel->tsc_begin(m->accel);
    }
    if (!(m->pc = pc_new(&pc, error, size)))
        return false;
    typed_begin(m);
    if (!softmmu_init(m->vcpu) || !tb_store_init(m->vcpu, c->code_buffer_size ? c->code_buffer_size : CODE_BUFFER)) {
        snprintf(error, size, "cannot set up translation: %s", strerror(errno));
        return false;
    }
    pc_memory(m->pc)->written = machine_ram_written;
    pc_memory(m->pc)->written_ctx = m;
    pc_reset(m->pc);
    bool loaded = !c->restore ? load_guest(m, error, size) : !*c->restore || machine_restore(m, c->restore, error, size);
    if (!loaded || !signals_install(error, size))
        return false;
    if (!handovers_begin(m, error, size)) {
        *usage = true;
        return false;
    }
    if ((c->check_interp || c->check_accel) && !(m->check = check_new(m, error, size)))
        return false;
    return cache_open(m, error, size); /* which asks whether instructions are counted */
}

struct machine *machine_new(const struct machine_config *config, char *error, size_t error_size, bool *usage)
{
    struct machine *m = calloc(1, sizeof *m);
    pthread_condattr_t attr;
    *usage = false;
    if (!m) {
        snprintf(error, error_size, "out of memory");
        return NULL;
    }
    m->config = *config;
    if (!m->config.trace_file)
        m->config.trace_file = stderr;
    pthread_mutexattr_t recursive; /* devices call back into lines while they hold it */
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&m->lock, &recursive);
    pthread_mutex_init(&m->trace_lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&m->wake_vcpu, &attr);
    pthread_cond_init(&m->parked_changed, &attr);
    m->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    machine_clock_init(m);
    if (!build(m, error, error_size, usage)) {
        machine_free(m);
        return NULL;
    }
    return m;
}

void machine_free(struct machine *m)
{
    if (!m->is_reference)
        check_free(m->check);
    if (m->accel)
        m->config.accel->free(m->accel);
    handovers_free(m);
    if (m->vcpu) {
        machine_cache_save(m);
        if (m->pc)
            tb_store_free(m->vcpu);
        cache_close(m);
        profile_sample_free(m->vcpu);
        softmmu_free(m->vcpu);
        stats_free(m->vcpu);
        free(m->vcpu);
    }
    if (m->pc)
        pc_free(m->pc);
    if (m->ram)
        munmap(m->ram, m->config.ram_size);
    if (m->model)
        x86_model_free(m->model);
    debug_free(m);
    symbols_free(m->symbols);
    perf_free(m->perf);
    if (m->owns_trace_file)
        fclose(m->config.trace_file);
    free(m->kernel.bytes);
    free(m->initrd.bytes);
    close(m->wake_fd);
    pthread_mutex_destroy(&m->lock);
    pthread_mutex_destroy(&m->trace_lock);
    pthread_cond_destroy(&m->wake_vcpu);
    pthread_cond_destroy(&m->parked_changed);
    free(m);
}

/* --- Main loop */
static void drain(int fd)
{
    uint64_t count;
    if (read(fd, &count, sizeof count) < 0)
        return;
}

/* An earlier call of this turn may have removed it. */
static bool is_watched(struct machine *m, const struct watch *w)
{
    bool found = false;
    pthread_mutex_lock(&m->lock);
    for (unsigned i = 0; i < m->watch_count; i++)
        found |= m->watches[i].fd == w->fd && m->watches[i].ctx == w->ctx && m->watches[i].events;
    pthread_mutex_unlock(&m->lock);
    return found;
}

/* clock.c; counted time is the vCPU's alone. */
static bool alarms_are_ours(const struct machine *m) { return !m->has_timer && !m->config.icount && !m->paused; }

/* Sleeps until a descriptor is ready or somebody wakes us, or where alarms are run here, until the next is due. */
static void main_loop_once(struct machine *m)
{
    struct pollfd fds[1 + sizeof m->watches / sizeof *m->watches];
    struct watch watches[sizeof m->watches / sizeof *m->watches];
    pthread_mutex_lock(&m->lock);
    unsigned n = m->watch_count;
    memcpy(watches, m->watches, sizeof watches);
    uint64_t deadline = alarms_are_ours(m) ? clock_next_deadline(&m->clock) : UINT64_MAX;
    uint64_t now = deadline == UINT64_MAX ? 0 : machine_now(m);
    pthread_mutex_unlock(&m->lock);
    fds[0] = (struct pollfd){m->wake_fd, POLLIN, 0};
    for (unsigned i = 0; i < n; i++)
        fds[1 + i] = (struct pollfd){watches[i].fd, watches[i].events, 0};
    uint64_t ns = deadline == UINT64_MAX ? 1000000000u : deadline > now ? deadline - now : 0;
    if (ns > 1000000000u)
        ns = 1000000000u;
    struct timespec timeout = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    ppoll(fds, 1 + n, &timeout, NULL);
    if (fds[0].revents)
        drain(m->wake_fd);
    pthread_mutex_lock(&m->lock);
    if (alarms_are_ours(m))
        clock_run_alarms(&m->clock);
    pthread_mutex_unlock(&m->lock);
    debug_tell(m);
    for (unsigned i = 0; i < n; i++)
        if (fds[1 + i].revents && is_watched(m, &watches[i]))
            watches[i].ready(watches[i].ctx, fds[1 + i].revents);
}

enum machine_end machine_run(struct machine *m, int *exit_status)
{
    if (m->config.start_stopped) {
        atomic_fetch_or(&m->requests, REQUEST_STOP);
        machine_clock_pause(m, true);
    }
    m->vcpu->started = true;
    if (pthread_create(&m->vcpu->thread, NULL, vcpu_thread, m->vcpu)) {
        *exit_status = 1;
        return MACHINE_ERROR;
    }
    if (m->config.start_stopped)
        machine_stop(m); /* it stands before anybody looks */
    while (!__atomic_load_n(&m->ended, __ATOMIC_SEQ_CST) && !(atomic_load(&m->requests) & REQUEST_QUIT))
        main_loop_once(m);
    pthread_mutex_lock(&m->lock);
    machine_end_with(m, MACHINE_QUIT, 0);
    pthread_mutex_unlock(&m->lock);
    pthread_join(m->vcpu->thread, NULL);
    *exit_status = m->exit_status;
    return m->end;
}

void machine_quit(struct machine *m)
{
    atomic_fetch_or(&m->requests, REQUEST_QUIT);
    __atomic_store_n(&m->vcpu->cpu.state.stop, 1, __ATOMIC_SEQ_CST);
    machine_wake_main(m);
}

void machine_stop(struct machine *m)
{
    pthread_mutex_lock(&m->lock);
    atomic_fetch_or(&m->requests, REQUEST_STOP);
    vcpu_kick(m);
    while (!m->parked && !m->ended)
        pthread_cond_wait(&m->parked_changed, &m->lock);
    machine_clock_pause(m, true);
    pthread_mutex_unlock(&m->lock);
}

bool machine_is_ending(struct machine *m) { return atomic_load(&m->requests) & REQUEST_QUIT; }
bool machine_is_stopped(struct machine *m) { return atomic_load(&m->requests) & REQUEST_STOP; }

void machine_continue(struct machine *m)
{
    if (m->debug.untold)
        return; /* it has just met a breakpoint, as the debugger will be told */
    m->debug.pass = m->debug.code && debug_code_at(&m->debug, tb_linear(&m->vcpu->cpu.state));
    machine_resume(m, false);
}

void machine_resume(struct machine *m, bool without_time)
{
    pthread_mutex_lock(&m->lock);
    machine_clock_pause(m, without_time);
    atomic_fetch_and(&m->requests, ~REQUEST_STOP);
    vcpu_kick(m);
    pthread_mutex_unlock(&m->lock);
    machine_wake_main(m);
}

void machine_power_button(struct machine *m)
{
    pthread_mutex_lock(&m->lock);
    acpi_pm_power_button(pc_pm(m->pc));
    pthread_mutex_unlock(&m->lock);
}

void machine_key(struct machine *m, unsigned set1_scancode)
{
    pthread_mutex_lock(&m->lock);
    i8042_key(pc_keyboard(m->pc), set1_scancode);
    pthread_mutex_unlock(&m->lock);
}

void machine_nmi(struct machine *m)
{
    pthread_mutex_lock(&m->lock);
    line_nmi(m, 0, 1);
    pthread_mutex_unlock(&m->lock);
}

void machine_reset(struct machine *m)
{
    pthread_mutex_lock(&m->lock);
    line_reset(m, 0, 1);
    pthread_mutex_unlock(&m->lock);
}

bool machine_watch(struct machine *m, int fd, short events, void (*ready)(void *, short), void *ctx)
{
    bool ok = true;
    pthread_mutex_lock(&m->lock);
    unsigned i = 0;
    while (i < m->watch_count && m->watches[i].fd != fd)
        i++;
    if (!events) {
        if (i < m->watch_count)
            m->watches[i] = m->watches[--m->watch_count];
    } else if (i < sizeof m->watches / sizeof *m->watches) {
        m->watches[i] = (struct watch){fd, events, ready, ctx};
        m->watch_count += i == m->watch_count;
    } else {
        ok = false;
    }
    pthread_mutex_unlock(&m->lock);
    machine_wake_main(m);
    return ok;
}

void machine_serial_on_room(struct machine *m, unsigned port, void (*room)(void *), void *ctx)
{
    pthread_mutex_lock(&m->lock);
    m->typed[port].room = room;
    m->typed[port].ctx = ctx;
    pthread_mutex_unlock(&m->lock);
}

void machine_serial_drained(struct machine *m, unsigned port)
{
    pthread_mutex_lock(&m->lock);
    uart_drained(pc_serial(m->pc, port));
    pthread_mutex_unlock(&m->lock);
}

void machine_output_stall(struct machine *m, bool stall)
{
    pthread_mutex_lock(&m->lock);
    atomic_fetch_add(&m->stalls, stall ? 1u : ~0u);
    vcpu_kick(m);
    pthread_mutex_unlock(&m->lock);
}

static bool type(struct typed *t, uint16_t what)
{
    if (t->count == TYPED)
        return false;
    t->bytes[(t->at + t->count++) % TYPED] = what;
    return true;
}

size_t machine_serial_input(struct machine *m, unsigned port, const uint8_t *bytes, size_t size)
{
    size_t n = 0;
    pthread_mutex_lock(&m->lock);
    while (n < size && type(&m->typed[port], bytes[n]))
        n++;
    typed_go(&m->typed[port]);
    pthread_mutex_unlock(&m->lock);
    return n;
}

void machine_serial_break(struct machine *m, unsigned port)
{
    pthread_mutex_lock(&m->lock);
    type(&m->typed[port], TYPED_BREAK);
    typed_go(&m->typed[port]);
    pthread_mutex_unlock(&m->lock);
}

/* --- For the monitor */
struct x86_cpu *machine_cpu(struct machine *m) { return &m->vcpu->cpu; }
uint8_t *machine_ram(struct machine *m) { return m->ram; }
struct pc *machine_pc(struct machine *m) { return m->pc; }
const struct machine_config *machine_config(struct machine *m) { return &m->config; }
struct address_space *machine_memory(struct machine *m) { return pc_memory(m->pc); }
struct address_space *machine_io(struct machine *m) { return pc_io(m->pc); }

uint32_t machine_io_read(struct machine *m, uint16_t port, unsigned size)
{
    pthread_mutex_lock(&m->lock);
    uint32_t value = (uint32_t)space_read(pc_io(m->pc), port, size);
    pthread_mutex_unlock(&m->lock);
    return value;
}

void machine_io_write(struct machine *m, uint16_t port, unsigned size, uint32_t value)
{
    pthread_mutex_lock(&m->lock);
    space_write(pc_io(m->pc), port, size, value);
    pthread_mutex_unlock(&m->lock);
}

void machine_print_pic(struct machine *m, FILE *f)
{
    pthread_mutex_lock(&m->lock);
    pc_print_pic(m->pc, f);
    pthread_mutex_unlock(&m->lock);
}

void machine_print_irq(struct machine *m, FILE *f)
{
    pthread_mutex_lock(&m->lock);
    pc_print_irq(m->pc, f);
    pthread_mutex_unlock(&m->lock);
}

/* Blocks that were made for other traces go: those with `exec` are not chained. */
void machine_trace_set(struct machine *m, unsigned trace)
{
    m->config.trace = trace;
    tb_flush_all(m->vcpu);
}

void machine_trace_file(struct machine *m, FILE *f)
{
    pthread_mutex_lock(&m->trace_lock);
    fflush(m->config.trace_file);
    if (m->owns_trace_file)
        fclose(m->config.trace_file);
    setvbuf(f, NULL, _IOLBF, 1 << 16);
    m->config.trace_file = f;
    m->owns_trace_file = true;
    pthread_mutex_unlock(&m->trace_lock);
}

void machine_print_devices(struct machine *m, FILE *f)
{
    struct pc_part part;
    pthread_mutex_lock(&m->lock);
    for (unsigned i = 0; pc_part(m->pc, i, &part); i++) {
        fprintf(f, "  %s\n", part.name);
        if (part.table)
            state_print(f, part.table, part.object);
    }
    pthread_mutex_unlock(&m->lock);
}

const char *machine_state_dir(struct machine *m) { return m->config.state_dir; }

void machine_print_jit(struct machine *m, FILE *f)
{
    const struct vcpu *v = m->vcpu;
    fprintf(f, "tier                %s\n", tier_name(m->config.tier));
    fprintf(f, "TB count            %zu\n", v->tbs.count);
    fprintf(f, "code buffer         %zu/%zu bytes\n", v->tbs.at, v->tbs.buffer_size);
    if (v->stats.blocks)
        fprintf(f, "TB avg target size  %.1f bytes, %.1f instructions\n", (double)v->stats.block_bytes / (double)v->stats.blocks,
                (double)v->stats.block_insns / (double)v->stats.blocks);
    fprintf(f, "chains %lu  evictions %lu  invalidations %lu  TLB flushes %lu  TLB misses %lu\n", v->stats.chains,
            v->stats.evictions, v->stats.invalidations, v->stats.tlb_flushes, v->stats.tlb_misses);
}

void machine_print_profile(struct machine *m, FILE *f) { profile_print(m->vcpu, f); }

void machine_print_tlb(struct machine *m, FILE *f)
{
    static const char *const sets[] = {"user", "kernel", "kernel-ac"};
    const struct softmmu *mmu = &m->vcpu->mmu;
    for (unsigned kind = 0; kind < FILLS; kind++)
        for (unsigned i = 0; i < mmu->fills[kind].count; i++) {
            const struct tlb_fill *e = &mmu->fills[kind].fills[i];
            uint64_t index = e->page >> 12 & (TCG_TABLE_ENTRIES - 1);
            int64_t r = mmu->read[e->set][index], w = mmu->write[e->set][index];
            if (!r && !w)
                continue;
            uint64_t host = e->page + (uint64_t)(r ? r : w);
            fprintf(f, "%016lx: %016lx %c%c%c %s\n", e->page, host - (uint64_t)m->ram, r ? 'r' : '-', w ? 'w' : '-',
                    kind == FILLS_GLOBAL ? 'g' : '-', sets[e->set]);
        }
}
