/* Streams of gzip, xz, lzma, zstd and lz4; cpio archives; bzImages. */
#include "tools/tierce-cache/unpack.h"
#include <lz4.h>
#include <lzma.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

bool fail(struct failure *f, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(f->text, sizeof f->text, format, args);
    va_end(args);
    return false;
}

void *grown(void **array, size_t *room, size_t count, size_t each)
{
    if (count < *room)
        return *array;
    size_t wanted = 2 * count + 16;
    void *more = wanted > SIZE_MAX / each ? NULL : realloc(*array, wanted * each);
    if (more)
        *array = more, *room = wanted;
    return more;
}

/* --- Streams.  A format is one row: its magic, and a function that goes on reading. */
struct stream {
    const uint8_t *in; size_t in_size, in_at;
    uint8_t *out; size_t out_size, out_room, most;
};
enum more { MORE, DONE, BROKEN };

/* Room for at least one byte more; false: too much, or no memory. */
static bool make_room(struct stream *s, struct failure *f)
{
    if (s->out_size < s->out_room)
        return true;
    size_t wanted = s->out_room ? s->out_room * 2 : 1 << 20;
    if (s->out_size >= s->most)
        return fail(f, "unpacks to more than %zu MiB", s->most >> 20);
    if (wanted > s->most)
        wanted = s->most;
    uint8_t *more = realloc(s->out, wanted);
    if (!more)
        return fail(f, "out of memory");
    s->out = more;
    s->out_room = wanted;
    return true;
}

static bool read_gzip(struct stream *s, struct failure *f)
{
    z_stream z = {0};
    int status = inflateInit2(&z, 15 + 16);
    while (status == Z_OK && make_room(s, f)) {
        size_t in = s->in_size - s->in_at, out = s->out_room - s->out_size;
        z.next_in = (Bytef *)(uintptr_t)(s->in + s->in_at);
        z.avail_in = in > 1 << 30 ? 1 << 30 : (uInt)in;
        z.next_out = s->out + s->out_size;
        z.avail_out = out > 1 << 30 ? 1 << 30 : (uInt)out;
        status = inflate(&z, Z_NO_FLUSH);
        s->in_at = (size_t)(z.next_in - s->in);
        s->out_size = (size_t)(z.next_out - s->out);
    }
    inflateEnd(&z);
    return status == Z_STREAM_END || (*f->text ? false : fail(f, "its gzip stream is damaged or cut off"));
}

static bool read_lzma(struct stream *s, struct failure *f, bool xz)
{
    lzma_stream z = LZMA_STREAM_INIT;
    const uint64_t memory = 256 << 20;
    lzma_ret status = xz ? lzma_stream_decoder(&z, memory, 0) : lzma_alone_decoder(&z, memory);
    while (status == LZMA_OK && make_room(s, f)) {
        z.next_in = s->in + s->in_at;
        z.avail_in = s->in_size - s->in_at;
        z.next_out = s->out + s->out_size;
        z.avail_out = s->out_room - s->out_size;
        status = lzma_code(&z, LZMA_RUN);
        s->in_at = (size_t)(z.next_in - s->in);
        s->out_size = (size_t)(z.next_out - s->out);
    }
    lzma_end(&z);
    return status == LZMA_STREAM_END || (*f->text ? false : fail(f, "its %s stream is damaged or cut off", xz ? "xz" : "lzma"));
}
static bool read_xz(struct stream *s, struct failure *f) { return read_lzma(s, f, true); }
static bool read_lzma_alone(struct stream *s, struct failure *f) { return read_lzma(s, f, false); }

static bool read_zstd(struct stream *s, struct failure *f)
{
    ZSTD_DStream *z = ZSTD_createDStream();
    size_t left = z ? ZSTD_initDStream(z) : 0;
    bool good = z && !ZSTD_isError(ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, 27)), stuck = false;
    while (good && left && !ZSTD_isError(left) && !stuck && make_room(s, f)) {
        ZSTD_inBuffer in = {s->in, s->in_size, s->in_at};
        ZSTD_outBuffer out = {s->out, s->out_room, s->out_size};
        left = ZSTD_decompressStream(z, &out, &in);
        stuck = in.pos == s->in_at && out.pos == s->out_size; /* it wants more than there is */
        s->in_at = in.pos;
        s->out_size = out.pos;
    }
    ZSTD_freeDStream(z);
    return (good && !left) || (*f->text ? false : fail(f, "its zstd stream is damaged or cut off"));
}

