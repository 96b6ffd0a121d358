/* Random blocks of vector operations as regions against the interpreter: every row of ir/host_sse.def, with more values alive than the
 * host has registers of the short encodings, on operands that are NaNs with payloads, denormals and infinities more often than
 * not, under each rounding; between them MXCSR is read and written, and a helper changes vectors and MXCSR.  Results, MXCSR's sticky flags
 * and packed flags must agree bit for bit.
 * Usage: vector_test [seed [blocks]] */
#include "tests/backend-llvm/guest.h"

enum { VECTORS_USED = 20, OPS = 40, STATES = 24 };

/* --- Blocks */
static const struct row { uint16_t op; uint8_t lane, shape; } rows[] = {
#define HOST_SSE(op, lane, text, prefix, map, opcode, shape) {IR_##op, lane, IR_SHAPE_##shape},
#include "ir/host_sse.def"
};
enum { ROWS = sizeof rows / sizeof *rows };

static ir_ref one(struct ir_block *b, enum ir_op op, enum ir_type t, unsigned aux, int64_t imm, ir_ref x) { return ir_emit(b, op, t, aux, imm, x, IR_NONE, IR_NONE, IR_NONE); }

static enum ir_type integer_of(const struct row *r)
{
    switch (r->shape) {
    case IR_SHAPE_TO: return rnd() & 1 ? IR_I64 : IR_I32;
    case IR_SHAPE_OUT: return r->lane == IR_L64 ? IR_I64 : IR_I32;
    case IR_SHAPE_OUTI: return (enum ir_type)(IR_I8 + r->lane);
    default: return IR_I32; /* TO32, FLAGS */
    }
}

static enum ir_type integer_taken(const struct row *r)
{
    switch (r->shape) {
    case IR_SHAPE_FROM64: return IR_I64;
    case IR_SHAPE_INI: return (enum ir_type)(IR_I8 + r->lane);
    case IR_SHAPE_NEW: return r->lane == IR_L64 ? IR_I64 : IR_I32;
    default: return IR_I32;
    }
}

static int64_t immediate(const struct row *r)
{
    switch (r->shape) {
    case IR_SHAPE_R2I: return r->op == IR_vfcmp ? rnd() & 7 : rnd() & 0xff;
    case IR_SHAPE_R1I: return rnd() & 0xff;
    case IR_SHAPE_BYTES7: case IR_SHAPE_BYTES3: return rnd() % 20;
    case IR_SHAPE_OUTI: case IR_SHAPE_INI: return (int64_t)(rnd() % (16u >> r->lane));
    default: return 0;
    }
}

/* An operation on some of the vectors v; its result replaces one of them, or goes to a register. */
static void operation(struct ir_block *b, const struct row *r, ir_ref *v)
{
    ir_ref x = v[rnd() % VECTORS_USED], y = v[rnd() % VECTORS_USED], z = v[rnd() % VECTORS_USED], *to = &v[rnd() % VECTORS_USED];
    int64_t imm = immediate(r), slot = (int64_t)(8 * (rnd() % 16));
    enum ir_op op = (enum ir_op)r->op;
    enum ir_type t = integer_taken(r);
    ir_ref n = one(b, IR_get, IR_I64, 0, slot, IR_NONE);
    n = t == IR_I64 ? n : one(b, IR_trunc, t, 0, 0, n);
    switch ((enum ir_host_shape)r->shape) {
    case IR_SHAPE_R2: case IR_SHAPE_R2I: *to = ir_emit(b, op, IR_V128, r->lane, imm, x, y, IR_NONE, IR_NONE); break;
    case IR_SHAPE_X0: *to = ir_emit(b, op, IR_V128, r->lane, 0, x, y, z, IR_NONE); break;
    case IR_SHAPE_R1: case IR_SHAPE_R1I: case IR_SHAPE_BYTES7: case IR_SHAPE_BYTES3: *to = one(b, op, IR_V128, r->lane, imm, x); break;
    case IR_SHAPE_FROM32: case IR_SHAPE_FROM64: case IR_SHAPE_INI: *to = ir_emit(b, op, IR_V128, r->lane, imm, x, n, IR_NONE, IR_NONE); break;
    case IR_SHAPE_NEW: *to = one(b, op, IR_V128, r->lane, 0, n); break;
    default:
        t = integer_of(r);
        n = r->shape == IR_SHAPE_FLAGS ? ir_emit(b, op, t, r->lane, 0, x, y, IR_NONE, IR_NONE) : one(b, op, t, r->lane, imm, x);
        one(b, IR_put, IR_I64, 0, slot, t == IR_I64 ? n : one(b, IR_zext, IR_I64, 0, 0, n));
    }
}

