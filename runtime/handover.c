/* The tier changes while the guest runs: what asks for it (time, console text, PC, port, the monitor), and the change itself, which the vCPU's thread
 * makes between two instructions.  Nothing is copied: state, memory and devices are the machine's, and no tier has its own. */
#include "runtime/internal.h"
#include <stdlib.h>
#include <string.h>

/* --- What asks.  Each trigger fires once. */
enum { STREAMS = 3, TAIL = 256 };
struct trigger { const struct machine_handover *what; struct machine *machine; struct alarm alarm; uint64_t at; bool done; };
struct stream_tap { struct machine *machine; struct chardev below; char tail[TAIL]; unsigned length; };
struct handovers {
    struct trigger *triggers; unsigned count;
    struct stream_tap taps[STREAMS];
    bool has_ports, has_text, broken_stale;
};

/* One after the other, even where several come before the vCPU looks.  With the machine locked, or by the vCPU's thread. */
static void want(struct machine *m, enum tier tier)
{
    pthread_mutex_lock(&m->lock);
    if (m->wanted_count < sizeof m->wanted / sizeof *m->wanted)
        m->wanted[m->wanted_count++] = tier;
    vcpu_kick(m);
    pthread_mutex_unlock(&m->lock);
}

static void fire(struct trigger *t)
{
    t->done = true;
    want(t->machine, t->what->tier);
}

static void on_time(void *trigger) { fire(trigger); }

static bool ends_with(const struct stream_tap *s, const char *text)
{
    size_t n = strlen(text);
    return n <= s->length && !memcmp(s->tail + s->length - n, text, n);
}

static void look_for_text(struct stream_tap *s, uint8_t byte)
{
    struct handovers *h = s->machine->handovers;
    if (s->length == TAIL)
        memmove(s->tail, s->tail + 1, --s->length);
    s->tail[s->length++] = (char)byte;
    for (unsigned i = 0; i < h->count; i++)
        if (h->triggers[i].what->kind == HANDOVER_CONSOLE && !h->triggers[i].done && ends_with(s, h->triggers[i].what->text))
            fire(&h->triggers[i]);
}

/* With the machine locked, as any device's output. */
static void tap_write(void *tap, const uint8_t *bytes, size_t size)
{
    struct stream_tap *s = tap;
    for (size_t i = 0; i < size; i++)
        look_for_text(s, bytes[i]);
    if (s->below.write)
        s->below.write(s->below.ctx, bytes, size);
}

static bool tap_is_full(void *tap)
{
    struct stream_tap *s = tap;
    return s->below.is_full && s->below.is_full(s->below.ctx);
}

static void tap(struct machine *m, unsigned n, struct chardev *stream)
{
    struct stream_tap *s = &m->handovers->taps[n];
    s->machine = m;
    s->below = *stream;
    *stream = (struct chardev){tap_write, s, tap_is_full};
}

void handover_port(struct machine *m, uint16_t port, uint32_t value)
{
    struct handovers *h = m->handovers;
    if (!h || !h->has_ports)
        return;
    for (unsigned i = 0; i < h->count; i++) {
        const struct machine_handover *w = h->triggers[i].what;
        if (w->kind == HANDOVER_PORT && !h->triggers[i].done && w->at == port && (w->any_value || w->value == value))
            fire(&h->triggers[i]);
    }
}

bool handover_pc(struct machine *m, uint64_t linear)
{
    struct handovers *h = m->handovers;
    bool met = false;
    for (unsigned i = 0; h && i < h->count; i++)
        if (h->triggers[i].what->kind == HANDOVER_PC && !h->triggers[i].done && h->triggers[i].at == linear) {
            fire(&h->triggers[i]);
            met = h->broken_stale = true;
        }
    return met;
}

/* The accelerator is to stop at the PCs that are still waited for. */
void handover_break(struct machine *m)
{
    struct handovers *h = m->handovers;
    uint64_t at[ACCEL_BREAKS];
    unsigned count = 0;
    if (!h || !h->broken_stale)
        return;
    h->broken_stale = false;
    for (unsigned i = 0; i < h->count && count < ACCEL_BREAKS; i++)
        if (h->triggers[i].what->kind == HANDOVER_PC && !h->triggers[i].done)
            at[count++] = h->triggers[i].at;
    m->config.accel->break_at(m->accel, at, count);
}

/* --- Making */
static bool pc_begin(struct machine *m, struct trigger *t, char *error, size_t size)
{
    const struct machine_handover *w = t->what;
    t->at = w->at;
    if (w->text && !symbols_address(m->symbols, w->text, &t->at)) {
        snprintf(error, size, "--switch-to: pc:%s: %s", w->text, m->symbols ? "no file of --symbols has that name" : "names of functions need --symbols FILE");
        return false;
    }
    m->handovers->broken_stale = true;
    return debug_handover_add(m, t->at);
}

