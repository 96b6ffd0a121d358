/* External interrupts: PIC and local APIC, the shadows of STI and MOV SS, HLT, IRET's window, priority against faults and
 * traps, repeated strings in between, MWAIT; the FPU's IRQ 13 with CR0.NE = 0 (SDM 3A chapter 6 and 10). */
#include "lib/guest.h"

enum { PIC1 = 0x20, PIC2 = 0xa0, BASE = 0x50, IRQ13 = BASE + 13, LAPIC = 0xfee00000 };
#define APIC(offset) (*(volatile u32 *)(LAPIC + (offset)))
static struct regs r;

static void pic(unsigned mask)
{
    static const struct { u16 port; u8 value; } init[] = {{PIC1, 0x11}, {PIC1 + 1, BASE}, {PIC1 + 1, 4}, {PIC1 + 1, 1}, {PIC2, 0x11}, {PIC2 + 1, BASE + 8}, {PIC2 + 1, 2}, {PIC2 + 1, 1}};
    for (unsigned i = 0; i < sizeof init / sizeof *init; i++)
        outb(init[i].port, init[i].value);
    outb(PIC1 + 1, (u8)mask), outb(PIC2 + 1, (u8)(mask >> 8));
}
static void eoi(void) { outb(PIC2, 0x20), outb(PIC1, 0x20); }
/* The timer's output goes up once after that many ticks of 1.19 MHz (mode 0). */
static void timer(unsigned ticks) { outb(0x43, 0x30), outb(0x40, (u8)ticks), outb(0x40, (u8)(ticks >> 8)); }
static void pending(void) /* IRQ 0 is requested, for certain */
{
    timer(2);
    do
        outb(PIC1, 0x0a);
    while (!(inb(PIC1) & 1));
}
/* An interrupt that is pending from the start: the run ends in it, at that distance. */
static void interrupted_(int line, const char *what, long at)
{
    pending();
    expect_(__FILE__, line, what, &r, BASE, NONE, at);
    eoi();
}
#define INTERRUPTED(what, at) interrupted_(__LINE__, what, at)

static void windows(void)
{
    pic(0xfffe & ~4u);
    r = kernel(KASM("nop; nop")), r.flags |= FLAG_IF, INTERRUPTED("IRET that sets IF opens at once", 0);
    r = user(ASM("nop; nop")), r.flags |= FLAG_IF, INTERRUPTED("the same to ring 3", 0);
    r = user(ASM("nop; nop")), r.flags |= FLAG_IF, INTERRUPTED("RF is as it was", 0), CHECK_EQ("RF", ev.r.flags & FLAG_RF, 0);
    r = kernel(KASM("sti; nop; nop")), INTERRUPTED("STI opens after the next instruction", 2);
    r = kernel(KASM("sti; sti; nop; nop")), INTERRUPTED("a second STI holds off no longer", 2);
    r = kernel(KASM("sti; cli; nop")), pending(), OK("STI and CLI never open", &r);
    r = kernel(KASM("sti; hlt; nop")), INTERRUPTED("STI and HLT", 2);
    r = kernel(KASM("mov %eax, %ss; nop; nop")), r.ax = KDATA, r.flags |= FLAG_IF, eoi();
    /* the interrupt comes before MOV SS: so IF is set by POPF right before it */
    r = kernel(KASM("popf; mov %eax, %ss; nop")), r.ax = KDATA, r.sp -= 4, *(u32 *)r.sp = FLAG_FIXED | FLAG_IF, INTERRUPTED("POPF opens at once", 1);
    r = kernel(KASM("sti; mov %eax, %ss; nop; nop")), r.ax = KDATA, pending();
    run(&r), CHECK_EQ("STI, MOV SS: after MOV SS or one later", ev.vector == BASE && (ev.r.ip == r.ip + 3 || ev.r.ip == r.ip + 4), 1), eoi();
    r = kernel(KASM("sti; ud2")), pending(), EXPECT("a fault in the shadow of STI comes first", &r, UD, NONE, 1), CHECK_EQ("IF in its frame", ev.r.flags & FLAG_IF, FLAG_IF);
    r = kernel(KASM("sti; int3")), pending(), EXPECT("INT3 in the shadow", &r, BP, NONE, 2);
    r = kernel(KASM("sti; nop; nop")), r.flags |= FLAG_TF, pending();
    EXPECT("single-step goes before an interrupt", &r, DB, NONE, 1), set_dr6(0xffff0ff0);
    r = kernel(KASM("out %al, $0x80; nop")), r.flags |= FLAG_IF, INTERRUPTED("IF was set at the start", 0);
}

