/* internal.h - what the files of ir/ share. */
#ifndef IR_INTERNAL_H
#define IR_INTERNAL_H

#include "ir/ir.h"

/* Value of one vector operation on host values; result may alias an operand.  *mxcsr is the guest's MXCSR,
 * NULL where the guest has none. */
void ir_vector_eval(const struct ir_insn *insn, enum ir_type type_of_a, union ir_value *result,
                    const union ir_value *a, const union ir_value *b, const union ir_value *c, uint32_t *mxcsr);

#endif
