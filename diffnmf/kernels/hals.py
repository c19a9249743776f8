"""Calling the kernels of hals.c. Tensors are on the CPU, all float32 or all float64; the C says what they mean."""

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from diffnmf.kernels.calling import TYPES, call

_POINTER, _COUNT, _NUMBER = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
_HALF = [_POINTER] * 5 + [_COUNT, _NUMBER] + [_COUNT] * 4
_ITERATIONS = [_POINTER] + [_COUNT] * 3 + [_POINTER] * 10 + [_COUNT] * 3 + [_NUMBER] * 5 + [_COUNT] * 6
_STATIONARITY = [_POINTER] + [_COUNT] * 3 + [_POINTER] * 4 + [_NUMBER] + [_COUNT] * 5
TILE_BYTES = 256  # of a row: four vectors of 64 bytes


@dataclass(frozen=True)
class Momentum:
    """What extrapolation remembers of B problems; all but the factors are (B, 1, 1), and ``objective`` (B,) float64."""

    W: Tensor
    H: Tensor
    beta: Tensor
    cap: Tensor
    used: Tensor
    objective: Tensor


def half_(A: Tensor, C: Tensor, X: Tensor, sweeps: int, zero: float, past: Tensor | None, beta: Tensor | None) -> None:
    """Passes over X ≥ 0 that reduce ½⟨X, AX⟩ − ⟨C, X⟩; then X ← max(0, X + β(X − past)), past ← X; in place.

    Arguments:
        A: (B, k, k).
        C: (B, k, N).
        X: (B, k, N), contiguous.
        sweeps: ≥ 1.
        zero: entries up to this count as zero.
        past: (B, k, N), contiguous, where the last step ended, or None, with ``beta``: no extrapolation.
        beta: (B, 1, 1).
    """
    A, C = A.contiguous(), C.contiguous()
    batch, k, width = X.shape
    tiles = -(-width * X.element_size() // TILE_BYTES)
    name = f"diffnmf_hals_half_{TYPES[X.dtype]}"
    cost = sweeps * k * k * TILE_BYTES / X.element_size() / 16  # many at once
    call(name, _HALF, batch * tiles, cost, A, C, X, past, beta, sweeps, zero, k, width)


def iterations_(
    Y: Tensor,
    square: Tensor,
    W: Tensor,
    Ht: Tensor,
    momentum: Momentum | None,
    iterations: int,
    sweeps: tuple[int, int],
    rates: tuple[float, float, float],
    zero: float,
    trusted: float,
) -> Tensor:
    """Whole iterations of B small problems without penalties, W before H, in place.

    Arguments:
        Y: (B, n, m).
        square: (B,) float64, ‖Y‖².
        W: (B, k, m), contiguous.
        Ht: (B, k, n), contiguous.
        momentum: None for no extrapolation.
        iterations: how many.
        sweeps: of W and of H.
        rates: by which β and its cap grow, and β shrinks.
        zero: entries up to this count as zero.
        trusted: the squared relative error below which the residual itself is formed.

    Returns:
        (iterations, B) float64, relative errors: of the iterates before each iteration where n ≥ m, otherwise after it.
    """
    batch, n, m = Y.shape
    errors = torch.empty(iterations, batch, dtype=torch.float64, device="cpu")
    past: tuple[Tensor | None, ...] = (None,) * 6
    if momentum is not None:
        past = (momentum.W, momentum.H, momentum.beta, momentum.cap, momentum.used, momentum.objective)
    k = W.shape[1]
    name = f"diffnmf_hals_iterations_{TYPES[Y.dtype]}"
    counts = (iterations, *sweeps, *rates, zero, trusted, batch, n, m, k)
    call(name, _ITERATIONS, batch, iterations * n * m * k, Y, *Y.stride(), square, W, Ht, *past, errors, *counts)
    return errors


def stationarity(Y: Tensor, square: Tensor, W: Tensor, Ht: Tensor, trusted: float) -> Tensor:
    """(B, 3) float64: the relative error, ‖∇ᴾ‖² and ‖(HᵀY, YWᵀ)‖² of B small problems; arguments as ``iterations_``."""
    batch, n, m = Y.shape
    out = torch.empty(batch, 3, dtype=torch.float64, device="cpu")
    k = W.shape[1]
    name = f"diffnmf_nmf_stationarity_{TYPES[Y.dtype]}"
    call(name, _STATIONARITY, batch, 4 * n * m * k, Y, *Y.stride(), square, W, Ht, out, trusted, n, m, k)
    return out
