/* Random straight code of up to a dozen guest instructions, as one block: the template backend's result against the
 * interpreter's, over the whole state and the guest's memory.  The silicon tests try each instruction alone; here
 * registers run out, flags are deferred and values live on from one instruction to the next.
 *   sequence_test [seed [cases]] */
#define _GNU_SOURCE
#include "frontend/frontend.h"
#include "backend-tcg/backend-tcg.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { DATA_SIZE = 0x4000, CODE = 0x10000, DATA = 0x20000, BUFFER = 1 << 20 };
static struct { struct tcg_context tcg; struct x86_cpu cpu; } vcpu;
#define cpu vcpu.cpu
static uint8_t data[DATA_SIZE] __attribute__((aligned(4096))), code[4096];
static struct tcg_buffer *buffer;
static struct tcg_block block;
static uint64_t seed = 0x9e3779b97f4a7c15;
static bool af_undefined; /* a shift or multiplication is in the code */

static uint64_t rnd(void)
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return seed * 0x2545f4914f6cdd1dull;
}

static bool probe(struct x86_cpu *c, uint64_t at, unsigned size, unsigned access)
{
    if (access & IR_ALIGNED && at & (size - 1)) {
        x86_raise_error(c, X86_GP, 0);
        return false;
    }
    if (at >= DATA && at + size <= DATA + DATA_SIZE && at + size > at)
        return true;
    if ((uint64_t)((int64_t)(at << 16) >> 16) != at) {
        x86_raise_error(c, access & IR_SS ? X86_SS_FAULT : X86_GP, 0);
        return false;
    }
    c->state.fault_address = at;
    x86_raise_error(c, X86_PF, 4);
    return false;
}
static bool bus_read(struct x86_cpu *c, uint64_t at, unsigned size, unsigned access, void *to)
{
    return probe(c, at, size, access) && memcpy(to, data + (at - DATA), size);
}
static bool bus_write(struct x86_cpu *c, uint64_t at, unsigned size, unsigned access, const void *from)
{
    return probe(c, at, size, access) && memcpy(data + (at - DATA), from, size);
}
static void *bus_pointer(struct x86_cpu *c, uint64_t at, unsigned *size, unsigned access)
{
    (void)c, (void)at, (void)size, (void)access;
    return NULL;
}
static void mode_changed(struct x86_cpu *c) { (void)c; }
static const struct x86_bus bus = {.read = bus_read, .write = bus_write, .probe = probe, .pointer = bus_pointer, .mode_changed = mode_changed};

static bool env_translate(void *s, uint64_t at, unsigned size, unsigned access) { return probe(s, at, size, access); }
static void env_load(void *s, uint64_t at, unsigned size, void *to) { (void)s; memcpy(to, data + (at - DATA), size); }
static void env_store(void *s, uint64_t at, unsigned size, const void *from) { (void)s; memcpy(data + (at - DATA), from, size); }
static void env_raise(void *s, unsigned vector, bool has_error, uint64_t error)
{
    if (has_error)
        x86_raise_error(s, vector, (uint32_t)error);
    else
        x86_raise(s, vector);
}
static unsigned fetch(void *ctx, uint64_t at, unsigned max, uint8_t *to)
{
    (void)ctx;
    if (at < CODE || at >= CODE + sizeof code)
        return 0;
    unsigned room = (unsigned)(CODE + sizeof code - at), n = max < room ? max : room;
    memcpy(to, code + (at - CODE), n);
    return n;
}

static uint64_t slow_translate(void *s, uint64_t at, unsigned size_access, const void *host_pc)
{
    (void)host_pc;
    return probe(s, at, size_access & 0xff, size_access >> 8) ? (uint64_t)(uintptr_t)(data + (at - DATA)) : 0;
}

static void on_segv(int number, siginfo_t *info, void *context)
{
    (void)info;
    ucontext_t *u = context;
    const void *resume = tcg_fault_resume(&block, (void *)u->uc_mcontext.gregs[REG_RIP]);
    if (resume)
        u->uc_mcontext.gregs[REG_RIP] = (greg_t)resume;
    else
        signal(number, SIG_DFL);
}

/* Every other page by the slow path. */
static int64_t *table_new(void)
{
    int64_t *p = mmap(NULL, TCG_TABLE_ENTRIES * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p != MAP_FAILED)
        for (unsigned i = 0; i < DATA_SIZE / 4096; i += 2)
            p[(DATA >> 12) + i] = (int64_t)(uintptr_t)data - DATA;
    return p == MAP_FAILED ? NULL : p;
}

