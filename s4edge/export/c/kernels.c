/* == lanes == */
/* Several numbers side by side, as many as the machine computes at once; one in plain C. */
#if !defined(__GNUC__) || defined(S4EDGE_PLAIN)
#define LANES 1
#elif defined(__AVX512F__)
#define LANES 16
#include <immintrin.h>
#elif defined(__AVX__)
#define LANES 8
#include <immintrin.h>
#elif defined(__SSE2__)
#define LANES 4
#include <emmintrin.h>
#elif defined(__aarch64__)
#define LANES 4
#elif defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE >= 2
#define LANES 4
#define HELIUM
#include <arm_mve.h>
#else
#define LANES 1
#endif

/* Compilers do not use the instruction of these that loads several numbers at once. */
#if LANES == 1 && defined(__GNUC__) && !defined(S4EDGE_PLAIN) && defined(__ARM_FEATURE_FMA) \
    && __ARM_ARCH_PROFILE == 'M'
#define CORTEX_M_FPU
#endif

#if defined(__SOFTFP__) || (defined(__arm__) && !defined(__ARM_FP))
#define UNROLL /* where floats are computed in software, loops cost nothing */
#define UNROLL_TWO
#define NO_UNROLL
#define UNROLL_SOME
#elif defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#define UNROLL_TWO _Pragma("clang loop unroll_count(2)")
#define NO_UNROLL _Pragma("clang loop unroll(disable)")
#define UNROLL_SOME _Pragma("clang loop unroll_count(4)")
#elif defined(__GNUC__) && __GNUC__ >= 8
#define UNROLL _Pragma("GCC unroll 16")
#define UNROLL_TWO _Pragma("GCC unroll 2")
#define NO_UNROLL _Pragma("GCC unroll 1")
#define UNROLL_SOME _Pragma("GCC unroll 4")
#else
#define UNROLL
#define UNROLL_TWO
#define NO_UNROLL
#define UNROLL_SOME
#endif

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline, unused))
#define RESTRICT __restrict
#define APART __attribute__((noinline))
#define ALIGNED __attribute__((aligned(4 * LANES))) /* no vector in two lines of a cache */
#else
#define INLINE static inline
#define RESTRICT
#define ALIGNED
#define APART
#endif

#if LANES > 1
typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef unsigned bits __attribute__((vector_size(4 * LANES)));
typedef int mask __attribute__((vector_size(4 * LANES)));
typedef float stored __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
INLINE lanes load(const float *p) { return *(const stored *)p; }
INLINE void store(float *p, lanes v) { *(stored *)p = v; }
INLINE lanes all(float v) { const lanes none = {0}; return none + v; }
#if LANES == 16
INLINE float total(lanes v) { return _mm512_reduce_add_ps(v); }
/* The next numbers, of which only n are there. What is stored with a mask is slow to be read again. */
INLINE __mmask16 first(int n) { return (__mmask16)((1 << n) - 1); }
INLINE lanes get(const float *p, int n) {
    if (n >= LANES) return load(p);
    return _mm512_maskz_loadu_ps(first(n), p);
}
INLINE void put(float *p, lanes v, int n) {
    if (n >= LANES) store(p, v);
    else _mm512_mask_storeu_ps(p, first(n), v);
}
INLINE lanes get_8(const float *p) { return _mm512_zextps256_ps512(_mm256_loadu_ps(p)); }
INLINE void put_8(float *p, lanes v) { _mm256_storeu_ps(p, _mm512_castps512_ps256(v)); }
#else
INLINE float total(lanes v) {
    float sum = 0;
    UNROLL for (int i = 0; i < LANES; i += 4) sum += (v[i] + v[i + 1]) + (v[i + 2] + v[i + 3]);
    return sum;
}
#endif
#if LANES == 16
INLINE lanes at_most(lanes x, float limit) { return _mm512_min_ps(all(limit), x); }
INLINE lanes at_least(lanes x, float limit) { return _mm512_max_ps(all(limit), x); }
#elif LANES == 8
INLINE lanes at_most(lanes x, float limit) { return _mm256_min_ps(all(limit), x); }
INLINE lanes at_least(lanes x, float limit) { return _mm256_max_ps(all(limit), x); }
#elif defined(__SSE2__)
INLINE lanes at_most(lanes x, float limit) { return _mm_min_ps(all(limit), x); }
INLINE lanes at_least(lanes x, float limit) { return _mm_max_ps(all(limit), x); }
#elif defined(HELIUM)
/* gcc takes these apart, number by number. */
INLINE lanes at_most(lanes x, float l) { return vpselq_f32(all(l), x, vcmpgtq_n_f32(x, l)); }
INLINE lanes at_least(lanes x, float l) { return vpselq_f32(all(l), x, vcmpltq_n_f32(x, l)); }
#else
INLINE lanes choose(mask m, lanes a, lanes b) { return (lanes)(((mask)a & m) | ((mask)b & ~m)); }
INLINE lanes at_most(lanes x, float limit) { return choose(x > all(limit), all(limit), x); }
INLINE lanes at_least(lanes x, float limit) { return choose(x < all(limit), all(limit), x); }
#endif
#ifdef HELIUM
INLINE lanes add_times(lanes sum, lanes a, float b) { return vfmaq_n_f32(sum, a, b); }
#else
INLINE lanes add_times(lanes sum, lanes a, float b) { return sum + a * b; }
#endif
INLINE bits bits_of(lanes x) { return (bits)x; }
INLINE lanes of_bits(bits b) { return (lanes)b; }
INLINE lanes magnitude(lanes x) { return (lanes)((bits)x & 0x7fffffffu); }
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
#endif

