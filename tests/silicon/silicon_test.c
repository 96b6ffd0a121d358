/* Every instruction form of user mode, in 64-, 32- and 16-bit code: the host's own CPU against the interpreter, the
 * passes and the interpreter, and the template backend.  General registers, flags (less those that the row names as
 * undefined), MXCSR, x87 and SSE state, memory, and the exception with its error code and address must agree bit for bit;
 * the tiers must agree with each other in all flags.  What is not compared is named in differences.def.
 *
 * silicon_test [--seed N] [--seconds N] [--cases N] [--only MNEMONIC] [--mode NAME]
 *   --cases    random cases for each mnemonic and mode, after one case for each form (default 24)
 *   --seconds  goes on with random cases for so long instead
 *   --only     one mnemonic, in capitals;  --mode 64-bit|32-bit flat|32-bit segmented|16-bit */
#include "tests/silicon/differences.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct options { unsigned long seconds, cases; const char *only, *mode; };
static struct { unsigned long forms, refused, cases, outcomes[TIERS][4], rows; } counts[ORACLE_MODES];
static unsigned long failed, failed_by[ZYDIS_MNEMONIC_MAX_VALUE + 1];
static uint8_t before[ORACLE_DATA_SIZE], after[ORACLE_DATA_SIZE];
static struct forms forms;
static bool met[ZYDIS_MNEMONIC_MAX_VALUE + 1][ORACLE_MODES];
static struct last_case { uint8_t bytes[16]; char mode[24]; } *last;   /* for the parent process, should this one die */

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

static const char *compare(const struct oracle_state *want, const struct oracle_state *have, uint64_t undefined)
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

static const char *compare_memory(void)
{
    static char text[120];
    unsigned i = 0;
    if (!memcmp(after, oracle_data(), sizeof after))
        return NULL;
    while (after[i] == oracle_data()[i])
        i++;
    snprintf(text, sizeof text, "memory at %llx: %02x, not %02x", ORACLE_DATA + i, oracle_data()[i], after[i]);
    return text;
}

static void report(const struct test_case *c, enum tier tier, const char *what)
{
    failed++;
    if (failed_by[c->insn.valid ? c->insn.in.mnemonic : 0]++ >= 3)
        return;
    char text[128] = "(refused)";
    uint32_t bits[] = {X86_MODE_CODE64, X86_MODE_CODE32 | X86_MODE_PE | X86_MODE_SS32, X86_MODE_CODE32 | X86_MODE_PE | X86_MODE_SS32, X86_MODE_CODE16 | X86_MODE_PE};
    x86_disassemble(bits[c->mode], c->in.rip, c->insn.bytes, 15, text, sizeof text);
    fprintf(stderr, "FAIL %s %s: %s (%s)  [", oracle_modes[c->mode].name, text, what, tier_names[tier]);
    for (unsigned i = 0; i < (c->insn.valid ? c->insn.in.length : 15u); i++)
        fprintf(stderr, "%02x", c->insn.bytes[i]);
    fprintf(stderr, "] rip %llx flags %llx mxcsr %x fcw %x fsw %x ftw %x gpr", (unsigned long long)c->in.rip, (unsigned long long)c->in.rflags, c->in.fx.mxcsr, c->in.fx.fcw, c->in.fx.fsw, c->in.fx.ftw);
    for (unsigned i = 0; i < (c->mode == ORACLE_64 ? 16 : 8); i++)
        fprintf(stderr, " %llx", (unsigned long long)c->in.gpr[i]);
    fprintf(stderr, "\n");
}

/* --- One case */
/* A branch has landed where there is no code: the fault of the fetch there is not this instruction's. */
static void settle(const struct test_case *c, struct oracle_state *s)
{
    uint64_t base = c->mode == ORACLE_64 ? 0 : oracle_modes[c->mode].seg[X86_CS].base, linear = s->rip + base;
    if (c->mode != ORACLE_64) {
        linear = (uint32_t)linear;
        for (unsigned i = 0; i < 8; i++) /* an IRET to a 16-bit stack leaves the kernel's bits above */
            s->gpr[i] = (uint32_t)s->gpr[i];
        memset(&s->gpr[8], 0, 8 * sizeof s->gpr[0]);
    }
    if (s->trap == X86_PF && !guest_place(s->cr2, 1, false))
        s->error &= ~1ull; /* there may be something of the host's: its kernel, this process */
    if (s->trap == X86_GP && !s->error && s->rip != c->in.rip && s->rip > oracle_modes[c->mode].seg[X86_CS].limit && c->mode != ORACLE_64)
        s->trap = 3; /* ... or where the code segment ends */
    if (s->trap == X86_PF && s->error & 16 && s->rip != c->in.rip && s->cr2 == linear) {
        s->trap = 3;
        s->error = 0;
    }
}

