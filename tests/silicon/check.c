/* One case on the silicon and through every tier: see check.h. */
#include "tests/silicon/check.h"
#include <stdlib.h>
#include <string.h>

static uint8_t silicon_memory[ORACLE_DATA_SIZE], first_memory[ORACLE_DATA_SIZE];
static const uint8_t *before;   /* the data pages of the case at hand */

/* --- Undefined flags: the row's letters after U (see x86.def) */
static unsigned count_of(const struct test_case *c)
{
    const ZydisDecodedOperand *o = &c->insn.op[c->insn.in.operand_count_visible - 1];
    uint64_t n = o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE ? o->imm.value.u : c->in.gpr[X86_RCX];
    return (unsigned)n & (c->insn.op[0].size == 64 ? 63 : 31);
}

static uint64_t undefined_flags(const struct test_case *c)
{
    const char *u = c->row ? strchr(c->row->notes, 'U') : NULL;
    uint64_t m = 0;
    bool by_count = u && strpbrk(u, "cor");
    unsigned count = by_count ? count_of(c) : 0;
    if (by_count && !count)
        return 0;
    for (; u && *u; u++)
        switch (*u) {
        case 'C': m |= X86_EFLAGS_CF; break;
        case 'P': m |= X86_EFLAGS_PF; break;
        case 'A': m |= X86_EFLAGS_AF; break;
        case 'Z': m |= X86_EFLAGS_ZF; break;
        case 'S': m |= X86_EFLAGS_SF; break;
        case 'O': m |= X86_EFLAGS_OF; break;
        case 'c': m |= count >= c->insn.op[0].size ? X86_EFLAGS_CF : 0; break;
        case 'o': m |= count != 1 ? X86_EFLAGS_OF : 0; break;
        case 'r': m |= c->insn.op[0].size == 16 && count > 16 ? 0x8d5 : 0; break;
        default: break;
        }
    return m;
}

/* SHLD and SHRD of 16 bits by more than 16: the result itself. */
static bool undefined_result(const struct test_case *c)
{
    const char *u = c->row ? strchr(c->row->notes, 'U') : NULL;
    return u && strchr(u, 'r') && c->insn.op[0].size == 16 && count_of(c) > 16;
}

/* --- Comparison */
static const char *compare_x87(const struct oracle_fx *want, const struct oracle_fx *have)
{
    static char text[160];
    if (want->fcw != have->fcw || want->fsw != have->fsw || want->ftw != have->ftw)
        return snprintf(text, sizeof text, "x87 fcw fsw ftw: %x %x %x, not %x %x %x", have->fcw, have->fsw, have->ftw, want->fcw, want->fsw, want->ftw), text;
    for (unsigned i = 0; i < 8; i++)
        if (want->st[i].low != have->st[i].low || want->st[i].high != have->st[i].high)
            return snprintf(text, sizeof text, "st%u: %04x:%016llx, not %04x:%016llx", i, have->st[i].high, (unsigned long long)have->st[i].low,
                            want->st[i].high, (unsigned long long)want->st[i].low), text;
    return NULL;
}

