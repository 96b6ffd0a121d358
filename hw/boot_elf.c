/* ELF kernels: by their PVH note, else by a Multiboot header, else as Linux's vmlinux with a zero page.  Segments go
 * to their physical addresses. */
#include "hw/boot.h"
#include <elf.h>

enum { MAX_SEGMENTS = 64, NOTE_PHYS32_ENTRY = 18 };

/* Both classes are read into the 64-bit form. */
struct elf { bool is64; uint64_t entry; unsigned count; Elf64_Phdr loads[MAX_SEGMENTS]; uint64_t pvh; bool has_pvh; };

bool boot_is_elf(const struct boot *b) { return b->kernel_size >= SELFMAG && !memcmp(b->kernel, ELFMAG, SELFMAG); }

static Elf64_Phdr widen(const Elf32_Phdr *p)
{
    return (Elf64_Phdr){.p_type = p->p_type, .p_flags = p->p_flags, .p_offset = p->p_offset, .p_vaddr = p->p_vaddr,
                        .p_paddr = p->p_paddr, .p_filesz = p->p_filesz, .p_memsz = p->p_memsz, .p_align = p->p_align};
}

static bool read_header(struct boot *b, struct elf *e, Elf64_Ehdr *h)
{
    Elf32_Ehdr h32;
    e->is64 = b->kernel_size > EI_CLASS && b->kernel[EI_CLASS] == ELFCLASS64;
    size_t size = e->is64 ? sizeof *h : sizeof h32;
    if (b->kernel_size < size)
        return boot_fail(b, "ELF file of %zu bytes ends inside its header (%zu bytes)", b->kernel_size, size);
    if (e->is64) {
        memcpy(h, b->kernel, sizeof *h);
    } else {
        memcpy(&h32, b->kernel, sizeof h32);
        *h = (Elf64_Ehdr){.e_machine = h32.e_machine, .e_entry = h32.e_entry, .e_phoff = h32.e_phoff, .e_phentsize = h32.e_phentsize, .e_phnum = h32.e_phnum};
        memcpy(h->e_ident, h32.e_ident, EI_NIDENT);
    }
    e->entry = h->e_entry;
    return true;
}

static bool check_header(struct boot *b, const struct elf *e, const Elf64_Ehdr *h)
{
    unsigned entry_size = e->is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
    if (h->e_ident[EI_CLASS] != ELFCLASS32 && h->e_ident[EI_CLASS] != ELFCLASS64)
        return boot_fail(b, "ELF class %u is neither 32 nor 64 bit", h->e_ident[EI_CLASS]);
    if (h->e_ident[EI_DATA] != ELFDATA2LSB)
        return boot_fail(b, "ELF data encoding %u is not little-endian", h->e_ident[EI_DATA]);
    if (h->e_machine != (e->is64 ? EM_X86_64 : EM_386))
        return boot_fail(b, "ELF machine %u is not x86's %u", h->e_machine, e->is64 ? EM_X86_64 : EM_386);
    if (!h->e_phnum || h->e_phentsize != entry_size)
        return boot_fail(b, "ELF has %u program headers of %u bytes (%u expected)", h->e_phnum, h->e_phentsize, entry_size);
    if (!boot_within(h->e_phoff, (uint64_t)h->e_phnum * entry_size, 0, b->kernel_size))
        return boot_fail(b, "ELF program headers at 0x%" PRIx64 " lie behind the file's %zu bytes", (uint64_t)h->e_phoff, b->kernel_size);
    return true;
}

/* --- The PVH note (Xen's docs/misc/pvh.pandoc): owner "Xen", type 18, the 32-bit entry */
static uint64_t align_up(uint64_t v, uint64_t to) { return (v + to - 1) & ~(to - 1); }

