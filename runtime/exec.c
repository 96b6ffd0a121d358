/* The cpu-exec loop: takes requests and interrupts, finds the next block, runs it in its tier, and deals with
 * the reason for which it left.  Runs on the vCPU's own thread. */
#define _GNU_SOURCE
#include "runtime/internal.h"
#include <errno.h>
#include <string.h>

/* Modes in which each instruction is watched, and runs alone in the interpreter.  In the shadow of STI and MOV SS it
 * runs alone too, but as a block of its own: kernels turn interrupts on all the time. */
#define INTERPRETED_MODES (X86_MODE_TF | X86_MODE_DEBUG | X86_MODE_AC)

/* --- What the interpreter asks of the machine */
static bool env_translate(void *state, uint64_t address, unsigned size, unsigned access)
{
    struct vcpu *v = vcpu_of_state(state);
    if (v->regions.recorder)
        profile_access(v, address, size);
    return softmmu_probe(state, address, size, access & IR_RW ? access : access | IR_READ);
}
/* translate has checked the rights; which they were is not known here, so the access is made with the widest
 * ones that the translation could have had. */
static void env_load(void *state, uint64_t address, unsigned size, void *to)
{
    struct x86_cpu *cpu = state;
    if (!softmmu_read(cpu, address, size, IR_READ, to)) {
        cpu->state.faulted = 0;
        softmmu_read(cpu, address, size, IR_READ | IR_AS_SUPERVISOR, to);
    }
}
static void env_store(void *state, uint64_t address, unsigned size, const void *from)
{
    struct x86_cpu *cpu = state;
    if (!softmmu_write(cpu, address, size, IR_WRITE, from)) {
        cpu->state.faulted = 0;
        softmmu_write(cpu, address, size, IR_WRITE | IR_AS_SUPERVISOR, from);
    }
    struct vcpu *v = vcpu_of(cpu);
    if (address < v->once_end && address + size > v->once_start)
        *v->interpreted_stop = true; /* it changes itself; no list has it */
}
static void env_raise(void *state, unsigned vector, bool has_error, uint64_t error)
{
    if (has_error)
        x86_raise_error(state, vector, (uint32_t)error);
    else
        x86_raise(state, vector);
}

/* tb: the block that this is the IR of, which is left early where it changes its own bytes; NULL: a single instruction. */
static enum ir_leave interpret(struct vcpu *v, const struct ir_block *block, struct tb *tb, unsigned *insns)
{
    struct ir_env env = {
        .state = &v->cpu.state, .guest = &x86_guest, .pc = v->cpu.state.rip, .code = tb ? softmmu_ram(v->machine, tb->phys) : NULL,
        .translate = env_translate, .load = env_load, .store = env_store, .raise = env_raise,
    };
    enum stats_clock before = stats_enter(v, STATS_interpreted);
    v->interpreted = tb;
    v->interpreted_stop = &env.stop;
    v->interpreted_at = &env.at;
    v->cpu.state.icount -= block->guest_insns; /* as translated code does: time stands where the block ends */
    enum ir_leave leave = ir_interpret(block, &env, insns);
    v->interpreted = NULL;
    v->cpu.state.icount += block->guest_insns - *insns;
    v->stats.insns_interp += *insns;
    stats_enter(v, before);
    return leave;
}

/* --- Interrupts and waiting */
void vcpu_kick(struct machine *m)
{
    if (m->vcpu)
        __atomic_store_n(&m->vcpu->cpu.state.stop, 1, __ATOMIC_SEQ_CST);
    pthread_cond_broadcast(&m->wake_vcpu);
    if (m->accel)
        m->config.accel->kick(m->accel);
}

bool vcpu_is_between(const struct x86_state *s) { return s->faulted || s->shadow == 2 || s->debug_hits; }

static bool interrupt_open(const struct x86_state *s) { return s->eflags & 1 << 9 && !s->shadow; }

void vcpu_deliver(struct vcpu *v, enum vcpu_action what, unsigned vector)
{
    if (what == VCPU_FAULT) {
        x86_deliver_fault(&v->cpu);
        return;
    }
    v->cpu.state.halted = 0;
    if (what == VCPU_INTERRUPT) {
        x86_deliver_interrupt(&v->cpu, vector);
        return;
    }
    v->cpu.state.nmi_pending = 0;
    x86_deliver_nmi(&v->cpu);
}

