/* What the input says, and the bytes of instructions: prefixes, ModRM, immediates, jumps; registers and memory that they may have. */
#include "tests/fuzz/tiers_gen.h"
#include <stdlib.h>
#include <string.h>

/* --- Input */
unsigned take(struct gen *g, unsigned below) { return g->in < g->end ? *g->in++ % below : 0; }
bool one_in(struct gen *g, unsigned n) { return take(g, n) == n - 1; } /* at the input's end: no */
uint32_t take32(struct gen *g) { return (uint32_t)(take(g, 256) | take(g, 256) << 8 | take(g, 256) << 16) | (uint32_t)take(g, 256) << 24; }
bool is_over(const struct gen *g) { return g->in >= g->end || g->insns >= g->most || g->at > MOST_CODE; }
uint64_t number(struct gen *g)
{
    static const uint64_t liked[] = {0, 1, ~0ull, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0x7fffffff, 0x80000000, 0x7fffffffffffffff, 0x8000000000000000, 15, 31, 32, 63};
    unsigned k = take(g, 32);
    return k < sizeof liked / sizeof *liked ? liked[k] : k < 28 ? (uint64_t)(int8_t)take(g, 256) : (uint64_t)take32(g) << 32 | take32(g);
}

/* --- Bytes */
void byte(struct gen *g, unsigned v) { g->code[g->at++] = (uint8_t)v; }
void little(struct gen *g, uint64_t v, unsigned size)
{
    memcpy(g->code + g->at, &v, size);
    g->at += size;
}
void insn_begin(struct gen *g)
{
    if (g->at > PROGRAM_CODE_SIZE - 64)
        abort(); /* MOST_CODE leaves too little for what one statement may take */
    g->begun = g->at;
}
void insn_end(struct gen *g)
{
    g->p->next[g->begun] = (uint16_t)g->at;
    g->insns += g->times;
}
void insn_bytes(struct gen *g, const uint8_t *bytes, size_t size)
{
    insn_begin(g);
    memcpy(g->code + g->at, bytes, size);
    g->at += (unsigned)size;
    insn_end(g);
}
unsigned near_size(const struct gen *g) { return g->real ? 2 : 4; }
uint32_t code_address(const struct gen *g, unsigned at) { return at + (g->real ? 0 : g->p->base + PROGRAM_CODE); }
void little_at(struct gen *g, unsigned at, uint64_t v, unsigned size) { memcpy(g->code + at, &v, size); }

/* --- Operands */
struct operand reg(unsigned r) { return (struct operand){.reg = (int8_t)r, .index = NONE}; }
struct operand based(int base, int32_t disp) { return (struct operand){.memory = true, .reg = (int8_t)base, .index = NONE, .disp = disp}; }
/* Of the data area; of the code. */
struct operand data_at(const struct gen *g, uint32_t offset)
{
    return based(NONE, (int32_t)(g->real ? offset : g->p->base + PROGRAM_DATA + offset - (g->biased ? PROGRAM_BIAS : 0)));
}
struct operand system_at(const struct gen *g, uint32_t offset) { return based(NONE, (int32_t)(g->p->base + offset - (g->biased ? PROGRAM_BIAS : 0))); }
struct operand code_at(const struct gen *g, unsigned at, bool alias)
{
    struct operand o = based(NONE, (int32_t)(code_address(g, at) - (g->biased ? PROGRAM_BIAS : 0)));
    if (g->real)
        o.segment = 0x2e;
    else if (alias)
        o.disp += PROGRAM_ALIAS - PROGRAM_CODE;
    return o;
}

/* --- Instructions with ModRM */

