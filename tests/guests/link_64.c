/* Code that goes on elsewhere by known jumps, over and over, which translators link: what it leads to is written to, mapped away and back
 * with INVLPG, CR3 and CR4.PGE, as a global page and not, loses the right to be run, and is reached through another mapping.  A region of the LLVM tier is to have a loop's first half, another one its
 * second, or template code: where they are linked is where something happens. */
#include "lib/guest.h"

enum { PAGES = 4 /* each test's own, for of what was tried once no region is made again */, TESTS = 19 };
static u8 memory[TESTS][PAGES * 4096] __attribute__((aligned(4096))), *code;
static unsigned test;
static u64 pdpt[512] __attribute__((aligned(4096))), pd[512] __attribute__((aligned(4096))), pt[512] __attribute__((aligned(4096)));
enum { P = 1, W = 2, U = 4, PS = 128, G = 256, FIRST = 0x100 /* where a part begins in its page */, PADS = 23 /* jumps in a row: with one more behind, as many blocks as a region takes that is made of what the code says */, ROUNDS = 60 };
#define NX (1ull << 63)
#define ALIAS (1ull << 39)                 /* pages of our own, from entry 1 of the top table on */
typedef u32 (*function)(u32 rounds);

static u64 *entry(unsigned page) { return &pt[16 * test + page]; }
static void map(unsigned page, const u8 *to, u64 flags) { *entry(page) = (word)to | P | W | flags; }
static u8 *at(unsigned page) { return (u8 *)(ALIAS + (16 * test + page) * 4096ull); }

static void map_begin(void)
{
    u64 *top = (u64 *)(get_cr3() & ~0xfffull);
    pd[0] = (word)pt | P | W | U;
    pdpt[0] = (word)pd | P | W | U;
    top[1] = (word)pdpt | P | W | U;
    set_cr3(get_cr3());
}

static void begin(void)
{
    code = memory[++test];
    for (unsigned page = 0; page < PAGES; page++)
        map(page, code + page * 4096, 0), invlpg(at(page));
}

/* --- Code, written to the pages as they lie in memory for the addresses that it will have */
static u8 *put_jump(u8 *p, const u8 *here, const u8 *to)
{
    u32 d = (u32)(to - (here + 5));
    p[0] = 0xe9;
    memcpy(p + 1, &d, 4);
    return p + 5;
}

static u8 *put_pads(u8 *p)
{
    for (unsigned n = 0; n < PADS; n++)
        *p++ = 0xeb, *p++ = 0; /* jmp to the next */
    return p;
}

/* add $value, %eax; many jumps, unless it is to be one block; on to `to`. */
static void put_part(u8 *to_memory, const u8 *address, bool one_block, u32 value, const u8 *to)
{
    u8 *p = to_memory;
    *p++ = 0x05;
    memcpy(p, &value, 4);
    p = one_block ? p + 4 : put_pads(p + 4);
    put_jump(p, address + (p - to_memory), to);
}

/* xor %eax,%eax; 1: jumps; on to `part`, which comes back to TAIL: dec %edi; jnz 1b; ret. */
enum { TAIL = 0x80 };
static void put_loop(u8 *to_memory, const u8 *address, const u8 *part)
{
    u8 *p = to_memory;
    *p++ = 0x31, *p++ = 0xc0;
    p = put_pads(p);
    p = put_jump(p, address + (p - to_memory), part);
    p = to_memory + TAIL;
    u32 back = 2u - (TAIL + 8u);
    *p++ = 0xff, *p++ = 0xcf, *p++ = 0x0f, *p++ = 0x85;
    memcpy(p, &back, 4);
    p[4] = 0xc3;
}

static u32 loop(void) { return ((function)(word)at(0))(ROUNDS); }

