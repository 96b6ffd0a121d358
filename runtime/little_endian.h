/* little_endian.h - numbers in files: writing where there is room, and reading with a look at the end first. */
#ifndef RUNTIME_LITTLE_ENDIAN_H
#define RUNTIME_LITTLE_ENDIAN_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint8_t *put_le(uint8_t *p, uint64_t v, unsigned bytes)
{
    v = htole64(v);
    return (uint8_t *)memcpy(p, &v, bytes) + bytes;
}

static inline uint8_t *put_bytes(uint8_t *p, const void *bytes, size_t size) { return size ? (uint8_t *)memcpy(p, bytes, size) + size : p; }

static inline uint64_t get_le(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;
    memcpy(&v, p, bytes);
    return le64toh(v);
}

struct reader { const uint8_t *at, *end; };
static inline bool reader_has(const struct reader *r, size_t size) { return (size_t)(r->end - r->at) >= size; }
static inline uint64_t take_le(struct reader *r, unsigned bytes) { return get_le((r->at += bytes) - bytes, bytes); }
static inline const uint8_t *take_bytes(struct reader *r, size_t size) { return (r->at += size) - size; }

#endif
