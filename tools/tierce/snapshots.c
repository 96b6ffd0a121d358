/* Names of saved machines, and the list of them. */
#define _GNU_SOURCE
#include "tools/tierce/snapshots.h"
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char ending[] = ".state";

static bool directory_of(const char *given, char *to, size_t size)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n = given ? snprintf(to, size, "%s", given) : state && *state == '/' ? snprintf(to, size, "%s/tierce", state) :
            snprintf(to, size, "%s/.local/state/tierce", home ? home : "");
    return n > 0 && (size_t)n < size;
}

/* With all that is missing above it. */
static bool make_directory(char *path)
{
    for (char *at = strchr(path + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = 0;
        bool ok = mkdir(path, 0700) == 0 || errno == EEXIST;
        *at = '/';
        if (!ok)
            return false;
    }
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

static bool is_name(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
    return n && !name[n] && *name != '.' && n <= 100;
}

bool snapshot_path(const char *directory, const char *name, bool make, char *path, size_t size, char *error, size_t error_size)
{
    if (strchr(name, '/')) {
        if ((size_t)snprintf(path, size, "%s", name) < size)
            return true;
        snprintf(error, error_size, "'%.40s...' is too long for a path", name);
        return false;
    }
    if (!is_name(name)) {
        snprintf(error, error_size, "'%.120s' is not accepted; accepted: a path with a slash, or a name of letters, digits, '.', '_' and '-'", name);
        return false;
    }
    if (!directory_of(directory, path, size - 128)) {
        snprintf(error, error_size, "the path of the states' directory is too long");
        return false;
    }
    if (make && !make_directory(path)) {
        snprintf(error, error_size, "cannot make %s: %s", path, strerror(errno));
        return false;
    }
    snprintf(path + strlen(path), size - strlen(path), "/%s%s", name, ending);
    return true;
}

static int is_state(const struct dirent *e)
{
    size_t n = strlen(e->d_name);
    return n >= sizeof ending && !strcmp(e->d_name + n - (sizeof ending - 1), ending);
}

static void print_one(FILE *out, const char *directory, const char *name)
{
    char path[4400], date[32], error[400];
    struct machine_state_info info;
    struct stat st;
    struct tm tm;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int length = (int)(strlen(name) - (sizeof ending - 1));
    if (stat(path, &st) || !machine_state_info(path, &info, error, sizeof error)) {
        fprintf(out, "%-20.*s %s\n", length, name, stat(path, &st) ? strerror(errno) : error);
        return;
    }
    time_t when = (time_t)info.date;
    strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", localtime_r(&when, &tm));
    uint64_t ms = info.now_ns / 1000000;
    fprintf(out, "%-20.*s %8.1f MiB %20s  %02" PRIu64 ":%02" PRIu64 ":%02" PRIu64 ".%03" PRIu64 " %6" PRIu64 "M  %s\n", length, name, (double)st.st_size / (1 << 20), date,
            ms / 3600000, ms / 60000 % 60, ms / 1000 % 60, ms % 1000, info.ram_size >> 20, info.tier);
}

void snapshots_list(const char *directory, FILE *out)
{
    char path[4096];
    struct dirent **list = NULL;
    int n = directory_of(directory, path, sizeof path) ? scandir(path, &list, is_state, alphasort) : -1;
    if (n <= 0) {
        fprintf(out, "There is no saved machine in %s.\n", path);
        free(list);
        return;
    }
    fprintf(out, "Saved machines in %s:\n%-20s %12s %20s  %12s %7s  %s\n", path, "TAG", "VM SIZE", "DATE", "VM CLOCK", "RAM", "TIER");
    for (int i = 0; i < n; i++) {
        print_one(out, path, list[i]->d_name);
        free(list[i]);
    }
    free(list);
}
