/* 4-level paging: rights of user and supervisor with WP, NX, SMEP and SMAP; A and D bits; reserved bits; pages of
 * 4 KiB, 2 MiB and 1 GiB; global pages, PCID and INVPCID; what the error code of #PF says (SDM 3A chapter 4). */
#include "lib/guest.h"

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100, E_P = 1, E_W = 2, E_U = 4, E_RSVD = 8, E_I = 16 };
#define NX (1ull << 63)
#define WINDOW 0x8000000000ull /* PML4 entry 1 is the test's */
extern u64 boot_pml4[512], boot_pdpt[512], boot_pd[4][512];
static u64 pdpt[512] __attribute__((aligned(4096))), pd[512] __attribute__((aligned(4096))), pt[512] __attribute__((aligned(4096)));
static u64 page[512] __attribute__((aligned(4096))), other[512] __attribute__((aligned(4096)));
static struct regs r;
static u32 features7[4], features1[4], features81[4];
#define HAS(words, reg, bit) (words[reg] >> (bit) & 1)

static void flush(void) { set_cr3(get_cr3()); invlpg((void *)WINDOW); }
/* The window's page with these rights at each level. */
static void map(u64 l4, u64 l3, u64 l2, u64 l1)
{
    boot_pml4[1] = (word)pdpt | l4;
    pdpt[0] = (word)pd | l3;
    pd[0] = (word)pt | l2;
    pt[0] = (word)page | l1;
    flush();
}
static void put_code(void) { memcpy(page, "\xcd\xf0", 2); } /* INT F0h */

static struct regs reader(bool as_user) { struct regs s = as_user ? user(ASM("mov (%rax), %rcx")) : kernel(KASM("mov (%rax), %rcx")); s.ax = WINDOW; return s; }
static struct regs writer(bool as_user) { struct regs s = as_user ? user(ASM("mov %cl, 8(%rax)")) : kernel(KASM("mov %cl, 8(%rax)")); s.ax = WINDOW; return s; }
static struct regs runner(bool as_user) { struct regs s = as_user ? user((void *)WINDOW) : kernel((void *)WINDOW); return s; }

/* What the manual says of an access (SDM 3A 4.6.1), told here a second time in other words. */
static word wanted(bool as_user, char what, u64 rights, bool no_execute, word cr0, word cr4, bool ac)
{
    word e = E_P | (as_user ? E_U : 0) | (what == 'w' ? E_W : 0) | (what == 'x' ? E_I : 0);
    bool user_page = rights & U;
    if (as_user && !user_page)
        return e;
    if (what == 'w' && !(rights & W) && (as_user || cr0 & CR0_WP))
        return e;
    if (what == 'x' && (no_execute || (!as_user && user_page && cr4 & CR4_SMEP)))
        return e;
    if (what != 'x' && !as_user && user_page && cr4 & CR4_SMAP && !ac)
        return e;
    return NONE;
}

static void rights(void)
{
    word cr0 = get_cr0(), cr4 = get_cr4();
    word smep = HAS(features7, 1, 7) ? CR4_SMEP : 0, smap = HAS(features7, 1, 20) ? CR4_SMAP : 0;
    put_code();
    for (unsigned set = 0; set < 8; set++) {
        word now0 = set & 1 ? cr0 | CR0_WP : cr0 & ~(word)CR0_WP, now4 = cr4 | (set & 2 ? smep : 0) | (set & 4 ? smap : 0);
        set_cr0(now0);
        set_cr4(now4);
        for (unsigned mix = 0; mix < 4 * 8; mix++) {
            /* the rights of one level are taken away */
            u64 level[4] = {P | W | U, P | W | U, P | W | U, P | W | U};
            level[mix >> 3] = P | (mix & 1 ? W : 0) | (mix & 2 ? U : 0) | (mix & 4 ? NX : 0);
            map(level[0], level[1], level[2], level[3]);
            u64 all = level[0] & level[1] & level[2] & level[3];
            for (unsigned way = 0; way < 12; way++) {
                bool as_user = way & 1, ac = way >= 6;
                char what = "rwx"[way % 6 / 2];
                r = what == 'r' ? reader(as_user) : what == 'w' ? writer(as_user) : runner(as_user);
                r.flags |= ac ? FLAG_AC : 0;
                word e = wanted(as_user, what, all, mix & 4, now0, now4, ac);
                set_cr2(0);
                EXPECT("rights", &r, e == NONE ? DONE : PF, e, ANYWHERE);
                if (e != NONE)
                    CHECK_EQ("CR2", ev.cr2, WINDOW + (what == 'w' ? 8 : 0));
                else if (ev.vector == PF)
                    print("  user %u what %c mix %x set %x ac %u\n", as_user, what, mix, set, ac);
            }
        }
    }
    set_cr0(cr0 | CR0_WP);
    set_cr4(cr4);
}

