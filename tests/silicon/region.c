/* Blocks as regions: see region.h. */
#include "tests/silicon/region.h"
#include <string.h>

unsigned long regions_compiled;

#ifdef TIERCE_LLVM
#include "backend-llvm/backend-llvm.h"
#include <stdlib.h>

enum { LINKS = 65 /* a block has so many ways out at most */, KEPT = 8, ROOM = REGION_ROOM / KEPT };
static struct kept { struct ir_insn *insns; unsigned count, bytes, pc_bits; size_t entry, end; } kept[KEPT]; /* a block is the same at every PC */
static unsigned next;
static struct tcg_link links[LINKS];
static struct llvm_data data = {.links = links};

static bool is_block(const struct kept *k, const struct ir_block *b)
{
    return k->insns && k->count == b->count && k->bytes == b->guest_bytes && k->pc_bits == b->pc_bits && !memcmp(k->insns, b->insns, b->count * sizeof *b->insns);
}

static bool compile(struct kept *k, uint8_t *to, const struct ir_block *b, const struct ir_guest *g, char *error, size_t size)
{
    const struct llvm_block block = {.ir = b};
    const struct llvm_region region = {.guest = g, .blocks = &block, .block_count = 1};
    struct llvm_compiled compiled;
    struct object_view view;
    free(k->insns);
    *k = (struct kept){0};
    if (!llvm_compile(&region, &(struct llvm_options){0}, &compiled, error, size))
        return false;
    regions_compiled++;
    bool ok = object_open(compiled.elf, compiled.elf_size, &view, error, size);
    size_t end = ok ? llvm_entry_at(&view) : 0;
    for (unsigned n = 0; n < LINKS; n++)
        tcg_link(&links[n], TCG_LINK_TABLE, NULL, NULL, false);
    if (ok && end + TCG_REGION_ENTRY <= ROOM && view.meta.exit_count < LINKS && (k->insns = malloc(b->count * sizeof *b->insns))) {
        memcpy(to, view.text, view.text_size);
        memcpy(k->insns, b->insns, b->count * sizeof *b->insns);
        k->count = b->count, k->bytes = b->guest_bytes, k->pc_bits = b->pc_bits;
        k->entry = view.meta.entry, k->end = end;
    }
    if (ok)
        object_close(&view);
    free(compiled.elf);
    if (ok && !k->insns)
        snprintf(error, size, "no room for %zu bytes of code", end);
    return k->insns;
}

const void *region_make(struct tcg_buffer *buffer, size_t offset, const struct ir_block *b, const struct ir_guest *g, uint64_t pc,
                        const char **refused, char *error, size_t size)
{
    unsigned n = 0;
    if ((*refused = llvm_refuses(b)))
        return NULL;
    while (n < KEPT && !is_block(&kept[n], b))
        n++;
    bool is_new = n == KEPT;
    if (is_new)
        n = next++ % KEPT;
    offset += n * ROOM;
    if (is_new && !compile(&kept[n], tcg_buffer_writable(buffer, offset), b, g, error, size))
        return NULL;
    struct tcg_region_entry e = {.pc = pc, .code = (const char *)tcg_buffer_runnable(buffer, offset) + kept[n].entry, .data = &data};
    tcg_region_enter(buffer, offset + kept[n].end, g, &e);
    return tcg_buffer_runnable(buffer, offset + kept[n].end);
}

void region_begin(struct tcg_context *c) { c->region_flags = llvm_flags; }

void region_end(void)
{
    for (unsigned n = 0; n < KEPT; n++)
        free(kept[n].insns);
    memset(kept, 0, sizeof kept);
}
#else
const void *region_make(struct tcg_buffer *buffer, size_t offset, const struct ir_block *b, const struct ir_guest *g, uint64_t pc,
                        const char **refused, char *error, size_t size)
{
    (void)buffer, (void)offset, (void)b, (void)g, (void)pc, (void)error, (void)size;
    *refused = "built without LLVM";
    return NULL;
}
void region_begin(struct tcg_context *c) { (void)c; }
void region_end(void) {}
#endif
