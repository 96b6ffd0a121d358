/* Random blocks of x87 operations, mixed with what makes the guest's x87 move between host and state: slots, helpers,
 * the end of translated code.  Translated code must leave the very state that the interpreter leaves, and the
 * host's x87 as it was. */
#include "backend-tcg/backend-tcg.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct x87_state {
    uint64_t r[8], pc, pointer;
    uint32_t flags, faulted, stop, mxcsr;
    uint16_t control, status, opcode;
    uint8_t top, tags;
    uint8_t st[8][16] __attribute__((aligned(16)));
    uint64_t vec[4][2];
};
static struct { struct tcg_context tcg; struct x87_state s; } vcpu;
#define AT(field) ((uint32_t)offsetof(struct x87_state, field))
enum { GPRS = 8, DATA = 0x10000, BLOCKS = 3000, LONGEST = 40, MASKED = 0x37f };

/* --- Helpers: one looks at the x87, one does not */
static uint64_t turn(void *state, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    struct x87_state *s = state;
    (void)b, (void)c, (void)d;
    s->top = (s->top + a) & 7;
    return s->tags | (uint64_t)s->status << 8 | (uint64_t)s->st[0][7] << 32;
}
static uint64_t plain(void *state, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    (void)state, (void)c, (void)d;
    return a * 3 + b;
}
static const struct ir_helper helpers[] = {{"turn", turn, 1, IR_S_FPU, IR_S_FPU, false, false}, {"plain", plain, 2, 0, 0, false, false}};
static const struct ir_slot slots[] = {
    {"r0", 0, IR_I64, IR_S_GPR, 0}, {"r1", 8, IR_I64, IR_S_GPR, 0}, {"r2", 16, IR_I64, IR_S_GPR, 0}, {"r3", 24, IR_I64, IR_S_GPR, 0},
    {"r4", 32, IR_I64, IR_S_GPR, 0}, {"r5", 40, IR_I64, IR_S_GPR, 0}, {"r6", 48, IR_I64, IR_S_GPR, 0}, {"r7", 56, IR_I64, IR_S_GPR, 0},
    {"pc", AT(pc), IR_I64, IR_S_SYSTEM, 0}, {"flags", AT(flags), IR_I32, IR_S_FLAGS, 0}, {"mxcsr", AT(mxcsr), IR_I32, IR_S_VECTOR, 0},
    {"opcode", AT(opcode), IR_I16, IR_S_FPU, 0}, {"pointer", AT(pointer), IR_I64, IR_S_FPU, 0}, {"control", AT(control), IR_I16, IR_S_FPU, 0}, {"status", AT(status), IR_I16, IR_S_FPU, 0}, {"top", AT(top), IR_I8, IR_S_FPU, 0}, {"tags", AT(tags), IR_I8, IR_S_FPU, 0},
    {"st0", AT(st), IR_F80, IR_S_FPU, 0}, {"st1", AT(st) + 16, IR_F80, IR_S_FPU, 0}, {"st2", AT(st) + 32, IR_F80, IR_S_FPU, 0}, {"st3", AT(st) + 48, IR_F80, IR_S_FPU, 0},
    {"st4", AT(st) + 64, IR_F80, IR_S_FPU, 0}, {"st5", AT(st) + 80, IR_F80, IR_S_FPU, 0}, {"st6", AT(st) + 96, IR_F80, IR_S_FPU, 0}, {"st7", AT(st) + 112, IR_F80, IR_S_FPU, 0},
    {"vec0", AT(vec), IR_V128, IR_S_VECTOR, 0}, {"vec1", AT(vec) + 16, IR_V128, IR_S_VECTOR, 0}};
static const struct ir_guest guest = {
    .slots = slots, .slot_count = sizeof slots / sizeof *slots, .helpers = helpers, .helper_count = 2, .state_size = sizeof(struct x87_state),
    .pc_offset = AT(pc), .faulted_offset = AT(faulted), .stop_offset = AT(stop), .mxcsr_offset = AT(mxcsr),
    .x87 = {.pc = AT(pointer), .opcode = AT(opcode), .control = AT(control), .status = AT(status), .top = AT(top), .tags = AT(tags), .registers = AT(st)}};

static uint64_t seed = 88172645463325252ull;
static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed * 0x2545f4914f6cdd1dull;
}

