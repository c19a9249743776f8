/* Least squares with bounds and a sum on the scaled Gram form, one column after the other:

       min ½ xᵀAx − cᵀx   subject to lower ≤ x ≤ upper and, where asked, aᵀx = t,   a > 0,   lower 0 or −∞.

   The same principal pivoting as in nnls.c, which has no bounds above and no sum, and is the faster for it. F are the
   entries that are free, the others, N, rest at a bound (or at zero, if theirs are infinite and they have not moved yet).
   x is feasible, and minimal over F whenever nothing is moving. An entry of N with a gradient moves up or down, and the
   free ones follow on the line on which their gradient stays zero. It goes to its own minimum, and becomes free; or to
   its other bound, and rests there; or until a free entry meets a bound, which leaves F, and goes on.

   With a sum the multiplier λ is one more member of F: K = [A_FF a_F; a_Fᵀ 0], and only B = K⁻¹ is kept. Where the minimum
   without bounds is outside of few of them, the search starts there; otherwise from a vertex: the entries that gain most
   are filled until the sum is reached, and the last one is free.

   "At most t" is "equal to t" with one more entry that costs nothing; its row of A is zero. */

#include "common.h"

static const double INDEPENDENT_PIVOT = 1e-8, WELL_CONDITIONED_PIVOT = 1e-2;
static const double LEAST_RESIDUAL = 1e-12; /* absolute: a huge x must not hide a residual behind its rounding */

static const double MOST_BEYOND = 1e-9; /* of Σ|x|, by which rounding may take an entry beyond its bound */

/* As in nnls.c: when an inverse of all of K is worth having, and how many entries may be outside F then, one in so many.
   It costs as much as a few columns. */
static const double DENSE_PIVOT = 1e-6;
static const int MOST = 3, WORTH_INVERTING = 4;

typedef struct {
    int k, width, stride;          /* entries; with padding; of a row of B */
    int sum;                       /* whether aᵀx = t has to hold */
    double t, size_c;              /* size_c = max(1, max |c|) without the prices that keep entries at zero */
    double multiplier;             /* λ */
    double *A, *B;                 /* k × width and (k + 1) × stride */
    double *whole;                 /* B for all entries in F, in an order that begins with λ and ``first`` */
    int first, known, invertible;  /* whether ``whole`` was asked for, and is there */
    double *a;                     /* in the order of the entries, as everything below */
    double *c, *r, *x, *lower, *upper;
    double *weight;                /* as in nnls.c */
    double *diagonal;              /* of A */
    double *curvature;             /* what a step in each entry outside F would meet, where it is priced */
    double *inside, *rise, *fall;  /* 1 for a free entry; for one outside F that may go up, or down; otherwise 0 */
    double *column, *score, *far;  /* of the tableau; for choosing */
    double *y, *b;                 /* in the order of the members */
    int *member, *place;           /* the members of F, k for λ; where an entry is among them, or −1 */
    int *nonzero;                  /* room for a list of entries */
    uint8_t *rejected, *wanted;
    int size, any_rejected, priced;
    int64_t steps;
    void *memory;
} Bounded;

static int bounded_new(Bounded *w, int64_t k) {
    const int width = padded(k), stride = padded(k + 1);
    memset(w, 0, sizeof *w);
    w->k = (int)k;
    w->width = width;
    w->stride = stride;
    const size_t rows = 17, square = ((size_t)k + 1) * stride;
    const size_t numbers = (size_t)width * width + 2 * square + rows * stride + LINE;
    w->memory = calloc(numbers * sizeof(double) + (size_t)stride * (3 * sizeof(int) + 2), 1);
    if (!w->memory) return 0;
    double *next = at_line(w->memory);
    double **row[] = {&w->a, &w->c, &w->r, &w->x, &w->lower, &w->upper, &w->weight, &w->diagonal, &w->curvature,
                      &w->inside, &w->rise, &w->fall, &w->column, &w->score, &w->far, &w->y, &w->b};
    w->A = next;
    w->B = next + (size_t)width * width;
    w->whole = w->B + square;
    next = w->whole + square;
    for (size_t i = 0; i < rows; i++, next += stride) *row[i] = next;
    w->member = (int *)next;
    w->place = w->member + stride;
    w->nonzero = w->place + stride;
    w->rejected = (uint8_t *)(w->nonzero + stride);
    w->wanted = w->rejected + stride;
    return 1;
}

INLINE double *b_row(const Bounded *w, int m) { return w->B + (size_t)m * w->stride; }
INLINE const double *a_row(const Bounded *w, int i) { return i == w->k ? w->a : w->A + (size_t)i * w->width; }
INLINE double flat(const Bounded *w) { return 2 * w->k * EPS; }

