/* common.h - what the programs of tools/ share: how they end, read options and files, and tell the lifter of a guest's mode.
 * Each defines tool_name.  Only die and options_read end the process. */
#ifndef TOOLS_COMMON_H
#define TOOLS_COMMON_H

#include "frontend/frontend.h"

extern const char tool_name[];
_Noreturn void die(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
void *checked(void *);              /* dies where memory ran out */

/* --- Options: one table, from which parser, messages and help come.  --name VALUE, --name=VALUE; one dash or two. */
enum option_kind { OPTION_TEXT /* const char * */, OPTION_NUMBER /* unsigned, low to high */, OPTION_WIDE /* uint64_t */, OPTION_YES, OPTION_NO /* bool */,
                   OPTION_OWN /* set() does it */, OPTION_HELP };
struct option {
    const char *name, *value, *help; /* value: what the help calls it; NULL: there is none */
    enum option_kind kind;
    size_t field, given;             /* offsets in the program's options; given: of a bool that says so, 0: none */
    unsigned low, high;
    void (*set)(void *options, const struct option *, const char *value);
};
struct option_table { const struct option *rows; unsigned count; const char *help_command; void (*help)(void); };
/* Arguments from argv[1] on; others than options go to rest[] (room for argc; NULL: there may be none).  Dies with status 2. */
unsigned options_read(const struct option_table *, void *options, int argc, char **argv, const char **rest);
void options_print(const struct option_table *, FILE *);
uint64_t option_number(const struct option *, const char *text); /* of kind NUMBER or WIDE; dies */

char *file_read(const char *path, size_t *size); /* malloc'd, a 0 behind; "-": standard input; dies with status 1 */
void json_string(FILE *, const char *text);
void text_shorten(char *disassembly);            /* leading zeros of numbers go */
/* The mode word of code of 16, 32 or 64 bits at a privilege level, as an operating system with flat segments has it. */
uint32_t guest_mode_word(const struct x86_model *, unsigned bits, unsigned cpl);

#endif
