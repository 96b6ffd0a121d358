/* GDB's JIT interface: the list of objects as gdb reads it, and a gdb that names what lies at an address while the object there is
 * registered.  `gdb_jit_test run` is the program that gdb runs. */
#include "runtime/internal.h"
#include "tests/runtime/tally.h"
#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* What the protocol says of the names that gdb looks for. */
struct jit_code_entry { struct jit_code_entry *next_entry, *prev_entry; const char *symfile_addr; uint64_t symfile_size; };
extern struct { uint32_t version, action_flag; struct jit_code_entry *relevant_entry, *first_entry; } __jit_debug_descriptor;

/* An object as regions become: .text with one function, and what it takes to find it. */
enum { TEXT = 1, SYMTAB, STRTAB, SECTIONS };
struct image { Elf64_Ehdr header; Elf64_Shdr sections[SECTIONS]; Elf64_Sym symbols[2]; char strings[64]; uint8_t text[64]; };

static struct image image_of(const char *function)
{
    static const char names[] = "\0.text\0.symtab\0.strtab";
    struct image i = {
        .header = {.e_type = ET_REL, .e_machine = EM_X86_64, .e_version = EV_CURRENT, .e_shoff = offsetof(struct image, sections), .e_ehsize = sizeof i.header,
                   .e_shentsize = sizeof *i.sections, .e_shnum = SECTIONS, .e_shstrndx = STRTAB},
        .sections = {
            [TEXT] = {1, SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 0, offsetof(struct image, text), sizeof i.text, 0, 0, 16, 0},
            [SYMTAB] = {7, SHT_SYMTAB, 0, 0, offsetof(struct image, symbols), sizeof i.symbols, STRTAB, 1, 8, sizeof *i.symbols},
            [STRTAB] = {15, SHT_STRTAB, 0, 0, offsetof(struct image, strings), sizeof i.strings, 0, 0, 1, 0},
        },
        .symbols = {[1] = {sizeof names, ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), 0, TEXT, 0, sizeof i.text}},
    };
    memcpy(i.header.e_ident, (const uint8_t[]){0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT}, 7);
    memcpy(i.strings, names, sizeof names);
    snprintf(i.strings + sizeof names, sizeof i.strings - sizeof names, "%s", function);
    memset(i.text, 0xc3, sizeof i.text);
    return i;
}

static const void *address_of(const struct jit_code_entry *e)
{
    return (const void *)((const struct image *)(const void *)e->symfile_addr)->sections[TEXT].sh_addr;
}

/* --- What gdb runs: it stops here. */
__attribute__((noinline)) void registered(void) { __asm__ volatile (""); }
__attribute__((noinline)) void unregistered(void) { __asm__ volatile (""); }
char *code;

static int run(void)
{
    struct machine *m = calloc(1, sizeof *m);
    struct image one = image_of("region"), two = image_of("region");
    m->config.gdb_jit = true;
    code = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct gdb_object *a = gdb_jit_add(m, &one, sizeof one, "region_of_the_guest", code),
                      *b = gdb_jit_add(m, &two, sizeof two, "region_that_stays", code + 1024);
    registered();
    gdb_jit_remove(a);
    unregistered();
    gdb_jit_remove(b);
    free(m);
    return 0;
}

