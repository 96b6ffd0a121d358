/* Random runs of x87 instructions, lifted as blocks, against the host's own CPU: registers, tags, TOP, status, flags,
 * memory, and the instruction and data pointers, after up to LONGEST instructions in a row with all exceptions masked.  Single
 * instructions, and unmasked exceptions, are silicon_test's.  Some go through the LLVM tier too: as a region, and halved, one half
 * translated and the other a region, so that one finds the x87 where the other left it.
 * Usage: x87_test [seed [runs]] */
#define _GNU_SOURCE
#include "frontend/internal.h"
#include "tests/silicon/region.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LONGEST = 24, PAGE = 4096, BASE = 512, ENV = 0, CONTROLS = 112, SAVE_SIZE = 108 }; /* RSI = DATA + BASE */
static const uint64_t CODE = 0x21000000, DATA = 0x31000000;
static uint8_t *code, *data; /* to write; they are seen at CODE and DATA too */

static uint64_t seed = 1;
static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed * 0x2545f4914f6cdd1dull;
}

/* --- The guest's side */
static struct { struct tcg_context tcg; struct x86_cpu cpu; } vcpu;
#define cpu vcpu.cpu
static uint8_t *place(uint64_t at, unsigned size)
{
    if (at >= DATA && at + size <= DATA + PAGE)
        return data + (at - DATA);
    return at >= CODE && at + size <= CODE + PAGE ? code + (at - CODE) : NULL;
}
static bool probe(struct x86_cpu *c, uint64_t at, unsigned size, unsigned access)
{
    (void)access;
    if (!place(at, size))
        x86_raise_error(c, X86_PF, 0);
    return !c->state.faulted;
}
static bool bus_read(struct x86_cpu *c, uint64_t at, unsigned size, unsigned access, void *to)
{
    return probe(c, at, size, access) && memcpy(to, place(at, size), size);
}
static bool bus_write(struct x86_cpu *c, uint64_t at, unsigned size, unsigned access, const void *from)
{
    return probe(c, at, size, access) && memcpy(place(at, size), from, size);
}
static void mode_changed(struct x86_cpu *c) { (void)c; }
static const struct x86_bus bus = {.read = bus_read, .write = bus_write, .probe = probe, .mode_changed = mode_changed};
static bool env_translate(void *s, uint64_t at, unsigned size, unsigned access) { return probe(s, at, size, access); }
static void env_load(void *s, uint64_t at, unsigned size, void *to) { (void)s; memcpy(to, place(at, size), size); }
static void env_store(void *s, uint64_t at, unsigned size, const void *from) { (void)s; memcpy(place(at, size), from, size); }
static unsigned fetch(void *ctx, uint64_t at, unsigned max, uint8_t *to)
{
    (void)ctx;
    max = at + max > CODE + PAGE ? (unsigned)(CODE + PAGE - at) : max;
    memcpy(to, place(at, max), max);
    return max;
}

/* --- What is compared: FNSAVE's image (SDM 1 figure 8-9), flags */
struct image { uint16_t fcw, u0, fsw, u1, ftw, u2; uint32_t fip; uint16_t fcs, fop; uint32_t fdp; uint16_t fds, u3; uint8_t st[8][10]; } __attribute__((packed));
struct outcome { struct image x; uint64_t flags; uint8_t memory[PAGE]; };
enum { FLAGS = 0x8d5 };
static bool updates_pointers; /* of the host: opcode and data pointer change where no exception is unmasked too */

static void run_once(struct outcome *o)
{
    uint64_t entry = CODE;
    memcpy(data, o->memory, PAGE);
    __asm__ volatile("frstor %[x]\n\t"
                     "leaq -128(%%rsp), %%rsp\n\t"
                     "pushq %[flags]\n\tpopfq\n\t"
                     "call *%[entry]\n\t"
                     "pushfq\n\tpopq %[flags]\n\t"
                     "leaq 128(%%rsp), %%rsp\n\t"
                     "fnsave %[x]"
                     : [x] "+m"(o->x), [flags] "+b"(o->flags)
                     : [entry] "d"(entry), "S"(DATA + BASE)
                     : "rax", "memory", "cc", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)");
    memcpy(o->memory, data, PAGE);
}

