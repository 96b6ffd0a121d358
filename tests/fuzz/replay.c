/* Stands in for libFuzzer where it is not built in: runs each file that is named, and 200 mutations of each (a fuzzer that
 * takes its time defines replay_mutations). */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);
__attribute__((weak)) extern const unsigned replay_mutations;

static uint32_t next(uint32_t *x) { return *x ^= *x << 13, *x ^= *x >> 17, *x ^= *x << 5; }

/* Each run gets memory of just its size, so that a sanitizer sees a read behind it. */
static void run(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy)
        abort();
    memcpy(copy, bytes, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void mutate(uint8_t *bytes, size_t *size, uint32_t *seed)
{
    for (unsigned i = 1 + next(seed) % 4; i && *size; i--) {
        uint8_t *at = bytes + next(seed) % *size;
        switch (next(seed) % 4) {
        case 0: *at ^= (uint8_t)(1u << next(seed) % 8); break;
        case 1: *at = (uint8_t)next(seed); break;
        case 2: *at = next(seed) & 1 ? 0xff : 0; break;
        case 3: *size -= next(seed) % 8 ? 0 : next(seed) % *size; break;
        }
    }
}

static int replay(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *bytes = malloc(1 << 20), *copy = malloc(1 << 20);
    size_t size = f && bytes ? fread(bytes, 1, 1 << 20, f) : 0;
    uint32_t seed = 2463534242u;
    int read = f && bytes && copy;
    if (f)
        fclose(f);
    if (read)
        run(bytes, size);
    for (unsigned i = 0; read && i < (&replay_mutations ? replay_mutations : 200); i++) {
        size_t n = size;
        memcpy(copy, bytes, size);
        mutate(copy, &n, &seed);
        run(copy, n);
    }
    if (!read)
        printf("%s: cannot be read\n", path);
    free(bytes);
    free(copy);
    return read;
}

int main(int argc, char **argv)
{
    int passed = 0, failed = 0;
    if (LLVMFuzzerInitialize)
        LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++)
        replay(argv[i]) ? passed++ : failed++;
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
