/* Memory for translations: many small pieces that come and go all the time and are visited in no order, so they lie
 * close together in huge pages of the host.  A freed piece is the next of its size to be handed out. */
#define _GNU_SOURCE
#include "runtime/internal.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CHUNK (2u << 20)
#define GRAIN 64u

struct arena_chunk { struct arena_chunk *next; char pad[GRAIN - sizeof(struct arena_chunk *)]; };
struct arena_piece { struct arena_piece *next; };

static bool grow(struct arena *a)
{
    struct arena_chunk *chunk;
    if (posix_memalign((void **)&chunk, CHUNK, CHUNK))
        return false;
    madvise(chunk, CHUNK, MADV_HUGEPAGE);
    chunk->next = a->chunks;
    a->chunks = chunk;
    a->at = (char *)(chunk + 1);
    a->left = CHUNK - sizeof *chunk;
    return true;
}

/* Zeroed.  NULL: out of memory. */
void *arena_new(struct arena *a, size_t size)
{
    size_t kind = (size + GRAIN - 1) / GRAIN;
    if (NASTY || kind >= ARENA_KINDS) /* nasty: so that sanitizers see each piece */
        return calloc(1, size);
    struct arena_piece *piece = a->freed[kind];
    if (piece) {
        a->freed[kind] = piece->next;
    } else {
        if (a->left < kind * GRAIN && !grow(a)) /* what was left is lost: under one part in a thousand */
            return NULL;
        piece = (struct arena_piece *)(void *)a->at;
        a->at += kind * GRAIN;
        a->left -= kind * GRAIN;
    }
    return memset(piece, 0, kind * GRAIN);
}

void arena_free(struct arena *a, void *piece, size_t size)
{
    size_t kind = (size + GRAIN - 1) / GRAIN;
    struct arena_piece *p = piece;
    if (NASTY || kind >= ARENA_KINDS) {
        free(piece);
    } else if (p) {
        p->next = a->freed[kind];
        a->freed[kind] = p;
    }
}

void arena_end(struct arena *a)
{
    while (a->chunks) {
        struct arena_chunk *chunk = a->chunks;
        a->chunks = chunk->next;
        free(chunk);
    }
}
