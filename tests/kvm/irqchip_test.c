/* The machine's interrupt controllers as KVM's and back: fields where KVM has them, devices that go on as if nothing had been between, and, where there is
 * a KVM, its own structures. */
#include "kvm/internal.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static unsigned failures, checks;
static void check_at(int line, bool good, const char *what)
{
    checks++;
    failures += !good;
    if (!good)
        printf("irqchip_test.c:%d: %s\n", line, what);
}
#define CHECK(good, what) check_at(__LINE__, good, what)

/* --- Devices with a clock and a line that can be looked at */
static uint64_t now_ns;
static uint64_t fake_now(struct clock *c) { (void)c; return now_ns; }
static struct clock clock_ = {.now = fake_now};
static int level;
static void on_output(void *ctx, int pin, int to) { (void)ctx, (void)pin; level = to; }

struct set { struct device *pic, *lapic, *ioapic; };
static struct set set_new(void)
{
    struct set s;
    level = 0;
    s.lapic = lapic_new(&clock_, 0, (struct irq_line){on_output, NULL, 0});
    s.ioapic = ioapic_new(s.lapic, 0);
    s.pic = pic_new((struct irq_line){lapic_set_lint, s.lapic, 0});
    return s;
}
static void set_free(struct set *s)
{
    s->pic->ops->free(s->pic);
    s->ioapic->ops->free(s->ioapic);
    s->lapic->ops->free(s->lapic);
}
static void out(struct device *d, uint32_t offset, uint32_t value) { d->ops->write(d, offset, offset < 6 ? 1 : 4, value); }
static uint32_t in(struct device *d, uint32_t offset) { return d->ops->read(d, offset, offset < 6 ? 1 : 4); }
static void redirect(struct set *s, unsigned pin, uint64_t entry)
{
    for (unsigned half = 0; half < 2; half++) {
        s->ioapic->ops->write(s->ioapic, 0, 4, 0x10 + 2 * pin + half);
        s->ioapic->ops->write(s->ioapic, 0x10, 4, (uint32_t)(entry >> 32 * half));
    }
}

struct images { struct kvm_pic_state pic[2]; struct kvm_ioapic_state ioapic; struct kvm_lapic_state lapic; };
static void to_kvm(struct set *s, struct images *k)
{
    struct pc_controllers r;
    pic_take(s->pic, &r.pic);
    ioapic_take(s->ioapic, &r.ioapic);
    lapic_take(s->lapic, &r.lapic);
    for (unsigned n = 0; n < 2; n++)
        kvm_pic_of(&r.pic, n, &k->pic[n]);
    kvm_ioapic_of(&r.ioapic, &k->ioapic);
    kvm_lapic_of(&r.lapic, &k->lapic);
}
static void from_kvm(struct set *s, const struct images *k)
{
    struct pc_controllers r;
    for (unsigned n = 0; n < 2; n++)
        kvm_pic_to(&k->pic[n], n, &r.pic);
    kvm_ioapic_to(&k->ioapic, &r.ioapic);
    kvm_lapic_to(&k->lapic, &r.lapic);
    lapic_give(s->lapic, &r.lapic);
    ioapic_give(s->ioapic, &r.ioapic);
    pic_give(s->pic, &r.pic);
}
static uint32_t apic_word(const struct images *k, unsigned at)
{
    uint32_t v;
    memcpy(&v, k->lapic.regs + at, 4);
    return v;
}

