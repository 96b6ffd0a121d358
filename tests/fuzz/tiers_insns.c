/* Instructions without control flow: integer, SSE and x87. */
#include "tests/fuzz/tiers_gen.h"
#include <string.h>

/* --- Integer instructions */
static void note(struct site *sites, unsigned *count, unsigned at, unsigned size)
{
    sites[*count % SITES] = (struct site){at, (uint8_t)size};
    (*count)++;
}
static void alu(struct gen *g)
{
    unsigned op = take(g, 8), size = size_of(g), to_reg = take(g, 2);
    unsigned r = to_reg ? dst_of(g, size) : src_of(g, size);
    struct operand rm = mem_or_reg(g, size, !to_reg);
    emit(g, (struct insn){.size = size, .opcode = op << 3 | to_reg << 1 | (size != 1), .reg = r, .rm = rm, .byte_reg = size == 1});
    if (!rm.memory)
        note(g->ops, &g->op_count, g->at - 2, 1);
}
static void alu_imm(struct gen *g)
{
    unsigned op = take(g, 8), size = size_of(g);
    bool brief = size != 1 && one_in(g, 2);
    struct operand rm = mem_or_reg(g, size, true);
    unsigned n = brief ? 1 : imm_size(size);
    emit(g, (struct insn){.size = size, .opcode = size == 1 ? 0x80 : brief ? 0x83 : 0x81, .reg = op, .rm = rm, .imm_size = n, .imm = number(g)});
    note(g->imms, &g->imm_count, g->at - n, n);
}
static void move(struct gen *g)
{
    unsigned size = size_of(g);
    struct operand rm;
    switch (take(g, 4)) {
    case 0:
        rm = mem(g, size);
        emit(g, (struct insn){.size = size, .opcode = size == 1 ? 0x88 : 0x89, .reg = src_of(g, size), .rm = rm, .byte_reg = size == 1});
        break;
    case 1:
        rm = mem_or_reg(g, size, false);
        emit(g, (struct insn){.size = size, .opcode = size == 1 ? 0x8a : 0x8b, .reg = dst_of(g, size), .rm = rm, .byte_reg = size == 1});
        break;
    case 2:
        rm = mem_or_reg(g, size, true);
        emit(g, (struct insn){.size = size, .opcode = size == 1 ? 0xc6 : 0xc7, .rm = rm, .imm_size = imm_size(size), .imm = number(g)});
        note(g->imms, &g->imm_count, g->at - imm_size(size), imm_size(size));
        break;
    default:
        set_reg(g, dst(g), number(g));
        note(g->imms, &g->imm_count, g->at - 4, 4);
        break;
    }
}
static void one_operand(struct gen *g) /* INC, DEC, NOT, NEG, MUL, IMUL */
{
    unsigned kind = take(g, 6), size = size_of(g);
    struct operand rm = mem_or_reg(g, size, kind < 4);
    static const uint8_t opcodes[] = {0xff, 0xff, 0xf7, 0xf7, 0xf7, 0xf7}, numbers[] = {0, 1, 2, 3, 4, 5};
    emit(g, (struct insn){.size = size, .opcode = opcodes[kind] - (size == 1), .reg = numbers[kind], .rm = rm});
}
static void shift(struct gen *g)
{
    static const uint8_t kinds[] = {0, 1, 2, 3, 4, 5, 7, 4}, counts[] = {0, 1, 2, 7, 8, 9, 16, 17, 31, 32, 33, 63, 64, 255, 3, 5};
    unsigned kind = kinds[take(g, 8)], size = size_of(g), form = take(g, 3);
    struct operand rm = mem_or_reg(g, size, true);
    emit(g, (struct insn){.size = size, .opcode = (form == 0 ? 0xd1 : form == 1 ? 0xd3 : 0xc1) - (size == 1u), .reg = kind, .rm = rm, .imm_size = form == 2, .imm = counts[take(g, 16)]});
    if (form == 2)
        note(g->imms, &g->imm_count, g->at - 1, 1);
}
static void double_shift(struct gen *g) /* of 16 bits only by counts for which the result is defined */
{
    unsigned size = wide_size(g), right = take(g, 2) << 3;
    bool by_cl = size != 2 && one_in(g, 2);
    struct operand rm = mem_or_reg(g, size, true);
    emit(g, (struct insn){.size = size, .opcode = (by_cl ? 0x0fa5 : 0x0fa4) + right, .reg = src(g), .rm = rm, .imm_size = !by_cl, .imm = take(g, 17)});
}
static void multiply(struct gen *g)
{
    unsigned size = wide_size(g), form = take(g, 3);
    struct operand rm = mem_or_reg(g, size, false);
    unsigned n = form == 0 ? 0 : form == 1 ? 1 : imm_size(size);
    emit(g, (struct insn){.size = size, .opcode = form == 0 ? 0x0faf : form == 1 ? 0x6b : 0x69, .reg = dst(g), .rm = rm, .imm_size = n, .imm = number(g)});
}
static void divide(struct gen *g) /* by an odd number that is not small, of what is not large */
{
    unsigned size = wide_size(g);
    if (g->locked & 1u << CX)
        return;
    emit(g, (struct insn){.size = size, .opcode = 0x83, .reg = 1, .rm = reg(CX), .imm_size = 1, .imm = 0x41});
    if (one_in(g, 2)) {
        set_reg(g, DX, 0);
        emit(g, (struct insn){.size = size, .opcode = 0xf7, .reg = 6, .rm = reg(CX)});
    } else { /* CWD, CDQ, CQO */
        insn_begin(g);
        if (g->real ? size == 4 : size == 2)
            byte(g, 0x66);
        if (size == 8)
            byte(g, 0x48);
        byte(g, 0x99);
        insn_end(g);
        emit(g, (struct insn){.size = size, .opcode = 0xf7, .reg = 7, .rm = reg(CX)});
    }
}
static void extend(struct gen *g)
{
    static const uint32_t opcodes[] = {0x0fb6, 0x0fb7, 0x0fbe, 0x0fbf};
    unsigned k = take(g, 4), size = wide_size(g), from = k & 1 ? 2 : 1;
    if (g->wide && one_in(g, 4)) {
        struct operand rm = mem_or_reg(g, 4, false);
        emit(g, (struct insn){.size = 8, .opcode = 0x63, .reg = dst(g), .rm = rm});
        return;
    }
    struct operand rm = from == 1 ? one_in(g, 2) ? mem(g, 1) : reg(src(g) & (g->wide ? 15 : 3)) : mem_or_reg(g, 2, false);
    emit(g, (struct insn){.size = size, .opcode = opcodes[k], .reg = dst(g), .rm = rm});
}
static void conditional(struct gen *g) /* CMOVcc, SETcc */
{
    if (one_in(g, 3)) {
        emit(g, (struct insn){.size = 1, .opcode = 0x0f90 | take(g, 16), .rm = mem_or_reg(g, 1, true)});
        return;
    }
    unsigned size = wide_size(g);
    struct operand rm = mem_or_reg(g, size, false);
    emit(g, (struct insn){.size = size, .opcode = 0x0f40 | take(g, 16), .reg = dst(g), .rm = rm});
}
static void bits(struct gen *g)
{
    unsigned size = wide_size(g), kind = take(g, 12);
    static const uint8_t scans[] = {0xbc, 0xbd, 0xbc, 0xbd, 0xb8};
    if (kind < 4) { /* BT, BTS, BTR, BTC by an immediate */
        struct operand rm = mem_or_reg(g, size, true);
        emit(g, (struct insn){.size = size, .opcode = 0x0fba, .reg = 4 + kind, .rm = rm, .imm_size = 1, .imm = take(g, 70)});
    } else if (kind < 7) { /* by a register, of a register */
        emit(g, (struct insn){.size = size, .opcode = 0x0fa3 | (kind - 4) << 3, .reg = src(g), .rm = reg(dst(g))});
    } else { /* BSF, BSR, TZCNT, LZCNT, POPCNT */
        struct operand rm = mem_or_reg(g, size, false);
        emit(g, (struct insn){.size = size, .prefix = kind > 8 ? 0xf3 : 0, .opcode = 0x0f00u | scans[kind - 7], .reg = dst(g), .rm = rm});
    }
}
static void exchange(struct gen *g)
{
    unsigned size = size_of(g), kind = take(g, 4), byte_op = size == 1;
    static const uint32_t opcodes[] = {0x87, 0x0fc1, 0x0fb1};
    if (kind == 3) { /* CMPXCHG8B, 16B, aligned */
        size = g->wide && one_in(g, 2) ? 8 : g->real ? 2 : 4;
        emit(g, (struct insn){.size = size, .prefix = one_in(g, 2) ? 0xf0 : 0, .opcode = 0x0fc7, .reg = 1, .rm = based(BX, 16 * (int32_t)take(g, 8))});
        return;
    }
    struct operand rm = mem_or_reg(g, size, true);
    emit(g, (struct insn){.size = size, .prefix = rm.memory && one_in(g, 2) ? 0xf0 : 0, .opcode = opcodes[kind] - byte_op, .reg = kind == 2 ? src_of(g, size) : dst_of(g, size), .rm = rm, .byte_reg = size == 1});
}
static void address(struct gen *g)
{
    unsigned r = dst(g), base = src(g), index = src(g);
    struct operand o = {.memory = true, .reg = (int8_t)base, .index = (int8_t)(index == SP ? NONE : (int)index), .scale = (uint8_t)take(g, 4), .disp = (int32_t)number(g)};
    emit(g, (struct insn){.size = wide_size(g), .opcode = 0x8d, .reg = r, .rm = o});
}
static void locked_alu(struct gen *g) /* LOCK ADD.. XOR, INC, DEC, NOT, NEG */
{
    static const uint8_t ops[] = {0, 1, 2, 3, 4, 5, 6};
    unsigned size = size_of(g);
    struct operand rm = mem(g, size);
    if (one_in(g, 3))
        emit(g, (struct insn){.size = size, .prefix = 0xf0, .opcode = 0xff - (size == 1), .reg = take(g, 2), .rm = rm});
    else
        emit(g, (struct insn){.size = size, .prefix = 0xf0, .opcode = (uint32_t)ops[take(g, 7)] << 3 | (size != 1), .reg = src_of(g, size), .rm = rm, .byte_reg = size == 1});
}
static void swap_bytes(struct gen *g, unsigned r)
{
    insn_begin(g);
    if (g->real || r >= 8)
        byte(g, r >= 8 ? 0x49 : 0x66);
    byte(g, 0x0f);
    byte(g, 0xc8 | (r & 7));
    insn_end(g);
}
static void flag_bits(struct gen *g) /* CLC, STC, CMC, LAHF less AF, SAHF, CBW.., BSWAP, XLAT, BCD */
{
    switch (take(g, 10)) {
    case 0: INSN(g, 0xf8); break;
    case 1: INSN(g, 0xf9); break;
    case 2: INSN(g, 0xf5); break;
    case 3: INSN(g, 0x9f); INSN(g, 0x80, 0xe4, 0xef); break; /* AF may be undefined */
    case 4: INSN(g, 0x9e); break;
    case 5: INSN(g, 0x98); break;
    case 6: INSN(g, 0x99); break;
    case 7: swap_bytes(g, dst(g)); break;
    case 8: INSN(g, 0xd7); break;
    default:
        if (g->wide)
            break;
        INSN(g, 0x04, (uint8_t)take(g, 256));
        static const uint8_t bcd[] = {0x27, 0x2f, 0x37, 0x3f};
        if (one_in(g, 3))
            INSN(g, (uint8_t)(0xd4 | take(g, 2)), (uint8_t)(1 + take(g, 255)));
        else
            INSN(g, bcd[take(g, 4)]);
        break;
    }
}
static void stack(struct gen *g) /* pushes and pops, flags among them (AF may be undefined) */
{
    unsigned n = 1 + take(g, 3);
    if (one_in(g, 3)) {
        INSN(g, 0x9c);
        g->depth += g->word;
        emit(g, (struct insn){.size = 4, .opcode = 0x81, .reg = 4, .rm = based(SP, 0), .imm_size = 4, .imm = ~0x10u});
        if (one_in(g, 2)) {
            emit(g, (struct insn){.size = 4, .opcode = 0x81, .reg = 6, .rm = based(SP, 0), .imm_size = 4, .imm = take(g, 256) & 0xc5});
            INSN(g, 0x9d);
            g->depth -= g->word;
        } else {
            pop(g, dst(g));
        }
        return;
    }
    for (unsigned i = 0; i < n; i++)
        one_in(g, 4) ? push_imm(g, take32(g)) : push(g, src(g));
    if (one_in(g, 3)) {
        unsigned r = dst(g);
        emit(g, (struct insn){.size = 4, .opcode = one_in(g, 2) ? 0x01 : 0x8b, .reg = r, .rm = based(SP, (int32_t)take(g, n * g->word - 3 > 4 ? 4 : 1))});
    }
    for (unsigned i = 0; i < n; i++)
        pop(g, dst(g));
}
static void carry_chain(struct gen *g)
{
    unsigned size = size_of(g);
    for (unsigned i = 2 + take(g, 3); i; i--) {
        struct operand rm = mem_or_reg(g, size, true);
        emit(g, (struct insn){.size = size, .opcode = (one_in(g, 2) ? 0x10 : 0x18) | (size != 1), .reg = src_of(g, size), .rm = rm, .byte_reg = size == 1});
        if (one_in(g, 3))
            emit(g, (struct insn){.size = 4, .opcode = 0xff, .reg = take(g, 2), .rm = reg(dst(g))}); /* INC, DEC keep it */
    }
}
void integer(struct gen *g)
{
    static void (*const kinds[])(struct gen *) = {alu, alu, alu, alu_imm, alu_imm, move, move, move, one_operand, one_operand, shift, shift, double_shift, multiply,
        divide, extend, conditional, conditional, bits, exchange, address, locked_alu, flag_bits, stack, carry_chain};
    kinds[take(g, sizeof kinds / sizeof *kinds)](g);
}