/* --- Guest memory: one page at DATA */
static uint8_t page[4096] __attribute__((aligned(4096)));
static bool env_translate(void *s, uint64_t at, unsigned size, unsigned access) { (void)s, (void)access; return at >= DATA && at + size <= DATA + sizeof page; }
static void env_load(void *s, uint64_t at, unsigned size, void *to) { (void)s; memcpy(to, page + (at - DATA), size); }
static void env_store(void *s, uint64_t at, unsigned size, const void *from) { (void)s; memcpy(page + (at - DATA), from, size); }

static int64_t *table_new(void)
{
    int64_t *p = mmap(NULL, TCG_TABLE_ENTRIES * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    p[DATA >> 12] = (int64_t)(uintptr_t)page - DATA;
    return p;
}

/* --- Random blocks */
static ir_ref emit(struct ir_block *b, enum ir_op op, enum ir_type t, unsigned aux, int64_t imm, ir_ref x) { return ir_emit(b, op, t, aux, imm, x, IR_NONE, IR_NONE, IR_NONE); }
static ir_ref get(struct ir_block *b) { return emit(b, IR_get, IR_I64, 0, (int64_t)(rnd() % GPRS) * 8, IR_NONE); }
static void put(struct ir_block *b, ir_ref v) { emit(b, IR_put, IR_I64, 0, (int64_t)(rnd() % GPRS) * 8, v); }

/* First and last numbers of functions on registers; what faults elsewhere or loads the control word is left out. */
static const uint16_t plain_functions[][2] = {{0x0c0, 0x0ff}, {0x1c0, 0x1d0}, {0x1e0, 0x1e1}, {0x1e4, 0x1e5}, {0x1e8, 0x1ee}, {0x1f0, 0x1ff}, {0x2e9, 0x2e9},
    {0x4c0, 0x4cf}, {0x4e0, 0x4ff}, {0x5c0, 0x5c7}, {0x5d0, 0x5ef}, {0x6c0, 0x6cf}, {0x6d9, 0x6d9}, {0x6e0, 0x6ff}, {0x7c0, 0x7c7}};
static const uint16_t flag_functions[][2] = {{0x3e8, 0x3f7}, {0x7e8, 0x7f7}};
static const uint16_t move_functions[][2] = {{0x2c0, 0x2df}, {0x3c0, 0x3df}};
static const struct { uint16_t function; uint8_t size, store; } memory_functions[] = {
    {0x147, 4, 0}, {0x500, 8, 0}, {0x328, 10, 0}, {0x700, 2, 0}, {0x300, 4, 0}, {0x728, 8, 0}, {0x000, 4, 0}, {0x028, 4, 0}, {0x408, 8, 0}, {0x430, 8, 0}, {0x200, 4, 0}, {0x618, 2, 0},
    {0x110, 4, 1}, {0x118, 4, 1}, {0x510, 8, 1}, {0x518, 8, 1}, {0x338, 10, 1}, {0x710, 2, 1}, {0x318, 4, 1}, {0x738, 8, 1}, {0x508, 8, 1}, {0x730, 10, 1}, {0x720, 10, 0}};
#define PICK(table) pick(table, sizeof table / sizeof *table)
static unsigned pick(const uint16_t (*ranges)[2], size_t count)
{
    const uint16_t *r = ranges[rnd() % count];
    return r[0] + (unsigned)(rnd() % (r[1] - r[0] + 1u));
}

static bool traps; /* exceptions are unmasked in this block: before each function it ends where one is pending */
static void look(struct ir_block *b, unsigned n)
{
    if (!traps)
        return;
    ir_ref es = ir_op2(b, IR_and, IR_I16, emit(b, IR_x87_status, IR_I16, 0, 0, IR_NONE), ir_const(b, IR_I16, 0x80));
    emit(b, IR_exit_if, IR_VOID, 0, n + 5, ir_op2(b, IR_ne, IR_I16, es, ir_const(b, IR_I16, 0)));
}

static void memory_operation(struct ir_block *b, unsigned n)
{
    unsigned k = (unsigned)(rnd() % (sizeof memory_functions / sizeof *memory_functions));
    unsigned size = memory_functions[k].size, store = memory_functions[k].store;
    ir_emit(b, IR_insn, IR_VOID, 1, n, IR_NONE, IR_NONE, IR_NONE, IR_NONE);
    ir_ref at = ir_const(b, IR_I64, DATA + (int64_t)(rnd() % 64 * (rnd() % 2 ? 16 : 5)));
    look(b, n);
    ir_ref token = emit(b, IR_translate, IR_I64, store ? IR_WRITE : IR_READ, size, at);
    emit(b, store ? IR_x87_store : IR_x87_load, IR_VOID, memory_functions[k].function, size, token);
}

static void operation(struct ir_block *b, unsigned n, ir_ref live)
{
    ir_ref v;
    if (rnd() % 2)
        ir_emit(b, IR_insn, IR_VOID, 1, n, IR_NONE, IR_NONE, IR_NONE, IR_NONE);
    switch (rnd() % 20) {
    case 0: memory_operation(b, n); break;
    case 1: memory_operation(b, n); break;
    case 2: /* packed flags have bits that mean nothing */
        look(b, n);
        v = ir_op2(b, IR_and, IR_I32, emit(b, IR_x87_flags, IR_I32, PICK(flag_functions), 0, IR_NONE), ir_const(b, IR_I32, IR_FLAGS_ALL));
        put(b, emit(b, IR_zext, IR_I64, 0, 0, v));
        break;
    case 3:
        look(b, n);
        v = emit(b, IR_flags_unpack, IR_I32, 0, 0, emit(b, IR_get, IR_I32, 0, AT(flags), IR_NONE));
        emit(b, IR_x87_move_if, IR_VOID, PICK(move_functions), 0, v);
        break;
    case 4: put(b, emit(b, IR_zext, IR_I64, 0, 0, emit(b, IR_x87_status, IR_I16, 0, 0, IR_NONE))); break;
    case 5:
        if (traps)
            break;
        emit(b, IR_put, IR_I16, 0, AT(control), ir_const(b, IR_I16, (int64_t)(MASKED & ~0x300) | (int64_t)(rnd() & 0xf00)));
        emit(b, IR_x87_control, IR_VOID, 0, 0, IR_NONE);
        break;
    case 6: put(b, ir_emit(b, IR_call, IR_I64, 0, 0, ir_const(b, IR_I64, (int64_t)(rnd() & 7)), IR_NONE, IR_NONE, IR_NONE)); break;
    case 7: put(b, ir_emit(b, IR_call, IR_I64, 0, 1, get(b), live, IR_NONE, IR_NONE)); break;
    case 8: put(b, emit(b, IR_get, IR_I64, 0, AT(st) + (int64_t)(rnd() & 7) * 16, IR_NONE)); break;
    case 9: emit(b, IR_put, IR_I64, 0, AT(st) + (int64_t)(rnd() & 7) * 16, get(b)); break;
    case 10: emit(b, IR_put, IR_I8, 0, AT(tags), ir_const(b, IR_I8, (int64_t)(int8_t)rnd())); break;
    case 12: emit(b, IR_x87_clear, IR_VOID, 0, 0, IR_NONE); break;
    case 13: put(b, emit(b, IR_get, IR_I64, 0, AT(pointer), IR_NONE)); break;
    case 14: emit(b, IR_put, IR_I16, 0, AT(opcode), ir_const(b, IR_I16, 0x123)); break;
    case 15: /* now and then the block ends here */
        v = ir_op2(b, IR_ult, IR_I64, get(b), ir_const(b, IR_I64, 1ll << 60));
        emit(b, IR_exit_if, IR_VOID, 0, n + 5, v);
        break;
    case 11: put(b, ir_op2(b, IR_add, IR_I64, get(b), live)); break;
    default:
        look(b, n);
        emit(b, IR_x87, IR_VOID, PICK(plain_functions), 0, IR_NONE);
    }
}

static void random_block(struct ir_block *b)
{
    unsigned count = 1 + (unsigned)(rnd() % LONGEST);
    traps = rnd() % 4 == 0;
    ir_block_clear(b);
    b->pc_bits = 64;
    ir_emit(b, IR_insn, IR_VOID, 1, 0, IR_NONE, IR_NONE, IR_NONE, IR_NONE);
    ir_ref live = get(b), vector = emit(b, IR_get, IR_V128, 0, AT(vec), IR_NONE); /* across all that comes */
    for (unsigned n = 1; n <= count; n++)
        operation(b, n, live);
    ir_emit(b, IR_insn, IR_VOID, 1, count + 1, IR_NONE, IR_NONE, IR_NONE, IR_NONE);
    emit(b, IR_put, IR_V128, 0, AT(vec) + 16, vector);
    emit(b, IR_leave, IR_VOID, IR_LEAVE_NEXT, count + 2, IR_NONE);
}

static void random_state(struct x87_state *s)
{
    static const uint16_t exponents[] = {0, 1, 0x3fff, 0x4000, 0x3ffe, 0x403e, 0x7fff, 0x7ffe};
    memset(s, 0, sizeof *s);
    for (unsigned i = 0; i < GPRS; i++)
        s->r[i] = rnd();
    s->flags = (uint32_t)rnd() & IR_FLAGS_ALL;
    s->control = (uint16_t)((MASKED & ~0x300) | (rnd() & 0xf00));
    if (traps)
        s->control &= (uint16_t)(rnd() | 0xffc0);
    s->status = (uint16_t)(rnd() & 0x477f);
    s->status |= s->status & ~s->control & 0x3f ? 0x8080 : 0; /* ES and B follow from the flags and their masks */
    s->mxcsr = 0x1f80;
    s->top = rnd() & 7;
    s->tags = (uint8_t)(rnd() % 3 ? rnd() | rnd() : 0);
    for (unsigned i = 0; i < 8; i++) {
        uint64_t mantissa = rnd() | (rnd() % 8 ? 1ull << 63 : 0);
        uint16_t e = (uint16_t)((rnd() % 4 ? exponents[rnd() % 8] : rnd()) ^ (rnd() & 0x8000));
        memcpy(s->st[i], &mantissa, 8);
        memcpy(s->st[i] + 8, &e, 2);
    }
    for (unsigned i = 0; i < 8; i++)
        s->vec[i / 2][i & 1] = rnd();
    for (unsigned i = 0; i < sizeof page; i += 2)
        memcpy(page + i, &(uint16_t){(uint16_t)(rnd() % 3 ? rnd() : i % 16 == 8 ? 0x3fff : 0)}, 2);
}

static bool host_is_clean(void)
{
    struct { uint32_t w[7]; } env;
    __asm__ volatile("fnstenv %0\n\tfldenv %0" : "+m"(env));
    return (env.w[0] & 0xffff) == MASKED && (env.w[2] & 0xffff) == 0xffff;
}

static bool one(struct tcg_buffer *buffer, struct ir_block *b, bool optimise)
{
    char error[160];
    static uint8_t before[sizeof page], wanted[sizeof page];
    struct x87_state start, want;
    struct tcg_block code;
    struct tcg_options options = {.guest = &guest, .pc = 0x1000};
    struct ir_env env = {.state = &want, .guest = &guest, .pc = 0x1000, .translate = env_translate, .load = env_load, .store = env_store};
    size_t at = 0;
    int exit;
    unsigned insns;
    random_block(b);
    random_state(&start);
    memcpy(before, page, sizeof page);
    const char *wrong = ir_verify(b, &guest, error, sizeof error);
    want = start;
    if (!wrong)
        ir_interpret(b, &env, &insns);
    memcpy(wanted, page, sizeof page);
    memcpy(page, before, sizeof page);
    if (!wrong && optimise)
        ir_optimise(b, &guest);
    if (!wrong)
        wrong = ir_verify(b, &guest, error, sizeof error);
    if (!wrong && tcg_compile(buffer, &at, 1 << 20, b, &options, &code) != TCG_OK)
        wrong = "not translated";
    if (wrong) {
        printf("%s\n", wrong);
        return false;
    }
    vcpu.s = start;
    tcg_run(&vcpu.s, &guest, code.entry, &exit);
    free(code.sites);
    if (memcmp(&vcpu.s, &want, sizeof want))
        wrong = "the state differs";
    else if (memcmp(page, wanted, sizeof page))
        wrong = "memory differs";
    else if (!host_is_clean())
        wrong = "the host's x87 is left dirty";
    for (unsigned i = 0; wrong && i < sizeof want; i++)
        if (((uint8_t *)&want)[i] != ((uint8_t *)&vcpu.s)[i])
            printf("state byte %x: %02x, translated %02x\n", i, ((uint8_t *)&want)[i], ((uint8_t *)&vcpu.s)[i]);
    if (wrong) {
        printf("%s\n", wrong);
        ir_print(stdout, b, &guest);
    }
    return !wrong;
}

int main(void)
{
    int64_t *read = table_new(), *write = table_new();
    struct tcg_buffer *buffer = tcg_buffer_new(1 << 20);
    static struct tcg_jump jumps[TCG_JUMP_ROOM];
    struct ir_block b;
    unsigned failed = 0;
    if (!read || !write || !buffer) {
        printf("cannot set up\n");
        return 1;
    }
    tcg_jumps_clear(jumps, TCG_JUMP_ROOM);
    vcpu.tcg.jumps = jumps;
    tcg_tables_set(&vcpu.tcg, read, write);
    ir_block_init(&b);
    for (unsigned i = 0; i < BLOCKS && failed < 3; i++)
        failed += !one(buffer, &b, i & 1);
    printf("%u blocks, %u failed\n", BLOCKS, failed);
    ir_block_free(&b);
    tcg_buffer_free(buffer);
    return failed != 0;
}
