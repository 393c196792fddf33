/* == lanes == */
/* Several numbers side by side, as many as the machine computes at once; one in plain C. */
#if defined(__GNUC__) && defined(__AVX__)
#define LANES 8
#elif defined(__GNUC__) && (defined(__SSE2__) || defined(__aarch64__))
#define LANES 4
#elif defined(__GNUC__) && defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE >= 2
#define LANES 4
#define HELIUM
#include <arm_mve.h>
#else
#define LANES 1
#endif

/* Compilers do not use the instruction of these that loads several numbers at once. */
#if LANES == 1 && defined(__GNUC__) && defined(__ARM_FEATURE_FMA) && __ARM_ARCH_PROFILE == 'M'
#define CORTEX_M_FPU
#endif

#if defined(__SOFTFP__) || (defined(__arm__) && !defined(__ARM_FP))
#define UNROLL /* where floats are computed in software, loops cost nothing */
#define UNROLL_SOME
#elif defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#define UNROLL_SOME _Pragma("clang loop unroll_count(4)")
#elif defined(__GNUC__) && __GNUC__ >= 8
#define UNROLL _Pragma("GCC unroll 16")
#define UNROLL_SOME _Pragma("GCC unroll 4")
#else
#define UNROLL
#define UNROLL_SOME
#endif

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline, unused))
#define RESTRICT __restrict
#else
#define INLINE static inline
#define RESTRICT
#endif

#if LANES > 1
typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef unsigned bits __attribute__((vector_size(4 * LANES)));
typedef int mask __attribute__((vector_size(4 * LANES)));
typedef float stored __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
INLINE lanes load(const float *p) { return *(const stored *)p; }
INLINE void store(float *p, lanes v) { *(stored *)p = v; }
INLINE lanes all(float v) { const lanes none = {0}; return none + v; }
INLINE float total(lanes v) {
    float sum = 0;
    UNROLL for (int i = 0; i < LANES; i++) sum += v[i];
    return sum;
}
#ifdef HELIUM
/* gcc takes these apart, number by number. */
INLINE lanes at_most(lanes x, float l) { return vpselq_f32(all(l), x, vcmpgtq_n_f32(x, l)); }
INLINE lanes at_least(lanes x, float l) { return vpselq_f32(all(l), x, vcmpltq_n_f32(x, l)); }
INLINE lanes add_times(lanes sum, lanes a, float b) { return vfmaq_n_f32(sum, a, b); }
#else
INLINE lanes choose(mask m, lanes a, lanes b) { return (lanes)(((mask)a & m) | ((mask)b & ~m)); }
INLINE lanes at_most(lanes x, float limit) { return choose(x > all(limit), all(limit), x); }
INLINE lanes at_least(lanes x, float limit) { return choose(x < all(limit), all(limit), x); }
INLINE lanes add_times(lanes sum, lanes a, float b) { return sum + a * b; }
#endif
INLINE bits bits_of(lanes x) { return (bits)x; }
INLINE lanes of_bits(bits b) { return (lanes)b; }
INLINE lanes magnitude(lanes x) { return (lanes)((bits)x & 0x7fffffffu); }
INLINE lanes gather(const float *x, const unsigned short *index) {
    lanes v = {0};
    UNROLL for (int i = 0; i < LANES; i++) v[i] = x[index[i]];
    return v;
}
INLINE void add_to(float *y, const unsigned short *index, lanes v) {
    UNROLL for (int i = 0; i < LANES; i++) y[index[i]] += v[i];
}
#else
typedef float lanes;
typedef unsigned bits;
INLINE lanes load(const float *p) { return *p; }
INLINE void store(float *p, lanes v) { *p = v; }
INLINE lanes all(float v) { return v; }
INLINE float total(lanes v) { return v; }
#ifdef CORTEX_M_FPU
#define WHOLE(x) __asm__("" : "+t"(x)) /* one path: gcc makes one for each case otherwise */
#else
#define WHOLE(x)
#endif
INLINE lanes at_most(lanes x, float limit) {
    x = x > limit ? limit : x;
    WHOLE(x);
    return x;
}
INLINE lanes at_least(lanes x, float limit) {
    x = x < limit ? limit : x;
    WHOLE(x);
    return x;
}
INLINE lanes add_times(lanes sum, lanes a, float b) { return sum + a * b; }
INLINE bits bits_of(lanes x) { bits b; memcpy(&b, &x, sizeof b); return b; }
INLINE lanes of_bits(bits b) { lanes x; memcpy(&x, &b, sizeof x); return x; }
INLINE lanes magnitude(lanes x) { return fabsf(x); }
INLINE lanes gather(const float *x, const unsigned short *index) { return x[*index]; }
INLINE void add_to(float *y, const unsigned short *index, lanes v) { y[*index] += v; }
#endif

