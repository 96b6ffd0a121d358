/* SIGSEGV in translated code: a guest access at a non-canonical address, which the flat tables send to a
 * non-canonical host address (backend-tcg.h).  It goes on at the access's slow path.  Any other SIGSEGV is a
 * bug of ours, for whoever handled the signal before. */
#define _GNU_SOURCE
#include "runtime/internal.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

static __thread struct vcpu *running;
static struct sigaction before_segv, before_bus; /* the process's, as the handler is */
#define ALT_STACK (64u * 1024)

static void on_segv(int number, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    void *pc = (void *)u->uc_mcontext.gregs[REG_RIP];
    if (running && tcg_buffer_contains(running->tbs.buffer, pc)) {
        struct tb *tb = tb_at_host(running, pc);
        const void *resume = tb ? tcg_fault_resume(&tb->code, pc) : NULL;
        if (resume) {
            u->uc_mcontext.gregs[REG_RIP] = (greg_t)resume;
            return;
        }
    }
    sigaction(number, number == SIGSEGV ? &before_segv : &before_bus, NULL); /* returns to the fault, which now goes there */
    if (info->si_code <= 0)
        raise(number); /* it was sent: nothing is repeated */
}

bool signals_install(char *error, size_t size)
{
    struct sigaction action = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    struct sigaction old;
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGSEGV, NULL, &old) == 0 && old.sa_sigaction == on_segv)
        return true; /* another machine's */
    if (sigaction(SIGSEGV, &action, &before_segv) == 0 && sigaction(SIGBUS, &action, &before_bus) == 0)
        return true;
    snprintf(error, size, "cannot install the SIGSEGV handler");
    return false;
}

void signals_thread(struct vcpu *v)
{
    stack_t stack = {.ss_size = ALT_STACK};
    stack.ss_sp = mmap(NULL, ALT_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack.ss_sp != MAP_FAILED)
        sigaltstack(&stack, NULL);
    running = v;
}

void signals_thread_end(void)
{
    stack_t off = {.ss_flags = SS_DISABLE}, old;
    running = NULL;
    if (sigaltstack(&off, &old) == 0 && old.ss_sp)
        munmap(old.ss_sp, old.ss_size);
}
