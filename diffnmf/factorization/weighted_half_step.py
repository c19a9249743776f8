"""One half of an alternating step where every entry of the error has a weight of its own, zero for one that is missing.

Column j of X then has a Gram matrix of its own, F diag(v_j) Fᵀ.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from diffnmf.factorization.half_step import dot, projected
from diffnmf.factorization.nmf_problem import Index, Penalties, relative
from diffnmf.kernels import weighted as kernels
from diffnmf.kernels.calling import multiplies


@dataclass(frozen=True)
class WeightedHalfStep:
    """Reduce ½ Σ V (T − FᵀX)² + l1 ΣX + ½ ridge ‖X‖² over X (B, k, N) ≥ 0.

    Attributes:
        other: F (B, k, p), the other factor.
        target: T (B, p, N).
        weights: V (B, p, N) ≥ 0.
        penalties: of X.
    """

    other: Tensor
    target: Tensor
    weights: Tensor
    penalties: Penalties

    @property
    def knows_error(self) -> bool:
        """Whether the error costs little beside the step."""
        return True

    @cached_property
    def C(self) -> Tensor:
        """F(V ∘ T), (B, k, N): the gradient at zero, but for its sign and the penalties."""
        return self.other @ (self.target * self.weights)

    def pulls(self, X: Tensor) -> tuple[Tensor, Tensor]:
        return self.C, self.penalties.added(self.other @ ((self.other.mT @ X) * self.weights), X)

    def gradient(self, X: Tensor) -> Tensor:
        """Of the objective with respect to X, (B, k, N)."""
        if self.in_kernel(X):
            return self.penalties.added(kernels.gradient(self.other, self.target, self.weights, X), X)
        return self.penalties.added(self.other @ (self._residual(X) * self.weights), X)

    def slopes(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """∇ᴾ, and what the gradient would be at zero."""
        return projected(self.gradient(X), X), self.C

    def error(self, square: Tensor, X: Tensor, *, may_look: bool) -> Tensor:
        """The relative error of X, (B,) float64; square: Σ V T²."""
        if self.in_kernel(X):
            return relative(square, kernels.square(self.other, self.target, self.weights, X))
        residual = self._residual(X)
        return relative(square, dot(residual * self.weights, residual))

    def in_kernel(self, X: Tensor) -> bool:
        """Whether the kernels in C take this half-step at X."""
        return multiplies(self.other, self.target, self.weights, X)

    def take(self, index: Index) -> "WeightedHalfStep":
        """Some problems."""
        return WeightedHalfStep(self.other[index], self.target[index], self.weights[index], self.penalties.take(index))

    def reordered(self, order: Tensor) -> "WeightedHalfStep":
        """The same over the rows of X in another order."""
        return WeightedHalfStep(self.other[:, order], self.target, self.weights, self.penalties)

    def without_fixed(self, fixed: int, X: Tensor) -> "WeightedHalfStep":
        """The same over all rows of X but the first ``fixed`` ones, which are held."""
        target = torch.baddbmm(self.target, self.other[:, :fixed].mT, X[:, :fixed], alpha=-1)
        return WeightedHalfStep(self.other[:, fixed:], target, self.weights, self.penalties)

    def _residual(self, X: Tensor) -> Tensor:
        """FᵀX − T, (B, p, N)."""
        return torch.baddbmm(self.target, self.other.mT, X, beta=-1)
