/* The store's directory.  A cache is code that will be run, so all that is read belongs to the user (or to root) and can be written
 * by nobody else; below the directory, which is held open, no symbolic link is followed.  What is written appears as a whole:
 * temporary file, fsync, rename, fsync of the directory. */
#define _GNU_SOURCE
#include "runtime/store_internal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

uint64_t store_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t store_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool ours(uid_t uid) { return uid == geteuid() || uid == 0; }

static bool make_path(const char *path)
{
    char *copy = strdup(path);
    bool made = copy;
    for (char *at = copy; made && at && *at; at++)
        if (*at == '/' && at > copy) {
            *at = 0;
            made = !mkdir(copy, 0700) || errno == EEXIST || errno == EROFS || errno == EACCES;
            *at = '/';
        }
    made = made && (!mkdir(path, 0700) || errno == EEXIST);
    free(copy);
    return made;
}

/* Why a directory is refused; NULL: it is not. */
static const char *unsafe_dir(int fd, char *text, size_t size)
{
    struct stat s;
    if (fstat(fd, &s))
        snprintf(text, size, "%s", strerror(errno));
    else if (!ours(s.st_uid))
        snprintf(text, size, "belongs to user %u, not to you (%u)", s.st_uid, geteuid());
    else if (s.st_mode & 022)
        snprintf(text, size, "others may write to it (mode %03o; `chmod go-w` mends that)", s.st_mode & 0777);
    else
        return NULL;
    return text;
}

static int open_part(struct store_dir *d, const char *name, char *error, size_t size)
{
    char why[96];
    if (d->writable)
        mkdirat(d->fd, name, 0700);
    int fd = openat(d->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno != ENOENT)
        snprintf(error, size, "%s/%s: %s; accepted: a directory of your own", d->path, name, errno == ENOTDIR ? "is a file or a symbolic link" : strerror(errno));
    else if (fd >= 0 && unsafe_dir(fd, why, sizeof why))
        snprintf(error, size, "%s/%s: %s; code in it could be anybody's", d->path, name, why);
    else
        return fd;
    if (fd >= 0)
        close(fd);
    return -2;
}

bool store_dir_open(struct store_dir *d, bool make, char *error, size_t size)
{
    char why[96];
    struct stat link;
    d->fd = d->packs = d->files = -1;
    d->view.index.fd = d->view.recent.fd = -1;
    if (make && !make_path(d->path))
        return snprintf(error, size, "%s: cannot be made: %s", d->path, strerror(errno)), false;
    if (!lstat(d->path, &link) && S_ISLNK(link.st_mode) && !ours(link.st_uid))
        return snprintf(error, size, "%s: is a symbolic link of user %u; code behind it could be anybody's", d->path, link.st_uid), false;
    d->fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->fd < 0)
        return snprintf(error, size, "%s: %s; accepted: a directory of your own", d->path, strerror(errno)), false;
    if (unsafe_dir(d->fd, why, sizeof why))
        return snprintf(error, size, "%s: %s; code in it could be anybody's", d->path, why), false;
    if (d->writable && faccessat(d->fd, ".", W_OK | X_OK, AT_EACCESS)) {
        store_complain(d, STORE_TROUBLE, "", "%s; it is only read", strerror(errno));
        d->writable = false;
    }
    d->packs = open_part(d, "packs", error, size);
    d->files = d->packs == -2 ? -2 : open_part(d, "files", error, size);
    if (d->packs == -2 || d->files == -2)
        return false;
    if (d->writable && (d->packs < 0 || d->files < 0)) {
        store_complain(d, STORE_TROUBLE, "", "nothing can be made in it; it is only read");
        d->writable = false;
    }
    return true;
}

void store_dir_close(struct store_dir *d)
{
    store_view_free(&d->view);
    for (int *fds[] = {&d->fd, &d->packs, &d->files}, n = 0; n < 3; n++)
        if (*fds[n] >= 0)
            close(*fds[n]);
    free(d->used);
    free(d->path);
}

int store_at_name(const struct store_dir *d, const char **name)
{
    static const char packs[] = "packs/", files[] = "files/";
    bool in_packs = !strncmp(*name, packs, sizeof packs - 1), in_files = !strncmp(*name, files, sizeof files - 1);
    *name += in_packs || in_files ? sizeof packs - 1 : 0;
    return in_packs ? d->packs : in_files ? d->files : d->fd;
}

bool store_file_unlink(struct store_dir *d, const char *name)
{
    int at = store_at_name(d, &name);
    return at >= 0 && !unlinkat(at, name, 0);
}

