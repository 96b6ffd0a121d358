/* Streams of bytes between devices and the user.  Descriptors that are our own do not block; standard output may be
 * shared with other processes and is opened a second time for that, where it can be.  What is written goes out at once where the reader has
 * room, on the writer's thread; else it waits in `waiting` for the main loop, with all that is written after it. */
#define _GNU_SOURCE
#include "tools/tierce/stream.h"
#include "tools/tierce/terminal.h"
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { PENDING = 2048, PIECE = 4096 /* what a pipe that is ready takes */, PATIENCE_MS = 1000, PATIENCE_MOST_MS = 5000 };
/* Bytes that wait: so many, and a device's stream is full; so many, and its guest is stalled; no more than that are kept. */
enum { FULL = 32 << 10, STALLED = FULL + 1024, KEPT = 16 << 20 };
#define RETRY_NS 10000000 /* for who does not call stream_offer */
struct stream {
    struct stream_spec spec;
    const char *label;
    int listener;                    /* -1: none */
    int in, out;                     /* -1: nobody is there */
    int slave;                       /* of a pty, held so that the master never hangs up; -1: none */
    bool blocks, is_socket;          /* of `out` */
    pthread_mutex_t lock;            /* `out`, against closing it while it is written to, and to `stalls` */
    bool waits;                      /* for a slow reader; else what it has no room for is lost */
    uint8_t *waiting; size_t waiting_at, waiting_size, waiting_room;
    bool full, stalls;               /* it was said so, and somebody waits for it to be otherwise */
    bool out_watched;                /* main loop's thread */
    void (*drained)(void *); void *drained_ctx;
    struct machine *machine;
    stream_input_fn *input; stream_opened_fn *opened; void *ctx;
    uint8_t pending[PENDING]; size_t pending_size;
    int timer;                       /* to offer `pending` again, and to look at `waiting` */
    atomic_bool refused;             /* there is some of it */
    unsigned telnet_skip; bool telnet_sub;
};

/* --- Words */
static bool parse_flags(const char *at, struct stream_spec *s)
{
    static const struct { const char *word; char flag; bool value; } words[] = {
        {"server", 's', true}, {"server=on", 's', true}, {"server=off", 's', false}, {"nowait", 'w', false}, {"wait", 'w', true},
        {"wait=on", 'w', true}, {"wait=off", 'w', false}, {"nodelay", 'n', true}, {"nodelay=on", 'n', true}, {"telnet=on", 't', true}, {"telnet", 't', true},
    };
    bool wait = true;
    while (*at == ',') {
        size_t n = strcspn(++at, ","), i = 0;
        while (i < sizeof words / sizeof *words && (strlen(words[i].word) != n || strncmp(words[i].word, at, n)))
            i++;
        if (i == sizeof words / sizeof *words)
            return false;
        *(words[i].flag == 's' ? &s->server : words[i].flag == 't' ? &s->telnet : words[i].flag == 'w' ? &wait : &(bool){0}) = words[i].value;
        at += n;
    }
    s->wait = s->server && wait;
    return *at == 0;
}

static bool copy(char *to, size_t room, const char *from, size_t length)
{
    if (length >= room)
        return false;
    memcpy(to, from, length);
    to[length] = 0;
    return true;
}

static bool parse_tcp(const char *at, struct stream_spec *s)
{
    size_t all = strcspn(at, ","), host = all;
    while (host && at[host - 1] != ':')
        host--;
    if (!host || host == all || strspn(at + host, "0123456789") < all - host || atol(at + host) > 65535)
        return false;
    s->kind = STREAM_TCP;
    bool brackets = host > 2 && at[0] == '[' && at[host - 2] == ']'; /* an IPv6 address */
    return copy(s->path, sizeof s->path, at + brackets, host - 1 - 2 * (size_t)brackets) && copy(s->port, sizeof s->port, at + host, all - host) && parse_flags(at + all, s);
}