static void extension(struct ir_block *b, ir_ref *v)
{
    unsigned from = (unsigned)(rnd() % 3), to = from + 1 + (unsigned)(rnd() % (3 - from));
    v[rnd() % VECTORS_USED] = one(b, rnd() & 1 ? IR_vextend_s : IR_vextend_u, IR_V128, from, to, v[rnd() % VECTORS_USED]);
}

/* MXCSR to a register, or anew from one; or a helper that looks at all vectors and changes them. */
static void state_access(struct ir_block *b, ir_ref *v)
{
    int64_t slot = (int64_t)(8 * (rnd() % 16));
    ir_ref n = one(b, IR_get, IR_I64, 0, slot, IR_NONE);
    unsigned kind = rnd() % 3;
    if (kind == 0) {
        one(b, IR_put, IR_I64, 0, slot, one(b, IR_zext, IR_I64, 0, 0, one(b, IR_get, IR_I32, 0, AT(mxcsr), IR_NONE)));
    } else if (kind == 1) {
        ir_ref bits = ir_op2(b, IR_and, IR_I32, one(b, IR_trunc, IR_I32, 0, 0, n), ir_const(b, IR_I32, 0xe07f));
        one(b, IR_put, IR_I32, 0, AT(mxcsr), ir_op2(b, IR_or, IR_I32, bits, ir_const(b, IR_I32, 0x1f80)));
    } else {
        for (unsigned k = 0; k < VECTORS_USED; k++)
            one(b, IR_put, IR_V128, 0, AT(vec) + 64 * k, v[k]);
        one(b, IR_put, IR_I64, 0, slot, ir_emit(b, IR_call, IR_I64, 0, HELPER_STIR, n, IR_NONE, IR_NONE, IR_NONE));
        for (unsigned k = 0; k < VECTORS_USED; k++)
            v[k] = one(b, IR_get, IR_V128, 0, AT(vec) + 64 * k, IR_NONE);
    }
}

static unsigned next_row;

static void random_block(struct ir_block *b)
{
    ir_ref v[VECTORS_USED];
    ir_block_clear(b);
    b->pc_bits = 64;
    b->guest_insns = 1;
    b->guest_bytes = 4;
    one(b, IR_insn, IR_VOID, 4, 0, IR_NONE);
    for (unsigned n = 0; n < VECTORS_USED; n++)
        v[n] = one(b, IR_get, IR_V128, 0, AT(vec) + 64 * n, IR_NONE);
    for (unsigned n = 0; n < OPS; n++) {
        const struct row *r = &rows[n & 1 ? next_row++ % ROWS : rnd() % ROWS];
        if (rnd() % 16 == 0)
            extension(b, v);
        else if (rnd() % 12 == 0)
            state_access(b, v);
        else if (ir_host_runs((enum ir_op)r->op))
            operation(b, r, v);
    }
    for (unsigned n = 0; n < VECTORS_USED; n++)
        one(b, IR_put, IR_V128, 0, AT(vec) + 64 * n, v[n]);
    one(b, IR_jump, IR_VOID, 0, 4, IR_NONE);
}

/* All sums, products, ... of a vector from one end and one from the other: which NaN comes out tells which was first. */
static void pairs_block(struct ir_block *b, enum ir_op op, unsigned lane)
{
    ir_ref v[32];
    ir_block_clear(b);
    one(b, IR_insn, IR_VOID, 4, 0, IR_NONE);
    for (unsigned n = 0; n < 32; n++)
        v[n] = one(b, IR_get, IR_V128, 0, AT(vec) + 64 * n, IR_NONE);
    for (unsigned n = 0; n < 32; n++)
        one(b, IR_put, IR_V128, 0, AT(vec) + 64 * n, ir_emit(b, op, IR_V128, lane, 0, v[n], v[31 - n], IR_NONE, IR_NONE));
    one(b, IR_jump, IR_VOID, 0, 4, IR_NONE);
    b->pc_bits = 64, b->guest_insns = 1, b->guest_bytes = 4;
}

