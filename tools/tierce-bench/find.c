/* Finds what is to be measured and on what: programs beside our own, Debian's kernel, QEMU, names and versions. */
#define _GNU_SOURCE
#include "tools/tierce-bench/bench.h"
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

bool run_command(const char *const argv[], char *line, size_t size)
{
    char unread[2];
    int ends[2], status;
    line = line ? line : unread;
    size = line == unread ? sizeof unread : size;
    line[0] = 0;
    if (pipe2(ends, O_CLOEXEC))
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(ends[1], 1);
        execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    close(ends[1]);
    FILE *f = fdopen(ends[0], "r");
    if (f && fgets(line, (int)size, f))
        line[strcspn(line, "\n")] = 0;
    while (f && fgetc(f) != EOF)
        ;
    if (f)
        fclose(f);
    return waitpid(pid, &status, 0) == pid && status == 0;
}

static bool first_line(const char *const argv[], char *line, size_t size) { return run_command(argv, line, size) && line[0]; }

/* `name` under the folder above the one that holds this program. */
static void beside(char *path, size_t size, const char *name)
{
    char self[2048];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    for (int up = 0; up < 2; up++)
        if (strrchr(self, '/'))
            *strrchr(self, '/') = 0;
    snprintf(path, size, "%s/%s", self, name);
}

static void find_programs(struct bench *b)
{
    beside(b->guest, sizeof b->guest, "share/tierce/bench-guest");
    beside(b->linux_sh, sizeof b->linux_sh, "share/tierce/linux.sh");
    if (access(b->guest, X_OK))
        die(1, "%s: %s; it is built with this program (cmake --build)", b->guest, strerror(errno));
    if (b->tierce)
        snprintf(b->tierce_path, sizeof b->tierce_path, "%s", b->tierce);
    else
        beside(b->tierce_path, sizeof b->tierce_path, "bin/tierce");
}

/* tierce-cache lies beside tierce: only what the same sources were built to have a cache in common. */
static void find_cache_tool(struct bench *b)
{
    const char *slash = strrchr(b->tierce_path, '/');
    snprintf(b->cache_path, sizeof b->cache_path, "%.*stierce-cache", slash ? (int)(slash + 1 - b->tierce_path) : 0, b->tierce_path);
    if (slash && access(b->cache_path, X_OK))
        die(1, "%s: %s; --cache-boot and --cache-programs need it beside tierce, which was built with LLVM", b->cache_path, strerror(errno));
}

static bool wanted(const struct bench *b, const char *group, const char *name)
{
    if (!b->only)
        return b->with_programs || b->with_memory || (b->with_translate && !strcmp(group, "translate"));
    return in_groups(group, b->only) || in_groups(name, b->only);
}

static void check_only(const struct bench *b)
{
    for (const char *p = b->only ? b->only : ""; *p;) {
        char word[64];
        size_t n = strcspn(p, ",");
        bool found = false;
        snprintf(word, sizeof word, "%.*s", (int)n, p);
        for (unsigned i = 0; i < b->program_count; i++)
            found |= !strcmp(b->programs[i].name, word) || !strcmp(b->programs[i].group, word);
        if (!found)
            die(2, "--only %s: no program and no group is called so; `--only list` lists them", word);
        p += n + (p[n] == ',');
    }
}

/* The guest program knows its own programs. */
static void list_programs(struct bench *b)
{
    char command[4200], group[24], name[48];
    snprintf(command, sizeof command, "'%s' --list", b->guest);
    FILE *f = popen(command, "r");
    if (!f)
        die(1, "cannot run %s: %s", b->guest, strerror(errno));
    bool list = b->only && !strcmp(b->only, "list");
    while (fscanf(f, "%23s %47s", group, name) == 2) {
        if (list)
            printf("%-10s %s\n", group, name);
        else if (wanted(b, group, name) && b->program_count < MAX_PROGRAMS) {
            struct program *p = &b->programs[b->program_count++];
            memcpy(p->group, group, sizeof group);
            memcpy(p->name, name, sizeof name);
        }
    }
    pclose(f);
    if (list)
        exit(0);
    check_only(b);
}

static struct subject *add(struct bench *b, enum kind kind, const char *name, const char *const *words, unsigned count)
{
    struct subject *s = &b->subjects[b->subject_count++];
    s->kind = kind;
    snprintf(s->name, sizeof s->name, "%s", name);
    memcpy(s->program, words, count * sizeof *words);
    return s;
}

