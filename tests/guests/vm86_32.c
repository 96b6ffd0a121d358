/* Virtual-8086 mode: entry and leave, IOPL, segments, I/O permissions, software interrupts by gate and, with VME, by the
 * redirection bitmap; the virtual interrupt flag of VME and PVI (SDM 3B chapter 20). */
#include "lib/guest.h"

static struct regs r;
static u8 *const low = (u8 *)0x20000; /* the 8086 program's memory: code at 2000:0, stack at 3000:8000 */
enum { CS16 = 0x2000, SS16 = 0x3000, TOP = 0x8000 };
#define IVT ((u32 *)0)

static struct regs vm86(const void *code, unsigned length, u32 flags)
{
    memcpy(low, code, length);
    return (struct regs){.ip = 0, .flags = FLAG_FIXED | FLAG_VM | flags, .cs = CS16, .ss = SS16, .sp = TOP, .ds = 0x1111, .es = 0x2222, .fs = 0x3333, .gs = 0x4444};
}
/* 16-bit code; its bytes are copied */
#define VM(text, flags) ({ void *code_ = ASM16(text); vm86(code_, 64, flags); })
#define PUSHED(n) (*(u16 *)(0x30000 + ev.r.sp + 2 * (n)))

static void basics(void)
{
    r = VM("mov %ds, %ax; mov %es, %bx; mov %cs, %cx; mov $0x12345678, %edx", FLAG_IOPL | FLAG_CF);
    OK("8086 code", &r);
    CHECK_EQ("VM is in the frame", ev.r.flags, r.flags), CHECK_EQ("AX", ev.r.ax, 0x1111), CHECK_EQ("BX", ev.r.bx, 0x2222), CHECK_EQ("CX", ev.r.cx, CS16), CHECK_EQ("EDX", ev.r.dx, 0x12345678);
    CHECK_EQ("DS in the frame", ev.r.ds, 0x1111), CHECK_EQ("ES in the frame", ev.r.es, 0x2222), CHECK_EQ("FS in the frame", ev.r.fs, 0x3333), CHECK_EQ("GS in the frame", ev.r.gs, 0x4444);
    CHECK_EQ("SS in the frame", ev.r.ss, SS16), CHECK_EQ("SP in the frame", ev.r.sp, TOP), CHECK_EQ("CS in the frame", ev.r.cs, CS16);
    r = VM("mov $0x1234, %ax; mov %ax, %ds; mov %ds:2, %cx", FLAG_IOPL);
    *(u16 *)0x12342 = 0x5678;
    OK("segments are paragraphs", &r), CHECK_EQ("CX", ev.r.cx, 0x5678);
    r = VM("mov %ds:0xffff, %ax", FLAG_IOPL), EXPECT("a word at FFFF", &r, GP, 0, 0);
    r = VM("mov %ss:0xffff, %ax", FLAG_IOPL), EXPECT("a word at SS:FFFF", &r, SS, 0, 0);
    r = VM("addr32 mov (%ebx), %al", FLAG_IOPL), r.bx = 0x10000, EXPECT("an offset above 64 KiB", &r, GP, 0, 0);
    r = VM("mov %ds:0xfff0, %al", FLAG_IOPL), r.ds = 0xffff, *(u8 *)0x10ffe0 = 0x77, OK("FFFF:FFF0 is above 1 MiB", &r), CHECK_EQ("AL", ev.r.ax & 0xff, 0x77);
    r = VM("lcall $0x2100, $0x20", FLAG_IOPL), memcpy((void *)0x21020, low + 40, 0), *(u16 *)0x21020 = 0xf0cd;
    OK("far CALL", &r), CHECK_EQ("CS", ev.r.cs, 0x2100), CHECK_EQ("IP on the stack", PUSHED(0), 5), CHECK_EQ("CS on the stack", PUSHED(1), CS16);
    r = VM("push $0x2100; push $0x20; lret", FLAG_IOPL), OK("far RET", &r), CHECK_EQ("CS", ev.r.cs, 0x2100), CHECK_EQ("IP", ev.r.ip, 0x22);
    r = VM("int3", 0), EXPECT("INT3 goes through the gate whatever IOPL is", &r, BP, NONE, 1);
    r = VM("into", FLAG_OF), EXPECT("INTO likewise", &r, OF, NONE, 1);
    r = VM("div %cl", 0), EXPECT("#DE", &r, DE, NONE, 0);
    r = VM("nop; nop", FLAG_TF), EXPECT("single-step", &r, DB, NONE, 1), set_dr6(0xffff0ff0);
    idt_set(GP, UCODE, 0, A_PRESENT | 14, 0);
    gdt_set(FREE, segment(0, 0xfffff, A_PRESENT | A_CODE | A_RW | 0x20 | A_G | A_DB), 0);
    idt_set(0x40, FREE, (u32)stack_area, A_PRESENT | A_DPL3 | 14, 0);
    idt_default(GP);
    r = VM("int $0x40", FLAG_IOPL), EXPECT("INT to a handler of ring 1", &r, GP, FREE, 0);
    gdt_set(FREE, segment(0, 0xfffff, A_PRESENT | A_CODE | A_RW | A_CONFORMING | A_G | A_DB), 0);
    EXPECT("INT to a conforming handler", &r, GP, FREE, 0);
    idt_default(0x40);
    r = VM("int $0x40", FLAG_IOPL), EXPECT("INT: gate with DPL 0", &r, GP, 0x40 * 8 + 2, 0);
    r = VM("hlt", FLAG_IOPL), EXPECT("HLT", &r, GP, 0, 0);
    r = VM("mov %cr0, %eax", FLAG_IOPL), EXPECT("MOV from CR0", &r, GP, 0, 0);
    r = VM("smsw %ax", FLAG_IOPL), OK("SMSW", &r);
    r = VM("lmsw %ax", FLAG_IOPL), EXPECT("LMSW", &r, GP, 0, 0);
    r = VM("lgdt %ds:0", FLAG_IOPL), EXPECT("LGDT", &r, GP, 0, 0);
    r = VM("sldt %ax", FLAG_IOPL), EXPECT("SLDT", &r, UD, NONE, 0);
    r = VM("str %ax", FLAG_IOPL), EXPECT("STR", &r, UD, NONE, 0);
    r = VM("lldt %ax", FLAG_IOPL), EXPECT("LLDT", &r, UD, NONE, 0);
    r = VM("ltr %ax", FLAG_IOPL), EXPECT("LTR", &r, UD, NONE, 0);
    r = VM("lar %ax, %cx", FLAG_IOPL), EXPECT("LAR", &r, UD, NONE, 0);
    r = VM("lsl %ax, %cx", FLAG_IOPL), EXPECT("LSL", &r, UD, NONE, 0);
    r = VM("verr %ax", FLAG_IOPL), EXPECT("VERR", &r, UD, NONE, 0);
    r = VM("arpl %ax, %cx", FLAG_IOPL), EXPECT("ARPL", &r, UD, NONE, 0);
    r = VM("outb %al, $0x80", FLAG_IOPL), EXPECT("OUT goes by the bitmap whatever IOPL is", &r, GP, 0, 0);
    tss[0x88 + 0x10] = 0xfe, OK("OUT, permitted", &r), tss[0x88 + 0x10] = 0xff;
    r = VM("jmp 1f; .skip 20; 1:", FLAG_IOPL), OK("JMP", &r);
    /* entry by IRET */
    r = VM("nop", 0), r.ip = 0x10000, memcpy(low, "\xcd\xf0", 2);
    run(&r), CHECK("EIP above 64 KiB: #GP or cut off", ev.vector == GP || ev.vector == DONE || ev.r.ip < 0x10000);
}