/* --- What happens to the part */
static void written(unsigned page)
{
    unsigned wrong = 0;
    begin();
    put_loop(code, at(0), at(page) + FIRST);
    put_part(code + page * 4096 + FIRST, at(page) + FIRST, false, 1, at(0) + TAIL);
    for (u32 n = 1; n < 8; n++) {
        memcpy(code + page * 4096 + FIRST + 1, &n, 4); /* by its other address */
        for (unsigned k = 0; k < 3; k++)
            wrong += loop() != n * ROUNDS;
        memcpy(at(page) + FIRST + 1, &n, 4); /* by its own, with the same: nothing changes */
        wrong += loop() != n * ROUNDS;
    }
    CHECK_EQ("a target that is written to", wrong, 0);
}

enum how { BY_INVLPG, BY_CR3, BY_PGE };
/* No region is made a second time of what was written to meanwhile and is there again. */
static void leave_to_template(unsigned page)
{
    u8 *value = code + page * 4096 + FIRST + 1, before = *value;
    map(1, code + page * 4096, 0);
    invlpg(at(1));
    for (unsigned n = 0; n < 3; n++)
        loop();
    *(volatile u8 *)value = before + 1;
    *(volatile u8 *)value = before;
}

static void remapped(enum how how, bool in_template)
{
    unsigned wrong = 0;
    begin();
    put_loop(code, at(0), at(1) + FIRST);
    for (unsigned page = 1; page < 3; page++)
        put_part(code + page * 4096 + FIRST, at(1) + FIRST, in_template, page, at(0) + TAIL);
    for (unsigned page = 1; in_template && page < 3; page++)
        leave_to_template(page);
    for (unsigned n = 0; n < 12; n++) {
        unsigned page = 1 + n % 2;
        map(1, code + page * 4096, 0);
        if (how == BY_CR3)
            set_cr3(get_cr3());
        else
            invlpg(at(1));
        for (unsigned k = 0; k < 2; k++)
            wrong += loop() != page * ROUNDS;
    }
    map(1, code + 4096, 0);
    invlpg(at(1));
    CHECK_EQ(how == BY_CR3 ? "a target that is mapped away, by CR3" : "a target that is mapped away, by INVLPG", wrong, 0);
}

/* The target lies over a page's end, and only the second page is another. */
static void straddling(void)
{
    const unsigned split = 4096 - 3; /* in the immediate */
    unsigned wrong = 0;
    begin();
    put_loop(code, at(0), at(1) + split);
    put_part(code + 4096 + split, at(1) + split, false, 0x01000001, at(0) + TAIL);
    memcpy(code + 3 * 4096, code + 2 * 4096, 4096);
    code[3 * 4096 + 1] = 3; /* the value's highest byte */
    for (unsigned n = 0; n < 12; n++) {
        map(2, code + (2 + n % 2) * 4096, 0);
        invlpg(at(2));
        for (unsigned k = 0; k < 2; k++)
            wrong += loop() != (n % 2 ? 0x03000001u : 0x01000001u) * ROUNDS;
    }
    map(2, code + 2 * 4096, 0);
    invlpg(at(2));
    CHECK_EQ("a target over a page's end", wrong, 0);
}

/* Two places in linear memory have one loop; each leads to a part of its own, at the same distance. */
static void twice(void)
{
    unsigned wrong = 0;
    begin();
    put_loop(code, at(0), at(1) + FIRST);
    put_part(code + 4096 + FIRST, at(1) + FIRST, false, 5, at(0) + TAIL);
    put_part(code + 2 * 4096 + FIRST, at(1) + FIRST, false, 7, at(0) + TAIL);
    map(8, code, 0);
    map(9, code + 2 * 4096, 0);
    invlpg(at(8)), invlpg(at(9));
    for (unsigned n = 0; n < 8; n++) {
        wrong += loop() != 5 * ROUNDS;
        wrong += ((function)(word)at(8))(ROUNDS) != 7 * ROUNDS;
    }
    CHECK_EQ("one loop at two addresses", wrong, 0);
}

