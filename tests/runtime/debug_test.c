/* Breakpoints, watchpoints and steps on a small guest, in both tiers: the machine must stop where it should, that
 * many times, and at no other place.  A script of stops is worked off in the main loop's callback. */
#include "runtime/runtime.h"
#include <inttypes.h>
#include <poll.h>
#include <string.h>

enum { BASE = 0x100000, DATA = 0x200000 };
/* The guest; at each label its address. */
static const uint8_t image[] = {
    0xb9, 0xe8, 0x03, 0x00, 0x00,                   /* 00     mov ecx, 1000                */
    0x31, 0xc0,                                     /* 05     xor eax, eax                 */
    0x01, 0xc8,                                     /* 07 1:  add eax, ecx                 */
    0x49,                                           /* 09     dec ecx                      */
    0x75, 0xfb,                                     /* 0a     jnz 1b                       */
    0xa3, 0x00, 0x00, 0x20, 0x00,                   /* 0c     mov [DATA], eax              */
    0x8b, 0x1d, 0x00, 0x00, 0x20, 0x00,             /* 11     mov ebx, [DATA]              */
    0x90,                                           /* 17     nop                          */
    0xbf, 0x40, 0x00, 0x20, 0x00,                   /* 18     mov edi, DATA + 64           */
    0xb9, 0x20, 0x00, 0x00, 0x00,                   /* 1d     mov ecx, 32                  */
    0xf3, 0xaa,                                     /* 22     rep stosb                    */
    0x89, 0xc6,                                     /* 24     mov esi, eax                 */
    0x0f, 0xae, 0x05, 0x00, 0x02, 0x20, 0x00,       /* 26     fxsave [DATA + 512]          */
    0x90,                                           /* 2d     nop                          */
    0xb0, 0x21,                                     /* 2e     mov al, 0x21                 */
    0xba, 0x01, 0x05, 0x00, 0x00,                   /* 30     mov edx, 0x501               */
    0xee,                                           /* 35     out dx, al                   */
    0xf4, 0xeb, 0xfd,                               /* 36 2:  hlt; jmp 2b                  */
};

/* What is done while the machine stands, and how it must stop after that. */
struct stop {
    enum { CONTINUE, STEP } go;
    enum { KEEP, ADD, REMOVE } change; enum machine_break kind; uint64_t at, size;
    enum machine_stop_reason reason; uint64_t rip, ecx;
};
static const struct stop script[] = {
    {STEP, KEEP, 0, 0, 0, MACHINE_STOP_STEP, BASE + 5, 1000},
    {CONTINUE, ADD, MACHINE_BREAK_CODE, BASE + 9, 1, MACHINE_STOP_BREAK, BASE + 9, 1000},
    {CONTINUE, KEEP, 0, 0, 0, MACHINE_STOP_BREAK, BASE + 9, 999},
    {STEP, KEEP, 0, 0, 0, MACHINE_STOP_STEP, BASE + 0xa, 998},
    {STEP, KEEP, 0, 0, 0, MACHINE_STOP_STEP, BASE + 7, 998},
    {CONTINUE, KEEP, 0, 0, 0, MACHINE_STOP_BREAK, BASE + 9, 998},
    {CONTINUE, ADD, MACHINE_BREAK_CODE, BASE + 7, 1, MACHINE_STOP_BREAK, BASE + 7, 997},
    {CONTINUE, REMOVE, MACHINE_BREAK_CODE, BASE + 9, 1, MACHINE_STOP_BREAK, BASE + 7, 996},
    {STEP, REMOVE, MACHINE_BREAK_CODE, BASE + 7, 1, MACHINE_STOP_STEP, BASE + 9, 996},
    /* The whole loop runs; the store is seen, and the machine stands behind it. */
    {CONTINUE, ADD, MACHINE_WATCH_WRITE, DATA + 3, 1, MACHINE_STOP_WATCH, BASE + 0x11, 0},
    {CONTINUE, ADD, MACHINE_WATCH_READ, DATA, 4, MACHINE_STOP_WATCH, BASE + 0x17, 0},
    {CONTINUE, ADD, MACHINE_WATCH_ACCESS, DATA + 64 + 20, 4, MACHINE_STOP_WATCH, BASE + 0x24, 0}, /* inside REP STOSB */
    {CONTINUE, ADD, MACHINE_WATCH_WRITE, DATA + 512 + 24, 2, MACHINE_STOP_WATCH, BASE + 0x2d, 0}, /* by a helper, inside a block */
};
enum { STOPS = sizeof script / sizeof *script };

