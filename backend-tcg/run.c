/* The code buffer, seen twice: a view to write and a view to run.  Entry into translated code, and patching of
 * chained exits. */
#define _GNU_SOURCE
#include "backend-tcg/internal.h"
#include <asm/prctl.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <xmmintrin.h>

struct tcg_buffer { uint8_t *write, *run; size_t size; };

struct tcg_buffer *tcg_buffer_new(size_t size)
{
    struct tcg_buffer *b = calloc(1, sizeof *b);
    int fd = memfd_create("tierce-code", MFD_CLOEXEC);
    if (b && fd >= 0 && !ftruncate(fd, (off_t)size)) {
        b->size = size;
        b->write = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        b->run = mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    }
    if (fd >= 0)
        close(fd);
    if (b && b->write && b->run && b->write != MAP_FAILED && b->run != MAP_FAILED)
        return b;
    tcg_buffer_free(b);
    return NULL;
}

void tcg_buffer_free(struct tcg_buffer *b)
{
    if (!b)
        return;
    if (b->write && b->write != MAP_FAILED)
        munmap(b->write, b->size);
    if (b->run && b->run != MAP_FAILED)
        munmap(b->run, b->size);
    free(b);
}

bool tcg_buffer_contains(const struct tcg_buffer *b, const void *host_pc)
{
    const uint8_t *p = host_pc;
    return p >= b->run && p < b->run + b->size;
}

size_t tcg_buffer_offset(const struct tcg_buffer *b, const void *host_pc) { return (size_t)((const uint8_t *)host_pc - b->run); }

bool tcg_buffer_place(struct tcg_buffer *b, size_t at, uint8_t **write, const uint8_t **run)
{
    *write = b->write + at;
    *run = b->run + at;
    return at <= b->size;
}

/* jump_offset is that of the displacement, which is aligned: a running CPU sees the old or the new one. */
void tcg_chain(struct tcg_buffer *b, const struct tcg_block *from, unsigned exit, const struct tcg_block *to)
{
    const struct tcg_exit *e = &from->exits[exit];
    uint8_t *site = (uint8_t *)from->entry + e->jump_offset;
    const uint8_t *target = to ? (const uint8_t *)to->entry : (const uint8_t *)from->entry + e->stub_offset;
    if (!to && !from->entry)
        return;
    int32_t d = (int32_t)(target - (site + 4));
    __atomic_store_n((int32_t *)(void *)(b->write + (site - b->run)), d, __ATOMIC_RELEASE);
}

/* enter(state, code): the frame of internal.h, RBP = state. */
__asm__(".pushsection .text\n"
        ".p2align 4\n"
        "tierce_tcg_enter:\n"
        "pushq %rbx\n pushq %rbp\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
        "subq $1040, %rsp\n"
        "movq %rdi, %rbp\n"
        "call *%rsi\n"
        "addq $1040, %rsp\n"
        "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbp\n popq %rbx\n"
        "ret\n"
        ".popsection\n");
extern unsigned tierce_tcg_enter(void *state, const void *code) __attribute__((visibility("hidden")));

enum ir_leave tcg_run(void *state, const struct ir_guest *g, const void *entry, int *exit_index)
{
    struct tcg_context *c = (struct tcg_context *)((char *)state - sizeof *c);
    uint32_t *mxcsr = (uint32_t *)(void *)((char *)state + g->mxcsr_offset);
    unsigned host = _mm_getcsr();
    _mm_setcsr((*mxcsr & 0xffc0) | 0x1f80);
    tcg_x87_begin(state, g);
    enum ir_leave leave = (enum ir_leave)tierce_tcg_enter(state, entry);
    tcg_x87_end(state);
    *mxcsr |= _mm_getcsr() & 0x3f;
    _mm_setcsr(host);
    *exit_index = (int)(int64_t)c->exit_site;
    return leave;
}

#ifndef HWCAP2_FSGSBASE
#define HWCAP2_FSGSBASE (1 << 1)
#endif

/* GS is this thread's own and unused by the C library on x86-64. */
void tcg_tables_set(struct tcg_context *c, int64_t *read_table, int64_t *write_table)
{
    c->read_table = read_table;
    c->write_table = write_table;
    if (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE)
        __asm__ volatile("wrgsbase %0" : : "r"(read_table));
    else
        syscall(SYS_arch_prctl, ARCH_SET_GS, read_table);
}