static void deliver(struct vcpu *v, enum vcpu_action what, unsigned vector)
{
    if (v->machine->check)
        check_begin(v, what, vector);
    vcpu_deliver(v, what, vector);
    if (v->machine->check)
        check_end(v);
}

static bool take_interrupt(struct vcpu *v)
{
    struct machine *m = v->machine;
    pthread_mutex_lock(&m->lock);
    int vector = pc_interrupt_take(m->pc);
    pthread_mutex_unlock(&m->lock);
    if (vector < 0)
        return false;
    trace_interrupt(v, (unsigned)vector);
    v->stats.interrupts++;
    deliver(v, VCPU_INTERRUPT, (unsigned)vector);
    return true;
}

bool vcpu_take(struct vcpu *v, bool interrupt, bool nmi)
{
    const struct x86_state *s = &v->cpu.state;
    if (nmi && !s->nmi_masked && !s->shadow) {
        deliver(v, VCPU_NMI, 0);
        return true;
    }
    return interrupt && interrupt_open(s) && take_interrupt(v);
}

static bool wake_reason(struct vcpu *v)
{
    struct machine *m = v->machine;
    return atomic_load(&m->requests) || atomic_load(&m->wanted_count) || (atomic_load(&m->interrupt_level) && v->cpu.state.eflags & 1 << 9) ||
           v->cpu.state.nmi_pending || !v->cpu.state.halted;
}

/* Sleeps until an interrupt, a request or the next alarm; the alarm is run right here, which saves a thread
 * switch for each timer tick of an idle guest. */
void vcpu_wait_halted(struct vcpu *v)
{
    struct machine *m = v->machine;
    enum stats_clock before = stats_enter(v, STATS_idle);
    pthread_mutex_lock(&m->lock);
    while (!wake_reason(v)) {
        uint64_t deadline = clock_next_deadline(&m->clock), now = machine_now(m);
        if (deadline != UINT64_MAX && m->config.icount) {
            if (deadline > now)
                m->icount_ns += deadline - now; /* an idle guest's time passes at once */
            clock_run_alarms(&m->clock);
        } else if (deadline <= now) {
            clock_run_alarms(&m->clock);
        } else if (deadline == UINT64_MAX) {
            pthread_cond_wait(&m->wake_vcpu, &m->lock);
        } else {
            struct timespec until;
            clock_gettime(CLOCK_MONOTONIC, &until);
            uint64_t ns = (uint64_t)until.tv_nsec + (deadline - now) % 1000000000u;
            until.tv_sec += (time_t)((deadline - now) / 1000000000u + ns / 1000000000u);
            until.tv_nsec = (long)(ns % 1000000000u);
            pthread_cond_timedwait(&m->wake_vcpu, &m->lock, &until);
        }
    }
    pthread_mutex_unlock(&m->lock);
    stats_enter(v, before);
}

/* --- Requests from other threads.  False: the machine ends. */
bool vcpu_serve_requests(struct vcpu *v)
{
    struct machine *m = v->machine;
    bool go_on = true;
    enum stats_clock before = stats_enter(v, STATS_stopped);
    pthread_mutex_lock(&m->lock);
    for (;;) {
        unsigned r = atomic_load(&m->requests);
        if (r & REQUEST_QUIT) {
            go_on = false;
            break;
        }
        if (r & REQUEST_RESET) {
            atomic_fetch_and(&m->requests, ~REQUEST_RESET);
            machine_reset_now(m);
        }
        if (r & REQUEST_RAM)
            machine_ram_noted(m);
        if (!(r & REQUEST_STOP))
            break;
        m->parked = true;
        pthread_cond_broadcast(&m->parked_changed);
        if (m->debug.untold)
            machine_wake_main(m);
        pthread_cond_wait(&m->wake_vcpu, &m->lock);
    }
    m->parked = !go_on;
    pthread_cond_broadcast(&m->parked_changed);
    pthread_mutex_unlock(&m->lock);
    stats_enter(v, before);
    return go_on;
}

