/* The keyboard controller with keyboard and mouse: commands and their answers, translation, interrupts, reset, A20. */
#include "fake.h"

enum { IRQ1, IRQ12, RESET, A20, LINES };
enum { DATA = 0, COMMAND = 4 };
struct rig { struct fake_line lines[LINES]; struct device *d; };
static void setup(struct rig *r)
{
    *r = (struct rig){.lines = {{0}}};
    r->d = i8042_new(FAKE_LINE(r->lines, IRQ1), FAKE_LINE(r->lines, IRQ12), FAKE_LINE(r->lines, RESET), FAKE_LINE(r->lines, A20));
}

/* Bytes to the ports ('c' command, 'd' data, 'm' data for the mouse), then all that comes back. */
struct row { const char *name; struct { char port; uint8_t value; } sent[8]; uint8_t count, answer[8]; };
static const struct row rows[] = {
    {"self-test",            {{'c', 0xaa}},                       1, {0x55}},
    {"keyboard's port",      {{'c', 0xab}},                       1, {0}},
    {"mouse's port",         {{'c', 0xa9}},                       1, {0}},
    {"mode",                 {{'c', 0x20}},                       1, {0x47}},
    {"mode written",         {{'c', 0x60}, {'d', 0x74}, {'c', 0x20}}, 1, {0x74}},
    {"RAM",                  {{'c', 0x65}, {'d', 0x5a}, {'c', 0x25}}, 1, {0x5a}},
    {"mouse off and on",     {{'c', 0xa7}, {'c', 0x20}},          1, {0x67}},
    {"output port",          {{'c', 0xd0}},                       1, {0xcf}},
    {"echoed as keyboard's", {{'c', 0xd2}, {'d', 0x12}},          1, {0x12}},
    {"echoed as mouse's",    {{'c', 0xd3}, {'d', 0x34}},          1, {0x34}},
    {"keyboard echo",        {{'d', 0xee}},                       1, {0xee}},
    {"keyboard reset",       {{'d', 0xff}},                       2, {0xfa, 0xaa}},
    {"keyboard id, translated", {{'d', 0xf2}},                    3, {0xfa, 0xab, 0x41}},
    {"keyboard id",          {{'c', 0x60}, {'d', 0x05}, {'d', 0xf2}}, 3, {0xfa, 0xab, 0x83}},
    {"LEDs",                 {{'d', 0xed}, {'d', 0x02}},          2, {0xfa, 0xfa}},
    {"rate",                 {{'d', 0xf3}, {'d', 0x20}},          2, {0xfa, 0xfa}},
    {"which set",            {{'c', 0x60}, {'d', 0x05}, {'d', 0xf0}, {'d', 0}}, 3, {0xfa, 0xfa, 2}},
    {"unknown",              {{'d', 0xe1}},                       1, {0xfe}},
    {"mouse reset",          {{'m', 0xff}},                       3, {0xfa, 0xaa, 0}},
    {"mouse id",             {{'m', 0xf2}},                       2, {0xfa, 0}},
    {"mouse status",         {{'m', 0xe9}},                       4, {0xfa, 0, 2, 100}},
    {"mouse unknown",        {{'m', 0xe1}},                       1, {0xfe}},
    {"mouse wrap",           {{'m', 0xee}, {'m', 0x77}, {'m', 0xec}}, 3, {0xfa, 0x77, 0xfa}},
};

static void commands(void)
{
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct rig r;
        uint8_t got[8] = {0};
        unsigned n = 0;
        setup(&r);
        for (unsigned s = 0; s < 8 && rows[i].sent[s].port; s++) {
            if (rows[i].sent[s].port == 'm')
                wr(r.d, COMMAND, 1, 0xd4);
            wr(r.d, rows[i].sent[s].port == 'c' ? COMMAND : DATA, 1, rows[i].sent[s].value);
        }
        for (; n < 8 && rd(r.d, COMMAND, 1) & 1; n++)
            got[n] = (uint8_t)rd(r.d, DATA, 1);
        CHECK(rows[i].name, n == rows[i].count && !memcmp(got, rows[i].answer, n), 1);
        r.d->ops->free(r.d);
    }
}

