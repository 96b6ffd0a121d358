/* Segmentation: limits, types, expand-down, null selectors, wrap-around, loading, and LAR, LSL, VERR, VERW, ARPL
 * (SDM 3A chapters 3 and 5). */
#include "lib/guest.h"

static struct regs r;
static u8 memory[0x30000] __attribute__((aligned(4096)));
enum { SEG = FREE, SEG2 = FREE + 8, LDT = FREE + 16, NOT_THERE = FREE + 24, DATA = A_PRESENT | A_DATA, CODE = A_PRESENT | A_CODE };

/* DS is a segment with these; the instruction at `code` is run with EBX = offset. */
static struct regs with_ds(const void *code, u32 limit, u32 attr, u32 offset)
{
    gdt_set(SEG, segment((u32)memory, limit, attr), 0);
    struct regs s = kernel(code);
    s.ds = s.es = SEG, s.bx = offset, s.di = s.si = offset;
    return s;
}

static void limits(void)
{
    static const struct { u32 limit, attr, offset; unsigned size; bool ok; } rows[] = {
        {0xff, DATA | A_RW, 0xff, 1, true}, {0xff, DATA | A_RW, 0x100, 1, false}, {0xff, DATA | A_RW, 0xfc, 4, true}, {0xff, DATA | A_RW, 0xfd, 4, false},
        {0xff, DATA | A_RW, 0xffffffff, 1, false}, {0xff, DATA | A_RW, 0xfffffffe, 4, false}, {0, DATA | A_RW, 0, 1, true}, {0, DATA | A_RW, 0, 2, false},
        {2, DATA | A_RW | A_G, 0x2ffc, 4, true}, {2, DATA | A_RW | A_G, 0x2ffd, 4, false}, {2, DATA | A_RW | A_G, 0x3000, 1, false},
        {0xff, DATA | A_RW | A_DOWN | A_DB, 0x100, 1, true}, {0xff, DATA | A_RW | A_DOWN | A_DB, 0xff, 1, false}, {0xff, DATA | A_RW | A_DOWN | A_DB, 0xff, 4, false},
        {0xff, DATA | A_RW | A_DOWN, 0xffff, 1, true}, {0xff, DATA | A_RW | A_DOWN, 0x10000, 1, false}, {0xff, DATA | A_RW | A_DOWN, 0xfffd, 4, false},
        {0xff, DATA | A_RW | A_DOWN, 0x100, 2, true}, {0xffff, DATA | A_RW | A_DOWN, 0x8000, 1, false}, {0xfffff, DATA | A_RW | A_DOWN | A_DB | A_G, 0x80000000, 1, false},
        {0, DATA | A_RW | A_DOWN | A_DB | A_G, 0x1000, 1, true}, {0, DATA | A_RW | A_DOWN | A_DB | A_G, 0xfff, 1, false},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        void *read = rows[i].size == 1 ? KASM("mov (%ebx), %cl") : rows[i].size == 2 ? KASM("mov (%ebx), %cx") : KASM("mov (%ebx), %ecx");
        void *write = rows[i].size == 1 ? KASM("mov %cl, (%ebx)") : rows[i].size == 2 ? KASM("mov %cx, (%ebx)") : KASM("mov %ecx, (%ebx)");
        void *string = rows[i].size == 1 ? KASM("lodsb") : rows[i].size == 2 ? KASM("lodsw") : KASM("lodsl");
        void *repeat = rows[i].size == 1 ? KASM("rep stosb") : rows[i].size == 2 ? KASM("rep stosw") : KASM("rep stosl");
        void *all[] = {read, write, string, repeat};
        for (unsigned n = 0; n < 4; n++) {
            r = with_ds(all[n], rows[i].limit, rows[i].attr, rows[i].offset), r.cx = 1;
            EXPECT("limit", &r, rows[i].ok ? DONE : GP, rows[i].ok ? NONE : 0, rows[i].ok ? ANYWHERE : 0);
            if (ev.vector != (rows[i].ok ? DONE : GP))
                print("  row %u, way %u\n", i, n);
        }
    }
    /* a repeated string stops at the limit, with what came before done */
    r = with_ds(KASM("rep stosb"), 0xff, DATA | A_RW, 0xf0), r.cx = 0x20, r.ax = 0x5a;
    memset(memory, 0, 0x200);
    EXPECT("REP STOSB over the limit", &r, GP, 0, 0);
    CHECK_EQ("ECX", ev.r.cx, 0x10), CHECK_EQ("EDI", ev.r.di, 0x100), CHECK_EQ("the last byte", memory[0xff], 0x5a), CHECK_EQ("the next byte", memory[0x100], 0);
    r = with_ds(KASM("rep movsb"), 0xff, DATA | A_RW, 0x10), r.cx = 0x20, r.di = 0x80, r.flags |= FLAG_DF;
    EXPECT("REP MOVSB downwards over zero", &r, GP, 0, 0);
    CHECK_EQ("ECX", ev.r.cx, 0x20 - 0x11), CHECK_EQ("ESI", ev.r.si, 0xffffffff);
    r = with_ds(KASM("fxsave (%ebx)"), 0x1ff, DATA | A_RW, 0x10), EXPECT("FXSAVE over the limit", &r, GP, 0, 0);
    r = with_ds(KASM("fnsave (%ebx)"), 0xff, DATA | A_RW, 0xa0), EXPECT("FNSAVE over the limit", &r, GP, 0, 0);
    r = with_ds(KASM("lgdt (%ebx)"), 0xff, DATA | A_RW, 0xfc), EXPECT("LGDT over the limit", &r, GP, 0, 0);
    r = with_ds(KASM("cmpxchg8b (%ebx)"), 0xff, DATA | A_RW, 0xfc), EXPECT("CMPXCHG8B over the limit", &r, GP, 0, 0);
    r = with_ds(KASM("lds (%ebx), %ecx"), 0xff, DATA | A_RW, 0xfb), EXPECT("LDS over the limit", &r, GP, 0, 0);
    r = with_ds(KASM("bts %eax, (%ebx)"), 0xff, DATA | A_RW, 0xf8), r.ax = 64, EXPECT("BTS over the limit", &r, GP, 0, 0);
    r = with_ds(KASM("xlatb"), 0xff, DATA | A_RW, 0xf8), r.ax = 8, EXPECT("XLAT over the limit", &r, GP, 0, 0);
    r = with_ds(KASM("bound %eax, (%ebx)"), 0xff, DATA | A_RW, 0xfc), EXPECT("BOUND over the limit", &r, GP, 0, 0);
}

