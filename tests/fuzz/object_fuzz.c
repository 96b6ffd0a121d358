/* Objects of regions that lie, and inputs of object_link that do.  What object_open accepts must be what it promises; what
 * object_link makes must be accepted, and the same when it is made again.
 * Input: a byte, odd to open, even to link; the rest is the file.  Lines are left to libdw, so files with them are only opened. */
#define _GNU_SOURCE
#include "backend-llvm/object.h"
#include <stdlib.h>
#include <string.h>

static void must(int ok)
{
    if (!ok)
        abort();
}

static void must_say(const char *error) { must(*error && !strchr(error, '\n')); }

/* All of it is read, for a sanitizer to see. */
static void check_view(const struct object_view *v)
{
    const struct object_meta *m = &v->meta;
    uint64_t sum = object_hash(v->text, v->text_size) + object_hash(m->recipe, m->recipe_size);
    must(m->recipe_size <= OBJECT_MAX_RECIPE);
    must(m->entry < v->text_size && *m->name && strlen(m->name) <= OBJECT_MAX_NAME);
    for (unsigned i = 0; i < m->range_count; i++)
        must(m->ranges[i].size && m->ranges[i].size <= OBJECT_MAX_RANGE_SIZE);
    for (unsigned i = 0; i < m->exit_count; i++)
        sum += (uint64_t)m->exits[i].pc + m->exits[i].cause;
    for (unsigned i = 0; i < m->line_count; i++)
        must(m->lines[i].host < v->text_size && (!i || m->lines[i].host > m->lines[i - 1].host));
    __asm__ volatile("" : : "r"(sum));
}

static int open_object(const uint8_t *bytes, size_t size)
{
    struct object_view v;
    char error[256] = "";
    int ok = object_open(bytes, size, &v, error, sizeof error);
    if (ok)
        check_view(&v);
    else
        must_say(error);
    object_close(&v);
    return ok;
}

static void link_object(const uint8_t *bytes, size_t size)
{
    static const struct object_range range = {-16, 12, 3};
    static const struct object_exit leave = {4, 1};
    const struct object_meta meta = {.name = "region", .ranges = &range, .range_count = 1, .exits = &leave, .exit_count = 1,
                                     .recipe = bytes, .recipe_size = size & 1 ? size : 0};
    uint8_t *out, *again;
    size_t out_size, again_size;
    char error[256] = "";
    if (!object_link(bytes, size, &meta, &out, &out_size, error, sizeof error)) {
        must_say(error);
        return;
    }
    must(open_object(out, out_size));
    must(object_link(bytes, size, &meta, &again, &again_size, error, sizeof error));
    must(out_size == again_size && !memcmp(out, again, out_size));
    free(out);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (!size)
        return 0;
    if (bytes[0] & 1 || memmem(bytes, size, "debug_line", 10))
        open_object(bytes + 1, size - 1);
    else
        link_object(bytes + 1, size - 1);
    return 0;
}