/* What r = c − Ax − λa is made of. A large price, c_j < 0, that keeps an entry at zero is rounding to no other entry, and
   where it does not, λ or Σ|x| are as large. */
INLINE double size_of(const Bounded *w) { return fmax(w->size_c, fabs(w->multiplier)); }

/* Rounding of numbers of a size, and of the products with x. */
INLINE double rounding_of(const Bounded *w, double size) {
    Lanes total = {0};
    for EACH(p, w->width) {
        const Lanes x = READ(w->x + p);
        total += SELECT(x < 0, -x, x);
    }
    return flat(w) * (size + total_of(total));
}

/* What counts as zero in x, and in r times weight. */
INLINE double tolerance_of(const Bounded *w) { return rounding_of(w, size_of(w)); }

INLINE void mark(Bounded *w, int j) {
    const int open = w->inside[j] == 0 && !w->rejected[j];
    w->rise[j] = open && w->x[j] < w->upper[j];
    w->fall[j] = open && w->x[j] > w->lower[j];
}

INLINE void reject(Bounded *w, int j) {
    w->rejected[j] = 1;
    w->any_rejected = 1;
    mark(w, j);
}

INLINE void forgive(Bounded *w) {
    for (int j = 0; j < w->k; j++)
        if (w->rejected[j]) {
            w->rejected[j] = 0;
            mark(w, j);
        }
    w->any_rejected = 0;
}

/* r = c − Ax. */
INLINE void residual_of(Bounded *w) {
    int count = 0, *which = w->nonzero;
    w->multiplier = 0;
    for (int i = 0; i < w->k; i++) {
        which[count] = i;
        count += w->x[i] != 0;
    }
    for EACH(p, w->width) AT(w->r + p) = READ(w->c + p);
#define FACTOR(m) -w->x[which[m]]
#define ROW(m) a_row(w, which[m])
    COMBINE(w->r, w->width, count, FACTOR, ROW);
#undef FACTOR
#undef ROW
}

/* r −= λa, r = c − Ax. */
INLINE void subtract_multiplier(Bounded *w, double multiplier) {
    w->multiplier = multiplier;
    for EACH(p, w->width) AT(w->r + p) -= multiplier * READ(w->a + p);
}

/* out = Σ f_m rows_m over the members, f in their order. */
INLINE void combine_rows(const Bounded *w, const double *f, double *out) {
    for EACH(p, w->width) AT(out + p) = (Lanes){0};
#define FACTOR(m) f[m]
#define ROW(m) a_row(w, w->member[m])
    COMBINE(out, w->width, w->size, FACTOR, ROW);
#undef FACTOR
#undef ROW
}

/* out = B f, both in the order of the members. */
INLINE void times_inverse(const Bounded *w, const double *f, double *out) {
    for EACH(p, padded(w->size)) AT(out + p) = (Lanes){0};
#define FACTOR(m) f[m]
#define ROW(m) b_row(w, m)
    COMBINE(out, padded(w->size), w->size, FACTOR, ROW);
#undef FACTOR
#undef ROW
}

/* b = K_Fj and y = B K_Fj for entry j outside F. */
INLINE void image_of(Bounded *w, int j) {
    const double *a = a_row(w, j);
    for (int m = 0; m < w->size; m++) w->b[m] = w->member[m] == w->k ? w->a[j] : a[w->member[m]];
    for (int m = w->size; m < padded(w->size); m++) w->b[m] = 0;
    times_inverse(w, w->b, w->y);
}

/* Column j of the tableau, j outside F: y over the members, and A_Nj − A_NF y outside, of which −y is the way that the
   free entries go. */
INLINE void tableau_column_of(Bounded *w, int j) {
    const double *a = a_row(w, j);
    image_of(w, j);
    combine_rows(w, w->y, w->column);
    for EACH(p, w->width) AT(w->column + p) = READ(a + p) - READ(w->column + p);
    for (int m = w->sum; m < w->size; m++) w->column[w->member[m]] = w->y[m];
}

INLINE void add_member(Bounded *w, int j) {
    w->member[w->size] = j;
    w->place[j] = w->size++;
    w->inside[j] = 1;
    w->r[j] = 0;
    mark(w, j);
}

/* Entry j joins F; y and column are its column of the tableau. */
INLINE void join(Bounded *w, int j) {
    const int s = w->size, width = padded(s);
    const double inverse = 1 / w->column[j], *y = w->y;
    double *last = b_row(w, s);
    for (int m = 0; m < s; m++) {
        const double f = y[m] * inverse;
        double *b = b_row(w, m);
        for EACH(p, width) AT(b + p) += f * READ(y + p);
        if (s == width) AT(b + s) = (Lanes){0};
        b[s] = last[m] = -f;
    }
    for (int p = s; p < padded(s + 1); p++) last[p] = 0;
    last[s] = inverse;
    if (w->priced)
        for EACH(p, w->width) AT(w->curvature + p) -= READ(w->column + p) * READ(w->column + p) * inverse;
    add_member(w, j);
}