/* == libm: lanes == */
/* The C library's functions, where they are asked for, one by one. */
#ifdef S4EDGE_LIBM
#if LANES > 1
#define EACH(name, value) INLINE lanes name(lanes v) { UNROLL for (int i = 0; i < LANES; i++) { const float x = v[i]; v[i] = value; } return v; }
#else
#define EACH(name, value) INLINE lanes name(lanes x) { return value; }
#endif
#endif

/* == exp: libm == */
/* e^x for x from -87.3 to 88.3 (the nearest of these otherwise), and e^x - 1: x = n log 2 + r,
 * e^x - 1 = 2^n (e^r - 1) + (2^n - 1). 2^n is made in the exponent's bits. */
#ifdef S4EDGE_LIBM
EACH(exp_of, expf(x))
EACH(expm1_of, expm1f(x))
#else
INLINE lanes split_exp(lanes x, lanes *two_n) {
    x = at_most(at_least(x, -87.3f), 88.3f);
    const lanes t = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: what is added rounds x / log 2 */
    const lanes n = t - 12582912.0f;
    const lanes r = x - n * 0.693359375f + n * 2.12194440e-4f;
    *two_n = of_bits((bits_of(t) << 23) + bits_of(all(1.0f)));
    return r + r * r * (0.499999970f + r * (0.166665420f + r * (0.0416672044f
        + r * (0.00836669188f + r * 0.00138824864f))));
}
INLINE lanes exp_of(lanes x) {
    lanes two_n;
    const lanes e = split_exp(x, &two_n);
    return two_n + two_n * e;
}
INLINE lanes expm1_of(lanes x) {
    lanes two_n;
    const lanes e = split_exp(x, &two_n);
    return two_n * e + (two_n - 1.0f);
}
#endif

/* == erf: libm == */
/* erf of |x|, x P(x^2) / Q(x^2), fitted for the least largest relative error up to 3.92; past that
 * it is 1. And erf of x, with its sign. */
#ifdef S4EDGE_LIBM
EACH(erf_of, erff(x))
INLINE lanes erf_of_size(lanes x) { return erf_of(magnitude(x)); }
#else
INLINE lanes erf_of_size(lanes x) {
    x = at_most(magnitude(x), 4.2f);
    const lanes s = x * x;
    const lanes p = 1.12837911f + s * (0.190404817f + s * (0.0527484082f + s * (0.00376551505f
        + s * (2.84875161e-4f + s * 2.05003312e-6f))));
    const lanes q = 1.0f + s * (0.502074599f + s * (0.114108339f + s * (0.0149690229f
        + s * (0.00116250059f + s * 3.80907550e-5f))));
    return at_most(x * p / q, 1.0f);
}
INLINE lanes erf_of(lanes x) {
    return of_bits(bits_of(erf_of_size(x)) | (bits_of(x) & 0x80000000u));
}
#endif

/* == log1p: libm == */
/* log(1 + x) for x from 0 to 1: x P(x) / Q(x). */
#ifdef S4EDGE_LIBM
EACH(log1p_of, log1pf(x))
#else
INLINE lanes log1p_of(lanes x) {
    const lanes p = 1.0f + x * (1.06621802f + x * (0.238157243f + x * 0.00341727352f));
    const lanes q = 1.0f + x * (1.56621778f + x * (0.687935770f + x * 0.0752871782f));
    return x * p / q;
}
#endif

/* == identity: lanes == */
INLINE lanes identity_of(lanes x) { return x; }

/* == gelu: erf == */
INLINE lanes gelu_of(lanes x) { return 0.5f * x + 0.5f * magnitude(x) * erf_of_size(x * 0.707106781f); }

/* == relu: lanes == */
INLINE lanes relu_of(lanes x) { return at_least(x, 0.0f); }

