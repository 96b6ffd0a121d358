/* A connection to a Redis server: hiredis writes and reads the protocol, the socket is ours, so that each exchange has a deadline and each
 * reply a limit, and a lost server is no SIGPIPE. */
#define _GNU_SOURCE
#include "runtime/store_redis.h"
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MAX_ELEMENTS = 2 << 20 };
#define MAX_REPLY (256u << 20)

static int time_left(uint64_t deadline)
{
    uint64_t now = store_now_ms();
    return now < deadline ? (int)(deadline - now) : 0;
}

static bool fail(struct store_redis *r, const char *why)
{
    snprintf(r->error, sizeof r->error, "%s", why);
    return false;
}

static bool wait_for(struct store_redis *r, short events, uint64_t deadline)
{
    struct pollfd p = {r->fd, events, 0};
    int ready;
    do
        ready = poll(&p, 1, time_left(deadline));
    while (ready < 0 && errno == EINTR);
    return ready > 0 || fail(r, ready ? strerror(errno) : "no answer in time");
}

static bool connect_to(struct store_redis *r, const struct sockaddr *to, socklen_t size, uint64_t deadline)
{
    int error = 0;
    socklen_t length = sizeof error;
    r->fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (r->fd < 0)
        return fail(r, strerror(errno));
    if (!connect(r->fd, to, size))
        return true;
    if (errno != EINPROGRESS)
        return fail(r, strerror(errno));
    if (!wait_for(r, POLLOUT, deadline))
        return false;
    return (!getsockopt(r->fd, SOL_SOCKET, SO_ERROR, &error, &length) && !error) || fail(r, strerror(error ? error : errno));
}

static bool connect_unix(struct store_redis *r, const char *path, uint64_t deadline)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    snprintf(to.sun_path, sizeof to.sun_path, "%.*s", (int)sizeof to.sun_path - 1, path);
    return connect_to(r, (struct sockaddr *)&to, sizeof to, deadline);
}

static bool connect_host(struct store_redis *r, const struct store_redis_url *u, uint64_t deadline)
{
    struct addrinfo wanted = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    int status = getaddrinfo(u->host, u->port, &wanted, &list), on = 1;
    bool connected = false;
    if (status)
        return fail(r, gai_strerror(status));
    for (struct addrinfo *a = list; a && !connected; a = a->ai_next) {
        if (r->fd >= 0)
            close(r->fd);
        connected = connect_to(r, a->ai_addr, a->ai_addrlen, deadline);
    }
    freeaddrinfo(list);
    if (connected)
        setsockopt(r->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return connected;
}

bool store_redis_parse(const char *url, struct store_redis_url *u)
{
    static const char scheme[] = "redis://";
    *u = (struct store_redis_url){.port = "6379"};
    if (strncmp(url, scheme, sizeof scheme - 1))
        return false;
    url += sizeof scheme - 1;
    if (*url == '/')
        return snprintf(u->path, sizeof u->path, "%s", url) < (int)sizeof u->path && url[1];
    const char *end = *url == '[' ? strchr(url, ']') : strchrnul(url, ':'), *rest = end ? end + (*url == '[') : "x";
    url += *url == '[';
    if (!end || end == url || end - url >= (long)sizeof u->host || memchr(url, '/', (size_t)(end - url)) || (*rest && *rest != ':'))
        return false;
    memcpy(u->host, url, (size_t)(end - url));
    if (!*rest)
        return true;
    size_t digits = strspn(rest + 1, "0123456789");
    return digits && digits < sizeof u->port && !rest[1 + digits] && atol(rest + 1) <= 65535 && snprintf(u->port, sizeof u->port, "%s", rest + 1) > 0;
}

/* hiredis takes a server's word for how many elements follow. */
static void *limited_array(const redisReadTask *task, STORE_REDIS_COUNT count)
{
    const struct store_redis *r = task->privdata;
    return (uint64_t)count <= MAX_ELEMENTS ? r->array(task, count) : NULL;
}

bool store_redis_reader(struct store_redis *r)
{
    r->reader = redisReaderCreate();
    if (!r->reader)
        return fail(r, "out of memory");
    r->functions = *r->reader->fn;
    r->array = r->functions.createArray;
    r->functions.createArray = limited_array;
    r->reader->fn = &r->functions;
    r->reader->privdata = r;
    return true;
}

bool store_redis_connect(struct store_redis *r, const struct store_redis_url *u, unsigned ms)
{
    uint64_t deadline = store_now_ms() + ms;
    *r = (struct store_redis){.fd = -1};
    if ((*u->path ? connect_unix(r, u->path, deadline) : connect_host(r, u, deadline)) && store_redis_reader(r))
        return true;
    store_redis_close(r);
    return false;
}

void store_redis_close(struct store_redis *r)
{
    if (r->reader)
        redisReaderFree(r->reader);
    if (r->fd >= 0)
        close(r->fd);
    r->reader = NULL;
    r->fd = -1;
}

bool store_redis_send(struct store_redis *r, int count, const char **words, const size_t *sizes, uint64_t deadline)
{
    char *text = NULL;
    long long size = redisFormatCommandArgv(&text, count, words, sizes);
    if (size < 0)
        return fail(r, "out of memory");
    const char *at = text;
    bool sent = true;
    while (size && sent) {
        ssize_t done = send(r->fd, at, (size_t)size, MSG_NOSIGNAL);
        if (done >= 0) {
            at += done;
            size -= done;
        } else if (errno == EAGAIN) {
            sent = wait_for(r, POLLOUT, deadline);
        } else if (errno != EINTR) {
            sent = fail(r, strerror(errno));
        }
    }
    redisFreeCommand(text);
    return sent;
}

redisReply *store_redis_receive(struct store_redis *r, uint64_t deadline)
{
    char buffer[16384];
    void *reply = NULL;
    for (size_t total = 0; total < MAX_REPLY;) {
        if (redisReaderGetReply(r->reader, &reply) != REDIS_OK)
            return fail(r, r->reader->errstr), NULL;
        if (reply)
            return reply;
        ssize_t got = recv(r->fd, buffer, sizeof buffer, 0);
        if (got > 0) {
            total += (size_t)got;
            if (redisReaderFeed(r->reader, buffer, (size_t)got) != REDIS_OK)
                return fail(r, "out of memory"), NULL;
        }
        if (got > 0 && time_left(deadline))
            continue;
        if (!got || (got < 0 && errno != EAGAIN && errno != EINTR))
            return fail(r, got ? strerror(errno) : "the server closed the connection"), NULL;
        if (!wait_for(r, POLLIN, deadline))
            return NULL;
    }
    return fail(r, "an answer too large"), NULL;
}
