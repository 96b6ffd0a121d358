/* The verifier: what every block must satisfy.  Runs after each pass in debug builds. */
#include "ir/internal.h"
#include <ctype.h>
#include <string.h>

static bool is_int(enum ir_type t) { return t >= IR_I1 && t <= IR_I128; }

static bool operand_fits(char letter, enum ir_type have, enum ir_type want)
{
    switch (toupper(letter)) {
    case 'T': return have == want;
    case 'I': return is_int(have);
    case 'B': return have == IR_I1;
    case 'F': return have == IR_FLAGS;
    case 'P': case 'Q': return have == IR_I64;
    default: return have != IR_VOID;
    }
}

static const char *check_operands(const struct ir_block *b, ir_ref n, const struct ir_insn *i)
{
    const char *in = ir_op_info[i->op].in;
    for (unsigned k = 0; k < 4; k++) {
        char letter = k < strlen(in) ? in[k] : 0;
        ir_ref a = i->arg[k];
        if (!letter && a != IR_NONE)
            return "has an operand too many";
        if (!letter || (a == IR_NONE && islower(letter)))
            continue;
        if (a == IR_NONE)
            return "lacks an operand";
        if (a >= n)
            return "uses a value that is defined later";
        if (!operand_fits(letter, ir_result_type(b, a), (enum ir_type)i->type))
            return "has an operand of the wrong type";
    }
    return NULL;
}

static const char *check_slot(const struct ir_insn *i, const struct ir_guest *g)
{
    if (i->op != IR_get && i->op != IR_put)
        return NULL;
    if (i->imm < 0 || (uint64_t)i->imm + ir_type_bytes((enum ir_type)i->type) > g->state_size)
        return "touches bytes outside the state";
    return NULL;
}

/* Puts inside an instruction come after its last operation that can fault. */
static const char *check_order(const struct ir_insn *i, const struct ir_guest *g, bool *has_put)
{
    if (i->op == IR_insn)
        *has_put = false;
    if (i->op == IR_put)
        *has_put = true;
    bool faults = ir_op_info[i->op].props & FAULTS;
    if (i->op == IR_call && g && !g->helpers[i->imm].faults)
        faults = false;
    return faults && *has_put ? "can fault after a put of the same instruction" : NULL;
}

/* Functions of the x87: registers have ModRM C0..FF, memory a /digit alone. */
static const char *check_x87(const struct ir_insn *i)
{
    switch ((unsigned)i->op) {
    case IR_x87: case IR_x87_flags: case IR_x87_move_if: return (i->aux & 0xf8c0) == 0xc0 ? NULL : "has no function on registers";
    case IR_x87_load: case IR_x87_store: return i->aux & 0xf800 || (i->aux & 0xc0) == 0xc0 ? "has no function on memory" : i->imm > 0 && i->imm <= 10 ? NULL : "has a wrong size";
    default: return NULL;
    }
}

static const char *check_one(const struct ir_block *b, ir_ref n, const struct ir_guest *g, bool *has_put)
{
    const struct ir_insn *i = &b->insns[n];
    const char *wrong;
    bool last = n + 1u == b->count;
    if (i->op >= IR_OP_COUNT || i->type >= IR_TYPE_COUNT)
        return "is no operation";
    if (!!(ir_op_info[i->op].props & ENDS) != last)
        return last ? "is last, but does not end the block" : "ends the block in the middle";
    if ((i->op == IR_call || i->op == IR_divert_if) && g && (uint64_t)i->imm >= g->helper_count)
        return "calls no helper";
    if (i->op == IR_flags_of && i->arg[0] < n && !(ir_op_info[b->insns[i->arg[0]].op].props & FLAGGED))
        return "asks for the flags of an operation that sets none";
    if ((wrong = check_operands(b, n, i)) || (g && (wrong = check_slot(i, g))) || (wrong = check_x87(i)))
        return wrong;
    return check_order(i, g, has_put);
}

const char *ir_verify(const struct ir_block *b, const struct ir_guest *g, char *error, size_t size)
{
    bool has_put = false;
    if (b->out_of_memory || !b->count)
        return snprintf(error, size, "the block is %s", b->count ? "incomplete: out of memory" : "empty"), error;
    for (ir_ref n = 0; n < b->count; n++) {
        const char *wrong = check_one(b, n, g, &has_put);
        if (!wrong)
            continue;
        const char *name = b->insns[n].op < IR_OP_COUNT ? ir_op_info[b->insns[n].op].name : "?";
        return snprintf(error, size, "%%%u %s %s", n, name, wrong), error;
    }
    return NULL;
}
