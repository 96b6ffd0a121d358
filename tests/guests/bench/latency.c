/* How long a loop that is new runs slowly: its code is written to a page of its own, so that no translator knows it, and it is run in
 * chunks that are timed one by one.  The loop keeps its values in registers that a quick translator is likely to have in memory. */
#define _GNU_SOURCE
#include "bench.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { CHUNKS = 4000, CHUNK_ROUNDS = 20000, MARK = 0x5eed5eed };
static const uint64_t longest_ns = 1500000000, settled_ns = 400000000;

/* RDI: rounds.  MARK is replaced, so that no two loops are the same. */
__asm__(".pushsection .rodata\n"
        "latency_begin:\n"
        "push %r12\n push %r13\n push %r14\n push %r15\n"
        "mov $1, %r8d\n mov $2, %r9d\n mov $3, %r10d\n mov $4, %r11d\n mov $5, %r12d\n mov $6, %r13d\n mov $7, %r14d\n mov $8, %r15d\n"
        "1: add %r9, %r8\n xor %r10, %r9\n add %r11, %r10\n lea (%r12,%r11,2), %r11\n add $0x5eed5eed, %r12\n xor %r14, %r13\n add %r15, %r14\n rol $3, %r15\n"
        "add %r8, %r15\n add %r13, %r9\n xor %r12, %r10\n dec %rdi\n jnz 1b\n"
        "mov %r8, %rax\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n ret\n"
        "latency_end:\n"
        ".popsection\n");
extern const unsigned char latency_begin[], latency_end[];

static uint64_t median(const uint64_t *of, size_t count)
{
    static uint64_t sorted[CHUNKS];
    memcpy(sorted, of, count * sizeof *of);
    qsort(sorted, count, sizeof *sorted, ascending);
    return sorted[count / 2];
}

static unsigned char *fresh_loop(void)
{
    size_t size = (size_t)(latency_end - latency_begin);
    uint32_t mark = MARK, now = (uint32_t)now_ns() & 0x7fffffff;
    unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED)
        return NULL;
    memcpy(code, latency_begin, size);
    unsigned char *at = memmem(code, size, &mark, sizeof mark);
    memcpy(at, &now, sizeof now);
    return code;
}

/* The first chunk from which on nearly all are fast: fast as the last ones are, and much faster than the first ones. */
static size_t switched(const uint64_t *took, size_t count, uint64_t *slow, uint64_t *fast)
{
    *slow = median(took, count < 5 ? count : 5);
    *fast = median(took + count - count / 4, count / 4 + !(count / 4));
    uint64_t limit = (*slow + *fast) / 2;
    size_t at = count, misses = 0;
    if (*fast * 5 > *slow * 4)
        return count;
    while (at && (took[at - 1] <= limit || ++misses * 10 < count - at + 10))
        at--;
    while (at < count && took[at] > limit)
        at++;
    return at;
}

uint64_t latency_measure(uint64_t *slow, uint64_t *fast)
{
    static uint64_t took[CHUNKS];
    uint64_t (*loop)(uint64_t), begin = now_ns(), sum = 0;
    unsigned char *code = fresh_loop();
    size_t count = 0;
    *slow = *fast = 0;
    if (!code)
        return 0;
    memcpy(&loop, &code, sizeof loop);
    while (count < CHUNKS && now_ns() - begin < longest_ns) {
        uint64_t start = now_ns();
        loop(CHUNK_ROUNDS);
        took[count++] = now_ns() - start;
        if (count % 64 == 0 && now_ns() - begin > settled_ns && switched(took, count, slow, fast) < count * 3 / 4)
            break;
    }
    size_t at = switched(took, count, slow, fast);
    munmap(code, 4096);
    for (size_t i = 0; i < at; i++)
        sum += took[i];
    return at < count ? sum : 0;
}
