/* SMBIOS 2.8 tables: an entry point and the structures that guests look for (DMTF DSP0134). */
#include "hw/pc.h"

enum { ENTRY_SIZE = 31, TABLE_AT = 64, TABLE_MAX = PC_TABLES_END - PC_SMBIOS - TABLE_AT };

/* Structures are appended; `open` is the one that is being written, its strings follow its formatted part. */
struct table { uint8_t *base; size_t at, largest, open; unsigned count; bool full; };

static void add(struct table *t, const void *bytes, size_t size)
{
    if (t->full || size > TABLE_MAX - t->at) {
        t->full = true;
        return;
    }
    memcpy(t->base + t->at, bytes, size);
    t->at += size;
}

/* The formatted part without its header, then the strings, each ended by NUL and the last by another. */
static void structure(struct table *t, uint8_t type, uint16_t handle, const void *body, size_t size, const char *strings, size_t strings_size)
{
    uint8_t header[4] = {type, (uint8_t)(4 + size)};
    t->open = t->at;
    put16(header + 2, handle);
    add(t, header, sizeof header);
    add(t, body, size);
    add(t, strings, strings_size); /* a literal's own NUL is the second one */
    if (strings_size == 1)
        add(t, "", 1);
    t->count++;
    if (t->at - t->open > t->largest)
        t->largest = t->at - t->open;
}
#define STRUCTURE(t, type, handle, body, strings) structure(t, type, handle, &(body), sizeof(body), strings, sizeof(strings))

#define PACKED __attribute__((packed))
static void add_system(struct table *t)
{
    static const struct { uint8_t vendor, version; uint16_t segment; uint8_t date, size; uint64_t features; uint8_t ext[2], release[4]; } PACKED
        bios = {1, 2, 0xe800, 3, 0, 1 << 3 /* features are not told */, {0, 0x1c /* virtual machine */}, {0, 1, 0xff, 0xff}};
    static const struct { uint8_t maker, product, version, serial, uuid[16], wake, sku, family; } PACKED
        system = {.maker = 1, .product = 2, .version = 3, .wake = 6 /* power switch */};
    static const struct { uint8_t maker, kind, version, serial, asset, states[4]; uint32_t oem; uint8_t height, cords, elements, element_size, sku; } PACKED
        chassis = {.maker = 1, .kind = 1 /* other */, .states = {3, 3, 3, 2}};
    STRUCTURE(t, 0, 0x0000, bios, "Tierce\0000.1\00001/01/2025\0");
    STRUCTURE(t, 1, 0x0100, system, "Tierce\0Standard PC (i440FX + PIIX)\0pc-i440fx\0");
    STRUCTURE(t, 3, 0x0300, chassis, "Tierce\0");
}

static void add_processor(struct table *t)
{
    static const struct {
        uint8_t socket, type, family, maker; uint64_t id; uint8_t version, voltage; uint16_t clock, max_speed, speed; uint8_t status, upgrade;
        uint16_t l1, l2, l3; uint8_t serial, asset, part, cores, enabled, threads; uint16_t characteristics, family2;
    } PACKED cpu = {.socket = 1, .type = 3, .family = 1, .maker = 2, .status = 0x41, .upgrade = 1, .l1 = 0xffff, .l2 = 0xffff, .l3 = 0xffff,
                    .cores = 1, .enabled = 1, .threads = 1, .max_speed = 1000, .speed = 1000, .characteristics = 4 /* 64 bit */, .family2 = 1};
    STRUCTURE(t, 4, 0x0400, cpu, "CPU 0\0Tierce\0");
}

/* One memory array of one module, and the addresses where it is seen. */
static void add_memory(struct table *t, uint64_t ram_size)
{
    struct { uint8_t location, use, ecc; uint32_t capacity_kib; uint16_t error, slots; uint64_t extended; } PACKED
        array = {1 /* other */, 3 /* system memory */, 3 /* no ECC */, 0, 0xfffe, 1, 0};
    struct { uint16_t array, error, width[2], size_mib; uint8_t form, set, locator, bank, type; uint16_t detail, speed; uint8_t maker, serial, asset, part,
             attributes; uint32_t extended_mib; uint16_t clock, volts[3]; } PACKED
        module = {.array = 0x1000, .error = 0xfffe, .width = {0xffff, 0xffff}, .form = 9 /* DIMM */, .locator = 1, .type = 7 /* RAM */, .detail = 2, .maker = 2};
    struct { uint32_t first_kib, last_kib; uint16_t array; uint8_t width; uint64_t first, last; } PACKED
        range = {.array = 0x1000, .width = 1};
    uint64_t mib = ram_size >> 20, low = pc_low_ram(ram_size), high = pc_high_ram(ram_size);
    if (ram_size >> 10 < 0x80000000)
        array.capacity_kib = (uint32_t)(ram_size >> 10);
    else {
        array.capacity_kib = 0x80000000;
        array.extended = ram_size;
    }
    module.size_mib = mib < 0x7fff ? (uint16_t)mib : 0x7fff;
    module.extended_mib = mib < 0x7fff ? 0 : (uint32_t)mib;
    STRUCTURE(t, 16, 0x1000, array, "");
    STRUCTURE(t, 17, 0x1100, module, "DIMM 0\0Tierce\0");
    range.last_kib = (uint32_t)((low >> 10) - 1);
    STRUCTURE(t, 19, 0x1300, range, "");
    if (!high)
        return;
    range.first_kib = range.last_kib = 0xffffffff; /* beyond 4 TiB or not: the 64-bit fields tell */
    range.first = PC_HIGH_RAM;
    range.last = PC_HIGH_RAM + high - 1;
    STRUCTURE(t, 19, 0x1301, range, "");
}

static void fill_entry(uint8_t *entry, const struct table *t)
{
    memcpy(entry, "_SM_", 4);
    entry[5] = ENTRY_SIZE;
    entry[6] = 2;
    entry[7] = 8;
    put16(entry + 8, (uint16_t)t->largest);
    memcpy(entry + 16, "_DMI_", 5);
    put16(entry + 22, (uint16_t)t->at);
    put32(entry + 24, PC_SMBIOS + TABLE_AT);
    put16(entry + 28, (uint16_t)t->count);
    entry[30] = 0x28;
    entry[21] = checksum8(entry + 16, 15);
    entry[4] = checksum8(entry, ENTRY_SIZE);
}

uint64_t smbios_build(uint8_t *ram, uint64_t ram_size)
{
    static const struct { uint8_t status[7]; } boot = {{0}};
    static const uint8_t nothing[1];
    if (ram_size < PC_TABLES_END)
        return 0;
    struct table t = {.base = ram + PC_SMBIOS + TABLE_AT};
    memset(ram + PC_SMBIOS, 0, PC_TABLES_END - PC_SMBIOS);
    add_system(&t);
    add_processor(&t);
    add_memory(&t, ram_size);
    STRUCTURE(&t, 32, 0x2000, boot, "");
    structure(&t, 127, 0x7f00, nothing, 0, "", 1);
    if (t.full)
        return 0;
    fill_entry(ram + PC_SMBIOS, &t);
    return PC_SMBIOS;
}
