/* x87 operations: what the interpreter does to the state's x87, what the passes may not remove, what the verifier refuses. */
#include "ir/ir.h"
#include <stdlib.h>
#include <string.h>

struct x87_state {
    uint64_t r[2], pc, pointer;
    uint32_t flags, faulted, stop;
    uint16_t control, status, opcode;
    uint8_t top, tags;
    struct { uint64_t mantissa; uint16_t exponent, pad[3]; } st[8] __attribute__((aligned(16)));
};
#define AT(field) ((uint32_t)offsetof(struct x87_state, field))
static const struct ir_slot slots[] = {
    {"r0", AT(r), IR_I64, IR_S_GPR, 1}, {"r1", AT(r) + 8, IR_I64, IR_S_GPR, 2}, {"pc", AT(pc), IR_I64, IR_S_SYSTEM, 0},
    {"flags", AT(flags), IR_I32, IR_S_FLAGS, 0}, {"control", AT(control), IR_I16, IR_S_FPU, 0}, {"status", AT(status), IR_I16, IR_S_FPU, 0},
    {"top", AT(top), IR_I8, IR_S_FPU, 0}, {"tags", AT(tags), IR_I8, IR_S_FPU, 0}, {"st", AT(st), IR_F80, IR_S_FPU, 0}};

static uint64_t unmask(void *state, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    (void)b, (void)c, (void)d;
    ((struct x87_state *)state)->r[1] = a;
    return 0;
}
static const struct ir_helper helpers[] = {{.name = "unmask", .fn = unmask, .args = 1, .writes = IR_S_GPR}};
static const struct ir_guest guest = {
    .slots = slots, .slot_count = sizeof slots / sizeof *slots, .helpers = helpers, .helper_count = 1, .state_size = sizeof(struct x87_state),
    .pc_offset = AT(pc), .faulted_offset = AT(faulted), .stop_offset = AT(stop),
    .x87 = {.pc = AT(pointer), .opcode = AT(opcode), .control = AT(control), .status = AT(status), .top = AT(top), .tags = AT(tags), .registers = AT(st)}};

static unsigned passed, failed;
static void check(const char *name, bool ok, const char *detail)
{
    ok ? passed++ : failed++;
    if (!ok)
        printf("%s: %s\n", name, detail);
}

/* --- Memory is this array */
static uint8_t memory[32];
static bool env_translate(void *s, uint64_t at, unsigned size, unsigned access) { (void)s, (void)access; return at + size <= sizeof memory; }
static void env_load(void *s, uint64_t at, unsigned size, void *to) { (void)s; memcpy(to, memory + at, size); }
static void env_store(void *s, uint64_t at, unsigned size, const void *from) { (void)s; memcpy(memory + at, from, size); }

#define HEAD "block pc_bits 64 guest_insns 1 guest_bytes 2\ninsn.void !2 #0x0\n"
#define END "jump.void #0x2\n"
#define LOAD_F64 "%0 = const.i64 #0x8\n%1 = translate.i64 %0 !1 #0x8\nx87_load.void %1 !500 #0x8\n"

static bool run(const char *text, struct x87_state *s, bool optimise)
{
    struct ir_block b;
    struct ir_env env = {.state = s, .guest = &guest, .pc = 0x100, .translate = env_translate, .load = env_load, .store = env_store};
    char error[128];
    unsigned insns;
    ir_block_init(&b);
    const char *wrong = ir_parse(&b, text, &guest, error, sizeof error);
    if (!wrong)
        wrong = ir_verify(&b, &guest, error, sizeof error);
    check("well formed", !wrong, wrong);
    if (!wrong && optimise)
        ir_optimise(&b, &guest);
    if (!wrong)
        ir_interpret(&b, &env, &insns);
    ir_block_free(&b);
    return !wrong;
}

/* From an empty x87 with TOP 0 and 1.5 at 8: what the text leaves. */
static const struct { const char *name, *text; uint16_t status; uint8_t top, tags; uint16_t exponent; uint64_t mantissa; } runs[] = {
    {"load", HEAD LOAD_F64 END, 0, 7, 0x80, 0x3fff, 0xc000000000000000},
    {"add to itself", HEAD LOAD_F64 "x87.void !c0\n" END, 0, 7, 0x80, 0x4000, 0xc000000000000000},
    {"1 / 3 is inexact, rounded down", HEAD LOAD_F64 "x87.void !c0\nx87.void !1e8\nx87.void !6f1\n" END, 0x20, 7, 0x80, 0x3ffd, 0xaaaaaaaaaaaaaaaa},
    {"add to an empty register", HEAD "x87.void !c1\n" END, 0x41, 0, 0x00, 0, 0},
    {"nine pushes overflow", HEAD "x87.void !1ee\nx87.void !1ee\nx87.void !1ee\nx87.void !1ee\nx87.void !1ee\nx87.void !1ee\nx87.void !1ee\nx87.void !1ee\nx87.void !1ee\n" END,
     0x241, 7, 0xff, 0xffff, 0xc000000000000000},
    {"a put of TOP is seen, and the last one stays", HEAD "%0 = const.i8 #0x3\n%1 = const.i8 #0x5\nput.i8 %0 #top\nx87.void !1e8\nput.i8 %1 #top\n" END, 0, 5, 0x04, 0, 0},
};

