/* HᵀH and HᵀY in double from matrices of one type of number, REAL; included once for each by products.h.

   Tiles of the result stay in registers while the rows of H and Y go by: for bases of some ten columns that takes a third
   of the time of a general matrix product. The last vector of a row reads into the rows behind it, and what comes of that
   is left out; the last rows of a matrix are copied, since too little lies behind them. */

/* out (rows, LANES·vectors) += Fᵀ T over p rows, F (p, rows) of any strides and T (p, LANES·vectors). */
INLINE void NAME(block)(const REAL *F, int64_t f, int64_t f_column, const REAL *T, int64_t t, double *out, int64_t o,
                        int64_t p, const int rows, const int vectors) {
    Lanes sum[4][BLOCK];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) sum[r][v] = READ(out + r * o + v * LANES);
    for (int64_t q = 0; q < p; q++) {
        Lanes x[BLOCK];
        for (int v = 0; v < vectors; v++) x[v] = NAME(load)(T + q * t + v * LANES);
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < vectors; v++) sum[r][v] += (double)F[q * f + r * f_column] * x[v];
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) AT(out + r * o + v * LANES) = sum[r][v];
}

INLINE void NAME(rows_of_block)(const REAL *F, int64_t f, int64_t f_column, const REAL *T, int64_t t, double *out,
                                int64_t o, int64_t p, int64_t rows, const int vectors) {
    if (rows >= 4)
        NAME(block)(F, f, f_column, T, t, out, o, p, 4, vectors);
    else if (rows == 3)
        NAME(block)(F, f, f_column, T, t, out, o, p, 3, vectors);
    else if (rows == 2)
        NAME(block)(F, f, f_column, T, t, out, o, p, 2, vectors);
    else
        NAME(block)(F, f, f_column, T, t, out, o, p, 1, vectors);
}

/* out (rows, columns padded) += Fᵀ T. With ``upper``, where T is F, what lies left of the diagonal may be left out. */
static void NAME(transposed_product)(const REAL *F, int64_t f, int64_t f_column, const REAL *T, int64_t t,
                                     double *out, int64_t o, int64_t p, int64_t rows, int64_t columns, int upper) {
    for (int64_t start = 0, vectors; start < columns; start += vectors * LANES) {
        vectors = vectors_of_block((columns - start + LANES - 1) / LANES);
        for (int64_t i = 0; i < rows; i += 4) {
            if (upper && start + vectors * LANES <= i) continue;
            const REAL *F_rows = F + i * f_column, *T_columns = T + start;
            double *to = out + i * o + start;
            if (BLOCK >= 4 && vectors == 4)
                NAME(rows_of_block)(F_rows, f, f_column, T_columns, t, to, o, p, rows - i, 4);
            else if (BLOCK >= 3 && vectors == 3)
                NAME(rows_of_block)(F_rows, f, f_column, T_columns, t, to, o, p, rows - i, 3);
            else if (vectors == 2)
                NAME(rows_of_block)(F_rows, f, f_column, T_columns, t, to, o, p, rows - i, 2);
            else
                NAME(rows_of_block)(F_rows, f, f_column, T_columns, t, to, o, p, rows - i, 1);
        }
    }
}

/* The same for T of n rows, the last of which are copied to a buffer of so many columns, padded. */
static void NAME(whole_product)(const REAL *F, int64_t f, int64_t f_column, const REAL *T, int64_t t, double *out,
                                int64_t o, int64_t n, int64_t rows, int64_t columns, int upper, void *buffer) {
    REAL *row = buffer;
    const int64_t wide = padded(columns), beyond = wide - columns;
    /* The rows at the end behind which the matrix has fewer than ``beyond`` numbers: one, but for narrow rows. */
    const int64_t behind = t > 0 ? (beyond + t - 1) / t : n, safe = beyond == 0 ? n : behind < n ? n - behind : 0;
    for (int64_t i = 0; i < rows; i++) memset(out + i * o, 0, wide * sizeof(double));
    NAME(transposed_product)(F, f, f_column, T, t, out, o, safe, rows, columns, upper);
    memset(row, 0, wide * sizeof(REAL));
    for (int64_t q = safe; q < n; q++) {
        memcpy(row, T + q * t, columns * sizeof(REAL));
        NAME(transposed_product)(F + q * f, f, f_column, row, wide, out, o, 1, rows, columns, upper);
    }
}

/* out (rows, columns) with rows of o numbers: ⟨F_i, G_j⟩, rows of p numbers that lie side by side. */
INLINE void NAME(dots_of_block)(const REAL *F, int64_t f, const REAL *G, int64_t g, double *out, int64_t o,
                                int64_t rows, int64_t columns, int64_t p, const int size) {
    Lanes sum[4][4];
    const REAL *F_row[4], *G_row[4];
    for (int r = 0; r < size; r++) { /* beyond the last row: that one again */
        F_row[r] = F + (r < rows ? r : rows - 1) * f;
        G_row[r] = G + (r < columns ? r : columns - 1) * g;
        for (int s = 0; s < size; s++) sum[r][s] = (Lanes){0};
    }
    int64_t q = 0;
    for (; q + LANES <= p; q += LANES)
        for (int s = 0; s < size; s++) {
            const Lanes x = NAME(load)(G_row[s] + q);
            for (int r = 0; r < size; r++) sum[r][s] += x * NAME(load)(F_row[r] + q);
        }
    for (int r = 0; r < size && r < rows; r++)
        for (int s = 0; s < size && s < columns; s++) {
            double total = 0;
            for (int64_t i = q; i < p; i++) total += (double)F_row[r][i] * G_row[s][i];
            out[r * o + s] = total + total_of(sum[r][s]);
        }
}

