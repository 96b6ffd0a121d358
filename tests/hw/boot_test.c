/* Direct boot: kernels made here, good ones and ones that lie about every size; and the tables that they are given. */
#include "fake.h"
#include "hw/pc.h"
#include <elf.h>
#include <sys/stat.h>

#define RAM_SIZE (64u << 20)
#define IMAGE_MAX (1u << 20)

struct rig { uint8_t *ram, *kernel; size_t kernel_size; struct pc_config config; struct boot_entry entry; char error[256]; };

/* The kernel is copied to memory of just its size, so that a sanitizer sees a read behind it. */
static bool boot(struct rig *r, const uint8_t *image, size_t size)
{
    int protocol = r->entry.protocol;
    r->kernel = realloc(r->kernel, size ? size : 1);
    memcpy(r->kernel, image, size);
    r->config.kernel.bytes = r->kernel;
    r->config.kernel.size = size;
    r->config.ram = r->ram;
    if (!r->config.ram_size)
        r->config.ram_size = RAM_SIZE;
    r->entry = (struct boot_entry){0};
    r->entry.protocol = protocol;
    r->error[0] = 0;
    return boot_load(&r->config, &r->entry, r->error, sizeof r->error);
}

static struct rig rig_new(void) { return (struct rig){.ram = calloc(1, RAM_SIZE)}; }
static void rig_free(struct rig *r)
{
    free(r->ram);
    free(r->kernel);
}

static void expect(struct rig *r, const char *what, bool ok, const char *fragment)
{
    bool one_line = !strchr(r->error, '\n'), right = fragment ? !ok && strstr(r->error, fragment) && one_line : ok;
    if (!CHECK(what, right, 1))
        printf("    said: %s\n", ok ? "(it was taken)" : r->error);
}

/* --- bzImage */
enum { SETUP = 5 * 512, CODE = 0x3000, BZIMAGE = SETUP + CODE };

static void make_bzimage(uint8_t *image)
{
    memset(image, 0, BZIMAGE);
    image[0x1f1] = 4;
    put32(image + 0x1f4, CODE / 16);
    put16(image + 0x1fe, 0xaa55);
    image[0x200] = 0xeb, image[0x201] = 0x66;
    memcpy(image + 0x202, "HdrS", 4);
    put16(image + 0x206, 0x20f);
    image[0x211] = 1;
    put32(image + 0x22c, 0x7fffffff);
    put32(image + 0x230, 0x200000);
    image[0x234] = 1;
    put16(image + 0x236, 1);
    put32(image + 0x238, 2047);
    put64(image + 0x258, 0x1000000);
    put32(image + 0x260, 0x800000);
    for (unsigned i = 0; i < CODE; i++)
        image[SETUP + i] = (uint8_t)(i * 7 + 1);
}

static void zero_page(const struct rig *r, const uint8_t *z)
{
    CHECK("loader", z[0x210], 0xff);
    CHECK("command line", strcmp((char *)r->ram + get32(z + 0x228), "console=ttyS0"), 0);
    CHECK("initrd's size", get32(z + 0x21c), r->config.initrd.size);
    CHECK("initrd's place", get32(z + 0x218), (RAM_SIZE - r->config.initrd.size) & ~0xfffull);
    CHECK("initrd", memcmp(r->ram + get32(z + 0x218), r->config.initrd.bytes, r->config.initrd.size), 0);
    CHECK("RSDP", memcmp(r->ram + get64(z + 0x70), "RSD PTR ", 8), 0);
    struct pc_e820 map[PC_E820_MAX];
    unsigned count = pc_e820(RAM_SIZE, map);
    CHECK("e820", z[0x1e8] == count && !memcmp(z + 0x2d0, map, count * sizeof *map), 1);
}

/* Walks the page tables as a CPU would. */
static uint64_t translate(const struct rig *r, uint64_t linear)
{
    uint64_t e = get64(r->ram + r->entry.page_table + 8 * (linear >> 39 & 511));
    e = get64(r->ram + (e & ~0xfffull) + 8 * (linear >> 30 & 511));
    e = get64(r->ram + (e & ~0xfffull) + 8 * (linear >> 21 & 511));
    return (e & 0x83) == 0x83 ? (e & ~0x1fffffull) | (linear & 0x1fffff) : 0;
}

