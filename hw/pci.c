/* PCI by configuration mechanism 1 (ports 0xcf8, 0xcfc): the i440FX host bridge, PIIX3's ISA bridge with the PIRQ
 * router, and PIIX4's power management.  A function is 256 bytes and a mask of the bits that a guest may change, so
 * that BAR sizing (write ones, read the size back) needs no code.  PAM and SMRAM are stored and have no effect.
 * PIIX3's IDE place (1.1) is empty. */
#include "hw/pc.h"
#include <stdlib.h>

enum { FUNCTION_I440FX, FUNCTION_ISA, FUNCTION_PM, FUNCTIONS };
enum { CFG_COMMAND = 4, CFG_STATUS = 6, CFG_BAR0 = 0x10, CFG_PIRQ = 0x60, PM_PMBA = 0x40, PM_PMREGMISC = 0x80, PM_SMBA = 0x90 };

/* A register with its reset value and the bits that can be written (`clear`: by writing 1 to clear them). */
struct pci_register { uint8_t function, offset, size; uint32_t reset, writable, clear; };
static const struct pci_register registers[] = {
    /* function      offset         size  reset       writable    write-1-to-clear */
    {FUNCTION_I440FX, 0x00,            4, 0x12378086, 0,          0},
    {FUNCTION_I440FX, CFG_COMMAND,     2, 0x0006,     0x0100,     0},
    {FUNCTION_I440FX, CFG_STATUS,      2, 0x0280,     0,          0x7000},
    {FUNCTION_I440FX, 0x08,            4, 0x06000002, 0,          0},
    {FUNCTION_I440FX, 0x0c,            4, 0,          0x0000f800, 0},
    {FUNCTION_I440FX, 0x2c,            4, 0x11001af4, 0,          0},  /* as QEMU's: guests tell the machine by it */
    {FUNCTION_I440FX, 0x50,            4, 0,          0xffffffff, 0},  /* PMCCFG, DETURBO, DBC */
    {FUNCTION_I440FX, 0x57,            4, 0,          0xffffffff, 0},  /* DRAMC, DRAMT, PAM0, PAM1 */
    {FUNCTION_I440FX, 0x5b,            4, 0,          0xffffffff, 0},  /* PAM2-5 */
    {FUNCTION_I440FX, 0x5f,            1, 0,          0xff,       0},  /* PAM6 */
    {FUNCTION_I440FX, 0x60,            4, 0,          0xffffffff, 0},  /* DRB0-7 */
    {FUNCTION_I440FX, 0x64,            4, 0,          0xffffffff, 0},
    {FUNCTION_I440FX, 0x68,            1, 0,          0xff,       0},  /* FDHC */
    {FUNCTION_I440FX, 0x70,            4, 0,          0x00ff,     0},  /* MTT */
    {FUNCTION_I440FX, 0x72,            1, 0x02,       0x78,       0},  /* SMRAM: C_BASE_SEG is fixed */
    {FUNCTION_I440FX, 0x90,            4, 0,          0x0000ffff, 0},  /* ERRCMD, ERRSTS */
    {FUNCTION_ISA,    0x00,            4, 0x70008086, 0,          0},
    {FUNCTION_ISA,    CFG_COMMAND,     2, 0x0007,     0x0108,     0},
    {FUNCTION_ISA,    CFG_STATUS,      2, 0x0200,     0,          0x7800},
    {FUNCTION_ISA,    0x08,            4, 0x06010000, 0,          0},
    {FUNCTION_ISA,    0x0c,            4, 0x00800000, 0,          0},  /* multi-function */
    {FUNCTION_ISA,    0x2c,            4, 0x11001af4, 0,          0},
    {FUNCTION_ISA,    0x4c,            4, 0x0003004d, 0x0fff007f, 0},  /* IORT, XBCS */
    {FUNCTION_ISA,    CFG_PIRQ,        4, 0x80808080, 0x8f8f8f8f, 0},
    {FUNCTION_ISA,    0x69,            1, 0x02,       0xfe,       0},  /* TOM */
    {FUNCTION_ISA,    0x6a,            2, 0,          0x8017,     0},
    {FUNCTION_ISA,    0x70,            1, 0x80,       0xef,       0},  /* MBIRQ0 */
    {FUNCTION_ISA,    0x76,            2, 0x0c0c,     0x8f8f,     0},  /* MBDMA */
    {FUNCTION_ISA,    0x78,            2, 0x0002,     0xfffe,     0},  /* PCSC */
    {FUNCTION_ISA,    0xa0,            4, 0x00000008, 0x0000001f, 0},  /* SMICNTL */
    {FUNCTION_ISA,    0xa4,            4, 0,          0xffffffff, 0},  /* SEE */
    {FUNCTION_ISA,    0xa8,            4, 0x0000000f, 0x0000ffff, 0},  /* FTMR, SMIREQ's low part */
    {FUNCTION_PM,     0x00,            4, 0x71138086, 0,          0},
    {FUNCTION_PM,     CFG_COMMAND,     2, 0,          0x0001,     0},
    {FUNCTION_PM,     CFG_STATUS,      2, 0x0280,     0,          0x0800},
    {FUNCTION_PM,     0x08,            4, 0x06800003, 0,          0},
    {FUNCTION_PM,     0x0c,            4, 0,          0x0000f800, 0},
    {FUNCTION_PM,     0x2c,            4, 0x11001af4, 0,          0},
    {FUNCTION_PM,     0x3c,            4, 0x00000100, 0x000000ff, 0},  /* interrupt line; pin A */
    {FUNCTION_PM,     PM_PMBA,         4, 0x00000001, 0x0000ffc0, 0},
    {FUNCTION_PM,     0x44,            4, 0,          0xffffffff, 0},  /* CNTA */
    {FUNCTION_PM,     0x48,            4, 0,          0xffffffff, 0},  /* CNTB */
    {FUNCTION_PM,     0x4c,            4, 0,          0xffffffff, 0},  /* GPICTL */
    {FUNCTION_PM,     0x50,            4, 0,          0xffffffff, 0},  /* DEVRESD, DEVACTA */
    {FUNCTION_PM,     0x54,            4, 0,          0xffffffff, 0},  /* DEVACTB */
    {FUNCTION_PM,     0x58,            4, 0,          0xffffffff, 0},
    {FUNCTION_PM,     0x5c,            4, 0x90000000, 0xffffffff, 0},  /* DEVRESA-C: COM1 and COM2 are enabled */
    {FUNCTION_PM,     0x60,            4, 0x60000000, 0xffffffff, 0},
    {FUNCTION_PM,     0x64,            4, 0x98000000, 0xffffffff, 0},
    {FUNCTION_PM,     PM_PMREGMISC,    1, 0,          0x01,       0},
    {FUNCTION_PM,     PM_SMBA,         4, 0x00000001, 0x0000fff0, 0},
    {FUNCTION_PM,     0xd2,            1, 0,          0x0f,       0},  /* SMBHSTCFG */
};
static const uint8_t places[FUNCTIONS] = {0 << 3 | 0, 1 << 3 | 0, 1 << 3 | 3}; /* device << 3 | function, on bus 0 */

