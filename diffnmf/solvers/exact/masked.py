"""Many small systems A_FF x_F = b_F at once, each column with its own free set F, at fixed shapes.

In masked form the matrix is D_F A D_F + (I − D_F): rows and columns off F are those of the identity, so that a batch of
systems of different sizes is one batched Cholesky factorisation.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


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


def cholesky(M: Tensor) -> tuple[Tensor, Tensor]:
    """L of M (..., k, k), differentiable, and whether there is one, (...) bool; where there is none, that of I."""
    regular = torch.linalg.cholesky_ex(M.detach())[1] == 0
    # Left out before it is factorised: a pivot of zero makes every derivative NaN, those times zero as well.
    identity = torch.eye(M.shape[-1], dtype=M.dtype, device=M.device)
    return torch.linalg.cholesky_ex(torch.where(regular[..., None, None], M, identity))[0], regular


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


def inverse_row_sums(A: Tensor) -> tuple[Tensor, Tensor]:
    """A⁻¹1 (B, k) for Gram matrices (B, k, k), and their pivots (B,): how near columns of H are to dependence.

    Pivots alone do not tell: those of a Kahan matrix are far above its smallest eigenvalue.
    """
    everything = torch.ones_like(A[:, 0])
    factor = factorize_masked(A, everything.bool())
    return factor.solve(everything), factor.pivot


def as_columns(X: Tensor) -> Tensor:
    """(B, k, m) to (B·m, k): every column of every problem as a row."""
    # Not −1: under vmap over nothing that could be any number.
    return X.mT.reshape(X.shape[0] * X.shape[-1], X.shape[-2])


def from_columns(x: Tensor, batch: int) -> Tensor:
    """(B·m, k) back to (B, k, m)."""
    return x.reshape(batch, x.shape[0] // max(1, batch), x.shape[-1]).mT