/* With true, `stop` brings the loop here again. */
bool vcpu_stalls(struct vcpu *v)
{
    struct machine *m = v->machine;
    if (!atomic_load(&m->stalls) || atomic_load(&m->wanted_count))
        return false; /* a change of the tier may need that something is done first */
    enum stats_clock before = stats_enter(v, STATS_idle);
    pthread_mutex_lock(&m->lock);
    while (atomic_load(&m->stalls) && !atomic_load(&m->requests) && !atomic_load(&m->wanted_count))
        pthread_cond_wait(&m->wake_vcpu, &m->lock);
    bool still = atomic_load(&m->stalls);
    if (still)
        __atomic_store_n(&v->cpu.state.stop, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&m->lock);
    stats_enter(v, before);
    return still;
}

/* --- Instruction counting: virtual time advances by what was run, alarms fire on this thread. */
#define ICOUNT_NS 1u
#define CHECK_ACCEL_SLICE 500 /* each of them is an exit */
#define CHECK_SLICE 10000 /* instructions of an interval of --check, at most: so many are repeated where they differ */
/* Where nothing has been looked at yet: what an alarm raises is taken at the instruction that it goes off at, not where the code next
 * looks for it. */
static void icount_alarms(struct machine *m)
{
    pthread_mutex_lock(&m->lock);
    clock_run_alarms(&m->clock);
    pthread_mutex_unlock(&m->lock);
}
static int64_t slice_to_alarm(struct machine *m)
{
    pthread_mutex_lock(&m->lock);
    uint64_t deadline = clock_next_deadline(&m->clock);
    pthread_mutex_unlock(&m->lock);
    uint64_t ns = deadline == UINT64_MAX ? 10000000 : deadline > m->icount_ns ? deadline - m->icount_ns : 1;
    return ns > 10000000 ? 10000000 : ns < ICOUNT_NS ? 1 : (int64_t)(ns / ICOUNT_NS);
}
static void icount_begin(struct vcpu *v)
{
    struct machine *m = v->machine;
    int64_t most = m->config.check_accel ? CHECK_ACCEL_SLICE : CHECK_SLICE, slice = m->config.icount ? slice_to_alarm(m) : most;
    v->icount_slice = m->check && slice > most ? most : slice;
    v->cpu.state.icount = v->icount_slice;
}
static void icount_end(struct vcpu *v)
{
    struct machine *m = v->machine;
    int64_t left = v->icount_slice - v->cpu.state.icount;
    uint64_t ran = left > 0 ? (uint64_t)left : 0;
    v->stats.insns += ran;
    if (m->config.icount)
        m->icount_ns += ran * ICOUNT_NS;
    v->icount_slice = v->cpu.state.icount = 0;
}
/* Time as the guest reads it in the middle of a slice. */
uint64_t vcpu_icount_now(struct machine *m)
{
    struct vcpu *v = m->vcpu;
    return m->icount_ns + (uint64_t)(v->icount_slice - v->cpu.state.icount) * ICOUNT_NS;
}

/* --- Running */
/* What is due after an instruction that was run alone: the shadow ends, single-step traps (SDM 3B 17.3.1.4). */
static void after_single(struct vcpu *v, uint32_t mode, enum ir_leave leave)
{
    struct x86_state *s = &v->cpu.state;
    uint64_t hits = s->debug_hits & ~X86_DEBUG_NO_STEP;
    bool no_step = s->debug_hits & X86_DEBUG_NO_STEP, fresh = s->shadow && !(mode & X86_MODE_SHADOW);
    s->debug_hits = 0;
    if (leave == IR_LEAVE_FAULT)
        return;
    if (fresh && s->shadow == 2) { /* MOV SS and POP SS: its breakpoints wait with everything else (SDM 3A 6.8.3) */
        s->debug_hits = hits;
        return;
    }
    if (s->shadow && !fresh) {
        s->shadow = 0;
        x86_mode_update(&v->cpu);
    }
    if (mode & X86_MODE_TF && !no_step)
        hits |= X86_DR6_BS;
    if (hits)
        x86_debug_trap(&v->cpu, hits);
}

enum ir_leave vcpu_run_single(struct vcpu *v)
{
    unsigned insns;
    uint32_t mode = v->cpu.state.mode;
    v->stats.single++;
    const struct ir_block *one = tb_single(v);
    if (!one)
        return IR_LEAVE_FAULT;
    enum ir_leave leave = interpret(v, one, NULL, &insns);
    after_single(v, mode, leave);
    return leave;
}

