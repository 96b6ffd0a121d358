/* Paging in 32-bit mode: none, two levels with and without 4 MiB pages and PSE-36, PAE with its PDPTEs, NX; rights, A and
 * D, reserved bits, error codes, global pages; switching between the shapes (SDM 3A 4.3, 4.4). */
#include "lib/guest.h"

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100, E_P = 1, E_W = 2, E_U = 4, E_RSVD = 8, E_I = 16 };
#define NX (1ull << 63)
#define WINDOW 0xc0000000u
static u32 pd2[1024] __attribute__((aligned(4096))), pt2[1024] __attribute__((aligned(4096)));
static u64 pdpt[4] __attribute__((aligned(32))), other_pdpt[4] __attribute__((aligned(32))), pdae[4][512] __attribute__((aligned(4096))), ptae[512] __attribute__((aligned(4096)));
static u32 page[1024] __attribute__((aligned(4096))), other[1024] __attribute__((aligned(4096)));
static struct regs r;
static word cr0, cr4;

static void flush(void) { set_cr3(get_cr3()); }
static struct regs reader(bool as_user) { struct regs s = as_user ? user(ASM("mov (%eax), %ecx")) : kernel(KASM("mov (%eax), %ecx")); s.ax = WINDOW; return s; }
static struct regs writer(bool as_user) { struct regs s = as_user ? user(ASM("mov %cl, 8(%eax)")) : kernel(KASM("mov %cl, 8(%eax)")); s.ax = WINDOW; return s; }
static struct regs runner(bool as_user) { return as_user ? user((void *)WINDOW) : kernel((void *)WINDOW); }
static void put_code(void) { memcpy(page, "\xcd\xf0", 2); }

static word wanted(bool as_user, char what, bool user_page, bool writable, bool no_execute, bool wp, word i_bit)
{
    word e = E_P | (as_user ? E_U : 0) | (what == 'w' ? E_W : 0) | (what == 'x' ? i_bit : 0);
    if ((as_user && !user_page) || (what == 'w' && !writable && (as_user || wp)) || (what == 'x' && no_execute))
        return e;
    return NONE;
}

static void try_all(bool user_page, bool writable, bool no_execute, word i_bit)
{
    for (unsigned way = 0; way < 12; way++) {
        bool as_user = way & 1, wp = way >= 6;
        char what = "rwx"[way % 6 / 2];
        set_cr0(wp ? get_cr0() | CR0_WP : get_cr0() & ~(word)CR0_WP);
        r = what == 'r' ? reader(as_user) : what == 'w' ? writer(as_user) : runner(as_user);
        word e = wanted(as_user, what, user_page, writable, no_execute, wp, i_bit);
        EXPECT("rights", &r, e == NONE ? DONE : PF, e, ANYWHERE);
        if (e != NONE)
            CHECK_EQ("CR2", ev.cr2, WINDOW + (what == 'w' ? 8 : 0));
    }
}

/* One to one in pages of 4 KiB below 8 MiB, and the window. */
static void two_level_tables(void)
{
    static u32 low[2][1024] __attribute__((aligned(4096)));
    memset(pd2, 0, sizeof pd2);
    for (unsigned i = 0; i < 2048; i++)
        low[i >> 10][i & 1023] = i << 12 | P | W | U;
    pd2[0] = (u32)low[0] | P | W | U, pd2[1] = (u32)low[1] | P | W | U;
    pd2[WINDOW >> 22] = (u32)pt2 | P | W | U;
    memset(pt2, 0, sizeof pt2);
    pt2[0] = (u32)page | P | W | U;
}

