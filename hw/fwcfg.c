/* fw_cfg: how firmware and kernels ask QEMU-like machines for configuration.  A key is selected, then its bytes are
 * read one at a time or by DMA.  Ports: 0 selector (16 bit), 1 data, 4-11 DMA address (big-endian; writing the low
 * half starts it).  Nothing can be written into an item. */
#include "hw/pc.h"
#include <stdlib.h>

enum { KEY_SIGNATURE = 0, KEY_ID = 1, KEY_DIRECTORY = 0x19, KEY_FILE_FIRST = 0x20 };
enum { DMA_ERROR = 1, DMA_READ = 2, DMA_SKIP = 4, DMA_SELECT = 8, DMA_WRITE = 16 };
#define MAX_ITEMS 128
#define MAX_FILES 64
#define FILE_NAME 56
#define DIRECTORY_ENTRY 64u          /* u32 size, u16 key, u16 zero (all big-endian), name */

struct item { uint16_t key; uint8_t *bytes; size_t size; };
struct fwcfg {
    struct device device;
    struct item items[MAX_ITEMS]; unsigned item_count;
    unsigned file_count;
    uint8_t directory[4 + MAX_FILES * DIRECTORY_ENTRY];
    uint16_t key;
    const struct item *selected;
    size_t at;
    uint32_t dma_high;
    struct address_space *memory;
};

static struct item *find(struct fwcfg *f, uint16_t key)
{
    for (unsigned i = 0; i < f->item_count; i++)
        if (f->items[i].key == key)
            return &f->items[i];
    return NULL;
}

static void select_key(struct fwcfg *f, uint16_t key)
{
    f->key = key & 0xbfff; /* bit 14: write mode, which nothing has */
    f->selected = find(f, f->key);
    f->at = 0;
}

static uint8_t next_byte(struct fwcfg *f)
{
    return f->selected && f->at < f->selected->size ? f->selected->bytes[f->at++] : 0;
}

/* --- DMA.  Only RAM is a target: a device or nothing there is an error, which also bounds what a guest can ask for. */
static bool memory_at(struct fwcfg *f, uint64_t address)
{
    const struct region *r = f->memory ? space_find(f->memory, address) : NULL;
    return r && r->kind == REGION_RAM;
}

static bool dma_read(struct fwcfg *f, uint64_t address, uint32_t length)
{
    for (uint64_t n; length; address += n, length -= (uint32_t)n) {
        const struct region *r = space_find(f->memory, address);
        if (!r || r->kind != REGION_RAM)
            return false;
        n = 0x1000 - (address & 0xfff); /* by page: another region may lie over the next one */
        n = n < length ? n : length;
        space_written(f->memory, r->host + (address - r->base), n);
        for (uint64_t i = 0; i < n; i++)
            r->host[address - r->base + i] = next_byte(f);
    }
    return true;
}

static uint32_t big32(struct fwcfg *f, uint64_t address) { return __builtin_bswap32((uint32_t)space_read(f->memory, address, 4)); }

static void dma_run(struct fwcfg *f, uint64_t address)
{
    bool ok = true;
    if (!memory_at(f, address) || !memory_at(f, address + 15))
        return;
    uint32_t control = big32(f, address), length = big32(f, address + 4);
    uint64_t target = (uint64_t)big32(f, address + 8) << 32 | big32(f, address + 12);
    if (control & DMA_SELECT)
        select_key(f, (uint16_t)(control >> 16));
    if (control & DMA_READ)
        ok = dma_read(f, target, length);
    else if (control & DMA_WRITE)
        ok = false;
    else if (control & DMA_SKIP && f->selected)
        f->at = length < f->selected->size - f->at ? f->at + length : f->selected->size;
    space_write(f->memory, address, 4, __builtin_bswap32(ok ? 0 : DMA_ERROR));
}

/* --- Ports */
static uint32_t fwcfg_read(struct device *d, uint32_t offset, unsigned size)
{
    static const uint8_t signature[8] = "QEMU CFG"; /* says that DMA is there */
    struct fwcfg *f = (struct fwcfg *)d;
    uint32_t value = 0;
    if (offset >= 4 && offset + size <= 12)
        memcpy(&value, signature + (offset - 4), size);
    else if (offset == 0 && size >= 2)
        value = f->key;
    else if (offset == 1)
        for (unsigned i = 0; i < size; i++)
            value |= (uint32_t)next_byte(f) << 8 * i;
    return value;
}

