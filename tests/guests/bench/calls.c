/* Calls: direct, deep, indirect, through objects, and tail calls. */
#include "bench.h"

static NOINLINE uint64_t fib(unsigned n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
uint64_t calls_fib(void) { return fib(29); }

static NOINLINE int tak(int x, int y, int z)
{
    return y >= x ? z : tak(tak(x - 1, y, z), tak(y - 1, z, x), tak(z - 1, x, y));
}
uint64_t calls_tak(void) { return (uint64_t)tak(18, 12, 6) + 100 * (uint64_t)tak(14, 8, 3); }

/* Deeper than any return stack of a CPU. */
static NOINLINE uint64_t deep(uint64_t n)
{
    if (n == 0)
        return 1;
    uint64_t below = deep(n - 1);
    OPAQUE(below);
    return below * 3 + n;
}
uint64_t calls_deep(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < 1000; i++)
        sum += deep(400);
    return sum;
}

static NOINLINE uint64_t f0(uint64_t x) { return x + 1; }
static NOINLINE uint64_t f1(uint64_t x) { return x ^ 0x55; }
static NOINLINE uint64_t f2(uint64_t x) { return x * 3; }
static NOINLINE uint64_t f3(uint64_t x) { return x >> 1; }
uint64_t calls_indirect(void)
{
    static uint64_t (*volatile const table[4])(uint64_t) = {f0, f1, f2, f3};
    uint64_t x = 1;
    for (uint32_t i = 0; i < 400000; i++)
        x = table[(x ^ i) & 3](x);
    return x;
}

/* Objects with a table of methods, in an order that no predictor learns. */
struct shape;
struct methods { uint64_t (*area)(const struct shape *); void (*grow)(struct shape *, uint64_t); };
struct shape { const struct methods *methods; uint64_t a, b; };
static NOINLINE uint64_t square_area(const struct shape *s) { return s->a * s->a; }
static NOINLINE uint64_t box_area(const struct shape *s) { return s->a * s->b; }
static NOINLINE uint64_t edge_area(const struct shape *s) { return 2 * (s->a + s->b); }
static NOINLINE void grow_both(struct shape *s, uint64_t by) { s->a += by, s->b += by; }
static NOINLINE void grow_one(struct shape *s, uint64_t by) { s->a += by; }
uint64_t calls_virtual(void)
{
    static const struct methods kinds[3] = {{square_area, grow_one}, {box_area, grow_both}, {edge_area, grow_one}};
    static struct shape shapes[512];
    uint32_t seed = 4;
    uint64_t sum = 0;
    for (unsigned i = 0; i < 512; i++)
        shapes[i] = (struct shape){&kinds[next_random(&seed) % 3], i, 512 - i};
    for (uint64_t round = 0; round < 300; round++)
        for (unsigned i = 0; i < 512; i++) {
            sum += shapes[i].methods->area(&shapes[i]);
            shapes[i].methods->grow(&shapes[i], round & 3);
        }
    return sum;
}

/* Each function ends in a jump to the next, by a table: threaded code. */
struct thread;
typedef uint64_t (*step)(const struct thread *at, uint64_t x, uint64_t left);
struct thread { step run; };
#define NEXT(value) do { if (!left) return value; at++; return at->run(at, value, left - 1); } while (0)
static NOINLINE uint64_t step_add(const struct thread *at, uint64_t x, uint64_t left) { NEXT(x + 7); }
static NOINLINE uint64_t step_xor(const struct thread *at, uint64_t x, uint64_t left) { NEXT(x ^ left); }
static NOINLINE uint64_t step_turn(const struct thread *at, uint64_t x, uint64_t left) { NEXT(x << 5 | x >> 59); }
static NOINLINE uint64_t step_back(const struct thread *at, uint64_t x, uint64_t left)
{
    if (!left)
        return x;
    at -= 6;
    return at->run(at, x, left - 1);
}
uint64_t calls_tail(void)
{
    static const struct thread code[] = {{step_add}, {step_xor}, {step_turn}, {step_add}, {step_turn}, {step_xor}, {step_back}};
    return code[0].run(code, 1, 1000000);
}