static bool fits16(const struct operand *o)
{
    if (o->index == NONE)
        return o->reg == NONE || o->reg == BX || o->reg == BP || o->reg == SI || o->reg == DI;
    return (o->reg == BX || o->reg == BP) && (o->index == SI || o->index == DI) && !o->scale;
}
static bool is_near(int32_t disp) { return disp == (int8_t)disp; }
static void put_modrm16(struct gen *g, unsigned reg, const struct operand *o)
{
    unsigned rm = o->reg == NONE ? 6 : o->index != NONE ? (o->reg == BP ? 2u : 0u) + (o->index == DI) : o->reg == SI ? 4 : o->reg == DI ? 5 : o->reg == BP ? 6 : 7;
    unsigned mod = o->reg == NONE ? 0 : is_near(o->disp) ? 1 : 2;
    byte(g, mod << 6 | (reg & 7) << 3 | rm);
    little(g, (uint32_t)o->disp, mod == 1 ? 1 : 2);
}
static void put_modrm(struct gen *g, unsigned reg, const struct operand *o, unsigned imm_size)
{
    if (!o->memory) {
        byte(g, 0xc0 | (reg & 7) << 3 | (unsigned)(o->reg & 7));
        return;
    }
    if (g->real && fits16(o)) {
        put_modrm16(g, reg, o);
        return;
    }
    bool bare = o->reg == NONE, sib = o->index != NONE || (!bare && (o->reg & 7) == SP) || (bare && g->wide && !o->rip);
    unsigned mod = bare ? 0 : !o->disp && (o->reg & 7) != BP ? 0 : is_near(o->disp) ? 1 : 2;
    byte(g, mod << 6 | (reg & 7) << 3 | (sib ? 4 : bare ? 5 : (unsigned)(o->reg & 7)));
    if (sib)
        byte(g, (unsigned)o->scale << 6 | (o->index == NONE ? 4u : (unsigned)(o->index & 7)) << 3 | (bare ? 5u : (unsigned)(o->reg & 7)));
    if (o->rip)
        little(g, (uint32_t)o->disp - (code_address(g, g->at) + 4 + imm_size), 4);
    else
        little(g, (uint32_t)o->disp, mod == 1 ? 1 : mod == 2 || bare ? 4 : 0);
}
/* Registers of eight bits from 4 on mean AH.. with HIGH, else SPL.., which needs REX. */
static unsigned low_rex(unsigned size, unsigned r) { return size == 1 && r >= 4 && r < 8 ? 0x40 : 0; }
void emit(struct gen *g, struct insn i)
{
    struct operand *o = &i.rm;
    insn_begin(g);
    uint8_t segment = o->segment ? o->segment : g->real && o->memory && o->reg == BP ? 0x3e : 0;
    if (segment)
        byte(g, segment);
    if (g->real && o->memory && !fits16(o))
        byte(g, 0x67);
    if (g->real ? i.size == 4 : i.size == 2)
        byte(g, 0x66);
    if (i.prefix)
        byte(g, i.prefix);
    unsigned rex = i.size == 8 ? 0x48 : 0, rm = (unsigned)o->reg;
    if (g->wide) {
        bool reg8 = i.byte_reg, rm8 = !o->memory && i.size == 1;
        rex |= (i.reg < 16 && i.reg >= 8 ? 0x44 : 0) | (o->reg >= 8 && o->reg < 16 ? 0x41 : 0) | (o->index >= 8 ? 0x42 : 0);
        rex |= (reg8 ? low_rex(1, i.reg) : 0) | (rm8 ? low_rex(1, rm) : 0);
        if (rex && reg8 && i.reg & HIGH)
            i.reg &= 3;
        if (rex && rm8 && rm & HIGH)
            o->reg &= 3;
    }
    if (rex)
        byte(g, rex);
    for (int shift = i.opcode > 0xffff ? 16 : i.opcode > 0xff ? 8 : 0; shift >= 0; shift -= 8)
        byte(g, i.opcode >> shift & 0xff);
    put_modrm(g, i.reg, o, i.imm_size);
    little(g, i.imm, i.imm_size);
    insn_end(g);
}
unsigned imm_size(unsigned size) { return size == 8 ? 4 : size; }
/* MOV r, imm */
void set_reg(struct gen *g, unsigned r, uint64_t v)
{
    unsigned size = g->wide && v > 0xffffffff ? 8 : 4;
    insn_begin(g);
    if (g->real)
        byte(g, 0x66);
    if (size == 8 || r >= 8)
        byte(g, 0x40 | (size == 8 ? 8 : 0) | (r >= 8 ? 1 : 0));
    byte(g, 0xb8 | (r & 7));
    little(g, v, size);
    insn_end(g);
}
void store_imm(struct gen *g, struct operand to, uint32_t v) { emit(g, (struct insn){.size = 4, .opcode = 0xc7, .rm = to, .imm_size = 4, .imm = v}); }
void push_imm(struct gen *g, uint32_t v)
{
    insn_begin(g);
    byte(g, 0x68);
    little(g, v, g->real ? 2 : 4);
    insn_end(g);
    g->depth += g->word;
}
void push(struct gen *g, unsigned r)
{
    insn_begin(g);
    if (r >= 8)
        byte(g, 0x41);
    byte(g, 0x50 | (r & 7));
    insn_end(g);
    g->depth += g->word;
}
void pop(struct gen *g, unsigned r)
{
    insn_begin(g);
    if (r >= 8)
        byte(g, 0x41);
    byte(g, 0x58 | (r & 7));
    insn_end(g);
    g->depth -= g->word;
}
void move_stack(struct gen *g, int by, bool flags_too)
{
    if (g->real || flags_too)
        emit(g, (struct insn){.size = g->word, .opcode = 0x83, .reg = by < 0 ? 5 : 0, .rm = reg(SP), .imm_size = 1, .imm = (uint64_t)(by < 0 ? -by : by)});
    else
        emit(g, (struct insn){.size = g->word, .opcode = 0x8d, .reg = SP, .rm = based(SP, by)});
}

