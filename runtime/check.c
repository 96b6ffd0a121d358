/* Lockstep (--check): see check.h.  Here: the reference, the intervals, the comparison. */
#include "runtime/check.h"
#include <stdlib.h>
#include <string.h>

void *check_room(void *array, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return array;
    *room = *room ? 2 * *room : 64;
    if (!(array = realloc(array, *room * size)))
        abort(); /* some pages' worth: the host has nothing left */
    return array;
}

/* --- What is written */
static struct check_side *side_of(struct check *c, const struct vcpu *v)
{
    return &c->side[v == c->side[CHECK_REFERENCE].v ? CHECK_REFERENCE : CHECK_TIER];
}

static struct check_page *page_find(struct check *c, uint32_t page)
{
    if (c->listed[page])
        return &c->pages[c->listed[page] - 1];
    c->pages = check_room(c->pages, c->page_count, &c->page_room, sizeof *c->pages);
    c->pages[c->page_count] = (struct check_page){.page = page};
    c->listed[page] = (uint32_t)++c->page_count;
    return &c->pages[c->page_count - 1];
}

void check_image_keep(struct check *c, uint64_t ram_page, const uint8_t *bytes)
{
    struct check_page *p = page_find(c, (uint32_t)ram_page);
    c->images = check_room(c->images, c->image_count, &c->image_room, PAGE);
    memcpy(c->images + c->image_count * PAGE, bytes, PAGE);
    p->image = (uint32_t)++c->image_count;
    c->marks[ram_page] |= MARK_REFERENCE;
}

void check_page_written(struct vcpu *v, uint64_t ram_page)
{
    struct check *c = v->machine->check;
    uint8_t mark = v == c->side[CHECK_REFERENCE].v ? MARK_REFERENCE : MARK_TIER;
    if (c->role == CHECK_IDLE || c->marks[ram_page] & mark)
        return;
    if (mark == MARK_REFERENCE)
        check_image_keep(c, ram_page, c->reference->ram + ram_page * PAGE);
    else
        page_find(c, (uint32_t)ram_page);
    c->marks[ram_page] |= mark;
}

void check_opened(struct vcpu *v, uint64_t linear, unsigned set)
{
    if (v->machine->check->skipping)
        return; /* all are taken away at the end of that */
    struct check_side *s = side_of(v->machine->check, v);
    s->opened = check_room(s->opened, s->opened_count, &s->opened_room, sizeof *s->opened);
    s->opened[s->opened_count++] = (struct check_opened){linear, set};
}

void check_walked(struct vcpu *v, uint64_t ram_offset)
{
    struct check *c = v->machine->check;
    if (c->skipping)
        return;
    c->walked = check_room(c->walked, c->walked_count, &c->walked_room, sizeof *c->walked);
    c->walked[c->walked_count++] = ram_offset;
}

static void close_all(struct check *c)
{
    for (unsigned k = 0; k < CHECK_SIDES; k++) {
        struct check_side *s = &c->side[k];
        for (size_t i = 0; i < s->opened_count; i++)
            softmmu_close(s->v, s->opened[i].linear, s->opened[i].set);
        s->opened_count = 0;
    }
}

/* --- What others write to the tier's RAM, by page; the lock is held */
void check_foreign(struct check *c, uint64_t ram_page)
{
    if (c->marks[ram_page] & MARK_FOREIGN)
        return;
    c->marks[ram_page] |= MARK_FOREIGN;
    c->foreign = check_room(c->foreign, c->foreign_count, &c->foreign_room, sizeof *c->foreign);
    c->foreign[c->foreign_count++] = (uint32_t)ram_page;
}

void check_stale(struct check *c) { c->stale = true; }

static void page_copy(struct check *c, uint64_t page)
{
    uint8_t *to = c->reference->ram + page * PAGE;
    const uint8_t *from = c->machine->ram + page * PAGE;
    if (!memcmp(to, from, PAGE)) /* most were never touched, and are to stay so */
        return;
    tb_written(c->reference->vcpu, page, 0, PAGE, NULL);
    memcpy(to, from, PAGE);
}

static uint64_t pages_of(const struct check *c) { return c->machine->config.ram_size / PAGE; }

