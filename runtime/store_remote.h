/* store_remote.h - the remote layer, as store.c sees it. */
#ifndef RUNTIME_STORE_REMOTE_H
#define RUNTIME_STORE_REMOTE_H

#include "runtime/store_redis.h"

struct store_remote;
/* Connects, which may take some hundred ms; a server that is not there is complained of, by `d`, and tried again later.  NULL: error
 * has what is wrong with the URL. */
struct store_remote *store_remote_open(struct store_dir *d, const char *url, char *error, size_t size);
void store_remote_close(struct store_remote *);
/* What the server has for a head, checked, the latest last, each's data malloc'd, as is the array.  Asks once for each head in half a
 * minute, and waits for 50 ms at most.  *lost: there
 * was no answer, so store_remote_work has to do.  Any thread. */
struct store_taken { struct store_record record; uint8_t *data; };
size_t store_remote_get(struct store_remote *, const uint64_t head[2], struct store_taken **, bool *lost);
size_t store_remote_take(const uint64_t head[2], const redisReply *, struct store_taken **, unsigned *damaged);
void store_remote_put(struct store_remote *, const struct store_record *, const void *data); /* only queues; any thread */
/* On the store's thread: connects, reads what there is, sends what is queued.  Returns when (ms) it wants to be called again at the latest. */
uint64_t store_remote_work(struct store_remote *);
void store_remote_finish(struct store_remote *);  /* the same thread, before the end: sends what is queued, for a second at most */

#endif
