/* Lockstep's report of a difference.  The interval is repeated with fewer and fewer instructions, on both sides, until the
 * shortest run is known after which they differ: then the last block of that run is at fault, and is printed. */
#include "runtime/check.h"

#define LONGEST 64 /* instructions of a block */

static FILE *file_of(const struct check *c) { return c->machine->config.trace_file; }

/* However it ended: it ends in failure. */
static void end(struct check *c)
{
    struct machine *m = c->machine;
    c->over = true;
    machine_end_with(m, MACHINE_ERROR, 1);
    m->end = MACHINE_ERROR;
    m->exit_status = 1;
    fflush(file_of(c));
}

/* --- Runs of a part of the interval.  Devices are not asked again. */
static int64_t run_tier(struct check *c, int64_t insns, bool faults)
{
    check_restore(c);
    check_log_begin(c, CHECK_REPLAY);
    int64_t ran = vcpu_run(c->machine->vcpu, insns, faults);
    c->after = check_state_of(c->machine->vcpu);
    return ran;
}

/* Is the reference, after as many instructions as the tier has run, somewhere else? */
static bool compare(struct check *c, int64_t ran, FILE *f)
{
    bool parted = c->parted;
    c->event_end = c->event_at;
    check_log_begin(c, CHECK_REPLAY);
    check_replay(c, ran, c->after.faulted);
    return check_differs(c, f) || parted;
}

static bool differs(struct check *c, int64_t insns, bool faults, FILE *f) { return compare(c, run_tier(c, insns, faults), f); }

/* With the last of these instructions translated as a block of their own. */
static bool block_differs(struct check *c, int64_t start, unsigned insns)
{
    struct vcpu *v = c->machine->vcpu;
    int64_t ran = run_tier(c, start, false);
    v->most_insns = insns;
    tb_flush_all(v);
    ran += vcpu_run(v, insns, false);
    v->most_insns = 0;
    tb_flush_all(v);
    c->after = check_state_of(v);
    return compare(c, ran, NULL);
}

/* The last block of so many instructions began after how many?  With one less, all of it is interpreted, one instruction
 * after the other, for it would be too long. */
static int64_t block_start(struct check *c, int64_t insns)
{
    const struct stats *stats = &c->machine->vcpu->stats;
    int64_t at = insns - 1;
    for (uint64_t alone = 0, before; at > 0 && at > insns - LONGEST; at--) {
        before = stats->single;
        run_tier(c, at, false);
        if (at < insns - 1 && stats->single - before + 1 != alone)
            return at + 1;
        if (!(alone = stats->single - before))
            return at;
    }
    return at > 0 ? at : 0;
}

static uint64_t block_pc(struct check *c, int64_t start)
{
    run_tier(c, start, false);
    return c->after.rip;
}

/* Where the block is part of a region that ran, that is at fault, not the template block. */
static void print_block(struct check *c, int64_t start, int64_t insns)
{
    struct vcpu *v = c->machine->vcpu;
    const struct ir_block *once = NULL;
    uint64_t pc = block_pc(c, start);
    regions_mark(v);
    run_tier(c, insns, false);
    bool by_region = regions_trace(v, pc, file_of(c));
    run_tier(c, start, false);
    fprintf(file_of(c), "The shortest run that differs has %ld instructions; its last block, after %ld, began with\n", insns, start);
    x86_state_print(file_of(c), &v->cpu.state);
    struct tb *tb = tb_find(v, &once);
    if (!tb)
        return; /* its fetch faults */
    const struct ir_block guest = {.guest_bytes = tb->bytes};
    trace_block(v, TRACE_IN_ASM, &guest);
    if (tb->code.entry && !by_region)
        trace_out(v, tb);
}

static void print_instruction(struct check *c, int64_t start, int64_t insns)
{
    unsigned n = 1;
    while (n <= insns - start && !block_differs(c, start, n))
        n++;
    if (n > insns - start) {
        fprintf(file_of(c), "Translated anew, from the first instruction to all of them, no block differs.\n");
        return;
    }
    run_tier(c, start + n - 1, false);
    fprintf(file_of(c), "Translated anew, a block of its first %u differs: the instruction at %lx is the first that is wrong.\n", n, c->after.rip);
}

static void narrow(struct check *c)
{
    int64_t equal = 0, all = c->ran, most = all;
    bool faults = c->after.faulted;
    if (!differs(c, all, faults, NULL)) {
        fprintf(file_of(c), "They do not differ when the interval is repeated.\n");
        return;
    }
    if (faults && !differs(c, all, false, NULL)) {
        equal = all; /* it is the fault that differs */
        most = all + 1;
    }
    while (most - equal > 1) {
        int64_t middle = equal + (most - equal) / 2;
        if (differs(c, middle, false, NULL))
            most = middle;
        else
            equal = middle;
    }
    int64_t start = most > all ? all : block_start(c, most);
    print_block(c, start, most);
    if (most <= all)
        print_instruction(c, start, most);
    fprintf(file_of(c), "After it:\n");
    differs(c, most > all ? all : most, faults && most >= all, file_of(c));
}

void check_report(struct check *c)
{
    static const char *const actions[] = {"instructions", "the delivery of a fault", "the delivery of an NMI", "the delivery of an interrupt"};
    FILE *f = file_of(c);
    fprintf(f, "tierce: --check: the tier and %s differ in interval %lu, after %lu instructions in all.\nThe interval: from %04x:%lx to %04x:%lx, ",
            c->reference->accel ? check_reference_name(c) : "the interpreter", c->machine->vcpu->stats.check_intervals, c->machine->vcpu->stats.check_insns, c->before.seg_sel[X86_CS], c->before.rip,
            c->after.seg_sel[X86_CS], c->after.rip);
    if (c->action == VCPU_STEP)
        fprintf(f, "%ld ", c->ran);
    fprintf(f, "%s%s\n", actions[c->action], c->after.faulted ? ", then a fault" : "");
    check_differs(c, f);
    if (c->action == VCPU_STEP)
        narrow(c);
    end(c);
}

void check_report_memory(struct check *c, uint64_t ram_offset)
{
    const uint64_t *a = (const uint64_t *)(const void *)(c->machine->ram + ram_offset), *b = (const uint64_t *)(const void *)(c->reference->ram + ram_offset);
    unsigned i = 0;
    while (a[i] == b[i])
        i++;
    fprintf(file_of(c), "tierce: --check: RAM at offset %#lx differs: %016lx, %s %016lx.\n"
            "Some time in the last %llu instructions something wrote there that no store of the guest explains.\n",
            ram_offset + 8 * i, a[i], check_reference_name(c), b[i], CHECK_SCAN);
    end(c);
}
