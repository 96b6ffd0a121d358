/* Real mode, entered from protected mode and left again: segments, vectors without error codes, limits, big real mode,
 * A20, and what only protected mode has (SDM 3A 9.9, 3B chapter 20). */
#include "lib/guest.h"

/* What the real-mode side sees at 7000h; in, out. */
struct real { u32 ax, bx, cx, dx, si, di, bp, sp; u16 ip, cs, flags, ss, ds, es, fs, gs; u32 vector, esp32, limit; };
#define REAL ((volatile struct real *)0x7000)
static struct real r, got;
enum { CODE16 = FREE, DATA16 = FREE + 8, BIG = FREE + 16, CS16 = 0x2000, SS16 = 0x3000, TOP = 0x8000 };
#define AT(segment, offset) ((u8 *)((segment) * 16 + (offset)))
#define IVT ((volatile u32 *)0)

/* Copied to 8000h: `enter` at its start (16-bit code, CS base 8000h); vectors' stubs at 9000h. */
asm(".pushsection .ktext,\"ax\"\n"
    ".globl blob, blob_end, to_real, stub_begin, stub_end\n"
    "to_real:\n"
    "  pusha\n  mov %esp, 0x7040\n  lidt real_idt\n  mov 36(%esp), %eax\n"
    "  mov %eax, %ds\n  mov %eax, %es\n  mov %eax, %fs\n  mov %eax, %gs\n  mov %eax, %ss\n"
    "  ljmp $0x80, $0\n"
    "from_real:\n"
    "  mov $0x10, %eax\n  mov %eax, %ds\n  mov %eax, %es\n  mov %eax, %fs\n  mov %eax, %gs\n  mov %eax, %ss\n"
    "  mov 0x7040, %esp\n  lidt idt_table\n  cld\n  popa\n  ret\n"
    ".code16\n"
    "blob:\n"
    "  mov %cr0, %eax\n  and $0xfffffffe, %eax\n  mov %eax, %cr0\n  ljmp $0x800, $(1f - blob)\n"
    "1:xor %ax, %ax\n  mov %ax, %ds\n"
    "  mov 0x7000, %eax\n  mov 0x7004, %ebx\n  mov 0x7008, %ecx\n  mov 0x700c, %edx\n  mov 0x7010, %esi\n  mov 0x7014, %edi\n  mov 0x7018, %ebp\n"
    "  mov 0x7026, %ss\n  mov 0x701c, %esp\n  mov 0x702a, %es\n  mov 0x702c, %fs\n  mov 0x702e, %gs\n"
    "  pushw 0x7024\n  pushw 0x7022\n  pushw 0x7020\n  push 0x7028\n  pop %ds\n  iretw\n"
    "blob_end:\n"
    /* one for each vector, 8 bytes apart from 9000h; the last jumps to what follows them */
    "stub_begin:\n"
    "  push %ds\n  push %eax\n  xor %ax, %ax\n  mov %ax, %ds\n  popl 0x7000\n  popw 0x7028\n  popw 0x7030\n  popw 0x7020\n  popw 0x7022\n  popw 0x7024\n"
    "  mov %ebx, 0x7004\n  mov %ecx, 0x7008\n  mov %edx, 0x700c\n  mov %esi, 0x7010\n  mov %edi, 0x7014\n  mov %ebp, 0x7018\n  mov %esp, 0x701c\n"
    "  mov %ss, 0x7026\n  mov %es, 0x702a\n  mov %fs, 0x702c\n  mov %gs, 0x702e\n"
    "  mov %cr0, %eax\n  or $1, %eax\n  mov %eax, %cr0\n  ljmpl $0x08, $from_real\n"
    "stub_end:\n"
    ".code32\n"
    ".popsection\n"
    ".data\nreal_idt: .word 0x3ff\n .long 0\n.globl real_idt\n.text\n");
extern u8 blob[], blob_end[], stub_begin[], stub_end[];
extern struct table real_idt;
void to_real(u32 data_selector);
static u32 data_selector = DATA16;

static void prepare(void)
{
    gdt_set(CODE16, segment(0x8000, 0xffff, A_PRESENT | A_CODE | A_RW), 0);
    gdt_set(DATA16, segment(0, 0xffff, A_PRESENT | A_DATA | A_RW), 0);
    gdt_set(BIG, segment(0, 0xfffff, A_PRESENT | A_DATA | A_RW | A_G), 0);
    memcpy((void *)0x8000, blob, (size_t)(blob_end - blob));
    memcpy((void *)0x9800, stub_begin, (size_t)(stub_end - stub_begin));
    for (unsigned v = 0; v < 256; v++) {
        u8 stub[8] = {0x68, (u8)v, 0, 0xe9, 0, 0, 0x90, 0x90};
        u16 jump = (u16)(0x9800 - (0x9000 + 8 * v + 6));
        memcpy(stub + 4, &jump, 2);
        memcpy((void *)(0x9000 + 8 * v), stub, 8);
        IVT[v] = 0x9000 + 8 * v;
    }
}

