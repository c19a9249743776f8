/* Merging the columns of Y, known by their Gram matrix, into k components: the loop of factorization/gram_merging.py,
   which explains it. Every component remembers the one with which it would merge at the least loss, so that a merge costs
   O(m) and not O(m²), but for the components whose best partner has just changed. */

#include "common.h"

static const double TINY = 2.2250738585072014e-308;

typedef struct {
    int64_t m;
    double *products; /* m × m, of the components */
    double *parts;    /* m × m: row j is what component j is made of */
    double *energy;   /* squared lengths */
    double *loss;     /* m × m, of merging two of them; infinite for those that are gone, and on the diagonal */
    int64_t *partner; /* where a row of losses is least */
    uint8_t *gone;
} Components;

/* The smaller eigenvalue of [[l₁, b], [b, l₂]], as the determinant over the larger one: nothing cancels. */
INLINE double loss_of(double l1, double l2, double b) {
    const double half = 0.5 * (l1 - l2), top = sqrt(half * half + b * b) + 0.5 * (l1 + l2);
    return fmax(l1 * l2 - b * b, 0) / fmax(top, TINY);
}

INLINE int64_t least_of(const double *row, int64_t m) {
    int64_t best = 0;
    for (int64_t j = 1; j < m; j++) best = row[j] < row[best] ? j : best;
    return best;
}

/* Components i < j become one, in the place of i: x_i g_i + x_j g_j, x the eigenvector of the larger eigenvalue. */
INLINE void merge(Components *c, int64_t i, int64_t j) {
    const int64_t m = c->m;
    double *row_i = c->products + i * m, *parts_i = c->parts + i * m;
    const double *row_j = c->products + j * m, *parts_j = c->parts + j * m;
    const double b = row_i[j], half = 0.5 * (c->energy[i] - c->energy[j]), root = hypot(half, b);
    const double top = 0.5 * (c->energy[i] + c->energy[j]) + root;
    /* From the difference that does not cancel; two zero columns make another one. */
    const double large = fmax(root + fabs(half), TINY), length = hypot(large, b);
    const double x_i = (half >= 0 ? large : b) / length, x_j = (half >= 0 ? b : large) / length;
    for (int64_t p = 0; p < m; p++) {
        row_i[p] = x_i * row_i[p] + x_j * row_j[p];
        parts_i[p] = x_i * parts_i[p] + x_j * parts_j[p];
    }
    row_i[i] = c->energy[i] = top;
    c->gone[j] = 1;
    for (int64_t p = 0; p < m; p++) {
        c->products[p * m + i] = row_i[p];
        c->loss[j * m + p] = c->loss[p * m + j] = INFINITY;
        const double loss = p == i || c->gone[p] ? INFINITY : loss_of(top, c->energy[p], row_i[p]);
        c->loss[i * m + p] = c->loss[p * m + i] = loss;
    }
    for (int64_t p = 0; p < m; p++) {
        if (c->gone[p]) continue;
        const double *row = c->loss + p * m;
        if (p == i || c->partner[p] == i || c->partner[p] == j)
            c->partner[p] = least_of(row, m);
        else if (row[i] < row[c->partner[p]])
            c->partner[p] = i;
    }
}

/* Problems first ≤ b < last.

   gram   (B, m, m), YᵀY ≥ 0
   A      (B, k, m): H = YAᵀ has unit columns, zero ones where fewer than k columns of Y are not zero; components in the
          order of their first columns

   Returns GOOD or NO_MEMORY. */
KERNEL(diffnmf_merge_gram)(const double *gram, double *A, int64_t m, int64_t k, int64_t first, int64_t last) {
    Components c = {.m = m};
    const size_t square = (size_t)m * m;
    double *memory = malloc((3 * square + 2 * (size_t)m) * sizeof(double) + (size_t)m);
    if (!memory) return NO_MEMORY;
    c.products = memory;
    c.parts = memory + square;
    c.loss = memory + 2 * square;
    c.energy = memory + 3 * square;
    c.partner = (int64_t *)(c.energy + m);
    c.gone = (uint8_t *)(c.partner + m);
    for (int64_t b = first; b < last; b++) {
        memcpy(c.products, gram + b * square, square * sizeof(double));
        memset(c.parts, 0, square * sizeof(double));
        memset(c.gone, 0, m);
        for (int64_t j = 0; j < m; j++) {
            c.parts[j * m + j] = 1;
            c.energy[j] = c.products[j * m + j];
        }
        for (int64_t i = 0; i < m; i++) {
            double *row = c.loss + i * m;
            for (int64_t j = 0; j < m; j++) row[j] = loss_of(c.energy[i], c.energy[j], c.products[i * m + j]);
            row[i] = INFINITY;
            c.partner[i] = least_of(row, m);
        }
        for (int64_t left = m; left > k; left--) {
            int64_t i = -1;
            for (int64_t p = 0; p < m; p++)
                if (!c.gone[p] && (i < 0 || c.loss[p * m + c.partner[p]] < c.loss[i * m + c.partner[i]])) i = p;
            const int64_t j = c.partner[i];
            merge(&c, i < j ? i : j, i < j ? j : i);
        }
        int64_t row = 0;
        for (int64_t j = 0; j < m; j++) {
            if (c.gone[j]) continue;
            const double scale = c.energy[j] > 0 ? 1 / sqrt(fmax(c.energy[j], TINY)) : 0;
            for (int64_t p = 0; p < m; p++) A[(b * k + row) * m + p] = scale * c.parts[j * m + p];
            row++;
        }
    }
    free(memory);
    return GOOD;
}
