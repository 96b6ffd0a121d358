/* Lockstep with an accelerator (--check=kvm): the reference's instructions are run by it, one by one, instead of by the interpreter.  What an
 * accelerator does not leave to us - the TSC, random numbers, the local APIC, the delivery of exceptions - is the interpreter's still.
 * It writes to the reference's RAM unseen; which pages is asked afterwards. */
#include "runtime/check.h"
#include <string.h>

static bool is_comparable(const struct check *c)
{
    for (size_t i = 0; i < c->event_count; i++)
        switch (c->events[i].kind) {
        case EVENT_IO_READ: case EVENT_IO_WRITE: case EVENT_MMIO_READ: case EVENT_MMIO_WRITE: case EVENT_RAM: break;
        default: return false;
        }
    return c->before.a20_mask == ~0ull && c->before.shadow != 2 && !c->before.debug_hits && !(c->before.eflags & X86_EFLAGS_TF) && !(c->before.dr[7] & 0xff);
}

/* A page that the tier did not write to is in its RAM as it was. */
static void on_dirty(void *check, uint64_t ram_offset)
{
    struct check *c = check;
    uint64_t page = ram_offset / PAGE;
    tb_written(c->reference->vcpu, page, 0, PAGE, NULL);
    if (!(c->marks[page] & MARK_REFERENCE))
        check_image_keep(c, page, c->machine->ram + page * PAGE);
}

static void undo(struct check *c)
{
    for (size_t i = 0; i < c->page_count; i++)
        if (c->pages[i].image)
            memcpy(c->reference->ram + c->pages[i].page * PAGE, c->images + (c->pages[i].image - 1) * PAGE, PAGE);
    c->reference->vcpu->cpu.state = c->before;
    check_log_begin(c, CHECK_REPLAY);
}

bool check_accel_replay(struct check *c, int64_t insns)
{
    struct machine *m = c->reference;
    struct vcpu *v = m->vcpu;
    if (!insns || !is_comparable(c))
        return false;
    for (size_t i = 0; i < c->page_count; i++)
        if (!c->pages[i].image)
            check_image_keep(c, c->pages[i].page, m->ram + c->pages[i].page * PAGE);
    bool ran = m->config.accel->steps(m->accel, &v->cpu, insns, &c->after);
    m->config.accel->dirty(m->accel, on_dirty, c);
    if (!ran)
        undo(c);
    x86_mode_update(&v->cpu);
    softmmu_flush(&v->cpu, X86_FLUSH_ALL, 0);
    c->machine->vcpu->stats.check_accel_insns += ran ? (uint64_t)insns : 0;
    return ran;
}
