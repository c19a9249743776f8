/* HALS for one type of number, REAL; included once for each by hals.c. */

typedef REAL NAME(Vector) __attribute__((vector_size(64), aligned(sizeof(REAL)), may_alias));
#define WIDE ((int)(64 / sizeof(REAL)))
#define VECTORS 4 /* of a tile: as many as leave registers for what is multiplied */
#define TILE (VECTORS * WIDE)
#define V(p) (*(NAME(Vector) *)(p))
#define RV(p) (*(const NAME(Vector) *)(p))

/* Row i of a tile at its optimum: max(0, C_i − Σ_{j≠i} A_ij x_j) / A_ii. A row without curvature takes the step C_i. */
INLINE void NAME(row_of_tile)(const REAL *a, REAL inverse, int alive, const REAL *c, REAL *x, int64_t row, int64_t k,
                              int64_t stride, int64_t width, REAL zero) {
    REAL *xi = x + row * stride, sum[TILE];
    if (width == TILE) {
        NAME(Vector) s[VECTORS];
        for (int v = 0; v < VECTORS; v++) s[v] = RV(c + row * stride + v * WIDE);
        for (int64_t j = 0; j < k; j++) {
            const REAL f = j == row ? (alive ? 0 : -1) : a[j];
            const REAL *xj = x + j * stride;
            for (int v = 0; v < VECTORS; v++) s[v] -= f * RV(xj + v * WIDE);
        }
        for (int v = 0; v < VECTORS; v++) V(sum + v * WIDE) = s[v] * inverse;
    } else {
        for (int64_t t = 0; t < width; t++) sum[t] = c[row * stride + t];
        for (int64_t j = 0; j < k; j++) {
            const REAL f = j == row ? (alive ? 0 : -1) : a[j];
            for (int64_t t = 0; t < width; t++) sum[t] -= f * x[j * stride + t];
        }
        for (int64_t t = 0; t < width; t++) sum[t] *= inverse;
    }
    for (int64_t t = 0; t < width; t++) xi[t] = sum[t] > zero ? sum[t] : 0;
}

/* Some passes over the rows of X, then X ← max(0, X + β(X − last)) and last ← X, for columns first ≤ t < first + width. */
INLINE void NAME(tile)(const REAL *A, const REAL *C, REAL *X, REAL *last, REAL beta, int64_t sweeps, int64_t k, int64_t N,
                       int64_t first, int64_t width, REAL zero) {
    const REAL *c = C + first;
    REAL *x = X + first;
    for (int64_t sweep = 0; sweep < sweeps; sweep++)
        for (int64_t i = 0; i < k; i++) {
            const REAL diagonal = A[i * k + i];
            NAME(row_of_tile)(A + i * k, diagonal > 0 ? 1 / diagonal : 1, diagonal > 0, c, x, i, k, N, width, zero);
        }
    if (!last) return;
    for (int64_t i = 0; i < k; i++) {
        REAL *xi = x + i * N, *li = last + first + i * N;
        for (int64_t t = 0; t < width; t++) {
            const REAL now = xi[t], ahead = now + beta * (now - li[t]);
            li[t] = now;
            xi[t] = ahead > zero ? ahead : 0;
        }
    }
}

/* Half an iteration for tiles first ≤ tile < last of a batch, in place.

   A     (B, k, k)
   C     (B, k, N)
   X     (B, k, N) ≥ 0
   past  (B, k, N), where the last step ended, or null: no extrapolation
   beta  (B), how far to go beyond; null with past
   zero  what counts as zero */
EXPORT CLONES int NAME(diffnmf_hals_half)(const REAL *A, const REAL *C, REAL *X, REAL *past, const REAL *beta,
                                          int64_t sweeps, double zero, int64_t k, int64_t N, int64_t first,
                                          int64_t last) {
    const int64_t tiles = (N + TILE - 1) / TILE;
    for (int64_t at = first; at < last; at++) {
        const int64_t problem = at / tiles, start = at % tiles * TILE, width = N - start < TILE ? N - start : TILE;
        const int64_t offset = problem * k * N;
        NAME(tile)(A + problem * k * k, C + offset, X + offset, past ? past + offset : NULL, past ? beta[problem] : 0,
                   sweeps, k, N, start, width, (REAL)zero);
    }
    return GOOD;
}

/* out (k, N) = F (k, p) T (p, N), T with its strides; and A (k, k) = FFᵀ. */
INLINE void NAME(products)(const REAL *F, const REAL *T, int64_t t_row, int64_t t_column, int64_t k, int64_t p, int64_t N,
                           REAL *A, REAL *out) {
    memset(A, 0, k * k * sizeof(REAL));
    memset(out, 0, k * N * sizeof(REAL));
    for (int64_t i = 0; i < k; i++) {
        const REAL *f = F + i * p;
        REAL *o = out + i * N;
        if (t_column == 1)
            for (int64_t q = 0; q < p; q++)
                for (int64_t t = 0; t < N; t++) o[t] += f[q] * T[q * t_row + t];
        else
            for (int64_t t = 0; t < N; t++) {
                REAL part[WIDE] = {0};
                const REAL *column = T + t * t_column;
                int64_t q = 0;
                for (; q + WIDE <= p; q += WIDE) V(part) += RV(f + q) * RV(column + q);
                REAL total = 0;
                for (; q < p; q++) total += f[q] * column[q];
                for (int l = 0; l < WIDE; l++) total += part[l];
                o[t] = total;
            }
        for (int64_t j = 0; j <= i; j++) {
            const REAL *g = F + j * p;
            REAL part[WIDE] = {0}, total = 0;
            int64_t q = 0;
            for (; q + WIDE <= p; q += WIDE) V(part) += RV(f + q) * RV(g + q);
            for (; q < p; q++) total += f[q] * g[q];
            for (int l = 0; l < WIDE; l++) total += part[l];
            A[i * k + j] = A[j * k + i] = total;
        }
    }
}