static void not_present(void)
{
    map(P | W | U, P | W | U, P | W | U, 0);
    r = reader(true), EXPECT("absent page, read", &r, PF, E_U, 0);
    CHECK_EQ("CR2", ev.cr2, WINDOW);
    r = writer(true), EXPECT("absent page, write", &r, PF, E_U | E_W, 0);
    CHECK_EQ("CR2", ev.cr2, WINDOW + 8);
    r = runner(true), EXPECT("absent page, fetch", &r, PF, E_U | E_I, 0);
    r = reader(false), EXPECT("absent page, read at CPL 0", &r, PF, 0, 0);
    for (unsigned i = 0; i < 3; i++) {
        map(i == 0 ? 0 : P | W | U, i == 1 ? 0 : P | W | U, i == 2 ? 0 : P | W | U, P | W | U);
        r = reader(true), EXPECT("absent table", &r, PF, E_U, 0);
    }
    map(P | W | U, P | W | U, P | W | U, P | W | U);
    r = user(ASM("mov -3(%rax), %rcx")), r.ax = WINDOW + 4096;
    EXPECT("over a page's end: the second is absent", &r, PF, E_U, 0);
    CHECK_EQ("CR2 is the second page", ev.cr2, WINDOW + 4096);
    r = user(ASM("mov %rcx, -3(%rax)")), r.ax = WINDOW + 4096, r.cx = ~0ull;
    page[511] = 0;
    EXPECT("a write over a page's end", &r, PF, E_U | E_W, 0);
    CHECK_EQ("nothing was written", page[511], 0);
    pt[1] = (word)other | P | U;
    flush(), invlpg((void *)(WINDOW + 4096));
    EXPECT("a write over the end into a read-only page", &r, PF, E_P | E_U | E_W, 0);
    CHECK_EQ("nothing was written", page[511], 0);
    CHECK_EQ("CR2", ev.cr2, WINDOW + 4096);
    pt[1] |= W;
    invlpg((void *)(WINDOW + 4096));
    OK("a write over the end", &r);
    CHECK_EQ("low part", page[511], 0xffffff0000000000ull);
    CHECK_EQ("high part", other[0] & 0xffffffffffull, 0xffffffffffull);
    pt[1] = 0;
    invlpg((void *)(WINDOW + 4096));
}

static void reserved(void)
{
    u64 *entries[4] = {&boot_pml4[1], &pdpt[0], &pd[0], &pt[0]};
    u32 width[4];
    cpuid(0x80000008, 0, width);
    unsigned bits = width[0] & 0xff;
    for (unsigned level = 0; level < 4; level++) {
        for (unsigned bit = bits; bit < 52; bit++) {
            map(P | W | U, P | W | U, P | W | U, P | W | U);
            *entries[level] |= 1ull << bit;
            flush();
            r = reader(true), EXPECT("reserved address bit, with P in the error code", &r, PF, E_P | E_U | E_RSVD, 0);
        }
        map(P | W | U, P | W | U, P | W | U, P | W | U);
        *entries[level] |= 0x7full << 52 | 0xe00;
        flush();
        r = reader(true), OK("ignored bits", &r);
        *entries[level] = 1ull << 51 | U;
        flush();
        r = reader(true), EXPECT("reserved bits of what is not present do not count", &r, PF, E_U, 0);
    }
    map(P | W | U | PS, P | W | U, P | W | U, P | W | U);
    r = writer(true), EXPECT("PS in a PML4 entry", &r, PF, E_P | E_U | E_W | E_RSVD, 0);
    map(P | W | U, P | W | U, P | W | U, P | W | U);
    pd[0] = 0x2000 | P | W | U | PS;
    flush();
    r = reader(false), EXPECT("address bits below 2 MiB", &r, PF, E_P | E_RSVD, 0);
    u64 efer = rdmsr(0xc0000080);
    wrmsr(0xc0000080, efer & ~(1ull << 11));
    map(P | W | U, P | W | U, P | W | U, P | W | U | NX);
    r = reader(true), EXPECT("NX without EFER.NXE", &r, PF, E_P | E_U | E_RSVD, 0);
    put_code();
    r = runner(true), EXPECT("NX without EFER.NXE, fetch: no I bit unless SMEP", &r, PF, E_P | E_U | E_RSVD | (get_cr4() & CR4_SMEP ? E_I : 0), 0);
    wrmsr(0xc0000080, efer);
}

