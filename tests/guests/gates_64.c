/* Far transfers in long mode: between 64-bit, compatibility and 16-bit code; 64-bit call gates; IRET and far RET in all
 * sizes with their checks; and the way out of long mode and back (SDM 3A 5.8, 6.14, 9.8.5). */
#include "lib/guest.h"

static struct regs r;
enum { GATE = FREE, CODE_BOTH = FREE + 16, SEG = FREE + 24, CONFORM = FREE + 32, CODE16 = FREE + 40, GONE = FREE + 48, STACK16 = FREE + 56, CODE1 = FREE + 64, DATA1 = FREE + 72 };
#define BAD 0x0000800000000000ull
static struct { u64 offset; u16 selector; } __attribute__((packed)) far64;
static struct { u32 offset; u16 selector; } __attribute__((packed)) far __attribute__((section(".udata"))) = {1, 1};
static u8 stack0[1024] __attribute__((aligned(16)));

static void direct(void)
{
    r = user(ASM("ljmp *(%rbx)")), r.bx = (word)&far;
    far.selector = UCODE32, far.offset = (u32)(word)ASM32("mov %cs, %eax; inc %eax; dec %eax; mov $-1, %ecx");
    OK("JMP from 64-bit to compatibility mode", &r), CHECK_EQ("CS", ev.r.cs, UCODE32), CHECK_EQ("EAX", ev.r.ax, UCODE32), CHECK_EQ("RCX", ev.r.cx, 0xffffffff);
    r = user(ASM32("ljmp *(%ebx)")), r.cs = UCODE32, r.bx = (word)&far;
    far.selector = UCODE, far.offset = (u32)(word)ASM("mov $-1, %rax");
    OK("JMP from compatibility to 64-bit mode", &r), CHECK_EQ("CS", ev.r.cs, UCODE), CHECK_EQ("RAX", ev.r.ax, ~0ull);
    gdt_set(CODE16, segment((u32)(word)ASM16("mov %sp, %ax; mov $0x12345678, %ecx; mov $0x9abc, %dx"), 0xffff, A_PRESENT | A_DPL3 | A_CODE | A_RW), 0);
    r = user(ASM("ljmp *(%rbx)")), r.bx = (word)&far, r.dx = 0xffffffff;
    far.selector = CODE16 | 3, far.offset = 0;
    OK("JMP to 16-bit code", &r), CHECK_EQ("CS", ev.r.cs, CODE16 | 3), CHECK_EQ("ECX", ev.r.cx, 0x12345678), CHECK_EQ("DX", ev.r.dx, 0xffff9abc);
    r = kernel(KASM("rex.W ljmp *(%rbx)")), r.bx = (word)&far64;
    far64.offset = (word)KASM("mov $7, %eax"), far64.selector = KCODE, OK("JMP m16:64", &r), CHECK_EQ("EAX", ev.r.ax, 7);
    r = kernel(KASM("rex.W lcall *(%rbx)")), r.bx = (word)&far64, OK("CALL m16:64", &r), CHECK_EQ("RSP", ev.r.sp, r.sp - 16), CHECK_EQ("return RIP", ((u64 *)ev.r.sp)[0], r.ip + 3), CHECK_EQ("return CS", ((u64 *)ev.r.sp)[1], KCODE);
    r = kernel(KASM("lcall *(%rbx)")), r.bx = (word)&far, far.selector = KCODE, far.offset = (u32)far64.offset, OK("CALL m16:32", &r), CHECK_EQ("RSP", ev.r.sp, r.sp - 8), CHECK_EQ("return CS", ((u32 *)ev.r.sp)[1], KCODE);
    far64.offset = (word)KASM("rex.W lret"), r = kernel(KASM("rex.W lcall *(%rbx); mov %rsp, %rcx")), r.bx = (word)&far64, OK("CALL and RET", &r), CHECK_EQ("RSP", ev.r.cx, r.sp);
    r = kernel(KASM("rex.W ljmp *(%rbx)")), r.bx = (word)&far64;
    far64.offset = BAD, EXPECT("JMP to a non-canonical address", &r, GP, 0, 0);
    far64.offset = 0, far64.selector = 0, EXPECT("JMP to null", &r, GP, 0, 0);
    far64.selector = GONE, EXPECT("JMP to nothing", &r, GP, GONE, 0);
    gdt_set(CODE_BOTH, segment(0, 0xfffff, A_PRESENT | A_CODE | A_RW | A_G | A_L | A_DB), 0);
    far64.selector = CODE_BOTH, EXPECT("JMP to code with L and D", &r, GP, CODE_BOTH, 0);
    gdt_set(SEG, segment(0, 0xfffff, A_CODE | A_RW | A_G | A_L), 0);
    far64.selector = SEG, EXPECT("JMP to absent code", &r, NP, SEG, 0);
    gdt_set(SEG, segment(0, 0xff, A_PRESENT | A_CODE | A_RW | A_DB), 0);
    far64.offset = 0x100, EXPECT("JMP beyond the limit of 32-bit code", &r, GP, 0, 0);
    far64.selector = TSS_SEL, EXPECT("JMP to a TSS", &r, GP, TSS_SEL, 0);
    gdt_set(SEG, gate(TSS_SEL, 0, A_PRESENT | 5, 0), 0), far64.selector = SEG, EXPECT("JMP to a task gate", &r, GP, SEG, 0);
    gdt_set(SEG, gate(KCODE, 0, A_PRESENT | 4, 0), 0), EXPECT("JMP to a 16-bit call gate", &r, GP, SEG, 0);
    gdt_set(SEG, segment(0, 0xfffff, A_PRESENT | 2), 0), EXPECT("JMP to an LDT", &r, GP, SEG, 0);
    r = user(ASM32("mov $0x12345678, %eax; .byte 0x48; mov %eax, %ecx")), r.cs = UCODE32, OK("48h is DEC in compatibility mode", &r), CHECK_EQ("ECX", ev.r.cx, 0x12345677);
    r = user(ASM32("les (%ebx), %ecx")), r.cs = UCODE32, r.bx = (word)&far, far.selector = UDATA, far.offset = 0x55, OK("LES in compatibility mode", &r), CHECK_EQ("ECX", ev.r.cx, 0x55), CHECK_EQ("ES", ev.r.es, UDATA);
    gdt_set(SEG, segment(0, 0xff, A_PRESENT | A_DPL3 | A_DATA | A_RW | A_DB), 0);
    r = user(ASM32("mov 0x100, %eax")), r.cs = UCODE32, r.ds = SEG | 3, EXPECT("limits count in compatibility mode", &r, GP, 0, 0);
    r = user(ASM32("mov %fs:0x100, %eax")), r.cs = UCODE32, EXPECT("a null FS in compatibility mode", &r, GP, 0, ANYWHERE);
    r = user(ASM("mov %ds:(%rax), %ecx")), r.ds = SEG | 3, r.ax = (word)&far, OK("limits do not count in 64-bit mode", &r);
    r = user(ASM("mov %ds:(%rax), %ecx")), r.ds = 0, r.es = 0, r.ax = (word)&far, OK("nor null selectors", &r);
    r = user(ASM32("push %eax")), r.cs = UCODE32, r.sp = 0x1234567800000000ull | (u32)r.sp, OK("a push in compatibility mode", &r), CHECK_EQ("RSP is 32 bits", ev.r.sp, (u32)r.sp - 4);
}

