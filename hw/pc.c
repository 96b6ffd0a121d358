/* The PC (i440FX, PIIX): makes the devices, puts them at their ports and addresses, and runs wires between them.
 * No firmware runs in it, so pc_reset also leaves what firmware would have left (PIC, virtual wire, PCI routing). */
#include "hw/pc.h"
#include <inttypes.h>
#include <stdlib.h>

#define MAX_DEVICES 24
enum { IRQ_TIMER = 0, IRQ_KEYBOARD = 1, IRQ_COM2 = 3, IRQ_COM1 = 4, IRQ_RTC = 8, IRQ_MOUSE = 12, IRQ_FPU = 13 };
enum { IOAPIC_TIMER_PIN = 2 };
enum { HPET_CONFIG = 0x10, HPET_LEGACY = 2 };
enum { WIRE_DEVICE = 1, WIRE_PIRQ = 2, WIRE_SCI = 4 }; /* who may pull an ISA IRQ; it is high while anyone does */
enum { FW_RAM_SIZE = 3, FW_NB_CPUS = 5, FW_KERNEL_ADDRESS = 7, FW_KERNEL_SIZE = 8, FW_INITRD_ADDRESS = 0xa, FW_INITRD_SIZE = 0xb,
       FW_MAX_CPUS = 0xf, FW_KERNEL_DATA = 0x11, FW_INITRD_DATA = 0x12, FW_CMDLINE_ADDRESS = 0x13, FW_CMDLINE_SIZE = 0x14,
       FW_CMDLINE_DATA = 0x15, FW_SETUP_ADDRESS = 0x16, FW_SETUP_SIZE = 0x17, FW_SETUP_DATA = 0x18 };

struct pc {
    struct pc_config config;
    struct address_space memory, io;
    struct device *devices[MAX_DEVICES]; unsigned device_count; /* all of them, in order of making */
    struct device *lapic, *ioapic, *pic, *pit, *rtc, *hpet, *pm, *pci, *keyboard, *portf0, *fwcfg, *serial[2];
    uint8_t wires[16];             /* by ISA IRQ: bits of WIRE_ */
    uint64_t rises[16];            /* by ISA IRQ, for `info irq` */
    uint64_t lapic_at, pm_at;      /* where they are mapped; UNMAPPED: nowhere */
    bool failed;                   /* something could not be made */
    void (*line)(void *ctx, int pin, int level); void *line_ctx; /* of who has the interrupt controllers; NULL: they are here */
};
#define UNMAPPED (~0ull)

/* --- Interrupt wires */
static void isa_set(struct pc *pc, int irq, uint8_t wire, int level)
{
    uint8_t *wires = &pc->wires[irq & 15];
    bool before = *wires;
    pc->rises[irq & 15] += level && !*wires;
    *wires = (uint8_t)(level ? *wires | wire : *wires & ~wire);
    if (pc->line && before != (*wires != 0))
        pc->line(pc->line_ctx, irq, *wires != 0);
    pic_set_irq(pc->pic, irq, *wires != 0);
    ioapic_set_irq(pc->ioapic, irq == IRQ_TIMER ? IOAPIC_TIMER_PIN : irq, *wires != 0);
}
static void device_wire(void *ctx, int irq, int level) { isa_set(ctx, irq, WIRE_DEVICE, level); }
static void pirq_wire(void *ctx, int irq, int level) { isa_set(ctx, irq, WIRE_PIRQ, level); }
static void sci_wire(void *ctx, int irq, int level) { isa_set(ctx, irq, WIRE_SCI, level); }

/* With legacy replacement the HPET has IRQ 0 and 8 for itself (IA-PC HPET 2.3.1). */
bool pc_timer_replaced(struct pc *pc) { return pc->hpet && pc->hpet->ops->read(pc->hpet, HPET_CONFIG, 4) & HPET_LEGACY; }

