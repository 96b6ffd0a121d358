/* Names of guest functions, for traces and for who looks at translated code: from ELF files and from System.map or what has its
 * form (/proc/kallsyms, nm).  One table, sorted by linear address and searched by bisection; it does not know of address spaces. */
#include "runtime/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Among the symbols of one address that of the highest rank stays.  Those without CODE say where the one before ends. */
enum { PLAIN = 1 /* name without underscore in front */, GLOBAL = 2, FUNCTION = 4, CODE = 8 };
struct symbol { uint64_t at, end; /* end = at: up to the next */ uint32_t name, rank; };
struct symbols {
    struct symbol *list; size_t count, room;
    char *names; size_t names_size, names_room;
};
/* What is read: `path` without the offset, where the user gave one. */
struct source { struct symbols *symbols; char *path; uint64_t offset; char *error; size_t size; };

static bool fail(const struct source *in, const char *why)
{
    snprintf(in->error, in->size, "--symbols: '%s' %s; accepted: FILE or FILE@OFFSET, where FILE is an x86 ELF program with symbols or has lines "
             "`address type name` as System.map", in->path, why);
    return false;
}
static bool fail_memory(const struct source *in)
{
    snprintf(in->error, in->size, "--symbols: out of memory for '%s'", in->path);
    return false;
}

/* Makes room for n more. */
static bool grow(void **list, size_t *room, size_t count, size_t n, size_t each)
{
    if (count + n <= *room)
        return true;
    size_t wanted = 2 * (count + n);
    void *more = realloc(*list, wanted * each);
    if (more)
        *list = more, *room = wanted;
    return more;
}

static bool add(const struct source *in, uint64_t at, uint64_t size, const char *name, unsigned rank)
{
    struct symbols *s = in->symbols;
    size_t n = strlen(name) + 1;
    if (!grow((void **)&s->list, &s->room, s->count, 1, sizeof *s->list) || !grow((void **)&s->names, &s->names_room, s->names_size, n, 1) ||
        s->names_size > UINT32_MAX - n)
        return fail_memory(in);
    at += in->offset;
    s->list[s->count++] = (struct symbol){at, size > -1 - at ? ~0ull : at + size, (uint32_t)s->names_size, rank | (*name == '_' ? 0 : PLAIN)};
    for (size_t i = 0; i < n; i++) /* they go into files of one name a line */
        s->names[s->names_size++] = name[i] > 0 && name[i] <= ' ' ? '?' : name[i];
    return true;
}

/* --- ELF: what lies in sections that are executed. */
static bool add_elf_symbol(const struct source *in, Elf *elf, const GElf_Shdr *table, const GElf_Sym *sym)
{
    unsigned type = GELF_ST_TYPE(sym->st_info);
    const char *name = elf_strptr(elf, table->sh_link, sym->st_name);
    GElf_Shdr section;
    Elf_Scn *scn = sym->st_shndx && sym->st_shndx < SHN_LORESERVE ? elf_getscn(elf, sym->st_shndx) : NULL;
    if (!name || !*name || !scn || !gelf_getshdr(scn, &section) || !(section.sh_flags & SHF_EXECINSTR) ||
        (type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE))
        return true;
    return add(in, sym->st_value, sym->st_size, name, CODE | (type == STT_NOTYPE ? 0 : FUNCTION) | (GELF_ST_BIND(sym->st_info) == STB_GLOBAL ? GLOBAL : 0));
}

static bool add_elf_section(const struct source *in, Elf *elf, Elf_Scn *scn)
{
    GElf_Shdr h;
    GElf_Sym sym;
    if (!gelf_getshdr(scn, &h))
        return fail(in, elf_errmsg(-1));
    if (h.sh_flags & SHF_EXECINSTR && h.sh_size && !add(in, h.sh_addr + h.sh_size, 0, "", 0))
        return false;
    if (h.sh_type != SHT_SYMTAB && h.sh_type != SHT_DYNSYM)
        return true;
    Elf_Data *data = elf_getdata(scn, NULL);
    for (int i = 0; data && gelf_getsym(data, i, &sym); i++)
        if (!add_elf_symbol(in, elf, &h, &sym))
            return false;
    return true;
}

static bool add_elf(const struct source *in, Elf *elf)
{
    GElf_Ehdr h;
    if (elf_kind(elf) != ELF_K_ELF || !gelf_getehdr(elf, &h))
        return fail(in, "is a damaged ELF file");
    if (h.e_machine != EM_X86_64 && h.e_machine != EM_386)
        return fail(in, "is an ELF file for another machine");
    if (h.e_type != ET_EXEC && h.e_type != ET_DYN)
        return fail(in, "is an ELF file that is not linked");
    for (Elf_Scn *scn = NULL; (scn = elf_nextscn(elf, scn));)
        if (!add_elf_section(in, elf, scn))
            return false;
    return true;
}

static bool read_elf(const struct source *in, int fd)
{
    elf_version(EV_CURRENT);
    Elf *elf = elf_begin(fd, ELF_C_READ, NULL);
    bool ok = elf ? add_elf(in, elf) : fail(in, elf_errmsg(-1));
    elf_end(elf);
    return ok;
}

