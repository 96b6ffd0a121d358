/* What -d prints: guest code, IR, host code, execution. */
#include "runtime/internal.h"

static void print_insns(FILE *f, uint32_t mode, uint64_t pc, const uint8_t *bytes, unsigned size)
{
    for (unsigned at = 0; at < size;) {
        char text[128];
        unsigned n = x86_disassemble(mode, pc + at, bytes + at, size - at, text, sizeof text);
        fprintf(f, "0x%08lx:  ", pc + at);
        if (!n) {
            fprintf(f, "%02x  (bad)\n", bytes[at++]);
            continue;
        }
        for (unsigned i = 0; i < n; i++)
            fprintf(f, "%02x", bytes[at + i]);
        fprintf(f, "%*s  %s\n", n < 10 ? (int)(20 - 2 * n) : 0, "", text);
        at += n;
    }
}

void trace_block(struct vcpu *v, unsigned what, const struct ir_block *block)
{
    FILE *f = v->machine->config.trace_file;
    const struct x86_state *s = &v->cpu.state;
    if (what & TRACE_IN_ASM) {
        uint8_t bytes[4096 + 16];
        unsigned n = block->guest_bytes < sizeof bytes ? block->guest_bytes : sizeof bytes;
        fprintf(f, "----------------\nIN:\n");
        if (machine_debug_read(v->machine, tb_linear(s), false, bytes, n))
            print_insns(f, s->mode, s->rip, bytes, n);
    }
    if (what & (TRACE_IR | TRACE_IR_OPT)) {
        fprintf(f, "IR%s for 0x%lx:\n", what & TRACE_IR_OPT ? " after optimisation" : "", s->rip);
        ir_print(f, block, &x86_guest);
    }
    fflush(f);
}

void trace_out(struct vcpu *v, const struct tb *tb)
{
    FILE *f = v->machine->config.trace_file;
    fprintf(f, "OUT: [size=%u] for 0x%lx\n", tb->code.code_size, tb->pc);
    print_insns(f, X86_MODE_CODE64 | X86_MODE_PE, (uint64_t)tb->code.entry, tb->code.entry, tb->code.code_size);
    fflush(f);
}

void trace_cpu(struct vcpu *v, const struct tb *tb)
{
    FILE *f = v->machine->config.trace_file;
    if (v->machine->config.trace & TRACE_EXEC)
        fprintf(f, "Trace: %p [%016lx/%08x]\n", tb->code.entry, tb->pc, tb->mode);
    if (v->machine->config.trace & TRACE_CPU)
        x86_state_print(f, &v->cpu.state);
}
