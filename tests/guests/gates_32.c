/* Far transfers in protected mode: JMP, CALL, RET and IRET between rings; call, interrupt and trap gates of 16 and 32
 * bits, with their stacks and parameters; conforming code; every error code on the way (SDM 3A chapters 5 and 6). */
#include "lib/guest.h"

static struct regs r;
enum { GATE = FREE, CODE1 = FREE + 8, CODE2 = FREE + 16, DATA1 = FREE + 24, SEG = FREE + 32, CODE16 = FREE + 40, STACK16 = FREE + 48, CONFORM = FREE + 56,
       STACK_SMALL = FREE + 64, CODE_DPL1 = FREE + 72, GONE = FREE + 80 };
enum { GATE16 = 4, GATE32 = 12, INT16 = 6, TRAP16 = 7, INT32 = 14, TRAP32 = 15 };
static u8 ring1_stack[1024] __attribute__((aligned(16))), ring0_stack[1024] __attribute__((aligned(16)));
static struct { u32 offset; u16 selector; } __attribute__((packed)) far;
static struct { u16 offset; u16 selector; } __attribute__((packed)) far16;
#define TOP(stack) ((u32)(stack) + sizeof(stack))

static void set_stack(unsigned level, u32 esp, u32 ss) { *(u32 *)(tss + 4 + 8 * level) = esp, *(u32 *)(tss + 8 + 8 * level) = ss; }

static void set_tss_limit(u32 limit)
{
    gdt_set(TSS_SEL, segment((u32)tss, limit, A_PRESENT | 9), 0);
    asm volatile("ltr %0" :: "r"((u16)TSS_SEL));
}

static void setup(void)
{
    gdt_set(CODE1, segment(0, 0xfffff, A_PRESENT | A_CODE | A_RW | 0x20 | A_G | A_DB), 0);
    gdt_set(DATA1, segment(0, 0xfffff, A_PRESENT | A_DATA | A_RW | 0x20 | A_G | A_DB), 0);
    gdt_set(CODE2, segment(0, 0xfffff, A_PRESENT | A_CODE | A_RW | 0x40 | A_G | A_DB), 0);
    gdt_set(CONFORM, segment(0, 0xfffff, A_PRESENT | A_CODE | A_RW | A_CONFORMING | A_G | A_DB), 0);
    set_stack(1, TOP(ring1_stack), DATA1 | 1);
}

static void direct(void)
{
    far.offset = (u32)ASM("mov %cs, %ecx");
    for (unsigned dpl = 0; dpl < 4; dpl++)
        for (unsigned rpl = 0; rpl < 4; rpl++)
            for (unsigned as_user = 0; as_user < 2; as_user++)
                for (unsigned conforming = 0; conforming < 2; conforming++) {
                    unsigned cpl = as_user ? 3 : 0;
                    gdt_set(SEG, segment(0, 0xfffff, A_PRESENT | A_CODE | A_RW | dpl << 5 | (conforming ? A_CONFORMING : 0) | A_G | A_DB), 0);
                    far.selector = SEG | rpl;
                    bool ok = conforming ? dpl <= cpl : dpl == cpl && rpl <= cpl;
                    r = as_user ? user(ASM("ljmp *(%ebx)")) : kernel(KASM("ljmp *(%ebx)")), r.bx = (u32)&far;
                    EXPECT("far JMP", &r, ok ? DONE : GP, ok ? NONE : SEG, ok ? ANYWHERE : 0);
                    if (ok)
                        CHECK_EQ("CS has CPL as RPL", ev.r.cs, SEG | cpl);
                    r = as_user ? user(ASM("lcall *(%ebx)")) : kernel(KASM("lcall *(%ebx)")), r.bx = (u32)&far;
                    EXPECT("far CALL", &r, ok ? DONE : GP, ok ? NONE : SEG, ok ? ANYWHERE : 0);
                    CHECK_EQ("ESP", ev.r.sp, r.sp - (ok ? 8 : 0));
                    if (ok)
                        CHECK_EQ("return address", ((u32 *)ev.r.sp)[0], r.ip + 2), CHECK_EQ("return CS", ((u32 *)ev.r.sp)[1] & 0xffff, r.cs);
                }
    r = kernel(KASM("ljmp *(%ebx)")), r.bx = (u32)&far;
    far.selector = 0, EXPECT("far JMP to null", &r, GP, 0, 0);
    far.selector = KDATA, EXPECT("far JMP to data", &r, GP, KDATA, 0);
    far.selector = sizeof gdt, EXPECT("far JMP beyond the GDT", &r, GP, sizeof gdt, 0);
    gdt_set(SEG, segment(0, 0xfffff, A_CODE | A_RW | A_G | A_DB), 0);
    far.selector = SEG, EXPECT("far JMP, not present", &r, NP, SEG, 0);
    gdt_set(SEG, segment(0, 0xff, A_PRESENT | A_CODE | A_RW | A_DB), 0);
    EXPECT("far JMP beyond the limit", &r, GP, 0, 0);
    r = kernel(KASM("lcall *(%ebx)")), r.bx = (u32)&far, EXPECT("far CALL beyond the limit", &r, GP, 0, 0), CHECK_EQ("ESP", ev.r.sp, r.sp);
    far.selector = KCODE, far.offset = (u32)ASM("lret");
    r = kernel(KASM("lcall *(%ebx); mov %esp, %ecx")), r.bx = (u32)&far, OK("far CALL and RET", &r), CHECK_EQ("ESP", ev.r.cx, r.sp);
    far.offset = (u32)ASM("lret $8");
    OK("far RET n", &r), CHECK_EQ("ESP", ev.r.cx, r.sp + 8);
    gdt_set(CODE16, segment((u32)ASM("nop"), 0xffff, A_PRESENT | A_CODE | A_RW), 0);
    far16.selector = CODE16, far16.offset = 0;
    r = kernel(KASM("data16 lcall *(%ebx)")), r.bx = (u32)&far16;
    OK("a 16-bit far CALL", &r), CHECK_EQ("ESP", ev.r.sp, r.sp - 4);
    CHECK_EQ("return IP", ((u16 *)ev.r.sp)[0], (u16)(r.ip + 3)), CHECK_EQ("return CS", ((u16 *)ev.r.sp)[1], KCODE);
}

