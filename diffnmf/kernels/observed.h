/* Half-steps of a matrix of which only some entries are known, for one type of number, REAL; included once for each by
   observed.c.

   One column of T at a time, which is d entries in some rows: those rows of Fᵀ are gathered and turned, so that vectors go
   along the entries. From there it is as in weighted_sweep.h: the residual stays in the cache, rows of X go four at a time,
   and of the Gram matrix of a column only the blocks 4 × 4 on its diagonal are formed. */

#define PAIRS 10 /* of four rows, a ≤ b */
#define LONGEST 32 /* vectors whose squares are added in REAL: of more, they would be rounded */

#if defined(__clang__)
#define MIXED(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define MIXED(a, b, ...) __builtin_shuffle(a, b, (NAME(Places)){__VA_ARGS__})
#endif
#define PADDED(d) (((d) + (WIDE > 4 ? WIDE : 4) - 1) / (WIDE > 4 ? WIDE : 4) * (WIDE > 4 ? WIDE : 4))

/* What a column needs; d is padded to whole vectors and to four, k to whole blocks of four rows. */
typedef struct {
    int64_t k, blocks, d; /* d: of the column at hand, padded */
    REAL *F, *R, *X;      /* 4 blocks × d, d and 4 blocks */
    REAL *gram;           /* PAIRS blocks */
    REAL *zeros;          /* 4 blocks: a row of Fᵀ beyond the last entry */
    void *memory;
} NAME(Column);

typedef REAL NAME(Four) __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
typedef INTEGER NAME(Places) __attribute__((vector_size(4 * sizeof(REAL))));

/* T (p, N) column by column: entries starts[j] ≤ e < starts[j + 1], each in a row of Fᵀ (p, 4 blocks). */
typedef struct {
    const REAL *Ft, *values;
    const int64_t *starts, *rows;
    int64_t N;
} NAME(Known);

static int NAME(column_new)(NAME(Column) *s, const NAME(Known) *known, int64_t k, int64_t first, int64_t last) {
    int64_t longest = 0;
    for (int64_t j = first; j < last; j++) {
        const int64_t d = known->starts[j + 1] - known->starts[j];
        longest = d > longest ? d : longest;
    }
    longest = PADDED(longest);
    s->k = k;
    s->blocks = (k + 3) / 4;
    s->memory = calloc(s->blocks * (4 * longest + 8 + PAIRS) + longest + LINE, sizeof(REAL));
    if (!s->memory) return 0;
    s->F = at_line(s->memory);
    s->R = s->F + s->blocks * 4 * longest;
    s->X = s->R + longest;
    s->gram = s->X + s->blocks * 4;
    s->zeros = s->gram + s->blocks * PAIRS;
    return 1;
}

/* Rows to columns, of four by four numbers; element by element it takes twice as long. */
INLINE void NAME(turn)(NAME(Four) f[4]) {
    const NAME(Four) a = MIXED(f[0], f[1], 0, 4, 1, 5), b = MIXED(f[0], f[1], 2, 6, 3, 7);
    const NAME(Four) c = MIXED(f[2], f[3], 0, 4, 1, 5), d = MIXED(f[2], f[3], 2, 6, 3, 7);
    f[0] = MIXED(a, c, 0, 1, 4, 5);
    f[1] = MIXED(a, c, 2, 3, 6, 7);
    f[2] = MIXED(b, d, 0, 1, 4, 5);
    f[3] = MIXED(b, d, 2, 3, 6, 7);
}

/* The sums of the numbers of four vectors. One by one they would take longer than all the rest of a short column. */
INLINE void NAME(sums_of)(const NAME(Vector) v[4], REAL sums[4]) {
    if (WIDE < 4) {
        for (int a = 0; a < 4; a++) sums[a] = v[a][0] + v[a][1];
        return;
    }
    NAME(Four) f[4];
    for (int a = 0; a < 4; a++) {
        f[a] = ((const NAME(Four) *)(v + a))[0];
        for (int i = 1; i < WIDE / 4; i++) f[a] += ((const NAME(Four) *)(v + a))[i];
    }
    NAME(turn)(f);
    *(NAME(Four) *)sums = (f[0] + f[1]) + (f[2] + f[3]);
}

