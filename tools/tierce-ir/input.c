/* Where the code comes from: bytes on the command line, a raw file, IR text. */
#include "tools/tierce-ir/work.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static int digit(char c) { return isdigit((unsigned char)c) ? c - '0' : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10 : -1; }

/* Pairs of digits; blanks and commas between the bytes, 0x or \x before one. */
static void read_hex(struct work *w)
{
    const char *at = w->o.hex;
    w->bytes = checked(malloc(strlen(at) / 2 + 1));
    while (*at) {
        if (isspace((unsigned char)*at) || *at == ',') {
            at++;
            continue;
        }
        if ((*at == '0' || *at == '\\') && (at[1] == 'x' || at[1] == 'X'))
            at += 2;
        if (digit(at[0]) < 0 || digit(at[1]) < 0)
            die(2, "--hex: '%.8s' is no byte of two hexadecimal digits", at);
        w->bytes[w->size++] = (uint8_t)(digit(at[0]) << 4 | digit(at[1]));
        at += 2;
    }
    if (!w->size)
        die(2, "--hex: there is no byte in it");
}

static void read_raw(struct work *w)
{
    size_t size;
    char *all = file_read(w->o.file, &size);
    if (w->o.offset >= size)
        die(1, "--offset %llu: '%s' has %zu bytes", (unsigned long long)w->o.offset, w->o.file, size);
    if (w->o.size > size - w->o.offset)
        die(1, "--size %llu: '%s' has %zu bytes from there on", (unsigned long long)w->o.size, w->o.file, size - (size_t)w->o.offset);
    w->size = w->o.size ? w->o.size : size - w->o.offset;
    w->bytes = checked(malloc(w->size));
    memcpy(w->bytes, all + w->o.offset, w->size);
    free(all);
}

void input_read(struct work *w)
{
    size_t size;
    w->pc = 0x1000;
    if (w->o.hex)
        read_hex(w);
    else if (w->o.file)
        read_raw(w);
    else if (w->o.elf)
        input_elf(w);
    else
        w->text = file_read(w->o.ir, &size);
    if (w->o.has_pc)
        w->pc = w->o.pc;
}
