/* HᵀH, HᵀY and squares in double, of matrices in the memory of tensors of float or double. */

#ifndef DIFFNMF_PRODUCTS_H
#define DIFFNMF_PRODUCTS_H

#include "common.h"

/* Whether HᵀY is given as YᵀH: that is the faster one where the rows of H lie side by side, but not of Y. */
INLINE int transposed(int64_t h_column, int64_t y_column) { return h_column == 1 && y_column != 1; }

#define REAL double
#define NAME(name) name##_double
#include "products_of_type.h"
#undef REAL
#undef NAME
#define REAL float
#define NAME(name) name##_float
#include "products_of_type.h"
#undef REAL
#undef NAME

/* A call for the type of H and Y; the first argument is the matrix. */
#define FOR_TYPE(is_float, call, X, ...) \
    ((is_float) ? call##_float((const float *)(X), __VA_ARGS__) : call##_double((const double *)(X), __VA_ARGS__))

/* A matrix in the memory of a tensor: where the first number of a problem is, and the strides. */
#define MATRIX(X) const void *X, int64_t X##_problem, int64_t X##_row, int64_t X##_column
#define COLUMNS 256 /* of a block: HᵀY is formed for so many at once */
#define OF_PROBLEM(X, problem) ((const char *)X + (problem) * X##_problem * (is_float ? 4 : 8))

/* A run of columns of one problem, from number ``start`` of all B·m on: at most ``most``. */
INLINE int64_t end_of_run(int64_t start, int64_t m, int64_t last, int64_t most) {
    const int64_t of_problem = (start / m + 1) * m, end = start + most < of_problem ? start + most : of_problem;
    return end < last ? end : last;
}

#endif
