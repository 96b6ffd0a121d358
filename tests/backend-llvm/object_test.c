/* Objects of regions: small functions through LLVM, object_link and object_open, then run; what must be refused; and objects
 * that were cut short or changed, which may be refused or not, but never read outside of what was given. */
#define _GNU_SOURCE
#include "backend-llvm/object.h"
#include <elf.h>
#include <llvm-c/Core.h>
#include <llvm-c/IRReader.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static unsigned passed, failed;
#define CHECK(x) ((x) ? (void)passed++ : (failed++, (void)printf("%s:%d: %s: not so: %s\n", __FILE__, __LINE__, __func__, #x)))

static uint32_t seed = 2463534242u;
static uint32_t next(void) { return seed ^= seed << 13, seed ^= seed >> 17, seed ^= seed << 5; }

/* --- The functions */
static const char constants[] = /* of 8 bytes and of 16, from sections of their own */
    "define double @f(i64 %n, double %x) {\n"
    "  %a = fmul double %x, 1.5\n"
    "  %i = bitcast double %a to i64\n"
    "  %v = insertelement <2 x i64> poison, i64 %i, i32 0\n"
    "  %w = xor <2 x i64> %v, <i64 -9223372036854775808, i64 81985529216486895>\n"
    "  %e = extractelement <2 x i64> %w, i32 0\n"
    "  %r = bitcast i64 %e to double\n"
    "  ret double %r\n"
    "}\n";
static double constants_expected(uint64_t n, double x) { return (void)n, -(x * 1.5); }

static const char jumps[] = /* a jump table in .rodata, with relocations of its own against .text */
    "define double @f(i64 %n, double %x) {\n"
    "  switch i64 %n, label %other [ i64 0, label %c0 i64 1, label %c1 i64 2, label %c2 i64 3, label %c3 i64 4, label %c4 i64 5, label %c5 ]\n"
    "c0:\n  %r0 = fadd double %x, 1.0\n  ret double %r0\n"
    "c1:\n  %r1 = fmul double %x, 3.0\n  ret double %r1\n"
    "c2:\n  %r2 = fdiv double %x, 7.0\n  ret double %r2\n"
    "c3:\n  %r3 = fsub double 5.0, %x\n  ret double %r3\n"
    "c4:\n  %r4 = fmul double %x, %x\n  ret double %r4\n"
    "c5:\n  %r5 = fneg double %x\n  ret double %r5\n"
    "other:\n  ret double 0.5\n"
    "}\n";
static double jumps_expected(uint64_t n, double x)
{
    double r[] = {x + 1.0, x * 3.0, x / 7.0, 5.0 - x, x * x, -x};
    return n < 6 ? r[n] : 0.5;
}

static const char helper[] = /* two functions: the region's is the one of the name */
    "define internal double @g(double %x) noinline {\n  %r = fadd double %x, 2.5\n  ret double %r\n}\n"
    "define double @region_ffffffff81000000(i64 %n, double %x) {\n  %r = call double @g(double %x)\n  ret double %r\n}\n";
static double helper_expected(uint64_t n, double x) { return (void)n, x + 2.5; }

static const char aligned[] = /* constants that want the most; what is added is 0 where they have it */
    "@k = private constant [3 x double] [double 1.0, double 2.0, double 4.0], align 64\n"
    "define double @f(i64 %n, double %x) {\n"
    "  %home = alloca i64\n  store volatile ptr @k, ptr %home\n  %at = load volatile i64, ptr %home\n"
    "  %low = and i64 %at, 63\n  %wrong = uitofp i64 %low to double\n"
    "  %i = urem i64 %n, 3\n  %p = getelementptr double, ptr @k, i64 %i\n  %a = load double, ptr %p\n"
    "  %b = fmul double %a, %x\n  %r = fadd double %b, %wrong\n  ret double %r\n}\n";
static double aligned_expected(uint64_t n, double x) { return (double)(1u << n % 3) * x; }