static void timer_wire(void *ctx, int irq, int level)
{
    struct pc *pc = ctx;
    if (!pc_timer_replaced(pc))
        isa_set(pc, irq, WIRE_DEVICE, level);
}
static void ioapic_wire(void *ctx, int pin, int level)
{
    struct pc *pc = ctx;
    if (pc->line)
        pc->line(pc->line_ctx, PC_IOAPIC_LINES + pin, level);
    ioapic_set_irq(pc->ioapic, pin, level);
}
static struct irq_line hpet_route(void *ctx, int pin)
{
    struct pc *pc = ctx;
    if (pin == IRQ_TIMER || pin == IRQ_RTC)
        return (struct irq_line){device_wire, pc, pin};
    return (struct irq_line){ioapic_wire, pc, pin};
}
static struct irq_line isa_irq(struct pc *pc, int irq) { return (struct irq_line){device_wire, pc, irq}; }

int pc_interrupt_take(struct pc *pc)
{
    int vector = lapic_acknowledge(pc->lapic);
    return vector == -2 ? pic_acknowledge(pc->pic) : vector;
}

/* The PIT behind the others, which do nothing more about its line: that ends here, and begins anew where the PIT goes. */
static void timer_take(struct pc *pc, struct pc_controllers *r)
{
    pit_take(pc->pit, &r->pit);
    if (pc->wires[IRQ_TIMER])
        return; /* another's */
    r->pic.chip[0].lines &= (uint8_t)~(1u << IRQ_TIMER);
    r->ioapic.lines &= ~(1u << IOAPIC_TIMER_PIN);
}

void pc_controllers_take(struct pc *pc, bool with_pit, struct pc_controllers *r, void (*line)(void *, int, int), void *ctx)
{
    pic_take(pc->pic, &r->pic);
    ioapic_take(pc->ioapic, &r->ioapic);
    lapic_take(pc->lapic, &r->lapic);
    if ((r->has_pit = with_pit))
        timer_take(pc, r);
    pc->line = line;
    pc->line_ctx = ctx;
}

void pc_controllers_give(struct pc *pc, const struct pc_controllers *r)
{
    pc->line = NULL;
    if (r->has_pit)
        pit_give(pc->pit, &r->pit); /* before the others: the level of its line is no edge */
    lapic_give(pc->lapic, &r->lapic); /* which the others speak to */
    ioapic_give(pc->ioapic, &r->ioapic);
    pic_give(pc->pic, &r->pic);
}

bool pc_ferr(struct pc *pc, bool level) { return portf0_ferr(pc->portf0, level); }

/* --- Places */
static struct device *own(struct pc *pc, struct device *device)
{
    if (!device || pc->device_count == MAX_DEVICES) {
        if (device)
            device->ops->free(device);
        pc->failed = true;
        return NULL;
    }
    return pc->devices[pc->device_count++] = device;
}

static void put_at(struct pc *pc, struct address_space *space, uint64_t base, uint64_t size, struct device *device, uint32_t offset)
{
    if (!device || !space_add_device(space, base, size, device, offset, device->ops->name))
        pc->failed = true;
}
static void ports(struct pc *pc, uint16_t first, unsigned count, struct device *device, uint32_t offset)
{
    put_at(pc, &pc->io, first, count, device, offset);
}

static void move(struct address_space *space, uint64_t *from, uint64_t to, uint64_t size, struct device *device)
{
    if (*from == to)
        return;
    if (*from != UNMAPPED)
        space_remove(space, *from, device);
    *from = UNMAPPED;
    if (to != UNMAPPED && space_add_device(space, to, size, device, 0, device->ops->name))
        *from = to;
}

static void pm_moved(void *ctx, uint16_t base, bool enabled)
{
    struct pc *pc = ctx;
    move(&pc->io, &pc->pm_at, enabled ? base : UNMAPPED, 64, pc->pm);
}

static void lapic_moved(void *ctx, uint64_t apic_base)
{
    enum { ENABLE = 1 << 11 };
    struct pc *pc = ctx;
    move(&pc->memory, &pc->lapic_at, apic_base & ENABLE ? apic_base & ~0xfffull : UNMAPPED, 0x1000, pc->lapic);
}

