"""HALS sweeps over the rows of a factor: every row in turn at its optimum, the others held.

Cichocki and Phan (2009), Fast local algorithms for large scale nonnegative matrix and tensor factorizations.
"""

import math

import torch
from torch import Tensor

# Rows that one matrix product serves: fewer would read X more often, more would correct each row more often.
BLOCK = 10
# Entries of X (B, k, N) at a time: what a last-level cache holds, and what is worth sharing among threads.
PIECE = 2**22


def negligible(dtype: torch.dtype) -> float:
    """Entries below this count as zero: products of two of them would be denormal numbers, which are slow."""
    return math.sqrt(torch.finfo(dtype).tiny)


def sweep_(A: Tensor, C: Tensor, X: Tensor, sweeps: int) -> None:
    """Reduce ½⟨X, AX⟩ − ⟨C, X⟩ over X ≥ 0 in place, by ``sweeps`` passes over the rows of X.

    A row whose diagonal entry in A is zero has no curvature: it takes the step C_i, which without l1 is zero, too.

    Arguments:
        A: (B, k, k), positive semidefinite.
        C: (B, k, N).
        X: (B, k, N) ≥ 0.
        sweeps: ≥ 1.
    """
    batch, k, width = X.shape
    size = max(1, PIECE // max(1, batch * k))
    for start in range(0, width, size):
        columns = slice(start, start + size)
        _sweep_piece(A, C[..., columns], X[..., columns], sweeps)


def _sweep_piece(A: Tensor, C: Tensor, X: Tensor, sweeps: int) -> None:
    """A row at its optimum is max(0, C_i − Σ_{j≠i} A_ij x_j) / A_ii.

    For a block of rows one product takes the others at their old values. What is missing then, the rows of the block
    at their new values as they come, is added row by row.
    """
    k = X.shape[1]
    diagonal = A.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)  # (B, k, 1)
    alive = diagonal > 0
    inverse = torch.where(alive, 1 / diagonal, 1.0)
    number = torch.arange(k, device=X.device)
    new = (number[:, None] // BLOCK == number // BLOCK) & (number[:, None] >= number)
    old = A.masked_fill(new, 0.0)
    old -= torch.diag_embed((~alive).squeeze(-1).to(A.dtype))  # of a row without curvature: C − (−x)
    corrections = -A * inverse

    buffer = torch.empty_like(X[:, :BLOCK])
    steps = []  # views are made once: each costs as much as a small operation
    for start in range(0, k, BLOCK):
        rows = slice(start, min(start + BLOCK, k))
        moved = buffer[:, : rows.stop - start]
        columns = corrections[:, rows, rows].unsqueeze(-1).unbind(2)  # (B, s, 1) each
        among = [(row, moved[:, i + 1 :], columns[i][:, i + 1 :]) for i, row in enumerate(moved.split(1, dim=1))]
        steps.append((C[:, rows], old[:, rows], inverse[:, rows], moved, among, X[:, rows]))
    zero = negligible(X.dtype)
    for _ in range(sweeps):
        for C_rows, old_rows, inverse_rows, moved, among, X_rows in steps:
            torch.baddbmm(C_rows, old_rows, X, alpha=-1, out=moved).mul_(inverse_rows)
            for row, rest, column in among:
                torch.threshold_(row, zero, 0.0)
                rest.addcmul_(column, row)
            X_rows.copy_(moved)
