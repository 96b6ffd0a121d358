/* The interrupt controllers and the PIT of the host's KVM in place of the machine's: 8259s, I/O APIC, local APIC and 8254, whose registers go there and come
 * back with the guest.  The conversions are pure functions.  The RTC and the HPET stay the machine's; their lines go to KVM. */
#include "kvm/internal.h"
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

enum { CASCADE = 1 << 2, LEVEL = 1 << 15, DELIVERY_STATUS = 1 << 12, PIN_MASK = 0xffffff };
#define IOAPIC_ADDRESS 0xfec00000u

/* --- The 8259s.  KVM's IRR has what waits by level too, and the slave's cascade, which the machine's derives. */
void kvm_pic_of(const struct pic_registers *from, unsigned chip, struct kvm_pic_state *to)
{
    const struct pic_chip_registers *c = &from->chip[chip];
    uint8_t cascade = chip ? 0 : CASCADE;
    *to = (struct kvm_pic_state){
        .last_irr = c->lines, .irr = (uint8_t)((c->irr | (c->lines & c->elcr)) & ~cascade), .imr = c->imr, .isr = c->isr, .priority_add = (c->lowest + 1) & 7,
        .irq_base = c->base, .read_reg_select = c->read_isr, .poll = c->poll, .special_mask = c->special_mask, .init_state = (uint8_t)(c->icw ? c->icw - 1 : 0),
        .auto_eoi = c->auto_eoi, .rotate_on_auto_eoi = c->rotate_auto, .special_fully_nested_mode = c->special_nested, .init4 = c->needs_icw4, .elcr = c->elcr,
        .elcr_mask = chip ? 0xde : 0xf8};
}

void kvm_pic_to(const struct kvm_pic_state *from, unsigned chip, struct pic_registers *to)
{
    uint8_t cascade = chip ? 0 : CASCADE;
    to->chip[chip] = (struct pic_chip_registers){
        .irr = (uint8_t)(from->irr & ~from->elcr & ~cascade), .isr = from->isr, .imr = from->imr, .lines = from->last_irr, .elcr = from->elcr, .base = from->irq_base & 0xf8,
        .icw = (uint8_t)(from->init_state ? (from->init_state & 3) + 1 : 0), .lowest = (from->priority_add - 1) & 7, .needs_icw4 = from->init4, .auto_eoi = from->auto_eoi,
        .rotate_auto = from->rotate_on_auto_eoi, .special_mask = from->special_mask, .special_nested = from->special_fully_nested_mode,
        .read_isr = from->read_reg_select, .poll = from->poll};
}

/* --- The I/O APIC.  KVM delivers what is in its IRR when it is set: an edge that was delivered already must not be. */
void kvm_ioapic_of(const struct ioapic_registers *from, struct kvm_ioapic_state *to)
{
    *to = (struct kvm_ioapic_state){.base_address = IOAPIC_ADDRESS, .ioregsel = from->select, .id = from->id};
    for (unsigned pin = 0; pin < KVM_IOAPIC_NUM_PINS; pin++) {
        to->redirtbl[pin].bits = from->entry[pin];
        if (from->entry[pin] & LEVEL)
            to->irr |= from->lines & 1u << pin;
    }
}

void kvm_ioapic_to(const struct kvm_ioapic_state *from, struct ioapic_registers *to)
{
    *to = (struct ioapic_registers){.select = (uint8_t)from->ioregsel, .id = from->id & 15, .lines = from->irr & PIN_MASK};
    for (unsigned pin = 0; pin < KVM_IOAPIC_NUM_PINS; pin++)
        to->entry[pin] = from->redirtbl[pin].bits & ~(uint64_t)DELIVERY_STATUS;
}

