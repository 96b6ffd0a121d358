/* System instructions: almost all become one helper call, after the checks of privilege and mode. */
#include "frontend/system.h"

static ir_ref c64(struct lifter *l, int64_t v) { return lift_const(l, IR_I64, v); }
static ir_ref wide(struct lifter *l, ir_ref v, enum ir_type from) { return lift_resize(l, v, from, IR_I64, false); }
static ir_ref read64(struct lifter *l, unsigned operand) { return wide(l, lift_read(l, operand), lift_type(l, operand)); }
static void run(struct lifter *l, enum x86_helper h, ir_ref a, ir_ref b) { lift_call(l, IR_VOID, h, a, b, IR_NONE, IR_NONE); }

static void go_on_at_rip(struct lifter *l) { lift_end_go_on(l, lift_slot_get(l, IR_I64, SLOT(rip))); }
static void go_on_next(struct lifter *l) { lift_end_go_on(l, lift_next_pc(l)); }
/* To the cpu loop: after what may change the machine around the CPU. */
static void leave_next(struct lifter *l) { lift_end_leave(l, IR_LEAVE_NEXT); }

static bool is_vm86(const struct lifter *l) { return l->mode & X86_MODE_VM; }
static bool needs_protected(struct lifter *l)
{
    if (lift_is_protected(l))
        return true;
    lift_ud(l);
    return false;
}
static bool needs_cpl0(struct lifter *l)
{
    if (!lift_cpl(l))
        return true;
    lift_raise(l, X86_GP, true, 0);
    return false;
}
static unsigned bytes_of(const struct lifter *l) { return l->operand_bits / 8; }

/* UMIP: SGDT and its like fault above CPL 0 (SDM 2B). */
static void umip(struct lifter *l)
{
    if (!lift_cpl(l))
        return;
    ir_ref cr4 = lift_slot_get(l, IR_I64, SLOT(cr4)), bit = ir_op2(l->b, IR_and, IR_I64, cr4, c64(l, X86_CR4_UMIP));
    lift_raise_if(l, ir_op2(l->b, IR_ne, IR_I64, bit, c64(l, 0)), X86_GP, true, 0);
}

/* --- Control and debug registers */
static unsigned register_id(const struct lifter *l, unsigned operand) { return (unsigned)ZydisRegisterGetId(l->op[operand].reg.value); }

void lift_mov_cr(struct lifter *l, int variant)
{
    (void)variant;
    bool to_cr = ZydisRegisterGetClass(l->op[0].reg.value) == ZYDIS_REGCLASS_CONTROL;
    unsigned n = register_id(l, to_cr ? 0 : 1);
    if (n != 0 && n != 2 && n != 3 && n != 4 && !(n == 8 && lift_is64(l))) {
        lift_ud(l);
        return;
    }
    if (!needs_cpl0(l))
        return;
    if (to_cr) {
        ir_ref v = lift_gpr_get(l, l->op[1].reg.value);
        run(l, X86_HELPER_cr_write, c64(l, n), lift_is64(l) ? v : wide(l, v, IR_I32));
        go_on_next(l);
        return;
    }
    static const int64_t slots[] = {[0] = SLOT(cr0), [2] = SLOT(cr2), [3] = SLOT(cr3), [4] = SLOT(cr4)};
    ir_ref v = n == 8 ? lift_call(l, IR_I64, X86_HELPER_cr8_read, IR_NONE, IR_NONE, IR_NONE, IR_NONE) : lift_slot_get(l, IR_I64, slots[n]);
    lift_gpr_put(l, l->op[0].reg.value, lift_is64(l) ? v : lift_resize(l, v, IR_I64, IR_I32, false));
}

