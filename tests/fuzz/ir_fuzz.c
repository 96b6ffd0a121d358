/* IR from anywhere.  Input: byte 0 chooses.
 *   't'   the rest is IR text: the parser and the verifier answer; what they accept prints as text that reads back the same
 *   else  the rest is a recipe for a well-formed block of integer, flag, memory and state operations, which must leave the
 *         same state and memory in the interpreter, in the interpreter after the passes, and translated */
#define _GNU_SOURCE
#include "backend-tcg/backend-tcg.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

/* --- A guest: sixteen registers, flags, two pages of memory of which one is in the tables and one behind the slow path */
struct fuzz_state { uint64_t r[16], pc; uint32_t flags, faulted, stop, mxcsr; int64_t icount; uint32_t raised, pad; };
static struct { struct tcg_context tcg; struct fuzz_state s; } vcpu;
enum { DATA = 0x10000, DATA_SIZE = 0x2000, PC = 0x4000, MAX_OPS = 120 };
static uint8_t memory[DATA_SIZE] __attribute__((aligned(4096)));
static const struct ir_slot slots[] = {
    {"r0", 0, IR_I64, IR_S_GPR, 0}, {"r1", 8, IR_I64, IR_S_GPR, 0}, {"r2", 16, IR_I64, IR_S_GPR, 0}, {"r3", 24, IR_I64, IR_S_GPR, 0},
    {"flags", offsetof(struct fuzz_state, flags), IR_I32, IR_S_FLAGS, 0}, {"pc", offsetof(struct fuzz_state, pc), IR_I64, IR_S_SYSTEM, 0}};
static uint64_t mix(void *state, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    struct fuzz_state *s = state;
    s->r[0] ^= a + 3 * b;
    s->faulted = (c & 0xff) == 0x5a;
    return s->r[1] + a - b + d;
}
static const struct ir_helper helpers[] = {{"mix", mix, 4, IR_S_GPR, IR_S_GPR, true, false}};
static const struct ir_guest guest = {
    .slots = slots, .slot_count = sizeof slots / sizeof *slots, .helpers = helpers, .helper_count = 1, .state_size = sizeof(struct fuzz_state),
    .pc_offset = offsetof(struct fuzz_state, pc), .faulted_offset = offsetof(struct fuzz_state, faulted), .stop_offset = offsetof(struct fuzz_state, stop),
    .icount_offset = offsetof(struct fuzz_state, icount), .mxcsr_offset = offsetof(struct fuzz_state, mxcsr)};

static bool mapped(uint64_t at, unsigned size) { return at >= DATA && at - DATA <= DATA_SIZE - size; }
static bool env_translate(void *state, uint64_t at, unsigned size, unsigned access)
{
    (void)access;
    if (mapped(at, size))
        return true;
    ((struct fuzz_state *)state)->faulted = 1;
    return false;
}
static void env_load(void *s, uint64_t at, unsigned size, void *to) { (void)s; memcpy(to, memory + (at - DATA), size); }
static void env_store(void *s, uint64_t at, unsigned size, const void *from) { (void)s; memcpy(memory + (at - DATA), from, size); }
static void env_raise(void *state, unsigned vector, bool has_error, uint64_t error)
{
    ((struct fuzz_state *)state)->faulted = 1;
    ((struct fuzz_state *)state)->raised = vector + (has_error ? (uint32_t)error << 8 : 0);
}
static uint64_t slow_translate(void *state, uint64_t at, unsigned size_access, const void *host_pc)
{
    (void)host_pc;
    return env_translate(state, at, size_access & 0xff, size_access >> 8) ? (uint64_t)(uintptr_t)(memory + (at - DATA)) : 0;
}