/* --- The local APIC: a page of registers, 16 bytes apart */
enum { APIC_ID = 0x20, APIC_VERSION = 0x30, APIC_TPR = 0x80, APIC_LDR = 0xd0, APIC_DFR = 0xe0, APIC_SVR = 0xf0, APIC_ISR = 0x100, APIC_TMR = 0x180, APIC_IRR = 0x200,
       APIC_ESR = 0x280, APIC_ICR = 0x300, APIC_ICR_HIGH = 0x310, APIC_INITIAL = 0x380, APIC_CURRENT = 0x390, APIC_DIVIDE = 0x3e0, VERSION = 0x50014 };
static const uint16_t lvt_at[6] = {0x320, 0x330, 0x340, 0x350, 0x360, 0x370};
/* The others that are one word on both sides. */
static const struct { uint16_t at; size_t offset; } words[] = {
    {APIC_TPR, offsetof(struct lapic_registers, tpr)}, {APIC_LDR, offsetof(struct lapic_registers, ldr)}, {APIC_DFR, offsetof(struct lapic_registers, dfr)},
    {APIC_SVR, offsetof(struct lapic_registers, svr)}, {APIC_ESR, offsetof(struct lapic_registers, esr)}, {APIC_INITIAL, offsetof(struct lapic_registers, initial)},
    {APIC_CURRENT, offsetof(struct lapic_registers, current)}, {APIC_DIVIDE, offsetof(struct lapic_registers, divide)},
};
enum { WORDS = sizeof words / sizeof *words };

static void put_word(struct kvm_lapic_state *to, unsigned at, uint32_t value) { memcpy(to->regs + at, &value, sizeof value); }
static uint32_t get_word(const struct kvm_lapic_state *from, unsigned at)
{
    uint32_t value;
    memcpy(&value, from->regs + at, sizeof value);
    return value;
}

void kvm_lapic_of(const struct lapic_registers *from, struct kvm_lapic_state *to)
{
    memset(to, 0, sizeof *to);
    put_word(to, APIC_ID, (uint32_t)from->id << 24);
    put_word(to, APIC_VERSION, VERSION);
    put_word(to, APIC_ICR, (uint32_t)from->icr);
    put_word(to, APIC_ICR_HIGH, (uint32_t)(from->icr >> 32));
    for (unsigned n = 0; n < 6; n++)
        put_word(to, lvt_at[n], from->lvt[n]);
    for (unsigned n = 0; n < 8; n++) {
        put_word(to, APIC_ISR + 16 * n, from->isr[n]);
        put_word(to, APIC_TMR + 16 * n, from->tmr[n]);
        put_word(to, APIC_IRR + 16 * n, from->irr[n]);
    }
    for (unsigned n = 0; n < WORDS; n++)
        memcpy(to->regs + words[n].at, (const char *)from + words[n].offset, 4);
}

void kvm_lapic_to(const struct kvm_lapic_state *from, struct lapic_registers *to)
{
    *to = (struct lapic_registers){.id = (uint8_t)(get_word(from, APIC_ID) >> 24), .icr = get_word(from, APIC_ICR) | (uint64_t)get_word(from, APIC_ICR_HIGH) << 32};
    for (unsigned n = 0; n < 6; n++)
        to->lvt[n] = get_word(from, lvt_at[n]);
    for (unsigned n = 0; n < 8; n++) {
        to->isr[n] = get_word(from, APIC_ISR + 16 * n);
        to->tmr[n] = get_word(from, APIC_TMR + 16 * n);
        to->irr[n] = get_word(from, APIC_IRR + 16 * n);
    }
    for (unsigned n = 0; n < WORDS; n++)
        memcpy((char *)to + words[n].offset, from->regs + words[n].at, 4);
}

/* --- The PIT.  KVM begins each count anew when it is set, so it is left to run where the guest's is as it would be.  When channel 0 began it does not
 * tell: that is known where the guest has not loaded it since, and else taken to be now.  It has no counter that was given no
 * count yet: channel 0 is set to no mode then, in which it does not interrupt. */
enum { STATE_LOW = 1, STATE_HIGH = 2, STATE_BOTH = 3, STATE_BOTH_HIGH = 4, NO_MODE = 0xff, TIMER = 0 };