/* Entry i leaves F, and rests where x has it. */
INLINE void part(Bounded *w, int i) {
    const int m = w->place[i], size = w->size, last = size - 1, width = padded(size);
    double *row = w->b, *target = b_row(w, m);
    for EACH(p, width) AT(row + p) = READ(target + p);
    const double inverse = 1 / row[m];
    if (w->priced) {
        combine_rows(w, row, w->column);
        for EACH(p, w->width) AT(w->curvature + p) += READ(w->column + p) * READ(w->column + p) * inverse;
        w->curvature[i] = inverse;
    }
    for (int q = 0; q < size; q++) {
        const double f = row[q] * inverse;
        double *b = b_row(w, q);
        for EACH(p, width) AT(b + p) -= f * READ(row + p);
    }
    if (m != last) /* the last member takes the place that has become free */
        for EACH(p, width) AT(target + p) = READ(b_row(w, last) + p);
    for (int q = 0; q < last; q++) {
        double *b = b_row(w, q);
        b[m] = b[last];
        b[last] = 0;
    }
    w->member[m] = w->member[last];
    w->place[w->member[m]] = m;
    w->size = last;
    w->place[i] = -1;
    w->inside[i] = 0;
    w->r[i] = 0;
    mark(w, i);
}

/* F = ∅. */
INLINE void clear(Bounded *w) {
    w->size = 0;
    w->any_rejected = 0;
    w->priced = 1;
    for (int j = 0; j < w->k; j++) w->rejected[j] = 0;
    const Lanes one = (Lanes){0} + 1;
    for EACH(p, w->width) {
        const Lanes x = READ(w->x + p);
        AT(w->inside + p) = (Lanes){0};
        AT(w->curvature + p) = READ(w->diagonal + p);
        AT(w->rise + p) = SELECT(x < READ(w->upper + p), one, (Lanes){0});
        AT(w->fall + p) = SELECT(x > READ(w->lower + p), one, (Lanes){0});
    }
    for (int j = 0; j < w->k; j++) w->place[j] = -1;
}

/* F = {q} and λ. */
INLINE void begin_with(Bounded *w, int q) {
    clear(w);
    const double f = 1 / w->a[q], *a = a_row(w, q), square = a[q] * f * f;
    w->member[0] = w->k;
    w->size = 1;
    add_member(w, q);
    double *first = b_row(w, 0), *second = b_row(w, 1);
    for EACH(p, padded(2)) AT(first + p) = AT(second + p) = (Lanes){0};
    first[0] = -square;
    first[1] = second[0] = f;
    for EACH(p, w->width) {
        const Lanes sum = READ(w->a + p);
        AT(w->curvature + p) += sum * (square * sum - 2 * f * READ(a + p));
    }
}

/* x at the lower bounds, or where those are infinite at zero; F = ∅. */
INLINE void begin_low(Bounded *w) {
    for (int j = 0; j < w->k; j++) w->x[j] = w->lower[j] > -INFINITY ? w->lower[j] : fmin(w->upper[j], 0);
    clear(w);
    residual_of(w);
}

/* The entry to fill next from x: one that is unbounded below, or the one that lowers the objective most for its part in
   the sum; −1 where none has room. */
INLINE int best_to_fill(const Bounded *w, double left) {
    const Lanes none = (Lanes){0} + INFINITY;
    Lanes least = none;
    for EACH(p, w->width) {
        const Lanes a = READ(w->a + p), room = READ(w->upper + p) - READ(w->x + p), all = left / a;
        const Lanes step = SELECT(room < all, room, all);
        Lanes gain = (0.5 * step * READ(w->diagonal + p) - READ(w->r + p)) / a;
        gain = SELECT(room > 0, gain, none);
        const Lanes useful = left < 0 ? none : room; /* below its lower bound no entry goes but one without any */
        AT(w->score + p) = gain = SELECT((READ(w->lower + p) == -INFINITY) & (useful > 0), -none, gain);
        least = SELECT(gain < least, gain, least);
    }
    const double best = smallest_of(least);
    if (best == INFINITY) return -1;
    for (int i = 0; i < w->k; i++)
        if (w->score[i] == best) return i;
    return -1;
}

/* The vertex: from x at the lower bounds, entries are filled until the sum is reached, and the last one is free. Returns
   0 where t is out of reach, and 2 where the bounds leave one point only, which x is then. */