static void NAME(dots)(const REAL *F, int64_t f, const REAL *G, int64_t g, double *out, int64_t o, int64_t rows,
                       int64_t columns, int64_t p, int upper) {
    const int size = BLOCK == 4 ? 4 : 3;
    for (int64_t i = 0; i < rows; i += size)
        for (int64_t j = 0; j < columns; j += size) {
            if (upper && j + size <= i) continue;
            const REAL *F_rows = F + i * f, *G_rows = G + j * g;
            NAME(dots_of_block)(F_rows, f, G_rows, g, out + i * o + j, o, rows - i, columns - j, p, size);
        }
}

/* HᵀH (k, width) of H (n, k), whose rows or columns lie side by side. */
INLINE void NAME(gram_product)(const REAL *H, int64_t h_row, int64_t h_column, int64_t n, int64_t k, double *gram,
                               void *buffer) {
    const int64_t width = padded(k);
    if (h_column == 1)
        NAME(whole_product)(H, h_row, 1, H, h_row, gram, width, n, k, k, 1, buffer);
    else
        NAME(dots)(H, h_column, H, h_column, gram, width, k, k, n, 1);
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < i; j++) gram[i * width + j] = gram[j * width + i];
}

/* HᵀY of m = last − first columns, into out: (k, padded(m)), or, where ``transposed`` says so, YᵀH, (m, padded(k)). */
INLINE void NAME(cross_product)(const REAL *H, int64_t h_row, int64_t h_column, const void *all, int64_t y_row,
                                int64_t y_column, int64_t n, int64_t first, int64_t last, int64_t k, double *out,
                                void *buffer) {
    const REAL *Y = (const REAL *)all + first * y_column;
    const int64_t m = last - first;
    if (transposed(h_column, y_column))
        NAME(whole_product)(Y, y_row, y_column, H, h_row, out, padded(k), n, m, k, 0, buffer);
    else if (y_column == 1)
        NAME(whole_product)(H, h_row, h_column, Y, y_row, out, padded(m), n, k, m, 0, buffer);
    else
        NAME(dots)(H, h_column, Y, y_column, out, padded(m), k, m, n, 0);
}

/* ‖x‖² of the columns first ≤ j < last of X (n, ·): each in the same way, whatever stands beside it. There is room for
   their number, padded. */
INLINE void NAME(squares)(const REAL *X, int64_t n, int64_t stride_row, int64_t stride_column, double *squares,
                          int64_t first, int64_t last) {
    if (stride_column == 1) {
        const int64_t count = last - first, whole = count / LANES * LANES;
        for (int64_t j = 0; j < count; j += LANES) AT(squares + j) = (Lanes){0};
        for (int64_t i = 0; i < n; i++) {
            const REAL *x = X + i * stride_row + first;
            for (int64_t j = 0; j < whole; j += LANES) {
                const Lanes numbers = NAME(load)(x + j);
                AT(squares + j) += numbers * numbers;
            }
            if (whole < count) {
                REAL part[LANES] = {0};
                memcpy(part, x + whole, (count - whole) * sizeof(REAL));
                const Lanes numbers = NAME(load)(part);
                AT(squares + whole) += numbers * numbers;
            }
        }
        return;
    }
    for (int64_t j = first; j < last; j++) {
        Lanes total = {0};
        const REAL *x = X + j * stride_column;
        int64_t i = 0;
        if (stride_row == 1)
            for (; i + LANES <= n; i += LANES) {
                const Lanes numbers = NAME(load)(x + i);
                total += numbers * numbers;
            }
        for (; i < n; i += LANES) {
            REAL part[LANES] = {0};
            for (int64_t l = 0; l < LANES && i + l < n; l++) part[l] = x[(i + l) * stride_row];
            const Lanes numbers = NAME(load)(part);
            total += numbers * numbers;
        }
        squares[j - first] = total_of(total);
    }
}

/* Some rows and columns of X as double, into rows of ``width`` numbers. */
INLINE void NAME(as_double)(const REAL *X, int64_t x_row, int64_t x_column, int64_t row, int64_t rows, int64_t column,
                            int64_t columns, double *out, int64_t width) {
    X += row * x_row + column * x_column;
    if (x_column == 1)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++) out[i * width + j] = X[i * x_row + j];
    else
        for (int64_t j = 0; j < columns; j++)
            for (int64_t i = 0; i < rows; i++) out[i * width + j] = X[i * x_row + j * x_column];
}

/* Whether a column is zero, and not only its square. */
INLINE int NAME(is_zero)(const REAL *X, int64_t n, int64_t stride_row, int64_t stride_column, int64_t j) {
    for (int64_t i = 0; i < n; i++)
        if (X[i * stride_row + j * stride_column] != 0) return 0;
    return 1;
}