static void call_gates(void)
{
    void *target = ASM("mov %cs, %ecx; mov %ss, %edx");
    far.selector = GATE | 3;
    for (unsigned kind = GATE32; kind; kind = kind == GATE32 ? GATE16 : 0)
        for (unsigned params = 0; params < 32; params += kind == GATE32 ? 31 : 5) {
            unsigned size = kind == GATE32 ? 4 : 2;
            u32 seg = kind == GATE32 ? KCODE : CODE16, offset = kind == GATE32 ? (u32)target : 0;
            gdt_set(CODE16, segment((u32)target, 0xffff, A_PRESENT | A_CODE | A_RW | A_DB), 0);
            gdt_set(GATE, gate(seg, offset, A_PRESENT | A_DPL3 | kind, params), 0);
            r = user(ASM("lcall *(%ebx)")), r.bx = (u32)&far, r.sp -= 256;
            for (unsigned i = 0; i < 64; i++)
                ((u32 *)r.sp)[i] = 0x10000 * (2 * i + 1) + 2 * i;
            set_stack(0, TOP(ring0_stack), KDATA);
            OK("CALL through a gate", &r);
            CHECK_EQ("CS", ev.r.cs, seg), CHECK_EQ("SS", ev.r.ss, KDATA);
            CHECK_EQ("ESP", ev.r.sp, TOP(ring0_stack) - (4 + params) * size);
            for (unsigned i = 0; i < 4 + params; i++) {
                u32 got = size == 4 ? ((u32 *)ev.r.sp)[i] : ((u16 *)ev.r.sp)[i], want;
                want = i == 0 ? r.ip + 2 : i == 1 ? UCODE : i == 2 + params ? r.sp : i == 3 + params ? UDATA : size == 4 ? ((u32 *)r.sp)[i - 2] : ((u16 *)r.sp)[i - 2];
                bool is_selector = i == 1 || i == 3 + params; /* its high half is open */
                CHECK_EQ("the new stack", is_selector ? got & 0xffff : got, size == 4 ? want : want & 0xffff);
            }
            CHECK_EQ("accessed", gdt[seg >> 3] >> 40 & 1, 1);
        }
    /* the way back, which drops the parameters on both stacks */
    gdt_set(GATE, gate(KCODE, (u32)ASM("mov %ss, %edx; mov %edx, %es; mov %edx, %fs; lret $12"), A_PRESENT | A_DPL3 | GATE32, 3), 0);
    r = user(ASM("push %eax; push %eax; push %eax; lcall *(%ebx); mov %esp, %ecx")), r.bx = (u32)&far;
    OK("CALL and RET through a gate", &r), CHECK_EQ("ESP", ev.r.cx, r.sp), CHECK_EQ("CS", ev.r.cs, UCODE);
    CHECK_EQ("DS, a user's, stays", ev.r.ds, UDATA), CHECK_EQ("ES, a supervisor's, is null", ev.r.es, 0), CHECK_EQ("FS", ev.r.fs, 0);
    /* the same level, conforming, and JMP */
    gdt_set(GATE, gate(KCODE, (u32)target, A_PRESENT | GATE32, 5), 0), far.selector = GATE;
    r = kernel(KASM("lcall *(%ebx)")), r.bx = (u32)&far, OK("CALL through a gate at the same level", &r);
    CHECK_EQ("ESP: no parameters", ev.r.sp, r.sp - 8);
    r = kernel(KASM("ljmp *(%ebx)")), r.bx = (u32)&far, OK("JMP through a gate", &r), CHECK_EQ("ESP", ev.r.sp, r.sp);
    gdt_set(GATE, gate(CONFORM, (u32)target, A_PRESENT | A_DPL3 | GATE32, 5), 0), far.selector = GATE | 3;
    r = user(ASM("lcall *(%ebx)")), r.bx = (u32)&far, OK("CALL of conforming code through a gate", &r);
    CHECK_EQ("CPL stays", ev.r.cs, CONFORM | 3), CHECK_EQ("ESP", ev.r.sp, r.sp - 8);
    r = user(ASM("ljmp *(%ebx)")), r.bx = (u32)&far, OK("JMP to conforming code through a gate", &r), CHECK_EQ("CS", ev.r.cs, CONFORM | 3);
    gdt_set(GATE, gate(KCODE, (u32)target, A_PRESENT | A_DPL3 | GATE32, 0), 0);
    EXPECT("JMP through a gate to an inner level", &r, GP, KCODE, 0);
    /* ring 1 */
    gdt_set(GATE, gate(CODE1, (u32)target, A_PRESENT | A_DPL3 | GATE32, 0), 0);
    r = user(ASM("lcall *(%ebx)")), r.bx = (u32)&far, OK("CALL to ring 1", &r);
    CHECK_EQ("CS", ev.r.cs, CODE1 | 1), CHECK_EQ("SS", ev.r.ss, DATA1 | 1), CHECK_EQ("ESP", ev.r.sp, TOP(ring1_stack) - 16);
}

