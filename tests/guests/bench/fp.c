/* Scalar floating point, as SSE2 does it. */
#include "bench.h"
#include <math.h>

static uint64_t bits(double d)
{
    uint64_t u;
    memcpy(&u, &d, 8);
    return u;
}

static double root(double x)
{
    __asm__("sqrtsd %0, %0" : "+x"(x));
    return x;
}

uint64_t fp_nbody(void)
{
    static double x[5][3], v[5][3];
    static const double mass[5] = {39.47, 0.037, 0.011, 0.0017, 0.002};
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 3; k++) {
            x[i][k] = i * 4.8 + k * 0.7 - i * k * 1.3;
            v[i][k] = 0.6 - 0.2 * i + 0.1 * k;
        }
    for (int step = 0; step < 6000; step++) {
        for (int i = 0; i < 5; i++)
            for (int j = i + 1; j < 5; j++) {
                double dx = x[i][0] - x[j][0], dy = x[i][1] - x[j][1], dz = x[i][2] - x[j][2];
                double square = dx * dx + dy * dy + dz * dz, force = 0.001 / (square * root(square));
                v[i][0] -= dx * mass[j] * force, v[i][1] -= dy * mass[j] * force, v[i][2] -= dz * mass[j] * force;
                v[j][0] += dx * mass[i] * force, v[j][1] += dy * mass[i] * force, v[j][2] += dz * mass[i] * force;
            }
        for (int i = 0; i < 5; i++)
            for (int k = 0; k < 3; k++)
                x[i][k] += 0.001 * v[i][k];
    }
    return bits(x[0][0] + x[3][1]);
}

static double cell(int i, int j) { return 1.0 / ((i + j) * (i + j + 1) / 2 + i + 1); }
uint64_t fp_spectral(void)
{
    enum { N = 90 };
    double u[N], v[N], t[N];
    for (int i = 0; i < N; i++)
        u[i] = 1;
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < N; i++) {
            t[i] = 0;
            for (int j = 0; j < N; j++)
                t[i] += cell(i, j) * u[j];
        }
        for (int i = 0; i < N; i++) {
            v[i] = 0;
            for (int j = 0; j < N; j++)
                v[i] += cell(j, i) * t[j];
        }
        for (int i = 0; i < N; i++)
            u[i] = v[i] / 1.5;
    }
    return bits(u[0] + v[N - 1]);
}

uint64_t fp_mandelbrot(void)
{
    uint64_t sum = 0;
    for (int py = 0; py < 80; py++)
        for (int px = 0; px < 80; px++) {
            double cx = px / 32.0 - 2, cy = py / 32.0 - 1.25, x = 0, y = 0;
            int n = 0;
            for (; n < 200 && x * x + y * y <= 4; n++) {
                double t = x * x - y * y + cx;
                y = 2 * x * y + cy;
                x = t;
            }
            sum = sum * 31 + (uint64_t)n;
        }
    return sum;
}

uint64_t fp_horner(void)
{
    float x = 0.5f, sum = 0;
    for (int i = 0; i < 100000; i++) {
        float p = 0.1f;
        p = p * x + 0.3f, p = p * x - 0.7f, p = p * x + 0.9f, p = p * x - 0.2f, p = p * x + 0.4f;
        sum += p;
        x = p - (float)(int)p;
    }
    return bits(sum);
}

uint64_t fp_convert(void)
{
    double sum = 0;
    int64_t n = 0;
    for (int i = 0; i < 300000; i++) {
        double d = (double)i * 1.37;
        float f = (float)d;
        n += (int64_t)d ^ (int)f;
        sum += (double)f - d;
        if (f > sum)
            sum += 0.5;
    }
    return bits(sum) ^ (uint64_t)n;
}

uint64_t fp_integrate(void)
{
    double area = 0;
    for (int i = 1; i <= 200000; i++) {
        double x = (i - 0.5) / 200000;
        area += 4 / (1 + x * x);
    }
    return bits(area);
}
