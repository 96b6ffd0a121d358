/* A KVM that runs user code on the host's CPU without VT-x or SVM may get the ways out of it wrong: SYSCALL goes to its target and stays in ring 3, INT n is an
 * invalid opcode.  On such a host (kvm_syscall_stays) KVM delivers nothing: in protected mode it is told of an IDT without entries, so that each exception
 * becomes a triple fault, for which KVM_RUN comes back with the state as it was at the exception.  The interpreter runs that, and delivers what comes of it; interrupts
 * are delivered on our side too.  In real mode and for the kernel's interrupt controllers all is left to KVM. */
#include "kvm/internal.h"
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

void kvm_catch_begin(struct kvm *k)
{
    k->catches = k->host.syscall_stays && !k->has_irqchip;
    k->has_ring0 = machine_config(k->machine)->accel_ring0;
    if (k->catches)
        kvm_warn("the host's KVM runs SYSCALL and INT n of user code wrongly: it gets user code without these, exceptions and interrupts; %s", k->has_ring0 ?
                 "ring 0 is its emulator's" : "all else is the template tier's, unless ring0=on asks for KVM's emulator");
    else if (k->host.syscall_stays)
        kvm_warn("the host's KVM runs SYSCALL and INT n of user code wrongly, which with kernel-irqchip=on is not made up for");
}

/* User code alone, and of that what the host's CPU does as the guest's would: it knows neither the guest's CR0.EM and TS nor its CR4 and EFER.SCE, traps of TF and DR7
 * come to other places, and KVM loses NT on SYSCALL.  Ring 0, in KVM's emulator, is slower there than in any tier and differs in many things, and is KVM's only where it is asked for; where
 * the guest loads its IDT there, that is hidden some exits later. */
bool kvm_can_run(void *accel, const struct x86_state *s)
{
    const struct kvm *k = accel;
    if (k->host.long_paging_only && s->cr0 & X86_CR0_PG && !(s->efer & X86_EFER_LMA))
        return false;
    if (!k->catches)
        return true;
    if (s->cpl != 3)
        return k->has_ring0;
    if (s->efer & X86_EFER_LMA && !(s->efer & X86_EFER_SCE))
        return false;
    return !(s->eflags & (X86_EFLAGS_VM | X86_EFLAGS_TF | X86_EFLAGS_NT)) && !(s->dr[7] & 0xff) && !(s->cr0 & (X86_CR0_EM | X86_CR0_TS)) &&
           (s->cr4 & (X86_CR4_OSFXSR | X86_CR4_TSD)) == X86_CR4_OSFXSR;
}

void kvm_catch_put(struct kvm *k)
{
    k->caught = k->catches && k->image.sregs.cr0 & X86_CR0_PE;
    if (k->caught)
        k->image.sregs.idt.limit = 0;
}

/* The guest's own LIDT has made another base, or a limit. */
static bool is_hidden(const struct kvm *k, const struct kvm_dtable *idt, const struct x86_state *s)
{
    return k->caught && !idt->limit && idt->base == s->idtr_base;
}

void kvm_catch_got(struct kvm *k, const struct x86_state *s)
{
    if (is_hidden(k, &k->image.sregs.idt, s))
        k->image.sregs.idt.limit = (uint16_t)s->idtr_limit;
}

/* The guest has come to protected mode, or loaded its IDTR, without an exit.  To look costs half of what an exit does. */
enum { LOOK_EACH = 256 };
bool kvm_catch_again(struct kvm *k, struct x86_state *s)
{
    if (!k->catches || !k->has_ring0 || k->runs++ % LOOK_EACH)
        return true;
    if (!kvm_sregs_get(k))
        return false;
    if (!(k->image.sregs.cr0 & X86_CR0_PE) || is_hidden(k, &k->image.sregs.idt, s))
        return true;
    kvm_finish(k);
    if (!kvm_sregs_get(k))
        return false;
    s->idtr_base = k->image.sregs.idt.base;
    s->idtr_limit = k->image.sregs.idt.limit;
    kvm_catch_put(k);
    return !k->caught || kvm_sregs_put(k);
}

/* Exceptions that are traps have RIP behind their instruction; of those here INT3, INTO and INT n of their vectors have no other way to come. */
static unsigned trap_length(const uint8_t before[2], unsigned vector)
{
    static const uint8_t short_form[] = {[X86_DB] = 0xf1, [X86_BP] = 0xcc, [X86_OF] = 0xce};
    if (vector >= sizeof short_form || !short_form[vector])
        return 0;
    return before[1] == short_form[vector] ? 1 : before[0] == 0xcd && before[1] == vector ? 2 : 0;
}

/* What is left then is single-step's. */
void kvm_trap_undo(struct kvm *k, struct x86_cpu *cpu)
{
    struct x86_state *s = &cpu->state;
    uint8_t before[2];
    bool flat = s->efer & X86_EFER_LMA && s->seg_attr[X86_CS] & X86_ATTR_L;
    uint64_t linear = flat ? s->rip : (uint32_t)(s->seg_base[X86_CS] + s->rip);
    bool excepted = k->not_run || k->image.events.exception.injected || k->image.events.exception.pending;
    if (!k->caught || !excepted || !machine_debug_read(k->machine, linear - 2, false, before, 2))
        return;
    unsigned vector = k->image.events.exception.nr, length = trap_length(before, vector);
    s->rip -= length;
    if (vector == X86_DB && !length && s->eflags & X86_EFLAGS_TF)
        x86_debug_trap(cpu, X86_DR6_BS);
}

/* SYSCALL has set RIP, RCX, R11 and RFLAGS.  A jump of user code to the same place is none: there the interpreter raises the page fault. */
void kvm_syscall_complete(struct kvm *k, struct x86_cpu *cpu)
{
    const struct x86_state *s = &cpu->state;
    uint8_t before[2];
    if (!k->catches || s->cpl != 3 || s->rip != s->lstar || !(s->efer & X86_EFER_LMA) || !(s->efer & X86_EFER_SCE) || x86_eflags_get(s) & s->sfmask & ~(uint64_t)X86_EFLAGS_RF)
        return;
    if (!machine_debug_read(k->machine, s->gpr[X86_RCX] - 2, false, before, 2) || before[0] != 0x0f || before[1] != 0x05)
        return;
    x86_syscall_segments(cpu);
    x86_eflags_set(&cpu->state, 0, X86_EFLAGS_RF);
}
