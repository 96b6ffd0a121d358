/* internal.h - what the files of runtime/ share. */
#ifndef RUNTIME_INTERNAL_H
#define RUNTIME_INTERNAL_H

#include "runtime/runtime.h"
#include "backend-llvm/backend-llvm.h"
#include "backend-tcg/backend-tcg.h"
#include <pthread.h>
#include <poll.h>
#include <stdatomic.h>
#include <time.h>

#define PAGE 4096ull
#define PAGE_MASK (~(PAGE - 1))

/* Limits.  The nasty build has caches of a few entries, blocks of one instruction half of which never chain, and no
 * TLB at all, so that what is rare elsewhere (eviction, unchaining, collisions, slow paths) happens all the time.
 * Guests with more RAM than KIND_RAM would take hours with that: they get caches of some thousand entries. */
#ifdef TIERCE_NASTY
enum { NASTY = 1, MAX_BLOCKS = 5, KIND_BLOCKS = 20000, MAX_INSNS = 1, MAX_BRANCHES = 0, MAX_MODES = 3, TB_HASH = 1024, EXEC_ENTRIES = 2,
       MAX_CODE_BUFFER = 16 << 10, KIND_CODE_BUFFER = 2 << 20 };
#else
enum { NASTY = 0, MAX_BLOCKS = 60000, KIND_BLOCKS = MAX_BLOCKS, MAX_INSNS = 64, MAX_BRANCHES = 1, MAX_MODES = 1024, TB_HASH = 1 << 17 /* more than blocks: each step of a look-up misses the host's cache */, EXEC_ENTRIES = 256,
       MAX_CODE_BUFFER = 0x7fffffff, KIND_CODE_BUFFER = MAX_CODE_BUFFER };
#endif
#define KIND_RAM (256ull << 20)

struct stats {
#define COUNTER(name, unit, meaning) uint64_t name;
#include "runtime/stats.def"
};
enum stats_clock { /* indices into struct stats; those of unit cycles are the clocks */
#define COUNTER(name, unit, meaning) STATS_##name,
#include "runtime/stats.def"
};
/* Of many values: sorted where they are printed. */
struct stats_values { double *of; size_t count, room; };
enum stats_spread {
#define SPREAD(name, meaning) SPREAD_##name,
#include "runtime/stats.def"
    SPREADS
};
static inline uint64_t cycles(void) { return __builtin_ia32_rdtsc(); }

/* --- Memory for translations (arena.c) */
enum { ARENA_KINDS = 17 };
struct arena_chunk;
struct arena_piece;
struct arena { struct arena_piece *freed[ARENA_KINDS]; /* by size in 64 bytes */ char *at; size_t left; struct arena_chunk *chunks; };
void *arena_new(struct arena *, size_t size);
void arena_free(struct arena *, void *, size_t size); /* the size that it was made with */
void arena_end(struct arena *);

/* --- TranslationBlocks (tb.c) */
struct tb;
struct tb_link { struct tb *from, *to; struct tb_link *next, **prev, *far_next, **far_prev /* to another page; NULL: not */; uint8_t exit; };
/* The bytes of a block that lie in one page of RAM (code_page.c). */
struct tb_part { struct tb_part *next, **prev; struct tb *tb; uint32_t page; uint16_t offset, size; /* 0: not listed */ };
enum tb_state {
    TB_LIVE,  /* what it was made from is what lies there; may be entered, chained to, found in the jump table */
    TB_STALE, /* its bytes were written since: compared before it is entered again */
    TB_GONE,  /* in no index; its memory and code stay until tb_reap, for it may still run */
};
struct tb {
    uint64_t pc, phys, phys2;       /* phys2: physical page of the second part, or ~0 */
    uint32_t mode, hash;
    uint16_t mode_id, bytes, insns;
    uint8_t state;
    bool straddles, asked_for;      /* asked_for: looked up since it was last isolated */
    bool distrusted;                /* what it was made from may not be its copy: it is not taken up again */
    uint8_t rebuilds, regrown;      /* of its region: for side exits, for ways out that were taken too often */
    uint16_t head;                  /* bytes of the block that a region which begins here would have first; 0: none does */
    uint64_t ran; int32_t counted_from; /* entries before its counter was last set, and to what */
    bool look_later; uint8_t looks; /* the translation cache has a region for here, but could not install it */
    bool cached;                    /* its code came from the translation cache */
    bool whole_mode;                /* as of its IR */
    bool covered;                   /* a region has it inside, which is to do for now; TIER_LLVM: was tried */
    uint16_t copied;                /* bytes of room in `copy` */
    struct tb *hash_next, **hash_prev; /* of the dead: the next one */
    struct tb *after, *before;      /* in the code buffer's ring (code_ring.c) */
    struct tb_part parts[2];
    struct tb_link *links;          /* one a chainable exit */
    struct tb_link *incoming;
    struct region_link *region_links; /* that lead here */
    struct llvm_unit *unit;         /* region that this one enters, or whose bytes it watches */
    uint32_t counter;               /* of its entries: index in struct vcpu, 0: none */
    struct ir_block *ir;            /* for the interpreter; NULL where there is code */
    struct ir_code *open; unsigned open_count; /* bytes that it reads when it runs, by offset: they may change */
    uint32_t code_at, code_end;     /* in the code buffer */
    struct tcg_block code;
    uint8_t copy[];                 /* of the bytes it was made from */
};

