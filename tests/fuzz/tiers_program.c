/* Makes the programs of tiers_program.h.  Each byte of the input decides something; where it ends, the program ends.
 * That a program ends is by construction: jumps go forward but for those of loops, which count; functions call only those
 * made before them; what a loop counts with is out of reach of its body; code is changed in ways that keep all this; the number
 * of instructions is estimated, and no more is emitted when it is large.  EBX and EBP point into the data. */
#include "tests/fuzz/tiers_program.h"
#include "tests/fuzz/tiers_gen.h"
#include "frontend/frontend.h"
#include <stdlib.h>
#include <string.h>

extern const uint8_t tiers_begin[], tiers_end[], tiers_stubs32[], tiers_stubs64[], tiers_real_begin[], tiers_real_end[];

/* --- The program, and what is around it */
static void put32(struct program *p, unsigned at, uint32_t v) { memcpy(p->image + at, &v, 4); }
static void put64(struct program *p, unsigned at, uint64_t v) { memcpy(p->image + at, &v, 8); }

static void map(struct program *p, uint32_t linear, uint32_t physical, uint32_t rights)
{
    unsigned page = linear / PAGE_SIZE;
    if (p->mode == PROGRAM_64)
        put64(p, PROGRAM_TABLES + 3 * PAGE_SIZE + 8 * page, physical | rights);
    else
        put32(p, PROGRAM_TABLES + PAGE_SIZE + 4 * page, physical | rights);
}
static void make_tables(struct program *p)
{
    enum { P = 1, W = 2, U = 4, AD = 0x60 };
    uint32_t base = p->base;
    for (unsigned level = 0; level < (p->mode == PROGRAM_64 ? 3 : 1); level++)
        put64(p, PROGRAM_TABLES + level * PAGE_SIZE, (base + PROGRAM_TABLES + (level + 1) * PAGE_SIZE) | P | W | U);
    for (uint32_t at = 0; at < PROGRAM_SIZE; at += PAGE_SIZE)
        map(p, base + at, base + at, P | W | (at >= PROGRAM_CODE ? U : 0) | (at < PROGRAM_DATA ? AD : 0)); /* what is fetched and not run sets A, or not */
    map(p, base + PROGRAM_DATA + HOLE * PAGE_SIZE, 0, 0);
    map(p, base + PROGRAM_DATA + RIGID * PAGE_SIZE, base + PROGRAM_DATA + RIGID * PAGE_SIZE, P | U);
    map(p, base + PROGRAM_DATA + TWIN * PAGE_SIZE, base + PROGRAM_DATA + 2 * PAGE_SIZE, P | W | U);
    for (uint32_t at = 0; at < PROGRAM_CODE_SIZE; at += PAGE_SIZE)
        map(p, base + PROGRAM_ALIAS + at, base + PROGRAM_CODE + at, P | W | U | AD);
    map(p, base + PROGRAM_MMIO, 0xfee00000, P | W | U);
}
static void make_gates(struct program *p)
{
    bool wide = p->mode == PROGRAM_64;
    for (unsigned v = 0; v < 256; v++) {
        uint32_t at = PROGRAM_IDT + v * (wide ? 16 : 8);
        uint32_t handler = p->base + (uint32_t)((wide ? tiers_stubs64 : tiers_stubs32) - tiers_begin) + 16 * (v < 32 ? v : 31);
        put32(p, at, (handler & 0xffff) | (wide ? 0x40u : 0x10u) << 16);
        put32(p, at + 4, (handler & 0xffff0000) | 0xee00 | wide /* IST 1 */);
    }
    put32(p, PROGRAM_TSS + 4, p->base + PROGRAM_HANDLER_STACK);
    put32(p, PROGRAM_TSS + (wide ? 36 : 8), wide ? p->base + PROGRAM_HANDLER_STACK : 0x18);
}
static void make_system(struct gen *g)
{
    struct program *p = g->p;
    const uint8_t *from = g->real ? tiers_real_begin : tiers_begin;
    memcpy(p->image, from, (size_t)((g->real ? tiers_real_end : tiers_end) - from));
    if (!g->real) {
        make_tables(p);
        make_gates(p);
    }
    put32(p, PROGRAM_CONTROL + CONTROL_FLAGS, 0x2 | (g->user ? 0x3000 : 0));
    put32(p, PROGRAM_CONTROL + CONTROL_USER, g->user);
    put32(p, PROGRAM_CONTROL + CONTROL_SELECTOR, p->mode != PROGRAM_32 ? 0 : g->biased ? 0x53 : g->user ? 0x2b : 0x18);
    put32(p, PROGRAM_CONTROL + CONTROL_START, code_address(g, p->start));
    put32(p, PROGRAM_CONTROL + CONTROL_FXRSTOR, 0x37f);
    put32(p, PROGRAM_CONTROL + CONTROL_FXRSTOR + 24, 0x1f80);
}
/* Small numbers, doubles near 1, anything. */
static uint64_t filler(uint64_t *x)
{
    *x ^= *x << 13, *x ^= *x >> 7, *x ^= *x << 17;
    uint64_t v = *x * 0x2545f4914f6cdd1dull;
    return v & 1 ? v : v & 2 ? (v & 0x800fffffffffffff) | (0x3fe0000000000000 + ((v >> 4 & 0x1f) << 52)) : v >> 40;
}
static void make_data(struct gen *g, uint64_t seed)
{
    struct program *p = g->p;
    uint64_t x = seed * 0x9e3779b97f4a7c15ull | 1;
    for (unsigned at = PROGRAM_DATA; at < PROGRAM_SIZE; at += 8)
        put64(p, at, filler(&x));
    put32(p, PROGRAM_RECOVER, 0);
    for (unsigned i = 0; i < 32; i++)
        put64(p, PROGRAM_CONTROL + CONTROL_FXRSTOR + 160 + 8 * i, filler(&x));
    for (unsigned i = 0; i < 16; i++)
        put64(p, PROGRAM_CONTROL + CONTROL_GPR + 8 * i, filler(&x));
    put64(p, PROGRAM_CONTROL + CONTROL_GPR + 8 * BX, (uint32_t)data_at(g, BASE_AT).disp);
    /* The stack's segment is flat, but in real mode, where EBP is used with the data's. */
    put64(p, PROGRAM_CONTROL + CONTROL_GPR + 8 * BP, g->real ? BASE2_AT : p->base + PROGRAM_DATA + BASE2_AT);
    /* Most frames lie across a page's end, some are misaligned. */
    put32(p, PROGRAM_CONTROL + CONTROL_STACK, (g->real ? 0 : p->base + PROGRAM_STACK) + 2 * PAGE_SIZE + SCRATCH / 2 + 8 * (unsigned)(seed & 3) + (seed & 4 ? 3 : 0));
}

