/* lift.c - from guest bytes to an IR block: fetches page by page, decodes with Zydis, finds the row of each
 * instruction and calls its lifter.  Assumes nothing of the bytes: all that is not covered becomes #UD. */
#include "frontend/internal.h"
#include <stdatomic.h>
#include <string.h>

enum { LONGEST = 15, PAGE = 4096, CHUNK = 128 };

struct row { void (*lift)(struct lifter *, int); int variant; uint16_t feature; const char *notes; };
static const struct row rows[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
#define INSN(mnemonic, lifter, variant, feature, notes) \
    [ZYDIS_MNEMONIC_##mnemonic] = {lift_##lifter, variant, X86_FEATURE_##feature, notes},
#include "frontend/x86.def"
};

/* Counted when lifted, not when run: a block that raises #UD is seldom hot.  The one mutable global: the list
 * is of the translator's gaps, whichever machine met them. */
static _Atomic uint32_t lacked[ZYDIS_MNEMONIC_MAX_VALUE + 1];

void x86_lacked(void (*each)(void *ctx, const char *name, uint32_t count), void *ctx)
{
    for (unsigned i = 0; i <= ZYDIS_MNEMONIC_MAX_VALUE; i++) {
        uint32_t count = atomic_load(&lacked[i]);
        if (count)
            each(ctx, i ? ZydisMnemonicGetString(i) : "(undecodable)", count);
    }
}

void lift_lacked(struct lifter *l)
{
    atomic_fetch_add(&lacked[l->in.mnemonic], 1);
    lift_ud(l);
}

struct bytes {
    uint8_t at[PAGE + LONGEST + 1];
    unsigned have;
    uint64_t linear, wrap;
    const struct x86_fetch *fetch;
};

/* Gets at least `want` bytes where the guest lets it; false: a fault is pending. */
static bool bytes_fill(struct bytes *f, unsigned want)
{
    while (f->have < want) {
        uint64_t at = (f->linear + f->have) & f->wrap;
        unsigned rest = PAGE - (at & (PAGE - 1));
        unsigned got = f->fetch->bytes(f->fetch->ctx, at, want - f->have < rest ? want - f->have : rest, f->at + f->have);
        if (!got)
            return false;
        f->have += got;
    }
    return true;
}

void lift_decoder_init(ZydisDecoder *d, const struct x86_model *model, uint32_t mode)
{
    static const ZydisMachineMode machine[] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_MACHINE_MODE_LONG_64};
    unsigned code = mode >> 2 & 3;
    if (code > 2)
        code = 2;
    ZydisStackWidth stack = code == 2 ? ZYDIS_STACK_WIDTH_64 : mode & X86_MODE_SS32 ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_16;
    ZydisMachineMode m = machine[code];
    /* Real mode too is LEGACY_16: what it lacks is the lifters' to say, since not all of it is #UD (SYSENTER: #GP). */
    /* Zydis ties the stack width to the machine mode; ours is in lifter.stack_bits. */
    if (!ZYAN_SUCCESS(ZydisDecoderInit(d, m, stack)))
        ZydisDecoderInit(d, m, code == 2 ? ZYDIS_STACK_WIDTH_64 : code ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_16);
    /* F3 0F BC and BD are BSF and BSR on a CPU without these. */
    ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_TZCNT, !model || x86_model_has(model, X86_FEATURE_BMI1));
    ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_LZCNT, !model || x86_model_has(model, X86_FEATURE_LZCNT));
    /* What these modes cover is NOP (or the plain form) on a CPU that lacks the feature. */
    ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
    ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
    ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
    ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_FALSE);
}

/* Of the instruction's first byte. */
static ir_ref this_linear(struct lifter *l)
{
    ir_ref pc = lift_this_pc(l);
    if (l->code_bits == 64)
        return pc;
    ir_ref base = lift_slot_get(l, IR_I64, SLOT(seg_base) + 8 * X86_CS);
    return ir_op1(l->b, IR_zext, IR_I64, ir_op1(l->b, IR_trunc, IR_I32, ir_op2(l->b, IR_add, IR_I64, base, pc)));
}

static void begin(struct lifter *l, unsigned length)
{
    l->length = length;
    for (unsigned i = 0; i < ZYDIS_MAX_OPERAND_COUNT; i++) {
        l->token[i] = IR_NONE;
        l->writable[i] = false;
    }
    ir_emit(l->b, IR_insn, IR_VOID, length, l->offset, IR_NONE, IR_NONE, IR_NONE, IR_NONE);
    l->b->guest_insns++;
    if (l->mode & X86_MODE_DEBUG)
        lift_call(l, IR_VOID, X86_HELPER_debug_insn, this_linear(l), IR_NONE, IR_NONE, IR_NONE);
    /* A code segment with a limit of its own: the bytes of each instruction are held against it. */
    bool flat = l->code_bits == 64 || l->mode >> X86_MODE_FLAT_SHIFT >> X86_CS & 1;
    if (!flat)
        lift_call(l, IR_VOID, X86_HELPER_fetch_check, lift_this_pc(l), lift_const(l, IR_I64, length), IR_NONE, IR_NONE);
}

