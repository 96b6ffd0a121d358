/* The host's CPU as the reference: see oracle.h.  While the guest runs, FS and GS are its own: the handler gives this
 * process its back before anything else, by system calls made in line. */
#define _GNU_SOURCE
#include "tests/silicon/oracle.h"
#include <asm/ldt.h>
#include <asm/prctl.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* Indices in the LDT, as modify_ldt fills it; selectors of it with RPL 3. */
enum { LDT_CODE16, LDT_CODE32, LDT_DATA16, LDT_DATA16_SMALL, LDT_DATA32, LDT_DATA32_SMALL, LDT_DOWN16, LDT_READ_ONLY16, LDT_DOWN32, LDT_READ_ONLY32, LDT_COUNT };
#define LDT(n) ((n) << 3 | 7)
enum { SMALL = 0x2fff, DOWN = 0x0fff };
#define NULL_SEGMENT {0, 0x10000, 0, 0}
#define FLAT_DATA {0x2b, 0xc0f3, 0xffffffff, 0}

const struct oracle_mode oracle_modes[ORACLE_MODES] = {
    [ORACLE_64] = {"64-bit", 64, false, {FLAT_DATA, {0x33, 0xa0fb, 0xffffffff, 0}, FLAT_DATA, FLAT_DATA, {0, 0x10000, 0, ORACLE_DATA + 0x40}, {0, 0x10000, 0, ORACLE_DATA + 0x1000}}},
    [ORACLE_32] = {"32-bit flat", 32, false, {FLAT_DATA, {0x23, 0xc0fb, 0xffffffff, 0}, FLAT_DATA, FLAT_DATA, NULL_SEGMENT, NULL_SEGMENT}},
    [ORACLE_32S] = {"32-bit segmented", 32, true, {{LDT(LDT_DATA32_SMALL), 0x40f3, SMALL, ORACLE_DATA}, {LDT(LDT_CODE32), 0x40fb, ORACLE_CODE_SIZE - 1, ORACLE_CODE},
        {LDT(LDT_DATA32), 0xc0f3, 0xffffffff, ORACLE_DATA}, {LDT(LDT_DATA32), 0xc0f3, 0xffffffff, ORACLE_DATA},
        {LDT(LDT_DOWN32), 0x40f7, DOWN, ORACLE_DATA}, {LDT(LDT_READ_ONLY32), 0x40f1, SMALL, ORACLE_DATA}}},
    [ORACLE_16] = {"16-bit", 16, true, {{LDT(LDT_DATA16_SMALL), 0xf3, SMALL, ORACLE_DATA}, {LDT(LDT_CODE16), 0xfb, 0xffff, ORACLE_CODE},
        {LDT(LDT_DATA16), 0xf3, 0xffff, ORACLE_DATA}, {LDT(LDT_DATA16), 0xf3, 0xffff, ORACLE_DATA},
        {LDT(LDT_DOWN16), 0xf7, DOWN, ORACLE_DATA}, {LDT(LDT_READ_ONLY16), 0xf1, SMALL, ORACLE_DATA}}},
};

static uint8_t *code_alias, *data_alias;
static const char *no_ldt;
uint64_t oracle_gdt[ORACLE_GDT], oracle_ldt[ORACLE_LDT];
_Static_assert((int)LDT_COUNT == (int)ORACLE_LDT, "the LDT's size stands in oracle.h too");
static struct oracle_state *running;      /* what the handler puts in and takes out */
static const struct oracle_mode *mode;
static ucontext_t outside;
static struct oracle_fx outside_fx;
static uint64_t outside_fs, outside_gs, outside_mask;
static unsigned ticks;
static uint64_t inside_mask;              /* signals that wait while the guest runs: their handlers want this process's FS */
static enum { IDLE, ENTER, INSIDE } phase;

const void *(*oracle_resume)(const void *pc);

/* enum x86_gpr order */
static const int greg[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                             REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

#ifdef __clang__
#define SHADOWED __has_feature(address_sanitizer)
#elif defined __SANITIZE_ADDRESS__
#define SHADOWED true
#else
#define SHADOWED false
#endif

/* Code that touches no thread-local storage: no stack protector, no sanitizer, no coverage counters. */
#ifdef __clang__
#define BARE __attribute__((no_stack_protector, no_sanitize("address", "undefined", "thread", "coverage"))) static
#else
#define BARE __attribute__((no_stack_protector, no_sanitize("address", "undefined", "thread"))) static
#endif
BARE inline long prctl_bare(long what, uint64_t value)
{
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "a"((long)SYS_arch_prctl), "D"(what), "S"(value) : "rcx", "r11", "memory");
    return r;
}

BARE void load(ucontext_t *u)
{
    for (unsigned i = 0; i < 16; i++)
        u->uc_mcontext.gregs[greg[i]] = (greg_t)running->gpr[i];
    u->uc_mcontext.gregs[REG_RIP] = (greg_t)running->rip;
    u->uc_mcontext.gregs[REG_EFL] = (greg_t)running->rflags;
    u->uc_mcontext.gregs[REG_CSGSFS] = (greg_t)((uint64_t)mode->seg[1].selector | (uint64_t)mode->seg[2].selector << 48);
    __builtin_memcpy(u->uc_mcontext.fpregs, &running->fx, 416);
}

