/* --check=kvm: instructions one by one, by KVM's single-step, for comparison with a tier.  Exits are answered from the log. */
#define _GNU_SOURCE
#include "kvm/internal.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

/* A string instruction with a REP prefix is one instruction to the tiers, and traps after each round. */
static bool is_repeated(struct kvm *k, uint64_t linear)
{
    uint8_t bytes[15] = {0};
    bool prefix = false;
    for (unsigned i = 0; i < sizeof bytes && machine_debug_read(k->machine, linear + i, false, &bytes[i], 1); i++)
        switch (bytes[i]) {
        case 0xf2: case 0xf3: prefix = true; break;
        case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65: case 0x66: case 0x67: break;
        case 0x6c: case 0x6d: case 0x6e: case 0x6f: case 0xa4: case 0xa5: case 0xa6: case 0xa7: case 0xaa: case 0xab: case 0xac: case 0xad: case 0xae:
        case 0xaf: return prefix;
        default:
            if ((bytes[i] & 0xf0) != 0x40) /* REX */
                return false;
        }
    return false;
}

void kvm_check_port(void *ctx, bool write, uint16_t port, unsigned size, unsigned count, void *data)
{
    machine_check_port(((struct kvm *)ctx)->machine, write, port, size, count, data);
}

void kvm_check_device(void *ctx, bool write, uint64_t physical, unsigned size, void *data)
{
    machine_check_device(((struct kvm *)ctx)->machine, write, physical, size, data);
}

enum stepped { STEPPED, HALTED, REFUSED };

static uint64_t pc(struct kvm *k, uint64_t *linear)
{
    struct kvm_regs regs = {0};
    struct kvm_sregs sregs = {0};
    ioctl(k->vcpu, KVM_GET_REGS, &regs);
    ioctl(k->vcpu, KVM_GET_SREGS, &sregs);
    *linear = sregs.cs.l ? regs.rip : (uint32_t)(sregs.cs.base + regs.rip);
    return regs.rip;
}

/* Until the single-step's own exit.  An instruction that exits for the machine may be completed without one: then RIP tells. */
static enum stepped one(struct kvm *k, uint64_t at)
{
    const struct kvm_exit_bus bus = {k, kvm_check_port, kvm_check_device, kvm_bus_msr};
    char text[640];
    uint64_t linear;
    for (k->run->immediate_exit = 0; ; ) {
        if (ioctl(k->vcpu, KVM_RUN, 0)) {
            if (errno != EINTR && errno != EAGAIN) {
                kvm_warn("--check: KVM_RUN: %s", strerror(errno));
                return REFUSED;
            }
            if (k->unfinished && pc(k, &linear) != at)
                return STEPPED;
            k->run->immediate_exit = 0; /* it was a kick */
            k->unfinished = false;
            continue;
        }
        switch (kvm_exit_handle(k->run, (size_t)k->host.run_size, &bus, text, sizeof text)) {
        case OUTCOME_BREAK: return STEPPED;
        case OUTCOME_HALTED: return HALTED;
        case OUTCOME_DONE: break;
        case OUTCOME_UNFINISHED:
            k->unfinished = true;
            k->run->immediate_exit = 1;
            break;
        case OUTCOME_SHUTDOWN:
            if (k->caught)
                return REFUSED;
            kvm_warn("--check: a triple fault in KVM");
            return REFUSED;
        case OUTCOME_NOT_EMULATED: case OUTCOME_FAILED:
            kvm_say_once(k, text);
            return REFUSED;
        }
    }
}

static enum stepped instruction(struct kvm *k, uint64_t at, uint64_t linear, uint64_t *next, uint64_t *next_linear)
{
    enum stepped how;
    do {
        k->unfinished = false;
        how = one(k, at);
        *next = pc(k, next_linear);
    } while (how == STEPPED && *next == at && is_repeated(k, linear));
    return how;
}

static bool single_step(struct kvm *k, bool on)
{
    struct kvm_guest_debug debug = {.control = on ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP : 0};
    return !ioctl(k->vcpu, KVM_SET_GUEST_DEBUG, &debug);
}

static bool both_null(const struct x86_state *a, const struct x86_state *b, unsigned seg)
{
    return !(a->seg_sel[seg] & ~3u) && a->seg_sel[seg] == b->seg_sel[seg] && b->seg_attr[seg] & X86_ATTR_NULL && a->seg_base[seg] == b->seg_base[seg];
}

/* Where both say the same in KVM's terms, they are the same; shadows, and what is in a null segment, are told of differently. */
static void level(struct kvm *k, struct x86_state *s, const struct x86_state *wanted)
{
    struct x86_state there = *wanted;
    kvm_image_of(wanted, &k->image);
    kvm_image_to(&k->image, true, &there);
#define FIELD(ctype, name, dims, ir_type, state_class, hot, reset) if (!memcmp(&s->name, &there.name, sizeof s->name)) memcpy(&s->name, &wanted->name, sizeof s->name);
#include "frontend/state.def"
    for (unsigned i = 0; i < 6; i++)
        if (both_null(s, wanted, i)) {
            s->seg_attr[i] = wanted->seg_attr[i];
            s->seg_limit[i] = wanted->seg_limit[i];
        }
    if (!(s->ldtr_sel & ~3u) && s->ldtr_sel == wanted->ldtr_sel && s->ldtr_base == wanted->ldtr_base) {
        s->ldtr_attr = wanted->ldtr_attr;
        s->ldtr_limit = wanted->ldtr_limit;
    }
    s->shadow = wanted->shadow;
    s->sti = wanted->sti;
    s->sti_pc = wanted->sti_pc;
    s->faulted = 0; /* a pending one is not KVM's business: the interpreter runs it */
}

bool kvm_steps(void *accel, struct x86_cpu *cpu, int64_t insns, const struct x86_state *wanted)
{
    struct kvm *k = accel;
    enum stepped how = STEPPED;
    uint64_t at, linear, next, next_linear;
    k->logs_dirty = true;
    if (!kvm_put_registers(k, cpu) || !single_step(k, true))
        return false;
    kvm_ram_changed(k);
    at = pc(k, &linear);
    for (; insns && how == STEPPED; insns--, at = next, linear = next_linear)
        how = instruction(k, at, linear, &next, &next_linear);
    single_step(k, false);
    if (how == REFUSED)
        return false;
    uint8_t halted = how == HALTED;
    struct x86_state s = *wanted;
    kvm_get_registers(k, &s);
    s.halted = halted;
    level(k, &s, wanted);
    cpu->state = s;
    return true;
}

void kvm_dirty(void *accel, void (*each)(void *, uint64_t), void *ctx)
{
    struct kvm *k = accel;
    const uint8_t *ram = machine_ram(k->machine);
    for (unsigned i = 0; i < k->slot_count; i++) {
        const struct kvm_slot *slot = &k->slots[i];
        uint64_t pages = slot->size >> 12;
        struct kvm_dirty_log log = {.slot = i, .dirty_bitmap = calloc((pages + 63) / 64, 8)};
        if (log.dirty_bitmap && !slot->read_only && !ioctl(k->vm, KVM_GET_DIRTY_LOG, &log))
            for (uint64_t page = 0; page < pages; page++)
                if (((const uint64_t *)log.dirty_bitmap)[page / 64] >> page % 64 & 1)
                    each(ctx, (uint64_t)(slot->host - ram) + (page << 12));
        free(log.dirty_bitmap);
    }
}