static void call_gate_errors(void)
{
    far.selector = GATE | 3;
    r = user(ASM("lcall *(%ebx)")), r.bx = (u32)&far;
    gdt_set(GATE, gate(KCODE, 0, A_PRESENT | GATE32, 0), 0), EXPECT("gate with DPL 0", &r, GP, GATE, 0);
    gdt_set(GATE, gate(KCODE, 0, A_DPL3 | GATE32, 0), 0), EXPECT("gate that is not present", &r, NP, GATE, 0);
    gdt_set(GATE, gate(0, 0, A_PRESENT | A_DPL3 | GATE32, 0), 0), EXPECT("gate to null", &r, GP, 0, 0);
    gdt_set(GATE, gate(KDATA, 0, A_PRESENT | A_DPL3 | GATE32, 0), 0), EXPECT("gate to data", &r, GP, KDATA, 0);
    gdt_set(GATE, gate(GONE | 1, 0, A_PRESENT | A_DPL3 | GATE32, 0), 0), EXPECT("gate to nothing", &r, GP, GONE, 0);
    gdt_set(SEG, segment(0, 0xfffff, A_CODE | A_RW | A_G | A_DB), 0);
    gdt_set(GATE, gate(SEG, 0, A_PRESENT | A_DPL3 | GATE32, 0), 0), EXPECT("gate to absent code", &r, NP, SEG, 0);
    gdt_set(SEG, segment(0, 0xff, A_PRESENT | A_CODE | A_RW | A_DB), 0);
    gdt_set(GATE, gate(SEG, 0x100, A_PRESENT | A_DPL3 | GATE32, 0), 0), EXPECT("gate beyond its code's limit", &r, GP, 0, 0);
    gdt_set(GATE, gate(CODE1, (u32)ASM("nop"), A_PRESENT | A_DPL3 | GATE32, 4), 0);
    u32 esp0 = *(u32 *)(tss + 4), esp1 = TOP(ring1_stack);
    set_stack(1, esp1, 0), EXPECT("null SS1", &r, TS, 0, 0);
    set_stack(1, esp1, GONE), EXPECT("SS1 of nothing", &r, TS, GONE, 0);
    set_stack(1, esp1, DATA1 | 2), EXPECT("SS1 with another RPL", &r, TS, DATA1, 0);
    set_stack(1, esp1, CODE1 | 1), EXPECT("SS1 of code", &r, TS, CODE1, 0);
    set_stack(1, esp1, KDATA | 1), EXPECT("SS1 with another DPL", &r, TS, KDATA, 0);
    set_stack(1, esp1, sizeof gdt | 1), EXPECT("SS1 beyond the GDT", &r, TS, sizeof gdt, 0);
    gdt_set(SEG, segment(0, 0xfffff, A_DATA | A_RW | A_G | A_DB | 0x20), 0);
    set_stack(1, esp1, SEG | 1), EXPECT("SS1 not present", &r, SS, SEG, 0);
    gdt_set(SEG, segment(0, 0xfffff, A_PRESENT | A_DATA | A_G | A_DB | 0x20), 0);
    set_stack(1, esp1, SEG | 1), EXPECT("SS1 read-only", &r, TS, SEG, 0);
    gdt_set(STACK_SMALL, segment((u32)ring1_stack, 0xff, A_PRESENT | A_DATA | A_RW | A_DB | 0x20), 0);
    set_stack(1, 0x100, STACK_SMALL | 1), OK("a small SS1", &r), CHECK_EQ("ESP", ev.r.sp, 0x100 - 32);
    set_stack(1, 28, STACK_SMALL | 1), EXPECT("SS1 with no room for the parameters", &r, SS, STACK_SMALL, 0);
    set_stack(1, esp1, DATA1 | 1);
    gdt_set(GATE, gate(KCODE, (u32)ASM("nop"), A_PRESENT | A_DPL3 | GATE32, 4), 0);
    set_stack(0, esp0, GONE), EXPECT("SS0 of nothing, for the call and for its #TS", &r, DF, 0, ANYWHERE);
    set_stack(0, esp0, KDATA);
    /* the TSS itself is too short: levels 1 and 2 lie beyond its limit */
    gdt_set(GATE, gate(CODE2, 0, A_PRESENT | A_DPL3 | GATE32, 0), 0);
    set_tss_limit(20);
    EXPECT("TSS too short for SS2", &r, TS, TSS_SEL, 0);
    set_tss_limit(0x2088);
    EXPECT("null SS2", &r, TS, 0, 0);
}

