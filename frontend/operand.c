/* operand.c - what every lifter uses: registers, effective addresses, segment checks, operands, flags, ends. */
#include "frontend/internal.h"

enum ir_type lift_int_type(unsigned bits)
{
    switch (bits) {
    case 8: return IR_I8;
    case 16: return IR_I16;
    case 32: return IR_I32;
    case 128: return IR_I128;
    default: return IR_I64;
    }
}

static unsigned type_bits(enum ir_type t)
{
    return t == IR_I1 ? 1 : ir_type_bytes(t) * 8;
}

ir_ref lift_resize(struct lifter *l, ir_ref v, enum ir_type from, enum ir_type to, bool is_signed)
{
    if (from == to)
        return v;
    if (type_bits(to) < type_bits(from))
        return ir_op1(l->b, IR_trunc, to, v);
    return ir_op1(l->b, is_signed ? IR_sext : IR_zext, to, v);
}

/* --- Registers */
struct place { uint8_t number, bits, high; };

static struct place place_of(ZydisRegister r)
{
    if (r >= ZYDIS_REGISTER_AL && r <= ZYDIS_REGISTER_BL)
        return (struct place){r - ZYDIS_REGISTER_AL, 8, 0};
    if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH)
        return (struct place){r - ZYDIS_REGISTER_AH, 8, 8};
    if (r >= ZYDIS_REGISTER_SPL && r <= ZYDIS_REGISTER_R15B)
        return (struct place){r - ZYDIS_REGISTER_SPL + 4, 8, 0};
    if (r >= ZYDIS_REGISTER_AX && r <= ZYDIS_REGISTER_R15W)
        return (struct place){r - ZYDIS_REGISTER_AX, 16, 0};
    if (r >= ZYDIS_REGISTER_EAX && r <= ZYDIS_REGISTER_R15D)
        return (struct place){r - ZYDIS_REGISTER_EAX, 32, 0};
    return (struct place){(r - ZYDIS_REGISTER_RAX) & 15, 64, 0};
}

static int64_t gpr_slot(unsigned number)
{
    return SLOT(gpr) + 8 * (int64_t)number;
}

ir_ref lift_reg_get(struct lifter *l, unsigned number, unsigned bits)
{
    ir_ref all = lift_slot_get(l, IR_I64, gpr_slot(number));
    return bits == 64 ? all : ir_op1(l->b, IR_trunc, lift_int_type(bits), all);
}

static void put_at(struct lifter *l, unsigned number, unsigned bits, unsigned high, ir_ref v)
{
    if (bits == 32) {
        v = ir_op1(l->b, IR_zext, IR_I64, v);
    } else if (bits < 32) {
        ir_ref old = lift_slot_get(l, IR_I64, gpr_slot(number));
        v = ir_emit(l->b, IR_deposit, IR_I64, high, 0, old, v, IR_NONE, IR_NONE);
    }
    lift_slot_put(l, IR_I64, gpr_slot(number), v);
}

void lift_reg_put(struct lifter *l, unsigned number, unsigned bits, ir_ref v)
{
    put_at(l, number, bits, 0, v);
}

ir_ref lift_gpr_get(struct lifter *l, ZydisRegister r)
{
    struct place p = place_of(r);
    if (!p.high)
        return lift_reg_get(l, p.number, p.bits);
    ir_ref all = lift_slot_get(l, IR_I64, gpr_slot(p.number));
    return ir_emit(l->b, IR_extract, IR_I8, 8, 0, all, IR_NONE, IR_NONE, IR_NONE);
}

void lift_gpr_put(struct lifter *l, ZydisRegister r, ir_ref v)
{
    struct place p = place_of(r);
    put_at(l, p.number, p.bits, p.high, v);
}

bool lift_is_mem(const struct lifter *l, unsigned i) { return l->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY; }
bool lift_is_reg(const struct lifter *l, unsigned i) { return l->op[i].type == ZYDIS_OPERAND_TYPE_REGISTER; }
bool lift_is_imm(const struct lifter *l, unsigned i) { return l->op[i].type == ZYDIS_OPERAND_TYPE_IMMEDIATE; }

