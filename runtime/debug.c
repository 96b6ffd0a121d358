/* Breakpoints, watchpoints, steps and memory for debuggers: what runtime.h promises them.
 * Code: no block holds a breakpoint but at its start, and there the cpu loop stops before it looks for one; so
 * blocks at breakpoints are never made, chained to, or entered in the jump table.  Data: pages that are watched get
 * no TLB entries, so that each access to them comes by softmmu; an instruction that hits is run alone, and the
 * machine stops behind it. */
#include "runtime/internal.h"
#include <stdlib.h>
#include <string.h>

/* --- Asked by the cpu loop and softmmu */
static bool overlaps(const struct breakpoint *b, uint64_t at, uint64_t size) { return at - b->at < b->size || b->at - at < size; }

/* A code breakpoint of the machine's own, for --switch-to: beside those of debuggers, which do not see it. */
#define BREAK_HANDOVER ((enum machine_break)(MACHINE_WATCH_ACCESS + 1))
static bool is_code(const struct breakpoint *b) { return b->kind == MACHINE_BREAK_CODE || b->kind == BREAK_HANDOVER; }

bool debug_is_asked(const struct debugger *d)
{
    bool asked = d->step || d->pass || d->data || d->due;
    for (unsigned i = 0; i < d->count; i++)
        asked |= d->points[i].kind != BREAK_HANDOVER;
    return asked;
}

bool debug_code_at(const struct debugger *d, uint64_t linear)
{
    for (unsigned i = 0; i < d->count; i++)
        if (d->points[i].kind == MACHINE_BREAK_CODE && d->points[i].at == linear)
            return true;
    return false;
}

uint64_t debug_code_room(const struct debugger *d, uint64_t linear, uint64_t most)
{
    for (unsigned i = 0; i < d->count; i++) {
        uint64_t room = d->points[i].at - linear;
        if (is_code(&d->points[i]) && room && room < most)
            most = room;
    }
    return most;
}

bool debug_data_page(const struct debugger *d, uint64_t linear)
{
    for (unsigned i = 0; i < d->count; i++)
        if (!is_code(&d->points[i]) && overlaps(&d->points[i], linear & PAGE_MASK, PAGE))
            return true;
    return false;
}

static const struct breakpoint *data_at(const struct debugger *d, uint64_t linear, unsigned size, bool write)
{
    for (unsigned i = 0; i < d->count; i++) {
        const struct breakpoint *b = &d->points[i];
        bool kind = b->kind == MACHINE_WATCH_ACCESS || b->kind == (write ? MACHINE_WATCH_WRITE : MACHINE_WATCH_READ);
        if (kind && overlaps(b, linear, size))
            return b;
    }
    return NULL;
}

bool debug_data_hits(const struct debugger *d, uint64_t linear, unsigned size, bool write) { return data_at(d, linear, size, write); }

/* The first hit of an instruction counts. */
void debug_data_access(struct debugger *d, uint64_t linear, unsigned size, bool write)
{
    const struct breakpoint *b = data_at(d, linear, size, write);
    if (!b || d->due)
        return;
    d->due = true;
    d->event = (struct machine_stop){MACHINE_STOP_WATCH, b->kind, linear > b->at ? linear : b->at};
}

static void due(struct debugger *d, enum machine_stop_reason reason, uint64_t address)
{
    if (d->due)
        return; /* a watchpoint, hit by the instruction that was stepped */
    d->due = true;
    d->event = (struct machine_stop){.reason = reason, .address = address};
}

enum debug_run debug_before_instruction(struct vcpu *v)
{
    struct debugger *d = &v->machine->debug;
    uint64_t linear = tb_linear(&v->cpu.state);
    if (v->machine->handovers && handover_pc(v->machine, linear)) {
        machine_break_remove(v->machine, BREAK_HANDOVER, linear, 1);
        return DEBUG_STOP; /* the loop begins anew, and changes the tier */
    }
    if (d->pass || d->step) {
        d->pass = false;
        return DEBUG_RUN_ALONE;
    }
    if (!d->code || !debug_code_at(d, linear))
        return DEBUG_RUN_BLOCK;
    due(d, MACHINE_STOP_BREAK, linear);
    return DEBUG_STOP;
}