static void run_texts(bool optimise)
{
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        struct x87_state s = {.control = 0x77f}; /* rounds down */
        double v = 1.5;
        char detail[100];
        memcpy(memory + 8, &v, 8);
        if (!run(runs[i].text, &s, optimise))
            continue;
        bool underflow = runs[i].status == 0x41 && !runs[i].tags; /* the response fills ST(0) */
        bool ok = (s.status & 0x2ff) == (runs[i].status & 0x2ff) && s.top == runs[i].top &&
                  (underflow || (s.tags == runs[i].tags && s.st[s.top].exponent == runs[i].exponent && s.st[s.top].mantissa == runs[i].mantissa));
        snprintf(detail, sizeof detail, "status %x top %u tags %x st %x:%llx", s.status, s.top, s.tags, s.st[s.top].exponent, (unsigned long long)s.st[s.top].mantissa);
        check(runs[i].name, ok, detail);
        check("control word", s.control == 0x77f, "changed");
    }
}

static void run_store_status_flags(void)
{
    struct x87_state s = {.control = 0x37f};
    double v = 1.5;
    memcpy(memory + 8, &v, 8);
    run(HEAD LOAD_F64 "x87.void !1e8\n"                                          /* ST = 1, 1.5 */
        "%2 = x87_flags.i32 !3f1\n%3 = zext.i64 %2\nput.i64 %3 #r0\n"            /* 1 < 1.5: carry */
        "%4 = x87_status.i16\n%5 = zext.i64 %4\nput.i64 %5 #r1\n"
        "insn.void !2 #0x2\n%6 = const.i64 #0x10\n%7 = translate.i64 %6 !2 #0xa\nx87_store.void %7 !338 #0xa\n" END, &s, true);
    check("comparison", s.r[0] == IR_FLAG_C, "flags are not below");
    check("status", s.r[1] == 6u << 11, "TOP is not 6");
    check("store of 10 bytes", !memcmp(memory + 16, "\0\0\0\0\0\0\0\x80\xff\x3f\0", 11), "not 1.0");
    check("pointers", s.pointer == 0x102 && s.opcode == 0x338, "not the store's");
    check("pop", s.top == 7 && s.tags == 0x80, "no pop");
}

static void run_divert(void)
{
    struct x87_state s = {.control = 0x37f};
#define DIVERT(bit) HEAD "%0 = const.i1 #" bit "\n%1 = const.i64 #0x55\n%2 = const.i64 #0x7\ndivert_if.void %0, %1 #unmask\nput.i64 %2 #r0\n" END
    run(DIVERT("0x1"), &s, false);
    check("diverted", s.r[1] == 0x55 && s.r[0] == 0 && s.pc == 0x102, "the rest ran, or the helper did not");
    run(DIVERT("0x0"), &s, false);
    check("not diverted", s.r[0] == 7, "the rest did not run");
}

static void refuse(const char *text)
{
    struct ir_block b;
    char error[128];
    ir_block_init(&b);
    const char *wrong = ir_parse(&b, text, &guest, error, sizeof error);
    check("parses", !wrong, wrong);
    check("refused", ir_verify(&b, &guest, error, sizeof error) != NULL, text);
    ir_block_free(&b);
}

int main(void)
{
    run_texts(false);
    run_texts(true);
    run_store_status_flags();
    run_divert();
    refuse(HEAD "x87.void !528\n" END);                                                                    /* memory's number */
    refuse(HEAD "x87.void !8c1\n" END);                                                                    /* not the x87's */
    refuse(HEAD "%0 = const.i64 #0x8\n%1 = translate.i64 %0 !1 #0x8\nx87_load.void %1 !5c0 #0x8\n" END);   /* registers' number */
    refuse(HEAD "%0 = const.i64 #0x8\n%1 = translate.i64 %0 !1 #0x8\nx87_load.void %1 !500 #0x20\n" END);  /* size */
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