/* One instruction, lifted for the interpreter. */
struct tb_single { uint64_t pc; uint32_t mode; uint8_t bytes[15], size; /* 0: none */ struct ir_block ir; };
#define TB_SINGLES 64u

struct tb_store {
    struct tb *hash[TB_HASH];
    struct code_page **pages; uint64_t page_count;  /* one a RAM page, where it has or had code */
    struct tb *dead;
    struct arena arena;
    size_t count, max;
    struct tcg_buffer *buffer; size_t buffer_size, at;
    struct tb *ahead, *aging;       /* the ring: next behind `at`; next to be isolated */
    struct tb **buckets;            /* the first block that begins in each 4 KiB */
    struct ir_block scratch;
    struct tb_single singles[TB_SINGLES];
    uint32_t modes[MAX_MODES]; unsigned mode_count, mode_next; /* mode_next: whose number is given anew next */
    uint16_t mode_hint[64];
    uint64_t seen[1 << 15]; unsigned seen_count; /* hash of places that code ran at once (seen_before) */
    struct tb_first { uint64_t pc, phys; uint32_t mode; bool relocates; uint8_t *bytes; /* NULL: none */ struct ir_block ir; } first[1 << 12]; /* its IR */
};

/* --- softmmu (softmmu.c) */
enum { MMU_USER, MMU_KERNEL, MMU_KERNEL_AC, MMU_SETS };
/* The table entries that were made, so that a flush finds them: those that a CR3 write leaves and the others.  `next`:
 * of the same RAM page, so that its write entries are found when it gets code. */
struct tlb_fill { uint64_t page; uint32_t next; uint8_t set; };
struct tlb_fills { struct tlb_fill *fills; unsigned count; uint32_t epoch; /* new when it is emptied */ };
enum { FILLS_LOCAL, FILLS_GLOBAL, FILLS };
#define MAX_FILLS 32768u
struct tlb_writers { uint32_t first[FILLS], epoch[FILLS]; };  /* of a RAM page; void where the epoch is not that of the fills */
/* A writable page with live code: no table entry, for each store must be looked at. */
struct tlb_guarded { uint64_t page; uint8_t *host; uint64_t ram_page; uint8_t set; };
struct exec_entry { uint64_t page, phys; uint32_t epoch; bool global; };  /* linear page -> physical page */
struct softmmu {
    int64_t *read[MMU_SETS], *write[MMU_SETS];
    struct tlb_fills fills[FILLS]; unsigned fills_since_trim;
    struct tlb_writers *writers;    /* one a RAM page */
    struct tlb_guarded guarded[32];
    uint64_t large[512];            /* hash of 2 MiB regions that a large page may cover */
    bool huge_seen;                 /* some page was larger than 4 MiB */
    struct exec_entry exec[2][EXEC_ENTRIES]; uint32_t exec_epoch[FILLS]; /* by user */
    uint8_t bounce[4][64]; unsigned bounce_next;  /* what loads over a page's end read, put together */
};
/* What of the jump table and of chains goes with which flush. */
enum { JUMP_PAGES = 8192 };
struct jump_flush {
    uint16_t local[2048]; unsigned local_count; /* entries of pages that a CR3 write takes away; one more than there is room for: too many */
    struct jump_page { struct tb_link *links; unsigned entries; } pages[JUMP_PAGES]; /* chains from other pages and entries that lead to the pages of that hash */
};

/* --- Regions (region.c, profile.c, worker.c).  Where a block's entries come to the threshold, what runs from there on is recorded: the
 * blocks, and how often each went where.  That becomes a job for the worker's thread; what it makes is installed by the vCPU's
 * thread, by patching the block's entry. */
