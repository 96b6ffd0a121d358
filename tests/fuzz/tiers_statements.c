/* Control flow: branches, loops, calls and returns; strings, changed code, faults, mappings and devices. */
#include "tests/fuzz/tiers_gen.h"
#include <stdlib.h>
#include <string.h>

/* --- Statements */
static void statements(struct gen *g, unsigned most);
static void straight(struct gen *g)
{
    for (unsigned i = 1 + take(g, 8); i; i--)
        integer(g);
}
static void branch(struct gen *g)
{
    if (one_in(g, 3)) { /* over one instruction, short */
        INSN(g, (uint8_t)(0x70 | take(g, 16)), 0);
        unsigned from = g->at;
        set_reg(g, dst(g), number(g));
        g->code[from - 1] = (uint8_t)(g->at - from);
        return;
    }
    unsigned other = jump_on(g, (int)take(g, 16)), out;
    statements(g, 1 + take(g, 3));
    if (one_in(g, 2)) {
        land(g, other);
        return;
    }
    out = jump_on(g, ALWAYS);
    land(g, other);
    statements(g, 1 + take(g, 3));
    land(g, out);
}
static void mask(struct gen *g, unsigned r, unsigned bits) { emit(g, (struct insn){.size = 4, .opcode = 0x83, .reg = 4, .rm = reg(r), .imm_size = 1, .imm = bits}); }
/* An element of a table of code addresses at `at` */
static struct operand element(const struct gen *g, unsigned at, unsigned index)
{
    return (struct operand){.memory = true, .reg = NONE, .index = (int8_t)index, .scale = g->wide ? 3 : g->real ? 1 : 2, .segment = g->wide ? 0 : 0x2e, .disp = (int32_t)code_address(g, at)};
}
static void branch_by_table(struct gen *g)
{
    unsigned count = one_in(g, 2) ? 4 : 2, r = dst(g), outs[4];
    mask(g, r, count - 1);
    unsigned table = jump_on(g, ALWAYS), at = g->at;
    g->at += count * g->word;
    land(g, table);
    if (one_in(g, 2)) {
        emit(g, (struct insn){.opcode = 0xff, .reg = 4, .rm = element(g, at, r)});
    } else {
        emit(g, (struct insn){.opcode = 0xff, .reg = 6, .rm = element(g, at, r)});
        INSN(g, 0xc3);
    }
    for (unsigned i = 0; i < count; i++) {
        little_at(g, at + i * g->word, code_address(g, g->at), g->word);
        statements(g, 1 + take(g, 2));
        outs[i] = jump_on(g, ALWAYS);
    }
    for (unsigned i = 0; i < count; i++)
        land(g, outs[i]);
}

