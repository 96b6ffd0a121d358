/* The PC's wiring, by its ports and memory alone: interrupts from device to vector, memory's places, resets, tables. */
#include "fake.h"
#include "hw/pc.h"

#define RAM_SIZE (16u << 20)

struct rig {
    struct fake_clock clock;
    struct fake_line interrupt, nmi, init, reset, off;
    struct fake_out debug, serial;
    uint8_t *ram;
    int exit_status;
    struct pc *pc;
};

static void on_exit_port(void *ctx, int status) { ((struct rig *)ctx)->exit_status = status; }

static struct pc_config config_of(struct rig *r, uint64_t ram_size)
{
    return (struct pc_config){
        .ram_size = ram_size, .ram = r->ram, .clock = &r->clock.clock,
        .cpu_interrupt = FAKE_LINE(&r->interrupt, 0), .cpu_nmi = FAKE_LINE(&r->nmi, 0), .cpu_init = FAKE_LINE(&r->init, 0),
        .reset_request = FAKE_LINE(&r->reset, 0), .shutdown_request = FAKE_LINE(&r->off, 0), .debug_exit = on_exit_port, .debug_exit_port = 0x501, .debug_exit_size = 4, .debug_exit_ctx = r,
        .serial = {{fake_put, &r->serial}}, .debug_console = {fake_put, &r->debug}, .cmdline = "quiet",
    };
}

static bool setup(struct rig *r)
{
    char error[200] = "";
    *r = (struct rig){.clock = FAKE_CLOCK, .ram = calloc(1, RAM_SIZE)};
    struct pc_config c = config_of(r, RAM_SIZE);
    r->pc = pc_new(&c, error, sizeof error);
    if (!r->pc)
        printf("pc_new: %s\n", error);
    return CHECK("pc_new", r->pc != NULL, 1);
}

static void teardown(struct rig *r)
{
    pc_free(r->pc);
    CHECK("alarms left", r->clock.clock.alarms != NULL, 0);
    free(r->ram);
}

static void out(struct rig *r, uint16_t port, unsigned size, uint32_t value) { space_write(pc_io(r->pc), port, size, value); }
static uint32_t in(struct rig *r, uint16_t port, unsigned size) { return (uint32_t)space_read(pc_io(r->pc), port, size); }
static void poke(struct rig *r, uint64_t at, unsigned size, uint64_t value) { space_write(pc_memory(r->pc), at, size, value); }
static uint64_t peek(struct rig *r, uint64_t at, unsigned size) { return space_read(pc_memory(r->pc), at, size); }
static uint32_t pci_address(unsigned device, unsigned function, unsigned offset) { return 0x80000000 | device << 11 | function << 8 | offset; }

static void program_pic(struct rig *r)
{
    static const uint8_t words[][2] = {{0x20, 0x11}, {0x21, 0x20}, {0x21, 4}, {0x21, 1}, {0xa0, 0x11}, {0xa1, 0x28}, {0xa1, 2}, {0xa1, 1},
                                       {0x21, 0xff}, {0xa1, 0xff}};
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
        out(r, words[i][0], 1, words[i][1]);
}

static void ioapic_pin(struct rig *r, unsigned pin, uint32_t low)
{
    poke(r, PC_IOAPIC, 4, 0x10 + 2 * pin);
    poke(r, PC_IOAPIC + 0x10, 4, low);
}

static void uart_to_pic(void)
{
    struct rig r;
    if (!setup(&r))
        return;
    program_pic(&r);
    CHECK("nothing to take", pc_interrupt_take(r.pc), -1);
    out(&r, 0x21, 1, (uint8_t)~0x10);
    out(&r, 0x3fc, 1, 8);
    out(&r, 0x3f9, 1, 2); /* transmitter empty */
    CHECK("INTR", r.interrupt.level, 1);
    CHECK("vector of IRQ 4", pc_interrupt_take(r.pc), 0x24);
    CHECK("in service", r.interrupt.level, 0);
    CHECK("IIR", in(&r, 0x3fa, 1) & 15, 2);
    out(&r, 0x20, 1, 0x20);
    CHECK("quiet", r.interrupt.level, 0);
    out(&r, 0x3f8, 1, 'x');
    CHECK("serial out", r.serial.size == 1 && r.serial.text[0] == 'x', 1);
    CHECK("again", pc_interrupt_take(r.pc), 0x24);
    teardown(&r);
}

