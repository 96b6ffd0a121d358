/* Self-modifying code in 64-bit mode: what is written runs next, whoever writes it, through which mapping, over which
 * page's end, and however often (SDM 3A 11.6: stores and fetches by one linear address need nothing in between; through
 * another one, a jump). */
#include "lib/guest.h"

static u8 code[3 * 4096] __attribute__((aligned(4096)));
static u64 pdpt[512] __attribute__((aligned(4096))), pd[512] __attribute__((aligned(4096))), pt[512] __attribute__((aligned(4096)));
enum { P = 1, W = 2 };
#define ALIAS (1ull << 39)                 /* pages of our own, from entry 1 of the top table on */

typedef int8_t s8;
typedef int32_t s32;
typedef long long s64;
typedef u64 (*function)(void);
static u64 call(const u8 *at) { return ((function)(word)at)(); }

static void map(unsigned page, u64 physical) { pt[page] = physical | P | W; invlpg((void *)(ALIAS + page * 4096ull)); }

static void alias_init(void)
{
    u64 *top = (u64 *)(get_cr3() & ~0xfffull);
    pd[0] = (word)pt | P | W;
    pdpt[0] = (word)pd | P | W;
    top[1] = (word)pdpt | P | W;
    set_cr3(get_cr3());
}

/* mov $value, %eax; ret */
static void put_return(u8 *at, u32 value)
{
    at[0] = 0xb8;
    memcpy(at + 1, &value, 4);
    at[5] = 0xc3;
}

static void versions(void)
{
    unsigned wrong = 0;
    for (u32 i = 0; i < 3000; i++) {
        put_return(code, i);
        wrong += call(code) != i;
    }
    CHECK_EQ("a new immediate each time", wrong, 0);
    for (u32 i = 0; i < 300; i++) {
        put_return(code, i % 3);
        wrong += call(code) != i % 3;
    }
    CHECK_EQ("three versions by turns", wrong, 0);
    for (u32 i = 0; i < 300; i++) {
        put_return(code, i % 20);
        wrong += call(code) != i % 20;
    }
    CHECK_EQ("twenty versions by turns", wrong, 0);
    for (u32 i = 0; i < 100; i++) {
        code[5] = 0xc3;
        wrong += call(code) != 19;
    }
    CHECK_EQ("the same byte again", wrong, 0);
    for (u32 i = 0; i < 100; i++) { /* the length of what runs changes: xor %eax,%eax, or nop; nop */
        static const u8 both[2][6] = {{0x31, 0xc0, 0xff, 0xc0, 0xc3, 0}, {0x31, 0xc0, 0x90, 0x90, 0x90, 0xc3}};
        memcpy(code + 64, both[i & 1], 6);
        wrong += call(code + 64) != !(i & 1);
    }
    CHECK_EQ("other instructions by turns", wrong, 0);
}

/* Each kind of operand changes before each call: they are read when the code runs, from the third version on. */
static void operands(void)
{
    static const u8 text[] = {
        0x31, 0xc0,                               /* 00 xor %eax,%eax          */
        0x48, 0x05, 0, 0, 0, 0,                   /* 02 add $imm32,%rax        */
        0x48, 0x83, 0xe8, 0,                      /* 08 sub $imm8,%rax         */
        0x48, 0x8d, 0x80, 0, 0, 0, 0,             /* 0c lea disp32(%rax),%rax  */
        0x48, 0x8d, 0x40, 0,                      /* 13 lea disp8(%rax),%rax   */
        0x66, 0x35, 0, 0,                         /* 17 xor $imm16,%ax         */
        0x48, 0xb9, 0, 0, 0, 0, 0, 0, 0, 0,       /* 1b mov $imm64,%rcx        */
        0x48, 0x01, 0xc8,                         /* 25 add %rcx,%rax          */
        0xb9, 0, 0, 0, 0,                         /* 28 mov $imm32,%ecx        */
        0x48, 0x31, 0xc8,                         /* 2d xor %rcx,%rax          */
        0x48, 0xc7, 0xc1, 0, 0, 0, 0,             /* 30 mov $imm32,%rcx        */
        0x48, 0x01, 0xc8,                         /* 37 add %rcx,%rax          */
        0xc1, 0xc0, 0,                            /* 3a rol $imm8,%eax         */
        0xc3,
    };
    unsigned wrong = 0;
    u64 x = 1;
    memcpy(code, text, sizeof text);
    for (u32 i = 0; i < 300; i++) {
        x = x * 6364136223846793005ull + 1442695040888963407ull;
        s32 a = (s32)(x >> 8), b = (s32)(x >> 16), c = (s32)(x >> 24);
        s8 d = (s8)(x >> 40), e = (s8)(x >> 48);
        u16 f = (u16)(x >> 30);
        u8 n = x >> 60;
        u64 g = x * 3;
        memcpy(code + 0x04, &a, 4), memcpy(code + 0x0b, &d, 1), memcpy(code + 0x0f, &b, 4), memcpy(code + 0x16, &e, 1);
        memcpy(code + 0x19, &f, 2), memcpy(code + 0x1d, &g, 8), memcpy(code + 0x29, &c, 4), memcpy(code + 0x33, &b, 4);
        code[0x3c] = n;
        u64 sum = (((u64)(s64)a - (u64)(s64)d + (u64)(s64)b + (u64)(s64)e) ^ f) + g, want = (sum ^ (u32)c) + (u64)(s64)b;
        want = (u32)((u32)want << n | (u64)(u32)want >> (32 - n));
        wrong += call(code) != want;
    }
    CHECK_EQ("operands of each kind", wrong, 0);
}