/* The legacy format, which Linux uses: blocks of up to 8 MiB, each with its packed size before it; a kernel's ends with a word that is no block's. */
static bool read_lz4(struct stream *s, struct failure *f)
{
    enum { BLOCK = 8 << 20 };
    for (s->in_at = 4; s->in_size - s->in_at > 4;) {
        uint32_t packed;
        memcpy(&packed, s->in + s->in_at, 4);
        if (!packed || packed > LZ4_COMPRESSBOUND(BLOCK) || packed > s->in_size - s->in_at - 4)
            break;
        while (s->out_room - s->out_size < BLOCK) {
            size_t wanted = s->out_room * 2 + BLOCK;
            uint8_t *more = s->out_size > s->most ? NULL : realloc(s->out, wanted);
            if (!more)
                return fail(f, "unpacks to more than %zu MiB", s->most >> 20);
            s->out = more;
            s->out_room = wanted;
        }
        int size = LZ4_decompress_safe((const char *)s->in + s->in_at + 4, (char *)s->out + s->out_size, (int)packed, BLOCK);
        if (size < 0)
            return fail(f, "its lz4 stream is damaged or cut off");
        s->out_size += (size_t)size;
        s->in_at += 4 + packed;
    }
    return s->out_size || fail(f, "its lz4 stream is empty, or damaged");
}

static const struct format { const char *name, *magic; unsigned size; bool (*read)(struct stream *, struct failure *); } formats[] = {
    {"gzip", "\x1f\x8b", 2, read_gzip}, {"xz", "\xfd""7zXZ\0", 6, read_xz}, {"zstd", "\x28\xb5\x2f\xfd", 4, read_zstd}, {"lzma", "\x5d\0\0", 3, read_lzma_alone},
    {"bzip2", "BZh", 3, NULL}, {"lz4", "\x02\x21\x4c\x18", 4, read_lz4}, {"lz4's frames", "\x04\x22\x4d\x18", 4, NULL}, {"lzo", "\x89LZO", 4, NULL}};

static const struct format *format_of(const uint8_t *in, size_t size)
{
    for (unsigned i = 0; i < sizeof formats / sizeof *formats; i++)
        if (size >= formats[i].size && !memcmp(in, formats[i].magic, formats[i].size))
            return &formats[i];
    return NULL;
}

bool unpack_is_packed(const uint8_t *in, size_t size) { return format_of(in, size); }

bool unpack_stream(const uint8_t *in, size_t size, size_t most, uint8_t **out, size_t *out_size, size_t *used, struct failure *f)
{
    struct stream s = {.in = in, .in_size = size, .most = most};
    const struct format *format = format_of(in, size);
    *f->text = 0;
    if (!format || !format->read)
        return fail(f, "is compressed by %s; accepted are gzip, xz, lzma, zstd and lz4 of the legacy kind", format ? format->name : "nothing that is known");
    if (!format->read(&s, f)) {
        free(s.out);
        return false;
    }
    *out = s.out;
    *out_size = s.out_size;
    *used = s.in_at;
    return true;
}

/* --- cpio: a header of 110 characters, name and data, each filled up to four bytes. */
enum { HEADER = 110, NAME_MAX_SIZE = 4096 };

static bool is_cpio(const uint8_t *at, size_t size) { return size >= HEADER && (!memcmp(at, "070701", 6) || !memcmp(at, "070702", 6)); }

static bool hex_field(const uint8_t *header, unsigned index, uint32_t *value)
{
    *value = 0;
    for (unsigned i = 0; i < 8; i++) {
        uint8_t c = header[6 + 8 * index + i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0)
            return false;
        *value = *value << 4 | (uint32_t)digit;
    }
    return true;
}