struct pci_function { uint8_t config[256], writable[256], clear[256]; };
struct pci_host {
    struct device device;
    uint32_t address;                  /* port 0xcf8 */
    struct pci_function functions[FUNCTIONS];
    uint8_t pirq_levels;               /* bit n: PIRQ n is asserted */
    uint16_t driven;                   /* ISA IRQs that are held high by PIRQs */
    void (*set_irq)(void *, int, int); void *set_irq_ctx;
    void (*pm_moved)(void *, uint16_t, bool); void *pm_ctx;
};

static void function_reset(struct pci_host *h, unsigned n)
{
    struct pci_function *f = &h->functions[n];
    memset(f, 0, sizeof *f);
    for (const struct pci_register *r = registers; r < registers + sizeof registers / sizeof *registers; r++)
        for (unsigned i = 0; r->function == n && i < r->size; i++) {
            f->config[r->offset + i] = (uint8_t)(r->reset >> 8 * i);
            f->writable[r->offset + i] = (uint8_t)(r->writable >> 8 * i);
            f->clear[r->offset + i] = (uint8_t)(r->clear >> 8 * i);
        }
}

/* --- PIRQ A-D to ISA IRQs: an IRQ is high while any PIRQ that is routed to it is. */
static void pirq_update(struct pci_host *h)
{
    const uint8_t *route = h->functions[FUNCTION_ISA].config + CFG_PIRQ;
    uint16_t want = 0;
    for (unsigned i = 0; i < 4; i++)
        if (h->pirq_levels >> i & 1 && !(route[i] & 0x80))
            want |= (uint16_t)(1u << (route[i] & 15));
    uint16_t changed = want ^ h->driven;
    h->driven = want;
    for (int irq = 0; irq < 16; irq++)
        if (changed >> irq & 1 && h->set_irq)
            h->set_irq(h->set_irq_ctx, irq, want >> irq & 1);
}

void pci_set_pirq(void *host, int pin, int level)
{
    struct pci_host *h = host;
    h->pirq_levels = (uint8_t)((h->pirq_levels & ~(1u << (pin & 3))) | (level ? 1u << (pin & 3) : 0));
    pirq_update(h);
}

