/* Room in the code buffer.  Blocks lie in it as a ring, in the order of their addresses; new code goes to `at`, and
 * what lies ahead of it gives way, coldest first: some way ahead, blocks lose the jumps that lead to them, and those
 * that are asked for again before `at` comes by are passed over. */
#include "runtime/internal.h"
#include <stdlib.h>

#define BUCKET 4096u

bool code_ring_init(struct tb_store *s, size_t buffer_size, size_t beyond)
{
    s->buffer_size = buffer_size;
    s->buffer = tcg_buffer_new(buffer_size + beyond);
    s->buckets = calloc(buffer_size / BUCKET + 1, sizeof *s->buckets);
    return s->buffer && s->buckets;
}

void code_ring_free(struct tb_store *s)
{
    free(s->buckets);
    if (s->buffer)
        tcg_buffer_free(s->buffer);
}

/* --- The ring */
static bool in_bucket(const struct tb *tb, size_t bucket) { return tb->code_at / BUCKET == bucket; }

/* Puts a block, which begins at the old s->at, in front of what lies ahead. */
void code_ring_add(struct tb_store *s, struct tb *tb)
{
    struct tb *ahead = s->ahead ? s->ahead : tb, **bucket = &s->buckets[tb->code_at / BUCKET];
    tb->after = ahead;
    tb->before = s->ahead ? ahead->before : tb;
    tb->before->after = tb;
    ahead->before = tb;
    if (!s->ahead)
        s->ahead = s->aging = tb;
    if (!*bucket || tb->code_at < (*bucket)->code_at)
        *bucket = tb;
    s->count++;
}

void code_ring_remove(struct tb_store *s, struct tb *tb)
{
    struct tb *after = tb->after == tb ? NULL : tb->after;
    size_t bucket = tb->code_at / BUCKET;
    tb->before->after = tb->after;
    tb->after->before = tb->before;
    if (s->ahead == tb)
        s->ahead = after;
    if (s->aging == tb)
        s->aging = after;
    if (s->buckets[bucket] == tb)
        s->buckets[bucket] = after && in_bucket(after, bucket) && after->code_at >= tb->code_at ? after : NULL;
    s->count--;
}

struct tb *tb_at_host(struct vcpu *v, const void *host_pc)
{
    const struct tb_store *s = &v->tbs;
    size_t at = tcg_buffer_offset(s->buffer, host_pc), bucket = at / BUCKET;
    if (at >= s->buffer_size)
        return NULL; /* a region's */
    while (bucket && (!s->buckets[bucket] || s->buckets[bucket]->code_at > at))
        bucket--;
    struct tb *tb = s->buckets[bucket], *found = NULL;
    while (tb && tb->code_at <= at) {
        uintptr_t offset = (uintptr_t)host_pc - (uintptr_t)tb->code.entry;
        if (tb->code.entry && offset < tb->code.code_size)
            found = tb;
        tb = tb->after->code_at >= tb->code_at && tb->after != s->buckets[bucket] ? tb->after : NULL;
    }
    return found;
}

/* --- Room */
static size_t distance(const struct tb_store *s, size_t at) { return at >= s->at ? at - s->at : at + s->buffer_size - s->at; }

/* Where the free room behind s->at ends. */
static size_t room_end(const struct tb_store *s) { return s->ahead && s->ahead->code_at >= s->at ? s->ahead->code_at : s->buffer_size; }

/* What is at most an eighth of the buffer ahead must be asked for again. */
static void age(struct vcpu *v)
{
    struct tb_store *s = &v->tbs;
    for (size_t n = s->count; n && s->aging && distance(s, s->aging->code_at) < s->buffer_size / 8; n--) {
        tb_isolate(v, s->aging);
        s->aging->asked_for = false;
        s->aging = s->aging->after;
    }
}

/* Evicts the block ahead, or passes it over. */
void code_ring_give_way(struct vcpu *v)
{
    struct tb_store *s = &v->tbs;
    struct tb *tb = s->ahead;
    if (s->aging == tb)
        s->aging = tb->after;
    if (!tb->asked_for) {
        tb_evict(v, tb);
        return;
    }
    tb->asked_for = false;
    s->at = tb->code_end;
    s->ahead = tb->after;
}

/* Makes the room behind s->at larger, or moves s->at on; false: there is nothing more to gain. */
static bool more_room(struct vcpu *v, unsigned *laps)
{
    struct tb_store *s = &v->tbs;
    if (room_end(s) == s->buffer_size) {
        s->at = 0;
        return (*laps)++ < 3;
    }
    for (unsigned i = 0; i < 16 && room_end(s) != s->buffer_size; i++)
        code_ring_give_way(v);
    return true;
}

enum tcg_result code_ring_emit(struct vcpu *v, struct tb *tb, const struct ir_block *ir, const struct tcg_moved *moved)
{
    struct tb_store *s = &v->tbs;
    struct tcg_options options = {.guest = &v->guest, .pc = tb->pc, .user = tb, .icount = machine_counts(v->machine), .counter = region_counter_offset(tb->counter), .moves = tb->head && cache_keeps_templates(v),
                                  .code = softmmu_ram(v->machine, tb->phys), .line = v->machine->perf ? perf_line : NULL, .line_ctx = v->machine->perf};
    unsigned laps = 0;
    do {
        size_t at = s->at;
        enum tcg_result result = ir ? tcg_compile(s->buffer, &at, room_end(s), ir, &options, &tb->code) : tcg_place(s->buffer, &at, room_end(s), moved, &options, &tb->code);
        if (result != TCG_FULL) {
            tb->code_at = (uint32_t)s->at;
            tb->code_end = (uint32_t)(s->at = at);
            age(v);
            return result;
        }
    } while (more_room(v, &laps));
    return TCG_TOO_COMPLEX;
}