INLINE int begin_at_vertex(Bounded *w) {
    double left = w->t, size = fabs(w->t);
    int unbounded = 0;
    for (int j = 0; j < w->k; j++) {
        left -= w->a[j] * w->x[j];
        size += w->a[j] * fabs(w->x[j]);
        unbounded |= w->lower[j] == -INFINITY;
    }
    const double nothing = flat(w) * size;
    if (!unbounded && left <= nothing) return left >= -nothing ? 2 : 0;
    for (;;) {
        const int j = best_to_fill(w, left);
        if (j < 0) return left <= nothing ? 2 : 0;
        const double room = w->upper[j] - w->x[j];
        if (left / w->a[j] < room) {
            w->x[j] += left / w->a[j];
            begin_with(w, j);
            residual_of(w);
            subtract_multiplier(w, w->r[j] / w->a[j]);
            w->r[j] = 0;
            return 1;
        }
        w->x[j] = w->upper[j];
        left -= w->a[j] * room;
        const double *a = a_row(w, j);
        for EACH(p, w->width) AT(w->r + p) -= room * READ(a + p);
    }
}

/* The entry outside F that promises most, (gradient)²/curvature, or the first one; −1 where none is worth a step. */
INLINE int choose_of(const Bounded *w, double tolerance, int first) {
    const Lanes least = (Lanes){0} + flat(w), one = (Lanes){0} + 1;
    Lanes most = {0};
    for EACH(p, w->width) {
        const Lanes up = READ(w->r + p) * READ(w->rise + p), down = -READ(w->r + p) * READ(w->fall + p);
        const Lanes wrong = SELECT(up > down, up, down), curvature = READ(w->curvature + p);
        const Lanes divisor = w->priced ? SELECT(curvature > least, curvature, least) : one;
        const Lanes score = SELECT(wrong > tolerance * READ(w->weight + p), wrong * wrong / divisor, (Lanes){0});
        AT(w->score + p) = score;
        most = SELECT(score > most, score, most);
    }
    const double best = largest_of(most);
    if (best == 0) return -1;
    for (int j = 0; j < w->k; j++)
        if (first ? w->score[j] > 0 : w->score[j] == best) return j;
    return -1;
}

/* How far entry j may move in its direction until a free one meets a bound: which, or −1. */
INLINE int first_to_block(Bounded *w, double sign, double *distance) {
    Lanes low = (Lanes){0} + INFINITY;
    for EACH(p, w->width) {
        const Lanes speed = sign * READ(w->column + p) * READ(w->inside + p), x = READ(w->x + p);
        Lanes room = SELECT(speed > 0, x - READ(w->lower + p), READ(w->upper + p) - x);
        room = SELECT(room > 0, room, (Lanes){0});
        const Lanes magnitude = SELECT(speed > 0, speed, -speed);
        const Lanes ratio = SELECT(magnitude > 0, room / magnitude, (Lanes){0} + INFINITY);
        AT(w->far + p) = ratio;
        low = SELECT(ratio < low, ratio, low);
    }
    const double least = smallest_of(low);
    *distance = least;
    if (least == INFINITY) return -1;
    for (int i = 0; i < w->k; i++)
        if (w->far[i] == least) return i;
    return -1;
}

/* Move entry j until it is free or at a bound; returns 0 where the steps are used up. */
INLINE int move_entry(Bounded *w, int j, int64_t most, int *moved) {
    const double sign = w->r[j] > 0 ? 1 : -1;
    tableau_column_of(w, j);
    for (;;) {
        if (w->steps++ >= most) return 0;
        const double d = w->column[j], own = sign > 0 ? w->upper[j] - w->x[j] : w->x[j] - w->lower[j];
        double distance = d > flat(w) ? fabs(w->r[j]) / d : INFINITY, blocked;
        const int enters_at = -1, i = first_to_block(w, sign, &blocked);
        int stop = enters_at;
        if (own <= distance) distance = own, stop = j;
        if (i >= 0 && blocked < distance) distance = blocked, stop = i;
        if (distance == INFINITY) { /* no curvature and nothing in the way: rounding */
            reject(w, j);
            return 1;
        }
        if (distance > 0) {
            const double step = sign * distance;
            *moved = 1;
            for EACH(p, w->width) {
                const Lanes go = step * READ(w->column + p), free_part = go * READ(w->inside + p);
                AT(w->x + p) -= free_part;
                AT(w->r + p) -= go - free_part;
            }
            w->x[j] += step;
            if (w->sum) w->multiplier -= step * w->y[0];
        }
        if (stop == enters_at) {
            join(w, j);
            return 1;
        }
        if (stop == j) {
            w->x[j] = sign > 0 ? w->upper[j] : w->lower[j];
            mark(w, j);
            return 1;
        }
        w->x[i] = sign * w->column[i] > 0 ? w->lower[i] : w->upper[i];
        if (w->sum && w->size == 2) { /* the one free entry of a vertex: that of j instead */
            begin_with(w, j);
            residual_of(w);
            subtract_multiplier(w, w->r[j] / w->a[j]);
            w->r[j] = 0;
            return 1;
        }
        part(w, i);
        tableau_column_of(w, j);
    }
}

