/* The benchmark programs of tierce-bench, in one static executable: `bench` runs all, `bench NAME` one.
 * Each kernel does a fixed amount of work scaled by its `unit`, repeated until 0.2 s have passed, and prints
 * `BENCH name nanoseconds-per-unit checksum`.  The same binary runs natively and in the guest. */
#define _GNU_SOURCE
#include <emmintrin.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- integer */
static uint64_t integer_hash(void)
{
    uint64_t h = 14695981039346656037u;
    for (uint32_t i = 0; i < 400000; i++) {
        h = (h ^ (i & 0xff)) * 1099511628211u;
        h ^= h >> 29;
    }
    return h;
}

static uint64_t integer_sieve(void)
{
    static uint8_t composite[200000];
    uint64_t count = 0;
    memset(composite, 0, sizeof composite);
    for (unsigned i = 2; i < sizeof composite; i++) {
        if (composite[i])
            continue;
        count++;
        for (unsigned j = 2 * i; j < sizeof composite; j += i)
            composite[j] = 1;
    }
    return count;
}

static uint64_t integer_divide(void)
{
    uint64_t sum = 0;
    for (uint32_t i = 1; i < 60000; i++)
        for (uint64_t a = i * 77777ull, b = i + 12345; b;) {
            uint64_t r = a % b;
            a = b;
            b = r;
            sum += a;
        }
    return sum;
}

static uint64_t memory_copy(void)
{
    static uint8_t from[1 << 20], to[1 << 20];
    uint64_t sum = 0;
    for (unsigned i = 0; i < 8; i++) {
        memset(from, (int)i, sizeof from);
        memcpy(to, from, sizeof from);
        sum += to[i * 4099];
    }
    return sum;
}

static uint64_t memory_chase(void)
{
    static uint32_t next[1 << 18];
    if (!next[0])
        for (uint32_t i = 0; i < 1 << 18; i++)
            next[i] = (i * 40503u + 12347u) & ((1 << 18) - 1);
    uint32_t at = 0;
    for (unsigned i = 0; i < 1000000; i++)
        at = next[at];
    return at;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t branches_sort(void)
{
    static uint32_t v[30000];
    uint32_t seed = 1;
    for (unsigned i = 0; i < 30000; i++)
        v[i] = seed = seed * 1664525u + 1013904223u;
    qsort(v, 30000, sizeof *v, compare);
    return v[12345];
}

static NOINLINE uint64_t fib(unsigned n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
static uint64_t calls_fib(void) { return fib(25); }

static NOINLINE uint64_t f0(uint64_t x) { return x + 1; }
static NOINLINE uint64_t f1(uint64_t x) { return x ^ 0x55; }
static NOINLINE uint64_t f2(uint64_t x) { return x * 3; }
static NOINLINE uint64_t f3(uint64_t x) { return x >> 1; }
static uint64_t calls_indirect(void)
{
    static uint64_t (*volatile const table[4])(uint64_t) = {f0, f1, f2, f3};
    uint64_t x = 1;
    for (uint32_t i = 0; i < 300000; i++)
        x = table[(x ^ i) & 3](x);
    return x;
}

/* --- floating point */
static uint64_t bits(double d)
{
    uint64_t u;
    memcpy(&u, &d, 8);
    return u;
}

static uint64_t fp_nbody(void)
{
    double x[8], v[8];
    for (int i = 0; i < 8; i++) {
        x[i] = i * 1.5;
        v[i] = 0.1 * i;
    }
    for (unsigned step = 0; step < 5000; step++)
        for (int i = 0; i < 8; i++) {
            double a = 0;
            for (int j = 0; j < 8; j++) {
                double d = x[j] - x[i];
                a += d / sqrt(d * d + 0.01);
            }
            v[i] += a * 1e-3;
            x[i] += v[i] * 1e-3;
        }
    return bits(x[3]);
}

static uint64_t fp_simd(void)
{
    static float a[4096], b[4096];
    for (int i = 0; i < 4096; i++) {
        a[i] = (float)i * 0.5f;
        b[i] = (float)(4096 - i);
    }
    __m128 sum = _mm_setzero_ps();
    for (unsigned r = 0; r < 100; r++)
        for (int i = 0; i < 4096; i += 4)
            sum = _mm_add_ps(sum, _mm_mul_ps(_mm_loadu_ps(a + i), _mm_loadu_ps(b + i)));
    float out[4];
    _mm_storeu_ps(out, sum);
    return bits(out[0] + out[3]);
}

static uint64_t fp_x87(void)
{
    long double x = 0.5L, s = 0;
    for (unsigned i = 1; i < 100000; i++) {
        x = x * 3.9L * (1.0L - x);
        s += x / (long double)i;
    }
    return bits((double)s);
}

static uint64_t simd_integer(void)
{
    static uint8_t a[65536];
    __m128i sum = _mm_setzero_si128(), k = _mm_set1_epi8(3);
    for (unsigned i = 0; i < sizeof a; i++)
        a[i] = (uint8_t)(i * 7);
    for (unsigned r = 0; r < 20; r++)
        for (unsigned i = 0; i < sizeof a; i += 16) {
            __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(a + i));
            sum = _mm_add_epi64(sum, _mm_sad_epu8(_mm_adds_epu8(x, k), _mm_setzero_si128()));
        }
    return (uint64_t)_mm_cvtsi128_si64(sum);
}

/* --- system */
static uint64_t system_syscall(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < 20000; i++)
        sum += (uint64_t)syscall(SYS_getppid) & 1;
    return sum * 0;
}

