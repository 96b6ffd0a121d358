/* The guest's side of the comparison: see guest.h. */
#include "tests/silicon/guest.h"
#include "tests/silicon/region.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

const char *const tier_names[ALL_TIERS] = {"interp", "passes+interp", "tcg", "llvm"};
const char *guest_refused;
static struct { struct tcg_context tcg; struct x86_cpu cpu; } vcpu;
#define cpu vcpu.cpu
static uint8_t *data, *code;
static struct ir_block block;
static enum oracle_mode_id current;

/* --- Memory */
uint8_t *guest_place(uint64_t at, unsigned size, bool write)
{
    uint64_t room = write ? ORACLE_WRITABLE : ORACLE_DATA_SIZE;
    if (at >= ORACLE_DATA && at + size <= ORACLE_DATA + room && at + size > at)
        return data + (at - ORACLE_DATA);
    if (at >= ORACLE_CODE && at + size <= ORACLE_CODE + ORACLE_CODE_SIZE && at + size > at && !write)
        return code + (at - ORACLE_CODE);
    return NULL;
}

/* Descriptor tables, which the CPU reads whatever its rights. */
static const uint64_t gdt_at = 0xfffffe0000001000ull, ldt_at = 0xfffffe0000002000ull;

static uint8_t *place_for(uint64_t at, unsigned size, unsigned access)
{
    bool table = access & IR_AS_SUPERVISOR && !(access & IR_WRITE);
    if (table && at >= gdt_at && at + size <= gdt_at + sizeof oracle_gdt)
        return (uint8_t *)oracle_gdt + (at - gdt_at);
    if (table && at >= ldt_at && at + size <= ldt_at + sizeof oracle_ldt)
        return (uint8_t *)oracle_ldt + (at - ldt_at);
    return guest_place(at, size, access & IR_WRITE);
}

/* #PF names the first byte that may not be accessed: the start, or the second page's. */
static void page_fault(struct x86_cpu *c, uint64_t at, unsigned access)
{
    uint64_t first = guest_place(at, 1, access & IR_WRITE) ? (at | 4095) + 1 : at;
    c->state.fault_address = first;
    x86_raise_error(c, X86_PF, 4u | (access & IR_WRITE ? 2 : 0) | (access & IR_EXEC ? 16 : 0) | (guest_place(first, 1, false) ? 1 : 0));
}

static bool probe(struct x86_cpu *c, uint64_t at, unsigned size, unsigned access)
{
    if (c->state.mode & X86_MODE_AC && c->state.cpl == 3 && !(access & IR_AS_SUPERVISOR) && size <= 8 && !(size & (size - 1)))
        access |= IR_AC; /* as runtime/softmmu.c does */
    if (!x86_access_check(c, at, size, access))
        return false;
    if (place_for(at, size, access))
        return true;
    page_fault(c, at, access);
    return false;
}
static bool bus_read(struct x86_cpu *c, uint64_t at, unsigned size, unsigned access, void *to)
{
    if (!probe(c, at, size, access))
        return false;
    memcpy(to, place_for(at, size, access), size);
    return true;
}
static bool bus_write(struct x86_cpu *c, uint64_t at, unsigned size, unsigned access, const void *from)
{
    if (!probe(c, at, size, access | IR_WRITE))
        return false;
    memcpy(guest_place(at, size, true), from, size);
    return true;
}
static void *bus_pointer(struct x86_cpu *c, uint64_t at, unsigned *size, unsigned access)
{
    unsigned room = 4096 - (at & 4095);
    (void)c;
    *size = *size < room ? *size : room;
    return guest_place(at, *size, access & IR_WRITE);
}
/* No tables of descriptors, no devices: what reaches for them ends in a shutdown. */
static bool shut_down;
static void mode_changed(struct x86_cpu *c) { (void)c; }
static uint64_t bus_random(struct x86_cpu *c) { (void)c; return 0x0123456789abcdefull; }
static uint64_t phys_read(struct x86_cpu *c, uint64_t at, unsigned size) { (void)c, (void)at, (void)size; return 0; }
static bool phys_cas(struct x86_cpu *c, uint64_t at, unsigned size, uint64_t expected, uint64_t desired) { (void)c, (void)at, (void)size, (void)expected, (void)desired; return true; }
static uint32_t io_read(struct x86_cpu *c, uint16_t port, unsigned size) { (void)c, (void)port, (void)size; return 0; }
static void io_write(struct x86_cpu *c, uint16_t port, unsigned size, uint32_t v) { (void)c, (void)port, (void)size, (void)v; }
static int interrupt_take(struct x86_cpu *c) { (void)c; return -1; }
static uint64_t apic_read(struct x86_cpu *c, uint32_t msr) { (void)c, (void)msr; return 0; }
static bool apic_write(struct x86_cpu *c, uint32_t msr, uint64_t v) { (void)c, (void)msr, (void)v; return false; }
static uint8_t tpr_read(struct x86_cpu *c) { (void)c; return 0; }
static void tpr_write(struct x86_cpu *c, uint8_t v) { (void)c, (void)v; }
static uint64_t tsc(struct x86_cpu *c) { (void)c; return 1; }
static void tlb_flush(struct x86_cpu *c, enum x86_flush what, uint64_t linear) { (void)c, (void)what, (void)linear; }
static void shutdown(struct x86_cpu *c) { (void)c; shut_down = true; }
static const struct x86_bus bus = {.read = bus_read, .write = bus_write, .probe = probe, .pointer = bus_pointer, .phys_read = phys_read, .phys_cas = phys_cas,
    .io_read = io_read, .io_write = io_write, .interrupt_take = interrupt_take, .apic_read = apic_read, .apic_write = apic_write, .tpr_read = tpr_read,
    .tpr_write = tpr_write, .random = bus_random, .tsc = tsc, .tlb_flush = tlb_flush, .mode_changed = mode_changed, .shutdown = shutdown};

