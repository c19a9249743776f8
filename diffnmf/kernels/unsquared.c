/* Non-negative least squares without squaring H, for the columns that the Gram matrix is too inaccurate for:

       min ½‖Rx − y‖² + wᵀx   subject to x ≥ 0,   R (k, k) from a QR of H with columns of unit length, ‖y‖ ≤ 1.

   The active-set method of Lawson and Hanson (1974), Solving Least Squares Problems, chapter 23, with their updates:
   T = QᵀR and q = Qᵀy are kept, Q orthogonal such that the columns of T that belong to F are upper triangular. An entry
   that joins costs one reflection, one that leaves a few rotations. What is accepted has been computed afresh.

   The comments number the steps as exact/active_set.py does, which is the reference. */

#include "common.h"

static const double FAR = 1e30;                /* beyond every x */
static const double NEGLIGIBLE = 1e-9;         /* a share of a column in another that is but rounding */
static const double NEARLY_DEPENDENT = 1e-5;   /* as in exact/columns.py, like the next two */
static const double DEPENDENT = 64 * EPS;
static const double MAX_ROUNDING_LOSS = 1e-3;
static const double SMALLEST_NORMAL = 0x1p-1022;
static const double LARGE_SOLUTION = 1e5;      /* as in exact/finish.py */

/* A point x ≥ 0 that is the minimum over its free entries. */
typedef struct {
    double *x, *gradient;
    uint8_t *free, *violated, *doubtful;
    double value;
} Point;

typedef struct {
    int k, width;          /* width: of a row of T, with q behind the k entries */
    size_t flags, numbers; /* the bytes of k flags and of k numbers */
    const double *R, *y, *weight;
    double *T;             /* k × width */
    int *member, size;     /* F in the order of T's columns */
    double *z;             /* the minimum over F, in the order of the entries, as what follows */
    double *shift, *outside, *row, *direction, *x;
    uint8_t *rejected;
    int fresh;             /* whether T was made from R for the F at hand */
    Point rest, best, there;
    void *memory;
} Unsquared;

static int unsquared_new(Unsquared *u, int64_t k) {
    const int width = padded(k + 1);
    memset(u, 0, sizeof *u);
    u->k = (int)k;
    u->width = width;
    u->flags = (size_t)k;
    u->numbers = (size_t)k * sizeof(double);
    const size_t numbers = (size_t)k * width + 12 * (size_t)width, bytes = 10 * (size_t)width, ints = (size_t)width;
    u->memory = calloc(1, numbers * sizeof(double) + ints * sizeof(int) + bytes + LINE);
    if (!u->memory) return 0;
    double *next = at_line(u->memory);
    Point *points[] = {&u->rest, &u->best, &u->there};
    u->T = next;
    next += (size_t)k * width;
    double **rows[] = {&u->z, &u->shift, &u->outside, &u->row, &u->direction, &u->x};
    for (int i = 0; i < 6; i++, next += width) *rows[i] = next;
    for (int i = 0; i < 3; i++, next += 2 * width) {
        points[i]->x = next;
        points[i]->gradient = next + width;
    }
    u->member = (int *)next;
    uint8_t *flags = (uint8_t *)(u->member + width);
    u->rejected = flags;
    for (int i = 0; i < 3; i++, flags += 3 * width) {
        points[i]->free = flags + width;
        points[i]->violated = flags + 2 * width;
        points[i]->doubtful = flags + 3 * width;
    }
    return 1;
}

static void copy(const Unsquared *u, Point *to, const Point *from) {
    memcpy(to->x, from->x, u->numbers);
    memcpy(to->gradient, from->gradient, u->numbers);
    memcpy(to->free, from->free, u->flags);
    memcpy(to->violated, from->violated, u->flags);
    memcpy(to->doubtful, from->doubtful, u->flags);
    to->value = from->value;
}

INLINE double *row_of(const Unsquared *u, int i) { return u->T + (size_t)i * u->width; }

INLINE double rounding_of(const Unsquared *u, const double *x) {
    double total = 1;
    for (int j = 0; j < u->k; j++) total += fabs(x[j]);
    return 2 * u->k * EPS * total;
}

