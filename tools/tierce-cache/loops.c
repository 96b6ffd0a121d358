/* Loops: strongly connected blocks of a function.  Without the block that a loop begins at, what is left of it has the loops inside; so round by
 * round.  Backward jumps alone tell nothing: compilers put what is rare behind a function's end, and jump back from there. */
#include "tools/tierce-cache/discover.h"
#include <stdlib.h>
#include <string.h>

enum { NOT_SEEN = 0, NONE = UINT32_MAX };
struct node { uint32_t number, low, group /* loop of the round before that it is in; NONE: none, or it is taken out */, next_group, edge; bool on_stack; };
struct search { struct discovery *d; struct node *nodes; uint32_t *stack, *path; size_t stack_count, path_count; uint32_t counter, groups; };

/* The nth block that it leads to inside of its function: its edges, then what is behind it.  False: there are no more. */
static bool successor(const struct search *s, uint32_t block, uint32_t nth, long *to)
{
    const struct found_block *b = &s->d->blocks[block];
    bool comes_back = b->end == END_CALL || b->end == END_CALL_COMPUTED || b->end == END_SYSTEM;
    uint32_t edges = b->end == END_CALL ? 0 : b->edge_count;
    if (nth >= edges + comes_back)
        return false;
    *to = discovery_find(s->d, nth < edges ? s->d->edges[b->edge + nth] : b->pc + b->size);
    if (*to >= 0 && (s->d->blocks[*to].function != b->function || s->nodes[*to].group != s->nodes[block].group))
        *to = NO_BLOCK;
    return true;
}

static bool leads_to_itself(const struct search *s, uint32_t block)
{
    long to;
    for (uint32_t n = 0; successor(s, block, n, &to); n++)
        if (to == (long)block)
            return true;
    return false;
}

/* Takes a component off the stack.  One that is a loop gets a number, and its first block is taken out. */
static void component(struct search *s, uint32_t root)
{
    size_t from = s->stack_count;
    uint32_t first = NONE;
    do {
        uint32_t block = s->stack[--from];
        s->nodes[block].on_stack = false;
        if (block < first)
            first = block;
    } while (s->stack[from] != root);
    bool loop = s->stack_count - from > 1 || leads_to_itself(s, root);
    uint32_t group = loop ? s->groups++ : NONE;
    s->d->blocks[first].starts_loop |= loop;
    for (size_t n = from; n < s->stack_count; n++) {
        struct found_block *b = &s->d->blocks[s->stack[n]];
        s->nodes[s->stack[n]].next_group = s->stack[n] == first ? NONE : group;
        if (loop)
            b->depth++;
    }
    s->stack_count = from;
}

static void enter(struct search *s, uint32_t block)
{
    struct node *n = &s->nodes[block];
    n->number = n->low = ++s->counter;
    n->edge = 0;
    n->on_stack = true;
    s->stack[s->stack_count++] = block;
    s->path[s->path_count++] = block;
}

/* Tarjan's algorithm, with a path of its own instead of recursion: functions may be as long as a hostile file likes. */
static void search_from(struct search *s, uint32_t start)
{
    enter(s, start);
    while (s->path_count) {
        uint32_t block = s->path[s->path_count - 1];
        struct node *n = &s->nodes[block];
        long to;
        if (successor(s, block, n->edge, &to)) {
            n->edge++;
            if (to >= 0 && s->nodes[to].number == NOT_SEEN)
                enter(s, (uint32_t)to);
            else if (to >= 0 && s->nodes[to].on_stack && s->nodes[to].number < n->low)
                n->low = s->nodes[to].number;
            continue;
        }
        s->path_count--;
        if (s->path_count && n->low < s->nodes[s->path[s->path_count - 1]].low)
            s->nodes[s->path[s->path_count - 1]].low = n->low;
        if (n->low == n->number)
            component(s, block);
    }
}

bool discovery_loops(struct discovery *d)
{
    size_t count = d->count + 1;
    struct search s = {.d = d, .nodes = calloc(count, sizeof *s.nodes), .stack = malloc(count * sizeof *s.stack), .path = malloc(count * sizeof *s.path)};
    bool ok = s.nodes && s.stack && s.path;
    for (unsigned depth = 0; ok && depth < MAX_DEPTH; depth++) {
        uint32_t before = s.groups;
        s.counter = 0;
        for (size_t n = 0; n < d->count; n++)
            s.nodes[n].number = NOT_SEEN;
        for (uint32_t n = 0; n < d->count; n++)
            if (s.nodes[n].group != NONE && s.nodes[n].number == NOT_SEEN)
                search_from(&s, n);
        for (size_t n = 0; n < d->count; n++)
            s.nodes[n].group = s.nodes[n].group == NONE ? NONE : s.nodes[n].next_group;
        if (s.groups == before)
            break;
    }
    free(s.nodes);
    free(s.stack);
    free(s.path);
    return ok;
}
