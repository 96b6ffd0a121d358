/* AES, carry-less multiplication and SHA in plain C: what these operations mean on a host that lacks the
 * instructions (SDM 2A AESENC, 2B PCLMULQDQ and SHA1RNDS4).  Not fast. */
#include "ir/internal.h"
#include <string.h>

typedef uint8_t vec[16];

/* --- AES (FIPS 197): bytes of the state are columns of four */
static uint8_t gf_mul(uint8_t a, uint8_t b)
{
    uint8_t r = 0;
    for (; b; b >>= 1, a = (uint8_t)(a << 1 ^ (a & 0x80 ? 0x1b : 0)))
        if (b & 1)
            r ^= a;
    return r;
}

static uint8_t gf_inverse(uint8_t a) /* a^254 */
{
    uint8_t r = 1;
    for (unsigned bit = 0x80; bit; bit >>= 1) {
        r = gf_mul(r, r);
        if (254 & bit)
            r = gf_mul(r, a);
    }
    return r;
}

static uint8_t rotate8(uint8_t v, unsigned n) { return (uint8_t)(v << n | v >> (8 - n)); }
static uint8_t sub(uint8_t v)
{
    v = gf_inverse(v);
    return v ^ rotate8(v, 1) ^ rotate8(v, 2) ^ rotate8(v, 3) ^ rotate8(v, 4) ^ 0x63;
}
static uint8_t inverse_sub(uint8_t v) { return gf_inverse(rotate8(v, 1) ^ rotate8(v, 3) ^ rotate8(v, 6) ^ 0x05); }

/* Row r of the state moves r columns: to the left, or back. */
static void shift_and_sub(vec s, bool inverse)
{
    vec from;
    memcpy(from, s, sizeof from);
    for (unsigned i = 0; i < 16; i++)
        s[i] = inverse ? inverse_sub(from[(i - 4 * (i % 4)) & 15]) : sub(from[(i + 4 * (i % 4)) & 15]);
}

static void mix_columns(vec s, const uint8_t by[4])
{
    vec from;
    memcpy(from, s, sizeof from);
    for (unsigned i = 0; i < 16; i++) {
        const uint8_t *column = from + (i & 12);
        s[i] = 0;
        for (unsigned k = 0; k < 4; k++)
            s[i] ^= gf_mul(column[(i + k) & 3], by[k]);
    }
}

static void aes_round(vec s, const vec key, bool inverse, bool last)
{
    static const uint8_t forth[4] = {2, 3, 1, 1}, back[4] = {14, 11, 13, 9};
    shift_and_sub(s, inverse);
    if (!last)
        mix_columns(s, inverse ? back : forth);
    for (unsigned i = 0; i < 16; i++)
        s[i] ^= key[i];
}

static void aes_keygen(vec s, uint8_t constant)
{
    vec from;
    memcpy(from, s, sizeof from);
    for (unsigned i = 0; i < 4; i++) {
        s[i] = sub(from[4 + i]);
        s[8 + i] = sub(from[12 + i]);
    }
    for (unsigned i = 0; i < 4; i++) {
        s[4 + i] = s[(i + 1) & 3] ^ (i ? 0 : constant);
        s[12 + i] = s[8 + ((i + 1) & 3)] ^ (i ? 0 : constant);
    }
}

/* --- Carry-less product */
static void clmul(vec a, const vec b, uint8_t halves)
{
    uint64_t x, y, low = 0, high = 0;
    memcpy(&x, a + (halves & 1 ? 8 : 0), 8);
    memcpy(&y, b + (halves & 16 ? 8 : 0), 8);
    for (unsigned i = 0; i < 64; i++)
        if (y >> i & 1) {
            low ^= x << i;
            high ^= i ? x >> (64 - i) : 0;
        }
    memcpy(a, &low, 8);
    memcpy(a + 8, &high, 8);
}

/* --- SHA: words[3] is the highest, as the manual counts bits */
static uint32_t rol(uint32_t v, unsigned n) { return v << n | v >> (32 - n); }
static uint32_t ror(uint32_t v, unsigned n) { return rol(v, 32 - n); }