static void frame32(int line, const char *what, u32 flags, bool error, u32 vector_error)
{
    u32 *f = (u32 *)ev.r.sp;
    checks++;
    if (error && f[0] != vector_error)
        fail_(__FILE__, line, what, f[0], vector_error);
    f += error;
    u32 want[5] = {r.ip, r.cs, flags, r.sp, r.ss};
    for (unsigned i = 0; i < (r.cs & 3 ? 5 : 3); i++) {
        checks++;
        u32 mask = i == 1 || i == 4 ? 0xffff : ~0u;
        if ((f[i] & mask) != (want[i] & mask))
            fail_(__FILE__, line, what, f[i], want[i]);
    }
}

static void interrupt_gates(void)
{
    u32 esp0 = *(u32 *)(tss + 4);
    void *handler = ASM("nop");
    /* faults with error codes through gates of 32 bits, seen on the handler's stack */
    idt_set(GP, KCODE, (u32)handler, A_PRESENT | INT32, 0);
    r = user(ASM("hlt")), r.flags |= FLAG_IF | FLAG_CF;
    OK("#GP from ring 3", &r), CHECK_EQ("ESP", ev.r.sp, esp0 - 24), frame32(__LINE__, "frame", r.flags | FLAG_RF, true, 0);
    CHECK_EQ("IF is clear", ev.r.flags & FLAG_IF, 0);
    idt_set(GP, KCODE, (u32)handler, A_PRESENT | TRAP32, 0);
    OK("#GP through a trap gate", &r), CHECK_EQ("IF stays", ev.r.flags & FLAG_IF, FLAG_IF);
    r = kernel(KASM("mov %eax, %ds")), r.ax = GONE;
    OK("#GP from ring 0", &r), CHECK_EQ("ESP", ev.r.sp, r.sp - 16), frame32(__LINE__, "frame", r.flags | FLAG_RF, true, GONE);
    /* 16-bit gates */
    gdt_set(CODE16, segment((u32)handler, 0xffff, A_PRESENT | A_CODE | A_RW | A_DB), 0);
    idt_set(GP, CODE16, 0, A_PRESENT | INT16, 0);
    r = user(ASM("hlt")), r.flags |= FLAG_IF;
    OK("#GP from ring 3 through a 16-bit gate", &r);
    u16 *f = (u16 *)ev.r.sp;
    CHECK_EQ("ESP", ev.r.sp, esp0 - 12), CHECK_EQ("error", f[0], 0), CHECK_EQ("IP", f[1], (u16)r.ip), CHECK_EQ("CS", f[2], UCODE);
    CHECK_EQ("FLAGS", f[3], (u16)r.flags), CHECK_EQ("SP", f[4], (u16)r.sp), CHECK_EQ("SS", f[5], UDATA), CHECK_EQ("IF", ev.r.flags & FLAG_IF, 0);
    r = kernel(KASM("mov %eax, %ds")), r.ax = GONE;
    OK("#GP from ring 0 through a 16-bit gate", &r), f = (u16 *)ev.r.sp;
    CHECK_EQ("ESP", ev.r.sp, r.sp - 8), CHECK_EQ("error", f[0], GONE), CHECK_EQ("IP", f[1], (u16)r.ip), CHECK_EQ("CS", f[2], KCODE);
    idt_set(GP, CODE16, 0xabcd0000, A_PRESENT | TRAP16, 0);
    r.flags |= FLAG_IF, OK("a 16-bit trap gate uses 16 bits of the offset", &r), CHECK_EQ("IF", ev.r.flags & FLAG_IF, FLAG_IF);
    idt_default(GP);
    idt_set(0x40, CONFORM, (u32)handler, A_PRESENT | A_DPL3 | INT32, 0);
    r = user(ASM("int $0x40")), OK("INT to conforming code", &r), CHECK_EQ("CS", ev.r.cs, CONFORM | 3), CHECK_EQ("ESP", ev.r.sp, r.sp - 12);
    idt_set(0x40, CODE1, (u32)handler, A_PRESENT | A_DPL3 | INT32, 0);
    OK("INT to ring 1", &r), CHECK_EQ("CS", ev.r.cs, CODE1 | 1), CHECK_EQ("ESP", ev.r.sp, TOP(ring1_stack) - 20);
    r = kernel(KASM("int $0x40")), EXPECT("INT to an outer level", &r, GP, CODE1, 0);
    r = user(ASM("int $0x40"));
    idt_set(0x40, KCODE, (u32)handler, A_PRESENT | INT32, 0), EXPECT("INT, gate with DPL 0", &r, GP, 0x40 * 8 + 2, 0);
    idt_set(0x40, KCODE, (u32)handler, A_DPL3 | INT32, 0), EXPECT("INT, absent gate", &r, NP, 0x40 * 8 + 2, 0);
    idt_set(0x40, KCODE, (u32)handler, A_PRESENT | A_DPL3 | GATE32, 0), EXPECT("INT, a call gate in the IDT", &r, GP, 0x40 * 8 + 2, 0);
    idt_set(0x40, KDATA, (u32)handler, A_PRESENT | A_DPL3 | INT32, 0), EXPECT("INT to data", &r, GP, KDATA, 0);
    idt_set(0x40, GONE, (u32)handler, A_PRESENT | A_DPL3 | INT32, 0), EXPECT("INT to nothing", &r, GP, GONE, 0);
    idt_set(0x40, 0, (u32)handler, A_PRESENT | A_DPL3 | INT32, 0), EXPECT("INT to null", &r, GP, 0, 0);
    idt_set(UD, GONE, (u32)handler, A_PRESENT | INT32, 0);
    r = user(ASM("ud2")), EXPECT("#UD to nothing has the EXT bit", &r, GP, GONE + 1, 0);
    idt_default(UD);
    idt_set(0x40, KCODE, (u32)handler, A_PRESENT | A_DPL3 | INT32, 0);
    r = user(ASM("int $0x40"));
    set_stack(0, esp0, GONE), EXPECT("INT: SS0 of nothing, for INT and for #TS", &r, DF, 0, ANYWHERE);
    set_stack(0, esp0, KDATA);
    set_stack(1, TOP(ring1_stack), GONE);
    idt_set(0x40, CODE1, (u32)handler, A_PRESENT | A_DPL3 | INT32, 0), EXPECT("INT: SS1 of nothing", &r, TS, GONE, 0);
    idt_set(UD, CODE1, (u32)handler, A_PRESENT | INT32, 0);
    r = user(ASM("ud2")), EXPECT("#UD: SS1 of nothing, with EXT", &r, TS, GONE + 1, 0);
    set_stack(1, TOP(ring1_stack), 0), EXPECT("#UD: SS1 null, with EXT", &r, TS, 1, 0);
    gdt_set(STACK_SMALL, segment((u32)ring1_stack, 0xff, A_PRESENT | A_DATA | A_RW | A_DB | 0x20), 0);
    set_stack(1, 12, STACK_SMALL | 1), EXPECT("#UD: no room in SS1", &r, SS, STACK_SMALL + 1, 0);
    idt_default(UD), idt_default(0x40);
    set_stack(1, TOP(ring1_stack), DATA1 | 1);
    r = user(ASM("into")), r.flags |= FLAG_OF, EXPECT("INTO", &r, OF, NONE, 1);
    r.flags &= ~(word)FLAG_OF, OK("INTO without OF", &r);
    static int bounds[2] __attribute__((section(".udata"))) = {-5, 5};
    r = user(ASM("bound %eax, (%ebx)")), r.bx = (u32)bounds, r.ax = 6, EXPECT("BOUND", &r, BR, NONE, 0);
    r.ax = (u32)-6, EXPECT("BOUND", &r, BR, NONE, 0), r.ax = 5, OK("BOUND", &r), r.ax = (u32)-5, OK("BOUND", &r);
}

