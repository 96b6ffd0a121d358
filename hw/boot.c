/* Direct boot: picks the loader by the kernel's format, and holds what all loaders share.  The kernel file may be
 * anything: every size in it is checked against the file and against RAM before it is used. */
#include "hw/boot.h"
#include <stdarg.h>

bool boot_fail(struct boot *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(b->error, b->error_size, format, args);
    va_end(args);
    return false;
}

bool boot_place_initrd(struct boot *b, uint64_t last)
{
    uint64_t size = b->config->initrd.size, end = last < b->low ? last + 1 : b->low;
    if (!size)
        return true;
    uint64_t at = size <= end ? (end - size) & ~0xfffull : 0;
    if (size > end || at < b->kernel_end || at < BOOT_KERNEL_MIN)
        return boot_fail(b, "initrd of %" PRIu64 " bytes does not fit between the kernel's end 0x%" PRIx64 " and 0x%" PRIx64,
                         size, b->kernel_end, end);
    memcpy(b->ram + at, b->config->initrd.bytes, size);
    b->initrd_at = at;
    return true;
}

bool boot_place_cmdline(struct boot *b, uint64_t longest)
{
    const char *text = b->config->cmdline ? b->config->cmdline : "";
    size_t length = strlen(text);
    if (longest > BOOT_CMDLINE_MAX - 1)
        longest = BOOT_CMDLINE_MAX - 1;
    if (length > longest)
        return boot_fail(b, "command line of %zu bytes: this kernel takes at most %" PRIu64, length, longest);
    memcpy(b->ram + BOOT_CMDLINE, text, length + 1);
    return true;
}

/* One to one for the first 4 GiB in pages of 2 MiB (SDM 3A 4.5). */
static void build_page_tables(uint8_t *ram)
{
    enum { PRESENT_WRITE = 3, LARGE = 1 << 7, DIRECTORIES = 4 };
    uint8_t *pml4 = ram + BOOT_PAGES, *pdpt = pml4 + 0x1000;
    memset(pml4, 0, (2 + DIRECTORIES) * 0x1000);
    put64(pml4, (BOOT_PAGES + 0x1000) | PRESENT_WRITE);
    for (unsigned i = 0; i < DIRECTORIES; i++)
        put64(pdpt + 8 * i, (BOOT_PAGES + 0x2000 + 0x1000 * i) | PRESENT_WRITE);
    for (unsigned i = 0; i < DIRECTORIES * 512; i++)
        put64(pdpt + 0x1000 + 8 * i, (uint64_t)i << 21 | LARGE | PRESENT_WRITE);
}

void boot_set_entry(struct boot *b, int protocol, uint64_t at)
{
    /* 0x10 code, 0x18 data (Linux boot protocol, 32-bit and 64-bit) */
    const uint64_t code = protocol == BOOT_LINUX64 ? 0x00af9b000000ffff : 0x00cf9b000000ffff;
    const uint64_t gdt[4] = {0, 0, code, 0x00cf93000000ffff};
    memcpy(b->ram + BOOT_GDT, gdt, sizeof gdt);
    *b->entry = (struct boot_entry){.entry = at, .zero_page = BOOT_INFO, .gdt = BOOT_GDT, .gdt_limit = sizeof gdt - 1, .stack = BOOT_STACK};
    b->entry->protocol = protocol;
    if (protocol != BOOT_LINUX64)
        return;
    build_page_tables(b->ram);
    b->entry->page_table = BOOT_PAGES;
}

static bool load(struct boot *b)
{
    if (boot_is_bzimage(b))
        return boot_bzimage(b);
    if (boot_is_elf(b))
        return boot_elf(b);
    long multiboot = boot_multiboot_header(b);
    if (multiboot >= 0)
        return boot_multiboot_raw(b, (size_t)multiboot);
    if (b->kernel_size < 4)
        return boot_fail(b, "file of %zu bytes is no kernel", b->kernel_size);
    return boot_fail(b, "neither bzImage, ELF nor Multiboot (it begins with %02x %02x %02x %02x)",
                     b->kernel[0], b->kernel[1], b->kernel[2], b->kernel[3]);
}

bool boot_load(const struct pc_config *c, struct boot_entry *entry, char *error, size_t error_size)
{
    struct boot b = {.config = c, .kernel = c->kernel.bytes, .kernel_size = c->kernel.size, .ram = c->ram,
                     .low = pc_low_ram(c->ram_size), .only32 = entry->protocol == BOOT_LINUX32, .entry = entry,
                     .error = error, .error_size = error_size};
    if (!c->kernel.bytes)
        return boot_fail(&b, "none was given");
    if (c->ram_size <= PC_MIN_RAM)
        return boot_fail(&b, "RAM of %" PRIu64 " bytes leaves no place above 1 MiB", c->ram_size);
    memset(b.ram, 0, PC_HOLE); /* what an earlier run left there would be read as set fields */
    b.rsdp = acpi_build(b.ram, c->ram_size);
    if (!b.rsdp || !smbios_build(b.ram, c->ram_size))
        return boot_fail(&b, "the ACPI or SMBIOS tables do not fit below 1 MiB");
    return load(&b);
}
