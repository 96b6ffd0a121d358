/* The x87 with its 80 bits; compilers use it for long double. */
#include "bench.h"

static uint64_t bits(long double x)
{
    double d = (double)x;
    uint64_t u;
    memcpy(&u, &d, 8);
    return u;
}

uint64_t x87_logistic(void)
{
    long double x = 0.5L, s = 0;
    for (unsigned i = 1; i < 60000; i++) {
        x = x * 3.9L * (1.0L - x);
        s += x / (long double)i;
    }
    return bits(s);
}

uint64_t x87_horner(void)
{
    long double x = 0.3L, s = 0;
    for (int i = 0; i < 60000; i++) {
        long double p = 0.1L;
        p = p * x + 0.3L, p = p * x - 0.7L, p = p * x + 0.9L, p = p * x - 0.2L;
        s += p;
        x = p * 0.5L;
    }
    return bits(s);
}

/* Loads and stores of double, float and integer: what 32-bit programs do all day. */
uint64_t x87_memory(void)
{
    static double a[1024];
    static float b[1024];
    static int c[1024];
    for (int i = 0; i < 1024; i++)
        a[i] = i * 0.75, b[i] = (float)(1024 - i), c[i] = i * 3;
    for (int round = 0; round < 500; round++)
        for (int i = 0; i < 1024; i++)
            __asm__ volatile("fldl %0; fmuls %1; fiaddl %2; fld %%st(0); fistpl %2; fmuls %3; fstpl %0"
                             : "+m"(a[i]), "+m"(b[i]), "+m"(c[i]) : "m"((float){0.0005f}) : "st", "st(1)");
    return bits((long double)a[500]) ^ (uint32_t)c[77];
}

uint64_t x87_roots(void)
{
    long double s = 0;
    for (int i = 1; i < 25000; i++) {
        long double x = i;
        __asm__("fsqrt" : "+t"(x));
        if (x > s / (long double)i)
            s += x;
        else
            s -= 1;
    }
    return bits(s);
}

/* Rounded to a millionth: the last bits of FSIN differ between makers. */
uint64_t x87_sine(void)
{
    long double s = 0;
    for (int i = 1; i < 25000; i++) {
        long double x = (long double)i * 0.0001L, y = x;
        __asm__("fsin" : "+t"(x));
        __asm__("fcos" : "+t"(y));
        s += x * y;
    }
    return (uint64_t)(s * 1e6L + 0.5L);
}
