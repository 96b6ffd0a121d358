/* Files that lie, as `tierce-cache build` reads them: ELF files with all their tables, initial RAM disks, bzImages, compressed streams; and discovery and regions
 * over what comes out.  Nothing may be read outside of the file, and each failure has one line.
 * Input: byte 0 says what it is taken for; the rest is the file. */
#include "runtime/cache.h"
#include "tools/tierce-cache/discover.h"
#include <stdlib.h>
#include <string.h>

enum { MOST = 4 << 20 };

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void must_say(const struct failure *f) { must(*f->text && !strchr(f->text, '\n')); }

static bool take_region(void *ctx, const struct recipe *r, uint64_t weight, unsigned insns, unsigned bytes)
{
    unsigned *count = ctx;
    must(r->block_count && !r->blocks[0].pc && weight && insns && bytes);
    for (unsigned n = 0; n < r->block_count; n++) {
        const struct recipe_block *b = &r->blocks[n];
        uint8_t copy[4096 + 16];
        must(b->size && b->size <= sizeof copy && b->page_offset < 4096);
        memcpy(copy, b->bytes, b->size); /* under AddressSanitizer: they are there */
        for (unsigned t = 0; t < b->target_count; t++)
            must(b->targets[t].block < r->block_count);
    }
    return ++*count < 200;
}

static void look_into(struct image *m, uint32_t mode)
{
    static const struct x86_model *model;
    const struct region_limits limits = {.blocks = 96, .insns = 400, .stretch = 60, .least = 1};
    struct discovery d;
    struct failure f = {""};
    char error[200];
    unsigned count = 0;
    if (!model)
        must((model = x86_model_find("x86-64-v2", error, sizeof error)));
    if (kernel_is(m))
        kernel_patch_tracer(m), kernel_patch(m, model);
    if (!discover(&d, m, model, mode, NULL, NULL, &f) || !discovery_regions(&d, &limits, take_region, &count, &f))
        must_say(&f);
    discovery_free(&d);
}

static void take_elf(const uint8_t *bytes, size_t size)
{
    struct image m;
    struct failure f = {""};
    if (!image_elf(&m, "input", bytes, size, &f)) {
        must_say(&f);
        return;
    }
    look_into(&m, m.bits == 64 ? 0x23ff309b : 0x23ef30d7);
    image_free(&m);
}

static bool take_member(void *ctx, const char *name, const uint8_t *bytes, size_t size)
{
    unsigned *count = ctx;
    must(strlen(name) < 4096);
    if (size && ++*count < 4)
        take_elf(bytes, size);
    return *count < 64;
}

static void take_bzimage(const uint8_t *bytes, size_t size)
{
    struct bzimage b;
    struct image m;
    struct failure f = {""};
    if (!unpack_is_bzimage(bytes, size))
        return;
    if (!unpack_bzimage(bytes, size, MOST, &b, &f)) {
        must_say(&f);
        return;
    }
    if (image_stub(&m, "stub", &b, &f)) {
        look_into(&m, 0x93ff0098);
        image_free(&m);
    }
    take_elf(b.kernel, b.kernel_size);
    free(b.kernel);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct failure f = {""};
    unsigned count = 0;
    if (!size)
        return 0;
    const uint8_t *file = bytes + 1;
    switch (bytes[0] % 3) {
    case 0: take_elf(file, size - 1); break;
    case 1:
        if (!unpack_initrd(file, size - 1, MOST, take_member, &count, &f))
            must_say(&f);
        break;
    case 2: take_bzimage(file, size - 1); break;
    }
    return 0;
}
