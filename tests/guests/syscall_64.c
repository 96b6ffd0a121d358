/* SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS, FSGSBASE and the checks of MSRs (SDM 2B, SDM 4).
 * guest-cpu: default x86-64-v2,vendor=GenuineIntel */
#include "lib/guest.h"

enum { SYSENTER_CS = 0x174, SYSENTER_ESP, SYSENTER_EIP };
#define EFER 0xc0000080u
#define STAR 0xc0000081u
#define LSTAR 0xc0000082u
#define CSTAR 0xc0000083u
#define SFMASK 0xc0000084u
#define FS_BASE 0xc0000100u
#define GS_BASE 0xc0000101u
#define KERNEL_GS_BASE 0xc0000102u
#define BAD 0x0000800000000000ull
static struct regs r;

static bool is_intel(void)
{
    u32 maker[4];
    cpuid(0, 0, maker);
    return maker[1] == 0x756e6547; /* Genu */
}

static void syscall(void)
{
    r = user(ASM("syscall"));
    EXPECT("SYSCALL without EFER.SCE", &r, UD, NONE, 0);
    wrmsr(EFER, rdmsr(EFER) | 1);
    wrmsr(STAR, (u64)UCODE32 << 48 | (u64)KCODE << 32);
    wrmsr(LSTAR, (word)KASM("mov %cs, %eax; mov %ss, %edx"));
    wrmsr(CSTAR, (word)KASM("mov %cs, %eax; mov $3, %edx"));
    wrmsr(SFMASK, FLAG_IF | FLAG_DF | FLAG_AC | FLAG_TF | FLAG_NT);
    r.flags |= FLAG_IF | FLAG_DF | FLAG_CF | FLAG_ID | FLAG_AC | FLAG_NT;
    OK("SYSCALL", &r);
    CHECK_EQ("CS", ev.r.cs, KCODE);
    CHECK_EQ("SS", ev.r.ss, KCODE + 8);
    CHECK_EQ("RCX is the return address", ev.r.cx, r.ip + 2);
    CHECK_EQ("R11 is RFLAGS", ev.r.r11, r.flags);
    CHECK_EQ("RFLAGS are masked", ev.r.flags, FLAG_FIXED | FLAG_CF | FLAG_ID);
    CHECK_EQ("RSP is the user's", ev.r.sp, r.sp);
    r = user(ASM("syscall")), r.flags |= FLAG_TF;
    EXPECT("SYSCALL with TF masked: no trap", &r, DONE, NONE, ANYWHERE);
    CHECK_EQ("R11 has TF", ev.r.r11, FLAG_FIXED | FLAG_TF);
    wrmsr(SFMASK, 0);
    EXPECT("SYSCALL with TF kept: a trap at its target", &r, DB, NONE, ANYWHERE);
    CHECK_EQ("at the target", ev.r.ip, rdmsr(LSTAR));
    set_dr6(0xffff0ff0);
    wrmsr(SFMASK, FLAG_IF | FLAG_DF | FLAG_AC | FLAG_TF);
    r = kernel(KASM("syscall"));
    OK("SYSCALL at CPL 0", &r);
    CHECK_EQ("CS", ev.r.cs, KCODE);
    r = user(ASM32("syscall")), r.cs = UCODE32;
    if (is_intel()) {
        EXPECT("SYSCALL in compatibility mode", &r, UD, NONE, 0);
        r = kernel(KASM32("sysret")), r.cs = KCODE32, EXPECT("SYSRET in compatibility mode", &r, UD, NONE, 0);
        return;
    }
    OK("SYSCALL in compatibility mode", &r);
    CHECK_EQ("goes to CSTAR", ev.r.dx, 3);
    CHECK_EQ("RCX", ev.r.cx, r.ip + 2);
}

