/* The command line of tierce-ir: one table, from which the help text and the messages come too. */
#include "tools/tierce-ir/work.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define FIELD(name) offsetof(struct options, name)

static void set_accesses(void *all, const struct option *o, const char *word)
{
    static const char *const words[] = {[ALIGNED] = "aligned", [MOVING] = "moving", [MISALIGNED] = "misaligned", [UNKNOWN] = "unknown"};
    unsigned i = ALIGNED;
    while (i <= UNKNOWN && strcmp(words[i], word))
        i++;
    if (i > UNKNOWN)
        die(2, "--%s '%s': accepted are aligned, moving, misaligned, unknown", o->name, word);
    ((struct options *)all)->accesses = (enum accesses)i;
}

static void set_stages(void *all, const struct option *o, const char *list)
{
    unsigned *stages = &((struct options *)all)->stages;
    *stages = 0;
    for (const char *at = list; ; at++) {
        size_t n = strcspn(at, ",");
        unsigned s = 0;
        while (s < STAGES && !(strlen(stage_names[s]) == n && !strncmp(at, stage_names[s], n)))
            s++;
        if (s == STAGES)
            die(2, "--%s '%s': accepted are in_asm,ir,ir_opt,out_asm,llvm_ir,llvm_opt,llvm_asm", o->name, list);
        *stages |= STAGE(s);
        if (!*(at += n))
            return;
    }
}

static const struct option rows[] = {
    {"hex", "BYTES", "guest code as hexadecimal bytes: '48 01 d8 c3'", OPTION_TEXT, FIELD(hex)},
    {"file", "FILE", "guest code in a raw file", OPTION_TEXT, FIELD(file)},
    {"offset", "N", "where in it (default 0)", OPTION_WIDE, FIELD(offset)},
    {"size", "N", "how many bytes of it (default: to its end)", OPTION_WIDE, FIELD(size)},
    {"elf", "FILE", "a function of an ELF program, library or object", OPTION_TEXT, FIELD(elf)},
    {"symbol", "NAME", "its name", OPTION_TEXT, FIELD(symbol)},
    {"ir", "FILE", "IR text, as --stage ir prints it; - for standard input", OPTION_TEXT, FIELD(ir)},
    {"bits", "N", "16 (real mode), 32 or 64 (default: 64, or what the ELF file says)", OPTION_NUMBER, FIELD(bits), 0, 1, 64},
    {"pc", "ADDRESS", "guest PC of the first byte (default 0x1000, or the symbol's)", OPTION_WIDE, FIELD(pc), FIELD(has_pc)},
    {"cpu", "MODEL", "as the emulator's -cpu (default x86-64-v2)", OPTION_TEXT, FIELD(cpu)},
    {"cpl", "N", "privilege level, 0 to 3 (default 3; real mode: 0)", OPTION_NUMBER, FIELD(cpl), 0, 0, 3},
    {"mode", "WORD", "the whole mode word, as -d exec shows it, instead of --bits and --cpl", OPTION_WIDE, FIELD(mode), FIELD(has_mode)},
    {"insns", "N", "guest instructions in a block, at most (default 64)", OPTION_NUMBER, FIELD(insns), 0, 1, 512},
    {"branches", "N", "conditional jumps that a block goes on after (default 1)", OPTION_NUMBER, FIELD(branches), 0, 0, 16},
    {"blocks", "N", "blocks, at most; they are found by their jumps (default 64)", OPTION_NUMBER, FIELD(blocks), 0, 1, 4096},
    {"icount", NULL, "code that counts instructions, as under --icount", OPTION_YES, FIELD(icount)},
    {"accesses", "WORD", "of memory, as a profile has them: aligned (each on one page; default), moving, misaligned, unknown", OPTION_OWN, .set = set_accesses},
    {"stage", "LIST", "what to print (default in_asm,ir_opt,out_asm)", OPTION_OWN, .set = set_stages},
    {"side-by-side", NULL, "in columns, aligned by guest instruction", OPTION_YES, FIELD(side_by_side)},
    {"hot", NULL, "no cold code: slow paths, ways out; of LLVM's code what is in no loop", OPTION_YES, FIELD(hot)},
    {"width", "N", "of the output (default: the terminal's, COLUMNS, or 100)", OPTION_NUMBER, FIELD(width), 0, 40, 10000},
    {"json", NULL, "all stages (or --stage) and counts as JSON", OPTION_YES, FIELD(json)},
    {"no-summary", NULL, "no table of counts at the end", OPTION_NO, FIELD(summary)},
    {"help", NULL, "this text", OPTION_HELP},
};
static void help(void);
static const struct option_table table = {rows, sizeof rows / sizeof *rows, "tierce-ir", help};

static void help(void)
{
    printf("usage: tierce-ir --hex BYTES | --file FILE | --elf FILE --symbol NAME | --ir FILE  [options]\n"
           "Prints what the translators make of guest code, stage by stage.\n");
    options_print(&table, stdout);
    printf("Stages:");
    for (unsigned s = 0; s < STAGES; s++)
        printf(" %s", stage_names[s]);
    printf("\nExit status: 0 printed, 1 something could not be read or translated, 2 usage.\n");
}

/* What a run without LLVM cannot print is refused where it is asked for, and left out of --json. */
static void check_stages(struct options *o)
{
    const unsigned of_bytes = STAGE(IN_ASM);
    unsigned asked = o->stages;
    if (o->json && !asked)
        o->stages = STAGE(STAGES) - 1;
    else if (!asked)
        o->stages = STAGE(IN_ASM) | STAGE(IR_OPT) | STAGE(OUT_ASM);
#ifndef TIERCE_LLVM
    if (asked & LLVM_STAGES)
        die(2, "--stage: this tierce-ir was built with TIERCE_LLVM=OFF and has none of llvm_ir, llvm_opt, llvm_asm");
    o->stages &= ~LLVM_STAGES;
#endif
    if (o->ir && asked & of_bytes)
        die(2, "--stage in_asm: IR text has no guest bytes; accepted with --hex, --file or --elf");
    if (o->ir)
        o->stages &= ~of_bytes;
}

static void check(struct options *o)
{
    unsigned inputs = !!o->hex + !!o->file + !!o->elf + !!o->ir;
    if (inputs != 1)
        die(2, "%s code to look at; accepted is one of --hex, --file, --elf and --ir", inputs ? "more than one" : "no");
    if (!o->elf != !o->symbol)
        die(2, "--%s needs --%s", o->elf ? "elf" : "symbol", o->elf ? "symbol NAME" : "elf FILE");
    if ((o->offset || o->size) && !o->file)
        die(2, "--offset and --size go with --file");
    if (o->bits && o->bits != 16 && o->bits != 32 && o->bits != 64)
        die(2, "--bits '%u': accepted are 16, 32 and 64", o->bits);
    if (o->has_mode && (o->bits || o->cpl != ~0u))
        die(2, "--mode says it all: accepted without --bits and --cpl");
    if (o->mode > UINT32_MAX)
        die(2, "--mode '%#llx': accepted is a word of 32 bits", (unsigned long long)o->mode);
    if (o->json && o->side_by_side)
        die(2, "--json and --side-by-side: accepted is one of them");
    check_stages(o);
}

void options_parse(struct options *o, int argc, char **argv)
{
    *o = (struct options){.cpl = ~0u, .insns = 64, .branches = 1, .blocks = 64, .summary = true};
    options_read(&table, o, argc, argv, NULL);
    check(o);
}
