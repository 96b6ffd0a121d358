/* AES, CLMUL and SHA in plain C against the host's own instructions, on random operands. */
#include "ir/internal.h"
#include <stdlib.h>
#include <string.h>

static const uint8_t lanes[IR_OP_COUNT] = {
#define HOST_SSE(op, lane, text, prefix, map, opcode, shape) [IR_##op] = lane,
#include "ir/host_sse.def"
};
static uint64_t seed = 1;
static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed * 0x2545f4914f6cdd1dull;
}

static unsigned check(enum ir_op op)
{
    unsigned wrong = 0;
    for (unsigned n = 0; n < 20000; n++) {
        union ir_value x[3] = {0}, want;
        uint8_t y[3][16];
        unsigned imm = (unsigned)rnd() & 0xff;
        for (unsigned k = 0; k < 6; k++)
            x[k / 2].q[k % 2] = n % 8 ? rnd() : rnd() % 3 - 1;
        for (unsigned k = 0; k < 3; k++)
            memcpy(y[k], &x[k], 16);
        struct ir_insn in = {.op = (uint8_t)op, .type = IR_V128, .aux = lanes[op], .imm = imm, .arg = {0, 1, 2, IR_NONE}};
        ir_vector_eval(&in, IR_V128, &want, &x[0], &x[1], &x[2], NULL);
        ir_crypto_eval(op, imm, y);
        wrong += memcmp(y[0], &want, 16) != 0;
    }
    if (wrong)
        printf("%s: %u of 20000 differ\n", ir_op_info[op].name, wrong);
    return wrong;
}

int main(void)
{
    static const enum ir_op ops[] = {IR_vaesenc, IR_vaesenclast, IR_vaesdec, IR_vaesdeclast, IR_vaesimc, IR_vaeskeygen, IR_vclmul, IR_vsha1rnds4,
        IR_vsha1nexte, IR_vsha1msg1, IR_vsha1msg2, IR_vsha256rnds2, IR_vsha256msg1, IR_vsha256msg2};
    unsigned wrong = 0, run = 0;
    for (unsigned i = 0; i < sizeof ops / sizeof *ops; i++) {
        if (!ir_host_runs(ops[i])) {
            printf("%s: the host lacks the instruction, nothing to compare with\n", ir_op_info[ops[i]].name);
            continue;
        }
        run++;
        wrong += check(ops[i]);
    }
    printf("%u operations compared, %u wrong\n", run, wrong);
    return wrong ? 1 : run ? 0 : 77;
}
