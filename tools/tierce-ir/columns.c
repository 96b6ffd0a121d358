/* Side by side: a column a stage, a row of lines a guest instruction.  The columns share the terminal's width by what they
 * need; what is longer than its column goes on in the next line. */
#include "tools/tierce-ir/work.h"
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { GAP = 3, INDENT = 2, NARROWEST = 8 };
struct column { enum stage stage; size_t need, width; char **cell; size_t lines, room; };
struct columns { struct column at[STAGES]; unsigned count; const struct work *w; FILE *out; int region; /* whose lines of no block are shown */ };

size_t print_width(const struct options *o)
{
    struct winsize size;
    const char *columns = getenv("COLUMNS");
    unsigned long n = columns ? strtoul(columns, NULL, 10) : 0;
    if (o->width)
        return o->width;
    if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col)
        return size.ws_col;
    return n >= 40 && n <= 10000 ? n : 100;
}

/* --- What a line says in its cell */
static char *cell_text(const struct work *w, enum stage s, const struct line *l)
{
    char text[400], bytes[32] = "";
    switch (s) {
    case IN_ASM:
        for (unsigned i = 0; i < l->size; i++)
            snprintf(bytes + 2 * i, 3, "%02x", w->blocks[l->block].bytes[l->offset + i]);
        snprintf(text, sizeof text, "%s%llx: %s  %s", l->cold ? "(cold) " : "", (unsigned long long)(w->blocks[l->block].pc + l->offset), bytes, l->text);
        break;
    case OUT_ASM: case LLVM_ASM:
        snprintf(text, sizeof text, l->note ? "%3x: %s ; %s" : "%3x: %s", l->offset, l->text, l->note);
        break;
    default:
        return checked(strdup(l->text));
    }
    return checked(strdup(text));
}

/* --- The widths */
static void find_needs(struct columns *c)
{
    for (unsigned k = 0; k < c->count; k++) {
        struct column *col = &c->at[k];
        const struct lines *all = &c->w->stage[col->stage];
        col->need = strlen(stage_names[col->stage]) + 1;
        for (size_t i = 0; i < all->count; i++) {
            char *text = cell_text(c->w, col->stage, &all->at[i]);
            size_t n = strlen(text);
            if (n > col->need && !(STAGE(col->stage) & LLVM_STAGES && all->at[i].cold))
                col->need = n;
            free(text);
        }
    }
}

/* Who needs less than an equal share gets what it needs; the others share the rest. */
static void share(struct columns *c, size_t width)
{
    unsigned open = c->count;
    size_t rest = width > GAP * (open - 1) ? width - GAP * (open - 1) : 0;
    for (bool settled = true; settled && open;) {
        settled = false;
        for (unsigned k = 0; k < c->count; k++)
            if (!c->at[k].width && c->at[k].need <= rest / open) {
                c->at[k].width = c->at[k].need;
                rest -= c->at[k].need;
                settled = true;
                if (!--open)
                    return;
            }
    }
    for (unsigned k = 0; k < c->count; k++)
        if (!c->at[k].width) {
            size_t width_of = rest / open--;
            c->at[k].width = width_of < NARROWEST ? NARROWEST : width_of;
            rest -= width_of;
        }
}

/* --- Cells */
static void cell_line(struct column *col, const char *text, size_t n, unsigned indent)
{
    if (col->lines == col->room)
        col->cell = checked(realloc(col->cell, (col->room = col->room * 2 + 16) * sizeof *col->cell));
    char *line = checked(malloc(n + indent + 1));
    memset(line, ' ', indent);
    memcpy(line + indent, text, n);
    line[n + indent] = 0;
    col->cell[col->lines++] = line;
}

/* At a blank, if there is one in the second half. */
static void cell_add(struct column *col, const char *text)
{
    unsigned indent = 0;
    while (strlen(text) + indent > col->width) {
        size_t n = col->width - indent, cut = n;
        while (cut > n / 2 && text[cut] != ' ')
            cut--;
        if (cut <= n / 2)
            cut = n;
        cell_line(col, text, cut, indent);
        text += cut + strspn(text + cut, " ");
        indent = INDENT;
    }
    cell_line(col, text, strlen(text), indent);
}

