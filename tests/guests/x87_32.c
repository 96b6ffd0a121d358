/* x87 with unmasked exceptions: who waits for a pending one, what makes one pending, masks that change in the middle of
 * code, the pointers of the environment (SDM 1 8.1.8 to 8.1.10, 8.7), and MMX on the same registers.
 * guest-cpu: default pentium3 */
#include "lib/guest.h"

enum { ZERO_DIVIDE_UNMASKED = 0x37b, MASKED = 0x37f, ES_B_ZE = 0x8084 };
static struct regs r;
static u32 area[256] __attribute__((aligned(16)));
static bool selectors; /* are FCS and FDS kept? */

/* 16 bytes, then 1 / 0 is pending. */
#define DIVIDE "fninit; push $0x37b; fldcw (%esp); fldz; fld1; fdiv %st(1); "
#define DIVIDE_BYTES 16
#define WITH_AREA(text) (r = user(ASM(text)), r.di = (u32)area)
#define WAITS(text) (WITH_AREA(DIVIDE text), EXPECT(text, &r, MF, NONE, DIVIDE_BYTES))
#define PASSES(text) (WITH_AREA(DIVIDE text), OK(text, &r))

static void waiting(void)
{
    WAITS("fwait");
    WAITS("fld1");
    WAITS("fadd %st(1)");
    WAITS("fxch");
    WAITS("fnop");
    WAITS("fcomi %st(1)");
    WAITS("ffree %st(3)");
    WAITS("flds (%edi)");
    WAITS("fstps (%edi)");
    WAITS("fldcw (%edi)");
    WAITS("fldenv (%edi)");
    WAITS("frstor (%edi)");
    WAITS("emms");
    WAITS("movd %eax, %mm1");
    PASSES("fnstsw %ax");
    PASSES("fnstsw (%edi)");
    PASSES("fnstcw (%edi)");
    PASSES("fnclex; fwait");
    PASSES("fninit; fwait");
    PASSES("fxsave (%edi)");
    PASSES("fnsave (%edi); fwait");
    PASSES("fnstenv (%edi); fwait"); /* it masks them all */
    CHECK_EQ("FNSTENV stores ES", area[1] & 0x80ff, ES_B_ZE);
    CHECK_EQ("FNSTENV stores the control word as it was", area[0] & 0xffff, ZERO_DIVIDE_UNMASKED);
}

/* A flag that is set becomes pending when it is unmasked, whatever loads the control word. */
static void becomes_pending(void)
{
    WITH_AREA("fninit; fldz; fld1; fdiv %st(1); push $0x37b; fldcw (%esp); nop; fwait");
    EXPECT("FLDCW unmasks", &r, MF, NONE, 17);
    WITH_AREA("fninit; fldz; fld1; fdiv %st(1); push $0x37b; fldcw (%esp); fnstsw %ax; fnclex; fwait");
    OK("FLDCW and FNSTSW", &r);
    CHECK_EQ("ES after FLDCW", ev.r.ax & 0x80ff, ES_B_ZE);
    WITH_AREA(DIVIDE "fnstenv (%edi); fnclex; fldenv (%edi); fwait");
    EXPECT("FLDENV brings it back", &r, MF, NONE, DIVIDE_BYTES + 6);
    WITH_AREA(DIVIDE "fnsave (%edi); frstor (%edi); fnstsw %ax; fwait");
    EXPECT("FRSTOR brings it back", &r, MF, NONE, DIVIDE_BYTES + 6);
    CHECK_EQ("ES after FRSTOR", ev.r.ax & 0x80ff, ES_B_ZE);
    WITH_AREA(DIVIDE "fxsave (%edi); fninit; fxrstor (%edi); fnop");
    EXPECT("FXRSTOR brings it back", &r, MF, NONE, DIVIDE_BYTES + 8);
    WITH_AREA(DIVIDE "fnstsw %ax; fnclex; fninit; fldz; fld1; fdivp; fwait; fnstsw %ax");
    OK("FNINIT masks", &r);
    CHECK_EQ("masked zero divide", ev.r.ax & 0x80ff, 4);
}

