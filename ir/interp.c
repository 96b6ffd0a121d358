/* The interpreter: the reference for every op.  Memory tokens are guest addresses; a translate has checked
 * them, so that loads and stores cannot fault. */
#include "ir/internal.h"
#include <stdlib.h>
#include <string.h>

#define STACK_VALUES 512u

struct run {
    const struct ir_block *block;
    struct ir_env *env;
    union ir_value *values;
    uint64_t pc;            /* of the guest instruction that runs */
    unsigned length;        /* its bytes */
    unsigned insns;         /* how many were begun */
};

static uint64_t cut_pc(const struct run *r, uint64_t pc) { return ir_cut(pc, r->block->pc_bits); }
static uint64_t pc_at(const struct run *r, int64_t offset) { return cut_pc(r, r->env->pc + (uint64_t)offset); }
static uint64_t operand(const struct run *r, const struct ir_insn *i, unsigned n) { return i->arg[n] == IR_NONE ? 0 : r->values[i->arg[n]].u64; }

static void set_pc(const struct run *r, uint64_t pc)
{
    memcpy((char *)r->env->state + r->env->guest->pc_offset, &pc, sizeof pc);
}

static bool faulted(const struct run *r)
{
    uint32_t f;
    memcpy(&f, (char *)r->env->state + r->env->guest->faulted_offset, sizeof f);
    return f != 0;
}

static union ir_value state_get(const struct run *r, const struct ir_insn *i)
{
    union ir_value v;
    v.u128 = 0;
    memcpy(&v, (char *)r->env->state + i->imm, ir_type_bytes((enum ir_type)i->type));
    return v;
}

static void state_put(const struct run *r, const struct ir_insn *i)
{
    memcpy((char *)r->env->state + i->imm, &r->values[i->arg[0]], ir_type_bytes((enum ir_type)i->type));
}

static uint64_t code(const struct run *r, const struct ir_insn *i)
{
    uint64_t v = 0;
    memcpy(&v, r->env->code + i->imm, i->aux);
    return ir_cut((uint64_t)ir_signed(v, 8 * i->aux), ir_type_bits((enum ir_type)i->type));
}

static union ir_value load(const struct run *r, uint64_t address, unsigned size)
{
    union ir_value v;
    v.u128 = 0;
    r->env->load(r->env->state, address, size, &v);
    return v;
}

static void store(const struct run *r, uint64_t address, unsigned size, const union ir_value *v)
{
    r->env->store(r->env->state, address, size, v);
}

/* One vCPU: nobody else takes locks.  But a lock is a fence, too, in both directions (SDM 3A 9.2.3.9): devices have threads. */
static union ir_value atomic(const struct run *r, const struct ir_insn *i)
{
    unsigned size = ir_type_bytes((enum ir_type)i->type);
    uint64_t address = operand(r, i, 0), b = operand(r, i, 1);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    union ir_value old = load(r, address, size), new = old;
    switch ((unsigned)i->op) {
    case IR_atomic_add: new.u64 = old.u64 + b; break;
    case IR_atomic_and: new.u64 = old.u64 & b; break;
    case IR_atomic_or: new.u64 = old.u64 | b; break;
    case IR_atomic_xor: new.u64 = old.u64 ^ b; break;
    case IR_atomic_xchg: new.u64 = b; break;
    default: new.u64 = old.u64 == ir_cut(b, size * 8) ? operand(r, i, 2) : old.u64; break;
    }
    store(r, address, size, &new);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return old;
}

static uint64_t flags_of(const struct run *r, const struct ir_insn *i)
{
    const struct ir_insn *from = &r->block->insns[i->arg[0]];
    uint64_t x[3] = {operand(r, from, 0), operand(r, from, 1), operand(r, from, 2)};
    uint32_t old = (uint32_t)operand(r, i, 1), mask = ir_mask_to_packed(i->aux);
    uint32_t f = ir_eval_flags((enum ir_op)from->op, (enum ir_type)from->type, x, r->values[i->arg[0]].u64, old);
    return (f & mask) | (old & ~mask);
}

static uint64_t scalar(const struct run *r, const struct ir_insn *i)
{
    uint64_t x[3] = {operand(r, i, 0), operand(r, i, 1), operand(r, i, 2)};
    return ir_eval((enum ir_op)i->op, (enum ir_type)i->type, i->aux, i->imm, x);
}

static uint64_t deposited(const struct run *r, const struct ir_insn *i)
{
    unsigned bits = ir_type_bits(ir_result_type(r->block, i->arg[1]));
    uint64_t mask = ir_cut(~0ull, bits) << i->aux;
    return ir_cut((operand(r, i, 0) & ~mask) | (operand(r, i, 1) << i->aux & mask), ir_type_bits((enum ir_type)i->type));
}

