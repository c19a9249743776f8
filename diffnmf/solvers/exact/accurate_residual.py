"""The residual of a large W, whose rounding would hide it in the ordinary product.

Dekker (1971), A floating-point technique for extending the available precision.
"""

import torch
from torch import Tensor


def accurate_residual(H: Tensor, Y: Tensor, W: Tensor) -> Tensor:
    """Y − HW (B, n, m) as if in twice the precision, for H (B, n, k), Y (B, n, m) and W (B, k, m) in float64."""
    high, low = Y, torch.zeros_like(Y)
    for h, w in zip(H.unbind(-1), W.unbind(-2), strict=True):
        product, error = _two_product(-h.unsqueeze(-1), w.unsqueeze(-2))
        total = high + product
        part = total - high
        low = low + ((high - (total - part)) + (product - part)) + error
        high = total
    return high + low


def _two_product(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """ab, and what its rounding has lost."""
    product = a * b
    (a, a_low), (b, b_low) = _halves(a), _halves(b)
    return product, ((a * b - product) + a * b_low + a_low * b) + a_low * b_low


def _halves(a: Tensor) -> tuple[Tensor, Tensor]:
    """The leading 26 bits, and the rest."""
    big = 134217729.0 * a  # 2²⁷ + 1
    high = big - (big - a)
    return high, a - high