struct llvm_unit;      /* a region that is installed */
struct region_link;
struct llvm_job;
struct recorder;
struct worker;
enum { COUNTERS = 1 << 16, REGION_AREA = 32 << 20, REGION_PAGES = 1024 };
struct regions {
    bool on;
    struct recorder *recorder;      /* what runs now is recorded */
    uint32_t *free_counters, free_count;
    struct region_link *asked;      /* a region left by it, and what it leads to is to be linked */
    struct llvm_unit *units, *dead; /* newest first; uninstalled, maybe still running */
    struct area_piece *area, *area_last; /* of the code buffer's part for regions, by offset; the one that was taken last */
    uint16_t pages[REGION_PAGES];   /* units with code at linear pages of that hash */
    uint32_t random;
    /* --stats: samples by 64 bytes of the area; when each counter's block was made; regions that are gone.  NULL: not wanted */
    uint32_t *samples; uint64_t *made_ns; struct region_record *records; size_t record_count, record_room;
    struct profile_loop **loops; unsigned loop_count; /* recordings, to be printed: one a head */
    unsigned foreign_writes;        /* to code, by other threads: what was recorded before them makes no region */
    struct worker *worker;
    uint64_t translator[2];         /* cache_translator */
};

/* What a region cost and gave (region_stats.c). */
struct region_record { uint64_t compile_ns, entries, insns, samples; };

_Static_assert(MAX_MODES <= TCG_JUMP_MODES, "their numbers' room in the jump table");
struct vcpu {
    struct tcg_context tcg;         /* right before the state: backend-tcg.h */
    struct x86_cpu cpu;
    int32_t counters[COUNTERS];     /* near the state */
    struct regions regions;
    struct machine *machine;
    struct softmmu mmu;
    struct tb_store tbs;
    struct tcg_jump jumps[TCG_JUMP_ROOM]; struct jump_flush jump_flush;
    uint64_t once_start, once_end;  /* linear addresses of the block that is interpreted without being kept */
    struct tb *interpreted; bool *interpreted_stop; ir_ref *interpreted_at; /* the block that the interpreter runs, and how to make it leave */
    uint32_t mode; uint16_t mode_id /* its number and 1; 0: not known */; uint64_t cs_base;
    unsigned most_insns;            /* of a block; 0: MAX_INSNS */
    bool in_block;                  /* runs a whole block: not every instruction comes back to the loop */
    uint64_t deliveries;            /* of interrupts and exceptions, as traced */
    struct stats stats;
    bool measuring;                 /* --stats: time is booked */
    enum stats_clock booked; uint64_t booked_since; /* under what it is now, and since when */
    uint64_t started_ns, started_cycles, ran_ns;
    struct stats_values spreads[SPREADS];
    struct sampling *sampling;      /* its timers; NULL: none */
    bool sample_due;                /* the accelerator was interrupted so that the guest's PC is looked at */
    struct samples *samples;        /* of --sample; NULL: none so far */
    struct ir_guest guest;          /* x86_guest, whose helpers are timed where measuring */
    struct ir_helper *timed_helpers;
    pthread_t thread; bool started;
    bool away;                      /* the accelerator runs the guest: its state is there (accel.c); written with the machine locked */
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

#define TSC_KHZ 1000000u         /* of the guest's TSC, where no accelerator has it otherwise */
enum request { REQUEST_QUIT = 1, REQUEST_STOP = 2, REQUEST_RESET = 4, REQUEST_RAM = 32 /* machine_ram_noted */ };
/* What was typed and the UART has no room for yet.  It goes there as the guest reads, without a turn of the main loop. */
enum { TYPED = 256, TYPED_BREAK = 256 };
struct typed { struct machine *machine; unsigned port; uint16_t bytes[TYPED]; unsigned at, count; void (*room)(void *); void *ctx; };
struct watch { int fd; short events; void (*ready)(void *, short); void *ctx; };
struct machine {
    struct machine_config config;
    struct vcpu *vcpu;
    struct pc *pc;
    uint8_t *ram; int ram_fd;
    struct x86_model *model;
    struct { uint8_t *bytes; size_t size; } kernel, initrd;