struct run { struct machine *machine; unsigned done; int failed; };

static void go(struct run *r)
{
    const struct stop *s = &script[r->done];
    if (r->done == STOPS) {
        machine_break_clear(r->machine);
        machine_continue(r->machine);
        return;
    }
    if (s->change == ADD && !machine_break_add(r->machine, s->kind, s->at, s->size))
        r->failed++;
    if (s->change == REMOVE && !machine_break_remove(r->machine, s->kind, s->at, s->size))
        r->failed++;
    if (s->go == STEP)
        machine_step(r->machine, MACHINE_STEP_NO_INTERRUPTS | MACHINE_STEP_NO_TIME);
    else
        machine_continue(r->machine);
}

static void stopped(void *ctx, const struct machine_stop *stop)
{
    struct run *r = ctx;
    const struct x86_state *s = &machine_cpu(r->machine)->state;
    if (r->done == STOPS) {
        printf("stopped once more, at %" PRIx64 "\n", s->rip);
        r->failed++;
        machine_quit(r->machine);
        return;
    }
    const struct stop *want = &script[r->done++];
    if (stop->reason != want->reason || s->rip != want->rip || s->gpr[X86_RCX] != want->ecx) {
        printf("stop %u: reason %d at %" PRIx64 " with ecx %" PRIu64 ", not %d at %" PRIx64 " with %" PRIu64 "\n", r->done, stop->reason,
               s->rip, s->gpr[X86_RCX], want->reason, want->rip, want->ecx);
        r->failed++;
    }
    go(r);
}

/* Begins when the main loop first turns: standard machines start stopped (-S) and are let go from there. */
static void begin(void *ctx, short events)
{
    struct run *r = ctx;
    (void)events;
    machine_watch(r->machine, 0, 0, NULL, NULL);
    go(r);
}

static int run(enum tier tier)
{
    char error[256];
    bool usage;
    int status = 0;
    struct machine_config config = {.ram_size = 16 << 20, .tier = tier, .raw_image = image, .raw_size = sizeof image,
                                    .raw_entry = BASE, .debug_exit_port = 0x501, .debug_exit_size = 4, .raw_mode = 32, .start_stopped = true};
    struct run r = {.machine = machine_new(&config, error, sizeof error, &usage)};
    if (!r.machine) {
        printf("machine_new: %s\n", error);
        return 1;
    }
    machine_on_stop(r.machine, stopped, &r);
    uint8_t bytes[2];
    if (!freopen("/dev/null", "r", stdin) || !machine_watch(r.machine, 0, POLLIN, begin, &r))
        return 1;
    enum machine_end end = machine_run(r.machine, &status);
    if (r.done != STOPS || end != MACHINE_DEBUG_EXIT || status != (0x21 << 1 | 1)) {
        printf("tier %d: %u of %u stops, end %d, status %d\n", tier, r.done, STOPS, end, status);
        r.failed++;
    }
    if (!machine_debug_read(r.machine, DATA + 64 + 31, false, bytes, 1) || bytes[0] != (500500 & 0xff)) {
        printf("tier %d: REP STOSB did not end its work\n", tier);
        r.failed++;
    }
    machine_free(r.machine);
    return r.failed;
}

int main(void)
{
    int failed = run(TIER_INTERP) + run(TIER_TCG);
    printf("%d passed, %d failed\n", 2 * STOPS - failed, failed);
    return failed != 0;
}