/* From x feasible and minimal over F to the solution, in so many steps at the most. */
INLINE int pivot_bounded(Bounded *w, int64_t most) {
    for (;;) {
        const int j = choose_of(w, tolerance_of(w), w->steps > most / 2);
        int moved = 0;
        if (j < 0) return 1;
        if (!move_entry(w, j, most, &moved)) return 0;
        if (moved && w->any_rejected) forgive(w);
    }
}

/* x over F anew, with the others where they are; y then begins with λ. */
INLINE void minimise_free(Bounded *w) {
    for (int m = w->sum; m < w->size; m++) w->x[w->member[m]] = 0;
    residual_of(w);
    double *rhs = w->score;
    for (int m = w->sum; m < w->size; m++) rhs[m] = w->r[w->member[m]];
    if (w->sum) {
        rhs[0] = w->t;
        for (int j = 0; j < w->k; j++) rhs[0] -= w->a[j] * w->x[j];
    }
    for (int p = w->size; p < padded(w->size); p++) rhs[p] = 0;
    times_inverse(w, rhs, w->y);
    for (int m = w->sum; m < w->size; m++) w->x[w->member[m]] = w->y[m];
}

/* r at the minimum over F that ``minimise_free`` has found. */
INLINE void residual_at_minimum(Bounded *w) {
    residual_of(w);
    if (w->sum) subtract_multiplier(w, w->y[0]);
    for (int m = w->sum; m < w->size; m++) w->r[w->member[m]] = 0;
}

INLINE int beyond_bounds(const Bounded *w, int i) { return w->x[i] < w->lower[i] || w->x[i] > w->upper[i]; }

INLINE void rest_at_bound(Bounded *w, int i) {
    w->x[i] = w->x[i] < w->lower[i] ? w->lower[i] : w->upper[i];
    part(w, i);
}

/* F = the entries that are ``wanted``, but for those that depend on others, and the rest where x has it; what is then
   beyond a bound leaves F. Returns 0 where a sum has no entry left. */
INLINE int begin_free(Bounded *w) {
    int q = -1;
    if (w->sum) {
        for (int j = 0; j < w->k; j++)
            if (w->wanted[j] && (q < 0 || w->a[j] > w->a[q])) q = j;
        if (q < 0) return 0;
        begin_with(w, q);
    } else {
        clear(w);
    }
    for (int j = 0; j < w->k; j++)
        if (w->wanted[j] && j != q) {
            tableau_column_of(w, j);
            if (w->column[j] > INDEPENDENT_PIVOT) {
                join(w, j);
            } else if (!(w->lower[j] > -INFINITY && w->x[j] - w->lower[j] < w->upper[j] - w->x[j])) {
                w->x[j] = w->upper[j] < INFINITY ? w->upper[j] : 0;
                mark(w, j);
            } else {
                w->x[j] = w->lower[j];
                mark(w, j);
            }
        }
    for (int left = 1; left;) {
        minimise_free(w);
        left = 0;
        for (int m = w->size - 1; m >= w->sum; m--) {
            const int i = w->member[m];
            if (!beyond_bounds(w, i)) continue;
            if (w->sum && w->size == 2) return 0;
            rest_at_bound(w, i);
            left = 1;
        }
    }
    residual_at_minimum(w);
    return 1;
}

/* An entry that costs nothing: the room below "at most". */
INLINE int is_room(const Bounded *w, int j) { return w->diagonal[j] == 0; }

/* The one of the ``wanted`` entries, or of all where that is null, that is the best to hide the sum in: the one with the
   largest a; or one that costs nothing, with which nothing changes. −1 where there is none. */
INLINE int best_to_hide_in(const Bounded *w, const uint8_t *wanted) {
    int q = -1;
    for (int j = 0; j < w->k; j++) {
        if (wanted && !wanted[j]) continue;
        if (q < 0 || (!is_room(w, q) && (is_room(w, j) || w->a[j] > w->a[q]))) q = j;
    }
    return q;
}

/* F = everything, into ``whole``, once for all columns that share A and a. */
static void invert_all(Bounded *w) {
    const int q = w->sum ? best_to_hide_in(w, NULL) : -1;
    double smallest = 1;
    w->known = 1;
    w->invertible = 0;
    if (w->sum)
        begin_with(w, q);
    else
        clear(w);
    w->first = q;
    w->priced = 0;
    for (int j = 0; j < w->k; j++) {
        if (j == q) continue;
        image_of(w, j);
        Lanes product = {0};
        for EACH(p, padded(w->size)) product += READ(w->b + p) * READ(w->y + p);
        w->column[j] = w->diagonal[j] - total_of(product);
        smallest = fmin(smallest, w->column[j]);
        if (!(smallest > DENSE_PIVOT)) return;
        join(w, j);
    }
    memcpy(w->whole, w->B, (size_t)w->size * w->stride * sizeof(double));
    w->invertible = 1;
}