/* Column j of T and X, and its residual R = FᵀX − T. */
static void NAME(take_column)(NAME(Column) *s, const NAME(Known) *known, const REAL *X, int64_t j) {
    const int64_t start = known->starts[j], count = known->starts[j + 1] - start, k = s->k;
    const int64_t d = s->d = PADDED(count), height = 4 * s->blocks;
    REAL *F = s->F, *R = s->R; /* by themselves: a store might change what s says */
    for (int64_t a = 0; a < height; a++) s->X[a] = a < k ? X[a * known->N + j] : 0; /* not what the last one left */
    for (int64_t e = 0; e < d; e += 4) {
        const REAL *f[4];
        for (int i = 0; i < 4; i++) {
            const int64_t at = start + e + i;
            f[i] = e + i < count ? known->Ft + known->rows[at] * height : s->zeros;
            R[e + i] = e + i < count ? -known->values[at] : 0;
        }
        for (int64_t a = 0; a < height; a += 4) {
            NAME(Four) from[4];
            for (int i = 0; i < 4; i++) from[i] = *(const NAME(Four) *)(f[i] + a);
            NAME(turn)(from);
            for (int c = 0; c < 4; c++) *(NAME(Four) *)(F + (a + c) * d + e) = from[c];
        }
    }
    for (int64_t e = 0; e < d; e += WIDE) {
        NAME(Vector) r = RV(R + e);
        for (int64_t a = 0; a < height; a++) r += RV(F + a * d + e) * s->X[a];
        V(R + e) = r;
    }
}

static void NAME(form_grams)(NAME(Column) *s) {
    for (int64_t block = 0; block < s->blocks; block++) {
        const REAL *F = s->F + block * 4 * s->d;
        NAME(Vector) sums[PAIRS + 2];
        for (int n = 0; n < PAIRS + 2; n++) sums[n] = (NAME(Vector)){0};
        for (int64_t e = 0; e < s->d; e += WIDE) {
            NAME(Vector) f[4];
            for (int a = 0; a < 4; a++) f[a] = RV(F + a * s->d + e);
            for (int a = 0, n = 0; a < 4; a++)
                for (int c = a; c < 4; c++) sums[n++] += f[a] * f[c];
        }
        REAL gram[PAIRS + 2];
        for (int n = 0; n < PAIRS; n += 4) NAME(sums_of)(sums + n, gram + n);
        memcpy(s->gram + block * PAIRS, gram, PAIRS * sizeof(REAL));
    }
}

/* slopes ← F R of the rows of a block, after R has taken a step, if any, of the rows of the block ``last``. */
INLINE void NAME(slopes_of)(NAME(Column) *s, int64_t last, const REAL *step, int64_t block, REAL slopes[4]) {
    const int64_t d = s->d;
    const REAL *from = s->F + last * 4 * d, *F = s->F + block * 4 * d;
    REAL *R = s->R;
    NAME(Vector) sums[4];
    for (int a = 0; a < 4; a++) sums[a] = (NAME(Vector)){0};
    for (int64_t e = 0; e < d; e += WIDE) {
        NAME(Vector) r = RV(R + e);
        if (step) {
            for (int a = 0; a < 4; a++) r += RV(from + a * d + e) * step[a];
            V(R + e) = r;
        }
        for (int a = 0; a < 4; a++) sums[a] += RV(F + a * d + e) * r;
    }
    NAME(sums_of)(sums, slopes);
}