static void timer_to_both(void)
{
    struct rig r;
    if (!setup(&r))
        return;
    program_pic(&r);
    out(&r, 0x21, 1, (uint8_t)~1);
    out(&r, 0x43, 1, 0x34);
    out(&r, 0x40, 1, 0xa9);
    out(&r, 0x40, 1, 0x04); /* 1193 ticks: 1 ms */
    advance(&r.clock, 1100000);
    CHECK("IRQ 0 by the PIC", pc_interrupt_take(r.pc), 0x20);
    out(&r, 0x20, 1, 0x20);
    out(&r, 0x21, 1, 0xff);
    poke(&r, PC_LAPIC + 0xf0, 4, 0x1ff);
    ioapic_pin(&r, 2, 0x40);
    advance(&r.clock, 1000000);
    CHECK("IRQ 0 by IOAPIC pin 2", pc_interrupt_take(r.pc), 0x40);
    poke(&r, PC_LAPIC + 0xb0, 4, 0);
    poke(&r, PC_HPET + 0x10, 4, 3); /* legacy replacement: the PIT is cut off */
    advance(&r.clock, 3000000);
    CHECK("PIT behind the HPET", pc_interrupt_take(r.pc), -1);
    poke(&r, PC_HPET + 0x100, 4, 4);
    poke(&r, PC_HPET + 0x108, 8, peek(&r, PC_HPET + 0xf0, 8) + 100000);
    advance(&r.clock, 1100000);
    CHECK("HPET timer 0 by pin 2", pc_interrupt_take(r.pc), 0x40);
    teardown(&r);
}

static void hpet_to_pic(void)
{
    struct rig r;
    if (!setup(&r))
        return;
    program_pic(&r);
    out(&r, 0x21, 1, (uint8_t)~1);
    poke(&r, PC_HPET + 0x10, 4, 3);
    poke(&r, PC_HPET + 0x100, 4, 0x4c); /* periodic */
    poke(&r, PC_HPET + 0x108, 8, 100000);
    for (unsigned i = 0; i < 3; i++) {
        advance(&r.clock, 1000000);
        CHECK("HPET timer 0 by the PIC", pc_interrupt_take(r.pc), 0x20);
        out(&r, 0x20, 1, 0x20);
    }
    teardown(&r);
}

static void level_to_ioapic(void)
{
    struct rig r;
    if (!setup(&r))
        return;
    poke(&r, PC_LAPIC + 0xf0, 4, 0x1ff);
    ioapic_pin(&r, PC_SCI, 0x8051); /* level */
    out(&r, PC_PM_BASE + 2, 2, 0x100);
    acpi_pm_power_button(pc_pm(r.pc));
    CHECK("SCI", pc_interrupt_take(r.pc), 0x51);
    poke(&r, PC_LAPIC + 0xb0, 4, 0);
    CHECK("still asserted", pc_interrupt_take(r.pc), 0x51);
    out(&r, PC_PM_BASE, 2, 0x100);
    poke(&r, PC_LAPIC + 0xb0, 4, 0);
    CHECK("served", pc_interrupt_take(r.pc), -1);
    out(&r, PC_PM_BASE + 4, 2, 0x2000); /* S5 */
    CHECK("power off", r.off.level, 1);
    teardown(&r);
}

