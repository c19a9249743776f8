/* HALS for one type of number, REAL; included once for each by hals.c. */

#define TILE ((int)(256 / sizeof(REAL))) /* its columns; hals.py knows them, too */
#define MOST (BYTES == 64 ? 4 : 8)       /* vectors of a row at once: sums that wait for nothing but themselves */
#define WHOLE(n, of) (((n) + (of) - 1) / (of) * (of))

/* Some vectors of row i of a tile at their optimum: max(0, C_i − Σ_{j≠i} A_ij x_j) / A_ii. A row without curvature takes
   the step C_i. */
INLINE void NAME(vectors_of_row)(const REAL *a, const REAL *c, REAL *x, int64_t row, int64_t k, int64_t stride,
                                 REAL zero, const int vectors) {
    const REAL own = a[row] > 0 ? 0 : -1, inverse = a[row] > 0 ? 1 / a[row] : 1;
    REAL *xi = x + row * stride;
    NAME(Vector) s[MOST];
    for (int v = 0; v < vectors; v++) s[v] = RV(c + row * stride + v * WIDE) - own * RV(xi + v * WIDE);
    for (int after = 0; after < 2; after++) /* the rows before this one, and those after it */
        for (int64_t j = after ? row + 1 : 0; j < (after ? k : row); j++)
            for (int v = 0; v < vectors; v++) s[v] -= a[j] * RV(x + j * stride + v * WIDE);
    for (int v = 0; v < vectors; v++) {
        s[v] *= inverse;
        V(xi + v * WIDE) = (NAME(Vector))((NAME(Flags))s[v] & (NAME(Flags))(s[v] > (NAME(Vector)){0} + zero));
    }
}

/* Some passes over the rows of X for columns 0 ≤ t < width, whole vectors. A has rows of ``a_row`` numbers. */
INLINE void NAME(sweep)(const REAL *A, int64_t a_row, const REAL *C, REAL *X, int64_t sweeps, int64_t k, int64_t stride,
                        int64_t width, REAL zero) {
    for (int64_t i = 0; i < sweeps * k; i++) {
        const int64_t row = i % k;
        const REAL *a = A + row * a_row;
        for (int64_t t = 0, vectors; t < width; t += vectors * WIDE) {
            const int64_t left = (width - t) / WIDE;
            vectors = left >= MOST ? MOST : left >= 4 ? 4 : left;
            if (vectors == MOST)
                NAME(vectors_of_row)(a, C + t, X + t, row, k, stride, zero, MOST);
            else if (MOST > 4 && vectors == 4)
                NAME(vectors_of_row)(a, C + t, X + t, row, k, stride, zero, 4);
            else if (vectors == 3)
                NAME(vectors_of_row)(a, C + t, X + t, row, k, stride, zero, 3);
            else if (vectors == 2)
                NAME(vectors_of_row)(a, C + t, X + t, row, k, stride, zero, 2);
            else
                NAME(vectors_of_row)(a, C + t, X + t, row, k, stride, zero, 1);
        }
    }
}

/* X ← max(0, x + β(x − last)) and last ← x, where x, of rows of so many numbers, is where the passes ended. */
INLINE void NAME(extrapolate)(const REAL *x, int64_t x_row, REAL *X, REAL *last, REAL beta, int64_t k, int64_t stride,
                              int64_t width, REAL zero) {
    for (int64_t i = 0; i < k; i++)
        for (int64_t t = 0; t < width; t++) {
            const REAL now = x[i * x_row + t], ahead = now + beta * (now - last[i * stride + t]);
            last[i * stride + t] = now;
            X[i * stride + t] = ahead > zero ? ahead : 0;
        }
}

/* Rows of ``width`` numbers from one stride to another. */
INLINE void NAME(copy_rows)(REAL *to, int64_t to_stride, const REAL *from, int64_t from_stride, int64_t rows,
                            int64_t width) {
    for (int64_t i = 0; i < rows; i++) memcpy(to + i * to_stride, from + i * from_stride, width * sizeof(REAL));
}

/* Half an iteration for tiles first ≤ tile < last of a batch, in place.

   A     (B, k, k)
   C     (B, k, N)
   X     (B, k, N) ≥ 0
   past  (B, k, N), where the last step ended, or null: no extrapolation
   beta  (B), how far to go beyond; null with past
   zero  what counts as zero

   A tile is copied into memory of its own, with rows of whole vectors. Rows of C and X that are a power of two apart would
   push each other out of the cache.

   Returns GOOD or NO_MEMORY. */
