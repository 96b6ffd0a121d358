/* The 8042 keyboard controller with a PS/2 keyboard and an IntelliMouse.  Offsets 0 (port 60h) and 4 (port 64h). */
#include "hw/hw.h"
#include <stdlib.h>
#include <string.h>

enum { OUT_FULL = 1, SYSTEM = 4, COMMAND = 8, UNLOCKED = 16, MOUSE_DATA = 32 };   /* status */
enum { IRQ1 = 1, IRQ12 = 2, SYSTEM_FLAG = 4, NO_KEYBOARD = 16, NO_MOUSE = 32, TRANSLATE = 64 }; /* command byte */
enum { QUEUE = 64, ACK = 0xfa, RESEND = 0xfe };

struct queue { uint8_t bytes[QUEUE]; unsigned at, count; };
struct keyboard { struct queue out; uint8_t command, set, leds, rate; bool scanning; };
struct mouse { struct queue out; uint8_t command, rate, resolution, history[3], id, buttons; bool enabled, remote, wrap, scale21; int dx, dy, dz; };
struct i8042 {
    struct device dev;
    struct irq_line irq1, irq12, reset_line, a20;
    struct keyboard kbd;
    struct mouse mouse;
    uint8_t mode, command, output_port, ram[32], data, own; bool full, from_mouse, has_own, own_is_mouse;
    bool released;          /* translation: f0 was seen, the next code is a release */
};

/* Set 2 to set 1, as the controller translates (index: set-2 code). */
static const uint8_t set2_to_set1[256] = {
    [0x00] = 0xff, [0x01] = 0x43, [0x02] = 0x41, [0x03] = 0x3f, [0x04] = 0x3d, [0x05] = 0x3b, [0x06] = 0x3c, [0x07] = 0x58,
    [0x08] = 0x64, [0x09] = 0x44, [0x0a] = 0x42, [0x0b] = 0x40, [0x0c] = 0x3e, [0x0d] = 0x0f, [0x0e] = 0x29, [0x0f] = 0x59,
    [0x10] = 0x65, [0x11] = 0x38, [0x12] = 0x2a, [0x13] = 0x70, [0x14] = 0x1d, [0x15] = 0x10, [0x16] = 0x02, [0x17] = 0x5a,
    [0x18] = 0x66, [0x19] = 0x71, [0x1a] = 0x2c, [0x1b] = 0x1f, [0x1c] = 0x1e, [0x1d] = 0x11, [0x1e] = 0x03, [0x1f] = 0x5b,
    [0x20] = 0x67, [0x21] = 0x2e, [0x22] = 0x2d, [0x23] = 0x20, [0x24] = 0x12, [0x25] = 0x05, [0x26] = 0x04, [0x27] = 0x5c,
    [0x28] = 0x68, [0x29] = 0x39, [0x2a] = 0x2f, [0x2b] = 0x21, [0x2c] = 0x14, [0x2d] = 0x13, [0x2e] = 0x06, [0x2f] = 0x5d,
    [0x30] = 0x69, [0x31] = 0x31, [0x32] = 0x30, [0x33] = 0x23, [0x34] = 0x22, [0x35] = 0x15, [0x36] = 0x07, [0x37] = 0x5e,
    [0x38] = 0x6a, [0x39] = 0x72, [0x3a] = 0x32, [0x3b] = 0x24, [0x3c] = 0x16, [0x3d] = 0x08, [0x3e] = 0x09, [0x3f] = 0x5f,
    [0x40] = 0x6b, [0x41] = 0x33, [0x42] = 0x25, [0x43] = 0x17, [0x44] = 0x18, [0x45] = 0x0b, [0x46] = 0x0a, [0x47] = 0x60,
    [0x48] = 0x6c, [0x49] = 0x34, [0x4a] = 0x35, [0x4b] = 0x26, [0x4c] = 0x27, [0x4d] = 0x19, [0x4e] = 0x0c, [0x4f] = 0x61,
    [0x50] = 0x6d, [0x51] = 0x73, [0x52] = 0x28, [0x53] = 0x74, [0x54] = 0x1a, [0x55] = 0x0d, [0x56] = 0x62, [0x57] = 0x6e,
    [0x58] = 0x3a, [0x59] = 0x36, [0x5a] = 0x1c, [0x5b] = 0x1b, [0x5c] = 0x75, [0x5d] = 0x2b, [0x5e] = 0x63, [0x5f] = 0x76,
    [0x60] = 0x55, [0x61] = 0x56, [0x62] = 0x77, [0x63] = 0x78, [0x64] = 0x79, [0x65] = 0x7a, [0x66] = 0x0e, [0x67] = 0x7b,
    [0x68] = 0x7c, [0x69] = 0x4f, [0x6a] = 0x7d, [0x6b] = 0x4b, [0x6c] = 0x47, [0x6d] = 0x7e, [0x6e] = 0x7f, [0x6f] = 0x6f,
    [0x70] = 0x52, [0x71] = 0x53, [0x72] = 0x50, [0x73] = 0x4c, [0x74] = 0x4d, [0x75] = 0x48, [0x76] = 0x01, [0x77] = 0x45,
    [0x78] = 0x57, [0x79] = 0x4e, [0x7a] = 0x51, [0x7b] = 0x4a, [0x7c] = 0x37, [0x7d] = 0x49, [0x7e] = 0x46, [0x7f] = 0x54,
    [0x83] = 0x41, [0x84] = 0x54,
};