static bool is_string_twin(const struct lifter *l)
{
    return (l->in.mnemonic == ZYDIS_MNEMONIC_MOVSD || l->in.mnemonic == ZYDIS_MNEMONIC_CMPSD) &&
           l->in.meta.category == ZYDIS_CATEGORY_STRINGOP;
}

static void lift_decoded(struct lifter *l)
{
    const struct row *row = &rows[l->in.mnemonic];
    begin(l, l->in.length);
    l->operand_bits = l->in.operand_width;
    l->address_bits = l->in.address_width;
    l->lock = l->in.attributes & ZYDIS_ATTRIB_HAS_LOCK;
    if (is_string_twin(l)) {
        if (l->lock)
            lift_ud(l);
        else
            lift_string_twin(l, l->in.mnemonic == ZYDIS_MNEMONIC_MOVSD);
        return;
    }
    /* Knights Corner's VEX forms of TZCNT, LZCNT, POPCNT are no instructions of any CPU here, but Zydis knows them. */
    bool knights = l->in.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY && l->in.meta.isa_ext == ZYDIS_ISA_EXT_KNC;
    if (!row->lift || knights || !x86_model_has(l->model, row->feature)) {
        lift_lacked(l);
        return;
    }
    if (l->lock && (!strchr(row->notes, 'L') || !lift_is_mem(l, 0))) {
        lift_ud(l);
        return;
    }
    if (strchr(row->notes, 'K') && lift_cpl(l)) {
        lift_raise(l, X86_GP, true, 0);
        return;
    }
    row->lift(l, row->variant);
}

static ZyanStatus decode(struct lifter *l, const ZydisDecoder *decoder, const struct bytes *f, unsigned size)
{
    if (f->fetch->decoding)
        f->fetch->decoding(f->fetch->ctx, true);
    ZyanStatus status = ZydisDecoderDecodeFull(decoder, f->at + l->offset, size, &l->in, l->op);
    if (f->fetch->decoding)
        f->fetch->decoding(f->fetch->ctx, false);
    return status;
}

/* With counting: the time that it sees is that of its own block. */
static bool sees_time(const struct lifter *l) { return l->counted && strchr(rows[l->in.mnemonic].notes ? rows[l->in.mnemonic].notes : "", 'T'); }

/* --- Which of the instruction's fields move */
static bool reloc_is(const struct x86_reloc *r, const struct lifter *l, unsigned offset, enum x86_reloc_kind kind)
{
    return r->kind == kind && kind != X86_RELOC_NONE && x86_reloc_at(r) == l->offset + offset;
}

/* False: there is one where no field is. */
static bool relocs_of_list(struct lifter *l, const struct x86_reloc *relocs, unsigned count)
{
    enum x86_reloc_kind displacement = reloc_of_displacement(&l->in, l->op), immediate = reloc_of_immediate(&l->in);
    for (; l->relocs_done < count && x86_reloc_at(&relocs[l->relocs_done]) < l->offset + l->in.length; l->relocs_done++) {
        const struct x86_reloc *r = &relocs[l->relocs_done];
        if (reloc_is(r, l, l->in.raw.disp.offset, displacement))
            l->relocs.displacement = displacement;
        else if (reloc_is(r, l, l->in.raw.imm[0].offset, immediate))
            l->relocs.immediate = immediate;
        else
            return false;
    }
    return true;
}

static bool relocs_of_insn(struct lifter *l, const struct x86_lift_limits *limits)
{
    if (limits->relocate) {
        reloc_rule(&l->in, l->op, l->pc + l->offset, &l->relocs);
        return true;
    }
    l->relocs = (struct insn_relocs){X86_RELOC_NONE, X86_RELOC_NONE};
    return !limits->reloc_count || relocs_of_list(l, limits->relocs, limits->reloc_count);
}

enum step { STEP_OK, STEP_STOP /* not the block's any more */, STEP_FAULT };

