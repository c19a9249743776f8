/* Weighted half-steps for one type of number, REAL; included once for each by weighted_sweep.c.

   The residual of a slice, WIDE columns of T with all their rows, stays in the second cache. Rows of X go four at a time: a
   pass over the residual gives the slopes of four, and of all Gram matrices k × k only the blocks 4 × 4 on the diagonal are
   formed. The columns go side by side through a vector: what is a number for one column is a vector here. */

#include "tiles.h"

#define PAIRS 10 /* of four rows, a ≤ b */

/* Rows of WIDE numbers, but for F; p is padded to a multiple of four, and X to whole blocks of four rows. */
typedef struct {
    int64_t k, p, rows, blocks; /* rows: p before it was padded */
    REAL *F;                    /* blocks × p × 4 */
    REAL *V, *R;                /* p: weights; FᵀX − T */
    REAL *X;                    /* 4 blocks */
    REAL *gram;                 /* PAIRS blocks */
    void *memory;
} NAME(Slice);

/* F (k, p), T and V (p, N) of a batch, with their strides. */
typedef struct {
    const REAL *F, *T, *V;
    int64_t t_problem, t_row, t_column, v_problem, v_row, v_column, N;
} NAME(Given);

static int NAME(slice_new)(NAME(Slice) *s, int64_t k, int64_t p) {
    s->k = k;
    s->rows = p;
    s->p = WHOLE_ROWS(p);
    s->blocks = WHOLE_ROWS(k) / 4;
    const size_t row = WIDE, sizes[] = {s->blocks * s->p * 4, s->p * row, s->p * row, s->blocks * 4 * row,
                                        s->blocks * PAIRS * row};
    REAL **parts[] = {&s->F, &s->V, &s->R, &s->X, &s->gram};
    size_t total = LINE;
    for (int i = 0; i < 5; i++) total += sizes[i];
    s->memory = calloc(total, sizeof(REAL));
    if (!s->memory) return 0;
    REAL *next = at_line(s->memory);
    for (int i = 0; i < 5; next += sizes[i++]) *parts[i] = next;
    return 1;
}

/* The F of a problem, four rows side by side. */
static void NAME(take_factor)(NAME(Slice) *s, const REAL *F) {
    for (int64_t a = 0; a < s->k; a++)
        for (int64_t i = 0; i < s->rows; i++) s->F[(a / 4 * s->p + i) * 4 + a % 4] = F[a * s->rows + i];
}

/* Some columns of T or V into rows of WIDE numbers; zeros beside them. */
static void NAME(copy_slice)(const NAME(Slice) *s, REAL *slice, const REAL *T, int64_t t_row, int64_t t_column,
                             int64_t columns) {
    if (columns < WIDE) memset(slice, 0, s->rows * WIDE * sizeof(REAL));
    memset(slice + s->rows * WIDE, 0, (s->p - s->rows) * WIDE * sizeof(REAL));
    if (t_column == 1 && columns == WIDE)
        for (int64_t i = 0; i < s->rows; i++) {
            __builtin_prefetch(T + (i + CHUNK / 2) * t_row);
            V(slice + i * WIDE) = RV(T + i * t_row);
        }
    else
        for (int64_t i = 0; i < s->rows; i += CHUNK)
            for (int64_t j = 0; j < columns; j++)
                for (int64_t r = i; r < LESS(s->rows, i + CHUNK); r++)
                    slice[r * WIDE + j] = T[r * t_row + j * t_column];
}

/* Some columns, from start on, of problem b, whose F has been taken; and their residual R = FᵀX − T. */
static void NAME(take_columns)(NAME(Slice) *s, const NAME(Given) *given, const REAL *X, int64_t b, int64_t start,
                               int64_t columns) {
    memset(s->X, 0, s->blocks * 4 * WIDE * sizeof(REAL));
    for (int64_t a = 0; a < s->k; a++)
        memcpy(s->X + a * WIDE, X + (b * s->k + a) * given->N + start, columns * sizeof(REAL));
    const REAL *T = given->T + b * given->t_problem + start * given->t_column;
    const REAL *weights = given->V + b * given->v_problem + start * given->v_column;
    NAME(copy_slice)(s, s->R, T, given->t_row, given->t_column, columns);
    NAME(copy_slice)(s, s->V, weights, given->v_row, given->v_column, columns);
    for (int64_t i = 0; i < s->p; i += 4) {
        NAME(Vector) r[4];
        for (int j = 0; j < 4; j++) r[j] = -RV(s->R + (i + j) * WIDE);
        for (int64_t block = 0; block < s->blocks; block++) {
            const REAL *f = s->F + (block * s->p + i) * 4;
            for (int a = 0; a < 4; a++) {
                const NAME(Vector) x = RV(s->X + (4 * block + a) * WIDE);
                for (int j = 0; j < 4; j++) r[j] += f[4 * j + a] * x;
            }
        }
        for (int j = 0; j < 4; j++) V(s->R + (i + j) * WIDE) = r[j];
    }
}

