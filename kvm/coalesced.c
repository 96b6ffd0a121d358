/* Coalesced port writes: what KVM puts into a ring instead of leaving the guest for each, and the machine hears of at the next exit.  Right for ports alone
 * whose writes nothing here acts upon: a device's must come when they are made, before the guest halts, reads or waits for an interrupt. */
#include "kvm/internal.h"
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

enum { PAGE_BYTES = 4096 };

static bool is_waited_for(const struct machine_config *c, uint16_t port)
{
    for (unsigned n = 0; n < c->handover_count; n++)
        if (c->handovers[n].kind == HANDOVER_PORT && c->handovers[n].at == port)
            return true;
    return false;
}

/* Firmware's progress and Linux's delays are written there: a 32-bit boot does it 29,000 times. */
void kvm_coalesced_begin(struct kvm *k)
{
    static const uint16_t idle[] = {0x80, 0xed};
    int page = ioctl(k->vm, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO);
    if (page <= 0 || (page + 1) * PAGE_BYTES > k->host.run_size || ioctl(k->vm, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_PIO) <= 0)
        return; /* each is an exit, then */
    k->ring = (void *)((char *)k->run + page * PAGE_BYTES);
    for (unsigned n = 0; n < sizeof idle / sizeof *idle; n++) {
        struct kvm_coalesced_mmio_zone zone = {.addr = idle[n], .size = 1, .pio = 1};
        bool may = !space_find(machine_io(k->machine), idle[n]) && !is_waited_for(machine_config(k->machine), idle[n]);
        if (may && ioctl(k->vm, KVM_REGISTER_COALESCED_MMIO, &zone))
            kvm_warn("writes of port 0x%x cannot be coalesced: %s", idle[n], strerror(errno));
    }
}

/* The ring is the kernel's, but what is in it is checked like any input. */
void kvm_coalesced_drain(struct kvm_coalesced_mmio_ring *ring, const struct kvm_exit_bus *bus)
{
    enum { ENTRIES = (PAGE_BYTES - sizeof *ring) / sizeof *ring->coalesced_mmio };
    uint32_t last = __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE);
    for (unsigned n = 0; n < ENTRIES && ring->first != last && ring->first < ENTRIES; n++) {
        struct kvm_coalesced_mmio *e = &ring->coalesced_mmio[ring->first];
        if (e->pio && (e->len == 1 || e->len == 2 || e->len == 4) && e->phys_addr <= 0xffff)
            bus->port(bus->ctx, true, (uint16_t)e->phys_addr, e->len, 1, e->data);
        __atomic_store_n(&ring->first, (ring->first + 1) % ENTRIES, __ATOMIC_RELEASE);
    }
}
