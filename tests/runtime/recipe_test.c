/* Recipes: they read back as they were written, compile to the same bytes wherever they lie, and what is damaged is refused. */
#include "runtime/cache.h"
#include "frontend/frontend.h"
#include "tests/runtime/tally.h"
#include <stdlib.h>
#include <string.h>

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
    blocks[0] = (struct recipe_block){0, sizeof loop, 0x123, loop, 100, {{0}}, 0, NULL, 0, NULL, 0};
    blocks[1] = (struct recipe_block){sizeof loop, sizeof after, 0x123 + sizeof loop, after, 7, {{2, 7}}, 1, NULL, 0, NULL, 0};
    blocks[2] = (struct recipe_block){-0x5000, sizeof far_away, 0x123, far_away, 8, {{0, 2}, {1, 1}}, 2, NULL, 0, NULL, 0};
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
    static const char *const specs[] = {"x86-64-v2", "x86-64-v2,-movbe", "qemu64", "486", "x86-64-v2,vendor=GenuineIntel"};
    uint64_t ids[5][2], again[2];
    char error[200];
    for (unsigned n = 0; n < 5; n++) {
        const struct x86_model *m = x86_model_find(specs[n], error, sizeof error);
        cache_translator(m, ids[n]);
        cache_translator(m, again);
        check("one translator, one id", !memcmp(ids[n], again, sizeof again));
        for (unsigned k = 0; k < n; k++)
            check("models differ", memcmp(ids[n], ids[k], sizeof again));
        x86_model_free(m);
    }
}

/* --- What moves.  At 0xffffffff81000123 */
#define FAR_UP 0xffffffff81000123ull
struct moving { const char *what; uint8_t bytes[16]; unsigned size, at[2], kinds[2]; };
static const struct moving moving[] = {
    {"mov $address, %rdi", {0x48, 0xc7, 0xc7, 0x00, 0x10, 0x00, 0x82}, 7, {3}, {X86_RELOC_32S}},
    {"mov table(,%rax,8), %rcx", {0x48, 0x8b, 0x0c, 0xc5, 0x00, 0x20, 0x00, 0x80}, 8, {4}, {X86_RELOC_32S}},
    {"mov table(%rax), %cl", {0x8a, 0x88, 0x00, 0x10, 0x00, 0x84}, 6, {2}, {X86_RELOC_32S}},
    {"cmp $address, %rdi", {0x48, 0x81, 0xff, 0x00, 0x10, 0x00, 0x82}, 7, {3}, {X86_RELOC_32S}},
    {"movq $address, address(%rax)", {0x48, 0xc7, 0x80, 0x00, 0x10, 0x00, 0x82, 0x08, 0x10, 0x00, 0x82}, 11, {3, 7}, {X86_RELOC_32S, X86_RELOC_32S}},
    {"push $address", {0x68, 0x00, 0x10, 0x00, 0x82}, 5, {1}, {X86_RELOC_32S}},
    {"movabs $address, %rax", {0x48, 0xb8, 0x00, 0x10, 0x00, 0x82, 0xff, 0xff, 0xff, 0xff}, 10, {2}, {X86_RELOC_64}},
    {"movabs address, %rax", {0x48, 0xa1, 0x00, 0x10, 0x00, 0x82, 0xff, 0xff, 0xff, 0xff}, 10, {2}, {X86_RELOC_64}},
    {"mov %gs:0x40(%rip), %rax", {0x65, 0x48, 0x8b, 0x05, 0x15, 0xff, 0xff, 0x7e}, 8, {4}, {X86_RELOC_PC32}},
    {"nopl address(%rax)", {0x0f, 0x1f, 0x80, 0x00, 0x10, 0x00, 0x82}, 7, {3}, {X86_RELOC_32S}},
    {"mov 0x40(%rip), %rax: not PC-relative to what stays", {0x48, 0x8b, 0x05, 0x16, 0xff, 0xff, 0x7e}, 7, {0}, {0}},
    {"mov $constant, %rdi", {0x48, 0xc7, 0xc7, 0x00, 0x10, 0x00, 0x00}, 7, {0}, {0}},
    {"mov $far, %rdi", {0x48, 0xc7, 0xc7, 0x00, 0x10, 0x00, 0xa2}, 7, {0}, {0}},
    {"mov $the kernel's first address, %rdi", {0x48, 0xc7, 0xc7, 0x00, 0x00, 0x00, 0x80}, 7, {0}, {0}},
    {"movabs $the last address before the kernel's, %rax", {0x48, 0xb8, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff}, 10, {0}, {0}},
    {"mov $address, %edi: not all of it", {0xbf, 0x00, 0x10, 0x00, 0x82}, 5, {0}, {0}},
    {"call address: moves by itself", {0xe8, 0x00, 0x10, 0x00, 0x82}, 5, {0}, {0}},
};