BARE void store(const ucontext_t *u, int trap)
{
    for (unsigned i = 0; i < 16; i++)
        running->gpr[i] = (uint64_t)u->uc_mcontext.gregs[greg[i]];
    running->rip = (uint64_t)u->uc_mcontext.gregs[REG_RIP] - (trap == 3);
    running->rflags = (uint64_t)u->uc_mcontext.gregs[REG_EFL];
    running->trap = trap;
    running->error = (uint64_t)u->uc_mcontext.gregs[REG_ERR];
    running->cr2 = (uint64_t)u->uc_mcontext.gregs[REG_CR2];
    __builtin_memcpy(&running->fx, u->uc_mcontext.fpregs, 416);
}

/* Nothing of this process's thread-local storage may be touched after it. */
BARE void segments_enter(void)
{
    const struct oracle_segment *s = mode->seg;
    __asm__ volatile("mov %w0, %%es\n\tmov %w1, %%ds" :: "r"((unsigned)s[0].selector), "r"((unsigned)s[3].selector));
    if (mode->bits == 64) {
        prctl_bare(ARCH_SET_GS, s[5].base);
        prctl_bare(ARCH_SET_FS, s[4].base);
    } else {
        __asm__ volatile("mov %w0, %%gs\n\tmov %w1, %%fs" :: "r"((unsigned)s[5].selector), "r"((unsigned)s[4].selector));
    }
}

BARE void segments_leave(ucontext_t *u)
{
    uint64_t both = (uint64_t)u->uc_mcontext.gregs[REG_CSGSFS];
    uint16_t *seg = running->seg;
    __asm__ volatile("mov %%es, %0\n\tmov %%ds, %1\n\tmov %%fs, %2\n\tmov %%gs, %3" : "=m"(seg[0]), "=m"(seg[3]), "=m"(seg[4]), "=m"(seg[5]));
    seg[1] = (uint16_t)both;
    seg[2] = (uint16_t)(both >> 48);
    prctl_bare(ARCH_SET_FS, outside_fs);
    prctl_bare(ARCH_SET_GS, outside_gs);
    __asm__ volatile("pushfq\n\tandl $~0x244000, (%%rsp)\n\tpopfq" ::: "memory", "cc"); /* AC, ID, NT off: no signal frame does it */
}

BARE void resume_or_die(int sig, ucontext_t *u)
{
    const void *at = oracle_resume && sig == SIGSEGV ? oracle_resume((const void *)u->uc_mcontext.gregs[REG_RIP]) : NULL;
    if (at)
        u->uc_mcontext.gregs[REG_RIP] = (greg_t)at;
    else
        signal(sig, SIG_DFL);
}

BARE void handler(int sig, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    (void)info;
    if (phase == INSIDE)
        segments_leave(u);
    if (sig == SIGVTALRM) { /* the second tick in one run: it hangs */
        if (phase != INSIDE)
            return;
        if (ticks++ == 0) {
            segments_enter();
            return;
        }
    }
    if (phase == ENTER && sig == SIGTRAP) {
        __builtin_memcpy(outside.uc_mcontext.gregs, u->uc_mcontext.gregs, sizeof u->uc_mcontext.gregs);
        __builtin_memcpy(&outside_fx, u->uc_mcontext.fpregs, 416);
        __builtin_memcpy(&outside_mask, &u->uc_sigmask, sizeof outside_mask);
        __builtin_memcpy(&u->uc_sigmask, &inside_mask, sizeof inside_mask);
        prctl_bare(ARCH_GET_GS, (uint64_t)(uintptr_t)&outside_gs);
        load(u);
        phase = INSIDE;
        segments_enter();
    } else if (phase == INSIDE) {
        store(u, sig == SIGVTALRM ? -1 : (int)u->uc_mcontext.gregs[REG_TRAPNO]);
        __builtin_memcpy(u->uc_mcontext.gregs, outside.uc_mcontext.gregs, sizeof u->uc_mcontext.gregs);
        __builtin_memcpy(u->uc_mcontext.fpregs, &outside_fx, 416);
        __builtin_memcpy(&u->uc_sigmask, &outside_mask, sizeof outside_mask);
        phase = IDLE;
    } else {
        resume_or_die(sig, u);
    }
}

static uint8_t *map_twice(uint64_t at, size_t size, size_t read_only, int prot)
{
    int fd = memfd_create("oracle", 0);
    if (fd < 0 || ftruncate(fd, (off_t)size))
        return NULL;
    void *fixed = mmap((void *)at, size, prot, MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE, fd, 0);
    void *alias = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (fixed == MAP_FAILED || alias == MAP_FAILED || (read_only && mprotect((char *)fixed + size - read_only, read_only, PROT_READ)))
        return NULL;
    return alias;
}

