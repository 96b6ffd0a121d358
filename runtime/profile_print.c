/* The profile as text: each recording's hot loop, its blocks with the ways between them, and the paths from function to function. */
#include "runtime/job.h"
#include <inttypes.h>
#include <stdlib.h>

enum { MOST_PATHS = 32 };
struct row { const struct profile_loop *loop; bool installed; uint64_t entries; };

static int by_weight(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    uint64_t p = x->entries ? x->entries : x->loop->places[0].count, q = y->entries ? y->entries : y->loop->places[0].count;
    return p > q ? -1 : p < q ? 1 : x->loop->pc < y->loop->pc ? -1 : x->loop->pc > y->loop->pc;
}

/* The address, and behind it the name that the guest has for it, if any. */
static void print_place(const struct vcpu *v, uint64_t linear, FILE *f)
{
    char name[256];
    uint64_t offset;
    fprintf(f, "%" PRIx64, linear);
    if (!symbols_find(v->machine->symbols, linear, &offset))
        return;
    symbols_print(v->machine->symbols, linear, name, sizeof name);
    fprintf(f, " %s", name);
}

static void print_places(const struct vcpu *v, const struct profile_loop *l, FILE *f)
{
    for (unsigned n = 0; n < l->place_count; n++) {
        const struct profile_place *p = &l->places[n];
        fprintf(f, "  %8" PRIu64 " x %3u  ", p->count, p->insns);
        print_place(v, p->linear, f);
        for (unsigned e = 0; e < p->edge_count; e++) {
            fprintf(f, "%s %" PRIu32 " x ", e ? "," : "  ->", p->edges[e].count);
            print_place(v, l->places[p->edges[e].to].linear, f);
        }
        fprintf(f, "%s%s\n", p->refused ? "  not in regions: " : "", p->refused ? p->refused : "");
    }
}

/* Between functions, where names tell them apart. */
struct path { const char *from, *to; uint64_t count; };
static void path_add(struct path *paths, unsigned *count, const char *from, const char *to, uint64_t by)
{
    unsigned n = 0;
    while (n < *count && (paths[n].from != from || paths[n].to != to))
        n++;
    if (n == MOST_PATHS)
        return;
    if (n == *count)
        paths[(*count)++] = (struct path){from, to, 0};
    paths[n].count += by;
}

static void print_paths(const struct vcpu *v, const struct profile_loop *l, FILE *f)
{
    struct path paths[MOST_PATHS];
    unsigned count = 0;
    uint64_t offset;
    for (unsigned n = 0; n < l->place_count; n++) {
        const struct profile_place *p = &l->places[n];
        const char *from = symbols_find(v->machine->symbols, p->linear, &offset);
        for (unsigned e = 0; e < p->edge_count; e++) {
            const char *to = symbols_find(v->machine->symbols, l->places[p->edges[e].to].linear, &offset);
            if (from && to && from != to)
                path_add(paths, &count, from, to, p->edges[e].count);
        }
    }
    for (unsigned n = 0; n < count; n++)
        fprintf(f, "  path %s -> %s: %" PRIu64 "\n", paths[n].from, paths[n].to, paths[n].count);
}

static void print_loop(const struct vcpu *v, const struct row *r, FILE *f)
{
    const struct profile_loop *l = r->loop;
    unsigned insns = 0;
    for (unsigned n = 0; n < l->place_count; n++)
        insns += l->places[n].insns;
    print_place(v, l->places[0].linear, f);
    fprintf(f, ": %u blocks, %u instructions; recorded %u time%s, the last over %u instructions; ", l->place_count, insns, l->times, l->times == 1 ? "" : "s", l->insns);
    if (r->installed)
        fprintf(f, "its region was entered %" PRIu64 " times\n", r->entries);
    else
        fprintf(f, "no region now\n");
    print_places(v, l, f);
    print_paths(v, l, f);
}

void profile_print(struct vcpu *v, FILE *f)
{
    unsigned count = v->regions.loop_count;
    struct row *rows = calloc(count + 1, sizeof *rows);
    if (!count || !rows)
        fprintf(f, "nothing was hot enough to be recorded\n");
    for (unsigned n = 0; rows && n < count; n++) {
        const struct profile_loop *l = rows[n].loop = v->regions.loops[n];
        rows[n].installed = region_entered(v, l->phys, l->pc, l->mode, &rows[n].entries);
    }
    if (rows)
        qsort(rows, count, sizeof *rows, by_weight);
    for (unsigned n = 0; rows && n < count; n++)
        print_loop(v, &rows[n], f);
    free(rows);
}
