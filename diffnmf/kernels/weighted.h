/* Weighted Gram matrices, and sweeps over a factor with them, for one type of number, REAL; included once for each by
   weighted.c. The columns of a
   tile go side by side through the vectors: what is a number for one column is a vector here. */

#include "tiles.h"

/* What a tile of columns needs: rows of SPAN numbers, padded to whole blocks of four rows. */
typedef struct {
    int64_t k, rows;
    REAL *X, *moved;  /* rows: the factor, and how far it has gone */
    REAL *gradient;   /* rows: at the start */
    REAL *gram;       /* k × rows: row a · rows + b is (F diag(v) Fᵀ)_ab of every column */
    REAL *F;          /* rows × CHUNK */
    REAL *V, *T, *FV; /* CHUNK: weights; targets and what comes of them; weights times a row of F */
    void *memory;
} NAME(Tile);

static int NAME(tile_new)(NAME(Tile) *t, int64_t k) {
    const int64_t rows = WHOLE_ROWS(k);
    const size_t sizes[] = {rows * SPAN, rows * SPAN, rows * SPAN, k * rows * SPAN, rows * CHUNK, CHUNK * SPAN,
                            CHUNK * SPAN, CHUNK * SPAN};
    REAL **parts[] = {&t->X, &t->moved, &t->gradient, &t->gram, &t->F, &t->V, &t->T, &t->FV};
    size_t total = LINE;
    for (int i = 0; i < 8; i++) total += sizes[i];
    t->k = k;
    t->rows = rows;
    t->memory = calloc(total, sizeof(REAL));
    if (!t->memory) return 0;
    REAL *next = at_line(t->memory);
    for (int i = 0; i < 8; next += sizes[i++]) *parts[i] = next;
    return 1;
}

/* T ← V (FᵀX − T) */
static void NAME(weigh_residual)(NAME(Tile) *t) {
    for (int i = 0; i < CHUNK; i += 4) {
        NAME(Vector) P[4][BLOCK];
        NAME(four_rows)(t->F, t->X, i, t->k, P);
        for (int r = 0; r < 4; r++)
            for (int v = 0; v < BLOCK; v++) {
                const int64_t at = (i + r) * SPAN + v * WIDE;
                V(t->T + at) = RV(t->V + at) * (P[r][v] - RV(t->T + at));
            }
    }
}

/* gram += F diag(v) Fᵀ of a chunk of rows, but for what ``form`` copies. */
static void NAME(add_gram)(NAME(Tile) *t) {
    for (int64_t a = 0; a < t->k; a++) {
        const int64_t from = a / 4 * 4;
        for (int i = 0; i < CHUNK; i++)
            for (int v = 0; v < BLOCK; v++)
                V(t->FV + i * SPAN + v * WIDE) = t->F[a * CHUNK + i] * RV(t->V + i * SPAN + v * WIDE);
        NAME(add_tile)(t->F + from * CHUNK, t->FV, t->gram + (a * t->rows + from) * SPAN, t->rows - from);
    }
}

/* What a tile of columns needs of all p rows, from their F, V and T: the Gram matrices, and for the X of the tile the
   gradient; without T, of any strides as V, the Gram matrices alone. */
static void NAME(form)(NAME(Tile) *t, const REAL *F, const REAL *weights, int64_t v_row, int64_t v_column, const REAL *T,
                       int64_t t_row, int64_t t_column, int64_t p, int64_t columns) {
    memset(t->gradient, 0, t->rows * SPAN * sizeof(REAL));
    memset(t->gram, 0, t->k * t->rows * SPAN * sizeof(REAL));
    for (int64_t i = 0; i < p; i += CHUNK) {
        const int64_t chunk = LESS(p - i, CHUNK);
        NAME(copy_chunk)(t->F, F, t->k, p, i, chunk);
        NAME(copy_tile)(t->V, weights + i * v_row, v_row, v_column, chunk, columns);
        if (T) {
            NAME(copy_tile)(t->T, T + i * t_row, t_row, t_column, chunk, columns);
            NAME(weigh_residual)(t);
            NAME(add_tile)(t->F, t->T, t->gradient, t->rows);
        }
        NAME(add_gram)(t);
    }
    for (int64_t a = 0; a < t->k; a++) /* left of the diagonal as on its right, without a difference in the last bit */
        for (int64_t b = 0; b < a; b++)
            memcpy(t->gram + (a * t->rows + b) * SPAN, t->gram + (b * t->rows + a) * SPAN, SPAN * sizeof(REAL));
}

