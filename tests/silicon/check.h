/* check.h - one case on the silicon and through every tier. */
#ifndef TESTS_SILICON_CHECK_H
#define TESTS_SILICON_CHECK_H

#include "tests/silicon/differences.h"

struct verdict {
    const char *wrong;          /* NULL: all agree */
    enum tier tier;             /* the first that does not */
    bool skipped, differs;      /* differences.def says why */
    enum outcome outcome[ALL_TIERS];
};
/* memory: ORACLE_DATA_SIZE bytes that the data pages start with. */
void check_case(struct test_case *, const uint8_t *memory, struct verdict *);
/* The same through the first `tiers` of them. */
void check_case_through(struct test_case *, const uint8_t *memory, unsigned tiers, struct verdict *);
/* NULL, or how `have` is not `want`, but for the flags that are undefined. */
const char *check_states(const struct oracle_state *want, const struct oracle_state *have, uint64_t undefined);
void check_print(FILE *, const struct test_case *, const struct verdict *);

#endif