static void large(void)
{
    map(P | W | U, P | W | U, P | W | U, P | W | U);
    pd[0] = 0 | P | W | U | PS;
    flush();
    r = user(ASM("mov (%rax), %rcx")), r.ax = WINDOW + (word)page + 8, page[1] = 0x1234567890abcdefull;
    OK("2 MiB page", &r);
    CHECK_EQ("its contents", ev.r.cx, page[1]);
    r = user(ASM("mov %rcx, (%rax)")), r.ax = WINDOW + (word)page + 16, r.cx = 99;
    CHECK_EQ("D before", pd[0] & (A | D), A);
    OK("write into a 2 MiB page", &r);
    CHECK_EQ("memory", page[2], 99);
    CHECK_EQ("D after", pd[0] & (A | D), A | D);
    pd[0] = 0x1000 | P | W | U | PS; /* bit 12 is PAT */
    flush();
    r = user(ASM("mov (%rax), %rcx")), r.ax = WINDOW + (word)page + 8;
    OK("PAT of a 2 MiB page is no address bit", &r);
    CHECK_EQ("its contents", ev.r.cx, page[1]);
    if (HAS(features81, 3, 26)) {
        pdpt[0] = 0 | P | W | U | PS;
        flush();
        r.ax = WINDOW + (word)page + 8;
        OK("1 GiB page", &r);
        CHECK_EQ("its contents", ev.r.cx, page[1]);
        r = user(ASM("mov %rcx, (%rax)")), r.ax = WINDOW + (word)page + 24, r.cx = 77;
        OK("write into a 1 GiB page", &r);
        CHECK_EQ("memory", page[3], 77);
        CHECK_EQ("A and D", pdpt[0] & (A | D), A | D);
        pdpt[0] = 0x200000 | P | W | U | PS;
        flush();
        EXPECT("address bits below 1 GiB", &r, PF, E_P | E_U | E_W | E_RSVD, 0);
        pdpt[0] = 0 | P | W | U | PS;
        flush();
        OK("1 GiB page again", &r);
        pdpt[0] = 0;
        invlpg((void *)(WINDOW + 0x123000));
        EXPECT("INVLPG anywhere in it drops all of it", &r, PF, E_U | E_W, 0);
    } else {
        pdpt[0] = 0 | P | W | U | PS;
        flush();
        r = reader(true), EXPECT("PS in a PDPT entry without 1 GiB pages", &r, PF, E_P | E_U | E_RSVD, 0);
    }
}

