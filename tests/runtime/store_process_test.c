/* Many processes on one store: two thousand short ones; writers that are killed; disks that are full, directories that cannot be
 * written, a lock that somebody holds for ever. */
#define _GNU_SOURCE
#include "tests/runtime/store_helper.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SANITIZED 1
#elif defined __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifdef SANITIZED
enum { PROCESSES = 300, KILLS = 15 }; /* one takes some ten times as long */
#else
enum { PROCESSES = 2000, KILLS = 60 };
#endif
enum { AT_ONCE = 40, OF_EACH = 3, BASE = 100 };

static void must_end_well(pid_t pid, const char *what, long of)
{
    int status;
    check(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && !WEXITSTATUS(status), what, of);
}

/* A child's failures are its status. */
static pid_t start_child(void)
{
    fflush(stdout);
    pid_t pid = fork();
    if (!pid)
        failed = 0;
    return pid;
}
static void end_child(void)
{
    fflush(stdout);
    _exit(failed != 0);
}

/* --- Two thousand */
static void short_process(const char *path, unsigned number)
{
    struct store *s = open_plain(path);
    check(count_objects(s, 0, BASE, 0) == BASE, "objects seen by a short process", number);
    if (number % 4 == 0)
        for (unsigned n = 0; n < OF_EACH; n++)
            check(put_object(s, BASE + number * OF_EACH + n, 0), "put by a short process", number);
    if (number % 250 == 8)
        store_gc(s);
    store_close(s);
    check(!atomic_load(&warnings), "warnings of a short process", number);
    end_child();
}

static void test_many(void)
{
    const char *path = fresh_path();
    struct store *s = open_plain(path);
    for (unsigned n = 0; n < BASE; n++)
        put_object(s, n, 0);
    store_close(s);
    pid_t pids[AT_ONCE];
    for (unsigned n = 0; n < PROCESSES + AT_ONCE; n++) {
        if (n >= AT_ONCE)
            must_end_well(pids[n % AT_ONCE], "a short process", n - AT_ONCE);
        if (n < PROCESSES && !(pids[n % AT_ONCE] = start_child()))
            short_process(path, n);
    }
    s = open_plain(path);
    for (unsigned n = 0; n < PROCESSES; n += 4)
        check(count_objects(s, BASE + n * OF_EACH, BASE + n * OF_EACH + OF_EACH, 0) == OF_EACH, "what a short process put", n);
    struct store_counts c;
    store_count(s, &c);
    check(c.objects == BASE + PROCESSES / 4 * OF_EACH, "objects of all", (long)c.objects);
    store_close(s);
    check(!atomic_load(&warnings), "warnings of the last", 0);
}

/* --- kill -9.  A writer says what it has flushed; that must be there afterwards, whatever the instant. */
static void write_until_killed(const char *path, int said, unsigned from)
{
    struct store *s = open_plain(path);
    for (unsigned n = from;; n++) {
        put_object(s, n, 0);
        if (!store_flush(s) || write(said, &n, sizeof n) != sizeof n)
            _exit(1);
        if (n % 3 == 0)
            store_gc(s);
        if (n % 7 == 0)
            store_prune(s, 1u << 30);
    }
}

static void test_killed(void)
{
    const char *path = fresh_path();
    unsigned flushed = 0, random = 12345;
    for (unsigned round = 0; round < KILLS; round++) {
        int said[2];
        unsigned n, before = flushed;
        if (pipe(said))
            abort();
        pid_t pid = start_child();
        if (!pid)
            write_until_killed(path, said[1], flushed);
        close(said[1]);
        if (read(said[0], &n, sizeof n) == sizeof n) /* it runs */
            flushed = n + 1;
        random = random * 1103515245u + 12345u;
        nanosleep(&(struct timespec){.tv_nsec = (random >> 16) % 15000 * 1000}, NULL);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        while (read(said[0], &n, sizeof n) == sizeof n)
            flushed = n + 1;
        close(said[0]);
        check(flushed > before, "the writer wrote", round);
        struct store *s = open_plain(path);
        check(count_objects(s, 0, flushed, 0) == flushed, "all that was flushed before the kill", round);
        store_close(s);
    }
    check(!atomic_load(&warnings), "warnings after kills", 0);
    struct store *s = open_plain(path);
    store_gc(s);
    check(count_objects(s, 0, flushed, 0) == flushed, "all after gc", flushed);
    store_close(s);
}

/* --- Disks */
static void fill(const char *path, const char *what)
{
    struct store *s = open_plain(path);
    bool written = true;
    unsigned n = 0;
    for (; n < 400 && written; n++) {
        put_object(s, n, 0);
        written = store_flush(s);
    }
    check(!written && n > 3, what, n);
    check(atomic_load(&warnings) == 1 && strstr(last_warning, "cannot be written"), what, atomic_load(&warnings));
    check(count_objects(s, 0, n, 0) == n, "what could not be written stays in memory", n);
    for (unsigned more = 0; more < 20; more++)
        store_flush(s);
    check(atomic_load(&warnings) == 1, "a full disk is warned of once", atomic_load(&warnings));
    store_close(s);
    s = open_plain(path);
    check(count_objects(s, 0, n, 0) >= n - 1, "what was written before is whole", n);
    store_close(s);
}