/* --- Random code */
static unsigned modrm(uint8_t *p, unsigned reg)
{
    static const uint8_t bases[] = {3, 5, 6, 7};
    if (rnd() % 3) {
        p[0] = (uint8_t)(0xc0 | reg << 3 | rnd() % 8);
        return 1;
    }
    if (rnd() % 3 == 0) { /* [base + RCX * scale + disp8] */
        p[0] = (uint8_t)(0x44 | reg << 3);
        p[1] = (uint8_t)((rnd() % 4) << 6 | 1 << 3 | bases[rnd() % 4]);
        p[2] = (uint8_t)rnd();
        return 3;
    }
    p[0] = (uint8_t)(0x40 | reg << 3 | bases[rnd() % 4]);
    p[1] = (uint8_t)rnd();
    return 2;
}

static unsigned imm(uint8_t *p, unsigned n)
{
    uint64_t v = rnd() % 2 ? rnd() : rnd() % 3;
    memcpy(p, &v, n);
    return n;
}

/* Any instruction of the one-byte and 0F maps that stays in user mode and does the same each time. */
static unsigned any_instruction(uint8_t *p)
{
    static const char *const unfit[] = {"rd", "in ", "out", "ins", "sys", "int", "iret", "hlt", "cli", "sti", "call far", "jmp far", "ret far", "x", "call", "jmp", "ret", "l", "cpuid", "sg", "st", "pushf", "shld", "shrd"};
    for (;;) {
        char text[100];
        unsigned n = 0;
        if (rnd() % 4 == 0)
            p[n++] = (uint8_t)"\x66\xf2\xf3"[rnd() % 3];
        if (rnd() % 2)
            p[n++] = (uint8_t)(0x40 | (rnd() & 15));
        if (rnd() % 3 == 0)
            p[n++] = 0x0f;
        p[n++] = (uint8_t)rnd();
        n += modrm(p + n, (unsigned)(rnd() % 8));
        imm(p + n, 8);
        n = x86_disassemble(X86_MODE_CODE64, CODE, p, 15, text, sizeof text);
        bool fits = n != 0;
        for (unsigned i = 0; i < sizeof unfit / sizeof *unfit; i++)
            fits &= strncmp(text, unfit[i], strlen(unfit[i])) != 0 || !strncmp(text, "lea", 3) || !strncmp(text, "xchg", 4) || !strncmp(text, "lods", 4) || !strncmp(text, "stos", 4);
        if (fits) {
            af_undefined = true;
            return n;
        }
    }
}

static unsigned instruction(uint8_t *p)
{
    if (rnd() % 4 == 0)
        return any_instruction(p);
    unsigned n = 0, reg = (unsigned)(rnd() % 8), kind = (unsigned)(rnd() % 16);
    bool word = rnd() % 8 == 0, wide = rnd() % 2;
    static const uint8_t sse[] = {0x58, 0x59, 0x5c, 0x5e, 0x51, 0x54, 0x57, 0x10, 0x11, 0x28, 0x5d, 0x5f, 0x14, 0x16, 0x6f, 0x7f, 0xfe, 0xd4, 0xef, 0x62, 0x6e, 0x7e, 0x2a, 0x2c, 0x2d, 0x2e, 0xd6, 0xe6, 0x5a};
    if (kind >= 13) {
        static const uint8_t prefix[] = {0, 0x66, 0xf2, 0xf3};
        uint8_t pre = prefix[rnd() % 4];
        if (pre)
            p[n++] = pre;
        p[n++] = (uint8_t)(0x40 | (rnd() & (wide ? 0xd : 5)));
        p[n++] = 0x0f;
        p[n++] = sse[rnd() % sizeof sse];
        return n + modrm(p + n, reg);
    }
    if (word)
        p[n++] = 0x66;
    if (wide || rnd() % 4 == 0)
        p[n++] = (uint8_t)(0x40 | (rnd() & (wide ? 13 : 5)) | (wide ? 8 : 0));
    unsigned isize = word && !wide ? 2 : 4;
    switch (kind) {
    case 0: case 1: case 2: p[n++] = (uint8_t)((rnd() % 8) << 3 | rnd() % 4); return n + modrm(p + n, reg);
    case 3: p[n++] = 0x83; n += modrm(p + n, reg); return n + imm(p + n, 1);
    case 4: p[n++] = 0x81; n += modrm(p + n, reg); return n + imm(p + n, isize);
    case 5: p[n++] = (uint8_t)(0x88 + rnd() % 4); return n + modrm(p + n, reg);
    case 6: p[n++] = rnd() % 2 ? 0x84 : 0x85; return n + modrm(p + n, reg);
    case 7: af_undefined = true; p[n++] = rnd() % 2 ? 0xc1 : 0xd3; { uint8_t op = p[n - 1]; n += modrm(p + n, reg); return n + (op == 0xc1 ? imm(p + n, 1) : 0); }
    case 8: p[n++] = rnd() % 2 ? 0xf7 : 0xff; { unsigned sub = p[n - 1] == 0xf7 ? 2 + (unsigned)rnd() % 4 : (unsigned)rnd() % 2; return n + modrm(p + n, sub); }
    case 9: p[n++] = 0x8d; { uint8_t *m = p + n; n += modrm(p + n, reg); if (m[0] >= 0xc0) { m[0] = (uint8_t)(0x43 | reg << 3); m[1] = (uint8_t)rnd(); n++; } return n; }
    case 10: p[n++] = 0x0f; p[n++] = (uint8_t)((rnd() % 2 ? 0x40 : 0x90) + rnd() % 16); return n + modrm(p + n, reg);
    case 11: p[n++] = 0x0f; { static const uint8_t op[] = {0xb6, 0xb7, 0xbe, 0xbf, 0xaf, 0xc1, 0xb1, 0xa3, 0xbc}; p[n++] = op[rnd() % sizeof op]; } return n + modrm(p + n, reg);
    default:
        if (rnd() % 3 == 0)
            p[n++] = (uint8_t)(0x87);
        else {
            p[n++] = (uint8_t)(0x50 + rnd() % 16); /* push, pop */
            return n;
        }
        return n + modrm(p + n, reg);
    }
}