static void good_bzimage(void)
{
    static uint8_t image[BZIMAGE];
    struct rig r = rig_new();
    static const uint64_t linears[] = {0, 0x7000, 0x1000200, 0x3fffffff, 0x40000000, 0xfee00030, 0xffffffff};
    make_bzimage(image);
    r.config.cmdline = "console=ttyS0";
    r.config.initrd.bytes = (const uint8_t *)"an initrd";
    r.config.initrd.size = 9;
    expect(&r, "bzImage", boot(&r, image, BZIMAGE), NULL);
    CHECK("64 bit", r.entry.protocol, BOOT_LINUX64);
    CHECK("entry", r.entry.entry, 0x1000200);
    CHECK("code", memcmp(r.ram + 0x1000000, image + SETUP, CODE), 0);
    CHECK("header", memcmp(r.ram + r.entry.zero_page + 0x230, image + 0x230, 0x268 - 0x230), 0);
    zero_page(&r, r.ram + r.entry.zero_page);
    CHECK("code segment is 64 bit", get64(r.ram + r.entry.gdt + 0x10) >> 53 & 1, 1);
    CHECK("GDT's limit", r.entry.gdt_limit, 31);
    for (unsigned i = 0; i < sizeof linears / sizeof *linears; i++)
        CHECK("identity", translate(&r, linears[i]), linears[i]);
    r.entry.protocol = BOOT_LINUX32; /* the CPU has no 64-bit mode */
    expect(&r, "bzImage on 32 bit", boot(&r, image, BZIMAGE), NULL);
    CHECK("32 bit", r.entry.protocol == BOOT_LINUX32 && r.entry.entry == 0x1000000, 1);
    CHECK("code segment is 32 bit", get64(r.ram + r.entry.gdt + 0x10) >> 54 & 1, 1);
    r.entry.protocol = BOOT_LINUX64;
    put16(image + 0x236, 0);
    expect(&r, "bzImage without XLF_KERNEL_64", boot(&r, image, BZIMAGE), NULL);
    CHECK("32 bit", r.entry.protocol, BOOT_LINUX32);
    put16(image + 0x206, 0x205); /* no pref_address yet */
    expect(&r, "old bzImage", boot(&r, image, BZIMAGE), NULL);
    CHECK("at 1 MiB", r.entry.entry, 0x100000);
    rig_free(&r);
}

static void bad_bzimage(void)
{
    static const struct { const char *what; uint16_t at; uint8_t size; uint64_t value; size_t length; const char *error; } bad[] = {
        {"truncated code",       0,     0, 0,           BZIMAGE - 16,  "truncated: 12272 bytes"},
        {"no code at all",       0,     0, 0,           SETUP,         "ends before its setup code"},
        {"ends in the header",   0,     0, 0,           0x220,         "ends inside its setup header"},
        {"ends at the magic",    0,     0, 0,           0x204,         "neither bzImage"},
        {"huge syssize",         0x1f4, 4, 0xffffffff,  BZIMAGE,       "truncated"},
        {"setup_sects 255",      0x1f1, 1, 255,         BZIMAGE,       "ends before its setup code"},
        {"old protocol",         0x206, 2, 0x201,       BZIMAGE,       "2.01"},
        {"zImage",               0x211, 1, 0,           BZIMAGE,       "loadflags 0x00"},
        {"pref_address beyond",  0x258, 8, 0x10000000,  BZIMAGE,       "0x10000000"},
        {"pref_address huge",    0x258, 8, ~0ull,       BZIMAGE,       "0xffffffffffffffff"},
        {"pref_address wraps",   0x258, 8, ~0xfffull,   BZIMAGE,       "0xfffffffffffff000"},
        {"pref_address low",     0x258, 8, 0x7000,      BZIMAGE,       "0x7000"},
        {"init_size huge",       0x260, 4, 0xffffffff,  BZIMAGE,       "4294967295 bytes"},
        {"initrd_addr_max low",  0x22c, 4, 0x1000,      BZIMAGE,       "initrd of 9 bytes"},
        {"initrd meets kernel",  0x22c, 4, 0x1001000,   BZIMAGE,       "initrd of 9 bytes"},
        {"short command line",   0x238, 4, 3,           BZIMAGE,       "at most 3"},
    };
    static uint8_t image[BZIMAGE];
    struct rig r = rig_new();
    r.config.cmdline = "console=ttyS0";
    r.config.initrd.bytes = (const uint8_t *)"an initrd";
    r.config.initrd.size = 9;
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        make_bzimage(image);
        memcpy(image + bad[i].at, &bad[i].value, bad[i].size);
        expect(&r, bad[i].what, boot(&r, image, bad[i].length), bad[i].error);
    }
    make_bzimage(image);
    r.config.initrd.bytes = image;
    r.config.initrd.size = (size_t)1 << 40;
    expect(&r, "initrd larger than RAM", boot(&r, image, BZIMAGE), "initrd of 1099511627776 bytes");
    r.config.initrd.size = 0;
    char *longest = malloc(0x20000);
    memset(longest, 'x', 0x1ffff);
    longest[0x1ffff] = 0;
    put32(image + 0x238, 0xffffffff);
    r.config.cmdline = longest;
    expect(&r, "command line longer than its place", boot(&r, image, BZIMAGE), "at most 65535");
    free(longest);
    rig_free(&r);
}