/* --- Addresses */
enum x86_seg lift_seg(ZydisRegister r)
{
    switch (r) {
    case ZYDIS_REGISTER_ES: return X86_ES;
    case ZYDIS_REGISTER_CS: return X86_CS;
    case ZYDIS_REGISTER_SS: return X86_SS;
    case ZYDIS_REGISTER_FS: return X86_FS;
    case ZYDIS_REGISTER_GS: return X86_GS;
    default: return X86_DS;
    }
}

static bool is_pc_relative(ZydisRegister r)
{
    return r == ZYDIS_REGISTER_RIP || r == ZYDIS_REGISTER_EIP;
}

/* A field of the instruction whose bytes are known to change, as a value of type t; IR_NONE: it is a constant. */
static ir_ref changing_field(struct lifter *l, enum ir_type t, unsigned at, unsigned bits)
{
    unsigned first = l->offset + at, size = bits / 8, changes = 0;
    if (!l->changing || !bits || bits > ir_type_bits(t) || first + size > X86_CHANGING)
        return IR_NONE;
    for (unsigned i = first; i < first + size; i++)
        changes |= l->changing[i / 64] >> i % 64 & 1;
    for (unsigned i = 0; i < l->b->code_count && changes; i++)
        if (l->b->code[i].offset == first)
            return ir_emit(l->b, IR_code, t, size, first, IR_NONE, IR_NONE, IR_NONE, IR_NONE);
    if (!changes || l->b->code_count == sizeof l->b->code / sizeof *l->b->code)
        return IR_NONE;
    l->b->code[l->b->code_count++] = (struct ir_code){(uint16_t)first, (uint8_t)size};
    return ir_emit(l->b, IR_code, t, size, first, IR_NONE, IR_NONE, IR_NONE, IR_NONE);
}

/* An address that moves with the code. */
static ir_ref moving(struct lifter *l, int64_t address)
{
    return ir_emit(l->b, IR_pc, IR_I64, 0, (int64_t)((uint64_t)address - l->pc), IR_NONE, IR_NONE, IR_NONE, IR_NONE);
}

static ir_ref immediate(struct lifter *l, unsigned i, enum ir_type t)
{
    if (l->relocs.immediate != X86_RELOC_NONE)
        return lift_resize(l, moving(l, l->op[i].imm.value.s), IR_I64, t, false);
    /* Alone, and widened by its sign if at all. */
    bool plain = !l->in.raw.imm[0].is_relative && !l->in.raw.imm[1].size && (l->in.raw.imm[0].is_signed || l->in.raw.imm[0].size == ir_type_bits(t));
    ir_ref r = plain ? changing_field(l, t, l->in.raw.imm[0].offset, l->in.raw.imm[0].size) : IR_NONE;
    return r != IR_NONE ? r : ir_const(l->b, t, l->op[i].imm.value.s);
}

ir_ref lift_ea_plus(struct lifter *l, unsigned i, ir_ref extra, int64_t displacement)
{
    const ZydisDecodedOperandMem *m = &l->op[i].mem;
    unsigned bits = l->address_bits;
    enum ir_type t = lift_int_type(bits);
    int64_t disp = displacement + (m->disp.has_displacement ? m->disp.value : 0);
    ir_ref base = IR_NONE, index = IR_NONE, r;
    unsigned shift = m->scale ? __builtin_ctz(m->scale) : 0;

    if (is_pc_relative(m->base) && l->relocs.displacement == X86_RELOC_PC32) { /* an address that stays */
        base = ir_const(l->b, IR_I64, (int64_t)(l->pc + (uint64_t)lift_next_offset(l) + (uint64_t)disp));
        disp = 0;
    } else if (is_pc_relative(m->base)) {
        base = ir_emit(l->b, IR_pc, IR_I64, 0, lift_next_offset(l) + disp, IR_NONE, IR_NONE, IR_NONE, IR_NONE);
        base = lift_resize(l, base, IR_I64, t, false);
        disp = 0;
    } else if (m->base != ZYDIS_REGISTER_NONE) {
        base = lift_gpr_get(l, m->base);
    }
    if (m->index != ZYDIS_REGISTER_NONE)
        index = lift_gpr_get(l, m->index);
    ir_ref changing = m->disp.has_displacement && !is_pc_relative(m->base) ? changing_field(l, t, l->in.raw.disp.offset, l->in.raw.disp.size) : IR_NONE;
    if (m->disp.has_displacement && !is_pc_relative(m->base) && l->relocs.displacement != X86_RELOC_NONE)
        changing = moving(l, m->disp.value);
    if (changing != IR_NONE) {
        disp = displacement;
        base = base == IR_NONE ? changing : ir_op2(l->b, IR_add, t, base, changing);
    }
    if (extra != IR_NONE) {
        ir_ref e = lift_resize(l, extra, IR_I64, t, false);
        base = base == IR_NONE ? e : ir_op2(l->b, IR_add, t, base, e);
    }
    if (base == IR_NONE && index == IR_NONE)
        r = ir_const(l->b, t, disp);
    else if (base != IR_NONE && index == IR_NONE && disp == 0)
        r = base;
    else if (base == IR_NONE && index != IR_NONE)
        r = ir_emit(l->b, IR_lea, t, shift, disp, ir_const(l->b, t, 0), index, IR_NONE, IR_NONE);
    else
        r = ir_emit(l->b, IR_lea, t, shift, disp, base, index, IR_NONE, IR_NONE);
    return lift_resize(l, r, t, IR_I64, false);
}

