/* internal.h - what the files of ir/ share. */
#ifndef IR_INTERNAL_H
#define IR_INTERNAL_H

#include "ir/ir.h"

#define IR_FIRST_VECTOR IR_vand   /* this op and all after it are ops_vector.def's */

/* Value of one vector operation on host values; result may alias an operand.  *mxcsr is the guest's MXCSR,
 * NULL where the guest has none. */
void ir_vector_eval(const struct ir_insn *insn, enum ir_type type_of_a, union ir_value *result,
                    const union ir_value *a, const union ir_value *b, const union ir_value *c, uint32_t *mxcsr);

static inline unsigned ir_type_bits(enum ir_type t) { return t == IR_I1 ? 1 : ir_type_bytes(t) * 8; }
static inline uint64_t ir_cut(uint64_t v, unsigned bits) { return bits >= 64 ? v : v & ((1ull << bits) - 1); }
static inline int64_t ir_signed(uint64_t v, unsigned bits) { return bits >= 64 ? (int64_t)v : (int64_t)(v << (64 - bits)) >> (64 - bits); }

#endif
