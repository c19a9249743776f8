"""Euclidean norms of numbers whose squares may overflow or vanish, and what may be divided by them."""

import torch
from torch import Tensor

from diffnmf.solvers.devices import has_float64
from diffnmf.solvers.ranges import range_exponent


def safe_norm(X: Tensor, dim: int | tuple[int, ...], keepdim: bool = False) -> Tensor:
    """‖X‖ along ``dim`` in float64, at every scale; bit for bit ``torch.linalg.vector_norm`` where that is right.

    On a device without float64 it is that norm in float32.
    """
    if X.dtype != torch.float64 or X.numel() == 0:  # no square of a smaller dtype leaves the range of float64
        dtype = torch.float64 if has_float64(X.device) else torch.float32
        return torch.linalg.vector_norm(X, dim=dim, keepdim=keepdim, dtype=dtype)
    exponent = range_exponent(X.detach().abs().amax(dim, keepdim=True))
    norm = torch.linalg.vector_norm(X * torch.exp2(-exponent), dim=dim, keepdim=True) * torch.exp2(exponent)
    return norm if keepdim else norm.squeeze(dim)


def with_unit_columns(H: Tensor) -> Tensor:
    """H (*batch, n, k) with columns of length one, whatever their length and dtype; those of zeros stay zero.

    Divided in float64 and rounded once: a column may be longer than a number of its own dtype can be. Differentiable: a
    column of zeros has no direction, and its gradient is that of a division by 1. By a tiny number instead, it would be
    so large that Adam, which remembers the size of gradients, would leave the column where it is for a long time.
    """
    H = moved_into_range(H, -2)  # a length may be beyond every number
    return (H / one_where_zero(safe_norm(H, dim=-2, keepdim=True))).to(H.dtype)


def moved_into_range(X: Tensor, dim: int) -> Tensor:
    """X, its vectors along ``dim`` scaled by powers of two where squares or sums of them may leave float64.

    Those in range keep every bit, and so do smaller dtypes, none of which gets there.
    """
    if X.dtype != torch.float64 or X.numel() == 0:
        return X
    return X * torch.exp2(-range_exponent(X.detach().abs().amax(dim, keepdim=True)))


def one_where_zero(x: Tensor) -> Tensor:
    """A divisor: x, with 1 for 0, so that a zero column stays zero instead of becoming NaN."""
    return torch.where(x == 0, torch.ones_like(x), x)