/* --- ELF */
static const uint32_t pvh_note[] = {4, 4, 18, 0x006e6558 /* "Xen" */, 0x200010};
enum { FIRST = 0x1000, NOTE_AT = 0x800 };

/* Two segments at 2 MiB and 4 MiB (the second mostly zeros), and a note if asked; returns the size. */
static size_t make_elf64(uint8_t *image, bool note)
{
    const Elf64_Phdr headers[] = {
        {.p_type = PT_LOAD, .p_offset = FIRST, .p_vaddr = 0xffffffff80200000, .p_paddr = 0x200000, .p_filesz = 0x100, .p_memsz = 0x100},
        {.p_type = PT_LOAD, .p_offset = FIRST + 0x100, .p_vaddr = 0xffffffff80400000, .p_paddr = 0x400000, .p_filesz = 0x100, .p_memsz = 0x3000},
        {.p_type = note ? PT_NOTE : PT_NULL, .p_offset = NOTE_AT, .p_filesz = sizeof pvh_note, .p_align = 4},
    };
    Elf64_Ehdr h = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1}, .e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = 1,
                    .e_entry = 0x200020, .e_phoff = sizeof h, .e_ehsize = sizeof h, .e_phentsize = sizeof headers[0], .e_phnum = 3};
    memset(image, 0x11, FIRST + 0x200);
    memcpy(image, &h, sizeof h);
    memcpy(image + sizeof h, headers, sizeof headers);
    memcpy(image + NOTE_AT, pvh_note, sizeof pvh_note);
    memset(image + FIRST, 0xa5, 0x100);
    memset(image + FIRST + 0x100, 0x5a, 0x100);
    return FIRST + 0x200;
}

static size_t make_elf32(uint8_t *image)
{
    const Elf32_Phdr p = {.p_type = PT_LOAD, .p_offset = FIRST, .p_vaddr = 0x200000, .p_paddr = 0x200000, .p_filesz = 0x200, .p_memsz = 0x2000};
    Elf32_Ehdr h = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, 1}, .e_type = ET_EXEC, .e_machine = EM_386, .e_version = 1,
                    .e_entry = 0x200040, .e_phoff = sizeof h, .e_ehsize = sizeof h, .e_phentsize = sizeof p, .e_phnum = 1};
    memset(image, 0, FIRST + 0x200);
    memcpy(image, &h, sizeof h);
    memcpy(image + sizeof h, &p, sizeof p);
    memset(image + FIRST, 0x77, 0x200);
    return FIRST + 0x200;
}

