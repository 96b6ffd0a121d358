/* thread.h - how the runtime starts a thread of its own. */
#ifndef RUNTIME_THREAD_H
#define RUNTIME_THREAD_H

#include <pthread.h>
#include <stdbool.h>

/* One that takes no signals: they are for the other threads.  False: there is none.  Any thread. */
bool thread_without_signals(pthread_t *, void *(*run)(void *), void *ctx);
#endif