static uint8_t next_byte(uint8_t access, bool high) { return access == STATE_BOTH && high ? STATE_BOTH_HIGH : access; }

static uint8_t latch_state(const struct pit_counter_registers *c)
{
    if (!c->latched)
        return 0;
    return c->access != STATE_BOTH ? c->access : c->latched == 2 ? STATE_BOTH : STATE_HIGH;
}

void kvm_pit_of(const struct pit_registers *from, bool replaced, struct kvm_pit_state2 *to)
{
    *to = (struct kvm_pit_state2){.flags = replaced ? KVM_PIT_FLAGS_HPET_LEGACY : 0};
    for (unsigned n = 0; n < 3; n++) {
        const struct pit_counter_registers *c = &from->counter[n];
        to->channels[n] = (struct kvm_pit_channel_state){
            .count = c->count, .latched_count = c->latch, .count_latched = latch_state(c), .status_latched = c->status_latched, .status = c->status,
            .read_state = next_byte(c->access, c->read_high), .write_state = next_byte(c->access, c->write_high), .write_latch = c->low, .rw_mode = c->access,
            .mode = c->loaded || n != TIMER ? c->mode : NO_MODE, .bcd = c->bcd, .gate = c->gate};
    }
}

/* before: as it went there, for what KVM does not have.  now_ns: by the host's clock, which KVM's times are of. */
void kvm_pit_to(const struct kvm_pit_state2 *from, const struct pit_registers *before, int64_t now_ns, struct pit_registers *to)
{
    for (unsigned n = 0; n < 3; n++) {
        const struct kvm_pit_channel_state *c = &from->channels[n];
        bool none = c->mode > 5;
        to->counter[n] = (struct pit_counter_registers){
            .elapsed_ns = now_ns > c->count_load_time ? (uint64_t)(now_ns - c->count_load_time) : 0, .count = c->count && c->count <= 65536 ? c->count : 65536,
            .latch = c->latched_count, .status = c->status, .low = c->write_latch, .mode = none ? before->counter[n].mode : c->mode,
            .access = c->rw_mode & 3 ? c->rw_mode & 3 : STATE_BOTH, .latched = !c->count_latched ? 0 : c->count_latched == STATE_BOTH ? 2 : 1,
            .read_high = c->read_state == STATE_BOTH_HIGH, .write_high = c->write_state == STATE_BOTH_HIGH, .bcd = c->bcd & 1, .gate = c->gate & 1,
            .status_latched = c->status_latched & 1, .loaded = !none};
        to->counter[n].read_high |= c->rw_mode == STATE_BOTH && c->count_latched == STATE_HIGH;
    }
}

static int64_t host_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

/* Is it what KVM's has come to by now, had nobody touched it since it was read at `then`? */
bool kvm_pit_goes_on(const struct pit_registers *was, int64_t then_ns, const struct pit_registers *is, int64_t now_ns)
{
    enum { TOLERANCE_NS = 100000 };
    struct kvm_pit_state2 a, b;
    kvm_pit_of(was, false, &a);
    kvm_pit_of(is, false, &b);
    bool same = !memcmp(&a, &b, sizeof a);
    for (unsigned n = 0; n < 3 && same; n++) {
        int64_t late = (int64_t)(is->counter[n].elapsed_ns - was->counter[n].elapsed_ns) - (now_ns - then_ns);
        same = !is->counter[n].loaded || !is->counter[n].gate || (late < TOLERANCE_NS && late > -TOLERANCE_NS);
    }
    return same;
}

static void pit_set(struct kvm *k)
{
    struct kvm_pit_state2 state;
    k->timer_replaced = pc_timer_replaced(machine_pc(k->machine));
    kvm_pit_of(&k->pit, k->timer_replaced, &state);
    k->timer_began_ns = host_ns();
    if (ioctl(k->vm, KVM_SET_PIT2, &state))
        kvm_warn("the PIT's state cannot be set: %s", strerror(errno));
}