static void two_levels(void)
{
    two_level_tables();
    set_cr3((u32)pd2);
    set_cr0(cr0 | CR0_PG);
    for (unsigned mix = 0; mix < 8; mix++) {
        u32 outer = mix & 4 ? P | (mix & 1 ? W : 0) | (mix & 2 ? U : 0) : P | W | U, inner = mix & 4 ? P | W | U : P | (mix & 1 ? W : 0) | (mix & 2 ? U : 0);
        pd2[WINDOW >> 22] = (u32)pt2 | outer, pt2[0] = (u32)page | inner, put_code(), flush();
        try_all(mix & 2, mix & 1, false, 0);
    }
    pd2[WINDOW >> 22] = (u32)pt2 | P | W | U, pt2[0] = (u32)page | P | W | U, flush();
    r = reader(true), OK("read", &r), CHECK_EQ("A", pt2[0] & (A | D), A), CHECK_EQ("A of the directory", pd2[WINDOW >> 22] & (A | D), A);
    r = writer(true), OK("write", &r), CHECK_EQ("D", pt2[0] & (A | D), A | D);
    pt2[0] = 0, flush();
    r = reader(true), EXPECT("absent page", &r, PF, E_U, 0);
    pd2[WINDOW >> 22] = 0, flush();
    r = writer(false), EXPECT("absent table", &r, PF, E_W, 0);
    /* PS means nothing without CR4.PSE */
    pd2[WINDOW >> 22] = (u32)pt2 | P | W | U | PS, pt2[0] = (u32)page | P | W | U, page[0] = 0x1234, flush();
    r = reader(true), OK("PS without PSE", &r), CHECK_EQ("value", ev.r.cx, 0x1234);
    r = user(ASM("mov (%eax), %ecx")), r.ax = WINDOW - 1, pd2[(WINDOW >> 22) - 1] = 0, EXPECT("over two tables, the first absent", &r, PF, E_U, 0), CHECK_EQ("CR2", ev.cr2, WINDOW - 1);
    /* base plus offset wraps at 4 GiB: no offset may (SDM 3A 5.3), so a base lets it */
    pd2[1023] = (u32)pt2 | P | W | U, pt2[1023] = (u32)other | P | W | U, other[1023] = 0xaabbccdd, flush();
    gdt_set(FREE, segment(0xfffff000, 0xfffff, A_PRESENT | A_DPL3 | A_DATA | A_RW | A_G | A_DB), 0);
    *(u16 *)0 = 0x1122;
    r = user(ASM("mov %fs:(%eax), %ecx")), r.fs = FREE + 3, r.ax = 0xffe, OK("a read that wraps at 4 GiB", &r), CHECK_EQ("value", ev.r.cx, 0x1122aabb);
    r = user(ASM("mov %ecx, %fs:(%eax)")), r.fs = FREE + 3, r.ax = 0xffe, r.cx = 0x55667788, OK("a write that wraps at 4 GiB", &r);
    CHECK_EQ("high", other[1023], 0x7788ccdd), CHECK_EQ("low", *(volatile u16 *)0, 0x5566);
    /* instructions over the page's edge */
    pt2[1] = 0, flush();
    memcpy((u8 *)page + 4094, "\xb8\x11", 2);
    r = user((void *)(WINDOW + 4094)), EXPECT("an instruction whose second page is absent", &r, PF, E_U, 0), CHECK_EQ("CR2 is the second page", ev.cr2, WINDOW + 4096);
    pt2[1] = (u32)other | P | W | U, flush();
    memcpy(other, "\x22\x33\x44\xcd\xf0", 5);
    OK("and present", &r), CHECK_EQ("EAX", ev.r.ax, 0x44332211);
    pt2[1] = (u32)page | P | W | U, flush();
    memcpy(page, "\x55\x66\x77\xcd\xf0", 5);
    OK("and another page", &r), CHECK_EQ("EAX", ev.r.ax, 0x77665511);
    memcpy((u8 *)page + 4095, "\x90", 1);
    r = user((void *)(WINDOW + 4095)), pt2[1] = 0, flush(), EXPECT("the last byte of a page is its own", &r, PF, E_U, 1);
    set_cr0(cr0);
}

