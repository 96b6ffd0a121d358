/* The assembler: the few x86-64 encodings that the backend needs. */
#include "backend-tcg/internal.h"

static void opcode_out(struct tcg *t, uint32_t opcode)
{
    if (opcode > 0xffff)
        put8(t, opcode >> 16);
    if (opcode > 0xff)
        put8(t, opcode >> 8);
    put8(t, opcode);
}

/* byte registers SPL.. need a REX prefix */
static void head(struct tcg *t, unsigned prefix, uint32_t opcode, unsigned size, unsigned reg, unsigned index, unsigned base, bool byte_rm)
{
    if (size == 2)
        put8(t, 0x66);
    if (prefix)
        put8(t, prefix);
    unsigned rex = (size == 8 ? 8u : 0) | (reg >> 3 & 1) << 2 | (index >> 3 & 1) << 1 | (base >> 3 & 1);
    if (rex || (size == 1 && (reg >= 4 || (byte_rm && base >= 4))))
        put8(t, 0x40 | rex);
    opcode_out(t, opcode);
}

void emit_rr(struct tcg *t, unsigned prefix, uint32_t opcode, unsigned size, unsigned reg, unsigned rm)
{
    head(t, prefix, opcode, size, reg, 0, rm, true);
    put8(t, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

void emit_mem(struct tcg *t, unsigned prefix, uint32_t opcode, unsigned size, unsigned reg, unsigned base, unsigned index, unsigned shift, int32_t disp)
{
    bool narrow = disp >= -128 && disp < 128, none = base == NO_REG, plain = index == NO_REG;
    head(t, prefix, opcode, size, reg, plain ? 0 : index, none ? 0 : base, false);
    unsigned mod = none ? 0 : !disp && (base & 7) != RBP ? 0 : narrow ? 0x40 : 0x80;
    if (plain && (base & 7) != RSP) {
        put8(t, mod | (reg & 7) << 3 | (base & 7));
    } else {
        put8(t, mod | (reg & 7) << 3 | 4);
        put8(t, shift << 6 | (plain ? 4 : index & 7) << 3 | (none ? 5 : base & 7));
    }
    if (none || mod == 0x80)
        put32(t, (uint32_t)disp);
    else if (mod == 0x40)
        put8(t, (uint8_t)disp);
}

void emit_rm(struct tcg *t, unsigned prefix, uint32_t opcode, unsigned size, unsigned reg, unsigned base, int32_t disp)
{
    emit_mem(t, prefix, opcode, size, reg, base, NO_REG, 0, disp);
}

void emit_gs_load(struct tcg *t, unsigned reg, unsigned index)
{
    put8(t, 0x65);
    emit_mem(t, 0, 0x8b, 8, reg, NO_REG, index, 3, 0);
}

/* VEX.LZ.0F38.W1 F7 /r */
void emit_bextr(struct tcg *t, unsigned reg, unsigned from, unsigned control)
{
    put8(t, 0xc4);
    put8(t, (reg & 8 ? 0 : 0x80) | 0x40 | (from & 8 ? 0 : 0x20) | 2);
    put8(t, 0x80 | (~control & 15) << 3);
    put8(t, 0xf7);
    put8(t, 0xc0 | (reg & 7) << 3 | (from & 7));
}

void emit_mov(struct tcg *t, unsigned to, unsigned from) { if (to != from) emit_rr(t, 0, 0x89, 8, from, to); }
void emit_mov32(struct tcg *t, unsigned to, unsigned from) { emit_rr(t, 0, 0x89, 4, from, to); }

void emit_imm(struct tcg *t, unsigned to, uint64_t v)
{
    if (v <= UINT32_MAX) {
        if (to >= 8)
            put8(t, 0x41);
        put8(t, 0xb8 | (to & 7));
        put32(t, (uint32_t)v);
    } else if ((int64_t)v == (int32_t)v) {
        emit_rr(t, 0, 0xc7, 8, 0, to);
        put32(t, (uint32_t)v);
    } else {
        put8(t, 0x48 | (to >> 3));
        put8(t, 0xb8 | (to & 7));
        put64(t, v);
    }
}

void emit_imm_bytes(struct tcg *t, unsigned size, int64_t imm)
{
    for (unsigned k = 0; k < (size > 4 ? 4 : size); k++)
        put8(t, (uint8_t)(imm >> 8 * k));
}

void emit_alu_imm(struct tcg *t, unsigned digit, unsigned size, unsigned rm, int32_t imm)
{
    bool narrow = size > 1 && imm >= -128 && imm < 128;
    emit_rr(t, 0, size == 1 ? 0x80 : narrow ? 0x83 : 0x81, size, digit, rm);
    emit_imm_bytes(t, narrow ? 1 : size, imm);
}

void emit_alu_mem_imm(struct tcg *t, unsigned digit, unsigned size, unsigned base, int32_t disp, int32_t imm)
{
    bool narrow = size > 1 && imm >= -128 && imm < 128;
    emit_rm(t, 0, size == 1 ? 0x80 : narrow ? 0x83 : 0x81, size, digit, base, disp);
    emit_imm_bytes(t, narrow ? 1 : size, imm);
}

void emit_shift_imm(struct tcg *t, unsigned digit, unsigned size, unsigned rm, unsigned count)
{
    emit_rr(t, 0, size == 1 ? 0xc0 : 0xc1, size, digit, rm);
    put8(t, count);
}

uint32_t emit_jcc(struct tcg *t, unsigned cc)
{
    put8(t, 0x0f);
    put8(t, 0x80 | cc);
    put32(t, 0);
    return here(t) - 4;
}

uint32_t emit_jmp(struct tcg *t)
{
    put8(t, 0xe9);
    put32(t, 0);
    return here(t) - 4;
}

void emit_bind(struct tcg *t, uint32_t displacement, uint32_t target)
{
    if (!t->full)
        bind(t->start, displacement, target);
}

uint32_t emit_jcc_short(struct tcg *t, unsigned cc)
{
    put8(t, 0x70 | cc);
    put8(t, 0);
    return here(t) - 1;
}

void emit_bind_short(struct tcg *t, uint32_t displacement)
{
    uint32_t d = here(t) - (displacement + 1);
    if (!t->full)
        t->start[displacement] = (uint8_t)d;
    t->complex |= d > 127;
}

void emit_rm_far(struct tcg *t, uint32_t opcode, unsigned size, unsigned reg, unsigned base, enum reloc_kind kind, int32_t value)
{
    head(t, 0, opcode, size, reg, 0, base, false);
    put8(t, 0x80 | (reg & 7) << 3 | (base & 7));
    put32(t, (uint32_t)reloc_value(t->o, t->b->pc_bits, kind, value));
    reloc_note(t, here(t) - 4, kind, FORM_32, value);
}

void emit_moving(struct tcg *t, unsigned to, enum reloc_kind kind, int32_t value)
{
    uint64_t v = reloc_value(t->o, t->b->pc_bits, kind, value);
    enum reloc_form form = v <= UINT32_MAX ? FORM_32 : (int64_t)v == (int32_t)v ? FORM_32S : FORM_64;
    emit_imm(t, to, v);
    reloc_note(t, here(t) - (form == FORM_64 ? 8 : 4), kind, form, value);
}

void emit_call(struct tcg *t, int32_t which)
{
    emit_moving(t, RDI, RELOC_CALL, which);
    emit_rm(t, 0, 0xff, 4, 2, RBP, C_STUB_CALL);
}
