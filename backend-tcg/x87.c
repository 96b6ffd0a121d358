/* x87: while translated code runs, the guest's x87 may live in the host's, registers, TOP, tags, status and all, so that
 * each function is the host's own instruction.  It goes there at the first x87 operation that finds it elsewhere, and
 * back into the state before anything else looks at it: a slot or a helper of that class, or the end of tcg_run.
 * The pointers to the last function are known when the block is compiled: they are stored where it is left, not before.
 * C code that is called in between does not touch the x87 (no long double in it). */
#include "backend-tcg/internal.h"

enum x87_place { UNKNOWN, HOST, STATE }; /* where a block knows it to be; every block begins with UNKNOWN */
enum { MASKS = 0x3f };

static struct tcg_context *context(void *state) { return (struct tcg_context *)((char *)state - sizeof(struct tcg_context)); }

__attribute__((used)) void tierce_tcg_x87_moved(void *state);
void tierce_tcg_x87_moved(void *state)
{
    struct tcg_context *c = context(state);
    if (c->x87_in_host)
        ir_x87_leave(state, c->guest);
    else
        ir_x87_enter(state, c->guest);
    c->x87_in_host = !c->x87_in_host;
}

/* Called from the middle of a block: all registers stay but EFLAGS.  RSP + 8 is a multiple of 16 here. */
__asm__(".pushsection .text\n"
        ".p2align 4\n"
        "tierce_tcg_x87_move:\n"
        "pushq %rax\n pushq %rcx\n pushq %rdx\n pushq %rsi\n pushq %rdi\n pushq %r8\n pushq %r9\n pushq %r10\n pushq %r11\n"
        "subq $256, %rsp\n"
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
        "movaps %xmm\\n, 16 * \\n(%rsp)\n"
        ".endr\n"
        "movq %rbp, %rdi\n"
        "call tierce_tcg_x87_moved\n"
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
        "movaps 16 * \\n(%rsp), %xmm\\n\n"
        ".endr\n"
        "addq $256, %rsp\n"
        "popq %r11\n popq %r10\n popq %r9\n popq %r8\n popq %rdi\n popq %rsi\n popq %rdx\n popq %rcx\n popq %rax\n"
        "ret\n"
        ".popsection\n");
extern const uint8_t tierce_tcg_x87_move[] __attribute__((visibility("hidden")));

void tcg_x87_begin(void *state, const struct ir_guest *g)
{
    struct tcg_context *c = context(state);
    c->guest = g;
    c->x87_move = tierce_tcg_x87_move;
    c->x87_moved = tierce_tcg_x87_moved;
}

void tcg_x87_end(void *state)
{
    if (context(state)->x87_in_host)
        tierce_tcg_x87_moved(state);
}

static void place(struct tcg *t, enum x87_place where)
{
    if (t->x87 == where)
        return;
    emit_alu_mem_imm(t, 7, 1, RBP, CONTEXT(x87_in_host), 0);
    put8(t, where == HOST ? 0x75 : 0x74); /* jnz, jz over the call */
    put8(t, 0);
    uint8_t *from = t->p;
    emit_rm(t, 0, 0xff, 4, 2, RBP, CONTEXT(x87_move));
    if (!t->full)
        from[-1] = (uint8_t)(t->p - from);
    t->x87 = (uint8_t)where;
    t->host_flags = IR_NONE;
}

/* Stores the pointers to the last function, by register k. EFLAGS stay. */
static void pointers(struct tcg *t, const struct x87_pointers *p, unsigned k)
{
    emit_moving(t, k, RELOC_PC, (int32_t)p->offset);
    emit_rm(t, 0, 0x89, 8, k, RBP, (int32_t)t->g->x87.pc);
    emit_imm(t, k, p->opcode);
    emit_rm(t, 0, 0x89, 2, k, RBP, (int32_t)t->g->x87.opcode);
}

