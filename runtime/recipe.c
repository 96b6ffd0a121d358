/* Recipes of regions: as bytes, and compiled.  Objects carry them, so they come out of files that others can write: nothing that is read is
 * taken for granted.
 *
 * The encoding is little-endian and without padding: RECIPE_MAGIC, the bytes of all before the name, mode, block_count (32 bits each), flags,
 * a byte; then each block: pc (64 bits), count (64), size, page_offset, seen_count (16 each), target_count, reloc_count (8 each), the targets (block 16, count 32),
 * its bytes, its `seen`, its relocs (at 16, kind 8); behind all blocks the name, which is not terminated. */
#include "runtime/internal.h"
#include "runtime/recipe.h"
#include "runtime/little_endian.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { RECIPE_MAGIC = 0x32435254 /* "TRC2" */, HEAD_SIZE = 17, BLOCK_SIZE = 24, TARGET_SIZE = 6, ICOUNT = 1, CAREFUL = 2, FLAGS = 3, TARGETS = 8,
       RELOC_SIZE = 3 };
_Static_assert(sizeof(struct x86_reloc) == RELOC_SIZE, "they are used where they lie in the bytes");
/* Modes that run one instruction at a time, of which there are no regions. */
#define ALONE (X86_MODE_TF | X86_MODE_SHADOW | X86_MODE_DEBUG | X86_MODE_AC)

__attribute__((format(printf, 3, 4))) static bool refuse(char *error, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error, size, format, args);
    va_end(args);
    return false;
}

/* --- Writing */
static size_t size_without_name(const struct recipe *r)
{
    size_t size = HEAD_SIZE;
    for (unsigned n = 0; n < r->block_count; n++)
        size += BLOCK_SIZE + r->blocks[n].target_count * TARGET_SIZE + r->blocks[n].size + r->blocks[n].seen_count + r->blocks[n].reloc_count * RELOC_SIZE;
    return size;
}

static uint8_t *put_block(uint8_t *p, const struct recipe_block *b)
{
    p = put_le(p, (uint64_t)b->pc, 8);
    p = put_le(p, b->count, 8);
    p = put_le(p, b->size, 2);
    p = put_le(p, b->page_offset, 2);
    p = put_le(p, b->seen_count, 2);
    p = put_le(p, b->target_count, 1);
    p = put_le(p, b->reloc_count, 1);
    for (unsigned n = 0; n < b->target_count; n++)
        p = put_le(put_le(p, b->targets[n].block, 2), b->targets[n].count, 4);
    p = put_bytes(put_bytes(p, b->bytes, b->size), b->seen, b->seen_count);
    return put_bytes(p, b->relocs, b->reloc_count * RELOC_SIZE);
}

bool recipe_write(const struct recipe *r, uint8_t **out, size_t *size)
{
    size_t without = size_without_name(r), name = r->name ? strlen(r->name) : 0;
    uint8_t *p = *out = malloc(without + name);
    if (!p)
        return false;
    *size = without + name;
    p = put_le(put_le(put_le(put_le(p, RECIPE_MAGIC, 4), without, 4), r->mode, 4), r->block_count, 4);
    p = put_le(p, (r->icount ? ICOUNT : 0) | (r->careful ? CAREFUL : 0), 1);
    for (unsigned n = 0; n < r->block_count; n++)
        p = put_block(p, &r->blocks[n]);
    put_bytes(p, r->name, name);
    return true;
}

/* --- Reading */
size_t recipe_key_size(const uint8_t *written) { return (size_t)get_le(written + 4, 4); }

/* They lie inside of the bytes, one behind the other. */
static bool relocs_valid(const struct recipe_block *b)
{
    unsigned end = 0;
    for (unsigned n = 0; n < b->reloc_count; n++) {
        const struct x86_reloc *r = &b->relocs[n];
        if (r->kind < X86_RELOC_32S || r->kind > X86_RELOC_PC32 || x86_reloc_at(r) < end || (end = x86_reloc_at(r) + x86_reloc_size(r)) > b->size)
            return false;
    }
    return true;
}

/* NULL, or what is wrong with it. */
static const char *read_block(struct reader *r, struct recipe_block *b, unsigned block_count)
{
    if (!reader_has(r, BLOCK_SIZE))
        return "it ends early";
    b->pc = (int64_t)take_le(r, 8);
    b->count = take_le(r, 8);
    b->size = (uint16_t)take_le(r, 2);
    b->page_offset = (uint16_t)take_le(r, 2);
    b->seen_count = (unsigned)take_le(r, 2);
    b->target_count = (unsigned)take_le(r, 1);
    b->reloc_count = (unsigned)take_le(r, 1);
    if (b->target_count > TARGETS || !reader_has(r, b->target_count * TARGET_SIZE + b->size + b->seen_count + b->reloc_count * RELOC_SIZE))
        return "it ends early";
    for (unsigned n = 0; n < b->target_count; n++) {
        b->targets[n].block = (uint32_t)take_le(r, 2);
        b->targets[n].count = (uint32_t)take_le(r, 4);
        if (b->targets[n].block >= block_count)
            return "a jump to no block of it";
    }
    b->bytes = take_bytes(r, b->size);
    b->seen = b->seen_count ? take_bytes(r, b->seen_count) : NULL;
    for (unsigned n = 0; n < b->seen_count; n++)
        if (b->seen[n] & ~(LLVM_SEEN | LLVM_SEEN_MISALIGNED | LLVM_SEEN_OTHER_PAGE))
            return "an access of no known kind";
    b->relocs = b->reloc_count ? (const struct x86_reloc *)take_bytes(r, b->reloc_count * RELOC_SIZE) : NULL;
    return relocs_valid(b) ? NULL : "a relocation of no known kind, or outside of its block";
}

