/* Code that is used again: what in it depends on the block's place and on the process is noted while it is made, and made
 * anew where it is placed.  All else is relative to the state or to the code itself. */
#include "backend-tcg/internal.h"

static uint64_t call_target(const struct ir_guest *g, int32_t which)
{
    if (which >= 0)
        return (uint64_t)(uintptr_t)g->helpers[which].fn;
    return which == CALL_EVALUATE ? (uint64_t)(uintptr_t)tcg_evaluate : (uint64_t)(uintptr_t)tcg_crypto;
}

uint64_t reloc_value(const struct tcg_options *o, unsigned pc_bits, enum reloc_kind kind, int32_t value)
{
    uint64_t pc = ir_cut(o->pc + (uint64_t)(int64_t)value, pc_bits);
    switch (kind) {
    case RELOC_PC: return pc;
    case RELOC_ENTRY: return tcg_jump_hash(pc) * sizeof(struct tcg_jump);
    case RELOC_ENTRY_CODE: return tcg_jump_hash(pc) * sizeof(struct tcg_jump) + offsetof(struct tcg_jump, code);
    case RELOC_CALL: return call_target(o->guest, value);
    default: return (uint64_t)(uintptr_t)o->user;
    }
}

void reloc_note(struct tcg *t, uint32_t at, enum reloc_kind kind, enum reloc_form form, int32_t value)
{
    if (t->relocs_n == MAX_RELOCS || at >> 24)
        t->fixed = true;
    if (!t->fixed)
        t->relocs[t->relocs_n++] = (struct tcg_reloc){.at = at & 0xffffff, .kind = kind & 15, .form = form & 15, .value = value};
}

/* --- Out of the buffer */
void tcg_copy(const struct tcg_block *block, uint8_t *code)
{
    memcpy(code, block->entry, block->code_size);
    if (block->body)
        memcpy(code, &block->counting, sizeof block->counting);
    for (unsigned n = 0; n < block->exit_count; n++) {
        const struct tcg_exit *e = &block->exits[n];
        bind(code, e->jump_offset, e->stub_offset);
        if (e->late_offset)
            bind(code, e->late_offset, e->late_stub);
    }
    for (unsigned n = 0; n < block->reloc_count; n++) /* so that the same block is always the same bytes */
        memset(code + block->relocs[n].at, 0, block->relocs[n].form == FORM_64 ? 8 : 4);
    if (block->body)
        memset(code + COUNTER_AT, 0, 4);
}

/* --- Into it */
static bool relocate(uint8_t *code, size_t size, const struct tcg_reloc *r, const struct tcg_options *o, unsigned pc_bits)
{
    bool wide = r->form == FORM_64, foreign = r->kind >= RELOC_KINDS || r->form >= RELOC_FORMS || r->at + (wide ? 8u : 4u) > size;
    if (foreign || (r->kind == RELOC_CALL && (r->value < CALL_CRYPTO || r->value >= (int32_t)o->guest->helper_count)))
        return false;
    uint64_t v = reloc_value(o, pc_bits, r->kind, r->value);
    if ((r->form == FORM_32 && v > UINT32_MAX) || (r->form == FORM_32S && (int64_t)v != (int32_t)v))
        return false;
    v >>= r->form == FORM_HIGH ? 32 : 0;
    memcpy(code + r->at, &v, wide ? 8 : 4);
    return true;
}

enum tcg_result tcg_place(struct tcg_buffer *buffer, size_t *at, size_t limit, const struct tcg_moved *m, const struct tcg_options *o, struct tcg_block *out)
{
    uint8_t *write;
    const uint8_t *run;
    size_t start = *at + ((m->at_64 - *at) & 63), size = out->code_size; /* displacements that are patched lie in one cache line each */
    if (start + size > limit)
        return TCG_FULL;
    if ((out->body != 0) != (o->counter != 0))
        return TCG_TOO_COMPLEX;
    tcg_buffer_populate(buffer, start);
    tcg_buffer_place(buffer, start, &write, &run);
    memcpy(write, m->code, size);
    if (out->body) {
        memcpy(write + COUNTER_AT, &o->counter, sizeof o->counter);
        memcpy(&out->counting, write, sizeof out->counting);
    }
    for (unsigned n = 0; n < m->reloc_count; n++)
        if (!relocate(write, size, &m->relocs[n], o, out->pc_bits))
            return TCG_TOO_COMPLEX;
    out->entry = (void *)(uintptr_t)run;
    *at = start + size;
    return TCG_OK;
}
