/* The text form.  One operation a line, what the printer writes the parser reads:
 *
 *     %5 = add.i32 %3, %4          value, op, type, operands
 *     put.i64 %5 #rax              #slot, #helper by name where the guest is known, else #number
 *     %6 = flags_of.i32 %5, _ !3f  !aux in hex, _ an absent operand
 */
#include "ir/internal.h"
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const type_names[IR_TYPE_COUNT] = {
    "void", "i1", "i8", "i16", "i32", "i64", "i128", "f32", "f64", "f80", "v128", "v256", "v512", "flags"};

static const struct ir_slot *slot_at(const struct ir_guest *g, int64_t offset, unsigned type)
{
    for (unsigned i = 0; g && i < g->slot_count; i++)
        if (g->slots[i].offset == (uint64_t)offset && g->slots[i].type == type)
            return &g->slots[i];
    return NULL;
}

static void print_imm(FILE *f, const struct ir_insn *i, const struct ir_guest *g)
{
    const struct ir_slot *slot = i->op == IR_get || i->op == IR_put ? slot_at(g, i->imm, i->type) : NULL;
    if (slot)
        fprintf(f, " #%s", slot->name);
    else if ((i->op == IR_call || i->op == IR_divert_if) && g && (uint64_t)i->imm < g->helper_count)
        fprintf(f, " #%s", g->helpers[i->imm].name);
    else if (i->imm || *ir_op_info[i->op].imm != '-')
        fprintf(f, " #%s0x%" PRIx64, i->imm < 0 ? "-" : "", i->imm < 0 ? -(uint64_t)i->imm : (uint64_t)i->imm);
}

static void print_one(FILE *f, const struct ir_block *b, ir_ref n, const struct ir_guest *g)
{
    const struct ir_insn *i = &b->insns[n];
    unsigned operands = (unsigned)strlen(ir_op_info[i->op].in);
    if (ir_result_type(b, n) != IR_VOID)
        fprintf(f, "%%%u = ", n);
    fprintf(f, "%s.%s", ir_op_info[i->op].name, type_names[i->type]);
    while (operands && i->arg[operands - 1] == IR_NONE)
        operands--;
    for (unsigned k = 0; k < operands; k++)
        if (i->arg[k] == IR_NONE)
            fprintf(f, "%s _", k ? "," : "");
        else
            fprintf(f, "%s %%%u", k ? "," : "", i->arg[k]);
    if (i->aux)
        fprintf(f, " !%x", i->aux);
    print_imm(f, i, g);
    fputc('\n', f);
}

void ir_print(FILE *f, const struct ir_block *b, const struct ir_guest *g)
{
    fprintf(f, "block pc_bits %u guest_insns %u guest_bytes %u\n", b->pc_bits, b->guest_insns, b->guest_bytes);
    for (uint32_t n = 0; n < b->count; n++)
        print_one(f, b, (ir_ref)n, g);
}

/* --- Parser */
struct parser {
    const char *at;
    unsigned line;
    const struct ir_guest *guest;
    struct ir_block *block;
    ir_ref *number; unsigned numbers;   /* the text's value numbers -> ours */
    char *error; size_t size;
};

static bool fail(struct parser *p, const char *what)
{
    snprintf(p->error, p->size, "line %u: %s", p->line, what);
    return false;
}

static void blanks(struct parser *p)
{
    while (*p->at == ' ' || *p->at == '\t')
        p->at++;
}

static bool eat(struct parser *p, char c)
{
    blanks(p);
    if (*p->at != c)
        return false;
    p->at++;
    return true;
}

static size_t word(struct parser *p, char *to, size_t size)
{
    size_t n = 0;
    while (isalnum((unsigned char)*p->at) || *p->at == '_') {
        if (n + 1 < size)
            to[n++] = *p->at;
        p->at++;
    }
    to[n] = 0;
    return n;
}

static bool number(struct parser *p, int base, uint64_t *to)
{
    char *end;
    *to = strtoull(p->at, &end, base);
    if (end == p->at)
        return fail(p, "a number is missing");
    p->at = end;
    return true;
}

static bool parse_value(struct parser *p, unsigned *to)
{
    uint64_t n;
    if (!number(p, 10, &n))
        return false;
    if (n >= IR_NONE)
        return fail(p, "a value number is too large");
    *to = (unsigned)n;
    return true;
}

static bool parse_op(struct parser *p, struct ir_insn *i)
{
    char name[32], type[8];
    unsigned op = 0, t = 0;
    word(p, name, sizeof name);
    while (op < IR_OP_COUNT && strcmp(ir_op_info[op].name, name))
        op++;
    if (op == IR_OP_COUNT)
        return fail(p, "no such operation");
    if (*p->at != '.')
        return fail(p, "a type is missing");
    p->at++;
    word(p, type, sizeof type);
    while (t < IR_TYPE_COUNT && strcmp(type_names[t], type))
        t++;
    if (t == IR_TYPE_COUNT)
        return fail(p, "no such type");
    *i = (struct ir_insn){.op = (uint8_t)op, .type = (uint8_t)t, .arg = {IR_NONE, IR_NONE, IR_NONE, IR_NONE}};
    return true;
}