/* √(2f), which falls and rises with f: a norm, since its square would be rounding where y is nearly in the cone. */
INLINE double value_of(const Unsquared *u, const double *x) {
    double square = 0, size = 0;
    for (int i = 0; i < u->k; i++) {
        double residual = -u->y[i];
        for (int j = 0; j < u->k; j++) residual += u->R[(size_t)i * u->k + j] * x[j];
        square += residual * residual;
    }
    for (int j = 0; j < u->k; j++) {
        square += 2 * u->weight[j] * x[j];
        size += x[j];
    }
    const double value = sqrt(square), loss = EPS * size;
    /* Of two points with digits the better one counts, but one without any does not count as what it seems to be. */
    return loss > MAX_ROUNDING_LOSS ? value + loss : value;
}

INLINE double distance(const Unsquared *u, int j) { /* of column j from the span of F */
    double square = 0;
    for (int i = u->size; i < u->k; i++) square += row_of(u, i)[j] * row_of(u, i)[j];
    return sqrt(square);
}

/* Entry j joins F: a reflection makes its column of T zero below the diagonal. */
INLINE void join(Unsquared *u, int j) {
    const int s = u->size, k = u->k, width = u->width;
    double length = distance(u, j), *row = u->row, *v = u->outside; /* outside is made anew afterwards */
    double head = row_of(u, s)[j];
    length = head > 0 ? -length : length;
    for (int i = s; i < k; i++) v[i] = row_of(u, i)[j];
    v[s] = head - length;
    const double scale = -length * v[s]; /* ½‖v‖² */
    if (scale > 0) {
        for EACH(p, width) AT(row + p) = (Lanes){0};
#define FACTOR(i) v[s + (i)]
#define ROW(i) row_of(u, s + (i))
        COMBINE(row, width, k - s, FACTOR, ROW);
#undef FACTOR
#undef ROW
        for (int i = s; i < k; i++) {
            const double f = v[i] / scale;
            double *t = row_of(u, i);
            for EACH(p, width) AT(t + p) -= f * READ(row + p);
        }
    }
    for (int i = s + 1; i < k; i++) row_of(u, i)[j] = 0;
    u->member[s] = j;
    u->size = s + 1;
    u->fresh = 0;
}

/* Member m leaves F: rotations make the columns after it triangular again. */
INLINE void part(Unsquared *u, int m) {
    const int width = u->width;
    for (int i = m; i + 1 < u->size; i++) {
        const int j = u->member[i] = u->member[i + 1];
        double *a = row_of(u, i), *b = row_of(u, i + 1);
        const double length = hypot(a[j], b[j]);
        if (length == 0) continue;
        const double cosine = a[j] / length, sine = b[j] / length;
        for EACH(p, width) {
            const Lanes upper = READ(a + p), lower = READ(b + p);
            AT(a + p) = cosine * upper + sine * lower;
            AT(b + p) = cosine * lower - sine * upper;
        }
        b[j] = 0;
    }
    u->size--;
    u->fresh = 0;
}

INLINE void start_over(Unsquared *u) {
    for (int i = 0; i < u->k; i++) {
        double *t = row_of(u, i);
        memcpy(t, u->R + (size_t)i * u->k, u->numbers);
        t[u->k] = u->y[i];
        for (int p = u->k + 1; p < u->width; p++) t[p] = 0;
    }
    u->size = 0;
}

/* T anew for a free set; returns 0 where that is dependent. */
INLINE int join_all(Unsquared *u, const uint8_t *free_) {
    start_over(u);
    for (int j = 0; j < u->k; j++)
        if (free_[j]) {
            if (!(distance(u, j) > DEPENDENT)) return 0;
            join(u, j);
        }
    u->fresh = 1;
    return 1;
}

INLINE double smallest_diagonal(const Unsquared *u) {
    double smallest = 1;
    for (int m = 0; m < u->size; m++) smallest = fmin(smallest, fabs(row_of(u, m)[u->member[m]]));
    return smallest;
}

/* U⁻ᵀ b_F, where U are the columns of T in F; in the order of the members. */
INLINE void forward(const Unsquared *u, const double *b, double *out) {
    for (int m = 0; m < u->size; m++) {
        const int j = u->member[m];
        double rest = b[j];
        for (int i = 0; i < m; i++) rest -= row_of(u, i)[j] * out[i];
        out[m] = rest / row_of(u, m)[j];
    }
}

