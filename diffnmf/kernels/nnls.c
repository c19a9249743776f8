/* Non-negative least squares on the scaled Gram form, one column after the other:

       min ½ xᵀAx − cᵀx   subject to x ≥ 0,   A of unit diagonal, |c| of about 1.

   Principal pivoting (Cottle and Dantzig 1968, Complementary pivot theory of mathematical programming): x is feasible
   and minimal over its free entries F whenever nothing is entering. The entry that promises most enters; the free ones
   follow it along the line on which their gradient stays zero; one that reaches zero on the way leaves. The objective
   falls from minimum to minimum, so that no F returns. Instead of the whole tableau only the inverse B of A_FF is kept,
   which gives the column of the tableau that a step needs.

   Here "column j of the tableau" means y = B A_Fj on F and A_Nj − A_NF y on the others, N; the number at j itself is the
   curvature of the objective along that line. */

#include "products.h"

/* As in exact/finish.py, exact/columns.py and gram.py, where they are explained. */
static const double INDEPENDENT_PIVOT = 1e-8, INDEPENDENT_ROW_SUM = 1e8, NEAR_TIE = 1e-9, LARGE_SOLUTION = 1e5;
static const double WELL_CONDITIONED_PIVOT = 1e-2, LARGEST_DESCENT = 1e30;
/* Of squares: what ranges.py takes for in range is inside. */
static const double SMALLEST = 0x1p-690, LARGEST = 0x1p700;

/* An inverse of all of A is worth having where most entries are free; where A is worse than this it has no digits. */
static const double DENSE_PIVOT = 1e-6;
static const int MOST = 3; /* one in so many may be missing */

typedef struct {
    int k, width;        /* entries, and with padding */
    double *A;           /* k × width */
    double *B;           /* size × width: the inverse on the members of F */
    double *inverse;     /* k × width, of all of A */
    double pivot;        /* the smallest of a Cholesky factorisation of all of A; 0 where that breaks down */
    double row_sum;      /* the largest |A⁻¹1| */
    int *member;         /* the entries in F, in the order of B */
    int size;            /* how many */
    double *value;       /* x of the members, in that order */
    double *c, *r;       /* r = c − Ax, in the order of the entries, as everything below */
    double *weight;      /* the length of a column of H in the scaled units, at most 1: what rounding of r grows with */
    double *open;        /* 1 for an entry that may enter, otherwise 0 */
    double *curvature;   /* what a step in each entry outside F would meet */
    double *y;           /* in the order of the members */
    double *column, *row, *score;
    int priced;          /* whether the curvatures are known; otherwise entries are chosen by r alone */
    uint8_t *wanted;     /* k flags */
    int64_t steps;
    void *memory;
} Workspace;

static int workspace_new(Workspace *w, int64_t k) {
    const int width = padded(k);
    const size_t square = (size_t)width * width;
    memset(w, 0, sizeof *w);
    w->k = (int)k;
    w->width = width;
    w->memory = calloc(3 * square + 11 * (size_t)width + LINE, sizeof(double));
    if (!w->memory) return 0;
    double *next = at_line(w->memory);
    double **rows[] = {&w->value, &w->c, &w->r, &w->weight, &w->open, &w->curvature, &w->y, &w->column, &w->row, &w->score};
    w->A = next;
    w->B = next + square;
    w->inverse = next + 2 * square;
    next += 3 * square;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++, next += width) *rows[i] = next;
    w->member = (int *)next;
    w->wanted = (uint8_t *)(w->member + width);
    for (int j = 0; j < width; j++) w->weight[j] = 1;
    return 1;
}

/* What counts as zero in x, and in r times weight. */
INLINE double rounding(const Workspace *w) {
    return 2 * w->k * EPS * (1 + sum(w->value, padded(w->size)));
}

INLINE double *inverse_row(const Workspace *w, int m) { return w->B + (size_t)m * w->width; }
INLINE const double *gram_row(const Workspace *w, int i) { return w->A + (size_t)i * w->width; }

