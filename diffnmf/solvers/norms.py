"""Euclidean norms of numbers whose squares may overflow or vanish, and columns divided by them."""

import torch
from torch import Tensor

from diffnmf.solvers.ranges import range_exponent


def safe_norm(X: Tensor, dim: int | tuple[int, ...], keepdim: bool = False) -> Tensor:
    """‖X‖ along ``dim`` in float64, at every scale; bit for bit ``torch.linalg.vector_norm`` where that is right."""
    if X.dtype != torch.float64 or X.numel() == 0:  # no square of a smaller dtype leaves the range of float64
        return torch.linalg.vector_norm(X, dim=dim, keepdim=keepdim, dtype=torch.float64)
    exponent = range_exponent(X.detach().abs().amax(dim, keepdim=True))
    norm = torch.linalg.vector_norm(X * torch.exp2(-exponent), dim=dim, keepdim=True) * torch.exp2(exponent)
    return norm if keepdim else norm.squeeze(dim)


def with_unit_columns(H: Tensor) -> Tensor:
    """H (..., n, k) with columns of length one; those of zeros stay zero, in float16 too, where 1e-12 is nothing."""
    return torch.nn.functional.normalize(H, dim=-2, eps=max(1e-12, torch.finfo(H.dtype).tiny))
