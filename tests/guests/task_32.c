/* Hardware task switches: JMP, CALL, IRET, task gates, exceptions; what is saved and loaded, busy bits, links, NT, TS,
 * the T bit, LDT and CR3, 16-bit TSSs, and errors in the old and in the new task (SDM 3A chapter 7). */
#include "lib/guest.h"

struct __attribute__((packed)) tss32 { u32 link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi, es, cs, ss, ds, fs, gs, ldt; u16 trap, io; };
struct __attribute__((packed)) tss16 { u16 link, sp0, ss0, sp1, ss1, sp2, ss2, ip, flags, ax, cx, dx, bx, sp, bp, si, di, es, cs, ss, ds, ldt; };
static struct tss32 one __attribute__((aligned(128)));
static struct tss16 small __attribute__((aligned(64)));
static u8 task_stack[1024] __attribute__((aligned(16)));
static struct regs r;
enum { ONE = FREE, SMALL = FREE + 8, TASK_GATE = FREE + 16, LDT = FREE + 24, SEG = FREE + 32, GONE = FREE + 40 };
static struct { u32 offset; u16 selector; } __attribute__((packed)) far = {0, ONE};
#define MAIN ((struct tss32 *)tss)
#define BUSY(selector) (gdt[(selector) >> 3] >> 41 & 1)

static void asm_ltr(u16 selector) { asm volatile("ltr %0" :: "r"(selector)); }

static void reload(void)
{
    gdt_set(TSS_SEL, segment((u32)tss, 0x2088, A_PRESENT | 9), 0);
    asm volatile("ltr %0; clts" :: "r"((u16)TSS_SEL));
    asm volatile("lldt %0" :: "r"((u16)0));
}

static void fresh(const void *code, u32 flags)
{
    gdt_set(ONE, segment((u32)&one, 0x67, A_PRESENT | 9), 0);
    one = (struct tss32){.eip = (u32)code, .eflags = FLAG_FIXED | flags, .eax = 0x11, .ecx = 0x22, .edx = 0x33, .ebx = 0x44, .esp = (u32)(task_stack + 512), .ebp = 0x66,
        .esi = 0x77, .edi = 0x88, .es = KDATA, .cs = KCODE, .ss = KDATA, .ds = KDATA, .fs = UDATA, .gs = 0, .io = 0x68, .esp0 = *(u32 *)(tss + 4), .ss0 = KDATA};
    far.selector = ONE;
}

static void loaded(void)
{
    CHECK_EQ("EAX", ev.r.ax, 0x11), CHECK_EQ("ECX", ev.r.cx, 0x22), CHECK_EQ("EDX", ev.r.dx, 0x33), CHECK_EQ("EBX", ev.r.bx, 0x44);
    CHECK_EQ("ESP", ev.r.sp, (u32)(task_stack + 512)), CHECK_EQ("EBP", ev.r.bp, 0x66), CHECK_EQ("ESI", ev.r.si, 0x77), CHECK_EQ("EDI", ev.r.di, 0x88);
    CHECK_EQ("FS", ev.r.fs, UDATA), CHECK_EQ("GS", ev.r.gs, 0), CHECK_EQ("CR0.TS", get_cr0() & CR0_TS, CR0_TS);
}

static void saved(u32 eip)
{
    CHECK_EQ("old EIP", MAIN->eip, eip), CHECK_EQ("old EAX", MAIN->eax, r.ax), CHECK_EQ("old ECX", MAIN->ecx, r.cx), CHECK_EQ("old EBX", MAIN->ebx, r.bx);
    CHECK_EQ("old ESP", MAIN->esp, r.sp), CHECK_EQ("old EDI", MAIN->edi, r.di), CHECK_EQ("old CS", MAIN->cs & 0xffff, r.cs), CHECK_EQ("old SS", MAIN->ss & 0xffff, r.ss);
    CHECK_EQ("old DS", MAIN->ds & 0xffff, r.ds), CHECK_EQ("old GS", MAIN->gs & 0xffff, r.gs);
}

