/* The host's CPU as the reference: see oracle.h. */
#define _GNU_SOURCE
#include "tests/silicon/oracle.h"
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static uint8_t *code_alias, *data_alias;
static struct oracle_state *running;      /* what the handler puts in and takes out */
static ucontext_t outside;
static struct oracle_fx outside_fx;
static enum { IDLE, ENTER, INSIDE } phase;

const void *(*oracle_resume)(const void *pc);

/* enum x86_gpr order */
static const int greg[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                             REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static void load(ucontext_t *u)
{
    for (unsigned i = 0; i < 16; i++)
        u->uc_mcontext.gregs[greg[i]] = (greg_t)running->gpr[i];
    u->uc_mcontext.gregs[REG_RIP] = (greg_t)running->rip;
    u->uc_mcontext.gregs[REG_EFL] = (greg_t)running->rflags;
    memcpy(u->uc_mcontext.fpregs, &running->fx, 416);
}

static void store(const ucontext_t *u, int trap)
{
    for (unsigned i = 0; i < 16; i++)
        running->gpr[i] = (uint64_t)u->uc_mcontext.gregs[greg[i]];
    running->rip = (uint64_t)u->uc_mcontext.gregs[REG_RIP] - (trap == 3);
    running->rflags = (uint64_t)u->uc_mcontext.gregs[REG_EFL];
    running->trap = trap;
    running->error = (uint64_t)u->uc_mcontext.gregs[REG_ERR];
    running->cr2 = (uint64_t)u->uc_mcontext.gregs[REG_CR2];
    memcpy(&running->fx, u->uc_mcontext.fpregs, 416);
}

static void handler(int sig, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    (void)info;
    if (phase == ENTER && sig == SIGTRAP) {
        memcpy(outside.uc_mcontext.gregs, u->uc_mcontext.gregs, sizeof u->uc_mcontext.gregs);
        memcpy(&outside_fx, u->uc_mcontext.fpregs, 416);
        load(u);
        phase = INSIDE;
    } else if (phase == INSIDE) {
        store(u, (int)u->uc_mcontext.gregs[REG_TRAPNO]);
        memcpy(u->uc_mcontext.gregs, outside.uc_mcontext.gregs, sizeof u->uc_mcontext.gregs);
        memcpy(u->uc_mcontext.fpregs, &outside_fx, 416);
        phase = IDLE;
    } else {
        const void *at = oracle_resume && sig == SIGSEGV ? oracle_resume((const void *)u->uc_mcontext.gregs[REG_RIP]) : NULL;
        if (at)
            u->uc_mcontext.gregs[REG_RIP] = (greg_t)at;
        else
            signal(sig, SIG_DFL);
    }
}

static uint8_t *map_twice(uint64_t at, size_t size, int prot)
{
    int fd = memfd_create("oracle", 0);
    if (fd < 0 || ftruncate(fd, (off_t)size))
        return NULL;
    void *fixed = mmap((void *)at, size, prot, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
    void *alias = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return fixed == MAP_FAILED || alias == MAP_FAILED ? NULL : alias;
}

bool oracle_init(void)
{
    static uint8_t stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction a = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    code_alias = map_twice(ORACLE_CODE, 3 * 4096, PROT_READ | PROT_EXEC);
    data_alias = map_twice(ORACLE_DATA, ORACLE_DATA_SIZE, PROT_READ | PROT_WRITE);
    if (!code_alias || !data_alias || sigaltstack(&alternate, NULL))
        return false;
    static const int signals[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
        if (sigaction(signals[i], &a, NULL))
            return false;
    return true;
}

uint8_t *oracle_code(void) { return code_alias; }
uint8_t *oracle_data(void) { return data_alias; }

void oracle_run(struct oracle_state *s)
{
    running = s;
    phase = ENTER;
    __asm__ volatile("int3" ::: "memory", "cc");
}
