/* Tiles of a matrix T (p, N) that stay in the first cache: CHUNK rows and SPAN columns, zeros around what there is of T. A
   product FᵀX is never written to memory: its part of a tile is formed in registers, and used at once.

   Included once for each type of number, REAL, by the bodies of kernels that work on such tiles. */

#define SPAN (BLOCK * WIDE)
#define CHUNK 32
#define STRIP ((int)(768 / sizeof(REAL))) /* columns: whole tiles for every set of instructions; tiles.py knows it, too */
#define LESS(a, b) ((a) < (b) ? (a) : (b))
#define TILE_FUNCTION static __attribute__((unused)) void /* not every kernel here needs all of them */
#define WHOLE_ROWS(k) (((k) + 3) / 4 * 4) /* add_tile adds to four rows at a time */

/* P (4, SPAN) ← rows i to i + 3 of FᵀX, in registers; F (k, CHUNK) and X (k, SPAN). */
INLINE void NAME(four_rows)(const REAL *F, const REAL *X, int i, int64_t k, NAME(Vector) P[4][BLOCK]) {
    for (int r = 0; r < 4; r++)
        for (int v = 0; v < BLOCK; v++) P[r][v] = (NAME(Vector)){0};
    for (int64_t a = 0; a < k; a++) {
        NAME(Vector) x[BLOCK];
        for (int v = 0; v < BLOCK; v++) x[v] = RV(X + a * SPAN + v * WIDE);
        for (int r = 0; r < 4; r++)
            for (int v = 0; v < BLOCK; v++) P[r][v] += F[a * CHUNK + i + r] * x[v];
    }
}

/* sums (rows, SPAN) += F tile, F (rows, CHUNK), rows a multiple of four. */
TILE_FUNCTION NAME(add_tile)(const REAL *F, const REAL *tile, REAL *sums, int64_t rows) {
    for (int64_t a = 0; a < rows; a += 4) {
        NAME(Vector) s[4][BLOCK];
        for (int r = 0; r < 4; r++)
            for (int v = 0; v < BLOCK; v++) s[r][v] = RV(sums + (a + r) * SPAN + v * WIDE);
        for (int i = 0; i < CHUNK; i++) {
            NAME(Vector) q[BLOCK];
            for (int v = 0; v < BLOCK; v++) q[v] = RV(tile + i * SPAN + v * WIDE);
            for (int r = 0; r < 4; r++)
                for (int v = 0; v < BLOCK; v++) s[r][v] += F[(a + r) * CHUNK + i] * q[v];
        }
        for (int r = 0; r < 4; r++)
            for (int v = 0; v < BLOCK; v++) V(sums + (a + r) * SPAN + v * WIDE) = s[r][v];
    }
}

/* A part of T, some rows and columns, into a tile; zeros around it. */
TILE_FUNCTION NAME(copy_tile)(REAL *tile, const REAL *T, int64_t t_row, int64_t t_column, int64_t rows, int64_t columns) {
    const int whole = rows == CHUNK && columns == SPAN;
    if (!whole) memset(tile, 0, CHUNK * SPAN * sizeof(REAL));
    if (t_column == 1)
        for (int64_t i = 0; i < rows; i++) {
            const REAL *row = T + i * t_row;
            __builtin_prefetch(row + CHUNK * t_row);
            __builtin_prefetch(row + CHUNK * t_row + SPAN - 1);
            memcpy(tile + i * SPAN, row, columns * sizeof(REAL));
        }
    else if (whole)
        for (int64_t j = 0; j < SPAN; j++) {
            const REAL *column = T + j * t_column;
            __builtin_prefetch(column + CHUNK * t_row);
            __builtin_prefetch(column + (2 * CHUNK - 1) * t_row);
            for (int64_t i = 0; i < CHUNK; i++) tile[i * SPAN + j] = column[i * t_row];
        }
    else
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++) tile[i * SPAN + j] = T[i * t_row + j * t_column];
}

/* Rows i to i + chunk of F (k, p) into f (rows, CHUNK), zeros behind them; those beyond k are left as they are. */
INLINE void NAME(copy_chunk)(REAL *f, const REAL *F, int64_t k, int64_t p, int64_t i, int64_t chunk) {
    if (chunk < CHUNK) memset(f, 0, k * CHUNK * sizeof(REAL));
    for (int64_t a = 0; a < k; a++) memcpy(f + a * CHUNK, F + a * p + i, chunk * sizeof(REAL));
}