KERNEL(NAME(diffnmf_hals_half))(const REAL *A, const REAL *C, REAL *X, REAL *past, const REAL *beta, int64_t sweeps,
                                double zero, int64_t k, int64_t N, int64_t first, int64_t last) {
    const int64_t tiles = (N + TILE - 1) / TILE;
    void *memory = calloc(2 * (size_t)k * TILE * sizeof(REAL) + LINE, 1);
    if (!memory) return NO_MEMORY;
    REAL *c = at_line(memory), *x = c + k * TILE;
    for (int64_t at = first; at < last; at++) {
        const int64_t problem = at / tiles, start = at % tiles * TILE, offset = problem * k * N + start;
        const int64_t width = N - start < TILE ? N - start : TILE, wide = WHOLE(width, WIDE);
        NAME(copy_rows)(c, wide, C + offset, N, k, width);
        NAME(copy_rows)(x, wide, X + offset, N, k, width);
        NAME(sweep)(A + problem * k * k, k, c, x, sweeps, k, wide, wide, (REAL)zero);
        if (past)
            NAME(extrapolate)(x, wide, X + offset, past + offset, beta[problem], k, N, width, (REAL)zero);
        else
            NAME(copy_rows)(X + offset, N, x, wide, k, width);
    }
    free(memory);
    return GOOD;
}

/* ---- Whole iterations of a problem, in memory whose rows are padded with zeros to whole vectors, and their number to a
   multiple of ROWS: no loop has a remainder. */

#define ROWS 4
#define PAIRS (BLOCK == 4 ? 4 : 2) /* of rows, in inner products with each of ROWS others */

typedef struct {
    int64_t n, m, k, rows;  /* rows: k, padded */
    int64_t wide_n, wide_m; /* padded */
    REAL *Y, *Yt;           /* n × wide_m and m × wide_n */
    REAL *W, *H;            /* rows × wide_m and rows × wide_n: the factors, H transposed */
    REAL *W_past, *H_past;
    REAL *A, *C;            /* rows × rows and rows × the wider of the two */
    double *columns;        /* k × two vectors of a factor */
    void *memory;
} NAME(Small);

static int NAME(small_new)(NAME(Small) *s, int64_t n, int64_t m, int64_t k) {
    s->n = n;
    s->m = m;
    s->k = k;
    s->rows = WHOLE(k, ROWS);
    s->wide_n = WHOLE(n, WIDE);
    s->wide_m = WHOLE(m, WIDE);
    const int64_t wider = s->wide_n > s->wide_m ? s->wide_n : s->wide_m;
    const size_t sizes[] = {n * s->wide_m, m * s->wide_n, s->rows * s->wide_m, s->rows * s->wide_n, s->rows * s->wide_m,
                            s->rows * s->wide_n, WHOLE(s->rows * s->rows, WIDE), s->rows * wider};
    REAL **parts[] = {&s->Y, &s->Yt, &s->W, &s->H, &s->W_past, &s->H_past, &s->A, &s->C};
    size_t total = 0;
    for (int i = 0; i < 8; i++) total += sizes[i];
    s->memory = calloc(total * sizeof(REAL) + k * 2 * BYTES + LINE, 1);
    if (!s->memory) return 0;
    REAL *next = at_line(s->memory);
    for (int i = 0; i < 8; next += sizes[i++]) *parts[i] = next;
    s->columns = (double *)next;
    return 1;
}

INLINE void NAME(read_problem)(NAME(Small) *s, const REAL *Y, int64_t y_row, int64_t y_column, const REAL *W,
                               const REAL *Ht) {
    /* In squares, so that the lines of all three matrices stay in the cache. */
    for (int64_t top = 0; top < s->n; top += WIDE)
        for (int64_t left = 0; left < s->m; left += WIDE)
            for (int64_t i = top; i < s->n && i < top + WIDE; i++)
                for (int64_t j = left; j < s->m && j < left + WIDE; j++)
                    s->Y[i * s->wide_m + j] = s->Yt[j * s->wide_n + i] = Y[i * y_row + j * y_column];
    NAME(copy_rows)(s->W, s->wide_m, W, s->m, s->k, s->m);
    NAME(copy_rows)(s->H, s->wide_n, Ht, s->n, s->k, s->n);
}

