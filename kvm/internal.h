/* internal.h - what the files of kvm/ share. */
#ifndef KVM_INTERNAL_H
#define KVM_INTERNAL_H

#include "kvm/kvm.h"
#include <linux/kvm.h>
#include <pthread.h>

/* --- The guest's state as KVM takes and gives it (state.c).  Neither function needs a KVM. */
enum { KVM_MSRS = 64 };
struct kvm_msr_values { uint32_t count, pad; struct kvm_msr_entry entry[KVM_MSRS]; }; /* struct kvm_msrs, whose end is open */
struct kvm_image {
    struct kvm_regs regs;
    struct kvm_sregs2 sregs;        /* cr8 and apic_base are the caller's */
    uint8_t xsave[4096] __attribute__((aligned(64))); /* struct kvm_xsave, whose end is open */
    struct kvm_fpu fpu;             /* the same for a KVM without XSAVE */
    struct kvm_debugregs debug;
    struct kvm_vcpu_events events;
    struct kvm_xcrs xcrs;
    uint64_t msr[KVM_MSRS];         /* by row of kvm_msrs */
};
struct kvm_msr_row { uint32_t msr; uint32_t offset; /* in struct x86_state, a uint64_t */ const char *name; };
extern const struct kvm_msr_row kvm_msrs[];
extern const unsigned kvm_msr_count;
void kvm_image_of(const struct x86_state *, struct kvm_image *);
/* mode is left to x86_mode_update.  Returns the vector of an interrupt that is still to be delivered, or -1. */
int kvm_image_to(const struct kvm_image *, bool with_xsave, struct x86_state *);

/* --- Exits (exit.c): from the page that KVM_RUN filled, to the machine. */
struct kvm_exit_bus {
    void *ctx;
    void (*port)(void *ctx, bool write, uint16_t port, unsigned size, unsigned count, void *data);
    void (*device)(void *ctx, bool write, uint64_t physical, unsigned size, void *data);
    bool (*msr)(void *ctx, bool write, uint32_t msr, uint64_t *value); /* false: #GP */
};
enum kvm_outcome {
    OUTCOME_DONE,                  /* dealt with; the instruction is completed */
    OUTCOME_UNFINISHED,            /* dealt with; KVM completes the instruction when it runs next */
    OUTCOME_HALTED, OUTCOME_SHUTDOWN, OUTCOME_BREAK,
    OUTCOME_NOT_EMULATED,          /* KVM's own emulator does not know the instruction */
    OUTCOME_FAILED                 /* text says why */
};
enum kvm_outcome kvm_exit_handle(struct kvm_run *, size_t run_size, const struct kvm_exit_bus *, char *text, size_t size);
const char *kvm_exit_name(unsigned reason); /* NULL: none that is known */

/* --- Coalesced writes (coalesced.c) */
struct kvm;
void kvm_coalesced_begin(struct kvm *); /* of a machine that has its devices */
void kvm_coalesced_drain(struct kvm_coalesced_mmio_ring *, const struct kvm_exit_bus *); /* what was written since, to the bus */

/* --- Memory slots (memory.c) */
struct kvm_slot { uint64_t base, size; uint8_t *host; bool read_only; };
enum { KVM_SLOTS = 64 };
/* What of the address space is RAM or ROM in whole pages, in order.  Returns how many; more than `most`: there is no room for them. */
unsigned kvm_slots_of(const struct address_space *, struct kvm_slot *, unsigned most);

/* --- Interrupt controllers (irqchip.c).  The machine's registers to KVM's and back; chip 0 is the master 8259. */
enum { KVM_ROUTES = 64 };
void kvm_pic_of(const struct pic_registers *, unsigned chip, struct kvm_pic_state *);
void kvm_pic_to(const struct kvm_pic_state *, unsigned chip, struct pic_registers *);
void kvm_ioapic_of(const struct ioapic_registers *, struct kvm_ioapic_state *);
void kvm_ioapic_to(const struct kvm_ioapic_state *, struct ioapic_registers *);
void kvm_lapic_of(const struct lapic_registers *, struct kvm_lapic_state *);
void kvm_lapic_to(const struct kvm_lapic_state *, struct lapic_registers *);
void kvm_pit_of(const struct pit_registers *, bool replaced, struct kvm_pit_state2 *); /* replaced: the HPET has its interrupt */
void kvm_pit_to(const struct kvm_pit_state2 *, const struct pit_registers *before, int64_t now_ns, struct pit_registers *);
bool kvm_pit_goes_on(const struct pit_registers *was, int64_t then_ns, const struct pit_registers *is, int64_t now_ns);
unsigned kvm_routes(struct kvm_irq_routing_entry to[KVM_ROUTES]); /* returns how many */

