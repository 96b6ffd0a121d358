/* fw_cfg: items by port, the directory, DMA's commands and its bounds. */
#include "fake.h"
#include "hw/pc.h"

enum { SELECT = 0, DATA = 1, DMA_HIGH = 4, DMA_LOW = 8 };
enum { ERROR = 1, READ = 2, SKIP = 4, SELECT_BIT = 8, WRITE = 16 };
#define RAM_SIZE 0x4000u

struct rig { uint8_t ram[RAM_SIZE]; struct address_space memory; struct device *d; };

static uint64_t big(struct rig *r, unsigned bytes)
{
    uint64_t v = 0;
    while (bytes--)
        v = v << 8 | rd(r->d, DATA, 1);
    return v;
}

static void ports(struct rig *r)
{
    char name[64];
    wr(r->d, SELECT, 2, 0);
    CHECK("signature", big(r, 4), 0x51454d55);
    CHECK("behind its end", big(r, 2), 0);
    wr(r->d, SELECT, 2, 1);
    CHECK("DMA is there", rd(r->d, DATA, 1), 3);
    CHECK("DMA's signature", rd(r->d, DMA_HIGH, 4) == 0x554d4551 && rd(r->d, DMA_LOW, 4) == 0x47464320, 1);
    wr(r->d, SELECT, 2, 0x1234);
    CHECK("no such item", big(r, 4), 0);
    wr(r->d, SELECT, 2, 0x40);
    CHECK("numbers are little-endian", rd(r->d, DATA, 1) | rd(r->d, DATA, 1) << 8, 0x1234);
    wr(r->d, SELECT, 2, 0x4040);
    wr(r->d, DATA, 1, 0xff);
    CHECK("nothing can be written", rd(r->d, DATA, 1), 0x34);
    wr(r->d, SELECT, 2, 0x19);
    CHECK("two files", big(r, 4), 2);
    CHECK("size", big(r, 4), 5);
    uint16_t key = (uint16_t)big(r, 2);
    CHECK("reserved", big(r, 2), 0);
    for (unsigned i = 0; i < 56; i++)
        name[i] = (char)rd(r->d, DATA, 1);
    CHECK("name", strcmp(name, "etc/first"), 0);
    wr(r->d, SELECT, 2, key);
    CHECK("content", big(r, 5), 0x68656c6c6f);
}

static uint32_t dma(struct rig *r, uint64_t at, uint32_t control, uint32_t length, uint64_t target)
{
    if (at <= RAM_SIZE - 16) {
        put32(r->ram + at, __builtin_bswap32(control));
        put32(r->ram + at + 4, __builtin_bswap32(length));
        put64(r->ram + at + 8, __builtin_bswap64(target));
    }
    wr(r->d, DMA_HIGH, 4, __builtin_bswap32((uint32_t)(at >> 32)));
    wr(r->d, DMA_LOW, 4, __builtin_bswap32((uint32_t)at));
    return at <= RAM_SIZE - 16 ? __builtin_bswap32(get32(r->ram + at)) : 0;
}

static void dmas(struct rig *r)
{
    static const struct { const char *name; uint32_t control, length; uint64_t target; uint32_t answer; const char *there; } rows[] = {
        {"select and read", 0x20 << 16 | SELECT_BIT | READ, 5, 0x1000, 0, "hello"},
        {"skip",            0x20 << 16 | SELECT_BIT | SKIP, 3, 0, 0, NULL},
        {"and read on",     READ, 2, 0x1100, 0, "lo"},
        {"zeros behind the end", READ, 2, 0x1000, 0, "\0\0l"},
        {"skip too far",    SKIP, 0xffffffff, 0, 0, NULL},
        {"over a page",     0x20 << 16 | SELECT_BIT | READ, 5, 0x1ffe, 0, "hello"},
        {"write",           WRITE, 4, 0x1000, ERROR, NULL},
        {"out of RAM",      0x20 << 16 | SELECT_BIT | READ, 5, 0x100000, ERROR, NULL},
        {"end out of RAM",  0x20 << 16 | SELECT_BIT | READ, 0xffffffff, RAM_SIZE - 5, ERROR, "hello"},
        {"wraps",           READ, 0x100, ~0ull - 4, ERROR, NULL},
        {"nothing at all",  0, 0, 0, 0, NULL},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK(rows[i].name, dma(r, 0x40, rows[i].control, rows[i].length, rows[i].target), rows[i].answer);
        if (rows[i].there)
            CHECK(rows[i].name, memcmp(r->ram + rows[i].target, rows[i].there, rows[i].length < 5 ? rows[i].length : 5), 0);
    }
    dma(r, RAM_SIZE - 8, READ, 4, 0); /* the command itself lies half outside */
    dma(r, ~0ull - 7, READ, 4, 0);
    passed++;
}

int main(void)
{
    static struct rig r;
    static const uint16_t number = 0x1234;
    r.d = fwcfg_new();
    space_add_memory(&r.memory, REGION_RAM, 0, RAM_SIZE, r.ram, "ram");
    fwcfg_dma_memory(r.d, &r.memory);
    CHECK("item", fwcfg_add(r.d, 0x40, &number, 2), 1);
    CHECK("file", fwcfg_add_file(r.d, "etc/first", "hello", 5), 1);
    CHECK("file", fwcfg_add_file(r.d, "etc/second", "", 0), 1);
    CHECK("name too long", fwcfg_add_file(r.d, "etc/a-name-that-is-much-too-long-for-a-directory-of-fw-cfg", "", 0), 0);
    ports(&r);
    dmas(&r);
    unsigned files = 2;
    while (fwcfg_add_file(r.d, "etc/another", "x", 1) && files < 1000)
        files++;
    CHECK("files are bounded", files, 64);
    for (unsigned i = 0; i < 5000; i++)
        dma(&r, (i * 2654435761u) % (RAM_SIZE - 16), i * 40503u, i * 77, i * 1013904223u % (2 * RAM_SIZE));
    storm(r.d, NULL, 12, 100000);
    r.d->ops->reset(r.d);
    r.d->ops->free(r.d);
    space_free(&r.memory);
    return report();
}
