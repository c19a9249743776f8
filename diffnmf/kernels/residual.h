/* What W leaves of Y, and what that means to H: Hᵀ(Y − HW) and ‖y − Hw‖², in double.

   The residual is formed, in parts that are not kept: no digits are lost as in the Gram form. */

#include "products.h"

/* What is multiplied at once, so that all of it stays in the second cache: rows of H, and columns of W. */
#define ROWS 32
#define NARROW 64

typedef struct {
    int64_t k, width; /* entries, and with padding */
    double *h;        /* ROWS × width */
    double *negative; /* k × NARROW: −W */
    double *residual; /* ROWS × NARROW */
    double *descent;  /* k × NARROW: Hᵀ(Y − HW) */
    double *squares;  /* NARROW: ‖y − Hw‖² */
    void *memory;
} Residual;

static int residual_new(Residual *t, int64_t k) {
    t->k = k;
    t->width = padded(k);
    t->memory = calloc(ROWS * t->width + (2 * k + ROWS + 1) * NARROW + LINE, sizeof(double));
    if (!t->memory) return 0;
    t->h = at_line(t->memory);
    t->negative = t->h + ROWS * t->width;
    t->descent = t->negative + k * NARROW;
    t->residual = t->descent + k * NARROW;
    t->squares = t->residual + ROWS * NARROW;
    return 1;
}

/* Of columns ``from`` and behind, ``count`` ≤ NARROW of them, of one problem, and their W (count, k); Y may be null for
   zero. */
static void form_residual(Residual *t, int64_t is_float, const void *H, int64_t H_row, int64_t H_column, const void *Y,
                          int64_t Y_row, int64_t Y_column, const double *W, int64_t n, int64_t from, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < t->k; j++) t->negative[j * NARROW + i] = -W[i * t->k + j];
    memset(t->descent, 0, t->k * NARROW * sizeof(double));
    memset(t->squares, 0, NARROW * sizeof(double));
    for (int64_t row = 0; row < n; row += ROWS) {
        const int64_t rows = n - row < ROWS ? n - row : ROWS;
        double *r = t->residual;
        FOR_TYPE(is_float, as_double, H, H_row, H_column, row, rows, 0, t->k, t->h, t->width);
        if (Y)
            FOR_TYPE(is_float, as_double, Y, Y_row, Y_column, row, rows, from, count, r, NARROW);
        else
            memset(r, 0, ROWS * NARROW * sizeof(double));
        transposed_product_double(t->h, 1, t->width, t->negative, NARROW, r, NARROW, t->k, rows, count, 0);
        for (int64_t q = 0; q < rows; q++, r += NARROW)
            for EACH(p, padded(count)) AT(t->squares + p) += READ(r + p) * READ(r + p);
        transposed_product_double(t->h, t->width, 1, t->residual, NARROW, t->descent, NARROW, rows, t->k, count, 0);
    }
}
