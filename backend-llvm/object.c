/* The ELF object of a region (object.h).  libelf tells what stands where in an input and writes the output; that it all lies
 * inside the input is checked here, before anything is read, as objects come out of caches that others can write. */
#define _GNU_SOURCE
#include "backend-llvm/object.h"
#include <elfutils/libdw.h>
#include <endian.h>
#include <errno.h>
#include <gelf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_SECTIONS 64u /* LLVM makes about 25, object_link 6 */

/* FNV-1a: it tells versions of code apart; against an enemy the bytes themselves are compared. */
uint64_t object_hash(const void *bytes, size_t size)
{
    const uint8_t *p = bytes;
    uint64_t hash = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ p[i]) * 0x100000001b3ull;
    return hash;
}

struct report { char *text; size_t size; };

/* One line, whatever the names in it are. */
__attribute__((format(printf, 2, 3))) static bool refuse(struct report r, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(r.text, r.size, format, args);
    va_end(args);
    for (char *c = r.text; r.size && *c; c++)
        *c = (uint8_t)*c < ' ' ? '?' : *c;
    return false;
}

/* --- The encoding of .tierce.region: each record is a list of fields with their bits. */
#define META(F) F(mode, 32) F(guest_insns, 32) F(block_count, 32) F(range_count, 32) F(exit_count, 32) F(line_count, 32)
#define RANGE(F) F(pc, 64) F(hash, 64) F(size, 32)
#define EXIT(F) F(pc, 64) F(cause, 32)
#define LINE(F) F(host, 32) F(pc, 64)

static uint8_t *put32(uint8_t *p, uint32_t x) { return x = htole32(x), (uint8_t *)memcpy(p, &x, 4) + 4; }
static uint8_t *put64(uint8_t *p, uint64_t x) { return x = htole64(x), (uint8_t *)memcpy(p, &x, 8) + 8; }
static uint32_t get32(const uint8_t *p) { uint32_t x; return memcpy(&x, p, 4), le32toh(x); }
static uint64_t get64(const uint8_t *p) { uint64_t x; return memcpy(&x, p, 8), le64toh(x); }