/* U⁻¹ b, b in the order of the members, in place. */
INLINE void backward(const Unsquared *u, double *b) {
    for (int m = u->size - 1; m >= 0; m--) {
        double rest = b[m];
        for (int i = m + 1; i < u->size; i++) rest -= row_of(u, m)[u->member[i]] * b[i];
        b[m] = rest / row_of(u, m)[u->member[m]];
    }
}

/* The minimum over F, of any sign, into z. */
INLINE void minimise(Unsquared *u) {
    double *b = u->row;
    forward(u, u->weight, u->shift);
    for (int m = 0; m < u->size; m++) b[m] = row_of(u, m)[u->k] - u->shift[m];
    backward(u, b);
    for (int j = 0; j < u->k; j++) u->z[j] = 0;
    for (int m = 0; m < u->size; m++) u->z[u->member[m]] = b[m];
}

/* The point at z, which minimise has made. */
INLINE void arrive(Unsquared *u, Point *point) {
    const int k = u->k, s = u->size, width = u->width;
    double *gradient = u->row, *outside = u->outside, square = 0;
    for EACH(p, width) AT(gradient + p) = AT(outside + p) = (Lanes){0};
    /* The residual is (shift, q below F) in the rotated coordinates: with digits of its own, however small it is. */
#define FACTOR(i) ((i) < s ? u->shift[i] : row_of(u, i)[k])
#define ROW(i) row_of(u, i)
    COMBINE(gradient, width, k, FACTOR, ROW);
#undef FACTOR
#undef ROW
    for (int i = 0; i < k; i++) {
        const double r = i < s ? u->shift[i] : row_of(u, i)[k];
        square += r * r;
    }
    for (int i = s; i < k; i++)
        for EACH(p, width) AT(outside + p) += READ(row_of(u, i) + p) * READ(row_of(u, i) + p);
    const double length = sqrt(square), noise = 2 * k * EPS;
    memset(point->free, 0, u->flags);
    for (int m = 0; m < s; m++) point->free[u->member[m]] = 1;
    memcpy(point->x, u->z, u->numbers);
    point->value = value_of(u, u->z);
    const int gain_is_possible = point->value > rounding_of(u, u->z);
    for (int j = 0; j < k; j++) {
        /* What rounding leaves in the gradient: the part of a column outside the span of F meets rounding of y, the rest
           that of the residual. Where nothing but rounding is left of y, the gradient is nothing else. */
        const double far = sqrt(outside[j]), tolerance = length > noise ? noise * (length + far + u->weight[j]) : INFINITY;
        const double g = point->gradient[j] = u->weight[j] - gradient[j];
        point->violated[j] = !point->free[j] && g < -tolerance;
        point->doubtful[j] = !point->free[j] && far < NEARLY_DEPENDENT && far > DEPENDENT && g < 0 &&
                             !point->violated[j] && gain_is_possible;
    }
}

/* One step of refinement of the accepted x: the digits that the updates of T have lost (corrected seminormal equations,
   Björck 1987). T was made afresh for F. */
INLINE void refine(Unsquared *u, double *x) {
    const int k = u->k;
    double *residual = u->row, *b = u->outside, size = 0;
    for (int j = 0; j < k; j++) size += x[j];
    if (size > LARGE_SOLUTION) return; /* the residual of such an x, computed in this way, is rounding */
    for (int i = 0; i < k; i++) {
        residual[i] = u->y[i];
        for (int m = 0; m < u->size; m++) residual[i] -= u->R[(size_t)i * k + u->member[m]] * x[u->member[m]];
    }
    for (int m = 0; m < u->size; m++) {
        const int j = u->member[m];
        b[j] = -u->weight[j];
        for (int i = 0; i < k; i++) b[j] += u->R[(size_t)i * k + j] * residual[i];
    }
    forward(u, b, u->shift);
    backward(u, u->shift);
    for (int m = 0; m < u->size; m++)
        if (!(x[u->member[m]] + u->shift[m] > 0)) return;
    for (int m = 0; m < u->size; m++) x[u->member[m]] += u->shift[m];
}