/* --- What is in service, waiting, masked and half initialised */
static void pics(void)
{
    struct set s = set_new();
    struct images k;
    for (unsigned n = 0; n < 2; n++) /* vectors 20h and 28h */
        out(s.pic, 2 * n, 0x11), out(s.pic, 2 * n + 1, 0x20 + 8 * n), out(s.pic, 2 * n + 1, n ? 2 : 4), out(s.pic, 2 * n + 1, 1), out(s.pic, 2 * n + 1, 0);
    out(s.pic, 5, 0x0c); /* IRQ 10 and 11 are levels */
    out(s.pic, 1, 0x40);
    out(s.lapic, 0x350, 0x700), out(s.lapic, 0xf0, 0x1ff), out(s.lapic, 0x350, 0x700);
    pic_set_irq(s.pic, 4, 1);
    CHECK(level && pic_acknowledge(s.pic) == 0x24, "IRQ 4 is in service");
    pic_set_irq(s.pic, 0, 1), pic_set_irq(s.pic, 10, 1), pic_set_irq(s.pic, 12, 1), pic_set_irq(s.pic, 12, 0);
    to_kvm(&s, &k);
    CHECK(!level, "a device whose place was taken is still");
    CHECK(k.pic[0].irr == 1 && k.pic[0].last_irr == 0x11 && k.pic[0].isr == 0x10 && k.pic[0].imr == 0x40 && k.pic[0].irq_base == 0x20 && !k.pic[0].init_state,
          "the master");
    CHECK(k.pic[1].irr == 4 && k.pic[1].last_irr == 4 && k.pic[1].elcr == 0x0c && k.pic[1].elcr_mask == 0xde && k.pic[1].irq_base == 0x28 && !k.pic[1].priority_add, "the slave");
    pic_set_irq(s.pic, 0, 0), pic_set_irq(s.pic, 5, 1);
    CHECK(!level, "and stays so");
    k.pic[0].irr = 1, k.pic[0].isr = 0; /* KVM had an EOI meanwhile */
    from_kvm(&s, &k);
    CHECK(level && pic_acknowledge(s.pic) == 0x20, "an edge that waited in KVM is taken");
    out(s.pic, 0, 0x20);
    CHECK(level && pic_acknowledge(s.pic) == 0x2a, "the level of IRQ 10 is still there");
    out(s.pic, 2, 0x20), out(s.pic, 0, 0x20);
    pic_set_irq(s.pic, 10, 0);
    CHECK(!level, "IRQ 5 rose while KVM had the 8259s: that edge was KVM's");
    out(s.pic, 0, 0x11), out(s.pic, 1, 0x30); /* two of four words */
    to_kvm(&s, &k);
    CHECK(k.pic[0].init_state == 2 && k.pic[0].init4 && k.pic[0].irq_base == 0x30, "half initialised");
    from_kvm(&s, &k);
    out(s.pic, 1, 4), out(s.pic, 1, 3), out(s.pic, 1, 0xfe);
    CHECK(in(s.pic, 1) == 0xfe, "and to its end");
    set_free(&s);
}

static void ioapics(void)
{
    struct set s = set_new();
    struct images k;
    out(s.lapic, 0xf0, 0x1ff);
    redirect(&s, 4, 0x50);
    redirect(&s, 10, 0x8060);
    ioapic_set_irq(s.ioapic, 4, 1);
    ioapic_set_irq(s.ioapic, 10, 1);
    CHECK(level && lapic_acknowledge(s.lapic) == 0x60, "a level is in service, an edge waits");
    s.ioapic->ops->write(s.ioapic, 0, 4, 0x11);
    to_kvm(&s, &k);
    CHECK(k.ioapic.irr == 1 << 10 && k.ioapic.redirtbl[10].bits == 0xc060 && k.ioapic.redirtbl[4].bits == 0x50 && k.ioapic.redirtbl[0].bits == 0x10000 &&
          k.ioapic.ioregsel == 0x11 && k.ioapic.base_address == 0xfec00000, "the I/O APIC");
    CHECK(apic_word(&k, 0x130) == 1 && apic_word(&k, 0x220) == 1 << 16 && apic_word(&k, 0x1b0) == 1 && apic_word(&k, 0xf0) == 0x1ff && apic_word(&k, 0x30) == 0x50014,
          "the local APIC");
    ioapic_set_irq(s.ioapic, 10, 0);
    ioapic_set_irq(s.ioapic, 10, 1);
    from_kvm(&s, &k);
    out(s.lapic, 0xb0, 0);
    CHECK(level && lapic_acknowledge(s.lapic) == 0x60, "after its EOI the level comes again");
    ioapic_set_irq(s.ioapic, 10, 0);
    out(s.lapic, 0xb0, 0);
    CHECK(level && lapic_acknowledge(s.lapic) == 0x50, "then the edge");
    out(s.lapic, 0xb0, 0);
    CHECK(!level && lapic_acknowledge(s.lapic) == -1, "once");
    set_free(&s);
}