#define FIELD_SIZE(name, bits) + bits / 8
#define FIELD_PUT(name, bits) p = put##bits(p, x->name);
#define FIELD_GET(name, bits) x->name = get##bits(p), p += bits / 8;
#define RECORD(name, NAME) \
    enum { NAME##_SIZE = 0 NAME(FIELD_SIZE) }; \
    static uint8_t *put_##name(uint8_t *p, const struct object_##name *x) { NAME(FIELD_PUT) return p; } \
    static const uint8_t *get_##name(const uint8_t *p, struct object_##name *x) { NAME(FIELD_GET) return p; }
RECORD(meta, META)
RECORD(range, RANGE)
RECORD(exit, EXIT)
RECORD(line, LINE)

enum { KEY_SIZE = sizeof ((struct object_meta *)0)->key, HEAD_SIZE = 4 + KEY_SIZE + META_SIZE };

/* In 64 bits: the counts may be anything. */
static uint64_t region_size(const struct object_meta *m)
{
    return HEAD_SIZE + (uint64_t)m->range_count * RANGE_SIZE + (uint64_t)m->exit_count * EXIT_SIZE + (uint64_t)m->line_count * LINE_SIZE;
}

static void region_encode(uint8_t *p, const struct object_meta *m)
{
    p = put32(p, OBJECT_MAGIC);
    p = put_meta((uint8_t *)memcpy(p, m->key, KEY_SIZE) + KEY_SIZE, m);
    for (unsigned i = 0; i < m->range_count; i++)
        p = put_range(p, &m->ranges[i]);
    for (unsigned i = 0; i < m->exit_count; i++)
        p = put_exit(p, &m->exits[i]);
    for (unsigned i = 0; i < m->line_count; i++)
        p = put_line(p, &m->lines[i]);
}

/* `*owned`: the three arrays in one, the ones of 8-byte fields in front, as all are aligned alike.  They take no more than
 * twice the size of the section, as that is known to hold them. */
static bool region_decode(const uint8_t *p, size_t size, struct object_meta *m, void **owned, struct report r)
{
    if (size < HEAD_SIZE || get32(p) != OBJECT_MAGIC)
        return refuse(r, "object: .tierce.region of %zu bytes is not of this version", size);
    memcpy(m->key, p + 4, KEY_SIZE);
    p = get_meta(p + 4 + KEY_SIZE, m);
    if (region_size(m) != size)
        return refuse(r, "object: .tierce.region of %zu bytes announces %llu", size, (unsigned long long)region_size(m));
    struct object_range *ranges;
    struct object_exit *exits;
    struct object_line *lines;
    uint8_t *all = *owned = malloc(m->range_count * sizeof *ranges + m->exit_count * sizeof *exits + m->line_count * sizeof *lines + 1);
    if (!all)
        return refuse(r, "object: out of memory");
    m->ranges = ranges = (struct object_range *)all;
    m->exits = exits = (struct object_exit *)(ranges + m->range_count);
    m->lines = lines = (struct object_line *)(exits + m->exit_count);
    for (unsigned i = 0; i < m->range_count; i++)
        p = get_range(p, &ranges[i]);
    for (unsigned i = 0; i < m->exit_count; i++)
        p = get_exit(p, &exits[i]);
    for (unsigned i = 0; i < m->line_count; i++)
        p = get_line(p, &lines[i]);
    return true;
}

/* What object_link promises and object_open demands. */
#define BAD_NAME "object: the function's name is empty, too long or not printable"
static bool name_valid(const char *name)
{
    size_t length = 0;
    for (; name && name[length] && length <= OBJECT_MAX_NAME; length++)
        if ((uint8_t)name[length] < ' ' || name[length] == 0x7f)
            return false;
    return length && length <= OBJECT_MAX_NAME;
}

static bool lines_valid(const struct object_meta *m, size_t text_size)
{
    for (unsigned i = 0; i < m->line_count; i++)
        if (m->lines[i].host >= text_size || (i && m->lines[i].host <= m->lines[i - 1].host))
            return false;
    return true;
}

static bool ranges_valid(const struct object_meta *m)
{
    for (unsigned i = 0; i < m->range_count; i++)
        if (!m->ranges[i].size || m->ranges[i].size > OBJECT_MAX_RANGE_SIZE)
            return false;
    return true;
}

static bool meta_valid(const struct object_meta *m, size_t text_size, struct report r)
{
    if (!name_valid(m->name))
        return refuse(r, BAD_NAME);
    if (text_size > OBJECT_MAX_TEXT)
        return refuse(r, "object: .text of %zu bytes; accepted: up to %d", text_size, OBJECT_MAX_TEXT);
    if (m->range_count > OBJECT_MAX_RANGES || m->exit_count > OBJECT_MAX_EXITS || m->line_count > OBJECT_MAX_LINES)
        return refuse(r, "object: %u ranges, %u exits, %u lines; accepted: up to %d, %d, %d", m->range_count, m->exit_count, m->line_count,
                      OBJECT_MAX_RANGES, OBJECT_MAX_EXITS, OBJECT_MAX_LINES);
    if (m->recipe_size > OBJECT_MAX_RECIPE)
        return refuse(r, "object: a recipe of %zu bytes; accepted: up to %d", m->recipe_size, OBJECT_MAX_RECIPE);
    if (!ranges_valid(m))
        return refuse(r, "object: a guest range of no bytes, or more than %d", OBJECT_MAX_RANGE_SIZE);
    return lines_valid(m, text_size) || refuse(r, "object: lines are not in ascending order inside .text");
}

/* --- An ELF relocatable in memory, its headers checked: each section lies inside of it. */
struct section { GElf_Shdr h; const char *name; const uint8_t *bytes; uint64_t address; bool kept; };
struct image { Elf *elf; const uint8_t *bytes; size_t size; struct section sections[MAX_SECTIONS]; unsigned count; };

static bool section_is(const struct section *s, const char *name) { return s->name && !strcmp(s->name, name); }

static struct section *image_find(struct image *m, const char *name)
{
    for (unsigned i = 1; i < m->count; i++)
        if (section_is(&m->sections[i], name))
            return &m->sections[i];
    return NULL;
}

/* NULL: not inside, or not terminated. */
static const char *string_at(const struct section *table, uint64_t offset)
{
    if (table->h.sh_type != SHT_STRTAB || offset >= table->h.sh_size || !memchr(table->bytes + offset, 0, table->h.sh_size - offset))
        return NULL;
    return (const char *)table->bytes + offset;
}

static bool header_valid(const uint8_t *bytes, size_t size)
{
    static const uint8_t ident[] = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT};
    Elf64_Ehdr h;
    if (size < sizeof h)
        return false;
    memcpy(&h, bytes, sizeof h);
    return !memcmp(h.e_ident, ident, sizeof ident) && h.e_type == ET_REL && h.e_machine == EM_X86_64 && h.e_version == EV_CURRENT
        && !h.e_phnum && h.e_shentsize == sizeof (Elf64_Shdr) && h.e_shnum && h.e_shnum <= MAX_SECTIONS && h.e_shstrndx < h.e_shnum
        && h.e_shoff <= size && h.e_shnum <= (size - h.e_shoff) / sizeof (Elf64_Shdr);
}

