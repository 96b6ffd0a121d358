/* A virtual machine of KVM's with one vCPU that stands in for the machine's own: state there and back, the run loop's one step, kicks.
 * Timers are the machine's, and the interrupt controllers too unless the kernel's are asked for (irqchip.c). */
#define _GNU_SOURCE
#include "kvm/internal.h"
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { TSC = 0x10, APIC_BASE = 0x1b };
#define TSS_ADDRESS      0xfffbd000ul  /* three pages that no guest of ours has RAM at: VMX without unrestricted guests needs them */
#define IDENTITY_ADDRESS 0xfffbc000ull

static int kick_signal(void) { return SIGRTMIN + 4; }
static void on_kick(int number) { (void)number; } /* that KVM_RUN is interrupted is all */

static bool has(const struct kvm *k, int capability) { return ioctl(k->vm, KVM_CHECK_EXTENSION, capability) > 0; }

static bool enable(const struct kvm *k, unsigned capability, uint64_t argument)
{
    struct kvm_enable_cap cap = {.cap = capability, .args[0] = argument};
    return has(k, (int)capability) && !ioctl(k->vm, KVM_ENABLE_CAP, &cap);
}

/* --- Making */
static void look(struct kvm *k)
{
    k->has_sregs2 = has(k, KVM_CAP_SREGS2);
    k->has_xsave = has(k, KVM_CAP_XSAVE);
    k->has_debugregs = has(k, KVM_CAP_DEBUGREGS);
    k->has_xcrs = has(k, KVM_CAP_XCRS);
    k->has_readonly = has(k, KVM_CAP_READONLY_MEM);
    struct kvm_device_attr offset = {.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET};
    k->has_tsc_offset = !ioctl(k->vcpu, KVM_HAS_DEVICE_ATTR, &offset);
    int khz = ioctl(k->vcpu, KVM_GET_TSC_KHZ, 0);
    k->tsc_khz = khz > 0 ? (uint64_t)khz : 1000000;
    if (khz <= 0)
        kvm_warn("the host's KVM does not tell its TSC's frequency; the guest's is taken for 1 GHz");
    if (!enable(k, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_UNKNOWN))
        kvm_warn("the host's KVM has no KVM_CAP_X86_USER_SPACE_MSR: MSRs that it does not know are #GP to the guest");
    if (!enable(k, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1))
        kvm_warn("the host's KVM has no KVM_CAP_EXIT_ON_EMULATION_FAILURE: what its emulator does not know is #UD to user code");
    if (!k->has_readonly)
        kvm_warn("the host's KVM has no KVM_CAP_READONLY_MEM: the guest can write to ROM");
}

static bool fails(struct kvm *k, const char *what, char *error, size_t size)
{
    (void)k;
    snprintf(error, size, "KVM: cannot %s: %s", what, strerror(errno));
    return false;
}

static bool make(struct kvm *k, char *error, size_t size)
{
    uint64_t identity = IDENTITY_ADDRESS;
    struct sigaction action = {.sa_handler = on_kick};
    sigemptyset(&action.sa_mask);
    if ((k->vm = ioctl(k->host.fd, KVM_CREATE_VM, 0)) < 0)
        return fails(k, "make a virtual machine", error, size);
    if (has(k, KVM_CAP_SET_IDENTITY_MAP_ADDR) && ioctl(k->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity))
        return fails(k, "place the identity map", error, size);
    if (has(k, KVM_CAP_SET_TSS_ADDR) && ioctl(k->vm, KVM_SET_TSS_ADDR, TSS_ADDRESS))
        return fails(k, "place the TSS", error, size);
    if (k->wants_irqchip)
        kvm_irqchip_new(k);
    if ((k->vcpu = ioctl(k->vm, KVM_CREATE_VCPU, 0)) < 0)
        return fails(k, "make a vCPU", error, size);
    k->run = mmap(NULL, (size_t)k->host.run_size, PROT_READ | PROT_WRITE, MAP_SHARED, k->vcpu, 0);
    if (k->run == MAP_FAILED) {
        k->run = NULL;
        return fails(k, "map the vCPU's page", error, size);
    }
    if (sigaction(kick_signal(), &action, NULL))
        return fails(k, "handle its signal", error, size);
    look(k);
    kvm_catch_begin(k);
    return true;
}

static void kvm_free(void *accel)
{
    struct kvm *k = accel;
    if (!k)
        return;
    if (k->run)
        munmap(k->run, (size_t)k->host.run_size);
    if (k->vcpu >= 0)
        close(k->vcpu);
    if (k->vm >= 0)
        close(k->vm);
    kvm_host_close(&k->host);
    free(k);
}

