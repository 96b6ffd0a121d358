/* Saved state of the PC's devices: a PC that was left by a storm of accesses is saved and loaded into another, and from there on both
 * must answer every access alike - which they do not where a field is missing in a table.  And what does not fit is refused by name. */
#define _GNU_SOURCE
#include "fake.h"
#include "hw/pc.h"

enum { RAM_SIZE = 4 << 20, PARTS = 32, STEPS = 4000 };
struct rig { struct fake_clock clock; struct fake_line lines[6]; struct pc *pc; uint8_t *ram; uint64_t seen; };

static void set_line(void *ctx, int pin, int level) { fake_set(((struct rig *)ctx)->lines, pin, level); }
static uint64_t tsc_to_ns(void *ctx, uint64_t tsc) { (void)ctx; return tsc; }
static void on_exit_port(void *ctx, int status) { (void)ctx; (void)status; }
static void note(struct rig *r, uint64_t value) { r->seen = (r->seen ^ value) * 0x100000001b3ull; }
static void put(void *ctx, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        note(ctx, bytes[i]);
}

static bool setup(struct rig *r)
{
    char error[200] = "";
    *r = (struct rig){.clock = FAKE_CLOCK, .ram = calloc(1, RAM_SIZE)};
    const struct pc_config config = {
        .ram_size = RAM_SIZE, .ram = r->ram, .clock = &r->clock.clock, .start_time = 1767225600, .cpu_interrupt = {set_line, r, 0}, .cpu_nmi = {set_line, r, 1},
        .cpu_init = {set_line, r, 2}, .reset_request = {set_line, r, 3}, .shutdown_request = {set_line, r, 4}, .cpu_a20 = {set_line, r, 5}, .debug_exit = on_exit_port,
        .debug_exit_port = 0x501, .debug_exit_size = 4, .serial = {{put, r}, {put, r}}, .debug_console = {put, r}, .tsc_to_ns = tsc_to_ns, .cmdline = "quiet"};
    r->pc = pc_new(&config, error, sizeof error);
    if (!CHECK(error, r->pc != NULL, true))
        return false;
    pc_reset(r->pc);
    return true;
}

static void teardown(struct rig *r)
{
    pc_free(r->pc);
    free(r->ram);
}

static uint32_t next(uint32_t *x)
{
    *x ^= *x << 13, *x ^= *x >> 17, *x ^= *x << 5;
    return *x;
}

/* One thing that a guest, the user or time may do; what is seen of it goes into r->seen. */
static void step(struct rig *r, uint32_t *x)
{
    static const uint64_t windows[] = {PC_LAPIC, PC_LAPIC + 0x80, PC_LAPIC + 0x100, PC_LAPIC + 0x280, PC_LAPIC + 0x300, PC_LAPIC + 0x380, PC_IOAPIC, PC_HPET, PC_HPET + 0x80, PC_HPET + 0x100};
    static const uint16_t ports[] = {0x20, 0x40, 0x60, 0x70, 0x90, 0xa0, 0xe0, 0xf0, 0x2f8, 0x3f8, 0x4d0, 0x510, 0x600, 0xcf8};
    uint32_t what = next(x), value = next(x) >> (next(x) & 24), at = next(x);
    uint64_t memory = windows[at % (sizeof windows / sizeof *windows)] + (at >> 8 & 0x7c), wide = 0;
    uint16_t port = (uint16_t)(ports[at % (sizeof ports / sizeof *ports)] + (at >> 8 & 15));
    unsigned size = 1u << (what >> 8) % 3;
    switch (what % 10) {
    case 0: case 1: space_write(pc_io(r->pc), port, size, value); break;
    case 2: case 3: note(r, space_read(pc_io(r->pc), port, size)); break;
    case 4: space_write(pc_memory(r->pc), memory, 4, value); break;
    case 5: note(r, space_read(pc_memory(r->pc), memory, 4)); break;
    case 6:
        r->clock.ns += value & 0xffffff;
        clock_run_alarms(&r->clock.clock);
        break;
    case 7: note(r, (uint64_t)pc_interrupt_take(r->pc)); break;
    case 8:
        note(r, lapic_msr_write(pc_lapic(r->pc), 0x6e0, r->clock.ns + (value & 0xffffff)));
        if (value & 1)
            note(r, lapic_msr_read(pc_lapic(r->pc), 0x800 + (at & 0x3f), &wide) + wide);
        break;
    case 9:
        note(r, uart_receive(pc_serial(r->pc, value & 1), (const uint8_t *)x, 3));
        i8042_key(pc_keyboard(r->pc), 1 + at % 0x50);
        i8042_mouse(pc_keyboard(r->pc), (int)(at & 15), 3, 0, at >> 4 & 3);
        note(r, pc_ferr(r->pc, value >> 1 & 1));
        break;
    }
    for (unsigned i = 0; i < 6; i++)
        note(r, (uint64_t)r->lines[i].level);
}

