/* The local APIC: vectors and priorities, LVT and LINT pins, IPIs to itself, the timer's three modes, x2APIC. */
#include "fake.h"

enum { ID = 0x20, TPR = 0x80, PPR = 0xa0, EOI = 0xb0, LDR = 0xd0, DFR = 0xe0, SVR = 0xf0, ISR = 0x100, TMR = 0x180, IRR = 0x200, ESR = 0x280,
       ICR = 0x300, ICR_HIGH = 0x310, TIMER = 0x320, LINT0 = 0x350, LINT1 = 0x360, ERROR = 0x370, INITIAL = 0x380, CURRENT = 0x390, DIVIDE = 0x3e0 };
enum { OUTPUT, NMI_LINE, INIT_LINE, SIPI_LINE, LINES };

struct rig { struct fake_clock clock; struct fake_line lines[LINES]; struct device *d; unsigned eois, last_eoi; };

static void on_eoi(void *ctx, unsigned vector) { ((struct rig *)ctx)->eois++, ((struct rig *)ctx)->last_eoi = vector; }
static uint64_t tsc_to_ns(void *ctx, uint64_t tsc) { (void)ctx; return tsc / 2; }

static void setup(struct rig *r)
{
    *r = (struct rig){.clock = FAKE_CLOCK};
    r->d = lapic_new(&r->clock.clock, 0, FAKE_LINE(r->lines, OUTPUT));
    lapic_on_nmi(r->d, FAKE_LINE(r->lines, NMI_LINE), FAKE_LINE(r->lines, INIT_LINE), FAKE_LINE(r->lines, SIPI_LINE));
    lapic_on_eoi(r->d, on_eoi, r);
    lapic_tsc_scale(r->d, tsc_to_ns, NULL);
    wr(r->d, SVR, 4, 0x1ff);
}
static void teardown(struct rig *r)
{
    r->d->ops->free(r->d);
    CHECK("alarms left", r->clock.clock.alarms != NULL, 0);
}

static void vectors(void)
{
    struct rig r;
    setup(&r);
    CHECK("nothing", lapic_acknowledge(r.d), -1);
    lapic_deliver(r.d, 0x31, 0, false);
    lapic_deliver(r.d, 0x52, 0, true);
    lapic_deliver(r.d, 0x53, 0, false);
    CHECK("IRR", rd(r.d, IRR + 0x20, 4), 3u << (0x52 & 31));
    CHECK("TMR", rd(r.d, TMR + 0x20, 4), 1u << (0x52 & 31));
    CHECK("highest first", lapic_acknowledge(r.d), 0x53);
    CHECK("same class waits", lapic_acknowledge(r.d), -1);
    CHECK("output", r.lines[OUTPUT].level, 0);
    CHECK("PPR", rd(r.d, PPR, 4), 0x50);
    wr(r.d, EOI, 4, 0);
    CHECK("edge: no message", r.eois, 0);
    CHECK("next", lapic_acknowledge(r.d), 0x52);
    lapic_deliver(r.d, 0xf0, 0, false);
    CHECK("nests", lapic_acknowledge(r.d), 0xf0);
    wr(r.d, EOI, 4, 0);
    wr(r.d, EOI, 4, 0);
    CHECK("level: told", r.eois == 1 && r.last_eoi == 0x52, 1);
    lapic_tpr_set(r.d, 0x30);
    CHECK("TPR holds 0x31", lapic_acknowledge(r.d), -1);
    lapic_tpr_set(r.d, 0x20);
    CHECK("until it is lower", lapic_acknowledge(r.d), 0x31);
    lapic_deliver(r.d, 0x41, 0, false);
    wr(r.d, SVR, 4, 0xff);
    CHECK("software-disabled", lapic_acknowledge(r.d), -1);
    CHECK("LVTs get masked", rd(r.d, TIMER, 4) >> 16 & 1, 1);
    teardown(&r);
}

