/* The predicates of differences.def. */
#include "tests/silicon/differences.h"
#include "tests/silicon/check.h"
#include <string.h>
#include <cpuid.h>
#include <sys/mman.h>

#define SKIP(name, reason) static bool skip_##name(const struct test_case *);
#define DIFFERENCE(name, maker, reason) static bool differs_##name(const struct test_case *, const struct oracle_state *silicon, const struct oracle_state *here);
#include "tests/silicon/differences.def"

static struct exclusion list[] = {
#define SKIP(name, reason) {#name, "", reason, skip_##name, NULL, 0},
#define DIFFERENCE(name, maker, reason) {#name, maker, reason, NULL, differs_##name, 0},
#include "tests/silicon/differences.def"
};
enum { COUNT = sizeof list / sizeof *list };

struct exclusion *exclusions(unsigned *count) { return *count = COUNT, list; }

static bool is_maker(const char *maker)
{
    char text[13] = "";
    unsigned a, b, c, d;
    __cpuid(0, a, b, c, d);
    memcpy(text, &b, 4);
    memcpy(text + 4, &d, 4);
    memcpy(text + 8, &c, 4);
    return !*maker || !strcmp(text, maker);
}

bool exclude_before(const struct test_case *c)
{
    for (unsigned i = 0; i < COUNT; i++)
        if (list[i].skip && list[i].skip(c))
            return list[i].count++, true;
    return false;
}

bool exclude_after(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    for (unsigned i = 0; i < COUNT; i++)
        if (list[i].differs && is_maker(list[i].maker) && list[i].differs(c, silicon, here))
            return list[i].count++, true;
    return false;
}

static bool one_of(const struct test_case *c, const ZydisMnemonic *which, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (c->insn.valid && c->insn.in.mnemonic == which[i])
            return true;
    return false;
}
#define IS(...) one_of(c, (const ZydisMnemonic[]){__VA_ARGS__}, sizeof((const ZydisMnemonic[]){__VA_ARGS__}) / sizeof(ZydisMnemonic))
#define M(name) ZYDIS_MNEMONIC_##name

static bool has_segment(const struct test_case *c)
{
    for (unsigned i = 0; c->insn.valid && i < c->insn.in.operand_count_visible; i++)
        if (c->insn.op[i].type == ZYDIS_OPERAND_TYPE_REGISTER && ZydisRegisterGetClass(c->insn.op[i].reg.value) == ZYDIS_REGCLASS_SEGMENT)
            return true;
    return false;
}

static bool skip_kernel_entry(const struct test_case *c) { return IS(M(SYSCALL), M(SYSENTER), M(INT), M(INT1), M(INTO)); }
static bool skip_marker(const struct test_case *c) { return IS(M(INT3)); }
static bool skip_identity(const struct test_case *c) { return IS(M(RDTSC), M(RDTSCP), M(RDPMC), M(RDPID), M(CPUID), M(XGETBV), M(RDPRU)); }
static bool skip_umip(const struct test_case *c) { return IS(M(SGDT), M(SIDT), M(SLDT), M(STR), M(SMSW)); }
static bool skip_own_rights(const struct test_case *c) { return IS(M(WRPKRU), M(RDPKRU)); }

/* How many of the bytes at the instruction's start are of the set; most, if there are more. */
static unsigned prefix_bytes(const struct test_case *c, const char *set, unsigned most)
{
    unsigned at = 0;
    while (at < most && memchr(set, c->insn.bytes[at], strlen(set)))
        at++;
    return at;
}
#define SIZE_AND_SEGMENT "\x66\x67\x2e\x36\x26\x3e\x64\x65"

/* Zydis refuses VMCALL and VMMCALL with an operand-size prefix; CPUs take them. */
static bool skip_hypervisor(const struct test_case *c)
{
    const uint8_t *code = c->insn.bytes + prefix_bytes(c, SIZE_AND_SEGMENT, 4);
    bool refused = !c->insn.valid && code[0] == 0x0f && code[1] == 0x01 && (code[2] == 0xc1 || code[2] == 0xd9);
    return refused || IS(M(VMCALL), M(VMMCALL));
}