bool stream_parse(const char *text, struct stream_spec *s)
{
    *s = (struct stream_spec){0};
    if (!strncmp(text, "mon:", 4)) {
        bool ok = strncmp(text + 4, "mon:", 4) && stream_parse(text + 4, s) && s->kind != STREAM_NULL && s->kind != STREAM_FILE;
        s->mux = true;
        return ok;
    }
    if (!strcmp(text, "null") || !strcmp(text, "none"))
        return true;
    s->kind = !strcmp(text, "stdio") ? STREAM_STDIO : STREAM_PTY;
    if (!strcmp(text, "stdio") || !strcmp(text, "pty"))
        return true;
    s->telnet = !strncmp(text, "telnet:", 7);
    if (s->telnet || !strncmp(text, "tcp:", 4))
        return parse_tcp(strchr(text, ':') + 1, s);
    s->kind = !strncmp(text, "file:", 5) ? STREAM_FILE : STREAM_UNIX;
    if (strncmp(text, "file:", 5) && strncmp(text, "unix:", 5))
        return false;
    size_t n = s->kind == STREAM_FILE ? strlen(text + 5) : strcspn(text + 5, ",");
    return n && copy(s->path, sizeof s->path, text + 5, n) && parse_flags(text + 5 + n, s);
}

/* --- Opening */
static bool failed(const struct stream *s, const char *what, char *error, size_t size)
{
    snprintf(error, size, "-%s: cannot %s %s%s%s: %s", s->label, what, s->spec.path, s->spec.kind == STREAM_TCP ? ":" : "", s->spec.port,
             errno ? strerror(errno) : "no such address");
    return false;
}

/* Another description of the same pipe or terminal, ours alone, so that it can be made not to block. */
static int own_output(int fd)
{
    struct stat st;
    if (fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode))) {
        char path[32];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        int own = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
        if (own >= 0)
            return own;
    }
    return dup(fd);
}

static bool open_pty(struct stream *s, char *error, size_t size)
{
    struct termios t;
    s->in = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    s->out = fcntl(s->in, F_DUPFD_CLOEXEC, 0);
    if (s->out < 0 || grantpt(s->in) || unlockpt(s->in))
        return failed(s, "open a", error, size);
    s->slave = open(ptsname(s->in), O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (s->slave >= 0 && tcgetattr(s->slave, &t) == 0) {
        cfmakeraw(&t);
        tcsetattr(s->slave, TCSANOW, &t);
    }
    fprintf(stderr, "char device redirected to %s (label %s)\n", ptsname(s->in), s->label);
    s->waits = false; /* there may be nobody */
    return true;
}

static void peer(struct stream *s, int fd)
{
    int one = 1;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    if (s->spec.kind == STREAM_TCP)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    pthread_mutex_lock(&s->lock);
    s->in = fd;
    s->out = fcntl(fd, F_DUPFD_CLOEXEC, 0); /* watched by itself */
    s->waiting_size = 0;
    pthread_mutex_unlock(&s->lock);
    /* WILL ECHO, WILL SUPPRESS-GO-AHEAD, WILL BINARY, DO BINARY (RFC 854, 856 to 858) */
    static const uint8_t hello[] = {255, 251, 1, 255, 251, 3, 255, 251, 0, 255, 253, 0};
    if (s->spec.telnet)
        stream_write(s, hello, sizeof hello);
}

static bool use_socket(struct stream *s, int fd, const struct sockaddr *address, socklen_t length, char *error, size_t size)
{
    int one = 1;
    if (!s->spec.server) {
        if (connect(fd, address, length))
            return failed(s, "connect to", error, size);
        peer(s, fd);
        return true;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, address, length) || listen(fd, 1))
        return failed(s, "listen at", error, size);
    s->listener = fd;
    return true;
}

static bool open_unix(struct stream *s, char *error, size_t size)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    errno = ENAMETOOLONG;
    if (!copy(address.sun_path, sizeof address.sun_path, s->spec.path, strlen(s->spec.path)))
        return failed(s, "use", error, size);
    struct stat st;
    if (s->spec.server && lstat(s->spec.path, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(s->spec.path); /* left by an earlier run */
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && use_socket(s, fd, (struct sockaddr *)&address, sizeof address, error, size);
    if (!ok && fd >= 0)
        close(fd);
    return ok;
}

static bool open_tcp(struct stream *s, char *error, size_t size)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = s->spec.server ? AI_PASSIVE : 0}, *list = NULL;
    bool ok = false;
    errno = 0;
    if (getaddrinfo(s->spec.path[0] ? s->spec.path : NULL, s->spec.port, &hints, &list))
        return failed(s, "find", error, size);
    for (struct addrinfo *a = list; a && !ok; a = a->ai_next) {
        int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ok = fd >= 0 && use_socket(s, fd, a->ai_addr, a->ai_addrlen, error, size);
        if (fd >= 0 && !ok)
            close(fd);
    }
    freeaddrinfo(list);
    return ok;
}

