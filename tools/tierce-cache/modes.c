/* Mode words, by name.  A block is specialised on its mode (enum x86_mode), so what is translated ahead of time must guess it: these are the modes that
 * Linux guests were seen to run in (docs/cache.md). */
#include "tools/tierce-cache/tool.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

const struct mode_row mode_rows[] = {
    {"kernel", 0x33ff3098, "64-bit Linux in the kernel"},
    {"kernel-early", 0x13ff1098, "the same before it has set up the FPU"},
    {"kernel-start", 0x93ff1098, "the same before it has set up the x87, where the unpacker did not"},
    {"user", 0x23ff309b, "64-bit programs under Linux"},
    {"stub-early", 0x93ff0098, "64-bit code in a bzImage that unpacks the kernel, as Tierce's loader enters it"},
    {"stub", 0x13ff0098, "the same once it has set up the x87; the kernel's first instructions"},
    {"user32", 0x23ef30d7, "32-bit programs under 64-bit Linux, once GS points to a thread's data"},
    {"user32-early", 0x23cf30d7, "the same before that"},
    {"kernel32", 0x33df3054, "32-bit Linux in the kernel"},
    {"kernel32-early", 0x13df1054, "the same before it has set up the FPU"},
    {"stub32", 0x9fff0054, "32-bit code in a bzImage that unpacks the kernel"},
    {"user32-32", 0x23ef3057, "programs under 32-bit Linux"},
};
const unsigned mode_row_count = sizeof mode_rows / sizeof *mode_rows;

bool mode_find(const char *text, uint32_t *mode)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 0);
    for (unsigned n = 0; n < mode_row_count; n++)
        if (!strcmp(mode_rows[n].name, text)) {
            *mode = mode_rows[n].mode;
            return true;
        }
    *mode = (uint32_t)value;
    return !errno && end != text && !*end && *text >= '0' && *text <= '9' && value <= UINT32_MAX;
}

const char *mode_name(uint32_t mode)
{
    for (unsigned n = 0; n < mode_row_count; n++)
        if (mode_rows[n].mode == mode)
            return mode_rows[n].name;
    return NULL;
}

static bool by_name(uint32_t modes[], unsigned *count, const char *name) { return mode_find(name, &modes[*count]) && ++*count; }

unsigned mode_defaults(const struct image *m, bool init, uint32_t modes[MODES_MOST])
{
    unsigned count = 0;
    if (m->bits == 64)
        switch (m->kind) {
        case IMAGE_STUB: by_name(modes, &count, "stub"); by_name(modes, &count, "stub-early"); break;
        case IMAGE_KERNEL: by_name(modes, &count, init ? "kernel-early" : "kernel"); break;
        case IMAGE_PROGRAM: by_name(modes, &count, "user"); break;
        }
    else
        switch (m->kind) {
        case IMAGE_STUB: by_name(modes, &count, "stub32"); break;
        case IMAGE_KERNEL: by_name(modes, &count, init ? "kernel32-early" : "kernel32"); break;
        case IMAGE_PROGRAM: by_name(modes, &count, "user32"); break;
        }
    return count;
}

unsigned mode_seldom(const struct image *m, bool patched, uint32_t modes[MODES_MOST])
{
    unsigned count = 0;
    if (m->bits == 64)
        by_name(modes, &count, patched ? "kernel" : "kernel-start");
    else if (patched)
        by_name(modes, &count, "kernel32");
    return count;
}