/* Column j of the tableau, into y and column; returns its curvature. */
static double tableau_column(Workspace *w, int j) {
    const int size = w->size, width = w->width;
    const double *a = gram_row(w, j);
    double *y = w->y, *column = w->column;
    for EACH(p, padded(size)) AT(y + p) = (Lanes){0};
#define FACTOR(m) a[w->member[m]]
#define ROW(m) inverse_row(w, m)
    COMBINE(y, padded(size), size, FACTOR, ROW);
#undef FACTOR
#undef ROW
    for EACH(p, width) AT(column + p) = READ(a + p);
#define FACTOR(m) -y[m]
#define ROW(m) gram_row(w, w->member[m])
    COMBINE(column, width, size, FACTOR, ROW);
#undef FACTOR
#undef ROW
    return column[j];
}

/* Entry j joins F; y and column are its column of the tableau, d its curvature. */
static void enter(Workspace *w, int j, double d, double value) {
    const int s = w->size, width = padded(s);
    const double inverse = 1 / d, *y = w->y;
    double *last = inverse_row(w, s);
    for (int m = 0; m < s; m++) {
        const double f = y[m] * inverse;
        double *b = inverse_row(w, m);
        for EACH(p, width) AT(b + p) += f * READ(y + p);
        if (s == width) AT(b + s) = (Lanes){0};
        b[s] = last[m] = -f;
    }
    for (int p = s; p < padded(s + 1); p++) last[p] = 0;
    last[s] = inverse;
    w->member[s] = j;
    if (s == width) AT(w->value + s) = (Lanes){0};
    w->value[s] = value;
    w->size = s + 1;
    w->open[j] = 0;
    w->r[j] = 0;
    if (w->priced)
        for EACH(p, w->width) AT(w->curvature + p) -= READ(w->column + p) * READ(w->column + p) * inverse;
}

/* Member m leaves F. */
static void leave(Workspace *w, int m) {
    const int size = w->size, last = size - 1, width = padded(size), entry = w->member[m];
    double *row = w->row, *target = inverse_row(w, m);
    for EACH(p, width) AT(row + p) = READ(target + p);
    const double inverse = 1 / row[m];
    if (w->priced) {
        double *column = w->column;
        for EACH(p, w->width) AT(column + p) = (Lanes){0};
#define FACTOR(q) row[q]
#define ROW(q) gram_row(w, w->member[q])
        COMBINE(column, w->width, size, FACTOR, ROW);
#undef FACTOR
#undef ROW
        for EACH(p, w->width) AT(w->curvature + p) += READ(column + p) * READ(column + p) * inverse;
        w->curvature[entry] = inverse;
    }
    for (int q = 0; q < size; q++) {
        const double f = row[q] * inverse;
        double *b = inverse_row(w, q);
        for EACH(p, width) AT(b + p) -= f * READ(row + p);
    }
    /* The last member takes the place that has become free. */
    if (m != last)
        for EACH(p, width) AT(target + p) = READ(inverse_row(w, last) + p);
    for (int q = 0; q < last; q++) {
        double *b = inverse_row(w, q);
        b[m] = b[last];
        b[last] = 0;
    }
    w->member[m] = w->member[last];
    w->value[m] = w->value[last];
    w->value[last] = 0;
    w->size = last;
    w->open[entry] = 1;
    w->r[entry] = 0;
}

/* The open entry that promises most, r²/curvature; or the first one; −1 where none is worth a step. */
INLINE int choose(const Workspace *w, double tolerance, int first) {
    const int width = w->width;
    const Lanes least = (Lanes){0} + 2 * w->k * EPS, one = (Lanes){0} + 1;
    Lanes most = {0};
    for EACH(p, width) {
        const Lanes r = READ(w->r + p) * READ(w->open + p), curvature = READ(w->curvature + p);
        const Lanes divisor = w->priced ? SELECT(curvature > least, curvature, least) : one;
        const Lanes score = SELECT(r > tolerance * READ(w->weight + p), r * r / divisor, (Lanes){0});
        AT(w->score + p) = score;
        most = SELECT(score > most, score, most);
    }
    double best = 0;
    for (int i = 0; i < LANES; i++) best = most[i] > best ? most[i] : best;
    if (best == 0) return -1;
    for (int j = 0; j < w->k; j++)
        if (first ? w->score[j] > 0 : w->score[j] == best) return j;
    return -1;
}