static void timers(void)
{
    struct set s = set_new();
    struct images k;
    now_ns = 1000;
    out(s.lapic, 0xf0, 0x1ff), out(s.lapic, 0x320, 0x20040), out(s.lapic, 0x3e0, 3), out(s.lapic, 0x380, 1000); /* periodic, by 16: 16 us */
    now_ns += 4000;
    to_kvm(&s, &k);
    CHECK(apic_word(&k, 0x380) == 1000 && apic_word(&k, 0x390) == 750 && apic_word(&k, 0x320) == 0x20040 && apic_word(&k, 0x3e0) == 3, "the timer, with what is left");
    now_ns += 100000;
    clock_run_alarms(&clock_);
    CHECK(!level, "it is KVM's while that has it");
    from_kvm(&s, &k);
    now_ns += 11999;
    clock_run_alarms(&clock_);
    CHECK(!level && in(s.lapic, 0x390) <= 1, "it goes on from there");
    now_ns += 1;
    clock_run_alarms(&clock_);
    CHECK(level && lapic_acknowledge(s.lapic) == 0x40, "and goes off");
    now_ns += 16000;
    out(s.lapic, 0xb0, 0);
    clock_run_alarms(&clock_);
    CHECK(level, "again and again");
    out(s.lapic, 0x320, 0x40), out(s.lapic, 0x380, 10);
    now_ns += 1000;
    clock_run_alarms(&clock_);
    to_kvm(&s, &k);
    CHECK(apic_word(&k, 0x390) == 0, "one that went off once");
    from_kvm(&s, &k);
    CHECK(clock_next_deadline(&clock_) == UINT64_MAX, "stays off");
    set_free(&s);
}

static uint32_t count_of(struct device *pit, unsigned channel)
{
    pit->ops->write(pit, 3, 1, channel << 6);
    uint32_t low = in(pit, channel);
    return low | in(pit, channel) << 8;
}

