/* From an object to where template code can enter it: the function, and behind it the way in. */
#include "backend-llvm/backend-llvm.h"
#include <string.h>

size_t llvm_entry_at(const struct object_view *view) { return (view->text_size + 63) & ~(size_t)63; }

const void *llvm_place(struct tcg_buffer *buffer, size_t offset, const struct object_view *view, const struct ir_guest *g, struct tcg_region_entry *e)
{
    size_t entry = offset + llvm_entry_at(view);
    memcpy(tcg_buffer_writable(buffer, offset), view->text, view->text_size);
    e->code = (const char *)tcg_buffer_runnable(buffer, offset) + view->meta.entry;
    tcg_region_enter(buffer, entry, g, e);
    return tcg_buffer_runnable(buffer, entry);
}
