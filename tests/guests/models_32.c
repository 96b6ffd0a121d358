/* What CPUID advertises and what the CPU does, for each model: an instruction works where its bit is set and is #UD where it
 * is not; bits of CR4 and EFER and MSRs likewise; every bit that is set must be one of those known here.
 * guest-cpu: 486 pentium3 qemu64 x86-64-v2 486,+cmov,+tsc x86-64-v2,-sse4.2,-movbe,-pcid,-smap,+aes,+bmi1,+bmi2,+adx,+sha,+lzcnt,+pclmulqdq,+clflushopt,+rdpid */
#include "lib/guest.h"

static struct regs r;
static u8 memory[1024] __attribute__((aligned(64)));
enum { EAX, EBX, ECX, EDX };

static u32 word_of(u32 leaf, unsigned reg)
{
    u32 o[4];
    cpuid(leaf & 0x80000000, 0, o);
    if (o[0] < leaf)
        return 0;
    cpuid(leaf, 0, o);
    return o[reg];
}

static bool has_extended(void) { u32 o[4]; cpuid(0x80000000, 0, o); return o[0] >= 0x80000001; }

struct row { const char *name; u32 leaf; u8 reg, bit; const void *code; };
/* code 0: the bit stands for no instruction that 32-bit code could try */
static void instructions(void)
{
    const struct row rows[] = {
        {"fpu", 1, EDX, 0, KASM("fninit")}, {"vme", 1, EDX, 1, 0}, {"de", 1, EDX, 2, 0}, {"pse", 1, EDX, 3, 0}, {"tsc", 1, EDX, 4, KASM("rdtsc")},
        {"msr", 1, EDX, 5, KASM("mov $0x1a0, %ecx; rdmsr")}, {"pae", 1, EDX, 6, 0}, {"mce", 1, EDX, 7, 0}, {"cx8", 1, EDX, 8, KASM("cmpxchg8b (%ebx)")},
        {"apic", 1, EDX, 9, 0}, {"sep", 1, EDX, 11, 0}, {"mtrr", 1, EDX, 12, 0}, {"pge", 1, EDX, 13, 0}, {"mca", 1, EDX, 14, 0}, {"cmov", 1, EDX, 15, KASM("cmovz %eax, %ecx; fcmovb %st(1), %st; fcomi %st(1), %st")},
        {"pat", 1, EDX, 16, 0}, {"pse36", 1, EDX, 17, 0}, {"clflush", 1, EDX, 19, KASM("clflush (%ebx)")}, {"mmx", 1, EDX, 23, KASM("paddb %mm0, %mm1; emms")},
        {"fxsr", 1, EDX, 24, KASM("fxsave (%ebx)")}, {"sse", 1, EDX, 25, KASM("addps %xmm0, %xmm1")}, {"sse2", 1, EDX, 26, KASM("paddd %xmm0, %xmm1")}, {"ss", 1, EDX, 27, 0},
        {"sse3", 1, ECX, 0, KASM("haddps %xmm0, %xmm1")}, {"pclmulqdq", 1, ECX, 1, KASM("pclmulqdq $0, %xmm0, %xmm1")}, {"monitor", 1, ECX, 3, KASM("xor %ecx, %ecx; mov %ebx, %eax; monitor")},
        {"ssse3", 1, ECX, 9, KASM("pshufb %xmm0, %xmm1")}, {"cx16", 1, ECX, 13, 0}, {"pcid", 1, ECX, 17, 0}, {"sse4.1", 1, ECX, 19, KASM("pmulld %xmm0, %xmm1")},
        {"sse4.2", 1, ECX, 20, KASM("pcmpgtq %xmm0, %xmm1")}, {"sse4.2", 1, ECX, 20, KASM("crc32l %eax, %ecx")}, {"x2apic", 1, ECX, 21, 0}, {"movbe", 1, ECX, 22, KASM("movbe (%ebx), %eax")},
        {"popcnt", 1, ECX, 23, KASM("popcnt %eax, %ecx")}, {"tsc-deadline", 1, ECX, 24, 0}, {"aes", 1, ECX, 25, KASM("aesenc %xmm0, %xmm1")}, {"xsave", 1, ECX, 26, KASM("xor %ecx, %ecx; xgetbv")},
        {"osxsave", 1, ECX, 27, 0}, {"rdrand", 1, ECX, 30, KASM("rdrand %eax")}, {"hypervisor", 1, ECX, 31, 0},
        {"fsgsbase", 7, EBX, 0, 0}, {"tsc-adjust", 7, EBX, 1, 0}, {"bmi1", 7, EBX, 3, KASM("andn %eax, %ebx, %ecx")}, {"smep", 7, EBX, 7, 0}, {"bmi2", 7, EBX, 8, KASM("pext %eax, %ebx, %ecx")}, {"erms", 7, EBX, 9, 0},
        {"invpcid", 7, EBX, 10, KASM("movl $0, (%ebx); movl $0, 4(%ebx); mov $2, %eax; invpcid (%ebx), %eax")}, {"zero-fcs-fds", 7, EBX, 13, 0}, {"rdseed", 7, EBX, 18, KASM("rdseed %eax")}, {"adx", 7, EBX, 19, KASM("adcx %eax, %ecx")}, {"smap", 7, EBX, 20, KASM("stac; clac")},
        {"clflushopt", 7, EBX, 23, KASM("clflushopt (%ebx)")}, {"clwb", 7, EBX, 24, KASM("clwb (%ebx)")}, {"sha", 7, EBX, 29, KASM("sha1msg1 %xmm0, %xmm1")}, {"umip", 7, ECX, 2, 0}, {"rdpid", 7, ECX, 22, KASM("rdpid %eax")}, {"fsrm", 7, EDX, 4, 0},
        {"lahf-lm", 0x80000001, ECX, 0, 0}, {"cr8legacy", 0x80000001, ECX, 4, KASM(".byte 0xf0; mov %cr0, %eax")}, {"lzcnt", 0x80000001, ECX, 5, 0}, {"prefetchw", 0x80000001, ECX, 8, 0},
        {"syscall", 0x80000001, EDX, 11, 0}, {"nx", 0x80000001, EDX, 20, 0}, {"pdpe1gb", 0x80000001, EDX, 26, 0}, {"rdtscp", 0x80000001, EDX, 27, KASM("rdtscp")}, {"lm", 0x80000001, EDX, 29, 0},
    };
    static const struct { u32 leaf, reg, copies; } words[] = {{1, EDX, 0}, {1, ECX, 0}, {7, EBX, 0}, {7, ECX, 0}, {7, EDX, 0}, {0x80000001, ECX, 0}, {0x80000001, EDX, 0x0183f3ff}};
    for (unsigned w = 0; w < sizeof words / sizeof *words; w++) {
        u32 unknown = word_of(words[w].leaf, words[w].reg) & ~words[w].copies;
        for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
            if (rows[i].leaf == words[w].leaf && rows[i].reg == words[w].reg)
                unknown &= ~(1u << rows[i].bit);
        CHECK_EQ("bits that are advertised and unknown", unknown, 0);
        if (unknown)
            print("  (leaf %x, register %u)\n", words[w].leaf, words[w].reg);
        if (words[w].copies) /* AMD's copies of leaf 1 */
            CHECK_EQ("copies", word_of(words[w].leaf, words[w].reg) & words[w].copies, has_extended() ? word_of(1, EDX) & words[w].copies : 0);
    }
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!rows[i].code)
            continue;
        bool on = word_of(rows[i].leaf, rows[i].reg) >> rows[i].bit & 1;
        r = kernel(rows[i].code), r.bx = (u32)memory;
        EXPECT(rows[i].name, &r, on ? DONE : UD, NONE, ANYWHERE);
    }
    r = kernel(KASM("sysenter")), EXPECT("SYSENTER", &r, word_of(1, EDX) >> 11 & 1 ? GP : UD, word_of(1, EDX) >> 11 & 1 ? 0 : NONE, 0); /* SYSENTER_CS is 0 */
    r = kernel(KASM("mov $0x00800000, %ecx; lzcnt %ecx, %eax")), OK("F3 0F BD", &r), CHECK_EQ("is LZCNT or BSR", ev.r.ax, word_of(0x80000001, ECX) >> 5 & 1 ? 8 : 23);
    r = kernel(KASM("xor %ecx, %ecx; mov $77, %eax; tzcnt %ecx, %eax")), OK("F3 0F BC", &r), CHECK_EQ("is TZCNT or BSF", ev.r.ax, word_of(7, EBX) >> 3 & 1 ? 32 : 77);
    r = kernel(KASM(".byte 0xf3, 0x0f, 0x1e, 0xfa")), OK("ENDBR32 is a NOP", &r);
    r = kernel(KASM("fninit; fld1; fnstenv (%ebx); movzwl 16(%ebx), %ecx; fninit")), r.bx = (u32)memory, OK("FNSTENV", &r), CHECK_EQ("FCS", ev.r.cx, word_of(7, EBX) >> 13 & 1 ? 0 : KCODE);
    r = kernel(KASM("vaddps %ymm0, %ymm1, %ymm2")), EXPECT("AVX", &r, UD, NONE, 0);
    r = kernel(KASM("cmpxchg %eax, (%ebx); xadd %eax, (%ebx); bswap %eax; invlpg (%ebx); wbinvd")), r.bx = (u32)memory, OK("a 486's own", &r);
}