static void iopl_below_3(void)
{
    r = VM("cli", 0), EXPECT("CLI", &r, GP, 0, 0);
    r = VM("sti", 0), EXPECT("STI", &r, GP, 0, 0);
    r = VM("pushf", 0), EXPECT("PUSHF", &r, GP, 0, 0);
    r = VM("popf", 0), EXPECT("POPF", &r, GP, 0, 0), CHECK_EQ("SP", ev.r.sp, TOP);
    r = VM("pushfl", 0), EXPECT("PUSHFD", &r, GP, 0, 0);
    r = VM("iret", 0), EXPECT("IRET", &r, GP, 0, 0);
    r = VM("int $0xf0", 0), EXPECT("INT", &r, GP, 0, 0);
}

static void iopl_3(void)
{
    r = VM("cli", FLAG_IOPL | FLAG_IF), OK("CLI", &r), CHECK_EQ("IF", ev.r.flags & FLAG_IF, 0);
    r = VM("sti", FLAG_IOPL), OK("STI", &r), CHECK_EQ("IF", ev.r.flags & FLAG_IF, FLAG_IF);
    r = VM("pushf; pop %ax", FLAG_IOPL | FLAG_IF | FLAG_CF), OK("PUSHF", &r), CHECK_EQ("AX", ev.r.ax, FLAG_FIXED | FLAG_IOPL | FLAG_IF | FLAG_CF);
    r = VM("pushfl; pop %eax", FLAG_IOPL | FLAG_ID), OK("PUSHFD", &r), CHECK_EQ("EAX has no VM", ev.r.ax, FLAG_FIXED | FLAG_IOPL | FLAG_ID);
    r = VM("push $0x8ed5; popf", FLAG_IOPL), OK("POPF", &r), CHECK_EQ("IOPL stays", ev.r.flags, FLAG_FIXED | FLAG_VM | FLAG_IOPL | 0xed5);
    r = VM("push $0x202; push $0x2100; push $0x20; iret", FLAG_IOPL), OK("IRET", &r), CHECK_EQ("CS", ev.r.cs, 0x2100), CHECK_EQ("IOPL stays", ev.r.flags, FLAG_FIXED | FLAG_VM | FLAG_IOPL | FLAG_IF);
    r = VM("pushl $0x200202; pushl $0x2100; pushl $0x20; iretl", FLAG_IOPL), OK("IRETD", &r), CHECK_EQ("ID", ev.r.flags, FLAG_FIXED | FLAG_VM | FLAG_IOPL | FLAG_IF | FLAG_ID);
    r = VM("pushl $0x202; pushl $0x2100; pushl $0x10020; iretl", FLAG_IOPL), EXPECT("IRETD beyond 64 KiB", &r, GP, 0, 18), CHECK_EQ("SP", ev.r.sp, TOP - 12);
}

