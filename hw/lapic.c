/* The local APIC: xAPIC registers in memory, x2APIC registers as MSRs, one timer (SDM 3A chapter 11).
 * Register numbers below are x2APIC's: the xAPIC offset divided by 16. */
#include "hw/hw.h"
#include <stdlib.h>
#include <string.h>

enum { ID = 0x02, VERSION = 0x03, TPR = 0x08, APR = 0x09, PPR = 0x0a, EOI = 0x0b, LDR = 0x0d, DFR = 0x0e, SVR = 0x0f,
       ISR = 0x10, TMR = 0x18, IRR = 0x20, ESR = 0x28, LVT_CMCI = 0x2f, ICR = 0x30, ICR_HIGH = 0x31, LVT_TIMER = 0x32,
       LVT_THERMAL = 0x33, LVT_PERF = 0x34, LVT_LINT0 = 0x35, LVT_LINT1 = 0x36, LVT_ERROR = 0x37, INITIAL = 0x38,
       CURRENT = 0x39, DIVIDE = 0x3e, SELF_IPI = 0x3f };
enum { LVT_COUNT = 6, LVT_MASKED = 1 << 16, LVT_PENDING = 1 << 12, LVT_LEVEL = 1 << 15 };
enum { BASE_BSP = 1 << 8, BASE_X2 = 1 << 10, BASE_ENABLE = 1 << 11 };
enum { FIXED = 0, LOWEST = 1, SMI = 2, NMI = 4, INIT = 5, STARTUP = 6, EXTINT = 7 };
enum { ONE_SHOT = 0, PERIODIC = 1, DEADLINE = 2 };
enum { ESR_ILLEGAL_SEND = 1 << 5, ESR_ILLEGAL_RECEIVE = 1 << 6, ESR_ILLEGAL_REGISTER = 1 << 7 };
#define MIN_PERIOD_NS 10000u    /* a shorter periodic timer is held to this, or it would keep the host alone busy */
#define BASE_ADDRESS_MASK 0xfffff000ull

struct lapic {
    struct device dev;
    struct clock *clock;
    struct alarm timer;
    struct irq_line output, nmi, init, sipi;
    void (*eoi)(void *, unsigned); void *eoi_ctx;
    void (*base_moved)(void *, uint64_t); void *base_ctx;
    uint64_t (*tsc_to_ns)(void *, uint64_t); void *tsc_ctx;
    uint64_t base, deadline_tsc, icr, started_ns;
    uint32_t isr[8], tmr[8], irr[8];
    uint32_t tpr, svr, esr, esr_pending, ldr, dfr, divide, initial;
    uint32_t lvt[LVT_COUNT];    /* timer, thermal, perf, lint0, lint1, error */
    uint8_t id;
    bool lint[2];
    int level;
    bool taken;
};

static bool enabled(const struct lapic *l) { return l->base & BASE_ENABLE; }
static bool x2(const struct lapic *l) { return l->base & BASE_X2; }
static bool soft_enabled(const struct lapic *l) { return enabled(l) && l->svr >> 8 & 1; }

/* --- Vectors */
static int top_bit(const uint32_t *set)
{
    for (int w = 7; w >= 0; w--)
        if (set[w])
            return 32 * w + 31 - __builtin_clz(set[w]);
    return -1;
}
static bool bit_get(const uint32_t *set, unsigned n) { return set[n >> 5] >> (n & 31) & 1; }
static void bit_put(uint32_t *set, unsigned n, bool on)
{
    set[n >> 5] = on ? set[n >> 5] | 1u << (n & 31) : set[n >> 5] & ~(1u << (n & 31));
}

/* Processor priority (SDM 3A 11.8.3.1). */
static uint8_t ppr(const struct lapic *l)
{
    int service = top_bit(l->isr);
    uint8_t s = service < 0 ? 0 : (uint8_t)service;
    return (l->tpr & 0xf0) >= (s & 0xf0) ? (uint8_t)l->tpr : s & 0xf0;
}

static int deliverable(const struct lapic *l)
{
    int v = top_bit(l->irr);
    return soft_enabled(l) && v >= 0 && (v & 0xf0) > (ppr(l) & 0xf0) ? v : -1;
}

static bool extint(const struct lapic *l)
{
    uint32_t lvt = l->lvt[3];
    if (!enabled(l))
        return l->lint[0];
    return l->lint[0] && !(lvt & LVT_MASKED) && (lvt >> 8 & 7) == EXTINT;
}

