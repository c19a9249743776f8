/* The sum that multiplicative updates for the Kullback-Leibler divergence are made of, without writing down P = FᵀX. */

#include "common.h"

#define BODY "divergence.h"
#include "two_types.h"
