/* Exceptions in 64-bit mode: which vector, which error code, and where the saved RIP points (SDM 3A chapter 6). */
#include "lib/guest.h"

static struct regs r;

static void arithmetic(void)
{
    r = user(ASM("div %ecx"));
    EXPECT("DIV by zero", &r, DE, NONE, 0);
    r = user(ASM("idiv %cl"));
    r.ax = 0x4000, r.cx = 1;
    EXPECT("IDIV that overflows", &r, DE, NONE, 0);
    r = user(ASM("div %rcx"));
    r.dx = 5, r.cx = 5;
    EXPECT("DIV that overflows by one", &r, DE, NONE, 0);
    r.dx = 4;
    OK("DIV that just fits", &r);
    CHECK_EQ("its quotient", ev.r.ax, 0xccccccccccccccccull);
    r = user(ASM("nop; int3"));
    EXPECT("INT3 is a trap", &r, BP, NONE, 2);
    r = user(ASM(".byte 0xcd, 3"));
    EXPECT("INT 3 is a trap", &r, BP, NONE, 2);
}

static void invalid(void)
{
    r = user(ASM("ud2")), EXPECT("UD2", &r, UD, NONE, 0);
    r = user(ASM(".byte 0x06")), EXPECT("PUSH ES in 64-bit code", &r, UD, NONE, 0);
    r = user(ASM(".byte 0x27")), EXPECT("DAA in 64-bit code", &r, UD, NONE, 0);
    r = user(ASM(".byte 0xce")), EXPECT("INTO in 64-bit code", &r, UD, NONE, 0);
    r = user(ASM(".byte 0x9a,0,0,0,0,0,0")), EXPECT("CALL ptr16:32 in 64-bit code", &r, UD, NONE, 0);
    r = user(ASM(".byte 0xea,0,0,0,0,0,0")), EXPECT("JMP ptr16:32 in 64-bit code", &r, UD, NONE, 0);
    r = user(ASM("lock; nop")), EXPECT("LOCK NOP", &r, UD, NONE, 0);
    r = user(ASM("lock; .byte 0x01,0xc0")), EXPECT("LOCK ADD to a register", &r, UD, NONE, 0);
    r = user(ASM(".byte 0x0f,0x0b")), EXPECT("0F 0B", &r, UD, NONE, 0);
    r = user(ASM(".byte 0x0f,0xff,0xc0")), EXPECT("UD0", &r, UD, NONE, 0);
    r = user(ASM(".byte 0x0f,0xb9,0xc0")), EXPECT("UD1", &r, UD, NONE, 0);
    r = user(ASM(".byte 0x8e,0xc8")), EXPECT("MOV CS, EAX", &r, UD, NONE, 0);
    r = user(ASM(".byte 0x8e,0xf0")), EXPECT("MOV to segment register 6", &r, UD, NONE, 0);
    r = kernel(KASM(".byte 0x0f,0x20,0xc8")), EXPECT("MOV EAX, CR1", &r, UD, NONE, 0);
    r = kernel(KASM(".byte 0x0f,0x22,0xe8")), EXPECT("MOV CR5, EAX", &r, UD, NONE, 0);
    r = kernel(KASM(".byte 0x44,0x0f,0x21,0xc0")), EXPECT("MOV EAX, DR8", &r, UD, NONE, 0);
    r = user(ASM(".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90")), OK("an instruction of 15 bytes", &r);
    r = user(ASM(".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90"));
    EXPECT("an instruction of 16 bytes", &r, GP, 0, 0);
    r = user(ASM("hlt")), EXPECT("HLT at CPL 3", &r, GP, 0, 0);
    r = user(ASM("cli")), EXPECT("CLI at CPL 3 and IOPL 0", &r, GP, 0, 0);
    r = user(ASM("mov %cr0, %rax")), EXPECT("MOV from CR0 at CPL 3", &r, GP, 0, 0);
    r = user(ASM("mov %dr7, %rax")), EXPECT("MOV from DR7 at CPL 3", &r, GP, 0, 0);
    r = user(ASM("rdmsr")), EXPECT("RDMSR at CPL 3", &r, GP, 0, 0);
    r = user(ASM("invlpg (%rax)")), EXPECT("INVLPG at CPL 3", &r, GP, 0, 0);
    r = user(ASM("wbinvd")), EXPECT("WBINVD at CPL 3", &r, GP, 0, 0);
    r = user(ASM("clts")), EXPECT("CLTS at CPL 3", &r, GP, 0, 0);
    r = user(ASM("swapgs")), EXPECT("SWAPGS at CPL 3", &r, GP, 0, 0);
    r = user(ASM("sysretq")), EXPECT("SYSRET at CPL 3", &r, UD, NONE, 0); /* EFER.SCE is clear */
    r = user(ASM("int $0x20")), EXPECT("INT through a gate of DPL 0", &r, GP, 0x20 * 8 + 2, 0);
    r = user(ASM(".byte 0xf1")), EXPECT("INT1 asks for no DPL", &r, DB, NONE, 1);
    if (has(1, 2, 3)) {
        r = user(ASM("monitor")), EXPECT("MONITOR at CPL 3", &r, UD, NONE, 0);
        r = user(ASM("mwait")), EXPECT("MWAIT at CPL 3", &r, UD, NONE, 0);
    }
}