/* Is seg checked by the mode alone?  In 16-bit code FLAT means a limit of exactly 0xffff. */
static bool is_flat(const struct lifter *l, enum x86_seg seg, unsigned access)
{
    if (seg == X86_CS && access & IR_WRITE && lift_is_protected(l))
        return false;
    return l->mode >> X86_MODE_FLAT_SHIFT >> seg & 1;
}

static ir_ref add_base(struct lifter *l, enum x86_seg seg, ir_ref offset)
{
    ir_ref base = lift_slot_get(l, IR_I64, SLOT(seg_base) + 8 * (int64_t)seg);
    ir_ref sum = ir_op2(l->b, IR_add, IR_I64, base, offset);
    if (lift_is64(l))
        return sum;
    return ir_op1(l->b, IR_zext, IR_I64, ir_op1(l->b, IR_trunc, IR_I32, sum));
}

static void raise_misaligned(struct lifter *l, ir_ref linear, unsigned size)
{
    ir_ref odd = ir_op2(l->b, IR_and, IR_I64, linear, ir_const(l->b, IR_I64, (int64_t)size - 1));
    lift_raise_if(l, ir_op2(l->b, IR_ne, IR_I64, odd, ir_const(l->b, IR_I64, 0)), X86_GP, true, 0);
}

ir_ref lift_linear(struct lifter *l, enum x86_seg seg, ir_ref offset, unsigned size, unsigned access)
{
    if (lift_is64(l))
        return seg == X86_FS || seg == X86_GS ? add_base(l, seg, offset) : offset;
    if (!is_flat(l, seg, access))
        return lift_call(l, IR_I64, X86_HELPER_seg_linear, ir_const(l->b, IR_I64, seg), offset,
                         ir_const(l->b, IR_I64, size), ir_const(l->b, IR_I64, access));
    /* The limit of 64 KiB; of 4 GiB only where the base lets the linear address wrap elsewhere (IR_TOP does it else). */
    bool zero = l->mode >> X86_MODE_ZERO_SHIFT >> seg & 1;
    int64_t space = l->code_bits == 16 ? 0x10000 : 1ll << 32;
    if (l->code_bits == 16 ? !(size == 1 && l->address_bits == 16) : !zero && size > 1) {
        ir_ref over = ir_op2(l->b, IR_ult, IR_I64, ir_const(l->b, IR_I64, space - (int64_t)size), offset);
        if (access & IR_ALIGNED && seg == X86_SS) /* #GP comes first */
            raise_misaligned(l, zero ? offset : add_base(l, seg, offset), size);
        lift_raise_if(l, over, seg == X86_SS ? X86_SS_FAULT : X86_GP, true, 0);
    }
    return zero ? offset : add_base(l, seg, offset);
}