static bool begin(struct machine *m, struct trigger *t, unsigned *pcs, char *error, size_t size)
{
    switch (t->what->kind) {
    case HANDOVER_TIME:
        alarm_init(&t->alarm, &m->clock, on_time, t);
        alarm_set(&t->alarm, t->what->at);
        return true;
    case HANDOVER_PC:
        if (++*pcs <= ACCEL_BREAKS)
            return pc_begin(m, t, error, size);
        snprintf(error, size, "--switch-to: more than %u triggers pc:...", (unsigned)ACCEL_BREAKS);
        return false;
    case HANDOVER_PORT: return m->handovers->has_ports = true;
    case HANDOVER_CONSOLE: case HANDOVER_MONITOR: return true;
    }
    return false;
}

/* Before the devices are made, which are given the streams. */
bool handovers_new(struct machine *m)
{
    const struct machine_config *c = &m->config;
    if (!c->handover_count)
        return true;
    struct handovers *h = m->handovers = calloc(1, sizeof *h);
    if (!h || !(h->triggers = calloc(c->handover_count, sizeof *h->triggers)))
        return false;
    h->count = c->handover_count;
    for (unsigned i = 0; i < h->count; i++) {
        h->triggers[i] = (struct trigger){.what = &c->handovers[i], .machine = m};
        h->has_text |= c->handovers[i].kind == HANDOVER_CONSOLE;
    }
    if (h->has_text) {
        tap(m, 0, &m->config.serial[0]);
        tap(m, 1, &m->config.serial[1]);
        tap(m, 2, &m->config.debug_console);
    }
    return true;
}

/* After all else. */
bool handovers_begin(struct machine *m, char *error, size_t size)
{
    struct handovers *h = m->handovers;
    unsigned pcs = 0;
    for (unsigned i = 0; h && i < h->count; i++)
        if (!begin(m, &h->triggers[i], &pcs, error, size))
            return false;
    return true;
}

void handovers_free(struct machine *m)
{
    struct handovers *h = m->handovers;
    if (!h)
        return;
    for (unsigned i = 0; i < h->count && h->triggers; i++)
        if (h->triggers[i].alarm.clock)
            alarm_cancel(&h->triggers[i].alarm);
    free(h->triggers);
    free(h);
}

bool machine_tier_set(struct machine *m, enum tier tier, char *error, size_t size)
{
#ifndef TIERCE_LLVM
    if (tier == TIER_LLVM || tier == TIER_TIERED) {
        snprintf(error, size, "tier %s: this tierce was built without LLVM", tier_name(tier));
        return false;
    }
#endif
    if (tier == TIER_KVM && !m->accel)
        snprintf(error, size, "tier kvm: the guest's CPU was not cut to what KVM has when it started; start with --tier=kvm or --switch-to=kvm@monitor");
    else if (m->check)
        snprintf(error, size, "tier %s: --check compares with one tier", tier_name(tier));
    else {
        want(m, tier);
        return true;
    }
    return false;
}

enum tier machine_tier(struct machine *m)
{
    unsigned count = atomic_load(&m->wanted_count);
    return count ? m->wanted[count - 1] : m->config.tier;
}

/* --- The change */
/* What was translated for another tier is of no use: it counts entries, or does not. */
static void tier_enter(struct vcpu *v, enum tier tier)
{
    struct machine *m = v->machine;
    bool same = m->translated_for == tier;
    accel_get(v);
    m->config.tier = tier;
    if (same)
        tb_suspect_all(v);
    else
        tb_flush_all(v);
    m->translated_for = tier;
    regions_set(v);
    cache_enter(m);
    tb_mode_changed(v);
    softmmu_mode(v);
}

static bool change(struct vcpu *v, enum tier tier)
{
    struct machine *m = v->machine;
    regions_stop_recording(v);
    if (tier != TIER_KVM) {
        tier_enter(v, tier);
        return true;
    }
    m->config.tier = TIER_KVM;
    return accel_put(v);
}

static enum tier next(struct vcpu *v)
{
    struct machine *m = v->machine;
    pthread_mutex_lock(&m->lock);
    enum tier wanted = m->wanted[0];
    memmove(m->wanted, m->wanted + 1, --m->wanted_count * sizeof *m->wanted);
    if (m->wanted_count)
        __atomic_store_n(&v->cpu.state.stop, 1, __ATOMIC_SEQ_CST); /* the loop comes by for it */
    pthread_mutex_unlock(&m->lock);
    return wanted;
}

bool handover_serve(struct vcpu *v)
{
    struct machine *m = v->machine;
    if (!atomic_load(&m->wanted_count))
        return true;
    if (!v->away && vcpu_is_between(&v->cpu.state)) {
        __atomic_store_n(&v->cpu.state.stop, 1, __ATOMIC_SEQ_CST); /* the loop comes by again */
        return true;
    }
    enum tier wanted = next(v);
    if (wanted == m->config.tier)
        return true;
    uint64_t before = machine_host_ns();
    bool ok = change(v, wanted);
    uint64_t took = machine_host_ns() - before;
    v->stats.handovers++;
    v->stats.handover_ns += took;
    if (took > v->stats.handover_most_ns)
        v->stats.handover_most_ns = took;
    return ok;
}
