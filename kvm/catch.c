/* A KVM that runs user code on the host's CPU without VT-x or SVM may get the ways out of it wrong: SYSCALL goes to its target and stays in ring 3, INT n is an
 * invalid opcode.  On such a host (kvm_syscall_stays) KVM delivers nothing: in protected mode it is told of an IDT without entries, so that each exception
 * becomes a triple fault, for which KVM_RUN comes back with the state as it was before the instruction.  The interpreter runs that, and delivers what comes of it; interrupts
 * are delivered on our side too.  In real mode and for the kernel's interrupt controllers all is left to KVM. */
#include "kvm/internal.h"
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

void kvm_catch_begin(struct kvm *k)
{
    k->catches = k->host.syscall_stays && !k->has_irqchip;
    if (k->catches)
        kvm_warn("the host's KVM runs SYSCALL and INT n of user code wrongly: these and all exceptions and interrupts are the interpreter's");
    else if (k->host.syscall_stays)
        kvm_warn("the host's KVM runs SYSCALL and INT n of user code wrongly, which with kernel-irqchip=on is not made up for");
}

static bool hide(struct kvm *k, struct kvm_sregs2 *s)
{
    k->caught = k->catches && s->cr0 & X86_CR0_PE;
    if (k->caught)
        s->idt.limit = 0;
    return k->caught;
}

/* A guest that has an IDT (at reset its base is 0): KVM would not stop where it loads one, which were not hidden then when it is needed. */
bool kvm_can_run(void *accel, const struct x86_state *s)
{
    const struct kvm *k = accel;
    if (k->host.long_paging_only && s->cr0 & X86_CR0_PG && !(s->efer & X86_EFER_LMA))
        return false;
    return !k->catches || (s->cr0 & X86_CR0_PE && s->idtr_base);
}

void kvm_catch_put(struct kvm *k) { hide(k, &k->image.sregs); }

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

/* The guest has come to protected mode, or loaded its IDTR, without an exit. */
bool kvm_catch_again(struct kvm *k, struct x86_state *s)
{
    if (!k->catches)
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
    return !hide(k, &k->image.sregs) || kvm_sregs_put(k);
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