static void large_pages(void)
{
    if (!has(1, 3, 3))
        return;
    two_level_tables();
    set_cr4(cr4 | CR4_PSE);
    set_cr3((u32)pd2);
    set_cr0(cr0 | CR0_PG);
    page[3] = 0xfeed;
    pd2[WINDOW >> 22] = 0 | P | W | U | PS, flush();
    r = reader(true), r.ax = WINDOW + (u32)&page[3], OK("4 MiB page", &r), CHECK_EQ("value", ev.r.cx, 0xfeed), CHECK_EQ("A", pd2[WINDOW >> 22] & (A | D), A);
    r = writer(true), r.ax = WINDOW + (u32)&page[3], OK("write", &r), CHECK_EQ("D", pd2[WINDOW >> 22] & (A | D), A | D);
    for (unsigned mix = 0; mix < 4; mix++) {
        memcpy((void *)0x3ff000, "\xcd\xf0", 2);
        pd2[WINDOW >> 22] = P | PS | (mix & 1 ? W : 0) | (mix & 2 ? U : 0), flush();
        r = reader(true), EXPECT("rights", &r, mix & 2 ? DONE : PF, mix & 2 ? NONE : E_P | E_U, ANYWHERE);
        r = writer(true), r.ax += 0x3ff100, EXPECT("rights", &r, mix == 3 ? DONE : PF, mix == 3 ? NONE : E_P | E_U | E_W, ANYWHERE);
        r = runner(false), r.ip += 0x3ff000, OK("rights", &r);
    }
    if (has(1, 3, 17)) {
        u32 width[4];
        cpuid(0x80000000, 0, width);
        unsigned bits = 36;
        if (width[0] >= 0x80000008)
            cpuid(0x80000008, 0, width), bits = width[0] & 0xff;
        pd2[WINDOW >> 22] = P | W | U | PS | 1u << 21, flush();
        r = reader(true), EXPECT("PSE-36: bit 21 is reserved", &r, PF, E_P | E_U | E_RSVD, 0);
        if (bits < 40) {
            pd2[WINDOW >> 22] = P | W | U | PS | 1u << (13 + bits - 32), flush();
            EXPECT("PSE-36: a bit above the physical address's width", &r, PF, E_P | E_U | E_RSVD, 0);
        }
        pd2[WINDOW >> 22] = P | W | U | PS | 1u << 13, flush();
        r.ax = WINDOW + (u32)&page[3], OK("PSE-36: an address above 4 GiB", &r), CHECK("which is no RAM here", ev.r.cx != page[3]);
    } else {
        pd2[WINDOW >> 22] = P | W | U | PS | 1u << 13, flush();
        r = reader(true), EXPECT("without PSE-36 bit 13 is reserved", &r, PF, E_P | E_U | E_RSVD, 0);
    }
    if (has(1, 3, 13)) {
        set_cr4(cr4 | CR4_PSE | CR4_PGE);
        page[0] = 1, other[0] = 2;
        pd2[WINDOW >> 22] = (u32)pt2 | P | W | U, pt2[0] = (u32)page | P | W | U | G, flush();
        r = reader(true), OK("global page", &r);
        pt2[0] = (u32)other | P | W | U | G, flush();
        OK("may outlive CR3", &r), CHECK("either", ev.r.cx == 1 || ev.r.cx == 2);
        invlpg((void *)WINDOW), OK("INVLPG", &r), CHECK_EQ("value", ev.r.cx, 2);
        pt2[0] = (u32)page | P | W | U | G;
        set_cr4(cr4 | CR4_PSE), OK("CR4.PGE", &r), CHECK_EQ("value", ev.r.cx, 1);
    }
    set_cr0(cr0);
    set_cr4(cr4);
}

static void pae_tables(void)
{
    static u64 *const windows = pdae[WINDOW >> 30];
    memset(pdae, 0, sizeof pdae), memset(ptae, 0, sizeof ptae);
    for (unsigned i = 0; i < 4; i++)
        pdpt[i] = (u32)pdae[i] | P;
    for (unsigned i = 0; i < 16; i++)
        pdae[0][i] = (u64)i << 21 | P | W | U | PS;
    windows[0] = (u32)ptae | P | W | U;
    ptae[0] = (u32)page | P | W | U;
}

