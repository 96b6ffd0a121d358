/* Vector and floating-point operations on host values: each runs the host's own instruction (host_sse.def), FP
 * under the guest's MXCSR with all exceptions masked, so that results and sticky flags are the silicon's. */
#include "ir/internal.h"
#include <emmintrin.h>
#include <string.h>

struct operands { __m128i a, b, c; uint64_t integer; uint8_t imm; enum ir_type type; };

/* volatile: the MXCSR that FP runs under is not known to the compiler. */
#define RUN_R2(text) __asm__ volatile(text " %1, %0" : "+x"(o->a) : "x"(o->b));
#define RUN_R1(text) __asm__ volatile(text " %1, %0" : "=x"(o->a) : "x"(o->a));
#define RUN_X0(text) register __m128i mask __asm__("xmm0") = o->c; \
    __asm__ volatile(text " %%xmm0, %1, %0" : "+x"(o->a) : "x"(o->b), "x"(mask));
#define RUN_TO(text) uint32_t narrow; \
    if (o->type == IR_I64) __asm__ volatile(text " %1, %0" : "=r"(o->integer) : "x"(o->a)); \
    else { __asm__ volatile(text " %1, %0" : "=r"(narrow) : "x"(o->a)); o->integer = narrow; }
#define RUN_TO32(text) uint32_t narrow; __asm__ volatile(text " %1, %0" : "=r"(narrow) : "x"(o->a)); o->integer = narrow;
#define RUN_FLAGS(text) uint32_t packed; \
    __asm__ volatile(text " %2, %1\n\tlahf\n\tseto %%al" : "=a"(packed) : "x"(o->a), "x"(o->b) : "cc"); \
    o->integer = packed & IR_FLAGS_ALL;
#define RUN_FROM32(text) __asm__ volatile(text " %1, %0" : "+x"(o->a) : "r"((uint32_t)o->integer));
#define RUN_FROM64(text) __asm__ volatile(text " %1, %0" : "+x"(o->a) : "r"(o->integer));

/* A function for each row; the shapes that are plain moves are done in C below. */
#define FUNCTION(op, lane, body) static void run_##op##_##lane(struct operands *o) { body }
#define SHAPE_R2(op, lane, text) FUNCTION(op, lane, RUN_R2(text))
#define SHAPE_R1(op, lane, text) FUNCTION(op, lane, RUN_R1(text))
#define SHAPE_X0(op, lane, text) FUNCTION(op, lane, RUN_X0(text))
#define SHAPE_TO(op, lane, text) FUNCTION(op, lane, RUN_TO(text))
#define SHAPE_TO32(op, lane, text) FUNCTION(op, lane, RUN_TO32(text))
#define SHAPE_FLAGS(op, lane, text) FUNCTION(op, lane, RUN_FLAGS(text))
#define SHAPE_FROM32(op, lane, text) FUNCTION(op, lane, RUN_FROM32(text))
#define SHAPE_FROM64(op, lane, text) FUNCTION(op, lane, RUN_FROM64(text))
#define WITH_IMM2(text, n) case n: __asm__ volatile(text " %2, %1, %0" : "+x"(o->a) : "x"(o->b), "i"(n)); break;
#define WITH_IMM1(text, n) case n: __asm__ volatile(text " %2, %1, %0" : "=x"(o->a) : "x"(o->a), "i"(n)); break;
#define I4(w, t, n) w(t, n) w(t, n + 1) w(t, n + 2) w(t, n + 3)
#define I16(w, t, n) I4(w, t, n) I4(w, t, n + 4) I4(w, t, n + 8) I4(w, t, n + 12)
#define I64(w, t, n) I16(w, t, n) I16(w, t, n + 16) I16(w, t, n + 32) I16(w, t, n + 48)
#define I256(w, t) I64(w, t, 0) I64(w, t, 64) I64(w, t, 128) I64(w, t, 192)
#define SHAPE_R2I(op, lane, text) FUNCTION(op, lane, switch (o->imm) { I256(WITH_IMM2, text) })
#define SHAPE_R1I(op, lane, text) FUNCTION(op, lane, switch (o->imm) { I256(WITH_IMM1, text) })
#define SHAPE_BYTES7(op, lane, text)
#define SHAPE_BYTES3(op, lane, text)
#define SHAPE_NEW(op, lane, text)
#define SHAPE_OUT(op, lane, text)
#define SHAPE_OUTI(op, lane, text)
#define SHAPE_INI(op, lane, text)
#define HOST_SSE(op, lane, text, prefix, map, opcode, shape) SHAPE_##shape(op, lane, text)
#include "ir/host_sse.def"