static struct real real(const void *code)
{
    memcpy(AT(CS16, 0), code, 96);
    return (struct real){.cs = CS16, .ss = SS16, .sp = TOP, .flags = FLAG_FIXED};
}
#define RM(text) ({ void *code_ = ASM16(text); real(code_); })

static void real_(int line, const char *what, u32 vector, long at)
{
    memcpy((void *)0x7000, &r, sizeof r);
    to_real(data_selector);
    memcpy(&got, (void *)0x7000, sizeof got);
    checks++;
    if ((got.vector & 0xff) != vector) {
        fail_(__FILE__, line, what, got.vector & 0xff, vector);
        print("  (vector, at %x:%x)\n", got.cs, got.ip);
    } else if (at != ANYWHERE && ++checks && got.ip != at) {
        fail_(__FILE__, line, what, got.ip, (u64)at);
    }
}
#define RUN(what, vector, at) real_(__LINE__, what, vector, at)
#define DONE_OK(what) RUN(what, DONE, ANYWHERE)

static void basics(void)
{
    r = RM("mov %cs, %ax; mov %ss, %bx; pushf; pop %cx; smsw %dx"), r.flags = FLAG_FIXED | FLAG_CF | FLAG_IOPL;
    DONE_OK("real mode");
    CHECK_EQ("CS", got.ax, CS16), CHECK_EQ("SS", got.bx, SS16), CHECK_EQ("FLAGS", got.cx, r.flags), CHECK_EQ("PE", got.dx & 1, 0), CHECK_EQ("SP", got.sp, TOP), CHECK_EQ("IF in the handler is clear, FLAGS in the frame", got.flags, r.flags);
    r = RM("mov $0x1234, %ax; mov %ax, %ds; mov %ds:2, %cx; mov %ds:0xfffe, %dx"), *(u16 *)AT(0x1234, 2) = 0x5678, *(u16 *)AT(0x1234, 0xfffe) = 0x9abc;
    DONE_OK("segments are paragraphs"), CHECK_EQ("CX", got.cx, 0x5678), CHECK_EQ("DX", got.dx, 0x9abc);
    r = RM("mov %ds:0xffff, %ax"), RUN("a word at FFFF", GP, 0);
    r = RM("mov %ss:0xffff, %ax"), RUN("a word at SS:FFFF", SS, 0);
    r = RM("addr32 mov (%ebx), %al"), r.bx = 0x10000, RUN("an offset above 64 KiB", GP, 0);
    r = RM("addr32 mov (%ebx), %al"), r.bx = 0xffff, DONE_OK("a 32-bit offset below 64 KiB");
    r = RM("movl $0x12345678, %eax; pushl %eax; popl %ebx"), DONE_OK("32-bit operands"), CHECK_EQ("EBX", got.bx, 0x12345678);
    r = RM("push %ax; pop %bx"), r.sp = 0, r.ax = 0x77, DONE_OK("SP wraps from 0"), CHECK_EQ("BX", got.bx, 0x77);
    r = RM("lcall $0x2100, $0x20"), *(u16 *)AT(0x2100, 0x20) = 0xf0cd, DONE_OK("far CALL"), CHECK_EQ("CS", got.cs, 0x2100), CHECK_EQ("SP", got.sp, TOP - 4), CHECK_EQ("IP on the stack", *(u16 *)AT(SS16, TOP - 4), 5), CHECK_EQ("CS on the stack", *(u16 *)AT(SS16, TOP - 2), CS16);
    r = RM("push $0x2100; push $0x20; lret $6"), DONE_OK("far RET n"), CHECK_EQ("CS", got.cs, 0x2100), CHECK_EQ("SP", got.sp, TOP + 6);
    r = RM("pushl $0x250ed7; pushl $0x2100; pushl $0x20; iretl"), DONE_OK("IRETD"), CHECK_EQ("CS", got.cs, 0x2100), CHECK_EQ("FLAGS", got.flags, 0x0ed7);
    r = RM("pushl $0x2; pushl $0x2100; pushl $0x10020; iretl"), RUN("IRETD beyond 64 KiB", GP, ANYWHERE), CHECK_EQ("SP", got.sp, TOP - 12);
    r = RM("ljmpl $0x2100, $0x10020"), RUN("far JMP beyond 64 KiB", GP, 0);
    r = RM("data32 jmp . + 0x10000"), RUN("JMP rel32 beyond 64 KiB", GP, 0);
    r = RM("std; rep movsb; cld"), r.si = 5, r.di = 1, r.cx = 3, r.ds = r.es = 0x4000, memcpy(AT(0x4000, 3), "abc", 3), *AT(0x4000, 0xffff) = 0;
    DONE_OK("REP MOVSB downwards wraps at 0"), CHECK_EQ("DI", got.di, 0xfffe), CHECK_EQ("the wrapped byte", *AT(0x4000, 0xffff), 'a');
    r = RM("rep stosb"), r.di = 0xfffe, r.cx = 4, r.es = 0x4000, r.ax = 0x55, DONE_OK("REP STOSB wraps at 64 KiB"), CHECK_EQ("DI", got.di, 2), CHECK_EQ("the wrapped byte", *AT(0x4000, 1), 0x55);
    /* two segments, one offset: the same IP in the same mode is other code */
    memcpy(AT(0x2400, 0), ASM16("add $0x100, %ax; ljmp $0x2000, $0"), 16);
    r = RM("inc %ax; loop 1f; int $0xf0; 1: ljmp $0x2400, $0"), r.cx = 60, DONE_OK("far JMPs to and fro"), CHECK_EQ("AX", got.ax, 60 + 59 * 0x100);
    r = RM("cli; hlt"), memcpy(AT(CS16, 0), "\xfa\xcd\xf0", 3), r.flags |= FLAG_IF, DONE_OK("CLI"), CHECK_EQ("IF", got.flags & FLAG_IF, 0);
    r = RM("outb %al, $0x80; inb $0x80, %al"), DONE_OK("I/O");
    r = RM("mov %ax, %ds; push %ds; pop %es; lds %ds:0x10, %bx"), r.ax = 0x4000, memcpy(AT(0x4000, 0x10), "\x34\x12\x78\x56", 4), DONE_OK("LDS"), CHECK_EQ("DS", got.ds, 0x5678), CHECK_EQ("BX", got.bx, 0x1234), CHECK_EQ("ES", got.es, 0x4000);
}