/* == elu: exp == */
INLINE lanes elu_of(lanes x) { return at_least(x, 0.0f) + expm1_of(at_most(x, 0.0f)); }

/* == silu: exp == */
INLINE lanes silu_of(lanes x) { return at_least(x, -100.0f) / (1.0f + exp_of(-x)); }

/* == sigmoid: exp == */
INLINE lanes sigmoid_of(lanes x) { return 1.0f / (1.0f + exp_of(-x)); }

/* == softplus: exp log1p == */
INLINE lanes softplus_of(lanes x) { return at_least(x, 0.0f) + log1p_of(exp_of(-magnitude(x))); }

/* == tanh: exp == */
INLINE lanes tanh_of(lanes x) {
    const lanes e = expm1_of(2.0f * at_most(at_least(x, -10.0f), 10.0f));
    return e / (e + 2.0f);
}

/* == sqrelu: relu == */
INLINE lanes sqrelu_of(lanes x) {
    x = relu_of(x);
    return x * x;
}

/* == laplace: erf == */
INLINE lanes laplace_of(lanes x) { return 0.5f + 0.5f * erf_of((x - 0.707107f) * 2.50662744f); }

/* == load_bytes: lanes == */
#ifdef HELIUM
INLINE lanes load_bytes(const signed char *p) { return vcvtq_f32_s32(vldrbq_s32((const int8_t *)p)); }
#elif LANES > 1
INLINE lanes load_bytes(const signed char *p) {
    lanes v = {0};
    UNROLL for (int i = 0; i < LANES; i++) v[i] = (float)p[i];
    return v;
}
#else
INLINE lanes load_bytes(const signed char *p) { return (float)*p; }
#endif

/* == dense: lanes == */
/* y = weight x + bias. The weight's rows lie 16 (at the end 8) side by side, so that as many sums
 * grow at once; SIDE samples share what is read of it. */
#if LANES == 8
enum { SIDE = 4, CHAINS = 2 };
#elif LANES == 4 && !defined(HELIUM)
enum { SIDE = 2, CHAINS = 1 };
#else
enum { SIDE = 1, CHAINS = 1 };
#endif

INLINE void dense_rows(const float *RESTRICT weight, const float *RESTRICT bias, int in,
                       const float *RESTRICT x, int x_stride, float *RESTRICT y, int y_stride,
                       const int rows, const int side, const int chains) {
    const int vectors = rows / LANES;
    lanes sum[2][16];
    UNROLL for (int i = 0; i < side * vectors; i++) {
        sum[0][i] = load(bias + i % vectors * LANES);
        if (chains == 2) sum[1][i] = all(0);
    }
    int j = 0;
    for (; j + 2 <= in; j += 2, weight += 2 * rows) {
        UNROLL for (int i = 0; i < side * vectors; i++) {
            const float *w = weight + i % vectors * LANES, *v = x + i / vectors * x_stride + j;
            sum[0][i] = add_times(sum[0][i], load(w), v[0]);
            sum[chains - 1][i] = add_times(sum[chains - 1][i], load(w + rows), v[1]);
        }
    }
    if (j < in) {
        UNROLL for (int i = 0; i < side * vectors; i++)
            sum[0][i] += load(weight + i % vectors * LANES) * x[i / vectors * x_stride + j];
    }
    UNROLL for (int i = 0; i < side * vectors; i++) {
        if (chains == 2) sum[0][i] += sum[1][i];
        store(y + i / vectors * y_stride + i % vectors * LANES, sum[0][i]);
    }
}

