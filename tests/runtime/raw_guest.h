/* Guests of a few instructions for the runtime's tests, and the counters of their runs. */
#ifndef TESTS_RUNTIME_RAW_GUEST_H
#define TESTS_RUNTIME_RAW_GUEST_H

#include "runtime/runtime.h"
#include <stdlib.h>
#include <string.h>

struct image { uint8_t bytes[1 << 17]; size_t size; };

static inline void put(struct image *i, const void *bytes, size_t size)
{
    memcpy(i->bytes + i->size, bytes, size);
    i->size += size;
}
#define PUT(i, ...) put(i, (const uint8_t[]){__VA_ARGS__}, sizeof (const uint8_t[]){__VA_ARGS__})
static inline void put32(struct image *i, uint32_t v) { put(i, &v, 4); }

/* mov [at], eax; mov edx, 0x501; out dx, al; hlt; jmp back: ends with EAX in the machine's RAM at `at`. */
static inline void put_end(struct image *i, uint32_t at)
{
    PUT(i, 0xa3), put32(i, at);
    PUT(i, 0xba, 1, 5, 0, 0, 0xee, 0xf4, 0xeb, 0xfd);
}

static inline uint32_t word_at(struct machine *m, uint32_t at)
{
    uint32_t word = 0;
    machine_debug_read(m, at, true, &word, 4);
    return word;
}

/* A machine of 16 MiB for a 32-bit image, at raw_entry or 1 MiB; port 0x501 ends it.  Without one the test is over. */
static inline struct machine *raw_machine(const struct image *i, struct machine_config config)
{
    char error[400];
    bool usage;
    config.ram_size = 16 << 20;
    config.raw_image = i->bytes;
    config.raw_size = i->size;
    config.raw_mode = 32;
    config.raw_entry = config.raw_entry ? config.raw_entry : 0x100000;
    config.debug_exit_port = 0x501;
    config.debug_exit_size = 1;
    struct machine *m = machine_new(&config, error, sizeof error, &usage);
    if (!m)
        exit((printf("machine_new: %s\n", error), 1));
    return m;
}

/* A counter of stats.def's, of a machine that has ended or stands. */
static inline uint64_t stat_of(struct machine *m, const char *name)
{
    char *text = NULL;
    size_t size, length = strlen(name);
    uint64_t n = 0;
    FILE *f = open_memstream(&text, &size);
    machine_stats_print(m, f, false);
    fclose(f);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (!strncmp(line, name, length) && line[length] == ' ')
            n = strtoull(line + length, NULL, 10);
    free(text);
    return n;
}

#endif
