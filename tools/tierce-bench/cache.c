/* --cache: what the translation cache's store costs.  A store of 100,000 objects, slices of this program's own code of some KiB as regions'
 * objects are, is made for the run and goes with it; each round opens it anew.  Its files are in the page cache, as they are
 * after any use. */
#define _GNU_SOURCE
#include "tools/tierce-bench/bench.h"
#include "runtime/store.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { OBJECTS = 100000, PACKED_OBJECTS = 10000, GETS = 20000, SIZE_MIN = 1024, SIZE_RANGE = 4096 };
struct code { uint8_t *bytes; size_t size; };

static uint32_t next(uint32_t *x) { return *x ^= *x << 13, *x ^= *x >> 17, *x ^= *x << 5; }
static struct store_key key_of(uint32_t n) { return (struct store_key){{n * 0x9e3779b97f4a7c15ull, n}, {n, 1}}; }
static void warn(void *ctx, const char *line) { (void)ctx, complain("%s", line); }

static struct cache_row *row(struct bench *b, const char *name, const char *unit, double wanted)
{
    for (unsigned n = 0; n < b->cache_row_count; n++)
        if (!strcmp(b->cache_rows[n].name, name))
            return &b->cache_rows[n];
    if (b->cache_row_count == MAX_CACHE_ROWS)
        die(1, "cache_rows: too few for %s", name);
    b->cache_rows[b->cache_row_count] = (struct cache_row){.name = name, .unit = unit, .wanted = wanted};
    return &b->cache_rows[b->cache_row_count++];
}

void cache_row_add(struct bench *b, const char *name, const char *unit, double wanted, double value)
{
    struct cache_row *r = row(b, name, unit, wanted);
    if (r->count < MAX_ROUNDS)
        r->values[r->count++] = value;
}

static struct code own_code(void)
{
    struct code c = {.bytes = malloc(16 << 20)};
    FILE *f = fopen("/proc/self/exe", "rb");
    if (!f || !c.bytes)
        die(1, "/proc/self/exe: %s", strerror(errno));
    c.size = fread(c.bytes, 1, 16 << 20, f);
    fclose(f);
    if (c.size < SIZE_MIN + SIZE_RANGE)
        die(1, "/proc/self/exe: too short");
    return c;
}

static struct store *open_store(const char *path, bool compress, double *ns)
{
    char error[512] = "";
    double from = now_ns();
    struct store *s = store_open(&(struct store_options){.path = path, .compress = compress, .warn = warn, .max_bytes = (uint64_t)8 << 30}, error, sizeof error);
    *ns = now_ns() - from;
    if (!s)
        die(1, "%s", error);
    return s;
}

static void fill(const char *path, const struct code *c, unsigned objects, bool compress)
{
    double ns;
    uint32_t random = 2463534242u;
    struct store *s = open_store(path, compress, &ns);
    for (unsigned n = 0; n < objects; n++) {
        struct store_key key = key_of(n);
        size_t size = SIZE_MIN + next(&random) % SIZE_RANGE, at = next(&random) % (c->size - size);
        if (n % 4000 == 3999) {
            progress("cache: %u of %u objects", n + 1, objects);
            if (!store_flush(s))
                die(1, "%s: cannot be written", path);
        }
        if (!store_put(s, &key, c->bytes + at, size))
            die(1, "%s: cannot be written", path);
    }
    store_flush(s);
    store_gc(s);
    store_close(s);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

struct cost { double median, worst /* of a hundred */; };
/* Of a lookup, with the object in memory at its end; in microseconds. */
static struct cost cost_of_gets(struct store *s, unsigned first, unsigned objects, bool present)
{
    double *ns = calloc(GETS, sizeof *ns);
    uint32_t random = 88172645;
    if (!ns)
        die(1, "out of memory");
    for (unsigned n = 0; n < GETS; n++) {
        struct store_key key = key_of(first + next(&random) % objects);
        struct store_object o;
        double from = now_ns();
        bool got = store_get(s, key.head, 0, &o, NULL);
        ns[n] = now_ns() - from;
        if (got != present)
            die(1, "cache: an object is %s", got ? "there that was never put" : "lost");
        store_release(&o);
    }
    qsort(ns, GETS, sizeof *ns, by_value);
    struct cost c = {ns[GETS / 2] / 1e3, ns[GETS * 99 / 100] / 1e3};
    free(ns);
    return c;
}

static void measure_store(struct bench *b, const char *path, unsigned objects, bool compressed)
{
    double ns;
    struct store_counts counts;
    struct store *s = open_store(path, false, &ns);
    struct cost hit = cost_of_gets(s, 0, objects, true);
    store_count(s, &counts);
    if (compressed) {
        cache_row_add(b, "lookup and load, zlib", "us", NAN, hit.median);
        cache_row_add(b, "stored size, zlib", "%", NAN, 100.0 * (double)counts.stored_bytes / (double)counts.bytes);
    } else {
        struct cost miss = cost_of_gets(s, OBJECTS, OBJECTS, false);
        cache_row_add(b, "open 100,000 objects", "ms", 10, ns / 1e6);
        cache_row_add(b, "lookup and load", "us", 20, hit.median);
        cache_row_add(b, "lookup and load, worst 1 %", "us", NAN, hit.worst);
        cache_row_add(b, "lookup of what is not there", "us", NAN, miss.median);
        if (counts.objects != OBJECTS)
            die(1, "cache: %lu objects are there, not %u", counts.objects, OBJECTS);
    }
    store_close(s);
}

void measure_cache(struct bench *b)
{
    char plain[600], packed[600];
    struct code c = own_code();
    snprintf(plain, sizeof plain, "%s/plain", scratch(b));
    snprintf(packed, sizeof packed, "%s/packed", scratch(b));
    fill(plain, &c, OBJECTS, false);
    fill(packed, &c, PACKED_OBJECTS, true);
    for (unsigned r = 0; r < b->rounds; r++) {
        progress("cache: round %u", r + 1);
        measure_store(b, plain, OBJECTS, false);
        measure_store(b, packed, PACKED_OBJECTS, true);
    }
    free(c.bytes);
}
