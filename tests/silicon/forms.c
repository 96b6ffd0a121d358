/* The sweep over all encodings: see forms.h. */
#include "tests/silicon/forms.h"
#include <stdlib.h>
#include <string.h>

uint64_t rnd_seed = 1;
uint64_t rnd(void)
{
    rnd_seed ^= rnd_seed << 13;
    rnd_seed ^= rnd_seed >> 7;
    rnd_seed ^= rnd_seed << 17;
    return rnd_seed * 0x2545f4914f6cdd1dull;
}

void insn_decode(struct insn *i, const struct x86_model *model, uint32_t mode_bits)
{
    ZydisDecoder d;
    lift_decoder_init(&d, model, mode_bits);
    i->valid = ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, i->bytes, 15, &i->in, i->op));
}

/* --- What makes a form of its own */
static uint64_t mix(uint64_t h, uint64_t v) { return (h ^ v) * 0x9e3779b97f4a7c15ull ^ (h ^ v) >> 29; }

static unsigned register_kind(ZydisRegister r)
{
    ZydisRegisterClass c = ZydisRegisterGetClass(r);
    unsigned id = (unsigned)ZydisRegisterGetId(r);
    bool high = r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH, named = c == ZYDIS_REGCLASS_SEGMENT || c == ZYDIS_REGCLASS_CONTROL || c == ZYDIS_REGCLASS_DEBUG;
    return (unsigned)c << 8 | (high ? 1u : 0) | (id >= 8 && !high ? 2u : 0) | (named ? id << 4 : 0);
}

static uint64_t operand_kind(const ZydisDecodedOperand *o)
{
    uint64_t h = mix(o->type, o->size);
    if (o->type == ZYDIS_OPERAND_TYPE_REGISTER)
        return mix(h, register_kind(o->reg.value));
    if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        return mix(h, (uint64_t)o->imm.is_relative << 1 | o->imm.is_signed);
    if (o->type != ZYDIS_OPERAND_TYPE_MEMORY)
        return h;
    h = mix(h, o->mem.type);
    h = mix(h, o->mem.segment);
    h = mix(h, o->mem.base == ZYDIS_REGISTER_NONE ? 0 : o->mem.base == ZYDIS_REGISTER_RIP || o->mem.base == ZYDIS_REGISTER_EIP ? 1 : register_kind(o->mem.base) + 2);
    h = mix(h, o->mem.index == ZYDIS_REGISTER_NONE ? 0 : register_kind(o->mem.index) + 2);
    return mix(h, o->mem.disp.has_displacement);
}

static uint64_t key_of(const struct insn *i)
{
    const uint64_t prefixes = ZYDIS_ATTRIB_HAS_LOCK | ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE | ZYDIS_ATTRIB_HAS_OPERANDSIZE |
                              ZYDIS_ATTRIB_HAS_ADDRESSSIZE | ZYDIS_ATTRIB_HAS_REX;
    uint64_t h = mix(mix(mix(i->in.mnemonic, i->in.encoding), i->in.opcode_map), i->in.opcode);
    h = mix(mix(mix(h, i->in.attributes & prefixes), i->in.operand_width), i->in.address_width);
    h = mix(h, (uint64_t)i->in.raw.rex.W << 1 | i->in.raw.vex.W);
    for (unsigned k = 0; k < i->in.raw.prefix_count; k++)
        h = mix(h, i->in.raw.prefixes[k].value < 0x40 || i->in.raw.prefixes[k].value > 0x4f ? i->in.raw.prefixes[k].value : 0);
    for (unsigned k = 0; k < i->in.operand_count_visible; k++)
        h = mix(h, operand_kind(&i->op[k]));
    return h | 1;
}

static bool is_new(struct forms *f, uint64_t key)
{
    if (f->count * 2 >= f->slots) {
        unsigned slots = f->slots ? f->slots * 2 : 1u << 16;
        uint64_t *keys = calloc(slots, sizeof *keys);
        if (!keys)
            abort();
        for (unsigned i = 0; i < f->slots; i++)
            for (unsigned at = (unsigned)(f->keys[i] >> 20) & (slots - 1); f->keys[i]; at = (at + 1) & (slots - 1))
                if (!keys[at]) {
                    keys[at] = f->keys[i];
                    break;
                }
        free(f->keys);
        f->keys = keys;
        f->slots = slots;
    }
    unsigned at = (unsigned)(key >> 20) & (f->slots - 1);
    for (; f->keys[at]; at = (at + 1) & (f->slots - 1))
        if (f->keys[at] == key)
            return false;
    f->keys[at] = key;
    return true;
}

