/* What a block depends on in the guest's mode: each form of instruction, lifted for modes that differ in bits of X86_MODE_FPU, is the same IR unless the lifter
 * says that the whole mode counts.  Translations are kept by that (runtime/cache_templates.c).  Nothing is run. */
#include "runtime/recipe.h"
#include "tests/silicon/forms.h"
#include <stdio.h>
#include <string.h>

static const struct { enum oracle_mode_id id; uint32_t mode; } modes[] = {
    {ORACLE_64, 0x33ff3098}, {ORACLE_64, 0x23ff309b}, {ORACLE_32, 0x23ef30d7}, {ORACLE_16, 0x23ef3093},
};
static const uint32_t bits[] = {X86_MODE_EM, X86_MODE_TS, X86_MODE_MP, X86_MODE_OSFXSR, X86_MODE_FP_TRAPS, X86_MODE_XSAVE, X86_MODE_X87_TRAPS, X86_MODE_FPU};
enum { MODES = sizeof modes / sizeof *modes, BITS = sizeof bits / sizeof *bits, PC = 0x10000 };

static const struct x86_model *model;
static unsigned passed, failed, whole;

static bool lift(const uint8_t *bytes, uint32_t mode, struct ir_block *b)
{
    struct code_bytes from = {PC, bytes, 15};
    const struct x86_fetch fetch = {.bytes = code_bytes_fetch, .ctx = &from};
    const struct x86_lift_limits limits = {.insns = 1, .bytes = 4096};
    ir_block_clear(b);
    return x86_lift(model, mode, PC, PC, &fetch, &limits, b) && !b->out_of_memory;
}

static bool same(const struct ir_block *a, const struct ir_block *b)
{
    bool equal = a->count == b->count && a->guest_bytes == b->guest_bytes && a->guest_insns == b->guest_insns;
    for (uint32_t n = 0; equal && n < a->count; n++) {
        const struct ir_insn *x = &a->insns[n], *y = &b->insns[n];
        equal = x->op == y->op && x->type == y->type && x->aux == y->aux && x->imm == y->imm && !memcmp(x->arg, y->arg, sizeof x->arg);
    }
    return equal;
}

static void check_form(const struct form *f, uint32_t mode)
{
    static struct ir_block one, other;
    bool first = lift(f->bytes, mode, &one);
    whole += one.whole_mode;
    for (unsigned n = 0; n < BITS; n++) {
        bool second = lift(f->bytes, mode ^ bits[n], &other);
        bool right = first == second && one.whole_mode == other.whole_mode && (one.whole_mode || same(&one, &other));
        right ? passed++ : failed++;
        if (right)
            continue;
        fprintf(stderr, "FAILED mode %08x and %08x:", mode, mode ^ bits[n]);
        for (unsigned i = 0; i < 15; i++)
            fprintf(stderr, " %02x", f->bytes[i]);
        fprintf(stderr, "\n");
    }
}

int main(void)
{
    char error[200];
    if (!(model = x86_model_find("x86-64-v2,+bmi1,+bmi2,+adx,+lzcnt,+aes,+pclmulqdq,+sha", error, sizeof error)))
        return printf("%s\n", error), 1;
    for (unsigned n = 0; n < MODES; n++) {
        struct forms forms = {NULL};
        forms_sweep(&forms, modes[n].id, model, modes[n].mode);
        for (unsigned i = 0; i < forms.count; i++)
            if (forms.list[i].valid)
                check_form(&forms.list[i], modes[n].mode);
        forms_free(&forms);
    }
    printf("modes: %u passed, %u failed; %u forms depend on the whole mode\n", passed, failed, whole);
    return failed || !whole || whole * BITS == passed;
}