/* Leaves the flags alone, or not; each kind of the ends that compilers and people write. */
static void loop_end(struct gen *g, unsigned top, int counter, struct operand memory)
{
    unsigned kind = take(g, 6);
    struct operand rm = counter == NONE ? memory : reg((unsigned)counter);
    if (counter == NONE || kind < 2) {
        emit(g, (struct insn){.size = 4, .opcode = 0xff, .reg = 1, .rm = rm}); /* DEC; JNZ */
        jump_back(g, CC_NZ, top);
    } else if (kind == 2) {
        emit(g, (struct insn){.size = 4, .opcode = 0x83, .reg = 5, .rm = rm, .imm_size = 1, .imm = 1});
        jump_back(g, one_in(g, 2) ? CC_NZ : CC_A, top);
    } else if (counter == CX && kind == 3 && top + 100 > g->at) {
        INSN(g, 0xe2, (uint8_t)((int)top - (int)(g->at + 2)));
    } else if (counter == CX && kind == 4) { /* LEA; JRCXZ keep all flags */
        emit(g, (struct insn){.size = g->word, .opcode = 0x8d, .reg = CX, .rm = based(CX, -1)});
        INSN(g, 0xe3, 0);
        unsigned from = g->at;
        jump_back(g, ALWAYS, top);
        g->code[from - 1] = (uint8_t)(g->at - from);
    } else {
        emit(g, (struct insn){.size = 4, .opcode = 0x8d, .reg = (unsigned)counter, .rm = based(counter, -1)});
        emit(g, (struct insn){.size = g->real ? 2 : 4, .opcode = 0x85, .reg = (unsigned)counter, .rm = rm});
        jump_back(g, CC_NZ, top);
    }
}
/* A register that a loop may keep for itself, or NONE. */
static int keep(struct gen *g)
{
    static const uint8_t regs[] = {CX, SI, DI, 12, 13, 14, 15};
    unsigned count = g->wide ? 7 : 3, k = take(g, count);
    unsigned kept = (unsigned)__builtin_popcount(g->locked & (1u << CX | 1u << SI | 1u << DI));
    if (g->locked & 1u << regs[k] || (regs[k] < 8 && kept >= 2))
        return NONE;
    g->locked |= 1u << regs[k];
    return regs[k];
}
static void loop(struct gen *g)
{
    static const uint16_t counts[] = {2, 3, 1, 5, 16, 40, 100, 400, 1500, 4000, 4000, 2000};
    unsigned n = counts[take(g, 12)];
    if (g->nest == NEST)
        return;
    while (n > 1 && n * g->times > g->most / 12)
        n = n / 3 + (n < 3);
    uint32_t locked = g->locked;
    int counter = one_in(g, 3) ? NONE : keep(g), pointer = one_in(g, 2) ? keep(g) : NONE;
    g->nest++;
    struct operand memory = based(BX, COUNTERS + 32 * (int)g->function_count + 8 * g->nest); /* each function has its own */
    counter == NONE ? store_imm(g, memory, n) : set_reg(g, (unsigned)counter, n);
    if (pointer != NONE) {
        struct operand area = data_at(g, 0x4000 + 16 * take(g, 256));
        set_reg(g, (unsigned)pointer, (uint32_t)area.disp);
    }
    int middle = one_in(g, 5) ? (int)jump_on(g, one_in(g, 2) ? ALWAYS : (int)take(g, 16)) : -1;
    unsigned top = g->at;
    g->times *= n;
    g->loops[g->nest].middle = middle;
    g->loops[g->nest].break_count = 0;
    g->loops[g->nest].counter = counter == NONE ? memory : reg((unsigned)counter);
    g->loops[g->nest].count = n;
    g->loops[g->nest].pointer = pointer;
    statements(g, 1 + take(g, 6));
    if (g->loops[g->nest].middle >= 0)
        land(g, (unsigned)g->loops[g->nest].middle);
    if (pointer != NONE) {
        static const int8_t strides[] = {1, 2, 4, 8, 16, 64, 8, -8};
        int stride = strides[take(g, 8)];
        int most = stride < 0 ? 0x1000 : one_in(g, 8) ? 0x7ff0 : 0x6000; /* down to the loops' counters; up into HOLE; to there */
        if (abs(stride) * (int)n > most)
            stride = most / (int)n;
        emit(g, (struct insn){.size = g->word, .opcode = 0x8d, .reg = (unsigned)pointer, .rm = based(pointer, stride)});
    }
    loop_end(g, top, counter, memory);
    for (unsigned i = 0; i < g->loops[g->nest].break_count; i++)
        land(g, g->loops[g->nest].breaks[i]);
    g->times /= n;
    g->nest--;
    g->locked = locked;
}
static void leave_loop(struct gen *g)
{
    if (g->nest && g->loops[g->nest].break_count < 4)
        g->loops[g->nest].breaks[g->loops[g->nest].break_count++] = jump_on(g, (int)take(g, 16));
}