/* Passes over the rows of X: the entry at the minimum of its quadratic, the others held. */
static void NAME(descend)(NAME(Tile) *t, REAL ridge, int64_t sweeps, REAL zero) {
    memset(t->moved, 0, t->rows * SPAN * sizeof(REAL));
    for (int64_t step = 0; step < sweeps * t->k; step++) {
        const int64_t i = step % t->k;
        const REAL *gram = t->gram + i * t->rows * SPAN;
        NAME(Vector) slope[BLOCK];
        for (int v = 0; v < BLOCK; v++)
            slope[v] = RV(t->gradient + i * SPAN + v * WIDE) + ridge * RV(t->moved + i * SPAN + v * WIDE);
        for (int64_t j = 0; j < t->k; j++)
            for (int v = 0; v < BLOCK; v++)
                slope[v] += RV(gram + j * SPAN + v * WIDE) * RV(t->moved + j * SPAN + v * WIDE);
        for (int v = 0; v < BLOCK; v++) {
            const int64_t at = i * SPAN + v * WIDE;
            const NAME(Vector) bend = RV(gram + at) + ridge, one = (NAME(Vector)){0} + 1, x = RV(t->X + at);
            const NAME(Flags) bent = (NAME(Flags))(bend > (NAME(Vector)){0});
            const NAME(Vector) next = x - slope[v] / (NAME(Vector))((bent & (NAME(Flags))bend) | (~bent & (NAME(Flags))one));
            /* What is not a number stays so. */
            const NAME(Flags) stays = ~(NAME(Flags))(next <= (NAME(Vector)){0} + zero);
            V(t->X + at) = (NAME(Vector))(stays & (NAME(Flags))next);
            V(t->moved + at) += RV(t->X + at) - x;
        }
    }
}

/* Strips of columns first ≤ strip < last of a batch: passes that reduce ½ Σ v (T − FᵀX)² + l1 Σx + ½ ridge ‖X‖², in place.

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
    NAME(Tile) t;
    if (!NAME(tile_new)(&t, k)) return NO_MEMORY;
    for (int64_t at = first; at < last; at++) {
        const int64_t b = at / strips, begin = at % strips * STRIP, end = LESS(N, begin + STRIP);
        for (int64_t start = begin; start < end; start += SPAN) {
            const int64_t columns = LESS(end - start, SPAN);
            REAL *x = X + b * k * N + start;
            memset(t.X, 0, t.rows * SPAN * sizeof(REAL));
            for (int64_t a = 0; a < k; a++) memcpy(t.X + a * SPAN, x + a * N, columns * sizeof(REAL));
            NAME(form)(&t, F + b * k * p, weights + b * v_problem + start * v_column, v_row, v_column,
                       T + b * t_problem + start * t_column, t_row, t_column, p, columns);
            const REAL price = l1 ? l1[b] : 0, bend = ridge ? ridge[b] : 0;
            for (int64_t i = 0; i < k * SPAN; i++) t.gradient[i] += price + bend * t.X[i];
            NAME(descend)(&t, bend, sweeps, (REAL)zero);
            for (int64_t a = 0; a < k; a++) memcpy(x + a * N, t.X + a * SPAN, columns * sizeof(REAL));
        }
    }
    free(t.memory);
    return GOOD;
}

/* F diag(v) Fᵀ of every column, strips first ≤ strip < last of a batch.

   F   (B, k, p)
   V   (B, p, N), with its strides
   G   (B, N, k, k), the result

   Returns GOOD or NO_MEMORY. */
KERNEL(NAME(diffnmf_weighted_gram))(const REAL *F, const REAL *weights, int64_t v_problem, int64_t v_row,
                                    int64_t v_column, REAL *G, int64_t k, int64_t p, int64_t N, int64_t first,
                                    int64_t last) {
    const int64_t strips = (N + STRIP - 1) / STRIP;
    NAME(Tile) t;
    if (!NAME(tile_new)(&t, k)) return NO_MEMORY;
    for (int64_t at = first; at < last; at++) {
        const int64_t b = at / strips, begin = at % strips * STRIP, end = LESS(N, begin + STRIP);
        for (int64_t start = begin; start < end; start += SPAN) {
            const int64_t columns = LESS(end - start, SPAN);
            NAME(form)(&t, F + b * k * p, weights + b * v_problem + start * v_column, v_row, v_column, NULL, 0, 0, p,
                       columns);
            for (int64_t l = 0; l < columns; l++)
                for (int64_t a = 0; a < k; a++)
                    for (int64_t j = 0; j < k; j++)
                        G[((b * N + start + l) * k + a) * k + j] = t.gram[(a * t.rows + j) * SPAN + l];
        }
    }
    free(t.memory);
    return GOOD;
}
