/* Paging: the walk of the guest's page tables in all four shapes, with rights, and A and D bits (SDM 3A chapter 4).
 * The walk reads through the bus; a fault is made pending and the walk returns false. */
#include "frontend/internal.h"

enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40, PTE_PS = 0x80, PTE_G = 0x100 };
#define PTE_NX (1ull << 63)
#define ADDRESS 0x000ffffffffff000ull
enum { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16 };
#define MAX_PHYSICAL_BITS 40

struct walk {
    struct x86_cpu *cpu;
    uint64_t linear;
    unsigned access;
    bool user, execute, write, debug;
    uint32_t error;
};

/* One level: where its entries lie, how many address bits are below it. */
struct level { unsigned shift, entry_size; bool may_be_large; };
struct entry { uint64_t address, value; };

static bool fault(struct walk *w, uint32_t bits)
{
    struct x86_state *s = &w->cpu->state;
    bool nx = s->efer & X86_EFER_NXE && s->cr4 & X86_CR4_PAE;
    if (w->debug)
        return false;
    s->fault_address = w->linear;
    x86_raise_error(w->cpu, X86_PF, bits | (w->write ? PF_W : 0) | (w->user ? PF_U : 0) |
                    (w->execute && (nx || s->cr4 & X86_CR4_SMEP) ? PF_I : 0));
    s->fault_address = w->linear;
    return false;
}

static uint64_t reserved_bits(const struct walk *w, unsigned size, bool large, unsigned shift)
{
    const struct x86_state *s = &w->cpu->state;
    if (size == 4) {
        bool pse36 = x86_model_has(w->cpu->model, X86_FEATURE_PSE36);
        return !large ? 0 : pse36 ? 0x200000 : 0x3fe000; /* PSE-36: bits 13..20 are address; 21 is reserved */
    }
    uint64_t r = ADDRESS & ~((1ull << MAX_PHYSICAL_BITS) - 1);
    if (!(s->efer & X86_EFER_NXE))
        r |= PTE_NX;
    if (!(s->efer & X86_EFER_LMA))
        r |= 0x7ff0000000000000ull; /* PAE: bits 52..62 are reserved */
    if (large && shift == 30 && !x86_model_has(w->cpu->model, X86_FEATURE_PDPE1GB))
        r |= PTE_PS;
    if (large)
        r |= ((1ull << shift) - 1) & ~0x1fffull;
    return r;
}

/* Sets bits in an entry, atomically; false: it changed meanwhile and the walk must be done again. */
static bool set_bits(struct walk *w, const struct entry *e, unsigned size, uint64_t bits)
{
    if (w->debug || (e->value & bits) == bits)
        return true;
    return w->cpu->bus->phys_cas(w->cpu, e->address, size, e->value, e->value | bits);
}

static uint64_t large_base(uint64_t value, unsigned size, unsigned shift)
{
    if (size == 4)
        return (value & 0xffc00000) | (value & 0x1fe000) << 19;
    return value & ADDRESS & ~((1ull << shift) - 1);
}

static bool rights(struct walk *w, uint64_t combined, bool no_execute, bool *writable)
{
    const struct x86_state *s = &w->cpu->state;
    bool user_page = combined & PTE_U, smap = s->cr4 & X86_CR4_SMAP, ac = s->eflags & X86_EFLAGS_AC;
    bool wp = s->cr0 & X86_CR0_WP, implicit = w->access & IR_AS_SUPERVISOR;
    if (w->debug)
        return true;
    *writable = combined & PTE_W || (!w->user && !wp);
    if (w->user && !user_page)
        return fault(w, PF_P);
    if (w->write && !*writable)
        return fault(w, PF_P);
    if (w->execute && (no_execute || (!w->user && user_page && s->cr4 & X86_CR4_SMEP)))
        return fault(w, PF_P);
    if (!w->execute && !w->user && user_page && smap && (!ac || implicit))
        return fault(w, PF_P); /* SDM 3A 4.6.1 */
    return true;
}

enum result { DONE, FAULTED, AGAIN };

