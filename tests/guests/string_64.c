/* String instructions that fault in the middle: registers say how far they got, nothing is done twice, and they go on
 * when the page is there; all sizes, address sizes, directions and REP forms (SDM 1 7.3.9, 3A 6.5). */
#include "lib/guest.h"

enum { P = 1, W = 2, U = 4 };
extern u64 boot_pdpt[512];
static u64 pd[512] __attribute__((aligned(4096))), pt[512] __attribute__((aligned(4096)));
static u8 source[3][4096] __attribute__((aligned(4096))), target[3][4096] __attribute__((aligned(4096)));
static struct regs r;
/* In the low 4 GiB, for 32-bit addresses: 3 GiB. Pages 0..2 the source, 8..10 the target. */
#define FROM 0xc0000000ull
#define TO (FROM + 8 * 4096)

static void set(u64 at, void *page, u64 rights) { pt[(at - FROM) >> 12] = rights ? (word)page | rights : 0; invlpg((void *)at); }
static void map_all(void)
{
    boot_pdpt[3] = (word)pd | P | W | U, pd[0] = (word)pt | P | W | U;
    for (unsigned i = 0; i < 3; i++)
        set(FROM + 4096 * i, source[i], P | W | U), set(TO + 4096 * i, target[i], P | W | U);
}
static void fill(void)
{
    u8 *s = (u8 *)source;
    for (unsigned i = 0; i < sizeof source; i++)
        s[i] = (u8)(i * 7 + (i >> 8));
    memset(target, 0xee, sizeof target);
}

struct form { const void *code; unsigned size, bits; };
#define FORM(text, size, bits) {ASM(text), size, bits}

/* `code` moves `count` elements; the page that `missing` lies in is absent. It must fault there with what comes before done. */
static void movs(const struct form *f, bool down, u64 missing)
{
    unsigned count = 6000 / f->size, bytes = count * f->size;
    u64 from = FROM + 100 + (down ? bytes - f->size : 0), to = TO + 100 + (down ? bytes - f->size : 0);
    map_all(), fill();
    r = user(f->code), r.si = from, r.di = to, r.cx = count;
    r.flags |= down ? FLAG_DF : 0;
    if (f->bits == 32)
        r.si |= 0xabcd00000000ull, r.di |= 0x123400000000ull, r.cx |= 0xffff00000000ull;
    set(missing, 0, 0);
    bool at_source = missing < TO;
    u64 start = at_source ? from : to, base = missing & ~4095ull;
    /* how many elements lie wholly outside of the missing page */
    unsigned done = 0;
    for (;; done++) {
        u64 at = down ? start - (u64)done * f->size : start + (u64)done * f->size;
        if (at + f->size > base && at < base + 4096)
            break;
    }
    EXPECT("REP MOVS faults", &r, PF, U | (at_source ? 0 : W), 0);
    CHECK_EQ("CR2 is in the page", ev.cr2 & ~4095ull, base);
    u64 step = (u64)done * f->size;
    CHECK_EQ("RSI", ev.r.si, done ? (down ? from - step : from + step) : r.si), CHECK_EQ("RDI", ev.r.di, done ? (down ? to - step : to + step) : r.di);
    CHECK_EQ("RCX", f->bits == 32 ? (u32)ev.r.cx : ev.r.cx, count - done);
    CHECK_EQ("what is done is done", memcmp(target[0] + 100 + (down ? bytes - step : 0), source[0] + 100 + (down ? bytes - step : 0), step), 0);
    CHECK_EQ("no more", down ? (done < count ? target[0][100 + bytes - step - 1] : 0xee) : target[0][100 + step], 0xee);
    map_all();
    r = ev.r;
    OK("and it goes on", &r), CHECK_EQ("RCX", (u32)ev.r.cx, 0), CHECK_EQ("all is moved", memcmp(target[0] + 100, source[0] + 100, bytes), 0);
    CHECK_EQ("before it", target[0][99], 0xee), CHECK_EQ("behind it", target[0][100 + bytes], 0xee);
}