static void ram(struct pc *pc, uint64_t base, uint64_t size, uint64_t offset, const char *name)
{
    if (size && !space_add_memory(&pc->memory, REGION_RAM, base, size, pc->config.ram + offset, name))
        pc->failed = true;
}

static void add_ram(struct pc *pc)
{
    uint64_t low = pc_low_ram(pc->config.ram_size);
    ram(pc, PC_HIGH_RAM, pc_high_ram(pc->config.ram_size), PC_LOW_RAM_MAX, "ram above 4 GiB");
    ram(pc, 0, PC_HOLE, 0, "ram below 640 KiB");
    ram(pc, PC_SHADOW, low - PC_SHADOW, PC_SHADOW, "ram");
}

/* --- Devices */
static void add_interrupt_controllers(struct pc *pc)
{
    const struct pc_config *c = &pc->config;
    pc->lapic = own(pc, lapic_new(c->clock, 0, c->cpu_interrupt));
    if (!pc->lapic)
        return;
    lapic_on_nmi(pc->lapic, c->cpu_nmi, c->cpu_init, (struct irq_line){0} /* one CPU: nobody waits for a SIPI */);
    lapic_on_base(pc->lapic, lapic_moved, pc);
    lapic_moved(pc, lapic_base(pc->lapic));
    if (c->tsc_to_ns)
        lapic_tsc_scale(pc->lapic, c->tsc_to_ns, c->tsc_ctx);
    pc->ioapic = own(pc, ioapic_new(pc->lapic, 0));
    put_at(pc, &pc->memory, PC_IOAPIC, 0x1000, pc->ioapic, 0);
    pc->pic = own(pc, pic_new((struct irq_line){lapic_set_lint, pc->lapic, 0}));
    ports(pc, 0x20, 2, pc->pic, 0);
    ports(pc, 0xa0, 2, pc->pic, 2);
    ports(pc, 0x4d0, 2, pc->pic, 4);
}

static void add_timers(struct pc *pc)
{
    struct clock *clock = pc->config.clock;
    time_t now = pc->config.start_time ? (time_t)pc->config.start_time : time(NULL);
    struct tm start;
    if (pc->failed)
        return; /* what follows pulls wires as soon as it is made */
    gmtime_r(&now, &start);
    pc->pit = own(pc, pit_new(clock, (struct irq_line){timer_wire, pc, IRQ_TIMER}));
    ports(pc, 0x40, 4, pc->pit, 0);
    if (pc->pit)
        ports(pc, 0x61, 1, own(pc, port61_new(clock, pc->pit)), 0);
    pc->rtc = own(pc, rtc_new(clock, (struct irq_line){timer_wire, pc, IRQ_RTC}, &start));
    ports(pc, 0x70, 2, pc->rtc, 0);
    pc->hpet = own(pc, hpet_new(clock, hpet_route, pc));
    put_at(pc, &pc->memory, PC_HPET, 0x400, pc->hpet, 0);
}

static void add_isa_devices(struct pc *pc)
{
    static const struct { uint16_t port; uint8_t irq; } uarts[2] = {{0x3f8, IRQ_COM1}, {0x2f8, IRQ_COM2}};
    const struct pc_config *c = &pc->config;
    const struct irq_line a20 = c->cpu_a20; /* the last that was written to counts, as on QEMU's pc */
    if (pc->failed)
        return;
    for (unsigned i = 0; i < 2; i++) {
        pc->serial[i] = own(pc, uart_new(c->clock, isa_irq(pc, uarts[i].irq), c->serial[i]));
        ports(pc, uarts[i].port, 8, pc->serial[i], 0);
    }
    pc->keyboard = own(pc, i8042_new(isa_irq(pc, IRQ_KEYBOARD), isa_irq(pc, IRQ_MOUSE), c->reset_request, a20));
    ports(pc, 0x60, 1, pc->keyboard, 0);
    ports(pc, 0x64, 1, pc->keyboard, 4);
    ports(pc, 0x92, 1, own(pc, port92_new(c->reset_request, a20)), 0);
    pc->portf0 = own(pc, portf0_new(isa_irq(pc, IRQ_FPU)));
    ports(pc, 0xf0, 2, pc->portf0, 0);
    ports(pc, 0xe9, 1, own(pc, debugcon_new(c->debug_console)), 0);
    if (c->debug_exit_size)
        ports(pc, c->debug_exit_port, c->debug_exit_size, own(pc, debugexit_new(c->debug_exit, c->debug_exit_ctx)), 0);
}