static void with_gdb(const char *self)
{
    char command[600], line[300], said[4000] = "";
    snprintf(command, sizeof command, "ASAN_OPTIONS=detect_leaks=0 gdb -nx -batch -iex 'set debuginfod enabled off' -ex 'set breakpoint pending on' "
             "-ex 'break registered' -ex 'break unregistered' -ex run -ex 'info symbol *(char **)&code + 5' -ex 'info symbol *(char **)&code + 1024' "
             "-ex continue -ex 'info symbol *(char **)&code + 5' -ex 'info symbol *(char **)&code + 1024' --args %s run 2>&1 </dev/null", self);
    FILE *gdb = popen(command, "r");
    while (gdb && fgets(line, sizeof line, gdb))
        strncat(said, line, sizeof said - strlen(said) - 1);
    check("gdb runs", gdb && !pclose(gdb));
    const char *named = strstr(said, "region_of_the_guest + 5 in section .text"), *other = strstr(said, "region_that_stays in section .text");
    const char *gone = strstr(said, "No symbol matches"), *stays = other ? strstr(other + 1, "region_that_stays in section .text") : NULL;
    bool ok = named && other && gone && stays && named < other && other < gone && gone < stays && !strstr(named + 1, "region_of_the_guest");
    check("gdb names code while it is registered", ok);
    if (!ok)
        printf("gdb said:\n%s", said);
}

/* --- The list */
static void list(struct machine *m)
{
    struct image one = image_of("one"), two = image_of("two"), three = image_of("three");
    char place[3];
    check("off: nothing is kept", !gdb_jit_add(m, &one, sizeof one, "region", place) && !__jit_debug_descriptor.first_entry);
    m->config.gdb_jit = true;
    struct gdb_object *a = gdb_jit_add(m, &one, sizeof one, "region", place), *b = gdb_jit_add(m, &two, sizeof two, "region", place + 1);
    struct gdb_object *c = gdb_jit_add(m, &three, sizeof three, "region", place + 2);
    struct jit_code_entry *e = __jit_debug_descriptor.first_entry;
    check("version and size", __jit_debug_descriptor.version == 1 && e && e->symfile_size == sizeof one + sizeof one.strings + sizeof "region");
    check("newest first", address_of(e) == place + 2 && address_of(e->next_entry) == place + 1 && address_of(e->next_entry->next_entry) == place);
    check("both ways", !e->prev_entry && e->next_entry->prev_entry == e && e->next_entry->next_entry->prev_entry == e->next_entry);
    check("a copy of its own", e->symfile_addr != (const char *)&three && !three.sections[TEXT].sh_addr);
    gdb_jit_remove(b);
    check("the middle one goes", e->next_entry && address_of(e->next_entry) == place && e->next_entry->prev_entry == e && !e->next_entry->next_entry);
    gdb_jit_remove(c);
    check("the first one goes", (e = __jit_debug_descriptor.first_entry) && address_of(e) == place && !e->prev_entry && !e->next_entry);
    gdb_jit_remove(a);
    gdb_jit_remove(NULL);
    check("none is left", !__jit_debug_descriptor.first_entry && !__jit_debug_descriptor.relevant_entry && !__jit_debug_descriptor.action_flag);
}

static void not_objects(struct machine *m)
{
    struct image good = image_of("good"), bad = good;
    check("empty", !gdb_jit_add(m, &good, 0, "region", &good) && !gdb_jit_add(m, &good, sizeof good.header - 1, "region", &good));
    check("its sections are not in it", !gdb_jit_add(m, &good, offsetof(struct image, symbols) - 1, "region", &good));
    bad.header.e_shoff = ~0ull - 8;
    check("sections far outside", !gdb_jit_add(m, &bad, sizeof bad, "region", &bad));
    bad = good, bad.header.e_shnum = 0xffff;
    check("more sections than bytes", !gdb_jit_add(m, &bad, sizeof bad, "region", &bad));
    bad = good, bad.sections[TEXT].sh_flags = SHF_ALLOC;
    check("no code", !gdb_jit_add(m, &bad, sizeof bad, "region", &bad));
    bad = good, bad.header.e_ident[EI_CLASS] = ELFCLASS32;
    check("32 bits", !gdb_jit_add(m, &bad, sizeof bad, "region", &bad));
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "run"))
        return run();
    struct machine *m = calloc(1, sizeof *m);
    list(m);
    not_objects(m);
    with_gdb(argv[0]);
    free(m);
    return tally("gdb_jit");
}
