/* The store's remote layer against a redis-server of our own, on a socket in the test's directory: what one host puts another gets; what
 * the server says is checked; a server that dies, hangs, comes back or was never there costs time that is bounded, and nothing else. */
#define _GNU_SOURCE
#include "tests/runtime/store_helper.h"
#include <errno.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

enum { OBJECTS = 300, PATIENCE_MS = 90000 /* more than the longest pause of a store that has lost its server */ };
static char socket_path[100], url[120], port[8], tcp_url[40];

static void pause_ms(unsigned ms) { nanosleep(&(struct timespec){ms / 1000, (long)(ms % 1000) * 1000000}, NULL); }
static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static redisContext *talk(void)
{
    redisContext *c = redisConnectUnix(socket_path);
    if (c && !c->err)
        return c;
    if (c)
        redisFree(c);
    return NULL;
}

/* One that was free just now. */
static void choose_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, size) || getsockname(fd, (struct sockaddr *)&at, &size))
        abort();
    close(fd);
    snprintf(port, sizeof port, "%u", ntohs(at.sin_port));
    snprintf(tcp_url, sizeof tcp_url, "redis://127.0.0.1:%s", port);
}

static pid_t start_server(void)
{
    char dir[100];
    snprintf(dir, sizeof dir, "%s", socket_path);
    *strrchr(dir, '/') = 0;
    pid_t pid = fork();
    if (!pid) {
        execlp("redis-server", "redis-server", "--port", port, "--bind", "127.0.0.1", "--unixsocket", socket_path, "--save", "", "--appendonly", "no", "--dir", dir,
               "--daemonize", "no", "--logfile", "redis.log", NULL);
        _exit(127);
    }
    for (unsigned n = 0; n < 500; n++, pause_ms(20)) {
        redisContext *c = talk();
        if (c) {
            redisFree(c);
            return pid;
        }
        if (waitpid(pid, NULL, WNOHANG) == pid)
            return 0;
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return 0;
}

static void end_server(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    unlink(socket_path);
}

static struct store *open_remote(const char *path) { return open_store(path, (struct store_options){.remote = url}); }
/* On a busy machine 50 ms are short, and then the server is taken for lost until a pause is over that is longer each time. */
static bool is_patient(double since)
{
    pause_ms(200);
    return now_ms() - since < PATIENCE_MS;
}
static unsigned count_patiently(struct store *s, unsigned from, unsigned to, unsigned version)
{
    unsigned found;
    double since = now_ms();
    do
        found = count_objects(s, from, to, version);
    while (found < to - from && is_patient(since));
    return found;
}
static long heads_there(void)
{
    redisContext *c = talk();
    redisReply *r = c ? redisCommand(c, "SCARD tierce:heads") : NULL;
    long heads = r ? (long)r->integer : -1;
    freeReplyObject(r);
    redisFree(c);
    return heads;
}
static struct store_counts counts_of(struct store *s)
{
    struct store_counts c;
    store_count(s, &c);
    return c;
}

static void test_urls(void)
{
    static const char *const bad[] = {"", "redis", "http://host", "redis://", "redis:///", "redis://host:", "redis://host:x", "redis://host:70000",
        "redis://host:123456", "redis://a/b", "redis://[::1", "redis://[::1]x", "redis://:6379"};
    for (unsigned n = 0; n < sizeof bad / sizeof *bad; n++) {
        char error[512] = "";
        struct store *s = store_open(&(struct store_options){.path = fresh_path(), .remote = bad[n]}, error, sizeof error);
        check(!s && strstr(error, "accepted: redis://") && !strchr(error, '\n'), bad[n], n);
        store_close(s);
    }
}

static void test_sharing(void)
{
    char path[64];
    double since = now_ms();
    do {
        struct store *a = open_remote(fresh_path());
        for (unsigned n = 0; n < OBJECTS; n++)
            put_object(a, n, 0);
        store_close(a); /* what is queued is sent first, unless that takes more than a second */
    } while (heads_there() != OBJECTS / 2 && is_patient(since));
    snprintf(path, sizeof path, "%s", fresh_path());
    struct store *b = open_remote(path);
    check(count_patiently(b, 0, OBJECTS, 0) == OBJECTS, "what another host put", 0);
    for (unsigned n = 0; n < OBJECTS; n += 2) { /* both of a head */
        struct store_key key = key_of(n);
        struct store_object o;
        for (unsigned nth = 0; nth < 2; nth++) {
            bool got = store_get(b, key.head, nth, &o, NULL);
            check(got && (is_object(&o, n, 0) || is_object(&o, n + 1, 0)), "by head", n);
            store_release(&o);
        }
        check(!store_get(b, key.head, 2, &o, NULL), "and no more", n);
    }
    check(!has_object(b, OBJECTS + 7, 0), "what nobody put", 0);
    check(counts_of(b).remote_hits == OBJECTS && !counts_of(b).puts, "remote hits", (long)counts_of(b).remote_hits);
    store_close(b);
    b = open_plain(path);
    check(count_objects(b, 0, OBJECTS, 0) == OBJECTS, "is kept", 0);
    store_close(b);
    b = open_store(path, (struct store_options){.remote = url, .read_only = true});
    check(count_objects(b, 0, OBJECTS, 0) == OBJECTS && !counts_of(b).remote_hits, "what is here is not asked for", 0);
    store_close(b);
    b = open_store(fresh_path(), (struct store_options){.remote = tcp_url});
    check(count_patiently(b, 0, OBJECTS, 0) == OBJECTS, "by TCP", 0);
    store_close(b);
    check(!atomic_load(&warnings) || strstr(last_warning, "no answer in time"), "no other warning", 0);
}

static void test_read_only(void)
{
    char path[64];
    snprintf(path, sizeof path, "%s", fresh_path());
    store_close(open_plain(path));
    struct store *s = open_store(path, (struct store_options){.remote = url, .read_only = true});
    check(count_patiently(s, 0, OBJECTS, 0) == OBJECTS, "read only, from memory", 0);
    store_close(s);
    s = open_plain(path);
    check(count_objects(s, 0, OBJECTS, 0) == 0, "nothing is written", 0);
    store_close(s);
}

/* The last first: the head's own object here, then the remote's. */
static void test_order(void)
{
    struct store *s = open_remote(fresh_path());
    struct store_key key = key_of(0);
    struct store_object o;
    unsigned order[2] = {99, 99};
    put_object(s, 0, 1); /* the server has 0 in another version, and 1 */
    check(count_patiently(s, 1, 2, 0) == 1, "the other of the head", 0);
    for (unsigned nth = 0; nth < 2; nth++)
        if (check(store_get(s, key.head, nth, &o, NULL), "in order", nth)) {
            memcpy(&order[nth], o.data, 4);
            check(is_object(&o, nth, nth == 0), "in order", nth);
            store_release(&o);
        }
    check(order[0] == 0 && order[1] == 1 && !store_get(s, key.head, 2, &o, NULL), "in order", order[0]);
    store_close(s);
}

static void spoil(redisContext *c, unsigned n, unsigned how)
{
    char name[64];
    struct store_key key = key_of(n);
    snprintf(name, sizeof name, "tierce:%016lx%016lx", key.head[0], key.head[1]);
    redisReply *was = redisCommand(c, "HGET %s %b", name, key.whole, (size_t)16), *set = NULL;
    if (!check(was && was->type == REDIS_REPLY_STRING && was->len > 64, "the object is there", n))
        return;
    switch (how) {
    case 0: was->str[was->len / 2] ^= 1; set = redisCommand(c, "HSET %s %b %b", name, key.whole, (size_t)16, was->str, (size_t)was->len); break;
    case 1: set = redisCommand(c, "HSET %s %b %b", name, key.whole, (size_t)16, was->str, (size_t)was->len - 9); break;
    case 2: set = redisCommand(c, "HSET %s %b %s", name, key.whole, (size_t)16, ""); break;
    case 3: freeReplyObject(redisCommand(c, "DEL %s", name)); set = redisCommand(c, "SET %s nonsense", name); break;
    case 4: was->str[0] ^= 1; set = redisCommand(c, "HSET %s %b %b", name, key.whole, (size_t)16, was->str, (size_t)was->len); break;
    case 5: key.whole[1] ^= 1; set = redisCommand(c, "HSET %s %b %b", name, key.whole, (size_t)16, was->str, (size_t)was->len); break;
    case 6: set = redisCommand(c, "HSET %s short %b", name, was->str, (size_t)was->len); break;
    }
    check(set && set->type != REDIS_REPLY_ERROR, "spoilt", how);
    freeReplyObject(was);
    freeReplyObject(set);
}

static void test_damaged(void)
{
    redisContext *c = talk();
    if (!check(c != NULL, "talk", 0))
        return;
    for (unsigned how = 0; how < 7; how++)
        spoil(c, 10 + 2 * how, how);
    redisFree(c);
    unsigned before = atomic_load(&warnings);
    struct store *s = open_remote(fresh_path());
    check(count_patiently(s, 24, OBJECTS, 0) == OBJECTS - 24, "beside damaged ones", 0);
    double since = now_ms();
    while ((count_objects(s, 0, 24, 0) < 17 || counts_of(s).damaged < 7) && is_patient(since))
        ;
    for (unsigned n = 2; n < OBJECTS; n++) {
        bool spoilt = n >= 10 && n < 24 && (n % 2 == 0 || n == 17) && n != 20 && n != 22; /* the wrong fields lie beside good objects */
        check(has_object(s, n, 0) == !spoilt, "damaged on the server", n);
    }
    bool calm = !counts_of(s).remote_errors; /* else some were asked for twice */
    check(calm ? counts_of(s).damaged == 7 && atomic_load(&warnings) == before + 1 && strstr(last_warning, "damaged") : counts_of(s).damaged >= 7,
          "counted, and warned of once", (long)counts_of(s).damaged);
    store_close(s);
}

/* Misses of many heads, none known to be absent; returns ms. */
static double time_of_misses(struct store *s, unsigned from, unsigned count)
{
    double start = now_ms();
    for (unsigned n = from; n < from + count; n++)
        check(has_object(s, n, 0) <= 0, "a miss", n);
    return now_ms() - start;
}

static pid_t test_killed(pid_t server)
{
    char path[64];
    snprintf(path, sizeof path, "%s", fresh_path());
    unsigned before = atomic_load(&warnings);
    struct store *s = open_remote(path);
    check(count_patiently(s, 100, 150, 0) == 50, "before the kill", 0);
    end_server(server);
    double ms = time_of_misses(s, 150, 150);
    check(ms < 3000, "misses after the kill, ms", (long)ms);
    check(count_objects(s, 100, 150, 0) == 50, "what is here already", 0);
    for (unsigned n = 1000; n < 1100; n++)
        check(put_object(s, n, 0), "put without a server", n);
    check(store_flush(s) && count_objects(s, 1000, 1100, 0) == 100, "written without a server", 0);
    check(atomic_load(&warnings) == before + 1 && strstr(last_warning, "going on without it"), last_warning, atomic_load(&warnings) - before);
    check(counts_of(s).remote_errors >= 1, "counted", (long)counts_of(s).remote_errors);
    server = start_server(); /* an empty one */
    check(server > 0, "the server again", 0);
    double since = now_ms();
    while (heads_there() != 50 && is_patient(since)) /* the queue goes there when the pause is over */
        ;
    check(heads_there() == 50, "what was queued meanwhile is sent", heads_there());
    store_close(s);
    s = open_remote(fresh_path());
    check(count_patiently(s, 1000, 1100, 0) == 100, "and found by another host", 0);
    store_close(s);
    return server;
}

static void test_hanging(pid_t server)
{
    struct store *s = open_remote(fresh_path());
    check(count_patiently(s, 1000, 1010, 0) == 10, "before it hangs", 0);
    kill(server, SIGSTOP);
    double ms = time_of_misses(s, 1010, 80);
    check(ms < 3000, "misses while the server hangs, ms", (long)ms);
    for (unsigned n = 2000; n < 2010; n++)
        put_object(s, n, 0);
    double from = now_ms();
    store_close(s);
    check(now_ms() - from < 6000, "close while the server hangs, ms", (long)(now_ms() - from));
    kill(server, SIGCONT);
}

/* One that takes connections (the kernel does) and says nothing, or nonsense, or never ends. */
static void test_strange_servers(void)
{
    static const char *const says[] = {NULL, "nonsense\r\n", "*2000000000\r\n", "$2000000000\r\nabc", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", "-ERR no\r\n",
                                       ":1\r\n:1\r\n:1\r\n", "$-7\r\n", "*-1\r\n", ""};
    for (unsigned n = 0; n < sizeof says / sizeof *says; n++) {
        struct sockaddr_un at = {.sun_family = AF_UNIX};
        snprintf(at.sun_path, sizeof at.sun_path, "%s", socket_path);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        check(fd >= 0 && !bind(fd, (struct sockaddr *)&at, sizeof at) && !listen(fd, 16), "listen", n);
        pid_t pid = fork();
        if (!pid) {
            signal(SIGPIPE, SIG_IGN);
            for (int c; (c = accept(fd, NULL, NULL)) >= 0;) {
                for (unsigned times = 0; says[n] && times < 3; times++)
                    if (write(c, says[n], strlen(says[n])) < 0)
                        break;
                if (says[n] && !*says[n])
                    close(c);
            }
            _exit(0);
        }
        close(fd);
        struct store *s = open_remote(fresh_path());
        double ms = time_of_misses(s, 1000, 50);
        check(ms < 3000, "misses at a strange server, ms", (long)ms);
        check(put_object(s, 1, 0) && has_object(s, 1, 0) == 1, "put at a strange server", n);
        store_close(s);
        end_server(pid);
    }
}

static void test_no_server(void)
{
    unsigned before = atomic_load(&warnings);
    struct store *s = open_remote(fresh_path());
    check(atomic_load(&warnings) == before + 1 && strstr(last_warning, url), "no server is warned of", 0);
    check(time_of_misses(s, 0, 500) < 3000 && put_object(s, 1, 0) && has_object(s, 1, 0) == 1, "without a server", 0);
    store_close(s);
    s = open_store(fresh_path(), (struct store_options){.remote = "redis://127.0.0.1:1"});
    check(put_object(s, 1, 0) && has_object(s, 1, 0) == 1 && counts_of(s).remote_errors == 1, "a closed port", 0);
    store_close(s);
}

int main(void)
{
    fresh_path();
    snprintf(socket_path, sizeof socket_path, "%s.socket", store_path);
    snprintf(url, sizeof url, "redis://%s", socket_path);
    choose_port();
    pid_t server = start_server();
    if (!server) {
        bool required = getenv("CI") && !strcmp(getenv("CI"), "true");
        printf("redis-server does not start (Debian: redis-server): %s\n", required ? "failed" : "skipped");
        remove_all();
        return required ? 1 : 77;
    }
    test_urls();
    test_sharing();
    test_read_only();
    test_order();
    test_damaged();
    server = test_killed(server);
    test_hanging(server);
    end_server(server);
    test_strange_servers();
    test_no_server();
    return finish();
}
