/* tierce-bench - measures guest programs in each tier, natively, and under QEMU, interleaved in one run.
 * The guest is a Linux kernel with an initramfs that holds tests/guests/bench's program alone, as /init. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_SUBJECTS = 8, MAX_KERNELS = 64, MAX_ROUNDS = 32 };
#define BOOT_ROW "boot"

struct subject { const char *name; const char *command[24]; bool guest; };
struct row { char name[32]; double ns[MAX_SUBJECTS][MAX_ROUNDS]; unsigned count[MAX_SUBJECTS]; char check[MAX_SUBJECTS][20]; };
struct bench {
    const char *kernel, *program, *tierce, *qemu, *memory;
    unsigned rounds;
    enum { TEXT, JSON, HTML } format;
    char initrd[64];
    struct subject subjects[MAX_SUBJECTS]; unsigned subject_count;
    struct row rows[MAX_KERNELS]; unsigned row_count;
};

__attribute__((format(printf, 2, 3), noreturn)) static void die(int status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("tierce-bench: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(status);
}

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* --- The initramfs: a cpio archive in the kernel's "newc" form */
static void cpio_entry(FILE *f, const char *name, unsigned mode, const uint8_t *bytes, size_t size)
{
    static const char zeros[4];
    int header = fprintf(f, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", 1, mode, 0, 0, 1, 0, (unsigned)size,
                         0, 0, 0, 0, (unsigned)strlen(name) + 1, 0);
    fwrite(name, 1, strlen(name) + 1, f);
    fwrite(zeros, 1, (size_t)(-(header + (int)strlen(name) + 1) & 3), f);
    fwrite(bytes, 1, size, f);
    fwrite(zeros, 1, -size & 3, f);
}

static void make_initrd(struct bench *b)
{
    struct stat st;
    FILE *in = fopen(b->program, "rb");
    if (!in || fstat(fileno(in), &st))
        die(1, "program %s: %s; accepted: the static program built from tests/guests/bench", b->program, strerror(errno));
    uint8_t *bytes = malloc((size_t)st.st_size);
    if (!bytes || fread(bytes, 1, (size_t)st.st_size, in) != (size_t)st.st_size)
        die(1, "program %s: cannot read it", b->program);
    fclose(in);
    strcpy(b->initrd, "/tmp/tierce-bench-XXXXXX");
    int fd = mkstemp(b->initrd);
    FILE *out = fd < 0 ? NULL : fdopen(fd, "wb");
    if (!out)
        die(1, "cannot make a temporary file: %s", strerror(errno));
    cpio_entry(out, "init", 0100755, bytes, (size_t)st.st_size);
    cpio_entry(out, "TRAILER!!!", 0, NULL, 0);
    if (fclose(out))
        die(1, "%s: %s", b->initrd, strerror(errno));
    free(bytes);
}

/* --- Running */
static struct row *row_of(struct bench *b, const char *name)
{
    for (unsigned i = 0; i < b->row_count; i++)
        if (!strcmp(b->rows[i].name, name))
            return &b->rows[i];
    if (b->row_count == MAX_KERNELS)
        die(1, "more than %d programs", MAX_KERNELS);
    struct row *r = &b->rows[b->row_count++];
    snprintf(r->name, sizeof r->name, "%s", name);
    return r;
}

static void note(struct bench *b, unsigned subject, const char *name, double ns, const char *check)
{
    struct row *r = row_of(b, name);
    if (r->count[subject] < MAX_ROUNDS)
        r->ns[subject][r->count[subject]++] = ns;
    snprintf(r->check[subject], sizeof r->check[subject], "%s", check);
}

static void run_once(struct bench *b, unsigned subject)
{
    struct subject *s = &b->subjects[subject];
    int fds[2];
    if (pipe(fds))
        die(1, "pipe: %s", strerror(errno));
    double start = now_ns();
    pid_t child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(fds[1], 1);
        dup2(null, 2);
        close(fds[0]);
        execvp(s->command[0], (char *const *)s->command);
        _exit(127);
    }
    close(fds[1]);
    FILE *out = fdopen(fds[0], "r");
    char line[512], name[32], check[20];
    bool ended = false, first = true;
    double ns;
    while (fgets(line, sizeof line, out)) {
        char *at = strstr(line, "BENCH");
        if (at && first && s->guest) {
            note(b, subject, BOOT_ROW, now_ns() - start, "");
            first = false;
        }
        if (at && sscanf(at, "BENCH %31s %lf %19s", name, &ns, check) == 3)
            note(b, subject, name, ns, check);
        ended |= at && !strncmp(at, "BENCH-END", 9);
    }
    fclose(out);
    int status;
    waitpid(child, &status, 0);
    if (!ended)
        fprintf(stderr, "tierce-bench: %s did not run to its end (status %d)\n", s->name, status);
}