static unsigned program(uint8_t *p)
{
    unsigned n = 0, count = 1 + (unsigned)(rnd() % 12);
    for (unsigned k = 0; k < count; k++) {
        n += instruction(p + n);
        if (rnd() % 6 == 0) { /* a jump that leaves, or not */
            p[n++] = (uint8_t)(0x70 + rnd() % 16);
            p[n++] = (uint8_t)(rnd() % 2 ? 64 : 0x80);
        }
    }
    memset(p + n, 0xcc, 16);
    return n;
}

static void random_state(struct x86_state *s)
{
    for (unsigned i = 0; i < 16; i++)
        s->gpr[i] = rnd() >> (rnd() % 3 ? 0 : rnd() % 64);
    static const uint8_t pointers[] = {3, 4, 5, 6, 7};
    for (unsigned i = 0; i < sizeof pointers; i++)
        s->gpr[pointers[i]] = DATA + 0x1000 + (rnd() & 0x1fff & (rnd() % 2 ? ~15ull : ~0ull));
    s->gpr[1] = rnd() % 4 ? rnd() % 64 : rnd();
    s->rip = CODE;
    x86_eflags_set(s, 0x202 | ((uint32_t)rnd() & 0x8d5), 0xcd5);
    for (unsigned i = 0; i < 16; i++)
        for (unsigned k = 0; k < 2; k++)
            s->vec[i].q[k] = rnd() % 2 ? rnd() & 0x47efffff47efffff : rnd();
    s->mxcsr = 0x1f80;
}

/* --- One case */
static bool lift(struct ir_block *b, unsigned insns)
{
    const struct x86_fetch f = {fetch, NULL};
    const struct x86_lift_limits limits = {.insns = insns, .bytes = 4096, .branches = 3};
    if (!x86_lift(cpu.model, cpu.state.mode, cpu.state.rip, cpu.state.rip, &f, &limits, b))
        return false;
    ir_optimise(b, &x86_guest);
    return true;
}

static void interpret(struct ir_block *b)
{
    struct ir_env env = {.state = &cpu.state, .guest = &x86_guest, .pc = cpu.state.rip, .translate = env_translate,
                         .load = env_load, .store = env_store, .raise = env_raise};
    unsigned insns;
    ir_interpret(b, &env, &insns);
}

static void show(uint64_t from, unsigned size)
{
    for (unsigned at = 0; at < size;) {
        char text[100];
        unsigned n = x86_disassemble(cpu.state.mode, from + at, code + at, 15, text, sizeof text);
        fprintf(stderr, "    %02x: %s\n", at, text);
        at += n ? n : 1;
    }
}

