/* The PM block: timer and its overflow, status and enable, SCI, power button, sleep. */
#include "fake.h"

enum { STATUS = 0, ENABLE = 2, CONTROL = 4, TIMER = 8, GPE_STATUS = 12, GPE_ENABLE = 14 };
enum { SCI, OFF, SUSPEND, LINES };

int main(void)
{
    struct fake_clock clock = FAKE_CLOCK;
    struct fake_line lines[LINES] = {{0}};
    struct device *d = acpi_pm_new(&clock.clock, FAKE_LINE(lines, SCI), FAKE_LINE(lines, OFF), FAKE_LINE(lines, SUSPEND));
    static const struct step at_first[] = {
        R(STATUS, 2, 0), R(ENABLE, 2, 0), R(CONTROL, 2, 1), R(TIMER, 4, 0), R(STATUS, 4, 0), W(ENABLE, 1, 0x20), W(ENABLE + 1, 1, 0x01), R(ENABLE, 2, 0x120),
        R(ENABLE + 1, 1, 0x01), W(STATUS, 4, 0x01000000), R(STATUS, 4, 0x01000000), W(ENABLE, 2, 0), R(0x30, 4, 0),
    };
    PLAY("at first", d, at_first);
    advance(&clock, 1000000000);
    CHECK("3.579545 MHz", rd(d, TIMER, 4), 3579545);
    CHECK("its upper half", rd(d, TIMER + 2, 2), 3579545 >> 16);
    advance(&clock, 4000000000);
    CHECK("24 bits", rd(d, TIMER, 4), 5 * 3579545 & 0xffffff);
    CHECK("quiet", lines[SCI].calls > 0 && lines[SCI].level == 0, 1);
    wr(d, ENABLE, 2, 1);
    advance(&clock, 2350000000); /* at least one change of bit 23 */
    CHECK("overflow interrupts", lines[SCI].level == 1 && (rd(d, STATUS, 2) & 1), 1);
    wr(d, STATUS, 2, 1);
    CHECK("cleared", lines[SCI].level | (int)(rd(d, STATUS, 2) & 1), 0);
    wr(d, ENABLE, 2, 0);

    acpi_pm_power_button(d);
    CHECK("button, not enabled", lines[SCI].level == 0 && rd(d, STATUS, 2) == 0x100, 1);
    wr(d, ENABLE, 2, 0x100);
    CHECK("enabled later", lines[SCI].level, 1);
    wr(d, STATUS + 1, 1, 1);
    CHECK("cleared by a byte", lines[SCI].level, 0);

    wr(d, CONTROL, 2, 0x1c01); /* a type alone does nothing */
    CHECK("no sleep", lines[OFF].calls | lines[SUSPEND].calls, 0);
    CHECK("type is kept", rd(d, CONTROL, 2), 0x1c01);
    wr(d, CONTROL, 2, 0x3c01);
    CHECK("type 7: nothing", lines[OFF].calls | lines[SUSPEND].calls, 0);
    wr(d, CONTROL, 2, 0x2401);
    CHECK("type 1: suspend", lines[SUSPEND].level, 1);
    wr(d, CONTROL, 2, 0x2001);
    CHECK("type 0: off", lines[OFF].level, 1);
    CHECK("SLP_EN reads as 0", rd(d, CONTROL, 2), 0x0001);
    storm(d, &clock, 64, 100000);
    d->ops->reset(d);
    CHECK("reset", rd(d, ENABLE, 2) == 0 && rd(d, CONTROL, 2) == 1 && lines[SCI].level == 0, 1);
    d->ops->free(d);
    CHECK("alarms left", clock.clock.alarms != NULL, 0);
    return report();
}