/* --- Figures */
static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

struct figures { double min, median, max; };
static struct figures figures_of(const struct row *r, unsigned subject)
{
    double v[MAX_ROUNDS];
    unsigned n = r->count[subject];
    if (!n)
        return (struct figures){NAN, NAN, NAN};
    memcpy(v, r->ns[subject], n * sizeof *v);
    qsort(v, n, sizeof *v, ascending);
    return (struct figures){v[0], n & 1 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2, v[n - 1]};
}

static double ratio(const struct row *r, unsigned subject, unsigned base)
{
    return figures_of(r, subject).median / figures_of(r, base).median;
}

/* Rows whose name begins with `prefix`. */
static double geomean(const struct bench *b, const char *prefix, unsigned subject, unsigned base)
{
    double sum = 0;
    unsigned n = 0;
    for (unsigned i = 0; i < b->row_count; i++) {
        double x = ratio(&b->rows[i], subject, base);
        if (strncmp(b->rows[i].name, prefix, strlen(prefix)) || !isfinite(x))
            continue;
        sum += log(x);
        n++;
    }
    return n ? exp(sum / n) : NAN;
}

static const char *const groups[] = {"integer", "memory", "branches", "calls", "fp", "simd", "system", "code"};
#define GROUPS (sizeof groups / sizeof *groups)

static void print_text(const struct bench *b)
{
    printf("median ms (min..max), and times the native time\n%-16s", "");
    for (unsigned s = 0; s < b->subject_count; s++)
        printf(" %28s", b->subjects[s].name);
    putchar('\n');
    for (unsigned i = 0; i < b->row_count; i++) {
        const struct row *r = &b->rows[i];
        printf("%-16s", r->name);
        for (unsigned s = 0; s < b->subject_count; s++) {
            struct figures f = figures_of(r, s);
            double x = ratio(r, s, 0);
            if (isnan(f.median))
                printf(" %28s", "-");
            else
                printf(" %8.3f (%.3f..%.3f) %5.1fx", f.median / 1e6, f.min / 1e6, f.max / 1e6, isnan(x) ? 0 : x);
            if (r->check[s][0] && strcmp(r->check[s], r->check[0]))
                printf(" WRONG RESULT");
        }
        putchar('\n');
    }
    for (size_t g = 0; g < GROUPS; g++) {
        printf("geomean %-8s", groups[g]);
        for (unsigned s = 0; s < b->subject_count; s++)
            printf(" %27.2fx", geomean(b, groups[g], s, 0));
        putchar('\n');
    }
}

static void print_number(FILE *f, double x)
{
    if (isfinite(x))
        fprintf(f, "%.1f", x);
    else
        fputs("null", f);
}

static void print_json(const struct bench *b, FILE *f)
{
    fputs("{\"unit\":\"ns\",\"programs\":[", f);
    for (unsigned i = 0; i < b->row_count; i++) {
        const struct row *r = &b->rows[i];
        fprintf(f, "%s{\"name\":\"%s\",\"results\":{", i ? "," : "", r->name);
        for (unsigned s = 0; s < b->subject_count; s++) {
            struct figures v = figures_of(r, s);
            fprintf(f, "%s\"%s\":{\"min\":", s ? "," : "", b->subjects[s].name);
            print_number(f, v.min);
            fputs(",\"median\":", f);
            print_number(f, v.median);
            fputs(",\"max\":", f);
            print_number(f, v.max);
            fprintf(f, ",\"rounds\":%u}", r->count[s]);
        }
        fputs("}}", f);
    }
    fputs("]}\n", f);
}