static void device_not_available(void)
{
    word cr0 = get_cr0();
    set_cr0(cr0 | CR0_TS);
    r = user(ASM("fninit")), EXPECT("x87 with CR0.TS", &r, NM, NONE, 0);
    r = user(ASM("movaps %xmm0, %xmm1")), EXPECT("SSE with CR0.TS", &r, NM, NONE, 0);
    r = user(ASM("emms")), EXPECT("MMX with CR0.TS", &r, NM, NONE, 0);
    r = user(ASM("fxsave64 (%rsp)")), EXPECT("FXSAVE with CR0.TS", &r, NM, NONE, 0);
    r = user(ASM("fwait")), EXPECT("FWAIT with TS and MP", &r, NM, NONE, 0);
    set_cr0((cr0 | CR0_TS) & ~(word)CR0_MP);
    r = user(ASM("fwait")), OK("FWAIT with TS alone", &r);
    set_cr0((cr0 | CR0_EM) & ~(word)CR0_TS);
    r = user(ASM("fninit")), EXPECT("x87 with CR0.EM", &r, NM, NONE, 0);
    r = user(ASM("movaps %xmm0, %xmm1")), EXPECT("SSE with CR0.EM", &r, UD, NONE, 0);
    r = user(ASM("emms")), EXPECT("MMX with CR0.EM", &r, UD, NONE, 0);
    set_cr0(cr0);
    word cr4 = get_cr4();
    set_cr4(cr4 & ~(word)CR4_OSFXSR);
    r = user(ASM("movaps %xmm0, %xmm1")), EXPECT("SSE without CR4.OSFXSR", &r, UD, NONE, 0);
    r = user(ASM("pand %mm0, %mm1")), OK("MMX without CR4.OSFXSR", &r);
    set_cr4(cr4);
    r = user(ASM("fninit")), OK("x87 again", &r);
}

static void floating_point(void)
{
    r = user(ASM("fninit; push $0x37b; fldcw (%rsp); fldz; fld1; fdiv %st(1); nop; fwait"));
    EXPECT("x87 zero divide, at FWAIT", &r, MF, NONE, 17);
    asm volatile("fninit");
    r = user(ASM("fninit; push $0x37b; fldcw (%rsp); fldz; fld1; fdiv %st(1); fnstsw %ax; fnclex; fwait"));
    OK("x87 no-wait instructions pass", &r);
    CHECK_EQ("the status word", ev.r.ax & 0x80ff, 0x8084);
    word cr4 = get_cr4();
    r = user(ASM("push $0x1d80; ldmxcsr (%rsp); xorps %xmm0, %xmm0; pcmpeqd %xmm1, %xmm1; pslld $25, %xmm1; psrld $2, %xmm1; divps %xmm0, %xmm1"));
    EXPECT("SSE zero divide", &r, XM, NONE, 26);
    set_cr4(cr4 & ~(word)CR4_OSXMMEXCPT);
    EXPECT("SSE zero divide without OSXMMEXCPT", &r, UD, NONE, 26);
    set_cr4(cr4);
    u32 mxcsr = 0x1f80;
    asm volatile("ldmxcsr %0" :: "m"(mxcsr));
    r = user(ASM("push $0x10000; ldmxcsr (%rsp)"));
    EXPECT("LDMXCSR with a reserved bit", &r, GP, 0, 5);
    r = user(ASM("movaps 8(%rsp), %xmm0"));
    r.sp &= ~15ull;
    EXPECT("MOVAPS from an odd address", &r, GP, 0, 0);
}