static void accessed_dirty(void)
{
    map(P | W | U, P | W | U, P | W | U, P | W | U);
    r = reader(true), OK("read", &r);
    CHECK_EQ("A in the PML4 entry", boot_pml4[1] & (A | D), A);
    CHECK_EQ("A in the PDPT entry", pdpt[0] & (A | D), A);
    CHECK_EQ("A in the PD entry", pd[0] & (A | D), A);
    CHECK_EQ("A in the PT entry", pt[0] & (A | D), A);
    r = writer(true), OK("write after a read", &r);
    CHECK_EQ("D in the PT entry alone", pt[0] & (A | D), A | D);
    CHECK_EQ("not in the PD entry", pd[0] & D, 0);
    map(P | W | U, P | W | U, P | W | U, P | W | U);
    put_code();
    r = runner(true), OK("fetch", &r);
    CHECK_EQ("A by a fetch", pt[0] & (A | D), A);
    map(P | W | U, P | W | U, P | W | U, P | U);
    r = writer(true), EXPECT("a write that may not be", &r, PF, E_P | E_U | E_W, 0);
    CHECK_EQ("sets no D", pt[0] & D, 0);
    map(P | W | U, P | W | U, P | W | U, P | W | U);
    r = user(ASM("cmpxchg %rcx, (%rbx)")), r.bx = WINDOW, r.ax = page[0] + 1;
    OK("CMPXCHG that fails", &r);
    CHECK_EQ("writes all the same: D", pt[0] & D, D);
    map(P | W | U, P | W | U, P | W | U, P | W | U);
    r = user(ASM("prefetchnta (%rbx); verw (%rsp)")), r.bx = WINDOW, r.sp -= 8;
    OK("PREFETCH", &r);
    map(P | W | U, P | W | U, P | W | U, P | W | U);
    r = user(ASM("addl $0, (%rbx)")), r.bx = WINDOW;
    OK("ADD of zero", &r);
    CHECK_EQ("D", pt[0] & D, D);
    /* a D that software cleared is set again once the translation is dropped */
    pt[0] &= ~(u64)D;
    invlpg((void *)WINDOW);
    OK("again", &r);
    CHECK_EQ("D again", pt[0] & D, D);
}

/* A change of the tables that is not announced may or may not be seen; one that is, must be. */
static void invalidation(void)
{
    word cr4 = get_cr4();
    page[0] = 1, other[0] = 2;
    map(P | W | U, P | W | U, P | W | U, P | W | U);
    r = reader(true), OK("first page", &r);
    CHECK_EQ("first page", ev.r.cx, 1);
    pt[0] = (word)other | P | W | U;
    invlpg((void *)(WINDOW + 0xfff));
    OK("after INVLPG", &r);
    CHECK_EQ("after INVLPG", ev.r.cx, 2);
    pt[0] = (word)page | P | W | U;
    set_cr3(get_cr3());
    OK("after MOV CR3", &r);
    CHECK_EQ("after MOV CR3", ev.r.cx, 1);
    set_cr4(cr4 | CR4_PGE);
    map(P | W | U, P | W | U, P | W | U, P | W | U | G);
    OK("global page", &r);
    pt[0] = (word)other | P | W | U | G;
    set_cr4(cr4); /* changing PGE drops everything */
    OK("after CR4.PGE", &r);
    CHECK_EQ("after CR4.PGE", ev.r.cx, 2);
    set_cr4(cr4 | CR4_PGE);
    map(P | W | U, P | W | U, P | W | U, P | W | U | G);
    OK("global page", &r);
    pt[0] = (word)other | P | W | U | G;
    invlpg((void *)WINDOW);
    OK("INVLPG of a global page", &r);
    CHECK_EQ("INVLPG of a global page", ev.r.cx, 2);
    set_cr4(cr4);
    word cr0 = get_cr0();
    map(P | W | U, P | W | U, P | W | U, P | U);
    set_cr0(cr0 & ~(word)CR0_WP);
    r = writer(false), OK("read-only page without WP", &r);
    set_cr0(cr0 | CR0_WP);
    EXPECT("WP set: nothing is left over", &r, PF, E_P | E_W, 0);
    /* code: the same address, another page */
    map(P | W | U, P | W | U, P | W | U, P | W | U);
    memcpy(page, "\xb8\x01\0\0\0\xcd\xf0", 7), memcpy(other, "\xb8\x02\0\0\0\xcd\xf0", 7);
    r = runner(true), OK("code", &r);
    CHECK_EQ("code", ev.r.ax, 1);
    pt[0] = (word)other | P | W | U;
    invlpg((void *)WINDOW);
    OK("code after INVLPG", &r);
    CHECK_EQ("code after INVLPG", ev.r.ax, 2);
    memcpy(other, "\xb8\x03\0\0\0\xcd\xf0", 7);
    OK("code that was written through an alias", &r);
    CHECK_EQ("code that was written through an alias", ev.r.ax, 3);
    pt[0] |= NX;
    invlpg((void *)WINDOW);
    EXPECT("code that became NX", &r, PF, E_P | E_U | E_I, 0);
}