/* Until two runs agree: a CPU of AMD's loses the pointers where the host's kernel switches tasks in between. */
static void run_silicon(struct outcome *o)
{
    static struct outcome start, last;
    start = *o;
    run_once(o);
    do {
        last = *o;
        *o = start;
        run_once(o);
    } while (memcmp(o, &last, sizeof last));
}

static void state_in(const struct outcome *o)
{
    struct x86_state *s = &cpu.state;
    memset(s->gpr, 0, sizeof s->gpr);
    s->gpr[X86_RSI] = DATA + BASE;
    s->rip = CODE;
    s->faulted = 0;
    x86_eflags_set(s, (uint32_t)o->flags, FLAGS);
    s->fcw = o->x.fcw;
    s->fsw = o->x.fsw & ~0x3800;
    s->fptop = o->x.fsw >> 11 & 7;
    s->fptag = 0;
    s->fip = o->x.fip;
    s->fdp = o->x.fdp;
    s->fop = o->x.fop;
    for (unsigned i = 0; i < 8; i++) {
        s->fptag |= (uint8_t)(((o->x.ftw >> 2 * i & 3) != 3) << i);
        memcpy(&s->fpr[(s->fptop + i) & 7], o->x.st[i], 10);
    }
    memcpy(data, o->memory, PAGE);
    x86_mode_update(&cpu);
}

static void state_out(struct outcome *o)
{
    const struct x86_state *s = &cpu.state;
    o->flags = x86_eflags_get(s);
    o->x.fcw = s->fcw;
    o->x.fsw = (uint16_t)(s->fsw | s->fptop << 11);
    o->x.ftw = s->fptag;
    o->x.fip = (uint32_t)s->fip;
    o->x.fdp = (uint32_t)s->fdp;
    o->x.fop = s->fop;
    for (unsigned i = 0; i < 8; i++)
        memcpy(o->x.st[i], &s->fpr[(s->fptop + i) & 7], 10);
    memcpy(o->memory, data, PAGE);
}

static const char *difference(const struct outcome *want, const struct outcome *have)
{
    static uint8_t a[PAGE], b[PAGE];
    uint8_t tags = 0;
    for (unsigned i = 0; i < 8; i++)
        tags |= (uint8_t)(((want->x.ftw >> 2 * i & 3) != 3) << i);
    if (want->x.fcw != have->x.fcw || want->x.fsw != have->x.fsw || tags != have->x.ftw)
        return "control, status or tags";
    if (memcmp(want->x.st, have->x.st, sizeof want->x.st))
        return "registers";
    if ((want->flags ^ have->flags) & FLAGS)
        return "flags";
    if (want->x.fip != have->x.fip)
        return "instruction pointer";
    if (updates_pointers && (want->x.fop != have->x.fop || want->x.fdp != have->x.fdp))
        return "opcode or data pointer";
    memcpy(a, want->memory, PAGE);
    memcpy(b, have->memory, PAGE);
    struct image *x = (void *)(a + BASE + ENV), *y = (void *)(b + BASE + ENV);
    x->fcs = y->fcs, x->fds = y->fds; /* 0 in the guest's model */
    if (!updates_pointers)
        x->fop = y->fop, x->fdp = y->fdp;
    return memcmp(a, b, PAGE) ? "memory" : NULL;
}

/* --- Random state and code */
static void random_outcome(struct outcome *o)
{
    static const uint16_t exponents[] = {0, 1, 0x3fff, 0x4000, 0x3ffe, 0x403e, 0x7fff, 0x7ffe, 0x3c01, 0x43fe};
    memset(o, 0, sizeof *o);
    o->x.fcw = (uint16_t)(0x7f | (rnd() % 4 ? 0x300 : rnd() & 0x300) | (rnd() & 0xc00));
    o->x.fsw = (uint16_t)(rnd() & 0x7f7f);
    o->x.ftw = (uint16_t)(rnd() % 3 ? rnd() & rnd() : 0xffff);
    o->flags = rnd() & FLAGS;
    for (unsigned i = 0; i < 8; i++) {
        uint64_t mantissa = (rnd() % 4 ? rnd() : rnd() & 0xffffff0000000000) | (rnd() % 8 ? 1ull << 63 : 0);
        uint16_t e = (uint16_t)((rnd() % 6 ? exponents[rnd() % 10] : rnd()) ^ (rnd() & 0x8000));
        memcpy(o->x.st[i], &mantissa, 8);
        memcpy(o->x.st[i] + 8, &e, 2);
    }
    for (unsigned i = 0; i < PAGE; i += 2) {
        uint16_t w = (uint16_t)(rnd() % 3 ? rnd() : rnd() % 2 ? 0x3ff8 : 0);
        memcpy(o->memory + i, &w, 2);
    }
    for (unsigned i = 0; i < 16; i += 2) {
        uint16_t w = (uint16_t)((rnd() & 0xf80) | 0x7f);
        memcpy(o->memory + BASE + CONTROLS + i, &w, 2);
    }
}