/* From x feasible and minimal over F to the solution, in so many steps at the most. */
static int pivot(Workspace *w, int64_t most) {
    const double flat = 2 * w->k * EPS;
    for (;;) {
        const int j = choose(w, rounding(w), w->steps > most / 2);
        if (j < 0) return 1;
        double d = tableau_column(w, j), value = 0;
        for (;;) {
            if (w->steps++ >= most) return 0;
            double step = d > flat ? w->r[j] / d : INFINITY;
            int blocking = -1;
            for (int m = 0; m < w->size; m++)
                if (w->y[m] > 0 && w->value[m] < step * w->y[m]) {
                    step = w->value[m] / w->y[m];
                    blocking = m;
                }
            if (step == INFINITY) {  /* no curvature and nothing in the way: rounding */
                if (value > 0) return 0;
                w->open[j] = 0;
                break;
            }
            value += step;
            for EACH(p, padded(w->size)) AT(w->value + p) -= step * READ(w->y + p);
            for EACH(p, w->width) AT(w->r + p) -= step * READ(w->column + p);
            if (blocking < 0) {
                enter(w, j, d, value);
                break;
            }
            leave(w, blocking);
            d = tableau_column(w, j);
        }
    }
}

/* x over F anew: B c_F. */
INLINE void minimise(Workspace *w) {
    for EACH(p, padded(w->size)) AT(w->value + p) = (Lanes){0};
#define FACTOR(m) w->c[w->member[m]]
#define ROW(m) inverse_row(w, m)
    COMBINE(w->value, padded(w->size), w->size, FACTOR, ROW);
#undef FACTOR
#undef ROW
}

INLINE void residual(Workspace *w) {
    for EACH(p, w->width) AT(w->r + p) = READ(w->c + p);
#define FACTOR(m) -w->value[m]
#define ROW(m) gram_row(w, w->member[m])
    COMBINE(w->r, w->width, w->size, FACTOR, ROW);
#undef FACTOR
#undef ROW
}

/* x over F minimal; what turns negative leaves, until nothing does. F only shrinks. */
static void shrink(Workspace *w) {
    for (int left = 1; left;) {
        minimise(w);
        left = 0;
        for (int m = w->size - 1; m >= 0; m--)
            if (!(w->value[m] > 0)) {
                leave(w, m);
                left = 1;
            }
    }
    residual(w);
}

/* Entry j joins F, unless it depends on the members; returns its curvature. */
static double append(Workspace *w, int j) {
    const int size = w->size, width = padded(size);
    const double *a = gram_row(w, j);
    double *among = w->row, *y = w->y;
    for EACH(p, width) AT(among + p) = AT(y + p) = (Lanes){0};
    for (int m = 0; m < size; m++) among[m] = a[w->member[m]];
#define FACTOR(m) among[m]
#define ROW(m) inverse_row(w, m)
    COMBINE(y, width, size, FACTOR, ROW);
#undef FACTOR
#undef ROW
    Lanes product = {0};
    for EACH(p, width) product += READ(among + p) * READ(y + p);
    double d = a[j];
    for (int i = 0; i < LANES; i++) d -= product[i];
    if (d > INDEPENDENT_PIVOT) enter(w, j, d, 0);
    return d;
}

INLINE void forget(Workspace *w) {
    w->size = 0;
    for (int j = 0; j < w->width; j++) w->open[j] = j < w->k;
}

/* From x = 0. */
INLINE void begin_at_zero(Workspace *w) {
    forget(w);
    w->priced = 1;
    for EACH(p, w->width) AT(w->curvature + p) = (Lanes){0} + 1;
    residual(w);
}

/* F = everything, then without the entries that are not ``wanted``. */
INLINE void begin_at_most_of_all(Workspace *w, const uint8_t *wanted) {
    memcpy(w->B, w->inverse, (size_t)w->k * w->width * sizeof(double));
    for (int j = 0; j < w->width; j++) w->open[j] = 0;
    for EACH(p, w->width) AT(w->value + p) = (Lanes){0};
    for (int j = 0; j < w->k; j++) w->member[j] = j;
    w->size = w->k;
    w->priced = 0;
    for (int j = w->k - 1; j >= 0; j--)
        if (!wanted[j]) leave(w, j);
}

INLINE int few_are_missing(const Workspace *w, const uint8_t *wanted) {
    int missing = 0;
    for (int j = 0; j < w->k; j++) missing += !wanted[j];
    return MOST * missing <= w->k;
}

