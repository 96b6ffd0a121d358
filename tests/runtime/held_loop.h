/* A main loop that is held back: one of its turns, the first, takes until `over` says so, or too long, and then the machine ends. */
#ifndef TESTS_RUNTIME_HELD_LOOP_H
#define TESTS_RUNTIME_HELD_LOOP_H

#include "runtime/runtime.h"
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

enum { HELD_SECONDS = 20 };
struct held { struct machine *machine; int pipe[2]; bool (*over)(void *ctx); void *ctx; };

static inline void held_turn(void *ctx, short events)
{
    struct held *h = ctx;
    (void)events;
    for (unsigned i = 0; i < HELD_SECONDS * 1000 && !h->over(h->ctx); i++)
        usleep(1000);
    machine_quit(h->machine);
}

static inline void held_begin(struct held *h, struct machine *m, bool (*over)(void *ctx), void *ctx)
{
    *h = (struct held){.machine = m, .over = over, .ctx = ctx};
    if (pipe(h->pipe) || write(h->pipe[1], "", 1) != 1 || !machine_watch(m, h->pipe[0], POLLIN, held_turn, h))
        exit((printf("no pipe\n"), 1));
}

static inline void held_end(struct held *h)
{
    close(h->pipe[0]);
    close(h->pipe[1]);
}

#endif