static void sysret(void)
{
    r = kernel(KASM("sysretq")), r.cx = (word)ASM("mov %cs, %eax"), r.r11 = 0xffffffffffffffffull & ~(u64)(FLAG_TF | FLAG_NT | FLAG_IOPL), r.sp = (word)ustack_area + 1024;
    OK("SYSRETQ", &r);
    CHECK_EQ("CS", ev.r.cs, UCODE);
    CHECK_EQ("SS", ev.r.ss, UDATA);
    CHECK_EQ("RFLAGS: no RF, no VM, no reserved bits", ev.r.flags, 0x3c7fd7 & ~(FLAG_TF | FLAG_NT | FLAG_IOPL));
    CHECK_EQ("RSP is kept", ev.r.sp, r.sp);
    r.r11 = FLAG_FIXED;
    r.ip = (word)KASM(".byte 0x0f, 0x07"); /* SYSRETL */
    r.cx = (word)ASM32("mov %cs, %eax") | 0xabcd00000000ull;
    OK("SYSRETL", &r);
    CHECK_EQ("CS is 32-bit code", ev.r.cs, UCODE32);
    CHECK_EQ("SS", ev.r.ss, UDATA);
    r.ip = (word)KASM("sysretq"), r.cx = BAD, r.r11 = FLAG_FIXED | FLAG_CF;
    EXPECT("SYSRETQ to a non-canonical address", &r, GP, 0, is_intel() ? 0 : ANYWHERE);
    CHECK_EQ("by maker, at CPL 0 or 3", ev.r.cs, is_intel() ? KCODE : UCODE);
    CHECK_EQ("before it or behind", ev.r.ip, is_intel() ? r.ip : BAD);
    CHECK_EQ("with flags from before or behind", ev.r.flags & FLAG_CF, is_intel() ? 0 : FLAG_CF);
    r.cx = (word)ASM("nop; nop"), r.r11 = FLAG_FIXED | FLAG_TF;
    EXPECT("SYSRETQ that sets TF", &r, DB, NONE, ANYWHERE);
    CHECK("at the user's first or second instruction", ev.r.ip == r.cx || ev.r.ip == r.cx + 1);
    set_dr6(0xffff0ff0);
    r = user(ASM("sysretq"));
    EXPECT("SYSRET at CPL 3", &r, GP, 0, 0);
}

/* From ring 3 to ring 0 and back without a stop, many times: each has its own rights at once. */
static void rights(void)
{
    static u64 kernels;
    wrmsr(LSTAR, (word)KASM("incq (%rdi); mov (%rdi), %rax; sysretq"));
    for (unsigned n = 0; n < 6; n++) {
        r = user(ASM("mov $20, %ebx; 1: syscall; dec %ebx; jnz 1b; mov %rax, (%rdi)")), r.di = (word)&kernels;
        EXPECT("a user's write to what the kernel just wrote", &r, PF, 7, 11), CHECK_EQ("how often it was called", kernels, 20 * (n + 1));
        r = user(ASM("mov $20, %ebx; 1: syscall; dec %ebx; jnz 1b; mov (%rdi), %rcx")), r.di = (word)&kernels;
        EXPECT("a user's read of it", &r, PF, 5, 11), kernels -= 20;
    }
    wrmsr(LSTAR, (word)KASM("nop"));
}