static void update(struct lapic *l)
{
    int level = !l->taken && (deliverable(l) >= 0 || extint(l));
    if (level != l->level) {
        l->level = level;
        irq_set(&l->output, level);
    }
}

static void error(struct lapic *l, uint32_t bits);

void lapic_deliver(struct device *dev, unsigned vector, unsigned mode, bool level)
{
    struct lapic *l = (struct lapic *)dev;
    switch (mode) {
    case FIXED: case LOWEST:
        if (vector < 16) {
            error(l, ESR_ILLEGAL_RECEIVE);
            return;
        }
        if (!enabled(l))
            return;
        bit_put(l->irr, vector & 0xff, true);
        bit_put(l->tmr, vector & 0xff, level);
        update(l);
        break;
    case NMI: irq_set(&l->nmi, 1); break;
    case INIT: irq_set(&l->init, 1); break;
    case STARTUP: irq_set(&l->sipi, (int)vector); break;
    default: break; /* SMI: there is no SMM; EXTINT comes by LINT0 */
    }
}

static void lvt_raise(struct lapic *l, unsigned n)
{
    uint32_t lvt = l->lvt[n];
    if (!(lvt & LVT_MASKED))
        lapic_deliver(&l->dev, lvt & 0xff, n == 0 || n == 5 ? FIXED : lvt >> 8 & 7, false);
}

static void error(struct lapic *l, uint32_t bits)
{
    bool again = (l->esr_pending & bits) == bits;
    l->esr_pending |= bits;
    if (!again && (l->lvt[5] & 0xff) >= 16)
        lvt_raise(l, 5);
}

int lapic_acknowledge(struct device *dev)
{
    struct lapic *l = (struct lapic *)dev;
    int v = deliverable(l);
    if (v < 0)
        return extint(l) ? -2 : -1;
    bit_put(l->irr, (unsigned)v, false);
    bit_put(l->isr, (unsigned)v, true);
    update(l);
    return v;
}

static void end_of_interrupt(struct lapic *l)
{
    int v = top_bit(l->isr);
    if (v < 0)
        return;
    bit_put(l->isr, (unsigned)v, false);
    if (bit_get(l->tmr, (unsigned)v) && l->eoi)
        l->eoi(l->eoi_ctx, (unsigned)v);
    update(l);
}

void lapic_set_lint(void *ctx, int pin, int level)
{
    struct lapic *l = ctx;
    if (pin < 0 || pin > 1)
        return;
    bool rising = level && !l->lint[pin];
    l->lint[pin] = level;
    uint32_t lvt = l->lvt[3 + pin], mode = lvt >> 8 & 7;
    if (!enabled(l) && pin == 1 && rising)
        irq_set(&l->nmi, 1); /* without a local APIC the pin is the CPU's own NMI */
    else if (enabled(l) && rising && mode != EXTINT)
        lvt_raise(l, 3 + (unsigned)pin);
    update(l);
}

/* --- Timer: counts at 1 GHz, divided */
static unsigned divisor(const struct lapic *l)
{
    static const uint8_t shift[] = {1, 2, 3, 4, 5, 6, 7, 0};
    return 1u << shift[(l->divide & 3) | (l->divide >> 1 & 4)];
}
static unsigned timer_mode(const struct lapic *l) { return l->lvt[0] >> 17 & 3; }
static uint64_t period(const struct lapic *l) { return (uint64_t)l->initial * divisor(l); }

static void timer_arm(struct lapic *l)
{
    l->started_ns = clock_now(l->clock);
    if (timer_mode(l) == DEADLINE || !l->initial)
        alarm_cancel(&l->timer);
    else
        alarm_set(&l->timer, l->started_ns + period(l));
}

static uint32_t timer_current(const struct lapic *l)
{
    if (!l->timer.armed || timer_mode(l) == DEADLINE)
        return 0;
    uint64_t now = clock_now(l->clock);
    return l->timer.deadline_ns > now ? (uint32_t)((l->timer.deadline_ns - now) / divisor(l)) : 0;
}

static void timer_fire(void *ctx)
{
    struct lapic *l = ctx;
    uint64_t due = l->timer.deadline_ns, now = clock_now(l->clock);
    if (timer_mode(l) == DEADLINE)
        l->deadline_tsc = 0;
    if (timer_mode(l) == PERIODIC && l->initial) {
        uint64_t step = period(l) < MIN_PERIOD_NS ? MIN_PERIOD_NS : period(l);
        uint64_t missed = now > due ? (now - due) / step : 0;
        alarm_set(&l->timer, due + (missed + 1) * step);
    }
    if (soft_enabled(l))
        lvt_raise(l, 0);
}