static void pae(void)
{
    if (!has(1, 3, 6)) {
        r = kernel(KASM("mov %eax, %cr4")), r.ax = cr4 | CR4_PAE, EXPECT("CR4.PAE without the feature", &r, GP, 0, 0);
        return;
    }
    bool nx = has(0x80000001, 3, 20);
    u64 *window = pdae[WINDOW >> 30];
    pae_tables();
    if (nx)
        wrmsr(0xc0000080, rdmsr(0xc0000080) | 1 << 11);
    set_cr4(cr4 | CR4_PAE);
    set_cr3((u32)pdpt);
    set_cr0(cr0 | CR0_PG);
    for (unsigned mix = 0; mix < 16; mix++) {
        if (mix & 8 && !nx)
            continue;
        u64 rights = P | (mix & 1 ? W : 0) | (mix & 2 ? U : 0) | (mix & 8 ? NX : 0), all = P | W | U;
        window[0] = (u32)ptae | (mix & 4 ? rights : all), ptae[0] = (u32)page | (mix & 4 ? all : rights), put_code(), flush();
        try_all(mix & 2, mix & 1, mix & 8, nx ? E_I : 0);
    }
    window[0] = (u32)ptae | P | W | U, ptae[0] = (u32)page | P | W | U, flush();
    r = writer(true), OK("write", &r), CHECK_EQ("A and D", ptae[0] & (A | D), A | D), CHECK_EQ("A of the directory", window[0] & (A | D), A);
    for (unsigned bit = 40; bit < 63; bit++) {
        ptae[0] = (u32)page | P | W | U | 1ull << bit, flush();
        r = reader(true), EXPECT("reserved bit", &r, PF, E_P | E_U | E_RSVD, 0);
    }
    ptae[0] = (u32)page | P | W | U, window[0] = (u32)ptae | P | W | U | 1ull << 62, flush();
    EXPECT("reserved bit of the directory", &r, PF, E_P | E_U | E_RSVD, 0);
    window[0] = 0 | P | W | U | PS, page[3] = 0xbead, flush();
    r = reader(true), r.ax = WINDOW + ((u32)&page[3] & 0x1fffff), window[0] |= (u32)page & 0xffe00000, flush();
    OK("2 MiB page", &r), CHECK_EQ("value", ev.r.cx, 0xbead);
    window[0] = 0x2000 | P | W | U | PS, flush();
    EXPECT("2 MiB page: address bits below", &r, PF, E_P | E_U | E_RSVD, 0);
    /* PDPTEs are registers: they change by MOV CR3 alone (SDM 3A 4.4.1) */
    window[0] = (u32)ptae | P | W | U, page[0] = 5, flush();
    pdpt[WINDOW >> 30] = 0, invlpg((void *)WINDOW);
    r = reader(true), OK("a PDPTE that changed in memory alone", &r), CHECK_EQ("value", ev.r.cx, 5);
    flush();
    EXPECT("MOV CR3 loads it", &r, PF, E_U, 0);
    r = kernel(KASM("mov %eax, %cr3")), r.ax = (u32)pdpt;
    static const u64 bad[] = {1ull << 1, 1ull << 2, 1ull << 5, 1ull << 6, 1ull << 7, 1ull << 8, 1ull << 40, 1ull << 51, 1ull << 52, 1ull << 62, 1ull << 63};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        pdpt[WINDOW >> 30] = (u32)pdae[3] | P | bad[i];
        EXPECT("MOV CR3: a reserved bit in a PDPTE", &r, GP, 0, 0);
        CHECK_EQ("CR3 is as it was", get_cr3(), (u32)pdpt);
        pdpt[WINDOW >> 30] = bad[i];
        OK("a reserved bit in a PDPTE that is not present", &r);
    }
    pdpt[WINDOW >> 30] = (u32)pdae[3] | P;
    memcpy(other_pdpt, pdpt, sizeof pdpt);
    other_pdpt[WINDOW >> 30] = 0;
    r.ax = (u32)other_pdpt, OK("another PDPT", &r);
    r = reader(true), EXPECT("another PDPT", &r, PF, E_U, 0);
    r = kernel(KASM("mov %eax, %cr3")), r.ax = (u32)pdpt | 0x18, OK("PCD and PWT of CR3", &r);
    r = reader(true), OK("the first again", &r);
    /* CR0 and CR4 load them too */
    set_cr0(cr0), pdpt[WINDOW >> 30] |= 2;
    r = kernel(KASM("mov %eax, %cr0")), r.ax = cr0 | CR0_PG, EXPECT("CR0.PG: a reserved bit in a PDPTE", &r, GP, 0, 0), CHECK_EQ("CR0", get_cr0() & CR0_PG, 0);
    pdpt[WINDOW >> 30] &= ~2ull;
    OK("CR0.PG", &r);
    set_cr0(cr0), set_cr4(cr4);
    if (nx)
        wrmsr(0xc0000080, rdmsr(0xc0000080) & ~(1ull << 11));
}

static void none(void)
{
    page[0] = 0x777;
    r = kernel(KASM("mov (%eax), %ecx")), r.ax = (u32)page, OK("no paging", &r), CHECK_EQ("value", ev.r.cx, 0x777);
    two_level_tables();
    pt2[0] = (u32)other | P | W | U, other[0] = 0x888;
    set_cr3((u32)pd2), set_cr0(cr0 | CR0_PG);
    r.ax = WINDOW, OK("paging", &r), CHECK_EQ("value", ev.r.cx, 0x888);
    r.ax = (u32)page, OK("paging, one to one", &r), CHECK_EQ("value", ev.r.cx, 0x777);
    set_cr0(cr0);
    r.ax = (u32)other, OK("no paging again", &r), CHECK_EQ("value", ev.r.cx, 0x888);
}

void guest_main(void)
{
    cr0 = get_cr0(), cr4 = get_cr4();
    none();
    two_levels();
    large_pages();
    pae();
    none();
}
