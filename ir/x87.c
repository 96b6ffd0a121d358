/* What x87 functions mean: the host's own x87 does them.  The state's registers, control and status word are loaded, the
 * function runs, and all is saved again.  No instruction that could report a pending exception comes before the save, so
 * an exception that the guest has unmasked gives the unmasked response and stays pending in the status word, as on
 * the guest's CPU. */
#include "ir/ir.h"
#include <string.h>

/* Four bytes of code for each opcode D8 + n and ModRM byte: the instruction and a RET.  Memory forms have
 * their operand at RDX (mod 0, rm 2). */
__asm__(".pushsection .text\n"
        ".p2align 4\n"
        "tierce_x87_stubs:\n"
        ".set tierce_x87_op, 0\n"
        ".rept 8\n"
        ".set tierce_x87_modrm, 0\n"
        ".rept 256\n"
        ".byte 0xd8 + tierce_x87_op, tierce_x87_modrm, 0xc3, 0x90\n"
        ".set tierce_x87_modrm, tierce_x87_modrm + 1\n"
        ".endr\n"
        ".set tierce_x87_op, tierce_x87_op + 1\n"
        ".endr\n"
        ".popsection\n");
extern const uint8_t tierce_x87_stubs[] __attribute__((visibility("hidden")));

/* FNSAVE's image, 32-bit protected format (SDM 1 figure 8-9) */
struct image { uint32_t fcw, fsw, ftw, fip, fcs, fdp, fds; uint8_t st[8][10]; } __attribute__((packed));
enum { TOP_SHIFT = 11, TOP = 7 << TOP_SHIFT, MASKS = 0x3f, EMPTY = 3, REGISTER = 16, PHYSICAL = 7 };

static void image_make(const uint8_t *state, const struct ir_x87 *x, struct image *m)
{
    uint16_t fcw, fsw;
    unsigned top = state[x->top], tags = state[x->tags];
    memcpy(&fcw, state + x->control, sizeof fcw);
    memcpy(&fsw, state + x->status, sizeof fsw);
    *m = (struct image){.fcw = fcw, .fsw = fsw | top << TOP_SHIFT};
    for (unsigned i = 0; i < 8; i++) {
        m->ftw |= (tags >> i & 1 ? 0u : EMPTY) << 2 * i;
        memcpy(m->st[i], state + x->registers + REGISTER * ((top + i) & PHYSICAL), 10);
    }
}

static void image_take(uint8_t *state, const struct ir_x87 *x, const struct image *m)
{
    unsigned top = m->fsw >> TOP_SHIFT & PHYSICAL, tags = 0;
    uint16_t fsw = (uint16_t)(m->fsw & ~(uint32_t)TOP);
    for (unsigned i = 0; i < 8; i++) {
        tags |= (unsigned)((m->ftw >> 2 * i & EMPTY) != EMPTY) << i;
        memcpy(state + x->registers + REGISTER * ((top + i) & PHYSICAL), m->st[i], 10);
    }
    memcpy(state + x->status, &fsw, sizeof fsw);
    state[x->top] = (uint8_t)top;
    state[x->tags] = (uint8_t)tags;
}

/* Exceptions that are pending before the function: the guest's CPU was told to ignore them (IGNNE#).  The host's has no such
 * pin, so it does not know of them meanwhile; those of the function itself have their response, masked or not. */
enum { SUMMARY = 0x8080, STICKY = 0x7f };
static unsigned pending_hide(struct image *m)
{
    unsigned pending = m->fsw & ~m->fcw & MASKS ? (m->fsw & STICKY) | SUMMARY : 0;
    m->fsw &= ~pending;
    return pending;
}

static const struct { uint32_t eflags, packed; } pairs[] = {
    {1, IR_FLAG_C}, {4, IR_FLAG_P}, {0x10, IR_FLAG_A}, {0x40, IR_FLAG_Z}, {0x80, IR_FLAG_S}, {0x800, IR_FLAG_O}};

uint32_t ir_x87_run(void *state, const struct ir_guest *g, unsigned function, void *operand, uint32_t flags)
{
    bool memory = (function & 0xc0) != 0xc0;
    const uint8_t *stub = tierce_x87_stubs + 4 * (memory ? (function & 0x738) | 2 : function & 0x7ff);
    struct image m;
    uint64_t rflags = 2;
    uint32_t packed = 0;
    for (unsigned i = 0; i < 6; i++)
        rflags |= flags & pairs[i].packed ? pairs[i].eflags : 0;
    image_make(state, &g->x87, &m);
    unsigned ignored = pending_hide(&m);
    __asm__ volatile("frstor %[m]\n\t"
                     "leaq -136(%%rsp), %%rsp\n\t"   /* past the red zone */
                     "pushq %[flags]\n\tpopfq\n\t"
                     "call *%[stub]\n\t"
                     "pushfq\n\tpopq %[flags]\n\t"
                     "leaq 136(%%rsp), %%rsp\n\t"
                     "fnsave %[m]"
                     : [m] "+m"(m), [flags] "+b"(rflags)
                     : [stub] "r"(stub), "d"(operand)
                     : "memory", "cc", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)");
    m.fsw |= ignored;
    image_take(state, &g->x87, &m);
    for (unsigned i = 0; i < 6; i++)
        packed |= rflags & pairs[i].eflags ? pairs[i].packed : 0;
    return packed;
}

bool ir_x87_store(void *state, const struct ir_guest *g, unsigned function, unsigned size, void *operand)
{
    static const uint8_t canary[2] = {0x55, 0xaa};
    const struct ir_x87 *x = &g->x87;
    struct image before;
    uint8_t *bytes = operand;
    image_make(state, x, &before);
    for (unsigned i = 0; i < 2; i++) {
        image_take(state, x, &before);
        memset(bytes, canary[i], size);
        ir_x87_run(state, g, function, operand, 0);
        for (unsigned k = 0; k < size; k++)
            if (bytes[k] != canary[i])
                return true;
    }
    return false;
}

void ir_x87_enter(const void *state, const struct ir_guest *g)
{
    struct image m;
    image_make(state, &g->x87, &m);
    __asm__ volatile("frstor %0" : : "m"(m));
}

void ir_x87_leave(void *state, const struct ir_guest *g)
{
    struct image m;
    __asm__ volatile("fnsave %0" : "=m"(m));
    image_take(state, &g->x87, &m);
}
