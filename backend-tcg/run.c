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

#define STRETCH_SHIFT 18
struct tcg_buffer {
    uint8_t *write, *run; size_t size;
    bool *populated;              /* each stretch */
    struct tcg_pins pins;
    struct tcg *scratch; struct value *values; unsigned value_room; /* of the compiler, kept from block to block */
};

/* Anonymous memory, mapped once more by mremap's old size of 0: in a file's mapping, perf would take no names from its map. */
struct tcg_buffer *tcg_buffer_new(size_t size)
{
    struct tcg_buffer *b = calloc(1, sizeof *b);
    if (b) {
        b->size = size;
        b->populated = calloc((size >> STRETCH_SHIFT) + 1, sizeof *b->populated);
        b->write = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        b->run = b->write == MAP_FAILED ? MAP_FAILED : mremap(b->write, 0, size, MREMAP_MAYMOVE);
    }
    if (b && b->populated && b->run != MAP_FAILED && !mprotect(b->run, size, PROT_READ | PROT_EXEC))
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
    free(b->populated);
    free(b->scratch);
    free(b->values);
    free(b);
}

bool tcg_buffer_contains(const struct tcg_buffer *b, const void *host_pc)
{
    const uint8_t *p = host_pc;
    return p >= b->run && p < b->run + b->size;
}

size_t tcg_buffer_offset(const struct tcg_buffer *b, const void *host_pc) { return (size_t)((const uint8_t *)host_pc - b->run); }

/* Pages are given to both views a stretch at a time, at the first code in it: page by page that costs two faults each, more than to copy code there.  Where
 * the host's Linux (before 5.14) does not know this, it is left to the faults. */
void tcg_buffer_populate(struct tcg_buffer *b, size_t at)
{
    size_t from = at >> STRETCH_SHIFT << STRETCH_SHIFT, left = b->size - from, size = left < 1u << STRETCH_SHIFT ? left : 1u << STRETCH_SHIFT;
    if (at >= b->size || b->populated[at >> STRETCH_SHIFT])
        return;
    b->populated[at >> STRETCH_SHIFT] = true;
    madvise(b->write + from, size, MADV_POPULATE_WRITE);
    madvise(b->run + from, size, MADV_POPULATE_READ);
}

bool tcg_buffer_place(struct tcg_buffer *b, size_t at, uint8_t **write, const uint8_t **run)
{
    *write = b->write + at;
    *run = b->run + at;
    return at <= b->size;
}

struct tcg *tcg_buffer_scratch(struct tcg_buffer *b, const struct ir_guest *g, unsigned values, struct value **v, const struct tcg_pins **pins)
{
    if (b->pins.guest != g)
        tcg_pins_make(&b->pins, g);
    if (!b->scratch) {
        if (!(b->scratch = malloc(sizeof *b->scratch)))
            return NULL;
        b->scratch->shifts_differ = flags_shifts_differ();
    }
    if (values > b->value_room) {
        free(b->values);
        b->value_room = values < 512 ? 512 : values;
        b->values = malloc(b->value_room * sizeof *b->values);
        if (!b->values) {
            b->value_room = 0;
            return NULL;
        }
    }
    *v = b->values;
    *pins = &b->pins;
    return b->scratch;
}

/* Displacements are aligned: a running CPU sees the old or the new one. */
static void point(struct tcg_buffer *b, const uint8_t *site, const void *target)
{
    int32_t d = (int32_t)((const uint8_t *)target - (site + 4));
    __atomic_store_n((int32_t *)(void *)(b->write + (site - b->run)), d, __ATOMIC_RELEASE);
}

void tcg_chain(struct tcg_buffer *b, const struct tcg_block *from, unsigned exit, const struct tcg_block *to)
{
    const struct tcg_exit *e = &from->exits[exit];
    const uint8_t *entry = from->entry;
    if (!entry || (to && !to->entry))
        return;
    bool early = to && (to->kills_flags || !e->late_offset);
    if (e->late_offset)
        point(b, entry + e->late_offset, to ? to->entry : entry + e->late_stub);
    point(b, entry + e->jump_offset, early ? to->entry : entry + e->stub_offset);
}

