/* tierce-cache list, show and stats: what is in the cache. */
#include "tools/tierce-cache/tool.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void print_used(uint64_t used)
{
    char text[32] = "never";
    time_t t = (time_t)used;
    struct tm local;
    if (used && localtime_r(&t, &local))
        strftime(text, sizeof text, "%Y-%m-%d %H:%M", &local);
    printf("%-16s", text);
}

/* Names come out of objects that others may have written. */
static void print_name(const char *name)
{
    for (; *name; name++)
        putchar((unsigned char)*name < 0x20 || *name == 0x7f ? '?' : *name);
}

static void print_mode(uint32_t mode)
{
    const char *name = mode_name(mode);
    if (name)
        printf("%-12s", name);
    else
        printf("0x%08x  ", mode);
}

static void json_entry(const struct store_entry *e, const char *key)
{
    printf("{\"key\": \"%s\", \"size\": %" PRIu64 ", \"stored_size\": %" PRIu64 ", \"used\": %" PRIu64 ", \"layer\": %u", key, e->size, e->stored_size, e->used, e->layer);
}

/* Of the function, from the recipe where that has it: the object's own is LLVM's. */
static void name_of(const struct object_view *v, char *to, size_t size)
{
    char error[160];
    struct recipe *r = v->meta.recipe_size ? recipe_read(v->meta.recipe, v->meta.recipe_size, error, sizeof error) : NULL;
    snprintf(to, size, "%s", r && r->name ? r->name : v->meta.name);
    free(r);
}

/* --- list */
static void list_one(struct store *s, const struct store_entry *e, bool json)
{
    struct store_object o;
    struct object_view v;
    char key[KEY_TEXT], error[160] = "", size[16], name[300] = "";
    key_text(&e->key, key);
    bool ok = object_of(s, e, &o, &v, error, sizeof error);
    if (ok)
        name_of(&v, name, sizeof name);
    if (json) {
        json_entry(e, key);
        if (ok) {
            printf(", \"mode\": \"0x%08x\", \"guest_insns\": %u, \"blocks\": %u, \"code_bytes\": %zu, \"name\": ", v.meta.mode, v.meta.guest_insns, v.meta.block_count, v.code_size);
            json_string(stdout, name);
        } else {
            fputs(", \"damaged\": ", stdout);
            json_string(stdout, error);
        }
        putchar('}');
    } else {
        size_text(e->stored_size, size);
        printf("%.8s %.16s  %9s  ", key, key + 32, size);
        print_used(e->used);
        if (ok) {
            printf("  ");
            print_mode(v.meta.mode);
            printf(" %4u blocks %5u insns  ", v.meta.block_count, v.meta.guest_insns);
            print_name(name);
        } else {
            printf("  damaged: %s", error);
        }
        putchar('\n');
    }
    if (ok) {
        object_close(&v);
        store_release(&o);
    }
}

int list_run(struct options *o, const char *const *arguments, unsigned count)
{
    if (count > 1)
        die(2, "more than one key prefix: '%s'; accepted is one", arguments[1]);
    struct store *s = store_get_open(o, READ_ONLY);
    size_t entries;
    struct store_entry *e = entries_of(s, count ? arguments[0] : "", o->with_layers, &entries);
    if (o->json)
        puts("[");
    for (size_t n = 0; n < entries; n++) {
        list_one(s, &e[n], o->json);
        if (o->json)
            puts(n + 1 < entries ? "," : "");
    }
    if (o->json)
        puts("]");
    free(e);
    store_close(s);
    return 0;
}

/* --- show */
/* What the word names: a prefix of the whole key, or of its second half, as list prints them.  One object, or none. */
static struct store_entry find_one(struct store *s, const char *prefix, bool with_layers)
{
    size_t count, found = 0;
    struct store_entry *all = entries_of(s, "", with_layers, &count), one = {0};
    check_prefix(prefix);
    for (size_t n = 0; n < count; n++) {
        char key[KEY_TEXT];
        key_text(&all[n].key, key);
        if ((strncmp(key, prefix, strlen(prefix)) && strncmp(key + 32, prefix, strlen(prefix))) || (found && !memcmp(&one.key, &all[n].key, sizeof one.key)))
            continue;
        one = all[n];
        found++;
    }
    free(all);
    if (!found)
        die(1, "no object has a key that begins with '%s'", prefix);
    if (found > 1)
        die(1, "'%s' is ambiguous: %zu objects have keys that begin so", prefix, found);
    return one;
}

