"""Coordinate descent where every entry of the target has a weight of its own, zero for one that is missing.

Column j of X then has a Gram matrix of its own, F diag(v_j) Fᵀ. In operations of torch all of them are one product: row
(a, b) of the k(k+1)/2 products f_a ∘ f_b with V. The kernel in C keeps the residual up to date instead, and forms only
the blocks 4 × 4 on their diagonals: the same steps, to rounding.
"""

import torch
from torch import Tensor

from diffnmf.factorization.half_step import negligible
from diffnmf.factorization.weighted_half_step import WeightedHalfStep
from diffnmf.kernels import weighted as kernels
from diffnmf.solvers.devices import looking_is_free
from diffnmf.solvers.exact.chunks import max_entries

PIECE = 2**19  # entries of the Gram matrices at a time on the CPU: what a cache holds
PAIRS = 2**24  # entries of the products of pairs at a time


def weighted_sweep_(half: WeightedHalfStep, X: Tensor, sweeps: int) -> None:
    """Reduce the objective of ``half`` over X (B, k, N) ≥ 0 in place, by ``sweeps`` passes."""
    F, V = half.other, half.weights
    if half.in_kernel(X) and X.is_contiguous():
        kernels.sweep_(F, half.target, V, X, *half.penalties, sweeps, negligible(X.dtype))
        return
    batch, k, width = X.shape
    first, second = torch.triu_indices(k, k, device=X.device)
    gradient = half.gradient(X)
    size = columns_at_once(batch, k, X.device)
    rows = max(1, PAIRS // (batch * len(first)))
    parts = [slice(start, start + rows) for start in range(0, F.shape[2], rows)]
    pairs = F[:, first] * F[:, second] if len(parts) == 1 else None  # (B, k(k+1)/2, p)
    for start in range(0, width, size):
        some = slice(start, start + size)
        if pairs is not None:
            grams = pairs @ V[..., some]
        else:
            grams = X.new_zeros(batch, len(first), X[..., some].shape[2])
            for part in parts:
                grams.baddbmm_(F[:, first, part] * F[:, second, part], V[:, part, some])
        sweep_columns(grams, gradient[..., some], X[..., some], half.penalties.ridge, sweeps)


def columns_at_once(batch: int, k: int, device: torch.device) -> int:
    """How many columns with a Gram matrix each are worth taking together."""
    most = PIECE if looking_is_free(device) else max_entries(device)
    return max(16, most // (batch * (k * (k + 1) // 2)))


def majorizer(half: WeightedHalfStep, X: Tensor, largest: Tensor) -> tuple[Tensor, Tensor]:
    """A (B, k, k) and C (B, k, N) of a quadratic that touches the objective at X and lies above it elsewhere.

    It is the squared error of all weights at the largest one, where what an entry lacks of that is at its estimate:
    with weights 0 and 1, where what is missing is filled in (Srebro and Jaakkola 2003, Weighted low-rank
    approximations).

    Arguments:
        half: with weights.
        X: (B, k, N) ≥ 0.
        largest: (B, 1, 1), of the weights.
    """
    A = largest * (half.other @ half.other.mT)
    if half.penalties.ridge is not None:
        A = A + half.penalties.ridge * torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    return A, torch.baddbmm(half.gradient(X), A, X, beta=-1)


def sweep_columns(grams: Tensor, gradient: Tensor, X: Tensor, ridge: Tensor | None, sweeps: int) -> None:
    """Reduce ½⟨D, A_j D⟩ + ⟨gradient, D⟩ over X + D ≥ 0 in place, where A_j is the Gram matrix of column j, and ridge.

    Arguments:
        grams: (B, k(k+1)/2, c), the upper triangles of the A_j, row after row, without the ridge.
        gradient: (B, k, c), at X.
        X: (B, k, c) ≥ 0.
        ridge: (B, 1, 1), or None.
        sweeps: ≥ 1.
    """
    k = X.shape[1]
    zero = negligible(X.dtype)
    A = [grams[:, row] for row in _pairs(k, X.device)]  # (B, k, c) each
    ridge = None if ridge is None else ridge.expand(-1, k, -1)
    start, moved = X.clone(), torch.zeros_like(X)
    for _ in range(sweeps):
        for i, row in enumerate(A):
            curvature = row[:, i]
            slope = (row * moved).sum(1).add_(gradient[:, i])
            if ridge is not None:
                slope += ridge[:, i] * moved[:, i]
                curvature = curvature + ridge[:, i]
            step = slope / torch.where(curvature > 0, curvature, 1.0)
            X[:, i] = torch.threshold_(X[:, i] - step, zero, 0.0)
            moved[:, i] = X[:, i] - start[:, i]


def times_columns(grams: Tensor, X: Tensor) -> Tensor:
    """A_j X_j of every column, (B, k, c), for ``grams`` as in ``sweep_columns``."""
    return torch.stack([(grams[:, row] * X).sum(1) for row in _pairs(X.shape[1], X.device)], 1)


def _pairs(k: int, device: torch.device) -> Tensor:
    """The number of (a, b), or of (b, a), among the pairs of the upper triangle, (k, k)."""
    first, second = torch.triu_indices(k, k, device=device)
    pair = torch.empty(k, k, dtype=torch.int64, device=device)
    pair[first, second] = pair[second, first] = torch.arange(len(first), device=device)
    return pair