/* One instruction with its operand where it does no harm; 0: not to be run here. */
static unsigned random_insn(const ZydisDecoder *decoder, uint8_t *p, ZydisMnemonic *mnemonic)
{
    ZydisDecodedInstruction in;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    bool memory = rnd() % 3 == 0;
    p[0] = (uint8_t)(0xd8 + rnd() % 8);
    p[1] = (uint8_t)(memory ? 0x46 | (rnd() & 0x38) : 0xc0 | rnd());
    p[2] = (uint8_t)(-128 + (int)(rnd() % 100));
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(decoder, p, 3, &in, op)))
        return 0;
    *mnemonic = in.mnemonic;
    switch (in.mnemonic) {
    case ZYDIS_MNEMONIC_FLDENV: case ZYDIS_MNEMONIC_FRSTOR: return 0; /* would unmask exceptions */
    case ZYDIS_MNEMONIC_FNSTENV: case ZYDIS_MNEMONIC_FNSAVE: p[2] = ENV; break;
    case ZYDIS_MNEMONIC_FNINIT: return rnd() % 8 ? 0 : in.length;
    case ZYDIS_MNEMONIC_FLDCW: p[2] = (uint8_t)(CONTROLS + rnd() % 8 * 2); break;
    default: break;
    }
    return in.length;
}

static unsigned random_code(const ZydisDecoder *decoder, unsigned *met)
{
    unsigned n = 0, count = 1 + (unsigned)(rnd() % LONGEST);
    for (unsigned insns = 0; insns < count;) {
        ZydisMnemonic mnemonic = ZYDIS_MNEMONIC_INVALID;
        unsigned length = random_insn(decoder, code + n, &mnemonic);
        n += length;
        insns += length != 0;
        met[mnemonic] += length != 0;
    }
    code[n] = 0xc3;
    return n;
}

/* --- Tiers */
enum tier { RAW, OPTIMISED, TRANSLATED, REGION, REGION_LAST, REGION_FIRST, TIERS };
static const char *const tier_names[] = {"interpreter", "interpreter, optimised", "tcg", "llvm", "tcg, then llvm", "llvm, then tcg"};
#ifdef TIERCE_LLVM
static bool is_for_regions(unsigned run) { return run % 50 == 0; }
#else
static bool is_for_regions(unsigned run) { return (void)run, false; }
#endif
enum { BLOCK_ROOM = 1 << 20 };
static struct tcg_buffer *buffer;
static struct tcg_jump jumps[TCG_JUMP_ROOM];
static unsigned translated, mixed;
static struct ir_block second;

static bool run_translated(const struct ir_block *b)
{
    struct tcg_options options = {.guest = &x86_guest, .pc = cpu.state.rip};
    struct tcg_block block;
    size_t at = 0;
    int exit;
    if (tcg_compile(buffer, &at, BLOCK_ROOM, b, &options, &block) != TCG_OK)
        return false;
    enum ir_leave leave = tcg_run(&cpu.state, &x86_guest, block.entry, &exit);
    free(block.sites);
    translated++;
    return leave != IR_LEAVE_INTERPRET;
}

/* --- Regions */
static const struct x86_fetch fetcher = {fetch, NULL};

static const char *run(const void *entry)
{
    int exit;
    return tcg_run(&cpu.state, &x86_guest, entry, &exit) == IR_LEAVE_INTERPRET ? "a side exit" : NULL;
}

