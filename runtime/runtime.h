/* runtime.h - a machine that runs: vCPU thread, cpu-exec loop, TranslationBlocks, softmmu, self-modifying code,
 * clock, main loop.  No mutable globals: two machines may live in one process.
 * Threads: `machine_*` may be called from any thread unless a line says otherwise; the vCPU has its own. */
#ifndef RUNTIME_RUNTIME_H
#define RUNTIME_RUNTIME_H

#include "frontend/frontend.h"
#include "hw/hw.h"

enum tier { TIER_INTERP, TIER_TCG,
            TIER_LLVM,    /* each region is compiled before its first run, on the vCPU's thread: for tests */
            TIER_TIERED,  /* template code at once, LLVM's where it is hot, from a thread of its own */
            TIER_KVM      /* the machine's accelerator, which is none of the tiers: struct accel_ops */ };
const char *tier_name(enum tier); /* as --tier has it; NULL: no tier */
enum trace { TRACE_IN_ASM = 1, TRACE_IR = 2, TRACE_IR_OPT = 4, TRACE_OUT_ASM = 8, TRACE_INT = 16, TRACE_EXEC = 32, TRACE_CPU = 64, TRACE_MMU = 128, TRACE_NOCHAIN = 256,
             TRACE_LLVM_IR = 512, TRACE_LLVM_OPT = 1024, TRACE_LLVM_ASM = 2048 };