static void take_foreign(struct check *c)
{
    for (uint64_t page = 0; c->stale && page < pages_of(c); page++)
        page_copy(c, page);
    for (size_t i = 0; i < c->foreign_count; i++) {
        page_copy(c, c->foreign[i]);
        c->marks[c->foreign[i]] &= (uint8_t)~MARK_FOREIGN;
    }
    c->machine->vcpu->stats.check_foreign += c->foreign_count;
    c->foreign_count = 0;
    c->stale = false;
}

/* --- An interval */
static void pages_forget(struct check *c)
{
    for (size_t i = 0; i < c->page_count; i++) {
        c->marks[c->pages[i].page] &= MARK_FOREIGN;
        c->listed[c->pages[i].page] = 0;
    }
    c->page_count = c->image_count = c->walked_count = 0;
}

/* Was the state changed by something that no interval sees: a reset, a debugger? */
static bool mapping_changed(const struct x86_state *a, const struct x86_state *b)
{
    return a->cr0 != b->cr0 || a->cr3 != b->cr3 || a->cr4 != b->cr4 || a->efer != b->efer || a->a20_mask != b->a20_mask;
}

static void state_take(struct vcpu *v, const struct x86_state *s)
{
    if (mapping_changed(&v->cpu.state, s))
        softmmu_flush(&v->cpu, X86_FLUSH_ALL, 0);
    v->cpu.state = *s;
}

static void ram_scan(struct check *c)
{
    for (uint64_t page = 0; page < pages_of(c) && !c->over; page++) {
        const uint8_t *a = c->machine->ram + page * PAGE, *b = c->reference->ram + page * PAGE;
        if (memcmp(a, b, PAGE))
            check_report_memory(c, page * PAGE);
    }
    c->scan_at = c->machine->vcpu->stats.check_insns + CHECK_SCAN;
}

/* The reference takes over all of the machine's state and RAM, as after a reset. */
static bool skips(struct check *c, struct vcpu *v)
{
    if (!c->skipping || v->stats.insns < c->machine->config.check_skip)
        return c->skipping;
    softmmu_flush(&v->cpu, X86_FLUSH_ALL, 0);
    c->stale = true;
    return c->skipping = false;
}

void check_begin(struct vcpu *v, enum vcpu_action action, unsigned vector)
{
    struct check *c = v->machine->check;
    if (skips(c, v))
        return;
    pthread_mutex_lock(&c->machine->lock);
    take_foreign(c);
    if (v->stats.check_insns >= c->scan_at)
        ram_scan(c);
    close_all(c);
    pages_forget(c);
    c->before = check_state_of(v);
    c->side[CHECK_REFERENCE].v->cpu.stepped = v->cpu.stepped;
    c->action = action;
    c->vector = vector;
    state_take(c->side[CHECK_REFERENCE].v, &c->before);
    check_log_begin(c, CHECK_RECORD);
}

void check_replay(struct check *c, int64_t insns, bool faults)
{
    struct vcpu *v = c->reference->vcpu;
    if (c->action == VCPU_STEP)
        vcpu_run(v, c->reference->accel && check_accel_replay(c, insns) ? 0 : insns, faults);
    else
        vcpu_deliver(v, c->action, c->vector);
}

void check_end(struct vcpu *v)
{
    struct check *c = v->machine->check;
    if (c->skipping)
        return;
    enum stats_clock before = stats_enter(v, STATS_checking);
    c->after = check_state_of(v);
    c->ran = v->icount_slice - v->cpu.state.icount;
    pthread_mutex_unlock(&c->machine->lock);
    c->event_end = c->event_count;
    check_log_begin(c, CHECK_REPLAY);
    check_replay(c, c->ran, c->after.faulted);
    pthread_mutex_lock(&c->machine->lock);
    v->stats.check_intervals++;
    v->stats.check_insns += c->action == VCPU_STEP ? (uint64_t)c->ran : 0;
    v->stats.check_pages += c->page_count;
    if (!c->over && check_differs(c, NULL))
        check_report(c);
    c->role = CHECK_IDLE;
    pthread_mutex_unlock(&c->machine->lock);
    stats_enter(v, before);
}

/* --- Comparing */
const char *check_reference_name(const struct check *c) { return c->reference->accel ? c->reference->config.accel->name : "interpreter"; }