static const char distance[] = /* of 64 bits, in a constant, to a function */
    "module asm \".section .rodata,\\22a\\22,@progbits\"\nmodule asm \".balign 8\"\nmodule asm \".globl table\"\n"
    "module asm \".hidden table\"\nmodule asm \"table: .quad g - .\"\n"
    "@table = external hidden constant i64\n"
    "define hidden double @g(double %x) {\n  %r = fadd double %x, 0.125\n  ret double %r\n}\n"
    "define double @region_ffffffff81000000(i64 %n, double %x) {\n"
    "  %d = load i64, ptr @table\n  %a = getelementptr i8, ptr @table, i64 %d\n  %r = call double %a(double %x)\n  ret double %r\n}\n";
static double distance_expected(uint64_t n, double x) { return (void)n, x + 0.125; }

/* Each store is an instruction c7 07 imm32, so that the code itself tells where a line must stand. */
static const struct { uint32_t line; uint32_t value; } line_rows[] = {
    {OBJECT_LINE_BASE, 0x11111111}, {OBJECT_LINE_BASE + 5, 0x22222222}, {OBJECT_LINE_BASE - 16, 0x33333333}, {0, 0x44444444}, {OBJECT_LINE_BASE - 16, 0x4a4a4a4a},
    {OBJECT_LINE_BASE + 0x7fffffffu, 0x55555555}, {1, 0x66666666}, {0xffffffffu, 0x77777777}, {OBJECT_LINE_BASE + 5, 0x8888}};
enum { LINE_ROWS = sizeof line_rows / sizeof *line_rows };

/* `behind`: in a section of its own, behind 70 bytes of other code. */
static void make_lines(char *text, size_t size, unsigned dwarf, bool behind)
{
    FILE *f = fmemopen(text, size, "w");
    if (behind)
        fprintf(f, "module asm \".text; .skip 70, 0x90\"\n");
    fprintf(f, "define void @f(ptr %%p) %s !dbg !4 {\n", behind ? "section \".text.f\"" : "");
    for (unsigned i = 0; i < LINE_ROWS; i++)
        fprintf(f, "  store volatile i32 %u, ptr %%p, !dbg !%u\n", line_rows[i].value, 10 + i);
    fprintf(f, "  ret void, !dbg !%u\n}\n!llvm.dbg.cu = !{!0}\n!llvm.module.flags = !{!1, !2}\n"
            "!0 = distinct !DICompileUnit(language: DW_LANG_C99, file: !3, producer: \"tierce\", isOptimized: true, runtimeVersion: 0, emissionKind: LineTablesOnly)\n"
            "!1 = !{i32 7, !\"Dwarf Version\", i32 %u}\n!2 = !{i32 2, !\"Debug Info Version\", i32 3}\n!3 = !DIFile(filename: \"guest\", directory: \"\")\n"
            "!4 = distinct !DISubprogram(name: \"f\", scope: !3, file: !3, line: %u, scopeLine: %u, type: !5, unit: !0, spFlags: DISPFlagDefinition)\n"
            "!5 = !DISubroutineType(types: !6)\n!6 = !{}\n", 9 + LINE_ROWS, dwarf, OBJECT_LINE_BASE, OBJECT_LINE_BASE);
    for (unsigned i = 0; i < LINE_ROWS; i++)
        fprintf(f, "!%u = !DILocation(line: %u, scope: !4)\n", 10 + i, line_rows[i].line);
    fclose(f);
}

static const char undefined[] = "declare void @missing()\ndefine void @f() {\n  call void @missing()\n  ret void\n}\n";
static const char got[] = "define ptr @f() {\n  ret ptr @f\n}\n";
static const char variable[] = "@counter = internal global i64 7\ndefine i64 @f() {\n  %r = load volatile i64, ptr @counter\n  ret i64 %r\n}\n";
static const char twins[] = "define void @one() {\n  ret void\n}\ndefine void @two() {\n  ret void\n}\n";

struct bytes { uint8_t *p; size_t size; };