static void switches(void)
{
    void *code = KASM("nop");
    fresh(code, FLAG_CF);
    r = kernel(KASM("ljmp *(%ebx)")), r.bx = (u32)&far, r.ax = 0xaaaa, r.cx = 0xcccc, r.di = 0xdddd, r.flags |= FLAG_ZF | FLAG_DF;
    OK("JMP to a TSS", &r), loaded(), saved(r.ip + 2);
    CHECK_EQ("EFLAGS", ev.r.flags, FLAG_FIXED | FLAG_CF), CHECK_EQ("old EFLAGS", MAIN->eflags, r.flags);
    CHECK_EQ("the old one is free", BUSY(TSS_SEL), 0), CHECK_EQ("the new one is busy", BUSY(ONE), 1), CHECK_EQ("no link", one.link, 0);
    u16 tr;
    asm("str %0" : "=r"(tr));
    CHECK_EQ("TR", tr, ONE);
    reload();
    fresh(code, 0);
    r = kernel(KASM("lcall *(%ebx)")), r.bx = (u32)&far;
    OK("CALL of a TSS", &r), loaded(), saved(r.ip + 2);
    CHECK_EQ("NT", ev.r.flags, FLAG_FIXED | FLAG_NT), CHECK_EQ("the old one stays busy", BUSY(TSS_SEL), 1), CHECK_EQ("the new one is busy", BUSY(ONE), 1), CHECK_EQ("link", one.link & 0xffff, TSS_SEL);
    reload();
    /* CALL and IRET */
    fresh(KASM("mov $0x99, %eax; iret; mov $0x98, %eax"), 0);
    u32 after_iret = one.eip + 6;
    r = kernel(KASM("mov $0x12, %edx; lcall *(%ebx); mov %edx, %ecx")), r.bx = (u32)&far;
    OK("CALL and IRET", &r);
    CHECK_EQ("registers came back", ev.r.cx, 0x12), CHECK_EQ("and did not leak", ev.r.ax, 0), CHECK_EQ("saved in the other", one.eax, 0x99), CHECK_EQ("its EIP", one.eip, after_iret);
    CHECK_EQ("it is free", BUSY(ONE), 0), CHECK_EQ("its NT is clear", one.eflags & FLAG_NT, 0), CHECK_EQ("we are busy", BUSY(TSS_SEL), 1);
    reload();
    /* a task gate */
    fresh(code, 0), gdt_set(TASK_GATE, gate(ONE, 0, A_PRESENT | A_DPL3 | 5, 0), 0), far.selector = TASK_GATE | 3;
    r = user(ASM("lcall *(%ebx)")), r.bx = (u32)&far;
    OK("CALL of a task gate from ring 3", &r), loaded(), saved(r.ip + 2), CHECK_EQ("CPL", ev.r.cs, KCODE);
    reload();
    /* to ring 3 with an LDT */
    static u64 ldt[4];
    ldt[1] = segment(0, 0xfffff, A_PRESENT | A_DPL3 | A_DATA | A_RW | A_G | A_DB);
    gdt_set(LDT, segment((u32)ldt, sizeof ldt - 1, A_PRESENT | 2), 0);
    fresh(ASM("mov %ds, %eax"), FLAG_IF | FLAG_IOPL), one.cs = UCODE, one.ss = UDATA, one.ds = 8 | 7, one.es = one.fs = UDATA, one.ldt = LDT, one.esp = (u32)(ustack_area + 512);
    r = kernel(KASM("ljmp *(%ebx)")), r.bx = (u32)&far;
    OK("JMP to a task of ring 3 with an LDT", &r), CHECK_EQ("CS", ev.r.cs, UCODE), CHECK_EQ("DS", ev.r.ax, 8 | 7), CHECK_EQ("EFLAGS", ev.r.flags, FLAG_FIXED | FLAG_IF | FLAG_IOPL);
    reload();
    /* exceptions by task */
    fresh(KASM("mov (%esp), %eax"), 0);
    idt_set(GP, ONE, 0, A_PRESENT | 5, 0);
    r = user(ASM("hlt; nop")), r.ax = 0x1234;
    OK("#GP by a task gate", &r), CHECK_EQ("the error code is pushed", ev.r.ax, 0), CHECK_EQ("ESP", ev.r.sp, (u32)(task_stack + 508)), saved(r.ip);
    CHECK_EQ("RF is in the saved flags", MAIN->eflags & FLAG_RF, FLAG_RF), CHECK_EQ("NT", ev.r.flags & FLAG_NT, FLAG_NT), CHECK_EQ("link", one.link & 0xffff, TSS_SEL);
    reload();
    idt_default(GP);
    fresh(KASM("nop"), 0);
    idt_set(0x40, ONE, 0, A_PRESENT | A_DPL3 | 5, 0);
    r = user(ASM("int $0x40; nop")), OK("INT by a task gate", &r), loaded(), saved(r.ip + 2), reload();
    idt_set(0x40, ONE, 0, A_PRESENT | 5, 0);
    EXPECT("INT by a task gate with DPL 0", &r, GP, 0x40 * 8 + 2, 0);
    fresh(KASM("mov $5, %eax; iret"), 0);
    idt_set(0x40, ONE, 0, A_PRESENT | A_DPL3 | 5, 0);
    r = user(ASM("mov $7, %eax; int $0x40; inc %eax")), OK("INT by a task gate and IRET", &r), CHECK_EQ("EAX", ev.r.ax, 8), CHECK_EQ("CS", ev.r.cs, UCODE), CHECK_EQ("CPL's stack", ev.r.sp, r.sp), reload();
    idt_default(0x40);
    /* T: #DB at once */
    fresh(KASM("nop"), 0), one.trap = 1;
    r = kernel(KASM("ljmp *(%ebx)")), r.bx = (u32)&far;
    set_dr6(0xffff0ff0);
    EXPECT("the T bit", &r, DB, NONE, ANYWHERE), CHECK_EQ("DR6.BT", get_dr6(), 0xffff8ff0), CHECK_EQ("EIP", ev.r.ip, one.eip), reload(), set_dr6(0xffff0ff0);
    fresh(KASM("nop"), 0);
    set_dr0(0x1000), set_dr7(0x403 | 3 << 16);
    OK("local breakpoints", &r), CHECK_EQ("are off in the new task", get_dr7() & 3, 2), set_dr7(0x400), reload();
}

