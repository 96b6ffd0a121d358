/* Loops of one block (loop.c): random ones, whose addresses go up, down, or stay, near the borders of pages, over pages without entries,
 * beside accesses whose addresses are data; with a request to stop from the beginning, or none.  Where a region leaves, state and memory
 * must be what the interpreter had there, and the access at hand must be one that may leave.
 * Usage: loop_test [seed [blocks]] */
#include "tests/backend-llvm/pages.h"

enum { STATES = 40, ACCESSES = 8, COUNTER = 7, INDEX = ROOTS, RESULT = 8 /* the first of the registers that loads go to */ };

/* --- Blocks */
static ir_ref root[INDEX + 1], value[ACCESSES];
static unsigned offset, accesses, values;

static void begin(struct ir_block *b)
{
    emit(b, IR_insn, IR_VOID, 4, offset, IR_NONE, IR_NONE);
    offset += 4;
    b->guest_insns++, b->guest_bytes += 4;
}

static void put(struct ir_block *b, unsigned reg, ir_ref v) { emit(b, IR_put, IR_I64, 0, 8 * reg, v, IR_NONE); }

static ir_ref address(struct ir_block *b)
{
    ir_ref at = root[rnd() % ROOTS];
    int64_t by = (int64_t)(rnd() % (rnd() % 4 ? 64 : 1500)) - 32;
    switch (rnd() % 5) {
    case 0: return emit(b, IR_lea, IR_I64, (unsigned)(rnd() % 4), by, at, root[INDEX]);
    case 1: return emit(b, IR_sub, IR_I64, 0, 0, at, ir_const(b, IR_I64, by));
    case 2: /* what was read tells where */
        if (values)
            return emit(b, IR_add, IR_I64, 0, 0, at, emit(b, IR_and, IR_I64, 0, 0, value[rnd() % values], ir_const(b, IR_I64, 0x7f8)));
        return at;
    default: return emit(b, IR_lea, IR_I64, 0, by, at, IR_NONE);
    }
}

static void access_one(struct ir_block *b)
{
    static const enum ir_type types[] = {IR_I8, IR_I16, IR_I32, IR_I64};
    enum ir_type t = types[rnd() % 4];
    bool reads = !values || rnd() % 2, writes = !reads || rnd() % 4 == 0;
    unsigned aux = (reads ? IR_READ : 0) | (writes ? IR_WRITE : 0) | (rnd() % 12 ? 0 : IR_ALIGNED);
    begin(b);
    ir_ref token = emit(b, IR_translate, IR_I64, aux, ir_type_bytes(t), address(b), IR_NONE), v;
    if (reads) {
        v = emit(b, IR_load, t, 0, 0, token, IR_NONE);
        v = t == IR_I64 ? v : ir_op1(b, IR_zext, IR_I64, v);
        if (writes)
            v = emit(b, IR_add, IR_I64, 0, 0, v, ir_const(b, IR_I64, 1));
        value[values++] = v;
    } else {
        v = emit(b, IR_xor, IR_I64, 0, 0, value[rnd() % values], root[INDEX]);
    }
    if (writes)
        emit(b, IR_store, t, 0, 0, token, t == IR_I64 ? v : ir_op1(b, IR_trunc, t, v));
    if (reads)
        put(b, RESULT + values - 1, v);
}

/* A root or the index goes on, mostly by a constant. */
static void step_one(struct ir_block *b)
{
    static const int64_t steps[] = {1, 2, 4, 8, 8, 8, 16, 16, 3, 24, 288, 1024, 1032, 0};
    unsigned reg = (unsigned)(rnd() % (INDEX + 1));
    int64_t by = steps[rnd() % (sizeof steps / sizeof *steps)] * (rnd() % 2 ? 1 : -1);
    begin(b);
    ir_ref v = rnd() % 8 || !values ? ir_const(b, IR_I64, reg == INDEX ? by & 3 : by) : emit(b, IR_and, IR_I64, 0, 0, value[0], ir_const(b, IR_I64, 7));
    root[reg] = emit(b, IR_add, IR_I64, 0, 0, root[reg], v);
    put(b, reg, root[reg]);
}

static void random_block(struct ir_block *b)
{
    ir_block_clear(b);
    b->pc_bits = 64;
    offset = values = 0;
    accesses = 1 + (unsigned)(rnd() % (rnd() % 2 ? 2 : ACCESSES));
    begin(b);
    for (unsigned n = 0; n <= INDEX; n++)
        root[n] = emit(b, IR_get, IR_I64, 0, 8 * n, IR_NONE, IR_NONE);
    for (unsigned n = 0; n < accesses || rnd() % 4;) {
        if (n < accesses && rnd() % 2)
            access_one(b), n++;
        else
            step_one(b);
    }
    begin(b);
    ir_ref left = emit(b, IR_sub, IR_I64, 0, 0, emit(b, IR_get, IR_I64, 0, 8 * COUNTER, IR_NONE, IR_NONE), ir_const(b, IR_I64, 1));
    put(b, COUNTER, left);
    begin(b);
    emit(b, IR_exit_if, IR_VOID, 0, 0, emit(b, IR_ne, IR_I64, 0, 0, left, ir_const(b, IR_I64, 0)), IR_NONE);
    if (rnd() % 2) { /* something behind the loop */
        begin(b);
        put(b, RESULT, emit(b, IR_load, IR_I64, 0, 0, emit(b, IR_translate, IR_I64, IR_READ, 8, root[0], IR_NONE), IR_NONE));
    }
    emit(b, IR_jump, IR_VOID, 0, offset, IR_NONE, IR_NONE);
}