/* --- The recipe */
struct recipe { const uint8_t *at, *end; struct ir_block *b; ir_ref flags; bool fresh; /* nothing put or stored in this guest instruction yet */ };
static unsigned byte(struct recipe *r) { return r->at < r->end ? *r->at++ : 0; }
static uint64_t number(struct recipe *r)
{
    static const uint64_t edges[] = {0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 1ull << 63, ~0ull, DATA, DATA + 0xffe};
    unsigned c = byte(r);
    return c < 128 ? edges[c % 16] : c * 0x0101010101010101ull ^ (uint64_t)byte(r) << 24;
}
static ir_ref fresh_value(struct recipe *r, enum ir_type t)
{
    if (t == IR_I64 && byte(r) & 1)
        return ir_emit(r->b, IR_get, IR_I64, 0, 8 * (byte(r) % 16), IR_NONE, IR_NONE, IR_NONE, IR_NONE);
    return ir_const(r->b, t, (int64_t)ir_cut(number(r), ir_type_bits(t)));
}
/* One of the latest values of that type, or a new one. */
static ir_ref value(struct recipe *r, enum ir_type t)
{
    unsigned skip = byte(r) % 8;
    if (t == IR_FLAGS)
        return r->flags;
    for (uint32_t n = r->b->count; n-- > 0 && n + 40 > r->b->count;)
        if (ir_result_type(r->b, (ir_ref)n) == t && r->b->insns[n].op != IR_translate && r->b->insns[n].op != IR_flags_pack && !skip--)
            return (ir_ref)n;
    return fresh_value(r, t);
}
static enum ir_type wide(struct recipe *r) { return (enum ir_type)(IR_I16 + byte(r) % 3); }
static enum ir_type widest(struct recipe *r) { return byte(r) & 1 ? IR_I64 : IR_I32; }
static enum ir_type any(struct recipe *r) { return (enum ir_type)(IR_I8 + byte(r) % 4); }

