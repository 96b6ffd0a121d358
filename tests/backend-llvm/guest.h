/* guest.h - for the tests here: a guest of pinned slots alone, and one block of it as a region in a code buffer. */
#ifndef TESTS_BACKEND_LLVM_GUEST_H
#define TESTS_BACKEND_LLVM_GUEST_H

#include "backend-llvm/backend-llvm.h"
#include <stdlib.h>
#include <string.h>

struct guest_state {
    uint64_t r[16], pc;
    uint32_t flags, faulted, stop, mxcsr, system, unused;
    uint64_t vec[32][8] __attribute__((aligned(64)));
};
static struct { struct tcg_context tcg; struct guest_state s; } vcpu;
#define AT(field) ((uint32_t)offsetof(struct guest_state, field))
enum { ROOM = 1 << 20 /* of the code buffer */, GUEST_PC = 0x1000 };

#define R(n) {"r" #n, AT(r) + 8 * n, IR_I64, IR_S_GPR, n + 1}
#define V(n) {"vec" #n, AT(vec) + 64 * n, IR_V512, IR_S_VECTOR, n + 1}
static const struct ir_slot slots[] = { /* as many as are pinned */
    R(0), R(1), R(2), R(3), R(4), R(5), R(6), R(7), V(0), V(1), V(2), V(3), V(4), V(5), V(6), V(7), V(8), V(9),
    {"pc", AT(pc), IR_I64, IR_S_SYSTEM, 0}, {"flags", AT(flags), IR_I32, IR_S_FLAGS, 0}, {"mxcsr", AT(mxcsr), IR_I32, IR_S_VECTOR, 0},
    {"system", AT(system), IR_I32, IR_S_SYSTEM, 0}};
/* A helper that changes all that it may: vectors, integers, sticky flags and how is rounded. */
static uint64_t stir(void *state, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    struct guest_state *s = state;
    (void)b, (void)c, (void)d;
    for (unsigned n = 0; n < 16; n++)
        s->r[n] ^= a + s->vec[n + 16][n & 1] + s->mxcsr;
    for (unsigned n = 0; n < 32; n++)
        s->vec[n][0] ^= s->r[n % 16] >> 40 ^ a;
    s->mxcsr ^= (uint32_t)a & 0xe07f;
    return a ^ s->r[0];
}
enum { HELPER_STIR };
static const struct ir_helper helpers[] = {{"stir", stir, 1, IR_S_GPR | IR_S_VECTOR, IR_S_GPR | IR_S_VECTOR, false, false}};
static struct ir_guest guest = {.slots = slots, .slot_count = sizeof slots / sizeof *slots, .helpers = helpers, .helper_count = 1, .state_size = sizeof(struct guest_state),
                                      .pc_offset = AT(pc), .faulted_offset = AT(faulted), .stop_offset = AT(stop), .mxcsr_offset = AT(mxcsr)};

static uint64_t seed = 88172645463325252ull;
static inline uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed * 0x2545f4914f6cdd1dull;
}

static inline void vcpu_begin(void)
{
    static struct tcg_jump jumps[TCG_JUMP_ROOM];
    tcg_jumps_clear(jumps, TCG_JUMP_ROOM);
    vcpu.tcg.jumps = jumps;
    vcpu.tcg.region_flags = llvm_flags;
}

/* What tcg_run is to be given, NULL: it was said why not. */
static inline const void *compile(struct tcg_buffer *buffer, const struct llvm_block *block)
{
    enum { LINKS = 65 };
    static struct tcg_link links[LINKS];
    static struct llvm_data data = {.links = links};
    const struct llvm_region region = {.guest = &guest, .blocks = block, .block_count = 1};
    struct tcg_region_entry e = {.pc = GUEST_PC, .data = &data};
    struct llvm_compiled compiled;
    struct object_view view;
    char error[200] = "refused";
    bool ok = !llvm_refuses(block->ir) && llvm_compile(&region, &(struct llvm_options){0}, &compiled, error, sizeof error);
    if (!ok || !object_open(compiled.elf, compiled.elf_size, &view, error, sizeof error)) {
        printf("FAIL not compiled: %s\n", error);
        return NULL;
    }
    for (unsigned n = 0; n < LINKS; n++)
        tcg_link(&links[n], TCG_LINK_TABLE, NULL, NULL, false);
    const void *entry = llvm_entry_at(&view) + TCG_REGION_ENTRY <= ROOM && view.meta.exit_count < LINKS ? llvm_place(buffer, 0, &view, &guest, &e) : NULL;
    if (!entry)
        printf("FAIL no room for %zu bytes of code\n", view.text_size);
    object_close(&view);
    free(compiled.elf);
    return entry;
}

#endif
