/* Weighted Gram matrices for one type of number, REAL; included once for each by weighted_gram.c. The columns of a tile go
   side by side through the vectors: what is a number for one column is a vector here. */

#include "tiles.h"

/* What a tile of columns needs: rows of SPAN numbers, padded to whole blocks of four rows. */
typedef struct {
    int64_t k, rows;
    REAL *gram;   /* k × rows: row a · rows + b is (F diag(v) Fᵀ)_ab of every column */
    REAL *F;      /* rows × CHUNK */
    REAL *V, *FV; /* CHUNK: weights; weights times a row of F */
    void *memory;
} NAME(Tile);

static int NAME(tile_new)(NAME(Tile) *t, int64_t k) {
    const int64_t rows = WHOLE_ROWS(k);
    const size_t sizes[] = {k * rows * SPAN, rows * CHUNK, CHUNK * SPAN, CHUNK * SPAN};
    REAL **parts[] = {&t->gram, &t->F, &t->V, &t->FV};
    size_t total = LINE;
    for (int i = 0; i < 4; i++) total += sizes[i];
    t->k = k;
    t->rows = rows;
    t->memory = calloc(total, sizeof(REAL));
    if (!t->memory) return 0;
    REAL *next = at_line(t->memory);
    for (int i = 0; i < 4; next += sizes[i++]) *parts[i] = next;
    return 1;
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

/* The Gram matrices of a tile of columns, from all p rows of F and of the weights. */
static void NAME(form)(NAME(Tile) *t, const REAL *F, const REAL *weights, int64_t v_row, int64_t v_column, int64_t p,
                       int64_t columns) {
    memset(t->gram, 0, t->k * t->rows * SPAN * sizeof(REAL));
    for (int64_t i = 0; i < p; i += CHUNK) {
        const int64_t chunk = LESS(p - i, CHUNK);
        NAME(copy_chunk)(t->F, F, t->k, p, i, chunk);
        NAME(copy_tile)(t->V, weights + i * v_row, v_row, v_column, chunk, columns);
        NAME(add_gram)(t);
    }
    for (int64_t a = 0; a < t->k; a++) /* left of the diagonal as on its right, without a difference in the last bit */
        for (int64_t b = 0; b < a; b++)
            memcpy(t->gram + (a * t->rows + b) * SPAN, t->gram + (b * t->rows + a) * SPAN, SPAN * sizeof(REAL));
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
            NAME(form)(&t, F + b * k * p, weights + b * v_problem + start * v_column, v_row, v_column, p, columns);
            for (int64_t l = 0; l < columns; l++)
                for (int64_t a = 0; a < k; a++)
                    for (int64_t j = 0; j < k; j++)
                        G[((b * N + start + l) * k + a) * k + j] = t.gram[(a * t.rows + j) * SPAN + l];
        }
    }
    free(t.memory);
    return GOOD;
}
