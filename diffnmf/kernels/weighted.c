/* Where every entry of the error has a weight of its own, each column has a Gram matrix of its own. Here they are formed;
   and used for coordinate descent, and forgotten, in the cache. */

#include "common.h"

#define BODY "weighted.h"
#include "two_types.h"
