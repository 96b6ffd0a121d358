/* unpack.h - compressed streams and cpio archives, as kernels and initial RAM disks are made of.  All bytes are taken for hostile.
 * Functions return false, and one line in `error`; nothing ends the process. */
#ifndef TIERCE_CACHE_UNPACK_H
#define TIERCE_CACHE_UNPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct failure { char text[200]; };
bool fail(struct failure *, const char *format, ...) __attribute__((format(printf, 2, 3))); /* false */

/* Bytes that an array grows by; NULL: out of memory, what was there stays. */
void *grown(void **array, size_t *room, size_t count, size_t each);

/* gzip, xz, zstd, lzma or lz4 by its magic: one stream, of which *used bytes were read.  Refused above `most` bytes.  *out is malloc'd. */
bool unpack_is_packed(const uint8_t *, size_t);
bool unpack_stream(const uint8_t *, size_t, size_t most, uint8_t **out, size_t *out_size, size_t *used, struct failure *);
/* Each regular file of an initial RAM disk: cpio archives (newc, crc), plain or compressed, one behind the other.  `each` returns
 * false to stop; bytes and name are valid during the call. */
bool unpack_initrd(const uint8_t *, size_t, size_t most, bool (*each)(void *ctx, const char *name, const uint8_t *, size_t), void *ctx, struct failure *);
/* The kernel inside a bzImage (boot protocol 2.08 on). */
bool unpack_is_bzimage(const uint8_t *, size_t);
struct bzimage { const uint8_t *stub; size_t stub_size; /* the protected-mode part, which unpacks the kernel */ size_t payload, payload_size; /* in it */ bool has_64; uint8_t *kernel; size_t kernel_size; };
bool unpack_bzimage(const uint8_t *, size_t, size_t most, struct bzimage *, struct failure *);

#endif