#ifdef CORTEX_M_FPU
/* The same for 16 rows and one sample, with two fifths fewer instructions. */
static void dense_cortex_m(const float *weight, const float *bias, int in, const float *x, float *y) {
    __asm__ volatile(
        "vldmia %[bias], {s16-s31}\n"
        "1: vldmia %[x]!, {s0}\n"
        "vldmia %[weight]!, {s1-s8}\n"
        "vfma.f32 s16, s1, s0\n vfma.f32 s17, s2, s0\n vfma.f32 s18, s3, s0\n vfma.f32 s19, s4, s0\n"
        "vfma.f32 s20, s5, s0\n vfma.f32 s21, s6, s0\n vfma.f32 s22, s7, s0\n vfma.f32 s23, s8, s0\n"
        "vldmia %[weight]!, {s1-s8}\n"
        "subs %[in], #1\n"
        "vfma.f32 s24, s1, s0\n vfma.f32 s25, s2, s0\n vfma.f32 s26, s3, s0\n vfma.f32 s27, s4, s0\n"
        "vfma.f32 s28, s5, s0\n vfma.f32 s29, s6, s0\n vfma.f32 s30, s7, s0\n vfma.f32 s31, s8, s0\n"
        "bne 1b\n"
        "vstmia %[y], {s16-s31}\n"
        : [weight] "+r"(weight), [x] "+r"(x), [in] "+r"(in)
        : [bias] "r"(bias), [y] "r"(y)
        : "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s16", "s17", "s18", "s19", "s20",
          "s21", "s22", "s23", "s24", "s25", "s26", "s27", "s28", "s29", "s30", "s31", "cc", "memory");
}
#define DENSE_16(weight, bias, in, x, y) dense_cortex_m(weight, bias, in, x, y)
#else
#define DENSE_16(weight, bias, in, x, y) dense_rows(weight, bias, in, x, 0, y, 0, 16, 1, CHAINS)
#endif

static void dense(const float *weight, const float *bias, int in, int out,
                  const float *x, int x_stride, float *y, int y_stride, int samples) {
    for (; out >= 16; out -= 16, weight += 16 * in, bias += 16, y += 16) {
        int t = 0;
        if (SIDE > 1)
            for (; t + SIDE <= samples; t += SIDE)
                dense_rows(weight, bias, in, x + t * x_stride, x_stride, y + t * y_stride, y_stride,
                           16, SIDE, 1);
        for (; t < samples; t++)
            DENSE_16(weight, bias, in, x + t * x_stride, y + t * y_stride);
    }
    if (out > 0)
        for (int t = 0; t < samples; t++)
            dense_rows(weight, bias, in, x + t * x_stride, 0, y + t * y_stride, 0, 8, 1, CHAINS);
}

/* == dense_bytes: load_bytes == */
/* y = scale (weight x) + bias, a scale per row. Rows of the weight lie side by side as above. */
INLINE void dense_byte_rows(const signed char *RESTRICT weight, const float *RESTRICT scale,
                            const float *RESTRICT bias, int in, const float *RESTRICT x,
                            float *RESTRICT y, const int rows) {
    const int vectors = rows / LANES;
    lanes sum[16];
    UNROLL for (int i = 0; i < vectors; i++) sum[i] = all(0);
    for (int j = 0; j < in; j++, weight += rows) {
        UNROLL for (int i = 0; i < vectors; i++) sum[i] += load_bytes(weight + i * LANES) * x[j];
    }
    UNROLL for (int i = 0; i < vectors; i++)
        store(y + i * LANES, sum[i] * load(scale + i * LANES) + load(bias + i * LANES));
}

static void dense_bytes(const signed char *weight, const float *scale, const float *bias,
                        int in, int out, const float *x, int x_stride, float *y, int y_stride,
                        int samples) {
    for (; out >= 16; out -= 16, weight += 16 * in, scale += 16, bias += 16, y += 16)
        for (int t = 0; t < samples; t++)
            dense_byte_rows(weight, scale, bias, in, x + t * x_stride, y + t * y_stride, 16);
    if (out > 0)
        for (int t = 0; t < samples; t++)
            dense_byte_rows(weight, scale, bias, in, x + t * x_stride, y + t * y_stride, 8);
}

/* == systems: lanes == */
/* Systems of one input and one output each: y = D u, and what the states add. 8 lanes side by side
 * hold some modes of a channel each. A conjugate pair's state moves as z = z + (a - 1) z + u, which
 * loses no digit of a slow pole, and adds Re(w z). Weights of 8 lanes: Re and Im of a - 1 and of w of
 * each row of pairs, then a - 1 and w of each row of real poles; counts: these rows; order: channels. */
INLINE lanes pair(const float *RESTRICT a, float *RESTRICT z, lanes u, lanes sum) {
    const lanes p = load(a), q = load(a + 8), re = load(z), im = load(z + 8);
    const lanes next_im = im + (q * re + p * im), next_re = re + p * re - q * im + u;
    store(z, next_re);
    store(z + 8, next_im);
    return sum + load(a + 16) * next_re - load(a + 24) * next_im;
}