static void invpcid(u64 type, u64 pcid, u64 address)
{
    struct { u64 pcid, address; } d = {pcid, address};
    asm volatile("invpcid %1, %0" :: "r"(type), "m"(d) : "memory");
}

static void pcids(void)
{
    static u64 second[512] __attribute__((aligned(4096)));
    static u64 d[2];
    word cr3 = get_cr3(), cr4 = get_cr4();
    if (!HAS(features1, 2, 17))
        return;
    r = kernel(KASM("mov %rax, %cr4"));
    r.ax = cr4 | CR4_PCIDE;
    set_cr3(cr3 | 8);
    EXPECT("PCIDE with CR3[11:0] not 0", &r, GP, 0, 0);
    set_cr3(cr3);
    OK("PCIDE", &r);
    CHECK_EQ("CR4", get_cr4(), cr4 | CR4_PCIDE);
    memcpy(second, boot_pml4, sizeof second);
    page[0] = 1, other[0] = 2;
    map(P | W | U, P | W | U, P | W | U, P | W | U);
    r = reader(true), OK("under PCID 0", &r);
    static u64 pdpt2[512] __attribute__((aligned(4096))), pd2[512] __attribute__((aligned(4096))), pt2[512] __attribute__((aligned(4096)));
    second[1] = (word)pdpt2 | P | W | U, pdpt2[0] = (word)pd2 | P | W | U, pd2[0] = (word)pt2 | P | W | U, pt2[0] = (word)other | P | W | U;
    set_cr3((word)second | 5);
    CHECK_EQ("CR3", get_cr3(), (word)second | 5);
    OK("under PCID 5", &r);
    CHECK_EQ("under PCID 5", ev.r.cx, 2);
    set_cr3(cr3 | 1ull << 63);
    CHECK_EQ("bit 63 is not kept", get_cr3(), cr3);
    OK("back under PCID 0, not flushed", &r);
    CHECK_EQ("back under PCID 0, not flushed", ev.r.cx, 1);
    r = kernel(KASM("mov %rax, %cr0")), r.ax = get_cr0() & 0x7fffffff;
    EXPECT("PG cannot be cleared under PCIDE", &r, GP, 0, 0);
    if (HAS(features7, 1, 10)) {
        pt[0] = (word)other | P | W | U;
        invpcid(0, 0, WINDOW);
        r = reader(true), OK("INVPCID 0", &r), CHECK_EQ("INVPCID 0", ev.r.cx, 2);
        pt[0] = (word)page | P | W | U;
        invpcid(1, 0, 0);
        OK("INVPCID 1", &r), CHECK_EQ("INVPCID 1", ev.r.cx, 1);
        pt[0] = (word)other | P | W | U;
        invpcid(3, 0, 0);
        OK("INVPCID 3", &r), CHECK_EQ("INVPCID 3", ev.r.cx, 2);
        set_cr4(get_cr4() | CR4_PGE);
        pt[0] = (word)page | P | W | U | G;
        invpcid(2, 0, 0);
        OK("INVPCID 2", &r), CHECK_EQ("INVPCID 2", ev.r.cx, 1);
        pt[0] = (word)other | P | W | U | G;
        invpcid(2, 0, 0);
        OK("INVPCID 2 takes global pages", &r), CHECK_EQ("INVPCID 2 takes global pages", ev.r.cx, 2);
        r = kernel(KASM("invpcid (%rbx), %rax")), r.bx = (word)d;
        r.ax = 4, EXPECT("INVPCID 4", &r, GP, 0, 0);
        r.ax = 1ull << 32, EXPECT("INVPCID 2^32", &r, GP, 0, 0);
        d[0] = 0x1000, r.ax = 1, EXPECT("INVPCID 1: PCID of 13 bits", &r, GP, 0, 0);
        d[0] = 0, d[1] = 1ull << 47, r.ax = 0, EXPECT("INVPCID 0: non-canonical", &r, GP, 0, 0);
        d[1] = 0, r.bx = 1ull << 47, EXPECT("INVPCID: non-canonical operand", &r, GP, 0, 0);
        r = user(ASM("invpcid (%rbx), %rax")), r.bx = (word)ustack_area, EXPECT("INVPCID at CPL 3", &r, GP, 0, 0);
        set_cr4(cr4);
        r = kernel(KASM("invpcid (%rbx), %rax")), r.bx = (word)d, d[0] = 1, r.ax = 1;
        EXPECT("INVPCID 1 of PCID 1 without PCIDE", &r, GP, 0, 0);
        d[0] = 0, OK("INVPCID 1 of PCID 0 without PCIDE", &r);
    }
    set_cr4(cr4);
    set_cr3(cr3);
}

