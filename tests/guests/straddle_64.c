/* Accesses over a page's end, where the two pages are no neighbours in RAM, and accesses that change device registers:
 * what goes over the end is read and written whole, a fault on the second page leaves nothing done, and a device sees
 * one read and one write. */
#include "lib/guest.h"

static u8 pages[6 * 4096] __attribute__((aligned(4096)));
static u64 pdpt[512] __attribute__((aligned(4096))), pd[512] __attribute__((aligned(4096))), pt[512] __attribute__((aligned(4096)));
enum { P = 1, W = 2 };
#define AREA (1ull << 39) /* pages of our own, from entry 1 of the top table on */
enum { HPET_AT = 8, IOAPIC_AT = 9 }; /* pages in AREA */

static void map(unsigned page, u64 entry) { pt[page] = entry; invlpg((void *)(AREA + page * 4096ull)); }

/* Page n of AREA is pages[order[n]]: none has its neighbour behind it. */
static const u8 order[6] = {3, 0, 5, 2, 4, 1};
static u8 *behind(u64 offset) { return pages + order[offset >> 12] * 4096 + (offset & 4095); }

static void area_init(void)
{
    u64 *top = (u64 *)(get_cr3() & ~0xfffull);
    pd[0] = (word)pt | P | W;
    pdpt[0] = (word)pd | P | W;
    top[1] = (word)pdpt | P | W;
    for (unsigned n = 0; n < 6; n++)
        pt[n] = (word)(pages + order[n] * 4096) | P | W;
    pt[HPET_AT] = 0xfed00000 | P | W | 16;
    pt[IOAPIC_AT] = 0xfec00000 | P | W | 16;
    set_cr3(get_cr3());
}

static void fill(u32 seed)
{
    for (unsigned i = 0; i < sizeof pages; i++)
        pages[i] = (u8)((seed = seed * 1664525 + 1013904223) >> 24);
}

static u64 bytes_at(u64 offset, unsigned size)
{
    u64 v = 0;
    for (unsigned i = 0; i < size; i++)
        v |= (u64)*behind(offset + i) << 8 * i;
    return v;
}

#define EACH(type, name) \
    static unsigned each_##name(unsigned round) \
    { \
        unsigned wrong = 0; \
        for (u64 at = 4096 - sizeof(type) + 1; at < 4096; at++) { \
            volatile type *p = (volatile type *)(AREA + (round % 5) * 4096ull + at); \
            u64 offset = (word)p - AREA, old = bytes_at(offset, sizeof(type)); \
            wrong += *p != (type)old; \
            *p = (type)(old * 3 + round); \
            wrong += bytes_at(offset, sizeof(type)) != (type)(old * 3 + round); \
            *p += (type)0x0102030405060708ull; \
            wrong += bytes_at(offset, sizeof(type)) != (type)(old * 3 + round + 0x0102030405060708ull); \
            wrong += __atomic_fetch_xor(p, (type)0xa5a5a5a5a5a5a5a5ull, __ATOMIC_SEQ_CST) != (type)(old * 3 + round + 0x0102030405060708ull); \
            wrong += *p != (type)((old * 3 + round + 0x0102030405060708ull) ^ 0xa5a5a5a5a5a5a5a5ull); \
        } \
        return wrong; \
    }
EACH(u16, two)
EACH(u32, four)
EACH(u64, eight)

static void plain(void)
{
    unsigned wrong = 0;
    fill(1);
    for (unsigned round = 0; round < 40; round++)
        wrong += each_two(round) + each_four(round) + each_eight(round);
    CHECK_EQ("loads, stores and read-modify-writes over a page's end", wrong, 0);
    /* Two operands of one instruction, both over an end: movsq, cmpsq, push and pop of memory. */
    for (unsigned round = 0; round < 40; round++) {
        u64 from = 4096 - 1 - round % 7, to = 3 * 4096 - 1 - round % 5, want = bytes_at(from, 8);
        const void *s = (void *)(AREA + from);
        void *d = (void *)(AREA + to);
        bool equal;
        asm volatile("movsq" : "+S"(s), "+D"(d) : : "memory");
        wrong += bytes_at(to, 8) != want;
        s = (void *)(AREA + from), d = (void *)(AREA + to);
        asm volatile("cmpsq" : "+S"(s), "+D"(d), "=@ccz"(equal) : : "memory");
        wrong += !equal;
        word sp = AREA + 5 * 4096 + 3, kept;
        asm volatile("mov %%rsp, %1; mov %0, %%rsp; pushq (%2); popq (%3); xchg %1, %%rsp; mov %1, %0"
                     : "+r"(sp), "=&r"(kept) : "r"(AREA + to), "r"(AREA + 2 * 4096 - 3) : "memory");
        wrong += sp != AREA + 5 * 4096 + 3 || bytes_at(2 * 4096 - 3, 8) != want;
    }
    CHECK_EQ("two operands over an end", wrong, 0);
}