static void defects(struct kvm_host *h)
{
    static const uint8_t nothing[] = {0x90}, cmpxchg16b[] = {0xf0, 0x48, 0x0f, 0xc7, 0x0e}; /* lock cmpxchg16b [rsi] */
    if (!kvm_probe(h, nothing, sizeof nothing))
        return;
    h->lacks_cx16 = !kvm_probe(h, cmpxchg16b, sizeof cmpxchg16b);
    h->syscall_stays = kvm_syscall_stays(h);
    h->tsc_is_host = kvm_tsc_is_host(h);
    uint32_t added = kvm_cpuid_adds(h);
    if (added)
        kvm_warn("the host's KVM adds features of the host's CPU to the guest's CPUID (1:ECX 0x%x): what a guest finds of them there, it lacks in the tiers", added);
    h->shadows_tables = kvm_shadows_tables(h);
    h->long_paging_only = kvm_long_paging_only(h);
    if (h->long_paging_only)
        kvm_warn("the host's KVM has paging in long mode alone: the template tier runs the guest while it pages without");
    if (h->tsc_is_host)
        kvm_warn("the host's KVM gives user code the host's TSC, so the guest's begins with that, and stops or changes of it are lost");
}

static void *kvm_new(struct machine *m, struct x86_model *model, char *error, size_t size)
{
    struct kvm *k = calloc(1, sizeof *k);
    char removed[512];
    if (!k) {
        snprintf(error, size, "KVM: out of memory");
        return NULL;
    }
    *k = (struct kvm){.machine = m, .vm = -1, .vcpu = -1, .apic_base = 0xfee00900, .wants_irqchip = machine_config(m)->accel_controllers};
    if (!kvm_host_open(&k->host, error, size) || (defects(&k->host), !make(k, error, size))) {
        kvm_free(k);
        return NULL;
    }
    x86_model_restrict(model, kvm_host_has, &k->host, removed, sizeof removed);
    if (*removed)
        kvm_warn("the guest's CPU is without%s: the host's KVM does not offer that", removed);
    return k;
}

static uint64_t host_tsc(void) { return __builtin_ia32_rdtsc(); }
static uint64_t kvm_tsc_begin(void *accel) { return ((const struct kvm *)accel)->host.tsc_is_host ? host_tsc() : 0; }
static uint64_t kvm_tsc_khz(void *accel) { return ((const struct kvm *)accel)->tsc_khz; }

/* --- CPUID: what the tiers' guests see */
static void cpuid_leaf(const struct x86_cpu *cpu, struct kvm_cpuid2 *list, uint32_t leaf, uint32_t subleaf, bool indexed)
{
    uint32_t out[4];
    x86_cpuid(cpu, leaf, subleaf, out);
    list->entries[list->nent++] = (struct kvm_cpuid_entry2){.function = leaf, .index = subleaf, .flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
        .eax = out[0], .ebx = out[1], .ecx = out[2], .edx = out[3]};
}

static bool cpuid_set(struct kvm *k, const struct x86_cpu *cpu)
{
    enum { ROOM = 160, MOST = 32 };
    static const struct { uint32_t leaf, subleaves; } indexed[] = {{4, 4}, {7, 2}, {0xb, 3}, {0xd, 4}};
    char memory[sizeof(struct kvm_cpuid2) + ROOM * sizeof(struct kvm_cpuid_entry2)] __attribute__((aligned(8))) = {0};
    struct kvm_cpuid2 *list = (void *)memory;
    uint32_t max[4];
    x86_cpuid(cpu, 0, 0, max);
    for (uint32_t leaf = 0; leaf <= max[0] && leaf < MOST; leaf++) {
        uint32_t subleaves = 0;
        for (unsigned i = 0; i < sizeof indexed / sizeof *indexed; i++)
            subleaves = indexed[i].leaf == leaf ? indexed[i].subleaves : subleaves;
        for (uint32_t n = 0; n < (subleaves ? subleaves : 1); n++)
            cpuid_leaf(cpu, list, leaf, n, subleaves);
    }
    cpuid_leaf(cpu, list, 0x40000000, 0, false);
    x86_cpuid(cpu, 0x80000000, 0, max);
    for (uint32_t leaf = 0x80000000; leaf <= max[0] && leaf < 0x80000000 + MOST; leaf++)
        cpuid_leaf(cpu, list, leaf, 0, false);
    if (!ioctl(k->vcpu, KVM_SET_CPUID2, list))
        return true;
    kvm_warn("cannot set the guest's CPUID: %s", strerror(errno));
    return false;
}

