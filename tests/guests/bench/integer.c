/* Integer programs: arithmetic, tables and loops that fit into the first-level cache. */
#include "bench.h"

/* A hash table with open addressing: inserts and looks up. */
uint64_t integer_hash(void)
{
    enum { SLOTS = 8192 };
    static uint32_t keys[SLOTS], counts[SLOTS];
    uint32_t seed = 6;
    uint64_t probes = 0;
    memset(keys, 0, sizeof keys);
    memset(counts, 0, sizeof counts);
    for (int i = 0; i < 120000; i++) {
        uint32_t key = next_random(&seed) % 5000 + 1, h = key * 0x85ebca6bu;
        for (h = (h ^ h >> 13) % SLOTS; keys[h] && keys[h] != key; h = (h + 1) % SLOTS)
            probes++;
        keys[h] = key;
        counts[h]++;
    }
    return probes << 32 | counts[1000] << 16 | counts[77];
}

uint64_t integer_crc(void)
{
    static uint32_t table[256];
    static uint8_t text[16384];
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++)
            c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
        table[i] = c;
    }
    for (unsigned i = 0; i < sizeof text; i++)
        text[i] = (uint8_t)(i * 31 + (i >> 7));
    uint32_t crc = ~0u;
    for (int round = 0; round < 40; round++)
        for (unsigned i = 0; i < sizeof text; i++)
            crc = table[(crc ^ text[i]) & 0xff] ^ crc >> 8;
    return ~crc;
}

uint64_t integer_sieve(void)
{
    static uint8_t composite[30000];
    uint64_t count = 0;
    for (int round = 0; round < 20; round++) {
        memset(composite, 0, sizeof composite);
        for (unsigned i = 2; i < sizeof composite; i++) {
            if (composite[i])
                continue;
            count += i;
            for (unsigned j = 2 * i; j < sizeof composite; j += i)
                composite[j] = 1;
        }
    }
    return count;
}

uint64_t integer_divide(void)
{
    uint64_t sum = 0;
    for (uint32_t i = 1; i < 12000; i++)
        for (uint64_t a = i * 77777ull, b = i + 12345; b;) {
            uint64_t r = a % b;
            a = b;
            b = r;
            sum += a;
        }
    return sum;
}

/* A compressor: matches found through a hash of three bytes, written as bits. */
static unsigned put_bits(uint8_t *out, unsigned at, uint32_t value, unsigned count)
{
    for (unsigned i = 0; i < count; i++, at++) {
        unsigned bit = value >> i & 1;
        out[at >> 3] = (uint8_t)((out[at >> 3] & ~(1u << (at & 7))) | bit << (at & 7));
    }
    return at;
}

uint64_t integer_compress(void)
{
    static uint8_t in[16384], out[32768];
    static uint16_t head[4096];
    uint32_t seed = 7;
    unsigned at = 0;
    for (unsigned i = 0; i < sizeof in; i++)
        in[i] = (uint8_t)("the quick brown fox "[i % 20] + (next_random(&seed) % 16 == 0));
    for (int round = 0; round < 8; round++) {
        at = 0;
        memset(head, 0, sizeof head);
        for (unsigned i = 0; i + 3 < sizeof in;) {
            unsigned h = (in[i] << 8 ^ in[i + 1] << 4 ^ in[i + 2]) & 4095, from = head[h], length = 0;
            head[h] = (uint16_t)i;
            while (from < i && length < 31 && i + length < sizeof in && in[from + length] == in[i + length])
                length++;
            if (length > 3) {
                at = put_bits(out, at, 1 | length << 1 | (i - from) << 6, 20);
                i += length;
            } else {
                at = put_bits(out, at, (uint32_t)in[i] << 1, 9);
                i++;
            }
        }
    }
    uint64_t sum = at;
    for (unsigned i = 0; i < at / 8; i++)
        sum = mix(sum, out[i]);
    return sum;
}

/* A bytecode interpreter that counts the steps of Collatz sequences. */
enum { OP_EVEN, OP_HALF, OP_TRIPLE, OP_COUNT, OP_JUMP_UNLESS, OP_JUMP, OP_ONE, OP_END };
uint64_t integer_vm(void)
{
    static const uint8_t code[] = {OP_ONE, OP_JUMP_UNLESS, 4, OP_END, OP_EVEN, OP_JUMP_UNLESS, 11, OP_HALF, OP_COUNT, OP_JUMP, 0,
                                   OP_TRIPLE, OP_COUNT, OP_JUMP, 0};
    uint64_t count = 0;
    for (uint64_t start = 1; start < 700; start++) {
        uint64_t x = start;
        int flag = 0;
        for (const uint8_t *pc = code;;) {
            switch (*pc++) {
            case OP_EVEN: flag = !(x & 1); continue;
            case OP_HALF: x >>= 1; continue;
            case OP_TRIPLE: x = 3 * x + 1; continue;
            case OP_COUNT: count++; continue;
            case OP_JUMP_UNLESS: pc = flag ? pc + 1 : code + *pc; continue;
            case OP_JUMP: pc = code + *pc; continue;
            case OP_ONE: flag = x == 1; continue;
            }
            break;
        }
    }
    return count;
}