/* --- Saving and loading all parts */
struct saved { struct state_out parts[PARTS]; unsigned count; };

static void save(struct rig *r, struct saved *s)
{
    struct pc_part part;
    for (s->count = 0; s->count < PARTS && pc_part(r->pc, s->count, &part); s->count++) {
        s->parts[s->count] = (struct state_out){0};
        if (part.table)
            state_write(&s->parts[s->count], part.table, part.object);
    }
}

static void drop(struct saved *s)
{
    while (s->count)
        free(s->parts[--s->count].bytes);
}

static void load(struct rig *r, const struct rig *from, const struct saved *s)
{
    struct pc_part part;
    char error[200] = "";
    r->clock.ns = from->clock.ns;
    pc_reset(r->pc);
    for (unsigned i = 0; pc_part(r->pc, i, &part); i++)
        if (part.table && CHECK(part.name, state_check(part.table, part.table->version, s->parts[i].bytes, s->parts[i].size, error, sizeof error), true))
            state_read(part.table, part.table->version, s->parts[i].bytes, part.object);
    pc_loaded(r->pc);
    r->clock.clock.order = from->clock.clock.order;
    memcpy(r->ram, from->ram, RAM_SIZE);
    memcpy(r->lines, from->lines, sizeof r->lines);
    r->seen = from->seen;
}

static bool same(struct rig *a, struct rig *b)
{
    struct saved x, y;
    struct pc_part part;
    bool same = true;
    save(a, &x);
    save(b, &y);
    for (unsigned i = 0; i < x.count; i++) {
        bool equal = x.parts[i].size == y.parts[i].size && (!x.parts[i].size || !memcmp(x.parts[i].bytes, y.parts[i].bytes, x.parts[i].size));
        pc_part(a->pc, i, &part);
        same &= CHECK(part.name, equal, true);
        if (!equal) {
            state_print(stdout, part.table, part.object);
            pc_part(b->pc, i, &part);
            state_print(stdout, part.table, part.object);
        }
    }
    drop(&x);
    drop(&y);
    return same;
}

/* Each seed: a storm, over to the other PC (which had another storm before), and the same storm on both. */
static void test_storms(void)
{
    for (uint32_t seed = 1; seed <= 24; seed++) {
        struct rig a, b;
        struct saved s;
        uint32_t x = seed * 2654435761u, y = ~x, z;
        if (!setup(&a) || !setup(&b))
            return;
        for (unsigned i = 0; i < STEPS; i++)
            step(&a, &x), step(&b, &y);
        save(&a, &s);
        load(&b, &a, &s);
        drop(&s);
        bool good = same(&a, &b);
        y = z = x;
        for (unsigned i = 0; i < STEPS && good; i++) {
            step(&a, &y), step(&b, &z);
            good = a.seen == b.seen;
            if (!good)
                printf("seed %u: step %u differs\n", seed, i);
        }
        CHECK("the same is seen", good, true);
        same(&a, &b);
        teardown(&a);
        teardown(&b);
    }
}

