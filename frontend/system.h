/* system.h - what the system half of the frontend (sys_*.c, lift_system.c) shares: descriptors, stacks, transfers. */
#ifndef FRONTEND_SYSTEM_H
#define FRONTEND_SYSTEM_H

#include "frontend/internal.h"

/* A segment or gate descriptor as read from a table. */
struct desc { uint64_t base, where; uint32_t limit, attr; uint32_t low, high; uint16_t selector; };
static inline unsigned desc_type(const struct desc *d) { return d->attr & X86_ATTR_TYPE; }
static inline unsigned desc_dpl(const struct desc *d) { return d->attr >> X86_ATTR_DPL_SHIFT & 3; }
static inline bool desc_is_segment(const struct desc *d) { return d->attr & X86_ATTR_S; }
static inline bool desc_present(const struct desc *d) { return d->attr & X86_ATTR_P; }
static inline bool desc_is_code(const struct desc *d) { return desc_is_segment(d) && d->attr & X86_ATTR_CODE; }
static inline bool desc_conforming(const struct desc *d) { return desc_is_code(d) && d->attr & X86_ATTR_CONFORMING; }
static inline bool desc_is_stack(const struct desc *d) { return desc_is_segment(d) && !(d->attr & X86_ATTR_CODE) && d->attr & X86_ATTR_WRITABLE; }
/* System descriptor types (SDM 3A table 3-2). */
enum { TSS16 = 1, LDT = 2, TSS16_BUSY = 3, CALL16 = 4, TASK_GATE = 5, INT16 = 6, TRAP16 = 7, TSS32 = 9, TSS32_BUSY = 11, CALL32 = 12, INT32 = 14, TRAP32 = 15 };
static inline unsigned gate_selector(const struct desc *d) { return d->low >> 16; }
static inline uint32_t gate_offset(const struct desc *d) { return (d->low & 0xffff) | (d->high & 0xffff0000); }

static inline bool in_long_mode(const struct x86_state *s) { return s->efer & X86_EFER_LMA; }
/* IF is virtual (VME, PVI: SDM 3B 20.3.2, 20.4): CLI and STI are about VIF. */
static inline bool if_is_virtual(const struct x86_state *s)
{
    bool vm = s->eflags & X86_EFLAGS_VM;
    return s->cr0 & X86_CR0_PE && s->cpl > (s->eflags >> 12 & 3) && (vm ? s->cr4 & X86_CR4_VME : s->cpl == 3 && s->cr4 & X86_CR4_PVI);
}
/* An interrupt waits that the program has let in: #GP for the monitor, before the next instruction (SDM 3B 20.3.2). */
static inline bool virtual_interrupt_due(const struct x86_state *s)
{
    return s->eflags & X86_EFLAGS_VIF && s->eflags & X86_EFLAGS_VIP && if_is_virtual(s);
}
static inline bool is_null(uint16_t selector) { return !(selector & ~3u); }
/* Marks the mode word stale and tells the machine. */
void sys_mode_changed(struct x86_cpu *);

/* Reads the descriptor that a selector names; false: #GP(selector | ext) pending, or the table's page fault. */
bool desc_read(struct x86_cpu *, uint16_t selector, uint16_t ext, struct desc *);
/* The upper half of a 16-byte system descriptor. */
bool desc_read_upper(struct x86_cpu *, const struct desc *, uint16_t ext, uint64_t *upper);
bool desc_set_accessed(struct x86_cpu *, struct desc *);
bool desc_set_busy(struct x86_cpu *, struct desc *, bool busy);
void segment_set(struct x86_state *, enum x86_seg, uint16_t selector, const struct desc *);
void segment_set_null(struct x86_state *, enum x86_seg, uint16_t selector);
void segment_set_real(struct x86_state *, enum x86_seg, uint16_t selector);
/* After a return to an outer level: DS, ES, FS, GS that may not be used there become null. */
void segments_drop_inner(struct x86_state *);
static inline bool fault_code(struct x86_cpu *cpu, unsigned vector, uint32_t error) { return x86_raise_error(cpu, vector, error), false; }

