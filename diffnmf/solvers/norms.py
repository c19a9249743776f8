"""Euclidean norms of numbers whose squares may overflow or vanish."""

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
