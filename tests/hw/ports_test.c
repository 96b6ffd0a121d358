/* Port 92h, port CF9h, the debug console and isa-debug-exit. */
#include "fake.h"

static void on_exit_port(void *ctx, int status) { *(int *)ctx = status; }

int main(void)
{
    struct fake_line reset = {0}, a20 = {0};
    struct fake_out out = {{0}, 0};
    int exit_status = 0;
    struct device *p92 = port92_new(FAKE_LINE(&reset, 0), FAKE_LINE(&a20, 0)), *cf9 = portcf9_new(FAKE_LINE(&reset, 0));
    struct device *con = debugcon_new((struct chardev){fake_put, &out}), *mute = debugcon_new((struct chardev){0}), *stop = debugexit_new(on_exit_port, &exit_status);
    static const struct step a20_steps[] = {R(0, 1, 2), W(0, 1, 0), R(0, 1, 0), W(0, 1, 2)};
    static const struct step cf9_steps[] = {R(0, 1, 0), W(0, 1, 2), R(0, 1, 2), W(0, 1, 0xf1), R(0, 1, 0)};
    PLAY("port 92", p92, a20_steps);
    CHECK("A20", a20.level, 1);
    CHECK("no reset", reset.calls, 0);
    wr(p92, 0, 1, 3);
    wr(p92, 0, 1, 3);
    CHECK("reset as the bit rises", reset.calls, 1);
    PLAY("cf9", cf9, cf9_steps);
    CHECK("no reset", reset.calls, 1);
    wr(cf9, 0, 1, 6);
    wr(cf9, 0, 1, 6);
    CHECK("reset as the bit rises", reset.calls, 2);
    cf9->ops->reset(cf9);
    wr(cf9, 0, 1, 0xe);
    CHECK("and again after reset", reset.calls, 3);
    CHECK("debug console is there", rd(con, 0, 1), 0xe9);
    wr(con, 0, 1, 'A');
    wr(mute, 0, 1, 'B');
    CHECK("out", out.size == 1 && out.text[0] == 'A', 1);
    static const uint32_t values[] = {0, 1, 0x10, 0x7f};
    for (unsigned i = 0; i < 4; i++) {
        wr(stop, 0, 4, values[i]);
        CHECK("status", exit_status, (values[i] << 1 | 1) & 0xff);
    }
    struct fake_line irq13 = {0};
    struct device *f0 = portf0_new(FAKE_LINE(&irq13, 0));
    CHECK("port F0 with nothing pending", (wr(f0, 0, 1, 0), portf0_ferr(f0, false)), 0);
    CHECK("FERR#: not ignored yet", portf0_ferr(f0, true), 0);
    CHECK("IRQ 13", irq13.level, 1);
    wr(f0, 0, 1, 0);
    CHECK("port F0 takes IRQ 13 away", irq13.level, 0);
    CHECK("and raises IGNNE#", portf0_ferr(f0, true), 1);
    CHECK("IRQ 13 does not come again for the same error", irq13.level, 0);
    CHECK("IGNNE# falls with FERR#", portf0_ferr(f0, false), 0);
    CHECK("the next error", portf0_ferr(f0, true), 0);
    CHECK("its IRQ 13", irq13.level, 1);
    f0->ops->reset(f0);
    CHECK("reset", irq13.level, 0);
    struct device *all[] = {p92, cf9, con, mute, stop, f0};
    for (unsigned i = 0; i < 6; i++) {
        storm(all[i], NULL, 4, 1000);
        all[i]->ops->reset(all[i]);
        all[i]->ops->free(all[i]);
    }
    return report();
}