static u32 frame_area[128], *const frame = frame_area + 64; /* what the run pushes below it is in the area */
static void iret_frame(u32 ip, u32 cs, u32 flags, u32 sp, u32 ss)
{
    u32 f[5] = {ip, cs, flags, sp, ss};
    memcpy(frame, f, sizeof f);
}

static void iret(void)
{
    u32 uip = (u32)ASM("mov %cs, %ecx"), usp = (u32)ustack_area + 1024;
    void *code = KASM("iret");
#define IRET(what, vector, error) (r = kernel(code), r.sp = (u32)frame, EXPECT(what, &r, vector, error, vector == DONE ? ANYWHERE : 0))
    iret_frame(uip, UCODE, FLAG_FIXED | FLAG_IF | FLAG_IOPL | FLAG_ID | FLAG_AC, usp, UDATA), IRET("IRET to ring 3", DONE, NONE);
    CHECK_EQ("flags", ev.r.flags, FLAG_FIXED | FLAG_IF | FLAG_IOPL | FLAG_ID | FLAG_AC), CHECK_EQ("SS", ev.r.ss, UDATA), CHECK_EQ("ESP", ev.r.sp, usp);
    CHECK_EQ("DS of ring 0 is null now", ev.r.ds, 0), CHECK_EQ("GS", ev.r.gs, 0);
    iret_frame(uip, KCODE, FLAG_FIXED, 0, 0), IRET("IRET to ring 0", DONE, NONE), CHECK_EQ("ESP", ev.r.sp, (u32)(frame + 3));
    iret_frame(uip, CODE1 | 1, FLAG_FIXED | 0x1000, TOP(ring1_stack), DATA1 | 1), IRET("IRET to ring 1", DONE, NONE), CHECK_EQ("CS", ev.r.cs, CODE1 | 1);
    iret_frame(uip, 0, FLAG_FIXED, usp, UDATA), IRET("IRET: null CS", GP, 0), CHECK_EQ("ESP", ev.r.sp, (u32)frame);
    iret_frame(uip, GONE | 3, FLAG_FIXED, usp, UDATA), IRET("IRET: CS of nothing", GP, GONE);
    iret_frame(uip, KDATA, FLAG_FIXED, usp, UDATA), IRET("IRET: CS of data", GP, KDATA);
    iret_frame(uip, KCODE | 3, FLAG_FIXED, usp, UDATA), IRET("IRET: RPL is not DPL", GP, KCODE);
    iret_frame(uip, CONFORM | 3, FLAG_FIXED, usp, UDATA), IRET("IRET: conforming", DONE, NONE), CHECK_EQ("CS", ev.r.cs, CONFORM | 3);
    iret_frame(uip, UCODE, FLAG_FIXED, usp, 0), IRET("IRET: null SS", GP, 0);
    iret_frame(uip, UCODE, FLAG_FIXED, usp, UDATA & ~3), IRET("IRET: RPL of SS", GP, UDATA & ~3);
    iret_frame(uip, UCODE, FLAG_FIXED, usp, KDATA | 3), IRET("IRET: DPL of SS", GP, KDATA);
    iret_frame(uip, UCODE, FLAG_FIXED, usp, UCODE), IRET("IRET: SS of code", GP, UCODE & ~3);
    gdt_set(SEG, segment(0, 0xfffff, A_DPL3 | A_DATA | A_RW | A_G | A_DB), 0);
    iret_frame(uip, UCODE, FLAG_FIXED, usp, SEG | 3), IRET("IRET: SS not present", SS, SEG);
    gdt_set(SEG, segment(0, 0xfffff, A_DPL3 | A_CODE | A_RW | A_G | A_DB), 0);
    iret_frame(uip, SEG | 3, FLAG_FIXED, usp, UDATA), IRET("IRET: CS not present", NP, SEG);
    gdt_set(SEG, segment(0, 0xff, A_PRESENT | A_DPL3 | A_CODE | A_RW | A_DB), 0);
    iret_frame(0x100, SEG | 3, FLAG_FIXED, usp, UDATA), IRET("IRET: EIP beyond the limit", GP, 0);
    /* what ring 3 may change */
    r = user(ASM("iret")), r.sp -= 12, ((u32 *)r.sp)[0] = uip, ((u32 *)r.sp)[1] = UCODE, ((u32 *)r.sp)[2] = 0xffffffff & ~(FLAG_TF | FLAG_NT | FLAG_VM);
    OK("IRET in ring 3", &r);
    CHECK_EQ("flags: not IF, IOPL, VM, VIF, VIP", ev.r.flags & ~(word)FLAG_RF, FLAG_FIXED | 0x8d5 | FLAG_DF | FLAG_AC | FLAG_ID);
    r.flags |= FLAG_IOPL, OK("IRET in ring 3 with IOPL 3", &r), CHECK_EQ("IF changes", ev.r.flags & (FLAG_IF | FLAG_IOPL), FLAG_IF | FLAG_IOPL);
    r = user(ASM("iret")), r.sp -= 12, ((u32 *)r.sp)[0] = uip, ((u32 *)r.sp)[1] = KCODE, ((u32 *)r.sp)[2] = 2;
    EXPECT("IRET to an inner level", &r, GP, KCODE, 0);
    /* 16 bits */
    u16 *f = (u16 *)frame;
    gdt_set(CODE16, segment(uip, 0xffff, A_PRESENT | A_DPL3 | A_CODE | A_RW | A_DB), 0);
    f[0] = 0, f[1] = CODE16 | 3, f[2] = FLAG_FIXED | FLAG_IF, f[3] = 0x1234, f[4] = UDATA;
    code = KASM("data16 iret");
    IRET("IRET of 16 bits to ring 3", DONE, NONE), CHECK_EQ("ESP", ev.r.sp & 0xffff, 0x1234), CHECK_EQ("IF", ev.r.flags & FLAG_IF, FLAG_IF);
    r = kernel(KASM("popf; pushf; pop %ecx")), r.sp -= 4, *(u32 *)r.sp = 0x3f7fd7 & ~(FLAG_TF | FLAG_NT), OK("POPF at CPL 0", &r);
    CHECK_EQ("VM and RF are untouched; VIF and VIP cleared", ev.r.cx & ~(word)(FLAG_VIF | FLAG_VIP), (0x3f7fd7 & ~(FLAG_TF | FLAG_NT | FLAG_VIF | FLAG_VIP | FLAG_VM | FLAG_RF)));
    r = user(ASM("popf; pushf; pop %ecx")), r.sp -= 4, *(u32 *)r.sp = FLAG_IF | FLAG_IOPL, OK("POPF at CPL 3", &r), CHECK_EQ("IF and IOPL are untouched", ev.r.cx, FLAG_FIXED);
}

