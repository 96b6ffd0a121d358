/* Accesses near each other (memory.c looks up one of them for all that lie in its page): random blocks of one guest instruction that reads,
 * then writes around a few roots, near the borders of pages that lie apart in the host, some without an entry in a table.  What
 * a region does not leave to the interpreter must be what that would have done; and it may leave only where a page lacks
 * an entry, or an access goes over a page's end.
 * Usage: memory_test [seed [blocks]] */
#include "tests/backend-llvm/pages.h"

enum { STATES = 60, RESULTS = 8 };

/* --- Blocks */
/* An address near root n, in one of the ways in which a frontend says so. */
static ir_ref address(struct ir_block *b, const ir_ref *root, unsigned n)
{
    int64_t offset = (int64_t)(rnd() % (rnd() % 4 ? 64 : 1200)) - 32;
    switch (rnd() % 5) {
    case 0: return emit(b, IR_lea, IR_I64, 0, offset, root[n], IR_NONE);
    case 1: return emit(b, IR_lea, IR_I64, 3, offset, root[n], root[ROOTS]);
    case 2: return emit(b, IR_sub, IR_I64, 0, 0, root[n], ir_const(b, IR_I64, -offset));
    case 3: return emit(b, IR_lea, IR_I64, 0, 8, emit(b, IR_add, IR_I64, 0, 0, root[n], ir_const(b, IR_I64, offset)), IR_NONE);
    default: return root[n];
    }
}

static void random_block(struct ir_block *b)
{
    static const enum ir_type types[] = {IR_I8, IR_I16, IR_I32, IR_I64};
    ir_ref root[ROOTS + 1], value[RESULTS], token[RESULTS];
    unsigned reads = 1 + (unsigned)(rnd() % RESULTS), writes = (unsigned)(rnd() % RESULTS);
    ir_block_clear(b);
    b->pc_bits = 64, b->guest_insns = 1, b->guest_bytes = 4;
    emit(b, IR_insn, IR_VOID, 4, 0, IR_NONE, IR_NONE);
    for (unsigned n = 0; n <= ROOTS; n++)
        root[n] = emit(b, IR_get, IR_I64, 0, 8 * n, IR_NONE, IR_NONE);
    block_writes = writes;
    for (unsigned n = 0; n < reads; n++) {
        enum ir_type t = types[rnd() % 4];
        ir_ref at = emit(b, IR_translate, IR_I64, IR_READ, ir_type_bytes(t), address(b, root, (unsigned)(rnd() % ROOTS)), IR_NONE);
        value[n] = emit(b, IR_load, t, 0, 0, at, IR_NONE);
        value[n] = t == IR_I64 ? value[n] : ir_op1(b, IR_zext, IR_I64, value[n]);
    }
    for (unsigned n = 0; n < writes; n++)
        token[n] = emit(b, IR_translate, IR_I64, IR_WRITE, 8, address(b, root, (unsigned)(rnd() % ROOTS)), IR_NONE);
    for (unsigned n = 0; n < writes; n++)
        emit(b, IR_store, IR_I64, 0, 0, token[n], value[rnd() % reads]);
    for (unsigned n = 0; n < reads; n++)
        emit(b, IR_put, IR_I64, 0, 8 * (8 + n), value[n], IR_NONE);
    emit(b, IR_jump, IR_VOID, 0, 4, IR_NONE, IR_NONE);
}

/* As in a loop that was seen to stay on its pages: each base has its page at hand, and a group that lies apart leaves. */
static bool hot;
static uint8_t seen[4096];

static unsigned ran, left;

static bool run(const struct ir_block *b, const void *entry)
{
    static uint8_t before[sizeof host], want_memory[sizeof host];
    static struct guest_state want, start;
    struct ir_env env = {.state = &want, .guest = &guest, .pc = GUEST_PC, .translate = env_translate, .load = env_load, .store = env_store};
    unsigned insns;
    int exit;
    random_tables();
    for (unsigned n = 0; n < ROOTS; n++)
        start.r[n] = BASE + PAGE * (1 + rnd() % 2) + rnd() % 96 - 48;
    start.r[ROOTS] = rnd() % 4;
    start.mxcsr = 0x1f80;
    for (unsigned n = 0; n < sizeof host; n += 8)
        memcpy((uint8_t *)host + n, &(uint64_t){rnd()}, 8);
    memcpy(before, host, sizeof host);
    want = vcpu.s = start;
    may_leave = hot;
    ir_interpret(b, &env, &insns);
    memcpy(want_memory, host, sizeof host);
    memcpy(host, before, sizeof host);
    bool leaves = tcg_run(&vcpu.s, &guest, entry, &exit) == IR_LEAVE_INTERPRET;
    if (leaves) { /* as it was at the instruction's start */
        want = start;
        want.pc = GUEST_PC;
        memcpy(want_memory, before, sizeof host);
    }
    *(leaves ? &left : &ran) += 1;
    if (!memcmp(&want, &vcpu.s, sizeof want) && !memcmp(want_memory, host, sizeof host) && (!leaves || may_leave))
        return true;
    printf("FAIL %s\n", leaves && !may_leave ? "left without need" : leaves ? "changed something and left" : "another result");
    ir_print(stdout, b, &guest);
    return false;
}

int main(int argc, char **argv)
{
    unsigned blocks = 100, failed = 0;
    struct tcg_buffer *buffer = test_begin(argc, argv, &blocks);
    struct ir_block b;
    memset(seen, LLVM_SEEN, sizeof seen);
    vcpu_begin();
    ir_block_init(&b);
    for (unsigned n = 0; n < blocks && failed < 5; n++) {
        const void *entry = NULL;
        char error[200];
        random_block(&b);
        const char *wrong = ir_verify(&b, &guest, error, sizeof error);
        hot = n & 1;
        const struct llvm_block block = {.ir = &b, .seen = hot ? seen : NULL, .count = hot ? 1000 : 0};
        bool ok = !wrong && (entry = compile(buffer, &block));
        for (unsigned k = 0; k < STATES && ok; k++)
            ok = run(&b, entry);
        if (wrong)
            printf("FAIL %s\n", wrong);
        failed += !ok;
    }
    ir_block_free(&b);
    tcg_buffer_free(buffer);
    printf("%u blocks as regions: %u runs, %u left to the interpreter, %u failed\n", blocks, ran, left, failed);
    return failed || !ran;
}
