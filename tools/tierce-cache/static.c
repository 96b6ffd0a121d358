/* Static discovery over files: ELF programs and libraries, kernels, and all programs of initial RAM disks. */
#include "tools/tierce-cache/tool.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define UNPACKED_MOST ((size_t)2 << 30)

struct collector {
    struct sources *to; const struct options *o; const struct x86_model *model; const uint64_t *translator; const volatile bool *stop;
    size_t coverage;  /* index of the file at hand */
    const char *archive;
};

static struct coverage *coverage_new(struct collector *c, const char *name /* shorter than 256 */)
{
    struct sources *s = c->to;
    checked(grown((void **)&s->files, &s->file_room, s->file_count, sizeof *s->files));
    c->coverage = s->file_count;
    struct coverage *v = &s->files[s->file_count++];
    *v = (struct coverage){0};
    snprintf(v->name, sizeof v->name, "%.250s", name);
    return v;
}

static bool take_recipe(void *ctx, const struct recipe *r, uint64_t weight, unsigned insns, unsigned bytes)
{
    struct collector *c = ctx;
    items_add(&c->to->items, c->translator, r, weight, insns, bytes);
    c->to->files[c->coverage].regions++;
    return !*c->stop;
}

static bool is_init(const struct part *p) { return p && p->init; }
static bool is_not_init(const struct part *p) { return p && !p->init; }

static void print_blocks(const struct discovery *d)
{
    for (size_t n = 0; n < d->count; n++)
        printf("%08x 0x%" PRIx64 " %u %u %s\n", d->mode, d->blocks[n].pc, d->blocks[n].size, d->blocks[n].insns, d->blocks[n].refused ? "refused" : "ok");
}

enum what { TEMPLATES_ALONE, REGIONS_TOO };
static void discover_in(struct collector *c, const struct image *m, uint32_t mode, bool (*wanted)(const struct part *), enum what what)
{
    const struct options *o = c->o;
    const struct region_limits limits = {.blocks = 96, .insns = 400, .stretch = 60, .least = o->least};
    struct coverage *v = &c->to->files[c->coverage];
    struct discovery d;
    struct failure f = {""};
    if (*c->stop || (what == TEMPLATES_ALONE && !c->to->templates))
        return;
    if (!discover(&d, m, c->model, mode, wanted, c->stop, &f)) {
        snprintf(v->why, sizeof v->why, "%s", f.text);
        discovery_free(&d);
        return;
    }
    templates_discovered(c->to->templates, &d, c->stop);
    if (what == TEMPLATES_ALONE) {
        discovery_free(&d);
        return;
    }
    v->code += d.code_bytes;
    v->found += d.found_bytes;
    v->insns += d.insns;
    v->blocks += d.count;
    v->refused += d.refused;
    v->bad += d.bad;
    v->tables += d.tables;
    if (o->list_blocks)
        print_blocks(&d);
    else if (!discovery_regions(&d, &limits, take_recipe, c, &f))
        die(1, "%s", f.text);
    discovery_free(&d);
}

static void discover_all(struct collector *c, const struct image *m, bool (*wanted)(const struct part *))
{
    uint32_t modes[MODES_MOST];
    unsigned count = c->o->mode_count;
    memcpy(modes, c->o->modes, sizeof modes);
    if (!count)
        count = mode_defaults(m, wanted == is_init, modes);
    for (unsigned n = 0; n < count; n++)
        discover_in(c, m, modes[n], wanted, REGIONS_TOO);
}

/* The same code in the modes that it seldom runs in, for which no region pays. */
static void discover_seldom(struct collector *c, const struct image *m, bool patched, bool (*wanted)(const struct part *))
{
    uint32_t modes[MODES_MOST];
    unsigned count = mode_seldom(m, patched, modes);
    for (unsigned n = 0; n < count; n++)
        discover_in(c, m, modes[n], wanted, TEMPLATES_ALONE);
}

/* What else runs in a boot before the kernel has changed itself. */
static void discover_unpatched(struct collector *c, const struct image *m, bool (*wanted)(const struct part *))
{
    uint32_t modes[MODES_MOST];
    unsigned count = mode_defaults(m, false, modes);
    for (unsigned n = 0; n < count; n++)
        discover_in(c, m, modes[n], wanted, TEMPLATES_ALONE);
}

static bool take_elf(struct collector *c, const char *name, const uint8_t *bytes, size_t size, struct failure *f)
{
    struct image m;
    if (!image_elf(&m, name, bytes, size, f))
        return false;
    coverage_new(c, name);
    if (m.kind == IMAGE_KERNEL) { /* its init sections run in another mode, and before it changes itself */
        if (!c->o->mode_count) {
            discover_all(c, &m, is_init);
            discover_seldom(c, &m, false, is_init);
        }
        kernel_patch_tracer(&m);
        if (!c->o->mode_count)
            discover_unpatched(c, &m, is_not_init);
        kernel_patch(&m, c->model);
        c->to->files[c->coverage].patched = m.patched;
        if (!c->o->mode_count)
            discover_seldom(c, &m, true, is_init);
    }
    discover_all(c, &m, m.kind == IMAGE_KERNEL && !c->o->mode_count ? is_not_init : NULL);
    image_free(&m);
    return true;
}

static bool take_bzimage(struct collector *c, const char *name, const uint8_t *bytes, size_t size, struct failure *f)
{
    struct bzimage b;
    struct image m;
    char part[240];
    if (!unpack_bzimage(bytes, size, UNPACKED_MOST, &b, f))
        return false;
    snprintf(part, sizeof part, "%.200s (unpacker)", name);
    bool ok = image_stub(&m, part, &b, f);
    if (ok) {
        coverage_new(c, part);
        discover_all(c, &m, NULL);
        image_free(&m);
        snprintf(part, sizeof part, "%.200s (kernel)", name);
        ok = take_elf(c, part, b.kernel, b.kernel_size, f);
    }
    free(b.kernel);
    return ok;
}

/* In an archive, what is no program is passed over. */
static bool take_member(void *ctx, const char *name, const uint8_t *bytes, size_t size)
{
    struct collector *c = ctx;
    struct failure f = {""};
    char whole[256];
    bool elf = size > 64 && !memcmp(bytes, "\177ELF", 4);
    snprintf(whole, sizeof whole, "%.120s:%.120s", c->archive, name);
    for (char *at = whole; *at; at++) /* names go into objects and onto terminals */
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?';
    c->to->skipped += !elf;
    if (elf && !take_elf(c, whole, bytes, size, &f))
        snprintf(coverage_new(c, whole)->why, sizeof f.text, "%s", f.text);
    return !*c->stop;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

void static_collect(struct sources *to, const struct options *o, const struct x86_model *model, const uint64_t translator[2], const char *const *files, unsigned count,
                    const volatile bool *stop)
{
    struct collector c = {.to = to, .o = o, .model = model, .translator = translator, .stop = stop};
    struct failure f = {""};
    for (unsigned n = 0; n < count + o->initrd_count && !*stop; n++) {
        const char *path = n < count ? files[n] : o->initrds[n - count];
        size_t size;
        uint8_t *bytes = (uint8_t *)file_read(path, &size);
        c.archive = base_name(path);
        bool ok = n >= count ? unpack_initrd(bytes, size, UNPACKED_MOST, take_member, &c, &f)
                  : unpack_is_bzimage(bytes, size) ? take_bzimage(&c, base_name(path), bytes, size, &f)
                                                   : take_elf(&c, base_name(path), bytes, size, &f);
        if (!ok && !*stop)
            die(1, "'%s' %s", path, f.text);
        free(bytes);
    }
}