static void far_ret(void)
{
    u32 uip = (u32)ASM("mov %cs, %ecx"), usp = (u32)ustack_area + 1024;
    void *code = KASM("lret $4");
#define LRET(what, vector, error) (r = kernel(code), r.sp = (u32)frame, EXPECT(what, &r, vector, error, vector == DONE ? ANYWHERE : 0))
    u32 good[] = {uip, UCODE, 0x99, usp, UDATA};
    memcpy(frame, good, sizeof good), LRET("far RET n to ring 3", DONE, NONE), CHECK_EQ("both stacks are released", ev.r.sp, usp + 4), CHECK_EQ("DS", ev.r.ds, 0);
    frame[4] = 0, LRET("far RET: null SS", GP, 0);
    frame[4] = UDATA, frame[1] = 0, LRET("far RET: null CS", GP, 0);
    frame[1] = GONE, LRET("far RET: CS of nothing", GP, GONE);
    frame[1] = KCODE | 1, LRET("far RET: RPL is not DPL", GP, KCODE);
    gdt_set(SEG, segment(0, 0xff, A_PRESENT | A_DPL3 | A_CODE | A_RW | A_DB), 0);
    frame[1] = SEG | 3, LRET("far RET beyond the limit", GP, 0), CHECK_EQ("ESP", ev.r.sp, (u32)frame);
    r = user(ASM("lret")), r.sp -= 8, ((u32 *)r.sp)[0] = uip, ((u32 *)r.sp)[1] = KCODE, EXPECT("far RET to an inner level", &r, GP, KCODE, 0);
}

