/* ACPI tables: RSDP, RSDT, XSDT, FADT, FACS, MADT, HPET and a DSDT whose AML is assembled here, byte by byte, by the
 * small builder below.  They describe what hw/pc.c wires.  Sections named are those of the ACPI specification 6.x. */
#include "hw/pc.h"

/* --- Bytes to a bounded place: `full` is sticky, so that only the end needs a check. */
struct out { uint8_t *base; size_t at, size; bool full; };

static void byte(struct out *o, unsigned value)
{
    if (o->at < o->size)
        o->base[o->at++] = (uint8_t)value;
    else
        o->full = true;
}
static void number(struct out *o, uint64_t value, unsigned size)
{
    while (size--) {
        byte(o, value & 0xff);
        value >>= 8;
    }
}
static void bytes(struct out *o, const void *from, size_t size)
{
    for (size_t i = 0; i < size; i++)
        byte(o, ((const uint8_t *)from)[i]);
}

/* --- AML (20.2).  A package's length is always written in three bytes, so that it can be filled in at its end. */
enum { AML_NAME = 0x08, AML_SCOPE = 0x10, AML_BUFFER = 0x11, AML_PACKAGE = 0x12, AML_METHOD = 0x14, AML_EXT = 0x5b,
       AML_LOCAL0 = 0x60, AML_ARG0 = 0x68, AML_STORE = 0x70, AML_AND = 0x7b, AML_OR = 0x7d, AML_CREATE_DWORD = 0x8a,
       AML_LLESS = 0x95, AML_IF = 0xa0, AML_RETURN = 0xa4,
       AML_EXT_REGION = 0x80, AML_EXT_FIELD = 0x81, AML_EXT_DEVICE = 0x82 };
enum { SERIALIZED = 8 /* method flag */, REGION_PCI_CONFIG = 2, FIELD_BYTE_ACCESS = 1, NO_TARGET = 0 };

static size_t open_package(struct out *o, unsigned op)
{
    byte(o, op);
    number(o, 0, 3);
    return o->at - 3;
}
static void close_package(struct out *o, size_t start)
{
    size_t length = o->at - start;
    if (o->full)
        return;
    o->base[start] = (uint8_t)(0x80 | (length & 15));
    o->base[start + 1] = (uint8_t)(length >> 4);
    o->base[start + 2] = (uint8_t)(length >> 12);
}
static void name(struct out *o, const char *four) { bytes(o, four, 4); }
static void integer(struct out *o, uint32_t value)
{
    if (value <= 1) {
        byte(o, value);
        return;
    }
    unsigned size = value < 0x100 ? 1 : value < 0x10000 ? 2 : 4;
    byte(o, 0x0a + (size > 1) + (size > 2)); /* BytePrefix, WordPrefix, DWordPrefix */
    number(o, value, size);
}
static void string(struct out *o, const char *text)
{
    byte(o, 0x0d);
    bytes(o, text, strlen(text) + 1);
}
static void name_integer(struct out *o, const char *four, uint32_t value)
{
    byte(o, AML_NAME);
    name(o, four);
    integer(o, value);
}
static size_t open_device(struct out *o, const char *four)
{
    byte(o, AML_EXT);
    size_t start = open_package(o, AML_EXT_DEVICE);
    name(o, four);
    return start;
}
static size_t open_method(struct out *o, const char *four, unsigned flags)
{
    size_t start = open_package(o, AML_METHOD);
    name(o, four);
    byte(o, flags);
    return start;
}
/* EISA ID: three letters of 5 bits, four hex digits, big-endian (19.3.4). */
static unsigned hex(char c) { return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'A' + 10); }
static void hid(struct out *o, const char *id)
{
    unsigned letters = (unsigned)(id[0] & 31) << 10 | (unsigned)(id[1] & 31) << 5 | (unsigned)(id[2] & 31);
    uint32_t value = letters << 16 | hex(id[3]) << 12 | hex(id[4]) << 8 | hex(id[5]) << 4 | hex(id[6]);
    name_integer(o, "_HID", __builtin_bswap32(value));
}