static void find_subjects(struct bench *b)
{
    const char *qemu = b->qemu ? b->qemu : "qemu-system-x86_64";
    char version[96] = "";
    if (b->native)
        add(b, NATIVE, "native", (const char *const[]){b->guest}, 1);
    if (strcmp(b->tiers, "none")) {
        if (!first_line((const char *const[]){b->tierce_path, "-version", NULL}, version, sizeof version))
            die(1, "--tierce %s: it does not start; accepted: the path of a tierce", b->tierce_path);
        static const char *const tiers[][2] = {{"tiered", "--tier=tiered"}, {"tcg", "--tier=tcg"}, {"llvm", "--tier=llvm"}, {"interp", "--tier=interp"}};
        for (size_t t = 0; t < sizeof tiers / sizeof *tiers; t++)
            if (strstr(b->tiers, tiers[t][0]))
                memcpy(add(b, TIERCE, tiers[t][0], (const char *const[]){b->tierce_path, tiers[t][1]}, 2)->version, version, sizeof version);
    }
    if (!strcmp(qemu, "none"))
        return;
    if (first_line((const char *const[]){qemu, "--version", NULL}, version, sizeof version))
        memcpy(add(b, QEMU, "qemu", (const char *const[]){qemu, "-accel", "tcg"}, 3)->version, version, sizeof version);
    else if (b->qemu)
        die(1, "--qemu %s: it does not start; accepted: the path of a QEMU for x86-64, or none", qemu);
    else
        complain("%s is not installed: no comparison with QEMU", qemu);
}

static bool any_guest(const struct bench *b)
{
    for (unsigned s = 0; s < b->subject_count; s++)
        if (b->subjects[s].kind != NATIVE)
            return true;
    return false;
}

static void find_kernel(struct bench *b)
{
    const char *name = !strcmp(b->kernel, "auto") ? "cloud" : b->kernel;
    if (access(name, R_OK) == 0)
        snprintf(b->kernel_path, sizeof b->kernel_path, "%s", name);
    else if (strcmp(name, "cloud") && strcmp(name, "amd64"))
        die(1, "--kernel %s: %s; accepted: a readable bzImage, cloud, amd64, auto", name, strerror(errno));
    else if (!first_line((const char *const[]){b->linux_sh, "kernel", name, NULL}, b->kernel_path, sizeof b->kernel_path))
        die(1, "%s could not get Debian's %s kernel", b->linux_sh, name);
    if ((b->with_boot || b->with_memory || b->with_state || b->with_cache_boot) &&
        !first_line((const char *const[]){b->linux_sh, "initrd", "busybox", NULL}, b->shell_initrd, sizeof b->shell_initrd))
        die(1, "%s could not make the initramfs with the shell", b->linux_sh);
    if (b->with_cache_programs && !first_line((const char *const[]){b->linux_sh, "initrd", "gcc", NULL}, b->gcc_initrd, sizeof b->gcc_initrd))
        die(1, "%s could not make the initramfs with gcc", b->linux_sh);
    if (b->with_cache_programs && !first_line((const char *const[]){b->linux_sh, "initrd", "debian", NULL}, b->debian_initrd, sizeof b->debian_initrd))
        die(1, "%s could not make the initramfs with python3", b->linux_sh);
}

/* One entry of a cpio archive in the form that the kernel reads ("newc": initramfs buffer format in its documents). */
static void cpio_entry(FILE *f, const char *name, unsigned mode, const void *bytes, size_t size)
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
    FILE *in = fopen(b->guest, "rb");
    void *bytes = in && !fstat(fileno(in), &st) ? malloc((size_t)st.st_size) : NULL;
    if (!bytes || fread(bytes, 1, (size_t)st.st_size, in) != (size_t)st.st_size)
        die(1, "%s: cannot read it: %s", b->guest, strerror(errno));
    fclose(in);
    int fd = memfd_create("tierce-bench-initrd", 0); /* children inherit it, and nothing is left behind */
    FILE *out = fd < 0 ? NULL : fdopen(dup(fd), "wb");
    if (!out)
        die(1, "cannot make the initramfs: %s", strerror(errno));
    cpio_entry(out, "init", 0100755, bytes, (size_t)st.st_size);
    cpio_entry(out, "TRAILER!!!", 0, "", 0);
    if (fclose(out))
        die(1, "cannot make the initramfs: %s", strerror(errno));
    snprintf(b->initrd, sizeof b->initrd, "/proc/self/fd/%d", fd);
    free(bytes);
}

static void describe_host(struct bench *b)
{
    struct utsname u;
    struct sysinfo info;
    char line[256];
    time_t now = time(NULL);
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "model name", 10) && strchr(line, ':'))
            snprintf(b->host_cpu, sizeof b->host_cpu, "%.*s", (int)strcspn(strchr(line, ':') + 2, "\n"), strchr(line, ':') + 2);
    if (f)
        fclose(f);
    if (!uname(&u))
        snprintf(b->host_kernel, sizeof b->host_kernel, "%s %s", u.sysname, u.release);
    if (!sysinfo(&info))
        b->host_mib = (long)(info.totalram * info.mem_unit >> 20);
    b->host_cpus = sysconf(_SC_NPROCESSORS_ONLN);
    strftime(b->date, sizeof b->date, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
}

void find_all(struct bench *b)
{
    find_programs(b);
    list_programs(b);
    find_subjects(b);
    if (!b->subject_count)
        die(2, "--no-native --tiers none --qemu none leaves nothing to measure");
    if (b->with_cache_boot || b->with_cache_programs)
        find_cache_tool(b);
    if (any_guest(b)) {
        find_kernel(b);
        make_initrd(b);
    }
    describe_host(b);
}