/* A stack that is worked on before it is committed.  Pushes and pops move sp alone. */
struct stack { struct x86_cpu *cpu; uint64_t base, sp, mask; uint32_t limit, attr; uint16_t error; bool flat64; };
struct stack stack_current(struct x86_cpu *);
struct stack stack_as_in(struct x86_cpu *, bool code64); /* as code of that width has it */
struct stack stack_of(struct x86_cpu *, const struct desc *ss, uint64_t sp, uint16_t error);
struct stack stack_long(struct x86_cpu *, uint64_t sp);
bool stack_has_room(struct stack, unsigned size, unsigned count); /* so many pushes; false: the fault of one is pending */
bool stack_push(struct stack *, unsigned size, uint64_t value);
bool stack_pop(struct stack *, unsigned size, uint64_t *value);
void stack_commit(struct stack *);   /* puts sp into RSP under the stack's mask */

/* Checks a code segment for a transfer and makes it the new CS at cpl; rip checked against limit or canonical form. */
bool code_target_ok(struct x86_cpu *, const struct desc *cs, uint64_t rip);
void code_set(struct x86_cpu *, uint16_t selector, const struct desc *cs, unsigned cpl, uint64_t rip);

/* TSS: the stack for a privilege level (SDM 3A 7.2). */
bool tss_stack(struct x86_cpu *, unsigned level, uint16_t ext, uint16_t *ss, uint64_t *sp);
bool tss_long_stack(struct x86_cpu *, unsigned slot /* 0-2 RSP, 4-10 IST1-7 */, uint16_t ext, uint64_t *rsp);
enum task_kind { TASK_JUMP, TASK_CALL, TASK_IRET, TASK_EVENT };
/* Switches to the task of a TSS descriptor; next_rip is what the old task goes on at. */
bool task_switch(struct x86_cpu *, struct desc *tss, enum task_kind, uint64_t next_rip, bool has_error, uint32_t error);

/* The bits of CR4 and EFER that this model has. */
uint64_t x86_cr4_allowed(const struct x86_cpu *);
uint64_t x86_efer_allowed(const struct x86_cpu *);

/* PAE: loads the four PDPTEs that CR3 names; false: #GP(0) pending. */
bool sys_load_pdptes(struct x86_cpu *, uint64_t cr3);

/* An x87 error is pending with CR0.NE = 0: asserts FERR#; the instruction waits for an interrupt unless IGNNE# is there. */
void sys_ferr_wait(struct x86_cpu *);

/* Events. soft: INT n, INT3, INTO (no EXT bit, DPL is checked). rip: what is pushed. */
bool event_deliver(struct x86_cpu *, unsigned vector, bool soft, bool has_error, uint32_t error, uint64_t rip);

/* Virtual-8086 mode: INT n (done within the 8086 program, left to the IDT's gate, or a fault pending), and IRET with
 * IOPL below 3. */
enum vm86_int { VM86_INT_DONE, VM86_INT_GATE, VM86_INT_FAULT };
enum vm86_int vm86_int(struct x86_cpu *, unsigned vector, uint64_t next_rip);
bool vm86_iret(struct x86_cpu *, unsigned size);

/* Returns: target, stack, commit (sys_interrupt.c); shared by IRET and far RET. */
bool return_target(struct x86_cpu *, uint16_t selector, struct desc *cs);
bool return_stack(struct x86_cpu *, uint16_t selector, unsigned rpl, bool to64, struct desc *ss, bool *null);
void return_commit_outer(struct x86_cpu *, uint16_t cs_selector, const struct desc *cs, uint64_t rip,
                         uint16_t ss_selector, const struct desc *ss, bool null_ss, uint64_t sp);
bool inner_stack_segment(struct x86_cpu *, uint16_t selector, unsigned level, uint16_t ext, struct desc *ss);

#endif