/* --- Calls and returns */
static void call_table(struct gen *g, unsigned a, unsigned b)
{
    unsigned r = dst(g), over, at;
    mask(g, r, 1);
    over = jump_on(g, ALWAYS);
    at = g->at;
    little(g, code_address(g, a), g->word);
    little(g, code_address(g, b), g->word);
    land(g, over);
    emit(g, (struct insn){.opcode = 0xff, .reg = 2, .rm = element(g, at, r)});
}
static void call_function(struct gen *g)
{
    if (!g->function_count || one_in(g, 6)) { /* CALL to read the instruction pointer */
        call(g, g->at + 1 + near_size(g));
        g->depth += g->word;
        pop(g, dst(g));
        return;
    }
    unsigned n = take(g, g->function_count), depth = g->depth, from;
    const struct function *f = &g->functions[n];
    if (g->insns + f->cost * g->times > g->most)
        return;
    g->insns += f->cost * g->times;
    switch (f->kind) {
    case SKIPS:
        call(g, f->at);
        set_reg(g, AX, 0x12345678);
        return;
    case RET_IMM:
        push(g, src(g));
        push(g, src(g));
        call(g, f->at);
        break;
    case DROPS:
        push_imm(g, 0);
        from = g->at - (g->real ? 2 : 4);
        call(g, f->at);
        little_at(g, from, code_address(g, g->at), g->real ? 2 : 4);
        break;
    default:
        switch (take(g, 5)) {
        case 0: case 1: call(g, f->at); break;
        case 2: { unsigned r = dst(g); set_reg(g, r, code_address(g, f->at)); emit(g, (struct insn){.opcode = 0xff, .reg = 2, .rm = reg(r)}); break; }
        case 3: { /* by a jump, with a return address of its own */
            push_imm(g, 0);
            from = g->at - (g->real ? 2 : 4);
            unsigned there = jump_on(g, ALWAYS);
            little_at(g, there, f->at - (there + near_size(g)), near_size(g));
            little_at(g, from, code_address(g, g->at), g->real ? 2 : 4);
            break;
        }
        default: {
            const struct function *other = &g->functions[take(g, g->function_count)];
            if (other->kind != RETURNS || other->cost > f->cost)
                other = f;
            call_table(g, f->at, other->at);
            break;
        }
        }
    }
    g->depth = depth;
}
/* PUSH or POP of a whole register. */
static void save_all(struct gen *g, unsigned opcode)
{
    insn_begin(g);
    if (g->real)
        byte(g, 0x66);
    byte(g, opcode);
    insn_end(g);
}
void function(struct gen *g)
{
    static const uint8_t saved[] = {CX, SI, DI};
    struct function *f = &g->functions[g->function_count];
    f->kind = one_in(g, 2) ? (enum function_kind)take(g, FUNCTION_KINDS) : RETURNS;
    f->at = g->at;
    uint64_t insns = g->insns, most = g->most;
    const uint8_t *end_of_input = g->end;
    if (g->end - g->in > g->share)
        g->end = g->in + g->share;
    g->insns = 0;
    g->most = MOST_IN_FUNCTION;
    g->locked |= 0xf000;
    for (unsigned i = 0; i < sizeof saved; i++)
        save_all(g, 0x50 | saved[i]);
    bool flags = one_in(g, 2);
    move_stack(g, -SCRATCH, flags);
    g->depth = 0;
    statements(g, 1 + take(g, 5));
    move_stack(g, SCRATCH, flags);
    for (unsigned i = sizeof saved; i; i--)
        save_all(g, 0x58 | saved[i - 1]);
    g->depth = 0;
    if (f->kind == SKIPS)
        emit(g, (struct insn){.size = g->real ? 2 : 4, .opcode = 0x83, .rm = based(SP, 0), .imm_size = 1, .imm = g->real ? 6 : 5});
    if (f->kind == DROPS)
        move_stack(g, (int)g->word, flags);
    if (f->kind == RET_IMM) {
        insn_begin(g);
        byte(g, 0xc2);
        little(g, 2 * g->word, 2);
        insn_end(g);
    } else {
        INSN(g, 0xc3);
    }
    g->locked &= ~0xf000u;
    f->cost = g->insns;
    g->end = end_of_input;
    g->insns = insns;
    g->most = most;
    g->function_count++;
}

/* In a loop at one of its rounds. */
static void once_a_loop(struct gen *g, void (*what)(struct gen *))
{
    unsigned over = 0;
    if (g->nest) {
        unsigned n = 1 + take(g, 255) * g->loops[g->nest].count / 256;
        emit(g, (struct insn){.size = 4, .opcode = 0x81, .reg = 7, .rm = g->loops[g->nest].counter, .imm_size = 4, .imm = n});
        over = jump_on(g, CC_NZ);
    }
    uint64_t times = g->times;
    g->times = 1;
    what(g);
    g->times = times;
    if (over)
        land(g, over);
}

