/* An address space: regions in a list, the latest on top.  Look-ups remember the last hit. */
#include "hw/hw.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static bool add(struct address_space *s, struct region r)
{
    struct region *new = malloc(sizeof *new);
    if (!new)
        return false;
    *new = r;
    new->next = s->regions;
    s->regions = new;
    s->last = NULL;
    s->generation++;
    return true;
}

bool space_add_memory(struct address_space *s, enum region_kind kind, uint64_t base, uint64_t size, uint8_t *host, const char *name)
{
    return add(s, (struct region){.base = base, .size = size, .kind = kind, .host = host, .name = name});
}

bool space_add_device(struct address_space *s, uint64_t base, uint64_t size, struct device *device, uint32_t offset, const char *name)
{
    return add(s, (struct region){.base = base, .size = size, .kind = REGION_DEVICE, .device = device, .offset = offset, .name = name});
}

void space_remove(struct address_space *s, uint64_t base, struct device *device)
{
    for (struct region **at = &s->regions; *at; at = &(*at)->next)
        if ((*at)->base == base && (*at)->device == device) {
            struct region *r = *at;
            *at = r->next;
            free(r);
            break;
        }
    s->last = NULL;
    s->generation++;
}

static bool holds(const struct region *r, uint64_t address) { return address - r->base < r->size; }

/* True where nothing later lies over any byte of r, so that a hit in it needs no further look. */
static bool on_top(const struct address_space *s, const struct region *r)
{
    for (const struct region *over = s->regions; over != r; over = over->next)
        if (over->base < r->base + r->size && r->base < over->base + over->size)
            return false;
    return true;
}

const struct region *space_find(const struct address_space *s, uint64_t address)
{
    const struct region *last = __atomic_load_n(&s->last, __ATOMIC_RELAXED);
    if (last && holds(last, address))
        return last;
    for (const struct region *r = s->regions; r; r = r->next)
        if (holds(r, address)) {
            if (r->kind != REGION_DEVICE && on_top(s, r))
                __atomic_store_n(&((struct address_space *)s)->last, r, __ATOMIC_RELAXED);
            return r;
        }
    return NULL;
}

/* One naturally bounded piece: at most four bytes for a device, inside one region. */
static uint64_t read_piece(const struct region *r, uint64_t address, unsigned size)
{
    uint64_t at = address - r->base, value = 0;
    if (r->kind == REGION_DEVICE)
        return r->device->ops->read(r->device, r->offset + (uint32_t)at, size);
    memcpy(&value, r->host + at, size);
    return value;
}

void space_written(const struct address_space *s, const uint8_t *host, uint64_t size)
{
    if (s->written)
        s->written(s->written_ctx, host, size);
}

static void write_piece(const struct region *r, uint64_t address, unsigned size, uint64_t value)
{
    uint64_t at = address - r->base;
    if (r->kind == REGION_DEVICE)
        r->device->ops->write(r->device, r->offset + (uint32_t)at, size, (uint32_t)value);
    else if (r->kind == REGION_RAM)
        memcpy(r->host + at, &value, size);
}

/* The largest of 4, 2, 1 that fits the rest, is aligned, and ends inside r. */
static unsigned piece_size(const struct region *r, uint64_t address, unsigned rest)
{
    unsigned n = 4;
    while (n > rest || (r && n > r->base + r->size - address) || (n > 1 && !r && address & (n - 1)))
        n >>= 1;
    return n;
}

static uint64_t ones(unsigned size) { return size >= 8 ? ~0ull : (1ull << 8 * size) - 1; }

uint64_t space_read(struct address_space *s, uint64_t address, unsigned size)
{
    uint64_t value = 0;
    for (unsigned done = 0, n; done < size; done += n) {
        const struct region *r = space_find(s, address + done);
        n = piece_size(r, address + done, size - done);
        value |= ((r ? read_piece(r, address + done, n) : ~0ull) & ones(n)) << 8 * done;
    }
    return value;
}

void space_write(struct address_space *s, uint64_t address, unsigned size, uint64_t value)
{
    for (unsigned done = 0, n; done < size; done += n) {
        const struct region *r = space_find(s, address + done);
        n = piece_size(r, address + done, size - done);
        if (r && r->kind == REGION_RAM)
            space_written(s, r->host + (address + done - r->base), n);
        if (r)
            write_piece(r, address + done, n, value >> 8 * done & ones(n));
    }
}

void space_print(FILE *f, const struct address_space *s)
{
    static const char *const kinds[] = {"ram", "rom", "i/o"};
    for (const struct region *r = s->regions; r; r = r->next)
        fprintf(f, "%016" PRIx64 "-%016" PRIx64 " %s %s\n", r->base, r->base + r->size - 1, kinds[r->kind], r->name);
}

void space_free(struct address_space *s)
{
    while (s->regions) {
        struct region *r = s->regions;
        s->regions = r->next;
        free(r);
    }
    s->last = NULL;
}
