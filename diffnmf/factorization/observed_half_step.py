"""One half of an alternating step of a sparse matrix that is known only where it stores something.

Column j of X then has a Gram matrix of its own, of the columns of F in which column j of the target is known. Nothing
but the known entries is ever formed.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from diffnmf.factorization.half_step import negligible, projected
from diffnmf.factorization.nmf_problem import Penalties, relative
from diffnmf.factorization.sparse_matrix import ObservedMatrix, multiply
from diffnmf.kernels import observed as kernels
from diffnmf.kernels.calling import multiplies


@dataclass(frozen=True)
class ObservedHalfStep:
    """Reduce ½ Σ (T − FᵀX)² over what is known of T + l1 ΣX + ½ ridge ‖X‖² over X (1, k, N) ≥ 0.

    Attributes:
        other: F (1, k, p), the other factor.
        target: T (1, p, N).
        penalties: of X.
    """

    other: Tensor
    target: ObservedMatrix
    penalties: Penalties

    @property
    def knows_error(self) -> bool:
        """Whether the error costs little beside the step."""
        return True

    @cached_property
    def C(self) -> Tensor:
        """FT, (1, k, N): the gradient at zero, but for its sign and the penalties."""
        return multiply(self.other, self.target)

    def pulls(self, X: Tensor) -> tuple[Tensor, Tensor]:
        nothing = self._by_columns.with_values(torch.zeros_like(self._by_columns.values))
        return self.C, self.penalties.added(self._gradient(X, nothing), X)

    def gradient(self, X: Tensor) -> Tensor:
        """Of the objective with respect to X, (1, k, N)."""
        return self.penalties.added(self._gradient(X, self._by_columns), X)

    def slopes(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """∇ᴾ, and what the gradient would be at zero."""
        return projected(self.gradient(X), X), self.C

    def error(self, square: Tensor, X: Tensor, *, may_look: bool) -> Tensor:
        """The relative error of X on what is known, (1,) float64; square: Σ T²."""
        if self.in_kernel(X):
            found = kernels.square(self._turned, self._by_columns.rows, X[0].contiguous())
        else:
            found = torch.linalg.vector_norm(self._left(X), dtype=torch.float64).square()
        return relative(square, found.reshape(1))

    def sweep_(self, X: Tensor, sweeps: int) -> None:
        """Passes of coordinate descent over X, in place."""
        zero = negligible(X.dtype)
        if self.in_kernel(X) and X.is_contiguous():
            kernels.sweep_(self._turned, self._by_columns.rows, X[0], *self.penalties, sweeps, zero)
            return
        columns, rows = self._by_columns.places
        left = -self._left(X)
        squares = (self._by_columns.with_values(torch.ones_like(left)).rows @ self._turned.square()).mT  # (k, N)
        l1, ridge = (x[0, 0] if isinstance(x, Tensor) else x for x in self.penalties.arguments.values())
        curvature = squares + ridge
        curvature = torch.where(curvature > 0, curvature, 1.0)
        for _ in range(sweeps):
            for a, x in enumerate(X[0]):
                f = self.other[0, a, rows]
                slope = torch.zeros_like(x).index_add_(0, columns, f * left) + (l1 + ridge * x)
                step = torch.threshold(x - slope / curvature[a], zero, 0.0) - x
                x += step
                left += f * step[columns]

    def in_kernel(self, X: Tensor) -> bool:
        """Whether the kernels in C take this half-step at X."""
        return multiplies(self.other, self.target.values, X)

    def reordered(self, order: Tensor) -> "ObservedHalfStep":
        """The same over the rows of X in another order."""
        return replace(self, other=self.other[:, order])

    def without_fixed(self, fixed: int, X: Tensor) -> "ObservedHalfStep":
        """The same over all rows of X but the first ``fixed`` ones, which are held."""
        target = self.target.less(self.other[0, :fixed], X[0, :fixed])
        return replace(self, other=self.other[:, fixed:], target=target)

    @cached_property
    def _turned(self) -> Tensor:
        """Fᵀ (p, k)."""
        return self.other[0].mT.contiguous()

    @cached_property
    def _by_columns(self) -> ObservedMatrix:
        """Tᵀ (1, N, p)."""
        return self.target.mT

    def _gradient(self, X: Tensor, Tt: ObservedMatrix) -> Tensor:
        """F (FᵀX − T) over the places of Tt (1, N, p), (1, k, N)."""
        if self.in_kernel(X):
            return kernels.gradient(self._turned, Tt.rows, X[0].contiguous()).unsqueeze(0)
        residual = Tt.with_values(Tt.sampled_product(X[0], self.other[0]) - Tt.values)
        return (residual.rows @ self._turned).mT.contiguous().unsqueeze(0)

    def _left(self, X: Tensor) -> Tensor:
        """The known entries of T − FᵀX, column after column."""
        return self._by_columns.values - self._by_columns.sampled_product(X[0], self.other[0])