static void moves(void)
{
    const struct form forms[] = {FORM("rep movsb", 1, 64), FORM("rep movsw", 2, 64), FORM("rep movsl", 4, 64), FORM("rep movsq", 8, 64),
        FORM("addr32 rep movsb", 1, 32), FORM("addr32 rep movsw", 2, 32), FORM("addr32 rep movsl", 4, 32), FORM("addr32 rep movsq", 8, 32), FORM("repne movsb", 1, 64)};
    for (unsigned i = 0; i < sizeof forms / sizeof *forms; i++)
        for (unsigned down = 0; down < 2; down++)
            for (unsigned page = 0; page < 2; page++)
                movs(&forms[i], down, FROM + 4096 * page), movs(&forms[i], down, TO + 4096 * page);
}

static void others(void)
{
    map_all(), fill(), set(TO + 4096, target[1], P | U);
    r = user(ASM("rep stosq")), r.di = TO + 4096 - 80, r.cx = 100, r.ax = 0x1122334455667788ull;
    EXPECT("REP STOSQ into a read-only page", &r, PF, P | W | U, 0), CHECK_EQ("RCX", ev.r.cx, 90), CHECK_EQ("RDI", ev.r.di, TO + 4096), CHECK_EQ("the last one", *(u64 *)(target[0] + 4088), r.ax);
    CHECK_EQ("the page itself", target[1][0], 0xee);
    r.di += 4, EXPECT("REP STOSQ over the edge", &r, PF, P | W | U, 0), CHECK_EQ("RCX", ev.r.cx, 91), CHECK_EQ("the element at the edge is not begun", target[0][4092], 0x44);
    target[0][4095] = 0, set(FROM + 4096, 0, 0);
    r = user(ASM("rep lodsb")), r.si = FROM + 4000, r.cx = 200, EXPECT("REP LODSB", &r, PF, U, 0), CHECK_EQ("RCX", ev.r.cx, 104), CHECK_EQ("AL is the last one", ev.r.ax & 0xff, source[0][4095]);
    memcpy(target[0] + 4000, source[0] + 4000, 96);
    r = user(ASM("repe cmpsb")), r.si = FROM + 4000, r.di = TO + 4000, r.cx = 200, EXPECT("REPE CMPSB", &r, PF, U, 0), CHECK_EQ("RCX", ev.r.cx, 104), CHECK_EQ("RSI", ev.r.si, FROM + 4096);
    target[0][4050] ^= 1, OK("REPE CMPSB that ends before", &r), CHECK_EQ("RCX", ev.r.cx, 200 - 51), CHECK_EQ("ZF", ev.r.flags & FLAG_ZF, 0);
    r = user(ASM("repne scasb")), r.di = FROM + 4090, r.cx = 20;
    for (unsigned i = 4090; i < 4096; i++)
        source[0][i] = 1;
    r.ax = 2, EXPECT("REPNE SCASB", &r, PF, U, 0), CHECK_EQ("RCX", ev.r.cx, 14), CHECK_EQ("RDI", ev.r.di, FROM + 4096);
    source[0][4093] = 2, OK("REPNE SCASB that finds", &r), CHECK_EQ("RCX", ev.r.cx, 16), CHECK_EQ("ZF", ev.r.flags & FLAG_ZF, FLAG_ZF);
    r = user(ASM("rep movsb")), r.cx = 0, r.si = r.di = 0x10000, OK("no elements: no access", &r);
    r = user(ASM("repe cmpsb")), r.cx = 0, r.flags |= FLAG_CF, OK("no elements: flags stay", &r), CHECK_EQ("CF", ev.r.flags & FLAG_CF, FLAG_CF);
    map_all(), fill();
    r = user(ASM("rep movsb")), r.si = TO, r.di = TO + 1, r.cx = 5000, target[0][0] = 0x42, OK("overlapping by one: it fills", &r);
    CHECK_EQ("the first", target[0][1], 0x42), CHECK_EQ("the last", target[1][5000 - 4096], 0x42), CHECK_EQ("behind it", target[1][5001 - 4096], 0xee);
    fill(), target[0][9] = 9, target[0][10] = 10;
    r = user(ASM("rep movsw")), r.si = TO + 9, r.di = TO + 10, r.cx = 3, OK("overlapping words", &r), CHECK_EQ("memory", *(u64 *)(target[0] + 9), 0xeeeeeeee0a0a0909ull);
    /* 16-bit addresses in 32-bit code: offsets wrap at 64 KiB */
    fill();
    r = user(ASM32("addr16 rep movsb")), r.cs = UCODE32;
    gdt_set(FREE, segment((u32)FROM, 0xffff, A_PRESENT | A_DPL3 | A_DATA | A_RW), 0);
    r.ds = r.es = FREE | 3, r.si = 0x55550000, r.di = 0x77778000, r.cx = 0x11110064;
    OK("16-bit addresses", &r), CHECK_EQ("ESI", ev.r.si, 0x55550064), CHECK_EQ("EDI", ev.r.di, 0x77778064), CHECK_EQ("ECX", ev.r.cx, 0x11110000), CHECK_EQ("memory", memcmp(target[0], source[0], 100), 0);
    set(TO, 0, 0), fill();
    EXPECT("16-bit addresses, absent", &r, PF, U | W, 0), CHECK_EQ("ECX", ev.r.cx, 0x11110064), CHECK_EQ("CR2", ev.cr2, TO);
}