/* A block that no list has. */
enum ir_leave vcpu_run_once(struct vcpu *v, const struct ir_block *ir)
{
    unsigned insns;
    v->once_start = tb_linear(&v->cpu.state);
    v->once_end = v->once_start + ir->guest_bytes;
    v->in_block = true;
    enum ir_leave leave = interpret(v, ir, NULL, &insns);
    v->in_block = false;
    v->once_start = v->once_end = 0;
    return leave;
}

static enum ir_leave run_code(struct vcpu *v, const void *code, int *exit)
{
    enum stats_clock before = stats_enter(v, STATS_translated);
    v->in_block = true;
    v->tcg.block = v->tcg.region_left = NULL;
    v->tcg.link = NULL;
    enum ir_leave leave = tcg_run(&v->cpu.state, &v->guest, code, exit);
    v->in_block = false;
    stats_enter(v, before);
    return leave;
}

static enum ir_leave run_block(struct vcpu *v, struct tb *tb, int *exit)
{
    *exit = -1;
    if (!tb->code.entry && machine_counts(v->machine) && tb->insns > v->cpu.state.icount)
        return IR_LEAVE_EXIT; /* as translated code does */
    v->in_block = true;
    if (!tb->code.entry) {
        unsigned insns;
        enum ir_leave leave = interpret(v, tb->ir, tb, &insns);
        v->in_block = false;
        return leave;
    }
    enum ir_leave leave = run_code(v, tb->code.entry, exit);
    /* Nothing may come between: the flags that the block is going to overwrite were left unmade. */
    while (leave == IR_LEAVE_HOT) {
        const void *code = region_hot(v);
        leave = code ? run_code(v, code, exit) : profile_step(v);
    }
    return leave;
}

void vcpu_deliver_fault(struct vcpu *v)
{
    v->stats.faults++;
    deliver(v, VCPU_FAULT, 0);
}

static bool left_to_interpreter(struct x86_state *s, enum ir_leave leave)
{
    bool asked = s->faulted == SOFTMMU_INTERPRET;
    if (asked)
        s->faulted = 0;
    /* EXIT: the instructions left do not suffice for the whole block (--icount, --check): one by one. */
    return asked || leave == IR_LEAVE_INTERPRET || (leave == IR_LEAVE_EXIT && s->icount > 0);
}

/* One step of the loop: a chain of blocks, or one instruction. *last and *exit: the chainable exit that was taken. */
static void step(struct vcpu *v, struct tb **last, int *exit)
{
    struct x86_state *s = &v->cpu.state;
    uint32_t mode = s->mode;
    struct tb *from = *last, *tb;
    *last = NULL;
    unsigned trace = v->machine->config.trace & TRACE_EACH_BLOCK;
    if (mode & INTERPRETED_MODES) {
        if (trace)
            trace_cpu(v, NULL);
        vcpu_run_single(v);
        return;
    }
    if (v->regions.recorder && !(mode & X86_MODE_SHADOW) && profile_goes_on(v)) {
        if (left_to_interpreter(s, profile_step(v)))
            vcpu_run_single(v);
        return;
    }
    const struct ir_block *once = NULL;
    tb = tb_find(v, &once);
    if (!tb && !once)
        return; /* the fetch faulted: delivered by the loop */
    *exit = tb ? *exit : -1;
    v->stats.once += !tb;
    if (trace)
        trace_cpu(v, tb);
    else if (from && *exit >= 0)
        tb_chain(v, from, *exit, tb);
    if (tb)
        region_make_now(v, tb), region_link(v, tb);
    enum ir_leave leave = tb ? run_block(v, tb, exit) : vcpu_run_once(v, once);
    uint64_t misses = v->stats.tlb_misses;
    if (left_to_interpreter(s, leave))
        vcpu_run_single(v);
    else if (mode & X86_MODE_SHADOW)
        after_single(v, mode, leave);
    else if (*exit >= 0)
        *last = v->tcg.block;
    else
        region_asks(v);
    if (tb && tb->code.entry && (leave == IR_LEAVE_INTERPRET || leave == IR_LEAVE_FAULT))
        region_side_exit(v, v->stats.tlb_misses != misses);
}