static bool section_read(struct image *m, unsigned index)
{
    struct section *s = &m->sections[index];
    if (!gelf_getshdr(elf_getscn(m->elf, index), &s->h) || s->h.sh_flags & SHF_COMPRESSED)
        return false;
    if (s->h.sh_type == SHT_NOBITS || s->h.sh_type == SHT_NULL)
        return true;
    if (s->h.sh_offset > m->size || s->h.sh_size > m->size - s->h.sh_offset)
        return false;
    s->bytes = m->bytes + s->h.sh_offset;
    return true;
}

/* libelf does not write to what it is given to read. */
static bool image_open(struct image *m, const uint8_t *bytes, size_t size, struct report r)
{
    GElf_Ehdr h;
    *m = (struct image){.bytes = bytes, .size = size};
    if (!header_valid(bytes, size))
        return refuse(r, "object: not an ELF64 relocatable for x86-64 of up to %u sections", MAX_SECTIONS);
    if (elf_version(EV_CURRENT) == EV_NONE || !(m->elf = elf_memory((char *)(uintptr_t)bytes, size)) || !gelf_getehdr(m->elf, &h))
        return refuse(r, "object: %s", elf_errmsg(-1));
    m->count = h.e_shnum;
    for (unsigned i = 0; i < m->count; i++)
        if (!section_read(m, i))
            return refuse(r, "object: section %u of %u does not lie inside", i, m->count);
    for (unsigned i = 1; i < m->count; i++)
        if (!(m->sections[i].name = string_at(&m->sections[h.e_shstrndx], m->sections[i].h.sh_name)))
            return refuse(r, "object: section %u has no name", i);
    return true;
}

static void image_close(struct image *m)
{
    if (m->elf)
        elf_end(m->elf);
}

static const struct section *symbol_table(const struct image *m)
{
    for (unsigned i = 1; i < m->count; i++)
        if (m->sections[i].h.sh_type == SHT_SYMTAB && m->sections[i].h.sh_link < m->count)
            return &m->sections[i];
    return NULL;
}

static size_t symbol_count(const struct section *table) { return table->h.sh_size / sizeof (Elf64_Sym); }

static Elf64_Sym symbol_at(const struct section *table, size_t index)
{
    Elf64_Sym s;
    memcpy(&s, table->bytes + index * sizeof s, sizeof s);
    return s;
}

