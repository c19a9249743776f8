"""Calling the kernels of hals.c. Tensors are on the CPU, all float32 or all float64; the C says what they mean."""

import ctypes
from dataclasses import dataclass

from torch import Tensor

from diffnmf.kernels.calling import TYPES, call

_POINTER, _COUNT, _NUMBER = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
_HALF = [_POINTER] * 5 + [_COUNT, _NUMBER] + [_COUNT] * 4
_RUN = [_POINTER] + [_COUNT] * 3 + [_POINTER] * 14 + [_COUNT] * 8 + [_NUMBER] * 8 + [_COUNT] * 6
TILE_BYTES = 256  # of a row: four vectors of 64 bytes
GOING, DUE, DEAD, REVIVED, CONVERGED = range(5)  # states of a problem


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


@dataclass(frozen=True)
class Progress:
    """How far B problems are: tensors (B,), of which ``starts`` and ``latest`` are float64 and the others int64.

    Attributes:
        iterations: that have been made.
        states: GOING, DUE for a check, DEAD where it found a dead component, REVIVED, or CONVERGED.
        starts: what ``tol`` is relative to.
        latest: the last relative error that is known.
    """

    iterations: Tensor
    states: Tensor
    starts: Tensor
    latest: Tensor


@dataclass(frozen=True)
class Rules:
    """What is the same for all problems of a run.

    Attributes:
        tol: see ``Budget``.
        most: iterations at the most.
        every: iterations from one check to the next.
        revives: whether a check looks for dead components.
        sweeps: of W and of H.
        rates: by which β and its cap grow, and β shrinks.
        zero: entries up to this count as zero.
        trusted: the squared relative error below which the residual itself is formed.
        least: of the size of a gradient at zero, what a start counts as at least.
        rounding: of that size, what rounding may leave of a gradient.
    """

    tol: float
    most: int
    every: int
    revives: bool
    sweeps: tuple[int, int]
    rates: tuple[float, float, float]
    zero: float
    trusted: float
    least: float
    rounding: float


def run_(
    Y: Tensor,
    square: Tensor,
    W: Tensor,
    Ht: Tensor,
    momentum: Momentum | None,
    progress: Progress,
    errors: Tensor,
    until: int,
    rules: Rules,
    *,
    closing: bool,
) -> None:
    """B small problems without penalties up to iteration ``until``, W before H, with their checks, in place.

    Arguments:
        Y: (B, n, m).
        square: (B,) float64, ‖Y‖².
        W: (B, k, m), contiguous.
        Ht: (B, k, n), contiguous.
        momentum: None for no extrapolation.
        progress: of all of them; a problem that is DEAD waits for its caller.
        errors: (i, B) float64, relative errors of the iterates until − i + 1, ..., until; a problem that has not
            converged is at one of them. What is not known yet repeats the last; what was there before the iterate at
            hand stays.
        until: an iteration, at most ``rules.most``.
        rules: of the run.
        closing: whether a check that is due at ``until`` is made; otherwise it stays due.
    """
    batch, n, m = Y.shape
    start = until + 1 - len(errors)
    past: tuple[Tensor | None, ...] = (None,) * 6
    if momentum is not None:
        past = (momentum.W, momentum.H, momentum.beta, momentum.cap, momentum.used, momentum.objective)
    states = (progress.iterations, progress.states, progress.starts, progress.latest)
    k = W.shape[1]
    name = f"diffnmf_hals_run_{TYPES[Y.dtype]}"
    numbers = (*rules.rates, rules.zero, rules.trusted, rules.tol, rules.least, rules.rounding)
    cost = max(1, until - start) * k * (n * m + k * (n + m))
    counts = (start, until, closing, rules.most, rules.every, rules.revives, *rules.sweeps)
    tensors = (square, W, Ht, *past, *states, errors)
    call(name, _RUN, batch, cost, Y, *Y.stride(), *tensors, *counts, *numbers, batch, n, m, k)
