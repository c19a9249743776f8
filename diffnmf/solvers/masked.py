"""Many small systems A_FF x_F = b_F at once, each column with its own free set F, at fixed shapes.

In masked form the matrix is D_F A D_F + (I − D_F): rows and columns off F are those of the identity, so that a batch of
systems of different sizes is one batched Cholesky factorisation.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Matrices beyond this many entries are neither made nor kept at once (32 MiB in float64): all the k×k systems of 60,000
# columns at k = 50 would take 1.2 GB.
MAX_ENTRIES = 1 << 22


@dataclass(frozen=True)
class MaskedFactor:
    """Cholesky factors of N masked systems.

    Attributes:
        L: (N, k, k), lower triangular.
        free: (N, k) bool, the free sets.
        regular: (N,) bool, whether A_FF is positive definite beyond rounding; solutions are zero where it is not.
    """

    L: Tensor
    free: Tensor
    regular: Tensor

    def solve(self, b: Tensor) -> Tensor:
        """x (N, k) with A_FF x_F = b_F and zero off F; b (N, k)."""
        wanted = self.free & self.regular[:, None]
        x = torch.cholesky_solve(torch.where(wanted, b, 0.0).unsqueeze(-1), self.L).squeeze(-1)
        return torch.where(wanted, x, 0.0)

    def take(self, index: Tensor) -> "MaskedFactor":
        """The systems at ``index``, a list of numbers or a mask."""
        return MaskedFactor(self.L[index], self.free[index], self.regular[index])

    def put(self, index: Tensor, other: "MaskedFactor") -> None:
        """Overwrite the systems at ``index`` (numbers) in place."""
        self.L[index], self.free[index], self.regular[index] = other.L, other.free, other.regular


def mask_matrix(A: Tensor, free: Tensor) -> Tensor:
    """D_F A D_F + (I − D_F), for A (..., k, k) and free (..., k)."""
    pair = free.unsqueeze(-1) & free.unsqueeze(-2)
    return torch.where(pair, A, torch.eye(A.shape[-1], dtype=A.dtype, device=A.device))


def factorize_masked(A: Tensor, free: Tensor) -> MaskedFactor:
    """Factorise; nothing is raised and nothing waits for the device, so that one bad system cannot stop the others.

    Arguments:
        A: (N, k, k), symmetric, of unit diagonal: a pivot of its Cholesky factor is then the squared sine of the angle
            between a column of H and the span of the columns before it, and one at rounding level means dependence.
        free: (N, k) bool.
    """
    L, info = torch.linalg.cholesky_ex(mask_matrix(A, free))
    pivots = L.diagonal(dim1=-2, dim2=-1).square()
    smallest = 2 * A.shape[-1] * torch.finfo(A.dtype).eps
    return MaskedFactor(L, free, (info == 0) & (pivots > smallest).all(dim=-1))


def as_columns(X: Tensor) -> Tensor:
    """(B, k, m) to (B·m, k): every column of every problem as a row."""
    return X.mT.reshape(-1, X.shape[-2])


def from_columns(x: Tensor, batch: int) -> Tensor:
    """(B·m, k) back to (B, k, m)."""
    return x.reshape(batch, -1, x.shape[-1]).mT


def column_chunks(A: Tensor, m: int) -> Iterator[tuple[slice, Tensor]]:
    """Walk over the B·m columns of a batch in runs whose matrices stay below MAX_ENTRIES.

    Arguments:
        A: (B, k, k), one matrix a problem.
        m: columns a problem.

    Yields:
        The slice of the columns, and their matrices (N, k, k).
    """
    columns = len(A) * m
    size = _chunk_size(A.shape[-1])
    for start in range(0, columns, size):
        chunk = slice(start, min(start + size, columns))
        owners = torch.arange(chunk.start, chunk.stop, device=A.device) // m
        yield chunk, A[owners]


def index_chunks(numbers: Tensor, k: int) -> tuple[Tensor, ...]:
    """Cut a list of column numbers (N,) in the same way."""
    return numbers.split(_chunk_size(k))


def _chunk_size(k: int) -> int:
    return max(1, MAX_ENTRIES // max(1, k * k))
