"""One half of an alternating step: a quadratic in one factor while the other is held."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from diffnmf.factorization.nmf_problem import Index, Penalties, relative
from diffnmf.factorization.sparse_matrix import Matrix, SparseMatrix, multiply

# Below this relative error, squared, ‖Y‖² − 2⟨C, X⟩ + ⟨A, XXᵀ⟩ is mostly rounding.
TRUSTED_SQUARE = {torch.float32: 1e-3, torch.float64: 1e-8}


class Half(Protocol):
    """A half-step as methods see it: what is reduced over a factor X (B, k, N) ≥ 0 while the other one is held."""

    @property
    def penalties(self) -> Penalties:
        """Of X."""

    def pulls(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """What makes X grow and what makes it shrink, (B, k, N) each: the gradient is the second less the first."""

    def slopes(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """What is zero at a stationary point, and what to measure it by, (B, k, N) each."""


@dataclass(frozen=True)
class Quadratic:
    """Reduce ½⟨X, AX⟩ − ⟨C, X⟩ + l1 ΣX + ½ ridge ‖X‖² over X (B, k, N) ≥ 0: what sums over the rows of T leave of it.

    Attributes:
        A: (B, k, k), FFᵀ, without the ridge.
        C: (B, k, N), FT, without the l1.
        penalties: of X.
        size: p, the terms of these sums.
    """

    A: Tensor
    C: Tensor
    penalties: Penalties
    size: int

    @property
    def knows_error(self) -> bool:
        """Whether the error costs little beside the step."""
        return True

    def penalized(self) -> tuple[Tensor, Tensor]:
        """A + ridge I and C − l1: with them, the quadratic is the whole objective."""
        A, ridge = self.A, self.penalties.ridge
        if ridge is not None:
            A = A + ridge * torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
        return A, self.penalized_cross()

    def penalized_cross(self) -> Tensor:
        """C − l1."""
        return self.C if self.penalties.l1 is None else self.C - self.penalties.l1

    def gradient(self, X: Tensor) -> Tensor:
        """Of the objective with respect to X, (B, k, N)."""
        A, C = self.penalized()
        return torch.baddbmm(C, A, X, beta=-1)

    def pulls(self, X: Tensor) -> tuple[Tensor, Tensor]:
        return self.C, self.penalties.added(self.A @ X, X)

    def slopes(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """∇ᴾ, and what the gradient would be at zero."""
        return projected(self.gradient(X), X), self.C

    def error_square(self, square: Tensor, X: Tensor) -> Tensor:
        """‖T − FᵀX‖² = ‖T‖² − 2⟨C, X⟩ + ⟨A, XXᵀ⟩, (B,) float64; mostly rounding where it is a small part of ‖T‖²."""
        return square - 2 * dot(self.C, X) + dot(self.A, X @ X.mT)

    def reordered(self, order: Tensor) -> "Quadratic":
        """The same over the rows of X in another order."""
        return Quadratic(self.A[:, order][:, :, order], self.C[:, order], self.penalties, self.size)

    def without_fixed(self, fixed: int, X: Tensor) -> "Quadratic":
        """The same over all rows of X but the first ``fixed`` ones, which are held."""
        C = torch.baddbmm(self.C[:, fixed:], self.A[:, fixed:, :fixed], X[:, :fixed], alpha=-1)
        return Quadratic(self.A[:, fixed:, fixed:], C, self.penalties, self.size)


@dataclass(frozen=True)
class HalfStep(Quadratic):
    """Reduce ½‖T − FᵀX‖² + l1 ΣX + ½ ridge ‖X‖² over X (B, k, N) ≥ 0.

    It serves both factors: X = W with F = Hᵀ and T = Y, and X = Hᵀ with F = W and T = Yᵀ.

    Attributes:
        other: F (B, k, p), the other factor.
        target: T (B, p, N).
    """

    other: Tensor
    target: Matrix

    def error(self, square: Tensor, X: Tensor, *, may_look: bool) -> Tensor:
        """The relative error of X, (B,) float64.

        On the CPU from the Gram matrix: p is gone. Where the error is small the difference of large numbers cancels,
        and the residual itself is formed. Elsewhere it always is: two launches, where looking for small ones waits.

        Arguments:
            square: (B,) float64, ‖T‖².
            X: (B, k, N).
            may_look: whether Python may read how small the errors are (see ``looking_is_free``).
        """
        if not may_look and isinstance(self.target, Tensor):
            return relative(square, self._residual_square(slice(None), X))
        error = self.error_square(square, X)
        if may_look:
            small = (error <= TRUSTED_SQUARE[X.dtype] * square).nonzero().squeeze(-1)
            if len(small) and isinstance(self.target, Tensor):
                error[small] = self._residual_square(small, X)
        return relative(square, error)

    def _residual_square(self, index: Index, X: Tensor) -> Tensor:
        """‖FᵀX − T‖² of some problems, in float64."""
        assert isinstance(self.target, Tensor)
        residual = torch.baddbmm(self.target[index], self.other[index].mT, X[index], beta=-1)
        return torch.linalg.vector_norm(residual, dim=(1, 2), dtype=torch.float64).square()

    def without_fixed(self, fixed: int, X: Tensor) -> Quadratic:
        if isinstance(self.target, SparseMatrix):
            rest = super().without_fixed(fixed, X)
            return HalfStep(rest.A, rest.C, self.penalties, self.size, self.other[:, fixed:], self.target)
        target = torch.baddbmm(self.target, self.other[:, :fixed].mT, X[:, :fixed], alpha=-1)
        return half_step(self.other[:, fixed:], target, self.penalties)


def half_step(other: Tensor, target: Matrix, penalties: Penalties) -> HalfStep:
    """Form A and C: F (B, k, p), T (B, p, N)."""
    return HalfStep(other @ other.mT, multiply(other, target), penalties, other.shape[2], other, target)


def projected(gradient: Tensor, X: Tensor) -> Tensor:
    """∇ᴾ of the gradient at X ≥ 0."""
    return torch.where(X > 0, gradient, gradient.clamp(max=0))


def dot(X: Tensor, Z: Tensor) -> Tensor:
    """Inner products per problem, (B,) float64: rows in the dtype at hand, then summed in float64."""
    return (X * Z).sum(-1).sum(-1, dtype=torch.float64)


def negligible(dtype: torch.dtype) -> float:
    """Entries below this count as zero: products of two of them would be denormal numbers, which are slow."""
    return math.sqrt(torch.finfo(dtype).tiny)
