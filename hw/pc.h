/* pc.h - where things stand in the PC; shared by the files that wire it, describe it to a guest, and boot it. */
#ifndef HW_PC_H
#define HW_PC_H

#include "hw/hw.h"
#include <string.h>

#define PC_LOW_RAM_MAX  0xe0000000u   /* RAM from here on is moved to 4 GiB, as on QEMU's pc */
#define PC_HIGH_RAM     0x100000000ull
#define PC_HOLE         0xa0000u      /* VGA: no RAM is seen in [PC_HOLE, PC_SHADOW) */
#define PC_SHADOW       0xc0000u      /* option ROMs and BIOS: RAM, as after firmware has shadowed it */
#define PC_EBDA         0x9fc00u
#define PC_ACPI         0xe0000u      /* tables: [PC_ACPI, PC_SMBIOS) and [PC_SMBIOS, PC_TABLES_END) */
#define PC_SMBIOS       0xf0000u
#define PC_TABLES_END   0x100000u
#define PC_IOAPIC       0xfec00000u
#define PC_HPET         0xfed00000u
#define PC_LAPIC        0xfee00000u
#define PC_PCI_WINDOW   0xe0000000u
#define PC_PCI_WINDOW_END 0xfec00000u
#define PC_PM_BASE      0x600u
#define PC_SCI          9
#define PC_MIN_RAM      0x100000u

static inline uint64_t pc_low_ram(uint64_t ram_size) { return ram_size < PC_LOW_RAM_MAX ? ram_size : PC_LOW_RAM_MAX; }
static inline uint64_t pc_high_ram(uint64_t ram_size) { return ram_size - pc_low_ram(ram_size); }

/* The memory map as firmware would report it (e820 types: 1 RAM, 2 reserved). */
struct pc_e820 { uint64_t base, size; uint32_t type; } __attribute__((packed));
#define PC_E820_MAX 8
unsigned pc_e820(uint64_t ram_size, struct pc_e820 map[PC_E820_MAX]);

/* Little-endian stores at any alignment. */
static inline void put16(uint8_t *p, uint16_t v) { memcpy(p, &v, 2); }
static inline void put32(uint8_t *p, uint32_t v) { memcpy(p, &v, 4); }
static inline void put64(uint8_t *p, uint64_t v) { memcpy(p, &v, 8); }
static inline uint16_t get16(const uint8_t *p) { uint16_t v; memcpy(&v, p, 2); return v; }
static inline uint32_t get32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static inline uint64_t get64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }
static inline uint8_t checksum8(const uint8_t *p, size_t size)
{
    uint8_t sum = 0;
    while (size--)
        sum = (uint8_t)(sum + *p++);
    return (uint8_t)-sum;
}

/* PCI: who moves the PM block is told where it went (PMBA, PMREGMISC). */
void pci_host_pm(struct device *, void (*moved)(void *ctx, uint16_t base, bool enabled), void *ctx);
/* PIRQ lines A-D (pin 0-3) from PCI functions; fits irq_line.set. */
void pci_set_pirq(void *host, int pin, int level);
/* What firmware would leave: PIRQs routed to 10, 10, 11, 11, the PM block at PC_PM_BASE. */
void pci_firmware_setup(struct device *);
#endif