static void alignment(void)
{
    word cr0 = get_cr0();
    set_cr0(cr0 | CR0_AM);
    r = user(ASM("mov 1(%rsp), %eax"));
    OK("misaligned, without EFLAGS.AC", &r);
    r.flags |= FLAG_AC;
    EXPECT("misaligned read", &r, AC, 0, 0);
    r = user(ASM("mov %ax, 1(%rsp)")), r.flags |= FLAG_AC, EXPECT("misaligned write of a word", &r, AC, 0, 0);
    r = user(ASM("mov %al, 1(%rsp)")), r.flags |= FLAG_AC, OK("a byte is never misaligned", &r);
    r = user(ASM("push %rax")), r.flags |= FLAG_AC, r.sp -= 4, EXPECT("misaligned push", &r, AC, 0, 0);
    r = user(ASM("mov 4(%rsp), %rax")), r.flags |= FLAG_AC, EXPECT("8 bytes at 4", &r, AC, 0, 0);
    r = user(ASM("lodsw")), r.flags |= FLAG_AC, r.si = r.sp - 1, EXPECT("misaligned LODSW", &r, AC, 0, 0);
    r = user(ASM("rep movsw")), r.flags |= FLAG_AC, r.si = r.sp, r.di = r.sp - 99, r.cx = 4, EXPECT("misaligned REP MOVSW", &r, AC, 0, 0);
    CHECK_EQ("its count", ev.r.cx, 4);
    r = kernel(KASM("mov 1(%rsp), %eax")), r.flags |= FLAG_AC, OK("no alignment check at CPL 0", &r);
    set_cr0(cr0);
    r = user(ASM("mov 1(%rsp), %eax")), r.flags |= FLAG_AC, OK("no alignment check without CR0.AM", &r);
}

#define BAD 0x0000800000000000ull
/* Where translated code knows the way to the target, from user code and from the kernel's, and what else is in the address is to be looked at all the same. */
static void known_target(void)
{
    void *const target = ASM("nop"), *const ways[] = {ASM("jmp *%rax"), ASM("call *%rax"), ASM("push %rax; ret")};
    for (unsigned n = 0; n < 12; n++) {
        r = n & 1 ? kernel(ways[n / 4]) : user(ways[n / 4]), r.ax = (word)target;
        OK("a jump by a register", &r);
    }
    for (u64 bits = 1; bits < 64; bits++)
        for (unsigned way = 0; way < 3; way++) {
            r = user(ways[way]), r.ax = (word)target ^ bits << 48;
            EXPECT("a known target but for bits 48 to 53", &r, GP, 0, way == 2);
            CHECK_EQ("RSP", ev.r.sp, r.sp - (way == 2 ? 8 : 0));
        }
    r = user(ways[0]), r.ax = ~0ull;
    EXPECT("JMP to the last byte", &r, PF, 0x14, ANYWHERE);
    CHECK_EQ("RIP", ev.r.ip, ~0ull);
}

