/* Recipes: they read back as they were written, compile to the same bytes wherever they lie, and what is damaged is refused. */
#include "runtime/cache.h"
#include "frontend/frontend.h"
#include <stdlib.h>
#include <string.h>

static int passed, failed;
static void check(const char *what, bool ok)
{
    passed += ok;
    failed += !ok;
    if (!ok)
        printf("%s: wrong\n", what);
}

enum { FLAT = 0x3f << X86_MODE_FLAT_SHIFT | 0x3f << X86_MODE_ZERO_SHIFT, MODE = X86_MODE_CODE64 | X86_MODE_PE | X86_MODE_LMA | X86_MODE_OSFXSR | FLAT };
/* 1: add (%rdi), %rax; add $8, %rdi; dec %rcx; jnz 1b.  Behind it: mov %rax, (%rsi); call *%rdx.  Elsewhere: addps (%rdi), %xmm0; ret */
static const uint8_t loop[] = {0x48, 0x03, 0x07, 0x48, 0x83, 0xc7, 8, 0x48, 0xff, 0xc9, 0x75, 0xf4}, after[] = {0x48, 0x89, 0x06, 0xff, 0xd2},
                     far_away[] = {0x0f, 0x58, 0x07, 0xc3};
static const struct x86_model *model;
static uint64_t translator[2];

static struct recipe_block blocks[3];
static const struct recipe sum = {.mode = MODE, .block_count = 3, .blocks = blocks, .name = "sum"};

static void make(void)
{
    blocks[0] = (struct recipe_block){0, sizeof loop, 0x123, loop, 100, {{0}}, 0, NULL, 0};
    blocks[1] = (struct recipe_block){sizeof loop, sizeof after, 0x123 + sizeof loop, after, 7, {{2, 7}}, 1, NULL, 0};
    blocks[2] = (struct recipe_block){-0x5000, sizeof far_away, 0x123, far_away, 8, {{0, 2}, {1, 1}}, 2, NULL, 0};
}

static struct llvm_compiled compiled(const struct recipe *r)
{
    struct llvm_compiled c;
    char error[200];
    if (!recipe_compile(model, translator, r, &c, error, sizeof error))
        exit((printf("recipe_compile: %s\n", error), 1));
    return c;
}

static bool same(const struct llvm_compiled *a, const struct llvm_compiled *b) { return a->elf_size == b->elf_size && !memcmp(a->elf, b->elf, a->elf_size); }

/* As a recipe comes out of a file, at some other address, with the bytes behind each other. */
static struct recipe *again(const struct recipe *r, size_t *size)
{
    uint8_t *bytes;
    char error[200] = "";
    if (!recipe_write(r, &bytes, size))
        exit((printf("recipe_write\n"), 1));
    uint8_t *moved = memcpy((char *)malloc(*size + 3) + 3, bytes, *size);
    free(bytes);
    struct recipe *read = recipe_read(moved, *size, error, sizeof error);
    free(moved - 3);
    if (!read)
        exit((printf("recipe_read: %s\n", error), 1));
    return read;
}

static void the_same_bytes(void)
{
    size_t size;
    struct recipe *read = again(&sum, &size);
    struct llvm_compiled a = compiled(&sum), b = compiled(read);
    struct object_view v;
    struct store_key key, key_of_read;
    char error[200] = "";
    check("read as written", read->block_count == 3 && read->mode == MODE && !strcmp(read->name, "sum") && read->blocks[2].pc == -0x5000 &&
          read->blocks[2].targets[1].block == 1 && read->blocks[1].count == 7 && !memcmp(read->blocks[0].bytes, loop, sizeof loop));
    check("two compiles, the same bytes", same(&a, &b));
    cache_key(translator, &sum, &key);
    cache_key(translator, read, &key_of_read);
    check("and the same key", !memcmp(&key, &key_of_read, sizeof key));
    check("an object", object_open(a.elf, a.elf_size, &v, error, sizeof error));
    check("its key", !memcmp(v.meta.key, &key, sizeof key)); /* little-endian, as this host is */
    check("its ranges", v.meta.range_count == 3 && v.meta.ranges[2].pc == -0x5000 && v.meta.ranges[1].size == sizeof after &&
          v.meta.ranges[0].hash == object_hash(loop, sizeof loop));
    check("its mode and blocks", v.meta.mode == MODE && v.meta.block_count == 3 && v.meta.guest_insns == 8);
    struct recipe *own = recipe_read(v.meta.recipe, v.meta.recipe_size, error, sizeof error);
    check("its recipe", own);
    if (own) {
        struct llvm_compiled c = compiled(own);
        check("which makes it again", same(&a, &c));
        free(c.elf);
    }
    free(own);
    object_close(&v);
    free(a.elf);
    free(b.elf);
    free(read);
}