/* ROWS rows of out = F T, for some vectors of a row: F (ROWS, p) and T (p, ·), with their strides. */
INLINE void NAME(product_block)(const REAL *F, int64_t f, const REAL *T, int64_t t, REAL *out, int64_t o, int64_t p,
                                const int vectors) {
    NAME(Vector) sum[ROWS][BLOCK] = {{{0}}};
    for (int64_t q = 0; q < p; q++)
        for (int v = 0; v < vectors; v++) {
            const NAME(Vector) x = RV(T + q * t + v * WIDE);
            for (int r = 0; r < ROWS; r++) sum[r][v] += F[r * f + q] * x;
        }
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < vectors; v++) V(out + r * o + v * WIDE) = sum[r][v];
}

/* out (rows, width) = F (rows, p) T (p, width). */
INLINE void NAME(product)(const REAL *F, int64_t f, const REAL *T, int64_t t, REAL *out, int64_t o, int64_t rows,
                          int64_t p, int64_t width) {
    for (int64_t start = 0, vectors; start < width; start += vectors * WIDE) {
        const int64_t left = (width - start) / WIDE;
        vectors = vectors_of_block(left);
        for (int64_t i = 0; i < rows; i += ROWS) {
            const REAL *F_rows = F + i * f, *columns = T + start;
            REAL *to = out + i * o + start;
            if (BLOCK >= 4 && vectors == 4)
                NAME(product_block)(F_rows, f, columns, t, to, o, p, 4);
            else if (BLOCK >= 3 && vectors == 3)
                NAME(product_block)(F_rows, f, columns, t, to, o, p, 3);
            else if (vectors == 2)
                NAME(product_block)(F_rows, f, columns, t, to, o, p, 2);
            else
                NAME(product_block)(F_rows, f, columns, t, to, o, p, 1);
        }
    }
}

INLINE REAL NAME(total)(NAME(Vector) v) {
    REAL sum = 0;
    for (int l = 0; l < WIDE; l++) sum += v[l];
    return sum;
}

/* A (rows, rows) = FFᵀ, F (rows, width). */
INLINE void NAME(gram)(const REAL *F, int64_t rows, int64_t width, REAL *A) {
    for (int64_t i = 0; i < rows; i += ROWS)
        for (int64_t j = 0; j < i + ROWS; j += PAIRS) {
            NAME(Vector) sum[ROWS][PAIRS] = {{{0}}};
            for (int64_t p = 0; p < width; p += WIDE)
                for (int s = 0; s < PAIRS; s++) {
                    const NAME(Vector) x = RV(F + (j + s) * width + p);
                    for (int r = 0; r < ROWS; r++) sum[r][s] += x * RV(F + (i + r) * width + p);
                }
            for (int r = 0; r < ROWS; r++)
                for (int s = 0; s < PAIRS; s++)
                    A[(i + r) * rows + j + s] = A[(j + s) * rows + i + r] = NAME(total)(sum[r][s]);
        }
}

/* ⟨x, y⟩ of two rows, in double from vector to vector. */
INLINE double NAME(dot)(const REAL *x, const REAL *y, int64_t width) {
    double total = 0;
    for (int64_t start = 0; start < width; start += 16 * WIDE) {
        const int64_t end = start + 16 * WIDE < width ? start + 16 * WIDE : width;
        NAME(Vector) sum = {0};
        for (int64_t p = start; p < end; p += WIDE) sum += RV(x + p) * RV(y + p);
        total += NAME(total)(sum);
    }
    return total;
}

/* What some rows of T − FᵀX add to its square, in a block of columns; x (k, vectors · LANES) are those of X. */
INLINE Lanes NAME(residual_block)(const REAL *F, int64_t f, const REAL *T, int64_t t, const double *x, int64_t k,
                                  const int rows, const int vectors) {
    Lanes rest[ROWS][2], square = {0};
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) rest[r][v] = NAME(load)(T + r * t + v * LANES);
    for (int64_t i = 0; i < k; i++)
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < vectors; v++)
                rest[r][v] -= (double)F[i * f + r] * READ(x + (i * vectors + v) * LANES);
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) square += rest[r][v] * rest[r][v];
    return square;
}