/* Flags of what was just made.  Shift counts are small and constant, so that none of the asked flags is undefined. */
static void instruction(struct recipe *);
static void flags_of(struct recipe *r, ir_ref v, unsigned defined)
{
    unsigned mask = byte(r) & defined;
    if (mask)
        r->flags = ir_emit(r->b, IR_flags_of, (enum ir_type)r->b->insns[v].type, mask, 0, v, r->flags, IR_NONE, IR_NONE);
}
static void binary(struct recipe *r)
{
    static const enum ir_op ops[] = {IR_add, IR_sub, IR_and, IR_or, IR_xor, IR_adc, IR_sbb};
    enum ir_op op = ops[byte(r) % 7];
    enum ir_type t = any(r);
    ir_ref a = value(r, t), c = value(r, t), carry = op == IR_adc || op == IR_sbb ? r->flags : IR_NONE;
    ir_ref v = ir_op3(r->b, op, t, a, c, carry);
    flags_of(r, v, op == IR_and || op == IR_or || op == IR_xor ? IR_M_ALL & ~IR_M_A : IR_M_ALL);
}
static void shift(struct recipe *r)
{
    static const enum ir_op ops[] = {IR_shl, IR_shr, IR_sar, IR_rol, IR_ror, IR_rcl, IR_rcr};
    enum ir_op op = ops[byte(r) % 7];
    enum ir_type t = any(r);
    bool turns = op >= IR_rol, plain = byte(r) & 1;
    ir_ref a = value(r, t), count = plain ? ir_const(r->b, t, turns ? 1 : 1 + byte(r) % 7) : value(r, t), carry = op == IR_rcl || op == IR_rcr ? r->flags : IR_NONE;
    ir_ref v = ir_op3(r->b, op, t, a, count, carry);
    if (plain && turns) /* always both */
        r->flags = ir_emit(r->b, IR_flags_of, t, IR_M_C | IR_M_O, 0, v, r->flags, IR_NONE, IR_NONE);
    else if (plain)
        flags_of(r, v, IR_M_C | IR_M_Z | IR_M_S | IR_M_P);
}
static void more(struct recipe *r)
{
    enum ir_type t = any(r), w = wide(r), q = widest(r);
    ir_ref a, c;
    switch (byte(r) % 14) {
    case 0: flags_of(r, ir_op1(r->b, IR_neg, t, value(r, t)), IR_M_ALL); break;
    case 1: ir_op1(r->b, IR_not, t, value(r, t)); break;
    case 2: a = value(r, w), ir_op2(r->b, IR_mul, w, a, value(r, w)); break;
    case 3: a = value(r, q), ir_op2(r->b, byte(r) & 1 ? IR_umulh : IR_smulh, q, a, value(r, q)); break;
    case 4: ir_op1(r->b, (enum ir_op[]){IR_clz, IR_ctz, IR_popcnt, IR_bswap}[byte(r) % 4], w, value(r, w)); break;
    case 5: a = value(r, q), ir_op2(r->b, byte(r) & 1 ? IR_pdep : IR_pext, q, a, value(r, q)); break;
    case 6: a = value(r, w), c = value(r, w), ir_emit(r->b, IR_lea, w, byte(r) % 4, (int8_t)byte(r), a, c, IR_NONE, IR_NONE); break;
    case 7: a = value(r, t), ir_op2(r->b, (enum ir_op)(IR_eq + byte(r) % 6), t, a, value(r, t)); break;
    case 8: c = value(r, IR_I1), a = value(r, t), ir_op3(r->b, IR_select, t, c, a, value(r, t)); break;
    case 9: ir_op1(r->b, byte(r) & 1 ? IR_zext : IR_sext, IR_I64, value(r, (enum ir_type)(IR_I8 + byte(r) % 3))); break;
    case 10: ir_op1(r->b, IR_trunc, (enum ir_type)(IR_I8 + byte(r) % 3), value(r, IR_I64)); break;
    case 11: ir_emit(r->b, IR_extract, IR_I8, 8, 0, value(r, IR_I64), IR_NONE, IR_NONE, IR_NONE); break;
    case 12: a = value(r, IR_I64), ir_emit(r->b, IR_deposit, IR_I64, byte(r) & 1 ? 8 : 0, 0, a, value(r, IR_I8), IR_NONE, IR_NONE); break;
    case 13: {
        bool sign = byte(r) & 1; /* a quotient that does not fit must have left the block before */
        if (!r->fresh)
            instruction(r);
        ir_ref high = value(r, q), low = value(r, q), by = value(r, q);
        a = ir_op3(r->b, sign ? IR_sdiv_ok : IR_udiv_ok, q, high, low, by);
        c = ir_op2(r->b, IR_eq, IR_I1, a, ir_const(r->b, IR_I1, 0));
        ir_emit(r->b, IR_raise_if, IR_VOID, 0, 0, c, IR_NONE, IR_NONE, IR_NONE);
        ir_op3(r->b, sign ? IR_sdivq : IR_udivq, q, high, low, by);
        ir_op3(r->b, sign ? IR_sdivr : IR_udivr, q, high, low, by);
    }
    }
}
/* The bits between the flags are of no meaning. */
static ir_ref pack(struct recipe *r)
{
    ir_ref packed = ir_op1(r->b, IR_flags_pack, IR_I32, r->flags);
    return ir_op2(r->b, IR_and, IR_I32, packed, ir_const(r->b, IR_I32, IR_FLAGS_ALL));
}
static void flags(struct recipe *r)
{
    ir_ref c;
    switch (byte(r) % 4) {
    case 0: ir_emit(r->b, IR_test_cc, IR_I1, byte(r) % 16, 0, r->flags, IR_NONE, IR_NONE, IR_NONE); break;
    case 1: c = value(r, IR_I1), r->flags = ir_emit(r->b, IR_flags_set, IR_FLAGS, byte(r) & IR_M_ALL, 0, r->flags, c, IR_NONE, IR_NONE); break;
    case 2: pack(r); break;
    case 3: c = ir_op2(r->b, IR_and, IR_I32, value(r, IR_I32), ir_const(r->b, IR_I32, IR_FLAGS_ALL)), r->flags = ir_op1(r->b, IR_flags_unpack, IR_I32, c); break;
    }
}
static void instruction(struct recipe *r)
{
    ir_emit(r->b, IR_insn, IR_VOID, 1, r->b->guest_insns++, IR_NONE, IR_NONE, IR_NONE, IR_NONE);
    r->fresh = true;
}
static void memory_access(struct recipe *r)
{
    enum ir_type t = any(r);
    bool write = byte(r) & 1;
    unsigned size = ir_type_bytes(t);
    if (!r->fresh)
        instruction(r);
    ir_ref offset = ir_const(r->b, IR_I64, (int64_t)(byte(r) << 5 | byte(r) % 32)), base = byte(r) % 16 ? ir_const(r->b, IR_I64, DATA) : value(r, IR_I64);
    ir_ref at = ir_emit(r->b, IR_translate, IR_I64, write ? IR_RW : IR_READ, size, ir_op2(r->b, IR_add, IR_I64, base, offset), IR_NONE, IR_NONE, IR_NONE);
    if (!write) {
        ir_op1(r->b, IR_load, t, at);
    } else if (byte(r) & 1) {
        ir_op2(r->b, IR_store, t, at, value(r, t));
    } else {
        ir_ref a = value(r, t);
        ir_op3(r->b, IR_atomic_cas, t, at, a, value(r, t));
    }
    r->fresh = !write;
}
static void state(struct recipe *r)
{
    ir_ref v = value(r, IR_I64);
    ir_emit(r->b, IR_put, IR_I64, 0, 8 * (byte(r) % 16), v, IR_NONE, IR_NONE, IR_NONE);
    r->fresh = false;
}
static void leave(struct recipe *r)
{
    ir_ref c = value(r, IR_I1), a, b;
    switch (byte(r) % 3) {
    case 0: ir_emit(r->b, IR_exit_if, IR_VOID, 0, (int8_t)byte(r), c, IR_NONE, IR_NONE, IR_NONE); break;
    case 1:
        if (!r->fresh)
            instruction(r);
        a = value(r, IR_I64);
        ir_emit(r->b, IR_raise_if, IR_VOID, byte(r) & 31, 0, c, a, IR_NONE, IR_NONE);
        break;
    case 2:
        if (!r->fresh)
            instruction(r);
        a = value(r, IR_I64), b = value(r, IR_I64);
        ir_emit(r->b, IR_call, IR_I64, 0, 0, a, b, a, b);
        instruction(r);
        break;
    }
}
static void build(struct recipe *r)
{
    ir_block_clear(r->b);
    r->b->pc_bits = 64;
    instruction(r);
    r->flags = ir_op1(r->b, IR_flags_unpack, IR_I32, ir_emit(r->b, IR_get, IR_I32, 0, offsetof(struct fuzz_state, flags), IR_NONE, IR_NONE, IR_NONE, IR_NONE));
    while (r->at < r->end && r->b->count < MAX_OPS) {
        static void (*const parts[])(struct recipe *) = {binary, binary, shift, more, more, flags, memory_access, state, state, leave, instruction};
        parts[byte(r) % (sizeof parts / sizeof *parts)](r);
    }
    if (r->fresh || (instruction(r), true))
        ir_emit(r->b, IR_put, IR_I32, 0, offsetof(struct fuzz_state, flags), pack(r), IR_NONE, IR_NONE, IR_NONE);
    ir_emit(r->b, IR_jump, IR_VOID, 0, 0x20, IR_NONE, IR_NONE, IR_NONE, IR_NONE);
    r->b->guest_bytes = r->b->guest_insns;
}

