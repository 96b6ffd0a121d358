/* hw.h - devices and the bus they sit on: what a device may know is its registers' offsets, one interrupt line
 * per pin, and the clock.  A device knows neither its address, nor the machine, nor the CPU, nor how guest code
 * is run.  Wired only in hw/pc.c.
 * Thread: unless a line says otherwise every function here is called with the machine's lock held. */
#ifndef HW_HW_H
#define HW_HW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

/* --- State: what of a device the guest can tell, described once, in a table that hw/state.c writes, reads and prints by.  What is the
 * host's (clocks, lines, callbacks) and what follows from the rest is not in it; the latter is made anew by `loaded`. */
enum state_kind { STATE_IS_NUMBER, STATE_IS_ALARM };
struct state_field {
    const char *name;
    uint32_t offset, stride;       /* of the first element; from each of `count` structs to the next */
    uint16_t size, elements, count; /* of an element in bytes; of the field in a struct; structs */
    uint8_t kind, since;           /* since: the table's version that has it first (0: 1); before, it stays as after a reset */
    uint64_t least, most;          /* values that are accepted; most 0: any */
};
struct state_table { unsigned version, field_count; const struct state_field *fields; };
#define STATE_OF(type, field) (((type *)0)->field)
#define STATE_MOST(element) .most = _Generic((element), bool: 1, default: 0)
/* A number, an array of them, a member (or array member) of each struct of an array, alarms.  What follows is put into the row: STATE(struct uart, rx_at, .most = 15) */
#define STATE(type, field, ...) {.name = #field, .offset = offsetof(type, field), .size = sizeof STATE_OF(type, field), .elements = 1, .count = 1, \
    STATE_MOST(STATE_OF(type, field)), __VA_ARGS__}
#define STATE_ARRAY(type, field, ...) {.name = #field, .offset = offsetof(type, field), .size = sizeof STATE_OF(type, field)[0], \
    .elements = sizeof STATE_OF(type, field) / sizeof STATE_OF(type, field)[0], .count = 1, STATE_MOST(STATE_OF(type, field)[0]), __VA_ARGS__}
#define STATE_STRUCTS(type, array) .stride = sizeof STATE_OF(type, array)[0], .count = sizeof STATE_OF(type, array) / sizeof STATE_OF(type, array)[0]
#define STATE_EACH(type, array, field, ...) {.name = #array "." #field, .offset = offsetof(type, array[0].field), .size = sizeof STATE_OF(type, array)[0].field, \
    .elements = 1, STATE_STRUCTS(type, array), STATE_MOST(STATE_OF(type, array)[0].field), __VA_ARGS__}
#define STATE_EACH_ARRAY(type, array, field, ...) {.name = #array "." #field, .offset = offsetof(type, array[0].field), .size = sizeof STATE_OF(type, array)[0].field[0], \
    .elements = sizeof STATE_OF(type, array)[0].field / sizeof STATE_OF(type, array)[0].field[0], STATE_STRUCTS(type, array), __VA_ARGS__}
#define STATE_ALARM(type, field, ...) {.name = #field, .offset = offsetof(type, field), .size = sizeof(struct alarm), .elements = 1, .count = 1, .kind = STATE_IS_ALARM, __VA_ARGS__}
#define STATE_EACH_ALARM(type, array, field, ...) {.name = #array "." #field, .offset = offsetof(type, array[0].field), .size = sizeof(struct alarm), .elements = 1, \
    STATE_STRUCTS(type, array), .kind = STATE_IS_ALARM, __VA_ARGS__}
#define STATE_TABLE(version, fields) {version, sizeof(fields) / sizeof *(fields), fields}
struct state_out { uint8_t *bytes; size_t size, room; bool failed /* out of memory */; }; /* bytes: free() */
void state_bytes(struct state_out *, const void *, size_t);
void state_write(struct state_out *, const struct state_table *, const void *object);
/* Do the bytes fit the table?  False: error has one line.  state_read takes only bytes that were checked. */
bool state_check(const struct state_table *, unsigned version, const uint8_t *, size_t, char *error, size_t error_size);
void state_read(const struct state_table *, unsigned version, const uint8_t *, void *object);
void state_print(FILE *, const struct state_table *, const void *object);