/* The same once the code is translated and runs on without a stop: nothing is missed. */
static void warm(void)
{
    r = kernel(KASM("sti; nop; nop"));
    for (unsigned i = 0; i < 4; i++)
        OK("STI with nothing pending", &r);
    INTERRUPTED("STI", 2);
    r = kernel(KASM("push $0x202; popf; nop; nop"));
    for (unsigned i = 0; i < 4; i++)
        OK("POPF with nothing pending", &r);
    INTERRUPTED("POPF", 6);
    r = kernel(KASM("push $0x202; push $0x08; push $1f; iret; nop; 1: nop; nop"));
    for (unsigned i = 0; i < 4; i++)
        OK("IRET with nothing pending", &r);
    INTERRUPTED("IRET", 14);
    /* a window of one instruction, many times: an interrupt that comes at any time falls into one */
    r = kernel(KASM("mov $100000000, %ecx; 1: sti; nop; cli; dec %ecx; jnz 1b"));
    for (unsigned i = 0; i < 5; i++)
        timer(1000 + 77 * i), EXPECT("STI, NOP, CLI", &r, BASE, NONE, 7), eoi();
    r = kernel(KASM("mov $20000, %ecx; 1: sti; cli; dec %ecx; jnz 1b; nop")), timer(100);
    OK("STI, CLI: no window", &r), eoi();
}

static void halts(void)
{
    for (unsigned tries = 0; tries < 10; tries++) { /* on a busy host it may come before HLT */
        r = kernel(KASM("hlt; nop")), r.flags |= FLAG_IF, timer(3000), run(&r), eoi();
        if (ev.r.ip != r.ip)
            break;
    }
    CHECK_EQ("HLT sleeps until the interrupt", ev.vector, BASE), CHECK_EQ("and goes on behind it", ev.r.ip, r.ip + 1);
    r = kernel(KASM("1: jmp 1b")), r.flags |= FLAG_IF, timer(3000), EXPECT("an endless loop is interrupted", &r, BASE, NONE, 0), eoi();
    r = kernel(KASM("1: inc %ecx; cmp %eax, %ecx; jne 1b; nop")), r.ax = 0, r.flags |= FLAG_IF, timer(2000), EXPECT("a longer one", &r, BASE, NONE, ANYWHERE), eoi();
    CHECK("on an instruction of it", ev.r.ip - r.ip <= 3);
    u8 *area = (u8 *)0xa00000;
    r = kernel(KASM("1: mov $0x400000, %ecx; mov %esi, %edi; rep stosb; jmp 1b")), r.si = (u32)area, r.flags |= FLAG_IF, timer(1500);
    EXPECT("REP STOSB is interrupted", &r, BASE, NONE, ANYWHERE), eoi();
    CHECK_EQ("its registers agree", ev.r.ip == r.ip + 7 ? (u32)area + 0x400000 - ev.r.cx : ev.r.di, ev.r.di);
    if (has(1, 2, 3)) {
        r = kernel(KASM("monitor; xor %ecx, %ecx; mwait; nop; 1: jmp 1b")), r.ax = (u32)area, r.flags |= FLAG_IF, timer(1500);
        EXPECT("MWAIT", &r, BASE, NONE, ANYWHERE), eoi();
        r = kernel(KASM("mwait")), r.cx = 2, EXPECT("MWAIT with ECX = 2", &r, GP, 0, 0);
        r = kernel(KASM("monitor")), r.cx = 1, r.ax = (u32)area, EXPECT("MONITOR with ECX = 1", &r, GP, 0, 0);
    }
}

