/* guest.h - what bare-metal guest programs share: console, checks, and `run`, which puts the CPU into any state
 * (privilege, segments, flags, virtual-8086), lets it run a piece of code until the first exception or interrupt,
 * and hands back the state at that point.  Compiled for 32 bit (protected mode, no paging) and 64 bit (long mode,
 * one to one, 4 MiB .. 6 MiB for user code). */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef unsigned long long u64;
typedef unsigned long word; /* as wide as a register */

enum { DE, DB, NMI, BP, OF, BR, UD, NM, DF, TS = 10, NP, SS, GP, PF, MF = 16, AC, MC, XM, DONE = 0xf0 };
enum { FLAG_CF = 1, FLAG_FIXED = 2, FLAG_PF = 4, FLAG_AF = 16, FLAG_ZF = 64, FLAG_SF = 128, FLAG_TF = 0x100, FLAG_IF = 0x200, FLAG_DF = 0x400,
       FLAG_OF = 0x800, FLAG_IOPL = 0x3000, FLAG_NT = 0x4000, FLAG_RF = 0x10000, FLAG_VM = 0x20000, FLAG_AC = 0x40000,
       FLAG_VIF = 0x80000, FLAG_VIP = 0x100000, FLAG_ID = 0x200000 };

/* --- Console and end */
void print(const char *format, ...) __attribute__((format(printf, 1, 2))); /* %s %c %d %u %x %lx %llx, width with 0 */
void finish(void) __attribute__((noreturn)); /* prints the verdict; ends the machine */
void fail_(const char *file, int line, const char *what, u64 got, u64 wanted);
extern unsigned checks;
static inline void check_(const char *file, int line, const char *what, u64 got, u64 wanted)
{
    checks++;
    if (got != wanted)
        fail_(file, line, what, got, wanted);
}
#define CHECK_EQ(what, got, wanted) check_(__FILE__, __LINE__, what, (u64)(got), (u64)(wanted))
#define CHECK(what, condition) CHECK_EQ(what, !!(condition), 1)

/* --- Segments.  The GDT is the program's to change from FREE on. */
#ifdef __x86_64__
enum { KCODE = 0x08, KDATA = 0x10, KCODE32 = 0x18, UCODE32 = 0x23, UDATA = 0x2b, UCODE = 0x33, TSS_SEL = 0x40, FREE = 0x80 };
#else
enum { KCODE = 0x08, KDATA = 0x10, UCODE = 0x1b, UDATA = 0x23, TSS_SEL = 0x28, TSS_DF = 0x30, FREE = 0x80 };
#endif
#define GDT_ENTRIES 256
extern u64 gdt[GDT_ENTRIES];
extern u64 idt[256 * sizeof(word) / 4];
struct __attribute__((packed)) table { u16 limit; word base; };
extern struct table gdt_table, idt_table;
/* attr: bits 40..47 of the descriptor in the low byte, bits 52..55 (G, D/B, L, AVL) in bits 12..15. */
enum { A_PRESENT = 0x80, A_DPL3 = 0x60, A_S = 0x10, A_CODE = 0x18, A_DATA = 0x10, A_RW = 2, A_DOWN = 4, A_CONFORMING = 4, A_ACCESSED = 1,
       A_G = 0x8000, A_DB = 0x4000, A_L = 0x2000, A_AVL = 0x1000 };
u64 segment(u32 base, u32 limit20, u32 attr);
u64 gate(u32 selector, u32 offset, u32 attr, u32 params); /* low 8 bytes */
void gdt_set(u32 selector, u64 low, u64 high); /* high: of 16-byte descriptors, else ignored when 0 */
void idt_set(unsigned vector, u32 selector, word target, u32 attr, unsigned ist);
void idt_default(unsigned vector); /* back to the library's own handler */
extern u8 tss[0x2100];   /* the task's: I/O bitmap right behind the fixed part, all ones */
extern u8 tss_df[0x68];  /* 32 bit: #DF's task; others may be given its gate when task_vector says which event it is */
extern u32 task_vector;

/* --- Running code */
struct regs {
#ifdef __x86_64__
    u64 ax, bx, cx, dx, si, di, bp, sp, r8, r9, r10, r11, r12, r13, r14, r15;
#else
    u32 ax, bx, cx, dx, si, di, bp, sp;
#endif
    word ip, flags;
    word cs, ss, ds, es, fs, gs;
};
/* What ended the run.  error is ~0 where the vector has none. */
struct event { word vector, error, cr2; struct regs r; };
extern struct event ev;
void run(const struct regs *);  /* fills ev */
struct regs kernel(const void *code); /* flat segments, CPL 0, own stack, interrupts off */
struct regs user(const void *code);   /* the same at CPL 3 (code and stack in user memory) */
extern u8 stack_area[], ustack_area[]; /* 4096 bytes each; SP starts at the end */
#define STACK_SIZE 4096

