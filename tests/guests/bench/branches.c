/* Branches: those that cannot be predicted, state machines, searches. */
#include "bench.h"

uint64_t branches_random(void)
{
    uint32_t seed = 5;
    uint64_t sum = 0;
    for (int i = 0; i < 200000; i++) {
        uint32_t r = next_random(&seed);
        if (r & 0x100)
            sum += r;
        else
            sum ^= (uint64_t)r << 7;
        if ((r & 0x30) == 0x10)
            sum = sum << 3 | sum >> 61;
        OPAQUE(sum);
    }
    return sum;
}

uint64_t branches_collatz(void)
{
    uint64_t steps = 0;
    for (uint64_t start = 1; start < 9000; start++)
        for (uint64_t x = start; x != 1; steps++) {
            if (x & 1)
                x = 3 * x + 1;
            else
                x >>= 1;
            OPAQUE(x);
        }
    return steps;
}

/* Counts words, numbers and comments of a text: a switch in a loop. */
uint64_t branches_states(void)
{
    static char text[16384];
    uint32_t seed = 11;
    uint64_t words = 0, numbers = 0, comments = 0;
    for (unsigned i = 0; i + 1 < sizeof text; i++)
        text[i] = "abc 12 x#\n .;"[next_random(&seed) % 13];
    for (int round = 0; round < 25; round++) {
        enum { SPACE, WORD, NUMBER, COMMENT } state = SPACE;
        for (const char *p = text; *p; p++) {
            switch (state) {
            case SPACE:
                if (*p >= 'a')
                    state = WORD, words++;
                else if (*p >= '0' && *p <= '9')
                    state = NUMBER, numbers++;
                else if (*p == '#')
                    state = COMMENT, comments++;
                break;
            case WORD:
            case NUMBER:
                if (*p == ' ' || *p == '\n' || *p == ';')
                    state = SPACE;
                else if (*p == '#')
                    state = COMMENT, comments++;
                break;
            case COMMENT:
                if (*p == '\n')
                    state = SPACE;
                break;
            }
        }
    }
    return words << 40 ^ numbers << 20 ^ comments;
}

uint64_t branches_bisect(void)
{
    static uint32_t v[8192];
    uint32_t seed = 2;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 8192; i++)
        v[i] = i * 2048 + (i & 31);
    for (int i = 0; i < 60000; i++) {
        uint32_t key = next_random(&seed), low = 0, high = 8192;
        while (low < high) {
            uint32_t middle = (low + high) / 2;
            if (v[middle] < key)
                low = middle + 1;
            else
                high = middle;
        }
        sum = mix(sum, low);
    }
    return sum;
}