static bool open_kind(struct stream *s, char *error, size_t size)
{
    switch (s->spec.kind) {
    case STREAM_NULL: return true;
    case STREAM_STDIO:
        s->in = STDIN_FILENO;
        s->out = own_output(STDOUT_FILENO);
        return s->out >= 0 || failed(s, "use standard output", error, size);
    case STREAM_FILE:
        s->out = open(s->spec.path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        return s->out >= 0 || failed(s, "write", error, size);
    case STREAM_PTY: return open_pty(s, error, size);
    case STREAM_TCP: return open_tcp(s, error, size);
    case STREAM_UNIX: return open_unix(s, error, size);
    }
    return false;
}

/* As QEMU, a server that is not told `nowait` waits for its peer before the machine is made. */
static bool wait_for_peer(struct stream *s, char *error, size_t size)
{
    fprintf(stderr, "tierce: -%s: waiting for a connection at %s%s%s\n", s->label, s->spec.path, s->spec.kind == STREAM_TCP ? ":" : "", s->spec.port);
    int fd;
    while ((fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC)) < 0 && errno == EINTR)
        ;
    if (fd < 0)
        return failed(s, "accept at", error, size);
    peer(s, fd);
    return true;
}

struct stream *stream_open(const struct stream_spec *spec, const char *label, char *error, size_t error_size)
{
    struct stream *s = calloc(1, sizeof *s);
    if (!s) {
        snprintf(error, error_size, "out of memory");
        return NULL;
    }
    *s = (struct stream){.spec = *spec, .label = label, .listener = -1, .in = -1, .out = -1, .slave = -1, .timer = -1, .waits = true};
    pthread_mutex_init(&s->lock, NULL);
    if (open_kind(s, error, error_size) && (!s->spec.wait || wait_for_peer(s, error, error_size))) {
        struct stat st;
        int flags = s->out >= 0 ? fcntl(s->out, F_GETFL) : -1;
        s->is_socket = s->spec.kind == STREAM_STDIO && fstat(s->out, &st) == 0 && S_ISSOCK(st.st_mode);
        s->blocks = s->spec.kind == STREAM_STDIO && !(flags & O_NONBLOCK);
        return s;
    }
    stream_close(s);
    return NULL;
}

/* --- Output */
static ssize_t put_piece(const struct stream *s, const uint8_t *p, size_t size)
{
    if (s->is_socket)
        return send(s->out, p, size, MSG_DONTWAIT);
    if (s->blocks && poll(&(struct pollfd){s->out, POLLOUT, 0}, 1, 0) == 0)
        return errno = EAGAIN, -1;
    return write(s->out, p, s->blocks && size > PIECE ? PIECE : size);
}

/* How many of the bytes are done with: written, or nobody reads any more. */
static size_t put(const struct stream *s, const uint8_t *p, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = put_piece(s, p + done, size - done);
        if (n >= 0)
            done += (size_t)n;
        else if (errno == EAGAIN)
            return done;
        else if (errno != EINTR)
            return size;
    }
    return done;
}

static void put_waiting(struct stream *s)
{
    if (!s->waiting_size)
        return;
    size_t n = s->out >= 0 ? put(s, s->waiting + s->waiting_at, s->waiting_size) : s->waiting_size;
    s->waiting_size -= n;
    s->waiting_at = s->waiting_size ? s->waiting_at + n : 0;
}

static void keep(struct stream *s, const uint8_t *bytes, size_t size)
{
    if (s->waiting_size + size > KEPT)
        return;
    if (s->waiting_at)
        memmove(s->waiting, s->waiting + s->waiting_at, s->waiting_size);
    s->waiting_at = 0;
    if (s->waiting_size + size > s->waiting_room) {
        size_t room = 2 * (s->waiting_size + size);
        uint8_t *more = realloc(s->waiting, room);
        if (!more)
            return;
        s->waiting = more;
        s->waiting_room = room;
    }
    memcpy(s->waiting + s->waiting_size, bytes, size);
    s->waiting_size += size;
}