/* F = everything, and then what is beyond a bound leaves, as in ``begin_free``. Returns 0 where that is too much, or
   nothing is known of the whole. */
INLINE int begin_at_most_of_all(Bounded *w) {
    if (!w->known) invert_all(w);
    if (!w->invertible) return 0;
    w->size = 0;
    w->any_rejected = 0;
    w->priced = 0;
    for (int j = 0; j < w->k; j++) {
        w->rejected[j] = 0;
        w->inside[j] = 1;
        w->rise[j] = w->fall[j] = 0;
    }
    if (w->sum) w->member[w->size++] = w->k;
    if (w->sum) w->member[w->size++] = w->first;
    for (int j = 0; j < w->k; j++)
        if (j != w->first) w->member[w->size++] = j;
    for (int m = w->sum; m < w->size; m++) w->place[w->member[m]] = m;
    memcpy(w->B, w->whole, (size_t)w->size * w->stride * sizeof(double));
    for (int missing = 0;;) {
        int room = -1, beyond = 0;
        minimise_free(w);
        for (int m = w->sum; m < w->size; m++) {
            const int i = w->member[m];
            if (!beyond_bounds(w, i)) continue;
            beyond++;
            if (is_room(w, i)) room = i;
        }
        if (beyond == 0) break;
        if (room >= 0) { /* without it the others are elsewhere */
            if (w->size == 2) return 0;
            rest_at_bound(w, room);
            continue;
        }
        missing += beyond;
        if (MOST * missing > w->k || (w->sum && beyond == w->size - 1)) return 0;
        for (int m = w->size - 1; m >= w->sum; m--)
            if (beyond_bounds(w, w->member[m])) rest_at_bound(w, w->member[m]);
    }
    residual_at_minimum(w);
    return 1;
}

/* Refine x with B, and judge it by a fresh residual: whether no entry is wrong by more than rounding. */
INLINE int settle_bounded(Bounded *w) {
    double before = INFINITY, worst = 0, tolerance = 0;
    for (int round = 0;; round++) {
        if (w->sum && w->size > 1) {
            double total = w->t;
            int q = w->member[1];
            for (int j = 0; j < w->k; j++) total -= w->a[j] * w->x[j];
            /* What is left of the sum goes where it moves x least: a small a would make much of its rounding. */
            for (int m = 1; m < w->size; m++) q = w->a[w->member[m]] > w->a[q] ? w->member[m] : q;
            w->x[q] += total / w->a[q];
        }
        residual_of(w);
        if (w->sum && w->size > 1) {
            double top = 0, bottom = 0;
            for (int m = 1; m < w->size; m++) {
                const double a = w->a[w->member[m]];
                top += a * w->r[w->member[m]];
                bottom += a * a;
            }
            subtract_multiplier(w, top / bottom);
        }
        tolerance = tolerance_of(w);
        worst = 0;
        for (int m = w->sum; m < w->size; m++) worst = fmax(worst, fabs(w->r[w->member[m]]));
        /* As far as it goes: a large price on one entry does not spoil the digits of the others. */
        if (worst <= rounding_of(w, 1) / w->k || round == 3 || worst > 0.5 * before) break;
        before = worst;
        if (w->sum) w->b[0] = 0;
        for (int m = w->sum; m < w->size; m++) w->b[m] = w->r[w->member[m]];
        times_inverse(w, w->b, w->y);
        for (int m = w->sum; m < w->size; m++) w->x[w->member[m]] += w->y[m];
    }
    const double least = LEAST_RESIDUAL * size_of(w);
    if (!(worst <= 2 * tolerance && worst <= least)) return 0;
    double size = 1;
    for (int j = 0; j < w->k; j++) size += fabs(w->x[j]);
    const double beyond = fmin(tolerance, MOST_BEYOND * size); /* enormous prices leave x no digits: it starts anew */
    for (int j = 0; j < w->k; j++) {
        if (!(w->x[j] >= w->lower[j] - beyond && w->x[j] <= w->upper[j] + beyond)) return 0;
        if (w->inside[j] > 0) continue;
        const double limit = fmin(2 * tolerance, least) * w->weight[j];
        if (w->x[j] < w->upper[j] && !(w->r[j] <= limit)) return 0;
        if (w->x[j] > w->lower[j] && !(w->r[j] >= -limit)) return 0;
    }
    return 1;
}

/* One column, in c, lower, upper and t. guess: k flags, the first F, with the first x in x; or null. many: whether more
   columns share A. Returns whether x is the solution, as far as A can tell. */