#if LANES <= 8 /* all rows are filled up to a multiple of 8 */
INLINE lanes get(const float *p, int n) { return (void)n, load(p); }
INLINE void put(float *p, lanes v, int n) { (void)n, store(p, v); }
INLINE lanes get_8(const float *p) { return load(p); }
INLINE void put_8(float *p, lanes v) { store(p, v); }
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

/* == get_bytes: lanes == */
/* The next bytes as floats, of which only n are there. */
#ifdef HELIUM
INLINE lanes get_bytes(const signed char *p, int n) {
    return (void)n, vcvtq_f32_s32(vldrbq_s32((const int8_t *)p));
}
#elif LANES == 16
INLINE lanes get_bytes(const signed char *p, int n) {
    const void *from = p;
    const __m128i *b = (const __m128i *)from;
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(n < 16 ? _mm_loadl_epi64(b) : _mm_loadu_si128(b)));
}
#elif LANES == 8 && defined(__AVX2__)
INLINE lanes get_bytes(const signed char *p, int n) {
    const void *from = p;
    return (void)n, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)from)));
}
#elif LANES == 4 && defined(__SSE2__)
INLINE lanes get_bytes(const signed char *p, int n) {
    int four;
    memcpy(&four, p, sizeof four);
    __m128i b = _mm_cvtsi32_si128(four);
    b = _mm_unpacklo_epi8(b, b);
    return (void)n, _mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(b, b), 24));
}
#elif LANES > 1
INLINE lanes get_bytes(const signed char *p, int n) {
    lanes v = {0};
    UNROLL for (int i = 0; i < LANES; i++) v[i] = (float)p[i];
    return (void)n, v;
}
#else
INLINE lanes get_bytes(const signed char *p, int n) { return (void)n, (float)*p; }
#endif

/* == dense: lanes == */
/* y = weight x + bias. The weight's rows lie in blocks of 16 (at the end 8) side by side, so that as
 * many sums grow at once: of one sample CHAINS for each row of a block, or those of BLOCKS blocks
 * and SIDE samples, which share what is read. */