static void keys(void)
{
    static const struct { unsigned code; uint8_t translated[3], plain[4]; } rows[] = {
        {0x1e, {0x1e}, {0x1c}}, {0x9e, {0x9e}, {0xf0, 0x1c}}, {0xe048, {0xe0, 0x48}, {0xe0, 0x75}}, {0xe0c8, {0xe0, 0xc8}, {0xe0, 0xf0, 0x75}},
        {0x3b, {0x3b}, {0x05}}, {0x58, {0x58}, {0x07}},       {0x41, {0x41}, {0x83}},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
        for (unsigned plain = 0; plain < 2; plain++) {
            struct rig r;
            uint8_t got[4] = {0};
            setup(&r);
            wr(r.d, COMMAND, 1, 0x60);
            wr(r.d, DATA, 1, plain ? 0x01 : 0x41);
            i8042_key(r.d, rows[i].code);
            for (unsigned n = 0; n < 4 && rd(r.d, COMMAND, 1) & 1; n++)
                got[n] = (uint8_t)rd(r.d, DATA, 1);
            CHECK("scan codes", memcmp(got, plain ? rows[i].plain : rows[i].translated, plain ? 4 : 3), 0);
            r.d->ops->free(r.d);
        }
}

static void interrupts(void)
{
    struct rig r;
    setup(&r);
    i8042_key(r.d, 0x1e);
    i8042_key(r.d, 0x9e);
    CHECK("IRQ 1", rises(&r.lines[IRQ1]), 1);
    CHECK("status", rd(r.d, COMMAND, 1), 0x15);
    CHECK("make", rd(r.d, DATA, 1), 0x1e);
    CHECK("each byte has its edge", rises(&r.lines[IRQ1]), 1);
    CHECK("break", rd(r.d, DATA, 1), 0x9e);
    CHECK("done", r.lines[IRQ1].level, 0);
    wr(r.d, COMMAND, 1, 0xd4);
    wr(r.d, DATA, 1, 0xf4);
    CHECK("IRQ 12", rises(&r.lines[IRQ12]), 1);
    CHECK("status says mouse", rd(r.d, COMMAND, 1) & 0x21, 0x21);
    CHECK("ACK", rd(r.d, DATA, 1), 0xfa);
    i8042_mouse(r.d, 5, -3, 0, 1);
    static const uint8_t packet[] = {0x29, 5, 0xfd};
    for (unsigned i = 0; i < 3; i++)
        CHECK("packet", rd(r.d, DATA, 1), packet[i]);
    wr(r.d, COMMAND, 1, 0xad);
    rises(&r.lines[IRQ1]);
    i8042_key(r.d, 0x1e);
    CHECK("disabled", r.lines[IRQ1].level, 0);
    wr(r.d, COMMAND, 1, 0xae);
    CHECK("enabled", rises(&r.lines[IRQ1]), 1);
    rd(r.d, DATA, 1);
    for (unsigned i = 0; i < 1000; i++) /* more than it can hold */
        i8042_key(r.d, 0x1e), i8042_mouse(r.d, 300, -300, 1, 7);
    unsigned n = 0;
    for (; n < 1000 && rd(r.d, COMMAND, 1) & 1; n++)
        rd(r.d, DATA, 1);
    CHECK("bounded", n > 32 && n <= 130, 1);
    r.d->ops->free(r.d);
}

static void knock(void)
{
    static const uint8_t knock[] = {0xf3, 200, 0xf3, 100, 0xf3, 80};
    struct rig r;
    setup(&r);
    for (unsigned i = 0; i < sizeof knock; i++) {
        wr(r.d, COMMAND, 1, 0xd4);
        wr(r.d, DATA, 1, knock[i]);
        CHECK("ACK", rd(r.d, DATA, 1), 0xfa);
    }
    wr(r.d, COMMAND, 1, 0xd4);
    wr(r.d, DATA, 1, 0xf2);
    CHECK("ACK", rd(r.d, DATA, 1), 0xfa);
    CHECK("IntelliMouse", rd(r.d, DATA, 1), 3);
    r.d->ops->free(r.d);
}

static void wires(void)
{
    struct rig r;
    setup(&r);
    wr(r.d, COMMAND, 1, 0xdf);
    CHECK("A20 on", r.lines[A20].level, 1);
    wr(r.d, COMMAND, 1, 0xdd);
    CHECK("A20 off", r.lines[A20].level, 0);
    wr(r.d, COMMAND, 1, 0xd1);
    wr(r.d, DATA, 1, 0xdf);
    CHECK("A20 by output port", r.lines[A20].level, 1);
    CHECK("no reset yet", r.lines[RESET].calls, 0);
    wr(r.d, COMMAND, 1, 0xfe);
    CHECK("reset by pulse", r.lines[RESET].calls, 1);
    wr(r.d, COMMAND, 1, 0xd1);
    wr(r.d, DATA, 1, 0xde);
    CHECK("reset by output port", r.lines[RESET].calls, 2);
    storm(r.d, NULL, 8, 100000);
    r.d->ops->reset(r.d);
    CHECK("reset", rd(r.d, COMMAND, 1), 0x14);
    r.d->ops->free(r.d);
}

int main(void)
{
    commands();
    keys();
    interrupts();
    knock();
    wires();
    return report();
}
