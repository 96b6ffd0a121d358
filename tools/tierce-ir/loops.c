/* Which instructions of host code are in a loop: by direct jumps alone.  In code that has one, the rest is cold - entry, side
 * exits and ways out; in code without, nothing is. */
#include "tools/tierce-ir/work.h"
#include <stdlib.h>
#include <string.h>

enum { NONE = UINT32_MAX };
struct flow {
    struct line *at; uint32_t count;
    uint32_t (*next)[2];                /* of each instruction: up to two that may follow */
    uint32_t *first_before, *before;    /* its predecessors are before[first_before[n]..first_before[n + 1]) */
    uint8_t *seen; uint32_t *todo;
};
enum { FORWARD = 1, BACKWARD = 2 };

static uint32_t find(const struct flow *f, uint64_t offset)
{
    uint32_t low = 0, high = f->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (f->at[middle].offset < offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low < f->count && f->at[low].offset == offset ? low : NONE;
}

static void find_next(struct flow *f, uint32_t n)
{
    const char *text = f->at[n].text, *target = strchr(text, ' ');
    bool jumps = *text == 'j', always = !strncmp(text, "jmp ", 4);
    bool ends = always || !strncmp(text, "ret", 3) || !strcmp(text, "ud2") || !strcmp(text, "int3");
    f->next[n][0] = ends || n + 1 == f->count ? NONE : n + 1;
    f->next[n][1] = jumps && target && !strncmp(target, " 0x", 3) ? find(f, strtoull(target + 1, NULL, 16)) : NONE;
}

/* first_before[n + 1] counts the predecessors of n, then is their end, and after the filling their start. */
static void find_before(struct flow *f)
{
    uint32_t *end = f->first_before + 1;
    for (uint32_t n = 0; n < f->count; n++)
        for (unsigned k = 0; k < 2; k++)
            if (f->next[n][k] != NONE)
                end[f->next[n][k]]++;
    for (uint32_t n = 0; n < f->count; n++)
        end[n] += f->first_before[n];
    uint32_t edges = end[f->count - 1];
    for (uint32_t n = 0; n < f->count; n++)
        for (unsigned k = 0; k < 2; k++)
            if (f->next[n][k] != NONE)
                f->before[--end[f->next[n][k]]] = n;
    memmove(f->first_before, end, f->count * sizeof *end);
    f->first_before[f->count] = edges;
}

/* Marks what can be reached from n, or from where n can be reached. */
static void reach(struct flow *f, uint32_t n, uint8_t way)
{
    uint32_t todo = 0;
    f->todo[todo++] = n;
    f->seen[n] |= way;
    while (todo) {
        n = f->todo[--todo];
        uint32_t from = way == FORWARD ? 0 : f->first_before[n], to = way == FORWARD ? 2 : f->first_before[n + 1];
        for (; from < to; from++) {
            uint32_t other = way == FORWARD ? f->next[n][from] : f->before[from];
            if (other != NONE && !(f->seen[other] & way)) {
                f->seen[other] |= way;
                f->todo[todo++] = other;
            }
        }
    }
}

/* Every loop has a jump back; in it is what the jump's target leads to and what leads to the jump. */
static bool mark(struct flow *f)
{
    bool any = false;
    for (uint32_t n = 0; n < f->count; n++) {
        if (f->next[n][1] == NONE || f->next[n][1] > n)
            continue;
        memset(f->seen, 0, f->count);
        reach(f, f->next[n][1], FORWARD);
        reach(f, n, BACKWARD);
        for (uint32_t i = 0; i < f->count; i++)
            if (f->seen[i] == (FORWARD | BACKWARD)) {
                f->at[i].cold = false;
                any = true;
            }
    }
    return any;
}

void loops_find(struct line *code, uint32_t count)
{
    struct flow f = {.at = code, .count = count};
    if (!f.count)
        return;
    f.next = checked(calloc(f.count, sizeof *f.next));
    f.first_before = checked(calloc(f.count + 1, sizeof *f.first_before));
    f.before = checked(calloc(2 * (size_t)f.count, sizeof *f.before));
    f.seen = checked(calloc(f.count, 1));
    f.todo = checked(calloc(f.count, sizeof *f.todo));
    for (uint32_t n = 0; n < f.count; n++) {
        f.at[n].cold = true;
        find_next(&f, n);
    }
    find_before(&f);
    if (!mark(&f))
        for (uint32_t n = 0; n < f.count; n++)
            f.at[n].cold = false;
    free(f.next);
    free(f.first_before);
    free(f.before);
    free(f.seen);
    free(f.todo);
}