static void vme(void)
{
    u8 *map = tss + 0x68;
    word cr4 = get_cr4();
    if (!has(1, 3, 1)) {
        r = kernel(KASM("mov %eax, %cr4")), r.ax = cr4 | CR4_VME, EXPECT("CR4.VME without the feature", &r, GP, 0, 0);
        return;
    }
    set_cr4(cr4 | CR4_VME);
    memset(map, 0xff, 32);
    map[0x21 / 8] &= (u8)~(1 << (0x21 & 7));
    IVT[0x21] = 0x2100 << 16 | 0x40, *(u16 *)0x21040 = 0xf0cd;
    map[DONE / 8] |= 1; /* INT F0h by its gate, which IOPL must allow: so these end in #GP where IOPL is 0 */
    r = VM("int $0x21", FLAG_IOPL | FLAG_IF | FLAG_CF);
    OK("INT that is redirected", &r), CHECK_EQ("CS", ev.r.cs, 0x2100), CHECK_EQ("IP", ev.r.ip, 0x42), CHECK_EQ("IF is clear", ev.r.flags, FLAG_FIXED | FLAG_VM | FLAG_IOPL | FLAG_CF);
    CHECK_EQ("IP on the stack", PUSHED(0), 2), CHECK_EQ("CS on the stack", PUSHED(1), CS16), CHECK_EQ("FLAGS on the stack", PUSHED(2), FLAG_FIXED | FLAG_IOPL | FLAG_IF | FLAG_CF);
    r = VM("int $0x22", FLAG_IOPL), EXPECT("INT that is not", &r, GP, 0x22 * 8 + 2, 0);
    r = VM("int $0x21", FLAG_IF | FLAG_VIF | FLAG_CF);
    EXPECT("INT that is redirected, IOPL 0; its handler's INT F0h", &r, GP, 0, 0x40), CHECK_EQ("CS", ev.r.cs, 0x2100), CHECK_EQ("VIF is clear, IF stays", ev.r.flags & ~(word)FLAG_RF, FLAG_FIXED | FLAG_VM | FLAG_IF | FLAG_CF);
    CHECK_EQ("FLAGS on the stack: IF is VIF, IOPL is 3", PUSHED(2), FLAG_FIXED | FLAG_IOPL | FLAG_IF | FLAG_CF);
    r = VM("int $0x21", FLAG_IF), EXPECT("the same without VIF", &r, GP, 0, 0x40), CHECK_EQ("FLAGS on the stack", PUSHED(2), FLAG_FIXED | FLAG_IOPL);
    r = VM("int $0x22", 0), EXPECT("INT that is not, IOPL 0", &r, GP, 0, 0);
    map[BP / 8] = 0;
    r = VM("int3", FLAG_IOPL), EXPECT("INT3 is never redirected", &r, BP, NONE, 1);
    map[BP / 8] = 0xff;
    /* From here on INT F0h, with IOPL 0, ends the runs in #GP. */
    r = VM("cli", FLAG_IF | FLAG_VIF), EXPECT("CLI", &r, GP, 0, 1), CHECK_EQ("VIF", ev.r.flags & (FLAG_VIF | FLAG_IF), FLAG_IF);
    r = VM("sti", 0), EXPECT("STI", &r, GP, 0, 1), CHECK_EQ("VIF", ev.r.flags & (FLAG_VIF | FLAG_IF), FLAG_VIF);
    r = VM("sti", FLAG_VIP), EXPECT("STI with VIP", &r, GP, 0, 0), CHECK_EQ("VIF", ev.r.flags & FLAG_VIF, 0);
    r = VM("cli", FLAG_VIP | FLAG_VIF), EXPECT("VIF and VIP: before any instruction", &r, GP, 0, 0), CHECK_EQ("they stay", ev.r.flags & (FLAG_VIF | FLAG_VIP), FLAG_VIF | FLAG_VIP);
    r = VM("cli", FLAG_VIP), EXPECT("CLI with VIP", &r, GP, 0, 1);
    r = VM("cli", FLAG_VIP | FLAG_VIF | FLAG_IOPL), EXPECT("VIF and VIP are nothing with IOPL 3", &r, DONE, NONE, 3);
    r = VM("pushf; pop %ax", FLAG_VIF | FLAG_CF), EXPECT("PUSHF", &r, GP, 0, 2), CHECK_EQ("AX", ev.r.ax, FLAG_FIXED | FLAG_IOPL | FLAG_IF | FLAG_CF);
    r = VM("pushf; pop %ax", FLAG_IF | FLAG_CF), EXPECT("PUSHF without VIF", &r, GP, 0, 2), CHECK_EQ("AX", ev.r.ax, FLAG_FIXED | FLAG_IOPL | FLAG_CF);
    r = VM("pushfl", 0), EXPECT("PUSHFD", &r, GP, 0, 0);
    r = VM("push $0x3201; popf", 0), EXPECT("POPF", &r, GP, 0, 4), CHECK_EQ("flags: VIF, not IF, not IOPL", ev.r.flags & ~(word)FLAG_RF, FLAG_FIXED | FLAG_VM | FLAG_VIF | FLAG_CF);
    r = VM("push $0x0001; popf", FLAG_VIF | FLAG_IF), EXPECT("POPF", &r, GP, 0, 3), CHECK_EQ("flags", ev.r.flags & ~(word)FLAG_RF, FLAG_FIXED | FLAG_VM | FLAG_IF | FLAG_CF);
    r = VM("push $0x0101; popf", 0), EXPECT("POPF that sets TF", &r, GP, 0, 3), CHECK_EQ("SP", ev.r.sp, TOP - 2), CHECK_EQ("CF", ev.r.flags & FLAG_CF, 0);
    r = VM("push $0x0201; popf", FLAG_VIP), EXPECT("POPF that sets IF with VIP", &r, GP, 0, 3);
    r = VM("push $0x0001; popf", FLAG_VIP), EXPECT("POPF that clears IF with VIP", &r, GP, 0, 3);
    r = VM("popfl", 0), EXPECT("POPFD", &r, GP, 0, 0);
    r = VM("push $0x202; push $0x2100; push $0x40; iret", 0), EXPECT("IRET", &r, GP, 0, 0x40), CHECK_EQ("CS", ev.r.cs, 0x2100), CHECK_EQ("VIF", ev.r.flags & (FLAG_VIF | FLAG_IF), FLAG_VIF), CHECK_EQ("SP", ev.r.sp, TOP);
    r = VM("push $0x302; push $0x2100; push $0x40; iret", 0), EXPECT("IRET that sets TF", &r, GP, 0, 8);
    r = VM("iretl", 0), EXPECT("IRETD", &r, GP, 0, 0);
    set_cr4(cr4 | CR4_PVI);
    r = user(ASM("sti; nop")), OK("PVI: STI", &r), CHECK_EQ("VIF", ev.r.flags & (FLAG_VIF | FLAG_IF), FLAG_VIF);
    r = user(ASM("cli")), r.flags |= FLAG_VIF | FLAG_IF, OK("PVI: CLI", &r), CHECK_EQ("VIF", ev.r.flags & (FLAG_VIF | FLAG_IF), FLAG_IF);
    r = user(ASM("sti")), r.flags |= FLAG_VIP, EXPECT("PVI: STI with VIP", &r, GP, 0, 0);
    r = user(ASM("cli")), r.flags |= FLAG_IOPL | FLAG_IF | FLAG_VIF, OK("PVI: CLI with IOPL 3", &r), CHECK_EQ("IF", ev.r.flags & (FLAG_VIF | FLAG_IF), FLAG_VIF);
    r = user(ASM("nop; cli")), r.flags |= FLAG_VIP | FLAG_VIF, EXPECT("PVI: VIF and VIP", &r, GP, 0, 0);
    r.flags |= FLAG_RF, EXPECT("with RF too", &r, GP, 0, 0), CHECK_EQ("RF", ev.r.flags & FLAG_RF, FLAG_RF);
    r.flags |= FLAG_IOPL, OK("PVI: VIF and VIP, IOPL 3", &r), CHECK_EQ("they stay", ev.r.flags & (FLAG_VIF | FLAG_VIP), FLAG_VIF | FLAG_VIP);
    r = kernel(KASM("nop; cli")), r.flags |= FLAG_VIP | FLAG_VIF, OK("PVI: VIF and VIP at CPL 0", &r);
    r = VM("nop", FLAG_VIP | FLAG_VIF), EXPECT("VIF and VIP in virtual-8086 mode without VME", &r, GP, 0, 1);
    r = VM("cli", 0), EXPECT("PVI is nothing to virtual-8086 mode", &r, GP, 0, 0);
    set_cr4(cr4);
    r = user(ASM("nop")), r.flags |= FLAG_VIP | FLAG_VIF, OK("VIF and VIP without PVI", &r);
}

void guest_main(void)
{
    basics();
    iopl_below_3();
    iopl_3();
    vme();
}