/* Text of LLVM's to its object. */
static struct bytes emit(const char *ir, LLVMRelocMode reloc)
{
    LLVMContextRef context = LLVMContextCreate();
    LLVMModuleRef module;
    LLVMTargetRef target;
    LLVMMemoryBufferRef out;
    char *message = NULL;
    if (LLVMParseIRInContext(context, LLVMCreateMemoryBufferWithMemoryRangeCopy(ir, strlen(ir), "ir"), &module, &message)
        || LLVMGetTargetFromTriple("x86_64-unknown-linux-gnu", &target, &message))
        exit((printf("%s\n", message), 1));
    LLVMTargetMachineRef machine = LLVMCreateTargetMachine(target, "x86_64-unknown-linux-gnu", "x86-64-v2", "", LLVMCodeGenLevelDefault, reloc, LLVMCodeModelSmall);
    if (LLVMTargetMachineEmitToMemoryBuffer(machine, module, LLVMObjectFile, &message, &out))
        exit((printf("%s\n", message), 1));
    struct bytes b = {malloc(LLVMGetBufferSize(out)), LLVMGetBufferSize(out)};
    memcpy(b.p, LLVMGetBufferStart(out), b.size);
    LLVMDisposeMemoryBuffer(out);
    LLVMDisposeTargetMachine(machine);
    LLVMDisposeModule(module);
    LLVMContextDispose(context);
    return b;
}

static const struct object_range ranges[] = {{0, 12, 0x0123456789abcdefull}, {-4096, OBJECT_MAX_RANGE_SIZE, ~0ull}, {INT64_MAX, 1, 0}};
static const struct object_exit exits[] = {{0, 3}, {INT64_MIN, 0xffffffffu}, {77, 0}, {-1, 9}};
static const struct object_line lines[] = {{0, 0}, {3, -100}, {4, INT64_MAX}};
static const struct object_meta meta = {.key = {1, 2, 3, [31] = 0xff}, .mode = 0x80000001u, .guest_insns = 42, .block_count = 7, .name = "region_ffffffff81000000",
    .ranges = ranges, .range_count = 3, .exits = exits, .exit_count = 4, .lines = lines, .line_count = 3, .recipe = (const uint8_t *)"any bytes", .recipe_size = 10};

static void check_meta(const struct object_meta *m, const struct object_meta *want)
{
    CHECK(!memcmp(m->key, want->key, sizeof m->key));
    CHECK(m->mode == want->mode && m->guest_insns == want->guest_insns && m->block_count == want->block_count);
    CHECK(!strcmp(m->name, want->name));
    CHECK(m->range_count == want->range_count && m->exit_count == want->exit_count && m->line_count == want->line_count);
    CHECK(m->recipe_size == want->recipe_size && (!m->recipe_size || !memcmp(m->recipe, want->recipe, m->recipe_size)));
    for (unsigned i = 0; i < m->range_count && i < want->range_count; i++)
        CHECK(m->ranges[i].pc == want->ranges[i].pc && m->ranges[i].size == want->ranges[i].size && m->ranges[i].hash == want->ranges[i].hash);
    for (unsigned i = 0; i < m->exit_count && i < want->exit_count; i++)
        CHECK(m->exits[i].pc == want->exits[i].pc && m->exits[i].cause == want->exits[i].cause);
    for (unsigned i = 0; i < m->line_count && i < want->line_count; i++)
        CHECK(m->lines[i].host == want->lines[i].host && m->lines[i].pc == want->lines[i].pc);
}

/* The object of a text, linked twice; an empty one after a failure, which is counted. */
static struct bytes link_text(const char *ir, const struct object_meta *m)
{
    struct bytes in = emit(ir, LLVMRelocPIC), out = {0}, again = {0};
    char error[200] = "";
    bool ok = object_link(in.p, in.size, m, &out.p, &out.size, error, sizeof error);
    if (!ok)
        printf("%s\n", error);
    CHECK(ok);
    CHECK(object_link(in.p, in.size, m, &again.p, &again.size, error, sizeof error));
    CHECK(out.size == again.size && !memcmp(out.p, again.p, out.size));
    free(again.p);
    free(in.p);
    return out;
}

static void *executable(const struct object_view *v)
{
    uint8_t *p = mmap(NULL, v->text_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(memcpy(p, v->text, v->text_size), v->text_size, PROT_READ | PROT_EXEC))
        exit((perror("executable memory"), 1));
    return p;
}

/* What binutils say of the file: their complaints, and how many lines have `needle`. */
static void check_tool(const char *tool, const char *path, const char *needle, bool wanted)
{
    char command[300], line[500];
    unsigned complaints = 0, found = 0;
    snprintf(command, sizeof command, "%s %s 2>&1", tool, path);
    FILE *f = popen(command, "r");
    while (f && fgets(line, sizeof line, f)) {
        complaints += strcasestr(line, "warning") || strcasestr(line, "error:") || strstr(line, "(bad)");
        found += strstr(line, needle) != NULL;
    }
    CHECK(f && !pclose(f));
    CHECK(!complaints);
    CHECK(wanted == (found > 0));
}

