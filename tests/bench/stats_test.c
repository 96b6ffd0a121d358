/* The figures of tierce-bench on samples whose figures are known, and its reader of JSON. */
#include "tools/tierce-bench/json.h"
#include "tools/tierce-bench/stats.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static unsigned passed, failed;
static void check(int good, const char *what)
{
    good ? passed++ : failed++;
    if (!good)
        printf("wrong: %s\n", what);
}
static int near(double a, double b) { return fabs(a - b) <= 1e-12 * fabs(b); }
#define CHECK(x) check(x, #x)

static void test_figures(void)
{
    const double odd[] = {5, 1, 3}, even[] = {4, 1, 3, 2}, holes[] = {NAN, 7, INFINITY, 9, NAN}, none[] = {NAN};
    struct figures f = figures_of(odd, 3);
    CHECK(f.min == 1 && f.median == 3 && f.max == 5 && f.count == 3);
    CHECK(odd[0] == 5 && odd[1] == 1); /* the samples stay in their order */
    f = figures_of(even, 4);
    CHECK(f.min == 1 && f.median == 2.5 && f.max == 4);
    f = figures_of(holes, 5);
    CHECK(f.min == 7 && f.median == 8 && f.max == 9 && f.count == 2);
    f = figures_of(none, 1);
    CHECK(f.count == 0 && isnan(f.min) && isnan(f.median) && isnan(f.max));
    CHECK(isnan(median_of(none, 0)));
    CHECK(median_of(odd, 1) == 5);
}

static void test_geomean(void)
{
    const double v[] = {1, 2, 4}, tiny[] = {1e-200, 1e200, 1e200, 1e-200}, holes[] = {NAN, 3, 0, 12, INFINITY, -5};
    CHECK(near(geomean_of(v, 3), 2));
    CHECK(near(geomean_of(tiny, 4), 1)); /* no overflow on the way */
    CHECK(near(geomean_of(holes, 6), 6));
    CHECK(isnan(geomean_of(v, 0)));
    CHECK(near(geomean_of(v + 1, 1), 2));
}

static void test_json(void)
{
    size_t at;
    struct json *j = json_parse(" {\"a\":[1,-2.5e3,true,false,null],\"b\":{\"c\":\"x\\n\\u0041\\\"\"}} ", &at);
    const struct json *a = json_member(j, "a"), *c = json_member(json_member(j, "b"), "c");
    CHECK(j && a && a->type == JSON_ARRAY && a->child->number == 1 && a->child->next->number == -2500);
    CHECK(a && a->child->next->next->type == JSON_BOOL && a->child->next->next->number == 1);
    CHECK(a && a->child->next->next->next->number == 0 && a->child->next->next->next->next->type == JSON_NULL);
    CHECK(c && c->type == JSON_STRING && !strcmp(c->text, "x\nA\""));
    CHECK(!json_member(j, "c") && !json_member(NULL, "a") && !json_member(a, "a"));
    json_free(j);
}

static void test_bad_json(void)
{
    static const char *const bad[] = {"", "{", "[1,", "[1 2]", "{\"a\"}", "{\"a\":}", "{a:1}", "\"x", "\"\\q\"", "\"\\u12\"", "tru", "1 2", "nan",
                                      "\"\\", "{\"a\":1,}", "\"a\nb\""};
    size_t at;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct json *j = json_parse(bad[i], &at);
        check(!j && at <= strlen(bad[i]), bad[i]);
        json_free(j);
    }
    char deep[1001];
    memset(deep, '[', 1000);
    deep[1000] = 0;
    CHECK(!json_parse(deep, &at));
}

int main(void)
{
    test_figures();
    test_geomean();
    test_json();
    test_bad_json();
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
