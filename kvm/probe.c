/* Does the host's KVM run an instruction that its CPUID says it has?  Tried in a virtual machine of two MiB, in long mode and ring 0, where a KVM without
 * hardware below it uses its emulator. */
#define _GNU_SOURCE
#include "kvm/internal.h"
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MEMORY = 1 << 21, TABLES = 0x1000 /* three pages: PML4, PDPT, PD */, CODE = 0x8000, DATA = 0x9000, PRESENT = 3, LARGE = 0x80, HLT = 0xf4 };
enum { ATTEMPTS = 8 };

static void page_tables(uint8_t *memory)
{
    const uint64_t entries[3] = {(TABLES + 0x1000) | PRESENT, (TABLES + 0x2000) | PRESENT, PRESENT | LARGE};
    for (unsigned i = 0; i < 3; i++)
        memcpy(memory + TABLES + 0x1000 * i, &entries[i], sizeof entries[i]);
}

static bool long_mode(int vcpu)
{
    const struct kvm_segment data = {.limit = 0xffffffff, .selector = 0x18, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
    struct kvm_segment code = data;
    struct kvm_sregs s;
    if (ioctl(vcpu, KVM_GET_SREGS, &s))
        return false;
    code.selector = 0x10;
    code.type = 11;
    code.db = 0;
    code.l = 1;
    s.cs = code;
    s.ds = s.es = s.fs = s.gs = s.ss = data;
    s.cr0 = X86_CR0_PE | X86_CR0_NE | X86_CR0_ET | X86_CR0_PG;
    s.cr3 = TABLES;
    s.cr4 = X86_CR4_PAE | X86_CR4_OSFXSR;
    s.efer = X86_EFER_LME | X86_EFER_LMA;
    struct kvm_regs r = {.rip = CODE, .rsi = DATA, .rsp = DATA, .rflags = 2};
    return !ioctl(vcpu, KVM_SET_SREGS, &s) && !ioctl(vcpu, KVM_SET_REGS, &r);
}

static bool runs(int vcpu, struct kvm_run *run)
{
    for (unsigned i = 0; i < ATTEMPTS; i++)
        if (!ioctl(vcpu, KVM_RUN, 0) && run->exit_reason != KVM_EXIT_INTR)
            return run->exit_reason == KVM_EXIT_HLT; /* else it was a triple fault, or an error */
    return false;
}

static bool try(struct kvm_host *h, int vm, uint8_t *memory, const void *code, size_t size)
{
    struct kvm_userspace_memory_region region = {.memory_size = MEMORY, .userspace_addr = (uintptr_t)memory};
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    struct kvm_run *run = vcpu < 0 ? MAP_FAILED : mmap(NULL, (size_t)h->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    page_tables(memory);
    memcpy(memory + CODE, code, size);
    memory[CODE + size] = HLT;
    bool ok = run != MAP_FAILED && !ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) && !ioctl(vcpu, KVM_SET_CPUID2, h->cpuid) && long_mode(vcpu) && runs(vcpu, run);
    if (run != MAP_FAILED)
        munmap(run, (size_t)h->run_size);
    if (vcpu >= 0)
        close(vcpu);
    return ok;
}

bool kvm_probe(struct kvm_host *h, const void *code, size_t size)
{
    int vm = ioctl(h->fd, KVM_CREATE_VM, 0);
    uint8_t *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    unsigned long tss = 0xfffbd000ul;
    bool ok = vm >= 0 && memory != MAP_FAILED && (ioctl(h->fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_TSS_ADDR) <= 0 || !ioctl(vm, KVM_SET_TSS_ADDR, tss)) &&
              try(h, vm, memory, code, size);
    if (memory != MAP_FAILED)
        munmap(memory, MEMORY);
    if (vm >= 0)
        close(vm);
    return ok;
}