/* The Gram matrices F diag(v) Fᵀ of the rows of each block. */
static void NAME(form_blocks)(NAME(Slice) *s) {
    for (int64_t block = 0; block < s->blocks; block++) {
        const REAL *f = s->F + block * s->p * 4;
        NAME(Vector) sums[PAIRS];
        for (int n = 0; n < PAIRS; n++) sums[n] = (NAME(Vector)){0};
        for (int64_t i = 0; i < s->p; i++, f += 4) {
            const NAME(Vector) v = RV(s->V + i * WIDE);
            for (int a = 0, n = 0; a < 4; a++) {
                const NAME(Vector) weighted = f[a] * v;
                for (int c = a; c < 4; c++) sums[n++] += f[c] * weighted;
            }
        }
        for (int n = 0; n < PAIRS; n++) V(s->gram + (block * PAIRS + n) * WIDE) = sums[n];
    }
}

/* slopes ← F diag(v) R of the rows of a block, after R has taken a step, if any, of the rows of the block ``last``. */
INLINE void NAME(form_slopes)(NAME(Slice) *s, int64_t last, const NAME(Vector) *step, int64_t block,
                              NAME(Vector) slopes[4]) {
    const REAL *from = s->F + last * s->p * 4, *f = s->F + block * s->p * 4;
    for (int a = 0; a < 4; a++) slopes[a] = (NAME(Vector)){0};
    for (int64_t i = 0; i < s->p; i++, from += 4, f += 4) {
        NAME(Vector) r = RV(s->R + i * WIDE);
        if (step) {
            for (int a = 0; a < 4; a++) r += from[a] * step[a];
            V(s->R + i * WIDE) = r;
        }
        r *= RV(s->V + i * WIDE);
        for (int a = 0; a < 4; a++) slopes[a] += f[a] * r;
    }
}

/* Each of four rows at the minimum of its quadratic, the others held; and how far they went. */
static void NAME(descend)(NAME(Slice) *s, int64_t block, NAME(Vector) slopes[4], REAL l1, REAL ridge, REAL zero,
                          NAME(Vector) step[4]) {
    const REAL *gram = s->gram + block * PAIRS * WIDE; /* the row of a from its diagonal on */
    for (int a = 0; a < 4; gram += (4 - a++) * WIDE) {
        REAL *X = s->X + (4 * block + a) * WIDE;
        const NAME(Vector) x = RV(X), one = (NAME(Vector)){0} + 1, slope = slopes[a] + (l1 + ridge * x);
        const NAME(Vector) bend = RV(gram) + ridge;
        const NAME(Flags) bent = (NAME(Flags))(bend > (NAME(Vector)){0});
        const NAME(Vector) next = x - slope / (NAME(Vector))((bent & (NAME(Flags))bend) | (~bent & (NAME(Flags))one));
        /* What is not a number stays so. */
        const NAME(Flags) stays = ~(NAME(Flags))(next <= (NAME(Vector)){0} + zero);
        V(X) = (NAME(Vector))(stays & (NAME(Flags))next);
        step[a] = RV(X) - x;
        for (int c = a + 1; c < 4; c++) slopes[c] += RV(gram + (c - a) * WIDE) * step[a];
    }
}

/* Strips of columns first ≤ strip < last of a batch: passes over X that reduce
   ½ Σ v (T − FᵀX)² + l1 Σx + ½ ridge ‖X‖², in place.

   F           (B, k, p)
   T, V        (B, p, N), with their strides; V ≥ 0
   X           (B, k, N) ≥ 0
   l1, ridge   (B), or null where they are zero
   zero        what counts as zero

   Returns GOOD or NO_MEMORY. */