static void sysenter(void)
{
    if (!has(1, 3, 11))
        return;
    if (!is_intel()) {
        wrmsr(SYSENTER_CS, KCODE);
        r = user(ASM("sysenter")), EXPECT("SYSENTER in long mode", &r, UD, NONE, 0);
        r = user(ASM32("sysenter")), r.cs = UCODE32, EXPECT("SYSENTER in compatibility mode", &r, UD, NONE, 0);
        r = kernel(KASM("sysexit")), EXPECT("SYSEXIT in long mode", &r, UD, NONE, 0);
        r = user(ASM("sysexit")), EXPECT("SYSEXIT in long mode at CPL 3", &r, UD, NONE, 0);
        return;
    }
    wrmsr(SYSENTER_CS, 0);
    r = user(ASM("sysenter"));
    EXPECT("SYSENTER without a code segment", &r, GP, 0, 0);
    wrmsr(SYSENTER_CS, KCODE);
    wrmsr(SYSENTER_ESP, (word)stack_area + 2048);
    wrmsr(SYSENTER_EIP, (word)KASM("mov %cs, %eax"));
    r.flags |= FLAG_IF | FLAG_DF;
    OK("SYSENTER", &r);
    CHECK_EQ("CS", ev.r.cs, KCODE);
    CHECK_EQ("SS", ev.r.ss, KCODE + 8);
    CHECK_EQ("RSP", ev.r.sp, (word)stack_area + 2048);
    CHECK_EQ("IF is clear, the rest stays", ev.r.flags, FLAG_FIXED | FLAG_DF);
    /* SYSEXIT wants CS+16 and +32 to be user segments */
    gdt_set(FREE, gdt[KCODE >> 3], 0), gdt_set(FREE + 8, gdt[KDATA >> 3], 0);
    gdt_set(FREE + 16, gdt[UCODE32 >> 3], 0), gdt_set(FREE + 24, gdt[UDATA >> 3], 0);
    gdt_set(FREE + 32, gdt[UCODE >> 3], 0), gdt_set(FREE + 40, gdt[UDATA >> 3], 0);
    wrmsr(SYSENTER_CS, FREE);
    r = kernel(KASM(".byte 0x48, 0x0f, 0x35")), r.dx = (word)ASM("nop"), r.cx = (word)ustack_area + 512;
    OK("SYSEXIT of 64 bits", &r);
    CHECK_EQ("CS", ev.r.cs, FREE + 32 + 3);
    CHECK_EQ("SS", ev.r.ss, FREE + 40 + 3);
    CHECK_EQ("RSP", ev.r.sp, r.cx);
    r.dx = BAD, EXPECT("SYSEXIT to a non-canonical address", &r, GP, 0, 0);
    r.dx = (word)ASM("nop"), r.cx = BAD, EXPECT("SYSEXIT to a non-canonical stack", &r, GP, 0, 0);
    r = kernel(KASM("sysexit")), r.dx = (word)ASM32("nop"), r.cx = (word)ustack_area + 512;
    OK("SYSEXIT of 32 bits", &r);
    CHECK_EQ("CS", ev.r.cs, FREE + 16 + 3);
    r = user(ASM("sysexit")), EXPECT("SYSEXIT at CPL 3", &r, GP, 0, 0);
    wrmsr(SYSENTER_CS, 3);
    r = kernel(KASM("sysexit")), EXPECT("SYSEXIT without a code segment", &r, GP, 0, 0);
}

static void bases(void)
{
    static u64 data[2] __attribute__((section(".udata"))) = {0x1111, 0x2222};
    wrmsr(GS_BASE, (word)&data[0]), wrmsr(KERNEL_GS_BASE, (word)&data[1]);
    r = kernel(KASM("mov %gs:0, %rax; swapgs; mov %gs:0, %rcx; swapgs; mov %gs:0, %rdx"));
    OK("SWAPGS", &r);
    CHECK_EQ("before", ev.r.ax, 0x1111);
    CHECK_EQ("after", ev.r.cx, 0x2222);
    CHECK_EQ("and back", ev.r.dx, 0x1111);
    wrmsr(FS_BASE, 0xffff800000001000ull);
    CHECK_EQ("FS base", rdmsr(FS_BASE), 0xffff800000001000ull);
    r = kernel(KASM("swapgs"));
    OK("SWAPGS", &r);
    CHECK_EQ("GS base now", rdmsr(GS_BASE), (word)&data[1]);
    CHECK_EQ("the other now", rdmsr(KERNEL_GS_BASE), (word)&data[0]);
    r = user(ASM32("mov %eax, %gs; mov %gs:0, %ecx")), r.cs = UCODE32, r.ax = FREE + 3;
    gdt_set(FREE, segment((u32)(word)&data[1], 0xff, A_PRESENT | A_DPL3 | A_DATA | A_RW), 0);
    OK("GS in compatibility mode", &r);
    CHECK_EQ("read through the descriptor's base", ev.r.cx, 0x2222);
    CHECK_EQ("the MSR shows it", rdmsr(GS_BASE), (word)&data[1]);
    word cr4 = get_cr4();
    r = user(ASM("rdfsbase %rax"));
    EXPECT("RDFSBASE without CR4.FSGSBASE", &r, UD, NONE, 0);
    if (!has(7, 1, 0))
        return;
    set_cr4(cr4 | CR4_FSGSBASE);
    OK("RDFSBASE", &r);
    CHECK_EQ("its value", ev.r.ax, rdmsr(FS_BASE));
    r = user(ASM("wrgsbase %rax; mov %gs:8, %rcx; rdgsbase %rdx")), r.ax = (word)&data[0];
    OK("WRGSBASE", &r);
    CHECK_EQ("used", ev.r.cx, 0x2222);
    CHECK_EQ("read back", ev.r.dx, r.ax);
    r = user(ASM("wrgsbase %rax")), r.ax = BAD, EXPECT("WRGSBASE non-canonical", &r, GP, 0, 0);
    r = user(ASM("wrfsbase %rax")), r.ax = BAD, EXPECT("WRFSBASE non-canonical", &r, GP, 0, 0);
    r = user(ASM("wrfsbase %eax; rdfsbase %rcx")), r.ax = 0xdead0000ffffffffull, OK("WRFSBASE of 32 bits", &r);
    CHECK_EQ("zero-extended", ev.r.cx, 0xffffffffull);
    r = user(ASM32(".byte 0xf3, 0x0f, 0xae, 0xc0")), r.cs = UCODE32, EXPECT("RDFSBASE in compatibility mode", &r, UD, NONE, 0);
    set_cr4(cr4);
}

