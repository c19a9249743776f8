/* Hierarchical alternating least squares: sweeps over tiles of columns that stay in the cache, with extrapolation in the
   same pass; and whole iterations for problems so small that calling a library for their products would cost more. */

#include "common.h"

#define REAL float
#define INTEGER int32_t
#define NAME(name) name##_float
#include "hals.h"
#undef REAL
#undef INTEGER
#undef NAME
#define REAL double
#define INTEGER int64_t
#define NAME(name) name##_double
#include "hals.h"
