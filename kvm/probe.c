/* What the host's KVM does with a few instructions, whatever its CPUID says.  Tried in a virtual machine of two MiB in long mode: in ring 0, where a KVM
 * without hardware below it uses its emulator, or in ring 3, where that runs the host's CPU. */
#define _GNU_SOURCE
#include "kvm/internal.h"
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* RAM is there twice: for ring 0 at address 0, for ring 3 at USER. */
enum { MEMORY = 1 << 21, USER = MEMORY, TABLES = 0x1000 /* three pages: PML4, PDPT, PD */, CODE = 0x8000, DATA = 0x9000, ENTRY = 0xa000, PRESENT = 3, RING3 = 4, LARGE = 0x80 };
enum { ATTEMPTS = 8, HLT = 0xf4, TSC = 0x10, STAR = 0xc0000081, LSTAR = 0xc0000082 };
#define FAR_TSC (1ull << 50) /* weeks of any host's time */

struct trial { struct kvm_host *host; int vm, vcpu; struct kvm_run *run; uint8_t *memory; };
enum trial_end { TRIAL_NONE /* not made, or an error of KVM's */, TRIAL_HALTED, TRIAL_SHUT_DOWN /* by an exception, for there is no IDT */ };

static void page_tables(uint8_t *memory)
{
    const uint64_t entries[4] = {(TABLES + 0x1000) | PRESENT | RING3, (TABLES + 0x2000) | PRESENT | RING3, PRESENT | LARGE, PRESENT | RING3 | LARGE};
    for (unsigned i = 0; i < 3; i++)
        memcpy(memory + TABLES + 0x1000 * i, &entries[i], sizeof entries[i]);
    memcpy(memory + TABLES + 0x2000 + 8, &entries[3], sizeof entries[3]);
}

static bool long_mode(int vcpu, bool user, uint64_t cr4)
{
    const struct kvm_segment data = {.limit = 0xffffffff, .selector = user ? 0x2b : 0x18, .type = 3, .present = 1, .dpl = user ? 3 : 0, .db = 1, .s = 1, .g = 1};
    struct kvm_segment code = data;
    struct kvm_sregs s;
    if (ioctl(vcpu, KVM_GET_SREGS, &s))
        return false;
    code.selector = user ? 0x33 : 0x10;
    code.type = 11;
    code.db = 0;
    code.l = 1;
    s.cs = code;
    s.ds = s.es = s.fs = s.gs = s.ss = data;
    s.cr0 = X86_CR0_PE | X86_CR0_NE | X86_CR0_ET | X86_CR0_PG;
    s.cr3 = TABLES;
    s.cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | cr4;
    s.efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE;
    uint64_t base = user ? USER : 0;
    struct kvm_regs r = {.rip = base + CODE, .rsi = base + DATA, .rsp = base + DATA, .rflags = 2};
    return !ioctl(vcpu, KVM_SET_SREGS, &s) && !ioctl(vcpu, KVM_SET_REGS, &r);
}

static void end(struct trial *t)
{
    if (t->run && t->run != MAP_FAILED)
        munmap(t->run, (size_t)t->host->run_size);
    if (t->vcpu >= 0)
        close(t->vcpu);
    if (t->memory != MAP_FAILED)
        munmap(t->memory, MEMORY);
    if (t->vm >= 0)
        close(t->vm);
}

/* Ends by HLT, or in ring 3 by the exception that HLT is there. */
static bool begin(struct trial *t, struct kvm_host *h, bool user, const void *code, size_t size)
{
    *t = (struct trial){h, ioctl(h->fd, KVM_CREATE_VM, 0), -1, NULL, mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)};
    struct kvm_userspace_memory_region region = {.memory_size = MEMORY, .userspace_addr = (uintptr_t)t->memory};
    unsigned long tss = 0xfffbd000ul;
    if (t->vm < 0 || t->memory == MAP_FAILED || (ioctl(h->fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_TSS_ADDR) > 0 && ioctl(t->vm, KVM_SET_TSS_ADDR, tss)))
        return false;
    if ((t->vcpu = ioctl(t->vm, KVM_CREATE_VCPU, 0)) < 0)
        return false;
    t->run = mmap(NULL, (size_t)h->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, t->vcpu, 0);
    page_tables(t->memory);
    memcpy(t->memory + CODE, code, size);
    t->memory[CODE + size] = HLT;
    return t->run != MAP_FAILED && !ioctl(t->vm, KVM_SET_USER_MEMORY_REGION, &region) && !ioctl(t->vcpu, KVM_SET_CPUID2, h->cpuid) && long_mode(t->vcpu, user, 0);
}

static enum trial_end go(struct trial *t)
{
    for (unsigned i = 0; i < ATTEMPTS; i++)
        if (!ioctl(t->vcpu, KVM_RUN, 0) && t->run->exit_reason != KVM_EXIT_INTR)
            return t->run->exit_reason == KVM_EXIT_HLT ? TRIAL_HALTED : t->run->exit_reason == KVM_EXIT_SHUTDOWN ? TRIAL_SHUT_DOWN : TRIAL_NONE;
    return TRIAL_NONE;
}