/* F = the entries that are ``wanted``, without those that depend on others. */
static void begin_at(Workspace *w, const uint8_t *wanted) {
    if (w->pivot > DENSE_PIVOT && few_are_missing(w, wanted)) {
        begin_at_most_of_all(w, wanted);
        return;
    }
    forget(w);
    w->priced = 0;
    for (int j = 0; j < w->k; j++)
        if (wanted[j]) append(w, j);
}

/* From the minimum over everything, of any sign, where most of it is positive. */
INLINE int begin_dense(Workspace *w) {
    if (!(w->pivot > DENSE_PIVOT)) return 0;
    double *x = w->column;
    for EACH(p, w->width) AT(x + p) = (Lanes){0};
#define FACTOR(i) w->c[i]
#define ROW(i) (w->inverse + (size_t)(i) * w->width)
    COMBINE(x, w->width, w->k, FACTOR, ROW);
#undef FACTOR
#undef ROW
    for (int j = 0; j < w->k; j++) w->wanted[j] = x[j] > 0;
    if (!few_are_missing(w, w->wanted)) return 0;
    begin_at_most_of_all(w, w->wanted);
    shrink(w);
    return 1;
}

/* x += B r_F. */
INLINE void refine(Workspace *w) {
    double *among = w->y, *step = w->row;
    for EACH(p, padded(w->size)) AT(step + p) = (Lanes){0};
    for (int m = 0; m < w->size; m++) among[m] = w->r[w->member[m]];
#define FACTOR(m) among[m]
#define ROW(m) inverse_row(w, m)
    COMBINE(step, padded(w->size), w->size, FACTOR, ROW);
#undef FACTOR
#undef ROW
    for EACH(p, padded(w->size)) AT(w->value + p) += READ(step + p);
}

INLINE void free_set(const Workspace *w, uint8_t *flags) {
    for (int j = 0; j < w->k; j++) flags[j] = 0;
    for (int m = 0; m < w->size; m++) flags[w->member[m]] = 1;
}

/* A column of H that is orthogonal to all others, such as a zero column. */
INLINE int alone(const Workspace *w, int j) {
    double total = 0;
    for (int i = 0; i < w->k; i++) total += fabs(gram_row(w, j)[i]);
    return total <= 1;
}

/* Refine x with B, and judge it by a fresh residual: whether no entry is wrong by more than rounding. */
static int settle(Workspace *w) {
    double before = INFINITY, worst, tolerance;
    for (int round = 0;; round++) {
        residual(w);
        tolerance = rounding(w);
        worst = 0;
        for (int m = 0; m < w->size; m++) worst = fmax(worst, fabs(w->r[w->member[m]]));
        if (worst <= tolerance / w->k || round == 3 || worst > 0.5 * before) break;
        before = worst;
        refine(w);
    }
    for (int m = 0; m < w->size; m++)
        if (!(w->value[m] >= -tolerance)) return 0;
    free_set(w, w->wanted);
    for (int j = 0; j < w->k; j++) {
        w->open[j] = !w->wanted[j];
        if (w->open[j] > 0 && !(w->r[j] <= tolerance * w->weight[j])) return 0;
    }
    return worst <= tolerance;
}

/* One column, c in w->c. guess: k flags, the first F, or null. Returns whether x is the solution, as far as A can tell. */
static int search(Workspace *w, const uint8_t *guess) {
    const int64_t most = 10 * (int64_t)w->k + 20;
    w->steps = 0;
    if (guess) {
        begin_at(w, guess);
        shrink(w);
    } else if (!begin_dense(w)) {
        begin_at_zero(w);
    }
    for (int attempt = 1;; attempt++) {
        const int there = pivot(w, attempt * most);
        if (settle(w)) return 1;
        if (!there || attempt == 3) return 0;
        /* B has lost its digits on the way: the same F again, from nothing. */
        free_set(w, w->wanted);
        begin_at(w, w->wanted);
        shrink(w);
    }
}

INLINE void load(Workspace *w, const double *A) {
    for (int i = 0; i < w->k; i++) memcpy(w->A + (size_t)i * w->width, A + (size_t)i * w->k, w->k * sizeof(double));
}