static void call_gates(void)
{
    word target = (word)KASM("mov %cs, %ecx; mov %ss, %edx");
    *(u64 *)(tss + 4) = (word)(stack0 + sizeof stack0);
    gdt_set(GATE, gate(KCODE, (u32)target, A_PRESENT | A_DPL3 | 12, 0), 0), gdt[(GATE >> 3) + 1] = target >> 32;
    far.selector = GATE | 3;
    r = user(ASM("lcall *(%rbx)")), r.bx = (word)&far;
    OK("CALL through a 64-bit gate", &r), CHECK_EQ("CS", ev.r.cs, KCODE), CHECK_EQ("SS is null", ev.r.dx, 0), CHECK_EQ("RSP", ev.r.sp, (word)(stack0 + sizeof stack0) - 32);
    u64 *f = (u64 *)ev.r.sp;
    CHECK_EQ("RIP", f[0], r.ip + 2), CHECK_EQ("CS", f[1], UCODE), CHECK_EQ("RSP", f[2], r.sp), CHECK_EQ("SS", f[3], UDATA);
    r = user(ASM32("lcall *(%ebx)")), r.cs = UCODE32, r.bx = (word)&far;
    OK("CALL through a 64-bit gate from compatibility mode", &r), f = (u64 *)ev.r.sp, CHECK_EQ("CS", f[1], UCODE32), CHECK_EQ("RIP", f[0], r.ip + 2);
    gdt[GATE >> 3] = gate(KCODE, (u32)(word)KASM("rex.W lret"), A_PRESENT | A_DPL3 | 12, 0);
    r = user(ASM("lcall *(%rbx); mov %rsp, %rcx")), r.bx = (word)&far, OK("and back", &r), CHECK_EQ("RSP", ev.r.cx, r.sp), CHECK_EQ("CS", ev.r.cs, UCODE);
    gdt[GATE >> 3] = gate(KCODE, (u32)target, A_PRESENT | 12, 0), far.selector = GATE;
    r = kernel(KASM("lcall *(%rbx)")), r.bx = (word)&far, OK("CALL through a gate at the same level", &r), CHECK_EQ("RSP", ev.r.sp, r.sp - 16), CHECK_EQ("SS stays", ev.r.ss, KDATA);
    r = kernel(KASM("ljmp *(%rbx)")), r.bx = (word)&far, OK("JMP through a gate", &r), CHECK_EQ("RSP", ev.r.sp, r.sp);
    r = user(ASM("lcall *(%rbx)")), r.bx = (word)&far, EXPECT("gate with DPL 0", &r, GP, GATE, 0);
    far.selector = GATE | 3;
#define SET_GATE(seg, at, attr) (gdt[GATE >> 3] = gate(seg, (u32)(at), attr, 0), gdt[(GATE >> 3) + 1] = (u64)(at) >> 32)
    SET_GATE(KCODE, target, A_DPL3 | 12), EXPECT("absent gate", &r, NP, GATE, 0);
    SET_GATE(KCODE32, target, A_PRESENT | A_DPL3 | 12), EXPECT("gate to 32-bit code", &r, GP, KCODE32, 0);
    SET_GATE(KDATA, target, A_PRESENT | A_DPL3 | 12), EXPECT("gate to data", &r, GP, KDATA, 0);
    SET_GATE(0, target, A_PRESENT | A_DPL3 | 12), EXPECT("gate to null", &r, GP, 0, 0);
    SET_GATE(KCODE, BAD, A_PRESENT | A_DPL3 | 12), EXPECT("gate to a non-canonical address", &r, GP, 0, 0);
    SET_GATE(KCODE, target, A_PRESENT | A_DPL3 | 12), gdt[(GATE >> 3) + 1] |= 1ull << 40, EXPECT("type bits in the upper half", &r, GP, GATE, 0);
    SET_GATE(KCODE, target, A_PRESENT | A_DPL3 | 12);
    *(u64 *)(tss + 4) = BAD, EXPECT("RSP0 non-canonical", &r, SS, 0, 0);
    *(u64 *)(tss + 4) = (word)(stack0 + sizeof stack0);
    gdt_set(CONFORM, segment(0, 0xfffff, A_PRESENT | A_CODE | A_RW | A_CONFORMING | A_G | A_L), 0);
    SET_GATE(CONFORM, (word)ASM("nop"), A_PRESENT | A_DPL3 | 12), OK("gate to conforming code", &r), CHECK_EQ("CS", ev.r.cs, CONFORM | 3), CHECK_EQ("RSP", ev.r.sp, r.sp - 16);
}

