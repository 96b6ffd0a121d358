/* tcg_options.line: which host code is of which guest instruction, in front and behind the block; and the memory that a first block takes. */
#define _GNU_SOURCE
#include "backend-tcg/backend-tcg.h"
#include <stdlib.h>
#include <sys/mman.h>

static const struct ir_slot slots[] = {{"a", 0, IR_I64, IR_S_GPR, 0}, {"pc", 8, IR_I64, IR_S_SYSTEM, 0}};
static const struct ir_guest guest = {.slots = slots, .slot_count = 2, .state_size = 256, .pc_offset = 8, .faulted_offset = 16, .stop_offset = 20,
                                      .icount_offset = 24, .mxcsr_offset = 32};
static const char text[] = "block pc_bits 64 guest_insns 3 guest_bytes 9\n"
    "insn.void !2 #0x0\n%1 = get.i64 #a\n%2 = translate.i64 %1 !1 #0x8\n%3 = load.i64 %2\nput.i64 %3 #a\n"
    "insn.void !4 #0x2\n%6 = const.i64 #0x5\n%7 = add.i64 %3, %6\nput.i64 %7 #a\n"
    "insn.void !3 #0x6\njump.void #0x9\n";

struct note { uint32_t host; int32_t guest; bool cold; };
static struct note notes[64];
static unsigned count;
static void line(void *ctx, uint32_t host, int32_t at, bool cold)
{
    (void)ctx;
    if (count < 64)
        notes[count++] = (struct note){host, at, cold};
}

enum { PAGES = 16 };
static unsigned failed;
static void check(bool ok, const char *what)
{
    failed += !ok;
    if (!ok)
        fprintf(stderr, "FAIL %s\n", what);
}

/* How many pages of the buffer are there; all of them, where the host's Linux cannot be asked for pages (before 5.14). */
static unsigned pages_of(const struct tcg_buffer *buffer)
{
    void *run = (void *)(uintptr_t)tcg_buffer_runnable(buffer, 0);
    unsigned char there[PAGES] = {0};
    unsigned pages = 0;
    if (madvise(run, 0, MADV_POPULATE_READ))
        return PAGES;
    mincore(run, PAGES * 4096, there);
    for (unsigned n = 0; n < PAGES; n++)
        pages += there[n] & 1;
    return pages;
}

int main(void)
{
    struct tcg_buffer *buffer = tcg_buffer_new(PAGES * 4096);
    struct ir_block b;
    struct tcg_block out;
    char error[200];
    size_t at = 0;
    ir_block_init(&b);
    const char *wrong = ir_parse(&b, text, &guest, error, sizeof error);
    if (wrong || !buffer) {
        fprintf(stderr, "cannot set up: %s\n", wrong ? wrong : "no buffer");
        return 1;
    }
    const struct tcg_options options = {.guest = &guest, .pc = 0x1000, .line = line};
    check(tcg_compile(buffer, &at, PAGES * 4096, &b, &options, &out) == TCG_OK, "compiles");
    check(pages_of(buffer) == PAGES, "the first code has the pages around given at once");
    check(count >= 5, "three instructions, and behind them the load's slow path and the exit");
    for (unsigned i = 0; i < 3; i++)
        check(!notes[i].cold && notes[i].guest == (const int32_t[]){0, 2, 6}[i], "one line an instruction, in order");
    bool cold[7] = {false};
    for (unsigned i = 3; i < count; i++) {
        check(notes[i].cold && (notes[i].guest == 0 || notes[i].guest == 6), "cold code is of the load or of the jump");
        cold[notes[i].guest] = true;
    }
    check(cold[0] && cold[6], "both have some");
    for (unsigned i = 1; i < count; i++)
        check(notes[i].host >= notes[i - 1].host && notes[i].host < out.code_size, "offsets rise inside of the code");
    free(out.sites);
    ir_block_free(&b);
    tcg_buffer_free(buffer);
    printf("lines: %u lines, %u failed\n", count, failed);
    return failed != 0;
}
