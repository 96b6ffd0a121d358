/* Which translations depend on which bytes of RAM.  A page with live blocks has no write entry in the softmmu's tables
 * (softmmu_protect), so every store to it comes by tb_written, which finds the blocks of those very bytes: they are
 * listed by the 64-byte chunk that they start in, and one word a page tells the chunks in which live blocks lie. */
#include "runtime/internal.h"
#include <stdlib.h>

#define CHUNK_SHIFT 6
#define CHUNKS 64u

struct code_page {
    struct tb_part *starts[CHUNKS];  /* parts of blocks, live or not, by the chunk of their first byte */
    uint64_t live;                   /* chunks with bytes of live blocks; a bit may stay on for too long, never be off */
    unsigned live_parts, parts;
    unsigned span;                   /* chunks behind its first into which the longest part reaches */
};

static unsigned chunk_of(unsigned offset) { return offset >> CHUNK_SHIFT; }

static uint64_t chunk_mask(unsigned offset, unsigned size)
{
    unsigned first = chunk_of(offset), last = chunk_of(offset + size - 1);
    return (last == CHUNKS - 1 ? ~0ull : (1ull << (last + 1)) - 1) & ~((1ull << first) - 1);
}

bool code_page_live(const struct vcpu *v, uint64_t ram_page)
{
    const struct code_page *p = v->tbs.pages[ram_page];
    return p && p->live_parts;
}

/* --- Lists */
static bool part_add(struct vcpu *v, struct tb_part *part)
{
    struct code_page **at = &v->tbs.pages[part->page], *p = *at;
    if (!p && !(p = *at = calloc(1, sizeof *p)))
        return false;
    unsigned first = chunk_of(part->offset), span = chunk_of(part->offset + part->size - 1u) - first;
    part->next = p->starts[first];
    part->prev = &p->starts[first];
    if (part->next)
        part->next->prev = &part->next;
    p->starts[first] = part;
    p->parts++;
    if (p->span < span)
        p->span = span;
    return true;
}

static void part_remove(struct vcpu *v, struct tb_part *part)
{
    struct code_page **at = &v->tbs.pages[part->page];
    if ((*part->prev = part->next))
        part->next->prev = part->prev;
    if (--(*at)->parts == 0) {
        free(*at);
        *at = NULL;
    }
    part->size = 0;
}

/* Lists a block by the parts that the caller has filled in.  False: out of memory, nothing is listed. */
bool code_pages_add(struct vcpu *v, struct tb *tb)
{
    for (unsigned i = 0; i < 2; i++) {
        tb->parts[i].tb = tb;
        if (tb->parts[i].size && !part_add(v, &tb->parts[i])) {
            tb->parts[i].size = 0;
            code_pages_remove(v, tb);
            return false;
        }
    }
    return true;
}

void code_pages_remove(struct vcpu *v, struct tb *tb)
{
    for (unsigned i = 0; i < 2; i++)
        if (tb->parts[i].size)
            part_remove(v, &tb->parts[i]);
}

/* --- Live or not */
void code_pages_enliven(struct vcpu *v, struct tb *tb)
{
    for (unsigned i = 0; i < 2; i++) {
        const struct tb_part *part = &tb->parts[i];
        if (!part->size)
            continue;
        struct code_page *p = v->tbs.pages[part->page];
        if (p->live_parts++ == 0)
            softmmu_protect(v, part->page);
        p->live |= chunk_mask(part->offset, part->size);
    }
}

void code_pages_deaden(struct vcpu *v, struct tb *tb)
{
    for (unsigned i = 0; i < 2; i++) {
        if (!tb->parts[i].size)
            continue;
        struct code_page *p = v->tbs.pages[tb->parts[i].page];
        if (--p->live_parts == 0)
            p->live = 0;
    }
}

/* --- Stores */
static bool is_running(const struct tb *tb, const void *host_pc)
{
    uintptr_t at = (uintptr_t)host_pc - (uintptr_t)tb->code.entry;
    return host_pc && at < tb->code.code_size;
}

/* Only bytes that the block reads when it runs; offset in the page of its first part. */
static bool is_open(const struct tb *tb, unsigned offset, unsigned size)
{
    for (unsigned i = 0; i < tb->open_count; i++) {
        unsigned first = tb->parts[0].offset + tb->open[i].offset;
        if (offset >= first && offset + size <= first + tb->open[i].size)
            return true;
    }
    return false;
}

/* Tells of a store that is about to be made, or was just made.  host_pc: where translated code makes it, or NULL.
 * True: that code is of a block that has such a byte itself. */
bool tb_written(struct vcpu *v, uint64_t ram_page, unsigned offset, unsigned size, const void *host_pc)
{
    struct code_page *p = v->tbs.pages[ram_page];
    uint64_t hit = chunk_mask(offset, size), still = 0;
    bool running = false;
    if (!p || !(p->live & hit))
        return false;
    unsigned first = chunk_of(offset), last = chunk_of(offset + size - 1);
    for (unsigned c = first > p->span ? first - p->span : 0; c <= last; c++)
        for (struct tb_part *part = p->starts[c]; part; part = part->next) {
            if (part->tb->state != TB_LIVE)
                continue;
            if (offset < part->offset + part->size && part->offset < offset + size && !is_open(part->tb, offset, size)) {
                running |= is_running(part->tb, host_pc);
                tb_suspect(v, part->tb);
            } else {
                still |= chunk_mask(part->offset, part->size);
            }
        }
    p->live &= ~hit | still;
    return running;
}

void tb_written_elsewhere(struct vcpu *v, uint64_t ram_page)
{
    const struct code_page *p = v->tbs.pages[ram_page];
    if (!p)
        return;
    tb_written(v, ram_page, 0, (unsigned)PAGE, NULL);
    for (unsigned c = 0; c < CHUNKS; c++)
        for (struct tb_part *part = p->starts[c]; part; part = part->next)
            part->tb->distrusted = true;
}