static const char *symbol_name(const struct image *m, const struct section *table, const Elf64_Sym *s)
{
    return string_at(&m->sections[table->h.sh_link], s->st_name);
}

/* In a section of `room` bytes. */
static bool lies_inside(const Elf64_Sym *s, uint64_t room) { return s->st_size && s->st_value < room && s->st_size <= room - s->st_value; }

static bool is_function(const Elf64_Sym *s) { return ELF64_ST_TYPE(s->st_info) == STT_FUNC && s->st_shndx != SHN_UNDEF; }

/* --- Link.  Relocations are applied in a copy of the input, so that libdw sees them too. */
struct link {
    struct image in;
    struct report report;
    uint8_t *copy;
    struct object_meta meta;
    struct object_line *lines; /* made from DWARF, or NULL */
    uint64_t code_size, text_size, function_size;
};

static bool is_debug_line(const struct section *s) { return section_is(s, ".debug_line"); }

static bool section_dropped(const struct section *s)
{
    return !(s->h.sh_flags & SHF_ALLOC) || !s->h.sh_size || s->h.sh_type == SHT_NOTE || section_is(s, ".eh_frame");
}

static bool is_code(const struct section *s) { return !section_dropped(s) && s->h.sh_flags & SHF_EXECINSTR; }

static bool place(struct link *l, struct section *s)
{
    uint64_t align = s->h.sh_addralign ? s->h.sh_addralign : 1;
    if (s->h.sh_type != SHT_PROGBITS || s->h.sh_flags & (SHF_WRITE | SHF_TLS))
        return refuse(l->report, "object_link: section %s is neither code nor constants", s->name);
    if (align & (align - 1) || align > OBJECT_TEXT_ALIGN)
        return refuse(l->report, "object_link: section %s is aligned to %llu; accepted: up to %d", s->name, (unsigned long long)align, OBJECT_TEXT_ALIGN);
    s->address = (l->text_size + align - 1) & -align;
    s->kept = true;
    l->text_size = s->address + s->h.sh_size;
    return l->text_size <= OBJECT_MAX_TEXT || refuse(l->report, "object_link: code of more than %d bytes", OBJECT_MAX_TEXT);
}

/* Code first, as it stands in the input, then constants. */
static bool lay_out(struct link *l)
{
    for (unsigned i = 1; i < l->in.count; i++)
        if (is_code(&l->in.sections[i]) && !place(l, &l->in.sections[i]))
            return false;
    l->code_size = l->text_size;
    for (unsigned i = 1; i < l->in.count; i++)
        if (!is_code(&l->in.sections[i]) && !section_dropped(&l->in.sections[i]) && !place(l, &l->in.sections[i]))
            return false;
    return true;
}

/* Its address in the output; in a debug section, its offset there. */
static bool symbol_address(struct link *l, const Elf64_Sym *s, const char **name, uint64_t *address)
{
    const struct section *home = s->st_shndx < l->in.count ? &l->in.sections[s->st_shndx] : NULL;
    const char *given = symbol_name(&l->in, symbol_table(&l->in), s);
    *name = given && *given ? given : home && home->name ? home->name : "?";
    if (s->st_shndx == SHN_UNDEF)
        return given && *given ? refuse(l->report, "object_link: undefined symbol %s", given) : refuse(l->report, "object_link: reference to an absolute address");
    if (!home || (home->h.sh_flags & SHF_ALLOC && !home->kept))
        return refuse(l->report, "object_link: symbol %s is not in code or constants", *name);
    *address = home->address + s->st_value;
    return true;
}

static bool store(struct link *l, const struct section *target, uint64_t offset, uint64_t value, unsigned width)
{
    if (offset > target->h.sh_size || width > target->h.sh_size - offset)
        return refuse(l->report, "object_link: relocation outside of %s", target->name);
    uint8_t *at = l->copy + target->h.sh_offset + offset;
    width == 4 ? put32(at, (uint32_t)value) : put64(at, value);
    return true;
}