static void types(void)
{
    r = with_ds(KASM("mov %ecx, (%ebx)"), 0xff, DATA, 0), EXPECT("write to a read-only segment", &r, GP, 0, 0);
    r = with_ds(KASM("mov (%ebx), %ecx"), 0xff, DATA, 0), OK("read of a read-only segment", &r);
    r = with_ds(KASM("xchg %ecx, (%ebx)"), 0xff, DATA, 0), EXPECT("XCHG in a read-only segment", &r, GP, 0, 0);
    r = with_ds(KASM("cmp %ecx, (%ebx)"), 0xff, DATA, 0), OK("CMP in a read-only segment", &r);
    r = with_ds(KASM("rep stosl"), 0xff, DATA, 0), r.cx = 1, EXPECT("REP STOS in a read-only segment", &r, GP, 0, 0);
    r = with_ds(KASM("rep stosl"), 0xff, DATA, 0), r.cx = 0, OK("REP STOS of nothing in a read-only segment", &r);
    r = with_ds(KASM("mov (%ebx), %ecx"), 0xff, CODE | A_RW, 0), OK("read of readable code", &r);
    r = with_ds(KASM("mov %ecx, (%ebx)"), 0xff, CODE | A_RW, 0), EXPECT("write to code", &r, GP, 0, 0);
    r = kernel(KASM("mov %ecx, %cs:(%ebx)")), r.bx = (u32)memory, EXPECT("write through CS", &r, GP, 0, 0);
    gdt_set(SEG, segment(0, 0xfffff, CODE | A_G | A_DB), 0); /* execute only */
    r = kernel(KASM("mov %cs:(%ebx), %ecx")), r.bx = (u32)memory, r.cs = SEG, EXPECT("read through execute-only CS", &r, GP, 0, 0);
    r = kernel(KASM("mov %eax, %ds")), r.ax = SEG, EXPECT("DS execute-only", &r, GP, SEG, 0);
    r = kernel(KASM("mov %eax, %ds; mov (%ebx), %ecx")), r.bx = (u32)memory, EXPECT("null DS, used", &r, GP, 0, 2);
    r.ax = 3, EXPECT("null DS with RPL 3, used", &r, GP, 0, 2);
    r = kernel(KASM("mov %eax, %es; rep stosb")), r.di = (u32)memory, r.cx = 1, EXPECT("null ES, used by STOS", &r, GP, 0, 2);
    r = kernel(KASM("mov %eax, %fs; mov %fs:(%ebx), %ecx")), r.bx = (u32)memory, EXPECT("null FS, used", &r, GP, 0, 2);
    r = kernel(KASM("mov %eax, %gs; .byte 0x65; lea (%ebx), %ecx")), r.bx = (u32)memory, OK("null GS, LEA", &r);
    r = kernel(KASM("mov %eax, %gs; invlpg %gs:(%ebx)")), r.bx = (u32)memory, OK("null GS, INVLPG", &r);
}