static void find_pvh(const struct boot *b, struct elf *e, const Elf64_Phdr *p)
{
    uint64_t at = p->p_offset, end = at + p->p_filesz, align = p->p_align == 8 ? 8 : 4;
    if (!boot_within(p->p_offset, p->p_filesz, 0, b->kernel_size))
        return;
    while (end - at >= sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr note;
        memcpy(&note, b->kernel + at, sizeof note);
        uint64_t name = at + sizeof note, desc = at + align_up(sizeof note + (uint64_t)note.n_namesz, align);
        uint64_t next = desc + align_up(note.n_descsz, align);
        if (desc + note.n_descsz > end)
            return;
        if (note.n_type == NOTE_PHYS32_ENTRY && note.n_namesz == 4 && !memcmp(b->kernel + name, "Xen", 4) && note.n_descsz >= 4) {
            e->pvh = note.n_descsz >= 8 ? get64(b->kernel + desc) : get32(b->kernel + desc);
            e->has_pvh = true;
            return;
        }
        if (next > end)
            return;
        at = next;
    }
}

/* --- Segments */
static bool check_segment(struct boot *b, const struct elf *e, const Elf64_Phdr *p, unsigned index)
{
    if (p->p_filesz > p->p_memsz)
        return boot_fail(b, "ELF segment %u: 0x%" PRIx64 " bytes in the file, 0x%" PRIx64 " in memory", index, (uint64_t)p->p_filesz, (uint64_t)p->p_memsz);
    if (!boot_within(p->p_offset, p->p_filesz, 0, b->kernel_size))
        return boot_fail(b, "ELF segment %u: 0x%" PRIx64 " bytes at 0x%" PRIx64 " lie behind the file's 0x%zx bytes (truncated?)",
                         index, (uint64_t)p->p_filesz, (uint64_t)p->p_offset, b->kernel_size);
    if (!boot_within(p->p_paddr, p->p_memsz, BOOT_KERNEL_MIN, b->low))
        return boot_fail(b, "ELF segment %u: 0x%" PRIx64 " bytes at 0x%" PRIx64 " are not in RAM from 0x%x to 0x%" PRIx64,
                         index, (uint64_t)p->p_memsz, (uint64_t)p->p_paddr, BOOT_KERNEL_MIN, b->low);
    for (unsigned i = 0; i < e->count; i++)
        if (p->p_paddr < e->loads[i].p_paddr + e->loads[i].p_memsz && e->loads[i].p_paddr < p->p_paddr + p->p_memsz)
            return boot_fail(b, "ELF segment %u: at 0x%" PRIx64 " it overlaps the one at 0x%" PRIx64, index, (uint64_t)p->p_paddr, (uint64_t)e->loads[i].p_paddr);
    if (e->count == MAX_SEGMENTS)
        return boot_fail(b, "ELF segment %u: there are more than %d to load", index, MAX_SEGMENTS);
    return true;
}

static bool read_segments(struct boot *b, struct elf *e, const Elf64_Ehdr *h)
{
    for (unsigned i = 0; i < h->e_phnum; i++) {
        const uint8_t *from = b->kernel + h->e_phoff + (uint64_t)i * h->e_phentsize;
        Elf64_Phdr p;
        Elf32_Phdr p32;
        if (e->is64) {
            memcpy(&p, from, sizeof p);
        } else {
            memcpy(&p32, from, sizeof p32);
            p = widen(&p32);
        }
        if (p.p_type == PT_NOTE && !e->has_pvh)
            find_pvh(b, e, &p);
        if (p.p_type != PT_LOAD || !p.p_memsz)
            continue;
        if (!check_segment(b, e, &p, i))
            return false;
        e->loads[e->count++] = p;
        if (p.p_paddr + p.p_memsz > b->kernel_end)
            b->kernel_end = p.p_paddr + p.p_memsz;
    }
    return e->count || boot_fail(b, "ELF has nothing to load in %u program headers", h->e_phnum);
}

static void load_segments(struct boot *b, const struct elf *e)
{
    for (const Elf64_Phdr *p = e->loads; p < e->loads + e->count; p++) {
        memcpy(b->ram + p->p_paddr, b->kernel + p->p_offset, p->p_filesz);
        memset(b->ram + p->p_paddr + p->p_filesz, 0, p->p_memsz - p->p_filesz);
    }
}

