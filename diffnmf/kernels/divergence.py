"""Calling the kernel of divergence.c. Tensors are on the CPU, all float32 or all float64."""

import ctypes

import torch
from torch import Tensor

from diffnmf.kernels.calling import TYPES, call
from diffnmf.kernels.tiles import strips

_POINTER, _COUNT, _NUMBER = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
_PULL = [_POINTER] * 4 + [_NUMBER] + [_COUNT] * 8


def kl_pull(F: Tensor, T: Tensor, X: Tensor, floor: float) -> Tensor:
    """F (T / FᵀX), (B, k, N), in the order in which T lies in memory or not.

    Arguments:
        F: (B, k, p).
        T: (B, p, N), of any strides.
        X: (B, k, N).
        floor: > 0, what an entry of FᵀX counts as at the least.
    """
    F, X = F.contiguous(), X.contiguous()
    (k, p), width = F.shape[1:], X.shape[2]
    up = torch.empty_like(X)
    count, columns = strips(X)
    cost = k * p * columns / 4
    numbers = (floor, k, p, width, *T.stride())
    call(f"diffnmf_kl_pull_{TYPES[X.dtype]}", _PULL, count, cost, F, T, X, up, *numbers)
    return up
