"""When a factorisation has converged: the projected gradient of Lin (2007).

Lin (2007), Projected gradient methods for nonnegative matrix factorization, Neural Computation 19(10), equation (20):
∇ᴾ is ∇ where X > 0 and min(∇, 0) where X = 0; it is zero at the stationary points only.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.factorization.half_step import HalfStep


@dataclass(frozen=True)
class Stationarity:
    """How far B problems are from a stationary point.

    Attributes:
        norm: (B,) float64, ‖∇ᴾ‖ over H and W.
        rounding: (B,) float64, what rounding alone may leave of it.
    """

    norm: Tensor
    rounding: Tensor


def stationarity(half_W: HalfStep, W: Tensor, half_H: HalfStep, Ht: Tensor) -> Stationarity:
    """At (H, W): both half-steps are formed there."""
    squares, sizes = [], []
    for half, X in ((half_W, W), (half_H, Ht)):
        gradient = half.gradient(X)
        squares.append(_square(torch.where(X > 0, gradient, gradient.clamp(max=0))))
        sizes.append(_square(half.C))
    eps = torch.finfo(W.dtype).eps
    return Stationarity((squares[0] + squares[1]).sqrt(), 4 * eps * (sizes[0] + sizes[1]).sqrt())


def _square(X: Tensor) -> Tensor:
    """Squared Frobenius norms, (B,) float64: rows in the dtype at hand, then summed in float64."""
    return X.square().sum(-1).sum(-1, dtype=torch.float64)
