/* Code that runs once, or a few times: thousands of functions, no two alike, so that the time is that of translation.  While it writes
 * a function, the generator computes what it will return and how many instructions it will execute. */
#define _GNU_SOURCE
#include "bench.h"
#include <sys/mman.h>
#include <unistd.h>

enum { FUNCTIONS = 2000, MAX_SIZE = 256 };

static struct {
    uint8_t *pages;
    uint8_t *start[FUNCTIONS];
    uint32_t result[FUNCTIONS];
    uint64_t instructions;
    uint32_t seed;
} code;

struct writer { uint8_t *at; uint32_t eax, edi; uint64_t executed; };

static void bytes(struct writer *w, const void *p, size_t count)
{
    memcpy(w->at, p, count);
    w->at += count;
}
#define BYTES(w, ...) bytes(w, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* One instruction, and what it does. */
static void operate(struct writer *w)
{
    uint32_t imm = next_random(&code.seed) * 2 + 1;
    w->executed++;
    switch (next_random(&code.seed) % 6) {
    case 0: BYTES(w, 0x05); w->eax += imm; break;                          /* add eax,imm */
    case 1: BYTES(w, 0x35); w->eax ^= imm; break;                          /* xor eax,imm */
    case 2: BYTES(w, 0x69, 0xc0); w->eax *= imm; break;                    /* imul eax,eax,imm */
    case 3: BYTES(w, 0x8d, 0x84, 0x78); w->eax += 2 * w->edi + imm; break; /* lea eax,[rax+rdi*2+imm] */
    case 4: BYTES(w, 0x01, 0xf8); w->eax += w->edi; return;                /* add eax,edi */
    case 5: BYTES(w, 0xc1, 0xc0, 7); w->eax = w->eax << 7 | w->eax >> 25; return; /* rol eax,7 */
    }
    bytes(w, &imm, 4);
}

/* mov [rsp-8],eax; mov edx,[rsp-8]; add eax,edx */
static void through_memory(struct writer *w)
{
    BYTES(w, 0x89, 0x44, 0x24, 0xf8, 0x8b, 0x54, 0x24, 0xf8, 0x01, 0xd0);
    w->eax += w->eax;
    w->executed += 3;
}

/* test al,bit; jz over the next operation */
static void branch(struct writer *w)
{
    uint8_t bit = (uint8_t)(1u << (next_random(&code.seed) & 7));
    BYTES(w, 0xa8, bit, 0x74, 0);
    w->executed += 2;
    struct writer inside = *w;
    operate(&inside);
    w->at[-1] = (uint8_t)(inside.at - w->at);
    if (w->eax & bit)
        *w = inside;
    else
        w->at = inside.at;
}

static void write_function(struct writer *w, int branchy)
{
    BYTES(w, 0x89, 0xf8); /* mov eax,edi */
    w->eax = w->edi;
    w->executed++;
    for (int i = 0; i < (branchy ? 8 : 20); i++) {
        operate(w);
        if (branchy)
            branch(w);
        else if (i % 6 == 5)
            through_memory(w);
    }
    BYTES(w, 0xc3);
    w->executed++;
}

static void prepare(int branchy)
{
    size_t size = FUNCTIONS * MAX_SIZE;
    if (code.pages)
        munmap(code.pages, size);
    code.pages = mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code.pages == MAP_FAILED)
        _exit(99);
    struct writer w = {.at = code.pages};
    for (uint32_t i = 0; i < FUNCTIONS; i++) {
        code.start[i] = w.at;
        w.edi = i;
        write_function(&w, branchy);
        code.result[i] = w.eax;
    }
    code.instructions = w.executed;
}

static uint32_t call(const uint8_t *start, uint32_t x) { return ((uint32_t(*)(uint32_t))(uintptr_t)start)(x); }

/* Calls each; returns how many gave what they should not. */
static uint64_t call_all(void)
{
    uint64_t wrong = 0;
    for (uint32_t i = 0; i < FUNCTIONS; i++)
        wrong += call(code.start[i], i) != code.result[i];
    return wrong;
}

void translate_prepare_straight(void) { prepare(0); }
void translate_prepare_branchy(void) { prepare(1); }
void translate_prepare_straight_again(void) { prepare(0); call_all(); }
void translate_prepare_branchy_again(void) { prepare(1); call_all(); }
uint64_t translate_straight(void) { return call_all(); }
uint64_t translate_branchy(void) { return call_all(); }
uint64_t translate_straight_again(void) { return call_all(); }
uint64_t translate_branchy_again(void) { return call_all(); }
uint64_t translate_instructions(void) { return code.instructions; }

/* What a compiler at run time does: writes a function unlike any before, here where an older one was, and calls it 20 times. */
uint64_t code_jit_mixed(void)
{
    enum { SIZE = 16 * 4096 };
    static uint8_t *pages, *at;
    uint64_t good = 0;
    if (!pages)
        at = pages = mmap(NULL, SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        _exit(99);
    for (uint32_t i = 0; i < 500; i++) {
        if (at + MAX_SIZE > pages + SIZE)
            at = pages;
        struct writer w = {.at = at, .edi = i};
        write_function(&w, i & 1);
        for (int k = 0; k < 20; k++)
            good += call(at, i) == w.eax;
        at = w.at;
    }
    return good;
}
