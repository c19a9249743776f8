/* How good the W of a plain problem is, as solvers/optimality.py and solvers/certificate.py have it. */

#include "residual.h"

/* As in solvers/gram.py. */
static const double LARGEST_DESCENT = 1e30;

/* Of one problem: the lengths of the columns of H and of those of [H; √ridge I], 1 for zeros; and what ‖x*‖₁ cannot
   exceed, see _one_sided_bound in certificate.py. */
typedef struct {
    double *ridge, *length, *d;
    double *alone;    /* 1 for a column of zeros without ridge, whose row of A is that of the identity */
    double *opposite; /* −1/d: with it for W, what is left of Y = 0 is the sum of the columns */
    double bound;
} Basis;

static void basis_of(Basis *b, Residual *t, int64_t is_float, const void *H, int64_t H_row, int64_t H_column, int64_t n) {
    FOR_TYPE(is_float, squares, H, n, H_row, H_column, b->length, 0, t->k);
    for (int64_t j = 0; j < t->k; j++) {
        const double square = b->length[j], diagonal = square + b->ridge[j];
        b->length[j] = square == 0 ? 1 : sqrt(square);
        b->d[j] = diagonal == 0 ? 1 : sqrt(diagonal);
        b->alone[j] = diagonal == 0;
        b->opposite[j] = -1 / b->d[j];
    }
    form_residual(t, is_float, H, H_row, H_column, NULL, 0, 0, b->opposite, n, 0, 1);
    double total = 0, least = INFINITY;
    for (int64_t j = 0; j < t->k; j++) { /* the sums of the rows of A, the scaled Gram matrix */
        const double row = b->alone[j] + (b->ridge[j] / b->d[j] + t->descent[j * NARROW]) / b->d[j];
        total += row;
        least = row < least ? row : least;
    }
    b->bound = sqrt(fmax(total, 0)) / fmax(least, 0);
}

INLINE double larger(double a, double b) { return a > b || a != a ? a : b; } /* NaN where one of them is */

/* A batch of problems in range.

   H, Y         (B, n, k) and (B, n, m), both float or both double, with strides of which that of rows or columns is 1
   ridge, l1    (B, k) and (B, k, m), with their strides
   W            (B, m, k)
   excess       how far √(2f) may be above the least possible, in units of ‖y‖
   gradient     (B, m, k), of ½‖Y − HW‖² + ½ Σ ridge W²
   numbers      (4, B·m): the KKT residual; ‖W‖₁ / ‖y‖, with columns of H of length one; the largest HᵀY; ‖y − Hw‖²
   certain      (B·m), 1 where W is certainly that good; 0 where it may be

   Returns GOOD or NO_MEMORY. */
KERNEL(diffnmf_nnls_judge)(int64_t is_float, MATRIX(H), MATRIX(Y), const double *ridge, int64_t ridge_problem,
                           int64_t ridge_row, const double *l1, int64_t l1_problem, int64_t l1_row, int64_t l1_column,
                           const double *W, double excess, double *gradient, double *numbers, uint8_t *certain,
                           int64_t batch, int64_t n, int64_t m, int64_t k, int64_t first, int64_t last) {
    Residual t;
    if (!residual_new(&t, k)) return NO_MEMORY;
    const int64_t width = padded(k), widest = width > NARROW ? width : NARROW;
    double *memory = calloc(5 * width + (k + 2) * widest + NARROW * width, sizeof(double));
    if (!memory) {
        free(t.memory);
        return NO_MEMORY;
    }
    Basis b = {memory, memory + width, memory + 2 * width, memory + 3 * width, memory + 4 * width, 0};
    double *squares = memory + 5 * width, *row = squares + widest, *products = row + widest;
    double *residuals = numbers, *sizes = residuals + batch * m, *gains = sizes + batch * m, *rests = gains + batch * m;
    const int flipped = transposed(H_column, Y_column);
    int64_t known = -1;
    for (int64_t start = first, end; start < last; start = end) {
        end = end_of_run(start, m, last, NARROW);
        const int64_t problem = start / m, from = start - problem * m;
        const void *h = OF_PROBLEM(H, problem), *y = OF_PROBLEM(Y, problem);
        if (problem != known) {
            for (int64_t j = 0; j < k; j++) b.ridge[j] = ridge[problem * ridge_problem + j * ridge_row];
            basis_of(&b, &t, is_float, h, H_row, H_column, n);
            known = problem;
        }
        const int64_t columns = end - start, product_row = flipped ? 1 : padded(columns), product = flipped ? width : 1;
        form_residual(&t, is_float, h, H_row, H_column, y, Y_row, Y_column, W + start * k, n, from, columns);
        FOR_TYPE(is_float, squares, y, n, Y_row, Y_column, squares, from, from + columns);
        FOR_TYPE(is_float, cross_product, h, H_row, H_column, y, Y_row, Y_column, n, from, from + columns, k, products, row);
        for (int64_t i = 0; i < columns; i++) {
            const double *w = W + (start + i) * k, *l = l1 + problem * l1_problem + (from + i) * l1_column;
            const double s = squares[i] == 0 ? 1 : sqrt(squares[i]);
            double residual = 0, size = 0, gain = -INFINITY, least = INFINITY, gap = 0, penalty = 0;
            for (int64_t j = 0; j < k; j++) {
                const double price = l[j * l1_row], d = b.d[j];
                const double g = b.ridge[j] * w[j] - t.descent[j * NARROW + i];
                const double slope = (g + price) / b.length[j], x = w[j] * b.length[j];
                residual = larger(fabs(x < slope || x != x ? x : slope), residual);
                size += x;
                gain = larger(products[i * product + j * product_row], gain);
                const double scaled = g / s / d + fmin(price / d / s, LARGEST_DESCENT);
                least = scaled < least ? scaled : least;
                gap += fabs(w[j] * d / s * scaled);
                penalty += (2 * price * w[j] / s + b.ridge[j] * (w[j] / s) * w[j]) / s;
                gradient[(start + i) * k + j] = g;
            }
            const double value = sqrt(t.squares[i] / s / s + penalty), violation = fmax(-least, EPS * value);
            residuals[start + i] = residual / s;
            sizes[start + i] = size / s;
            gains[start + i] = gain;
            rests[start + i] = t.squares[i];
            certain[start + i] = value <= excess || 2 * (gap + violation * b.bound) <= excess * value;
        }
    }
    free(memory);
    free(t.memory);
    return GOOD;
}