/* Moved by as much as KASLR moves at most, the bytes are other ones, the recipe is not. */
static void what_moves(const struct moving *m)
{
    const uint64_t by = 0x3e000000;
    struct x86_reloc found[X86_RELOCS];
    struct recipe_block one = {.size = (uint16_t)m->size, .page_offset = 0x123, .bytes = m->bytes, .count = 1}, two = one;
    const struct recipe first = {.mode = MODE, .block_count = 1, .blocks = &one}, second = {.mode = MODE, .block_count = 1, .blocks = &two};
    unsigned wanted = !!m->kinds[0] + !!m->kinds[1], count = x86_relocs_find(MODE, FAR_UP, m->bytes, m->size, found, X86_RELOCS);
    struct store_key key, other;
    uint8_t elsewhere[16], room[16];
    void *made[2];
    bool ok = count == wanted;
    for (unsigned n = 0; n < count && ok; n++)
        ok = x86_reloc_at(&found[n]) == m->at[n] && found[n].kind == m->kinds[n];
    check(m->what, ok && !x86_relocs_find(MODE, FAR_UP - (1ull << 63), m->bytes, m->size, found, X86_RELOCS));
    memcpy(elsewhere, m->bytes, sizeof elsewhere);
    check(m->what, x86_relocate(elsewhere, found, count, FAR_UP, FAR_UP + by) && (memcmp(elsewhere, m->bytes, m->size) != 0) == (wanted != 0));
    two.bytes = elsewhere;
    check(m->what, recipe_block_unmoved(&one, MODE, FAR_UP, &made[0]) && recipe_block_unmoved(&two, MODE, FAR_UP + by, &made[1]));
    cache_key(translator, &first, &key);
    cache_key(translator, &second, &other);
    check(m->what, !memcmp(&key, &other, sizeof key) && one.reloc_count == wanted && !memcmp(recipe_block_moved(&one, FAR_UP + by, room), elsewhere, m->size));
    if (wanted) {
        two.bytes = m->bytes, two.relocs = NULL, two.reloc_count = 0;
        cache_key(translator, &second, &other);
        check(m->what, memcmp(&key, &other, sizeof key));
        check("no room for it there", m->kinds[0] == X86_RELOC_64 || !recipe_block_moved(&one, 0x100000000, room));
    }
    free(made[0]);
    free(made[1]);
}

static void moves(void)
{
    size_t size;
    void *made;
    for (unsigned n = 0; n < sizeof moving / sizeof *moving; n++)
        what_moves(&moving[n]);
    struct recipe_block b = {.size = (uint16_t)moving[4].size, .page_offset = 0x123, .bytes = moving[4].bytes, .count = 1};
    const struct recipe r = {.mode = MODE, .block_count = 1, .blocks = &b};
    check("found", recipe_block_unmoved(&b, MODE, FAR_UP, &made) && b.reloc_count == 2);
    struct recipe *read = again(&r, &size);
    struct llvm_compiled x = compiled(&r), y = compiled(read);
    check("read as written", read->blocks[0].reloc_count == 2 && !memcmp(read->blocks[0].relocs, b.relocs, 2 * sizeof *b.relocs) && same(&x, &y));
    free(read);
    free(x.elf);
    free(y.elf);
    free(made);
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
    struct recipe_block b = {0, size, 0, bytes, 0, {{0}}, 0, seen, seen_count, NULL, 0};
    const struct recipe r = {.mode = mode, .block_count = 1, .blocks = &b};
    struct llvm_compiled c;
    char error[200] = "";
    check(words, !recipe_compile(model, translator, &r, &c, error, sizeof error) && !c.elf && strstr(error, words) && !strchr(error, '\n'));
}

/* Relocations of fields that are none, or of another kind. */
static void refuses_reloc(unsigned at, enum x86_reloc_kind kind, bool ok)
{
    const struct x86_reloc reloc = {{(uint8_t)at, 0}, (uint8_t)kind};
    struct recipe_block b = {.size = (uint16_t)moving[4].size, .bytes = moving[4].bytes, .relocs = &reloc, .reloc_count = 1};
    const struct recipe r = {.mode = MODE, .block_count = 1, .blocks = &b};
    struct llvm_compiled c;
    char error[200] = "";
    check("a relocation", recipe_compile(model, translator, &r, &c, error, sizeof error) == ok && (ok || (*error && !strchr(error, '\n'))));
    free(c.elf);
}

static void refused(void)
{
    for (unsigned at = 0; at < 8; at++)
        for (enum x86_reloc_kind kind = X86_RELOC_32S; kind <= X86_RELOC_PC32; kind++)
            refuses_reloc(at, kind, kind == X86_RELOC_32S && (at == 3 || at == 7));
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
    moves();
    models();
    damaged();
    refused();
    x86_model_free(model);
    return tally("recipe");
}