void program_make(struct program *p, const uint8_t *input, size_t size)
{
    memset(p, 0, sizeof *p);
    struct gen g = {.p = p, .in = input, .end = input + size, .share = (ptrdiff_t)size / 8, .code = p->image + PROGRAM_CODE, .locked = 1u << BX | 1u << SP | 1u << BP, .times = 1, .most = MOST_INSNS};
    unsigned kind = take(&g, 256);
    static const uint8_t modes[] = {PROGRAM_64, PROGRAM_64, PROGRAM_64, PROGRAM_32, PROGRAM_32, PROGRAM_16};
    p->mode = (enum program_mode)modes[kind % 6];
    g.wide = p->mode == PROGRAM_64;
    g.real = p->mode == PROGRAM_16;
    g.word = g.wide ? 8 : g.real ? 2 : 4;
    g.user = !g.real && kind / 6 & 1;
    g.biased = p->mode == PROGRAM_32 && kind / 12 & 1;
    p->flags_defined = kind / 24 & 1;
    p->base = g.real ? PROGRAM_REAL_BASE : PROGRAM_BASE;
    uint64_t seed = take(&g, 256);
    for (unsigned i = take(&g, 5); i; i--)
        function(&g);
    if (one_in(&g, 3)) /* where a page ends matters */
        g.at = ((g.at + 64 + PAGE_SIZE) & ~(PAGE_SIZE - 1u)) - take(&g, 64);
    p->start = g.at;
    move_stack(&g, -SCRATCH, false);
    rounds(&g);
    /* The end; the handler may come here from anywhere. */
    put32(p, PROGRAM_CONTROL + CONTROL_END, code_address(&g, g.at));
    if (p->flags_defined)
        emit(&g, (struct insn){.size = 4, .opcode = 0x1b, .reg = DX, .rm = reg(SI)});
    emit(&g, (struct insn){.size = g.word == 8 ? 8 : 4, .opcode = 0x89, .reg = AX, .rm = based(BX, SLOT)});
    emit(&g, (struct insn){.size = g.word == 8 ? 8 : 4, .opcode = 0x89, .reg = DX, .rm = based(BX, SLOT + 8)});
    set_reg(&g, DX, 0x501);
    INSN(&g, 0xee);
    INSN(&g, 0xeb, 0xfe);
    p->code_size = g.at;
    p->insns = g.insns;
    memcpy(p->image + PROGRAM_RESUME, p->next, sizeof p->next);
    make_system(&g);
    make_data(&g, seed);
}

void program_print(FILE *f, const struct program *p)
{
    static const char *const names[] = {"64", "32", "16"};
    static const uint32_t modes[] = {X86_MODE_CODE64, X86_MODE_CODE32, X86_MODE_CODE16};
    uint32_t base = p->mode == PROGRAM_16 ? 0 : p->base + PROGRAM_CODE;
    fprintf(f, "%s-bit code, entered at %x, some %lu instructions\n", names[p->mode], base + p->start, (unsigned long)p->insns);
    for (unsigned at = 0; at < p->code_size; at++) {
        char text[100] = "";
        if (!p->next[at])
            continue;
        const uint8_t *code = p->image + PROGRAM_CODE + at;
        x86_disassemble(modes[p->mode], base + at, code, 15, text, sizeof text);
        fprintf(f, "  %6x: ", base + at);
        for (unsigned i = 0; i < p->next[at] - at; i++)
            fprintf(f, "%02x", code[i]);
        fprintf(f, "%*s %s\n", (int)(24 - 2 * (p->next[at] - at)), "", text);
    }
}