static bool relocate_kept(struct link *l, const struct section *target, const Elf64_Rela *r, uint64_t symbol, const char *name)
{
    int64_t value = (int64_t)(symbol + (uint64_t)r->r_addend - target->address - r->r_offset);
    switch (ELF64_R_TYPE(r->r_info)) {
    case R_X86_64_PC32: case R_X86_64_PLT32: /* what OBJECT_MAX_TEXT allows is in reach; an addend might not be */
        if (value != (int32_t)value)
            return refuse(l->report, "object_link: relocation against %s is out of reach", name);
        return store(l, target, r->r_offset, (uint64_t)value, 4);
    case R_X86_64_PC64: return store(l, target, r->r_offset, (uint64_t)value, 8);
    case R_X86_64_64: case R_X86_64_32: case R_X86_64_32S: case R_X86_64_16: case R_X86_64_8:
        return refuse(l->report, "object_link: absolute relocation against %s in %s", name, target->name);
    default: return refuse(l->report, "object_link: relocation of type %u against %s in %s", (unsigned)ELF64_R_TYPE(r->r_info), name, target->name);
    }
}

static bool relocate_debug(struct link *l, const struct section *target, const Elf64_Rela *r, uint64_t symbol, const char *name)
{
    switch (ELF64_R_TYPE(r->r_info)) {
    case R_X86_64_64: return store(l, target, r->r_offset, symbol + (uint64_t)r->r_addend, 8);
    case R_X86_64_32: return store(l, target, r->r_offset, symbol + (uint64_t)r->r_addend, 4);
    default: return refuse(l->report, "object_link: relocation of type %u against %s in %s", (unsigned)ELF64_R_TYPE(r->r_info), name, target->name);
    }
}

static bool relocate_section(struct link *l, const struct section *relocs, const struct section *target)
{
    const struct section *symbols = symbol_table(&l->in);
    for (size_t i = 0; i < relocs->h.sh_size / sizeof (Elf64_Rela); i++) {
        Elf64_Rela r;
        const char *name;
        uint64_t symbol = 0;
        memcpy(&r, relocs->bytes + i * sizeof r, sizeof r);
        if (ELF64_R_SYM(r.r_info) >= symbol_count(symbols))
            return refuse(l->report, "object_link: relocation %zu of %s has no symbol", i, target->name);
        Elf64_Sym s = symbol_at(symbols, ELF64_R_SYM(r.r_info));
        if (!symbol_address(l, &s, &name, &symbol) || !(target->kept ? relocate_kept : relocate_debug)(l, target, &r, symbol, name))
            return false;
    }
    return true;
}

static bool relocate(struct link *l)
{
    if (!symbol_table(&l->in))
        return refuse(l->report, "object_link: no symbol table");
    for (unsigned i = 1; i < l->in.count; i++) {
        const struct section *s = &l->in.sections[i], *target = s->h.sh_info < l->in.count ? &l->in.sections[s->h.sh_info] : NULL;
        if ((s->h.sh_type != SHT_RELA && s->h.sh_type != SHT_REL) || !target || !(target->kept || is_debug_line(target)))
            continue;
        if (s->h.sh_type == SHT_REL)
            return refuse(l->report, "object_link: section %s is not in the form with addends", s->name);
        if (!relocate_section(l, s, target))
            return false;
    }
    return true;
}

static bool find_function(struct link *l)
{
    const struct section *symbols = symbol_table(&l->in), *home;
    Elf64_Sym found = {0};
    unsigned count = 0;
    bool named = false;
    for (size_t i = 1; i < symbol_count(symbols) && !named; i++) {
        Elf64_Sym s = symbol_at(symbols, i);
        const char *name = symbol_name(&l->in, symbols, &s);
        if (!is_function(&s))
            continue;
        named = name && !strcmp(name, l->meta.name);
        found = s;
        count++;
    }
    if (!named && count != 1)
        return refuse(l->report, "object_link: %u functions, none of them named %s", count, l->meta.name);
    home = found.st_shndx < l->in.count ? &l->in.sections[found.st_shndx] : NULL;
    if (!home || !home->kept || !lies_inside(&found, home->h.sh_size))
        return refuse(l->report, "object_link: function %s has no place or no size", l->meta.name);
    l->meta.entry = (uint32_t)(home->address + found.st_value);
    l->function_size = found.st_size;
    return true;
}