/* 2. x moves towards z, as far as no entry of F turns negative; those that stop it leave. Returns the share of the way. */
INLINE double stop_at_boundary(Unsquared *u) {
    double length = 1;
    for (int m = 0; m < u->size; m++) {
        const int j = u->member[m];
        if (u->z[j] <= 0) length = fmin(length, u->x[j] / fmax(u->x[j] - u->z[j], SMALLEST_NORMAL));
    }
    for (int m = u->size - 1; m >= 0; m--) {
        const int j = u->member[m];
        const double gap = fmax(u->x[j] - u->z[j], SMALLEST_NORMAL);
        const int leaves = u->z[j] <= 0 && u->x[j] / gap <= length;
        u->x[j] = leaves ? 0 : fmax(u->x[j] + length * (u->z[j] - u->x[j]), 0);
        if (!(u->x[j] > 0)) part(u, m);
    }
    return length;
}

/* 1. Entry j depends on F: it replaces an entry of F along the line on which f falls without end. 0 where none is met. */
INLINE int slide(Unsquared *u, int j) {
    double *b = u->row, *direction = u->direction, largest = 1;
    for (int m = 0; m < u->size; m++) b[m] = row_of(u, m)[j];
    backward(u, b);
    for (int m = 0; m < u->size; m++) largest = fmax(largest, fabs(b[m]));
    int has_end = 0;
    for (int i = 0; i < u->k; i++) direction[i] = 0;
    direction[j] = 1;
    for (int m = 0; m < u->size; m++)
        if (fabs(b[m]) > NEGLIGIBLE * largest) {
            direction[u->member[m]] = -b[m];
            has_end |= b[m] > 0;
        }
    if (!has_end) return 0;
    for (int i = 0; i < u->k; i++) u->z[i] = u->x[i] + FAR * direction[i];
    const double length = stop_at_boundary(u);
    u->x[j] = fmax(length * (u->z[j] - u->x[j]) + u->x[j], 0);
    if (u->x[j] > 0 && distance(u, j) > DEPENDENT) join(u, j);
    else u->x[j] = 0;
    return 1;
}

/* 4. The entry of steepest descent of those in ``candidates``; −1 where there is none. */
INLINE int steepest(const Unsquared *u, const uint8_t *candidates) {
    int best = -1;
    for (int j = 0; j < u->k; j++)
        if (candidates[j] && !u->rejected[j] && (best < 0 || u->rest.gradient[j] < u->rest.gradient[best])) best = j;
    return best;
}

INLINE void stay_at_zero(Unsquared *u, Point *point) {
    memset(point->x, 0, u->numbers);
    memset(point->gradient, 0, u->numbers);
    memset(point->free, 0, u->flags);
    memset(point->violated, 0, u->flags);
    memset(point->doubtful, 0, u->flags);
    point->value = value_of(u, point->x);
}