#if LANES == 16
enum { CHAINS = 4, BLOCKS = 2, SIDE = 8 };
#elif LANES == 8
enum { CHAINS = 4, BLOCKS = 1, SIDE = 4 };
#elif LANES == 4 && defined(__SSE2__)
#define COLUMNS UNROLL_TWO
enum { CHAINS = 2, BLOCKS = 2, SIDE = 1 };
#elif LANES == 4 && !defined(HELIUM)
enum { CHAINS = 2, BLOCKS = 1, SIDE = 2 };
#else
enum { CHAINS = 1, BLOCKS = 1, SIDE = 1 };
#endif
#ifndef COLUMNS
#define COLUMNS NO_UNROLL
#endif

/* The sums with what one column adds: those of the first sample, of the next. */
INLINE void dense_column(const float *RESTRICT weight, int in, const float *RESTRICT x, int x_stride,
                         lanes *RESTRICT sum, const int rows, const int blocks, const int side) {
    const int vectors = rows < LANES ? 1 : rows / LANES, each = blocks * vectors;
    lanes w[16];
    UNROLL for (int i = 0; i < each; i++)
        w[i] = get(weight + i / vectors * rows * in + i % vectors * LANES, rows);
    UNROLL for (int t = 0; t < side; t++) {
        UNROLL for (int i = 0; i < each; i++)
            sum[t * each + i] = add_times(sum[t * each + i], w[i], x[t * x_stride]);
    }
}

