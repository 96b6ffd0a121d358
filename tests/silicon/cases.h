/* cases.h - one case: an instruction somewhere in the code pages with its operands in place, and a random or adversarial
 * machine state that its addresses, counts and targets make sense of most of the time. */
#ifndef TESTS_SILICON_CASES_H
#define TESTS_SILICON_CASES_H

#include "tests/silicon/forms.h"

struct row { const char *name, *notes, *family; uint16_t feature; };
extern const struct row rows[ZYDIS_MNEMONIC_MAX_VALUE + 1];

struct test_case {
    enum oracle_mode_id mode;
    struct insn insn;
    struct oracle_state in;
    const struct row *row;         /* NULL: no row, or not decodable */
    uint64_t memory;               /* linear address of the first memory operand, 0: none, or as it fell */
    const uint8_t *silicon_memory; /* the data pages as the silicon left them */
};
bool is_family(const struct test_case *, const char *family);
/* Makes state and memory; the instruction is written to the code pages.  before: ORACLE_DATA_SIZE bytes that keep
 * their random contents from case to case but where this one looks. */
void case_make(struct test_case *, const struct form *, const struct x86_model *, uint8_t *before);
/* The same bytes at the same place with another state and memory. */
void case_again(struct test_case *, uint8_t *before);

#endif
