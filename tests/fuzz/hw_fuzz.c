/* A guest that writes anything to any register of the PC, at any time: no device may crash, hang, or touch memory that
 * is not the guest's.  Input: a script of 8-byte steps: what, size, place, value. */
#include "hw/pc.h"
#include <stdlib.h>
#include <string.h>

#define RAM_SIZE (4u << 20)
static uint64_t now_ns;
static uint64_t now(struct clock *c) { (void)c; return now_ns; }
static void set(void *ctx, int pin, int level) { (void)ctx; (void)pin; (void)level; }
static void put(void *ctx, const uint8_t *bytes, size_t size) { (void)ctx; (void)bytes; (void)size; }
static void on_exit_port(void *ctx, int status) { (void)ctx; (void)status; }
static uint64_t tsc_to_ns(void *ctx, uint64_t tsc) { (void)ctx; return tsc; }

/* Where registers are: a step's place is its low byte into one of these windows, or anywhere. */
static const uint64_t windows[] = {PC_LAPIC, PC_LAPIC + 0x100, PC_LAPIC + 0x200, PC_LAPIC + 0x300, PC_IOAPIC, PC_HPET, PC_HPET + 0x100, PC_PCI_WINDOW,
                                   PC_HOLE, PC_SHADOW, PC_TABLES_END - 0x80, RAM_SIZE - 0x80, 0x7fffffff80, PC_HIGH_RAM - 0x80};
static const uint16_t port_windows[] = {0x00, 0x100, 0x300, 0x400, 0x500, 0x600, 0x0c00, 0x0cf0, 0xae00, 0xff80, 0x200, 0x170, 0x1f0, 0x4d0, 0xb000, 0x700};

static void step(struct pc *pc, struct clock *clock, const uint8_t *s)
{
    unsigned what = s[0] & 7, size = 1u << (s[0] >> 3 & 3);
    uint32_t value;
    memcpy(&value, s + 4, 4);
    uint64_t memory = windows[s[1] % (sizeof windows / sizeof *windows)] + s[2], wide;
    uint16_t port = (uint16_t)(port_windows[s[1] % 16] + s[2]);
    switch (what) {
    case 0: space_write(pc_io(pc), port, size > 4 ? 4 : size, value); break;
    case 1: space_read(pc_io(pc), port, size > 4 ? 4 : size); break;
    case 2: space_write(pc_memory(pc), memory, size, value | (uint64_t)s[3] << 40); break;
    case 3: space_read(pc_memory(pc), memory, size); break;
    case 4: now_ns += s[3] & 1 ? value : (uint64_t)value << 12; clock_run_alarms(clock); break;
    case 5: pc_interrupt_take(pc); break;
    case 6:
        if (s[3] & 1)
            lapic_msr_write(pc_lapic(pc), s[3] & 2 ? 0x800u + s[2] : s[3] & 4 ? 0x6e0 : 0x1b, value);
        else
            lapic_msr_read(pc_lapic(pc), 0x800u + s[2], &wide);
        break;
    case 7:
        if (s[3] & 1)
            uart_receive(pc_serial(pc, s[3] >> 1 & 1), s, 8);
        else if (s[3] == 2)
            pc_reset(pc);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static uint8_t *ram;
    char error[200];
    if (!ram && !(ram = calloc(1, RAM_SIZE)))
        abort();
    now_ns = 0;
    struct clock clock = {.now = now};
    const struct irq_line line = {set, NULL, 0};
    struct pc_config config = {
        .ram_size = RAM_SIZE, .ram = ram, .clock = &clock, .start_time = 1767225600, .cpu_interrupt = line, .cpu_nmi = line, .cpu_init = line,
        .reset_request = line, .shutdown_request = line, .debug_exit = on_exit_port, .debug_exit_port = 0x501, .debug_exit_size = 4, .serial = {{put, NULL}, {put, NULL}},
        .debug_console = {put, NULL}, .tsc_to_ns = tsc_to_ns, .cmdline = "quiet"};
    struct pc *pc = pc_new(&config, error, sizeof error);
    if (!pc)
        abort();
    pc_reset(pc);
    for (size_t i = 0; i + 8 <= size && i < 8 * 512; i += 8)
        step(pc, &clock, bytes + i);
    pc_free(pc);
    if (clock.alarms)
        abort(); /* an alarm outlives its device */
    return 0;
}
