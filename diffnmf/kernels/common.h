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

INLINE double sum(const double *x, int width) {
    Lanes total = {0};
    for EACH(p, width) total += READ(x + p);
    return ((total[0] + total[1]) + (total[2] + total[3])) + ((total[4] + total[5]) + (total[6] + total[7]));
}

#endif