enum { TRACE_RANGES = 8, SYMBOL_FILES = 16, CACHE_LAYERS = 8 };
struct trace_range { uint64_t first, last; };
struct machine;
struct accel_ops;
/* The tier changes at a moment of the run; each fires once. */
enum handover_kind {
    HANDOVER_TIME,      /* at: ns of the machine's clock */
    HANDOVER_CONSOLE,   /* text came out of a serial port or the debug console */
    HANDOVER_PC,        /* before the instruction at linear address `at`, or where the function `text` of `symbols` begins */
    HANDOVER_PORT,      /* a write to port `at`: of `value`, or of any_value */
    HANDOVER_MONITOR    /* machine_tier_set alone */
};
struct machine_handover { enum tier tier; enum handover_kind kind; uint64_t at; const char *text; bool any_value; uint32_t value; };
struct machine_config {
    uint64_t ram_size;
    enum tier tier;
    const struct accel_ops *accel; /* who runs the guest in TIER_KVM; NULL: this machine never comes to be in that tier */
    const struct machine_handover *handovers; unsigned handover_count; /* stay there while the machine is */
    bool icount;
    uint32_t hot_threshold;        /* entries of a block after which its region is compiled; 0: default */
    uint32_t stress;               /* nonzero, a seed: regions of random extent, with side exits forced and thrown away at random */
    bool compile_again;            /* measurements: where nothing waits to be compiled, the last region is, again and again, for nothing */
    bool check_interp;             /* lockstep with the interpreter: the first difference ends the run (MACHINE_ERROR); not for TIER_INTERP */
    bool check_accel;              /* lockstep with `accel` instead, one instruction after the other */
    uint64_t check_skip;           /* --check: so many instructions run before it begins */
    bool interpret_first;          /* TIER_TCG: code is translated when it comes by for the second time (never with icount or traces) */
    bool start_stopped;            /* -S */
    const char *cpu;               /* -cpu */
    const char *kernel, *initrd, *append, *bios; /* paths; append is text */
    const char *restore;           /* go on from this saved machine, instead of booting; "": nothing is loaded at all.  The kernel is for resets */
    const char *state_dir;         /* for who saves by name; the runtime does not look at it */
    struct chardev serial[2], debug_console;
    unsigned trace; FILE *trace_file;
    struct trace_range trace_range[TRACE_RANGES]; unsigned trace_ranges; /* code at these PCs alone; none: all */
    const char *symbols[SYMBOL_FILES]; unsigned symbol_files; /* guest function names: paths, or PATH@OFFSET */
    bool perf_map; const char *jitdump; /* jitdump: the directory for it; NULL: none */
    bool gdb_jit;                  /* a gdb that debugs this process is told of regions */
    bool no_reboot, no_shutdown;   /* what else would reboot ends; what would end stops */
    uint16_t debug_exit_port, debug_exit_size; /* hw.h */
    bool accel_ring0;              /* ring 0 is the accelerator's too where that runs it by an emulator */
    bool accel_controllers;        /* `accel` has the interrupt controllers too, while it runs the guest, where it can */
    bool stats;
    unsigned sample_hz;            /* while `accel` runs the guest, its PC is sampled so often, for the profile in the translation cache; 0: not */
    size_t code_buffer_size;       /* 0: default */
    struct machine_cache {         /* of translations, for TIER_TIERED */
        const char *path;          /* its directory; NULL: there is none */
        bool named;                /* the user did: where it cannot be used, that is an error; else one says so, and the run goes on without */
        const char *layers[CACHE_LAYERS]; unsigned layer_count; /* read-only ones beneath */
        const char *remote;        /* NULL, or as store.h has it */
        uint64_t max_bytes;        /* 0: default */
        bool preload;
    } cache;
    uint64_t raw_entry;            /* tests: a flat image loaded at this physical address and entered there in... see raw_mode */
    const uint8_t *raw_image; size_t raw_size; int raw_mode; /* 16, 32 or 64 */
};
/* NULL: error has one line that says what was wrong with which value. *usage: it is the user's argument that is wrong (exit 2). */
struct machine *machine_new(const struct machine_config *, char *error, size_t error_size, bool *usage);
void machine_free(struct machine *);          /* waits for what LLVM compiles now, some tens of milliseconds */
bool machine_is_compiling(struct machine *);  /* it would have to wait; of a machine that has ended */
void machine_cache_save(struct machine *);    /* what machine_free would leave in the translation cache; of a machine that has ended */
enum machine_end { MACHINE_POWER_OFF, MACHINE_RESET_END, MACHINE_QUIT, MACHINE_DEBUG_EXIT, MACHINE_ERROR };
/* Starts the vCPU thread and runs the main loop on the caller's thread until the machine ends. */
enum machine_end machine_run(struct machine *, int *exit_status);
void machine_quit(struct machine *);          /* async-signal-safe */
void machine_stop(struct machine *);          /* waits until the vCPU stands still */
void machine_continue(struct machine *);
void machine_reset(struct machine *);
void machine_power_button(struct machine *);
void machine_nmi(struct machine *);
void machine_key(struct machine *, unsigned set1_scancode); /* i8042_key */
bool machine_is_stopped(struct machine *);
bool machine_is_ending(struct machine *);      /* async-signal-safe */
/* Main loop: calls ready(ctx, events) when fd is (poll events); for terminals. remove with events 0. */
bool machine_watch(struct machine *, int fd, short events, void (*ready)(void *ctx, short events), void *ctx);
size_t machine_serial_input(struct machine *, unsigned port, const uint8_t *, size_t); /* how many bytes were taken, for the UART */
void machine_serial_break(struct machine *, unsigned port);
/* room(ctx) is called, on the vCPU's thread and with the machine locked, when there is room for input again. */
void machine_serial_on_room(struct machine *, unsigned port, void (*room)(void *ctx), void *ctx);
void machine_serial_drained(struct machine *, unsigned port); /* uart_drained; any thread */
/* The guest stands still, as often as with true, until as often with false: its output has nowhere to go.  All else goes on.  Any thread. */
void machine_output_stall(struct machine *, bool stall);
struct x86_cpu *machine_cpu(struct machine *);  /* stopped machines only */
struct address_space *machine_memory(struct machine *);
uint8_t *machine_ram(struct machine *);
struct address_space *machine_io(struct machine *);
uint32_t machine_io_read(struct machine *, uint16_t port, unsigned size);
void machine_io_write(struct machine *, uint16_t port, unsigned size, uint32_t value);
void machine_trace_set(struct machine *, unsigned trace);   /* stopped machines only, as the next */
void machine_trace_file(struct machine *, FILE *);          /* owned by the machine from now on */
void machine_print_pic(struct machine *, FILE *);  /* `info pic` */
void machine_print_irq(struct machine *, FILE *);  /* `info irq` */
void machine_print_jit(struct machine *, FILE *);  /* `info jit` */
void machine_print_profile(struct machine *, FILE *); /* `info profile`: hot loops and the ways through them, by the guest's names */
void machine_print_tlb(struct machine *, FILE *);  /* `info tlb`, `info mem` */
void machine_stats_print(struct machine *, FILE *, bool json);
/* Guest memory as a debugger sees it: no rights, no A and D bits; device registers by physical address too.  Stopped
 * machines only.  False: some of it is mapped nowhere (then some of it may have been copied). */
