/* internal.h - what the files of runtime/ share. */
#ifndef RUNTIME_INTERNAL_H
#define RUNTIME_INTERNAL_H

#include "runtime/runtime.h"
#include "backend-tcg/backend-tcg.h"
#include <pthread.h>
#include <poll.h>
#include <stdatomic.h>

#define PAGE 4096ull
#define PAGE_MASK (~(PAGE - 1))

struct stats {
#define COUNTER(name, unit, meaning) uint64_t name;
#include "runtime/stats.def"
};
enum stats_clock { /* indices into struct stats; those of unit cycles are the clocks */
#define COUNTER(name, unit, meaning) STATS_##name,
#include "runtime/stats.def"
};
static inline uint64_t cycles(void) { return __builtin_ia32_rdtsc(); }

/* --- TranslationBlocks (tb.c) */
struct tb;
struct tb_link { struct tb *from; uint8_t exit; struct tb *to; struct tb_link *next, **prev; };
struct tb {
    uint64_t pc, phys, phys2;       /* phys2: physical page of the second part, or ~0 */
    uint32_t mode, hash;
    uint16_t bytes, insns;
    bool valid, straddles;
    struct tb *hash_next;
    struct tb *page_next[2];        /* in the lists of the pages that its bytes lie in */
    struct tb *newer;               /* in order of making = order in the code buffer */
    struct tb_link links[TCG_MAX_EXITS];
    struct tb_link *incoming;
    struct ir_block ir;             /* interpreter tier alone */
    size_t code_at, code_end;       /* in the code buffer */
    struct tcg_block code;
};
struct code_page { struct tb *tbs; uint64_t chunks; /* bit n: bytes 64n.. hold code */ uint32_t write_epoch; };

/* One instruction, lifted for the interpreter. */
struct tb_single { uint64_t pc; uint32_t mode; uint8_t bytes[15], size; /* 0: none */ struct ir_block ir; };
#define TB_SINGLES 64u

#define TB_HASH 32768u
struct tb_store {
    struct tb *hash[TB_HASH];
    struct code_page *pages; uint64_t page_count;  /* a RAM page each */
    struct tb *oldest, *newest, *dead;
    size_t count, max;
    struct tcg_buffer *buffer; size_t buffer_size, at;
    struct ir_block scratch;
    struct tb_single singles[TB_SINGLES];
    uint32_t modes[1024]; unsigned mode_count;
};

/* --- softmmu (softmmu.c) */
enum { MMU_USER, MMU_KERNEL, MMU_KERNEL_AC, MMU_SETS };
struct tlb_fill { uint64_t page; bool global; uint8_t set; };
struct softmmu {
    int64_t *read[MMU_SETS], *write[MMU_SETS];
    struct tlb_fill *fills; unsigned fill_count, fills_since_trim;
    uint32_t epoch;
    bool large_seen, huge_seen;
    struct exec_entry { uint64_t page, phys; } exec[2][256];  /* linear page -> physical page; by user */
};
#define MAX_FILLS 32768u

struct vcpu {
    struct tcg_context tcg;         /* right before the state: backend-tcg.h */
    struct x86_cpu cpu;
    struct machine *machine;
    struct softmmu mmu;
    struct tb_store tbs;
    struct tcg_jump *jumps;
    uint32_t mode; uint64_t mode_id, cs_base;
    bool in_block;                  /* runs a whole block: not every instruction comes back to the loop */
    struct stats stats;
    bool measuring;                 /* --stats: time is booked */
    enum stats_clock booked; uint64_t booked_since; /* under what it is now, and since when */
    uint64_t started_ns, started_cycles, ran_ns;
    struct ir_guest guest;          /* x86_guest, whose helpers are timed where measuring */
    struct ir_helper *timed_helpers;
    pthread_t thread; bool started;
    int64_t icount_slice;           /* what state.icount was set to */
};
_Static_assert(offsetof(struct vcpu, cpu) == sizeof(struct tcg_context), "the context lies right before the state");

/* --- Debuggers (debug.c).  Changed while the vCPU is parked; `due` to `event` by the vCPU; `untold`, `told` locked. */
struct breakpoint { enum machine_break kind; uint64_t at, size; };
struct debugger {
    struct breakpoint *points; unsigned count;
    bool code, data;                /* there are some of the kind */
    bool step, quiet;               /* one instruction; without interrupts */
    bool pass;                      /* the present instruction is run, breakpoint or not */
    bool due; struct machine_stop event; /* the loop is to stop before it does anything else */
    bool untold; struct machine_stop told;
    void (*stopped)(void *, const struct machine_stop *); void *ctx;
};

enum request { REQUEST_QUIT = 1, REQUEST_STOP = 2, REQUEST_RESET = 4 };
struct watch { int fd; short events; void (*ready)(void *, short); void *ctx; };
struct machine {
    struct machine_config config;
    struct vcpu *vcpu;
    struct pc *pc;
    uint8_t *ram; int ram_fd;
    const struct x86_model *model;
    struct { uint8_t *bytes; size_t size; } kernel, initrd;

