/* Code that changes: itself, in the same block, behind a jump, on another page, through another mapping, by string
 * instructions and by a fault's way; instructions over a page's edge; the same bytes in several modes. */
#include "lib/guest.h"

static struct regs r;
enum { P = 1, W = 2, U = 4, WINDOW = 0x8000000000ull >> 39 };
extern u64 boot_pml4[512];
static u64 pdpt[512] __attribute__((aligned(4096))), pd[512] __attribute__((aligned(4096))), pt[512] __attribute__((aligned(4096)));
static u8 pages[8][4096] __attribute__((aligned(4096)));
#define AT(n) ((u8 *)0x8000000000ull + 4096 * (n))

static void map(unsigned n, void *page, u64 rights)
{
    boot_pml4[1] = (word)pdpt | P | W | U, pdpt[0] = (word)pd | P | W | U, pd[0] = (word)pt | P | W | U;
    pt[n] = (word)page | rights;
    invlpg(AT(n));
}
static void put(void *at, const void *code, unsigned size) { memcpy(at, code, size); }
static struct regs run_at(void *at) { struct regs s = user(at); return s; }

/* MOV EAX, n; RET, many times over, each time another n and each time called. */
static void patched_function(void)
{
    u8 *f = pages[0];
    put(f, "\xb8\0\0\0\0\xc3", 6);
    u32 sum = 0;
    for (u32 i = 0; i < 2000; i++) {
        memcpy(f + 1, &i, 4);
        u32 v;
        asm volatile("call *%1" : "=a"(v) : "r"(f) : "memory");
        sum += v == i;
    }
    CHECK_EQ("a function whose constant changes", sum, 2000);
    /* two functions 64 bytes apart, one patched while the other is called */
    put(f + 64, "\xb8\x07\0\0\0\xc3", 6);
    sum = 0;
    for (u32 i = 0; i < 2000; i++) {
        memcpy(f + 1, &i, 4);
        u32 a, b;
        asm volatile("call *%1" : "=a"(a) : "r"(f) : "memory");
        asm volatile("call *%1" : "=a"(b) : "r"(f + 64) : "memory");
        sum += a == i && b == 7;
    }
    CHECK_EQ("and its neighbour that does not", sum, 2000);
}

static void same_block(void)
{
    map(0, pages[0], P | W | U);
    /* MOV BYTE [RIP+1], 2Ah; MOV EAX, 0 -> its constant is written right before it runs */
    put(pages[0], "\xc6\x05\x01\0\0\0\x2a\xb8\0\0\0\0\xcd\xf0", 14);
    r = run_at(AT(0)), OK("the next instruction", &r), CHECK_EQ("EAX", ev.r.ax, 42);
    OK("again, changed already", &r), CHECK_EQ("EAX", ev.r.ax, 42);
    /* loop: INC DWORD [RIP-4-...], the operand of a MOV in the same loop */
    r = user(ASM("mov $10, %ecx; 1: incb 2f + 1(%rip); 2: mov $0, %eax; dec %ecx; jnz 1b"));
    OK("an operand that counts up", &r), CHECK_EQ("EAX", ev.r.ax, 10);
    r = user(ASM("lea 1f(%rip), %rdi; mov $0x90, %al; mov $6, %ecx; rep stosb; 1: mov $1, %eax; nop; nop; mov %ecx, %eax"));
    OK("REP STOSB over what follows", &r), CHECK_EQ("the MOV is gone: AL", ev.r.ax & 0xff, 0);
    r = user(ASM("lea 1f(%rip), %rdi; lea 2f(%rip), %rsi; mov $5, %ecx; rep movsb; 1: mov $1, %eax; int $0xf0; 2: mov $2, %eax"));
    OK("REP MOVSB over what follows", &r), CHECK_EQ("EAX", ev.r.ax, 2);
    r = user(ASM("lea 1f(%rip), %rdi; mov $0x9090909090909090, %rax; lock xchg %rax, (%rdi); xor %ecx, %ecx; 1: inc %ecx; inc %ecx; inc %ecx; inc %ecx;"));
    OK("XCHG over what follows", &r), CHECK_EQ("ECX", ev.r.cx, 0);
    r = user(ASM("lea 1f(%rip), %rsp; add $8, %rsp; mov $0x9090909090909090, %rax; xor %ecx, %ecx; push %rax; 1: inc %ecx; inc %ecx; inc %ecx; inc %ecx;"));
    OK("PUSH over what follows", &r), CHECK_EQ("ECX", ev.r.cx, 0);
    r = user(ASM("lea 1f(%rip), %rdi; pcmpeqb %xmm0, %xmm0; movdqu 2f(%rip), %xmm0; xor %ecx, %ecx; movdqu %xmm0, (%rdi); 1: .rept 8; inc %ecx; .endr; int $0xf0; 2: .fill 16, 1, 0x90"));
    OK("MOVDQU over what follows", &r), CHECK_EQ("ECX", ev.r.cx, 0);
}