uint64_t integer_search(void)
{
    static char text[20000];
    static const char *const words[] = {"needle", "haystack", "abcab", "zz"};
    uint32_t seed = 3;
    uint64_t sum = 0;
    for (unsigned i = 0; i + 1 < sizeof text; i++)
        text[i] = "abcdehnlzst k"[next_random(&seed) % 13];
    for (int round = 0; round < 12; round++)
        for (unsigned w = 0; w < 4; w++)
            for (const char *p = text; *p; p++) {
                const char *a = p, *b = words[w];
                while (*b && *a == *b)
                    a++, b++;
                sum += (uint64_t)(b - words[w]);
            }
    return sum;
}

uint64_t integer_matrix(void)
{
    enum { N = 72 };
    static int32_t a[N][N], b[N][N], c[N][N];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = i * 3 - j;
            b[i][j] = i ^ j;
        }
    uint64_t sum = 0;
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                int32_t s = 0;
                for (int k = 0; k < N; k++)
                    s += a[i][k] * b[k][j];
                c[i][j] = s;
            }
        sum = mix(sum, (uint64_t)(uint32_t)c[round][N - 1 - round]);
        a[round][0] ^= (int32_t)sum;
    }
    return sum;
}

static void quick_sort(uint32_t *v, long low, long high)
{
    while (low < high) {
        uint32_t pivot = v[(low + high) / 2];
        long i = low, j = high;
        while (i <= j) {
            while (v[i] < pivot)
                i++;
            while (v[j] > pivot)
                j--;
            if (i <= j) {
                uint32_t t = v[i];
                v[i++] = v[j];
                v[j--] = t;
            }
        }
        quick_sort(v, low, j);
        low = i;
    }
}

uint64_t integer_sort(void)
{
    static uint32_t v[24000];
    uint32_t seed = 1;
    for (unsigned i = 0; i < 24000; i++)
        v[i] = next_random(&seed);
    quick_sort(v, 0, 23999);
    uint64_t sum = 0;
    for (unsigned i = 0; i < 24000; i += 100)
        sum = mix(sum, v[i]);
    return sum;
}

/* The compression function of SHA-256 in shape, with made-up constants: rotates, additions, logic. */
static uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }
uint64_t integer_sha(void)
{
    uint32_t s[8] = {1, 2, 3, 4, 5, 6, 7, 8}, w[64];
    for (uint32_t block = 0; block < 4000; block++) {
        for (uint32_t i = 0; i < 16; i++)
            w[i] = block * 2654435761u + i;
        for (int i = 16; i < 64; i++)
            w[i] = w[i - 16] + w[i - 7] + (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3) +
                   (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10);
        uint32_t a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
        for (uint32_t i = 0; i < 64; i++) {
            uint32_t t = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + w[i] + i * 0x9e3779b9u;
            uint32_t u = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            h = g, g = f, f = e, e = d + t, d = c, c = b, b = a, a = t + u;
        }
        s[0] += a, s[1] += b, s[2] += c, s[3] += d, s[4] += e, s[5] += f, s[6] += g, s[7] += h;
    }
    return (uint64_t)s[0] << 32 | s[7];
}

/* Numbers of many words: products of 64 by 64 bits, and carries. */
uint64_t integer_bignum(void)
{
    enum { WORDS = 256 };
    static uint64_t n[WORDS];
    memset(n, 0, sizeof n);
    n[0] = 1;
    for (uint64_t k = 1; k < 3500; k++) {
        unsigned __int128 carry = 0;
        for (int i = 0; i < WORDS; i++) {
            carry += (unsigned __int128)n[i] * (k * 0x123456789abcdefu | 1);
            n[i] = (uint64_t)carry;
            carry >>= 64;
        }
    }
    return n[0] ^ n[WORDS - 1];
}

/* Eight queens and more: bit boards, recursion, unpredictable branches. */
static uint64_t place(uint32_t all, uint32_t columns, uint32_t left, uint32_t right)
{
    uint64_t found = 0;
    if (columns == all)
        return 1;
    for (uint32_t open = all & ~(columns | left | right); open;) {
        uint32_t bit = open & -open;
        open ^= bit;
        found += place(all, columns | bit, (left | bit) << 1, (right | bit) >> 1);
    }
    return found;
}
uint64_t integer_queens(void) { return place((1u << 11) - 1, 0, 0, 0) * 1000 + place((1u << 10) - 1, 0, 0, 0); }
