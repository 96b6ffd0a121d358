/* Single-step, the shadows of STI and MOV SS, and the debug registers (SDM 3B chapter 17). */
#include "lib/guest.h"

enum { B0 = 1, B1 = 2, B2 = 4, B3 = 8, BD = 1 << 13, BS = 1 << 14, DR6_FIXED = 0xffff0ff0 };
enum { EXECUTE, WRITE, IO, ACCESS };
static u64 enable(unsigned n, unsigned kind, unsigned bytes)
{
    unsigned length = bytes == 8 ? 2 : bytes - 1;
    return 0x400 | 2ull << 2 * n | (u64)kind << (16 + 4 * n) | (u64)length << (18 + 4 * n);
}
static struct regs r;
static u64 cell[8] __attribute__((section(".udata"), aligned(64))) = {0x1111};

/* The run ends in #DB at that distance, with those bits in DR6. */
static void debug_(int line, const char *what, long at, u64 bits)
{
    set_dr6(DR6_FIXED);
    expect_(__FILE__, line, what, &r, DB, NONE, at);
    checks++;
    if (get_dr6() != (DR6_FIXED | bits))
        fail_(__FILE__, line, what, get_dr6() ^ DR6_FIXED, bits);
}
#define DEBUG(what, at, bits) debug_(__LINE__, what, at, bits)
static void arm(unsigned n, const void *at, unsigned kind, unsigned bytes)
{
    set_dr0(0), set_dr1(0), set_dr2(0), set_dr3(0); /* the bits of disabled ones may be set on a hit */
    switch (n) {
    case 0: set_dr0((word)at); break;
    case 1: set_dr1((word)at); break;
    case 2: set_dr2((word)at); break;
    default: set_dr3((word)at); break;
    }
    set_dr7(enable(n, kind, bytes));
}

static void single_step(void)
{
    r = user(ASM("nop; nop")), r.flags |= FLAG_TF;
    DEBUG("TF traps after one instruction", 1, BS);
    CHECK_EQ("TF is in the frame", ev.r.flags & FLAG_TF, FLAG_TF);
    r = user(ASM("pushfq; orl $0x100, (%rsp); popfq; nop; nop"));
    DEBUG("POPF that sets TF: after the next one", 10, BS);
    r = user(ASM("pushfq; andl $~0x100, (%rsp); popfq; nop")), r.flags |= FLAG_TF;
    DEBUG("first of three", 1, BS);
    r = user(ASM("popfq; nop")), r.flags |= FLAG_TF, r.sp -= 8, *(u64 *)r.sp = FLAG_FIXED;
    DEBUG("POPF that clears TF traps still", 1, BS);
    r = user(ASM("rep movsb")), r.flags |= FLAG_TF, r.si = (word)cell, r.di = (word)(cell + 4), r.cx = 3;
    DEBUG("REP MOVSB: after each element", 0, BS);
    CHECK_EQ("RCX after one", ev.r.cx, 2);
    r.cx = 1;
    DEBUG("REP MOVSB: the last one", 2, BS);
    r.cx = 0;
    DEBUG("REP MOVSB of nothing", 2, BS);
    r = user(ASM("repe cmpsb")), r.flags |= FLAG_TF, r.si = (word)cell, r.di = (word)cell, r.cx = 3;
    DEBUG("REPE CMPSB: after each element", 0, BS);
    r = user(ASM("jmp 1f; nop; 1: nop")), r.flags |= FLAG_TF;
    DEBUG("a jump", 3, BS);
    r = user(ASM("ud2")), r.flags |= FLAG_TF;
    EXPECT("a fault comes first", &r, UD, NONE, 0);
    r = user(ASM("int $0xf0")), r.flags |= FLAG_TF;
    EXPECT("INT n clears TF: no trap in its handler", &r, DONE, NONE, 2);
    CHECK_EQ("TF is in its frame", ev.r.flags & FLAG_TF, FLAG_TF);
    r = user(ASM("int3")), r.flags |= FLAG_TF;
    EXPECT("INT3 likewise", &r, BP, NONE, 1);
    r = kernel(KASM("hlt; nop")), r.flags |= FLAG_TF;
    DEBUG("HLT", 1, BS);
    r = kernel(KASM("mov %cr0, %rax; mov %rax, %cr0; nop")), r.flags |= FLAG_TF;
    DEBUG("MOV from CR0", 3, BS);
    r = kernel(KASM("mov %rax, %cr0; nop")), r.flags |= FLAG_TF, r.ax = get_cr0();
    DEBUG("MOV to CR0", 3, BS);
    r = kernel(KASM("iretq")), r.flags |= FLAG_TF;
    u64 frame[5] = {(word)ASM("nop; nop"), UCODE, FLAG_FIXED, (word)(ustack_area + 1024), UDATA};
    r.sp = (word)frame;
    set_dr6(DR6_FIXED);
    EXPECT("IRET that clears TF traps still", &r, DB, NONE, ANYWHERE);
    CHECK_EQ("at its target", ev.r.ip, frame[0]);
    frame[2] |= FLAG_TF;
    r.flags = FLAG_FIXED;
    EXPECT("IRET that sets TF traps after its target", &r, DB, NONE, ANYWHERE);
    CHECK_EQ("one instruction on", ev.r.ip, frame[0] + 1);
    r = kernel(KASM("cpuid; nop")), r.flags |= FLAG_TF;
    DEBUG("CPUID", 2, BS);
    r = kernel(KASM("outb %al, $0x80; nop")), r.flags |= FLAG_TF;
    DEBUG("OUT", 2, BS);
}

