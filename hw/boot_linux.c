/* bzImage and the zero page (Documentation/arch/x86/boot.rst and zero-page.rst of Linux).  The setup code in real
 * mode is not run: entry is by the 64-bit protocol where the kernel has it, else by the 32-bit one. */
#include "hw/boot.h"

/* Offsets in the file, and in the zero page for what is at HEADER and above. */
enum { ACPI_RSDP = 0x70, ALT_MEM_K = 0x1e0, E820_COUNT = 0x1e8, HEADER = 0x1f1, SYSSIZE = 0x1f4, BOOT_FLAG = 0x1fe,
       HEADER_LENGTH = 0x201, MAGIC = 0x202, VERSION = 0x206, LOADER = 0x210, LOADFLAGS = 0x211, CODE32_START = 0x214, RAMDISK = 0x218,
       RAMDISK_SIZE = 0x21c, CMDLINE = 0x228, INITRD_MAX = 0x22c, ALIGNMENT = 0x230, XLOADFLAGS = 0x236,
       CMDLINE_SIZE = 0x238, PREF_ADDRESS = 0x258, INIT_SIZE = 0x260, HEADER_END = 0x290, E820 = 0x2d0 };
enum { LOADED_HIGH = 1, XLF_KERNEL_64 = 1, ENTRY64 = 0x200, UNKNOWN_LOADER = 0xff };

struct image { uint16_t version; uint64_t setup, size /* of the protected-mode part */, load, needs, initrd_last, cmdline; bool is64; };

bool boot_is_bzimage(const struct boot *b)
{
    return b->kernel_size >= VERSION && !memcmp(b->kernel + MAGIC, "HdrS", 4) && get16(b->kernel + BOOT_FLAG) == 0xaa55;
}

static uint64_t field(const struct boot *b, const struct image *i, unsigned since, unsigned at, unsigned size, uint64_t otherwise)
{
    uint64_t value = 0;
    if (i->version < since)
        return otherwise;
    memcpy(&value, b->kernel + at, size);
    return value;
}

/* Fields that came with later versions have the values that were fixed before. */
static void read_header(const struct boot *b, struct image *i)
{
    i->load = field(b, i, 0x20a, PREF_ADDRESS, 8, BOOT_KERNEL_MIN);
    i->needs = field(b, i, 0x20a, INIT_SIZE, 4, i->size);
    i->initrd_last = field(b, i, 0x203, INITRD_MAX, 4, 0x37ffffff);
    i->cmdline = field(b, i, 0x206, CMDLINE_SIZE, 4, 255);
    i->is64 = field(b, i, 0x20c, XLOADFLAGS, 2, 0) & XLF_KERNEL_64;
    if (i->needs < i->size)
        i->needs = i->size;
}

static bool check_header(struct boot *b, struct image *i)
{
    if (b->kernel_size < HEADER_END)
        return boot_fail(b, "bzImage of %zu bytes ends inside its setup header (0x%x bytes)", b->kernel_size, HEADER_END);
    i->version = get16(b->kernel + VERSION);
    if (i->version < 0x202 || !(b->kernel[LOADFLAGS] & LOADED_HIGH))
        return boot_fail(b, "boot protocol %u.%02u with loadflags 0x%02x: only bzImages of protocol 2.02 and later can be loaded",
                         i->version >> 8, i->version & 0xff, b->kernel[LOADFLAGS]);
    i->setup = 512u * (1 + (b->kernel[HEADER] ? b->kernel[HEADER] : 4u));
    if (i->setup >= b->kernel_size)
        return boot_fail(b, "bzImage of %zu bytes ends before its setup code does (%" PRIu64 " bytes)", b->kernel_size, i->setup);
    i->size = b->kernel_size - i->setup;
    uint64_t said = 16ull * (i->version >= 0x204 ? get32(b->kernel + SYSSIZE) : 0);
    if (said > i->size + 15)
        return boot_fail(b, "bzImage is truncated: %" PRIu64 " bytes of code, %" PRIu64 " by its header", i->size, said);
    return true;
}

static bool check_place(struct boot *b, const struct image *i)
{
    if (!boot_within(i->load, i->needs, BOOT_KERNEL_MIN, b->low))
        return boot_fail(b, "needs %" PRIu64 " bytes at 0x%" PRIx64 ", but RAM goes from 0x%x to 0x%" PRIx64,
                         i->needs, i->load, BOOT_KERNEL_MIN, b->low);
    if (i->is64 && i->size < ENTRY64 + 1)
        return boot_fail(b, "64-bit entry at 0x%x lies behind its %" PRIu64 " bytes of code", ENTRY64, i->size);
    return true;
}

static void put_e820(struct boot *b, uint8_t *zero_page)
{
    struct pc_e820 map[PC_E820_MAX];
    unsigned count = pc_e820(b->config->ram_size, map);
    zero_page[E820_COUNT] = (uint8_t)count;
    memcpy(zero_page + E820, map, count * sizeof map[0]);
    put32(zero_page + ALT_MEM_K, (uint32_t)((b->low - BOOT_KERNEL_MIN) >> 10));
}

void boot_zero_page(struct boot *b, const uint8_t *header, size_t header_size)
{
    uint8_t *z = b->ram + BOOT_INFO;
    memset(z, 0, 0x1000);
    if (header) {
        memcpy(z + HEADER, header, header_size);
    } else {
        put16(z + BOOT_FLAG, 0xaa55);
        memcpy(z + MAGIC, "HdrS", 4);
        put16(z + VERSION, 0x20c);
        z[LOADFLAGS] = LOADED_HIGH;
        put32(z + ALIGNMENT, 0x1000000);
    }
    z[LOADER] = UNKNOWN_LOADER;
    put32(z + CMDLINE, BOOT_CMDLINE);
    put32(z + RAMDISK, (uint32_t)b->initrd_at);
    put32(z + RAMDISK_SIZE, (uint32_t)b->config->initrd.size);
    put64(z + ACPI_RSDP, b->rsdp);
    put_e820(b, z);
}

bool boot_bzimage(struct boot *b)
{
    struct image i = {0};
    if (!check_header(b, &i))
        return false;
    read_header(b, &i);
    if (!check_place(b, &i))
        return false;
    b->kernel_end = i.load + i.needs;
    if (!boot_place_initrd(b, i.initrd_last) || !boot_place_cmdline(b, i.cmdline))
        return false;
    memcpy(b->ram + i.load, b->kernel + i.setup, i.size);
    size_t header_end = (size_t)MAGIC + b->kernel[HEADER_LENGTH];
    boot_zero_page(b, b->kernel + HEADER, (header_end < HEADER_END ? header_end : HEADER_END) - HEADER);
    put32(b->ram + BOOT_INFO + CODE32_START, (uint32_t)i.load);
    bool use64 = i.is64 && !b->only32;
    boot_set_entry(b, use64 ? BOOT_LINUX64 : BOOT_LINUX32, i.load + (use64 ? ENTRY64 : 0));
    return true;
}