static void push(struct queue *q, uint8_t byte)
{
    if (q->count < QUEUE)
        q->bytes[(q->at + q->count++) % QUEUE] = byte;
}
static uint8_t pop(struct queue *q)
{
    uint8_t byte = q->bytes[q->at];
    q->at = (q->at + 1) % QUEUE;
    q->count--;
    return byte;
}

static uint8_t translated(struct i8042 *k, uint8_t byte, bool *skip)
{
    static const uint8_t release = 0xf0;
    *skip = false;
    if (!(k->mode & TRANSLATE))
        return byte;
    if (byte == release) {
        k->released = true;
        *skip = true;
        return 0;
    }
    uint8_t bit = k->released ? 0x80 : 0, code = set2_to_set1[byte];
    k->released = false;
    return code ? code | bit : byte;
}

/* Moves the next byte to the output buffer: the controller's own first, then keyboard, then mouse. */
static void update(struct i8042 *k)
{
    bool skip;
    if (!k->full && k->has_own) {
        k->data = k->own;
        k->from_mouse = k->own_is_mouse;
        k->full = true;
        k->has_own = false;
    }
    while (!k->full && !(k->mode & NO_KEYBOARD) && k->kbd.out.count) {
        k->data = translated(k, pop(&k->kbd.out), &skip);
        k->from_mouse = false;
        k->full = !skip;
    }
    if (!k->full && !(k->mode & NO_MOUSE) && k->mouse.out.count) {
        k->data = pop(&k->mouse.out);
        k->from_mouse = k->full = true;
    }
    irq_set(&k->irq1, k->full && !k->from_mouse && k->mode & IRQ1);
    irq_set(&k->irq12, k->full && k->from_mouse && k->mode & IRQ12);
}

static void answer(struct i8042 *k, uint8_t byte, bool as_mouse)
{
    k->own = byte;
    k->has_own = true;
    k->own_is_mouse = as_mouse;
}

/* --- Keyboard */
static void keyboard_defaults(struct keyboard *kbd)
{
    kbd->set = 2;
    kbd->leds = 0;
    kbd->scanning = true;
}