static void row_print(struct columns *c)
{
    size_t height = 0;
    for (unsigned k = 0; k < c->count; k++)
        height = c->at[k].lines > height ? c->at[k].lines : height;
    for (size_t i = 0; i < height; i++) {
        for (unsigned k = 0; k < c->count; k++) {
            const struct column *col = &c->at[k];
            const char *text = i < col->lines ? col->cell[i] : "";
            bool last = k + 1 == c->count;
            fprintf(c->out, "%-*s%s", last ? 0 : (int)col->width, text, last ? "\n" : " | ");
        }
    }
    for (unsigned k = 0; k < c->count; k++) {
        for (size_t i = 0; i < c->at[k].lines; i++)
            free(c->at[k].cell[i]);
        c->at[k].lines = 0;
    }
}

static void rule(struct columns *c, bool names)
{
    for (unsigned k = 0; k < c->count; k++)
        for (size_t i = 0, n = names ? strlen(stage_names[c->at[k].stage]) : 0; i < c->at[k].width + (k + 1 < c->count ? GAP : 0); i++)
            fputc(i < n ? stage_names[c->at[k].stage][i] : i == c->at[k].width + 1 ? (names ? '|' : '+') : names ? ' ' : '-', c->out);
    fputc('\n', c->out);
}

static bool belongs(const struct columns *c, const struct line *l, enum stage s, int block, int insn, bool cold)
{
    bool of_guest = s == IN_ASM; /* beside cold code the instruction is shown again */
    return (block >= 0 || l->region == c->region) && l->block == block && l->insn == insn && (l->cold == cold || of_guest);
}

static bool row_fill(struct columns *c, int block, int insn, bool cold)
{
    bool any = false;
    for (unsigned k = 0; k < c->count; k++) {
        const struct lines *all = &c->w->stage[c->at[k].stage];
        for (size_t i = 0; i < all->count; i++) {
            struct line l = all->at[i];
            if (!belongs(c, &l, c->at[k].stage, block, insn, cold))
                continue;
            any |= c->at[k].stage != IN_ASM || !cold;
            l.cold = cold;
            char *text = cell_text(c->w, c->at[k].stage, &l);
            cell_add(&c->at[k], text);
            free(text);
        }
    }
    return any;
}

static void row(struct columns *c, int block, int insn, bool cold)
{
    if (row_fill(c, block, insn, cold)) {
        row_print(c);
    } else {
        for (unsigned k = 0; k < c->count; k++)
            while (c->at[k].lines)
                free(c->at[k].cell[--c->at[k].lines]);
    }
}

void print_columns(const struct work *w, FILE *out)
{
    struct columns c = {.w = w, .out = out};
    for (unsigned s = 0; s < STAGES; s++)
        if (w->o.stages & STAGE(s))
            c.at[c.count++].stage = (enum stage)s;
    find_needs(&c);
    share(&c, print_width(&w->o));
    for (unsigned b = 0; b < w->block_count; b++) {
        fprintf(out, "; block %u at 0x%llx\n", b, (unsigned long long)w->blocks[b].pc);
        rule(&c, true);
        rule(&c, false);
        for (int i = -1; i < (int)w->blocks[b].insn_count; i++)
            row(&c, (int)b, i, false);
        for (int i = -1; i < (int)w->blocks[b].insn_count && !w->o.hot; i++)
            row(&c, (int)b, i, true);
        fputc('\n', out);
    }
    for (c.region = 0; c.region < (int)w->region_count; c.region++) { /* of its function, and of no guest instruction */
        if (!row_fill(&c, -1, -1, false))
            continue;
        fprintf(out, "; region %d at 0x%llx\n", c.region, (unsigned long long)w->blocks[w->regions[c.region].first].pc);
        row_print(&c);
        fputc('\n', out);
    }
    for (unsigned k = 0; k < c.count; k++)
        free(c.at[k].cell);
}
