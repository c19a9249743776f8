/* F (T / FᵀX) for one type of number, REAL; included once for each by divergence.c.

   T goes by in tiles: the part of P is formed in registers, T divided by it in the first cache, and what comes of it added
   to the sums. A general product would write P to memory and read it twice. */

#include "tiles.h"

/* tile (CHUNK, SPAN) ← tile / max(FᵀX, floor), F (k, CHUNK) and X (k, SPAN). What is not a number stays so. */
static void NAME(divide_tile)(const REAL *F, const REAL *X, REAL *tile, int64_t k, REAL floor) {
    const NAME(Vector) least = (NAME(Vector)){0} + floor;
    for (int i = 0; i < CHUNK; i += 4) {
        NAME(Vector) P[4][BLOCK];
        NAME(four_rows)(F, X, i, k, P);
        for (int r = 0; r < 4; r++)
            for (int v = 0; v < BLOCK; v++) {
                const NAME(Flags) low = (NAME(Flags))(P[r][v] < least);
                const NAME(Vector) p = (NAME(Vector))((low & (NAME(Flags))least) | (~low & (NAME(Flags))P[r][v]));
                V(tile + (i + r) * SPAN + v * WIDE) /= p;
            }
    }
}

/* Strips of columns first ≤ strip < last of a batch.

   F      (B, k, p)
   T      (B, p, N), of strides t_problem, t_row and t_column
   X      (B, k, N)
   up     (B, k, N), the result
   floor  what an entry of FᵀX counts as at the least

   Returns GOOD or NO_MEMORY. */
KERNEL(NAME(diffnmf_kl_pull))(const REAL *F, const REAL *T, const REAL *X, REAL *up, double floor, int64_t k, int64_t p,
                              int64_t N, int64_t t_problem, int64_t t_row, int64_t t_column, int64_t first,
                              int64_t last) {
    const int64_t strips = (N + STRIP - 1) / STRIP, rows = WHOLE_ROWS(k);
    const size_t size = (2 * rows * STRIP + rows * CHUNK + CHUNK * SPAN) * sizeof(REAL);
    void *memory = malloc(size + LINE);
    if (!memory) return NO_MEMORY;
    /* x and sums: a tile, rows of SPAN numbers, after the other; f: a chunk of F. */
    REAL *x = at_line(memory), *sums = x + rows * STRIP, *f = sums + rows * STRIP, *tile = f + rows * CHUNK;
    memset(x, 0, size);
    for (int64_t at = first; at < last; at++) {
        const int64_t problem = at / strips, start = at % strips * STRIP, offset = problem * k * N + start;
        const int64_t width = N - start < STRIP ? N - start : STRIP;
        memset(sums, 0, rows * STRIP * sizeof(REAL));
        for (int64_t t = 0; t < width; t += SPAN)
            for (int64_t a = 0; a < k; a++)
                memcpy(x + t * rows + a * SPAN, X + offset + a * N + t, LESS(width - t, SPAN) * sizeof(REAL));
        for (int64_t i = 0; i < p; i += CHUNK) {
            const int64_t chunk = LESS(p - i, CHUNK);
            NAME(copy_chunk)(f, F + problem * k * p, k, p, i, chunk);
            const REAL *from = T + problem * t_problem + i * t_row + start * t_column;
            for (int64_t t = 0; t < width; t += SPAN) {
                NAME(copy_tile)(tile, from + t * t_column, t_row, t_column, chunk, LESS(width - t, SPAN));
                NAME(divide_tile)(f, x + t * rows, tile, k, (REAL)floor);
                NAME(add_tile)(f, tile, sums + t * rows, rows);
            }
        }
        for (int64_t t = 0; t < width; t += SPAN)
            for (int64_t a = 0; a < k; a++)
                memcpy(up + offset + a * N + t, sums + t * rows + a * SPAN, LESS(width - t, SPAN) * sizeof(REAL));
    }
    free(memory);
    return GOOD;
}
