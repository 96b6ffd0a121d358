/* Two machines in one process, at the same time, in both tiers: each runs its own image, writes to its own
 * debug console and ends with its own status. */
#include "runtime/runtime.h"
#include <pthread.h>
#include <string.h>

/* ecx = count; eax = sum of 1..ecx; prints the letter in bl; writes al's low bit parity... ends with status. */
static const uint8_t image[] = {
    0xb9, 0x10, 0x27, 0x00, 0x00,       /*     mov ecx, 10000                 */
    0x31, 0xc0,                         /*     xor eax, eax                   */
    0x01, 0xc8,                         /* 1:  add eax, ecx                   */
    0x49,                               /*     dec ecx                        */
    0x75, 0xfb,                         /*     jnz 1b                         */
    0x3d, 0x88, 0xd3, 0xfa, 0x02,       /*     cmp eax, 50005000 (0x02fb0408) patched below */
    0xb0, 'A',                          /*     mov al, 'A'   (offset 18)      */
    0x74, 0x02,                         /*     je 2f                          */
    0xb0, '!',                          /*     mov al, '!'                    */
    0xe6, 0xe9,                         /* 2:  out 0xe9, al                   */
    0xb0, 0x10,                         /*     mov al, 0x10  (offset 26)      */
    0xba, 0x01, 0x05, 0x00, 0x00,       /*     mov edx, 0x501                 */
    0xee,                               /*     out dx, al                     */
    0xf4, 0xeb, 0xfd,                   /* 3:  hlt; jmp 3b                    */
};
enum { SUM_AT = 13, LETTER_AT = 18, STATUS_AT = 26 };

struct run { enum tier tier; uint8_t code[sizeof image]; char out[16]; unsigned count; int status; enum machine_end end; bool made; };

static void put(void *ctx, const uint8_t *bytes, size_t size)
{
    struct run *r = ctx;
    for (size_t i = 0; i < size && r->count < sizeof r->out - 1; i++)
        r->out[r->count++] = (char)bytes[i];
}

static void *run(void *arg)
{
    struct run *r = arg;
    char error[256] = "";
    bool usage;
    struct machine_config config = {
        .ram_size = 16 << 20, .tier = r->tier, .raw_image = r->code, .raw_size = sizeof r->code,
        .raw_entry = 0x100000, .raw_mode = 32, .debug_console = {put, r},
    };
    struct machine *m = machine_new(&config, error, sizeof error, &usage);
    if (!m) {
        printf("machine_new: %s\n", error);
        return NULL;
    }
    r->made = true;
    r->end = machine_run(m, &r->status);
    machine_free(m);
    return NULL;
}

int main(void)
{
    int passed = 0, failed = 0;
    for (int tier = TIER_INTERP; tier <= TIER_TCG; tier++) {
        struct run runs[2];
        pthread_t threads[2];
        memset(runs, 0, sizeof runs);
        for (int i = 0; i < 2; i++) {
            uint32_t sum = 50005000;
            runs[i].tier = (enum tier)tier;
            memcpy(runs[i].code, image, sizeof image);
            memcpy(runs[i].code + SUM_AT, &sum, 4);
            runs[i].code[LETTER_AT] = (uint8_t)('A' + i);
            runs[i].code[STATUS_AT] = (uint8_t)(0x10 + i);
            pthread_create(&threads[i], NULL, run, &runs[i]);
        }
        for (int i = 0; i < 2; i++) {
            char want[2] = {(char)('A' + i), 0};
            pthread_join(threads[i], NULL);
            bool ok = runs[i].made && runs[i].end == MACHINE_DEBUG_EXIT && runs[i].status == ((0x10 + i) << 1 | 1) && !strcmp(runs[i].out, want);
            if (!ok)
                printf("tier %d machine %d: end %d status %d console \"%s\"\n", tier, i, runs[i].end, runs[i].status, runs[i].out);
            ok ? passed++ : failed++;
        }
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