static void pits(void)
{
    struct pit_registers r, back;
    struct kvm_pit_state2 k;
    now_ns = 5000;
    level = 0;
    struct device *pit = pit_new(&clock_, (struct irq_line){on_output, NULL, 0});
    struct device *port61 = port61_new(&clock_, pit);
    pit_take(pit, &r);
    kvm_pit_of(&r, false, &k);
    CHECK(k.channels[0].mode == 0xff && k.channels[2].mode == 3 && !k.channels[2].gate, "counters that were given no count");
    kvm_pit_to(&k, &r, 0, &back);
    pit_give(pit, &back);
    CHECK(!count_of(pit, 0) && clock_next_deadline(&clock_) == UINT64_MAX, "do not count here either");
    out(pit, 3, 0x34), out(pit, 0, 0x00), out(pit, 0, 0x10);          /* mode 2, 4096 */
    port61->ops->write(port61, 0, 1, 1);
    out(pit, 3, 0xb0), out(pit, 2, 0xff), out(pit, 2, 0xff);          /* channel 2: mode 0 */
    now_ns += 1000000;                                                 /* 1193 ticks */
    out(pit, 3, 0x74), out(pit, 1, 0x42);                              /* half of channel 1's count */
    pit->ops->write(pit, 3, 1, 0x00);
    CHECK((in(pit, 0) & 0xff) == ((4096 - 1193) & 0xff), "one of two latched bytes was read");
    pit_take(pit, &r);
    kvm_pit_of(&r, true, &k);
    CHECK(!level && k.flags == KVM_PIT_FLAGS_HPET_LEGACY && k.channels[0].count == 4096 && k.channels[0].mode == 2 && k.channels[0].rw_mode == 3 && k.channels[0].gate &&
          k.channels[0].count_latched == 2 && k.channels[0].latched_count == 4096 - 1193 && k.channels[0].read_state == 4, "channel 0, and a latched byte");
    CHECK(k.channels[1].write_state == 4 && k.channels[1].write_latch == 0x42 && k.channels[2].mode == 0 && k.channels[2].gate && k.channels[2].count == 0xffff, "the others");
    now_ns += 20000000;
    clock_run_alarms(&clock_);
    CHECK(!level, "it stands still");
    for (unsigned n = 0; n < 3; n++)
        k.channels[n].count_load_time = 700000000;
    kvm_pit_to(&k, &r, 702000000, &back);                              /* 2 ms: 2386 ticks */
    pit_give(pit, &back);
    CHECK((uint32_t)in(pit, 0) == (4096 - 1193) >> 8, "the other byte of the latch");
    CHECK(count_of(pit, 0) == 4096 - 2386 && count_of(pit, 2) == 0xffff - 2386, "counts go on from when KVM began them");
    CHECK((port61->ops->read(port61, 0, 1) & 0x21) == 1, "the gate is open");
    pit_take(pit, &back);
    pit_give(pit, &back);
    pit_take(pit, &r);
    CHECK(kvm_pit_goes_on(&back, 702000000, &r, 702000000) && !kvm_pit_goes_on(&back, 702000000, &r, 703000000), "it is where KVM's is, or a ms behind");
    now_ns += 1000;
    r.counter[2].count--;
    CHECK(!kvm_pit_goes_on(&back, 702000000, &r, 702001000), "a count was changed meanwhile");
    r.counter[2].count++;
    pit_give(pit, &r);
    level = 0;
    now_ns += 1440000;
    clock_run_alarms(&clock_);
    CHECK(level, "and the timer goes off at the end of its period");
    out(pit, 1, 0x10);
    CHECK(count_of(pit, 1) >> 8 == 0x10, "a count is completed");
    port61->ops->free(port61);
    pit->ops->free(pit);
}

/* Registers of any value come back, but for what one side derives. */
static void random_registers(void)
{
    srand(7);
    for (unsigned n = 0; n < 2000; n++) {
        struct lapic_registers l, l2;
        struct kvm_lapic_state ks;
        struct ioapic_registers io, io2;
        struct kvm_ioapic_state ki;
        struct pic_registers p, p2;
        memset(&p, 0, sizeof p), memset(&p2, 0, sizeof p2), memset(&l, 0, sizeof l), memset(&l2, 0, sizeof l2);
        for (unsigned i = 0; i < offsetof(struct lapic_registers, id); i++)
            ((uint8_t *)&l)[i] = (uint8_t)rand();
        l.id = (uint8_t)rand();
        kvm_lapic_of(&l, &ks);
        kvm_lapic_to(&ks, &l2);
        CHECK(!memcmp(&l, &l2, offsetof(struct lapic_registers, id)) && l.id == l2.id, "a local APIC");
        io = (struct ioapic_registers){.select = (uint8_t)rand(), .id = rand() & 15};
        for (unsigned pin = 0; pin < 24; pin++)
            io.entry[pin] = ((uint64_t)rand() << 32 | (uint32_t)rand()) & ~(1ull << 12);
        kvm_ioapic_of(&io, &ki);
        kvm_ioapic_to(&ki, &io2);
        CHECK(!memcmp(io.entry, io2.entry, sizeof io.entry) && io.id == io2.id && io.select == io2.select, "an I/O APIC");
        for (unsigned i = 0; i < 2; i++) {
            uint8_t elcr = rand() & (i ? 0xde : 0xf8), v[5];
            for (unsigned b = 0; b < sizeof v; b++)
                v[b] = (uint8_t)rand();
            p.chip[i] = (struct pic_chip_registers){.irr = v[0] & ~elcr & (i ? 0xff : 0xfb), .isr = v[1], .imr = v[2], .lines = v[3], .elcr = elcr, .base = v[4] & 0xf8,
                .icw = (const uint8_t[]){0, 2, 3, 4}[rand() & 3], .lowest = rand() & 7, .needs_icw4 = rand() & 1, .auto_eoi = rand() & 1, .rotate_auto = rand() & 1,
                .special_mask = rand() & 1, .special_nested = rand() & 1, .read_isr = rand() & 1, .poll = rand() & 1};
            struct kvm_pic_state kp;
            kvm_pic_of(&p, i, &kp);
            kvm_pic_to(&kp, i, &p2);
        }
        CHECK(!memcmp(&p, &p2, sizeof p), "the 8259s");
    }
}