void debug_after_instruction(struct vcpu *v)
{
    struct debugger *d = &v->machine->debug;
    if (!d->step)
        return;
    d->step = false;
    due(d, MACHINE_STOP_STEP, tb_linear(&v->cpu.state));
}

/* The loop's next turn parks; the main loop tells the debugger. */
void debug_stop(struct vcpu *v)
{
    struct machine *m = v->machine;
    pthread_mutex_lock(&m->lock);
    m->debug.due = m->debug.step = false;
    m->debug.untold = true;
    m->debug.told = m->debug.event;
    machine_clock_pause(m, true);
    atomic_fetch_or(&m->requests, REQUEST_STOP);
    pthread_mutex_unlock(&m->lock);
}

void debug_tell(struct machine *m)
{
    struct debugger *d = &m->debug;
    pthread_mutex_lock(&m->lock);
    bool tell = d->untold && m->parked;
    struct machine_stop event = d->told;
    if (tell)
        d->untold = false;
    pthread_mutex_unlock(&m->lock);
    if (tell && d->stopped)
        d->stopped(d->ctx, &event);
}

void debug_free(struct machine *m) { free(m->debug.points); }

/* --- Asked by debuggers, while the machine stands still */
static void changed(struct debugger *d)
{
    d->code = d->data = false;
    for (unsigned i = 0; i < d->count; i++)
        *(is_code(&d->points[i]) ? &d->code : &d->data) = true;
}

bool machine_break_add(struct machine *m, enum machine_break kind, uint64_t linear, uint64_t size)
{
    struct debugger *d = &m->debug;
    struct breakpoint *points = realloc(d->points, (d->count + 1) * sizeof *points);
    if (!points)
        return false;
    d->points = points;
    points[d->count++] = (struct breakpoint){kind, linear, size ? size : 1};
    changed(d);
    if (is_code(&points[d->count - 1])) /* what is made for a breakpoint may stay when it goes: it ends early */
        tb_evict_at(m->vcpu, linear);
    else
        softmmu_flush(&m->vcpu->cpu, X86_FLUSH_ALL, 0);
    return true;
}

bool machine_break_remove(struct machine *m, enum machine_break kind, uint64_t linear, uint64_t size)
{
    struct debugger *d = &m->debug;
    for (unsigned i = 0; i < d->count; i++) {
        const struct breakpoint *b = &d->points[i];
        if (b->kind != kind || b->at != linear || b->size != (size ? size : 1))
            continue;
        d->points[i] = d->points[--d->count];
        changed(d);
        return true;
    }
    return false;
}

void machine_break_clear(struct machine *m)
{
    struct debugger *d = &m->debug;
    unsigned kept = 0;
    for (unsigned i = 0; i < d->count; i++)
        if (d->points[i].kind == BREAK_HANDOVER)
            d->points[kept++] = d->points[i];
    d->count = kept;
    changed(d);
}

bool debug_handover_add(struct machine *m, uint64_t linear) { return machine_break_add(m, BREAK_HANDOVER, linear, 1); }

/* Where a halted CPU is stepped, it takes an interrupt, and time, to go on. */
void machine_step(struct machine *m, unsigned flags)
{
    bool halted = m->vcpu->cpu.state.halted;
    if (m->debug.untold)
        return; /* it has just met a breakpoint, as will be told */
    m->debug.step = true;
    m->debug.quiet = flags & MACHINE_STEP_NO_INTERRUPTS && !halted;
    machine_resume(m, flags & MACHINE_STEP_NO_TIME && !halted);
}

void machine_on_stop(struct machine *m, void (*stopped)(void *, const struct machine_stop *), void *ctx)
{
    m->debug.stopped = stopped;
    m->debug.ctx = ctx;
}

void machine_paused(struct machine *m)
{
    struct debugger *d = &m->debug;
    if (d->stopped && !d->untold)
        d->stopped(d->ctx, &(struct machine_stop){.reason = MACHINE_STOP_PAUSE});
}