static void canonical(void)
{
    r = user(ASM("mov (%rax), %ecx")), r.ax = BAD, EXPECT("non-canonical read", &r, GP, 0, 0);
    r = user(ASM("mov %ecx, (%rax)")), r.ax = BAD, EXPECT("non-canonical write", &r, GP, 0, 0);
    r = user(ASM("push %rax")), r.sp = BAD + 8, EXPECT("non-canonical push", &r, SS, 0, 0);
    r = user(ASM("pop %rax")), r.sp = BAD, EXPECT("non-canonical pop", &r, SS, 0, 0);
    r = user(ASM("ret")), r.sp = BAD, EXPECT("non-canonical RET", &r, SS, 0, 0);
    r = user(ASM("lretq")), r.sp = BAD, EXPECT("non-canonical far RET", &r, SS, 0, 0);
    r = user(ASM("iretq")), r.sp = BAD, EXPECT("non-canonical IRET", &r, SS, 0, 0);
    r = user(ASM("call 1f; 1:")), r.sp = BAD + 8, EXPECT("non-canonical CALL", &r, SS, 0, 0);
    r = user(ASM("mov (%rbp), %eax")), r.bp = BAD, EXPECT("[RBP] is the stack segment", &r, SS, 0, 0);
    r = user(ASM("mov 8(%rsp,%rax), %eax")), r.ax = BAD, EXPECT("[RSP] is the stack segment", &r, SS, 0, 0);
    r = user(ASM("leave")), r.bp = BAD, EXPECT("non-canonical LEAVE", &r, SS, 0, 0);
    r = user(ASM("enter $8, $0")), r.sp = BAD + 8, EXPECT("non-canonical ENTER", &r, SS, 0, 0);
    r = user(ASM("fxsave64 (%rbp)")), r.bp = BAD, EXPECT("FXSAVE to a non-canonical stack", &r, SS, 0, 0);
    if (has(1, 2, 13))
        r = user(ASM("cmpxchg16b (%rbp)")), r.bp = BAD, EXPECT("CMPXCHG16B on a non-canonical stack", &r, SS, 0, 0);
    r = user(ASM("jmp *%rax")), r.ax = BAD, EXPECT("JMP to a non-canonical address", &r, GP, 0, 0);
    r = user(ASM("call *%rax")), r.ax = BAD, EXPECT("CALL of a non-canonical address", &r, GP, 0, 0);
    CHECK_EQ("RSP is as before", ev.r.sp, r.sp);
    r = user(ASM("push %rax; ret")), r.ax = BAD, EXPECT("RET to a non-canonical address", &r, GP, 0, 1);
    r = user(ASM("lodsb")), r.si = BAD, EXPECT("non-canonical LODSB", &r, GP, 0, 0);
    r = user(ASM("rep stosb")), r.di = BAD - 16, r.cx = 32, EXPECT("REP STOSB up to the canonical end", &r, PF, 6, 0);
    r = user(ASM("xlatb")), r.bx = BAD, EXPECT("non-canonical XLAT", &r, GP, 0, 0);
    r = user(ASM("clflush (%rax)")), r.ax = BAD, EXPECT("non-canonical CLFLUSH", &r, GP, 0, 0);
    r = kernel(KASM("invlpg (%rax)")), r.ax = BAD, OK("INVLPG of a non-canonical address does nothing", &r);
    r = user(ASM("prefetchnta (%rax)")), r.ax = BAD, OK("PREFETCH of a non-canonical address does nothing", &r);
    r = user(ASM("lea (%rax), %rcx; nopl (%rax)")), r.ax = BAD, OK("LEA and NOP access nothing", &r);
}

static void doubles(void)
{
    u64 save[2] = {idt[2 * GP], idt[2 * GP + 1]};
    idt[2 * GP] &= ~(0x80ull << 40);
    r = user(ASM("hlt")), EXPECT("#NP in the delivery of #GP", &r, DF, 0, 0);
    idt[2 * GP] = save[0];
    idt_set(GP, FREE, 0, A_PRESENT | 14, 1);
    gdt_set(FREE, 0, 0);
    EXPECT("#GP in the delivery of #GP", &r, DF, 0, 0);
    idt_default(GP);
    idt[2 * UD] &= ~(0x80ull << 40);
    r = user(ASM("ud2")), EXPECT("#NP in the delivery of #UD, which is benign", &r, NP, UD * 8 + 3, 0);
    idt_default(UD);
    idt_set(UD, FREE, 0, A_PRESENT | 14, 1);
    EXPECT("a gate to a missing code segment", &r, GP, FREE + 1, 0);
    idt_set(UD, 0, 0, A_PRESENT | 14, 1);
    EXPECT("a gate to the null selector", &r, GP, 1, 0);
    idt_set(UD, KDATA, 0, A_PRESENT | 14, 1);
    EXPECT("a gate to a data segment", &r, GP, KDATA + 1, 0);
    idt_set(UD, KCODE32, 0, A_PRESENT | 14, 1);
    EXPECT("a gate to a 32-bit code segment", &r, GP, KCODE32 + 1, 0);
    idt_set(UD, KCODE, 0, A_PRESENT | 5, 1);
    EXPECT("a task gate in long mode", &r, GP, UD * 8 + 3, 0);
    idt_set(UD, KCODE, 0, A_PRESENT | 6, 1);
    EXPECT("a 16-bit gate in long mode", &r, GP, UD * 8 + 3, 0);
    idt_default(UD);
    r = user(ASM("int $0x40"));
    idt_set(0x40, FREE, 0, A_PRESENT | A_DPL3 | 14, 1);
    EXPECT("INT: no EXT bit", &r, GP, FREE, 0);
    idt_set(0x40, KCODE, 0, A_DPL3 | 14, 1);
    EXPECT("INT through an absent gate", &r, NP, 0x40 * 8 + 2, 0);
    idt_set(0x40, KCODE, BAD, A_PRESENT | A_DPL3 | 14, 1);
    EXPECT("INT to a non-canonical address", &r, GP, 0, 0);
    idt_default(0x40);
    struct table small = {0x40 * 16 - 1, (word)idt}, cut = {0x40 * 16 + 14, (word)idt};
    r = kernel(KASM("lidt (%rax); int $0x40"));
    r.ax = (word)&small;
    EXPECT("INT beyond the IDT's limit", &r, GP, 0x40 * 8 + 2, 3);
    r.ax = (word)&cut;
    EXPECT("INT whose gate is cut by the limit", &r, GP, 0x40 * 8 + 2, 3);
    asm volatile("lidt %0" :: "m"(idt_table));
    r = user(ASM("push %rax")), r.sp = 0x10000;
    set_cr2(0);
    idt[2 * PF] &= ~(0x80ull << 40);
    EXPECT("#NP in the delivery of #PF", &r, DF, 0, 0);
    CHECK_EQ("CR2", ev.cr2, 0xfff8);
    idt_default(PF);
}

