/* The guest's state to KVM's structures and back: random states survive the round trip in both forms of the FPU, and single things are
 * where KVM looks for them.  No KVM is needed. */
#include "kvm/internal.h"
#include <stddef.h>
#include <string.h>

static unsigned passed, failures;
static void check_at(int line, const char *what, uint64_t got, uint64_t wanted)
{
    passed += got == wanted;
    if (got == wanted)
        return;
    failures++;
    printf("state_test.c:%d: %s: got 0x%llx, wanted 0x%llx\n", line, what, (unsigned long long)got, (unsigned long long)wanted);
}
#define CHECK(what, got, wanted) check_at(__LINE__, what, (uint64_t)(got), (uint64_t)(wanted))

static uint64_t seed = 88172645463325252ull;
static uint64_t any(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}
static void fill(void *to, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)to)[i] = (uint8_t)(any() >> 32);
}
#define FILL(field) fill(&s->field, sizeof s->field)

/* Attributes that some descriptor gives: null ones as the frontend makes them. */
static uint32_t any_attr(bool may_be_null, unsigned cpl, bool stack)
{
    if (may_be_null && any() % 4 == 0)
        return X86_ATTR_NULL | (stack ? cpl << X86_ATTR_DPL_SHIFT : 0);
    uint32_t attr = (uint32_t)any() & 0xf06f;
    return (stack ? (attr & ~(3u << X86_ATTR_DPL_SHIFT)) | cpl << X86_ATTR_DPL_SHIFT : attr) | X86_ATTR_P;
}

static void any_state(struct x86_state *s)
{
    memset(s, 0, sizeof *s);
    FILL(gpr), FILL(rip), FILL(mxcsr), FILL(seg_base), FILL(seg_limit), FILL(seg_sel), FILL(ldtr_sel), FILL(ldtr_base), FILL(ldtr_limit);
    FILL(tr_sel), FILL(tr_base), FILL(tr_limit), FILL(gdtr_base), FILL(idtr_base), FILL(cr2), FILL(cr3), FILL(xcr0), FILL(efer);
    FILL(star), FILL(lstar), FILL(cstar), FILL(sfmask), FILL(kernel_gs_base), FILL(sysenter_cs), FILL(sysenter_esp), FILL(sysenter_eip);
    FILL(tsc_adjust), FILL(tsc_aux), FILL(pat), FILL(misc_enable), FILL(mtrr_def_type), FILL(mtrr_fixed), FILL(mtrr_var), FILL(mcg_status);
    FILL(fcw), FILL(fptag), FILL(fop), FILL(fip), FILL(fdp);
    x86_eflags_set(s, (uint32_t)any(), ~0u);
    s->gdtr_limit = (uint16_t)any();
    s->idtr_limit = (uint16_t)any();
    s->cr0 = any() | X86_CR0_PE;
    s->cr4 = any();
    s->cpl = s->eflags & X86_EFLAGS_VM ? 3 : any() & 3;
    for (unsigned i = 0; i < 6; i++)
        s->seg_attr[i] = any_attr(i != X86_CS, s->cpl, i == X86_SS);
    s->ldtr_attr = any_attr(true, 0, false);
    s->tr_attr = any_attr(false, 0, false);
    if (s->cr0 & X86_CR0_PG && s->cr4 & X86_CR4_PAE && !(s->efer & X86_EFER_LMA))
        FILL(pdpte);
    for (unsigned i = 0; i < 8; i++)
        if (i != 4 && i != 5)
            s->dr[i] = any();
    s->fsw = (uint16_t)(any() & ~(7u << 11));
    s->fptop = any() & 7;
    for (unsigned i = 0; i < 8; i++)
        s->fpr[i] = (struct x86_fpr){.mantissa = any(), .exponent = (uint16_t)any()};
    for (unsigned i = 0; i < 16; i++)
        fill(&s->vec[i], 16);
    s->shadow = any() % 3;
    s->nmi_pending = any() & 1;
    s->nmi_masked = any() & 1;
}