#ifdef CORTEX_M_FPU
/* The same for all pairs of 4 systems, with a third fewer instructions. */
static void pairs_of_four(const float *a, float *z, int pairs, const float *u, float *sum) {
    float *im;
    __asm__ volatile(
        "vldmia %[u], {s16-s19}\n"
        "vldmia %[sum], {s20-s23}\n"
        "1: vldmia %[a], {s0-s3}\n" /* Re (a - 1) */
        "add %[a], #32\n"
        "vldmia %[a], {s4-s7}\n" /* Im a */
        "add %[a], #32\n"
        "vldmia %[z], {s8-s11}\n" /* Re z */
        "add %[im], %[z], #32\n"
        "vldmia %[im], {s12-s15}\n" /* Im z */
        "vmul.f32 s24, s4, s8\n vmul.f32 s25, s5, s9\n"
        "vmul.f32 s26, s6, s10\n vmul.f32 s27, s7, s11\n"
        "vfma.f32 s24, s0, s12\n vfma.f32 s25, s1, s13\n"
        "vfma.f32 s26, s2, s14\n vfma.f32 s27, s3, s15\n"
        "vfma.f32 s8, s0, s8\n vfma.f32 s9, s1, s9\n"
        "vfma.f32 s10, s2, s10\n vfma.f32 s11, s3, s11\n"
        "vfms.f32 s8, s4, s12\n vfms.f32 s9, s5, s13\n"
        "vfms.f32 s10, s6, s14\n vfms.f32 s11, s7, s15\n"
        "vldmia %[a], {s0-s3}\n" /* Re w */
        "add %[a], #32\n"
        "vldmia %[a], {s4-s7}\n" /* Im w */
        "add %[a], #32\n"
        "vadd.f32 s8, s8, s16\n vadd.f32 s9, s9, s17\n"
        "vadd.f32 s10, s10, s18\n vadd.f32 s11, s11, s19\n"
        "vadd.f32 s12, s12, s24\n vadd.f32 s13, s13, s25\n"
        "vadd.f32 s14, s14, s26\n vadd.f32 s15, s15, s27\n"
        "vstmia %[z], {s8-s11}\n"
        "vstmia %[im], {s12-s15}\n"
        "add %[z], #64\n"
        "subs %[pairs], #1\n"
        "vfma.f32 s20, s0, s8\n vfma.f32 s21, s1, s9\n"
        "vfma.f32 s22, s2, s10\n vfma.f32 s23, s3, s11\n"
        "vfms.f32 s20, s4, s12\n vfms.f32 s21, s5, s13\n"
        "vfms.f32 s22, s6, s14\n vfms.f32 s23, s7, s15\n"
        "bne 1b\n"
        "vstmia %[sum], {s20-s23}\n"
        : [a] "+r"(a), [z] "+r"(z), [pairs] "+r"(pairs), [im] "=&r"(im)
        : [u] "r"(u), [sum] "r"(sum)
        : "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "s12", "s13",
          "s14", "s15", "s16", "s17", "s18", "s19", "s20", "s21", "s22", "s23", "s24", "s25", "s26",
          "s27", "cc", "memory");
}
#endif