static void print_html(const struct bench *b)
{
    printf("<!doctype html><meta charset=utf-8><title>tierce-bench</title><style>body{font:14px sans-serif;margin:2em}"
           "td,th{padding:.2em .6em;text-align:right}td:first-child{text-align:left}.bar{height:.7em;background:#48c;display:block}"
           "</style><h1>tierce-bench</h1><p>Times the native time (median of %u interleaved rounds; log bars)</p><table><tr><th>program", b->rounds);
    for (unsigned s = 0; s < b->subject_count; s++)
        printf("<th>%s", b->subjects[s].name);
    for (unsigned i = 0; i < b->row_count; i++) {
        printf("<tr><td>%s", b->rows[i].name);
        for (unsigned s = 0; s < b->subject_count; s++) {
            double x = ratio(&b->rows[i], s, 0);
            if (isfinite(x))
                printf("<td>%.2f<span class=bar style=\"width:%.0fpx\"></span>", x, 4 + 40 * log2(x < 1 ? 1 : x));
            else
                printf("<td>%.1f ms", figures_of(&b->rows[i], s).median / 1e6);
        }
    }
    printf("</table><script type=\"application/json\" id=data>");
    print_json(b, stdout);
    printf("</script>\n");
}

/* --- Set-up */
static void add(struct bench *b, const char *name, bool guest, const char *const *words, unsigned count)
{
    struct subject *s = &b->subjects[b->subject_count++];
    s->name = name;
    s->guest = guest;
    for (unsigned i = 0; i < count; i++)
        s->command[i] = words[i];
    if (!guest)
        return;
    const char *const common[] = {"-m", b->memory, "-kernel", b->kernel, "-initrd", b->initrd,
                                  "-append", "console=ttyS0 quiet panic=-1", "-nographic", "-no-reboot"};
    for (unsigned i = 0; i < sizeof common / sizeof *common; i++)
        s->command[count + i] = common[i];
}

static bool on_path(const char *program)
{
    char command[256];
    snprintf(command, sizeof command, "command -v '%s' >/dev/null 2>&1", program);
    return system(command) == 0;
}

static void usage(FILE *f)
{
    fputs("usage: tierce-bench --kernel FILE --program FILE [--tierce PROGRAM] [--qemu PROGRAM|none] [--rounds N]\n"
          "                    [--memory MiB] [--tiers interp,tcg] [--json | --html]\n"
          "Runs the benchmark program natively, in each tier and under QEMU, interleaved; prints medians and ratios.\n", f);
}

int main(int argc, char **argv)
{
    static struct bench b = {.tierce = "tierce", .qemu = "qemu-system-x86_64", .rounds = 3, .memory = "512"};
    const char *tiers = "tcg";
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i] + (argv[i][0] == '-') + (argv[i][0] == '-' && argv[i][1] == '-'), *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(option, "help")) {
            usage(stdout);
            return 0;
        } else if (!strcmp(option, "json")) {
            b.format = JSON;
            continue;
        } else if (!strcmp(option, "html")) {
            b.format = HTML;
            continue;
        }
        const char **into = !strcmp(option, "kernel") ? &b.kernel : !strcmp(option, "program") ? &b.program :
                            !strcmp(option, "tierce") ? &b.tierce : !strcmp(option, "qemu") ? &b.qemu :
                            !strcmp(option, "memory") ? &b.memory : !strcmp(option, "tiers") ? &tiers : NULL;
        if (!into && strcmp(option, "rounds"))
            die(2, "unknown option %s; accepted: --kernel --program --tierce --qemu --rounds --memory --tiers --json --html --help", argv[i]);
        if (!value)
            die(2, "option %s needs a value", argv[i]);
        if (into)
            *into = value;
        else if ((b.rounds = (unsigned)atoi(value)) < 1 || b.rounds > MAX_ROUNDS)
            die(2, "--rounds %s: accepted are 1 to %d", value, MAX_ROUNDS);
        i++;
    }
    if (!b.kernel || !b.program)
        die(2, "--kernel and --program must be given; see --help");
    make_initrd(&b);
    add(&b, "native", false, &b.program, 1);
    if (strstr(tiers, "interp"))
        add(&b, "interp", true, (const char *[]){b.tierce, "--tier=interp"}, 2);
    if (strstr(tiers, "tcg"))
        add(&b, "tcg", true, (const char *[]){b.tierce, "--tier=tcg"}, 2);
    if (strcmp(b.qemu, "none") && on_path(b.qemu))
        add(&b, "qemu", true, (const char *[]){b.qemu, "-accel", "tcg"}, 3);
    for (unsigned round = 0; round < b.rounds; round++)
        for (unsigned s = 0; s < b.subject_count; s++)
            run_once(&b, s);
    unlink(b.initrd);
    if (b.format == JSON)
        print_json(&b, stdout);
    else if (b.format == HTML)
        print_html(&b);
    else
        print_text(&b);
    return 0;
}
