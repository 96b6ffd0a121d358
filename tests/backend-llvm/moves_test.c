/* Runs of memory (moves.c): random ones, of all sizes of elements, copied and filled, that overlap, lie over borders of pages or on pages without
 * entries, go down, are empty, or too long.  Memory and registers must be as the helper leaves them, and the helper must be called where
 * the run is none to be done in line, and nowhere else.
 * Usage: moves_test [seed [runs]] */
#include "tests/backend-llvm/pages.h"

enum { TO, FROM, VALUE, COUNT, DOWN = 1 << 10, FEW = 32 };

static unsigned called;
static uint64_t helper_moves(void *state, uint64_t what, uint64_t b, uint64_t c, uint64_t d)
{
    struct guest_state *s = state;
    unsigned size = what & IR_MOVES_SIZE;
    (void)b, (void)c, (void)d;
    called++;
    for (; s->r[COUNT]; s->r[COUNT]--) {
        uint64_t v = s->r[VALUE], step = s->system & DOWN ? -(uint64_t)size : size;
        if (!(what & IR_MOVES_FILL)) {
            env_load(s, s->r[FROM], size, &v);
            s->r[FROM] += step;
        }
        env_store(s, s->r[TO], size, &v);
        s->r[TO] += step;
    }
    return s->r[VALUE] & 1; /* any */
}

static const struct ir_helper move_helpers[] = {{"none", NULL, 0, 0, 0, false, false}, {"moves", helper_moves, 1, IR_S_GPR | IR_S_SYSTEM, IR_S_GPR, true, true}};

static void block_make(struct ir_block *b, int64_t what)
{
    ir_block_clear(b);
    b->pc_bits = 64, b->guest_insns = 1, b->guest_bytes = 4;
    emit(b, IR_insn, IR_VOID, 4, 0, IR_NONE, IR_NONE);
    ir_ref r = emit(b, IR_call, IR_I64, 0, 1, ir_const(b, IR_I64, what), IR_NONE);
    emit(b, IR_put, IR_I64, 0, 8 * 8, r, IR_NONE);
    emit(b, IR_jump, IR_VOID, 0, 4, IR_NONE, IR_NONE);
}

static bool on_page(uint64_t at, uint64_t bytes, bool write)
{
    uint64_t page = (at - BASE) / PAGE;
    return at % PAGE + bytes <= PAGE && present[write][page];
}

static unsigned in_line, calls;

static bool run(const void *entry, int64_t what)
{
    static uint8_t before[sizeof host], want_memory[sizeof host];
    static struct guest_state want, start;
    unsigned size = what & IR_MOVES_SIZE;
    int exit;
    random_tables();
    start.r[TO] = BASE + PAGE * (8 + rnd() % 2) + (rnd() % 2 ? rnd() % PAGE : PAGE - rnd() % 300);
    start.r[FROM] = rnd() % 2 ? start.r[TO] + rnd() % 65 - 32 : BASE + PAGE * (12 + rnd() % 2) + (rnd() % 2 ? rnd() % PAGE : PAGE - rnd() % 300);
    start.r[VALUE] = rnd();
    start.r[COUNT] = rnd() % 40;
    start.system = rnd() % 8 ? 0 : DOWN;
    start.mxcsr = 0x1f80;
    for (unsigned n = 0; n < sizeof host; n += 8)
        memcpy((uint8_t *)host + n, &(uint64_t){rnd()}, 8);
    memcpy(before, host, sizeof host);
    uint64_t bytes = start.r[COUNT] * size;
    bool fills = what & IR_MOVES_FILL;
    bool plain = what & IR_MOVES_PLAIN && start.r[COUNT] && start.r[COUNT] <= FEW && !start.system && on_page(start.r[TO], bytes, true) &&
                 (fills || on_page(start.r[FROM], bytes, false));
    want = vcpu.s = start;
    want.r[8] = helper_moves(&want, (uint64_t)what, 0, 0, 0);
    if (plain)
        want.r[8] = 0;
    want.pc = GUEST_PC + 4;
    memcpy(want_memory, host, sizeof host);
    memcpy(host, before, sizeof host);
    called = 0;
    tcg_run(&vcpu.s, &guest, entry, &exit);
    vcpu.s.pc = GUEST_PC + 4; /* a call notes where it is; the jump's own PC is told by memory_test */
    *(plain ? &in_line : &calls) += 1;
    const char *wrong = called != !plain ? (plain ? "called without need" : "not called") : memcmp(&want, &vcpu.s, sizeof want) ? "another state" :
                        memcmp(want_memory, host, sizeof host) ? "another memory" : NULL;
    if (wrong)
        printf("FAIL %s: operand %#llx, to %#llx, from %#llx, count %llu, %s\n", wrong, (unsigned long long)what, (unsigned long long)start.r[TO],
               (unsigned long long)start.r[FROM], (unsigned long long)start.r[COUNT], start.system ? "down" : "up");
    return !wrong;
}

int main(int argc, char **argv)
{
    unsigned runs = 400, failed = 0;
    struct tcg_buffer *buffer = test_begin(argc, argv, &runs);
    struct ir_block b;
    guest.helpers = move_helpers, guest.helper_count = 2;
    guest.moves = (struct ir_moves){.helper = 1, .to = 8 * TO, .from = 8 * FROM, .value = 8 * VALUE, .count = 8 * COUNT, .flags = AT(system), .down = DOWN};
    vcpu.tcg.guest = &guest;
    vcpu_begin();
    ir_block_init(&b);
    for (unsigned kind = 0; kind < 12; kind++) {
        const void *entry = NULL;
        int64_t what = (1 << kind % 4) | (kind & 4 ? IR_MOVES_FILL : 0) | (kind < 8 ? IR_MOVES_PLAIN : 0);
        char error[200];
        block_make(&b, what);
        const char *wrong = ir_verify(&b, &guest, error, sizeof error);
        const struct llvm_block block = {.ir = &b};
        bool ok = !wrong && (entry = compile(buffer, &block));
        for (unsigned k = 0; k < runs && ok; k++)
            ok = run(entry, what);
        if (wrong)
            printf("FAIL %s\n", wrong);
        failed += !ok;
    }
    ir_block_free(&b);
    tcg_buffer_free(buffer);
    printf("%u runs of memory in line, %u by the helper, %u kinds failed\n", in_line, calls, failed);
    return failed || !in_line || !calls;
}