static void keyboard_argument(struct keyboard *kbd, uint8_t v)
{
    uint8_t command = kbd->command;
    kbd->command = 0;
    push(&kbd->out, ACK);
    if (command == 0xed)
        kbd->leds = v & 7;
    else if (command == 0xf0 && v == 0)
        push(&kbd->out, kbd->set);
    else if (command == 0xf0 && v <= 3)
        kbd->set = v;
    else if (command == 0xf3)
        kbd->rate = v;
}

static void keyboard_command(struct keyboard *kbd, uint8_t v)
{
    if (kbd->command && v < 0xed) {
        keyboard_argument(kbd, v);
        return;
    }
    kbd->command = 0;
    switch (v) {
    case 0xed: case 0xf0: case 0xf3: kbd->command = v; break;
    case 0xee: push(&kbd->out, 0xee); return;
    case 0xf2:
        push(&kbd->out, ACK);
        push(&kbd->out, 0xab);
        push(&kbd->out, 0x83);
        return;
    case 0xf4: kbd->scanning = true; break;
    case 0xf5: keyboard_defaults(kbd); kbd->scanning = false; break;
    case 0xf6: keyboard_defaults(kbd); break;
    case 0xf7: case 0xf8: case 0xf9: case 0xfa: break;
    case 0xff:
        kbd->out.count = 0;
        keyboard_defaults(kbd);
        push(&kbd->out, ACK);
        push(&kbd->out, 0xaa);
        return;
    default: push(&kbd->out, RESEND); return;
    }
    push(&kbd->out, ACK);
}

/* The set-2 code of a set-1 code, found in the controller's own table. */
static uint8_t set2_of(uint8_t set1)
{
    for (unsigned i = 0x84; i > 0; i--) /* downwards: F7 is 83, though the table also has 02 for it */
        if (set2_to_set1[i] == set1)
            return (uint8_t)i;
    return 0;
}

void i8042_key(struct device *dev, unsigned code)
{
    struct i8042 *k = (struct i8042 *)dev;
    struct keyboard *kbd = &k->kbd;
    uint8_t set1 = code & 0x7f, set2 = set2_of(set1);
    if (!kbd->scanning || !set2 || kbd->out.count + 3 > QUEUE)
        return;
    if (code >> 8 == 0xe0)
        push(&kbd->out, 0xe0);
    if (kbd->set == 1) {
        push(&kbd->out, code & 0xff);
    } else {
        if (code & 0x80)
            push(&kbd->out, 0xf0);
        push(&kbd->out, set2);
    }
    update(k);
}

/* --- Mouse */
static void mouse_defaults(struct mouse *m)
{
    m->rate = 100;
    m->resolution = 2;
    m->enabled = m->remote = m->scale21 = m->wrap = false;
    m->dx = m->dy = m->dz = 0;
}

static int limit(int *v, int bound)
{
    int part = *v > bound ? bound : *v < -bound ? -bound : *v;
    *v -= part;
    return part;
}

static void mouse_packet(struct mouse *m)
{
    int dx = limit(&m->dx, 255), dy = limit(&m->dy, 255);
    push(&m->out, (uint8_t)(8 | (m->buttons & 7) | (dx < 0) << 4 | (dy < 0) << 5));
    push(&m->out, (uint8_t)dx);
    push(&m->out, (uint8_t)dy);
    if (m->id == 3)
        push(&m->out, (uint8_t)limit(&m->dz, 7));
    m->dz = 0;
}

static void mouse_rate(struct mouse *m, uint8_t v)
{
    m->rate = v;
    memmove(m->history, m->history + 1, 2);
    m->history[2] = v;
    if (m->history[0] == 200 && m->history[1] == 100 && v == 80)
        m->id = 3; /* the IntelliMouse knock */
}

