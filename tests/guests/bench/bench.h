/* What the benchmark programs share.  A program is one unit of work: 1 to 5 ms on a present CPU, deterministic, with a
 * result that depends on all of it.  main.c repeats it, takes the time and checks the result. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

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

/* The path of this very program, for system_exec. */
extern const char *bench_self;

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