/* Walks from the table at `table` down the levels. */
static enum result descend(struct walk *w, uint64_t table, const struct level *level, unsigned levels, struct x86_page *page)
{
    struct entry e[4];
    uint64_t combined = PTE_W | PTE_U;
    bool no_execute = false, large = false, writable = false;
    unsigned n = 0, size = level->entry_size;
    for (;; n++) {
        unsigned shift = level[n].shift, bits = size == 4 ? 10 : 9;
        e[n].address = (table + ((w->linear >> shift & ((1u << bits) - 1)) * size)) & w->cpu->state.a20_mask;
        e[n].value = w->cpu->bus->phys_read(w->cpu, e[n].address, size);
        uint64_t v = e[n].value;
        if (!(v & PTE_P))
            return fault(w, 0), FAULTED;
        large = level[n].may_be_large && v & PTE_PS;
        uint64_t bad = reserved_bits(w, size, large, shift);
        if (size == 8 && !level[n].may_be_large && n + 1 < levels)
            bad |= PTE_PS; /* PML4E: PS is reserved */
        if (v & bad)
            return fault(w, PF_P | PF_RSVD), FAULTED; /* P: the translation was there (SDM 3A 4.7) */
        combined &= v;
        no_execute |= size == 8 && v & PTE_NX;
        if (large || n + 1 == levels)
            break;
        table = v & (size == 4 ? 0xfffff000ull : ADDRESS);
    }
    if (!rights(w, combined, no_execute, &writable))
        return FAULTED;
    for (unsigned i = 0; i < n; i++)
        if (!set_bits(w, &e[i], size, PTE_A))
            return AGAIN;
    if (!set_bits(w, &e[n], size, PTE_A | (w->write ? PTE_D : 0)))
        return AGAIN;
    uint64_t span = 1ull << level[n].shift;
    page->physical = (large ? large_base(e[n].value, size, level[n].shift) : e[n].value & (size == 4 ? 0xfffff000ull : ADDRESS)) | (w->linear & (span - 1));
    page->physical &= w->cpu->state.a20_mask;
    page->page_size = span;
    page->user = combined & PTE_U;
    page->global = e[n].value & PTE_G && w->cpu->state.cr4 & X86_CR4_PGE;
    page->readable = !w->execute;
    page->executable = !no_execute;
    page->writable = writable && (w->write || e[n].value & PTE_D) && !w->execute;
    return DONE;
}

static bool non_canonical(struct walk *w)
{
    if (!w->debug)
        x86_raise_error(w->cpu, w->access & IR_SS ? X86_SS_FAULT : X86_GP, 0);
    return false;
}

static enum result walk_once(struct walk *w, struct x86_page *page)
{
    static const struct level four[] = {{39, 8, false}, {30, 8, true}, {21, 8, true}, {12, 8, false}};
    static const struct level pae[] = {{21, 8, true}, {12, 8, false}};
    static const struct level two[] = {{22, 4, false}, {12, 4, false}}, two_pse[] = {{22, 4, true}, {12, 4, false}};
    const struct x86_state *s = &w->cpu->state;
    if (s->efer & X86_EFER_LMA)
        return descend(w, s->cr3 & ADDRESS, four, 4, page);
    w->linear = (uint32_t)w->linear;
    if (!(s->cr4 & X86_CR4_PAE))
        return descend(w, s->cr3 & 0xfffff000, s->cr4 & X86_CR4_PSE ? two_pse : two, 2, page);
    uint64_t pdpte = s->pdpte[w->linear >> 30];
    if (!(pdpte & PTE_P))
        return fault(w, 0), FAULTED;
    return descend(w, pdpte & ADDRESS, pae, 2, page);
}

static bool translate(struct walk *w, struct x86_page *page)
{
    const struct x86_state *s = &w->cpu->state;
    enum result r;
    if (!(s->cr0 & X86_CR0_PG)) {
        *page = (struct x86_page){.physical = (uint32_t)w->linear & s->a20_mask, .page_size = 4096, .readable = 1, .writable = 1, .executable = 1, .user = true};
        return true;
    }
    if (s->efer & X86_EFER_LMA && !x86_is_canonical(w->linear))
        return non_canonical(w);
    while ((r = walk_once(w, page)) == AGAIN)
        continue;
    return r == DONE;
}

bool x86_translate(struct x86_cpu *cpu, uint64_t linear, unsigned access, bool user, struct x86_page *page)
{
    struct walk w = {.cpu = cpu, .linear = linear, .access = access, .user = user && !(access & IR_AS_SUPERVISOR),
                     .execute = access & IR_EXEC, .write = access & IR_WRITE};
    return translate(&w, page);
}

bool x86_access_check(struct x86_cpu *cpu, uint64_t linear, unsigned size, unsigned access)
{
    unsigned limit = access & IR_SS ? X86_SS_FAULT : X86_GP;
    bool misaligned = linear & (size - 1);
    if (access & IR_ALIGNED && misaligned)
        x86_raise_error(cpu, X86_GP, 0);
    else if (x86_code64(cpu) && !(x86_is_canonical(linear) && x86_is_canonical(linear + size - 1)))
        x86_raise_error(cpu, limit, 0);
    else if (access & IR_TOP && linear + size > 1ull << 32)
        x86_raise_error(cpu, limit, 0);
    else if (access & IR_AC && misaligned)
        x86_raise_error(cpu, X86_AC, 0); /* SDM 3A 6.15, interrupt 17 */
    else
        return true;
    return false;
}

bool x86_fetch_check(struct x86_cpu *cpu, uint64_t linear)
{
    const struct x86_state *s = &cpu->state;
    if (x86_code64(cpu) || (uint32_t)(linear - s->seg_base[X86_CS]) <= s->seg_limit[X86_CS])
        return true;
    x86_raise_error(cpu, X86_GP, 0);
    return false;
}

bool x86_translate_debug(struct x86_cpu *cpu, uint64_t linear, uint64_t *physical)
{
    struct walk w = {.cpu = cpu, .linear = linear, .access = IR_READ, .debug = true};
    struct x86_page page;
    if (!translate(&w, &page))
        return false;
    *physical = page.physical;
    return true;
}
