"""The sweeps of HALS in Triton. What calls them, and what their arguments are: ``hals.py`` beside this file.

The columns of X know nothing of each other: some of them are one program, and stay in registers from the first row of
the first sweep to the last row of the last one, and through the extrapolation.
"""

import triton
import triton.language as tl

from diffnmf.kernels.cuda.programs import _problem_and_part


@triton.jit
def half(
    A, C, X, PAST, BETA, sweeps, width, A_b, A_k, A_j, C_b, C_k, C_n,
    ZERO: tl.constexpr, k: tl.constexpr, K: tl.constexpr, COLUMNS: tl.constexpr, EXTRAPOLATE: tl.constexpr,
):  # fmt: skip
    """Every row of some columns of X in turn at its optimum, the others held; then a step further in that direction.

    X and PAST are contiguous, (B, k, width).
    """
    b, part = _problem_and_part(tl.cdiv(width, COLUMNS))
    at_k, at_n = tl.arange(0, K).to(tl.int64), part * COLUMNS + tl.arange(0, COLUMNS)
    of_k, of_n = at_k < k, at_n < width
    inside = of_k[:, None] & of_n[None, :]
    place = b * k * width + at_k[:, None] * width + at_n[None, :]
    x = tl.load(X + place, mask=inside, other=0.0)
    for _sweep in range(sweeps):
        of_row = C + b * C_b + at_n * C_n  # moved from row to row: i · C_k may need 64 bits
        for i in range(k):
            here = at_k == i
            curvature = tl.load(A + b * A_b + i * A_k + i * A_j)
            alive = curvature > 0.0
            row = tl.load(A + b * A_b + i * A_k + at_k * A_j, mask=of_k, other=0.0)
            row = tl.where(here, tl.where(alive, 0.0, -1.0), row)  # without curvature: the step C
            cross = tl.load(of_row, mask=of_n, other=0.0)
            of_row += C_k
            moved = (cross - tl.sum(row[:, None] * x, axis=0)) / tl.where(alive, curvature, 1.0)
            moved = tl.where(moved <= ZERO, 0.0, moved)
            x = tl.where(here[:, None], moved[None, :], x)
    if EXTRAPOLATE:
        beta = tl.load(BETA + b)
        past = tl.load(PAST + place, mask=inside, other=0.0)
        tl.store(PAST + place, x, mask=inside)
        x = x + beta * (x - past)
        x = tl.where(x <= ZERO, 0.0, x)
    tl.store(X + place, x, mask=inside)