/* Masks that change at each turn of a loop, and results in between. */
static void changing(void)
{
    ((u16 *)area)[0] = MASKED;
    ((u16 *)area)[1] = 0x340; /* all unmasked; the sum is exact */
    WITH_AREA("fninit; fldz; mov $100, %ecx; 1: fldcw (%edi); fld1; faddp; fldcw 2(%edi); fld1; faddp; dec %ecx; jnz 1b; fnstcw 8(%edi); fistpl 4(%edi)");
    OK("a loop that masks and unmasks", &r);
    CHECK_EQ("its sum", area[1], 200);
    CHECK_EQ("its control word", area[2] & 0xffff, 0x340);
    ((u16 *)area)[1] = 0x37e; /* invalid operation unmasked */
    WITH_AREA("fninit; fldcw 2(%edi); fldz; fldz; fdivp; nop; fld1");
    EXPECT("0 / 0", &r, MF, NONE, 12);
    WITH_AREA("fninit; fldcw 2(%edi); fadd %st(1); fwait");
    EXPECT("stack underflow", &r, MF, NONE, 7);
    WITH_AREA("fnstsw %ax; fnstenv (%edi); fninit");
    OK("its status", &r);
    CHECK_EQ("IE and SF, ES and B, no C1", ev.r.ax & 0x82ff, 0x80c1);
    CHECK_EQ("registers are still empty", area[2] & 0xffff, 0xffff);
    ((u16 *)area)[0] = 0x36f; /* underflow unmasked: the store is not made */
    area[1] = 0x12345678;
    WITH_AREA("fninit; fld1; fldpi; fscale; fxch; fstp %st(0); fldcw (%edi); fwait; fnclex; push $0x00008000; push $1; push $0; fldt (%esp); fstps 4(%edi); fwait");
    ((u16 *)area)[1] = 0;
    run(&r);
    CHECK_EQ("a store that underflows", ev.vector, MF);
    CHECK_EQ("memory is as it was", area[1], 0x12345678);
    asm volatile("fninit");
}

static void pointers(void)
{
    memset(area, 0, sizeof area);
    WITH_AREA("fninit; push $0x37b; fldcw (%esp); fld1; fdivs 128(%edi); fnstenv (%edi); nop; fnstcw 28(%edi); data16 fnstenv 32(%edi); fnclex");
    OK("zero divide by memory", &r);
    CHECK_EQ("FIP", area[3], r.ip + 12);
    CHECK_EQ("FOP", area[4] >> 16, 0x0b7);
    CHECK_EQ("FCS", area[4] & 0xffff, selectors ? UCODE : 0);
    CHECK_EQ("FDP", area[5], (u32)area + 128);
    CHECK_EQ("FDS", area[6] & 0xffff, selectors ? UDATA : 0);
    const u16 *narrow = (const u16 *)&area[8];
    CHECK_EQ("16 bits: FCW", narrow[0], MASKED); /* FNSTENV has masked it */
    CHECK_EQ("16 bits: FIP", narrow[3], (u16)(r.ip + 12));
    CHECK_EQ("16 bits: FCS", narrow[4], selectors ? UCODE : 0);
    CHECK_EQ("16 bits: FDP", narrow[5], (u16)((u32)area + 128));
    CHECK_EQ("16 bits: FDS", narrow[6], selectors ? UDATA : 0);
    WITH_AREA("fninit; fldz; fld1; fcomi %st(1); fnstsw %ax; fnstenv (%edi)");
    OK("all masked", &r);
    CHECK_EQ("FIP of the last that is no control instruction", area[3], r.ip + 6);
    WITH_AREA("fldz; fninit; fnstenv (%edi)");
    OK("FNINIT", &r);
    CHECK_EQ("it clears FIP", area[3], 0);
}