    pthread_mutex_t lock;           /* devices, clock, requests */
    pthread_cond_t wake_vcpu, parked_changed;
    struct clock clock;
    atomic_uint requests;
    atomic_int interrupt_level;     /* the PC's INTR */
    bool parked, ended;
    enum machine_end end; int exit_status;
    uint64_t clock_base, paused_at; bool paused;
    uint64_t icount_ns;             /* virtual time under icount */
    uint64_t random;                /* state of its generator */
    struct debugger debug;
    int wake_fd;                    /* wakes the main loop */
    struct watch watches[32]; unsigned watch_count;
};
static inline struct vcpu *vcpu_of(struct x86_cpu *cpu) { return (struct vcpu *)((char *)cpu - offsetof(struct vcpu, cpu)); }
static inline struct vcpu *vcpu_of_state(void *state) { return vcpu_of((struct x86_cpu *)state); }

/* stats.c */
bool stats_begin(struct vcpu *);            /* when the vCPU is made; false: out of memory */
void stats_thread_begin(struct vcpu *);
void stats_thread_end(struct vcpu *);
/* From now on the thread's time is booked under `what`; returns under what it was before, to go back to. */
static inline enum stats_clock stats_enter(struct vcpu *v, enum stats_clock what)
{
    enum stats_clock before = v->booked;
    if (!v->measuring)
        return before;
    uint64_t now = cycles();
    ((uint64_t *)&v->stats)[before] += now - v->booked_since;
    v->booked_since = now;
    return v->booked = what, before;
}

/* softmmu.c */
bool softmmu_init(struct vcpu *);
void softmmu_slow_paths(struct tcg_context *);
#define SOFTMMU_INTERPRET 2u /* state.faulted after a slow path: no fault; interpret this instruction */
void softmmu_free(struct vcpu *);
void softmmu_flush(struct x86_cpu *, enum x86_flush, uint64_t linear);
void softmmu_mode(struct vcpu *);
bool softmmu_fetch_page(struct vcpu *, uint64_t linear, uint64_t *phys_page); /* false: fault pending */
void softmmu_protect(struct vcpu *, uint64_t ram_page);   /* the page has code now: no fast writes */
bool softmmu_read(struct x86_cpu *, uint64_t, unsigned, unsigned, void *);
bool softmmu_write(struct x86_cpu *, uint64_t, unsigned, unsigned, const void *);
bool softmmu_probe(struct x86_cpu *, uint64_t, unsigned, unsigned);
void *softmmu_pointer(struct x86_cpu *, uint64_t, unsigned *, unsigned);
uint8_t *softmmu_ram(struct machine *, uint64_t physical); /* host address of a byte of RAM or ROM, NULL elsewhere */
uint64_t softmmu_ram_page(struct machine *, const uint8_t *host); /* its index, or ~0 */
extern const struct x86_bus machine_bus;

/* tb.c */
bool tb_store_init(struct vcpu *, size_t buffer_size);
void tb_store_free(struct vcpu *);
struct tb *tb_find(struct vcpu *);          /* looks up or makes the block at state.rip; NULL: fault pending */
void tb_chain(struct vcpu *, struct tb *from, int exit, struct tb *to);
void tb_written(struct vcpu *, uint64_t ram_page, unsigned offset, unsigned size);
void tb_flush_all(struct vcpu *);
void tb_reap(struct vcpu *);                /* frees dead blocks; no block may be running */
void tb_jumps_clear(struct vcpu *);
struct tb *tb_at_host(struct vcpu *, const void *host_pc);
const struct ir_block *tb_single(struct vcpu *);  /* the one instruction at state.rip; NULL: fault pending */
uint64_t tb_linear(const struct x86_state *);

/* exec.c */
void *vcpu_thread(void *);
void vcpu_kick(struct machine *);
uint64_t vcpu_icount_now(struct machine *);

/* machine.c */
void machine_reset_now(struct machine *); /* on the vCPU's thread, lock held */
void machine_end_with(struct machine *, enum machine_end, int status);
void machine_wake_main(struct machine *);
void machine_resume(struct machine *, bool without_time);

/* debug.c: for the cpu loop, */
enum debug_run { DEBUG_RUN_BLOCK, DEBUG_RUN_ALONE, DEBUG_STOP };
static inline bool debug_is_on(const struct debugger *d) { return d->code | d->step | d->pass; }
enum debug_run debug_before_instruction(struct vcpu *);
void debug_after_instruction(struct vcpu *); /* or the delivery of an interrupt or exception */
void debug_stop(struct vcpu *);             /* when `due` */
bool debug_code_at(const struct debugger *, uint64_t linear);
uint64_t debug_code_room(const struct debugger *, uint64_t linear, uint64_t most); /* bytes to the next breakpoint */
/* for softmmu, where `data` is set, */
bool debug_data_page(const struct debugger *, uint64_t linear);
bool debug_data_hits(const struct debugger *, uint64_t linear, unsigned size, bool write);
void debug_data_access(struct debugger *, uint64_t linear, unsigned size, bool write);
/* and for the main loop. */
void debug_tell(struct machine *);
void debug_free(struct machine *);

/* clock.c */
void machine_clock_init(struct machine *);
uint64_t machine_now(struct machine *);
uint64_t machine_host_ns(void);
void machine_clock_pause(struct machine *, bool pause);

/* signal.c */
bool signals_install(char *error, size_t size);
void signals_thread(struct vcpu *);        /* on the vCPU's thread */
void signals_thread_end(void);

/* start.c */
void start_state(struct machine *, const struct boot_entry *);

/* trace.c */
void trace_block(struct vcpu *, unsigned what, const struct ir_block *);
void trace_cpu(struct vcpu *, const struct tb *);
void trace_out(struct vcpu *, const struct tb *);

#endif