static bool skip_lacked(const struct test_case *c)
{
    unsigned at = prefix_bytes(c, SIZE_AND_SEGMENT, 4);
    /* AVX-512, its mask instructions among it: Zydis refuses some forms that CPUs take. */
    uint8_t lead = c->insn.bytes[at], opcode = c->insn.bytes[at + (lead == 0xc4 ? 3 : 2)];
    bool masks = (lead == 0xc4 || lead == 0xc5) && ((opcode >= 0x41 && opcode <= 0x4b) || (opcode >= 0x90 && opcode <= 0x99));
    bool avx512 = !c->insn.valid && (lead == 0x62 || masks);
    return (avx512 || (c->insn.valid && (!c->row || !x86_model_has(guest_model(), c->row->feature)))) && guest_host_runs(c);
}

/* --- Differences */
static bool has_prefix(const struct test_case *c, uint8_t prefix)
{
    for (unsigned i = 0; i < c->insn.in.raw.prefix_count; i++)
        if (c->insn.in.raw.prefixes[i].value == prefix)
            return true;
    return false;
}

static bool differs_branch16(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    (void)silicon, (void)here;
    return c->mode == ORACLE_64 && has_prefix(c, 0x66) && !(c->insn.in.attributes & ZYDIS_ATTRIB_HAS_REX && c->insn.in.raw.rex.W) && c->insn.in.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE;
}

static bool differs_loop_rep(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    (void)silicon, (void)here;
    return IS(M(LOOPE), M(LOOPNE)) && (has_prefix(c, 0xf2) || has_prefix(c, 0xf3));
}

static bool differs_pause_rex(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    return IS(M(PAUSE)) && c->insn.in.raw.rex.B && silicon->gpr[0] == c->in.gpr[8] && here->gpr[0] == c->in.gpr[0];
}

static bool differs_nop_prefetch(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    return c->insn.in.opcode_map == ZYDIS_OPCODE_MAP_0F && c->insn.in.opcode == 0x0d && silicon->trap == X86_UD && here->trap == 3;
}

static bool differs_sha_aligned(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    return c->insn.in.meta.isa_set == ZYDIS_ISA_SET_SHA && here->trap == X86_GP && silicon->trap != X86_GP;
}

static bool differs_mxcsr_mask(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    if (here->trap == X86_GP && silicon->trap == 3)
        return silicon->fx.mxcsr & 0x20000;
    const uint8_t *want = c->silicon_memory, *have = oracle_data();
    unsigned different = 0, at = 0;
    for (unsigned i = 0; i < ORACLE_DATA_SIZE; i++)
        if (want[i] != have[i]) {
            different++;
            at = i;
        }
    return silicon->trap == 3 && here->trap == 3 && different == 1 && want[at] == 2 && have[at] == 0 && c->insn.op[0].size >= 4096;
}

static bool is_x87_store(const struct test_case *c) { return IS(M(FIST), M(FISTP), M(FISTTP), M(FST), M(FSTP), M(FBSTP)); }

static bool differs_x87_fault_order(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    return is_x87_store(c) && here->trap == 3 && silicon->trap != 3 && here->fx.fsw & 0x80;
}

static bool has_wide_memory(const struct test_case *c)
{
    for (unsigned i = 0; c->insn.valid && i < c->insn.in.operand_count_visible; i++)
        if (c->insn.op[i].type == ZYDIS_OPERAND_TYPE_MEMORY && c->insn.op[i].size == 128)
            return true;
    return false;
}

static bool differs_ud_length(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    return (IS(M(UD0), M(UD1)) || c->insn.in.meta.isa_ext == ZYDIS_ISA_EXT_PADLOCK) && silicon->trap == X86_UD && here->trap != 3;
}