static void check_tools(struct bytes b)
{
    char path[] = "/tmp/object_test_XXXXXX";
    int fd = mkstemp(path);
    CHECK(fd >= 0 && write(fd, b.p, b.size) == (ssize_t)b.size);
    check_tool("readelf -aW", path, "There are no relocations in this file", true);
    check_tool("readelf -aW", path, "FUNC    GLOBAL DEFAULT    1 region_ffffffff81000000", true);
    check_tool("readelf -aW", path, ".tierce.region", true);
    check_tool("readelf -p .tierce.recipe", path, "any bytes", true);
    check_tool("objdump -d", path, "<region_ffffffff81000000>:", true);
    check_tool("objdump -d", path, "ret", true);
    close(fd);
    unlink(path);
}

static void test_run(const char *ir, double (*expected)(uint64_t, double))
{
    struct bytes b = link_text(ir, &meta);
    struct object_view v;
    char error[200] = "";
    CHECK(b.p && object_open(b.p, b.size, &v, error, sizeof error));
    if (*error)
        exit((printf("%s\n", error), 1));
    check_meta(&v.meta, &meta);
    CHECK(v.text >= b.p && v.text + v.text_size <= b.p + b.size && !((v.text - b.p) % OBJECT_TEXT_ALIGN));
    uint8_t *code = executable(&v);
    double (*run)(uint64_t, double) = (double (*)(uint64_t, double))(uintptr_t)(code + v.meta.entry);
    for (unsigned n = 0; n < 8; n++)
        for (int x = -3; x <= 3; x++)
            CHECK(run(n, x * 1.25) == expected(n, x * 1.25));
    munmap(code, v.text_size);
    check_tools(b);
    object_close(&v);
    CHECK(!v.owned && !v.text);
    free(b.p);
}

/* Of each row but those of line 0 and those that only go on with the one before. */
static void test_lines(unsigned dwarf, bool behind)
{
    char text[8192];
    struct object_view v;
    char error[200] = "";
    unsigned row = 0;
    uint32_t written = 0;
    make_lines(text, sizeof text, dwarf, behind);
    struct bytes b = link_text(text, &meta);
    if (!b.p || !object_open(b.p, b.size, &v, error, sizeof error))
        exit((printf("%s\n", error), 1));
    CHECK(v.meta.line_count == LINE_ROWS - 2);
    CHECK(v.code_size && v.text[v.meta.entry + v.code_size - 1] == 0xc3 && v.meta.entry + v.code_size <= v.text_size); /* ends with RET */
    CHECK(v.meta.entry == (behind ? 80 : 0) && v.meta.lines[0].host == v.meta.entry);
    for (unsigned i = 0; i < v.meta.line_count && row < LINE_ROWS; i++, row++) {
        while (row && (!line_rows[row].line || line_rows[row].value == 0x4a4a4a4a))
            row++;
        uint32_t host = v.meta.lines[i].host, value;
        memcpy(&value, v.text + host + 2, 4);
        CHECK(v.text[host] == 0xc7 && v.text[host + 1] == 0x07 && value == line_rows[row].value);
        CHECK(v.meta.lines[i].pc == (int32_t)(line_rows[row].line - OBJECT_LINE_BASE));
    }
    CHECK(row == LINE_ROWS);
    uint8_t *code = executable(&v);
    ((void (*)(uint32_t *))(uintptr_t)(code + v.meta.entry))(&written);
    CHECK(written == line_rows[LINE_ROWS - 1].value);
    munmap(code, v.text_size);
    check_tools(b);
    object_close(&v);
    free(b.p);
}

/* --- What must be refused, and in which words */
static void test_refused(const char *ir, LLVMRelocMode reloc, const struct object_meta *m, const char *words)
{
    struct bytes in = emit(ir, reloc), out = {0};
    char error[200] = "";
    CHECK(!object_link(in.p, in.size, m, &out.p, &out.size, error, sizeof error));
    bool said = strstr(error, words) && !strchr(error, '\n');
    if (!said)
        printf("said: %s; wanted: %s\n", error, words);
    CHECK(said);
    free(in.p);
}