void lift_mov_dr(struct lifter *l, int variant)
{
    (void)variant;
    bool to_dr = ZydisRegisterGetClass(l->op[0].reg.value) == ZYDIS_REGCLASS_DEBUG;
    unsigned n = register_id(l, to_dr ? 0 : 1);
    if (n > 7) {
        lift_ud(l);
        return;
    }
    if (!needs_cpl0(l))
        return;
    if (to_dr) {
        ir_ref v = lift_gpr_get(l, l->op[1].reg.value);
        run(l, X86_HELPER_dr_write, c64(l, n), lift_is64(l) ? v : wide(l, v, IR_I32));
        leave_next(l);
        return;
    }
    ir_ref v = lift_call(l, IR_I64, X86_HELPER_dr_read, c64(l, n), IR_NONE, IR_NONE, IR_NONE);
    lift_gpr_put(l, l->op[0].reg.value, lift_is64(l) ? v : lift_resize(l, v, IR_I64, IR_I32, false));
}

void lift_lmsw(struct lifter *l, int variant)
{
    (void)variant;
    run(l, X86_HELPER_lmsw, read64(l, 0), IR_NONE);
    leave_next(l);
}

void lift_clts(struct lifter *l, int variant)
{
    (void)variant;
    run(l, X86_HELPER_clts, IR_NONE, IR_NONE);
    go_on_next(l);
}

/* SMSW, SLDT, STR: a field to a register (operand size, zero-extended) or 16 bits of memory. */
void lift_store_field(struct lifter *l, int slot)
{
    bool word = slot != SLOT(cr0);
    if (word && !needs_protected(l))
        return;
    umip(l);
    ir_ref v = lift_slot_get(l, word ? IR_I16 : IR_I64, slot);
    lift_write(l, 0, lift_resize(l, v, word ? IR_I16 : IR_I64, lift_type(l, 0), false));
}

/* --- Descriptor tables.  variant: 0 GDT, 1 IDT */
static ir_ref table_bytes(struct lifter *l) { return c64(l, lift_is64(l) ? 8 : l->operand_bits == 16 ? 3 : 4); }

void lift_table_load(struct lifter *l, int variant)
{
    ir_ref at = lift_operand_linear(l, 0, lift_is64(l) ? 10 : 6, IR_READ);
    lift_call(l, IR_VOID, X86_HELPER_table_load, c64(l, variant), at, table_bytes(l), IR_NONE);
    leave_next(l);
}

void lift_table_store(struct lifter *l, int variant)
{
    umip(l);
    ir_ref at = lift_operand_linear(l, 0, lift_is64(l) ? 10 : 6, IR_WRITE);
    lift_call(l, IR_VOID, X86_HELPER_table_store, c64(l, variant), at, c64(l, lift_is64(l) ? 8 : 4), IR_NONE);
}

void lift_load_system(struct lifter *l, int helper) /* LLDT, LTR */
{
    if (!needs_protected(l) || !needs_cpl0(l))
        return;
    run(l, (enum x86_helper)helper, read64(l, 0), IR_NONE);
    leave_next(l);
}

/* LAR, LSL, VERR, VERW: ZF tells, and the register changes only then.  variant: enum query of sys_control.c */
void lift_query(struct lifter *l, int variant)
{
    if (!needs_protected(l))
        return;
    bool has_result = variant < 2;
    unsigned source = has_result ? 1 : 0;
    ir_ref selector = lift_is_reg(l, source) ? read64(l, source) : wide(l, lift_load(l, IR_I16, lift_translate(l, source, 2, IR_READ), 0), IR_I16);
    ir_ref r = lift_call(l, IR_I64, X86_HELPER_query, c64(l, variant), selector, IR_NONE, IR_NONE);
    ir_ref ok = ir_op2(l->b, IR_ne, IR_I64, ir_op2(l->b, IR_and, IR_I64, r, c64(l, 1ll << 32)), c64(l, 0));
    if (has_result) {
        enum ir_type t = lift_type(l, 0);
        ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, l->op[0].reg.value);
        ir_ref old = lift_gpr_get(l, whole), low = lift_resize(l, r, IR_I64, IR_I32, false), value;
        if (t == IR_I16)
            value = ir_emit(l->b, IR_deposit, IR_I64, 0, 0, old, lift_resize(l, low, IR_I32, t, false), IR_NONE, IR_NONE);
        else
            value = wide(l, low, IR_I32);
        lift_gpr_put(l, whole, ir_op3(l->b, IR_select, IR_I64, ok, value, old)); /* its high half stays too */
    }
    lift_flag_set(l, IR_M_Z, ok);
}