/* PC and place in the page go together, and only a block's first instruction lies on two pages. */
static const char *block_valid(const struct recipe *r, const struct recipe_block *b)
{
    if (!b->size || b->size > PAGE || b->page_offset >= PAGE)
        return "a block of no bytes, or more than a page";
    if ((r->blocks[0].page_offset + (uint64_t)b->pc) % PAGE != b->page_offset)
        return "a block where it cannot be";
    if (b->page_offset + b->size > PAGE && b->size > 15)
        return "a block on two pages";
    return NULL;
}

bool recipe_mode_valid(uint32_t mode) { return (mode & X86_MODE_CODE) != X86_MODE_CODE && !(mode & ALONE); }

static const char *recipe_valid(const struct recipe *r)
{
    const char *wrong = NULL;
    if (!recipe_mode_valid(r->mode))
        return "a mode that regions do not run in";
    if (!r->block_count || r->block_count > RECIPE_BLOCKS)
        return "no blocks, or too many";
    if (r->blocks[0].pc)
        return "it does not begin at its first block";
    for (unsigned n = 0; n < r->block_count && !wrong; n++)
        wrong = block_valid(r, &r->blocks[n]);
    return wrong;
}

static const char *read_all(struct reader *in, struct recipe *r)
{
    const char *wrong = NULL;
    for (unsigned n = 0; n < r->block_count && !wrong; n++)
        wrong = read_block(in, &r->blocks[n], r->block_count);
    if (wrong || in->at != in->end)
        return wrong ? wrong : "something is behind its blocks";
    return recipe_valid(r);
}

unsigned recipe_block_count(const uint8_t *bytes, size_t size)
{
    uint64_t count = size < HEAD_SIZE || get_le(bytes, 4) != RECIPE_MAGIC ? 0 : get_le(bytes + 12, 4);
    return count > RECIPE_BLOCKS ? 0 : (unsigned)count;
}

const char *recipe_read_at(struct recipe *r, struct recipe_block *blocks, const uint8_t *bytes, size_t size)
{
    size_t without = size < HEAD_SIZE ? 0 : recipe_key_size(bytes);
    if (size < HEAD_SIZE || get_le(bytes, 4) != RECIPE_MAGIC || without < HEAD_SIZE || without > size || bytes[16] & ~FLAGS)
        return "bytes that are not of this version";
    *r = (struct recipe){.mode = (uint32_t)get_le(bytes + 8, 4), .icount = bytes[16] & ICOUNT, .careful = bytes[16] & CAREFUL,
                         .block_count = recipe_block_count(bytes, size), .blocks = blocks, .name = without < size ? (const char *)bytes + without : NULL};
    memset(blocks, 0, r->block_count * sizeof *blocks);
    struct reader in = {bytes + HEAD_SIZE, bytes + without};
    return read_all(&in, r);
}

struct recipe *recipe_read(const uint8_t *bytes, size_t size, char *error, size_t error_size)
{
    unsigned count = recipe_block_count(bytes, size);
    struct recipe *r = malloc(sizeof *r + count * sizeof *r->blocks + size + 1);
    if (!r)
        return refuse(error, error_size, "recipe: out of memory"), NULL;
    uint8_t *copy = (uint8_t *)((struct recipe_block *)(r + 1) + count);
    put_bytes(copy, bytes, size);
    copy[size] = 0;
    const char *wrong = recipe_read_at(r, (struct recipe_block *)(r + 1), copy, size);
    if (!wrong)
        return r;
    free(r);
    return refuse(error, error_size, "recipe: %s", wrong), NULL;
}

/* --- Moving */
bool recipe_block_unmoved(struct recipe_block *b, uint32_t mode, uint64_t pc, void **made)
{
    struct x86_reloc relocs[X86_RELOCS];
    unsigned count = x86_relocs_find(mode, pc, b->bytes, b->size, relocs, X86_RELOCS);
    uint8_t *to;
    *made = NULL;
    if (!count)
        return true;
    if (!(*made = to = malloc(b->size + sizeof relocs)))
        return false;
    memcpy(to, b->bytes, b->size);
    if (x86_relocate(to, relocs, count, pc, 0)) { /* else one found an address that it cannot hold */
        b->bytes = to;
        b->relocs = memcpy(to + b->size, relocs, count * sizeof *relocs);
        b->reloc_count = count;
    }
    return true;
}

