/* tally.h - what a test counts: check() says what was wrong, tally() how many were, and is main()'s status. */
#ifndef TESTS_RUNTIME_TALLY_H
#define TESTS_RUNTIME_TALLY_H

#include <stdbool.h>
#include <stdio.h>

static int passed, failed;

static inline void check(const char *what, bool ok)
{
    passed += ok;
    failed += !ok;
    if (!ok)
        printf("%s: wrong\n", what);
}

static inline int tally(const char *test)
{
    printf("%s: %d passed, %d failed\n", test, passed, failed);
    return failed != 0;
}

#endif