static void add(struct forms *f, enum oracle_mode_id mode, const struct insn *i, uint64_t key)
{
    if (!is_new(f, mix(key, mode) | 1))
        return;
    if (f->count == f->capacity) {
        f->capacity = f->capacity ? f->capacity * 2 : 1u << 14;
        f->list = realloc(f->list, f->capacity * sizeof *f->list);
        if (!f->list)
            abort();
    }
    struct form *to = &f->list[f->count++];
    *to = (struct form){.mnemonic = i->valid ? (uint16_t)i->in.mnemonic : 0, .mode = (uint8_t)mode, .valid = i->valid};
    memcpy(to->bytes, i->bytes, sizeof to->bytes);
}

/* --- The space of encodings */
struct shape { uint8_t mod, rm, sib; };
/* Registers low, high-byte or SP; [BX], [BP + d8], [SI + d32]; RIP or absolute; index; no base; neither base nor index. */
static const struct shape shapes[] = {{3, 3, 0}, {3, 4, 0}, {0, 3, 0}, {1, 5, 0}, {2, 6, 0}, {0, 5, 0}, {1, 4, 0x4f}, {0, 4, 0x8d}, {0, 4, 0x25}, {3, 0, 0}, {0, 6, 0}, {1, 2, 0},
    {3, 1, 0}, {3, 2, 0}, {3, 5, 0}, {3, 6, 0}, {3, 7, 0}};
static const char *const prefixes[] = {"", "\x66", "\xf2", "\xf3", "\x67", "\x66\x67", "\x66\xf2", "\x66\xf3", "\xf0", "\x66\xf0", "\xf0\xf2", "\xf3\xf0",
                                       "\x64", "\x65", "\x2e", "\x36", "\x26", "\x3e", "\x67\x64", "\x67\xf3"};
enum { FEW_PREFIXES = 4, FEW_SHAPES = 9, SHAPES = sizeof shapes / sizeof *shapes, PREFIXES = sizeof prefixes / sizeof *prefixes };
static const uint8_t rexes[] = {0, 0x48, 0x40, 0x44, 0x41, 0x42, 0x4f};
static const char *const maps[] = {"", "\x0f", "\x0f\x38", "\x0f\x3a"};

struct sweep { struct forms *forms; enum oracle_mode_id mode; ZydisDecoder decoder; };

/* bytes: n are there up to the opcode; goes through ModRM.  A refused one is a form by what came before and reg. */
static void shapes_of(struct sweep *s, struct insn *i, unsigned n, unsigned shape_count, uint64_t refused)
{
    for (unsigned shape = 0; shape < shape_count; shape++)
        for (unsigned reg = 0; reg < 8; reg++) {
            unsigned at = n;
            uint64_t tail[2] = {rnd(), rnd()};
            i->bytes[at++] = (uint8_t)(shapes[shape].mod << 6 | reg << 3 | shapes[shape].rm);
            if (shapes[shape].rm == 4 && shapes[shape].mod != 3)
                i->bytes[at++] = shapes[shape].sib;
            memcpy(i->bytes + at, tail, sizeof i->bytes - at < 16 ? sizeof i->bytes - at : 16);
            i->valid = ZYAN_SUCCESS(ZydisDecoderDecodeFull(&s->decoder, i->bytes, 15, &i->in, i->op));
            add(s->forms, s->mode, i, i->valid ? key_of(i) : mix(refused, reg << 1 | (shapes[shape].mod == 3)));
            if (i->valid && !(i->in.attributes & ZYDIS_ATTRIB_HAS_MODRM))
                return;
        }
}

static void legacy(struct sweep *s, unsigned map, unsigned opcode, unsigned prefix, unsigned rex)
{
    struct insn i = {0};
    unsigned n = 0;
    for (const char *p = prefixes[prefix]; *p; p++)
        i.bytes[n++] = (uint8_t)*p;
    if (rexes[rex])
        i.bytes[n++] = rexes[rex];
    for (const char *p = maps[map]; *p; p++)
        i.bytes[n++] = (uint8_t)*p;
    i.bytes[n++] = (uint8_t)opcode;
    bool few = prefix >= FEW_PREFIXES || rex > 1;
    shapes_of(s, &i, n, few ? FEW_SHAPES : SHAPES, mix(mix(map + 16, opcode), prefix << 1 | (rexes[rex] == 0x48)));
}

