/* Profiles as bytes.  Little-endian, without padding: PROFILE_MAGIC, flags (8 bits), block_count, recipe_count (32 each); then each block: mode
 * (32), size, page_offset (16 each), pc, count (64 each), its bytes; then each recipe: its size (32), as recipe_write made it, and a 0.  Others
 * can write them, so all is checked. */
#include "runtime/internal.h"
#include "runtime/little_endian.h"
#include "runtime/recipe.h"
#include <stdlib.h>

enum { PROFILE_MAGIC = 0x31525054 /* "TPR1" */, HEAD_SIZE = 13, BLOCK_SIZE = 24, ICOUNT = 1 };

/* --- Writing */
static uint8_t *put_block(uint8_t *p, const struct profile_block *b)
{
    p = put_le(put_le(put_le(p, b->mode, 4), b->size, 2), b->page_offset, 2);
    return put_bytes(put_le(put_le(p, b->pc, 8), b->count, 8), b->bytes, b->size);
}

static size_t blocks_size(const struct profile *p)
{
    size_t size = 0;
    for (unsigned n = 0; n < p->block_count; n++)
        size += BLOCK_SIZE + p->blocks[n].size;
    return size;
}

static bool add_recipe(uint8_t **out, size_t *size, const struct recipe *r)
{
    uint8_t *written, *more;
    size_t n;
    if (!recipe_write(r, &written, &n))
        return false;
    if ((more = realloc(*out, *size + 4 + n + 1))) {
        *put_bytes(put_le(more + *size, n, 4), written, n) = 0;
        *out = more;
        *size += 4 + n + 1;
    }
    free(written);
    return more;
}

bool profile_write(const struct profile *p, uint8_t **out, size_t *size)
{
    *size = HEAD_SIZE + blocks_size(p);
    uint8_t *to = *out = malloc(*size);
    if (!to)
        return false;
    to = put_le(put_le(to, PROFILE_MAGIC, 4), p->icount ? ICOUNT : 0, 1);
    to = put_le(put_le(to, p->block_count, 4), p->recipe_count, 4);
    for (unsigned n = 0; n < p->block_count; n++)
        to = put_block(to, &p->blocks[n]);
    for (unsigned n = 0; n < p->recipe_count; n++)
        if (!add_recipe(out, size, p->recipes[n])) {
            free(*out);
            *out = NULL;
            return false;
        }
    return true;
}

/* --- Reading */
static const char *read_block(struct reader *r, struct profile_block *b)
{
    if (!reader_has(r, BLOCK_SIZE))
        return "it ends early";
    b->mode = (uint32_t)take_le(r, 4);
    b->size = (uint16_t)take_le(r, 2);
    b->page_offset = (uint16_t)take_le(r, 2);
    b->pc = take_le(r, 8);
    b->count = take_le(r, 8);
    if (!reader_has(r, b->size))
        return "it ends early";
    b->bytes = take_bytes(r, b->size);
    return !b->size || b->size > PAGE || b->page_offset >= PAGE || !recipe_mode_valid(b->mode) ? "a block that cannot be" : NULL;
}

/* How many blocks its recipes have; false: they do not lie inside. */
static bool recipes_measure(struct reader r, unsigned count, size_t *blocks)
{
    *blocks = 0;
    for (unsigned n = 0; n < count; n++) {
        uint64_t size = reader_has(&r, 4) ? take_le(&r, 4) : UINT64_MAX;
        if (size == UINT64_MAX || !reader_has(&r, size + 1) || r.at[size])
            return false;
        *blocks += recipe_block_count(r.at, size);
        r.at += size + 1;
    }
    return r.at == r.end;
}

static const char *read_recipes(struct reader r, struct recipe *recipes, const struct recipe **list, struct recipe_block *blocks, unsigned count)
{
    const char *wrong = NULL;
    for (unsigned n = 0; n < count && !wrong; n++) {
        size_t size = (size_t)take_le(&r, 4);
        wrong = recipe_read_at(&recipes[n], blocks, r.at, size);
        blocks += recipe_block_count(r.at, size);
        list[n] = &recipes[n];
        r.at += size + 1;
    }
    return wrong;
}

static struct profile *refuse(char *error, size_t size, const char *why)
{
    snprintf(error, size, "profile: %s", why);
    return NULL;
}

/* In one piece: the struct, its blocks, the list of recipes, the recipes, their blocks, and a copy of the bytes. */
struct profile *profile_read(const uint8_t *bytes, size_t size, char *error, size_t error_size)
{
    if (size < HEAD_SIZE || get_le(bytes, 4) != PROFILE_MAGIC || bytes[4] & ~ICOUNT)
        return refuse(error, error_size, "bytes that are not of this version");
    uint64_t count = get_le(bytes + 5, 4), recipes = get_le(bytes + 9, 4);
    if (count > size / BLOCK_SIZE || recipes > size / 4)
        return refuse(error, error_size, "it ends early");
    const char *wrong = NULL;
    struct profile_block *blocks = calloc(count + 1, sizeof *blocks);
    struct reader in = {bytes + HEAD_SIZE, bytes + size};
    size_t recipe_blocks;
    for (unsigned n = 0; blocks && n < count && !wrong; n++)
        wrong = read_block(&in, &blocks[n]);
    if (!blocks || wrong || !recipes_measure(in, (unsigned)recipes, &recipe_blocks)) {
        free(blocks);
        return refuse(error, error_size, !blocks ? "out of memory" : wrong ? wrong : "it ends early, or late");
    }
    struct profile *p = malloc(sizeof *p + count * sizeof *blocks + recipes * (sizeof *p->recipes + sizeof **p->recipes) + recipe_blocks * sizeof(struct recipe_block) + size);
    if (p) {
        struct profile_block *own = memcpy(p + 1, blocks, count * sizeof *blocks);
        const struct recipe **list = (const struct recipe **)(own + count);
        struct recipe *first = (struct recipe *)(list + recipes);
        struct recipe_block *of_recipes = (struct recipe_block *)(first + recipes);
        uint8_t *copy = (uint8_t *)memcpy(of_recipes + recipe_blocks, bytes, size);
        for (unsigned n = 0; n < count; n++)
            own[n].bytes = copy + (own[n].bytes - bytes);
        *p = (struct profile){.icount = bytes[4] & ICOUNT, .blocks = own, .block_count = (unsigned)count, .recipes = list, .recipe_count = (unsigned)recipes};
        wrong = read_recipes((struct reader){copy + (in.at - bytes), copy + size}, first, list, of_recipes, (unsigned)recipes);
    }
    free(blocks);
    if (p && !wrong)
        return p;
    free(p);
    return refuse(error, error_size, wrong ? wrong : "out of memory");
}
