/* What resets the machine: triple faults of several kinds, the keyboard controller, ports 92h and CF9h, INIT.  CMOS memory survives
 * and says how far it got.
 * guest-option: reboots */
#include "lib/guest.h"

enum { STAGE = 0x60, MAGIC = 0x61 };
static u8 cmos(u8 at) { outb(0x70, at); return inb(0x71); }
static void cmos_set(u8 at, u8 v) { outb(0x70, at), outb(0x71, v); }
static void forever(void) { for (;;) asm volatile("cli; hlt"); }

static void no_idt(void)
{
    struct table none = {0, 0};
    asm volatile("lidt %0; ud2" :: "m"(none));
}
static void no_stack(void)
{
    idt_set(DF, KCODE, 0x100000, A_PRESENT | 14, 0); /* an interrupt gate: it needs the stack that is not there */
    gdt_set(FREE, segment(0, 0xf, A_PRESENT | A_DATA | A_RW | A_DB), 0);
    asm volatile("mov %0, %%ss; mov $4, %%esp; push %%eax; push %%eax" :: "r"(FREE));
}
static void no_double_fault_task(void)
{
    idt_set(GP, FREE + 8, 0, A_PRESENT | 14, 0), idt_set(DF, FREE + 8, 0, A_PRESENT | 5, 0);
    gdt_set(FREE + 8, 0, 0);
    asm volatile("mov %0, %%ds" :: "r"(FREE + 8));
}
static void no_handler_page(void)
{
    static u32 directory[1024] __attribute__((aligned(4096)));
    directory[0] = 0x83; /* 4 MiB, without what the stubs need: then unmapped */
    set_cr4(get_cr4() | CR4_PSE), set_cr3((u32)directory), set_cr0(get_cr0() | CR0_PG);
    struct table away = {0x7ff, 0x800000};
    asm volatile("lidt %0; ud2" :: "m"(away)); /* #UD, then #PF for the gate, #PF again, #DF, #PF */
}
static void keyboard(void) { outb(0x64, 0xfe); }
static void port92(void) { outb(0x92, inb(0x92) | 1); }
static void cf9(void) { outb(0xcf9, 2), outb(0xcf9, 6); }
static volatile u32 *const icr = (volatile u32 *)0xfee00300;
static void init_by_shorthand(void) { icr[0] = 0x44500; } /* not valid (SDM 3A 11.6.1): does nothing */
static void init(void) { icr[4] = *(volatile u32 *)0xfee00020, icr[0] = 0x4500; }

void guest_main(void)
{
    static void (*const ways[])(void) = {no_idt, no_stack, no_double_fault_task, no_handler_page, keyboard, port92, cf9, init};
    unsigned stage = cmos(MAGIC) == 0x5a ? cmos(STAGE) : 0;
    print("stage %u\n", stage);
    CHECK_EQ("CR0 after reset: no paging, PE by the loader", get_cr0() & (CR0_PG | CR0_PE | CR0_WP | CR0_TS), CR0_PE);
    CHECK_EQ("CR4", get_cr4(), 0), CHECK_EQ("DR7", get_dr7(), 0x400);
    if (stage == sizeof ways / sizeof *ways) {
        checks += 3 * stage; /* those of the starts before this one: had one failed, it would have said FAIL */
        return;
    }
    init_by_shorthand(); /* else this is without an end */
    cmos_set(STAGE, (u8)(stage + 1)), cmos_set(MAGIC, 0x5a);
    set_dr7(0x402), set_cr4(get_cr4() | CR4_TSD);
    ways[stage]();
    forever();
}
