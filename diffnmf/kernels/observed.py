"""Calling the kernels of observed.c. Tensors are on the CPU; those of numbers all float32 or all float64."""

import ctypes

import torch
from torch import Tensor

from diffnmf.kernels.calling import TYPES, call

_POINTER, _COUNT, _NUMBER = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
_SWEEP = [_POINTER] * 7 + [_COUNT, _NUMBER] + [_COUNT] * 4
_RESIDUAL = [_POINTER] * 7 + [_COUNT] * 4


def sweep_(
    Ft: Tensor,
    T: Tensor,
    X: Tensor,
    l1: Tensor | None,
    ridge: Tensor | None,
    sweeps: int,
    zero: float,
) -> None:
    """Passes over X ≥ 0 that reduce ½ Σ (T − FᵀX)² over the entries that T stores + l1 ΣX + ½ ridge ‖X‖², in place.

    Arguments:
        Ft: (p, k).
        T: (N, p) in the CSR layout: Tᵀ.
        X: (k, N), contiguous.
        l1: one number, or None.
        ridge: one number, or None.
        sweeps: ≥ 1.
        zero: entries up to this count as zero.
    """
    name, numbers = f"diffnmf_observed_sweep_{TYPES[X.dtype]}", (sweeps, zero, len(X), len(T))
    call(name, _SWEEP, *_work(T, X, 2 + sweeps), *_arguments(Ft, T), X, l1, ridge, *numbers)


def gradient(Ft: Tensor, T: Tensor, X: Tensor) -> Tensor:
    """F (FᵀX − T) over the entries that T stores, (k, N). Arguments as those of ``sweep_``."""
    out = torch.empty_like(X)
    _residual(Ft, T, X, out, None)
    return out


def square(Ft: Tensor, T: Tensor, X: Tensor) -> Tensor:
    """Σ (T − FᵀX)² over the entries that T stores, float64. Arguments as those of ``sweep_``."""
    squares = X.new_empty(len(T), dtype=torch.float64)
    _residual(Ft, T, X, None, squares)
    return squares.sum()


def _residual(Ft: Tensor, T: Tensor, X: Tensor, gradient: Tensor | None, squares: Tensor | None) -> None:
    name = f"diffnmf_observed_residual_{TYPES[X.dtype]}"
    call(name, _RESIDUAL, *_work(T, X, 2), *_arguments(Ft, T), X, gradient, squares, len(X), len(T))


def _arguments(Ft: Tensor, T: Tensor) -> tuple[Tensor, ...]:
    whole = torch.nn.functional.pad(Ft, (0, -Ft.shape[1] % 4))
    return whole, *(x.long().contiguous() for x in (T.crow_indices(), T.col_indices())), T.values().contiguous()


def _work(T: Tensor, X: Tensor, passes: int) -> tuple[int, float]:
    """The columns, and what each of them costs."""
    return len(T), passes * len(X) * len(T.values()) / max(1, len(T))
