/* Memory slots: RAM and ROM of the machine's map as KVM sees them.  All else has no slot, so that an access to it exits. */
#include "kvm/internal.h"
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#define FORGET_ADDRESS 0xfffbb000ull /* where no guest of ours has anything */
#define PAGE 4096ull
static uint64_t page_up(uint64_t a) { return (a + PAGE - 1) & ~(PAGE - 1); }
static uint64_t page_down(uint64_t a) { return a & ~(PAGE - 1); }

/* Where the next region on top of `at` begins or ends, at most `end`. */
static uint64_t next_edge(const struct address_space *s, uint64_t at, uint64_t end)
{
    for (const struct region *r = s->regions; r; r = r->next) {
        uint64_t last = r->base + r->size;
        if (r->base > at && r->base < end)
            end = r->base;
        if (last > at && last < end)
            end = last;
    }
    return end;
}

static bool joins(const struct kvm_slot *a, const struct kvm_slot *b)
{
    return a->base + a->size == b->base && a->host + a->size == b->host && a->read_only == b->read_only;
}

unsigned kvm_slots_of(const struct address_space *s, struct kvm_slot *to, unsigned most)
{
    unsigned count = 0;
    for (uint64_t at = 0, end; at != UINT64_MAX; at = end) {
        end = next_edge(s, at, UINT64_MAX);
        const struct region *r = space_find(s, at);
        uint64_t base = page_up(at), last = page_down(end);
        if (!r || r->kind == REGION_DEVICE || base >= last)
            continue;
        struct kvm_slot slot = {base, last - base, r->host + (base - r->base), r->kind == REGION_ROM};
        if (count && count <= most && joins(&to[count - 1], &slot)) {
            to[count - 1].size += slot.size;
            continue;
        }
        if (count < most)
            to[count] = slot;
        count++;
    }
    return count;
}

static bool set(struct kvm *k, unsigned number, const struct kvm_slot *slot)
{
    struct kvm_userspace_memory_region r = {.slot = number};
    if (slot)
        r = (struct kvm_userspace_memory_region){.slot = number, .flags = slot->read_only ? (k->has_readonly ? KVM_MEM_READONLY : 0) : k->logs_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0,
            .guest_phys_addr = slot->base, .memory_size = slot->size, .userspace_addr = (uintptr_t)slot->host};
    if (!ioctl(k->vm, KVM_SET_USER_MEMORY_REGION, &r))
        return true;
    kvm_warn("memory slot %u, %llu KiB at 0x%llx: %s", number, (unsigned long long)r.memory_size >> 10, (unsigned long long)r.guest_phys_addr, strerror(errno));
    return false;
}

bool kvm_memory_update(struct kvm *k)
{
    const struct address_space *space = machine_memory(k->machine);
    struct kvm_slot slots[KVM_SLOTS];
    if (k->mapped && space->generation == k->generation)
        return true;
    unsigned count = kvm_slots_of(space, slots, KVM_SLOTS);
    if (count > KVM_SLOTS) {
        kvm_warn("the memory map has %u pieces of RAM and ROM, more than %u", count, (unsigned)KVM_SLOTS);
        return false;
    }
    bool same = k->mapped && count == k->slot_count && !memcmp(slots, k->slots, count * sizeof *slots), ok = true;
    for (unsigned i = 0; !same && i < k->slot_count; i++)
        ok &= set(k, i, NULL);
    for (unsigned i = 0; !same && ok && i < count; i++)
        ok &= set(k, i, &slots[i]);
    memcpy(k->slots, slots, count * sizeof *slots);
    k->slot_count = count;
    k->generation = space->generation;
    k->mapped = ok;
    return ok;
}

/* By a change of CR4, as the guest's own would do it (SDM 3A 4.10.4.1).  Not by KVM_SET_SREGS, which reads PDPTEs anew. */
static void tlb_flush(struct kvm *k)
{
    bool ok = kvm_sregs_get(k);
    for (unsigned i = 0; i < 2 && ok; i++) {
        k->image.sregs.cr4 ^= X86_CR4_PGE;
        ok = kvm_sregs_put(k);
    }
    if (!ok)
        kvm_warn("the guest's TLB cannot be emptied: %s", strerror(errno));
}

/* The guest's tables may have changed without KVM: by a tier, the interpreter, a debugger, a restored state.  The guest's TLB is emptied for that.  A KVM without EPT
 * or NPT has tables of its own besides, and traps the guest's writes where it has made one of the guest's, but misses ours: all that it made is to go, which it
 * does when a slot goes. */
void kvm_ram_changed(void *accel)
{
    struct kvm *k = accel;
    const struct kvm_slot any = {FORGET_ADDRESS, PAGE, k->slots[0].host, false};
    if (!k->host.shadows_tables)
        tlb_flush(k);
    else if (k->slot_count && set(k, KVM_SLOTS, &any))
        set(k, KVM_SLOTS, NULL);
}
