/* From a region to its object: builds the function, runs the passes, has LLVM emit machine code, and links that (object.c).
 * All that LLVM makes hangs on a context of this one compilation. */
#include "backend-llvm/internal.h"
#include <llvm-c/Analysis.h>
#include <llvm-c/Support.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Chosen by measurement: docs/pipeline.md has the figures. */
#define PIPELINE "function(mem2reg,instcombine<no-verify-fixpoint>,early-cse<memssa>,simplifycfg,sccp,jump-threading," \
                 "correlated-propagation,gvn<no-load-pre>,loop-mssa(licm<allowspeculation>),instcombine<no-verify-fixpoint>,simplifycfg,sink,adce)"

static pthread_once_t initialised = PTHREAD_ONCE_INIT;
static void initialise(void) /* LLVM's tables of targets are its process's */
{
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
    LLVMInitializeX86AsmParser();
    /* The one is a seventh of all emission, to move integers into AVX-512's mask registers; the other keeps in variables of the
     * loop what only its ways out need. */
    static const char *const words[] = {"tierce", "-disable-x86-domain-reassignment", "-disable-lsr"};
    LLVMParseCommandLineOptions(3, words, NULL);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct job { struct fn f; LLVMTargetMachineRef machine; LLVMDIBuilderRef lines; uint64_t begin; };

static LLVMTargetMachineRef machine_for_host(char *error, size_t size)
{
    LLVMTargetRef target;
    char *message = NULL, *cpu = LLVMGetHostCPUName(), *features = LLVMGetHostCPUFeatures();
    LLVMTargetMachineRef m = NULL;
    if (LLVMGetTargetFromTriple("x86_64-pc-linux-gnu", &target, &message))
        snprintf(error, size, "LLVM: %s", message);
    else if (!(m = LLVMCreateTargetMachine(target, "x86_64-pc-linux-gnu", cpu, features, LLVMCodeGenLevelDefault, LLVMRelocPIC, LLVMCodeModelSmall)))
        snprintf(error, size, "LLVM makes no code for '%s'", cpu);
    LLVMDisposeMessage(message);
    LLVMDisposeMessage(cpu);
    LLVMDisposeMessage(features);
    return m;
}

char *llvm_fingerprint(void)
{
    unsigned major, minor, patch;
    char *text = NULL, *cpu = LLVMGetHostCPUName(), *features = LLVMGetHostCPUFeatures();
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (f) {
        LLVMGetVersion(&major, &minor, &patch);
        fprintf(f, "LLVM %u.%u.%u %s %s ", major, minor, patch, cpu, features);
        for (unsigned op = 0; op < IR_OP_COUNT; op++)
            fputc(ir_host_runs((enum ir_op)op) ? '+' : '-', f);
        if (fclose(f))
            free(text), text = NULL;
    }
    LLVMDisposeMessage(cpu);
    LLVMDisposeMessage(features);
    return text;
}

/* Line n of the function stands for the guest instruction at n - OBJECT_LINE_BASE from the region's first, to which the prologue is counted. */
static void begin_lines(struct job *j)
{
    struct fn *f = &j->f;
    j->lines = LLVMCreateDIBuilder(f->module);
    LLVMMetadataRef file = LLVMDIBuilderCreateFile(j->lines, "guest", 5, "", 0);
    LLVMDIBuilderCreateCompileUnit(j->lines, LLVMDWARFSourceLanguageC, file, "tierce", 6, 1, "", 0, 0, "", 0, LLVMDWARFEmissionLineTablesOnly, 0, 0, 0, "", 0, "", 0);
    LLVMMetadataRef type = LLVMDIBuilderCreateSubroutineType(j->lines, file, NULL, 0, LLVMDIFlagZero);
    f->di_scope = LLVMDIBuilderCreateFunction(j->lines, file, "region", 6, "", 0, file, OBJECT_LINE_BASE, type, 0, 1, OBJECT_LINE_BASE, LLVMDIFlagZero, 1);
    LLVMAddModuleFlag(f->module, LLVMModuleFlagBehaviorWarning, "Debug Info Version", 18,
                      LLVMValueAsMetadata(LLVMConstInt(LLVMInt32TypeInContext(f->context), LLVMDebugMetadataVersion(), 0)));
}

static void end_lines(struct job *j)
{
    if (!j->lines)
        return;
    LLVMSetSubprogram(j->f.function, j->f.di_scope);
    LLVMDIBuilderFinalize(j->lines);
    LLVMDisposeDIBuilder(j->lines);
}

static void print_stage(const struct job *j, enum llvm_stage stage)
{
    const struct llvm_options *o = j->f.o;
    char *text = NULL, *message = NULL;
    LLVMMemoryBufferRef buffer = NULL;
    if (!(o->stages & stage))
        return;
    if (stage != LLVM_STAGE_ASM) {
        text = LLVMPrintModuleToString(j->f.module);
        o->print(o->ctx, stage, text);
    } else if (LLVMTargetMachineEmitToMemoryBuffer(j->machine, j->f.module, LLVMAssemblyFile, &message, &buffer)) {
        o->print(o->ctx, stage, message);
    } else {
        o->print(o->ctx, stage, LLVMGetBufferStart(buffer));
        LLVMDisposeMemoryBuffer(buffer);
    }
    LLVMDisposeMessage(text);
    LLVMDisposeMessage(message);
}

static bool run_passes(struct job *j, char *error, size_t size)
{
    LLVMPassBuilderOptionsRef options = LLVMCreatePassBuilderOptions();
#ifndef NDEBUG
    LLVMPassBuilderOptionsSetVerifyEach(options, 1);
#endif
    LLVMErrorRef failed = LLVMRunPasses(j->f.module, PIPELINE, j->machine, options);
    LLVMDisposePassBuilderOptions(options);
    if (failed) {
        char *message = LLVMGetErrorMessage(failed);
        snprintf(error, size, "LLVM's passes: %s", message);
        LLVMDisposeErrorMessage(message);
    }
    return !failed;
}

static bool emit(struct job *j, const struct object_meta *meta, struct llvm_compiled *out, char *error, size_t size)
{
    LLVMMemoryBufferRef buffer = NULL;
    char *message = NULL;
    print_stage(j, LLVM_STAGE_ASM);
    if (LLVMTargetMachineEmitToMemoryBuffer(j->machine, j->f.module, LLVMObjectFile, &message, &buffer)) {
        snprintf(error, size, "LLVM: %s", message);
        LLVMDisposeMessage(message);
        return false;
    }
    bool ok = object_link(LLVMGetBufferStart(buffer), LLVMGetBufferSize(buffer), meta, &out->elf, &out->elf_size, error, size);
    LLVMDisposeMemoryBuffer(buffer);
    return ok;
}

static bool make(struct job *j, struct object_meta *meta, struct llvm_compiled *out, char *error, size_t size)
{
    const char *refused = region_build(&j->f);
    if (refused) {
        snprintf(error, size, "not for a region: %s", refused);
        return false;
    }
    meta->exits = j->f.exits;
    meta->exit_count = j->f.exit_count;
    end_lines(j);
    print_stage(j, LLVM_STAGE_IR);
#ifndef NDEBUG
    char *message = NULL;
    bool broken = LLVMVerifyModule(j->f.module, LLVMReturnStatusAction, &message);
    if (broken)
        snprintf(error, size, "LLVM's verifier: %s", message);
    LLVMDisposeMessage(message);
    if (broken)
        return false;
#endif
    uint64_t built = now_ns();
    if (!run_passes(j, error, size))
        return false;
    uint64_t passed = now_ns();
    print_stage(j, LLVM_STAGE_OPT);
    if (!emit(j, meta, out, error, size))
        return false;
    out->build_ns = built - j->begin;
    out->pass_ns = passed - built;
    out->emit_ns = now_ns() - passed;
    out->side_exits = j->f.side_exits;
    return true;
}

bool llvm_compile(const struct llvm_region *r, const struct llvm_options *o, struct llvm_compiled *out, char *error, size_t size)
{
    struct object_meta meta = r->about ? *r->about : (struct object_meta){0};
    pthread_once(&initialised, initialise);
    *out = (struct llvm_compiled){0};
    meta.name = region_name(r);
    meta.block_count = r->block_count;
    meta.guest_insns = 0;
    for (unsigned n = 0; n < r->block_count; n++)
        meta.guest_insns += r->blocks[n].ir->guest_insns;
    out->guest_insns = meta.guest_insns;
    struct job *j = calloc(1, sizeof *j);
    if (!j) {
        snprintf(error, size, "out of memory");
        return false;
    }
    j->begin = now_ns();
    struct fn *f = &j->f;
    f->r = r;
    f->o = o;
    bool ok = false;
    if ((j->machine = machine_for_host(error, size))) {
        f->context = LLVMContextCreate();
        f->module = LLVMModuleCreateWithNameInContext("tierce", f->context);
        f->builder = LLVMCreateBuilderInContext(f->context);
        LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(j->machine);
        LLVMSetModuleDataLayout(f->module, layout);
        LLVMDisposeTargetData(layout);
        LLVMSetTarget(f->module, "x86_64-pc-linux-gnu");
        if (o->lines)
            begin_lines(j);
        ok = make(j, &meta, out, error, size);
        LLVMDisposeBuilder(f->builder);
        LLVMDisposeModule(f->module);
        LLVMContextDispose(f->context);
        LLVMDisposeTargetMachine(j->machine);
    }
    free(f->exits);
    free(j);
    return ok;
}
