/* Kernels that lie: any bytes as the file of -kernel, with any initrd size, command line length, RAM size and CPU.  The
 * loaders must neither read behind the file nor write outside RAM, and what they accept must point into RAM.
 * Input: byte 0 CPU and RAM, byte 1 initrd pages, byte 2 command line length / 16; the rest is the file. */
#include "hw/hw.h"
#include <stdlib.h>
#include <string.h>

enum { SMALL = 2 << 20, LARGE = 18 << 20, HEAD = 3 };

static uint8_t *ram_of(size_t size)
{
    static uint8_t *small, *large; /* made once: clearing 18 MiB an input is too slow */
    uint8_t **ram = size == SMALL ? &small : &large;
    if (!*ram && !(*ram = calloc(1, size)))
        abort();
    return *ram;
}

static void must(int ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static uint8_t initrd[255 * 4096];
    char cmdline[256 * 16], error[256] = "";
    struct boot_entry entry = {0};
    if (size < HEAD)
        return 0;
    size_t ram_size = bytes[0] & 2 ? LARGE : SMALL, length = bytes[2] * 16u;
    memset(cmdline, 'x', length);
    cmdline[length] = 0;
    struct pc_config config = {
        .ram_size = ram_size, .ram = ram_of(ram_size), .kernel = {bytes + HEAD, size - HEAD},
        .initrd = {initrd, bytes[1] * 4096u}, .cmdline = cmdline};
    if (bytes[0] & 1)
        entry.protocol = BOOT_LINUX32;
    if (!boot_load(&config, &entry, error, sizeof error)) {
        must(*error && !strchr(error, '\n'));
        return 0;
    }
    must(entry.entry < ram_size && entry.gdt + entry.gdt_limit < ram_size && entry.stack < ram_size);
    must(entry.zero_page < ram_size && entry.page_table < ram_size);
    must(!(bytes[0] & 1) || entry.protocol != BOOT_LINUX64);
    return 0;
}