static void deadline_set(struct lapic *l, uint64_t tsc)
{
    if (timer_mode(l) != DEADLINE)
        return;
    l->deadline_tsc = tsc;
    if (!tsc)
        alarm_cancel(&l->timer);
    else
        alarm_set(&l->timer, l->tsc_to_ns ? l->tsc_to_ns(l->tsc_ctx, tsc) : tsc);
}

/* --- Another local APIC in its place */
void lapic_take(struct device *dev, struct lapic_registers *r)
{
    struct lapic *l = (struct lapic *)dev;
    *r = (struct lapic_registers){.icr = l->icr, .tpr = l->tpr, .svr = l->svr, .esr = l->esr, .ldr = l->ldr, .dfr = l->dfr, .divide = l->divide, .initial = l->initial,
                                  .current = timer_current(l), .id = l->id};
    memcpy(r->isr, l->isr, sizeof r->isr);
    memcpy(r->tmr, l->tmr, sizeof r->tmr);
    memcpy(r->irr, l->irr, sizeof r->irr);
    memcpy(r->lvt, l->lvt, sizeof r->lvt);
    alarm_cancel(&l->timer);
    l->taken = true;
    update(l);
}

/* The timer goes on from its current count; what that was a part of a count ago is lost. */
static void timer_give(struct lapic *l, uint32_t current)
{
    uint64_t left = (uint64_t)current * divisor(l);
    bool runs = l->initial && timer_mode(l) != DEADLINE && (current || timer_mode(l) == PERIODIC);
    if (!runs) {
        alarm_cancel(&l->timer);
        return;
    }
    l->started_ns = clock_now(l->clock) + left - period(l);
    alarm_set(&l->timer, clock_now(l->clock) + left);
}

void lapic_give(struct device *dev, const struct lapic_registers *r)
{
    struct lapic *l = (struct lapic *)dev;
    memcpy(l->isr, r->isr, sizeof l->isr);
    memcpy(l->tmr, r->tmr, sizeof l->tmr);
    memcpy(l->irr, r->irr, sizeof l->irr);
    memcpy(l->lvt, r->lvt, sizeof l->lvt);
    l->icr = r->icr;
    l->tpr = r->tpr & 0xff;
    l->svr = r->svr;
    l->esr = r->esr;
    l->ldr = r->ldr;
    l->dfr = r->dfr;
    l->divide = r->divide & 11;
    l->initial = r->initial;
    l->id = r->id;
    timer_give(l, r->current);
    l->taken = false;
    update(l);
}

/* --- Messages */
static bool matches(const struct lapic *l, uint32_t destination, bool logical)
{
    uint32_t all = x2(l) ? 0xffffffff : 0xff;
    if (destination == all || destination == 0xff)
        return true;
    if (!logical)
        return destination == l->id;
    if (x2(l))
        return destination >> 16 == l->id >> 4u && destination & 1u << (l->id & 15);
    if (l->dfr >> 28 == 0xf)
        return destination & l->ldr >> 24;
    return destination >> 4 == l->ldr >> 28 && destination & 15 & l->ldr >> 24;
}

bool lapic_deliver_message(struct device *dev, uint32_t destination, bool logical, unsigned mode, unsigned vector, bool level)
{
    struct lapic *l = (struct lapic *)dev;
    if (!matches(l, destination, logical))
        return false;
    lapic_deliver(dev, vector, mode, level);
    return true;
}

static void icr_send(struct lapic *l)
{
    unsigned vector = l->icr & 0xff, mode = l->icr >> 8 & 7, shorthand = l->icr >> 18 & 3;
    bool level = l->icr >> 15 & 1, assert = l->icr >> 14 & 1;
    uint32_t destination = x2(l) ? (uint32_t)(l->icr >> 32) : (uint32_t)(l->icr >> 56);
    if (mode == INIT && level && !assert)
        return; /* the old de-assert message: does nothing (SDM 3A 11.6.1) */
    if ((mode == FIXED || mode == LOWEST) && vector < 16) {
        error(l, ESR_ILLEGAL_SEND);
        return;
    }
    bool self = shorthand == 1 || shorthand == 2 || (shorthand == 0 && matches(l, destination, l->icr >> 11 & 1));
    if (self && !(shorthand && (mode == INIT || mode == STARTUP)))
        lapic_deliver(&l->dev, vector, mode, false);
}