static void loading(void)
{
    static const struct { u32 attr; bool data, stack; } kinds[] = {
        {DATA, true, false}, {DATA | A_RW, true, true}, {DATA | A_DOWN, true, false}, {DATA | A_RW | A_DOWN, true, true},
        {CODE, false, false}, {CODE | A_RW, true, false}, {CODE | A_CONFORMING, false, false}, {CODE | A_CONFORMING | A_RW, true, false},
    };
    for (unsigned i = 0; i < 8; i++)
        for (unsigned dpl = 0; dpl < 4; dpl++)
            for (unsigned rpl = 0; rpl < 4; rpl++)
                for (unsigned as_user = 0; as_user < 2; as_user++) {
                    unsigned cpl = as_user ? 3 : 0, weakest = cpl > rpl ? cpl : rpl;
                    bool conforming = kinds[i].attr & 8 && kinds[i].attr & A_CONFORMING;
                    bool data = kinds[i].data && (conforming || weakest <= dpl), stack = kinds[i].stack && dpl == cpl && rpl == cpl;
                    bool down = !(kinds[i].attr & 8) && kinds[i].attr & A_DOWN;
                    gdt_set(SEG, segment(0, down ? 0 : 0xfffff, kinds[i].attr | dpl << 5 | A_DB | A_G), 0);
                    r = as_user ? user(ASM("mov %eax, %es")) : kernel(KASM("mov %eax, %es")), r.ax = SEG | rpl;
                    EXPECT("MOV ES", &r, data ? DONE : GP, data ? NONE : SEG, data ? ANYWHERE : 0);
                    CHECK_EQ("the accessed bit is set on success alone", gdt[SEG >> 3] >> 40 & 1, data);
                    r = as_user ? user(ASM("mov %eax, %ss")) : kernel(KASM("mov %eax, %ss")), r.ax = SEG | rpl;
                    EXPECT("MOV SS", &r, stack ? DONE : GP, stack ? NONE : SEG, stack ? ANYWHERE : 0);
                    gdt[SEG >> 3] &= ~(0x80ull << 40);
                    r = as_user ? user(ASM("mov %eax, %es")) : kernel(KASM("mov %eax, %es")), r.ax = SEG | rpl;
                    EXPECT("MOV ES, not present", &r, data ? NP : GP, SEG, 0);
                    r = as_user ? user(ASM("mov %eax, %ss")) : kernel(KASM("mov %eax, %ss")), r.ax = SEG | rpl;
                    EXPECT("MOV SS, not present", &r, stack ? SS : GP, SEG, 0);
                }
    static const u8 system[] = {1, 2, 3, 4, 5, 6, 7, 9, 11, 12, 14, 15, 0, 8, 10, 13};
    for (unsigned i = 0; i < sizeof system; i++) {
        gdt_set(SEG, segment(0, 0xfffff, A_PRESENT | system[i]), 0);
        r = kernel(KASM("mov %eax, %ds")), r.ax = SEG, EXPECT("DS of a system type", &r, GP, SEG, 0);
        r = kernel(KASM("mov %eax, %ss")), r.ax = SEG, EXPECT("SS of a system type", &r, GP, SEG, 0);
    }
    r = kernel(KASM("mov %eax, %ss")), EXPECT("null SS", &r, GP, 0, 0);
    r = kernel(KASM("mov %eax, %ds")), r.ax = sizeof gdt, EXPECT("DS beyond the GDT", &r, GP, sizeof gdt, 0);
    r.ax = 0xfffc, EXPECT("DS of no LDT", &r, GP, 0xfffc, 0);
    gdt_set(LDT, segment((u32)memory, 0x17, A_PRESENT | 2), 0);
    memset(memory, 0, 64);
    *(u64 *)(memory + 8) = segment(0x1000, 0xff, DATA | A_RW);
    asm volatile("lldt %0" :: "r"((u16)LDT));
    r.ax = 12, OK("DS of the LDT", &r), CHECK_EQ("selector", ev.r.ds, 12);
    r.ax = 4, EXPECT("LDT's entry 0 is no null selector", &r, GP, 4, 0);
    r.ax = 0x1c, EXPECT("DS beyond the LDT", &r, GP, 0x1c, 0);
    asm volatile("lldt %0" :: "r"((u16)0));
    r.ax = 12, EXPECT("DS of a null LDT", &r, GP, 12, 0);
    gdt_set(SEG, segment(0, 0xfffff, DATA | A_RW | A_G | A_DB), 0);
    static struct { u32 offset; u16 selector; } __attribute__((packed)) far = {0x1234, SEG};
    r = kernel(KASM("lfs (%ebx), %ecx")), r.bx = (u32)&far, OK("LFS", &r), CHECK_EQ("FS", ev.r.fs, SEG), CHECK_EQ("ECX", ev.r.cx, 0x1234);
    far.selector = NOT_THERE;
    r.cx = 77, EXPECT("LFS of nothing", &r, GP, NOT_THERE, 0), CHECK_EQ("ECX stays", ev.r.cx, 77);
    far.selector = 0, OK("LFS null", &r);
    r = kernel(KASM("lss (%ebx), %esp")), r.bx = (u32)&far, EXPECT("LSS null", &r, GP, 0, 0);
    r = kernel(KASM("push $0; pop %gs; push $0x10; pop %gs")), OK("POP GS", &r), CHECK_EQ("GS", ev.r.gs, KDATA);
    r = kernel(KASM("pop %gs")), r.sp -= 4, *(u32 *)r.sp = NOT_THERE, EXPECT("POP GS of nothing", &r, GP, NOT_THERE, 0), CHECK_EQ("ESP stays", ev.r.sp, r.sp);
    r = kernel(KASM("mov $0xffffffff, %eax; mov %fs, %eax")), OK("MOV EAX, FS", &r), CHECK_EQ("zero-extended", ev.r.ax, KDATA);
    r = kernel(KASM("movl $-1, -4(%esp); push %fs; mov (%esp), %eax; pop %ecx")), OK("PUSH FS", &r), CHECK_EQ("its low word", ev.r.ax & 0xffff, KDATA);
}