static bool env_translate(void *s, uint64_t at, unsigned size, unsigned access) { return probe(s, at, size, access); }
static void env_load(void *s, uint64_t at, unsigned size, void *to) { (void)s; memcpy(to, guest_place(at, size, false), size); }
static void env_store(void *s, uint64_t at, unsigned size, const void *from) { (void)s; memcpy(guest_place(at, size, true), from, size); }
static void env_raise(void *s, unsigned vector, bool has_error, uint64_t error)
{
    if (has_error)
        x86_raise_error(s, vector, (uint32_t)error);
    else
        x86_raise(s, vector);
}

static unsigned fetch(void *ctx, uint64_t at, unsigned max, uint8_t *to)
{
    unsigned room = 4096 - (at & 4095);
    (void)ctx;
    max = max < room ? max : room;
    if (!x86_fetch_check(&cpu, at))
        return 0;
    if (at < ORACLE_CODE || at >= ORACLE_CODE + ORACLE_CODE_SIZE) {
        page_fault(&cpu, at, IR_EXEC);
        return 0;
    }
    memcpy(to, guest_place(at, max, false), max);
    return max;
}

/* --- State */
static struct x86_state clean; /* as guest_init made it */

static void state_in(const struct oracle_state *o)
{
    struct x86_state *s = &cpu.state;
    *s = clean;
    shut_down = false;
    memcpy(s->gpr, o->gpr, sizeof s->gpr);
    s->rip = o->rip;
    x86_eflags_set(s, (uint32_t)o->rflags, 0x247fd5);
    s->fcw = o->fx.fcw;
    s->fptop = o->fx.fsw >> 11 & 7;
    s->fsw = o->fx.fsw & ~0x3800;
    s->fptag = o->fx.ftw;
    for (unsigned i = 0; i < 8; i++) {
        s->fpr[(s->fptop + i) & 7].mantissa = o->fx.st[i].low;
        s->fpr[(s->fptop + i) & 7].exponent = o->fx.st[i].high;
    }
    s->mxcsr = o->fx.mxcsr;
    for (unsigned i = 0; i < 16; i++)
        memcpy(&s->vec[i], o->fx.xmm[i], 16);
    guest_mode(current);
}

static void state_out(struct oracle_state *o)
{
    const struct x86_state *s = &cpu.state;
    memcpy(o->gpr, s->gpr, sizeof s->gpr);
    o->rip = s->rip;
    o->rflags = x86_eflags_get(s);
    o->trap = s->faulted ? (int)s->fault_vector : 3;
    o->error = s->faulted && s->fault_has_error ? s->fault_error : 0;
    o->cr2 = s->fault_address;
    memcpy(o->seg, s->seg_sel, sizeof o->seg);
    o->fx.fcw = s->fcw;
    o->fx.fsw = (uint16_t)(s->fsw | s->fptop << 11);
    o->fx.ftw = s->fptag;
    for (unsigned i = 0; i < 8; i++) {
        o->fx.st[i].low = s->fpr[(s->fptop + i) & 7].mantissa;
        o->fx.st[i].high = s->fpr[(s->fptop + i) & 7].exponent;
    }
    o->fx.mxcsr = s->mxcsr;
    for (unsigned i = 0; i < 16; i++)
        memcpy(o->fx.xmm[i], &s->vec[i], 16);
}