/* An entry that lies in no segment's physical range is looked for among the virtual ones. */
static bool find_entry(struct boot *b, const struct elf *e, const char *what, uint64_t entry, uint64_t *physical)
{
    for (const Elf64_Phdr *p = e->loads; p < e->loads + e->count; p++)
        if (entry - p->p_paddr < p->p_memsz) {
            *physical = entry;
            return true;
        }
    for (const Elf64_Phdr *p = e->loads; p < e->loads + e->count; p++)
        if (entry - p->p_vaddr < p->p_memsz) {
            *physical = entry - p->p_vaddr + p->p_paddr;
            return true;
        }
    return boot_fail(b, "%s 0x%" PRIx64 " lies in no loaded segment", what, entry);
}

/* --- PVH: struct hvm_start_info, version 1 (Xen's public/arch-x86/hvm/start_info.h) */
static void pvh_info(struct boot *b)
{
    enum { MAGIC = 0x336ec578, MODULE_AT = 0x100, MAP_AT = 0x200, MAP_ENTRY = 24 };
    uint8_t *info = b->ram + BOOT_INFO;
    struct pc_e820 map[PC_E820_MAX];
    unsigned count = pc_e820(b->config->ram_size, map);
    memset(info, 0, 0x1000);
    put32(info, MAGIC);
    put32(info + 4, 1);
    if (b->initrd_at) {
        put32(info + 12, 1);
        put64(info + 16, BOOT_INFO + MODULE_AT);
        put64(info + MODULE_AT, b->initrd_at);
        put64(info + MODULE_AT + 8, b->config->initrd.size);
    }
    put64(info + 24, BOOT_CMDLINE);
    put64(info + 32, b->rsdp);
    put64(info + 40, BOOT_INFO + MAP_AT);
    put32(info + 48, count);
    for (unsigned i = 0; i < count; i++) {
        put64(info + MAP_AT + MAP_ENTRY * i, map[i].base);
        put64(info + MAP_AT + MAP_ENTRY * i + 8, map[i].size);
        put32(info + MAP_AT + MAP_ENTRY * i + 16, map[i].type);
    }
}

static bool start_pvh(struct boot *b, const struct elf *e)
{
    uint64_t at = 0;
    if (!find_entry(b, e, "PVH entry", e->pvh, &at) || !boot_place_initrd(b, 0xffffffff) || !boot_place_cmdline(b, BOOT_CMDLINE_MAX))
        return false;
    pvh_info(b);
    boot_set_entry(b, BOOT_PVH, at);
    return true;
}

static bool start_linux(struct boot *b, const struct elf *e, uint64_t at)
{
    if (e->is64 && b->only32)
        return boot_fail(b, "ELF64 without a PVH note needs a CPU with 64-bit mode");
    /* 32-bit Linux looks for its initrd in low memory: the bound that its bzImage would tell */
    if (!boot_place_initrd(b, e->is64 ? 0x7fffffff : 0x37ffffff) || !boot_place_cmdline(b, 2047))
        return false;
    boot_zero_page(b, NULL, 0);
    boot_set_entry(b, e->is64 ? BOOT_LINUX64 : BOOT_LINUX32, at);
    return true;
}

bool boot_elf(struct boot *b)
{
    struct elf e = {0};
    Elf64_Ehdr h;
    uint64_t entry = 0;
    if (!read_header(b, &e, &h) || !check_header(b, &e, &h) || !read_segments(b, &e, &h))
        return false;
    long header = boot_multiboot_header(b);
    bool pvh = e.has_pvh, multiboot = !pvh && header >= 0;
    if (multiboot && boot_multiboot_has_addresses(b, (size_t)header))
        return boot_multiboot_raw(b, (size_t)header); /* they go before what ELF says */
    if (!pvh && !find_entry(b, &e, "ELF entry", e.entry, &entry))
        return false;
    load_segments(b, &e);
    return pvh ? start_pvh(b, &e) : multiboot ? boot_multiboot_start(b, entry) : start_linux(b, &e, entry);
}