INLINE Lanes NAME(residual_columns)(const REAL *F, int64_t f, const REAL *T, int64_t t, const double *x, int64_t k,
                                    int64_t p, const int vectors) {
    Lanes square = {0};
    int64_t q = 0;
    for (; q + ROWS <= p; q += ROWS) square += NAME(residual_block)(F + q, f, T + q * t, t, x, k, ROWS, vectors);
    for (; q < p; q++) square += NAME(residual_block)(F + q, f, T + q * t, t, x, k, 1, vectors);
    return square;
}

/* ‖T − FᵀX‖² in double, F (k, p), T (p, width) and X (k, width). */
static double NAME(squared_residual)(const REAL *F, int64_t f, const REAL *T, const REAL *X, int64_t k, int64_t p,
                                     int64_t width, double *columns) {
    double total = 0;
    for (int64_t start = 0, vectors; start < width; start += vectors * LANES) {
        vectors = start + 2 * LANES <= width ? 2 : 1;
        for (int64_t i = 0; i < k; i++)
            for (int v = 0; v < vectors; v++)
                AT(columns + (i * vectors + v) * LANES) = NAME(load)(X + i * width + start + v * LANES);
        if (vectors == 2)
            total += total_of(NAME(residual_columns)(F, f, T + start, width, columns, k, p, 2));
        else
            total += total_of(NAME(residual_columns)(F, f, T + start, width, columns, k, p, 1));
    }
    return total;
}

/* ‖T − FᵀX‖² from the Gram matrix; where that is mostly rounding, from the residual itself. */
INLINE double NAME(squared_error)(const NAME(Small) *s, const REAL *F, int64_t f, const REAL *T, const REAL *X,
                                  int64_t p, int64_t width, double square, double trusted) {
    double error = square;
    for (int64_t i = 0; i < s->k; i++) {
        const REAL *x = X + i * width;
        error -= 2 * NAME(dot)(s->C + i * width, x, width);
        error += s->A[i * s->rows + i] * NAME(dot)(x, x, width);
        for (int64_t j = 0; j < i; j++) error += 2 * s->A[i * s->rows + j] * NAME(dot)(x, X + j * width, width);
    }
    return error > trusted * square ? error : NAME(squared_residual)(F, f, T, X, s->k, p, width, s->columns);
}

/* How far extrapolation goes, for each problem. */
typedef struct {
    REAL *beta, *cap, *used;
    double *objective, growth, cap_growth, shrinkage;
} NAME(Momentum);

INLINE double NAME(relative)(double error, double square) {
    return square > 0 ? sqrt(fmax(error, 0) / square) : error > 0 ? INFINITY : 0;
}

/* Note the relative error of an iterate, and choose the next extrapolation in its light, as hals.py does. */
INLINE void NAME(record)(const NAME(Small) *s, const REAL *F, int64_t f, const REAL *T, const REAL *X, int64_t p,
                         int64_t width, double square, double trusted, double *error, const NAME(Momentum) *momentum,
                         int64_t b) {
    const double rest = NAME(squared_error)(s, F, f, T, X, p, width, square, trusted);
    *error = NAME(relative)(rest, square);
    if (!momentum) return;
    REAL *beta = momentum->beta + b, *cap = momentum->cap + b;
    double *objective = momentum->objective + b;
    const REAL grown = (REAL)fmin(momentum->growth * *beta, *cap);
    const int rose = *error * *error > *objective;
    momentum->used[b] = rose ? 0 : grown;
    *cap = rose ? *beta : (REAL)fmin(momentum->cap_growth * *cap, 1);
    *beta = rose ? (REAL)(*beta / momentum->shrinkage) : grown;
    *objective = *error * *error;
}

/* What is the same for all problems of a run. */
typedef struct {
    int64_t W_sweeps, H_sweeps, most, every, revives;
    double zero, trusted, tol, least, rounding;
} NAME(Rules);

/* One iteration, W before H, as in factorization/alternating.py and hals.py. ``error`` becomes that of the iterate before
   it where n ≥ m, otherwise after it. */
