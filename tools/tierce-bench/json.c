/* A recursive-descent reader of JSON (RFC 8259), nested at most MAX_DEPTH deep. */
#include "tools/tierce-bench/json.h"
#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 64 };
struct reader { const char *at; };

static void skip(struct reader *r)
{
    while (*r->at == ' ' || *r->at == '\n' || *r->at == '\t' || *r->at == '\r')
        r->at++;
}

static bool accept(struct reader *r, const char *word)
{
    size_t n = strlen(word);
    if (strncmp(r->at, word, n))
        return false;
    r->at += n;
    return true;
}

static bool escape(struct reader *r, char *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *found = *r->at ? strchr(from, *r->at) : NULL;
    if (found) {
        *out = to[found - from];
        r->at++;
        return true;
    }
    unsigned code = 0;
    if (!accept(r, "u"))
        return false;
    for (int i = 0; i < 4; i++, r->at++) {
        if (!isxdigit((unsigned char)*r->at))
            return false;
        code = code * 16 + (unsigned)(isdigit((unsigned char)*r->at) ? *r->at - '0' : tolower(*r->at) - 'a' + 10);
    }
    *out = code && code < 128 ? (char)code : '?';
    return true;
}

/* The opening quote was read. */
static char *string(struct reader *r)
{
    char *text = malloc(strlen(r->at) + 1), *to = text;
    while (text && *r->at != '"') {
        bool good = (unsigned char)*r->at >= 32;
        if (good && *r->at == '\\') {
            r->at++;
            good = escape(r, to++);
        } else if (good) {
            *to++ = *r->at++;
        }
        if (!good) {
            free(text);
            return NULL;
        }
    }
    if (!text)
        return NULL;
    r->at++;
    *to = 0;
    char *exact = realloc(text, (size_t)(to - text) + 1);
    return exact ? exact : text;
}

static bool value(struct reader *r, struct json *j, int depth);

static bool members(struct reader *r, struct json *j, int depth)
{
    struct json **to = &j->child;
    const char *close = j->type == JSON_OBJECT ? "}" : "]";
    skip(r);
    if (accept(r, close))
        return true;
    do {
        struct json *m = *to = calloc(1, sizeof *m);
        if (!m)
            return false;
        to = &m->next;
        skip(r);
        if (j->type == JSON_OBJECT) {
            if (!accept(r, "\"") || !(m->key = string(r)))
                return false;
            skip(r);
            if (!accept(r, ":"))
                return false;
        }
        if (!value(r, m, depth + 1))
            return false;
    } while (accept(r, ","));
    return accept(r, close);
}

static bool number(struct reader *r, struct json *j)
{
    char *end;
    if (*r->at != '-' && !isdigit((unsigned char)*r->at))
        return false;
    j->type = JSON_NUMBER;
    j->number = strtod(r->at, &end);
    r->at = end;
    return true;
}

static bool any(struct reader *r, struct json *j, int depth)
{
    if (accept(r, "null"))
        return true;
    if (accept(r, "true") || accept(r, "false")) {
        j->type = JSON_BOOL;
        j->number = r->at[-2] == 'u';
        return true;
    }
    if (accept(r, "\"")) {
        j->type = JSON_STRING;
        return (j->text = string(r));
    }
    if (accept(r, "{")) {
        j->type = JSON_OBJECT;
        return members(r, j, depth);
    }
    if (accept(r, "[")) {
        j->type = JSON_ARRAY;
        return members(r, j, depth);
    }
    return number(r, j);
}

static bool value(struct reader *r, struct json *j, int depth)
{
    if (depth > MAX_DEPTH)
        return false;
    skip(r);
    if (!any(r, j, depth))
        return false;
    skip(r);
    return true;
}

struct json *json_parse(const char *text, size_t *at)
{
    struct reader r = {text};
    struct json *j = calloc(1, sizeof *j);
    bool good = j && value(&r, j, 0) && !*r.at;
    *at = (size_t)(r.at - text);
    if (good)
        return j;
    json_free(j);
    return NULL;
}

void json_free(struct json *j)
{
    while (j) {
        struct json *next = j->next;
        json_free(j->child);
        free(j->key);
        free(j->text);
        free(j);
        j = next;
    }
}

const struct json *json_member(const struct json *j, const char *key)
{
    for (const struct json *m = j && j->type == JSON_OBJECT ? j->child : NULL; m; m = m->next)
        if (!strcmp(m->key, key))
            return m;
    return NULL;
}