void lift_arpl(struct lifter *l, int variant)
{
    (void)variant;
    if (!needs_protected(l))
        return;
    struct ir_block *b = l->b;
    if (lift_is_mem(l, 0)) { /* what it does not change it does not write: not even the right to is asked for */
        ir_ref changed = lift_call(l, IR_I64, X86_HELPER_arpl, c64(l, lift_seg(l->op[0].mem.segment)), lift_ea(l, 0), read64(l, 1), IR_NONE);
        lift_flag_set(l, IR_M_Z, ir_op2(b, IR_ne, IR_I64, changed, c64(l, 0)));
        return;
    }
    ir_ref d = lift_read(l, 0), s = lift_read(l, 1), three = lift_const(l, IR_I16, 3);
    ir_ref sr = ir_op2(b, IR_and, IR_I16, s, three), less = ir_op2(b, IR_ult, IR_I16, ir_op2(b, IR_and, IR_I16, d, three), sr);
    ir_ref raised = ir_op2(b, IR_or, IR_I16, ir_op2(b, IR_and, IR_I16, d, lift_const(l, IR_I16, 0xfffc)), sr);
    lift_write(l, 0, ir_op3(b, IR_select, IR_I16, less, raised, d));
    lift_flag_set(l, IR_M_Z, less);
}

/* --- Segment registers */
static void load_segment(struct lifter *l, enum x86_seg seg, ir_ref selector64) { run(l, X86_HELPER_segment_load, c64(l, seg), selector64); }

static void end_segment_load(struct lifter *l, enum x86_seg seg)
{
    if (seg == X86_SS)
        run(l, X86_HELPER_shadow_ss, IR_NONE, IR_NONE);
    go_on_next(l);
}

void lift_mov_to_seg(struct lifter *l, int variant)
{
    (void)variant;
    ZydisRegister r = l->op[0].reg.value;
    if (r < ZYDIS_REGISTER_ES || r > ZYDIS_REGISTER_GS || r == ZYDIS_REGISTER_CS) {
        lift_ud(l);
        return;
    }
    ir_ref v = lift_is_reg(l, 1) ? lift_resize(l, lift_gpr_get(l, l->op[1].reg.value), lift_type(l, 1), IR_I16, false)
                                 : lift_load(l, IR_I16, lift_translate(l, 1, 2, IR_READ), 0);
    enum x86_seg seg = lift_seg(r);
    load_segment(l, seg, wide(l, v, IR_I16));
    end_segment_load(l, seg);
}

void lift_pop_seg(struct lifter *l, int variant)
{
    (void)variant;
    enum x86_seg seg = lift_seg(l->op[0].reg.value);
    ir_ref sp = lift_sp_get(l), token = lift_token(l, X86_SS, sp, bytes_of(l), IR_READ);
    ir_ref v = lift_load(l, IR_I16, token, 0);
    load_segment(l, seg, wide(l, v, IR_I16));
    lift_sp_put(l, ir_op2(l->b, IR_add, IR_I64, sp, c64(l, bytes_of(l))));
    end_segment_load(l, seg);
}

/* LDS, LES, LFS, LGS, LSS: offset, then selector.  variant: segment */
/* The selector of a far pointer stands behind the offset, and is an access of its own. */
static ir_ref far_selector(struct lifter *l, unsigned operand, unsigned behind)
{
    ir_ref at = lift_ea_plus(l, operand, IR_NONE, behind);
    return lift_load(l, IR_I16, lift_token(l, lift_seg(l->op[operand].mem.segment), at, 2, IR_READ), 0);
}

void lift_load_far_pointer(struct lifter *l, int variant)
{
    if (!lift_is_mem(l, 1)) {
        lift_ud(l);
        return;
    }
    unsigned n = bytes_of(l);
    enum ir_type t = lift_int_type(l->operand_bits);
    ir_ref offset = lift_load(l, t, lift_translate(l, 1, n, IR_READ), 0), selector = far_selector(l, 1, n);
    load_segment(l, (enum x86_seg)variant, wide(l, selector, IR_I16));
    lift_gpr_put(l, l->op[0].reg.value, offset);
    end_segment_load(l, (enum x86_seg)variant);
}

