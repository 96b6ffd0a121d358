/* Recipes of regions that lie: what recipe_read accepts is written as the same bytes again, and lies inside. */
#include "runtime/cache.h"
#include <stdlib.h>
#include <string.h>

static void must(int ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const uint64_t translator[2] = {1, 2};
    char error[256] = "";
    struct recipe *r = recipe_read(bytes, size, error, sizeof error);
    if (!r) {
        must(*error && !strchr(error, '\n'));
        return 0;
    }
    uint8_t *out;
    size_t out_size;
    struct store_key key;
    must(recipe_write(r, &out, &out_size));
    must(out_size <= size && !memcmp(out, bytes, out_size)); /* shorter: its name had a 0 in the middle */
    cache_key(translator, r, &key);
    for (unsigned n = 0; n < r->block_count; n++) {
        uint8_t *room = malloc(r->blocks[n].size);
        must(r->blocks[n].size && r->blocks[n].page_offset < 4096 && r->blocks[n].target_count <= 8);
        recipe_block_moved(&r->blocks[n], 0xffffffff81000000, room); /* under AddressSanitizer: its relocations lie inside */
        free(room);
    }
    free(out);
    free(r);
    return 0;
}
