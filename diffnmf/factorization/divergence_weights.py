"""The weights W of given components under another loss than the squared error.

Every column is solved by a Newton method: the quadratic model at the iterate has the weights v = (β − 1) P^(β−2) +
(2 − β) Y P^(β−3) in the place of 1, so that it is a weighted least squares problem; it is reduced by coordinate
descent, and a line search looks how far the step may go (Hsieh and Dhillon 2011, Fast coordinate descent methods with
variable selection for NMF, is this with a new model after every coordinate). At 1 ≤ β ≤ 2 the divergence is convex in
W, and this is the minimum. Elsewhere the negative one of the two terms of v is left out, and it is a local minimum.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from diffnmf.factorization.divergence import DivergenceHalfStep, divergences, least_product
from diffnmf.factorization.nmf_problem import Penalties
from diffnmf.factorization.sparse_matrix import Matrix, SparseMatrix
from diffnmf.factorization.weighted_sweep import sweep_columns_
from diffnmf.solvers.norms import one_where_zero

STEPS, SWEEPS, HALVINGS = 50, 10, 30
# Of the step along the gradient that is left, relative to the largest entry of the column.
TOL = {torch.float64: 1e-8, torch.float32: 1e-5}
GROWS = 0.1  # share of what pulls an entry up that nothing holds
PIECE = 2**19


@torch.no_grad()
def divergence_weights(half: DivergenceHalfStep) -> Tensor:
    """argmin Σ V d_β(T | FᵀX) + l1 ΣX + ½ ridge ‖X‖² over X ≥ 0, (B, k, N); a column does not see the others.

    The columns of T and the rows of F have to be of the size of 1: steps and when they stop are measured by the largest
    entry of a column of X, and P has a floor. Penalties are (1, 1, 1), or of every entry of X: (1, k, N).
    """
    X = _even_start(half)
    by_entries = isinstance(half.target, SparseMatrix) and half.beta == 1 and len(half.target.values) > 0
    return (_sparse_columns if by_entries else _all_columns)(half, X)


def _all_columns(half: DivergenceHalfStep, X: Tensor) -> Tensor:
    k, width = X.shape[1:]
    first, second = torch.triu_indices(k, k, device=X.device)
    pairs = half.fixed[:, first] * half.fixed[:, second]
    size = max(16, PIECE // (len(X) * len(first))) if X.device.type == "cpu" else width
    for start in range(0, width, size):
        some = slice(start, start + size)
        V = None if half.weights is None else half.weights[..., some]
        penalties = Penalties(*(None if x is None else x.expand_as(X)[..., some] for x in half.penalties))
        part = DivergenceHalfStep(half.fixed, _dense_slice(half.target, some), penalties, half.beta, V)
        X[..., some] = _newton(part, pairs.matmul, X[..., some].contiguous())
    return X


def _sparse_columns(half: DivergenceHalfStep, X: Tensor) -> Tensor:
    """At β = 1 what is not stored counts by the sum of its P alone: a column is a problem of as many rows as it has.

    Columns of about the same number of them are worked on together, as a batch.
    """
    T, F = half.target, half.fixed[0]
    assert isinstance(T, SparseMatrix)
    k, whole = len(F), F.sum(1)
    first, second = torch.triu_indices(k, k, device=X.device)
    starts, rows, values = T.columns.crow_indices(), T.columns.col_indices(), T.columns.values()
    counts = starts.diff()
    order = counts.argsort()
    size = max(1, PIECE // (k * k))
    for some in order.split(size):
        longest = max(1, int(counts[some].max()))
        place = torch.arange(longest, device=X.device).expand(len(some), longest)
        stored = place < counts[some, None]
        at = torch.where(stored, starts[some, None] + place, 0)
        bases = torch.where(stored, F[:, rows[at]], 0.0).movedim(0, 1).contiguous()  # (c, k, L)
        target = torch.where(stored, values[at], 0.0).unsqueeze(2)  # (c, L, 1)
        linear = (whole - bases.sum(2)).clamp(min=0).unsqueeze(2)  # (c, k, 1)
        l1, ridge = (
            None if x is None else x.expand_as(X)[0][:, some].T.unsqueeze(2)  # (c, k, 1)
            for x in half.penalties
        )
        shared = Penalties(linear if l1 is None else linear + l1, ridge)

        def grams(curvature: Tensor, bases: Tensor = bases) -> Tensor:
            return ((bases * curvature.mT) @ bases.mT)[:, first, second].unsqueeze(2)

        part = DivergenceHalfStep(bases, target, shared, half.beta)
        X[0][:, some] = _newton(part, grams, X[0][:, some].T.unsqueeze(2).contiguous()).squeeze(2).T
    return X


def _even_start(half: DivergenceHalfStep) -> Tensor:
    """The same share for every component, so that every column of FᵀX has the sum of its T."""
    F, T, V = half.fixed, half.target, half.weights
    ones = F.new_ones(len(F), 1, F.shape[2])
    if isinstance(T, SparseMatrix):
        mass, share = T.left_multiplied(ones), F.sum((1, 2), keepdim=True)
    elif V is None:
        mass, share = T.sum(1, keepdim=True), F.sum((1, 2), keepdim=True)
    else:
        mass, share = (T * V).sum(1, keepdim=True), F.sum(1, keepdim=True) @ V
    return (mass / one_where_zero(share)).expand(-1, F.shape[1], -1).clone()


def _dense_slice(T: Matrix, some: slice) -> Tensor:
    """Some columns of T, (B, p, c)."""
    if isinstance(T, Tensor):
        return T[..., some]
    numbers = range(*some.indices(T.shape[2]))
    starts = T.columns.crow_indices()[numbers.start : numbers.stop + 1]
    stored = slice(int(starts[0]), int(starts[-1]))
    dense = T.columns.values().new_zeros(len(numbers), T.shape[1])
    row = torch.arange(len(numbers), device=T.device).repeat_interleave(starts.diff())
    dense[row, T.columns.col_indices()[stored]] = T.columns.values()[stored]
    return dense.mT.unsqueeze(0)


def _newton(half: DivergenceHalfStep, grams: Callable[[Tensor], Tensor], X: Tensor) -> Tensor:
    """Columns that stay in the cache. Every column has steps of its own, and stops by itself.

    Arguments:
        half: over B·c columns, with a dense target.
        grams: makes the upper triangles of F diag(v) Fᵀ (B, k(k+1)/2, c) of weights v (B, p, c).
        X: (B, k, c), the start.
    """
    T, beta, F = half.target, half.beta, half.fixed
    assert isinstance(T, Tensor)
    active = torch.ones_like(X[:, 0], dtype=torch.bool)  # (B, c)
    least = least_product(beta, X.dtype)
    for _ in range(STEPS):
        P = (F.mT @ X).clamp_(min=least)
        held, pulled = P.pow(beta - 1), T * P.pow(beta - 2)
        curvature = torch.zeros_like(P)
        if beta < 2:
            curvature += (2 - beta) * T * P.pow(beta - 3)
        if beta > 1:
            curvature += (beta - 1) * P.pow(beta - 2)
        if half.weights is not None:
            held, pulled, curvature = (x * half.weights for x in (held, pulled, curvature))
        gradient = half.penalties.added(F @ (held - pulled), X)
        bend = half.penalties.bent(F.square() @ curvature)
        # How far every entry would go by itself, if a pull that nothing bends reaches as far as the largest entry.
        largest = X.amax(1, keepdim=True)
        far = largest * gradient / one_where_zero(bend * largest + gradient.abs())
        off = (X - (X - far).clamp_(min=0)).abs()
        # An entry that is small where nothing else makes up for it has steps as small as itself, and far to go.
        grows = gradient < -GROWS * (F @ pulled)
        active = active & ((off > TOL[X.dtype] * largest) | grows).any(1)
        if not bool(active.any()):
            break
        moved = X.clone()
        sweep_columns_(grams(curvature), gradient, moved, half.penalties.ridge, SWEEPS)
        X, t = _line_search(half, X, moved - X, gradient, active)
        active = active & (t > 0)
    return X


def _line_search(
    half: DivergenceHalfStep, X: Tensor, step: Tensor, gradient: Tensor, active: Tensor
) -> tuple[Tensor, Tensor]:
    """X + t · step with the largest t of 1, ½, ¼, ... that brings enough, column by column; t = 0 where none does.

    Returns:
        It, and t (B, c).
    """
    before = _objective(half, X)
    promised = (gradient * step).sum(1)  # (B, c)
    t = active.to(X.dtype)
    rounding = 1e-13 if X.dtype == torch.float64 else 1e-6
    for _ in range(HALVINGS):
        new = (X + t.unsqueeze(1) * step).clamp_(min=0)
        short = (_objective(half, new) > before + 1e-4 * t * promised + rounding * before.abs()) & (t > 0)
        if not bool(short.any()):
            return new, t
        t = torch.where(short, 0.5 * t, t)
    t = torch.where(short, 0.0, t)
    return (X + t.unsqueeze(1) * step).clamp_(min=0), t


def _objective(half: DivergenceHalfStep, X: Tensor) -> Tensor:
    """Of every column, (B, c)."""
    assert isinstance(half.target, Tensor)
    terms = divergences(half.target, half.fixed.mT @ X, half.beta)
    V = half.weights
    total = (terms if V is None else torch.where(V > 0, V * terms, 0.0)).sum(1)
    if half.penalties.l1 is not None:
        total += (half.penalties.l1 * X).sum(1)
    if half.penalties.ridge is not None:
        total += 0.5 * (half.penalties.ridge * X.square()).sum(1)
    return total