/* Keyboard on 1, mouse on 12, clock on 8, second UART on 3; all come out of the right pin of both controllers. */
static void isa_pins(void)
{
    struct rig r;
    if (!setup(&r))
        return;
    poke(&r, PC_LAPIC + 0xf0, 4, 0x1ff);
    for (unsigned pin = 1; pin < 16; pin++)
        ioapic_pin(&r, pin, 0x60 + pin);
    out(&r, 0x2fc, 1, 8);
    out(&r, 0x2f9, 1, 2);
    CHECK("COM2", pc_interrupt_take(r.pc), 0x63);
    i8042_key(pc_keyboard(r.pc), 0x1e);
    poke(&r, PC_LAPIC + 0xb0, 4, 0);
    CHECK("keyboard", pc_interrupt_take(r.pc), 0x61);
    CHECK("scan code", in(&r, 0x60, 1), 0x1e);
    poke(&r, PC_LAPIC + 0xb0, 4, 0);
    out(&r, 0x64, 1, 0xd4);
    out(&r, 0x60, 1, 0xf4);
    CHECK("mouse", pc_interrupt_take(r.pc), 0x6c);
    CHECK("mouse's ACK", in(&r, 0x60, 1), 0xfa);
    poke(&r, PC_LAPIC + 0xb0, 4, 0);
    out(&r, 0x70, 1, 11);
    out(&r, 0x71, 1, 0x12);
    advance(&r.clock, 1000000000);
    CHECK("clock", pc_interrupt_take(r.pc), 0x68);
    teardown(&r);
}

static void memory_map(void)
{
    static const struct { uint64_t at; uint32_t value; } unmapped[] = {{0xa0000, ~0u}, {0xbfffc, ~0u}, {RAM_SIZE, ~0u}, {0xfffffff0, ~0u}};
    struct rig r;
    if (!setup(&r))
        return;
    poke(&r, 0x9fffe, 4, 0x11223344); /* half of it falls into the hole */
    CHECK("below the hole", r.ram[0x9ffff], 0x33);
    CHECK("in the hole", r.ram[0xa0000], 0);
    poke(&r, 0xc0000, 4, 0x55667788);
    CHECK("shadow", r.ram[0xc0000], 0x88);
    for (unsigned i = 0; i < sizeof unmapped / sizeof *unmapped; i++)
        CHECK("nothing there", peek(&r, unmapped[i].at, 4), unmapped[i].value);
    CHECK("LAPIC version", peek(&r, PC_LAPIC + 0x30, 4) & 0xff, 0x14);
    CHECK("HPET id", peek(&r, PC_HPET, 4) >> 16, 0x8086);
    lapic_msr_write(pc_lapic(r.pc), 0x1b, 0xd0000900);
    CHECK("LAPIC moved", peek(&r, 0xd0000030, 4) & 0xff, 0x14);
    CHECK("and left", peek(&r, PC_LAPIC + 0x30, 4), ~0u);
    lapic_msr_write(pc_lapic(r.pc), 0x1b, 0xd0000100);
    CHECK("LAPIC off", peek(&r, 0xd0000030, 4), ~0u);
    pc_reset(r.pc);
    CHECK("back after reset", peek(&r, PC_LAPIC + 0x30, 4) & 0xff, 0x14);
    teardown(&r);
}

/* RAM above 4 GiB begins where the low part ends; only a few pages of the host's memory are touched. */
static void high_memory(void)
{
    struct rig r = {.clock = FAKE_CLOCK};
    uint64_t size = (5ull << 30) + 0x1000;
    char error[200];
    r.ram = calloc(1, size);
    if (!r.ram)
        return;
    struct pc_config c = config_of(&r, size);
    r.pc = pc_new(&c, error, sizeof error);
    if (CHECK("5 GiB", r.pc != NULL, 1)) {
        poke(&r, PC_HIGH_RAM, 8, 0x1122334455667788);
        CHECK("first byte above 4 GiB", r.ram[PC_LOW_RAM_MAX], 0x88);
        CHECK("read back", peek(&r, PC_HIGH_RAM + 4, 4), 0x11223344);
        poke(&r, PC_HIGH_RAM + size - PC_LOW_RAM_MAX - 1, 1, 0x5a);
        CHECK("last byte", r.ram[size - 1], 0x5a);
        CHECK("behind it", peek(&r, PC_HIGH_RAM + size - PC_LOW_RAM_MAX, 4), ~0u);
        CHECK("top of low RAM", peek(&r, PC_LOW_RAM_MAX, 1), 0xff);
        out(&r, 0x70, 1, 0x5c);
        CHECK("CMOS, above 4 GiB", in(&r, 0x71, 1), (size - PC_LOW_RAM_MAX) >> 24 & 0xff);
        pc_free(r.pc);
    }
    free(r.ram);
}

