/* The file of a saved machine: its head, and sections one after the other (state.h, docs/state.md).  All numbers are little-endian, as the
 * host is. */
#define _GNU_SOURCE
#include "runtime/state.h"
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static const char magic[8] = "\x89TIERCE\n";
struct file_head { char magic[8]; uint32_t version, crc; };
struct section_head { char name[STATE_NAME]; uint32_t version, sequence; uint64_t size; uint32_t bytes_crc, crc; };
_Static_assert(sizeof(struct file_head) == 16 && sizeof(struct section_head) == 40, "as the format has it");

static uint32_t sum(const void *bytes, size_t size) { return (uint32_t)crc32_z(crc32_z(0, NULL, 0), bytes, size); }

/* --- Writing */
static void put(struct state_writer *w, const void *bytes, size_t size)
{
    if (!w->error && size && fwrite(bytes, 1, size, w->file) != size)
        w->error = errno ? errno : EIO;
    w->size += size;
}

/* A name that exists is replaced if it is a file; a directory or a device stays what it is. */
static bool may_replace(const char *path, char *error, size_t size)
{
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
        snprintf(error, size, "%s: is no regular file", path);
        return false;
    }
    return true;
}

bool state_writer_open(struct state_writer *w, const char *path, char *error, size_t size)
{
    *w = (struct state_writer){.path = path};
    if (!may_replace(path, error, size))
        return false;
    if (asprintf(&w->temporary, "%s.XXXXXX", path) < 0) {
        snprintf(error, size, "out of memory");
        return false;
    }
    int fd = mkostemp(w->temporary, O_CLOEXEC);
    if (fd < 0 || !(w->file = fdopen(fd, "w"))) {
        snprintf(error, size, "cannot write %s: %s", path, strerror(errno));
        if (fd >= 0) {
            close(fd);
            unlink(w->temporary);
        }
        free(w->temporary);
        return false;
    }
    struct file_head head = {.version = STATE_VERSION};
    memcpy(head.magic, magic, sizeof magic);
    head.crc = sum(&head, offsetof(struct file_head, crc));
    put(w, &head, sizeof head);
    return true;
}

void state_section(struct state_writer *w, const char *name, unsigned version, const void *bytes, size_t size)
{
    struct section_head head = {.version = version, .sequence = w->sequence++, .size = size, .bytes_crc = sum(bytes, size)};
    memcpy(head.name, name, strnlen(name, STATE_NAME));
    head.crc = sum(&head, offsetof(struct section_head, crc));
    put(w, &head, sizeof head);
    put(w, bytes, size);
}

/* The name is on the disk too. */
static void sync_directory(const char *path)
{
    char *copy = strdup(path);
    int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(copy);
}

bool state_writer_close(struct state_writer *w, bool keep, char *error, size_t size)
{
    if (keep)
        state_section(w, "end", 1, NULL, 0);
    if (!w->error && (fflush(w->file) || (keep && fsync(fileno(w->file)))))
        w->error = errno;
    if (fclose(w->file) && !w->error)
        w->error = errno;
    bool ok = keep && !w->error;
    if (ok && rename(w->temporary, w->path)) {
        w->error = errno;
        ok = false;
    }
    if (ok)
        sync_directory(w->path);
    else
        unlink(w->temporary);
    if (keep && !ok)
        snprintf(error, size, "cannot write %s: %s", w->path, strerror(w->error));
    free(w->temporary);
    return ok;
}

/* --- Reading */
bool state_fail(const struct state_reader *r, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(r->error, r->error_size, format, args);
    va_end(args);
    for (char *c = r->error; *c; c++) /* some of it may be the file's own words */
        if (*c < ' ' || *c > '~')
            *c = '?';
    return false;
}

static bool get(struct state_reader *r, void *to, size_t size)
{
    size_t n = fread(to, 1, size, r->file);
    r->at += n;
    return n == size;
}

bool state_reader_begin(struct state_reader *r, FILE *file, char *error, size_t size)
{
    struct file_head head;
    *r = (struct state_reader){.file = file, .error = error, .error_size = size};
    if (!get(r, &head, sizeof head) || memcmp(head.magic, magic, sizeof magic))
        return state_fail(r, ferror(file) ? "cannot read it: %s" : "it is no saved state of tierce", strerror(errno));
    if (head.crc != sum(&head, offsetof(struct file_head, crc)))
        return state_fail(r, "its head is damaged (checksum)");
    if (head.version != STATE_VERSION)
        return state_fail(r, "its format has version %u; accepted: %u", head.version, STATE_VERSION);
    return true;
}

static bool is_name(const char *name)
{
    for (; *name; name++)
        if (*name <= ' ' || *name > '~')
            return false;
    return true;
}

static bool head_get(struct state_reader *r, struct section_head *head, char *name)
{
    uint64_t at = r->at;
    if (!get(r, head, sizeof *head)) {
        if (ferror(r->file))
            return state_fail(r, "cannot read it: %s", strerror(errno));
        return state_fail(r, "it is cut off at byte %lu, before section %u", r->at, r->sequence);
    }
    if (head->crc != sum(head, offsetof(struct section_head, crc)))
        return state_fail(r, "the head of section %u, at byte %lu, is damaged (checksum)", r->sequence, at);
    memcpy(name, head->name, STATE_NAME);
    name[STATE_NAME] = 0;
    if (!*name || !is_name(name) || head->sequence != r->sequence || head->size > STATE_SECTION_MAX)
        return state_fail(r, "section %u, at byte %lu: its head is no section's: number %u, %lu bytes", r->sequence, at, head->sequence, head->size);
    return true;
}

bool state_next(struct state_reader *r, struct state_section *s)
{
    struct section_head head;
    *s = (struct state_section){0};
    if (!head_get(r, &head, s->name))
        return false;
    s->version = head.version;
    s->size = (size_t)head.size;
    s->bytes = malloc(s->size + 1);
    if (!s->bytes)
        return state_fail(r, "out of memory");
    bool all = get(r, s->bytes, s->size);
    if (all && head.bytes_crc == sum(s->bytes, s->size)) {
        r->sequence++;
        return true;
    }
    free(s->bytes);
    s->bytes = NULL;
    if (all)
        return state_fail(r, "section %s (number %u) is damaged (checksum)", s->name, r->sequence);
    return state_fail(r, "it is cut off at byte %lu, in section %s (number %u)", r->at, s->name, r->sequence);
}

bool state_reader_end(struct state_reader *r)
{
    return fgetc(r->file) == EOF || state_fail(r, "something follows its end, at byte %lu", r->at);
}