/* A function, and what an assembler makes beside it. */
static void test_refused_asm(void)
{
    static const struct { const char *text, *words; } rows[] = {
        {".section .rodata; .quad f", "absolute relocation against f in .rodata"},
        {".section .rodata; .long f", "absolute relocation against f in .rodata"},
        {".section .rodata; .long gone - .", "undefined symbol gone"},
        {".section .rodata; .long f - . + 0x7ffffff0; .long f - . - 0x7ffffff0; .long f - . + 0x80001000", "relocation against f is out of reach"},
        {".text; lea f@GOTTPOFF(%rip), %rax", "relocation of type"},
        {".set fixed, 4096; .text; call fixed", "reference to an absolute address"},
        {".comm shared, 8; .text; lea shared(%rip), %rax", "shared is not in code or constants"},
        {".section .rodata; .balign 128; .byte 1", "section .rodata is aligned to 128; accepted: up to 64"},
        {".section .rodata; .long frame - .; .section .eh_frame; frame: .long 0", "frame is not in code or constants"},
        {".bss; .skip 8", "section .bss is neither code nor constants"},
        {".section .tdata,\\22awT\\22; .byte 1", "section .tdata is neither code nor constants"},
        {".section .rodata; .skip 0x1000001", "code of more than"},
        {".text; .type f2,@function; f2: ret", "2 functions, none of them named"},
        {".text; .type region_ffffffff81000000,@function; region_ffffffff81000000: ret", "no place or no size"},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[400];
        snprintf(text, sizeof text, "module asm \"%s\"\ndefine void @f() {\n  ret void\n}\n", rows[i].text);
        test_refused(text, LLVMRelocPIC, &meta, rows[i].words);
    }
}

static void test_refused_meta(void)
{
    static const struct object_line falling[] = {{4, 0}, {3, 1}}, twice[] = {{3, 0}, {3, 1}}, outside[] = {{1 << 20, 0}};
    static const struct object_range empty[] = {{0, 0, 0}}, large[] = {{0, OBJECT_MAX_RANGE_SIZE + 1, 0}};
    static char long_name[OBJECT_MAX_NAME + 2];
    struct object_meta m = meta;
    memset(long_name, 'x', OBJECT_MAX_NAME + 1);
    const char *names[] = {"", "a\nb", long_name, NULL};
    for (unsigned i = 0; i < 4; i++)
        m.name = names[i], test_refused(constants, LLVMRelocPIC, &m, "name");
    m = meta;
    m.lines = falling, m.line_count = 2, test_refused(constants, LLVMRelocPIC, &m, "ascending");
    m.lines = twice, test_refused(constants, LLVMRelocPIC, &m, "ascending");
    m.lines = outside, m.line_count = 1, test_refused(constants, LLVMRelocPIC, &m, "inside .text");
    m = meta;
    m.ranges = empty, m.range_count = 1, test_refused(constants, LLVMRelocPIC, &m, "range of no bytes");
    m.ranges = large, test_refused(constants, LLVMRelocPIC, &m, "range of no bytes");
    m.range_count = OBJECT_MAX_RANGES + 1, test_refused(constants, LLVMRelocPIC, &m, "4097 ranges");
    m = meta;
    m.exit_count = OBJECT_MAX_EXITS + 1, test_refused(constants, LLVMRelocPIC, &m, "65537 exits");
    m = meta;
    m.line_count = OBJECT_MAX_LINES + 1, test_refused(constants, LLVMRelocPIC, &m, "1048577 lines");
}

/* --- Objects that lie */
/* Opens a copy of just its size, so that a sanitizer sees a read behind it, and reads all that the view promises. */
static bool open_copy(const uint8_t *bytes, size_t size, char *error, size_t error_size)
{
    uint8_t *copy = memcpy(malloc(size + !size), bytes, size);
    struct object_view v;
    uint64_t sum = 0;
    bool ok = object_open(copy, size, &v, error, error_size);
    if (ok) {
        sum = object_hash(v.text, v.text_size) + strlen(v.meta.name);
        for (unsigned i = 0; i < v.meta.range_count; i++)
            sum += v.meta.ranges[i].hash;
        for (unsigned i = 0; i < v.meta.exit_count; i++)
            sum += (uint64_t)v.meta.exits[i].pc;
        for (unsigned i = 0; i < v.meta.line_count; i++)
            CHECK(v.meta.lines[i].host < v.text_size);
        CHECK(v.meta.entry < v.text_size && sum);
    } else {
        CHECK(!v.owned && !v.text && *error && !strchr(error, '\n'));
    }
    object_close(&v);
    free(copy);
    return ok;
}