static void control(void)
{
    static const struct { const char *name; u32 bits, leaf; u8 reg, bit; } rows[] = {
        {"VME, PVI", CR4_VME | CR4_PVI, 1, EDX, 1}, {"TSD", CR4_TSD, 1, EDX, 4}, {"DE", CR4_DE, 1, EDX, 2}, {"PSE", CR4_PSE, 1, EDX, 3}, {"PAE", CR4_PAE, 1, EDX, 6}, {"MCE", 64, 1, EDX, 7},
        {"PGE", CR4_PGE, 1, EDX, 13}, {"OSFXSR", CR4_OSFXSR, 1, EDX, 24}, {"OSXMMEXCPT", CR4_OSXMMEXCPT, 1, EDX, 25}, {"UMIP", CR4_UMIP, 7, ECX, 2}, {"FSGSBASE", CR4_FSGSBASE, 7, EBX, 0},
        {"OSXSAVE", CR4_OSXSAVE, 1, ECX, 26}, {"SMEP", CR4_SMEP, 7, EBX, 7}, {"SMAP", CR4_SMAP, 7, EBX, 20}};
    word cr4 = get_cr4();
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool on = word_of(rows[i].leaf, rows[i].reg) >> rows[i].bit & 1;
        for (u32 bits = rows[i].bits; bits; bits &= bits - 1) {
            r = kernel(KASM("mov %eax, %cr4")), r.ax = cr4 ^ (bits & -bits);
            EXPECT(rows[i].name, &r, on ? DONE : GP, on ? NONE : 0, on ? ANYWHERE : 0);
            set_cr4(cr4);
        }
    }
    r = kernel(KASM("mov %eax, %cr4"));
    static const u8 never[] = {12, 13, 14, 15, 19, 22, 23, 24, 25, 31};
    for (unsigned i = 0; i < sizeof never; i++)
        r.ax = cr4 | 1u << never[i], EXPECT("a bit of CR4 that no model has", &r, GP, 0, 0);
    if (word_of(1, ECX) >> 26 & 1) {
        u32 o[4];
        CHECK_EQ("CPUID.OSXSAVE follows CR4", word_of(1, ECX) >> 27 & 1, !!(cr4 & CR4_OSXSAVE));
        set_cr4(cr4 & ~(word)CR4_OSXSAVE), CHECK_EQ("CPUID.OSXSAVE follows CR4", word_of(1, ECX) >> 27 & 1, 0);
        r = kernel(KASM("xor %ecx, %ecx; xgetbv")), EXPECT("XGETBV without OSXSAVE", &r, UD, NONE, 2);
        set_cr4(cr4);
        cpuid(0xd, 0, o), CHECK_EQ("XCR0's bits", o[0], 3), CHECK_EQ("size now", o[1], 576), CHECK_EQ("size at most", o[2], 576);
        r = kernel(KASM("xor %ecx, %ecx; xor %edx, %edx; xsetbv"));
        r.ax = 2, EXPECT("XCR0 without x87", &r, GP, 0, ANYWHERE), r.ax = 7, EXPECT("XCR0 with AVX", &r, GP, 0, ANYWHERE), r.ax = 3, OK("XCR0", &r);
        cpuid(0xd, 1, o);
        r = kernel(KASM("mov $1, %eax; xor %edx, %edx; xsaveopt (%ebx)")), r.bx = (u32)memory, EXPECT("XSAVEOPT", &r, o[0] & 1 ? DONE : UD, NONE, ANYWHERE);
        r = kernel(KASM("mov $1, %eax; xor %edx, %edx; xsavec (%ebx)")), r.bx = (u32)memory, EXPECT("XSAVEC", &r, o[0] & 2 ? DONE : UD, NONE, ANYWHERE);
        r = kernel(KASM("mov $1, %ecx; xgetbv")), EXPECT("XGETBV 1", &r, o[0] & 4 ? DONE : GP, o[0] & 4 ? NONE : 0, ANYWHERE);
        r = kernel(KASM("mov $1, %eax; xor %edx, %edx; xsaves (%ebx); xrstors (%ebx)")), r.bx = (u32)memory, EXPECT("XSAVES", &r, o[0] & 8 ? DONE : UD, NONE, ANYWHERE);
        r = kernel(KASM("mov $0xda0, %ecx; rdmsr")), EXPECT("IA32_XSS", &r, o[0] & 8 ? DONE : GP, o[0] & 8 ? NONE : 0, ANYWHERE);
        CHECK_EQ("no other way to save", o[0] & ~15u, 0);
    }
}