static void sixteen(void)
{
    gdt_set(SMALL, segment((u32)&small, 0x2b, A_PRESENT | 1), 0);
    small = (struct tss16){.ip = 0, .flags = FLAG_FIXED | FLAG_CF, .ax = 1, .cx = 2, .dx = 3, .bx = 4, .sp = 512, .bp = 6, .si = 7, .di = 8, .es = KDATA, .cs = SEG, .ss = SEG + 16, .ds = KDATA};
    gdt_set(SEG, segment((u32)KASM("nop"), 0xffff, A_PRESENT | A_CODE | A_RW | A_DB), 0);
    gdt_set(SEG + 16, segment((u32)task_stack, 1023, A_PRESENT | A_DATA | A_RW), 0);
    far.selector = SMALL;
    r = kernel(KASM("ljmp *(%ebx)")), r.bx = (u32)&far, r.ax = 0x12345678;
    OK("JMP to a 16-bit TSS", &r), CHECK_EQ("AX", ev.r.ax & 0xffff, 1), CHECK_EQ("DI", ev.r.di & 0xffff, 8), CHECK_EQ("FLAGS", ev.r.flags & 0xffff, FLAG_FIXED | FLAG_CF);
    CHECK_EQ("FS is null", ev.r.fs, 0), CHECK_EQ("GS is null", ev.r.gs, 0), CHECK_EQ("SS", ev.r.ss, SEG + 16), CHECK_EQ("busy", BUSY(SMALL), 1), saved(r.ip + 2);
    /* and back into 32 bits from there */
    fresh(KASM("nop"), 0);
    gdt_set(SMALL, segment((u32)&small, 0x2b, A_PRESENT | 1), 0);
    asm volatile("ltr %0" :: "r"((u16)SMALL));
    r = kernel(KASM("ljmp *(%ebx)")), r.bx = (u32)&far, r.ax = 0x12345678, r.sp = (u32)stack_area + 1024;
    OK("JMP from a 16-bit TSS", &r), loaded(), CHECK_EQ("AX is saved", small.ax, 0x5678), CHECK_EQ("SP", small.sp, (u16)r.sp), CHECK_EQ("IP", small.ip, (u16)(r.ip + 2)), CHECK_EQ("free", BUSY(SMALL), 0);
    reload();
}

