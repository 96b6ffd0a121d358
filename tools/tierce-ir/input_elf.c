/* The bytes of a function of an ELF file, of either class; relocations of object files are not applied. */
#include "tools/tierce-ir/work.h"
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_code(const GElf_Sym *s)
{
    unsigned type = GELF_ST_TYPE(s->st_info);
    return (type == STT_FUNC || type == STT_NOTYPE || type == STT_GNU_IFUNC) && s->st_shndx != SHN_UNDEF && s->st_shndx < SHN_LORESERVE;
}

/* A label of an assembler has no size: it goes to the next symbol of its section, or to the section's end. */
static uint64_t size_to_next(Elf_Data *symbols, size_t count, const GElf_Sym *of, uint64_t end)
{
    GElf_Sym s;
    for (size_t i = 0; i < count; i++)
        if (gelf_getsym(symbols, (int)i, &s) && is_code(&s) && s.st_shndx == of->st_shndx && s.st_value > of->st_value && s.st_value < end)
            end = s.st_value;
    return end - of->st_value;
}

static void take(struct work *w, Elf *elf, Elf_Data *symbols, size_t count, GElf_Sym *s)
{
    GElf_Ehdr header;
    GElf_Shdr h;
    Elf_Scn *section = elf_getscn(elf, s->st_shndx);
    Elf_Data *data = section ? elf_getdata(section, NULL) : NULL;
    if (!gelf_getehdr(elf, &header) || !data || !gelf_getshdr(section, &h) || !data->d_buf || h.sh_type == SHT_NOBITS)
        die(1, "'%s': the section of %s cannot be read: it holds no bytes", w->o.elf, w->o.symbol);
    uint64_t base = header.e_type == ET_REL ? 0 : h.sh_addr, at = s->st_value - base;
    if (at >= data->d_size)
        die(1, "'%s': %s lies outside of its section", w->o.elf, w->o.symbol);
    if (!s->st_size)
        s->st_size = size_to_next(symbols, count, s, base + data->d_size);
    if (s->st_size > data->d_size - at)
        die(1, "'%s': %s does not end in its section", w->o.elf, w->o.symbol);
    w->size = s->st_size;
    w->bytes = checked(malloc(w->size));
    memcpy(w->bytes, (const char *)data->d_buf + at, w->size);
    w->pc = s->st_value;
}

static bool look_in(struct work *w, Elf *elf, Elf_Scn *section)
{
    GElf_Shdr h;
    GElf_Sym s;
    Elf_Data *data;
    if (!gelf_getshdr(section, &h) || (h.sh_type != SHT_SYMTAB && h.sh_type != SHT_DYNSYM) || !h.sh_entsize || !(data = elf_getdata(section, NULL)))
        return false;
    size_t count = data->d_size / h.sh_entsize;
    for (size_t i = 0; i < count; i++) {
        const char *name = gelf_getsym(data, (int)i, &s) && is_code(&s) ? elf_strptr(elf, h.sh_link, s.st_name) : NULL;
        if (name && !strcmp(name, w->o.symbol)) {
            take(w, elf, data, count, &s);
            return true;
        }
    }
    return false;
}

static void read_bits(struct work *w, Elf *elf)
{
    GElf_Ehdr h;
    if (elf_kind(elf) != ELF_K_ELF || !gelf_getehdr(elf, &h))
        die(1, "'%s' is no ELF file", w->o.elf);
    if (h.e_machine != EM_X86_64 && h.e_machine != EM_386)
        die(1, "'%s' is not for x86: its ELF machine is %u", w->o.elf, h.e_machine);
    if (!w->o.bits && !w->o.has_mode)
        w->o.bits = h.e_machine == EM_386 ? 32 : 64;
}

void input_elf(struct work *w)
{
    Elf_Scn *section = NULL;
    int fd = open(w->o.elf, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        die(1, "cannot read '%s': %s", w->o.elf, strerror(errno));
    elf_version(EV_CURRENT);
    Elf *elf = elf_begin(fd, ELF_C_READ, NULL);
    read_bits(w, elf);
    bool found = false;
    while (!found && (section = elf_nextscn(elf, section)))
        found = look_in(w, elf, section);
    if (!found)
        die(1, "'%s' has no function %s", w->o.elf, w->o.symbol);
    elf_end(elf);
    close(fd);
}