/* --- MSRs, one by one: one that KVM refuses is told of once, and stays on our side */
_Static_assert(offsetof(struct kvm_msr_values, entry) == offsetof(struct kvm_msrs, entries), "as KVM has it");

static bool msr_set(struct kvm *k, uint32_t number, uint64_t value)
{
    struct kvm_msr_values one = {.count = 1, .entry[0] = {.index = number, .data = value}};
    return ioctl(k->vcpu, KVM_SET_MSRS, &one) == 1;
}

static bool msr_get(struct kvm *k, uint32_t number, uint64_t *value)
{
    struct kvm_msr_values one = {.count = 1, .entry[0] = {.index = number}};
    bool ok = ioctl(k->vcpu, KVM_GET_MSRS, &one) == 1;
    if (ok)
        *value = one.entry[0].data;
    return ok;
}

/* The rows that are not refused, in one list; `row` tells which. */
static void msr_rows(const struct kvm *k, struct kvm_msr_values *list, uint8_t *row)
{
    unsigned n = 0;
    for (unsigned i = 0; i < kvm_msr_count; i++)
        if (!k->msr_refused[i]) {
            row[n] = (uint8_t)i;
            list->entry[n++] = (struct kvm_msr_entry){.index = kvm_msrs[i].msr, .data = k->image.msr[i]};
        }
    list->count = n;
    list->pad = 0;
}

static void refuse(struct kvm *k, unsigned row, bool matters)
{
    k->msr_refused[row] = true;
    if (matters)
        kvm_warn("MSR 0x%x (%s) cannot be set to 0x%" PRIx64 " in the host's KVM: the guest's instructions do not see it there", kvm_msrs[row].msr,
                 kvm_msrs[row].name, k->image.msr[row]);
}

static void msrs_put(struct kvm *k)
{
    struct kvm_msr_values list;
    uint8_t row[KVM_MSRS];
    int done;
    while ((unsigned)(done = ioctl(k->vcpu, KVM_SET_MSRS, (msr_rows(k, &list, row), &list))) < list.count)
        refuse(k, row[done < 0 ? 0 : done], k->image.msr[row[done < 0 ? 0 : done]] != 0);
}

static void msrs_get(struct kvm *k, const struct x86_state *s)
{
    struct kvm_msr_values list;
    uint8_t row[KVM_MSRS];
    int done;
    while ((unsigned)(done = ioctl(k->vcpu, KVM_GET_MSRS, (msr_rows(k, &list, row), &list))) < list.count)
        refuse(k, row[done < 0 ? 0 : done], false);
    for (unsigned i = 0; i < kvm_msr_count; i++)
        memcpy(&k->image.msr[i], (const char *)s + kvm_msrs[i].offset, sizeof k->image.msr[i]);
    for (unsigned i = 0; i < list.count; i++)
        k->image.msr[row[i]] = list.entry[i].data;
}

/* --- Time.  Written as an offset where KVM takes one: a write to the TSC itself may be taken for an attempt to synchronise it. */
static void tsc_put(struct kvm *k, struct x86_cpu *cpu)
{
    uint64_t now = cpu->bus->tsc(cpu) + cpu->state.tsc_offset, offset = k->host.tsc_is_host ? 0 : now - host_tsc();
    struct kvm_device_attr attr = {.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&offset};
    if (k->has_tsc_offset && !ioctl(k->vcpu, KVM_SET_DEVICE_ATTR, &attr))
        return;
    k->has_tsc_offset = false;
    if (!msr_set(k, TSC, now))
        kvm_warn("the guest's TSC cannot be set to 0x%" PRIx64, now);
}

static void tsc_get(struct kvm *k, struct x86_cpu *cpu)
{
    uint64_t now;
    if (msr_get(k, TSC, &now))
        cpu->state.tsc_offset = now - cpu->bus->tsc(cpu);
}

/* --- Registers */
_Static_assert(offsetof(struct kvm_sregs, interrupt_bitmap) == offsetof(struct kvm_sregs2, flags), "the older form begins as the newer does");

bool kvm_sregs_put(struct kvm *k)
{
    if (k->has_sregs2)
        return !ioctl(k->vcpu, KVM_SET_SREGS2, &k->image.sregs);
    struct kvm_sregs old = {0};
    memcpy(&old, &k->image.sregs, offsetof(struct kvm_sregs, interrupt_bitmap));
    return !ioctl(k->vcpu, KVM_SET_SREGS, &old);
}