static void add_chipset(struct pc *pc)
{
    const struct pc_config *c = &pc->config;
    if (pc->failed)
        return;
    pc->pm = own(pc, acpi_pm_new(c->clock, (struct irq_line){sci_wire, pc, PC_SCI}, c->shutdown_request, (struct irq_line){0} /* no S3 */));
    pc->pci = own(pc, pci_host_new(&pc->memory, &pc->io));
    ports(pc, 0xcf8, 8, pc->pci, 0);
    ports(pc, 0xcf9, 1, own(pc, portcf9_new(c->reset_request)), 0); /* lies over the host bridge's second port */
    if (pc->failed)
        return;
    pci_host_pirq(pc->pci, pirq_wire, pc);
    pci_host_pm(pc->pci, pm_moved, pc);
}

/* --- fw_cfg (keys and files as QEMU's) */
static void item(struct pc *pc, uint16_t key, const void *bytes, size_t size)
{
    if (!pc->failed && !fwcfg_add(pc->fwcfg, key, bytes, size))
        pc->failed = true;
}
static void item_number(struct pc *pc, uint16_t key, uint64_t value, unsigned size) { item(pc, key, &value, size); }
static void file(struct pc *pc, const char *name, const void *bytes, size_t size)
{
    if (!pc->failed && !fwcfg_add_file(pc->fwcfg, name, bytes, size))
        pc->failed = true;
}

/* Size of a bzImage's real-mode part, 0 where it is none. */
static size_t setup_size(const uint8_t *kernel, size_t size)
{
    if (size < 0x260 || memcmp(kernel + 0x202, "HdrS", 4))
        return 0;
    size_t sectors = kernel[0x1f1] ? kernel[0x1f1] : 4, setup = (sectors + 1) * 512;
    return setup < size ? setup : 0;
}

static void add_kernel_items(struct pc *pc)
{
    const struct pc_config *c = &pc->config;
    size_t setup = setup_size(c->kernel.bytes, c->kernel.size), cmdline = c->cmdline ? strlen(c->cmdline) + 1 : 0;
    uint64_t initrd_at = (pc_low_ram(c->ram_size) - c->initrd.size) & ~0xfffull;
    item_number(pc, FW_KERNEL_ADDRESS, 0x100000, 4);
    item_number(pc, FW_KERNEL_SIZE, c->kernel.size - setup, 4);
    item(pc, FW_KERNEL_DATA, c->kernel.bytes + setup, c->kernel.size - setup);
    item_number(pc, FW_SETUP_ADDRESS, 0x10000, 4);
    item_number(pc, FW_SETUP_SIZE, setup, 4);
    item(pc, FW_SETUP_DATA, c->kernel.bytes, setup);
    item_number(pc, FW_CMDLINE_ADDRESS, 0x20000, 4);
    item_number(pc, FW_CMDLINE_SIZE, cmdline, 4);
    item(pc, FW_CMDLINE_DATA, c->cmdline, cmdline);
    item_number(pc, FW_INITRD_ADDRESS, c->initrd.size && c->initrd.size < pc_low_ram(c->ram_size) ? initrd_at : 0, 4);
    item_number(pc, FW_INITRD_SIZE, c->initrd.size, 4);
    item(pc, FW_INITRD_DATA, c->initrd.bytes, c->initrd.size);
}