static void good_elf(void)
{
    static uint8_t image[IMAGE_MAX];
    struct rig r = rig_new();
    r.config.cmdline = "console=ttyS0";
    r.config.initrd.bytes = (const uint8_t *)"an initrd";
    r.config.initrd.size = 9;
    memset(r.ram, 0xee, RAM_SIZE);
    size_t size = make_elf64(image, false);
    expect(&r, "ELF64", boot(&r, image, size), NULL);
    CHECK("64 bit", r.entry.protocol == BOOT_LINUX64 && r.entry.entry == 0x200020, 1);
    CHECK("segments", r.ram[0x200000] == 0xa5 && r.ram[0x4000ff] == 0x5a, 1);
    CHECK("bss", r.ram[0x400100] == 0 && r.ram[0x402fff] == 0 && r.ram[0x403000] == 0xee, 1);
    zero_page(&r, r.ram + r.entry.zero_page);
    put64(image + 24, 0xffffffff80200030);
    expect(&r, "virtual entry", boot(&r, image, size), NULL);
    CHECK("made physical", r.entry.entry, 0x200030);

    size = make_elf64(image, true);
    expect(&r, "PVH", boot(&r, image, size), NULL);
    CHECK("PVH", r.entry.protocol == BOOT_PVH && r.entry.entry == 0x200010, 1);
    const uint8_t *info = r.ram + r.entry.zero_page;
    CHECK("start info", get32(info), 0x336ec578);
    CHECK("module", memcmp(r.ram + get64(r.ram + get64(info + 16)), "an initrd", 9), 0);
    CHECK("command line", strcmp((char *)r.ram + get64(info + 24), "console=ttyS0"), 0);
    CHECK("RSDP", memcmp(r.ram + get64(info + 32), "RSD PTR ", 8), 0);
    CHECK("memory map", get64(r.ram + get64(info + 40) + 3 * 24 + 8), RAM_SIZE - 0x100000);
    CHECK("entries", get32(info + 48), 4);

    size = make_elf32(image);
    expect(&r, "ELF32", boot(&r, image, size), NULL);
    CHECK("32 bit", r.entry.protocol == BOOT_LINUX32 && r.entry.entry == 0x200040, 1);
    put32(image + 0x400, 0x1badb002), put32(image + 0x404, 3), put32(image + 0x408, -(0x1badb002u + 3));
    r.entry.protocol = BOOT_LINUX64;
    expect(&r, "Multiboot", boot(&r, image, size), NULL);
    info = r.ram + r.entry.zero_page;
    CHECK("Multiboot", r.entry.protocol == BOOT_MULTIBOOT && r.entry.entry == 0x200040, 1);
    CHECK("modules", get32(info + 20) == 1 && !memcmp(r.ram + get32(r.ram + get32(info + 24)), "an initrd", 9), 1);
    CHECK("upper memory", get32(info + 8), (RAM_SIZE >> 10) - 1024);
    rig_free(&r);
}

enum { H_CLASS = 4, H_DATA = 5, H_MACHINE = 18, H_ENTRY = 24, H_PHOFF = 32, H_PHENTSIZE = 54, H_PHNUM = 56,
       P1 = 64 + 56, P_OFFSET = 8, P_PADDR = 24, P_FILESZ = 32, P_MEMSZ = 40 };

