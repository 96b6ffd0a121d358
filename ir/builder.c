/* Blocks: memory, emission, types of values. */
#include "ir/ir.h"
#include <stdlib.h>
#include <string.h>

void ir_block_init(struct ir_block *b) { memset(b, 0, sizeof *b); }

void ir_block_free(struct ir_block *b)
{
    free(b->insns);
    ir_block_init(b);
}

void ir_block_clear(struct ir_block *b)
{
    struct ir_insn *insns = b->insns;
    uint32_t capacity = b->capacity;
    ir_block_init(b);
    b->insns = insns;
    b->capacity = capacity;
}

static bool grow(struct ir_block *b)
{
    uint32_t capacity = b->capacity ? 2 * b->capacity : 256;
    struct ir_insn *insns = capacity < IR_NONE ? realloc(b->insns, capacity * sizeof *insns) : NULL;
    if (!insns) {
        b->out_of_memory = true;
        return false;
    }
    b->insns = insns;
    b->capacity = capacity;
    return true;
}

ir_ref ir_emit(struct ir_block *b, enum ir_op op, enum ir_type type, unsigned aux, int64_t imm,
               ir_ref a, ir_ref bb, ir_ref c, ir_ref d)
{
    if (b->count == b->capacity && !grow(b))
        return IR_NONE;
    b->insns[b->count] = (struct ir_insn){.op = (uint8_t)op, .type = (uint8_t)type, .aux = (uint16_t)aux, .arg = {a, bb, c, d}, .imm = imm};
    return ir_op_info[op].out == '-' || (op == IR_call && type == IR_VOID) ? (b->count++, IR_NONE) : (ir_ref)b->count++;
}

unsigned ir_type_bytes(enum ir_type t)
{
    static const uint8_t bytes[IR_TYPE_COUNT] = {
        [IR_VOID] = 0, [IR_I1] = 1, [IR_I8] = 1, [IR_I16] = 2, [IR_I32] = 4, [IR_I64] = 8, [IR_I128] = 16,
        [IR_F32] = 4, [IR_F64] = 8, [IR_F80] = 16, [IR_V128] = 16, [IR_V256] = 32, [IR_V512] = 64, [IR_FLAGS] = 4,
    };
    return t < IR_TYPE_COUNT ? bytes[t] : 0;
}

enum ir_type ir_result_type(const struct ir_block *b, ir_ref ref)
{
    const struct ir_insn *i = &b->insns[ref];
    switch (ir_op_info[i->op].out) {
    case 'B': return IR_I1;
    case 'F': return IR_FLAGS;
    case 'P': return IR_I64;
    case '-': return IR_VOID;
    default: return (enum ir_type)i->type;
    }
}