static void pins_and_ipis(void)
{
    struct rig r;
    setup(&r);
    lapic_set_lint(r.d, 0, 1);
    CHECK("LINT0 masked", r.lines[OUTPUT].level, 0);
    wr(r.d, LINT0, 4, 0x700);
    CHECK("ExtINT", lapic_acknowledge(r.d), -2);
    lapic_set_lint(r.d, 0, 0);
    CHECK("gone", lapic_acknowledge(r.d), -1);
    wr(r.d, LINT1, 4, 0x400);
    lapic_set_lint(r.d, 1, 1);
    CHECK("NMI", rises(&r.lines[NMI_LINE]), 1);
    wr(r.d, LINT0, 4, 0x61);
    lapic_set_lint(r.d, 0, 1);
    CHECK("LINT0 as fixed", lapic_acknowledge(r.d), 0x61);
    wr(r.d, EOI, 4, 0);

    static const struct { const char *name; uint32_t high, low; int vector; } ipis[] = {
        {"to itself, shorthand",  0,          0x00044055, 0x55}, {"to all, shorthand",    0,          0x00084056, 0x56},
        {"to all others",         0,          0x000c4057, -1},   {"physical 0",           0,          0x00004058, 0x58},
        {"physical 1",            0x01000000, 0x00004059, -1},   {"broadcast",            0xff000000, 0x0000405a, 0x5a},
        {"flat logical, ours",    0x04000000, 0x0000485b, 0x5b}, {"flat logical, others", 0x02000000, 0x0000485c, -1},
    };
    wr(r.d, LDR, 4, 0x04000000);
    for (unsigned i = 0; i < sizeof ipis / sizeof *ipis; i++) {
        wr(r.d, ICR_HIGH, 4, ipis[i].high);
        wr(r.d, ICR, 4, ipis[i].low);
        CHECK(ipis[i].name, lapic_acknowledge(r.d), ipis[i].vector);
        wr(r.d, EOI, 4, 0);
    }
    wr(r.d, DFR, 4, 0); /* clusters */
    wr(r.d, LDR, 4, 0x21000000);
    CHECK("cluster 2, member 0", lapic_deliver_message(r.d, 0x23, true, 0, 0x70, false), 1);
    CHECK("cluster 2, member 1", lapic_deliver_message(r.d, 0x22, true, 0, 0x70, false), 0);
    CHECK("cluster 3", lapic_deliver_message(r.d, 0x31, true, 0, 0x70, false), 0);
    wr(r.d, ERROR, 4, 0x99);
    wr(r.d, ICR, 4, 0x00044005);
    CHECK("the error interrupts", lapic_acknowledge(r.d), 0x99);
    wr(r.d, ESR, 4, 0);
    CHECK("illegal vector sent", rd(r.d, ESR, 4), 0x20);
    wr(r.d, ICR, 4, 0x0004c500);
    CHECK("INIT not by shorthand", r.lines[INIT_LINE].calls, 0);
    wr(r.d, ICR_HIGH, 4, 0);
    wr(r.d, ICR, 4, 0x0000c500);
    CHECK("INIT", r.lines[INIT_LINE].calls, 1);
    wr(r.d, ICR, 4, 0x00008500);
    CHECK("INIT's de-assertion", r.lines[INIT_LINE].calls, 1);
    teardown(&r);
}

