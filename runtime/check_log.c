/* Lockstep's log: what the CPU asks of the rest of the machine in an interval.  The tier's questions go to the devices and
 * are noted with their answers; the reference's are answered from there. */
#include "runtime/check.h"
#include <string.h>

#define MSR_APIC_BASE 0x1b

static const char *const names[] = {"IN", "OUT", "MMIO read", "MMIO write", "TSC", "random number", "interrupt acknowledge", "APIC MSR read",
                                    "APIC MSR write", "CR8 read", "CR8 write", "FERR#", "shutdown", "device's write to RAM", "nothing"};

void check_print_event(FILE *f, const struct check_event *e)
{
    fprintf(f, "%s", names[e->kind]);
    if (e->kind != EVENT_NONE)
        fprintf(f, " at %#lx, %u bytes, value %#lx", e->address, e->size, e->value);
}

void check_log_begin(struct check *c, enum check_role role)
{
    c->role = role;
    c->event_at = 0;
    c->parted = false;
    if (role == CHECK_RECORD)
        c->event_count = c->byte_count = 0;
}

static struct check_event *event_add(struct check *c, struct check_event e)
{
    c->events = check_room(c->events, c->event_count, &c->event_room, sizeof *c->events);
    c->events[c->event_count] = e;
    return &c->events[c->event_count++];
}

/* --- Recording.  A device may have pulled lines of the CPU and written to RAM meanwhile. */
static void bytes_keep(struct check *c)
{
    for (size_t i = 0; i < c->event_count; i++) {
        struct check_event *e = &c->events[i];
        if (e->kind != EVENT_RAM || e->value != UINT64_MAX)
            continue;
        while (c->byte_room < c->byte_count + e->size)
            c->bytes = check_room(c->bytes, c->byte_room, &c->byte_room, 1);
        memcpy(c->bytes + c->byte_count, c->machine->ram + e->address, e->size);
        e->value = c->byte_count;
        c->byte_count += e->size;
    }
}

/* The answer to the question that is number `at`. */
static void recorded(struct check *c, struct x86_cpu *cpu, size_t at, uint64_t result)
{
    struct check_event *e = &c->events[at];
    e->result = result;
    e->fault = e->kind == EVENT_APIC_READ && cpu->state.faulted;
    e->a20_mask = cpu->state.a20_mask;
    e->nmi = cpu->state.nmi_pending;
    if (c->event_count > at + 1)
        bytes_keep(c);
}

/* By a device on the vCPU's thread that is asked something just now; about to be. */
static void ram_written(struct check *c, uint64_t ram_offset, uint32_t size)
{
    check_page(c->machine->vcpu, ram_offset / PAGE);
    event_add(c, (struct check_event){.kind = EVENT_RAM, .address = ram_offset, .size = size, .value = UINT64_MAX});
}

void check_device_wrote(struct check *c, uint64_t ram_offset, uint32_t size, bool on_vcpu_thread)
{
    if (on_vcpu_thread && c->role == CHECK_RECORD)
        ram_written(c, ram_offset, size);
    else
        check_foreign(c, ram_offset / PAGE);
}

/* --- Replaying */
static void apply_ram(struct check *c, struct vcpu *v, const struct check_event *e)
{
    uint64_t page = e->address / PAGE;
    check_page(v, page);
    tb_written(v, page, (unsigned)(e->address & (PAGE - 1)), e->size, NULL);
    memcpy(v->machine->ram + e->address, c->bytes + e->value, e->size);
}

static void apply_lines(struct x86_cpu *cpu, const struct check_event *e)
{
    cpu->state.nmi_pending = e->nmi;
    if (cpu->state.a20_mask == e->a20_mask)
        return;
    cpu->state.a20_mask = e->a20_mask;
    softmmu_flush(cpu, X86_FLUSH_ALL, 0);
}

static bool same_question(const struct check_event *a, const struct check_event *b)
{
    return a->kind == b->kind && a->address == b->address && a->size == b->size && a->value == b->value;
}

static void part(struct check *c, const struct check_event *asked)
{
    if (!c->parted)
        c->asked = *asked;
    c->parted = true;
}

/* What a question did to the CPU itself, beside its answer. */
static void apply_effects(struct check *c, struct x86_cpu *cpu, const struct check_event *e)
{
    if (e->fault)
        x86_raise_error(cpu, X86_GP, 0);
    if (e->kind == EVENT_SHUTDOWN)
        cpu->state.halted = 1;
    if (e->kind != EVENT_APIC_WRITE || e->address != MSR_APIC_BASE || !e->result)
        return;
    if (vcpu_of(cpu) == c->side[CHECK_REFERENCE].v)
        machine_bus.apic_write(cpu, MSR_APIC_BASE, e->value); /* its memory map follows */
    else
        softmmu_flush(cpu, X86_FLUSH_ALL, 0);
}

static uint64_t replayed(struct check *c, struct x86_cpu *cpu, const struct check_event *question)
{
    if (c->event_at == c->event_count || !same_question(&c->events[c->event_at], question)) {
        part(c, question);
        return 0;
    }
    const struct check_event *e = &c->events[c->event_at++];
    apply_lines(cpu, e);
    apply_effects(c, cpu, e);
    while (c->event_at < c->event_count && c->events[c->event_at].kind == EVENT_RAM)
        apply_ram(c, vcpu_of(cpu), &c->events[c->event_at++]);
    return e->result;
}