/* ‖T − FᵀX‖² from the Gram matrix; where that is mostly rounding, from the residual itself. */
INLINE double NAME(squared_error)(const REAL *F, const REAL *T, int64_t t_row, int64_t t_column, const REAL *A,
                                  const REAL *C, const REAL *X, int64_t k, int64_t p, int64_t N, double square,
                                  double trusted) {
    double error = square;
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < k; j++) {
            double total = 0;
            for (int64_t t = 0; t < N; t++) total += (double)X[i * N + t] * X[j * N + t];
            error += A[i * k + j] * total;
        }
    for (int64_t t = 0; t < k * N; t++) error -= 2 * (double)C[t] * X[t];
    if (error > trusted * square) return error;
    error = 0;
    for (int64_t q = 0; q < p; q++)
        for (int64_t t = 0; t < N; t++) {
            double rest = T[q * t_row + t * t_column];
            for (int64_t i = 0; i < k; i++) rest -= (double)F[i * p + q] * X[i * N + t];
            error += rest * rest;
        }
    return error;
}

/* How far extrapolation goes, for each problem; beta is null without it. */
typedef struct {
    REAL *beta, *cap, *used;
    double *objective, growth, cap_growth, shrinkage;
} NAME(Momentum);

/* Note the error of an iterate, and choose the next extrapolation in its light, as hals.py does. */
INLINE void NAME(record)(const REAL *F, const REAL *T, int64_t t_row, int64_t t_column, const REAL *A, const REAL *C,
                         const REAL *X, int64_t k, int64_t p, int64_t N, double square, double trusted, double *error,
                         const NAME(Momentum) *momentum, int64_t b) {
    const double rest = NAME(squared_error)(F, T, t_row, t_column, A, C, X, k, p, N, square, trusted);
    *error = square > 0 ? sqrt(fmax(rest, 0) / square) : rest > 0 ? INFINITY : 0;
    if (!momentum->beta) return;
    REAL *beta = momentum->beta + b, *cap = momentum->cap + b;
    double *objective = momentum->objective + b;
    const double now = *error * *error;
    const REAL grown = (REAL)fmin(momentum->growth * *beta, *cap);
    const int rose = now > *objective;
    momentum->used[b] = rose ? 0 : grown;
    *cap = rose ? *beta : (REAL)fmin(momentum->cap_growth * *cap, 1);
    *beta = rose ? (REAL)(*beta / momentum->shrinkage) : grown;
    *objective = now;
}

/* Whole iterations of small problems first ≤ b < last, W before H, as in factorization/alternating.py and hals.py.

   Y                     (B, n, m), with its strides, of which that of the rows or that of the columns is 1
   square                (B), ‖Y‖²
   W, Ht                 (B, k, m) and (B, k, n)
   W_past, H_past        likewise; null without extrapolation, as the next four
   beta, cap, used       (B), see hals.py
   objective             (B)
   errors                (iterations, B): the relative errors, of the iterates before the iteration where n ≥ m, else after
   trusted               the squared relative error below which the residual itself is formed */
EXPORT CLONES int NAME(diffnmf_hals_iterations)(const REAL *Y, int64_t y_problem, int64_t y_row, int64_t y_column,
                                                const double *square, REAL *W, REAL *Ht, REAL *W_past,
                                                REAL *H_past, REAL *beta, REAL *cap, REAL *used, double *objective,
                                                double *errors, int64_t iterations, int64_t W_sweeps, int64_t H_sweeps,
                                                double growth, double cap_growth, double shrinkage, double zero,
                                                double trusted, int64_t batch, int64_t n, int64_t m, int64_t k,
                                                int64_t first, int64_t last) {
    const int64_t longer = n > m ? n : m;
    REAL *A = malloc((k * k + k * longer) * sizeof(REAL)), *C = A + k * k;
    const NAME(Momentum) momentum = {W_past ? beta : NULL, cap, used, objective, growth, cap_growth, shrinkage};
    if (!A) return NO_MEMORY;
    for (int64_t b = first; b < last; b++) {
        const REAL *y = Y + b * y_problem;
        REAL *w = W + b * k * m, *h = Ht + b * k * n;
        for (int64_t iteration = 0; iteration < iterations; iteration++)
            for (int half = 0; half < 2; half++) {
                const int64_t p = half ? m : n, N = half ? n : m, t_row = half ? y_column : y_row, t_column = half ? y_row : y_column;
                const REAL *fixed = half ? w : h;
                REAL *x = half ? h : w, *past = !W_past ? NULL : half ? H_past + b * k * n : W_past + b * k * m;
                NAME(products)(fixed, y, t_row, t_column, k, p, N, A, C);
                double *error = errors + iteration * batch + b;
                if (half == 0 && n >= m)
                    NAME(record)(fixed, y, t_row, t_column, A, C, x, k, p, N, square[b], trusted, error, &momentum, b);
                const REAL step = past ? used[b] : 0;
                for (int64_t start = 0; start < N; start += TILE)
                    NAME(tile)(A, C, x, past, step, half ? H_sweeps : W_sweeps, k, N, start,
                               N - start < TILE ? N - start : TILE, (REAL)zero);
                if (half == 1 && n < m)
                    NAME(record)(fixed, y, t_row, t_column, A, C, x, k, p, N, square[b], trusted, error, &momentum, b);
            }
    }
    free(A);
    return GOOD;
}

#undef WIDE
#undef VECTORS
#undef TILE
#undef V
#undef RV