static void msr(const char *what, u32 number, bool there)
{
    r = kernel(KASM("rdmsr")), r.cx = number;
    if (word_of(1, EDX) >> 5 & 1)
        EXPECT(what, &r, there ? DONE : GP, there ? NONE : 0, there ? ANYWHERE : 0);
    else
        EXPECT(what, &r, UD, NONE, 0);
}

static void msrs(void)
{
    u32 edx = word_of(1, EDX), ext = word_of(0x80000001, EDX);
    msr("IA32_APIC_BASE", 0x1b, edx >> 9 & 1), msr("IA32_PAT", 0x277, edx >> 16 & 1), msr("IA32_MTRRCAP", 0xfe, edx >> 12 & 1), msr("IA32_MTRR_DEF_TYPE", 0x2ff, edx >> 12 & 1);
    msr("IA32_SYSENTER_CS", 0x174, edx >> 11 & 1), msr("IA32_MCG_CAP", 0x179, edx >> 14 & 1), msr("IA32_TSC", 0x10, edx >> 4 & 1), msr("IA32_TSC_ADJUST", 0x3b, word_of(7, EBX) >> 1 & 1);
    msr("EFER", 0xc0000080, ext & (1u << 11 | 1u << 20 | 1u << 29)), msr("STAR", 0xc0000081, ext >> 11 & 1), msr("LSTAR", 0xc0000082, ext >> 29 & 1), msr("FS_BASE", 0xc0000100, ext >> 29 & 1), msr("TSC_AUX", 0xc0000103, ext >> 27 & 1);
    msr("IA32_TSC_DEADLINE", 0x6e0, word_of(1, ECX) >> 24 & 1);
    if (!(ext & (1u << 11 | 1u << 20 | 1u << 29)))
        return;
    static const u8 bits[][2] = {{0, 11}, {8, 29}, {11, 20}};
    u64 efer = rdmsr(0xc0000080);
    for (unsigned i = 0; i < 3; i++) {
        bool on = ext >> bits[i][1] & 1;
        r = kernel(KASM("wrmsr")), r.cx = 0xc0000080, r.ax = (u32)efer ^ 1u << bits[i][0], r.dx = 0;
        EXPECT("EFER", &r, on ? DONE : GP, on ? NONE : 0, on ? ANYWHERE : 0);
        wrmsr(0xc0000080, efer);
    }
    if (ext >> 11 & 1) {
        wrmsr(0xc0000080, efer | 1), wrmsr(0xc0000081, (u64)KCODE << 32 | (u32)KASM("mov $5, %ecx"));
        r = user(ASM("syscall")), OK("SYSCALL in protected mode", &r), CHECK_EQ("ECX", ev.r.cx, 5), CHECK_EQ("CS", ev.r.cs, KCODE);
        wrmsr(0xc0000080, efer);
    }
    r = user(ASM("syscall")), EXPECT("SYSCALL that is off", &r, UD, NONE, 0);
}

