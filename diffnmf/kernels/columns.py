"""Calling the kernels of nnls.c and unsquared.c. Tensors are on the CPU; what they mean is said beside the C."""

import ctypes
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from diffnmf.kernels.calling import GOOD, OUT_OF_RANGE, call, function

_POINTER, _COUNT, _NUMBER = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
_MATRIX = [_POINTER] + [_COUNT] * 3
_SEARCH = [_POINTER] * 8 + [_COUNT] * 4
_PENALTIES = _MATRIX[:3] + _MATRIX
_SOLVE = [_POINTER] * 2 + _MATRIX + [_POINTER] + [_COUNT] * 4
_DIRECT = [_COUNT] + _MATRIX * 2 + _PENALTIES + [_POINTER, _NUMBER] + [_POINTER] * 7 + [_COUNT] * 5
_UNSQUARED = [_POINTER] * 9 + [_COUNT] * 3
_SOLVE_UNSQUARED = [_POINTER] * 5 + [_COUNT] * 3
SMALL = 4e5  # multiplications: for a single problem of no more, checks of arguments would cost more than solving it


class Search(NamedTuple):
    """What a search gives for N columns: x (N, k), free (N, k) bool, pivot (N,), solved (N,) bool, steps (N,) int64."""

    x: Tensor
    free: Tensor
    pivot: Tensor
    solved: Tensor
    steps: Tensor


class Direct(NamedTuple):
    """What ``direct`` gives: W and free (B, m, k); pivot, steps and solved (B, m); A (B, k, k); scale (B, k)."""

    W: Tensor
    free: Tensor
    pivot: Tensor
    steps: Tensor
    solved: Tensor
    A: Tensor
    scale: Tensor


def search(A: Tensor, C: Tensor, guess: Tensor | None) -> Search:
    """Solve min ½ xᵀAx − cᵀx, x ≥ 0 for N = B·m columns.

    Arguments:
        A: (B, k, k) float64, of unit diagonal.
        C: (N, k) float64.
        guess: (N, k) bool, the first free sets; None: found from the data.
    """
    A, C, guess = A.contiguous(), C.contiguous(), None if guess is None else guess.contiguous()
    columns, k = C.shape
    found = _empty_search(torch.empty_like(C))
    call("diffnmf_nnls_search", _SEARCH, columns, k * k, A, C, guess, *found, columns // max(1, len(A)), k)
    return found


def _empty_search(x: Tensor) -> Search:
    """Memory for the results beside x (N, k)."""
    columns, k = x.shape
    new = partial(torch.empty, device="cpu")  # whatever the default device is
    flags, pivot = new(columns, k, dtype=torch.bool), new(columns, dtype=torch.float64)
    return Search(x, flags, pivot, new(columns, dtype=torch.bool), new(columns, dtype=torch.int64))


def solve(A: Tensor, free: Tensor, b: Tensor) -> Tensor:
    """v (B, k, m) with A_FF v_F = b_F in every column and zero off F; zero where A_FF is singular.

    Arguments:
        A: (B, k, k) float64, of unit diagonal.
        free: (B·m, k) bool.
        b: (B, k, m) float64.
    """
    A, free = A.contiguous(), free.contiguous()
    batch, k, m = b.shape
    v = b.new_empty(batch, m, k)
    call("diffnmf_nnls_solve", _SOLVE, batch * m, k * k, A, free, b, *b.stride(), v, m, k)
    return v.mT


def unsquared(R: Tensor, owner: Tensor, y: Tensor, weight: Tensor, start: Tensor) -> Search:
    """Solve min ½‖Rx − y‖² + wᵀx, x ≥ 0 for N columns, without the loss of digits that a Gram matrix has.

    Arguments:
        R: (P, k, k) float64, of a QR of H.
        owner: (N,) int64, which R a column has.
        y: (N, k) float64.
        weight: (N, k) float64.
        start: (N, k) float64, ≥ 0.
    """
    R, owner, y, weight = (x.contiguous() for x in (R, owner, y, weight))
    columns, k = y.shape
    found = _empty_search(start.clone(memory_format=torch.contiguous_format))
    call("diffnmf_nnls_unsquared", _UNSQUARED, columns, 10 * k * k, R, owner, y, weight, *found, k)
    return found


def solve_unsquared(R: Tensor, owner: Tensor, free: Tensor, b: Tensor) -> Tensor:
    """v (N, k) with (RᵀR)_FF v_F = b_F and zero off F; zero where R_F is dependent. b (N, k); else as ``unsquared``."""
    R, owner, free, b = (x.contiguous() for x in (R, owner, free, b))
    v = torch.empty_like(b)
    k = b.shape[1]
    call("diffnmf_nnls_solve_unsquared", _SOLVE_UNSQUARED, len(b), 10 * k * k, R, owner, free, b, v, k)
    return v


def direct(
    H: Tensor,
    Y: Tensor,
    ridge: Tensor,
    l1: Tensor,
    guess: Tensor | None,
    least_pivot: float,
) -> Direct | None:
    """From H and Y to W in one pass, or None where a number is out of range or not finite.

    Columns that are not ``solved`` want more care. What the others get depends on nothing but the column and H.

    Arguments:
        H: (B, n, k), float32 or float64, rows or columns side by side in memory.
        Y: (B, n, m), likewise.
        ridge: (B, k, 1) float64, of any strides.
        l1: (B, k, m) float64, of any strides.
        guess: (B, m, k) bool, the first free sets, or None.
        least_pivot: a column whose free set is less independent than this wants more care.
    """
    guess = None if guess is None else guess.contiguous()
    (batch, n, k), m = H.shape, Y.shape[2]
    new = partial(torch.empty, dtype=torch.float64, device="cpu")  # whatever the default device is
    found = Direct(
        new(batch, m, k),
        new(batch, m, k, dtype=torch.bool),
        new(batch, m),
        new(batch, m, dtype=torch.int64),
        new(batch, m, dtype=torch.bool),
        new(batch, k, k),
        new(batch, k),
    )
    result = call(
        "diffnmf_nnls_direct",
        _DIRECT,
        batch * m,
        k * (k + n / 8),
        H.dtype == torch.float32,
        H,
        *H.stride(),
        Y,
        *Y.stride(),
        ridge,
        *ridge.stride()[:2],
        l1,
        *l1.stride(),
        guess,
        least_pivot,
        *found,
        n,
        m,
        k,
    )
    return found if result != OUT_OF_RANGE else None


def direct_small(
    H: Tensor, Y: Tensor, ridge: float, l1: float, least_pivot: float, steps: Tensor | None = None
) -> Tensor | None:
    """W (k, m) float64 of one small problem, H (n, k) and Y (n, m); None where it is not as simple as that.

    ``steps`` (m,) int64 receives what each column took.
    """
    (n, k), m = H.shape, Y.shape[1]
    W = torch.empty(m, k, dtype=torch.float64, device="cpu")
    result = function("diffnmf_nnls_direct", _DIRECT)(
        H.dtype == torch.float32,
        H.data_ptr(),
        0,
        *H.stride(),
        Y.data_ptr(),
        0,
        *Y.stride(),
        ctypes.byref(_NUMBER(ridge)),
        0,
        0,
        ctypes.byref(_NUMBER(l1)),
        0,
        0,
        0,
        None,
        least_pivot,
        W.data_ptr(),
        None,
        None,
        None if steps is None else steps.data_ptr(),
        *[None] * 3,
        n,
        m,
        k,
        0,
        m,
    )
    return W.mT if result == GOOD else None