static void mouse_command(struct mouse *m, uint8_t v)
{
    if (m->wrap && v != 0xec && v != 0xff) {
        push(&m->out, v);
        return;
    }
    push(&m->out, ACK);
    if (m->command) {
        if (m->command == 0xf3)
            mouse_rate(m, v);
        else
            m->resolution = v & 3;
        m->command = 0;
        return;
    }
    switch (v) {
    case 0xe6: m->scale21 = false; break;
    case 0xe7: m->scale21 = true; break;
    case 0xe8: case 0xf3: m->command = v; break;
    case 0xe9:
        push(&m->out, (uint8_t)(m->remote << 6 | m->enabled << 5 | m->scale21 << 4 | (m->buttons & 7)));
        push(&m->out, m->resolution);
        push(&m->out, m->rate);
        break;
    case 0xea: m->remote = false; break;
    case 0xeb: mouse_packet(m); break;
    case 0xec: m->wrap = false; break;
    case 0xee: m->wrap = true; break;
    case 0xf0: m->remote = true; break;
    case 0xf2: push(&m->out, m->id); break;
    case 0xf4: m->enabled = true; break;
    case 0xf5: m->enabled = false; break;
    case 0xf6: mouse_defaults(m); break;
    case 0xff:
        mouse_defaults(m);
        m->id = 0;
        push(&m->out, 0xaa);
        push(&m->out, 0);
        break;
    default: m->out.bytes[(m->out.at + m->out.count - 1) % QUEUE] = RESEND; break;
    }
}

void i8042_mouse(struct device *dev, int dx, int dy, int dz, unsigned buttons)
{
    struct i8042 *k = (struct i8042 *)dev;
    struct mouse *m = &k->mouse;
    m->dx += dx;
    m->dy += dy;
    m->dz += dz;
    m->buttons = (uint8_t)buttons;
    if (m->enabled && !m->remote && m->out.count + 4 <= QUEUE)
        mouse_packet(m);
    update(k);
}

/* --- Controller */
static void output_port(struct i8042 *k, uint8_t v)
{
    k->output_port = v;
    irq_set(&k->a20, v >> 1 & 1);
    if (!(v & 1))
        irq_set(&k->reset_line, 1);
}

static void controller_command(struct i8042 *k, uint8_t v)
{
    k->command = 0;
    if (v >= 0x20 && v < 0x40)
        answer(k, v == 0x20 ? k->mode : k->ram[v - 0x20], false);
    else if (v >= 0x60 && v < 0x80)
        k->command = v;
    else if (v >= 0xf0) {
        if (!(v & 1))
            irq_set(&k->reset_line, 1);
    } else
        switch (v) {
        case 0xa7: k->mode |= NO_MOUSE; break;
        case 0xa8: k->mode &= (uint8_t)~NO_MOUSE; break;
        case 0xa9: case 0xab: answer(k, 0, false); break;
        case 0xaa:
            k->mode |= SYSTEM_FLAG;
            answer(k, 0x55, false);
            break;
        case 0xad: k->mode |= NO_KEYBOARD; break;
        case 0xae: k->mode &= (uint8_t)~NO_KEYBOARD; break;
        case 0xc0: answer(k, 0x80, false); break;
        case 0xd0: answer(k, k->output_port, false); break;
        case 0xd1: case 0xd2: case 0xd3: case 0xd4: k->command = v; break;
        case 0xdd: output_port(k, k->output_port & (uint8_t)~2); break;
        case 0xdf: output_port(k, k->output_port | 2); break;
        default: break;
        }
}

static void data_write(struct i8042 *k, uint8_t v)
{
    uint8_t command = k->command;
    k->command = 0;
    if (command == 0x60)
        k->mode = v;
    else if (command > 0x60 && command < 0x80)
        k->ram[command - 0x60] = v;
    else
        switch (command) {
        case 0xd1: output_port(k, v); break;
        case 0xd2: answer(k, v, false); break;
        case 0xd3: answer(k, v, true); break;
        case 0xd4: mouse_command(&k->mouse, v); break;
        default:
            k->mode &= (uint8_t)~NO_KEYBOARD;
            keyboard_command(&k->kbd, v);
        }
}

