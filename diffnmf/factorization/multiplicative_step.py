"""One multiplicative update of a factor: numerator over denominator, entry by entry."""

import torch
from torch import Tensor

from diffnmf.factorization.half_step import Half, negligible


def safe_exponent(beta: float) -> float:
    """With which a multiplicative update never increases the divergence."""
    if beta < 1:
        return 1 / (2 - beta)
    return 1 / (beta - 1) if beta > 2 else 1.0


def multiplicative_step_(half: Half, X: Tensor, exponent: float) -> None:
    """X ← X (up / down)^exponent in place, X (B, k, N) ≥ 0, with the ``pulls`` of the half-step."""
    up, down = half.pulls(X)
    # Where the denominator is zero, so is the numerator, or X already is.
    down = down.clamp(min=torch.finfo(X.dtype).tiny)
    X.mul_(up).div_(down) if exponent == 1 else X.mul_((up / down).pow_(exponent))
    # Entries that go to zero would slow everything down as denormal numbers.
    torch.threshold_(X, negligible(X.dtype), 0.0)
