/* The store as commands see it, and how keys, sizes and times are written. */
#include "tools/tierce-cache/tool.h"
#include "tools/common/cache_path.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void size_text(uint64_t bytes, char to[16])
{
    static const char units[] = "KMGT";
    double v = (double)bytes;
    unsigned u = 0;
    if (bytes < 1024) {
        snprintf(to, 16, "%" PRIu64, bytes);
        return;
    }
    for (v /= 1024; v >= 1024 && u < 3; u++)
        v /= 1024;
    snprintf(to, 16, "%.1f%ciB", v, units[u]);
}

const struct x86_model *model_of(const struct options *o)
{
    char error[200];
    const struct x86_model *model = x86_model_find(o->cpu ? o->cpu : "x86-64-v2", error, sizeof error);
    if (!model)
        die(2, "%s", error);
    return model;
}

const char *store_path(const struct options *o)
{
    static char path[4096];
    if (o->cache)
        return o->cache;
    if (!cache_path_default(path, sizeof path))
        die(2, "there is no default for --cache: $TIERCE_CACHE says off, or neither $XDG_CACHE_HOME nor $HOME is a path; accepted is --cache DIR");
    return path;
}

static void warn(void *ctx, const char *line)
{
    (void)ctx;
    fprintf(stderr, "%s: %s\n", tool_name, line);
}

struct store *store_get_open(const struct options *o, enum access access)
{
    char error[300];
    const struct store_options how = {.path = store_path(o), .layers = o->layers, .layer_count = o->layer_count, .read_only = access == READ_ONLY, .compress = o->compress, .remote = o->remote,
                                      .max_bytes = o->has_max ? o->max_bytes : UINT64_MAX, .warn = warn};
    struct store *s = store_open(&how, error, sizeof error);
    if (!s)
        die(1, "%s", error);
    return s;
}

void key_text(const struct store_key *k, char to[KEY_TEXT])
{
    snprintf(to, KEY_TEXT, "%016" PRIx64 "%016" PRIx64 "%016" PRIx64 "%016" PRIx64, k->head[0], k->head[1], k->whole[0], k->whole[1]);
}

void check_prefix(const char *prefix)
{
    size_t n = strlen(prefix);
    if (n > KEY_TEXT - 1 || strspn(prefix, "0123456789abcdef") != n)
        die(2, "'%.80s' is no key; accepted are up to 64 hexadecimal digits, as `%s list` prints them", prefix, tool_name);
}

struct gathered { struct store_entry *at; size_t count, room; const char *prefix; };
static bool gather(void *ctx, const struct store_entry *e)
{
    struct gathered *g = ctx;
    char key[KEY_TEXT];
    key_text(&e->key, key);
    if (strncmp(key, g->prefix, strlen(g->prefix)))
        return true;
    checked(grown((void **)&g->at, &g->room, g->count, sizeof *g->at));
    g->at[g->count++] = *e;
    return true;
}

static int by_key(const void *a, const void *b)
{
    const struct store_entry *x = a, *y = b;
    char one[KEY_TEXT], two[KEY_TEXT];
    key_text(&x->key, one);
    key_text(&y->key, two);
    int order = strcmp(one, two);
    return order ? order : (x->layer > y->layer) - (x->layer < y->layer);
}

struct store_entry *entries_of(struct store *s, const char *prefix, bool with_layers, size_t *count)
{
    struct gathered g = {.prefix = prefix};
    check_prefix(prefix);
    store_each(s, with_layers, gather, &g);
    if (g.count)
        qsort(g.at, g.count, sizeof *g.at, by_key);
    *count = g.count;
    return g.at;
}

bool object_of(struct store *s, const struct store_entry *e, struct store_object *o, struct object_view *view, char *error, size_t size)
{
    if (!store_get_key(s, &e->key, o)) {
        snprintf(error, size, "it is damaged, or gone meanwhile");
        return false;
    }
    if (object_open(o->data, o->size, view, error, size))
        return true;
    store_release(o);
    return false;
}
