"""The programs themselves, in Triton. What calls them, and what their arguments are: ``calling.py`` beside this file.

One column of W is one program: principal pivoting on the tableau of its Gram form (``tableau.py``), with the backup
rule of Murty (1974).
"""

import triton
import triton.language as tl

from diffnmf.kernels.cuda.tableau import exchange, laid_out, matrix, matrix_again, refined, upper_half

SMALLEST = tl.constexpr(2.0**-680)  # squares of numbers in range, see ``solvers/ranges.py``
LARGEST = tl.constexpr(2.0**680)
LARGEST_DESCENT = tl.constexpr(1e30)
GOOD = tl.constexpr(0)
WANTS_CARE = tl.constexpr(1)
OUT_OF_RANGE = tl.constexpr(2)


@triton.jit
def _is_square_in_range(square):
    return (square == 0.0) | ((square >= SMALLEST) & (square <= LARGEST))


@triton.jit
def _problem_and_part(parts):
    """Which problem a program is for, and which of its parts, in 64 bits: places in memory may need them.

    One dimension of the grid for both: the others end at 65,535.
    """
    program = tl.program_id(0).to(tl.int64)
    return program // parts, program % parts


@triton.jit
def gram(
    H, Y, G, C, SQUARES, ANY_H, ANY_Y, n, m, H_b, H_n, H_k, Y_b, Y_n, Y_m,
    k: tl.constexpr, K: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """HᵀH, (HᵀY)ᵀ, the squares of the columns of Y, summed in float64, and whether all columns have any entry but 0.

    A program takes some columns of Y of a problem; the first one of each forms HᵀH as well. No copy in float64 is made.
    """
    b, part = _problem_and_part(tl.cdiv(m, COLUMNS))
    at_k, at_m, at_n = tl.arange(0, K), part * COLUMNS + tl.arange(0, COLUMNS), tl.arange(0, ROWS).to(tl.int64)
    of_k, of_m = at_k < k, at_m < m
    total = tl.zeros((K, K), dtype=tl.float64)
    cross = tl.zeros((K, COLUMNS), dtype=tl.float64)
    squares = tl.zeros((ROWS, COLUMNS), dtype=tl.float64)
    any_y, any_h = tl.zeros((ROWS, COLUMNS), dtype=tl.int32), tl.zeros((ROWS, K), dtype=tl.int32)
    for first in range(0, n, ROWS):
        row = first + at_n
        inside = row < n
        place_h = H + b * H_b + row[:, None] * H_n + at_k.to(tl.int64)[None, :] * H_k
        place_y = Y + b * Y_b + row[:, None] * Y_n + at_m[None, :] * Y_m
        h = tl.load(place_h, mask=inside[:, None] & of_k[None, :], other=0.0).to(tl.float64)
        y = tl.load(place_y, mask=inside[:, None] & of_m[None, :], other=0.0).to(tl.float64)
        cross = tl.dot(tl.trans(h), y, cross, out_dtype=tl.float64)
        squares += y * y
        any_y = tl.where(y == 0.0, any_y, 1)
        if part == 0:
            total = tl.dot(tl.trans(h), h, total, out_dtype=tl.float64)
            any_h = tl.where(h == 0.0, any_h, 1)
    tl.store(C + b * m * k + at_m[None, :] * k + at_k[:, None], cross, mask=of_m[None, :] & of_k[:, None])
    tl.store(SQUARES + b * m + at_m, tl.sum(squares, axis=0), mask=of_m)
    tl.store(ANY_Y + b * m + at_m, tl.max(any_y, axis=0).to(tl.int8), mask=of_m)
    if part == 0:
        tl.store(G + b * k * k + at_k[:, None] * k + at_k[None, :], total, mask=of_k[:, None] & of_k[None, :])
        tl.store(ANY_H + b * k + at_k, tl.max(any_h, axis=0).to(tl.int8), mask=of_k)


@triton.jit
def prepare(
    G, RIDGE, ANY_H, A, SCALE, STATE, R_b, R_k, independent_pivot, independent_sum, tiny,
    k: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """Scale HᵀH + ridge I to a unit diagonal, and say what the whole of H is like: one problem a program.

    STATE: 0 as usual; 1 nearly dependent; 2 so in disguise (pivots do not show it, A⁻¹1 does); 3 out of range.
    """
    b, at = tl.program_id(0).to(tl.int64), tl.arange(0, K)
    inside = at < k
    place = G + b * k * k + at[:, None] * k + at[None, :]
    total = tl.load(place, mask=inside[:, None] & inside[None, :], other=0.0)
    square = tl.load(G + b * k * k + at * k + at, mask=inside, other=1.0)
    ridge = tl.load(RIDGE + b * R_b + at * R_k, mask=inside, other=0.0)
    some = tl.load(ANY_H + b * k + at, mask=inside, other=1)
    # NaN is in no range, and the square of a number that is too small is zero.
    good = _is_square_in_range(square) & ((square > 0.0) | (some == 0)) & (ridge >= 0.0) & (ridge <= LARGEST)
    diagonal = square + ridge
    scale = tl.where(diagonal == 0.0, 1.0, tl.sqrt(diagonal))
    on = at[:, None] == at[None, :]
    M = tl.where(on, 1.0, total / scale[:, None] / scale[None, :])
    M = tl.where(inside[:, None] & inside[None, :], M, tl.where(on, 1.0, 0.0))
    tl.store(A + b * k * k + at[:, None] * k + at[None, :], M, mask=inside[:, None] & inside[None, :])
    tl.store(SCALE + b * k + at, scale, mask=inside)
    whole = tl.sum((inside & (good == 0)).to(tl.int32), axis=0) == 0
    v = tl.where(inside, 1.0, 0.0).to(tl.float64)
    smallest = tl.sum(v, axis=0) * 0.0 + 1.0
    j = 0
    while (j < k) & whole & (smallest > independent_pivot):
        M, v, pivot = exchange(M, v, at == j, at < j, False)
        smallest = tl.minimum(smallest, tl.where(pivot > tiny, pivot, 0.0))
        j += 1
    dependent = smallest <= independent_pivot
    disguised = (dependent == 0) & (tl.max(tl.where(inside, tl.abs(v), 0.0), axis=0) > independent_sum)
    state = tl.where(dependent, 1, tl.where(disguised, 2, 0))
    tl.store(STATE + b, tl.where(whole, state, 3))


@triton.jit
def search(
    A, C, GUESS, L1, SCALE, SQUARES, ANY_Y, STATE, W, FREE, PIVOT, STEPS, CODE, m, L_b, L_k, L_m,
    greedy, most, tiny, tolerance, least_pivot, near_tie, independent_pivot, large,
    k: tl.constexpr, K: tl.constexpr, RAW: tl.constexpr, GUESSED: tl.constexpr,
):  # fmt: skip
    """min ½ xᵀAx − cᵀx, x ≥ 0 for one column: x, its free set, its smallest pivot, and whether it is certain.

    RAW: C is HᵀY in the units of H and Y, and so is W; otherwise both are scaled already, and nothing is known of H.
    """
    p, at = tl.program_id(0).to(tl.int64), tl.arange(0, K)
    b, inside = p // m, at < k
    c = tl.load(C + p * k + at, mask=inside, other=0.0)
    good = p >= 0
    unit = tl.where(inside, 1.0, 1.0).to(tl.float64)
    if RAW:
        scale = tl.load(SCALE + b * k + at, mask=inside, other=1.0)
        l1 = tl.load(L1 + b * L_b + at.to(tl.int64) * L_k + (p % m) * L_m, mask=inside, other=0.0)
        square = tl.load(SQUARES + p)
        good = _is_square_in_range(square) & ((square > 0.0) | (tl.load(ANY_Y + p) == 0))
        good = good & (tl.load(STATE + b) < 3)
        good = good & (tl.sum((inside & (((l1 >= 0.0) & (l1 < float("inf"))) == 0)).to(tl.int32), axis=0) == 0)
        length = tl.where(square == 0.0, 1.0, tl.sqrt(square))
        c = tl.maximum((c - l1) / scale / length, -LARGEST_DESCENT)
        unit = length / scale
        inside_good = inside & (at * 0 + tl.where(good, 1, 0) > 0)
        c = tl.where(inside_good, c, 0.0)
    M, v = matrix(A, b, at, k), laid_out(c, at)
    free = at < 0
    smallest = tl.sum(c, axis=0) * 0.0 + 1.0
    steps = 0
    if GUESSED:
        waiting = (tl.load(GUESS + p * k + at, mask=inside, other=0) != 0) & inside
        more = (tl.sum(waiting.to(tl.int32), axis=0) > 0) & good
        while more:
            j = tl.min(tl.where(waiting, at, K), axis=0)
            pivot = tl.sum(tl.where((at[:, None] == j) & (at[None, :] == j), M, 0.0))
            if pivot > independent_pivot:  # what depends on the others may wait for its turn
                M, v, pivot = exchange(M, v, at == j, free, False)
                smallest = tl.minimum(smallest, pivot)
                free = free | (at == j)
                steps += 1
            waiting = waiting & (at != j)
            more = tl.sum(waiting.to(tl.int32), axis=0) > 0
    more = good
    while more:
        size = 1.0 + tl.sum(
            tl.where(free, tl.abs(v), 0.0).to(tl.float32), axis=0
        )  # of a tolerance: digits do not matter
        violation = tl.where(free, -v, v)
        candidate = violation > tolerance * size
        height = tl.where(candidate, upper_half(violation), 0)
        worst = tl.max(height, axis=0)
        # The least index cannot cycle. The last bit says whether an entry is free.
        chosen = tl.where(steps < greedy, candidate & (height == worst), candidate)
        place = tl.min(tl.where(chosen, 2 * at + free.to(tl.int32), 2 * K), axis=0)
        more = (place < 2 * K) & (steps < most)
        if more:
            j, leaves = place // 2, place % 2 > 0
            M, v, pivot = exchange(M, v, at == j, free, leaves)
            smallest = tl.where(leaves, smallest, tl.minimum(smallest, pivot))
            free = free ^ (at == j)
            steps += 1
            more = pivot > tiny
    free = laid_out(free.to(tl.float64), at) > 0.0
    again = matrix_again(A, b, at, k)
    x = refined(M, again, c, v, free)
    descent = c - tl.sum(again * x[:, None], axis=0)
    total = tl.sum(tl.abs(x), axis=0)
    wrong = (tl.where(free, -x, descent) > tolerance * (1.0 + total)) & inside
    sure = (tl.sum(wrong.to(tl.int32), axis=0) == 0) & (smallest > tiny) & (smallest >= least_pivot)
    if RAW:
        state = tl.load(STATE + b)
        alone = tl.sum(tl.abs(again), axis=0) <= 1.0
        tie = tl.sum((inside & (free == 0) & (alone == 0) & (descent > -near_tie)).to(tl.int32), axis=0) > 0
        sure = sure & (state != 2) & (((state == 1) & tie) == 0) & (total <= large)
    x = tl.maximum(x, 0.0) * unit
    tl.store(W + p * k + at, x, mask=inside)
    tl.store(FREE + p * k + at, free.to(tl.int8), mask=inside)
    tl.store(PIVOT + p, tl.where(smallest > tiny, smallest, 0.0))
    tl.store(STEPS + p, steps)
    tl.store(CODE + p, tl.where(good, tl.where(sure, GOOD, WANTS_CARE), OUT_OF_RANGE))


@triton.jit
def solve(A, FREE, B, V, m, B_b, B_k, B_m, tiny, k: tl.constexpr, K: tl.constexpr):
    """A_FF v_F = b_F and zero off F for one column; zero where A_FF is singular."""
    p, at = tl.program_id(0).to(tl.int64), tl.arange(0, K)
    inside = at < k
    free = (tl.load(FREE + p * k + at, mask=inside, other=0) != 0) & inside
    b = tl.load(B + (p // m) * B_b + at.to(tl.int64) * B_k + (p % m) * B_m, mask=inside, other=0.0)
    M, v, left = matrix(A, p // m, at, k), laid_out(b, at), free
    smallest = tl.sum(at, axis=0).to(tl.float64) * 0.0 + 1.0
    more = tl.sum(left.to(tl.int32), axis=0) > 0
    while more:
        j = tl.min(tl.where(left, at, K), axis=0)
        M, v, pivot = exchange(M, v, at == j, free & (left == 0), False)
        smallest = tl.minimum(smallest, tl.where(pivot > tiny, pivot, 0.0))
        left = left & (at != j)
        more = (tl.sum(left.to(tl.int32), axis=0) > 0) & (smallest > 0.0)
    v = tl.where(smallest > 0.0, refined(M, matrix_again(A, p // m, at, k), b, v, free), 0.0)
    tl.store(V + p * k + at, v, mask=inside)


@triton.jit
def gradients(
    H, Y, V, S, GRAD_H, GRAD_Y, n, m, H_b, H_n, H_k, Y_b, Y_n, Y_m,
    k: tl.constexpr, K: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr,
    WANTS_H: tl.constexpr, WANTS_Y: tl.constexpr,
):  # fmt: skip
    """∂L/∂H = YVᵀ − H(WVᵀ + VWᵀ) and ∂L/∂Y = HV for some rows of a problem, in float64 between load and store."""
    b, part = _problem_and_part(tl.cdiv(n, ROWS))
    at_k, at_m, at_n = tl.arange(0, K), tl.arange(0, COLUMNS), tl.arange(0, ROWS)
    row = part * ROWS + at_n
    # Compared in 32 bits: otherwise there are not enough registers.
    in_n, of_k = at_n < tl.minimum(n - part * ROWS, ROWS).to(tl.int32), at_k < k
    place_h = H + b * H_b + row[:, None] * H_n + at_k.to(tl.int64)[None, :] * H_k
    h = tl.load(place_h, mask=in_n[:, None] & of_k[None, :], other=0.0).to(tl.float64)
    gradient = tl.zeros((ROWS, K), dtype=tl.float64)
    if WANTS_H:
        place = S + b * k * k + at_k[:, None] * k + at_k[None, :]
        both = tl.load(place, mask=of_k[:, None] & of_k[None, :], other=0.0)
        gradient = tl.dot(h, -both, gradient, out_dtype=tl.float64)
    for first in range(0, m, COLUMNS):
        column = first + at_m.to(tl.int64)
        in_m = at_m < m - first
        v = tl.load(V + b * m * k + column[:, None] * k + at_k[None, :], mask=in_m[:, None] & of_k[None, :], other=0.0)
        if WANTS_H:
            place_y = Y + b * Y_b + row[:, None] * Y_n + column[None, :] * Y_m
            y = tl.load(place_y, mask=in_n[:, None] & in_m[None, :], other=0.0).to(tl.float64)
            gradient = tl.dot(y, v, gradient, out_dtype=tl.float64)
        if WANTS_Y:
            moved = tl.dot(h, tl.trans(v), out_dtype=tl.float64)
            out = GRAD_Y + b * n * m + row[:, None] * m + column[None, :]
            tl.store(out, moved.to(GRAD_Y.dtype.element_ty), mask=in_n[:, None] & in_m[None, :])
    if WANTS_H:
        out = GRAD_H + b * n * k + row[:, None] * k + at_k[None, :]
        tl.store(out, gradient.to(GRAD_H.dtype.element_ty), mask=in_n[:, None] & of_k[None, :])