static uint64_t system_switch(void)
{
    int there[2], back[2];
    char c = 0;
    if (pipe(there) || pipe(back))
        exit(1);
    pid_t child = fork();
    if (child == 0) {
        while (read(there[0], &c, 1) == 1 && c != 'q')
            if (write(back[1], &c, 1) != 1)
                break;
        _exit(0);
    }
    for (unsigned i = 0; i < 1000; i++)
        if (write(there[1], "x", 1) != 1 || read(back[0], &c, 1) != 1)
            exit(1);
    if (write(there[1], "q", 1) != 1)
        exit(1);
    waitpid(child, NULL, 0);
    close(there[0]), close(there[1]), close(back[0]), close(back[1]);
    return 0;
}

static uint64_t system_fork(void)
{
    for (unsigned i = 0; i < 20; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        waitpid(child, NULL, 0);
    }
    return 0;
}

static uint64_t system_faults(void)
{
    size_t size = 8 << 20;
    uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; i < size; i += 4096)
        p[i] = (uint8_t)i;
    munmap(p, size);
    return 0;
}

/* --- generated code */
static uint8_t *code_page(void)
{
    static uint8_t *page;
    if (!page)
        page = mmap(NULL, 65536, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page;
}

/* The same place is rewritten before each call: mov eax, imm32; ret. */
static uint64_t code_smc(void)
{
    uint8_t *p = code_page();
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 2000; i++) {
        p[0] = 0xb8;
        memcpy(p + 1, &i, 4);
        p[5] = 0xc3;
        sum += ((uint32_t(*)(void))(void *)p)();
    }
    return sum;
}

/* Many small functions are generated next to each other and then called, as a JIT does. */
static uint64_t code_jit(void)
{
    uint8_t *p = code_page() + 4096;
    uint64_t sum = 0;
    for (uint32_t n = 0; n < 1000; n++) {
        uint8_t *f = p + (n % 500) * 16, code[] = {0x8d, 0x47, (uint8_t)n, 0x31, 0xc8, 0xc3}; /* lea eax,[rdi+n]; xor eax,ecx; ret */
        memcpy(f, code, sizeof code);
        for (uint32_t k = 0; k < 20; k++)
            sum += ((uint32_t(*)(uint32_t, uint32_t, uint32_t, uint32_t))(void *)f)(k, 0, 0, 0) & 0x7f;
    }
    return sum * 0;
}

static const struct kernel { const char *name; uint64_t (*run)(void); } kernels[] = {
    {"integer_hash", integer_hash},     {"integer_sieve", integer_sieve},   {"integer_divide", integer_divide},
    {"memory_copy", memory_copy},       {"memory_chase", memory_chase},     {"branches_sort", branches_sort},
    {"calls_fib", calls_fib},           {"calls_indirect", calls_indirect}, {"fp_nbody", fp_nbody},
    {"fp_simd", fp_simd},               {"fp_x87", fp_x87},                 {"simd_integer", simd_integer},
    {"system_syscall", system_syscall}, {"system_switch", system_switch},   {"system_fork", system_fork},
    {"system_faults", system_faults},   {"code_smc", code_smc},             {"code_jit", code_jit},
};

static void measure(const struct kernel *k)
{
    uint64_t best = UINT64_MAX, check = k->run(), begin = now_ns();
    do {
        uint64_t start = now_ns();
        check = k->run();
        uint64_t took = now_ns() - start;
        if (took < best)
            best = took;
    } while (now_ns() - begin < 200000000u);
    printf("BENCH %s %lu %016lx\n", k->name, best, check);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++)
        if (argc < 2 || !strcmp(argv[1], kernels[i].name))
            measure(&kernels[i]);
    printf("BENCH-END\n");
    if (getpid() == 1) { /* started as /init: end the guest */
        fflush(stdout);
        reboot(RB_POWER_OFF);
    }
    return 0;
}