/* Many functions side by side; each is changed while its neighbours, some in the same 64 bytes, stay. */
static void neighbours(void)
{
    unsigned wrong = 0;
    for (u32 n = 0; n < 500; n++)
        put_return(code + 8 * n, n);
    for (u32 round = 0; round < 4; round++)
        for (u32 n = 0; n < 500; n++) {
            if (n % 7 == round)
                put_return(code + 8 * n, n + 1000 * round);
            wrong += call(code + 8 * n) != (n % 7 <= round ? n + 1000 * (n % 7) : n);
        }
    CHECK_EQ("neighbours", wrong, 0);
}

/* Data beside code: lock incl 32(%rip) and so on, in one page, in one 64 bytes. */
static void data_beside(void)
{
    static const u8 text[] = {0xff, 0x05, 0x0a, 0, 0, 0, 0x8b, 0x05, 0x04, 0, 0, 0, 0xc3}; /* incl 16(at); mov 16(at),%eax; ret */
    unsigned wrong = 0;
    memset(code, 0, 4096);
    memcpy(code, text, sizeof text);
    for (u32 i = 1; i <= 1000; i++)
        wrong += call(code) != i;
    CHECK_EQ("a counter in the code's own page", wrong, 0);
}

/* Code that changes what follows in the same straight line. */
static void ahead(void)
{
    struct regs r = user(ASM("movb $7, 772f+1(%rip); 772: mov $1, %eax"));
    OK("an immediate just ahead", &r);
    CHECK_EQ("its value", ev.r.ax, 7);
    r = user(ASM("mov $3, %ecx; 773: movb %cl, 772f+1(%rip); nop; 772: mov $9, %eax; add %eax, %ebx; loop 773b"));
    r.bx = 0;
    OK("in a loop", &r);
    CHECK_EQ("the sum", ev.r.bx, 6);
    r = user(ASM("lea 772f(%rip), %rdi; mov $0x90, %al; mov $5, %ecx; rep stosb; 772: mov $1, %ebx"));
    r.bx = 5;
    OK("REP STOS over what follows", &r);
    CHECK_EQ("it is gone", ev.r.bx, 5);
    r = user(ASM("lea 772f(%rip), %rdi; lea 773f(%rip), %rsi; mov $5, %ecx; rep movsb; 772: mov $1, %ebx; jmp 774f; 773: mov $6, %ebx; 774:"));
    OK("REP MOVS over what follows", &r);
    CHECK_EQ("it is the other", ev.r.bx, 6);
    r = user(ASM("lea 772f+8(%rip), %rsp; mov $0x9090909090909090, %rax; push %rax; 772: mov $1, %ebx; nop; nop; nop; mov $2, %ecx"));
    r.bx = 5;
    OK("PUSH over what follows", &r);
    CHECK_EQ("it is gone", ev.r.bx, 5);
    CHECK_EQ("the next is there", ev.r.cx, 2);
    r = user(ASM("lock addl $4, 772f+1(%rip); 772: mov $1, %ebx"));
    OK("LOCK ADD just ahead", &r);
    CHECK_EQ("its value", ev.r.bx, 5);
    r = user(ASM("mov $0x30, %eax; xchg %al, 772f+1(%rip); 772: mov $1, %ebx"));
    OK("XCHG just ahead", &r);
    CHECK_EQ("its value", ev.r.bx, 0x30);
    CHECK_EQ("the old one", (u8)ev.r.ax, 1);
}