/* The inverse of all of A, and how near columns of H are to dependence. */
static void invert(Workspace *w) {
    double *B = w->B;
    w->B = w->inverse;
    w->priced = 0;
    w->pivot = 1;
    forget(w);
    for (int j = 0; j < w->k && w->pivot > INDEPENDENT_PIVOT; j++) w->pivot = fmin(w->pivot, append(w, j));
    w->row_sum = 0;
    for (int j = 0; j < w->size; j++) w->row_sum = fmax(w->row_sum, fabs(sum(inverse_row(w, j), w->width)));
    w->B = B;
}

/* A_FF = UᵀU of the members, in the rows of B, with the diagonal of U inverted. An inverse would lose more digits.
   Returns 0 where A_FF is singular. */
INLINE int factorise(Workspace *w) {
    const int size = w->size, width = padded(size);
    for (int i = 0; i < size; i++) {
        const double *a = gram_row(w, w->member[i]);
        double *u = inverse_row(w, i);
        for (int j = i / LANES * LANES; j < width; j++) u[j] = j < size ? a[w->member[j]] : 0;
    }
    for (int i = 0; i < size; i++) {
        double *u = inverse_row(w, i);
        const int start = i / LANES * LANES;
        if (!(u[i] > 2 * w->k * EPS)) return 0;
        const double inverse = 1 / sqrt(u[i]);
        for (int p = start; p < width; p += LANES) AT(u + p) *= inverse;
        for (int q = i + 1; q < size; q++) {
            double *v = inverse_row(w, q);
            const double f = u[q];
            for (int p = q / LANES * LANES; p < width; p += LANES) AT(v + p) -= f * READ(u + p);
        }
        u[i] = inverse;
    }
    return 1;
}

/* How independent the free columns of H are: the smallest squared sine of the angle between one and the span of the
   others. Where that is small the inverse may be rounding, and a Cholesky factor has the say; B is lost then. */
static double independence(Workspace *w) {
    double smallest = 1;
    for (int m = 0; m < w->size; m++) smallest = fmin(smallest, 1 / inverse_row(w, m)[m]);
    if (smallest >= WELL_CONDITIONED_PIVOT) return smallest;
    if (!factorise(w)) return 0;
    for (int m = 0; m < w->size; m++) {
        const double u = inverse_row(w, m)[m]; /* inverted */
        smallest = fmin(smallest, 1 / (u * u));
    }
    return fmax(smallest, 0);
}

/* Columns first ≤ column < last of N = B·m problems min ½ xᵀAx − cᵀx, x ≥ 0.

   A       (B, k, k), of unit diagonal
   C       (N, k)
   guess   (N, k) flags of the first free set, or null
   x       (N, k), the solution
   free    (N, k) flags of the free set
   pivot   (N), how independent the free columns of H are, see ``independence``
   solved  (N), 1 where x is the solution as far as A can tell
   steps   (N)

   Returns GOOD or NO_MEMORY. */
KERNEL(diffnmf_nnls_search)(const double *A, const double *C, const uint8_t *guess, double *x, uint8_t *free_,
                            double *pivot_, uint8_t *solved, int64_t *steps, int64_t m, int64_t k, int64_t first,
                            int64_t last) {
    Workspace w;
    int64_t loaded = -1;
    if (!workspace_new(&w, k)) return NO_MEMORY;
    for (int64_t n = first; n < last; n++) {
        if (n / m != loaded) {
            loaded = n / m;
            load(&w, A + loaded * k * k);
            invert(&w);
        }
        memcpy(w.c, C + n * k, k * sizeof(double));
        solved[n] = (uint8_t)search(&w, guess ? guess + n * k : NULL);
        steps[n] = w.steps;
        memset(x + n * k, 0, k * sizeof(double));
        for (int i = 0; i < w.size; i++) x[n * k + w.member[i]] = fmax(w.value[i], 0);
        free_set(&w, free_ + n * k);
        pivot_[n] = independence(&w); /* the last, since it may take B */
    }
    free(w.memory);
    return GOOD;
}

/* The solution of UᵀU x = b, in place, in the order of the members. */
INLINE void back_substitute(const Workspace *w, double *x) {
    const int size = w->size;
    for (int i = 0; i < size; i++) {
        const double *u = inverse_row(w, i);
        const double f = x[i] *= u[i];
        for (int j = i + 1; j < size; j++) x[j] -= f * u[j];
    }
    for (int i = size - 1; i >= 0; i--) {
        const double *u = inverse_row(w, i);
        double rest = x[i];
        for (int j = i + 1; j < size; j++) rest -= u[j] * x[j];
        x[i] = rest * u[i];
    }
}