static bool parse_operands(struct parser *p, struct ir_insn *i)
{
    for (unsigned k = 0; k < 4; k++) {
        unsigned n;
        blanks(p);
        if (eat(p, '_')) {
        } else if (!eat(p, '%')) {
            break;
        } else if (!parse_value(p, &n)) {
            return false;
        } else if (n >= p->numbers || p->number[n] == IR_NONE) {
            return fail(p, "an operand is not defined");
        } else {
            i->arg[k] = p->number[n];
        }
        if (!eat(p, ','))
            break;
    }
    return true;
}

static bool named_imm(struct parser *p, struct ir_insn *i, const char *name)
{
    const struct ir_guest *g = p->guest;
    for (unsigned n = 0; g && (i->op == IR_call || i->op == IR_divert_if) && n < g->helper_count; n++)
        if (!strcmp(g->helpers[n].name, name)) {
            i->imm = n;
            return true;
        }
    for (unsigned n = 0; g && i->op != IR_call && i->op != IR_divert_if && n < g->slot_count; n++)
        if (!strcmp(g->slots[n].name, name)) {
            i->imm = g->slots[n].offset;
            return true;
        }
    return fail(p, "no such slot or helper");
}

static bool parse_imm(struct parser *p, struct ir_insn *i)
{
    char name[48];
    uint64_t v;
    if (isalpha((unsigned char)*p->at)) {
        word(p, name, sizeof name);
        return named_imm(p, i, name);
    }
    bool minus = *p->at == '-';
    p->at += minus;
    if (!number(p, 0, &v))
        return false;
    i->imm = (int64_t)(minus ? -v : v);
    return true;
}

static bool define(struct parser *p, unsigned n, ir_ref ref)
{
    if (n >= p->numbers) {
        ir_ref *grown = realloc(p->number, (n + 64) * sizeof *grown);
        if (!grown)
            return fail(p, "out of memory");
        p->number = grown;
        while (p->numbers < n + 64)
            p->number[p->numbers++] = IR_NONE;
    }
    if (p->number[n] != IR_NONE)
        return fail(p, "a value is defined twice");
    p->number[n] = ref;
    return true;
}

static bool parse_insn(struct parser *p)
{
    struct ir_insn i;
    unsigned result = 0;
    uint64_t aux;
    bool defines = eat(p, '%');
    if (defines && (!parse_value(p, &result) || !(eat(p, '=') || fail(p, "= is missing"))))
        return false;
    blanks(p);
    if (!parse_op(p, &i) || !parse_operands(p, &i))
        return false;
    if (eat(p, '!')) {
        if (!number(p, 16, &aux))
            return false;
        i.aux = (uint16_t)aux;
    }
    if (eat(p, '#') && !parse_imm(p, &i))
        return false;
    ir_ref ref = ir_emit(p->block, (enum ir_op)i.op, (enum ir_type)i.type, i.aux, i.imm, i.arg[0], i.arg[1], i.arg[2], i.arg[3]);
    if (p->block->out_of_memory)
        return fail(p, "out of memory");
    if (defines != (ref != IR_NONE))
        return fail(p, defines ? "this operation has no result" : "this operation's result has no name");
    return !defines || define(p, result, ref);
}

static bool parse_header(struct parser *p)
{
    unsigned bits, insns, bytes;
    int used = 0;
    if (sscanf(p->at, "block pc_bits %u guest_insns %u guest_bytes %u%n", &bits, &insns, &bytes, &used) != 3 || !used)
        return fail(p, "the header is wrong");
    if (bits != 16 && bits != 32 && bits != 64)
        return fail(p, "pc_bits is not 16, 32 or 64");
    p->block->pc_bits = (uint8_t)bits;
    p->block->guest_insns = insns;
    p->block->guest_bytes = bytes;
    p->at += used;
    return true;
}

static bool parse_lines(struct parser *p)
{
    for (p->line = 1; *p->at; p->line++) {
        blanks(p);
        bool ok = *p->at == '\n' || *p->at == ';' || !*p->at ? true : !strncmp(p->at, "block ", 6) ? parse_header(p) : parse_insn(p);
        if (!ok)
            return false;
        blanks(p);
        if (*p->at == ';')
            p->at += strcspn(p->at, "\n");
        if (*p->at && *p->at != '\n')
            return fail(p, "there is more than one operation");
        p->at += *p->at == '\n';
    }
    return true;
}

const char *ir_parse(struct ir_block *b, const char *text, const struct ir_guest *g, char *error, size_t size)
{
    struct parser p = {.at = text, .guest = g, .block = b, .error = error, .size = size};
    ir_block_clear(b);
    b->pc_bits = 64;
    bool ok = parse_lines(&p);
    free(p.number);
    return ok ? NULL : error;
}