static void wrap(void)
{
    gdt_set(SEG, segment((u32)memory + 0x1000, 0xfffff, DATA | A_RW | A_G | A_DB), 0);
    *(u32 *)(memory + 0xff8) = 0xcafe;
    r = kernel(KASM("mov -8(%ebx), %ecx")), r.ds = SEG, r.bx = 0;
    OK("base plus negative offset wraps at 4 GiB", &r), CHECK_EQ("value", ev.r.cx, 0xcafe);
    gdt_set(SEG, segment((u32)memory, 0xffff, DATA | A_RW), 0);
    *(u16 *)(memory + 0x10) = 0xbeef;
    r = kernel(KASM("addr16 mov 0x20(%bx), %cx")), r.ds = SEG, r.bx = 0xabcdfff0;
    OK("16-bit addresses wrap at 64 KiB", &r), CHECK_EQ("value", ev.r.cx & 0xffff, 0xbeef);
    r = kernel(KASM("addr16 mov (%bx), %cx")), r.ds = SEG, r.bx = 0xffff, EXPECT("a word at FFFF", &r, GP, 0, 0);
    r = kernel(KASM("addr16 rep lodsb")), r.ds = SEG, r.si = 0x5555fffe, r.cx = 0x77770004;
    OK("string with 16-bit addresses", &r), CHECK_EQ("ESI wraps in 16 bits", ev.r.si, 0x55550002), CHECK_EQ("ECX", ev.r.cx, 0x77770000);
    r = kernel(KASM("addr16 loop 1f; ud2; 1:")), r.cx = 0x10001 + 1, OK("LOOP by CX", &r), CHECK_EQ("ECX", ev.r.cx, 0x10001);
    /* a 16-bit stack: SP wraps, the rest of ESP stays */
    gdt_set(SEG, segment((u32)memory, 0xffff, DATA | A_RW), 0);
    r = kernel(KASM("mov %eax, %ss; mov %ebx, %esp; push $0x12345678; pop %ecx; push $0x11; mov %esp, %edx; mov $0x10, %eax; mov %eax, %ss; mov $stack_area + 2048, %esp"));
    r.ax = SEG, r.bx = 0xabcd0000;
    OK("16-bit stack", &r), CHECK_EQ("pushed and popped", ev.r.cx, 0x12345678), CHECK_EQ("ESP", ev.r.dx, 0xabcdfffc), CHECK_EQ("memory", *(u32 *)(memory + 0xfffc), 0x11);
    r = kernel(KASM("mov %eax, %ss; mov %ebx, %esp; push $0x12345678"));
    r.ax = SEG, r.bx = 2;
    EXPECT("16-bit stack: a push over the wrap", &r, DF, 0, ANYWHERE); /* #SS, and its frame does not fit either */
    gdt_set(SEG, segment((u32)memory, 0xff, DATA | A_RW | A_DB), 0);
    r = kernel(KASM("mov %eax, %ss; mov %ebx, %esp; mov 0xfd(%ebp), %ecx")), r.ax = SEG, r.bx = 0x80, r.bp = 0;
    EXPECT("[EBP] over SS's limit", &r, SS, 0, ANYWHERE);
    r = kernel(KASM("mov %eax, %ss; mov %ebx, %esp; pop %ecx")), r.ax = SEG, r.bx = 0xfd;
    EXPECT("POP over SS's limit", &r, SS, 0, ANYWHERE);
    r = kernel(KASM("mov %eax, %ss; mov %ebx, %esp; mov %ds:0xfd(%ebp), %ecx")), r.ax = SEG, r.bx = 0x80, r.bp = (u32)memory;
    OK("DS: [EBP] is not SS's", &r);
    r = kernel(KASM("mov %eax, %ss; mov %ebx, %esp; mov %ss:(%edi), %ecx")), r.ax = SEG, r.bx = 0x80, r.di = 0x100;
    EXPECT("SS: [EDI] is", &r, SS, 0, ANYWHERE);
    r = kernel(KASM("mov %eax, %ss; mov %ebx, %esp; popa")), r.ax = SEG, r.bx = 0xf0;
    EXPECT("POPA over SS's limit", &r, SS, 0, ANYWHERE), CHECK_EQ("ESP", ev.r.sp, 0xf0);
    r = kernel(KASM("mov %eax, %ss; mov %ebx, %esp; enter $4, $0; mov $0x10, %eax; mov %eax, %ss; mov %ebx, %ecx; mov $stack_area + 2048, %esp")), r.ax = SEG, r.bx = 0x80;
    OK("ENTER", &r);
}

