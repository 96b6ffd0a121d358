/* The text form round-trips; the passes turn given blocks into given blocks; the verifier rejects what is wrong. */
#include "ir/ir.h"
#include <stdlib.h>
#include <string.h>

static unsigned passed, failed;
static const struct ir_slot slots[] = {
    {"r0", 0, IR_I64, IR_S_GPR, 1}, {"r1", 8, IR_I64, IR_S_GPR, 2}, {"pc", 16, IR_I64, IR_S_SYSTEM, 0}, {"flags", 24, IR_I32, IR_S_FLAGS, 0}};
static const struct ir_helper helpers[] = {{.name = "touch_gpr", .args = 0, .writes = IR_S_GPR}};
static const struct ir_guest guest = {.slots = slots, .slot_count = 4, .helpers = helpers, .helper_count = 1, .state_size = 64, .pc_offset = 16};

static char *printed(const struct ir_block *b)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    ir_print(f, b, &guest);
    fclose(f);
    return text;
}

static void check(const char *name, bool ok, const char *detail)
{
    ok ? passed++ : failed++;
    if (!ok)
        printf("%s: %s\n", name, detail);
}

#define HEAD "block pc_bits 64 guest_insns 1 guest_bytes 3\n"

static const struct { const char *name, *before, *after; } passes[] = {
    {"get after put", HEAD "%0 = get.i64 #r1\nput.i64 %0 #r0\n%1 = get.i64 #r0\nput.i64 %1 #r1\njump.void #0x3\n",
     HEAD "%0 = get.i64 #r1\nput.i64 %0 #r0\nput.i64 %0 #r1\njump.void #0x3\n"},
    {"overwritten put", HEAD "%0 = const.i64 #0x1\n%1 = const.i64 #0x2\nput.i64 %0 #r0\nput.i64 %1 #r0\njump.void #0x3\n",
     HEAD "%0 = const.i64 #0x2\nput.i64 %0 #r0\njump.void #0x3\n"},
    {"a fault sees the put", HEAD "%0 = const.i64 #0x1\n%1 = const.i64 #0x2\nput.i64 %0 #r0\ninsn.void !1 #0x1\n%2 = translate.i64 %0 !1 #0x8\nput.i64 %1 #r0\njump.void #0x3\n",
     HEAD "%0 = const.i64 #0x1\n%1 = const.i64 #0x2\nput.i64 %0 #r0\ninsn.void !1 #0x1\n%4 = translate.i64 %0 !1 #0x8\nput.i64 %1 #r0\njump.void #0x3\n"},
    {"a store may change the block, which is left behind it then",
     HEAD "%0 = get.i64 #r1\n%1 = const.i64 #0x2\ninsn.void !1 #0x0\n%3 = translate.i64 %0 !2 #0x8\nstore.i64 %3, %1\nput.i64 %0 #r0\ninsn.void !1 #0x1\nput.i64 %1 #r0\njump.void #0x3\n",
     HEAD "%0 = get.i64 #r1\n%1 = const.i64 #0x2\ninsn.void !1 #0x0\n%3 = translate.i64 %0 !2 #0x8\nstore.i64 %3, %1 #0x0\nput.i64 %0 #r0\ninsn.void !1 #0x1\nput.i64 %1 #r0\njump.void #0x3\n"},
    {"a helper's writes are not known", HEAD "%0 = get.i64 #r0\ncall.void #touch_gpr\n%1 = get.i64 #r0\n%2 = add.i64 %0, %1\nput.i64 %2 #r0\njump.void #0x3\n",
     HEAD "%0 = get.i64 #r0\ncall.void #touch_gpr\n%2 = get.i64 #r0\n%3 = add.i64 %0, %2\nput.i64 %3 #r0\njump.void #0x3\n"},
    {"constants", HEAD "%0 = const.i32 #0x7\n%1 = const.i32 #0x5\n%2 = add.i32 %0, %1\n%3 = zext.i64 %2\nput.i64 %3 #r0\njump.void #0x3\n",
     HEAD "%0 = const.i64 #0xc\nput.i64 %0 #r0\njump.void #0x3\n"},
};

static void run_passes(void)
{
    for (size_t i = 0; i < sizeof passes / sizeof *passes; i++) {
        struct ir_block b;
        char error[128];
        ir_block_init(&b);
        const char *wrong = ir_parse(&b, passes[i].before, &guest, error, sizeof error);
        if (!wrong)
            wrong = ir_verify(&b, &guest, error, sizeof error);
        check(passes[i].name, !wrong, wrong);
        if (!wrong) {
            ir_optimise(&b, &guest);
            char *text = printed(&b);
            check(passes[i].name, !strcmp(text, passes[i].after), text);
            free(text);
        }
        ir_block_free(&b);
    }
}

static const struct { const char *text, *wrong; } bad[] = {
    {"%0 = const.i64 #1\n", "does not end"},
    {"jump.void #0\njump.void #0\n", "ends the block in the middle"},
    {"%0 = const.i64 #1\n%1 = const.i32 #1\n%2 = add.i64 %0, %1\njump.void #0\n", "wrong type"},
    {"%0 = const.i64 #1\n%1 = add.i64 %0\njump.void #0\n", "lacks an operand"},
    {"%0 = get.i64 #60\njump.void #0\n", "outside the state"},
    {"%0 = const.i64 #1\nput.i64 %0 #r0\n%1 = translate.i64 %0 !1 #8\njump.void #0\n", "after a put"},
    {"%0 = add.i64 %0, %0\n", "not defined"},
    {"%0 = frob.i64\n", "no such operation"},
    {"%0 = const.i63 #1\n", "no such type"},
    {"const.i64 #1\n", "has no name"},
    {"put.i64 %99999 #r0\n", "too large"},
};

static void run_bad(void)
{
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ir_block b;
        char error[128];
        ir_block_init(&b);
        const char *wrong = ir_parse(&b, bad[i].text, &guest, error, sizeof error);
        if (!wrong)
            wrong = ir_verify(&b, &guest, error, sizeof error);
        check(bad[i].wrong, wrong && strstr(wrong, bad[i].wrong), wrong ? wrong : "accepted");
        ir_block_free(&b);
    }
}

int main(void)
{
    run_passes();
    run_bad();
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