/* --- Registers */
static int lvt_of(unsigned reg) { return reg >= LVT_TIMER && reg <= LVT_ERROR ? (int)(reg - LVT_TIMER) : -1; }

static bool reg_read(struct lapic *l, unsigned reg, uint32_t *v)
{
    int n = lvt_of(reg);
    *v = 0;
    if (n >= 0)
        *v = l->lvt[n];
    else if (reg >= ISR && reg < ISR + 8)
        *v = l->isr[reg - ISR];
    else if (reg >= TMR && reg < TMR + 8)
        *v = l->tmr[reg - TMR];
    else if (reg >= IRR && reg < IRR + 8)
        *v = l->irr[reg - IRR];
    else
        switch (reg) {
        case ID: *v = x2(l) ? l->id : (uint32_t)l->id << 24; break;
        case VERSION: *v = 0x14 | (LVT_COUNT - 1) << 16; break;
        case TPR: *v = l->tpr; break;
        case APR: case ICR_HIGH: *v = reg == ICR_HIGH ? (uint32_t)(l->icr >> 32) : 0; break;
        case PPR: *v = ppr(l); break;
        case LDR: *v = x2(l) ? (uint32_t)(l->id >> 4) << 16 | 1u << (l->id & 15) : l->ldr; break;
        case DFR: *v = l->dfr; break;
        case SVR: *v = l->svr; break;
        case ESR: *v = l->esr; break;
        case ICR: *v = (uint32_t)l->icr; break;
        case INITIAL: *v = l->initial; break;
        case CURRENT: *v = timer_current(l); break;
        case DIVIDE: *v = l->divide; break;
        case EOI: break;
        default: return false;
        }
    return true;
}

static void lvt_write(struct lapic *l, unsigned n, uint32_t v)
{
    static const uint32_t writable[LVT_COUNT] = {0x700ff, 0x107ff, 0x107ff, 0x1a7ff, 0x1a7ff, 0x100ff};
    unsigned before = timer_mode(l);
    l->lvt[n] = v & writable[n];
    if (!(l->svr >> 8 & 1))
        l->lvt[n] |= LVT_MASKED;
    if (n == 0 && timer_mode(l) != before) {
        alarm_cancel(&l->timer);
        l->deadline_tsc = 0;
        if (before == DEADLINE || timer_mode(l) == DEADLINE)
            l->initial = 0;
        else
            timer_arm(l);
    }
}

static void svr_write(struct lapic *l, uint32_t v)
{
    l->svr = v & 0x1ff;
    for (unsigned n = 0; !(v >> 8 & 1) && n < LVT_COUNT; n++)
        l->lvt[n] |= LVT_MASKED; /* SDM 3A 11.4.7.2 */
}

static bool reg_write(struct lapic *l, unsigned reg, uint32_t v)
{
    int n = lvt_of(reg);
    if (n >= 0)
        lvt_write(l, (unsigned)n, v);
    else
        switch (reg) {
        case ID: l->id = (uint8_t)(v >> 24); break;
        case TPR: l->tpr = v & 0xff; break;
        case EOI: end_of_interrupt(l); break;
        case LDR: l->ldr = v & 0xff000000; break;
        case DFR: l->dfr = v | 0x0fffffff; break;
        case SVR: svr_write(l, v); break;
        case ESR:
            l->esr = l->esr_pending;
            l->esr_pending = 0;
            break;
        case ICR:
            l->icr = (l->icr & ~0xffffffffull) | (v & 0xccfff);
            icr_send(l);
            break;
        case ICR_HIGH: l->icr = (uint32_t)l->icr | (uint64_t)(v & 0xff000000) << 32; break;
        case INITIAL:
            if (timer_mode(l) == DEADLINE)
                break;
            l->initial = v;
            timer_arm(l);
            break;
        case DIVIDE:
            l->divide = v & 11;
            if (l->timer.armed && timer_mode(l) != DEADLINE)
                timer_arm(l);
            break;
        default: return false;
        }
    update(l);
    return true;
}

static uint32_t lapic_read(struct device *dev, uint32_t offset, unsigned size)
{
    struct lapic *l = (struct lapic *)dev;
    uint32_t v;
    if (!enabled(l) || x2(l) || offset >= 0x1000)
        return 0xffffffff;
    if (!reg_read(l, offset >> 4, &v)) {
        error(l, ESR_ILLEGAL_REGISTER);
        return 0;
    }
    return size < 4 || offset & 15 ? v >> 8 * (offset & 3) : v;
}

