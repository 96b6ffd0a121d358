/* What -d prints, in the forms that users of QEMU know: guest code, IR, host code, execution, interrupts, the MMU.
 * The vCPU's thread prints, and with the LLVM tier the compiling thread: lines that belong together are written under a lock. */
#include "runtime/internal.h"

static FILE *file_of(const struct vcpu *v) { return v->machine->config.trace_file; }

static FILE *begin(struct machine *m)
{
    pthread_mutex_lock(&m->trace_lock);
    return m->config.trace_file;
}
static void end(struct machine *m) { pthread_mutex_unlock(&m->trace_lock); }

/* -dfilter: no ranges, or one of them has the PC. */
static bool wanted(const struct machine *m, uint64_t pc)
{
    const struct machine_config *c = &m->config;
    for (unsigned i = 0; i < c->trace_ranges; i++)
        if (pc >= c->trace_range[i].first && pc <= c->trace_range[i].last)
            return true;
    return !c->trace_ranges;
}

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

/* --- Translation */
/* As QEMU, the function's name without the offset in it. */
static void print_heading(FILE *f, const struct machine *m, uint64_t linear)
{
    uint64_t offset;
    const char *name = symbols_find(m->symbols, linear, &offset);
    fprintf(f, "----------------\nIN:%s%s\n", name ? " " : "", name ? name : "");
}

void trace_block(struct vcpu *v, unsigned what, const struct ir_block *block)
{
    const struct x86_state *s = &v->cpu.state;
    if (!wanted(v->machine, s->rip))
        return;
    FILE *f = begin(v->machine);
    if (what & TRACE_IN_ASM) {
        uint8_t bytes[PAGE + 16];
        unsigned n = block->guest_bytes < sizeof bytes ? block->guest_bytes : sizeof bytes;
        print_heading(f, v->machine, tb_linear(s));
        if (machine_debug_read(v->machine, tb_linear(s), false, bytes, n))
            print_insns(f, s->mode, s->rip, bytes, n);
        fputc('\n', f);
    }
    if (what & (TRACE_IR | TRACE_IR_OPT)) {
        fprintf(f, "IR%s for 0x%lx:\n", what & TRACE_IR_OPT ? " after optimisation" : "", s->rip);
        ir_print(f, block, &x86_guest);
        fputc('\n', f);
    }
    end(v->machine);
}

void trace_host(struct vcpu *v, const char *of, uint64_t pc, const void *code, size_t size)
{
    if (!wanted(v->machine, pc))
        return;
    FILE *f = begin(v->machine);
    fprintf(f, "OUT:%s%s [size=%zu] for 0x%lx\n", *of ? " " : "", of, size, pc);
    print_insns(f, X86_MODE_CODE64 | X86_MODE_PE, (uint64_t)code, code, size);
    fputc('\n', f);
    end(v->machine);
}

void trace_out(struct vcpu *v, const struct tb *tb) { trace_host(v, "", tb->pc, tb->code.entry, tb->code.code_size); }

void trace_llvm(struct machine *m, uint64_t pc, enum llvm_stage stage, const char *text)
{
    static const char *const titles[] = {[LLVM_STAGE_IR] = "LLVM IR", [LLVM_STAGE_OPT] = "LLVM IR after optimisation", [LLVM_STAGE_ASM] = "LLVM OUT"};
    if (!wanted(m, pc))
        return;
    FILE *f = begin(m);
    fprintf(f, "%s for 0x%lx:\n%s\n", titles[stage], pc, text);
    end(m);
}

/* --- Execution.  tb NULL: one instruction, which is interpreted. */
void trace_cpu(struct vcpu *v, const struct tb *tb)
{
    const struct x86_state *s = &v->cpu.state;
    unsigned trace = v->machine->config.trace;
    if (!wanted(v->machine, s->rip))
        return;
    FILE *f = begin(v->machine);
    if (trace & TRACE_EXEC) /* [code segment's base/PC/mode/instructions] */
        fprintf(f, "Trace 0: %p [%016lx/%016lx/%08x/%u]\n", tb ? tb->code.entry : NULL, tb_linear(s) - s->rip, s->rip, s->mode, tb ? tb->insns : 1);
    if (trace & TRACE_CPU)
        x86_state_print(f, s);
    end(v->machine);
}

/* --- Interrupts, exceptions and the MMU */
static void print_delivery(struct vcpu *v, unsigned vector, bool soft, uint32_t error)
{
    const struct x86_state *s = &v->cpu.state;
    FILE *f = begin(v->machine);
    fprintf(f, "%6lu: v=%02x e=%04x i=%d cpl=%u IP=%04x:%016lx pc=%016lx SP=%04x:%016lx", v->deliveries++, vector, error, soft, s->cpl,
            s->seg_sel[X86_CS], s->rip, tb_linear(s), s->seg_sel[X86_SS], s->gpr[X86_RSP]);
    if (vector == X86_PF)
        fprintf(f, " CR2=%016lx\n", s->cr2);
    else
        fprintf(f, " RAX=%016lx\n", s->gpr[X86_RAX]);
    end(v->machine);
}

void trace_delivery(struct x86_cpu *cpu, unsigned vector, bool soft, bool has_error, uint32_t error)
{
    struct vcpu *v = vcpu_of(cpu);
    unsigned trace = v->machine->config.trace;
    if (trace & TRACE_MMU && vector == X86_PF)
        fprintf(file_of(v), "mmu: fault at %016lx by %04x:%016lx: %s by %s, %s\n", cpu->state.cr2, cpu->state.seg_sel[X86_CS], cpu->state.rip,
                error & 16 ? "fetch" : error & 2 ? "write" : "read", error & 4 ? "user" : "supervisor",
                error & 8 ? "reserved bit" : error & 1 ? "no right to it" : "not present");
    if (trace & TRACE_INT)
        print_delivery(v, vector, soft, has_error ? error : 0);
}

void trace_interrupt(struct vcpu *v, unsigned vector)
{
    if (v->machine->config.trace & TRACE_INT)
        fprintf(file_of(v), "Servicing hardware INT=0x%02x\n", vector);
}

void trace_shutdown(struct vcpu *v)
{
    if (v->machine->config.trace & TRACE_INT)
        fprintf(file_of(v), "Triple fault at %04x:%016lx\n", v->cpu.state.seg_sel[X86_CS], v->cpu.state.rip);
}

void trace_fill(struct vcpu *v, uint64_t linear, const struct x86_page *page, bool user, bool writable)
{
    fprintf(file_of(v), "mmu: fill %016lx -> %016lx %c%c %s, page of %lu KiB%s\n", (uint64_t)(linear & PAGE_MASK), (uint64_t)(page->physical & PAGE_MASK),
            page->readable ? 'r' : '-', writable ? 'w' : '-', user ? "user" : "supervisor", page->page_size >> 10, page->global ? ", global" : "");
}

void trace_flush(struct vcpu *v, enum x86_flush what, uint64_t linear)
{
    if (what == X86_FLUSH_PAGE)
        fprintf(file_of(v), "mmu: flush %016lx\n", (uint64_t)(linear & PAGE_MASK));
    else
        fprintf(file_of(v), "mmu: flush %s\n", what == X86_FLUSH_ALL ? "all" : "all but global pages");
}