static void test_damage(struct bytes b)
{
    char error[200];
    unsigned opened = 0;
    uint8_t *copy = malloc(b.size);
    for (size_t size = 0; size < b.size; size++)
        opened += open_copy(b.p, size, error, sizeof error);
    CHECK(opened == 0); /* the section headers stand last */
    for (unsigned n = 0; n < 20000; n++) {
        memcpy(copy, b.p, b.size);
        for (unsigned i = 1 + next() % 3; i; i--)
            copy[next() % 2 || b.size < 400 ? next() % b.size : b.size - 1 - next() % 400] ^= (uint8_t)(1u << next() % 8);
        open_copy(copy, b.size, error, sizeof error);
    }
    free(copy);
}

/* One field changed: of the file's header, of a section's, or in what the section holds. */
struct edit { enum { FILE_HEADER, HEADER, CONTENT } where; const char *section; size_t offset; unsigned width; uint64_t value; const char *words; };
#define OF(type, field) offsetof(type, field), sizeof ((type *)0)->field

static uint64_t section_header(const uint8_t *elf, const char *name)
{
    Elf64_Ehdr h;
    Elf64_Shdr s, strings;
    memcpy(&h, elf, sizeof h);
    memcpy(&strings, elf + h.e_shoff + h.e_shstrndx * sizeof s, sizeof s);
    for (unsigned i = 1; i < h.e_shnum; i++) {
        memcpy(&s, elf + h.e_shoff + i * sizeof s, sizeof s);
        if (!strcmp((const char *)elf + strings.sh_offset + s.sh_name, name))
            return h.e_shoff + i * sizeof s;
    }
    exit((printf("no section %s\n", name), 1));
}

static uint8_t *edited(struct bytes b, const struct edit *e)
{
    uint8_t *copy = memcpy(malloc(b.size), b.p, b.size);
    uint64_t at = e->where == FILE_HEADER ? 0 : section_header(copy, e->section);
    if (e->where == CONTENT)
        memcpy(&at, copy + at + offsetof(Elf64_Shdr, sh_offset), 8);
    memcpy(copy + at + e->offset, &e->value, e->width);
    return copy;
}

enum { FUNCTION = 2 * sizeof (Elf64_Sym) }; /* behind the symbol of the constants */

