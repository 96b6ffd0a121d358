/* Console, verdict, tables and the ready-made states of guest programs (guest.h). */
#include "lib/guest.h"
#include <stdarg.h>

unsigned checks;
static unsigned failures __attribute__((section(".data"))); /* away from the stacks of programs */
struct event ev;
asm(".globl ev_regs\n.set ev_regs, ev + 3 * " 
#ifdef __x86_64__
    "8"
#else
    "4"
#endif
);
u64 gdt[GDT_ENTRIES] __attribute__((aligned(16)));
u64 idt[256 * sizeof(word) / 4] __attribute__((aligned(16)));
struct table gdt_table = {sizeof gdt - 1, (word)gdt}, idt_table = {sizeof idt - 1, (word)idt};
u8 tss[0x2100] __attribute__((aligned(4096)));
u8 tss_df[0x68] __attribute__((aligned(256)));
u8 stack_area[STACK_SIZE] __attribute__((aligned(4096)));
u8 ustack_area[STACK_SIZE] __attribute__((section(".udata"), aligned(4096))) = {1};
static u8 trap_stack[4096] __attribute__((aligned(16))), df_stack[4096] __attribute__((aligned(16)));
extern u8 stubs[];

void *memset(void *to, int c, size_t n) { for (u8 *p = to; n--; p++) *p = (u8)c; return to; }
void *memcpy(void *to, const void *from, size_t n) { u8 *t = to; const u8 *f = from; while (n--) *t++ = *f++; return to; }
int memcmp(const void *a, const void *b, size_t n) { const u8 *x = a, *y = b; for (; n--; x++, y++) if (*x != *y) return *x - *y; return 0; }

/* --- Console */
static void put(char c) { outb(0x3f8, (u8)c); }
static void number(u64 v, unsigned base, unsigned width, char pad)
{
    char text[24];
    unsigned n = 0;
    do { /* no 64-bit division in 32-bit programs: decimal numbers are small */
        unsigned digit = base == 16 ? (unsigned)(v & 15) : (unsigned)((u32)v % 10);
        text[n++] = "0123456789abcdef"[digit];
        v = base == 16 ? v >> 4 : (u32)v / 10;
    } while (v);
    while (n < width)
        text[n++] = pad;
    while (n)
        put(text[--n]);
}

void print(const char *f, ...)
{
    va_list a;
    va_start(a, f);
    for (; *f; f++) {
        unsigned longs = 0, width = 0;
        char pad = ' ';
        if (*f != '%') {
            put(*f);
            continue;
        }
        f++;
        if (*f == '0')
            pad = *f++;
        while (*f >= '0' && *f <= '9')
            width = width * 10 + (unsigned)(*f++ - '0');
        while (*f == 'l')
            longs++, f++;
        if (*f == 's')
            for (const char *s = va_arg(a, const char *); *s; s++)
                put(*s);
        else if (*f == 'c')
            put((char)va_arg(a, int));
        else
            number(longs > 1 ? va_arg(a, u64) : longs ? va_arg(a, word) : va_arg(a, u32), *f == 'x' ? 16 : 10, width, pad);
    }
    va_end(a);
}

void fail_(const char *file, int line, const char *what, u64 got, u64 wanted)
{
    for (const char *p = file; *p; p++)
        if (*p == '/')
            file = p + 1;
    failures++;
    print("%s:%d: %s: got 0x%llx, wanted 0x%llx\n", file, line, what, got, wanted);
}

void finish(void)
{
    print("%s: %u checks, %u failed\n", failures || !checks ? "FAIL" : "PASS", checks, failures);
    outl(0x501, failures || !checks ? 1 : 0x10);
    for (;;)
        asm volatile("cli; hlt");
}

void stray(void) __attribute__((used));
void stray(void)
{
    print("FAIL: stray event: vector 0x%lx error 0x%lx at 0x%lx:0x%lx address 0x%lx after %u checks\n", ev.vector, ev.error, ev.r.cs, ev.r.ip, ev.cr2, checks);
    outl(0x501, 2);
    for (;;)
        asm volatile("cli; hlt");
}

const char *command_line(void) { return (const char *)(word)((const u32 *)(word)multiboot_info)[4]; }

/* --- Tables */
u64 segment(u32 base, u32 limit, u32 attr)
{
    return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)(attr & 0xff) << 40 | (u64)(limit >> 16 & 15) << 48 | (u64)(attr >> 12 & 15) << 52 | (u64)(base >> 24) << 56;
}
u64 gate(u32 selector, u32 offset, u32 attr, u32 params)
{
    return (offset & 0xffff) | (u64)selector << 16 | (u64)(params & 0xff) << 32 | (u64)(attr & 0xff) << 40 | (u64)(offset >> 16) << 48;
}
void gdt_set(u32 selector, u64 low, u64 high)
{
    gdt[selector >> 3] = low;
    if (high)
        gdt[(selector >> 3) + 1] = high;
}
void idt_set(unsigned vector, u32 selector, word target, u32 attr, unsigned ist)
{
#ifdef __x86_64__
    idt[2 * vector] = gate(selector, (u32)target, attr, ist);
    idt[2 * vector + 1] = target >> 32;
#else
    idt[vector] = gate(selector, (u32)target, attr, ist);
#endif
}
void idt_default(unsigned vector)
{
    u32 attr = A_PRESENT | 14 | (vector == DONE || vector == BP || vector == OF ? A_DPL3 : 0);
#ifdef __x86_64__
    idt_set(vector, KCODE, (word)stubs + 16 * vector, attr, 1);
#else
    if (vector == DF)
        idt_set(vector, TSS_DF, 0, A_PRESENT | 5, 0);
    else
        idt_set(vector, KCODE, (word)stubs + 16 * vector, attr, 0);
#endif
}

