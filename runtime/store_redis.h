/* store_redis.h - a connection to a Redis server with deadlines (ms of store_now_ms).  One thread at a time.  After a failure, which `error` tells,
 * it is of no more use and is to be closed. */
#ifndef RUNTIME_STORE_REDIS_H
#define RUNTIME_STORE_REDIS_H

#include "runtime/store_internal.h"
#include <hiredis/hiredis.h>

#if HIREDIS_MAJOR < 1
typedef int STORE_REDIS_COUNT;
#else
typedef size_t STORE_REDIS_COUNT;
#endif
struct store_redis_url { char path[108], host[256], port[6]; }; /* a socket's path, or a host */
struct store_redis {
    int fd;
    redisReader *reader;
    redisReplyObjectFunctions functions; void *(*array)(const redisReadTask *, STORE_REDIS_COUNT);
    char error[128];
};
bool store_redis_parse(const char *url, struct store_redis_url *);
bool store_redis_connect(struct store_redis *, const struct store_redis_url *, unsigned ms);
void store_redis_close(struct store_redis *);
bool store_redis_send(struct store_redis *, int count, const char **words, const size_t *sizes, uint64_t deadline);
redisReply *store_redis_receive(struct store_redis *, uint64_t deadline); /* NULL: there is none */
bool store_redis_reader(struct store_redis *); /* what reads replies; for the fuzzer, which has no connection */

#endif
