/* Multiboot 1 kernels (Multiboot Specification 0.6.96): one module, which is the initrd.  No video mode is set. */
#include "hw/boot.h"

enum { HEADER_MAGIC = 0x1badb002, SEARCHED = 8192, HEADER_SIZE = 12, HEADER_SIZE_WITH_ADDRESSES = 32 };
enum { WANTS_VIDEO = 1 << 2, WANTS_UNKNOWN = 0xfff8, HAS_ADDRESSES = 1 << 16 };
enum { INFO_MEMORY = 1 << 0, INFO_CMDLINE = 1 << 2, INFO_MODULES = 1 << 3, INFO_MAP = 1 << 6, INFO_LOADER = 1 << 9 };
enum { MODULE_AT = 0x100, NAME_AT = 0x180, MAP_AT = 0x200, MAP_ENTRY = 24 };

long boot_multiboot_header(const struct boot *b)
{
    for (size_t at = 0; at < SEARCHED && at + HEADER_SIZE <= b->kernel_size; at += 4) {
        const uint8_t *h = b->kernel + at;
        if (get32(h) == HEADER_MAGIC && get32(h) + get32(h + 4) + get32(h + 8) == 0)
            return (long)at;
    }
    return -1;
}

bool boot_multiboot_has_addresses(const struct boot *b, size_t header)
{
    return get32(b->kernel + header + 4) & HAS_ADDRESSES && header + HEADER_SIZE_WITH_ADDRESSES <= b->kernel_size;
}

static void put_map(const struct boot *b, uint8_t *info)
{
    struct pc_e820 map[PC_E820_MAX];
    unsigned count = pc_e820(b->config->ram_size, map);
    for (unsigned i = 0; i < count; i++) {
        uint8_t *entry = info + MAP_AT + MAP_ENTRY * i;
        put32(entry, MAP_ENTRY - 4); /* the size does not count itself */
        memcpy(entry + 4, &map[i], sizeof map[i]);
    }
    put32(info + 44, MAP_ENTRY * count);
    put32(info + 48, BOOT_INFO + MAP_AT);
}

bool boot_multiboot_start(struct boot *b, uint64_t entry)
{
    uint8_t *info = b->ram + BOOT_INFO;
    long header = boot_multiboot_header(b);
    uint32_t flags = header >= 0 ? get32(b->kernel + header + 4) : 0;
    if (flags & (WANTS_VIDEO | WANTS_UNKNOWN))
        return boot_fail(b, "Multiboot flags 0x%08x ask for what is not offered (video mode or unknown bits)", flags);
    if (!boot_place_initrd(b, 0xffffffff) || !boot_place_cmdline(b, BOOT_CMDLINE_MAX))
        return false;
    memset(info, 0, 0x1000);
    put32(info, INFO_MEMORY | INFO_CMDLINE | INFO_MODULES | INFO_MAP | INFO_LOADER);
    put32(info + 4, PC_EBDA >> 10);
    put32(info + 8, (uint32_t)((b->low - BOOT_KERNEL_MIN) >> 10));
    put32(info + 16, BOOT_CMDLINE);
    put32(info + 64, BOOT_INFO + NAME_AT);
    memcpy(info + NAME_AT, "tierce", sizeof "tierce");
    put_map(b, info);
    if (b->initrd_at) {
        put32(info + 20, 1);
        put32(info + 24, BOOT_INFO + MODULE_AT);
        put32(info + MODULE_AT, (uint32_t)b->initrd_at);
        put32(info + MODULE_AT + 4, (uint32_t)(b->initrd_at + b->config->initrd.size));
        put32(info + MODULE_AT + 8, BOOT_CMDLINE);
    }
    boot_set_entry(b, BOOT_MULTIBOOT, entry);
    return true;
}

/* A flat file that says itself where it goes (3.1.3: the address fields). */
bool boot_multiboot_raw(struct boot *b, size_t header)
{
    const uint8_t *h = b->kernel + header;
    if (!boot_multiboot_has_addresses(b, header))
        return boot_fail(b, "Multiboot header at 0x%zx (flags 0x%08x) has no load addresses, and the file is no ELF", header, get32(h + 4));
    uint32_t header_at = get32(h + 12), load_at = get32(h + 16), load_end = get32(h + 20), bss_end = get32(h + 24), entry = get32(h + 28);
    if (header_at < load_at || header_at - load_at > header)
        return boot_fail(b, "Multiboot header_addr 0x%x and load_addr 0x%x do not fit a header at 0x%zx", header_at, load_at, header);
    size_t from = header - (header_at - load_at);
    uint64_t size = load_end ? (uint64_t)load_end - load_at : b->kernel_size - from;
    if ((load_end && load_end < load_at) || !boot_within(from, size, 0, b->kernel_size))
        return boot_fail(b, "Multiboot load_end_addr 0x%x: load_addr 0x%x and the file's %zu bytes do not allow it", load_end, load_at, b->kernel_size);
    uint64_t end = bss_end > load_at + size ? bss_end : load_at + size;
    if (!boot_within(load_at, end - load_at, BOOT_KERNEL_MIN, b->low))
        return boot_fail(b, "Multiboot image from 0x%x to 0x%" PRIx64 " is not in RAM from 0x%x to 0x%" PRIx64, load_at, end, BOOT_KERNEL_MIN, b->low);
    if (entry < load_at || entry >= end)
        return boot_fail(b, "Multiboot entry_addr 0x%x is not in the image from 0x%x to 0x%" PRIx64, entry, load_at, end);
    memcpy(b->ram + load_at, b->kernel + from, size);
    memset(b->ram + load_at + size, 0, end - load_at - size);
    b->kernel_end = end;
    return boot_multiboot_start(b, entry);
}