static void write_msr(int line, u32 msr, u64 v, bool ok)
{
    r = kernel(KASM("wrmsr")), r.cx = msr, r.ax = (u32)v, r.dx = v >> 32;
    expect_(__FILE__, line, "WRMSR", &r, ok ? DONE : GP, ok ? NONE : 0, ok ? ANYWHERE : 0);
    if (ok)
        CHECK_EQ("RDMSR", rdmsr(msr), v);
}
#define MSR(msr, v, ok) write_msr(__LINE__, msr, v, ok)

static void msrs(void)
{
    static const u32 canonical[] = {LSTAR, CSTAR, FS_BASE, GS_BASE, KERNEL_GS_BASE, SYSENTER_ESP, SYSENTER_EIP};
    for (unsigned i = 0; i < sizeof canonical / sizeof *canonical; i++) {
        MSR(canonical[i], BAD, false);
        MSR(canonical[i], BAD - 1, true);
        MSR(canonical[i], ~(BAD - 1), true);
        MSR(canonical[i], ~BAD, false);
        MSR(canonical[i], 0, true);
    }
    u64 efer = rdmsr(EFER);
    CHECK_EQ("EFER.LMA", efer >> 10 & 1, 1);
    MSR(EFER, efer | 1ull << 32, false);
    MSR(EFER, efer | 1 << 1, false);
    MSR(EFER, efer & ~(1ull << 8), false); /* LME while paging is on */
    r = kernel(KASM("wrmsr")), r.cx = EFER, r.ax = efer & ~(1u << 10), r.dx = 0, OK("EFER.LMA cannot be written", &r);
    CHECK_EQ("it stays", rdmsr(EFER), efer);
    MSR(SFMASK, 1ull << 32, false);
    MSR(SFMASK, 0x47700, true);
    MSR(STAR, 0x0023001012345678ull, true);
    MSR(0x277, 0x0007010600070106ull, true);  /* PAT */
    MSR(0x277, 0x0007010600070102ull, false); /* type 2 is none */
    MSR(0x277, 0x0807010600070106ull, false);
    MSR(0x277, 0x0007040600070406ull, true);
    if (has(0x80000001, 3, 27)) {
        MSR(0xc0000103, 0x1234, true); /* TSC_AUX */
        MSR(0xc0000103, 1ull << 32, false);
        r = user(ASM("rdtscp")), OK("RDTSCP", &r), CHECK_EQ("ECX is TSC_AUX", ev.r.cx, 0x1234);
    }
    r = kernel(KASM("rdmsr")), r.cx = 0x12345, EXPECT("RDMSR of none", &r, GP, 0, 0);
    r = kernel(KASM("wrmsr")), r.cx = 0x12345, EXPECT("WRMSR of none", &r, GP, 0, 0);
    r = kernel(KASM("rdmsr")), r.cx = 0xffffffff00000000ull | EFER, OK("RDMSR looks at ECX alone", &r);
    CHECK_EQ("and clears the high halves", ev.r.ax | ev.r.dx, (u32)efer);
    u64 tsc = rdmsr(0x10), later;
    wrmsr(0x10, 1ull << 40);
    later = rdmsr(0x10);
    CHECK("TSC that was written goes on from there", later >= 1ull << 40 && later < 2ull << 40);
    if (has(7, 1, 1))
        CHECK("TSC_ADJUST shows the change", rdmsr(0x3b) != 0);
    wrmsr(0x10, tsc);
    u64 base = rdmsr(0x1b);
    CHECK_EQ("APIC base", base & 0xfffff900, 0xfee00900);
    MSR(0x1b, base | 1ull << 52, false);
    MSR(0x1b, base | 1, false);
}