/* Whatever changes the code changes the key; what only names it does not. */
static void keys(void)
{
    static const uint8_t other[] = {0x48, 0x03, 0x07, 0x48, 0x83, 0xc7, 9, 0x48, 0xff, 0xc9, 0x75, 0xf4}, seen[] = {1, 2, 3};
    struct store_key key, k;
    struct recipe r = sum;
    uint64_t translators[2] = {translator[0] + 1, translator[1]};
    cache_key(translator, &sum, &key);
#define KEY(what, same_head, change) \
    make(), r = sum; \
    change; \
    cache_key(translator, &r, &k); \
    check(what, memcmp(k.whole, key.whole, 16) && (memcmp(k.head, key.head, 16) == 0) == (same_head))
    KEY("bytes", false, blocks[0].bytes = other);
    KEY("later bytes", true, blocks[2].bytes = after);
    KEY("mode", false, r.mode |= X86_MODE_IOPL_OK);
    KEY("counted", false, r.icount = true);
    KEY("careful", true, r.careful = true);
    KEY("place in the page", false, blocks[0].page_offset++);
    KEY("place of another block", true, blocks[2].pc -= 0x1000);
    KEY("targets", true, blocks[2].target_count = 1);
    KEY("counts", true, blocks[1].count++);
    KEY("accesses", true, (blocks[0].seen = seen, blocks[0].seen_count = 3));
    make(), r = sum;
    cache_key(translators, &r, &k);
    check("translator", memcmp(k.whole, key.whole, 16) && memcmp(k.head, key.head, 16));
    r.name = NULL;
    cache_key(translator, &r, &k);
    check("not its name", !memcmp(&k, &key, sizeof k));
}

static void models(void)
{
    static const char *const specs[] = {"x86-64-v2", "x86-64-v2,-movbe", "qemu64", "486"};
    uint64_t ids[4][2], again[2];
    char error[200];
    for (unsigned n = 0; n < 4; n++) {
        const struct x86_model *m = x86_model_find(specs[n], error, sizeof error);
        cache_translator(m, ids[n]);
        cache_translator(m, again);
        check("one translator, one id", !memcmp(ids[n], again, sizeof again));
        for (unsigned k = 0; k < n; k++)
            check("models differ", memcmp(ids[n], ids[k], sizeof again));
        x86_model_free(m);
    }
}

/* --- Damage: refused in one line, or a recipe of the same size. */
static void damaged(void)
{
    uint8_t *bytes;
    size_t size;
    unsigned refused = 0;
    recipe_write(&sum, &bytes, &size);
    for (size_t n = 0; n < size; n++) {
        char error[200] = "";
        uint8_t *cut = memcpy(malloc(n + 1), bytes, n); /* so that a sanitizer sees what is read behind it */
        struct recipe *r = recipe_read(cut, n, error, sizeof error);
        check("cut short", r ? n >= size - 3 /* the name */ : *error && !strchr(error, '\n'));
        free(r);
        free(cut);
    }
    for (size_t bit = 0; bit < 8 * size; bit++) {
        char error[200] = "";
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        struct recipe *r = recipe_read(bytes, size, error, sizeof error);
        refused += !r;
        check("a bit flipped", r || (*error && !strchr(error, '\n')));
        free(r);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    check("most of the flips that matter are refused", refused > 300);
    free(bytes);
}

/* What reads well and cannot be compiled. */
static void refuses(const char *words, uint32_t mode, const uint8_t *bytes, uint16_t size, const uint8_t *seen, unsigned seen_count)
{
    struct recipe_block b = {0, size, 0, bytes, 0, {{0}}, 0, seen, seen_count};
    const struct recipe r = {.mode = mode, .block_count = 1, .blocks = &b};
    struct llvm_compiled c;
    char error[200] = "";
    check(words, !recipe_compile(model, translator, &r, &c, error, sizeof error) && !c.elf && strstr(error, words) && !strchr(error, '\n'));
}

static void refused(void)
{
    static const uint8_t jump_and_more[] = {0xff, 0xd2, 0x90, 0x90}, seen[2] = {1, 1};
    refuses("lift to", MODE, loop, sizeof loop - 1, NULL, 0); /* the end of its last instruction is missing */
    refuses("lift to", MODE, jump_and_more, sizeof jump_and_more, NULL, 0);
    refuses("it tells of 2 operations", MODE, loop, sizeof loop, seen, 2);
    refuses("mode", MODE | X86_MODE_TF, loop, sizeof loop, NULL, 0);
    refuses("mode", MODE | X86_MODE_SHADOW, loop, sizeof loop, NULL, 0);
    refuses("mode", MODE | X86_MODE_CODE, loop, sizeof loop, NULL, 0);
    refuses("no bytes", MODE, loop, 0, NULL, 0);
}

int main(void)
{
    char error[200];
    model = x86_model_find("x86-64-v2", error, sizeof error);
    cache_translator(model, translator);
    make();
    the_same_bytes();
    keys();
    make();
    models();
    damaged();
    refused();
    x86_model_free(model);
    printf("recipe: %d passed, %d failed\n", passed, failed);
    return failed != 0;
}