static void test_full_disk(void)
{
    const char *path = fresh_path();
    pid_t pid = start_child();
    if (!pid) {
        if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mkdir(path, 0700) || mount("none", path, "tmpfs", 0, "size=300k,mode=700")) {
            printf("not tested: a full disk (no tmpfs can be mounted: %s); a limit on sizes of files is\n", strerror(errno));
            fflush(stdout);
            _exit(0);
        }
        fill(path, "a full disk");
        end_child();
    }
    must_end_well(pid, "a full disk", 0);
}

static void test_file_limit(void)
{
    const char *path = fresh_path();
    pid_t pid = start_child();
    if (!pid) {
        struct store *s = open_plain(path);
        struct rlimit small = {50, RLIM_INFINITY}, none = {RLIM_INFINITY, RLIM_INFINITY};
        for (unsigned n = 0; n < 10; n++)
            put_object(s, n, 0);
        setrlimit(RLIMIT_FSIZE, &small);
        check(!store_flush(s) && !store_file_put(s, "profile", "abc", 3, true), "beyond the limit on file sizes", 0);
        check(count_objects(s, 0, 10, 0) == 10, "in memory meanwhile", 0);
        setrlimit(RLIMIT_FSIZE, &none);
        check(store_flush(s) && store_file_put(s, "profile", "abc", 3, true), "without a limit again", 0);
        store_close(s);
        s = open_plain(path);
        check(count_objects(s, 0, 10, 0) == 10, "and it is all written", 0);
        store_close(s);
        end_child();
    }
    must_end_well(pid, "a limit on file sizes", 0);
}

static void test_read_only_directory(void)
{
    char path[64];
    snprintf(path, sizeof path, "%s", fresh_path());
    pid_t pid = start_child();
    if (!pid) {
        char parent[64];
        snprintf(parent, sizeof parent, "%s", path);
        *strrchr(parent, '/') = 0;
        if (geteuid() == 0 && (chmod(parent, 0755) || mkdir(path, 0700) || chown(path, 65534, 65534) || setresuid(65534, 65534, 65534)))
            _exit(2);
        struct store *s = open_plain(path);
        for (unsigned n = 0; n < 10; n++)
            put_object(s, n, 0);
        store_close(s);
        chmod(path, 0500);
        s = open_plain(path);
        check(atomic_load(&warnings) == 1 && strstr(last_warning, "only read"), "a read-only directory is warned of", 0);
        check(count_objects(s, 0, 10, 0) == 10 && !put_object(s, 11, 0) && store_flush(s), "a read-only directory", 0);
        check(!store_prune(s, 0) && !store_gc(s), "is not pruned", 0);
        store_close(s);
        chmod(path, 0700);
        end_child();
    }
    must_end_well(pid, "a read-only directory", 0);
}

/* Whoever holds the lock holds up maintenance alone. */
static void test_lock_held(void)
{
    char name[80];
    const char *path = fresh_path();
    struct store *s = open_plain(path);
    snprintf(name, sizeof name, "%s/lock", path);
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    check(fd >= 0 && !flock(fd, LOCK_EX), "the lock", 0);
    for (unsigned n = 0; n < 50; n++) {
        put_object(s, n, 0);
        check(store_flush(s), "flush while the lock is held", n);
    }
    check(count_objects(s, 0, 50, 0) == 50 && store_gc(s) == 0 && count_packs(path) == 50, "while the lock is held", 0);
    store_close(s);
    s = open_plain(path);
    check(count_objects(s, 0, 50, 0) == 50, "opened while the lock is held", 0);
    close(fd);
    store_gc(s);
    check(count_packs(path) == 1 && count_objects(s, 0, 50, 0) == 50, "when it is not held any longer", count_packs(path));
    store_close(s);
}

/* Temporary files of dead writers go at gc, those of living ones stay. */
static void test_temporaries(void)
{
    static const char *const names[] = {"packs/.1-0.tmp", "files/.1-1.tmp", ".1-2.tmp", "packs/.1-3.tmp"};
    char name[4][128];
    int held = -1;
    const char *path = fresh_path();
    struct store *s = open_plain(path);
    put_object(s, 1, 0);
    for (unsigned n = 0; n < 4; n++) {
        snprintf(name[n], sizeof name[n], "%s/%s", path, names[n]);
        held = open(name[n], O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        check(held >= 0 && write(held, "abcd", 4) == 4, "a temporary file", n);
        if (n < 3)
            close(held);
    }
    check(!flock(held, LOCK_EX), "a living writer's lock", 0);
    store_gc(s);
    for (unsigned n = 0; n < 4; n++)
        check(!access(name[n], F_OK) == (n == 3), "temporary files", n);
    close(held);
    check(store_gc(s) == 4 && access(name[3], F_OK), "its end", 0);
    store_close(s);
}

int main(void)
{
    test_many();
    test_killed();
    test_full_disk();
    test_file_limit();
    test_read_only_directory();
    test_lock_held();
    test_temporaries();
    return finish();
}