/* --- Text.  Names end at a blank: behind may stand a [module].  Addresses are 0 where /proc/kallsyms was read without the right to. */
static bool add_line(const struct source *in, char *line, unsigned number)
{
    char *at, *name, why[80];
    errno = 0;
    uint64_t address = strtoull(line, &at, 16);
    bool ok = at != line && !errno && *line != '-' && at[0] == ' ' && at[1] > ' ' && at[2] == ' ' && at[3] > ' ';
    if (!ok) {
        snprintf(why, sizeof why, "has no symbol in line %u", number);
        return fail(in, why);
    }
    name = at + 3;
    name[strcspn(name, " \t\r\n")] = 0;
    return !address || add(in, address, 0, name, strchr("tTwW", at[1]) ? CODE | (at[1] == 'T' ? GLOBAL : 0) : 0);
}

static bool read_text(const struct source *in, FILE *f)
{
    char *line = NULL;
    size_t room = 0;
    bool ok = true;
    for (unsigned number = 1; ok && getline(&line, &room, f) >= 0; number++)
        ok = add_line(in, line, number);
    free(line);
    return ok;
}

/* --- Files */
static bool read_any(const struct source *in)
{
    char magic[4] = "";
    FILE *f = fopen(in->path, "r");
    bool ok = f && (fread(magic, 1, sizeof magic, f) || !ferror(f));
    if (!ok) {
        char why[100];
        snprintf(why, sizeof why, "cannot be read: %s", strerror(errno));
        fail(in, why);
    } else {
        rewind(f);
        ok = memcmp(magic, "\177ELF", 4) ? read_text(in, f) : read_elf(in, fileno(f));
    }
    if (f)
        fclose(f);
    return ok;
}

static bool has_code(const struct symbols *s, size_t from)
{
    while (from < s->count && !(s->list[from].rank & CODE))
        from++;
    return from < s->count;
}

/* What stands behind the last @ is an offset where it is a number; else it belongs to the file's name. */
static bool read_source(struct symbols *s, const char *given, char *error, size_t size)
{
    struct source in = {.symbols = s, .path = strdup(given), .error = error, .size = size};
    char *at = in.path ? strrchr(in.path, '@') : NULL, *end;
    size_t from = s->count;
    if (!in.path) {
        snprintf(error, size, "--symbols: out of memory for '%s'", given);
        return false;
    }
    errno = 0;
    uint64_t offset = at ? strtoull(at + 1, &end, 0) : 0;
    if (at && end != at + 1 && !*end && !errno) {
        in.offset = offset;
        *at = 0;
    }
    bool ok = read_any(&in) && (has_code(s, from) || fail(&in, "has no function symbols"));
    free(in.path);
    return ok;
}

/* --- The table */
static int by_address(const void *left, const void *right)
{
    const struct symbol *a = left, *b = right;
    if (a->at != b->at)
        return a->at < b->at ? -1 : 1;
    if (a->rank != b->rank)
        return a->rank > b->rank ? -1 : 1;
    return a->name < b->name ? -1 : 1; /* the first that was given */
}

/* One an address; each gets its end: its own, the next one's begin, or, of the last one, for want of better, that of its page. */
static void tidy(struct symbols *s)
{
    size_t kept = 0;
    qsort(s->list, s->count, sizeof *s->list, by_address);
    for (size_t i = 0, next; i < s->count; i = next) {
        struct symbol symbol = s->list[i];
        for (next = i + 1; next < s->count && s->list[next].at == symbol.at;)
            next++;
        if (symbol.end == symbol.at)
            symbol.end = next < s->count ? s->list[next].at : (symbol.at & PAGE_MASK) + PAGE;
        if (symbol.rank & CODE)
            s->list[kept++] = symbol;
    }
    s->count = kept;
}

struct symbols *symbols_new(const char *const *files, unsigned count, char *error, size_t size)
{
    struct symbols *s = calloc(1, sizeof *s);
    if (!s)
        snprintf(error, size, "--symbols: out of memory");
    for (unsigned i = 0; s && i < count; i++)
        if (!read_source(s, files[i], error, size)) {
            symbols_free(s);
            return NULL;
        }
    if (s)
        tidy(s);
    return s;
}

void symbols_free(struct symbols *s)
{
    if (!s)
        return;
    free(s->list);
    free(s->names);
    free(s);
}

bool symbols_address(const struct symbols *s, const char *name, uint64_t *linear)
{
    for (size_t i = 0; s && i < s->count; i++)
        if (!strcmp(s->names + s->list[i].name, name)) {
            *linear = s->list[i].at;
            return true;
        }
    return false;
}

const char *symbols_find(const struct symbols *s, uint64_t linear, uint64_t *offset)
{
    size_t low = 0, high = s ? s->count : 0;
    while (low < high) { /* those before `low` begin at it or before; those from `high` on behind it */
        size_t middle = low + (high - low) / 2;
        if (s->list[middle].at <= linear)
            low = middle + 1;
        else
            high = middle;
    }
    const struct symbol *found = low ? &s->list[low - 1] : NULL;
    if (!found || linear >= found->end)
        return NULL;
    *offset = linear - found->at;
    return s->names + found->name;
}

void symbols_print(const struct symbols *s, uint64_t linear, char *to, size_t size)
{
    uint64_t offset;
    const char *name = symbols_find(s, linear, &offset);
    if (!name)
        snprintf(to, size, "%" PRIx64, linear);
    else if (offset)
        snprintf(to, size, "%.200s+0x%" PRIx64, name, offset);
    else
        snprintf(to, size, "%.200s", name);
}