static bool differs_push_segment(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    bool by_size = silicon->trap != here->trap && (silicon->trap == X86_AC || silicon->trap == X86_SS_FAULT || silicon->trap == X86_PF);
    return IS(M(PUSH)) && has_segment(c) && (by_size || (silicon->trap == here->trap && silicon->gpr[4] == here->gpr[4]));
}

static bool is_data_fault(const struct oracle_state *s) { return s->trap == X86_PF || s->trap == X86_GP || s->trap == X86_SS_FAULT || s->trap == X86_AC; }

static bool differs_lock_order(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    unsigned at = 0;
    while (c->insn.bytes[at] != 0x0f && at < 4)
        at++;
    (void)silicon;
    return !c->insn.valid && memchr(c->insn.bytes, 0xf0, at) && c->insn.bytes[at + 1] == 0 && here->trap == X86_UD;
}

static bool differs_lock_cr8(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    const uint8_t *map = memchr(c->insn.bytes, 0x0f, 6);
    return !c->insn.valid && memchr(c->insn.bytes, 0xf0, 4) && map && (map[1] == 0x20 || map[1] == 0x22) && here->trap == X86_UD && silicon->trap == X86_GP && !silicon->error;
}

static bool differs_area_fault(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    bool area = IS(M(FLDENV), M(FNSTENV), M(FNSAVE), M(FRSTOR), M(FXSAVE), M(FXRSTOR), M(FXSAVE64), M(FXRSTOR64), M(MASKMOVQ), M(MASKMOVDQU), M(FBLD), M(FBSTP), M(FSTP), M(FLD),
                   M(XSAVE), M(XSAVE64), M(XSAVEC), M(XSAVEC64), M(XSAVEOPT), M(XSAVEOPT64), M(XRSTOR), M(XRSTOR64), M(ENTER), M(PUSHA), M(PUSHAD), M(POPA), M(POPAD));
    area |= IS(M(IRET), M(IRETD), M(IRETQ)) || (IS(M(RET)) && c->insn.in.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR);
    bool whole = IS(M(XSAVE), M(XSAVE64), M(XSAVEC), M(XSAVEC64), M(XSAVEOPT), M(XSAVEOPT64), M(XRSTOR), M(XRSTOR64), M(MASKMOVQ), M(MASKMOVDQU)); /* parts not asked for may fault */
    return area && is_data_fault(silicon) && (is_data_fault(here) || (whole && here->trap == 3)) && (c->in.rflags & X86_EFLAGS_AC || (silicon->trap != X86_AC && here->trap != X86_AC));
}

static bool differs_area_ac(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    return IS(M(FXSAVE), M(FXRSTOR), M(FXSAVE64), M(FXRSTOR64), M(MASKMOVQ), M(MASKMOVDQU)) && c->in.rflags & X86_EFLAGS_AC && silicon->trap == X86_AC && (is_data_fault(here) || here->trap == 3);
}

static bool mmx_faults_at_top_0(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    bool mmx = false;
    for (unsigned i = 0; c->insn.valid && i < c->insn.in.operand_count; i++)
        mmx |= c->insn.op[i].type == ZYDIS_OPERAND_TYPE_REGISTER && ZydisRegisterGetClass(c->insn.op[i].reg.value) == ZYDIS_REGCLASS_MMX;
    return mmx && silicon->trap != 3 && silicon->trap == here->trap && !(silicon->fx.fsw & 0x3800) &&
           !memcmp(silicon->gpr, here->gpr, sizeof here->gpr) && !memcmp(silicon->fx.xmm, here->fx.xmm, sizeof here->fx.xmm) && silicon->fx.mxcsr == here->fx.mxcsr;
}

static bool differs_mmx_entered(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    return mmx_faults_at_top_0(c, silicon, here) && silicon->fx.ftw == 0xff;
}

static bool differs_mmx_top(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    return mmx_faults_at_top_0(c, silicon, here) && silicon->fx.ftw == here->fx.ftw;
}