static void test_edited_objects(struct bytes b)
{
    const struct edit rows[] = {
        {FILE_HEADER, "", OF(Elf64_Ehdr, e_ident[EI_CLASS]), ELFCLASS32, "not an ELF64"}, {FILE_HEADER, "", OF(Elf64_Ehdr, e_type), ET_DYN, "not an ELF64"},
        {FILE_HEADER, "", OF(Elf64_Ehdr, e_machine), EM_AARCH64, "not an ELF64"}, {FILE_HEADER, "", OF(Elf64_Ehdr, e_shnum), 0, "not an ELF64"},
        {FILE_HEADER, "", OF(Elf64_Ehdr, e_shnum), 7, "not an ELF64"}, {FILE_HEADER, "", OF(Elf64_Ehdr, e_shnum), 0xffff, "not an ELF64"},
        {FILE_HEADER, "", OF(Elf64_Ehdr, e_shstrndx), 6, "not an ELF64"}, {FILE_HEADER, "", OF(Elf64_Ehdr, e_shoff), ~0ull, "not an ELF64"},
        {FILE_HEADER, "", OF(Elf64_Ehdr, e_shoff), b.size - 4 * sizeof (Elf64_Shdr), "not an ELF64"},
        {FILE_HEADER, "", OF(Elf64_Ehdr, e_shstrndx), 2, "has no name"}, {HEADER, ".text", OF(Elf64_Shdr, sh_name), 0xffffffffu, "has no name"},
        {HEADER, ".text", OF(Elf64_Shdr, sh_offset), ~0ull, "not lie inside"}, {HEADER, ".text", OF(Elf64_Shdr, sh_size), ~0ull, "not lie inside"},
        {HEADER, ".text", OF(Elf64_Shdr, sh_size), b.size - 63, "not lie inside"}, {HEADER, ".text", OF(Elf64_Shdr, sh_flags), SHF_COMPRESSED, "not lie inside"},
        {HEADER, ".text", OF(Elf64_Shdr, sh_type), SHT_NOBITS, "is missing"}, {HEADER, ".text", OF(Elf64_Shdr, sh_type), SHT_RELA, "is missing"},
        {HEADER, ".symtab", OF(Elf64_Shdr, sh_link), 6, "is missing"}, {HEADER, ".symtab", OF(Elf64_Shdr, sh_link), 1, "name is empty"},
        {HEADER, ".strtab", OF(Elf64_Shdr, sh_size), 64, "name is empty"}, {HEADER, ".symtab", OF(Elf64_Shdr, sh_size), FUNCTION, "name is empty"},
        {CONTENT, ".symtab", FUNCTION + OF(Elf64_Sym, st_value), ~0ull, "name is empty"}, {CONTENT, ".symtab", FUNCTION + OF(Elf64_Sym, st_value), 1ull << 32, "name is empty"},
        {CONTENT, ".symtab", FUNCTION + OF(Elf64_Sym, st_size), ~0ull, "name is empty"}, {CONTENT, ".symtab", FUNCTION + OF(Elf64_Sym, st_size), 0, "name is empty"},
        {CONTENT, ".symtab", FUNCTION + OF(Elf64_Sym, st_name), 0, "name is empty"}, {CONTENT, ".symtab", FUNCTION + OF(Elf64_Sym, st_name), 0xffffffffu, "name is empty"},
        {CONTENT, ".symtab", FUNCTION + OF(Elf64_Sym, st_shndx), 2, "name is empty"},
        {HEADER, ".tierce.recipe", OF(Elf64_Shdr, sh_type), SHT_NOBITS, "not of bytes"}, {HEADER, ".tierce.recipe", OF(Elf64_Shdr, sh_size), ~0ull, "not lie inside"},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        char error[200] = "";
        uint8_t *copy = edited(b, &rows[i]);
        bool refused = !open_copy(copy, b.size, error, sizeof error) && strstr(error, rows[i].words);
        if (!refused)
            printf("edit %u: said: %s; wanted: %s\n", i, error, rows[i].words);
        CHECK(refused);
        free(copy);
    }
}

static void test_edited_inputs(void)
{
    static const struct edit rows[] = {
        {CONTENT, ".rela.text", OF(Elf64_Rela, r_offset), ~0ull, "relocation outside of .text"},
        {CONTENT, ".rela.text", offsetof(Elf64_Rela, r_info) + 4, 4, 1000, "relocation 0 of .text has no symbol"},
        {HEADER, ".rela.text", OF(Elf64_Shdr, sh_type), SHT_REL, "not in the form with addends"},
        {HEADER, ".symtab", OF(Elf64_Shdr, sh_type), SHT_PROGBITS, "no symbol table"},
        {HEADER, ".text", OF(Elf64_Shdr, sh_addralign), 48, "section .text is aligned to 48"},
    };
    struct bytes in = emit(jumps, LLVMRelocPIC);
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint8_t *out, *copy = edited(in, &rows[i]);
        size_t size;
        char error[200] = "";
        CHECK(!object_link(copy, in.size, &meta, &out, &size, error, sizeof error) && strstr(error, rows[i].words));
        free(copy);
    }
    free(in.p);
}

/* A section's name of two lines in a message of one. */
static void test_odd_name(void)
{
    struct bytes in = emit(variable, LLVMRelocPIC);
    char *name = memmem(in.p, in.size, ".data", 6), error[200] = "";
    uint8_t *out;
    size_t size;
    CHECK(name);
    *name = '\n';
    CHECK(!object_link(in.p, in.size, &meta, &out, &size, error, sizeof error) && strstr(error, "section ?data is neither"));
    free(in.p);
}

