/* The loop in TIER_KVM: what the cpu-exec loop is for the tiers, for an accelerator that runs the guest by itself (struct accel_ops).
 * Where it cannot - an instruction that it does not know, breakpoints, a masked A20 - the guest's state comes back for that
 * long, and the interpreter or the template tier goes on. */
#include "runtime/internal.h"
#include <string.h>

static const struct accel_ops *ops(const struct vcpu *v) { return v->machine->config.accel; }

/* Breakpoints and steps are the tiers' business; A20M# is not known to accelerators. */
static bool is_detour(const struct vcpu *v)
{
    return debug_is_asked(&v->machine->debug) || v->cpu.state.a20_mask != ~0ull || (!v->away && !ops(v)->can_run(v->machine->accel, &v->cpu.state));
}

bool accel_is_due(const struct vcpu *v)
{
    return v->machine->config.tier == TIER_KVM && !is_detour(v) && !vcpu_is_between(&v->cpu.state);
}

void accel_get(struct vcpu *v)
{
    if (!v->away)
        return;
    int vector = ops(v)->get(v->machine->accel, &v->cpu);
    pthread_mutex_lock(&v->machine->lock);
    if (ops(v)->controllers_get)
        ops(v)->controllers_get(v->machine->accel);
    v->away = false; /* from now on devices tell of what they write */
    pthread_mutex_unlock(&v->machine->lock);
    x86_mode_update(&v->cpu);
    softmmu_flush(&v->cpu, X86_FLUSH_ALL, 0);
    if (vector >= 0)
        vcpu_deliver(v, VCPU_INTERRUPT, (unsigned)vector);
}

/* The tiers go on for a while. */
static bool detour(struct vcpu *v)
{
    accel_get(v);
    tb_suspect_all(v);
    tb_mode_changed(v);
    softmmu_mode(v);
    return true;
}

static bool put(struct vcpu *v)
{
    if (v->away)
        return true;
    v->cpu.state.shadow |= v->cpu.state.sti && v->cpu.state.rip == v->cpu.state.sti_pc;
    v->cpu.state.sti = 0;
    if (!ops(v)->put(v->machine->accel, &v->cpu))
        return false;
    handover_break(v->machine);
    pthread_mutex_lock(&v->machine->lock);
    if (ops(v)->controllers_put)
        ops(v)->controllers_put(v->machine->accel);
    v->away = true;
    pthread_mutex_unlock(&v->machine->lock);
    return true;
}

static void end_with_error(struct vcpu *v)
{
    pthread_mutex_lock(&v->machine->lock);
    machine_end_with(v->machine, MACHINE_ERROR, 1);
    pthread_mutex_unlock(&v->machine->lock);
}

bool accel_begin(struct vcpu *v)
{
    bool ok = !v->machine->accel || ops(v)->begin(v->machine->accel, &v->cpu);
    if (!ok)
        end_with_error(v);
    return ok;
}

bool accel_put(struct vcpu *v)
{
    bool ok = is_detour(v) || put(v);
    if (!ok)
        end_with_error(v);
    return ok;
}

/* Looked at once the state is there: interrupt controllers may have gone with it. */
static unsigned wants(const struct vcpu *v)
{
    return (atomic_load(&v->machine->interrupt_level) ? ACCEL_WANTS_INTERRUPT : 0) | (v->cpu.state.nmi_pending ? ACCEL_WANTS_NMI : 0);
}

/* What an exception or interrupt pushes is taken for no page table, without which each would cost the accelerator all that it made of those (ram_changed). */
static void deliver(struct vcpu *v, bool fault)
{
    bool changed = atomic_load(&v->machine->ram_changed), taken = true;
    if (fault)
        vcpu_deliver_fault(v);
    else
        taken = vcpu_take(v, wants(v) & ACCEL_WANTS_INTERRUPT, wants(v) & ACCEL_WANTS_NMI);
    atomic_store(&v->machine->ram_changed, changed);
    if (!taken) /* not yet */
        vcpu_run_single(v);
}

