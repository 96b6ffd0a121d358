/* guest.h - the same instruction through lift and each tier: interpreter, passes + interpreter, template backend; and, where
 * asked for, the LLVM tier, a region of this one block.  Guest memory is the oracle's, by its alias. */
#ifndef TESTS_SILICON_GUEST_H
#define TESTS_SILICON_GUEST_H

#include "frontend/internal.h"
#include "tests/silicon/oracle.h"

enum tier { TIER_INTERP, TIER_PASSES, TIER_TCG, TIERS, TIER_LLVM = TIERS, ALL_TIERS };
extern const char *const tier_names[ALL_TIERS];
/* How a case went through the template backend, or the LLVM tier. */
enum outcome { BY_INTERPRETER, BY_TCG, BY_TCG_THEN_INTERPRETER /* a fault, or a rare access */, TCG_REFUSED, OUTCOMES };
extern const char *guest_refused; /* the operation, where the LLVM tier refused the last block */

bool guest_init(const char *model, char *error, unsigned size);
void guest_free(void);
const struct x86_model *guest_model(void);
void guest_mode(enum oracle_mode_id);      /* segments and mode bits for what follows */
uint32_t guest_mode_bits(void);
/* One instruction (with REP: to its end) from o, result in o.  NULL, or what is wrong with the block. */
const char *guest_run(struct oracle_state *o, enum tier, enum outcome *);
/* From o->rip until it leaves the next `size` bytes, or faults; in blocks of many instructions.  *ended: it did. */
const char *guest_run_all(struct oracle_state *o, enum tier, unsigned size, bool *ended);
/* Where `size` bytes of guest linear memory are in this process; NULL: not mapped so. */
uint8_t *guest_place(uint64_t at, unsigned size, bool write);

#endif
