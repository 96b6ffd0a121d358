/* SSE2 vectors of floats and of integers. */
#include "bench.h"
#include <emmintrin.h>

enum { N = 4096 };
static float fa[N] __attribute__((aligned(16))), fb[N] __attribute__((aligned(16)));
static uint8_t ba[65536] __attribute__((aligned(16))), bb[65536] __attribute__((aligned(16)));

static __m128i load(const void *p) { return _mm_loadu_si128(p); }
static uint64_t fold(__m128i v)
{
    return mix((uint64_t)_mm_cvtsi128_si64(v), (uint64_t)_mm_cvtsi128_si64(_mm_srli_si128(v, 8)));
}

static void fill_floats(void)
{
    for (int i = 0; i < N; i++) {
        fa[i] = (float)i * 0.5f;
        fb[i] = (float)(N - i) * 0.25f;
    }
}

static void fill_bytes(void)
{
    for (unsigned i = 0; i < sizeof ba; i++) {
        ba[i] = (uint8_t)(i * 7);
        bb[i] = (uint8_t)(i * 11 + (i >> 8));
    }
}

uint64_t simd_dot(void)
{
    __m128 sum = _mm_setzero_ps();
    fill_floats();
    for (int round = 0; round < 500; round++)
        for (int i = 0; i < N; i += 4)
            sum = _mm_add_ps(sum, _mm_mul_ps(_mm_loadu_ps(fa + i), _mm_loadu_ps(fb + i)));
    return fold(_mm_castps_si128(sum));
}

uint64_t simd_saxpy(void)
{
    __m128 k = _mm_set1_ps(0.0625f);
    fill_floats();
    for (int round = 0; round < 2000; round++)
        for (int i = 0; i < N; i += 8) {
            _mm_store_ps(fb + i, _mm_add_ps(_mm_load_ps(fb + i), _mm_mul_ps(k, _mm_load_ps(fa + i))));
            _mm_store_ps(fb + i + 4, _mm_add_ps(_mm_load_ps(fb + i + 4), _mm_mul_ps(k, _mm_load_ps(fa + i + 4))));
        }
    return fold(load(fb + 1000));
}

/* Two rows of doubles at a time. */
uint64_t simd_double(void)
{
    enum { M = 64 };
    static double a[M][M] __attribute__((aligned(16))), b[M][M] __attribute__((aligned(16))), c[M][M] __attribute__((aligned(16)));
    for (int i = 0; i < M; i++)
        for (int j = 0; j < M; j++)
            a[i][j] = i - j * 0.5, b[i][j] = 1.0 / (i + j + 1);
    for (int round = 0; round < 8; round++)
        for (int i = 0; i < M; i++)
            for (int j = 0; j < M; j += 2) {
                __m128d s = _mm_setzero_pd();
                for (int k = 0; k < M; k++)
                    s = _mm_add_pd(s, _mm_mul_pd(_mm_set1_pd(a[i][k]), _mm_load_pd(&b[k][j])));
                _mm_store_pd(&c[i][j], _mm_sqrt_pd(_mm_max_pd(s, _mm_div_pd(s, _mm_set1_pd(3)))));
            }
    uint64_t u;
    memcpy(&u, &c[50][12], 8);
    return u;
}

uint64_t simd_sad(void)
{
    __m128i sum = _mm_setzero_si128();
    fill_bytes();
    for (int round = 0; round < 60; round++)
        for (unsigned i = 0; i < sizeof ba; i += 16)
            sum = _mm_add_epi64(sum, _mm_sad_epu8(_mm_adds_epu8(load(ba + i), _mm_set1_epi8((char)round)), load(bb + i)));
    return fold(sum);
}

/* Mixes two pictures: unpack, multiply, add, shift, pack with saturation. */
uint64_t simd_blend(void)
{
    const __m128i zero = _mm_setzero_si128();
    fill_bytes();
    for (int round = 0; round < 40; round++) {
        const __m128i wa = _mm_set1_epi16((short)(round * 6)), wb = _mm_set1_epi16((short)(256 - round * 6));
        for (unsigned i = 0; i < sizeof ba; i += 16) {
            __m128i a = load(ba + i), b = load(bb + i);
            __m128i low = _mm_add_epi16(_mm_mullo_epi16(_mm_unpacklo_epi8(a, zero), wa), _mm_mullo_epi16(_mm_unpacklo_epi8(b, zero), wb));
            __m128i high = _mm_add_epi16(_mm_mullo_epi16(_mm_unpackhi_epi8(a, zero), wa), _mm_mullo_epi16(_mm_unpackhi_epi8(b, zero), wb));
            _mm_storeu_si128((__m128i *)(void *)(ba + i), _mm_packus_epi16(_mm_srli_epi16(low, 8), _mm_srli_epi16(high, 8)));
        }
    }
    return fold(load(ba + 4096));
}

/* How strlen and memchr look for a byte: compare, take the mask, branch. */
uint64_t simd_scan(void)
{
    uint64_t found = 0;
    fill_bytes();
    for (int round = 0; round < 50; round++)
        for (unsigned i = 0; i < sizeof ba; i += 16) {
            int mask = _mm_movemask_epi8(_mm_cmpeq_epi8(load(bb + i), _mm_set1_epi8((char)round)));
            if (mask)
                found += (uint64_t)__builtin_ctz((unsigned)mask) + i;
        }
    return found;
}

/* Four random number generators side by side, shuffled: shifts, xor, 32-bit multiplication. */
uint64_t simd_shuffle(void)
{
    __m128i x = _mm_set_epi32(1, 22, 333, 4444), sum = _mm_setzero_si128();
    for (int i = 0; i < 400000; i++) {
        x = _mm_xor_si128(x, _mm_slli_epi32(x, 13));
        x = _mm_xor_si128(x, _mm_srli_epi32(x, 17));
        x = _mm_xor_si128(x, _mm_slli_epi32(x, 5));
        sum = _mm_add_epi64(_mm_shuffle_epi32(sum, 0x39), _mm_mul_epu32(x, _mm_shuffle_epi32(x, 0xb1)));
    }
    return fold(sum);
}
