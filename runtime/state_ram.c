/* RAM in a saved machine: sections "ram", each u32 number of pages, their indices (u32, ascending in the whole file), and their bytes as
 * one zlib stream.  Pages of zeros are in none.  Pages that were never touched are not even looked at: the kernel's page map tells. */
#define _GNU_SOURCE
#include "runtime/state.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

enum { CHUNK_PAGES = 256, MAPPED = 512 };
#define CHUNK_BYTES (CHUNK_PAGES * PAGE)
#define HUGE (2ull << 20)

/* --- Writing */
/* What the kernel says of MAPPED pages at a time (Documentation/admin-guide/mm/pagemap.rst).  RAM is private and anonymous, so a page that
 * is neither present nor swapped is one of zeros. */
struct page_map { int fd; uint64_t first; uint64_t entries[MAPPED]; bool known; };
#define PAGE_THERE (3ull << 62)

static bool may_hold(struct page_map *p, const struct machine *m, uint64_t page)
{
    if (page - p->first >= MAPPED) {
        p->first = page - page % MAPPED;
        off_t at = (off_t)(((uintptr_t)m->ram >> 12) + p->first) * 8;
        p->known = p->fd >= 0 && pread(p->fd, p->entries, sizeof p->entries, at) == sizeof p->entries;
    }
    return !p->known || p->entries[page - p->first] & PAGE_THERE;
}

static bool is_zero(const uint8_t *page)
{
    for (unsigned i = 0; i < PAGE; i += 64) {
        uint64_t words[8], any = 0;
        memcpy(words, page + i, sizeof words);
        for (unsigned k = 0; k < 8; k++)
            any |= words[k];
        if (any)
            return false;
    }
    return true;
}

struct chunk { uint32_t count, pages[CHUNK_PAGES]; uint8_t *bytes, *out; size_t room; };

static bool chunk_write(struct state_writer *w, struct chunk *c)
{
    size_t head = 4 + 4 * (size_t)c->count;
    uLongf size = c->room - head;
    if (!c->count)
        return true;
    memcpy(c->out, &c->count, 4);
    memcpy(c->out + 4, c->pages, 4 * (size_t)c->count);
    if (compress2(c->out + head, &size, c->bytes, c->count * PAGE, 1) != Z_OK)
        return false;
    state_section(w, "ram", 1, c->out, head + size);
    c->count = 0;
    return true;
}

static bool pages_write(struct state_writer *w, const struct machine *m, struct chunk *c, uint64_t *pages)
{
    struct page_map map = {.fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), .first = ~0ull};
    bool ok = true;
    for (uint64_t page = 0; page < m->config.ram_size / PAGE && ok && !w->error; page++) {
        const uint8_t *from = m->ram + page * PAGE;
        if (!may_hold(&map, m, page) || is_zero(from))
            continue;
        memcpy(c->bytes + c->count * PAGE, from, PAGE);
        c->pages[c->count++] = (uint32_t)page;
        ++*pages;
        if (c->count == CHUNK_PAGES)
            ok = chunk_write(w, c);
    }
    if (map.fd >= 0)
        close(map.fd);
    return ok && chunk_write(w, c);
}

bool state_ram_write(struct state_writer *w, const struct machine *m, uint64_t *pages)
{
    struct chunk c = {.room = 4 + 4 * CHUNK_PAGES + compressBound(CHUNK_BYTES)};
    c.bytes = malloc(CHUNK_BYTES);
    c.out = malloc(c.room);
    *pages = 0;
    bool ok = c.bytes && c.out && pages_write(w, m, &c, pages);
    free(c.bytes);
    free(c.out);
    return ok;
}

/* --- Reading: into memory of its own, which takes the place of the machine's when all is known to be good */
/* At the same offset in a huge page as the machine's: whole huge pages can be moved. */
static uint8_t *room_beside(const uint8_t *ram, uint64_t size)
{
    uint8_t *all = mmap(NULL, size + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED)
        return NULL;
    uint64_t before = ((uintptr_t)ram - (uintptr_t)all) & (HUGE - 1);
    if (before)
        munmap(all, before);
    if (before < HUGE)
        munmap(all + before + size, HUGE - before);
    return all + before;
}

bool state_ram_begin(struct state_ram *r, const struct machine *m)
{
    *r = (struct state_ram){.size = m->config.ram_size};
    r->bytes = room_beside(m->ram, r->size);
    r->piece = malloc(CHUNK_BYTES);
    return r->bytes && r->piece;
}

bool state_ram_read(struct state_ram *r, const struct state_reader *in, const struct state_section *s)
{
    uint32_t count = 0, page;
    if (s->version != 1)
        return state_fail(in, "section ram: its version is %u; accepted: 1", s->version);
    if (s->size >= 4)
        memcpy(&count, s->bytes, 4);
    size_t head = 4 + 4 * (size_t)count;
    if (!count || count > CHUNK_PAGES || s->size < head)
        return state_fail(in, "section ram (number %u): %u pages in %zu bytes", in->sequence - 1, count, s->size);
    for (unsigned i = 0; i < count; i++) {
        memcpy(&page, s->bytes + 4 + 4 * i, 4);
        if (page < r->next_page || page >= r->size / PAGE)
            return state_fail(in, "section ram (number %u): page %u where %" PRIu64 " to %" PRIu64 " may follow", in->sequence - 1, page, r->next_page, (uint64_t)(r->size / PAGE - 1));
        r->next_page = page + 1ull;
    }
    uLongf size = CHUNK_BYTES;
    uLong used = s->size - head;
    if (uncompress2(r->piece, &size, s->bytes + head, &used) != Z_OK || size != count * PAGE || used != s->size - head)
        return state_fail(in, "section ram (number %u): its pages do not decompress to what it promises", in->sequence - 1);
    for (unsigned i = 0; i < count; i++) {
        memcpy(&page, s->bytes + 4 + 4 * i, 4);
        memcpy(r->bytes + page * PAGE, r->piece + i * PAGE, PAGE);
    }
    r->pages += count;
    return true;
}

bool state_ram_commit(struct state_ram *r, struct machine *m)
{
    if (mremap(r->bytes, r->size, r->size, MREMAP_MAYMOVE | MREMAP_FIXED, m->ram) == MAP_FAILED)
        return false;
    r->bytes = NULL;
    return true;
}

void state_ram_end(struct state_ram *r)
{
    if (r->bytes)
        munmap(r->bytes, r->size);
    free(r->piece);
}