void machine_cpu_changed(struct machine *m)
{
    x86_mode_update(&m->vcpu->cpu);
    softmmu_flush(&m->vcpu->cpu, X86_FLUSH_ALL, 0);
    m->vcpu->mode_id = 0; /* the vCPU's thread sets its tables anew */
}

/* --- Guest memory */
/* Device registers, in the largest aligned pieces. */
static bool debug_device(struct machine *m, uint64_t physical, uint8_t *bytes, size_t size, bool write)
{
    const struct region *r = space_find(pc_memory(m->pc), physical);
    if (!r || r->kind != REGION_DEVICE)
        return false;
    for (size_t done = 0, n; done < size; done += n) {
        for (n = 4; n > size - done || (physical + done) & (n - 1); n >>= 1)
            ;
        uint64_t value = 0;
        if (write) {
            memcpy(&value, bytes + done, n);
            space_write(pc_memory(m->pc), physical + done, (unsigned)n, value);
        } else {
            value = space_read(pc_memory(m->pc), physical + done, (unsigned)n);
            memcpy(bytes + done, &value, n);
        }
    }
    return true;
}

/* Inside one page. */
static bool debug_page(struct machine *m, uint64_t physical, uint8_t *bytes, size_t size, bool write)
{
    pthread_mutex_lock(&m->lock);
    uint8_t *host = softmmu_ram(m, physical);
    bool ok = host || debug_device(m, physical, bytes, size, write);
    if (host && write) {
        machine_ram_written(m, host, size);
        memcpy(host, bytes, size);
    } else if (host) {
        memcpy(bytes, host, size);
    }
    pthread_mutex_unlock(&m->lock);
    return ok;
}

static bool debug_memory(struct machine *m, uint64_t address, bool physical, uint8_t *bytes, size_t size, bool write)
{
    for (size_t done = 0, n; done < size; done += n) {
        uint64_t at = address + done, phys = at;
        n = PAGE - (at & (PAGE - 1));
        if (n > size - done)
            n = size - done;
        if (!physical && !x86_translate_debug(&m->vcpu->cpu, at, &phys))
            return false;
        if (!debug_page(m, phys, bytes + done, n, write))
            return false;
    }
    return true;
}

bool machine_debug_read(struct machine *m, uint64_t address, bool physical, void *to, size_t size)
{
    return debug_memory(m, address, physical, to, size, false);
}

bool machine_debug_write(struct machine *m, uint64_t address, bool physical, const void *from, size_t size)
{
    return debug_memory(m, address, physical, (uint8_t *)(uintptr_t)from, size, true);
}

/* --- Segment registers: on a copy of the CPU, whose faults are nobody's */
static bool copy_access(struct x86_cpu *cpu, bool ok)
{
    if (!ok)
        x86_raise(cpu, X86_PF);
    return ok;
}
static bool copy_read(struct x86_cpu *cpu, uint64_t linear, unsigned size, unsigned access, void *to)
{
    (void)access;
    return copy_access(cpu, machine_debug_read(cpu->bus_ctx, linear, false, to, size));
}
static bool copy_write(struct x86_cpu *cpu, uint64_t linear, unsigned size, unsigned access, const void *from)
{
    (void)access;
    return copy_access(cpu, machine_debug_write(cpu->bus_ctx, linear, false, from, size));
}
static void copy_mode_changed(struct x86_cpu *cpu) { (void)cpu; }

bool machine_segment_load(struct machine *m, enum x86_seg seg, uint16_t selector)
{
    static const struct x86_bus bus = {.read = copy_read, .write = copy_write, .mode_changed = copy_mode_changed};
    struct x86_state *s = &m->vcpu->cpu.state;
    struct x86_cpu copy = m->vcpu->cpu;
    bool is_protected = s->mode & X86_MODE_PE && !(s->mode & X86_MODE_VM);
    copy.bus = &bus;
    copy.state.ferr = 0;
    if ((seg == X86_CS && is_protected) || !x86_segment_load(&copy, seg, selector))
        return false;
    s->seg_sel[seg] = copy.state.seg_sel[seg];
    s->seg_base[seg] = copy.state.seg_base[seg];
    s->seg_limit[seg] = copy.state.seg_limit[seg];
    s->seg_attr[seg] = copy.state.seg_attr[seg];
    return true;
}