static void ist(void)
{
    static u8 other[1024] __attribute__((aligned(16)));
    *(u64 *)(tss + 0x24 + 8) = (word)other + 1000; /* IST2: not aligned */
    r = user(ASM("int $0x41"));
    idt_set(0x41, KCODE, (word)KASM("nop"), A_PRESENT | A_DPL3 | 15, 2);
    r.flags |= FLAG_IF;
    OK("INT through IST2", &r);
    CHECK_EQ("RSP was aligned first", ev.r.sp, (((word)other + 1000) & ~15ull) - 40);
    CHECK_EQ("SS became null", ev.r.ss, 0);
    CHECK_EQ("a trap gate leaves IF", ev.r.flags & FLAG_IF, FLAG_IF);
    u64 *f = (u64 *)ev.r.sp;
    CHECK_EQ("frame: RIP", f[0], r.ip + 2);
    CHECK_EQ("frame: CS", f[1], UCODE);
    CHECK_EQ("frame: RFLAGS", f[2], r.flags);
    CHECK_EQ("frame: RSP", f[3], r.sp);
    CHECK_EQ("frame: SS", f[4], UDATA);
    idt_set(0x41, KCODE, (word)KASM("nop"), A_PRESENT | A_DPL3 | 14, 0);
    OK("INT through RSP0", &r);
    CHECK_EQ("an interrupt gate clears IF", ev.r.flags & FLAG_IF, 0);
    CHECK_EQ("RSP0", ev.r.sp, *(u64 *)(tss + 4) - 40);
    r = kernel(KASM("int $0x41"));
    r.sp -= 3;
    OK("INT at the same level", &r);
    CHECK_EQ("the stack was aligned", ev.r.sp, (r.sp & ~15ull) - 40);
    CHECK_EQ("SS stays", ev.r.ss, KDATA);
    *(u64 *)(tss + 0x24 + 8) = BAD;
    idt_set(0x41, KCODE, (word)KASM("nop"), A_PRESENT | A_DPL3 | 14, 2);
    EXPECT("IST2 non-canonical", &r, SS, 0, 0);
    idt_default(0x41);
    /* conforming code: no change of level */
    gdt_set(FREE, segment(0, 0xfffff, A_PRESENT | A_CODE | A_RW | A_CONFORMING | A_G | A_L), 0);
    idt_set(0x41, FREE, (word)ASM("mov %cs, %eax"), A_PRESENT | A_DPL3 | 14, 0);
    r = user(ASM("int $0x41"));
    OK("INT to conforming code", &r);
    CHECK_EQ("CS keeps CPL 3", ev.r.cs, FREE + 3);
    CHECK_EQ("the user's stack", ev.r.sp, (r.sp & ~15ull) - 40);
    idt_default(0x41);
}

void guest_main(void)
{
    arithmetic();
    invalid();
    device_not_available();
    floating_point();
    alignment();
    canonical();
    known_target();
    doubles();
    ist();
}