static void local_apic(void)
{
    if (!has(1, 3, 9))
        return;
    outb(PIC1 + 1, 0xff);
    APIC(0xf0) = 0x1ff;
    r = kernel(KASM("movl $0x40061, 0xfee00300; 1: jmp 1b")), r.flags |= FLAG_IF; /* to itself */
    EXPECT("a self-IPI", &r, 0x61, NONE, 10), APIC(0xb0) = 0;
    r = kernel(KASM("movl $0x40061, 0xfee00300; movl $0x40091, 0xfee00300; sti; nop; nop"));
    EXPECT("the higher of two goes first", &r, 0x91, NONE, 22), CHECK_EQ("the other waits: IRR", APIC(0x200 + 0x30) >> 1 & 1, 1), CHECK_EQ("ISR", APIC(0x100 + 0x40) >> 0x11 & 1, 1);
    r = kernel(KASM("nop")), r.flags |= FLAG_IF, OK("and is held off by the one in service", &r);
    APIC(0xb0) = 0;
    EXPECT("until its EOI", &r, 0x61, NONE, 0), APIC(0xb0) = 0;
    APIC(0x80) = 0x60;
    r = kernel(KASM("movl $0x40061, 0xfee00300; nop; nop")), r.flags |= FLAG_IF, OK("the task priority holds off its own class", &r);
    APIC(0x80) = 0x50;
    r = kernel(KASM("nop")), r.flags |= FLAG_IF, EXPECT("and a lower one does not", &r, 0x61, NONE, 0), APIC(0xb0) = 0, APIC(0x80) = 0;
    /* moved elsewhere */
    u64 base = rdmsr(0x1b);
    u32 version = APIC(0x30);
    volatile u32 *there = (u32 *)0x1800000, *old = (u32 *)LAPIC;
    there[0x30 / 4] = 0x12345678;
    wrmsr(0x1b, (base & 0xfff) | (u32)there);
    CHECK_EQ("the registers have moved over RAM", there[0x30 / 4], version), CHECK("and left their place", old[0x30 / 4] != version);
    wrmsr(0x1b, base);
    CHECK_EQ("and back", APIC(0x30), version), CHECK_EQ("the RAM under it", there[0x30 / 4], 0x12345678);
    outb(PIC1 + 1, 0xfa);
}

static void x2apic(void)
{
    if (!has(1, 2, 21))
        return;
    u64 base = rdmsr(0x1b);
    u32 version = APIC(0x30), id = APIC(0x20) >> 24;
    r = kernel(KASM("rdmsr")), r.cx = 0x803, EXPECT("x2APIC's MSRs before it is on", &r, GP, 0, 0);
    wrmsr(0x1b, base | 1 << 10);
    CHECK_EQ("version", rdmsr(0x803), version), CHECK_EQ("ID", rdmsr(0x802), id);
    r = kernel(KASM("wrmsr; 1: jmp 1b")), r.cx = 0x83f, r.ax = 0x71, r.flags |= FLAG_IF, EXPECT("SELF IPI", &r, 0x71, NONE, 2);
    CHECK_EQ("ISR", rdmsr(0x813) >> 17 & 1, 1), wrmsr(0x80b, 0), CHECK_EQ("after EOI", rdmsr(0x813), 0);
    wrmsr(0x808, 0x80);
    r = kernel(KASM("wrmsr; mov $100, %ecx; 1: loop 1b; nop")), r.cx = 0x83f, r.ax = 0x72, r.flags |= FLAG_IF, OK("held off by the task priority", &r);
    r = kernel(KASM("wrmsr; 1: jmp 1b")), r.cx = 0x808, r.flags |= FLAG_IF, EXPECT("until that is lowered", &r, 0x72, NONE, 2), wrmsr(0x80b, 0);
    r = kernel(KASM("wrmsr")), r.cx = 0x80b, r.ax = 1, EXPECT("EOI that is not 0", &r, GP, 0, 0);
    r = kernel(KASM("wrmsr")), r.cx = 0x802, EXPECT("ID is read-only", &r, GP, 0, 0);
    r = kernel(KASM("wrmsr")), r.cx = 0x1b, r.ax = (u32)base, r.dx = (u32)(base >> 32), EXPECT("from x2APIC to xAPIC at once", &r, GP, 0, 0);
    if (has(1, 2, 24)) {
        wrmsr(0x832, 0x40000 | 0x73); /* LVT timer: TSC deadline */
        r = kernel(KASM("rdtsc; add $20000, %eax; adc $0, %edx; wrmsr; sti; hlt; 1: jmp 1b")), r.cx = 0x6e0;
        EXPECT("TSC deadline", &r, 0x73, NONE, ANYWHERE), wrmsr(0x80b, 0), CHECK_EQ("it is spent", rdmsr(0x6e0), 0);
        wrmsr(0x832, 0x10000);
    }
    wrmsr(0x1b, base & ~(3ull << 10)), wrmsr(0x1b, base), APIC(0xf0) = 0x1ff;
    CHECK_EQ("xAPIC again", APIC(0x30), version);
    APIC(0x350) = 0x700; /* LINT0: the PICs */
}