static void code_limits(void)
{
    u8 *code = memory + 0x1000;
    memset(code, 0x90, 0x1000);
    gdt_set(SEG, segment((u32)code, 0xff, CODE | A_RW | A_DB), 0);
    r = kernel((void *)0xfe), r.cs = SEG;
    EXPECT("running over CS's limit", &r, GP, 0, 2);
    code[0xfd] = 0xb8; /* MOV EAX, imm32: its end is beyond */
    r = kernel((void *)0xfd), r.cs = SEG;
    EXPECT("an instruction that ends beyond CS's limit", &r, GP, 0, 0);
    memcpy(code, "\xe9\xfb\0\0\0", 5); /* JMP 100h */
    r = kernel((void *)0), r.cs = SEG;
    EXPECT("JMP beyond CS's limit faults at the JMP", &r, GP, 0, 0);
    memcpy(code, "\xe8\xfb\0\0\0", 5);
    EXPECT("CALL beyond CS's limit faults at the CALL", &r, GP, 0, 0);
    CHECK_EQ("ESP", ev.r.sp, r.sp);
    memcpy(code, "\xff\xe0", 2), r.ax = 0x100;
    EXPECT("JMP EAX beyond CS's limit", &r, GP, 0, 0);
    memcpy(code, "\x74\x7e\xcd\xf0", 4), code[0x80] = 0xcd, code[0x81] = 0xf0;
    r.flags |= FLAG_ZF, OK("Jcc inside", &r), CHECK_EQ("EIP", ev.r.ip, 0x82);
    memcpy(code, "\x0f\x84\xfa\0\0\0\xcd\xf0", 8);
    EXPECT("Jcc that is taken beyond", &r, GP, 0, 0);
    r.flags &= ~(word)FLAG_ZF, OK("Jcc that is not taken", &r);
    memcpy(code, "\xc3", 1), r.sp -= 4, *(u32 *)r.sp = 0x100;
    EXPECT("RET beyond CS's limit", &r, GP, 0, 0), CHECK_EQ("ESP", ev.r.sp, r.sp);
    /* 16-bit code */
    gdt_set(SEG, segment((u32)code, 0xffff, CODE | A_RW), 0);
    memcpy(code, "\xb8\x34\x12\xcd\xf0", 5); /* MOV AX, 1234h */
    r = kernel((void *)0), r.cs = SEG, r.ax = 0xaaaaaaaa;
    OK("16-bit code", &r), CHECK_EQ("EAX", ev.r.ax, 0xaaaa1234);
    memcpy(code, "\x66\xb8\x34\x12\0\0\x67\x8b\x0b\xcd\xf0", 11), r.bx = (u32)memory; /* MOV EAX, 1234h; MOV CX, [EBX] */
    OK("16-bit code with prefixes", &r), CHECK_EQ("EAX", ev.r.ax, 0x1234);
    memcpy(code, "\xe9\xfd\xff", 3); /* JMP $-0: back to 0 */
    memcpy(code, "\xeb\x7e", 2), memcpy(code + 0x80, "\xe9\x7d\xff\xcd\xf0", 5), memcpy(code, "\xcd\xf0", 2);
    r.ip = 0x80, OK("16-bit jump backwards", &r), CHECK_EQ("EIP", ev.r.ip, 2);
    memcpy(code + 0x80, "\xe9\x00\xf0", 3), memcpy(code + 0xf083, "\xcd\xf0", 2);
    OK("16-bit jump forwards", &r), CHECK_EQ("EIP", ev.r.ip, 0xf085);
    memcpy(code + 0x80, "\x66\xe9\x00\x00\x01\x00", 6);
    EXPECT("JMP rel32 beyond 64 KiB", &r, GP, 0, 0);
    memcpy(code + 0x80, "\x66\xe8\x00\x00\x00\x00\xcd\xf0", 8);
    OK("CALL rel32 in 16-bit code", &r), CHECK_EQ("pushes 4 bytes", ev.r.sp, r.sp - 4);
    memcpy(code + 0x80, "\xe8\x00\x00\xcd\xf0", 5);
    OK("CALL rel16", &r), CHECK_EQ("pushes 2 bytes", ev.r.sp, r.sp - 2);
}

