"""One half of an alternating step: a quadratic in one factor while the other is held."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.factorization.problem import Penalties, relative

# Below this relative error, squared, ‖Y‖² − 2⟨C, X⟩ + ⟨A, XXᵀ⟩ is mostly rounding.
TRUSTED_SQUARE = {torch.float32: 1e-3, torch.float64: 1e-8}


@dataclass(frozen=True)
class HalfStep:
    """Reduce ½‖T − FᵀX‖² + l1 ΣX + ½ ridge ‖X‖² = ½⟨X, AX⟩ − ⟨C, X⟩ + ... over X (B, k, N) ≥ 0.

    It serves both factors: X = W with F = Hᵀ and T = Y, and X = Hᵀ with F = W and T = Yᵀ.

    Attributes:
        fixed: F (B, k, p), the other factor.
        target: T (B, p, N).
        A: (B, k, k), FFᵀ, without the ridge.
        C: (B, k, N), FT, without the l1.
        penalties: of X.
    """

    fixed: Tensor
    target: Tensor
    A: Tensor
    C: Tensor
    penalties: Penalties

    def penalized(self) -> tuple[Tensor, Tensor]:
        """A + ridge I and C − l1: with them, the quadratic is the whole objective."""
        A, C, l1, ridge = self.A, self.C, self.penalties.l1, self.penalties.ridge
        if ridge is not None:
            A = A + ridge * torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
        return A, C if l1 is None else C - l1

    def gradient(self, X: Tensor) -> Tensor:
        """Of the objective with respect to X, (B, k, N)."""
        A, C = self.penalized()
        return torch.baddbmm(C, A, X, beta=-1)

    def error(self, square: Tensor, X: Tensor, *, may_wait: bool) -> Tensor:
        """The relative error of X, (B,) float64, from the Gram matrix: p is gone.

        Where the error is small the difference of large numbers cancels, and the residual itself is formed.

        Arguments:
            square: (B,) float64, ‖T‖².
            X: (B, k, N).
            may_wait: whether it is no harm to ask the device how small the errors are.
        """
        cross = _dot(self.C, X)
        products = _dot(self.A, X @ X.mT)
        error = square - 2 * cross + products
        if may_wait:
            small = (error <= TRUSTED_SQUARE[X.dtype] * square).nonzero().squeeze(-1)
            if len(small):
                residual = torch.baddbmm(self.target[small], self.fixed[small].mT, X[small], beta=-1)
                norm = torch.linalg.vector_norm(residual, dim=(1, 2), dtype=torch.float64)
                error[small] = norm.square()
        return relative(square, error)


def half_step(fixed: Tensor, target: Tensor, penalties: Penalties) -> HalfStep:
    """Form A and C: F (B, k, p), T (B, p, N)."""
    return HalfStep(fixed, target, fixed @ fixed.mT, fixed @ target, penalties)


def _dot(X: Tensor, Z: Tensor) -> Tensor:
    """Inner products per problem, (B,) float64: rows in the dtype at hand, then summed in float64."""
    return (X * Z).sum(-1).sum(-1, dtype=torch.float64)