static const char *difference(const struct x86_state *want, const struct x86_state *have)
{
    static char text[200];
    for (unsigned i = 0; i < x86_guest.slot_count; i++) {
        const struct ir_slot *slot = &x86_guest.slots[i];
        unsigned size = ir_type_bytes((enum ir_type)slot->type);
        const uint8_t *w = (const uint8_t *)want + slot->offset, *h = (const uint8_t *)have + slot->offset;
        uint64_t a = 0, b = 0;
        if (!memcmp(w, h, size))
            continue;
        memcpy(&a, w, size < 8 ? size : 8);
        memcpy(&b, h, size < 8 ? size : 8);
        if (slot->state_class == IR_S_FLAGS && !((a ^ b) & (IR_FLAGS_ALL & ~(af_undefined ? IR_FLAG_A : 0u))))
            continue; /* other bits of the packed form mean nothing */
        snprintf(text, sizeof text, "%s: interpreter %llx, translated %llx", slot->name, (unsigned long long)a, (unsigned long long)b);
        return text;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    static struct tcg_jump jumps[TCG_JUMP_ROOM];
    static uint8_t before[DATA_SIZE], wanted[DATA_SIZE];
    char error[200];
    unsigned cases = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 60000, failed = 0, done = 0, refused = 0;
    if (argc > 1)
        seed = strtoull(argv[1], NULL, 0) | 1;
    int64_t *read = table_new(), *write = table_new();
    cpu.model = x86_model_find("x86-64-v2,+bmi1,+lzcnt", error, sizeof error);
    cpu.bus = &bus;
    buffer = tcg_buffer_new(BUFFER);
    struct sigaction action = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (!read || !write || !buffer || !cpu.model || sigaction(SIGSEGV, &action, NULL)) {
        fprintf(stderr, "cannot set up\n");
        return 1;
    }
    tcg_jumps_clear(jumps, TCG_JUMP_ROOM);
    vcpu.tcg.jumps = jumps;
    vcpu.tcg.slow_translate = slow_translate;
    tcg_tables_set(&vcpu.tcg, read, write);
    x86_reset(&cpu, X86_RESET_POWER);
    cpu.state.cr0 = 0x80050033;
    cpu.state.cr4 = 0x620;
    cpu.state.efer = 0x501;
    cpu.state.seg_attr[X86_CS] = 0xa0fb;
    cpu.state.cpl = 3;
    cpu.state.eflags = 0x202;
    struct x86_state start = cpu.state, want;
    struct ir_block b;
    ir_block_init(&b);
    for (unsigned n = 0; n < cases && failed < 5; n++) {
        uint64_t this_seed = seed;
        af_undefined = false;
        unsigned size = program(code);
        random_state(&start);
        for (unsigned i = 0; i < DATA_SIZE; i += 8) {
            uint64_t v = rnd() % 2 ? rnd() & 0x47efffff47efffff : rnd();
            memcpy(before + i, &v, 8);
        }
        cpu.state = start;
        x86_mode_update(&cpu);
        memcpy(data, before, sizeof data);
        if (!lift(&b, 64))
            continue;
        interpret(&b);
        want = cpu.state;
        memcpy(wanted, data, sizeof data);
        cpu.state = start;
        x86_mode_update(&cpu);
        memcpy(data, before, sizeof data);
        struct tcg_options options = {.guest = &x86_guest, .pc = CODE};
        size_t at = 0;
        int exit;
        if (tcg_compile(buffer, &at, BUFFER, &b, &options, &block) != TCG_OK) {
            refused++;
            continue;
        }
        enum ir_leave leave = tcg_run(&cpu.state, &x86_guest, block.entry, &exit);
        free(block.sites);
        if (leave == IR_LEAVE_INTERPRET) { /* the interpreter carries on from that very instruction */
            if (lift(&b, 64))
                interpret(&b);
        }
        want.icount = cpu.state.icount;
        const char *wrong = difference(&want, &cpu.state);
        if (!wrong && memcmp(data, wanted, sizeof data))
            wrong = "memory differs";
        done++;
        if (!wrong)
            continue;
        failed++;
        fprintf(stderr, "FAIL seed %#llx: %s (want rip %llx fault %u, left %d)\n", (unsigned long long)this_seed, wrong, (unsigned long long)want.rip, want.faulted ? want.fault_vector : 999, leave);
        show(CODE, size);
    }
    printf("sequences: %u ran translated, %u refused, %u failed\n", done, refused, failed);
    ir_block_free(&b);
    x86_model_free(cpu.model);
    tcg_buffer_free(buffer);
    return failed || done < cases / 2;
}