static void NAME(iterate)(NAME(Small) *s, const NAME(Rules) *rules, const NAME(Momentum) *momentum, double square,
                          double *error, int64_t b) {
    const int64_t n = s->n, m = s->m, k = s->k;
    for (int half = 0; half < 2; half++) {
        const int64_t p = half ? m : n, wide_p = half ? s->wide_m : s->wide_n;
        const int64_t width = half ? s->wide_n : s->wide_m;
        const REAL *F = half ? s->W : s->H, *T = half ? s->Yt : s->Y;
        REAL *X = half ? s->H : s->W, *past = half ? s->H_past : s->W_past;
        NAME(gram)(F, s->rows, wide_p, s->A);
        NAME(product)(F, wide_p, T, width, s->C, width, s->rows, p, width);
        if (half == 0 && n >= m)
            NAME(record)(s, F, wide_p, T, X, p, width, square, rules->trusted, error, momentum, b);
        NAME(sweep)(s->A, s->rows, s->C, X, half ? rules->H_sweeps : rules->W_sweeps, k, width, width,
                    (REAL)rules->zero);
        if (momentum) NAME(extrapolate)(X, width, X, past, momentum->used[b], k, width, width, (REAL)rules->zero);
        if (half == 1 && n < m)
            NAME(record)(s, F, wide_p, T, X, p, width, square, rules->trusted, error, momentum, b);
    }
}

/* ∇ᴾ of ½⟨X, AX⟩ − ⟨C, X⟩ at X ≥ 0 (k, width): adds ‖∇ᴾ‖² to ``norm`` and ‖C‖² to ``size``. A and C are those of s. */
INLINE void NAME(projected_gradient)(const NAME(Small) *s, const REAL *X, int64_t width, double *norm, double *size) {
    for (int64_t i = 0; i < s->k; i++) {
        const REAL *c = s->C + i * width, *x = X + i * width;
        *size += NAME(dot)(c, c, width);
        for (int64_t start = 0; start < width; start += WIDE) {
            NAME(Vector) gradient = -RV(c + start);
            for (int64_t j = 0; j < s->k; j++) gradient += s->A[i * s->rows + j] * RV(X + j * width + start);
            REAL total = 0;
            for (int l = 0; l < WIDE; l++) {
                const REAL g = x[start + l] > 0 || gradient[l] < 0 ? gradient[l] : 0;
                total += g * g;
            }
            *norm += total;
        }
    }
}

/* The relative error of an iterate, ‖∇ᴾ‖ and ‖(HᵀY, YWᵀ)‖, see factorization/stationarity.py. */
static double NAME(examine)(NAME(Small) *s, const NAME(Rules) *rules, double square, double *norm, double *size) {
    *norm = *size = 0;
    NAME(gram)(s->H, s->rows, s->wide_n, s->A);
    NAME(product)(s->H, s->wide_n, s->Y, s->wide_m, s->C, s->wide_m, s->rows, s->n, s->wide_m);
    const double rest =
        NAME(squared_error)(s, s->H, s->wide_n, s->Y, s->W, s->n, s->wide_m, square, rules->trusted);
    NAME(projected_gradient)(s, s->W, s->wide_m, norm, size);
    NAME(gram)(s->W, s->rows, s->wide_m, s->A);
    NAME(product)(s->W, s->wide_m, s->Yt, s->wide_n, s->C, s->wide_n, s->rows, s->m, s->wide_n);
    NAME(projected_gradient)(s, s->H, s->wide_n, norm, size);
    *norm = sqrt(*norm);
    *size = sqrt(*size);
    return NAME(relative)(rest, square);
}

/* Whether a row of X (k, width) is zero. */
INLINE int NAME(has_dead_row)(const REAL *X, int64_t k, int64_t width) {
    for (int64_t i = 0; i < k; i++) {
        int alive = 0;
        for (int64_t p = 0; p < width && !alive; p++) alive = X[i * width + p] != 0;
        if (!alive) return 1;
    }
    return 0;
}

/* What a check does to a problem: its state then. ``start`` is what tol is relative to. */
static int64_t NAME(check)(NAME(Small) *s, const NAME(Rules) *rules, int64_t state, int64_t iteration, double square,
                           double *start, double *error) {
    const int final = iteration == rules->most;
    const int looks = rules->revives && iteration && !final && state != REVIVED;
    if (looks && (NAME(has_dead_row)(s->W, s->k, s->wide_m) || NAME(has_dead_row)(s->H, s->k, s->wide_n))) return DEAD;
    if (rules->tol == 0 && iteration && !final) return GOING; /* iterations tell the error */
    double norm, size;
    *error = NAME(examine)(s, rules, square, &norm, &size);
    if (rules->tol == 0) return GOING;
    if (!iteration)
        *start = norm > rules->least * size ? norm : rules->least * size;
    else if (iteration <= rules->every)
        *start = *start < size ? *start : size;
    const double wanted = isfinite(rules->tol * *start) ? rules->tol * *start : 0;
    return norm <= fmax(wanted, rules->rounding * size) ? CONVERGED : GOING;
}