static void print_code(uint32_t mode, int64_t pc, const uint8_t *bytes, size_t size)
{
    for (size_t at = 0; at < size;) {
        char text[128], hex[32] = "";
        unsigned n = x86_disassemble(mode, (uint64_t)pc + at, bytes + at, (unsigned)(size - at), text, sizeof text);
        if (!n)
            snprintf(text, sizeof text, "(bad)");
        text_shorten(text);
        for (unsigned i = 0; i < (n ? n : 1) && i < 15; i++)
            snprintf(hex + 2 * i, 3, "%02x", bytes[at + i]);
        printf("  %6" PRIx64 "  %-30s %s\n", ((uint64_t)pc + at) & 0xffffffffffff, hex, text);
        at += n ? n : 1;
    }
}

/* Addresses that move with the code are shown as targets of jumps are: from the region's begin. */
static const uint8_t *shown_bytes(const struct recipe_block *b, uint8_t room[UINT16_MAX])
{
    const uint8_t *moved = recipe_block_moved(b, (uint64_t)b->pc, room);
    return moved ? moved : b->bytes;
}

static void show_guest(const struct recipe *r)
{
    uint8_t room[UINT16_MAX];
    for (unsigned n = 0; n < r->block_count; n++) {
        const struct recipe_block *b = &r->blocks[n];
        printf("guest block %u at %+" PRId64 ", %u bytes at 0x%03x of its page, ran %" PRIu64, n, b->pc, b->size, b->page_offset, b->count);
        for (unsigned t = 0; t < b->target_count; t++)
            printf("%s %u", t ? "," : ", goes to", b->targets[t].block);
        putchar('\n');
        print_code(r->mode, b->pc, shown_bytes(b, room), b->size);
    }
}

static void show_text(const struct store_entry *e, const struct object_view *v, const struct recipe *r, const char *error)
{
    const struct object_meta *m = &v->meta;
    char key[KEY_TEXT];
    key_text(&e->key, key);
    printf("key       %s\nname      ", key);
    print_name(r && r->name ? r->name : m->name);
    printf("\nmode      0x%08x", m->mode);
    if (mode_name(m->mode))
        printf(" (%s)", mode_name(m->mode));
    printf("\nguest     %u instructions in %u blocks\nhost      %zu bytes of code, %zu with constants; object %" PRIu64 ", stored %" PRIu64 "\nways out  %u\nused      ", m->guest_insns,
           m->block_count, v->code_size, v->text_size, e->size, e->stored_size, m->exit_count);
    print_used(e->used);
    putchar('\n');
    if (r)
        show_guest(r);
    else
        printf("guest code is not known: %s\n", error);
    puts("host code");
    print_code(X86_MODE_CODE64 | X86_MODE_PE, 0, v->text + m->entry, v->code_size);
}

static void json_code(uint32_t mode, int64_t pc, const uint8_t *bytes, size_t size)
{
    putchar('[');
    for (size_t at = 0; at < size;) {
        char text[128];
        unsigned n = x86_disassemble(mode, (uint64_t)pc + at, bytes + at, (unsigned)(size - at), text, sizeof text);
        if (!n)
            snprintf(text, sizeof text, "(bad)");
        text_shorten(text);
        printf("%s{\"at\": %" PRId64 ", \"length\": %u, \"text\": ", at ? ", " : "", pc + (int64_t)at, n ? n : 1);
        json_string(stdout, text);
        putchar('}');
        at += n ? n : 1;
    }
    putchar(']');
}

static void show_json(const struct store_entry *e, const struct object_view *v, const struct recipe *r)
{
    uint8_t room[UINT16_MAX];
    char key[KEY_TEXT];
    key_text(&e->key, key);
    json_entry(e, key);
    printf(", \"mode\": \"0x%08x\", \"guest_insns\": %u, \"code_bytes\": %zu, \"text_bytes\": %zu, \"exits\": %u, \"name\": ", v->meta.mode, v->meta.guest_insns, v->code_size,
           v->text_size, v->meta.exit_count);
    json_string(stdout, r && r->name ? r->name : v->meta.name);
    fputs(", \"blocks\": [", stdout);
    for (unsigned n = 0; r && n < r->block_count; n++) {
        const struct recipe_block *b = &r->blocks[n];
        printf("%s{\"pc\": %" PRId64 ", \"size\": %u, \"page_offset\": %u, \"count\": %" PRIu64 ", \"code\": ", n ? ", " : "", b->pc, b->size, b->page_offset, b->count);
        json_code(r->mode, b->pc, shown_bytes(b, room), b->size);
        putchar('}');
    }
    fputs("], \"host\": ", stdout);
    json_code(X86_MODE_CODE64 | X86_MODE_PE, 0, v->text + v->meta.entry, v->code_size);
    puts("}");
}