static uint32_t i8042_read(struct device *dev, uint32_t offset, unsigned size)
{
    struct i8042 *k = (struct i8042 *)dev;
    (void)size;
    if (offset == 4)
        return (k->full ? OUT_FULL : 0) | (k->full && k->from_mouse ? MOUSE_DATA : 0) | (k->mode & SYSTEM_FLAG ? SYSTEM : 0) |
               UNLOCKED | (k->command ? COMMAND : 0);
    if (offset != 0)
        return 0xff;
    uint8_t v = k->data;
    k->full = false;
    irq_set(&k->irq1, 0);
    irq_set(&k->irq12, 0);
    update(k);
    return v;
}

static void i8042_write(struct device *dev, uint32_t offset, unsigned size, uint32_t value)
{
    struct i8042 *k = (struct i8042 *)dev;
    (void)size;
    if (offset == 4)
        controller_command(k, (uint8_t)value);
    else if (offset == 0)
        data_write(k, (uint8_t)value);
    update(k);
}

static void i8042_reset(struct device *dev)
{
    struct i8042 *k = (struct i8042 *)dev;
    memset(&k->kbd, 0, sizeof k->kbd);
    memset(&k->mouse, 0, sizeof k->mouse);
    keyboard_defaults(&k->kbd);
    mouse_defaults(&k->mouse);
    k->mode = IRQ1 | IRQ12 | SYSTEM_FLAG | TRANSLATE;
    k->command = 0;
    k->output_port = 0xcf;
    k->full = k->has_own = k->released = false;
    update(k);
}

static void i8042_free(struct device *dev) { free(dev); }
static const struct state_field i8042_fields[] = {
    STATE_ARRAY(struct i8042, kbd.out.bytes), STATE(struct i8042, kbd.out.at, .most = QUEUE - 1), STATE(struct i8042, kbd.out.count, .most = QUEUE),
    STATE(struct i8042, kbd.command), STATE(struct i8042, kbd.set), STATE(struct i8042, kbd.leds), STATE(struct i8042, kbd.rate), STATE(struct i8042, kbd.scanning),
    STATE_ARRAY(struct i8042, mouse.out.bytes), STATE(struct i8042, mouse.out.at, .most = QUEUE - 1), STATE(struct i8042, mouse.out.count, .most = QUEUE),
    STATE(struct i8042, mouse.command), STATE(struct i8042, mouse.rate), STATE(struct i8042, mouse.resolution), STATE_ARRAY(struct i8042, mouse.history),
    STATE(struct i8042, mouse.id), STATE(struct i8042, mouse.buttons), STATE(struct i8042, mouse.enabled), STATE(struct i8042, mouse.remote), STATE(struct i8042, mouse.wrap),
    STATE(struct i8042, mouse.scale21), STATE(struct i8042, mouse.dx), STATE(struct i8042, mouse.dy), STATE(struct i8042, mouse.dz),
    STATE(struct i8042, mode), STATE(struct i8042, command), STATE(struct i8042, output_port), STATE_ARRAY(struct i8042, ram), STATE(struct i8042, data),
    STATE(struct i8042, own), STATE(struct i8042, full), STATE(struct i8042, from_mouse), STATE(struct i8042, has_own), STATE(struct i8042, own_is_mouse), STATE(struct i8042, released),
};
static const struct state_table i8042_state = STATE_TABLE(1, i8042_fields);
static const struct device_ops i8042_ops = {"i8042", i8042_read, i8042_write, i8042_reset, i8042_free, .state = &i8042_state};

struct device *i8042_new(struct irq_line irq1, struct irq_line irq12, struct irq_line reset_line, struct irq_line a20)
{
    struct i8042 *k = calloc(1, sizeof *k);
    if (!k)
        return NULL;
    k->dev.ops = &i8042_ops;
    k->irq1 = irq1;
    k->irq12 = irq12;
    k->reset_line = reset_line;
    k->a20 = a20;
    i8042_reset(&k->dev);
    return &k->dev;
}