static bool differs_own_memory(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    (void)c;
    bool foreign = here->trap == X86_PF && (silicon->trap != X86_PF || silicon->cr2 != here->cr2) && !guest_place(here->cr2, 1, false);
    return foreign && !msync((void *)(uintptr_t)(here->cr2 & ~4095ull), 4096, MS_ASYNC);
}

static bool differs_endless(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    (void)c, (void)here;
    return silicon->trap == -1;
}

static bool differs_long_refused(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    unsigned prefixes = prefix_bytes(c, SIZE_AND_SEGMENT "\xf0\xf2\xf3", 15);
    return !c->insn.valid && prefixes > 3 && here->trap == X86_UD && silicon->trap == X86_GP && !silicon->error;
}

static bool differs_iret_order(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    return IS(M(IRET), M(IRETD), M(IRETQ)) && silicon->trap == X86_GP && here->trap == X86_GP && silicon->error != here->error;
}

static bool differs_far64(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    bool far = IS(M(LFS), M(LGS), M(LSS)) || (IS(M(JMP), M(CALL)) && c->insn.in.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR);
    (void)silicon, (void)here;
    return far && c->mode == ORACLE_64 && c->insn.in.operand_width == 64;
}

static bool differs_ret_carry(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    struct oracle_state carried = *here;
    carried.gpr[4] += 0x10000;
    return IS(M(RET)) && c->mode == ORACLE_16 && c->insn.in.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR && c->insn.op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
           silicon->trap == 3 && !check_states(silicon, &carried, 0);
}

/* --- Intel's */
static bool differs_x87_store_order(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    return is_x87_store(c) && is_data_fault(here) && silicon->trap == 3 && silicon->fx.fsw & 0x80;
}

static bool differs_space_end(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    bool refused = (here->trap == X86_GP || here->trap == X86_SS_FAULT) && !here->error;
    bool wraps = c->mode <= ORACLE_32 && silicon->trap == X86_PF && silicon->cr2 > 0xfffffff0 - 15 && silicon->cr2 <= 0xffffffff; /* 64-bit code: a far call's stack */
    return refused && (wraps || (c->mode <= ORACLE_32 && c->in.rflags & X86_EFLAGS_AC && silicon->trap == X86_AC));
}

static bool differs_unaligned_ac(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    return has_wide_memory(c) && c->in.rflags & X86_EFLAGS_AC && here->trap == X86_AC && silicon->trap != X86_AC;
}

static bool differs_ud_suffix(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    bool amd = c->insn.in.meta.isa_ext == ZYDIS_ISA_EXT_AMD3DNOW || c->insn.in.meta.isa_ext == ZYDIS_ISA_EXT_SSE4A;
    return c->insn.valid && amd && silicon->trap == X86_UD && (here->trap == X86_PF || here->trap == X86_GP);
}

static bool differs_sysret_legacy(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    return IS(M(SYSRET)) && c->mode != ORACLE_64 && silicon->trap == X86_UD && here->trap == X86_GP && !here->error;
}

static bool differs_sysexit_long(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    return IS(M(SYSEXIT)) && silicon->trap == X86_GP && !silicon->error && here->trap == X86_UD;
}

static bool differs_movsxd16(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    return IS(M(MOVSXD)) && c->insn.op[0].size == 16 && is_data_fault(here) && (silicon->trap == 3 || is_data_fault(silicon));
}

static bool differs_pop_segment(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    bool fewer = silicon->trap == 3 || silicon->trap == X86_PF || silicon->trap == X86_GP;
    return IS(M(POP)) && has_segment(c) && is_data_fault(here) && silicon->trap != here->trap && fewer;
}

static bool differs_rep_cut(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    struct oracle_state cut = *here;
    for (unsigned i = 0; i < 3; i++)
        cut.gpr[(const uint8_t[]){X86_RCX, X86_RSI, X86_RDI}[i]] &= silicon->gpr[(const uint8_t[]){X86_RCX, X86_RSI, X86_RDI}[i]] >> 32 ? ~0ull : 0xffffffff;
    bool undone = is_data_fault(silicon) || !(uint32_t)c->in.gpr[X86_RCX];
    return c->mode == ORACLE_64 && c->insn.in.meta.category == ZYDIS_CATEGORY_STRINGOP && has_prefix(c, 0x67) && undone && !check_states(silicon, &cut, 0);
}

