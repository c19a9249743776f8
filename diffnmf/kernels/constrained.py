"""Calling the kernels of constrained.c. Tensors are on the CPU; what they mean is said beside the C."""

import ctypes
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from diffnmf.kernels.calling import call

_POINTER, _COUNT = ctypes.c_void_p, ctypes.c_int64
_SEARCH = [_POINTER] * 14 + [_COUNT] * 4
_SOLVE = [_POINTER] * 8 + [_COUNT] * 4


class BoundedSearch(NamedTuple):
    """Of N columns: x (N, k), free (N, k) bool, binds and solved (N,) bool, pivot (N,), steps (N,) int64."""

    x: Tensor
    free: Tensor
    binds: Tensor
    pivot: Tensor
    solved: Tensor
    steps: Tensor


def search(
    A: Tensor,
    weight: Tensor,
    c: Tensor,
    lower: Tensor,
    upper: Tensor,
    a: Tensor | None,
    t: Tensor | None,
    start: tuple[Tensor, Tensor] | None,
) -> BoundedSearch:
    """Solve min ½ xᵀAx − cᵀx, lower ≤ x ≤ upper and, where a is given, aᵀx = t for N = P·m columns, in float64.

    Arguments:
        A: (P, k, k), its diagonal 1, or 0 for an entry that costs nothing.
        weight: (P, k), in (0, 1], what rounding of the gradient grows with.
        c, lower, upper: (N, k).
        a, t: (N, k) and (N,), or None.
        start: x (N, k), within the bounds, and free (N, k) bool, the entries in between; None: found from the data.
    """
    A, weight, c, lower, upper = (v.contiguous() for v in (A, weight, c, lower, upper))
    a, t = (None if v is None else v.contiguous() for v in (a, t))
    columns, k = c.shape
    x = torch.empty_like(c) if start is None else start[0].clone(memory_format=torch.contiguous_format)
    guess = None if start is None else start[1].contiguous()
    new = partial(torch.empty, device="cpu")  # whatever the default device is
    found = BoundedSearch(
        x,
        new(columns, k, dtype=torch.bool),
        new(columns, dtype=torch.bool),
        new(columns, dtype=torch.float64),
        new(columns, dtype=torch.bool),
        new(columns, dtype=torch.int64),
    )
    tensors = (A, weight, c, lower, upper, a, t, guess, *found)
    call("diffnmf_nnls_bounded", _SEARCH, columns, 2 * k * k, *tensors, columns // max(1, len(A)), k)
    return found


def solve(A: Tensor, a: Tensor | None, free: Tensor, binds: Tensor, b: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
    """v (N, k) and λ (N,) with A_FF v_F + λ a_F = b_F and a_Fᵀ v_F = e, v zero off F; λ only where it ``binds``.

    Zero where that is singular. Arguments as in ``search``; b (N, k), e (N,).
    """
    A, free, binds, b, e = (v.contiguous() for v in (A, free, binds, b, e))
    a = None if a is None else a.contiguous()
    columns, k = b.shape
    v, multiplier = torch.empty_like(b), torch.empty_like(e)
    tensors = (A, a, free, binds, b, e, v, multiplier)
    call("diffnmf_nnls_solve_bounded", _SOLVE, columns, k * k, *tensors, columns // max(1, len(A)), k)
    return v, multiplier
