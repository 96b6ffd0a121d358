/* From an ELF file to an image: sections (or, without them, segments), and where its tables say that code begins - entry point,
 * symbols, DT_INIT and DT_FINI, arrays of constructors, relocations whose value is an address in code, exception frames. */
#include "tools/tierce-cache/image.h"
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <gelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reader { struct image *m; Elf *elf; GElf_Ehdr head; const uint8_t *file; size_t size; struct failure *f; };

/* --- Parts */
/* What no CPU runs at its place: the kernel copies it. */
static bool is_template(const char *name) { return !strcmp(name, ".altinstr_replacement"); }
static bool is_init(const char *name) { return !strcmp(name, ".init.text") || !strcmp(name, ".altinstr_aux") || !strcmp(name, ".head.text"); }

static bool add_sections(struct reader *r, bool *any)
{
    size_t names;
    GElf_Shdr h;
    if (elf_getshdrstrndx(r->elf, &names))
        return true;
    for (Elf_Scn *s = NULL; (s = elf_nextscn(r->elf, s));) {
        if (!gelf_getshdr(s, &h) || !(h.sh_flags & SHF_ALLOC) || h.sh_type == SHT_NOBITS || h.sh_flags & (SHF_TLS | SHF_COMPRESSED) || h.sh_offset > r->size ||
            h.sh_size > r->size - h.sh_offset)
            continue;
        const char *name = elf_strptr(r->elf, names, h.sh_name);
        bool code = h.sh_flags & SHF_EXECINSTR && !(name && is_template(name));
        size_t before = r->m->part_count;
        if (!image_add_part(r->m, h.sh_addr, r->file + h.sh_offset, h.sh_size, code, name ? name : "", r->f))
            return false;
        if (r->m->part_count > before)
            r->m->parts[before].init = name && is_init(name);
        *any |= code;
    }
    return true;
}

static bool add_segments(struct reader *r)
{
    size_t count = 0;
    GElf_Phdr h;
    if (elf_getphdrnum(r->elf, &count))
        count = 0;
    for (size_t n = 0; n < count; n++)
        if (gelf_getphdr(r->elf, (int)n, &h) && h.p_type == PT_LOAD && h.p_offset <= r->size && h.p_filesz <= r->size - h.p_offset &&
            !image_add_part(r->m, h.p_vaddr, r->file + h.p_offset, h.p_filesz, h.p_flags & PF_X, "", r->f))
            return false;
    return true;
}

/* --- Entries */
static uint64_t word_at(const struct image *m, uint64_t at, unsigned size)
{
    const struct part *p = image_at(m, at);
    uint64_t v = 0;
    if (p && size <= p->size - (at - p->pc))
        memcpy(&v, p->bytes + (at - p->pc), size);
    return v;
}

static bool add_symbols(struct reader *r, Elf_Scn *scn, const GElf_Shdr *h)
{
    GElf_Sym s;
    Elf_Data *data = elf_getdata(scn, NULL);
    for (int i = 0; data && gelf_getsym(data, i, &s); i++) {
        unsigned type = GELF_ST_TYPE(s.st_info);
        if ((type != STT_FUNC && type != STT_GNU_IFUNC) || !s.st_shndx || s.st_shndx >= SHN_LORESERVE)
            continue;
        if (!image_add_entry(r->m, s.st_value, r->f) || (s.st_size && s.st_size < 1 << 24 && !image_add_function(r->m, s.st_value, s.st_value + s.st_size, r->f)))
            return false;
    }
    (void)h;
    return true;
}

/* Words that hold addresses: constructors, or what R_*_RELATIVE and R_*_64 leave. */
static bool add_words(struct reader *r, uint64_t at, uint64_t size)
{
    unsigned each = r->m->bits / 8;
    for (uint64_t n = 0; n + each <= size && n < 1 << 24; n += each)
        if (!image_add_entry(r->m, word_at(r->m, at + n, each), r->f))
            return false;
    return true;
}

static bool is_relative(const struct reader *r, uint32_t type)
{
    return r->head.e_machine == EM_X86_64 ? type == R_X86_64_RELATIVE || type == R_X86_64_IRELATIVE : type == R_386_RELATIVE || type == R_386_IRELATIVE;
}

static bool add_relocations(struct reader *r, Elf_Scn *scn, const GElf_Shdr *h)
{
    Elf_Data *data = elf_getdata(scn, NULL);
    GElf_Rela a;
    GElf_Rel e;
    for (int i = 0; data; i++) {
        uint64_t value;
        if (h->sh_type == SHT_RELA) {
            if (!gelf_getrela(data, i, &a))
                return true;
            value = (uint64_t)a.r_addend;
            if (!is_relative(r, (uint32_t)GELF_R_TYPE(a.r_info)))
                continue;
        } else {
            if (!gelf_getrel(data, i, &e))
                return true;
            value = word_at(r->m, e.r_offset, r->m->bits / 8);
            if (!is_relative(r, (uint32_t)GELF_R_TYPE(e.r_info)))
                continue;
        }
        if (!image_add_entry(r->m, value, r->f))
            return false;
    }
    return true;
}