static void pm_update(struct pci_host *h)
{
    const uint8_t *config = h->functions[FUNCTION_PM].config;
    if (h->pm_moved)
        h->pm_moved(h->pm_ctx, get16(config + PM_PMBA) & 0xffc0, config[PM_PMREGMISC] & 1);
}

/* --- Configuration space */
static struct pci_function *selected(struct pci_host *h)
{
    if (!(h->address >> 31) || h->address >> 16 & 0xff)
        return NULL;
    for (unsigned i = 0; i < FUNCTIONS; i++)
        if (places[i] == (h->address >> 8 & 0xff))
            return &h->functions[i];
    return NULL;
}

static void config_write(struct pci_host *h, struct pci_function *f, unsigned at, unsigned size, uint32_t value)
{
    for (unsigned i = 0; i < size && at + i < 256; i++) {
        uint8_t byte = (uint8_t)(value >> 8 * i), *to = &f->config[at + i];
        *to = (uint8_t)((*to & ~f->writable[at + i]) | (byte & f->writable[at + i]));
        *to &= (uint8_t)~(byte & f->clear[at + i]);
    }
    if (f == &h->functions[FUNCTION_ISA])
        pirq_update(h);
    if (f == &h->functions[FUNCTION_PM])
        pm_update(h);
}

static uint32_t pci_read(struct device *d, uint32_t offset, unsigned size)
{
    struct pci_host *h = (struct pci_host *)d;
    uint32_t ones = size == 4 ? ~0u : (1u << 8 * size) - 1, value = 0;
    if (offset < 4)      /* only a 32-bit access is to CONFADD (82441FX 3.1) */
        return offset == 0 && size == 4 ? h->address : ones;
    const struct pci_function *f = selected(h);
    unsigned at = (h->address & 0xfc) | (offset & 3);
    if (!f || at + size > 256)
        return ones;
    memcpy(&value, f->config + at, size);
    return value;
}

static void pci_write(struct device *d, uint32_t offset, unsigned size, uint32_t value)
{
    struct pci_host *h = (struct pci_host *)d;
    if (offset < 4) {
        if (offset == 0 && size == 4)
            h->address = value & 0x80fffffc;
        return;
    }
    struct pci_function *f = selected(h);
    if (f)
        config_write(h, f, (h->address & 0xfc) | (offset & 3), size, value);
}

static void pci_reset(struct device *d)
{
    struct pci_host *h = (struct pci_host *)d;
    h->address = 0;
    for (unsigned i = 0; i < FUNCTIONS; i++)
        function_reset(h, i);
    h->pirq_levels = 0;
    pirq_update(h);
    pm_update(h);
}

static void pci_free(struct device *d) { free(d); }

static void pci_loaded(struct device *d) { pm_update((struct pci_host *)d); }
static const struct state_field pci_fields[] = {
    STATE(struct pci_host, address), STATE_EACH_ARRAY(struct pci_host, functions, config), STATE(struct pci_host, pirq_levels, .most = 15), STATE(struct pci_host, driven),
};
static const struct state_table pci_state = STATE_TABLE(1, pci_fields);
static const struct device_ops pci_ops = {"i440fx", pci_read, pci_write, pci_reset, pci_free, .state = &pci_state, .loaded = pci_loaded};

struct device *pci_host_new(struct address_space *memory, struct address_space *io)
{
    struct pci_host *h = calloc(1, sizeof *h);
    (void)memory, (void)io; /* no function has a BAR yet */
    if (!h)
        return NULL;
    h->device.ops = &pci_ops;
    pci_reset(&h->device);
    return &h->device;
}

void pci_host_pirq(struct device *d, void (*set_irq)(void *, int, int), void *ctx)
{
    struct pci_host *h = (struct pci_host *)d;
    h->set_irq = set_irq;
    h->set_irq_ctx = ctx;
}

void pci_host_pm(struct device *d, void (*moved)(void *, uint16_t, bool), void *ctx)
{
    struct pci_host *h = (struct pci_host *)d;
    h->pm_moved = moved;
    h->pm_ctx = ctx;
}

void pci_firmware_setup(struct device *d)
{
    struct pci_host *h = (struct pci_host *)d;
    struct pci_function *pm = &h->functions[FUNCTION_PM];
    config_write(h, &h->functions[FUNCTION_ISA], CFG_PIRQ, 4, 0x0b0b0a0a);
    config_write(h, pm, 0x3c, 1, PC_SCI);
    config_write(h, pm, PM_PMBA, 4, PC_PM_BASE);
    config_write(h, pm, PM_SMBA, 4, 0x700);
    config_write(h, pm, PM_PMREGMISC, 1, 1);
}
