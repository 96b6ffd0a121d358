/* Ways from block to block of a region: known ones, and those of returns and indirect jumps to where they were seen to go. */
#include "backend-llvm/internal.h"

bool target_block(const struct fn *f, const struct llvm_block *from, int64_t offset, unsigned *to)
{
    uint64_t pc = cut_pc(from->ir, from->pc + offset);
    for (*to = 0; *to < f->r->block_count; ++*to)
        if (cut_pc(from->ir, f->r->blocks[*to].pc) == pc)
            return true;
    return false;
}

/* --- Back edges: each cycle has one, whatever its shape, and a loop with one way round no more than that */
enum mark { UNSEEN, ON_THE_WAY, DONE };
static void walk(struct fn *f, unsigned from, uint8_t *marks);

static void walk_edge(struct fn *f, unsigned from, unsigned to, uint8_t *marks)
{
    if (marks[to] == UNSEEN)
        walk(f, to, marks);
    else if (marks[to] == ON_THE_WAY)
        f->back[from * f->r->block_count + to] = true;
}

static void walk(struct fn *f, unsigned from, uint8_t *marks)
{
    const struct llvm_block *block = &f->r->blocks[from == f->r->block_count ? 0 : from];
    unsigned to;
    marks[from] = ON_THE_WAY;
    for (ir_ref n = 0; n < block->ir->count; n++) {
        const struct ir_insn *i = &block->ir->insns[n];
        if ((i->op == IR_jump || i->op == IR_exit_if) && target_block(f, block, i->imm, &to))
            walk_edge(f, from, to, marks);
        for (unsigned k = 0; i->op == IR_jump_to && k < block->target_count; k++)
            walk_edge(f, from, block->targets[k].block, marks);
    }
    marks[from] = DONE;
}

void back_edges_find(struct fn *f)
{
    uint8_t marks[LLVM_MOST_BLOCKS + 1] = {UNSEEN};
    if (f->r->block_count > LLVM_MOST_BLOCKS)
        f->refused = "too many blocks";
    else
        walk(f, f->r->block_count, marks); /* depth first, from where it is entered */
}

LLVMValueRef stop_asked(struct fn *f)
{
    LLVMValueRef load = LLVMBuildLoad2(f->builder, f->i32, state_at(f, f->g->stop_offset), "");
    LLVMSetVolatile(load, 1); /* another thread writes it; atomic as it is, aligned, and folded into the comparison */
    LLVMSetAlignment(load, 4);
    mark_own(f, load);
    return LLVMBuildICmp(f->builder, LLVMIntNE, load, constant(f, f->i32, 0), "");
}

static void edge(struct fn *f, unsigned to)
{
    const struct llvm_block *target = &f->r->blocks[to];
    const struct flags_in *in = &f->flags_in[to], *out = &f->flags_out[f->index];
    if ((in->c != FLAGS_DYNAMIC && in->c != out->c) || (in->rest != FLAGS_DYNAMIC && in->rest != out->rest))
        f->refused = "flags that do not flow as they were said to";
    bool round = f->loop.count && f->here == f->loop.back;
    if (round && f->loop.rounds)
        loop_round_ends(f);
    if (f->back[f->index * f->r->block_count + to] || f->memory_called) {
        LLVMBasicBlockRef out_block = new_block(f), on = new_block(f);
        unlikely(f, LLVMBuildCondBr(f->builder, stop_asked(f), out_block, on));
        LLVMPositionBuilderAtEnd(f->builder, out_block);
        leave(f, IR_LEAVE_NEXT, region_pc(f, target->ir, target->pc), LLVM_EXIT_STOP, f->insns);
        LLVMPositionBuilderAtEnd(f->builder, on);
    }
    if (round && !f->loop.rounds)
        f->loop.flags = *out;
    LLVMBuildBr(f->builder, round ? f->loop.begin : f->heads[to]);
}

void jump(struct fn *f, int64_t offset)
{
    unsigned to;
    if (target_block(f, f->block, offset, &to))
        edge(f, to);
    else
        go_known(f, offset);
}

void exit_if(struct fn *f, const struct ir_insn *i)
{
    LLVMBasicBlockRef taken = new_block(f), on = new_block(f);
    LLVMValueRef branch = LLVMBuildCondBr(f->builder, operand(f, i->arg[0]), taken, on);
    unsigned to;
    if (!target_block(f, f->block, i->imm, &to))
        unlikely(f, branch);
    LLVMPositionBuilderAtEnd(f->builder, taken);
    jump(f, i->imm);
    LLVMPositionBuilderAtEnd(f->builder, on);
}

/* --- Returns and indirect jumps */
/* Where the PC is that of target k: what comes before the jump, and on to the target's block.  The builder is left where it is not. */
static void target_taken(struct fn *f, LLVMValueRef pc, unsigned k, const struct ir_insn *tail, const struct ir_insn *end, LLVMBasicBlockRef other)
{
    unsigned to = f->block->targets[k].block;
    LLVMBasicBlockRef taken = new_block(f);
    LLVMBuildCondBr(f->builder, LLVMBuildICmp(f->builder, LLVMIntEQ, pc, region_pc(f, f->b, f->r->blocks[to].pc), ""), taken, other);
    LLVMPositionBuilderAtEnd(f->builder, taken);
    for (; tail && tail != end; tail++)
        emit_one(f, tail, (ir_ref)(tail - f->b->insns));
    edge(f, to);
    LLVMPositionBuilderAtEnd(f->builder, other);
}