static void events(void)
{
    r = RM("div %cl"), RUN("#DE", DE, 0), CHECK_EQ("no error code: SP", got.sp, TOP);
    r = RM("ud2"), RUN("#UD", UD, 0);
    r = RM("into"), r.flags |= FLAG_OF, RUN("INTO", OF, 1);
    r = RM("int3"), RUN("INT3", BP, 1);
    r = RM("int $0x77"), r.flags |= FLAG_IF, RUN("INT", 0x77, 2), CHECK_EQ("FLAGS", got.flags, r.flags);
    r = RM(".byte 0xf1"), RUN("INT1", DB, 1);
    r = RM("nop; nop"), r.flags |= FLAG_TF, RUN("single-step", DB, 1), set_dr6(0xffff0ff0);
    r = RM("mov %ax, %ss; nop; nop"), r.ax = SS16, r.flags |= FLAG_TF, RUN("MOV SS and single-step", DB, 3);
    r = RM("bound %ax, %ds:0"), r.ds = 0x4000, memset(AT(0x4000, 0), 0, 4), r.ax = 1, RUN("BOUND", BR, 0);
    set_dr0(CS16 * 16 + 1), set_dr7(0x402);
    r = RM("nop; nop"), RUN("an instruction breakpoint", DB, 1), set_dr7(0x400), set_dr6(0xffff0ff0);
    /* vectors elsewhere, and fewer of them */
    r = RM("int $0x41");
    memcpy((void *)0xa000, (void *)0, 0x400), *(u32 *)(0xa000 + 4 * 0x41) = 0x9000 + 8 * 0x99;
    real_idt = (struct table){0x3ff, 0xa000};
    RUN("IDT at A000", 0x99, 2);
    real_idt = (struct table){4 * 0x41 + 2, 0xa000};
    RUN("INT beyond the limit", GP, 0);
    real_idt = (struct table){4 * 0x41 + 3, 0xa000};
    RUN("INT at the limit", 0x99, 2);
    real_idt = (struct table){0x3ff, 0};
}