static u64 frame[6];
static void iret_frame(u64 ip, u64 cs, u64 flags, u64 sp, u64 ss) { u64 f[5] = {ip, cs, flags, sp, ss}; memcpy(frame, f, sizeof f); }
#define IRET(what, vector, error) (r = kernel(code), r.sp = (word)frame, EXPECT(what, &r, vector, error, (vector) == DONE ? ANYWHERE : 0))

static void iret(void)
{
    u64 uip = (word)ASM("mov %cs, %ecx"), uip32 = (word)ASM32("mov %cs, %ecx"), kip = (word)KASM("mov %cs, %ecx"), usp = (word)ustack_area + 1024;
    void *code = KASM("iretq");
    gdt_set(CODE1, segment(0, 0xfffff, A_PRESENT | A_CODE | A_RW | 0x20 | A_G | A_L), 0), gdt_set(DATA1, segment(0, 0xfffff, A_PRESENT | A_DATA | A_RW | 0x20 | A_G | A_DB), 0);
    iret_frame(uip, UCODE, FLAG_FIXED | FLAG_IF | FLAG_ID, usp, UDATA), IRET("to ring 3", DONE, NONE), CHECK_EQ("SS", ev.r.ss, UDATA), CHECK_EQ("RSP", ev.r.sp, usp), CHECK_EQ("flags", ev.r.flags, FLAG_FIXED | FLAG_IF | FLAG_ID);
    iret_frame(uip32, UCODE32, FLAG_FIXED, usp | 0xff00000000ull, UDATA), IRET("to compatibility mode", DONE, NONE), CHECK_EQ("CS", ev.r.cs, UCODE32), CHECK_EQ("RSP", ev.r.sp & 0xffffffff, (u32)usp);
    iret_frame(kip, KCODE, FLAG_FIXED, (word)stack0 + 100, KDATA), IRET("to ring 0 takes the stack too", DONE, NONE), CHECK_EQ("RSP", ev.r.sp, (word)stack0 + 100);
    iret_frame(kip, KCODE, FLAG_FIXED, (word)stack0 + 512, 0), IRET("to ring 0 with a null SS", DONE, NONE), CHECK_EQ("SS", ev.r.ss, 0);
    iret_frame(uip, CODE1 | 1, FLAG_FIXED, usp, 1), IRET("to ring 1 with a null SS of RPL 1", DONE, NONE), CHECK_EQ("SS", ev.r.ss, 1), CHECK_EQ("CS", ev.r.cs, CODE1 | 1);
    iret_frame(uip, CODE1 | 1, FLAG_FIXED, usp, 0), IRET("to ring 1 with a null SS of RPL 0", GP, 0);
    iret_frame(uip, UCODE, FLAG_FIXED, usp, 3), IRET("to ring 3 with a null SS", GP, 0);
    iret_frame(uip, UCODE, FLAG_FIXED, usp, 0), IRET("to ring 3 with a null SS", GP, 0);
    iret_frame(uip32, UCODE32, FLAG_FIXED, usp, 3), IRET("to compatibility mode with a null SS", GP, 0);
    iret_frame(uip, UCODE, FLAG_FIXED, usp, KDATA), IRET("to ring 3 with ring 0's SS", GP, KDATA);
    iret_frame(uip, UCODE, FLAG_FIXED, usp, GONE | 3), IRET("to ring 3 with an SS of nothing", GP, GONE);
    iret_frame(uip, UCODE, FLAG_FIXED, usp, UCODE), IRET("to ring 3 with an SS of code", GP, UCODE & ~3);
    iret_frame(BAD, UCODE, FLAG_FIXED, usp, UDATA), IRET("to a non-canonical address", GP, 0), CHECK_EQ("RSP", ev.r.sp, (word)frame);
    iret_frame(uip, UCODE, FLAG_FIXED, BAD, UDATA), IRET("to a non-canonical stack: not looked at yet", DONE, NONE), CHECK_EQ("RSP", ev.r.sp, BAD);
    iret_frame(uip, 0, FLAG_FIXED, usp, UDATA), IRET("to null", GP, 0);
    iret_frame(uip, CODE_BOTH, FLAG_FIXED, usp, UDATA), IRET("to code with L and D", GP, CODE_BOTH);
    iret_frame(uip, GONE, FLAG_FIXED, usp, UDATA), IRET("to nothing", GP, GONE);
    iret_frame(uip, UDATA, FLAG_FIXED, usp, UDATA), IRET("to data", GP, UDATA & ~3);
    r = kernel(code), r.sp = (word)frame, r.flags |= FLAG_NT, iret_frame(uip, UCODE, FLAG_FIXED, usp, UDATA), EXPECT("with NT", &r, GP, 0, 0);
    iret_frame(kip, KCODE, FLAG_FIXED | FLAG_VM, (word)stack0 + 512, 0), IRET("with VM in the image: it is not taken", DONE, NONE), CHECK_EQ("flags", ev.r.flags & FLAG_VM, 0);
    iret_frame(kip, KCODE, FLAG_FIXED | FLAG_NT, (word)stack0 + 512, 0), IRET("that sets NT", DONE, NONE), CHECK_EQ("NT", ev.r.flags & FLAG_NT, FLAG_NT);
    gdt_set(SEG, segment(0, 0xff, A_PRESENT | A_DPL3 | A_CODE | A_RW | A_DB), 0);
    iret_frame(0x100, SEG | 3, FLAG_FIXED, usp, UDATA), IRET("to 32-bit code beyond its limit", GP, 0);
    u32 f32[5] = {(u32)uip, UCODE, FLAG_FIXED | FLAG_CF, (u32)usp, UDATA};
    memcpy(frame, f32, sizeof f32), code = KASM("iretl"), IRET("of 32 bits", DONE, NONE), CHECK_EQ("CS", ev.r.cs, UCODE), CHECK_EQ("RSP", ev.r.sp, (u32)usp), CHECK_EQ("flags", ev.r.flags, FLAG_FIXED | FLAG_CF);
    u16 f16[5] = {0x8000, CODE16 | 3, FLAG_FIXED, 0x1234, UDATA};
    gdt_set(CODE16, segment((u32)uip32 - 0x8000, 0xffff, A_PRESENT | A_DPL3 | A_CODE | A_RW | A_DB), 0);
    memcpy(frame, f16, sizeof f16), code = KASM("iretw"), IRET("of 16 bits", DONE, NONE), CHECK_EQ("SP", ev.r.sp & 0xffff, 0x1234), CHECK_EQ("CS", ev.r.cs, CODE16 | 3);
    /* far RET */
    u64 ret[5] = {uip, UCODE, 0x99, usp, UDATA};
    code = KASM("rex.W lret $8");
    memcpy(frame, ret, sizeof ret), IRET("far RET to ring 3", DONE, NONE), CHECK_EQ("RSP", ev.r.sp, usp + 8), CHECK_EQ("SS", ev.r.ss, UDATA), CHECK_EQ("DS of ring 0 is null now", ev.r.ds, 0);
    frame[1] = CODE1 | 1, frame[4] = 1, IRET("far RET to ring 1 with a null SS", DONE, NONE);
    frame[1] = UCODE, frame[4] = 3, IRET("far RET to ring 3 with a null SS", GP, 0);
    frame[4] = UDATA, frame[0] = BAD, IRET("far RET to a non-canonical address", GP, 0), CHECK_EQ("RSP", ev.r.sp, (word)frame);
    frame[0] = uip32, frame[1] = UCODE32, IRET("far RET to compatibility mode", DONE, NONE), CHECK_EQ("CS", ev.r.cs, UCODE32);
    code = KASM("rex.W lret $8"), frame[0] = kip, frame[1] = KCODE, IRET("far RET to ring 0", DONE, NONE), CHECK_EQ("RSP", ev.r.sp, (word)frame + 24);
    r = user(ASM("rex.W lret")), r.sp -= 16, ((u64 *)r.sp)[0] = kip, ((u64 *)r.sp)[1] = KCODE, EXPECT("far RET to an inner level", &r, GP, KCODE, 0);
    r = user(ASM32("iret")), r.cs = UCODE32, r.sp -= 12, ((u32 *)r.sp)[0] = (u32)uip32, ((u32 *)r.sp)[1] = UCODE32, ((u32 *)r.sp)[2] = FLAG_FIXED | FLAG_CF;
    OK("IRET in compatibility mode at one level pops no stack", &r), CHECK_EQ("ESP", ev.r.sp, r.sp + 12), CHECK_EQ("flags", ev.r.flags, FLAG_FIXED | FLAG_CF);
    r = kernel(KASM("mov %eax, %ss")), r.ax = 0, OK("null SS at CPL 0", &r), CHECK_EQ("SS", ev.r.ss, 0);
    r.ax = 3, EXPECT("null SS of RPL 3 at CPL 0", &r, GP, 0, 0);
    r = user(ASM("mov %eax, %ss")), r.ax = 3, EXPECT("null SS at CPL 3", &r, GP, 0, 0);
}

