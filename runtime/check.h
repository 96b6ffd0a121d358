/* check.h - lockstep (--check): what check.c, check_log.c and check_report.c share.
 *
 * The reference is a machine of its own: another vCPU in the interpreter tier, with other RAM, TLB and blocks.  An
 * interval is one action of the cpu loop - a step through translated code, of bounded length, or the
 * delivery of a fault, an interrupt, an NMI.  The tier does it first; what it asks of devices, clocks and random numbers
 * is logged.  Then the reference does the same number of instructions, with IR as it was lifted, and takes what it asks
 * for from the log; it must ask for the same.  Then state and memory must be equal.
 * Memory is compared by page.  All write entries of both TLBs are taken away before each interval, so that the first
 * store to each page comes by the slow path and is seen; the others are made at full speed by the code that is under test.
 * Threads: the machine's lock is held while the tier runs and while the two are compared, so that devices of other
 * threads write to RAM between intervals alone, or while the reference runs, which does not see it. */
#ifndef RUNTIME_CHECK_H
#define RUNTIME_CHECK_H

#include "runtime/internal.h"
#include <string.h>

#define CHECK_SCAN (1ull << 26)     /* instructions from one comparison of all RAM to the next */

enum check_event_kind { /* struct x86_bus; RAM: a device on the vCPU's thread wrote there */
    EVENT_IO_READ, EVENT_IO_WRITE, EVENT_MMIO_READ, EVENT_MMIO_WRITE, EVENT_TSC, EVENT_RANDOM, EVENT_INTERRUPT, EVENT_APIC_READ,
    EVENT_APIC_WRITE, EVENT_TPR_READ, EVENT_TPR_WRITE, EVENT_FERR, EVENT_SHUTDOWN, EVENT_RAM, EVENT_NONE
};
struct check_event {
    enum check_event_kind kind; uint32_t size;
    uint64_t address, value;        /* value: of a write, or where the bytes of RAM are in check.bytes */
    uint64_t result, a20_mask; uint8_t nmi, fault; /* afterwards */
};
struct check_page { uint32_t page, image; }; /* image: number + 1 of what the reference had there before, or 0 */
struct check_opened { uint64_t linear; unsigned set; };
struct check_side {                 /* the tier's, the reference's */
    struct vcpu *v;
    struct check_opened *opened; size_t opened_count, opened_room; /* write entries of the TLB */
};
enum check_role { CHECK_IDLE, CHECK_RECORD, CHECK_REPLAY };
enum { CHECK_TIER, CHECK_REFERENCE, CHECK_SIDES };

struct check {
    struct machine *machine, *reference;
    struct x86_bus bus;             /* of both */
    struct check_side side[CHECK_SIDES];
    enum check_role role;
    struct x86_state before, after; /* the interval; after: the tier's */
    enum vcpu_action action; unsigned vector;
    int64_t ran;                    /* instructions */
    struct check_event *events; size_t event_count, event_room, event_at, event_end; /* how far the interval goes */
    uint8_t *bytes; size_t byte_count, byte_room; /* of RAM events */
    struct check_event asked;       /* where they part: what the one that follows the log asked for */
    bool parted;
    struct check_page *pages; size_t page_count, page_room; /* written to in this interval */
    uint8_t *marks; uint32_t *listed; /* one a RAM page: MARK_*; its place in `pages` + 1, or 0 */
    uint8_t *images; size_t image_count, image_room;
    uint64_t *walked; size_t walked_count, walked_room; /* offsets in RAM of page table entries whose A and D bits were set */
    uint32_t *foreign; size_t foreign_count, foreign_room; /* pages that others wrote to, to be copied */
    bool skipping;                  /* the first instructions are not compared (check_skip) */
    bool stale;                     /* all of RAM is to be copied */
    uint64_t scan_at;               /* instructions compared at which all RAM is compared next */
    bool over;                      /* a difference was found */
};
enum { MARK_TIER = 1, MARK_REFERENCE = 2, MARK_FOREIGN = 4 };

/* check.c */
void check_restore(struct check *);                    /* both stand where the interval began */
void check_foreign(struct check *, uint64_t ram_page);  /* somebody else wrote there */
/* Of a vCPU whose `stop` other threads may set meanwhile. */
static inline struct x86_state check_state_of(const struct vcpu *v)
{
    enum { STOP = offsetof(struct x86_state, stop), BEHIND = STOP + sizeof(uint32_t) };
    const struct x86_state *from = &v->cpu.state;
    struct x86_state s;
    memcpy(&s, from, STOP);
    s.stop = __atomic_load_n(&from->stop, __ATOMIC_RELAXED);
    memcpy((char *)&s + BEHIND, (const char *)from + BEHIND, sizeof s - BEHIND);
    return s;
}
void check_replay(struct check *, int64_t insns, bool faults); /* the reference does the interval's action */
/* Prints how they differ, f NULL: does not; false: they are equal. */
bool check_differs(struct check *, FILE *f);
void check_image_keep(struct check *, uint64_t ram_page, const uint8_t *bytes); /* what the reference had there before */
const char *check_reference_name(const struct check *);
void *check_room(void *array, size_t count, size_t *room, size_t size); /* for one more */

/* check_accel.c: false: nothing was done, the interpreter is to. */
bool check_accel_replay(struct check *, int64_t insns);

/* check_log.c */
void check_bus_make(struct x86_bus *);
void check_log_begin(struct check *, enum check_role);
void check_print_event(FILE *, const struct check_event *);
bool check_log_done(const struct check *);             /* all of it was asked for */

/* check_report.c */
void check_report(struct check *);                     /* a difference: finds the shortest run that has it */
void check_report_memory(struct check *, uint64_t ram_offset);

#endif