/* --- The interpreter goes as far as the region went: until the instruction at `until.pc`, with that in the counter */
static struct guest_state want, until;
static const struct ir_block *block_now;
static struct ir_env env;
static bool reached, missed /* an access that must leave did not */;

static uint64_t insn_of(const struct ir_block *b, ir_ref n)
{
    while (b->insns[n].op != IR_insn)
        n--;
    return GUEST_PC + (uint64_t)b->insns[n].imm;
}

static bool loop_translate(void *s, uint64_t at, unsigned size, unsigned access)
{
    uint64_t from = (at - BASE) / PAGE, to = (at + size - 1 - BASE) / PAGE;
    bool odd = access & IR_ALIGNED && at & (size - 1), must = odd || from != to || from >= PAGES || !present[access & IR_WRITE ? 1 : 0][from];
    if (insn_of(block_now, env.at) == until.pc && want.r[COUNTER] == until.r[COUNTER]) {
        reached = true;
        may_leave = must || !present[1][from]; /* near another that writes, it may be looked up as written */
        return false;
    }
    missed |= must;
    return env_translate(s, at, size, access);
}

static unsigned ran, left, stopped;

static const char *compare(const struct ir_block *b, int leave)
{
    unsigned insns;
    env = (struct ir_env){.state = &want, .guest = &guest, .pc = GUEST_PC, .translate = loop_translate, .load = env_load, .store = env_store};
    block_now = b;
    until = vcpu.s;
    reached = missed = may_leave = false;
    bool stops = leave == IR_LEAVE_NEXT && until.pc == GUEST_PC;
    if (leave != IR_LEAVE_INTERPRET)
        until.pc = 0;
    do
        ir_interpret(b, &env, &insns);
    while (want.pc == GUEST_PC && !reached && (!stops || want.r[COUNTER] != vcpu.s.r[COUNTER]));
    *(leave == IR_LEAVE_INTERPRET ? &left : stops ? &stopped : &ran) += 1;
    if (stops && !want.stop)
        return "stopped without need";
    want.faulted = vcpu.s.faulted;
    if (leave == IR_LEAVE_INTERPRET && (!reached || !may_leave))
        return reached ? "left without need" : "left where no access is";
    if (missed)
        return "did not leave";
    return memcmp(&want, &vcpu.s, sizeof want) ? "another state" : NULL;
}

static bool run(const struct ir_block *b, const void *entry)
{
    static uint8_t before[sizeof host], got[sizeof host];
    static struct guest_state start;
    int exit;
    random_tables();
    for (unsigned n = 0; n < ROOTS; n++)
        start.r[n] = (BASE + PAGE * (4 + rnd() % (PAGES - 8)) + (rnd() % 2 ? rnd() % PAGE : rnd() % 96)) & (rnd() % 2 ? ~7ull : ~0ull);
    start.r[INDEX] = rnd() % 4;
    start.r[COUNTER] = 1 + rnd() % (rnd() % 2 ? 24 : 300);
    start.mxcsr = 0x1f80;
    start.stop = rnd() % 8 == 0;
    for (unsigned n = 0; n < sizeof host; n += 8)
        memcpy((uint8_t *)host + n, &(uint64_t){rnd()}, 8);
    memcpy(before, host, sizeof host);
    want = vcpu.s = start;
    int leave = (int)tcg_run(&vcpu.s, &guest, entry, &exit);
    memcpy(got, host, sizeof host);
    memcpy(host, before, sizeof host);
    const char *wrong = compare(b, leave);
    if (!wrong && memcmp(got, host, sizeof host))
        wrong = "another memory";
    if (!wrong && start.stop && leave != IR_LEAVE_INTERPRET && vcpu.s.r[COUNTER] && start.r[COUNTER] - vcpu.s.r[COUNTER] > 2)
        wrong = "a request to stop was not seen";
    if (!wrong)
        return true;
    printf("FAIL %s: left for %d at %#llx, counter %llu of %llu\n", wrong, leave, (unsigned long long)vcpu.s.pc, (unsigned long long)vcpu.s.r[COUNTER], (unsigned long long)start.r[COUNTER]);
    for (unsigned n = 0; n < 16; n++)
        printf("r%u %#llx, %#llx, interpreter %#llx\n", n, (unsigned long long)start.r[n], (unsigned long long)vcpu.s.r[n], (unsigned long long)want.r[n]);
    ir_print(stdout, b, &guest);
    return false;
}

int main(int argc, char **argv)
{
    unsigned blocks = 100, failed = 0;
    struct tcg_buffer *buffer = test_begin(argc, argv, &blocks);
    struct ir_block b;
    vcpu_begin();
    ir_block_init(&b);
    for (unsigned n = 0; n < blocks && failed < 5; n++) {
        const void *entry = NULL;
        char error[200];
        random_block(&b);
        const char *wrong = ir_verify(&b, &guest, error, sizeof error);
        const struct llvm_block block = {.ir = &b};
        bool ok = !wrong && (entry = compile(buffer, &block));
        for (unsigned k = 0; k < STATES && ok; k++)
            ok = run(&b, entry);
        if (wrong)
            printf("FAIL %s\n", wrong);
        failed += !ok;
    }
    ir_block_free(&b);
    tcg_buffer_free(buffer);
    printf("%u loops as regions: %u went to their end, %u were stopped, %u left to the interpreter, %u failed\n", blocks, ran, stopped, left, failed);
    return failed || !ran || !stopped || !left;
}