static void bad_elf(void)
{
    static const struct { const char *what; uint16_t at; uint8_t size; uint64_t value; size_t length; const char *error; } bad[] = {
        {"truncated segment",   0,                0, 0,              FIRST + 0x150, "segment 1: 0x100 bytes at 0x1100"},
        {"ends in its header",  0,                0, 0,              40,            "ends inside its header"},
        {"only a magic",        0,                0, 0,              4,             "ends inside its header"},
        {"class 7",             H_CLASS,          1, 7,              0,             "class 7"},
        {"big-endian",          H_DATA,           1, 2,              0,             "encoding 2"},
        {"machine ARM",         H_MACHINE,        2, 40,             0,             "machine 40"},
        {"header size",         H_PHENTSIZE,      2, 1,              0,             "of 1 bytes"},
        {"no headers",          H_PHNUM,          2, 0,              0,             "has 0 program headers"},
        {"too many headers",    H_PHNUM,          2, 0xffff,         0,             "program headers at"},
        {"headers behind",      H_PHOFF,          8, 0x100000,       0,             "program headers at 0x100000"},
        {"headers wrap",        H_PHOFF,          8, ~0ull - 8,      0,             "program headers at 0xfff"},
        {"entry nowhere",       H_ENTRY,          8, 0x300000,       0,             "entry 0x300000"},
        {"file > memory",       P1 + P_MEMSZ,     8, 0x80,           0,             "segment 1: 0x100 bytes in the file"},
        {"offset wraps",        P1 + P_OFFSET,    8, ~0ull - 0x10,   0,             "segment 1"},
        {"huge file size",      P1 + P_FILESZ,    8, 1ull << 62,     0,             "segment 1"},
        {"huge memory size",    P1 + P_MEMSZ,     8, ~0ull,          0,             "segment 1: 0xffffffffffffffff"},
        {"beyond RAM",          P1 + P_PADDR,     8, RAM_SIZE - 16,  0,             "segment 1"},
        {"address wraps",       P1 + P_PADDR,     8, ~0ull - 0xff,   0,             "segment 1"},
        {"below 1 MiB",         P1 + P_PADDR,     8, 0xff000,        0,             "0xff000"},
        {"at 0",                P1 + P_PADDR,     8, 0,              0,             "at 0x0"},
        {"overlap",             P1 + P_PADDR,     8, 0x2000ff,       0,             "overlaps the one at 0x200000"},
    };
    static uint8_t image[IMAGE_MAX];
    struct rig r = rig_new();
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        size_t size = make_elf64(image, false);
        memcpy(image + bad[i].at, &bad[i].value, bad[i].size);
        expect(&r, bad[i].what, boot(&r, image, bad[i].length ? bad[i].length : size), bad[i].error);
    }
    size_t size = make_elf64(image, true);
    put32(image + NOTE_AT + 16, 0x300000);
    expect(&r, "PVH entry nowhere", boot(&r, image, size), "PVH entry 0x300000");
    put32(image + NOTE_AT, 0xffffffff);
    expect(&r, "note's name too long: no PVH then", boot(&r, image, size), NULL);
    r.entry.protocol = BOOT_LINUX32;
    expect(&r, "64-bit kernel, 32-bit CPU", boot(&r, image, size), "64-bit mode");
    r.entry.protocol = BOOT_LINUX64;
    expect(&r, "nothing", boot(&r, image, 0), "0 bytes");
    expect(&r, "text", boot(&r, (const uint8_t *)"#!/bin/sh\n", 10), "23 21 2f 62");
    r.config.ram_size = PC_MIN_RAM;
    expect(&r, "1 MiB of RAM", boot(&r, image, size), "1048576");
    rig_free(&r);
}

static void multiboot(void)
{
    static const struct { const char *what; uint32_t fields[6]; const char *error; } rows[] = {
        /* flags, header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr */
        {"flat",               {0x10003, 0x100040, 0x100000, 0x100800, 0x102000, 0x100060}, NULL},
        {"flat, whole file",   {0x10003, 0x100040, 0x100000, 0,        0,        0x100060}, NULL},
        {"no addresses",       {0x00003, 0,        0,        0,        0,        0},        "no load addresses"},
        {"header too far",     {0x10003, 0x101000, 0x100000, 0,        0,        0x100060}, "header_addr 0x101000"},
        {"load above header",  {0x10003, 0x100040, 0x100080, 0,        0,        0x100060}, "load_addr 0x100080"},
        {"end before start",   {0x10003, 0x100040, 0x100000, 0x80000,  0,        0x100060}, "load_end_addr 0x80000"},
        {"end behind file",    {0x10003, 0x100040, 0x100000, 0xfffffff,0,        0x100060}, "load_end_addr 0xfffffff"},
        {"bss beyond RAM",     {0x10003, 0x100040, 0x100000, 0x100800, 0xffffffff, 0x100060}, "not in RAM"},
        {"below 1 MiB",        {0x10003, 0x1040,   0x1000,   0,        0,        0x1060},   "not in RAM"},
        {"entry outside",      {0x10003, 0x100040, 0x100000, 0,        0,        0x200000}, "entry_addr 0x200000"},
        {"wants video",        {0x10007, 0x100040, 0x100000, 0,        0,        0x100060}, "flags 0x00010007"},
    };
    struct rig r = rig_new();
    uint8_t image[0x1000];
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        const uint32_t *f = rows[i].fields;
        memset(image, 0x42, sizeof image);
        put32(image + 0x40, 0x1badb002), put32(image + 0x44, f[0]), put32(image + 0x48, -(0x1badb002u + f[0]));
        for (unsigned n = 1; n < 6; n++)
            put32(image + 0x48 + 4 * n, f[n]);
        expect(&r, rows[i].what, boot(&r, image, sizeof image), rows[i].error);
        if (!rows[i].error)
            CHECK("loaded", r.ram[0x100000] == 0x42 && r.entry.entry == 0x100060, 1);
        r.entry.protocol = BOOT_LINUX64;
    }
    rig_free(&r);
}