/* --- Three ways to run it */
struct outcome { struct fuzz_state s; uint8_t memory[DATA_SIZE]; };
static struct tcg_buffer *buffer;
static const struct tcg_block *running;
static struct sigaction before_segv; /* libFuzzer's */

/* An access at an address that is not canonical goes on at its slow path (backend-tcg.h). */
static void on_segv(int number, siginfo_t *info, void *context)
{
    greg_t *pc = &((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    const void *resume = running ? tcg_fault_resume(running, (void *)*pc) : NULL;
    (void)info;
    if (resume)
        *pc = (greg_t)resume;
    else
        sigaction(number, &before_segv, NULL); /* returns to the fault, which now goes there */
}

static void begin(struct fuzz_state *s, const uint8_t *seed, size_t size)
{
    memset(s, 0, sizeof *s);
    for (unsigned i = 0; i < 16; i++)
        s->r[i] = (uint64_t)(i + 1) * 0x9e3779b97f4a7c15ull >> (i % 5 * 13) ^ (i < size ? (uint64_t)seed[i] << 56 : 0);
    s->flags = size ? seed[0] * 0x101u & IR_FLAGS_ALL : 0;
    s->mxcsr = 0x1f80;
    s->icount = 1 << 20;
    for (unsigned i = 0; i < DATA_SIZE; i++)
        memory[i] = (uint8_t)(i * 37 ^ i >> 5);
}
static void interpret(const struct ir_block *b, struct outcome *o)
{
    struct ir_env env = {.state = &o->s, .guest = &guest, .pc = PC, .translate = env_translate, .load = env_load, .store = env_store, .raise = env_raise};
    unsigned insns;
    ir_interpret(b, &env, &insns);
    memcpy(o->memory, memory, sizeof memory);
}
/* False: not translated, or left to the interpreter at some instruction. */
static bool translated(const struct ir_block *b, struct outcome *o)
{
    struct tcg_options options = {.guest = &guest, .pc = PC};
    struct tcg_block code;
    size_t at = 0;
    int exit;
    if (tcg_compile(buffer, &at, 1 << 20, b, &options, &code) != TCG_OK)
        return false;
    vcpu.s = o->s;
    running = &code;
    enum ir_leave why = tcg_run(&vcpu.s, &guest, code.entry, &exit);
    running = NULL;
    free(code.sites);
    o->s = vcpu.s;
    memcpy(o->memory, memory, sizeof memory);
    return why != IR_LEAVE_INTERPRET;
}
static void compare(const char *what, const struct outcome *want, const struct outcome *got, const struct ir_block *b)
{
    bool same = !memcmp(want->s.r, got->s.r, sizeof want->s.r) && want->s.pc == got->s.pc && want->s.flags == got->s.flags &&
                !want->s.faulted == !got->s.faulted && !memcmp(want->memory, got->memory, sizeof want->memory);
    if (same)
        return;
    fprintf(stderr, "%s: pc %lx, interpreted %lx; flags %x, %x; faulted %u, %u; memory %s\n", what, got->s.pc, want->s.pc, got->s.flags, want->s.flags,
            got->s.faulted, want->s.faulted, memcmp(want->memory, got->memory, sizeof want->memory) ? "differs" : "is the same");
    for (unsigned i = 0; i < 16; i++)
        if (got->s.r[i] != want->s.r[i])
            fprintf(stderr, "r%u: %lx, interpreted %lx\n", i, got->s.r[i], want->s.r[i]);
    ir_print(stderr, b, &guest);
    abort();
}

/* --- */
static char *printed(const struct ir_block *b)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        abort();
    ir_print(f, b, &guest);
    fclose(f);
    return text;
}
static void round_trip(const struct ir_block *b)
{
    struct ir_block again;
    char error[160], *text = printed(b), *second;
    ir_block_init(&again);
    const char *wrong = ir_parse(&again, text, &guest, error, sizeof error);
    second = wrong ? NULL : printed(&again);
    if (wrong || strcmp(text, second)) {
        fprintf(stderr, "does not read back: %s\n%s---\n%s", wrong ? wrong : "", text, second ? second : "");
        abort();
    }
    free(text);
    free(second);
    ir_block_free(&again);
}
static void run_text(const uint8_t *bytes, size_t size)
{
    struct ir_block b;
    char error[160], *text = malloc(size + 1);
    if (!text)
        return;
    memcpy(text, bytes, size);
    text[size] = 0;
    ir_block_init(&b);
    if (!ir_parse(&b, text, &guest, error, sizeof error) && !ir_verify(&b, &guest, error, sizeof error)) {
        round_trip(&b);
        ir_optimise(&b, &guest);
    }
    ir_block_free(&b);
    free(text);
}
static void run_recipe(const uint8_t *bytes, size_t size)
{
    static struct ir_block b;
    static struct outcome want, got;
    struct recipe r = {.at = bytes, .end = bytes + size, .b = &b};
    char error[160];
    build(&r);
    if (ir_verify(&b, &guest, error, sizeof error)) {
        fprintf(stderr, "built wrongly: %s\n", error);
        ir_print(stderr, &b, &guest);
        abort();
    }
    round_trip(&b);
    begin(&want.s, bytes, size);
    interpret(&b, &want);
    begin(&got.s, bytes, size);
    if (translated(&b, &got))
        compare("translated", &want, &got, &b);
    struct ir_block before = b;
    before.insns = malloc(b.count * sizeof *b.insns);
    if (!before.insns)
        return;
    memcpy(before.insns, b.insns, b.count * sizeof *b.insns);
    ir_optimise(&b, &guest);
    begin(&got.s, bytes, size);
    interpret(&b, &got);
    compare("after the passes", &want, &got, &before);
    begin(&got.s, bytes, size);
    if (translated(&b, &got))
        compare("after the passes, translated", &want, &got, &before);
    free(before.insns);
}

static void set_up(void)
{
    static struct tcg_jump jumps[TCG_JUMP_ROOM];
    int64_t *table = mmap(NULL, TCG_TABLE_ENTRIES * 8 + TCG_TABLE_ALIGN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct sigaction action = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (table == MAP_FAILED || !(buffer = tcg_buffer_new(1 << 20)) || sigaction(SIGSEGV, &action, &before_segv))
        abort();
    table = (int64_t *)(((uintptr_t)table + TCG_TABLE_ALIGN - 1) & ~(uintptr_t)(TCG_TABLE_ALIGN - 1));
    table[DATA >> 12] = (int64_t)(uintptr_t)memory - DATA; /* the second page is left to the slow path */
    tcg_jumps_clear(jumps, TCG_JUMP_ROOM);
    vcpu.tcg.jumps = jumps;
    vcpu.tcg.slow_translate = slow_translate;
    tcg_tables_set(&vcpu.tcg, table, table);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (!buffer)
        set_up();
    if (size && *bytes == 't')
        run_text(bytes + 1, size - 1);
    else if (size)
        run_recipe(bytes + 1, size - 1);
    return 0;
}
