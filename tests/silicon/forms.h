/* forms.h - every encoding, systematically: all opcodes of all maps with prefixes, REX or VEX bits and shapes of ModRM
 * and SIB are decoded, and sorted into forms.  A form is what the instruction is (mnemonic, encoding, opcode), its
 * operands (kind, size, high-byte or extended register, addressing shape), widths and prefixes; encodings that
 * Zydis refuses are sorted by opcode, prefixes and reg field.  One encoding of each form is kept. */
#ifndef TESTS_SILICON_FORMS_H
#define TESTS_SILICON_FORMS_H

#include "frontend/internal.h"
#include "tests/silicon/oracle.h"

struct insn { uint8_t bytes[16]; ZydisDecodedInstruction in; ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT]; bool valid; };
struct form { uint8_t bytes[16]; uint16_t mnemonic; uint8_t mode; bool valid; };
struct forms { struct form *list; unsigned count, capacity; uint64_t *keys; unsigned slots; };

void forms_sweep(struct forms *, enum oracle_mode_id, const struct x86_model *, uint32_t mode_bits);
void forms_free(struct forms *);
void insn_decode(struct insn *, const struct x86_model *, uint32_t mode_bits);
uint64_t rnd(void);                /* the test's one source of chance */
extern uint64_t rnd_seed;

#endif
