/* Operations that are one host instruction where the host has it, and whether a signed division fits. */
#include "backend-tcg/internal.h"

/* VEX.LZ.<pp>.0F38 <opcode> /r: reg, vvvv, rm. */
static void vex(struct tcg *t, unsigned pp, unsigned opcode, bool wide, unsigned reg, unsigned vvvv, unsigned rm)
{
    put8(t, 0xc4);
    put8(t, (reg & 8 ? 0 : 0x80) | 0x40 | (rm & 8 ? 0 : 0x20) | 2);
    put8(t, (wide ? 0x80 : 0) | (~vvvv & 15) << 3 | pp);
    put8(t, opcode);
    put8(t, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

static void deposit_or_extract(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    unsigned a = use(t, i->arg[0]), mask = use(t, i->arg[1]), r = def(t, self);
    vex(t, i->op == IR_pdep ? 3 : 2, 0xf5, i->type == IR_I64, r, a, mask);
    t->v[self].clean = i->type == IR_I32;
}

static void crc32(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    unsigned b = use(t, i->arg[1]), r = def_from(t, self, i->arg[0]);
    emit_rr(t, 0xf2, i->aux == 1 ? 0x0f38f0 : 0x0f38f1, i->aux, r, b);
    t->v[self].clean = true;
}

/* reg = |reg|; sign gets 0 or all ones. */
static void absolute(struct tcg *t, unsigned reg, unsigned sign)
{
    emit_mov(t, sign, reg);
    emit_shift_imm(t, 7, 8, sign, 63);
    emit_rr(t, 0, 0x31, 8, sign, reg);
    emit_rr(t, 0, 0x29, 8, sign, reg);
}

/* The quotient fits where |n| < |d| * 2^(width - 1), and a negative one has |d| more.  So with d = 0 none does. */
static void fits32(struct tcg *t, const struct ir_insn *i)
{
    use_in(t, i->arg[0], RAX);
    use_in(t, i->arg[1], RDX);
    emit_shift_imm(t, 4, 8, RAX, 32);
    emit_mov32(t, RDX, RDX);
    emit_rr(t, 0, 0x09, 8, RDX, RAX);
    use_in(t, i->arg[2], RDX);
    emit_rr(t, 0, 0x63, 8, RDX, RDX);
    absolute(t, RAX, RCX);
    absolute(t, RDX, RSI);
    emit_rr(t, 0, 0x31, 8, RSI, RCX);
    emit_rr(t, 0, 0x21, 8, RDX, RCX);  /* |d| where the signs differ */
    emit_shift_imm(t, 4, 8, RDX, 31);
    emit_rr(t, 0, 0x01, 8, RCX, RDX);
    emit_rr(t, 0, 0x39, 8, RDX, RAX);
}

static void fits64(struct tcg *t, const struct ir_insn *i)
{
    gpr_take(t, RDI);
    use_in(t, i->arg[1], RAX);
    use_in(t, i->arg[0], RDX);
    use_in(t, i->arg[2], RCX);
    emit_mov(t, RSI, RDX);             /* |n| of 128 bits, by hand */
    emit_shift_imm(t, 7, 8, RSI, 63);
    emit_rr(t, 0, 0x31, 8, RSI, RAX);
    emit_rr(t, 0, 0x31, 8, RSI, RDX);
    emit_rr(t, 0, 0x29, 8, RSI, RAX);
    emit_rr(t, 0, 0x19, 8, RSI, RDX);
    absolute(t, RCX, RDI);
    emit_rr(t, 0, 0x31, 8, RDI, RSI);
    emit_rr(t, 0, 0x21, 8, RCX, RSI);
    emit_mov(t, RDI, RCX);
    emit_shift_imm(t, 4, 8, RDI, 63);
    emit_shift_imm(t, 5, 8, RCX, 1);
    emit_rr(t, 0, 0x01, 8, RSI, RDI);
    emit_alu_imm(t, 2, 8, RCX, 0);
    emit_rr(t, 0, 0x39, 8, RDI, RAX);
    emit_rr(t, 0, 0x19, 8, RCX, RDX);
}

static void division_fits(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    static const uint8_t needed[] = {RAX, RDX, RCX, RSI};
    for (unsigned k = 0; k < sizeof needed; k++)
        gpr_take(t, needed[k]);
    if (type_of(t, i->arg[0]) == IR_I64)
        fits64(t, i);
    else
        fits32(t, i);
    emit_rr(t, 0, 0x0f92, 1, 0, RAX);
    emit_rr(t, 0, 0x0fb6, 1, RAX, RAX);
    own(t, self, RAX);
}

bool tcg_bits_emit(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    if (!ir_host_runs((enum ir_op)i->op))
        return false;
    switch (i->op) {
    case IR_pdep: case IR_pext:
        deposit_or_extract(t, i, self);
        return true; /* the flags stay */
    case IR_crc32:
        crc32(t, i, self);
        return true;
    default: division_fits(t, i, self); break;
    }
    t->host_flags = IR_NONE;
    return true;
}