bool machine_debug_read(struct machine *, uint64_t address, bool physical, void *to, size_t size);
bool machine_debug_write(struct machine *, uint64_t address, bool physical, const void *from, size_t size);
/* Loads a segment register as MOV to it does in the guest; false: that would fault, or it is CS in protected mode. */
bool machine_segment_load(struct machine *, enum x86_seg, uint16_t selector);

void machine_print_devices(struct machine *, FILE *); /* `info qtree`: each device's state */

/* --- Saved machines (docs/state.md).  Main loop's thread, stopped machines only.  False: error has one line that begins with the path, and
 * nothing has changed: neither the machine nor a file that was there. */
struct machine_state_size { uint64_t bytes, ram_bytes; /* of the file; of RAM that is not zero */ };
bool machine_save(struct machine *, const char *path, struct machine_state_size * /* or NULL */, char *error, size_t error_size);
bool machine_restore(struct machine *, const char *path, char *error, size_t error_size); /* a pipe too */
bool machine_restore_from(struct machine *, FILE *, char *error, size_t error_size); /* error: without a path */
struct machine_state_info { uint64_t ram_size, now_ns; int64_t date; /* s since 1970 */ char tier[16]; };
bool machine_state_info(const char *path, struct machine_state_info *, char *error, size_t error_size);
const char *machine_state_dir(struct machine *); /* as configured */

/* --- Breakpoints and stepping (runtime/debug.c).  Main loop's thread, stopped machines only.  Addresses are linear.
 * A machine that meets one stops (as by machine_stop), and the main loop calls what machine_on_stop was given. */
enum machine_break { MACHINE_BREAK_CODE, MACHINE_WATCH_WRITE, MACHINE_WATCH_READ, MACHINE_WATCH_ACCESS };
enum machine_stop_reason { MACHINE_STOP_BREAK, MACHINE_STOP_WATCH, MACHINE_STOP_STEP, MACHINE_STOP_PAUSE /* by the user, or -no-shutdown */ };
struct machine_stop { enum machine_stop_reason reason; enum machine_break watch; uint64_t address; /* of the instruction, or the data */ };
bool machine_break_add(struct machine *, enum machine_break, uint64_t linear, uint64_t size); /* false: out of memory */
bool machine_break_remove(struct machine *, enum machine_break, uint64_t linear, uint64_t size); /* false: there is none */
void machine_break_clear(struct machine *);
/* Runs one instruction (or delivers one exception or interrupt) and stops.  machine_continue and this pass over a
 * breakpoint at the present instruction. */
enum machine_step { MACHINE_STEP_NO_INTERRUPTS = 1, MACHINE_STEP_NO_TIME = 2 };
void machine_step(struct machine *, unsigned flags);
void machine_paused(struct machine *); /* after machine_stop, where it is to stay so: the debugger is told */
void machine_on_stop(struct machine *, void (*stopped)(void *ctx, const struct machine_stop *), void *ctx);
void machine_cpu_changed(struct machine *); /* to be called after writes to machine_cpu's state */

/* --- The tier changes while the guest runs: before one of its next instructions.  False: error has one line. */
bool machine_tier_set(struct machine *, enum tier, char *error, size_t size);
enum tier machine_tier(struct machine *); /* that is to run the guest's next instruction; stopped machines only */

/* --- Another way to execute than the tiers, implemented above this folder (kvm/) and handed over in machine_config: the same x86_cpu,
 * memory and devices.  While it runs the guest, its own registers count, and x86_cpu.state is stale until `get`.
 * All of it is called on the vCPU's thread, or before that runs; `kick` on any thread. */