/* A 16-bit TSS gives the stacks of inner levels in 16 bits. */
static void small_stacks(void)
{
    gdt_set(SEG, segment((u32)task_stack, 1023, A_PRESENT | A_DATA | A_RW), 0);
    gdt_set(SMALL, segment((u32)&small, 0x2b, A_PRESENT | 1), 0);
    small = (struct tss16){.sp0 = 0x200, .ss0 = SEG};
    asm volatile("ltr %0" :: "r"((u16)SMALL));
    idt_set(0x40, KCODE, (u32)KASM("mov %ss, %eax; movzwl %sp, %edx; mov %ss:(%edx), %ecx; nop"), A_PRESENT | A_DPL3 | 14, 0);
    r = user(ASM("int $0x40")), OK("INT from ring 3 with a 16-bit TSS", &r);
    CHECK_EQ("SS", ev.r.ax, SEG), CHECK_EQ("SP", ev.r.dx & 0xffff, 0x200 - 20), CHECK_EQ("EIP in the frame", ev.r.cx, r.ip + 2);
    gdt_set(SMALL, segment((u32)&small, 4, A_PRESENT | 1), 0), asm_ltr(SMALL);
    idt_set(0x40, KCODE, (u32)KASM("nop"), A_PRESENT | A_DPL3 | 14, 0);
    EXPECT("a 16-bit TSS too short for SS0, for INT and for its #TS", &r, DF, 0, ANYWHERE);
    r = user(ASM("outb %al, $0x80")), gdt_set(SMALL, segment((u32)&small, 0xff, A_PRESENT | 1), 0), asm_ltr(SMALL);
    EXPECT("a 16-bit TSS has no I/O permissions", &r, GP, 0, 0);
    idt_default(0x40);
    reload();
}