static void canonical_tables(void)
{
    struct table bad = {0xff, BAD};
    r = kernel(KASM("lgdt (%rax)")), r.ax = (word)&bad, EXPECT("LGDT non-canonical", &r, GP, 0, 0);
    r = kernel(KASM("lidt (%rax)")), r.ax = (word)&bad, EXPECT("LIDT non-canonical", &r, GP, 0, 0);
    r = kernel(KASM("lldt %ax")), r.ax = FREE;
    gdt_set(FREE, segment((u32)BAD, 0xff, A_PRESENT | 2), BAD >> 32), EXPECT("LLDT non-canonical", &r, GP, FREE, 0);
    gdt_set(FREE, segment(0, 0xff, A_PRESENT | 2), 0xffffffff), gdt[(FREE >> 3) + 1] |= 1ull << 40;
    EXPECT("LLDT: type bits in the upper half", &r, GP, FREE, 0);
    gdt[(FREE >> 3) + 1] = 0;
    OK("LLDT", &r);
    gdt_set(FREE, segment(0, 0xff, 2), 0), EXPECT("LLDT not present", &r, NP, FREE, 0);
    gdt_set(FREE, segment(0, 0xff, A_PRESENT | A_DATA), 0), EXPECT("LLDT of a data segment", &r, GP, FREE, 0);
    r.ax = 4, EXPECT("LLDT of an LDT's selector", &r, GP, 4, 0);
    r.ax = 0, OK("LLDT null", &r);
    r = kernel(KASM("ltr %ax")), r.ax = FREE;
    gdt_set(FREE, segment((u32)BAD, 0x67, A_PRESENT | 9), BAD >> 32), EXPECT("LTR non-canonical", &r, GP, FREE, 0);
    gdt[(FREE >> 3) + 1] = 0;
    gdt_set(FREE, segment(0, 0x67, A_PRESENT | 11), 0), EXPECT("LTR busy", &r, GP, FREE, 0);
    gdt_set(FREE, segment(0, 0x67, A_PRESENT | 1), 0), EXPECT("LTR of 16 bits in long mode", &r, GP, FREE, 0);
    gdt_set(FREE, segment(0, 0x67, 9), 0), EXPECT("LTR not present", &r, NP, FREE, 0);
    r.ax = 0, EXPECT("LTR null", &r, GP, 0, 0);
    r.ax = sizeof gdt, EXPECT("LTR beyond the GDT", &r, GP, sizeof gdt, 0);
    r.ax = sizeof gdt - 8, gdt[GDT_ENTRIES - 1] = segment(0, 0x67, A_PRESENT | 9), EXPECT("LTR whose upper half is beyond the GDT", &r, GP, sizeof gdt - 8, 0);
    r = user(ASM("lldt %ax")), EXPECT("LLDT at CPL 3", &r, GP, 0, 0);
    r = user(ASM("ltr %ax")), EXPECT("LTR at CPL 3", &r, GP, 0, 0);
    r = user(ASM("lgdt (%rsp)")), EXPECT("LGDT at CPL 3", &r, GP, 0, 0);
}

void guest_main(void)
{
    syscall();
    sysret();
    rights();
    sysenter();
    bases();
    msrs();
    canonical_tables();
}