static void pit_put(struct kvm *k, const struct pit_registers *r)
{
    bool goes_on = k->pit_read_ns && k->timer_replaced == pc_timer_replaced(machine_pc(k->machine)) && kvm_pit_goes_on(&k->pit, k->pit_read_ns, r, host_ns());
    k->pit = *r;
    if (!goes_on)
        pit_set(k);
}

static void pit_read(struct kvm *k)
{
    struct kvm_pit_state2 state;
    struct pit_registers before = k->pit;
    k->pit_read_ns = host_ns();
    if (ioctl(k->vm, KVM_GET_PIT2, &state)) {
        kvm_warn("the PIT's state cannot be read: %s", strerror(errno));
        return;
    }
    struct kvm_pit_channel_state *timer = &state.channels[TIMER];
    if (timer->count != before.counter[TIMER].count || (timer->mode <= 5 && timer->mode != before.counter[TIMER].mode))
        k->timer_began_ns = k->pit_read_ns;
    timer->count_load_time = k->timer_began_ns;
    kvm_pit_to(&state, &before, k->pit_read_ns, &k->pit);
}

/* The HPET takes IRQ 0 from the PIT, or gives it back: after each access of a device. */
void kvm_pit_follow(struct kvm *k)
{
    if (!k->has_pit || k->timer_replaced == pc_timer_replaced(machine_pc(k->machine)))
        return;
    pit_read(k);
    pit_set(k);
}

/* --- Making */
/* A GSI for each of the PC's lines: an ISA line goes to an 8259 and to the I/O APIC (the timer's to pin 2), the others to the I/O APIC alone. */
unsigned kvm_routes(struct kvm_irq_routing_entry to[KVM_ROUTES])
{
    unsigned n = 0;
    memset(to, 0, KVM_ROUTES * sizeof *to);
    for (uint32_t line = 0; line < PC_LINES; line++) {
        bool isa = line < 16, extra = line >= PC_IOAPIC_LINES;
        if (isa && line != 2)
            to[n++] = (struct kvm_irq_routing_entry){.gsi = line, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = {line < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, line & 7}};
        if ((isa && line != 2) || extra)
            to[n++] = (struct kvm_irq_routing_entry){.gsi = line, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = {KVM_IRQCHIP_IOAPIC, extra ? line - PC_IOAPIC_LINES : line ? line : 2}};
    }
    return n;
}

static bool route(struct kvm *k)
{
    char memory[sizeof(struct kvm_irq_routing) + KVM_ROUTES * sizeof(struct kvm_irq_routing_entry)] __attribute__((aligned(8))) = {0};
    struct kvm_irq_routing *table = (void *)memory;
    table->nr = kvm_routes((struct kvm_irq_routing_entry *)(table + 1));
    return !ioctl(k->vm, KVM_SET_GSI_ROUTING, table);
}