const uint8_t *recipe_block_moved(const struct recipe_block *b, uint64_t pc, uint8_t *room)
{
    if (!b->reloc_count)
        return b->bytes;
    memcpy(room, b->bytes, b->size);
    return x86_relocate(room, b->relocs, b->reloc_count, 0, pc) ? room : NULL;
}

/* --- Compiling.  The lifter sees the bytes alone, at the offset in the page where they were. */
unsigned code_bytes_fetch(void *ctx, uint64_t linear, unsigned max, uint8_t *to)
{
    const struct code_bytes *c = ctx;
    uint64_t at = linear - c->linear, have = at < c->size ? c->size - at : 0;
    memset(to, 0, max);
    memcpy(to, c->bytes + (have ? at : 0), have < max ? have : max);
    return max;
}

bool recipe_lift(const struct x86_model *model, uint32_t mode, bool icount, const struct recipe_block *b, struct ir_block *ir)
{
    struct code_bytes bytes = {b->page_offset, b->bytes, b->size};
    const struct x86_fetch from = {.bytes = code_bytes_fetch, .ctx = &bytes};
    const struct x86_lift_limits limits = {.insns = RECIPE_INSNS, .bytes = b->size, .icount = icount, .relocs = b->relocs, .reloc_count = b->reloc_count};
    return x86_lift(model, mode, 0, b->page_offset, &from, &limits, ir) && !ir->out_of_memory;
}

static bool lift(const struct x86_model *model, const struct recipe *r, const struct recipe_block *b, struct ir_block *ir, char *error, size_t size)
{
    if (!recipe_lift(model, r->mode, r->icount, b, ir) || ir->guest_bytes != b->size)
        return refuse(error, size, "recipe: %u bytes of a block that lift to %u", b->size, ir->guest_bytes);
    ir_optimise(ir, &x86_guest);
    const char *refused = llvm_refuses(ir);
    if (refused)
        return refuse(error, size, "not for a region: %s", refused);
    if (b->seen_count && b->seen_count != ir->count)
        return refuse(error, size, "recipe: it tells of %u operations where there are %u", b->seen_count, ir->count);
    return true;
}

struct region_parts { struct ir_block *irs; struct llvm_block *blocks; struct object_range *ranges; };

static bool lift_all(const struct x86_model *model, const struct recipe *r, struct region_parts *p, char *error, size_t size)
{
    for (unsigned n = 0; n < r->block_count; n++) {
        const struct recipe_block *b = &r->blocks[n];
        if (!lift(model, r, b, &p->irs[n], error, size))
            return false;
        p->blocks[n] = (struct llvm_block){.ir = &p->irs[n], .pc = b->pc, .count = b->count, .target_count = b->target_count, .seen = b->seen};
        memcpy(p->blocks[n].targets, b->targets, sizeof b->targets);
        p->ranges[n] = (struct object_range){.pc = b->pc, .size = b->size, .hash = object_hash(b->bytes, b->size)};
    }
    return true;
}

bool recipe_compile_written(const struct x86_model *model, const uint64_t translator[2], const struct recipe *r, const uint8_t *written, size_t written_size,
                            const struct llvm_options *options, struct llvm_compiled *out, char *error, size_t size)
{
    unsigned count = r->block_count;
    struct region_parts p = {calloc(count, sizeof *p.irs), calloc(count, sizeof *p.blocks), calloc(count, sizeof *p.ranges)};
    struct object_meta about = {.mode = r->mode, .ranges = p.ranges, .range_count = count, .recipe = written, .recipe_size = written_size};
    struct store_key key;
    const char *wrong = recipe_valid(r);
    *out = (struct llvm_compiled){0};
    bool ok = p.irs && p.blocks && p.ranges && !wrong;
    if (!ok)
        refuse(error, size, "recipe: %s", wrong ? wrong : "out of memory");
    if (ok) {
        recipe_key(translator, r, written, &key);
        recipe_key_put(&key, about.key);
    }
    const struct llvm_region region = {.guest = &x86_guest, .blocks = p.blocks, .block_count = count, .icount = r->icount, .careful = r->careful, .about = &about};
    ok = ok && lift_all(model, r, &p, error, size) && llvm_compile(&region, options, out, error, size);
    for (unsigned n = 0; p.irs && n < count; n++)
        ir_block_free(&p.irs[n]);
    free(p.irs);
    free(p.blocks);
    free(p.ranges);
    return ok;
}

bool recipe_compile(const struct x86_model *model, const uint64_t translator[2], const struct recipe *r, struct llvm_compiled *out, char *error, size_t size)
{
    const struct llvm_options options = {0};
    uint8_t *written;
    size_t written_size;
    *out = (struct llvm_compiled){0};
    if (!recipe_write(r, &written, &written_size))
        return refuse(error, size, "recipe: out of memory");
    bool ok = recipe_compile_written(model, translator, r, written, written_size, &options, out, error, size);
    free(written);
    return ok;
}