/* Which field differs, for the report. */
static const char *difference(const struct x86_state *a, const struct x86_state *b)
{
#define FIELD(ctype, name, dims, ir_type, state_class, hot, reset) if (memcmp(&a->name, &b->name, sizeof a->name)) return #name;
#include "frontend/state.def"
    return NULL;
}

static void round_trip(bool with_xsave)
{
    struct x86_state before, after;
    struct kvm_image image;
    any_state(&before);
    memset(&after, 0, sizeof after);
    memset(&image, 0, sizeof image);
    kvm_image_of(&before, &image);
    if (with_xsave)
        memset(&image.fpu, 0xaa, sizeof image.fpu);
    else
        memset(image.xsave, 0xaa, sizeof image.xsave);
    int vector = kvm_image_to(&image, with_xsave, &after);
    const char *where = difference(&before, &after);
    passed += !where && vector == -1;
    if (where || vector != -1) {
        failures++;
        printf("round trip %s XSAVE: %s differs, vector %d\n", with_xsave ? "with" : "without", where ? where : "nothing", vector);
    }
}

/* --- Single things */
static void registers_test(void)
{
    struct x86_state s = {0};
    struct kvm_image k = {0};
    for (unsigned i = 0; i < 16; i++)
        s.gpr[i] = 100 + i;
    s.rip = 0x1234;
    x86_eflags_set(&s, X86_EFLAGS_ZF | X86_EFLAGS_IF | X86_EFLAGS_RF, ~0u);
    s.seg_sel[X86_FS] = 0x53;
    s.seg_base[X86_FS] = 0x7fff00001000;
    s.seg_attr[X86_FS] = X86_ATTR_NULL;
    s.seg_attr[X86_CS] = 0xa09b;
    s.seg_attr[X86_SS] = X86_ATTR_NULL;
    s.cr0 = X86_CR0_PE;
    kvm_image_of(&s, &k);
    CHECK("RSI", k.regs.rsi, 100 + X86_RSI);
    CHECK("RSP", k.regs.rsp, 100 + X86_RSP);
    CHECK("R15", k.regs.r15, 115);
    CHECK("RFLAGS", k.regs.rflags, X86_EFLAGS_ZF | X86_EFLAGS_IF | X86_EFLAGS_RF | 2);
    CHECK("a null FS is unusable", k.sregs.fs.unusable, 1);
    CHECK("and has its base", k.sregs.fs.base, 0x7fff00001000);
    CHECK("CS.L", k.sregs.cs.l, 1);
    CHECK("CS.D", k.sregs.cs.db, 0);
    CHECK("CS.type", k.sregs.cs.type, 11);
    CHECK("CS.P", k.sregs.cs.present, 1);
    s.cpl = 3;
    s.seg_attr[X86_SS] = 0xc0f3;
    kvm_image_of(&s, &k);
    CHECK("the CPL is in SS", k.sregs.ss.dpl, 3);
    k.sregs.ss.dpl = 1;
    kvm_image_to(&k, true, &s);
    CHECK("and comes from there", s.cpl, 1);
    k.sregs.cr0 = 0;
    k.sregs.ss.dpl = 3;
    kvm_image_to(&k, true, &s);
    CHECK("in real mode it is 0", s.cpl, 0);
    k.sregs.cr0 = X86_CR0_PE;
    k.regs.rflags = X86_EFLAGS_VM;
    k.sregs.ss.dpl = 0;
    kvm_image_to(&k, true, &s);
    CHECK("in virtual-8086 mode 3", s.cpl, 3);
}