/* Before there is a vCPU. */
void kvm_irqchip_new(struct kvm *k)
{
    static const struct { int number; const char *name; } needed[] = {{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"}, {KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING"}, {KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"}};
    for (unsigned n = 0; n < sizeof needed / sizeof *needed; n++)
        if (ioctl(k->vm, KVM_CHECK_EXTENSION, needed[n].number) <= 0) {
            kvm_warn("the host's KVM has no %s: the interrupt controllers are the machine's own", needed[n].name);
            return;
        }
    if (ioctl(k->vm, KVM_CREATE_IRQCHIP, 0)) {
        kvm_warn("the host's KVM makes no interrupt controllers: %s; they are the machine's own", strerror(errno));
        return;
    }
    k->has_irqchip = true;
    struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY /* port 61h, which has the gate of channel 2 */};
    k->has_pit = ioctl(k->vm, KVM_CHECK_EXTENSION, KVM_CAP_PIT_STATE2) > 0 && !ioctl(k->vm, KVM_CREATE_PIT2, &pit);
    struct kvm_reinject_control lost = {.pit_reinject = 0}; /* ticks that nobody took, as in the machine's own */
    if (!k->has_pit)
        kvm_warn("the host's KVM makes no PIT: that is the machine's own");
    else if (ioctl(k->vm, KVM_REINJECT_CONTROL, &lost))
        kvm_warn("ticks of the PIT that the guest does not take are given to it later: %s", strerror(errno));
    if (!route(k))
        kvm_warn("the interrupt lines cannot be routed: %s", strerror(errno));
}

/* --- There and back, with the machine locked */
static void on_line(void *ctx, int pin, int level)
{
    struct kvm *k = ctx;
    struct kvm_irq_level line = {.irq = (uint32_t)pin, .level = (uint32_t)level};
    if (ioctl(k->vm, KVM_IRQ_LINE, &line))
        kvm_warn("interrupt line %d cannot be set: %s", pin, strerror(errno));
}

static bool chip_ioctl(struct kvm *k, bool set, unsigned id, struct kvm_irqchip *chip)
{
    chip->chip_id = id;
    return !ioctl(k->vm, set ? KVM_SET_IRQCHIP : KVM_GET_IRQCHIP, chip);
}

void kvm_controllers_put(void *accel)
{
    struct kvm *k = accel;
    struct pc_controllers r = {.has_pit = false};
    struct kvm_lapic_state lapic;
    struct kvm_irqchip chip[3];
    if (!k->has_irqchip)
        return;
    struct kvm_mp_state state = {k->cpu->state.halted ? KVM_MP_STATE_HALTED : KVM_MP_STATE_RUNNABLE};
    k->cpu->state.halted = 0; /* what wakes it is there */
    memset(chip, 0, sizeof chip);
    pc_controllers_take(machine_pc(k->machine), k->has_pit, &r, on_line, k);
    kvm_lapic_of(&r.lapic, &lapic);
    kvm_ioapic_of(&r.ioapic, &chip[KVM_IRQCHIP_IOAPIC].chip.ioapic);
    bool ok = !ioctl(k->vcpu, KVM_SET_MP_STATE, &state) && !ioctl(k->vcpu, KVM_SET_LAPIC, &lapic) && chip_ioctl(k, true, KVM_IRQCHIP_IOAPIC, &chip[KVM_IRQCHIP_IOAPIC]);
    for (unsigned n = 0; n < 2; n++) {
        kvm_pic_of(&r.pic, n, &chip[n].chip.pic);
        ok &= chip_ioctl(k, true, n, &chip[n]);
    }
    if (!ok)
        kvm_warn("the state of the interrupt controllers cannot be set: %s", strerror(errno));
    if (k->has_pit)
        pit_put(k, &r.pit);
}

void kvm_controllers_get(void *accel)
{
    struct kvm *k = accel;
    struct pc_controllers r = {.lapic = {.id = 0}};
    struct kvm_lapic_state lapic;
    struct kvm_irqchip chip[3];
    if (!k->has_irqchip)
        return;
    bool ok = !ioctl(k->vcpu, KVM_GET_LAPIC, &lapic);
    for (unsigned n = 0; n < 3; n++)
        ok &= chip_ioctl(k, false, n, &chip[n]);
    if (!ok)
        kvm_warn("the state of the interrupt controllers cannot be read: %s", strerror(errno));
    kvm_lapic_to(&lapic, &r.lapic);
    kvm_ioapic_to(&chip[KVM_IRQCHIP_IOAPIC].chip.ioapic, &r.ioapic);
    for (unsigned n = 0; n < 2; n++)
        kvm_pic_to(&chip[n].chip.pic, n, &r.pic);
    if ((r.has_pit = k->has_pit)) {
        pit_read(k);
        r.pit = k->pit;
    }
    pc_controllers_give(machine_pc(k->machine), &r);
}

/* By HLT, which stays in the kernel then. */
bool kvm_is_halted(struct kvm *k)
{
    struct kvm_mp_state state;
    return k->has_irqchip && !ioctl(k->vcpu, KVM_GET_MP_STATE, &state) && state.mp_state == KVM_MP_STATE_HALTED;
}
