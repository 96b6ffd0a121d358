/* reloc.c - what moves with code that is loaded elsewhere.  A kernel's addresses of itself are sign-extended 32-bit fields of its instructions, which KASLR
 * changes by as much as it moves the kernel; its tables of relocations are not there at run time, but the fields are known by what they hold.
 * One rule for all who ask, from the instruction's bytes and its PC alone; what it takes for a relocation wrongly is right all the same where
 * bytes are compared after they were relocated, and only not found. */
#include "frontend/internal.h"

/* An address in the image, as seen from the instruction: Linux's kernels take up to 60 MiB, with data.  Distances of per-CPU data to the PC
 * (MOV GS:disp(%rip)) lead to addresses from 0 on, whatever the PC is. */
#define NEAR (64ll << 20)
#define PER_CPU (16ull << 20)
enum { LONGEST = 15, PAGE = 4096, GIB = 1 << 30 };

static uint64_t load(const uint8_t *at, unsigned size)
{
    uint64_t v = 0;
    for (unsigned n = 0; n < size; n++)
        v |= (uint64_t)at[n] << 8 * n;
    return size == 4 ? (uint64_t)(int64_t)(int32_t)v : v;
}

static void store(uint8_t *at, unsigned size, uint64_t v)
{
    for (unsigned n = 0; n < size; n++)
        at[n] = (uint8_t)(v >> 8 * n);
}

/* Where regions of the address space begin or end (Linux: the kernel's own mapping, modules) are constants, which addresses are compared with. */
static bool is_limit(uint64_t value) { return ((value + PAGE) & (GIB - 1)) < 2 * PAGE; }

static bool is_near(uint64_t value, uint64_t pc)
{
    int64_t distance = (int64_t)(value - pc);
    return distance > -NEAR && distance < NEAR && !is_limit(value);
}

/* --- What a field could be, whatever it holds */
static const ZydisDecodedOperand *operand_with_displacement(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *op)
{
    for (unsigned n = 0; n < in->operand_count_visible; n++)
        if (op[n].type == ZYDIS_OPERAND_TYPE_MEMORY && op[n].mem.disp.has_displacement)
            return &op[n];
    return NULL;
}

enum x86_reloc_kind reloc_of_displacement(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *op)
{
    const ZydisDecodedOperand *memory = in->address_width == 64 && in->raw.disp.size >= 32 ? operand_with_displacement(in, op) : NULL;
    if (!memory || memory->mem.base == ZYDIS_REGISTER_EIP)
        return X86_RELOC_NONE;
    if (memory->mem.base == ZYDIS_REGISTER_RIP)
        return X86_RELOC_PC32;
    return in->raw.disp.size == 32 ? X86_RELOC_32S : X86_RELOC_64;
}

enum x86_reloc_kind reloc_of_immediate(const ZydisDecodedInstruction *in)
{
    if (in->operand_width != 64 || in->raw.imm[0].is_relative || in->raw.imm[1].size)
        return X86_RELOC_NONE;
    return in->raw.imm[0].size == 64 ? X86_RELOC_64 : in->raw.imm[0].size == 32 && in->raw.imm[0].is_signed ? X86_RELOC_32S : X86_RELOC_NONE;
}

/* --- The rule */
static bool displacement_moves(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *op, enum x86_reloc_kind kind, uint64_t pc)
{
    const ZydisDecodedOperandMem *m = &operand_with_displacement(in, op)->mem;
    if (kind != X86_RELOC_PC32)
        return is_near((uint64_t)m->disp.value, pc);
    return (m->segment == ZYDIS_REGISTER_GS || m->segment == ZYDIS_REGISTER_FS) && pc + in->length + (uint64_t)m->disp.value < PER_CPU;
}

void reloc_rule(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *op, uint64_t pc, struct insn_relocs *r)
{
    *r = (struct insn_relocs){X86_RELOC_NONE, X86_RELOC_NONE};
    if (!(pc >> 63) || in->machine_mode != ZYDIS_MACHINE_MODE_LONG_64)
        return;
    enum x86_reloc_kind displacement = reloc_of_displacement(in, op), immediate = reloc_of_immediate(in);
    if (displacement != X86_RELOC_NONE && displacement_moves(in, op, displacement, pc))
        r->displacement = displacement;
    if (immediate != X86_RELOC_NONE && is_near(immediate == X86_RELOC_32S ? (uint64_t)(int64_t)(int32_t)in->raw.imm[0].value.u : in->raw.imm[0].value.u, pc))
        r->immediate = immediate;
}

/* --- Of a whole block */
static bool may_have_some(uint64_t pc, const uint8_t *bytes, unsigned size)
{
    uint32_t low = (uint32_t)pc, slack = size + LONGEST;
    for (unsigned n = 0; n + 4 <= size; n++) {
        uint32_t v = (uint32_t)load(bytes + n, 4);
        if (v - low + (uint32_t)NEAR < 2 * (uint32_t)NEAR + slack || v + low + slack < PER_CPU + slack)
            return true;
    }
    return false;
}

static unsigned add(struct x86_reloc *to, unsigned count, unsigned room, unsigned at, enum x86_reloc_kind kind)
{
    if (kind == X86_RELOC_NONE || count == room)
        return count;
    to[count] = (struct x86_reloc){{(uint8_t)at, (uint8_t)(at >> 8)}, (uint8_t)kind};
    return count + 1;
}

unsigned x86_relocs_find(uint32_t mode, uint64_t pc, const uint8_t *bytes, unsigned size, struct x86_reloc *to, unsigned room)
{
    ZydisDecoder decoder;
    ZydisDecoderContext context;
    ZydisDecodedInstruction in;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    struct insn_relocs r;
    unsigned count = 0;
    if ((mode & X86_MODE_CODE) != X86_MODE_CODE64 || !(pc >> 63) || !may_have_some(pc, bytes, size))
        return 0;
    lift_decoder_init(&decoder, NULL, mode);
    for (unsigned at = 0; at < size && ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, &context, bytes + at, size - at, &in)); at += in.length) {
        bool wide = in.raw.disp.size >= 32 || in.raw.imm[0].size >= 32;
        if (!wide || !ZYAN_SUCCESS(ZydisDecoderDecodeOperands(&decoder, &context, &in, op, in.operand_count)))
            continue;
        reloc_rule(&in, op, pc + at, &r);
        count = add(to, count, room, at + in.raw.disp.offset, r.displacement); /* in front of the immediate: SDM 2A 2.1 */
        count = add(to, count, room, at + in.raw.imm[0].offset, r.immediate);
    }
    return count;
}

static uint64_t moved(const uint8_t *bytes, const struct x86_reloc *r, uint64_t by)
{
    uint64_t v = load(bytes + x86_reloc_at(r), x86_reloc_size(r));
    return r->kind == X86_RELOC_PC32 ? v - by : v + by;
}

bool x86_relocate(uint8_t *bytes, const struct x86_reloc *relocs, unsigned count, uint64_t from, uint64_t to)
{
    bool fit = true;
    for (unsigned n = 0; n < count; n++) {
        uint64_t v = moved(bytes, &relocs[n], to - from);
        fit &= relocs[n].kind == X86_RELOC_64 || v == (uint64_t)(int64_t)(int32_t)v;
    }
    for (unsigned n = 0; n < count && fit; n++)
        store(bytes + x86_reloc_at(&relocs[n]), x86_reloc_size(&relocs[n]), moved(bytes, &relocs[n], to - from));
    return fit;
}