/* One column from a start x ≥ 0, whose positive entries are the first free set. Returns the passes. */
INLINE int64_t active_set(Unsquared *u, const double *start, int *solved) {
    const int k = u->k;
    const int64_t most = 10 * (int64_t)k + 20;
    int64_t step = 1;
    int entering = -1, is_new = 0, on_trial = 0, verifying = 0, verified = 0;
    memcpy(u->x, start, u->numbers);
    memset(u->rejected, 0, u->flags);
    stay_at_zero(u, &u->best);
    stay_at_zero(u, &u->rest);
    memcpy(u->rest.x, start, u->numbers);
    for (int j = 0; j < k; j++) u->rest.free[j] = start[j] > 0;
    u->rest.value = value_of(u, start);
    if (u->rest.value < u->best.value) copy(u, &u->best, &u->rest);
    if (!join_all(u, u->rest.free)) { /* independence is kept step by step from zero */
        start_over(u);
        memset(u->x, 0, u->numbers);
    }
    for (;; step++) {
        int choosing = 0, sent_back = 0;
        if (is_new && !(distance(u, entering) > DEPENDENT)) {
            if (on_trial || !slide(u, entering)) sent_back = 1;
        } else {
            if (is_new) join(u, entering);
            minimise(u);
            int blocked = 0;
            for (int m = 0; m < u->size; m++) blocked |= !(u->z[u->member[m]] > 0);
            if (is_new && !(u->z[entering] > 0)) {
                part(u, u->size - 1);
                sent_back = 1;
            } else if (blocked) {
                stop_at_boundary(u);
            } else { /* 3. z is the new x, unless a doubtful entry has entered and gained nothing */
                arrive(u, &u->there);
                if (on_trial && is_new && !(u->rest.value - u->there.value > rounding_of(u, u->z))) {
                    part(u, u->size - 1);
                    sent_back = 1;
                } else {
                    copy(u, &u->rest, &u->there);
                    memcpy(u->x, u->z, u->numbers);
                    if (!verifying) memset(u->rejected, 0, u->flags);
                    verified = verifying;
                    if (u->rest.value < u->best.value) copy(u, &u->best, &u->rest);
                    choosing = 1;
                }
            }
        }
        if (sent_back) {
            u->rejected[entering] = 1;
            choosing = 1;
        }
        is_new = verifying = 0;
        if (step >= most) break;
        if (!choosing) continue;
        entering = steepest(u, u->rest.violated);
        on_trial = entering < 0;
        if (on_trial) entering = steepest(u, u->rest.doubtful);
        if (entering >= 0) {
            is_new = 1;
            continue;
        }
        if (verified) break;
        /* Nothing is left to do, as far as the updated T can tell. What one made afresh says counts. */
        uint8_t *free_ = u->there.free;
        memcpy(free_, u->rest.free, u->flags);
        if (!join_all(u, free_)) break;
        memcpy(u->x, u->rest.x, u->numbers);
        on_trial = 0;
        verifying = 1;
    }
    const int right = u->rest.value <= u->best.value + rounding_of(u, u->best.x);
    if (right && step < most) copy(u, &u->best, &u->rest);
    *solved = right && step < most;
    for (int j = 0; j < k; j++) *solved &= !u->best.violated[j];
    return step;
}

/* Columns first ≤ column < last of N problems.

   R       (P, k, k)
   owner   (N), which R a column has
   y       (N, k), Qᵀ of the column of Y
   weight  (N, k), of the l1 penalty
   x       (N, k), the start and the solution
   free, pivot, solved, steps   as in diffnmf_nnls_search

   Returns GOOD or NO_MEMORY. */
KERNEL(diffnmf_nnls_unsquared)(const double *R, const int64_t *owner, const double *y, const double *weight, double *x,
                               uint8_t *free_, double *pivot, uint8_t *solved, int64_t *steps, int64_t k,
                               int64_t first, int64_t last) {
    Unsquared u;
    if (!unsquared_new(&u, k)) return NO_MEMORY;
    for (int64_t n = first; n < last; n++) {
        int is_solved;
        u.R = R + owner[n] * k * k;
        u.y = y + n * k;
        u.weight = weight + n * k;
        steps[n] = active_set(&u, x + n * k, &is_solved);
        solved[n] = (uint8_t)is_solved;
        memcpy(x + n * k, u.best.x, k * sizeof(double));
        memcpy(free_ + n * k, u.best.free, k);
        const int independent = (u.fresh && !memcmp(u.best.free, u.rest.free, k)) || join_all(&u, u.best.free);
        const double smallest = smallest_diagonal(&u);
        pivot[n] = independent ? smallest * smallest : 0;
        if (independent) refine(&u, x + n * k);
    }
    free(u.memory);
    return GOOD;
}

/* v (N, k) with (RᵀR)_FF v_F = b_F and zero off F; zero where F is dependent. */
KERNEL(diffnmf_nnls_solve_unsquared)(const double *R, const int64_t *owner, const uint8_t *free_, const double *b,
                                     double *v, int64_t k, int64_t first, int64_t last) {
    Unsquared u;
    if (!unsquared_new(&u, k)) return NO_MEMORY;
    for (int64_t j = 0; j < k; j++) u.direction[j] = 0;
    for (int64_t n = first; n < last; n++) {
        u.R = R + owner[n] * k * k;
        u.y = u.direction;
        memset(v + n * k, 0, k * sizeof(double));
        if (!join_all(&u, free_ + n * k)) continue;
        forward(&u, b + n * k, u.shift);
        backward(&u, u.shift);
        for (int m = 0; m < u.size; m++) v[n * k + u.member[m]] = u.shift[m];
    }
    free(u.memory);
    return GOOD;
}