/* --- Resource templates (6.4).  Collected in a buffer of their own, since their size stands before them. */
struct resources { uint8_t bytes[256]; struct out out; };
static struct out *resources_begin(struct resources *r)
{
    r->out = (struct out){r->bytes, 0, sizeof r->bytes, false};
    return &r->out;
}
static void resources_end(struct out *o, struct resources *r)
{
    bytes(&r->out, "\x79\0", 2); /* end tag; checksum 0: not checked */
    size_t start = open_package(o, AML_BUFFER);
    integer(o, (uint32_t)r->out.at);
    bytes(o, r->bytes, r->out.at);
    close_package(o, start);
    o->full |= r->out.full;
}
static void port_resource(struct out *o, unsigned base, unsigned size)
{
    bytes(o, "\x47\x01", 2); /* decodes 16 bits */
    number(o, base, 2);
    number(o, base, 2);
    byte(o, 1);
    byte(o, size);
}
static void irq_resource(struct out *o, unsigned irq)
{
    byte(o, 0x22);
    number(o, 1u << irq, 2);
}
static void memory_resource(struct out *o, uint32_t base, uint32_t size, bool writable)
{
    byte(o, 0x86);
    number(o, 9, 2);
    byte(o, writable);
    number(o, base, 4);
    number(o, size, 4);
}
enum { WINDOW_MEMORY, WINDOW_IO, WINDOW_BUS };
static void window_resource(struct out *o, unsigned type, uint32_t first, uint32_t last)
{
    static const uint8_t type_flags[] = {[WINDOW_MEMORY] = 1 /* writable */, [WINDOW_IO] = 3 /* all of it */, [WINDOW_BUS] = 0};
    unsigned size = type == WINDOW_MEMORY ? 4 : 2;
    byte(o, size == 4 ? 0x87 : 0x88);
    number(o, 3 + 5 * size, 2);
    byte(o, type);
    byte(o, 0x0c); /* its bounds are fixed; a producer: what lies in it goes to the bus behind */
    byte(o, type_flags[type]);
    number(o, 0, size);
    number(o, first, size);
    number(o, last, size);
    number(o, 0, size);
    number(o, last - first + 1, size);
}
static void interrupt_resource(struct out *o, const uint8_t *irqs, unsigned count)
{
    byte(o, 0x89);
    number(o, 2 + 4 * count, 2);
    byte(o, 0x09); /* consumer, level, active high, shared */
    byte(o, count);
    for (unsigned i = 0; i < count; i++)
        number(o, irqs[i], 4);
}
enum { INTERRUPT_NUMBER_AT = 5 }; /* of the first one in interrupt_resource */

/* --- The namespace */
static void add_s5(struct out *o)
{
    byte(o, AML_NAME);
    name(o, "_S5_");
    size_t start = open_package(o, AML_PACKAGE);
    byte(o, 4);
    for (unsigned i = 0; i < 4; i++)
        integer(o, 0); /* SLP_TYP of PM1a and PM1b; reserved */
    close_package(o, start);
}

static void add_host_resources(struct out *o)
{
    struct resources r;
    struct out *t = resources_begin(&r);
    window_resource(t, WINDOW_BUS, 0, 0xff);
    port_resource(t, 0xcf8, 8);
    window_resource(t, WINDOW_IO, 0, 0xcf7);
    window_resource(t, WINDOW_IO, 0xd00, 0xffff);
    window_resource(t, WINDOW_MEMORY, PC_HOLE, PC_SHADOW - 1);
    window_resource(t, WINDOW_MEMORY, PC_PCI_WINDOW, PC_PCI_WINDOW_END - 1);
    byte(o, AML_NAME);
    name(o, "_CRS");
    resources_end(o, &r);
}

static const char *const links[4] = {"LNKA", "LNKB", "LNKC", "LNKD"};
static const char *const pirq_fields[4] = {"PRQ0", "PRQ1", "PRQ2", "PRQ3"};

/* Pin p of device d is wired to PIRQ (d + p - 1) mod 4, as on the 440FX boards that QEMU copies; the PM function's
 * interrupt is SCI, which is not a PIRQ. */
