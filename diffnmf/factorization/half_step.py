"""One half of an alternating step: a quadratic in one factor while the other is held; and when to stop."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.factorization.base import Budget, Run
from diffnmf.factorization.nmf_problem import Index, NMFProblem, Penalties, relative
from diffnmf.solvers.devices import looking_is_free

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

    def error(self, square: Tensor, X: Tensor, *, may_look: bool) -> Tensor:
        """The relative error of X, (B,) float64.

        On the CPU from the Gram matrix: p is gone. Where the error is small the difference of large numbers cancels,
        and the residual itself is formed. Elsewhere it always is: two launches, where looking for small ones waits.

        Arguments:
            square: (B,) float64, ‖T‖².
            X: (B, k, N).
            may_look: whether Python may read how small the errors are (see ``looking_is_free``).
        """
        if not may_look:
            return relative(square, self._residual_square(slice(None), X))
        cross = _dot(self.C, X)
        products = _dot(self.A, X @ X.mT)
        error = square - 2 * cross + products
        small = (error <= TRUSTED_SQUARE[X.dtype] * square).nonzero().squeeze(-1)
        if len(small):
            error[small] = self._residual_square(small, X)
        return relative(square, error)

    def _residual_square(self, index: Index, X: Tensor) -> Tensor:
        """‖FᵀX − T‖² of some problems, in float64."""
        residual = torch.baddbmm(self.target[index], self.fixed[index].mT, X[index], beta=-1)
        return torch.linalg.vector_norm(residual, dim=(1, 2), dtype=torch.float64).square()


def half_step(fixed: Tensor, target: Tensor, penalties: Penalties) -> HalfStep:
    """Form A and C: F (B, k, p), T (B, p, N)."""
    return HalfStep(fixed, target, fixed @ fixed.mT, fixed @ target, penalties)


def _dot(X: Tensor, Z: Tensor) -> Tensor:
    """Inner products per problem, (B,) float64: rows in the dtype at hand, then summed in float64."""
    return (X * Z).sum(-1).sum(-1, dtype=torch.float64)


def run_at_once(problem: NMFProblem, half: HalfStep, W: Tensor, budget: Budget) -> Run:
    """What a method without iterations returns: one "iteration" from W = 0 to W (B, k, m), which has converged.

    Arguments:
        problem: B problems.
        half: of W, with Hᵀ (B, k, n) fixed.
        W: the weights.
        budget: its observer is called once.
    """
    may_look = looking_is_free(W.device)
    errors = [half.error(problem.square, x, may_look=may_look) for x in (torch.zeros_like(W), W)]
    if budget.observer is not None:
        budget.observer(1, half.fixed.mT, W)
    ones = torch.ones(len(W), dtype=torch.int64, device=W.device)
    return Run(W, half.fixed, torch.stack(errors), ones, ones.bool())


def negligible(dtype: torch.dtype) -> float:
    """Entries below this count as zero: products of two of them would be denormal numbers, which are slow."""
    return math.sqrt(torch.finfo(dtype).tiny)


@dataclass(frozen=True)
class Stationarity:
    """How far B problems are from a stationary point: the projected gradient of Lin (2007).

    Lin (2007), Projected gradient methods for nonnegative matrix factorization, Neural Computation 19(10), equation
    (20): ∇ᴾ is ∇ where X > 0 and min(∇, 0) where X = 0; it is zero at the stationary points only.

    Attributes:
        norm: (B,) float64, ‖∇ᴾ‖ over H and W.
        size: (B,) float64, ‖(HᵀY, YWᵀ)‖: what the gradient would be at zero.
        rounding: (B,) float64, what rounding alone may leave of the norm.
    """

    norm: Tensor
    size: Tensor
    rounding: Tensor


def stationarity(half_W: HalfStep, W: Tensor, half_H: HalfStep, Ht: Tensor) -> Stationarity:
    """At (H, W): both half-steps are formed there."""
    return stationarity_of([(projected(half.gradient(X), X), half.C) for half, X in ((half_W, W), (half_H, Ht))])


def projected(gradient: Tensor, X: Tensor) -> Tensor:
    """∇ᴾ of the gradient at X ≥ 0."""
    return torch.where(X > 0, gradient, gradient.clamp(max=0))


def stationarity_of(factors: Sequence[tuple[Tensor, Tensor]]) -> Stationarity:
    """From ∇ᴾ of each factor, and what its gradient would be at zero, (B, k, N) each."""
    norm, size = (sum(map(_square, parts)) for parts in zip(*factors, strict=True))
    return stationarity_of_squares(norm, size, factors[0][0].dtype)  # type: ignore[arg-type]


def stationarity_of_squares(norm: Tensor, size: Tensor, dtype: torch.dtype) -> Stationarity:
    """From the squares of ``norm`` and ``size``, computed in ``dtype``."""
    norm, size = norm.sqrt(), size.sqrt()
    return Stationarity(norm, size, 4 * torch.finfo(dtype).eps * size)


def _square(X: Tensor) -> Tensor:
    """Squared Frobenius norms, (B,) float64: rows in the dtype at hand, then summed in float64."""
    return X.square().sum(-1).sum(-1, dtype=torch.float64)