struct kvm_host {                   /* what the host's KVM has (host.c) */
    int fd;                         /* /dev/kvm; -1: none */
    int run_size;
    struct kvm_cpuid2 *cpuid;       /* KVM_GET_SUPPORTED_CPUID */
    bool lacks_cx16;                /* whatever that says: CMPXCHG16B does not run */
    bool syscall_stays, tsc_is_host; /* probe.c */
    bool long_paging_only;          /* paging without long mode does not run */
    bool shadows_tables;            /* KVM has page tables of its own, made from the guest's: no EPT or NPT */
};
bool kvm_host_open(struct kvm_host *, char *error, size_t size);
void kvm_host_close(struct kvm_host *);
bool kvm_host_has(void *host, uint32_t leaf, uint32_t subleaf, unsigned reg, unsigned bit); /* for x86_model_restrict */

/* probe.c: the instructions run in long mode and ring 0, RSI at memory, without an exception or an error. */
bool kvm_probe(struct kvm_host *, const void *code, size_t size);
bool kvm_syscall_stays(struct kvm_host *); /* SYSCALL of ring 3 goes to its target and does not get its rights */
bool kvm_long_paging_only(struct kvm_host *);
uint32_t kvm_cpuid_adds(struct kvm_host *); /* features of CPUID.1:ECX that a guest sees which was given none */
bool kvm_shadows_tables(struct kvm_host *);
bool kvm_tsc_is_host(struct kvm_host *);   /* RDTSC of ring 3 reads the host's TSC, whatever the guest's is set to */

struct kvm {
    struct machine *machine;
    struct kvm_host host;
    int vm, vcpu;
    struct kvm_run *run;
    struct kvm_coalesced_mmio_ring *ring; /* NULL: none */
    bool has_sregs2, has_xsave, has_debugregs, has_events, has_xcrs, has_readonly, has_tsc_offset;
    bool msr_refused[KVM_MSRS];     /* the row is kept on our side */
    bool warned_not_emulated;
    bool logs_dirty;                /* slots of RAM are to be made with a log of the pages that are written to */
    bool has_pit, timer_replaced; struct pit_registers pit; int64_t pit_read_ns, timer_began_ns; /* likewise; as it went there, or was read then; its channel 0 */
    bool wants_irqchip, has_irqchip; /* KVM has the interrupt controllers while it runs the guest */
    uint64_t tsc_khz;
    struct kvm_slot slots[KVM_SLOTS]; unsigned slot_count, generation; bool mapped;
    bool unfinished;                /* see OUTCOME_UNFINISHED */
    bool tpr_stale;                 /* the local APIC's may have changed */
    bool not_run;                   /* the last exit: the instruction is the interpreter's, whatever exception KVM made of it */
    uint64_t apic_base;             /* as KVM was told last */
    uint8_t cr8;
    bool has_thread; pthread_t thread; /* the vCPU's */
    struct x86_cpu *cpu;
    bool has_ring0;                 /* of those that catch: KVM runs that too */
    unsigned runs;                  /* as catch.c counts them */
    bool catches, caught;           /* catch.c: exceptions and interrupts are not KVM's to deliver; its IDT is empty for that */
    struct kvm_image image;
};
/* vcpu.c, for check.c: the machine's local APIC is not asked. */
bool kvm_sregs_get(struct kvm *); /* of the image alone */
bool kvm_sregs_put(struct kvm *);
void kvm_finish(struct kvm *);    /* an instruction that an exit left half done */
bool kvm_put_registers(struct kvm *, struct x86_cpu *);
int kvm_get_registers(struct kvm *, struct x86_state *);
bool kvm_bus_msr(void *kvm, bool write, uint32_t msr, uint64_t *value);
void kvm_say_once(struct kvm *, const char *text); /* of an instruction that KVM cannot run */
/* irqchip.c: interrupt controllers in the kernel, where it has them; else one warning, and has_irqchip stays false. */
void kvm_irqchip_new(struct kvm *);
void kvm_controllers_put(void *kvm);
void kvm_controllers_get(void *kvm);
void kvm_pit_follow(struct kvm *);
bool kvm_is_halted(struct kvm *);
/* check.c */
void kvm_check_port(void *kvm, bool write, uint16_t port, unsigned size, unsigned count, void *data);
void kvm_check_device(void *kvm, bool write, uint64_t physical, unsigned size, void *data);
bool kvm_steps(void *kvm, struct x86_cpu *, int64_t insns, const struct x86_state *wanted);
void kvm_dirty(void *kvm, void (*each)(void *, uint64_t), void *ctx);
/* memory.c: the slots are made to follow the machine's memory map. */
bool kvm_memory_update(struct kvm *);
void kvm_ram_changed(void *kvm);
/* catch.c */
void kvm_catch_begin(struct kvm *);                         /* once */
bool kvm_can_run(void *kvm, const struct x86_state *);
void kvm_catch_put(struct kvm *);                           /* the image is going there */
void kvm_catch_got(struct kvm *, const struct x86_state *); /* and came back; with the IDTR that went there */
bool kvm_catch_again(struct kvm *, struct x86_state *);     /* before each run; false: KVM refuses */
void kvm_trap_undo(struct kvm *, struct x86_cpu *);         /* where KVM has passed the instruction that is the interpreter's */
void kvm_syscall_complete(struct kvm *, struct x86_cpu *);  /* where the state is that of a SYSCALL that stayed in ring 3, gives it its rights */
void kvm_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