struct device { const struct device_ops *ops; };
struct device_ops {
    const char *name;
    uint32_t (*read)(struct device *, uint32_t offset, unsigned size);   /* size 1, 2 or 4 */
    void (*write)(struct device *, uint32_t offset, unsigned size, uint32_t value);
    void (*reset)(struct device *);
    void (*free)(struct device *);
    void (*print)(struct device *, FILE *); /* its state, for the monitor; may be NULL */
    const struct state_table *state;        /* NULL: it has none */
    void (*loaded)(struct device *);        /* after all devices' state was read: what follows from it; may be NULL */
};

/* An interrupt line or any other wire; the receiver decides what a level change means. */
struct irq_line { void (*set)(void *receiver, int pin, int level); void *receiver; int pin; };
static inline void irq_set(const struct irq_line *irq, int level) { if (irq->set) irq->set(irq->receiver, irq->pin, level); }

/* --- Clock: virtual time in ns, and alarms on it.  The owner (machine or test) implements it. */
struct clock;
struct alarm { void (*fire)(void *ctx); void *ctx; uint64_t deadline_ns, order; struct clock *clock; bool armed; struct alarm *next; };
struct clock {
    uint64_t (*now)(struct clock *);             /* ns since machine start; any thread */
    void (*changed)(struct clock *);             /* the earliest deadline may have changed; may be NULL */
    struct alarm *alarms;                        /* sorted by deadline, then by order */
    uint64_t order;                              /* of the alarm that was set last */
};
static inline uint64_t clock_now(struct clock *c) { return c->now(c); }
void alarm_init(struct alarm *, struct clock *, void (*fire)(void *), void *ctx);
void alarm_set(struct alarm *, uint64_t deadline_ns);   /* re-arms */
void alarm_restore(struct alarm *, bool armed, uint64_t deadline_ns, uint64_t order); /* as it was saved; clock.changed is not called */
void alarm_cancel(struct alarm *);
uint64_t clock_next_deadline(const struct clock *);     /* UINT64_MAX: none */
void clock_run_alarms(struct clock *);                  /* fires all that are due */

/* Interrupts that a periodic timer owes since its alarm came more than a period late: the host had no CPU for us.  Guests count ticks, so they follow, eight
 * to a period, but not more than DEBT_MOST. */
enum { DEBT_MOST = 64 };
struct debt { struct alarm alarm; void (*pay)(void *ctx); void *ctx; uint64_t pace_ns; uint32_t count; };
void debt_init(struct debt *, struct clock *, void (*pay)(void *ctx), void *ctx); /* pay: one interrupt */
void debt_add(struct debt *, uint64_t interrupts, uint64_t period_ns);
void debt_cancel(struct debt *);                        /* the timer is set anew */
#define STATE_DEBT(type, debt, ...) STATE_ALARM(type, debt.alarm, __VA_ARGS__), STATE(type, debt.pace_ns, __VA_ARGS__), STATE(type, debt.count, .most = DEBT_MOST, __VA_ARGS__)
#define STATE_EACH_DEBT(type, array, debt, ...) STATE_EACH_ALARM(type, array, debt.alarm, __VA_ARGS__), STATE_EACH(type, array, debt.pace_ns, __VA_ARGS__), \
    STATE_EACH(type, array, debt.count, .most = DEBT_MOST, __VA_ARGS__)

/* --- Byte stream between a device (UART, debug port) and the user. */
struct chardev {
    void (*write)(void *ctx, const uint8_t *bytes, size_t size); /* takes all of it */
    void *ctx;
    bool (*is_full)(void *ctx); /* no more is wanted before uart_drained; NULL: never */
};

