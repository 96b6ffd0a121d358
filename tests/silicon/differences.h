/* differences.h - what is not compared with the silicon, and why: differences.def. */
#ifndef TESTS_SILICON_DIFFERENCES_H
#define TESTS_SILICON_DIFFERENCES_H

#include "tests/silicon/cases.h"
#include "tests/silicon/guest.h"

struct exclusion {
    const char *name, *maker, *reason;
    bool (*skip)(const struct test_case *);
    bool (*differs)(const struct test_case *, const struct oracle_state *silicon, const struct oracle_state *here);
    unsigned long count;
};
struct exclusion *exclusions(unsigned *count);
bool exclude_before(const struct test_case *);  /* not to be run */
bool exclude_after(const struct test_case *, const struct oracle_state *silicon, const struct oracle_state *here);
/* Does the host's CPU run it (any end but #UD)?  Runs it. */
bool guest_host_runs(const struct test_case *);

#endif
