/* How far the functions of a C file are from the C library's in double precision, over all floats.
 *
 * test_c_functions.py appends it to the functions, with MEAN and DEVIATION of Laplace's, and a line
 * ALL(name, size) for each. */
#include <float.h>
#include <stdint.h>

#define ROOT_HALF 0.70710678118654752440

static double exact_identity(double x) { return x; }
static double exact_relu(double x) { return x > 0 ? x : 0; }
static double exact_sqrelu(double x) { return x > 0 ? x * x : 0; }
static double exact_elu(double x) { return x > 0 ? x : expm1(x); }
static double exact_sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double exact_silu(double x) { return x / (1 + exp(-x)); }
static double exact_softplus(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }
static double exact_tanh(double x) { return tanh(x); }
static double exact_erf(double x) { return erf(x); }
static double exact_gelu(double x) { return x * 0.5 * erfc(-x * ROOT_HALF); }
static double exact_laplace(double x) {
    return 0.5 * erfc(-(x - MEAN) / DEVIATION * ROOT_HALF);
}

static double of_result(float x, double exact) { (void)x; return fabs(exact); }
static double of_x(float x, double exact) { (void)exact; return fabs(x); }
static double of_half(float x, double exact) { (void)x; (void)exact; return 0.5; }

/* Units in the last place of what size() says; small: below which anything small will do. */
static double units_off(void (*function)(float *, int), double (*exact)(double),
                        double (*size)(float, double), double small) {
    enum { BLOCK = 4096 };
    float x[BLOCK], y[BLOCK];
    double worst = 0;
    for (uint64_t start = 0; start < (uint64_t)1 << 32; start += BLOCK) {
        for (int i = 0; i < BLOCK; i++) {
            uint32_t bits = (uint32_t)start + (uint32_t)i;
            memcpy(&x[i], &bits, sizeof bits);
            if (!(fabsf(x[i]) <= FLT_MAX)) x[i] = 0;
            y[i] = x[i];
        }
        function(y, BLOCK);
        for (int i = 0; i < BLOCK; i++) {
            double wanted = exact(x[i]), unit;
            float of;
            if (y[i] == (float)wanted || (fabs(wanted) < small && fabsf(y[i]) < small)) continue;
            of = (float)size(x[i], wanted);
            if (of < FLT_MIN) of = FLT_MIN;
            unit = (double)nextafterf(of, INFINITY) - of;
            /* also what is no number is off */
            if (!(fabs(y[i] - wanted) <= worst * unit)) worst = fabs(y[i] - wanted) / unit;
            if (worst != worst) return worst;
        }
    }
    return worst;
}

#define ALL(name, size) \
    double all_##name(double small) { return units_off(c_##name, exact_##name, size, small); }