_Static_assert(TCG_SPILLS == F_SPILL, "what the header promises");
/* --- Counting blocks and regions */
uint8_t *tcg_buffer_writable(struct tcg_buffer *b, size_t offset)
{
    tcg_buffer_populate(b, offset);
    return b->write + offset;
}
const void *tcg_buffer_runnable(const struct tcg_buffer *b, size_t offset) { return b->run + offset; }
const void *tcg_body(const struct tcg_block *block) { return (const char *)block->entry + block->body; }

/* The first eight bytes of a block that counts lie in one word: a running CPU sees the old or the new ones. */
void tcg_redirect(struct tcg_buffer *b, const struct tcg_block *block, const void *target)
{
    const uint8_t *entry = block->entry;
    uint64_t code = block->counting;
    if (!block->body)
        return;
    if (target) {
        int32_t d = (int32_t)((const uint8_t *)target - (entry + 5));
        uint8_t bytes[8] = {0xe9};
        memcpy(bytes + 1, &d, 4);
        memcpy(&code, bytes, 8);
    }
    __atomic_store_n((uint64_t *)(void *)(b->write + (entry - b->run)), code, __ATOMIC_RELEASE);
}

void tcg_region_enter(struct tcg_buffer *b, size_t offset, const struct ir_guest *g, const struct tcg_region_entry *e)
{
    const struct tcg_options o = {.pc = e->pc};
    const struct ir_block none = {.pc_bits = 64};
    struct tcg t = {.o = &o, .b = &none, .fixed = true, .g = g, .start = b->write + offset, .p = b->write + offset, .limit = b->write + offset + TCG_REGION_ENTRY, .run = b->run + offset};
    if (e->valid) {
        emit_imm(&t, RAX, (uint64_t)e->valid);
        emit_rm(&t, 0, 0x8b, 8, RAX, RAX, 0);
        emit_rm(&t, 0, 0x3b, 8, RAX, RBP, CONTEXT(map_epoch) + 8 * e->global);
        uint32_t fits = emit_jcc_short(&t, CC_Z);
        store_pc(&t, 0);
        emit_leave(&t, IR_LEAVE_HOT);
        emit_bind_short(&t, fits);
    }
    emit_imm(&t, RDI, e->pc);
    emit_imm(&t, RSI, (uint64_t)e->data);
    emit_imm(&t, RAX, (uint64_t)e->code);
    emit_rm(&t, 0, 0xff, 4, 4, RBP, C_REGION_ENTER);
}

#define AT(field, offset) _Static_assert((int)offsetof(struct tcg_context, field) - (int)sizeof(struct tcg_context) == offset, #field)
AT(pinned_ints, C_PINNED_INTS);
AT(pinned_vectors, C_PINNED_VECTORS);
AT(write_base, C_WRITE_BASE);
AT(slow_translate, C_SLOW_TRANSLATE);
AT(stub_call, C_STUB_CALL);
AT(stub_slow, C_STUB_SLOW);
AT(stub_leave, C_STUB_LEAVE);
AT(exit_site, C_EXIT_SITE);
AT(jumps, C_JUMPS);
AT(miss, C_MISS);
AT(stub_region_enter, C_REGION_ENTER);
AT(stub_region_go, C_REGION_GO);
AT(stub_region_leave, C_REGION_LEAVE);
AT(link, C_LINK);
AT(map_epoch, C_MAP_EPOCH);
AT(pc_slot, C_PC_SLOT);
AT(stop_slot, C_STOP_SLOT);
_Static_assert(offsetof(struct tcg_link, to) == L_TO && offsetof(struct tcg_link, to_data) == L_TO_DATA &&
               offsetof(struct tcg_link, valid) == L_VALID && offsetof(struct tcg_link, global) == L_GLOBAL, "entry.S");
_Static_assert(JUMP_MASK == TCG_JUMP_ENTRIES - 1 && LEAVE_NEXT == IR_LEAVE_NEXT && sizeof(struct tcg_jump) == 1 << JUMP_SIZE_LOG &&
               JUMP_FACTOR == TCG_JUMP_FACTOR && JUMP_SHIFT == TCG_JUMP_SHIFT && C_MISS == C_JUMPS + (int)offsetof(struct tcg_jump, code), "entry.S, cold_target");

