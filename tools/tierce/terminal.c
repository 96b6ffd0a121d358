/* The terminal: raw mode that is always undone. */
#define _GNU_SOURCE
#include "tools/tierce/terminal.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

/* Process-wide as the terminal is: signal handlers have no other way to it. */
static struct termios saved, raw;
static volatile sig_atomic_t is_raw;

/* tcsetattr from a process that is no longer in the foreground would stop it. */
static void set(const struct termios *mode)
{
    sigset_t ttou, old;
    sigemptyset(&ttou);
    sigaddset(&ttou, SIGTTOU);
    pthread_sigmask(SIG_BLOCK, &ttou, &old);
    tcsetattr(STDIN_FILENO, TCSANOW, mode);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void terminal_restore(void)
{
    if (is_raw)
        set(&saved);
}

bool terminal_is_raw(void) { return is_raw; }

static void fatal(int sig)
{
    terminal_restore();
    signal(sig, SIG_DFL);
    raise(sig); /* blocked until this returns */
}

static void suspended(int sig)
{
    int before = errno;
    (void)sig;
    terminal_restore();
    kill(getpid(), SIGSTOP);
    errno = before;
}

static void resumed(int sig)
{
    int before = errno;
    (void)sig;
    if (is_raw)
        set(&raw);
    errno = before;
}

void terminal_init(void)
{
    static const int ending[] = {SIGQUIT, SIGABRT, SIGBUS, SIGILL, SIGFPE, SIGSEGV, SIGXCPU, SIGXFSZ};
    struct sigaction action = {.sa_handler = fatal, .sa_flags = SA_ONSTACK};
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
            _exit(1);
    sigemptyset(&action.sa_mask);
    for (unsigned i = 0; i < sizeof ending / sizeof *ending; i++)
        sigaction(ending[i], &action, NULL);
    action.sa_flags |= SA_RESTART;
    action.sa_handler = suspended;
    sigaction(SIGTSTP, &action, NULL);
    action.sa_handler = resumed;
    sigaction(SIGCONT, &action, NULL);
    atexit(terminal_restore);
}

void terminal_raw(bool signals)
{
    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &saved))
        return;
    raw = saved;
    raw.c_iflag &= ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    raw.c_oflag |= OPOST;
    raw.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | IEXTEN | (signals ? 0 : ISIG));
    raw.c_cflag = (raw.c_cflag & ~(tcflag_t)(CSIZE | PARENB)) | CS8;
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    is_raw = 1;
    set(&raw);
}