static void routes(void)
{
    struct kvm_irq_routing_entry r[KVM_ROUTES];
    unsigned count = kvm_routes(r), timer = 0, pics = 0, pins = 0;
    for (unsigned n = 0; n < count; n++) {
        timer += r[n].gsi == 0 && r[n].u.irqchip.irqchip == KVM_IRQCHIP_IOAPIC && r[n].u.irqchip.pin == 2;
        pics += r[n].u.irqchip.irqchip != KVM_IRQCHIP_IOAPIC && r[n].gsi == (r[n].u.irqchip.irqchip == KVM_IRQCHIP_PIC_SLAVE ? 8u : 0u) + r[n].u.irqchip.pin;
        pins += r[n].gsi >= PC_IOAPIC_LINES && r[n].u.irqchip.pin == r[n].gsi - PC_IOAPIC_LINES;
    }
    CHECK(count == 54 && timer == 1 && pics == 15 && pins == 24, "each line has its way");
}

/* What the host's KVM takes, it gives back. */
static void with_kvm(void)
{
    struct kvm_host host;
    char error[256];
    if (!kvm_host_open(&host, error, sizeof error)) {
        printf("without the host's KVM: %s\n", error);
        return;
    }
    int vm = ioctl(host.fd, KVM_CREATE_VM, 0);
    if (vm >= 0 && ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_IRQCHIP) > 0 && !ioctl(vm, KVM_CREATE_IRQCHIP, 0)) {
        struct pic_registers p = {{{.irr = 1, .isr = 0x10, .imr = 0x40, .lines = 0x11, .base = 0x20, .lowest = 7, .needs_icw4 = true},
                                   {.imr = 0xff, .lines = 0, .elcr = 0x0c, .base = 0x28, .lowest = 3, .needs_icw4 = true, .read_isr = true}}}, p2;
        struct ioapic_registers io = {.select = 5, .entry = {[4] = 0x50, [10] = 0x18060}}, io2;
        struct kvm_irqchip chip = {.chip_id = 0};
        memset(&p2, 0, sizeof p2);
        for (unsigned n = 0; n < 2; n++) {
            chip.chip_id = n;
            kvm_pic_of(&p, n, &chip.chip.pic);
            CHECK(!ioctl(vm, KVM_SET_IRQCHIP, &chip), "KVM takes an 8259");
            memset(&chip.chip, 0, sizeof chip.chip);
            CHECK(!ioctl(vm, KVM_GET_IRQCHIP, &chip), "and gives it back");
            kvm_pic_to(&chip.chip.pic, n, &p2);
        }
        CHECK(!memcmp(&p, &p2, sizeof p), "as it was");
        chip.chip_id = KVM_IRQCHIP_IOAPIC;
        kvm_ioapic_of(&io, &chip.chip.ioapic);
        CHECK(!ioctl(vm, KVM_SET_IRQCHIP, &chip) && !ioctl(vm, KVM_GET_IRQCHIP, &chip), "the I/O APIC too");
        kvm_ioapic_to(&chip.chip.ioapic, &io2);
        CHECK(!memcmp(io.entry, io2.entry, sizeof io.entry) && io2.select == 5, "as it was");
    } else {
        puts("without interrupt controllers of the host's KVM: it makes none");
    }
    close(vm);
    kvm_host_close(&host);
}

int main(void)
{
    pics();
    ioapics();
    timers();
    pits();
    random_registers();
    routes();
    with_kvm();
    printf("irqchip_test: %u checks, %u failed\n", checks, failures);
    return failures != 0;
}
