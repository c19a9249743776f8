/* What the kernels share: vectors as wide as those of the processor, and names for each set of instructions. */

#ifndef DIFFNMF_COMMON_H
#define DIFFNMF_COMMON_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* Every source is compiled once for each set of instructions (see hatch_build.py), and library.py chooses those of the
   machine at hand: what a function is called ends with their name. */
#ifndef VARIANT
#define VARIANT plain
#endif
#define JOINED(name, variant) name##_##variant
#define WITH_VARIANT(name, variant) JOINED(name, variant)
#define KERNEL(name) __attribute__((visibility("default"))) int WITH_VARIANT(name, VARIANT)

/* The bytes of a vector, and how many vectors of a matrix product stay in registers beside each of four rows. A vector
   that is wider than the registers goes through memory at every step: ten times slower. */
#if defined(__AVX512F__) /* 32 registers */
#define BYTES 64
#define BLOCK 4
#elif defined(__AVX2__) && defined(__FMA__) /* 16 */
#define BYTES 32
#define BLOCK 3
#elif defined(__aarch64__) /* 32 */
#define BYTES 16
#define BLOCK 4
#else /* 16, of which a product takes one before it is added */
#define BYTES 16
#define BLOCK 2
#endif

#if BYTES > 16
#include <immintrin.h>
#endif

/* What a kernel returns: of several threads, the largest counts. */
enum { GOOD, WANTS_CARE, OUT_OF_RANGE, NO_MEMORY };

#define EPS 2.220446049250313e-16

/* Arrays of doubles are padded with zeros to whole vectors: no loop has a remainder. */
#define LANES (BYTES / 8)
typedef double Lanes __attribute__((vector_size(BYTES), aligned(8), may_alias));
typedef int64_t Mask __attribute__((vector_size(BYTES), aligned(8), may_alias));

#define AT(p) (*(Lanes *)(p))
#define READ(p) (*(const Lanes *)(p))
#define SELECT(mask, a, b) ((Lanes)(((Mask)(mask) & (Mask)(a)) | (~(Mask)(mask) & (Mask)(b))))
#define EACH(p, width) (int p = 0; p < (width); p += LANES)

/* Memory for rows begins at a line of the cache; it is asked for with as much more as that takes. */
#define LINE 64
INLINE void *at_line(void *memory) { return (void *)(((uintptr_t)memory + LINE - 1) & ~(uintptr_t)(LINE - 1)); }

/* How many of the vectors that are left to multiply next: one alone would wait for itself. */
INLINE int64_t vectors_of_block(int64_t left) { return BLOCK == 3 && left == 4 ? 2 : left < BLOCK ? left : BLOCK; }

/* Vectors of LANES numbers as doubles. GCC 12 takes __builtin_convertvector apart, and wider ones through memory. */
INLINE Lanes load_double(const double *p) { return READ(p); }
INLINE Lanes load_float(const float *p) {
#if BYTES == 64
    return (Lanes)_mm512_cvtps_pd(_mm256_loadu_ps(p));
#elif BYTES == 32
    return (Lanes)_mm256_cvtps_pd(_mm_loadu_ps(p));
#else
    return (Lanes){p[0], p[1]};
#endif
}

INLINE int padded(int64_t n) { return (int)((n + LANES - 1) / LANES * LANES); }

/* out += Σ f_i rows_i over i < count, where row(i) is the address of a row. Four rows at a time, so that a number of
   ``out`` is read and written once for four products. */
#define COMBINE(out, width, count, f, row)                                                       \
    do {                                                                                         \
        int i_ = 0;                                                                              \
        for (; i_ + 4 <= (count); i_ += 4) {                                                     \
            const double f0 = f(i_), f1 = f(i_ + 1), f2 = f(i_ + 2), f3 = f(i_ + 3);             \
            const double *a0 = row(i_), *a1 = row(i_ + 1), *a2 = row(i_ + 2), *a3 = row(i_ + 3); \
            for EACH(p, width)                                                                   \
                AT((out) + p) += f0 * READ(a0 + p) + f1 * READ(a1 + p) + (f2 * READ(a2 + p) + f3 * READ(a3 + p)); \
        }                                                                                        \
        for (; i_ < (count); i_++) {                                                             \
            const double f0 = f(i_);                                                             \
            const double *a0 = row(i_);                                                          \
            for EACH(p, width) AT((out) + p) += f0 * READ(a0 + p);                               \
        }                                                                                        \
    } while (0)

/* The sum, the largest and the smallest of the numbers of a vector: one half with the other, until one is left. */
typedef int64_t Order __attribute__((vector_size(BYTES)));
typedef double Whole __attribute__((vector_size(BYTES)));
#if defined(__clang__)
#define SWAPPED(v, ...) __builtin_shufflevector(v, v, __VA_ARGS__)
#else
#define SWAPPED(v, ...) __builtin_shuffle(v, (Order){__VA_ARGS__})
#endif
#if BYTES == 64
#define HALVED(step) step(4, 5, 6, 7, 0, 1, 2, 3) step(2, 3, 0, 1, 6, 7, 4, 5) step(1, 0, 3, 2, 5, 4, 7, 6)
#elif BYTES == 32
#define HALVED(step) step(2, 3, 0, 1) step(1, 0, 3, 2)
#else
#define HALVED(step) step(1, 0)
#endif
#define REDUCE(name, step)                \
    INLINE double name(Lanes lanes) {     \
        Whole a = (Whole)lanes, b;        \
        HALVED(step)                      \
        return a[0];                      \
    }
#define ADD(...) b = SWAPPED(a, __VA_ARGS__), a = a + b;
#define LARGER(...) b = SWAPPED(a, __VA_ARGS__), a = (Whole)SELECT(a > b, a, b);
#define SMALLER(...) b = SWAPPED(a, __VA_ARGS__), a = (Whole)SELECT(a < b, a, b);
REDUCE(total_of, ADD)
REDUCE(largest_of, LARGER)
REDUCE(smallest_of, SMALLER)

INLINE double sum(const double *x, int width) {
    Lanes total = {0};
    for EACH(p, width) total += READ(x + p);
    return total_of(total);
}

#endif