/* What alignment checks look at; 80-bit floats count as 8 bytes, environments as 2 or 4 (SDM 3A table 6-7). */
static unsigned check_size(unsigned size)
{
    return size == 10 ? 8 : size == 14 || size == 94 ? 2 : size == 28 || size == 108 ? 4 : size > 1 && size <= 16 && !(size & (size - 1)) ? size : 0;
}

ir_ref lift_token(struct lifter *l, enum x86_seg seg, ir_ref offset, unsigned size, unsigned access)
{
    ir_ref linear = lift_linear(l, seg, offset, size, access);
    if (seg == X86_SS)
        access |= IR_SS;
    if (l->code_bits == 32 && l->mode >> X86_MODE_ZERO_SHIFT >> seg & 1)
        access |= IR_TOP;
    if (l->mode & X86_MODE_AC && check_size(size) == size)
        access |= IR_AC;
    else if (l->mode & X86_MODE_AC && check_size(size))
        lift_call(l, IR_VOID, X86_HELPER_access_check, linear, ir_const(l->b, IR_I64, check_size(size)), ir_const(l->b, IR_I64, access | IR_AC), IR_NONE);
    ir_ref token = ir_emit(l->b, IR_translate, IR_I64, access, size, linear, IR_NONE, IR_NONE, IR_NONE);
    if (l->mode & X86_MODE_DEBUG)
        lift_call(l, IR_VOID, X86_HELPER_debug_access, linear, ir_const(l->b, IR_I64, size), ir_const(l->b, IR_I64, access & IR_WRITE), IR_NONE);
    return token;
}

ir_ref lift_translate(struct lifter *l, unsigned i, unsigned size, unsigned access)
{
    if (l->token[i] == IR_NONE || (access & IR_WRITE && !l->writable[i])) {
        l->token[i] = lift_token(l, lift_seg(l->op[i].mem.segment), lift_ea(l, i), size, access);
        l->writable[i] = access & IR_WRITE;
    }
    return l->token[i];
}

ir_ref lift_operand_linear(struct lifter *l, unsigned i, unsigned size, unsigned access)
{
    enum x86_seg seg = lift_seg(l->op[i].mem.segment);
    ir_ref linear = lift_linear(l, seg, lift_ea(l, i), size, access);
    if (access & IR_ALIGNED && seg == X86_SS) /* #GP comes first */
        raise_misaligned(l, linear, size);
    if (lift_is64(l) && seg == X86_SS) { /* helpers do not know the segment, and it is #SS there */
        ir_ref shift = ir_const(l->b, IR_I64, 16), last = ir_op2(l->b, IR_add, IR_I64, linear, ir_const(l->b, IR_I64, (int64_t)size - 1));
        for (unsigned k = 0; k < 2; k++) {
            ir_ref at = k ? last : linear, extended = ir_op2(l->b, IR_sar, IR_I64, ir_op2(l->b, IR_shl, IR_I64, at, shift), shift);
            lift_raise_if(l, ir_op2(l->b, IR_ne, IR_I64, extended, at), X86_SS_FAULT, true, 0);
        }
    }
    if (l->code_bits == 32 && l->mode >> X86_MODE_ZERO_SHIFT >> seg & 1) {
        ir_ref over = ir_op2(l->b, IR_ult, IR_I64, ir_const(l->b, IR_I64, (1ll << 32) - (int64_t)size), linear);
        lift_raise_if(l, over, seg == X86_SS ? X86_SS_FAULT : X86_GP, true, 0);
    }
    if (l->mode & X86_MODE_AC && check_size(size))
        lift_call(l, IR_VOID, X86_HELPER_access_check, linear, ir_const(l->b, IR_I64, check_size(size)), ir_const(l->b, IR_I64, access | IR_AC | (seg == X86_SS ? IR_SS : 0)), IR_NONE);
    return linear;
}

/* --- Operands */
enum ir_type lift_type(const struct lifter *l, unsigned i)
{
    return lift_is_imm(l, i) ? lift_int_type(l->operand_bits) : lift_int_type(l->op[i].size);
}

ir_ref lift_read_as(struct lifter *l, unsigned i, enum ir_type t)
{
    if (lift_is_imm(l, i))
        return immediate(l, i, t);
    return lift_resize(l, lift_read(l, i), lift_type(l, i), t, false);
}

