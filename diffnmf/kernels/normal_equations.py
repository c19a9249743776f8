"""Calling the kernels of normal_equations.c. Tensors are on the CPU, float32 or float64, and results float64."""

import ctypes

import torch
from torch import Tensor

from diffnmf.kernels.calling import call, side_by_side

_POINTER, _COUNT = ctypes.c_void_p, ctypes.c_int64
_MATRIX = [_POINTER] + [_COUNT] * 3
_GRAM = [_COUNT, *_MATRIX, _POINTER] + [_COUNT] * 4
_CORRELATION = [_COUNT, *_MATRIX, *_MATRIX, _POINTER] + [_COUNT] * 5
_SQUARES = _GRAM
_RESIDUAL = [_COUNT, *_MATRIX, *_MATRIX, *[_POINTER] * 3] + [_COUNT] * 5


def gram(H: Tensor) -> Tensor:
    """HᵀH (B, k, k) of H (B, n, k)."""
    H = side_by_side(H)
    batch, n, k = H.shape
    G = H.new_empty(batch, k, k, dtype=torch.float64)
    call("diffnmf_gram", _GRAM, batch, n * k * k / 8, H.dtype == torch.float32, H, *H.stride(), G, n, k)
    return G


def correlation(H: Tensor, Y: Tensor) -> Tensor:
    """HᵀY (B, k, m) of H (B, n, k) and Y (B, n, m), the numbers of a column beside each other."""
    H, Y = side_by_side(H), side_by_side(Y)
    (batch, n, k), m = H.shape, Y.shape[2]
    C = H.new_empty(batch, m, k, dtype=torch.float64)
    name, cost, is_float = "diffnmf_correlation", n * k / 8, H.dtype == torch.float32
    call(name, _CORRELATION, batch * m, cost, is_float, H, *H.stride(), Y, *Y.stride(), C, n, m, k)
    return C.mT


def squares(Y: Tensor) -> Tensor:
    """‖y‖² (B, 1, m) of Y (B, n, m)."""
    Y = side_by_side(Y)
    batch, n, m = Y.shape
    found = Y.new_empty(batch, 1, m, dtype=torch.float64)
    call("diffnmf_squares", _SQUARES, batch * m, n / 8, Y.dtype == torch.float32, Y, *Y.stride(), found, n, m)
    return found


def residual_gradient(H: Tensor, Y: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
    """Hᵀ(HW − Y) (B, k, m) and ‖y − Hw‖² (B, 1, m) of H (B, n, k), Y (B, n, m) and W (B, k, m) float64."""
    H, Y, W = side_by_side(H), side_by_side(Y), W.mT.contiguous()
    (batch, n, k), m = H.shape, Y.shape[2]
    gradient, squares = torch.empty_like(W), W.new_empty(batch, 1, m)
    name, cost, is_float = "diffnmf_residual_gradient", n * k / 4, H.dtype == torch.float32
    call(name, _RESIDUAL, batch * m, cost, is_float, H, *H.stride(), Y, *Y.stride(), W, gradient, squares, n, m, k)
    return gradient.mT, squares