static void timer(void)
{
    struct rig r;
    setup(&r);
    wr(r.d, DIVIDE, 4, 3);     /* 16 */
    wr(r.d, TIMER, 4, 0x40);
    wr(r.d, INITIAL, 4, 1000); /* 16 us */
    advance(&r.clock, 8000);
    CHECK("half of it", rd(r.d, CURRENT, 4), 500);
    CHECK("not yet", lapic_acknowledge(r.d), -1);
    advance(&r.clock, 8000);
    CHECK("one-shot", lapic_acknowledge(r.d), 0x40);
    wr(r.d, EOI, 4, 0);
    advance(&r.clock, 100000);
    CHECK("only once", lapic_acknowledge(r.d) == -1 && rd(r.d, CURRENT, 4) == 0, 1);
    wr(r.d, TIMER, 4, 0x20041);
    wr(r.d, INITIAL, 4, 1000);
    rises(&r.lines[OUTPUT]);
    for (unsigned i = 0; i < 5; i++) {
        advance(&r.clock, 16000);
        CHECK("periodic", lapic_acknowledge(r.d), 0x41);
        wr(r.d, EOI, 4, 0);
    }
    wr(r.d, INITIAL, 4, 0);
    advance(&r.clock, 100000);
    CHECK("stopped", lapic_acknowledge(r.d), -1);
    wr(r.d, TIMER, 4, 0x40042);
    CHECK("deadline", lapic_msr_write(r.d, 0x6e0, 2 * (r.clock.ns + 5000)), 1);
    advance(&r.clock, 4999);
    CHECK("not yet", lapic_acknowledge(r.d), -1);
    advance(&r.clock, 1);
    CHECK("deadline", lapic_acknowledge(r.d), 0x42);
    uint64_t value = 1;
    CHECK("and is over", lapic_msr_read(r.d, 0x6e0, &value) && value == 0, 1);
    wr(r.d, EOI, 4, 0);
    wr(r.d, TIMER, 4, 0x20041);
    wr(r.d, DIVIDE, 4, 11);
    wr(r.d, INITIAL, 4, 1); /* 1 ns: held to something that leaves time for the rest */
    advance(&r.clock, 1000000);
    CHECK("does not drown the host", lapic_acknowledge(r.d), 0x41);
    teardown(&r);
}

static void msrs(void)
{
    static const struct { const char *name; uint32_t msr; uint64_t value; bool ok; } writes[] = {
        {"reserved base bits", 0x1b, 0xfee00901, false},  {"x2APIC while off", 0x1b, 0xfee00500, false}, {"no x2 registers yet", 0x808, 0, false},
        {"to x2APIC", 0x1b, 0xfee00d00, true},            {"back to xAPIC", 0x1b, 0xfee00900, false},    {"TPR", 0x808, 0x20, true},
        {"TPR too large", 0x808, 0x100, false},           {"ID is fixed", 0x802, 1, false},              {"LDR is fixed", 0x80d, 1, false},
        {"EOI not 0", 0x80b, 1, false},                   {"no DFR", 0x80e, 0, false},                   {"high bits", 0x80f, 1ull << 32, false},
        {"no ICR high", 0x831, 0, false},                 {"no such register", 0x83f + 1, 0, false},     {"self IPI", 0x83f, 0x66, true},
        {"ICR to cluster 0", 0x830, 0x0000000100004867, true},
    };
    struct rig r;
    uint64_t value;
    setup(&r);
    CHECK("base", lapic_base(r.d), 0xfee00900);
    for (unsigned i = 0; i < sizeof writes / sizeof *writes; i++)
        CHECK(writes[i].name, lapic_msr_write(r.d, writes[i].msr, writes[i].value), writes[i].ok);
    CHECK("x2 LDR", lapic_msr_read(r.d, 0x80d, &value) && value == 1, 1);
    CHECK("x2 IRR", lapic_msr_read(r.d, 0x823, &value) && value == 3u << 6, 1);
    CHECK("memory is closed", rd(r.d, TPR, 4), ~0u);
    CHECK("vector", lapic_acknowledge(r.d), 0x67);
    CHECK("off", lapic_msr_write(r.d, 0x1b, 0xfee00000), 1);
    CHECK("silent", lapic_acknowledge(r.d), -1);
    lapic_set_lint(r.d, 0, 1);
    CHECK("INTR goes straight through", lapic_acknowledge(r.d), -2);
    for (uint32_t msr = 0x7ff; msr < 0x901; msr++)
        CHECK("no register while off", lapic_msr_read(r.d, msr, &value) || lapic_msr_write(r.d, msr, 1), 0);
    teardown(&r);
}

int main(void)
{
    struct rig r;
    vectors();
    pins_and_ipis();
    timer();
    msrs();
    setup(&r);
    storm(r.d, &r.clock, 0x1000, 100000);
    teardown(&r);
    return report();
}