bool guest_host_runs(const struct test_case *c)
{
    struct oracle_state s = c->in;
    memcpy(oracle_data(), before, sizeof before);
    oracle_run(c->mode, &s);
    return s.trap != X86_UD || s.rip != c->in.rip;
}

static void run_tiers(const struct test_case *c, const struct oracle_state *silicon)
{
    struct oracle_state first = {0};
    guest_mode(c->mode);
    for (int tier = 0; tier < TIERS; tier++) {
        struct oracle_state here = c->in;
        enum outcome outcome;
        memcpy(oracle_data(), before, sizeof before);
        const char *wrong = guest_run(&here, (enum tier)tier, &outcome);
        counts[c->mode].outcomes[tier][outcome]++;
        if (outcome == TCG_REFUSED)
            wrong = "the backend refuses the block";
        if (is_family(c, "rdrand") && here.trap == 3) /* the number itself is chance */
            memcpy(here.gpr, silicon->gpr, sizeof here.gpr);
        bool loose = undefined_result(c);
        if (!wrong && !loose)
            wrong = compare(silicon, &here, silicon->trap == 3 ? undefined_flags(c) : 0);
        if (!wrong && !loose)
            wrong = compare_memory();
        if (wrong && outcome != TCG_REFUSED && exclude_after(c, silicon, &here))
            return;
        if (tier == 0)
            first = here;
        else if (!wrong)
            wrong = compare(&first, &here, 0);
        if (wrong) {
            report(c, (enum tier)tier, wrong);
            return;
        }
    }
}

static void run_case(struct test_case *c)
{
    struct oracle_state silicon = c->in;
    memcpy(last->bytes, c->insn.bytes, sizeof last->bytes);
    if (exclude_before(c))
        return;
    memcpy(oracle_data(), before, sizeof before);
    oracle_run(c->mode, &silicon);
    memcpy(after, oracle_data(), sizeof after);
    settle(c, &silicon);
    c->silicon_memory = after;
    counts[c->mode].cases++;
    if (c->insn.valid)
        met[c->insn.in.mnemonic][c->mode] = true;
    run_tiers(c, &silicon);
}

static void run_form(const struct form *f)
{
    struct test_case c;
    case_make(&c, f, guest_model(), before);
    snprintf(last->mode, sizeof last->mode, "%s", oracle_modes[f->mode].name);
    run_case(&c);
}

/* --- All of them */
static bool is_wanted(const struct form *f, const struct options *o)
{
    return !o->only || (rows[f->mnemonic].name && f->valid && !strcmp(rows[f->mnemonic].name, o->only));
}

static void sweep(enum oracle_mode_id m, const struct options *o)
{
    if (o->mode && strcmp(o->mode, oracle_modes[m].name))
        return;
    const char *missing = oracle_mode_missing(m);
    if (missing) {
        printf("SKIPPED %s code: %s\n", oracle_modes[m].name, missing);
        return;
    }
    unsigned from = forms.count;
    guest_mode(m);
    forms_sweep(&forms, m, guest_model(), guest_mode_bits());
    for (unsigned i = from; i < forms.count; i++) {
        *(forms.list[i].valid ? &counts[m].forms : &counts[m].refused) += 1;
        if (is_wanted(&forms.list[i], o))
            run_form(&forms.list[i]);
    }
}

static int by_mnemonic(const void *a, const void *b)
{
    const struct form *x = a, *y = b;
    return x->mnemonic != y->mnemonic ? (x->mnemonic < y->mnemonic ? -1 : 1) : x->mode != y->mode ? (x->mode < y->mode ? -1 : 1) : 0;
}

/* Random cases, as many for each mnemonic in each mode. */
static void random_round(const struct options *o, unsigned long each)
{
    for (unsigned i = 0, end; i < forms.count; i = end) {
        for (end = i; end < forms.count && !by_mnemonic(&forms.list[i], &forms.list[end]); end++)
            ;
        for (unsigned long k = 0; k < each && is_wanted(&forms.list[i], o); k++)
            run_form(&forms.list[i + rnd() % (end - i)]);
    }
}