INLINE int search_bounded(Bounded *w, const uint8_t *guess, int many) {
    const int64_t most = 10 * (int64_t)w->k + 20;
    int begun = 0;
    w->steps = 0;
    w->size_c = 1;
    for (int j = 0; j < w->k; j++)
        if (w->c[j] > 0 || w->lower[j] == -INFINITY) w->size_c = fmax(w->size_c, fabs(w->c[j]));
    if (guess) {
        memcpy(w->wanted, guess, (size_t)w->k);
        begun = begin_free(w);
    } else if (many) {
        begun = begin_at_most_of_all(w);
    }
    for (int attempt = 1;; attempt++) {
        if (!begun) {
            begin_low(w);
            if (w->sum) {
                const int vertex = begin_at_vertex(w);
                if (vertex != 1) {
                    clear(w);
                    residual_of(w);
                    return vertex == 2;
                }
            }
        }
        const int there = pivot_bounded(w, attempt * most);
        if (settle_bounded(w)) return 1;
        if (!there || attempt == 3) return 0;
        /* B has lost its digits on the way: the same F again, from nothing; then all over again. */
        begun = 0;
        if (attempt == 1) {
            for (int j = 0; j < w->k; j++) w->wanted[j] = w->inside[j] > 0;
            begun = begin_free(w);
        }
    }
}

/* K = [A_FF a_F; a_Fᵀ 0] is solved without the entry q, in which the sum is hidden: x_q = (e − Σ a_j x_j)/a_q leaves the
   positive definite A_ij − A_iq w_j − w_i A_qj + A_qq w_i w_j over the other members, w = a/a_q. Their Cholesky factor
   goes into the rows of B, with the diagonal inverted. Returns its smallest pivot, 0 where it has none. */
INLINE double factorise_bounded(Bounded *w, int q) {
    const int size = w->size, width = padded(size);
    const double *aq = q < 0 ? w->a : a_row(w, q), scale = q < 0 ? 0 : 1 / w->a[q];
    double smallest = 1;
    for (int i = 0; i < size; i++) {
        const int entry = w->member[i];
        const double *a = a_row(w, entry), wi = w->a[entry] * scale;
        double *u = b_row(w, i);
        for (int j = i / LANES * LANES; j < width; j++) {
            if (j >= size) {
                u[j] = 0;
                continue;
            }
            const int other = w->member[j];
            u[j] = a[other];
            if (q >= 0) {
                const double wj = w->a[other] * scale;
                u[j] += aq[q] * wi * wj - aq[entry] * wj - wi * aq[other];
            }
        }
    }
    for (int i = 0; i < size; i++) {
        double *u = b_row(w, i);
        if (!(u[i] > flat(w))) return 0;
        smallest = fmin(smallest, u[i]);
        const double inverse = 1 / sqrt(u[i]);
        for (int p = i / LANES * LANES; p < width; p += LANES) AT(u + p) *= inverse;
        for (int m = i + 1; m < size; m++) {
            double *v = b_row(w, m);
            const double f = u[m];
            for (int p = m / LANES * LANES; p < width; p += LANES) AT(v + p) -= f * READ(u + p);
        }
        u[i] = inverse;
    }
    return smallest;
}

/* The members that are ``wanted``, without the one that the sum is hidden in; its number, or −1. */
INLINE int gather_members(Bounded *w, const uint8_t *wanted, int sum) {
    const int q = sum ? best_to_hide_in(w, wanted) : -1;
    w->size = 0;
    for (int j = 0; j < w->k; j++)
        if (wanted[j] && j != q) w->member[w->size++] = j;
    return q;
}

INLINE void load_bounded(Bounded *w, const double *A, const double *weight) {
    for (int i = 0; i < w->k; i++) memcpy(w->A + (size_t)i * w->width, A + (size_t)i * w->k, w->k * sizeof(double));
    for (int i = 0; i < w->k; i++) w->diagonal[i] = a_row(w, i)[i];
    if (weight) memcpy(w->weight, weight, w->k * sizeof(double));
}

/* How independent the free columns of H are. */
INLINE double independence_of(Bounded *w) {
    double smallest = 1;
    for (int m = w->sum; m < w->size; m++) {
        const double inverse = b_row(w, m)[m];
        if (inverse > 0) smallest = fmin(smallest, 1 / inverse);
    }
    if (smallest >= WELL_CONDITIONED_PIVOT) return smallest;
    for (int j = 0; j < w->k; j++) w->wanted[j] = w->inside[j] > 0;
    return factorise_bounded(w, gather_members(w, w->wanted, w->sum));
}