typedef void run_fn(struct operands *);
enum { LANES = 8, VECTOR_OPS = IR_OP_COUNT - IR_FIRST_VECTOR };
#define ENTRY(op, lane) [IR_##op - IR_FIRST_VECTOR][lane] = run_##op##_##lane,
#define TABLE_R2(op, lane) ENTRY(op, lane)
#define TABLE_R1(op, lane) ENTRY(op, lane)
#define TABLE_R2I(op, lane) ENTRY(op, lane)
#define TABLE_R1I(op, lane) ENTRY(op, lane)
#define TABLE_X0(op, lane) ENTRY(op, lane)
#define TABLE_TO(op, lane) ENTRY(op, lane)
#define TABLE_TO32(op, lane) ENTRY(op, lane)
#define TABLE_FLAGS(op, lane) ENTRY(op, lane)
#define TABLE_FROM32(op, lane) ENTRY(op, lane)
#define TABLE_FROM64(op, lane) ENTRY(op, lane)
#define TABLE_BYTES7(op, lane)
#define TABLE_BYTES3(op, lane)
#define TABLE_NEW(op, lane)
#define TABLE_OUT(op, lane)
#define TABLE_OUTI(op, lane)
#define TABLE_INI(op, lane)
static run_fn *const table[VECTOR_OPS][LANES] = {
#define HOST_SSE(op, lane, text, prefix, map, opcode, shape) TABLE_##shape(op, lane)
#include "ir/host_sse.def"
};

/* --- What is a move of bits */
static unsigned lane_bytes(unsigned lane) { return 1u << (lane & 3); }

static void extend(union ir_value *r, const union ir_value *a, unsigned from, unsigned to, bool is_signed)
{
    union ir_value wide = {0};
    for (unsigned i = 0; i < 16 / to; i++) {
        uint64_t v = 0;
        memcpy(&v, a->u8 + i * from, from);
        if (is_signed)
            v = (uint64_t)ir_signed(v, from * 8);
        memcpy(wide.u8 + i * to, &v, to);
    }
    *r = wide;
}

static bool move(const struct ir_insn *i, union ir_value *r, const union ir_value *a, const union ir_value *b)
{
    unsigned bytes = lane_bytes(i->aux), imm = (unsigned)i->imm;
    union ir_value v = {0};
    switch (i->op) {
    case IR_vshl_bytes: v.u128 = imm > 15 ? 0 : a->u128 << 8 * imm; break;
    case IR_vshr_bytes: v.u128 = imm > 15 ? 0 : a->u128 >> 8 * imm; break;
    case IR_vfrom_int: v.u64 = ir_cut(a->u64, i->aux == IR_L32 ? 32 : 64); break;
    case IR_vto_int: v.u64 = ir_cut(a->u64, ir_type_bits((enum ir_type)i->type)); break;
    case IR_vextract: memcpy(v.u8, a->u8 + (imm * bytes & 15), bytes); break;
    case IR_vinsert:
        v.u128 = a->u128;
        memcpy(v.u8 + (imm * bytes & 15), b->u8, bytes);
        break;
    case IR_vextend_s: case IR_vextend_u: extend(&v, a, bytes, lane_bytes(imm), i->op == IR_vextend_s); break;
    default: return false;
    }
    *r = v;
    return true;
}

enum { MXCSR_STICKY = 0x3f, MXCSR_MASKS = 0x1f80 };

void ir_vector_eval(const struct ir_insn *i, enum ir_type type_of_a, union ir_value *result, const union ir_value *a,
                    const union ir_value *b, const union ir_value *c, uint32_t *mxcsr)
{
    (void)type_of_a;
    if (move(i, result, a, b))
        return;
    struct operands o = {.imm = (uint8_t)i->imm, .type = (enum ir_type)i->type, .integer = b ? b->u64 : 0};
    memcpy(&o.a, a, 16);
    memcpy(&o.b, b ? b : a, 16);
    memcpy(&o.c, c ? c : a, 16);
    if (!ir_host_runs((enum ir_op)i->op)) {
        uint8_t x[3][16];
        memcpy(x, &o.a, sizeof x);
        ir_crypto_eval((enum ir_op)i->op, o.imm, x);
        *result = (union ir_value){0};
        memcpy(result, x[0], 16);
        return;
    }
    run_fn *run = table[i->op - IR_FIRST_VECTOR][i->aux & (LANES - 1)];
    if (!run) { /* no such lane: the verifier refuses it */
        *result = (union ir_value){0};
        return;
    }
    bool fp = ir_op_info[i->op].props & FP && mxcsr;
    unsigned host = _mm_getcsr();
    if (fp)
        _mm_setcsr((*mxcsr & ~(unsigned)MXCSR_STICKY) | MXCSR_MASKS);
    run(&o);
    if (fp) {
        *mxcsr |= _mm_getcsr() & MXCSR_STICKY;
        _mm_setcsr(host);
    }
    union ir_value v = {0};
    if (i->type == IR_V128)
        memcpy(&v, &o.a, 16);
    else
        v.u64 = ir_cut(o.integer, ir_type_bits((enum ir_type)i->type));
    *result = v;
}