static void aliases(void)
{
    map(0, pages[0], P | U), map(1, pages[0], P | W | U);
    put(pages[0], "\xc6\x05\xfa\x0f\0\0\x2a\xb8\0\0\0\0\xcd\xf0", 14); /* the store goes through the second mapping: 4096 further */
    put(pages[0] + 2, "\x01\x10\0\0", 4);
    r = run_at(AT(0)), OK("through another mapping", &r), CHECK_EQ("EAX", ev.r.ax, 42);
    put(pages[0], "\xb8\x01\0\0\0\xcd\xf0", 7);
    OK("by the kernel", &r), CHECK_EQ("EAX", ev.r.ax, 1);
    put(pages[0] + 1, "\x02", 1);
    OK("one byte of it", &r), CHECK_EQ("EAX", ev.r.ax, 2);
    put(pages[0] + 6, "\xf1", 1); /* INT F1h: no gate for ring 3 */
    EXPECT("its last byte", &r, GP, 0xf1 * 8 + 2, 5);
    /* data next to code: not seen as a change, but kept */
    put(pages[0], "\xff\x05\x3a\0\0\0\x8b\x05\x34\0\0\0\xcd\xf0", 14), memset(pages[0] + 64, 0, 8); /* INC DWORD [RIP+..]; MOV EAX, the same */
    map(0, pages[0], P | W | U);
    for (u32 i = 1; i <= 100; i++)
        OK("a counter on the code's page", &r), CHECK_EQ("EAX", ev.r.ax, i);
}

static void edges(void)
{
    map(0, pages[0], P | W | U), map(1, pages[1], P | W | U), map(2, pages[2], P | W | U);
    for (unsigned before = 1; before < 5; before++) { /* MOV EAX, imm32 with so many bytes on the first page */
        u8 code[7] = {0xb8, 1, 2, 3, 4, 0xcd, 0xf0};
        put(pages[0] + 4096 - before, code, before), put(pages[1], code + before, 7 - before);
        map(1, pages[1], P | W | U);
        r = run_at(AT(1) - before), OK("over the edge", &r), CHECK_EQ("EAX", ev.r.ax, 0x04030201);
        code[4] = 9, put(pages[1], code + before, 7 - before);
        OK("its second half changed", &r), CHECK_EQ("EAX", ev.r.ax, 0x09030201);
        code[1] = 8, put(pages[0] + 4096 - before, code, before), put(pages[1], code + before, 7 - before);
        OK("its first half changed", &r), CHECK_EQ("EAX", ev.r.ax, 0x09030208);
        code[4] = 0x55, put(pages[3], code + before, 7 - before), map(1, pages[3], P | W | U);
        OK("its second page is another", &r), CHECK_EQ("EAX", ev.r.ax, 0x55030208);
        pt[1] = 0, invlpg(AT(1));
        EXPECT("its second page is gone", &r, PF, 4 | 16, 0), CHECK_EQ("CR2", ev.cr2, (word)AT(1));
        map(1, pages[3], P | W);
        EXPECT("its second page is the kernel's", &r, PF, 1 | 4 | 16, 0), CHECK_EQ("CR2", ev.cr2, (word)AT(1));
        map(1, pages[3], P | W | U | 1ull << 63);
        EXPECT("its second page is NX", &r, PF, 1 | 4 | 16, 0), CHECK_EQ("CR2", ev.cr2, (word)AT(1));
    }
    map(1, pages[1], P | W | U);
    put(pages[0] + 4095, "\xeb", 1), put(pages[1], "\xfd", 1), put(pages[0] + 4094, "\x90", 1); /* JMP to itself - 1... */
    put(pages[0] + 4095, "\x74", 1), put(pages[1], "\x10\xcd\xf0", 3), put(pages[1] + 0x11, "\xcd\xf0", 2);
    r = run_at(AT(1) - 1), OK("Jcc over the edge, not taken", &r), CHECK_EQ("RIP", ev.r.ip, (word)AT(1) + 3);
    r.flags |= FLAG_ZF, OK("taken", &r), CHECK_EQ("RIP", ev.r.ip, (word)AT(1) + 0x13);
    put(pages[0] + 4095, "\xf3", 1), put(pages[1], "\xa4\xcd\xf0", 3); /* REP MOVSB */
    r = run_at(AT(1) - 1), r.si = (word)AT(2), r.di = (word)AT(2) + 100, r.cx = 10, OK("REP MOVSB over the edge", &r), CHECK_EQ("RCX", ev.r.cx, 0);
    put(pages[0] + 4090, "\x66\x66\x66\x66\x66\x66", 6), memset(pages[1], 0x66, 9), pages[1][9] = 0x90; /* 16 bytes */
    r = run_at(AT(1) - 6), EXPECT("an instruction too long over the edge", &r, GP, 0, 0);
    memset(pages[0] + 4081, 0x66, 15), pt[1] = 0, invlpg(AT(1));
    r = run_at(AT(1) - 15), EXPECT("15 bytes of prefixes: too long before the second page counts", &r, GP, 0, 0);
    put(pages[0] + 4094, "\x0f\x0b", 2), r = run_at(AT(1) - 2), EXPECT("UD2 at the end", &r, UD, NONE, 0);
}