/* Tasks in virtual-8086 mode: switched to, left by a task gate, returned to. */
static void vm86(void)
{
    static const u8 code[] = {0x8c, 0xd8, 0xcd, 0x40, 0x8c, 0xc3, 0xcd, 0xf0}; /* MOV AX, DS; INT 40h; MOV BX, ES; INT F0h */
    memcpy((void *)0x20000, code, sizeof code);
    fresh(0, FLAG_VM | FLAG_IOPL), one.cs = 0x2000, one.ss = 0x3000, one.esp = 0x8000, one.ds = 0x1111, one.es = 0x2222, one.fs = 0x3333, one.gs = 0x4444;
    idt_set(0x40, KCODE, (u32)KASM("nop"), A_PRESENT | A_DPL3 | 14, 0);
    r = kernel(KASM("ljmp *(%ebx)")), r.bx = (u32)&far;
    OK("JMP to a virtual-8086 task, and INT out of it", &r), CHECK_EQ("AX is DS", ev.r.ax & 0xffff, 0x1111), CHECK_EQ("the handler's CS", ev.r.cs, KCODE), CHECK_EQ("its DS is null", ev.r.ds, 0);
    u32 *frame = (u32 *)ev.r.sp;
    CHECK_EQ("frame: IP", frame[0], 4), CHECK_EQ("frame: CS", frame[1] & 0xffff, 0x2000), CHECK_EQ("frame: VM", frame[2] & FLAG_VM, FLAG_VM), CHECK_EQ("frame: ES", frame[5] & 0xffff, 0x2222), CHECK_EQ("frame: GS", frame[8] & 0xffff, 0x4444);
    reload();
    /* INT by a task gate from virtual-8086 mode, and IRET back into it */
    fresh(KASM("mov $7, %eax; iret"), 0);
    idt_set(0x40, ONE, 0, A_PRESENT | A_DPL3 | 5, 0);
    r = (struct regs){.ip = 0, .cs = 0x2000, .ss = 0x3000, .sp = 0x8000, .ds = 0x1111, .es = 0x2222, .fs = 0x3333, .gs = 0x4444, .flags = FLAG_FIXED | FLAG_VM | FLAG_IOPL};
    OK("INT by a task gate and IRET", &r);
    CHECK_EQ("AX is DS", ev.r.ax & 0xffff, 0x1111), CHECK_EQ("BX is ES", ev.r.bx & 0xffff, 0x2222), CHECK_EQ("VM", ev.r.flags & FLAG_VM, FLAG_VM), CHECK_EQ("CS", ev.r.cs, 0x2000), CHECK_EQ("IP", ev.r.ip, 8), CHECK_EQ("GS", ev.r.gs, 0x4444);
    CHECK_EQ("the other task was run", one.eax, 7), reload(), idt_default(0x40);
}