/* Prefixes, escapes and VEX, EVEX, XOP lead-ins are not opcodes. */
static bool is_opcode(enum oracle_mode_id mode, unsigned map, unsigned opcode)
{
    static const uint8_t never[] = {0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x0f};
    if (map == 1 && (opcode == 0x38 || opcode == 0x3a))
        return false;
    if (map)
        return true;
    for (unsigned k = 0; k < sizeof never; k++)
        if (opcode == never[k])
            return false;
    return mode != ORACLE_64 || (opcode & 0xf0) != 0x40;
}

static void vex(struct sweep *s, unsigned map, unsigned opcode, unsigned variant)
{
    static const uint8_t bits[] = {0xe0, 0x60, 0xc0, 0x80, 0xa0}; /* ~R ~X ~B */
    struct insn i = {0};
    unsigned pp = variant & 3, w = variant >> 2 & 1, l = variant >> 3 & 1, vvvv = variant & 16 ? 1 : 15, rxb = variant >> 5;
    i.bytes[0] = 0xc4;
    i.bytes[1] = (uint8_t)((s->mode == ORACLE_64 ? bits[rxb] : 0xe0) | map);
    i.bytes[2] = (uint8_t)(w << 7 | (vvvv ^ (s->mode == ORACLE_64 ? 0 : 8 & ~vvvv)) << 3 | l << 2 | pp);
    i.bytes[3] = (uint8_t)opcode;
    shapes_of(s, &i, 4, rxb ? 5 : FEW_SHAPES, mix(mix(map + 32, opcode), variant & 31));
}

/* Up to 15 bytes there may be, prefixes among them (SDM 2B 2.3.11). */
static void longest(struct sweep *s)
{
    static const char *const tails[] = {"\x90", "\x00\xc3", "\x0f\xaf\xc3", "\x69\xc3", "\x0f\x38\xf0\x03", "\x81\x03"};
    static const uint8_t fillers[] = {0x66, 0x2e, 0x67, 0xf3, 0xf0};
    for (unsigned t = 0; t < sizeof tails / sizeof *tails; t++)
        for (unsigned f = 0; f < sizeof fillers; f++)
            for (unsigned n = 9; n < 16; n++) {
                struct insn i = {0};
                uint64_t tail[2] = {rnd(), rnd()};
                memset(i.bytes, fillers[f], n);
                memcpy(i.bytes + n, tail, 16 - n);
                memcpy(i.bytes + n, tails[t], strlen(tails[t]) + !*tails[t] < 16 - n ? strlen(tails[t]) + !*tails[t] : 16 - n);
                i.valid = ZYAN_SUCCESS(ZydisDecoderDecodeFull(&s->decoder, i.bytes, 15, &i.in, i.op));
                add(s->forms, s->mode, &i, mix(mix(t + 64, f), n));
            }
}

void forms_sweep(struct forms *f, enum oracle_mode_id mode, const struct x86_model *model, uint32_t mode_bits)
{
    struct sweep s = {.forms = f, .mode = mode};
    lift_decoder_init(&s.decoder, model, mode_bits);
    unsigned rex_count = mode == ORACLE_64 ? sizeof rexes : 1;
    for (unsigned map = 0; map < 4; map++)
        for (unsigned opcode = 0; opcode < 256; opcode++)
            for (unsigned prefix = 0; prefix < PREFIXES && is_opcode(mode, map, opcode); prefix++)
                for (unsigned rex = 0; rex < (prefix < FEW_PREFIXES ? rex_count : rex_count > 1 ? 2 : 1); rex++)
                    legacy(&s, map, opcode, prefix, rex);
    for (unsigned map = 1; map < 4; map++)
        for (unsigned opcode = 0; opcode < 256; opcode++)
            for (unsigned variant = 0; variant < (mode == ORACLE_64 ? 5u << 5 : 1u << 5); variant++)
                vex(&s, map, opcode, variant);
    longest(&s);
}

void forms_free(struct forms *f)
{
    free(f->list);
    free(f->keys);
}