static void add_prt(struct out *o)
{
    byte(o, AML_NAME);
    name(o, "_PRT");
    size_t table = open_package(o, AML_PACKAGE);
    byte(o, 31 * 4);
    for (unsigned device = 1; device < 32; device++)
        for (unsigned pin = 0; pin < 4; pin++) {
            size_t row = open_package(o, AML_PACKAGE);
            byte(o, 4);
            integer(o, device << 16 | 0xffff);
            integer(o, pin);
            name(o, links[(device + pin - 1) & 3]);
            integer(o, 0);
            close_package(o, row);
        }
    close_package(o, table);
}

/* PIRQ route registers of the ISA bridge: OperationRegion (PCI configuration 60-63), four fields. */
static void add_pirq_fields(struct out *o)
{
    byte(o, AML_EXT);
    byte(o, AML_EXT_REGION);
    name(o, "PIRQ");
    byte(o, REGION_PCI_CONFIG);
    integer(o, 0x60);
    integer(o, 4);
    byte(o, AML_EXT);
    size_t start = open_package(o, AML_EXT_FIELD);
    name(o, "PIRQ");
    byte(o, FIELD_BYTE_ACCESS);
    for (unsigned i = 0; i < 4; i++) {
        name(o, pirq_fields[i]);
        byte(o, 8);
    }
    close_package(o, start);
}

static void pirq_field(struct out *o, unsigned link)
{
    bytes(o, "\x5c\x2f\4_SB_PCI0ISA_", 15);
    name(o, pirq_fields[link]);
}

/* IQCR(route): the resource template for a PIRQ route register's value. */
static void add_current_method(struct out *o)
{
    struct resources r;
    static const uint8_t none[1] = {0};
    interrupt_resource(resources_begin(&r), none, 1);
    size_t method = open_method(o, "IQCR", 1 | SERIALIZED);
    byte(o, AML_NAME);
    name(o, "PRR0");
    resources_end(o, &r);
    byte(o, AML_CREATE_DWORD);
    name(o, "PRR0");
    integer(o, INTERRUPT_NUMBER_AT);
    name(o, "PRRI");
    size_t branch = open_package(o, AML_IF);
    byte(o, AML_LLESS);
    byte(o, AML_ARG0);
    integer(o, 0x80);
    byte(o, AML_STORE);
    byte(o, AML_ARG0);
    name(o, "PRRI");
    close_package(o, branch);
    byte(o, AML_RETURN);
    name(o, "PRR0");
    close_package(o, method);
}

static void add_link_status(struct out *o, unsigned link)
{
    size_t method = open_method(o, "_STA", 0);
    size_t branch = open_package(o, AML_IF);
    byte(o, AML_AND);
    pirq_field(o, link);
    integer(o, 0x80);
    byte(o, NO_TARGET);
    byte(o, AML_RETURN);
    integer(o, 0x09); /* present, works, not enabled */
    close_package(o, branch);
    byte(o, AML_RETURN);
    integer(o, 0x0b);
    close_package(o, method);
}

static void add_link_disable(struct out *o, unsigned link)
{
    size_t method = open_method(o, "_DIS", 0);
    byte(o, AML_OR);
    pirq_field(o, link);
    integer(o, 0x80);
    pirq_field(o, link);
    close_package(o, method);
}

static void add_link_current(struct out *o, unsigned link)
{
    size_t method = open_method(o, "_CRS", 0);
    byte(o, AML_RETURN);
    name(o, "IQCR");
    pirq_field(o, link);
    close_package(o, method);
}

static void add_link_set(struct out *o, unsigned link)
{
    size_t method = open_method(o, "_SRS", 1);
    byte(o, AML_CREATE_DWORD);
    byte(o, AML_ARG0);
    integer(o, INTERRUPT_NUMBER_AT);
    name(o, "PRRI");
    byte(o, AML_STORE);
    name(o, "PRRI");
    pirq_field(o, link);
    close_package(o, method);
}