static void systems(const float *RESTRICT u, int u_stride, float *RESTRICT y, int y_stride,
                    const float *D, int channels, float *RESTRICT state,
                    const float *RESTRICT weights, const unsigned short *RESTRICT counts,
                    const unsigned short *RESTRICT order, int groups, int samples) {
    for (int t = 0; t < samples; t++, u += u_stride, y += y_stride) {
        const float *w = weights;
        float *s = state;
        for (int i = 0; i < channels; i += LANES) store(y + i, load(D + i) * load(u + i));
        for (int k = 0; k < groups; k++) {
            const int pairs = counts[2 * k], reals = counts[2 * k + 1];
#ifdef CORTEX_M_FPU
            for (int i = 0; i < 8; i += 4) {
                float v[4], sum[4] = {0};
                UNROLL for (int j = 0; j < 4; j++) v[j] = u[order ? order[8 * k + i + j] : 8 * k + i + j];
                if (pairs) pairs_of_four(w + i, s + i, pairs, v, sum);
                const float *a = w + 32 * pairs + i;
                float *z = s + 16 * pairs + i;
                for (int n = 0; n < reals; n++, a += 16, z += 8) {
                    UNROLL for (int j = 0; j < 4; j++) {
                        z[j] = z[j] + a[j] * z[j] + v[j];
                        sum[j] += a[8 + j] * z[j];
                    }
                }
                UNROLL for (int j = 0; j < 4; j++) y[order ? order[8 * k + i + j] : 8 * k + i + j] += sum[j];
            }
#else
            for (int i = 0; i < 8; i += LANES) {
                const lanes v = order ? gather(u, order + 8 * k + i) : load(u + 8 * k + i);
                const float *a = w + i;
                float *z = s + i;
                lanes sum = all(0);
                int n = 0;
                for (; n + 2 <= pairs; n += 2, a += 64, z += 32) {
                    sum = pair(a, z, v, sum);
                    sum = pair(a + 32, z + 16, v, sum);
                }
                if (n < pairs) {
                    sum = pair(a, z, v, sum);
                    a += 32;
                    z += 16;
                }
                for (n = 0; n < reals; n++, a += 16, z += 8) {
                    const lanes x = load(z), next = x + load(a) * x + v;
                    store(z, next);
                    sum += load(a + 8) * next;
                }
                if (order) add_to(y, order + 8 * k + i, sum);
                else store(y + 8 * k + i, load(y + 8 * k + i) + sum);
            }
#endif
            w += 32 * pairs + 16 * reals;
            s += 16 * pairs + 8 * reals;
        }
    }
}

/* == systems_wide == */
/* Systems as above in double precision, for weights that cancel each other by more than single
 * precision bears. */
static void systems_wide(const float *u, int u_stride, float *y, int y_stride, const float *D,
                         int channels, double *state, const double *weights,
                         const unsigned short *counts, const unsigned short *order, int groups,
                         int samples) {
    for (int t = 0; t < samples; t++, u += u_stride, y += y_stride) {
        const double *w = weights;
        double *s = state;
        for (int i = 0; i < channels; i++) y[i] = D[i] * u[i];
        for (int k = 0; k < groups; k++) {
            const int pairs = counts[2 * k], reals = counts[2 * k + 1];
            for (int i = 0; i < 8; i++) {
                const int at = order ? order[8 * k + i] : 8 * k + i;
                const double v = (double)u[at], *a = w + i;
                double *z = s + i, sum = 0;
                for (int n = 0; n < pairs; n++, a += 32, z += 16) {
                    const double re = z[0], im = z[8];
                    z[0] = re + (a[0] * re - a[8] * im + v);
                    z[8] = im + (a[8] * re + a[0] * im);
                    sum += a[16] * z[0] - a[24] * z[8];
                }
                for (int n = 0; n < reals; n++, a += 16, z += 8) {
                    *z += *a * *z + v;
                    sum += a[8] * *z;
                }
                y[at] += (float)sum;
            }
            w += 32 * pairs + 16 * reals;
            s += 16 * pairs + 8 * reals;
        }
    }
}

/* == sums: lanes == */
INLINE float sum_of(const float *x, int n) {
    lanes many = all(0);
    UNROLL_SOME for (int i = 0; i + LANES <= n; i += LANES) many += load(x + i);
    float sum = total(many);
    for (int rest = n % LANES; rest > 0; rest--) sum += x[n - rest];
    return sum;
}

INLINE float squares_of(const float *x, float mean, int n) {
    lanes many = all(0);
    UNROLL_SOME for (int i = 0; i + LANES <= n; i += LANES) many += (load(x + i) - mean) * (load(x + i) - mean);
    float sum = total(many);
    for (int rest = n % LANES; rest > 0; rest--) sum += (x[n - rest] - mean) * (x[n - rest] - mean);
    return sum;
}

/* 1 / sqrt(x) by three of Newton's steps, each of which doubles the digits. The C library's root
 * tells of errors in a variable, for which some libraries want 1 kB. */
INLINE float over_root(float x) {
#ifdef S4EDGE_LIBM
    return 1.0f / sqrtf(x);
#else
    unsigned half;
    float y;
    memcpy(&half, &x, sizeof half);
    half = 0x5f3759dfu - (half >> 1); /* half the exponent, with the other sign */
    memcpy(&y, &half, sizeof y);
    UNROLL for (int i = 0; i < 3; i++) y = y * (1.5f - 0.5f * x * y * y);
    return y;
#endif
}

