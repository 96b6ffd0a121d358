/* Ends, files and texts of the programs of tools/. */
#include "tools/common/common.h"
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void die(int status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s: ", tool_name);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    fflush(stdout);
    _Exit(status); /* what is allocated ends with the process */
}

void *checked(void *p)
{
    if (!p)
        die(1, "out of memory");
    return p;
}

char *file_read(const char *path, size_t *size)
{
    bool standard = !strcmp(path, "-");
    FILE *f = standard ? stdin : fopen(path, "rb");
    char *bytes = NULL;
    size_t room = 0, got;
    if (!f)
        die(1, "cannot read '%s': %s", path, strerror(errno));
    *size = 0;
    do {
        if (room - *size < 4096)
            bytes = checked(realloc(bytes, room = room * 2 + 65536));
        got = fread(bytes + *size, 1, room - *size - 1, f);
        *size += got;
    } while (got);
    if (ferror(f))
        die(1, "cannot read '%s': %s", path, strerror(errno));
    if (!standard)
        fclose(f);
    bytes[*size] = 0;
    return bytes;
}

void json_string(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text; text++)
        if (*text == '"' || *text == '\\')
            fprintf(out, "\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            fprintf(out, "\\u%04x", *text);
        else
            fputc(*text, out);
    fputc('"', out);
}

/* 0x00000000000000a0 -> 0xa0 */
void text_shorten(char *text)
{
    for (char *at = text; (at = strstr(at, "0x0")); at += 2) {
        size_t zeros = strspn(at + 2, "0");
        bool more = strchr("123456789abcdefABCDEF", at[2 + zeros]) && at[2 + zeros];
        zeros -= !more;
        memmove(at + 2, at + 2 + zeros, strlen(at + 2 + zeros) + 1);
    }
}