static void arm(struct stream *s, long ns)
{
    timerfd_settime(s->timer, 0, &(struct itimerspec){.it_value = {.tv_nsec = ns}}, NULL);
}

void stream_write(struct stream *s, const void *bytes, size_t size)
{
    pthread_mutex_lock(&s->lock);
    bool waited = s->waiting_size;
    size_t done = s->out < 0 ? size : waited ? 0 : put(s, bytes, size);
    if (done < size && s->waits)
        keep(s, (const uint8_t *)bytes + done, size - done);
    bool wake = !waited && s->waiting_size && s->timer >= 0;
    pthread_mutex_unlock(&s->lock);
    if (wake)
        arm(s, 1);
}

/* In the main loop: more of what waits goes. */
static void on_writable(void *ctx, short events);
static void watch_output(struct stream *s, bool on)
{
    if (s->out_watched != on && machine_watch(s->machine, s->out, on ? POLLOUT : 0, on_writable, s))
        s->out_watched = on;
}

static void look_at_output(struct stream *s)
{
    pthread_mutex_lock(&s->lock);
    bool waits = s->waiting_size;
    pthread_mutex_unlock(&s->lock);
    watch_output(s, waits);
}

static void tell_drained(struct stream *s)
{
    pthread_mutex_lock(&s->lock);
    bool low = s->waiting_size < FULL / 2, full = low && s->full, stalls = low && s->stalls;
    s->full &= !full;
    s->stalls &= !stalls;
    pthread_mutex_unlock(&s->lock);
    if (full && s->drained)
        s->drained(s->drained_ctx);
    if (stalls)
        machine_output_stall(s->machine, false);
}

static void on_writable(void *ctx, short events)
{
    struct stream *s = ctx;
    (void)events;
    pthread_mutex_lock(&s->lock);
    put_waiting(s);
    pthread_mutex_unlock(&s->lock);
    look_at_output(s);
    tell_drained(s);
}

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* At the end, as long as somebody reads. */
static void flush(struct stream *s)
{
    uint64_t end = now_ms() + PATIENCE_MOST_MS;
    while (s->waiting_size && now_ms() < end && poll(&(struct pollfd){s->out, POLLOUT, 0}, 1, PATIENCE_MS) > 0)
        put_waiting(s);
}

void stream_close(struct stream *s)
{
    if (!s)
        return;
    flush(s);
    if (s->in > STDERR_FILENO)
        close(s->in);
    if (s->out >= 0)
        close(s->out);
    if (s->slave >= 0)
        close(s->slave);
    if (s->listener >= 0)
        close(s->listener);
    if (s->listener >= 0 && s->spec.kind == STREAM_UNIX)
        unlink(s->spec.path);
    if (s->timer >= 0)
        close(s->timer);
    pthread_mutex_destroy(&s->lock);
    free(s->waiting);
    free(s);
}

/* --- Input */
static void on_input(void *ctx, short events);
static void on_peer(void *ctx, short events);

static void watch(struct stream *s, bool on)
{
    if (s->in >= 0)
        machine_watch(s->machine, s->in, on ? POLLIN : 0, on_input, s);
}

/* The other side is gone.  A server waits for the next one; the guest goes on. */
static void hang_up(struct stream *s)
{
    watch(s, false);
    if (s->spec.kind == STREAM_STDIO) {
        s->in = -1;
        return;
    }
    watch_output(s, false);
    pthread_mutex_lock(&s->lock);
    close(s->in);
    close(s->out);
    s->in = s->out = -1;
    s->waiting_size = 0;
    pthread_mutex_unlock(&s->lock);
    tell_drained(s);
    s->pending_size = 0;
    if (s->opened)
        s->opened(s->ctx, false);
    if (s->listener >= 0)
        machine_watch(s->machine, s->listener, POLLIN, on_peer, s);
}

void stream_offer(struct stream *s)
{
    if (atomic_exchange(&s->refused, false))
        arm(s, 1);
}

static void offer(struct stream *s)
{
    atomic_store(&s->refused, true); /* before it is: room may come meanwhile */
    size_t n = s->input(s->ctx, s->pending, s->pending_size);
    memmove(s->pending, s->pending + n, s->pending_size -= n);
    if (s->pending_size)
        arm(s, RETRY_NS);
    watch(s, !s->pending_size);
    look_at_output(s); /* which may have armed the timer too */
}

