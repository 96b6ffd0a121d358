/* The terminal: raw mode that is always undone. */
#include "tools/tierce/terminal.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

/* Process-wide as the terminal is: signal handlers have no other way to it. */
static struct termios saved, raw;
static volatile sig_atomic_t is_raw;

void terminal_restore(void)
{
    if (is_raw)
        tcsetattr(STDIN_FILENO, TCSANOW, &saved);
}

bool terminal_is_raw(void) { return is_raw; }

static void fatal(int sig)
{
    terminal_restore();
    signal(sig, SIG_DFL);
    raise(sig);
}

static void resumed(int sig)
{
    (void)sig;
    if (is_raw)
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

void terminal_raw(void)
{
    static const int ending[] = {SIGHUP, SIGQUIT, SIGABRT, SIGBUS, SIGILL, SIGFPE};
    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &saved))
        return;
    raw = saved;
    raw.c_iflag &= ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    raw.c_oflag |= OPOST;
    raw.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | IEXTEN | ISIG);
    raw.c_cflag = (raw.c_cflag & ~(tcflag_t)(CSIZE | PARENB)) | CS8;
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    is_raw = 1;
    atexit(terminal_restore);
    for (unsigned i = 0; i < sizeof ending / sizeof *ending; i++)
        signal(ending[i], fatal);
    signal(SIGCONT, resumed);
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

void terminal_write(int fd, const void *bytes, size_t size)
{
    const char *p = bytes;
    while (size) {
        ssize_t n = write(fd, p, size);
        if (n > 0) {
            p += n;
            size -= (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            poll(&(struct pollfd){fd, POLLOUT, 0}, 1, -1);
        } else if (n < 0 && errno != EINTR) {
            return; /* nobody reads any more */
        }
    }
}