static bool msr(struct trial *t, uint32_t number, uint64_t value)
{
    struct kvm_msr_values one = {.count = 1, .entry[0] = {.index = number, .data = value}};
    return ioctl(t->vcpu, KVM_SET_MSRS, &one) == 1;
}

bool kvm_probe(struct kvm_host *h, const void *code, size_t size)
{
    struct trial t;
    bool runs = begin(&t, h, false, code, size) && go(&t) == TRIAL_HALTED;
    end(&t);
    return runs;
}

bool kvm_syscall_stays(struct kvm_host *h)
{
    static const uint8_t syscall[] = {0x0f, 0x05};
    struct trial t;
    bool stays = begin(&t, h, true, syscall, sizeof syscall) && msr(&t, STAR, 0x10ull << 32) && msr(&t, LSTAR, ENTRY);
    if (stays) {
        t.memory[ENTRY] = HLT;
        stays = go(&t) == TRIAL_SHUT_DOWN;
    }
    end(&t);
    return stays;
}

bool kvm_long_paging_only(struct kvm_host *h)
{
    static const uint8_t nothing[] = {0x90};
    struct trial t;
    struct kvm_sregs s;
    bool dropped = begin(&t, h, false, nothing, sizeof nothing) && !ioctl(t.vcpu, KVM_GET_SREGS, &s);
    if (dropped) {
        s.cs.l = 0;
        s.cs.db = 1;
        s.efer = 0;
        dropped = ioctl(t.vcpu, KVM_SET_SREGS, &s) || (!ioctl(t.vcpu, KVM_GET_SREGS, &s) && !(s.cr0 & X86_CR0_PG));
    }
    end(&t);
    return dropped;
}

/* What ring 3 reads at an address, once its page table, which is changed from outside, leads to one page and then to the other. */
bool kvm_shadows_tables(struct kvm_host *h)
{
    enum { AT = 2 * USER, TABLE = 0x20000, PAGES = 0x21000, ROUNDS = 2 };
    static const uint8_t load[] = {0x8b, 0x04, 0x25, 0x00, 0x00, 0x40, 0x00}; /* mov eax, [AT] */
    _Static_assert(AT == 0x400000, "as in the instruction");
    const uint64_t to_table = TABLE | PRESENT | RING3;
    struct kvm_regs r[ROUNDS];
    struct trial t;
    bool ok = begin(&t, h, true, load, sizeof load);
    if (ok)
        memcpy(t.memory + TABLES + 0x2000 + 16, &to_table, sizeof to_table);
    for (unsigned i = 0; i < ROUNDS && ok; i++) {
        const uint64_t to_page = (PAGES + 0x1000 * i) | PRESENT | RING3;
        memcpy(t.memory + TABLE, &to_page, sizeof to_page);
        t.memory[PAGES + 0x1000 * i] = (uint8_t)(i + 1);
        ok = long_mode(t.vcpu, true, i ? X86_CR4_PGE : 0) /* which empties the TLB */ && go(&t) == TRIAL_SHUT_DOWN && !ioctl(t.vcpu, KVM_GET_REGS, &r[i]);
    }
    end(&t);
    return ok && r[1].rax == r[0].rax;
}

uint32_t kvm_cpuid_adds(struct kvm_host *h)
{
    static const uint8_t cpuid[] = {0xb8, 0x01, 0x00, 0x00, 0x00, 0x0f, 0xa2, 0x89, 0x0e}; /* mov eax, 1; cpuid; mov [rsi], ecx */
    size_t size = sizeof *h->cpuid + h->cpuid->nent * sizeof *h->cpuid->entries;
    struct kvm_cpuid2 *none = malloc(size);
    struct trial t;
    uint32_t added = 0;
    bool ok = begin(&t, h, false, cpuid, sizeof cpuid) && none;
    if (ok) {
        memcpy(none, h->cpuid, size);
        for (uint32_t i = 0; i < none->nent; i++)
            none->entries[i].ecx = none->entries[i].function == 1 ? 0 : none->entries[i].ecx;
        ok = !ioctl(t.vcpu, KVM_SET_CPUID2, none) && go(&t) == TRIAL_HALTED;
    }
    if (ok)
        memcpy(&added, t.memory + DATA, sizeof added);
    free(none);
    end(&t);
    return added;
}

/* FAR_TSC is put between the host's TSC and the guest's, which then reads the one or the other. */
bool kvm_tsc_is_host(struct kvm_host *h)
{
    static const uint8_t rdtsc[] = {0x0f, 0x31, 0x89, 0x06, 0x89, 0x56, 0x04}; /* rdtsc; mov [rsi], eax; mov [rsi + 4], edx */
    struct trial t;
    uint64_t offset = FAR_TSC, read = FAR_TSC;
    struct kvm_device_attr attr = {.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&offset};
    if (begin(&t, h, true, rdtsc, sizeof rdtsc) && (!ioctl(t.vcpu, KVM_SET_DEVICE_ATTR, &attr) || msr(&t, TSC, FAR_TSC)) && go(&t) == TRIAL_SHUT_DOWN)
        memcpy(&read, t.memory + DATA, sizeof read);
    end(&t);
    return read && read < FAR_TSC;
}