/* --- States */
static uint64_t value(bool nans)
{
    static const uint64_t some[] = {0, 1ull << 63, 0x3ff0000000000000, 0x7ff0000000000000, 0x7ff8000000000000, 0x7ff4000000000001, 0xfff8123456789abc, 1, 0x000fffffffffffff,
        0x7fefffffffffffff, 0x41e0000000000000, 0xc3e0000000000000, 0x3f8000007fc00000, 0x7fa00001ff812345, 0x800000004f000000, 0x8000800080008000, 0x7fff7fff7fff7fff, ~0ull, 3};
    uint64_t v = rnd();
    if (nans) /* of 32 and of 64 bits, quiet and signalling */
        return v | (rnd() & 1 ? 0x7ff0000000000000 : 0x7f8000007f800000) | 1;
    return v % 3 ? some[(v >> 8) % (sizeof some / 8)] : rnd();
}

static void random_state(struct guest_state *s, bool nans)
{
    for (unsigned n = 0; n < 16; n++)
        s->r[n] = value(false);
    for (unsigned n = 0; n < 32; n++)
        for (unsigned k = 0; k < 2; k++)
            s->vec[n][k] = value(nans || rnd() % 4 == 0);
    s->mxcsr = 0x1f80 | (rnd() & 1 ? (uint32_t)rnd() & 0xe040 : 0);
}

static bool run(const struct ir_block *b, const void *entry, bool nans)
{
    static struct guest_state want, start;
    struct ir_env env = {.state = &want, .guest = &guest, .pc = GUEST_PC};
    unsigned insns;
    int exit;
    random_state(&start, nans);
    want = vcpu.s = start;
    ir_interpret(b, &env, &insns);
    tcg_run(&vcpu.s, &guest, entry, &exit);
    if (!memcmp(&want, &vcpu.s, sizeof want))
        return true;
    printf("FAIL mxcsr %x: %x, not %x\n", start.mxcsr, vcpu.s.mxcsr, want.mxcsr);
    for (unsigned n = 0; n < 16; n++)
        if (want.r[n] != vcpu.s.r[n])
            printf("  r%u: %llx, not %llx\n", n, (unsigned long long)vcpu.s.r[n], (unsigned long long)want.r[n]);
    for (unsigned n = 0; n < 32; n++)
        if (memcmp(want.vec[n], vcpu.s.vec[n], 16))
            printf("  vec%u: %016llx%016llx, not %016llx%016llx\n", n, (unsigned long long)vcpu.s.vec[n][1], (unsigned long long)vcpu.s.vec[n][0],
                   (unsigned long long)want.vec[n][1], (unsigned long long)want.vec[n][0]);
    ir_print(stdout, b, &guest);
    return false;
}

static bool check(struct tcg_buffer *buffer, const struct ir_block *b, bool nans)
{
    const void *entry = NULL;
    char error[200];
    const char *wrong = ir_verify(b, &guest, error, sizeof error);
    if (wrong)
        printf("FAIL %s\n", wrong);
    if (wrong || !(entry = compile(buffer, &(struct llvm_block){.ir = b})))
        return false;
    for (unsigned n = 0; n < STATES; n++)
        if (!run(b, entry, nans))
            return false;
    return true;
}

int main(int argc, char **argv)
{
    static const enum ir_op pairs[] = {IR_vfadd, IR_vfsub, IR_vfmul, IR_vfdiv, IR_vfmin, IR_vfmax};
    unsigned blocks = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 40, failed = 0, count = 0;
    struct tcg_buffer *buffer = tcg_buffer_new(ROOM);
    struct ir_block b;
    seed = argc > 1 ? strtoull(argv[1], NULL, 0) * 2 + 1 : seed;
    vcpu_begin();
    ir_block_init(&b);
    for (unsigned n = 0; n < sizeof pairs / sizeof *pairs && buffer; n++)
        for (unsigned lane = IR_LF32; lane <= IR_LS64; lane++, count++) {
            pairs_block(&b, pairs[n], lane);
            failed += !check(buffer, &b, true);
        }
    for (unsigned n = 0; n < blocks && failed < 5 && buffer; n++, count++) {
        random_block(&b);
        failed += !check(buffer, &b, false);
    }
    ir_block_free(&b);
    printf("%u blocks as regions, %u states each, %u failed\n", count, STATES, failed);
    tcg_buffer_free(buffer);
    return failed || !buffer;
}