static ir_ref read_access(struct lifter *l, unsigned i, unsigned access)
{
    if (lift_is_imm(l, i))
        return immediate(l, i, lift_type(l, i));
    if (lift_is_reg(l, i))
        return lift_gpr_get(l, l->op[i].reg.value);
    return lift_load(l, lift_type(l, i), lift_translate(l, i, l->op[i].size / 8, access), 0);
}

ir_ref lift_read(struct lifter *l, unsigned i) { return read_access(l, i, IR_READ); }
ir_ref lift_read_rw(struct lifter *l, unsigned i) { return read_access(l, i, IR_RW); }

void lift_prepare_write(struct lifter *l, unsigned i)
{
    if (lift_is_mem(l, i))
        lift_translate(l, i, l->op[i].size / 8, IR_WRITE);
}

void lift_write(struct lifter *l, unsigned i, ir_ref v)
{
    if (lift_is_reg(l, i))
        lift_gpr_put(l, l->op[i].reg.value, v);
    else
        lift_store(l, lift_type(l, i), lift_translate(l, i, l->op[i].size / 8, IR_WRITE), 0, v);
}

/* --- Stack */
ir_ref lift_sp_get(struct lifter *l)
{
    enum ir_type t = lift_int_type(l->stack_bits);
    return lift_resize(l, lift_reg_get(l, X86_RSP, l->stack_bits), t, IR_I64, false);
}

void lift_sp_put(struct lifter *l, ir_ref sp)
{
    lift_reg_put(l, X86_RSP, l->stack_bits, lift_resize(l, sp, IR_I64, lift_int_type(l->stack_bits), false));
}

struct lift_push lift_push_at(struct lifter *l, unsigned bytes)
{
    enum ir_type t = lift_int_type(l->stack_bits);
    ir_ref sp = ir_emit(l->b, IR_lea, t, 0, -(int64_t)bytes, lift_reg_get(l, X86_RSP, l->stack_bits), IR_NONE, IR_NONE, IR_NONE);
    ir_ref wide = lift_resize(l, sp, t, IR_I64, false);
    return (struct lift_push){sp, lift_token(l, X86_SS, wide, bytes, IR_WRITE), bytes};
}

void lift_push_commit(struct lifter *l, struct lift_push at, ir_ref v)
{
    lift_store(l, lift_int_type(at.bytes * 8), at.token, 0, v);
    lift_reg_put(l, X86_RSP, l->stack_bits, at.sp);
}

void lift_push(struct lifter *l, unsigned bytes, ir_ref v) { lift_push_commit(l, lift_push_at(l, bytes), v); }

/* --- Flags */
ir_ref lift_flags_get(struct lifter *l)
{
    if (l->flags == IR_NONE)
        l->flags = ir_op1(l->b, IR_flags_unpack, IR_FLAGS, lift_slot_get(l, IR_I32, SLOT(flags)));
    return l->flags;
}

void lift_flags_put(struct lifter *l, ir_ref flags)
{
    l->flags = flags;
    lift_slot_put(l, IR_I32, SLOT(flags), ir_op1(l->b, IR_flags_pack, IR_I32, flags));
}

static bool may_keep_flags(const struct lifter *l, ir_ref op)
{
    const struct ir_insn *in = &l->b->insns[op];
    unsigned count;
    switch (in->op) {
    case IR_shl: case IR_shr: case IR_sar: case IR_rol: case IR_ror: case IR_rcl: case IR_rcr: count = in->arg[1]; break;
    case IR_shld: case IR_shrd: count = in->arg[2]; break;
    default: return false;
    }
    return l->b->insns[count].op != IR_const || !(l->b->insns[count].imm & (in->type == IR_I64 ? 63 : 31));
}

void lift_flags_of(struct lifter *l, ir_ref op, unsigned mask)
{
    if (l->b->out_of_memory)
        return;
    bool old = mask != IR_M_ALL || may_keep_flags(l, op);
    lift_flags_put(l, ir_emit(l->b, IR_flags_of, IR_FLAGS, mask, 0, op, old ? lift_flags_get(l) : IR_NONE, IR_NONE, IR_NONE));
}