/* The second page is absent, or may only be read: nothing is done, and the address is that of its first byte. */
static void second_faults(void)
{
    struct regs r;
    fill(2);
    u64 at = 4096 - 3, before = bytes_at(at, 8);
    map(1, 0);
    r = kernel(KASM("mov (%rdi), %rax")), r.di = AREA + at;
    EXPECT("load", &r, PF, 0, 0);
    CHECK_EQ("its address", ev.cr2, AREA + 4096);
    r = kernel(KASM("mov %rax, (%rdi)")), r.di = AREA + at;
    EXPECT("store", &r, PF, 2, 0);
    CHECK_EQ("its address", ev.cr2, AREA + 4096);
    r = kernel(KASM("lock xadd %eax, (%rdi)")), r.di = AREA + at, r.ax = 5;
    EXPECT("read-modify-write", &r, PF, 2, 0);
    CHECK_EQ("the register", ev.r.ax, 5);
    map(1, (word)(pages + order[1] * 4096) | P);
    set_cr0(get_cr0() | CR0_WP);
    r = kernel(KASM("add %rax, (%rdi)")), r.di = AREA + at, r.ax = 5;
    EXPECT("write to a read-only second page", &r, PF, 3, 0);
    CHECK_EQ("its address", ev.cr2, AREA + 4096);
    CHECK_EQ("what was there is there", bytes_at(at, 8), before);
    map(1, (word)(pages + order[1] * 4096) | P | W);
    r = kernel(KASM("add %rax, (%rdi)")), r.di = AREA + at, r.ax = 5;
    OK("and again, writable", &r);
    CHECK_EQ("the sum", bytes_at(at, 8), before + 5);
}

/* The HPET's configuration and counter, the IOAPIC's select register. */
static void devices(void)
{
    volatile u32 *config = (volatile u32 *)(AREA + HPET_AT * 4096 + 0x10), *counter = (volatile u32 *)(AREA + HPET_AT * 4096 + 0xf0);
    volatile u32 *select = (volatile u32 *)(AREA + IOAPIC_AT * 4096), *window = (volatile u32 *)(AREA + IOAPIC_AT * 4096 + 0x10);
    unsigned wrong = 0;
    *config = 0;
    *counter = 1000;
    for (unsigned i = 0; i < 50; i++) {
        asm volatile("addl $7, %0" : "+m"(*counter));
        wrong += *counter != 1000 + 7 * (i + 1);
    }
    CHECK_EQ("ADD to a stopped counter", wrong, 0);
    for (unsigned i = 0; i < 50; i++) {
        u32 old = i;
        asm volatile("xchg %0, %1" : "+r"(old), "+m"(*counter));
        wrong += old != (i ? i - 1 : 1350);
    }
    CHECK_EQ("XCHG with a register of a device", wrong, 0);
    asm volatile("orl $1, %0" : "+m"(*config));
    u32 first = *counter;
    while (*counter == first)
        continue;
    asm volatile("andl $~1, %0" : "+m"(*config));
    first = *counter;
    CHECK_EQ("it stands", *counter, first);
    for (u32 pin = 0; pin < 8; pin++) {
        *select = 0x10 + 2 * pin;
        *window = 0x10000 | (0x40 + pin);
    }
    for (u32 pin = 0; pin < 8; pin++) {
        *select = 0x10 + 2 * pin;
        asm volatile("xorl $0x8000, %0" : "+m"(*window));
        wrong += *window != (0x18000 | (0x40 + pin)) || *select != 0x10 + 2 * pin;
    }
    CHECK_EQ("XOR through the IOAPIC's window", wrong, 0);
    /* A push of a device's register, whose stack faults: the instruction starts over, and no register was changed. */
    struct regs r = kernel(KASM("pushq (%rdi)"));
    r.di = (word)counter, r.sp = AREA + 7 * 4096;
    EXPECT("PUSH of a register to an absent stack", &r, PF, 2, 0);
    CHECK_EQ("its stack pointer", ev.r.sp, AREA + 7 * 4096);
}

void guest_main(void)
{
    area_init();
    plain();
    second_faults();
    devices();
    finish();
}