static void shadows(void)
{
    r = kernel(KASM("mov %eax, %ss; nop; nop")), r.ax = KDATA, r.flags |= FLAG_TF;
    DEBUG("MOV SS: the trap waits for the next instruction", 3, BS);
    r = kernel(KASM("mov %eax, %ds; nop; nop")), r.ax = KDATA, r.flags |= FLAG_TF;
    DEBUG("MOV DS does not wait", 2, BS);
    r = kernel(KASM("mov %eax, %ss; mov %eax, %ss; nop; nop")), r.ax = KDATA, r.flags |= FLAG_TF;
    DEBUG("of two MOV SS only the first holds off", 4, BS);
    r = kernel(KASM("sti; nop; nop")), r.flags |= FLAG_TF;
    DEBUG("STI holds off no single-step", 1, BS);
    r = kernel(KASM("mov %eax, %ss; ud2")), r.ax = KDATA, r.flags |= FLAG_TF;
    EXPECT("a fault in the shadow", &r, UD, NONE, 2);
    r = kernel(KASM("mov %eax, %ss; int3")), r.ax = KDATA, r.flags |= FLAG_TF;
    EXPECT("INT3 in the shadow", &r, BP, NONE, 3);
    /* Breakpoints wait too: on the next instruction they do not hit, and those of MOV SS itself come after it. */
    static u16 selector = KDATA;
    void *code = KASM("mov (%rax), %ss; nop; nop");
    arm(0, (u8 *)code + 2, EXECUTE, 1);
    r = kernel(code), r.ax = (word)&selector;
    set_dr6(DR6_FIXED);
    OK("an instruction breakpoint in the shadow of MOV SS", &r);
    arm(0, (u8 *)code + 3, EXECUTE, 1);
    DEBUG("and after it", 3, B0);
    arm(1, &selector, ACCESS, 2);
    DEBUG("a data breakpoint of MOV SS waits", 3, B1);
    code = KASM("mov (%rax), %ss; int3; nop");
    r = kernel(code), r.ax = (word)&selector;
    idt_set(BP, KCODE, (word)KASM("nop; nop"), A_PRESENT | A_DPL3 | 14, 0);
    set_dr6(DR6_FIXED);
    run(&r);
    CHECK_EQ("it comes in the handler of INT3", ev.vector, DB);
    CHECK_EQ("with the bit in DR6", get_dr6(), DR6_FIXED | B1);
    idt_default(BP);
    set_dr7(0x400);
}