/* A page's last byte, called by a register: RET in one page, NOP in the other, behind which there is MOV. */
static void last_byte(void)
{
    static const u8 behind[] = {0xb8, 2, 0, 0, 0, 0xc3};
    unsigned wrong = 0;
    begin();
    code[2 * 4096 - 1] = 0xc3, code[4 * 4096 - 1] = 0x90;
    memcpy(code + 2 * 4096, behind, sizeof behind);
    for (unsigned n = 0; n < 24; n++) {
        u32 ax = 1;
        if (!(n & 1)) {
            map(1, code + (n & 2 ? 3 : 1) * 4096, 0);
            invlpg(at(1));
        }
        asm volatile("call *%1" : "+a"(ax) : "r"(at(2) - 1) : "memory");
        wrong += ax != (n & 2 ? 2 : 1);
    }
    CHECK_EQ("a page's last byte", wrong, 0);
}

/* Not there: the fault is at the target, and the loop goes on behind it. */
static void absent(void)
{
    struct regs r;
    unsigned wrong = 0;
    begin();
    put_loop(code, at(0), at(1) + FIRST);
    put_part(code + 4096 + FIRST, at(1) + FIRST, false, 9, at(0) + TAIL);
    for (unsigned n = 0; n < 6; n++) {
        wrong += loop() != 9 * ROUNDS;
        *entry(1) = 0;
        invlpg(at(1));
        r = kernel(at(0));
        r.di = ROUNDS;
        EXPECT("the target is mapped away", &r, PF, 0x10 /* a fetch */, at(1) + FIRST - at(0));
        map(1, code + 4096, n % 2 ? G : 0);
        invlpg(at(1));
    }
    CHECK_EQ("a target that is not there", wrong, 0);
}

/* --- Global pages, which a CR3 write leaves: template code is linked to these */
static void begin_global(u64 flags)
{
    begin();
    put_loop(code, at(0), at(1) + FIRST);
    for (unsigned page = 1; page < 3; page++)
        put_part(code + page * 4096 + FIRST, at(1) + FIRST, true, page, at(0) + TAIL);
    set_cr4(get_cr4() | CR4_PGE);
    map(0, code, G | flags), map(1, code + 4096, G | flags);
    invlpg(at(0)), invlpg(at(1));
}

static void end_global(void) { set_cr4(get_cr4() & ~(word)CR4_PGE); }

static unsigned loop_wrong(unsigned page)
{
    unsigned wrong = 0;
    for (unsigned k = 0; k < 3; k++) {
        wrong += loop() != page * ROUNDS;
        set_cr3(get_cr3());
    }
    return wrong;
}

static void global_remapped(enum how how)
{
    static const char *const what[] = {"a global target, INVLPG", "a target with G and without CR4.PGE, CR3", "a global target, CR4.PGE"};
    unsigned wrong = 0;
    begin_global(0);
    if (how == BY_CR3)
        end_global();
    for (unsigned n = 0; n < 12; n++) {
        map(1, code + (1 + n % 2) * 4096, G);
        switch (how) {
        case BY_INVLPG: invlpg(at(1)); break;
        case BY_CR3: set_cr3(get_cr3()); break;
        case BY_PGE: set_cr4(get_cr4() ^ CR4_PGE), set_cr4(get_cr4() ^ CR4_PGE); break;
        }
        wrong += loop_wrong(1 + n % 2);
    }
    end_global();
    CHECK_EQ(what[how], wrong, 0);
}

static void global_large(void)
{
    u8 *const area = (u8 *)0x1000000, *const big = (u8 *)(ALIAS + 0x200000);
    unsigned wrong = 0;
    begin_global(0);
    put_loop(code, at(0), big + FIRST);
    for (unsigned n = 0; n < 2; n++)
        put_part(area + n * 0x200000 + FIRST, big + FIRST, true, 1 + n, at(0) + TAIL);
    for (unsigned n = 0; n < 12; n++) {
        pd[1] = ((word)area + n % 2 * 0x200000) | P | W | PS | G;
        invlpg(big + 0x123456);
        wrong += loop_wrong(1 + n % 2);
    }
    end_global();
    CHECK_EQ("a target in a large page", wrong, 0);
}