static void add_link(struct out *o, unsigned link)
{
    static const uint8_t possible[] = {5, 10, 11};
    struct resources r;
    size_t device = open_device(o, links[link]);
    hid(o, "PNP0C0F");
    name_integer(o, "_UID", link);
    interrupt_resource(resources_begin(&r), possible, sizeof possible);
    byte(o, AML_NAME);
    name(o, "_PRS");
    resources_end(o, &r);
    add_link_status(o, link);
    add_link_disable(o, link);
    add_link_current(o, link);
    add_link_set(o, link);
    close_package(o, device);
}

/* Devices with fixed ports and IRQs. */
static const struct isa_device {
    const char *name, *hid; uint8_t uid; struct { uint16_t base; uint8_t size; } ports[3]; int8_t irq;
} isa_devices[] = {
    {"RTC_", "PNP0B00", 0, {{0x70, 2}}, 8},
    {"KBD_", "PNP0303", 0, {{0x60, 1}, {0x64, 1}}, 1},
    {"MOU_", "PNP0F13", 0, {{0}}, 12},
    {"COM1", "PNP0501", 1, {{0x3f8, 8}}, 4},
    {"COM2", "PNP0501", 2, {{0x2f8, 8}}, 3},
    {"SPKR", "PNP0800", 0, {{0x61, 1}}, -1},
};

static void add_isa_device(struct out *o, const struct isa_device *d)
{
    struct resources r;
    struct out *t = resources_begin(&r);
    size_t device = open_device(o, d->name);
    hid(o, d->hid);
    if (d->uid)
        name_integer(o, "_UID", d->uid);
    for (unsigned i = 0; d->ports[i].size; i++)
        port_resource(t, d->ports[i].base, d->ports[i].size);
    if (d->irq >= 0)
        irq_resource(t, (unsigned)d->irq);
    byte(o, AML_NAME);
    name(o, "_CRS");
    resources_end(o, &r);
    close_package(o, device);
}

static void add_isa_bridge(struct out *o)
{
    size_t device = open_device(o, "ISA_");
    name_integer(o, "_ADR", 1 << 16);
    add_pirq_fields(o);
    for (unsigned i = 0; i < sizeof isa_devices / sizeof *isa_devices; i++)
        add_isa_device(o, &isa_devices[i]);
    close_package(o, device);
}

static void add_host_bridge(struct out *o)
{
    size_t device = open_device(o, "PCI0");
    hid(o, "PNP0A03");
    name_integer(o, "_UID", 0);
    add_host_resources(o);
    add_isa_bridge(o);
    add_current_method(o);
    for (unsigned i = 0; i < 4; i++)
        add_link(o, i);
    add_prt(o);
    close_package(o, device);
}

static void add_hpet(struct out *o)
{
    struct resources r;
    size_t device = open_device(o, "HPET");
    hid(o, "PNP0103");
    name_integer(o, "_UID", 0);
    memory_resource(resources_begin(&r), PC_HPET, 0x400, false);
    byte(o, AML_NAME);
    name(o, "_CRS");
    resources_end(o, &r);
    close_package(o, device);
}

/* Ports that no other device names, so that nobody else is put there; fw_cfg by the HID that drivers know. */
static void add_board(struct out *o)
{
    struct resources r;
    size_t device = open_device(o, "FWCF");
    byte(o, AML_NAME);
    name(o, "_HID");
    string(o, "QEMU0002");
    name_integer(o, "_STA", 0x0b);
    port_resource(resources_begin(&r), 0x510, 12);
    byte(o, AML_NAME);
    name(o, "_CRS");
    resources_end(o, &r);
    close_package(o, device);
    device = open_device(o, "MBRD");
    hid(o, "PNP0C02");
    name_integer(o, "_UID", 1);
    port_resource(resources_begin(&r), PC_PM_BASE, 64);
    byte(o, AML_NAME);
    name(o, "_CRS");
    resources_end(o, &r);
    close_package(o, device);
}