/* Good kernels with random bytes changed and cut off anywhere: taken or refused, but nothing else happens. */
static void mutations(void)
{
    static uint8_t image[IMAGE_MAX];
    struct rig r = rig_new();
    uint32_t x = 1234567;
    r.config.cmdline = "a";
    for (unsigned i = 0; i < 3000; i++) {
        size_t size = i % 3 == 0 ? (make_bzimage(image), (size_t)BZIMAGE) : i % 3 == 1 ? make_elf64(image, i & 1) : make_elf32(image);
        size_t header = i % 3 == 0 ? 0x1f1 : i & 2 ? NOTE_AT : 4, range = i % 3 == 0 ? 0x80 : 0xf0;
        for (unsigned n = 0; n < 1 + i % 4; n++) {
            x ^= x << 13, x ^= x >> 17, x ^= x << 5;
            if (header + (x >> 8) % range < size)
                image[header + (x >> 8) % range] = x & 1 ? 0xff : (uint8_t)x;
        }
        if (!(x & 0x700))
            size = x % size;
        r.entry.protocol = BOOT_LINUX64;
        bool ok = boot(&r, image, size);
        CHECK("an error, or an entry in RAM", ok ? r.entry.entry < RAM_SIZE : r.error[0] != 0, 1);
    }
    rig_free(&r);
}

/* --- A real kernel, if the machine has one */
static void real_kernel(void)
{
    static const char path[] = "/tmp/k/boot/vmlinuz-6.1.0-56-cloud-amd64";
    struct stat st;
    FILE *f = fopen(path, "rb");
    if (!f || fstat(fileno(f), &st)) {
        printf("skipped: %s is not here\n", path);
        return;
    }
    uint8_t *image = malloc((size_t)st.st_size);
    struct rig r = {.ram = calloc(1, 256u << 20)};
    r.config.ram_size = 256u << 20;
    if (fread(image, 1, (size_t)st.st_size, f) == (size_t)st.st_size)
        expect(&r, path, boot(&r, image, (size_t)st.st_size), NULL);
    fclose(f);
    free(image);
    rig_free(&r);
}

/* --- ACPI */
static uint32_t table_at(const uint8_t *ram, uint32_t at, const char *signature)
{
    uint32_t length = get32(ram + at + 4);
    CHECK(signature, memcmp(ram + at, signature, 4), 0);
    CHECK("its place", at >= PC_ACPI && at + length <= PC_SMBIOS && length >= 36, 1);
    CHECK("its sum", checksum8(ram + at, length), 0);
    return length;
}

static void acpi(void)
{
    static const char *const signatures[] = {"FACP", "APIC", "HPET"};
    uint8_t *ram = calloc(1, RAM_SIZE);
    uint64_t rsdp = acpi_build(ram, RAM_SIZE);
    const uint8_t *p = ram + rsdp;
    CHECK("RSDP", memcmp(p, "RSD PTR ", 8), 0);
    CHECK("on 16 bytes, below 1 MiB", rsdp % 16 == 0 && rsdp >= 0xe0000 && rsdp < 0x100000, 1);
    CHECK("sums", checksum8(p, 20) | checksum8(p, 36), 0);
    uint32_t rsdt = get32(p + 16), xsdt = (uint32_t)get64(p + 24);
    CHECK("RSDT's length", table_at(ram, rsdt, "RSDT"), 36 + 4 * 3);
    CHECK("XSDT's length", table_at(ram, xsdt, "XSDT"), 36 + 8 * 3);
    for (unsigned i = 0; i < 3; i++) {
        uint32_t at = get32(ram + rsdt + 36 + 4 * i);
        CHECK("RSDT and XSDT agree", get64(ram + xsdt + 36 + 8 * i), at);
        table_at(ram, at, signatures[i]);
    }
    uint32_t fadt = get32(ram + rsdt + 36), facs = get32(ram + fadt + 36), dsdt = get32(ram + fadt + 40);
    CHECK("FADT's length", get32(ram + fadt + 4), 244);
    CHECK("FADT's 64-bit pointers", get64(ram + fadt + 132) == facs && get64(ram + fadt + 140) == dsdt, 1);
    CHECK("FACS", !memcmp(ram + facs, "FACS", 4) && facs % 64 == 0 && get32(ram + facs + 4) == 64, 1);
    table_at(ram, dsdt, "DSDT");
    CHECK("PM timer", get32(ram + fadt + 76), PC_PM_BASE + 8);
    CHECK("SCI", get16(ram + fadt + 46), PC_SCI);
    CHECK("reset register", get64(ram + fadt + 120) == 0xcf9 && ram[fadt + 128] == 6, 1);
    uint32_t madt = get32(ram + rsdt + 40), end = madt + get32(ram + madt + 4), at = madt + 44;
    unsigned kinds = 0;
    for (; at < end && ram[at + 1]; at += ram[at + 1])
        kinds |= 1u << ram[at];
    CHECK("MADT's entries fill it", at, end);
    CHECK("APIC, IOAPIC, overrides, NMI", kinds, 0x17);
    CHECK("1 MiB less a byte is too little", acpi_build(ram, 0xfffff) | smbios_build(ram, 0xfffff), 0);
    free(ram);
}

