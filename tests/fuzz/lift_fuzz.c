/* Arbitrary bytes as guest code.  Byte 0: mode (low 2 bits), how memory operands fall; 1 and 2: seed of the machine
 * state; then the code.  Its first instruction runs on the host's CPU (where tests/silicon/differences.def lets it) and in
 * every tier; then all of the bytes run as a program in every tier, blocks of many instructions.  All must agree. */
#include "tests/silicon/check.h"
#include <stdlib.h>
#include <string.h>

static uint8_t memory[ORACLE_DATA_SIZE];
enum { HEADER = 3, LONGEST = 96, PLACE = 0x1400 };

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    char error[200] = "mmap or sigaction";
    (void)argc, (void)argv;
    if (oracle_init() && guest_init("x86-64-v2,+bmi1,+bmi2,+adx,+lzcnt,+aes,+pclmulqdq,+sha", error, sizeof error))
        return 0;
    fprintf(stderr, "cannot set up: %s\n", error);
    exit(1);
}

static void fail(const char *what, enum oracle_mode_id mode, const uint8_t *code, size_t size)
{
    fprintf(stderr, "%s code: %s\n", oracle_modes[mode].name, what);
    for (size_t i = 0; i < size; i++)
        fprintf(stderr, "%02x", code[i]);
    fprintf(stderr, "\n");
    abort();
}

static void first_instruction(enum oracle_mode_id mode, const uint8_t *code, size_t size, struct oracle_state *state)
{
    struct form form = {.mode = (uint8_t)mode};
    struct test_case c;
    struct verdict v;
    memcpy(form.bytes, code, size < 15 ? size : 15);
    memset(oracle_code(), 0xcc, ORACLE_CODE_SIZE);
    case_make(&c, &form, guest_model(), memory);
    *state = c.in;
    check_case(&c, memory, &v);
    if (v.wrong) {
        check_print(stderr, &c, &v);
        fail(v.wrong, mode, code, size);
    }
}

static void all_of_it(enum oracle_mode_id mode, const uint8_t *code, size_t size, struct oracle_state *state)
{
    static uint8_t first_memory[ORACLE_DATA_SIZE];
    struct oracle_state first = {0};
    bool first_ended = false, ended;
    state->rip = ORACLE_CODE + PLACE - (mode == ORACLE_64 ? 0 : oracle_modes[mode].seg[X86_CS].base);
    memset(oracle_code(), 0xcc, ORACLE_CODE_SIZE);
    memcpy(oracle_code() + PLACE, code, size);
    guest_mode(mode);
    for (int tier = 0; tier < TIERS; tier++) {
        struct oracle_state here = *state;
        memcpy(oracle_data(), memory, sizeof memory);
        const char *wrong = guest_run_all(&here, (enum tier)tier, (unsigned)size, &ended);
        if (!wrong && tier && (!first_ended || !ended))
            return; /* a long loop */
        if (!wrong && tier)
            wrong = check_states(&first, &here, 0);
        if (!wrong && tier && memcmp(first_memory, oracle_data(), sizeof first_memory))
            wrong = "memory differs";
        if (wrong) {
            fprintf(stderr, "(%s) ", tier_names[tier]);
            fail(wrong, mode, code, size);
        }
        if (tier == 0) {
            first = here;
            first_ended = ended;
            memcpy(first_memory, oracle_data(), sizeof first_memory);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct oracle_state state;
    if (size <= HEADER)
        return 0;
    enum oracle_mode_id mode = (enum oracle_mode_id)(bytes[0] & 3);
    if (oracle_mode_missing(mode))
        return 0;
    rnd_seed = ((uint64_t)bytes[1] << 16 | (uint64_t)bytes[2] << 8 | bytes[0]) * 2 + 1;
    for (unsigned i = 0; i < sizeof memory; i += 8) {
        uint64_t v = rnd();
        memcpy(memory + i, &v, 8);
    }
    size = size - HEADER < LONGEST ? size - HEADER : LONGEST;
    first_instruction(mode, bytes + HEADER, size, &state);
    all_of_it(mode, bytes + HEADER, size, &state);
    return 0;
}
