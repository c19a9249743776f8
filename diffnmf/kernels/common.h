/* What the kernels share: vectors of eight numbers, and which instructions they are compiled for. */

#ifndef DIFFNMF_COMMON_H
#define DIFFNMF_COMMON_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))

/* A function is compiled once for each set of instructions, and the machine at hand chooses when the library is loaded.
   Everything that it calls is inlined, so that it is compiled along with it. */
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(DIFFNMF_PLAIN)
#define CLONES __attribute__((target_clones("avx512f", "fma", "default")))
#else
#define CLONES
#endif

/* What a kernel returns: of several threads, the largest counts. */
enum { GOOD, WANTS_CARE, OUT_OF_RANGE, NO_MEMORY };

#define EPS 2.220446049250313e-16

/* Arrays of doubles are padded with zeros to whole vectors: no loop has a remainder. */
#define LANES 8
typedef double Lanes __attribute__((vector_size(8 * LANES), aligned(8), may_alias));
typedef int64_t Mask __attribute__((vector_size(8 * LANES), aligned(8), may_alias));

#define AT(p) (*(Lanes *)(p))
#define READ(p) (*(const Lanes *)(p))
#define SELECT(mask, a, b) ((Lanes)(((mask) & (Mask)(a)) | (~(mask) & (Mask)(b))))
#define EACH(p, width) (int p = 0; p < (width); p += LANES)

/* Whether there are registers for 16 vectors, and some more. */
INLINE int wide_registers(void) {
#if defined(__x86_64__) && defined(__GNUC__)
    return __builtin_cpu_supports("avx512f");
#else
    return 0;
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

/* The sum, the largest and the smallest of the eight numbers of a vector. */
typedef int64_t Order __attribute__((vector_size(8 * LANES)));
typedef double Eight __attribute__((vector_size(8 * LANES)));
#if defined(__clang__)
#define SWAPPED(v, ...) __builtin_shufflevector(v, v, __VA_ARGS__)
#else
#define SWAPPED(v, ...) __builtin_shuffle(v, (Order){__VA_ARGS__})
#endif
#define REDUCE(name, combined)                                   \
    INLINE double name(Lanes lanes) {                            \
        Eight a = (Eight)lanes, b = SWAPPED(a, 4, 5, 6, 7, 0, 1, 2, 3); \
        a = combined;                                            \
        b = SWAPPED(a, 2, 3, 0, 1, 6, 7, 4, 5);                  \
        a = combined;                                            \
        b = SWAPPED(a, 1, 0, 3, 2, 5, 4, 7, 6);                  \
        a = combined;                                            \
        return a[0];                                             \
    }
REDUCE(total_of, a + b)
REDUCE(largest_of, (Eight)SELECT(a > b, a, b))
REDUCE(smallest_of, (Eight)SELECT(a < b, a, b))

INLINE double sum(const double *x, int width) {
    Lanes total = {0};
    for EACH(p, width) total += READ(x + p);
    return ((total[0] + total[1]) + (total[2] + total[3])) + ((total[4] + total[5]) + (total[6] + total[7]));
}

#endif