/* Some bits of the PC that tell the targets from each other; false: there are none so few. */
enum { FEW = 3, INDEX_BITS = 6, LOWEST_BITS = 16 };
static bool index_find(struct fn *f, unsigned first, unsigned *shift, unsigned *bits)
{
    for (*bits = 2; *bits <= INDEX_BITS; ++*bits)
        for (*shift = 0; *shift < LOWEST_BITS; ++*shift) {
            uint64_t seen = 0;
            unsigned k = first;
            for (; k < f->block->target_count; k++) {
                uint64_t bit = 1ull << ((uint64_t)f->r->blocks[f->block->targets[k].block].pc >> *shift & ((1u << *bits) - 1));
                if (seen & bit)
                    break;
                seen |= bit;
            }
            if (k == f->block->target_count)
                return true;
        }
    return false;
}

/* By a table of jumps, as the guest's own would be. */
static void targets_by_index(struct fn *f, LLVMValueRef pc, unsigned first, unsigned shift, unsigned bits, const struct ir_insn *tail, const struct ir_insn *end)
{
    LLVMBuilderRef b = f->builder;
    LLVMBasicBlockRef other = new_block(f);
    LLVMValueRef index = LLVMBuildLShr(b, LLVMBuildSub(b, pc, f->base, ""), constant(f, f->i64, shift), "");
    index = LLVMBuildAnd(b, index, constant(f, f->i64, (1u << bits) - 1), "");
    LLVMValueRef by = LLVMBuildSwitch(b, index, other, f->block->target_count - first);
    for (unsigned k = first; k < f->block->target_count; k++) {
        uint64_t at = (uint64_t)f->r->blocks[f->block->targets[k].block].pc >> shift & ((1u << bits) - 1);
        LLVMBasicBlockRef here = new_block(f);
        LLVMAddCase(by, constant(f, f->i64, at), here);
        LLVMPositionBuilderAtEnd(b, here);
        target_taken(f, pc, k, tail, end, other);
    }
}

void jump_to(struct fn *f, const struct ir_insn *i, const struct ir_insn *tail)
{
    LLVMValueRef pc = operand(f, i->arg[0]);
    const struct llvm_block *block = f->block;
    unsigned k = 0, count = i->aux == IR_JUMP_MODE || f->jumped_early ? 0 : block->target_count, shift, bits;
    uint64_t sum = 0;
    for (unsigned n = 0; n < count; n++)
        sum += block->targets[n].count;
    /* One after the other while most go there, else by index. */
    for (; k < count && (count - k <= FEW || block->targets[k].count * 3ull > sum * 2 || f->b->pc_bits != 64); k++) {
        sum -= block->targets[k].count;
        target_taken(f, pc, k, tail, i, new_block(f));
    }
    if (k < count && index_find(f, k, &shift, &bits)) {
        targets_by_index(f, pc, k, shift, bits, tail, i);
        k = count;
    }
    for (; k < count; k++)
        target_taken(f, pc, k, tail, i, new_block(f));
    if (!tail)
        go(f, pc);
}

/* Is value n told by `target` alone, in a few steps? */
static bool told_by(const struct ir_block *b, ir_ref n, ir_ref target, unsigned steps)
{
    if (n == target || b->insns[n].op == IR_const)
        return true;
    if (!steps--)
        return false;
    switch ((enum ir_op)b->insns[n].op) {
    case IR_shl: case IR_shr: case IR_sar: case IR_and: case IR_or: case IR_xor: case IR_add: case IR_sub: case IR_eq: case IR_ne: case IR_ult:
        return told_by(b, b->insns[n].arg[0], target, steps) && told_by(b, b->insns[n].arg[1], target, steps);
    case IR_zext: case IR_sext: case IR_trunc:
        return told_by(b, b->insns[n].arg[0], target, steps);
    default:
        return false;
    }
}

static bool is_plain(const struct fn *f, const struct ir_insn *i)
{
    return i->op == IR_lea || i->op == IR_add || i->op == IR_const || i->op == IR_get || (i->op == IR_put && (uint64_t)i->imm != f->pins.flags);
}

/* An exception for what the target is (no canonical address, above a limit) cannot be raised for one where a block of the region is: they
 * are compared first, and the exception's condition is looked at on the way out. */
void jump_early(struct fn *f, ir_ref n)
{
    const struct ir_block *b = f->b;
    const struct ir_insn *guard = &b->insns[n], *end = &b->insns[b->count - 1], *i = guard + 1;
    if (guard->op != IR_raise_if || end->op != IR_jump_to || !told_by(b, guard->arg[0], end->arg[0], 4))
        return;
    while (i != end && is_plain(f, i))
        i++;
    if (i != end)
        return;
    jump_to(f, end, guard + 1);
    f->jumped_early = true;
}