static void io_permissions(void)
{
    u8 *bitmap = tss + 0x88;
    bitmap[0x80 / 8] = 0xfe; /* port 80h alone */
    r = user(ASM("outb %al, $0x80")), OK("a permitted port", &r);
    r = user(ASM("outb %al, $0x81")), EXPECT("the next port", &r, GP, 0, 0);
    r = user(ASM("outw %ax, $0x80")), EXPECT("two ports, one permitted", &r, GP, 0, 0);
    bitmap[0x80 / 8] = 0xf0;
    r = user(ASM("outl %eax, $0x80")), OK("four permitted ports", &r);
    r = user(ASM("inb $0x83, %al")), OK("IN", &r);
    r = user(ASM("inw $0x83, %ax")), EXPECT("IN across the edge", &r, GP, 0, 0);
    r = user(ASM("outsb")), r.dx = 0x80, r.si = (u32)ustack_area, OK("OUTSB", &r);
    r = user(ASM("rep outsb")), r.dx = 0x84, r.cx = 2, r.si = (u32)ustack_area, EXPECT("REP OUTSB", &r, GP, 0, 0);
    r = user(ASM("insb")), r.dx = 0x84, r.di = (u32)ustack_area, EXPECT("INSB", &r, GP, 0, 0);
    r = user(ASM("outb %al, %dx")), r.dx = 0xffff, EXPECT("the last port", &r, GP, 0, 0);
    bitmap[0x1fff] = 0x7f, OK("the last port, permitted (the byte behind is there)", &r);
    bitmap[0x1fff] = 0xff;
    r = user(ASM("outb %al, $0x90")), r.flags |= FLAG_IOPL, OK("IOPL 3 permits all", &r);
    r.flags = FLAG_FIXED | 0x2000, EXPECT("IOPL 2 does not", &r, GP, 0, 0);
    r = user(ASM("cli")), r.flags |= FLAG_IOPL | FLAG_IF, OK("CLI with IOPL 3", &r), CHECK_EQ("IF", ev.r.flags & FLAG_IF, 0);
    r = user(ASM("sti")), r.flags |= FLAG_IOPL, OK("STI with IOPL 3", &r), CHECK_EQ("IF", ev.r.flags & FLAG_IF, FLAG_IF);
    r = user(ASM("sti")), EXPECT("STI with IOPL 0", &r, GP, 0, 0);
    memset(bitmap, 0xff, 0x2000), bitmap[0x80 / 8] = 0;
    set_tss_limit(0x88 + 0x10);
    r = user(ASM("outb %al, $0x80")), EXPECT("the limit cuts the second byte that is read", &r, GP, 0, 0);
    set_tss_limit(0x88 + 0x11);
    OK("the limit leaves both", &r);
    set_tss_limit(0x2088);
    bitmap[0x80 / 8] = 0xff;
}