/* --- Strings, changed code, faults, mappings, devices */
static void strings(struct gen *g)
{
    static const uint8_t ops[] = {0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad, 0xa6, 0xa7, 0xae, 0xaf}, prefixes[] = {0, 0xf3, 0xf2, 0xf3};
    if (g->locked & (1u << CX | 1u << SI | 1u << DI))
        return;
    unsigned op = ops[take(g, 10)], prefix = prefixes[take(g, 4)], wide = g->wide && one_in(g, 2) ? 0x48 : 0;
    static const uint16_t counts[] = {0, 1, 3, 8, 17, 64, 300};
    unsigned n = counts[take(g, 7)];
    if (g->times * n > 8 * MOST_INSNS)
        n = 3;
    bool down = one_in(g, 4);
    set_reg(g, SI, (uint32_t)data_at(g, (4 + take(g, 8)) * PAGE_SIZE + take(g, 256) * 16 + take(g, 8)).disp);
    set_reg(g, DI, (uint32_t)data_at(g, (4 + take(g, 8)) * PAGE_SIZE + take(g, 256) * 16).disp);
    set_reg(g, CX, n);
    if (down)
        INSN(g, 0xfd);
    insn_begin(g);
    if (op & 1 && !wide && one_in(g, 4))
        byte(g, 0x66);
    if (prefix)
        byte(g, prefix);
    if (wide)
        byte(g, wide);
    byte(g, op);
    insn_end(g);
    if (down)
        INSN(g, 0xfc);
    g->insns += g->times * n / 8;
}
static void change_code(struct gen *g)
{
    unsigned kind = take(g, 4);
    bool alias = one_in(g, 3);
    if (kind == 0) { /* the immediate of the next instruction */
        unsigned r = src(g) & 3, ahead = one_in(g, 2);
        emit(g, (struct insn){.size = ahead ? 1 : 4, .opcode = ahead ? 0x88 : 0x89, .reg = r, .rm = code_at(g, g->at, alias), .byte_reg = ahead});
        uint32_t where = (uint32_t)code_at(g, 0, alias).disp; /* of the code's first byte */
        unsigned distance = g->real ? 2 : 1, field = g->at - near_size(g);
        if (one_in(g, 3))
            INSN(g, 0x90);
        little_at(g, field, where + g->at + distance, near_size(g));
        set_reg(g, AX, take32(g));
    } else if (kind == 1 && g->op_count) { /* another operation */
        struct site s = g->ops[take(g, g->op_count < SITES ? g->op_count : SITES)];
        emit(g, (struct insn){.size = 1, .opcode = 0x80, .reg = 6, .rm = code_at(g, s.at, alias), .imm_size = 1, .imm = (1 + take(g, 6)) << 3 & 0x18});
    } else if (g->imm_count) {
        struct site s = g->imms[take(g, g->imm_count < SITES ? g->imm_count : SITES)];
        struct operand o = code_at(g, s.at, alias);
        if (kind == 2)
            emit(g, (struct insn){.size = s.size == 4 ? 4 : 1, .opcode = s.size == 4 ? 0xff : 0xfe, .rm = o}); /* INC */
        else
            emit(g, (struct insn){.size = s.size, .opcode = s.size == 1 ? 0x88 : 0x89, .reg = src(g) & 3, .rm = o, .byte_reg = s.size == 1});
    }
}
/* Data among code: nothing that runs is changed, but its page is written. */
static void data_in_code(struct gen *g)
{
    unsigned over = jump_on(g, ALWAYS), at = g->at;
    little(g, take32(g), 4);
    land(g, over);
    emit(g, (struct insn){.size = 4, .opcode = take(g, 6) << 3 | 1, .reg = src(g), .rm = code_at(g, at, one_in(g, 3))});
    emit(g, (struct insn){.size = 4, .opcode = 0x03, .reg = dst(g), .rm = code_at(g, at, one_in(g, 3))});
}
static void trap(struct gen *g)
{
    unsigned r = dst(g), kind = take(g, 11);
    switch (kind) {
    case 0:
        set_reg(g, DX, 0);
        set_reg(g, r, 0);
        emit(g, (struct insn){.size = 4, .opcode = 0xf7, .reg = 6 + take(g, 2), .rm = reg(r)});
        break;
    case 1: INSN(g, 0x0f, 0x0b); break;
    case 2: INSN(g, 0xcc); INSN(g, 0x90); break;
    case 3: emit(g, (struct insn){.size = 4, .opcode = take(g, 8) << 3 | 1 | take(g, 2) << 1, .reg = r, .rm = data_at(g, (g->real ? 0xffff : HOLE * PAGE_SIZE + take(g, 256)))}); break;
    case 4: emit(g, (struct insn){.size = 4, .opcode = take(g, 8) << 3 | 1, .reg = r, .rm = data_at(g, (g->real ? 0xfffe : RIGID * PAGE_SIZE + take(g, 256)))}); break;
    case 5: /* half of it on a page that is not there */
        emit(g, (struct insn){.size = 4, .opcode = take(g, 2) ? 0x89 : 0x01, .reg = r, .rm = data_at(g, (g->real ? 0xfffd : HOLE * PAGE_SIZE - 1 - take(g, 3)))});
        break;
    case 6: /* not canonical; anywhere */
        set_reg(g, r, g->wide ? 0x8000123400000000 | take32(g) : take32(g));
        emit(g, (struct insn){.size = 4, .opcode = 0x3b, .reg = src(g), .rm = based((int)r, 0)});
        break;
    case 7: emit(g, (struct insn){.opcode = 0x0f28 | take(g, 2), .reg = take(g, 8), .rm = based(BX, 8)}); break; /* MOVAPS, misaligned */
    case 8:
        if (g->real)
            break;
        store_imm(g, data_at(g, PROGRAM_RECOVER - PROGRAM_DATA), 0);
        unsigned from = g->at - 4;
        set_reg(g, r, g->p->base + PROGRAM_DATA + HOLE * PAGE_SIZE);
        emit(g, (struct insn){.opcode = 0xff, .reg = 4, .rm = reg(r)});
        little_at(g, from, code_address(g, g->at), 4);
        break;
    case 9: if (g->user) INSN(g, 0xf4); else INSN(g, 0x0f, 0xff, 0xc0); break; /* HLT; UD0 */
    default: INSN(g, 0xcd, (uint8_t)(0x20 + take(g, 64))); INSN(g, 0x90); break;
    }
}
static void rare_trap(struct gen *g) { once_a_loop(g, trap); }
/* Some code changes each time, which is slow: most only now and then. */
static void change(struct gen *g) { g->times < 30 || one_in(g, 8) ? change_code(g) : once_a_loop(g, change_code); }
/* The page table's entry of MOVING: another page, or none; INVLPG; what is there now.  In user mode its neighbours. */
static void remap(struct gen *g)
{
    if (g->real || g->user) {
        emit(g, (struct insn){.size = 4, .opcode = 0x8b, .reg = dst(g), .rm = data_at(g, MOVING * PAGE_SIZE - 2)});
        return;
    }
    uint32_t table = PROGRAM_TABLES + (g->wide ? 3u : 1u) * PAGE_SIZE, page = (g->p->base + PROGRAM_DATA) / PAGE_SIZE + MOVING;
    uint32_t change = one_in(g, 4) && g->times < 8 ? 1 : 2 * PAGE_SIZE; /* page 8, as DATA is aligned */
    struct operand there = data_at(g, MOVING * PAGE_SIZE + take(g, 256));
    emit(g, (struct insn){.size = 4, .opcode = 0x81, .reg = 6, .rm = system_at(g, table + page * (g->wide ? 8 : 4)), .imm_size = 4, .imm = change});
    emit(g, (struct insn){.opcode = 0x0f01, .reg = 7, .rm = there});
    emit(g, (struct insn){.size = 4, .opcode = one_in(g, 2) ? 0x89 : 0x01, .reg = src(g), .rm = there});
    emit(g, (struct insn){.size = 4, .opcode = 0x03, .reg = dst(g), .rm = there});
    g->insns += g->times * 8;
}
static void devices(struct gen *g)
{
    switch (take(g, 3)) {
    case 0: INSN(g, 0xe6, 0x80); break; /* OUT: POST code */
    case 1: INSN(g, 0xe4, 0x21); break; /* IN: the interrupt controller's mask */
    default:
        if (!g->real)
            emit(g, (struct insn){.size = 4, .opcode = 0x8b, .reg = dst(g), .rm = system_at(g, PROGRAM_MMIO + 0x30)}); /* its version */
        break;
    }
}
static void statements(struct gen *g, unsigned most)
{
    static const struct { uint8_t weight; void (*make)(struct gen *); } kinds[] = {
        {30, straight}, {14, loop}, {10, branch}, {5, branch_by_table}, {10, call_function}, {10, vectors}, {3, rounding}, {6, x87}, {5, strings},
        {8, change}, {3, data_in_code}, {5, rare_trap}, {3, remap}, {2, devices}, {4, leave_loop}};
    for (; most && !is_over(g); most--) {
        unsigned weight = 0, k = 0;
        for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++)
            weight += kinds[i].weight;
        for (weight = take(g, weight); weight >= kinds[k].weight; k++)
            weight -= kinds[k].weight;
        int nest = g->nest, *middle = &g->loops[nest].middle;
        nest == 0 && one_in(g, 3) ? loop(g) : kinds[k].make(g); /* most time goes by in loops */
        if (nest && *middle >= 0 && one_in(g, 3)) {
            land(g, (unsigned)*middle);
            *middle = -1;
        }
    }
}

/* All of it three times, so that what was compiled meanwhile runs: OUT to 0xe9 is where the machine pauses for that. */
void rounds(struct gen *g)
{
    struct operand counter = based(BX, COUNTERS + 32 * (int)g->function_count);
    store_imm(g, counter, 3);
    unsigned top = g->at;
    g->times = 3;
    statements(g, ~0u);
    INSN(g, 0xe6, 0xe9);
    emit(g, (struct insn){.size = 4, .opcode = 0xff, .reg = 1, .rm = counter});
    jump_back(g, CC_NZ, top);
    g->times = 1;
}
