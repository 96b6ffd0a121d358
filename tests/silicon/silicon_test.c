/* Every instruction form of user mode, in 64-, 32- and 16-bit code: the host's own CPU against the interpreter, the
 * passes and the interpreter, and the template backend.  General registers, flags (less those that the row names as
 * undefined), MXCSR, x87 and SSE state, memory, and the exception with its error code and address must agree bit for bit;
 * the tiers must agree with each other in all flags.  What is not compared is named in differences.def.  A sample goes through
 * the LLVM tier too: an instruction is a region of its own, compiled once and run from several states.
 *
 * silicon_test [--seed N] [--seconds N] [--cases N] [--llvm N] [--only MNEMONIC] [--mode NAME]
 *   --cases    random cases for each mnemonic and mode, after one case for each form (default 24)
 *   --seconds  goes on with random cases for so long instead
 *   --llvm     forms of each mnemonic and mode, taken at random, that go through the LLVM tier too (default 1)
 *   --only     one mnemonic, in capitals;  --mode 64-bit|32-bit flat|32-bit segmented|16-bit */
#include "tests/silicon/check.h"
#include "tests/silicon/region.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct options { unsigned long seconds, cases, llvm; const char *only, *mode; };
static struct { unsigned long forms, refused, cases, outcomes[ALL_TIERS][OUTCOMES]; } counts[ORACLE_MODES];
static unsigned long failed, failed_by[ZYDIS_MNEMONIC_MAX_VALUE + 1];
static uint8_t before[ORACLE_DATA_SIZE];
static struct forms forms;
static bool met[ZYDIS_MNEMONIC_MAX_VALUE + 1][ORACLE_MODES];
static struct last_case { uint8_t bytes[16]; char mode[24]; } *last;   /* for the parent process, should this one die */

static void run_case(struct test_case *c, unsigned tiers, struct verdict *v)
{
    memcpy(last->bytes, c->insn.bytes, sizeof last->bytes);
    snprintf(last->mode, sizeof last->mode, "%s", oracle_modes[c->mode].name);
    check_case_through(c, before, tiers, v);
    if (v->skipped)
        return;
    counts[c->mode].cases++;
    if (c->insn.valid)
        met[c->insn.in.mnemonic][c->mode] = true;
    for (unsigned tier = 0; tier < tiers; tier++)
        counts[c->mode].outcomes[tier][v->outcome[tier]]++;
    if (!v->wrong)
        return;
    failed++;
    if (failed_by[c->insn.valid ? c->insn.in.mnemonic : 0]++ < 3)
        check_print(stderr, c, v);
}

static void run_form(const struct form *f)
{
    struct test_case c;
    struct verdict v;
    case_make(&c, f, guest_model(), before);
    run_case(&c, TIERS, &v);
}

/* --- The LLVM tier */
enum { STATES = 8 };
static struct refusal { const char *why; unsigned long count; } refusals[200];

static void count_refusal(const char *why)
{
    unsigned n = 0;
    while (n < 199 && refusals[n].why && strcmp(refusals[n].why, why))
        n++;
    refusals[n].why = why;
    refusals[n].count++;
}

static void run_as_region(const struct form *f)
{
    struct test_case c;
    struct verdict v;
    case_make(&c, f, guest_model(), before);
    for (unsigned n = 0; n < STATES; n++) {
        run_case(&c, ALL_TIERS, &v);
        if (v.wrong)
            return;
        if (!v.skipped && v.outcome[TIER_LLVM] == TCG_REFUSED)
            count_refusal(guest_refused);
        case_again(&c, before);
    }
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

static void region_round(const struct options *o)
{
    for (unsigned i = 0, end; i < forms.count; i = end) {
        for (end = i; end < forms.count && !by_mnemonic(&forms.list[i], &forms.list[end]); end++)
            ;
        bool any = rows[forms.list[i].mnemonic].name && is_wanted(&forms.list[i], o);
        for (unsigned long k = 0; k < o->llvm && any; k++)
            run_as_region(&forms.list[i + rnd() % (end - i)]);
    }
}

static void print_regions(void)
{
    for (unsigned m = 0; m < ORACLE_MODES; m++) {
        const unsigned long *t = counts[m].outcomes[TIER_LLVM];
        printf("%-17s llvm: %lu cases by regions, %lu left to the interpreter, %lu refused\n", oracle_modes[m].name, t[BY_TCG], t[BY_TCG_THEN_INTERPRETER], t[TCG_REFUSED]);
    }
    printf("%lu regions compiled; refused:", regions_compiled);
    for (unsigned n = 0; refusals[n].why; n++)
        printf(" %s %lu", refusals[n].why, refusals[n].count);
    printf("\n");
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
    if (!oracle_init() || !guest_init("x86-64-v2,+bmi1,+bmi2,+adx,+lzcnt,+aes,+pclmulqdq,+sha,+clflushopt,+clwb", error, sizeof error)) {
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
    region_round(o);
    print_summary();
    if (o->llvm)
        print_regions();
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
    struct options o = {.cases = 24, .llvm = 1};
    for (int i = 1; i < argc; i += 2) {
        const char *v = argv[i + 1];
        if (!strcmp(argv[i], "--seed"))
            rnd_seed = number("--seed", v) * 2 + 1;
        else if (!strcmp(argv[i], "--seconds"))
            o.seconds = number("--seconds", v);
        else if (!strcmp(argv[i], "--cases"))
            o.cases = number("--cases", v);
        else if (!strcmp(argv[i], "--llvm"))
            o.llvm = number("--llvm", v);
        else if (!strcmp(argv[i], "--only") && v)
            o.only = v;
        else if (!strcmp(argv[i], "--mode") && v)
            o.mode = v;
        else {
            fprintf(stderr, "usage: %s [--seed N] [--seconds N] [--cases N] [--llvm N] [--only MNEMONIC] [--mode NAME]\n", argv[0]);
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