/* Small problems first ≤ b < last without penalties, from where they are up to iteration ``until``, in place.

   Y               (B, n, m), with its strides
   square          (B), ‖Y‖²
   W, Ht           (B, k, m) and (B, k, n)
   W_past, H_past  likewise; null without extrapolation, as the next four
   beta, cap, used (B), see hals.py
   objective       (B)
   iterations      (B): how many have been made, at least ``from`` where not CONVERGED
   states          (B): GOING; DUE, a check comes first; REVIVED, one without a look for dead components; DEAD, where that
                   look found one; CONVERGED, where nothing is left to do
   starts, latest  (B): what tol is relative to, and the last error that is known
   errors          (until − from + 1, B): of the iterates from ``from`` on; what is not known repeats the last, and what
                   was there before the iterate at hand stays
   closing         whether a check that is due at ``until`` is made; otherwise it stays due
   most, every     iterations at the most, and from one check to the next
   trusted         the squared relative error below which the residual itself is formed
   least, rounding see stationarity.py
   revives         whether a check looks for dead components */
KERNEL(NAME(diffnmf_hals_run))(const REAL *Y, int64_t y_problem, int64_t y_row, int64_t y_column, const double *square,
                               REAL *W, REAL *Ht, REAL *W_past, REAL *H_past, REAL *beta, REAL *cap, REAL *used,
                               double *objective, int64_t *iterations, int64_t *states, double *starts, double *latest,
                               double *errors, int64_t from, int64_t until, int64_t closing, int64_t most,
                               int64_t every, int64_t revives, int64_t W_sweeps, int64_t H_sweeps, double growth,
                               double cap_growth, double shrinkage, double zero, double trusted, double tol,
                               double least, double rounding, int64_t batch, int64_t n, int64_t m, int64_t k,
                               int64_t first, int64_t last) {
    NAME(Small) s;
    const NAME(Momentum) momentum = {beta, cap, used, objective, growth, cap_growth, shrinkage};
    const NAME(Rules) rules = {W_sweeps, H_sweeps, most, every, revives, zero, trusted, tol, least, rounding};
    if (!NAME(small_new)(&s, n, m, k)) return NO_MEMORY;
    for (int64_t b = first; b < last; b++) {
        int64_t at = iterations[b], state = states[b];
        double error = latest[b], *row = errors + b; /* of iterate i: row[(i − from) · batch] */
        const int idle = state == CONVERGED || state == DEAD || (at >= until && !(closing && state != GOING));
        if (!idle) {
            NAME(read_problem)(&s, Y + b * y_problem, y_row, y_column, W + b * k * m, Ht + b * k * n);
            if (W_past) {
                NAME(copy_rows)(s.W_past, s.wide_m, W_past + b * k * m, m, k, m);
                NAME(copy_rows)(s.H_past, s.wide_n, H_past + b * k * n, n, k, n);
            }
        }
        if (at >= from) row[(at - from) * batch] = error;
        while (!idle) {
            if (state != GOING) {
                if (at >= until && !closing) break;
                state = NAME(check)(&s, &rules, state, at, square[b], starts + b, &error);
                row[(at - from) * batch] = error;
                if (state != GOING) break;
            }
            if (at >= until) break;
            NAME(iterate)(&s, &rules, W_past ? &momentum : NULL, square[b], &error, b);
            if (n >= m) row[(at - from) * batch] = error;
            row[(++at - from) * batch] = error;
            if (at % every == 0 || at == most) state = DUE;
        }
        for (int64_t i = at < from ? from : at; i <= until; i++) row[(i - from) * batch] = error;
        iterations[b] = at;
        states[b] = state;
        latest[b] = error;
        if (idle) continue;
        NAME(copy_rows)(W + b * k * m, m, s.W, s.wide_m, k, m);
        NAME(copy_rows)(Ht + b * k * n, n, s.H, s.wide_n, k, n);
        if (W_past) {
            NAME(copy_rows)(W_past + b * k * m, m, s.W_past, s.wide_m, k, m);
            NAME(copy_rows)(H_past + b * k * n, n, s.H_past, s.wide_n, k, n);
        }
    }
    free(s.memory);
    return GOOD;
}

#undef ROWS
#undef PAIRS
#undef WHOLE
#undef MOST
#undef TILE