static void lapic_write(struct device *dev, uint32_t offset, unsigned size, uint32_t value)
{
    struct lapic *l = (struct lapic *)dev;
    if (!enabled(l) || x2(l) || offset >= 0x1000 || offset & 15 || size != 4)
        return; /* SDM 3A 11.4.1: other sizes and places are undefined; nothing happens here */
    if (!reg_write(l, offset >> 4, value))
        error(l, ESR_ILLEGAL_REGISTER);
}

/* --- MSRs */
static void base_reset(struct lapic *l);

static void base_set(struct lapic *l, uint64_t v)
{
    l->base = v;
    if (l->base_moved)
        l->base_moved(l->base_ctx, v);
}

static bool base_write(struct lapic *l, uint64_t v)
{
    bool was_on = enabled(l), was_x2 = x2(l), on = v & BASE_ENABLE, to_x2 = v & BASE_X2;
    if (v & ~(BASE_ADDRESS_MASK | 0xf00000000ull | BASE_BSP | BASE_X2 | BASE_ENABLE))
        return false;
    if ((to_x2 && !on) || (was_x2 && on && !to_x2) || (!was_on && to_x2)) /* SDM 3A 11.12.5 */
        return false;
    if (was_on && !on)
        base_reset(l);
    base_set(l, (v & ~(uint64_t)BASE_BSP) | (l->base & BASE_BSP));
    update(l);
    return true;
}

bool lapic_msr_read(struct device *dev, uint32_t msr, uint64_t *value)
{
    struct lapic *l = (struct lapic *)dev;
    uint32_t v;
    if (msr == 0x1b)
        *value = l->base;
    else if (msr == 0x6e0)
        *value = timer_mode(l) == DEADLINE ? l->deadline_tsc : 0;
    else if (!x2(l) || msr < 0x800 || msr > 0x83f)
        return false;
    else if (msr == 0x800 + ICR)
        *value = l->icr;
    else if (msr == 0x800 + DFR || msr == 0x800 + ICR_HIGH || msr == 0x800 + EOI || msr == 0x800 + APR || !reg_read(l, msr - 0x800, &v))
        return false;
    else
        *value = v;
    return true;
}

bool lapic_msr_write(struct device *dev, uint32_t msr, uint64_t value)
{
    struct lapic *l = (struct lapic *)dev;
    if (msr == 0x1b)
        return base_write(l, value);
    if (msr == 0x6e0) {
        deadline_set(l, value);
        return true;
    }
    if (!x2(l) || msr < 0x800 || msr > 0x83f)
        return false;
    unsigned reg = msr - 0x800;
    if (reg == ICR) {
        l->icr = value & 0xffffffff000ccfffull;
        icr_send(l);
        update(l);
        return true;
    }
    if (value >> 32)
        return false;
    if (reg == SELF_IPI) {
        lapic_deliver(dev, value & 0xff, FIXED, false);
        return !(value & ~0xffull);
    }
    if (((reg == EOI || reg == ESR) && value) || (reg == TPR && value > 0xff))
        return false;
    return reg != ID && reg != LDR && reg != DFR && reg != ICR_HIGH && reg_write(l, reg, (uint32_t)value);
}

uint64_t lapic_base(struct device *dev) { return ((struct lapic *)dev)->base; }
uint8_t lapic_tpr_get(struct device *dev) { return (uint8_t)((struct lapic *)dev)->tpr; }
void lapic_tpr_set(struct device *dev, uint8_t tpr)
{
    struct lapic *l = (struct lapic *)dev;
    l->tpr = tpr;
    update(l);
}

void lapic_on_eoi(struct device *dev, void (*eoi)(void *, unsigned), void *ctx)
{
    struct lapic *l = (struct lapic *)dev;
    l->eoi = eoi;
    l->eoi_ctx = ctx;
}

void lapic_on_nmi(struct device *dev, struct irq_line nmi, struct irq_line init, struct irq_line sipi)
{
    struct lapic *l = (struct lapic *)dev;
    l->nmi = nmi;
    l->init = init;
    l->sipi = sipi;
}

void lapic_on_base(struct device *dev, void (*moved)(void *, uint64_t), void *ctx)
{
    struct lapic *l = (struct lapic *)dev;
    l->base_moved = moved;
    l->base_ctx = ctx;
}