/* What belongs to a tier, and what faults of before left behind, is made equal. */
static void state_level(struct x86_state *to, const struct x86_state *from)
{
    to->stop = from->stop;
    to->icount = from->icount;
    if (!((to->flags ^ from->flags) & IR_FLAGS_ALL))
        to->flags = from->flags; /* LAHF's bits that are no flags */
    bool faulted = to->faulted || from->faulted;
    if (!faulted || from->fault_vector != X86_PF)
        to->fault_address = from->fault_address;
    if (!faulted || from->fault_vector != X86_DB)
        to->fault_dr6 = from->fault_dr6;
    if (!faulted || !from->fault_has_error)
        to->fault_error = from->fault_error;
    if (!faulted || !from->fault_moved)
        to->fault_rip = from->fault_rip;
    if (faulted)
        return;
    to->fault_vector = from->fault_vector;
    to->fault_moved = from->fault_moved;
    to->fault_has_error = from->fault_has_error;
}

static void print_hex(FILE *f, const uint8_t *bytes, size_t size)
{
    while (size--)
        fprintf(f, "%02x", bytes[size]);
}

static bool field_differs(FILE *f, const char *reference, const char *name, const void *a, const void *b, size_t size, size_t element)
{
    if (!memcmp(a, b, size))
        return false;
    for (size_t at = 0; f && at < size; at += element) {
        const uint8_t *x = (const uint8_t *)a + at, *y = (const uint8_t *)b + at;
        if (!memcmp(x, y, element))
            continue;
        fprintf(f, "  %s", name);
        if (size > element)
            fprintf(f, "[%zu]", at / element);
        fprintf(f, ": ");
        print_hex(f, x, element);
        fprintf(f, ", %s ", reference);
        print_hex(f, y, element);
        fputc('\n', f);
    }
    return true;
}

static bool state_differs(FILE *f, const char *reference, const struct x86_state *a, const struct x86_state *b)
{
    bool differs = false;
    if (!memcmp(a, b, sizeof *a))
        return false;
#define FIELD(ctype, name, dims, ir_type, state_class, hot, reset) differs |= field_differs(f, reference, #name, &a->name, &b->name, sizeof a->name, sizeof(ctype));
#include "frontend/state.def"
    return differs; /* else it was padding */
}

/* Entries of page tables: one side had the page in its TLB, the other walked and set the A or D bit, which a guest that does
 * not flush must expect.  They are made equal. */
static bool only_walked(struct check *c, uint64_t offset, uint64_t *reference, const uint64_t *tier)
{
    const uint64_t marks = 0x0000006000000060ull; /* A and D, of entries of 4 bytes too */
    if ((*reference ^ *tier) & ~marks)
        return false;
    for (size_t i = 0; i < c->walked_count || c->reference->accel; i++) /* an accelerator does not tell where it walked */
        if (c->reference->accel || !((c->walked[i] ^ offset) & ~7ull)) {
            *reference = *tier;
            c->machine->vcpu->stats.check_walks++;
            return true;
        }
    return false;
}

static bool page_differs(struct check *c, FILE *f, uint64_t page)
{
    const uint64_t *a = (const uint64_t *)(const void *)(c->machine->ram + page * PAGE);
    uint64_t *b = (uint64_t *)(void *)(c->reference->ram + page * PAGE);
    bool differs = false;
    if (c->marks[page] & MARK_FOREIGN || !memcmp(a, b, PAGE))
        return false;
    for (unsigned i = 0; i < PAGE / 8; i++) {
        if (a[i] == b[i] || only_walked(c, page * PAGE + 8 * i, &b[i], &a[i]))
            continue;
        if (f && !differs)
            fprintf(f, "  RAM at offset %#lx: %016lx, %s %016lx\n", (unsigned long)(page * PAGE + 8 * i), a[i], check_reference_name(c), b[i]);
        differs = true;
    }
    return differs;
}

static bool log_differs(const struct check *c, FILE *f)
{
    static const struct check_event none = {.kind = EVENT_NONE};
    if (!c->parted && check_log_done(c))
        return false;
    if (f) {
        fprintf(f, "  asked of the machine: ");
        check_print_event(f, c->event_at < c->event_count ? &c->events[c->event_at] : &none);
        fprintf(f, ", %s: ", check_reference_name(c));
        check_print_event(f, c->parted ? &c->asked : &none);
        fputc('\n', f);
    }
    return true;
}