bool kvm_sregs_get(struct kvm *k)
{
    if (k->has_sregs2)
        return !ioctl(k->vcpu, KVM_GET_SREGS2, &k->image.sregs);
    struct kvm_sregs old;
    k->image.sregs.flags = 0;
    if (ioctl(k->vcpu, KVM_GET_SREGS, &old))
        return false;
    memcpy(&k->image.sregs, &old, offsetof(struct kvm_sregs, interrupt_bitmap));
    return true;
}

static bool put_fails(const char *what)
{
    kvm_warn("the guest's %s cannot be set: %s", what, strerror(errno));
    return false;
}

static bool registers_put(struct kvm *k)
{
    struct kvm_image *i = &k->image;
    if (k->has_xcrs && ioctl(k->vcpu, KVM_SET_XCRS, &i->xcrs) && i->xcrs.xcrs[0].value != 1)
        return put_fails("XCR0");
    if (!kvm_sregs_put(k))
        return put_fails("system registers");
    if (ioctl(k->vcpu, KVM_SET_REGS, &i->regs))
        return put_fails("registers");
    if (k->has_xsave ? ioctl(k->vcpu, KVM_SET_XSAVE, i->xsave) : ioctl(k->vcpu, KVM_SET_FPU, &i->fpu))
        return put_fails("FPU");
    if (k->has_debugregs && ioctl(k->vcpu, KVM_SET_DEBUGREGS, &i->debug))
        return put_fails("debug registers");
    msrs_put(k);
    if (ioctl(k->vcpu, KVM_SET_VCPU_EVENTS, &i->events))
        return put_fails("pending events");
    return true;
}

/* A structure that cannot be read stays as it was put. */
static void registers_get(struct kvm *k, const struct x86_state *s)
{
    struct kvm_image *i = &k->image;
    bool ok = kvm_sregs_get(k) && !ioctl(k->vcpu, KVM_GET_REGS, &i->regs);
    ok &= !(k->has_xsave ? ioctl(k->vcpu, KVM_GET_XSAVE, i->xsave) : ioctl(k->vcpu, KVM_GET_FPU, &i->fpu));
    ok &= !k->has_debugregs || !ioctl(k->vcpu, KVM_GET_DEBUGREGS, &i->debug);
    ok &= !ioctl(k->vcpu, KVM_GET_VCPU_EVENTS, &i->events);
    if (!k->has_xcrs || ioctl(k->vcpu, KVM_GET_XCRS, &i->xcrs))
        i->xcrs.nr_xcrs = 0;
    msrs_get(k, s);
    if (!ok)
        kvm_warn("the guest's state cannot be read: %s", strerror(errno));
}

static bool make_ready(struct kvm *k, struct x86_cpu *cpu)
{
    bool first = !k->cpu;
    k->cpu = cpu;
    return (!first || cpuid_set(k, cpu)) && kvm_memory_update(k);
}

bool kvm_put_registers(struct kvm *k, struct x86_cpu *cpu)
{
    if (!make_ready(k, cpu))
        return false;
    kvm_image_of(&cpu->state, &k->image);
    k->image.sregs.cr8 = k->cr8;
    k->image.sregs.apic_base = k->apic_base;
    k->run->cr8 = k->cr8;
    kvm_catch_put(k);
    return registers_put(k);
}

int kvm_get_registers(struct kvm *k, struct x86_state *s)
{
    registers_get(k, s);
    kvm_catch_got(k, s);
    return kvm_image_to(&k->image, k->has_xsave, s);
}

/* Its slots take KVM some milliseconds, which are not to be a handover's. */
static bool kvm_begin(void *accel, struct x86_cpu *cpu) { return make_ready(accel, cpu); }

static bool kvm_put(void *accel, struct x86_cpu *cpu)
{
    struct kvm *k = accel;
    if (!k->has_thread) {
        kvm_coalesced_begin(k);
        k->thread = pthread_self();
        __atomic_store_n(&k->has_thread, true, __ATOMIC_RELEASE);
    }
    k->cr8 = cpu->bus->tpr_read(cpu);
    k->apic_base = cpu->bus->apic_read(cpu, APIC_BASE);
    if (!kvm_put_registers(k, cpu))
        return false;
    cpu->state.nmi_pending = 0; /* KVM has it now */
    tsc_put(k, cpu);
    k->run->ready_for_interrupt_injection = 0; /* not known: the window is asked for */
    k->unfinished = k->not_run = false;
    return true;
}

