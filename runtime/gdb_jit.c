/* A gdb that debugs the emulator itself learns the names of regions by GDB's JIT interface (GDB manual, "JIT Compilation Interface"):
 * it has a breakpoint in one function and reads one list, both found by their names.  So these two are global, as the protocol
 * demands, for all machines of the process; a lock is over them.  Nothing else of Tierce's looks at them. */
#include "runtime/internal.h"
#include <elf.h>
#include <stdlib.h>
#include <string.h>

enum { JIT_NOACTION, JIT_REGISTER, JIT_UNREGISTER };
struct gdb_object { struct gdb_object *next, *previous; const void *elf; uint64_t size; /* gdb's jit_code_entry */ uint8_t copy[]; };
struct gdb_descriptor { uint32_t version, action; struct gdb_object *relevant, *first; };
_Static_assert(offsetof(struct gdb_object, copy) == 32 && sizeof(struct gdb_descriptor) == 24, "as gdb reads them");

extern struct gdb_descriptor __jit_debug_descriptor;
struct gdb_descriptor __jit_debug_descriptor = {.version = 1};
void __jit_debug_register_code(void);
__attribute__((noinline, used)) void __jit_debug_register_code(void) { __asm__ volatile ("" ::: "memory"); }
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void tell(struct gdb_object *o, uint32_t action)
{
    __jit_debug_descriptor.relevant = o;
    __jit_debug_descriptor.action = action;
    __jit_debug_register_code();
    __jit_debug_descriptor.action = JIT_NOACTION;
    __jit_debug_descriptor.relevant = NULL;
}

/* --- The copy: `size` bytes of the object, `room` in all. */
struct copy { uint8_t *at; size_t size, room; Elf64_Ehdr h; };

static bool header_read(struct copy *c)
{
    if (c->size < sizeof c->h)
        return false;
    memcpy(&c->h, c->at, sizeof c->h);
    return !memcmp(c->h.e_ident, ELFMAG, SELFMAG) && c->h.e_ident[EI_CLASS] == ELFCLASS64 && c->h.e_shentsize == sizeof(Elf64_Shdr) &&
           c->h.e_shoff <= c->size && c->h.e_shnum <= (c->size - c->h.e_shoff) / sizeof(Elf64_Shdr);
}

static uint8_t *header_at(const struct copy *c, unsigned n) { return c->at + c->h.e_shoff + n * sizeof(Elf64_Shdr); }

/* False: there is no such section, or it lies outside. */
static bool section_get(const struct copy *c, unsigned n, Elf64_Shdr *s)
{
    if (n >= c->h.e_shnum)
        return false;
    memcpy(s, header_at(c, n), sizeof *s);
    return s->sh_type == SHT_NOBITS || (s->sh_offset <= c->size && s->sh_size <= c->size - s->sh_offset);
}

static void section_put(const struct copy *c, unsigned n, const Elf64_Shdr *s) { memcpy(header_at(c, n), s, sizeof *s); }

/* Says where its code runs; false: it has none. */
static bool place(const struct copy *c, const void *run)
{
    Elf64_Shdr s;
    for (unsigned i = 0; i < c->h.e_shnum; i++)
        if (section_get(c, i, &s) && s.sh_type == SHT_PROGBITS && s.sh_flags & SHF_EXECINSTR) {
            s.sh_addr = (uint64_t)run;
            section_put(c, i, &s);
            return true;
        }
    return false;
}

/* The function's name: objects have none of their own.  Strings with one more follow behind all else. */
static void functions_name(struct copy *c, const Elf64_Shdr *symbols, const char *name)
{
    Elf64_Shdr strings;
    size_t length = strlen(name) + 1;
    if (!section_get(c, symbols->sh_link, &strings) || strings.sh_type != SHT_STRTAB || strings.sh_size > c->room - c->size - length)
        return;
    memcpy(c->at + c->size, c->at + strings.sh_offset, strings.sh_size);
    memcpy(c->at + c->size + strings.sh_size, name, length);
    for (size_t at = symbols->sh_offset; at + sizeof(Elf64_Sym) <= symbols->sh_offset + symbols->sh_size; at += sizeof(Elf64_Sym)) {
        Elf64_Sym s;
        memcpy(&s, c->at + at, sizeof s);
        if (ELF64_ST_TYPE(s.st_info) == STT_FUNC)
            s.st_name = (uint32_t)strings.sh_size;
        memcpy(c->at + at, &s, sizeof s);
    }
    strings.sh_offset = c->size;
    strings.sh_size += length;
    c->size = strings.sh_offset + strings.sh_size;
    section_put(c, symbols->sh_link, &strings);
}

static void name_it(struct copy *c, const char *name)
{
    Elf64_Shdr s;
    for (unsigned i = 0; i < c->h.e_shnum; i++)
        if (section_get(c, i, &s) && s.sh_type == SHT_SYMTAB) {
            functions_name(c, &s, name);
            return;
        }
}

struct gdb_object *gdb_jit_add(const struct machine *m, const void *elf, size_t size, const char *name, const void *run)
{
    size_t room = 2 * size + strlen(name) + 1; /* for strings as long as all of it */
    struct gdb_object *o = m->config.gdb_jit ? malloc(sizeof *o + room) : NULL;
    if (!o)
        return NULL;
    struct copy c = {.at = memcpy(o->copy, elf, size), .size = size, .room = room};
    if (!header_read(&c) || !place(&c, run)) {
        free(o);
        return NULL;
    }
    name_it(&c, name);
    o->elf = o->copy;
    o->size = c.size;
    pthread_mutex_lock(&lock);
    o->previous = NULL;
    if ((o->next = __jit_debug_descriptor.first))
        o->next->previous = o;
    __jit_debug_descriptor.first = o;
    tell(o, JIT_REGISTER);
    pthread_mutex_unlock(&lock);
    return o;
}

void gdb_jit_remove(struct gdb_object *o)
{
    if (!o)
        return;
    pthread_mutex_lock(&lock);
    *(o->previous ? &o->previous->next : &__jit_debug_descriptor.first) = o->next;
    if (o->next)
        o->next->previous = o->previous;
    tell(o, JIT_UNREGISTER);
    pthread_mutex_unlock(&lock);
    free(o);
}