static void vector(const struct run *r, ir_ref n, const struct ir_insn *i)
{
    static const union ir_value zero;
    const union ir_value *x[3];
    for (unsigned k = 0; k < 3; k++)
        x[k] = i->arg[k] == IR_NONE ? &zero : &r->values[i->arg[k]];
    enum ir_type type = i->arg[0] == IR_NONE ? (enum ir_type)i->type : ir_result_type(r->block, i->arg[0]);
    uint32_t *mxcsr = (uint32_t *)(void *)((char *)r->env->state + r->env->guest->mxcsr_offset);
    ir_vector_eval(i, type, &r->values[n], x[0], x[1], x[2], mxcsr);
}

static enum ir_leave leave_fault(struct run *r)
{
    r->insns -= r->insns != 0;
    set_pc(r, r->pc);
    return IR_LEAVE_FAULT;
}

static uint64_t x87(const struct run *r, const struct ir_insn *i)
{
    const struct ir_x87 *at = &r->env->guest->x87;
    union ir_value operand_bytes = {0};
    if (i->op == IR_x87_load)
        r->env->load(r->env->state, operand(r, i, 0), (unsigned)i->imm, &operand_bytes);
    uint32_t flags = (uint32_t)operand(r, i, 0) & IR_FLAGS_ALL;
    if (i->op != IR_x87_store)
        flags = ir_x87_run(r->env->state, r->env->guest, i->aux, &operand_bytes, flags);
    else if (ir_x87_store(r->env->state, r->env->guest, i->aux, (unsigned)i->imm, &operand_bytes))
        r->env->store(r->env->state, operand(r, i, 0), (unsigned)i->imm, &operand_bytes);
    memcpy((char *)r->env->state + at->pc, &r->pc, 8);
    memcpy((char *)r->env->state + at->opcode, &i->aux, 2);
    return flags;
}

static void x87_clear(const struct run *r)
{
    enum { CONDITIONS = 0x4700 };
    uint16_t status;
    memcpy(&status, (char *)r->env->state + r->env->guest->x87.status, sizeof status);
    status &= CONDITIONS;
    memcpy((char *)r->env->state + r->env->guest->x87.status, &status, sizeof status);
}

static uint64_t x87_status(const struct run *r)
{
    const struct ir_x87 *at = &r->env->guest->x87;
    uint16_t status;
    memcpy(&status, (char *)r->env->state + at->status, sizeof status);
    return status | (uint64_t)((uint8_t *)r->env->state)[at->top] << 11;
}

static uint64_t call(struct run *r, const struct ir_insn *i)
{
    const struct ir_helper *h = &r->env->guest->helpers[i->imm];
    set_pc(r, r->pc);
    return h->fn(r->env->state, operand(r, i, 0), operand(r, i, 1), operand(r, i, 2), operand(r, i, 3));
}