/* --- What is refused */
static bool refused(const struct pc_part *part, unsigned version, const uint8_t *bytes, size_t size, const char *word)
{
    char error[200] = "";
    bool ok = state_check(part->table, version, bytes, size, error, sizeof error);
    if (!ok && strstr(error, word) && !strchr(error, '\n'))
        return CHECK(word, true, true);
    printf("accepted %d: '%s', expected '%s'\n", ok, error, word);
    return CHECK(word, false, true);
}

static void test_refused(void)
{
    struct rig r;
    struct saved s;
    struct pc_part part;
    char error[200];
    if (!setup(&r))
        return;
    save(&r, &s);
    for (unsigned i = 0; pc_part(r.pc, i, &part); i++) {
        const struct state_out *o = &s.parts[i];
        if (!part.table)
            continue;
        bool cut = true;
        for (size_t n = 0; n < o->size; n++)
            cut &= !state_check(part.table, part.table->version, o->bytes, n, error, sizeof error) && !strncmp(error, "field ", 6);
        CHECK("every shorter one is refused", cut, true);
        char newer[80];
        snprintf(newer, sizeof newer, "its version is %u; accepted: 1 to %u", part.table->version + 1, part.table->version);
        refused(&part, part.table->version + 1, o->bytes, o->size, newer);
        refused(&part, 0, o->bytes, o->size, "its version is 0");
    }
    for (unsigned i = 0; pc_part(r.pc, i, &part); i++) {
        struct state_out *o = &s.parts[i];
        if (!part.table || strcmp(part.name, "uart"))
            continue;
        state_bytes(o, "x", 1);
        refused(&part, 1, o->bytes, o->size, "1 bytes follow its last field");
        uint8_t *at = memmem(o->bytes, o->size, "rx_at", 5);
        at[5 + 5] = 16; /* behind the name: size, count, value */
        refused(&part, 1, o->bytes, o->size - 1, "field rx_at: 16 is not accepted; accepted: 0 to 15");
        at[5 + 5] = 15;
        at[5] = 2;
        refused(&part, 1, o->bytes, o->size - 1, "field rx_at: 1 elements of 2 bytes; accepted: 1 of 4");
        at[5] = 4;
        at[1] = 'y';
        refused(&part, 1, o->bytes, o->size - 1, "field rx_at: it is missing");
    }
    drop(&s);
    teardown(&r);
}

/* A table that grew: what an older version lacks is left alone. */
static void test_versions(void)
{
    struct thing { uint16_t old; bool new[2]; } one = {0x1234, {true, false}}, two = {7, {false, true}};
    static const struct state_field first[] = {STATE(struct thing, old)}, second[] = {STATE(struct thing, old), STATE_ARRAY(struct thing, new, .since = 2)};
    static const struct state_table before = STATE_TABLE(1, first), after = STATE_TABLE(2, second);
    struct state_out o = {0};
    char error[200], text[200] = "";
    state_write(&o, &before, &one);
    CHECK("older", state_check(&after, 1, o.bytes, o.size, error, sizeof error), true);
    CHECK("older as newer", state_check(&after, 2, o.bytes, o.size, error, sizeof error), false);
    state_read(&after, 1, o.bytes, &two);
    CHECK("old", two.old, 0x1234);
    CHECK("new", two.new[1], true);
    o.size = 0;
    state_write(&o, &after, &one);
    o.bytes[o.size - 1] = 2; /* a bool that is none */
    CHECK("bool", state_check(&after, 2, o.bytes, o.size, error, sizeof error), false);
    o.bytes[o.size - 1] = 0;
    state_read(&after, 2, o.bytes, &two);
    CHECK("new", two.new[0] && !two.new[1], true);
    FILE *f = fmemopen(text, sizeof text, "w");
    state_print(f, &after, &two);
    fclose(f);
    CHECK(text, strcmp(text, "    old = 1234\n    new = 1 0\n"), 0);
    free(o.bytes);
}

int main(void)
{
    test_storms();
    test_refused();
    test_versions();
    return report();
}