KERNEL(NAME(diffnmf_weighted_sweep))(const REAL *F, const REAL *T, int64_t t_problem, int64_t t_row, int64_t t_column,
                                     const REAL *weights, int64_t v_problem, int64_t v_row, int64_t v_column, REAL *X,
                                     const REAL *l1, const REAL *ridge, int64_t sweeps, double zero, int64_t k,
                                     int64_t p, int64_t N, int64_t first, int64_t last) {
    const int64_t strips = (N + STRIP - 1) / STRIP;
    const NAME(Given) given = {F, T, weights, t_problem, t_row, t_column, v_problem, v_row, v_column, N};
    NAME(Slice) s;
    if (!NAME(slice_new)(&s, k, p)) return NO_MEMORY;
    for (int64_t at = first; at < last; at++) {
        const int64_t b = at / strips, begin = at % strips * STRIP, end = LESS(N, begin + STRIP);
        if (at == first || begin == 0) NAME(take_factor)(&s, F + b * k * p);
        for (int64_t start = begin; start < end; start += WIDE) {
            const int64_t columns = LESS(end - start, WIDE);
            NAME(take_columns)(&s, &given, X, b, start, columns);
            NAME(form_blocks)(&s);
            NAME(Vector) step[4] = {{0}}, slopes[4];
            for (int64_t turn = 0, block = 0, before = 0; turn < sweeps * s.blocks; turn++) {
                NAME(form_slopes)(&s, before, step, block, slopes);
                NAME(descend)(&s, block, slopes, l1 ? l1[b] : 0, ridge ? ridge[b] : 0, (REAL)zero, step);
                before = block;
                block = (block + 1) % s.blocks;
            }
            for (int64_t a = 0; a < k; a++)
                memcpy(X + (b * k + a) * N + start, s.X + a * WIDE, columns * sizeof(REAL));
        }
    }
    free(s.memory);
    return GOOD;
}

/* Of strips of columns first ≤ strip < last of a batch, what is not null of

   gradient   (B, k, N): F (v ∘ (FᵀX − T))
   squares    (B, strips): Σ v (T − FᵀX)² of each strip

   The others as above. Returns GOOD or NO_MEMORY. */
KERNEL(NAME(diffnmf_weighted_residual))(const REAL *F, const REAL *T, int64_t t_problem, int64_t t_row,
                                        int64_t t_column, const REAL *weights, int64_t v_problem, int64_t v_row,
                                        int64_t v_column, const REAL *X, REAL *gradient, double *squares, int64_t k,
                                        int64_t p, int64_t N, int64_t first, int64_t last) {
    const int64_t strips = (N + STRIP - 1) / STRIP;
    const NAME(Given) given = {F, T, weights, t_problem, t_row, t_column, v_problem, v_row, v_column, N};
    NAME(Slice) s;
    if (!NAME(slice_new)(&s, k, p)) return NO_MEMORY;
    for (int64_t at = first; at < last; at++) {
        const int64_t b = at / strips, begin = at % strips * STRIP, end = LESS(N, begin + STRIP);
        double square = 0;
        if (at == first || begin == 0) NAME(take_factor)(&s, F + b * k * p);
        for (int64_t start = begin; start < end; start += WIDE) {
            const int64_t columns = LESS(end - start, WIDE);
            NAME(take_columns)(&s, &given, X, b, start, columns);
            for (int64_t from = 0; squares && from < p; from += CHUNK) { /* not more in REAL: they would be rounded */
                NAME(Vector) sums = {0};
                for (int64_t i = from; i < LESS(p, from + CHUNK); i++)
                    sums += RV(s.V + i * WIDE) * RV(s.R + i * WIDE) * RV(s.R + i * WIDE);
                for (int j = 0; j < WIDE; j++) square += sums[j];
            }
            for (int64_t a = 0; gradient && a < k; a += 4) {
                NAME(Vector) slopes[4];
                NAME(form_slopes)(&s, 0, NULL, a / 4, slopes);
                for (int c = 0; c < LESS(4, k - a); c++)
                    memcpy(gradient + (b * k + a + c) * N + start, &slopes[c], columns * sizeof(REAL));
            }
        }
        if (squares) squares[at] = square;
    }
    free(s.memory);
    return GOOD;
}
