/* Profiles that lie: what profile_read accepts is written as the same bytes again, and regions can be formed of it. */
#include "runtime/cache.h"
#include "frontend/frontend.h"
#include <stdlib.h>
#include <string.h>

static void must(int ok)
{
    if (!ok)
        abort();
}

/* Each is a recipe that reads back. */
static bool take(void *ctx, const struct recipe *r)
{
    unsigned *left = ctx;
    uint8_t *out;
    size_t size;
    char error[200];
    must(recipe_write(r, &out, &size));
    struct recipe *again = recipe_read(out, size, error, sizeof error);
    if (!again) /* blocks of segments that begin within a page may not lie together */
        must(*error && !strchr(error, '\n'));
    free(again);
    free(out);
    return --*left;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const struct x86_model *model;
    char error[256] = "";
    if (!model)
        must((model = x86_model_find("x86-64-v2", error, sizeof error)) != NULL);
    struct profile *p = profile_read(bytes, size, error, sizeof error);
    if (!p) {
        must(*error && !strchr(error, '\n'));
        return 0;
    }
    uint8_t *out;
    size_t out_size;
    unsigned left = 200;
    must(profile_write(p, &out, &out_size));
    if (!p->recipe_count) /* their names may have been cut short */
        must(out_size == size && !memcmp(out, bytes, size));
    must(profile_recipes(model, p, 2, take, &left));
    free(out);
    free(p);
    return 0;
}