const char *check_states(const struct oracle_state *want, const struct oracle_state *have, uint64_t undefined)
{
    static char text[160];
    if (want->trap != have->trap)
        return snprintf(text, sizeof text, "exception %d, not %d (error %llx, address %llx)", have->trap, want->trap, (unsigned long long)want->error, (unsigned long long)want->cr2), text;
    if (want->rip != have->rip)
        return snprintf(text, sizeof text, "rip: %llx, not %llx", (unsigned long long)have->rip, (unsigned long long)want->rip), text;
    if (want->trap != 3 && want->error != have->error)
        return snprintf(text, sizeof text, "exception %d: error %llx, not %llx", want->trap, (unsigned long long)have->error, (unsigned long long)want->error), text;
    if (want->trap == X86_PF && want->cr2 != have->cr2)
        return snprintf(text, sizeof text, "page fault at %llx, not %llx", (unsigned long long)have->cr2, (unsigned long long)want->cr2), text;
    for (unsigned i = 0; i < 16; i++)
        if (want->gpr[i] != have->gpr[i])
            return snprintf(text, sizeof text, "gpr %u: %016llx, not %016llx", i, (unsigned long long)have->gpr[i], (unsigned long long)want->gpr[i]), text;
    for (unsigned i = 0; i < 6; i++)
        if ((want->seg[i] > 3 || have->seg[i] > 3) && want->seg[i] != have->seg[i]) /* a null one loses its RPL on the way to the kernel */
            return snprintf(text, sizeof text, "segment %u: %x, not %x", i, have->seg[i], want->seg[i]), text;
    uint64_t mask = 0x247cd5 & ~undefined;
    if ((want->rflags ^ have->rflags) & mask)
        return snprintf(text, sizeof text, "flags: %llx, not %llx", (unsigned long long)(have->rflags & mask), (unsigned long long)(want->rflags & mask)), text;
    if (want->fx.mxcsr != have->fx.mxcsr)
        return snprintf(text, sizeof text, "mxcsr: %x, not %x", have->fx.mxcsr, want->fx.mxcsr), text;
    for (unsigned i = 0; i < 16; i++)
        if (memcmp(want->fx.xmm[i], have->fx.xmm[i], 16))
            return snprintf(text, sizeof text, "xmm%u: %016llx%016llx, not %016llx%016llx", i, (unsigned long long)have->fx.xmm[i][1], (unsigned long long)have->fx.xmm[i][0],
                            (unsigned long long)want->fx.xmm[i][1], (unsigned long long)want->fx.xmm[i][0]), text;
    return compare_x87(&want->fx, &have->fx);
}

static const char *compare_memory(const uint8_t *want)
{
    static char text[120];
    const uint8_t *have = oracle_data();
    unsigned i = 0;
    if (!memcmp(want, have, ORACLE_DATA_SIZE))
        return NULL;
    while (want[i] == have[i])
        i++;
    snprintf(text, sizeof text, "memory at %llx: %02x, not %02x", ORACLE_DATA + i, have[i], want[i]);
    return text;
}

/* Of RSP, what 32-bit code leaves of it when it traps: a far transfer may have led there. */
static void narrow(struct oracle_state *s)
{
    uint64_t d = s->seg[X86_CS] & 4 ? oracle_ldt[(s->seg[X86_CS] >> 3) % ORACLE_LDT] : oracle_gdt[(s->seg[X86_CS] >> 3) % ORACLE_GDT];
    if (!(d >> 53 & 1))
        s->gpr[X86_RSP] = (uint32_t)s->gpr[X86_RSP];
}

/* A branch has landed where there is no code: the fault of the fetch there is not this instruction's. */
static void settle(const struct test_case *c, struct oracle_state *s)
{
    uint64_t d = s->seg[X86_CS] & 4 ? oracle_ldt[(s->seg[X86_CS] >> 3) % ORACLE_LDT] : oracle_gdt[(s->seg[X86_CS] >> 3) % ORACLE_GDT];
    uint64_t linear = s->rip + ((d >> 16 & 0xffffff) | (d >> 32 & 0xff000000)), limit = (d & 0xffff) | (d >> 32 & 0xf0000);
    bool long_code = d >> 53 & 1;
    if (d >> 55 & 1)
        limit = limit << 12 | 0xfff;
    if (!long_code)
        linear = (uint32_t)linear;
    if (c->mode != ORACLE_64) {
        for (unsigned i = 0; i < 8; i++) /* an IRET to a 16-bit stack leaves the kernel's bits above */
            s->gpr[i] = (uint32_t)s->gpr[i];
        memset(&s->gpr[8], 0, 8 * sizeof s->gpr[0]);
    }
    if (s->trap == X86_PF && !guest_place(s->cr2, 1, false))
        s->error &= ~1ull; /* there may be something of the host's: its kernel, this process */
    if (s->trap == X86_GP && !s->error && s->rip != c->in.rip && s->rip > limit && !long_code)
        s->trap = 3; /* ... or where the code segment ends */
    if (s->trap == X86_PF && s->error & 16 && s->rip != c->in.rip && s->cr2 == linear) {
        s->trap = 3;
        s->error = 0;
    }
}