static void dsdt(struct out *o)
{
    size_t scope = open_package(o, AML_SCOPE);
    bytes(o, "\x5c_SB_", 5);
    add_host_bridge(o);
    add_hpet(o);
    add_board(o);
    close_package(o, scope);
    add_s5(o);
}

/* --- Tables (5.2) */
enum { HEADER = 36, HEADER_LENGTH = 4, HEADER_CHECKSUM = 9 };
#define OEM_ID "TIERCE"

static size_t open_table(struct out *o, const char *signature, unsigned revision)
{
    while (o->at & 63 && !o->full) /* FACS needs 64; harmless for the others */
        byte(o, 0);
    size_t start = o->at;
    bytes(o, signature, 4);
    number(o, 0, 4);
    byte(o, revision);
    byte(o, 0);
    bytes(o, OEM_ID, 6);
    bytes(o, "TIERCEPC", 8);
    number(o, 1, 4);
    bytes(o, "TRCE", 4);
    number(o, 1, 4);
    return start;
}
static uint32_t close_table(struct out *o, size_t start)
{
    if (!o->full) {
        put32(o->base + start + HEADER_LENGTH, (uint32_t)(o->at - start));
        o->base[start + HEADER_CHECKSUM] = checksum8(o->base + start, o->at - start);
    }
    return (uint32_t)(PC_ACPI + start);
}

static uint32_t add_facs(struct out *o)
{
    while (o->at & 63 && !o->full)
        byte(o, 0);
    size_t start = o->at;
    bytes(o, "FACS", 4);
    number(o, 64, 4);
    for (unsigned i = 8; i < 64; i++)
        byte(o, i == 32); /* version 1 */
    return (uint32_t)(PC_ACPI + start);
}

static uint32_t add_dsdt(struct out *o)
{
    size_t start = open_table(o, "DSDT", 2);
    dsdt(o);
    return close_table(o, start);
}

/* A generic address structure (5.2.3.2): space 0 memory, 1 ports. */
static void address(struct out *o, unsigned space, unsigned bits, uint64_t at)
{
    byte(o, space);
    byte(o, bits);
    byte(o, 0);
    byte(o, bits == 16 ? 2 : bits == 32 ? 3 : bits == 8 ? 1 : 0);
    number(o, at, 8);
}
static void no_address(struct out *o) { number(o, 0, 8); number(o, 0, 4); }

enum { FADT_WBINVD = 1 << 0, FADT_PROC_C1 = 1 << 2, FADT_NO_SLEEP_BUTTON = 1 << 5, FADT_FIX_RTC = 1 << 6, FADT_RESET_REG = 1 << 10 };
enum { BOOT_LEGACY_DEVICES = 1, BOOT_8042 = 2, BOOT_NO_VGA = 4 };

static uint32_t add_fadt(struct out *o, uint32_t facs, uint32_t dsdt_at)
{
    size_t start = open_table(o, "FACP", 3);
    number(o, facs, 4);
    number(o, dsdt_at, 4);
    number(o, 0, 2);                           /* reserved; profile: unspecified */
    number(o, PC_SCI, 2);
    number(o, 0, 4);                           /* SMI_CMD 0: ACPI mode is always on (there is no SMM) */
    number(o, 0, 4);                           /* ACPI_ENABLE, ACPI_DISABLE, S4BIOS_REQ, PSTATE_CNT */
    number(o, PC_PM_BASE, 4);                  /* PM1a event */
    number(o, 0, 4);
    number(o, PC_PM_BASE + 4, 4);              /* PM1a control */
    number(o, 0, 8);                           /* PM1b, PM2 control */
    number(o, PC_PM_BASE + 8, 4);              /* PM timer */
    number(o, 0, 8);                           /* GPE0, GPE1: none */
    bytes(o, "\4\2\0\4\0\0\0\0", 8);           /* lengths of PM1 event, PM1 control, PM2, PM timer, GPE0, GPE1; base; CST */
    number(o, 0xfff, 2);                       /* C2, C3 latency: not supported */
    number(o, 0xfff, 2);
    number(o, 0, 8);                           /* flush size and stride, duty, alarms' days and months */
    byte(o, 0x32);                             /* CMOS century */
    number(o, BOOT_LEGACY_DEVICES | BOOT_8042 | BOOT_NO_VGA, 2);
    byte(o, 0);
    number(o, FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLEEP_BUTTON | FADT_FIX_RTC | FADT_RESET_REG, 4);
    address(o, 1, 8, 0xcf9);
    number(o, 6, 4);                           /* reset value; reserved */
    number(o, facs, 8);
    number(o, dsdt_at, 8);
    address(o, 1, 32, PC_PM_BASE);
    no_address(o);
    address(o, 1, 16, PC_PM_BASE + 4);
    no_address(o);
    no_address(o);
    address(o, 1, 32, PC_PM_BASE + 8);
    no_address(o);
    no_address(o);
    return close_table(o, start);
}