static void run(struct vcpu *v)
{
    enum stats_clock before = stats_enter(v, STATS_accelerator);
    v->sample_due = false; /* what was due while the guest did not run is no sample of it */
    bool here = put(v);
    if (here && atomic_exchange(&v->machine->ram_changed, false))
        ops(v)->ram_changed(v->machine->accel);
    enum accel_left left = here ? ops(v)->run(v->machine->accel, &v->cpu, wants(v)) : ACCEL_FAILED;
    stats_enter(v, before);
    v->stats.accel_exits++;
    switch (left) {
    case ACCEL_GO_ON: case ACCEL_HALTED: break;
    case ACCEL_KICKED:
        if (v->sample_due)
            profile_sample(v);
        break;
    case ACCEL_BREAK:
        accel_get(v);
        handover_pc(v->machine, tb_linear(&v->cpu.state));
        break;
    case ACCEL_DELIVER:
        accel_get(v);
        deliver(v, false);
        break;
    case ACCEL_INTERPRET:
        accel_get(v);
        v->stats.accel_interpreted++;
        if (!v->cpu.state.faulted)
            vcpu_run_single(v);
        break;
    case ACCEL_SHUTDOWN:
        accel_get(v);
        v->cpu.bus->shutdown(&v->cpu);
        break;
    case ACCEL_FAILED:
        accel_get(v);
        end_with_error(v);
        break;
    }
}

bool accel_loop(struct vcpu *v)
{
    struct machine *m = v->machine;
    struct x86_state *s = &v->cpu.state;
    for (;;) {
        if (__atomic_exchange_n(&s->stop, 0, __ATOMIC_SEQ_CST) || atomic_load(&m->requests)) {
            clock_serve(m);
            if (!handover_serve(v))
                return false;
            if (atomic_load(&m->requests)) {
                accel_get(v);
                if (!vcpu_serve_requests(v))
                    return false;
            }
            if (vcpu_stalls(v))
                continue;
        }
        if (m->config.tier != TIER_KVM)
            return true;
        if (is_detour(v))
            return detour(v);
        if (s->faulted) { /* by the interpreter, so the state is here */
            deliver(v, true);
            continue;
        }
        if (s->halted && !(wants(v) & ACCEL_WANTS_NMI) && !(wants(v) & ACCEL_WANTS_INTERRUPT && s->eflags & 1 << 9)) {
            vcpu_wait_halted(v);
            continue;
        }
        s->halted = 0;
        run(v);
    }
}

/* --- For an accelerator's exits */
void machine_port(struct machine *m, bool write, uint16_t port, unsigned size, unsigned count, void *data)
{
    struct vcpu *v = m->vcpu;
    uint8_t *at = data;
    v->stats.port_io += count;
    enum stats_clock before = stats_enter(v, STATS_devices);
    machine_access_begin(m);
    for (; count; count--, at += size) {
        uint32_t value = 0;
        if (write) {
            memcpy(&value, at, size);
            handover_port(m, port, value);
            space_write(pc_io(m->pc), port, size, value);
        } else {
            value = (uint32_t)space_read(pc_io(m->pc), port, size);
            memcpy(at, &value, size);
        }
    }
    machine_access_end(m);
    stats_enter(v, before);
}

/* --check: what is asked comes from the log. */
void machine_check_port(struct machine *m, bool write, uint16_t port, unsigned size, unsigned count, void *data)
{
    struct x86_cpu *cpu = &m->vcpu->cpu;
    uint8_t *at = data;
    for (; count; count--, at += size) {
        uint32_t value = 0;
        memcpy(&value, at, write ? size : 0);
        if (write)
            cpu->bus->io_write(cpu, port, size, value);
        else
            value = cpu->bus->io_read(cpu, port, size);
        memcpy(at, &value, write ? 0 : size);
    }
}

void machine_check_device(struct machine *m, bool write, uint64_t physical, unsigned size, void *data)
{
    uint64_t value = 0;
    memcpy(&value, data, write ? size : 0);
    if (write)
        check_device_write(m->vcpu, physical, size, value);
    else
        value = check_device_read(m->vcpu, physical, size);
    memcpy(data, &value, write ? 0 : size);
}

void machine_device(struct machine *m, bool write, uint64_t physical, unsigned size, void *data)
{
    uint64_t value = 0;
    m->vcpu->stats.mmio++;
    enum stats_clock before = stats_enter(m->vcpu, STATS_devices);
    machine_access_begin(m);
    if (write) {
        memcpy(&value, data, size);
        space_write(pc_memory(m->pc), physical, size, value);
    } else {
        value = space_read(pc_memory(m->pc), physical, size);
        memcpy(data, &value, size);
    }
    machine_access_end(m);
    stats_enter(m->vcpu, before);
}