/* --- Address space: regions of RAM, ROM and devices.  Reads of nothing give all ones. */
enum region_kind { REGION_RAM, REGION_ROM, REGION_DEVICE };
struct region { uint64_t base, size; enum region_kind kind; uint8_t *host; struct device *device; uint32_t offset; const char *name; struct region *next; };
struct address_space {
    struct region *regions;    /* the latest added lies on top */
    const struct region *last; /* the last memory hit */
    unsigned generation;       /* another when the regions are others */
    void (*written)(void *ctx, const uint8_t *host, uint64_t size); void *written_ctx; /* told before a device writes to RAM; may be NULL */
};
bool space_add_memory(struct address_space *, enum region_kind, uint64_t base, uint64_t size, uint8_t *host, const char *name);
bool space_add_device(struct address_space *, uint64_t base, uint64_t size, struct device *, uint32_t offset, const char *name);
void space_remove(struct address_space *, uint64_t base, struct device *);
const struct region *space_find(const struct address_space *, uint64_t address);
uint64_t space_read(struct address_space *, uint64_t address, unsigned size);   /* sizes 1, 2, 4, 8 */
void space_write(struct address_space *, uint64_t address, unsigned size, uint64_t value);
void space_written(const struct address_space *, const uint8_t *host, uint64_t size);     /* for devices that write to RAM by pointer; before they do */
void space_print(FILE *, const struct address_space *);  /* `info mtree` */
void space_free(struct address_space *);

/* --- Devices; each constructor returns NULL when out of memory. */
struct device *pic_new(struct irq_line output /* INTR */);                     /* offsets 0,1 master; 2,3 slave; 4,5 ELCR 4d0,4d1 */
void pic_set_irq(void *pic, int irq, int level);                               /* fits irq_line.set */
int pic_acknowledge(struct device *);                                          /* vector; spurious where none */
struct lapic_bus;                                                              /* delivers messages between local APICs */
struct device *lapic_new(struct clock *, uint8_t id, struct irq_line output /* to the CPU: something is deliverable */);
int lapic_acknowledge(struct device *);          /* highest deliverable vector, moves it to ISR; -1: none; -2: ExtINT (ask the PIC) */
void lapic_set_lint(void *lapic, int pin, int level);   /* 0 = LINT0 (PIC's INTR), 1 = NMI */
void lapic_deliver(struct device *, unsigned vector, unsigned delivery_mode, bool level_triggered);
bool lapic_deliver_message(struct device *, uint32_t destination, bool logical, unsigned delivery_mode, unsigned vector, bool level);
void lapic_on_eoi(struct device *, void (*eoi)(void *ctx, unsigned vector), void *ctx);   /* level vectors, for the IOAPIC */
void lapic_on_nmi(struct device *, struct irq_line nmi, struct irq_line init, struct irq_line sipi /* level = vector */);
bool lapic_msr_read(struct device *, uint32_t msr, uint64_t *value);      /* 0x1b, 0x6e0, 0x800-0x8ff; false: #GP */
bool lapic_msr_write(struct device *, uint32_t msr, uint64_t value);
uint64_t lapic_base(struct device *);            /* IA32_APIC_BASE */
void lapic_on_base(struct device *, void (*moved)(void *ctx, uint64_t base), void *ctx); /* after each change of IA32_APIC_BASE */
uint8_t lapic_tpr_get(struct device *); void lapic_tpr_set(struct device *, uint8_t tpr);  /* 8 bits: CR8 << 4 */
void lapic_tsc_scale(struct device *, uint64_t (*tsc_to_ns)(void *ctx, uint64_t tsc), void *ctx); /* for TSC-deadline */
struct device *ioapic_new(struct device *lapic, uint8_t id);
void ioapic_set_irq(void *ioapic, int pin, int level);
void ioapic_eoi(void *ioapic, unsigned vector);
/* The interrupt controllers' registers, for who stands in for them (an accelerator's own): *_take tells of them and lets the device stand still, so that
 * levels of its lines are noted and nothing is done about them; *_give has it go on from what was made of them.  What only the device has stays with it. */