static void sha1_rounds(uint32_t s[4], const uint32_t w[4], unsigned function)
{
    static const uint32_t constants[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
    uint32_t a = s[3], b = s[2], c = s[1], d = s[0], e = 0;
    for (unsigned i = 0; i < 4; i++) {
        uint32_t f = function == 0 ? (b & c) ^ (~b & d) : function == 2 ? (b & c) ^ (b & d) ^ (c & d) : b ^ c ^ d;
        uint32_t next = f + rol(a, 5) + w[3 - i] + e + constants[function];
        e = d, d = c, c = rol(b, 30), b = a, a = next;
    }
    s[3] = a, s[2] = b, s[1] = c, s[0] = d;
}

static void sha1_message2(uint32_t s[4], const uint32_t w[4])
{
    s[3] = rol(s[3] ^ w[2], 1);
    s[2] = rol(s[2] ^ w[1], 1);
    s[1] = rol(s[1] ^ w[0], 1);
    s[0] = rol(s[0] ^ s[3], 1);
}

static void sha256_rounds(uint32_t cdgh[4], const uint32_t abef[4], const uint32_t wk[2])
{
    uint32_t a = abef[3], b = abef[2], c = cdgh[3], d = cdgh[2], e = abef[1], f = abef[0], g = cdgh[1], h = cdgh[0];
    for (unsigned i = 0; i < 2; i++) {
        uint32_t t = h + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) + ((e & f) ^ (~e & g)) + wk[i];
        uint32_t u = (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + t, d = c, c = b, b = a, a = t + u;
    }
    cdgh[3] = a, cdgh[2] = b, cdgh[1] = e, cdgh[0] = f;
}

static void sha256_message1(uint32_t s[4], const uint32_t w[4])
{
    const uint32_t next[4] = {s[1], s[2], s[3], w[0]};
    for (unsigned i = 0; i < 4; i++)
        s[i] += ror(next[i], 7) ^ ror(next[i], 18) ^ next[i] >> 3;
}

static void sha256_message2(uint32_t s[4], const uint32_t w[4])
{
    for (unsigned i = 0; i < 4; i++) {
        uint32_t v = i < 2 ? w[2 + i] : s[i - 2];
        s[i] += ror(v, 17) ^ ror(v, 19) ^ v >> 10;
    }
}

static void sha(enum ir_op op, unsigned imm, uint32_t a[4], const uint32_t b[4], const uint32_t c[4])
{
    switch ((unsigned)op) {
    case IR_vsha1rnds4: sha1_rounds(a, b, imm & 3); break;
    case IR_vsha1nexte:
        a[3] = b[3] + rol(a[3], 30);
        memcpy(a, b, 12);
        break;
    case IR_vsha1msg1:
        a[3] ^= a[1], a[2] ^= a[0], a[1] ^= b[3], a[0] ^= b[2];
        break;
    case IR_vsha1msg2: sha1_message2(a, b); break;
    case IR_vsha256rnds2: sha256_rounds(a, b, c); break;
    case IR_vsha256msg1: sha256_message1(a, b); break;
    default: sha256_message2(a, b); break;
    }
}

void ir_crypto_eval(enum ir_op op, unsigned imm, uint8_t x[3][16])
{
    static const uint8_t back[4] = {14, 11, 13, 9};
    uint32_t w[3][4];
    switch ((unsigned)op) {
    case IR_vaesenc: case IR_vaesenclast: aes_round(x[0], x[1], false, op == IR_vaesenclast); break;
    case IR_vaesdec: case IR_vaesdeclast: aes_round(x[0], x[1], true, op == IR_vaesdeclast); break;
    case IR_vaesimc: mix_columns(x[0], back); break;
    case IR_vaeskeygen: aes_keygen(x[0], (uint8_t)imm); break;
    case IR_vclmul: clmul(x[0], x[1], (uint8_t)imm); break;
    default:
        memcpy(w, x, sizeof w);
        sha(op, imm, w[0], w[1], w[2]);
        memcpy(x[0], w[0], 16);
    }
}
