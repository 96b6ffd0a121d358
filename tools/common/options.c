/* Reads command lines by a table. */
#include "tools/common/common.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct option *find(const struct option_table *t, const char *argument)
{
    const char *name = argument + (argument[0] == '-') + (argument[0] == '-' && argument[1] == '-');
    bool short_help = !strcmp(argument, "-h");
    size_t n = strcspn(name, "=");
    for (unsigned i = 0; i < t->count; i++)
        if ((strlen(t->rows[i].name) == n && !strncmp(t->rows[i].name, name, n)) || (short_help && t->rows[i].kind == OPTION_HELP))
            return &t->rows[i];
    die(2, "unknown option '%s'; `%s --help` lists what is accepted", argument, t->help_command);
}

uint64_t option_number(const struct option *o, const char *text)
{
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 0);
    if (errno || *end || end == text || *text == '-' || (o->kind == OPTION_NUMBER && (value < o->low || value > o->high))) {
        if (o->kind == OPTION_NUMBER)
            die(2, "--%s '%s': accepted is a number from %u to %u", o->name, text, o->low, o->high);
        die(2, "--%s '%s': accepted is a number, decimal or 0x...", o->name, text);
    }
    return value;
}

static void set(const struct option_table *t, void *all, const struct option *o, const char *value)
{
    char *field = (char *)all + o->field;
    switch (o->kind) {
    case OPTION_TEXT: *(const char **)(void *)field = value; break;
    case OPTION_NUMBER: *(unsigned *)(void *)field = (unsigned)option_number(o, value); break;
    case OPTION_WIDE: *(uint64_t *)(void *)field = option_number(o, value); break;
    case OPTION_YES: *(bool *)field = true; break;
    case OPTION_NO: *(bool *)field = false; break;
    case OPTION_OWN: o->set(all, o, value); break;
    case OPTION_HELP:
        t->help();
        exit(0);
    }
    if (o->given)
        *((bool *)all + o->given) = true;
}

unsigned options_read(const struct option_table *t, void *all, int argc, char **argv, const char **rest)
{
    unsigned others = 0;
    bool only_others = false;
    for (int i = 1; i < argc; i++) {
        bool is_option = argv[i][0] == '-' && argv[i][1] && !only_others;
        if (rest && is_option && !strcmp(argv[i], "--")) {
            only_others = true;
            continue;
        }
        if (rest && !is_option) {
            rest[others++] = argv[i];
            continue;
        }
        const struct option *option = is_option ? find(t, argv[i]) : NULL;
        if (!option)
            die(2, "unknown option '%s'; `%s --help` lists what is accepted", argv[i], t->help_command);
        const char *value = strchr(argv[i], '=');
        if (value)
            value++;
        if (!option->value && value)
            die(2, "--%s takes no value, but has '%s'", option->name, value);
        if (option->value && !value && !(value = argv[++i]))
            die(2, "--%s needs a value: %s", option->name, option->help);
        set(t, all, option, value);
    }
    return others;
}

void options_print(const struct option_table *t, FILE *out)
{
    for (unsigned i = 0; i < t->count; i++)
        fprintf(out, "  --%-12s %-8s %s\n", t->rows[i].name, t->rows[i].value ? t->rows[i].value : "", t->rows[i].help);
}