/* Other instructions with two accesses: the second faults, the first may not have left a trace. */
static void two_accesses(void)
{
    map_all(), fill(), set(TO, 0, 0);
    r = user(ASM("movsb")), r.si = FROM, r.di = TO, EXPECT("MOVSB", &r, PF, U | W, 0), CHECK_EQ("RSI", ev.r.si, FROM), CHECK_EQ("RDI", ev.r.di, TO);
    r = user(ASM("cmpsb")), r.si = FROM, r.di = TO, r.flags |= FLAG_CF, EXPECT("CMPSB", &r, PF, U, 0), CHECK_EQ("flags", ev.r.flags & ~(word)FLAG_RF, FLAG_FIXED | FLAG_CF);
    r = user(ASM("push (%rax)")), r.ax = TO, EXPECT("PUSH m", &r, PF, U, 0), CHECK_EQ("RSP", ev.r.sp, r.sp);
    r = user(ASM("pop (%rax)")), r.ax = TO, EXPECT("POP m", &r, PF, U | W, 0), CHECK_EQ("RSP", ev.r.sp, r.sp);
    r = user(ASM("push %rax")), r.sp = TO + 4096 + 4, target[1][0] = 0x77, EXPECT("PUSH over the edge", &r, PF, U | W, 0), CHECK_EQ("RSP", ev.r.sp, r.sp), CHECK_EQ("nothing is written", target[1][0], 0x77);
    r = user(ASM("call *(%rax)")), r.ax = FROM, r.sp = TO + 8, *(u64 *)source[0] = 0x400000, EXPECT("CALL m whose push faults", &r, PF, U | W, 0), CHECK_EQ("RSP", ev.r.sp, r.sp);
    r = user(ASM("enter $16, $3")), r.sp = TO + 4096 + 16, r.bp = FROM + 64, EXPECT("ENTER", &r, PF, U | W, 0), CHECK_EQ("RSP", ev.r.sp, r.sp), CHECK_EQ("RBP", ev.r.bp, r.bp);
    r = user(ASM("xadd %rcx, (%rax)")), r.ax = TO, r.cx = 5, EXPECT("XADD", &r, PF, U | W, 0), CHECK_EQ("RCX", ev.r.cx, 5);
    r = user(ASM("lock cmpxchg16b (%rdi)")), r.di = TO, r.ax = 1, EXPECT("CMPXCHG16B", &r, PF, U | W, 0), CHECK_EQ("RAX", ev.r.ax, 1);
    r = user(ASM("fxsave64 (%rax)")), r.ax = TO - 256, EXPECT("FXSAVE over the edge", &r, PF, U | W, 0);
    r = user(ASM("adc %rcx, (%rax)")), r.ax = TO, r.flags |= FLAG_CF | FLAG_ZF, EXPECT("ADC", &r, PF, U | W, 0), CHECK_EQ("flags", ev.r.flags & ~(word)FLAG_RF, FLAG_FIXED | FLAG_CF | FLAG_ZF);
    set(FROM, source[0], P | U);
    r = user(ASM("lock incl (%rax)")), r.ax = FROM, EXPECT("LOCK INC of a read-only page", &r, PF, P | U | W, 0);
    r = user(ASM("cmpl $0, (%rax); testl $1, (%rax); btl $1, (%rax)")), r.ax = FROM, OK("CMP, TEST, BT only read", &r);
    r = user(ASM("shll $0, (%rax)")), r.ax = FROM, run(&r), CHECK("a shift by zero may fault or not", ev.vector == PF || ev.vector == DONE);
}

void guest_main(void)
{
    moves();
    others();
    two_accesses();
}