/* --- Far transfers */
static void far_transfer(struct lifter *l, bool call)
{
    unsigned n = bytes_of(l);
    ir_ref selector, offset;
    if (l->op[0].type == ZYDIS_OPERAND_TYPE_POINTER) {
        selector = c64(l, l->op[0].ptr.segment);
        offset = c64(l, l->op[0].ptr.offset);
    } else {
        if (!lift_is_mem(l, 0)) {
            lift_ud(l);
            return;
        }
        offset = wide(l, lift_load(l, lift_int_type(l->operand_bits), lift_translate(l, 0, n, IR_READ), 0), lift_int_type(l->operand_bits));
        selector = wide(l, far_selector(l, 0, n), IR_I16);
    }
    lift_call(l, IR_VOID, X86_HELPER_far_transfer, selector, offset, c64(l, n | (call ? 1 << 8 : 0)), lift_next_pc(l));
    go_on_at_rip(l);
}
void lift_far_jump(struct lifter *l, int variant) { (void)variant; far_transfer(l, false); }
void lift_far_call(struct lifter *l, int variant) { (void)variant; far_transfer(l, true); }

void lift_far_ret(struct lifter *l, int variant)
{
    (void)variant;
    bool has_imm = l->in.operand_count_visible && lift_is_imm(l, 0);
    run(l, X86_HELPER_far_ret, c64(l, bytes_of(l)), c64(l, has_imm ? (int64_t)l->op[0].imm.value.u : 0));
    go_on_at_rip(l);
}

void lift_iret(struct lifter *l, int size)
{
    run(l, X86_HELPER_iret, c64(l, size), lift_next_pc(l));
    go_on_at_rip(l);
}

static void software_interrupt(struct lifter *l, unsigned vector, bool guarded)
{
    lift_call(l, IR_VOID, X86_HELPER_int, c64(l, vector), lift_next_pc(l), c64(l, guarded), IR_NONE);
    go_on_at_rip(l);
}
void lift_int_n(struct lifter *l, int variant) { (void)variant; software_interrupt(l, (unsigned)l->op[0].imm.value.u & 0xff, true); }
void lift_int_fixed(struct lifter *l, int vector) { software_interrupt(l, (unsigned)vector, false); } /* INT1, INT3 */

void lift_into(struct lifter *l, int variant)
{
    (void)variant;
    if (lift_is64(l)) {
        lift_ud(l);
        return;
    }
    ir_emit(l->b, IR_exit_if, IR_VOID, 0, lift_next_offset(l), lift_cc(l, IR_CC_NO), IR_NONE, IR_NONE, IR_NONE);
    software_interrupt(l, X86_OF, false);
}

/* Intel's CPUs have SYSCALL and SYSRET in 64-bit code alone (SDM 2B), AMD's no SYSENTER and SYSEXIT in long mode (APM 3). */
static bool in_makers_mode(struct lifter *l, bool enter)
{
    bool intel = x86_model_is_intel(l->model), there = enter ? intel || !(l->mode & X86_MODE_LMA) : !intel || lift_is64(l);
    if (!there)
        lift_ud(l);
    return there;
}

void lift_syscall(struct lifter *l, int variant)
{
    (void)variant;
    if (!in_makers_mode(l, false))
        return;
    run(l, X86_HELPER_syscall, lift_next_pc(l), IR_NONE);
    go_on_at_rip(l);
}
void lift_sysret(struct lifter *l, int helper) /* SYSRET, SYSEXIT */
{
    if (!in_makers_mode(l, helper == X86_HELPER_sysexit))
        return;
    run(l, (enum x86_helper)helper, c64(l, l->operand_bits == 64), IR_NONE);
    go_on_at_rip(l);
}
void lift_sysenter(struct lifter *l, int variant)
{
    (void)variant;
    if (!in_makers_mode(l, true))
        return;
    run(l, X86_HELPER_sysenter, IR_NONE, IR_NONE);
    go_on_at_rip(l);
}