/* A piece of code; yields its address.  It ends in `int $0xf0`, which is event DONE.  In user memory. */
#define ASM(text) ({ void *asm_at_; asm(".pushsection .utext,\"ax\"\n771:\n" text "\n int $0xf0\n.popsection"); \
    asm volatile("mov $771b, %0" : "=r"(asm_at_)); asm_at_; })
#define KASM(text) ({ void *asm_at_; asm(".pushsection .ktext,\"ax\"\n771:\n" text "\n int $0xf0\n.popsection"); \
    asm volatile("mov $771b, %0" : "=r"(asm_at_)); asm_at_; })
#ifdef __x86_64__
#define ASM16(text) ASM(".code16\n" text "\n int $0xf0\n.code64\n")
#define ASM32(text) ASM(".code32\n" text "\n int $0xf0\n.code64\n")
#define KASM16(text) KASM(".code16\n" text "\n int $0xf0\n.code64\n")
#define KASM32(text) KASM(".code32\n" text "\n int $0xf0\n.code64\n")
#else
#define ASM16(text) ASM(".code16\n" text "\n int $0xf0\n.code32\n")
#endif
/* Runs r and checks the event: vector, error (NONE where there is none), and the distance of the saved IP from r's. */
#define NONE (~(word)0)
void expect_(const char *file, int line, const char *what, const struct regs *, word vector, word error, long at);
#define EXPECT(what, r, vector, error, at) expect_(__FILE__, __LINE__, what, r, vector, error, at)
#define ANYWHERE (-1000000L)
#define OK(what, r) EXPECT(what, r, DONE, NONE, ANYWHERE)

/* --- Bare instructions */
static inline void outb(u16 port, u8 v) { asm volatile("outb %0, %1" :: "a"(v), "Nd"(port)); }
static inline void outw(u16 port, u16 v) { asm volatile("outw %0, %1" :: "a"(v), "Nd"(port)); }
static inline void outl(u16 port, u32 v) { asm volatile("outl %0, %1" :: "a"(v), "Nd"(port)); }
static inline u8 inb(u16 port) { u8 v; asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline u64 rdmsr(u32 msr) { u32 a, d; asm volatile("rdmsr" : "=a"(a), "=d"(d) : "c"(msr)); return a | (u64)d << 32; }
static inline void wrmsr(u32 msr, u64 v) { asm volatile("wrmsr" :: "c"(msr), "a"((u32)v), "d"((u32)(v >> 32)) : "memory"); }
#define REGISTER(name) static inline word get_##name(void) { word v; asm volatile("mov %%" #name ", %0" : "=r"(v)); return v; } \
    static inline void set_##name(word v) { asm volatile("mov %0, %%" #name :: "r"(v) : "memory"); }
REGISTER(cr0) REGISTER(cr2) REGISTER(cr3) REGISTER(cr4)
REGISTER(dr0) REGISTER(dr1) REGISTER(dr2) REGISTER(dr3) REGISTER(dr6) REGISTER(dr7)
enum { CR0_PE = 1, CR0_MP = 2, CR0_EM = 4, CR0_TS = 8, CR0_NE = 32, CR0_WP = 0x10000, CR0_AM = 0x40000 };
#define CR0_PG 0x80000000u
enum { CR4_VME = 1, CR4_PVI = 2, CR4_TSD = 4, CR4_DE = 8, CR4_PSE = 16, CR4_PAE = 32, CR4_PGE = 128, CR4_PCE = 256, CR4_OSFXSR = 512,
       CR4_OSXMMEXCPT = 1024, CR4_UMIP = 2048, CR4_FSGSBASE = 0x10000, CR4_PCIDE = 0x20000, CR4_OSXSAVE = 0x40000, CR4_SMEP = 0x100000,
       CR4_SMAP = 0x200000 };
static inline void cpuid(u32 leaf, u32 subleaf, u32 out[4]) { asm volatile("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3]) : "a"(leaf), "c"(subleaf)); }
static inline bool has(u32 leaf, unsigned reg, unsigned bit) { u32 o[4]; cpuid(leaf & 0x80000000, 0, o); if (o[0] < leaf) return false; cpuid(leaf, 0, o); return o[reg] >> bit & 1; }
static inline void invlpg(const void *at) { asm volatile("invlpg (%0)" :: "r"(at) : "memory"); }
void *memset(void *, int, size_t);
void *memcpy(void *, const void *, size_t);
int memcmp(const void *, const void *, size_t);
void guest_main(void);
extern u32 multiboot_info;
const char *command_line(void);

#endif