void guest_mode(enum oracle_mode_id m)
{
    struct x86_state *s = &cpu.state;
    current = m;
    for (unsigned i = 0; i < 6; i++) {
        const struct oracle_segment *from = &oracle_modes[m].seg[i];
        s->seg_sel[i] = from->selector;
        s->seg_base[i] = from->base;
        s->seg_limit[i] = from->limit;
        s->seg_attr[i] = from->attr;
    }
    x86_mode_update(&cpu);
}

uint32_t guest_mode_bits(void) { return cpu.state.mode; }

/* --- The template backend */
enum { BLOCK_ROOM = 1 << 20 };
static struct tcg_buffer *buffer;
static struct tcg_block translated;

static uint64_t slow_translate(void *s, uint64_t at, unsigned size_access, const void *host_pc)
{
    (void)host_pc;
    unsigned size = size_access & 0xff, access = size_access >> 8;
    return probe(s, at, size, access) ? (uint64_t)guest_place(at, size, access & IR_WRITE) : 0;
}

static const void *resume(const void *pc) { return translated.entry ? tcg_fault_resume(&translated, pc) : NULL; }

static int64_t *table_new(unsigned bytes)
{
    int64_t *p = mmap(NULL, TCG_TABLE_ENTRIES * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    for (unsigned i = 0; i < bytes / 4096; i += 2) /* every other page is left to the slow path */
        p[(ORACLE_DATA >> 12) + i] = (int64_t)(uintptr_t)data - (int64_t)ORACLE_DATA;
    return p;
}

static bool tcg_init(void)
{
    int64_t *read = table_new(ORACLE_DATA_SIZE), *write = table_new(ORACLE_WRITABLE);
    buffer = tcg_buffer_new(BLOCK_ROOM + REGION_ROOM);
    static struct tcg_jump jumps[TCG_JUMP_ROOM];
    tcg_jumps_clear(jumps, TCG_JUMP_ROOM);
    vcpu.tcg.jumps = jumps;
    vcpu.tcg.slow_translate = slow_translate;
    oracle_resume = resume;
    region_begin(&vcpu.tcg);
    if (read && write)
        tcg_tables_set(&vcpu.tcg, read, write);
    return read && write && buffer;
}

static bool is_done(enum ir_leave leave, enum outcome *outcome)
{
    if (leave == IR_LEAVE_INTERPRET) {
        *outcome = BY_TCG_THEN_INTERPRETER;
        return false;
    }
    if (*outcome != BY_TCG_THEN_INTERPRETER)
        *outcome = BY_TCG;
    return true;
}

/* What was compiled for elsewhere in the same place of a page, is moved here.  False: it cannot be. */
static bool move_here(const struct tcg_options *here, size_t at)
{
    static uint8_t code[BLOCK_ROOM];
    struct tcg_moved moved = {.code = code, .at_64 = (uintptr_t)translated.entry & 63, .relocs = translated.relocs, .reloc_count = translated.reloc_count};
    if (!translated.relocs)
        return false;
    tcg_copy(&translated, code);
    return tcg_place(buffer, &at, BLOCK_ROOM, &moved, here, &translated) == TCG_OK;
}

/* Every other block is made for elsewhere, by the rules of the translation cache. */
static bool translate(uint64_t pc)
{
    static unsigned turn;
    static const char other_user[1];
    const struct tcg_options here = {.guest = &x86_guest, .pc = pc},
                             elsewhere = {.guest = &x86_guest, .pc = pc + 0x2345000, .user = (void *)(uintptr_t)other_user, .moves = true};
    size_t at = 0;
    if (turn++ & 1) {
        if (tcg_compile(buffer, &at, BLOCK_ROOM, &block, &elsewhere, &translated) != TCG_OK)
            return false;
        if (move_here(&here, at))
            return true;
        free(translated.sites);
        free(translated.relocs);
        at = 0;
    }
    return tcg_compile(buffer, &at, BLOCK_ROOM, &block, &here, &translated) == TCG_OK;
}

/* Runs the block in translated code; false: the interpreter is to run it. */
static bool run_translated(uint64_t pc, enum outcome *outcome)
{
    int exit;
    if (!translate(pc)) {
        *outcome = TCG_REFUSED;
        return false;
    }
    enum ir_leave leave = tcg_run(&cpu.state, &x86_guest, translated.entry, &exit);
    free(translated.sites);
    free(translated.relocs);
    translated = (struct tcg_block){0};
    return is_done(leave, outcome);
}

/* The same as a region.  *wrong: what the compiler says. */
static bool run_region(uint64_t pc, enum outcome *outcome, const char **wrong)
{
    static char error[200];
    int exit;
    *error = 0;
    const void *entry = region_make(buffer, BLOCK_ROOM, &block, &x86_guest, pc, &guest_refused, error, sizeof error);
    if (!entry) {
        *outcome = TCG_REFUSED;
        *wrong = *error ? error : NULL;
        return false;
    }
    return is_done(tcg_run(&cpu.state, &x86_guest, entry, &exit), outcome);
}

static const char *lift(uint64_t pc, enum tier tier, struct x86_lift_limits limits)
{
    static char error[200];
    const struct x86_fetch f = {fetch, NULL};
    if (!x86_lift(cpu.model, cpu.state.mode, pc, pc + (oracle_modes[current].bits == 64 ? 0 : cpu.state.seg_base[X86_CS]), &f, &limits, &block))
        return NULL; /* the fault of the fetch is pending */
    const char *wrong = ir_verify(&block, &x86_guest, error, sizeof error);
    if (!wrong && tier != TIER_INTERP) {
        ir_optimise(&block, &x86_guest);
        wrong = ir_verify(&block, &x86_guest, error, sizeof error);
    }
    return wrong;
}

const char *guest_run(struct oracle_state *o, enum tier tier, enum outcome *outcome)
{
    uint64_t start = o->rip;
    unsigned insns;
    *outcome = BY_INTERPRETER;
    state_in(o);
    /* REP and the like may come back to themselves: SCAS at most once for each byte of the data. */
    for (unsigned again = 0; again < ORACLE_DATA_SIZE; again++) {
        struct ir_env env = {.state = &cpu.state, .guest = &x86_guest, .pc = cpu.state.rip, .translate = env_translate,
                             .load = env_load, .store = env_store, .raise = env_raise};
        const char *wrong = lift(start, tier, (struct x86_lift_limits){.insns = 1, .bytes = 4096});
        if (wrong)
            return wrong;
        bool done = cpu.state.faulted || (tier == TIER_TCG && run_translated(start, outcome)) || (tier == TIER_LLVM && run_region(start, outcome, &wrong));
        if (wrong)
            return wrong;
        if (!done)
            ir_interpret(&block, &env, &insns);
        if (cpu.state.faulted || cpu.state.rip != start)
            break;
    }
    state_out(o);
    return NULL;
}

const char *guest_run_all(struct oracle_state *o, enum tier tier, unsigned size, bool *ended)
{
    uint64_t start = o->rip;
    enum outcome outcome;
    unsigned insns;
    state_in(o);
    *ended = false;
    for (unsigned blocks = 0; blocks < 300; blocks++) {
        uint64_t pc = cpu.state.rip;
        struct ir_env env = {.state = &cpu.state, .guest = &x86_guest, .pc = pc, .translate = env_translate, .load = env_load, .store = env_store, .raise = env_raise};
        if (cpu.state.faulted || shut_down || pc - start >= size || cpu.state.cpl != 3) {
            *ended = true;
            break;
        }
        unsigned room = size - (unsigned)(pc - start);
        const char *wrong = lift(pc, tier, (struct x86_lift_limits){.insns = 16, .bytes = room});
        if (wrong)
            return wrong;
        if (cpu.state.faulted || (tier == TIER_TCG && run_translated(pc, &outcome)))
            continue;
        if (tier == TIER_TCG) { /* the one instruction that was left to it */
            env.pc = cpu.state.rip;
            if ((wrong = lift(env.pc, tier, (struct x86_lift_limits){.insns = 1, .bytes = room})))
                return wrong;
        }
        if (!cpu.state.faulted)
            ir_interpret(&block, &env, &insns);
    }
    state_out(o);
    return NULL;
}

const struct x86_model *guest_model(void) { return cpu.model; }

bool guest_init(const char *model, char *error, unsigned size)
{
    code = oracle_code();
    data = oracle_data();
    cpu.model = x86_model_find(model, error, size);
    cpu.bus = &bus;
    ir_block_init(&block);
    if (!cpu.model)
        return false;
    if (!tcg_init()) {
        snprintf(error, size, "cannot set up the backend: mmap");
        return false;
    }
    x86_reset(&cpu, X86_RESET_POWER);
    struct x86_state *s = &cpu.state;
    s->cr0 = 0x80050033; /* as Linux has it: alignment checks too */
    s->cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE | X86_CR4_FSGSBASE;
    s->efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE;
    s->tr_limit = 0; /* no I/O permission map */
    s->gdtr_base = gdt_at;
    s->gdtr_limit = sizeof oracle_gdt - 1;
    s->ldtr_sel = 0x50;
    s->ldtr_base = ldt_at;
    s->ldtr_limit = sizeof oracle_ldt - 1;
    s->ldtr_attr = 0x82;
    s->cpl = 3;
    s->eflags = 0x202;
    s->xcr0 = 3;
    clean = *s;
    return true;
}

void guest_free(void)
{
    ir_block_free(&block);
    x86_model_free(cpu.model);
    tcg_buffer_free(buffer);
    region_end();
}