int show_run(struct options *o, const char *const *arguments, unsigned count)
{
    struct store_object object;
    struct object_view v;
    char error[200] = "it has no recipe";
    if (count != 1)
        die(2, "show needs a key, or the beginning of one, as `%s list` prints it", tool_name);
    struct store *s = store_get_open(o, READ_ONLY);
    struct store_entry e = find_one(s, arguments[0], o->with_layers);
    if (!object_of(s, &e, &object, &v, error, sizeof error))
        die(1, "the object cannot be read: %s", error);
    struct recipe *r = v.meta.recipe_size ? recipe_read(v.meta.recipe, v.meta.recipe_size, error, sizeof error) : NULL;
    if (o->objects)
        fwrite(object.data, 1, object.size, stdout);
    else if (o->json)
        show_json(&e, &v, r);
    else
        show_text(&e, &v, r, error);
    free(r);
    object_close(&v);
    store_release(&object);
    store_close(s);
    return 0;
}

/* --- stats */
struct sums { uint64_t insns, code, damaged, foreign; struct { uint32_t mode; uint64_t count; } modes[32]; unsigned mode_count; struct options *o; };

static void count_mode(struct sums *t, uint32_t mode)
{
    unsigned n = 0;
    while (n < t->mode_count && t->modes[n].mode != mode)
        n++;
    if (n == t->mode_count && n < sizeof t->modes / sizeof *t->modes)
        t->modes[t->mode_count++].mode = mode;
    if (n < t->mode_count)
        t->modes[n].count++;
}

static bool count_file(void *ctx, const struct store_file *f)
{
    uint64_t *sum = ctx; /* profiles, their bytes; files of templates, theirs */
    unsigned kind = !strncmp(f->name, "templates-", 10) ? 2 : 0;
    sum[kind]++;
    sum[kind + 1] += f->size;
    return true;
}

int stats_run(struct options *o, const char *const *arguments, unsigned count)
{
    struct store_counts c;
    struct sums t = {0};
    uint64_t files[4] = {0};
    char bytes[16], stored[16], code[16], templates[16];
    if (count)
        die(2, "stats takes no argument, but has '%s'", arguments[0]);
    double before = seconds_now();
    struct store *s = store_get_open(o, READ_ONLY);
    double opened = seconds_now() - before;
    size_t entries;
    struct store_entry *e = entries_of(s, "", o->with_layers, &entries);
    for (size_t n = 0; n < entries; n++) {
        struct store_object object;
        struct object_view v;
        char error[160];
        if (!object_of(s, &e[n], &object, &v, error, sizeof error)) {
            t.damaged++;
            continue;
        }
        t.insns += v.meta.guest_insns;
        t.code += v.code_size;
        count_mode(&t, v.meta.mode);
        object_close(&v);
        store_release(&object);
    }
    store_file_each(s, count_file, files);
    store_count(s, &c);
    size_text(c.bytes, bytes);
    size_text(c.stored_bytes, stored);
    size_text(t.code, code);
    if (o->json) {
        fputs("{\"path\": ", stdout);
        json_string(stdout, store_path(o));
        printf(", \"objects\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"stored_bytes\": %" PRIu64 ", \"guest_insns\": %" PRIu64 ", \"code_bytes\": %" PRIu64
               ", \"damaged\": %" PRIu64 ", \"profiles\": %" PRIu64 ", \"profile_bytes\": %" PRIu64 ", \"template_files\": %" PRIu64 ", \"template_bytes\": %" PRIu64 ", \"open_seconds\": %.6f, \"modes\": {", c.objects, c.bytes, c.stored_bytes,
               t.insns, t.code, t.damaged, files[0], files[1], files[2], files[3], opened);
        for (unsigned n = 0; n < t.mode_count; n++)
            printf("%s\"0x%08x\": %" PRIu64, n ? ", " : "", t.modes[n].mode, t.modes[n].count);
        puts("}}");
    } else {
        printf("cache         %s, opened in %.3f ms\nobjects       %" PRIu64 ": %s, stored %s\nguest         %" PRIu64 " instructions, to %s of code\n", store_path(o), opened * 1e3,
               c.objects, bytes, stored, t.insns, code);
        for (unsigned n = 0; n < t.mode_count; n++) {
            printf("%s", n ? "              " : "modes         ");
            print_mode(t.modes[n].mode);
            printf(" %" PRIu64 "\n", t.modes[n].count);
        }
        size_text(files[3], templates);
        printf("profiles      %" PRIu64 ", %" PRIu64 " bytes\ntemplates     %" PRIu64 " files, %s\ndamaged       %" PRIu64 "\n", files[0], files[1], files[2], templates, t.damaged);
    }
    free(e);
    store_close(s);
    return 0;
}
