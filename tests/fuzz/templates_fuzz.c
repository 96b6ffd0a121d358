/* Files of template code that lie: whatever is found in one lies inside of it, and is placed inside of the buffer or refused.  Nothing of it is run.
 * Input: the file's bytes; its checksums are mended, since no fuzzer finds them. */
#define _GNU_SOURCE
#include "runtime/cache_templates.h"
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUFFER = 1 << 20, LIMIT = 1 << 18 };
const unsigned replay_mutations = 60;
static const uint64_t translator[2] = {1, 2};
static char base[64], name[64];
static struct tcg_buffer *buffer;

static void must(int ok)
{
    if (!ok)
        abort();
}

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *f) { return (void)s, (void)kind, (void)f, remove(path); }
static void remove_base(void) { nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    snprintf(base, sizeof base, "%s/templates-fuzz-XXXXXX", access("/dev/shm", W_OK | X_OK) ? "/tmp" : "/dev/shm");
    must(mkdtemp(base) != NULL);
    atexit(remove_base);
    must((buffer = tcg_buffer_new(BUFFER)) != NULL);
    templates_name(translator, false, TEMPLATES_OF_RUNS, name);
    return 0;
}

static bool place(void *ctx, uint32_t mode, unsigned page_offset, const struct template_found *f)
{
    struct template_found again;
    struct tcg_options options = {.guest = &x86_guest, .pc = 0xffffffff81000000ull, .user = buffer, .counter = f->block.body ? 64 : 0};
    struct tcg_block block = f->block;
    size_t at = 0;
    uint64_t sum = 0;
    must(block.exit_count <= TCG_MAX_EXITS && f->bytes && f->head <= f->bytes);
    for (unsigned n = 0; n < block.site_count; n++)
        sum += f->sites[n].fast_offset;
    if (tcg_place(buffer, &at, LIMIT, &f->moved, &options, &block) == TCG_OK) {
        must(at <= LIMIT && at >= block.code_size);
        for (unsigned n = 0; n < block.exit_count; n++)
            tcg_chain(buffer, &block, n, &block);
        tcg_redirect(buffer, &block, block.entry);
    }
    uint8_t page[4096] = {0};
    templates_find(ctx, mode, 0xffffffff81000000ull + page_offset, page + page_offset, &again);
    __asm__ volatile("" : : "r"(sum));
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char error[200];
    uint8_t *copy = malloc(size + 1);
    must(copy != NULL);
    memcpy(copy, bytes, size);
    templates_mend(copy, size);
    struct store *s = store_open(&(struct store_options){.path = base}, error, sizeof error);
    must(s && store_file_put(s, name, copy, size, false));
    struct templates *ts = templates_begin(s, translator, false);
    must(ts != NULL);
    templates_each(ts, place, ts);
    templates_end(ts);
    store_close(s);
    free(copy);
    return 0;
}
