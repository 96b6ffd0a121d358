/* What the benchmark programs share.  A program is one unit of work: 1 to 5 ms on a present CPU, deterministic, with a
 * result that depends on all of it.  main.c repeats it, takes the time and checks the result. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define NOINLINE __attribute__((noinline))

struct program {
    const char *group, *name;
    uint64_t expected;         /* what run() returns, here and in every translator */
    uint64_t (*run)(void);     /* one unit of work; the time of this is measured */
    void (*prepare)(void);     /* called before each unit and not measured, or NULL */
    uint64_t (*instructions)(void); /* how many instructions the last unit executed, or NULL: not counted */
};

/* Programs of the group `translate` write their code with this (translate.c). */
void translate_prepare_straight(void);
void translate_prepare_branchy(void);
void translate_prepare_straight_again(void);
void translate_prepare_branchy_again(void);
uint64_t translate_instructions(void);

/* Nanoseconds that a new loop ran slowly, until it ran fast (latency.c); 0: it never did.  Of a chunk of its rounds: slow, fast. */
uint64_t latency_measure(uint64_t *slow, uint64_t *fast);

/* The path of this very program, for system_exec. */
extern const char *bench_self;

static inline uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static inline uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static inline uint64_t mix(uint64_t sum, uint64_t value)
{
    sum = (sum ^ value) * 0x9e3779b97f4a7c15u;
    return sum ^ sum >> 31;
}

/* Keeps the compiler from seeing through a value. */
#define OPAQUE(x) __asm__ volatile("" : "+r"(x))