static void modes(void)
{
    /* 48 FF C0: INC RAX; in 32-bit code DEC EAX, INC EAX */
    static u8 code[] __attribute__((section(".udata"))) = {0x48, 0xff, 0xc0, 0xcd, 0xf0};
    for (unsigned i = 0; i < 3; i++) {
        r = user(code), r.ax = 0x10, OK("64-bit code", &r), CHECK_EQ("RAX", ev.r.ax, 0x11);
        r.cs = UCODE32, OK("the same as 32-bit code", &r), CHECK_EQ("EAX", ev.r.ax, 0x10);
    }
    gdt_set(FREE, segment((u32)(word)code, 0xffff, A_PRESENT | A_DPL3 | A_CODE | A_RW), 0);
    r = user((void *)0), r.cs = FREE | 3, r.ax = 0xffff, OK("the same as 16-bit code", &r), CHECK_EQ("AX", ev.r.ax & 0xffff, 0xffff);
    static u8 code2[] __attribute__((section(".udata"))) = {0x40, 0x90, 0xb8, 1, 2, 3, 4, 0xcd, 0xf0}; /* REX NOP / INC EAX, NOP */
    r = user(code2), OK("64-bit code", &r), CHECK_EQ("RAX", ev.r.ax, 0x04030201);
    r.cs = UCODE32, OK("32-bit code", &r), CHECK_EQ("EAX", ev.r.ax, 0x04030201);
}

/* PC-relative code at many addresses: one page's bytes behind several mappings. */
static void many_places(void)
{
    put(pages[4], "\x48\x8d\x05\0\0\0\0\xcd\xf0", 9); /* LEA RAX, [RIP] */
    for (unsigned n = 0; n < 64; n++)
        map(16 + n, pages[4], P | W | U);
    for (unsigned round = 0; round < 3; round++)
        for (unsigned n = 0; n < 64; n++)
            r = run_at(AT(16 + n)), OK("the same page elsewhere", &r), CHECK_EQ("RAX", ev.r.ax, (word)AT(16 + n) + 7);
    pages[4][7] = 0x90, pages[4][8] = 0xcd, pages[4][9] = 0xf0;
    for (unsigned n = 0; n < 64; n += 7)
        r = run_at(AT(16 + n)), OK("changed for all", &r), CHECK_EQ("RIP", ev.r.ip, (word)AT(16 + n) + 10);
}

void guest_main(void)
{
    patched_function();
    same_block();
    aliases();
    edges();
    modes();
    many_places();
}