/* --- SSE and x87 */
static void sse(struct gen *g)
{
    static const uint8_t prefixes[] = {0, 0x66, 0xf2, 0xf3};
    static const uint8_t fp[] = {0x58, 0x59, 0x5c, 0x5d, 0x5e, 0x5f, 0x51, 0x54, 0x55, 0x56, 0x57, 0x14, 0x15, 0x10, 0x11, 0x28, 0x2e, 0x2f, 0x5a, 0x5b, 0x58, 0x59, 0x5c, 0x5e};
    static const uint8_t integers[] = {0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6f, 0x7f, 0x74, 0x75, 0x76, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd8, 0xd9,
        0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xe0, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe8, 0xe9, 0xea, 0xeb, 0xec, 0xed, 0xee, 0xef, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe};
    static const uint8_t of38[] = {0x00, 0x01, 0x02, 0x03, 0x04, 0x08, 0x09, 0x0a, 0x0b, 0x10, 0x14, 0x15, 0x17, 0x1c, 0x1d, 0x1e, 0x20, 0x22, 0x25, 0x28, 0x29, 0x2b, 0x30, 0x33, 0x35, 0x37, 0x38, 0x3a, 0x3d, 0x3f, 0x40, 0x41, 0xdc, 0xde};
    static const uint8_t of3a[] = {0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x40, 0x41, 0x42};
    unsigned x = take(g, g->wide ? 16 : 8), y = take(g, g->wide ? 16 : 8), kind = take(g, 12);
    struct operand rm = one_in(g, 3) ? mem(g, 16) : reg(y);
    if (rm.memory && rm.index == NONE && !one_in(g, 3))
        rm.disp &= ~15;
    struct insn i = {.prefix = 0x66, .reg = x, .rm = rm};
    switch (kind) {
    case 0: case 1: case 2: case 3: i.opcode = 0x0f00u | fp[take(g, sizeof fp)]; i.prefix = prefixes[take(g, 4)]; break;
    case 4: case 5: i.opcode = 0x0f00u | integers[take(g, sizeof integers)]; i.prefix = one_in(g, 8) ? 0 : 0x66; break;
    case 6: i.opcode = 0x0f3800u | of38[take(g, sizeof of38)]; break;
    case 7: i.opcode = 0x0f3a00u | of3a[take(g, sizeof of3a)]; i.imm_size = 1; i.imm = take(g, 256); break;
    case 8: { /* CMPxx, SHUFxx, PSHUFx */
        static const uint8_t opcodes[] = {0xc2, 0xc6, 0x70};
        unsigned k = take(g, 3);
        i.opcode = 0x0f00u | opcodes[k];
        i.prefix = k == 1 ? one_in(g, 2) ? 0x66 : 0 : prefixes[k == 2 ? 1 + take(g, 3) : take(g, 4)];
        i.imm_size = 1;
        i.imm = take(g, 256);
        break;
    }
    case 9: /* CVTSI2xx, MOVD to it, PINSRW */
        i.rm = mem_or_reg(g, 4, false);
        i.size = g->wide && one_in(g, 2) ? 8 : 0;
        i.opcode = one_in(g, 2) ? 0x0f2a : 0x0f6e;
        i.prefix = i.opcode == 0x0f2a ? one_in(g, 2) ? 0xf2 : 0xf3 : 0x66;
        break;
    case 10: /* CVTxx2SI, MOVD from it, MOVMSKPx, PMOVMSKB */
        switch (take(g, 4)) {
        case 0: i.opcode = 0x0f2c | take(g, 2); i.reg = dst(g); i.prefix = one_in(g, 2) ? 0xf2 : 0xf3; i.size = g->wide && one_in(g, 2) ? 8 : 0; break;
        case 1: i.opcode = 0x0f7e; i.rm = reg(dst(g)); i.size = g->wide && one_in(g, 2) ? 8 : 0; break;
        case 2: i.opcode = 0x0f50; i.reg = dst(g); i.rm = reg(y); i.prefix = one_in(g, 2) ? 0x66 : 0; break;
        default: i.opcode = 0x0fd7; i.reg = dst(g); i.rm = reg(y); break;
        }
        break;
    default: { /* shifts by an immediate; moves of halves */
        if (one_in(g, 2)) {
            static const uint8_t opcodes[] = {0x71, 0x72, 0x73}, ways[] = {2, 4, 6, 3, 7};
            unsigned k = take(g, 3), way = ways[take(g, 5)];
            if ((way & 1 && k != 2) || (way == 4 && k == 2))
                way = 2;
            i = (struct insn){.prefix = 0x66, .opcode = 0x0f00u | opcodes[k], .reg = way, .rm = reg(y), .imm_size = 1, .imm = take(g, 80)};
        } else {
            static const uint8_t halves[] = {0x12, 0x13, 0x16, 0x17};
            i.opcode = 0x0f00u | halves[take(g, 4)];
            i.prefix = one_in(g, 2) ? 0x66 : 0;
            if (!i.rm.memory && i.prefix)
                i.rm = based(BX, 16);
            if (!i.rm.memory && i.opcode & 1)
                i.opcode &= ~1u;
        }
        break;
    }
    }
    emit(g, i);
}
void vectors(struct gen *g)
{
    for (unsigned i = 1 + take(g, 6); i; i--)
        sse(g);
    if (one_in(g, 2)) /* a condition from it */
        conditional(g);
}
void rounding(struct gen *g)
{
    uint32_t mxcsr = 0x1f80 | take(g, 4) << 13 | (one_in(g, 4) ? 0x8000 : 0) | (one_in(g, 4) ? 0x40 : 0);
    if (one_in(g, 12))
        mxcsr &= ~(0x80u << take(g, 6)); /* the next such result traps */
    struct operand o = based(BX, 4 * (int32_t)take(g, 16));
    store_imm(g, o, mxcsr);
    emit(g, (struct insn){.opcode = 0x0fae, .reg = 2, .rm = o});
    for (unsigned i = take(g, 3); i; i--)
        sse(g);
    emit(g, (struct insn){.opcode = 0x0fae, .reg = 3, .rm = o});
    emit(g, (struct insn){.size = 4, .opcode = 0x03, .reg = dst(g), .rm = o});
    if (one_in(g, 2)) {
        store_imm(g, o, 0x1f80);
        emit(g, (struct insn){.opcode = 0x0fae, .reg = 2, .rm = o});
    }
}
void x87(struct gen *g)
{
    static const struct { uint8_t opcode, reg; } memory[] = {{0xd9, 0}, {0xdd, 0}, {0xdb, 0}, {0xdf, 5}, {0xdf, 0}, {0xdb, 5}, {0xd8, 0}, {0xdc, 1}, {0xdc, 4}, {0xd8, 6}, {0xda, 0}, {0xde, 1},
        {0xd9, 3}, {0xdd, 3}, {0xdb, 3}, {0xdf, 7}, {0xdb, 7}, {0xd9, 2}, {0xdd, 1}, {0xd8, 3}};
    static const uint16_t registers[] = {0xd8c0, 0xd8c8, 0xdcc1, 0xdec1, 0xdee9, 0xdef1, 0xd9c9, 0xd9ca, 0xd9c0, 0xd9c1, 0xddd9, 0xddd1, 0xd8d1, 0xdbe9, 0xdfe9, 0xdbf1, 0xdfe0, 0xd9e0, 0xd9e1, 0xd9e8,
        0xd9eb, 0xd9ee, 0xd9fa, 0xd9fc, 0xd9fd, 0xd9f4, 0xd9e5, 0xd9e4, 0xdac1, 0xdbc9, 0xdad1, 0xdbd9, 0xded9, 0xd9f6, 0xd9f7, 0xddc1, 0xd9d0, 0xd9f8};
    if (one_in(g, 6))
        INSN(g, 0xdb, 0xe3);
    for (unsigned i = 1 + take(g, 8); i; i--) {
        unsigned k = take(g, 4);
        if (k == 0) {
            unsigned m = take(g, sizeof memory / sizeof *memory);
            struct operand rm = mem(g, 10);
            emit(g, (struct insn){.opcode = memory[m].opcode, .reg = memory[m].reg, .rm = rm});
        } else if (k == 1 && one_in(g, 4)) { /* FLDCW: precision and rounding */
            struct operand o = based(BX, 4 * (int32_t)take(g, 16));
            store_imm(g, o, 0x7fu | take(g, 4) << 8 | take(g, 4) << 10);
            emit(g, (struct insn){.opcode = 0xd9, .reg = 5, .rm = o});
        } else {
            uint16_t r = registers[take(g, sizeof registers / sizeof *registers)];
            INSN(g, (uint8_t)(r >> 8), (uint8_t)r);
        }
    }
    if (one_in(g, 3))
        conditional(g);
}
