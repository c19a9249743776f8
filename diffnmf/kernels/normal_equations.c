/* The parts of the normal equations of a batch, each from one pass over its matrices: HᵀH, HᵀY and ‖y‖²; and what
   W leaves of them, Hᵀ(HW − Y) and ‖y − Hw‖².

   Matrices are float or double, those of a call alike, with strides of which that of rows or columns is 1. What a column
   gets depends on nothing but the column and H. */

#include "residual.h"

/* G (B, k, k) = HᵀH for problems first ≤ problem < last of H (B, n, k). Returns GOOD or NO_MEMORY. */
KERNEL(diffnmf_gram)(int64_t is_float, MATRIX(H), double *G, int64_t n, int64_t k, int64_t first, int64_t last) {
    const int width = padded(k);
    double *gram = malloc(((size_t)width * (k + 1) + 1) * sizeof(double)), *row = gram + (size_t)width * k;
    if (!gram) return NO_MEMORY;
    for (int64_t problem = first; problem < last; problem++) {
        FOR_TYPE(is_float, gram_product, OF_PROBLEM(H, problem), H_row, H_column, n, k, gram, row);
        for (int64_t i = 0; i < k; i++) memcpy(G + (problem * k + i) * k, gram + i * width, k * sizeof(double));
    }
    free(gram);
    return GOOD;
}

/* C (B, m, k) = YᵀH for columns first ≤ column < last of B·m, of H (B, n, k) and Y (B, n, m). Returns GOOD or NO_MEMORY. */
KERNEL(diffnmf_correlation)(int64_t is_float, MATRIX(H), MATRIX(Y), double *C, int64_t n, int64_t m, int64_t k,
                            int64_t first, int64_t last) {
    const int width = padded(k), flipped = transposed(H_column, Y_column);
    double *products = malloc(((size_t)width * (COLUMNS + 1) + COLUMNS) * sizeof(double));
    double *row = products + (size_t)width * COLUMNS;
    if (!products) return NO_MEMORY;
    for (int64_t start = first, end; start < last; start = end) {
        end = end_of_run(start, m, last, COLUMNS);
        const int64_t problem = start / m, from = start - problem * m, count = end - start;
        const int64_t of_entry = flipped ? 1 : padded(count), of_column = flipped ? width : 1;
        const void *h = OF_PROBLEM(H, problem), *y = OF_PROBLEM(Y, problem);
        FOR_TYPE(is_float, cross_product, h, H_row, H_column, y, Y_row, Y_column, n, from, from + count, k, products, row);
        for (int64_t i = 0; i < count; i++)
            for (int64_t j = 0; j < k; j++) C[(start + i) * k + j] = products[i * of_column + j * of_entry];
    }
    free(products);
    return GOOD;
}

/* squares (B·m) = ‖y‖² for columns first ≤ column < last of Y (B, n, m). Returns GOOD. */
KERNEL(diffnmf_squares)(int64_t is_float, MATRIX(Y), double *squares, int64_t n, int64_t m, int64_t first, int64_t last) {
    double some[COLUMNS];
    for (int64_t start = first, end; start < last; start = end) {
        end = end_of_run(start, m, last, COLUMNS);
        const int64_t problem = start / m, from = start - problem * m, count = end - start;
        FOR_TYPE(is_float, squares, OF_PROBLEM(Y, problem), n, Y_row, Y_column, some, from, from + count);
        memcpy(squares + start, some, count * sizeof(double));
    }
    return GOOD;
}

/* gradient (B, m, k) = (HW − Y)ᵀH and squares (B·m) = ‖y − Hw‖² for columns first ≤ column < last of B·m, of H (B, n, k),
   Y (B, n, m) and W (B, m, k). Returns GOOD or NO_MEMORY. */
KERNEL(diffnmf_residual_gradient)(int64_t is_float, MATRIX(H), MATRIX(Y), const double *W, double *gradient,
                                  double *squares, int64_t n, int64_t m, int64_t k, int64_t first, int64_t last) {
    Residual t;
    if (!residual_new(&t, k)) return NO_MEMORY;
    for (int64_t start = first, end; start < last; start = end) {
        end = end_of_run(start, m, last, NARROW);
        const int64_t problem = start / m, from = start - problem * m, count = end - start;
        const void *h = OF_PROBLEM(H, problem), *y = OF_PROBLEM(Y, problem);
        form_residual(&t, is_float, h, H_row, H_column, y, Y_row, Y_column, W + start * k, n, from, count);
        for (int64_t i = 0; i < count; i++)
            for (int64_t j = 0; j < k; j++) gradient[(start + i) * k + j] = -t.descent[j * NARROW + i];
        memcpy(squares + start, t.squares, count * sizeof(double));
    }
    free(t.memory);
    return GOOD;
}