/* --- Lines: libdw yields them in the order of their addresses. */
static bool add_line(struct link *l, Dwarf_Line *line)
{
    Dwarf_Addr host;
    int number;
    bool end;
    if (!line || dwarf_lineaddr(line, &host) || dwarf_lineno(line, &number) || dwarf_lineendsequence(line, &end))
        return false;
    if (end || !number || host == l->code_size) /* the compiler's own; of no code */
        return true;
    if (host > l->code_size)
        return false;
    struct object_line *last = l->lines + l->meta.line_count;
    int64_t pc = (int32_t)((uint32_t)number - OBJECT_LINE_BASE);
    if (l->meta.line_count && last[-1].host == host) { /* the row in front of it is of no code */
        l->meta.line_count--;
        last--;
    }
    if (l->meta.line_count && last[-1].pc == pc)
        return true;
    *last = (struct object_line){(uint32_t)host, pc};
    l->meta.line_count++;
    return true;
}

static bool add_lines(struct link *l, Dwarf_Lines *lines, size_t count)
{
    struct object_line *more = realloc(l->lines, (l->meta.line_count + count + 1) * sizeof *more);
    bool ok = more;
    l->lines = more ? more : l->lines;
    for (size_t i = 0; ok && i < count; i++)
        ok = add_line(l, dwarf_onesrcline(lines, i));
    return ok;
}

static bool read_lines(struct link *l)
{
    struct section *s = image_find(&l->in, ".debug_line");
    Dwarf_Off at = 0, next;
    Dwarf_CU *unit = NULL;
    Dwarf_Files *files;
    Dwarf_Lines *lines;
    size_t file_count, line_count;
    int status = -1;
    if (!s || !s->h.sh_size)
        return true;
    l->meta.line_count = 0;
    Dwarf *dwarf = dwarf_begin_elf(l->in.elf, DWARF_C_READ, NULL);
    while (dwarf && !(status = dwarf_next_lines(dwarf, at, &next, &unit, &files, &file_count, &lines, &line_count)) && add_lines(l, lines, line_count))
        at = next;
    if (dwarf)
        dwarf_end(dwarf);
    l->meta.lines = l->lines;
    return status == 1 || refuse(l->report, "object_link: .debug_line: %s", status ? dwarf_errmsg(-1) : "no memory, or a line outside of the code");
}

/* --- Writing.  libelf writes to a file only: one in memory. */
#define STRINGS "\0.text\0.tierce.region\0.symtab\0.strtab\0constants\0.tierce.recipe"
enum { STR_TEXT = 1, STR_REGION = 7, STR_SYMTAB = 22, STR_STRTAB = 30, STR_CONSTANTS = 38, STR_RECIPE = 48, STR_FUNCTION = sizeof STRINGS };
enum { SEC_TEXT = 1, SEC_REGION, SEC_SYMTAB, SEC_STRTAB /* and, maybe, the recipe */ };

/* What the sections point to must live until the file is written. */
static bool add_section(Elf *elf, GElf_Shdr h, Elf_Type type, void *bytes, size_t size)
{
    Elf_Scn *scn = elf_newscn(elf);
    Elf_Data *data = scn ? elf_newdata(scn) : NULL;
    if (!data)
        return false;
    data->d_buf = bytes;
    data->d_size = size;
    data->d_align = h.sh_addralign;
    data->d_type = type;
    return gelf_update_shdr(scn, &h);
}

struct pieces { uint8_t *text, *region; char *strings; size_t string_size; Elf64_Sym symbols[3]; unsigned symbol_count; };

