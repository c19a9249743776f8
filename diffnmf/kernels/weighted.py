"""Calling the kernels of weighted_gram.c and weighted_sweep.c. Tensors are on the CPU, all float32 or all float64."""

import ctypes

import torch
from torch import Tensor

from diffnmf.kernels.calling import TYPES, call
from diffnmf.kernels.tiles import strips

_POINTER, _COUNT, _NUMBER = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
_MATRIX = [_POINTER] + [_COUNT] * 3
_GRAM = [_POINTER, *_MATRIX, _POINTER, *[_COUNT] * 5]
_SWEEP = [_POINTER, *_MATRIX, *_MATRIX, *[_POINTER] * 3, _COUNT, _NUMBER, *[_COUNT] * 5]
_RESIDUAL = [_POINTER, *_MATRIX, *_MATRIX, *[_POINTER] * 3, *[_COUNT] * 5]


def sweep_(
    F: Tensor,
    T: Tensor,
    V: Tensor,
    X: Tensor,
    l1: Tensor | None,
    ridge: Tensor | None,
    sweeps: int,
    zero: float,
) -> None:
    """Passes over X ≥ 0 that reduce ½ Σ V (T − FᵀX)² + l1 ΣX + ½ ridge ‖X‖², in place.

    Arguments:
        F: (B, k, p).
        T: (B, p, N), of any strides.
        V: (B, p, N) ≥ 0, likewise.
        X: (B, k, N), contiguous.
        l1: (B, 1, 1) or None.
        ridge: (B, 1, 1) or None.
        sweeps: ≥ 1.
        zero: entries up to this count as zero.
    """
    F, l1, ridge = F.contiguous(), *(None if x is None else x.contiguous() for x in (l1, ridge))
    k, p = F.shape[1:]
    count, columns = strips(X)
    cost = k * p * (2 * sweeps + 5) * columns / 8  # many at once
    numbers = (sweeps, zero, k, p, X.shape[2])
    name = f"diffnmf_weighted_sweep_{TYPES[X.dtype]}"
    call(name, _SWEEP, count, cost, F, T, *T.stride(), V, *V.stride(), X, l1, ridge, *numbers)


def gradient(F: Tensor, T: Tensor, V: Tensor, X: Tensor) -> Tensor:
    """F (V ∘ (FᵀX − T)), (B, k, N): of ½ Σ V (T − FᵀX)². Arguments as those of ``sweep_``, X of any strides."""
    out = torch.empty_like(X, memory_format=torch.contiguous_format)
    _residual(F, T, V, X, out, None)
    return out


def square(F: Tensor, T: Tensor, V: Tensor, X: Tensor) -> Tensor:
    """Σ V (T − FᵀX)² of each problem, (B,) float64. Arguments as those of ``gradient``."""
    _, columns = strips(X)
    squares = X.new_empty(len(X), -(-X.shape[2] // columns), dtype=torch.float64)
    _residual(F, T, V, X, None, squares)
    return squares.sum(1)


def _residual(F: Tensor, T: Tensor, V: Tensor, X: Tensor, gradient: Tensor | None, squares: Tensor | None) -> None:
    F, X = F.contiguous(), X.contiguous()
    k, p = F.shape[1:]
    count, columns = strips(X)
    cost = k * p * 3 * columns / 8  # many at once
    name = f"diffnmf_weighted_residual_{TYPES[X.dtype]}"
    call(name, _RESIDUAL, count, cost, F, T, *T.stride(), V, *V.stride(), X, gradient, squares, k, p, X.shape[2])


def gram(F: Tensor, V: Tensor) -> Tensor:
    """F diag(v) Fᵀ of every column v of V: F (B, k, p) and V (B, p, N), of any strides, to (B, N, k, k)."""
    F = F.contiguous()
    (batch, k, p), width = F.shape, V.shape[2]
    out = F.new_empty(batch, width, k, k)
    count, columns = strips(V)
    cost = k * p * k / 2 * columns / 8  # many at once
    call(f"diffnmf_weighted_gram_{TYPES[F.dtype]}", _GRAM, count, cost, F, V, *V.stride(), out, k, p, width)
    return out
