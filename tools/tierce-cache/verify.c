/* tierce-cache verify: compiles objects of this translator again from their recipes; the bytes must be the same. */
#include "tools/tierce-cache/tool.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum verdict { SAME, DIFFERENT, FOREIGN /* another translator's */, DAMAGED, VERDICTS };
static const char *const words[VERDICTS] = {"same", "different", "foreign", "damaged"};

static bool equal(const struct object_view *v, const struct store_object *o, const struct llvm_compiled *c, char *why, size_t size)
{
    (void)v;
    size_t n = 0, least = o->size < c->elf_size ? o->size : c->elf_size;
    while (n < least && o->data[n] == c->elf[n])
        n++;
    if (n == o->size && n == c->elf_size)
        return true;
    snprintf(why, size, "its bytes differ from %zu on", n);
    return false;
}

static enum verdict check(struct store *s, const struct store_entry *e, const struct x86_model *model, const uint64_t translator[2], char *why, size_t size)
{
    struct store_object o;
    struct object_view v;
    struct llvm_compiled c;
    struct store_key key;
    if (!object_of(s, e, &o, &v, why, size))
        return DAMAGED;
    enum verdict verdict = DAMAGED;
    struct recipe *r = NULL;
    snprintf(why, size, "it has no recipe");
    if (v.meta.recipe_size && (r = recipe_read(v.meta.recipe, v.meta.recipe_size, why, size))) {
        cache_key(translator, r, &key);
        if (memcmp(&key, &e->key, sizeof key)) {
            verdict = FOREIGN;
        } else if (!recipe_compile(model, translator, r, &c, why, size)) {
            verdict = DIFFERENT;
        } else {
            verdict = equal(&v, &o, &c, why, size) ? SAME : DIFFERENT;
            free(c.elf);
        }
    }
    free(r);
    object_close(&v);
    store_release(&o);
    return verdict;
}

/* Which ones: all, or so many, spread evenly over the keys. */
static size_t sample_size(const struct options *o, size_t count)
{
    char *end;
    if (!o->sample)
        return count < 20 ? count : 20;
    if (!strcmp(o->sample, "all"))
        return count;
    unsigned long long n = strtoull(o->sample, &end, 10);
    if (*end || !n || *o->sample < '0' || *o->sample > '9')
        die(2, "--sample '%s': accepted is a number from 1 on, or all", o->sample);
    return n < count ? (size_t)n : count;
}

int verify_run(struct options *o, const char *const *arguments, unsigned count)
{
    uint64_t translator[2];
    size_t entries, verdicts[VERDICTS] = {0};
    if (count > 1)
        die(2, "more than one key prefix: '%s'; accepted is one", arguments[1]);
    const struct x86_model *model = model_of(o);
    cache_translator(model, translator);
    struct store *s = store_get_open(o, READ_ONLY);
    struct store_entry *e = entries_of(s, count ? arguments[0] : "", o->with_layers, &entries);
    size_t sample = sample_size(o, entries);
    if (o->json)
        fputs("{\"wrong\": [", stdout);
    for (size_t n = 0, printed = 0; n < sample; n++) {
        const struct store_entry *one = &e[n * entries / sample];
        char why[200] = "", key[KEY_TEXT];
        enum verdict verdict = check(s, one, model, translator, why, sizeof why);
        verdicts[verdict]++;
        if (verdict == SAME || verdict == FOREIGN)
            continue;
        key_text(&one->key, key);
        if (o->json) {
            printf("%s{\"key\": \"%s\", \"verdict\": \"%s\", \"why\": ", printed++ ? ", " : "", key, words[verdict]);
            json_string(stdout, why);
            putchar('}');
        } else {
            printf("%s %s: %s\n", key, words[verdict], why);
        }
    }
    if (o->json)
        printf("], \"objects\": %zu, \"checked\": %zu", entries, sample);
    else
        printf("%zu of %zu objects checked:", sample, entries);
    for (unsigned n = 0; n < VERDICTS; n++)
        printf(o->json ? ", \"%2$s\": %1$zu" : " %zu %s", verdicts[n], words[n]);
    puts(o->json ? "}" : "");
    free(e);
    store_close(s);
    x86_model_free(model);
    return verdicts[DIFFERENT] || verdicts[DAMAGED] ? 1 : 0;
}
