/* tierce-cache - makes and manages the translation cache without running a guest.  Commands and their options are the two tables of options.c. */
#include "tools/tierce-cache/tool.h"
#include <string.h>
#include <unistd.h>

const char tool_name[] = "tierce-cache";

static int usage(FILE *out)
{
    fputs("usage: tierce-cache COMMAND [options] [arguments]\nMakes and manages Tierce's translation cache without running a guest.\n", out);
    for (unsigned n = 0; n < command_count; n++)
        fprintf(out, "  %-8s %s\n", commands[n].name, commands[n].help);
    fputs("`tierce-cache COMMAND --help` tells of each.  Exit status: 0 done, 1 something failed, 2 usage.\n", out);
    return 0;
}

int main(int argc, char **argv)
{
    struct options o = {.least = 1, .runs = 1};
    if (argc < 2)
        die(2, "no command; `tierce-cache --help` lists what is accepted");
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))
        return usage(stdout);
    for (unsigned n = 0; n < command_count; n++) {
        if (strcmp(argv[1], commands[n].name))
            continue;
        const char *rest[argc];
        unsigned count = options_read(commands[n].table, &o, argc - 1, argv + 1, rest);
        long cpus = sysconf(_SC_NPROCESSORS_ONLN);
        if (!o.threads)
            o.threads = cpus > 0 ? (unsigned)cpus : 1;
        int status = commands[n].run(&o, rest, count);
        if (fflush(stdout) || ferror(stdout))
            die(1, "the output cannot be written");
        return status;
    }
    die(2, "unknown command '%s'; `tierce-cache --help` lists what is accepted", argv[1]);
}