static void errors(void)
{
    /* in the old task: nothing has happened yet */
    r = kernel(KASM("ljmp *(%ebx)")), r.bx = (u32)&far;
    fresh(KASM("nop"), 0);
    gdt[ONE >> 3] |= 2ull << 40, EXPECT("JMP to a busy TSS", &r, GP, ONE, 0);
    gdt_set(ONE, segment((u32)&one, 0x67, 9), 0), EXPECT("JMP to an absent TSS", &r, NP, ONE, 0);
    gdt_set(ONE, segment((u32)&one, 0x66, A_PRESENT | 9), 0), EXPECT("JMP to a TSS that is too small", &r, TS, ONE, 0);
    gdt_set(ONE, segment((u32)&one, 0x67, A_PRESENT | 9), 0);
    far.selector = ONE | 1, EXPECT("JMP: RPL above the TSS's DPL", &r, GP, ONE, 0);
    far.selector = ONE;
    r = user(ASM("ljmp *(%ebx)")), r.bx = (u32)&far, EXPECT("JMP from ring 3: CPL above DPL", &r, GP, ONE, 0);
    gdt_set(TASK_GATE, gate(KDATA, 0, A_PRESENT | A_DPL3 | 5, 0), 0), far.selector = TASK_GATE;
    EXPECT("task gate to data", &r, GP, KDATA, 0);
    gdt_set(TASK_GATE, gate(4, 0, A_PRESENT | A_DPL3 | 5, 0), 0), EXPECT("task gate to the LDT", &r, GP, 4, 0);
    gdt_set(TASK_GATE, gate(ONE, 0, A_DPL3 | 5, 0), 0), EXPECT("absent task gate", &r, NP, TASK_GATE, 0);
    gdt[ONE >> 3] |= 2ull << 40;
    gdt_set(TASK_GATE, gate(ONE, 0, A_PRESENT | A_DPL3 | 5, 0), 0), EXPECT("task gate to a busy TSS", &r, GP, ONE, 0);
    r = user(ASM("ud2"));
    gdt_set(ONE, segment((u32)&one, 0x66, A_PRESENT | 9), 0), idt_set(UD, ONE, 0, A_PRESENT | 5, 0), EXPECT("#UD to a TSS that is too small: EXT", &r, TS, ONE + 1, 0);
    gdt_set(ONE, segment((u32)&one, 0x67, 9), 0), EXPECT("#UD to an absent TSS: EXT", &r, NP, ONE + 1, 0);
    idt_default(UD);
    r = kernel(KASM("iret")), r.flags |= FLAG_NT;
    MAIN->link = ONE, gdt_set(ONE, segment((u32)&one, 0x67, A_PRESENT | 9), 0);
    EXPECT("IRET with NT to a TSS that is not busy", &r, TS, ONE, 0);
    MAIN->link = KDATA, EXPECT("IRET with NT to data", &r, TS, KDATA, 0);
    MAIN->link = 4, EXPECT("IRET with NT to the LDT", &r, TS, 4, 0);
    MAIN->link = 0;
    r = user(ASM("iret")), r.flags |= FLAG_NT, MAIN->link = ONE, EXPECT("IRET with NT in ring 3", &r, TS, ONE, 0);
    MAIN->link = 0;
    /* in the new task: the switch is done, the fault is its own */
    r = kernel(KASM("ljmp *(%ebx)")), r.bx = (u32)&far;
#define NEW(what, change, vector, error) do { fresh(code, 0); change; idt_set(vector, TSS_DF, 0, A_PRESENT | 5, 0), task_vector = vector; \
        EXPECT(what, &r, vector, error, ANYWHERE); CHECK_EQ("the fault is the new task's", ev.r.ip, (u32)code); CHECK_EQ("its EAX", one.eax, 0x11); \
        CHECK_EQ("its link", *(u16 *)tss_df, ONE); idt_default(vector), task_vector = DF; reload(); } while (0)
    void *code = KASM("nop");
    NEW("new task: CS null", one.cs = 0, TS, 0);
    NEW("new task: CS of nothing", one.cs = GONE, TS, GONE);
    NEW("new task: CS of data", one.cs = KDATA, TS, KDATA);
    NEW("new task: SS null", one.ss = 0, TS, 0);
    NEW("new task: SS of nothing", one.ss = GONE, TS, GONE);
    NEW("new task: SS with another DPL", one.ss = UDATA, TS, UDATA & ~3);
    NEW("new task: DS of nothing", one.ds = GONE, TS, GONE);
    NEW("new task: GS of code", (gdt_set(SEG, segment(0, 0xfffff, A_PRESENT | A_CODE | A_G | A_DB), 0), one.gs = SEG), TS, SEG);
    NEW("new task: LDT of data", one.ldt = KDATA, TS, KDATA);
    NEW("new task: LDT of nothing", one.ldt = GONE, TS, GONE);
    NEW("new task: LDT in the LDT", one.ldt = 4, TS, 4);
    gdt_set(SEG, segment(0, 0xfffff, A_DATA | A_RW | A_G | A_DB), 0);
    NEW("new task: DS not present", one.ds = SEG, NP, SEG);
    NEW("new task: SS not present", one.ss = SEG, SS, SEG);
    gdt_set(SEG, segment(0, 0xfffff, A_CODE | A_RW | A_G | A_DB), 0);
    NEW("new task: CS not present", one.cs = SEG, NP, SEG);
    gdt_set(SEG, segment(0, 0xff, A_PRESENT | A_CODE | A_RW | A_DB), 0);
    NEW("new task: EIP beyond the limit", one.cs = SEG, GP, 0);
    fresh(code, 0), one.ss = GONE;
    EXPECT("#TS for SS has no stack: #DF", &r, DF, 0, ANYWHERE), CHECK_EQ("the new task's", ev.r.ip, (u32)code), reload();
}

void guest_main(void)
{
    switches();
    sixteen();
    small_stacks();
    vm86();
    errors();
}