/* Accesses that are a supervisor's whatever CPL is: descriptor tables, TSS (SDM 3A 4.6). */
static void implicit(void)
{
    word cr4 = get_cr4();
    static struct table at_window;
    put_code();
    map(P | W | U, P | W | U, P | W | U, P | W);
    memcpy(page, gdt, sizeof gdt);
    at_window = (struct table){sizeof gdt - 1, WINDOW};
    asm volatile("lgdt %0" :: "m"(at_window));
    r = user(ASM("mov %eax, %ds")), r.ax = UDATA;
    OK("a user's segment load reads a supervisor's GDT", &r);
    asm volatile("lgdt %0" :: "m"(gdt_table));
    if (HAS(features7, 1, 20)) { /* an LDT in user memory */
        map(P | W | U, P | W | U, P | W | U, P | W | U);
        page[0] = segment(0, 0xfffff, A_PRESENT | A_DPL3 | A_DATA | A_RW | A_ACCESSED | A_G | A_DB);
        gdt_set(FREE, segment((u32)WINDOW, 0xff, A_PRESENT | 2), WINDOW >> 32);
        asm volatile("lldt %0" :: "r"((u16)FREE));
        r = user(ASM("mov %eax, %ds")), r.ax = 7;
        OK("an LDT in user memory", &r);
        set_cr4(cr4 | CR4_SMAP);
        EXPECT("SMAP: reading a descriptor is implicitly a supervisor's", &r, PF, E_P, 0);
        CHECK_EQ("CR2", ev.cr2, WINDOW);
        r.flags |= FLAG_AC;
        EXPECT("SMAP: AC is not asked for implicit accesses", &r, PF, E_P, 0);
        r = kernel(KASM("mov %eax, %ds")), r.ax = 7, r.flags |= FLAG_AC;
        EXPECT("SMAP: nor at CPL 0", &r, PF, E_P, 0);
        set_cr4(cr4);
        asm volatile("lldt %0" :: "r"((u16)0));
    }
    /* a supervisor's stack that is read by IRET and far RET under SMAP, with and without AC */
    if (HAS(features7, 1, 20)) {
        map(P | W | U, P | W | U, P | W | U, P | W | U);
        u64 *frame = page + 256;
        frame[0] = (word)ASM("nop"), frame[1] = UCODE, frame[2] = FLAG_FIXED, frame[3] = (word)ustack_area + 512, frame[4] = UDATA;
        set_cr4(cr4 | CR4_SMAP);
        r = kernel(KASM("iretq")), r.sp = WINDOW + 2048;
        EXPECT("IRET reads a user page under SMAP", &r, PF, E_P, 0);
        r.flags |= FLAG_AC;
        OK("IRET reads a user page under SMAP with AC", &r);
        page[258] = (word)ustack_area + 512, page[259] = UDATA;
        r = kernel(KASM("lretq")), r.sp = WINDOW + 2048;
        EXPECT("far RET reads a user page under SMAP", &r, PF, E_P, 0);
        r.flags |= FLAG_AC;
        OK("far RET reads a user page under SMAP with AC", &r);
        r = kernel(KASM("stac; mov (%rax), %rcx; clac; mov (%rax), %rcx")), r.ax = WINDOW;
        EXPECT("STAC opens, CLAC closes", &r, PF, E_P, 9);
        r = user(ASM("stac")), EXPECT("STAC at CPL 3", &r, UD, NONE, 0);
        set_cr4(cr4);
    }
}