/* --- Jumps */
unsigned jump_on(struct gen *g, int cc) /* forward: returns where the distance stands */
{
    insn_begin(g);
    if (cc == ALWAYS)
        byte(g, 0xe9);
    else
        byte(g, 0x0f), byte(g, 0x80 | (unsigned)cc);
    g->at += near_size(g);
    insn_end(g);
    return g->at - near_size(g);
}
void land(struct gen *g, unsigned from) { little_at(g, from, g->at - (from + near_size(g)), near_size(g)); }
void jump_back(struct gen *g, int cc, unsigned to)
{
    int distance = (int)to - (int)(g->at + 2);
    if (distance < -128) {
        unsigned from = jump_on(g, cc);
        little_at(g, from, to - (from + near_size(g)), near_size(g));
    } else {
        INSN(g, cc == ALWAYS ? 0xeb : (uint8_t)(0x70 | cc), (uint8_t)distance);
    }
}
void call(struct gen *g, unsigned to)
{
    insn_begin(g);
    byte(g, 0xe8);
    little(g, to - (g->at + near_size(g)), near_size(g));
    insn_end(g);
}

/* --- Choices */
unsigned dst(struct gen *g)
{
    static const uint8_t regs[] = {AX, CX, DX, SI, DI, 8, 9, 10, 11, 12, 13, 14, 15};
    unsigned count = g->wide ? 13 : 5, k = take(g, count);
    while (g->locked & 1u << regs[k])
        k = (k + 1) % count;
    return regs[k];
}
static unsigned dst8(struct gen *g)
{
    unsigned r = dst(g);
    if (!g->wide && r > 3)
        r = AX;
    return r < 3 && one_in(g, 3) ? r | 4 | HIGH : r;
}
unsigned src(struct gen *g) { return take(g, g->wide ? 16 : 8); }
static unsigned src8(struct gen *g)
{
    unsigned r = src(g);
    return r >= 4 && r < 8 && (!g->wide || one_in(g, 2)) ? r | HIGH : r;
}
unsigned dst_of(struct gen *g, unsigned size) { return size == 1 ? dst8(g) : dst(g); }
unsigned src_of(struct gen *g, unsigned size) { return size == 1 ? src8(g) : src(g); }
unsigned size_of(struct gen *g)
{
    static const uint8_t sizes[] = {4, 4, 4, 1, 2, 8, 8, 4};
    unsigned size = sizes[take(g, 8)];
    return size == 8 && !g->wide ? 2 : size;
}
unsigned wide_size(struct gen *g) { unsigned size = size_of(g); return size == 1 ? 4 : size; }

/* Memory that is there and may be written. */
struct operand mem(struct gen *g, unsigned width)
{
    switch (take(g, 10)) {
    case 0: case 1: case 2: return based(BX, (int32_t)take(g, 128));
    case 3: return based(BP, (int32_t)take(g, 64) - 32);
    case 4: return based(BX, PAGE_SIZE - (BASE_AT & (PAGE_SIZE - 1)) - (int32_t)take(g, width + 1)); /* over a page's end */
    case 5: return based(g->real ? BX : SP, (int32_t)(g->depth + take(g, SCRATCH + 1 - width))); /* the frame */
    case 6: { /* a masked index: MOVZX leaves flags alone */
        unsigned r = dst(g);
        emit(g, (struct insn){.size = 4, .opcode = 0x0fb6, .reg = r, .rm = reg(src(g) & (g->wide ? 15 : 3))});
        return (struct operand){.memory = true, .reg = BX, .index = (int8_t)r, .scale = (uint8_t)take(g, 4), .disp = (int32_t)take(g, 128)};
    }
    case 7:
        for (int n = g->nest; n > 0; n--)
            if (g->loops[n].pointer != NONE)
                return based(g->loops[n].pointer, (int32_t)take(g, 64) - 8);
        return based(BX, 64);
    case 8: {
        struct operand o = data_at(g, 0x4000 + take(g, 256) * 17);
        o.rip = g->wide && one_in(g, 2);
        return o;
    }
    default: return data_at(g, (one_in(g, 2) && !g->real ? TWIN : 2) * PAGE_SIZE + take(g, 64)); /* the same page, twice */
    }
}
struct operand mem_or_reg(struct gen *g, unsigned size, bool written)
{
    if (take(g, 5) < 3)
        return reg(written ? dst_of(g, size) : src_of(g, size));
    return mem(g, size);
}