/* --- MSRs, time, identification */
static ir_ref reg32(struct lifter *l, unsigned n) { return wide(l, lift_reg_get(l, n, 32), IR_I32); }
static void put_edx_eax(struct lifter *l, ir_ref v)
{
    lift_reg_put(l, X86_RAX, 32, lift_resize(l, v, IR_I64, IR_I32, false));
    lift_reg_put(l, X86_RDX, 32, lift_resize(l, ir_op2(l->b, IR_shr, IR_I64, v, c64(l, 32)), IR_I64, IR_I32, false));
}
static ir_ref edx_eax(struct lifter *l)
{
    return ir_op2(l->b, IR_or, IR_I64, reg32(l, X86_RAX), ir_op2(l->b, IR_shl, IR_I64, reg32(l, X86_RDX), c64(l, 32)));
}

void lift_rdmsr(struct lifter *l, int variant)
{
    (void)variant;
    put_edx_eax(l, lift_call(l, IR_I64, X86_HELPER_rdmsr, reg32(l, X86_RCX), IR_NONE, IR_NONE, IR_NONE));
}
void lift_wrmsr(struct lifter *l, int variant)
{
    (void)variant;
    run(l, X86_HELPER_wrmsr, reg32(l, X86_RCX), edx_eax(l));
    go_on_next(l);
}
void lift_rdtsc(struct lifter *l, int with_aux)
{
    ir_ref v = lift_call(l, IR_I64, X86_HELPER_rdtsc, IR_NONE, IR_NONE, IR_NONE, IR_NONE);
    put_edx_eax(l, v);
    if (with_aux)
        lift_reg_put(l, X86_RCX, 32, lift_resize(l, lift_slot_get(l, IR_I64, SLOT(tsc_aux)), IR_I64, IR_I32, false));
}
void lift_rdpmc(struct lifter *l, int variant)
{
    (void)variant;
    lift_raise(l, X86_GP, true, 0); /* no counter is advertised: every index is out of range */
}
void lift_rdpid(struct lifter *l, int variant)
{
    (void)variant;
    ir_ref v = lift_slot_get(l, IR_I64, SLOT(tsc_aux));
    lift_write(l, 0, lift_resize(l, v, IR_I64, lift_type(l, 0), false));
}
void lift_cpuid(struct lifter *l, int variant)
{
    (void)variant;
    run(l, X86_HELPER_cpuid, IR_NONE, IR_NONE);
}

/* --- FS and GS bases.  variant: segment */
static bool fsgsbase_ok(struct lifter *l)
{
    if (!lift_is64(l)) {
        lift_ud(l);
        return false;
    }
    ir_ref bit = ir_op2(l->b, IR_and, IR_I64, lift_slot_get(l, IR_I64, SLOT(cr4)), c64(l, X86_CR4_FSGSBASE));
    lift_raise_if(l, ir_op2(l->b, IR_eq, IR_I64, bit, c64(l, 0)), X86_UD, false, 0);
    return true;
}
void lift_read_base(struct lifter *l, int seg)
{
    if (fsgsbase_ok(l))
        lift_write(l, 0, lift_resize(l, lift_slot_get(l, IR_I64, SLOT(seg_base) + 8 * seg), IR_I64, lift_type(l, 0), false));
}
void lift_write_base(struct lifter *l, int seg)
{
    if (fsgsbase_ok(l))
        run(l, X86_HELPER_base_write, c64(l, seg), read64(l, 0));
}
void lift_swapgs(struct lifter *l, int variant)
{
    (void)variant;
    if (!lift_is64(l)) {
        lift_ud(l);
        return;
    }
    if (needs_cpl0(l)) {
        ir_ref gs = lift_slot_get(l, IR_I64, SLOT(seg_base) + 8 * X86_GS), other = lift_slot_get(l, IR_I64, SLOT(kernel_gs_base));
        lift_slot_put(l, IR_I64, SLOT(seg_base) + 8 * X86_GS, other);
        lift_slot_put(l, IR_I64, SLOT(kernel_gs_base), gs);
    }
}