/* --- Exits */
static void bus_port(void *ctx, bool write, uint16_t port, unsigned size, unsigned count, void *data)
{
    machine_port(((struct kvm *)ctx)->machine, write, port, size, count, data);
}

static void bus_device(void *ctx, bool write, uint64_t physical, unsigned size, void *data)
{
    struct kvm *k = ctx;
    machine_device(k->machine, write, physical, size, data);
    k->tpr_stale = true;
    kvm_pit_follow(k);
}

bool kvm_bus_msr(void *ctx, bool write, uint32_t msr, uint64_t *value)
{
    struct kvm *k = ctx;
    bool ok = write ? x86_msr_write(k->cpu, msr, *value) : x86_msr_read(k->cpu, msr, value);
    k->cpu->state.faulted = 0; /* KVM raises the #GP */
    return ok;
}

/* CR8 and the APIC's base are registers of the CPU that the local APIC has too. */
static void apic_follow(struct kvm *k)
{
    if (k->run->cr8 != k->cr8)
        k->cpu->bus->tpr_write(k->cpu, k->cr8 = (uint8_t)k->run->cr8);
    if (k->run->apic_base != k->apic_base)
        k->cpu->bus->apic_write(k->cpu, APIC_BASE, k->apic_base = k->run->apic_base);
}

static void say_failure(struct kvm *k, const char *text)
{
    struct kvm_regs regs = {0};
    ioctl(k->vcpu, KVM_GET_REGS, &regs);
    kvm_warn("the guest cannot go on at RIP 0x%llx: %s", (unsigned long long)regs.rip, text);
}

void kvm_say_once(struct kvm *k, const char *text)
{
    if (k->warned_not_emulated)
        return;
    k->warned_not_emulated = true;
    kvm_warn("the host's KVM cannot run an instruction, and the interpreter does, for this one and all others (--stats: accel_interpreted): %s", text);
}

static enum accel_left handle(struct kvm *k, const struct kvm_exit_bus *bus)
{
    char text[640];
    apic_follow(k);
    enum kvm_outcome outcome = kvm_exit_handle(k->run, (size_t)k->host.run_size, bus, text, sizeof text);
    k->unfinished = outcome == OUTCOME_UNFINISHED;
    switch (outcome) {
    case OUTCOME_DONE: case OUTCOME_UNFINISHED: return ACCEL_GO_ON;
    case OUTCOME_HALTED:
        k->cpu->state.halted = 1;
        k->cpu->state.eflags = k->run->if_flag ? k->cpu->state.eflags | X86_EFLAGS_IF : k->cpu->state.eflags & ~(uint32_t)X86_EFLAGS_IF;
        return ACCEL_HALTED;
    case OUTCOME_SHUTDOWN:
        if (!k->caught)
            return ACCEL_SHUTDOWN;
        k->not_run = true;
        return ACCEL_INTERPRET;
    case OUTCOME_BREAK: return ACCEL_BREAK;
    case OUTCOME_NOT_EMULATED:
        kvm_say_once(k, text);
        k->not_run = true;
        return ACCEL_INTERPRET;
    case OUTCOME_FAILED: break;
    }
    say_failure(k, text);
    return ACCEL_FAILED;
}

/* KVM_RUN, once.  False: nothing was done, for it was interrupted. */
static enum accel_left once(struct kvm *k)
{
    const struct kvm_exit_bus bus = {k, bus_port, bus_device, kvm_bus_msr};
    int failed = ioctl(k->vcpu, KVM_RUN, 0), error = errno;
    if (k->ring)
        kvm_coalesced_drain(k->ring, &bus);
    if (!failed)
        return handle(k, &bus);
    k->unfinished = false;
    if (error == EINTR || error == EAGAIN) {
        apic_follow(k);
        return ACCEL_KICKED;
    }
    kvm_warn("KVM_RUN: %s", strerror(error));
    return ACCEL_FAILED;
}

/* What an exit left to KVM of an instruction is done before the state is looked at. */
void kvm_finish(struct kvm *k)
{
    while (k->unfinished) {
        __atomic_store_n(&k->run->immediate_exit, 1, __ATOMIC_RELAXED);
        enum accel_left left = once(k);
        if (left != ACCEL_GO_ON && left != ACCEL_KICKED)
            return;
    }
}