static void instruction_breakpoints(void)
{
    void *code = ASM("nop; inc %eax; inc %eax");
    r = user(code);
    arm(0, (u8 *)code + 1, EXECUTE, 1);
    DEBUG("an instruction breakpoint is a fault", 1, B0);
    CHECK_EQ("nothing was done", ev.r.ax, 0);
    r.ip += 1, r.flags |= FLAG_RF;
    OK("RF passes it", &r);
    CHECK_EQ("both ran", ev.r.ax, 2);
    CHECK_EQ("RF is spent", ev.r.flags & FLAG_RF, 0);
    for (unsigned n = 0; n < 4; n++) {
        static const u8 bits[] = {B0, B1, B2, B3};
        r = user(code);
        arm(n, (u8 *)code + 3, EXECUTE, 1);
        DEBUG("each of the four", 3, bits[n]);
        set_dr7(0x400);
        OK("disabled", &r);
    }
    set_dr0((word)code + 1), set_dr1((word)code + 1);
    set_dr7(enable(0, EXECUTE, 1) | enable(1, EXECUTE, 1));
    r = user(code);
    DEBUG("two at one address", 1, B0 | B1);
    set_dr7(enable(0, EXECUTE, 1));
    DEBUG("one disabled: its bit may be set, the enabled one's must", 1, get_dr6() & (B0 | B1));
    CHECK("the enabled one's", get_dr6() & B0);
    set_dr7(0x400 | 1);
    DEBUG("locally enabled", 1, B0 | (get_dr6() & B1));
    set_dr1(0);
    /* A fault of another kind at the same place: the breakpoint goes first, then, with RF, the fault, whose frame has RF. */
    code = ASM("ud2");
    r = user(code);
    arm(2, code, EXECUTE, 1);
    DEBUG("breakpoint on an undefined instruction", 0, B2);
    r.flags |= FLAG_RF;
    EXPECT("then its fault", &r, UD, NONE, 0);
    CHECK_EQ("faults push RF set", ev.r.flags & FLAG_RF, FLAG_RF);
    arm(2, cell, EXECUTE, 1);
    r = user(ASM("mov (%rax), %ecx")), r.ax = (word)cell;
    OK("data at an instruction breakpoint", &r);
    code = ASM("rep stosb; nop");
    arm(0, code, EXECUTE, 1);
    r = user(code), r.di = (word)cell, r.cx = 100, r.flags |= FLAG_RF;
    OK("RF holds for all iterations of REP", &r);
    code = ASM("nop; nop; nop");
    r = user(code), r.flags |= FLAG_TF;
    arm(3, (u8 *)code + 1, EXECUTE, 1);
    DEBUG("single-step onto a breakpoint: the trap", 1, BS);
    set_dr7(0x400);
    set_dr3(0);
}

static void data_breakpoints(void)
{
    r = user(ASM("mov %ecx, (%rax); nop")), r.ax = (word)cell;
    arm(0, cell, WRITE, 4);
    DEBUG("a write: a trap", 2, B0);
    arm(0, cell, ACCESS, 4);
    DEBUG("read/write: a write", 2, B0);
    r = user(ASM("mov (%rax), %ecx; nop")), r.ax = (word)cell;
    DEBUG("read/write: a read", 2, B0);
    arm(0, cell, WRITE, 4);
    OK("write: a read", &r);
    arm(0, cell + 1, ACCESS, 4);
    OK("4 bytes, next to it", &r);
    r = user(ASM("mov 5(%rax), %ecx; nop")), r.ax = (word)cell;
    DEBUG("misaligned into it", 3, B0);
    r = user(ASM("mov 3(%rax), %ecx; nop")), r.ax = (word)cell;
    arm(0, (u8 *)cell + 6, ACCESS, 1);
    DEBUG("its last byte", 3, B0);
    arm(0, (u8 *)cell + 7, ACCESS, 1);
    OK("one behind its last byte", &r);
    arm(0, (u8 *)cell + 2, ACCESS, 1);
    OK("one before its first byte", &r);
    arm(0, (u8 *)cell + 5, ACCESS, 2);
    DEBUG("the register's low bits are dropped by its length", 3, B0);
    r = user(ASM("movb %cl, 7(%rax); nop")), r.ax = (word)cell;
    arm(0, cell, WRITE, 8);
    DEBUG("8 bytes", 3, B0);
    r = user(ASM("push %rax; nop"));
    arm(1, (u8 *)r.sp - 8, WRITE, 8);
    DEBUG("PUSH", 1, B1);
    r = user(ASM("incl (%rax); nop")), r.ax = (word)cell, cell[0] = 5;
    arm(1, cell, WRITE, 4);
    DEBUG("read-modify-write", 2, B1);
    CHECK_EQ("it was done", cell[0], 6);
    r = user(ASM("mov (%rax), %ecx; mov %ecx, 8(%rax)")), r.ax = (word)cell;
    set_dr0((word)cell), set_dr1((word)(cell + 1));
    set_dr7(enable(0, ACCESS, 4) | enable(1, WRITE, 4));
    DEBUG("two, each at its own access: first", 2, B0);
    r.ip += 2;
    DEBUG("second", 3, B1);
    r = user(ASM("movsq")), r.si = (word)cell, r.di = (word)(cell + 1);
    DEBUG("MOVSQ hits both at once", 2, B0 | B1);
    r.flags |= FLAG_TF;
    DEBUG("and with TF", 2, B0 | B1 | BS);
    r = user(ASM("rep stosb; nop")), r.di = (word)cell, r.cx = 24;
    arm(0, cell + 1, WRITE, 1);
    DEBUG("REP STOSB: after the iteration that hit", 0, B0);
    CHECK_EQ("how many are left", ev.r.cx, 24 - 9);
    CHECK_EQ("RDI", ev.r.di, (word)cell + 9);
    r = user(ASM("mov (%rax), %ecx; ud2")), r.ax = (word)cell;
    arm(0, cell, ACCESS, 8);
    DEBUG("the trap comes before the next one's fault", 2, B0);
    r = user(ASM("mov %ecx, 0x10000")), r.ax = (word)cell;
    arm(0, (void *)0x10000, WRITE, 4);
    set_dr6(DR6_FIXED);
    EXPECT("an access that faults hits nothing", &r, PF, 7, 0);
    CHECK_EQ("DR6", get_dr6(), DR6_FIXED);
    set_dr7(0x400);
    r = user(ASM("mov %ecx, (%rax)")), r.ax = (word)cell;
    OK("disabled", &r);
}