static void fwcfg_write(struct device *d, uint32_t offset, unsigned size, uint32_t value)
{
    struct fwcfg *f = (struct fwcfg *)d;
    if (offset == 0 && size == 2)
        select_key(f, (uint16_t)value);
    if (size != 4 || !f->memory)
        return;
    if (offset == 4)
        f->dma_high = __builtin_bswap32(value);
    if (offset == 8) {
        uint64_t address = (uint64_t)f->dma_high << 32 | __builtin_bswap32(value);
        f->dma_high = 0;
        dma_run(f, address);
    }
}

static void fwcfg_reset(struct device *d)
{
    struct fwcfg *f = (struct fwcfg *)d;
    f->dma_high = 0;
    select_key(f, KEY_SIGNATURE);
}

static void fwcfg_free(struct device *d)
{
    struct fwcfg *f = (struct fwcfg *)d;
    for (unsigned i = 0; i < f->item_count; i++)
        free(f->items[i].bytes);
    free(f);
}

/* The items are the machine's, which may have others than the one that was saved. */
static void fwcfg_loaded(struct device *d)
{
    struct fwcfg *f = (struct fwcfg *)d;
    size_t at = f->at;
    select_key(f, f->key);
    f->at = !f->selected || at < f->selected->size ? at : f->selected->size;
}
static const struct state_field fwcfg_fields[] = {
    STATE(struct fwcfg, key), STATE(struct fwcfg, at), STATE(struct fwcfg, dma_high),
};
static const struct state_table fwcfg_state = STATE_TABLE(1, fwcfg_fields);
static const struct device_ops fwcfg_ops = {"fw_cfg", fwcfg_read, fwcfg_write, fwcfg_reset, fwcfg_free, .state = &fwcfg_state, .loaded = fwcfg_loaded};

bool fwcfg_add(struct device *d, uint16_t key, const void *bytes, size_t size)
{
    struct fwcfg *f = (struct fwcfg *)d;
    struct item *item = find(f, key);
    uint8_t *copy = malloc(size + 1);
    if (!copy || (!item && f->item_count == MAX_ITEMS)) {
        free(copy);
        return false;
    }
    if (size)
        memcpy(copy, bytes, size);
    if (!item) {
        item = &f->items[f->item_count++];
        *item = (struct item){.key = key};
    }
    free(item->bytes);
    item->bytes = copy;
    item->size = size;
    select_key(f, KEY_SIGNATURE);
    return true;
}

bool fwcfg_add_file(struct device *d, const char *name, const void *bytes, size_t size)
{
    struct fwcfg *f = (struct fwcfg *)d;
    uint16_t key = (uint16_t)(KEY_FILE_FIRST + f->file_count);
    if (f->file_count == MAX_FILES || strlen(name) >= FILE_NAME || size > UINT32_MAX || !fwcfg_add(d, key, bytes, size))
        return false;
    uint8_t *entry = f->directory + 4 + f->file_count++ * DIRECTORY_ENTRY;
    put32(entry, __builtin_bswap32((uint32_t)size));
    put16(entry + 4, __builtin_bswap16(key));
    memcpy(entry + 8, name, strlen(name));
    put32(f->directory, __builtin_bswap32(f->file_count));
    return fwcfg_add(d, KEY_DIRECTORY, f->directory, 4 + f->file_count * DIRECTORY_ENTRY);
}

void fwcfg_dma_memory(struct device *d, struct address_space *memory) { ((struct fwcfg *)d)->memory = memory; }

struct device *fwcfg_new(void)
{
    static const uint8_t id[4] = {3}; /* bit 0: ports, bit 1: DMA */
    struct fwcfg *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->device.ops = &fwcfg_ops;
    if (fwcfg_add(&f->device, KEY_SIGNATURE, "QEMU", 4) && fwcfg_add(&f->device, KEY_ID, id, sizeof id) &&
        fwcfg_add(&f->device, KEY_DIRECTORY, f->directory, 4))
        return &f->device;
    fwcfg_free(&f->device);
    return NULL;
}
