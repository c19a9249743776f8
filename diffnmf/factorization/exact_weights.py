"""The exact weights W of given components, whatever Y is: dense, sparse, or known in part.

``diffnmf.nnls`` does the work; what stands here is how to ask it.
"""

import torch
from torch import Tensor

from diffnmf.factorization.observed_weights import observed_weights
from diffnmf.factorization.sparse_matrix import Matrix, ObservedMatrix, SparseMatrix, multiply
from diffnmf.layers import NNLSLayer
from diffnmf.solvers import NNLSSolver

Penalty = float | Tensor


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
        Y: (B, n, m); zero where its weight is. An ``ObservedMatrix`` counts where it is known.
        weights: V (B, n, m) ≥ 0, or None where all are 1.
        l1, ridge: numbers, or tensors that broadcast to W.
        W0: (B, k, m), a warm start.
        solver: as in ``diffnmf.nnls``.
    """
    if isinstance(Y, ObservedMatrix):
        return observed_weights(H, Y, l1=l1, ridge=ridge, solver=solver)
    solve = NNLSLayer(solver, backward="detached")
    if isinstance(Y, SparseMatrix):
        assert weights is None  # a sparse matrix is known as a whole
        # With H = QR the residual of HW is that of RW against QᵀY, but for a constant; k rows are left.
        Q, R = torch.linalg.qr(H.double())
        Y = multiply(Q.mT.to(Y.dtype), Y)
        return solve(R.to(Y.dtype), Y, W0=W0, l1=l1, ridge=ridge)
    return solve(H, Y, weights=weights, W0=W0, l1=l1, ridge=ridge)