static void add_fwcfg(struct pc *pc)
{
    uint64_t low = pc_low_ram(pc->config.ram_size), high = pc_high_ram(pc->config.ram_size);
    const struct pc_e820 map[2] = {{0, low, 1}, {PC_HIGH_RAM, high, 1}};
    if (pc->failed)
        return;
    pc->fwcfg = own(pc, fwcfg_new());
    ports(pc, 0x510, 12, pc->fwcfg, 0);
    if (!pc->fwcfg)
        return;
    fwcfg_dma_memory(pc->fwcfg, &pc->memory);
    item_number(pc, FW_RAM_SIZE, pc->config.ram_size, 8);
    item_number(pc, FW_NB_CPUS, 1, 2);
    item_number(pc, FW_MAX_CPUS, 1, 2);
    file(pc, "etc/e820", map, (high ? 2 : 1) * sizeof map[0]);
    file(pc, "bootorder", "", 1);
    if (pc->config.kernel.bytes)
        add_kernel_items(pc);
}

/* --- What firmware would leave */
static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* Memory sizes where a BIOS looks for them: KiB below 640 KiB and above 1 MiB, 64 KiB above 16 MiB and above 4 GiB. */
static void fill_cmos(struct pc *pc)
{
    uint64_t low = pc_low_ram(pc->config.ram_size), kib = least((low - 0x100000) >> 10, 0xffff);
    uint64_t over_16m = low > 0x1000000 ? least((low - 0x1000000) >> 16, 0xffff) : 0;
    const struct { uint8_t index, size; uint64_t value; } values[] = {
        {0x14, 1, 0x06},                 /* equipment: FPU, PS/2 mouse */
        {0x15, 2, 640}, {0x17, 2, kib}, {0x30, 2, kib}, {0x34, 2, over_16m}, {0x5b, 3, pc_high_ram(pc->config.ram_size) >> 16},
    };
    for (unsigned i = 0; i < sizeof values / sizeof *values; i++)
        for (unsigned n = 0; n < values[i].size; n++)
            rtc_set_cmos(pc->rtc, values[i].index + n, (uint8_t)(values[i].value >> 8 * n));
}

static void firmware_setup(struct pc *pc)
{
    static const struct { uint16_t port; uint8_t value; } writes[] = {
        {0x20, 0x11}, {0x21, 0x08}, {0x21, 0x04}, {0x21, 0x01}, {0x21, 0xff}, /* PICs: vectors 8 and 70h, all masked */
        {0xa0, 0x11}, {0xa1, 0x70}, {0xa1, 0x02}, {0xa1, 0x01}, {0xa1, 0xff},
        {0x4d1, 0x0c},                                                         /* IRQ 10 and 11, from PCI, are levels */
    };
    static const struct { uint16_t at; uint32_t value; } apic[] = { /* virtual wire mode (MP specification 3.6.2.2) */
        {0x0f0, 0x1ff}, {0x350, 0x700 /* LINT0: ExtINT */}, {0x360, 0x400 /* LINT1: NMI */},
    };
    for (unsigned i = 0; i < sizeof writes / sizeof *writes; i++)
        space_write(&pc->io, writes[i].port, 1, writes[i].value);
    for (unsigned i = 0; i < sizeof apic / sizeof *apic; i++)
        pc->lapic->ops->write(pc->lapic, apic[i].at, 4, apic[i].value);
    pci_firmware_setup(pc->pci);
}

unsigned pc_e820(uint64_t ram_size, struct pc_e820 map[PC_E820_MAX])
{
    enum { RAM = 1, RESERVED = 2 };
    uint64_t low = pc_low_ram(ram_size), high = pc_high_ram(ram_size);
    unsigned n = 0;
    map[n++] = (struct pc_e820){0, PC_EBDA, RAM};
    map[n++] = (struct pc_e820){PC_EBDA, PC_HOLE - PC_EBDA, RESERVED};
    map[n++] = (struct pc_e820){PC_ACPI, PC_TABLES_END - PC_ACPI, RESERVED};
    if (low > PC_TABLES_END)
        map[n++] = (struct pc_e820){PC_TABLES_END, low - PC_TABLES_END, RAM};
    if (high)
        map[n++] = (struct pc_e820){PC_HIGH_RAM, high, RAM};
    return n;
}