struct pic_registers {
    struct pic_chip_registers {
        uint8_t irr /* edges */, isr, imr, lines, elcr, base, icw /* the next one that is expected, 2 to 4; 0: none */, lowest /* priority */;
        bool needs_icw4, auto_eoi, rotate_auto, special_mask, special_nested, read_isr, poll;
    } chip[2];
};
struct ioapic_registers { uint64_t entry[24]; uint32_t lines; uint8_t id, select; };
struct lapic_registers {
    uint64_t icr;
    uint32_t isr[8], tmr[8], irr[8], tpr, svr, esr, ldr, dfr, divide, initial, current /* of the timer */, lvt[6] /* timer, thermal, perf, lint0, lint1, error */;
    uint8_t id;
};
struct pit_registers {
    struct pit_counter_registers {
        uint64_t elapsed_ns;       /* since the count began */
        uint32_t count;            /* 1 to 65536 */
        uint16_t latch; uint8_t status, low, mode, access, latched /* bytes still to be read */;
        bool read_high, write_high, bcd, gate, status_latched, loaded;
    } counter[3];
};
void pic_take(struct device *, struct pic_registers *);
void pic_give(struct device *, const struct pic_registers *); /* `lines` is the device's own */
void ioapic_take(struct device *, struct ioapic_registers *);
void ioapic_give(struct device *, const struct ioapic_registers *); /* `lines` is the device's own */
void lapic_take(struct device *, struct lapic_registers *);
void lapic_give(struct device *, const struct lapic_registers *);
void pit_take(struct device *, struct pit_registers *);
void pit_give(struct device *, const struct pit_registers *);
struct device *pit_new(struct clock *, struct irq_line output);                /* offsets 0-3; channel 2 gate through pit_port61 */
struct device *port61_new(struct clock *, struct device *pit);                 /* port 0x61 */
struct device *rtc_new(struct clock *, struct irq_line irq8, const struct tm *start);  /* offsets 0,1 */
void rtc_set_cmos(struct device *, unsigned index, uint8_t value);
struct device *hpet_new(struct clock *, struct irq_line (*route)(void *ctx, int irq), void *ctx); /* 0x400 bytes */
struct device *uart_new(struct clock *, struct irq_line irq, struct chardev out);   /* 16550A, 8 offsets */
size_t uart_receive(struct device *, const uint8_t *bytes, size_t size);      /* how many it took */
bool uart_has_room(struct device *);
void uart_break(struct device *);                /* the other side sends a break */
void uart_drained(struct device *);              /* what it writes to has room again */
void uart_on_room(struct device *, void (*room)(void *ctx), void *ctx);        /* the receiver has room again */
struct device *i8042_new(struct irq_line irq1, struct irq_line irq12, struct irq_line reset_line, struct irq_line a20); /* offsets 0 (0x60), 4 (0x64) */
void i8042_key(struct device *, unsigned set1_scancode);  /* with 0xe0 in bits 8..15, bit 7 = release */
void i8042_mouse(struct device *, int dx, int dy, int dz, unsigned buttons);
struct device *acpi_pm_new(struct clock *, struct irq_line sci, struct irq_line power_off, struct irq_line suspend); /* PIIX4 PM block, 64 bytes */
void acpi_pm_power_button(struct device *);
struct device *port92_new(struct irq_line reset_line, struct irq_line a20);
struct device *portf0_new(struct irq_line irq13);
bool portf0_ferr(struct device *, bool level);                                 /* the CPU's FERR# is at this level; returns IGNNE# */
struct device *portcf9_new(struct irq_line reset_line);
struct device *debugcon_new(struct chardev out);                               /* port 0xe9 */
struct device *debugexit_new(void (*exit)(void *ctx, int status), void *ctx);  /* isa-debug-exit: status (value << 1) | 1 */
struct device *fwcfg_new(void);                                                /* 0x510-0x51b: select, data, DMA address */
bool fwcfg_add(struct device *, uint16_t key, const void *bytes, size_t size); /* copies */
bool fwcfg_add_file(struct device *, const char *name, const void *bytes, size_t size);
void fwcfg_dma_memory(struct device *, struct address_space *);
struct pci_bus;
struct device *pci_host_new(struct address_space *memory, struct address_space *io);  /* i440FX: offsets 0 (0xcf8), 4 (0xcfc); has PIIX3 ISA at 1.0, IDE's place at 1.1, PIIX4 PM at 1.3 */
void pci_host_pirq(struct device *, void (*set_irq)(void *ctx, int irq, int level), void *ctx);

