/* Keys of the translation cache: hashes over all that can change an object's code. */
#include "runtime/internal.h"
#include "runtime/cache.h"
#include "runtime/recipe.h"
#include <stdlib.h>
#include <string.h>
#include <translator_sources.h> /* made by the build, of the translator's sources: TRANSLATOR_SOURCES */
#define XXH_INLINE_ALL
#include <xxhash.h>

static void hash_end(const XXH3_state_t *h, uint64_t to[2])
{
    XXH128_hash_t hash = XXH3_128bits_digest(h);
    to[0] = hash.low64;
    to[1] = hash.high64;
}

static void hash_begin(XXH3_state_t *h, const uint64_t translator[2])
{
    XXH3_128bits_reset(h);
    if (translator)
        XXH3_128bits_update(h, translator, 2 * sizeof *translator);
}

void cache_translator(const struct x86_model *model, uint64_t id[2])
{
    static const char build[] = TRANSLATOR_SOURCES
#ifdef TIERCE_NASTY
        " nasty" /* whose tables are others */
#endif
        ;
    XXH3_state_t h;
    uint8_t features[512];
    char *host = llvm_fingerprint();
    hash_begin(&h, NULL);
    XXH3_128bits_update(&h, build, sizeof build);
    XXH3_128bits_update(&h, features, x86_model_features(model, features, sizeof features));
    XXH3_128bits_update(&h, host ? host : "", host ? strlen(host) : 0);
    hash_end(&h, id);
    free(host);
}

void cache_head(const uint64_t translator[2], uint32_t mode, bool icount, const struct recipe_block *first, uint64_t head[2])
{
    const uint32_t words[] = {mode, icount, first->size, first->page_offset};
    XXH3_state_t h;
    hash_begin(&h, translator);
    XXH3_128bits_update(&h, words, sizeof words);
    XXH3_128bits_update(&h, first->bytes, first->size);
    if (first->reloc_count)
        XXH3_128bits_update(&h, first->relocs, first->reloc_count * sizeof *first->relocs);
    hash_end(&h, head);
}

void recipe_key(const uint64_t translator[2], const struct recipe *r, const uint8_t *written, struct store_key *key)
{
    XXH3_state_t h;
    cache_head(translator, r->mode, r->icount, &r->blocks[0], key->head);
    hash_begin(&h, translator);
    XXH3_128bits_update(&h, written, recipe_key_size(written));
    hash_end(&h, key->whole);
}

void cache_key(const uint64_t translator[2], const struct recipe *r, struct store_key *key)
{
    uint8_t *written;
    size_t size;
    *key = (struct store_key){{0}, {0}};
    if (!recipe_write(r, &written, &size))
        return; /* out of memory: a key that no object has */
    recipe_key(translator, r, written, key);
    free(written);
}

void recipe_key_put(const struct store_key *key, uint8_t to[32])
{
    const uint64_t words[] = {key->head[0], key->head[1], key->whole[0], key->whole[1]};
    for (unsigned n = 0; n < 32; n++)
        to[n] = (uint8_t)(words[n / 8] >> 8 * (n % 8));
}