static void x87_test(void)
{
    struct x86_state s = {0};
    struct kvm_image k = {0};
    s.fptop = 6;
    s.fpr[6].mantissa = 111; /* ST(0) */
    s.fpr[1].mantissa = 222; /* ST(3) */
    s.fptag = 1 << 6 | 1 << 1;
    s.vec[9].q[1] = 99;
    kvm_image_of(&s, &k);
    CHECK("ST(0) comes first", *(uint64_t *)(void *)k.fpu.fpr[0], 111);
    CHECK("ST(3)", *(uint64_t *)(void *)k.fpu.fpr[3], 222);
    CHECK("TOP is in FSW", k.fpu.fsw, 6 << 11);
    CHECK("tags are of physical registers", k.fpu.ftwx, 1 << 6 | 1 << 1);
    CHECK("XMM9", *(uint64_t *)(void *)(k.fpu.xmm[9] + 8), 99);
    uint64_t none = 0;
    memcpy(k.xsave + 512, &none, 8); /* XSTATE_BV: both are as after FNINIT, whatever lies there */
    kvm_image_to(&k, true, &s);
    CHECK("FCW of an x87 in its initial state", s.fcw, 0x37f);
    CHECK("its tags", s.fptag, 0);
    CHECK("XMM9 of an SSE in its initial state", s.vec[9].q[1], 0);
}

static void events_test(void)
{
    struct x86_state s = {0};
    struct kvm_image k = {0};
    k.events.exception.injected = 1;
    k.events.exception.nr = X86_PF;
    k.events.exception.has_error_code = 1;
    k.events.exception.error_code = 6;
    k.sregs.cr2 = 0x5000;
    CHECK("an exception is no interrupt", kvm_image_to(&k, true, &s), -1);
    CHECK("it is pending", s.faulted, 1);
    CHECK("its vector", s.fault_vector, X86_PF);
    CHECK("its error code", s.fault_error, 6);
    CHECK("it has one", s.fault_has_error, 1);
    CHECK("its address", s.fault_address, 0x5000);
    k.events.exception.injected = 0;
    k.events.exception.pending = 1;
    k.events.flags = KVM_VCPUEVENT_VALID_PAYLOAD;
    k.events.exception_has_payload = 1;
    k.events.exception_payload = 0x6000;
    kvm_image_to(&k, true, &s);
    CHECK("the address is the payload", s.fault_address, 0x6000);
    k.events.exception.nr = X86_DB;
    k.events.exception_payload = 0x4001;
    kvm_image_to(&k, true, &s);
    CHECK("DR6's bits are the payload", s.fault_dr6, 0x4001);
    k.events.exception.nr = X86_BP;
    kvm_image_to(&k, true, &s);
    CHECK("INT3 runs again", s.faulted, 0);
    memset(&k.events, 0, sizeof k.events);
    k.events.interrupt.injected = 1;
    k.events.interrupt.nr = 0x41;
    CHECK("an interrupt that was taken", kvm_image_to(&k, true, &s), 0x41);
    k.events.interrupt.soft = 1;
    CHECK("INT n runs again", kvm_image_to(&k, true, &s), -1);
    memset(&k.events, 0, sizeof k.events);
    k.events.nmi.injected = k.events.nmi.masked = 1;
    kvm_image_to(&k, true, &s);
    CHECK("an NMI that was taken is pending again", s.nmi_pending, 1);
    CHECK("and not masked by itself", s.nmi_masked, 0);
    s = (struct x86_state){.shadow = 2};
    kvm_image_of(&s, &k);
    CHECK("the shadow of MOV SS", k.events.interrupt.shadow, 1);
    s.shadow = 1;
    kvm_image_of(&s, &k);
    CHECK("the shadow of STI", k.events.interrupt.shadow, 2);
    CHECK("the shadow is given", k.events.flags & KVM_VCPUEVENT_VALID_SHADOW, KVM_VCPUEVENT_VALID_SHADOW);
}

static void pdpte_test(void)
{
    struct x86_state s = {.cr0 = X86_CR0_PE | X86_CR0_PG, .cr4 = X86_CR4_PAE, .pdpte = {1, 2, 3, 4}};
    struct kvm_image k = {0};
    kvm_image_of(&s, &k);
    CHECK("PDPTEs with PAE", k.sregs.flags, KVM_SREGS2_FLAGS_PDPTRS_VALID);
    CHECK("the last", k.sregs.pdptrs[3], 4);
    s.efer = X86_EFER_LMA;
    kvm_image_of(&s, &k);
    CHECK("none in long mode", k.sregs.flags, 0);
}

