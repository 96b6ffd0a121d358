/* Images: parts, entries and functions, and how they are found again by address. */
#include "tools/tierce-cache/image.h"
#include <stdlib.h>
#include <string.h>
#include <stdio.h>

void image_free(struct image *m)
{
    for (size_t n = 0; n < m->part_count; n++)
        free(m->parts[n].bytes);
    free(m->parts);
    free(m->entries);
    free(m->functions);
    *m = (struct image){0};
}

bool image_add_part(struct image *m, uint64_t pc, const uint8_t *bytes, size_t size, bool code, const char *name, struct failure *f)
{
    if (!size || pc + size < pc)
        return true;
    uint8_t *copy = malloc(size);
    if (!copy || !grown((void **)&m->parts, &m->part_room, m->part_count, sizeof *m->parts)) {
        free(copy);
        return fail(f, "out of memory");
    }
    memcpy(copy, bytes, size);
    struct part *p = &m->parts[m->part_count++];
    *p = (struct part){.pc = pc, .bytes = copy, .size = size, .code = code};
    snprintf(p->name, sizeof p->name, "%s", name);
    return true;
}

bool image_add_entry(struct image *m, uint64_t pc, struct failure *f)
{
    if (!grown((void **)&m->entries, &m->entry_room, m->entry_count, sizeof *m->entries))
        return fail(f, "out of memory");
    m->entries[m->entry_count++] = pc;
    return true;
}

bool image_add_function(struct image *m, uint64_t from, uint64_t to, struct failure *f)
{
    if (from >= to)
        return true;
    if (!grown((void **)&m->functions, &m->function_room, m->function_count, sizeof *m->functions))
        return fail(f, "out of memory");
    m->functions[m->function_count++] = (struct span){from, to};
    return true;
}

static int by_pc(const void *a, const void *b)
{
    const struct part *x = a, *y = b;
    return (x->pc > y->pc) - (x->pc < y->pc);
}
static int by_number(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}
static int by_from(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    return x->from != y->from ? (x->from > y->from ? 1 : -1) : (x->to > y->to) - (x->to < y->to);
}

/* What overlaps an earlier one goes: a hostile file's, or one that is not loaded. */
static void separate(struct image *m)
{
    size_t kept = 0;
    if (m->part_count)
        qsort(m->parts, m->part_count, sizeof *m->parts, by_pc);
    for (size_t n = 0; n < m->part_count; n++) {
        if (kept && m->parts[n].pc - m->parts[kept - 1].pc < m->parts[kept - 1].size)
            free(m->parts[n].bytes);
        else
            m->parts[kept++] = m->parts[n];
    }
    m->part_count = kept;
}

bool image_finish(struct image *m, struct failure *f)
{
    size_t kept = 0;
    bool code = false;
    separate(m);
    for (size_t n = 0; n < m->part_count; n++)
        code |= m->parts[n].code;
    if (!code)
        return fail(f, "has no code");
    if (m->entry_count)
        qsort(m->entries, m->entry_count, sizeof *m->entries, by_number);
    for (size_t n = 0; n < m->entry_count; n++)
        if ((!kept || m->entries[kept - 1] != m->entries[n]) && image_code(m, m->entries[n], 1))
            m->entries[kept++] = m->entries[n];
    m->entry_count = kept;
    if (m->function_count)
        qsort(m->functions, m->function_count, sizeof *m->functions, by_from);
    return true;
}

struct part *image_part(const struct image *m, const char *name)
{
    for (size_t n = 0; n < m->part_count; n++)
        if (!strcmp(m->parts[n].name, name))
            return &m->parts[n];
    return NULL;
}

const struct part *image_at(const struct image *m, uint64_t pc)
{
    size_t low = 0, high = m->part_count;
    while (low < high) { /* those before `low` begin at it or before */
        size_t middle = low + (high - low) / 2;
        if (m->parts[middle].pc <= pc)
            low = middle + 1;
        else
            high = middle;
    }
    return low && pc - m->parts[low - 1].pc < m->parts[low - 1].size ? &m->parts[low - 1] : NULL;
}

const uint8_t *image_code(const struct image *m, uint64_t pc, size_t size)
{
    const struct part *p = image_at(m, pc);
    return p && p->code && size <= p->size - (pc - p->pc) ? p->bytes + (pc - p->pc) : NULL;
}

const struct span *image_function(const struct image *m, uint64_t pc)
{
    size_t low = 0, high = m->function_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (m->functions[middle].from <= pc)
            low = middle + 1;
        else
            high = middle;
    }
    return low && pc < m->functions[low - 1].to ? &m->functions[low - 1] : NULL;
}