void lapic_tsc_scale(struct device *dev, uint64_t (*tsc_to_ns)(void *, uint64_t), void *ctx)
{
    struct lapic *l = (struct lapic *)dev;
    l->tsc_to_ns = tsc_to_ns;
    l->tsc_ctx = ctx;
}

/* The registers as after INIT (SDM 3A 11.4.7.3), the base MSR stays. */
static void base_reset(struct lapic *l)
{
    alarm_cancel(&l->timer);
    memset(l->isr, 0, sizeof l->isr);
    memset(l->tmr, 0, sizeof l->tmr);
    memset(l->irr, 0, sizeof l->irr);
    l->tpr = l->esr = l->esr_pending = l->ldr = l->divide = l->initial = 0;
    l->icr = l->deadline_tsc = 0;
    l->dfr = 0xffffffff;
    l->svr = 0xff;
    for (unsigned n = 0; n < LVT_COUNT; n++)
        l->lvt[n] = LVT_MASKED;
}

static void lapic_reset(struct device *dev)
{
    struct lapic *l = (struct lapic *)dev;
    base_reset(l);
    base_set(l, 0xfee00000 | BASE_ENABLE | (l->id == 0 ? BASE_BSP : 0));
    update(l);
}

static void lapic_free(struct device *dev)
{
    alarm_cancel(&((struct lapic *)dev)->timer);
    free(dev);
}

static void print_vectors(FILE *f, const char *name, const uint32_t *set)
{
    fprintf(f, "  %s", name);
    for (unsigned v = 0; v < 256; v++)
        if (bit_get(set, v))
            fprintf(f, " %u", v);
    fprintf(f, top_bit(set) < 0 ? " (none)\n" : "\n");
}

static void lapic_print(struct device *dev, FILE *f)
{
    static const char *const lvts[LVT_COUNT] = {"TIMER", "THERMAL", "PERF", "LINT0", "LINT1", "ERROR"};
    const struct lapic *l = (const struct lapic *)dev;
    fprintf(f, "lapic%u: base=%llx%s%s tpr=%02x ppr=%02x svr=%08x esr=%02x ldr=%08x dfr=%08x icr=%016llx\n", l->id, (unsigned long long)l->base,
            enabled(l) ? "" : " disabled", x2(l) ? " x2apic" : "", l->tpr, ppr(l), l->svr, l->esr, l->ldr, l->dfr, (unsigned long long)l->icr);
    for (unsigned i = 0; i < LVT_COUNT; i++)
        fprintf(f, "  LVT %-7s 0x%08x vec=%-3u %s%s\n", lvts[i], l->lvt[i], l->lvt[i] & 0xff, l->lvt[i] & LVT_MASKED ? "masked" : "open",
                l->lvt[i] & LVT_PENDING ? " pending" : "");
    print_vectors(f, "ISR", l->isr);
    print_vectors(f, "IRR", l->irr);
}
static void lapic_loaded(struct device *dev)
{
    struct lapic *l = (struct lapic *)dev;
    base_set(l, l->base);
}
static const struct state_field lapic_fields[] = {
    STATE_ALARM(struct lapic, timer), STATE(struct lapic, base), STATE(struct lapic, deadline_tsc), STATE(struct lapic, icr), STATE(struct lapic, started_ns),
    STATE_ARRAY(struct lapic, isr), STATE_ARRAY(struct lapic, tmr), STATE_ARRAY(struct lapic, irr), STATE(struct lapic, tpr, .most = 255), STATE(struct lapic, svr),
    STATE(struct lapic, esr), STATE(struct lapic, esr_pending), STATE(struct lapic, ldr), STATE(struct lapic, dfr), STATE(struct lapic, divide), STATE(struct lapic, initial),
    STATE_ARRAY(struct lapic, lvt), STATE(struct lapic, id), STATE_ARRAY(struct lapic, lint), STATE(struct lapic, level, .most = 1),
};
static const struct state_table lapic_state = STATE_TABLE(1, lapic_fields);
static const struct device_ops lapic_ops = {"lapic", lapic_read, lapic_write, lapic_reset, lapic_free, lapic_print, .state = &lapic_state, .loaded = lapic_loaded};

struct device *lapic_new(struct clock *clock, uint8_t id, struct irq_line output)
{
    struct lapic *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    l->dev.ops = &lapic_ops;
    l->clock = clock;
    l->id = id;
    l->output = output;
    alarm_init(&l->timer, clock, timer_fire, l);
    lapic_reset(&l->dev);
    return &l->dev;
}