/* Each of four rows at the minimum of its quadratic, the others held; and how far they went. */
INLINE void NAME(descend_in)(NAME(Column) *s, int64_t block, REAL slopes[4], REAL l1, REAL ridge, REAL zero,
                             REAL step[4]) {
    const REAL *gram = s->gram + block * PAIRS; /* the row of a from its diagonal on */
    for (int a = 0; a < 4; gram += 4 - a++) {
        REAL *x = s->X + 4 * block + a;
        const REAL bend = gram[0] + ridge, next = *x - (slopes[a] + (l1 + ridge * *x)) / (bend > 0 ? bend : 1);
        step[a] = -*x;
        *x = next <= zero ? 0 : next; /* what is not a number stays so */
        step[a] += *x;
        for (int c = a + 1; c < 4; c++) slopes[c] += gram[c - a] * step[a];
    }
}

/* Columns first ≤ j < last: passes over X that reduce ½ Σ (T − FᵀX)² over the known entries + l1 Σx + ½ ridge ‖X‖², in
   place.

   Ft               (p, k), Fᵀ, with zeros to whole blocks of four columns
   starts           (N + 1), and rows, values (starts[N]): the entries of T, column after column
   X                (k, N) ≥ 0
   l1, ridge        one number each, or null where they are zero
   zero             what counts as zero

   Returns GOOD or NO_MEMORY. */
KERNEL(NAME(diffnmf_observed_sweep))(const REAL *Ft, const int64_t *starts, const int64_t *rows, const REAL *values,
                                     REAL *X, const REAL *l1, const REAL *ridge, int64_t sweeps, double zero,
                                     int64_t k, int64_t N, int64_t first, int64_t last) {
    const NAME(Known) known = {Ft, values, starts, rows, N};
    NAME(Column) s;
    if (!NAME(column_new)(&s, &known, k, first, last)) return NO_MEMORY;
    for (int64_t j = first; j < last; j++) {
        NAME(take_column)(&s, &known, X, j);
        NAME(form_grams)(&s);
        REAL step[4] = {0}, slopes[4];
        for (int64_t turn = 0, block = 0, before = 0; turn < sweeps * s.blocks; turn++) {
            NAME(slopes_of)(&s, before, step, block, slopes);
            NAME(descend_in)(&s, block, slopes, l1 ? *l1 : 0, ridge ? *ridge : 0, (REAL)zero, step);
            before = block;
            block = (block + 1) % s.blocks;
        }
        for (int64_t a = 0; a < k; a++) X[a * N + j] = s.X[a];
    }
    free(s.memory);
    return GOOD;
}

/* Of columns first ≤ j < last, what is not null of

   gradient   (k, N): F (FᵀX − T) over the known entries
   squares    (N): Σ (T − FᵀX)² over those of each column

   The others as above. Returns GOOD or NO_MEMORY. */
KERNEL(NAME(diffnmf_observed_residual))(const REAL *Ft, const int64_t *starts, const int64_t *rows, const REAL *values,
                                        const REAL *X, REAL *gradient, double *squares, int64_t k, int64_t N,
                                        int64_t first, int64_t last) {
    const NAME(Known) known = {Ft, values, starts, rows, N};
    NAME(Column) s;
    if (!NAME(column_new)(&s, &known, k, first, last)) return NO_MEMORY;
    for (int64_t j = first; j < last; j++) {
        NAME(take_column)(&s, &known, X, j);
        double square = 0;
        for (int64_t from = 0; squares && from < s.d; from += LONGEST * WIDE) {
            const int64_t end = from + LONGEST * WIDE;
            NAME(Vector) sums = {0};
            for (int64_t e = from; e < (end < s.d ? end : s.d); e += WIDE) sums += RV(s.R + e) * RV(s.R + e);
            for (int i = 0; i < WIDE; i++) square += sums[i];
        }
        if (squares) squares[j] = square;
        for (int64_t a = 0; gradient && a < k; a += 4) {
            REAL slopes[4];
            NAME(slopes_of)(&s, 0, NULL, a / 4, slopes);
            for (int c = 0; c < 4 && a + c < k; c++) gradient[(a + c) * N + j] = slopes[c];
        }
    }
    free(s.memory);
    return GOOD;
}