/* A function over a page's end; then only one of its pages, and that by a store that lies over the end too. */
static void over_the_end(void)
{
    u8 *f = code + 4096 - 3;
    unsigned wrong = 0;
    for (u32 i = 0; i < 200; i++) {
        put_return(f, i << 8 | i);
        wrong += call(f) != (i << 8 | i);
    }
    CHECK_EQ("both pages", wrong, 0);
    for (u32 i = 0; i < 200; i++) {
        u64 all = 0xc300000000b8ull | (u64)(i * 0x010203) << 8;
        *(volatile u64 *)(word)f = all; /* one store over the end */
        wrong += call(f) != i * 0x010203;
    }
    CHECK_EQ("one store over the end", wrong, 0);
    for (u32 i = 0; i < 200; i++) {
        code[4096] = (u8)i; /* the second page alone: bits 16..23 */
        wrong += (call(f) >> 16 & 0xff) != (u8)i;
    }
    CHECK_EQ("the second page", wrong, 0);
}

static void aliases(void)
{
    u8 *there = (u8 *)ALIAS;
    unsigned wrong = 0;
    map(0, (word)code);
    map(1, (word)code);
    put_return(code + 256, 1);
    for (u32 i = 0; i < 300; i++) {
        put_return(there + 256 + (i & 1) * 4096, i);
        wrong += call(code + 256) != i;
        wrong += call(there + 256 + (i & 2) * 2048) != i;
    }
    CHECK_EQ("written through an alias", wrong, 0);
    /* Two pages of code behind one address. */
    put_return(code + 256, 100);
    put_return(code + 4096 + 256, 200);
    for (u32 i = 0; i < 200; i++) {
        map(0, (word)code + (i & 1) * 4096);
        wrong += call(there + 256) != 100 + 100 * (i & 1);
    }
    CHECK_EQ("remapped by turns", wrong, 0);
    /* A function over the end of the alias' first page, whose second page changes. */
    map(0, (word)code), map(1, (word)code + 4096);
    put_return(there + 4096 - 3, 0x11223344);
    memcpy(code + 8192, code + 4096, 16);
    code[8192] = 0x99; /* bits 16..23 */
    for (u32 i = 0; i < 200; i++) {
        map(1, (word)code + 4096 + (i & 1) * 4096);
        wrong += call(there + 4096 - 3) != (i & 1 ? 0x11993344 : 0x11223344);
    }
    CHECK_EQ("its second page remapped by turns", wrong, 0);
}

/* fw_cfg's DMA puts "QEMU" over four NOPs: as instructions, push %rcx; push %r13. */
static void dma(void)
{
    static const u8 text[] = {0x48, 0x89, 0xe2, 0x90, 0x90, 0x90, 0x90, 0x48, 0x89, 0xd0, 0x48, 0x29, 0xe0, 0x48, 0x89, 0xd4, 0xc3};
    static volatile u32 request[4] __attribute__((aligned(16)));
    memcpy(code, text, sizeof text); /* mov %rsp,%rdx; nop*4; mov %rdx,%rax; sub %rsp,%rax; mov %rdx,%rsp; ret */
    for (int i = 0; i < 3; i++)
        CHECK_EQ("before DMA", call(code), 0);
    request[0] = __builtin_bswap32(0 << 16 | 8 | 2); /* select the signature, read */
    request[1] = __builtin_bswap32(4);
    request[2] = 0;
    request[3] = __builtin_bswap32((u32)(word)code + 3);
    outl(0x514, 0);
    outl(0x518, __builtin_bswap32((u32)(word)request));
    CHECK_EQ("DMA is done", request[0], 0);
    CHECK_EQ("after DMA", call(code), 16);
}

void guest_main(void)
{
    alias_init();
    versions();
    operands();
    neighbours();
    data_beside();
    ahead();
    over_the_end();
    aliases();
    dma();
    finish();
}