int store_file_open(struct store_dir *d, const char *path, int flags, struct stat *s)
{
    const char *name = path;
    int at = store_at_name(d, &name);
    int fd = at < 0 ? (errno = ENOENT, -1) : openat(at, name, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    const char *why = NULL;
    if (fd < 0)
        why = errno == ELOOP ? "is a symbolic link" : NULL;
    else if (fstat(fd, s))
        why = strerror(errno);
    else if (!S_ISREG(s->st_mode))
        why = "is not a regular file";
    else if (!ours(s->st_uid))
        why = "belongs to somebody else";
    else if (s->st_mode & 022)
        why = "others may write to it";
    if (!why)
        return fd;
    if (fd >= 0)
        close(fd);
    store_complain(d, STORE_DAMAGED, path, "%s", why);
    errno = EPERM;
    return -1;
}

bool store_read(int fd, void *to, size_t size, uint64_t offset)
{
    uint8_t *at = to;
    while (size) {
        ssize_t got = pread(fd, at, size, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        at += got;
        offset += (size_t)got;
        size -= (size_t)got;
    }
    return true;
}

/* A temporary file's flock says that its process lives: store_remove_temporaries takes the others.  False: it did so just now. */
static bool hold(int fd)
{
    struct stat s;
    while (flock(fd, LOCK_EX) && errno == EINTR)
        continue;
    return !fstat(fd, &s) && s.st_nlink;
}

bool store_writer_begin(struct store_writer *w, struct store_dir *d, const char *name)
{
    w->at = store_at_name(d, &name);
    w->fd = -1;
    w->size = w->held = 0;
    snprintf(w->name, sizeof w->name, "%s", name);
    for (unsigned n = 0; n < 1000 && w->fd < 0; n++) {
        snprintf(w->temporary, sizeof w->temporary, ".%d-%u.tmp", (int)getpid(), n);
        w->fd = openat(w->at, w->temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (w->fd < 0 && errno != EEXIST)
            break;
        if (w->fd >= 0 && !hold(w->fd)) {
            close(w->fd);
            w->fd = -1;
        }
    }
    w->error = w->fd < 0 ? errno : 0;
    return w->fd >= 0;
}

static void write_out(struct store_writer *w, const uint8_t *bytes, size_t size)
{
    struct rlimit limit;
    if (!w->error && !getrlimit(RLIMIT_FSIZE, &limit) && w->size + size > limit.rlim_cur)
        w->error = EFBIG; /* and not SIGXFSZ */
    while (size && !w->error) {
        ssize_t done = write(w->fd, bytes, size);
        if (done < 0 && errno != EINTR)
            w->error = errno;
        if (done <= 0)
            continue;
        w->size += (size_t)done;
        bytes += done;
        size -= (size_t)done;
    }
}

void store_writer_add(struct store_writer *w, const void *bytes, size_t size)
{
    if (w->held + size > sizeof w->buffer) {
        write_out(w, w->buffer, w->held);
        w->held = 0;
    }
    if (size > sizeof w->buffer) {
        write_out(w, bytes, size);
    } else if (size) {
        memcpy(w->buffer + w->held, bytes, size);
        w->held += size;
    }
}

void store_writer_drop(struct store_writer *w)
{
    if (w->fd < 0)
        return;
    unlinkat(w->at, w->temporary, 0);
    close(w->fd);
    w->fd = -1;
}

bool store_writer_end(struct store_writer *w)
{
    write_out(w, w->buffer, w->held);
    if (!w->error && fsync(w->fd))
        w->error = errno;
    if (!w->error && renameat(w->at, w->temporary, w->at, w->name))
        w->error = errno;
    if (w->error) {
        store_writer_drop(w);
        errno = w->error;
        return false;
    }
    close(w->fd);
    w->fd = -1;
    fsync(w->at);
    return true;
}

int store_lock(struct store_dir *d, unsigned wait_ms)
{
    int fd = openat(d->fd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    for (unsigned waited = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB); waited += 5) {
        if (waited >= wait_ms || (errno != EWOULDBLOCK && errno != EINTR)) {
            close(fd);
            return -1;
        }
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    return fd;
}

/* With its lock held the name is the dead writer's, or of one that waits in hold(); a name may be another file's by now. */
static bool is_left_over(int at, const char *name, int fd, struct stat *s)
{
    struct stat named;
    return !flock(fd, LOCK_EX | LOCK_NB) && !fstat(fd, s) && !fstatat(at, name, &named, AT_SYMLINK_NOFOLLOW) && named.st_ino == s->st_ino;
}

static uint64_t remove_temporaries_in(int at)
{
    int copy = at < 0 ? -1 : openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy < 0 ? NULL : fdopendir(copy);
    uint64_t gained = 0;
    if (!list && copy >= 0)
        close(copy);
    for (struct dirent *e; list && (e = readdir(list));) {
        size_t length = strlen(e->d_name);
        struct stat s;
        if (e->d_name[0] != '.' || length < 5 || strcmp(e->d_name + length - 4, ".tmp"))
            continue;
        int fd = openat(at, e->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
        if (fd >= 0 && is_left_over(at, e->d_name, fd, &s) && !unlinkat(at, e->d_name, 0))
            gained += (uint64_t)s.st_size;
        if (fd >= 0)
            close(fd);
    }
    if (list)
        closedir(list);
    return gained;
}

uint64_t store_remove_temporaries(struct store_dir *d)
{
    return remove_temporaries_in(d->fd) + remove_temporaries_in(d->packs) + remove_temporaries_in(d->files);
}