/* == layer_norm: sums == */
/* y = (x - mean) / sqrt(variance + epsilon) scale + shift, over n features. */
static void layer_norm(const float *x, int x_stride, float *y, int y_stride, const float *scale,
                       const float *shift, float epsilon, int n, int samples) {
    for (int t = 0; t < samples; t++, x += x_stride, y += y_stride) {
        const float mean = sum_of(x, n) / (float)n;
        const float factor = over_root(squares_of(x, mean, n) / (float)n + epsilon);
        UNROLL_SOME for (int i = 0; i < n; i += LANES)
            store(y + i, (load(x + i) - mean) * (load(scale + i) * factor) + load(shift + i));
    }
}

/* == standardize: sums == */
/* y = (x - mean + shift) / deviation scale, over n features. */
static void standardize(const float *x, int x_stride, float *y, int y_stride, float scale,
                        float shift, int n, int samples) {
    for (int t = 0; t < samples; t++, x += x_stride, y += y_stride) {
        const float mean = sum_of(x, n) / (float)n;
        const float factor = scale * over_root(squares_of(x, mean, n) / (float)n);
        for (int i = 0; i < n; i += LANES) store(y + i, (load(x + i) - mean + shift) * factor);
    }
}

/* == affine: lanes == */
/* y = x scale + shift, without a shift where it is NULL. */
static void affine(const float *x, int x_stride, float *y, int y_stride, const float *scale,
                   const float *shift, int n, int samples) {
    for (int t = 0; t < samples; t++, x += x_stride, y += y_stride)
        for (int i = 0; i < n; i += LANES)
            store(y + i, load(x + i) * load(scale + i) + (shift ? load(shift + i) : all(0)));
}

/* == each: lanes == */
/* A function of every feature, in place. */
#define FEATURES(name)                                                                             \
    static void each_##name(float *x, int n) {                                                     \
        for (int i = 0; i < n; i += LANES) store(x + i, name##_of(load(x + i)));                   \
    }

