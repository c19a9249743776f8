"""Coordinate descent where every entry of the target has a weight of its own, zero for one that is missing.

Column j of X then has a Gram matrix of its own, F diag(v_j) Fᵀ. All of them are one product: row (a, b) of the k(k+1)/2
products f_a ∘ f_b with V.
"""

import torch
from torch import Tensor

from diffnmf.factorization.half_step import HalfStep, negligible

PIECE = 2**19  # entries of the Gram matrices at a time on the CPU: what a cache holds
PAIRS = 2**24  # entries of the products of pairs at a time


def weighted_sweep_(half: HalfStep, X: Tensor, sweeps: int) -> None:
    """Reduce the objective of ``half``, which has weights, over X (B, k, N) ≥ 0 in place, by ``sweeps`` passes."""
    assert half.weights is not None and isinstance(half.target, Tensor)
    batch, k, width = X.shape
    first, second = torch.triu_indices(k, k, device=X.device)
    pair = torch.empty(k, k, dtype=torch.int64, device=X.device)  # the number of (a, b) among the pairs
    pair[first, second] = pair[second, first] = torch.arange(len(first), device=X.device)
    C = half.penalized_cross()
    size = max(16, PIECE // (batch * len(first))) if X.device.type == "cpu" else width
    pieces = [slice(start, start + size) for start in range(0, width, size)]
    p = half.fixed.shape[2]
    rows = max(1, PAIRS // (batch * len(first)))
    if p <= rows:
        pairs = half.fixed[:, first] * half.fixed[:, second]  # (B, k(k+1)/2, p)
        for some in pieces:
            _sweep_piece(pairs @ half.weights[..., some], pair, C[..., some], X[..., some], half, sweeps)
        return
    for some in pieces:
        grams = X.new_zeros(batch, len(first), X[..., some].shape[2])
        for start in range(0, p, rows):
            part = half.fixed[..., start : start + rows]
            grams.baddbmm_(part[:, first] * part[:, second], half.weights[:, start : start + rows, some])
        _sweep_piece(grams, pair, C[..., some], X[..., some], half, sweeps)


def _sweep_piece(grams: Tensor, pair: Tensor, C: Tensor, X: Tensor, half: HalfStep, sweeps: int) -> None:
    """Some columns: grams (B, k(k+1)/2, c), C and X (B, k, c)."""
    zero, ridge = negligible(X.dtype), half.penalties.ridge
    A = [grams[:, row] for row in pair]  # (B, k, c) each
    for _ in range(sweeps):
        for i, row in enumerate(A):
            curvature = row[:, i]
            gradient = (row * X).sum(1).sub_(C[:, i])
            if ridge is not None:
                gradient += ridge[:, 0] * X[:, i]
                curvature = curvature + ridge[:, 0]
            step = gradient / torch.where(curvature > 0, curvature, 1.0)
            X[:, i] = torch.threshold_(X[:, i] - step, zero, 0.0)
