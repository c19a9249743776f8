"""When to stop: how far factors are from a stationary point."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.factorization.half_step import Half

# The gradient of a random start is 0.16 to 0.8 of ‖(HᵀY, YWᵀ)‖, that of a good one 0.005 to 0.05.
LEAST_START = 0.1
ROUNDING = 4  # units of it that are left of a gradient, of the size of that at zero


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

    @property
    def of_start(self) -> Tensor:
        """(B,), what ``tol`` is relative to, where this is at the start."""
        return torch.maximum(self.norm, LEAST_START * self.size)

    def at_most_size(self, of_start: Tensor) -> Tensor:
        """``of_start`` once this is known at the first check, where factors have come to the size of Y.

        The gradient of a start far too large is larger than that at zero, and says nothing of those that follow.
        """
        return torch.minimum(of_start, self.size)

    def reaches(self, wanted: Tensor) -> Tensor:
        """Whether ``norm`` is as small as ``wanted`` (B,), or rounding; a start may be too far off to be measured."""
        return self.norm <= torch.maximum(torch.where(wanted.isfinite(), wanted, 0.0), self.rounding)


def stationarity(half_W: Half, W: Tensor, half_H: Half, Ht: Tensor) -> Stationarity:
    """At (H, W): both half-steps are formed there."""
    return stationarity_of([half_W.slopes(W), half_H.slopes(Ht)])


def stationarity_of(factors: Sequence[tuple[Tensor, Tensor]]) -> Stationarity:
    """From the ``slopes`` of each factor, (B, k, N) each."""
    norm, size = (sum(map(square_of, parts)) for parts in zip(*factors, strict=True))
    return stationarity_of_squares(norm, size, factors[0][0].dtype)  # type: ignore[arg-type]


def stationarity_of_squares(norm: Tensor, size: Tensor, dtype: torch.dtype) -> Stationarity:
    """From the squares of ``norm`` and ``size``, computed in ``dtype``."""
    norm, size = norm.sqrt(), size.sqrt()
    return Stationarity(norm, size, ROUNDING * torch.finfo(dtype).eps * size)


def square_of(X: Tensor) -> Tensor:
    """Squared Frobenius norms, (B,) float64: rows in the dtype at hand, then summed in float64."""
    return X.square().sum(-1).sum(-1, dtype=torch.float64)