/* The entries from *at on, to behind the trailer. */
static bool read_cpio(const uint8_t *in, size_t size, size_t *at, bool (*each)(void *, const char *, const uint8_t *, size_t), void *ctx, bool *stop, struct failure *f)
{
    while (is_cpio(in + *at, size - *at)) {
        uint32_t mode, bytes, name_size;
        char name[NAME_MAX_SIZE];
        const uint8_t *header = in + *at;
        size_t left = size - *at - HEADER;
        if (!hex_field(header, 1, &mode) || !hex_field(header, 6, &bytes) || !hex_field(header, 11, &name_size) || !name_size || name_size > NAME_MAX_SIZE ||
            name_size > left || header[HEADER + name_size - 1])
            return fail(f, "its cpio header at byte %zu is damaged", *at);
        memcpy(name, header + HEADER, name_size);
        size_t data = (*at + HEADER + name_size + 3) & ~(size_t)3;
        if (data > size || bytes > size - data)
            return fail(f, "its cpio archive ends inside of a file, at byte %zu", *at);
        size_t next = (data + bytes + 3) & ~(size_t)3;
        *at = next < size ? next : size;
        if (!strcmp(name, "TRAILER!!!"))
            return true;
        if ((mode & 0170000) == 0100000 && bytes && !(*stop = !each(ctx, name, in + data, bytes)))
            continue;
        if (*stop)
            return true;
    }
    return fail(f, "its cpio archive has no end");
}

static bool read_initrd(const uint8_t *in, size_t size, size_t most, unsigned depth, bool (*each)(void *, const char *, const uint8_t *, size_t), void *ctx,
                        bool *stop, struct failure *f)
{
    size_t at = 0;
    bool any = false;
    for (; !*stop; any = true) {
        while (at < size && !in[at])
            at++;
        if (at == size)
            return any || fail(f, "is empty");
        if (is_cpio(in + at, size - at)) {
            if (!read_cpio(in, size, &at, each, ctx, stop, f))
                return false;
            continue;
        }
        if (depth || !unpack_is_packed(in + at, size - at))
            return fail(f, "at byte %zu there is no cpio archive%s", at, depth ? "" : ", plain or compressed");
        uint8_t *out;
        size_t out_size, used;
        if (!unpack_stream(in + at, size - at, most, &out, &out_size, &used, f))
            return false;
        bool ok = read_initrd(out, out_size, most, depth + 1, each, ctx, stop, f);
        free(out);
        if (!ok)
            return false;
        at += used;
    }
    return true;
}

bool unpack_initrd(const uint8_t *in, size_t size, size_t most, bool (*each)(void *, const char *, const uint8_t *, size_t), void *ctx, struct failure *f)
{
    bool stop = false;
    return read_initrd(in, size, most, 0, each, ctx, &stop, f);
}

/* --- bzImage (Documentation/arch/x86/boot.rst of Linux) */
enum { SETUP_SECTS = 0x1f1, BOOT_FLAG = 0x1fe, MAGIC = 0x202, VERSION = 0x206, XLOADFLAGS = 0x236, PAYLOAD_OFFSET = 0x248, PAYLOAD_LENGTH = 0x24c, END = 0x250 };

static uint32_t get(const uint8_t *at, unsigned size)
{
    uint32_t v = 0;
    memcpy(&v, at, size);
    return v;
}

bool unpack_is_bzimage(const uint8_t *in, size_t size) { return size >= VERSION && !memcmp(in + MAGIC, "HdrS", 4) && get(in + BOOT_FLAG, 2) == 0xaa55; }

bool unpack_bzimage(const uint8_t *in, size_t size, size_t most, struct bzimage *b, struct failure *f)
{
    *b = (struct bzimage){0};
    if (size < END || get(in + VERSION, 2) < 0x208)
        return fail(f, "is a bzImage of boot protocol %#x; those from 0x208 on say where their kernel is", size < END ? 0 : get(in + VERSION, 2));
    size_t setup = 512u * (1 + (in[SETUP_SECTS] ? in[SETUP_SECTS] : 4u)), used;
    if (setup >= size)
        return fail(f, "is a bzImage that ends inside of its setup code");
    b->stub = in + setup;
    b->stub_size = size - setup;
    b->has_64 = get(in + VERSION, 2) >= 0x20c && get(in + XLOADFLAGS, 2) & 1;
    b->payload = get(in + PAYLOAD_OFFSET, 4);
    b->payload_size = get(in + PAYLOAD_LENGTH, 4);
    if (b->payload > b->stub_size || b->payload_size > b->stub_size - b->payload)
        return fail(f, "is a bzImage whose kernel lies outside of it");
    return unpack_stream(b->stub + b->payload, b->payload_size, most, &b->kernel, &b->kernel_size, &used, f);
}
