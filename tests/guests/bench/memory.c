/* Memory: copies, streams, and chains of pointers inside and outside of the caches. */
#include "bench.h"

/* Some pages lie between them: at a power of two apart, the two would share entries of any direct-mapped TLB, and that
 * would be all that is measured. */
static struct { uint8_t from[1 << 20], gap[13 * 4096], to[1 << 20]; } blocks __attribute__((aligned(4096)));
#define from blocks.from
#define to blocks.to

static void fill(void)
{
    for (unsigned i = 0; i < sizeof from; i += 8)
        *(uint64_t *)(void *)(from + i) = i * 0x9e3779b97f4a7c15u;
}

static uint64_t sample(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < sizeof to; i += 4099)
        sum = mix(sum, to[i]);
    return sum;
}

uint64_t memory_rep_movs(void)
{
    fill();
    for (unsigned round = 0; round < 100; round++) {
        const uint8_t *s = from + round;
        uint8_t *d = to;
        size_t n = sizeof from - 4096;
        __asm__ volatile("rep movsb" : "+S"(s), "+D"(d), "+c"(n) : : "memory");
    }
    return sample();
}

/* Short copies and fills, as system code does them. */
uint64_t memory_rep_short(void)
{
    uint64_t sum = 0;
    fill();
    for (unsigned round = 0; round < 30000; round++) {
        const uint8_t *s = from + round;
        uint8_t *d = to + round * 3;
        size_t n = 8 + (round & 7);
        __asm__ volatile("rep movsq" : "+S"(s), "+D"(d), "+c"(n) : : "memory");
        n = 16;
        __asm__ volatile("rep stosl" : "+D"(d), "+c"(n) : "a"(round) : "memory");
        sum += to[round * 3 + (round & 63)];
    }
    return sum;
}

uint64_t memory_copy_loop(void)
{
    fill();
    for (unsigned round = 0; round < 6; round++) {
        const uint64_t *s = (const void *)from;
        uint64_t *d = (void *)to;
        for (size_t i = 0; i < sizeof from / 8; i++) {
            d[i] = s[i] + round;
            __asm__ volatile("" : : : "memory");
        }
    }
    return sample();
}

uint64_t memory_copy_bytes(void)
{
    fill();
    for (size_t i = 0; i < sizeof from; i++) {
        to[sizeof to - 1 - i] = from[i];
        __asm__ volatile("" : : : "memory");
    }
    return sample();
}

uint64_t memory_stream(void)
{
    enum { N = 1 << 18 };
    static struct { uint64_t a[N], gap_a[512 * 13], b[N], gap_b[512 * 13], c[N]; } arrays __attribute__((aligned(4096)));
    uint64_t *a = arrays.a, *b = arrays.b, *c = arrays.c, sum = 0;
    for (uint64_t i = 0; i < N; i++)
        b[i] = i, c[i] = i * i;
    for (uint64_t round = 0; round < 4; round++) {
        for (size_t i = 0; i < N; i++)
            a[i] = b[i] + c[i] * (round + 3);
        sum = mix(sum, a[round * 1001]);
        b[round] += sum;
    }
    return sum;
}

/* One cycle through all of n cells, by Sattolo's shuffle. */
static void make_cycle(uint32_t *next, uint32_t n)
{
    uint32_t seed = 9;
    for (uint32_t i = 0; i < n; i++)
        next[i] = i;
    for (uint32_t i = n - 1; i > 0; i--) {
        uint32_t j = next_random(&seed) % i, t = next[i];
        next[i] = next[j];
        next[j] = t;
    }
}

static uint64_t chase(const uint32_t *next, uint32_t steps)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < steps; i++)
        at = next[at];
    return at;
}

uint64_t memory_chase_near(void)
{
    static uint32_t next[4096];
    if (!next[0])
        make_cycle(next, 4096);
    return chase(next, 1500001);
}

uint64_t memory_chase_far(void)
{
    static uint32_t next[1 << 22];
    if (!next[0])
        make_cycle(next, 1 << 22);
    return chase(next, 50000);
}