static void control(void)
{
    word cr0 = get_cr0(), cr4 = get_cr4();
    r = kernel(KASM("mov %rax, %cr0"));
    r.ax = cr0 & ~1ull, EXPECT("PG without PE", &r, GP, 0, 0);
    r.ax = (cr0 & ~0x40000000ull) | 0x20000000, EXPECT("NW without CD", &r, GP, 0, 0);
    r.ax = cr0 | 1ull << 32, EXPECT("CR0 above 32 bits", &r, GP, 0, 0);
    r.ax = cr0 & 0x7fffffff, EXPECT("PG cleared in 64-bit code", &r, GP, 0, 0);
    r = kernel(KASM("mov %rax, %cr4"));
    r.ax = cr4 & ~(u64)CR4_PAE, EXPECT("PAE cleared in long mode", &r, GP, 0, 0);
    r.ax = cr4 | 1ull << 31, EXPECT("reserved bit of CR4", &r, GP, 0, 0);
    r.ax = cr4 | 1ull << 33, EXPECT("high bit of CR4", &r, GP, 0, 0);
    r = kernel(KASM("mov %rax, %cr3"));
    r.ax = get_cr3() | 1ull << 51, EXPECT("reserved bit of CR3", &r, GP, 0, 0);
    r = kernel(KASM("mov %rax, %cr8; mov %cr8, %rcx"));
    r.ax = 15, OK("CR8", &r), CHECK_EQ("CR8", ev.r.cx, 15);
    r.ax = 0, OK("CR8", &r), CHECK_EQ("CR8", ev.r.cx, 0);
    r.ax = 16, EXPECT("CR8 above 15", &r, GP, 0, 0);
    r = kernel(KASM("mov %rax, %cr2; mov %cr2, %rcx")), r.ax = 0x123456789abcdef0ull;
    OK("CR2", &r), CHECK_EQ("CR2", ev.r.cx, r.ax);
    r = kernel(KASM("smsw %eax")), OK("SMSW", &r), CHECK_EQ("SMSW reads CR0", ev.r.ax, (u32)cr0);
    if (HAS(features7, 2, 2)) {
        set_cr4(cr4 | CR4_UMIP);
        r = user(ASM("sgdt (%rsp)")), EXPECT("UMIP: SGDT", &r, GP, 0, 0);
        r = user(ASM("sidt (%rsp)")), EXPECT("UMIP: SIDT", &r, GP, 0, 0);
        r = user(ASM("sldt %eax")), EXPECT("UMIP: SLDT", &r, GP, 0, 0);
        r = user(ASM("str %eax")), EXPECT("UMIP: STR", &r, GP, 0, 0);
        r = user(ASM("smsw %eax")), EXPECT("UMIP: SMSW", &r, GP, 0, 0);
        r = kernel(KASM("sgdt (%rsp); str %eax")), OK("UMIP at CPL 0", &r), CHECK_EQ("STR", ev.r.ax, TSS_SEL);
        set_cr4(cr4);
    }
    r = user(ASM("sgdt (%rsp); mov 2(%rsp), %rcx; movzwl (%rsp), %eax"));
    OK("SGDT without UMIP", &r), CHECK_EQ("base", ev.r.cx, (word)gdt), CHECK_EQ("limit", ev.r.ax, sizeof gdt - 1);
    r = user(ASM("str %eax; sldt %ecx")), OK("STR and SLDT without UMIP", &r), CHECK_EQ("TR", ev.r.ax, TSS_SEL), CHECK_EQ("LDTR", ev.r.cx, 0);
    set_cr4(cr4 | CR4_TSD);
    r = user(ASM("rdtsc")), EXPECT("RDTSC with CR4.TSD", &r, GP, 0, 0);
    r = kernel(KASM("rdtsc")), OK("RDTSC with CR4.TSD at CPL 0", &r);
    set_cr4(cr4);
}

void guest_main(void)
{
    cpuid(7, 0, features7), cpuid(1, 0, features1), cpuid(0x80000001, 0, features81);
    rights();
    not_present();
    reserved();
    large();
    accessed_dirty();
    invalidation();
    pcids();
    implicit();
    control();
}