bool check_log_done(const struct check *c) { return c->event_at == c->event_end; }

/* --- The bus: each function is a question */
static uint64_t asked_live(struct x86_cpu *cpu, const struct check_event *q)
{
    struct vcpu *v = vcpu_of(cpu);
    switch (q->kind) {
    case EVENT_IO_READ: return machine_bus.io_read(cpu, (uint16_t)q->address, q->size);
    case EVENT_IO_WRITE: machine_bus.io_write(cpu, (uint16_t)q->address, q->size, (uint32_t)q->value); break;
    case EVENT_MMIO_READ: return softmmu_device_read(v, q->address, q->size);
    case EVENT_MMIO_WRITE: softmmu_device_write(v, q->address, q->size, q->value); break;
    case EVENT_TSC: return machine_bus.tsc(cpu);
    case EVENT_RANDOM: return machine_bus.random(cpu);
    case EVENT_INTERRUPT: return (uint64_t)machine_bus.interrupt_take(cpu);
    case EVENT_APIC_READ: return machine_bus.apic_read(cpu, (uint32_t)q->address);
    case EVENT_APIC_WRITE: return machine_bus.apic_write(cpu, (uint32_t)q->address, q->value);
    case EVENT_TPR_READ: return machine_bus.tpr_read(cpu);
    case EVENT_TPR_WRITE: machine_bus.tpr_write(cpu, (uint8_t)q->value); break;
    case EVENT_FERR: return machine_bus.ferr(cpu, q->value);
    case EVENT_SHUTDOWN: machine_bus.shutdown(cpu); break;
    case EVENT_RAM: case EVENT_NONE: break;
    }
    return 0;
}

static uint64_t ask(struct x86_cpu *cpu, enum check_event_kind kind, uint64_t address, unsigned size, uint64_t value)
{
    struct check *c = vcpu_of(cpu)->machine->check;
    const struct check_event question = {.kind = kind, .address = address, .size = size, .value = value};
    if (c->role == CHECK_IDLE)
        return asked_live(cpu, &question);
    if (c->role == CHECK_REPLAY)
        return replayed(c, cpu, &question);
    size_t at = c->event_count;
    event_add(c, question);
    uint64_t result = asked_live(cpu, &question);
    recorded(c, cpu, at, result);
    return result;
}

static uint32_t io_read(struct x86_cpu *cpu, uint16_t port, unsigned size) { return (uint32_t)ask(cpu, EVENT_IO_READ, port, size, 0); }
static void io_write(struct x86_cpu *cpu, uint16_t port, unsigned size, uint32_t value) { ask(cpu, EVENT_IO_WRITE, port, size, value); }
static int interrupt_take(struct x86_cpu *cpu) { return (int)ask(cpu, EVENT_INTERRUPT, 0, 0, 0); }
static uint64_t apic_read(struct x86_cpu *cpu, uint32_t msr) { return ask(cpu, EVENT_APIC_READ, msr, 8, 0); }
static bool apic_write(struct x86_cpu *cpu, uint32_t msr, uint64_t value) { return ask(cpu, EVENT_APIC_WRITE, msr, 8, value); }
static uint8_t tpr_read(struct x86_cpu *cpu) { return (uint8_t)ask(cpu, EVENT_TPR_READ, 0, 0, 0); }
static void tpr_write(struct x86_cpu *cpu, uint8_t cr8) { ask(cpu, EVENT_TPR_WRITE, 0, 1, cr8); }
static bool ferr(struct x86_cpu *cpu, bool level) { return ask(cpu, EVENT_FERR, 0, 0, level); }
static uint64_t random_number(struct x86_cpu *cpu) { return ask(cpu, EVENT_RANDOM, 0, 8, 0); }
static uint64_t tsc(struct x86_cpu *cpu) { return ask(cpu, EVENT_TSC, 0, 8, 0); }
static void shutdown(struct x86_cpu *cpu) { ask(cpu, EVENT_SHUTDOWN, 0, 0, 0); }
uint64_t check_device_read(struct vcpu *v, uint64_t physical, unsigned size) { return ask(&v->cpu, EVENT_MMIO_READ, physical, size, 0); }
void check_device_write(struct vcpu *v, uint64_t physical, unsigned size, uint64_t value) { ask(&v->cpu, EVENT_MMIO_WRITE, physical, size, value); }

/* What is memory, or of the CPU's own, is each one's own. */
void check_bus_make(struct x86_bus *bus)
{
    *bus = machine_bus;
    bus->io_read = io_read;
    bus->io_write = io_write;
    bus->interrupt_take = interrupt_take;
    bus->apic_read = apic_read;
    bus->apic_write = apic_write;
    bus->tpr_read = tpr_read;
    bus->tpr_write = tpr_write;
    bus->ferr = ferr;
    bus->random = random_number;
    bus->tsc = tsc;
    bus->shutdown = shutdown;
}