    pthread_mutex_t lock;           /* devices, clock, requests */
    pthread_cond_t wake_vcpu, parked_changed;
    struct clock clock;
    atomic_uint requests;
    atomic_int interrupt_level;     /* the PC's INTR */
    atomic_bool ram_changed;        /* not by the accelerator, since it was last told */
    bool parked, ended;
    atomic_uint stalls;             /* machine_output_stall; changed locked */
    enum machine_end end; int exit_status;
    uint64_t clock_base, paused_at; bool paused;
    uint64_t access_ns;             /* the devices' time while the guest has access to one; 0: it passes */
    bool has_timer; timer_t timer; uint64_t timer_at; /* of the host's, for alarms; when it goes off, or UINT64_MAX */
    atomic_bool alarms_due;         /* the vCPU's thread is to look */
    uint64_t icount_ns;             /* virtual time under icount */
    uint64_t random;                /* state of its generator */
    bool owns_trace_file;
    void *accel;                    /* of config.accel, which is NULL where there is none */
    uint64_t tsc_khz, tsc_base;     /* of the guest's TSC; what it began with */
    enum tier wanted[64]; atomic_uint wanted_count; /* tiers that the vCPU is to change to, one after the other; locked */
    enum tier translated_for;       /* the tier that translated last */
    struct handovers *handovers;    /* NULL: none were asked for */
    struct check *check; bool is_reference; /* --check; is_reference: of another machine, in the interpreter tier (check.h) */
    pthread_mutex_t trace_lock;     /* the trace's file, where more than one line belongs together: the compiling thread prints too */
    struct debugger debug;
    struct symbols *symbols;        /* NULL: none were given */
    struct perf *perf;              /* NULL: nobody is told */
    struct cache *_Atomic cache;    /* of translations; NULL: none.  Set by the vCPU's thread where the tier becomes TIER_TIERED */
    int wake_fd;                    /* wakes the main loop */
    struct watch watches[32]; unsigned watch_count;
    struct typed typed[2];          /* by serial port; locked */
    uint64_t written_pages[64]; unsigned written_count; /* of RAM, by other threads; one more than there is room for: any page */
};
static inline struct vcpu *vcpu_of(struct x86_cpu *cpu) { return (struct vcpu *)((char *)cpu - offsetof(struct vcpu, cpu)); }
static inline struct vcpu *vcpu_of_state(void *state) { return vcpu_of((struct x86_cpu *)state); }

/* stats.c */
bool stats_begin(struct vcpu *);            /* when the vCPU is made; false: out of memory */
void stats_thread_begin(struct vcpu *);
void stats_thread_end(struct vcpu *);
void stats_free(struct vcpu *);
void stats_value(struct vcpu *, enum stats_spread, double); /* one more; nothing where --stats is off */

/* sample.c: with --stats, every ms of CPU time that the vCPU's thread takes, what it runs is booked under samples_*; with --sample, sample_due is
 * set and the accelerator kicked. */
#define SAMPLE_NS 1000000u
void sample_begin(struct vcpu *);           /* on that thread */
void sample_end(struct vcpu *);
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
const struct exec_entry *softmmu_fetch(struct vcpu *, uint64_t linear);       /* NULL: fault pending */
bool softmmu_fetch_page(struct vcpu *, uint64_t linear, uint64_t *phys_page); /* false: fault pending */
void softmmu_protect(struct vcpu *, uint64_t ram_page);   /* the page has code now: no fast writes */
void softmmu_close(struct vcpu *, uint64_t linear, unsigned set); /* no fast writes through this entry */
uint64_t softmmu_device_read(struct vcpu *, uint64_t physical, unsigned size);
void softmmu_device_write(struct vcpu *, uint64_t physical, unsigned size, uint64_t value);
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
/* Looks up or makes the block at state.rip.  NULL: with *once set, that IR is to be interpreted, this one time; else a fault
 * is pending. */
struct tb *tb_find(struct vcpu *, const struct ir_block **once);
void tb_chain(struct vcpu *, struct tb *from, int exit, struct tb *to);
bool tb_may_chain(const struct tb *);
bool tb_is_flat(uint32_t mode);             /* PCs are linear addresses */
void tb_isolate(struct vcpu *, struct tb *);  /* no jump leads to it any more: it is looked up when next needed */
void tb_suspect(struct vcpu *, struct tb *);  /* its bytes change: compared when next needed */
void tb_evict(struct vcpu *, struct tb *);
void tb_first_drop(struct vcpu *);          /* the IR that is kept of what ran once */
void tb_evict_at(struct vcpu *, uint64_t linear); /* those whose bytes may include that one */
void tb_mode_changed(struct vcpu *);        /* state.mode or CS is new: the jump table is made to follow */
void tb_flush_all(struct vcpu *);
void tb_suspect_all(struct vcpu *);         /* any of their bytes may have changed */
void tb_reap(struct vcpu *);                /* frees dead blocks; no block may be running */
void tb_jumps_clear(struct vcpu *);
void tb_jumps_clear_local(struct vcpu *);   /* those that go with a CR3 write */
void tb_jumps_clear_page(struct vcpu *, uint64_t linear);
const struct ir_block *tb_single(struct vcpu *);  /* the one instruction at state.rip; NULL: fault pending */
uint64_t tb_linear(const struct x86_state *);
struct tb *tb_here(struct vcpu *);          /* the live block at state.rip, NULL: there is none, or a fault (which is dropped) */
struct tb *tb_live(struct vcpu *, uint64_t phys, uint64_t phys2, uint64_t pc, uint32_t mode);
bool tb_lift(struct vcpu *, unsigned insns, struct ir_block *, uint64_t *phys, uint64_t *phys2); /* lifts and optimises for a region at state.rip; false: fault pending */
/* A block without code that stands for bytes which a region depends on; when they are written, the region goes. */
struct tb *tb_watch(struct vcpu *, struct llvm_unit *, uint64_t pc, uint64_t phys, uint64_t phys2, unsigned bytes);
void tb_unwatch(struct vcpu *, struct tb *);
static inline bool tier_translates(enum tier t) { return t != TIER_INTERP; }

/* code_page.c */
bool code_page_live(const struct vcpu *, uint64_t ram_page);   /* some live block has bytes there */
bool code_pages_add(struct vcpu *, struct tb *);
void code_pages_remove(struct vcpu *, struct tb *);
void code_pages_enliven(struct vcpu *, struct tb *);
void code_pages_deaden(struct vcpu *, struct tb *);
bool tb_written(struct vcpu *, uint64_t ram_page, unsigned offset, unsigned size, const void *host_pc);
/* Another thread wrote somewhere in the page, maybe between the lifting of a block and the copying of its bytes: what is there is made anew. */
void tb_written_elsewhere(struct vcpu *, uint64_t ram_page);

/* code_ring.c */
bool code_ring_init(struct tb_store *, size_t buffer_size, size_t beyond /* bytes for others */);
void code_ring_free(struct tb_store *);
enum tcg_result code_ring_emit(struct vcpu *, struct tb *, const struct ir_block *, const struct tcg_moved *); /* of IR, or code that is there */
void code_ring_add(struct tb_store *, struct tb *);
void code_ring_remove(struct tb_store *, struct tb *);
void code_ring_give_way(struct vcpu *);
struct tb *tb_at_host(struct vcpu *, const void *host_pc);

/* exec.c */
enum ir_leave vcpu_run_once(struct vcpu *, const struct ir_block *);
void *vcpu_thread(void *);
enum vcpu_action { VCPU_STEP, VCPU_FAULT, VCPU_NMI, VCPU_INTERRUPT };
/* --check: so many instructions, and the one behind them if it is to fault, but none behind HLT or a fault; returns how many were completed. */
int64_t vcpu_run(struct vcpu *, int64_t insns, bool faults);
void vcpu_deliver(struct vcpu *, enum vcpu_action, unsigned vector);
/* Translated code counts the instructions that it runs. */
static inline bool machine_counts(const struct machine *m) { return m->config.icount || m->check; }
void vcpu_kick(struct machine *);
bool vcpu_is_between(const struct x86_state *); /* something is pending of an instruction that was run already: no moment to change the tier */
bool vcpu_take(struct vcpu *, bool interrupt, bool nmi); /* delivers an NMI or an interrupt where one waits and the guest can take it */
enum ir_leave vcpu_run_single(struct vcpu *);   /* one instruction, in the interpreter */
void vcpu_deliver_fault(struct vcpu *);         /* the one that is pending */
void vcpu_wait_halted(struct vcpu *);           /* sleeps until an interrupt, a request or the next alarm */
bool vcpu_serve_requests(struct vcpu *);        /* of other threads; false: the machine ends */
bool vcpu_stalls(struct vcpu *);                /* waits for the guest's output to go; true: it has not, and the loop is to begin anew */
uint64_t vcpu_icount_now(struct machine *);

/* accel.c: the loop in TIER_KVM.  True: it is for the tiers to go on; false: the machine ends. */
bool accel_loop(struct vcpu *);
bool accel_is_due(const struct vcpu *);     /* the accelerator is to go on, and can: nothing is pending in the state */
void accel_get(struct vcpu *);              /* the state is here again, if it was away */
bool accel_begin(struct vcpu *);            /* before anything runs; false as of accel_put */
bool accel_put(struct vcpu *);              /* the state is there, unless a tier is to go on for a while; false: it cannot be, and the machine ends */

/* handover.c */
bool handovers_new(struct machine *);       /* before the devices; false: out of memory */
bool handovers_begin(struct machine *, char *error, size_t size); /* of a machine that is all made */
void handovers_free(struct machine *);
bool handover_serve(struct vcpu *);         /* between instructions, when asked to stop: changes the tier where that is wanted; false: the machine ends */
void handover_port(struct machine *, uint16_t port, uint32_t value); /* the guest wrote it; locked */
bool handover_pc(struct machine *, uint64_t linear); /* the guest is there; true: that was waited for */
void handover_break(struct machine *);      /* tells the accelerator of PCs */

/* machine.c */
void machine_ram_written(void *machine, const uint8_t *host, uint64_t size); /* before a device writes RAM; lock held, any thread */
void machine_ram_noted(struct machine *);       /* on the vCPU's thread, lock held: sees to what other threads wrote */
void machine_reset_now(struct machine *); /* on the vCPU's thread, lock held */
void machine_end_with(struct machine *, enum machine_end, int status);
void machine_wake_main(struct machine *);
void machine_resume(struct machine *, bool without_time);

/* region.c */
#ifdef TIERCE_LLVM
static inline bool regions_are_built(void) { return true; }
bool regions_init(struct vcpu *);
void regions_set(struct vcpu *);                        /* on or off, as the tier asks */
void regions_stop_recording(struct vcpu *);
void regions_free(struct vcpu *);
void regions_count(struct vcpu *);                      /* of those installed: into the stats */
void regions_end(struct vcpu *);                        /* after all blocks */
void region_make_now(struct vcpu *, struct tb *);       /* TIER_LLVM */
void region_side_exit(struct vcpu *, bool missed);      /* after code left for the interpreter; missed: the page had no entry in the table */
void region_counter_new(struct vcpu *, struct tb *);    /* or none */
void region_counter_free(struct vcpu *, uint32_t);
int32_t region_counter_offset(uint32_t);                /* from the state */
void region_counter_set(struct vcpu *, struct tb *, int32_t); /* entries until it leaves with IR_LEAVE_HOT */
uint64_t region_ran(const struct vcpu *, const struct tb *); /* how often it was entered, roughly */
void region_uninstall(struct vcpu *, struct llvm_unit *);
void regions_drop(struct vcpu *);                       /* all of them */
/* region_link.c */
void region_asks(struct vcpu *);                        /* after code left: it may have asked for a link */
void region_link(struct vcpu *, struct tb *);           /* the block at state.rip, which may be what was asked for */
void region_unlink(struct vcpu *, struct tb *);         /* what leads there */
void regions_serve(struct vcpu *);                      /* in the cpu loop: frees the dead, installs what the worker made */
void regions_remapped(struct vcpu *, bool global);      /* code's mappings may have changed */
void regions_remapped_page(struct vcpu *, uint64_t linear);
struct tb *region_install(struct vcpu *, struct llvm_job *);
void regions_judge(struct vcpu *, void (*each)(struct vcpu *, const struct region_record *)); /* those installed */
/* --check: which regions are entered from here on; those are told of, and with a block at that PC in it, its host code is printed.  False: none has. */
void regions_mark(struct vcpu *);
bool regions_trace(struct vcpu *, uint64_t pc, FILE *);
bool region_entered(const struct vcpu *, uint64_t phys, uint64_t pc, uint32_t mode, uint64_t *entries); /* false: none is installed there */
void profile_print(struct vcpu *, FILE *);              /* profile_print.c */
/* region_stats.c */
bool region_stats_begin(struct vcpu *);
void region_stats_end(struct vcpu *);
void region_counted(struct vcpu *, struct region_record *, const struct llvm_data *, size_t area_at, size_t area_size); /* what it did since it was last asked */
void region_gone(struct vcpu *, const struct region_record *);
void regions_break_even(struct vcpu *);                 /* into the stats */
/* A block left with IR_LEAVE_HOT, at state.rip: what is to be entered instead, or NULL: it is recorded from here on. */
const void *region_hot(struct vcpu *);
bool region_covers(const struct vcpu *, const struct tb *); /* some installed one does, though it is not entered there */
/* cache.c: the translation cache of a machine. */
bool cache_open(struct machine *, char *error, size_t size); /* true without one, too; false: error has one line */
void cache_enter(struct machine *);                     /* the tier has changed: where one is wanted now it is opened; what hinders that is told */
void cache_close(struct machine *);                     /* no worker runs any more */
bool cache_keeps_templates(const struct vcpu *);        /* what is translated is to have relocations */
struct template_found;
bool cache_template(struct vcpu *, uint64_t phys, struct template_found *); /* of what lies at state.rip */
void cache_look(struct vcpu *, struct tb *);            /* a block that was made, or is looked for again: installs its region */
void cache_keep(struct llvm_job *);                     /* what was compiled; the worker's thread */
void cache_tick(struct vcpu *);                         /* in the cpu loop: writes what ran, now and then, on a thread of its own */
void cache_forgetting(struct vcpu *);                   /* all blocks are about to go */
void cache_lost(struct vcpu *, struct tb *);            /* its region from there is gone */
void cache_count(struct vcpu *);                        /* into the stats */
void profile_sample(struct vcpu *);                     /* profile_sample.c: where the guest is, in the accelerator */
void profile_sample_free(struct vcpu *);
#else
static inline bool regions_are_built(void) { return false; }
static inline bool regions_init(struct vcpu *v) { (void)v; return true; }
static inline void regions_set(struct vcpu *v) { (void)v; }
static inline void regions_stop_recording(struct vcpu *v) { (void)v; }
static inline void regions_free(struct vcpu *v) { (void)v; }
static inline void regions_count(struct vcpu *v) { (void)v; }
static inline void regions_end(struct vcpu *v) { (void)v; }
static inline void region_make_now(struct vcpu *v, struct tb *tb) { (void)v, (void)tb; }
static inline void region_side_exit(struct vcpu *v, bool missed) { (void)v, (void)missed; }
static inline void region_counter_new(struct vcpu *v, struct tb *tb) { (void)v, (void)tb; }
static inline void region_counter_free(struct vcpu *v, uint32_t n) { (void)v, (void)n; }
static inline int32_t region_counter_offset(uint32_t n) { (void)n; return 0; }
static inline void region_uninstall(struct vcpu *v, struct llvm_unit *u) { (void)v, (void)u; }
static inline void regions_drop(struct vcpu *v) { (void)v; }
static inline void region_asks(struct vcpu *v) { (void)v; }
static inline void region_link(struct vcpu *v, struct tb *tb) { (void)v, (void)tb; }
static inline void region_unlink(struct vcpu *v, struct tb *tb) { (void)v, (void)tb; }
static inline bool region_stats_begin(struct vcpu *v) { (void)v; return true; }
static inline void region_stats_end(struct vcpu *v) { (void)v; }
static inline void regions_mark(struct vcpu *v) { (void)v; }
static inline bool regions_trace(struct vcpu *v, uint64_t pc, FILE *f) { (void)v, (void)pc, (void)f; return false; }
static inline void regions_break_even(struct vcpu *v) { (void)v; }
static inline void profile_print(struct vcpu *v, FILE *f) { (void)v; fprintf(f, "built without LLVM: there are no regions, and no profile\n"); }
static inline void regions_serve(struct vcpu *v) { (void)v; }
static inline void regions_remapped(struct vcpu *v, bool global) { (void)v, (void)global; }
static inline void regions_remapped_page(struct vcpu *v, uint64_t linear) { (void)v, (void)linear; }
static inline const void *region_hot(struct vcpu *v) { (void)v; return NULL; }
static inline void profile_access(struct vcpu *v, uint64_t address, unsigned size) { (void)v, (void)address, (void)size; }
static inline bool cache_open(struct machine *m, char *error, size_t size) { (void)m, (void)error, (void)size; return true; }
static inline void cache_enter(struct machine *m) { (void)m; }
static inline void cache_close(struct machine *m) { (void)m; }
static inline void cache_look(struct vcpu *v, struct tb *tb) { (void)v, (void)tb; }
static inline bool cache_keeps_templates(const struct vcpu *v) { (void)v; return false; }
struct template_found;
static inline bool cache_template(struct vcpu *v, uint64_t phys, struct template_found *f) { (void)v, (void)phys, (void)f; return false; }
static inline void cache_forgetting(struct vcpu *v) { (void)v; }
static inline bool profile_goes_on(struct vcpu *v) { (void)v; return false; }
static inline void profile_sample(struct vcpu *v) { (void)v; }
static inline void profile_sample_free(struct vcpu *v) { (void)v; }
static inline enum ir_leave profile_step(struct vcpu *v) { (void)v; return IR_LEAVE_NEXT; }
#endif
/* profile.c */
void profile_begin(struct vcpu *, struct tb *);
bool profile_goes_on(struct vcpu *);                    /* false: the present mode is not recorded, or the recording is ended */
enum ir_leave profile_step(struct vcpu *);              /* one block; IR_LEAVE_FAULT: a fault is pending */
void profile_access(struct vcpu *, uint64_t address, unsigned size);
void profile_end(struct vcpu *);                        /* what was recorded becomes a job, */
void profile_drop(struct vcpu *);                       /* or nothing */
void profile_free(struct vcpu *);
struct llvm_job *profile_static(struct vcpu *, struct tb *); /* a region from what the code says alone */
/* worker.c */
void worker_submit(struct vcpu *, struct llvm_job *);
struct llvm_job *worker_done(struct vcpu *);            /* NULL: none */
bool worker_has(struct vcpu *, uint64_t phys, uint64_t pc, uint32_t mode); /* a job that has that block */
void worker_free(struct vcpu *);
void worker_each(struct vcpu *, void (*each)(void *ctx, const struct llvm_job *), void *ctx); /* that waits; locked */
void job_compile(struct llvm_job *);
void job_free(struct llvm_job *);
/* check*.c: lockstep.  Where machine.check is set, */
struct check *check_new(struct machine *, char *error, size_t size); /* of a machine with RAM, PC and vCPU */
void check_free(struct check *);
void check_begin(struct vcpu *, enum vcpu_action, unsigned vector); /* locks; around what the cpu loop does, */
void check_end(struct vcpu *);
void check_finish(struct check *);          /* at the end */
void check_stale(struct check *);           /* RAM was loaded afresh */
void check_device_wrote(struct check *, uint64_t ram_offset, uint32_t size, bool on_vcpu_thread); /* or is about to, inside of a page; locked */
void check_page_written(struct vcpu *, uint64_t ram_page); /* before the first store there in an interval, or the TLB lets it through */
void check_opened(struct vcpu *, uint64_t linear, unsigned set); /* a write entry of the TLB was made */
void check_walked(struct vcpu *, uint64_t ram_offset); /* a page table entry there got its A or D bit */
uint64_t check_device_read(struct vcpu *, uint64_t physical, unsigned size);
void check_device_write(struct vcpu *, uint64_t physical, unsigned size, uint64_t value);
static inline void check_page(struct vcpu *v, uint64_t ram_page)
{
    if (v->machine->check)
        check_page_written(v, ram_page);
}

/* debug.c: for the cpu loop, */
enum debug_run { DEBUG_RUN_BLOCK, DEBUG_RUN_ALONE, DEBUG_STOP };
static inline bool debug_is_on(const struct debugger *d) { return d->code | d->step | d->pass; }
enum debug_run debug_before_instruction(struct vcpu *);
bool debug_is_asked(const struct debugger *); /* a debugger has breakpoints, or steps */
bool debug_handover_add(struct machine *, uint64_t linear); /* handover_pc is called there, once; false: out of memory */
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
void clock_timer_begin(struct machine *);   /* on the vCPU's thread */
void clock_timer_end(struct machine *);
void clock_alarms_due(struct machine *);    /* maybe; or the clock has jumped.  Any thread, a signal's handler too */
void clock_serve(struct machine *);         /* in the loops, when asked to stop: runs alarms that are due */
/* Around what the guest asks of a device, on the vCPU's thread: locks, and all that was due by now has happened. */
void machine_access_begin(struct machine *);
void machine_access_end(struct machine *);

/* signal.c */
bool signals_install(char *error, size_t size);
void signals_thread(struct vcpu *);        /* on the vCPU's thread */
void signals_thread_end(void);

/* start.c */
void start_state(struct machine *, const struct boot_entry *);

/* symbols.c: reading may run on any thread, once it is made.  Addresses are linear; NULL is an empty table. */
struct symbols *symbols_new(const char *const *files, unsigned count, char *error, size_t size); /* NULL: error has one line */
void symbols_free(struct symbols *);
bool symbols_address(const struct symbols *, const char *name, uint64_t *linear); /* false: there is none */
const char *symbols_find(const struct symbols *, uint64_t linear, uint64_t *offset); /* NULL: in none */
void symbols_print(const struct symbols *, uint64_t linear, char *to, size_t size); /* "do_fork+0x1c", or the address in hexadecimal */

/* perf.c: the vCPU's thread alone, once it runs.  With neither --perf-map nor --jitdump, machine->perf is NULL and no code calls here. */
bool perf_new(struct machine *, char *error, size_t size); /* false: error has one line */
void perf_free(struct perf *);
struct perf_code {
    const char *tier;               /* "tcg", "llvm": the name begins with it */
    uint64_t linear; uint32_t mode; /* of the first guest instruction; the guest's function is looked up by it */
    const void *code; size_t size;  /* where it runs; readable */
    const struct object_line *lines; unsigned line_count; /* PCs relative to `linear`; sorted by host */
};
void perf_code_added(struct machine *, const struct perf_code *);
void perf_block_added(struct vcpu *, const struct tb *);  /* right after it was compiled at state.rip, with perf_line for struct tcg_options */
void perf_line(void *perf, uint32_t host, int32_t guest, bool cold);

/* gdb_jit.c: with --gdb-jit, a copy of a region's object whose function is said to have that name and its .text to lie at `run`; NULL: off,
 * or no memory.  Any thread. */
struct gdb_object *gdb_jit_add(const struct machine *, const void *elf, size_t size, const char *name, const void *run);
void gdb_jit_remove(struct gdb_object *); /* NULL: none */

/* trace.c */
void trace_block(struct vcpu *, unsigned what, const struct ir_block *);
void trace_cpu(struct vcpu *, const struct tb *);
void trace_out(struct vcpu *, const struct tb *);
void trace_host(struct vcpu *, const char *of, uint64_t pc, const void *code, size_t size);
#define TRACE_EACH_BLOCK (TRACE_EXEC | TRACE_CPU | TRACE_NOCHAIN) /* blocks come back to the cpu loop for these */
void trace_delivery(struct x86_cpu *, unsigned vector, bool soft, bool has_error, uint32_t error); /* struct x86_bus */
void trace_interrupt(struct vcpu *, unsigned vector);
void trace_shutdown(struct vcpu *);
void trace_fill(struct vcpu *, uint64_t linear, const struct x86_page *, bool user, bool writable);
void trace_flush(struct vcpu *, enum x86_flush, uint64_t linear);
void trace_llvm(struct machine *, uint64_t pc /* of the region's first block */, enum llvm_stage, const char *text); /* any thread */

#endif
