/* Threads of the runtime's own: see thread.h. */
#define _GNU_SOURCE
#include "runtime/thread.h"
#include <signal.h>
#include <stddef.h>

bool thread_without_signals(pthread_t *thread, void *(*run)(void *), void *ctx)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool began = !pthread_create(thread, NULL, run, ctx);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return began;
}