static enum ir_leave run_block(struct run *r)
{
    const struct ir_block *b = r->block;
    union ir_value *v = r->values;
    for (ir_ref n = 0; n < b->count; n++) {
        const struct ir_insn *i = &b->insns[n];
        switch ((enum ir_op)i->op) {
        case IR_const: case IR_add: case IR_sub: case IR_adc: case IR_sbb: case IR_and: case IR_or: case IR_xor:
        case IR_neg: case IR_not: case IR_mul: case IR_umulh: case IR_smulh: case IR_udiv_ok: case IR_udivq:
        case IR_udivr: case IR_sdiv_ok: case IR_sdivq: case IR_sdivr: case IR_shl: case IR_shr: case IR_sar:
        case IR_rol: case IR_ror: case IR_rcl: case IR_rcr: case IR_shld: case IR_shrd: case IR_clz: case IR_ctz:
        case IR_popcnt: case IR_bswap: case IR_pdep: case IR_pext: case IR_crc32: case IR_lea: case IR_eq:
        case IR_ne: case IR_ult: case IR_ule: case IR_slt: case IR_sle: case IR_zext: case IR_trunc:
        case IR_extract: case IR_flags_pack:
            v[n].u64 = scalar(r, i);
            break;
        case IR_select: v[n] = operand(r, i, 0) & 1 ? v[i->arg[1]] : v[i->arg[2]]; break;
        case IR_sext:
            v[n].u64 = ir_cut((uint64_t)ir_signed(operand(r, i, 0), ir_type_bits(ir_result_type(b, i->arg[0]))), ir_type_bits((enum ir_type)i->type));
            break;
        case IR_deposit: v[n].u64 = deposited(r, i); break;
        case IR_code: v[n].u64 = code(r, i); break;
        case IR_pc: v[n].u64 = pc_at(r, i->imm); break;
        case IR_get: v[n] = state_get(r, i); break;
        case IR_put: state_put(r, i); break;
        case IR_flags_of: v[n].u64 = flags_of(r, i); break;
        case IR_flags_set: {
            uint32_t mask = ir_mask_to_packed(i->aux), old = (uint32_t)operand(r, i, 0);
            v[n].u64 = operand(r, i, 1) & 1 ? old | mask : old & ~mask;
            break;
        }
        case IR_flags_unpack: v[n].u64 = operand(r, i, 0) & IR_FLAGS_ALL; break;
        case IR_test_cc: v[n].u64 = ir_eval_cond((enum ir_cond)i->aux, (uint32_t)operand(r, i, 0)); break;
        case IR_translate:
            v[n].u64 = operand(r, i, 0);
            r->env->at = n;
            if (!r->env->translate(r->env->state, v[n].u64, (unsigned)i->imm, i->aux))
                return leave_fault(r);
            break;
        case IR_load: v[n] = load(r, operand(r, i, 0) + (uint64_t)i->imm, ir_type_bytes((enum ir_type)i->type)); break;
        case IR_store: store(r, operand(r, i, 0) + (uint64_t)i->imm, ir_type_bytes((enum ir_type)i->type), &v[i->arg[1]]); break;
        case IR_atomic_add: case IR_atomic_and: case IR_atomic_or: case IR_atomic_xor: case IR_atomic_xchg:
        case IR_atomic_cas:
            v[n] = atomic(r, i);
            break;
        case IR_fence: __atomic_thread_fence(__ATOMIC_SEQ_CST); break;
        case IR_insn:
            r->pc = pc_at(r, i->imm);
            if (r->env->stop) {
                set_pc(r, r->pc);
                return IR_LEAVE_NEXT;
            }
            r->length = i->aux;
            r->insns++;
            break;
        case IR_call:
            v[n].u64 = call(r, i);
            if (faulted(r))
                return leave_fault(r);
            break;
        case IR_raise_if:
            if (!(operand(r, i, 0) & 1))
                break;
            r->env->raise(r->env->state, i->aux, i->imm != 0, operand(r, i, 1));
            return leave_fault(r);
        case IR_divert_if:
            if (!(operand(r, i, 0) & 1))
                break;
            set_pc(r, r->pc);
            r->env->guest->helpers[i->imm].fn(r->env->state, operand(r, i, 1), operand(r, i, 2), operand(r, i, 3), 0);
            if (faulted(r))
                return leave_fault(r);
            set_pc(r, cut_pc(r, r->pc + r->length));
            return IR_LEAVE_NEXT;
        case IR_x87: case IR_x87_move_if: case IR_x87_load: case IR_x87_store: x87(r, i); break;
        case IR_x87_flags: v[n].u64 = x87(r, i); break;
        case IR_x87_status: v[n].u64 = x87_status(r); break;
        case IR_x87_clear: x87_clear(r); break;
        case IR_x87_control: break; /* nothing is kept outside of the state */
        case IR_exit_if:
            if (!(operand(r, i, 0) & 1))
                break;
            set_pc(r, pc_at(r, i->imm));
            return IR_LEAVE_NEXT;
        case IR_jump: set_pc(r, pc_at(r, i->imm)); return IR_LEAVE_NEXT;
        case IR_jump_to: set_pc(r, operand(r, i, 0)); return IR_LEAVE_NEXT;
        case IR_leave: set_pc(r, i->arg[0] == IR_NONE ? pc_at(r, i->imm) : operand(r, i, 0)); return (enum ir_leave)i->aux;
        default: vector(r, n, i); break; /* all of ops_vector.def: ir_vector_eval's own switch is complete */
        }
    }
    __builtin_unreachable(); /* the verifier: a block ends with an op that ENDS */
}

enum ir_leave ir_interpret(const struct ir_block *block, struct ir_env *env, unsigned *insns)
{
    union ir_value few[STACK_VALUES];
    struct run r = {.block = block, .env = env, .values = few, .pc = env->pc};
    if (block->count > STACK_VALUES && !(r.values = malloc(block->count * sizeof *r.values)))
        abort(); /* 64 bytes an op of one block: the host has nothing left */
    enum ir_leave leave = run_block(&r);
    if (r.values != few)
        free(r.values);
    *insns = r.insns;
    return leave;
}
