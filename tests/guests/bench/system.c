/* The system: what a kernel does for a program, and a translator must do for a kernel. */
#define _GNU_SOURCE
#include "bench.h"
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(int ok)
{
    if (!ok)
        _exit(99);
}

uint64_t system_syscall(void)
{
    uint64_t bad = 0;
    long me = syscall(SYS_getpid);
    for (int i = 0; i < 10000; i++)
        bad += syscall(SYS_getpid) != me;
    return bad;
}

/* Two processes pass a byte back and forth. */
uint64_t system_switch(void)
{
    int there[2], back[2];
    char c = 0;
    must(!pipe(there) && !pipe(back));
    pid_t child = fork();
    if (child == 0) {
        while (read(there[0], &c, 1) == 1 && c != 'q')
            if (write(back[1], &c, 1) != 1)
                break;
        _exit(0);
    }
    for (int i = 0; i < 400; i++)
        must(write(there[1], "x", 1) == 1 && read(back[0], &c, 1) == 1);
    must(write(there[1], "q", 1) == 1);
    waitpid(child, NULL, 0);
    close(there[0]), close(there[1]), close(back[0]), close(back[1]);
    return (uint64_t)c;
}

uint64_t system_pipe(void)
{
    static char block[4096];
    int ends[2];
    uint64_t sum = 0;
    must(!pipe(ends));
    for (int i = 0; i < 1500; i++) {
        block[i & 4095] = (char)i;
        must(write(ends[1], block, sizeof block) == sizeof block && read(ends[0], block, sizeof block) == sizeof block);
        sum += (uint8_t)block[(i * 7) & 4095];
    }
    close(ends[0]), close(ends[1]);
    memset(block, 0, sizeof block);
    return sum;
}

static uint64_t wait_for(pid_t child)
{
    int status = -1;
    must(waitpid(child, &status, 0) == child);
    return (uint64_t)status;
}

uint64_t system_fork(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(i);
        sum += wait_for(child);
    }
    return sum;
}

uint64_t system_exec(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < 5; i++) {
        pid_t child = fork();
        if (child == 0) {
            execl(bench_self, bench_self, "--exit", (char *)NULL);
            _exit(1);
        }
        sum += wait_for(child);
    }
    return sum;
}

uint64_t system_faults(void)
{
    size_t size = 4 << 20;
    uint64_t sum = 0;
    uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(p != MAP_FAILED);
    madvise(p, size, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < size; i += 4096) {
        sum += p[i];
        p[i] = (uint8_t)(i >> 12);
    }
    for (size_t i = 0; i < size; i += 4096)
        sum += p[i];
    munmap(p, size);
    return sum;
}

/* Small mappings come and go, and change their rights. */
uint64_t system_mmap(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < 600; i++) {
        uint8_t *p = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        must(p != MAP_FAILED);
        p[4096] = (uint8_t)i;
        must(!mprotect(p, 16384, PROT_READ));
        sum += p[4096];
        munmap(p, 16384);
    }
    return sum;
}

static volatile sig_atomic_t signals;
static void count_signal(int number) { signals += number; }
uint64_t system_signals(void)
{
    struct sigaction action = {.sa_handler = count_signal}, old;
    signals = 0;
    sigaction(SIGUSR1, &action, &old);
    for (int i = 0; i < 1500; i++)
        raise(SIGUSR1);
    sigaction(SIGUSR1, &old, NULL);
    return (uint64_t)signals;
}