static bool differs_rep_flags(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    struct oracle_state restored = *here;
    restored.rflags = c->in.rflags;
    return c->insn.in.meta.category == ZYDIS_CATEGORY_STRINGOP && is_data_fault(silicon) && !check_states(silicon, &restored, 0);
}

static bool differs_call_pushed(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    const uint8_t *want = c->silicon_memory, *have = oracle_data();
    uint64_t at = c->in.gpr[X86_RSP] - 16 - (c->mode == ORACLE_64 ? ORACLE_DATA : ORACLE_DATA - oracle_modes[c->mode].seg[X86_SS].base);
    uint32_t mask = c->mode == ORACLE_16 ? 0xffff : 0xffffffff; /* a far call to code of fewer bits pushes by ESP */
    if (!IS(M(CALL)) || silicon->trap != X86_GP || check_states(silicon, here, 0))
        return false;
    for (unsigned i = 0; i < ORACLE_DATA_SIZE; i++)
        if (want[i] != have[i] && ((i - at) & mask) >= 16)
            return false;
    return true;
}

static bool differs_far_call_order(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    return IS(M(CALL)) && c->insn.in.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR && here->trap == X86_GP && silicon->trap == X86_PF && c->in.gpr[X86_RSP] - silicon->cr2 <= 16;
}

static bool differs_far64_cut(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    return IS(M(CALL), M(JMP)) && differs_far64(c, silicon, here) && here->trap == X86_GP && !here->error && silicon->trap == 3;
}

static bool differs_bound_order(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    return IS(M(BOUND)) && is_data_fault(here) && silicon->trap == X86_BR;
}

static bool is_nan32(uint32_t v) { return (v & 0x7fffffff) > 0x7f800000; }

static bool differs_dot_nan(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    struct oracle_state same = *here;
    for (unsigned i = 0; i < 16; i++)
        for (unsigned lane = 0; lane < 4; lane++) {
            const unsigned shift = lane % 2 * 32;
            const uint64_t want = silicon->fx.xmm[i][lane / 2], have = here->fx.xmm[i][lane / 2], mask = 0xffffffffull << shift;
            if (is_nan32((uint32_t)(want >> shift)) && is_nan32((uint32_t)(have >> shift)))
                same.fx.xmm[i][lane / 2] = (same.fx.xmm[i][lane / 2] & ~mask) | (want & mask);
        }
    return IS(M(DPPS)) && (c->in.fx.mxcsr & 0x1f80) != 0x1f80 && !check_states(silicon, &same, 0);
}

static bool differs_xsave_nothing(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    bool asks = (c->in.gpr[X86_RAX] & 7) != 0; /* x87, SSE, AVX: the bits of XCR0 that the guest can have */
    return IS(M(XSAVEOPT), M(XSAVEOPT64), M(XSAVEC), M(XSAVEC64), M(XSAVE), M(XSAVE64)) && !asks && is_data_fault(here) && silicon->trap == 3;
}

static bool differs_host_lacks(const struct test_case *c, const struct oracle_state *silicon, const struct oracle_state *here)
{
    static const struct { uint32_t leaf, subleaf; uint8_t reg, bit; } features[X86_FEATURE_COUNT] = {
#define FEATURE(name, text, leaf, subleaf, reg, bit) [X86_FEATURE_##name] = {leaf, subleaf, reg, bit},
#include "frontend/features.def"
    };
    uint32_t id[4] = {0};
    if (!c->row || !c->row->feature || silicon->trap != X86_UD || here->trap == X86_UD)
        return false;
    __get_cpuid_count(features[c->row->feature].leaf, features[c->row->feature].subleaf, &id[0], &id[1], &id[2], &id[3]);
    return !(id[features[c->row->feature].reg & 3] >> features[c->row->feature].bit & 1);
}
