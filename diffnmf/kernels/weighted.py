"""Calling the kernels of weighted.c. Tensors are on the CPU, all float32 or all float64."""

import ctypes

from torch import Tensor

from diffnmf.kernels.calling import TYPES, call
from diffnmf.kernels.tiles import strips

_POINTER, _COUNT, _NUMBER = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
_MATRIX = [_POINTER] + [_COUNT] * 3
_GRAM = [_POINTER, *_MATRIX, _POINTER, *[_COUNT] * 5]
_SWEEP = [_POINTER, *_MATRIX, *_MATRIX, *[_POINTER] * 3, _COUNT, _NUMBER, *[_COUNT] * 5]


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
    cost = k * p * (k / 2 + 2) * columns / 8  # many at once
    numbers = (sweeps, zero, k, p, X.shape[2])
    name = f"diffnmf_weighted_sweep_{TYPES[X.dtype]}"
    call(name, _SWEEP, count, cost, F, T, *T.stride(), V, *V.stride(), X, l1, ridge, *numbers)


def gram(F: Tensor, V: Tensor) -> Tensor:
    """F diag(v) Fᵀ of every column v of V: F (B, k, p) and V (B, p, N), of any strides, to (B, N, k, k)."""
    F = F.contiguous()
    (batch, k, p), width = F.shape, V.shape[2]
    out = F.new_empty(batch, width, k, k)
    count, columns = strips(V)
    cost = k * p * k / 2 * columns / 8  # many at once
    call(f"diffnmf_weighted_gram_{TYPES[F.dtype]}", _GRAM, count, cost, F, V, *V.stride(), out, k, p, width)
    return out
