/* Hierarchical alternating least squares: sweeps over tiles of columns that stay in the cache, with extrapolation in the
   same pass; and whole iterations for problems so small that calling a library for their products would cost more. */

#include "common.h"

/* Of a problem in a run; hals.py knows them, too. */
enum { GOING, DUE, DEAD, REVIVED, CONVERGED };

#define BODY "hals.h"
#include "two_types.h"