/* == glu: lanes == */
/* The first n features times a function of the next n. */
#define GATED(name)                                                                                \
    static void glu_##name(const float *x, int x_stride, float *y, int y_stride, int n,            \
                           int samples) {                                                          \
        for (int t = 0; t < samples; t++, x += x_stride, y += y_stride)                            \
            for (int i = 0; i < n; i += LANES) store(y + i, load(x + i) * name##_of(load(x + n + i))); \
    }

/* == product: lanes == */
/* y = x y. */
static void product(const float *x, float *y, int n) {
    for (int i = 0; i < n; i += LANES) store(y + i, load(x + i) * load(y + i));
}

/* == add: lanes == */
/* y = x + y. */
static void add(const float *x, float *y, int n) {
    UNROLL_SOME for (int i = 0; i < n; i += LANES) store(y + i, load(x + i) + load(y + i));
}

/* == weighted_sum: lanes == */
/* y = of_x x + of_y y. */
static void weighted_sum(float of_x, const float *x, float of_y, float *y, int n) {
    for (int i = 0; i < n; i += LANES) store(y + i, load(x + i) * of_x + load(y + i) * of_y);
}

/* == gather_features == */
/* y = x[index]. */
static void gather_features(const float *x, int x_stride, const unsigned short *index, float *y,
                            int y_stride, int n, int samples) {
    for (int t = 0; t < samples; t++, x += x_stride, y += y_stride)
        for (int i = 0; i < n; i++) y[i] = x[index[i]];
}

/* == embed == */
/* The rows of tokens; a token that is not in the table counts as 0. */
static void embed(const float *table, int tokens, const float *x, float *y, int y_stride, int n,
                  int samples) {
    for (int t = 0; t < samples; t++, y += y_stride) {
        const int token = x[t] >= 0 && x[t] < (float)tokens ? (int)x[t] : 0;
        for (int i = 0; i < n; i++) y[i] = table[token * n + i];
    }
}

/* == embed_bytes == */
/* The rows of tokens, a scale per row; a token that is not in the table counts as 0. */
static void embed_bytes(const signed char *table, const float *scale, int tokens, const float *x,
                        float *y, int y_stride, int n, int samples) {
    for (int t = 0; t < samples; t++, y += y_stride) {
        const int token = x[t] >= 0 && x[t] < (float)tokens ? (int)x[t] : 0;
        for (int i = 0; i < n; i++) y[i] = scale[token] * (float)table[token * n + i];
    }
}

/* == pool_sum: lanes == */
/* x becomes the sum of all samples so far. */
static void pool_sum(float *pooled, float *x, int x_stride, int n, int samples) {
    for (int t = 0; t < samples; t++, x += x_stride)
        for (int i = 0; i < n; i += LANES) {
            store(pooled + i, load(pooled + i) + load(x + i));
            store(x + i, load(pooled + i));
        }
}

/* == pool_mean: lanes == */
/* x becomes the mean of all samples so far; the count stays at its largest value. */
static void pool_mean(float *pooled, unsigned *count, float *x, int x_stride, int n, int samples) {
    for (int t = 0; t < samples; t++, x += x_stride) {
        if (*count + 1 > *count) ++*count;
        const float part = 1.0f / (float)*count;
        for (int i = 0; i < n; i += LANES) {
            store(pooled + i, load(pooled + i) + (load(x + i) - load(pooled + i)) * part);
            store(x + i, load(pooled + i));
        }
    }
}

/* == pool_first == */
/* x becomes the first sample. */
static void pool_first(float *pooled, unsigned *count, float *x, int x_stride, int n, int samples) {
    for (int t = 0; t < samples; t++, x += x_stride) {
        if (*count == 0) memcpy(pooled, x, sizeof(float) * (size_t)n);
        *count = 1;
        memcpy(x, pooled, sizeof(float) * (size_t)n);
    }
}

/* == join_mean: lanes == */
/* Every `stride` samples become their mean; y may be x. Gives how many means there are. */
static int join_mean(float *window, unsigned *count, int stride, const float *x, int x_stride,
                     float *y, int y_stride, int n, int samples) {
    const float part = 1.0f / (float)stride;
    int made = 0;
    for (int t = 0; t < samples; t++, x += x_stride) {
        for (int i = 0; i < n; i += LANES)
            store(window + i, *count ? load(window + i) + load(x + i) * part : load(x + i) * part);
        if (++*count < (unsigned)stride) continue;
        for (int i = 0; i < n; i += LANES) store(y + i, load(window + i));
        y += y_stride;
        *count = 0;
        made++;
    }
    return made;
}

/* == join_sample == */
/* Of every `stride` samples the first; y may be x. Gives how many there are. */
static int join_sample(unsigned *count, int stride, const float *x, int x_stride, float *y,
                       int y_stride, int n, int samples) {
    int made = 0;
    for (int t = 0; t < samples; t++, x += x_stride) {
        if (*count == 0) {
            memmove(y, x, sizeof(float) * (size_t)n);
            y += y_stride;
            made++;
        }
        if (++*count == (unsigned)stride) *count = 0;
    }
    return made;
}

/* == join_stack == */
/* Every `stride` samples become one, feature by feature side by side. Gives how many there are. */
static int join_stack(float *window, unsigned *count, int stride, const float *x, int x_stride,
                      float *y, int y_stride, int n, int samples) {
    int made = 0;
    for (int t = 0; t < samples; t++, x += x_stride) {
        for (int i = 0; i < n; i++) window[i * stride + (int)*count] = x[i];
        if (++*count < (unsigned)stride) continue;
        memcpy(y, window, sizeof(float) * (size_t)(n * stride));
        y += y_stride;
        *count = 0;
        made++;
    }
    return made;
}

/* == hold_answer == */
/* The latest answer x to each sample y. An answer comes every `period` samples, the first one after
 * `first` of them. */
static void hold_answer(float *answer, unsigned *count, int period, int first, const float *x,
                        int x_stride, float *y, int y_stride, int n, int samples) {
    for (int t = 0; t < samples; t++, y += y_stride) {
        if (*count == (unsigned)first) {
            memcpy(answer, x, sizeof(float) * (size_t)n);
            x += x_stride;
        }
        if (++*count == (unsigned)period) *count = 0;
        memcpy(y, answer, sizeof(float) * (size_t)n);
    }
}