INLINE void dense_rows(const float *RESTRICT weight, const float *RESTRICT bias, int in,
                       const float *RESTRICT x, int x_stride, float *RESTRICT y, int y_stride,
                       const int rows, const int blocks, const int side, const int chains) {
    const int each = rows < LANES ? 1 : blocks * rows / LANES;
    lanes sum[4][16];
    UNROLL for (int i = 0; i < side * each; i++) {
        sum[0][i] = get(bias + i % each * LANES, rows);
        UNROLL for (int c = 1; c < chains; c++) sum[c][i] = all(0);
    }
    int j = 0;
    COLUMNS for (; j + chains <= in; j += chains, weight += chains * rows, x += chains) {
        UNROLL for (int c = 0; c < chains; c++)
            dense_column(weight + c * rows, in, x + c, x_stride, sum[c], rows, blocks, side);
    }
    for (; chains > 1 && j < in; j++, weight += rows, x++)
        dense_column(weight, in, x, x_stride, sum[0], rows, blocks, side);
    UNROLL for (int i = 0; i < side * each; i++) {
        UNROLL for (int c = 1; c < chains; c++) sum[0][i] += sum[c][i];
        put(y + i / each * y_stride + i % each * LANES, sum[0][i], rows);
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
#define DENSE_16(weight, bias, in, x, y) dense_rows(weight, bias, in, x, 0, y, 0, 16, 1, 1, CHAINS)
#endif

/* One block, or BLOCKS, for many samples; a function of its own, for compilers to find registers. */
static APART void dense_side(const float *weight, const float *bias, int in, int blocks,
                             const float *x, int x_stride, float *y, int y_stride, int samples) {
    for (int t = 0; t < samples; t += SIDE, x += SIDE * x_stride, y += SIDE * y_stride) {
        if (blocks == 1)
            dense_rows(weight, bias, in, x, x_stride, y, y_stride, 16, 1, SIDE, SIDE == 1 ? CHAINS : 1);
        else dense_rows(weight, bias, in, x, x_stride, y, y_stride, 16, BLOCKS, SIDE, 1);
    }
}

static APART void dense_one(const float *weight, const float *bias, int in, int out, const float *x,
                            float *y) {
    for (; out >= 16; out -= 16, weight += 16 * in, bias += 16, y += 16)
        DENSE_16(weight, bias, in, x, y);
    if (out > 0) dense_rows(weight, bias, in, x, 0, y, 0, 8, 1, 1, CHAINS);
}

static void dense(const float *weight, const float *bias, int in, int out, const float *x,
                  int x_stride, float *y, int y_stride, int samples) {
    const int several = BLOCKS * SIDE > 1 ? samples / SIDE * SIDE : 0;
    int i = 0;
    for (int blocks = BLOCKS; several && i + 16 <= out; i += 16 * blocks) {
        if (i + 16 * BLOCKS > out) blocks = 1;
        dense_side(weight + i * in, bias + i, in, blocks, x, x_stride, y + i, y_stride, several);
    }
    for (int t = 0; t < several && i < out; t++)
        dense_one(weight + i * in, bias + i, in, out - i, x + t * x_stride, y + t * y_stride + i);
    for (int t = several; t < samples; t++)
        dense_one(weight, bias, in, out, x + t * x_stride, y + t * y_stride);
}

/* == dense_bytes: get_bytes == */
/* y = scale (weight x) + bias, a scale per row. Rows of the weight lie side by side as above. */
INLINE void dense_byte_rows(const signed char *RESTRICT weight, const float *RESTRICT scale,
                            const float *RESTRICT bias, int in, const float *RESTRICT x,
                            float *RESTRICT y, const int rows) {
    const int vectors = rows < LANES ? 1 : rows / LANES;
    lanes sum[16];
    UNROLL for (int i = 0; i < vectors; i++) sum[i] = all(0);
    for (int j = 0; j < in; j++, weight += rows) {
        UNROLL for (int i = 0; i < vectors; i++)
            sum[i] = add_times(sum[i], get_bytes(weight + i * LANES, rows), x[j]);
    }
    UNROLL for (int i = 0; i < vectors; i++)
        put(y + i * LANES, sum[i] * get(scale + i * LANES, rows) + get(bias + i * LANES, rows), rows);
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
 * each row of pairs, then a - 1 and w of each row of real poles; counts: these rows; order: the input
 * of each lane. The lanes of the first groups, so many as there are outputs, give these in order; the
 * others add to the outputs of their place. */
#if LANES >= 8
INLINE lanes gather(const float *x, const unsigned short *index) {
    const lanes v = {x[index[0]], x[index[1]], x[index[2]], x[index[3]],
                     x[index[4]], x[index[5]], x[index[6]], x[index[7]]};
    return v;
}
#elif LANES == 4
INLINE lanes gather(const float *x, const unsigned short *index) {
    const lanes v = {x[index[0]], x[index[1]], x[index[2]], x[index[3]]};
    return v;
}
#else
INLINE lanes gather(const float *x, const unsigned short *index) { return x[*index]; }
#endif
INLINE void add_to(float *y, const unsigned short *place, lanes v) {
    float each[8];
    put_8(each, v);
    UNROLL for (int i = 0; i < (LANES < 8 ? LANES : 8); i++) y[place[i]] += each[i];
}

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

#if LANES == 16
/* Real parts in the lower half, imaginary in the upper. */
INLINE lanes halves_turned(lanes v) { return _mm512_shuffle_f32x4(v, v, 0x4e); }
INLINE lanes in_both_halves(const float *p) {
    return _mm512_castpd_ps(_mm512_broadcast_f64x4(_mm256_castps_pd(_mm256_loadu_ps(p))));
}
#endif

/* The sum with what modes of lanes add to it, of as many as are computed at once. */
INLINE lanes modes(const float *RESTRICT a, float *RESTRICT z, int pairs, int reals, lanes u,
                   lanes sum) {
#if LANES == 16
    const lanes sign = {1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1};
    for (int n = 0; n < pairs; n++, a += 32, z += 16) {
        const lanes old = load(z), q = in_both_halves(a + 8) * sign;
        const lanes next = old + in_both_halves(a) * old - q * halves_turned(old) + u;
        store(z, next);
        sum += load(a + 16) * next;
    }
    sum -= halves_turned(sum);
    for (int n = 0; n < reals; n++, a += 16, z += 8) {
        const lanes old = get_8(z), next = old + load(a) * old + u;
        put_8(z, next);
        sum += get_8(a + 8) * next;
    }
#else
    int n = 0;
    for (; n + 2 <= pairs; n += 2, a += 64, z += 32) {
        sum = pair(a, z, u, sum);
        sum = pair(a + 32, z + 16, u, sum);
    }
    if (n < pairs) {
        sum = pair(a, z, u, sum);
        a += 32;
        z += 16;
    }
    for (n = 0; n < reals; n++, a += 16, z += 8) {
        const lanes x = load(z), next = x + load(a) * x + u;
        store(z, next);
        sum += load(a + 8) * next;
    }
#endif
    return sum;
}

static void systems(const float *RESTRICT u, int u_stride, float *RESTRICT y, int y_stride,
                    const float *RESTRICT D, float *RESTRICT state, const float *RESTRICT weights,
                    const unsigned short *RESTRICT counts, const unsigned short *RESTRICT order,
                    const unsigned short *RESTRICT place, int outputs, int groups, int samples) {
    for (int t = 0; t < samples; t++, u += u_stride, y += y_stride) {
        const float *w = weights;
        float *s = state;
        for (int k = 0; k < groups; k++) {
            const int pairs = counts[2 * k], reals = counts[2 * k + 1];
            const unsigned short *to = place && k >= outputs ? place + 8 * (k - outputs) : NULL;
#ifdef CORTEX_M_FPU
            for (int i = 0; i < 8; i += 4) {
                const int at = 8 * k + i;
                float v[4], sum[4];
                UNROLL for (int j = 0; j < 4; j++) {
                    v[j] = u[order ? order[at + j] : at + j];
                    sum[j] = to ? 0 : D[at + j] * v[j];
                }
                if (pairs) pairs_of_four(w + i, s + i, pairs, v, sum);
                const float *a = w + 32 * pairs + i;
                float *z = s + 16 * pairs + i;
                for (int n = 0; n < reals; n++, a += 16, z += 8) {
                    UNROLL for (int j = 0; j < 4; j++) {
                        z[j] = z[j] + a[j] * z[j] + v[j];
                        sum[j] += a[8 + j] * z[j];
                    }
                }
                UNROLL for (int j = 0; j < 4; j++) {
                    if (to) y[to[i + j]] += sum[j];
                    else y[at + j] = sum[j];
                }
            }
#else
            for (int i = 0; i < 8; i += LANES) {
                const int at = 8 * k + i;
                const lanes v = order ? gather(u, order + at) : get_8(u + at);
                const lanes at_once = to ? all(0) : get_8(D + at) * v;
                const lanes sum = modes(w + i, s + i, pairs, reals, v, at_once);
                if (to) add_to(y, to + i, sum);
                else put_8(y + at, sum);
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
                         double *state, const double *weights, const unsigned short *counts,
                         const unsigned short *order, const unsigned short *place, int outputs,
                         int groups, int samples) {
    for (int t = 0; t < samples; t++, u += u_stride, y += y_stride) {
        const double *w = weights;
        double *s = state;
        for (int k = 0; k < groups; k++) {
            const int pairs = counts[2 * k], reals = counts[2 * k + 1];
            for (int i = 8 * k; i < 8 * k + 8; i++) {
                const double v = (double)u[order ? order[i] : i], *a = w + i % 8;
                double *z = s + i % 8, sum = 0;
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
                if (k < outputs) y[i] = D[i] * (float)v + (float)sum;
                else y[place[i - 8 * outputs]] += (float)sum;
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

/* 1 / sqrt(x), where no instruction gives the root by three of Newton's steps, each of which doubles
 * the digits. The C library's root tells of errors in a variable, for which some want 1 kB. */
INLINE float over_root(float x) {
#ifdef S4EDGE_LIBM
    return 1.0f / sqrtf(x);
#elif LANES > 1 && defined(__SSE2__)
    return 1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
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
    const float part = 1.0f / (float)n;
    for (int t = 0; t < samples; t++, x += x_stride, y += y_stride) {
        const float mean = sum_of(x, n) * part;
        const float factor = over_root(squares_of(x, mean, n) * part + epsilon);
        UNROLL_SOME for (int i = 0; i < n; i += LANES)
            put(y + i, (get(x + i, n - i) - mean) * (get(scale + i, n - i) * factor)
                           + get(shift + i, n - i), n - i);
    }
}

/* == standardize: sums == */
/* y = (x - mean + shift) / deviation scale, over n features. */
static void standardize(const float *x, int x_stride, float *y, int y_stride, float scale,
                        float shift, int n, int samples) {
    for (int t = 0; t < samples; t++, x += x_stride, y += y_stride) {
        const float mean = sum_of(x, n) / (float)n;
        const float factor = scale * over_root(squares_of(x, mean, n) / (float)n);
        for (int i = 0; i < n; i += LANES)
            put(y + i, (get(x + i, n - i) - mean + shift) * factor, n - i);
    }
}

/* == affine: lanes == */
/* y = x scale + shift, without a shift where it is NULL. */
static void affine(const float *x, int x_stride, float *y, int y_stride, const float *scale,
                   const float *shift, int n, int samples) {
    for (int t = 0; t < samples; t++, x += x_stride, y += y_stride)
        for (int i = 0; i < n; i += LANES)
            put(y + i, get(x + i, n - i) * get(scale + i, n - i)
                           + (shift ? get(shift + i, n - i) : all(0)), n - i);
}

/* == each: lanes == */
/* A function of every feature, in place. */
#define FEATURES(name)                                                                             \
    static void each_##name(float *x, int n) {                                                     \
        for (int i = 0; i < n; i += LANES) put(x + i, name##_of(get(x + i, n - i)), n - i);        \
    }

/* == glu: lanes == */
/* The first n features times a function of the next n. */
#define GATED(name)                                                                                \
    static void glu_##name(const float *x, int x_stride, float *y, int y_stride, int n,            \
                           int samples) {                                                          \
        for (int t = 0; t < samples; t++, x += x_stride, y += y_stride)                            \
            for (int i = 0; i < n; i += LANES)                                                     \
                put(y + i, get(x + i, n - i) * name##_of(get(x + n + i, n - i)), n - i);           \
    }

/* == product: lanes == */
/* y = x y. */
static void product(const float *x, float *y, int n) {
    for (int i = 0; i < n; i += LANES) put(y + i, get(x + i, n - i) * get(y + i, n - i), n - i);
}

/* == add: lanes == */
/* y = x + y. */
static void add(const float *x, float *y, int n) {
    UNROLL_SOME for (int i = 0; i < n; i += LANES)
        put(y + i, get(x + i, n - i) + get(y + i, n - i), n - i);
}

/* == weighted_sum: lanes == */
/* y = of_x x + of_y y. */
static void weighted_sum(float of_x, const float *x, float of_y, float *y, int n) {
    for (int i = 0; i < n; i += LANES)
        put(y + i, get(x + i, n - i) * of_x + get(y + i, n - i) * of_y, n - i);
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
            put(pooled + i, get(pooled + i, n - i) + get(x + i, n - i), n - i);
            put(x + i, get(pooled + i, n - i), n - i);
        }
}

/* == pool_mean: lanes == */
/* x becomes the mean of all samples so far; the count stays at its largest value. */
static void pool_mean(float *pooled, unsigned *count, float *x, int x_stride, int n, int samples) {
    for (int t = 0; t < samples; t++, x += x_stride) {
        if (*count + 1 > *count) ++*count;
        const float part = 1.0f / (float)*count;
        for (int i = 0; i < n; i += LANES) {
            const lanes mean = get(pooled + i, n - i);
            put(pooled + i, mean + (get(x + i, n - i) - mean) * part, n - i);
            put(x + i, get(pooled + i, n - i), n - i);
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
            put(window + i, (*count ? get(window + i, n - i) : all(0)) + get(x + i, n - i) * part, n - i);
        if (++*count < (unsigned)stride) continue;
        for (int i = 0; i < n; i += LANES) put(y + i, get(window + i, n - i), n - i);
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
