/* Figures of samples.  NaN stands for `nothing was measured` and is passed over. */
#pragma once
#include <stddef.h>

struct figures { double min, median, max; size_t count; };

/* min, median and max of `count` values; NaN where none is a number. */
struct figures figures_of(const double *values, size_t count);
double median_of(const double *values, size_t count);
double geomean_of(const double *values, size_t count);
