/* Where every entry of the error has a weight of its own, each column has a Gram matrix of its own. */

#include "common.h"

#define BODY "weighted_gram.h"
#include "two_types.h"
