"""Many small systems A_FF x_F = b_F at once, each column with its own free set F, at fixed shapes.

In masked form the matrix is D_F A D_F + (I − D_F): rows and columns off F are those of the identity, so that a batch of
systems of different sizes is one batched Cholesky factorisation.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

# Matrices beyond this many entries are neither made nor kept at once (32 MiB in float64): all the k×k systems of 60,000
# columns at k = 50 would take 1.2 GB. An accelerator needs more of them to be busy, and has the memory.
MAX_ENTRIES = 1 << 22
MAX_ENTRIES_ACCELERATOR = 1 << 26


@dataclass(frozen=True)
class MaskedFactor:
    """Cholesky factors of N masked systems.

    Attributes:
        L: (N, k, k), lower triangular; None where they were too many to keep.
        free: (N, k) bool, the free sets.
        pivot: (N,), the smallest pivot of A_FF, in (0, 1]: the squared sine of the smallest angle between a column of H
            and those before it. 0 where A_FF is not positive definite beyond rounding; solutions are zero there.
    """

    L: Tensor | None
    free: Tensor
    pivot: Tensor

    @property
    def regular(self) -> Tensor:
        """(N,) bool, whether the system can be solved."""
        return self.pivot > 0

    def solve(self, b: Tensor) -> Tensor:
        """x (N, k) with A_FF x_F = b_F and zero off F; b (N, k)."""
        assert self.L is not None
        wanted = self.free & self.regular[:, None]
        z = torch.linalg.solve_triangular(self.L, torch.where(wanted, b, 0.0).unsqueeze(-1), upper=False)
        x = torch.linalg.solve_triangular(self.L.mT, z, upper=True).squeeze(-1)
        return torch.where(wanted, x, 0.0)

    def take(self, index: Tensor) -> "MaskedFactor":
        """The systems at ``index``, a list of numbers."""
        assert self.L is not None
        return MaskedFactor(self.L[index], self.free[index], self.pivot[index])

    def put(self, index: Tensor, other: "MaskedFactor") -> None:
        """Overwrite the systems at ``index`` (numbers) in place."""
        self.free[index], self.pivot[index] = other.free, other.pivot
        if self.L is not None:
            assert other.L is not None
            self.L[index] = other.L


def mask_matrix(A: Tensor, free: Tensor) -> Tensor:
    """D_F A D_F + (I − D_F), for A (..., k, k) and free (..., k)."""
    # In differentiable operations that keep what is masked out of the derivatives, NaN included.
    pair = free.unsqueeze(-1) & free.unsqueeze(-2)
    return torch.where(pair, A, torch.eye(A.shape[-1], dtype=A.dtype, device=A.device))


def factorize_masked(A: Tensor, free: Tensor) -> MaskedFactor:
    """Factorise; nothing is raised and nothing waits for the device, so that one bad system cannot stop the others.

    Arguments:
        A: (P, k, k), symmetric, of unit diagonal, finite.
        free: (P·c, k) bool; c systems in a row share a matrix.
    """
    k = A.shape[-1]
    F = free.reshape(len(A), -1, k).to(A.dtype)  # (P, c, k)
    # Products instead of torch.where on a mask of pairs: a quarter of the time.
    M = A.unsqueeze(1) * (F.unsqueeze(-1) * F.unsqueeze(-2))
    M.diagonal(dim1=-2, dim2=-1).add_(1.0 - F)
    L, info = torch.linalg.cholesky_ex(M.flatten(0, 1))
    pivot = L.detach().diagonal(dim1=-2, dim2=-1).square().amin(-1)
    regular = (info == 0) & (pivot > 2 * k * torch.finfo(A.dtype).eps)  # False for NaN
    return MaskedFactor(L, free, torch.where(regular, pivot, 0.0))


def as_columns(X: Tensor) -> Tensor:
    """(B, k, m) to (B·m, k): every column of every problem as a row."""
    return X.mT.reshape(-1, X.shape[-2])


def from_columns(x: Tensor, batch: int) -> Tensor:
    """(B·m, k) back to (B, k, m)."""
    return x.reshape(batch, -1, x.shape[-1]).mT


def tiles(A: Tensor, m: int) -> Iterator[tuple[Tensor, slice]]:
    """Walk over the B·m columns of a batch in runs whose k×k systems may be in memory at once.

    Arguments:
        A: (B, k, k), one matrix a problem.
        m: columns a problem.

    Yields:
        The matrices (P, k, k) of several whole problems, or of the one problem that a run is part of, and the slice of
        their columns, P·c of them.
    """
    size = _columns_at_once(A.shape[-1], A.device)
    if size >= m:
        step = size // max(1, m)
        for first in range(0, len(A), step):
            matrices = A[first : first + step]
            yield matrices, slice(first * m, (first + len(matrices)) * m)
    else:
        for problem, start in product(range(len(A)), range(0, m, size)):
            yield A[problem : problem + 1], slice(problem * m + start, problem * m + min(start + size, m))


def index_chunks(numbers: Tensor, k: int) -> tuple[Tensor, ...]:
    """Cut a list of column numbers (N,) in the same way; no chunks where there are none."""
    return numbers.split(_columns_at_once(k, numbers.device)) if len(numbers) else ()


def _columns_at_once(k: int, device: torch.device) -> int:
    entries = MAX_ENTRIES if device.type == "cpu" else MAX_ENTRIES_ACCELERATOR
    return max(1, entries // max(1, k * k))