/* v (N, k) with A_FF v_F = b_F and zero off F; zero where A_FF is singular.

   free    (N, k) flags
   b       (B, k, m), with its strides */
KERNEL(diffnmf_nnls_solve)(const double *A, const uint8_t *free_, const double *b, int64_t stride_problem,
                           int64_t stride_row, int64_t stride_column, double *v, int64_t m, int64_t k, int64_t first,
                           int64_t last) {
    Workspace w;
    int64_t loaded = -1;
    int regular = 0;
    if (!workspace_new(&w, k)) return NO_MEMORY;
    for (int64_t n = first; n < last; n++) {
        const int64_t problem = n / m;
        const double *from = b + problem * stride_problem + (n % m) * stride_column;
        const uint8_t *wanted = free_ + n * k;
        double *to = v + n * k, *x = w.value;
        if (problem != loaded || memcmp(wanted, wanted - k, k)) { /* otherwise the factor is at hand */
            if (problem != loaded) load(&w, A + problem * k * k);
            loaded = problem;
            w.size = 0;
            for (int j = 0; j < w.k; j++)
                if (wanted[j]) w.member[w.size++] = j;
            regular = factorise(&w);
        }
        memset(to, 0, k * sizeof(double));
        if (!regular) continue;
        for (int i = 0; i < w.size; i++) x[i] = from[w.member[i] * stride_row];
        back_substitute(&w, x);
        for (int i = 0; i < w.size; i++) to[w.member[i]] = x[i];
    }
    free(w.memory);
    return GOOD;
}

/* In the range in which no square overflows or vanishes; NaN is not. */
INLINE int in_range(double square) { return square == 0 || (square >= SMALLEST && square <= LARGEST); }

/* A whole batch, from H and Y to W, as long as its numbers are in range.

   H, Y         (B, n, k) and (B, n, m), both float or both double, with strides of which that of rows or columns is 1
   ridge, l1    (B, k) and (B, k, m), with their strides
   guess        (B, m, k) flags, or null
   least_pivot  columns whose free set is less independent than this want more care
   W, free      (B, m, k), the weights and the flags of the free set
   pivot, steps (B·m), as in diffnmf_nnls_search
   solved       (B·m), 0 for the columns that want more care: W is a guess there, or not as good as it can be
   A, scale     (B, k, k), the scaled Gram matrices, and (B, k), the d; all from ``free`` on may be null

   What a column gets depends on nothing but the column and H.

   Returns GOOD; WANTS_CARE where a column does; OUT_OF_RANGE where a number is, or is not finite, and what is in W and
   the others means nothing; NO_MEMORY. */