static bool add_dynamic(struct reader *r, Elf_Scn *scn)
{
    Elf_Data *data = elf_getdata(scn, NULL);
    GElf_Dyn d;
    for (int i = 0; data && gelf_getdyn(data, i, &d); i++)
        if ((d.d_tag == DT_INIT || d.d_tag == DT_FINI) && !image_add_entry(r->m, d.d_un.d_ptr, r->f))
            return false;
    return true;
}

/* Procedure linkage tables hold jumps, one each entry; where entries begin is told by their alignment alone. */
static bool add_plt(struct reader *r, const GElf_Shdr *h)
{
    uint64_t step = h->sh_entsize >= 8 && h->sh_entsize <= 64 ? h->sh_entsize : h->sh_addralign >= 8 && h->sh_addralign <= 16 ? h->sh_addralign : 16;
    for (uint64_t at = 0; at < h->sh_size && at < 1 << 24; at += step)
        if (!image_add_entry(r->m, h->sh_addr + at, r->f))
            return false;
    return true;
}

/* --- Exception frames: each FDE is a function, or a part of one.  LSB 4.0, 10.6.1; pointers as relative to their place or absolute. */
static bool pointer(const struct reader *r, const uint8_t *at, const uint8_t *end, uint64_t place, unsigned encoding, uint64_t *value, unsigned *size)
{
    static const uint8_t sizes[16] = {[DW_EH_PE_udata2] = 2, [DW_EH_PE_udata4] = 4, [DW_EH_PE_udata8] = 8, [DW_EH_PE_sdata2] = 2, [DW_EH_PE_sdata4] = 4, [DW_EH_PE_sdata8] = 8};
    unsigned bytes = encoding & 15 ? sizes[encoding & 15] : r->m->bits / 8;
    uint64_t v = 0;
    if (!bytes || bytes > (size_t)(end - at) || (encoding & 0x70 && (encoding & 0x70) != DW_EH_PE_pcrel) || encoding & DW_EH_PE_indirect)
        return false;
    memcpy(&v, at, bytes);
    if (encoding & 8 && bytes < 8)
        v = (uint64_t)((int64_t)(v << (64 - 8 * bytes)) >> (64 - 8 * bytes));
    *value = (encoding & 0x70) == DW_EH_PE_pcrel ? place + v : v;
    if (r->m->bits == 32)
        *value &= 0xffffffff;
    *size = bytes;
    return true;
}

static unsigned cie_encoding(const Dwarf_CIE *c)
{
    const uint8_t *data = c->augmentation_data;
    size_t at = 0;
    const char *a = c->augmentation;
    if (!a || *a != 'z')
        return DW_EH_PE_absptr;
    for (a++; *a && at < c->augmentation_data_size; a++)
        if (*a == 'R')
            return data[at];
        else if (*a == 'L')
            at++;
        else if (*a == 'P') { /* an encoding and a pointer of it, of four or eight bytes as compilers make them */
            unsigned how = data[at] & 15;
            at += 1 + (how == DW_EH_PE_udata8 || how == DW_EH_PE_sdata8 || !how ? 8 : 4);
        }
    return DW_EH_PE_absptr;
}

static bool add_frames(struct reader *r, Elf_Scn *scn, const GElf_Shdr *h)
{
    Elf_Data *data = elf_getdata(scn, NULL);
    Dwarf_Off at = 0, next, cie_at = (Dwarf_Off)-1;
    Dwarf_CFI_Entry e;
    unsigned encoding = DW_EH_PE_absptr;
    if (!data || !data->d_buf)
        return true;
    for (; !dwarf_next_cfi((const unsigned char *)&r->head.e_ident, data, true, at, &next, &e); at = next) {
        uint64_t from, length;
        unsigned size;
        if (dwarf_cfi_cie_p(&e)) {
            encoding = cie_encoding(&e.cie);
            cie_at = at;
            continue;
        }
        if (e.fde.CIE_pointer != cie_at) { /* compilers put it right before; the linker shares them */
            Dwarf_Off unused;
            Dwarf_CFI_Entry c;
            if (dwarf_next_cfi((const unsigned char *)&r->head.e_ident, data, true, e.fde.CIE_pointer, &unused, &c) || !dwarf_cfi_cie_p(&c))
                continue;
            encoding = cie_encoding(&c.cie);
            cie_at = e.fde.CIE_pointer;
        }
        uint64_t place = h->sh_addr + (uint64_t)(e.fde.start - (const uint8_t *)data->d_buf);
        if (!pointer(r, e.fde.start, e.fde.end, place, encoding, &from, &size) || !pointer(r, e.fde.start + size, e.fde.end, 0, encoding & 7, &length, &size))
            continue;
        if (length && length < 1 << 24 && (!image_add_entry(r->m, from, r->f) || !image_add_function(r->m, from, from + length, r->f)))
            return false;
    }
    return true;
}

