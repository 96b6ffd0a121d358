/* A private directory for what a run leaves behind: caches, states.  It is removed when the process ends, by die() too. */
#define _GNU_SOURCE
#include "tools/tierce-bench/bench.h"
#include <errno.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *f)
{
    (void)s, (void)kind, (void)f;
    return remove(path);
}

static void remove_all(int status, void *path)
{
    (void)status;
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(path);
}

const char *scratch(struct bench *b)
{
    const char *temporary = getenv("TMPDIR");
    if (*b->scratch)
        return b->scratch;
    snprintf(b->scratch, sizeof b->scratch, "%.480s/tierce-bench-XXXXXX", temporary && *temporary ? temporary : "/tmp");
    char *copy = mkdtemp(b->scratch) ? strdup(b->scratch) : NULL;
    if (!copy || on_exit(remove_all, copy))
        die(1, "%s: %s; accepted is a TMPDIR that can be written", b->scratch, strerror(errno));
    return b->scratch;
}