KERNEL(diffnmf_nnls_direct)(int64_t is_float, MATRIX(H), MATRIX(Y), const double *ridge, int64_t ridge_problem,
                            int64_t ridge_row, const double *l1, int64_t l1_problem, int64_t l1_row, int64_t l1_column,
                            const uint8_t *guess, double least_pivot, double *W, uint8_t *free_, double *pivot_,
                            int64_t *steps, uint8_t *solved, double *A, double *scale, int64_t n, int64_t m, int64_t k,
                            int64_t first, int64_t last) {
    Workspace w;
    const int width = padded(k);
    if (!workspace_new(&w, k)) return NO_MEMORY;
    /* Of a block of columns the norms and HᵀY; the 1/d, HᵀH and a row. */
    double *numbers = malloc(((size_t)width * (k + COLUMNS) + 2 * (width + COLUMNS)) * sizeof(double));
    double *squares = numbers, *inverse = numbers + COLUMNS, *g = inverse + width;
    double *ct = g + (size_t)k * width, *row = ct + (size_t)width * COLUMNS;
    int result = numbers ? GOOD : NO_MEMORY;
    for (int64_t problem = first / m; result < OUT_OF_RANGE && problem * m < last; problem++) {
        const int64_t from = problem * m > first ? 0 : first - problem * m;
        const int64_t to = (problem + 1) * m < last ? m : last - problem * m;
        const void *h = OF_PROBLEM(H, problem), *y = OF_PROBLEM(Y, problem);
        FOR_TYPE(is_float, gram_product, h, H_row, H_column, n, k, g, row);
        for (int64_t j = 0; j < k; j++) {
            const double square = g[j * width + j], r = ridge[problem * ridge_problem + j * ridge_row];
            /* A column far below the ridge may be smaller than the others. */
            const int small = r >= SMALLEST && square > 0x1p-1000 && square < SMALLEST;
            if (!(in_range(square) || small) || !(r >= 0 && r <= LARGEST)) result = OUT_OF_RANGE;
            if (square == 0 && !FOR_TYPE(is_float, is_zero, h, n, H_row, H_column, j)) result = OUT_OF_RANGE;
            inverse[j] = square + r > 0 ? 1 / sqrt(square + r) : 1;
            w.weight[j] = r > 0 ? sqrt(square) * inverse[j] : 1;
        }
        if (result == OUT_OF_RANGE) break;
        for (int64_t i = 0; i < k; i++) {
            double *to_row = w.A + (size_t)i * width;
            for (int64_t j = 0; j < k; j++) to_row[j] = g[i * width + j] * (inverse[i] * inverse[j]);
            to_row[i] = 1;
        }
        if (from == 0 && A)
            for (int64_t i = 0; i < k; i++) {
                memcpy(A + (problem * k + i) * k, w.A + (size_t)i * width, k * sizeof(double));
                scale[problem * k + i] = 1 / inverse[i];
            }
        invert(&w);
        const int dependent = w.pivot <= INDEPENDENT_PIVOT;
        const int disguised = !dependent && w.row_sum > INDEPENDENT_ROW_SUM;
        for (int64_t block = from; block < to && result < OUT_OF_RANGE; block += COLUMNS) {
            const int64_t end = block + COLUMNS < to ? block + COLUMNS : to, wide = padded(end - block);
            const int flipped = transposed(H_column, Y_column);
            const int64_t ct_row = flipped ? 1 : wide, ct_column = flipped ? width : 1;
            FOR_TYPE(is_float, cross_product, h, H_row, H_column, y, Y_row, Y_column, n, block, end, k, ct, row);
            FOR_TYPE(is_float, squares, y, n, Y_row, Y_column, squares, block, end);
            for (int64_t i = block; i < end && result < OUT_OF_RANGE; i++) {
                const int64_t at = problem * m + i;
                const double *l = l1 + problem * l1_problem + i * l1_column, *c = ct + (i - block) * ct_column;
                const double square = squares[i - block], size = square > 0 ? sqrt(square) : 1;
                if (!in_range(square)) result = OUT_OF_RANGE;
                if (square == 0 && !FOR_TYPE(is_float, is_zero, y, n, Y_row, Y_column, i)) result = OUT_OF_RANGE;
                for (int64_t j = 0; j < k; j++) {
                    const double penalty = l[j * l1_row];
                    if (!(penalty >= 0 && penalty < INFINITY)) result = OUT_OF_RANGE;
                    w.c[j] = fmax((c[j * ct_row] - penalty) * inverse[j] / size, -LARGEST_DESCENT);
                }
                if (result == OUT_OF_RANGE) break;
                int good = search(&w, guess ? guess + at * k : NULL) && !disguised;
                memset(W + at * k, 0, k * sizeof(double));
                double total = 0;
                for (int q = 0; q < w.size; q++) {
                    const double x = fmax(w.value[q], 0);
                    total += x;
                    W[at * k + w.member[q]] = x * size * inverse[w.member[q]];
                }
                good = good && total <= LARGE_SOLUTION;
                if (dependent) /* an entry that is not free, but may be one of several that can replace each other */
                    for (int64_t j = 0; j < k; j++)
                        if (w.open[j] > 0 && w.r[j] > -NEAR_TIE && !alone(&w, (int)j)) good = 0;
                if (free_) free_set(&w, free_ + at * k);
                const double angle = independence(&w); /* may take B */
                good = good && angle >= least_pivot;
                if (pivot_) pivot_[at] = angle;
                if (steps) steps[at] = w.steps;
                if (solved) solved[at] = (uint8_t)good;
                if (!good) result = WANTS_CARE;
            }
        }
    }
    free(numbers);
    free(w.memory);
    return result;
}
