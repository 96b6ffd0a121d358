/* Why KVM_RUN came back, and what is done about it.  Works on the page that KVM filled and on a bus alone, so that it is tested
 * with recorded pages.  The page is the kernel's, but what is in it is checked like any input before it is used. */
#include "kvm/internal.h"
#include <inttypes.h>
#include <string.h>

#define NAME(reason) [KVM_EXIT_##reason] = #reason
static const char *const names[] = {
    NAME(UNKNOWN), NAME(EXCEPTION), NAME(IO), NAME(HYPERCALL), NAME(DEBUG), NAME(HLT), NAME(MMIO), NAME(IRQ_WINDOW_OPEN), NAME(SHUTDOWN),
    NAME(FAIL_ENTRY), NAME(INTR), NAME(SET_TPR), NAME(TPR_ACCESS), NAME(NMI), NAME(INTERNAL_ERROR), NAME(OSI), NAME(WATCHDOG), NAME(EPR),
    NAME(SYSTEM_EVENT), NAME(IOAPIC_EOI), NAME(HYPERV), NAME(X86_RDMSR), NAME(X86_WRMSR), NAME(DIRTY_RING_FULL), NAME(X86_BUS_LOCK), NAME(XEN),
    NAME(AP_RESET_HOLD), NAME(NOTIFY),
};
const char *kvm_exit_name(unsigned reason) { return reason < sizeof names / sizeof *names ? names[reason] : NULL; }

static enum kvm_outcome failed(const struct kvm_run *r, char *text, size_t size, const char *more)
{
    const char *name = kvm_exit_name(r->exit_reason);
    if (name)
        snprintf(text, size, "KVM_EXIT_%s%s%s", name, *more ? ": " : "", more);
    else
        snprintf(text, size, "exit reason %u, which is not known%s%s", r->exit_reason, *more ? ": " : "", more);
    return OUTCOME_FAILED;
}

static enum kvm_outcome port_io(struct kvm_run *r, size_t run_size, const struct kvm_exit_bus *bus, char *text, size_t text_size)
{
    uint64_t size = r->io.size, bytes = size * r->io.count, at = r->io.data_offset;
    if ((size != 1 && size != 2 && size != 4) || at > run_size || bytes > run_size - at)
        return failed(r, text, text_size, "its size, count or data do not fit the page");
    bus->port(bus->ctx, r->io.direction == KVM_EXIT_IO_OUT, r->io.port, (unsigned)size, r->io.count, (char *)r + at);
    return OUTCOME_UNFINISHED;
}

static enum kvm_outcome mmio(struct kvm_run *r, const struct kvm_exit_bus *bus, char *text, size_t text_size)
{
    if (!r->mmio.len || r->mmio.len > sizeof r->mmio.data)
        return failed(r, text, text_size, "its length is not 1 to 8");
    bus->device(bus->ctx, r->mmio.is_write, r->mmio.phys_addr, r->mmio.len, r->mmio.data);
    return OUTCOME_UNFINISHED;
}

static enum kvm_outcome msr(struct kvm_run *r, const struct kvm_exit_bus *bus)
{
    uint64_t value = r->msr.data;
    r->msr.error = !bus->msr(bus->ctx, r->exit_reason == KVM_EXIT_X86_WRMSR, r->msr.index, &value);
    r->msr.data = value;
    return OUTCOME_UNFINISHED;
}

static const char *suberror(unsigned n)
{
    static const char *const words[] = {"no suberror", "an instruction could not be emulated", "two exceptions at the same time", "an exit while an event was delivered",
                                        "an exit that KVM did not expect"};
    return n < sizeof words / sizeof *words ? words[n] : "a suberror that is not known";
}

static enum kvm_outcome internal_error(struct kvm_run *r, char *text, size_t size)
{
    char more[512];
    unsigned count = r->internal.ndata, at = 0;
    if (count > sizeof r->internal.data / sizeof *r->internal.data)
        count = sizeof r->internal.data / sizeof *r->internal.data;
    at = (unsigned)snprintf(more, sizeof more, "suberror %u (%s)%s", r->internal.suberror, suberror(r->internal.suberror), count ? ", data" : ", no data");
    for (unsigned i = 0; i < count && at < sizeof more; i++)
        at += (unsigned)snprintf(more + at, sizeof more - at, " %" PRIx64, (uint64_t)r->internal.data[i]);
    failed(r, text, size, more);
    return r->internal.suberror == KVM_INTERNAL_ERROR_EMULATION ? OUTCOME_NOT_EMULATED : OUTCOME_FAILED;
}

static enum kvm_outcome system_event(struct kvm_run *r, char *text, size_t size)
{
    char more[64];
    switch (r->system_event.type) {
    case KVM_SYSTEM_EVENT_SHUTDOWN: case KVM_SYSTEM_EVENT_RESET: return OUTCOME_SHUTDOWN;
    case KVM_SYSTEM_EVENT_WAKEUP: return OUTCOME_DONE;
    default:
        snprintf(more, sizeof more, r->system_event.type == KVM_SYSTEM_EVENT_CRASH ? "the guest crashed" : "type %u", r->system_event.type);
        return failed(r, text, size, more);
    }
}

enum kvm_outcome kvm_exit_handle(struct kvm_run *r, size_t run_size, const struct kvm_exit_bus *bus, char *text, size_t size)
{
    char more[128];
    *text = 0;
    switch (r->exit_reason) {
    case KVM_EXIT_IO: return port_io(r, run_size, bus, text, size);
    case KVM_EXIT_MMIO: return mmio(r, bus, text, size);
    case KVM_EXIT_X86_RDMSR: case KVM_EXIT_X86_WRMSR: return msr(r, bus);
    case KVM_EXIT_HLT: return OUTCOME_HALTED;
    case KVM_EXIT_SHUTDOWN: return OUTCOME_SHUTDOWN;
    case KVM_EXIT_DEBUG: return OUTCOME_BREAK;
    case KVM_EXIT_INTR: case KVM_EXIT_IRQ_WINDOW_OPEN: case KVM_EXIT_NMI: case KVM_EXIT_SET_TPR: case KVM_EXIT_X86_BUS_LOCK: return OUTCOME_DONE;
    case KVM_EXIT_HYPERCALL:
        r->hypercall.ret = (uint64_t)-1000; /* -KVM_ENOSYS: CPUID offers none */
        return OUTCOME_UNFINISHED;
    case KVM_EXIT_INTERNAL_ERROR: return internal_error(r, text, size);
    case KVM_EXIT_SYSTEM_EVENT: return system_event(r, text, size);
    case KVM_EXIT_FAIL_ENTRY:
        snprintf(more, sizeof more, "the CPU refuses the guest's state, hardware reason 0x%" PRIx64, (uint64_t)r->fail_entry.hardware_entry_failure_reason);
        return failed(r, text, size, more);
    case KVM_EXIT_UNKNOWN:
        snprintf(more, sizeof more, "hardware reason 0x%" PRIx64, (uint64_t)r->hw.hardware_exit_reason);
        return failed(r, text, size, more);
    case KVM_EXIT_EXCEPTION:
        snprintf(more, sizeof more, "exception %u, error code 0x%x", r->ex.exception, r->ex.error_code);
        return failed(r, text, size, more);
    default: return failed(r, text, size, kvm_exit_name(r->exit_reason) ? "nothing asked for it" : "");
    }
}
