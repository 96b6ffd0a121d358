/* Minimum, median, maximum and geometric mean. */
#include "tools/tierce-bench/stats.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

struct figures figures_of(const double *values, size_t count)
{
    struct figures f = {NAN, NAN, NAN, 0};
    double *v = malloc((count ? count : 1) * sizeof *v);
    if (!v)
        return f;
    for (size_t i = 0; i < count; i++)
        if (isfinite(values[i]))
            v[f.count++] = values[i];
    qsort(v, f.count, sizeof *v, ascending);
    if (f.count) {
        size_t half = f.count / 2;
        f.min = v[0];
        f.median = f.count & 1 ? v[half] : (v[half - 1] + v[half]) / 2;
        f.max = v[f.count - 1];
    }
    free(v);
    return f;
}

double median_of(const double *values, size_t count) { return figures_of(values, count).median; }

double geomean_of(const double *values, size_t count)
{
    double sum = 0;
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        if (isfinite(values[i]) && values[i] > 0) {
            sum += log(values[i]);
            n++;
        }
    return n ? exp(sum / (double)n) : NAN;
}