static void global_rights(void)
{
    const struct { u64 flags; word error; } ways[] = {{P | W | U | G | NX, 0x15}, {P | W | G, 0x15}, {0, 0x14}};
    struct regs r = user(ASM("call *%rax"));
    begin_global(U);
    r.ax = (word)at(0), r.di = ROUNDS;
    for (unsigned n = 0; n < 9; n++) {
        OK("a user's loop", &r);
        CHECK_EQ("a user's loop", (u32)ev.r.ax, ROUNDS);
        *entry(1) = (word)(code + 4096) | ways[n % 3].flags;
        invlpg(at(1));
        EXPECT("the target may not be run any more", &r, PF, ways[n % 3].error, ANYWHERE);
        CHECK_EQ("where", ev.r.ip, at(1) + FIRST);
        map(1, code + 4096, G | U);
        invlpg(at(1));
    }
    end_global();
}

/* The part maps the other one in its own place: xor %r8,%rsi; mov %rsi,(%rdx); invlpg (%rcx), and what follows is the other's. */
static void own_page(void)
{
    const u8 swap[] = {0x4c, 0x31, 0xc6, 0x48, 0x89, 0x32, 0x0f, 0x01, 0x39};
    begin_global(0);
    for (unsigned page = 1; page < 3; page++) {
        memcpy(code + page * 4096 + FIRST, swap, sizeof swap);
        put_part(code + page * 4096 + FIRST + sizeof swap, at(1) + FIRST + sizeof swap, true, page, at(0) + TAIL);
    }
    u64 first = *entry(1), second = first ^ (word)(code + 4096) ^ (word)(code + 2 * 4096);
    for (unsigned n = 0; n < 3; n++)
        CHECK_EQ("a target that remaps itself",
                 ((u32 (*)(u32, u64, u64 *, u8 *, u64))(word)at(0))(ROUNDS, first, entry(1), at(1), first ^ second), ROUNDS / 2 * 3);
    end_global();
}

/* Two address spaces: page 0 is global in both, the target is each one's own. */
static void two_spaces(bool tagged)
{
    static u64 tables[4][512] __attribute__((aligned(4096)));
    word cr3 = get_cr3(), cr4 = get_cr4(), spaces[2] = {cr3, (word)tables[0]};
    unsigned wrong = 0;
    begin_global(0);
    map(1, code + 4096, 0);
    memcpy(tables[0], (void *)(cr3 & ~0xffful), 4096);
    memcpy(tables[3], pt, 4096);
    tables[0][1] = (word)tables[1] | P | W, tables[1][0] = (word)tables[2] | P | W, tables[2][0] = (word)tables[3] | P | W;
    tables[3][entry(1) - pt] = (word)(code + 2 * 4096) | P | W;
    if (tagged) {
        set_cr4(get_cr4() | CR4_PCIDE);
        for (unsigned n = 0; n < 2; n++)
            spaces[n] |= n + 1, set_cr3(spaces[n]), spaces[n] |= 1ull << 63; /* that keeps what is tagged */
    }
    for (unsigned n = 0; n < 12; n++) {
        set_cr3(spaces[n % 2]);
        for (unsigned k = 0; k < 3; k++)
            wrong += loop() != (1 + n % 2) * ROUNDS;
    }
    set_cr3(cr3);
    set_cr4(cr4);
    CHECK_EQ(tagged ? "two address spaces with PCIDs" : "two address spaces", wrong, 0);
}

void guest_main(void)
{
    map_begin();
    written(0);
    written(1);
    remapped(BY_INVLPG, true);
    remapped(BY_INVLPG, false);
    remapped(BY_CR3, true);
    remapped(BY_CR3, false);
    straddling();
    twice();
    absent();
    last_byte();
    global_remapped(BY_INVLPG);
    global_remapped(BY_CR3);
    global_remapped(BY_PGE);
    global_large();
    global_rights();
    own_page();
    two_spaces(false);
    if (has(1, 2, 17))
        two_spaces(true);
    finish();
}