bool check_differs(struct check *c, FILE *f)
{
    struct x86_state *s = &c->reference->vcpu->cpu.state;
    state_level(s, &c->after);
    bool differs = log_differs(c, f);
    if (differs && !f)
        return true;
    differs |= state_differs(f, check_reference_name(c), &c->after, s);
    for (size_t i = 0; i < c->page_count && (f || !differs); i++)
        differs |= page_differs(c, f, c->pages[i].page);
    return differs;
}

/* --- Back to the beginning, to try again */
static void page_put(struct machine *m, uint64_t page, const uint8_t *bytes)
{
    tb_written(m->vcpu, page, 0, PAGE, NULL);
    memcpy(m->ram + page * PAGE, bytes, PAGE);
}

void check_restore(struct check *c)
{
    for (size_t i = 0; i < c->page_count; i++) {
        const struct check_page *p = &c->pages[i];
        if (p->image)
            page_put(c->reference, p->page, c->images + (p->image - 1) * PAGE);
        page_put(c->machine, p->page, c->reference->ram + p->page * PAGE);
    }
    for (unsigned k = 0; k < CHECK_SIDES; k++) {
        c->side[k].v->cpu.state = c->before;
        softmmu_flush(&c->side[k].v->cpu, X86_FLUSH_ALL, 0);
        softmmu_mode(c->side[k].v);
        c->side[k].opened_count = 0;
    }
}

/* --- Making */
static struct machine *reference_new(const struct machine *m, char *error, size_t size)
{
    const struct machine_config *c = &m->config;
    bool usage;
    struct machine_config config = { /* icount: it runs as many instructions as it is told to */
        .ram_size = c->ram_size, .tier = TIER_INTERP, .icount = true, .cpu = c->cpu, .kernel = c->kernel, .initrd = c->initrd, .append = c->append,
        .restore = c->restore ? "" : NULL, .raw_entry = c->raw_entry, .raw_image = c->raw_image, .raw_size = c->raw_size, .raw_mode = c->raw_mode, .accel = c->check_accel ? c->accel : NULL, .trace_file = c->trace_file,
    };
    return machine_new(&config, error, size, &usage);
}

struct check *check_new(struct machine *m, char *error, size_t size)
{
    struct check *c = calloc(1, sizeof *c);
    size_t pages = m->config.ram_size / PAGE;
    bool room = c && (c->marks = calloc(pages, sizeof *c->marks)) && (c->listed = calloc(pages, sizeof *c->listed));
    if (!room)
        snprintf(error, size, "out of memory for --check");
    if (!room || !(c->reference = reference_new(m, error, size))) {
        check_free(c);
        return NULL;
    }
    c->machine = m;
    c->side[CHECK_TIER].v = m->vcpu;
    c->side[CHECK_REFERENCE].v = c->reference->vcpu;
    c->reference->check = c;
    c->reference->is_reference = true;
    c->stale = true;
    c->skipping = m->config.check_skip;
    c->scan_at = CHECK_SCAN;
    check_bus_make(&c->bus);
    m->vcpu->cpu.bus = c->reference->vcpu->cpu.bus = &c->bus;
    return c;
}

void check_finish(struct check *c)
{
    if (c->skipping) {
        fprintf(c->machine->config.trace_file, "tierce: --check-skip: nothing was compared, for the guest ran %lu instructions\n", c->machine->vcpu->stats.insns);
        return;
    }
    pthread_mutex_lock(&c->machine->lock);
    take_foreign(c);
    if (!c->over)
        ram_scan(c);
    pthread_mutex_unlock(&c->machine->lock);
}

void check_free(struct check *c)
{
    if (!c)
        return;
    if (c->reference) {
        c->reference->check = NULL; /* it is not its own */
        machine_free(c->reference);
    }
    for (unsigned k = 0; k < CHECK_SIDES; k++)
        free(c->side[k].opened);
    free(c->events);
    free(c->bytes);
    free(c->pages);
    free(c->marks);
    free(c->listed);
    free(c->images);
    free(c->walked);
    free(c->foreign);
    free(c);
}