bool guest_host_runs(const struct test_case *c)
{
    struct oracle_state s = c->in;
    memcpy(oracle_data(), before, ORACLE_DATA_SIZE);
    oracle_run(c->mode, &s);
    return s.trap != X86_UD || s.rip != c->in.rip;
}

/* Against the silicon, less what is undefined, and against the first tier, in everything. */
static const char *check_tier(const struct test_case *c, enum tier tier, const struct oracle_state *silicon, struct oracle_state *first, struct verdict *v)
{
    struct oracle_state here = c->in;
    memcpy(oracle_data(), before, ORACLE_DATA_SIZE);
    const char *wrong = guest_run(&here, tier, &v->outcome[tier]);
    if (!wrong && v->outcome[tier] == TCG_REFUSED && tier == TIER_LLVM)
        return NULL; /* by design: silicon_test counts them */
    if (!wrong && v->outcome[tier] == TCG_REFUSED)
        wrong = "the backend refuses the block";
    if (wrong)
        return wrong;
    narrow(&here);
    if (is_family(c, "rdrand") && here.trap == 3) /* the number itself is chance */
        memcpy(here.gpr, silicon->gpr, sizeof here.gpr);
    if (!undefined_result(c)) {
        wrong = check_states(silicon, &here, silicon->trap == 3 ? undefined_flags(c) : 0);
        if (!wrong)
            wrong = compare_memory(silicon_memory);
        if (wrong && exclude_after(c, silicon, &here)) {
            v->differs = true;
            wrong = NULL;
        }
    }
    if (!wrong && tier != TIER_INTERP) {
        wrong = check_states(first, &here, 0);
        if (!wrong)
            wrong = compare_memory(first_memory);
    } else if (!wrong) {
        *first = here;
        memcpy(first_memory, oracle_data(), sizeof first_memory);
    }
    return wrong;
}

void check_case(struct test_case *c, const uint8_t *memory, struct verdict *v) { check_case_through(c, memory, TIERS, v); }

void check_case_through(struct test_case *c, const uint8_t *memory, unsigned tiers, struct verdict *v)
{
    struct oracle_state silicon = c->in, first = {0};
    before = memory;
    *v = (struct verdict){.wrong = NULL};
    v->skipped = exclude_before(c);
    if (v->skipped)
        return;
    memcpy(oracle_data(), before, ORACLE_DATA_SIZE);
    oracle_run(c->mode, &silicon);
    memcpy(silicon_memory, oracle_data(), sizeof silicon_memory);
    settle(c, &silicon);
    narrow(&silicon);
    c->silicon_memory = silicon_memory;
    guest_mode(c->mode);
    for (v->tier = TIER_INTERP; v->tier < tiers; v->tier++)
        if ((v->wrong = check_tier(c, v->tier, &silicon, &first, v)))
            return;
}

void check_print(FILE *out, const struct test_case *c, const struct verdict *v)
{
    char text[128] = "(refused)";
    uint32_t bits[] = {X86_MODE_CODE64, X86_MODE_CODE32 | X86_MODE_PE | X86_MODE_SS32, X86_MODE_CODE32 | X86_MODE_PE | X86_MODE_SS32, X86_MODE_CODE16 | X86_MODE_PE};
    x86_disassemble(bits[c->mode], c->in.rip, c->insn.bytes, 15, text, sizeof text);
    fprintf(out, "FAIL %s %s: %s (%s)  [", oracle_modes[c->mode].name, text, v->wrong, tier_names[v->tier]);
    for (unsigned i = 0; i < (c->insn.valid ? c->insn.in.length : 15u); i++)
        fprintf(out, "%02x", c->insn.bytes[i]);
    fprintf(out, "] rip %llx flags %llx mxcsr %x fcw %x fsw %x ftw %x gpr", (unsigned long long)c->in.rip, (unsigned long long)c->in.rflags, c->in.fx.mxcsr, c->in.fx.fcw, c->in.fx.fsw, c->in.fx.ftw);
    for (unsigned i = 0; i < (c->mode == ORACLE_64 ? 16 : 8); i++)
        fprintf(out, " %llx", (unsigned long long)c->in.gpr[i]);
    fprintf(out, "\n");
}