static void fast_calls(void)
{
    if (!has(1, 3, 11))
        return;
    /* SYSENTER's and SYSEXIT's four segments are neighbours */
    gdt_set(FREE + 96, gdt[KCODE >> 3], 0), gdt_set(FREE + 104, gdt[KDATA >> 3], 0), gdt_set(FREE + 112, gdt[UCODE >> 3], 0), gdt_set(FREE + 120, gdt[UDATA >> 3], 0);
    wrmsr(0x174, FREE + 96), wrmsr(0x175, TOP(ring0_stack)), wrmsr(0x176, (u32)KASM("mov %esp, %eax; sysexit"));
    r = user(ASM("mov %esp, %ecx; mov $1f, %edx; sysenter; 1: mov %cs, %ebx; mov %ss, %esi")), r.flags |= FLAG_IF;
    OK("SYSENTER and SYSEXIT", &r), CHECK_EQ("ESP was the kernel's", ev.r.ax, TOP(ring0_stack)), CHECK_EQ("ESP is back", ev.r.sp, r.sp);
    CHECK_EQ("CS", ev.r.bx, FREE + 112 + 3), CHECK_EQ("SS", ev.r.si, FREE + 120 + 3), CHECK_EQ("IF is clear: SYSENTER did that", ev.r.flags & FLAG_IF, 0);
    wrmsr(0x176, (u32)KASM("mov %cs, %eax; mov %ss, %ecx"));
    r.flags |= FLAG_TF;
    set_dr6(0xffff0ff0);
    r.ip = (u32)ASM("sysenter"), EXPECT("SYSENTER leaves TF: a trap at its target", &r, DB, NONE, ANYWHERE), CHECK_EQ("EIP", ev.r.ip, (u32)rdmsr(0x176)), set_dr6(0xffff0ff0);
    wrmsr(0x174, 0), r.flags = FLAG_FIXED, EXPECT("SYSENTER without CS", &r, GP, 0, 0);
}

void guest_main(void)
{
    setup();
    direct();
    call_gates();
    call_gate_errors();
    set_stack(0, TOP(ring0_stack), KDATA);
    interrupt_gates();
    iret();
    far_ret();
    io_permissions();
    fast_calls();
}
