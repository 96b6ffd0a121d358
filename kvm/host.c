/* What the host has: /dev/kvm, its version, and which CPU features it lets a guest see. */
#define _GNU_SOURCE
#include "kvm/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DEVICE "/dev/kvm"

void kvm_warn(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fputs("tierce: kvm: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
}

static const char *remedy(int number)
{
    switch (number) {
    case ENOENT: case ENODEV: case ENXIO: return "the host's kernel has no KVM: load kvm_intel or kvm_amd, or turn virtualisation on in the firmware, or use another --tier";
    case EACCES: case EPERM: return "this user may not open it: join the group kvm (`usermod -aG kvm USER`), or use another --tier";
    default: return "use another --tier";
    }
}

static bool cpuid_get(struct kvm_host *h)
{
    for (unsigned room = 64; room <= 4096; room *= 2) {
        free(h->cpuid);
        h->cpuid = calloc(1, sizeof *h->cpuid + room * sizeof *h->cpuid->entries);
        if (!h->cpuid)
            return false;
        h->cpuid->nent = room;
        if (!ioctl(h->fd, KVM_GET_SUPPORTED_CPUID, h->cpuid))
            return true;
        if (errno != E2BIG)
            return false;
    }
    return false;
}

bool kvm_host_open(struct kvm_host *h, char *error, size_t size)
{
    static const struct { int number; const char *name; } needed[] = {
        {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"}, {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"}, {KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
        {KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"}};
    *h = (struct kvm_host){.fd = open(DEVICE, O_RDWR | O_CLOEXEC)};
    if (h->fd < 0) {
        snprintf(error, size, "KVM: cannot open " DEVICE ": %s; %s", strerror(errno), remedy(errno));
        return false;
    }
    int version = ioctl(h->fd, KVM_GET_API_VERSION, 0);
    h->run_size = ioctl(h->fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    const char *lacks = NULL;
    for (unsigned i = 0; i < sizeof needed / sizeof *needed && !lacks; i++)
        lacks = ioctl(h->fd, KVM_CHECK_EXTENSION, needed[i].number) > 0 ? NULL : needed[i].name;
    if (version != KVM_API_VERSION)
        snprintf(error, size, "KVM: " DEVICE " has API version %d; accepted: %d", version, KVM_API_VERSION);
    else if (h->run_size < (int)sizeof(struct kvm_run))
        snprintf(error, size, "KVM: " DEVICE " has a vCPU page of %d bytes; accepted: %zu or more", h->run_size, sizeof(struct kvm_run));
    else if (lacks)
        snprintf(error, size, "KVM: the host's KVM lacks %s; a newer kernel has it", lacks);
    else if (!cpuid_get(h))
        snprintf(error, size, "KVM: cannot ask which CPU features the host's KVM has: %s", strerror(errno));
    else
        return true;
    kvm_host_close(h);
    return false;
}

void kvm_host_close(struct kvm_host *h)
{
    if (h->fd >= 0)
        close(h->fd);
    free(h->cpuid);
    *h = (struct kvm_host){.fd = -1};
}

bool kvm_is_there(char *error, size_t size)
{
    struct kvm_host h;
    if (!kvm_host_open(&h, error, size))
        return false;
    int vm = ioctl(h.fd, KVM_CREATE_VM, 0);
    if (vm < 0)
        snprintf(error, size, "KVM: " DEVICE " makes no virtual machine: %s", strerror(errno));
    else
        close(vm);
    kvm_host_close(&h);
    return vm >= 0;
}

static uint32_t word(const struct kvm_host *h, uint32_t leaf, uint32_t subleaf, unsigned reg)
{
    for (unsigned i = 0; i < h->cpuid->nent; i++) {
        const struct kvm_cpuid_entry2 *e = &h->cpuid->entries[i];
        if (e->function == leaf && (e->index == subleaf || !(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX)))
            return (const uint32_t[]){e->eax, e->ebx, e->ecx, e->edx}[reg];
    }
    return 0;
}

/* A hypervisor is there whoever it is.  The local APIC is ours, and KVM has x2APIC and the TSC deadline for its own alone. */
bool kvm_host_has(void *host, uint32_t leaf, uint32_t subleaf, unsigned reg, unsigned bit)
{
    enum { ECX = 2, EDX = 3, X2APIC = 21, DEADLINE = 24, HYPERVISOR = 31, APIC = 9, CX16 = 13 };
    const struct kvm_host *h = host;
    if (leaf == 1 && reg == ECX && (bit == X2APIC || bit == DEADLINE))
        return false;
    if (leaf == 1 && ((reg == ECX && bit == HYPERVISOR) || (reg == EDX && bit == APIC)))
        return true;
    if (leaf == 1 && reg == ECX && bit == CX16 && h->lacks_cx16)
        return false;
    return word(h, leaf, subleaf, reg) >> bit & 1;
}