static int kvm_get(void *accel, struct x86_cpu *cpu)
{
    struct kvm *k = accel;
    bool halted = cpu->state.halted, nmi = cpu->state.nmi_pending;
    kvm_finish(k);
    int vector = kvm_get_registers(k, &cpu->state);
    cpu->state.nmi_pending |= nmi;
    cpu->state.halted = halted || kvm_is_halted(k);
    if (k->not_run || k->caught)
        cpu->state.faulted = 0; /* KVM's answer to what it cannot emulate or deliver; the instruction runs again */
    kvm_syscall_complete(k, cpu);
    kvm_trap_undo(k, cpu);
    tsc_get(k, cpu);
    return vector;
}

static void kvm_look(void *accel, struct x86_state *s)
{
    struct kvm *k = accel;
    kvm_finish(k);
    kvm_get_registers(k, s);
    s->halted = kvm_is_halted(k);
}

static bool inject(struct kvm *k, struct x86_cpu *cpu)
{
    int vector = cpu->bus->interrupt_take(cpu);
    struct kvm_interrupt interrupt = {.irq = (uint32_t)vector};
    if (vector < 0)
        return false;
    if (ioctl(k->vcpu, KVM_INTERRUPT, &interrupt))
        kvm_warn("interrupt %d cannot be injected: %s", vector, strerror(errno));
    k->run->ready_for_interrupt_injection = 0;
    return true;
}

static enum accel_left kvm_run(void *accel, struct x86_cpu *cpu, unsigned wants)
{
    struct kvm *k = accel;
    if (machine_memory(k->machine)->generation != k->generation && !kvm_memory_update(k))
        return ACCEL_FAILED;
    if (!kvm_catch_again(k, &cpu->state)) {
        kvm_warn("the guest's IDT cannot be hidden: %s", strerror(errno));
        return ACCEL_FAILED;
    }
    if (wants & ACCEL_WANTS_NMI && k->catches)
        return ACCEL_DELIVER;
    if (wants & ACCEL_WANTS_NMI && __atomic_exchange_n(&cpu->state.nmi_pending, 0, __ATOMIC_SEQ_CST) && ioctl(k->vcpu, KVM_NMI, 0))
        kvm_warn("an NMI cannot be injected: %s", strerror(errno));
    if (wants & ACCEL_WANTS_INTERRUPT && k->run->ready_for_interrupt_injection) {
        if (k->catches)
            return ACCEL_DELIVER;
        if (inject(k, cpu))
            return ACCEL_GO_ON; /* there may be one more, for which the window is asked */
    }
    k->run->request_interrupt_window = wants & ACCEL_WANTS_INTERRUPT;
    if (k->tpr_stale) {
        k->tpr_stale = false;
        k->run->cr8 = k->cr8 = cpu->bus->tpr_read(cpu);
    }
    __atomic_store_n(&k->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&cpu->state.stop, __ATOMIC_SEQ_CST))
        return ACCEL_GO_ON; /* a kick after this finds immediate_exit, and sets it */
    return once(k);
}

static void kvm_kick(void *accel)
{
    struct kvm *k = accel;
    __atomic_store_n(&k->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&k->has_thread, __ATOMIC_ACQUIRE) && !pthread_equal(k->thread, pthread_self()))
        pthread_kill(k->thread, kick_signal());
}

/* By the debug registers, which are the guest's no more for that time. */
static void kvm_break_at(void *accel, const uint64_t *linear, unsigned count)
{
    struct kvm *k = accel;
    struct kvm_guest_debug debug = {.control = count ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP : 0, .arch.debugreg[7] = 0x400};
    for (unsigned i = 0; i < count; i++) {
        debug.arch.debugreg[i] = linear[i];
        debug.arch.debugreg[7] |= 2ull << 2 * i;
    }
    if (ioctl(k->vcpu, KVM_SET_GUEST_DEBUG, &debug))
        kvm_warn("the host's KVM takes no breakpoints, so no --switch-to=...@pc:... is noticed while it runs: %s", strerror(errno));
}

const struct accel_ops kvm_accel = {
    .name = "kvm", .new = kvm_new, .free = kvm_free, .tsc_khz = kvm_tsc_khz, .tsc_begin = kvm_tsc_begin, .begin = kvm_begin, .put = kvm_put, .can_run = kvm_can_run, .ram_changed = kvm_ram_changed, .get = kvm_get, .run = kvm_run, .kick = kvm_kick, .look = kvm_look, .controllers_put = kvm_controllers_put,
    .controllers_get = kvm_controllers_get,
    .break_at = kvm_break_at, .steps = kvm_steps, .dirty = kvm_dirty,
};