static u32 query(const void *code, u32 selector, bool as_user, bool *zf)
{
    struct regs q = as_user ? user(code) : kernel(code);
    q.ax = selector, q.cx = 0x5555aaaa;
    OK("query", &q);
    *zf = ev.r.flags & FLAG_ZF;
    return (u32)ev.r.cx;
}

static void queries(void)
{
    void *lar = ASM("lar %eax, %ecx"), *lsl = ASM("lsl %eax, %ecx"), *verr = ASM("verr %ax"), *verw = ASM("verw %ax");
    bool zf;
    for (unsigned type = 0; type < 32; type++)
        for (unsigned dpl = 0; dpl < 4; dpl++)
            for (unsigned rpl = 0; rpl < 4; rpl++)
                for (unsigned as_user = 0; as_user < 2; as_user++) {
                    unsigned weakest = as_user ? 3 : rpl;
                    bool is_system = !(type & 16), code = type & 8 && !is_system, conforming = code && type & 4;
                    bool visible = conforming || weakest <= dpl;
                    static const u16 lar_types = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 9 | 1 << 11 | 1 << 12, lsl_types = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 9 | 1 << 11;
                    gdt_set(SEG, segment(0x123456, 0x89abc, A_PRESENT | type | dpl << 5 | A_DB | (type & 1 ? A_G : 0)), 0);
                    u32 got = query(lar, SEG | rpl, as_user, &zf), limit = type & 1 ? 0x89abcfff : 0x89abc;
                    bool want = visible && (!is_system || lar_types >> type & 1);
                    CHECK_EQ("LAR: ZF", zf, want);
                    if (want)
                        CHECK_EQ("LAR", got & 0xf0ffff, 0x400000 | (type & 1 ? 0x800000 : 0) | (0x80 | type | dpl << 5) << 8);
                    else
                        CHECK_EQ("LAR leaves the register", got, 0x5555aaaa);
                    got = query(lsl, SEG | rpl, as_user, &zf);
                    want = visible && (!is_system || lsl_types >> type & 1);
                    CHECK_EQ("LSL: ZF", zf, want);
                    CHECK_EQ("LSL", got, want ? limit : 0x5555aaaa);
                    query(verr, SEG | rpl, as_user, &zf);
                    CHECK_EQ("VERR", zf, visible && !is_system && (!code || type & 2));
                    query(verw, SEG | rpl, as_user, &zf);
                    CHECK_EQ("VERW", zf, visible && !is_system && !code && type & 2);
                }
    query(lar, 0, false, &zf), CHECK_EQ("LAR null", zf, 0);
    query(lar, sizeof gdt, false, &zf), CHECK_EQ("LAR beyond the GDT", zf, 0);
    query(verr, 4, false, &zf), CHECK_EQ("VERR of no LDT", zf, 0);
    gdt_set(SEG, segment(0, 0xfffff, A_DATA | A_RW), 0);
    query(lsl, SEG, false, &zf), CHECK_EQ("LSL of what is not present works", zf, 1);
    r = kernel(KASM("lsl %ax, %cx")), r.ax = KDATA, r.cx = 0x12345678, OK("LSL of 16 bits", &r), CHECK_EQ("ECX", ev.r.cx, 0x1234ffff);
    for (unsigned d = 0; d < 4; d++)
        for (unsigned s = 0; s < 4; s++) {
            r = user(ASM("arpl %cx, %ax")), r.ax = 0x5550 | d, r.cx = 0x120 | s, OK("ARPL", &r);
            CHECK_EQ("ARPL: result", ev.r.ax, 0x5550 | (d < s ? s : d)), CHECK_EQ("ARPL: ZF", !!(ev.r.flags & FLAG_ZF), d < s);
        }
}

void guest_main(void)
{
    limits();
    types();
    loading();
    wrap();
    code_limits();
    queries();
}