static void io_breakpoints(void)
{
    word cr4 = get_cr4();
    set_cr4(cr4 | CR4_DE);
    r = kernel(KASM("outb %al, $0x80; nop"));
    arm(2, (void *)0x80, IO, 1);
    DEBUG("OUT", 2, B2);
    r = kernel(KASM("inb $0x80, %al; nop"));
    DEBUG("IN", 2, B2);
    r = kernel(KASM("outb %al, $0x81; nop"));
    OK("another port", &r);
    r = kernel(KASM("outl %eax, %dx; nop")), r.dx = 0x80;
    arm(2, (void *)0x82, IO, 1);
    DEBUG("OUT of four ports", 1, B2);
    r = kernel(KASM("rep outsb; nop")), r.dx = 0x80, r.si = (word)cell, r.cx = 3;
    arm(2, (void *)0x80, IO, 1);
    DEBUG("REP OUTSB: after each", 0, B2);
    CHECK_EQ("left", ev.r.cx, 2);
    r = kernel(KASM("mov (%rax), %ecx")), r.ax = 0x80;
    OK("memory is not a port", &r);
    set_dr7(0x400);
    set_cr4(cr4);
}

static void registers(void)
{
    word cr4 = get_cr4();
    set_dr7(0x400);
    set_dr6(0);
    CHECK_EQ("DR6 written as 0", get_dr6(), DR6_FIXED);
    set_dr6(0xffffffff);
    CHECK_EQ("DR6 written as ones", get_dr6(), DR6_FIXED | 0xe00f);
    set_dr7(0xffff03ff & ~(1u << 13));
    CHECK_EQ("DR7 written as ones", get_dr7() & 0xffffd7ff, 0xffff07ff & 0xffffd7ff);
    set_dr7(0);
    CHECK_EQ("DR7 bit 10", get_dr7(), 0x400);
    r = kernel(KASM("mov %rax, %dr7")), r.ax = 1ull << 32;
    EXPECT("DR7 above 32 bits", &r, GP, 0, 0);
    r = kernel(KASM("mov %rax, %dr6")), r.ax = 1ull << 32;
    EXPECT("DR6 above 32 bits", &r, GP, 0, 0);
    r = kernel(KASM(".byte 0x0f,0x21,0xe0")); /* MOV RAX, DR4 */
    set_dr6(DR6_FIXED);
    OK("DR4 without CR4.DE", &r);
    CHECK_EQ("is DR6", ev.r.ax, DR6_FIXED);
    set_cr4(cr4 | CR4_DE);
    EXPECT("DR4 with CR4.DE", &r, UD, NONE, 0);
    set_cr4(cr4);
}

static void general_detect(void)
{
    r = kernel(KASM("mov %rax, %dr7; nop; mov %dr0, %rcx")), r.ax = 0x400 | 1 << 13;
    EXPECT("GD guards reading", &r, DB, NONE, 4);
    CHECK_EQ("DR7.GD is cleared for the handler", get_dr7(), 0x400);
    CHECK_EQ("DR6.BD", get_dr6() & BD, BD);
    set_dr6(DR6_FIXED);
    r = kernel(KASM("mov %rax, %dr7; nop; mov %rcx, %dr7")), r.ax = 0x400 | 1 << 13;
    EXPECT("GD guards writing", &r, DB, NONE, 4);
    CHECK_EQ("DR6.BD", get_dr6() & BD, BD);
    set_dr6(DR6_FIXED);
    r = kernel(KASM(".byte 0xf1"));
    EXPECT("INT1", &r, DB, NONE, 1);
    CHECK_EQ("INT1 sets nothing in DR6", get_dr6(), DR6_FIXED);
}

void guest_main(void)
{
    set_dr6(DR6_FIXED);
    single_step();
    shadows();
    instruction_breakpoints();
    data_breakpoints();
    io_breakpoints();
    registers();
    general_detect();
}
