/* The CPU state with which a directly booted kernel or image starts (Linux boot protocol, PVH, Multiboot). */
#include "runtime/internal.h"

enum { ATTR_CODE32 = 0xc09b, ATTR_CODE64 = 0xa09b, ATTR_DATA = 0xc093, ATTR_TSS = 0x8b };

static void segment(struct x86_state *s, unsigned seg, uint16_t selector, uint32_t attr)
{
    s->seg_sel[seg] = selector;
    s->seg_base[seg] = 0;
    s->seg_limit[seg] = 0xffffffff;
    s->seg_attr[seg] = attr;
}

static void flat(struct x86_state *s, uint16_t code, uint16_t data, uint32_t code_attr)
{
    segment(s, X86_CS, code, code_attr);
    for (unsigned seg = 0; seg < 6; seg++)
        if (seg != X86_CS)
            segment(s, seg, data, ATTR_DATA);
}

static void protected_mode(struct x86_state *s, const struct boot_entry *e)
{
    flat(s, 0x10, 0x18, ATTR_CODE32);
    s->cr0 |= 1;
    s->rip = e->entry;
    s->gdtr_base = e->gdt;
    s->gdtr_limit = (uint32_t)e->gdt_limit;
    s->gpr[X86_RSP] = e->stack;
}

static void long_mode(struct x86_state *s, const struct boot_entry *e)
{
    protected_mode(s, e);
    s->seg_attr[X86_CS] = ATTR_CODE64;
    s->cr4 |= 1 << 5; /* PAE */
    s->cr3 = e->page_table;
    s->efer = 1 << 8 | 1 << 10; /* LME, LMA */
    s->cr0 |= 1u << 31;
}

void start_state(struct machine *m, const struct boot_entry *e)
{
    struct x86_cpu *cpu = &m->vcpu->cpu;
    struct x86_state *s = &cpu->state;
    switch (e->protocol) {
    case BOOT_LINUX64:
        long_mode(s, e);
        s->gpr[X86_RSI] = e->zero_page;
        break;
    case BOOT_LINUX32:
        protected_mode(s, e);
        s->gpr[X86_RSI] = e->zero_page;
        s->gpr[X86_RBP] = s->gpr[X86_RDI] = s->gpr[X86_RBX] = 0;
        break;
    case BOOT_PVH:
        protected_mode(s, e);
        s->gpr[X86_RBX] = e->zero_page;
        break;
    case BOOT_MULTIBOOT:
        protected_mode(s, e);
        s->gpr[X86_RAX] = 0x2badb002;
        s->gpr[X86_RBX] = e->zero_page;
        break;
    case BOOT_REAL16:
        s->seg_sel[X86_CS] = (uint16_t)(e->entry >> 4);
        s->seg_base[X86_CS] = e->entry & ~15ull;
        s->rip = e->entry & 15;
        s->gpr[X86_RSP] = e->stack;
        break;
    }
    x86_mode_update(cpu);
}