/* iasl, where it is installed, must read the DSDT back without complaint. */
static void acpi_by_iasl(void)
{
    char dir[] = "/tmp/boot_test.XXXXXX", command[600];
    if (system("command -v iasl >/dev/null 2>&1") || !mkdtemp(dir)) {
        printf("skipped: iasl is not installed\n");
        return;
    }
    uint8_t *ram = calloc(1, RAM_SIZE);
    const uint8_t *rsdp = ram + acpi_build(ram, RAM_SIZE);
    uint32_t fadt = get32(ram + get32(rsdp + 16) + 36), dsdt = get32(ram + fadt + 40);
    snprintf(command, sizeof command, "%s/dsdt.aml", dir);
    FILE *f = fopen(command, "wb");
    if (f) {
        fwrite(ram + dsdt, 1, get32(ram + dsdt + 4), f);
        fclose(f);
    }
    snprintf(command, sizeof command, "cd %s && iasl -d dsdt.aml >d.log 2>&1 && iasl -vs dsdt.dsl >c.log 2>&1 && ! grep -q 'Error.*[1-9]' d.log", dir);
    if (!CHECK("iasl takes the DSDT apart and together", system(command), 0)) {
        snprintf(command, sizeof command, "cat %s/?.log", dir);
        (void)!system(command);
    }
    snprintf(command, sizeof command, "rm -rf %s", dir);
    (void)!system(command);
    free(ram);
}

/* --- SMBIOS */
static void smbios(void)
{
    static const uint64_t sizes[] = {RAM_SIZE, 3ull << 30, 5ull << 30, 3ull << 40};
    uint8_t *ram = calloc(1, RAM_SIZE);
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const uint8_t *e = ram + smbios_build(ram, sizes[i]);
        CHECK("entry point", memcmp(e, "_SM_", 4) | memcmp(e + 16, "_DMI_", 5), 0);
        CHECK("sums", checksum8(e, e[5]) | checksum8(e + 16, 15), 0);
        uint32_t at = get32(e + 24), end = at + get16(e + 22);
        unsigned count = 0, largest = 0, last = 0;
        while (at + 4 <= end && ram[at + 1] >= 4) {
            uint32_t start = at;
            last = ram[at];
            for (at += ram[at + 1]; at + 1 < end && (ram[at] || ram[at + 1]); at++)
                ;
            at += 2;
            largest = at - start > largest ? at - start : largest;
            count++;
        }
        CHECK("structures fill the table", at, end);
        CHECK("count", count, get16(e + 28));
        CHECK("largest", largest, get16(e + 8));
        CHECK("ends with its end", last, 127);
        CHECK("below 1 MiB", end <= PC_TABLES_END, 1);
    }
    free(ram);
}

int main(void)
{
    good_bzimage();
    bad_bzimage();
    good_elf();
    bad_elf();
    multiboot();
    mutations();
    real_kernel();
    acpi();
    acpi_by_iasl();
    smbios();
    return report();
}
