/* Pipes to and from a child, read with a time limit.  Writes to a child that has gone are ignored; the next read tells. */
#define _GNU_SOURCE
#include "tools/tierce-bench/session.h"
#include "tools/tierce-bench/bench.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void child(const char *const argv[], int in, int out)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(in, 0);
    dup2(out, 1);
    dup2(out, 2);
    execvp(argv[0], (char *const *)argv);
    dprintf(2, "cannot start %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

bool session_start(struct session *s, const char *const argv[])
{
    int in[2], out[2];
    memset(s, 0, sizeof *s);
    if (pipe2(in, O_CLOEXEC))
        return false;
    if (pipe2(out, O_CLOEXEC)) {
        close(in[0]), close(in[1]);
        return false;
    }
    s->started = now_ns();
    s->pid = fork();
    if (s->pid == 0)
        child(argv, in[0], out[1]);
    close(in[0]), close(out[1]);
    s->to = in[1];
    s->from = out[0];
    if (s->pid > 0)
        return true;
    close(s->to), close(s->from);
    return false;
}

/* Drops the first `count` bytes; remembers the last line of them. */
static void consume(struct session *s, size_t count)
{
    size_t end = count, start;
    while (end && isspace((unsigned char)s->buffer[end - 1]))
        end--;
    for (start = end; start && s->buffer[start - 1] != '\n';)
        start--;
    if (end > start) {
        size_t n = end - start < sizeof s->last - 1 ? end - start : sizeof s->last - 1;
        memcpy(s->last, s->buffer + start, n);
        s->last[n] = 0;
    }
    memmove(s->buffer, s->buffer + count, s->have - count);
    s->have -= count;
    s->buffer[s->have] = 0;
}

static enum session_result fill(struct session *s, double until)
{
    struct pollfd p = {.fd = s->from, .events = POLLIN};
    double left = (until - now_ns()) / 1e6;
    if (s->have >= sizeof s->buffer - 1024)
        consume(s, s->have / 2);
    if (left <= 0 || poll(&p, 1, (int)left + 1) == 0)
        return SESSION_TIMEOUT;
    ssize_t n = read(s->from, s->buffer + s->have, sizeof s->buffer - 1 - s->have);
    if (n < 0 && errno == EINTR)
        return SESSION_OK;
    if (n <= 0) {
        s->ended = true;
        consume(s, s->have);
        return SESSION_ENDED;
    }
    for (ssize_t i = 0; i < n; i++) /* a console may send what a C string cannot hold */
        if (!s->buffer[s->have + (size_t)i])
            s->buffer[s->have + (size_t)i] = ' ';
    s->have += (size_t)n;
    s->buffer[s->have] = 0;
    return SESSION_OK;
}

enum session_result session_expect(struct session *s, const char *text, double timeout_s)
{
    double until = now_ns() + timeout_s * 1e9;
    for (;;) {
        char *at = strstr(s->buffer, text);
        if (at) {
            consume(s, (size_t)(at - s->buffer) + strlen(text));
            return SESSION_OK;
        }
        enum session_result r = fill(s, until);
        if (r != SESSION_OK)
            return r;
    }
}

enum session_result session_line(struct session *s, const char *mark, double timeout_s, char *line, size_t size)
{
    double until = now_ns() + timeout_s * 1e9;
    for (;;) {
        char *at = strstr(s->buffer, mark), *end = at ? strchr(at, '\n') : NULL;
        if (end) {
            size_t n = (size_t)(end - at) < size - 1 ? (size_t)(end - at) : size - 1;
            memcpy(line, at, n);
            line[n] = 0;
            consume(s, (size_t)(end - s->buffer) + 1);
            return SESSION_OK;
        }
        enum session_result r = fill(s, until);
        if (r != SESSION_OK)
            return r;
    }
}

void session_send(struct session *s, const char *text)
{
    if (write(s->to, text, strlen(text)) < 0)
        s->ended = true;
}

int session_finish(struct session *s, double timeout_s, char *json, size_t size)
{
    double until = now_ns() + timeout_s * 1e9;
    char line[4096];
    int status = 0;
    while (session_line(s, json ? "{\"" : "\n", (until - now_ns()) / 1e9, line, sizeof line) == SESSION_OK)
        if (json)
            memcpy(json, line, strlen(line) < size ? strlen(line) + 1 : 0);
    close(s->to);
    while (!s->ended && fill(s, until) == SESSION_OK)
        ;
    if (!s->ended)
        kill(s->pid, SIGKILL);
    close(s->from);
    struct rusage used = {0};
    wait4(s->pid, &status, 0, &used);
    s->cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    return status;
}
