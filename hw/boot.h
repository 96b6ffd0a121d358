/* boot.h - what the loaders of hw/boot*.c share: one attempt to put a kernel in RAM. */
#ifndef HW_BOOT_H
#define HW_BOOT_H

#include "hw/pc.h"
#include <inttypes.h>

/* Where the loader puts what is its own; all below the EBDA, so that a kernel from 1 MiB on meets none of it. */
#define BOOT_STACK      0x6000u     /* grows down */
#define BOOT_GDT        0x6000u
#define BOOT_INFO       0x7000u     /* zero page, PVH start info or Multiboot information: one page */
#define BOOT_PAGES      0x8000u     /* six page tables: 4 GiB, one to one */
#define BOOT_CMDLINE    0x20000u
#define BOOT_CMDLINE_MAX 0x10000u   /* with its NUL */
#define BOOT_KERNEL_MIN 0x100000u

struct boot {
    const struct pc_config *config;
    const uint8_t *kernel; size_t kernel_size;
    uint8_t *ram; uint64_t low;          /* RAM that is seen from 0 on; all that is loaded lies in it */
    uint64_t kernel_end, initrd_at, rsdp;
    bool only32;                         /* the CPU has no 64-bit mode */
    struct boot_entry *entry;
    char *error; size_t error_size;
};

/* Says why; returns false. */
bool boot_fail(struct boot *, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Both after kernel_end is known; `last`: the highest address that the initrd may occupy. */
bool boot_place_initrd(struct boot *, uint64_t last);
bool boot_place_cmdline(struct boot *, uint64_t longest /* without NUL */);
/* GDT, stack and, for 64 bit, page tables; fills the rest of entry. */
void boot_set_entry(struct boot *, int protocol, uint64_t at);

/* True where [at, at + size) lies in [first, end), whatever the numbers. */
static inline bool boot_within(uint64_t at, uint64_t size, uint64_t first, uint64_t end)
{
    return at >= first && at <= end && size <= end - at;
}

bool boot_is_bzimage(const struct boot *);
bool boot_bzimage(struct boot *);
void boot_zero_page(struct boot *, const uint8_t *header /* of a bzImage; NULL: none */, size_t header_size);
bool boot_is_elf(const struct boot *);
bool boot_elf(struct boot *);
/* Multiboot 1: the header's place in the file, or -1. */
long boot_multiboot_header(const struct boot *);
bool boot_multiboot_has_addresses(const struct boot *, size_t header);
bool boot_multiboot_raw(struct boot *, size_t header); /* for a header with addresses of its own */
bool boot_multiboot_start(struct boot *, uint64_t entry);

#endif