static void interrupt_override(struct out *o, unsigned source, unsigned pin, unsigned flags)
{
    byte(o, 2);
    byte(o, 10);
    byte(o, 0);
    byte(o, source);
    number(o, pin, 4);
    number(o, flags, 2);
}

static uint32_t add_madt(struct out *o)
{
    enum { LEVEL_ACTIVE_HIGH = 0xd };
    static const uint8_t level_irqs[] = {5, PC_SCI, 10, 11};
    size_t start = open_table(o, "APIC", 3);
    number(o, PC_LAPIC, 4);
    number(o, 1, 4);                           /* there are 8259s too */
    bytes(o, "\0\x08\0\0\1\0\0\0", 8);         /* local APIC 0 of processor 0, enabled */
    bytes(o, "\1\x0c\0\0", 4);                 /* I/O APIC 0 */
    number(o, PC_IOAPIC, 4);
    number(o, 0, 4);
    interrupt_override(o, 0, 2, 0);
    for (unsigned i = 0; i < sizeof level_irqs; i++)
        interrupt_override(o, level_irqs[i], level_irqs[i], LEVEL_ACTIVE_HIGH);
    bytes(o, "\4\6\xff\0\0\1", 6);             /* NMI comes in at LINT1 of all */
    return close_table(o, start);
}

static uint32_t add_hpet_table(struct out *o)
{
    size_t start = open_table(o, "HPET", 1);
    number(o, 0x8086a201, 4);                  /* as its capabilities register */
    address(o, 0, 0, PC_HPET);
    byte(o, 0);
    number(o, 100, 2);                         /* least ticks in periodic mode */
    byte(o, 0);
    return close_table(o, start);
}

static uint32_t add_root(struct out *o, const char *signature, unsigned entry_size, const uint32_t *tables, unsigned count)
{
    size_t start = open_table(o, signature, 1);
    for (unsigned i = 0; i < count; i++)
        number(o, tables[i], entry_size);
    return close_table(o, start);
}

static void fill_rsdp(uint8_t *p, uint32_t rsdt, uint32_t xsdt)
{
    memcpy(p, "RSD PTR ", 8);
    memcpy(p + 9, OEM_ID, 6);
    p[15] = 2;
    put32(p + 16, rsdt);
    put32(p + 20, 36);
    put64(p + 24, xsdt);
    p[8] = checksum8(p, 20);
    p[32] = checksum8(p, 36);
}

uint64_t acpi_build(uint8_t *ram, uint64_t ram_size)
{
    struct out o = {ram + PC_ACPI, 64, PC_SMBIOS - PC_ACPI, false}; /* the first 64 bytes: RSDP */
    uint32_t tables[3];
    if (ram_size < PC_TABLES_END)
        return 0;
    memset(o.base, 0, o.size);
    uint32_t facs = add_facs(&o);
    tables[0] = add_fadt(&o, facs, add_dsdt(&o));
    tables[1] = add_madt(&o);
    tables[2] = add_hpet_table(&o);
    uint32_t rsdt = add_root(&o, "RSDT", 4, tables, 3), xsdt = add_root(&o, "XSDT", 8, tables, 3);
    if (o.full)
        return 0;
    fill_rsdp(o.base, rsdt, xsdt);
    return PC_ACPI;
}