#ifdef __x86_64__
static void tables(void)
{
    gdt_set(KCODE, segment(0, 0xfffff, A_PRESENT | A_CODE | A_RW | A_G | A_L), 0);
    gdt_set(KDATA, segment(0, 0xfffff, A_PRESENT | A_DATA | A_RW | A_G | A_DB), 0);
    gdt_set(KCODE32, segment(0, 0xfffff, A_PRESENT | A_CODE | A_RW | A_G | A_DB), 0);
    gdt_set(UCODE32, segment(0, 0xfffff, A_PRESENT | A_DPL3 | A_CODE | A_RW | A_G | A_DB), 0);
    gdt_set(UDATA, segment(0, 0xfffff, A_PRESENT | A_DPL3 | A_DATA | A_RW | A_G | A_DB), 0);
    gdt_set(UCODE, segment(0, 0xfffff, A_PRESENT | A_DPL3 | A_CODE | A_RW | A_G | A_L), 0);
    gdt_set(TSS_SEL, segment((u32)(word)tss, 0x2088, A_PRESENT | 9), (word)tss >> 32);
    *(u64 *)(tss + 4) = (word)(trap_stack + sizeof trap_stack);
    *(u64 *)(tss + 0x24) = (word)(df_stack + sizeof df_stack); /* IST1 */
}
#else
extern void double_fault(void);
static void tables(void)
{
    gdt_set(KCODE, segment(0, 0xfffff, A_PRESENT | A_CODE | A_RW | A_G | A_DB), 0);
    gdt_set(KDATA, segment(0, 0xfffff, A_PRESENT | A_DATA | A_RW | A_G | A_DB), 0);
    gdt_set(UCODE, segment(0, 0xfffff, A_PRESENT | A_DPL3 | A_CODE | A_RW | A_G | A_DB), 0);
    gdt_set(UDATA, segment(0, 0xfffff, A_PRESENT | A_DPL3 | A_DATA | A_RW | A_G | A_DB), 0);
    gdt_set(TSS_SEL, segment((u32)tss, 0x2088, A_PRESENT | 9), 0);
    gdt_set(TSS_DF, segment((u32)tss_df, 0x67, A_PRESENT | 9), 0);
    *(u32 *)(tss + 4) = (u32)(trap_stack + sizeof trap_stack);
    *(u32 *)(tss + 8) = KDATA;
    *(u32 *)(tss_df + 0x20) = (u32)double_fault;
    *(u32 *)(tss_df + 0x24) = FLAG_FIXED;
    *(u32 *)(tss_df + 0x38) = (u32)(df_stack + sizeof df_stack);
    for (unsigned i = 0; i < 6; i++)
        *(u32 *)(tss_df + 0x48 + 4 * i) = i == 1 ? KCODE : KDATA;
}
#endif

void guest_init(void) __attribute__((used));
void guest_init(void)
{
    tables();
    memset(tss + 0x68, 0xff, sizeof tss - 0x68);
    *(u16 *)(tss + 0x66) = 0x88; /* bitmap of 8 KiB from here, and the byte behind it; below it that of redirections */
    for (unsigned i = 0; i < 256; i++)
        idt_default(i);
}

/* --- Running */
struct regs kernel(const void *code)
{
    return (struct regs){.ip = (word)code, .flags = FLAG_FIXED, .cs = KCODE, .ss = KDATA, .ds = KDATA, .es = KDATA, .fs = KDATA, .gs = KDATA, .sp = (word)(stack_area + STACK_SIZE - 64)};
}
struct regs user(const void *code)
{
    return (struct regs){.ip = (word)code, .flags = FLAG_FIXED, .cs = UCODE, .ss = UDATA, .ds = UDATA, .es = UDATA, .fs = UDATA, .gs = UDATA, .sp = (word)(ustack_area + STACK_SIZE - 64)};
}

void expect_(const char *file, int line, const char *what, const struct regs *r, word vector, word error, long at)
{
    word ip = r->ip;
    run(r);
    checks++;
    if (ev.vector != vector) {
        fail_(file, line, what, ev.vector, vector);
        print("  (vector; error 0x%lx, cs:ip 0x%lx:0x%lx, +%d, address 0x%lx)\n", ev.error, ev.r.cs, ev.r.ip, (int)(ev.r.ip - ip), ev.cr2);
        return;
    }
    checks++;
    if (ev.error != error) {
        fail_(file, line, what, ev.error, error);
        print("  (error code of vector 0x%lx)\n", ev.vector);
    }
    if (at == ANYWHERE)
        return;
    checks++;
    if (ev.r.ip != ip + (word)at) {
        fail_(file, line, what, ev.r.ip - ip, (word)at);
        print("  (saved IP, from the start of the code)\n");
    }
}