void tcg_x87_leave(struct tcg *t, const struct x87_pointers *p)
{
    if (p->known)
        pointers(t, p, RAX);
}

static bool is_slot(const struct ir_x87 *x, uint64_t at)
{
    return at == x->status || at == x->pc || at == x->opcode || at == x->top || at == x->tags || at - x->registers < 8 * 16;
}

void tcg_x87_before(struct tcg *t, const struct ir_insn *i)
{
    const struct ir_helper *h = i->op == IR_call ? &t->g->helpers[i->imm] : NULL;
    bool slot = (i->op == IR_get || i->op == IR_put) && is_slot(&t->g->x87, (uint64_t)i->imm);
    bool looks = slot || (h && (h->reads | h->writes) & IR_S_FPU);
    if (looks)
        place(t, STATE);
    if (t->x87_pointers.known && (looks || i->op == IR_exit_if || ir_op_info[i->op].props & ENDS)) {
        pointers(t, &t->x87_pointers, gpr_temp(t));
        t->x87_pointers.known = false;
    }
}

static void bytes(struct tcg *t, unsigned f)
{
    put8(t, 0xd8 | f >> 8);
    put8(t, f & 0xff);
}

static void function(struct tcg *t, const struct ir_insn *i)
{
    bytes(t, i->aux);
    t->x87_pointers = (struct x87_pointers){true, i->aux, t->insn_offset};
}

static void flags(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    gpr_take(t, RAX);
    function(t, i);
    emit_rr(t, 0, 0x0f90, 1, 0, RAX); /* seto al */
    put8(t, 0x9f);                    /* lahf */
    emit_rr(t, 0, 0x0fb7, 4, RAX, RAX);
    own(t, self, RAX);
}

static void move_if(struct tcg *t, const struct ir_insn *i)
{
    use_in(t, i->arg[0], RAX);
    put8(t, 0x9e); /* sahf: none of these functions looks at OF */
    function(t, i);
}

static void memory(struct tcg *t, const struct ir_insn *i)
{
    unsigned base, index;
    place_of(t, i->arg[0], &base, &index);
    tcg_site(t);
    emit_mem(t, 0, 0xd8u | i->aux >> 8, 4, i->aux >> 3 & 7, base, index, 0, 0);
    t->x87_pointers = (struct x87_pointers){true, i->aux, t->insn_offset};
}

static void status(struct tcg *t, ir_ref self)
{
    gpr_take(t, RAX);
    bytes(t, 0x7e0); /* fnstsw ax */
    emit_rr(t, 0, 0x0fb7, 4, RAX, RAX);
    own(t, self, RAX);
}

static void control(struct tcg *t)
{
    unsigned k = gpr_temp(t);
    emit_rm(t, 0, 0x0fb7, 4, k, RBP, (int32_t)t->g->x87.control);
    emit_alu_imm(t, 1, 4, k, MASKS);
    emit_rm(t, 0, 0x89, 4, k, RSP, F_SCRATCH);
    emit_rm(t, 0, 0xd9, 4, 5, RSP, F_SCRATCH); /* fldcw */
}

bool tcg_x87_emit(struct tcg *t, const struct ir_insn *i, ir_ref self)
{
    if (!(ir_op_info[i->op].props & X87))
        return false;
    place(t, HOST);
    switch ((unsigned)i->op) {
    case IR_x87: function(t, i); break;
    case IR_x87_flags: flags(t, i, self); break;
    case IR_x87_move_if: move_if(t, i); break;
    case IR_x87_load: case IR_x87_store: memory(t, i); break;
    case IR_x87_status: status(t, self); break;
    case IR_x87_control: control(t); break;
    case IR_x87_clear: bytes(t, 0x3e2); break; /* fnclex */
    default: return false;
    }
    t->host_flags = i->op == IR_x87 || i->op == IR_x87_load || i->op == IR_x87_store ? t->host_flags : IR_NONE;
    return true;
}
