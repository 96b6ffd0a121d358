/* State by description: one routine that writes, one that checks and reads, one that prints, for every table of struct state_field.
 * A table's bytes are its fields in order, each with its name, so that what does not fit is told by name:
 *   u8 length of the name, the name, u8 size of an element, u32 number of elements, the elements (little-endian)
 * An alarm is three elements of 8 bytes: armed, deadline, order (among alarms of one deadline). */
#include "hw/hw.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { ALARM_WORDS = 3 };

static uint8_t *element(const struct state_field *f, const void *object, unsigned n)
{
    return (uint8_t *)(uintptr_t)object + f->offset + (size_t)(n / f->elements) * f->stride + (size_t)(n % f->elements) * f->size;
}
static unsigned elements(const struct state_field *f) { return (unsigned)f->elements * f->count; }
static unsigned stored_size(const struct state_field *f) { return f->kind == STATE_IS_ALARM ? 8 : f->size; }
static unsigned stored_count(const struct state_field *f) { return elements(f) * (f->kind == STATE_IS_ALARM ? ALARM_WORDS : 1); }

static uint64_t number(const uint8_t *at, unsigned size)
{
    uint64_t v = 0;
    memcpy(&v, at, size);
    return v;
}

/* --- Writing */
void state_bytes(struct state_out *o, const void *bytes, size_t size)
{
    if (o->size + size > o->room) {
        size_t room = (o->size + size) * 2;
        uint8_t *more = o->failed ? NULL : realloc(o->bytes, room);
        if (!more) {
            o->failed = true;
            return;
        }
        o->bytes = more;
        o->room = room;
    }
    if (size)
        memcpy(o->bytes + o->size, bytes, size);
    o->size += size;
}

static void alarm_write(struct state_out *o, const struct alarm *a)
{
    const uint64_t words[ALARM_WORDS] = {a->armed, a->armed ? a->deadline_ns : 0, a->armed ? a->order : 0};
    state_bytes(o, words, sizeof words);
}

void state_write(struct state_out *o, const struct state_table *table, const void *object)
{
    for (const struct state_field *f = table->fields; f < table->fields + table->field_count; f++) {
        uint8_t length = (uint8_t)strlen(f->name), size = (uint8_t)stored_size(f);
        uint32_t count = stored_count(f);
        state_bytes(o, &length, 1);
        state_bytes(o, f->name, length);
        state_bytes(o, &size, 1);
        state_bytes(o, &count, 4);
        for (unsigned n = 0; n < elements(f); n++)
            if (f->kind == STATE_IS_ALARM)
                alarm_write(o, (const struct alarm *)(const void *)element(f, object, n));
            else
                state_bytes(o, element(f, object, n), f->size);
    }
}

/* --- Reading */
struct in { const uint8_t *at, *end; char *error; size_t error_size; };

static bool fail(const struct in *in, const char *field, const char *what)
{
    snprintf(in->error, in->error_size, "field %s: %s", field, what);
    return false;
}

/* The next field must be f; in->at is moved to its elements. */
static bool head_read(struct in *in, const struct state_field *f)
{
    size_t left = (size_t)(in->end - in->at), length = strlen(f->name), values = (size_t)stored_count(f) * stored_size(f);
    char text[160];
    if (left < 1 + length + 5 || in->at[0] != length || memcmp(in->at + 1, f->name, length))
        return fail(in, f->name, "it is missing, or others are in its place");
    const uint8_t *head = in->at + 1 + length;
    uint32_t count = (uint32_t)number(head + 1, 4);
    if (head[0] != stored_size(f) || count != stored_count(f)) {
        snprintf(text, sizeof text, "%" PRIu32 " elements of %u bytes; accepted: %u of %u", count, head[0], stored_count(f), stored_size(f));
        return fail(in, f->name, text);
    }
    if (left - (1 + length + 5) < values)
        return fail(in, f->name, "it is cut off");
    in->at = head + 5;
    return true;
}

static bool in_range(const struct in *in, const struct state_field *f, uint64_t v)
{
    uint64_t most = f->kind == STATE_IS_ALARM ? 1 : f->most ? f->most : UINT64_MAX;
    char text[120];
    if (v >= f->least && v <= most)
        return true;
    snprintf(text, sizeof text, "%" PRIu64 " is not accepted; accepted: %" PRIu64 " to %" PRIu64, v, f->least, most);
    return fail(in, f->name, text);
}

static bool field_check(struct in *in, const struct state_field *f)
{
    unsigned step = f->kind == STATE_IS_ALARM ? 8 * ALARM_WORDS : f->size;
    if (!head_read(in, f))
        return false;
    for (unsigned n = 0; n < elements(f); n++, in->at += step)
        if (!in_range(in, f, number(in->at, stored_size(f) < 8 ? stored_size(f) : 8)))
            return false;
    return true;
}

static bool is_in(const struct state_field *f, unsigned version) { return (f->since ? f->since : 1) <= version; }

bool state_check(const struct state_table *table, unsigned version, const uint8_t *bytes, size_t size, char *error, size_t error_size)
{
    struct in in = {bytes, bytes + size, error, error_size};
    if (!version || version > table->version) {
        snprintf(error, error_size, "its version is %u; accepted: 1 to %u", version, table->version);
        return false;
    }
    for (const struct state_field *f = table->fields; f < table->fields + table->field_count; f++)
        if (is_in(f, version) && !field_check(&in, f))
            return false;
    if (in.at == in.end)
        return true;
    snprintf(error, error_size, "%zu bytes follow its last field", (size_t)(in.end - in.at));
    return false;
}

void state_read(const struct state_table *table, unsigned version, const uint8_t *bytes, void *object)
{
    for (const struct state_field *f = table->fields; f < table->fields + table->field_count; f++) {
        if (!is_in(f, version))
            continue;
        bytes += 1 + strlen(f->name) + 5;
        for (unsigned n = 0; n < elements(f); n++)
            if (f->kind == STATE_IS_ALARM) {
                alarm_restore((struct alarm *)(void *)element(f, object, n), bytes[0], number(bytes + 8, 8), number(bytes + 16, 8));
                bytes += 8 * ALARM_WORDS;
            } else {
                memcpy(element(f, object, n), bytes, f->size);
                bytes += f->size;
            }
    }
}

/* --- For people */
void state_print(FILE *out, const struct state_table *table, const void *object)
{
    for (const struct state_field *f = table->fields; f < table->fields + table->field_count; f++) {
        fprintf(out, "    %s =", f->name);
        for (unsigned n = 0; n < elements(f); n++) {
            const struct alarm *a = (const struct alarm *)(const void *)element(f, object, n);
            if (f->kind != STATE_IS_ALARM)
                fprintf(out, " %" PRIx64, number(element(f, object, n), f->size));
            else if (a->armed)
                fprintf(out, " at %" PRIu64 " ns", a->deadline_ns);
            else
                fprintf(out, " off");
        }
        fputc('\n', out);
    }
}