int64_t vcpu_run(struct vcpu *v, int64_t insns, bool faults)
{
    struct x86_state *s = &v->cpu.state;
    struct tb *last = NULL;
    int exit = -1;
    s->icount = insns;
    while (s->icount > 0 && !s->faulted && !s->halted) {
        tb_reap(v);
        step(v, &last, &exit);
    }
    int64_t ran = insns - s->icount;
    if (!faults || s->faulted || s->halted)
        return ran;
    s->icount = 1;
    step(v, &last, &exit);
    return ran + 1 - s->icount;
}

/* Breakpoints and single steps.  True: the loop is to begin anew. */
static bool debug_step(struct vcpu *v)
{
    enum debug_run run = debug_before_instruction(v);
    if (run == DEBUG_RUN_ALONE) {
        vcpu_run_single(v);
        if (!v->cpu.state.faulted)
            debug_after_instruction(v); /* else when the fault is delivered */
    }
    return run != DEBUG_RUN_BLOCK;
}

/* STI has no shadow of its own while nothing waits, so that translated code goes on behind it; at least one instruction
 * runs after this was looked at. */
static void sti_shadow(struct vcpu *v, bool something_waits)
{
    struct x86_state *s = &v->cpu.state;
    if (!s->sti)
        return;
    s->sti = 0;
    if (!something_waits || s->rip != s->sti_pc)
        return;
    s->shadow = 1;
    x86_mode_update(&v->cpu);
}

/* Runs translated code, or one instruction. */
static void run(struct vcpu *v, struct tb **last, int *exit)
{
    struct machine *m = v->machine;
    v->cpu.stepped = m->debug.step;
    if (machine_counts(m))
        icount_begin(v);
    if (m->check)
        check_begin(v, VCPU_STEP, 0);
    if (debug_is_on(&m->debug) && debug_step(v))
        *last = NULL;
    else
        step(v, last, exit);
    if (m->check)
        check_end(v);
    if (machine_counts(m))
        icount_end(v);
}

/* True: the accelerator is to go on; false: the machine ends. */
static bool vcpu_loop(struct vcpu *v)
{
    struct machine *m = v->machine;
    struct x86_state *s = &v->cpu.state;
    struct tb *last = NULL;
    int exit = -1;
    for (;;) {
        if (m->config.icount)
            icount_alarms(m);
        if (__atomic_exchange_n(&s->stop, 0, __ATOMIC_SEQ_CST) || atomic_load(&m->requests)) {
            last = NULL;
            clock_serve(m);
            if (!handover_serve(v) || (atomic_load(&m->requests) && !vcpu_serve_requests(v)))
                return false;
            if (vcpu_stalls(v))
                continue;
        }
        if (m->config.tier == TIER_KVM && accel_is_due(v))
            return true;
        if (v->tbs.dead) {
            last = NULL;
            tb_reap(v);
        }
        regions_serve(v);
        if (s->faulted) {
            last = NULL;
            vcpu_deliver_fault(v);
            debug_after_instruction(v);
            continue;
        }
        if (m->debug.due) {
            debug_stop(v);
            continue;
        }
        bool quiet = m->debug.step && m->debug.quiet, interrupt = atomic_load(&m->interrupt_level), nmi = s->nmi_pending;
        sti_shadow(v, interrupt || nmi);
        if (!quiet && vcpu_take(v, interrupt, nmi)) {
            last = NULL;
            debug_after_instruction(v);
            continue;
        }
        if (s->halted) {
            vcpu_wait_halted(v);
            continue;
        }
        run(v, &last, &exit);
    }
}

void *vcpu_thread(void *arg)
{
    struct vcpu *v = arg;
    signals_thread(v);
    v->tcg.read_table = NULL; /* the host's GS base is this thread's own */
    softmmu_mode(v);
    stats_thread_begin(v);
    sample_begin(v);
    clock_timer_begin(v->machine);
    bool goes_on = accel_begin(v);
    while (goes_on)
        goes_on = v->machine->config.tier == TIER_KVM && accel_is_due(v) ? accel_loop(v) : vcpu_loop(v);
    if (v->machine->check)
        check_finish(v->machine->check);
    clock_timer_end(v->machine);
    sample_end(v);
    stats_thread_end(v);
    signals_thread_end();
    pthread_mutex_lock(&v->machine->lock);
    v->machine->parked = true;
    pthread_cond_broadcast(&v->machine->parked_changed);
    pthread_mutex_unlock(&v->machine->lock);
    return NULL;
}