/* --- TLB and caches */
void lift_invlpg(struct lifter *l, int variant)
{
    (void)variant;
    enum x86_seg seg = lift_seg(l->op[0].mem.segment);
    ir_ref at = lift_ea(l, 0);
    if (!lift_is64(l) || seg >= X86_FS)
        at = ir_op2(l->b, IR_add, IR_I64, at, lift_slot_get(l, IR_I64, SLOT(seg_base) + 8 * seg));
    run(l, X86_HELPER_invlpg, at, IR_NONE);
    go_on_next(l);
}
void lift_invpcid(struct lifter *l, int variant)
{
    (void)variant;
    run(l, X86_HELPER_invpcid, wide(l, lift_gpr_get(l, l->op[0].reg.value), lift_type(l, 0)), lift_operand_linear(l, 1, 16, IR_READ));
    go_on_next(l);
}
void lift_nothing(struct lifter *l, int variant) { (void)l, (void)variant; } /* INVD, WBINVD: there are no caches */

/* --- Halting */
static void halt(struct lifter *l)
{
    lift_slot_put(l, IR_I8, SLOT(halted), lift_const(l, IR_I8, 1));
    lift_end_leave(l, IR_LEAVE_HALT);
}
void lift_hlt(struct lifter *l, int variant) { (void)variant; halt(l); }
/* Above CPL 0, MONITOR and MWAIT are #UD, not #GP (SDM 2B). */
static bool monitor_ok(struct lifter *l)
{
    if (lift_cpl(l))
        lift_ud(l);
    return !lift_cpl(l);
}
void lift_monitor(struct lifter *l, int variant)
{
    (void)variant;
    if (!monitor_ok(l))
        return;
    lift_token(l, l->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY ? lift_seg(l->op[0].mem.segment) : X86_DS, lift_is64(l) ? lift_reg_get(l, X86_RAX, 64) : reg32(l, X86_RAX), 1, IR_READ);
    ir_ref ecx = lift_reg_get(l, X86_RCX, 32);
    lift_raise_if(l, ir_op2(l->b, IR_ne, IR_I32, ecx, lift_const(l, IR_I32, 0)), X86_GP, true, 0);
}
/* A store by another agent may end the wait too: so it never sleeps, it only gives the turn away. */
void lift_mwait(struct lifter *l, int variant)
{
    (void)variant;
    if (!monitor_ok(l))
        return;
    ir_ref ecx = lift_reg_get(l, X86_RCX, 32); /* bit 0: interrupts wake although IF is clear (CPUID 5, ECX bit 1) */
    lift_raise_if(l, ir_op2(l->b, IR_ult, IR_I32, lift_const(l, IR_I32, 1), ecx), X86_GP, true, 0);
    lift_end_leave(l, IR_LEAVE_NEXT);
}

/* --- Flags */
void lift_set_if(struct lifter *l, int on)
{
    if (!on && l->mode & X86_MODE_IOPL_OK) { /* CLI opens nothing: it may stay in line */
        ir_ref f = lift_slot_get(l, IR_I32, SLOT(eflags));
        lift_slot_put(l, IR_I32, SLOT(eflags), ir_op2(l->b, IR_and, IR_I32, f, lift_const(l, IR_I32, ~X86_EFLAGS_IF)));
        return;
    }
    run(l, X86_HELPER_set_if, c64(l, on), lift_next_pc(l));
    if (l->counted)
        leave_next(l); /* `sti` is looked at at once */
    else
        go_on_next(l);
}

void lift_set_ac(struct lifter *l, int on)
{
    if (lift_cpl(l)) { /* #UD, not #GP (SDM 2A, CLAC) */
        lift_ud(l);
        return;
    }
    run(l, X86_HELPER_set_ac, c64(l, on), IR_NONE); /* the mode stays: at CPL 0 AC is a matter of rights alone */
}

void lift_pushf(struct lifter *l, int size)
{
    bool guarded = is_vm86(l) && !(l->mode & X86_MODE_IOPL_OK);
    if (guarded && size != 2) {
        lift_raise(l, X86_GP, true, 0);
        return;
    }
    ir_ref v = lift_call(l, IR_I64, guarded ? X86_HELPER_vm86_flags_read : X86_HELPER_eflags_read, IR_NONE, IR_NONE, IR_NONE, IR_NONE);
    v = ir_op2(l->b, IR_and, IR_I64, v, c64(l, ~(X86_EFLAGS_RF | X86_EFLAGS_VM)));
    lift_push(l, (unsigned)size, lift_resize(l, v, IR_I64, lift_int_type((unsigned)size * 8), false));
}