extern unsigned tierce_tcg_enter(void *state, const void *code) __attribute__((visibility("hidden")));
extern void tierce_tcg_call(void) __attribute__((visibility("hidden")));
extern void tierce_tcg_slow(void) __attribute__((visibility("hidden")));
extern void tierce_tcg_leave(void) __attribute__((visibility("hidden")));
extern void tierce_tcg_miss(void) __attribute__((visibility("hidden")));
extern void tierce_region_enter(void) __attribute__((visibility("hidden")));
extern void tierce_region_go(void) __attribute__((visibility("hidden")));
extern void tierce_region_leave(void) __attribute__((visibility("hidden")));
extern void tierce_link_ask(void) __attribute__((visibility("hidden")));
extern void tierce_link_block(void) __attribute__((visibility("hidden")));
extern void tierce_link_checked(void) __attribute__((visibility("hidden")));

void tcg_jumps_clear(struct tcg_jump *j, size_t count)
{
    while (count-- > 0)
        *j++ = (struct tcg_jump){TCG_NO_JUMP, (const void *)tierce_tcg_miss};
}

void tcg_link(struct tcg_link *l, enum tcg_link_to kind, const void *code, void *data, bool checked)
{
    switch (kind) {
    case TCG_LINK_TABLE: l->code = (const void *)tierce_region_go; break;
    case TCG_LINK_ASK: l->code = (const void *)tierce_link_ask; break;
    case TCG_LINK_BLOCK: l->code = (const void *)tierce_link_block, data = (void *)(uintptr_t)code; break;
    case TCG_LINK_REGION: l->code = code; break;
    }
    l->data = kind == TCG_LINK_ASK ? l : data;
    if (!checked)
        return;
    l->to = l->code;
    l->to_data = l->data;
    l->code = (const void *)tierce_link_checked;
    l->data = l;
}

enum ir_leave tcg_run(void *state, const struct ir_guest *g, const void *entry, int *exit_index)
{
    struct tcg_context *c = (struct tcg_context *)((char *)state - sizeof *c);
    uint32_t *mxcsr = (uint32_t *)(void *)((char *)state + g->mxcsr_offset);
    struct tcg_pins pins;
    if (!c->pinned_ints) {
        tcg_pins_make(&pins, g);
        c->pinned_ints = pins.ints == TCG_NO_SLOT ? (void *)c->unpinned : (char *)state + pins.ints;
        c->pinned_vectors = pins.vectors == TCG_NO_SLOT ? (void *)c->unpinned : (char *)state + pins.vectors;
        c->stub_call = tierce_tcg_call;
        c->stub_slow = tierce_tcg_slow;
        c->stub_leave = tierce_tcg_leave;
        c->miss = tierce_tcg_miss;
        c->stub_region_enter = tierce_region_enter;
        c->stub_region_go = tierce_region_go;
        c->stub_region_leave = tierce_region_leave;
        c->pc_slot = (char *)state + g->pc_offset;
        c->stop_slot = (char *)state + g->stop_offset;
    }
    unsigned host = _mm_getcsr();
    _mm_setcsr((*mxcsr & 0xffc0) | 0x1f80);
    tcg_x87_begin(state, g);
    enum ir_leave leave = (enum ir_leave)tierce_tcg_enter(state, entry);
    tcg_x87_end(state);
    *mxcsr |= _mm_getcsr() & 0x3f;
    _mm_setcsr(host);
    *exit_index = (int)(int64_t)c->exit_site;
    if (leave == IR_LEAVE_INTERPRET && *(uint32_t *)(void *)((char *)state + g->faulted_offset))
        leave = IR_LEAVE_FAULT; /* the slow path of an access raised it */
    return leave;
}

#ifndef HWCAP2_FSGSBASE
#define HWCAP2_FSGSBASE (1 << 1)
#endif

enum { BY_INSTRUCTION = 1, BY_SYSTEM_CALL };
/* GS is this thread's own and unused by the C library on x86-64. */
void tcg_tables_set(struct tcg_context *c, int64_t *read_table, int64_t *write_table)
{
    c->read_table = read_table;
    c->write_table = write_table;
    c->write_base = (uint64_t)write_table + TCG_WRITE_BIAS;
    if (!c->host_gs)
        c->host_gs = getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE ? BY_INSTRUCTION : BY_SYSTEM_CALL;
    if (c->host_gs == BY_INSTRUCTION)
        __asm__ volatile("wrgsbase %0" : : "r"(read_table));
    else
        syscall(SYS_arch_prctl, ARCH_SET_GS, read_table);
}