/* NMIs, which the CPU sends to itself through the local APIC. */
static void nmis(void)
{
    if (!has(1, 3, 9))
        return;
    r = kernel(KASM("movl $0, 0xfee00310; movl $0x4400, 0xfee00300; 1: jmp 1b"));
    EXPECT("an NMI comes with IF clear", &r, NMI, NONE, 20);
    idt_set(NMI, KCODE, (u32)KASM("movl $0x4400, 0xfee00300; mov $1000, %ecx; 1: loop 1b; nop"), A_PRESENT | 14, 0);
    OK("another waits while the first is handled", &r), CHECK_EQ("ECX", ev.r.cx, 0);
    idt_default(NMI);
    r = kernel(KASM("nop; 1: jmp 1b")); /* `run` enters it by IRET, which lets the NMI in */
    EXPECT("until IRET", &r, NMI, NONE, 0);
    r = kernel(KASM("mov $100, %ecx; 1: loop 1b")), OK("and only once", &r);
}

static void fpu_errors(void)
{
    word cr0 = get_cr0();
    pic(0xffff & ~(1u << 2 | 1u << 13));
    set_cr0(cr0 & ~(word)(CR0_NE | CR0_TS | CR0_EM));
    r = kernel(KASM("fninit; push $0x37b; fldcw (%esp); fldz; fld1; fdiv %st(1); nop; fwait; nop")), r.flags |= FLAG_IF;
    EXPECT("an x87 error with CR0.NE = 0 is IRQ 13", &r, IRQ13, NONE, 17);
    eoi();
    outb(0xf0, 0);
    r = kernel(KASM("fld1; fwait; fnstsw %ax")), r.flags |= FLAG_IF, OK("port F0h: the error is ignored", &r), CHECK_EQ("it is pending still", ev.r.ax & 0x80, 0x80);
    r = kernel(KASM("fdiv %st(2); fnstsw %ax; push $0; fistpl (%esp); pop %ecx")), r.flags |= FLAG_IF, OK("another meanwhile", &r);
    CHECK_EQ("it is noted", ev.r.ax & 0x80ff, 0x8084), CHECK_EQ("its response is the unmasked one: ST0 stays", ev.r.cx, 1);
    r = kernel(KASM("push $0x37a; fldcw (%esp); push $0x7f800000; flds (%esp); movl $0x1234, (%esp); fistpl (%esp); fnstsw %ax; pop %ecx")), r.flags |= FLAG_IF, OK("one of a store", &r);
    CHECK_EQ("both are noted", ev.r.ax & 0x80ff, 0x8085), CHECK_EQ("memory stays", ev.r.cx, 0x1234);
    r = kernel(KASM("fnclex; fwait; fnstsw %ax")), r.flags |= FLAG_IF, OK("FNCLEX", &r), CHECK_EQ("nothing is pending", ev.r.ax & 0xff, 0);
    r = kernel(KASM("fninit; push $0x37b; fldcw (%esp); fldz; fld1; fdiv %st(1); nop; fwait; nop")), r.flags |= FLAG_IF;
    EXPECT("the next error is seen again", &r, IRQ13, NONE, 17);
    asm volatile("fninit");
    outb(0xf0, 0), eoi();
    set_cr0(cr0 | CR0_NE);
    EXPECT("with CR0.NE it is #MF", &r, MF, NONE, 17);
    asm volatile("fninit");
    set_cr0(cr0);
    pic(0xffff);
}

void guest_main(void)
{
    windows();
    warm();
    halts();
    local_apic();
    x2apic();
    nmis();
    fpu_errors();
}