static bool add_entries(struct reader *r)
{
    size_t names;
    bool have_names = !elf_getshdrstrndx(r->elf, &names), ok = image_add_entry(r->m, r->head.e_entry, r->f);
    GElf_Shdr h;
    for (Elf_Scn *s = NULL; ok && (s = elf_nextscn(r->elf, s));) {
        const char *name;
        if (!gelf_getshdr(s, &h) || !(name = have_names ? elf_strptr(r->elf, names, h.sh_name) : NULL))
            continue;
        if (h.sh_type == SHT_SYMTAB || h.sh_type == SHT_DYNSYM)
            ok = add_symbols(r, s, &h);
        else if (h.sh_type == SHT_INIT_ARRAY || h.sh_type == SHT_FINI_ARRAY || h.sh_type == SHT_PREINIT_ARRAY)
            ok = add_words(r, h.sh_addr, h.sh_size);
        else if (h.sh_type == SHT_RELA || h.sh_type == SHT_REL)
            ok = add_relocations(r, s, &h);
        else if (h.sh_type == SHT_DYNAMIC)
            ok = add_dynamic(r, s);
        else if (!strcmp(name, ".eh_frame"))
            ok = add_frames(r, s, &h);
        else if (!strncmp(name, ".plt", 4) && h.sh_flags & SHF_EXECINSTR)
            ok = add_plt(r, &h);
        else if ((!strcmp(name, ".init") || !strcmp(name, ".fini")) && h.sh_flags & SHF_EXECINSTR)
            ok = image_add_entry(r->m, h.sh_addr, r->f);
    }
    return ok;
}

/* --- The file */
static bool read_elf(struct reader *r)
{
    bool sections = false;
    if (!r->elf || elf_kind(r->elf) != ELF_K_ELF || !gelf_getehdr(r->elf, &r->head))
        return fail(r->f, "is no ELF file, or a damaged one");
    if (r->head.e_machine != EM_X86_64 && r->head.e_machine != EM_386)
        return fail(r->f, "is an ELF file for another machine (number %u); accepted are x86-64 and i386", r->head.e_machine);
    if (r->head.e_type != ET_EXEC && r->head.e_type != ET_DYN)
        return fail(r->f, "is an ELF file that is not linked");
    r->m->bits = r->head.e_machine == EM_X86_64 && r->head.e_ident[EI_CLASS] == ELFCLASS64 ? 64 : 32;
    if (r->head.e_machine == EM_X86_64 && r->m->bits == 32)
        return fail(r->f, "is an ELF file of the x32 kind; accepted are x86-64 and i386");
    if (!add_sections(r, &sections) || (!sections && !add_segments(r)))
        return false;
    /* Words are read from parts in order; what comes next needs them. */
    if (!image_finish(r->m, r->f) || !add_entries(r))
        return false;
    r->m->kind = kernel_is(r->m) ? IMAGE_KERNEL : IMAGE_PROGRAM;
    if (r->m->kind == IMAGE_KERNEL && !kernel_entries(r->m, r->f))
        return false;
    return image_finish(r->m, r->f);
}

bool image_elf(struct image *m, const char *name, const uint8_t *bytes, size_t size, struct failure *f)
{
    *m = (struct image){0};
    snprintf(m->name, sizeof m->name, "%s", name);
    struct reader r = {.m = m, .file = bytes, .size = size, .f = f};
    uint8_t *copy = malloc(size + 1); /* libelf may swap its bytes in place */
    if (!copy)
        return fail(f, "out of memory");
    memcpy(copy, bytes, size);
    elf_version(EV_CURRENT);
    r.elf = elf_memory((char *)copy, size);
    bool ok = read_elf(&r);
    elf_end(r.elf);
    free(copy);
    if (!ok)
        image_free(m);
    return ok;
}

/* The part of a bzImage that the CPU begins in: raw code, whose entries are fixed by the boot protocol. */
bool image_stub(struct image *m, const char *name, const struct bzimage *b, struct failure *f)
{
    *m = (struct image){.bits = b->has_64 ? 64 : 32, .kind = IMAGE_STUB};
    snprintf(m->name, sizeof m->name, "%s", name);
    bool ok = image_add_part(m, 0, b->stub, b->payload, true, ".head", f) && image_add_entry(m, b->has_64 ? 0x200 : 0, f);
    size_t behind = b->payload + b->payload_size;
    ok = ok && image_add_part(m, behind, b->stub + behind, b->stub_size - behind, true, ".text", f) && image_finish(m, f);
    if (!ok)
        image_free(m);
    return ok;
}
