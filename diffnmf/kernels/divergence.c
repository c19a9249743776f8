/* The sum that multiplicative updates for the Kullback-Leibler divergence are made of, without writing down P = FᵀX. */

#include "common.h"

#define REAL float
#define INTEGER int32_t
#define NAME(name) name##_float
#include "divergence.h"
#undef REAL
#undef INTEGER
#undef NAME
#define REAL double
#define INTEGER int64_t
#define NAME(name) name##_double
#include "divergence.h"
