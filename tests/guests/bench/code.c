/* Code that changes: self-modification, data beside code, and what compilers at run time do. */
#define _GNU_SOURCE
#include "bench.h"
#include <sys/mman.h>
#include <unistd.h>

typedef uint32_t (*function)(uint32_t);
enum { REGION = 1 << 16 };

static uint8_t *region(void)
{
    static uint8_t *pages;
    if (!pages) {
        pages = mmap(NULL, REGION, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (pages == MAP_FAILED)
            _exit(99);
    }
    return pages;
}

static uint8_t *put(uint8_t *p, const void *bytes, size_t count)
{
    memcpy(p, bytes, count);
    return p + count;
}
#define PUT(p, ...) put(p, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))
static uint8_t *put32(uint8_t *p, uint32_t value) { return put(p, &value, 4); }
static void store32(uint8_t *p, uint32_t value) { memcpy(p, &value, 4); }

/* lea eax,[rdi+imm]; xor eax,imm; imul eax,eax,imm; rol eax,5; ...; ret */
static uint8_t *put_mixer(uint8_t *p, uint32_t seed, int steps)
{
    p = PUT(p, 0x8d, 0x87);
    p = put32(p, seed);
    for (int i = 0; i < steps; i++) {
        p = put32(PUT(p, 0x35), seed + (uint32_t)i);
        p = put32(PUT(p, 0x69, 0xc0), seed * 8 + 3);
        p = PUT(p, 0xc1, 0xc0, 5);
        p = PUT(p, 0x01, 0xf8);
    }
    return PUT(p, 0xc3);
}

/* What that returns. */
static uint32_t mixer(uint32_t seed, int steps, uint32_t argument)
{
    uint32_t x = argument + seed;
    for (int i = 0; i < steps; i++) {
        x = (x ^ (seed + (uint32_t)i)) * (seed * 8 + 3);
        x = (x << 5 | x >> 27) + argument;
    }
    return x;
}

/* mov eax,edi; mov ecx,count; again: add eax,imm; rol eax,3; dec ecx; jnz again; ret.  Returns where imm is. */
static uint8_t *put_loop(uint8_t *p, uint32_t count)
{
    p = PUT(p, 0x89, 0xf8, 0xb9);
    p = put32(p, count);
    p = PUT(p, 0x05);
    uint8_t *imm = p;
    p = put32(p, 1);
    PUT(p, 0xc1, 0xc0, 3, 0xff, 0xc9, 0x75, 0xf4, 0xc3);
    return imm;
}

static uint32_t call(const uint8_t *code, uint32_t x) { return ((function)(uintptr_t)code)(x); }

/* An immediate operand changes before each call. */
uint64_t code_patch(void)
{
    uint8_t *p = region(), *imm = put_loop(p, 4);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 3000; i++) {
        store32(imm, i * 77);
        sum = mix(sum, call(p, i));
    }
    return sum;
}

/* It changes once, and then the loop runs 2000 times. */
uint64_t code_patch_seldom(void)
{
    uint8_t *p = region() + 4096, *imm = put_loop(p, 2000);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 500; i++) {
        store32(imm, i * 77);
        sum = mix(sum, call(p, i));
    }
    return sum;
}

/* A loop that writes the operand of its own next instruction. */
uint64_t code_patch_self(void)
{
    uint8_t *p = region() + 2 * 4096, *start = p;
    p = PUT(p, 0x89, 0xf8, 0xb9);                         /* mov eax,edi; mov ecx,3000 */
    p = put32(p, 3000);
    uint8_t *again = p;
    p = PUT(p, 0x69, 0xc0, 0x0d, 0x66, 0x19, 0);          /* imul eax,eax,1664525 */
    p = PUT(p, 0x89, 0x05, 0x02, 0, 0, 0);                /* mov [rip+2],eax */
    p = PUT(p, 0x8d, 0x87, 0, 0, 0, 0);                   /* lea eax,[rdi+that] */
    p = PUT(p, 0xff, 0xc9, 0x75);                         /* dec ecx; jnz again */
    p = PUT(p, (uint8_t)(again - p - 1));
    PUT(p, 0xc3);
    return call(start, 12345);
}

/* Data beside the code that uses it, on one page. */
uint64_t code_write_near(void)
{
    uint8_t *p = region() + 3 * 4096;
    volatile uint32_t *data = (void *)(p + 2048);
    uint64_t sum = 0;
    put_loop(p, 4);
    for (uint32_t i = 0; i < 60000; i++) {
        data[i & 63] = i;
        sum += call(p, data[(i * 7) & 63]);
    }
    for (int i = 0; i < 64; i++)
        data[i] = 0;
    return sum;
}

/* Two functions by turns at one place. */
uint64_t code_rewrite(void)
{
    uint8_t *p = region() + 4 * 4096;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 2000; i++) {
        if (i & 1)
            put_mixer(p, 11, 6);
        else
            put_loop(p, 5);
        sum = mix(sum, call(p, i));
    }
    return sum;
}

/* New functions are written one behind the other, each is called 20 times. */
static uint64_t jit(uint8_t *pages, size_t size, uint32_t functions, uint32_t calls, int steps)
{
    static uint32_t seed;
    uint64_t good = 0;
    uint8_t *p = pages;
    for (uint32_t n = 0; n < functions; n++) {
        if (p + 2048 > pages + size)
            p = pages;
        uint8_t *start = p;
        uint32_t now = ++seed * 2654435761u, sum = 0;
        p = put_mixer(p, now, steps);
        for (uint32_t k = 0; k < calls; k++)
            sum += call(start, k);
        OPAQUE(sum);
        good += call(start, 7) == mixer(now, steps, 7);
    }
    return good;
}
uint64_t code_jit_short(void) { return jit(region() + 5 * 4096, 10 * 4096, 1500, 16, 5); }
uint64_t code_jit_long(void) { return jit(region() + 5 * 4096, 10 * 4096, 20, 8000, 10); }

/* Rights go from writable to executable and back, as where both at once is not allowed. */
uint64_t code_jit_rights(void)
{
    uint64_t sum = 0;
    uint8_t *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (uint32_t i = 0; i < 400; i++) {
        if (mprotect(p, 4096, PROT_READ | PROT_WRITE))
            _exit(99);
        put_mixer(p, i * 31, 8);
        if (mprotect(p, 4096, PROT_READ | PROT_EXEC))
            _exit(99);
        for (uint32_t k = 0; k < 50; k++)
            sum = mix(sum, call(p, k));
    }
    munmap(p, 4096);
    return sum;
}