static void e820(void)
{
    static const uint64_t sizes[] = {PC_MIN_RAM, RAM_SIZE, 1ull << 30, PC_LOW_RAM_MAX, 1ull << 32, 1ull << 35};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct pc_e820 map[PC_E820_MAX];
        unsigned count = pc_e820(sizes[i], map);
        uint64_t ram = 0;
        for (unsigned n = 0; n < count; n++) {
            ram += map[n].type == 1 ? map[n].size : 0;
            CHECK("sorted and apart", n == 0 || map[n - 1].base + map[n - 1].size <= map[n].base, 1);
        }
        CHECK("RAM but for EBDA, hole and BIOS", ram, sizes[i] - (PC_TABLES_END - PC_EBDA));
    }
}

static void resets(void)
{
    static const struct { const char *name; uint16_t port; uint8_t first, second; } ways[] = {
        {"cf9", 0xcf9, 2, 6}, {"port 92", 0x92, 2, 3}, {"i8042", 0x64, 0xff, 0xfe},
    };
    for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct rig r;
        if (!setup(&r))
            return;
        out(&r, ways[i].port, 1, ways[i].first);
        CHECK(ways[i].name, r.reset.level, 0);
        out(&r, ways[i].port, 1, ways[i].second);
        CHECK(ways[i].name, r.reset.level, 1);
        pc_reset(r.pc);
        teardown(&r);
    }
}

static void small_ports(void)
{
    struct rig r;
    if (!setup(&r))
        return;
    out(&r, 0xe9, 1, '!');
    CHECK("debug console", r.debug.text[0] == '!' && r.debug.size == 1, 1);
    out(&r, 0x501, 4, 0x10);
    CHECK("debug exit", r.exit_status, 0x21);
    CHECK("no device", in(&r, 0x1234, 4), ~0u);
    out(&r, 0xcf8, 4, pci_address(0, 0, 0));
    CHECK("host bridge", in(&r, 0xcfc, 4), 0x12378086);
    out(&r, 0x510, 2, 0);
    CHECK("fw_cfg", in(&r, 0x511, 1), 'Q');
    CHECK("fw_cfg", in(&r, 0x511, 1), 'E');
    out(&r, 0x510, 2, 3);
    CHECK("fw_cfg RAM size, byte 3", (in(&r, 0x511, 1), in(&r, 0x511, 1), in(&r, 0x511, 1), in(&r, 0x511, 1)), RAM_SIZE >> 24);
    out(&r, 0x70, 1, 0x34);
    CHECK("CMOS, above 16 MiB", in(&r, 0x71, 1), 0);
    out(&r, 0x70, 1, 0x18);
    CHECK("CMOS, extended KiB", in(&r, 0x71, 1), ((RAM_SIZE >> 10) - 1024) >> 8);
    out(&r, 0x61, 1, 1);
    out(&r, 0x43, 1, 0xb0);
    out(&r, 0x42, 1, 100);
    out(&r, 0x42, 1, 0);
    CHECK("counter 2 counts", in(&r, 0x61, 1) & 0x20, 0);
    advance(&r.clock, 100000);
    CHECK("counter 2 done", in(&r, 0x61, 1) & 0x20, 0x20);
    teardown(&r);
}

static void pm_moves(void)
{
    struct rig r;
    if (!setup(&r))
        return;
    CHECK("PM1 control", in(&r, PC_PM_BASE + 4, 2), 1);
    out(&r, 0xcf8, 4, pci_address(1, 3, 0x40));
    CHECK("PMBA", in(&r, 0xcfc, 4), PC_PM_BASE | 1);
    out(&r, 0xcfc, 4, 0xb000);
    CHECK("moved", in(&r, 0xb004, 2), 1);
    CHECK("and left", in(&r, PC_PM_BASE + 4, 2), 0xffff);
    out(&r, 0xcf8, 4, pci_address(1, 3, 0x80));
    out(&r, 0xcfc, 1, 0);
    CHECK("disabled", in(&r, 0xb004, 2), 0xffff);
    pc_reset(r.pc);
    CHECK("back after reset", in(&r, PC_PM_BASE + 4, 2), 1);
    teardown(&r);
}