/* To 32-bit protected mode without paging, and back, in one piece of code at CPL 0. */
static void leave_long_mode(void)
{
    r = kernel(KASM(
        "mov $0x18, %eax; push %rax; lea 1f(%rip), %rax; push %rax; rex.W lret\n.code32\n"
        "1: mov $0x10, %eax; mov %eax, %ds; mov %eax, %es; mov %eax, %ss\n"
        "mov %cr0, %eax; and $0x7fffffff, %eax; mov %eax, %cr0\n"          /* LMA clears */
        "mov $0xc0000080, %ecx; rdmsr; mov %eax, %ebx; and $~0x100, %eax; wrmsr\n" /* LME too */
        "mov %cr4, %edi; and $~0x20, %edi; mov %edi, %cr4\n"
        "mov $0x12345678, %ebp; inc %ebp\n"
        "or $0x20, %edi; mov %edi, %cr4\n"
        "rdmsr; or $0x100, %eax; wrmsr\n"
        "mov %cr0, %eax; or $0x80000000, %eax; mov %eax, %cr0\n"
        "rdmsr; mov %eax, %esi\n"
        "ljmp $0x08, $2f\n.code64\n2: mov $-1, %rdx"));
    OK("out of long mode and back", &r);
    CHECK_EQ("EFER.LMA was clear without paging", ev.r.bx >> 10 & 1, 0), CHECK_EQ("32-bit code ran", ev.r.bp, 0x12345679), CHECK_EQ("EFER.LMA is back", ev.r.si >> 10 & 1, 1), CHECK_EQ("64-bit code ran", ev.r.dx, ~0ull), CHECK_EQ("CS", ev.r.cs, KCODE);
    r = kernel(KASM(
        "mov $0x18, %eax; push %rax; lea 1f(%rip), %rax; push %rax; rex.W lret\n.code32\n"
        "1: mov %cr0, %eax; and $0x7fffffff, %eax; mov %eax, %cr0; mov %cr4, %edi; and $~0x20, %edi; mov %edi, %cr4\n"
        "or $0x80000000, %eax; lidt (%edx); mov %eax, %cr0; nop\n.code64"));
    /* LME without PAE: #GP, in protected mode: taken by a 32-bit IDT */
    static u64 idt32[14] = {0};
    static struct { u16 limit; u32 base; } __attribute__((packed)) small;
    small.limit = sizeof idt32 - 1, small.base = (u32)(word)idt32;
    word handler = (word)KASM("nop\n.code32\npop %ebx; or $0x20, %edi; mov %edi, %cr4; lidt (%ebp); mov %eax, %cr0; ljmp $0x08, $2f\n.code64\n2: nop");
    idt32[GP] = gate(KCODE32, (u32)handler + 1, A_PRESENT | 14, 0);
    r.dx = (word)&small, r.bp = (word)&idt_table, r.bx = 77;
    OK("PG with LME but without PAE is #GP", &r), CHECK_EQ("its error code", ev.r.bx, 0);
}

void guest_main(void)
{
    direct();
    call_gates();
    iret();
    leave_long_mode();
}