static bool text_is(const char *a, const char *b) { while (*a && *a == *b) a++, b++; return *a == *b; }
static bool begins(const char *text, const char *with) { while (*with) if (*text++ != *with++) return false; return true; }
static void leaves(void)
{
    u32 o[4];
    char vendor[13] = {0}, brand[49] = {0};
    cpuid(0, 0, o), memcpy(vendor, &o[1], 4), memcpy(vendor + 4, &o[3], 4), memcpy(vendor + 8, &o[2], 4);
    CHECK("vendor", text_is(vendor, "AuthenticAMD") || text_is(vendor, "GenuineIntel"));
    u32 last = o[0], last_extended;
    r = kernel(KASM("pushf; pop %eax; xor $0x200000, %eax; push %eax; popf; pushf; pop %ecx; xor %eax, %ecx")), OK("EFLAGS.ID can be changed", &r), CHECK_EQ("EFLAGS", ev.r.cx & 0x200000, 0);
    cpuid(0x80000000, 0, o), last_extended = o[0];
    cpuid(last + 1, 0, o), CHECK_EQ("a leaf behind the last", o[0] | o[1] | o[2] | o[3], 0);
    cpuid(last_extended ? last_extended + 1 : 0x80000001, 0, o), CHECK_EQ("an extended leaf behind the last", o[0] | o[1] | o[2] | o[3], 0);
    cpuid(1, 0, o);
    u32 again[4];
    cpuid(1, 0x12345, again), CHECK_EQ("leaf 1 has no subleaves", memcmp(o, again, 16), 0);
    const char *line = command_line(), *cpu = line;
    while (*cpu && !begins(cpu, "cpu="))
        cpu++;
    cpu += *cpu ? 4 : 0;
    unsigned family = o[0] >> 8 & 15;
    CHECK_EQ("family", family, begins(cpu, "486") ? 4 : 6 + (family == 15 ? 9 : 0));
    if (last_extended >= 0x80000004) {
        cpuid(0x80000002, 0, (u32 *)brand), cpuid(0x80000003, 0, (u32 *)(brand + 16)), cpuid(0x80000004, 0, (u32 *)(brand + 32));
        CHECK("a brand", brand[0]);
    }
    if (last_extended >= 0x80000008)
        cpuid(0x80000008, 0, o), CHECK_EQ("linear address bits", o[0] >> 8 & 0xff, word_of(0x80000001, EDX) >> 29 & 1 ? 48 : 32);
    if (begins(cpu, "486,+"))
        CHECK("+cmov", word_of(1, EDX) >> 15 & 1), CHECK("+tsc", word_of(1, EDX) >> 4 & 1);
    else if (begins(cpu, "486"))
        CHECK_EQ("a 486: FPU alone", word_of(1, EDX), 1), CHECK_EQ("no more", word_of(1, ECX), 0);
    if (begins(cpu, "x86-64-v2"))
        CHECK_EQ("-sse4.2", word_of(1, ECX) >> 20 & 1, !begins(cpu, "x86-64-v2,-")), CHECK_EQ("+aes", word_of(1, ECX) >> 25 & 1, begins(cpu, "x86-64-v2,-"));
    if (begins(cpu, "pentium3"))
        CHECK_EQ("no SSE2", word_of(1, EDX) >> 26 & 1, 0), CHECK_EQ("no long mode", word_of(0x80000001, EDX), 0);
}

void guest_main(void)
{
    word cr4 = get_cr4();
    cr4 |= word_of(1, EDX) >> 24 & 1 ? CR4_OSFXSR : 0, cr4 |= word_of(1, ECX) >> 26 & 1 ? CR4_OSXSAVE : 0;
    if (cr4)
        set_cr4(cr4);
    leaves();
    instructions();
    control();
    msrs();
}
