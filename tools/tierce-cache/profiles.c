/* Recipes from what runs recorded: profiles lie in the store as named files. */
#include "tools/tierce-cache/tool.h"
#include <stdlib.h>
#include <string.h>

static const char prefix[] = "profile";

struct reading { struct items *to; struct store *store; const struct options *o; const struct x86_model *model; const uint64_t *translator; unsigned count; };

static bool take(void *ctx, const struct recipe *r)
{
    struct reading *g = ctx;
    unsigned bytes = 0;
    uint64_t weight = 0;
    for (unsigned n = 0; n < r->block_count; n++) {
        bytes += r->blocks[n].size;
        weight += r->blocks[n].count;
    }
    items_add(g->to, g->translator, r, weight, bytes / 4 /* about; the compiler counts them */, bytes);
    return true;
}

static bool read_one(void *ctx, const struct store_file *f)
{
    struct reading *g = ctx;
    const char *name = f->name;
    uint8_t *data;
    size_t size;
    char error[200];
    if (strncmp(name, prefix, sizeof prefix - 1) || !store_file_get(g->store, name, &data, &size))
        return true;
    struct profile *p = profile_read(data, size, error, sizeof error);
    free(data);
    if (!p) {
        fprintf(stderr, "%s: profile '%s' is passed over: %s\n", tool_name, name, error);
        return true;
    }
    g->count++;
    if (!profile_recipes(g->model, p, g->o->runs, take, g))
        die(1, "profile '%s': out of memory", name);
    free(p);
    return true;
}

unsigned profiles_collect(struct items *to, struct store *store, const struct options *o, const struct x86_model *model, const uint64_t translator[2])
{
    struct reading g = {.to = to, .store = store, .o = o, .model = model, .translator = translator};
    store_file_each(store, read_one, &g);
    return g.count;
}