void lift_flag_set(struct lifter *l, unsigned mask, ir_ref bit)
{
    lift_flags_put(l, ir_emit(l->b, IR_flags_set, IR_FLAGS, mask, 0, lift_flags_get(l), bit, IR_NONE, IR_NONE));
}

void lift_flags_packed(struct lifter *l, ir_ref packed)
{
    lift_flags_put(l, ir_op1(l->b, IR_flags_unpack, IR_FLAGS, packed));
}

ir_ref lift_cc(struct lifter *l, enum ir_cond cond)
{
    return ir_emit(l->b, IR_test_cc, IR_I1, cond, 0, lift_flags_get(l), IR_NONE, IR_NONE, IR_NONE);
}

/* --- Helpers and ends */
/* Stores of the block's own code are seen to where it makes them itself (translate); not in the middle of a helper. */
static bool helper_stores(enum x86_helper h)
{
    switch (h) {
    case X86_HELPER_rep_move: case X86_HELPER_push_all: case X86_HELPER_enter: case X86_HELPER_cmpxchg16b: case X86_HELPER_mask_move:
    case X86_HELPER_fxsave: case X86_HELPER_xsave: case X86_HELPER_xsavec: case X86_HELPER_table_store: case X86_HELPER_arpl: case X86_HELPER_x87_pending:
    case X86_HELPER_x87_control: case X86_HELPER_io_string: case X86_HELPER_out:
        return true;
    default:
        return false;
    }
}

ir_ref lift_call(struct lifter *l, enum ir_type t, enum x86_helper h, ir_ref a, ir_ref b, ir_ref c, ir_ref d)
{
    ir_ref r = ir_emit(l->b, IR_call, t, 0, h, a, b, c, d);
    if (x86_guest.helpers[h].writes & IR_S_FLAGS)
        l->flags = IR_NONE;
    l->helper_stored |= helper_stores(h);
    return r;
}

ir_ref lift_this_pc(struct lifter *l)
{
    return ir_emit(l->b, IR_pc, IR_I64, 0, l->offset, IR_NONE, IR_NONE, IR_NONE, IR_NONE);
}

ir_ref lift_next_pc(struct lifter *l)
{
    return ir_emit(l->b, IR_pc, IR_I64, 0, lift_next_offset(l), IR_NONE, IR_NONE, IR_NONE, IR_NONE);
}

void lift_raise_if(struct lifter *l, ir_ref condition, unsigned vector, bool has_error, uint32_t error)
{
    ir_ref e = has_error ? ir_const(l->b, IR_I64, error) : IR_NONE;
    ir_emit(l->b, IR_raise_if, IR_VOID, vector, has_error, condition, e, IR_NONE, IR_NONE);
}

static void leave(struct lifter *l, enum ir_leave reason, int64_t offset, ir_ref pc)
{
    ir_emit(l->b, IR_leave, IR_VOID, reason, offset, pc, IR_NONE, IR_NONE, IR_NONE);
    l->ended = true;
}

void lift_raise(struct lifter *l, unsigned vector, bool has_error, uint32_t error)
{
    lift_raise_if(l, ir_const(l->b, IR_I1, 1), vector, has_error, error);
    leave(l, IR_LEAVE_NEXT, l->offset, IR_NONE); /* not reached */
}

void lift_ud(struct lifter *l) { lift_raise(l, X86_UD, false, 0); }
void lift_end_leave(struct lifter *l, enum ir_leave reason) { leave(l, reason, lift_next_offset(l), IR_NONE); }
void lift_end_leave_at(struct lifter *l, enum ir_leave reason, ir_ref pc) { leave(l, reason, 0, pc); }

void lift_end_go_on(struct lifter *l, ir_ref pc)
{
    ir_emit(l->b, IR_jump_to, IR_VOID, IR_JUMP_MODE, 0, pc, IR_NONE, IR_NONE, IR_NONE);
    l->ended = true;
}

void lift_end_jump(struct lifter *l)
{
    ir_emit(l->b, IR_jump, IR_VOID, 0, lift_next_offset(l), IR_NONE, IR_NONE, IR_NONE, IR_NONE);
    l->ended = true;
}
