"""Calling the kernel of judgement.c. Tensors are on the CPU; what they mean is said beside the C."""

import ctypes
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from diffnmf.kernels.calling import call, side_by_side

_POINTER, _COUNT, _NUMBER = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
_MATRIX = [_POINTER] + [_COUNT] * 3
_JUDGE = [_COUNT, *_MATRIX, *_MATRIX, *_MATRIX[:3], *_MATRIX, _POINTER, _NUMBER, *[_POINTER] * 3] + [_COUNT] * 6


class Judged(NamedTuple):
    """What ``judge`` gives: the gradient (B, k, m); four times (B, m) float64; certain (B, m) bool."""

    gradient: Tensor
    residual: Tensor
    size: Tensor
    gain: Tensor
    squares: Tensor
    certain: Tensor


def judge(H: Tensor, Y: Tensor, ridge: Tensor, l1: Tensor, W: Tensor, excess: float) -> Judged:
    """How good W is.

    Arguments:
        H: (B, n, k), float32 or float64.
        Y: (B, n, m), likewise.
        ridge: (B, k, 1) float64, of any strides.
        l1: (B, k, m) float64, of any strides.
        W: (B, k, m) float64.
        excess: what ``certain`` allows.
    """
    H, Y, W = side_by_side(H), side_by_side(Y), W.mT.contiguous()
    (batch, n, k), m = H.shape, Y.shape[2]
    new = partial(torch.empty, device="cpu")  # whatever the default device is
    gradient, certain = torch.empty_like(W), new(batch, m, dtype=torch.bool)
    numbers = new(4, batch, m, dtype=torch.float64)
    call(
        "diffnmf_nnls_judge",
        _JUDGE,
        batch * m,
        n * k / 2,
        H.dtype == torch.float32,
        H,
        *H.stride(),
        Y,
        *Y.stride(),
        ridge,
        *ridge.stride()[:2],
        l1,
        *l1.stride(),
        W,
        excess,
        gradient,
        numbers,
        certain,
        batch,
        n,
        m,
        k,
    )
    residual, size, gain, squares = numbers.unbind()
    return Judged(gradient.mT, residual, size, gain, squares, certain)