static unsigned make_symbols(const struct link *l, Elf64_Sym *s)
{
    unsigned count = 1;
    if (l->text_size > l->code_size) /* so that a disassembler does not take them for code */
        s[count++] = (Elf64_Sym){.st_name = STR_CONSTANTS, .st_info = ELF64_ST_INFO(STB_LOCAL, STT_OBJECT), .st_shndx = SEC_TEXT,
                                 .st_value = l->code_size, .st_size = l->text_size - l->code_size};
    s[count++] = (Elf64_Sym){.st_name = STR_FUNCTION, .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), .st_shndx = SEC_TEXT,
                             .st_value = l->meta.entry, .st_size = l->function_size};
    return count;
}

static bool make_pieces(const struct link *l, struct pieces *p)
{
    p->string_size = STR_FUNCTION + strlen(l->meta.name) + 1;
    p->text = malloc(l->text_size);
    p->region = malloc(region_size(&l->meta));
    p->strings = malloc(p->string_size);
    if (!p->text || !p->region || !p->strings)
        return false;
    memset(p->text, 0xcc, l->text_size); /* INT3 in the gaps */
    for (unsigned i = 1; i < l->in.count; i++)
        if (l->in.sections[i].kept)
            memcpy(p->text + l->in.sections[i].address, l->in.sections[i].bytes, l->in.sections[i].h.sh_size);
    region_encode(p->region, &l->meta);
    memcpy(p->strings, STRINGS, STR_FUNCTION);
    strcpy(p->strings + STR_FUNCTION, l->meta.name);
    p->symbol_count = make_symbols(l, p->symbols);
    return true;
}

static bool add_sections(const struct link *l, struct pieces *p, Elf *elf)
{
    GElf_Ehdr h;
    if (!elf || !gelf_newehdr(elf, ELFCLASS64) || !gelf_getehdr(elf, &h))
        return false;
    h.e_ident[EI_DATA] = ELFDATA2LSB;
    h.e_type = ET_REL;
    h.e_machine = EM_X86_64;
    h.e_version = EV_CURRENT;
    h.e_shstrndx = SEC_STRTAB;
    return gelf_update_ehdr(elf, &h)
        && add_section(elf, (GElf_Shdr){.sh_name = STR_TEXT, .sh_type = SHT_PROGBITS, .sh_flags = SHF_ALLOC | SHF_EXECINSTR,
                       .sh_addralign = OBJECT_TEXT_ALIGN}, ELF_T_BYTE, p->text, l->text_size)
        && add_section(elf, (GElf_Shdr){.sh_name = STR_REGION, .sh_type = SHT_PROGBITS, .sh_addralign = 8}, ELF_T_BYTE, p->region, region_size(&l->meta))
        && add_section(elf, (GElf_Shdr){.sh_name = STR_SYMTAB, .sh_type = SHT_SYMTAB, .sh_link = SEC_STRTAB, .sh_addralign = 8,
                       .sh_info = p->symbol_count - 1, .sh_entsize = sizeof (Elf64_Sym)}, ELF_T_SYM, p->symbols, p->symbol_count * sizeof *p->symbols)
        && add_section(elf, (GElf_Shdr){.sh_name = STR_STRTAB, .sh_type = SHT_STRTAB, .sh_addralign = 1}, ELF_T_BYTE, p->strings, p->string_size)
        && (!l->meta.recipe_size || add_section(elf, (GElf_Shdr){.sh_name = STR_RECIPE, .sh_type = SHT_PROGBITS, .sh_addralign = 8}, ELF_T_BYTE,
                                                (void *)(uintptr_t)l->meta.recipe, l->meta.recipe_size));
}

