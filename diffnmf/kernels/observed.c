/* Half-steps of a factorization of a sparse matrix that is known only where it stores something: coordinate descent, the
   gradient, the error. */

#include "common.h"

#define BODY "observed.h"
#include "two_types.h"
