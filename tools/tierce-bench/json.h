/* Reads JSON into a tree.  Just what --compare needs: no streaming, \u beyond ASCII becomes `?`. */
#pragma once
#include <stddef.h>

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };
struct json {
    enum json_type type;
    char *key;            /* in an object, else NULL */
    char *text;           /* of a string */
    double number;        /* of a number; 1 or 0 of a bool */
    struct json *child, *next;
};

/* NULL where `text` is not one JSON value; `*at` is then where it went wrong. */
struct json *json_parse(const char *text, size_t *at);
void json_free(struct json *j);
/* The member of an object; NULL where there is none, or where j is NULL or no object. */
const struct json *json_member(const struct json *j, const char *key);