static bool write_object(struct link *l, uint8_t **out, size_t *out_size)
{
    struct pieces p = {0};
    *out = NULL;
    int fd = memfd_create("object", MFD_CLOEXEC);
    Elf *elf = fd >= 0 ? elf_begin(fd, ELF_C_WRITE, NULL) : NULL;
    bool made = make_pieces(l, &p);
    int64_t size = made && add_sections(l, &p, elf) ? elf_update(elf, ELF_C_WRITE) : -1;
    bool ok = size > 0 && (*out = malloc((size_t)size)) && pread(fd, *out, (size_t)size, 0) == size;
    if (ok)
        *out_size = (size_t)size;
    else
        refuse(l->report, "object_link: cannot write: %s", !made ? "out of memory" : size > 0 || fd < 0 ? strerror(errno) : elf_errmsg(-1));
    if (!ok) {
        free(*out);
        *out = NULL;
    }
    if (elf)
        elf_end(elf);
    if (fd >= 0)
        close(fd);
    free(p.text);
    free(p.region);
    free(p.strings);
    return ok;
}

bool object_link(const void *llvm_elf, size_t size, const struct object_meta *meta, uint8_t **out, size_t *out_size, char *error, size_t error_size)
{
    struct link l = {.report = {error, error_size}, .meta = *meta};
    l.copy = malloc(size + 1);
    if (!l.copy)
        return refuse(l.report, "object_link: out of memory");
    memcpy(l.copy, llvm_elf, size);
    l.copy[size] = 0; /* ends a string that a relocation of a broken input was written over */
    bool ok = image_open(&l.in, l.copy, size, l.report);
    ok = ok && (name_valid(meta->name) || refuse(l.report, BAD_NAME)) && lay_out(&l) && relocate(&l) && find_function(&l) && read_lines(&l)
        && meta_valid(&l.meta, l.text_size, l.report) && write_object(&l, out, out_size);
    image_close(&l.in);
    free(l.lines);
    free(l.copy);
    return ok;
}

/* --- Open */
static bool view_read(struct image *m, struct object_view *v, struct report r)
{
    const struct section *text = image_find(m, ".text"), *region = image_find(m, ".tierce.region"), *symbols = symbol_table(m);
    const struct section *recipe = image_find(m, ".tierce.recipe");
    if (!text || !region || !symbols || text->h.sh_type != SHT_PROGBITS || region->h.sh_type != SHT_PROGBITS)
        return refuse(r, "object: one of .text, .tierce.region, .symtab is missing");
    for (unsigned i = 1; i < m->count; i++)
        if (m->sections[i].h.sh_type == SHT_RELA || m->sections[i].h.sh_type == SHT_REL)
            return refuse(r, "object: there are relocations left, in %s", m->sections[i].name);
    if (recipe && recipe->h.sh_type != SHT_PROGBITS)
        return refuse(r, "object: .tierce.recipe is not of bytes");
    v->meta.recipe = recipe ? recipe->bytes : NULL;
    v->meta.recipe_size = recipe ? recipe->h.sh_size : 0;
    v->text = text->bytes;
    v->text_size = text->h.sh_size;
    for (size_t i = 1; i < symbol_count(symbols) && !v->meta.name; i++) {
        Elf64_Sym s = symbol_at(symbols, i);
        if (!is_function(&s) || s.st_shndx != text - m->sections || !lies_inside(&s, v->text_size))
            continue;
        v->meta.name = symbol_name(m, symbols, &s);
        v->meta.entry = (uint32_t)s.st_value;
        v->code_size = s.st_size;
    }
    return region_decode(region->bytes, region->h.sh_size, &v->meta, &v->owned, r) && meta_valid(&v->meta, v->text_size, r);
}

bool object_open(const void *elf, size_t size, struct object_view *view, char *error, size_t error_size)
{
    struct image m;
    struct report r = {error, error_size};
    *view = (struct object_view){0};
    bool ok = image_open(&m, elf, size, r) && view_read(&m, view, r);
    image_close(&m);
    if (!ok)
        object_close(view);
    return ok;
}

void object_close(struct object_view *view)
{
    free(view->owned);
    *view = (struct object_view){0};
}
