/* The monitor's commands about saved machines. */
#include "tools/tierce/monitor_internal.h"
#include "tools/tierce/snapshots.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PATH_SIZE = 4352, ERROR_SIZE = 5000 };

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* The one argument, without the spaces behind it; false: it names no file, which is told. */
static bool file_of(struct command *c, const char *command, const char *argument, bool make, char path[PATH_SIZE])
{
    char name[1024], error[ERROR_SIZE];
    snprintf(name, sizeof name, "%s", argument);
    for (size_t n = strlen(name); n && name[n - 1] == ' '; n--)
        name[n - 1] = 0;
    if (snapshot_path(machine_state_dir(c->machine), name, make, path, PATH_SIZE, error, sizeof error))
        return true;
    fprintf(c->out, "%s: %s\n", command, error);
    return false;
}

void command_savevm(struct command *c)
{
    char path[PATH_SIZE], error[ERROR_SIZE], tag[32];
    struct machine_state_size size;
    time_t now = time(NULL);
    struct tm tm;
    strftime(tag, sizeof tag, "vm-%Y%m%d%H%M%S", localtime_r(&now, &tm)); /* as QEMU calls what has no name */
    if (!file_of(c, "savevm", *c->arguments ? c->arguments : tag, true, path))
        return;
    double start = now_ms();
    if (machine_save(c->machine, path, &size, error, sizeof error))
        fprintf(c->out, "saved %s: %" PRIu64 " bytes, for %" PRIu64 " bytes of RAM, in %.0f ms\n", path, size.bytes, size.ram_bytes, now_ms() - start);
    else
        fprintf(c->out, "savevm: %s\n", error);
}

void command_loadvm(struct command *c)
{
    char path[PATH_SIZE], error[ERROR_SIZE];
    if (!*c->arguments) {
        fprintf(c->out, "loadvm: a name or path is missing\n");
        return;
    }
    if (!file_of(c, "loadvm", c->arguments, false, path))
        return;
    double start = now_ms();
    if (machine_restore(c->machine, path, error, sizeof error))
        fprintf(c->out, "restored %s in %.0f ms\n", path, now_ms() - start);
    else
        fprintf(c->out, "loadvm: %s\n", error);
}

void command_delvm(struct command *c)
{
    char path[PATH_SIZE];
    if (!*c->arguments || strchr(c->arguments, '/'))
        fprintf(c->out, "delvm: a name is missing, as `info snapshots` lists them\n");
    else if (file_of(c, "delvm", c->arguments, false, path) && unlink(path))
        fprintf(c->out, "delvm: %s: %s\n", path, strerror(errno));
}

void info_snapshots(struct command *c) { snapshots_list(machine_state_dir(c->machine), c->out); }