void lift_popf(struct lifter *l, int size)
{
    bool guarded = is_vm86(l) && !(l->mode & X86_MODE_IOPL_OK);
    if (guarded && size != 2) {
        lift_raise(l, X86_GP, true, 0);
        return;
    }
    uint32_t mask = X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF | X86_EFLAGS_ZF | X86_EFLAGS_SF | X86_EFLAGS_TF | X86_EFLAGS_DF |
                    X86_EFLAGS_OF | X86_EFLAGS_NT | X86_EFLAGS_RF | X86_EFLAGS_AC | X86_EFLAGS_ID;
    if (l->mode & X86_MODE_IOPL_OK)
        mask |= X86_EFLAGS_IF;
    if (!lift_cpl(l) && !is_vm86(l))
        mask |= X86_EFLAGS_IOPL;
    if (size == 2)
        mask &= 0xffff;
    ir_ref sp = lift_sp_get(l), v = lift_load(l, lift_int_type((unsigned)size * 8), lift_token(l, X86_SS, sp, (unsigned)size, IR_READ), 0);
    ir_ref value = ir_op2(l->b, IR_and, IR_I64, wide(l, v, lift_int_type((unsigned)size * 8)), c64(l, ~(int64_t)X86_EFLAGS_RF));
    if (guarded)
        run(l, X86_HELPER_vm86_flags_write, value, IR_NONE);
    else
        run(l, X86_HELPER_eflags_write, value, c64(l, mask)); /* cannot fault: the stack was read before */
    lift_sp_put(l, ir_op2(l->b, IR_add, IR_I64, sp, c64(l, size)));
    go_on_next(l);
}

/* --- Port I/O.  Operand order: IN acc, port; OUT port, acc. */
static ir_ref port_of(struct lifter *l, unsigned operand)
{
    if (lift_is_imm(l, operand))
        return c64(l, (int64_t)(l->op[operand].imm.value.u & 0xff));
    return wide(l, lift_reg_get(l, X86_RDX, 16), IR_I16);
}

void lift_in(struct lifter *l, int variant)
{
    (void)variant;
    enum ir_type t = lift_type(l, 0);
    ir_ref v = lift_call(l, IR_I64, X86_HELPER_in, port_of(l, 1), c64(l, ir_type_bytes(t)), IR_NONE, IR_NONE);
    lift_write(l, 0, lift_resize(l, v, IR_I64, t, false));
}

/* The write may raise an interrupt or end the machine: the loop looks at both. */
void lift_out(struct lifter *l, int variant)
{
    (void)variant;
    enum ir_type t = lift_type(l, 1);
    lift_call(l, IR_VOID, X86_HELPER_out, port_of(l, 0), c64(l, ir_type_bytes(t)), wide(l, lift_read(l, 1), t), IR_NONE);
    leave_next(l);
}

/* variant: element size | 0x100 for OUTS */
void lift_io_string(struct lifter *l, int variant)
{
    bool out = variant & 0x100, rep = l->in.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
    enum x86_seg seg = X86_DS;
    for (unsigned i = 0; out && i < l->in.operand_count; i++)
        if (l->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
            seg = lift_seg(l->op[i].mem.segment);
    int64_t how = (variant & 0xff) | (int64_t)l->address_bits << 8 | (int64_t)seg << 16 | (int64_t)rep << 24;
    ir_ref more = lift_call(l, IR_I64, X86_HELPER_io_string, c64(l, out), c64(l, how), IR_NONE, IR_NONE);
    if (rep)
        ir_emit(l->b, IR_exit_if, IR_VOID, 0, l->offset, ir_op2(l->b, IR_ne, IR_I64, more, c64(l, 0)), IR_NONE, IR_NONE, IR_NONE);
    leave_next(l);
}

void lift_ud_always(struct lifter *l, int variant) { (void)variant; lift_ud(l); }