enum accel_left {
    ACCEL_GO_ON,     /* the machine looks what there is to do, and comes back */
    ACCEL_KICKED,    /* the same, since it was kicked or a signal came while the guest ran */
    ACCEL_HALTED,    /* by HLT: state.halted is set and state.eflags has the right IF, all else may be stale */
    ACCEL_DELIVER,   /* the guest can take an interrupt or an NMI now, which the machine is to deliver by itself */
    ACCEL_INTERPRET, /* it cannot run the next instruction: the interpreter is to, unless `get` finds an exception in its place */
    ACCEL_BREAK,     /* the next instruction is at one of break_at's addresses, and was not run */
    ACCEL_SHUTDOWN,  /* triple fault */
    ACCEL_FAILED     /* it cannot go on; the reason was printed */
};
enum { ACCEL_BREAKS = 4 };
enum accel_wants { ACCEL_WANTS_INTERRUPT = 1 /* x86_bus.interrupt_take has one */, ACCEL_WANTS_NMI = 2 };
struct accel_ops {
    const char *name;
    /* Of a machine that has neither PC nor translator yet.  `model` is cut to what the accelerator knows too.  NULL: error has one line. */
    void *(*new)(struct machine *, struct x86_model *model, char *error, size_t size);
    void (*free)(void *accel);                        /* NULL: nothing */
    uint64_t (*tsc_khz)(void *accel);                 /* at which the guest's TSC runs there: it is to run so everywhere */
    uint64_t (*tsc_begin)(void *accel);               /* what the guest's TSC is to begin with */
    bool (*begin)(void *accel, struct x86_cpu *);     /* once, of a machine that has all, before the guest runs; false: as of put */
    bool (*put)(void *accel, struct x86_cpu *);       /* the guest goes on from this state.  False: it cannot, the reason was printed */
    bool (*can_run)(void *accel, const struct x86_state *); /* well enough; else a tier goes on until it can */
    void (*ram_changed)(void *accel);                 /* after `put`: others than the accelerator may have written to RAM since it ran last */
    /* The guest's state, to the instruction.  Returns the vector of an interrupt that was taken and is still to be delivered, or -1. */
    int (*get)(void *accel, struct x86_cpu *);
    enum accel_left (*run)(void *accel, struct x86_cpu *, unsigned wants); /* until something is to be done, or `kick` */
    void (*kick)(void *accel);                        /* also in a handler of a signal to the vCPU's thread */
    void (*look)(void *accel, struct x86_state *);    /* the state as it is now, for who only looks: the guest goes on there */
    /* Interrupt controllers of its own take the machine's place, after `put`, and give way to them, after `get`; with the machine locked.  NULL: it has none. */
    void (*controllers_put)(void *accel);
    void (*controllers_get)(void *accel);
    /* --check: so many instructions from cpu->state on, which gets what comes of them; what the accelerator has no place for is taken from `wanted`.
     * False: one of them it cannot run, which was told of. */
    bool (*steps)(void *accel, struct x86_cpu *, int64_t insns, const struct x86_state *wanted);
    void (*dirty)(void *accel, void (*each)(void *ctx, uint64_t ram_offset), void *ctx); /* pages of RAM that it wrote to since it was last asked */
    void (*break_at)(void *accel, const uint64_t *linear, unsigned count /* up to ACCEL_BREAKS; 0: none */);
};
struct pc *machine_pc(struct machine *);
const struct machine_config *machine_config(struct machine *);
/* For an accelerator's exits, on the vCPU's thread: `count` accesses of a port, from or to `data` one after the other; an access to
 * what is no RAM. */
void machine_port(struct machine *, bool write, uint16_t port, unsigned size, unsigned count, void *data);
void machine_device(struct machine *, bool write, uint64_t physical, unsigned size, void *data);
/* The same within `steps`. */
void machine_check_port(struct machine *, bool write, uint16_t port, unsigned size, unsigned count, void *data);
void machine_check_device(struct machine *, bool write, uint64_t physical, unsigned size, void *data);

#endif