static void protected_only(void)
{
    r = RM("sldt %ax"), RUN("SLDT", UD, 0);
    r = RM("str %ax"), RUN("STR", UD, 0);
    r = RM("lldt %ax"), RUN("LLDT", UD, 0);
    r = RM("ltr %ax"), RUN("LTR", UD, 0);
    r = RM("lar %ax, %cx"), RUN("LAR", UD, 0);
    r = RM("lsl %ax, %cx"), RUN("LSL", UD, 0);
    r = RM("verr %ax"), RUN("VERR", UD, 0);
    r = RM("verw %ax"), RUN("VERW", UD, 0);
    r = RM("arpl %ax, %cx"), RUN("ARPL", UD, 0);
    if (has(1, 3, 11)) {
        r = RM("sysenter"), RUN("SYSENTER", GP, 0);
        r = RM("sysexit"), RUN("SYSEXIT", GP, 0);
    }
    r = RM("mov %cr0, %eax; mov %cr4, %ecx; mov %dr7, %edx"), DONE_OK("control registers"), CHECK_EQ("CR0.PE", got.ax & 1, 0), CHECK_EQ("DR7", got.dx, 0x400);
    r = RM("sgdt %ds:0"), r.ds = 0x4000, DONE_OK("SGDT"), CHECK_EQ("base", *(u32 *)AT(0x4000, 2), (u32)gdt);
    r = RM("lgdt %ds:0; sgdt %ds:8"), r.ds = 0x4000, DONE_OK("LGDT of 24 bits"), CHECK_EQ("base", *(u32 *)AT(0x4000, 10), (u32)gdt & 0xffffff);
    r = RM("mov $0x80000000, %eax; mov %cr0, %ebx; or %ebx, %eax; mov %eax, %cr0"), RUN("PG without PE", GP, ANYWHERE);
}

static void big_real(void)
{
    data_selector = BIG; /* the limit stays when PE is cleared, and when a segment is loaded in real mode */
    *(volatile u32 *)0x300000 = 0xcafe;
    r = RM("mov $0x10, %ax; mov %ax, %ds; addr32 movl (%ebx), %ecx"), r.bx = 0x300000 - 0x100;
    DONE_OK("big real mode"), CHECK_EQ("ECX", got.cx, 0xcafe);
    r = RM("mov $0x10, %ax; mov %ax, %ds; mov %ds:0xffff, %cx"), DONE_OK("a word at FFFF");
    r = RM("addr32 rep movsb"), r.si = 0x300000, r.di = 0x310000, r.cx = 4, *(volatile u32 *)0x310000 = 0;
    DONE_OK("REP MOVSB"), CHECK_EQ("memory", *(volatile u32 *)0x310000, 0xcafe), CHECK_EQ("EDI", got.di, 0x310004);
    data_selector = DATA16;
    r = RM("addr32 movl (%ebx), %ecx"), r.bx = 0x300000, RUN("and it ends", GP, 0);
}

/* A byte and a routine 1 MiB apart; read and called with A20 shut, then open, all in one run below 1 MiB, since this
 * program lies above. */
#define KBC(value) "mov $0xd1, %al; out %al, $0x64; 1: in $0x64, %al; test $2, %al; jnz 1b; mov $" value ", %al; out %al, $0x60; 2: in $0x64, %al; test $2, %al; jnz 2b;"
static u8 area[0x8000] __attribute__((section(".data")));

static void a20(void)
{
    u8 *high = (u32)area < 0x10b000 ? (u8 *)0x10b000 : area, *low = high - 0x100000;
    u16 offset = (u16)((u32)low + 16);
    memcpy(low, "\x11\xb3\x33\xcb", 4), memcpy(high, "\x22\xb3\x44\xcb", 4); /* a byte; MOV BL, n; RETF */
    for (unsigned way = 0; way < 2; way++) {
        if (way)
            r = RM(KBC("0xdd") "call 5f; mov %bx, %bp;" KBC("0xdf") "call 5f; jmp 8f; 5: mov $0xffff, %dx; mov %dx, %ds; xchg %cl, %ch; mov (%si), %cl; push %cs; push $(9f - 771b); push %dx; push %di; lret; 9: ret; 8:");
        else
            r = RM("xor %al, %al; out %al, $0x92; call 5f; mov %bx, %bp; mov $2, %al; out %al, $0x92; call 5f; jmp 8f; 5: mov $0xffff, %dx; mov %dx, %ds; xchg %cl, %ch; mov (%si), %cl; push %cs; push $(9f - 771b); push %dx; push %di; lret; 9: ret; 8:");
        r.si = offset, r.di = offset + 1u;
        DONE_OK("A20");
        CHECK_EQ("shut: FFFF:0010 is address 0", got.cx >> 8 & 0xff, 0x11), CHECK_EQ("and its code", got.bp & 0xff, 0x33);
        CHECK_EQ("open: it is 1 MiB", got.cx & 0xff, 0x22), CHECK_EQ("and its code", got.bx & 0xff, 0x44);
    }
}

void guest_main(void)
{
    prepare();
    basics();
    events();
    protected_only();
    big_real();
    a20();
}