static void print_summary(void)
{
    unsigned n;
    struct exclusion *e = exclusions(&n);
    for (unsigned m = 0; m < ORACLE_MODES; m++) {
        printf("%-17s %7lu forms, %6lu encodings refused, %8lu cases", oracle_modes[m].name, counts[m].forms, counts[m].refused, counts[m].cases);
        const unsigned long *t = counts[m].outcomes[TIER_TCG];
        printf("; tcg: %lu translated, %lu left to the interpreter (faults and accesses over a page's end), %lu refused\n", t[BY_TCG], t[BY_TCG_THEN_INTERPRETER] , t[TCG_REFUSED]);
    }
    for (unsigned i = 0; i < n; i++)
        if (e[i].count)
            printf("%s %lu cases, %s%s%s: %s\n", e[i].skip ? "skipped" : "differ", e[i].count, e[i].name, *e[i].maker ? ", " : "", e[i].maker, e[i].reason);
    for (unsigned i = 0; i <= ZYDIS_MNEMONIC_MAX_VALUE; i++) {
        bool any = false;
        for (unsigned m = 0; m < ORACLE_MODES; m++)
            any |= met[i][m];
        if (rows[i].name && !any)
            printf("not run: %s\n", rows[i].name);
        if (failed_by[i])
            fprintf(stderr, "%s: %lu failed\n", rows[i].name ? rows[i].name : i ? ZydisMnemonicGetString((ZydisMnemonic)i) : "(refused)", failed_by[i]);
    }
    printf("%lu failed\n", failed);
}

static int work(const struct options *o)
{
    char error[200];
    if (!oracle_init() || !guest_init("x86-64-v2,+bmi1,+bmi2,+adx,+lzcnt,+aes,+pclmulqdq,+sha", error, sizeof error)) {
        fprintf(stderr, "cannot set up: %s\n", error);
        return 1;
    }
    memset(oracle_code(), 0xcc, ORACLE_CODE_SIZE);
    for (unsigned i = 0; i < sizeof before; i += 8) {
        uint64_t v = rnd();
        memcpy(before + i, &v, 8);
    }
    time_t start = time(NULL);
    for (unsigned m = 0; m < ORACLE_MODES; m++)
        sweep((enum oracle_mode_id)m, o);
    qsort(forms.list, forms.count, sizeof *forms.list, by_mnemonic);
    if (o->seconds)
        while ((unsigned long)(time(NULL) - start) < o->seconds)
            random_round(o, 1);
    else
        random_round(o, o->cases);
    print_summary();
    forms_free(&forms);
    guest_free();
    return failed != 0;
}

static unsigned long number(const char *option, const char *text)
{
    char *end;
    unsigned long v = text ? strtoul(text, &end, 0) : 0;
    if (!text || !*text || *end) {
        fprintf(stderr, "%s: '%s' is not a number\n", option, text ? text : "");
        exit(2);
    }
    return v;
}

static struct options parse(int argc, char **argv)
{
    struct options o = {.cases = 24};
    for (int i = 1; i < argc; i += 2) {
        const char *v = argv[i + 1];
        if (!strcmp(argv[i], "--seed"))
            rnd_seed = number("--seed", v) * 2 + 1;
        else if (!strcmp(argv[i], "--seconds"))
            o.seconds = number("--seconds", v);
        else if (!strcmp(argv[i], "--cases"))
            o.cases = number("--cases", v);
        else if (!strcmp(argv[i], "--only") && v)
            o.only = v;
        else if (!strcmp(argv[i], "--mode") && v)
            o.mode = v;
        else {
            fprintf(stderr, "usage: %s [--seed N] [--seconds N] [--cases N] [--only MNEMONIC] [--mode NAME]\n", argv[0]);
            exit(2);
        }
    }
    return o;
}

int main(int argc, char **argv)
{
    struct options o = parse(argc, argv);
    int status;
    last = mmap(NULL, sizeof *last, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (last == MAP_FAILED)
        return 1;
    pid_t child = fork(); /* a sandbox: what the instructions do to the process ends with it */
    if (child == 0) {
        status = work(&o);
        fflush(NULL);
        _exit(status);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        return 1;
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    fprintf(stderr, "FAIL: signal %d ended the process, in or after %s code ", WTERMSIG(status), last->mode);
    for (unsigned i = 0; i < 15; i++)
        fprintf(stderr, "%02x", last->bytes[i]);
    fprintf(stderr, "\n");
    return 1;
}