/* Of a KVM that runs it on the host's CPU. */
static void user_code(const struct x86_state *kernel)
{
    struct kvm k = {.catches = true};
    struct x86_state s = *kernel;
    s.cpl = 3;
    CHECK("user code can run", kvm_can_run(&k, &s), true);
    s.cr0 |= X86_CR0_TS;
    CHECK("not where x87 is to trap", kvm_can_run(&k, &s), false);
    s.cr0 = kernel->cr0;
    s.cr4 = 0;
    CHECK("not where SSE is unknown", kvm_can_run(&k, &s), false);
    s.cr4 = kernel->cr4 | X86_CR4_TSD;
    CHECK("not where RDTSC is to fault", kvm_can_run(&k, &s), false);
    s.cr4 = kernel->cr4;
    s.dr[7] = 1;
    CHECK("not with a breakpoint", kvm_can_run(&k, &s), false);
    s.dr[7] = 0x400;
    s.efer = X86_EFER_LMA;
    CHECK("not without SYSCALL", kvm_can_run(&k, &s), false);
    s.efer |= X86_EFER_SCE;
    CHECK("but with it", kvm_can_run(&k, &s), true);
    s.eflags = X86_EFLAGS_TF;
    CHECK("not step by step", kvm_can_run(&k, &s), false);
    s.eflags = X86_EFLAGS_VM;
    CHECK("not 8086 code", kvm_can_run(&k, &s), false);
}

/* What a KVM is told of that is to deliver nothing, and what becomes of it. */
static void catch_test(void)
{
    struct x86_state s = {.cr0 = X86_CR0_PE, .idtr_base = 0x5000, .idtr_limit = 0xfff, .cr4 = X86_CR4_OSFXSR};
    struct kvm k = {.catches = true};
    CHECK("ring 0 is a tier's", kvm_can_run(&k, &s), false);
    k.has_ring0 = true;
    CHECK("unless it is asked for", kvm_can_run(&k, &s), true);
    user_code(&s);
    kvm_image_of(&s, &k.image);
    kvm_catch_put(&k);
    CHECK("the IDT is where it was", k.image.sregs.idt.base, 0x5000);
    CHECK("it has no entries", k.image.sregs.idt.limit, 0);
    kvm_catch_got(&k, &s);
    CHECK("its limit comes back", k.image.sregs.idt.limit, 0xfff);
    k.image.sregs.idt = (struct kvm_dtable){.base = 0x6000, .limit = 0};
    kvm_catch_got(&k, &s);
    CHECK("that of an IDT the guest loaded stays", k.image.sregs.idt.limit, 0);
    k.image.sregs.idt = (struct kvm_dtable){.base = 0x5000, .limit = 0x7f};
    kvm_catch_got(&k, &s);
    CHECK("and so does another limit", k.image.sregs.idt.limit, 0x7f);
    s.cr0 = 0;
    kvm_image_of(&s, &k.image);
    kvm_catch_put(&k);
    CHECK("real mode has its table", k.image.sregs.idt.limit, 0xfff);
    s.cr0 = X86_CR0_PE;
    k.catches = false;
    kvm_image_of(&s, &k.image);
    kvm_catch_put(&k);
    CHECK("another KVM gets the IDT", k.image.sregs.idt.limit, 0xfff);
    CHECK("and runs all", kvm_can_run(&k, &s), true);
    k.host.long_paging_only = true;
    s.cr0 = X86_CR0_PE | X86_CR0_PG;
    CHECK("one without 32-bit paging does not run that", kvm_can_run(&k, &s), false);
    s.efer = X86_EFER_LMA;
    CHECK("but long mode", kvm_can_run(&k, &s), true);
}

int main(void)
{
    for (unsigned i = 0; i < 2000; i++)
        round_trip(i & 1);
    registers_test();
    x87_test();
    events_test();
    pdpte_test();
    catch_test();
    printf("state_test: %u passed, %u failed\n", passed, failures);
    return failures != 0;
}