static void test_many_sections(void)
{
    char text[4000] = "module asm \"";
    for (unsigned i = 0; i < 64; i++)
        sprintf(text + strlen(text), ".section .s%u; .byte 1; ", i);
    strcat(text, "\"\ndefine void @f() {\n  ret void\n}\n");
    test_refused(text, LLVMRelocPIC, &meta, "up to 64 sections");
}

static void test_gap(void)
{
    struct bytes b = link_text(aligned, &meta);
    struct object_view v;
    char error[200];
    CHECK(object_open(b.p, b.size, &v, error, sizeof error));
    CHECK(v.text_size % OBJECT_TEXT_ALIGN == 24 && v.text[v.text_size - 25] == 0xcc); /* in front of the three constants of 8 bytes */
    object_close(&v);
    free(b.p);
}

/* One 32-bit word of .tierce.region changed. */
static void test_words(struct bytes b)
{
    enum { HEAD = 4 + 32, RANGES = HEAD + 24, LINES = RANGES + 3 * 20 + 4 * 12 };
    static const struct { unsigned at; uint32_t value; const char *words; } rows[] = {
        {0, OBJECT_MAGIC + 1, "not of this version"}, {HEAD + 12, 0xffffffffu, "announces"}, {HEAD + 16, 0xffffffffu, "announces"},
        {HEAD + 20, 0xffffffffu, "announces"}, {HEAD + 20, 2, "announces"}, {HEAD + 20, 4, "announces"}, {RANGES + 16, 0, "range of no bytes"},
        {RANGES + 16, 0xffffffffu, "range of no bytes"}, {LINES, 3, "ascending"}, {LINES + 12, 4, "ascending"}, {LINES + 24, 0xffffffffu, "ascending"}};
    uint32_t magic = OBJECT_MAGIC;
    uint8_t *copy = malloc(b.size), *region = memmem(b.p, b.size, &magic, 4);
    char error[200];
    CHECK(region);
    for (unsigned i = 0; region && i < sizeof rows / sizeof *rows; i++) {
        memcpy(copy, b.p, b.size);
        memcpy(copy + (region - b.p) + rows[i].at, &rows[i].value, 4);
        CHECK(!open_copy(copy, b.size, error, sizeof error) && strstr(error, rows[i].words));
    }
    free(copy);
}

/* What LLVM emitted is no region yet, even where it has a section of that name. */
static void test_foreign(void)
{
    struct bytes plain = emit(jumps, LLVMRelocPIC);
    struct bytes named = emit("module asm \".section .tierce.region; .skip 60\"\ndeclare void @x()\ndefine void @f() {\n  call void @x()\n  ret void\n}\n", LLVMRelocPIC);
    char error[200];
    CHECK(!open_copy(plain.p, plain.size, error, sizeof error) && strstr(error, ".tierce.region"));
    CHECK(!open_copy(named.p, named.size, error, sizeof error) && strstr(error, "relocations left"));
    free(plain.p);
    free(named.p);
}

static void test_hostile(void)
{
    struct bytes b = link_text(jumps, &meta);
    char error[200];
    CHECK(open_copy(b.p, b.size, error, sizeof error));
    test_foreign();
    test_damage(b);
    test_words(b);
    test_edited_objects(b);
    free(b.p);
}

int main(void)
{
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
    LLVMInitializeX86AsmParser();
    test_run(constants, constants_expected);
    test_run(jumps, jumps_expected);
    test_run(helper, helper_expected);
    test_run(aligned, aligned_expected);
    test_run(distance, distance_expected);
    test_lines(4, false);
    test_lines(5, false);
    test_lines(5, true);
    test_refused(undefined, LLVMRelocPIC, &meta, "undefined symbol missing");
    test_refused(jumps, LLVMRelocStatic, &meta, "absolute relocation against .rodata in .text");
    test_refused(got, LLVMRelocPIC, &meta, "relocation of type 42 against f");
    test_refused(variable, LLVMRelocPIC, &meta, "section .data is neither code nor constants");
    test_refused(twins, LLVMRelocPIC, &meta, "2 functions, none of them named region_");
    test_refused_asm();
    test_refused_meta();
    test_edited_inputs();
    test_odd_name();
    test_many_sections();
    test_gap();
    test_hostile();
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