static void on_timer(void *ctx, short events)
{
    struct stream *s = ctx;
    uint64_t count;
    (void)events;
    if (read(s->timer, &count, sizeof count) <= 0)
        return;
    look_at_output(s);
    if (s->pending_size)
        offer(s);
}

/* Drops telnet's commands: IAC and two bytes more, or all of a subnegotiation (RFC 854, 855). */
static size_t telnet_filter(struct stream *s, uint8_t *bytes, size_t size)
{
    enum { IAC = 255, SE = 240, SB = 250, WILL = 251 };
    size_t kept = 0;
    for (size_t i = 0; i < size; i++) {
        uint8_t b = bytes[i];
        if (s->telnet_skip == 2) { /* the byte after IAC */
            s->telnet_skip = b >= WILL && b != IAC ? 1 : 0;
            s->telnet_sub = b == SB || (s->telnet_sub && b != SE);
            if (b == IAC && !s->telnet_sub)
                bytes[kept++] = b;
        } else if (s->telnet_skip) {
            s->telnet_skip = 0;
        } else if (b == IAC) {
            s->telnet_skip = 2;
        } else if (!s->telnet_sub && b) { /* NUL follows a bare CR */
            bytes[kept++] = b;
        }
    }
    return kept;
}

static void on_input(void *ctx, short events)
{
    struct stream *s = ctx;
    (void)events;
    ssize_t n = read(s->in, s->pending, sizeof s->pending);
    if (n > 0) {
        s->pending_size = s->spec.telnet ? telnet_filter(s, s->pending, (size_t)n) : (size_t)n;
        offer(s);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        hang_up(s);
    }
}

static void on_peer(void *ctx, short events)
{
    struct stream *s = ctx;
    (void)events;
    int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    machine_watch(s->machine, s->listener, 0, NULL, NULL); /* one peer at a time */
    peer(s, fd);
    watch(s, true);
    if (s->opened)
        s->opened(s->ctx, true);
}

bool stream_attach(struct stream *s, struct machine *m)
{
    s->machine = m;
    s->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (s->timer < 0 || !machine_watch(m, s->timer, POLLIN, on_timer, s))
        return false;
    look_at_output(s);
    return true;
}

bool stream_start(struct stream *s, struct machine *m, stream_input_fn *input, stream_opened_fn *opened, void *ctx)
{
    s->input = input;
    s->opened = opened;
    s->ctx = ctx;
    if (!stream_attach(s, m))
        return false;
    if (s->in >= 0) {
        if (!machine_watch(m, s->in, POLLIN, on_input, s))
            return false;
        if (opened)
            opened(ctx, true);
    } else if (s->listener >= 0) {
        return machine_watch(m, s->listener, POLLIN, on_peer, s);
    }
    return true;
}

void stream_print(struct stream *s, const char *text) { stream_write(s, text, strlen(text)); }
/* With the machine locked, as is_full. */
static void chardev_write(void *ctx, const uint8_t *bytes, size_t size)
{
    struct stream *s = ctx;
    stream_write(s, bytes, size);
    pthread_mutex_lock(&s->lock);
    bool stall = s->machine && s->waiting_size >= STALLED && !s->stalls;
    s->stalls |= stall;
    pthread_mutex_unlock(&s->lock);
    if (stall)
        machine_output_stall(s->machine, true);
}

static bool chardev_is_full(void *ctx)
{
    struct stream *s = ctx;
    pthread_mutex_lock(&s->lock);
    bool full = s->waiting_size >= FULL;
    s->full |= full;
    pthread_mutex_unlock(&s->lock);
    return full;
}

struct chardev stream_chardev(struct stream *s) { return (struct chardev){chardev_write, s, chardev_is_full}; }
void stream_on_drained(struct stream *s, void (*drained)(void *), void *ctx)
{
    s->drained = drained;
    s->drained_ctx = ctx;
}
bool stream_echoes(const struct stream *s) { return s->spec.kind == STREAM_STDIO ? terminal_is_raw() : s->spec.kind == STREAM_PTY || s->spec.telnet; }
bool stream_is_stdio(const struct stream *s) { return s->spec.kind == STREAM_STDIO; }