static const char *region_at(const struct ir_block *b, uint64_t pc, const void **entry)
{
    static char error[200];
    const char *refused;
    *entry = region_make(buffer, BLOCK_ROOM, b, &x86_guest, pc, &refused, error, sizeof error);
    return *entry ? NULL : refused ? refused : error;
}

/* Block b and what comes behind it up to end, the one translated and the other a region, without a stop in between. */
static const char *run_mixed(const struct ir_block *b, uint64_t end, bool region_first)
{
    uint64_t pc = cpu.state.rip, then = pc + b->guest_bytes;
    struct tcg_options options = {.guest = &x86_guest, .pc = region_first ? then : pc};
    const struct ir_block *by_region = region_first ? b : &second, *by_tcg = region_first ? &second : b;
    const char *wrong;
    struct tcg_block block;
    const void *entry;
    size_t at = 0;
    if (then >= end)
        return !(wrong = region_at(b, pc, &entry)) ? run(entry) : wrong;
    if (!x86_lift(cpu.model, cpu.state.mode, then, then, &fetcher, &(struct x86_lift_limits){.insns = LONGEST, .bytes = (unsigned)(end - then)}, &second))
        return "fetch fault";
    ir_optimise(&second, &x86_guest);
    if (tcg_compile(buffer, &at, BLOCK_ROOM, by_tcg, &options, &block) != TCG_OK)
        return "not translated";
    struct tcg_jump *jump = &jumps[tcg_jump_hash(then)];
    if (!(wrong = region_at(by_region, region_first ? pc : then, &entry))) {
        for (unsigned n = 0; n < block.exit_count && !region_first; n++)
            tcg_chain(buffer, &block, n, &(struct tcg_block){.entry = (void *)(uintptr_t)entry});
        if (region_first)
            *jump = (struct tcg_jump){then, block.entry};
        wrong = run(region_first ? entry : block.entry);
        tcg_jumps_clear(jump, 1);
        mixed++;
    }
    free(block.sites);
    return wrong;
}

static const char *run_as(enum tier tier, const struct ir_block *b, uint64_t end)
{
    const void *entry;
    const char *wrong;
    if (tier != REGION)
        return run_mixed(b, end, tier == REGION_FIRST);
    return !(wrong = region_at(b, cpu.state.rip, &entry)) ? run(entry) : wrong;
}

static const char *run_tier(enum tier tier, struct outcome *o, uint64_t end, struct ir_block *b)
{
    static char error[200];
    const char *wrong = NULL;
    unsigned unused;
    state_in(o);
    for (unsigned again = 0; cpu.state.rip != end && !cpu.state.faulted && again < 2 * LONGEST; again++) {
        struct ir_env env = {.state = &cpu.state, .guest = &x86_guest, .pc = cpu.state.rip, .translate = env_translate, .load = env_load, .store = env_store};
        const struct x86_lift_limits limits = {.insns = tier > REGION ? 1 + (unsigned)(rnd() % LONGEST) : LONGEST, .bytes = (unsigned)(end - cpu.state.rip)};
        if (!x86_lift(cpu.model, cpu.state.mode, cpu.state.rip, cpu.state.rip, &fetcher, &limits, b))
            return "fetch fault";
        if (tier != RAW)
            ir_optimise(b, &x86_guest);
        if ((wrong = ir_verify(b, &x86_guest, error, sizeof error)))
            return wrong;
        if (tier >= REGION) {
            if ((wrong = run_as(tier, b, end)))
                return wrong;
            continue;
        }
        if (tier != TRANSLATED || !run_translated(b))
            ir_interpret(b, &env, &unused);
    }
    state_out(o);
    return cpu.state.faulted ? "a fault" : cpu.state.rip != end ? "not at the end" : NULL;
}

static void report(const char *what, enum tier tier, const struct outcome *want, const struct outcome *have, unsigned size)
{
    printf("FAIL %s: %s\n  control %x %x status %x %x tags %x %x fop %x %x fip %x %x fdp %x %x flags %x %x\n", tier_names[tier], what, want->x.fcw, have->x.fcw, want->x.fsw,
           have->x.fsw, want->x.ftw, have->x.ftw, want->x.fop, have->x.fop, want->x.fip, have->x.fip, want->x.fdp, have->x.fdp, (unsigned)want->flags & FLAGS, (unsigned)have->flags & FLAGS);
    char text[100];
    for (unsigned n = 0, length; n < size; n += length) {
        length = x86_disassemble(X86_MODE_CODE64, CODE + n, code + n, size - n, text, sizeof text);
        printf("  %s\n", text);
        if (!length)
            break;
    }
}