static void bad_configs(void)
{
    static const uint64_t sizes[] = {0, 0x1000, PC_MIN_RAM - 0x1000, PC_MIN_RAM + 1, 1ull << 40};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct rig r = {.clock = FAKE_CLOCK};
        struct pc_config c = config_of(&r, sizes[i]);
        char error[200] = "";
        CHECK("refused", pc_new(&c, error, sizeof error) == NULL, 1);
        CHECK("says why", strncmp(error, "RAM of ", 7), 0);
    }
}

/* Everything at once: random accesses to every port and device page of the machine. */
static void storms(void)
{
    struct rig r;
    uint32_t x = 88172645;
    if (!setup(&r))
        return;
    static const uint64_t pages[] = {PC_LAPIC, PC_IOAPIC, PC_HPET, 0x9f000, PC_LAPIC - 4};
    for (unsigned i = 0; i < 300000; i++) {
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        unsigned size = 1u << (x & 3);
        if (x & 4)
            out(&r, x >> 10 & (x & 8 ? 0xfff : 0xffff), size & 7 ? size : 4, x * 2654435761u);
        else if (x & 16)
            poke(&r, pages[(x >> 5) % 5] + (x >> 10 & 0x7ff), size, x * 2654435761u);
        else
            (void)in(&r, x >> 10 & 0xfff, size & 7 ? size : 4);
        if (!(x & 0xf00))
            r.clock.ns += x & 0xfffff, clock_run_alarms(&r.clock.clock);
        if (!(x & 0x7000))
            (void)pc_interrupt_take(r.pc);
        if (!(x & 0x3ff000))
            pc_reset(r.pc);
    }
    passed++;
    teardown(&r);
}

/* What the monitor shows, and the exit port where -device puts it. */
static void shown(void)
{
    struct rig r = {.clock = FAKE_CLOCK, .ram = calloc(1, RAM_SIZE), .exit_status = -1};
    struct pc_config c = config_of(&r, RAM_SIZE);
    char error[200], *text = NULL;
    size_t size = 0;
    c.debug_exit_port = 0xf4;
    c.debug_exit_size = 4;
    r.pc = pc_new(&c, error, sizeof error);
    if (!CHECK("pc_new", r.pc != NULL, 1))
        return;
    out(&r, 0x501, 1, 1);
    CHECK("nothing where it is by default", r.exit_status, -1);
    out(&r, 0xf4, 1, 0x10);
    CHECK("exit port", r.exit_status, 0x21);
    program_pic(&r);
    out(&r, 0x21, 1, 0xef);
    out(&r, 0x3f8 + 4, 1, 8);
    out(&r, 0x3f8 + 1, 1, 2); /* the empty transmitter interrupts */
    FILE *f = open_memstream(&text, &size);
    pc_print_pic(r.pc, f);
    pc_print_irq(r.pc, f);
    fclose(f);
    CHECK("pic0", strstr(text, "pic0: irr=10 imr=ef isr=00 hprio=0 irq_base=20") != NULL, 1);
    CHECK("ioapic", strstr(text, "pin 4 ") != NULL, 1);
    CHECK("lapic", strstr(text, "LVT LINT0   0x00000700") != NULL, 1);
    CHECK("irq", strstr(text, " 4: 1\n") != NULL, 1);
    free(text);
    teardown(&r);
}

int main(void)
{
    shown();
    uart_to_pic();
    timer_to_both();
    hpet_to_pic();
    level_to_ioapic();
    isa_pins();
    memory_map();
    high_memory();
    e820();
    resets();
    small_ports();
    pm_moves();
    bad_configs();
    storms();
    return report();
}