static void ldt_fill(void)
{
    enum { DATA, EXPAND_DOWN, CODE };
    static const struct { unsigned contents, wide, limit, pages, read_only; uint32_t base; } rows[LDT_COUNT] = {
        [LDT_CODE16] = {CODE, 0, 0xffff, 0, 0, ORACLE_CODE},     [LDT_CODE32] = {CODE, 1, ORACLE_CODE_SIZE - 1, 0, 0, ORACLE_CODE},
        [LDT_DATA16] = {DATA, 0, 0xffff, 0, 0, ORACLE_DATA},     [LDT_DATA16_SMALL] = {DATA, 0, SMALL, 0, 0, ORACLE_DATA},
        [LDT_DATA32] = {DATA, 1, 0xfffff, 1, 0, ORACLE_DATA},    [LDT_DATA32_SMALL] = {DATA, 1, SMALL, 0, 0, ORACLE_DATA},
        [LDT_DOWN16] = {EXPAND_DOWN, 0, DOWN, 0, 0, ORACLE_DATA}, [LDT_READ_ONLY16] = {DATA, 0, SMALL, 0, 1, ORACLE_DATA},
        [LDT_DOWN32] = {EXPAND_DOWN, 1, DOWN, 0, 0, ORACLE_DATA}, [LDT_READ_ONLY32] = {DATA, 1, SMALL, 0, 1, ORACLE_DATA},
    };
    for (unsigned i = 0; i < LDT_COUNT; i++) {
        struct user_desc d = {.entry_number = i, .base_addr = rows[i].base, .limit = rows[i].limit, .seg_32bit = rows[i].wide,
                              .contents = rows[i].contents, .read_exec_only = rows[i].read_only, .limit_in_pages = rows[i].pages};
        if (syscall(SYS_modify_ldt, 0x11, &d, sizeof d)) {
            static char why[80];
            snprintf(why, sizeof why, "the host's kernel refuses modify_ldt of entry %u: %s", i, strerror(errno));
            no_ldt = why;
            return;
        }
    }
}

/* What is hidden from user mode stays 0: to load it is #GP in either case.  Linux keeps the CPU's number in the limit of an
 * entry: from here on it is always the same CPU. */
static void gdt_ask(void)
{
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET((unsigned)sched_getcpu(), &here);
    sched_setaffinity(0, sizeof here, &here);
    for (unsigned i = 1; i < ORACLE_GDT; i++) {
        uint32_t rights = 0, limit = 0, selector = i << 3 | 3;
        bool told;
        __asm__("lar %k2, %0\n\tsetz %1" : "+r"(rights), "=qm"(told) : "r"(selector) : "cc");
        if (!told)
            continue;
        __asm__("lsl %k1, %0" : "+r"(limit) : "r"(selector) : "cc");
        if (rights & 0x800000)
            limit >>= 12;
        oracle_gdt[i] = (limit & 0xffff) | (uint64_t)(rights & 0xf0ff00) << 32 | (uint64_t)(limit & 0xf0000) << 32;
    }
}

const char *oracle_mode_missing(enum oracle_mode_id m)
{
    if (SHADOWED && oracle_modes[m].bits == 32)
        return "AddressSanitizer's shadow memory is where the guest's wild stores may go";
    return oracle_modes[m].by_ldt ? no_ldt : NULL;
}

bool oracle_init(void)
{
    static uint8_t stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction a = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    /* For this thread alone: a timer of the process may tick in any thread, whose segments are not the guest's (libFuzzer has another). */
    struct sigevent tick = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGVTALRM, ._sigev_un = {._tid = gettid()}};
    struct itimerspec every = {{1, 0}, {1, 0}};
    timer_t timer;
    code_alias = map_twice(ORACLE_CODE, ORACLE_CODE_SIZE, 0, PROT_READ | PROT_EXEC);
    data_alias = map_twice(ORACLE_DATA, ORACLE_DATA_SIZE, ORACLE_DATA_SIZE - ORACLE_WRITABLE, PROT_READ | PROT_WRITE);
    if (!code_alias || !data_alias || sigaltstack(&alternate, NULL) || prctl_bare(ARCH_GET_FS, (uint64_t)(uintptr_t)&outside_fs))
        return false;
    static const int signals[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGVTALRM};
    sigfillset(&a.sa_mask);
    inside_mask = ~0ull;
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
        inside_mask &= ~(1ull << (signals[i] - 1));
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
        if (sigaction(signals[i], &a, NULL))
            return false;
    ldt_fill();
    gdt_ask();
    if (!no_ldt && syscall(SYS_modify_ldt, 0, oracle_ldt, sizeof oracle_ldt) < 0)
        no_ldt = "modify_ldt does not let the LDT be read";
    return !timer_create(CLOCK_THREAD_CPUTIME_ID, &tick, &timer) && !timer_settime(timer, 0, &every, NULL);
}

uint8_t *oracle_code(void) { return code_alias; }
uint8_t *oracle_data(void) { return data_alias; }

void oracle_run(enum oracle_mode_id m, struct oracle_state *s)
{
    running = s;
    mode = &oracle_modes[m];
    ticks = 0;
    phase = ENTER;
    __asm__ volatile("int3" ::: "memory", "cc");
}