static uint8_t *map_twice(uint64_t at, int prot)
{
    int fd = memfd_create("x87_test", 0);
    if (fd < 0 || ftruncate(fd, PAGE))
        return NULL;
    void *fixed = mmap((void *)at, PAGE, prot, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0), *alias = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return fixed == MAP_FAILED || alias == MAP_FAILED ? NULL : alias;
}

static int64_t *table_new(void)
{
    int64_t *p = mmap(NULL, TCG_TABLE_ENTRIES * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    p[DATA >> 12] = (int64_t)(uintptr_t)data - (int64_t)DATA;
    return p;
}

static bool set_up(void)
{
    char error[200];
    code = map_twice(CODE, PROT_READ | PROT_EXEC);
    data = map_twice(DATA, PROT_READ | PROT_WRITE);
    buffer = tcg_buffer_new(BLOCK_ROOM + REGION_ROOM);
    region_begin(&vcpu.tcg);
    cpu.model = x86_model_find("x86-64-v2", error, sizeof error);
    cpu.bus = &bus;
    if (!code || !data || !buffer || !cpu.model)
        return false;
    int64_t *read = table_new(), *write = table_new();
    if (!read || !write)
        return false;
    tcg_jumps_clear(jumps, TCG_JUMP_ROOM);
    vcpu.tcg.jumps = jumps;
    tcg_tables_set(&vcpu.tcg, read, write);
    x86_reset(&cpu, X86_RESET_POWER);
    struct x86_state *s = &cpu.state;
    s->cr0 = 0x80050033;
    s->cr4 = X86_CR4_PAE | X86_CR4_OSFXSR;
    s->efer = X86_EFER_LME | X86_EFER_LMA;
    s->seg_attr[X86_CS] = 0xa0fb;
    s->cpl = 3;
    return true;
}

/* FLD m32 with all masked: does it leave opcode and data pointer? (AMD's CPUs; not Intel's of today) */
static bool host_updates_pointers(void)
{
    static struct outcome o;
    o.x.fcw = 0x37f;
    o.x.ftw = 0xffff;
    memcpy(code, "\xd9\x06\xc3", 3);
    run_silicon(&o);
    return o.x.fdp == DATA + BASE && o.x.fop == 0x106;
}

int main(int argc, char **argv)
{
    static struct outcome in, silicon, here;
    static unsigned met[ZYDIS_MNEMONIC_MAX_VALUE + 1];
    unsigned runs = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 20000, failed = 0, mnemonics = 0;
    seed = argc > 1 ? strtoull(argv[1], NULL, 0) | 1 : seed;
    ZydisDecoder decoder;
    struct ir_block b;
    ir_block_init(&second);
    if (!set_up()) {
        printf("cannot set up\n");
        return 1;
    }
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    ir_block_init(&b);
    updates_pointers = host_updates_pointers();
    for (unsigned i = 0; i < runs && failed < 5; i++) {
        unsigned size = random_code(&decoder, met);
        random_outcome(&in);
        silicon = in;
        run_silicon(&silicon);
        for (enum tier t = 0; t < (is_for_regions(i) ? TIERS : REGION); t++) {
            here = in;
            const char *wrong = run_tier(t, &here, CODE + size, &b);
            if (!wrong)
                wrong = difference(&silicon, &here);
            if (wrong)
                report(wrong, t, &silicon, &here, size);
            failed += wrong != NULL;
        }
    }
    for (unsigned i = 0; i <= ZYDIS_MNEMONIC_MAX_VALUE; i++)
        mnemonics += met[i] != 0;
    printf("%u runs of %u mnemonics, %u blocks translated, %lu regions, %u pairs of both, %s opcode and data pointers; %u failed\n", runs, mnemonics, translated, regions_compiled, mixed, updates_pointers ? "with" : "without", failed);
    ir_block_free(&b);
    ir_block_free(&second);
    region_end();
    tcg_buffer_free(buffer);
    x86_model_free(cpu.model);
    return failed != 0;
}
