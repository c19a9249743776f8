"""Calling the program for bounds and a sum in Triton."""

from typing import NamedTuple

import torch
from torch import Tensor

from diffnmf.kernels.cuda.calling import EPS, column_sizes, where_the_tensors_are


class Walked(NamedTuple):
    """Of N columns: x (N, k), free (N, k) and multiplies (N,) bool, ended and reached (N,) bool, steps (N,) int64."""

    x: Tensor
    free: Tensor
    multiplies: Tensor
    ended: Tensor
    reached: Tensor
    steps: Tensor


@where_the_tensors_are
def walk(
    A: Tensor, weight: Tensor, c: Tensor, lower: Tensor, upper: Tensor, a: Tensor | None, t: Tensor | None, most: int
) -> Walked:
    """Principal pivoting from the data, in one launch and without a wait; arguments as in ``kernels.constrained``.

    x is what the walk leaves: the last refinement, and whether it is good, are for who calls.
    """
    from diffnmf.kernels.cuda import bounded

    A, weight, c, lower, upper = (v.contiguous() for v in (A, weight, c, lower, upper))
    columns, k = c.shape
    x, free = torch.empty_like(c), c.new_empty(columns, k, dtype=torch.bool)
    multiplies = c.new_empty(columns, dtype=torch.bool)
    state, steps = c.new_empty(columns, dtype=torch.int32), c.new_empty(columns, dtype=torch.int32)
    share, total = (c, c) if a is None or t is None else (a.contiguous(), t.contiguous())
    if columns:
        bounded.walk[(columns,)](
            *(A, weight, c, lower, upper, share, total, x, free.view(torch.int8), multiplies.view(torch.int8)),
            *(state, steps, columns // len(A), most, 2 * k * EPS),
            **column_sizes(k),
            SUM=a is not None,
        )
    return Walked(x, free, multiplies, state == 0, state != 2, steps.long())
