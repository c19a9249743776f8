/* Half-steps of a factorization where every entry of the error has a weight of its own: coordinate descent, the gradient,
   the error. */

#include "common.h"

#define BODY "weighted_sweep.h"
#include "two_types.h"