/* In virtual-8086 mode the pointers are linear addresses, with the opcode beside them (SDM 1 figures 8-10, 8-12). */
static void real_format(void)
{
    enum { CS16 = 0x2000, DS16 = 0x2500, LENGTH = 64 };
    void *code = ASM16("fninit; fldcw 0x40(%bx); fld1; fdivs 0x44(%bx); fnstenv (%bx); data32 fnstenv 0x10(%bx); fnclex;"
                       "fninit; data32 fldenv 0x10(%bx); data32 fnstenv 0x50(%bx)");
    const u16 *narrow = (const u16 *)(DS16 << 4);
    const u32 *wide = (const u32 *)((DS16 << 4) + 0x10), *again = (const u32 *)((DS16 << 4) + 0x50);
    u32 ip = (selectors ? CS16 << 4 : 0) + 7, dp = (selectors ? DS16 << 4 : 0) + 0x44, fop = 0x077;
    memcpy((void *)(CS16 << 4), code, LENGTH);
    memset((void *)(DS16 << 4), 0, 0x80);
    *(u16 *)((DS16 << 4) + 0x40) = ZERO_DIVIDE_UNMASKED;
    r = (struct regs){.ip = 0, .flags = FLAG_FIXED | FLAG_VM | FLAG_IOPL, .cs = CS16, .ds = DS16, .ss = 0x3000, .sp = 0x8000};
    OK("virtual-8086 mode", &r);
    CHECK_EQ("16 bits: FIP", narrow[3], ip & 0xffff);
    CHECK_EQ("16 bits: FIP and FOP", narrow[4], (ip >> 4 & 0xf000) | fop);
    CHECK_EQ("16 bits: FDP", narrow[5], dp & 0xffff);
    CHECK_EQ("16 bits: FDP's top", narrow[6], dp >> 4 & 0xf000);
    CHECK_EQ("32 bits: FIP", wide[3] & 0xffff, ip & 0xffff);
    CHECK_EQ("32 bits: FIP and FOP", wide[4], (ip >> 16 << 12) | fop);
    CHECK_EQ("32 bits: FDP", wide[5] & 0xffff, dp & 0xffff);
    CHECK_EQ("32 bits: FDP's top", wide[6], dp >> 16 << 12);
    CHECK("FLDENV loads what FNSTENV stored", !memcmp(wide + 2, again + 2, 5 * sizeof *wide));
    asm volatile("fninit");
}

/* MMX on the same registers (SDM 1 9.6.2). */
static void mmx(void)
{
    WITH_AREA("fninit; fld1; fldpi; mov $0x12345678, %eax; movd %eax, %mm3; fnsave (%edi)");
    OK("MOVD", &r);
    CHECK_EQ("TOP", area[1] >> 11 & 7, 0);
    CHECK_EQ("tags: zeros in no register", area[2] & 0x3 << 6, 2 << 6);
    CHECK_EQ("no register is empty", (area[2] & area[2] >> 1 & 0x5555), 0);
    const u8 *st3 = (const u8 *)area + 28 + 3 * 10;
    CHECK_EQ("its low half", *(const u32 *)st3, 0x12345678);
    CHECK_EQ("its exponent", *(const u16 *)(st3 + 8), 0xffff);
    WITH_AREA("fninit; mov $7, %eax; movd %eax, %mm0; paddd %mm0, %mm0; emms; fld1; fld1; faddp; fistpl 4(%edi); movd %mm0, %ecx; emms; fnstenv 32(%edi)");
    OK("x87 after EMMS", &r);
    CHECK_EQ("its sum", area[1], 2);
    CHECK_EQ("MM0 is not what x87 wrote", ev.r.cx, 14);
    CHECK_EQ("EMMS empties", area[10] & 0xffff, 0xffff);
}

void guest_main(void)
{
    selectors = !has(7, 1, 13);
    set_cr0((get_cr0() | CR0_NE | CR0_MP) & ~(word)(CR0_TS | CR0_EM));
    set_cr4(get_cr4() | CR4_OSFXSR);
    waiting();
    becomes_pending();
    changing();
    pointers();
    real_format();
    mmx();
}
