"""The exact weights W of given components, whatever Y is: dense, sparse, or known in part.

``diffnmf.nnls`` does the work; what stands here is how to ask it.
"""

import torch
from torch import Tensor

from diffnmf.factorization.sparse_matrix import Matrix, SparseMatrix, multiply
from diffnmf.layers import NNLSLayer
from diffnmf.solvers import NNLSSolver

Penalty = float | Tensor
PIECE = 2**22  # entries of the bases of single columns at a time


@torch.no_grad()
def exact_weights(
    H: Tensor,
    Y: Matrix,
    *,
    weights: Tensor | None = None,
    l1: Penalty = 0.0,
    ridge: Penalty = 0.0,
    W0: Tensor | None = None,
    solver: str | NNLSSolver = "unrolled",
) -> Tensor:
    """argmin ½ Σ V (Y − HW)² + l1 ΣW + ½ ridge ‖W‖² over W ≥ 0, (B, k, m).

    Arguments:
        H: (B, n, k).
        Y: (B, n, m); zero where its weight is.
        weights: V (B, n, m) ≥ 0, or None where all are 1.
        l1: a number, or (B,).
        ridge: likewise.
        W0: (B, k, m), a warm start.
        solver: as in ``diffnmf.nnls``.
    """
    solve = NNLSLayer(solver, backward="detached")
    if weights is not None:
        return _weighted(solve, H, Y, weights, l1, ridge, W0)
    if isinstance(Y, SparseMatrix):
        # With H = QR the residual of HW is that of RW against QᵀY, but for a constant; k rows are left.
        Q, R = torch.linalg.qr(H.double())
        Y = multiply(Q.mT.to(Y.dtype), Y)
        return solve(R.to(Y.dtype), Y, W0=W0, l1=l1, ridge=ridge)
    return solve(H, Y, W0=W0, l1=l1, ridge=ridge)


def _weighted(
    solve: NNLSLayer, H: Tensor, Y: Matrix, V: Tensor, l1: Penalty, ridge: Penalty, W0: Tensor | None
) -> Tensor:
    """Every column is a problem of its own, with the basis √v ∘ H."""
    assert isinstance(Y, Tensor)
    (batch, n, k), m = H.shape, Y.shape[2]
    root = V.expand(batch, n, m).sqrt()
    W = H.new_empty(batch, k, m)
    penalties = [x if isinstance(x, float | int) else x.reshape(-1, 1) for x in (l1, ridge)]
    size = max(1, PIECE // max(1, batch * n * k))
    for start in range(0, m, size):
        some = slice(start, start + size)
        bases = root[..., some].mT.unsqueeze(-1) * H.unsqueeze(1)  # (B, c, n, k)
        columns = (root[..., some] * Y[..., some]).mT.unsqueeze(-1)  # (B, c, n, 1)
        first = None if W0 is None else W0[..., some].mT.unsqueeze(-1)
        l1_each, ridge_each = (x if isinstance(x, float | int) else x.expand(bases.shape[:2]) for x in penalties)
        W[..., some] = solve(bases, columns, W0=first, l1=l1_each, ridge=ridge_each).squeeze(-1).mT
    return W