/* --- The PC */
struct pc;
struct pc_config {
    uint64_t ram_size;             /* bytes */
    uint8_t *ram;                  /* ram_size bytes of host memory, owned by the caller */
    struct clock *clock;
    int64_t start_time;            /* what the RTC shows at first: seconds since 1970, UTC; 0: the host's time */
    struct irq_line cpu_interrupt; /* level: the CPU has something to take (pc_interrupt_take) */
    struct irq_line cpu_nmi;
    struct irq_line cpu_init;      /* INIT signal */
    struct irq_line cpu_a20;       /* A20M#: level 0 masks address bit 20; open after reset */
    struct irq_line reset_request, shutdown_request;
    void (*debug_exit)(void *ctx, int status); void *debug_exit_ctx;
    uint16_t debug_exit_port, debug_exit_size; /* size 0: it is not there */
    struct chardev serial[2], debug_console;
    uint64_t (*tsc_to_ns)(void *ctx, uint64_t tsc); void *tsc_ctx;
    struct { const uint8_t *bytes; size_t size; } kernel, initrd; const char *cmdline;  /* for fw_cfg and direct boot */
};
struct pc *pc_new(const struct pc_config *, char *error, size_t error_size);   /* error: why, where NULL */
void pc_free(struct pc *);
void pc_reset(struct pc *);
struct address_space *pc_memory(struct pc *);
struct address_space *pc_io(struct pc *);
struct device *pc_serial(struct pc *, unsigned index);
struct device *pc_lapic(struct pc *);
int pc_interrupt_take(struct pc *);      /* vector or -1 */
/* All of them, for an accelerator that has its own.  While it has them, each change of an ISA line goes to `line` as pin 0 to 15, and of a line that
 * only the I/O APIC has as its pin + PC_IOAPIC_LINES. */
enum { PC_IOAPIC_LINES = 24, PC_LINES = 48 };
struct pc_controllers { struct pic_registers pic; struct ioapic_registers ioapic; struct lapic_registers lapic; bool has_pit; /* it goes along */ struct pit_registers pit; };
void pc_controllers_take(struct pc *, bool with_pit, struct pc_controllers *, void (*line)(void *ctx, int pin, int level), void *ctx);
void pc_controllers_give(struct pc *, const struct pc_controllers *);
bool pc_timer_replaced(struct pc *);     /* IRQ 0 is the HPET's, not the PIT's */
bool pc_ferr(struct pc *, bool level);   /* the CPU's FERR# is at this level; returns IGNNE# */
struct device *pc_pm(struct pc *);
struct device *pc_keyboard(struct pc *);
/* What is saved of it, by number; false: there are no more.  table NULL: a device without state.  To be read with pc_reset before, so that
 * what an older table lacks has a value, and pc_loaded after. */
struct pc_part { char name[16]; const struct state_table *table; void *object; };
bool pc_part(struct pc *, unsigned n, struct pc_part *);
void pc_loaded(struct pc *);
void pc_print_pic(struct pc *, FILE *);  /* `info pic`: 8259s, I/O APIC, local APIC */
void pc_print_irq(struct pc *, FILE *);  /* `info irq`: how often each ISA interrupt line rose */

/* --- Direct boot (hw/boot.c): puts a kernel in RAM and says with which CPU state it starts. */
struct boot_entry {
    enum { BOOT_LINUX64, BOOT_LINUX32, BOOT_PVH, BOOT_REAL16, BOOT_MULTIBOOT } protocol;
    uint64_t entry, zero_page /* RSI / ESI / EBX */, page_table /* CR3 for 64 bit */, gdt, gdt_limit, stack;
};
/* Loads bzImage, ELF or Multiboot, initrd, command line, ACPI and SMBIOS tables and the memory map.  False: error has one
 * line.  *entry comes zeroed, or with protocol BOOT_LINUX32 where the CPU has no 64-bit mode. */
bool boot_load(const struct pc_config *, struct boot_entry *, char *error, size_t error_size);
/* ACPI and SMBIOS tables, made by us (hw/acpi.c, hw/smbios.c); both put below 1 MiB; return the RSDP's / entry point's address. */
uint64_t acpi_build(uint8_t *ram, uint64_t ram_size);
uint64_t smbios_build(uint8_t *ram, uint64_t ram_size);

#endif