/* --- The whole */
static bool config_check(const struct pc_config *c, char *error, size_t size)
{
    if (c->ram_size < PC_MIN_RAM || c->ram_size & 0xfff || c->ram_size > 1ull << 38)
        snprintf(error, size, "RAM of %" PRIu64 " bytes: must be a multiple of 4096 from 1 MiB to 256 GiB", c->ram_size);
    else if (c->kernel.size > UINT32_MAX || c->initrd.size > UINT32_MAX)
        snprintf(error, size, "kernel of %zu and initrd of %zu bytes: each must be below 4 GiB", c->kernel.size, c->initrd.size);
    else
        return true;
    return false;
}

struct pc *pc_new(const struct pc_config *config, char *error, size_t error_size)
{
    if (!config_check(config, error, error_size))
        return NULL;
    struct pc *pc = calloc(1, sizeof *pc);
    if (pc) {
        pc->config = *config;
        pc->lapic_at = pc->pm_at = UNMAPPED;
        add_ram(pc);
        add_interrupt_controllers(pc);
        add_timers(pc);
        add_isa_devices(pc);
        add_chipset(pc);
        add_fwcfg(pc);
    }
    if (!pc || pc->failed) {
        snprintf(error, error_size, "out of memory for the PC's devices");
        pc_free(pc);
        return NULL;
    }
    fill_cmos(pc);
    firmware_setup(pc);
    return pc;
}

/* --- Saved state: the wires, and each device that has some.  Where there are two of a name, the second is name.1. */
static const struct state_field pc_fields[] = {STATE_ARRAY(struct pc, wires, .most = WIRE_DEVICE | WIRE_PIRQ | WIRE_SCI), STATE_ARRAY(struct pc, rises)};
static const struct state_table pc_table = STATE_TABLE(1, pc_fields);

bool pc_part(struct pc *pc, unsigned n, struct pc_part *part)
{
    if (n > pc->device_count)
        return false;
    if (!n) {
        *part = (struct pc_part){"pc", &pc_table, pc};
        return true;
    }
    struct device *device = pc->devices[n - 1];
    unsigned before = 0;
    for (unsigned i = 0; i < n - 1; i++)
        before += !strcmp(pc->devices[i]->ops->name, device->ops->name);
    *part = (struct pc_part){.table = device->ops->state, .object = device};
    snprintf(part->name, sizeof part->name, before ? "%s.%u" : "%s", device->ops->name, before);
    return true;
}

void pc_loaded(struct pc *pc)
{
    for (unsigned i = 0; i < pc->device_count; i++)
        if (pc->devices[i]->ops->loaded)
            pc->devices[i]->ops->loaded(pc->devices[i]);
}

void pc_free(struct pc *pc)
{
    if (!pc)
        return;
    while (pc->device_count) {
        struct device *device = pc->devices[--pc->device_count];
        device->ops->free(device);
    }
    space_free(&pc->memory);
    space_free(&pc->io);
    free(pc);
}

void pc_reset(struct pc *pc)
{
    for (unsigned i = 0; i < pc->device_count; i++)
        pc->devices[i]->ops->reset(pc->devices[i]);
    firmware_setup(pc);
}

struct address_space *pc_memory(struct pc *pc) { return &pc->memory; }
struct address_space *pc_io(struct pc *pc) { return &pc->io; }
struct device *pc_serial(struct pc *pc, unsigned index) { return index < 2 ? pc->serial[index] : NULL; }
struct device *pc_lapic(struct pc *pc) { return pc->lapic; }
struct device *pc_pm(struct pc *pc) { return pc->pm; }
struct device *pc_keyboard(struct pc *pc) { return pc->keyboard; }

/* --- For the monitor */
void pc_print_pic(struct pc *pc, FILE *f)
{
    struct device *const devices[] = {pc->pic, pc->ioapic, pc->lapic};
    for (unsigned i = 0; i < sizeof devices / sizeof *devices; i++)
        devices[i]->ops->print(devices[i], f);
}

void pc_print_irq(struct pc *pc, FILE *f)
{
    fprintf(f, "IRQ statistics:\n");
    for (unsigned i = 0; i < 16; i++)
        if (pc->rises[i])
            fprintf(f, "%2u: %" PRIu64 "\n", i, pc->rises[i]);
}