/* Lifts the instruction at l->offset. page: bytes of the block's first page. */
static enum step lift_one(struct lifter *l, const ZydisDecoder *decoder, const struct x86_lift_limits *limits, struct bytes *f, unsigned page)
{
    unsigned end = l->offset + LONGEST < page ? l->offset + LONGEST : page;
    if (f->have < end && !bytes_fill(f, l->offset + CHUNK < page && !(l->mode & (X86_MODE_TF | X86_MODE_SHADOW | X86_MODE_DEBUG)) ? l->offset + CHUNK : end))
        return l->offset ? STEP_STOP : STEP_FAULT;
    unsigned size = end - l->offset;
    ZyanStatus status = decode(l, decoder, f, size);
    if (status == ZYDIS_STATUS_NO_MORE_DATA && size < LONGEST) {
        if (l->offset)
            return STEP_STOP;
        /* As few bytes of the second page as it takes: those after the instruction may not be fetched. */
        while (status == ZYDIS_STATUS_NO_MORE_DATA && size < LONGEST) {
            if (!bytes_fill(f, ++size))
                return STEP_FAULT;
            status = decode(l, decoder, f, size);
        }
    }
    if (ZYAN_SUCCESS(status)) {
        if (l->offset && sees_time(l))
            return STEP_STOP;
        if (!relocs_of_insn(l, limits))
            return STEP_FAULT;
        l->b->guest_bytes = l->offset + l->in.length;
        lift_decoded(l);
        return STEP_OK;
    }
    l->b->guest_bytes = l->offset + size;
    begin(l, 1);
    if (status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG || status == ZYDIS_STATUS_NO_MORE_DATA) {
        lift_raise(l, X86_GP, true, 0); /* over 15 bytes: SDM 3A 6.15, #GP */
    } else {
        atomic_fetch_add(&lacked[0], 1);
        lift_ud(l);
    }
    return STEP_OK;
}

/* 16-bit code in a 64 KiB segment: IP wraps.  With a larger limit EIP counts on. */
unsigned x86_pc_bits(uint32_t mode)
{
    bool cs_flat = mode >> X86_MODE_FLAT_SHIFT >> X86_CS & 1;
    uint32_t code = mode & X86_MODE_CODE;
    return code == X86_MODE_CODE16 ? (cs_flat ? 16 : 32) : code == X86_MODE_CODE32 ? 32 : 64;
}

static void lifter_init(struct lifter *l, const struct x86_model *model, uint32_t mode, uint64_t pc, uint64_t linear, struct ir_block *b)
{
    *l = (struct lifter){.b = b, .model = model, .mode = mode, .pc = pc, .linear = linear, .flags = IR_NONE};
    l->code_bits = (mode & X86_MODE_CODE) == X86_MODE_CODE16 ? 16 : (mode & X86_MODE_CODE) == X86_MODE_CODE32 ? 32 : 64;
    l->stack_bits = l->code_bits == 64 ? 64 : mode & X86_MODE_SS32 ? 32 : 16;
    b->pc_bits = (uint8_t)x86_pc_bits(mode);
}

bool x86_lift(const struct x86_model *model, uint32_t mode, uint64_t pc, uint64_t linear, const struct x86_fetch *fetch,
              const struct x86_lift_limits *limits, struct ir_block *b)
{
    ZydisDecoder decoder;
    struct lifter l;
    struct bytes f = {.linear = linear, .fetch = fetch};
    unsigned page = PAGE - (linear & (PAGE - 1));
    unsigned insns = mode & (X86_MODE_TF | X86_MODE_SHADOW | X86_MODE_DEBUG) ? 1 : limits->insns;

    ir_block_clear(b);
    lift_decoder_init(&decoder, model, mode);
    lifter_init(&l, model, mode, pc, linear, b);
    l.counted = limits->icount;
    l.branches_left = limits->icount ? 0 : limits->branches; /* exits in the middle are not chained when counting */
    l.changing = page >= LONGEST ? limits->changing : NULL;
    f.wrap = l.code_bits == 64 ? UINT64_MAX : UINT32_MAX;
    for (unsigned done = 0; !l.ended; ) {
        enum step step = lift_one(&l, &decoder, limits, &f, page);
        if (step == STEP_FAULT)
            return false;
        if (step == STEP_STOP) {
            /* The previous instruction is still the current one: next_offset is this one's start. */
            l.offset -= l.length;
            lift_end_jump(&l);
            break;
        }
        if (!l.ended && sees_time(&l))
            lift_end_leave(&l, IR_LEAVE_NEXT);
        if (l.ended)
            break;
        if (++done >= insns || l.helper_stored || l.offset + l.length >= limits->bytes || l.offset + l.length >= page)
            lift_end_jump(&l);
        else
            l.offset += l.length;
    }
    return l.relocs_done == limits->reloc_count;
}

unsigned x86_disassemble(uint32_t mode, uint64_t pc, const uint8_t *bytes, unsigned size, char *text, size_t text_size)
{
    ZydisDecoder decoder;
    ZydisDecodedInstruction in;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    ZydisFormatter formatter;
    lift_decoder_init(&decoder, NULL, mode);
    if (!text_size)
        return 0;
    text[0] = 0;
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, size, &in, op)) ||
        !ZYAN_SUCCESS(ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL)) ||
        !ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&formatter, &in, op, in.operand_count_visible, text, text_size, pc, NULL)))
        return 0;
    return in.length;
}
