/* tierce-ir - a microscope: reads guest bytes or IR text and prints what each stage of the translators makes of them, with
 * bytes, instructions and spills per guest instruction.  Nothing is run. */
#include "tools/tierce-ir/work.h"
#include <stdlib.h>

const char tool_name[] = "tierce-ir";
const char *const stage_names[STAGES] = {"in_asm", "ir", "ir_opt", "out_asm", "llvm_ir", "llvm_opt", "llvm_asm"};

static void release(struct work *w)
{
    for (unsigned i = 0; i < w->block_count; i++) {
        ir_block_free(&w->blocks[i].lifted);
        ir_block_free(&w->blocks[i].optimised);
        free(w->blocks[i].insns);
    }
    for (unsigned s = 0; s < STAGES; s++)
        lines_free(&w->stage[s]);
    free(w->blocks);
    free(w->bytes);
    free(w->text);
    for (unsigned i = 0; i < w->region_count; i++)
        free(w->regions[i].object);
    free(w->regions);
    x86_model_free(w->model);
    tcg_buffer_free(w->buffer);
}

static void print(const struct work *w, FILE *out)
{
    if (w->o.json) {
        print_json(w, out);
        return;
    }
    if (w->o.side_by_side)
        print_columns(w, out);
    else
        print_stages(w, out);
    if (w->o.summary)
        print_summary(w, out);
}

int main(int argc, char **argv)
{
    static struct work w;
    options_parse(&w.o, argc, argv);
    input_read(&w);
    guest_mode(&w);
    blocks_make(&w);
    if (w.o.stages & LLVM_STAGES)
        regions_make(&w);
    count_all(&w);
    print(&w, stdout);
    if (fflush(stdout) || ferror(stdout))
        die(1, "the output cannot be written");
    if (*w.llvm_refused && !w.o.json)
        die(1, "%s", w.llvm_refused);
    release(&w);
    return 0;
}