/* Columns first ≤ column < last of N = P·m problems.

   A, weight         (P, k, k) and (P, k)
   C, lower, upper   (N, k); lower is finite or −∞, upper finite or ∞
   a, t              (N, k) and (N), or both null
   guess             (N, k) flags of the first free set, with the first x in x; or null
   x, free           (N, k), the solution and the flags of the free set
   binds             (N), 1 where the sum holds some entry: there is a λ
   pivot, solved, steps   (N), as in diffnmf_nnls_search

   Returns GOOD or NO_MEMORY. */
KERNEL(diffnmf_nnls_bounded)(const double *A, const double *weight, const double *C, const double *lower,
                             const double *upper, const double *a, const double *t, const uint8_t *guess, double *x,
                             uint8_t *free_, uint8_t *binds, double *pivot_, uint8_t *solved, int64_t *steps,
                             int64_t m, int64_t k, int64_t first, int64_t last) {
    Bounded w;
    int64_t loaded = -1;
    const size_t bytes = (size_t)k * sizeof(double);
    if (!bounded_new(&w, k)) return NO_MEMORY;
    for (int64_t n = first; n < last; n++) {
        if (n / m != loaded) {
            loaded = n / m;
            load_bounded(&w, A + loaded * k * k, weight + loaded * k);
            w.known = 0;
        }
        memcpy(w.c, C + n * k, bytes);
        memcpy(w.lower, lower + n * k, bytes);
        memcpy(w.upper, upper + n * k, bytes);
        w.sum = a != NULL;
        if (a) {
            if (memcmp(w.a, a + n * k, bytes)) w.known = 0;
            memcpy(w.a, a + n * k, bytes);
            w.t = t[n];
        }
        if (guess) memcpy(w.x, x + n * k, bytes);
        solved[n] = (uint8_t)search_bounded(&w, guess ? guess + n * k : NULL, m >= WORTH_INVERTING);
        steps[n] = w.steps;
        for (int j = 0; j < w.k; j++) {
            x[n * k + j] = fmin(fmax(w.x[j], w.lower[j]), w.upper[j]);
            free_[n * k + j] = w.inside[j] > 0;
        }
        binds[n] = w.sum && w.size > 0;
        w.sum = binds[n];
        pivot_[n] = independence_of(&w); /* takes B */
    }
    free(w.memory);
    return GOOD;
}

/* v (N, k) and multiplier (N) with A_FF v_F + λ a_F = b_F, a_Fᵀ v_F = e, and v zero off F; zero where that is singular.

   free, binds   (N, k) and (N), as above
   b, e          (N, k) and (N); a and e may be null */
KERNEL(diffnmf_nnls_solve_bounded)(const double *A, const double *a, const uint8_t *free_, const uint8_t *binds,
                                   const double *b, const double *e, double *v, double *multiplier, int64_t m,
                                   int64_t k, int64_t first, int64_t last) {
    Bounded w;
    int64_t loaded = -1;
    if (!bounded_new(&w, k)) return NO_MEMORY;
    for (int64_t n = first; n < last; n++) {
        if (n / m != loaded) {
            loaded = n / m;
            load_bounded(&w, A + loaded * k * k, NULL);
        }
        const double *from = b + n * k;
        double *to = v + n * k, *z = w.y;
        const int sum = a && binds[n];
        if (sum) memcpy(w.a, a + n * k, k * sizeof(double));
        const int q = gather_members(&w, free_ + n * k, sum);
        memset(to, 0, k * sizeof(double));
        multiplier[n] = 0;
        if (factorise_bounded(&w, q) == 0) continue;
        const double scale = q < 0 ? 0 : 1 / w.a[q], rest = q < 0 ? 0 : e[n] * scale;
        const double *aq = q < 0 ? NULL : a_row(&w, q);
        for (int i = 0; i < w.size; i++) {
            const int entry = w.member[i];
            z[i] = from[entry];
            if (q >= 0) z[i] -= w.a[entry] * scale * (from[q] - aq[q] * rest) + aq[entry] * rest;
        }
        for (int i = 0; i < w.size; i++) {
            const double *u = b_row(&w, i), f = z[i] *= u[i];
            for (int j = i + 1; j < w.size; j++) z[j] -= f * u[j];
        }
        for (int i = w.size - 1; i >= 0; i--) {
            const double *u = b_row(&w, i);
            double left = z[i];
            for (int j = i + 1; j < w.size; j++) left -= u[j] * z[j];
            z[i] = left * u[i];
        }
        double hidden = rest;
        for (int i = 0; i < w.size; i++) {
            to[w.member[i]] = z[i];
            if (q >= 0) hidden -= w.a[w.member[i]] * scale * z[i];
        }
        if (q < 0) continue;
        to[q] = hidden;
        double gradient = from[q] - aq[q] * hidden;
        for (int i = 0; i < w.size; i++) gradient -= aq[w.member[i]] * z[i];
        multiplier[n] = gradient * scale;
    }
    free(w.memory);
    return GOOD;
}
